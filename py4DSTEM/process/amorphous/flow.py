"""Lines that follow the direction of fibres through a scan, evenly spaced."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.amorphous.orient import OrientationResult
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["FlowLines", "FollowOrientation", "flow_lines"]

Float = NDArray[np.float64]
_STEP = 0.25  # scan positions
_LEAST_AGREEMENT = 0.3  # of the directions of four neighbours: less is a defect or noise
_CLOSEST = 0.5  # of the spacing: how near a line may come to another


@dataclass(frozen=True, eq=False)
class FlowLines:
    """Lines along the directions of a sample.

    Parameters
    ----------
    points : (n, 2) float64
        All points of all lines, in scan positions (row, column).
    starts : (m + 1,) int64
        Line k holds the points from ``starts[k]`` to ``starts[k + 1]``.
    strength : (n,) float64
        Order parameter of the sample at each point.
    R_shape : (int, int)
        Of the scan.
    """

    points: Float
    starts: NDArray[np.int64]
    strength: Float
    R_shape: tuple[int, int]
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "flow lines"

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Float:
        """The points of one line, (k, 2)."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"line {index} of {len(self)}")
        k = index % len(self)
        return self.points[self.starts[k] : self.starts[k + 1]]

    def __iter__(self) -> Iterator[Float]:
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        return f"<FlowLines {len(self)} lines of {len(self.points)} points on {self.R_shape}>"


register_result("flow-lines", FlowLines)


class FollowOrientation(Analysis, kind="flow-lines", version=1):
    """Lines that follow the directions of the arcs from position to position through the scan."""

    spacing: float = Field(2.0, gt=0.2, description="Scan positions between lines.")
    least: float = Field(
        3.0, ge=0, description="Scan positions that a line is long, or it is left out."
    )
    min_order: float = Field(
        0.0, ge=0, lt=1, description="Positions with a smaller order parameter stop a line."
    )

    accepts: ClassVar[tuple[type, ...]] = (OrientationResult,)

    def apply(self, value: OrientationResult, options: RunOptions | None = None) -> FlowLines:
        """The lines of an orientation map; `options` are not needed."""
        self.check(value)
        if min(value.order.shape) < 2:
            raise ParameterError(
                f"lines need a scan of 2 x 2 positions or more, not {value.order.shape}"
            )
        tracer = _Field.of(value, self.min_order)
        lines = tracer.lines(self.spacing, self.least)
        points = np.concatenate(lines) if lines else np.empty((0, 2))
        starts = np.cumsum([0, *map(len, lines)], dtype=np.int64)
        strength = np.array([tracer.order_at(p) for p in points], dtype=np.float64)
        shape = (int(value.order.shape[0]), int(value.order.shape[1]))
        return FlowLines(
            points, starts, strength, shape, value.calibration, self.history(value.history)
        )


@dataclass(frozen=True, eq=False)
class _Field:
    """Directions of all arcs, the strongest first, and order, by steps of the scan."""

    angle: Float
    known: NDArray[np.bool_]
    order: Float

    @classmethod
    def of(cls, value: OrientationResult, least: float) -> _Field:
        angle, order = value.angle_rad, np.nan_to_num(value.order)
        known = np.isfinite(angle) & (order >= least)[..., None]
        x, y = value.calibration.R
        if x.unit == y.unit and x.step != y.step:
            # Along the scan axes: a step down is longer than one to the right, or shorter.
            angle = np.arctan2(np.sin(angle) / y.step, np.cos(angle) / x.step)
        return cls(np.where(known, angle, 0.0), known, known[..., 0] * order)

    def _weights(self, point: Float) -> tuple[slice, slice, Float] | None:
        """The four positions around a point, and how much each counts."""
        x, y = float(point[0]), float(point[1])
        rows, columns = self.order.shape
        if not (0 <= x <= rows - 1 and 0 <= y <= columns - 1):
            return None
        i, j = min(int(x), rows - 2), min(int(y), columns - 2)
        a, b = x - i, y - j
        weights = np.outer((1 - a, a), (1 - b, b))
        return slice(i, i + 2), slice(j, j + 2), weights

    def direction(self, point: Float, before: Float | None) -> Float | None:
        """Unit vector there, with the sense of the one before; None at an end.

        Where several directions cross a line goes on along the one that it came by.
        """
        found = self._weights(point)
        if found is None:
            return None
        rows, columns, weights = found
        twice, known = 2 * self.angle[rows, columns], self.known[rows, columns]
        if before is None:  # as the strongest of the nearest position
            heading = float(twice[(*np.unravel_index(weights.argmax(), (2, 2)), 0)])
        else:
            heading = 2 * math.atan2(before[1], before[0])
        near = np.where(known, np.cos(twice - heading), -2.0)
        chosen = near.argmax(axis=2)[..., None]
        used = weights * np.take_along_axis(known, chosen, 2)[..., 0]
        taken = np.take_along_axis(twice, chosen, 2)[..., 0]
        c, s = float((used * np.cos(taken)).sum()), float((used * np.sin(taken)).sum())
        if math.hypot(c, s) < _LEAST_AGREEMENT:
            return None
        angle = 0.5 * math.atan2(s, c)
        vector = np.array([math.cos(angle), math.sin(angle)])
        return -vector if before is not None and float(vector @ before) < 0 else vector

    def order_at(self, point: Float) -> float:
        """Order parameter there."""
        found = self._weights(point)
        if found is None:
            return math.nan
        rows, columns, weights = found
        return float((weights * self.order[rows, columns]).sum())

    def lines(self, spacing: float, least: float) -> list[Float]:
        """Lines from seeds in the middle of what is free, until none is left."""
        taken = _Taken(self.order.shape, spacing)
        found = []
        for seed in self._seeds(spacing):
            if not taken.free(seed, 1.0):
                continue
            line = self._line(seed, taken)
            if _STEP * (len(line) - 1) >= least:
                taken.add(line)
                found.append(line)
        return found

    def _seeds(self, spacing: float) -> Float:
        """A fine grid of places, the most ordered ones first."""
        step = min(spacing / 2, 1.0)
        grids = [np.arange(0, n - 1 + 1e-9, step) for n in self.order.shape]
        places = np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, 2)
        order = np.array([self.order_at(p) for p in places])
        return places[np.argsort(-np.round(order, 2), kind="stable")]

    def _line(self, seed: Float, taken: _Taken) -> Float:
        first = self.direction(seed, None)
        if first is None:
            return seed[None]
        ways = [self._half(seed, sense * first, taken) for sense in (-1.0, 1.0)]
        return np.array([*ways[0][::-1], seed, *ways[1]])

    def _half(self, seed: Float, heading: Float, taken: _Taken) -> list[Float]:
        """Points from a seed on, by the midpoint rule."""
        points: list[Float] = []
        place = seed
        longest = 4 * sum(self.order.shape) / _STEP
        while len(points) < longest:
            first = self.direction(place, heading)
            if first is None:
                break
            second = self.direction(place + _STEP / 2 * first, first)
            if second is None:
                break
            place, heading = place + _STEP * second, second
            if self._weights(place) is None or not taken.free(place, _CLOSEST):
                break
            # A closed line ends where it began.
            if len(points) > 8 and float(np.linalg.norm(place - seed)) < _STEP:
                points.append(seed)
                break
            points.append(place)
        return points


class _Taken:
    """Points of the lines so far, in cells as wide as the spacing."""

    def __init__(self, shape: tuple[int, ...], spacing: float) -> None:
        self._spacing = spacing
        self._cells: dict[tuple[int, int], list[Float]] = {}

    def _cell(self, point: Float) -> tuple[int, int]:
        return int(point[0] // self._spacing), int(point[1] // self._spacing)

    def add(self, line: Float) -> None:
        for point in line:
            self._cells.setdefault(self._cell(point), []).append(point)

    def free(self, point: Float, share: float) -> bool:
        """Whether no point lies within that share of the spacing."""
        i, j = self._cell(point)
        limit = (share * self._spacing) ** 2 * (1 - 1e-9)
        return not any(
            float((point - other) @ (point - other)) < limit
            for a in (i - 1, i, i + 1)
            for b in (j - 1, j, j + 1)
            for other in self._cells.get((a, b), ())
        )


def flow_lines(
    orientation: OrientationResult,
    *,
    spacing: float = 2.0,
    least: float = 3.0,
    min_order: float = 0.0,
) -> FlowLines:
    """Lines that follow the direction of a sample through the scan, evenly spaced.

    Parameters
    ----------
    orientation : OrientationResult
        From `orientation_distribution`, with the rotation of the scan in its calibration.
    spacing : float
        Scan positions between lines.
    least : float
        Scan positions that a line is long, or it is left out.
    min_order : float
        Positions with a smaller order parameter stop a line.

    Returns
    -------
    FlowLines
        A sequence of (k, 2) points in scan positions (row, column).

    Raises
    ------
    ParameterError
        A scan of a single row or column.

    Notes
    -----
    Directions have no sense, so cos 2θ and sin 2θ of the four positions around a point are
    interpolated, of the arc nearest to the line where there are several, and a line keeps the sense
    in which it runs; it ends where they disagree (a defect), where there is no arc, or half a
    spacing from another line.  Steps of a quarter of a
    position by the midpoint rule; new lines begin a spacing away from all others.

    Examples
    --------
    >>> from py4DSTEM import orientation_distribution, simulate
    >>> scan = simulate.fibers((6, 8), winding=0.0, seed=1)
    >>> cube = scan.cube.with_calibration(scan.truth.calibration)
    >>> found = orientation_distribution(cube, (9, 16), across=True)
    >>> len(flow_lines(found)) > 2
    True
    """
    return FollowOrientation(spacing=spacing, least=least, min_order=min_order).apply(orientation)
