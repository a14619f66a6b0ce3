"""Detector faults: bad pixels, dark and gain, pixels out of range, background."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError, ShapeError
from ._arrays import fit_frames
from ._jit import njit
from .api import ThresholdCounts
from .radial import RadialPlan


def neighbour_table(bad: ArrayLike, count: int = 8) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The good pixels nearest to each bad one.

    Parameters
    ----------
    bad : (Qx, Qy) bool
        True where a pixel is to be replaced.
    count : int
        Neighbours wanted for each.

    Returns
    -------
    pixels : (m,) int64
        Flat indices of the bad pixels.
    neighbours : (m, count) int64
        Flat indices of the nearest good pixels, nearest first (ties in array order), -1 where there
        are no more. They are looked for up to ``count`` rows and columns away.
    """
    bad = np.asarray(bad, dtype=bool)
    pixels = np.flatnonzero(bad)
    table = np.full((pixels.size, count), -1, dtype=np.int64)
    for row, pixel in zip(table, pixels, strict=True):
        near = _nearest_good(bad, pixel // bad.shape[1], pixel % bad.shape[1], count)
        row[: near.size] = near
    return pixels, table


def _nearest_good(bad: NDArray[np.bool_], i: int, j: int, count: int) -> NDArray[np.int64]:
    top, left = max(0, i - count), max(0, j - count)
    x, y = np.nonzero(~bad[top : i + count + 1, left : j + count + 1])
    far = (x + top - i) ** 2 + (y + left - j) ** 2
    chosen = np.argsort(far, kind="stable")[:count]
    return (x[chosen] + top) * bad.shape[1] + y[chosen] + left


def repair_pixels(frames: ArrayLike, pixels: ArrayLike, neighbours: ArrayLike) -> np.ndarray:
    """Replace pixels of every pattern by the median of given neighbours.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype.
    pixels : (m,) int64
        Flat indices, for instance from `neighbour_table`.
    neighbours : (m, k) int64
        Flat indices of the neighbours of each. Negative ones are ignored, and so are values that
        are not finite.

    Returns
    -------
    (n, Qx, Qy), dtype of the frames in native byte order
        A copy. The median of an even number is the mean of the middle two, in integers with halves
        rounded up (exact below 2**53). A pixel without usable neighbours stays as it is.

    Raises
    ------
    ShapeError
        If there is not one row of neighbours for each pixel.
    """
    dtype = np.asarray(frames).dtype.newbyteorder("=")
    fit = fit_frames(frames)
    places = np.ascontiguousarray(pixels, dtype=np.int64)
    table = np.ascontiguousarray(neighbours, dtype=np.int64)
    if table.ndim != 2 or places.shape != table.shape[:1]:
        raise ShapeError(f"pixels {places.shape} need neighbours (m, k), not {table.shape}")
    out = fit.copy()
    if out.size and table.size:
        flat = fit.reshape(len(fit), -1), out.reshape(len(out), -1)
        _repair(*flat, places, table, np.empty(table.shape[1]), fit.dtype.kind != "f")
    return out.astype(dtype, copy=False)


@njit(nogil=True, cache=True)
def _repair(flat, out, pixels, neighbours, values, whole):
    for p in range(flat.shape[0]):
        for m in range(pixels.size):
            count = 0
            for k in range(neighbours.shape[1]):
                at = neighbours[m, k]
                if at >= 0 and np.isfinite(flat[p, at]):
                    _insert(values, count, np.float64(flat[p, at]))
                    count += 1
            if count:
                middle = 0.5 * (values[(count - 1) // 2] + values[count // 2])
                out[p, pixels[m]] = np.floor(middle + 0.5) if whole else middle


@njit(nogil=True, cache=True, inline="always")
def _insert(values, count, value):
    """Put one more value among ``values[:count]``, which are sorted."""
    k = count
    while k > 0 and values[k - 1] > value:
        values[k] = values[k - 1]
        k -= 1
    values[k] = value


def apply_dark_gain(
    frames: ArrayLike, dark: ArrayLike | None = None, gain: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Subtract the dark signal and multiply by the gain: ``(v − dark)·gain``.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype.
    dark, gain : (Qx, Qy) float, optional
        0 and 1 by default.

    Returns
    -------
    (n, Qx, Qy) float32
        Computed in float64 and rounded once.
    """
    fit = fit_frames(frames)
    shape = fit.shape[1:]
    offset = _image(0.0 if dark is None else dark, shape, "dark")
    factor = _image(1.0 if gain is None else gain, shape, "gain")
    out = np.empty(fit.shape, dtype=np.float32)
    if out.size:
        _dark_gain(fit.reshape(len(fit), -1), offset, factor, out.reshape(len(fit), -1))
    return out


def _image(values: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim and array.shape != shape:
        raise ShapeError(f"the {name} image {array.shape} does not fit patterns of {shape}")
    return np.ascontiguousarray(np.broadcast_to(array, shape)).reshape(-1)


@njit(nogil=True, cache=True)
def _dark_gain(flat, dark, gain, out):
    for p in range(flat.shape[0]):
        for k in range(flat.shape[1]):
            out[p, k] = (flat[p, k] - dark[k]) * gain[k]


def threshold_counts(frames: ArrayLike, high: float) -> ThresholdCounts:
    """Count the pixels at or above a limit, and those that are not finite.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype.
    high : float
        Saturation level, for instance. Infinite values count as not finite only.

    Returns
    -------
    ThresholdCounts
    """
    fit = fit_frames(frames)
    n, *shape = fit.shape
    counts = np.zeros((2, n), dtype=np.int64)
    pixels = np.zeros((2, shape[0] * shape[1]), dtype=np.int64)
    if fit.size:
        _count(fit.reshape(n, -1), float(high), counts, pixels)
    return ThresholdCounts(*counts, *pixels.reshape(2, *shape))


@njit(nogil=True, cache=True)
def _count(flat, high, counts, pixels):
    for p in range(flat.shape[0]):
        for k in range(flat.shape[1]):
            good = np.isfinite(flat[p, k])
            over = good and flat[p, k] >= high
            pixels[0, k] += over
            pixels[1, k] += not good
            counts[0, p] += over
            counts[1, p] += not good


def subtract_radial_background(
    frames: ArrayLike, plan: RadialPlan, quantile: float = 0.5
) -> NDArray[np.float32]:
    """Subtract from each pattern what its rings have in common.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype.
    plan : RadialPlan
        From `radial_plan`.
    quantile : float
        Of the values of a ring, from 0 to 1; 0.5 is the median.

    Returns
    -------
    (n, Qx, Qy) float32
        Pixels that the plan leaves out, and those that are not finite, stay as they are.

    Raises
    ------
    ParameterError
        If the quantile is not between 0 and 1.
    ShapeError
        If the plan was made for another shape.

    Notes
    -----
    A pixel belongs to the ring of its nearest bin; the level of a ring is the quantile of its
    finite pixels, linear between two values. A ring without any takes the level of the next one
    inside, or else outside (0 if there is none). Between the centers of two rings the level is
    interpolated.
    """
    fit = fit_frames(frames)
    if not 0 <= quantile <= 1:
        raise ParameterError(f"a quantile lies between 0 and 1, not {quantile}")
    if fit.shape[1:] != plan.shape:
        raise ShapeError(f"rings made for {plan.shape} do not fit patterns of {fit.shape[1:]}")
    out = np.empty(fit.shape, dtype=np.float32)
    if out.size:
        ring, starts = nearest_rings(plan)
        room = int(np.diff(starts).max(initial=0))
        _subtract_rings(
            fit.reshape(len(fit), -1),
            (starts, ring, plan.lower.reshape(-1), plan.fraction.reshape(-1)),
            quantile,
            np.empty(room),
            np.zeros(plan.n_bins),
            out.reshape(len(fit), -1),
        )
    return out


def nearest_rings(plan: RadialPlan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels ordered by the ring of their nearest bin, and where each ring starts."""
    nearest = np.where(plan.lower < 0, -1, plan.lower + (plan.fraction >= 0.5)).ravel()
    nearest = np.minimum(nearest, plan.n_bins - 1)
    pixels = np.argsort(nearest, kind="stable")
    starts = np.searchsorted(nearest[pixels], np.arange(plan.n_bins + 1))
    return pixels[starts[0] :], starts - starts[0]


@njit(nogil=True, cache=True)
def _subtract_rings(flat, rings, quantile, values, level, out):
    starts, pixels, lower, fraction = rings
    bins = starts.size - 1
    for p in range(flat.shape[0]):
        known = False
        for k in range(bins):
            count = 0
            for m in range(starts[k], starts[k + 1]):
                v = flat[p, pixels[m]]
                if np.isfinite(v):
                    values[count] = v
                    count += 1
            level[k] = level[k - 1] if k else 0.0
            if count:
                level[k] = _quantile(values, count, quantile)
                if not known:
                    level[:k] = level[k]
                known = True
        for q in range(lower.size):
            k, f = lower[q], fraction[q]
            base = 0.0
            if k >= 0:
                base = (1.0 - f) * level[k] + f * level[min(k + 1, bins - 1)]
            out[p, q] = flat[p, q] - base


@njit(nogil=True, cache=True)
def _quantile(values, count, quantile):
    """Quantile of ``values[:count]``, which are left partly sorted."""
    place = quantile * (count - 1)
    low = int(np.floor(place))
    first = _select(values, count, low)
    if place == low:
        return first
    second = values[low + 1]
    for k in range(low + 2, count):
        second = min(second, values[k])
    return first + (place - low) * (second - first)


@njit(nogil=True, cache=True, inline="always")
def _select(values, count, k):
    """Hoare's selection: the k-th smallest at its place, smaller ones before, larger ones after."""
    left, right = 0, count - 1
    while left < right:
        pivot = values[(left + right) // 2]
        i, j = left, right
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            right = j
        elif k >= i:
            left = i
        else:
            break
    return values[k]
