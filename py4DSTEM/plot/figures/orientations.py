"""Orientations, their grains, and patterns with what they should look like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import DependencyMissing, ParameterError
from py4DSTEM.plot import decorate
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from py4DSTEM.core.calibration import Calibration
    from py4DSTEM.core.crystal import Crystal
    from py4DSTEM.core.slices import DiffractionSlice
    from py4DSTEM.process.crystal.grains import OrientationGrains
    from py4DSTEM.process.crystal.phase_result import PhaseMap
    from py4DSTEM.process.crystal.result import OrientationMap

__all__ = ["show_orientation_grains", "show_orientations", "show_pattern_match"]

Float = NDArray[np.float64]
Direction = Literal["x", "y", "z"]
_UNKNOWN = 0.55
"""Grey of positions without an orientation."""
_WORDS = {"x": "x (down)", "y": "y (right)", "z": "z (out of the screen)"}
_WIDTH, _KEY = 3.0, 2.2
"""Of a map and of the colour keys, inches."""
_MOST_INDICES = 12
"""Spots whose indices are written; with more they would hide the pattern."""


# ---- maps of orientations ------------------------------------------------------------------------
def show_orientations(
    orientations: OrientationMap | PhaseMap, *, directions: Sequence[Direction] = ("z",)
) -> Figure:
    """Draw the crystal directions along sample directions, their key, and how sure they are.

    Parameters
    ----------
    orientations : OrientationMap or PhaseMap
    directions : sequence of "x", "y", "z"
        Of the sample.

    Returns
    -------
    Figure
        A map for each direction with the colour key of each crystal; the reliability; the
        one-sigma error in degrees.  Grey: not indexed.  Without orix, whose key this is, the
        first panel says how to install it.
    """
    from py4DSTEM.process.crystal.interop import layers_of

    layers = layers_of(orientations)
    height = canvas.map_height(layers.labels.shape, layers.calibration, _WIDTH)
    columns = len(directions) + 2
    figure = canvas.new_figure(_WIDTH * columns + _KEY, max(height, _KEY) + 0.7)
    found = int((layers.labels >= 0).sum())
    figure.suptitle(f"{orientations.name}: {found} of {layers.labels.size} positions",
                    fontsize="medium", parse_math=False)  # fmt: skip
    maps, keys = _side_by_side(figure, (_WIDTH * columns, _KEY))
    axes = maps.subplots(1, columns)
    _ipf_maps(axes, orientations, layers.calibration, directions)
    _sure_maps(axes[len(directions) :], layers)
    _keys(keys, [one.crystal for one in layers.maps], layers.names)
    return figure


def _side_by_side(figure: Figure, widths: tuple[float, float]) -> tuple[SubFigure, SubFigure]:
    parts: Any = figure.subfigures(1, 2, width_ratios=widths)
    return parts[0], parts[1]


def _ipf_maps(
    axes: Sequence[Axes], orientations: Any, calibration: Calibration, directions: Sequence[str]
) -> None:
    from py4DSTEM.process.crystal.ipf import ipf_colors

    for k, (ax, direction) in enumerate(zip(axes, directions, strict=False)):
        try:
            colors = ipf_colors(orientations, direction)
        except DependencyMissing as missing:
            canvas.plain_axes(ax, "crystal directions")
            canvas.note(ax, "\n".join(str(missing).split(": ")), x=0.5, y=0.6)
            continue
        _colored(ax, colors, calibration, f"along {_WORDS[direction]}", bar=k == 0)


def _colored(
    ax: Axes, colors: Float, calibration: Calibration, title: str, *, bar: bool = False
) -> None:
    """A map in colours, unknown positions grey."""
    x, y = calibration.R
    ax.imshow(
        np.where(np.isfinite(colors), colors, _UNKNOWN),
        interpolation="nearest",
        aspect=x.step / y.step if x.unit == y.unit else 1.0,
    )
    canvas.plain_axes(ax, title)
    if bar:
        decorate.scale_bar(ax, (colors.shape[0], colors.shape[1]), y)


def _sure_maps(axes: Sequence[Axes], layers: Any) -> None:
    trust = layers.take([one.reliability[:, :, 0] for one in layers.maps])
    sigma = layers.take([one.sigma_deg[:, :, 0] for one in layers.maps])
    drawn = canvas.scan_map(axes[0], trust, layers.calibration, "reliability", limits=(0.0, 1.0))
    canvas.color_bar(drawn, axes[0], "probability")
    high = canvas.between(sigma, 0, 98)[1]
    drawn = canvas.scan_map(
        axes[1], sigma, layers.calibration, "σ", limits=(0.0, high), cmap="magma"
    )
    canvas.color_bar(drawn, axes[1], "degrees")


def _keys(figure: SubFigure, crystals: Sequence[Crystal], names: Sequence[str]) -> None:
    """The colour key of each crystal, side by side."""
    from py4DSTEM.process.crystal.ipf import orix_symmetry

    try:
        groups = [orix_symmetry(crystal) for crystal in crystals]
    except DependencyMissing:
        return
    for k, (group, name) in enumerate(zip(groups, names, strict=True)):
        ax: Any = figure.add_subplot(len(groups), 1, k + 1, projection="ipf", symmetry=group)
        ax.plot_ipf_color_key(show_title=False)
        ax.set_title(f"{name} ({group.name})", fontsize="small", parse_math=False, loc="left")


# ---- grains --------------------------------------------------------------------------------------
def show_orientation_grains(grains: OrientationGrains) -> Figure:
    """Draw grains by their orientations, what varies within them, and their boundaries.

    Parameters
    ----------
    grains : OrientationGrains

    Returns
    -------
    Figure
        Colours of the crystal directions along z (of the grain's number without orix), black lines
        between grains and white ones at Σ3 twins; misorientation from the mean of the grain;
        kernel average; misorientations of boundaries.
    """
    shape = grains.labels.shape
    height = canvas.map_height(shape, grains.calibration, _WIDTH)
    figure = canvas.new_figure(4 * _WIDTH + 1.4, max(height, 2.0) + 0.8)
    first, second, third, last = figure.subplots(1, 4)
    mean, error = grains.mean_diameter
    size = canvas.pm(mean, error, grains.unit) if math.isfinite(mean) else "not known"
    figure.suptitle(f"{len(grains)} grains, mean diameter of whole ones {size}", fontsize="medium",
                    parse_math=False)  # fmt: skip
    _colored(first, _grain_colors(grains), grains.calibration, "along z", bar=True)
    _lines(first, grains.boundaries)
    high = max(canvas.between(grains.deviation_deg, 0, 99)[1], 1e-6)
    maps = ((second, grains.deviation_deg, "from the grain's mean"),
            (third, grains.kernel_deg, "kernel average"))  # fmt: skip
    for ax, image, title in maps:
        drawn = canvas.scan_map(ax, image, grains.calibration, title, limits=(0.0, high))
        canvas.color_bar(drawn, ax, "degrees")
    _angles(last, grains)
    return figure


def _grain_colors(grains: OrientationGrains) -> Float:
    """Of the orientation of each position; of its grain's number where orix is missing."""
    from py4DSTEM.plot.figures.grains import grain_colors
    from py4DSTEM.process.crystal.interop import Layers, orientation_map
    from py4DSTEM.process.crystal.ipf import ipf_colors_of

    phase = np.where(grains.labels >= 0, np.append(grains.phase, -1)[grains.labels], -1)
    maps = tuple(orientation_map(grains.matrices, one) for one in grains.crystals)
    try:
        return ipf_colors_of(Layers(phase, maps, grains.calibration, grains.history), "z")
    except DependencyMissing:
        colors = np.concatenate([grain_colors(len(grains)), [[np.nan] * 3]])
        return np.asarray(colors[grains.labels])


def _lines(ax: Axes, boundaries: NDArray[np.void]) -> None:
    """The edges between grains; twins white."""
    from matplotlib.collections import LineCollection

    x, y = boundaries["rx"], boundaries["ry"]
    along = x % 1 > 0.25  # between rows: the edge lies along the columns
    ends = [np.stack([y + s * along / 2, x + s * ~along / 2], axis=-1) for s in (-1, 1)]
    for mine, color in ((~boundaries["twin"], "black"), (boundaries["twin"], "white")):
        pieces = np.stack(ends, axis=1)[mine]
        ax.add_collection(LineCollection(list(pieces), colors=color, linewidths=0.9), autolim=False)


def _angles(ax: Axes, grains: OrientationGrains) -> None:
    angle, twin = grains.boundaries["angle_deg"], grains.boundaries["twin"]
    known = np.isfinite(angle)
    if not known.any():
        canvas.plain_axes(ax, "no boundaries")
        return
    edges = np.linspace(0, max(65.0, float(angle[known].max())), 27)
    parts = [angle[known & ~twin], angle[known & twin]]
    names = ["_others", f"Σ3 {grains.twin_share:.0%}"]
    ax.hist(parts, bins=list(edges), stacked=True, color=[canvas.SECOND, canvas.ACCENT],
            label=names)  # fmt: skip
    ax.set_xlabel("misorientation of boundaries (°)")
    ax.set_ylabel("edges of positions")
    if twin.any():
        ax.legend(fontsize="small")


# ---- patterns ------------------------------------------------------------------------------------
def show_pattern_match(
    pattern: DiffractionSlice,
    orientations: OrientationMap,
    position: tuple[int, int],
    *,
    match: int = 0,
    precession_mrad: float = 0.0,
    thickness_A: float = 100.0,
) -> Figure:
    """Draw a pattern with the spots that its orientation should have.

    Parameters
    ----------
    pattern : DiffractionSlice
        As measured, such as ``cube[rx, ry]``.
    orientations : OrientationMap
        With the calibration that the pattern is drawn by.
    position : (int, int)
        Rx, Ry.
    match : int
        Which of the orientations of the position.
    precession_mrad, thickness_A : float
        Of the simulated pattern (kinematic).

    Returns
    -------
    Figure
        The pattern on a scale of roots; circles whose area is that of the simulated amplitude,
        with indices at the strongest.

    Raises
    ------
    ParameterError
        A position outside the scan, or one without an orientation.
    CalibrationMissing
        No pixel size, origin or energy.
    """
    rx, ry = _place(orientations, position, match)
    calibration = orientations.calibration
    origin = calibration.origins(orientations.shape)[rx, ry]
    spots = _spots(orientations, (rx, ry, match), pattern, precession_mrad, thickness_A)
    at = spots.positions_px(calibration.replace(origin_px=tuple(origin)))
    inside = ((at >= -0.5) & (at <= np.array(pattern.data.shape) - 0.5)).all(axis=1)
    strongest = float(spots.intensity[~spots.is_direct].max(initial=0.0)) or 1.0
    at, weight = at[inside], np.sqrt(spots.intensity[inside] / strongest)
    figure = canvas.new_figure(5.6, 5.8)
    ax = figure.subplots()
    high = canvas.between(pattern.data, 0, 99.8)[1]
    canvas.picture(
        ax, pattern.data, calibration.Q, "", limits=(0.0, high), cmap="gray_r", power=0.5
    )
    beam = spots.is_direct[inside]
    ax.plot(at[beam, 1], at[beam, 0], "+", color=canvas.SECOND, markersize=10)
    ax.scatter(at[~beam, 1], at[~beam, 0], 12 + 240 * weight[~beam], facecolors="none",
               edgecolors=canvas.ACCENT, linewidths=1.2)  # fmt: skip
    for k in np.flatnonzero(~beam)[:_MOST_INDICES]:
        ax.annotate(
            " ".join(map(str, spots.hkl[inside][k])), (at[k, 1], at[k, 0]), (5, 5),
            textcoords="offset points", fontsize="x-small", color=canvas.ACCENT,
        )  # fmt: skip
    sigma, trust = (values[rx, ry, match] for values in
                    (orientations.sigma_deg, orientations.reliability))  # fmt: skip
    ax.set_title(
        f"{orientations.crystal.name} at ({rx}, {ry}): reliability {trust:.2f}, σ {sigma:.2g}°",
        fontsize="medium", parse_math=False,
    )  # fmt: skip
    return figure


def _place(
    orientations: OrientationMap, position: tuple[int, int], match: int
) -> tuple[int, int]:  # fmt: skip
    rx, ry = (int(one) for one in position)
    if not (0 <= rx < orientations.shape[0] and 0 <= ry < orientations.shape[1]):
        raise ParameterError(f"position {position} lies outside a scan of {orientations.shape}")
    if not 0 <= match < orientations.n_matches:
        raise ParameterError(f"match {match} of {orientations.n_matches}")
    if not np.isfinite(orientations.matches[rx, ry, match]).all():
        raise ParameterError(f"nothing is indexed at {position}: there is no pattern to compare")
    return rx, ry


def _spots(
    orientations: OrientationMap, which: tuple[int, int, int], pattern: DiffractionSlice,
    precession_mrad: float, thickness_A: float,
) -> Any:  # fmt: skip
    from py4DSTEM.errors import CalibrationMissing
    from py4DSTEM.process.crystal.patterns import diffraction_pattern

    calibration = orientations.calibration
    energy = calibration.energy_eV
    if energy is None:
        raise CalibrationMissing("energy", "with_calibration(energy_eV=...)")
    far = np.hypot(*(n / 2 for n in pattern.data.shape)) * max(calibration.Q_steps("A^-1"))
    return diffraction_pattern(
        orientations.crystal, orientations.matches[which], energy_eV=energy, k_max_A=float(far),
        precession_mrad=precession_mrad, thickness_A=thickness_A, weakest=5e-3,
    )  # fmt: skip
