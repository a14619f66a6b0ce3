"""The origin from Bragg peaks: the direct one, and the middle of pairs q, −q."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.points import FARTHEST_PX, PointTable
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.calibrate.origin_disk import check_near_detector
from py4DSTEM.process.calibrate.origin_fit import (
    NORMAL_MEDIAN_SQUARE,
    OriginMeasurement,
    fit_origin,
)

__all__ = ["origin_of_peaks"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
_ROUNDS = 3
_REWEIGHTED = 5
_FAR = 5.0
_POSITIONS = 100
_MOST_PAIRS = 20_000
LEAST_SIGMA_PX = 1e-9
"""A smaller uncertainty is none."""


def origin_of_peaks(
    peaks: PointTable,
    center: tuple[float, float] | None = None,
    search_px: float | None = None,
    where: ArrayLike | None = None,
) -> OriginMeasurement:
    """Origin of every position from its peaks, weighted by their uncertainties.

    Parameters
    ----------
    peaks : BraggPeaks
        A table with fields ``qx, qy``; ``intensity, sigma_qx, sigma_qy`` are used where known.
    center : (float, float), optional
        Rough origin; None: found from the brightest peaks.
    search_px : float, optional
        Farthest that the direct peak may be from a smooth descan; None: a quarter of the median
        distance between neighbouring peaks; never more than half of it.
    where : (Rx, Ry) bool, optional

    Notes
    -----
    Each pair of peaks that lie opposite each other to within `search_px` gives ``(q + q') / 2``
    with variance ``(σ² + σ'²) / 4``; the direct peak gives itself.  Pairs that lie more than five
    sigma from the rest are left out.  The sigma are scaled by the root of the reduced χ² of the
    whole table where that is above one.
    """
    table = _Table.of(peaks, where)
    if not len(table.q):
        raise ParameterError("there are no peaks to measure an origin from")
    spacing = table.spacing()
    # From half the spacing on, the peak meant could be any.
    search = spacing / 4 if search_px is None else min(search_px, spacing / 2)
    if center is not None and peaks.Q_shape is not None:
        check_near_detector(center, peaks.Q_shape)
    origin = table.first_guess(center, search)
    for _ in range(_ROUNDS):
        found = table.improved(origin, search)
        origin = np.where(np.isfinite(found.origin), found.origin, origin)
    return found.measurement(peaks, table.asked)


@dataclass(frozen=True, eq=False)
class _Table:
    """Peaks of all positions in one row: position p (n,), q and sigma (n, 2), brightness (n,).

    `intensity` is the share of that of the position, so that no position outweighs the others.
    """

    p: NDArray[np.int64]
    q: Float
    sigma: Float
    intensity: Float
    shape: tuple[int, int]
    asked: Bool

    @classmethod
    def of(cls, peaks: PointTable, where: ArrayLike | None) -> _Table:
        asked = np.ones(peaks.shape, bool) if where is None else np.asarray(where).astype(bool)
        if asked.shape != tuple(peaks.shape):
            raise ShapeError(f"where has shape {asked.shape}, the scan {peaks.shape}")
        names = peaks.dtype.names or ()

        def column(name: str, default: float) -> Float:
            known = peaks.points[name] if name in names else np.full(len(peaks), default)
            return np.asarray(known, np.float64)

        q = peaks.positions_px
        sigma = np.stack([column("sigma_qx", np.nan), column("sigma_qy", np.nan)], axis=-1)
        p = peaks.positions @ np.array([peaks.shape[1], 1])
        usable = np.isfinite(q).all(1) & asked.ravel()[p]
        bright = _shares(column("intensity", 1.0)[usable], p[usable])
        return cls(p[usable], q[usable], sigma[usable], bright, peaks.shape, asked)

    @cached_property
    def apart(self) -> float:
        """Distance that keeps different positions apart in the tree."""
        return 4 * float(np.abs(self.q).max(initial=1.0)) + 1

    @cached_property
    def tree(self) -> Any:
        from scipy.spatial import cKDTree  # slow to import

        return cKDTree(self._placed(self.q))

    def _placed(self, q: Float) -> Float:
        return np.column_stack([self.p * self.apart, q])

    def spacing(self) -> float:
        """Median distance between neighbouring peaks; a tenth of the whole where there are none."""
        near = self.tree.query(self._placed(self.q), k=2)[0][:, 1]
        near = near[near < self.apart / 2]
        return float(np.median(near)) if len(near) else max(4.0, 0.1 * float(np.ptp(self.q)))

    # ---- where to begin --------------------------------------------------------------------------
    def first_guess(self, center: tuple[float, float] | None, search: float) -> Float:
        """A smooth origin, (Rx * Ry, 2): along the brightest peaks, or where most pairs meet.

        Of the two, the one about which more intensity is symmetric: behind a beam stop the
        brightest peak is not the direct one.
        """
        if center is not None:
            return self._smooth(self._first_by(np.hypot(*(self.q - center).T)))
        brightest = self._smooth(self._first_by(-self.intensity))
        middle = self._voted(search)
        if middle is None:
            return brightest
        voted = np.tile(middle, (len(brightest), 1))
        return max((brightest, voted), key=lambda origin: self._support(origin, search))

    def _support(self, origin: Float, search: float) -> float:
        """Intensity of the direct peaks, and that which both peaks of all pairs have."""
        first, second = self._matched(origin, search)
        return float(np.minimum(self.intensity[first], self.intensity[second]).sum())

    def _first_by(self, rank: Float) -> NDArray[np.int64]:
        """The peak of lowest rank of each position that has any."""
        order = np.lexsort([rank, self.p])
        return order[np.unique(self.p[order], return_index=True)[1]]

    def _smooth(self, chosen: NDArray[np.int64]) -> Float:
        whole = np.full((math.prod(self.shape), 2), np.nan)
        whole[self.p[chosen]] = self.q[chosen]
        scan = whole.reshape(*self.shape, 2)
        try:
            fit = fit_origin(scan, "plane" if len(chosen) >= 9 else "constant")
        except ParameterError:
            fit = fit_origin(scan, "constant")
        return fit.origin_px.reshape(-1, 2)

    def _voted(self, search: float) -> Float | None:
        """The middle that most pairs of peaks of the same position share; None without pairs."""
        from scipy.spatial import cKDTree  # slow to import

        some = np.unique(self.p)
        some = some[:: max(1, len(some) // _POSITIONS)]
        chosen = np.flatnonzero(np.isin(self.p, some))
        pairs = cKDTree(self._placed(self.q)[chosen]).query_pairs(
            self.apart / 2, output_type="ndarray"
        )
        if not len(pairs):
            return None
        every = max(1, len(pairs) // _MOST_PAIRS)
        pairs = chosen[pairs[::every]]
        # A peak that was found twice is no pair.
        pairs = pairs[np.hypot(*(self.q[pairs[:, 0]] - self.q[pairs[:, 1]]).T) > search]
        if not len(pairs):
            return None
        # In a short row as many pairs meet between two peaks as at the direct one: it votes too.
        middles = np.concatenate([self.q[pairs].mean(axis=1), self.q[chosen[::every]]])
        tree = cKDTree(middles)
        votes = tree.query_ball_point(middles, search / 2, return_length=True)
        winner = middles[int(np.argmax(votes))]
        middle: Float = np.median(middles[tree.query_ball_point(winner, search / 2)], axis=0)
        return middle

    # ---- pairs -----------------------------------------------------------------------------------
    def _matched(self, origin: Float, search: float) -> tuple[NDArray[np.int64], ...]:
        """Peaks that lie opposite each other, each pair once; the direct peak with itself."""
        mirrored = 2 * origin[self.p] - self.q
        distance, other = self.tree.query(self._placed(mirrored), distance_upper_bound=2 * search)
        first = np.flatnonzero(np.isfinite(distance))
        second = other[first]
        pairs = (other[second] == first) & (first <= second)
        return first[pairs], second[pairs]

    def improved(self, origin: Float, search: float) -> _Found:
        """Weighted mean of the direct peak and of all pairs of each position."""
        first, second = self._matched(origin, search)
        known = bool(((self.sigma > LEAST_SIGMA_PX) & (self.sigma < FARTHEST_PX)).all())
        variance = self.sigma**2 if known else np.ones_like(self.sigma)
        middle = (self.q[first] + self.q[second]) / 2
        spread = (variance[first] + variance[second]) / 4
        spread[first == second] = variance[first[first == second]]
        return _averaged(self.p[first], middle, spread, origin, known)


def _shares(intensity: Float, p: NDArray[np.int64]) -> Float:
    """Intensity of every peak over that of the brightest of its position; 0 where not known.

    Ones at positions where none is known.
    """
    known = np.isfinite(intensity) & (intensity > 0)
    bright = np.where(known, intensity, 0.0)
    most = np.zeros(p.max(initial=-1) + 1)
    np.maximum.at(most, p, bright)
    return np.divide(bright, most[p], out=np.ones(len(p)), where=most[p] > 0)


class _Found(NamedTuple):
    """Origins and sigma (Rx * Ry, 2)."""

    origin: Float
    sigma: Float

    def measurement(self, peaks: PointTable, asked: Bool) -> OriginMeasurement:
        values = self.origin.reshape(*peaks.shape, 2)
        missing = ~np.isfinite(values).all(-1)
        reasons = {
            "no peaks": int((missing & asked & (peaks.counts == 0)).sum()),
            "no direct peak and no pairs": int((missing & asked & (peaks.counts > 0)).sum()),
            "not asked for": int((~asked).sum()),
        }
        return OriginMeasurement(
            values, self.sigma.reshape(values.shape), {k: n for k, n in reasons.items() if n},
            "peaks", peaks.calibration, peaks.history,
        )  # fmt: skip


def _averaged(
    p: NDArray[np.int64], middle: Float, variance: Float, start: Float, known: bool
) -> _Found:
    """Weighted means that estimates far from the others have no part in."""
    size = len(start)
    weight, trust = 1 / variance, np.ones(len(p))

    def total(values: Float) -> Float:
        return np.stack([np.bincount(p, column, size) for column in values.T], axis=-1)

    for _ in range(_REWEIGHTED):
        weights = weight * trust[:, None]
        norm = total(weights)
        mean = np.divide(total(weights * middle), norm, out=np.full((size, 2), np.nan),
                         where=norm > 0)  # fmt: skip
        # What an estimate has itself pulled the mean towards it is missing in its residual.
        own = np.clip(1 - weights / np.where(norm > 0, norm, 1.0)[p], 1e-6, None)
        scaled = (middle - mean[p]) ** 2 / (variance * own)
        several = (own > 0.05).all(1) & (trust > 0)
        scale = float(np.median(scaled[several])) / NORMAL_MEDIAN_SQUARE if several.any() else 1.0
        scale = max(scale, 1.0 if known else 1e-12)
        far = np.sqrt(scaled / scale).max(axis=1, initial=0.0)
        trust = np.where((own > 0.05).all(1), 1 / (1 + np.maximum(far - 2, 0) ** 2), 1.0)
        trust[far > _FAR] *= 0.01
    keep = trust > 0.02
    weights = weight * keep[:, None]
    norm = total(weights)
    lit = norm > 0
    mean = np.divide(total(weights * middle), norm, out=np.full((size, 2), np.nan), where=lit)
    sigma = np.sqrt(np.divide(scale, norm, out=np.full((size, 2), np.nan), where=lit))
    return _Found(mean, sigma)
