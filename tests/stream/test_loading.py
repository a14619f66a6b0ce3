"""A scan taken into memory."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from py4DSTEM import read
from py4DSTEM.errors import Cancelled
from py4DSTEM.stream.loading import loaded
from py4DSTEM.stream.options import RunOptions


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4"])
def test_all_patterns_in_their_places(tmp_path: Path, dtype: str) -> None:
    path, data = tmp_path / "scan.npy", np.arange(3 * 5 * 4 * 6).reshape(3, 5, 4, 6).astype(dtype)
    np.save(path, data)
    cube = loaded(read(path))
    assert isinstance(cube.data, np.ndarray)
    np.testing.assert_array_equal(cube.data, data)
    assert cube.dtype == np.dtype(dtype).newbyteorder("=")


def test_it_can_be_cancelled(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", np.ones((3, 5, 4, 6), np.uint16))
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        loaded(read(tmp_path / "scan.npy"), RunOptions(cancel=stop))
