"""The small things of an EMD file: strings, attributes, typed metadata, links.

Files of this family write strings as variable-length, fixed-length or bytes; all are accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import CorruptFile, FormatError
from py4DSTEM.io.hdf5.safety import check_attribute, check_dataset, storage_ok

__all__ = [
    "attribute",
    "children",
    "load",
    "read_item",
    "read_items",
    "text",
    "write_item",
]

MAX_DEPTH = 32
SMALL_BYTES = 1 << 20


def text(value: Any) -> str:
    """A string from whatever a file calls a string.

    >>> text(b"nm"), text("nm"), text(np.bytes_(b"nm")), text(np.array(["nm"], object))
    ('nm', 'nm', 'nm', 'nm')
    """
    if isinstance(value, np.ndarray):
        return text(value.ravel()[0]) if value.size else ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").rstrip("\0")
    return str(value)


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """An attribute as a plain Python value; `default` where it is missing or unreadable."""
    try:
        check_attribute(node, name)
        value = node.attrs.get(name)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return default
    if value is None or isinstance(value, h5py.Empty):
        return default
    if isinstance(value, bytes | np.bytes_ | str):
        return text(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO" and value.size == 1:
        return text(value)
    return value.item() if isinstance(value, np.generic) else value


def children(group: h5py.Group) -> Iterator[tuple[str, Any]]:
    """Members of a group; links that leave the file or lead nowhere are passed over."""
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            continue
        try:
            node = group[name]
        except KeyError:
            continue
        if isinstance(node, h5py.Group | h5py.Dataset):
            yield name, node


def load(dataset: h5py.Dataset) -> NDArray[Any]:
    """All values of a dataset that is meant to be in memory, in native byte order.

    Raises
    ------
    CorruptFile
        It declares far more than the file holds, or is damaged.
    FormatError
        Its values lie in other files.
    """
    check_dataset(dataset)
    report = storage_ok(dataset)
    if report.logical > SMALL_BYTES and not report.ok:
        raise CorruptFile(
            f"dataset {dataset.name!r} declares values that the file does not hold",
            path=dataset.file.filename,
            format="HDF5",
            expected=f"{report.logical} bytes",
            got=f"{report.stored} bytes",
            hint="The file was not completely written, or is not what it seems",
        )
    try:
        array = np.asarray(dataset[()])
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise CorruptFile(
            f"dataset {dataset.name!r} cannot be read: {error}",
            path=dataset.file.filename,
            format="HDF5",
        ) from error
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


# ---- typed metadata ------------------------------------------------------------------------------
def read_items(group: h5py.Group, depth: int = 0) -> dict[str, Any]:
    """A metadata dictionary (EMD 1.0, py4DSTEM 0.13 and h5rw trees)."""
    if depth > MAX_DEPTH:
        raise FormatError("metadata nested too deeply", path=group.file.filename, format="EMD")
    return {
        name.replace("_SLASH_", "/"): read_item(node, depth + 1) for name, node in children(group)
    }


def read_item(node: h5py.Group | h5py.Dataset, depth: int = 0) -> Any:
    """One metadata value in the type that its attribute ``type`` names."""
    kind = str(attribute(node, "type", ""))
    if isinstance(node, h5py.Group):
        return _read_sequence(node, kind, depth)
    array = load(node)
    if kind == "None":
        return None
    if array.dtype.kind in "SO" or h5py.check_string_dtype(node.dtype):
        return _read_text(array, kind)
    if kind in ("tuple", "list") and array.ndim:
        return tuple(array.tolist()) if kind == "tuple" else array.tolist()
    if kind == "bool" and array.size == 1:
        return bool(array.reshape(-1)[0])
    return array.item() if array.ndim == 0 and array.dtype.names is None else array


def _read_text(array: NDArray[Any], kind: str) -> Any:
    if array.ndim == 0:
        value = text(array.item())
        return None if value == "_None" else value
    values = [text(v) for v in array.ravel()]
    return tuple(values) if kind.startswith("tuple") else values


def _read_sequence(group: h5py.Group, kind: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise FormatError("metadata nested too deeply", path=group.file.filename, format="EMD")
    if not kind.startswith(("tuple", "list", "arraylist")):
        return read_items(group, depth)
    members = {name: read_item(node, depth + 1) for name, node in children(group)}
    order = sorted(members, key=lambda name: (not name.isdigit(), int(name or 0)
                                              if name.isdigit() else 0, name))  # fmt: skip
    values = [members[name] for name in order]
    if kind == "tuple_of_tuples":
        values = [tuple(v.tolist()) if isinstance(v, np.ndarray) else v for v in values]
    return tuple(values) if kind.startswith("tuple") else values


def write_item(group: h5py.Group, name: str, value: Any) -> None:
    """Store a string, bool, number, numeric array, sequence of strings or dictionary."""
    if isinstance(value, Mapping):
        inner = group.create_group(name)
        inner.attrs["type"] = "dict"
        for key, item in value.items():
            write_item(inner, str(key), item)
    elif isinstance(value, list | tuple) and all(isinstance(v, str) for v in value) and value:
        inner = group.create_group(name)
        inner.attrs["type"] = f"{type(value).__name__}_of_strings"
        inner.attrs["length"] = len(value)
        for k, item in enumerate(value):
            inner.create_dataset(str(k), data=item.encode("utf-8", "backslashreplace"))
    else:
        kind, data = _typed(value)
        group.create_dataset(name, data=data).attrs["type"] = kind


def _typed(value: Any) -> tuple[str, Any]:
    if value is None:
        return "None", b"_None"
    if isinstance(value, bool | np.bool_):
        return "bool", bool(value)
    if isinstance(value, str):
        return "string", value.encode("utf-8", "backslashreplace")
    if isinstance(value, np.ndarray):
        return "array", value
    if isinstance(value, list | tuple):
        return type(value).__name__, np.asarray(value, np.float64 if not value else None)
    return "number", value
