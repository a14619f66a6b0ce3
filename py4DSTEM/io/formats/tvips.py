"""TVIPS camera streams ``.tvips``: a header, then frames behind headers of their own."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import RawAxis, positive, scan_calibration
from py4DSTEM.io.frames import FileFrames, JoinedFrames

_HEADER = struct.Struct("<13I")
_NAMES = ("size", "version", "width", "height", "bits", "offset_x", "offset_y", "bin_x", "bin_y",
          "pixel", "high_tension", "magnification", "frame_header_bytes")  # fmt: skip
_HEADER_BYTES = 256
_FRAME = struct.Struct("<4IfII5fI2f")
_ROTATION_INDEX = 12
_FIRST_FRAMES = 2048
_MAX_PARTS = 1000


class Tvips(Format):
    """A TemCam recording; further parts ``_001``, ``_002`` … beside the first belong to it."""

    name = "tvips"
    title = "TVIPS recorder"
    extensions = (".tvips",)

    def sniff(self, source: Source) -> Match:
        if len(source.head) < _HEADER_BYTES:
            return Match.NO
        size, version, width, height, bits = struct.unpack_from("<5I", source.head)
        known = size == _HEADER_BYTES and version in (1, 2) and bits in (8, 16, 32)
        if not known or not (0 < width < 1 << 20 and 0 < height < 1 << 20):
            return Match.NO
        return Match.YES if source.suffix == ".tvips" else Match.MAYBE

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        header = dict(zip(_NAMES, _HEADER.unpack_from(source.head), strict=True))
        prefix = header["frame_header_bytes"] if header["version"] == 2 else 12
        parts = _parts(source.path)
        frames = [_frames(p, header, prefix, i == 0, options) for i, p in enumerate(parts)]
        first = source.head[_HEADER_BYTES : _HEADER_BYTES + prefix]
        metadata = _metadata(source, header, first)
        note = _scan_start(frames[0], prefix) if prefix >= _FRAME.size else ""
        blank = (RawAxis("x"), RawAxis("y"))
        calibration, _ = scan_calibration(blank, blank, energy_eV=metadata.energy_eV)
        stream = frames[0] if len(frames) == 1 else JoinedFrames(list(frames))
        name = source.path.stem
        metadata = metadata.with_notes(*([note] if note else []))
        return {name: Signal(name, stream, calibration, metadata, stream=True)}


def _parts(path: Path) -> list[Path]:
    """The file and those that continue it."""
    found = re.fullmatch(r"(.*_)000(\.tvips)", path.name, re.IGNORECASE)
    if found is None:
        return [path]
    parts = [path]
    for i in range(1, _MAX_PARTS):
        part = path.with_name(f"{found[1]}{i:03d}{found[2]}")
        if not part.is_file() or part.stat().st_size == 0:
            break
        parts.append(part)
    return parts


def _frames(
    path: Path, header: dict[str, int], prefix: int, first: bool, options: ReadOptions
) -> FileFrames:
    dtype = np.dtype(f"<u{header['bits'] // 8}")
    start = _HEADER_BYTES if first else 0
    pixels = header["width"] * header["height"] * dtype.itemsize
    count, rest = divmod(path.stat().st_size - start, pixels + prefix)
    if count < 1 or (rest and not options.allow_truncated):
        raise CorruptFile(
            "the file does not hold a whole number of frames", path=path, format="tvips",
            offset=start + count * (pixels + prefix),
            expected=f"{start} + n * {pixels + prefix} bytes",
            got=f"{count} frames and {rest} bytes",
            hint="Copy it again, or pass allow_truncated=True to use the complete frames",
        )  # fmt: skip
    return FileFrames(
        path, (count, header["height"], header["width"]), dtype, offset=start + prefix,
        stride_bytes=pixels + prefix, format="tvips",
    )  # fmt: skip


def _scan_start(frames: FileFrames, prefix: int) -> str:
    """What the rotation index, which is 0 before the scan begins, says of its first frame."""
    count, height, width = frames.shape
    stride = height * width * frames.dtype.itemsize + prefix
    with open(frames.path, "rb") as f:
        for i in range(min(count, _FIRST_FRAMES)):
            f.seek(_HEADER_BYTES + i * stride)
            if _FRAME.unpack(f.read(_FRAME.size))[_ROTATION_INDEX]:
                return f"the scan starts at frame {i}: sync_offset={i} skips the rest" if i else ""
    return ""


def _metadata(source: Source, header: dict[str, int], first: bytes) -> Metadata:
    frame = _FRAME.unpack_from(first) if len(first) >= _FRAME.size else None
    seconds, diffraction = (frame[1], frame[6] == 2) if frame else (0, False)
    when = datetime.fromtimestamp(seconds, UTC) if seconds else None
    volts = header["high_tension"]
    return Metadata(
        title=source.path.stem,
        date=when.date().isoformat() if when else None,
        time=when.time().isoformat("seconds") if when else None,
        detector="TVIPS",
        # Given in kV by the recorder; larger numbers can only be volts.
        energy_eV=positive(volts, 1e3 if volts < 5000 else 1.0),
        magnification=None if diffraction else positive(header["magnification"]),
        notes=("the pixel size of the header is that of the camera: not used",),
        original={"header": header, "first_frame": list(frame) if frame else []},
    )


FORMATS = (Tvips,)
