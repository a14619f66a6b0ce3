"""Diffraction spots of a nearly parallel beam: found without a template."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Detector
from py4DSTEM.core.parameters import numbers
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.bragg.detect import Subpixel, find_bragg_disks
from py4DSTEM.process.bragg.peaks import BraggPeaks
from py4DSTEM.process.bragg.search import sample_patterns
from py4DSTEM.process.bragg.spot import Spot
from py4DSTEM.process.probe_kernels import KernelKind
from py4DSTEM.stream.options import RunOptions

__all__ = ["find_spots", "measure_spot_width"]

Float = NDArray[np.float64]
_SPOTS = 60
_BESIDE_PX = 7
"""A spot whose width is measured has no brighter one so near."""
_LEAST_HEIGHT = 8.0
"""Of such a spot above its surroundings, in standard deviations of the counts there."""
_LEAST_SPOTS = 3
_REWEIGHTED = 3


def find_spots(
    cube: Cube, *, sigma_px: float | None = None,
    subpixel: Subpixel = "fit", kernel: KernelKind = "auto", corr_power: float = 1.0,
    stabilise: bool = True, sigma_cc_px: float | None = None, min_significance: float = 5.0,
    min_intensity: float = 0.0, min_relative_intensity: float = 0.0, relative_to: int = 0,
    min_spacing_px: float | None = None, spacing_px: float | None = None,
    edge_px: float | None = None, max_peaks: int = 100, threshold: float | None = None,
    slope: Literal["auto"] | float = 0.0, gain: float | None = None, read_noise: float = 0.0,
    saturation: float | None = None, leave_out_defects: bool = True, samples: int = 49,
    mask: Detector | ArrayLike | None = None, where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> BraggPeaks:  # fmt: skip
    """Find the spots of a nearly parallel beam in every pattern, with uncertainties.

    The search of `find_bragg_disks` with a Gaussian, summed over pixels, in place of the disk.

    Parameters
    ----------
    cube : DataCube
    sigma_px : float, optional
        Standard deviation of a spot in pixels (before the area of the pixels); None: the median
        over the brightest isolated spots of sampled patterns.
    subpixel, kernel, corr_power, stabilise, sigma_cc_px
    min_significance, min_intensity, min_relative_intensity, relative_to
    min_spacing_px, spacing_px, edge_px, max_peaks, threshold, slope
    gain, read_noise, saturation, leave_out_defects, samples
        As of `find_bragg_disks`; spots are even (``slope=0``) unless it is given.
    mask : Detector or (Qx, Qy) bool, optional
        Pixels to use: False at a beam stop and in dead regions.
    where : (Rx, Ry) bool, optional
        Positions to search; the others have no peaks.
    options : RunOptions, optional

    Returns
    -------
    BraggPeaks
        ``report["sigma_px"]`` is the width of the spots.

    Raises
    ------
    ParameterError
        `sigma_px` is not given and no spots stand out of the sampled patterns, or they are so wide
        that they are disks.

    Notes
    -----
    The centre of mass of a window around a maximum, as usually taken for spots, is drawn to the
    middle of the window by the background and to neighbouring pixels by noise; the fit of a
    pixel-integrated Gaussian by maximum likelihood reaches the Cramér–Rao bound, near
    ``σ / √N`` for N electrons in the spot (Thompson, Larson, Webb, Biophys. J. 82, 2775 (2002),
    doi:10.1016/S0006-3495(02)75618-X).

    Examples
    --------
    >>> from py4DSTEM import DataCube
    >>> i, j = np.indices((32, 32))
    >>> spots = sum(900 * np.exp(-((i - x) ** 2 + (j - 15.8) ** 2) / 2) for x in (7.3, 15.1, 23.9))
    >>> counts = np.random.default_rng(0).poisson(spots + 1.0, (2, 2, 32, 32))
    >>> peaks = find_spots(DataCube(counts.astype("u2")))
    >>> peaks.counts.tolist(), [round(float(x), 1) for x in sorted(peaks[0, 0]["qx"])]
    ([[3, 3], [3, 3]], [7.3, 15.1, 23.9])
    """
    reported: dict[str, Any] = {}
    if sigma_px is None:
        sigma_px, doubt, count = measure_spot_width(cube, where, saturation=saturation)
        reported = {"sigma_px_uncertainty": doubt, "spots_measured": count}
    (sigma_px,) = numbers("sigma_px", sigma_px, 1)
    found = find_bragg_disks(
        cube, Spot(float(sigma_px)), mask=mask, where=where, options=options,
        subpixel=subpixel, kernel=kernel, corr_power=corr_power,
        stabilise=stabilise, sigma_cc_px=sigma_cc_px, min_significance=min_significance,
        min_intensity=min_intensity, min_relative_intensity=min_relative_intensity,
        relative_to=relative_to, min_spacing_px=min_spacing_px, spacing_px=spacing_px,
        edge_px=edge_px, max_peaks=max_peaks, threshold=threshold, slope=slope, gain=gain,
        read_noise=read_noise, saturation=saturation, leave_out_defects=leave_out_defects,
        samples=samples,
    )  # fmt: skip
    report = {**found.report, "sigma_px": float(sigma_px), **reported}
    return replace(found, name="spots", report=report)


# ---- the width of spots --------------------------------------------------------------------------
def measure_spot_width(
    cube: Cube, where: ArrayLike | None = None, *, saturation: float | None = None
) -> tuple[float, float, int]:
    """Standard deviation (px) of the spots, its uncertainty, and of how many spots.

    Raises
    ------
    ParameterError
        No spots stand out of the sampled patterns.
    """
    weights = None if where is None else np.asarray(where, np.float64)
    return _spot_width(sample_patterns(cube, 25, weights)[1], saturation)


def _spot_width(patterns: NDArray[Any], saturation: float | None) -> tuple[float, float, int]:
    """Median width of bright spots, its uncertainty, and of how many spots."""
    widths: list[float] = []
    for pattern in patterns:
        counts = np.where(np.isfinite(pattern), pattern, 0).astype(np.float64)
        limit = np.inf if saturation is None else saturation
        widths += [_width(counts, *place) for place in _bright_maxima(counts, limit)]
        if len(widths) >= _SPOTS:
            break
    known = np.array([w for w in widths if math.isfinite(w)])
    if len(known) < _LEAST_SPOTS:
        raise ParameterError(
            "no spots stand out of the sampled patterns: give sigma_px=, the standard deviation of "
            "a spot in pixels; for disks use find_bragg_disks"
        )
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - middle)))
    return middle, 1.25 * spread / math.sqrt(len(known)), len(known)


def _bright_maxima(counts: Float, saturation: float) -> list[tuple[int, int]]:
    """Highest pixels with nothing brighter nearby, well above their surroundings."""
    from scipy import ndimage  # slow to import

    # A flat top and a lone hot pixel are no spots: smooth a little before looking.
    smooth = ndimage.gaussian_filter(counts, 0.7)
    top = smooth == ndimage.maximum_filter(smooth, 2 * _BESIDE_PX + 1)
    level = ndimage.median_filter(counts, 2 * _BESIDE_PX + 1)
    top &= smooth > level + _LEAST_HEIGHT * np.sqrt(np.maximum(level, 1.0)) / 2
    top &= counts < saturation
    top[:_BESIDE_PX], top[-_BESIDE_PX:] = False, False
    top[:, :_BESIDE_PX], top[:, -_BESIDE_PX:] = False, False
    i, j = np.nonzero(top)
    order = np.argsort(-smooth[i, j])[:12]
    return list(zip(i[order].tolist(), j[order].tolist(), strict=True))


def _width(counts: Float, i: int, j: int) -> float:
    """Width of the spot at a maximum, by weighted least squares; NaN where there is none."""
    from scipy.optimize import least_squares

    half = _BESIDE_PX
    window = counts[i - half : i + half + 1, j - half : j + half + 1]
    rim = np.concatenate([window[0], window[-1], window[:, 0], window[:, -1]])
    base, high = float(np.median(rim)), float(window[half, half])
    offset = np.arange(-half, half + 1.0)
    near = np.hypot(offset[:, None], offset) <= half
    above = np.maximum(window - base, 0.0) * (np.hypot(offset[:, None], offset) <= half / 2)
    second = float((above * (offset[:, None] ** 2 + offset**2)).sum() / above.sum()) / 2
    start = np.array([0.0, 0.0, high - base, base, math.sqrt(max(second, 0.25))])
    bounds = ([-1.5, -1.5, 0, -np.inf, 0.15], [1.5, 1.5, np.inf, np.inf, half])

    def model(p: Float) -> Float:
        spot = Spot(p[4]).height_at(offset[:, None] - p[0], offset[None, :] - p[1])
        expected: Float = p[2] * spot + p[3]
        return expected

    fit = np.clip(start, *bounds)
    for _ in range(_REWEIGHTED):
        # Weights from the model, not from the counts: those would favour pixels by chance low.
        scale = np.sqrt(np.maximum(model(fit), 0.02 * high))
        fit = least_squares(
            lambda p, scale=scale: ((window - model(p)) / scale)[near], fit, bounds=bounds
        ).x
    settled = fit[4] < 0.5 * half and np.abs(fit[:2]).max() < 1.4
    return float(fit[4]) if settled and fit[2] > 0 else math.nan
