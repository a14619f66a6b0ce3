"""A polygon, and the exact share of every pixel that it covers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.detectors.base import Center, Detector, Float, Units, pixel_transform
from py4DSTEM.core.parameters import numbers
from py4DSTEM.errors import ParameterError

__all__ = ["MOST_VERTICES", "Polygon", "coverage", "edge_distance", "vertex_pairs"]

MOST_VERTICES = 1000
Vertices = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Polygon(Detector):
    """All within a closed line of straight edges.

    Parameters
    ----------
    vertices : sequence of (float, float)
        3 to 1000 corners ``(x, y)`` in `units`, measured from the centre; the last is joined to
        the first.  What the line winds around is inside, also where it crosses itself.
    center : (float, float), optional
        ``(qx, qy)`` in pixels; None: the calibrated origin.  ``(0, 0)`` with ``units="px"``: the
        vertices are positions on the detector.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Of the vertices.

    Examples
    --------
    >>> from py4DSTEM import Calibration
    >>> triangle = Polygon(((-4, -3), (4, -3), (-4, 3)), center=(8, 8))
    >>> round(float(triangle.weights((17, 17), Calibration()).sum()), 6)
    24.0
    """

    vertices: Vertices
    center: Center = None
    units: Units = "px"
    kind: Literal["polygon"] = "polygon"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "vertices", vertex_pairs(self.vertices))

    @classmethod
    def through(cls, points_px: ArrayLike) -> Self:
        """The polygon with these corners ``(qx, qy)`` on the detector, centred on their mean."""
        points = np.array(vertex_pairs(np.asarray(points_px, dtype=np.float64).tolist()))
        center = points.mean(axis=0)
        return cls(tuple(map(tuple, (points - center).tolist())), tuple(center.tolist()))

    def signed_distance(self, x: Float, y: Float) -> Float:
        return edge_distance(np.array(self.vertices), x, y)

    def weights(self, Q_shape: tuple[int, int], calibration: Calibration) -> Float:
        """Exact share of each pixel that lies inside, (Qx, Qy) float64 in [0, 1]."""
        to_pixels = np.linalg.inv(pixel_transform(calibration, self.units))
        corners = np.array(self.vertices) @ to_pixels.T + np.array(self.center_px(calibration))
        return coverage(corners, Q_shape)


def vertex_pairs(vertices: Iterable[Iterable[float]]) -> Vertices:
    """Vertices as pairs of finite numbers, or a `ParameterError`."""
    if isinstance(vertices, str) or not isinstance(vertices, Iterable):
        raise ParameterError(f"vertices are pairs of numbers, not {vertices!r}")
    pairs = tuple(numbers(f"vertex {k}", pair, 2) for k, pair in enumerate(vertices))
    if not 3 <= len(pairs) <= MOST_VERTICES:
        raise ParameterError(f"a polygon has 3 to {MOST_VERTICES} vertices, not {len(pairs)}")
    return tuple((x, y) for x, y in pairs)


def edge_distance(vertices: Float, x: Float, y: Float) -> Float:
    """Distance of (x, y) from the edges, negative where they wind around it."""
    nearest = np.full(np.broadcast(x, y).shape, np.inf)
    winding = np.zeros(nearest.shape, dtype=np.int64)
    for (ax, ay), (bx, by) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        ux, uy = bx - ax, by - ay
        px, py = x - ax, y - ay
        length2 = ux * ux + uy * uy
        along = np.clip((px * ux + py * uy) / length2, 0, 1) if length2 > 0 else 0.0
        nearest = np.minimum(nearest, np.hypot(px - along * ux, py - along * uy))
        crosses = (ax <= x) != (bx <= x)
        left = (ux * py - uy * px > 0) == (ux > 0)
        winding += np.where(crosses & left, 1 if ux > 0 else -1, 0)
    return np.where(winding != 0, -nearest, nearest)


def coverage(corners: Float, shape: tuple[int, int]) -> Float:
    """Share of each pixel inside of a polygon, exact for one that does not cross itself.

    Each edge is cut where it passes from pixel to pixel.  A piece that spans dx of a row takes
    away, from its own pixel, the part of dx on its near side, and gives dx to all further columns;
    summed along the row, the pieces of both sides of the polygon leave its area.
    """
    rows, columns = int(shape[0]), int(shape[1])
    gained = np.zeros((rows, columns + 1))
    grid = np.arange(rows + 1.0) - 0.5, np.arange(columns + 1.0) - 0.5
    for start, stop in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        cut = _cut(start, stop, grid)
        span = np.diff(cut[:, 0])
        middle = (cut[1:] + cut[:-1]) / 2 + 0.5
        i = np.floor(middle[:, 0]).astype(np.int64)
        inside = (i >= 0) & (i < rows) & (middle[:, 1] < columns)
        i, y, span = i[inside], np.maximum(middle[inside, 1], 0.0), span[inside]
        j = np.floor(y).astype(np.int64)
        np.add.at(gained, (i, j), span * (1 - (y - j)))
        np.add.at(gained, (i, j + 1), span * (y - j))
    return np.clip(np.abs(np.cumsum(gained, axis=1)[:, :columns]), 0.0, 1.0)


def _cut(
    start: Float, stop: Float, grid: tuple[NDArray[np.floating], NDArray[np.floating]]
) -> Float:
    """The edge from `start` to `stop`, cut at the lines of the pixel grid, (n, 2)."""
    parts = [np.array([0.0, 1.0])]
    for a, b, lines in zip(start, stop, grid, strict=True):
        if a != b:
            crossed = lines[(lines > min(a, b)) & (lines < max(a, b))]
            parts.append((crossed - a) / (b - a))
    t = np.sort(np.concatenate(parts))[:, None]
    return start + t * (stop - start)
