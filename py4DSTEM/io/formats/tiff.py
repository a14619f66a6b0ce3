"""TIFF images and stacks, as cameras write them: not compressed, one sample per pixel."""

from __future__ import annotations

import html
import mmap
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile, FormatError
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import RawAxis, axes_of, iso_date, iso_time, positive
from py4DSTEM.io.frames import MemoryFrames, ScatteredFrames
from py4DSTEM.units import electron_wavelength_A

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q",
          17: "q", 18: "Q"}  # fmt: skip
_RATIONAL = 5
_MAX_PAGES = 1_000_000
_MAX_VALUES = 1 << 20
_MAX_GZIP = 1 << 29
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _TEXT, _STRIPS, _SAMPLES = 256, 257, 258, 259, 270, 273, 277
_LENGTHS, _X_PER_UNIT, _Y_PER_UNIT, _TILES, _FORMAT = 279, 282, 283, 322, 339
_DATE = 306
_JEOL_TAGS = ("ModeString", "SelectorValue", "SelectorUnitString", "AccelerationVoltage", "EosMode")
_KINDS = {1: "u", 2: "i", 3: "f", 6: "c"}


class Tiff(Format):
    """Pages of equal size; a series of numbered files is one scan per file."""

    name = "tiff"
    title = "TIFF"
    extensions = (".tif", ".tiff", ".gz")

    def sniff(self, source: Source) -> Match:
        head = source.head
        if head[:2] == b"\x1f\x8b":
            named = source.path.name.lower().endswith((".tif.gz", ".tiff.gz"))
            return Match.YES if named else Match.NO
        marks = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
        return Match.YES if head[:4] in marks else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        if source.head[:2] == b"\x1f\x8b":
            return _opened(source, _unpacked(source), in_memory=True)
        with (
            open(source.path, "rb") as f,
            mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return _opened(source, content, in_memory=False)


def _unpacked(source: Source) -> bytes:
    """A gzip file in memory, up to half a gigabyte."""
    unpack = zlib.decompressobj(wbits=31)
    try:
        with open(source.path, "rb") as f:
            content = unpack.decompress(f.read(), _MAX_GZIP)
    except zlib.error as error:
        raise CorruptFile(
            f"cannot be unpacked: {error}", path=source.path, format="tiff"
        ) from error
    if unpack.unconsumed_tail or not unpack.eof:
        raise CorruptFile(
            "cut off or too large when unpacked", path=source.path, format="tiff",
            expected=f"at most {_MAX_GZIP} bytes", got=f"{len(content)} bytes",
            hint="Unpack it first",
        )  # fmt: skip
    return content


# ---- structure -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class _File:
    """Bytes of a TIFF file and how its numbers are written."""

    source: Source
    content: Any
    order: str
    big: bool

    def unpack(self, code: str, at: int) -> tuple[Any, ...]:
        need = struct.calcsize(self.order + code)
        if not 0 <= at <= len(self.content) - need:
            raise self.fail("its tags go on beyond the end", at)
        return struct.unpack(self.order + code, self.content[at : at + need])

    def fail(self, what: str, at: int, **details: Any) -> CorruptFile:
        return CorruptFile(what, path=self.source.path, format="tiff", offset=at,
                           hint="The file is damaged or was not copied completely",
                           **details)  # fmt: skip


Tags = dict[int, Any]


def _opened(source: Source, content: Any, in_memory: bool) -> dict[str, Signal]:
    order = "<" if content[:2] == b"II" else ">"
    file = _File(source, content, order, struct.unpack(f"{order}H", content[2:4])[0] == 43)
    pages = list(_pages(file))
    if not pages:
        raise file.fail("it has no image", 4)
    shape, dtype = _page_type(file, pages[0])
    alike = [p for p in pages if _page_type(file, p) == (shape, dtype)]
    offsets = np.array(_offsets(file, alike, shape, dtype), np.int64)
    frames: Any
    if in_memory:
        frames = MemoryFrames(_gathered(file, offsets, shape, dtype))
    else:
        frames = ScatteredFrames(source.path, offsets, shape, dtype, format="tiff")
    skipped = len(pages) - len(alike)
    notes = (f"{skipped} pages of another size or type left out",) if skipped else ()
    return _signals(source, frames, pages[0], notes)


def _gathered(
    file: _File, offsets: Any, shape: tuple[int, int], dtype: np.dtype[Any]
) -> np.ndarray[Any, Any]:
    """All frames of a file in memory."""
    size = shape[0] * shape[1] * dtype.itemsize
    if int(offsets.max()) + size > len(file.content):
        raise file.fail("an image goes on beyond the end", int(offsets.max()))
    frames = [np.frombuffer(file.content, dtype, shape[0] * shape[1], at) for at in offsets]
    return np.stack(frames).reshape(-1, *shape)


def _pages(file: _File) -> Iterator[Tags]:
    at = file.unpack("Q" if file.big else "I", 8 if file.big else 4)[0]
    seen: set[int] = set()
    while at:
        if at in seen or len(seen) > _MAX_PAGES:
            raise file.fail("its pages lead in circles", at)
        seen.add(at)
        tags, at = _page(file, at)
        yield tags


def _page(file: _File, at: int) -> tuple[Tags, int]:
    """Tags of one page and the place of the next."""
    count = file.unpack("Q" if file.big else "H", at)[0]
    at += 8 if file.big else 2
    if count > 4096:
        raise file.fail("a page claims an absurd number of tags", at, got=count)
    tags: Tags = {}
    step = 20 if file.big else 12
    for i in range(count):
        tag, kind, length = file.unpack("HHQ" if file.big else "HHI", at + i * step)
        tags[tag] = _entry(file, kind, length, at + i * step + (12 if file.big else 8))
    return tags, int(file.unpack("Q" if file.big else "I", at + count * step)[0])


def _entry(file: _File, kind: int, length: int, at: int) -> Any:
    """The values of a tag: inside the entry where they fit, else where it points."""
    size = _SIZES.get(kind, 0) * length
    if size == 0 or length > _MAX_VALUES:
        return None
    if size > (8 if file.big else 4):
        at = file.unpack("Q" if file.big else "I", at)[0]
    if kind == 2:
        return bytes(file.unpack(f"{length}s", at)[0]).rstrip(b"\0").decode("utf-8", "replace")
    if kind == _RATIONAL:
        numbers = file.unpack(f"{2 * length}I", at)
        return [a / b if b else 0.0 for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
    return list(file.unpack(f"{length}{_CODES[kind]}", at)) if kind in _CODES else None


def _first(tags: Tags, tag: int, default: int) -> Any:
    values = tags.get(tag)
    return values[0] if isinstance(values, list) and values else default


def _page_type(file: _File, tags: Tags) -> tuple[tuple[int, int], np.dtype[Any]]:
    shape = (_first(tags, _HEIGHT, 0), _first(tags, _WIDTH, 0))
    bits, kind = _first(tags, _BITS, 1), _KINDS.get(_first(tags, _FORMAT, 1), "u")
    compressed = _first(tags, _COMPRESSION, 1) != 1
    if (
        compressed
        or _TILES in tags
        or _first(tags, _SAMPLES, 1) != 1
        or bits not in (8, 16, 32, 64)
    ):
        raise FormatError(
            "a TIFF of a kind that is not supported", path=file.source.path, format="tiff",
            expected="no compression, no tiles, one sample of 8 to 64 bits per pixel",
            got=f"compression {_first(tags, _COMPRESSION, 1)}, {bits} bits, "
                f"{_first(tags, _SAMPLES, 1)} samples",
            hint="Save it uncompressed, for example with ImageJ",
        )  # fmt: skip
    if min(shape) < 1 or (kind in "fc" and bits == 8):
        raise file.fail("impossible sizes of an image", 0, got=f"{shape}, {bits} bits")
    return shape, np.dtype(f"{file.order}{kind}{bits // 8}")


def _offsets(
    file: _File, pages: list[Tags], shape: tuple[int, int], dtype: np.dtype[Any]
) -> list[int]:
    """Where each image starts; its strips must follow each other."""
    size = shape[0] * shape[1] * dtype.itemsize
    starts = []
    for tags in pages:
        strips, lengths = tags.get(_STRIPS) or [], tags.get(_LENGTHS) or [size]
        if not strips or len(strips) != len(lengths):
            raise file.fail("an image has no data", 0)
        joined = all(a + n == b for a, n, b in zip(strips, lengths, strips[1:], strict=False))
        if not joined or sum(lengths) < size:
            raise file.fail("an image whose strips are scattered is not supported", strips[0])
        if strips[0] + size > len(file.content):
            raise file.fail("an image goes on beyond the end", strips[0])
        starts.append(strips[0])
    listed = re.search(r"^images=(\d+)", pages[0].get(_TEXT) or "", re.MULTILINE)
    if len(pages) == 1 and listed and 1 < int(listed[1]) <= file.source.size // size:
        # ImageJ writes stacks beyond 4 GB as one page followed by the others' bare numbers.
        starts = [starts[0] + i * size for i in range(int(listed[1]))]
    return starts


# ---- meaning -------------------------------------------------------------------------------------
def _signals(source: Source, frames: Any, tags: Tags, notes: tuple[str, ...]) -> dict[str, Signal]:
    name = source.path.name.split(".tif")[0]
    text = tags.get(_TEXT) or ""
    raw, depth = _axes(tags, text)
    stack = frames.shape[0] > 1
    axes, refused = axes_of([depth, *raw] if stack else raw)
    date, _, time = str(tags.get(_DATE) or "").partition(" ")
    metadata = Metadata(
        title=name,
        date=iso_date(date.replace(":", "-")),
        time=iso_time(time),
        microscope=tags.get(272),
        software=tags.get(305),
        notes=notes + refused,
        original={str(k): v for k, v in tags.items() if not isinstance(v, list) or len(v) < 64},
    )
    data = frames if stack else frames.read_frames(0, 1)[0]
    return {name: Signal(name, data, metadata=metadata, axes=axes)}


def _axes(tags: Tags, text: str) -> tuple[list[RawAxis], RawAxis]:
    """Image axes and the axis of the stack, as ImageJ or a JEOL microscope describes them."""
    x, y = (_first(tags, t, 0) for t in (_X_PER_UNIT, _Y_PER_UNIT))
    if text.startswith("ImageJ="):
        pairs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        unit = pairs.get("unit", "").replace("\\u00B5", "µ")
        depth = RawAxis("z", pairs.get("spacing", 1.0), 0.0, unit if "spacing" in pairs else None)
        if unit and unit not in ("pixel", "inch") and x and y:
            return [RawAxis("y", 1 / y, 0.0, unit), RawAxis("x", 1 / x, 0.0, unit)], depth
        return [RawAxis("y"), RawAxis("x")], depth
    if (tags.get(271) or "").startswith("JEOL"):
        return _jeol_axes(text, x, y), RawAxis("z")
    return [RawAxis("y"), RawAxis("x")], RawAxis("z")


def _jeol_axes(text: str, x: float, y: float) -> list[RawAxis]:
    """Pixel sizes of SightX: resolution per inch on the camera, over magnification or length."""
    found = {
        tag: html.unescape(one[1]).strip()
        for tag in _JEOL_TAGS
        if (one := re.search(rf"<{tag}>([^<]*)</{tag}>", text))
    }
    mode, value = found.get("ModeString"), positive(found.get("SelectorValue"))
    if not (x and y and value) or found.get("EosMode") != "eosTEM" or mode not in ("MAG", "DIFF"):
        return [RawAxis("y"), RawAxis("x")]
    scale, unit = 0.0254 / value * 1e9, "nm"
    if mode == "DIFF":
        volts = positive(found.get("AccelerationVoltage"))
        metres = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}.get(found.get("SelectorUnitString", "m"))
        if not (volts and metres):
            return [RawAxis("y"), RawAxis("x")]
        scale = 0.0254 / (value * metres) / (electron_wavelength_A(volts) * 0.1)
        unit = "nm^-1"
    return [RawAxis("y", scale / y, 0.0, unit), RawAxis("x", scale / x, 0.0, unit)]


FORMATS = (Tiff,)
