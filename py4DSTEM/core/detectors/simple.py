"""Point, disk, annulus, rectangle, segment, ellipse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from py4DSTEM.core.detectors.base import Center, Detector, Float, Units, positive, ring
from py4DSTEM.core.detectors.covered import within_circle, within_rectangle
from py4DSTEM.core.parameters import numbers
from py4DSTEM.errors import ParameterError

__all__ = ["Annulus", "Disk", "EllipseDisk", "Point", "Rectangle", "Segment"]


@dataclass(frozen=True)
class Point(Detector):
    """A single pixel's worth of area: a unit square.

    Parameters
    ----------
    center : (float, float), optional
        Of the square, ``(qx, qy)`` in pixels; None: the calibrated origin.
    """

    center: Center = None
    units: Literal["px"] = "px"
    kind: Literal["point"] = "point"

    def signed_distance(self, x: Float, y: Float) -> Float:
        return np.maximum(np.abs(x), np.abs(y)) - 0.5

    def _extent(self) -> float:
        return math.sqrt(0.5)

    def _coverage(self, i: Float, j: Float, transform: Float) -> Float:
        return within_rectangle(i, j, (1.0, 1.0), np.full(2, 0.5))


@dataclass(frozen=True)
class Disk(Detector):
    """All within `radius` of the centre.

    Parameters
    ----------
    radius : float
        In `units`.
    center : (float, float), optional
        ``(qx, qy)`` in pixels; None: the calibrated origin.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Of the radius.

    Examples
    --------
    >>> from py4DSTEM import Calibration
    >>> round(float(Disk(3.0, center=(8, 8)).weights((17, 17), Calibration()).sum()), 1)
    28.3
    """

    radius: float
    center: Center = None
    units: Units = "px"
    kind: Literal["disk"] = "disk"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("radius", self.radius)

    def signed_distance(self, x: Float, y: Float) -> Float:
        return np.hypot(x, y) - self.radius

    def _extent(self) -> float:
        return self.radius

    def _coverage(self, i: Float, j: Float, transform: Float) -> Float:
        return within_circle(i, j, transform, self.radius)


@dataclass(frozen=True)
class Annulus(Detector):
    """All between `inner` and `outer` radius.

    Parameters
    ----------
    inner, outer : float
        In `units`.
    center : (float, float), optional
        ``(qx, qy)`` in pixels; None: the calibrated origin.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Of the radii.
    """

    inner: float
    outer: float
    center: Center = None
    units: Units = "px"
    kind: Literal["annulus"] = "annulus"

    def __post_init__(self) -> None:
        super().__post_init__()
        ring(self.inner, self.outer)

    def signed_distance(self, x: Float, y: Float) -> Float:
        r = np.hypot(x, y)
        return np.maximum(r - self.outer, self.inner - r)

    def _extent(self) -> float:
        return self.outer

    def _coverage(self, i: Float, j: Float, transform: Float) -> Float:
        whole = within_circle(i, j, transform, self.outer)
        hole = 0.0 if self.inner == 0 else within_circle(i, j, transform, self.inner)
        return np.maximum(whole - hole, 0.0)  # rounding


@dataclass(frozen=True)
class Rectangle(Detector):
    """A rectangle around the centre, along the axes of the detector.

    Parameters
    ----------
    height, width : float
        Along x (rows) and along y (columns), in `units`.
    center : (float, float), optional
        ``(qx, qy)`` in pixels; None: the calibrated origin.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Of height and width.
    """

    height: float
    width: float
    center: Center = None
    units: Units = "px"
    kind: Literal["rectangle"] = "rectangle"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("height", self.height)
        positive("width", self.width)

    def signed_distance(self, x: Float, y: Float) -> Float:
        return np.maximum(np.abs(x) - self.height / 2, np.abs(y) - self.width / 2)

    def _extent(self) -> float:
        return math.hypot(self.height, self.width) / 2

    def _coverage(self, i: Float, j: Float, transform: Float) -> Float:
        if transform[0, 1] or transform[1, 0]:
            return super()._coverage(i, j, transform)
        half = np.array([self.height, self.width]) / 2
        return within_rectangle(i, j, (transform[0, 0], transform[1, 1]), half)


@dataclass(frozen=True)
class Segment(Detector):
    """The part of an annulus between two directions; a wedge where `inner` is 0.

    Parameters
    ----------
    inner, outer : float
        Radii in `units`.
    start_rad, stop_rad : float
        Measured from x (down) towards y (right); the segment runs from start to stop in that sense.
    center : (float, float), optional
        ``(qx, qy)`` in pixels; None: the calibrated origin.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Of the radii.
    """

    inner: float
    outer: float
    start_rad: float
    stop_rad: float
    center: Center = None
    units: Units = "px"
    kind: Literal["segment"] = "segment"

    def __post_init__(self) -> None:
        super().__post_init__()
        ring(self.inner, self.outer)
        numbers("start_rad", self.start_rad, 1)
        numbers("stop_rad", self.stop_rad, 1)
        if not 0 < self.stop_rad - self.start_rad <= 2 * math.pi + 1e-12:
            raise ParameterError(
                f"a segment needs start_rad < stop_rad <= start_rad + 2π, not "
                f"{self.start_rad!r} to {self.stop_rad!r}"
            )

    def signed_distance(self, x: Float, y: Float) -> Float:
        r = np.hypot(x, y)
        ring = np.maximum(r - self.outer, self.inner - r)
        half = (self.stop_rad - self.start_rad) / 2
        middle = (self.stop_rad + self.start_rad) / 2
        off = np.abs((np.arctan2(y, x) - middle + np.pi) % (2 * np.pi) - np.pi)
        if half >= np.pi:
            return ring
        rays: Float = r * np.sin(np.clip(off - half, -np.pi / 2, np.pi / 2))
        return np.maximum(ring, rays)

    def _extent(self) -> float:
        return self.outer


@dataclass(frozen=True)
class EllipseDisk(Detector):
    """All within an ellipse.

    Parameters
    ----------
    a, b : float
        Semi-axes in `units`, in either order.
    theta_rad : float
        Direction of `a`, from x (down) towards y (right).
    center : (float, float), optional
        ``(qx, qy)`` in pixels; None: the calibrated origin.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Of the semi-axes.

    Examples
    --------
    >>> from py4DSTEM import Calibration
    >>> detector = EllipseDisk(6.0, 3.0, 0.5, center=(8, 8))
    >>> round(float(detector.weights((17, 17), Calibration()).sum()), 1)
    56.5
    """

    a: float
    b: float
    theta_rad: float = 0.0
    center: Center = None
    units: Units = "px"
    kind: Literal["ellipse"] = "ellipse"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("a", self.a)
        positive("b", self.b)
        numbers("theta_rad", self.theta_rad, 1)

    def signed_distance(self, x: Float, y: Float) -> Float:
        """To first order near the edge; never more than the true distance far from it."""
        c, s = math.cos(self.theta_rad), math.sin(self.theta_rad)
        u, v = np.abs(c * x + s * y), np.abs(c * y - s * x)
        level = np.hypot(u / self.a, v / self.b)
        slope = np.hypot(u / self.a**2, v / self.b**2)
        distance = np.full(np.shape(level), -float(min(self.a, self.b)))
        np.divide(level * (level - 1), slope, out=distance, where=slope > 0)
        # Deep inside the first order overshoots: the edge is no further than along either axis.
        along_u = self.a * np.sqrt(np.maximum(1 - (v / self.b) ** 2, 0)) - u
        along_v = self.b * np.sqrt(np.maximum(1 - (u / self.a) ** 2, 0)) - v
        near = -np.minimum(np.abs(along_u), np.abs(along_v))
        return np.where(level < 1, np.maximum(distance, near), distance)

    def _extent(self) -> float:
        return max(self.a, self.b)

    def _coverage(self, i: Float, j: Float, transform: Float) -> Float:
        c, s = math.cos(self.theta_rad), math.sin(self.theta_rad)
        to_circle = np.array([[c / self.a, s / self.a], [-s / self.b, c / self.b]])
        return within_circle(i, j, to_circle @ transform, 1.0)
