"""Strain maps: components on one scale, rotation beside them, uncertainties below."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import ParameterError
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from py4DSTEM.process.strain import StrainMap

__all__ = ["show_strain"]

Float = NDArray[np.float64]
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
_MAP = "RdBu_r"


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
    a value are grey.

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
    factor = _theta_factor(theta_unit)
    known = sigmas and bool(np.isfinite(strain.covariance).any())
    height = canvas.map_height(strain.shape, strain.calibration, _PANEL) + 0.6
    figure = canvas.new_figure(4 * _PANEL + 2.6, height * (2 if known else 1) + 0.3)
    rows = figure.subfigures(2 if known else 1, 1, hspace=0.02, squeeze=False)[:, 0]
    figure.suptitle(title or f"{strain.name}, {strain.method}", parse_math=False)
    values = {name: 100 * getattr(strain, name) for name in STRAINS}
    limit = limit_percent or canvas.symmetric_limit(*values.values())
    values["theta"] = factor * strain.theta
    turn = theta_limit or canvas.symmetric_limit(values["theta"])
    ranges = ((-limit, limit), (-turn, turn))
    _row(
        rows[0],
        strain,
        values,
        TITLES,
        ranges,
        _MAP,
        ("strain (%)", f"rotation ({UNITS[theta_unit]})"),
    )
    if known:
        _sigma_row(rows[1], strain, factor, theta_unit)
    return figure


def _theta_factor(unit: str) -> float:
    if unit not in ("deg", "mrad"):
        raise ParameterError(f'theta_unit is "deg" or "mrad", not {unit!r}')
    return math.degrees(1.0) if unit == "deg" else 1e3


def _sigma_row(part: SubFigure, strain: StrainMap, factor: float, theta_unit: str) -> None:
    scale = dict.fromkeys(STRAINS, 100.0) | {"theta": factor}
    values = {name: scale[name] * strain.sigma(name) for name in scale}
    titles = {name: f"σ, {TITLES[name]}" for name in scale}
    strains = np.concatenate([values[name].ravel() for name in STRAINS])
    ranges = (0.0, canvas.between(strains)[1]), (0.0, canvas.between(values["theta"])[1])
    _row(part, strain, values, titles, ranges, "viridis", ("σ (%)", f"σ ({UNITS[theta_unit]})"))


def _row(
    part: SubFigure,
    strain: StrainMap,
    values: dict[str, Float],
    titles: dict[str, str],
    ranges: tuple[tuple[float, float], tuple[float, float]],
    cmap: str,
    labels: tuple[str, str],
) -> None:
    """Three strains on one scale, the rotation on its own, and the axes."""
    axes = part.subplots(1, 5, width_ratios=(1, 1, 1, 1, 0.36))
    for ax, (name, image) in zip(axes, values.items(), strict=False):
        drawn = canvas.scan_map(
            ax,
            np.where(strain.mask, image, np.nan),
            strain.calibration,
            titles[name],
            limits=ranges[name == "theta"],
            cmap=cmap,
            bar=name == "e_xx",
        )
        if name == "e_xy":
            canvas.color_bar(drawn, list(axes[:3]), labels[0])
        elif name == "theta":
            canvas.color_bar(drawn, ax, labels[1])
    if cmap == _MAP:
        canvas.axis_arrows(axes[4], strain.axis_angle_rad)
    else:
        axes[4].set_axis_off()
