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
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError, ShapeError
from ._arrays import fit_frames
from ._jit import njit
from ._polar_lanes import LANES, lane_moments, lane_sums, room, spread_out
from .api import Float, RingMoments

__all__ = [
    "Batch", "PolarPlan", "PolarPlans", "complete_plan", "polar_means", "polar_plan", "polar_plans",
    "polar_sums", "ring_medians", "ring_moments",
]  # fmt: skip

_LEAST = 1e-7
"""Shares of a pixel below this are rounding."""
_SAMPLES = 8
"""Pixels of a ring that tell its level."""
_FARTHEST = 2.0
"""Origins may lie apart, in parts of the detector."""
_TABLE_BYTES = 512 * 1024**2
_AREA_BYTES = 64 * 1024**2
"""Of tables and areas about different origins, that are kept."""

Grid = tuple[int, int, float, float]
Table = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


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
    """

    Q_shape: tuple[int, int]
    n_r: int
    n_phi: int
    r_min: float
    r_step: float
    starts: NDArray[np.int32] = field(repr=False)
    bins: NDArray[np.int32] = field(repr=False)
    weights: NDArray[np.float32] = field(repr=False)
    area: Float = field(repr=False)

    @property
    def r_px(self) -> Float:
        """Radii of the middles of the bins, (n_r,)."""
        return self.r_min + self.r_step * (np.arange(self.n_r) + 0.5)

    @property
    def phi_rad(self) -> Float:
        """Angles of the middles of the bins, from x towards y, (n_phi,)."""
        return 2 * np.pi / self.n_phi * (np.arange(self.n_phi) + 0.5)

    @property
    def table(self) -> Table:
        """``starts, bins, weights``."""
        return self.starts, self.bins, self.weights

    @cached_property
    def rings(self) -> Table:
        """The table of whole rings."""
        if self.n_phi == 1:
            return self.table
        found: Table = _whole_rings(self.starts, self.bins, self.weights, self.n_phi)
        return found

    @property
    def ring_area(self) -> Float:
        """Sum of the shares in each ring, (n_r,)."""
        return self.area.sum(axis=1)

    @cached_property
    def ring_squares(self) -> Float:
        """Sum of the squared shares in each ring, (n_r,)."""
        _, rings, shares = self.rings
        return np.bincount(rings, shares.astype(np.float64) ** 2, self.n_r).astype(np.float64)

    @cached_property
    def by_ring(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Where each ring starts, its pixels, and their shares."""
        starts, rings, shares = self.rings
        order = np.argsort(rings, kind="stable")
        pixels = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        ends = np.searchsorted(rings[order], np.arange(self.n_r + 1))
        return ends.astype(np.int64), pixels[order], shares[order]

    @cached_property
    def samples(self) -> NDArray[np.int64]:
        """A few pixels of each ring, (n_r, s, 2); any where it has none."""
        starts, pixels, _ = self.by_ring
        many = np.diff(starts)
        parts = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
        place = starts[:-1, None] + (parts * many[:, None]).astype(np.int64)
        if not len(pixels):
            return np.zeros((*place.shape, 2), np.int64)
        found = pixels[np.minimum(place, len(pixels) - 1)]
        return np.stack(np.divmod(found, self.Q_shape[1]), axis=-1)


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
    grid: Grid,
    starts: NDArray[np.int32],
    bins: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> PolarPlan:
    """The plan of a table."""
    n_r, n_phi, r_min, r_step = grid
    area = np.bincount(bins, weights, n_r * n_phi).astype(np.float64).reshape(n_r, n_phi)
    shape = (int(Q_shape[0]), int(Q_shape[1]))
    return PolarPlan(shape, n_r, n_phi, r_min, r_step, starts, bins, weights, area)


# ---- an origin for every pattern -----------------------------------------------------------------
class PolarPlans:
    """Plans of one grid of bins about many origins, rounded to parts of a pixel; by `polar_plans`.

    There is a table for every place of the origin within a pixel that occurs, on a detector so
    large that the patterns lie on it wherever their origins are.

    Attributes
    ----------
    Q_shape : (Qx, Qy)
    n_r, n_phi, r_min, r_step
        As in `PolarPlan`.
    parts : int
        Origins are rounded to so many parts of a pixel.
    """

    def __init__(
        self,
        Q_shape: tuple[int, int],
        grid: Grid,
        matrix: Float,
        keep: NDArray[np.bool_],
        cells: NDArray[np.int64],
        parts: int,
    ) -> None:
        self.Q_shape, self.parts = Q_shape, parts
        self.n_r, self.n_phi, self.r_min, self.r_step = grid
        self.keep = keep.astype(np.float32)
        self._matrix = matrix
        whole = cells // parts
        self._last = whole.max(axis=0)
        extent = np.array(Q_shape) + self._last - whole.min(axis=0)
        self.shape = (int(extent[0]), int(extent[1]))
        self._tables: dict[tuple[int, int], PolarPlan] = {}
        self._areas: dict[tuple[int, int], NDArray[np.float32]] = {}

    @property
    def grid(self) -> Grid:
        """Of the bins."""
        return self.n_r, self.n_phi, self.r_min, self.r_step

    def cells(self, origins: ArrayLike) -> NDArray[np.int64]:
        """Origins in parts of a pixel."""
        return np.rint(np.asarray(origins, dtype=np.float64) * self.parts).astype(np.int64)

    def at(self, origin: tuple[float, float]) -> PolarPlan:
        """The plan about one origin, after rounding it."""
        place = self.cells(origin) / self.parts
        r_step, keep = self.r_step, self.keep > 0
        return polar_plan(
            self.Q_shape, place, self.n_r, self.n_phi,
            r_min=self.r_min, r_step=r_step, ellipse=self._matrix, mask=keep,
        )  # fmt: skip

    def table(self, phase: tuple[int, int]) -> PolarPlan:
        """The plan, on the large detector, for origins at a place within a pixel."""
        found = self._tables.get(phase)
        if found is None:
            place = self._last + np.array(phase) / self.parts
            found = polar_plan(
                self.shape, place, self.n_r, self.n_phi,
                r_min=self.r_min, r_step=self.r_step, ellipse=self._matrix,
            )  # fmt: skip
            size = found.bins.nbytes + found.weights.nbytes + found.starts.nbytes
            _make_room(self._tables, max(1, _TABLE_BYTES // size))
            self._tables[phase] = found
        return found

    def batches(self, origins: Float) -> Iterator[Batch]:
        """Patterns by table; those without an origin are in none of the batches."""
        known = np.flatnonzero(np.isfinite(origins).all(axis=1))
        cells = self.cells(origins[known])
        phases, group = np.unique(cells % self.parts, axis=0, return_inverse=True)
        for k, phase in enumerate(phases):
            chosen = group.ravel() == k
            table = self.table((int(phase[0]), int(phase[1])))
            places = self._last - cells[chosen] // self.parts
            if (places < 0).any() or (places + self.Q_shape > self.shape).any():
                raise ParameterError("polar_plans was made for other origins")
            areas = self._areas_of(cells[chosen], places, table)
            yield Batch(table, known[chosen], places, self.keep, areas)

    def _areas_of(
        self, cells: NDArray[np.int64], places: NDArray[np.int64], table: PolarPlan
    ) -> NDArray[np.float32]:
        """Pixels that count in each bin, for origins in these cells."""
        different, first, where = np.unique(cells, axis=0, return_index=True, return_inverse=True)
        keys = [(int(x), int(y)) for x, y in different]
        known = {key: self._areas[key] for key in keys if key in self._areas}
        missing = [k for k, key in enumerate(keys) if key not in known]
        if missing:
            batch = Batch(table, np.zeros(len(missing), np.intp), places[first[missing]])
            found = np.empty((len(missing), self.n_r * self.n_phi), np.float32)
            once = np.ones((1, found.shape[1]), np.float32)
            _sums(self.keep[None], batch, once, found, np.arange(len(missing)))
            known |= {keys[k]: row for k, row in zip(missing, found, strict=True)}
            _make_room(self._areas, max(1, _AREA_BYTES // found[0].nbytes - len(missing)))
            self._areas.update({keys[k]: known[keys[k]] for k in missing})
        return np.stack([known[key] for key in keys])[where.ravel()]


def _make_room(cache: dict[Any, Any], most: int) -> None:
    """Forget the oldest."""
    while len(cache) >= most:
        cache.pop(next(iter(cache), None), None)


def polar_plans(
    Q_shape: tuple[int, int],
    origins: ArrayLike,
    n_r: int,
    n_phi: int,
    *,
    r_min: float = 0.0,
    r_step: float = 1.0,
    ellipse: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    parts: int = 8,
) -> PolarPlans:
    """Polar bins for patterns with an origin each; parameters as in `polar_plan`.

    Parameters
    ----------
    origins : (..., 2) float
        All that will occur; NaN where there is none.
    parts : int
        Origins are rounded to so many parts of a pixel: bins are off by half of one at most along
        x and y.

    Raises
    ------
    ParameterError
        As `polar_plan`; also where origins lie so far apart that the tables would be huge.
    """
    places = np.asarray(origins, dtype=np.float64).reshape(-1, 2)
    places = places[np.isfinite(places).all(axis=1)]
    if not len(places):
        raise ParameterError("none of the origins is known")
    if not 1 <= parts <= 64:
        raise ParameterError(f"origins are rounded to 1 to 64 parts of a pixel, not {parts!r}")
    _, matrix = _checked(places[0], n_r, n_phi, r_min, r_step, ellipse)
    shape = (int(Q_shape[0]), int(Q_shape[1]))
    if (np.ptp(places, axis=0) > _FARTHEST * np.array(shape)).any():
        low, high = places.min(axis=0).tolist(), places.max(axis=0).tolist()
        raise ParameterError(
            f"origins from {low} to {high} on a detector of {shape}: outliers of a measurement? "
            "calibrate_origin fits a smooth surface to them"
        )
    cells = np.rint(places * parts).astype(np.int64)
    grid = (n_r, n_phi, float(r_min), float(r_step))
    return PolarPlans(shape, grid, matrix, _keep(mask, shape), cells, parts)


# ---- patterns into bins --------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Batch:
    """Patterns that share a table.

    Attributes
    ----------
    plan : PolarPlan
        Maybe of a larger detector than that of the patterns.
    which : (m,) intp
        Numbers of the patterns.
    places : (m, 2) int64
        Where on the plan's detector the first pixel of each lies.
    keep : (Qx, Qy) float32, or empty
        Pixels that count: 1; empty where the plan knows.
    areas : (m or 1, bins) float32
        Of the bins.
    """

    plan: PolarPlan
    which: NDArray[np.intp]
    places: NDArray[np.int64]
    keep: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    areas: NDArray[np.float32] = field(default_factory=lambda: np.zeros((1, 0), np.float32))

    def groups(self) -> Iterator[tuple[slice, NDArray[np.intp], NDArray[np.int64]]]:
        """As many patterns at a time as there are lanes; fewer in the end."""
        for first in range(0, len(self.which), LANES):
            part = slice(first, min(first + LANES, len(self.which)))
            yield part, self.which[part], self.places[part]

    def rows_of_scratch(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A row of pixels of every lane, and the same turned."""
        wide = -(-self.plan.Q_shape[1] // LANES) * LANES
        # An odd number of cache lines: the lanes are then not all in the same set of the cache.
        return room(LANES, wide + LANES * (1 - wide // LANES % 2)), room(wide + LANES, LANES)


def _batches(
    frames: ArrayLike, plan: PolarPlan | PolarPlans, origins: ArrayLike | None
) -> tuple[NDArray[Any], Iterator[Batch]]:
    """Patterns fit for compiled loops, and how they go through tables."""
    fit = fit_frames(frames)
    if fit.shape[1:] != plan.Q_shape:
        raise ShapeError(f"a plan for {plan.Q_shape} does not fit patterns of {fit.shape[1:]}")
    if isinstance(plan, PolarPlan):
        all_, first = np.arange(len(fit)), np.zeros((len(fit), 2), np.int64)
        area = plan.area.reshape(1, plan.n_r * plan.n_phi).astype(np.float32)
        return fit, iter([Batch(plan, all_, first, areas=area)])
    places = np.asarray(origins, dtype=np.float64)
    if places.shape != (len(fit), 2):
        raise ShapeError(f"{len(fit)} patterns need origins (n, 2), not {places.shape}")
    return fit, plan.batches(places)


def _sums(
    frames: NDArray[Any],
    batch: Batch,
    factors: NDArray[np.float32],
    out: NDArray[np.float32],
    rows: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Sums of a batch, times factors (m or 1, bins), into rows of `out`.

    Returns which of the batch have pixels that are no finite numbers.
    """
    bins, wide = out.shape[1], out.shape[1] + LANES
    sums, flat = room(wide, LANES), room(LANES, wide + LANES - wide % LANES)
    scratch = (sums, *batch.rows_of_scratch())
    pixels = (batch.keep, frames.dtype.kind != "f", np.float32(0.0))
    wrong = np.zeros(len(batch.which), bool)
    for part, which, places in batch.groups():
        count = np.zeros(LANES, np.int64)
        sums[:bins] = 0.0
        width = batch.plan.Q_shape[1]
        lane_sums(frames, which, places, pixels, batch.plan.table, width, scratch, count)
        own = factors[part] if len(factors) > 1 else factors
        spread_out(sums, flat, own, out, rows[part])
        wrong[part] = count[: part.stop - part.start] > 0
    return np.flatnonzero(wrong)


def _blank(count: int, plan: PolarPlan | PolarPlans) -> NDArray[np.float32]:
    """Room for bins (n, bins); NaN where a pattern may be left out."""
    shape = (count, plan.n_r * plan.n_phi)
    if isinstance(plan, PolarPlan):
        return np.empty(shape, np.float32)
    return np.full(shape, np.nan, np.float32)


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
    fit, batches = _batches(frames, plan, origins)
    out = _blank(len(fit), plan)
    once = np.ones((1, out.shape[1]), np.float32)
    for batch in batches:
        _sums(fit, batch, once, out, batch.which)
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
    fit, batches = _batches(frames, plan, origins)
    out = _blank(len(fit), plan)
    for batch in batches:
        blank = np.full(batch.areas.shape, np.nan, np.float32)
        inverse = np.divide(1, batch.areas, out=blank, where=batch.areas > 0)
        for m in _sums(fit, batch, inverse, out, batch.which):
            total, _, area = _careful(fit, batch, m, batch.plan.table, out.shape[1])
            mean = np.divide(total, area, out=np.full(len(area), np.nan), where=area > 0)
            out[batch.which[m]] = mean
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
    fit, batches = _batches(frames, plan, origins)
    moments = np.zeros((3, len(fit), plan.n_r))
    moments[:2] = np.nan
    for batch in batches:
        moments[:, batch.which] = _moments(fit, batch)
    return RingMoments(*moments)


def _moments(frames: NDArray[Any], batch: Batch) -> Float:
    """Mean, mean square and weight of a batch, (3, m, n_r)."""
    n_r, many = batch.plan.n_r, len(batch.which)
    sums, squares = room(n_r + LANES, LANES), room(n_r + LANES, LANES)
    levels, rows = room(n_r, LANES), batch.rows_of_scratch()
    flat, once = room(LANES, n_r + 2 * LANES - n_r % LANES), np.ones((1, n_r), np.float32)
    pixels = (batch.keep, frames.dtype.kind != "f", np.float32(np.nan))
    parts, wrong = np.empty((3, many, n_r), np.float32), np.zeros(many, bool)
    for part, which, places in batch.groups():
        count = np.zeros(LANES, np.int64)
        sums[:] = squares[:] = 0.0
        width, size = batch.plan.Q_shape[1], part.stop - part.start
        _typical(frames, which, places, batch.plan.samples, levels)
        lane_moments(
            frames, which, places, pixels, batch.plan.rings, width,
            (levels, sums, squares, *rows), count,
        )  # fmt: skip
        spread_out(sums, flat, once, parts[0], np.arange(part.start, part.stop))
        spread_out(squares, flat, once, parts[1], np.arange(part.start, part.stop))
        parts[2, part] = levels[:, :size].T
        wrong[part] = count[:size] > 0
    area = batch.areas.reshape(-1, n_r, batch.plan.n_phi).sum(axis=2, dtype=np.float64)
    out = _about_zero(parts.astype(np.float64), np.broadcast_to(area, (many, n_r)))
    for m in np.flatnonzero(wrong):
        found = _careful(frames, batch, m, batch.plan.rings, n_r)
        for to, values in ((0, found[0]), (1, found[1])):
            out[to, m] = np.divide(values, found[2], out=np.full(n_r, np.nan), where=found[2] > 0)
        out[2, m] = found[2]
    return out


def _about_zero(parts: Float, area: Float) -> Float:
    """Mean, mean square and weight from sums of differences from a level, and of their squares."""
    blank = np.full(area.shape, np.nan)
    shift = np.divide(parts[0], area, out=blank.copy(), where=area > 0)
    square = np.divide(parts[1], area, out=blank, where=area > 0)
    mean = parts[2] + shift
    return np.stack([mean, square - shift**2 + mean**2, area])


def _careful(frames: NDArray[Any], batch: Batch, m: int, table: Table, bins: int) -> Float:
    """Σ w v, Σ w v² and Σ w of one pattern over its finite pixels, (3, bins)."""
    out = np.zeros((3, bins))
    top, left = batch.places[m]
    width = batch.plan.Q_shape[1]
    _careful_sums(frames[batch.which[m]], top, left, batch.keep, *table, width, out)
    return out


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
    fit, batches = _batches(frames, plan, origins)
    out = np.full((len(fit), plan.n_r), np.nan)
    for batch in batches:
        part = np.full((len(batch.which), plan.n_r), np.nan)
        table, width = batch.plan.by_ring, batch.plan.Q_shape[1]
        _table_medians(fit, batch.which, batch.places, batch.keep, *table, width, part)
        out[batch.which] = part
    return out


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
                # A circle that ends before the pixel begins holds nothing of it.
                below = first + 1 if r_min + first * r_step <= radius - reach else first
                m = _share_pixel(
                    corners, below, first, last, n_phi, r_min, r_step, size, inner, bins, weights, m
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
def _share_pixel(
    corners, below, first, last, n_phi, r_min, r_step, size, inner, bins, weights, m
):  # fmt: skip
    """Append the entries of one pixel; `inner` is all zero before and after."""
    low, high = n_phi, -1  # wedges that were touched, as if there were no jump
    for k in range(4):
        start, end = _add_edge(
            corners[k, 0], corners[k, 1], corners[k + 1, 0], corners[k + 1, 1],
            below, first, last, n_phi, r_min, r_step, inner,
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
def _add_edge(ax, ay, bx, by, below, first, last, n_phi, r_min, r_step, inner):
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
        _add_piece(px, py, qx, qy, below, first, last, r_min, r_step, inner[wedge % n_phi])
        px, py = qx, qy
        wedge += sense
    _add_piece(px, py, bx, by, below, first, last, r_min, r_step, inner[wedge % n_phi])
    return low, high


@njit(nogil=True, cache=True)
def _add_piece(ax, ay, bx, by, below, first, last, r_min, r_step, row):
    for k in range(below, last + 2):
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
def _careful_sums(frame, top, left, keep, starts, bins, weights, width, out):
    for i in range(frame.shape[0]):
        for j in range(frame.shape[1]):
            v = frame[i, j]
            if np.isfinite(v) and (keep.size == 0 or keep[i, j] > 0):
                p = (i + top) * width + j + left
                for e in range(starts[p], starts[p + 1]):
                    w, x = np.float64(weights[e]), np.float64(v)
                    out[0, bins[e]] += w * x
                    out[1, bins[e]] += w * x * x
                    out[2, bins[e]] += w


@njit(nogil=True, cache=True)
def _typical(frames, which, places, samples, levels):
    """A level near the pixels of each ring of all lanes, from a few of them."""
    for lane in range(which.size):
        frame = frames[which[lane]]
        top, left = places[lane]
        for k in range(levels.shape[0]):
            total, count = 0.0, 0
            for s in range(samples.shape[1]):
                i, j = samples[k, s, 0] - top, samples[k, s, 1] - left
                if 0 <= i < frame.shape[0] and 0 <= j < frame.shape[1]:
                    v = np.float32(frame[i, j])
                    if abs(v) < 1e18:
                        total += v
                        count += 1
            levels[k, lane] = total / count if count else 0.0


@njit(nogil=True, cache=True)
def _table_medians(frames, which, places, keep, starts, pixels, shares, width, out):
    largest = 0
    for k in range(out.shape[1]):
        largest = max(largest, starts[k + 1] - starts[k])
    values, weights = np.empty(largest), np.empty(largest)
    for n in range(which.size):
        frame = frames[which[n]]
        top, left = places[n]
        for k in range(out.shape[1]):
            size, total = 0, 0.0
            for e in range(starts[k], starts[k + 1]):
                i, j = pixels[e] // width - top, pixels[e] % width - left
                if i < 0 or i >= frame.shape[0] or j < 0 or j >= frame.shape[1]:
                    continue
                v = frame[i, j]
                if np.isfinite(v) and (keep.size == 0 or keep[i, j] > 0):
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
