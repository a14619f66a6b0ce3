"""The three ways to fetch values: mapped, chunk by chunk, or through HDF5."""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import CorruptFile
from py4DSTEM.io.hdf5.chunks import Chunk, ChunkGrid, ChunkIndex
from py4DSTEM.io.hdf5.codecs import Bytes, DecodeError, Pipeline, Scratch
from py4DSTEM.io.hdf5.select import Span

__all__ = ["Array", "Layout", "Mapped", "RawFile", "Source", "ThroughHdf5", "ViaChunks"]

Array = NDArray[np.generic]
_MAX_GAP = 4 << 10  # bytes between two chunks that are worth reading along
_MAX_READ = 1 << 20  # bytes in one read of several chunks
_RECENT = 64 << 20  # bytes of decoded chunks that are kept for whoever wants the rest of them
_COPY = "Copy the file again from where it was recorded"


@dataclass(frozen=True)
class Layout:
    """What every source has to know about its dataset.

    Attributes
    ----------
    path, dataset : str
    shape : tuple of int
    stored : numpy.dtype
        As in the file, which may have the other byte order.
    """

    path: str
    dataset: str
    shape: tuple[int, ...]
    stored: np.dtype[np.generic]

    @property
    def native(self) -> np.dtype[np.generic]:
        """The type of what is returned."""
        return self.stored.newbyteorder("=")

    def corrupt(self, what: str, offset: int | None = None) -> CorruptFile:
        """An error about this dataset."""
        return CorruptFile(
            f"dataset {self.dataset!r}: {what}",
            path=self.path,
            format="HDF5",
            offset=offset,
            hint=_COPY,
        )


class Source(Protocol):
    """Fetches the values at a range of positions per axis; safe to call from any thread."""

    def read(self, spans: Sequence[Span], out: Array | None = None) -> Array:
        """Values in native byte order, in `out` where one is given."""

    def close(self) -> None:
        """Let go of the file."""


# ---------------------------------------------------------------- bytes


class RawFile:
    """Positioned reads that share one descriptor between threads."""

    def __init__(self, path: str) -> None:
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        self.fd = os.open(path, flags)
        self.size = os.fstat(self.fd).st_size
        self._lock = threading.Lock()
        self.close = weakref.finalize(self, os.close, self.fd)

    def read_into(self, buffer: Bytes, offset: int) -> bool:
        """Fill a contiguous buffer; False if the file ends before."""
        view, done = buffer.data, 0
        while done < len(view):
            count = self._read(view[done:], offset + done)
            if count == 0:
                return False
            done += count
        return True

    if hasattr(os, "preadv"):

        def _read(self, view: memoryview, offset: int) -> int:
            return os.preadv(self.fd, [view], offset)
    else:

        def _read(self, view: memoryview, offset: int) -> int:
            with self._lock:
                os.lseek(self.fd, offset, os.SEEK_SET)
                data = os.read(self.fd, len(view))
            view[: len(data)] = data
            return len(data)


def _as_bytes(block: Array) -> Bytes:
    """The memory of a C-contiguous array."""
    return block.reshape(-1).view(np.uint8)


def _counts(spans: Sequence[Span]) -> tuple[int, ...]:
    return tuple(s.count for s in spans)


# ---------------------------------------------------------------- contiguous


class Mapped:
    """A contiguous dataset: views of a memory map, or plain reads where mapping fails.

    Parameters
    ----------
    layout : Layout
    offset : int
        Of the first value in the file.

    Raises
    ------
    CorruptFile
        The values reach beyond the end of the file.
    """

    def __init__(self, layout: Layout, offset: int) -> None:
        self._layout, self._offset = layout, offset
        self._file = RawFile(layout.path)
        self._nbytes = math.prod(layout.shape) * layout.stored.itemsize
        if offset + self._nbytes > self._file.size:
            self._file.close()
            raise layout.corrupt("the values reach beyond the end of the file", offset)
        self._memory: mmap.mmap | None = None
        self._view = self._map()

    def _map(self) -> Array | None:
        start = self._offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        length = self._offset - start + self._nbytes
        try:
            memory = mmap.mmap(self._file.fd, length, access=mmap.ACCESS_READ, offset=start)
        except (OSError, ValueError, OverflowError, MemoryError):
            return None
        self._memory = memory
        count = math.prod(self._layout.shape)
        flat = np.frombuffer(memory, self._layout.stored, count, self._offset - start)
        return flat.reshape(self._layout.shape)

    def read(self, spans: Sequence[Span], out: Array | None = None) -> Array:
        """A read-only view where byte order and alignment allow it and no `out` is given."""
        if self._view is not None:
            self._check_size()
            part = self._view[tuple(s.as_slice for s in spans)]
        else:
            part = self._fetch(spans)
        if out is None:
            return np.require(part, self._layout.native, ["ALIGNED"])
        out[...] = part
        return out

    def _check_size(self) -> None:
        """Touching a map of a file that has become shorter would end the process."""
        end = self._offset + self._nbytes
        if self._memory is not None and self._memory.size() < end:
            raise self._layout.corrupt("the file has become shorter", end)

    def _fetch(self, spans: Sequence[Span]) -> Array:
        """Read runs that are contiguous in the file."""
        shape, stored = self._layout.shape, self._layout.stored
        values: Array = np.empty(_counts(spans), stored)
        if values.size == 0:
            return values
        inner = _contiguous_axis(spans, shape)
        steps = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
        run = spans[inner]
        tail = math.prod(shape[inner + 1 :])
        buffer: Array = np.empty(((run.stop - run.start), tail), stored)
        for place in itertools.product(*(range(s.count) for s in spans[:inner])):
            outer = zip(spans[:inner], place, steps[:inner], strict=True)
            first = run.start * tail + sum((s.start + i * s.step) * n for s, i, n in outer)
            offset = self._offset + first * stored.itemsize
            if not self._file.read_into(_as_bytes(buffer), offset):
                raise self._layout.corrupt("the file has become shorter", offset)
            values[place] = buffer[:: run.step].reshape(values[place].shape)
        return values

    def close(self) -> None:
        """Let go of the file; views that were handed out stay valid."""
        self._view = self._memory = None
        self._file.close()


def _contiguous_axis(spans: Sequence[Span], shape: Sequence[int]) -> int:
    """The axis behind which everything is taken."""
    for k in reversed(range(len(spans))):
        if spans[k].count != shape[k]:
            return k
    return 0


# ---------------------------------------------------------------- chunked


@dataclass(frozen=True, slots=True)
class _Piece:
    """The part of one axis that falls into one chunk."""

    number: int  # contribution to the number of the chunk
    inside: slice
    target: slice
    whole: bool
    finished: bool  # nothing of the chunk is left for others


class _Recent:
    """The last decoded chunks of which only a part was wanted; shared, so never written to."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots: OrderedDict[int, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, number: int, decode: Callable[[], Bytes]) -> Bytes:
        """A chunk; decoded once, also where several threads want it at the same moment."""
        with self._lock:
            slot = self._slots.setdefault(number, _Slot())
            self._slots.move_to_end(number)
            if len(self._slots) > self._most:
                self._slots.popitem(last=False)
        with slot.lock:
            if slot.chunk is None:
                slot.chunk = decode()
            return slot.chunk


class _Slot:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.chunk: Bytes | None = None


class ViaChunks:
    """A chunked dataset, decoded outside of HDF5.

    Parameters
    ----------
    layout : Layout
    chunks : tuple of int
    index : ChunkIndex
    pipeline : Pipeline
        Decodes chunks of ``prod(chunks) * itemsize`` bytes.
    fill : scalar
        Value of the chunks that were never written.
    file : RawFile
    through : Source
        Reads the chunks that the pipeline cannot decode.
    """

    def __init__(
        self,
        layout: Layout,
        chunks: tuple[int, ...],
        index: ChunkIndex,
        pipeline: Pipeline,
        fill: np.generic,
        file: RawFile,
        through: Source,
    ) -> None:
        self._layout, self._chunks, self._index = layout, chunks, index
        self._grid = ChunkGrid.of(layout.shape, chunks)
        self._pipeline, self._fill = pipeline, fill
        self._file, self._through = file, through
        self._local = threading.local()
        self._recent = _Recent(max(1, _RECENT // max(1, pipeline.nbytes)))

    def read(self, spans: Sequence[Span], out: Array | None = None) -> Array:
        """Decode each touched chunk once, straight into place where it fits."""
        shape = _counts(spans)
        result: Array = np.empty(shape, self._layout.native) if out is None else out
        stored = result.view(self._layout.stored)
        grid = zip(spans, self._chunks, self._grid.strides, self._layout.shape, strict=True)
        axes = [list(_pieces(*axis)) for axis in grid]
        rows = self._rows(axes, stored)
        if rows is None or not self._fill_rows(_numbers(axes), rows):
            for pieces in itertools.product(*axes):
                self._place(pieces, spans, stored)
        if not self._layout.stored.isnative:
            result.byteswap(inplace=True)
        return result

    def _rows(self, axes: Sequence[Sequence[_Piece]], stored: Array) -> Bytes | None:
        """The result as one row of bytes per chunk; None unless it is whole chunks in order."""
        if not stored.size or not all(p.whole for axis in axes for p in axis):
            return None
        long = next((k for k, c in enumerate(self._chunks) if c > 1), len(axes))
        if any(len(axis) > 1 for axis in axes[long + 1 :]) or not stored.flags.c_contiguous:
            return None
        return _as_bytes(stored).reshape(-1, self._pipeline.nbytes)

    def _fill_rows(self, numbers: NDArray[np.int64], rows: Bytes) -> bool:
        """Bring whole chunks to their rows; False if one cannot be decoded here."""
        chunks = self._index.get_all(numbers)
        masks = {chunk[2] for chunk in chunks if chunk is not None}
        if not all(self._pipeline.decodes(mask) for mask in masks):
            return False
        for first, last in _runs(chunks):
            self._fill_run(chunks[first:last], numbers[first:last], rows[first:last])
        return True

    def _fill_run(
        self, chunks: Sequence[Chunk | None], numbers: NDArray[np.int64], rows: Bytes
    ) -> None:
        """Chunks that are neighbours in the file, with one read; or unwritten ones."""
        if chunks[0] is None or chunks[-1] is None:
            rows.view(self._layout.stored)[...] = self._fill
            return
        start = chunks[0][0]
        span = chunks[-1][0] + chunks[-1][1] - start
        scratch = self._scratch()
        if span == rows.size and not self._pipeline.filters:
            self._load(rows.reshape(-1), start)
            return
        source = scratch.get("stored", span)
        self._load(source, start)
        for k, chunk in enumerate(chunks):
            if chunk is not None:
                at = chunk[0] - start
                self._unpack(source[at : at + chunk[1]], chunk, int(numbers[k]), rows[k], scratch)

    def _place(self, pieces: tuple[_Piece, ...], spans: Sequence[Span], stored: Array) -> None:
        """Bring one chunk to its place in the result."""
        number = sum([p.number for p in pieces])
        target = stored[tuple([p.target for p in pieces])]
        chunk = self._index.get(number)
        if chunk is None:
            target[...] = self._fill
        elif not self._pipeline.decodes(chunk[2]):
            part = [_part(s, p.target) for s, p in zip(spans, pieces, strict=True)]
            target[...] = self._through.read(part)
        elif all(p.whole for p in pieces) and target.flags.c_contiguous:
            self._decode(chunk, number, _as_bytes(target))
        else:
            keep = not all(p.finished for p in pieces)
            values = self._whole(chunk, number, keep).view(self._layout.stored)
            target[...] = values.reshape(self._chunks)[tuple([p.inside for p in pieces])]

    def _whole(self, chunk: Chunk, number: int, keep: bool) -> Bytes:
        """A decoded chunk; kept for a while where others will want the rest of it."""
        if keep:
            return self._recent.get(number, lambda: self._fresh(chunk, number))
        block = self._scratch().get("chunk", self._pipeline.nbytes)
        self._decode(chunk, number, block)
        return block

    def _fresh(self, chunk: Chunk, number: int) -> Bytes:
        block = np.empty(self._pipeline.nbytes, np.uint8)
        self._decode(chunk, number, block)
        return block

    def _decode(self, chunk: Chunk, number: int, out: Bytes) -> None:
        scratch = self._scratch()
        source = scratch.get("stored", chunk[1])
        self._load(source, chunk[0])
        self._unpack(source, chunk, number, out, scratch)

    def _load(self, buffer: Bytes, offset: int) -> None:
        if not self._file.read_into(buffer, offset):
            raise self._layout.corrupt("the file has become shorter", offset)

    def _unpack(
        self, source: Bytes, chunk: Chunk, number: int, out: Bytes, scratch: Scratch
    ) -> None:
        try:
            self._pipeline.decode(source, chunk[2], out, scratch)
        except DecodeError as error:
            what = f"chunk {self._grid.place(number)} is damaged: {error}"
            raise self._layout.corrupt(what, chunk[0]) from error

    def _scratch(self) -> Scratch:
        try:
            scratch: Scratch = self._local.scratch
        except AttributeError:
            scratch = self._local.scratch = Scratch()
        return scratch

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        self._through.close()


def _numbers(axes: Sequence[Sequence[_Piece]]) -> NDArray[np.int64]:
    """The numbers of all chunks of a product of pieces, in C order."""
    numbers = np.zeros(1, np.int64)
    for axis in axes:
        step = np.array([p.number for p in axis], np.int64)
        numbers = (numbers[:, None] + step).reshape(-1)
    return numbers


def _runs(chunks: Sequence[Chunk | None]) -> Iterator[tuple[int, int]]:
    """Split where the next chunk does not follow closely in the file."""
    first = 0
    for k in range(1, len(chunks)):
        if not _follows(chunks[first], chunks[k - 1], chunks[k]):
            yield first, k
            first = k
    if chunks:
        yield first, len(chunks)


def _follows(first: Chunk | None, last: Chunk | None, chunk: Chunk | None) -> bool:
    if first is None or last is None or chunk is None:
        return first is last is chunk
    gap = chunk[0] - last[0] - last[1]
    return 0 <= gap <= _MAX_GAP and chunk[0] + chunk[1] - first[0] <= _MAX_READ


def _pieces(span: Span, chunk: int, stride: int, length: int) -> Iterator[_Piece]:
    """Split a span at the borders of the chunks of an axis of `length`."""
    if span.count == 0:
        return
    for k in range(span.start // chunk, (span.stop - 1) // chunk + 1):
        parts = span.within(k * chunk, (k + 1) * chunk)
        if parts is not None:
            inside, target = parts
            count = target.stop - target.start
            finished = count == min(chunk, length - k * chunk)
            yield _Piece(k * stride, inside, target, count == chunk, finished)


def _part(span: Span, target: slice) -> Span:
    return Span(span.start + target.start * span.step, span.step, target.stop - target.start)


# ---------------------------------------------------------------- through HDF5


class ThroughHdf5:
    """Any dataset that h5py can read, one thread at a time."""

    def __init__(self, layout: Layout, dataset: h5py.Dataset | None = None) -> None:
        self._layout = layout
        self._lock = threading.RLock()
        self._dataset = dataset

    def read(self, spans: Sequence[Span], out: Array | None = None) -> Array:
        """Read through the library, filters and all."""
        key = tuple(s.as_slice for s in spans)
        with self._lock:
            try:
                part = self._open()[key]
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                raise self._layout.corrupt(f"cannot be read: {error}") from error
        if out is None:
            return np.asarray(part, self._layout.native)
        out[...] = part
        return out

    def _open(self) -> h5py.Dataset:
        if self._dataset is None:
            file = h5py.File(self._layout.path, "r", locking="best-effort")
            self._dataset = file[self._layout.dataset]
        return self._dataset

    def close(self) -> None:
        """Let go of the file."""
        with self._lock, contextlib.suppress(RuntimeError, ValueError):
            if self._dataset is not None:
                self._dataset.file.close()
            self._dataset = None
