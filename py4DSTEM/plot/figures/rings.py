"""Rings: the ellipse that they have become, and the pixel size that their radii give."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.plot.draw import show
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.calibrate.ellipse import EllipseMeasurement
    from py4DSTEM.process.calibrate.pixel_size import PixelSizeMeasurement

__all__ = ["polar_views", "show_ellipse", "show_pixel_size"]

Float = NDArray[np.float64]
Pair = tuple[float, float]
_RING = "#56B4E9"
_ANGLES, _RADII = 180, 240


def show_ellipse(measured: EllipseMeasurement, pattern: DiffractionSlice | None = None) -> Figure:
    """Draw a measured elliptic distortion.

    Parameters
    ----------
    measured : EllipseMeasurement
    pattern : DiffractionSlice, optional
        What it was measured in (for peaks: their Bragg vector map); without it only the radial
        profiles are drawn.

    Returns
    -------
    Figure
        The pattern with the fitted rings, radial profiles before and after the correction, and the
        pattern in polar coordinates (angle from x towards y) before and after: straight lines are
        circles.
    """
    rows = 1 if pattern is None else 2
    figure = canvas.new_figure(9.6 if pattern else 6.4, 3.3 * rows + 0.4)
    theta = canvas.pm(math.degrees(measured.ellipse.theta_rad),
                      math.degrees(measured.sigma_theta_rad))  # fmt: skip
    figure.suptitle(
        f"ellipse a/b = {canvas.pm(measured.ratio, measured.sigma_ratio)}, θ = {theta}°",
        parse_math=False,
    )
    if pattern is None:
        _profiles(figure.subplots(), measured)
        return figure
    center = _center(measured, pattern)
    grid = figure.subplots(2, 2, width_ratios=(1, 1.3))
    _rings(grid[0, 0], measured, pattern, center)
    _profiles(grid[0, 1], measured)
    views = polar_views(measured, pattern)
    limits = canvas.between(views[0], 1, 99.5)
    for ax, image, title in zip(grid[1], views[:2], ("as measured", "corrected"), strict=True):
        _polar(ax, image, views[2], measured, title, limits)
    return figure


def polar_views(
    measured: EllipseMeasurement, pattern: DiffractionSlice
) -> tuple[Float, Float, Float]:
    """A pattern over angle (from x towards y, rows) and radius, before and after the correction.

    Parameters
    ----------
    measured : EllipseMeasurement
    pattern : DiffractionSlice
        What it was measured in, (Qx, Qy); for peaks: their Bragg vector map.

    Returns
    -------
    before, after : (180, n) float64
        Rings are straight where they are circles; NaN beside the detector.
    radii_px : (n,) float64
    """
    ellipse, center = measured.ellipse, _center(measured, pattern)
    image = np.asarray(pattern.data, np.float64)
    shapes = Ellipse(ellipse.a, ellipse.a, 0.0), ellipse
    (before, radii), (after, _) = (polar(image, center, s, _reach(measured)) for s in shapes)
    return before, after, radii


def _center(measured: EllipseMeasurement, pattern: DiffractionSlice) -> Pair:
    """Of the rings in the pixels of the pattern; that of peaks is relative to their origin."""
    if pattern.data.ndim != 2:
        raise ParameterError(f"one pattern, not a stack of {pattern.data.shape}")
    x, y = measured.center
    if measured.method != "peaks":
        return x, y
    ox, oy = pattern.calibration.mean_origin_px
    return ox + x, oy + y


def _rings(ax: Axes, measured: EllipseMeasurement, pattern: DiffractionSlice, center: Pair) -> None:
    from py4DSTEM.plot.figures.probe import rim_outline

    show(pattern, ax=ax, scale=0.4, title="pattern and fitted rings")
    ellipse = measured.ellipse
    # One half, so that the other shows the rings themselves.
    outline = rim_outline(ellipse.a, ellipse.b, ellipse.theta_rad)[:, :91]
    for radius in measured.radii_px:
        x, y = outline * radius / math.sqrt(ellipse.a * ellipse.b)
        ax.plot(center[1] + y, center[0] + x, color=_RING, linewidth=0.9)
    ax.plot(center[1], center[0], "+", color=_RING, markersize=7)
    ax.set_xlim(-0.5, pattern.shape[1] - 0.5)
    ax.set_ylim(pattern.shape[0] - 0.5, -0.5)


def _profiles(ax: Axes, measured: EllipseMeasurement) -> None:
    radius, before, after = measured.profile
    near = radius > 0.6 * measured.radii_px.min()
    near &= np.isfinite(before) & np.isfinite(after)
    ax.plot(radius[near], after[near], color=canvas.ACCENT, linewidth=1.8, label="corrected")
    ax.plot(radius[near], before[near], "--", color=canvas.SECOND, linewidth=1.2, label="measured")
    _mark(ax, measured.radii_px)
    ax.set_xlabel("radius (px)")
    ax.set_ylabel("mean intensity")
    ax.set_ylim(bottom=0)
    ax.legend(fontsize="small", framealpha=0.8)


def _mark(ax: Axes, radii: Float, color: str = "0.6") -> None:
    for radius in radii:
        ax.axvline(radius, color=color, linewidth=0.8, linestyle=":", zorder=0.5)


def _reach(measured: EllipseMeasurement) -> Pair:
    margin = 2 * float(measured.widths_px.max())
    return max(1.0, measured.radii_px.min() - margin), float(measured.radii_px.max() + margin)


def polar(image: Float, center: Pair, ellipse: Ellipse, reach: Pair) -> tuple[Float, Float]:
    """An image over angle (from x towards y, rows) and undistorted radius (columns).

    The radius is the geometric mean of the semi-axes of the ellipse that a point lies on.
    """
    from scipy.ndimage import map_coordinates  # slow to import

    radii = np.linspace(*reach, _RADII)
    angles = np.linspace(0, 2 * math.pi, _ANGLES, endpoint=False)
    circle = np.stack([np.cos(angles)[:, None] * radii, np.sin(angles)[:, None] * radii], axis=-1)
    # The correction shrinks a to b; that of the same area is larger by the root of a / b.
    undo = np.linalg.inv(ellipse.correction() * math.sqrt(ellipse.a / ellipse.b))
    places = np.moveaxis(circle @ undo.T + center, -1, 0)
    values: Float = map_coordinates(image, places, order=1, cval=np.nan)
    return values, radii


def _polar(
    ax: Axes, image: Float, radii: Float, measured: EllipseMeasurement, title: str, limits: Pair
) -> None:
    from py4DSTEM.plot import contrast

    ax.imshow(
        np.ma.masked_invalid(image), norm=contrast.norm(*limits, 0.5), aspect="auto",
        cmap=contrast.color_map("inferno", signed=False, reciprocal=True),
        extent=(radii[0], radii[-1], 360, 0), interpolation="nearest",
    )  # fmt: skip
    _mark(ax, measured.radii_px, _RING)
    ax.set_title(title, fontsize="medium")
    ax.set_yticks(range(0, 361, 90))
    ax.set_xlabel("radius (px)")
    ax.set_ylabel("angle (°)")


# ---- pixel size ----------------------------------------------------------------------------------
def show_pixel_size(
    measured: PixelSizeMeasurement, pattern: DiffractionSlice | None = None
) -> Figure:
    """Draw the lines that gave a pixel size and how far they lie from their rings.

    Parameters
    ----------
    measured : PixelSizeMeasurement
    pattern : DiffractionSlice, optional
        What it was measured in: its radial profile is drawn above the residuals.

    Returns
    -------
    Figure
        Residuals are relative deviations of the rings from the common fit, with one-sigma bars.
    """
    figure = canvas.new_figure(7.0, 3.0 if pattern is None else 5.2)
    figure.suptitle(
        f"pixel size {canvas.pm(measured.value, measured.sigma, 'A^-1')}, {measured.reference}",
        parse_math=False,
    )
    if pattern is None:
        residuals = figure.subplots()
    else:
        top, residuals = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
        _radial(top, measured, pattern)
    _residuals(residuals, measured)
    _line_names(top if pattern is not None else residuals, measured)
    return figure


def _radial(ax: Axes, measured: PixelSizeMeasurement, pattern: DiffractionSlice) -> None:
    """Mean intensity over the scattering vector, pixels in their calibrated places."""
    ellipse = measured.calibration.ellipse
    matrix = np.diag(measured.pixel_size_A)
    if ellipse is not None:
        matrix = matrix @ ellipse.correction()
    i, j = np.indices(pattern.shape[-2:], dtype=np.float64)
    offset = np.stack([i - measured.center[0], j - measured.center[1]])
    q = np.hypot(*np.tensordot(matrix, offset, 1)).ravel()
    step = 0.5 * measured.value
    values = np.asarray(pattern.data, np.float64).ravel()
    known = np.isfinite(values)
    place = np.rint(q[known] / step).astype(np.int64)
    count = np.bincount(place)
    mean = np.bincount(place, values[known]) / np.maximum(count, 1)
    axis = step * np.arange(len(count))
    lines = measured.lines["q_A"]
    shown = (count > 0) & (axis > 0.6 * lines.min()) & (axis < 1.08 * lines.max())
    ax.plot(axis[shown], mean[shown], color=canvas.SECOND, linewidth=1.4)
    _mark(ax, lines)
    ax.set_ylabel("mean intensity")
    ax.set_ylim(bottom=0)


def _residuals(ax: Axes, measured: PixelSizeMeasurement) -> None:
    lines = measured.lines
    sigma = 100 * lines["sigma_px"] / lines["radius_px"]
    ax.axhline(0, color="0.5", linewidth=0.8)
    ax.errorbar(
        lines["q_A"], 100 * lines["residual"], sigma, fmt="o", color=canvas.ACCENT, markersize=4,
        elinewidth=1, capsize=2,
    )  # fmt: skip
    _mark(ax, lines["q_A"])
    # Rings that are not resolved have bars that would hide the others.
    well = np.abs(100 * lines["residual"]) + np.minimum(sigma, 3 * np.median(sigma))
    limit = 1.2 * float(np.nanmax(well, initial=1e-3))
    ax.set_ylim(-limit, limit)
    ax.set_xlabel("scattering vector q (Å⁻¹)")
    ax.set_ylabel("deviation (%)")
    canvas.note(ax, f"rms {100 * measured.residual:.2g} %, χ² {measured.chi2:.2g}")


def _line_names(ax: Axes, measured: PixelSizeMeasurement) -> None:
    """Indices above the lines, those without room left out."""
    lines = np.sort(measured.lines, order="q_A")
    room = 0.035 * max(float(np.ptp(lines["q_A"])), 1e-9)
    last = -math.inf
    for line in lines:
        if line["q_A"] - last >= room:
            last = float(line["q_A"])
            ax.annotate(
                str(line["label"]), (last, 1.0), (0, 3), textcoords="offset points",
                xycoords=ax.get_xaxis_transform(), fontsize="x-small", ha="center", va="bottom",
                parse_math=False, rotation=60,
            )  # fmt: skip
