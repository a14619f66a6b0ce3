"""Arranging a stream of frames as a scan, and saying what was assumed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from py4DSTEM.core.lazy import FrameSource, ScanOfFrames
from py4DSTEM.errors import ParameterError

__all__ = ["Arranged", "arrange", "doubts", "guess_scan_shape"]

TO_BE_SURE = "give scan_shape=(rows, columns) to be sure"
NO_FRAME = "positions have no frame"


@dataclass(frozen=True)
class Arranged:
    """A scan made of a stream, what must be said about it, and whether it deserves a warning."""

    data: ScanOfFrames
    notes: tuple[str, ...]
    doubtful: bool


def arrange(
    frames: FrameSource,
    *,
    scan_shape: tuple[int, int] | None = None,
    known: tuple[int, int] | None = None,
    known_reason: str = "",
    sync_offset: int = 0,
    flyback: int = 0,
) -> Arranged:
    """Give a stream of frames a scan shape.

    Parameters
    ----------
    frames : FrameSource
    scan_shape : (int, int), optional
        What the user says; wins.
    known : (int, int), optional
        What the file says, with `known_reason`.
    sync_offset : int
        Frames to skip at the start; negative where the first positions have no frame.
    flyback : int
        Frames to skip after every scan row.

    Raises
    ------
    ParameterError
        Nothing of the scan would lie inside the stream.
    """
    count = int(frames.shape[0])
    usable = count - sync_offset
    if usable <= 0:
        raise ParameterError(f"sync_offset={sync_offset} skips all of the {count} frames")
    if scan_shape is not None:
        shape, note, doubtful = scan_shape, "", False
    elif known is not None:
        shape, note, doubtful = known, f"scan shape {known} from {known_reason}", False
    else:
        shape, reason, doubtful = guess_scan_shape(usable, flyback)
        note = f"scan shape {shape} is a guess: {reason}"
        if doubtful:
            note += f"; {TO_BE_SURE}"
    if min(shape) < 1:
        raise ParameterError(f"a scan shape is (rows, columns), both positive, not {shape}")
    data = ScanOfFrames(frames, shape, sync_offset, flyback)
    misfit = _misfit(count, shape, sync_offset, flyback)
    notes = tuple(n for n in (note, *_skipped(sync_offset, flyback), misfit) if n)
    return Arranged(data, notes, doubtful or bool(misfit))


def doubts(notes: Iterable[str]) -> tuple[str, ...]:
    """Those of the notes of a scan that say that its shape should be looked at.

    >>> doubts(["scan shape (64, 64) from the .xml", "2 of 9 positions have no frame"])
    ('2 of 9 positions have no frame',)
    """
    return tuple(note for note in notes if TO_BE_SURE in note or NO_FRAME in note)


def _skipped(sync_offset: int, flyback: int) -> list[str]:
    """What the user asked for: told, and no reason to doubt."""
    notes = []
    if sync_offset:
        verb = "skipped at the start" if sync_offset > 0 else "missing at the start"
        notes.append(f"{abs(sync_offset)} frames {verb} (sync_offset)")
    if flyback:
        notes.append(f"{flyback} frames skipped after each row (flyback)")
    return notes


def _misfit(count: int, shape: tuple[int, int], sync_offset: int, flyback: int) -> str:
    """What does not fit: extra frames or missing frames."""
    rows, columns = shape
    needed = (rows - 1) * (columns + flyback) + columns
    last = sync_offset + needed
    if last > count:
        return (
            f"{last - count} of {rows * columns} {NO_FRAME} (the file holds {count}); "
            "they read as 0"
        )
    extra = count - last
    return f"{extra} extra frames at the end are not used" if extra > flyback else ""


def guess_scan_shape(count: int, flyback: int = 0) -> tuple[tuple[int, int], str, bool]:
    """Guess ``(rows, columns)`` from a number of frames.

    Returns
    -------
    shape, reason, doubtful
        `doubtful` unless the number is that of a square scan.

    >>> guess_scan_shape(4096)[0], guess_scan_shape(4097)[0], guess_scan_shape(7)[0]
    ((64, 64), (64, 64), (1, 7))
    """
    side = math.isqrt(count)
    if flyback:
        for n in range(side, 0, -1):
            if n * (n + flyback) in (count, count + flyback):
                return (n, n), f"{count} frames = {n} rows of {n} + {flyback} flyback", False
    if side * side == count:
        return (side, side), f"{count} frames are {side} x {side}", count < 4
    if side > 1 and side * side == count - 1:
        return (side, side), f"{count} frames are {side} x {side} and one more", True
    if side > 1 and side * (side + 1) == count:
        return (side, side + 1), f"{count} frames are {side} rows of {side + 1}", True
    return (1, count), f"{count} frames are not a square, so they are kept as one row", True
