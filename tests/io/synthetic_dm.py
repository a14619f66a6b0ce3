"""A writer of small DM3 and DM4 files, in either byte order, for tests."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CODES = {"int16": 1, "float32": 2, "complex64": 3, "uint8": 6, "int32": 7, "int8": 9,
         "uint16": 10, "uint32": 11, "float64": 12, "complex128": 13, "bool": 14, "int64": 39,
         "uint64": 40}  # fmt: skip
ITEMS = {"int16": 2, "int32": 3, "uint16": 4, "uint32": 5, "float32": 6, "float64": 7, "bool": 8,
         "int8": 9, "uint8": 10, "int64": 11, "uint64": 12}  # fmt: skip


@dataclass
class Writer:
    """Bytes of a file, and where its tags begin and end."""

    version: int = 4
    little: bool = True
    out: bytearray = field(default_factory=bytearray)
    boundaries: list[int] = field(default_factory=list)

    def word(self, value: int) -> bytes:
        return struct.pack(">Q" if self.version == 4 else ">I", value)

    def mark(self) -> None:
        self.boundaries.append(len(self.out))

    def group(self, members: Mapping[str, Any]) -> None:
        self.out += b"\x01\x00" + self.word(len(members))
        for name, value in members.items():
            self.mark()
            name = "" if name.startswith("#") else name
            self.out += bytes([20 if isinstance(value, Mapping) else 21])
            raw = name.encode("latin-1")
            self.out += struct.pack(">H", len(raw)) + raw
            if self.version == 4:
                self.out += bytes(8)
            self.mark()
            if isinstance(value, Mapping):
                self.group(value)
            else:
                self.value(value)

    def value(self, value: Any) -> None:
        order = "<" if self.little else ">"
        if isinstance(value, bool):
            words, raw = [8], bytes([value])
        elif isinstance(value, int):
            words, raw = [5], struct.pack(f"{order}I", value)
        elif isinstance(value, float):
            words, raw = [7], struct.pack(f"{order}d", value)
        elif isinstance(value, str):
            raw = value.encode("utf-16-le" if self.little else "utf-16-be")
            words = [20, 4, len(raw) // 2]
        elif value.dtype.kind == "c":
            part = 6 if value.dtype.itemsize == 8 else 7
            words = [20, 15, 0, 2, 0, part, 0, part, value.size]
            raw = value.astype(value.dtype.newbyteorder(order)).tobytes()
        else:
            words = [20, ITEMS[value.dtype.name], value.size]
            raw = value.astype(value.dtype.newbyteorder(order)).tobytes()
        self.out += b"%%%%" + self.word(len(words))
        self.mark()
        self.out += b"".join(map(self.word, words))
        self.mark()
        self.out += raw
        self.mark()

    def file(self, members: Mapping[str, Any]) -> bytes:
        self.group(members)
        body = bytes(self.out) + bytes(8)
        head = struct.pack(">I", self.version) + self.word(len(body))
        head += struct.pack(">I", int(self.little))
        self.boundaries = sorted({len(head) + b for b in self.boundaries})
        return head + body


def image(
    data: np.ndarray, axes: list[tuple[float, float, str]], tags: Mapping[str, Any] | None = None,
    name: str = "scan", code: int | None = None, shape: tuple[int, ...] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One entry of the image list; `axes` (scale, origin in pixels, unit) in array order."""
    dims = list(reversed(shape or data.shape))
    return {
        "ImageData": {
            "Calibrations": {
                "Dimension": {
                    f"#{i}": {"Origin": origin, "Scale": scale, "Units": unit}
                    for i, (scale, origin, unit) in enumerate(reversed(axes))
                }
            },
            "Data": data.ravel(),
            "DataType": CODES[data.dtype.name] if code is None else code,
            "Dimensions": {f"#{i}": n for i, n in enumerate(dims)},
            "PixelDepth": data.dtype.itemsize,
        },
        "ImageTags": dict(tags or {}),
        "Name": name,
    }


def tree(*images: dict[str, Any], thumbnail: bool = True) -> dict[str, Any]:
    """The whole tree, with a thumbnail in front of the images."""
    small = image(np.arange(16, dtype=np.int32).reshape(4, 4), [(1.0, 0.0, "")] * 2, name="thumb")
    listed = [small, *images] if thumbnail else list(images)
    members: dict[str, Any] = {"ImageList": {f"#{i}": one for i, one in enumerate(listed)}}
    if thumbnail:
        members["Thumbnails"] = {"#0": {"ImageIndex": 0}}
    members["InImageMode"] = True
    return members


def write_dm(
    path: Path, members: Mapping[str, Any], version: int = 4, little: bool = True
) -> list[int]:
    """Write a file; returns the places where a tag begins or ends."""
    writer = Writer(version, little)
    path.write_bytes(writer.file(members))
    return writer.boundaries
