"""Over what part of the specimen a measured strain is an average, and what that hides."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration

__all__ = ["edge_resolution_A", "with_unresolved"]

Float = NDArray[np.float64]
_EDGE_FACTOR = 0.86
_SAMPLES = 40
_CLEAR = 2.5
"""Standard deviations of noise that a change must exceed: noise must not enlarge its own sigma."""


def edge_resolution_A(calibration: Calibration) -> float:
    """Standard deviation (Å) of the region whose strain a disk's edges measure.

    ``0.86 / q_r`` with the radius q_r of the disks in Å⁻¹.  What is sharp in diffraction is far
    from the probe's centre: the edges of a disk are made by the tails of the probe, and see the
    strain over a wider region than its intensity covers.  The factor is the width of the response
    of the template fit to a step of strain in a focused, aberration-free probe, found numerically
    for edges blurred (pixels included) by a twelfth of the radius; sharper edges see farther, about
    in proportion.

    Raises
    ------
    CalibrationMissing
        The radius of the probe or the pixel size is not known.
    """
    radius_px = calibration.semiangle_px()
    pixel_A = math.sqrt(math.prod(calibration.Q_steps("A^-1")))
    return _EDGE_FACTOR / (radius_px * pixel_A)


def with_unresolved(maps: Float, covariance: Float, widths: tuple[float, float]) -> Float:
    """Covariances plus the square of what an average over the resolution changes.

    Parameters
    ----------
    maps : (k, Rx, Ry) float64
        Measured components; NaN where there are none.
    covariance : (Rx, Ry, k, k) float64
        Of the components at each position.
    widths : (float, float)
        Standard deviation of the resolution along x and y, in scan positions.

    Notes
    -----
    With the average K over the resolution, the map m = K e of a strain e differs from it by about
    ``(1 − K) m + (1 − K)² m`` (two terms of Van Cittert's series).  Where the first is more than
    noise makes of it, the square of the sum, less that noise, is added to the variances.
    """
    # Beyond the scan a wider Gaussian is as good as level.
    kernels = [_weights(min(width, n)) for width, n in zip(widths, maps.shape[1:], strict=True)]
    middle = math.prod(float(k[len(k) // 2]) for k in kernels)
    squares = [k**2 for k in kernels]
    out = covariance.copy()
    for index, values in enumerate(maps):
        variance = covariance[..., index, index]
        change = values - _average(values, kernels)
        noise = (1 - 2 * middle) * variance + _sum(variance, squares)
        clear = change**2 > _CLEAR**2 * noise
        # The map is blurred already: its own change falls short of what the blur took away.
        lost = 2 * change - _average(change, kernels)
        out[..., index, index] += np.where(clear, lost**2 - noise, 0.0).clip(0.0)
    return out


def _weights(width: float) -> Float:
    """Weights of neighbouring positions for a Gaussian over values interpolated between them."""
    half = max(1, math.ceil(4 * width))
    x = (np.arange((2 * half + 1) * _SAMPLES) + 0.5) / _SAMPLES - 0.5 - half
    gauss = np.exp(-(x**2) / (2 * max(width, 1e-3) ** 2))
    tents = np.maximum(0.0, 1 - np.abs(x - np.arange(-half, half + 1)[:, None]))
    weights = tents @ gauss
    scaled: Float = weights / weights.sum()
    return scaled


def _average(values: Float, kernels: list[Float]) -> Float:
    """Weighted mean of the known neighbours; NaN stays where there is no value."""
    known = np.isfinite(values)
    total = _sum(np.where(known, values, 0.0), kernels)
    weight = _sum(known.astype(float), kernels)
    return np.where(known, total / np.where(weight > 0, weight, 1.0), np.nan)


def _sum(values: Float, kernels: list[Float]) -> Float:
    from scipy.ndimage import convolve1d  # slow to import

    along_x = convolve1d(np.nan_to_num(values), kernels[0], axis=0, mode="nearest")
    both: Float = convolve1d(along_x, kernels[1], axis=1, mode="nearest")
    return both
