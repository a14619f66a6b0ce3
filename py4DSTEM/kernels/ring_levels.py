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
WINDOW_ROUNDS = 2
"""Of looking at windows."""
LEAST_LEFT = 0.1
"""Share of the pixels of a ring that must be left for its level to be taken from them."""


class RingLevels(NamedTuple):
    """Rings of n patterns, all (n, n_bins) float64.

    Attributes
    ----------
    level : mean of the pixels that do not stand out; NaN without pixels
    used : how many those are
    bright : sum of the others
    valid : all pixels that are numbers and not masked
    total : their sum
    """

    level: Float
    used: Float
    bright: Float
    valid: Float
    total: Float


def ring_levels(
    frames: ArrayLike,
    origins: ArrayLike,
    n_bins: int,
    *,
    half: int = 1,
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
    half : int
        Windows of ``2 half + 1`` pixels squared tell whether a pixel belongs to a spot.
    clip : float
        Standard deviations by which a pixel, or a window, stands out.
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
    larger of ``√(gain level)`` and 1.4826 median |v − median|.  Then, twice, the level is the mean
    of the pixels, not below ``level − clip √var − gain`` themselves, whose windows hold no more
    than ``Σ level + clip √(Σ var) + gain``, var the larger of ``gain level`` and the variance of
    the pixels of the ring that the level was made of: nine pixels together tell fainter spots than
    one, and where the edges of bright ones are.
    """
    fit = fit_frames(frames)
    centers = np.ascontiguousarray(origins, dtype=np.float64)
    keep = np.ones(fit.shape[1:], bool) if mask is None else np.ascontiguousarray(mask, dtype=bool)
    matrix = np.ascontiguousarray(np.eye(2) if metric is None else metric, dtype=np.float64)
    if n_bins < 1 or half < 0 or not clip > 0 or not gain > 0:
        raise ParameterError(
            "rings need n_bins >= 1, half >= 0, clip > 0 and gain > 0, not "
            f"{n_bins}, {half}, {clip} and {gain}"
        )
    if centers.shape != (len(fit), 2) or keep.shape != fit.shape[1:] or matrix.shape != (2, 2):
        raise ShapeError(
            f"patterns {fit.shape} need origins (n, 2), a mask (Qx, Qy) and a metric (2, 2), not "
            f"{centers.shape}, {keep.shape} and {matrix.shape}"
        )
    out = np.zeros((5, len(fit), n_bins))
    out[0] = np.nan
    if fit.size:
        _levels(fit, centers, matrix, keep, int(half), float(clip), float(gain), out)
    return RingLevels(*out)


@njit(nogil=True, cache=True)
def _levels(frames, origins, metric, keep, half, clip, gain, out):
    n, height, width = frames.shape
    bins = out.shape[2]
    ring = np.empty((height, width), np.int64)
    ends = np.empty(bins + 1, np.int64)
    values = np.empty(height * width)
    variance = np.empty(bins)
    tables = np.empty((2, height + 1, width + 1))
    for p in range(n):
        if not (np.isfinite(origins[p, 0]) and np.isfinite(origins[p, 1])):
            continue
        _sort_into_rings(frames[p], origins[p], metric, keep, ring, ends, values)
        for k in range(bins):
            inside = values[ends[k] : ends[k + 1]]
            variance[k] = 0.0
            if inside.size:
                level, used, variance[k] = _level(inside, clip, gain)
                out[0, p, k], out[1, p, k] = level, used
                out[3, p, k], out[4, p, k] = inside.size, inside.sum()
        for _ in range(WINDOW_ROUNDS):
            _prefix_sums(frames[p], ring, out[0, p], variance, tables)
            _levels_of_windows(frames[p], ring, tables, half, clip, gain, variance, out[:, p])
        for k in range(bins):
            if out[3, p, k] > 0:
                out[2, p, k] = out[4, p, k] - out[1, p, k] * out[0, p, k]


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
            ring[i, j] = k
            if k + 1 < bins:
                ends[k + 2] += 1
    for k in range(2, bins + 1):
        ends[k] += ends[k - 1]
    # ends[k + 1] is the start of ring k, and moves to its end as the ring is filled.
    for i in range(height):
        for j in range(width):
            k = ring[i, j]
            if k < bins:
                values[ends[k + 1]] = frame[i, j]
                ends[k + 1] += 1


@njit(nogil=True, cache=True)
def _level(values, clip, gain):
    """Clipped mean, of how many values, and their variance."""
    level = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - level))
    used, square = 0, 0.0
    for _ in range(ROUNDS):
        reach = clip * max(np.sqrt(gain * max(level, 0.0)), spread) + gain
        total, count, square = 0.0, 0, 0.0
        for v in values:
            if abs(v - level) <= reach:
                total += v
                square += (v - level) ** 2
                count += 1
        if count == 0:
            break
        moved = total / count - level
        level = total / count
        square = max(square / count - moved * moved, 0.0)
        same = count == used and abs(moved) <= 1e-9 * (abs(level) + 1e-300)
        used = count
        if same:
            break
    return level, float(used), max(square, gain * max(level, 0.0))


@njit(nogil=True, cache=True)
def _prefix_sums(frame, ring, level, variance, tables):
    """Running sums over rows and columns of the excess over the level, and of the variance."""
    height, width = frame.shape
    tables[:, 0, :] = 0.0
    tables[:, :, 0] = 0.0
    for i in range(height):
        excess, noise = 0.0, 0.0
        for j in range(width):
            k = ring[i, j]
            if k < level.size:
                excess += frame[i, j] - level[k]
                noise += variance[k]
            tables[0, i + 1, j + 1] = tables[0, i, j + 1] + excess
            tables[1, i + 1, j + 1] = tables[1, i, j + 1] + noise


@njit(nogil=True, cache=True)
def _levels_of_windows(frame, ring, tables, half, clip, gain, variance, out):
    """Level, number and variance of the pixels of each ring whose windows do not stand out."""
    height, width = frame.shape
    bins = variance.size
    sums = np.zeros((3, bins))
    for i in range(height):
        a, b = max(i - half, 0), min(i + half + 1, height)
        for j in range(width):
            k = ring[i, j]
            if k >= bins:
                continue
            c, d = max(j - half, 0), min(j + half + 1, width)
            excess = tables[0, b, d] - tables[0, a, d] - tables[0, b, c] + tables[0, a, c]
            noise = tables[1, b, d] - tables[1, a, d] - tables[1, b, c] + tables[1, a, c]
            off = frame[i, j] - out[0, k]
            dead = off < -(clip * np.sqrt(variance[k]) + gain)
            if not dead and excess <= clip * np.sqrt(max(noise, 0.0)) + gain:
                sums[0, k] += 1.0
                sums[1, k] += off
                sums[2, k] += off * off
    for k in range(bins):
        if sums[0, k] > 0 and sums[0, k] >= LEAST_LEFT * out[3, k]:
            moved = sums[1, k] / sums[0, k]
            out[0, k] += moved
            out[1, k] = sums[0, k]
            square = max(sums[2, k] / sums[0, k] - moved * moved, 0.0)
            variance[k] = max(square, gain * max(out[0, k], 0.0))
