"""Detector-major tables in plain numpy: the definition of `py4DSTEM.kernels.live`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .api import Float

STEP = 8


def turn_frames(frames: NDArray[Any], out: NDArray[Any], start: int) -> bool:
    """Twin of `py4DSTEM.kernels.live.turn_frames`."""
    good = np.isfinite(frames)
    out[:, start : start + len(frames)] = np.where(good, frames, 0).T
    return bool(good.all())


def add_weighted(
    table: NDArray[Any],
    rows: NDArray[np.intp],
    weights: Float,
    out: Float,
    part: slice | None = None,
) -> None:
    """Twin of `py4DSTEM.kernels.live.add_weighted`."""
    part = slice(0, table.shape[1]) if part is None else part
    out[:, part] += weights @ table[rows, part].astype(np.float64)


def row_prefix(data: NDArray[Any], prefix: NDArray[Any], part: slice | None = None) -> None:
    """Twin of `py4DSTEM.kernels.live.row_prefix`."""
    part = slice(0, data.shape[2]) if part is None else part
    for b in range(prefix.shape[1]):
        prefix[:, b, part] = data[:, : (b + 1) * STEP, part].sum(axis=1, dtype=prefix.dtype)
