"""Ragged lists of HDF5 (variable-length rows of records), read and written in bulk.

h5py turns every row into a Python object, some thousand per second.  Here the HDF5 library that
h5py has loaded is called once for the whole table, under h5py's lock; where its symbols cannot be
found, h5py does it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5s, h5t
from numpy.typing import NDArray

from py4DSTEM.errors import CorruptFile
from py4DSTEM.io.hdf5.heaps import check_lists

__all__ = ["read_ragged", "row_dtype", "write_ragged"]

_ROW = np.dtype([("count", np.uintp), ("address", np.uintp)])  # hvl_t
_ID, _PTR = ctypes.c_int64, ctypes.c_void_p
_ROWS_AT_ONCE = 1 << 16


def row_dtype(dataset: h5py.Dataset) -> np.dtype[Any] | None:
    """Type of the rows of a ragged dataset; None where it is not one."""
    dtype = h5py.check_vlen_dtype(dataset.dtype)
    return dtype if isinstance(dtype, np.dtype) and not dtype.hasobject else None


def read_ragged(dataset: h5py.Dataset) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """All rows of a ragged dataset, one after the other.

    Returns
    -------
    points : (n,) structured or plain
        In native byte order.
    offsets : (rows + 1,) int64
        Row k, in C order, is ``points[offsets[k] : offsets[k + 1]]``.

    Raises
    ------
    CorruptFile
        The rows cannot be read.
    """
    stored = row_dtype(dataset)
    if stored is None:
        raise CorruptFile(
            f"dataset {dataset.name!r} does not hold lists of numbers",
            path=dataset.file.filename, format="HDF5", got=str(dataset.dtype),
        )  # fmt: skip
    dtype = stored.newbyteorder("=")
    check_lists(dataset)
    try:
        library = _library()
        if library is None or dataset.size == 0:
            return _read_slowly(dataset, dtype)
        return _read_bulk(library, dataset, dtype)
    except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise CorruptFile(
            f"the lists of {dataset.name!r} cannot be read: {error}",
            path=dataset.file.filename, format="HDF5",
        ) from error  # fmt: skip


def write_ragged(dataset: h5py.Dataset, points: NDArray[Any], offsets: NDArray[np.int64]) -> None:
    """Fill a ragged dataset of ``len(offsets) - 1`` rows."""
    library = _library()
    if library is None:
        _write_slowly(dataset, points, offsets)
    elif dataset.size:
        _write_bulk(library, dataset, points, offsets)


# ---- through h5py --------------------------------------------------------------------------------
def _read_slowly(
    dataset: h5py.Dataset, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    cells = np.asarray(dataset[()], object).ravel()
    counts = np.fromiter((len(c) for c in cells), np.int64, len(cells))
    points = np.concatenate([np.empty(0, dtype), *(np.asarray(c, dtype) for c in cells)])
    return points, np.concatenate([[0], np.cumsum(counts)])


def _write_slowly(dataset: h5py.Dataset, points: NDArray[Any], offsets: NDArray[np.int64]) -> None:
    for k, place in enumerate(np.ndindex(*dataset.shape)):
        row = points[offsets[k] : offsets[k + 1]]
        if len(row):
            dataset[place] = row


# ---- through the library -------------------------------------------------------------------------
_Call = Callable[..., int]


class _Library(NamedTuple):
    """The functions that are called."""

    read: _Call
    write: _Call
    reclaim: _Call


@functools.cache
def _library() -> _Library | None:
    """The HDF5 library that h5py uses: its symbols are visible through an extension module."""
    names = ("H5Dread", "H5Dwrite", "H5Treclaim", "H5Dvlen_reclaim")
    try:
        library = ctypes.CDLL(h5d.__file__)
    except OSError:
        return None
    for name in names[:2]:
        if not hasattr(library, name):
            return None
        getattr(library, name).argtypes = (_ID, _ID, _ID, _ID, _ID, _PTR)
        getattr(library, name).restype = ctypes.c_int
    free = next((n for n in names[2:] if hasattr(library, n)), None)
    if free is None:
        return None
    reclaim = getattr(library, free)
    reclaim.argtypes = (_ID, _ID, _ID, _PTR)
    return _Library(library.H5Dread, library.H5Dwrite, reclaim)


@contextlib.contextmanager
def _memory_type(dtype: np.dtype[Any]) -> Iterator[int]:
    """The HDF5 type of rows in memory, under the lock that h5py takes for every call."""
    with h5py._objects.phil:
        kind = h5t.vlen_create(h5t.py_create(dtype))
        yield int(kind.id)


def _blocks(dataset: h5py.Dataset) -> Iterator[tuple[h5s.SpaceID, h5s.SpaceID, int]]:
    """Memory space, file space and rows of some rows of the first axis at a time."""
    shape = dataset.shape
    per_line = max(1, int(np.prod(shape[1:])))
    lines = max(1, _ROWS_AT_ONCE // per_line)
    for start in range(0, shape[0], lines) if shape else [0]:
        count = (min(lines, shape[0] - start), *shape[1:]) if shape else ()
        space = dataset.id.get_space()
        if shape:
            space.select_hyperslab((start, *[0] * (len(shape) - 1)), count)
        rows = int(np.prod(count)) if shape else 1
        yield h5s.create_simple((rows,)), space, rows


def _read_bulk(
    library: _Library, dataset: h5py.Dataset, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    parts, counts = [np.empty(0, dtype)], [np.zeros(1, np.int64)]
    with _memory_type(dtype) as kind:
        for memory, space, rows in _blocks(dataset):
            table = np.zeros(rows, _ROW)
            where = (memory.id, space.id, 0)
            if library.read(dataset.id.id, kind, *where, table.ctypes.data) < 0:
                raise OSError("HDF5 cannot read them")
            try:
                counts.append(table["count"].astype(np.int64))
                parts.append(_gathered(table, dtype))
            finally:  # sets the table to zero
                library.reclaim(kind, memory.id, 0, table.ctypes.data)
    return np.concatenate(parts), np.cumsum(np.concatenate(counts))


def _gathered(table: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Copy the rows, which HDF5 has allocated one by one, into one array."""
    counts = table["count"].astype(object)
    points = np.empty(int(sum(counts)), dtype)
    place, copy = points.ctypes.data, ctypes.memmove
    for count, address in table.tolist():
        if count:
            copy(place, address, count * dtype.itemsize)
            place += count * dtype.itemsize
    return points


def _write_bulk(
    library: _Library, dataset: h5py.Dataset, points: NDArray[Any], offsets: NDArray[np.int64]
) -> None:
    flat = np.ascontiguousarray(points)
    start = 0
    with _memory_type(flat.dtype) as kind:
        for memory, space, rows in _blocks(dataset):
            edges = offsets[start : start + rows + 1]
            table = np.zeros(rows, _ROW)
            table["count"] = np.diff(edges)
            table["address"] = flat.ctypes.data + edges[:-1] * flat.dtype.itemsize
            where = (memory.id, space.id, 0)
            if library.write(dataset.id.id, kind, *where, table.ctypes.data) < 0:
                raise OSError("HDF5 cannot write the lists")
            start += rows
