"""Polar bins in plain numpy: pixels cut into small squares, and dense tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .api import Float, RingMoments

if TYPE_CHECKING:  # the compiled kernels, which these do without
    from .polar import PolarPlan, PolarPlans

__all__ = [
    "polar_means", "polar_plan", "polar_plans", "polar_sums", "ring_medians", "ring_moments",
]  # fmt: skip

_PARTS = 40
"""Small squares along the edge of a pixel."""


def polar_plan(
    Q_shape: tuple[int, int],
    origin: ArrayLike,
    n_r: int,
    n_phi: int,
    *,
    r_min: float = 0.0,
    r_step: float = 1.0,
    ellipse: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> PolarPlan:
    """Twin of `py4DSTEM.kernels.polar.polar_plan`: each small square goes where its middle is."""
    from .polar import complete_plan

    matrix = np.eye(2) if ellipse is None else np.asarray(ellipse, dtype=np.float64)
    keep = np.ones(Q_shape, bool) if mask is None else np.asarray(mask, dtype=bool)
    inner = (np.arange(_PARTS) + 0.5) / _PARTS - 0.5
    dense = np.zeros((keep.size, n_r * n_phi))
    for p, (i, j) in enumerate(np.ndindex(*Q_shape)):
        x, y = np.meshgrid(i + inner - np.ravel(origin)[0], j + inner - np.ravel(origin)[1])
        u, v = matrix[0, 0] * x + matrix[0, 1] * y, matrix[1, 0] * x + matrix[1, 1] * y
        k = np.floor((np.hypot(u, v) - r_min) / r_step).astype(np.int64)
        wedge = np.floor(np.arctan2(v, u) / (2 * np.pi) * n_phi).astype(np.int64) % n_phi
        inside = (k >= 0) & (k < n_r) & keep[i, j]
        places = (k * n_phi + wedge)[inside]
        dense[p] = np.bincount(places, minlength=n_r * n_phi) / _PARTS**2
    pixels, bins = np.nonzero(dense)
    starts = np.searchsorted(pixels, np.arange(keep.size + 1)).astype(np.int32)
    weights = dense[pixels, bins].astype(np.float32)
    return complete_plan(
        Q_shape, (n_r, n_phi, r_min, r_step), starts, bins.astype(np.int32), weights
    )


def polar_plans(*arguments: Any, **options: Any) -> PolarPlans:
    """`py4DSTEM.kernels.polar.polar_plans` itself: a place within a pixel is a `polar_plan`."""
    from .polar import polar_plans as plans

    return plans(*arguments, **options)


def _dense(plan: PolarPlan) -> Float:
    """Shares of every pixel in every bin, (pixels, bins)."""
    table = np.zeros((len(plan.starts) - 1, plan.n_r * plan.n_phi))
    pixels = np.repeat(np.arange(len(table)), np.diff(plan.starts))
    np.add.at(table, (pixels, plan.bins), plan.weights)
    return table


def _plans_of(
    frames: NDArray[np.generic], plan: PolarPlan | PolarPlans, origins: ArrayLike | None
) -> list[PolarPlan | None]:
    from .polar import PolarPlan

    if isinstance(plan, PolarPlan):
        return [plan] * len(frames)
    places = np.asarray(origins, dtype=np.float64)
    return [plan.at((x, y)) if np.isfinite([x, y]).all() else None for x, y in places]


def polar_sums(
    frames: ArrayLike, plan: PolarPlan | PolarPlans, origins: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Twin of `py4DSTEM.kernels.polar.polar_sums`."""
    frames = np.asarray(frames)
    out = np.full((len(frames), plan.n_r * plan.n_phi), np.nan)
    for n, own in enumerate(_plans_of(frames, plan, origins)):
        if own is not None:
            v = frames[n].ravel().astype(np.float64)
            out[n] = np.where(np.isfinite(v), v, 0) @ _dense(own)
    return out.reshape(len(out), plan.n_r, plan.n_phi).astype(np.float32)


def polar_means(
    frames: ArrayLike, plan: PolarPlan | PolarPlans, origins: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Twin of `py4DSTEM.kernels.polar.polar_means`."""
    frames = np.asarray(frames)
    sums = polar_sums(frames, plan, origins).astype(np.float64)
    areas = polar_sums(np.isfinite(frames), plan, origins)
    return np.divide(sums, areas, out=np.full(sums.shape, np.nan), where=areas > 0).astype(
        np.float32
    )


def ring_moments(
    frames: ArrayLike, plan: PolarPlan | PolarPlans, origins: ArrayLike | None = None
) -> RingMoments:
    """Twin of `py4DSTEM.kernels.polar.ring_moments`."""
    frames = np.asarray(frames)
    out = np.zeros((3, len(frames), plan.n_r))
    out[:2] = np.nan
    for n, own in enumerate(_plans_of(frames, plan, origins)):
        if own is None:
            continue
        v = frames[n].ravel().astype(np.float64)
        good = np.isfinite(v)
        share = _dense(own).reshape(len(v), own.n_r, own.n_phi).sum(2)[good]
        weight = share.sum(0)
        for k, power in enumerate((1, 2)):
            total = v[good] ** power @ share
            out[k, n] = np.divide(total, weight, out=np.full(own.n_r, np.nan), where=weight > 0)
        out[2, n] = weight
    return RingMoments(*out)


def ring_medians(
    frames: ArrayLike, plan: PolarPlan | PolarPlans, origins: ArrayLike | None = None
) -> Float:
    """Twin of `py4DSTEM.kernels.polar.ring_medians`."""
    frames = np.asarray(frames)
    out = np.full((len(frames), plan.n_r), np.nan)
    for n, own in enumerate(_plans_of(frames, plan, origins)):
        if own is None:
            continue
        v = frames[n].ravel().astype(np.float64)
        shares = _dense(own).reshape(len(v), own.n_r, own.n_phi).sum(2)
        for k in range(own.n_r):
            out[n, k] = _median(v, shares[:, k] * np.isfinite(v))
    return out


def _median(values: Float, weights: Float) -> float:
    """The middle of all places at which no more than half of the weight is on either side."""
    values, weights = values[weights > 0], weights[weights > 0]
    half = weights.sum() / 2 * (1 + 1e-9)
    fit = [
        x for x in values
        if weights[values < x].sum() <= half and weights[values > x].sum() <= half
    ]  # fmt: skip
    return (min(fit) + max(fit)) / 2 if fit else np.nan
