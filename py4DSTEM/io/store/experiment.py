"""Files with a top group such as ``4DSTEM_experiment``: py4DSTEM 0.4 … 0.12, and Prismatic."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History, Step
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import ArrayResult, DiffractionSlice, RealSlice
from py4DSTEM.errors import CorruptFile
from py4DSTEM.io.store.calib import plain_unit
from py4DSTEM.io.store.ragged import row_dtype
from py4DSTEM.io.store.read import Context, axes_of, cubes_of, points_of, table_of, with_axes
from py4DSTEM.io.store.values import attribute, children, load, read_item, read_items, text

__all__ = ["is_experiment", "read_experiment"]

Items = dict[str, Any]

_CALIBRATION_KEYS = frozenset(
    (
        "Q_pixel_size", "Q_pixel_units", "R_pixel_size", "R_pixel_units", "qx0", "qy0", "qx0_mean",
        "qy0_mean", "a", "b", "theta", "QR_rotation", "QR_rotation_degrees", "QR_flip",
        "convergence_semiangle_mrad", "probe_semiangle",
    )
)  # fmt: skip
_RENAMED = {"K_pix_size": "Q_pixel_size", "K_pix_units": "Q_pixel_units", "R_pix_size":
            "R_pixel_size", "R_pix_units": "R_pixel_units", "Q_pix_size": "Q_pixel_size",
            "Q_pix_units": "Q_pixel_units", "R_to_K_rotation_degrees": "QR_rotation_degrees",
            "QR_rotation_deg": "QR_rotation_degrees", "r": "a"}  # fmt: skip


_PRISMATIC_UNITS = {"nm": "A", "nm^-1": "A^-1"}
_PRISMATIC_NOTE = (
    "units nm and nm^-1 of the file read as A and A^-1: its cell, in A, fits only those"
)


def is_experiment(group: Any) -> bool:
    """Whether a top group is of this family."""
    if not isinstance(group, h5py.Group) or "data" not in group:
        return False
    named = group.name.lower().startswith(("/4dstem_experiment", "/4dstem_simulation"))
    return named or str(attribute(group, "emd_group_type", "")) == "2"


def read_experiment(file: h5py.File, path: str) -> Items:
    """Every object by name; a prefix tells kinds apart where names repeat."""
    items: Items = {}
    for _, top in children(file):
        if not is_experiment(top):
            continue
        tree = _metadata_tree(top)
        keys = _calibration_keys(top, tree)
        context = Context(path, keys, stack_axis=-1, software=_software(top))
        experiment = _Experiment(context, tree)
        for folder, read in experiment.readers():
            for name, group in _members(top, folder):
                for found, value in read(group, name).items():
                    items[found if found not in items else f"{folder}/{found}"] = value
    return items


def _members(top: h5py.Group, folder: str) -> Iterator[tuple[str, h5py.Group]]:
    data = top["data"]
    if folder not in data or not isinstance(data[folder], h5py.Group):
        return
    for name, group in children(data[folder]):
        if isinstance(group, h5py.Group):
            yield name, group


def _software(top: h5py.Group) -> str:
    if "simulation" in top.name:
        return "Prismatic"
    parts = [attribute(top, f"version_{p}") for p in ("major", "minor", "release")]
    return "py4DSTEM " + ".".join(str(p) for p in parts if p is not None)


# ---- metadata ------------------------------------------------------------------------------------
def _metadata_tree(top: h5py.Group) -> dict[str, Any]:
    """All metadata; those of version 0.7 and before are attributes."""
    return _tree(top["metadata"], 0) if isinstance(top.get("metadata"), h5py.Group) else {}


def _tree(group: h5py.Group, depth: int) -> dict[str, Any]:
    own = {
        str(name): attribute(group, name)
        for name in group.attrs
        if name not in ("h5rw_version", "ctime", "mtime", "type", "emd_group_type")
    }
    if depth > 8 or attribute(group, "type") is not None:
        return own | read_items(group)
    inner = {
        name: _tree(node, depth + 1) if isinstance(node, h5py.Group) else read_item(node)
        for name, node in children(group)
    }
    return own | {name.replace("_SLASH_", "/"): value for name, value in inner.items()}


def _calibration_keys(top: h5py.Group, tree: Mapping[str, Any]) -> dict[str, Any]:
    """From the metadata, then from ``coordinates`` groups, which version 0.12 writes."""
    keys: dict[str, Any] = {}
    for mapping in _mappings_named(tree, "calibration"):
        keys |= {_RENAMED.get(k, k): v for k, v in mapping.items()}
    for _, group in _members(top, "coordinates"):
        keys |= read_items(group)
    for mapping in _mappings_named(tree, "simulation_parameters"):
        keys |= _prismatic_keys(mapping)
    for mapping in _mappings_named(tree, "microscope"):
        energy = mapping.get("beam_energy", mapping.get("accelerating_voltage"))
        if isinstance(energy, int | float) and energy > 0:
            keys.setdefault("energy", energy * (1e3 if energy < 5e3 else 1))
    wanted = _CALIBRATION_KEYS | {"energy"}
    return {k: v for k, v in keys.items() if k in wanted and v is not None}


def _prismatic_keys(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Command-line letters of Prismatic: E is in kV; the semi-angle is not among the fixed ones."""
    energy = mapping.get("E")
    return {"energy": float(energy) * 1e3} if isinstance(energy, int | float) else {}


def _mappings_named(tree: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            if key == name:
                yield value
            yield from _mappings_named(value, name)


# ---- objects -------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Experiment:
    """Reads the folders of ``data``."""

    context: Context
    tree: Mapping[str, Any]

    def readers(self) -> tuple[tuple[str, Callable[[h5py.Group, str], Items]], ...]:
        """Folder → what reads its members."""
        return (
            ("datacubes", self.cube),
            ("counted_datacubes", self.counted),
            ("diffractionslices", self.diffraction),
            ("realslices", self.real),
            ("pointlists", self.points),
            ("pointlistarrays", self.table),
        )

    def cube(self, group: h5py.Group, name: str) -> Items:
        """Lazy scans, with the metadata of the file."""
        dataset = _first(group, "data", "datacube")
        found = cubes_of(group, dataset, name, dict(self.tree), self.context)
        return {k: self._completed(cube) for k, cube in found.items()}

    def _completed(self, cube: Cube) -> Cube:
        user = next(iter(_mappings_named(self.tree, "user")), {})
        operator = user.get("name") if isinstance(user.get("name"), str) else None
        metadata = replace(cube.metadata, operator=operator or None)
        fixed = self._in_angstrom(cube.calibration, cube.R_shape)
        if fixed is not cube.calibration:
            metadata = metadata.with_notes(_PRISMATIC_NOTE)
        return cube.replace(metadata=metadata, calibration=fixed)

    def _in_angstrom(self, calibration: Calibration, R_shape: tuple[int, int]) -> Calibration:
        """Prismatic labels Å as nm; the cell in its parameters, in Å, shows it."""
        cell = next((m.get("c") for m in _mappings_named(self.tree, "simulation_parameters")), None)
        lengths = np.ravel(np.asarray(cell if cell is not None else (), float))
        axis = calibration.R[0]
        if (
            len(lengths) != 3
            or axis.unit != "nm"
            or not 0.5 < axis.step * R_shape[0] / lengths[0] < 2
        ):
            return calibration
        for space, axes in (("R", calibration.R), ("Q", calibration.Q)):
            x, y = (replace(a, unit=_PRISMATIC_UNITS.get(a.unit, a.unit)) for a in axes)
            calibration = with_axes(calibration, space, x, y)
        return calibration

    def counted(self, group: h5py.Group, name: str) -> Items:
        """Electron positions per pattern."""
        dataset = _first(group, "data")
        if row_dtype(dataset) is None:
            return {name: ArrayResult(load(dataset), name=name)}
        table = table_of(dataset, self._calibration(), name=name)
        if table.dtype.names is None:
            table = replace(table, points=_pairs(table.points))
        shape = [n for n in (_length(group, "dim3"), _length(group, "dim4")) if n]
        Q_shape = (shape[0], shape[1]) if len(shape) == 2 else None
        coords = str(attribute(dataset, "index_coords", attribute(group, "index_coords", "")))
        step = Step("counted electrons", 0, {"index_coords": coords})
        return {name: replace(table, Q_shape=Q_shape, history=History((step,)))}

    def _calibration(self) -> Any:
        return self.context.calibration()[0]

    def diffraction(self, group: h5py.Group, name: str) -> Items:
        """Patterns."""
        return {name: self._slice(group, name, DiffractionSlice, "diffractionslice")}

    def real(self, group: h5py.Group, name: str) -> Items:
        """Maps."""
        return {name: self._slice(group, name, RealSlice, "realslice")}

    def _slice(self, group: h5py.Group, name: str, kind: Any, old: str) -> Any:
        data, labels = _images(group, old)
        calibration = self._calibration()
        axes = axes_of(group, data.shape[-2:], 1)
        space = "R" if kind is RealSlice else "Q"
        if not getattr(calibration, space)[0].calibrated and all(a.calibrated for a in axes):
            x, y = (replace(a, name=f"{space}{n}", offset=0.0)
                         for a, n in zip(axes, "xy", strict=True))  # fmt: skip
            calibration = with_axes(calibration, space, x, y)
        if space == "R" and data.ndim > 1:
            calibration = self._in_angstrom(calibration, (data.shape[-2], data.shape[-1]))
        if data.ndim not in (2, 3):
            return ArrayResult(data, name=name)
        return kind(data, calibration, name=name, labels=labels)

    def points(self, group: h5py.Group, name: str) -> Items:
        """One list."""
        record = _record(group)
        return {name: ArrayResult(record, (Axis("index"),), name=name)}

    def table(self, group: h5py.Group, name: str) -> Items:
        """One list per position: ragged, or (0.5, 0.6) one group per position."""
        if "data" in group:
            return {name: table_of(_first(group, "data"), self._calibration(), name=name)}
        return {name: replace(_table_of_groups(group), calibration=self._calibration(), name=name)}


def _first(group: h5py.Group, *names: str) -> h5py.Dataset:
    members = dict(children(group))
    for name in names:
        if isinstance(members.get(name), h5py.Dataset):
            return members[name]
    raise CorruptFile(
        f"group {group.name!r} has no dataset {names[0]!r}",
        path=group.file.filename, format="EMD", hint="The file was not completely written",
    )  # fmt: skip


def _length(group: h5py.Group, name: str) -> int:
    dim = group.get(name)
    return int(dim.shape[0]) if isinstance(dim, h5py.Dataset) and dim.ndim == 1 else 0


def _pairs(points: NDArray[Any]) -> NDArray[Any]:
    """Flat indices as a one-field record."""
    return points.astype(points.dtype).view([("index", points.dtype)])


def _images(group: h5py.Group, old: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """One image, a stack with the images along its last axis, or (0.5) one dataset per image."""
    members = {n: d for n, d in children(group) if isinstance(d, h5py.Dataset)}
    single = members.get("data", members.get(old))
    if single is not None:
        data = load(single)
        if data.ndim == 3:
            data = np.ascontiguousarray(np.moveaxis(data, -1, 0))
            return data, _stack_labels(members.get("dim3"), len(data))
        return data, ()
    images = {n: d for n, d in members.items() if not re.fullmatch(r"dim\d+", n)}
    if not images:
        raise CorruptFile(f"group {group.name!r} holds no image", path=group.file.filename,
                          format="EMD")  # fmt: skip
    names = sorted(images, key=lambda n: [int(p) if p.isdigit() else p
                                          for p in re.split(r"(\d+)", n)])  # fmt: skip
    return np.stack([load(images[n]) for n in names]), tuple(names)


def _stack_labels(dim: Any, count: int) -> tuple[str, ...]:
    if not isinstance(dim, h5py.Dataset) or dim.shape != (count,):
        return ()
    values = load(dim)
    if values.dtype.kind in "SO":
        labels = tuple(text(v).strip() for v in values)
    else:
        unit = plain_unit(attribute(dim, "units", ""))
        labels = tuple(f"{v:g} {unit}".strip() for v in values.tolist())
    return labels if len(set(labels)) == count and all(labels) else ()


def _record(group: h5py.Group) -> NDArray[Any]:
    """A field is a group with the values in ``data`` (or ``pointlist``)."""
    columns = {}
    for name, node in children(group):
        if isinstance(node, h5py.Group):
            columns[name] = np.ravel(load(_first(node, "data", "pointlist")))
        elif node.ndim == 1:
            columns[name] = load(node)
    wanted = _coordinates(group)
    names = [n for n in wanted if n in columns] + [n for n in columns if n not in wanted]
    return points_of({name: columns[name] for name in names})


def _coordinates(group: h5py.Group) -> list[str]:
    """The order of the fields, as the file spells it."""
    return re.findall(r"\w+", str(attribute(group, "coordinates", "")))


def _table_of_groups(group: h5py.Group) -> PointTable:
    cells = {}
    for name, node in children(group):
        found = re.fullmatch(r"(\d+)_(\d+)", name)
        if found and isinstance(node, h5py.Group):
            cells[int(found[1]), int(found[2])] = _record(node)
    if not cells:
        raise CorruptFile(f"{group.name!r} holds no lists", path=group.file.filename, format="EMD")
    nx, ny = (max(place[k] for place in cells) + 1 for k in (0, 1))
    if nx * ny > 4 * len(cells) + 1024:
        raise CorruptFile(f"{group.name!r} lacks most of its lists", path=group.file.filename,
                          format="EMD")  # fmt: skip
    empty = next(iter(cells.values()))[:0]
    rows = [[cells.get((x, y), empty) for y in range(ny)] for x in range(nx)]
    return PointTable.from_lists(rows)
