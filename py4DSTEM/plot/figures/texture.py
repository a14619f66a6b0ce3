"""Pole figures and inverse pole figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from py4DSTEM.process.crystal.texture import Texture

__all__ = ["show_texture"]

Float = NDArray[np.float64]
_WIDTH = 2.7


def show_texture(texture: Texture) -> Figure:
    """Draw the pole figures and inverse pole figures of a crystal.

    Parameters
    ----------
    texture : Texture

    Returns
    -------
    Figure
        Above: poles in the sample, x down and y to the right, z in the middle.  Below: the
        sample's x, y and z in the triangle of crystal directions.  All on one scale, in multiples
        of a random distribution.
    """
    columns = max(3, len(texture.poles))
    figure = canvas.new_figure(_WIDTH * columns + 0.8, 2 * _WIDTH + 0.6)
    figure.suptitle(
        f"{texture.name}: {texture.count:.4g} orientations of {texture.crystal.name}",
        fontsize="medium", parse_math=False,
    )  # fmt: skip
    axes = figure.subplots(2, columns)
    high = max(float(np.nanmax(texture.density)), float(np.nanmax(texture.inverse)))
    for k, ax in enumerate(axes[0]):
        if k < len(texture.poles):
            drawn = _pole_figure(ax, texture, k, high)
        else:
            ax.set_axis_off()
    for k, ax in enumerate(axes[1]):
        if k < 3:
            drawn = _inverse(ax, texture, k, high)
        else:
            ax.set_axis_off()
    canvas.color_bar(drawn, [*axes[0], *axes[1]], "times random")
    return figure


def _image(ax: Axes, values: Float, extent: Sequence[float], high: float, **more: Any) -> AxesImage:
    drawn = ax.imshow(
        np.ma.masked_invalid(values), cmap="viridis", vmin=0.0, vmax=high,
        extent=(extent[0], extent[1], extent[2], extent[3]), **more,
    )  # fmt: skip
    ax.set_aspect("equal")
    ax.set_axis_off()
    return drawn


def _pole_figure(ax: Axes, texture: Texture, k: int, high: float) -> AxesImage:
    drawn = _image(ax, texture.density[k], (-1, 1, 1, -1), high)
    turn = np.linspace(0, 2 * np.pi, 181)
    ax.plot(np.cos(turn), np.sin(turn), color="black", linewidth=0.8)
    ax.text(1.06, 0, "y", va="center", fontsize="small", fontstyle="italic")
    ax.text(0, 1.06, "x", ha="center", va="top", fontsize="small", fontstyle="italic")
    ax.set_title(f"{{{' '.join(map(str, texture.poles[k]))}}}", fontsize="medium", parse_math=False)
    return drawn


def _inverse(ax: Axes, texture: Texture, k: int, high: float) -> AxesImage:
    values = texture.inverse[k]
    drawn = _image(ax, values, texture.extent.tolist(), high, origin="lower")
    known = np.isfinite(values)
    ax.contour(known.astype(float), [0.5], colors="black", linewidths=0.8,
               extent=texture.extent.tolist())  # fmt: skip
    for (x, y), words in _corners(texture).items():
        below = y < 0.3 * texture.extent[3]
        ax.annotate(words, (x, y), (0, -3 if below else 3), textcoords="offset points",
                    ha="center", va="top" if below else "bottom", fontsize="x-small")  # fmt: skip
    ax.set_title(f"along {'xyz'[k]}", fontsize="medium", pad=10)
    return drawn


def _corners(texture: Texture) -> dict[tuple[float, float], str]:
    """Directions at the corners of the triangle, of the two families where these are usual."""
    from py4DSTEM.process.crystal.interop import laue_of

    symbol = laue_of(texture.crystal).symbol
    if symbol == "m-3m":
        third = (math.sqrt(3) - 1) / 2
        return {(0.0, 0.0): "001", (math.sqrt(2) - 1, 0.0): "101", (third, third): "111"}
    if symbol == "6/mmm":
        return {(0.0, 0.0): "0001", (1.0, 0.0): "2-1-10", (math.sqrt(3) / 2, 0.5): "10-10"}
    return {}
