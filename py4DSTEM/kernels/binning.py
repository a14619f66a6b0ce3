"""Patterns with fewer, larger pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ParameterError
from ._arrays import fit_frames
from ._jit import njit
from .api import bin_dtype


def bin_frames(frames: ArrayLike, bx: int, by: int) -> np.ndarray:
    """Sum blocks of ``bx × by`` pixels into one.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype. Rows and columns that do not fill a block are cropped.
    bx, by : int
        Rows and columns of a block.

    Returns
    -------
    (n, Qx // bx, Qy // by)
        Of `bin_dtype` ``(frames.dtype, bx*by)``. Integers are exact, floats are added in float64; a
        block with a pixel that is not finite gives a value that is not finite.

    Raises
    ------
    ParameterError
        If a factor is not positive.
    """
    if bx < 1 or by < 1:
        raise ParameterError(f"bin factors have to be positive, not {bx} and {by}")
    kind = np.asarray(frames).dtype
    fit = fit_frames(frames)
    n, height, width = fit.shape
    out = np.empty((n, height // bx, width // by), dtype=bin_dtype(kind, bx * by))
    if out.size:
        # Sums of rows are no larger than those of blocks: narrow ones are added many at a time.
        narrow = fit.dtype.kind != "f" and out.dtype.itemsize <= 4
        wide = {"u": np.uint64, "i": np.int64, "f": np.float64}[fit.dtype.kind]
        row = np.dtype(f"{fit.dtype.kind}4") if narrow else np.dtype(wide)
        _bin_frames(fit, bx, by, np.empty(out.shape[2] * by, dtype=row), out)
    return out


@njit(nogil=True, cache=True)
def _bin_frames(frames, bx, by, row, out):
    """Add rows first, which runs along memory, then the columns of the one row that is left."""
    n, height, width = out.shape
    used = row.size
    for p in range(n):
        for i in range(height):
            for j in range(used):
                row[j] = frames[p, i * bx, j]
            for d in range(1, bx):
                for j in range(used):
                    row[j] += frames[p, i * bx + d, j]
            for j in range(width):
                total = row[j * by]
                for d in range(1, by):
                    total += row[j * by + d]
                out[p, i, j] = total
