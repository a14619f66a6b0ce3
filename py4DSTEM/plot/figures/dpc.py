"""Differential phase contrast: phase, field, charge, and how the integration went."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.plot import contrast, decorate
from py4DSTEM.plot.figures import canvas
from py4DSTEM.process.phase.fields import charge_density

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.core.calibration import Calibration
    from py4DSTEM.process.phase.dpc import DPCResult

__all__ = ["show_dpc"]

_PANEL = 3.4
"""Width of a map, inches."""


def show_dpc(result: DPCResult, *, smooth_A: float = 0.0, title: str | None = None) -> Figure:
    """Draw the phase, the field or the deflection in colours, the charge and the residual.

    Parameters
    ----------
    result : DPCResult
    smooth_A : float
        Standard deviation (Å) of a Gaussian over which the charge density is smoothed.
    title : str, optional
        None: rotation and flip, and how they were found.

    Returns
    -------
    Figure
        Hue is the direction in which electrons are deflected and brightness how far; without the
        energy of the beam the charge is left out.  x points down, y to the right.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from py4DSTEM import dpc, simulate
    >>> scan = simulate.phase_object((8, 9), (48, 48), Q_pixel_size_A=0.05, seed=1)
    >>> figure = show_dpc(dpc(scan.cube, rotation_rad=0.3))
    >>> [ax.get_title() for ax in figure.axes if ax.get_title()]
    ['phase', 'deflection', 'charge density', 'residual']
    """
    charged = result.calibration.energy_eV is not None
    panels = 4 if charged else 3
    shape = result.phase.shape
    height = canvas.map_height(shape, result.calibration, _PANEL) + 0.7
    figure = canvas.new_figure(panels * (_PANEL + 0.7), height)
    figure.suptitle(title or _turn_text(result), parse_math=False)
    axes = iter(figure.subplots(1, panels))
    phase = result.phase.data
    drawn = canvas.scan_map(
        (ax := next(axes)), phase, result.calibration, "phase",
        limits=canvas.between(phase, 0.2, 99.8), cmap="inferno", bar=True,
    )  # fmt: skip
    canvas.color_bar(drawn, ax, "rad")
    canvas.hatch_unknown(ax, phase)
    _wheel_map(next(axes), result.vectors.data, result.calibration)
    if charged:
        _charge(next(axes), result, smooth_A)
    _residual(next(axes), result)
    return figure


def _turn_text(result: DPCResult) -> str:
    turn = canvas.pm(result.rotation_deg, math.degrees(result.rotation_sigma_rad))
    flip = "x and y exchanged" if result.flip else "no flip"
    state = "" if result.converged else ", NOT converged"
    return f"rotation {turn}°, {flip} ({result.rotation_by}); {result.method}{state}"


def _wheel_map(ax: Axes, vectors: NDArray[np.complex128], calibration: Calibration) -> None:
    high = canvas.symmetric_limit(np.abs(vectors))
    x, y = calibration.R
    colors = contrast.complex_colors(vectors, high, 1.0)
    ax.imshow(colors, interpolation="nearest", aspect=x.step / y.step if x.unit == y.unit else 1.0)
    canvas.plain_axes(ax, "deflection")
    decorate.color_wheel(ax, high, decorate.unit_text("A^-1"))


def _charge(ax: Axes, result: DPCResult, smooth_A: float) -> None:
    charge = charge_density(result.deflection, smooth_A).data
    limit = canvas.symmetric_limit(charge)
    drawn = canvas.scan_map(
        ax, charge, result.calibration, "charge density", limits=(-limit, limit), cmap="RdBu_r"
    )
    canvas.color_bar(drawn, ax, "e/Å²")


def _residual(ax: Axes, result: DPCResult) -> None:
    x, y = result.residual.data
    left = np.hypot(x, y)
    drawn = canvas.scan_map(
        ax, left, result.calibration, "residual", limits=(0.0, canvas.symmetric_limit(left))
    )
    ax.set_xlabel(f"rms {result.residual_share:.3g} of the deflection", fontsize="small")
    canvas.color_bar(drawn, ax, decorate.unit_text("A^-1"))
