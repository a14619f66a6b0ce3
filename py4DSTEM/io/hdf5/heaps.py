"""Check the heaps of an HDF5 file, on damaged ones of which the HDF5 library works for ever.

Texts of variable length and ragged lists lie in global heaps: ``GCOL``, version, size, then
objects of declared size, one after the other.  A free object of size 0, as a region of zeros
makes it, keeps the library at one place without end, where no exception and no signal handler
of Python reaches it.
"""

from __future__ import annotations

import functools
import mmap
import os
import struct
from collections.abc import Iterator

from py4DSTEM.errors import CorruptFile

__all__ = ["check_heaps"]

_MARK = b"GCOL\x01\0\0\0"
_SIZE = struct.Struct("<Q")
_OBJECT = struct.Struct("<HH4xQ")
_WHOLE = 64 << 20
"""Larger files are only searched at both ends: opening must not read them."""
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
    at = _damaged(path, status.st_size, status.st_mtime_ns)
    if at is not None:
        raise CorruptFile(
            "a heap of texts or lists is damaged", path=path, format="HDF5", offset=at,
            expected="objects that follow each other", got="one of size 0",
            hint="It was not written or copied completely",
        )  # fmt: skip


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
    while at + _OBJECT.size <= min(end, len(content)):
        index, _, length = _OBJECT.unpack_from(content, at)
        step = _OBJECT.size + (length + 7) // 8 * 8 if index else length
        if step % (1 << 64) == 0:
            return at
        at += step
    return None
