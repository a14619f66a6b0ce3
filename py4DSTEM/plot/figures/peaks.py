"""Bragg peaks: disks over patterns, all peaks in one map, basis vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.plot import decorate
from py4DSTEM.plot.draw import show
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from py4DSTEM.process.bragg.lattice import LatticeFit
    from py4DSTEM.process.bragg.peaks import BraggPeaks

__all__ = ["show_bragg_peaks", "show_peaks", "show_vector_map"]

Float = NDArray[np.float64]
_DISK = "#56B4E9"
_COLUMNS = 4


def show_peaks(
    cube: Cube,
    peaks: PointTable,
    positions: Sequence[tuple[int, int]] | None = None,
    *,
    radius_px: float | None = None,
) -> Figure:
    """Draw the disks that were found over some patterns.

    Parameters
    ----------
    cube : DataCube
    peaks : BraggPeaks
        Of the same scan.
    positions : sequence of (rx, ry), optional
        None: four that are spread over the scan.
    radius_px : float, optional
        Of the circles; None: that of the calibrated probe.

    Returns
    -------
    Figure
        Circles are the less opaque the fainter the disk; the cross is the calibrated origin.

    Raises
    ------
    ShapeError
        The peaks are of a scan of another shape.
    ParameterError
        A position is outside the scan.
    """
    if tuple(peaks.shape) != tuple(cube.R_shape):
        raise ShapeError(f"peaks of a scan of {peaks.shape} do not fit one of {cube.R_shape}")
    given = _spread(cube.R_shape) if positions is None else positions
    chosen = [(int(x), int(y)) for x, y in given]
    if not chosen:
        raise ParameterError("no positions to draw: give at least one (rx, ry)")
    for rx, ry in chosen:
        if not (0 <= rx < peaks.shape[0] and 0 <= ry < peaks.shape[1]):
            raise ParameterError(f"position {(rx, ry)} is outside the scan of {peaks.shape}")
    radius = _radius(peaks, cube) if radius_px is None else radius_px
    columns = min(_COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = canvas.new_figure(3.1 * columns, 3.4 * rows)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, position in zip(places, chosen, strict=False):
        _disks(ax, cube, peaks, position, radius, ax is places[0])
    for spare in places[len(chosen) :]:
        spare.remove()
    return figure


def _spread(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Four positions, none at the rim of the scan."""
    places = ((1, 1), (1, 3), (3, 1), (3, 3))
    found = [(shape[0] * x // 4, shape[1] * y // 4) for x, y in places]
    return list(dict.fromkeys(found))


def _radius(peaks: PointTable, cube: Cube) -> float:
    for calibration in (peaks.calibration, cube.calibration):
        try:
            return calibration.semiangle_px()
        except CalibrationMissing:
            continue
    return max(2.0, min(cube.Q_shape) / 40)


def _disks(
    ax: Axes, cube: Cube, peaks: PointTable, position: tuple[int, int], radius: float, first: bool
) -> None:
    from matplotlib.collections import EllipseCollection

    rx, ry = position
    found = peaks[rx, ry]
    title = f"({rx}, {ry}): {len(found)} disks"
    show(cube[rx, ry], ax=ax, title=title, scale=0.35, scalebar=first)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("")
    ax.set_ylabel("")
    places = np.stack([found["qy"], found["qx"]], axis=-1)
    sizes = np.full(len(found), 2 * radius)
    circles = EllipseCollection(
        sizes, sizes, np.zeros(len(found)), units="xy", offsets=places,
        offset_transform=ax.transData, facecolors="none", linewidths=1.2,
        edgecolors=_fading(found), zorder=4,
    )  # fmt: skip
    ax.add_collection(circles, autolim=False)
    if peaks.calibration.origin_px is not None:
        x, y = peaks.calibration.origins(peaks.shape)[rx, ry]
        ax.plot(y, x, "+", color="white", markersize=7, markeredgewidth=1, zorder=5)


def _fading(found: NDArray[Any]) -> Float:
    """Colours (n, 4) of the disks: opaque for the brightest, still visible for the faintest."""
    from matplotlib.colors import to_rgb

    colors = np.ones((len(found), 4))
    colors[:, :3] = to_rgb(_DISK)
    if "intensity" in (found.dtype.names or ()) and len(found):
        brightness = np.nan_to_num(found["intensity"]).clip(0)
        colors[:, 3] = 0.45 + 0.55 * np.sqrt(brightness / max(float(brightness.max()), 1e-300))
    return colors


# ---- maps ----------------------------------------------------------------------------------------
def show_vector_map(
    image: DiffractionSlice, basis: LatticeFit | ArrayLike | None = None, *, indices: int = 6
) -> Figure:
    """Draw a Bragg vector map with the basis vectors of the lattice.

    Parameters
    ----------
    image : DiffractionSlice
        A centred map, as `bragg_vector_map` makes it where an origin is known.
    basis : LatticeFit or (2, 2), optional
        g1 and g2 (rows), in the unit of the axes of the map.
    indices : int
        Points of the lattice are marked up to these indices.

    Returns
    -------
    Figure

    Raises
    ------
    ParameterError
        The basis is not two vectors, or is in another unit than the map.
    """
    figure = canvas.new_figure(5.4, 5.0)
    ax = figure.subplots()
    show(image, ax=ax, scale=0.3)
    if basis is not None:
        _basis(ax, image, _rows(basis, image.axes[0].unit), indices)
    return figure


def _rows(basis: LatticeFit | ArrayLike, unit: str) -> Float:
    fitted = getattr(basis, "basis", None)
    if fitted is not None and getattr(basis, "unit", unit) != unit:
        raise ParameterError(
            f"a lattice in {getattr(basis, 'unit', '')} on a map in {unit}: make the map from "
            "the peaks with the calibration of the lattice"
        )
    rows = np.asarray(basis if fitted is None else fitted, dtype=np.float64)
    if rows.shape != (2, 2):
        raise ParameterError(f"a basis is two vectors (2, 2): g1 and g2, not {rows.shape}")
    return rows


def _basis(ax: Axes, image: DiffractionSlice, rows: Float, indices: int) -> None:
    steps = np.array([axis.step for axis in image.axes])
    origin = np.array(image.calibration.mean_origin_px)
    h, k = (n.ravel() for n in np.mgrid[-indices : indices + 1, -indices : indices + 1])
    points = origin + np.stack([h, k], axis=-1) @ rows / steps
    inside = ((points > -0.5) & (points < np.array(image.shape) - 0.5)).all(axis=1)
    ax.scatter(points[inside, 1], points[inside, 0], s=60, facecolors="none", edgecolors=_DISK,
               linewidths=0.8, zorder=4)  # fmt: skip
    for row, name, color in zip(rows, ("$g_1$", "$g_2$"), ("#F0E442", "#E69F00"), strict=True):
        tip = origin + row / steps
        ax.annotate(
            "", (tip[1], tip[0]), (origin[1], origin[0]), zorder=5,
            arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.8, "shrinkA": 0,
                        "shrinkB": 0},
        )  # fmt: skip
        label = origin + 1.25 * row / steps
        ax.text(label[1], label[0], name, color=color, ha="center", va="center", zorder=6,
                fontsize="large", path_effects=decorate.outlined())  # fmt: skip


def show_bragg_peaks(peaks: BraggPeaks) -> Figure:
    """Draw the number of peaks at every position, and all of them as a Bragg vector map."""
    figure = canvas.new_figure(9.6, 4.4)
    figure.suptitle(f"{peaks.name}: {len(peaks)} peaks at {peaks.counts.size} positions",
                    parse_math=False)  # fmt: skip
    counts, vectors = figure.subplots(1, 2)
    drawn = canvas.scan_map(counts, peaks.counts, peaks.calibration, "peaks per position", bar=True)
    canvas.color_bar(drawn, counts, "peaks")
    if peaks.calibration.origin_px is None and peaks.Q_shape is None:
        vectors.text(0.5, 0.5, "no origin and no shape of the patterns", ha="center", va="center",
                     transform=vectors.transAxes)  # fmt: skip
        vectors.set_axis_off()
    else:
        show(peaks.bragg_vector_map(), ax=vectors, scale=0.3, title="Bragg vector map")
    return figure
