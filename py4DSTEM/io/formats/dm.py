"""Gatan DigitalMicrograph files, ``.dm3`` and ``.dm4``: images, stacks, spectra and 4D scans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.lazy import BlockArray, ScanOfFrames, Shape4
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import (
    RawAxis,
    axes_of,
    iso_date,
    iso_time,
    positive,
    scan_calibration,
)
from py4DSTEM.io.formats.dmtags import StoredArray, TagFile, number_at, read_tags, value_at
from py4DSTEM.io.frames import FileFrames
from py4DSTEM.units import is_angle, is_length, is_reciprocal

Array = NDArray[Any]

_DTYPES = {
    1: "i2", 2: "f4", 3: "c8", 5: "c8", 6: "u1", 7: "i4", 8: "rgb", 9: "i1", 10: "u2", 11: "u4",
    12: "f8", 13: "c16", 14: "?", 23: "rgb", 27: "c8", 28: "c16", 39: "i8", 40: "u8",
}  # fmt: skip
_PACKED_OLD, _PACKED_NEW = 5, (27, 28)
_RGBA = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])
_BLOCK_BYTES = 1 << 26
_MAX_DIMENSIONS = 5


class DigitalMicrograph(Format):
    """Every image of a file except its thumbnail; only the tags are read when it is opened."""

    name = "dm"
    title = "Gatan DigitalMicrograph"
    extensions = (".dm3", ".dm4")

    def sniff(self, source: Source) -> Match:
        head = source.head
        version = int.from_bytes(head[:4], "big")
        if version not in (3, 4) or len(head) < 24:
            return Match.NO
        at = 8 if version == 3 else 12
        order = int.from_bytes(head[at : at + 4], "big")
        plausible = order in (0, 1) and head[at + 4] in (0, 1) and head[at + 5] in (0, 1)
        return Match.YES if plausible else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        file = read_tags(source.path, allow_truncated=options.allow_truncated)
        signals: dict[str, Signal] = {}
        for image in _images(source, file):
            signal = _signal(image, file, options.allow_truncated)
            name = signal.name
            while name in signals:
                name += "'"
            signals[name] = signal
        return signals


# ---- images of a file ----------------------------------------------------------------------------
@dataclass(frozen=True)
class _Image:
    """One image of a file: where its numbers are and what its tags say.

    `shape` and `axes` are in array order, the reverse of the order in the tags, whose first
    dimension is the fastest.
    """

    source: Source
    name: str
    code: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    data: StoredArray
    axes: tuple[RawAxis, ...]
    tags: Mapping[str, Any]

    def fail(self, what: str, **details: Any) -> CorruptFile:
        return CorruptFile(
            f"image {self.name!r}: {what}", path=self.source.path, format="dm",
            offset=self.data.offset, **details,
        )  # fmt: skip


def _images(source: Source, file: TagFile) -> Iterator[_Image]:
    """Images that are not thumbnails; those whose tags were cut off are passed over."""
    found = value_at(file.tags, "ImageList")
    if not isinstance(found, dict):
        found = {}
    thumbnails = set()
    listed = value_at(file.tags, "Thumbnails")
    for entry in (listed if isinstance(listed, dict) else {}).values():
        index = value_at(entry, "ImageIndex")
        thumbnails.add(index if isinstance(index, int) else None)
    chosen = [tags for i, tags in enumerate(found.values()) if i not in thumbnails]
    if not chosen:
        # Some programs list the only image as its own thumbnail.
        chosen = list(found.values())
    for tags in chosen:
        if value_at(tags, "ImageData") is not None and not (
            file.damage and not isinstance(value_at(tags, "ImageData", "Data"), StoredArray)
        ):
            yield _image(source, file, tags)


def _image(source: Source, file: TagFile, tags: dict[str, Any]) -> _Image:
    data, code = value_at(tags, "ImageData", "Data"), value_at(tags, "ImageData", "DataType")
    where: dict[str, Any] = {"path": source.path, "format": "dm"}
    if not isinstance(data, StoredArray):
        raise CorruptFile("an image has no data", **where, expected="ImageData.Data, an array")
    if code not in _DTYPES:
        raise CorruptFile(
            "an image is of a type that is not supported", **where, offset=data.offset,
            expected=f"one of {sorted(_DTYPES)}", got=code,
        )  # fmt: skip
    dims = value_at(tags, "ImageData", "Dimensions")
    sizes = list(dims.values()) if isinstance(dims, dict) else []
    if not 1 <= len(sizes) <= _MAX_DIMENSIONS or any(type(n) is not int or n < 1 for n in sizes):
        raise CorruptFile(
            "an image has impossible dimensions", **where, offset=data.offset, got=sizes[:8]
        )
    dtype = _RGBA if _DTYPES[code] == "rgb" else np.dtype(file.order + _DTYPES[code])
    name = value_at(tags, "Name")
    name = name if isinstance(name, str) and name else source.path.stem
    shape = tuple(reversed(sizes))
    image = _Image(source, name, code, dtype, shape, data, _raw_axes(tags, len(shape)), tags)
    _check_extent(image)
    return image


def _check_extent(image: _Image) -> None:
    need = math.prod(image.shape) * image.dtype.itemsize
    if image.code == _PACKED_OLD:
        need //= 2
    if image.code in _PACKED_NEW:
        need = image.shape[0] * (image.shape[-1] // 2 + 1) * image.dtype.itemsize
    if image.data.nbytes < need:
        raise image.fail(
            "it has fewer values than its dimensions ask for",
            expected=f"{need} bytes for {image.shape} {image.dtype}",
            got=f"{image.data.nbytes} bytes",
        )


def _raw_axes(tags: Mapping[str, Any], count: int) -> tuple[RawAxis, ...]:
    """Axes in array order; a missing calibration counts as none."""
    dims = value_at(tags, "ImageData", "Calibrations", "Dimension")
    given = list(dims.values()) if isinstance(dims, dict) else []
    axes = []
    for i in range(count):
        one = given[i] if i < len(given) else {}
        scale, origin = value_at(one, "Scale"), value_at(one, "Origin")
        unit = value_at(one, "Units")
        scale = 1.0 if scale is None else scale
        # DM gives the pixel that lies at zero.
        offset = -float(origin) * float(scale) if _numbers(origin, scale) else 0.0
        name = "xyzuv"[i]
        axes.append(RawAxis(name, scale, offset, unit if isinstance(unit, str) else None))
    return tuple(reversed(axes))


def _numbers(*values: Any) -> bool:
    return all(isinstance(v, int | float) for v in values)


# ---- numbers -------------------------------------------------------------------------------------
def _signal(image: _Image, file: TagFile, allow_truncated: bool) -> Signal:
    metadata = _metadata(image, file)
    if len(image.shape) == 4 and image.dtype.kind in "buif":
        return _scan(image, metadata, allow_truncated)
    if image.data.offset + image.data.nbytes > file.size and len(image.shape) != 3:
        raise image.fail("its data are cut off", expected=f"{image.data.nbytes} bytes")
    axes, notes = axes_of(image.axes)
    calibration, _ = scan_calibration(
        (RawAxis("x"), RawAxis("y")), (RawAxis("x"), RawAxis("y")), energy_eV=metadata.energy_eV
    )
    metadata = metadata.with_notes(*notes)
    plain = image.code != _PACKED_OLD and image.code not in _PACKED_NEW
    if len(image.shape) == 3 and image.dtype.kind in "buif":
        stack = _frames(image, image.shape[0], image.shape[1:], allow_truncated)
        return Signal(image.name, stack, calibration, metadata, axes=axes)
    data = _values(image) if plain else _unpacked(image)
    return Signal(image.name, data, calibration, metadata, axes=axes)


def _frames(image: _Image, count: int, shape: tuple[int, ...], allow_truncated: bool) -> FileFrames:
    frame_bytes = math.prod(shape) * image.dtype.itemsize
    if allow_truncated:
        count = min(count, (image.source.size - image.data.offset) // frame_bytes)
        if count < 1:
            raise image.fail("not one complete pattern is in the file")
    return FileFrames(
        image.source.path, (count, shape[0], shape[1]), image.dtype,
        offset=image.data.offset, format="dm",
    )  # fmt: skip


def _values(image: _Image) -> Array:
    """An image in memory; its size was checked against the file."""
    count = math.prod(image.shape)
    with open(image.source.path, "rb") as f:
        f.seek(image.data.offset)
        raw = f.read(count * image.dtype.itemsize)
    stored = np.frombuffer(raw, "u1" if image.dtype == _RGBA else image.dtype)
    if image.dtype == _RGBA:
        # Stored as 32-bit words of blue, green, red, alpha.
        stored = stored.reshape(-1, 4)[:, [2, 1, 0, 3]].copy().view(_RGBA)
    native = stored.astype(stored.dtype.newbyteorder("="))
    return native.reshape(image.shape)


def _unpacked(image: _Image) -> Array:
    """The full Fourier transform of a real image from the half that is stored."""
    if len(image.shape) != 2 or min(image.shape) < 2 or image.shape[1] % 2:
        raise image.fail("a packed Fourier transform of this shape is not supported")
    rows, columns = image.shape
    with open(image.source.path, "rb") as f:
        f.seek(image.data.offset)
        raw = f.read(image.data.nbytes)
    if image.code in _PACKED_NEW:
        half = np.frombuffer(raw, image.dtype, rows * (columns // 2 + 1)).reshape(rows, -1)
        return np.hstack((half[:, ::-1], half[:, 1:-1].conj())).astype(image.dtype.char)
    if rows != columns:
        raise image.fail("a packed Fourier transform that is not square is not supported")
    half = np.frombuffer(raw, image.dtype, rows * columns // 2).reshape(rows, columns // 2)
    return _unpack_square(half.astype(np.complex64))


def _unpack_square(half: Array) -> Array:
    """Old packing of a centred, Hermitian 2N x 2N transform in 2N x N complex numbers.

    Columns N … 2N-1 of the result are stored row by row, from the top.  The column of the Nyquist
    frequency (column 0) has no room of its own: its independent values are kept where column N
    would repeat itself.
    """
    n = half.shape[1]
    full = np.zeros((2 * n, 2 * n), np.complex64)
    full[:, n:] = half
    corner = half[0, 0]
    full[n, 0], full[0, 0] = corner.real, corner.imag
    centre = half[n, 0]
    full[n, n], full[0, n] = centre.real, centre.imag
    full[n + 1 :, 0] = half[1:n, 0]
    # A(i, j) = conj(A(-i, -j)) about the centre (n, n).
    full[1:n, 0] = full[:n:-1, 0].conj()
    full[1:n, n] = full[:n:-1, n].conj()
    full[0, 1:n] = full[0, :n:-1].conj()
    full[1:, 1:n] = full[:0:-1, :n:-1].conj()
    return full


# ---- scans ---------------------------------------------------------------------------------------
class ScanFastest(BlockArray):
    """A scan stored detector pixel by detector pixel: an image ``(Rx, Ry)`` for each of them.

    Parameters
    ----------
    images : FileFrames
        ``(Qx * Qy, Rx, Ry)``.
    Q_shape : (int, int)
    """

    def __init__(self, images: FileFrames, Q_shape: tuple[int, int]) -> None:
        self._images, self._Q_shape = images, Q_shape

    @property
    def shape(self) -> Shape4:
        return (*self._images.shape[1:], *self._Q_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._images.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """Blocks of whole scan rows that are worth a walk through the whole file."""
        rx, ry, qx, qy = self.shape
        row = ry * qx * qy * self.dtype.itemsize
        return (max(1, min(rx, _BLOCK_BYTES // row)), ry, qx, qy)

    def read_block(self, rx: slice, ry: slice) -> Array:
        (qx, qy), count = self._Q_shape, (rx.stop - rx.start) * (ry.stop - ry.start)
        out = np.empty((count, qx, qy), self.dtype)
        for row in range(qx):  # one detector row at a time bounds what is touched
            images = self._images.read_frames(row * qy, (row + 1) * qy)
            out[:, row] = images[:, rx, ry].reshape(qy, count).T
        return out


def _scan(image: _Image, metadata: Metadata, allow_truncated: bool) -> Signal:
    scan_first, note = _scan_is_fastest(image)
    slow, fast = image.shape[:2], image.shape[2:]
    R, Q = (image.axes[2:], image.axes[:2]) if scan_first else (image.axes[:2], image.axes[2:])
    calibration, notes = scan_calibration(
        R, Q, energy_eV=metadata.energy_eV, semiangle_mrad=metadata.semiangle_mrad
    )
    data: BlockArray
    if scan_first:
        data = ScanFastest(_frames(image, math.prod(slow), fast, False), (slow[0], slow[1]))
    else:
        frames = _frames(image, math.prod(slow), fast, allow_truncated)
        missing = math.prod(slow) - frames.shape[0]
        if missing:
            notes += (f"{missing} positions are missing at the end of the file; they read as 0",)
        data = ScanOfFrames(frames, (slow[0], slow[1]))
    metadata = metadata.with_notes(*([note] if note else []), *notes)
    return Signal(image.name, data, calibration, metadata)


def _scan_is_fastest(image: _Image) -> tuple[bool, str]:
    """Whether the first two dimensions are the scan, and what to say where that is assumed."""
    slow, fast = (_space(image.axes[:2]), _space(image.axes[2:]))
    if slow != fast and "Q" in (slow, fast):
        return slow == "Q", ""
    if slow != fast and "R" in (slow, fast):
        return fast == "R", ""
    meta = value_at(image.tags, "ImageTags", "Meta Data")
    swapped = value_at(meta, "Data Order Swapped")
    if isinstance(swapped, bool | int):
        return not swapped, ""
    first = value_at(meta, "Format") in ("Diffraction image", "Spectrum image")
    named = "scan" if first else "detector"
    return first, f"the axes have no units that tell: assumed that the {named} is stored fastest"


def _space(axes: tuple[RawAxis, ...]) -> str:
    """``"Q"`` or ``"R"`` where the units of a pair of axes agree on it."""
    units = [a.unit or "" for a in axes]
    if all(is_reciprocal(u) or is_angle(u) for u in units):
        return "Q"
    return "R" if all(is_length(u) for u in units) else ""


# ---- metadata ------------------------------------------------------------------------------------
def _metadata(image: _Image, file: TagFile) -> Metadata:
    tags = value_at(image.tags, "ImageTags")
    created = value_at(tags, "source", "Tags at creation")
    tags = created if isinstance(created, dict) else tags
    scope = value_at(tags, "Microscope Info")
    length = number_at(scope, "STEM Camera Length") or number_at(scope, "Camera Length")
    magnification = number_at(scope, "Indicated Magnification")
    if not length and value_at(scope, "Imaging Mode") == "DIFFRACTION":
        # In diffraction without scanning the microscope gives its camera length there.
        length, magnification = magnification, None
    notes = (f"read in spite of damage: {file.damage}",) if file.damage else ()
    return Metadata(
        title=image.name,
        date=iso_date(_first_text(tags, _DATE)),
        time=iso_time(_first_text(tags, _TIME)),
        detector=_first_text(tags, _DETECTOR),
        microscope=_first_text(tags, _MICROSCOPE),
        operator=_first_text(tags, _OPERATOR),
        software=_software(tags),
        energy_eV=positive(number_at(scope, "Voltage")),
        camera_length_mm=positive(length),
        semiangle_mrad=positive(number_at(tags, *_SEMIANGLE)),
        dwell_time_s=positive(number_at(tags, "SI", "Acquisition", "Pixel time (s)")),
        exposure_s=positive(_first_number(tags, _EXPOSURE)),
        magnification=positive(magnification),
        notes=notes,
        original=file.tags,
    )


_DATE = (("SI", "Acquisition", "Date"), ("DataBar", "Acquisition Date"), ("EELS", "Date"))
_TIME = (("SI", "Acquisition", "Start time"), ("DataBar", "Acquisition Time"))
_DETECTOR = (("Acquisition", "Device", "Name"), ("DataBar", "Device Name"),
             ("DataBar", "Signal Name"))  # fmt: skip
_MICROSCOPE = (("Session Info", "Microscope"), ("Microscope Info", "Name"),
               ("Microscope Info", "Microscope"))  # fmt: skip
_OPERATOR = (("Session Info", "Operator"), ("Microscope Info", "Operator"))
_SEMIANGLE = ("EELS", "Experimental Conditions", "Convergence semi-angle (mrad)")
_EXPOSURE = (("Acquisition", "Parameters", "High Level", "Exposure (s)"),
             ("DataBar", "Exposure Time (s)"),
             ("EELS", "Acquisition", "Exposure (s)"))  # fmt: skip


def _first_text(tags: Any, paths: tuple[tuple[str, ...], ...]) -> str | None:
    for path in paths:
        value = value_at(tags, *path)
        if isinstance(value, str) and value.strip() not in ("", "[]"):
            return value.strip()
    return None


def _first_number(tags: Any, paths: tuple[tuple[str, ...], ...]) -> float | None:
    numbers = (number_at(tags, *path) for path in paths)
    return next((n for n in numbers if n), None)


def _software(tags: Any) -> str | None:
    version = _first_text(tags, (("GMS Version", "Saved"), ("GMS Version", "Created")))
    return f"DigitalMicrograph {version}" if version else None


FORMATS = (DigitalMicrograph,)
