"""The images of the bright-field pixels of a scan, in blocks that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube, check_cube
from py4DSTEM.errors import MemoryBudgetError, ParameterError, ShapeError
from py4DSTEM.process.beam import find_beam
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.stream.engine import stream_tiles
from py4DSTEM.stream.options import RunOptions, available_memory_bytes
from py4DSTEM.stream.tile import Tile

__all__ = ["BrightStack"]

Float = NDArray[np.float64]
Images = NDArray[np.float32]
LABEL = "direct ptychography"
FEWEST_POSITIONS = 4
SMALLEST_RADIUS_PX = 2.0
LEAST_HEIGHT = 0.5
"""Modulus of the aperture above which a pixel at its rim counts."""
MOST_UNKNOWN = 0.1


@dataclass(frozen=True, eq=False)
class BrightStack:
    """Images of the pixels of the bright disk.

    Parameters
    ----------
    cube : Cube
    optics : Optics
    index : (m,) int64
        The pixels, in a flattened pattern.
    shifts : (Rx, Ry) int64 or None
        Movement of the beam (descan) in whole pixels, flattened likewise.
    k : (m, 2) float64
        Their places in Å⁻¹, ellipse undone.
    aperture : (4,) float64
        Radius, pixel along x and y (Å⁻¹), and one over the pixels of the whole disk.
    options : RunOptions
    images : (m, Rx, Ry) float32 or None
        None where they do not fit: they are read again for every use, block by block.
    means, total : (m,) float64, float
        Counts of each pixel, and of whole patterns, averaged over the scan.
    """

    cube: Cube
    optics: Optics
    index: NDArray[np.int64]
    shifts: NDArray[np.int64] | None
    k: Float
    aperture: Float
    options: RunOptions
    images: Images | None = None
    means: Float = field(default_factory=lambda: np.zeros(0))
    total: float = 1.0

    @classmethod
    def of(cls, cube: Cube, optics: Optics | None, options: RunOptions | None) -> BrightStack:
        """The pixels of the bright disk of a scan, read where they fit into memory.

        Raises
        ------
        ShapeError
            Fewer than 4 scan positions along x or y.
        ParameterError
            The disk is smaller than 2 pixels in radius, reaches beyond the detector, or has no
            counts; or more than a tenth of the values are not finite.
        CalibrationMissing
            Energy, convergence angle, scan step or pixel size of the detector are not known.
        """
        check_cube(cube, LABEL)
        if min(cube.R_shape) < FEWEST_POSITIONS:
            raise ShapeError(
                f"a scan of {cube.R_shape[0]} x {cube.R_shape[1]} positions has no spatial "
                f"frequencies to speak of: {FEWEST_POSITIONS} x {FEWEST_POSITIONS} is the least"
            )
        optics = Optics.of(cube.calibration, cube.Q_shape) if optics is None else optics
        stack = _pixels(cube, optics, options or RunOptions())
        size = 4 * len(stack.index) * math.prod(cube.R_shape)
        if size > _budget(stack.options):
            blocks = [(images.mean(axis=(1, 2)), total) for _, images, total in stack._read()]
            means = np.concatenate([mean for mean, _ in blocks])
            return stack._with(None, means, blocks[0][1])
        _, images, total = next(iter(stack._read()))
        return stack._with(images, images.mean(axis=(1, 2), dtype=np.float64), total)

    def _with(self, images: Images | None, means: Float, total: float) -> BrightStack:
        if not means.max() > 0:
            raise ParameterError("the bright disk has no counts: is there a beam stop?")
        return replace(self, images=images, means=np.asarray(means, np.float64), total=total)

    @property
    def R_shape(self) -> tuple[int, int]:
        return self.cube.R_shape

    @property
    def heights(self) -> Float:
        """Modulus of the aperture at each pixel, (m,)."""
        return _height(self.k, float(self.aperture[0]), self.optics.Q_steps_A)

    def rows_columns(self) -> NDArray[np.int64]:
        """Detector row and column of each pixel, (m, 2)."""
        return np.stack(np.divmod(self.index, self.cube.Q_shape[1]), axis=1)

    def chosen(self, kept: NDArray[np.int64]) -> BrightStack:
        """Some of the pixels."""
        images = None if self.images is None else self.images[kept]
        return replace(
            self, index=self.index[kept], k=self.k[kept], means=self.means[kept], images=images
        )

    def blocks(self) -> Iterator[tuple[slice, Images]]:
        """All images: at once where they are in memory, else read block by block."""
        if self.images is not None:
            yield slice(0, len(self.index)), self.images
            return
        for part, images, _ in self._read():
            yield part, images

    def whole(self) -> Images:
        """All images.

        Raises
        ------
        MemoryBudgetError
            They do not fit.
        """
        if self.images is not None:
            return self.images
        size = 4 * len(self.index) * math.prod(self.R_shape)
        raise MemoryBudgetError(
            f"the images of {len(self.index)} bright-field pixels take {size / 1e9:.2f} GB, more "
            f"than the {_budget(self.options) / 1e9:.2f} GB that they may: bin the detector, crop "
            'the scan, or use method="ssb", which takes them in blocks'
        )

    def _read(self) -> Iterator[tuple[slice, Images, float]]:
        """Pixels in as few passes over the scan as the memory allows; and the mean total."""
        positions = math.prod(self.R_shape)
        height = max(1, int(_budget(self.options) // (4 * positions)))
        for first in range(0, len(self.index), height):
            part = slice(first, min(first + height, len(self.index)))
            images = np.empty((part.stop - part.start, positions), np.float32)
            total = _filled(self, part, images)
            yield part, images.reshape(-1, *self.R_shape), total


def _budget(options: RunOptions) -> int:
    if options.memory is not None:
        return options.budget_bytes()
    return available_memory_bytes() // 3


# ---- where the pixels are ------------------------------------------------------------------------
def _pixels(cube: Cube, optics: Optics, options: RunOptions) -> BrightStack:
    calibration = cube.calibration
    known = calibration.origin_px is not None
    center = np.array(calibration.mean_origin_px if known else find_beam(cube).center)
    offset = np.moveaxis(np.indices(cube.Q_shape), 0, -1).reshape(-1, 2) - center
    ellipse = calibration.ellipse
    round_ = offset if ellipse is None else offset @ ellipse.correction().T
    k = round_ * np.array(optics.Q_steps_A)
    edge = optics.semiangle_mrad * 1e-3 / optics.wavelength_A
    height = _height(k, edge, optics.Q_steps_A)
    index = np.flatnonzero(height >= LEAST_HEIGHT).astype(np.int64)
    shifts = _shifts(cube)
    _check_room(cube, center, optics.semiangle_px)
    aperture = np.array([edge, *optics.Q_steps_A, 1 / float((height**2).sum())])
    return BrightStack(cube, optics, index, shifts, k[index], aperture, options)


def _height(k: Float, edge: float, steps: tuple[float, float]) -> Float:
    """Modulus of the aperture: the root of the part of a pixel that lies within."""
    radius = np.hypot(k[:, 0], k[:, 1])
    width = np.hypot(k[:, 0] * steps[0], k[:, 1] * steps[1]) / np.maximum(radius, 1e-300)
    inside = (edge - radius) / np.maximum(width, 1e-300)
    height: Float = np.sqrt(np.clip(inside + 0.5, 0.0, 1.0))
    return height


def _check_room(cube: Cube, center: Float, radius: float) -> None:
    if radius < SMALLEST_RADIUS_PX:
        raise ParameterError(
            f"the bright disk has a radius of {radius:.1f} px, too few pixels for direct "
            f"ptychography: {SMALLEST_RADIUS_PX:.0f} or more"
        )
    moved = np.zeros((1, 2))
    if cube.calibration.origin_varies:
        origins = cube.calibration.origins(cube.R_shape).reshape(-1, 2)
        moved = np.rint(np.nan_to_num(origins - center))
    room = min(
        min(c + low + 1, n - c - high)
        for c, n, low, high in zip(
            center, cube.Q_shape, moved.min(axis=0), moved.max(axis=0), strict=True
        )
    )
    if room < radius:
        raise ParameterError(
            f"the bright disk at ({center[0]:.1f}, {center[1]:.1f}) px, radius {radius:.1f} px, "
            f"reaches beyond the detector of {cube.Q_shape} pixels: correct origin and radius "
            "with with_calibration(origin_px=..., probe_radius_px=...)"
        )


def _shifts(cube: Cube) -> NDArray[np.int64] | None:
    """Movement of the beam in whole pixels of a flattened pattern; None where it stays."""
    calibration = cube.calibration
    if not calibration.origin_varies:
        return None
    origins = calibration.origins(cube.R_shape) - np.array(calibration.mean_origin_px)
    moved = np.rint(np.nan_to_num(origins)).astype(np.int64)
    flat: NDArray[np.int64] = moved[..., 0] * cube.Q_shape[1] + moved[..., 1]
    return flat


# ---- reading -------------------------------------------------------------------------------------
def _filled(stack: BrightStack, part: slice, out: Images) -> float:
    """Fill the images of some pixels, (m, positions); the mean total of a pattern."""
    from py4DSTEM.kernels import compiled

    cube, index, width = stack.cube, stack.index[part], stack.R_shape[1]
    gather = compiled().gather_pixels

    def work(tile: Tile) -> Float:
        block, frames = tile.block, tile.frames.reshape(len(tile.frames), -1)
        none = np.empty(0, np.int64)
        shifts = none if stack.shifts is None else tile.local(stack.shifts)
        across = block.shape[1]
        rows = 1 if across == width else block.shape[0]
        totals = []
        for i, piece in enumerate(np.split(np.arange(len(frames)), rows)):
            start = (block.rx.start + i) * width + block.ry.start
            chosen = slice(int(piece[0]), int(piece[-1]) + 1)
            moved = shifts[chosen] if len(shifts) else none
            totals.append(gather(frames[chosen], index, moved, out, start))
        return _whole_totals(frames, np.concatenate(totals))

    parts = [found for _, found in stream_tiles(cube, work, options=stack.options, label=LABEL)]
    known = np.isfinite(out).all() if np.dtype(cube.dtype).kind == "f" else True
    if not known:
        _complete(out)
    total = float(np.concatenate(parts).mean())
    if not total > 0:
        raise ParameterError("the patterns have no counts")
    return total


def _whole_totals(frames: NDArray[np.generic], totals: Float) -> Float:
    """Sums of patterns; what is not finite counts as the mean of the others of its pattern."""
    wrong = ~np.isfinite(totals)
    if wrong.any():
        values = frames[wrong].astype(np.float64)
        good = np.isfinite(values)
        count = np.maximum(good.sum(axis=1), 1)
        totals[wrong] = np.where(good, values, 0).sum(axis=1) * values.shape[1] / count
    return totals


def _complete(images: Images) -> None:
    """Values that are not finite become the mean of their pixel."""
    good = np.isfinite(images)
    share = 1 - good.mean()
    if share > MOST_UNKNOWN:
        raise ParameterError(
            f"{share:.0%} of the values within the bright disk are not finite: repair or crop the "
            "scan first (at most a tenth can be replaced by the mean of their pixel)"
        )
    count = good.sum(axis=1)
    mean = np.where(good, images, 0).sum(axis=1, dtype=np.float64) / np.maximum(count, 1)
    np.copyto(images, mean[:, None].astype(np.float32), where=~good)
