"""The images of the bright-field pixels of a scan, from one pass over it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.errors import MemoryBudgetError, ParameterError, ShapeError
from py4DSTEM.process.beam import find_beam
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Measures, Operation, Output, Parts, PerScan
from py4DSTEM.stream.options import RunOptions, available_memory_bytes
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["BrightField", "bright_field", "grouped"]

Float = NDArray[np.float64]
FEWEST_POSITIONS = 8
SMALLEST_RADIUS_PX = 3.0
_DARK_FIELD_RADII = 1.3  # inner edge in radii of the bright disk: clear of its blurred rim
_LEAST_DARK = 0.05  # share of the detector


@dataclass(frozen=True, eq=False)
class BrightField:
    """Images of the pixels (or groups of pixels) within the bright disk.

    Parameters
    ----------
    images : (n, Rx, Ry) float32
        Counts over their mean, less one; 0 where there are none.
    counts : (n,) float64
        Mean counts of each.
    offset_px : (n, 2) float64
        Of the pixels, from the centre of the beam.
    alpha : (n, 2) float64
        Angle in rad, along the axes of the detector.
    optics : Optics
    edge : float
        Radius of the disk, rad.
    dark : (Rx, Ry) float64 or None
        What is scattered beyond the disk.
    """

    images: NDArray[np.float32]
    counts: Float
    offset_px: Float
    alpha: Float
    optics: Optics
    edge: float
    dark: Float | None

    @property
    def R_shape(self) -> tuple[int, int]:
        return self.images.shape[1], self.images.shape[2]

    def chosen(self, kept: NDArray[np.bool_ | np.intp]) -> BrightField:
        """Some of the images."""
        return replace(
            self, images=self.images[kept], counts=self.counts[kept],
            offset_px=self.offset_px[kept], alpha=self.alpha[kept],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Plan:
    """Rows and columns of the pixels, what lies beyond the disk, shifts of each position."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    dark: NDArray[np.bool_] | None
    shifts: NDArray[np.intp] | None


class _Gather(Operation):
    """The pixels of the bright disk, and the sum of what lies beyond it.

    Not a step of its own: what it gives is as large as the bright part of the scan.
    """

    kind: ClassVar[str] = "parallax"
    outputs: ClassVar[Mapping[str, Output]] = {
        "pixels": PerScan(np.float32),
        "dark": PerScan(np.float64),
    }
    center: tuple[float, float]
    radius_px: float

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        i, j = np.indices(cube.Q_shape)
        radius = np.hypot(i - self.center[0], j - self.center[1])
        rows, columns = np.nonzero(radius < self.radius_px - 0.5)
        beyond = radius > _DARK_FIELD_RADII * self.radius_px
        dark = beyond if beyond.mean() > _LEAST_DARK else None
        return _Plan(rows, columns, dark, _whole_shifts(cube))

    def measures(self, plan: _Plan) -> Measures | None:
        return None if plan.dark is None else Measures(detectors=plan.dark[None].astype(float))

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        frames = tile.frames
        count, (nx, ny) = len(frames), frames.shape[1:]
        flat = frames.reshape(count, -1)
        if plan.shifts is None:
            pixels = flat[:, plan.rows * ny + plan.columns]
        else:
            moved = tile.local(plan.shifts)
            rows = np.clip(plan.rows + moved[:, :1], 0, nx - 1)
            columns = np.clip(plan.columns + moved[:, 1:], 0, ny - 1)
            pixels = np.take_along_axis(flat, rows * ny + columns, axis=1)
        beyond = np.zeros(count)
        if tile.measured is not None and tile.measured.detectors is not None:
            beyond = tile.measured.detectors[:, 0]
        return {"pixels": pixels.astype(np.float32), "dark": beyond}

    def finish(self, cube: Cube, plan: _Plan, parts: Parts, history: History) -> Parts:
        dark = parts["dark"] if plan.dark is not None else None
        offset = np.stack([plan.rows, plan.columns], axis=1) - np.array(self.center)
        return {"pixels": parts["pixels"], "dark": dark, "offset": offset}


def _whole_shifts(cube: Cube) -> NDArray[np.intp] | None:
    """Movement of the beam (descan) in whole pixels; None where it stays."""
    calibration = cube.calibration
    if not calibration.origin_varies:
        return None
    origins = calibration.origins(cube.R_shape) - np.array(calibration.mean_origin_px)
    moved = np.rint(np.nan_to_num(origins)).astype(np.intp)
    return moved if moved.any() else None


def bright_field(cube: Cube, *, options: RunOptions | None = None) -> BrightField:
    """The images of the bright-field pixels, with their angles.

    Raises
    ------
    ShapeError
        Fewer than 8 scan positions along x or y.
    ParameterError
        The bright disk is smaller than 3 pixels in radius, reaches beyond the detector, or has no
        counts.
    CalibrationMissing
        Energy, scan step or pixel size of the detector.
    MemoryBudgetError
        The images do not fit into memory.
    """
    if min(cube.R_shape) < FEWEST_POSITIONS:
        raise ShapeError(
            f"a scan of {cube.R_shape[0]} x {cube.R_shape[1]} positions is too small to align "
            f"images of it: {FEWEST_POSITIONS} x {FEWEST_POSITIONS} is the least"
        )
    center, radius = _disk(cube)
    optics = Optics.of(cube.calibration.replace(probe_radius_px=radius), cube.Q_shape)
    _check_memory(cube, radius)
    found = run(_Gather(center=center, radius_px=radius), cube, options=options)
    images, counts = _contrast(found["pixels"])
    offset = np.asarray(found["offset"], np.float64)
    round_ = offset
    if cube.calibration.ellipse is not None:
        round_ = offset @ cube.calibration.ellipse.correction().T
    alpha = round_ * np.array(optics.Q_steps_A) * optics.wavelength_A
    edge = optics.semiangle_mrad * 1e-3
    return BrightField(images, counts, offset, alpha, optics, edge, found["dark"])


def _disk(cube: Cube) -> tuple[tuple[float, float], float]:
    """Centre and radius: the calibrated ones, else those of a first look."""
    calibration = cube.calibration
    calibration.Q_steps("A^-1")
    beam = find_beam(cube)
    radius = beam.radius_px
    if calibration.probe_radius_px is not None or calibration.semiangle_mrad is not None:
        radius = calibration.semiangle_px()
    center = beam.center if calibration.origin_px is None else calibration.mean_origin_px
    if radius < SMALLEST_RADIUS_PX:
        raise ParameterError(
            f"the bright disk has a radius of {radius:.1f} px: parallax needs 3 or more"
        )
    room = min(min(c + 1, n - c) for c, n in zip(center, cube.Q_shape, strict=True))
    if room < radius:
        raise ParameterError(
            f"the bright disk at ({center[0]:.1f}, {center[1]:.1f}) px, radius {radius:.1f} px, "
            f"reaches beyond the detector of {cube.Q_shape} pixels: correct origin and radius "
            "with with_calibration(origin_px=..., probe_radius_px=...)"
        )
    return (float(center[0]), float(center[1])), float(radius)


def _check_memory(cube: Cube, radius: float) -> None:
    size = int(3 * 4 * math.pi * radius**2 * math.prod(cube.R_shape))
    if size > available_memory_bytes():
        raise MemoryBudgetError(
            f"the images of the bright-field pixels take {size / 1e9:.1f} GB, more than is free: "
            "bin the detector (read(..., bin_Q=2) or cube.bin(Q=2)), or crop the scan"
        )


def _contrast(pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], Float]:
    """Images over their means, less one, pixels first; what is not finite is 0."""
    shape, count = pixels.shape[:2], pixels.shape[2]
    images = np.ascontiguousarray(pixels.reshape(-1, count).T)
    known = np.isfinite(images)
    whole = bool(known.all())
    if not whole:
        images[~known] = 0.0
    seen = np.full(count, images.shape[1]) if whole else known.sum(axis=1)
    counts = images.sum(axis=1, dtype=np.float64) / np.maximum(seen, 1)
    if not (counts > 0).any():
        raise ParameterError("the bright disk has no counts: is there a beam stop?")
    images *= np.divide(1.0, counts, out=np.zeros_like(counts), where=counts > 0)[:, None]
    images -= np.float32(1.0)
    if not whole:
        images[~known] = 0.0
    images[counts <= 0] = 0.0
    return images.reshape(count, *shape), np.maximum(counts, 0.0)


def grouped(field: BrightField, across: int) -> tuple[BrightField, NDArray[np.int64]]:
    """Pixels gathered in square cells, about `across` along the diameter; and their numbers."""
    radius = np.hypot(*field.offset_px.T).max() + 0.5
    edge = max(2 * radius / across, 1.0)
    cells, member = np.unique(
        np.rint(field.offset_px / edge).astype(np.int64), axis=0, return_inverse=True
    )
    member = member.ravel()
    if len(cells) == len(member):
        order = np.argsort(member)
        return field.chosen(order), cells
    counts = np.asarray(np.bincount(member, field.counts), np.float64)
    size = np.bincount(member)
    kept = np.nonzero((size >= 0.5 * edge**2) & (counts > 0))[0]
    share = np.where(np.isin(member, kept), field.counts, 0.0) / np.maximum(counts, 1e-300)[member]
    mean = np.zeros((len(cells), len(member)), np.float32)
    mean[member, np.arange(len(member))] = share
    mean = mean[kept]
    images = (mean @ field.images.reshape(len(member), -1)).reshape(-1, *field.R_shape)
    coarse = replace(
        field, images=images, counts=counts[kept],
        offset_px=mean @ field.offset_px, alpha=mean @ field.alpha,
    )  # fmt: skip
    return coarse, cells[kept]
