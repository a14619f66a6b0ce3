"""Check the heaps of an HDF5 file, on damaged ones of which the HDF5 library works for ever.

Texts of variable length and ragged lists lie in global heaps: ``GCOL``, version, size, then
objects of declared size, one after the other.  A free object of size 0, as a region of zeros
makes it, or a size that wraps around, keeps the library at one place without end, where no
exception and no signal handler of Python reaches it.
"""

from __future__ import annotations

import functools
import mmap
import os
import struct
from collections.abc import Iterator

import h5py
import numpy as np

from py4DSTEM.errors import CorruptFile

__all__ = ["check_heaps", "check_lists"]

_MARK = b"GCOL\x01\0\0\0"
_SIZE = struct.Struct("<Q")
_OBJECT = struct.Struct("<HH4xQ")
_POINTER = np.dtype([("count", "<u4"), ("heap", "<u8"), ("index", "<u4")])
_NONE = np.empty(0, _POINTER)
_WHOLE = 64 << 20
"""Larger files are only searched at both ends: opening must not read them.  The heaps of lists are
then found by what points to them."""
_ENDS = 8 << 20


def check_heaps(path: str) -> None:
    """Refuse a file with a heap that would never be left.

    Raises
    ------
    CorruptFile
        Names the place.
    """
    try:
        status = os.stat(path)
    except OSError:
        return
    _refuse(path, _damaged(path, status.st_size, status.st_mtime_ns))


def check_lists(dataset: h5py.Dataset) -> None:
    """Refuse ragged lists that lie in such heaps, wherever in a large file these are.

    Raises
    ------
    CorruptFile
        Names the place.
    """
    path = dataset.file.filename
    if not os.path.isfile(path):  # behind a URL, of which there is no map
        return
    if os.stat(path).st_size <= _WHOLE or dataset.file.id.get_create_plist().get_sizes() != (8, 8):
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found: set[int] = set()
        for offset, size in _extents(dataset):
            count = max(0, min(size, len(content) - offset)) // _POINTER.itemsize
            pointers = np.frombuffer(content, _POINTER, count, offset) if count else _NONE
            found.update(np.unique(pointers["heap"][pointers["count"] > 0]).tolist())
            del pointers  # the map cannot be closed before
        broken = (_endless(content, at) for at in sorted(found) if _is_heap(content, at))
        _refuse(path, next((at for at in broken if at is not None), None))


def _refuse(path: str, at: int | None) -> None:
    if at is not None:
        raise CorruptFile(
            "a heap of texts or lists is damaged", path=path, format="HDF5", offset=at,
            expected="objects that follow each other", got="one of impossible size",
            hint="It was not written or copied completely",
        )  # fmt: skip


def _extents(dataset: h5py.Dataset) -> Iterator[tuple[int, int]]:
    """Offset and size of what is stored of a dataset; nothing where filters hide it."""
    if dataset.id.get_create_plist().get_nfilters():
        return
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        if offset is not None:
            yield int(offset), int(dataset.id.get_storage_size())
        return
    for k in range(dataset.id.get_num_chunks()):
        info = dataset.id.get_chunk_info(k)
        yield int(info.byte_offset), int(info.size)


def _is_heap(content: mmap.mmap, at: int) -> bool:
    return content[at : at + len(_MARK)] == _MARK


@functools.lru_cache(maxsize=64)
def _damaged(path: str, size: int, mtime_ns: int) -> int | None:
    """Place of the first damaged object; the size and time of the file are the key of the cache."""
    try:
        with open(path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # HDF5 says why, or reads it without a map
        return None
    with content:
        heaps = (h for start, stop in _ranges(size) for h in _heaps(content, start, stop))
        found = (_endless(content, heap) for heap in heaps)
        return next((at for at in found if at is not None), None)


def _ranges(size: int) -> tuple[tuple[int, int], ...]:
    return ((0, size),) if size <= _WHOLE else ((0, _ENDS), (size - _ENDS, size))


def _heaps(content: mmap.mmap, start: int, stop: int) -> Iterator[int]:
    at = content.find(_MARK, start, stop)
    while at >= 0:
        yield at
        at = content.find(_MARK, at + len(_MARK), stop)


def _endless(content: mmap.mmap, heap: int) -> int | None:
    """Where the library, which walks the objects like this, would stay."""
    if heap + 16 > len(content):
        return None
    end = heap + _SIZE.unpack_from(content, heap + 8)[0]
    at = heap + 16
    if end > len(content):
        return heap
    while at + _OBJECT.size <= end:
        index, _, length = _OBJECT.unpack_from(content, at)
        step = _OBJECT.size + (length + 7) // 8 * 8 if index else length
        if not 0 < step <= end - at:
            return at
        at += step
    return None
