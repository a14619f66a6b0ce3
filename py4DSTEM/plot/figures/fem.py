"""Variance of scattering against radius, and what is compared with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from py4DSTEM.plot import decorate
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.amorphous.fem_compare import FEMComparison
    from py4DSTEM.process.amorphous.fem_result import FEMResult
    from py4DSTEM.process.amorphous.speckle import SpeckleStatistics

__all__ = ["show_fem", "show_fem_comparison", "show_speckles"]


def show_fem(result: FEMResult, q_range: tuple[float, float] | None = None) -> Figure:
    """Draw the normalised variance, the mean intensity, and a map of the variance.

    Parameters
    ----------
    result : FEMResult
    q_range : (float, float), optional
        Radii of the map, in the unit of the result; None: a tenth of the rings around the largest
        variance.

    Returns
    -------
    Figure
        The band is one standard deviation; dotted is the noise of counting that was subtracted.
    """
    figure = canvas.new_figure(10.5, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    window = _window(result) if q_range is None else q_range
    _variance(left, result)
    left.axvspan(*window, color=canvas.COLORS[4], alpha=0.2, linewidth=0)
    image, title = np.full(result.kept.shape, np.nan), "no variance is known"
    if np.isfinite(result.variance).any():
        found = result.map(window)
        image, title = found.data, found.name
    drawn = canvas.scan_map(right, image, result.calibration, title, bar=True)
    canvas.color_bar(drawn, right, "variance within rings")
    return figure


def _window(result: FEMResult) -> tuple[float, float]:
    """Around the largest of the variances that are known best, outside of the direct beam."""
    known = np.isfinite(result.variance)
    score = np.where(known, result.variance - 2 * np.nan_to_num(result.variance_sigma), -np.inf)
    rising = np.flatnonzero(np.diff(np.nan_to_num(result.mean)) > 0)
    beyond = rising[rising > int(np.argmax(np.nan_to_num(result.mean[:5])))]
    start = int(beyond[0]) if len(beyond) else 0
    best = float(result.q[start + int(np.argmax(score[start:]))])
    half = max(0.05 * float(result.q[-1]), 1.01 * result.axis.step)
    return max(best - half, 0.0), best + half


def _variance(ax: Axes, result: FEMResult) -> None:
    q, v, sigma = result.q, result.variance, result.variance_sigma
    ax.plot(q, v, color=canvas.SECOND, label=f"V ({result.method})")
    ax.fill_between(q, v - sigma, v + sigma, color=canvas.SECOND, alpha=0.25, linewidth=0)
    ax.plot(q, result.shot_noise, ":", color=canvas.SECOND, label="noise, subtracted")
    high = np.nanpercentile(v, 98) if np.isfinite(v).any() else 1.0
    ax.set_ylim(min(0.0, 1.1 * float(np.nanmin(v, initial=0.0))), 1.6 * max(float(high), 1e-3))
    ax.set_xlabel(f"radius ({decorate.unit_text(result.units)})", parse_math=False)
    ax.set_ylabel("normalised variance")
    ax.set_title(f"{result.name}, {int(result.kept.sum())} positions", parse_math=False)
    other = ax.twinx()
    other.semilogy(q, np.where(result.mean > 0, result.mean, np.nan), color=canvas.ACCENT,
                   linewidth=1)  # fmt: skip
    other.set_ylabel("mean intensity", color=canvas.ACCENT)
    ax.legend(fontsize="small", framealpha=0.8, loc="upper right")


def show_fem_comparison(found: FEMComparison) -> Figure:
    """Draw the difference of two variances, and its window.

    Parameters
    ----------
    found : FEMComparison

    Returns
    -------
    Figure
        The band is one standard deviation.
    """
    figure = canvas.new_figure(6.4, 4.2)
    ax = figure.subplots()
    low, high = found.difference - found.sigma, found.difference + found.sigma
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.axvspan(*found.q_range, color=canvas.COLORS[4], alpha=0.2, linewidth=0)
    ax.plot(found.q, found.difference, color=canvas.SECOND)
    ax.fill_between(found.q, low, high, color=canvas.SECOND, alpha=0.25, linewidth=0)
    ax.set_xlabel(f"radius ({decorate.unit_text(found.units)})", parse_math=False)
    ax.set_ylabel(f"difference of V ({found.method})")
    ax.set_title(found.name, parse_math=False)
    words = canvas.pm(found.window_difference, found.window_sigma)
    canvas.note(ax, f"{words}\n{found.significance:.1f} standard deviations", y=0.04)
    return figure


def show_speckles(found: SpeckleStatistics) -> Figure:
    """Draw how intensity is distributed, beside three laws.

    Parameters
    ----------
    found : SpeckleStatistics

    Returns
    -------
    Figure
    """
    from py4DSTEM.process.amorphous.speckle import LAWS

    figure = canvas.new_figure(6.4, 4.2)
    ax = figure.subplots()
    ax.semilogy(found.values, _positive(found.observed), "o", color="0.2", ms=3, label="observed")
    for color, law, shares in zip(canvas.COLORS, LAWS, found.expected, strict=False):
        ax.semilogy(found.values, _positive(shares), color=color, label=law)
    seen = found.observed[found.observed > 0]
    ax.set_ylim(0.3 * float(seen.min()), 2 * float(seen.max()))
    ax.set_xlabel("counts" if found.counts else "intensity over that of the ring")
    ax.set_ylabel("share of the pixels")
    ax.set_title(found.name, parse_math=False)
    ax.legend(fontsize="small", framealpha=0.8, loc="lower left")
    words = canvas.pm(found.contrast, found.contrast_sigma)
    canvas.note(ax, f"contrast {words}\nM = {found.modes:.3g}")
    return figure


def _positive(values: canvas.Float) -> canvas.Float:
    return np.where(values > 0, values, np.nan)
