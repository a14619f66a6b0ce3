"""How far peaks really scatter about their lattices, and what that does to uncertainties."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.process.bragg.lattice_table import HUBER, PeakColumns

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import LatticeFits

__all__ = ["covariance_scale", "with_scatter"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
WEAK = 0.3
"""Share of amplitude beside the lattice above which the residuals are not those of noise."""
CHI2_POSITIONS = 2.0
"""Width of the Gaussian over which χ² is averaged before it scales a covariance."""


def with_scatter(
    table: PeakColumns, sample: PeakColumns, start: Float
) -> tuple[PeakColumns, dict[str, Any]]:
    """The table with covariances such that residuals are as expected, and what was done to them."""
    if table.weights == "sigma":
        growth = _growth(sample, start)
        added = _added_variance(sample.with_growth(growth), start)
        noise = {"growth of variances (px^-2)": growth, "added scatter (px)": math.sqrt(added)}
        return table.with_growth(growth).noisier(added=added), noise
    if table.weights == "scatter":
        variance = _variance_by_intensity(sample, start)(table.intensity)
        covariances = table.covariances * variance[:, None]
        typical = (
            float(np.median(variance[:: max(len(variance) // 4096, 1)])) if len(variance) else 0
        )
        return replace(table, covariances=covariances), {"sigma per peak (px)": math.sqrt(typical)}
    factor = 1.0
    for huber in (math.inf, HUBER):
        found, _ = _median_chi2(sample.noisier(factor), start, huber)
        factor *= found if math.isfinite(found) and found > 0 else 1.0
    return table.noisier(factor), {"sigma per peak (px)": math.sqrt(factor)}


def _variance_by_intensity(sample: PeakColumns, start: Float) -> Callable[[Float], Float]:
    """Variance ``a + b / intensity`` of a peak, from the residuals of fits with equal weights."""
    from scipy.optimize import nnls

    square, known = _squares(sample.fit(start), sample)
    square, inverse = square[known], 1 / sample.intensity[known]
    if len(square) < 16 or not square.any():
        return lambda intensity: np.ones(len(intensity))
    groups = np.array_split(np.argsort(inverse, kind="stable"), min(8, len(square) // 8))
    variance = np.array([np.median(square[g]) for g in groups])
    design = np.array([[1.0, inverse[g].mean()] for g in groups])
    variance = np.maximum(variance, 1e-6 * variance.max())
    scale = design.mean(0)
    (a, b), _ = nnls(design / scale / variance[:, None], np.ones(len(groups)))
    return lambda intensity: a / scale[0] + b / scale[1] / intensity


def _growth(sample: PeakColumns, start: Float) -> float:
    """κ (1/px²) such that variances ``v (1 + κ v)`` explain how far weak peaks scatter.

    The variance of a weak disk is that of a fit taken as linear, which misses terms of second
    order; in real patterns weak disks are also the least like the template.
    """
    from scipy.optimize import nnls

    square, known = _squares(sample.fit(start), sample)
    variance = sample.covariances[:, [0, 2]].mean(1)
    rows = np.flatnonzero(known & np.isfinite(variance))
    if len(rows) < 128:
        return 0.0
    # The strongest quarter holds the fit so firmly that its residuals do not show its errors.
    rows = rows[np.argsort(variance[rows], kind="stable")][len(rows) // 4 :]
    groups = np.array_split(rows, 8)
    v = np.array([variance[g].mean() for g in groups])
    excess = np.array([np.median(square[g]) - 1 for g in groups])
    if not excess.mean() > 3 * 1.5 / math.sqrt(len(rows)):
        return 0.0
    # A scatter that all peaks share shows in the strong ones: it is told apart, not counted.
    (growth, _), _ = nnls(np.stack([v / v.mean(), v.mean() / v], axis=1), np.maximum(excess, 0.0))
    return float(growth / v.mean())


def _added_variance(sample: PeakColumns, start: Float) -> float:
    """Variance (px²) to be added to that of all peaks so that the median χ² becomes 1."""
    from scipy.optimize import brentq

    found, peaks = _median_chi2(sample, start, HUBER)
    # The median of n squared distances is known to about 1.5 / √n of itself.
    if not found > 1 + 3 * 1.5 / math.sqrt(max(peaks, 1)):
        return 0.0

    def excess(log_variance: float) -> float:
        return _median_chi2(sample.noisier(added=math.exp(log_variance)), start, HUBER)[0] - 1

    high = math.log(4 * found * float(np.median(sample.covariances[:, [0, 2]])))
    low = high - 16.0
    while excess(high) > 0:
        high += 2.0
    return math.exp(brentq(excess, low, high, xtol=0.01)) if excess(low) > 0 else 0.0


def _median_chi2(table: PeakColumns, start: Float, huber: float) -> tuple[float, int]:
    """Median squared distance over its expectation, and of how many peaks."""
    square, known = _squares(table.fit(start, huber=huber), table)
    return (float(np.median(square[known])) if known.any() else math.nan), int(known.sum())


def _squares(fits: LatticeFits, table: PeakColumns) -> tuple[Float, Bool]:
    """Squared distance of every peak over its expected median, and where there is one."""
    explained = np.repeat((fits.beside[:, 0] <= WEAK) & (fits.count > 3), np.diff(table.offsets))
    known = np.isfinite(fits.distance) & explained
    # A peak that holds the fit has residuals smaller than its errors.
    free = np.maximum(1 - _leverage(fits, table), 0.1)
    return fits.distance**2 / (2 * math.log(2) * free), known


def _leverage(fits: LatticeFits, table: PeakColumns) -> Float:
    """Share of the variance of every peak (n,) that the fit follows, mean of the two axes."""
    position = np.repeat(np.arange(table.count), np.diff(table.offsets))
    design = np.column_stack([np.ones(len(position)), fits.indices])
    blocks = fits.covariance.reshape(-1, 3, 2, 3, 2).transpose(0, 2, 4, 1, 3).reshape(-1, 4, 9)
    squares = (design[:, :, None] * design[:, None, :]).reshape(-1, 1, 9)
    fitted = (blocks[position] * squares).sum(axis=2).reshape(-1, 2, 2)
    own = table.covariances[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
    own = table.matrix @ own @ table.matrix.T
    a, b, c = own[:, 0, 0], own[:, 0, 1], own[:, 1, 1]
    # trace(own⁻¹ fitted) / 2, written out
    share: Float = c * fitted[:, 0, 0] - 2 * b * fitted[:, 0, 1] + a * fitted[:, 1, 1]
    return share / (2 * (a * c - b * b))


def covariance_scale(fits: LatticeFits, shape: tuple[int, int]) -> Float:
    """Factor (P,) of the covariances: χ² of the surroundings, or of the position, if above 1."""
    from scipy.ndimage import gaussian_filter

    known = np.isfinite(fits.chi2)
    freedom = np.where(known, 2.0 * fits.count - 6, 0.0)
    own = np.where(known, fits.chi2, 0.0)
    sums, weights = (
        gaussian_filter(a.reshape(shape), CHI2_POSITIONS, mode="constant").ravel()
        for a in (own * freedom, freedom)
    )
    around = np.divide(sums, weights, out=np.ones(len(own)), where=weights > 1e-6)
    limit = 1 + 5 * np.sqrt(2 / np.maximum(freedom, 1.0))
    scale: Float = np.maximum(1.0, np.where(own > around * limit, own, around))
    return scale
