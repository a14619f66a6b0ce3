"""Sums over rings, each pixel shared between the two bins nearest to its radius."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError, ShapeError
from ._arrays import fit_frames
from ._jit import njit
from .api import Float, RadialSums


class RadialPlan(NamedTuple):
    """Which bins each pixel of a pattern belongs to; made by `radial_plan`.

    Attributes
    ----------
    shape : (Qx, Qy)
    n_bins : number of bins; bin k is centred at the radius k·step
    lower : (Qx, Qy) int32, the nearer bin towards the center; -1 for pixels left out
    fraction : (Qx, Qy) float64, the part that goes to the next bin
    norm : (n_bins,) float64, weight of all pixels in each bin
    starts, pixels, split : the same by bin: where each bin starts, its pixels, their fractions
    """

    shape: tuple[int, int]
    n_bins: int
    lower: NDArray[np.int32]
    fraction: Float
    norm: Float
    starts: NDArray[np.int64]
    pixels: NDArray[np.int64]
    split: Float


def radial_plan(radius: ArrayLike, n_bins: int, step: float = 1.0) -> RadialPlan:
    """Sort pixels into rings once, for `radial_sums` of many patterns.

    Parameters
    ----------
    radius : (Qx, Qy) float64
        Pixels. Where it is NaN, infinite or negative the pixel is left out.
    n_bins : int
        Bin k is centred at ``k·step``.
    step : float
        Pixels between bins.

    Returns
    -------
    RadialPlan

    Raises
    ------
    ParameterError
        If there are no bins or the step is not positive.

    Notes
    -----
    With ``t = radius/step`` and ``k = ⌊t⌋`` a pixel gives ``1 − (t − k)`` of itself to bin k and
    ``t − k`` to bin k + 1; what would go beyond the last bin is dropped.
    """
    if n_bins < 1 or not step > 0:
        raise ParameterError(f"rings need n_bins >= 1 and step > 0, not {n_bins} and {step}")
    t = np.asarray(radius, dtype=np.float64) / step
    inside = (t >= 0) & (t < n_bins)
    lower = np.where(inside, np.floor(np.where(inside, t, 0.0)), -1).astype(np.int32)
    fraction = np.where(inside, t - lower, 0.0)
    flat = lower.ravel()
    pixels = np.argsort(flat, kind="stable")[np.count_nonzero(flat < 0) :]
    split = fraction.ravel()[pixels]
    norm = np.bincount(flat[pixels], 1 - split, n_bins + 1).astype(np.float64)
    norm += np.bincount(flat[pixels] + 1, split, n_bins + 1)
    starts = np.searchsorted(flat[pixels], np.arange(n_bins + 1))
    return RadialPlan(t.shape, n_bins, lower, fraction, norm[:n_bins], starts, pixels, split)


def radial_sums(frames: ArrayLike, plan: RadialPlan) -> RadialSums:
    """Sum each pattern over the rings of a plan.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype.
    plan : RadialPlan
        From `radial_plan`.

    Returns
    -------
    RadialSums
        Its norms have one row for all patterns unless some pixel is not finite: such pixels are
        left out of sums and norms alike.

    Raises
    ------
    ShapeError
        If the plan was made for another shape.
    """
    fit = fit_frames(frames)
    if fit.shape[1:] != plan.shape:
        raise ShapeError(f"rings made for {plan.shape} do not fit patterns of {fit.shape[1:]}")
    flat = fit.reshape(len(fit), fit.shape[1] * fit.shape[2])
    sums = np.zeros((len(fit), plan.n_bins + 1))
    bad = np.zeros(0, dtype=np.int64)
    if fit.size:
        _ring_sums(flat, plan.starts, plan.pixels, plan.split, sums)
        bad = np.flatnonzero(~np.isfinite(sums).all(axis=1))
    norms = plan.norm[None]
    if bad.size:
        norms = np.repeat(norms, len(fit), axis=0)
        _careful_sums(flat, bad, plan.starts, plan.pixels, plan.split, sums, norms)
    return RadialSums(sums[:, : plan.n_bins], norms)


def radial_sums_centered(
    frames: ArrayLike,
    origins: ArrayLike,
    n_bins: int,
    step: float = 1.0,
    *,
    ellipse: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> RadialSums:
    """Sum each pattern over rings about an origin of its own.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype.
    origins : (n, 2) float64
        Pixels, array order. NaN gives a row of NaN sums and zero norms.
    n_bins, step
        As in `radial_plan`.
    ellipse : (2, 2) float64, optional
        Matrix that maps an offset from the origin onto the circle; nothing by default.
    mask : (Qx, Qy) bool, optional
        Pixels that count; all by default.

    Returns
    -------
    RadialSums
        ``norms`` has a row for every pattern.
    """
    fit = fit_frames(frames)
    if n_bins < 1 or not step > 0:
        raise ParameterError(f"rings need n_bins >= 1 and step > 0, not {n_bins} and {step}")
    centers = np.ascontiguousarray(origins, dtype=np.float64)
    keep = np.ones(fit.shape[1:], bool) if mask is None else np.ascontiguousarray(mask, dtype=bool)
    matrix = np.eye(2) if ellipse is None else np.asarray(ellipse, dtype=np.float64)
    if centers.shape != (len(fit), 2) or keep.shape != fit.shape[1:] or matrix.shape != (2, 2):
        raise ShapeError(
            f"patterns {fit.shape} need origins (n, 2), a mask (Qx, Qy) and an ellipse (2, 2), "
            f"not {centers.shape}, {keep.shape} and {matrix.shape}"
        )
    sums, norms = np.zeros((2, len(fit), n_bins + 1))
    if fit.size:
        metric = np.ascontiguousarray(matrix / step)
        rings = np.zeros((2, n_bins + 1, 4))
        _centered_sums(fit, centers, metric, keep, np.zeros(fit.shape[2]), rings, sums, norms)
    return RadialSums(sums[:, :n_bins], norms[:, :n_bins])


@njit(nogil=True, cache=True)
def _ring_sums(flat, starts, pixels, split, sums):
    """Four patterns at a time, so that four chains of additions run side by side."""
    n = flat.shape[0]
    for p in range(0, n, 4):
        q, r, s = min(p + 1, n - 1), min(p + 2, n - 1), min(p + 3, n - 1)
        for k in range(starts.size - 1):
            a0, a1, b0, b1, c0, c1, d0, d1 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for m in range(starts[k], starts[k + 1]):
                at, f = np.uint64(pixels[m]), split[m]
                a, b = np.float64(flat[p, at]), np.float64(flat[q, at])
                c, d = np.float64(flat[r, at]), np.float64(flat[s, at])
                a0, b0, c0, d0 = a0 + a, b0 + b, c0 + c, d0 + d
                a1, b1, c1, d1 = a1 + f * a, b1 + f * b, c1 + f * c, d1 + f * d
            _give(sums, p, k, a0, a1)
            if q > p:
                _give(sums, q, k, b0, b1)
            if r > q:
                _give(sums, r, k, c0, c1)
            if s > r:
                _give(sums, s, k, d0, d1)


@njit(nogil=True, cache=True, inline="always")
def _give(sums, p, k, whole, upper):
    sums[p, k] += whole - upper
    sums[p, k + 1] += upper


@njit(nogil=True, cache=True)
def _careful_sums(flat, which, starts, pixels, split, sums, norms):
    """The sums and norms of the patterns ``which``, without pixels that are not finite."""
    bins = starts.size - 1
    for p in which:
        sums[p] = 0.0
        norms[p] = 0.0
        for k in range(bins):
            for m in range(starts[k], starts[k + 1]):
                v = flat[p, pixels[m]]
                if np.isfinite(v):
                    sums[p, k] += (1.0 - split[m]) * np.float64(v)
                    sums[p, k + 1] += split[m] * np.float64(v)
                    norms[p, k] += 1.0 - split[m]
                    if k + 1 < bins:
                        norms[p, k + 1] += split[m]


@njit(nogil=True, cache=True)
def _centered_sums(frames, origins, metric, keep, row, rings, sums, norms):
    """Two sets of rings in turn, so that neighbours in one ring need not wait for each other.

    A ring holds Σv, Σ f·v, Σ1 and Σf of the pixels that start in it; the last takes the rest.
    """
    n, height, width = frames.shape
    bins = sums.shape[1] - 1
    for p in range(n):
        ox, oy = origins[p]
        if not (np.isfinite(ox) and np.isfinite(oy)):
            sums[p] = np.nan
            continue
        rings[:] = 0.0
        for i in range(height):
            x = i - ox
            for j in range(width):
                y = j - oy
                u, w = metric[0, 0] * x + metric[0, 1] * y, metric[1, 0] * x + metric[1, 1] * y
                row[j] = min(np.sqrt(u * u + w * w), float(bins))
            for j in range(width):
                v, t = frames[p, i, j], row[j]
                if not (keep[i, j] and np.isfinite(v)):
                    t = float(bins)
                k = np.uint64(t)
                f = t - np.float64(k)
                ring = rings[j & 1, k]
                ring[0] += np.float64(v)
                ring[1] += f * np.float64(v)
                ring[2] += 1.0
                ring[3] += f
        _share_out(rings, sums[p], norms[p])


@njit(nogil=True, cache=True, inline="always")
def _share_out(rings, sums, norms):
    for k in range(sums.size - 1):
        whole, upper = rings[0, k, 0] + rings[1, k, 0], rings[0, k, 1] + rings[1, k, 1]
        sums[k] += whole - upper
        sums[k + 1] += upper
        whole, upper = rings[0, k, 2] + rings[1, k, 2], rings[0, k, 3] + rings[1, k, 3]
        norms[k] += whole - upper
        norms[k + 1] += upper
