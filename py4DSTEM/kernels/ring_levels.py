"""Background of rings about an origin: the level of the pixels without Bragg spots."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ParameterError, ShapeError
from ._arrays import fit_frames
from ._jit import njit
from .api import Float

__all__ = ["ROUNDS", "RingLevels", "ring_levels"]

ROUNDS = 12
"""Of clipping, at most."""


class RingLevels(NamedTuple):
    """Rings of n patterns, all (n, n_bins) float64.

    Attributes
    ----------
    level : mean of the pixels that are not clipped; NaN without pixels
    used : how many those are
    valid : all pixels that are numbers and not masked
    total : their sum
    """

    level: Float
    used: Float
    valid: Float
    total: Float


def ring_levels(
    frames: ArrayLike,
    origins: ArrayLike,
    n_bins: int,
    *,
    clip: float = 3.0,
    gain: float = 1.0,
    metric: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> RingLevels:
    """Level of every ring without the pixels that stand out of it.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype.
    origins : (n, 2) float64
        Pixels, array order; a pattern whose origin is NaN has empty rings.
    n_bins : int
        Ring k holds the pixels with ``k − 1/2 <= |metric (p − origin)| < k + 1/2``.
    clip : float
        Standard deviations from the level beyond which a pixel does not count.
    gain : float
        Counts per electron: variance over mean.
    metric : (2, 2) float64, optional
        From offsets to rings; None: one pixel each.
    mask : (Qx, Qy) bool, optional
        Pixels that count.

    Returns
    -------
    RingLevels

    Notes
    -----
    From the median, ``level = mean of v with |v − level| <= clip s + gain``, again and again, s the
    larger of ``√(gain level)`` and 1.4826 median |v − median|.
    """
    fit = fit_frames(frames)
    centers = np.ascontiguousarray(origins, dtype=np.float64)
    keep = np.ones(fit.shape[1:], bool) if mask is None else np.ascontiguousarray(mask, dtype=bool)
    matrix = np.ascontiguousarray(np.eye(2) if metric is None else metric, dtype=np.float64)
    if n_bins < 1 or not clip > 0 or not gain > 0:
        raise ParameterError(
            f"rings need n_bins >= 1, clip > 0, gain > 0, not {n_bins}, {clip}, {gain}"
        )
    if centers.shape != (len(fit), 2) or keep.shape != fit.shape[1:] or matrix.shape != (2, 2):
        raise ShapeError(
            f"patterns {fit.shape} need origins (n, 2), a mask (Qx, Qy) and a metric (2, 2), not "
            f"{centers.shape}, {keep.shape} and {matrix.shape}"
        )
    out = np.zeros((4, len(fit), n_bins))
    out[0] = np.nan
    if fit.size:
        _levels(fit, centers, matrix, keep, float(clip), float(gain), out)
    return RingLevels(*out)


@njit(nogil=True, cache=True)
def _levels(frames, origins, metric, keep, clip, gain, out):
    n, height, width = frames.shape
    bins = out.shape[2]
    ring = np.empty(height * width, np.int64)
    ends = np.empty(bins + 1, np.int64)
    values = np.empty(height * width)
    for p in range(n):
        if not (np.isfinite(origins[p, 0]) and np.isfinite(origins[p, 1])):
            continue
        _sort_into_rings(frames[p], origins[p], metric, keep, ring, ends, values)
        for k in range(bins):
            inside = values[ends[k] : ends[k + 1]]
            if inside.size:
                level, used = _level(inside, clip, gain)
                out[0, p, k], out[1, p, k] = level, used
                out[2, p, k], out[3, p, k] = inside.size, inside.sum()


@njit(nogil=True, cache=True)
def _sort_into_rings(frame, origin, metric, keep, ring, ends, values):
    """Values ring after ring; ring k ends up in ``values[ends[k] : ends[k + 1]]``."""
    height, width = frame.shape
    bins = ends.size - 1
    ends[:] = 0
    for i in range(height):
        x = i - origin[0]
        for j in range(width):
            y = j - origin[1]
            u, w = metric[0, 0] * x + metric[0, 1] * y, metric[1, 0] * x + metric[1, 1] * y
            r = np.sqrt(u * u + w * w) + 0.5
            k = int(r) if r < bins else bins
            if not (keep[i, j] and np.isfinite(frame[i, j])):
                k = bins
            ring[i * width + j] = k
            if k + 1 < bins:
                ends[k + 2] += 1
    for k in range(2, bins + 1):
        ends[k] += ends[k - 1]
    # ends[k + 1] is the start of ring k, and moves to its end as the ring is filled.
    for i in range(height):
        for j in range(width):
            k = ring[i * width + j]
            if k < bins:
                values[ends[k + 1]] = frame[i, j]
                ends[k + 1] += 1


@njit(nogil=True, cache=True)
def _level(values, clip, gain):
    level = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - level))
    used = 0
    for _ in range(ROUNDS):
        reach = clip * max(np.sqrt(gain * max(level, 0.0)), spread) + gain
        total, count = 0.0, 0
        for v in values:
            if abs(v - level) <= reach:
                total += v
                count += 1
        if count == 0:
            break
        moved = total / count - level
        level = total / count
        same = count == used and abs(moved) <= 1e-9 * (abs(level) + 1e-300)
        used = count
        if same:
            break
    return level, float(used)
