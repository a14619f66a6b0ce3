"""Fourier ring correlation with its criteria."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.phase.frc import Resolution, RingCorrelation

__all__ = ["draw_ring_correlation", "show_ring_correlation"]


def show_ring_correlation(found: RingCorrelation) -> Figure:
    """Draw the correlation of two images against frequency, and where it falls below criteria.

    Parameters
    ----------
    found : RingCorrelation

    Returns
    -------
    Figure
        The band is one standard deviation; dashed are the criteria, with the resolution by each.
    """
    figure = canvas.new_figure(6.4, 4.2)
    draw_ring_correlation(figure.subplots(), found)
    return figure


def draw_ring_correlation(ax: Axes, found: RingCorrelation) -> None:
    """The same on axes of another figure."""
    ax.plot(found.k_A, found.correlation, color=canvas.SECOND)
    low, high = found.correlation - found.sigma, found.correlation + found.sigma
    ax.fill_between(found.k_A, low, high, color=canvas.SECOND, alpha=0.25, linewidth=0)
    colors = [c for c in canvas.COLORS if c != canvas.SECOND]
    for color, (name, limit) in zip(colors, found.thresholds.items(), strict=False):
        place = found.resolutions[name]
        ax.plot(found.k_A, limit, "--", color=color, label=f"{name}: {_told(place)}")
        if np.isfinite(place.resolution_A) and not place.reached_edge:
            ax.axvline(1 / place.resolution_A, color=color, linewidth=0.8)
    ax.set_ylim(min(-0.1, float(found.correlation.min())), 1.05)
    ax.set_xlim(0, float(found.k_A[-1]))
    ax.set_title(found.name, parse_math=False)
    ax.set_xlabel("spatial frequency (Å⁻¹)")
    ax.set_ylabel("correlation")
    ax.legend(fontsize="small", framealpha=0.8)


def _told(place: Resolution) -> str:
    if not np.isfinite(place.resolution_A):
        return "never above"
    if place.reached_edge:
        return f"{place.resolution_A:.3g} Å or better"
    return canvas.pm(place.resolution_A, place.sigma_A, "A")
