"""Ptychography: phase and its spectrum, slices, probe modes, convergence, and what was judged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.plot import contrast, decorate
from py4DSTEM.plot.figures import canvas, frc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.core.slices import RealSlice
    from py4DSTEM.process.phase.ptychography.judge import PtychographyJudgement
    from py4DSTEM.process.phase.ptychography.result import PtychographyResult
    from py4DSTEM.process.phase.ptychography.search import OpticsSearch
    from py4DSTEM.process.phase.ptychography.tune import PtychographyTuning

__all__ = [
    "show_judgement",
    "show_optics_search",
    "show_ptychography",
    "show_slices",
    "show_tuning",
]

_PANEL = 3.3
"""Width of a picture, inches."""
_MOST_SLICES, _MOST_MODES = 12, 4


def show_ptychography(result: PtychographyResult, *, title: str | None = None) -> Figure:
    """Draw phase and its spectrum, the probe modes, and the fall of the error.

    Parameters
    ----------
    result : PtychographyResult
    title : str, optional
        None: size, rotation and status.

    Returns
    -------
    Figure
        The phase is in scan axes: x down, y to the right.  Probe modes are in detector axes, hue
        for phase and brightness for modulus, with their shares.  The noise level is what counting
        alone leaves of the error.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from py4DSTEM import ptychography, simulate
    >>> scan = simulate.phase_object((8, 8), (48, 48), seed=1)
    >>> figure = show_ptychography(ptychography(scan.cube, defocus_A=100.0, rotation_rad=0.3))
    >>> [ax.get_title() for ax in figure.axes if ax.get_title()]
    ['phase', 'its spectrum', 'probe', 'error']
    """
    modes = min(len(result.probe), _MOST_MODES)
    phase = result.phase
    height = canvas.map_height(phase.shape, phase.calibration, _PANEL) + 0.6
    figure = canvas.new_figure((_PANEL + 0.6) * 4, height + 0.3)
    figure.suptitle(title or _title(result), parse_math=False, fontsize="medium")
    grid = figure.add_gridspec(2, 4 * 2) if modes > 1 else figure.add_gridspec(1, 4 * 2)
    _phase(figure.add_subplot(grid[:, 0:2]), phase, "phase")
    _spectrum(figure.add_subplot(grid[:, 2:4]), phase)
    probes = grid[:, 4:6].subgridspec(*((1, 1) if modes == 1 else (2, math.ceil(modes / 2))))
    _probes([figure.add_subplot(cell) for cell in list(probes)[:modes]], result)  # type: ignore[call-overload]
    _convergence(figure.add_subplot(grid[:, 6:8]), result.errors, result.expected_error)
    return figure


def show_slices(result: PtychographyResult) -> Figure:
    """Draw the phase of each slice (of twelve at the most, evenly chosen) with its depth.

    Parameters
    ----------
    result : PtychographyResult

    Returns
    -------
    Figure
        All with the same colours, from the least to the largest phase.
    """
    slices = result.slice_phases
    count = min(len(slices), _MOST_SLICES)
    chosen = np.unique(np.linspace(0, len(slices) - 1, count).round().astype(int))
    across = min(len(chosen), 4)
    down = math.ceil(len(chosen) / across)
    width = 2.4
    height = canvas.map_height(slices[0].shape, slices[0].calibration, width) + 0.35
    figure = canvas.new_figure(across * width + 0.9, down * height)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    data = [slices[k].data - np.median(slices[k].data) for k in chosen]
    limits = canvas.between(np.stack(data), 0.5, 99.8)
    for ax in axes[len(chosen) :]:
        ax.set_axis_off()
    for ax, k, image in zip(axes, chosen, data, strict=False):
        top = k * result.slice_thickness_A
        drawn = canvas.scan_map(
            ax, image, slices[k].calibration, f"slice {k}, from {top:.0f} Å",
            limits=limits, cmap="inferno", bar=bool(k == chosen[0]),
        )  # fmt: skip
    canvas.color_bar(drawn, list(axes[: len(chosen)]), "rad")
    return figure


def show_optics_search(found: OpticsSearch) -> Figure:
    """Draw the errors of all trials against defocus, by thickness and half turn.

    Parameters
    ----------
    found : OpticsSearch

    Returns
    -------
    Figure
        Filled symbols belong to the half turn that was chosen; the dashed line is what counting
        noise alone leaves.
    """
    figure = canvas.new_figure(6.0, 4.2)
    ax = figure.subplots()
    defocus, rotation, _, thickness = found.tried.T
    chosen = np.cos(rotation - found.rotation_rad) > 0
    for color, value in zip(canvas.COLORS, np.unique(thickness), strict=False):
        for half, face, words in ((True, color, ""), (False, "none", ", half a turn more")):
            some = (thickness == value) & (chosen == half)
            if some.any():
                name = f"{value:.0f} Å" if value else "one slice"
                ax.plot(defocus[some], found.errors[some], "o", color=color,
                        markerfacecolor=face, label=name + words)  # fmt: skip
    ax.axhline(found.expected_error, color=canvas.ACCENT, linestyle="--", label="counting noise")
    ax.axvline(found.defocus_A, color=canvas.SECOND, linewidth=0.8)
    ax.set_xlabel("defocus in the middle (Å)")
    ax.set_ylabel("error")
    ax.set_title("; ".join(found.text().splitlines()[:2]), fontsize="small", parse_math=False)
    ax.legend(fontsize="small", framealpha=0.8)
    return figure


def show_judgement(judged: PtychographyJudgement) -> Figure:
    """Draw the fall of the error to the noise, the correlation of halves, and the words.

    Parameters
    ----------
    judged : PtychographyJudgement

    Returns
    -------
    Figure
    """
    figure = canvas.new_figure(11.0 if judged.halves is not None else 7.0, 4.6)
    panels = figure.subplots(1, 1 if judged.halves is None else 2, squeeze=False)[0]
    _convergence(panels[0], tuple(judged.errors), judged.expected_error)
    if judged.halves is not None:
        frc.draw_ring_correlation(panels[1], judged.halves)
    words = judged.warnings or ("nothing speaks against it",)
    figure.supxlabel("\n".join(f"• {w}" for w in words), fontsize="small", ha="left", x=0.02,
                     parse_math=False, wrap=True)  # fmt: skip
    return figure


def show_tuning(tuned: PtychographyTuning) -> Figure:
    """Draw the error of every trial, and against each parameter.

    Parameters
    ----------
    tuned : PtychographyTuning

    Returns
    -------
    Figure
    """
    names = [name for name, values in tuned.values.items() if values.dtype.kind in "fiub"]
    figure = canvas.new_figure(3.2 * (1 + len(names)), 3.2)
    first, *rest = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    number = np.arange(len(tuned.scores))
    best = np.fmin.accumulate(tuned.scores)
    first.plot(number, tuned.scores, "o", color=canvas.SECOND, markersize=4)
    first.plot(number, best, color=canvas.ACCENT, drawstyle="steps-post", label="best so far")
    first.set_xlabel("trial")
    first.set_ylabel(tuned.score)
    first.legend(fontsize="small")
    for ax, name in zip(rest, names, strict=True):
        ax.plot(tuned.values[name], tuned.scores, "o", color=canvas.SECOND, markersize=4)
        ax.axvline(float(tuned.best[name]), color=canvas.ACCENT, linewidth=1)
        ax.set_xlabel(name)
    return figure


# ---- panels --------------------------------------------------------------------------------------
def _title(result: PtychographyResult) -> str:
    flip = "x and y exchanged" if result.optics.flip else "no flip"
    many = f", {len(result.object)} slices" if len(result.object) > 1 else ""
    state = f", {result.status.upper()}" if result.status == "diverged" else ""
    return (
        f"ptychography{many}: {len(result.errors)} iterations{state}, "
        f"rotation {result.rotation_deg:.1f}°, {flip}"
    )


def _phase(ax: Axes, phase: RealSlice, title: str) -> None:
    limits = canvas.between(phase.data, 0.2, 99.8)
    drawn = canvas.scan_map(
        ax, phase.data, phase.calibration, title, limits=limits, cmap="inferno", bar=True
    )
    canvas.color_bar(drawn, ax, "rad")


def _spectrum(ax: Axes, phase: RealSlice) -> None:
    """Modulus of the Fourier transform of the phase, zero frequency in the middle."""
    spectrum, axes = phase_spectrum(phase.data, phase.calibration.R[0].step)
    high = float(np.percentile(spectrum, 99.9))
    canvas.picture(ax, spectrum, axes, "its spectrum", limits=(0.0, high or 1.0), cmap="gray",
                   bar=True, power=0.5)  # fmt: skip


def phase_spectrum(
    phase: NDArray[np.float64], step_A: float
) -> tuple[NDArray[np.float64], tuple[Axis, Axis]]:
    """Modulus of the windowed Fourier transform, and its axes in Å⁻¹."""
    nx, ny = phase.shape
    window = np.hanning(nx)[:, None] * np.hanning(ny)
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2((phase - phase.mean()) * window)))
    x, y = (Axis(name, 1 / (n * step_A), unit="A^-1") for name, n in (("Qx", nx), ("Qy", ny)))
    return spectrum, (x, y)


def _probes(axes: list[Axes], result: PtychographyResult) -> None:
    """Modes as colours, cut to where the probe is, each scaled to its own maximum."""
    power = (np.abs(result.probe) ** 2).sum(axis=0)
    seen = np.argwhere(power > 1e-3 * power.max())
    (x0, y0), (x1, y1) = seen.min(axis=0), seen.max(axis=0) + 1
    step_x, step_y = result.sampling_A
    for number, (ax, mode) in enumerate(zip(axes, result.probe, strict=False)):
        cut = mode[x0:x1, y0:y1].astype(np.complex128)
        high = float(np.abs(cut).max()) or 1.0
        ax.imshow(
            contrast.complex_colors(cut, high), interpolation="nearest", aspect=step_x / step_y
        )
        share = f"{result.mode_shares[number]:.1%}" if len(result.probe) > 1 else "probe"
        canvas.plain_axes(ax, share)
        if number == 0:
            decorate.scale_bar(ax, cut.shape, Axis("Ry", step_y, unit="A"))
    if len(axes) == 1:
        decorate.color_wheel(axes[0], 1.0, "of the largest")


def _convergence(ax: Axes, errors: tuple[float, ...], expected: float) -> None:
    ax.plot(np.arange(1, len(errors) + 1), errors, color=canvas.SECOND, label="of the patterns")
    ax.axhline(expected, color=canvas.ACCENT, linestyle="--", label="counting noise alone")
    if errors and max(errors) > 20 * min(min(errors), expected) > 0:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    ax.set_title("error", fontsize="medium")
    ax.set_xlabel("iteration")
    ax.legend(fontsize="small", framealpha=0.8)
