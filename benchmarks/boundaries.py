"""Where the structures of a file begin and end: the places at which copies are cut."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import h5py
from numpy.lib import format as npy

Offsets = Iterator[int]


def cuts(path: Path, most: int = 48) -> list[int]:
    """Offsets one byte before, at and one byte after boundaries, evenly chosen where too many."""
    if path.is_dir():
        return []
    size = path.stat().st_size
    found: set[int] = set(_powers(size))
    with suppress(OSError, ValueError, KeyError, struct.error, RuntimeError):
        found.update(_KINDS.get(_kind(path), _nothing)(path))
    around = sorted({at + step for at in found for step in (-1, 0, 1) if 0 <= at + step < size})
    stride = max(1, len(around) // most)
    return around[::stride][: most + 1]


def _kind(path: Path) -> str:
    head = path.open("rb").read(8)
    if head == b"\x89HDF\r\n\x1a\n":
        return "hdf5"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    if head[:4] == b"PK\x03\x04":
        return "zip"
    return path.suffix.lower().lstrip(".")


def _nothing(path: Path) -> Offsets:
    return iter(())


def _powers(size: int) -> Offsets:
    """Headers are mostly of such sizes; the end is a boundary as well."""
    at = 1
    while at < min(size, 1 << 16):
        yield at
        at *= 2
    yield size - 1


def _steps(first: int, stride: int, size: int, most: int = 12) -> Offsets:
    count = (size - first) // max(stride, 1)
    for i in {round(k * count / most) for k in range(most + 1)}:
        yield first + i * stride


def _npy(path: Path) -> Offsets:
    with path.open("rb") as f:
        npy.read_magic(f)
        shape, _, dtype = npy.read_array_header_1_0(f)
        start = f.tell()
    frame = shape[-1] * shape[-2] * dtype.itemsize if len(shape) > 1 else dtype.itemsize
    yield from (6, 8, 10)
    yield from _steps(start, frame, path.stat().st_size)


def _mib(path: Path) -> Offsets:
    fields = path.open("rb").read(64).split(b",")
    header, width, height = int(fields[2]), int(fields[4]), int(fields[5])
    bits = {b"U08": 8, b"U16": 16, b"U32": 32, b"U64": 64, b"R64": 16}[fields[6]]
    stride = header + width * height * bits // 8
    yield header
    yield from _steps(0, stride, path.stat().st_size)


def _raw(path: Path) -> Offsets:
    """Frames of the EMPAD, with and without their two rows of bookkeeping."""
    for rows in (128, 130):
        yield from _steps(0, rows * 128 * 4, path.stat().st_size)


def _blo(path: Path) -> Offsets:
    head = path.open("rb").read(32)
    _, image, data, _, size = struct.unpack_from("<HIIIH", head, 6)
    yield image
    yield from _steps(data, size * size + 6, path.stat().st_size)


def _tvips(path: Path) -> Offsets:
    head = struct.unpack("<13I", path.open("rb").read(52))
    yield from _steps(256, head[2] * head[3] * head[4] // 8 + head[12], path.stat().st_size)


def _seq(path: Path) -> Offsets:
    head = path.open("rb").read(1024)
    stride = struct.unpack_from("<I", head, 580)[0]
    for start in (1024, 8192):
        yield from _steps(start, stride, path.stat().st_size)


def _mrc(path: Path) -> Offsets:
    head = path.open("rb").read(1024)
    nx, ny, _, mode = struct.unpack_from("<4i", head)
    extended = struct.unpack_from("<i", head, 92)[0]
    size = {0: 1, 1: 2, 2: 4, 4: 8, 6: 2, 12: 2}.get(mode % 1000, 1)
    yield 1024
    yield from _steps(1024 + extended, nx * ny * size, path.stat().st_size)


def _ser(path: Path) -> Offsets:
    content = path.read_bytes()
    count, valid, table = struct.unpack_from("<3I", content, 14)
    yield from (30, table, table + 4 * count, table + 4 * valid, table + 8 * count)
    yield from struct.unpack_from(f"<{min(valid, 12)}I", content, table)


def _tiff(path: Path) -> Offsets:
    content = path.read_bytes()
    order = "<" if content[:2] == b"II" else ">"
    at = struct.unpack_from(f"{order}I", content, 4)[0]
    for _ in range(8):
        if not 0 < at < len(content) - 2:
            return
        count = struct.unpack_from(f"{order}H", content, at)[0]
        yield from (at, at + 2, at + 2 + 12 * count)
        at = struct.unpack_from(f"{order}I", content, at + 2 + 12 * count)[0]


def _signatures(content: bytes, marks: Iterable[bytes]) -> Offsets:
    for mark in marks:
        at = content.find(mark)
        while at >= 0:
            yield at
            at = content.find(mark, at + 1)


def _hdf5(path: Path) -> Offsets:
    """Object headers, heaps, B-trees and chunks."""
    marks = (b"TREE", b"HEAP", b"SNOD", b"OHDR", b"FRHP", b"FHDB", b"BTHD", b"GCOL")
    yield from _signatures(path.read_bytes(), marks)
    with h5py.File(path, "r") as file:
        found: list[int] = []
        file.visititems(lambda name, node: found.append(h5py.h5o.get_info(node.id).addr))
        yield from found


def _zip(path: Path) -> Offsets:
    return _signatures(path.read_bytes(), (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"))


def _dm(path: Path) -> Offsets:
    """Starts of tag data."""
    return _signatures(path.read_bytes(), (b"%%%%",))


def _lines(path: Path) -> Offsets:
    return _signatures(path.read_bytes(), (b"\n", b"><"))


_KINDS: dict[str, Callable[[Path], Offsets]] = {
    "npy": _npy, "mib": _mib, "raw": _raw, "blo": _blo, "tvips": _tvips, "seq": _seq,
    "mrc": _mrc, "mrcz": _mrc, "ser": _ser, "tiff": _tiff, "hdf5": _hdf5, "zip": _zip,
    "dm3": _dm, "dm4": _dm, "hdr": _lines, "xml": _lines, "rpl": _lines, "emi": _lines,
}  # fmt: skip
