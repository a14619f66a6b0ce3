"""Features of every pattern in one pass: binned patterns, radial profiles, virtual images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector, Disk
from py4DSTEM.core.history import History
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.process.classes.features import FeatureBlock, Features, Scale, Transform, table_of
from py4DSTEM.process.radial import RadialProfiles
from py4DSTEM.process.virtual import VirtualImages
from py4DSTEM.stream.operation import Measures, Operation, Output, Parts, PerScan
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["MOST_BLOCKS", "ExtractFeatures"]

Array = NDArray[Any]
Float = NDArray[np.float64]
MOST_BLOCKS = 32
"""Blocks along each side of a pattern, where nobody says how large they should be."""
_LEAST_WINDOW = 0.5
_FEW_PIXELS = 2000
"""Masked pixels up to which it is faster to subtract them than to blank them."""


@dataclass(frozen=True, eq=False)
class _Grid:
    """Blocks of detector pixels; `shifts` move them with the origin, by whole pixels."""

    bin: int
    start: tuple[int, int]
    shape: tuple[int, int]
    shifts: NDArray[np.int64] | None
    unknown: NDArray[np.bool_] | None
    masked: _Masked | None

    @property
    def pixels(self) -> tuple[int, int]:
        """Detector pixels that all blocks take together."""
        return self.bin * self.shape[0], self.bin * self.shape[1]


@dataclass(frozen=True, eq=False)
class _Masked:
    """Pixels that count, and what makes the sums of blocks full: one row per shift that occurs."""

    keep: NDArray[np.bool_]
    gains: Float
    which: NDArray[np.int64]
    few: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None


@dataclass(frozen=True, eq=False)
class _Plan:
    blocks: tuple[FeatureBlock, ...]
    grid: _Grid | None
    profile: tuple[RadialProfiles, Any] | None
    images: tuple[VirtualImages, Any] | None


class ExtractFeatures(Operation, kind="features", version=1):
    """Features of every pattern for a classification, all in one pass over the scan.

    Binned patterns, radial profiles or virtual images.  Pixels that are NaN make their feature
    unknown at that position; a mask leaves pixels out, its blocks are scaled to full size.
    """

    bin: Literal["auto"] | PositiveInt | None = Field(
        "auto",
        description="Pixels along each side of the blocks into which patterns are summed; auto: "
        "at most 32 blocks a side, or none where detectors or profiles are asked for.",
    )
    profile_step_px: PositiveFloat | None = Field(
        None, description="Distance of the rings of a radial profile in pixels; None: no profile."
    )
    detectors: dict[str, AnyDetector] | None = Field(
        None, description="Detector shapes by name for virtual images; None: no images."
    )
    mask: AnyDetector | None = Field(
        None,
        description="Pixels that count in patterns and profiles: where its weight is at least one "
        "half.",
    )
    follow_origin: bool | None = Field(
        None, description="Use the origin of each position; None: where the calibration has them."
    )
    normalize: bool = Field(
        False, description="Divide each pattern, and each profile, by its sum: shape, not dose."
    )
    transform: Literal["auto"] | Transform = Field(
        "auto",
        description="Of patterns and profiles before they are compared; auto: anscombe for counts, "
        "sqrt for others.",
    )
    scale: Literal["auto"] | Scale = Field(
        "auto",
        description="Of the features before they are compared; auto: one number for all of a "
        "pattern or profile (block), each virtual image by its standard deviation (standard).",
    )

    outputs: ClassVar[Mapping[str, Output]] = {"features": PerScan(np.float32)}

    @classmethod
    def examples(cls) -> list[ExtractFeatures]:
        """Instances for the conformance tests."""
        bf = Disk(4.0)
        return [
            cls(bin=3, follow_origin=True),
            cls(bin=4, profile_step_px=2.0, detectors={"bf": bf}, mask=Disk(8.0), normalize=True),
            cls(detectors={"bf": bf}, follow_origin=False),
        ]

    # ---- once ------------------------------------------------------------------------------------
    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        size = self._bin(cube)
        grid = None if size is None else self._grid(cube, size)
        rings = self._profile(cube, kernels)
        images = self._images(cube, kernels)
        blocks: list[FeatureBlock] = []
        if grid is not None:
            kind = {**self._words(cube), "bin": grid.bin, "start": grid.start}
            blocks.append(FeatureBlock("patterns", "pattern", grid.shape, **kind))
        if rings is not None:
            step = {**self._words(cube), "step": rings[0].step_px, "unit": "px"}
            blocks.append(FeatureBlock("profile", "profile", (rings[1].bins,), **step))
        if images is not None:
            scale: Scale = "standard" if self.scale == "auto" else self.scale
            names = tuple(images[0].detectors)
            blocks.append(FeatureBlock("images", "images", (len(names),), names, scale=scale))
        if not blocks:
            raise ParameterError("features need a bin, a profile_step_px or detectors")
        return _Plan(tuple(blocks), grid, rings, images)

    def _bin(self, cube: Cube) -> int | None:
        if self.bin != "auto":
            if self.bin is not None and self.bin > min(cube.Q_shape):
                raise ParameterError(f"bin={self.bin} for patterns of {cube.Q_shape} pixels")
            return self.bin
        if self.detectors or self.profile_step_px is not None:
            return None
        return math.ceil(max(cube.Q_shape) / MOST_BLOCKS)

    def _words(self, cube: Cube) -> dict[str, Any]:
        counts = cube.dtype.kind in "ui" and not self.normalize
        transform = ("anscombe" if counts else "sqrt") if self.transform == "auto" else (
            self.transform)  # fmt: skip
        return {"transform": transform, "scale": "block" if self.scale == "auto" else self.scale}

    def _profile(self, cube: Cube, kernels: Kernels) -> tuple[RadialProfiles, Any] | None:
        if self.profile_step_px is None:
            return None
        rings = RadialProfiles(
            step_px=self.profile_step_px, mask=self.mask, follow_origin=self.follow_origin
        )
        return rings, rings.prepare(cube, kernels)

    def _images(self, cube: Cube, kernels: Kernels) -> tuple[VirtualImages, Any] | None:
        if not self.detectors:
            return None
        images = VirtualImages(detectors=self.detectors, follow_origin=self.follow_origin)
        return images, images.prepare(cube, kernels)

    def _grid(self, cube: Cube, size: int) -> _Grid:
        start, stop = (0, 0), cube.Q_shape
        shifts = self._shifts(cube)
        if shifts is not None:
            lowest, highest = shifts.min((0, 1)), shifts.max((0, 1))
            start = (max(0, -int(lowest[0])), max(0, -int(lowest[1])))
            nx, ny = cube.Q_shape
            stop = (nx - max(0, int(highest[0])), ny - max(0, int(highest[1])))
            _check_window(start, stop, cube.Q_shape)
        shape = ((stop[0] - start[0]) // size, (stop[1] - start[1]) // size)
        if min(shape) < 1:
            raise ParameterError(f"bin={size} is larger than the patterns: make it smaller")
        unknown = None
        if shifts is not None:
            unknown = np.asarray(~np.isfinite(_origins(cube)).all(axis=-1))
        grid = _Grid(size, start, shape, shifts, unknown, None)
        if self.mask is None:
            return grid
        keep = self.mask.weights(cube.Q_shape, cube.calibration) >= 0.5
        return replace(grid, masked=_masked(grid, keep, cube.R_shape))

    def _shifts(self, cube: Cube) -> NDArray[np.int64] | None:
        """Whole pixels from the mean origin to that of each position."""
        varies = cube.calibration.origin_varies
        if self.follow_origin and not varies:
            raise CalibrationMissing(
                "origin per scan position", "calibrate_origin(cube) measures it"
            )
        if not varies or self.follow_origin is False:
            return None
        away = _origins(cube) - np.asarray(cube.calibration.mean_origin_px)
        shifts = np.rint(np.where(np.isfinite(away), away, 0.0)).astype(np.int64)
        return shifts if shifts.any() else None

    # ---- every tile ------------------------------------------------------------------------------
    def measures(self, plan: _Plan) -> Measures | None:
        return None if plan.images is None else plan.images[0].measures(plan.images[1])

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        columns: list[Array] = []
        if plan.grid is not None:
            columns.append(self._dose_free(_binned_tile(plan.grid, tile, kernels)))
        if plan.profile is not None:
            operation, rings = plan.profile
            found = operation.step(rings, tile, kernels)
            sums, norms = found["sums"], found["norms"]
            mean = np.divide(sums, norms, out=np.full(sums.shape, np.nan), where=norms > 0)
            columns.append(self._dose_free(mean))
        if plan.images is not None:
            images, inner = plan.images
            columns.append(images.step(inner, tile, kernels)["images"])
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [np.asarray(c, np.float32) for c in columns]
        return {"features": parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)}

    def _dose_free(self, rows: Array) -> Array:
        if not self.normalize:
            return rows
        rows = np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)
        total = np.nansum(rows, axis=1, keepdims=True)
        shares: Array = np.divide(rows, total, out=np.full(rows.shape, np.nan), where=total > 0)
        return shares

    def finish(self, cube: Cube, plan: _Plan, parts: Parts, history: History) -> Features:
        data = table_of(parts["features"], cube.R_shape)
        data[~np.isfinite(data)] = np.nan
        return Features(data, cube.R_shape, plan.blocks, cube.calibration, history)


def _origins(cube: Cube) -> Float:
    return np.asarray(cube.calibration.origins(cube.R_shape))


def _check_window(start: tuple[int, ...], stop: tuple[int, ...], Q_shape: tuple[int, int]) -> None:
    share = [(b - a) / n for a, b, n in zip(start, stop, Q_shape, strict=True)]
    if min(share) < _LEAST_WINDOW:
        raise ShapeError(
            f"patterns that follow the origin share only {stop[0] - start[0]} x "
            f"{stop[1] - start[1]} pixels of {Q_shape}: use follow_origin=False, or bin=None with "
            "profile_step_px"
        )


def _masked(grid: _Grid, keep: NDArray[np.bool_], R_shape: tuple[int, int]) -> _Masked:
    """What makes the sums of blocks full of which only some pixels count."""
    shifts = np.zeros((1, 2), np.int64) if grid.shifts is None else grid.shifts.reshape(-1, 2)
    moves, which = np.unique(shifts, axis=0, return_inverse=True)
    windows = np.lib.stride_tricks.sliding_window_view(keep, grid.pixels)
    b, (nx, ny) = grid.bin, grid.shape
    gains = np.empty((len(moves), nx * ny))
    for row, (x, y) in zip(gains, moves + grid.start, strict=True):
        area = windows[x, y].reshape(nx, b, ny, b).sum((1, 3)).ravel()
        row[:] = np.divide(b**2, area, out=np.full(area.shape, np.nan), where=area > 0)
    places = np.broadcast_to(which.reshape(-1), math.prod(R_shape)).reshape(R_shape)
    return _Masked(keep, gains, places, None if len(moves) > 1 else _few(grid, keep))


def _few(
    grid: _Grid, keep: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
    """Masked pixels in the order of their blocks, where each block starts, and which it is."""
    x, y = np.nonzero(~keep)
    i, j = (x - grid.start[0]) // grid.bin, (y - grid.start[1]) // grid.bin
    inside = (i >= 0) & (i < grid.shape[0]) & (j >= 0) & (j < grid.shape[1])
    if not 0 < inside.sum() <= _FEW_PIXELS:
        return None
    block = (i * grid.shape[1] + j)[inside]
    order = np.argsort(block, kind="stable")
    blocks, starts = np.unique(block[order], return_index=True)
    return (x * keep.shape[1] + y)[inside][order], starts, blocks


def _binned_tile(grid: _Grid, tile: Tile, kernels: Kernels) -> Array:
    """Sums of blocks of the patterns of a tile, (n, blocks)."""
    frames, masked = tile.frames, grid.masked
    few = masked.few if masked is not None and frames.dtype.kind in "ui" else None
    if masked is not None and few is None:
        frames = np.where(masked.keep, frames, frames.dtype.type(0))
    sums = kernels.bin_frames(_windows(grid, frames, tile), grid.bin, grid.bin)
    sums = sums.reshape(len(frames), -1)
    if few is not None:  # whole numbers: adding and subtracting leaves nothing behind
        pixels, starts, blocks = few
        values = frames.reshape(len(frames), -1)[:, pixels].astype(sums.dtype)
        sums[:, blocks] -= np.add.reduceat(values, starts, axis=1)
    if masked is not None:
        with np.errstate(invalid="ignore"):
            sums = sums * masked.gains[tile.local(masked.which)]
    if grid.unknown is not None:
        sums = np.where(tile.local(grid.unknown)[:, None], np.nan, sums)
    return sums


def _windows(grid: _Grid, frames: Array, tile: Tile) -> Array:
    """The part of each pattern that the blocks take."""
    (height, width), (x, y) = grid.pixels, grid.start
    if grid.shifts is not None:
        windows = np.lib.stride_tricks.sliding_window_view(frames, (height, width), axis=(1, 2))
        moved = tile.local(grid.shifts)
        found: Array = windows[np.arange(len(frames)), x + moved[:, 0], y + moved[:, 1]]
        return found
    if (height, width) != frames.shape[1:]:
        return frames[:, x : x + height, y : y + width]
    return frames
