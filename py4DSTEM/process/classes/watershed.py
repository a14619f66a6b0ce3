"""Watershed of an image: one basin for every peak that stands out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["basins", "otsu"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Ints = NDArray[np.int64]
_BINS = 256
_NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))


def otsu(values: Float) -> float:
    """The threshold that parts finite values best in two: largest variance between both.

    Otsu, IEEE Trans. Syst. Man Cybern. 9, 62 (1979), doi:10.1109/TSMC.1979.4310076.

    Parameters
    ----------
    values : array of float
        NaN is left out.

    Returns
    -------
    float
        The value itself where all are equal; NaN without values.

    Examples
    --------
    >>> 1 < otsu(np.array([0.0, 1.0, 0.5, 9.0, 10.0])) < 9
    True
    """
    known = values[np.isfinite(values)].ravel()
    if not known.size:
        return float("nan")
    if known.min() == known.max():
        return float(known[0])
    counts, edges = np.histogram(known, _BINS)
    middle = (edges[1:] + edges[:-1]) / 2
    below, above = np.cumsum(counts)[:-1], counts.sum() - np.cumsum(counts)[:-1]
    sums = np.cumsum(counts * middle)[:-1]
    between = (sums / below - ((counts * middle).sum() - sums) / np.maximum(above, 1)) ** 2
    best = between * below * above
    # Between two far groups all thresholds are alike: the middle one.
    equal = np.flatnonzero(best >= best.max() * (1 - 1e-12))
    return float((edges[1:-1][equal[0]] + edges[1:-1][equal[-1]]) / 2)


def basins(image: Float, inside: Bool, prominence: float) -> NDArray[np.int32]:
    """Basins of the peaks of an image, the highest peak first.

    Every pixel belongs to the peak that steepest ascent leads to (eight neighbours; of equal ones
    the first).  From the highest saddle downwards two basins become one where the lower peak stands
    less than `prominence` of its height above the saddle.

    Parameters
    ----------
    image : (nx, ny) float
    inside : (nx, ny) bool
        Pixels that belong to basins; others are background.
    prominence : float
        From 0 (every maximum is a peak) to 1 (connected regions of positive pixels).

    Returns
    -------
    (nx, ny) int32
        0, 1, …; −1: background.

    Examples
    --------
    >>> image = np.array([[1.0, 5.0, 2.0, 8.0, 7.0, 7.5, 1.0]])
    >>> basins(image, image > 1, 0.25).tolist()
    [[-1, 1, 0, 0, 0, 0, -1]]
    """
    inside = inside & np.isfinite(image)
    out = np.full(image.shape, -1, np.int32)
    if not inside.any():
        return out
    flat = np.where(inside, image, -np.inf)
    peaks = _ascended(flat, inside)
    heads, pixels = np.unique(peaks[inside], return_inverse=True)
    basin = np.full(image.shape, -1, np.int64)
    basin[inside] = pixels
    joined = _joined(flat, basin, flat.ravel()[heads], prominence)
    # The head of a joined basin is its highest peak.
    order = np.argsort(-flat.ravel()[heads], kind="stable")
    kept = [int(k) for k in order if joined[k] == k]
    number = np.empty(len(heads), np.int64)
    number[kept] = np.arange(len(kept))
    out[inside] = number[joined[pixels]]
    return out


def _ascended(image: Float, inside: Bool) -> Ints:
    """Pixel (flat index) at the top of the steepest ascent from every pixel."""
    size = image.size
    # Highest first and, of equal ones, the first: no two are alike, so ascent never circles.
    order = np.argsort(-image, axis=None, kind="stable")
    rank = np.empty(size, np.int64)
    rank[order] = np.arange(size)
    wide = np.pad(rank.reshape(image.shape), 1, constant_values=size)
    best = rank.reshape(image.shape).copy()
    for i in range(3):
        for j in range(3):
            near = wide[i : i + image.shape[0], j : j + image.shape[1]]
            np.minimum(best, near, out=best)
    up = np.where(inside, order[np.minimum(best, size - 1)], np.arange(size).reshape(image.shape))
    to = up.ravel()
    while True:
        further = to[to]
        if np.array_equal(further, to):
            return to.reshape(image.shape)
        to = further


def _joined(image: Float, basin: Ints, heights: Float, prominence: float) -> Ints:
    """The basin that each basin becomes part of."""
    head = np.arange(len(heights))
    for saddle, a, b in zip(*_saddles(image, basin), strict=True):
        a, b = _head(head, int(a)), _head(head, int(b))
        if a == b:
            continue
        low, high = (a, b) if (heights[a], -a) < (heights[b], -b) else (b, a)
        if heights[low] - saddle < prominence * heights[low]:
            head[low] = high
    return np.array([_head(head, k) for k in range(len(head))], np.int64)


def _head(head: Ints, k: int) -> int:
    while head[k] != k:
        head[k] = head[head[k]]
        k = int(head[k])
    return k


def _saddles(image: Float, basin: Ints) -> tuple[Float, Ints, Ints]:
    """Highest saddle of each pair of touching basins: its height and both, the highest first."""
    nx, ny = image.shape
    heights, firsts, seconds = [], [], []
    for dx, dy in _NEIGHBOURS:
        here = (slice(0, nx - dx), slice(max(0, -dy), ny - max(0, dy)))
        there = (slice(dx, nx), slice(max(0, dy), ny + min(0, dy)))
        a, b = basin[here], basin[there]
        touch = (a != b) & (a >= 0) & (b >= 0)
        heights.append(np.minimum(image[here], image[there])[touch])
        firsts.append(np.minimum(a, b)[touch])
        seconds.append(np.maximum(a, b)[touch])
    height, a, b = (np.concatenate(part) for part in (heights, firsts, seconds))
    order = np.argsort(-height, kind="stable")
    count = int(basin.max()) + 1
    _, first = np.unique(a[order] * count + b[order], return_index=True)
    chosen = order[np.sort(first)]
    return height[chosen], a[chosen], b[chosen]
