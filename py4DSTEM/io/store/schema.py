"""What every kind of value looks like in a file: EMD 1.0 groups, plus what only we know.

The layout is the one that py4DSTEM 0.14 and RosettaSciIO read.  What it has no place for (history,
exact calibration, labels, metadata, axes) is a metadata dictionary called ``py4DSTEM`` beside the
others, which those programs ignore; it carries the number of its schema.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import ArrayResult, DiffractionSlice, RealSlice, Slice
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.plain import storable

__all__ = [
    "EXTRAS",
    "SCHEMA",
    "Node",
    "ResultKind",
    "flatten",
    "node_of",
    "register_result",
    "result_kind",
    "safe_name",
    "tree_of",
    "when_unknown",
]

SCHEMA = 1
"""Number of today's schema; `migrate` brings older ones up to it."""
EXTRAS = "py4DSTEM"
"""Name of our metadata dictionary."""
BRAGG_FIELDS = frozenset({"qx", "qy", "intensity"})
POINT_FIELDS = frozenset(f.name for f in fields(PointTable))
_RESERVED = re.compile(r"data|metadatabundle|metadata|dim\d+|\.*|_v_uncal|_labels_")


@dataclass(frozen=True, eq=False)
class Node:
    """One group of a file.

    Parameters
    ----------
    group_type, python_class : str
        EMD attributes, for the programs that read the file besides us.
    payload : object
        An array, a `Cube` (streamed), a `PointTable`, a 1-D structured array, or None.
    units : str
        Of the values.
    dims : tuple of Axis
        One per axis of an image; the axis of a stack is described by `labels`.
    extras : mapping
        Facts that the layout has no place for.
    calibration : Calibration, optional
        Shared by the file where all its values agree.
    children : mapping
        Nodes below, by the name they are read as.
    """

    group_type: str
    python_class: str
    payload: Any = None
    units: str = ""
    dims: tuple[Axis, ...] = ()
    labels: tuple[str, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    children: Mapping[str, Node] = field(default_factory=dict)


# ---- results of other rooms ----------------------------------------------------------------------
Parts = Mapping[str, Any]


@dataclass(frozen=True)
class ResultKind:
    """How a type of result is taken apart and put together again.

    Parameters
    ----------
    kind : str
        Its name in files; never changes.
    target : str
        ``"module:Class"``; imported when a file needs it.
    to_arrays : callable, optional
        Result → parts by name: arrays, slices, point tables, calibrations, plain values.  Default:
        the fields of a dataclass.
    from_arrays : callable, optional
        Parts → result.  Default: the class, called with the parts as keywords.
    """

    kind: str
    target: str
    to_arrays: Callable[[Any], Parts] | None = None
    from_arrays: Callable[[Parts], Any] | None = None

    def split(self, value: Any) -> Parts:
        """The parts of a result."""
        return self.to_arrays(value) if self.to_arrays else _fields(value)

    def join(self, parts: Parts) -> Any:
        """The result made of `parts`."""
        return self.from_arrays(parts) if self.from_arrays else self._cls()(**parts)

    def _cls(self) -> Any:
        module, _, name = self.target.partition(":")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found


_RESULTS: dict[str, ResultKind] = {}


def register_result(
    kind: str,
    cls: type | str,
    to_arrays: Callable[[Any], Parts] | None = None,
    from_arrays: Callable[[Parts], Any] | None = None,
) -> ResultKind:
    """Teach files a type of result; one row per type.

    Parameters
    ----------
    kind : str
        Its name in files, such as ``"strain-map"``.
    cls : type or "module:Class"
    to_arrays, from_arrays : callable, optional
        Default: the fields of a frozen dataclass.

    Raises
    ------
    ParameterError
        `kind` is taken by another type.
    """
    target = cls if isinstance(cls, str) else _target(cls)
    row = ResultKind(kind, target, to_arrays, from_arrays)
    known = _RESULTS.get(kind)
    if known is not None and known.target != target:
        raise ParameterError(f"result kind {kind!r} is already {known.target}")
    _RESULTS[kind] = row
    return row


_LOADERS: list[Callable[[], None]] = []


def when_unknown(load: Callable[[], None]) -> None:
    """Call `load`, which registers more types of results, when a file holds an unknown one."""
    if load not in _LOADERS:
        _LOADERS.append(load)


def result_kind(kind: str) -> ResultKind | None:
    """The row registered as `kind`."""
    if kind not in _RESULTS:
        for load in _LOADERS:
            load()
    return _RESULTS.get(kind)


def _target(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _fields(value: Any) -> Parts:
    if not is_dataclass(value):
        raise ParameterError(f"{type(value).__name__} is not a dataclass: register to_arrays")
    return {f.name: getattr(value, f.name) for f in fields(value) if f.init}


def _row_of(value: Any) -> ResultKind | None:
    rows = {row.target: row for row in _RESULTS.values()}
    names = (_target(cls) for cls in type(value).__mro__)
    return next((rows[name] for name in names if name in rows), None)


# ---- mappings become trees -----------------------------------------------------------------------
def flatten(objects: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with paths ``"a/b"`` as names.

    Raises
    ------
    ParameterError
        A name is not a string, empty, or given twice.
    """
    flat: dict[str, Any] = {}
    for name, value in objects.items():
        if not isinstance(name, str) or not name.strip("/"):
            raise ParameterError(f"objects are saved under names, not {name!r}")
        path = f"{prefix}{name.strip('/')}"
        inner = flatten(value, f"{path}/") if isinstance(value, Mapping) else {path: value}
        twice = flat.keys() & inner.keys()
        if twice:
            raise ParameterError(f"two objects are called {sorted(twice)[0]!r}")
        flat |= inner
    return flat


def tree_of(objects: Mapping[str, Any], first: int = 0) -> dict[str, Node]:
    """Nodes by name, nested as the paths say; `objects` as `flatten` gives them.

    `first` is the number of the first object: files are listed in the order of saving.
    """
    nodes = {path: node_of(value, first + k) for k, (path, value) in enumerate(objects.items())}
    for path in list(nodes):
        _add_parents(nodes, path)
    for path in sorted(nodes, key=lambda p: -p.count("/")):
        parent, _, name = path.rpartition("/")
        if parent:
            inner = {**nodes[parent].children, name: nodes[path]}
            nodes[parent] = replace(nodes[parent], children=inner)
    return {path: node for path, node in nodes.items() if "/" not in path}


def _add_parents(nodes: dict[str, Node], path: str) -> None:
    """Plain groups above an object, where no object has their name."""
    index = nodes[path].extras["index"]
    while "/" in path:
        path = path.rpartition("/")[0]
        nodes.setdefault(path, Node("node", "Node", extras={"index": index}))


def safe_name(name: str, taken: set[str]) -> str:
    """A group name that collides neither with the layout nor with `taken`."""
    # File names that are no text hold lone surrogates, which HDF5 does not take.
    safe = name.encode("utf-8", "backslashreplace").decode().replace("/", "_").replace("\0", "_")
    safe = f"{safe}_" if _RESERVED.fullmatch(safe) else safe
    while safe in taken:
        safe += "_"
    return safe


# ---- values become nodes -------------------------------------------------------------------------
def node_of(value: Any, index: int = 0) -> Node:
    """The node of any value that can be saved.

    Raises
    ------
    ParameterError
        Nothing is known about its type.
    """
    for kind, make in _MAKERS:
        if isinstance(value, kind):
            node = make(value)
            break
    else:
        row = _row_of(value)
        if row is None:
            raise ParameterError(
                f"a {type(value).__name__} cannot be saved: cubes, slices, point tables, arrays, "
                "results and mappings of them can; register_result(...) teaches other types"
            )
        node = _result_node(value, row)
    return replace(node, extras={"index": index, **node.extras})


def _common(value: Any, kind: str) -> dict[str, Any]:
    return {"kind": kind, "name": value.name, "history": value.history}


def _cube_node(cube: Cube) -> Node:
    return Node(
        "array", "DataCube", cube, "pixel intensity",
        (*cube.calibration.R, *_centred(cube.calibration)),
        extras={**_common(cube, "cube"), "metadata": cube.metadata, "report": dict(cube.report)},
        calibration=cube.calibration,
    )  # fmt: skip


def _centred(calibration: Calibration) -> tuple[Axis, Axis]:
    """Detector axes that count from the unscattered beam, as other programs expect them."""
    origin = calibration.origin_px
    if origin is None or not np.isfinite(origin).any():
        return calibration.Q
    x, y = (
        replace(axis, offset=-float(np.nanmean(origin[..., k])) * axis.step)
        for k, axis in enumerate(calibration.Q)
    )
    return x, y


def _slice_node(value: Slice) -> Node:
    real = isinstance(value, RealSlice)
    axes = value.axes if real else _centred(value.calibration)
    return Node(
        "array", "RealSlice" if real else "DiffractionSlice", _native(value.data), value.units,
        axes, value.labels,
        extras={**_common(value, "real" if real else "diffraction"), "units": value.units},
        calibration=value.calibration,
    )  # fmt: skip


def _points_node(table: PointTable) -> Node:
    """A table; of a registered kind of table also what it has besides the points."""
    bragg = table.Q_shape is not None and set(table.dtype.names or ()) >= BRAGG_FIELDS
    row = _row_of(table)
    more = {}
    if row is not None:
        beyond = {k: v for k, v in row.split(table).items() if k not in POINT_FIELDS}
        more = {"result": row.kind, "plain": _plain(row.kind, beyond)}
    return Node(
        "custom" if bragg else "pointlistarray",
        "BraggVectors" if bragg else "PointListArray",
        table,
        extras={
            **_common(table, "points"),
            "Q_shape": table.Q_shape,
            "report": _plain("point table", {"report": dict(table.report)})["report"],
            **more,
        },
        calibration=table.calibration,
    )


def _array_node(value: ArrayResult) -> Node:
    extras = {
        **_common(value, "array"), "units": value.units, "axes": value.axes,
        "shape": value.data.shape, "dtype": value.data.dtype.newbyteorder("=").str,
    }  # fmt: skip
    data, axes = _native(value.data), value.axes
    if data.dtype.names is not None and data.ndim == 1:
        extras["fields"] = list(data.dtype.names)
        return Node("pointlist", "PointList", data, extras=extras)
    if data.ndim == 0:
        data, axes = data.reshape(1), (Axis("dim0"),)
    return Node("array", "Array", data, value.units, axes, extras=extras)


def _native(array: Any) -> NDArray[Any]:
    """Native byte order, and a type that HDF5 has."""
    values = np.asarray(array)
    if values.dtype.kind in "mM":
        return values.view(np.int64)
    if values.dtype.kind == "U":
        return np.char.encode(values, "utf-8") if values.size else values.astype("S1")
    if values.dtype.hasobject:
        raise ParameterError(f"an array of Python objects cannot be saved ({values.dtype})")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _result_node(value: Any, row: ResultKind) -> Node:
    """A group whose members are the arrays of a result; plain parts go to the extras."""
    parts = row.split(value)
    arrays = {k: v for k, v in parts.items() if _is_member(v)}
    plain = _plain(row.kind, {k: v for k, v in parts.items() if k not in arrays})
    members = {k: node_of(_as_value(k, v), i) for i, (k, v) in enumerate(arrays.items())}
    bare = [k for k, v in arrays.items() if isinstance(v, np.ndarray)]
    extras = {"kind": "result", "result": row.kind, "plain": plain, "order": list(parts),
              "bare": bare, "name": getattr(value, "name", row.kind)}  # fmt: skip
    return Node("node", "Node", extras=extras, children=members)


def _plain(kind: str, parts: Parts) -> Parts:
    """Parts that go to the metadata, each of which can be written there."""
    for name, part in parts.items():
        if not storable(part):
            raise ParameterError(
                f"part {name!r} of {kind!r} is a {type(part).__name__}, which cannot be saved"
            )
    return parts


def _is_member(value: Any) -> bool:
    big_array = isinstance(value, np.ndarray) and (value.ndim > 0 or value.dtype.kind in "OUV")
    kinds = tuple(kind for kind, _ in _MAKERS)
    return big_array or isinstance(value, kinds) or _row_of(value) is not None


def _as_value(name: str, value: Any) -> Any:
    return ArrayResult(value, name=name) if isinstance(value, np.ndarray) else value


_MAKERS: tuple[tuple[type, Callable[[Any], Node]], ...] = (
    (Cube, _cube_node),
    (RealSlice, _slice_node),
    (DiffractionSlice, _slice_node),
    (PointTable, _points_node),
    (ArrayResult, _array_node),
    (np.ndarray, lambda array: _array_node(ArrayResult(array))),
)


def payload_bytes(node: Node) -> int:
    """Size of the values of a node and of those below, uncompressed."""
    payload = node.payload
    own = 0
    if isinstance(payload, Cube):
        own = payload.nbytes
    elif isinstance(payload, PointTable):
        own = payload.points.nbytes + 24 * len(payload.offsets)
    elif payload is not None:
        own = int(math.prod(payload.shape) * payload.dtype.itemsize)
    return own + 8192 + sum(payload_bytes(child) for child in node.children.values())
