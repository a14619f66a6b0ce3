"""EMPAD: ``.raw`` frames of 130 x 128 float32, of which 128 rows are the image, and their ``.xml``.

Either file may be opened.  The scan size stands in the XML and in the name of the raw file
(``scan_x<columns>_y<rows>.raw``); they and the number of frames must agree, so that a truncated
file is never taken for a smaller scan.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile, FormatError
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.frames import FileFrames, count_frames
from py4DSTEM.io.safe_xml import Element, read_xml

ROWS, COLUMNS, STORED_ROWS = 128, 128, 130
FRAME_BYTES = STORED_ROWS * COLUMNS * 4
IMAGE_BYTES = ROWS * COLUMNS * 4
MAX_XML_LOOKED_AT = 200
MAX_SIDE = 2**20
_SCAN_NAME = re.compile(r"scan_x(\d{1,7})_y(\d{1,7})", re.ASCII)
_SERIES_NAME = re.compile(r"series_x(\d{1,9})", re.ASCII)


class Empad(Format):
    """Scans and series of the Electron Microscope Pixel Array Detector (first generation)."""

    name = "empad"
    title = "EMPAD"
    extensions = (".xml", ".raw")

    def sniff(self, source: Source) -> Match:
        if _is_xml(source.head):
            return Match.YES
        if source.suffix != ".raw":
            return Match.NO
        if _named(source.path.name) is not None:
            return Match.MAYBE  # whatever its size: a truncated scan must be called one
        square = _is_square(source.size // FRAME_BYTES)
        whole = source.size % FRAME_BYTES == 0
        return Match.MAYBE if whole and square and _is_float(source.head) else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        xml_path, raw = _both_files(source)
        root = read_xml(xml_path, self.name) if xml_path is not None else None
        scan = _scan_shape(root, raw.path.name)
        count, notes = count_frames(
            raw.path, raw.size, offset=0, stride=FRAME_BYTES, format=self.name,
            allow_truncated=options.allow_truncated,
        )  # fmt: skip
        notes += _agreement(raw, count, scan, options.allow_truncated)
        if root is None:
            notes += ("no .xml beside the .raw describes it: no metadata, no calibration",)
        calibration, more = _calibration(root, scan)
        name = source.path.stem
        metadata = _metadata(name, root).with_notes(*notes, *more)
        frames = FileFrames(
            raw.path, (count, ROWS, COLUMNS), "<f4",
            stride_bytes=FRAME_BYTES, stored_bytes=IMAGE_BYTES, format=self.name,
        )  # fmt: skip
        signal = Signal(
            name, frames, calibration, metadata,
            stream=True, scan_shape=scan.shape, scan_reason=scan.reason,
        )  # fmt: skip
        return {name: signal}


# ---- recognising the files -----------------------------------------------------------------------
def _is_xml(head: bytes) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.startswith(b"<") or b"<root" not in head:
        return False
    return any(mark in head for mark in (b"<raw_file", b"<reconstructions", b"<camserver"))


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def _is_float(head: bytes) -> bool:
    """Whether the first numbers look like float32 intensities rather than like integers."""
    values = np.frombuffer(head[: len(head) // 4 * 4], "<f4").astype(np.float64)
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    plausible = (sizes > 1e-12) & (sizes < 1e12)
    return bool(np.isfinite(values).mean() > 0.9 and plausible.mean() > 0.9) if sizes.size else True


def _named(name: str) -> tuple[int, int] | None:
    """(rows, columns) from the name of a raw file; a series is one row."""
    scan, series = _SCAN_NAME.search(name), _SERIES_NAME.search(name)
    if scan:
        return int(scan[2]), int(scan[1])
    return (1, int(series[1])) if series else None


def _both_files(source: Source) -> tuple[Path | None, Source]:
    """The XML (None where there is none) and the raw file."""
    if not _is_xml(source.head):
        return _xml_of(source.path), source
    root = read_xml(source.path, "empad")
    named = root.find("raw_file")
    name = (named.attributes.get("filename") or named.text) if named is not None else ""
    # Only beside the XML: a description must not make us open files elsewhere.
    base = re.split(r"[\\/]", name.strip())[-1]
    if not base or base in (".", ".."):
        raise CorruptFile(
            "it does not name its raw file", path=source.path, format="empad",
            expected='<raw_file filename="….raw"/>',
        )  # fmt: skip
    return source.path, _raw_beside(source.path, base)


def _raw_beside(xml: Path, base: str) -> Source:
    for name in (base, f"{xml.stem}.raw"):
        if (xml.parent / name).is_file():
            return Source.of(xml.parent / name)
    raise CorruptFile(
        "the raw file that it describes is not beside it",
        path=xml, format="empad", expected=base, got="no such file",
        hint="Put both files into one folder",
    )  # fmt: skip


def _xml_of(raw: Path) -> Path | None:
    """The EMPAD description beside a raw file that names it."""
    found = sorted(e.name for e in os.scandir(raw.parent) if e.name.lower().endswith(".xml"))
    # The description most likely has the name of the raw file, or one of the first.
    found.sort(key=lambda name: Path(name).stem != raw.stem)
    for name in found[:MAX_XML_LOOKED_AT]:
        if _describes(raw.parent / name, raw):
            return raw.parent / name
    return None


def _describes(xml: Path, raw: Path) -> bool:
    try:
        return _is_xml(Source.of(xml).head) and _both_files(Source.of(xml))[1].path == raw
    except (FormatError, OSError):
        return False


# ---- scan shape ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Scan:
    """Rows and columns as far as known, and where they come from."""

    shape: tuple[int, int] | None
    reason: str = ""


def _scan_shape(root: Element | None, raw_name: str) -> Scan:
    """From the XML, else from the name of the raw file (newer software says it only there)."""
    if root is not None:
        series = _positive_int(root, "count") or _positive_int(
            root, "scan_parameters", "series_count"
        )
        rows, columns = _positive_int(root, "pix_y"), _positive_int(root, "pix_x")
        if rows and columns:
            return Scan((rows, columns), "pix_y and pix_x in the .xml")
        if root.value("type") == "series" and series:
            return Scan((1, series), "the count of the series in the .xml")
    named = _named(raw_name)
    if named is not None and min(named) > 0 and max(named) <= MAX_SIDE:
        return Scan(named, "the name of the raw file")
    return Scan(None)


def _positive_int(root: Element, *path: str) -> int | None:
    text = root.value(*path) or ""
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 8 else 0
    return value if 0 < value <= MAX_SIDE else None


def _agreement(raw: Source, count: int, scan: Scan, allow_truncated: bool) -> tuple[str, ...]:
    """Notes on frames too few or too many; refuses a file with too few."""
    if scan.shape is None:
        return ("nothing says how large the scan was: a file cut short cannot be recognised",)
    rows, columns = scan.shape
    if count < rows * columns and not allow_truncated:
        raise CorruptFile(
            "frames are missing at the end",
            path=raw.path, format="empad", offset=raw.size,
            expected=f"{rows} x {columns} frames ({scan.reason})", got=f"{count} frames",
            hint="Copied incompletely, or stopped early: allow_truncated=True reads what is there",
        )  # fmt: skip
    if count < rows * columns:
        return (f"only {count} of {rows * columns} frames are in the file",)
    return ()


# ---- calibration and metadata --------------------------------------------------------------------
def _calibration(root: Element | None, scan: Scan) -> tuple[Calibration, tuple[str, ...]]:
    """Pixel sizes and energy, and notes on how the scan step was found."""
    calibration = Calibration()
    if root is None:
        return calibration, ()
    measured = root.find("iom_measurements") or Element("")
    calibration = calibration.replace(energy_eV=_energy_eV(measured))
    angle = measured.number("calibrated_diffraction_angle")
    # `calibrated_pixelsize` is a length that follows the field of view, not a reciprocal one.
    if angle is not None and 0 < angle < 1:
        calibration = calibration.replace(Q_pixel_size=angle * 1e3, Q_pixel_units="mrad")
    step, note = _step_A(root, measured, scan)
    if step is not None:
        calibration = calibration.replace(R_pixel_size=step, R_pixel_units="A")
    return calibration, note


def _step_A(
    root: Element, measured: Element, scan: Scan
) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Scan steps (x, y) in Å: the part of the full field of view that was scanned, per pixel."""
    field = _field_of_view_m(measured, scan)
    if field is None or scan.shape is None:
        return None, ()
    size = _scan_size(root, scan)
    if size is None:
        return None, ("the .xml does not say which part of the field was scanned: no scan step",)
    x, y = (f * size / n * 1e10 for f, n in zip(field, scan.shape, strict=True))
    return (x, y), (
        f"scan step = full field of view x {size:g} (scan_size) / longer side of the scan",
    )


def _field_of_view_m(measured: Element, scan: Scan) -> tuple[float, float] | None:
    """Full field of view along rows and columns, in metres."""
    newer = measured.find("full_scan_field_of_view")
    if newer is not None and scan.shape is not None:
        # Version 1.2 writes the field of the longer side, multiplied by a factor of the instrument.
        side, factor = newer.number("x"), newer.number("scale_factor") or 1.0
        if side is None or side <= 0 or factor <= 0:
            return None
        x, y = (side / factor * n / max(scan.shape) for n in scan.shape)
        return x, y
    try:
        pair = json.loads(measured.value("optics.get_full_scan_field_of_view") or "null")
        columns, rows = (float(v) for v in pair)
    except (ValueError, TypeError, RecursionError):
        return None
    if not all(0 < v < 1 for v in (columns, rows)):
        return None
    if rows == columns and scan.shape is not None:
        # A square field holds the longer side of the scan: pixels are square.
        rows, columns = (columns * n / max(scan.shape) for n in scan.shape)
    return rows, columns


def _scan_size(root: Element, scan: Scan) -> float | None:
    """Scanned part of the field: that of the scan with our size, or the one all agree on."""
    modes = list(root.all("scan_parameters"))
    sizes = {m.number("scan_size") for m in modes} - {None}
    same = [
        m.number("scan_size")
        for m in modes
        if (m.number("scan_resolution_y"), m.number("scan_resolution_x")) == scan.shape
    ]
    size = next(iter(sizes)) if len(sizes) == 1 else (same[0] if len(same) == 1 else None)
    return size if size is not None and 0 < size <= 1 else None


def _energy_eV(measured: Element) -> float | None:
    volts = measured.number("source.get_voltage")
    return volts if volts is not None and 1e3 < volts < 1e7 else None


def _metadata(name: str, root: Element | None) -> Metadata:
    if root is None:
        return Metadata(title=name, detector="EMPAD")
    measured = root.find("iom_measurements") or Element("")
    length = measured.number("optics.get_cameralength")
    exposure = root.number("exposure_time")
    software = root.value("software_version")
    date, time = _when(root)
    return Metadata(
        title=name,
        date=date,
        time=time,
        detector="EMPAD",
        software=f"EMPAD {software}" if software else None,
        energy_eV=_energy_eV(measured),
        camera_length_mm=length * 1e3 if length is not None and length > 0 else None,
        exposure_s=exposure * 1e-3 if exposure is not None and exposure > 0 else None,
        original={"xml": root.tree()},
    )


def _when(root: Element) -> tuple[str | None, str | None]:
    stamp = root.find("timestamp")
    try:
        when = datetime.fromisoformat(stamp.attributes["isoformat"] if stamp is not None else "")
    except (ValueError, KeyError):
        return None, None
    return when.date().isoformat(), when.time().replace(microsecond=0).isoformat()


FORMATS = (Empad,)
