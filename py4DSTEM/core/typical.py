"""Shapes to begin with: detectors on a pattern, selections on a scan."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.detector import (
    Annulus,
    Detector,
    Disk,
    DiskLattice,
    EllipseDisk,
    Point,
    Polygon,
    Rectangle,
    Segment,
)
from py4DSTEM.core.selection import (
    DiskSelection,
    MaskSelection,
    PointSelection,
    PolygonSelection,
    RectangleSelection,
    Selection,
)
from py4DSTEM.errors import CalibrationMissing, ParameterError

__all__ = ["DETECTORS", "SELECTIONS", "selected_within", "typical_detector", "typical_selection"]

DETECTORS = (
    "point", "disk", "annulus", "rectangle", "ellipse", "wedge", "polygon", "lattice"
)  # fmt: skip
SELECTIONS = ("point", "rectangle", "disk", "polygon", "mask")

Pair = tuple[float, float]


def typical_detector(kind: str, Q_shape: tuple[int, int], calibration: Calibration) -> Detector:
    """A detector of some kind as it is first drawn, to be dragged from there.

    Its size is that of the unscattered disk, or an eighth of the pattern where that is not known;
    it lies on the calibrated origin, or in the middle.

    Parameters
    ----------
    kind : str
        One of `DETECTORS`.
    Q_shape : (int, int)
    calibration : Calibration

    Returns
    -------
    Detector
        In pixels.

    Examples
    --------
    >>> typical_detector("disk", (64, 48), Calibration(probe_radius_px=7.0))
    Disk(radius=7.0, center=(31.5, 23.5), units='px', kind='disk')
    """
    try:
        radius = calibration.semiangle_px()
    except CalibrationMissing:
        radius = max(min(Q_shape) / 8, 1.0)
    known = calibration.origin_px is not None
    center = None if known else ((Q_shape[0] - 1) / 2, (Q_shape[1] - 1) / 2)
    made: dict[str, Any] = {
        "point": lambda: Point(center),
        "disk": lambda: Disk(radius, center),
        "annulus": lambda: Annulus(1.5 * radius, 2.5 * radius, center),
        "rectangle": lambda: Rectangle(2 * radius, 3 * radius, center),
        "ellipse": lambda: EllipseDisk(1.5 * radius, radius, 0.0, center),
        "wedge": lambda: Segment(0.0, 2.5 * radius, -math.pi / 8, math.pi / 8, center),
        "polygon": lambda: Polygon(_corners((0.0, 0.0), radius, 5), center),
        "lattice": lambda: DiskLattice(
            radius / 2, (3 * radius, 0.0), (0.0, 3 * radius), 3, False, center
        ),
    }
    if kind not in made:
        raise ParameterError(f"no detector {kind!r}; there is {', '.join(DETECTORS)}")
    detector: Detector = made[kind]()
    return detector


def typical_selection(kind: str, R_shape: tuple[int, int], at: Pair | None = None) -> Selection:
    """A selection of scan positions as it is first drawn: about a quarter of the scan.

    Parameters
    ----------
    kind : str
        One of `SELECTIONS`; a mask selects everything.
    R_shape : (int, int)
    at : (float, float), optional
        Where; None: the middle.

    Returns
    -------
    Selection

    Examples
    --------
    >>> typical_selection("rectangle", (12, 8))
    RectangleSelection(x0=4, x1=7, y0=3, y1=5, kind='rectangle')
    """
    x, y = at or ((R_shape[0] - 1) / 2, (R_shape[1] - 1) / 2)
    half = [max(n / 8, 0.5) for n in R_shape]
    if kind == "point":
        return PointSelection(math.floor(x + 0.5), math.floor(y + 0.5))
    if kind == "rectangle":
        x0, y0 = math.ceil(x - half[0]), math.ceil(y - half[1])
        rows, columns = (max(math.floor(2 * h), 1) for h in half)
        return RectangleSelection(x0, x0 + rows, y0, y0 + columns)
    if kind == "disk":
        return DiskSelection(min(half), (x, y))
    if kind == "polygon":
        return PolygonSelection(_corners((x, y), min(half), 5))
    if kind == "mask":
        return MaskSelection(np.ones(R_shape, bool))
    raise ParameterError(f"no selection {kind!r}; there is {', '.join(SELECTIONS)}")


def selected_within(image: NDArray[Any], low: float, high: float) -> MaskSelection:
    """Scan positions at which an image lies between two limits, both included.

    Parameters
    ----------
    image : (Rx, Ry) real array
    low, high : float

    Raises
    ------
    ParameterError
        There are none, or the image is not one of real numbers.

    Examples
    --------
    >>> selected_within(np.array([[1.0, 2.0], [3.0, np.nan]]), 2, 3).data.astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    if image.ndim != 2 or image.dtype.kind not in "buif":
        raise ParameterError("positions are selected by one image of real numbers")
    chosen = (image >= low) & (image <= high)
    if not chosen.any():
        raise ParameterError(f"no position has a value between {low:.4g} and {high:.4g}")
    return MaskSelection(chosen)


def _corners(center: Pair, radius: float, count: int) -> tuple[Pair, ...]:
    """Of a regular polygon, from the one above on."""
    turns = 2 * np.pi * np.arange(count) / count
    x = center[0] - radius * np.cos(turns)
    y = center[1] + radius * np.sin(turns)
    return tuple((float(a), float(b)) for a, b in zip(x, y, strict=True))
