"""Detectors that follow the pattern: another shift for every scan position."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ShapeError
from ._arrays import fit_frames
from ._jit import njit
from .api import Float


def shifted_sums(
    frames: ArrayLike, weights: ArrayLike, shifts: ArrayLike, margin: tuple[int, int] = (0, 0)
) -> Float:
    """Sum each pattern over detectors that are moved by its own shift.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype.
    weights : (K, Qx + 2·margin, Qy + 2·margin) float64
        Detectors at shift zero; zero outside.
    shifts : (n, 2) float64
        Pixels, array order: how far the detectors move for each pattern.
    margin : (int, int)
        Rows above and below, and columns left and right of the frame for which there are weights:
        what lies there at shift zero may move into the frame.

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
    wide = tuple(n + 2 * m for n, m in zip(fit.shape[1:], margin, strict=True))
    if w.ndim != 3 or w.shape[1:] != wide:
        raise ShapeError(f"weights {w.shape} do not fit patterns of {fit.shape[1:]}")
    if moves.shape != (len(fit), 2):
        raise ShapeError(f"shifts need the shape {(len(fit), 2)}, these have {moves.shape}")
    out = np.zeros((len(fit), len(w)))
    if out.size and fit.size:
        boxes = np.array([_box(d) for d in w])
        _shifted_sums(fit, np.pad(w, ((0, 0), (1, 1), (1, 1))), boxes, moves - margin, out)
    return out


def _box(weights: Float) -> tuple[int, int, int, int]:
    """First and last row and column with a weight; an empty box if there is none."""
    rows, columns = (np.flatnonzero(weights.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return 0, -1, 0, -1
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


@njit(nogil=True, cache=True)
def _shifted_sums(frames, padded, boxes, shifts, out):
    height, width = padded.shape[1], padded.shape[2]
    for p in range(out.shape[0]):
        sx, sy = shifts[p]
        for k in range(out.shape[1]):
            if not (np.isfinite(sx) and np.isfinite(sy)):
                out[p, k] = np.nan
            elif boxes[k, 1] >= 0 and abs(sx) < height and abs(sy) < width:
                total = _moved_sum(frames[p], padded[k], boxes[k], sx, sy)
                if not np.isfinite(total):
                    total = _careful_sum(frames[p], padded[k], boxes[k], sx, sy)
                out[p, k] = total


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _moved_sum(frame, padded, box, sx, sy):
    """Σ v·w of one pattern and detector, in any order, as if all pixels were finite.

    ``padded`` has a row and a column of zeros all around, so w[u, c] is ``padded[u + 1, c + 1]``.
    """
    a, b = int(np.floor(sx)), int(np.floor(sy))
    fx, fy = sx - a, sy - b
    top, bottom = max(0, box[0] + a), min(frame.shape[0] - 1, box[1] + a + 1)
    left, right = max(0, box[2] + b), min(frame.shape[1] - 1, box[3] + b + 1)
    if bottom < top or right < left:  # it has left the frame
        return 0.0
    here, up = (1.0 - fx) * (1.0 - fy), fx * (1.0 - fy)
    back, both = (1.0 - fx) * fy, fx * fy
    start, stop = left - b, right - b + 1
    total = 0.0
    for i in range(top, bottom + 1):
        u = i - a
        v = frame[i, left : right + 1]
        w00, w01 = padded[u + 1, start + 1 : stop + 1], padded[u + 1, start:stop]
        w10, w11 = padded[u, start + 1 : stop + 1], padded[u, start:stop]
        for k in range(v.size):
            w = here * w00[k] + back * w01[k] + up * w10[k] + both * w11[k]
            total += w * np.float64(v[k])
    return total


@njit(nogil=True, cache=True)
def _careful_sum(frame, padded, box, sx, sy):
    """`_moved_sum` of the finite pixels; NaN if there are none where the detector lies."""
    a, b = int(np.floor(sx)), int(np.floor(sy))
    fx, fy = sx - a, sy - b
    total, covered, seen = 0.0, False, False
    for i in range(max(0, box[0] + a), min(frame.shape[0] - 1, box[1] + a + 1) + 1):
        for j in range(max(0, box[2] + b), min(frame.shape[1] - 1, box[3] + b + 1) + 1):
            u, c = i - a + 1, j - b + 1
            w = (1.0 - fx) * ((1.0 - fy) * padded[u, c] + fy * padded[u, c - 1])
            w += fx * ((1.0 - fy) * padded[u - 1, c] + fy * padded[u - 1, c - 1])
            covered |= w != 0.0
            if w != 0.0 and np.isfinite(frame[i, j]):
                total += w * np.float64(frame[i, j])
                seen = True
    return np.nan if covered and not seen else total
