"""Common spots, grains and crystallinity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.plot import decorate
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.classes.crystallinity import CrystallinityMap
    from py4DSTEM.process.classes.grains import Grains
    from py4DSTEM.process.classes.spots import CommonSpots

__all__ = ["show_common_spots", "show_crystallinity", "show_grains"]

_MOST_NUMBERS = 60
"""Grains whose numbers are written on the map; with more they would hide it."""
_FEWEST_GRAINS = 8
"""For a histogram of their sizes; fewer are drawn one by one."""
_TURN = 0.618034
"""Of the circle of hues from one grain to the next: neighbours in number differ clearly."""


# ---- grains --------------------------------------------------------------------------------------
def show_grains(grains: Grains) -> Figure:
    """Draw the grains of a scan and how large they are.

    Parameters
    ----------
    grains : Grains

    Returns
    -------
    Figure
        The map, positions in no grain grey, with the number of each grain; and the diameters: a
        bar with one sigma for each grain, or a histogram of many.  Pale: cut by the edge of the
        scan.
    """
    height = canvas.map_height(grains.labels.shape, grains.calibration, 4.2)
    figure = canvas.new_figure(8.6, max(3.0, height) + 0.5)
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    _grain_map(left, grains)
    _diameters(right, grains)
    return figure


def grain_colors(n: int) -> NDArray[np.float64]:
    """A colour for each of n grains, (n, 3)."""
    from matplotlib.colors import hsv_to_rgb

    k = np.arange(n)
    saturation = np.where(k // 3 % 2 == 0, 0.55, 0.8)
    value = np.where(k // 5 % 2 == 0, 0.95, 0.75)
    return np.asarray(hsv_to_rgb(np.stack([(0.58 + _TURN * k) % 1, saturation, value], axis=-1)))


def _grain_map(ax: Axes, grains: Grains) -> None:
    colors = np.concatenate([grain_colors(len(grains)), [[0.55, 0.55, 0.55]]])
    x, y = grains.calibration.R
    ax.imshow(
        colors[grains.labels],
        interpolation="nearest",
        aspect=x.step / y.step if x.unit == y.unit else 1.0,
    )
    share = float((grains.labels >= 0).mean())
    canvas.plain_axes(ax, f"{len(grains)} grains on {share:.1%} of the scan")
    decorate.scale_bar(ax, (grains.labels.shape[0], grains.labels.shape[1]), y)
    if len(grains) <= _MOST_NUMBERS:
        for k, row in enumerate(grains.table):
            ax.text(row["ry"], row["rx"], str(k), ha="center", va="center", fontsize="x-small")


def _diameters(ax: Axes, grains: Grains) -> None:
    unit = decorate.unit_text(grains.unit)
    mean, error = grains.mean_diameter
    if math.isfinite(mean):
        told = canvas.pm(mean, error, grains.unit)
        ax.set_title(f"whole ones: mean {told}", fontsize="medium", parse_math=False)
    size, whole = grains.table["diameter"], grains.whole
    if not len(grains):
        canvas.plain_axes(ax, "no grains")
        return
    if len(grains) < _FEWEST_GRAINS:
        colors = [canvas.SECOND if w else "#9ecae1" for w in whole]
        sigma = grains.table["sigma_diameter"]
        ax.bar(np.arange(len(grains)), size, yerr=sigma, color=colors, capsize=3)
        ax.set_xticks(np.arange(len(grains)))
        ax.set_xlabel("grain")
        ax.set_ylabel(f"diameter ({unit})", parse_math=False)
        return
    bins = np.linspace(0, float(size.max()) * 1.02, max(6, math.ceil(math.sqrt(len(grains))) + 2))
    parts, labels = [size[whole], size[~whole]], ["whole", "cut by the edge"]
    ax.hist(parts, bins=list(bins), stacked=True, color=[canvas.SECOND, "#9ecae1"], label=labels)
    ax.set_xlabel(f"diameter ({unit})", parse_math=False)
    ax.set_ylabel("grains")
    ax.legend(fontsize="small", framealpha=0.8)


# ---- crystallinity -------------------------------------------------------------------------------
def show_crystallinity(found: CrystallinityMap) -> Figure:
    """Draw the share of the scattering in Bragg spots, its uncertainty, and how often it occurs.

    Parameters
    ----------
    found : CrystallinityMap

    Returns
    -------
    Figure
    """
    height = canvas.map_height(found.fraction.shape, found.calibration, 3.2)
    figure = canvas.new_figure(10.2, max(2.6, height) + 0.5)
    figure.suptitle(
        f"crystallinity, rings from {found.inner_px:g} to {found.outer_px:g} px", fontsize="medium"
    )
    first, second, third = figure.subplots(1, 3)
    high = canvas.between(found.sigma, 0, 99)[1]
    drawn = canvas.scan_map(
        first, found.fraction, found.calibration, "in Bragg spots", limits=(0.0, 1.0), bar=True
    )
    canvas.color_bar(drawn, first, "share of the scattering")
    drawn = canvas.scan_map(
        second, found.sigma, found.calibration, "σ by counting", limits=(0.0, high), cmap="magma"
    )
    canvas.color_bar(drawn, second, "σ")
    known = found.fraction[np.isfinite(found.fraction)]
    third.hist(np.clip(known, -0.05, 1.05), bins=44, range=(-0.05, 1.05), color=canvas.SECOND)
    third.set_xlabel("share of the scattering")
    third.set_ylabel("positions")
    return figure


# ---- common spots --------------------------------------------------------------------------------
def show_common_spots(spots: CommonSpots) -> Figure:
    """Draw where the common spots of a scan are, and at how many positions.

    Parameters
    ----------
    spots : CommonSpots

    Returns
    -------
    Figure
        Area of a circle: positions with a peak there; those without a mate at −g are open.  The
        cross is the direct beam.
    """
    figure = canvas.new_figure(5.4, 5.0)
    ax = figure.subplots()
    x, y = spots.vectors_px.T
    size = 4 + 120 * spots.count / max(int(spots.count.max(initial=0)), 1)
    paired = spots.mate >= 0
    for mine, face in ((paired, canvas.SECOND), (~paired, "white")):
        ax.scatter(y[mine], x[mine], size[mine], color=face, edgecolors=canvas.SECOND, alpha=0.75)
    ax.plot(0, 0, "+", color=canvas.ACCENT, markersize=9)
    ax.set_aspect("equal")
    ax.invert_yaxis()
    ax.set_xlabel("y (px)")
    ax.set_ylabel("x (px)")
    found = f"{len(spots)} common spots, {int(paired.sum())} with a mate at −g"
    ax.set_title(found, fontsize="medium", parse_math=False)
    return figure
