"""MRC and MRCZ stacks, and the movies of Direct Electron cameras with their ``_info.txt``."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile, DependencyMissing
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import (
    RawAxis,
    axes_of,
    finite,
    iso_date,
    positive,
    scan_calibration,
)
from py4DSTEM.io.frames import FileFrames

Array = NDArray[Any]

_HEADER_BYTES = 1024
_MODES = {0: "u1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}
_COMPRESSED = 1000
_BLOSC_HEADER = struct.Struct("<4B3I")
_MAX_INFO_BYTES = 1 << 22


class Mrc(Format):
    """Stacks of frames; 3D files count as a stream of patterns, single images as images."""

    name = "mrc"
    title = "MRC stack"
    extensions = (".mrc", ".mrcs", ".mrcz", ".st", ".ali", ".rec", ".map")

    def sniff(self, source: Source) -> Match:
        head = source.head
        if len(head) < _HEADER_BYTES:
            return Match.NO
        order = _order(head)
        nx, ny, nz, mode = struct.unpack_from(f"{order}4I", head)
        if mode % _COMPRESSED not in _MODES or mode > 9999 or 0 in (nx, ny, nz):
            return Match.NO
        if head[208:212] in (b"MAP ", b"MAP\0"):
            return Match.YES
        return Match.MAYBE if source.suffix in self.extensions else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        header = _header(source)
        info = _info(source.path)
        data, notes = _frames(source, header, options.allow_truncated)
        metadata = _metadata(source, header, info)
        name = source.path.stem
        if header["nz"] == 1:
            return {name: _image(name, header, data, metadata)}
        calibration, more = _calibration(header, info, metadata)
        shape, reason = _scan_shape(info)
        metadata = metadata.with_notes(*notes, *more)
        return {
            name: Signal(
                name, data, calibration, metadata, stream=True, scan_shape=shape,
                scan_reason=reason,
            )
        }  # fmt: skip


# ---- header --------------------------------------------------------------------------------------
def _order(head: bytes) -> str:
    """Byte order: the one in which the mode, or for mode 0 the largest size, is a small number."""

    def implausible(order: str) -> tuple[bool, int]:
        *sizes, mode = struct.unpack_from(f"{order}4I", head)
        return mode > 9999, max(sizes)

    return min("<>", key=implausible)


def _header(source: Source) -> dict[str, Any]:
    head = source.head
    if len(head) < _HEADER_BYTES:
        raise CorruptFile(
            "too short for an MRC header", path=source.path, format="mrc", offset=len(head),
            expected=f"{_HEADER_BYTES} bytes", got=f"{len(head)} bytes",
        )  # fmt: skip
    order = _order(head)
    nx, ny, nz, mode = struct.unpack_from(f"{order}4I", head)
    mx, my, mz, *lengths = struct.unpack_from(f"{order}3I3f", head, 28)
    space, extended = struct.unpack_from(f"{order}iI", head, 88)
    kind = mode % _COMPRESSED
    if kind not in _MODES or min(nx, ny, nz) < 1:
        raise CorruptFile(
            "impossible sizes or data type in its header", path=source.path, format="mrc",
            offset=0, got=f"{nx} x {ny} x {nz}, mode {mode}",
            expected=f"a mode of {sorted(_MODES)}",
        )  # fmt: skip
    dtype = np.dtype(order + (_signed(head, order) if kind == 0 else _MODES[kind]))
    labels = head[224:1024].replace(b"\0", b" ").decode("latin-1").split("  ")
    return {
        "nx": nx, "ny": ny, "nz": nz, "mode": mode, "mx": mx, "my": my, "mz": mz,
        "lengths_A": lengths, "space_group": space, "extended_bytes": extended,
        "dtype": dtype.str, "labels": [x.strip() for x in labels if x.strip()],
        "order": order,
    }  # fmt: skip


def _signed(head: bytes, order: str) -> str:
    """Bytes are counts, hence unsigned, unless the smallest of them is said to be negative."""
    stamp, flags = struct.unpack_from(f"{order}2I", head, 152)
    smallest = struct.unpack_from(f"{order}f", head, 76)[0]
    imod_signed = stamp == 1146047817 and flags & 1
    return "i1" if imod_signed or smallest < 0 else "u1"


# ---- frames --------------------------------------------------------------------------------------
def _frames(
    source: Source, header: dict[str, Any], allow_truncated: bool
) -> tuple[Any, tuple[str, ...]]:
    shape = (header["nz"], header["ny"], header["nx"])
    dtype, start = np.dtype(header["dtype"]), _HEADER_BYTES + header["extended_bytes"]
    if header["mode"] >= _COMPRESSED:
        return BloscFrames(source.path, shape, dtype, start), ()
    notes: tuple[str, ...] = ()
    frame = shape[1] * shape[2] * dtype.itemsize
    if allow_truncated and start + shape[0] * frame > source.size:
        whole = max(1, (source.size - start) // frame)
        notes = (f"the file is cut off: {shape[0] - whole} of {shape[0]} frames are missing",)
        shape = (whole, *shape[1:])
    return FileFrames(source.path, shape, dtype, offset=start, format="mrc"), notes


class BloscFrames:
    """The frames of an MRCZ file: one Blosc block after the other, each with its length."""

    def __init__(
        self, path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], start: int
    ) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype
        self._places = self._index(start)
        _blosc()  # says at once what is missing

    def _index(self, start: int) -> list[tuple[int, int]]:
        """Offset and length of every block."""
        expected = self.shape[1] * self.shape[2] * self.dtype.itemsize
        size, at, places = self.path.stat().st_size, start, []
        with open(self.path, "rb") as f:
            for _ in range(self.shape[0]):
                f.seek(at)
                raw = f.read(_BLOSC_HEADER.size)
                if len(raw) < _BLOSC_HEADER.size:
                    raise self._fail("the file ends before its last frame", at)
                *_, declared, _, stored = _BLOSC_HEADER.unpack(raw)
                if declared != expected or not 16 <= stored <= size - at:
                    raise self._fail("no compressed frame where one should be", at)
                places.append((at, stored))
                at += stored
        return places

    def _fail(self, what: str, at: int) -> CorruptFile:
        return CorruptFile(what, path=self.path, format="mrc", offset=at,
                           hint="The file is damaged or was not copied completely")  # fmt: skip

    def read_frames(self, start: int, stop: int) -> Array:
        """Frames ``start … stop-1``, decompressed."""
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        with open(self.path, "rb") as f:
            for one, (at, stored) in zip(out, self._places[start:stop], strict=True):
                f.seek(at)
                raw = np.frombuffer(bytearray(f.read(stored)), np.uint8)
                try:
                    _blosc()(raw, one.reshape(-1).view(np.uint8))
                except ValueError as error:
                    raise self._fail(f"a frame cannot be decompressed: {error}", at) from error
        return out


def _blosc() -> Any:
    from py4DSTEM.io.hdf5.codecs import _blosc as decoder

    decode = decoder(())
    if decode is None:
        raise DependencyMissing("hdf5plugin", "reading compressed MRCZ files")
    return decode


# ---- meaning -------------------------------------------------------------------------------------
def _image(name: str, header: dict[str, Any], data: Any, metadata: Metadata) -> Signal:
    image = data.read_frames(0, 1)[0]
    (step_y, step_x), unit = _pixel_A(header), "A"
    axes, notes = axes_of([RawAxis("y", step_y, 0.0, unit), RawAxis("x", step_x, 0.0, unit)])
    calibration = Calibration(energy_eV=metadata.energy_eV)
    return Signal(name, image, calibration, metadata.with_notes(*notes), axes=axes)


def _pixel_A(header: dict[str, Any]) -> tuple[float, float]:
    """Pixel size along rows and columns; 0 where the header does not say."""
    x, y, _ = header["lengths_A"]
    nx, ny = header["mx"] or header["nx"], header["my"] or header["ny"]
    return y / ny, x / nx


def _calibration(
    header: dict[str, Any], info: dict[str, str], metadata: Metadata
) -> tuple[Calibration, tuple[str, ...]]:
    if not info:
        # A movie in real space and a stack of patterns look the same here.
        calibration = Calibration(energy_eV=metadata.energy_eV)
        sizes = " x ".join(f"{v:.6g}" for v in _pixel_A(header))
        return calibration, (f"pixel size {sizes} A of the header not used: say what it means "
                             "with with_calibration(...)",)  # fmt: skip
    R = [RawAxis(a, info.get(f"Specimen Pixel Size {a} (nanometers)"), 0.0, "nm")
         for a in "YX"]  # fmt: skip
    Q = [RawAxis(a, info.get(f"Diffraction Pixel Size {a}"), 0.0, "nm^-1") for a in "YX"]
    return scan_calibration(R, Q, energy_eV=metadata.energy_eV)


def _scan_shape(info: dict[str, str]) -> tuple[tuple[int, int] | None, str]:
    """Rows and columns from the info file of a raster scan."""
    if info.get("Scan - Enable") != "Enable" or info.get("Scan - Type", "Raster") != "Raster":
        return None, ""
    part = "ROI Size" if info.get("Scan - ROI Enable") == "Enable" else "Size"
    rows, columns = (finite(info.get(f"Scan - {part} {a}")) for a in "YX")
    if not rows or not columns or min(rows, columns) < 1:
        return None, ""
    return (int(rows), int(columns)), "the _info.txt beside the file"


def _info(path: Path) -> dict[str, str]:
    """What a Direct Electron camera wrote beside its movie: ``key = value`` lines."""
    found = re.fullmatch(r"(\d{8}_\d+)(_.*)?_movie\.mrc", path.name)
    if found is None:
        return {}
    names = [f"{found[1]}{found[2] or ''}_info.txt", f"{found[1]}_info.txt"]
    for name in names:
        beside = path.with_name(name)
        if beside.is_file() and beside.stat().st_size <= _MAX_INFO_BYTES:
            lines = beside.read_text("utf-8", errors="replace").splitlines()
            pairs = (line.split("=", 1) for line in lines if "=" in line)
            return {key.strip(): value.strip() for key, value in pairs}
    return {}


def _metadata(source: Source, header: dict[str, Any], info: dict[str, str]) -> Metadata:
    def number(key: str, factor: float = 1.0) -> float | None:
        return positive(info.get(key), factor)

    year = re.search(r"\b(\d{4})$", info.get("Local time", ""))
    stamp = re.match(r"(\d{4})(\d{2})(\d{2})_", source.path.name) if year else None
    time = re.search(r"\d{2}:\d{2}:\d{2}", info.get("Local time", ""))
    software = info.get("Server Software Version")
    return Metadata(
        title=source.path.stem,
        date=iso_date("-".join(stamp.groups())) if stamp else None,
        time=time[0] if time else None,
        detector=info.get("Camera Model"),
        software=f"DE Server {software}" if software else None,
        energy_eV=number("Instrument Accelerating Voltage (V)"),
        camera_length_mm=number("Instrument Project Camera Length (centimeters)", 10.0),
        dwell_time_s=number("Scan - Dwell Time (microseconds)", 1e-6),
        exposure_s=number("Exposure Time (seconds)"),
        magnification=number("Instrument Project Magnification"),
        original={"header": header, "info": info} if info else {"header": header},
    )


FORMATS = (Mrc,)
