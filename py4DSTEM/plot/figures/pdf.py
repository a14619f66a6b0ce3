"""Structure factor and pair distribution of a glass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.plot import decorate
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.amorphous.pdf_result import PDFResult
    from py4DSTEM.process.polar.background import BackgroundFit

__all__ = ["show_pair_distribution", "show_profile_background"]

Float = NDArray[np.float64]
_MOST_CURVES = 6


def show_pair_distribution(found: PDFResult) -> Figure:
    """Draw what was measured, the structure factor, G(r) and g(r) with their errors.

    Parameters
    ----------
    found : PDFResult
        Of a scan, of several regions, or of positions; of these the median of all, with a map of
        the first peak.

    Returns
    -------
    Figure
        Bands are one standard deviation (of positions: they hold 68 % of them); shaded is the first
        shell of neighbours.
    """
    figure = canvas.new_figure(9.6, 6.4)
    (measured, structure), (reduced, pairs) = figure.subplots(2, 2)
    _draw_intensity(measured, found)
    _curves(structure, found, found.q, found.S, None)
    structure.axhline(1, color="0.6", linewidth=0.8)
    structure.set(xlabel="q (Å⁻¹)", ylabel="S(q)")
    if len(found.shape) == 2:
        _draw_map(reduced, found)
    else:
        _curves(reduced, found, found.r, found.G, found.sigma_G)
        reduced.axvspan(0, found.r_min_A, color="0.9", linewidth=0)
        reduced.set(xlabel="r (Å)", ylabel="G(r) (Å⁻²)")
    _draw_pairs(pairs, found)
    figure.suptitle(f"{found.name}, {found.composition}", parse_math=False)
    return figure


def _rows(found: PDFResult, values: Float) -> tuple[Float, list[str]]:
    """Curves (k, n) to draw, and what they are called."""
    if not found.shape:
        return values[None], [""]
    if len(found.shape) == 1:
        names = [f"region {label}" for label in found.labels[:_MOST_CURVES]]
        return values[:_MOST_CURVES], names
    flat = values.reshape(-1, values.shape[-1])
    known = flat[np.isfinite(flat).all(axis=1)]
    return np.median(known, axis=0)[None], ["median of positions"]


def _curves(ax: Axes, found: PDFResult, x: Float, values: Float, sigma: Float | None) -> None:
    rows, names = _rows(found, values)
    for k, (row, name) in enumerate(zip(rows, names, strict=True)):
        color = canvas.SECOND if len(rows) == 1 else canvas.COLORS[k % len(canvas.COLORS)]
        ax.plot(x, row, color=color, linewidth=1.2, label=name or None)
        if sigma is not None and len(found.shape) < 2:
            wide = sigma if not found.shape else sigma[k]
            ax.fill_between(x, row - wide, row + wide, color=color, alpha=0.3, linewidth=0)
    if len(found.shape) == 2:
        flat = values.reshape(-1, values.shape[-1])
        low, high = np.percentile(flat[np.isfinite(flat).all(axis=1)], [16, 84], axis=0)
        ax.fill_between(x, low, high, color=canvas.SECOND, alpha=0.25, linewidth=0)
    if any(names):
        ax.legend(fontsize="small", framealpha=0.8)
    ax.set_xlim(0, float(x[-1]))


def _draw_intensity(ax: Axes, found: PDFResult) -> None:
    """Measured and smooth, times q squared, which brings rings to one height."""
    measured, smooth = (_rows(found, v)[0][0] for v in (found.intensity, found.smooth))
    ax.plot(found.q, measured * found.q**2, color=canvas.SECOND, label="measured")
    ax.plot(found.q, smooth * found.q**2, "--", color=canvas.ACCENT, label="smooth part")
    ax.set(xlabel="q (Å⁻¹)", ylabel="I q² (counts per pixel, Å⁻²)", xlim=(0, float(found.q[-1])))
    ax.legend(fontsize="small", framealpha=0.8)


def _draw_map(ax: Axes, found: PDFResult) -> None:
    peaks = found.first_peak().r_A
    drawn = canvas.scan_map(ax, peaks, found.calibration, "first peak of g(r)", bar=True)
    canvas.color_bar(drawn, ax, "r (Å)")


def _draw_pairs(ax: Axes, found: PDFResult) -> None:
    _curves(ax, found, found.r, found.g, found.sigma_g)
    ax.axhline(1, color="0.6", linewidth=0.8)
    start, top, end = found.shell()
    ax.axvspan(start, end, color=canvas.ACCENT, alpha=0.12, linewidth=0)
    ax.set(xlabel="r (Å)", ylabel="g(r)")
    high = float(np.nanmax(found.mean_g[found.r >= start]))
    ax.set_ylim(min(-0.5, -0.15 * high), 1.25 * high)
    if len(found.shape) < 1:
        peak, shell = found.first_peak(), found.coordination()
        canvas.note(
            ax,
            f"{canvas.pm(float(peak.r_A), float(peak.sigma_A), 'A')}\n"
            f"{canvas.pm(float(shell.number), float(shell.sigma))} neighbours",
        )
    else:
        canvas.note(ax, f"peak at {top:.2f} Å")


def show_profile_background(fit: BackgroundFit) -> Figure:
    """Draw radial profiles with the background below their rings, and what is left.

    Parameters
    ----------
    fit : BackgroundFit
        Of several profiles the mean of those that could be fitted.

    Returns
    -------
    Figure
        Shaded is where the background was fitted.
    """
    figure = canvas.new_figure(8.8, 3.8)
    q, bins = fit.profiles.q, len(fit.profiles.q)
    data, below = (v.reshape(-1, bins) for v in (fit.profiles.data, fit.background))
    known = np.isfinite(fit.rms).ravel()
    count = max(int(known.sum()), 1)
    mean, smooth = (np.where(known[:, None], v, 0.0).sum(axis=0) / count for v in (data, below))
    seen = np.isfinite(mean) & np.isfinite(smooth) & (q >= min(w[0] for w in fit.windows))
    unit = decorate.unit_text(fit.profiles.units)
    for ax, name in zip(figure.subplots(1, 2), ("intensity per pixel", "above background"),
                        strict=True):  # fmt: skip
        for low, high in fit.windows:
            ax.axvspan(low, high, color="0.92", linewidth=0)
        ax.set_xlabel(f"distance from the origin ({unit})", parse_math=False)
        ax.set_ylabel(name)
    whole, left = figure.axes
    whole.plot(q[seen], mean[seen], color=canvas.SECOND, label=fit.profiles.name)
    whole.plot(q[seen], smooth[seen], "--", color=canvas.ACCENT, label=fit.method)
    whole.legend(fontsize="small", framealpha=0.8)
    left.plot(q[seen], (mean - smooth)[seen], color=canvas.SECOND)
    left.axhline(0, color="0.6", linewidth=0.8)
    return figure
