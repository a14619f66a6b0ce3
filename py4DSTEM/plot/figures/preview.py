"""A preview of the search for disks: patterns with what was found and what was left out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.plot.draw import show
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.bragg.preview import Preview

__all__ = ["show_preview"]

_DISK = "#56B4E9"
_COLUMNS = 3
_MOST_CROSSES = 60


def show_preview(preview: Preview) -> Figure:
    """Draw a preview: circles around disks, crosses on maxima that were left out.

    Parameters
    ----------
    preview : Preview

    Returns
    -------
    Figure
        The colour of a cross tells why; of each pattern at most the 60 highest are drawn.
    """
    count = len(preview.patterns)
    columns = min(_COLUMNS, count)
    rows = math.ceil(count / columns)
    figure = canvas.new_figure(3.4 * columns, 3.7 * rows + 0.5)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    reasons: dict[str, str] = {}
    for k, ax in enumerate(places[:count]):
        _pattern(ax, preview, k, reasons)
    for spare in places[count:]:
        spare.remove()
    if reasons:
        _legend(figure, reasons)
    return figure


def _pattern(ax: Axes, preview: Preview, index: int, reasons: dict[str, str]) -> None:
    from matplotlib.collections import EllipseCollection

    found = preview.peaks[index]
    rx, ry = preview.positions[index]
    image = DiffractionSlice(preview.patterns[index], name="pattern")
    show(image, ax=ax, title=f"({rx}, {ry}): {len(found)} disks", scale=0.35, scalebar=False)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("")
    ax.set_ylabel("")
    size = np.full(len(found), 2 * preview.probe_radius_px)
    circles = EllipseCollection(
        size, size, np.zeros(len(found)), units="xy", facecolors="none", edgecolors=_DISK,
        offsets=np.stack([found["qy"], found["qx"]], axis=-1), offset_transform=ax.transData,
        linewidths=1.2, zorder=4,
    )  # fmt: skip
    ax.add_collection(circles, autolim=False)
    _crosses(ax, preview, index, reasons)


def _crosses(ax: Axes, preview: Preview, index: int, reasons: dict[str, str]) -> None:
    """Mark what was left out; `reasons` collects the colour of every reason."""
    rejected = [c for c in preview.candidates[index] if c.verdict != "disk"][:_MOST_CROSSES]
    for candidate in rejected:
        color = reasons.setdefault(
            candidate.verdict, canvas.COLORS[(1 + len(reasons)) % len(canvas.COLORS)]
        )
        x, y = candidate.pixel
        ax.plot(y, x, "x", color=color, markersize=5, markeredgewidth=1.2, zorder=5)


def _legend(figure: Figure, reasons: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    from py4DSTEM.process.bragg.preview import REASONS

    marks = [
        Line2D([], [], color=color, marker="x", linestyle="none", label=REASONS[reason])
        for reason, color in reasons.items()
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize="small",
                  frameon=False)  # fmt: skip
