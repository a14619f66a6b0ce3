"""StreamPix / Norpix ``.seq`` sequences, as Direct Electron cameras write them.

Frames are raw: the dark and gain references beside the file are not applied, but can be read
with ``dataset="dark"`` and ``dataset="gain"``.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.core.slices import ArrayResult, DiffractionSlice
from py4DSTEM.errors import CorruptFile, FormatError
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.frames import FileFrames, count_frames
from py4DSTEM.io.safe_xml import Element, read_xml

MAGIC = b"\xed\xfe\x00\x00"
HEADER_BYTES = 1024
TITLE = "Norpix seq".encode("utf-16-le")
MAX_SIDE = 2**16
MONOCHROME = 100
MRC_HEADER_BYTES = 1024
REFERENCES = {"dark": (".dark.mrc", ".Dark.mrc"), "gain": (".gain.mrc", ".Gain.mrc")}
XML_NAMES = (".Config.Metadata.xml", ".metadata", ".xml")


class Seq(Format):
    """Sequences of uncompressed grey images of 8 or 16 bits."""

    name = "seq"
    title = "StreamPix sequence (Direct Electron)"
    extensions = (".seq",)

    def sniff(self, source: Source) -> Match:
        if not source.head.startswith(MAGIC):
            return Match.NO
        return Match.YES if source.head[4 : 4 + len(TITLE)] == TITLE else Match.MAYBE

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        header = parse_header(source.head, source.path)
        name = source.path.stem
        references = _references(source.path)
        if options.dataset in references:
            path = references[options.dataset]
            return {options.dataset: _reference(options.dataset, path, header)}
        count, notes = _count(source, header, options.allow_truncated)
        xml, xml_notes = _description(source.path)
        frames = FileFrames(
            source.path, (count, header.height, header.width), header.dtype,
            offset=header.offset, stride_bytes=header.stride, format=self.name,
        )  # fmt: skip
        if references:
            which = " and ".join(references)
            notes += (f"{which} references are beside it and not applied: {_how_to(references)}",)
        metadata = _metadata(name, source, header, xml, references)
        signal = Signal(
            name, frames, _calibration(xml), metadata.with_notes(*notes, *xml_notes), stream=True
        )
        return {name: signal}


# ---- header --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Header:
    """What the first 1024 bytes say."""

    version: int
    width: int
    height: int
    bit_depth: int
    real_depth: int
    allocated: int
    stride: int
    offset: int
    frame_rate_Hz: float
    description: str

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("u1") if self.bit_depth == 8 else np.dtype("<u2")

    @property
    def image_bytes(self) -> int:
        return self.width * self.height * self.dtype.itemsize


def parse_header(head: bytes, path: Path) -> Header:
    """The header of a sequence.

    Raises
    ------
    CorruptFile
        Incomplete, or with numbers that make no sense; names the byte.
    """
    if len(head) < HEADER_BYTES:
        raise _corrupt("the header is incomplete", path, 0, f"{HEADER_BYTES} bytes", len(head))
    version = struct.unpack_from("<i", head, 28)[0]
    width, height, depth, real, size, kind = struct.unpack_from("<6I", head, 548)
    allocated, _, stride = struct.unpack_from("<3I", head, 572)
    (rate,) = struct.unpack_from("<d", head, 584)
    _check("width", width, 1, MAX_SIDE, path, 548)
    _check("height", height, 1, MAX_SIDE, path, 552)
    if depth not in (8, 16) or kind not in (0, MONOCHROME):
        raise _corrupt(
            "only uncompressed grey images of 8 or 16 bits are supported", path, 556,
            "8 or 16 bits, format 100", f"{depth} bits, format {kind}",
        )  # fmt: skip
    image = width * height * depth // 8
    if size != image:
        raise _corrupt("image size and shape disagree", path, 564, f"{image} bytes", size)
    _check("distance of frames", stride, image, 2**31, path, 580)
    text = head[36:548].decode("utf-16-le", "replace").split("\0")[0]
    offset = 8192 if version >= 5 else HEADER_BYTES
    return Header(
        version, width, height, depth, real, allocated, stride, offset,
        rate if math.isfinite(rate) else 0.0, text,
    )  # fmt: skip


def _check(label: str, value: int, least: int, most: int, path: Path, at: int) -> None:
    if not least <= value <= most:
        raise _corrupt(f"impossible {label}", path, at, f"{least} … {most}", value)


def _corrupt(what: str, path: Path, at: int, expected: object, got: object) -> CorruptFile:
    return CorruptFile(what, path=path, format="seq", offset=at, expected=expected, got=got)


def _count(source: Source, header: Header, allow_truncated: bool) -> tuple[int, tuple[str, ...]]:
    """Number of recorded frames; the file may be longer than they need."""
    need = header.offset + (header.allocated - 1) * header.stride + header.image_bytes
    if header.allocated > 0 and source.size >= need:
        return header.allocated, ()
    if header.allocated > 0 and not allow_truncated:
        raise CorruptFile(
            "frames are missing at the end",
            path=source.path, format="seq", offset=source.size,
            expected=f"{need} bytes for {header.allocated} frames", got=f"{source.size} bytes",
            hint="Copied incompletely: allow_truncated=True reads the complete frames",
        )  # fmt: skip
    count, notes = count_frames(
        source.path, source.size, offset=header.offset, stride=header.stride, format="seq",
        allow_truncated=allow_truncated,
    )  # fmt: skip
    if header.allocated:
        return count, (*notes, f"only {count} of {header.allocated} frames are in the file")
    # StreamPix writes the number last: 0 means that recording was cut off.
    return count, (*notes, f"the header gives no number of frames: {count} by the file's size")


def _how_to(references: Mapping[str, Path]) -> str:
    return " and ".join(f"read(path, dataset={name!r})" for name in references)


# ---- files beside it -----------------------------------------------------------------------------
def _references(path: Path) -> dict[str, Path]:
    """Dark and gain images beside the sequence."""
    found: dict[str, Path] = {}
    for name, suffixes in REFERENCES.items():
        for suffix in suffixes:
            for stem in (path.name, path.stem):
                candidate = path.with_name(stem + suffix)
                if candidate.is_file():
                    found.setdefault(name, candidate)
    return found


def _reference(name: str, path: Path, header: Header) -> ArrayResult | DiffractionSlice:
    """A dark or gain image; its MRC header counts frames that are not there, so size decides."""
    with open(path, "rb") as f:
        head = f.read(MRC_HEADER_BYTES)
    if len(head) < MRC_HEADER_BYTES:
        raise _corrupt("the MRC header is incomplete", path, 0, MRC_HEADER_BYTES, len(head))
    width, height, _, mode = struct.unpack_from("<4i", head)
    if (width, height, mode) != (header.width, header.height, 2):
        raise _corrupt(
            "the reference does not fit the sequence", path, 0,
            f"{header.width} x {header.height}, mode 2", f"{width} x {height}, mode {mode}",
        )  # fmt: skip
    count = (os.stat(path).st_size - MRC_HEADER_BYTES) // (width * height * 4)
    if count < 1:
        raise _corrupt("there is no complete image", path, MRC_HEADER_BYTES, "1 image", 0)
    frames = FileFrames(path, (count, height, width), "<f4", offset=MRC_HEADER_BYTES, format="seq")
    data = np.array(frames.read_frames(0, count))
    # Room is written for several images; those after the last one in use are empty.
    used = int(np.flatnonzero(data.any(axis=(1, 2))).max(initial=0)) + 1
    if used > 1:
        return ArrayResult(data[:used], (), History(), name)
    return DiffractionSlice(data[0], Calibration(), History(), name)


def _description(path: Path) -> tuple[Element | None, tuple[str, ...]]:
    """The XML beside the sequence; a damaged one is a note, for the frames do not need it."""
    for suffix in XML_NAMES:
        for stem in (path.name, path.stem):
            candidate = path.with_name(stem + suffix)
            if candidate.is_file():
                try:
                    return read_xml(candidate, "seq"), ()
                except FormatError as error:
                    return None, (f"{candidate.name} was not used: {error.what}",)
    return None, ()


# ---- calibration and metadata --------------------------------------------------------------------
def _info(xml: Element | None, name: str) -> str | None:
    """``<FileInfo><name Value="…"/>``; None where it is not given."""
    found = xml.find("FileInfo", name) if xml is not None else None
    return (found.attributes.get("Value") or None) if found is not None else None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def _energy_eV(xml: Element | None) -> float | None:
    kilovolts = _number(_info(xml, "HT"))
    return kilovolts * 1e3 if kilovolts is not None and 1 < kilovolts < 1e4 else None


def _calibration(xml: Element | None) -> Calibration:
    # PixelSize belongs to images at a magnification, not to the patterns of a scan: not used.
    return Calibration().replace(energy_eV=_energy_eV(xml))


def _metadata(
    name: str, source: Source, header: Header, xml: Element | None, references: Mapping[str, Path]
) -> Metadata:
    rate = _number(_info(xml, "FrameRate")) or _number(str(header.frame_rate_Hz))
    date, time = _when(source, header)
    version = _info(xml, "StreamPixVersion")
    original: dict[str, Any] = {
        "seq": asdict(header),
        "references": {key: str(path) for key, path in references.items()},
    }
    return Metadata(
        title=name,
        date=date,
        time=time,
        detector=_info(xml, "CameraType"),
        software=f"StreamPix {version}" if version else None,
        energy_eV=_energy_eV(xml),
        magnification=_number(_info(xml, "Mag")),
        dwell_time_s=1 / rate if rate else None,
        counter_depth_bits=header.real_depth or None,
        original=original | ({"xml": xml.tree()} if xml is not None else {}),
    )


def _when(source: Source, header: Header) -> tuple[str | None, str | None]:
    """UTC date and time of the first frame: seconds, milli- and microseconds after its image."""
    if header.stride < header.image_bytes + 8:
        return None, None
    with open(source.path, "rb") as f:
        f.seek(header.offset + header.image_bytes)
        stamp = f.read(8)
    seconds = struct.unpack_from("<I", stamp)[0] if len(stamp) == 8 else 0
    if not seconds:
        return None, None
    when = datetime.fromtimestamp(seconds, UTC)
    return when.date().isoformat(), when.time().isoformat()


FORMATS = (Seq,)
