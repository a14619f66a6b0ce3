"""The probe: the disk, its edge, and the kernel made from it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import rotation_matrix
from py4DSTEM.errors import ParameterError
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.probe import Probe
    from py4DSTEM.process.probe_kernels import KernelKind

__all__ = ["show_probe"]

Float = NDArray[np.float64]
_PIXELS = (Axis("Qx"), Axis("Qy"))


def show_probe(
    probe: Probe, kernel: KernelKind = "auto", *, spacing_px: float | None = None
) -> Figure:
    """Draw a probe: pattern with its rim, radial profile with the fitted edge, and kernel.

    Parameters
    ----------
    probe : Probe
    kernel : str
        Kind of kernel, as for `Probe.kernel`; the flat one where there is no room for it.
    spacing_px : float, optional
        Least distance between neighbouring disks, which limits the trench of the kernel.

    Returns
    -------
    Figure
    """
    figure = canvas.new_figure(10.5, 3.4)
    cx, cy = (canvas.pm(c, s) for c, s in zip(probe.center, probe.sigma_center, strict=True))
    radius = canvas.pm(probe.radius_px, probe.sigma_radius_px, "px")
    edge = canvas.pm(probe.edge_px, probe.sigma_edge_px, "px")
    figure.suptitle(
        f"{probe.name}: center ({cx}, {cy}) px, radius {radius}, edge {edge}",
        parse_math=False,
        fontsize="medium",
    )
    pattern, profile, shape = figure.subplots(1, 3, width_ratios=(1, 1.35, 1))
    _pattern(pattern, probe)
    _profile(profile, probe)
    _kernel(shape, probe, kernel, spacing_px)
    return figure


def _window(ax: Axes, center: tuple[float, float], half: float, shape: tuple[int, int]) -> None:
    """Look at a square around the disk."""
    (x, y), (nx, ny) = center, shape
    ax.set_xlim(max(y - half, -0.5), min(y + half, ny - 0.5))
    ax.set_ylim(min(x + half, nx - 0.5), max(x - half, -0.5))


def _pattern(ax: Axes, probe: Probe) -> None:
    high = canvas.between(probe.pattern, 0, 99.8)[1]
    drawn = canvas.picture(
        ax, probe.pattern, _PIXELS, "pattern and rim", limits=(0.0, high), power=0.5
    )
    outline = rim_outline(probe.rim.a, probe.rim.b, probe.rim.theta_rad)
    scale = probe.radius_px / math.sqrt(probe.rim.a * probe.rim.b)
    ax.plot(
        probe.center[1] + scale * outline[1], probe.center[0] + scale * outline[0],
        color="#56B4E9", linewidth=1.6,
    )  # fmt: skip
    canvas.color_bar(drawn, ax, "intensity")
    _window(ax, probe.center, 2.2 * probe.radius_px + 3, probe.Q_shape)


def rim_outline(a: float, b: float, theta_rad: float, count: int = 181) -> Float:
    """Points (2, count) of an ellipse around zero: x, y."""
    t = np.linspace(0, 2 * math.pi, count)
    c, s = math.cos(theta_rad), math.sin(theta_rad)
    u, v = a * np.cos(t), b * np.sin(t)
    return np.stack([c * u - s * v, s * u + c * v])


def _profile(ax: Axes, probe: Probe) -> None:
    """Every pixel near the disk against its radius in the metric of the rim, and the model."""
    i, j = np.indices(probe.Q_shape, dtype=np.float64)
    offset = np.stack([i - probe.center[0], j - probe.center[1]], axis=-1)
    rho = np.hypot(*np.moveaxis(offset @ _rounded(probe).T, -1, 0)).ravel()
    near = rho < 2.2 * probe.radius_px + 3
    order = np.argsort(rho[near])
    image, values = probe.image().ravel()[near][order], probe.pattern.ravel()[near][order]
    inside = rho[near][order] < probe.radius_px - 2 * probe.edge_px
    # The model is one high: its height is that of the pixels within the rim.
    height = values[inside].mean() if inside.any() else values.max()
    ax.plot(
        rho[near][order], values / height, ".", color=canvas.SECOND, markersize=2.5,
        alpha=min(1.0, 400 / max(1, len(values))), rasterized=True, label="pixels",
    )  # fmt: skip
    ax.plot(rho[near][order], image, color=canvas.ACCENT, linewidth=1.6, label="model")
    ax.axvline(probe.radius_px, color="0.5", linewidth=0.8, linestyle="--")
    ax.set_xlabel("distance from the center (px)")
    ax.set_ylabel("intensity / height")
    ax.set_xlim(0, 2.2 * probe.radius_px + 3)
    legend = ax.legend(fontsize="small", loc="upper right", framealpha=0.8)
    for handle in filter(None, legend.legend_handles):
        handle.set_alpha(1)


def _rounded(probe: Probe) -> Float:
    """Matrix from offsets to offsets in which the rim is a circle of the probe's radius."""
    a, b, theta = probe.rim.a, probe.rim.b, probe.rim.theta_rad
    turn = rotation_matrix(-theta)
    mean = math.sqrt(a * b)
    matrix: Float = turn.T @ np.diag([mean / a, mean / b]) @ turn
    return matrix


def _kernel(ax: Axes, probe: Probe, kind: KernelKind, spacing_px: float | None) -> None:
    try:
        values = probe.kernel(kind, spacing_px=spacing_px)
    except ParameterError:  # no room for a trench
        values = probe.kernel("flat")
    image = np.fft.fftshift(values)
    limit = canvas.symmetric_limit(image, percentile=100)
    drawn = canvas.picture(
        ax, 100 * image / limit, _PIXELS, "kernel", limits=(-100, 100), cmap="RdBu_r"
    )
    canvas.color_bar(drawn, ax, "% of its maximum")
    middle = (probe.Q_shape[0] // 2, probe.Q_shape[1] // 2)
    _window(ax, middle, 2.2 * probe.radius_px + 3, probe.Q_shape)
