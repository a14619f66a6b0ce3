"""Patterns in polar bins: each pixel shared between the bins by the area that it covers of them.

A pixel is a square; the matrix that undoes the ellipse makes it a parallelogram.  The part of it
within a sector of a ring follows exactly: the area between the origin and one piece of an edge,
within a circle, is a triangle, a sector or both, and the pieces of all edges in one wedge add up
to the polygon in that wedge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError, ShapeError
from ._arrays import fit_frames
from ._jit import njit
from .api import Float, RingMoments

__all__ = [
    "PolarPlan", "PolarPlans", "complete_plan", "polar_means", "polar_plan", "polar_plans",
    "polar_sums", "ring_medians", "ring_moments",
]  # fmt: skip

_LEAST = 1e-7
"""Shares of a pixel below this are rounding."""
_MOST_PLANS = 64
"""Of different origins, that are kept."""


@dataclass(frozen=True, eq=False)
class PolarPlan:
    """How the pixels of a pattern are shared between polar bins; made by `polar_plan`.

    Attributes
    ----------
    Q_shape : (Qx, Qy)
    n_r, n_phi : int
        Bin (k, l) reaches from ``r_min + k·r_step`` to ``r_min + (k+1)·r_step`` and from
        ``2π l/n_phi`` to ``2π (l+1)/n_phi``.
    r_min, r_step : float
        Corrected pixels.
    starts : (Qx·Qy + 1,) int32
        Where the entries of each pixel begin.
    bins, weights : (m,) int32 and float32
        ``k·n_phi + l``, and the share of the pixel that lies in that bin.
    area : (n_r, n_phi) float64
        Sum of the shares: pixels in each bin.
    ring_starts, ring_bins, ring_weights
        The same for whole rings.
    ring_area, ring_squares : (n_r,) float64
        Sums of the shares in each ring, and of their squares.
    """

    Q_shape: tuple[int, int]
    n_r: int
    n_phi: int
    r_min: float
    r_step: float
    starts: NDArray[np.int32]
    bins: NDArray[np.int32]
    weights: NDArray[np.float32]
    area: Float
    ring_starts: NDArray[np.int32] = field(repr=False)
    ring_bins: NDArray[np.int32] = field(repr=False)
    ring_weights: NDArray[np.float32] = field(repr=False)
    ring_area: Float = field(repr=False)
    ring_squares: Float = field(repr=False)

    @property
    def r_px(self) -> Float:
        """Radii of the middles of the bins, (n_r,)."""
        return self.r_min + self.r_step * (np.arange(self.n_r) + 0.5)

    @property
    def phi_rad(self) -> Float:
        """Angles of the middles of the bins, from x towards y, (n_phi,)."""
        return 2 * np.pi / self.n_phi * (np.arange(self.n_phi) + 0.5)


def polar_plan(
    Q_shape: tuple[int, int],
    origin: ArrayLike,
    n_r: int,
    n_phi: int,
    *,
    r_min: float = 0.0,
    r_step: float = 1.0,
    ellipse: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> PolarPlan:
    """Share the pixels of a detector between polar bins, once for many patterns.

    Parameters
    ----------
    Q_shape : (int, int)
        Of the patterns.
    origin : (2,) float
        Pixels, array order; it may lie outside the detector.
    n_r, n_phi : int
        Bins along the radius and around; the first of the latter begins at the direction of x and
        they go on towards y.
    r_min, r_step : float
        Inner edge of the first ring, and width of the rings, in corrected pixels.
    ellipse : (2, 2) float, optional
        Matrix that maps an offset from the origin onto the circle; nothing by default.
    mask : (Qx, Qy) bool, optional
        Pixels that count; all by default.

    Returns
    -------
    PolarPlan

    Raises
    ------
    ParameterError
        No bins, no width, or numbers that are not finite.
    ShapeError
        A mask of another shape.
    """
    center, matrix = _checked(origin, n_r, n_phi, r_min, r_step, ellipse)
    keep = _keep(mask, Q_shape)
    starts, bins, weights = _share_pixels(
        keep, center, matrix, n_r, n_phi, float(r_min), float(r_step)
    )
    return complete_plan(Q_shape, (n_r, n_phi, float(r_min), float(r_step)), starts, bins, weights)


def _checked(
    origin: ArrayLike, n_r: int, n_phi: int, r_min: float, r_step: float, ellipse: ArrayLike | None
) -> tuple[Float, Float]:
    """Origin and matrix, after a look at everything else."""
    if n_r < 1 or n_phi < 1 or n_r * n_phi >= 2**31:
        raise ParameterError(f"polar bins need n_r >= 1 and n_phi >= 1, not {n_r} and {n_phi}")
    if not (math.isfinite(r_min) and math.isfinite(r_step) and r_min >= 0 and r_step > 0):
        raise ParameterError(
            f"polar bins need r_min >= 0 and r_step > 0 pixels, not {r_min} and {r_step}"
        )
    center = np.asarray(origin, dtype=np.float64)
    matrix = np.eye(2) if ellipse is None else np.asarray(ellipse, dtype=np.float64)
    if center.shape != (2,) or matrix.shape != (2, 2):
        raise ShapeError(
            f"an origin (2,) and an ellipse (2, 2), not {center.shape}, {matrix.shape}"
        )
    if not (np.isfinite(center).all() and np.isfinite(matrix).all()):
        raise ParameterError(f"the origin {center} or the ellipse {matrix} is not finite")
    if abs(np.linalg.det(matrix)) < 1e-12:
        raise ParameterError(f"the ellipse matrix {matrix.tolist()} maps everything onto a line")
    return center, np.ascontiguousarray(matrix)


def _keep(mask: ArrayLike | None, Q_shape: tuple[int, int]) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(Q_shape, bool)
    keep = np.ascontiguousarray(mask, dtype=bool)
    if keep.shape != tuple(Q_shape):
        raise ShapeError(f"the mask is {keep.shape}, the patterns are {tuple(Q_shape)}")
    return keep


def complete_plan(
    Q_shape: tuple[int, int],
    grid: tuple[int, int, float, float],
    starts: NDArray[np.int32],
    bins: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> PolarPlan:
    """The plan, with what follows from its table."""
    n_r, n_phi, r_min, r_step = grid
    area = np.bincount(bins, weights, n_r * n_phi).astype(np.float64).reshape(n_r, n_phi)
    rings = _whole_rings(starts, bins, weights, n_phi)
    ring_area = np.bincount(rings[1], rings[2], n_r).astype(np.float64)
    squares = np.bincount(rings[1], rings[2].astype(np.float64) ** 2, n_r).astype(np.float64)
    shape = (int(Q_shape[0]), int(Q_shape[1]))
    return PolarPlan(
        shape, n_r, n_phi, r_min, r_step, starts, bins, weights, area, *rings, ring_area, squares
    )


# ---- an origin for every pattern -----------------------------------------------------------------
class PolarPlans:
    """Plans of one grid of bins about any origin, rounded to parts of a pixel; by `polar_plans`.

    A table is made for every place of the origin within a pixel that occurs, on a detector large
    enough for all origins; a plan is a window of it.  Both are kept while there is room.

    Attributes
    ----------
    Q_shape : (Qx, Qy)
    n_r, n_phi, r_min, r_step
        As in `PolarPlan`.
    rounding_px : float
        Origins are rounded to multiples of that.
    """

    def __init__(
        self,
        Q_shape: tuple[int, int],
        grid: tuple[int, int, float, float],
        matrix: Float,
        keep: NDArray[np.bool_],
        rounding_px: float,
    ) -> None:
        self.Q_shape = Q_shape
        self.n_r, self.n_phi, self.r_min, self.r_step = grid
        self.rounding_px = rounding_px
        self._matrix, self._keep = matrix, keep
        self._plans: dict[tuple[int, int], PolarPlan] = {}

    def at(self, origin: tuple[float, float]) -> PolarPlan:
        """The plan about an origin, after rounding it."""
        cell = (round(origin[0] / self.rounding_px), round(origin[1] / self.rounding_px))
        plan = self._plans.get(cell)
        if plan is None:
            plan = self._make(cell)
            while len(self._plans) >= _MOST_PLANS:
                self._plans.pop(next(iter(self._plans)), None)
            self._plans[cell] = plan
        return plan

    def _make(self, cell: tuple[int, int]) -> PolarPlan:
        place = (cell[0] * self.rounding_px, cell[1] * self.rounding_px)
        return polar_plan(
            self.Q_shape, place, self.n_r, self.n_phi, r_min=self.r_min, r_step=self.r_step,
            ellipse=self._matrix, mask=self._keep,
        )  # fmt: skip

    def groups(self, origins: Float) -> Iterator[tuple[NDArray[np.intp], PolarPlan]]:
        """Patterns by plan; those without an origin are in none of the groups."""
        known = np.flatnonzero(np.isfinite(origins).all(axis=1))
        cells = np.rint(origins[known] / self.rounding_px).astype(np.int64)
        different, which = np.unique(cells, axis=0, return_inverse=True)
        for k, cell in enumerate(different):
            place = (float(cell[0]) * self.rounding_px, float(cell[1]) * self.rounding_px)
            yield known[which.ravel() == k], self.at(place)


def polar_plans(
    Q_shape: tuple[int, int],
    n_r: int,
    n_phi: int,
    *,
    r_min: float = 0.0,
    r_step: float = 1.0,
    ellipse: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    rounding_px: float = 0.125,
) -> PolarPlans:
    """Polar bins for patterns with an origin each; parameters as in `polar_plan`.

    Parameters
    ----------
    rounding_px : float
        Origins are rounded to multiples of that: bins are off by half of it at most along x and y.
    """
    _, matrix = _checked((0.0, 0.0), n_r, n_phi, r_min, r_step, ellipse)
    if not 0 < rounding_px <= 1:
        raise ParameterError(f"origins are rounded to (0, 1] px, not {rounding_px!r}")
    shape = (int(Q_shape[0]), int(Q_shape[1]))
    grid = (n_r, n_phi, float(r_min), float(r_step))
    return PolarPlans(shape, grid, matrix, _keep(mask, shape), float(rounding_px))


def _each(
    frames: ArrayLike, plan: PolarPlan | PolarPlans, origins: ArrayLike | None
) -> Iterator[tuple[NDArray[Any], NDArray[np.intp] | slice, PolarPlan]]:
    """Patterns (n, pixels) that share a plan, which they are, and the plan."""
    flat = _flat(frames, plan)
    if isinstance(plan, PolarPlan):
        yield flat, slice(None), plan
        return
    places = np.asarray(origins, dtype=np.float64)
    if places.shape != (len(flat), 2):
        raise ShapeError(f"{len(flat)} patterns need origins (n, 2), not {places.shape}")
    for which, own in plan.groups(places):
        yield flat[which], which, own


# ---- patterns into bins --------------------------------------------------------------------------
def polar_sums(
    frames: ArrayLike, plan: PolarPlan | PolarPlans, origins: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Sum each pattern over polar bins.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype.  Pixels that are NaN or infinite count as nothing.
    plan : PolarPlan or PolarPlans
    origins : (n, 2) float64, optional
        Of each pattern, for `PolarPlans`; NaN gives NaN.

    Returns
    -------
    (n, n_r, n_phi) float32
        ``Σ w v``; divided by ``plan.area`` it is the mean (`polar_means`, which knows about pixels
        that are not finite).

    Raises
    ------
    ShapeError
        If the plan was made for another shape.
    """
    out = np.full((len(np.asarray(frames)), plan.n_r * plan.n_phi), np.nan, np.float32)
    for flat, which, own in _each(frames, plan, origins):
        sums = np.zeros((len(flat), own.n_r * own.n_phi))
        _table_sums(flat, own.starts, own.bins, own.weights, sums, np.zeros((0, 0)))
        out[which] = sums
    return out.reshape(len(out), plan.n_r, plan.n_phi)


def polar_means(
    frames: ArrayLike, plan: PolarPlan | PolarPlans, origins: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Mean of each pattern in polar bins; NaN in bins without (finite) pixels.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
    plan : PolarPlan or PolarPlans
    origins : (n, 2) float64, optional
        Of each pattern, for `PolarPlans`; NaN gives NaN.

    Returns
    -------
    (n, n_r, n_phi) float32
    """
    out = np.full((len(np.asarray(frames)), plan.n_r * plan.n_phi), np.nan, np.float32)
    for flat, which, own in _each(frames, plan, origins):
        sums, areas = np.zeros((2, len(flat), own.n_r * own.n_phi))
        _table_sums(flat, own.starts, own.bins, own.weights, sums, areas)
        out[which] = np.divide(sums, areas, out=np.full(sums.shape, np.nan), where=areas > 0)
    return out.reshape(len(out), plan.n_r, plan.n_phi)


def ring_moments(
    frames: ArrayLike, plan: PolarPlan | PolarPlans, origins: ArrayLike | None = None
) -> RingMoments:
    """Mean and mean square of the pixels of every ring, in one pass.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype; pixels that are NaN or infinite are left out.
    plan : PolarPlan or PolarPlans
        Of any number of angles.
    origins : (n, 2) float64, optional
        Of each pattern, for `PolarPlans`; NaN gives NaN and no weight.

    Returns
    -------
    RingMoments
    """
    moments = np.zeros((3, len(np.asarray(frames)), plan.n_r))
    moments[:2] = np.nan
    for flat, which, own in _each(frames, plan, origins):
        part = np.zeros((3, len(flat), plan.n_r))
        table = own.ring_starts, own.ring_bins, own.ring_weights
        _table_moments(flat, *table, part[0], part[1], part[2])
        moments[:, which] = part
    return RingMoments(*moments)


def ring_medians(
    frames: ArrayLike, plan: PolarPlan | PolarPlans, origins: ArrayLike | None = None
) -> Float:
    """Median of the pixels of every ring, each with the area that it has of it.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype; pixels that are NaN or infinite are left out.
    plan : PolarPlan or PolarPlans
    origins : (n, 2) float64, optional
        Of each pattern, for `PolarPlans`; NaN gives NaN.

    Returns
    -------
    (n, n_r) float64
        The value below which lies half of the area; NaN for a ring without pixels.
    """
    out = np.full((len(np.asarray(frames)), plan.n_r), np.nan)
    for flat, which, own in _each(frames, plan, origins):
        part = np.full((len(flat), plan.n_r), np.nan)
        _table_medians(flat, *_by_ring(own), part)
        out[which] = part
    return out


def _by_ring(plan: PolarPlan) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Where each ring starts, its pixels, and their shares."""
    order = np.argsort(plan.ring_bins, kind="stable")
    pixels = np.repeat(np.arange(len(plan.ring_starts) - 1), np.diff(plan.ring_starts))
    starts = np.searchsorted(plan.ring_bins[order], np.arange(plan.n_r + 1))
    return starts.astype(np.int64), pixels[order], plan.ring_weights[order]


def _flat(frames: ArrayLike, plan: PolarPlan | PolarPlans) -> NDArray[Any]:
    fit = fit_frames(frames)
    if fit.shape[1:] != plan.Q_shape:
        raise ShapeError(f"a plan for {plan.Q_shape} does not fit patterns of {fit.shape[1:]}")
    return fit.reshape(len(fit), fit.shape[1] * fit.shape[2])


# ---- the table -----------------------------------------------------------------------------------
@njit(nogil=True, cache=True)
def _share_pixels(keep, origin, matrix, n_r, n_phi, r_min, r_step):
    """Entries of every pixel: (P + 1) starts, bins, shares."""
    height, width = keep.shape
    starts = np.zeros(height * width + 1, np.int32)
    bins, weights = np.empty(height * width * 3 + 64, np.int32), np.empty(0, np.float32)
    weights = np.empty(bins.size, np.float32)
    size = abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])
    reach = 0.5 * max(
        math.hypot(matrix[0, 0] + matrix[0, 1], matrix[1, 0] + matrix[1, 1]),
        math.hypot(matrix[0, 0] - matrix[0, 1], matrix[1, 0] - matrix[1, 1]),
    )
    most = min(int(2 * reach / r_step) + 2, n_r)
    inner = np.zeros((n_phi, most + 1))
    corners = np.empty((5, 2))
    m = 0
    for i in range(height):
        for j in range(width):
            x, y = i - origin[0], j - origin[1]
            u, v = matrix[0, 0] * x + matrix[0, 1] * y, matrix[1, 0] * x + matrix[1, 1] * y
            radius = math.hypot(u, v)
            first = max(math.floor((radius - reach - r_min) / r_step), 0)
            last = min(math.floor((radius + reach - r_min) / r_step), n_r - 1)
            if keep[i, j] and last >= first:
                _corners(x, y, matrix, corners)
                if m + n_phi * (last - first + 1) > bins.size:
                    bins, weights = _larger(bins, weights, n_phi * most)
                m = _share_pixel(
                    corners, first, last, n_phi, r_min, r_step, size, inner, bins, weights, m
                )
            starts[i * width + j + 1] = m
    return starts, bins[:m].copy(), weights[:m].copy()


@njit(nogil=True, cache=True)
def _larger(bins, weights, least):
    more = np.empty(bins.size * 3 // 2 + least, np.int32)
    more[: bins.size] = bins
    heavier = np.empty(more.size, np.float32)
    heavier[: bins.size] = weights
    return more, heavier


@njit(nogil=True, cache=True)
def _corners(x, y, matrix, corners):
    """Around the pixel in the sense from x to y; the first once more at the end."""
    for k in range(5):
        p = x + (0.5 if k in (1, 2) else -0.5)
        q = y + (0.5 if k in (2, 3) else -0.5)
        corners[k, 0] = matrix[0, 0] * p + matrix[0, 1] * q
        corners[k, 1] = matrix[1, 0] * p + matrix[1, 1] * q


@njit(nogil=True, cache=True)
def _share_pixel(corners, first, last, n_phi, r_min, r_step, size, inner, bins, weights, m):
    """Append the entries of one pixel; `inner` is all zero before and after."""
    low, high = n_phi, -1  # wedges that were touched, as if there were no jump
    for k in range(4):
        start, end = _add_edge(
            corners[k, 0], corners[k, 1], corners[k + 1, 0], corners[k + 1, 1],
            first, last, n_phi, r_min, r_step, inner,
        )  # fmt: skip
        low, high = min(low, start), max(high, end)
    for wedge in range(low, min(high, low + n_phi - 1) + 1):
        row = inner[wedge % n_phi]
        for k in range(first, last + 1):
            share = abs(row[k - first + 1] - row[k - first]) / size
            if share > _LEAST:
                bins[m], weights[m] = k * n_phi + wedge % n_phi, share
                m += 1
        row[: last - first + 2] = 0.0
    return m


@njit(nogil=True, cache=True)
def _add_edge(ax, ay, bx, by, first, last, n_phi, r_min, r_step, inner):
    """Add what lies between the origin and an edge, by wedge and within each circle.

    Returns the wedges between which it lies, counted on beyond a whole turn.
    """
    cross = ax * by - ay * bx
    per_rad = n_phi / (2 * math.pi)
    begin = math.atan2(ay, ax) * per_rad
    if abs(cross) < 1e-12:  # seen from the origin it has no width
        wedge = math.floor(begin) + n_phi
        return wedge, wedge - 1
    end = begin + math.atan2(cross, ax * bx + ay * by) * per_rad
    sense = 1 if end > begin else -1
    wedge, stop = math.floor(begin), math.floor(end)
    low, high = min(wedge, stop) + n_phi, max(wedge, stop) + n_phi
    px, py = ax, ay
    while wedge != stop:
        angle = (wedge + (1 if sense > 0 else 0)) / per_rad
        c, s = math.cos(angle), math.sin(angle)
        t = -(c * ay - s * ax) / (c * (by - ay) - s * (bx - ax))
        t = min(max(t, 0.0), 1.0)
        qx, qy = ax + t * (bx - ax), ay + t * (by - ay)
        _add_piece(px, py, qx, qy, first, last, r_min, r_step, inner[wedge % n_phi])
        px, py = qx, qy
        wedge += sense
    _add_piece(px, py, bx, by, first, last, r_min, r_step, inner[wedge % n_phi])
    return low, high


@njit(nogil=True, cache=True)
def _add_piece(ax, ay, bx, by, first, last, r_min, r_step, row):
    for k in range(first, last + 2):
        row[k - first] += _area_within(ax, ay, bx, by, r_min + k * r_step)


@njit(nogil=True, cache=True)
def _area_within(ax, ay, bx, by, radius):
    """Signed area of the triangle origin, a, b within a circle around the origin."""
    square = radius * radius
    c = ax * ax + ay * ay - square
    if c <= 0 and bx * bx + by * by <= square:
        return 0.5 * (ax * by - ay * bx)
    dx, dy = bx - ax, by - ay
    a, b = dx * dx + dy * dy, ax * dx + ay * dy
    inside = b * b - a * c
    if inside <= 0.0:
        return 0.5 * square * _angle(ax, ay, bx, by)
    root = math.sqrt(inside)
    enter, leave = (-b - root) / a, (-b + root) / a
    if enter >= 1.0 or leave <= 0.0:
        return 0.5 * square * _angle(ax, ay, bx, by)
    area, px, py, qx, qy = 0.0, ax, ay, bx, by
    if enter > 0.0:
        px, py = ax + enter * dx, ay + enter * dy
        area += 0.5 * square * _angle(ax, ay, px, py)
    if leave < 1.0:
        qx, qy = ax + leave * dx, ay + leave * dy
        area += 0.5 * square * _angle(qx, qy, bx, by)
    return area + 0.5 * (px * qy - py * qx)


@njit(nogil=True, cache=True)
def _angle(ax, ay, bx, by):
    return math.atan2(ax * by - ay * bx, ax * bx + ay * by)


@njit(nogil=True, cache=True)
def _whole_rings(starts, bins, weights, n_phi):
    """The table of whole rings: entries of a pixel in the same ring become one."""
    ring_starts = np.zeros(starts.size, np.int32)
    rings, shares = np.empty(bins.size, np.int32), np.empty(bins.size, np.float32)
    m = 0
    for p in range(starts.size - 1):
        begin = m
        for e in range(starts[p], starts[p + 1]):
            ring, at = bins[e] // n_phi, begin
            while at < m and rings[at] != ring:
                at += 1
            if at == m:
                rings[m], shares[m] = ring, 0.0
                m += 1
            shares[at] += weights[e]
        ring_starts[p + 1] = m
    return ring_starts, rings[:m].copy(), shares[:m].copy()


# ---- patterns ------------------------------------------------------------------------------------
@njit(nogil=True, cache=True)
def _table_sums(flat, starts, bins, weights, sums, areas):
    for n in range(flat.shape[0]):
        for p in range(flat.shape[1]):
            v = flat[n, p]
            if np.isfinite(v):
                for e in range(starts[p], starts[p + 1]):
                    sums[n, bins[e]] += weights[e] * np.float64(v)
                    if areas.size:
                        areas[n, bins[e]] += weights[e]


@njit(nogil=True, cache=True)
def _table_moments(flat, starts, bins, weights, mean, square, weight):
    for n in range(flat.shape[0]):
        for p in range(flat.shape[1]):
            v = flat[n, p]
            if np.isfinite(v):
                for e in range(starts[p], starts[p + 1]):
                    w = np.float64(weights[e])
                    mean[n, bins[e]] += w * v
                    square[n, bins[e]] += w * np.float64(v) * np.float64(v)
                    weight[n, bins[e]] += w
        for k in range(mean.shape[1]):
            if weight[n, k] > 0:
                mean[n, k] /= weight[n, k]
                square[n, k] /= weight[n, k]
            else:
                mean[n, k] = square[n, k] = np.nan


@njit(nogil=True, cache=True)
def _table_medians(flat, starts, pixels, shares, out):
    largest = 0
    for k in range(out.shape[1]):
        largest = max(largest, starts[k + 1] - starts[k])
    values, weights = np.empty(largest), np.empty(largest)
    for n in range(flat.shape[0]):
        for k in range(out.shape[1]):
            size, total = 0, 0.0
            for e in range(starts[k], starts[k + 1]):
                v = flat[n, pixels[e]]
                if np.isfinite(v):
                    values[size], weights[size] = v, shares[e]
                    total += shares[e]
                    size += 1
            if size:
                out[n, k] = _median(values[:size], weights[:size], total)


@njit(nogil=True, cache=True)
def _median(values, weights, total):
    """Half of the weight lies below, half above; between two values where that is so of both."""
    order = np.argsort(values)
    below, half = 0.0, 0.5 * total
    for m in range(order.size):
        below += weights[order[m]]
        if below > half * (1 + 1e-9):
            return values[order[m]]
        if below >= half * (1 - 1e-9) and m + 1 < order.size:
            return 0.5 * (values[order[m]] + values[order[m + 1]])
    return values[order[-1]]
