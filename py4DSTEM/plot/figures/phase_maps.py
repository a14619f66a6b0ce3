"""Phase maps: which crystals are where, how much of each, and how sure that is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from py4DSTEM.plot.figures import canvas
from py4DSTEM.plot.figures.classes import class_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.crystal.phase_result import PhaseMap

__all__ = ["show_phases"]

_AMORPHOUS = "#999999"
_NONE = "#ffffff"
_COLUMNS = 4
_WIDTH = 3.2


def show_phases(phases: PhaseMap) -> Figure:
    """Draw the map of phases with its legend, how sure it is, and the share of each.

    Parameters
    ----------
    phases : PhaseMap

    Returns
    -------
    Figure
        Positions that are not indexed are white in the map and grey in the others.
    """
    count = 3 + len(phases.names)
    rows = math.ceil(count / _COLUMNS)
    height = canvas.map_height(phases.shape, phases.calibration, _WIDTH - 0.4)
    figure = canvas.new_figure(_COLUMNS * _WIDTH, rows * (height + 0.5))
    axes = list(figure.subplots(rows, _COLUMNS, squeeze=False).ravel())
    _phase_map(axes[0], phases)
    for ax, image, title, cmap in (
        (axes[1], phases.confidence, "confidence", "viridis"),
        (axes[2], phases.residual, "not explained", "magma"),
    ):
        drawn = canvas.scan_map(ax, image, phases.calibration, title, limits=(0.0, 1.0), cmap=cmap)
        canvas.color_bar(drawn, ax, "share of amplitude" if cmap == "magma" else "")
    for k, ax in enumerate(axes[3:count]):
        drawn = canvas.scan_map(
            ax, phases.fractions[..., k], phases.calibration, "", limits=(0.0, 1.0), cmap="cividis"
        )
        ax.set_title(f"share of {phases.names[k]}", fontsize="medium", parse_math=False)
        canvas.color_bar(drawn, ax, "")
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure


def _phase_map(ax: Axes, phases: PhaseMap) -> None:
    """Labels in colours, with the share of the scan that each has."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    colors = class_colors(len(phases.orientations))
    colors += [_AMORPHOUS] * (len(phases.names) - len(colors))
    x, y = phases.calibration.R
    ax.imshow(
        np.ma.masked_less(phases.labels, 0),
        cmap=ListedColormap(colors).with_extremes(bad=_NONE),
        vmin=-0.5,
        vmax=len(colors) - 0.5,
        interpolation="nearest",
        aspect=x.step / y.step if x.unit == y.unit else 1.0,
    )
    canvas.plain_axes(ax, phases.name)
    size = phases.labels.size
    words = [f"{n}: {(phases.labels == k).sum() / size:.1%}" for k, n in enumerate(phases.names)]
    handles = [Patch(facecolor=c, label=w) for c, w in zip(colors, words, strict=True)]
    left = int((phases.labels < 0).sum())
    if left:
        handles.append(
            Patch(facecolor=_NONE, edgecolor="#808080", label=f"not indexed: {left / size:.1%}")
        )
    legend = ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), fontsize="small",
        frameon=False, ncols=2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
