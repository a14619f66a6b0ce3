"""Intensity slopes inside Bragg disks, smoothed over the scan, to sharpen the disk positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.points import PointTable

__all__ = ["SlopeUpdate", "has_slopes", "smooth_slopes"]

Float = NDArray[np.float64]
FIELDS = ("slope_x", "slope_y", "sigma_slope", "coupling")
FEWEST = 8
"""Positions that a reflection must have, for a field to be smoothed."""


@dataclass(frozen=True, eq=False)
class SlopeUpdate:
    """What is to be added to positions (n, 2) and to the variances along x and y (n,)."""

    shift: Float
    variance: Float
    report: dict[str, Any]


def has_slopes(peaks: PointTable) -> bool:
    """Whether there are slopes with uncertainties to work on."""
    if not set(FIELDS) <= set(peaks.dtype.names or ()):
        return False
    sigma = peaks.points["sigma_slope"]
    return bool((np.isfinite(sigma) & (sigma > 0)).any())


def smooth_slopes(
    peaks: PointTable,
    indices: NDArray[np.int32],
    usable: NDArray[np.bool_],
    *,
    sigma_positions: float = 2.0,
    prior_px: float | None = None,
) -> SlopeUpdate:
    """Positions given that the slopes of each reflection vary smoothly over the scan.

    Parameters
    ----------
    peaks : BraggPeaks
        With the fields ``slope_x, slope_y, sigma_slope, coupling``.
    indices : (n, 2) int
        h, k of every peak.
    usable : (n,) bool
        Peaks on the lattice of their position.
    sigma_positions : float
        Width (standard deviation) of the Gaussian average, in scan positions.
    prior_px : float, optional
        Standard deviation of the zero-mean Gaussian prior (per pixel) that was already put on the
        slopes in the fit of each disk; None: none.

    Returns
    -------
    SlopeUpdate

    Notes
    -----
    The fit of a disk gives a joint Gaussian of its centre q and slope s along each axis: var(s) =
    σ², regression coefficient c = ∂q/∂s.  A prior acts on s alone; p(q | s) does not know of it.
    So the prior of the fit is divided out, ``1/σ_L² = 1/σ² − 1/prior²`` with the mean
    ``s σ_L²/σ²``, and another one, N(m, τ²), put in its place:

    ``1/v = 1/σ_L² + 1/τ²``,  ``s' = v (s/σ² + m/τ²)``,
    ``q' = q + c (s' − s)``,  ``var(q') = var(q) + c² (v − σ²)``.

    m is the average of the slopes of the same reflection at the neighbouring positions (its own
    left out), weighted with a Gaussian and with 1/σ_L².  τ² is the variance of that average plus
    the scatter of the true slopes about it, which is taken from the data, reflection by reflection:
    the excess of ``(s_L − m)²`` over its variance from noise (empirical Bayes).
    """
    points = peaks.points
    slope = np.stack([points["slope_x"], points["slope_y"]], -1).astype(np.float64)
    variance = points["sigma_slope"].astype(np.float64) ** 2
    coupling = points["coupling"].astype(np.float64)
    usable = usable & np.isfinite(slope).all(1) & np.isfinite(coupling) & (variance > 0)
    usable &= np.isfinite(variance)
    flat = np.repeat(np.arange(len(peaks.offsets) - 1), np.diff(peaks.offsets))
    update = SlopeUpdate(np.zeros((len(points), 2)), np.zeros(len(points)), {})
    excess = []
    for rows in _reflections(indices, usable, flat):
        information = 1 / variance[rows]
        likelihood = np.maximum(information - (0.0 if prior_px is None else prior_px**-2), 0.0)
        score = slope[rows] * information[:, None]  # s_L / σ_L², also where that is 0 / ∞
        mean, noise = _neighbours(peaks.shape, flat[rows], score, likelihood, sigma_positions)
        tau2 = _scatter(score, likelihood, mean, noise)
        known = np.isfinite(noise) & (tau2 + noise > 0)
        part, tau2_all = rows[known], (tau2 + noise)[known]
        v = 1 / (likelihood[known] + 1 / tau2_all)
        new = v[:, None] * (score[known] + mean[known] / tau2_all[:, None])
        update.shift[part] = coupling[part, None] * (new - slope[part])
        update.variance[part] = coupling[part] ** 2 * (v - variance[part])
        excess.append(tau2)
    update.report.update(
        {
            "reflections": len(excess),
            "smoothed over (positions)": float(sigma_positions),
            "scatter about the smooth field (per px)": float(np.sqrt(np.median(excess)))
            if excess
            else None,
        }
    )
    return update


def _reflections(
    indices: NDArray[np.int32], usable: NDArray[np.bool_], flat: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Rows of every reflection that is at enough positions; each position once."""
    rows = np.flatnonzero(usable)
    if not len(rows):
        return []
    h, k = (indices[rows, axis].astype(np.int64) for axis in (0, 1))
    code = (h - h.min()) * (np.ptp(k) + 1) + (k - k.min())
    order = np.lexsort((flat[rows], code))
    rows, code = rows[order], code[order]
    first = np.ones(len(rows), np.bool_)
    first[1:] = (np.diff(code) != 0) | (np.diff(flat[rows]) != 0)
    rows, code = rows[first], code[first]
    parts = np.split(rows, np.flatnonzero(np.diff(code)) + 1)
    return [part for part in parts if len(part) >= FEWEST]


def _neighbours(
    shape: tuple[int, int],
    flat: NDArray[np.int64],
    score: Float,
    likelihood: Float,
    sigma_positions: float,
) -> tuple[Float, Float]:
    """Mean slope (m, 2) of the neighbours, and its variance (m,): infinite where there are none."""
    maps = np.zeros((3, shape[0] * shape[1]))
    maps[:2, flat], maps[2, flat] = score.T, likelihood
    images = maps.reshape(3, *shape)
    reach = int(np.ceil(4 * sigma_positions))
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma_positions**2))
    # The kernel is 1 in its middle: what a position itself contributes is its own value.
    total = _averaged(images, kernel).reshape(3, -1)[:, flat] - np.vstack([score.T, likelihood])
    spread = _averaged(images[2:], kernel**2).reshape(-1)[flat] - likelihood
    # Below a hundredth of a neighbour the difference above is rounding, and no information.
    enough = total[2] > 0.01 * float(np.median(likelihood))
    weight = np.where(enough, total[2], np.inf)
    mean = np.where(enough, total[:2], 0.0) / np.where(enough, total[2], 1.0)
    return mean.T, np.where(enough, np.maximum(spread, 0.0) / weight**2, np.inf)


def _averaged(maps: Float, kernel: Float) -> Float:
    from scipy.ndimage import convolve1d

    along_x = convolve1d(maps, kernel, axis=1, mode="constant")
    both: Float = convolve1d(along_x, kernel, axis=2, mode="constant")
    return both


def _scatter(score: Float, likelihood: Float, mean: Float, noise: Float) -> float:
    """Variance of the true slopes about the average of their neighbours."""
    known = (likelihood > 0) & np.isfinite(noise)
    if not known.any():
        return 0.0
    expected = 1 / likelihood[known] + noise[known]
    square = ((score[known] / likelihood[known, None] - mean[known]) ** 2).mean(1)
    weight = expected**-2.0
    return max(float(weight @ (square - expected) / weight.sum()), 0.0)
