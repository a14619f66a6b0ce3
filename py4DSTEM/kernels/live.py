"""Detector-major tables: patterns turned, and sums of their rows in blocks of positions.

A table ``(P, n)`` holds n scan positions for each of P pixels (or of sums of pixels).  A virtual
image is a weighted sum of rows; so is the difference of two of them, which is why this is enough
to follow a detector that is dragged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._jit import njit
from .api import Float

TILE_PIXELS = 64
TILE_POSITIONS = 128
"""Values turned at a time: whole cache lines are read and written, and the first cache keeps it."""

POSITIONS = 2048
"""Positions worked on at a time: their sums stay in the cache while the rows go by."""

STEP = 8
"""Columns from one sampled sum of a row to the next."""


@njit(nogil=True, cache=True, inline="always")
def _collect(frames, first, count, low, width, buffer):
    """``buffer[p, i] = frames[first + i, low + p]``, eight patterns at a time."""
    eights = count // 8 * 8
    for i in range(0, eights, 8):
        at = first + i
        a, b, c, d = frames[at], frames[at + 1], frames[at + 2], frames[at + 3]
        e, f, g, h = frames[at + 4], frames[at + 5], frames[at + 6], frames[at + 7]
        for p in range(width):
            q = low + p
            buffer[p, i] = a[q]
            buffer[p, i + 1] = b[q]
            buffer[p, i + 2] = c[q]
            buffer[p, i + 3] = d[q]
            buffer[p, i + 4] = e[q]
            buffer[p, i + 5] = f[q]
            buffer[p, i + 6] = g[q]
            buffer[p, i + 7] = h[q]
    for i in range(eights, count):
        for p in range(width):
            buffer[p, i] = frames[first + i, low + p]


@njit(nogil=True, cache=True, inline="always")
def _copied(values, out):
    """Copy finite values and 0 for others; whether all were."""
    finite = True
    for i in range(len(values)):
        good = np.isfinite(values[i])
        finite &= good
        out[i] = values[i] if good else 0.0
    return finite


@njit(nogil=True, cache=True)
def _turn(frames, out, start, floats):
    n, pixels = frames.shape
    buffer = np.empty((TILE_PIXELS, TILE_POSITIONS), frames.dtype)
    finite = True
    for first in range(0, n, TILE_POSITIONS):
        count = min(TILE_POSITIONS, n - first)
        at = start + first
        for low in range(0, pixels, TILE_PIXELS):
            width = min(TILE_PIXELS, pixels - low)
            _collect(frames, first, count, low, width, buffer)
            for p in range(width):
                if floats:
                    finite &= _copied(buffer[p, :count], out[low + p, at : at + count])
                else:
                    out[low + p, at : at + count] = buffer[p, :count]
    return finite


def turn_frames(frames: NDArray[Any], out: NDArray[Any], start: int) -> bool:
    """Put patterns into a detector-major table: ``out[:, start : start + n] = frames.T``.

    Parameters
    ----------
    frames : (n, P) real
        Flattened patterns, of a dtype that `fit_frames` gives; contiguous.
    out : (P, N), same dtype
        Positions ``start … start + n - 1`` are written; NaN and infinite values as 0.
    start : int

    Returns
    -------
    bool
        Whether all values were finite.
    """
    return bool(_turn(frames, out, start, frames.dtype.kind == "f"))


@njit(nogil=True, cache=True)
def _add(table, rows, weights, out, low, high):
    sums, count = weights.shape
    fours = count // 4 * 4
    for first in range(low, high, POSITIONS):
        last = min(first + POSITIONS, high)
        for m in range(0, fours, 4):
            a = table[rows[m], first:last]
            b = table[rows[m + 1], first:last]
            c = table[rows[m + 2], first:last]
            d = table[rows[m + 3], first:last]
            for k in range(sums):
                t, u, v, w = weights[k, m : m + 4]
                if t != 0.0 or u != 0.0 or v != 0.0 or w != 0.0:
                    o = out[k, first:last]
                    for j in range(last - first):
                        o[j] += (t * a[j] + u * b[j]) + (v * c[j] + w * d[j])
        for m in range(fours, count):
            a = table[rows[m], first:last]
            for k in range(sums):
                t = weights[k, m]
                if t != 0.0:
                    o = out[k, first:last]
                    for j in range(last - first):
                        o[j] += t * a[j]


def add_weighted(
    table: NDArray[Any],
    rows: NDArray[np.intp],
    weights: Float,
    out: Float,
    part: slice | None = None,
) -> None:
    """Add a weighted sum of rows of a table: ``out[k, j] += Σ_m weights[k, m]·table[rows[m], j]``.

    Parameters
    ----------
    table : (P, n) real
        Finite values of a dtype that `fit_frames` gives; contiguous.
    rows : (m,) intp
        Sorted rows are read fastest.
    weights : (K, m) float64
    out : (K, n) float64
        Changed in place.  Sums of integers with whole weights are exact below 2**53.
    part : slice, optional
        Positions to work on, so that several threads may share the work; None: all.
    """
    low, high = (0, table.shape[1]) if part is None else (part.start, part.stop)
    _add(table, rows, weights, out, low, high)


@njit(nogil=True, cache=True)
def _prefix(data, prefix, low, high):
    height, width, _ = data.shape
    steps = prefix.shape[1]
    for first in range(low, high, POSITIONS):
        last = min(first + POSITIONS, high)
        sums = np.empty(last - first, prefix.dtype)
        for x in range(height):
            sums[:] = 0
            for b in range(steps):
                for y in range(b * STEP, min((b + 1) * STEP, width)):
                    row = data[x, y, first:last]
                    for j in range(last - first):
                        sums[j] += row[j]
                prefix[x, b, first:last] = sums


def row_prefix(data: NDArray[Any], prefix: NDArray[Any], part: slice | None = None) -> None:
    """Running sums along the rows of a detector, sampled every 8 columns.

    Parameters
    ----------
    data : (Qx, Qy, n) real
    prefix : (Qx, ceil(Qy / 8), n), of `prefix_dtype`
        Filled with ``prefix[x, b] = Σ data[x, : 8 (b + 1)]``.
    part : slice, optional
        Positions to work on; None: all.
    """
    low, high = (0, data.shape[2]) if part is None else (part.start, part.stop)
    _prefix(data, prefix, low, high)


def prefix_dtype(dtype: np.dtype[Any], width: int) -> np.dtype[Any]:
    """What holds the sum of a row of `width` values exactly where that is possible.

    Examples
    --------
    >>> prefix_dtype(np.dtype(np.uint16), 256), prefix_dtype(np.dtype(np.float32), 256)
    (dtype('uint32'), dtype('float64'))
    """
    if dtype.kind in "ui" and dtype.itemsize <= 2 and width <= 32768:
        return np.dtype(np.uint32 if dtype.kind == "u" else np.int32)
    return np.dtype(np.float64)
