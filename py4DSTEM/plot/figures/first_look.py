"""First looks at a scan: the beam, what its quality is, pixels that are too bright."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.beam import Beam
    from py4DSTEM.process.clean import HotPixels
    from py4DSTEM.process.quality import QualityEntry, QualityReport

__all__ = ["show_beam", "show_hot_pixels", "show_quality", "show_quality_entry"]

_PIXELS = Calibration().Q
_VERDICTS = {"ok": "#009E73", "warn": "#E69F00", "bad": "#D55E00"}
_LINE = 0.26  # inches


def show_beam(beam: Beam) -> Figure:
    """Draw a beam on the pattern that it was found in.

    Parameters
    ----------
    beam : Beam

    Returns
    -------
    Figure
    """
    figure = canvas.new_figure(4.8, 4.4)
    ax = figure.subplots()
    (x, y), radius = beam.center, beam.radius_px
    title = f"beam at ({x:.1f}, {y:.1f}) px, radius {radius:.1f} px"
    high = canvas.between(beam.pattern, 0, 99.8)[1]
    drawn = canvas.picture(ax, beam.pattern, _PIXELS, title, limits=(0.0, high), power=0.5)
    _circle(ax, beam.center, radius)
    canvas.color_bar(drawn, ax, "intensity")
    return figure


def _circle(ax: Axes, center: tuple[float, float], radius: float) -> None:
    from matplotlib.patches import Circle

    x, y = center
    ax.add_patch(Circle((y, x), radius, fill=False, color=canvas.COLORS[5], linewidth=1.4))
    ax.plot(y, x, "+", color=canvas.COLORS[5])


def show_hot_pixels(found: HotPixels) -> Figure:
    """Draw by how much pixels exceed their neighbours, with circles around the hot ones.

    Parameters
    ----------
    found : HotPixels

    Returns
    -------
    Figure
    """
    figure = canvas.new_figure(4.8, 4.4)
    ax = figure.subplots()
    limits = (0.0, float(found.threshold_sigma))
    drawn = canvas.picture(ax, found.sigma, _PIXELS, found.text().splitlines()[0], limits=limits)
    x, y = np.nonzero(found.mask)
    ax.plot(y, x, "o", color=canvas.ACCENT, markersize=7, fillstyle="none")
    canvas.color_bar(drawn, ax, "excess over neighbours (sigma)")
    return figure


def show_quality(report: QualityReport) -> Figure:
    """Draw the mean pattern, the intensity of every position, and a table of what was found.

    Parameters
    ----------
    report : QualityReport

    Returns
    -------
    Figure
        Circles: the unscattered disk, pixels to repair, and positions that stand out.
    """
    height = max(4.2, _LINE * len(report.entries) + 0.7)
    figure = canvas.new_figure(14.0, height)
    figure.suptitle(f"{report.name}: {report.verdict}", parse_math=False)
    mean, total, table = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    _mean(mean, report)
    drawn = canvas.scan_map(total, report.total, report.calibration, "intensity", bar=True)
    x, y = np.nonzero(np.any(list(report.positions.values()), axis=0))
    total.plot(y, x, "o", color=canvas.ACCENT, markersize=7, fillstyle="none")
    canvas.color_bar(drawn, total, "sum of each pattern")
    _table(table, report.entries)
    return figure


def _mean(ax: Axes, report: QualityReport) -> None:
    limits = (0.0, canvas.between(report.mean, 0, 99.8)[1])
    drawn = canvas.picture(
        ax, report.mean, report.calibration.Q, "mean pattern", limits=limits, bar=True, power=0.5
    )
    if report.disk is not None:
        _circle(ax, report.disk.center, report.disk.radius_px)
    x, y = np.nonzero(report.bad_pixels)
    ax.plot(y, x, "o", color=canvas.ACCENT, markersize=7, fillstyle="none")
    canvas.color_bar(drawn, ax, "intensity")


def show_quality_entry(entry: QualityEntry) -> Figure:
    """Draw one line of the table of a report.

    Parameters
    ----------
    entry : QualityEntry

    Returns
    -------
    Figure
    """
    figure = canvas.new_figure(6.0, 1.2)
    figure.suptitle(entry.explanation, parse_math=False, fontsize="small", wrap=True)
    _table(figure.subplots(), [entry])
    return figure


def _table(ax: Axes, entries: Sequence[QualityEntry]) -> None:
    """What was looked at, its value, and a dot in the colour of the verdict."""
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(len(entries) - 0.5, -0.5)
    for line, entry in enumerate(entries):
        ax.plot(0.02, line, "o", color=_VERDICTS[entry.verdict], markersize=8)
        style: dict[str, Any] = {"va": "center", "fontsize": "small", "parse_math": False}
        ax.text(0.07, line, entry.name, **style)
        ax.text(0.98, line, entry.shown, ha="right", **style)
