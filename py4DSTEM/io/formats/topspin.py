"""TopSpin ``.app5`` files of NanoMEGAS: HDF5 with one dataset per pattern, described by XML."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.lazy import ScanOfFrames
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import RawAxis, axes_of, finite, iso_date, iso_time, scan_calibration

Array = NDArray[Any]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MAX_XML = 1 << 22


class TopSpin(Format):
    """Scanning precession diffraction scans, and the images recorded with them."""

    name = "topspin"
    title = "NanoMEGAS TopSpin"
    extensions = (".app5",)

    def sniff(self, source: Source) -> Match:
        if not source.head.startswith(_HDF5):
            return Match.NO
        from py4DSTEM.io.hdf5 import open_h5

        try:
            with open_h5(source.path) as file:
                names = [name for name in file if isinstance(name, str)]
        except Exception:  # another format says what is wrong with the file
            return Match.NO
        guids = any(_GUID.fullmatch(name) for name in names)
        return Match.YES if guids and "Version" in names else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        from py4DSTEM.io.hdf5 import open_h5

        with open_h5(source.path) as file:
            return {
                signal.name: signal
                for path, xml in _objects(file)
                for signal in [_signal(source, file, path, xml)]
            }


def _objects(file: Any) -> Iterator[tuple[str, str]]:
    """Paths of scans and images, each with the XML that describes its procedure."""
    sessions = [""] if "Metadata" in file else [n for n in file if _GUID.fullmatch(n)]
    for session in sessions:
        group = file[session] if session else file
        xml = _text(group["Metadata"]) if "Metadata" in group else ""
        for name in group:
            if _GUID.fullmatch(name):
                yield f"{session}/{name}".strip("/"), xml


def _signal(source: Source, file: Any, path: str, xml: str) -> Signal:
    node, metadata = file[path], _metadata(xml)
    name = f"{metadata.title or source.path.stem} {path.split('/')[-1][:8]}"
    if hasattr(node, "shape"):
        from py4DSTEM.io.hdf5 import Hdf5Array

        raw = _image_axes(xml, path.split("/")[-1])
        data = Hdf5Array(source.path, path)
        axes, notes = axes_of(raw if len(data.shape) == 2 else [])
        return Signal(name, data, Calibration(), metadata.with_notes(*notes), axes=axes)
    return _scan(source, node, path, name, metadata)


# ---- scans ---------------------------------------------------------------------------------------
class GroupFrames:
    """Frames that are datasets ``0/Data``, ``1/Data`` … of one group of an HDF5 file."""

    def __init__(
        self, path: Path, group: str, shape: tuple[int, int, int], dtype: np.dtype[Any]
    ) -> None:
        self.path, self.group, self.shape, self.dtype = path, group, shape, dtype
        self._lock, self._file = threading.Lock(), None

    def read_frames(self, start: int, stop: int) -> Array:
        """Frames ``start … stop-1`` as ``(stop - start, Qx, Qy)``."""
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        with self._lock:  # HDF5 reads one dataset at a time anyway
            group = self._open()[self.group]
            for one, i in zip(out, range(start, stop), strict=True):
                self._read(group, i, one)
        return out

    def _open(self) -> Any:
        if self._file is None:
            from py4DSTEM.io.hdf5 import open_h5

            self._file = open_h5(self.path)
        return self._file

    def _read(self, group: Any, i: int, out: Array) -> None:
        from py4DSTEM.io.hdf5 import check_dataset

        try:
            dataset = group[f"{i}/Data"]
            check_dataset(dataset)
            if tuple(dataset.shape) != out.shape or dataset.dtype != out.dtype:
                raise ValueError(f"{dataset.shape} {dataset.dtype}")
            dataset.read_direct(out)
        except (KeyError, ValueError, OSError, TypeError) as error:
            raise CorruptFile(
                f"pattern {i} cannot be read: {error}", path=self.path, format="topspin",
                expected=f"{self.group}/{i}/Data, {out.shape} {out.dtype}",
            ) from error  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_file")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _file=None)


def _scan(source: Source, group: Any, path: str, name: str, metadata: Metadata) -> Signal:
    count = len(group)
    try:
        first = group["0/Data"]
        shape, dtype = (int(first.shape[0]), int(first.shape[1])), first.dtype
    except (KeyError, IndexError) as error:
        raise CorruptFile(
            "a scan without its first pattern", path=source.path, format="topspin",
            expected=f"{path}/0/Data",
        ) from error  # fmt: skip
    rows, columns, R = _positions(group, count)
    xml = _text(group["0/Metadata"]) if "0/Metadata" in group else ""
    Q = [_array_axis(xml, axis) for axis in "XY"]
    calibration, notes = scan_calibration(R, Q, energy_eV=metadata.energy_eV)
    frames = GroupFrames(source.path, path, (count, *shape), dtype)
    metadata = metadata.with_notes(*notes)
    if rows * columns != count:
        return Signal(name, frames, calibration, metadata, stream=True)
    return Signal(name, ScanOfFrames(frames, (rows, columns)), calibration, metadata)


def _positions(group: Any, count: int) -> tuple[int, int, tuple[RawAxis, RawAxis]]:
    """Rows, columns and scan axes, from the beam positions of the first row and the next."""
    first = _beam(group, 0)
    columns, second = count, None
    for i in range(1, count):
        here = _beam(group, i)
        if here is None or first is None:
            break
        if here[1] != first[1]:
            columns, second = i, here
            break
    step = _beam(group, 1) if columns > 1 else None
    dx = step[0] - first[0] if step and first else None
    dy = second[1] - first[1] if second and first else dx
    x0, y0 = (first[0] * 1e9, first[1] * 1e9) if first else (0.0, 0.0)
    axes = (_nm_axis("y", dy, y0), _nm_axis("x", dx, x0))
    return max(1, count // columns), columns, axes


def _nm_axis(name: str, step_m: float | None, start_nm: float) -> RawAxis:
    if step_m is None:
        return RawAxis(name)
    # Positions carry fifteen digits; their difference is a round number.
    return RawAxis(name, round(step_m, 15) * 1e9, start_nm, "nm")


def _beam(group: Any, i: int) -> tuple[float, float] | None:
    """Requested beam position (x, y) of a pattern in metres."""
    if f"{i}/Metadata" not in group:
        return None
    text = _text(group[f"{i}/Metadata"])
    found = re.search(r"RequestedBeamPosition.*?<X\b[^>]*>([^<]*)</X>\s*<Y\b[^>]*>([^<]*)</Y>",
                      text, re.DOTALL)  # fmt: skip
    x, y = (finite(found[1]), finite(found[2])) if found else (None, None)
    return None if x is None or y is None else (x, y)


def _array_axis(xml: str, axis: str) -> RawAxis:
    """One detector axis: ``<X><Offset>…<Scale>…<Type>…<Text>Angle``."""
    found = re.search(rf"<{axis} Serializer=\"ArrayCalib[^>]*>(.*?)</{axis}>", xml, re.DOTALL)
    body = found[1] if found else ""
    unit = {"Angle": "rad"}.get(_tag(body, "Text") or "", _tag(body, "Text"))
    return RawAxis(axis, _tag(body, "Scale"), _tag(body, "Offset"), unit)


# ---- images and metadata -------------------------------------------------------------------------
def _image_axes(xml: str, guid: str) -> list[RawAxis]:
    """Axes of an image, from the calibration that follows its name; metres become nm."""
    at = xml.find(guid)
    body = xml[at : at + 4000] if at >= 0 else ""
    body = body[: body.find("</Calibration>")] if "</Calibration>" in body else ""
    axes = []
    for axis in "YX":
        found = re.search(rf"<{axis}\b[^>]*>(.*?)</{axis}>", body, re.DOTALL)
        part = found[1] if found else ""
        scale, offset = finite(_tag(part, "Scale")), finite(_tag(part, "Offset"))
        if scale is None:
            axes.append(RawAxis(axis))
        else:
            axes.append(RawAxis(axis, scale * 1e9, (offset or 0.0) * 1e9, "nm"))
    return axes


def _metadata(xml: str) -> Metadata:
    created = _tag(xml, "CreatedDateTime") or ""
    system = _tag(xml, "SystemName")
    items = dict(re.findall(
        r"<Name\b[^>]*>([^<]*)</Name>\s*<Value\b[^>]*>([^<]*)</Value>", xml
    ))  # fmt: skip
    date, _, time = created.partition(" ")
    return Metadata(
        title=_tag(xml, "Title"),
        date=iso_date(date),
        time=iso_time(time),
        detector=items.get("Camera"),
        microscope=system,
        operator=_tag(xml, "CreatedBy"),
        software="TopSpin",
        exposure_s=finite(items.get("FrameTime")) or None,
        original={"items": items, "xml": xml},
    )


def _tag(xml: str, name: str) -> str | None:
    found = re.search(rf"<{name}\b[^>/]*>([^<]*)</{name}>", xml)
    return html.unescape(found[1]).strip() if found else None


def _text(dataset: Any) -> str:
    """A string dataset, bounded."""
    if not hasattr(dataset, "shape") or dataset.shape not in ((), (1,)):
        return ""
    if dataset.dtype.kind == "S" and dataset.dtype.itemsize > _MAX_XML:
        return ""
    value = dataset[()] if dataset.shape == () else dataset[0]
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text[:_MAX_XML]


FORMATS = (TopSpin,)
