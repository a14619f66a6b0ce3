"""What patterns look like around their rings: symmetry, and orientation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from py4DSTEM.plot import decorate
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.amorphous.flow import FlowLines
    from py4DSTEM.process.amorphous.orient import OrientationResult
    from py4DSTEM.process.amorphous.symmetry import AngularCorrelationResult, SymmetryResult

__all__ = ["show_angular_correlation", "show_flow_lines", "show_orientation", "show_symmetry"]

_PANEL = 2.6


def show_angular_correlation(found: AngularCorrelationResult) -> Figure:
    """Draw the correlation around rings, and the power of each symmetry.

    Parameters
    ----------
    found : AngularCorrelationResult

    Returns
    -------
    Figure
        Lags beyond a half turn mirror those before and are left out.
    """
    figure = canvas.new_figure(10.0, 4.0)
    left, right = figure.subplots(1, 2)
    half = found.correlation.shape[1] // 2 + 1
    step = found.axis.step / 2
    extent = (0.0, 180.0, float(found.q[-1]) + step, float(found.q[0]) - step)
    # Without the speckle itself and the opposite one, which would leave all else dark.
    between = found.correlation[:, half // 8 : half - half // 8]
    limit = 2 * canvas.symmetric_limit(between)
    drawn = left.imshow(
        found.correlation[:, :half], extent=extent, aspect="auto", cmap="RdBu_r",
        vmin=-limit, vmax=limit,
    )  # fmt: skip
    left.set_xlabel("lag (°)")
    left.set_xticks(range(0, 181, 45))
    left.set_ylabel(f"radius ({decorate.unit_text(found.units)})", parse_math=False)
    left.set_title(found.name, parse_math=False)
    canvas.color_bar(drawn, left, "C")
    known = np.isfinite(found.power)
    weight = np.where(known, found.count[:, None] * np.abs(found.q)[:, None], 0.0)
    total = np.where(weight.sum(axis=0) > 0, weight.sum(axis=0), np.nan)
    mean = (np.where(known, found.power, 0.0) * weight).sum(axis=0) / total
    right.bar(found.orders, mean, color=canvas.SECOND, label="power")
    noise = (np.where(known, found.noise, 0.0) * weight).sum(axis=0) / total
    right.plot(found.orders, noise, "o", color=canvas.ACCENT, ms=4, label="noise, subtracted")
    right.set_xlabel("order n")
    right.set_xticks(found.orders)
    right.set_ylabel("mean power of all rings")
    right.legend(fontsize="small", framealpha=0.8)
    return figure


def show_symmetry(found: SymmetryResult, orders: tuple[int, ...] | None = None) -> Figure:
    """Draw maps of the power of symmetries on one scale.

    Parameters
    ----------
    found : SymmetryResult
    orders : tuple of int, optional
        Which; None: the even ones, which Friedel's law allows, or all if there are none.

    Returns
    -------
    Figure
    """
    chosen = orders or tuple(n for n in found.orders if n % 2 == 0) or found.orders
    columns = min(len(chosen), 4)
    rows = -(-len(chosen) // columns)
    height = canvas.map_height(found.power.shape, found.calibration, _PANEL) + 0.35
    figure = canvas.new_figure(columns * _PANEL + 1.0, rows * height)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    maps = [found.map(n).data for n in chosen]
    limits = (0.0, canvas.symmetric_limit(*maps))
    for ax, order, image in zip(axes, chosen, maps, strict=False):
        drawn = canvas.scan_map(
            ax, image, found.calibration, f"{order}-fold", limits=limits, bar=ax is axes[0]
        )
    for spare in axes[len(chosen) :]:
        spare.remove()
    canvas.color_bar(drawn, list(axes[: len(chosen)]), "power")
    return figure


def show_orientation(found: OrientationResult) -> Figure:
    """Draw the direction of the strongest arc, how well it is ordered, and all directions.

    Parameters
    ----------
    found : OrientationResult

    Returns
    -------
    Figure
        Colour is the direction, and its brightness the order; 0 points down (x), 90° to the right.
    """
    height = canvas.map_height(found.order.shape, found.calibration, 3.4) + 0.4
    figure = canvas.new_figure(11.2, max(height, 3.2))
    left, middle, right = figure.subplots(1, 3)
    angle = canvas.scan_map(
        left, np.degrees(found.angle_rad[..., 0]), found.calibration, found.name,
        limits=(0.0, 180.0), cmap="hsv", bar=True,
    )  # fmt: skip
    _directors(left, found)
    canvas.color_bar(angle, left, "direction (°)")
    order = canvas.scan_map(
        middle, found.order, found.calibration, "order parameter S", limits=(0.0, 1.0)
    )
    canvas.color_bar(order, middle, "S")
    size = len(found.histogram)
    right.bar(np.degrees(found.histogram_rad), 100 * found.histogram, 180 / size,
              color=canvas.SECOND)  # fmt: skip
    right.set_xlim(0, 180)
    right.set_xticks(range(0, 181, 45))
    right.set_xlabel("direction (°)")
    right.set_ylabel("share of the arcs (%)")
    return figure


def _directors(ax: Axes, found: OrientationResult) -> None:
    """Short lines along the directions, of about twenty positions along the longer side."""
    rows, columns = found.order.shape
    step = max(1, round(max(rows, columns) / 20))
    i, j = np.mgrid[step // 2 : rows : step, step // 2 : columns : step]
    vector = found.director[i, j]
    known = np.isfinite(vector).all(axis=-1)
    ax.quiver(
        j[known], i[known], vector[known][:, 1], vector[known][:, 0], angles="xy",
        scale_units="xy", scale=1 / (0.8 * step), pivot="middle", headaxislength=0, headlength=0,
        headwidth=0, width=0.006, color="black",
    )  # fmt: skip


def show_flow_lines(found: FlowLines, background: canvas.Float | None = None) -> Figure:
    """Draw lines that follow a sample's direction, coloured by it.

    Parameters
    ----------
    found : FlowLines
    background : (Rx, Ry) array, optional
        Image below the lines.

    Returns
    -------
    Figure
    """
    from matplotlib.collections import LineCollection

    height = canvas.map_height(found.R_shape, found.calibration, 4.6) + 0.5
    figure = canvas.new_figure(5.8, height)
    ax = figure.subplots()
    image = np.zeros(found.R_shape) if background is None else np.asarray(background)
    canvas.scan_map(ax, image, found.calibration, found.name, cmap="gray", bar=True)
    pieces, angles = [], []
    for line in found:
        pieces.append(np.stack([line[:-1, ::-1], line[1:, ::-1]], axis=1))
        way = np.diff(line, axis=0)
        angles.append(np.degrees(np.arctan2(way[:, 1], way[:, 0])) % 180)
    if pieces:
        drawn = LineCollection(np.concatenate(pieces), cmap="hsv", linewidths=1.6)  # type: ignore[arg-type]
        drawn.set_array(np.concatenate(angles))
        drawn.set_clim(0, 180)
        ax.add_collection(drawn, autolim=False)
        figure.colorbar(drawn, ax=ax, shrink=0.8).set_label("direction (°)")
    return figure
