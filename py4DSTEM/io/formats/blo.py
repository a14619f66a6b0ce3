"""NanoMEGAS blockfiles ``.blo``: 8-bit patterns, each behind a mark of six bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from py4DSTEM.core.lazy import ScanOfFrames
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import RawAxis, positive, scan_calibration
from py4DSTEM.io.frames import FileFrames

_HEADER = struct.Struct("<6sHIIIHHHHHddIHId")
_NAMES = ("id", "magic", "image_offset", "data_offset", "flags", "size", "rotation", "nx", "ny",
          "scan_rotation", "step_x_nm", "step_y_nm", "energy_eV", "pixels_per_m",
          "camera_length", "acquired_days")  # fmt: skip
_MAGIC = 0x0102
_MARK_BYTES = 6
_DAY_ZERO = datetime(1899, 12, 30)


class Blockfile(Format):
    """Precession electron diffraction scans of NanoMEGAS ASTAR."""

    name = "blo"
    title = "NanoMEGAS blockfile"
    extensions = (".blo",)

    def sniff(self, source: Source) -> Match:
        if len(source.head) < _HEADER.size or source.head[6:8] != b"\x02\x01":
            return Match.NO
        return Match.YES if source.head.startswith(b"IMGBLO") else Match.MAYBE

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        header = dict(zip(_NAMES, _HEADER.unpack_from(source.head), strict=True))
        data, notes = _scan(source, header, options.allow_truncated)
        pixel_cm = 100.0 / header["pixels_per_m"] if header["pixels_per_m"] else 0.0
        pixel = RawAxis("Q", pixel_cm, 0.0, "cm")
        calibration, refused = scan_calibration(
            (RawAxis("y", header["step_y_nm"], 0.0, "nm"),
             RawAxis("x", header["step_x_nm"], 0.0, "nm")),
            (pixel, pixel),
            energy_eV=positive(header["energy_eV"]),
        )  # fmt: skip
        metadata = _metadata(source, header).with_notes(*notes, *refused)
        return {source.path.stem: Signal(source.path.stem, data, calibration, metadata)}


def _scan(
    source: Source, header: dict[str, Any], allow_truncated: bool
) -> tuple[ScanOfFrames, tuple[str, ...]]:
    size, shape = header["size"], (header["ny"], header["nx"])
    if min(size, *shape) < 1 or header["data_offset"] < _HEADER.size:
        raise CorruptFile(
            "impossible sizes in its header", path=source.path, format="blo", offset=20,
            got=f"patterns of {size} pixels, scan {shape}, data at {header['data_offset']}",
        )  # fmt: skip
    count, stride = shape[0] * shape[1], size * size + _MARK_BYTES
    if allow_truncated:
        count = max(1, min(count, (source.size - header["data_offset"]) // stride))
    frames = FileFrames(
        source.path, (count, size, size), "u1", offset=header["data_offset"] + _MARK_BYTES,
        stride_bytes=stride, format="blo",
    )  # fmt: skip
    missing = shape[0] * shape[1] - count
    notes = (f"{missing} positions are missing at the end; they read as 0",) if missing else ()
    return ScanOfFrames(frames, shape), notes


def _metadata(source: Source, header: dict[str, Any]) -> Metadata:
    when = _when(header["acquired_days"])
    end = min(header["image_offset"], len(source.head))
    text = source.head[_HEADER.size + 8 * 22 : end].decode("latin-1").strip("\0 ")
    return Metadata(
        title=source.path.stem,
        date=when.date().isoformat() if when else None,
        time=when.time().isoformat("seconds") if when else None,
        energy_eV=positive(header["energy_eV"]),
        camera_length_mm=positive(header["camera_length"], 0.1),
        original=header | {"id": header["id"].decode("latin-1"), "note": text},
    )


def _when(days: float) -> datetime | None:
    """A date counted in days since the end of 1899."""
    try:
        return _DAY_ZERO + timedelta(days=days) if days > 0 else None
    except (OverflowError, ValueError):
        return None


FORMATS = (Blockfile,)
