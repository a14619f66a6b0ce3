"""What the program takes of the machine, in words; no Qt."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache

__all__ = ["give_memory_back", "memory_total", "memory_used", "size", "span"]

UNITS = ("B", "kB", "MB", "GB", "TB")


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def give_memory_back() -> None:
    """Let freed arrays go back to the system at once, where the C library is glibc.

    It would keep arrays of up to 32 MB for itself, in a heap for each of two dozen threads: hours
    of opening and closing scans cost a gigabyte that nobody uses.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in (
            (M_MMAP_THRESHOLD, 1 << 20),
            (M_TRIM_THRESHOLD, 16 << 20),
            (M_ARENA_MAX, 4),
        ):
            mallopt(parameter, value)


def size(count: float) -> str:
    """
    >>> size(2_147_483_648), size(12)
    ('2.15 GB', '12 B')
    """
    for unit in UNITS:
        if count < 1000 or unit == UNITS[-1]:
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def span(seconds: float) -> str:
    """
    >>> span(4.2), span(83), span(7384)
    ('4 s', '1:23', '2:03:04')
    """
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def memory_used() -> int | None:
    """Bytes of memory that this process holds now; None where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


@cache
def memory_total() -> int | None:
    """Bytes of memory of the machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None
