"""How good classes are: silhouettes, agreement of two sets of labels, stability."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.errors import ShapeError

__all__ = ["adjusted_rand", "confusion", "silhouettes"]

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Int = NDArray[np.int64]
_ROWS = 2048


def silhouettes(points: Float32, labels: Int, *, sample: int, seed: int) -> Float:
    """Silhouette of every point, ``(b − a) / max(a, b)``.

    ``a`` is the mean distance to the other points of its class, ``b`` to those of the nearest other
    class, of which at most `sample` each are looked at (doi:10.1016/0377-0427(87)90125-7).

    Parameters
    ----------
    points : (n, k) float
    labels : (n,) int
        −1: no class.
    sample : int
    seed : int
        Of the choice of a sample.

    Returns
    -------
    (n,) float64
        NaN for points without class, and everywhere if there are less than two classes; 0 for the
        only point of a class.
    """
    from scipy.spatial.distance import cdist

    result = np.full(len(labels), np.nan)
    present = np.unique(labels[labels >= 0])
    if len(present) < 2:
        return result
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == k) for k in present]
    chosen = [m if len(m) <= sample else np.sort(rng.choice(m, sample, False)) for m in members]
    own = np.searchsorted(present, labels)
    inside = np.flatnonzero(labels >= 0)
    sampled = np.zeros(len(labels), bool)
    sampled[np.concatenate(chosen)] = True
    sizes = np.array([len(c) for c in chosen], np.float64)
    for start in range(0, len(inside), _ROWS):
        rows = inside[start : start + _ROWS]
        sums = np.stack([cdist(points[rows], points[c]).sum(axis=1) for c in chosen], axis=1)
        result[rows] = _silhouette(sums, sizes, own[rows], sampled[rows])
    return result


def _silhouette(sums: Float, sizes: Float, own: Int, sampled: NDArray[np.bool_]) -> Float:
    at = np.arange(len(sums))
    others = sizes[own] - sampled  # not the distance of a point to itself
    a = np.divide(sums[at, own], others, out=np.zeros(len(sums)), where=others > 0)
    means = sums / sizes
    means[at, own] = np.inf
    b = means.min(axis=1)
    larger = np.maximum(a, b)
    known = (others > 0) & (larger > 0)
    return np.asarray(np.divide(b - a, larger, out=np.zeros(len(sums)), where=known))


def confusion(a: ArrayLike, b: ArrayLike) -> tuple[Int, Int, Int]:
    """How often each pair of labels occurs, (len(rows), len(columns)), with those labels."""
    first, second = np.asarray(a).ravel(), np.asarray(b).ravel()
    if first.shape != second.shape:
        raise ShapeError(f"labels of {np.shape(a)} and of {np.shape(b)} positions")
    rows, i = np.unique(first, return_inverse=True)
    columns, j = np.unique(second, return_inverse=True)
    table = np.zeros((len(rows), len(columns)), np.int64)
    np.add.at(table, (i, j), 1)
    return table, rows, columns


def adjusted_rand(a: ArrayLike, b: ArrayLike) -> float:
    """Adjusted Rand index of two sets of labels: 1 the same classes, 0 as by chance.

    Over all pairs of positions, whether both put them into one class (doi:10.1007/BF01908075);
    numbers of the classes do not matter.

    Parameters
    ----------
    a, b : (n,) int
        Every value is a class, also −1.

    Returns
    -------
    float

    Examples
    --------
    >>> adjusted_rand([0, 0, 1, 1], [5, 5, 2, 2])
    1.0
    >>> round(adjusted_rand([0, 0, 1, 1], [0, 1, 0, 1]), 3)
    -0.5
    """
    table = confusion(a, b)[0].astype(np.float64)
    both = _pairs(table).sum()
    first, second = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    total = float(_pairs(np.array(table.sum())))
    expected = first * second / total if total else 0.0
    most = (first + second) / 2
    return float((both - expected) / (most - expected)) if most != expected else 1.0


def _pairs(count: Float) -> Float:
    return np.asarray(count * (count - 1) / 2)
