"""What an HDF5 file says beside its big arrays, as nested dictionaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from py4DSTEM.errors import CorruptFile, FormatError
from py4DSTEM.io.hdf5 import find
from py4DSTEM.io.hdf5.safety import check_attribute

__all__ = ["SIGNATURE", "described", "group_tree", "plain", "value_of"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_MAX_NODES = 5000
_MAX_DEPTH = 32
_MAX_VALUES = 64
_MAX_BYTES = 1 << 16
_INTERNAL = {"DIMENSION_LIST", "REFERENCE_LIST"}  # pointers that mean nothing outside of the file


def group_tree(file: h5py.File, name: str) -> dict[str, Any]:
    """Attributes (``@name``) and small datasets below a group; empty where there is no such group.

    Links are not followed, larger arrays are described and not read.
    """
    try:
        node = find(file, name)
    except CorruptFile:
        raise
    except FormatError:
        return {}
    return _tree(node, [_MAX_NODES]) if isinstance(node, h5py.Group) else {}


def described(dataset: h5py.Dataset) -> Any:
    """The value of a small dataset, or what a larger one is; with its attributes, if it has any."""
    attributes = dict(_attributes(dataset, [_MAX_NODES]))
    value = _value(dataset)
    return {"value": value, **attributes} if attributes else value


def value_of(tree: Mapping[str, Any], *names: str) -> Any:
    """The value at a path of a tree, whether it has attributes or not; None where there is none."""
    node: Any = tree
    for name in names:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node.get("value") if isinstance(node, Mapping) else node


def _tree(group: h5py.Group, budget: list[int], depth: int = 0) -> dict[str, Any]:
    out = dict(_attributes(group, budget))
    for name in group:
        budget[0] -= 1
        if budget[0] < 0 or depth > _MAX_DEPTH:
            break
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        child = group[name]
        if isinstance(child, h5py.Group):
            out[name] = _tree(child, budget, depth + 1)
        elif isinstance(child, h5py.Dataset):
            out[name] = described(child)
    return out


def _attributes(node: Any, budget: list[int]) -> Iterator[tuple[str, Any]]:
    for name in node.attrs:
        budget[0] -= 1
        if budget[0] < 0:
            return
        kind = node.attrs.get_id(name)
        if name in _INTERNAL:
            continue
        check_attribute(node, name)
        if kind.shape is not None and int(np.prod(kind.shape, dtype=object)) <= _MAX_VALUES:
            yield f"@{name}", plain(node.attrs[name])


def _value(dataset: h5py.Dataset) -> Any:
    if dataset.shape is None:
        return None
    count = int(np.prod(dataset.shape, dtype=object))
    here = not (dataset.external or dataset.is_virtual)
    if here and count <= _MAX_VALUES and count * dataset.dtype.itemsize <= _MAX_BYTES:
        return plain(dataset[()])
    return f"<array {dataset.shape} {dataset.dtype}>"


def plain(value: Any) -> Any:
    """Python values in place of numpy's; text in place of bytes and references."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").rstrip("\0 ")
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.tolist()]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | float | complex | bool | None) else str(value)
