"""What rings are measured in: a pattern, a scan or Bragg peaks, and where to begin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.core.points import FARTHEST_PX, PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError, SolveError
from py4DSTEM.process.beam import Beam, disk_of
from py4DSTEM.process.calibrate.origin_disk import check_near_detector
from py4DSTEM.process.calibrate.rings import (
    Distortion,
    FoundRings,
    RingPixels,
    RingPoints,
    Rings,
    find_rings,
    sharpest,
)
from py4DSTEM.process.diffraction import mean_pattern
from py4DSTEM.stream.options import RunOptions

__all__ = ["RingSource", "ring_source"]

Float = NDArray[np.float64]
Center = tuple[float, float]


@dataclass(frozen=True, eq=False)
class RingSource:
    """Pixels or peaks, and a first guess.

    Parameters
    ----------
    data : RingPixels or RingPoints
        Positions in the frame of `frame`.
    frame : (2, 2) float64
        From detector pixels to the positions of `data`: identity, or the ellipse correction.
    start : Distortion
    inner, outer : float
        Radii between which rings are looked for.
    fixed_center : bool
    """

    data: Rings
    frame: Float
    start: Distortion
    inner: float
    outer: float
    fixed_center: bool
    calibration: Calibration
    history: History

    @property
    def found(self) -> tuple[Distortion, FoundRings]:
        """The distortion for which rings are sharpest, and the rings."""
        data = self.data
        if isinstance(data, RingPixels):
            data = RingPixels(data.xy, np.sqrt(np.maximum(data.counts, 0)))
        window = data.between(self.start, self.inner, self.outer)
        if len(window) < 10:
            raise SolveError(
                f"no rings: {len(window)} values between {self.inner:.4g} and {self.outer:.4g} px "
                f"of ({self.start.cx:.4g}, {self.start.cy:.4g})"
            )
        best = sharpest(window, self.start, fix_center=self.fixed_center)
        return best, find_rings(self.data, best, self.inner, self.outer)

    def to_detector(self, xy: Center) -> Center:
        """A position of the frame in raw detector pixels (peaks: relative to their origins)."""
        x, y = np.linalg.solve(self.frame, np.asarray(xy))
        return float(x), float(y)


def ring_source(
    source: Cube | DiffractionSlice | PointTable | ArrayLike,
    *,
    center: Center | None,
    inner_px: float | None,
    outer_px: float | None,
    corrected: bool,
    options: RunOptions | None = None,
) -> RingSource:
    """Prepare any source; `corrected` undoes the ellipse that its calibration holds.

    Raises
    ------
    ParameterError, ShapeError
        Not a source of rings, or radii that make no sense.
    """
    if isinstance(source, Cube):
        source = mean_pattern(source, options=options)
    elif not isinstance(source, DiffractionSlice | PointTable):
        source = DiffractionSlice(_real(source))
    ellipse = source.calibration.ellipse
    frame = np.eye(2) if ellipse is None or not corrected else ellipse.correction()
    data: Rings
    if isinstance(source, PointTable):
        data, start, inner = _of_points(source, center, frame)
    else:
        data, start, inner = _of_pattern(source, center, frame)
    inner = inner if inner_px is None else inner_px
    outer = math.inf if outer_px is None else outer_px
    if not 0 <= inner < outer:
        raise ParameterError(f"inner_px={inner!r} must be smaller than outer_px={outer!r}")
    return RingSource(
        data, frame, start, inner, outer, center is not None, source.calibration, source.history
    )


def _real(array: ArrayLike) -> NDArray[Any]:
    values = np.asarray(array)
    if values.dtype.kind not in "buif":
        raise ParameterError(f"a pattern holds real numbers, not {values.dtype}")
    if values.ndim != 2:
        raise ShapeError(f"rings are measured in one pattern (Qx, Qy), not in {values.shape}")
    return values


def _of_pattern(
    source: DiffractionSlice, center: Center | None, frame: Float
) -> tuple[RingPixels, Distortion, float]:
    pattern = np.asarray(_real(source.data), np.float64)
    if center is not None:
        check_near_detector(center, (pattern.shape[0], pattern.shape[1]))
    pixels = RingPixels.of(pattern)
    if len(pixels) < 50 or not np.ptp(pixels.counts) > 0:
        raise SolveError(
            f"no rings: the pattern has {len(pixels)} finite pixels, all the same"
            if len(pixels)
            else "no rings: the pattern has no finite pixel"
        )
    beam = disk_of(np.where(np.isfinite(pattern), pattern, 0.0))
    known = center
    if known is None and source.calibration.origin_px is not None:
        known = source.calibration.mean_origin_px
    middle = tuple((n - 1) / 2 for n in pattern.shape)
    guesses = [beam.center, middle] if known is None else [known]
    starts = [Distortion(*(frame @ guess).tolist()) for guess in guesses]
    data = RingPixels(pixels.xy @ frame.T, pixels.counts)
    start = max(starts, key=lambda s: _clear_of_beam(data, s, min(pattern.shape)))
    near = math.dist((start.cx, start.cy), frame @ beam.center) < 2 + beam.radius_px
    inner = 1.5 * beam.radius_px + 2 if near and _is_disk(pattern, beam) else 2.0
    return data, start, inner


def _is_disk(pattern: Float, beam: Beam) -> bool:
    """Whether the brightest region is a small filled disk, not a ring or a part of one."""
    distance = np.hypot(*(np.indices(pattern.shape) - np.reshape(beam.center, (2, 1, 1))))
    core = distance <= max(1.0, beam.radius_px / 2)
    bright = np.nanmean(pattern[core]) > 2 * np.nanmean(pattern)
    return bool(bright) and beam.radius_px < min(pattern.shape) / 4


def _clear_of_beam(data: RingPixels, start: Distortion, size: int) -> float:
    outside = data.between(start, size / 8, size)
    root = RingPixels(outside.xy, np.sqrt(np.maximum(outside.counts, 0)))
    return root.sharpness(start) if len(root) else -1.0


def _of_points(
    source: PointTable, center: Center | None, frame: Float
) -> tuple[RingPoints, Distortion, float]:
    if len(source) < 10:
        raise SolveError(f"no rings: {len(source)} peaks are too few")
    table = source.points
    raw = source.positions_px
    start = (0.0, 0.0)
    if source.calibration.origin_px is not None:
        rx, ry = source.positions.T
        raw = raw - source.calibration.origins(source.shape)[rx, ry]
    elif center is None:
        start = _brightest(source, raw)
    if center is not None:
        start = center
    sigma = np.zeros(len(raw))
    if {"sigma_qx", "sigma_qy"} <= set(table.dtype.names or ()):
        sigma = np.hypot(table["sigma_qx"], table["sigma_qy"]) / math.sqrt(2)
    known = np.isfinite(raw).all(1)
    if known.sum() < 10:
        raise SolveError(f"no rings: {known.sum()} of {len(raw)} peaks have finite positions")
    sigma = np.where(sigma < FARTHEST_PX, sigma, 0.0)
    radius = source.calibration.probe_radius_px
    inner = 3.0 if radius is None else max(3.0, 1.5 * radius)
    return (
        RingPoints(raw[known] @ frame.T, sigma[known]),
        Distortion(*(frame @ start).tolist()),
        inner,
    )


def _brightest(source: PointTable, raw: Float) -> Center:
    """Median place of the brightest peak of each position: the direct beam."""
    order = np.lexsort((source.points["intensity"], np.repeat(
        np.arange(len(source.offsets) - 1), np.diff(source.offsets))))  # fmt: skip
    last = source.offsets[1:][np.diff(source.offsets) > 0] - 1
    x, y = np.median(raw[order[last]], axis=0)
    return float(x), float(y)
