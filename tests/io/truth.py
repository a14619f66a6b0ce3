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

from py4DSTEM.core.lazy import read_block
from py4DSTEM.units import canonical_unit, unit_factor


@cache
def _manifest(root: Path) -> Mapping[str, Any]:
    return {entry["file"]: entry for entry in json.loads((root / "manifest.json").read_text())}


def readings(root: Path, file: str) -> Mapping[str, Any]:
    """Readings of `file` (path below ``real``) by the reference readers."""
    found: Mapping[str, Any] = _manifest(root / "real")[file]["readings"]
    return found


# ---- numbers -------------------------------------------------------------------------------------
def values(value: Any) -> np.ndarray:
    """The numbers of whatever was read, loaded."""
    data = value.data
    if hasattr(data, "read_block") and len(data.shape) == 4:
        rows, columns = data.shape[:2]
        whole = read_block(data, slice(0, rows), slice(0, columns))
        return whole.reshape(data.shape)
    if hasattr(data, "read_frames") and len(data.shape) == 3:
        return data.read_frames(0, data.shape[0])
    if hasattr(data, "compute"):
        return data.compute(scheduler="synchronous")
    return np.asarray(data[...])


def moments(data: np.ndarray, *, rows_reversed: bool = False) -> tuple[np.ndarray, float, float]:
    """Sum of all patterns, and its first moments along rows and columns."""
    pattern = data.astype(np.complex128 if data.dtype.kind == "c" else np.float64)
    pattern = pattern.sum(axis=tuple(range(max(0, data.ndim - 2))))
    pattern = pattern[::-1] if rows_reversed else pattern
    size = np.abs(pattern) if pattern.dtype.kind == "c" else pattern
    size = size[None] if size.ndim == 1 else size
    rows, columns = np.indices(size.shape)
    return pattern, float((size * rows).sum()), float((size * columns).sum())


def matches(data: np.ndarray, reading: Mapping[str, Any], *, rows_reversed: bool = False) -> bool:
    """Same shape (a stack of frames may be arranged as a scan), kind, sum and moments."""
    shape = tuple(reading["shape"])
    if data.shape != shape and not (data.size == np.prod(shape) and data.shape[-2:] == shape[-2:]):
        return False
    if np.dtype(reading["dtype"]).kind in "iu" and data.dtype.kind not in "iu":
        return False
    pattern, row, column = moments(data.reshape(shape), rows_reversed=rows_reversed)
    if "sum_total_real_imag" in reading:
        total = [pattern.sum().real, pattern.sum().imag]
        if not np.allclose(total, reading["sum_total_real_imag"], rtol=1e-6, atol=1e-3):
            return False
    elif data.dtype.kind in "biu":
        return _same_integers(pattern, reading)
    elif not np.isclose(pattern.sum(), reading["sum_total"], rtol=1e-6, equal_nan=True):
        return False
    wanted = [reading.get("sum_pattern_row_moment"), reading.get("sum_pattern_col_moment")]
    if data.ndim < 2 or None in wanted:
        return True
    return bool(np.allclose([row, column], wanted, rtol=1e-6, atol=1e-6, equal_nan=True))


def _same_integers(pattern: np.ndarray, reading: Mapping[str, Any]) -> bool:
    """Exactly: every pixel of the sum where the reading has its digest."""
    if pattern.sum() != reading["sum_total"]:
        return False
    raw = np.ascontiguousarray(pattern, "<f8").tobytes()
    digest = reading.get("sum_pattern_sha256_float64_le")
    return digest is None or hashlib.sha256(raw).hexdigest() == digest


def assert_same_sums(
    frames: Any, reading: Mapping[str, Any], *, rows_reversed: bool = False
) -> None:
    """Compare sums and moments with a reading; integers exactly, floats to 1e-6."""
    array = np.asarray(frames)
    pattern, row, column = moments(array, rows_reversed=rows_reversed)
    exact = array.dtype.kind in "bui"
    for name, value in (
        ("sum_total", pattern.sum()),
        ("sum_pattern_row_moment", row),
        ("sum_pattern_col_moment", column),
    ):
        if name in reading:
            assert value == pytest.approx(reading[name], rel=0 if exact else 1e-6, abs=0), name
    if exact:
        assert _same_integers(pattern, reading)


# ---- axes ----------------------------------------------------------------------------------------
def axes_match(value: Any, reading: Mapping[str, Any]) -> bool:
    """Whether steps and units are those of the reading."""
    if not reading.get("axes"):
        return True
    calibration = value.calibration if hasattr(value, "calibration") else None
    ours = tuple(getattr(value, "axes", ()) or ())
    if not ours and calibration is not None:
        ours = (*calibration.R, *calibration.Q)
    if len(ours) != len(reading["axes"]):
        return len(ours) != len(reading["shape"])
    return all(map(_same_axis, ours, reading["axes"]))


def _same_axis(mine: Any, theirs: Mapping[str, Any]) -> bool:
    scale, unit = theirs.get("scale"), canonical_unit(theirs.get("units"))
    if scale is None or not np.isfinite(scale) or scale <= 0:
        return bool((mine.step, mine.unit) == (1.0, "px"))
    factor = 1.0 if unit in ("px", mine.unit) else unit_factor(unit, mine.unit)
    return bool(np.isclose(mine.step, scale * factor, rtol=1e-5))
