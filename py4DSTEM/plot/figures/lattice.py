"""The lattice of every position: lengths and angle, quality of the fit, and what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.plot import decorate
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.bragg.basis import Basis
    from py4DSTEM.process.bragg.lattice import LatticeFit

__all__ = ["show_basis", "show_lattice"]

Float = NDArray[np.float64]
_PANEL = 2.9


def show_basis(basis: Basis) -> Figure:
    """Draw two lattice vectors and the lattice that they span.

    Parameters
    ----------
    basis : Basis

    Returns
    -------
    Figure
        x (rows) points down, y (columns) to the right, as in a pattern.
    """
    figure = canvas.new_figure(4.8, 4.8)
    ax = figure.subplots()
    n = np.arange(-3, 4)
    points = np.stack(np.meshgrid(n, n, indexing="ij"), axis=-1).reshape(-1, 2) @ basis.vectors
    ax.plot(points[:, 1], points[:, 0], "o", color="0.7", markersize=4)
    for name, (x, y), sigma, color in zip(
        ("$g_1$", "$g_2$"), basis.vectors, basis.sigma, canvas.COLORS, strict=False
    ):
        arrow = {"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (y, x), (0.0, 0.0), arrowprops=arrow)
        words = f"{canvas.pm(x, sigma[0])}, {canvas.pm(y, sigma[1])}"
        ax.plot([], [], color=color, label=f"{name}: {words}")
    reach = 1.6 * float(np.linalg.norm(basis.vectors, axis=1).max())
    ax.set_xlim(-reach, reach)
    ax.set_ylim(reach, -reach)
    ax.set_aspect("equal")
    unit = decorate.unit_text(basis.unit)
    ax.set_xlabel(f"y ({unit})", parse_math=False)
    ax.set_ylabel(f"x ({unit})", parse_math=False)
    ax.set_title(f"explains {basis.explained:.1%} of the peaks", parse_math=False)
    ax.legend(fontsize="small", loc="upper right", framealpha=0.8)
    return figure


def show_lattice(fit: LatticeFit) -> Figure:
    """Draw the lattice vectors of a scan and how well they are known.

    Parameters
    ----------
    fit : LatticeFit

    Returns
    -------
    Figure
        Lengths of g1 and g2, the angle between them, peaks on the lattice, rms residual, and the
        state of every position; positions that cannot be used are grey.
    """
    unit = decorate.unit_text(fit.unit)
    lengths = [np.hypot(g[..., 0], g[..., 1]) for g in (fit.g1, fit.g2)]
    maps = {
        "$|g_1|$": (lengths[0], unit),
        "$|g_2|$": (lengths[1], unit),
        "angle from $g_1$ to $g_2$": (_angle_deg(fit), "°"),
        "peaks on the lattice": (fit.count.astype(np.float64), "peaks"),
        "rms residual": (fit.residual, unit),
    }
    height = canvas.map_height(fit.shape, fit.calibration, _PANEL) + 0.4
    figure = canvas.new_figure(3 * (_PANEL + 1.0), 2 * height + 0.3)
    figure.suptitle(
        f"{fit.name}: {int(fit.mask.sum())} of {fit.mask.size} positions", parse_math=False
    )
    places = figure.subplots(2, 3).ravel()
    for ax, (title, (image, label)) in zip(places, maps.items(), strict=False):
        shown = image if title == "peaks on the lattice" else np.where(fit.mask, image, np.nan)
        bar = ax is places[0]
        drawn = canvas.scan_map(ax, shown, fit.calibration, title, bar=bar)
        canvas.color_bar(drawn, ax, label)
    _state(places[5], fit)
    return figure


def _angle_deg(fit: LatticeFit) -> Float:
    """From g1 to g2, positive from x towards y."""
    cross = fit.g1[..., 0] * fit.g2[..., 1] - fit.g1[..., 1] * fit.g2[..., 0]
    angle: Float = np.degrees(np.arctan2(cross, (fit.g1 * fit.g2).sum(-1)))
    return angle


def _state(ax: Axes, fit: LatticeFit) -> None:
    """Why positions are not used, and where there is more than one lattice."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    from py4DSTEM.process.bragg.lattice import REASONS

    names = [*REASONS, "another lattice besides"]
    state = np.where(fit.mask & fit.several, len(REASONS), fit.reason)
    colors = ["#f2f2f2", "#000000", "#CC79A7", "#E69F00", "#D55E00", "#56B4E9"]
    palette = [colors[k % len(colors)] for k in range(len(names))]
    x, y = fit.calibration.R
    ax.imshow(
        state, cmap=ListedColormap(palette), vmin=-0.5, vmax=len(names) - 0.5,
        interpolation="nearest", aspect=x.step / y.step if x.unit == y.unit else 1.0,
    )  # fmt: skip
    canvas.plain_axes(ax, "state")
    handles = [
        Patch(facecolor=palette[k], edgecolor="0.5", label=f"{names[k]} ({(state == k).sum()})")
        for k in np.unique(state)
    ]
    ax.legend(
        handles=handles, fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.02),
        frameon=False, borderpad=0,
    )  # fmt: skip
