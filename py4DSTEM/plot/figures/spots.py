"""Simulated patterns of crystals: spots, rings, beams against thickness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from py4DSTEM.errors import ParameterError
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.crystal.bloch import BlochWaves
    from py4DSTEM.process.crystal.powder import PowderPattern
    from py4DSTEM.process.crystal.spots import SpotPattern

__all__ = ["draw_spots", "show_bloch_waves", "show_powder_pattern", "show_spot_pattern"]

_LARGEST_PT = 14.0
_MOST_BEAMS = 6


def indices_text(hkl: Sequence[int]) -> str:
    """Miller indices with bars as matplotlib writes them.

    >>> indices_text([1, -1, 0])
    '$1\\\\overline{1}0$'
    """
    wide = any(abs(int(one)) > 9 for one in hkl)
    parts = [f"\\overline{{{-int(one)}}}" if one < 0 else f"{int(one)}" for one in hkl]
    return "$" + ("\\," if wide else "").join(parts) + "$"


def draw_spots(ax: Axes, pattern: SpotPattern, *, labels: int = 12, power: float = 0.25) -> None:
    """Circles whose diameter grows as a power of intensity; x down, y to the right."""
    scattered = ~pattern.is_direct
    strongest = pattern.intensity[scattered].max(initial=0.0) or 1.0
    size = np.minimum(pattern.intensity / strongest, 1.0) ** power * _LARGEST_PT
    colors = np.where(scattered, canvas.SECOND, canvas.ACCENT)
    ax.scatter(pattern.qy, pattern.qx, s=size**2, c=colors.tolist(), linewidths=0)
    for index in np.flatnonzero(scattered)[:labels]:
        ax.annotate(
            indices_text(pattern.hkl[index].tolist()), (pattern.qy[index], pattern.qx[index]),
            xytext=(0, _LARGEST_PT / 2 + 1), textcoords="offset points", ha="center", va="bottom",
            fontsize=7,
        )  # fmt: skip
    reach = 1.1 * float(np.hypot(*pattern.q_A.T).max(initial=0.1))
    ax.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal")
    ax.set(xlabel="$q_y$ (Å⁻¹)", ylabel="$q_x$ (Å⁻¹)")


def show_spot_pattern(*patterns: SpotPattern, labels: int = 12) -> Figure:
    """Draw simulated patterns side by side, the strongest spots with their indices.

    Parameters
    ----------
    *patterns : SpotPattern
        One or more, to compare.
    labels : int
        Spots that have indices beside them.

    Returns
    -------
    Figure
        The diameter of a spot grows as the fourth root of its intensity; x points down.

    Raises
    ------
    ParameterError
        No pattern.
    """
    if not patterns:
        raise ParameterError("give at least one pattern to draw")
    figure = canvas.new_figure(4.4 * len(patterns), 4.4)
    axes = figure.subplots(1, len(patterns), squeeze=False)[0]
    for ax, pattern in zip(axes, patterns, strict=True):
        draw_spots(ax, pattern, labels=labels)
        ax.set_title(f"{pattern.name}, {pattern.theory}", parse_math=False, fontsize=10)
    return figure


def show_bloch_waves(waves: BlochWaves, *, beams: int = 4) -> Figure:
    """Draw the pattern at the last thickness, and the strongest beams against thickness.

    Parameters
    ----------
    waves : BlochWaves
    beams : int
        Scattered beams, one of each that are equally strong at all thicknesses.

    Returns
    -------
    Figure
        The pattern alone, if there is one thickness.
    """
    if len(waves.thickness_A) < 2:
        return show_spot_pattern(waves.pattern())
    figure = canvas.new_figure(9.6, 4.2)
    left, right = figure.subplots(1, 2)
    draw_spots(left, waves.pattern())
    left.set_title(f"{waves.thickness_A[-1]:g} Å")
    intensity = waves.intensities
    for color, index in zip(canvas.COLORS, _distinct(waves, beams), strict=False):
        right.plot(waves.thickness_A, intensity[:, index], color=color, linewidth=1.3,
                   label=indices_text(waves.hkl[index].tolist()))  # fmt: skip
    right.set(xlabel="thickness (Å)", ylabel="intensity", ylim=(0, None))
    right.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{waves.crystal.name}, {waves.energy_eV / 1e3:g} kV", parse_math=False)
    return figure


def _distinct(waves: BlochWaves, beams: int) -> list[int]:
    """The direct beam and the strongest others that differ from those before them."""
    intensity = waves.intensities
    order = 1 + np.argsort(-intensity[:, 1:].max(axis=0).round(9), kind="stable")
    drawn = [0]
    for index in order.tolist():
        if len(drawn) > min(beams, _MOST_BEAMS - 1):
            break
        if not np.isclose(intensity[:, [index]], intensity[:, drawn], atol=1e-6).all(0).any():
            drawn.append(index)
    return drawn


def show_powder_pattern(rings: PowderPattern, *, labels: int = 10) -> Figure:
    """Draw the profile of rings with their indices.

    Parameters
    ----------
    rings : PowderPattern
    labels : int
        Rings that have indices above them: the strongest.

    Returns
    -------
    Figure
    """
    figure = canvas.new_figure(6.8, 3.6)
    ax = figure.subplots()
    ax.plot(rings.k_A, rings.profile, color=canvas.SECOND, linewidth=1.2)
    height = np.interp(rings.ring_k_A, rings.k_A, rings.profile)
    for index in np.argsort(-height, kind="stable")[:labels]:
        ax.annotate(
            indices_text(np.sort(np.abs(rings.hkl[index]))[::-1].tolist()),
            (rings.ring_k_A[index], height[index]), xytext=(0, 3), textcoords="offset points",
            ha="center", va="bottom", fontsize=7, rotation=90,
        )  # fmt: skip
    ax.set(xlabel="k (Å⁻¹)", ylabel="intensity per area (Å²)", ylim=(0, 1.25 * height.max()))
    ax.set_title(rings.name, parse_math=False)
    return figure
