"""EMD 0.1 and 0.2 (Berkeley, ncempy, RosettaSciIO): groups of type 1 with ``data``, ``dim1`` …"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.lazy import BlockArray, Shape4
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.core.slices import ArrayResult
from py4DSTEM.io.format import Signal
from py4DSTEM.io.hdf5.array import Hdf5Array
from py4DSTEM.io.store.read import Context, axes_of, cubes_of
from py4DSTEM.io.store.values import attribute, children, load, read_items, text
from py4DSTEM.units import is_angle, is_length, is_reciprocal

__all__ = ["emd_groups", "read_berkeley"]

_DEPTH = 6
_FACTS = ("microscope", "sample", "user", "comments")


def emd_groups(
    group: h5py.Group, prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, h5py.Group]]:
    """Groups of type 1 that hold a dataset ``data``, by path."""
    for name, node in children(group):
        if not isinstance(node, h5py.Group):
            continue
        kind = str(attribute(node, "emd_group_type", ""))
        if kind == "1" and isinstance(node.get("data"), h5py.Dataset):
            yield f"{prefix}{name}", node
        elif depth < _DEPTH:
            yield from emd_groups(node, f"{prefix}{name}/", depth + 1)


def read_berkeley(file: h5py.File, path: str) -> dict[str, Any]:
    """Every data set of a file; its name is that of its group where that is unique."""
    found = list(emd_groups(file))
    metadata = _file_metadata(file)
    leaves = [full.rpartition("/")[2] for full, _ in found]
    items: dict[str, Any] = {}
    for (full, group), leaf in zip(found, leaves, strict=True):
        name = leaf if leaves.count(leaf) == 1 else full
        items |= _data_set(group, name, path, replace(metadata, title=leaf))
    return items


def _file_metadata(file: h5py.File) -> Metadata:
    facts: dict[str, Any] = {}
    for name in _FACTS:
        node = file.get(name)
        if isinstance(node, h5py.Group):
            facts[name] = {k: attribute(node, k) for k in node.attrs} | read_items(node)
    operator = facts.get("user", {}).get("name")
    return Metadata(
        operator=str(operator) if operator else None,
        original={k: v for k, v in facts.items() if v},
    )


def _data_set(group: h5py.Group, name: str, path: str, metadata: Metadata) -> dict[str, Any]:
    dataset = group["data"]
    axes = axes_of(group, dataset.shape, 1)
    if dataset.dtype.kind not in "biufc":
        return {name: ArrayResult(_texts(load(dataset)), axes, name=name)}
    if dataset.ndim == 5 and dataset.dtype.kind != "c":
        return cubes_of(group, dataset, name, {}, Context(path, software="EMD 0.2"))
    if dataset.ndim != 4 or dataset.dtype.kind == "c":
        return {name: Signal(name, load(dataset), metadata=metadata, axes=axes)}
    order, reason = _order(axes)
    data: Any = Hdf5Array(path, dataset.name)
    if order != (0, 1, 2, 3):
        data = Rearranged(data, order)
    if reason:
        metadata = metadata.with_notes(reason)
    calibration = _calibration([axes[k] for k in order])
    return {name: Cube(data, calibration, name, metadata=metadata)}


def _texts(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind not in "OS":
        return values
    flat = np.array([text(v) for v in values.ravel()])
    return flat.reshape(values.shape)


def _calibration(axes: list[Axis]) -> Calibration:
    names = ("Rx", "Ry", "Qx", "Qy")
    rx, ry, qx, qy = (replace(a, name=n, offset=0.0) for a, n in zip(axes, names, strict=True))
    origin = [-a.offset / a.step for a in axes[2:]]
    inside = all(a.calibrated and a.offset < 0 for a in axes[2:])
    return Calibration((rx, ry), (qx, qy), origin_px=np.array(origin) if inside else None)


# ---- order of the axes ---------------------------------------------------------------------------
def _order(axes: tuple[Axis, ...]) -> tuple[tuple[int, int, int, int], str]:
    """Which stored axes are scan row, scan column, detector row and detector column.

    Programs that think in Fortran order store the detector first; units or names tell.
    """
    spaces = [_space(axis) for axis in axes]
    if spaces[:2] != ["Q", "Q"] or spaces[2:] != ["R", "R"]:
        known = "" if spaces == ["R", "R", "Q", "Q"] else (
            "the file does not say which axes are the scan: taken as (Rx, Ry, Qx, Qy)")  # fmt: skip
        return (0, 1, 2, 3), known
    named = "".join(axis.name[-1:].lower() for axis in axes[2:])
    return ((2, 3, 0, 1) if named == "yx" else (3, 2, 1, 0)), "stored with the detector axes first"


def _space(axis: Axis) -> str:
    if is_reciprocal(axis.unit) or is_angle(axis.unit):
        return "Q"
    if is_length(axis.unit):
        return "R"
    if re.fullmatch(r"(?i)[kq]_?[xy]?|d[xy]|.*detector.*", axis.name):
        return "Q"
    return "R" if re.fullmatch(r"(?i)r?_?[xy]|.*scan.*", axis.name) else ""


class Rearranged(BlockArray):
    """A scan that is stored with its axes in another order."""

    def __init__(self, stored: Hdf5Array, order: tuple[int, int, int, int]) -> None:
        self._stored, self._order = stored, order

    @property
    def shape(self) -> Shape4:
        a, b, c, d = (self._stored.shape[k] for k in self._order)
        return a, b, c, d

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._stored.dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        chunks = self._stored.chunks
        return None if chunks is None else tuple(chunks[k] for k in self._order)

    def read_block(self, rx: slice, ry: slice) -> NDArray[Any]:
        key: list[slice] = [slice(None)] * 4
        key[self._order[0]], key[self._order[1]] = rx, ry
        block = self._stored[tuple(key)].transpose(self._order)
        return block.reshape(-1, *block.shape[2:])
