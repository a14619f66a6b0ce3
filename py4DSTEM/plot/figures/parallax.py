"""Parallax: aligned image and phase, displacements of the bright-field images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.phase.parallax import ParallaxResult

__all__ = ["show_parallax"]


def show_parallax(result: ParallaxResult) -> Figure:
    """Draw what parallax found: aligned bright field, phase, and the displacements of the images.

    Parameters
    ----------
    result : ParallaxResult

    Returns
    -------
    Figure
        Arrows: where the image of each group of bright-field pixels is displaced to, along the
        axes of the scan, measured and fitted, at the place of the group on the detector.
    """
    height = canvas.map_height(result.phase.shape, result.phase.calibration, 3.6)
    figure = canvas.new_figure(11.6, height + 0.6)
    defocus = canvas.pm(result.defocus_A, result.sigma_defocus_A, "A")
    turn = canvas.pm(result.rotation_deg, math.degrees(result.sigmas["rotation_rad"]))
    flip = "x and y exchanged" if result.flip else "no flip"
    figure.suptitle(
        f"{result.name}: defocus {defocus}, rotation {turn}°, {flip}",
        parse_math=False, fontsize="medium",
    )  # fmt: skip
    image, phase, arrows = figure.subplots(1, 3)
    canvas.scan_map(
        image, result.image.data, result.image.calibration, result.image.name, cmap="gray", bar=True
    )
    drawn = canvas.scan_map(phase, result.phase.data, result.phase.calibration, "phase", bar=True)
    canvas.color_bar(drawn, phase, "rad")
    _arrows(arrows, result)
    return figure


def _arrows(ax: Axes, result: ParallaxResult) -> None:
    k, good = result.k_A, np.isfinite(result.shifts_A).all(axis=1)
    for shifts, color, label, width in (
        (result.fitted_A, canvas.ACCENT, "fitted", 0.008),
        (result.shifts_A, canvas.SECOND, "measured", 0.004),
    ):
        ax.quiver(
            k[good, 1], k[good, 0], shifts[good, 1], shifts[good, 0], color=color, label=label,
            angles="xy", width=width, pivot="mid",
        )  # fmt: skip
    ax.invert_yaxis()
    ax.set_aspect("equal")
    ax.set_xlabel("$k_y$ (Å⁻¹)")
    ax.set_ylabel("$k_x$ (Å⁻¹)")
    largest = float(np.hypot(*result.fitted_A.T).max())
    ax.set_title(f"displacements, up to {largest:.3g} Å", fontsize="medium")
    ax.legend(fontsize="small", loc="upper right", framealpha=0.8)
