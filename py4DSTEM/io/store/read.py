"""Values from the groups of a file in the EMD 1.0 layout: ours and those of py4DSTEM 0.14."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History, Step
from py4DSTEM.core.lazy import BlockArray, Shape4
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import ArrayResult, DiffractionSlice, RealSlice
from py4DSTEM.errors import CorruptFile, FormatError, Py4DSTEMError, Py4DSTEMWarning
from py4DSTEM.io.hdf5.array import Hdf5Array
from py4DSTEM.io.store.calib import from_keys, plain_unit, same_keys
from py4DSTEM.io.store.migrate import migrated
from py4DSTEM.io.store.plain import loads
from py4DSTEM.io.store.ragged import read_ragged
from py4DSTEM.io.store.schema import EXTRAS, result_kind
from py4DSTEM.io.store.values import MAX_DEPTH, attribute, children, load, read_items, text

__all__ = ["Context", "array_value", "axes_of", "cubes_of", "points_of", "read_emd1", "table_of"]

Items = dict[str, Any]

REAL = frozenset({"RealSlice", "VirtualImage", "StrainMap"})
DIFFRACTION = frozenset(
    {"DiffractionSlice", "VirtualDiffraction", "DiffractionImage", "Probe", "BraggVectorMap"}
)
_FIRST_FIELDS = ("qx", "qy", "intensity", "x", "y")


@dataclass(frozen=True, eq=False)
class Context:
    """What a group inherits from the file and from the groups above.

    Parameters
    ----------
    path : str
    keys : mapping
        The calibration dictionary that applies here.
    shared : Calibration, optional
        Our exact copy of it, where the file still agrees with it.
    stack_axis : int
        Where stacks have their images: first (EMD 1.0), or last (before).
    bundle : str
        Name of the group that holds the metadata.
    array : callable
        ``(path, dataset)`` → lazy array.
    """

    path: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    shared: Calibration | None = None
    stack_axis: int = 0
    bundle: str = "metadatabundle"
    software: str = "py4DSTEM 0.14"
    array: Callable[[str, str], Any] = Hdf5Array

    def calibration(
        self, R_shape: tuple[int, int] | None = None
    ) -> tuple[Calibration, tuple[str, ...]]:
        """The calibration of an object here, and notes on it."""
        if self.shared is not None:
            return self.shared, ()
        return from_keys(self.keys, R_shape)


def read_emd1(file: h5py.File, path: str, array: Callable[[str, str], Any] = Hdf5Array) -> Items:
    """Every object of a file by its path below the root; scans are lazy arrays."""
    roots = [
        (name, node)
        for name, node in children(file)
        if isinstance(node, h5py.Group) and attribute(node, "emd_group_type") == "root"
    ]
    found = [(name, _read_root(root, path, array)) for name, root in roots]
    names = [name for _, items in found for name in items]
    unique = len(set(names)) == len(names)
    return {
        name if unique else f"{root}/{name}": value
        for root, items in found
        for name, value in items.items()
    }


def _read_root(root: h5py.Group, path: str, array: Callable[[str, str], Any]) -> Items:
    bundle = _metadata(root, "metadatabundle")
    keys = bundle.get("calibration", {})
    facts = _facts(bundle)
    exact = facts.get("calibration")
    shared = exact if isinstance(exact, Calibration) and same_keys(keys, exact) else None
    return _below(root, Context(path, keys, shared, array=array), "", 0)


def _below(group: h5py.Group, context: Context, prefix: str, depth: int) -> Items:
    """Objects of the groups in a group, in the order in which they were saved."""
    if depth > MAX_DEPTH:
        raise CorruptFile("its groups are nested too deeply", path=context.path, format="EMD")
    found: list[tuple[int, Items]] = []
    for name, node in children(group):
        kind = str(attribute(node, "emd_group_type", ""))
        if not isinstance(node, h5py.Group) or kind in ("", "metadatabundle", "metadata"):
            continue
        if kind.startswith("custom_"):
            continue
        bundle = _metadata(node, context.bundle)
        facts = _facts(bundle)
        known = str(facts.get("key", name))
        items = _node(node, kind, f"{prefix}{known}", facts, bundle, context, depth)
        found.append((int(facts.get("index", 1 << 30)), items))
    return {name: value for _, items in sorted(found, key=lambda f: f[0])
            for name, value in items.items()}  # fmt: skip


def _node(
    node: h5py.Group,
    kind: str,
    name: str,
    facts: Mapping[str, Any],
    bundle: Mapping[str, Any],
    context: Context,
    depth: int,
) -> Items:
    """The object of one group, and those below it."""
    if facts.get("kind") == "result":
        return _result(node, name, facts, context, depth)
    builder = _BUILDERS.get(str(facts.get("kind")))
    if builder is not None:
        own: Items = {name: builder(node, facts, context)}
    else:
        own = foreign(node, kind, name, bundle, context)
    return own | _below(node, context, f"{name}/", depth + 1)


# ---- metadata ------------------------------------------------------------------------------------
def _metadata(group: h5py.Group, bundle: str) -> dict[str, Any]:
    """The metadata dictionaries of a group by name."""
    found = group.get(bundle, getlink=True)
    if not isinstance(found, h5py.HardLink) or not isinstance(group[bundle], h5py.Group):
        return {}
    return {
        name: read_items(node)
        for name, node in children(group[bundle])
        if isinstance(node, h5py.Group)
    }


def _facts(bundle: dict[str, Any]) -> dict[str, Any]:
    """Our own metadata, in today's schema; removed from `bundle`."""
    extras = bundle.pop(EXTRAS, None)
    if not isinstance(extras, dict) or "json" not in extras:
        return {}
    try:
        facts = loads(str(extras["json"]), extras)
        return migrated(facts, int(extras.get("schema", 1)))
    except (ValueError, TypeError, KeyError, Py4DSTEMError) as error:
        warnings.warn(
            f"the py4DSTEM metadata of an object are damaged ({error}): "
            "read as other programs would",
            Py4DSTEMWarning,
            stacklevel=2,
        )
        return {}


def _steps(bundle: Mapping[str, Any], context: Context) -> History:
    """Metadata dictionaries of other versions as steps: how the object was made."""
    steps = tuple(Step(f"{context.software}:{name}", 0, v) for name, v in bundle.items())
    return History(steps)


# ---- our own objects -----------------------------------------------------------------------------
def _own_calibration(facts: Mapping[str, Any], context: Context) -> Calibration:
    found = facts.get("calibration")
    return found if isinstance(found, Calibration) else context.calibration()[0]


def _common(facts: Mapping[str, Any]) -> dict[str, Any]:
    history = facts.get("history")
    return {
        "name": str(facts.get("name", "")),
        "history": history if isinstance(history, History) else History(),
    }


def _own_cube(node: h5py.Group, facts: Mapping[str, Any], context: Context) -> Cube:
    data = context.array(context.path, f"{node.name}/data")
    metadata = facts.get("metadata")
    calibration = _own_calibration(facts, context)
    if not isinstance(metadata, Metadata):
        metadata = Metadata()
    report = facts.get("report")
    return Cube(
        _nonempty(node, data), calibration, metadata=metadata, **_common(facts),
        report=report if isinstance(report, Mapping) else {},
    )  # fmt: skip


def _nonempty(node: h5py.Group, data: Hdf5Array) -> Any:
    return data if data.size else load(node["data"])


def _own_slice(node: h5py.Group, facts: Mapping[str, Any], context: Context) -> Any:
    kind = RealSlice if facts["kind"] == "real" else DiffractionSlice
    data, labels = load(node["data"]), _labels(node, "")
    calibration = _own_calibration(facts, context)
    units = str(facts.get("units", attribute(node["data"], "units", "")))
    return kind(data, calibration, labels=labels, units=units, **_common(facts))


def _own_points(node: h5py.Group, facts: Mapping[str, Any], context: Context) -> PointTable:
    dataset = node["_v_uncal/data"] if "_v_uncal" in node else node["data"]
    calibration = _own_calibration(facts, context)
    report = facts.get("report")
    table = table_of(
        dataset, calibration, Q_shape=facts.get("Q_shape"), **_common(facts),
        report=report if isinstance(report, Mapping) else {},
    )  # fmt: skip
    row = result_kind(str(facts["result"])) if "result" in facts else None
    if row is None:
        return table
    parts = {f.name: getattr(table, f.name) for f in fields(table)}
    typed: PointTable = row.join(parts | dict(facts.get("plain", {})))
    return typed


def _own_array(node: h5py.Group, facts: Mapping[str, Any], context: Context) -> ArrayResult:
    axes, units = facts.get("axes", ()), str(facts.get("units", ""))
    if "data" in node:
        data = _as_dtype(load(node["data"]), np.dtype(str(facts["dtype"])))
        data = data.reshape(tuple(facts["shape"]))
    else:
        data = _record(node, facts.get("fields"))
    return ArrayResult(data, axes, units=units, **_common(facts))


def _as_dtype(data: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Undo what `schema` did to types that HDF5 does not have."""
    if dtype.kind in "mM":
        return data.view(dtype)
    if dtype.kind == "U":
        return np.char.decode(data, "utf-8").astype(dtype) if data.size else data.astype(dtype)
    return data


def _result(
    node: h5py.Group, name: str, facts: Mapping[str, Any], context: Context, depth: int
) -> Items:
    """A registered result from its parts; the parts themselves where its type is not known."""
    row = result_kind(str(facts.get("result")))
    members = _below(node, context, "", depth + 1)
    if row is None:
        warnings.warn(
            f"{name!r} is a {facts.get('result')!r}, a type that is not known here: "
            "its parts are given one by one",
            Py4DSTEMWarning,
            stacklevel=2,
        )
        return {f"{name}/{part}": value for part, value in members.items()}
    bare = set(facts.get("bare", ()))
    parts = {k: v.data if k in bare else v for k, v in members.items()} | dict(facts["plain"])
    return {name: row.join({k: parts[k] for k in facts["order"]})}


_BUILDERS: dict[str, Callable[[h5py.Group, Mapping[str, Any], Context], Any]] = {
    "cube": _own_cube,
    "real": _own_slice,
    "diffraction": _own_slice,
    "points": _own_points,
    "array": _own_array,
}


# ---- objects of other versions -------------------------------------------------------------------
def foreign(
    node: h5py.Group, kind: str, name: str, bundle: Mapping[str, Any], context: Context
) -> Items:
    """The objects that one group of py4DSTEM 0.13 or 0.14 stands for."""
    cls = str(attribute(node, "python_class", attribute(node, "py4dstem_class", "")))
    leaf = name.rpartition("/")[2]
    if kind == "array":
        return array_value(node, cls, name, bundle, context)
    if kind == "pointlist":
        record = _record(node, None)
        return {name: ArrayResult(record, (Axis("index"),), _steps(bundle, context), leaf)}
    if kind == "pointlistarray":
        calibration, _ = context.calibration()
        history = _steps(bundle, context)
        return {name: table_of(_dataset(node, "data"), calibration, history=history, name=leaf)}
    if kind == "custom":
        return _custom(node, name, bundle, context)
    return {}


def _dataset(group: h5py.Group, *names: str) -> h5py.Dataset:
    """The first dataset of these names."""
    for name in names:
        found = dict(children(group)).get(name)
        if isinstance(found, h5py.Dataset):
            return found
    raise CorruptFile(
        f"group {group.name!r} has no dataset {names[0]!r}",
        path=group.file.filename, format="EMD", hint="The file was not completely written",
    )  # fmt: skip


def array_value(
    node: h5py.Group, cls: str, name: str, bundle: Mapping[str, Any], context: Context
) -> Items:
    """A cube, a slice or an array, by the class that wrote it."""
    dataset = _dataset(node, "data")
    if dataset.ndim in (4, 5) and dataset.dtype.kind in "buif":
        return cubes_of(node, dataset, name, bundle, context)
    leaf = name.rpartition("/")[2]
    if (cls in REAL or cls in DIFFRACTION) and dataset.ndim in (2, 3):
        return {name: _slice(node, dataset, cls, leaf, bundle, context)}
    axes = axes_of(node, dataset.shape, 0)
    units = text(attribute(dataset, "units", ""))
    history = _steps(bundle, context)
    return {name: ArrayResult(load(dataset), axes, history, leaf, units)}


def cubes_of(
    node: h5py.Group,
    dataset: h5py.Dataset,
    name: str,
    bundle: Mapping[str, Any],
    context: Context,
) -> Items:
    """A lazy scan; one per depth where there is a fifth dimension."""
    array = context.array(context.path, str(dataset.name))
    rx, ry = array.shape[-4:-2]
    calibration, notes = context.calibration((rx, ry))
    first = next((int(n[3:]) for n in ("dim0", "dim1") if n in node), 0)
    axes = axes_of(node, array.shape, first)
    calibration = _with_axes(calibration, axes[-4:])
    leaf = name.rpartition("/")[2]
    # Maps are in the calibration already: only what is not stays in the original metadata.
    original = {**bundle, **({"calibration": dict(context.keys)} if context.keys else {})}
    metadata = Metadata(
        title=leaf, software=context.software, energy_eV=calibration.energy_eV,
        semiangle_mrad=calibration.semiangle_mrad, notes=notes, original=original,
    )  # fmt: skip
    if array.ndim == 4:
        return {name: Cube(array, calibration, leaf, metadata=metadata)}
    return {
        f"{name}_depth{k:04d}": Cube(
            Layer(array, k), calibration, f"{leaf}_depth{k:04d}",
            metadata=metadata.with_notes(_depth_note(axes[0], k)),
        )
        for k in range(array.shape[0])
    }  # fmt: skip


def _depth_note(axis: Axis, k: int) -> str:
    return f"layer {k} of {axis.name}: {axis.offset + k * axis.step:g} {axis.unit}"


def with_axes(calibration: Calibration, space: str, x: Axis, y: Axis) -> Calibration:
    """A calibration with other axes in real space (``"R"``) or on the detector (``"Q"``)."""
    return replace(calibration, R=(x, y)) if space == "R" else replace(calibration, Q=(x, y))


def _with_axes(calibration: Calibration, axes: tuple[Axis, ...]) -> Calibration:
    """Pixel sizes from the dimensions where the calibration has none."""
    for space, pair in (("R", axes[:2]), ("Q", axes[2:])):
        known = getattr(calibration, space)
        if not known[0].calibrated and all(axis.calibrated for axis in pair):
            named = tuple(
                replace(axis, name=f"{space}{n}", offset=0.0)
                for axis, n in zip(pair, "xy", strict=True)
            )
            calibration = with_axes(calibration, space, named[0], named[1])
    return calibration


class Layer(BlockArray):
    """One scan of a stack of scans."""

    def __init__(self, stack: Hdf5Array, index: int) -> None:
        self._stack, self._index = stack, index

    @property
    def shape(self) -> Shape4:
        a, b, c, d = self._stack.shape[1:]
        return a, b, c, d

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._stack.dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        return None if self._stack.chunks is None else self._stack.chunks[1:]

    def read_block(self, rx: slice, ry: slice) -> NDArray[Any]:
        block = self._stack[self._index, rx, ry]
        return block.reshape(-1, *block.shape[2:])


def _slice(
    node: h5py.Group,
    dataset: h5py.Dataset,
    cls: str,
    name: str,
    bundle: Mapping[str, Any],
    context: Context,
) -> RealSlice | DiffractionSlice:
    data = load(dataset)
    labels: tuple[str, ...] = ()
    if data.ndim == 3:
        data = np.ascontiguousarray(np.moveaxis(data, context.stack_axis, 0))
        labels = _labels(node, "dim2") or _probe_labels(cls, len(data))
    units = text(attribute(dataset, "units", "intensity"))
    calibration, _ = context.calibration()
    if cls == "BraggVectorMap":
        calibration = _map_calibration(calibration, bundle.get("grid", {}))
    kind = RealSlice if cls in REAL else DiffractionSlice
    matching = labels if len(labels) == (len(data) if data.ndim == 3 else 0) else ()
    return kind(data, calibration, _steps(bundle, context), name, matching, units)


def _probe_labels(cls: str, count: int) -> tuple[str, ...]:
    return ("probe", "kernel") if cls == "Probe" and count == 2 else ()


def _map_calibration(calibration: Calibration, grid: Mapping[str, Any]) -> Calibration:
    """A Bragg vector map has its own pixels and its own origin."""
    step, origin = grid.get("pixelsize"), grid.get("origin")
    if not isinstance(step, int | float) or not np.isfinite(step) or step <= 0:
        return calibration
    x, y = (replace(axis, step=axis.step * float(step)) for axis in calibration.Q)
    centre = np.asarray(origin, float).ravel() if origin is not None else np.empty(0)
    known = centre.shape == (2,) and bool(np.isfinite(centre).all())
    return replace(calibration, Q=(x, y), origin_px=centre if known else None)


def _labels(node: h5py.Group, name: str) -> tuple[str, ...]:
    """Names of the images of a stack."""
    for member, dim in children(node):
        marked = re.fullmatch(r"dim\d+", member) and attribute(dim, "name") == "_labels_"
        if isinstance(dim, h5py.Dataset) and (
            marked or (member == name and dim.dtype.kind in "SO")
        ):
            return tuple(text(label) for label in np.ravel(load(dim)))
    return ()


def axes_of(node: h5py.Group, shape: tuple[int, ...], first: int) -> tuple[Axis, ...]:
    """Axes from the datasets ``dim<first>`` …, which hold two values or all of them."""
    members = dict(children(node))
    return tuple(
        _axis(members.get(f"dim{k + first}"), f"dim{k + first}") for k in range(len(shape))
    )


def _axis(dim: Any, fallback: str) -> Axis:
    """A uniform axis; pixels where the values are missing, not numbers or not rising."""
    if not isinstance(dim, h5py.Dataset):
        return Axis(fallback)
    name = str(attribute(dim, "name", fallback) or fallback).strip("[]") or fallback
    unit = plain_unit(attribute(dim, "units", ""))
    if dim.dtype.kind not in "iuf" or dim.ndim != 1 or dim.shape[0] < 1:
        return Axis(name)
    values = np.asarray(dim[: min(2, dim.shape[0])], np.float64)
    step = float(values[1] - values[0]) if len(values) > 1 else 1.0
    if not (np.isfinite(values).all() and step > 0 and np.isfinite(step)):
        return Axis(name, unit=unit)
    return Axis(name, step, float(values[0]), unit)


# ---- points --------------------------------------------------------------------------------------
def table_of(dataset: h5py.Dataset, calibration: Calibration, **values: Any) -> PointTable:
    """A ragged dataset as a point table; a list of lists is a scan of one column."""
    points, offsets = read_ragged(dataset)
    shape = (*(int(n) for n in dataset.shape), 1, 1)[:2]
    if values.get("Q_shape") is not None:
        values["Q_shape"] = tuple(int(n) for n in values["Q_shape"])
    return PointTable(points, offsets, (shape[0], shape[1]), calibration, **values)


def points_of(columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Columns of equal length as records."""
    length = max((len(c) for c in columns.values()), default=0)
    if any(len(c) != length for c in columns.values()):
        raise ValueError("columns of different lengths")
    record = np.empty(length, [(name, c.dtype) for name, c in columns.items()])
    for name, column in columns.items():
        record[name] = column
    return record


def _record(node: h5py.Group, order: Any) -> NDArray[Any]:
    """A point list: one dataset per field."""
    columns = {
        name: load(member)
        for name, member in children(node)
        if isinstance(member, h5py.Dataset) and member.ndim == 1
    }
    known = [str(f) for f in order] if order is not None else list(_FIRST_FIELDS)
    names = [f for f in known if f in columns] + [f for f in columns if f not in known]
    try:
        return points_of({name: columns[name] for name in names})
    except ValueError as error:
        raise CorruptFile(
            f"point list {node.name!r}: {error}", path=node.file.filename, format="EMD"
        ) from error


# ---- custom classes ------------------------------------------------------------------------------
def _custom(node: h5py.Group, name: str, bundle: Mapping[str, Any], context: Context) -> Items:
    """Bragg vectors as a table; anything else as the arrays it is made of."""
    inner = dict(_inner(node))
    leaf = name.rpartition("/")[2]
    vectors = inner.get("_v_uncal") or inner.get("_v_cal")
    if vectors is not None:
        facts = {**bundle.get("braggvectors", {}), **bundle.get("_braggvectors_shape", {})}
        return {
            name: table_of(
                _dataset(vectors, "data"), context.calibration()[0], name=leaf,
                Q_shape=_pair(facts.get("Qshape")), history=_steps(bundle, context),
            )
        }  # fmt: skip
    items: Items = {}
    for member, group in inner.items():
        part = f"{name}/{member.removeprefix('_').removesuffix('_emd')}"
        kind = str(attribute(group, "emd_group_type", "")).removeprefix("custom_")
        items |= foreign(group, _KINDS.get(kind, kind), part, bundle, context)
    return items


_KINDS = {"0": "metadata", "1": "array", "2": "pointlist", "3": "pointlistarray", "4": "custom"}
"""py4DSTEM 0.13 numbers its kinds."""


def _inner(node: h5py.Group) -> Iterator[tuple[str, h5py.Group]]:
    for name, group in children(node):
        kind = str(attribute(group, "emd_group_type", ""))
        numbered = name.startswith("_") and kind in ("1", "2", "3")
        if isinstance(group, h5py.Group) and (kind.startswith("custom_") or numbered):
            yield name, group


def _pair(value: Any) -> tuple[int, int] | None:
    try:
        x, y = (int(n) for n in value)
    except (TypeError, ValueError):
        return None
    return x, y


def checked_path(file: h5py.File) -> str:
    """The absolute path of an open file."""
    name = os.path.abspath(str(file.filename))
    if not os.path.exists(name):
        raise FormatError("the file has vanished", path=name)
    return name
