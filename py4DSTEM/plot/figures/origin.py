"""The origin over the scan: measured, a smooth surface, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import ParameterError, SolveError
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.calibrate.origin_fit import OriginFit, OriginMeasurement

__all__ = ["show_origin", "show_origin_fit"]

Float = NDArray[np.float64]
_PANEL = 2.7
_NAMES = ("$q_x$", "$q_y$")


def show_origin(measured: OriginMeasurement, fit: OriginFit | str | None = "plane") -> Figure:
    """Draw measured origins, a surface through them, and the residuals.

    Parameters
    ----------
    measured : OriginMeasurement
    fit : OriginFit or str, optional
        The surface, or the name of its model; None, or a scan that is too small for one: the
        uncertainties instead.

    Returns
    -------
    Figure
        Rows qx and qy (px).  Positions without an origin are grey; outliers of the fit crossed.
    """
    surface = _surface(measured, fit)
    if surface is None:
        columns = {"measured": measured.origin_px, "σ": measured.sigma_px}
        return _drawn(columns, measured.calibration, f"origin by {measured.method}")
    columns = {
        "measured": measured.origin_px,
        f"{surface.model}": surface.origin_px,
        "residual": measured.origin_px - surface.origin_px,
    }
    title = f"origin by {measured.method}, {surface.model} surface"
    return _drawn(columns, measured.calibration, title, surface)


def show_origin_fit(fit: OriginFit) -> Figure:
    """Draw a surface through measured origins and its uncertainty."""
    columns = {f"{fit.model}": fit.origin_px, "σ": fit.sigma_px}
    return _drawn(columns, fit.calibration, f"origin, {fit.model} surface", fit)


def _surface(measured: OriginMeasurement, fit: OriginFit | str | None) -> OriginFit | None:
    if not isinstance(fit, str):
        return fit
    try:
        return measured.fit(fit)  # type: ignore[arg-type]
    except (ParameterError, SolveError):  # too few positions
        return None


def _drawn(
    columns: dict[str, Float], calibration: Calibration, title: str, fit: OriginFit | None = None
) -> Figure:
    shape = next(iter(columns.values())).shape[:2]
    height = canvas.map_height(shape, calibration, _PANEL) + 0.4
    figure = canvas.new_figure((_PANEL + 0.9) * len(columns), 2 * height + 0.4)
    figure.suptitle(title, parse_math=False)
    grid = figure.subplots(2, len(columns), squeeze=False)
    for k, row in enumerate(grid):
        shared = np.concatenate([columns[n][..., k].ravel() for n in columns if n not in _OWN])
        for ax, (name, maps) in zip(row, columns.items(), strict=True):
            _panel(ax, name, maps[..., k], calibration, shared, k)
            if fit is not None and name in ("measured", "residual"):
                _cross(ax, fit.outliers)
    if fit is not None:
        for ax, left in zip(grid[:, -1], fit.residual_px, strict=True):
            ax.set_xlabel(f"rms residual {left:.2g} px", fontsize="small")
    return figure


_OWN = ("residual", "σ")


def _panel(
    ax: Axes, name: str, image: Float, calibration: Calibration, shared: Float, k: int
) -> None:
    """A map of one component; measured and fitted share their colours."""
    limits, cmap = canvas.between(shared), "viridis"
    if name == "residual":
        limit = canvas.symmetric_limit(image, percentile=98)
        limits, cmap = (-limit, limit), "RdBu_r"
    elif name == "σ":
        limits, cmap = (0.0, canvas.between(image)[1]), "cividis"
    bar = name == "measured" and k == 0
    drawn = canvas.scan_map(
        ax, image, calibration, f"{_NAMES[k]}, {name}", limits=limits, cmap=cmap, bar=bar
    )
    canvas.color_bar(drawn, ax, "px")


def _cross(ax: Axes, outliers: NDArray[np.bool_]) -> None:
    rx, ry = np.nonzero(outliers)
    if len(rx):
        ax.plot(ry, rx, "x", color="black", markersize=4, markeredgewidth=0.8)
