"""Arrays that are read when they are used: the protocol, and views that compose.

A scan is anything with ``shape``, ``dtype`` and ``__getitem__`` (`LazyArray`); numpy, memmap,
h5py, zarr and dask arrays qualify.  The engine asks for whole patterns through `read_block`, which
takes a short cut where an array offers one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from py4DSTEM.errors import ParameterError, ShapeError

__all__ = [
    "Binned",
    "BlockArray",
    "Cast",
    "Cropped",
    "FrameSource",
    "LazyArray",
    "Padded",
    "ScanOfFrames",
    "TransposedQ",
    "TransposedR",
    "View",
    "binned_dtype",
    "chunks_of",
    "read_block",
]

Array = NDArray[Any]
Shape4 = tuple[int, int, int, int]


@runtime_checkable
class LazyArray(Protocol):
    """A 4D array ``(Rx, Ry, Qx, Qy)`` that is read when indexed."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, key: Any, /) -> Any: ...


class FrameSource(Protocol):
    """A stack of patterns ``(n, Qx, Qy)`` in recording order; safe to read from threads."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def read_frames(self, start: int, stop: int) -> Array:
        """Frames ``start … stop-1`` as ``(stop - start, Qx, Qy)``."""
        ...


def read_block(data: LazyArray, rx: slice, ry: slice) -> Array:
    """Patterns of a rectangular block of the scan as ``(n, Qx, Qy)``, row by row.

    `rx` and `ry` have a start and a stop and no step.  No copy is made where the array is in
    memory and the block contiguous.
    """
    reader = getattr(data, "read_block", None)
    if reader is not None:
        return cast(Array, reader(rx, ry))
    block = data[rx, ry]
    if hasattr(block, "compute"):
        # A dask array: its own thread pool inside ours would oversubscribe the machine.
        block = block.compute(scheduler="synchronous")
    array = np.asarray(block)
    return array.reshape(-1, *array.shape[2:])


def chunks_of(data: LazyArray) -> tuple[int, ...] | None:
    """Storage chunk shape of the scan, None where reading is equally cheap anywhere."""
    chunks = getattr(data, "chunks", None)
    if not chunks or len(chunks) != len(data.shape):
        return None
    # dask lists every chunk along an axis; the first one stands for all
    return tuple(int(c[0]) if isinstance(c, tuple) else int(c) for c in chunks)


def binned_dtype(dtype: DTypeLike, factor: int) -> np.dtype[Any]:
    """Smallest dtype that holds the sum of `factor` values: no sum ever overflows."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        kind = np.dtype(np.uint8)
    if kind.kind == "f":
        return np.dtype(np.float64) if kind.itemsize > 4 else np.dtype(np.float32)
    if kind.kind not in "iu":
        raise ParameterError(f"cannot bin values of dtype {kind}")
    names = ("uint8", "uint16", "uint32", "uint64") if kind.kind == "u" else (
        "int8", "int16", "int32", "int64")  # fmt: skip
    lowest, largest = int(np.iinfo(kind).min) * factor, int(np.iinfo(kind).max) * factor
    for name in names:
        limits = np.iinfo(name)
        wide = np.dtype(name).itemsize >= kind.itemsize
        if wide and limits.min <= lowest and limits.max >= largest:
            return np.dtype(name)
    return np.dtype(np.float64)


class BlockArray(ABC):
    """Base of lazy 4D arrays that know how to read a block of whole patterns."""

    @property
    @abstractmethod
    def shape(self) -> Shape4: ...

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]: ...

    @abstractmethod
    def read_block(self, rx: slice, ry: slice) -> Array:
        """Patterns of the block as ``(n, Qx, Qy)``, row by row; called from several threads."""

    @property
    def chunks(self) -> tuple[int, ...] | None:
        return None

    @property
    def ndim(self) -> int:
        return 4

    @property
    def nbytes(self) -> int:
        """Size in memory if it were loaded."""
        return int(np.prod([int(n) for n in self.shape], dtype=object)) * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape} {self.dtype}>"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.asarray(self[...], dtype=dtype)

    def __getitem__(self, key: Any, /) -> Array:
        full = _expand_key(key)
        rx, ry = (_positions(k, n) for k, n in zip(full[:2], self.shape[:2], strict=True))
        q_key = tuple(map(_as_slice, full[2:]))
        sizes = [len(range(*k.indices(n))) for k, n in zip(q_key, self.shape[2:], strict=True)]
        out = np.empty((len(rx), len(ry), *sizes), self.dtype)
        if len(ry):
            for row, x in zip(out, rx, strict=True):
                row[...] = self._row(int(x), ry)[(slice(None), *q_key)]
        return _drop_integer_axes(out, full)

    def _row(self, x: int, ry: NDArray[np.intp]) -> Array:
        """Patterns of one row; reads only what lies between the first and the last of them."""
        first, last = int(ry.min()), int(ry.max())
        return self.read_block(slice(x, x + 1), slice(first, last + 1))[ry - first]


def _expand_key(key: Any) -> tuple[Any, ...]:
    """Four ints or slices from any basic index."""
    keys = key if isinstance(key, tuple) else (key,)
    if sum(k is Ellipsis for k in keys) > 1 or len([k for k in keys if k is not Ellipsis]) > 4:
        raise IndexError(f"too many indices for a 4D scan: {key!r}")
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        fill = 4 - (len(keys) - 1)
        keys = (*keys[:at], *[slice(None)] * fill, *keys[at + 1 :])
    keys = (*keys, *[slice(None)] * (4 - len(keys)))
    for k in keys:
        if not isinstance(k, slice | int | np.integer):
            raise IndexError(f"a lazy scan takes integers and slices, not {type(k).__name__}")
    return keys


def _positions(key: Any, size: int) -> NDArray[np.intp]:
    if isinstance(key, slice):
        return np.arange(*key.indices(size), dtype=np.intp)
    index = int(key) + (size if key < 0 else 0)
    if not 0 <= index < size:
        raise IndexError(f"index {int(key)} is outside an axis of {size}")
    return np.array([index], dtype=np.intp)


def _as_slice(key: Any) -> slice:
    """A slice that keeps the axis an integer would drop."""
    if isinstance(key, slice):
        return key
    return slice(int(key), int(key) + 1 or None)


def _drop_integer_axes(out: Array, keys: tuple[Any, ...]) -> Array:
    for axis, key in enumerate(keys[2:], start=2):
        if not isinstance(key, slice) and out.shape[axis] == 0:
            raise IndexError(f"index {int(key)} is outside axis {axis} of the scan")
    return out[tuple(slice(None) if isinstance(k, slice) else 0 for k in keys)]


# ---- views ---------------------------------------------------------------------------------------
class View(BlockArray):
    """Base of arrays that show another array in a different shape, order or dtype."""

    def __init__(self, source: LazyArray) -> None:
        self._source = source

    @property
    def shape(self) -> Shape4:
        a, b, c, d = map(int, self._source.shape)
        return a, b, c, d

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._source.dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        chunks = chunks_of(self._source)
        return None if chunks is None else self._moved(chunks)

    def _moved(self, chunks: tuple[int, ...]) -> tuple[int, ...]:
        """The storage chunks of the source as they appear in this view."""
        return chunks


class Cropped(View):
    """A rectangular part of a scan and of its patterns."""

    def __init__(self, source: LazyArray, bounds: tuple[tuple[int, int], ...]) -> None:
        super().__init__(source)
        self._bounds = bounds

    @property
    def shape(self) -> Shape4:
        a, b, c, d = (stop - start for start, stop in self._bounds)
        return a, b, c, d

    def _moved(self, chunks: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(map(min, chunks, self.shape))

    def read_block(self, rx: slice, ry: slice) -> Array:
        (x0, _), (y0, _), (qx0, qx1), (qy0, qy1) = self._bounds
        frames = read_block(self._source, _shift(rx, x0), _shift(ry, y0))
        return frames[:, qx0:qx1, qy0:qy1]


class Binned(View):
    """Sums of neighbouring pixels and scan positions; remainders at the far edges are dropped."""

    def __init__(self, source: LazyArray, R: tuple[int, int], Q: tuple[int, int]) -> None:
        super().__init__(source)
        self._R, self._Q = R, Q
        self._dtype = binned_dtype(source.dtype, R[0] * R[1] * Q[0] * Q[1])

    @property
    def shape(self) -> Shape4:
        a, b, c, d = (n // k for n, k in zip(self._source.shape, (*self._R, *self._Q), strict=True))
        return a, b, c, d

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    def _moved(self, chunks: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(1, c // k) for c, k in zip(chunks, (*self._R, *self._Q), strict=True))

    def read_block(self, rx: slice, ry: slice) -> Array:
        (bx, by), (height, width) = self._R, (rx.stop - rx.start, ry.stop - ry.start)
        out = np.zeros((height, width, *self.shape[2:]), self._dtype)
        # One source row at a time, so that binning never needs more memory than its result.
        for row in range(height * bx):
            x = rx.start * bx + row
            frames = read_block(self._source, slice(x, x + 1), slice(ry.start * by, ry.stop * by))
            summed = _bin_patterns(frames, self._Q, self._dtype)
            out[row // bx] += summed.reshape(width, by, *summed.shape[1:]).sum(1, self._dtype)
        return out.reshape(-1, *self.shape[2:])


def _bin_patterns(frames: Array, factors: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    bx, by = factors
    n, qx, qy = frames.shape[0], frames.shape[1] // bx, frames.shape[2] // by
    out = np.zeros((n, qx, qy), dtype)
    # Strided adds keep the inner loop contiguous over patterns of any factor.
    for i in range(bx):
        for j in range(by):
            out += frames[:, i : qx * bx : bx, j : qy * by : by]
    return out


class Padded(View):
    """Patterns with a border of constant value around them."""

    def __init__(
        self, source: LazyArray, Q: tuple[tuple[int, int], tuple[int, int]], value: float
    ) -> None:
        super().__init__(source)
        self._Q, self._value = Q, value
        if source.dtype.kind != "f" and not _holds(source.dtype, value):
            raise ParameterError(f"a border of {value!r} does not fit into {source.dtype}")

    @property
    def shape(self) -> Shape4:
        rx, ry, qx, qy = self._source.shape
        return rx, ry, qx + sum(self._Q[0]), qy + sum(self._Q[1])

    def _moved(self, chunks: tuple[int, ...]) -> tuple[int, ...]:
        return (*chunks[:2], *self.shape[2:])

    def read_block(self, rx: slice, ry: slice) -> Array:
        frames = read_block(self._source, rx, ry)
        return np.pad(frames, ((0, 0), *self._Q), constant_values=self._value)


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether an integer or boolean dtype can hold `value` exactly."""
    if dtype.kind == "b":
        return value in (0, 1)
    limits = np.iinfo(dtype)
    return value == np.floor(value) and limits.min <= value <= limits.max


class Cast(View):
    """The same scan in another dtype; a value that the dtype cannot hold is an error."""

    def __init__(self, source: LazyArray, dtype: DTypeLike) -> None:
        super().__init__(source)
        self._dtype = np.dtype(dtype)
        if self._dtype.kind not in "buif":
            raise ParameterError(f"patterns are real numbers, not {self._dtype}")

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    def read_block(self, rx: slice, ry: slice) -> Array:
        frames = read_block(self._source, rx, ry)
        with np.errstate(invalid="ignore", over="ignore"):
            out = frames.astype(self._dtype)
        if not np.can_cast(frames.dtype, self._dtype, "safe"):
            self._check(frames, out)
        return out

    def _check(self, frames: Array, out: Array) -> None:
        """Integers must survive exactly; rounding of floats is fine, infinities are not."""
        floats = self._dtype.kind == "f"
        fine = np.isfinite(out) | ~np.isfinite(frames) if floats else out == frames
        if not fine.all():
            worst = frames[~fine].ravel()[0]
            raise ParameterError(
                f"the value {worst} does not fit into {self._dtype}: choose a wider dtype, or clip "
                "or round the data first"
            )


class TransposedQ(View):
    """The same scan with the two detector axes exchanged."""

    @property
    def shape(self) -> Shape4:
        rx, ry, qx, qy = self._source.shape
        return rx, ry, qy, qx

    def _moved(self, chunks: tuple[int, ...]) -> tuple[int, ...]:
        return chunks[0], chunks[1], chunks[3], chunks[2]

    def read_block(self, rx: slice, ry: slice) -> Array:
        return read_block(self._source, rx, ry).transpose(0, 2, 1)


class TransposedR(View):
    """The same patterns with the two scan axes exchanged."""

    @property
    def shape(self) -> Shape4:
        rx, ry, qx, qy = self._source.shape
        return ry, rx, qx, qy

    def _moved(self, chunks: tuple[int, ...]) -> tuple[int, ...]:
        return chunks[1], chunks[0], *chunks[2:]

    def read_block(self, rx: slice, ry: slice) -> Array:
        frames = read_block(self._source, ry, rx)
        block = frames.reshape(ry.stop - ry.start, rx.stop - rx.start, *frames.shape[1:])
        return block.swapaxes(0, 1).reshape(-1, *frames.shape[1:])


class ScanOfFrames(BlockArray):
    """A stream of frames arranged as a scan.

    Position ``(rx, ry)`` shows frame ``sync_offset + rx * (Ry + flyback) + ry``; positions before
    the first or after the last frame read as `fill`.

    Parameters
    ----------
    frames : FrameSource
    scan_shape : (int, int)
    sync_offset : int
        Frames to skip at the start (negative: positions that have no frame).
    flyback : int
        Frames recorded after each scan row while the beam returns; skipped.
    fill : float
        Value of missing frames.
    """

    def __init__(
        self,
        frames: FrameSource,
        scan_shape: tuple[int, int],
        sync_offset: int = 0,
        flyback: int = 0,
        fill: float = 0,
    ) -> None:
        if len(frames.shape) != 3:
            raise ShapeError(f"frames must be (n, Qx, Qy), not {frames.shape}")
        if min(scan_shape) < 1 or flyback < 0:
            raise ParameterError(f"impossible scan shape {scan_shape} (flyback {flyback})")
        self.frames = frames
        self.scan_shape = scan_shape
        self.sync_offset, self.flyback, self.fill = sync_offset, flyback, fill

    @property
    def shape(self) -> Shape4:
        return (*self.scan_shape, int(self.frames.shape[1]), int(self.frames.shape[2]))

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.frames.dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Blocks of the scan whose frames are whole storage chunks, as nearly as they can be."""
        chunks = getattr(self.frames, "chunks", None)
        if not chunks or len(chunks) != 3:
            return None
        length, (rows, columns) = int(chunks[0]), self.scan_shape
        if columns % length == 0 and self.stride % length == 0:
            return (1, length, *self.shape[2:])
        # Chunks go on from one row to the next: whole rows share them only with their neighbours.
        return (min(rows, -(-length // self.stride)), columns, *self.shape[2:])

    @property
    def stride(self) -> int:
        """Frames from one scan row to the next."""
        return self.scan_shape[1] + self.flyback

    def read_block(self, rx: slice, ry: slice) -> Array:
        if self.flyback == 0 and (ry.start, ry.stop) == (0, self.scan_shape[1]):
            return self._span(rx.start * self.stride, rx.stop * self.stride)
        rows = [
            self._span(x * self.stride + ry.start, x * self.stride + ry.stop)
            for x in range(rx.start, rx.stop)
        ]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _span(self, start: int, stop: int) -> Array:
        """Frames by position in the scan; those that do not exist are filled."""
        first, last = start + self.sync_offset, stop + self.sync_offset
        count = int(self.frames.shape[0])
        inside = self.frames.read_frames(min(max(first, 0), count), max(0, min(last, count)))
        if first >= 0 and last <= count:
            return inside
        out = np.full((stop - start, *self.shape[2:]), self.fill, self.dtype)
        at = max(0, -first)
        out[at : at + len(inside)] = inside
        return out


def _shift(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
