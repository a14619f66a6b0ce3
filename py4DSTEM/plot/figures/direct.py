"""Direct ptychography: phase, amplitude, and which spatial frequencies the phase has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from py4DSTEM.core.axis import Axis
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from py4DSTEM.process.phase.direct import DirectResult

__all__ = ["show_direct_ptychography"]

_PANEL = 3.4
"""Width of a map, inches."""


def show_direct_ptychography(result: DirectResult) -> Figure:
    """Draw phase and amplitude over the scan, and the transfer of spatial frequencies.

    Parameters
    ----------
    result : DirectResult

    Returns
    -------
    Figure
        x points down, y to the right; zero frequency in the middle.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from py4DSTEM import simulate, ssb
    >>> scan = simulate.phase_object((8, 9), (48, 48), step_A=0.5, seed=1)
    >>> cube = scan.cube.with_calibration(scan.truth.calibration)
    >>> figure = show_direct_ptychography(ssb(cube, aberrations={"defocus": 100}))
    >>> [ax.get_title() for ax in figure.axes if ax.get_title()]
    ['phase', 'amplitude', 'transfer of phase']
    """
    phase, amplitude = result.phase.data, result.amplitude.data
    height = canvas.map_height(phase.shape, result.calibration, _PANEL) + 0.7
    figure = canvas.new_figure(3 * (_PANEL + 0.7), height)
    figure.suptitle("; ".join(result.text().splitlines()[:2]), parse_math=False, fontsize="medium")
    left, middle, right = figure.subplots(1, 3)
    for ax, values, title, unit in (
        (left, phase, "phase", "rad"), (middle, amplitude, "amplitude", "of the beam"),
    ):  # fmt: skip
        drawn = canvas.scan_map(
            ax, values, result.calibration, title,
            limits=canvas.between(values, 0.2, 99.8), cmap="inferno", bar=ax is left,
        )  # fmt: skip
        canvas.color_bar(drawn, ax, unit)
    steps = [1 / (n * axis.step) for n, axis in zip(phase.shape, result.calibration.R, strict=True)]
    axes = Axis("Qx", steps[0], unit="A^-1"), Axis("Qy", steps[1], unit="A^-1")
    drawn = canvas.picture(
        right, np.fft.fftshift(result.ctf), axes, "transfer of phase",
        limits=(0.0, 1.0), cmap="viridis", bar=True,
    )  # fmt: skip
    canvas.color_bar(drawn, right, "share")
    return figure
