"""FEI TIA series ``.ser`` and the ``.emi`` file that describes them."""

from __future__ import annotations

import html
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.lazy import ScanOfFrames
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import RawAxis, axes_of, finite, positive, scan_calibration
from py4DSTEM.io.frames import ScatteredFrames

_START = struct.Struct("<HHHIIII")
_SPECTRA, _IMAGES = 0x4120, 0x4122
_DTYPES = {1: "<u1", 2: "<u2", 3: "<u4", 4: "<i1", 5: "<i2", 6: "<i4", 7: "<f4", 8: "<f8",
           9: "<c8", 10: "<c16"}  # fmt: skip
_IMAGE_ELEMENT = struct.Struct("<ddiddiHII")
_SPECTRUM_ELEMENT = struct.Struct("<ddiHI")
_MAX_EMI_BYTES = 1 << 28
_MAX_SERIES = 100
_STAMP_BYTES = {0x4152: 8, 0x4142: 24}
"""Of what follows the last element: its time, or time and place."""


class Ser(Format):
    """One series of images or spectra."""

    name = "ser"
    title = "TIA series"
    extensions = (".ser",)

    def sniff(self, source: Source) -> Match:
        return Match.YES if source.head.startswith(b"II\x97\x01") else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        metadata = Metadata(title=source.path.stem)
        return {source.path.stem: _signal(source, metadata, options.allow_truncated)}


class Emi(Format):
    """A TIA document: its series lie beside it as ``name_1.ser``, ``name_2.ser`` …"""

    name = "emi"
    title = "TIA document"
    extensions = (".emi",)

    def sniff(self, source: Source) -> Match:
        return Match.YES if source.head.startswith(b"JL\xf1\x04") else (
            Match.MAYBE if source.suffix == ".emi" else Match.NO)  # fmt: skip

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        found = [
            source.path.with_name(f"{source.path.stem}_{i}.ser") for i in range(1, _MAX_SERIES)
        ]
        series = [path for path in found if path.is_file()]
        if not series:
            raise CorruptFile(
                "the series that it describes is not beside it", path=source.path, format="emi",
                expected=found[0].name, hint="Copy the .ser files into the same folder",
            )  # fmt: skip
        metadata = _emi_metadata(source)
        return {
            path.stem: _signal(Source.of(path), metadata, options.allow_truncated)
            for path in series
        }


# ---- header --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Dimension:
    """One dimension of a series: its size and its calibration."""

    size: int
    offset: float
    step: float
    name: str
    unit: str


@dataclass(frozen=True)
class _Series:
    """Where the elements of a series are, and what the first one says of itself."""

    source: Source
    kind: int
    dimensions: tuple[_Dimension, ...]
    count: int
    offsets: NDArray[np.int64]
    end: int
    """Where the time of the last element ends; 0 where it is not known."""

    def fail(self, what: str, at: int, **details: Any) -> CorruptFile:
        return _damaged(self.source, what, at, **details)


def _damaged(source: Source, what: str, at: int, **details: Any) -> CorruptFile:
    return CorruptFile(
        what, path=source.path, format="ser", offset=at,
        hint="The file is damaged or was not copied completely", **details,
    )  # fmt: skip


def _series(source: Source) -> _Series:
    head = source.head
    if len(head) < 64:
        raise _damaged(source, "too short for a header", len(head))
    _, _, version, kind, tag, total, valid = _START.unpack_from(head)
    wide = version >= 0x220
    table, dims_at = (
        (struct.unpack_from("<Q", head, 22)[0], 30) if wide
        else (struct.unpack_from("<I", head, 22)[0], 26)
    )  # fmt: skip
    if kind not in (_SPECTRA, _IMAGES):
        raise _damaged(source, "neither images nor spectra", 6, got=hex(kind))
    dimensions = _dimensions(source, dims_at)
    count, width = min(total, valid), 8 if wide else 4
    if not 1 <= count <= (source.size - table) // width:
        raise _damaged(
            source, "the table of its elements is missing", table, expected=f"{count} elements",
            got=f"{source.size} bytes in the file",
        )  # fmt: skip
    with open(source.path, "rb") as f:
        f.seek(table)
        raw = f.read(count * width)
        f.seek(table + (total + count - 1) * width)
        stamp = f.read(width)
    offsets = np.frombuffer(raw, f"<i{width}").astype(np.int64)
    stamped = int.from_bytes(stamp, "little") if len(stamp) == width else 0
    end = stamped + _STAMP_BYTES.get(tag, 0)
    return _Series(source, kind, dimensions, total, offsets, end)


def _check_end(series: _Series) -> None:
    """The time of the last element is the last thing in the file: elsewhere, bytes are missing."""
    size = series.source.size
    if size < series.end:
        raise series.fail("the file is cut off, or bytes within it are missing", size,
                          expected=f"{series.end} bytes", got=f"{size} bytes")  # fmt: skip


def _dimensions(source: Source, at: int) -> tuple[_Dimension, ...]:
    head, found = source.head, []
    try:
        count = struct.unpack_from("<I", head, at)[0]
        at += 4
        for _ in range(min(count, 5)):
            size, offset, step, _, length = struct.unpack_from("<IddII", head, at)
            at += 28
            name, at = head[at : at + length], at + length
            length = struct.unpack_from("<I", head, at)[0]
            unit, at = head[at + 4 : at + 4 + length], at + 4 + length
            found.append(
                _Dimension(size, offset, step, name.decode("latin-1"), unit.decode("latin-1"))
            )
    except struct.error:
        raise _damaged(source, "its dimensions cannot be read", at) from None
    return tuple(reversed(found))  # array order: the first one in the file is the fastest


# ---- signals -------------------------------------------------------------------------------------
def _signal(source: Source, metadata: Metadata, allow_truncated: bool) -> Signal:
    series = _series(source)
    if not allow_truncated:
        _check_end(series)
    shape, dtype, raw, start = _element(series)
    if allow_truncated:
        size = math.prod(shape) * dtype.itemsize
        inside = series.offsets + start + size <= source.size
        lost = len(series.offsets) - int(np.argmin(inside) if not inside.all() else len(inside))
        if 0 < lost < len(series.offsets):
            series = replace(series, offsets=series.offsets[:-lost])
            metadata = metadata.with_notes(f"the last {lost} elements are cut off")
    frames = ScatteredFrames(
        source.path, series.offsets + start, (math.prod(shape[:-1]), shape[-1]), dtype,
        format="ser",
    )  # fmt: skip
    shown = TopDown(frames) if series.kind == _IMAGES else frames
    return _arranged(series, shown, shape, raw, metadata)


class TopDown:
    """Frames whose rows are stored from the bottom up, turned over."""

    def __init__(self, frames: ScatteredFrames) -> None:
        self._frames = frames

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._frames.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._frames.dtype

    def read_frames(self, start: int, stop: int) -> NDArray[Any]:
        """Frames ``start … stop-1`` as ``(stop - start, Qx, Qy)``."""
        return np.ascontiguousarray(self._frames.read_frames(start, stop)[:, ::-1])


def _element(
    series: _Series,
) -> tuple[tuple[int, ...], np.dtype[Any], tuple[RawAxis, ...], int]:
    """Shape, type and axes of the first element; all share them."""
    at = int(series.offsets[0])
    layout = _IMAGE_ELEMENT if series.kind == _IMAGES else _SPECTRUM_ELEMENT
    with open(series.source.path, "rb") as f:
        f.seek(max(at, 0))
        raw = f.read(layout.size)
    if len(raw) < layout.size or at < 0:
        raise series.fail("its first element is missing", at, got=f"{series.source.size} bytes")
    axes: tuple[RawAxis, ...]
    if series.kind == _IMAGES:
        x0, dx, _, y0, dy, _, code, width, height = layout.unpack(raw)
        shape: tuple[int, ...] = (height, width)
        axes = (_metre_axis("y", y0, dy), _metre_axis("x", x0, dx))
    else:
        x0, dx, _, code, width = layout.unpack(raw)
        shape, axes = (width,), (RawAxis("E", dx, x0, "eV"),)
    if code not in _DTYPES or min(shape) < 1:
        raise series.fail("an element of impossible size or type", at, got=f"{shape}, type {code}")
    dtype = np.dtype(_DTYPES[code])
    if math.prod(shape) * dtype.itemsize > series.source.size:
        raise series.fail("an element larger than the file", at, got=f"{shape} {dtype}")
    return shape, dtype, axes, layout.size


def _metre_axis(name: str, offset: float, step: float) -> RawAxis:
    """TIA writes metres, or inverse metres for patterns, and does not say which.

    No pixel is as large as a metre, so that a large number can only be an inverse length.
    """
    if abs(step) > 1:
        return RawAxis(name, step * 1e-9, 0.0, "nm^-1")
    return RawAxis(name, step * 1e9, offset * 1e9, "nm")


def _arranged(
    series: _Series, frames: ScatteredFrames | TopDown, shape: tuple[int, ...],
    raw: tuple[RawAxis, ...], metadata: Metadata,
) -> Signal:  # fmt: skip
    """A scan where two dimensions of images were recorded, else an image or a stack."""
    name = series.source.path.stem
    sizes = tuple(d.size for d in series.dimensions if d.size > 0) or (len(series.offsets),)
    fits = math.prod(sizes) == series.count
    outer = tuple(_outer_axis(d) for d in series.dimensions)
    if series.kind == _IMAGES and len(sizes) == 2 and fits and frames.dtype.kind in "buif":
        calibration, notes = scan_calibration(outer, raw, energy_eV=metadata.energy_eV)
        missing = series.count - len(series.offsets)
        if missing:
            notes += (f"{missing} positions were not recorded; they read as 0",)
        data = ScanOfFrames(frames, (sizes[0], sizes[1]))
        return Signal(name, data, calibration, metadata.with_notes(*notes))
    calibration = Calibration(energy_eV=metadata.energy_eV)
    if len(series.offsets) == 1:
        axes, notes = axes_of(raw)
        image = frames.read_frames(0, 1).reshape(shape)
        return Signal(name, image, calibration, metadata.with_notes(*notes), axes=axes)
    if series.kind == _IMAGES:
        axes, notes = axes_of([*(outer if len(outer) == 1 else (RawAxis("z"),)), *raw])
        return Signal(name, frames, calibration, metadata.with_notes(*notes), axes=axes)
    stack = frames.read_frames(0, len(series.offsets))
    complete = fits and len(series.offsets) == series.count
    stack = stack.reshape((*(sizes if complete else (len(stack),)), *shape))
    axes, notes = axes_of([*(outer if complete else (RawAxis("z"),)), *raw])
    return Signal(name, stack, calibration, metadata.with_notes(*notes), axes=axes)


def _outer_axis(dimension: _Dimension) -> RawAxis:
    if dimension.unit.lower() in ("meters", "m"):
        return RawAxis(dimension.name, dimension.step * 1e9, dimension.offset * 1e9, "nm")
    return RawAxis(dimension.name or "z", dimension.step, dimension.offset, dimension.unit)


# ---- document ------------------------------------------------------------------------------------
def _emi_metadata(source: Source) -> Metadata:
    """What the document says of the microscope, found by its labels."""
    if source.size > _MAX_EMI_BYTES:
        return Metadata(title=source.path.stem, notes=("the .emi file is too large to search",))
    blob = source.path.read_bytes()
    begin, end = blob.find(b"<ObjectInfo>"), blob.find(b"</ObjectInfo>")
    text = blob[begin:end].decode("utf-8", "replace") if 0 <= begin < end else ""
    found: dict[str, Any] = {}
    for label, value, unit in re.findall(
        r"<Data><Label>([^<]*)</Label><Value>([^<]*)</Value><Unit>([^<]*)</Unit>", text
    ):
        found[html.unescape(label)] = f"{html.unescape(value).strip()} {unit}".strip()
    for tag in ("AcquireDate", "Manufacturer", "CameraNamePath", "DwellTimePath", "Magnification",
                "Binning", "AcceleratingVoltage"):  # fmt: skip
        one = re.search(rf"<{tag}>([^<]*)</{tag}>", text)
        if one:
            found[tag] = one[1].strip()
    date, time = _when(found.get("AcquireDate", ""))
    return Metadata(
        title=source.path.stem,
        date=date,
        time=time,
        detector=found.get("CameraNamePath"),
        microscope=found.get("Microscope"),
        operator=found.get("User"),
        energy_eV=positive(found.get("AcceleratingVoltage")) or _first(found, "High tension", 1e3),
        camera_length_mm=_first(found, "Camera length", 1e3),
        dwell_time_s=_first(found, "DwellTimePath", 1.0),
        magnification=_first(found, "Magnification", 1.0),
        original=found,
    )


def _first(found: Mapping[str, str], key: str, factor: float) -> float | None:
    """The number at the start of an entry such as ``0.490 m``."""
    words = found.get(key, "").split()
    return positive(finite(words[0]), factor) if words else None


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _when(text: str) -> tuple[str | None, str | None]:
    """ISO date and time from ``Sun Feb 21 17:51:15 2016``."""
    found = re.fullmatch(r"\w+ (\w{3}) +(\d+) (\d\d:\d\d:\d\d) (\d{4})", text.strip())
    if found is None or found[1] not in _MONTHS:
        return None, None
    return f"{found[4]}-{_MONTHS.index(found[1]) + 1:02d}-{int(found[2]):02d}", found[3]


FORMATS = (Ser, Emi)
