"""Frames inside files: mapped, and what happens when the file changes under the map."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from py4DSTEM.errors import CorruptFile
from py4DSTEM.io import frames as frames_module
from py4DSTEM.io.frames import FileFrames


def test_a_file_that_shrinks_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    """Touching a page that is no longer there would end the process."""
    path = tmp_path / "scan.npy"
    np.save(path, np.ones((64, 64, 64), np.uint16))
    frames = FileFrames(path, (64, 64, 64), np.uint16, offset=128)
    assert frames.read_frames(0, 64).sum() == 64**3
    if not frames_module._mapped_in(frames._mapped()):
        pytest.skip("this system cannot map pages ahead")
    os.truncate(path, 4096)
    if frames_module._madvise is None or frames_module._mapped_in(frames._mapped()):
        pytest.skip("this system cannot map pages ahead")
    with pytest.raises(CorruptFile, match="ended while it was read"):
        frames.read_frames(0, 64)
