"""Frames of fixed size inside files: mapped into memory, or read where mapping is impossible."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from py4DSTEM.errors import CorruptFile, ParameterError

__all__ = ["BlankFrames", "FileFrames", "JoinedFrames", "MemoryFrames", "count_frames"]

Array = NDArray[Any]
Decoder = Callable[[Array], Array]


MADV_POPULATE_READ = 22
WORTHWHILE_BYTES = 1 << 18


def _linux_madvise() -> Callable[[int, int, int], int] | None:
    """``madvise`` of the C library; called through ctypes it lets other threads run."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    library.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    call: Callable[[int, int, int], int] = library.madvise
    return call


_madvise = _linux_madvise()


def _mapped_in(part: Array) -> bool:
    """Map the pages of a part of a file ahead, where the system can (Linux 5.14).

    False where the file no longer reaches so far: touching that part would end the process.
    """
    if _madvise is None or part.nbytes < WORTHWHILE_BYTES:
        return True
    start = part.ctypes.data
    inside = start % mmap.PAGESIZE
    if _madvise(start - inside, part.nbytes + inside, MADV_POPULATE_READ) == 0:
        return True
    return ctypes.get_errno() != errno.EFAULT


class FileFrames:
    """Frames of equal size at equal distances in one file; nothing is read before it is asked for.

    Frame i occupies ``frame_bytes`` bytes from ``offset + i * stride_bytes``.  The file is mapped
    into memory where the address space allows it, else every call reads its bytes (`pread`); both
    are safe from several threads.

    Parameters
    ----------
    path : path
    shape : (n, Qx, Qy)
        As delivered, after `decode`.
    dtype : dtype
        Of the delivered frames; with a byte order.
    offset, stride_bytes : int
        Where frame 0 starts; from one frame to the next (default: no gap).
    stored_bytes : int, optional
        Bytes of one stored frame, where they differ from the delivered ones.
    decode : callable, optional
        Turns stored bytes ``(m, stored_bytes) uint8`` into frames ``(m, Qx, Qy)``.  Must be
        picklable (a function of a module).
    format : str
        For messages.

    Raises
    ------
    CorruptFile
        The file is shorter than the frames need.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, int, int],
        dtype: DTypeLike,
        *,
        offset: int = 0,
        stride_bytes: int | None = None,
        stored_bytes: int | None = None,
        decode: Decoder | None = None,
        format: str = "raw",
    ) -> None:
        self.path = Path(path)
        self._shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self._dtype = np.dtype(dtype)
        frame = self._shape[1] * self._shape[2] * self._dtype.itemsize
        self._stored = frame if stored_bytes is None else int(stored_bytes)
        self._stride = self._stored if stride_bytes is None else int(stride_bytes)
        self._offset, self._decode, self.format = int(offset), decode, format
        if min(self._shape) < 1 or self._stride < self._stored or self._offset < 0:
            raise ParameterError(f"impossible layout: {self._shape} frames, stride {self._stride}")
        self._check_size()
        self._map: Array | None = None
        self._memory: mmap.mmap | None = None
        self._mappable = True
        self._fd: int | None = None

    def _check_size(self) -> None:
        need = self._offset + (self._shape[0] - 1) * self._stride + self._stored
        size = os.stat(self.path).st_size
        if size < need:
            raise CorruptFile(
                "the file is shorter than its header says",
                path=self.path,
                format=self.format,
                offset=size,
                expected=f"{need} bytes",
                got=f"{size} bytes",
                hint="It was probably not copied completely: compare with the original",
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    def __repr__(self) -> str:
        return f"<FileFrames {self.path.name} {self._shape} {self._dtype}>"

    def read_frames(self, start: int, stop: int) -> Array:
        """Frames ``start … stop-1`` as ``(stop - start, Qx, Qy)``; a view where possible."""
        count = max(0, stop - start)
        if count == 0:
            return np.empty((0, *self._shape[1:]), self._dtype)
        stored = self._bytes(start, count)
        if self._decode is not None:
            return self._decode(stored)
        # Gaps between frames become strides: whoever needs one piece copies once, not twice.
        return stored.view(self._dtype).reshape(count, *self._shape[1:])

    def _bytes(self, start: int, count: int) -> Array:
        """Stored bytes of frames, (count, stored_bytes) uint8."""
        at = self._offset + start * self._stride
        span = (count - 1) * self._stride + self._stored
        mapped = self._mapped()
        if mapped is None:
            flat = self._pread(at, span)
        else:
            flat = mapped[at : at + span]
            if self._shortened(at + span) or not _mapped_in(flat):
                raise self._ended(at, span)
        return np.lib.stride_tricks.as_strided(
            flat, (count, self._stored), (self._stride, 1), writeable=False
        )

    def _shortened(self, stop: int) -> bool:
        """Whether the file ends before `stop` by now: touching such a map ends the process."""
        return self._memory is not None and self._memory.size() < stop

    def _mapped(self) -> Array | None:
        if self._map is None and self._mappable:
            try:
                with open(self.path, "rb") as f:
                    view = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
                self._memory = view
                self._map = np.frombuffer(view, np.uint8)
            except (OSError, ValueError, OverflowError):
                self._mappable = False  # no address space, or a file system without mmap
        return self._map

    def _pread(self, at: int, size: int) -> Array:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        out = np.empty(size, np.uint8)
        view, done = out.data, 0
        while done < size:
            got = os.preadv(self._fd, [view[done:]], at + done)
            if got == 0:
                raise self._ended(at + done, size - done)
            done += got
        return out

    def _ended(self, at: int, missing: int) -> CorruptFile:
        return CorruptFile(
            "the file ended while it was read",
            path=self.path,
            format=self.format,
            offset=at,
            expected=f"{missing} bytes more",
            hint="Something is shortening the file: is it still being copied?",
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None, "_memory": None, "_fd": None, "_mappable": True}

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            os.close(self._fd)  # type: ignore[arg-type]


class JoinedFrames:
    """Several frame sources of the same frame shape, one after the other."""

    def __init__(self, parts: list[Any]) -> None:
        if len({(p.shape[1:], np.dtype(p.dtype)) for p in parts}) != 1:
            raise ParameterError("files of one scan must have the same frame shape and dtype")
        self.parts = parts
        self._starts = np.cumsum([0, *[int(p.shape[0]) for p in parts]])

    @property
    def shape(self) -> tuple[int, int, int]:
        _, qx, qy = self.parts[0].shape
        return int(self._starts[-1]), int(qx), int(qy)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.parts[0].dtype)
        return dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Storage chunks that all files share; None where they differ."""
        kinds = {getattr(p, "chunks", None) for p in self.parts if not isinstance(p, BlankFrames)}
        return kinds.pop() if len(kinds) == 1 else None

    def read_frames(self, start: int, stop: int) -> Array:
        """Frames ``start … stop-1``; copied only where a call spans two files."""
        pieces = [
            part.read_frames(max(start - first, 0), min(stop, last) - first)
            for part, first, last in zip(
                self.parts, self._starts[:-1].tolist(), self._starts[1:].tolist(), strict=True
            )
            if first < stop and start < last
        ]
        if not pieces:
            return np.empty((0, *self.shape[1:]), self.dtype)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class BlankFrames:
    """Frames of zeros, in place of those of a missing file."""

    def __init__(self, shape: tuple[int, int, int], dtype: DTypeLike) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    def read_frames(self, start: int, stop: int) -> Array:
        """``(stop - start, Qx, Qy)`` zeros."""
        return np.zeros((max(0, stop - start), *self._shape[1:]), self._dtype)


class ScatteredFrames:
    """Frames of equal size at any places of one file, read one by one.

    Parameters
    ----------
    path : path
    offsets : (n,) int64
        Where each frame starts.
    Q_shape : (int, int)
    dtype : dtype
        With a byte order.
    format : str
        For messages.

    Raises
    ------
    CorruptFile
        A frame would end beyond the file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        offsets: NDArray[np.int64],
        Q_shape: tuple[int, int],
        dtype: DTypeLike,
        *,
        format: str = "raw",
    ) -> None:
        self.offsets = np.asarray(offsets, np.int64)
        first, last = int(self.offsets.min()), int(self.offsets.max())
        if first < 0:
            raise CorruptFile(
                "a frame starts before the file", path=path, format=format, got=f"offset {first}"
            )
        # One source over all bytes: it checks the size and knows how to map or to read.
        self._frame = Q_shape[0] * Q_shape[1] * np.dtype(dtype).itemsize
        self._bytes = FileFrames(path, (last + self._frame, 1, 1), np.uint8, format=format)
        self._Q_shape, self._dtype = Q_shape, np.dtype(dtype)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self.offsets), *self._Q_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    def read_frames(self, start: int, stop: int) -> Array:
        """Frames ``start … stop-1`` as ``(stop - start, Qx, Qy)``."""
        out = np.empty((max(0, stop - start), *self._Q_shape), self._dtype)
        for one, at in zip(out, self.offsets[start:stop].tolist(), strict=True):
            raw = self._bytes.read_frames(at, at + self._frame)
            one[...] = raw.reshape(-1).view(self._dtype).reshape(self._Q_shape)
        return out


class MemoryFrames:
    """Frames of an array-like ``(n, Qx, Qy)`` (numpy, h5py, zarr, dask)."""

    def __init__(self, array: Any) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, int, int]:
        n, qx, qy = map(int, self.array.shape)
        return n, qx, qy

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        chunks = getattr(self.array, "chunks", None)
        if not chunks or len(chunks) != 3:
            return None
        return tuple(int(c[0]) if isinstance(c, tuple) else int(c) for c in chunks)

    def read_frames(self, start: int, stop: int) -> Array:
        """Frames ``start … stop-1``."""
        reader = getattr(self.array, "read_frames", None)
        if reader is not None:
            frames: Array = reader(start, stop)
            return frames
        part = self.array[start:stop]
        if hasattr(part, "compute"):
            part = part.compute(scheduler="synchronous")
        return np.asarray(part)


def count_frames(
    path: Path, size: int, *, offset: int, stride: int, format: str, allow_truncated: bool = False
) -> tuple[int, tuple[str, ...]]:
    """How many complete frames of `stride` bytes follow `offset` in a file of `size` bytes.

    Returns
    -------
    count, notes
        A note where an incomplete last frame was left out.

    Raises
    ------
    CorruptFile
        There is no complete frame, or the last one is incomplete and `allow_truncated` is not set.
    """
    count, rest = divmod(max(size - offset, 0), stride)
    if count > 0 and rest == 0:
        return count, ()
    if count > 0 and allow_truncated:
        return count, (
            f"{path.name}: the last frame is incomplete ({rest} of {stride} bytes) and left out; "
            f"{count} complete frames were read",
        )
    hint = "It was probably not copied completely: compare with the original"
    raise CorruptFile(
        "the last frame is incomplete" if count else "there is not one complete frame",
        path=path,
        format=format,
        offset=offset + count * stride,
        expected=f"frames of {stride} bytes",
        got=f"{count} frames and {rest} bytes",
        hint=f"{hint}; allow_truncated=True reads the complete frames" if count else hint,
    )
