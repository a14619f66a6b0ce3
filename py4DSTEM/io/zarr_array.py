"""`ZarrScan`: an array of a Zarr store as a lazy array, read with care."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import CorruptFile, ParameterError, Py4DSTEMError

__all__ = ["LARGEST_ARRAY", "LARGEST_CHUNK", "ZarrScan", "open_store", "zarr_errors"]

LARGEST_CHUNK = 1 << 30
"""Bytes of a chunk beyond which its description is not believed."""
LARGEST_ARRAY = 1 << 30
"""Bytes of an array that is no scan and would be loaded as a whole."""
_MOST_COUNTED = 200_000


@contextmanager
def zarr_errors(path: Path, what: str) -> Iterator[None]:
    """Turn whatever zarr and its codecs raise, which has no common base, into `CorruptFile`."""
    try:
        yield
    except (Py4DSTEMError, IndexError):
        raise
    except Exception as error:
        raise CorruptFile(
            f"{what} cannot be read ({type(error).__name__}: {error})", path=path, format="Zarr",
            hint="A chunk or a description is damaged: copy the data again",
        ) from error  # fmt: skip


def open_store(path: Path) -> Any:
    """What zarr opens: the folder itself, or a zip file whose entries are of believable size.

    Raises
    ------
    CorruptFile
        The zip file is damaged, or an entry unpacks to more than `LARGEST_CHUNK`.
    """
    import zarr

    if path.is_dir():
        return os.fspath(path)
    with zarr_errors(path, "its zip directory"), zipfile.ZipFile(path) as archive:
        largest = max((entry.file_size for entry in archive.infolist()), default=0)
    if largest > LARGEST_CHUNK:
        raise _unbelievable(path, "an entry of the zip file", largest)
    return zarr.storage.ZipStore(path, mode="r", read_only=True)


def _unbelievable(path: Path, what: str, size: int) -> CorruptFile:
    return CorruptFile(
        f"{what} is unbelievably large", path=path, format="Zarr",
        expected=f"at most {LARGEST_CHUNK} bytes", got=f"{size} bytes",
    )  # fmt: skip


class ZarrScan:
    """One array of a Zarr store; read on demand, from several threads.

    Parameters
    ----------
    array : zarr.Array
    path : path
        Folder or zip file, for messages.

    Raises
    ------
    CorruptFile
        Its chunks would be unbelievably large.
    """

    def __init__(self, array: Any, path: Path) -> None:
        self._array, self.path = array, path
        self._dtype: np.dtype[Any] = np.dtype(array.dtype).newbyteorder("=")
        for chunk in (array.chunks, self.chunks):
            if min(chunk, default=1) < 1:
                raise CorruptFile("chunks of no size", path=path, format="Zarr", got=str(chunk))
            size = math.prod(map(int, chunk)) * self._dtype.itemsize
            if size > LARGEST_CHUNK:
                raise _unbelievable(path, f"a chunk {chunk} of array {array.path!r}", size)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self._array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * int(self._dtype.itemsize)

    @property
    def chunks(self) -> tuple[int, ...]:
        """What is stored as one: a shard, or a chunk where there are no shards."""
        stored = getattr(self._array, "shards", None) or self._array.chunks
        return tuple(int(n) for n in stored)

    def __repr__(self) -> str:
        return f"<ZarrScan {self.path.name}/{self._array.path} {self.shape} {self._dtype}>"

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        with zarr_errors(self.path, f"array {self._array.path!r}"):
            return np.asarray(self._array[key], self._dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def read_block(self, rx: slice, ry: slice) -> NDArray[Any]:
        """Patterns of a block of a 4D array, (n, Qx, Qy)."""
        return self[rx, ry].reshape(-1, *self.shape[2:])

    def read_frames(self, start: int, stop: int) -> NDArray[Any]:
        """Frames of a 3D array, (stop - start, Qx, Qy)."""
        return self[start:stop]

    def check_loadable(self, scan_shape: tuple[int, int] | None) -> None:
        """Refuse what is no scan and too large to be loaded as a whole."""
        if self.ndim == 4 or (self.ndim == 3 and scan_shape is not None):
            return
        if self.nbytes > LARGEST_ARRAY:
            stack = "; if it is a stack of patterns, give scan_shape=(rows, columns)"
            raise ParameterError(
                f"{self.path}: array {self._array.path!r} of shape {self.shape} would take "
                f"{self.nbytes / 1e9:.1f} GB of memory{stack if self.ndim == 3 else ''}"
            )

    def notes(self) -> tuple[str, ...]:
        """What is told about chunks that are not there; they read as the fill value."""
        total = math.prod(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))
        if total > _MOST_COUNTED or not self.shape:
            return ()
        there = self._count_stored()
        if there >= total:
            return ()
        fill = self._array.fill_value
        return (f"{total - there} of {total} chunks are not stored and read as {fill}",)

    def _count_stored(self) -> int:
        place = self._array.path.strip("/")
        if self.path.is_dir():
            files = (n for _, _, names in os.walk(self.path / place) for n in names)
            return sum(_is_chunk(name) for name in files)
        start = f"{place}/" if place else ""
        with zipfile.ZipFile(self.path) as archive:
            names = {n for n in archive.namelist() if n.startswith(start) and not n.endswith("/")}
        return sum(_is_chunk(name.rpartition("/")[2]) for name in names)


def _is_chunk(name: str) -> bool:
    return not name.startswith(".") and name != "zarr.json" and name[-1:].isdigit()
