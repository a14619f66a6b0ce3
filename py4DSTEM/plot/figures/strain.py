"""Strain maps: components on one scale, rotation beside them, uncertainties below."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import ParameterError
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from py4DSTEM.process.strain import StrainMap
    from py4DSTEM.process.strain_comparison import StrainComparison, StrainDifference

__all__ = ["show_strain", "show_strain_comparison", "show_strain_difference"]

Float = NDArray[np.float64]
Limits = tuple[tuple[float, float], tuple[float, float]]
"""Of the strains (%), and of the rotation."""
STRAINS = ("e_xx", "e_yy", "e_xy")
TITLES = {
    "e_xx": r"$\varepsilon_{xx}$",
    "e_yy": r"$\varepsilon_{yy}$",
    "e_xy": r"$\varepsilon_{xy}$",
    "theta": r"rotation $\theta$",
}
UNITS = {"deg": "°", "mrad": "mrad"}
_PANEL = 2.5
"""Width of a map, inches."""


def show_strain(
    strain: StrainMap,
    *,
    limit_percent: float | None = None,
    theta_limit: float | None = None,
    theta_unit: Literal["deg", "mrad"] = "deg",
    sigmas: bool = True,
    title: str | None = None,
) -> Figure:
    """Draw the components of a strain map.

    Parameters
    ----------
    strain : StrainMap
    limit_percent : float, optional
        Strain (%) of the strongest colour, the same for e_xx, e_yy and e_xy; None: what 99.5 % of
        the values stay below.  Zero is white.
    theta_limit : float, optional
        The same for the rotation, in `theta_unit`.
    theta_unit : "deg" or "mrad"
    sigmas : bool
        A second row with the one-sigma uncertainties, where these are known.
    title : str, optional
        None: the name of the map and the method.

    Returns
    -------
    Figure

    Notes
    -----
    x points down and y to the right; the arrows are the axes of the components.  Positions without
    a lattice are grey and hatched.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import numpy as np
    >>> from py4DSTEM.process.strain import StrainMap
    >>> e = np.full((4, 5), 0.01)
    >>> flat = StrainMap(e, e, e, e, np.zeros((4, 5, 4, 4)), np.ones((4, 5), bool), np.eye(2))
    >>> figure = show_strain(flat, sigmas=False)
    >>> len(figure.axes)  # four maps, the arrows and two colour bars
    7
    """
    scale = _scale(theta_unit)
    known = sigmas and bool(np.isfinite(strain.covariance).any())
    figure, grid = _grid(strain, 2 if known else 1)
    figure.suptitle(title or f"{strain.name}, {strain.method}", parse_math=False)
    values = {name: scale[name] * image for name, image in strain.components().items()}
    limit = limit_percent or canvas.symmetric_limit(*(values[name] for name in STRAINS))
    turn = theta_limit or canvas.symmetric_limit(values["theta"])
    row = _Row(strain.calibration, theta_unit, "RdBu_r", ((-limit, limit), (-turn, turn)))
    row.draw(grid[0], values, TITLES)
    canvas.axis_arrows(grid[0][4], strain.axis_angle_rad)
    if known:
        sigma = {name: scale[name] * strain.sigma(name) for name in scale}
        strains, theta = (canvas.between(s)[1] for s in (_joined(sigma), sigma["theta"]))
        limits = ((0.0, strains), (0.0, theta))
        below = _Row(strain.calibration, theta_unit, "viridis", limits, "σ")
        below.draw(grid[1], sigma, {name: f"σ, {TITLES[name]}" for name in scale})
        grid[1][4].set_axis_off()
    _say_unfitted(figure, values.values())
    return figure


def _say_unfitted(figure: Figure, maps: Iterable[Float]) -> None:
    """What is hatched, and of how many positions; components that are not known at all are not."""
    missing = [
        (int((~np.isfinite(image)).sum()), image.size) for image in maps if np.isfinite(image).any()
    ]
    most, size = max(missing, default=(0, 0))
    if most:
        canvas.hatched_legend(figure, f"no lattice at {most} of {size} positions")


def show_strain_comparison(
    comparison: StrainComparison, *, theta_unit: Literal["deg", "mrad"] = "deg"
) -> Figure:
    """Draw strain maps of one scan above one another, and what they differ by.

    Parameters
    ----------
    comparison : StrainComparison
    theta_unit : "deg" or "mrad"

    Returns
    -------
    Figure
        A row per map, all on one scale; then a row per pair, all on another, with the rms
        difference below each.  The common offset of a pair is not part of its difference.
    """
    scale = _scale(theta_unit)
    first = next(iter(comparison.maps.values()))
    pairs = list(dict.fromkeys((d.first, d.second) for d in comparison.differences))
    figure, grid = _grid(first, len(comparison.maps) + len(pairs))
    figure.suptitle(comparison.name, parse_math=False)
    maps = {
        name: {c: scale[c] * image for c, image in one.components().items()}
        for name, one in comparison.maps.items()
    }
    differences = {
        pair: {
            d.component: scale[d.component] * d.difference
            for d in comparison.differences
            if (d.first, d.second) == pair
        }
        for pair in pairs
    }
    above = _Row(first.calibration, theta_unit, "RdBu_r", _common_limits(maps.values()))
    below = _Row(
        first.calibration, theta_unit, "PuOr_r", _common_limits(differences.values()), "difference"
    )
    for places, (name, values) in zip(grid, maps.items(), strict=False):
        above.draw(places, values, TITLES if name == next(iter(maps)) else {}, name)
        places[4].set_axis_off()
    canvas.axis_arrows(grid[0][4], first.axis_angle_rad)
    for places, pair in zip(grid[len(maps) :], pairs, strict=True):
        below.draw(places, differences[pair], {}, f"{pair[1]} − {pair[0]}")
        places[4].set_axis_off()
        for ax, component in zip(places, TITLES, strict=False):
            if component in differences[pair]:
                rms = scale[component] * comparison[(*pair, component)].rms
                unit = UNITS[theta_unit] if component == "theta" else "%"
                ax.set_xlabel(f"rms {rms:.2g} {unit}", fontsize="small")
    shown = [
        image for values in (*maps.values(), *differences.values()) for image in values.values()
    ]
    _say_unfitted(figure, shown)
    return figure


def show_strain_difference(one: StrainDifference) -> Figure:
    """Draw the difference of two strain maps in one component, and its pulls.

    Parameters
    ----------
    one : StrainDifference

    Returns
    -------
    Figure
        The map, without the common offset, and the difference over its uncertainty beside the
        normal distribution.
    """
    scale = _scale("deg")[one.component]
    unit = UNITS["deg"] if one.component == "theta" else "%"
    figure = canvas.new_figure(9.0, 4.0)
    figure.suptitle(f"{one.component}: {one.second} − {one.first}", parse_math=False)
    ax, pulls = figure.subplots(1, 2)
    limit = canvas.symmetric_limit(scale * one.difference)
    drawn = canvas.scan_map(
        ax, scale * one.difference, Calibration(), f"rms {scale * one.rms:.2g} {unit}",
        limits=(-limit, limit), cmap="PuOr_r",
    )  # fmt: skip
    canvas.hatch_unknown(ax, one.difference)
    _say_unfitted(figure, [one.difference])
    canvas.color_bar(drawn, ax, f"difference ({unit})")
    edges = np.linspace(-4, 4, 33)
    if one.pulls.size:
        counts, _ = np.histogram(one.pulls, edges)
        density = counts / (one.pulls.size * (edges[1] - edges[0]))
        pulls.stairs(density, edges, fill=True, alpha=0.5, label=f"rms {one.pull_rms:.2f}")
    normal = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
    pulls.plot(edges, normal, color="0.2", linewidth=1, label="normal")
    pulls.set_xlabel("difference / sigma")
    pulls.legend(fontsize="small", framealpha=0.8)
    return figure


def _common_limits(rows: Iterable[Mapping[str, Float]]) -> Limits:
    """The largest modulus of all strains, and of all rotations, both ways from zero."""
    known = list(rows)
    strains = [image for row in known for name, image in row.items() if name != "theta"]
    turns = [row["theta"] for row in known if "theta" in row]
    limit, turn = (
        canvas.symmetric_limit(*images) if images else 1.0 for images in (strains, turns)
    )
    return (-limit, limit), (-turn, turn)


def _scale(theta_unit: str) -> dict[str, float]:
    """From the values of a strain map to % and `theta_unit`."""
    if theta_unit not in UNITS:
        raise ParameterError(f'theta_unit is "deg" or "mrad", not {theta_unit!r}')
    return dict.fromkeys(STRAINS, 100.0) | {
        "theta": math.degrees(1.0) if theta_unit == "deg" else 1e3
    }


def _joined(values: Mapping[str, Float]) -> Float:
    return np.concatenate([values[name].ravel() for name in STRAINS])


def _grid(strain: StrainMap, rows: int) -> tuple[Figure, NDArray[Any]]:
    """A figure of rows of four maps, and a narrow column for the arrows."""
    height = canvas.map_height(strain.shape, strain.calibration, _PANEL) + 0.5
    figure = canvas.new_figure(4 * _PANEL + 2.6, height * rows + 0.4)
    return figure, figure.subplots(rows, 5, width_ratios=(1, 1, 1, 1, 0.36), squeeze=False)


@dataclass(frozen=True)
class _Row:
    """Three strains on one scale, and the rotation on its own."""

    calibration: Calibration
    theta_unit: str
    cmap: str
    limits: Limits
    label: str = ""

    def draw(
        self,
        axes: NDArray[Any],
        values: Mapping[str, Float],
        titles: Mapping[str, str],
        name: str = "",
    ) -> None:
        """Draw the components that there are; places of others stay empty."""
        drawn = {}
        known = [c for c, image in values.items() if np.isfinite(image).any()] or list(values)
        for ax, component in zip(axes, TITLES, strict=False):
            if component not in known:
                ax.set_axis_off()
                continue
            drawn[component] = canvas.scan_map(
                ax,
                values[component],
                self.calibration,
                titles.get(component, ""),
                limits=self.limits[component == "theta"],
                cmap=self.cmap,
                bar=component == "e_xx",
            )
            canvas.hatch_unknown(ax, values[component])
        axes[0].set_ylabel(name, parse_math=False)
        strains = [drawn[component] for component in STRAINS if component in drawn]
        if strains:
            canvas.color_bar(strains[-1], list(axes[:3]), f"{self.label or 'strain'} (%)")
        if "theta" in drawn:
            label = f"{self.label or 'rotation'} ({UNITS[self.theta_unit]})"
            canvas.color_bar(drawn["theta"], axes[3], label)
