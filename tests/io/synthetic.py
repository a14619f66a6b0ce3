"""Tiny writers of vendor files, for tests that need neither a microscope nor its files."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


# ---- Merlin --------------------------------------------------------------------------------------
def write_mib(
    path: Path,
    frames: Array,
    kind: str = "U16",
    *,
    depth: int = 12,
    layout: str = "1x1",
    first: int = 1,
    hdr: Mapping[str, object] | None = None,
) -> Path:
    """`frames` (n, Qx, Qy) as they shall be read back; raw mode and quads are encoded."""
    chips = 4 if layout.startswith("2x2") else 1
    stored = _raw_bytes(frames, depth, chips) if kind == "R64" else _plain_bytes(frames, kind)
    rows, columns = frames.shape[1:]
    if kind == "R64" and chips == 4:
        rows, columns = rows // 2, columns * 2
    if kind == "R64" and depth == 24:
        columns *= 2
    with open(path, "wb") as f:
        for i, payload in enumerate(stored):
            f.write(_mib_header(first + i, chips, columns, rows, kind, layout, depth) + payload)
    if hdr is not None:
        lines = ["HDR,\t", "Time and Date Stamp (day, mnth, yr, hr, min, s):\t07/05/2021 18:50:41"]
        lines += [f"{key}:\t{value}" for key, value in hdr.items()]
        path.with_suffix(".hdr").write_text("\r\n".join([*lines, "End\t"]))
    return path


def _mib_header(
    number: int, chips: int, width: int, height: int, kind: str, layout: str, depth: int
) -> bytes:
    size = 768 if chips == 4 else 384
    text = (
        f"MQ1,{number:06d},{size:05d},{chips:02d},{width:04d},{height:04d},{kind},{layout:>6},0F,"
        "2021-05-07 18:51:10.905800,0.100000,0,0,0,4.000000E+1,5.110000E+2,"
        f"MQ1A,2021-05-07T16:51:10.905800928Z,100000000ns,{depth},"
    )
    return text.encode().ljust(size, b"\0")


def _plain_bytes(frames: Array, kind: str) -> list[bytes]:
    dtype = {"U08": "u1", "U16": ">u2", "U32": ">u4", "U64": ">u8"}[kind]
    return [frame.astype(dtype).tobytes() for frame in frames]


def _raw_bytes(frames: Array, depth: int, chips: int) -> list[bytes]:
    return [_raw_frame(_side_by_side(f) if chips == 4 else f, depth) for f in frames]


def _side_by_side(frame: Array) -> Array:
    rows, columns = frame.shape[0] // 2, frame.shape[1] // 2
    one, two = frame[:rows, :columns], frame[:rows, columns:]
    three, four = frame[rows:, :columns], frame[rows:, columns:]
    return np.hstack([np.rot90(four, 2), np.rot90(three, 2), two, one])


def _raw_frame(frame: Array, depth: int) -> bytes:
    if depth == 24:
        return _raw_frame(frame >> 12, 12) + _raw_frame(frame & 4095, 12)
    out = bytearray()
    per_word, bits = {1: (64, 1), 6: (8, 8), 12: (4, 16)}[depth]
    for pixels in frame.reshape(-1, per_word).tolist():
        word = sum(int(p) << (bits * k) for k, p in enumerate(pixels))
        out += word.to_bytes(8, "big")
    return bytes(out)


# ---- EMPAD ---------------------------------------------------------------------------------------
EMPAD_XML = """<root name="acquisition_1">
<timestamp timestamp="1559820600.1" isoformat="2019-06-06T13:30:00.164675"/>
<software_version>0.51</software_version><type>scan</type>{size}
<raw_file filename="{raw}"/><exposure_time>1</exposure_time>
<camserver_parameters><camserver_connected>True</camserver_connected></camserver_parameters>
<scan_parameters mode="search"><scan_resolution_x>64</scan_resolution_x>
<scan_resolution_y>64</scan_resolution_y><scan_size>1.0</scan_size></scan_parameters>
<scan_parameters mode="acquire"><scan_resolution_x>{nx}</scan_resolution_x>
<scan_resolution_y>{ny}</scan_resolution_y><scan_size>0.5</scan_size></scan_parameters>
<iom_measurements>{field}
<source.get_voltage>200000.0</source.get_voltage>
<optics.get_cameralength>0.25</optics.get_cameralength>
<calibrated_diffraction_angle>0.0005</calibrated_diffraction_angle></iom_measurements></root>"""
OLD_FIELD = "<optics.get_full_scan_field_of_view>[6e-8, 6e-8]</optics.get_full_scan_field_of_view>"
NEW_FIELD = (
    "<full_scan_field_of_view><x>1.2e-7</x><y>1.2e-7</y><scale_factor>2.0</scale_factor>"
    "</full_scan_field_of_view>"
)


def write_empad(raw: Path, frames: Array) -> Path:
    """`frames` (n, 128, 128); the two rows that are no image are filled with large numbers."""
    stored = np.full((len(frames), 130, 128), 1e6, "<f4")
    stored[:, :128] = frames
    raw.write_bytes(stored.tobytes())
    return raw


def write_empad_xml(raw: Path, scan_shape: tuple[int, int], *, newer: bool = False) -> Path:
    """The description of `raw`; software from 1.2 on leaves the scan size to the file name."""
    ny, nx = scan_shape
    size = "" if newer else f"<pix_x>{nx}</pix_x><pix_y>{ny}</pix_y>"
    field = NEW_FIELD if newer else OLD_FIELD
    xml = raw.with_name("acquisition.xml")
    xml.write_text(EMPAD_XML.format(size=size, raw=raw.name, nx=nx, ny=ny, field=field))
    return xml


# ---- StreamPix -----------------------------------------------------------------------------------
def write_seq(path: Path, frames: Array, *, version: int = 5, allocated: int | None = None) -> Path:
    """`frames` (n, Qx, Qy) of uint8 or uint16, each followed by a time stamp and padding."""
    count, rows, columns = frames.shape
    bits = 8 * frames.itemsize
    stride = -(-(frames[0].nbytes + 8) // 512) * 512
    head = bytearray(8192 if version >= 5 else 1024)
    struct.pack_into("<I", head, 0, 0xFEED)
    head[4:24] = "Norpix seq".encode("utf-16-le")
    struct.pack_into("<ii", head, 28, version, 1024)
    struct.pack_into("<6I", head, 548, columns, rows, bits, bits, frames[0].nbytes, 100)
    struct.pack_into("<3I", head, 572, count if allocated is None else allocated, 0, stride)
    struct.pack_into("<d", head, 584, 500.0)
    body = b"".join(
        (frame.tobytes() + struct.pack("<IHH", 1660245687, 69, 646)).ljust(stride, b"\0")
        for frame in frames
    )
    path.write_bytes(bytes(head) + body)
    return path


def write_mrc_reference(path: Path, image: Array) -> Path:
    """A reference image behind an MRC header that promises more images than there are."""
    head = bytearray(1024)
    struct.pack_into("<4i", head, 0, image.shape[1], image.shape[0], 32766, 2)
    path.write_bytes(bytes(head) + image.astype("<f4").tobytes() + bytes(image.size * 4))
    return path
