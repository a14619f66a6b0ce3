"""The rotation between detector and scan: what every angle would leave."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.calibrate.rotation import RotationMeasurement

__all__ = ["show_rotation"]

_LABELS = {
    "curl_rms": "rms curl / whole",
    "div_rms": "rms divergence / whole",
    "misfit_rms": "rms misfit of the shifts / whole",
    "across_rms": "rms across the frequencies / whole",
}


def show_rotation(measured: RotationMeasurement) -> Figure:
    """Draw curl and divergence of the deflection (or the misfit) against the angle, for both flips.

    Parameters
    ----------
    measured : RotationMeasurement

    Returns
    -------
    Figure
        One plot per curve; the line is the angle that was found (the half turn is decided by other
        means, and left out), the band its uncertainty.
    """
    names = [name for name in _LABELS if name in measured.curve]
    figure = canvas.new_figure(4.4 * len(names) + 0.4, 3.6)
    figure.suptitle(
        f"rotation {canvas.pm(measured.rotation_deg, math.degrees(measured.sigma_rad))}°, "
        f"{'x and y exchanged' if measured.flip else 'no flip'}, by {measured.method}",
        parse_math=False,
    )
    for ax, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _curves(ax, name, measured)
    return figure


def _curves(ax: Axes, name: str, measured: RotationMeasurement) -> None:
    angles = np.degrees(measured.curve["angles_rad"])
    for flip, label in ((False, "no flip"), (True, "x and y exchanged")):
        chosen = flip == measured.flip
        ax.plot(
            angles, measured.curve[name][int(flip)], label=label, linewidth=2 if chosen else 1.2,
            color=canvas.COLORS[int(flip)], alpha=1 if chosen else 0.7,
        )  # fmt: skip
    found = (measured.rotation_deg + 90) % 180 - 90
    sigma = math.degrees(measured.sigma_rad)
    ax.axvspan(found - sigma, found + sigma, color="0.6", alpha=0.4, linewidth=0)
    ax.axvline(found, color="0.3", linewidth=1)
    ax.set_xlim(-90, 90)
    ax.set_xticks(range(-90, 91, 30))
    ax.set_ylim(bottom=0)
    ax.margins(y=0.15)
    ax.set_xlabel("rotation modulo 180° (°)")
    ax.set_ylabel(_LABELS[name])
    ax.legend(fontsize="small", loc="best", framealpha=0.8)
