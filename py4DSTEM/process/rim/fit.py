"""Least-squares fit of a soft-edged, possibly elliptical disk to a pattern."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.defects import counting_noise, hot_pixels
from py4DSTEM.process.rim.guess import spikes
from py4DSTEM.process.rim.model import (
    BACK,
    CX,
    CY,
    E1,
    HEIGHT,
    LOG_EDGE,
    RAMP_X,
    RAMP_Y,
    R,
    ellipse_of,
)
from py4DSTEM.process.rim.passes import Fit, circular, elliptical, outermost, refined, rough_fit
from py4DSTEM.process.rim.window import Window, check_inside

__all__ = ["RimFit", "fit_rim"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

LEAST_HEIGHT_RATIO = 7.0
"""Height of the disk over its own uncertainty below which there is no beam."""
LEAST_COUNTS = 100
"""Electrons in the disk below which there is no beam."""
_SOFTEST = 2.0
"""Edge over radius of what is no disk; a Gaussian has about one."""


@dataclass(frozen=True, eq=False)
class RimFit:
    """A soft-edged disk ``background + height (1 + ramp·p/R) erfc((ρ − R)/(√2 σ)) / 2``.

    Parameters
    ----------
    center, radius_px, edge_px, rim
        As of a `Probe`.
    height, background : float
        Of the disk and beside it, in the units of the pattern.
    ramp : (float, float)
        Relative change of the height from the centre to the rim along x and y.
    sigma_center, sigma_radius_px, sigma_edge_px
        One-sigma uncertainties: covariance times reduced χ².
    chi2 : float
        Reduced χ² before that; near one by construction of the weights, see `fit_rim`.
    misfit : float
        Rms by which the rim differs from the model beyond counting noise, over the height.
    structure : float
        Rms contrast inside the disk beyond counting noise, over the height.
    patterned : bool
        Whether that is the pattern of a structured aperture.
    used : (Qx, Qy) bool
        Pixels that were fitted.
    """

    center: tuple[float, float]
    radius_px: float
    edge_px: float
    rim: Ellipse
    height: float
    background: float
    ramp: tuple[float, float]
    sigma_center: tuple[float, float]
    sigma_radius_px: float
    sigma_edge_px: float
    chi2: float
    misfit: float
    structure: float
    patterned: bool
    used: Bool


def fit_rim(pattern: ArrayLike, *, gain: float | None = None) -> RimFit:
    """Fit the brightest disk of a pattern.

    Parameters
    ----------
    pattern : (Qx, Qy) real
        NaN and infinite pixels are left out.
    gain : float, optional
        Variance over mean of the counting noise; None: one for integers, else as the inside of the
        disk shows it.

    Raises
    ------
    ShapeError
        Not one pattern.
    ParameterError
        No intensity, no disk, or no rim within the pattern.
    SolveError
        The fit met numbers that are not finite.

    Notes
    -----
    Weighted least squares over the pixels of the disk and a margin.  The variance of a pixel is
    ``gain * model + (misfit * height)²``: what the residuals at the rim show beyond counting noise
    (an edge that is not Gaussian) is added to it, so that high doses do not turn the shape of the
    edge into a bias.
    """
    values, known, gain = _checked(pattern, gain)
    known &= ~spikes(values, known)
    # Two hot pixels side by side are no spikes.
    floor = counting_noise(values, 1, True) * math.sqrt(gain or 1.0)
    known &= ~hot_pixels(np.where(known, values, np.nan), floor=floor)
    p, ceiling = rough_fit(values, known, gain)
    whole = np.ones(10, bool)
    whole[RAMP_X:E1] = math.isinf(ceiling)  # a plateau hides the slope
    fit = refined(values, known, p, ceiling, whole, gain)
    structure = fit.noise.structure
    if structure:
        fit = outermost(fit, gain)
    if not elliptical(fit):
        fit = circular(fit)
    return _result(fit, gain, structure)


def _checked(pattern: ArrayLike, gain: float | None) -> tuple[Float, Bool, float | None]:
    array = np.asarray(pattern)
    if array.ndim != 2 or min(array.shape, default=0) < 4:
        raise ShapeError(f"a probe is measured in one pattern (Qx, Qy), not {array.shape}")
    if array.dtype.kind not in "buif":
        raise ParameterError(f"a pattern holds real numbers, not {array.dtype}")
    values = array.astype(np.float64)
    known = np.isfinite(values)
    if not known.any():
        raise ParameterError("no pixel of the pattern is finite: choose another pattern")
    if array.dtype.kind in "bui" and gain is None:
        gain = 1.0
    return np.where(known, values, 0.0), known, gain


def _result(fit: Fit, gain: float | None, structure: float) -> RimFit:
    window, p = fit.window, fit.p
    scale = fit.scale()
    sigma = np.full(10, np.nan)
    sigma[fit.free] = np.sqrt(np.maximum(np.diag(fit.covariance) * scale, 0))
    check_inside(p[CX], p[CY], p[R], window.shape)
    _check_significant(fit, sigma, gain)
    edge = math.exp(p[LOG_EDGE])
    if edge > _SOFTEST * p[R]:
        raise ParameterError(
            f"no rim of a disk in the pattern: its brightest region fades over {edge:.3g} px, and "
            f"is {p[R]:.3g} px in radius; for spots use find_spots, else synthetic_probe"
        )
    used = np.zeros(window.shape, bool)
    used[window.index] = True
    return RimFit(
        center=(float(p[CX]), float(p[CY])),
        radius_px=float(p[R]),
        edge_px=edge,
        rim=ellipse_of(float(p[R]), p[E1:]),
        height=float(p[HEIGHT]),
        background=float(p[BACK]),
        ramp=(float(p[RAMP_X]), float(p[RAMP_Y])),
        sigma_center=(float(sigma[CX]), float(sigma[CY])),
        sigma_radius_px=float(sigma[R]),
        sigma_edge_px=float(sigma[LOG_EDGE] * edge),
        chi2=scale,
        misfit=fit.noise.misfit,
        structure=structure,
        patterned=structure > 0,
        used=used,
    )


def _check_significant(fit: Fit, sigma: Float, gain: float | None) -> None:
    height, p = fit.p[HEIGHT], fit.p
    counts = math.pi * p[R] ** 2 * height / gain if gain else math.inf
    if height > LEAST_HEIGHT_RATIO * sigma[HEIGHT] and counts > LEAST_COUNTS:
        return
    raise ParameterError(
        f"no beam that can be measured: the brightest spot is {height:.3g} ± "
        f"{sigma[HEIGHT]:.2g} high, {p[R]:.3g} px in radius{_saturated(fit.window)}; use a "
        "pattern with more counts that is not saturated, such as the mean of a vacuum scan"
    )


def _saturated(window: Window) -> str:
    return "" if math.isinf(window.ceiling) else f" and saturated at {window.ceiling:.4g}"
