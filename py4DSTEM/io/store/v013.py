"""Files of py4DSTEM 0.13: numbered kinds, metadata in ``_metadata``, stacks along the last axis."""

from __future__ import annotations

from typing import Any

import h5py

from py4DSTEM.errors import CorruptFile
from py4DSTEM.io.store.read import _KINDS, Context, _metadata, foreign
from py4DSTEM.io.store.values import MAX_DEPTH, attribute, children, read_items

__all__ = ["read_v013"]


def read_v013(file: h5py.File, path: str) -> dict[str, Any]:
    """Every object of a file by its path below the top group."""
    items: dict[str, Any] = {}
    for _, top in children(file):
        if isinstance(top, h5py.Group):
            keys = _calibration_keys(top)
            context = Context(path, keys, stack_axis=-1, bundle="_metadata",
                              software="py4DSTEM 0.13")  # fmt: skip
            items |= _walk(top, "", context, 0)
    return items


def _calibration_keys(top: h5py.Group) -> dict[str, Any]:
    """The calibration is a group of the tree, of the class of that name."""
    found = _find_calibration(top, 0)
    return {} if found is None else read_items(found)


def _find_calibration(group: h5py.Group, depth: int) -> h5py.Group | None:
    if depth > MAX_DEPTH:
        return None
    for name, node in children(group):
        if not isinstance(node, h5py.Group):
            continue
        if attribute(node, "py4dstem_class") == "Calibration" or name == "calibration":
            return node
        deeper = _find_calibration(node, depth + 1)
        if deeper is not None:
            return deeper
    return None


def _walk(group: h5py.Group, prefix: str, context: Context, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise CorruptFile("its groups are nested too deeply", path=context.path, format="EMD")
    items: dict[str, Any] = {}
    for name, node in children(group):
        kind = _KINDS.get(str(attribute(node, "emd_group_type", "")), "")
        if not isinstance(node, h5py.Group) or name.startswith("_") or kind == "metadata":
            continue
        if kind:
            bundle = _metadata(node, context.bundle)
            items |= foreign(node, kind, f"{prefix}{name}", bundle, context)
        items |= _walk(node, f"{prefix}{name}/", context, depth + 1)
    return items
