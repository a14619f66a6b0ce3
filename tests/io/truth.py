"""What the manifest of the reference data says of a file, compared with what was read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@cache
def _manifest(root: Path) -> Mapping[str, Any]:
    return {entry["file"]: entry for entry in json.loads((root / "manifest.json").read_text())}


def readings(root: Path, file: str) -> Mapping[str, Any]:
    """Readings of `file` (path below ``real``) by the reference readers."""
    found: Mapping[str, Any] = _manifest(root / "real")[file]["readings"]
    return found


def assert_same_sums(
    frames: Any, reading: Mapping[str, Any], *, rows_reversed: bool = False
) -> None:
    """Compare sums and moments with a reading; integers exactly, floats to 1e-6."""
    array = np.asarray(frames)
    pattern = array.astype(np.float64).sum(axis=tuple(range(array.ndim - 2)))
    if rows_reversed:
        pattern = pattern[::-1]
    rows, columns = np.indices(pattern.shape)
    exact = array.dtype.kind in "bui"
    for name, value in (
        ("sum_total", pattern.sum()),
        ("sum_pattern_row_moment", (pattern * rows).sum()),
        ("sum_pattern_col_moment", (pattern * columns).sum()),
    ):
        if name in reading:
            assert value == pytest.approx(reading[name], rel=0 if exact else 1e-6, abs=0), name
    digest = reading.get("sum_pattern_sha256_float64_le")
    if exact and digest:
        assert hashlib.sha256(pattern.astype("<f8").tobytes()).hexdigest() == digest
