"""Any Zarr group, as a folder or a zip file, of version 2 or 3; and arrays in zip files.

As with HDF5: the 4D arrays are scans; where there are none, the 3D ones are stacks of patterns,
which ``scan_shape`` arranges. ``dataset="group/name"`` chooses anything.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile, ParameterError, UnknownFormat
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.zarr_arrays import saved_axes, saved_calibration
from py4DSTEM.io.zarr_array import ZarrScan, open_store, zarr_errors

_MARKS = ("zarr.json", ".zgroup", ".zarray")
_ZIP = b"PK\x03\x04"
_MOST_OBJECTS = 20_000
_MAX_DEPTH = 32
_MOST_LISTED = 20


class Zarr(Format):
    """Zarr that no other format knows."""

    name = "zarr-group"
    title = "Zarr (any array)"
    extensions = (".zarr", ".zip")
    requires, extra = ("zarr",), "zarr"
    generic = True

    def sniff(self, source: Source) -> Match:
        if source.is_directory:
            marked = any((source.path / name).is_file() for name in _MARKS)
            return Match.MAYBE if marked else Match.NO
        if not source.head.startswith(_ZIP):
            return Match.NO
        try:
            with zipfile.ZipFile(source.path) as archive:
                known = set(_MARKS) & set(archive.namelist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            # Its directory is gone: the first entry still says what it was.
            known = {name for name in _MARKS if name.encode() in source.head[30:60]}
        return Match.MAYBE if known else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        import zarr

        with zarr_errors(source.path, "its description"):
            root = zarr.open(open_store(source.path), mode="r")
            found = dict(_arrays(root, source))
        names = _chosen(source, found, options.dataset)
        return {name: _signal(source, name, found[key], options) for name, key in names.items()}


def _arrays(root: Any, source: Source) -> Iterator[tuple[str, Any]]:
    """All arrays below a node, by path."""
    todo: list[tuple[str, Any, int]] = [("", root, 0)]
    count = 0
    while todo:
        name, node, depth = todo.pop()
        count += 1
        if count > _MOST_OBJECTS or depth > _MAX_DEPTH:
            raise CorruptFile("it has too many or too deep groups", path=source.path, format="Zarr")
        if hasattr(node, "shape"):
            yield name or source.path.name.split(".")[0], node
        else:
            members = sorted(node.members(), reverse=True)
            todo += [(f"{name}/{key}".strip("/"), child, depth + 1) for key, child in members]


def _chosen(source: Source, found: Mapping[str, Any], dataset: str | None) -> dict[str, str]:
    """What to read, by the name it gets: the asked array, the 4D ones, else the 3D ones."""
    if dataset is not None:
        if dataset.strip("/") not in found:
            listed = ", ".join(map(repr, found))
            raise ParameterError(f"{source.path} has no data set {dataset!r}, only {listed}")
        return {dataset: dataset.strip("/")}
    for dims in (4, 3):
        names = [n for n, a in found.items() if len(a.shape) == dims and _is_real(a)]
        if names:
            return dict(zip(names, names, strict=True))
    lines = [f"{name} {array.shape} {array.dtype}" for name, array in found.items()]
    raise UnknownFormat(
        "a Zarr store without a 4D or 3D array of real numbers", path=source.path,
        format=Zarr.name, got="; ".join(lines[:_MOST_LISTED]) or "no array at all",
        hint='dataset="name" chooses another one' if found else None,
    )  # fmt: skip


def _is_real(array: Any) -> bool:
    return np.dtype(array.dtype).kind in "buif" and 0 not in array.shape


def _signal(source: Source, name: str, array: Any, options: ReadOptions) -> Signal:
    data = ZarrScan(array, source.path)
    data.check_loadable(options.scan_shape)
    with zarr_errors(source.path, "its attributes"):
        attributes = dict(array.attrs)
    axes = saved_axes(attributes.get("axes"), data.ndim)
    calibration = saved_calibration(axes) if len(axes) == 4 else Calibration()
    metadata = Metadata(notes=data.notes(), original=attributes)
    return Signal(name, data, calibration, metadata, axes=axes)


FORMATS = (Zarr,)
