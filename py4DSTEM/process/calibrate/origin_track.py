"""Where the unscattered beam is to be expected, from a few patterns spread over the scan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import ParameterError, SolveError
from py4DSTEM.process.beam import disk_of
from py4DSTEM.process.calibrate.origin_disk import (
    DiskFits,
    Rim,
    coarse_disk,
    expected_origins,
    fit_disks,
    windows,
)
from py4DSTEM.process.calibrate.origin_fit import OriginFit, fit_origin

__all__ = ["Samples", "Track", "straight_track", "track_disk"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Pair = tuple[float, float]

SAMPLES = 64
LEAST_CONTRAST = 0.3
"""Step at the rim, relative to the middle, of what is surely a disk."""
LARGEST = 0.9
"""Diameter, relative to the pattern, of a disk that is surely whole."""
MOST_BYTES = 2**28
"""Of sampled patterns; very large ones are sampled less densely."""
ENOUGH_PIXELS = 1 << 16
"""Of all disks together, by which the blur of the rim is found."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Patterns spread evenly over the scan: positions (n, 2) and frames (n, Qx, Qy)."""

    positions: NDArray[np.int64]
    frames: NDArray[Any]

    @classmethod
    def of(cls, cube: Cube, where: Bool | None = None, count: int = SAMPLES) -> Samples:
        """About `count` patterns of the positions in `where`."""
        room = MOST_BYTES // max(1, math.prod(cube.Q_shape) * cube.dtype.itemsize)
        positions = _spread(cube.R_shape, where, max(4, min(count, room)))
        frames = np.stack([cube[int(x), int(y)].data for x, y in positions])
        return cls(positions, frames)

    def mean(self, keep: Bool) -> Float:
        """Mean of the finite values of every pixel, (Qx, Qy); 0 where `keep` is False."""
        known = np.isfinite(self.frames) & keep
        total = np.where(known, self.frames, 0).sum(axis=0, dtype=np.float64)
        mean: Float = total / np.maximum(known.sum(axis=0), 1)
        return mean

    def over_scan(self, values: Float, R_shape: tuple[int, int]) -> Float:
        """One row of `values` (n, 2) for each sample, in an array (Rx, Ry, 2) of NaN."""
        whole = np.full((*R_shape, 2), np.nan)
        whole[tuple(self.positions.T)] = values
        return whole


def _spread(R_shape: tuple[int, int], where: Bool | None, count: int) -> NDArray[np.int64]:
    side = math.isqrt(count)
    axes = [np.unique(np.linspace(0, n - 1, min(side, n)).round().astype(np.int64))
            for n in R_shape]  # fmt: skip
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    if where is None:
        return grid
    chosen = grid[where[tuple(grid.T)]]
    if 2 * len(chosen) >= len(grid):
        return chosen
    allowed = np.argwhere(where)
    return allowed[np.unique(np.linspace(0, len(allowed) - 1, count).round().astype(np.int64))]


@dataclass(frozen=True)
class Track:
    """A straight descan, and the disk that moves along it.

    Parameters
    ----------
    center : (float, float)
        (qx, qy) at the middle of the scan.
    descan : pair of (float, float)
        From the middle row of the scan to the last; from the middle column to the last.
    search_px : float
        How far the beam may be from there.
    radius_px, edge_px : float
    found : float
        Share of the sampled patterns in which there is a disk, with a rim that stands out.
    """

    center: Pair
    descan: tuple[Pair, Pair]
    search_px: float
    radius_px: float = math.nan
    edge_px: float = math.nan
    found: float = math.nan


def straight_track(fit: OriginFit, least_px: float, most_px: float) -> Track:
    """The track of a fitted plane (or constant); the search covers what the fit leaves."""
    rows = {term: (float(c[0]), float(c[1])) for term, c in
            zip(fit.terms, fit.coefficients, strict=True)}  # fmt: skip
    descan = rows.get((1, 0), (0.0, 0.0)), rows.get((0, 1), (0.0, 0.0))
    scatter = 5 * math.hypot(*fit.residual_px)
    search = min(max(scatter, least_px), max(most_px, least_px))
    return Track(rows[0, 0], descan, search)


def smooth(samples: Samples, values: Float, R_shape: tuple[int, int]) -> OriginFit:
    """A plane through origins of the samples, or their median where there are too few."""
    whole = samples.over_scan(values, R_shape)
    try:
        return fit_origin(whole, "plane" if len(values) >= 9 else "constant")
    except ParameterError:
        return fit_origin(whole, "constant")


def track_disk(
    samples: Samples,
    R_shape: tuple[int, int],
    keep: Bool,
    *,
    center: Pair | None = None,
    radius_px: float | None = None,
    search_px: float | None = None,
) -> Track:
    """Follow the unscattered disk through the samples, and measure its radius and blur.

    Raises
    ------
    SolveError
        There is no disk in any of them.
    """
    around, radius = center, radius_px
    if around is None or radius is None:
        first = disk_of(samples.mean(keep))
        around, radius = around or first.center, radius or first.radius_px
    expected = np.broadcast_to(np.array(around), (len(samples.frames), 2))
    search = search_px or max(3.0, 1.5 * radius)
    start = coarse_disk(samples.frames, expected, radius, search, keep)
    if not np.isfinite(start).any():
        raise _no_disk(samples)
    coarse = straight_track(smooth(samples, start, R_shape), 2.0, search)
    expected = expected_origins(R_shape, coarse.center, coarse.descan)[tuple(samples.positions.T)]
    start = coarse_disk(samples.frames, expected, radius, coarse.search_px, keep)
    if radius_px is None:
        radius = disk_of(_aligned(samples, start, radius, keep)).radius_px
    rim, fits = _measured_rim(samples, start, max(radius, 0.7), keep)
    good = fits.reason == 0
    if not good.any():
        raise _no_disk(samples)
    track = straight_track(smooth(samples, fits.center, R_shape), 1.5, max(rim.radius_px, 2.0))
    whole = 2 * rim.radius_px < LARGEST * min(samples.frames.shape[1:])
    found = float((good & (fits.contrast > LEAST_CONTRAST)).mean()) if whole else 0.0
    search = search_px or track.search_px
    return Track(track.center, track.descan, search, rim.radius_px, rim.edge_px, found)


def _no_disk(samples: Samples) -> SolveError:
    return SolveError(
        f"no unscattered disk in any of {len(samples.frames)} patterns: give center=(qx, qy) and "
        'radius_px=, or use method="friedel" behind a beam stop, "radial" for rings'
    )


def _aligned(samples: Samples, centers: Float, radius: float, keep: Bool) -> Float:
    """Mean pattern about the disk, each moved by whole pixels; mean of known values only."""
    found = np.isfinite(centers).all(1)
    part = windows(samples.frames[found], centers[found], math.ceil(2.5 * radius) + 2, keep)
    aligned: Float = part.values.sum(axis=0) / np.maximum(part.known.sum(axis=0), 1)
    return aligned


def _measured_rim(
    samples: Samples, start: Float, radius: float, keep: Bool
) -> tuple[Rim, DiskFits]:
    """Radius and blur that describe all samples best."""
    from scipy.optimize import minimize_scalar  # slow to import

    counts = samples.frames.dtype.kind in "bui"
    some = _some(start, radius)

    def fitted(edge: float, around: float, some: NDArray[np.int64] | slice) -> DiskFits:
        rim = Rim(around, edge, counts, free_radius=True)
        return fit_disks(samples.frames[some], start[some], rim, keep)

    def misfit(log_edge: float) -> float:
        return float(np.median(fitted(math.exp(log_edge), radius, some).chi2))

    limits = math.log(0.25), math.log(max(0.5, 0.4 * radius))
    best = minimize_scalar(misfit, bounds=limits, method="bounded", options={"xatol": 0.03})
    fits = fitted(math.exp(best.x), radius, slice(None))
    good = fits.reason == 0
    if good.any():
        radius = float(np.median(fits.radius[good]))
        fits = fitted(math.exp(best.x), radius, slice(None))
    return Rim(radius, math.exp(best.x), counts), fits


def _some(start: Float, radius: float) -> NDArray[np.int64]:
    """Samples with a disk; of large disks some of them, spread evenly."""
    known = np.flatnonzero(np.isfinite(start).all(1))
    count = max(4, int(ENOUGH_PIXELS / (2 * Rim(radius, 0.4 * radius).half + 1) ** 2))
    return known[:: -(-len(known) // count)]
