"""Tiles: rectangular blocks of whole patterns, planned from the data alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.lazy import LazyArray, chunks_of
from py4DSTEM.errors import MemoryBudgetError

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Measured

__all__ = ["Block", "Tile", "TilePlan", "plan_tiles"]

TARGET_BYTES = 16 * 1024**2
"""Large enough to hide what Python does for each tile, even with several workers."""
LEAST_BYTES = 1024**2
SHARES = 64
"""A small scan is cut into about as many tiles, so that all workers find something to do."""
MIN_PATTERNS = 16
"""Images reduced over a tile (mean, maximum) cost a pattern each; spread that over a few."""
LARGEST_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class Block:
    """Where a tile lies in the scan."""

    index: int
    rx: slice
    ry: slice

    @property
    def shape(self) -> tuple[int, int]:
        return self.rx.stop - self.rx.start, self.ry.stop - self.ry.start

    def __str__(self) -> str:
        return f"rows {self.rx.start}:{self.rx.stop}, columns {self.ry.start}:{self.ry.stop}"


@dataclass(frozen=True, eq=False)
class Tile:
    """The patterns of one block, as operations see them.

    Parameters
    ----------
    block : Block
        Position in the scan.
    frames : (n, Qx, Qy) real
        Patterns in C order of the block; contiguous, native byte order.
    weights : (n,) float64, optional
        Weight of every position (from ``where=``); None: all count fully.
    measured : Measured, optional
        The sums that the operation asked for by `Operation.measures`.
    """

    block: Block
    frames: NDArray[Any]
    weights: NDArray[np.float64] | None = None
    measured: Measured | None = None

    def local(self, per_scan: NDArray[Any]) -> NDArray[Any]:
        """The part of an array ``(Rx, Ry, ...)`` that belongs to this tile, (n, ...)."""
        part = per_scan[self.block.rx, self.block.ry]
        return part.reshape(-1, *part.shape[2:])


@dataclass(frozen=True)
class TilePlan:
    """How a scan is cut: blocks of ``(height, width)`` positions."""

    R_shape: tuple[int, int]
    block_shape: tuple[int, int]
    pattern_bytes: int

    @property
    def tile_bytes(self) -> int:
        return math.prod(self.block_shape) * self.pattern_bytes

    def __len__(self) -> int:
        return math.prod(-(-n // b) for n, b in zip(self.R_shape, self.block_shape, strict=True))

    def __iter__(self) -> Iterator[Block]:
        (nx, ny), (height, width) = self.R_shape, self.block_shape
        index = 0
        for x in range(0, nx, height):
            for y in range(0, ny, width):
                yield Block(index, slice(x, min(x + height, nx)), slice(y, min(y + width, ny)))
                index += 1


def plan_tiles(data: LazyArray, limit_bytes: int, least_patterns: int = MIN_PATTERNS) -> TilePlan:
    """Choose a block shape for `data`; the same data always gives the same tiles.

    Parameters
    ----------
    data : LazyArray
    limit_bytes : int
        Most that one tile may take; only reached for chunks or patterns that are that large.
    least_patterns : int
        As many go into a tile where they fit.

    Raises
    ------
    MemoryBudgetError
        A single pattern does not fit.
    """
    nx, ny, qx, qy = map(int, data.shape)
    pattern = max(1, qx * qy * data.dtype.itemsize)
    if pattern > limit_bytes:
        raise MemoryBudgetError(
            f"one pattern takes {pattern / 1e6:.0f} MB and a tile may take {limit_bytes / 1e6:.0f} "
            "MB: give more memory, e.g. RunOptions(memory='4 GB'), or bin the detector"
        )
    share = nx * ny * pattern // SHARES
    wanted = max(min(TARGET_BYTES, max(LEAST_BYTES, share)), least_patterns * pattern)
    count = max(1, min(wanted, limit_bytes) // pattern)
    chunks = chunks_of(data)
    unit = (1, 1) if chunks is None else (min(chunks[0], nx), min(chunks[1], ny))
    most = max(1, min(max(LARGEST_BYTES, pattern), limit_bytes) // pattern)
    return TilePlan((nx, ny), _block_shape((nx, ny), unit, count, most), pattern)


def _block_shape(
    scan: tuple[int, int], unit: tuple[int, int], count: int, most: int
) -> tuple[int, int]:
    """Whole storage chunks of about `count` patterns; never more than `most`."""
    (nx, ny), (height, width) = scan, unit
    if height * width > most:
        # The chunk is larger than a tile may be: it will be decoded more than once.
        return max(1, most // width), min(width, most)
    across = min(-(-ny // width), max(1, count // (height * width)))
    if across * width < ny:
        return height, across * width
    down = max(1, count // (height * ny))
    return min(nx, down * height), ny
