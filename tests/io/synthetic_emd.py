"""Small files of every generation of this family, made from their published layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

R, Q = (3, 4), (6, 5)
SHAPE = (*R, *Q)
CUBE = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
MAP = np.arange(12.0).reshape(R)
PATTERN = np.arange(30.0).reshape(Q)
STACK = np.stack([MAP, 2 * MAP])
POINTS = np.dtype([("qx", "f8"), ("qy", "f8"), ("intensity", "f8")])
COUNTS = np.array([[1, 0, 2, 3], [0, 0, 1, 1], [4, 0, 0, 2]])
ORIGIN = (np.arange(12.0).reshape(R) / 10 + 2, np.arange(12.0).reshape(R) / 20 + 1)


def lists() -> np.ndarray:
    """Ragged rows, (3, 4) object."""
    rows = np.empty(R, object)
    for rx, ry in np.ndindex(*R):
        row = np.zeros(COUNTS[rx, ry], POINTS)
        row["qx"], row["qy"] = np.arange(len(row)) + 10 * rx, np.arange(len(row)) + 10 * ry
        row["intensity"] = 1 + np.arange(len(row))
        rows[rx, ry] = row
    return rows


def flat() -> np.ndarray:
    """All points one after the other."""
    return np.concatenate(list(lists().ravel()))


def put_lists(group: h5py.Group, name: str = "data") -> None:
    """Rows as HDF5 variable-length records."""
    dataset = group.create_dataset(name, R, h5py.vlen_dtype(POINTS))
    for place, row in np.ndenumerate(lists()):
        if len(row):
            dataset[place] = row


def group_of(parent: h5py.Group, name: str, attrs: Mapping[str, Any]) -> h5py.Group:
    """A group with attributes."""
    group = parent.create_group(name)
    group.attrs.update(attrs)
    return group


def dims(group: h5py.Group, facts: list[tuple[Any, str, Any]], first: int) -> None:
    """Datasets ``dim<first>`` … from (values, name, units)."""
    for k, (values, name, units) in enumerate(facts, start=first):
        dim = group.create_dataset(f"dim{k}", data=values)
        dim.attrs["name"], dim.attrs["units"] = name, units


def item(group: h5py.Group, name: str, kind: str, value: Any) -> None:
    """A typed metadata value."""
    group.create_dataset(name, data=value).attrs["type"] = kind


def calibration_items(group: h5py.Group) -> None:
    """A calibration in which no two numbers are equal."""
    for name, value in (("Q_pixel_size", 0.02), ("R_pixel_size", 1.5), ("a", 1.1), ("b", 0.9),
                        ("theta", 0.3), ("QR_rotation", 0.2)):  # fmt: skip
        item(group, name, "number", value)
    item(group, "Q_pixel_units", "string", b"A^-1")
    item(group, "R_pixel_units", "string", b"nm")
    item(group, "QR_flip", "bool", True)
    item(group, "qx0", "array", ORIGIN[0])
    item(group, "qy0", "array", ORIGIN[1])


# ---- EMD 1.0, py4DSTEM 0.14 ----------------------------------------------------------------------
def emd1(path: Path, kind: Callable[[str], Any] = str) -> None:
    """A cube with a map below it, a stack, points and Bragg vectors.

    `kind` turns every string attribute into what a writer may use: str, bytes, fixed strings.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update({"emd_group_type": kind("file"), "version_major": 1, "version_minor": 0})
        root = group_of(file, "datacube_root", _emd("root", "Root", kind))
        bundle = group_of(root, "metadatabundle", {"emd_group_type": kind("metadatabundle")})
        calibration_items(group_of(bundle, "calibration", _emd("metadata", "Calibration", kind)))
        cube = group_of(root, "datacube", _emd("array", "DataCube", kind))
        cube.create_dataset("data", data=CUBE).attrs["units"] = kind("pixel intensity")
        wrong = np.arange(6) * 0.02 - 31.5  # dimensions that must not be trusted
        dims(cube, [([0, 9.0], "Rx", kind("nm")), ([0, 9.0], "Ry", kind("nm")),
                    (wrong, "Qx", kind("A^-1")), (wrong[:5], "Qy", kind("A^-1"))], 0)  # fmt: skip
        image = group_of(cube, "bf", _emd("array", "VirtualImage", kind))
        image.create_dataset("data", data=MAP).attrs["units"] = kind("intensity")
        notes = group_of(image, "metadatabundle", {"emd_group_type": kind("metadatabundle")})
        params = group_of(notes, "gen_params", _emd("metadata", "Metadata", kind))
        item(params, "mode", "string", b"circle")
        item(params, "nothing", "None", b"_None")
        pair = group_of(params, "geometry", {"type": kind("tuple_of_tuples"), "length": 2})
        pair.create_dataset("0", data=[3, 2])
        pair.create_dataset("1", data=4)
        stack = group_of(root, "strain", _emd("array", "StrainMap", kind))
        stack.create_dataset("data", data=STACK)
        labels = stack.create_dataset("dim2", data=[b"e_xx", b"e_yy"])
        labels.attrs["name"] = kind("_labels_")
        vectors = group_of(root, "bragg", _emd("custom", "BraggVectors", kind))
        put_lists(group_of(vectors, "_v_uncal", _emd("custom_pointlistarray", "PointListArray",
                                                     kind)))  # fmt: skip
        bundle = group_of(vectors, "metadatabundle", {"emd_group_type": kind("metadatabundle")})
        shapes = group_of(bundle, "_braggvectors_shape", _emd("metadata", "Metadata", kind))
        item(shapes, "Qshape", "tuple", Q)
        phase = group_of(root, "ptycho", _emd("custom", "SingleslicePtychography", kind))
        obj = group_of(phase, "_object_emd", _emd("custom_array", "Array", kind))
        obj.create_dataset("data", data=PATTERN * (1 + 1j))
        probe = group_of(phase, "_probe_emd", _emd("custom_array", "Array", kind))
        probe.create_dataset("data", data=PATTERN[None] * 1j)
        strange = group_of(root, "strange", _emd("array", "FutureThing", kind))
        strange.create_dataset("data", data=np.arange(4))


def _emd(group: str, python: str, kind: Callable[[str], Any]) -> dict[str, Any]:
    return {"emd_group_type": kind(group), "python_class": kind(python)}


# ---- py4DSTEM 0.13 -------------------------------------------------------------------------------
def v013(path: Path) -> None:
    """Numbered kinds; stacks along the last axis; the calibration is a group of the tree."""
    with h5py.File(path, "w") as file:
        version = {"version_major": "0", "version_minor": "13", "version_release": "11"}
        top = group_of(file, "4DSTEM", {"emd_group_type": "root", **version})
        calibration_items(_v013(top, "calibration", 0, "Calibration"))
        cube = _v013(top, "datacube", 1, "DataCube")
        cube.create_dataset("data", data=CUBE).attrs["units"] = "pixel intensity"
        image = _v013(cube, "bf", 1, "VirtualImage")
        image.create_dataset("data", data=MAP)
        probe = _v013(top, "probe", 1, "Probe")
        probe.create_dataset("data", data=np.stack([PATTERN, -PATTERN], axis=-1))
        put_lists(_v013(top, "peaks", 3, "PointListArray"))
        vectors = _v013(top, "bragg", 4, "BraggVectors")
        put_lists(_v013(vectors, "_v_uncal", 3, "PointListArray"))
        metadata = vectors.create_group("_metadata").create_group("braggvectors")
        item(metadata, "Qshape", "tuple", Q)
        marks = _v013(top, "marks", 2, "PointList")
        marks.create_dataset("x", data=[1.0, 2.0])
        marks.create_dataset("y", data=[3.0, 4.0])


def _v013(parent: h5py.Group, name: str, kind: int, cls: str) -> h5py.Group:
    return group_of(parent, name, {"emd_group_type": kind, "py4dstem_class": cls})


# ---- 4DSTEM_experiment ---------------------------------------------------------------------------
def v012(path: Path) -> None:
    """0.12: string versions, ``coordinates``, h5rw metadata."""
    with h5py.File(path, "w") as file:
        top = group_of(file, "4DSTEM_experiment", {"emd_group_type": 2, "version_major": "0",
                                                   "version_minor": "12"})  # fmt: skip
        data = _folders(top)
        cube = data["datacubes"].create_group("datacube_0")
        cube.attrs["emd_group_type"] = 1
        cube.create_dataset("data", data=CUBE, chunks=(1, 1, *Q), compression="gzip")
        pixels = [(np.arange(n), name, b"[pix]") for n, name in zip(SHAPE, _NAMES, strict=True)]
        dims(cube, pixels, 1)
        _slices(data, "data")
        marks = data["pointlists"].create_group("marks")
        marks.attrs.update({"coordinates": "y, x", "dimensions": 2, "length": 2})
        for name, values in (("x", [1.0, 2.0]), ("y", [3.0, 4.0])):
            marks.create_group(name).create_dataset("data", data=values).attrs["dtype"] = "float64"
        put_lists(data["pointlistarrays"].create_group("peaks"))
        known = data.create_group("coordinates").create_group("coordinates")
        for name, value in (("Q_pixel_size", 0.02), ("Q_pixel_units", "A^-1"),
                            ("R_pixel_size", 1.5), ("R_pixel_units", "nm"), ("QR_flip", True),
                            ("qx0", ORIGIN[0]), ("qy0", ORIGIN[1]), ("a", 1.1), ("b", 0.9),
                            ("theta", 0.3), ("QR_rotation", 0.2)):  # fmt: skip
            known.create_dataset(name, data=value)
        user = top.create_group("metadata").create_group("user")
        user.attrs["h5rw_version"] = "0.1"
        item(user, "name", "string", b"Ada")


_NAMES = (b"R_x", b"R_y", b"Q_x", b"Q_y")


def _folders(top: h5py.Group) -> h5py.Group:
    data = top.create_group("data")
    for name in ("datacubes", "counted_datacubes", "diffractionslices", "realslices",
                 "pointlists", "pointlistarrays"):  # fmt: skip
        data.create_group(name)
    return data


def _slices(data: h5py.Group, dataset: str) -> None:
    pattern = data["diffractionslices"].create_group("mean")
    pattern.create_dataset(dataset, data=PATTERN)
    stack = data["realslices"].create_group("shifts")
    stack.attrs["depth"] = 2
    stack.create_dataset(dataset, data=np.moveaxis(STACK, 0, -1))
    stack.create_dataset("dim3", data=np.array([b"dx", b"dy"], "S64"))


def v07(path: Path) -> None:
    """0.7: integer versions, attribute metadata, counted electrons."""
    with h5py.File(path, "w") as file:
        top = group_of(file, "4DSTEM_experiment", {"emd_group_type": 2, "version_major": 0,
                                                   "version_minor": 7})  # fmt: skip
        data = _folders(top)
        cube = group_of(data["datacubes"], "datacube_0", {"emd_group_type": 1, "metadata": 0})
        cube.create_dataset("data", data=CUBE)
        counted = data["counted_datacubes"].create_group("counted")
        events = counted.create_dataset("data", R, h5py.vlen_dtype(np.dtype("u4")))
        events[0, 1], events[2, 3] = np.array([7, 9], "u4"), np.array([1], "u4")
        counted.attrs["index_coords"] = "ind"
        _slices(data, "data")
        metadata = top.create_group("metadata").create_group("metadata_0")
        calibration = metadata.create_group("calibration")
        calibration.attrs.update({"R_pix_size": 1.5, "R_pix_units": "nm", "K_pix_size": 0.02,
                                  "K_pix_units": "A^-1"})  # fmt: skip
        metadata.create_group("microscope").attrs["beam_energy"] = 200000.0
        top.create_group("log")


def v05(path: Path) -> None:
    """0.5: no type on the top group, old dataset names, one group per list."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"version_major": 0, "version_minor": 4})
        data = _folders(file.create_group("4DSTEM_experiment"))
        cube = data["datacubes"].create_group("datacube_0")
        cube.create_dataset("datacube", data=CUBE)
        pattern = data["diffractionslices"].create_group("mean")
        pattern.create_dataset("diffractionslice", data=PATTERN)
        pieces = data["realslices"].create_group("shifts")
        for k, image in enumerate(STACK):
            pieces.create_dataset(f"slice_{k}", data=image)
        marks = data["pointlists"].create_group("marks")
        for name, values in (("x", [1.0, 2.0]), ("y", [3.0, 4.0])):
            marks.create_group(name).create_dataset("pointlist", data=values)
        peaks = data["pointlistarrays"].create_group("peaks")
        for (rx, ry), row in np.ndenumerate(lists()):
            cell = peaks.create_group(f"{rx}_{ry}")
            for name in POINTS.names or ():
                cell.create_group(name).create_dataset("data", data=row[name])


# ---- Berkeley ------------------------------------------------------------------------------------
def berkeley(path: Path, detector_first: bool = False) -> None:
    """EMD 0.2: one scan, in either order of its axes."""
    axes = [([0, 1.5], "y", "[n_m]"), ([0, 1.6], "x", "[n_m]"),
            ([-0.4, -0.2], "ky", "[1_/_n_m]"), ([-0.3, -0.1], "kx", "[1_/_n_m]")]  # fmt: skip
    with h5py.File(path, "w") as file:
        file.attrs.update({"version_major": 0, "version_minor": 2})
        group = group_of(file.create_group("signals"), "scan", {"emd_group_type": 1})
        group.create_dataset("data", data=CUBE.T if detector_first else CUBE)
        dims(group, axes[::-1] if detector_first else axes, 1)
        group_of(file, "user", {"name": "Ada"})


def layers(path: Path) -> None:
    """EMD 1.0 with a fifth dimension, the depth, first."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"emd_group_type": "file", "version_major": 1, "version_minor": 0})
        root = group_of(file, "depths_root", _emd("root", "Root", str))
        node = group_of(root, "depths", _emd("array", "Array", str))
        node.create_dataset("data", data=np.stack([CUBE, CUBE + 1]), chunks=(1, 1, 4, *Q))
        facts = [([2.5, 5.0], "depth", "A")] + [([0, 2.0], n, "A") for n in ("R_x", "R_y")]
        dims(node, facts, 0)
