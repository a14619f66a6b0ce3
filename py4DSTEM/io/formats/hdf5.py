"""Any HDF5 file: its 4D datasets are scans, its 3D datasets stacks of patterns.

``read(path)`` gives the 4D datasets, or the 3D ones where there are none; ``scan_shape`` arranges
those as a scan. ``dataset="group/name"`` chooses anything. Pixel sizes are taken from dimension
scales with units and from nothing else; what the file says otherwise is in ``metadata.original``.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile, ParameterError, UnknownFormat
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import RawAxis, axes_of, scan_calibration
from py4DSTEM.io.formats.h5tree import SIGNATURE, described, group_tree, plain
from py4DSTEM.io.hdf5 import (
    DatasetInfo,
    Hdf5Array,
    is_hdf5,
    open_dataset,
    open_h5,
    storage_ok,
    walk_datasets,
)
from py4DSTEM.io.hdf5.array import fill_value
from py4DSTEM.io.hdf5.chunks import ChunkGrid
from py4DSTEM.io.hdf5.safety import external_links, find

LARGEST_ARRAY = 1 << 30
"""Bytes of a dataset that is no scan and would be loaded as a whole."""
_LONGEST_SCALE = 1 << 20
_MOST_LISTED = 20
_SMALL = 1 << 20


class Hdf5(Format):
    """HDF5 that no other format knows."""

    name = "hdf5"
    title = "HDF5 (any dataset)"
    extensions = (".h5", ".hdf5", ".hdf", ".he5", ".h5oina", ".nxs")
    generic = True

    def sniff(self, source: Source) -> Match:
        if source.is_directory:
            return Match.NO
        if source.head.startswith(SIGNATURE):
            return Match.MAYBE
        # The signature may follow a block of the user, at 512 bytes, 1 kB, 2 kB …
        behind = source.suffix in self.extensions or SIGNATURE in source.head
        return Match.MAYBE if behind and is_hdf5(source.path) else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        if options.dataset is not None:
            return {options.dataset: _signal(source, options.dataset, options)}
        with open_h5(source.path) as file:
            walk = walk_datasets(file, allow_external=options.allow_external)
            found = {name.lstrip("/"): info for name, info in walk}
            if not found:
                _follow_links(file, options)
        return {name: _signal(source, name, options) for name in _worth_reading(source, found)}


def _follow_links(file: h5py.File, options: ReadOptions) -> None:
    """Say why the links of a file without any dataset of its own were passed over."""
    for name in external_links(file):
        owner = find(file, name, allow_external=options.allow_external).file
        owner.close()


def _worth_reading(source: Source, found: Mapping[str, DatasetInfo]) -> list[str]:
    """The 4D datasets of real numbers, else the 3D ones."""
    for dims in (4, 3):
        names = [n for n, i in found.items() if len(i.shape) == dims and _is_real(i)]
        if names:
            return names
    raise UnknownFormat(
        "an HDF5 file without a 4D or 3D dataset of real numbers", path=source.path,
        format=Hdf5.name, got=_listed(found),
        hint='dataset="name" chooses another one' if found else None,
    )  # fmt: skip


def _is_real(info: DatasetInfo) -> bool:
    return info.dtype is not None and info.dtype.kind in "buif" and 0 not in info.shape


def _listed(found: Mapping[str, DatasetInfo]) -> str:
    lines = [f"{name} {info.shape} {info.dtype}" for name, info in found.items()]
    more = [f"… {len(lines) - _MOST_LISTED} more"] if len(lines) > _MOST_LISTED else []
    return "; ".join(lines[:_MOST_LISTED] + more) or "no dataset at all"


# ---- one dataset ---------------------------------------------------------------------------------
def _signal(source: Source, name: str, options: ReadOptions) -> Signal:
    with open_dataset(source.path, name, allow_external=options.allow_external) as dataset:
        _check_size(source, name, dataset, options)
        raw, doubts = _raw_axes(dataset)
        facts = described(dataset)
        notes = (*_storage_notes(dataset), *doubts)
    metadata = Metadata(original=_original(source, name, facts))
    data = Hdf5Array(source.path, name, allow_external=options.allow_external)
    if len(raw) == 4:
        calibration, refused = scan_calibration(raw[:2], raw[2:])
        return Signal(name, data, calibration, metadata.with_notes(*notes, *refused))
    if len(raw) == 3 and options.scan_shape is not None:
        calibration, refused = scan_calibration([RawAxis("")] * 2, raw[1:])
        return Signal(name, data, calibration, metadata.with_notes(*notes, *refused))
    axes, refused = axes_of(raw)
    return Signal(name, data, Calibration(), metadata.with_notes(*notes, *refused), axes=axes)


def _check_size(source: Source, name: str, dataset: h5py.Dataset, options: ReadOptions) -> None:
    """Refuse to load as a whole what is too large or not there."""
    dims = 0 if dataset.shape is None else len(dataset.shape)
    if dims == 4 or (dims == 3 and options.scan_shape is not None):
        return
    logical, stored, believable = storage_ok(dataset)
    if logical > _SMALL and not believable:
        raise CorruptFile(
            f"dataset {name!r} declares values that the file does not hold", path=source.path,
            format=Hdf5.name, expected=f"{logical} bytes", got=f"{stored} bytes",
            hint="It was probably never written",
        )  # fmt: skip
    if logical > LARGEST_ARRAY:
        stack = "; if it is a stack of patterns, give scan_shape=(rows, columns)"
        raise ParameterError(
            f"{source.path}: dataset {name!r} of shape {dataset.shape} would take "
            f"{logical / 1e9:.1f} GB of memory{stack if dims == 3 else ''}"
        )


def _storage_notes(dataset: h5py.Dataset) -> Iterator[str]:
    """What was never written reads as the fill value; that must be told."""
    if dataset.chunks is None or dataset.is_virtual:
        return
    total = ChunkGrid.of(dataset.shape, dataset.chunks).size
    written = int(dataset.id.get_num_chunks())
    if written < total:
        fill = plain(fill_value(dataset))
        yield f"{total - written} of {total} chunks were never written and read as {fill}"


def _original(source: Source, name: str, facts: Any) -> dict[str, Any]:
    """The description of the dataset and of what lies in its group."""
    group = posixpath.dirname(name.strip("/"))
    with open_h5(source.path) as file:
        return {"dataset": facts, "group": group_tree(file, group)}


# ---- axes ----------------------------------------------------------------------------------------
def _raw_axes(dataset: h5py.Dataset) -> tuple[list[RawAxis], list[str]]:
    """One axis per dimension, and notes; uncalibrated unless both of a pair agree on a unit."""
    axes = [_raw_axis(dataset, k) for k in range(dataset.ndim)]
    notes = []
    pairs = ((0, 1), (2, 3)) if dataset.ndim == 4 else ((dataset.ndim - 2, dataset.ndim - 1),)
    for i, j in pairs if dataset.ndim > 1 else ():
        if axes[i].unit != axes[j].unit:
            notes.append(f"axes {i} and {j} have different units: left uncalibrated")
            axes[i], axes[j] = RawAxis(axes[i].name), RawAxis(axes[j].name)
    return axes, notes


def _raw_axis(dataset: h5py.Dataset, k: int) -> RawAxis:
    """An axis with a dimension scale in known units and equal steps; else one in pixels."""
    if "DIMENSION_LIST" not in dataset.attrs:
        return RawAxis(f"dim{k}")
    dimension = dataset.dims[k]
    name = str(dimension.label or f"dim{k}")
    if len(dimension) != 1:
        return RawAxis(name)
    scale = dimension[0]
    unit = plain(scale.attrs.get("units"))
    values = _scale_values(scale, int(dataset.shape[k]))
    if values is None or not isinstance(unit, str) or not unit.strip():
        return RawAxis(name)
    step = (values[-1] - values[0]) / (len(values) - 1)
    even = np.allclose(np.diff(values), step, rtol=1e-3, atol=0)
    return RawAxis(name, float(step), float(values[0]), unit) if even else RawAxis(name)


def _scale_values(scale: h5py.Dataset, length: int) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    here = not (scale.external or scale.is_virtual)
    if not here or scale.shape != (length,) or not 2 <= length <= _LONGEST_SCALE:
        return None
    if scale.dtype.kind not in "iuf":
        return None
    values = np.asarray(scale[()], np.float64)
    return values if math.isfinite(float(values.sum())) else None


FORMATS = (Hdf5,)
