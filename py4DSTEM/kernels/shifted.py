"""Detectors that follow the pattern: another shift for every scan position."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from ..errors import ShapeError
from ._arrays import fit_frames
from .api import Float


def shifted_sums(frames: ArrayLike, weights: ArrayLike, shifts: ArrayLike) -> Float:
    """Sum each pattern over detectors that are moved by its own shift.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype.
    weights : (K, Qx, Qy) float64
        Detectors at shift zero; zero outside.
    shifts : (n, 2) float64
        Pixels, array order: how far the detectors move for each pattern.

    Returns
    -------
    (n, K) float64
        NaN where a shift is not finite, and where the moved detector covers pixels but none that is
        finite; 0 where it has left the frame.

    Raises
    ------
    ShapeError
        If the shapes do not fit together.

    Notes
    -----
    ``Σ v[i, j]·w(i − sx, j − sy)``, w bilinear between its pixels. A whole shift moves the weights
    exactly. Pixels of v that are not finite add nothing.
    """
    fit = fit_frames(frames)
    w = np.ascontiguousarray(weights, dtype=np.float64)
    moves = np.ascontiguousarray(shifts, dtype=np.float64)
    if w.ndim != 3 or w.shape[1:] != fit.shape[1:]:
        raise ShapeError(f"weights {w.shape} do not fit patterns of {fit.shape[1:]}")
    if moves.shape != (len(fit), 2):
        raise ShapeError(f"shifts need the shape {(len(fit), 2)}, these have {moves.shape}")
    out = np.zeros((len(fit), len(w)))
    if out.size and fit.size:
        _shifted_sums(fit, w, np.array([_box(d) for d in w]), moves, np.zeros(w.shape[2] + 1), out)
    return out


def _box(weights: Float) -> tuple[int, int, int, int]:
    """First and last row and column with a weight; an empty box if there is none."""
    rows, columns = (np.flatnonzero(weights.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return 0, -1, 0, -1
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


@njit(nogil=True, cache=True)
def _shifted_sums(frames, weights, boxes, shifts, row, out):
    for p in range(out.shape[0]):
        sx, sy = shifts[p]
        for k in range(out.shape[1]):
            if not (np.isfinite(sx) and np.isfinite(sy)):
                out[p, k] = np.nan
            elif boxes[k, 1] >= 0 and abs(sx) < weights.shape[1] and abs(sy) < weights.shape[2]:
                out[p, k] = _moved_sum(frames[p], weights[k], boxes[k], sx, sy, row)


@njit(nogil=True, cache=True, inline="always")
def _moved_sum(frame, weights, box, sx, sy, row):
    """One pattern, one detector: mix two weight rows, then add up along the pattern row."""
    height, width = frame.shape
    a, b = int(np.floor(sx)), int(np.floor(sy))
    fx, fy = sx - a, sy - b
    left, right = max(0, box[2] + b), min(width - 1, box[3] + b + 1)
    total, covered, seen = 0.0, False, False
    for i in range(max(0, box[0] + a), min(height - 1, box[1] + a + 1) + 1):
        _mixed_row(weights, i - a, fx, box, row)
        s, c, g = _row_sum(frame, i, left, right, row, b, fy, box)
        total += s
        covered |= c
        seen |= g
    return np.nan if covered and not seen else total


@njit(nogil=True, cache=True, inline="always")
def _mixed_row(weights, u, fx, box, row):
    """``row[j] = (1 - fx)·w[u, j] + fx·w[u - 1, j]`` in the box, zero at one column either side."""
    here = 1.0 - fx if box[0] <= u <= box[1] else 0.0
    above = fx if box[0] <= u - 1 <= box[1] else 0.0
    u0, u1 = max(box[0], min(u, box[1])), max(box[0], min(u - 1, box[1]))
    for j in range(box[2], box[3] + 1):
        row[j] = here * weights[u0, j] + above * weights[u1, j]


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _row_sum(frame, i, left, right, row, b, fy, box):
    """One row of the pattern under the mixed weights, these moved by ``b + fy`` columns."""
    total, covered, seen = 0.0, 0, 0
    for j in range(left, right + 1):
        c = j - b
        w = 0.0
        if c <= box[3]:
            w += (1.0 - fy) * row[c]
        if c > box[2]:
            w += fy * row[c - 1]
        v = frame[i, j]
        good = np.isfinite(v)
        used = w != 0.0
        covered |= used
        seen |= used and good
        total += w * np.float64(v) if good else 0.0
    return total, covered != 0, seen != 0
