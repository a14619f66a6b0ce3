"""Save values in the formats of other programs, chosen by the extension; all atomic."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import ArrayResult, Slice
from py4DSTEM.errors import DependencyMissing, ParameterError
from py4DSTEM.io.store import atomic
from py4DSTEM.io.store.write import Aligned, Streamer, scan_chunks

__all__ = ["EXPORTS", "export", "export_suffix", "write_csv"]

Array = NDArray[Any]

HYPERSPY_BYTES = 4 * 1024**3
"""Larger scans are not written to .hspy, whose writer takes them whole."""


def export_suffix(path: str | PathLike[str]) -> str | None:
    """The extension, where `export` knows it; None for the package's own files."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in EXPORTS else None


def export(
    path: str | PathLike[str], value: Any, stream: Streamer, *, scale_bar: bool | None = None
) -> None:
    """Write one value in the format that the extension names.

    Parameters
    ----------
    path : path
        ``.tif``, ``.tiff``, ``.png`` (images), ``.npy`` (anything with an array, scans streamed),
        ``.csv`` (points, records, 1-D and 2-D arrays), ``.hspy`` (HyperSpy), ``.zarr`` (scans
        streamed).
    value : Cube, slice, PointTable or ArrayResult
    stream : Streamer
        The loop over the scan.
    scale_bar : bool, optional
        Burn a scale bar into an image; None: into ``.png`` only.

    Raises
    ------
    ParameterError
        The format cannot hold the value; says which can.
    StoreError
        Writing failed; nothing was changed.
    """
    suffix = export_suffix(path)
    if suffix is None:
        raise ParameterError(f"no export to {Path(path).suffix!r}: one of {', '.join(EXPORTS)}")
    if isinstance(value, np.ndarray):
        value = ArrayResult(value)
    if isinstance(value, Mapping):
        raise ParameterError(
            f"{suffix} holds one object, not {len(value)}: save them one by one, or together in .h5"
        )
    bar = suffix == ".png" if scale_bar is None else scale_bar
    with atomic.replacing(path, folder=suffix in FOLDERS) as part:
        EXPORTS[suffix](part, value, stream, bar)


def _image(value: Any, suffix: str) -> Slice | ArrayResult:
    image = isinstance(value, Slice | ArrayResult) and value.data.ndim in (2, 3)
    if image and value.data.dtype.kind in "buif":
        found: Slice | ArrayResult = value
        return found
    raise ParameterError(
        f"{suffix} holds real images, not a {type(value).__name__} of "
        f"{getattr(value, 'shape', '?')} {getattr(value, 'dtype', '')}: use .h5 or .npy"
    )


# ---- arrays --------------------------------------------------------------------------------------
def _to_npy(part: Path, value: Any, stream: Streamer, bar: bool) -> None:
    """Scans tile by tile through a memory map; other arrays at once."""
    if not isinstance(value, Cube):
        array = value.points if isinstance(value, PointTable) else np.asarray(value.data)
        buffer = io.BytesIO()
        npy.write_array(buffer, array, allow_pickle=False)
        atomic.Guard(part, part).check(buffer.tell())
        atomic.write_bytes(part, buffer.getvalue())
        return
    dtype = value.dtype.newbyteorder("=")
    atomic.Guard(part, part).check(value.nbytes + 128)
    # Space is taken before the map is used: writing to a map on a full disk ends the process.
    with open(part, "wb") as file:
        header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": value.shape}
        npy.write_array_header_1_0(file, header)
        offset = file.tell()
        _allocate(file.fileno(), offset, value.nbytes)
    target: Array = np.memmap(part, dtype, "r+", offset, value.shape)
    for block, frames in stream(value, _as_they_are, f"export {value.name}"):
        target[block.rx, block.ry] = frames.reshape(target[block.rx, block.ry].shape)
    target.flush()  # type: ignore[attr-defined]


def _allocate(handle: int, offset: int, size: int) -> None:
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(handle, offset, size)
    else:
        os.ftruncate(handle, offset + size)


def _as_they_are(block: Any, frames: Array) -> Array:
    return frames


def _to_zarr(part: Path, value: Any, stream: Streamer, bar: bool) -> None:
    """A Zarr array (a folder), with the axes as attributes."""
    zarr = _imported("zarr", "writing .zarr", "zarr")
    if isinstance(value, PointTable):
        raise ParameterError(".zarr holds arrays, not point tables: use .h5 or .csv")
    shape = value.shape
    dtype = value.dtype.newbyteorder("=")
    chunks = scan_chunks(value) if isinstance(value, Cube) else shape
    store = zarr.create_array(store=str(part), shape=shape, dtype=dtype, chunks=chunks or None)
    axes = _axes(value)
    store.attrs["axes"] = [
        {"name": a.name, "scale": a.step, "offset": a.offset, "units": a.unit} for a in axes
    ]
    if not isinstance(value, Cube):
        store[...] = np.asarray(value.data)
        return
    aligned = value.replace(data=Aligned(value.data, scan_chunks(value)))
    for block, frames in stream(aligned, _as_they_are, f"export {value.name}"):
        height, width = block.rx.stop - block.rx.start, block.ry.stop - block.ry.start
        store[block.rx, block.ry] = frames.reshape(height, width, *value.Q_shape)


def _axes(value: Any) -> tuple[Axis, ...]:
    if isinstance(value, Cube):
        return (*value.calibration.R, *value.calibration.Q)
    axes: tuple[Axis, ...] = value.axes
    missing = len(value.shape) - len(axes)
    return (*(Axis(f"stack{k}") for k in range(missing)), *axes)


def _imported(package: str, purpose: str, extra: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise DependencyMissing(package, purpose, extra) from error


# ---- tables --------------------------------------------------------------------------------------
def _to_csv(part: Path, value: Any, stream: Streamer, bar: bool) -> None:
    write_csv(part, value)


def write_csv(part: Path, value: Any) -> None:
    """One row per point, or per row of an array."""
    with open(part, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        for row in _rows(value):
            table.writerow(row)


def _rows(value: Any) -> Iterator[Any]:
    if isinstance(value, PointTable):
        yield ("rx", "ry", *(value.dtype.names or ("value",)))
        position = np.repeat(np.arange(value.shape[0] * value.shape[1]), value.counts.ravel())
        rx, ry = np.divmod(position, max(1, value.shape[1]))
        for x, y, point in zip(rx.tolist(), ry.tolist(), value.points.tolist(), strict=True):
            yield (x, y, *(point if isinstance(point, tuple) else (point,)))
        return
    data = np.asarray(getattr(value, "data", None))
    if isinstance(value, Cube) or data.ndim not in (1, 2) or data.dtype.hasobject:
        raise ParameterError(f".csv holds tables, not a {type(value).__name__}: use .h5 or .npy")
    if data.dtype.names is not None:
        yield data.dtype.names
    yield from (row if isinstance(row, list | tuple) else [row] for row in data.tolist())


# ---- images --------------------------------------------------------------------------------------
def _to_png(part: Path, value: Any, stream: Streamer, bar: bool) -> None:
    """8 bits, from the smallest to the largest finite value; a stack side by side."""
    from PIL import Image

    image = _image(value, ".png")
    planes = image.data if image.data.ndim == 3 else image.data[None]
    grey = [_with_bar(_grey(p), _axes(image)[-1], bar) for p in planes]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(grey, axis=1)).save(buffer, format="png")
    atomic.write_bytes(part, buffer.getvalue())


def _grey(plane: Array) -> NDArray[np.uint8]:
    """Values as 0 … 255; what is not finite is black."""
    values = plane.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = values[finite].min(), values[finite].max()
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.where(finite, np.round(255 * scaled), 0).astype(np.uint8)


def _with_bar(plane: Array, axis: Axis, wanted: bool) -> Array:
    """The image with a white bar on a black strip below it, a round length long."""
    if not wanted or not axis.calibrated:
        return plane
    from PIL import Image, ImageDraw

    height, width = plane.shape
    length, label = bar_length(axis, width)
    strip = max(12, height // 16)
    picture = Image.fromarray(np.zeros((strip, max(width, 1)), np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((2, 2, 2 + length, max(4, strip // 4)), fill=255)
    draw.text((2, strip // 4 + 1), label, fill=255)
    highest = np.iinfo(plane.dtype).max if plane.dtype.kind in "iu" else float(np.nanmax(plane))
    foot = np.asarray(picture).astype(np.float64) / 255 * highest
    return np.concatenate([plane, foot.astype(plane.dtype)])


def bar_length(axis: Axis, width: int) -> tuple[int, str]:
    """Length in pixels and label of a bar of 1, 2 or 5 times a power of ten, up to a third wide.

    >>> bar_length(Axis("Ry", step=0.5, unit="nm"), 100)
    (20, '10 nm')
    """
    most = max(width / 3 * axis.step, axis.step)
    decade = 10.0 ** np.floor(np.log10(most))
    size = max(m * decade for m in (1, 2, 5) if m * decade <= most * 1.0001)
    return max(1, round(size / axis.step)), f"{size:g} {axis.unit}"


def _to_tiff(part: Path, value: Any, stream: Streamer, bar: bool) -> None:
    """Exact values, pixel size in TIFF and ImageJ tags, one page per image of a stack."""
    image = _image(value, ".tif")
    planes = image.data if image.data.ndim == 3 else image.data[None]
    exact = [_tiff_type(p) for p in planes]
    axis_y, axis_x = _axes(image)[-2:]
    pages = [_with_bar(p, axis_x, bar) for p in exact]
    text = _imagej(len(pages), axis_x)
    facts = {"name": image.name, "labels": list(getattr(image, "labels", ())),
             "axes": [[a.name, a.step, a.offset, a.unit] for a in (axis_y, axis_x)]}  # fmt: skip
    data = _tiff(pages, (axis_x, axis_y), text + "py4DSTEM=" + json.dumps(facts) + "\n")
    atomic.Guard(part, part).check(len(data))
    atomic.write_bytes(part, data)


def _tiff_type(plane: Array) -> Array:
    """The nearest type that image programs read: 8 and 16 bit counts, 32 and 64 bit floats."""
    if plane.dtype.kind == "b":
        return plane.astype(np.uint8) * 255
    if plane.dtype.kind == "f":
        return plane.astype("<f4" if plane.dtype.itemsize <= 4 else "<f8")
    return plane.astype(plane.dtype.newbyteorder("<"))


def _imagej(pages: int, axis: Axis) -> str:
    unit = {"A": "angstrom", "px": "pixel"}.get(axis.unit, axis.unit)
    lines = ["ImageJ=1.11a", f"images={pages}", f"slices={pages}", f"unit={unit}", "loop=false"]
    return "\n".join(lines) + "\n"


def _tiff(pages: list[Array], axes: tuple[Axis, Axis], description: str) -> bytes:
    """A little-endian baseline TIFF; values uncompressed, in one strip per page."""
    out = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for page in pages:
        if len(out) + page.nbytes > 0xFFFF0000:
            raise ParameterError("a TIFF file ends at 4 GB: use .npy or .h5")
        strip = len(out)
        out += page.tobytes() + b"\0" * (page.nbytes % 2)
        directory = _append_directory(out, page, axes, description, strip)
        struct.pack_into("<I", out, link, directory)
        link = len(out) - 4
    return bytes(out)


def _append_directory(
    out: bytearray, page: Array, axes: tuple[Axis, Axis], description: str, strip: int
) -> int:
    """Append the long tag values and the directory; returns where the directory begins."""
    end = len(out)
    text = description.encode() + b"\0"
    text += b"\0" * (len(text) % 2)
    ratios = b"".join(struct.pack("<II", *_resolution(axis)) for axis in axes)
    kind = {"u": 1, "i": 2, "f": 3}[page.dtype.kind]
    height, width = page.shape
    at_text, at_x = end, end + len(text)
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, page.dtype.itemsize * 8),
        (259, 3, 1, 1), (262, 3, 1, 1), (270, 2, len(text), at_text), (273, 4, 1, strip),
        (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, page.nbytes), (282, 5, 1, at_x),
        (283, 5, 1, at_x + 8), (296, 3, 1, 1), (339, 3, 1, kind),
    ]  # fmt: skip
    out += text + ratios
    start = len(out)
    out += struct.pack("<H", len(tags))
    for tag in tags:
        out += struct.pack("<HHII", *tag)
    out += b"\0\0\0\0"
    return start


def _resolution(axis: Axis) -> tuple[int, int]:
    """Pixels per unit as a fraction of two 32-bit numbers."""
    per_unit = 1.0 / axis.step
    scale = 10.0 ** max(0.0, min(9.0, 9.0 - np.ceil(np.log10(max(per_unit, 1e-9)))))
    numerator = min(max(round(per_unit * scale), 1), 0xFFFFFFFF)
    return int(numerator), int(scale)


# ---- HyperSpy ------------------------------------------------------------------------------------
def _to_hyperspy(part: Path, value: Any, stream: Streamer, bar: bool) -> None:
    """``.hspy`` through RosettaSciIO; scans are handed over lazily as they are."""
    writer = _imported("rsciio.hspy", "writing .hspy", "hyperspy")
    if isinstance(value, PointTable):
        raise ParameterError(".hspy holds arrays, not point tables: use .h5 or .csv")
    data = _loaded(value, stream)
    # RosettaSciIO adds the extension where it is missing.
    named = part.with_name(f"{part.name}.hspy")
    try:
        signal = _signal(value, data)
        writer.file_writer(str(named), signal, compression="gzip", show_progressbar=False)
        os.replace(named, part)
    finally:
        atomic.remove(named)


def _loaded(value: Any, stream: Streamer) -> Array:
    if not isinstance(value, Cube):
        return np.asarray(value.data)
    if value.nbytes > HYPERSPY_BYTES:
        raise ParameterError(
            f"a scan of {value.nbytes / 1e9:.1f} GB is too much for HyperSpy's formats, which take"
            " it whole: save it as .h5 or .zarr, which are streamed"
        )
    out: Array = np.empty(value.shape, value.dtype.newbyteorder("="))
    for block, frames in stream(value, _as_they_are, f"export {value.name}"):
        out[block.rx, block.ry] = frames.reshape(out[block.rx, block.ry].shape)
    return out


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("py4DSTEM")
    except metadata.PackageNotFoundError:
        return ""


def _signal(value: Any, data: Array) -> dict[str, Any]:
    """The dictionary that RosettaSciIO takes for a signal."""
    axes = _axes(value)
    navigation = len(axes) - 2
    return {
        "data": data,
        "axes": [
            {"_type": "UniformDataAxis", "name": axis.name, "units": axis.unit, "size": int(size),
             "scale": axis.step, "offset": axis.offset, "navigate": k < navigation,
             "is_binned": False, "index_in_array": k}
            for k, (axis, size) in enumerate(zip(axes, data.shape, strict=True))
        ],
        "metadata": {
            "General": {"title": value.name},
            "Signal": {"signal_type": ""},
            "_HyperSpy": {},
        },
        "original_metadata": {},
        "learning_results": {},
        "attributes": {"_lazy": False, "ragged": False},
        "models": {},
        "tmp_parameters": {},
        "package_info": {"package": "py4DSTEM", "package_version": _version()},
    }  # fmt: skip


EXPORTS: dict[str, Callable[[Path, Any, Streamer, bool], None]] = {
    ".tif": _to_tiff,
    ".tiff": _to_tiff,
    ".png": _to_png,
    ".npy": _to_npy,
    ".csv": _to_csv,
    ".zarr": _to_zarr,
    ".hspy": _to_hyperspy,
}
"""Extension → writer."""
FOLDERS = (".zarr",)
