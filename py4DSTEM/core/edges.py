"""Where the edge of a detector or a selection lies, in pixels; hit tests.

Detectors are outlined on the diffraction pattern, selections on the scan.  A detector in physical
units goes through the calibrated pixel size and ellipse, so that what is drawn is what is summed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.borders import pixel_borders
from py4DSTEM.core.calibration import Calibration, rotation_matrix
from py4DSTEM.core.detector import (
    Annulus,
    Detector,
    Disk,
    DiskLattice,
    EllipseDisk,
    Mask,
    Point,
    Polygon,
    Rectangle,
    Segment,
    pixel_transform,
)
from py4DSTEM.core.selection import (
    DiskSelection,
    MaskSelection,
    PointSelection,
    PolygonSelection,
    RectangleSelection,
    Selection,
)
from py4DSTEM.errors import ParameterError

__all__ = ["Frame", "contains", "frame_of", "outline"]

Float = NDArray[np.float64]
_TOLERANCE_PX = 0.01
"""Largest distance between a circle and the polygon that is drawn for it."""


@dataclass(frozen=True, eq=False)
class Frame:
    """How the lengths of a detector become pixels: ``p = center + to_px @ v``."""

    center: Float
    to_px: Float
    to_units: Float

    @property
    def unit_per_px(self) -> float:
        """Length of a pixel in the unit of the detector (mean over the directions)."""
        return math.sqrt(abs(float(np.linalg.det(self.to_units))))

    def pixels(self, local: Float) -> Float:
        """Pixel coordinates of vectors from the centre, (n, 2)."""
        placed: Float = local @ self.to_px.T + self.center
        return placed


def frame_of(detector: Detector, calibration: Calibration | None = None) -> Frame:
    """The frame of a detector.

    Raises
    ------
    CalibrationMissing
        It lies at the calibrated origin, or has physical units, and that is not calibrated.
    """
    known = calibration or Calibration()
    to_units = pixel_transform(known, detector.units)
    to_px = np.asarray(np.linalg.inv(to_units), dtype=np.float64)
    return Frame(np.array(detector.center_px(known)), to_px, to_units)


def outline(
    shape: Detector | Selection, size: tuple[int, int], calibration: Calibration | None = None
) -> list[Float]:
    """The edge of a detector or a selection.

    Parameters
    ----------
    shape : Detector or Selection
    size : (int, int)
        Of a pattern ``(Qx, Qy)``, or of the scan ``(Rx, Ry)``.
    calibration : Calibration, optional
        Origin, pixel size and ellipse, where the detector needs them.

    Returns
    -------
    list of (n, 2) float64
        Closed lines in pixel coordinates ``(qx, qy)``, the first point repeated at the end.  They
        may lie outside of the frame.  A ring has two; a mask, one around each part and hole.

    Raises
    ------
    CalibrationMissing
        The detector needs an origin or a pixel size that is not calibrated.

    Examples
    --------
    >>> [line] = outline(Rectangle(4, 2, center=(5, 6)), (11, 12))
    >>> line.tolist()
    [[3.0, 5.0], [3.0, 7.0], [7.0, 7.0], [7.0, 5.0], [3.0, 5.0]]
    """
    if isinstance(shape, Selection):
        return [_closed(line) for line in _selected(shape)]
    if isinstance(shape, Mask):
        weights = np.abs(shape.data)
        return pixel_borders(weights > weights.max(initial=0.0) / 2)
    frame = frame_of(shape, calibration)
    lines = [frame.pixels(_closed(line)) for line in _edge(shape, frame.unit_per_px)]
    return _seen(lines, size) if isinstance(shape, DiskLattice) else lines


def contains(
    shape: Detector | Selection,
    point: tuple[float, float],
    calibration: Calibration | None = None,
) -> bool:
    """Whether a point, in pixels, lies in a detector or a selection.

    Parameters
    ----------
    shape : Detector or Selection
    point : (float, float)
        ``(qx, qy)``, or ``(rx, ry)`` for a selection.
    calibration : Calibration, optional
        As for `outline`.

    Returns
    -------
    bool
        False for a point that is not finite.

    Examples
    --------
    >>> contains(Disk(3, center=(5, 6)), (6, 8)), contains(Disk(3, center=(5, 6)), (8, 9))
    (True, False)
    """
    at = np.array([point], dtype=np.float64)
    if not np.isfinite(at).all():
        return False
    at = np.clip(at, -1e9, 1e9)
    if isinstance(shape, Selection):
        if isinstance(shape, PointSelection | RectangleSelection):
            at = np.floor(at + 0.5)
        return bool(shape.inside(*at.T)[0])
    return bool(shape.weights_at(at, calibration or Calibration())[0] != 0)


def _closed(line: Float) -> Float:
    return np.concatenate([line, line[:1]])


def _seen(lines: list[Float], size: tuple[int, int]) -> list[Float]:
    """Those lines that reach into the frame."""
    return [
        line
        for line in lines
        if (line.max(axis=0) >= -0.5).all() and (line.min(axis=0) <= np.array(size) - 0.5).all()
    ]


def _arc(radius: float, start: float, stop: float, pixel: float) -> Float:
    """Points on a circle from `start` to `stop` (rad), as dense as the eye needs."""
    sagitta = min(_TOLERANCE_PX * pixel / radius, 1.0)
    step = 2 * math.acos(1 - sagitta)
    count = int(np.clip(math.ceil((stop - start) / step), 48 * (stop - start) / math.tau, 1000))
    angle = np.linspace(start, stop, max(count, 2) + 1)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _circle(radius: float, pixel: float) -> Float:
    return _arc(radius, 0.0, math.tau, pixel)[:-1]


def _box(x0: float, x1: float, y0: float, y1: float) -> Float:
    return np.array([(x0, y0), (x0, y1), (x1, y1), (x1, y0)])


# ---- edges of detectors, in their own unit, around their centre ----------------------------------
@singledispatch
def _edge(detector: Detector, pixel: float) -> list[Float]:
    raise ParameterError(f"no outline is known of a detector of kind {detector.kind!r}")


@_edge.register
def _(detector: Point, pixel: float) -> list[Float]:
    return [_box(-0.5, 0.5, -0.5, 0.5)]


@_edge.register
def _(detector: Disk, pixel: float) -> list[Float]:
    return [_circle(detector.radius, pixel)]


@_edge.register
def _(detector: Annulus, pixel: float) -> list[Float]:
    radii = (detector.outer, detector.inner)
    return [_circle(radius, pixel) for radius in radii if radius > 0]


@_edge.register
def _(detector: Rectangle, pixel: float) -> list[Float]:
    x, y = detector.height / 2, detector.width / 2
    return [_box(-x, x, -y, y)]


@_edge.register
def _(detector: Segment, pixel: float) -> list[Float]:
    start, stop = detector.start_rad, detector.stop_rad
    if stop - start >= math.tau - 1e-9:
        return _edge(Annulus(detector.inner, detector.outer), pixel)
    outside = _arc(detector.outer, start, stop, pixel)
    if detector.inner == 0:
        return [np.concatenate([outside, np.zeros((1, 2))])]
    return [np.concatenate([outside, _arc(detector.inner, start, stop, pixel)[::-1]])]


@_edge.register
def _(detector: EllipseDisk, pixel: float) -> list[Float]:
    longest = max(detector.a, detector.b)
    unit = _circle(longest, pixel) / longest * np.array([detector.a, detector.b])
    return [unit @ rotation_matrix(-detector.theta_rad)]


@_edge.register
def _(detector: Polygon, pixel: float) -> list[Float]:
    return [np.array(detector.vertices)]


@_edge.register
def _(detector: DiskLattice, pixel: float) -> list[Float]:
    circle = _circle(detector.radius, pixel)
    return [circle + node for node in detector.nodes()]


# ---- edges of selections, in scan pixels ---------------------------------------------------------
@singledispatch
def _selected(selection: Selection) -> list[Float]:
    raise ParameterError(f"no outline is known of a selection of kind {selection.kind!r}")


@_selected.register
def _(selection: PointSelection) -> list[Float]:
    rx, ry = selection.rx, selection.ry
    return [_box(rx - 0.5, rx + 0.5, ry - 0.5, ry + 0.5)]


@_selected.register
def _(selection: RectangleSelection) -> list[Float]:
    s = selection
    return [_box(s.x0 - 0.5, s.x1 - 0.5, s.y0 - 0.5, s.y1 - 0.5)]


@_selected.register
def _(selection: DiskSelection) -> list[Float]:
    return [_circle(selection.radius, 1.0) + np.array(selection.center)]


@_selected.register
def _(selection: PolygonSelection) -> list[Float]:
    return [np.array(selection.vertices)]


@_selected.register
def _(selection: MaskSelection) -> list[Float]:
    return [line[:-1] for line in pixel_borders(selection.data != 0)]
