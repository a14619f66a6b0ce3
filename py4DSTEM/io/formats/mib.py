"""Quantum Detectors Merlin ``.mib`` files, mapped into memory, with their ``.hdr`` companion.

A file is a sequence of frames, each with its own text header (``MQ1,000001,00384,01,0256,0256,
U08,…``).  Numbers are big-endian; raw mode (``R64``) stores 64-bit words whose pixels run
backwards, and the four chips of a quad side by side.  Patterns keep the order of the file, first
row first, which is how LiberTEM shows them; HyperSpy shows the rows in reverse order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile, ParameterError
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.frames import FileFrames, JoinedFrames, count_frames

MAGIC = b"MQ1,"
HDR_MAGIC = b"HDR,"
HDR_STAMP = b"Time and Date Stamp"
HDR_MAX_BYTES = 2**16
MAX_HEADER_BYTES = 2**16
MAX_SIDE = 2**16
CHIP_SIDE = 256
_PLAIN = {"U08": "u1", "U16": ">u2", "U32": ">u4", "U64": ">u8"}
_RAW = {1: np.uint8, 6: np.uint8, 12: np.uint16, 24: np.uint32}
_RAW_BITS = {1: 1, 6: 8, 12: 16, 24: 32}

Array = NDArray[Any]


class Mib(Format):
    """Merlin acquisitions: every counter depth, raw mode, region of interest, several files."""

    name = "mib"
    title = "Quantum Detectors Merlin"
    extensions = (".mib", ".hdr")

    def sniff(self, source: Source) -> Match:
        head = source.head
        if head.startswith(MAGIC) or (head.startswith(HDR_MAGIC) and HDR_STAMP in head):
            return Match.YES
        return Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        if source.head.startswith(HDR_MAGIC):
            source = Source.of(_data_of(source))
        parts = _acquisition(_part(source, options.allow_truncated), options.allow_truncated)
        hdr, hdr_notes = _companion(source.path)
        count = sum(part.count for part in parts)
        notes = (*hdr_notes, *(note for part in parts for note in part.notes))
        notes += _completeness(parts, count, hdr, options.allow_truncated)
        shape, reason, scan_notes = _scan(hdr, count)
        if shape is None and not scan_notes:
            shape, reason = _scan_from_pauses(parts, count)
        name = _split(source.path)[0].rstrip("_-") if len(parts) > 1 else source.path.stem
        metadata = _metadata(name, parts, hdr).with_notes(*notes, *scan_notes)
        frames = [part.frames() for part in parts]
        data = frames[0] if len(frames) == 1 else JoinedFrames(list(frames))
        return {
            name: Signal(
                name, data, metadata=metadata, stream=True, scan_shape=shape, scan_reason=reason
            )
        }


# ---- the header of a frame -----------------------------------------------------------------------
@dataclass(frozen=True)
class FrameHeader:
    """What the text before a frame says."""

    number: int
    header_bytes: int
    chips: int
    width: int
    height: int
    kind: str
    layout: str
    timestamp: str
    exposure_s: float | None
    depth: int | None
    text: tuple[str, ...]

    @property
    def geometry(self) -> tuple[object, ...]:
        """What must be the same in every frame."""
        return (self.header_bytes, self.chips, self.width, self.height, self.kind, self.depth)


def parse_header(head: bytes, path: Path, at: int = 0) -> FrameHeader:
    """The header that starts `head`, which lies at byte `at` of the file.

    Raises
    ------
    CorruptFile
        It is not the header of a frame, or its numbers make no sense.
    """
    text = head[:MAX_HEADER_BYTES].split(b"\0", 1)[0].decode("latin-1")
    fields = tuple(part.strip() for part in text.split(","))
    if fields[0] != "MQ1" or len(fields) < 9:
        raise _corrupt("no frame header", path, at, "MQ1,number,bytes,…", repr(text[:32]))
    number, header_bytes, chips, width, height = (
        _count(fields[i], label, limit, path, at) for i, label, limit in _COUNTS
    )
    precise = fields[fields.index("MQ1A") :] if "MQ1A" in fields else ()
    exposure = _float(precise[2].removesuffix("ns"), 1e-9) if len(precise) > 2 else None
    depth = precise[3] if len(precise) > 3 else ""
    return FrameHeader(
        number, header_bytes, chips, width, height,
        kind=fields[6],
        layout=fields[7],
        timestamp=fields[9] if len(fields) > 9 else "",
        exposure_s=exposure or (_float(fields[10]) if len(fields) > 10 else None),
        depth=int(depth) if depth.isdecimal() and len(depth) < 4 else None,
        text=fields,
    )  # fmt: skip


_COUNTS = (
    (1, "number of the frame", 10**12),
    (2, "size of the header", MAX_HEADER_BYTES),
    (3, "number of chips", 1024),
    (4, "width", MAX_SIDE),
    (5, "height", MAX_SIDE),
)


def _count(text: str, label: str, limit: int, path: Path, at: int) -> int:
    # A frame may be numbered 0; nothing else may be.
    least = 0 if limit > MAX_HEADER_BYTES else 1
    value = int(text) if text.isdecimal() and text.isascii() and len(text) < 16 else -1
    if not least <= value <= limit:
        raise _corrupt(f"impossible {label} in a frame header", path, at, f"at most {limit}", text)
    return value


def _float(text: str, factor: float = 1.0) -> float | None:
    try:
        value = float(text) * factor
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def _corrupt(
    what: str, path: Path, at: int, expected: object, got: object, hint: str | None = None
) -> CorruptFile:
    return CorruptFile(
        what, path=path, format="mib", offset=at, expected=expected, got=got, hint=hint
    )


# ---- how a frame is stored -----------------------------------------------------------------------
@dataclass(frozen=True)
class Stored:
    """Shape and dtype of a pattern, its bytes in the file, and how to decode them."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    stored_bytes: int
    decode: partial[Array] | None = None
    note: str = ""


def _stored(header: FrameHeader, depth: int | None, path: Path) -> Stored:
    width, height = header.width, header.height
    if header.kind in _PLAIN:
        dtype = np.dtype(_PLAIN[header.kind])
        return Stored((height, width), dtype, width * height * dtype.itemsize)
    if header.kind != "R64":
        raise _corrupt("unknown kind of pixels", path, 0, "U08, U16, U32, U64 or R64", header.kind)
    if depth not in _RAW:
        raise _corrupt(
            "the counter depth of the raw frames is unknown", path, 0, "1, 6, 12 or 24", depth,
            "Put the .hdr of the acquisition beside the file",
        )  # fmt: skip
    return _stored_raw(header, depth, path)


def _stored_raw(header: FrameHeader, depth: int, path: Path) -> Stored:
    width, height = header.width, header.height
    if depth == 24 and width == 2 * CHIP_SIDE * header.chips:
        width //= 2  # the two halves of the counter are written as one image twice as wide
    if width % 64:
        raise _corrupt("impossible width of raw frames", path, 0, "a multiple of 64", width)
    quad = header.chips == 4 and header.layout.lower().startswith("2x2")
    decode = partial(decode_raw, depth=depth, shape=(height, width), quad=quad)
    shape = (2 * height, width // 2) if quad else (height, width)
    note = ""
    if header.chips > 1 and not quad:
        note = f"raw chips are kept side by side as stored (sensor layout {header.layout})"
    elif quad and depth == 24:
        note = "24-bit raw frames of a quad: the arrangement has not been checked on a real file"
    size = width * height * _RAW_BITS[depth] // 8
    return Stored(shape, np.dtype(_RAW[depth]), size, decode, note)


def decode_raw(stored: Array, *, depth: int, shape: tuple[int, int], quad: bool) -> Array:
    """Patterns from raw mode.

    Parameters
    ----------
    stored : (m, bytes) uint8
    depth : {1, 6, 12, 24}
        Bits of the counters.
    shape : (int, int)
        Rows and columns as stored, chips side by side.
    quad : bool
        Four chips side by side in the order 4, 3, 2, 1 become ``[[1, 2], [3, 4]]``, the lower
        two turned by 180 degrees, as they are mounted.

    Returns
    -------
    (m, Qx, Qy) uint8, uint16 or uint32
    """
    # Within a big-endian 64-bit word the first pixel is the least significant.
    words = stored.view(">u8").astype("<u8")
    frames: Array = _unpacked(words, depth, shape).astype(_RAW[depth], copy=False)
    return _assembled(frames) if quad else frames


def _unpacked(words: Array, depth: int, shape: tuple[int, int]) -> Array:
    count = len(words)
    if depth == 1:
        bits = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")
        return bits.reshape(count, *shape)
    if depth == 6:
        return words.view(np.uint8).reshape(count, *shape)
    if depth == 12:
        return words.view("<u2").reshape(count, *shape)
    # 24 bits are two images of 12: the more significant one comes first.
    halves = words.view("<u2").reshape(count, 2, *shape)
    joined: Array = (halves[:, 0].astype(np.uint32) << 12) | halves[:, 1]
    return joined


def _assembled(frames: Array) -> Array:
    count, rows, columns = frames.shape
    chip = columns // 4
    out = np.empty((count, 2 * rows, 2 * chip), frames.dtype)
    out[:, :rows, :chip] = frames[:, :, 3 * chip :]
    out[:, :rows, chip:] = frames[:, :, 2 * chip : 3 * chip]
    out[:, rows:] = frames[:, ::-1, ::-1][:, :, 2 * chip :]
    return out


# ---- the files of an acquisition -----------------------------------------------------------------
@dataclass(frozen=True)
class Part:
    """One file: its first and last frame header and how many frames lie between."""

    path: Path
    first: FrameHeader
    last: FrameHeader
    count: int
    stored: Stored
    notes: tuple[str, ...]

    @property
    def stride(self) -> int:
        return self.first.header_bytes + self.stored.stored_bytes

    def frames(self) -> FileFrames:
        return FileFrames(
            self.path,
            (self.count, *self.stored.shape),
            self.stored.dtype,
            offset=self.first.header_bytes,
            stride_bytes=self.stride,
            stored_bytes=self.stored.stored_bytes,
            decode=self.stored.decode,
            format="mib",
        )


def _part(source: Source, allow_truncated: bool) -> Part:
    first = parse_header(source.head, source.path)
    depth = first.depth
    if depth is None and first.kind == "R64":
        depth = _depth_of(_companion(source.path)[0])
    stored = _stored(first, depth, source.path)
    stride = first.header_bytes + stored.stored_bytes
    count, notes = count_frames(
        source.path, source.size, offset=0, stride=stride, format="mib",
        allow_truncated=allow_truncated,
    )  # fmt: skip
    last = _checked_last(source.path, first, count, stride)
    return Part(source.path, first, last, count, stored, (*filter(None, [stored.note]), *notes))


def _checked_last(path: Path, first: FrameHeader, count: int, stride: int) -> FrameHeader:
    """Header of the last frame, after a look at a few between: wrong sizes show up there."""
    header = first
    with open(path, "rb") as f:
        for i in sorted({min(i, count - 1) for i in (1, 2, count // 3, count // 2, count - 1)}):
            header = _header_at(f, path, i * stride, first.header_bytes)
            if header.geometry != first.geometry:
                raise _corrupt(
                    f"frame {i} is not like the first", path, i * stride,
                    first.geometry, header.geometry,
                    "Several acquisitions in one file, or a damaged one",
                )  # fmt: skip
    return header


def _header_at(file: Any, path: Path, at: int, size: int) -> FrameHeader:
    file.seek(at)
    return parse_header(file.read(size), path, at)


def _split(path: Path) -> tuple[str, str]:
    """Stem without and the number at its end: ``scan_000002.mib`` → ``("scan_", "000002")``."""
    digits = re.search(r"\d*$", path.stem, re.ASCII)
    number = digits.group() if digits else ""
    return path.stem[: len(path.stem) - len(number)], number


def _acquisition(part: Part, allow_truncated: bool) -> list[Part]:
    """All files whose frame numbers continue those of `part`, in order."""
    names = _numbered_like(part.path)
    if part.path not in names:
        return [part]
    at = names.index(part.path)
    parts = [part]
    for path in names[at + 1 :]:
        if not _continues(parts[-1], _first_of(path)):
            break
        parts.append(_part(Source.of(path), allow_truncated))
    for path in reversed(names[:at]):
        header = _first_of(path)
        if header is None or header.number >= parts[0].first.number:
            break
        earlier = _part(Source.of(path), allow_truncated)
        if not _continues(earlier, parts[0].first):
            break
        parts.insert(0, earlier)
    return parts


def _numbered_like(path: Path) -> list[Path]:
    """Files beside `path` that differ from it in the number at the end only, in that order."""
    prefix, digits = _split(path)
    if not digits or path.with_suffix(".hdr").exists():
        return [path]  # it has its own description: an acquisition by itself
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.mib", re.IGNORECASE | re.ASCII)
    found = []
    for entry in os.scandir(path.parent):
        match = pattern.fullmatch(entry.name)
        if match and len(match[1]) < 16:
            found.append((int(match[1]), path.parent / entry.name))
    return [p for _, p in sorted(found)]


def _first_of(path: Path) -> FrameHeader | None:
    """First frame header of a neighbour; None where it is not a Merlin file."""
    try:
        with open(path, "rb") as f:
            return parse_header(f.read(MAX_HEADER_BYTES), path)
    except (OSError, CorruptFile):
        return None


def _continues(part: Part, header: FrameHeader | None) -> bool:
    if header is None or header.geometry != part.first.geometry:
        return False
    return header.number == part.first.number + part.count


def _completeness(
    parts: Sequence[Part], count: int, hdr: Mapping[str, str], allow_truncated: bool
) -> tuple[str, ...]:
    """Notes on frames that are missing; refuses an acquisition that ends too early."""
    notes = [f"{len(parts)} files joined"] if len(parts) > 1 else []
    first, last = parts[0].first.number, parts[-1].last.number
    if first > 1:
        notes.append(f"the first frame has the number {first}: earlier ones are not in the files")
    if last - first + 1 != count:
        notes.append(f"{count} frames are numbered {first} to {last}: some were lost or repeated")
    declared = _declared(hdr)
    if declared is None or declared == count:
        return tuple(notes)
    text = f"the .hdr announces {declared} frames, the data hold {count}"
    if declared > count and not allow_truncated:
        raise _corrupt(
            "frames are missing", parts[-1].path, os.stat(parts[-1].path).st_size,
            f"{declared} frames (by the .hdr)", f"{count} frames",
            "Copied incompletely, or stopped early: allow_truncated=True reads what is there",
        )  # fmt: skip
    return (*notes, text)


# ---- the companion .hdr --------------------------------------------------------------------------
def _companion(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Fields of the ``.hdr`` beside a file, and what was wrong with it."""
    prefix = _split(path)[0]
    names = dict.fromkeys([path.stem, prefix, prefix.rstrip("_-")])
    for name in names:
        for suffix in (".hdr", ".HDR"):
            candidate = path.parent / f"{name}{suffix}"
            if name and candidate.is_file():
                hdr = read_hdr(candidate)
                return hdr, () if hdr else (f"{candidate.name} is not a Merlin header: not used",)
    return {}, ()


def read_hdr(path: Path) -> dict[str, str]:
    """Fields of a Merlin ``.hdr``: what stands before the colon → what stands after it."""
    try:
        with open(path, "rb") as f:
            data = f.read(HDR_MAX_BYTES)
    except OSError:
        return {}
    if not data.startswith(HDR_MAGIC):
        return {}
    lines = (line.partition(":") for line in data.decode("latin-1").splitlines())
    return {key.strip(): value.strip() for key, colon, value in lines if colon}


def _data_of(source: Source) -> Path:
    """The ``.mib`` that a ``.hdr`` describes, or the first of them."""
    stem = source.path.with_suffix("")
    for suffix in (".mib", ".MIB"):
        if stem.with_suffix(suffix).is_file():
            return stem.with_suffix(suffix)
    pattern = re.compile(re.escape(stem.name) + r"[_-]?(\d{1,15})\.mib", re.IGNORECASE | re.ASCII)
    found = [
        (int(match[1]), source.path.parent / entry.name)
        for entry in os.scandir(source.path.parent)
        if (match := pattern.fullmatch(entry.name))
    ]
    if not found:
        raise CorruptFile(
            "this is the description of an acquisition whose data are not beside it",
            path=source.path, format="mib", expected=f"{stem.name}.mib", got="no such file",
        )  # fmt: skip
    return min(found)[1]


def _starting(hdr: Mapping[str, str], start: str) -> str:
    return next((value for key, value in hdr.items() if key.startswith(start)), "")


def _integer(hdr: Mapping[str, str], start: str) -> int | None:
    text = _starting(hdr, start)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


def _declared(hdr: Mapping[str, str]) -> int | None:
    # 0 stands for "until stopped"
    return _integer(hdr, "Frames in Acquisition") or None


def _depth_of(hdr: Mapping[str, str]) -> int | None:
    return _integer(hdr, "Counter Depth")


def _scan(
    hdr: Mapping[str, str], count: int
) -> tuple[tuple[int, int] | None, str, tuple[str, ...]]:
    """Scan shape, where it comes from, and notes on what was not used."""
    columns, rows = _integer(hdr, "ScanX"), _integer(hdr, "ScanY")
    if columns and rows:
        if rows * columns <= max(count, _declared(hdr) or 0):
            return (rows, columns), "ScanY and ScanX in the .hdr", ()
        unused = f"the .hdr says {rows} x {columns} positions, more than the {count} frames"
        return None, "", (f"{unused}: not used",)
    row = _integer(hdr, "Frames per Trigger")
    if row and 1 < row < count and count % row == 0:
        return (count // row, row), "the frames per trigger in the .hdr", ()
    return ((1, 1), "the single frame", ()) if count == 1 else (None, "", ())


TIMED_FRAMES = 4096
"""Frames whose time stamps are looked at; a scan row is shorter than that."""


def _scan_from_pauses(parts: Sequence[Part], count: int) -> tuple[tuple[int, int] | None, str]:
    """Scan shape from the pauses that a beam makes at the end of each row, if they are regular."""
    timed = min(parts[0].count, TIMED_FRAMES)
    try:
        stamps = [text for _, text, _ in islice(_headers(parts[0]), timed)]
        seconds = np.array(stamps, "datetime64[ns]").astype(np.int64) * 1e-9
    except (CorruptFile, ValueError):
        return None, ""  # no time stamps, or damaged ones: nothing to learn
    row = _regular_pause(np.diff(seconds))
    if row is None or count % row or row == count:
        return None, ""
    return (count // row, row), f"pauses in the time stamps after every {row} frames"


def _regular_pause(intervals: NDArray[np.float64]) -> int | None:
    """Frames between pauses, where every pause is at a multiple of that number."""
    if len(intervals) < 3:
        return None
    usual = float(np.median(intervals))
    jitter = 1.4826 * float(np.median(np.abs(intervals - usual)))
    pauses = 1 + np.flatnonzero(intervals - usual > max(10 * jitter, 2e-6))
    if not len(pauses) or pauses[0] < 2:
        return None
    row = int(pauses[0])
    expected = np.arange(row, len(intervals) + 1, row)
    return row if np.array_equal(pauses, expected) else None


# ---- metadata ------------------------------------------------------------------------------------
def _metadata(name: str, parts: Sequence[Part], hdr: Mapping[str, str]) -> Metadata:
    first = parts[0].first
    chip = _starting(hdr, "Chip Type") or "Medipix"
    software = _starting(hdr, "Software Version")
    original: dict[str, Any] = {
        "first_frame_header": ",".join(first.text).rstrip(","),
        "last_frame_header": ",".join(parts[-1].last.text).rstrip(","),
        "files": [str(part.path) for part in parts],
    }
    metadata = Metadata(
        title=name,
        detector=f"Merlin {chip} {first.layout or first.chips}",
        software=f"Merlin {software}" if software else None,
        exposure_s=first.exposure_s,
        counter_depth_bits=first.depth or _depth_of(hdr),
        threshold_keV=_threshold(first, hdr),
        frames=sum(part.count for part in parts),
        original=original | ({"hdr": dict(hdr)} if hdr else {}),
    )
    return _dated(metadata, first.timestamp, _starting(hdr, "Time and Date Stamp"))


def _threshold(header: FrameHeader, hdr: Mapping[str, str]) -> float | None:
    """The first threshold in keV, from the frame or from the ``.hdr``."""
    text = header.text[14] if len(header.text) > 14 else ""
    return _float(text) or _float(_starting(hdr, "Thresholds").split(",")[0])


def _dated(metadata: Metadata, timestamp: str, hdr_stamp: str) -> Metadata:
    for text, pattern in ((timestamp[:19], "%Y-%m-%d %H:%M:%S"), (hdr_stamp, "%d/%m/%Y %H:%M:%S")):
        try:
            when = datetime.strptime(text, pattern)
        except ValueError:
            continue
        return replace(metadata, date=when.date().isoformat(), time=when.time().isoformat())
    return metadata


FRAME_DTYPE = np.dtype([("number", "i8"), ("timestamp", "U32"), ("exposure_s", "f8")])


def frame_headers(path: str | os.PathLike[str]) -> Array:
    """Number, time stamp and exposure of every frame of one file.

    Returns
    -------
    (n,) structured
        Fields ``number`` int64, ``timestamp`` str, ``exposure_s`` float64 (NaN where not given).

    Raises
    ------
    CorruptFile
        A header is damaged; names the byte.
    """
    source = Source.of(path)
    if not source.head.startswith(MAGIC):
        raise ParameterError(f"{source.path} is not a .mib file")
    part = _part(source, allow_truncated=True)
    return np.fromiter(_headers(part), FRAME_DTYPE, part.count)


def _headers(part: Part) -> Iterator[tuple[int, str, float]]:
    with open(part.path, "rb") as f:
        for i in range(part.count):
            header = _header_at(f, part.path, i * part.stride, part.first.header_bytes)
            exposure = float("nan") if header.exposure_s is None else header.exposure_s
            yield header.number, header.timestamp[:32], exposure


FORMATS = (Mib,)
