"""Where the chunks of a dataset lie in its file."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import CorruptFile

__all__ = ["Chunk", "ChunkGrid", "ChunkIndex", "build_index"]

Ints = NDArray[np.int64]
Chunk = tuple[int, int, int]  # offset and size in the file, filter mask


@dataclass(frozen=True)
class ChunkGrid:
    """How the chunks tile a dataset.

    Attributes
    ----------
    counts : tuple of int
        Chunks per axis.
    strides : tuple of int
        Distance, in the C-ordered number of a chunk, of neighbours along each axis.
    """

    counts: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, shape: Sequence[int], chunks: Sequence[int]) -> ChunkGrid:
        """The grid of a dataset."""
        counts = tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True))
        strides = tuple(math.prod(counts[k + 1 :]) for k in range(len(counts)))
        return cls(counts, strides)

    @property
    def size(self) -> int:
        """Number of chunks, written or not."""
        return math.prod(self.counts)

    def place(self, number: int) -> tuple[int, ...]:
        """Grid coordinates of a chunk."""
        return tuple(number // s % n for s, n in zip(self.strides, self.counts, strict=True))


class ChunkIndex:
    """Offset, stored size and filter mask of each written chunk.

    Twenty bytes per written chunk, and eight more where some are not written; unwritten
    chunks cost nothing.
    """

    def __init__(self, numbers: Ints, offsets: Ints, sizes: Ints, masks: NDArray[np.uint32]):
        if np.any(numbers[1:] < numbers[:-1]):
            order = np.argsort(numbers, kind="stable")
            numbers, offsets = numbers[order], offsets[order]
            sizes, masks = sizes[order], masks[order]
        full = len(numbers) > 0 and numbers[0] == 0 and numbers[-1] == len(numbers) - 1
        self._numbers = None if full else numbers
        self._offsets, self._sizes, self._masks = offsets, sizes, masks

    def __len__(self) -> int:
        return len(self._offsets)

    def get(self, number: int) -> Chunk | None:
        """The chunk with this C-ordered number; None if it was never written."""
        k = number if self._numbers is None else int(self._numbers.searchsorted(number))
        if k >= len(self) or (self._numbers is not None and self._numbers[k] != number):
            return None
        return int(self._offsets[k]), int(self._sizes[k]), int(self._masks[k])

    def get_all(self, numbers: Ints) -> list[Chunk | None]:
        """`get` for many chunks at once."""
        if len(self) == 0:
            return [None] * len(numbers)
        places = numbers if self._numbers is None else self._numbers.searchsorted(numbers)
        places = np.minimum(places, len(self) - 1)
        columns = (self._offsets[places], self._sizes[places], self._masks[places])
        chunks: list[Chunk | None] = list(zip(*(c.tolist() for c in columns), strict=True))
        found = places if self._numbers is None else self._numbers[places]
        for k in np.flatnonzero(found != numbers).tolist():
            chunks[k] = None
        return chunks


def build_index(dataset: h5py.Dataset, grid: ChunkGrid, file_size: int) -> ChunkIndex:
    """Read the chunk index of a dataset in one pass.

    Parameters
    ----------
    dataset : h5py.Dataset
        Chunked.
    grid : ChunkGrid
    file_size : int
        Bytes.

    Raises
    ------
    CorruptFile
        A chunk lies beyond the end of the file, or is twice in the index.
    """
    corners, masks, offsets, sizes = array("q"), array("I"), array("q"), array("q")

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        corners.extend(chunk[0])
        masks.append(chunk[1])
        offsets.append(chunk[2])
        sizes.append(chunk[3])

    try:
        dataset.id.chunk_iter(note)
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        raise _damaged(dataset, f"unreadable: {error}", None) from error
    numbers, inside = _numbers(dataset, grid, np.asarray(corners))
    place, length, skipped = np.asarray(offsets), np.asarray(sizes), np.array(masks, np.uint32)
    if not inside.all():  # HDF5 ignores what lies outside of the dataset
        numbers, place = numbers[inside], place[inside]
        length, skipped = length[inside], skipped[inside]
    _check_extent(dataset, place, length, file_size)
    return ChunkIndex(numbers, place, length, skipped)


def _numbers(
    dataset: h5py.Dataset, grid: ChunkGrid, corners: Ints
) -> tuple[Ints, NDArray[np.bool_]]:
    """C-ordered chunk numbers from the corners of the chunks, and which are in the grid."""
    places = corners.reshape(-1, dataset.ndim) // np.array(dataset.chunks, np.int64)
    within = (places >= 0) & (places < np.array(grid.counts, np.int64))
    inside: NDArray[np.bool_] = np.logical_and.reduce(within, axis=1)
    numbers = places @ np.array(grid.strides, np.int64)
    if len(np.unique(numbers[inside])) != np.count_nonzero(inside):
        raise _damaged(dataset, "names a chunk twice", None)
    return np.asarray(numbers, np.int64), inside


def _check_extent(dataset: h5py.Dataset, offsets: Ints, sizes: Ints, file_size: int) -> None:
    beyond = (offsets < 0) | (sizes < 0) | (sizes > file_size) | (offsets > file_size - sizes)
    if beyond.any():
        raise _damaged(dataset, "a chunk beyond the end", int(offsets[beyond.argmax()]))


def _damaged(dataset: h5py.Dataset, what: str, offset: int | None) -> CorruptFile:
    return CorruptFile(
        f"chunk index of dataset {dataset.name!r}: {what}",
        path=dataset.file.filename,
        format="HDF5",
        offset=offset,
        hint="Copy the file again from where it was recorded",
    )
