"""What a detector is: a signed distance to an edge, and how that becomes pixel weights.

A shape knows one thing: the signed distance to its edge, negative inside.  Pixels that the edge
crosses get the fraction of their area that lies inside: in closed form where the shape has one,
else from 16 x 16 samples with soft edges.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.parameters import numbers
from py4DSTEM.errors import ParameterError

__all__ = ["Center", "Detector", "Float", "Units", "pixel_transform", "positive", "ring"]

Float = NDArray[np.float64]
Units = Literal["px", "mrad", "A^-1", "nm^-1"]
Center = tuple[float, float] | None
_SAMPLES = 16
_AT_ONCE = 64
"""Pixels whose samples are looked at together: few enough to stay in the cache."""
_NO_CHANGE = np.eye(2)


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

    def __post_init__(self) -> None:
        if self.center is not None:
            object.__setattr__(self, "center", numbers("center", self.center, 2))

    @abstractmethod
    def signed_distance(self, x: Float, y: Float) -> Float:
        """Distance of (x, y), relative to the centre, from the edge; negative inside."""

    def _extent(self) -> float:
        """Radius about the centre, in `units`, beyond which there is nothing of the shape."""
        return math.inf

    def _box(
        self, Q_shape: tuple[int, int], center: tuple[float, float], transform: Float
    ) -> tuple[slice, slice]:
        """Rows and columns of the pixels that the shape may touch."""
        extent = self._extent()
        if not math.isfinite(extent):
            return slice(0, Q_shape[0]), slice(0, Q_shape[1])
        halves = extent * np.linalg.norm(np.linalg.inv(transform), axis=1) + 1.0
        rows, columns = (
            slice(*np.clip([c - half, c + half + 1], 0, n).astype(int))
            for c, half, n in zip(center, halves, Q_shape, strict=True)
        )
        return rows, columns

    def center_px(self, calibration: Calibration) -> tuple[float, float]:
        """Centre in pixels, from the shape or else from the calibration (mean over the scan)."""
        return calibration.mean_origin_px if self.center is None else self.center

    def weights(self, Q_shape: tuple[int, int], calibration: Calibration) -> Float:
        """Fraction of each pixel that the shape covers, (Qx, Qy) float64 in [0, 1]."""
        transform = pixel_transform(calibration, self.units)
        center = self.center_px(calibration)
        box = self._box(Q_shape, center, transform)
        i, j = (np.arange(b.start, b.stop) - c for b, c in zip(box, center, strict=True))
        i, j = np.broadcast_arrays(i[:, None], j)
        distance = self._distance(i, j, transform)
        # Half a pixel diagonal, stretched by the transform: further away the edge cannot be.
        edge = np.abs(distance) < 0.75 * float(np.linalg.norm(transform, 2))
        weights = np.zeros(Q_shape)
        inside = weights[box]
        inside[distance < 0] = 1.0
        inside[edge] = self._coverage(i[edge], j[edge], transform)
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
        return (self._distance(i, j, pixel_transform(calibration, self.units)) <= 0).astype(float)

    def _distance(self, i: Float, j: Float, transform: Float) -> Float:
        if np.array_equal(transform, _NO_CHANGE):
            return self.signed_distance(i, j)
        x = transform[0, 0] * i + transform[0, 1] * j
        y = transform[1, 0] * i + transform[1, 1] * j
        return self.signed_distance(x, y)

    def _coverage(self, i: Float, j: Float, transform: Float) -> Float:
        # Each sample counts by how much of its own cell is inside, to first order in the distance.
        cell = math.sqrt(abs(float(np.linalg.det(transform)))) / _SAMPLES
        step = (np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5
        di, dj = (d.ravel() for d in np.meshgrid(step, step, indexing="ij"))
        out = np.empty(len(i))
        for start in range(0, len(i), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            distance = self._distance(i[part, None] + di, j[part, None] + dj, transform)
            out[part] = np.clip(0.5 - distance / cell, 0.0, 1.0).mean(1)
        return out


def pixel_transform(calibration: Calibration, units: str) -> Float:
    """Matrix from pixel offsets to `units` (pixel size after ellipse)."""
    if units == "px":
        return np.eye(2)
    steps = np.diag(calibration.Q_steps(units))
    return steps if calibration.ellipse is None else steps @ calibration.ellipse.correction()


def positive(name: str, value: float) -> None:
    """Raise `ParameterError` unless `value` is a positive, finite number."""
    if not numbers(name, value, 1)[0] > 0:
        raise ParameterError(f"{name} must be a positive number, not {value!r}")


def ring(inner: float, outer: float) -> None:
    """Raise `ParameterError` unless these are the radii of a ring."""
    low, high = *numbers("inner", inner, 1), *numbers("outer", outer, 1)
    if not 0 <= low < high:
        raise ParameterError(
            f"a ring needs 0 <= inner < outer, not inner={inner!r}, outer={outer!r}"
        )
