"""Detector shapes, and how they become anti-aliased pixel weights.

A shape knows one thing: the signed distance to its edge, negative inside.  Pixels that the edge
crosses get the fraction of their area that lies inside, from 16 x 16 samples with soft edges.
"""

from __future__ import annotations

import base64
import math
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ConfigDict, Field, PlainSerializer, PlainValidator

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError

__all__ = [
    "Annulus",
    "AnyDetector",
    "Detector",
    "Disk",
    "Mask",
    "Point",
    "Rectangle",
    "Segment",
    "presets",
    "segments",
]

Float = NDArray[np.float64]
Units = Literal["px", "mrad", "A^-1", "nm^-1"]
Center = tuple[float, float] | None
_SAMPLES = 16


class Detector(ABC):
    """A region of the detector.

    ``center=None`` is the calibrated origin; otherwise ``(qx, qy)`` in pixels, whatever the unit
    of the lengths.  Lengths in physical units use the calibrated pixel size and ellipse.  Angles
    are measured from x (rows, down) towards y (columns, right), in detector axes.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    center: Center
    units: Units
    kind: str

    @abstractmethod
    def signed_distance(self, x: Float, y: Float) -> Float:
        """Distance of (x, y), relative to the centre, from the edge; negative inside."""

    def center_px(self, calibration: Calibration) -> tuple[float, float]:
        """Centre in pixels, from the shape or else from the calibration (mean over the scan)."""
        return calibration.mean_origin_px if self.center is None else self.center

    def weights(self, Q_shape: tuple[int, int], calibration: Calibration) -> Float:
        """Fraction of each pixel that the shape covers, (Qx, Qy) float64 in [0, 1]."""
        transform = _pixel_transform(calibration, self.units)
        qx, qy = self.center_px(calibration)
        i, j = np.indices(Q_shape, dtype=np.float64)
        distance = self._distance(i - qx, j - qy, transform)
        # Half a pixel diagonal, stretched by the transform: further away the edge cannot be.
        reach = 0.75 * float(np.linalg.norm(transform, 2))
        weights = (distance < 0).astype(np.float64)
        edge = np.abs(distance) < reach
        weights[edge] = self._coverage(i[edge] - qx, j[edge] - qy, transform)
        return weights

    def weights_at(
        self, points_px: Float, calibration: Calibration, centers_px: Float | None = None
    ) -> Float:
        """Weight of single positions, (n,) float64: 1 inside, 0 outside; NaN is outside.

        Parameters
        ----------
        points_px : (n, 2) float64
            (qx, qy) in raw detector pixels.
        centers_px : (n, 2) float64, optional
            Where a shape without a centre of its own lies for each of them; None: at the
            calibrated origin (mean over the scan).
        """
        if self.center is not None or centers_px is None:
            centers_px = np.array(self.center_px(calibration))
        i, j = (points_px - centers_px).T
        return (self._distance(i, j, _pixel_transform(calibration, self.units)) <= 0).astype(float)

    def _distance(self, i: Float, j: Float, transform: Float) -> Float:
        x = transform[0, 0] * i + transform[0, 1] * j
        y = transform[1, 0] * i + transform[1, 1] * j
        return self.signed_distance(x, y)

    def _coverage(self, i: Float, j: Float, transform: Float) -> Float:
        # Each sample counts by how much of its own cell is inside, to first order in the distance.
        cell = math.sqrt(abs(float(np.linalg.det(transform)))) / _SAMPLES
        step = (np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5
        di, dj = (d.ravel() for d in np.meshgrid(step, step, indexing="ij"))
        out = np.empty(len(i))
        for start in range(0, len(i), 4096):  # bounded memory for any detector
            part = slice(start, start + 4096)
            distance = self._distance(i[part, None] + di, j[part, None] + dj, transform)
            out[part] = np.clip(0.5 - distance / cell, 0.0, 1.0).mean(1)
        return out


def _pixel_transform(calibration: Calibration, units: str) -> Float:
    """Matrix from pixel offsets to `units` (pixel size after ellipse)."""
    if units == "px":
        return np.eye(2)
    steps = np.diag(calibration.Q_steps(units))
    return steps if calibration.ellipse is None else steps @ calibration.ellipse.correction()


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ParameterError(f"{name} must be a positive number, not {value!r}")


def _ring(inner: float, outer: float) -> None:
    if not (math.isfinite(outer) and 0 <= inner < outer):
        raise ParameterError(
            f"a ring needs 0 <= inner < outer, not inner={inner!r}, outer={outer!r}"
        )


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
    >>> round(float(Disk(3.0, center=(8, 8)).weights((17, 17), Calibration()).sum()), 1)
    28.3
    """

    radius: float
    center: Center = None
    units: Units = "px"
    kind: Literal["disk"] = "disk"

    def __post_init__(self) -> None:
        _positive("radius", self.radius)

    def signed_distance(self, x: Float, y: Float) -> Float:
        return np.hypot(x, y) - self.radius


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
        _ring(self.inner, self.outer)

    def signed_distance(self, x: Float, y: Float) -> Float:
        r = np.hypot(x, y)
        return np.maximum(r - self.outer, self.inner - r)


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
        _positive("height", self.height)
        _positive("width", self.width)

    def signed_distance(self, x: Float, y: Float) -> Float:
        return np.maximum(np.abs(x) - self.height / 2, np.abs(y) - self.width / 2)


@dataclass(frozen=True)
class Segment(Detector):
    """The part of an annulus between two directions.

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
        _ring(self.inner, self.outer)
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


def _encode(array: NDArray[Any]) -> dict[str, Any]:
    raw = np.ascontiguousarray(array, dtype="<f8")
    packed = base64.b64encode(zlib.compress(raw.tobytes())).decode("ascii")
    return {"shape": list(raw.shape), "zlib_f8": packed}


def _decode(value: ArrayLike | dict[str, Any]) -> Float:
    if isinstance(value, dict):
        value = _unpacked(value)
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ParameterError(f"a mask is a 2D array of weights, not {value!r}") from None
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ParameterError("a mask is a 2D array of finite weights")
    array.flags.writeable = False
    return array


def _unpacked(value: dict[str, Any]) -> Float:
    if not value.keys() >= {"shape", "zlib_f8"}:
        raise ParameterError(f"a packed mask has shape and zlib_f8, not {', '.join(value)}")
    shape = tuple(map(int, value["shape"]))
    size = math.prod(shape) * 8
    unpack = zlib.decompressobj()
    raw = unpack.decompress(base64.b64decode(value["zlib_f8"]), size + 1)
    if len(raw) != size:
        raise ParameterError(f"the packed mask holds {len(raw)} bytes, not the {size} of {shape}")
    return np.frombuffer(raw, "<f8").reshape(shape)


MaskArray = Annotated[Any, PlainValidator(_decode), PlainSerializer(_encode)]


@dataclass(frozen=True, eq=False)
class Mask(Detector):
    """Any weights.

    Parameters
    ----------
    data : (Qx, Qy) bool or float
        Negative weights are allowed.
    """

    data: MaskArray
    center: None = None
    units: Literal["px"] = "px"
    kind: Literal["mask"] = "mask"

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", _decode(self.data))

    def signed_distance(self, x: Float, y: Float) -> Float:
        raise NotImplementedError("a mask has no edge")

    def center_px(self, calibration: Calibration) -> tuple[float, float]:
        return (self.data.shape[0] - 1) / 2, (self.data.shape[1] - 1) / 2

    def weights(self, Q_shape: tuple[int, int], calibration: Calibration) -> Float:
        if self.data.shape != tuple(Q_shape):
            raise ShapeError(f"a mask of {self.data.shape} does not fit patterns of {Q_shape}")
        return np.array(self.data)

    def weights_at(
        self, points_px: Float, calibration: Calibration, centers_px: Float | None = None
    ) -> Float:
        """Weight of the pixel that each position lies in; 0 beside the mask."""
        weights = np.zeros(len(points_px))
        known = np.isfinite(points_px).all(axis=1)
        i, j = np.floor(points_px[known] + 0.5).astype(np.int64).T
        inside = (i >= 0) & (j >= 0) & (i < self.data.shape[0]) & (j < self.data.shape[1])
        weights[np.flatnonzero(known)[inside]] = self.data[i[inside], j[inside]]
        return weights

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and np.array_equal(self.data, other.data)

    __hash__ = None  # type: ignore[assignment]


AnyDetector = Annotated[
    Point | Disk | Annulus | Rectangle | Segment | Mask, Field(discriminator="kind")
]


def segments(
    count: int,
    inner: float,
    outer: float,
    *,
    start_rad: float = 0.0,
    center: Center = None,
    units: Units = "px",
) -> dict[str, Segment]:
    """Cut an annulus into equal segments.

    Parameters
    ----------
    count : int
    inner, outer : float
        Radii in `units`.
    start_rad : float
        Direction in which the first begins, from x (down) towards y (right).
    center, units
        As for `Segment`.

    Returns
    -------
    dict of str to Segment
        Named ``"s0"``, ``"s1"``, …

    Examples
    --------
    >>> sorted(segments(4, 2, 5))
    ['s0', 's1', 's2', 's3']
    """
    if not 1 <= count <= 64:
        raise ParameterError(f"count must be between 1 and 64, not {count!r}")
    step = 2 * math.pi / count
    return {
        f"s{k}": Segment(
            inner, outer, start_rad + k * step, start_rad + (k + 1) * step, center, units
        )
        for k in range(count)
    }


# Inner and outer radius in units of the convergence semi-angle.
_PRESETS = {"bf": (0.0, 1.0), "abf": (0.5, 1.0), "laadf": (1.1, 3.0), "haadf": (3.0, math.inf)}


def presets(calibration: Calibration, Q_shape: tuple[int, int]) -> dict[str, Detector]:
    """The usual STEM detectors, from the convergence angle.

    ========  =====================================
    bf        0 … α
    abf       α/2 … α
    laadf     1.1 α … 3 α
    haadf     3 α … edge of the detector
    ========  =====================================

    Rings that lie outside the detector are left out.

    Raises
    ------
    CalibrationMissing
        Neither `probe_radius_px` nor `semiangle_mrad` with a pixel size is known, or no origin.
    """
    radius = calibration.semiangle_px()
    if calibration.origin_px is None:
        raise CalibrationMissing("origin", "find_beam(cube) finds it; or give detectors a center")
    qx, qy = calibration.mean_origin_px
    edge = max(math.hypot(a - qx, b - qy) for a in (0, Q_shape[0]) for b in (0, Q_shape[1]))
    out: dict[str, Detector] = {}
    for name, (inner, outer) in _PRESETS.items():
        r0, r1 = inner * radius, min(outer * radius, edge)
        if r0 < r1:
            out[name] = Disk(r1) if r0 == 0 else Annulus(r0, r1)
    return out
