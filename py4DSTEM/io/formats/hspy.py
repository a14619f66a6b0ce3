"""HyperSpy files: ``.hspy`` (HDF5) and ``.zspy`` (Zarr), which share one layout.

``Experiments/<title>`` holds ``data``, one group per axis whose attributes describe it, and the
metadata as a tree of groups and attributes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from py4DSTEM.errors import CorruptFile, FormatError
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import RawAxis
from py4DSTEM.io.formats.hyperspylike import signal_from
from py4DSTEM.io.zarr_array import ZarrScan, open_store, zarr_errors

_MAX_NODES = 20_000
_MAX_DEPTH = 32
_HDF5 = b"\x89HDF\r\n\x1a\n"


class Hspy(Format):
    """Signals saved by HyperSpy, pyxem, LiberTEM-live … in HDF5."""

    name = "hspy"
    title = "HyperSpy HDF5"
    extensions = (".hspy", ".hdf5")

    def sniff(self, source: Source) -> Match:
        if not source.head.startswith(_HDF5):
            return Match.NO
        from py4DSTEM.io.hdf5 import open_h5

        try:
            with open_h5(source.path) as file:
                known = file.get("Experiments", getclass=True) is not None
                named = "HyperSpy" in str(_attributes(file).get("file_format", ""))
        except Exception:  # another format says what is wrong with the file
            return Match.NO
        return Match.YES if known and named else Match.MAYBE if known else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        from py4DSTEM.io.hdf5 import Hdf5Array, open_h5

        signals: dict[str, Signal] = {}
        with open_h5(source.path) as file:
            for name, group in _experiments(source, file, self.name):
                path = f"Experiments/{name}/data"
                data = Hdf5Array(source.path, path, allow_external=options.allow_external)
                signals[name] = _signal(source, name, group, data, self.name)
        return signals


class Zspy(Format):
    """Signals saved by HyperSpy in a Zarr directory or zip file."""

    name = "zspy"
    title = "HyperSpy Zarr"
    extensions = (".zspy",)
    requires = ("zarr",)
    extra = "zarr"

    def sniff(self, source: Source) -> Match:
        if source.is_directory:
            inside = (source.path / "Experiments").is_dir()
            marked = any((source.path / n).is_file() for n in (".zgroup", "zarr.json"))
            return Match.YES if inside and marked else Match.NO
        if not source.head.startswith(b"PK\x03\x04"):
            return Match.NO
        return Match.YES if _zip_has(source, "Experiments/") else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        import zarr

        with zarr_errors(source.path, "its description"):
            root = zarr.open_group(open_store(source.path), mode="r")
            found = _experiments(source, root, self.name)
            return {
                name: _signal(source, name, group, ZarrScan(group["data"], source.path), self.name)
                for name, group in found
            }


def _zip_has(source: Source, start: str) -> bool:
    try:
        with zipfile.ZipFile(source.path) as archive:
            return any(name.startswith(start) for name in archive.namelist()[:1000])
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


# ---- the layout ----------------------------------------------------------------------------------
def _experiments(source: Source, root: Any, format: str) -> list[tuple[str, Any]]:
    found = root.get("Experiments") or {}
    names = [str(name) for name in list(found)[:100]]
    groups = [(name, found[name]) for name in names]
    usable = [(name, group) for name, group in groups if "data" in group]
    if not usable:
        raise CorruptFile(
            "it holds no experiment with data", path=source.path, format=format,
            expected="Experiments/<title>/data",
        )  # fmt: skip
    return usable


def _signal(source: Source, name: str, group: Any, data: Any, format: str) -> Signal:
    if np.dtype(data.dtype).kind not in "buifc":
        raise FormatError(
            f"signal {name!r} is ragged or not numeric", path=source.path, format=format,
            got=str(data.dtype), hint="Open it with HyperSpy",
        )  # fmt: skip
    raw, navigate = _axes(group, len(data.shape))
    budget = [_MAX_NODES]
    metadata = _tree(group["metadata"], budget) if "metadata" in group else {}
    original = _tree(group["original_metadata"], budget) if "original_metadata" in group else {}
    everything = {"metadata": metadata, "original_metadata": original}
    notes = data.notes() if isinstance(data, ZarrScan) else ()
    return signal_from(name, data, raw, navigate, metadata, everything, notes=notes)


def _axes(group: Any, ndim: int) -> tuple[list[RawAxis], list[bool]]:
    """Axes in array order, and which of them are navigation axes."""
    raw, navigate = [], []
    for i in range(ndim):
        attrs = _attributes(group[f"axis-{i}"]) if f"axis-{i}" in group else {}
        name, unit = _plain(attrs.get("name")), _plain(attrs.get("units"))
        # A table of positions instead of a scale is an axis that is not uniform.
        scale = attrs.get("scale", None if "axis" in attrs else 1.0)
        raw.append(RawAxis(str(name or f"dim{i}"), _plain(scale), _plain(attrs.get("offset", 0.0)),
                           None if unit is None else str(unit)))  # fmt: skip
        flag = _plain(attrs.get("navigate"))
        navigate.append(bool(flag) if flag is not None else i < ndim - 2)
    return raw, navigate


def _attributes(group: Any) -> dict[str, Any]:
    """Of a group of HDF5, where their declared sizes are checked first, or of Zarr."""
    if hasattr(group.attrs, "get_id"):
        from py4DSTEM.io.hdf5.safety import check_attribute

        for name in group.attrs:
            check_attribute(group, name)
    return dict(group.attrs)


def _tree(group: Any, budget: list[int], depth: int = 0) -> dict[str, Any]:
    """Groups and attributes as nested dictionaries; arrays are named, not read."""
    out: dict[str, Any] = {}
    if depth > _MAX_DEPTH:
        return out
    for key, value in _attributes(group).items():
        budget[0] -= 1
        if budget[0] < 0:
            return out
        out[_bare(key)] = _plain(value)
    for key in list(group):
        budget[0] -= 1
        if budget[0] < 0:
            break
        child = group[key]
        is_group = not hasattr(child, "shape")
        out[_bare(key)] = _tree(child, budget, depth + 1) if is_group else _described(child)
    return out


def _described(array: Any) -> Any:
    if array.shape == () or int(np.prod(array.shape)) <= 64:
        return _plain(array[()])
    return f"<array {tuple(array.shape)} {array.dtype}>"


def _bare(key: object) -> str:
    """Keys carry the type of their value: ``_list_3_name``, ``_sig_``, ``_datetime_date``."""
    text = str(key)
    for mark in ("_list_empty_", "_tuple_empty_", "_datetime_", "_bs_", "_list_", "_tuple_",
                 "_sig_"):  # fmt: skip
        if text.startswith(mark):
            return text.removeprefix(mark)
    return text


def _plain(value: Any) -> Any:
    """Python values; HyperSpy writes None as a string."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return None if value in ("_None_", "None", "<undefined>") else value
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()] if value.dtype.kind != "O" else str(value)
    return value


FORMATS = (Hspy, Zspy)
