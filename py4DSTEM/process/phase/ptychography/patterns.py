"""What was measured, as the kernels want it: roots of patterns, zero frequency first, turned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import MemoryBudgetError, ParameterError
from py4DSTEM.kernels.fft import fast_size, padded
from py4DSTEM.process.beam import find_beam
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.ptychography.noise import expected_misfit
from py4DSTEM.process.phase.ptychography.planes import turned, unturned
from py4DSTEM.stream.engine import stream_tiles
from py4DSTEM.stream.options import RunOptions, available_memory_bytes
from py4DSTEM.stream.tile import Tile

__all__ = ["Patterns", "are_electrons", "read_patterns"]

F32 = NDArray[np.float32]
NOT_MEASURED = np.float32(-1.0)
LABEL = "read patterns for ptychography"
HOT, DARK = 3.0, 0.01
"""Times the dose around: more and less than any specimen makes of a beam that is on."""
COUNTS_TO_TELL = 20.0
"""Of the median pattern: with fewer an empty one is no surprise."""
UNLIKE, WIDE = 0.3, 1.2
"""By how much the share of a pattern within so many radii of the disk leaves those around it."""
MOST_DAMAGED = 0.25
"""Share of patterns that may hold NaN before something else is wrong than a few of them."""


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
        Sum of each pattern; 0 for those that are left out.
    expected : float
        ``Σ (√I_measured − √I)²`` over all patterns that Poisson noise alone gives, if counts are
        electrons.
    notes : tuple of str
        Which patterns are left out, and why.
    descan_px : (P, 2) float64, optional
        By how much the origin of each pattern is farther off than `rest_px`.
    """

    amplitudes: F32
    optics: Optics
    rest_px: tuple[float, float]
    counts: NDArray[np.float64]
    expected: float
    notes: tuple[str, ...] = ()
    descan_px: NDArray[np.float64] | None = None

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
        More than a quarter of the patterns hold NaN or infinite values, or values are negative
        beyond what a dark correction leaves.
    MemoryBudgetError
        The patterns do not fit, and there is no folder for them.

    Notes
    -----
    Patterns that cannot be are left out, as if nothing had been measured: those with values that
    are not finite, without dose, of more than three times the dose of those around, or with a share
    of it beside the bright disk that none around has.
    """
    shape = (fast_size(cube.Q_shape[0]), fast_size(cube.Q_shape[1]))
    origins = _origins(cube)
    whole = np.rint(origins).astype(np.int64)
    left = origins - whole
    rest = tuple(float(v) for v in left.mean(axis=0))
    seen = np.ones(cube.Q_shape, bool) if mask is None else np.asarray(mask, bool)
    out = _room((math.prod(cube.R_shape), padded(shape[0]) * padded(shape[1])), folder)
    places = np.arange(len(out)).reshape(cube.R_shape)
    inside = _disk(optics, origins.mean(axis=0))

    def prepare(tile: Tile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        frames, damaged = _checked(tile.frames, seen)
        numbers = tile.local(places)
        for number, frame in zip(numbers, frames, strict=True):
            out[number] = _placed(frame, seen, whole[number], shape)
        sums = [frames.sum(axis=(1, 2), dtype=np.float64), frames[:, inside].sum(axis=1)]
        return np.where(damaged, np.nan, sums), frames.sum(axis=0, dtype=np.float64)

    maps, total = np.empty((2, *cube.R_shape)), np.zeros(cube.Q_shape)
    for block, (sums, part) in stream_tiles(cube, prepare, options=options, label=LABEL):
        maps[:, block.rx, block.ry] = sums.reshape(2, block.rx.stop - block.rx.start, -1)
        total += part
    bad, notes = _left_out(*maps)
    counts = maps[0].ravel()
    for number in np.flatnonzero(bad & np.isfinite(counts)):
        total -= _taken_back(out[number], whole[number], shape, cube.Q_shape)
    out[bad], counts[bad] = NOT_MEASURED, 0.0
    used = max(len(out) - int(bad.sum()), 1)
    # Of the mean pattern; where patterns differ much from it that is a little too much.
    expected = used * float(expected_misfit(np.maximum(total, 0) / used).sum())
    return Patterns(
        out, optics.padded(shape), (rest[0], rest[1]), counts, expected, notes, left - rest
    )


def are_electrons(amplitudes: F32) -> bool:
    """Whether squares of roots of patterns (P, ·) are whole numbers, as far as some tell."""
    some = amplitudes[:: max(1, len(amplitudes) // 16)].astype(np.float64)
    counts = np.square(np.maximum(some, 0))
    whole = np.abs(counts - np.rint(counts)) < 1e-3 + 1e-5 * counts
    return bool(whole.all()) and float(counts.max()) >= 1


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
        edge = math.isqrt(int(0.6 * available_memory_bytes() / (4 * shape[1])))
        raise MemoryBudgetError(
            f"the patterns take {size / 1e9:.2f} GB, more than is free: give a folder on a fast "
            f"disk, bin the detector, or crop the scan: a part of {edge} x {edge} positions fits"
        )
    kept: F32 = np.memmap(folder / "patterns.f32", np.float32, "w+", shape=shape)
    return kept


def _checked(frames: NDArray[Any], seen: NDArray[np.bool_]) -> tuple[F32, NDArray[np.bool_]]:
    """Patterns without negative values, and which of them hold some that are not finite."""
    values = frames.astype(np.float32)
    values[:, ~seen] = 0
    damaged = np.asarray(~np.isfinite(values).all(axis=(1, 2)), bool)
    values[damaged] = 0
    if values.sum(dtype=np.float64) < 0:
        raise ParameterError("patterns are negative on average: subtract less background")
    return np.maximum(values, 0, out=values), damaged


def _disk(optics: Optics, origin: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The bright disk and a little more on the detector, (Qx, Qy)."""
    i, j = np.indices(optics.Q_shape)
    (sx, sy), edge = optics.Q_steps_A, optics.semiangle_mrad * 1e-3 / optics.wavelength_A
    return np.asarray(np.hypot((i - origin[0]) * sx, (j - origin[1]) * sy) <= WIDE * edge)


def _left_out(
    counts: NDArray[np.float64], within: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Patterns that cannot be, (P,), from maps of their sums, NaN where damaged; and why.

    `within` are the counts near the disk.  A hole in a thick specimen is brighter than the median;
    what cannot be is unlike its neighbours as well, even where these are at an edge of something.
    """
    damaged = ~np.isfinite(counts)
    if damaged.mean() > MOST_DAMAGED:
        raise ParameterError(
            f"{damaged.sum()} of {damaged.size} patterns hold NaN or infinite values: clean them, "
            "or give a mask of the pixels that measure"
        )
    if not counts[~damaged].max(initial=0.0) > 0:
        raise ParameterError("all patterns are empty: there is nothing to reconstruct")
    middle = float(np.median(counts[~damaged]))
    known = np.where(damaged, middle, counts)
    around = ndimage.percentile_filter(known, 75, size=5, mode="nearest")
    tell = middle >= COUNTS_TO_TELL
    dark = tell & (known <= DARK * middle)
    hot = tell & (known > HOT * np.maximum(around, middle))
    share = np.where(damaged | dark, np.nan, within) / np.maximum(known, 1e-30)
    share = np.where(np.isfinite(share), share, np.nanmedian(share))
    low, high = (ndimage.percentile_filter(share, p, size=5, mode="nearest") for p in (15.0, 85.0))
    unlike = (share < low - UNLIKE) | (share > high + UNLIKE)
    unlike &= (known >= 5 * COUNTS_TO_TELL) & ~hot
    reasons = {
        "hold NaN or infinite values": damaged,
        "have no dose": dark,
        "are too bright": hot,
        "have another share in the bright disk than all around": unlike,
    }
    notes = tuple(
        f"left out, as they {why}: {_named(where)}" for why, where in reasons.items() if where.any()
    )
    return (damaged | dark | hot | unlike).ravel(), notes


def _named(where: NDArray[np.bool_]) -> str:
    """``2 patterns, at (1, 2), (3, 0)``."""
    places = [f"({x}, {y})" for x, y in np.argwhere(where)[:4]]
    more = " …" if where.sum() > len(places) else ""
    return f"{where.sum()} pattern(s), at {', '.join(places)}{more}"


def _taken_back(
    amplitudes: F32, origin: NDArray[np.int64], shape: tuple[int, int], Q_shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Counts on the detector of what `_placed` made, (Qx, Qy)."""
    rolled = unturned(amplitudes[None], shape)[0]
    whole = np.roll(rolled, (int(origin[0]), int(origin[1])), axis=(0, 1))
    counts: NDArray[np.float64] = np.maximum(whole[: Q_shape[0], : Q_shape[1]], 0.0) ** 2.0
    return counts


def _placed(
    frame: F32, seen: NDArray[np.bool_], origin: NDArray[np.int64], shape: tuple[int, int]
) -> F32:
    """One pattern on the padded detector with its origin at pixel (0, 0), turned."""
    values = np.where(seen, np.sqrt(frame), NOT_MEASURED)
    whole = np.full(shape, NOT_MEASURED, np.float32)
    whole[: frame.shape[0], : frame.shape[1]] = values
    rolled = np.roll(whole, (-int(origin[0]), -int(origin[1])), axis=(0, 1))
    return turned(rolled)
