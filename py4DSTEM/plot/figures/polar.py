"""Patterns in polar coordinates, statistics of rings, and rings fitted at every position."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.plot import contrast, decorate
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.polar.rings import RingFitMap
    from py4DSTEM.process.polar.statistics import RingStatistics
    from py4DSTEM.process.polar.transform import PolarCube, PolarPattern

__all__ = ["show_polar", "show_polar_cube", "show_ring_fits", "show_ring_statistics"]

Float = NDArray[np.float64]
_MOST_POSITIONS = 144
_GREY = "#8c8c8c"


def show_polar(polar: PolarPattern, *, power: float = 0.5) -> Figure:
    """Draw a pattern in polar coordinates, and its profile beside it.

    Parameters
    ----------
    polar : PolarPattern
    power : float
        Exponent of the intensity.

    Returns
    -------
    Figure
        Radius down, angle to the right; the profile is the mean of each ring.
    """
    from matplotlib.ticker import NullFormatter

    figure = canvas.new_figure(8.2, 4.2)
    image, curve = figure.subplots(1, 2, width_ratios=(2.4, 1), sharey=True)
    _image(image, polar, power)
    curve.plot(polar.profile, polar.q, color=canvas.SECOND)
    curve.set_xlabel("mean intensity per pixel")
    curve.set_xscale("symlog" if (polar.profile < 0).any() else "log")
    curve.xaxis.set_minor_formatter(NullFormatter())  # they would lie over each other
    return figure


def _image(ax: Axes, polar: PolarPattern, power: float) -> None:
    import matplotlib as mpl

    low, high = canvas.between(np.asarray(polar.data, np.float64), 0.1, 99.8)
    r, phi = polar.axes
    n_r, n_phi = polar.shape
    begin, turn = r.offset - r.step / 2, np.degrees(phi.offset - phi.step / 2)
    ax.imshow(
        np.ma.masked_invalid(polar.data),
        norm=contrast.norm(low, high, power),
        cmap=mpl.colormaps["inferno"].with_extremes(bad=_GREY),
        interpolation="nearest",
        aspect="auto",
        extent=(turn, turn + n_phi * np.degrees(phi.step), begin + n_r * r.step, begin),
    )
    ax.set_title(polar.name, fontsize="medium", parse_math=False)
    ax.set_xlabel("angle from x towards y (°)")
    ax.set_ylabel(f"distance from the origin ({decorate.unit_text(polar.units)})", parse_math=False)


def show_polar_cube(polar: PolarCube) -> Figure:
    """Draw the mean of up to 144 patterns of a scan in polar coordinates.

    Parameters
    ----------
    polar : PolarCube

    Returns
    -------
    Figure
        As that of `show_polar`.
    """
    rows, columns = polar.shape[:2]
    stride = max(1, int(np.ceil(np.sqrt(rows * columns / _MOST_POSITIONS))))
    where = np.zeros((rows, columns), bool)
    where[stride // 2 :: stride, stride // 2 :: stride] = True
    if not where.any():
        where[:: max(1, rows - 1), :: max(1, columns - 1)] = True
    return show_polar(polar.mean(where=where))


def show_ring_statistics(found: RingStatistics) -> Figure:
    """Draw mean and variance of the rings against the radius.

    Parameters
    ----------
    found : RingStatistics
        Of a scan (the mean over its positions is drawn) or of one pattern.

    Returns
    -------
    Figure
        Left the mean and the median, right the variance; where patterns hold counts only, and no
        structure along the rings, that is the mean (dotted).
    """
    figure = canvas.new_figure(8.4, 3.9)
    left, right = figure.subplots(1, 2)
    mean, median, variance = map(_typical, (found.mean, found.median, found.variance))
    left.plot(found.q, mean, color=canvas.SECOND, label="mean")
    if np.isfinite(median).any():
        left.plot(found.q, median, color=canvas.ACCENT, label="median")
        left.legend(fontsize="small", framealpha=0.8)
    right.plot(found.q, variance, color=canvas.SECOND, label="variance")
    right.plot(found.q, mean, ":", color=_GREY, label="of counts alone")
    right.legend(fontsize="small", framealpha=0.8)
    for ax, title in ((left, "intensity per pixel"), (right, "variance of pixels")):
        ax.set_title(title, fontsize="medium")
        ax.set_yscale("symlog" if (mean < 0).any() else "log")
        ax.set_xlabel(f"distance from the origin ({decorate.unit_text(found.units)})",
                      parse_math=False)  # fmt: skip
    figure.suptitle(found.name, fontsize="medium", parse_math=False)
    return figure


def _typical(values: Float) -> Float:
    """Mean over positions, where something is known."""
    flat = values.reshape(-1, values.shape[-1])
    known = np.isfinite(flat)
    count = known.sum(axis=0)
    total = np.where(known, flat, 0.0).sum(axis=0)
    mean: Float = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return mean


def show_ring_fits(fits: RingFitMap) -> Figure:
    """Draw radius, width and height of the ring at every position.

    Parameters
    ----------
    fits : RingFitMap

    Returns
    -------
    Figure
        Positions without a ring are hatched.
    """
    unit = decorate.unit_text(fits.units)
    maps = (
        (fits.radius.data, f"radius ({unit})", "viridis"),
        (fits.width.data, f"width ({unit})", "viridis"),
        (fits.height, "height", "viridis"),
    )
    width = 3.3
    height = canvas.map_height(fits.height.shape, fits.calibration, width)
    figure = canvas.new_figure(3 * (width + 0.9), height + 0.9)
    unknown = 0
    for ax, (image, title, cmap) in zip(figure.subplots(1, 3), maps, strict=True):
        drawn = canvas.scan_map(ax, image, fits.calibration, title, cmap=cmap, bar=True)
        canvas.color_bar(drawn, ax, title)
        unknown = canvas.hatch_unknown(ax, image)
    if unknown:
        canvas.hatched_legend(figure, f"no ring ({unknown} positions)")
    figure.suptitle(fits.name, fontsize="medium", parse_math=False)
    return figure
