"""What a calibration leaves over, as curves, maps and words for any screen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.contrast import fast_limits
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.plot.figures.canvas import ACCENT, SECOND, pm, symmetric_limit
from py4DSTEM.plot.figures.rings import polar_views
from py4DSTEM.process.calibrate.ellipse import EllipseMeasurement
from py4DSTEM.process.calibrate.origin_fit import OriginFit, OriginMeasurement
from py4DSTEM.process.calibrate.pixel_size import PixelSizeMeasurement
from py4DSTEM.process.calibrate.ring_angles import ring_angles
from py4DSTEM.process.calibrate.rotation import RotationMeasurement

__all__ = [
    "Chart", "Curve", "Maps", "ellipse_maps", "ellipse_words", "line_deviations",
    "origin_residuals", "origin_sigmas", "pixel_size_words", "ring_deviations", "ring_profiles",
    "rotation_curves", "rotation_words",
]  # fmt: skip

Array = NDArray[Any]
Pair = tuple[float, float]
_CURVES = {"curl_rms": "curl", "div_rms": "divergence", "misfit_rms": "misfit of the shifts"}


@dataclass(frozen=True, eq=False)
class Curve:
    """A line, or points with bars where there are sigmas."""

    x: Array
    y: Array
    name: str
    color: str
    sigma: Array | None = None
    dashed: bool = False


@dataclass(frozen=True, eq=False)
class Chart:
    """Curves with their axes, and places on the x axis that have names.

    `y_range`: what is worth seeing; None: everything.
    """

    curves: tuple[Curve, ...]
    x_label: str
    y_label: str
    places: tuple[tuple[float, str], ...] = ()
    y_range: Pair | None = None


@dataclass(frozen=True, eq=False)
class Maps:
    """Two maps on one scale."""

    images: tuple[Array, Array]
    titles: tuple[str, str]
    limits: tuple[float, float]
    colors: str
    label: str
    axes: tuple[Axis, Axis] | None = None


# ---- origin --------------------------------------------------------------------------------------
def origin_residuals(measured: OriginMeasurement, fit: OriginFit) -> Maps:
    """How far the measured origins lie from a surface."""
    left = measured.residual_px(fit)
    limit = symmetric_limit(left, percentile=98)
    titles = tuple(
        f"{name} − {fit.model}: {rms:.2g} px rms"
        for name, rms in zip(("qx", "qy"), fit.residual_px, strict=True)
    )
    return Maps(
        (left[..., 0], left[..., 1]), titles, (-limit, limit), "RdBu_r",  # type: ignore[arg-type]
        "residual (px)", measured.calibration.R,
    )  # fmt: skip


def origin_sigmas(measured: OriginMeasurement) -> Maps:
    """Uncertainties of the measured origins."""
    sigma = measured.sigma_px
    high = symmetric_limit(sigma, percentile=98)
    return Maps(
        (sigma[..., 0], sigma[..., 1]), ("sigma of qx", "sigma of qy"), (0.0, high), "viridis",
        "one sigma (px)", measured.calibration.R,
    )  # fmt: skip


# ---- rings ---------------------------------------------------------------------------------------
def ellipse_words(found: EllipseMeasurement, origin_px: Pair = (0.0, 0.0)) -> str:
    """Ratio, direction and centre with their uncertainties; `origin_px` is added to the centre."""
    theta, sigma = math.degrees(found.ellipse.theta_rad), math.degrees(found.sigma_theta_rad)
    (x, y), (sx, sy) = np.add(found.center, origin_px).tolist(), found.sigma_center
    return (
        f"Semi-axes a / b = {pm(found.ratio, found.sigma_ratio)}, a at {pm(theta, sigma)}° from x "
        f"(down) towards y (right).\nCentre ({pm(x, sx)}, {pm(y, sy)}) px; "
        f"{len(found.radii_px)} rings, residual {found.residual:.2g} "
        f"{'px' if found.method == 'peaks' else 'times the noise'}."
    )


def ellipse_maps(found: EllipseMeasurement, pattern: DiffractionSlice) -> Maps:
    """The rings over angle and radius, before and after: straight lines are circles."""
    before, after, radii = polar_views(found, pattern)
    across = f"r {radii[0]:.0f} … {radii[-1]:.0f} px →, angle ↓"
    return Maps(
        (before, after), ("as measured", "corrected"), fast_limits(before, (1.0, 99.5)), "inferno",
        across,
    )  # fmt: skip


def ring_profiles(found: EllipseMeasurement) -> Chart:
    """Mean intensity over radius, before and after."""
    # The direct beam would hide the rings.
    near = found.profile[0] > 0.6 * found.radii_px.min()
    radius, as_measured, corrected = found.profile[:, near]
    curves = (
        Curve(radius, as_measured, "as measured", SECOND, dashed=True),
        Curve(radius, corrected, "corrected", ACCENT),
    )
    places = tuple((float(r), "") for r in found.radii_px)
    return Chart(curves, "radius (px)", "mean intensity", places)


def ring_deviations(found: EllipseMeasurement, source: DiffractionSlice | PointTable) -> Chart:
    """How far the rings lie from circles in every direction, before and after."""
    angles = ring_angles(found, source)
    degrees, sigma = np.degrees(angles.angle_rad), 100 * angles.sigma
    curve = angles.curve
    curves = (
        Curve(degrees, 100 * angles.before, "as measured", SECOND, sigma),
        Curve(np.degrees(curve[0]), 100 * curve[1], "the ellipse", SECOND, dashed=True),
        Curve(degrees, 100 * angles.after, "corrected", ACCENT, sigma),
    )
    return Chart(curves, "direction, x (down) 0°, y (right) 90°", "off a circle (%)")


def pixel_size_words(found: PixelSizeMeasurement) -> str:
    """Pixel size with its uncertainty, and whether the lines agree."""
    sizes = " × ".join(
        dict.fromkeys(pm(v, s) for v, s in zip(found.pixel_size_A, found.sigma_A, strict=True))
    )
    words = (
        f"{sizes} Å⁻¹ per pixel, from {len(found.lines)} lines of {found.reference}.\n"
        f"They deviate by {100 * found.residual:.2g} % (rms), {math.sqrt(found.chi2):.2g} times "
        "their uncertainties."
    )
    if found.ellipse is not None:
        words += "\nThe rings are ellipses: this one comes with the pixel size."
    return words + "\nThe error of the lattice parameter of the standard is not contained."


def line_deviations(found: PixelSizeMeasurement) -> Chart:
    """How far the ring of each line lies from the common fit, with its uncertainty."""
    lines = found.lines
    sigma = 100 * lines["sigma_px"] / lines["radius_px"]
    deviation = Curve(lines["q_A"], 100 * lines["residual"], "deviation", ACCENT, sigma)
    places = tuple((float(line["q_A"]), str(line["label"])) for line in lines)
    # Rings that are not resolved have bars, and deviations, that would hide the others.
    resolved = sigma <= 3 * np.median(sigma)
    limit = 1.2 * symmetric_limit((np.abs(deviation.y) + sigma)[resolved], percentile=100)
    return Chart((deviation,), "q (Å⁻¹)", "deviation of the ring (%)", places, (-limit, limit))


# ---- rotation ------------------------------------------------------------------------------------
def rotation_words(found: RotationMeasurement) -> str:
    """Angle and flip with what tells for them."""
    first, *rest = found.text().splitlines()
    return "\n".join([first[:1].upper() + first[1:], *rest])


def rotation_curves(found: RotationMeasurement) -> Chart:
    """What every angle leaves, for both flips."""
    name = next(n for n in ("curl_rms", "misfit_rms", *found.curve) if n in found.curve)
    angles = np.degrees(found.curve["angles_rad"])
    curves = tuple(
        Curve(angles, found.curve[name][int(flip)], label, color, dashed=flip != found.flip)
        for flip, label, color in ((False, "no flip", SECOND), (True, "x and y exchanged", ACCENT))
    )
    at = (found.rotation_deg + 90) % 180 - 90
    return Chart(
        curves, "rotation modulo 180° (°)", f"rms {_CURVES.get(name, name)} / whole", ((at, ""),)
    )
