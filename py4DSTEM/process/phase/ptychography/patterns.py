"""What was measured, as the kernels want it: roots of patterns, zero frequency first, turned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import MemoryBudgetError, ParameterError
from py4DSTEM.kernels.fft import fast_size, padded
from py4DSTEM.process.beam import find_beam
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.ptychography.noise import expected_misfit
from py4DSTEM.process.phase.ptychography.planes import turned
from py4DSTEM.stream.engine import stream_tiles
from py4DSTEM.stream.options import RunOptions, available_memory_bytes
from py4DSTEM.stream.tile import Tile

__all__ = ["Patterns", "read_patterns"]

F32 = NDArray[np.float32]
NOT_MEASURED = np.float32(-1.0)
LABEL = "read patterns for ptychography"


@dataclass(frozen=True, eq=False)
class Patterns:
    """Measured patterns, padded to a size that transforms fast.

    Parameters
    ----------
    amplitudes : (P, plane) float32
        Roots of counts; −1 where nothing was measured.
    optics : Optics
        Of the padded detector.
    rest_px : (float, float)
        Where zero scattering lies: the fraction of a pixel that is left of the origin.
    counts : (P,) float64
        Sum of each pattern.
    expected : float
        ``Σ (√I_measured − √I)²`` over all patterns that Poisson noise alone gives, if counts are
        electrons.
    """

    amplitudes: F32
    optics: Optics
    rest_px: tuple[float, float]
    counts: NDArray[np.float64]
    expected: float

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels of the padded detector."""
        return self.optics.Q_shape

    @property
    def power(self) -> float:
        """Sum of all counts."""
        return float(self.counts.sum())


def read_patterns(
    cube: Cube,
    optics: Optics,
    *,
    mask: NDArray[np.bool_] | None = None,
    folder: Path | None = None,
    options: RunOptions | None = None,
) -> Patterns:
    """Read a scan once and prepare its patterns.

    Parameters
    ----------
    cube : Cube
        Without an origin in its calibration that of the bright disk is found.
    optics : Optics
        Of its detector.
    mask : (Qx, Qy) bool, optional
        True where the detector measures.
    folder : path, optional
        Where patterns that do not fit into memory are kept while they are needed.
    options : RunOptions, optional

    Raises
    ------
    ParameterError
        Values are NaN, infinite or negative beyond what a dark correction leaves.
    MemoryBudgetError
        The patterns do not fit, and there is no folder for them.
    """
    shape = (fast_size(cube.Q_shape[0]), fast_size(cube.Q_shape[1]))
    origins = _origins(cube)
    whole = np.rint(origins).astype(np.int64)
    rest = tuple(float(v) for v in (origins - whole).mean(axis=0))
    seen = np.ones(cube.Q_shape, bool) if mask is None else np.asarray(mask, bool)
    out = _room((math.prod(cube.R_shape), padded(shape[0]) * padded(shape[1])), folder)
    counts, places = np.empty(len(out)), np.arange(len(out)).reshape(cube.R_shape)

    def prepare(tile: Tile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        frames = _checked(tile.frames, seen)
        numbers = tile.local(places)
        for number, frame in zip(numbers, frames, strict=True):
            out[number] = _placed(frame, seen, whole[number], shape)
        return frames.sum(axis=(1, 2), dtype=np.float64), frames.sum(axis=0, dtype=np.float64)

    total = np.zeros(cube.Q_shape)
    for block, (sums, part) in stream_tiles(cube, prepare, options=options, label=LABEL):
        counts.reshape(cube.R_shape)[block.rx, block.ry] = sums.reshape(
            block.rx.stop - block.rx.start, -1
        )
        total += part
    if not counts.max(initial=0.0) > 0:
        raise ParameterError("all patterns are empty: there is nothing to reconstruct")
    # Of the mean pattern; where patterns differ much from it that is a little too much.
    expected = len(out) * float(expected_misfit(total / len(out)).sum())
    return Patterns(out, optics.padded(shape), (rest[0], rest[1]), counts, expected)


def _origins(cube: Cube) -> NDArray[np.float64]:
    """The origin of every pattern, (P, 2); that of the bright disk where none is known."""
    if cube.calibration.origin_px is None:
        return np.broadcast_to(find_beam(cube).center, (math.prod(cube.R_shape), 2))
    origins = np.asarray(cube.calibration.origins(cube.R_shape)).reshape(-1, 2)
    return np.where(np.isfinite(origins), origins, np.array(cube.calibration.mean_origin_px))


def _room(shape: tuple[int, int], folder: Path | None) -> F32:
    size = 4 * math.prod(shape)
    if size < 0.6 * available_memory_bytes():
        return np.zeros(shape, np.float32)
    if folder is None:
        raise MemoryBudgetError(
            f"the patterns take {size / 1e9:.2f} GB, more than is free: bin or crop them, or give "
            "a folder on a fast disk"
        )
    kept: F32 = np.memmap(folder / "patterns.f32", np.float32, "w+", shape=shape)
    return kept


def _checked(frames: NDArray[Any], seen: NDArray[np.bool_]) -> F32:
    values = frames.astype(np.float32)
    used = values[:, seen]
    if not np.isfinite(used).all():
        raise ParameterError(
            "patterns hold NaN or infinite values: clean them, or give a mask of the pixels that "
            "measure"
        )
    if used.size and used.sum() < 0:
        raise ParameterError("patterns are negative on average: subtract less background")
    values[:, ~seen] = 0
    return np.maximum(values, 0, out=values)


def _placed(
    frame: F32, seen: NDArray[np.bool_], origin: NDArray[np.int64], shape: tuple[int, int]
) -> F32:
    """One pattern on the padded detector with its origin at pixel (0, 0), turned."""
    values = np.where(seen, np.sqrt(frame), NOT_MEASURED)
    whole = np.full(shape, NOT_MEASURED, np.float32)
    whole[: frame.shape[0], : frame.shape[1]] = values
    rolled = np.roll(whole, (-int(origin[0]), -int(origin[1])), axis=(0, 1))
    return turned(rolled)
