"""Where the fits of a scan start from: its mean lattice, fitted neighbours, another grain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import SolveError
from py4DSTEM.process.bragg.basis import choose_basis
from py4DSTEM.process.bragg.lattice_table import REASONS, PeakColumns

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import LatticeFits

__all__ = ["fit_everywhere", "mean_lattice", "other_lattices", "without_poor"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
WEAK, BESIDE = 0.3, 0.6
"""Shares of amplitude beside the lattice above which another start is tried, and no fit kept."""
LATTICES = 6
"""Most lattices that are looked for in a scan."""


def mean_lattice(sample: PeakColumns, start: Float) -> Float:
    """The median lattice of the sample, if it can be fitted at most positions."""
    for _ in range(2):
        fits = sample.fit(start)
        if (fits.reason == 0).sum() * 2 < sample.count:
            break
        start = np.median(fits.parameters[fits.reason == 0, 2:], axis=0).reshape(2, 2)
    return start


def fit_everywhere(table: PeakColumns, starts: Float) -> tuple[LatticeFits, Float]:
    """All positions; failures again from their neighbours; and from where each one started."""
    fits, starts = _from_fitted(table, table.fit_as_asked(starts), starts)
    failed = np.isin(fits.reason, (2, 3)) & (np.diff(table.offsets) >= table.min_peaks)
    if table.robust and failed.any():
        # Where all peaks scatter far more than elsewhere none must be rejected; χ² will tell.
        plain = table.fit(starts, failed)
        fits = _replaced(fits, plain, failed & (plain.reason == 0), table.offsets)
    return fits, starts


def _from_fitted(table: PeakColumns, fits: LatticeFits, starts: Float) -> tuple[LatticeFits, Float]:
    """Weak positions again, from their neighbours, as long as that helps."""
    for _ in range(sum(table.shape)):
        weak = _weak(table, fits)
        if not weak.any():
            break
        mean, near = _from_neighbours(fits, (fits.reason == 0) & ~weak, table.shape)
        fits, better = _tried(table, fits, mean, weak & near)
        if not better.any():
            break
        starts = np.where(better[:, None, None], mean, starts)
    return fits, starts


def _weak(table: PeakColumns, fits: LatticeFits) -> Bool:
    """Positions with enough peaks, but no lattice that explains them."""
    weak: Bool = (fits.reason != 0) | (fits.beside[:, 0] > WEAK)
    return weak & (np.diff(table.offsets) >= table.min_peaks)


def _tried(
    table: PeakColumns, fits: LatticeFits, starts: Float, todo: Bool
) -> tuple[LatticeFits, Bool]:
    """Fits from other starts where they are better, and where that is."""
    again = table.fit_as_asked(starts, todo)
    better = todo & (again.reason == 0)
    better &= (fits.reason != 0) | (again.beside[:, 0] < fits.beside[:, 0] - 0.1)
    return _replaced(fits, again, better, table.offsets), better


def other_lattices(
    peaks: PointTable, table: PeakColumns, fits: LatticeFits, starts: Float
) -> tuple[LatticeFits, Float, int]:
    """Other lattices at positions that the first one does not explain, and how many."""
    for found in range(LATTICES):
        weak = _weak(table, fits)
        if weak.sum() < 3:
            return fits, starts, found
        try:
            basis = choose_basis(peaks.select(np.repeat(weak, np.diff(peaks.offsets))))
        except SolveError:
            return fits, starts, found
        other = np.broadcast_to(basis.vectors, starts.shape)
        fits, better = _tried(table, fits, other, weak)
        if not better.any():
            return fits, starts, found
        starts = np.where(better[:, None, None], other, starts)
        fits, starts = _from_fitted(table, fits, starts)
    return fits, starts, LATTICES


def without_poor(fits: LatticeFits) -> LatticeFits:
    """Fits that leave most of the amplitude beside the lattice become none."""
    poor = (fits.reason == 0) & (fits.beside[:, 0] > BESIDE)
    if not poor.any():
        return fits
    nothing = {
        name: np.where(
            poor.reshape(-1, *[1] * (getattr(fits, name).ndim - 1)), np.nan, getattr(fits, name)
        )
        for name in ("parameters", "covariance", "residual", "chi2")
    }
    reason = np.where(poor, REASONS.index("most peaks beside the lattice"), fits.reason)
    return fits._replace(**nothing, reason=reason.astype(np.uint8))


def _from_neighbours(fits: LatticeFits, good: Bool, shape: tuple[int, int]) -> tuple[Float, Bool]:
    """Mean lattice (P, 2, 2) of the up to eight neighbours, and where there are any."""
    from scipy.ndimage import convolve

    ring = np.ones((3, 3))
    ring[1, 1] = 0.0
    number = convolve(good.reshape(shape).astype(float), ring, mode="constant").ravel()
    vectors = np.where(good[:, None], fits.parameters[:, 2:], 0.0)
    sums = [convolve(v.reshape(shape), ring, mode="constant").ravel() for v in vectors.T]
    mean = np.stack(sums, -1) / np.maximum(number, 1)[:, None]
    return mean.reshape(-1, 2, 2), number > 0


def _replaced(
    fits: LatticeFits, other: LatticeFits, where: Bool, offsets: NDArray[np.int64]
) -> LatticeFits:
    """`fits` with positions `where` (and their points) from `other`."""
    rows = np.repeat(where, np.diff(offsets))
    merged = {}
    for name, old in fits._asdict().items():
        chosen = rows if name in ("indices", "distance") else where
        merged[name] = np.where(
            chosen.reshape(-1, *[1] * (old.ndim - 1)), getattr(other, name), old
        )
    return fits._replace(**merged)
