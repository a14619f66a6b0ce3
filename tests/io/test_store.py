"""What is saved comes back: types, numbers, shapes, calibrations, history, names."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import py4DSTEM
from py4DSTEM import (
    ArrayResult,
    Axis,
    Calibration,
    DataCube,
    DiffractionSlice,
    Ellipse,
    History,
    Metadata,
    ParameterError,
    PointTable,
    Py4DSTEMWarning,
    RealSlice,
    StoreError,
)
from py4DSTEM.core.lazy import BlockArray
from py4DSTEM.io.store.calib import from_keys, same_keys, to_keys
from py4DSTEM.io.store.encode import Compression
from py4DSTEM.io.store.migrate import migrated
from py4DSTEM.io.store.plain import dumps, loads
from py4DSTEM.io.store.schema import SCHEMA, register_result, safe_name

RNG = np.random.default_rng(3)
R, Q = (5, 7), (12, 16)
EXACT = Calibration(
    R=(Axis("Rx", 2.0, 1.0, "nm"), Axis("Ry", 3.0, 0.0, "nm")),
    Q=(Axis("Qx", 0.02, -0.1, "A^-1"), Axis("Qy", 0.021, 0.0, "A^-1")),
    origin_px=RNG.normal(5, 1, (*R, 2)),
    ellipse=Ellipse(1.1, 0.9, 0.3),
    rotation_rad=0.2,
    flip=True,
    energy_eV=200e3,
    semiangle_mrad=20.0,
    probe_radius_px=3.0,
)
STORY = History().then("mean-pattern", {"where": (1, 2), "deep": {"none": None, "list": [1.5]}})
POINTS = np.dtype([("qx", "f8"), ("qy", "f8"), ("intensity", "f4"), ("label", "i4")])


def points(count: int = 40) -> np.ndarray:
    table = np.zeros(count, POINTS)
    table["qx"], table["label"] = RNG.normal(size=count), np.arange(count)
    return table


def offsets(count: int = 40) -> np.ndarray:
    inner = np.sort(RNG.integers(0, count + 1, R[0] * R[1] - 1))
    return np.concatenate([[0], inner, [count]])


def cube(**changes: Any) -> DataCube:
    data = RNG.poisson(3, (*R, *Q)).astype(np.uint16)
    metadata = Metadata(
        title="t", energy_eV=200e3, notes=("assumed",),
        original={"big": np.arange(100.0), "tags": {"a/b": [1, (2, 3)], 4: b"raw"}},
    )  # fmt: skip
    return replace(DataCube(data, EXACT, "scan", STORY, metadata), **changes)


def objects() -> dict[str, Any]:
    return {
        "scan": cube(),
        "scan/bf": RealSlice(RNG.normal(size=R), EXACT, STORY, "bright field"),
        "scan/data": RealSlice(np.ones((2, *R), "c8"), labels=("a", "b"), name="z", units="V"),
        "dp": DiffractionSlice(RNG.integers(0, 9, Q), EXACT),
        "stack": DiffractionSlice(RNG.normal(size=(3, *Q)), labels=("é", "", "c d"), name="s"),
        "bragg": PointTable(points(), offsets(), R, EXACT, STORY, "B", Q),
        "lists": PointTable(points(), offsets(), R, name="L"),
        "none": PointTable(points(0), np.zeros(36, int), R, name="nothing"),
        "curve": ArrayResult(RNG.normal(size=(3, 4)), (Axis("E", unit="eV"), Axis("n")), STORY),
        "deep/below/number": ArrayResult(np.array(3.5), name="one"),
        "text": ArrayResult(np.array([["aé", "b"]])),
        "record": ArrayResult(points(5)),
        "dates": ArrayResult(np.array(["2020-01-02"], "M8[D]")),
        "large": ArrayResult(RNG.normal(size=(50, 60, 30))),
        "empty": ArrayResult(np.zeros((0, 3), np.float32)),
        "flags": ArrayResult(np.array([True, False])),
        "half": ArrayResult(np.arange(5, dtype=np.float16)),
    }


def values_of(value: Any) -> np.ndarray:
    return np.asarray(value.points if isinstance(value, PointTable) else value.data[...])


def assert_same(old: Any, new: Any) -> None:
    a, b = values_of(old), values_of(new)
    assert (a.dtype.newbyteorder("="), a.shape) == (b.dtype, b.shape)
    np.testing.assert_array_equal(a, b)
    for name in ("name", "calibration", "axes", "labels", "units", "shape", "Q_shape"):
        assert getattr(old, name, None) == getattr(new, name, None), name
    assert old.history.steps == new.history.steps
    if isinstance(old, PointTable):
        np.testing.assert_array_equal(old.offsets, new.offsets)


# ---- round trips ---------------------------------------------------------------------------------
@pytest.mark.parametrize("compression", ["gzip", "bitshuffle", "zstd", "none"])
def test_everything_comes_back(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a b.h5"
    saved = objects()
    py4DSTEM.save(path, saved, compression=compression)
    found = py4DSTEM.read(path)
    assert set(found) == set(saved)
    for name, value in saved.items():
        assert type(found[name]) is type(value)
        assert_same(value, found[name])
    metadata, before = found["scan"].metadata, saved["scan"].metadata
    assert (metadata.title, metadata.notes) == (before.title, before.notes)
    assert metadata.original["tags"] == before.original["tags"]
    np.testing.assert_array_equal(metadata.original["big"], before.original["big"])


def test_objects_come_back_in_the_order_of_saving(tmp_path: Path) -> None:
    names = ["z", "a", "m"]
    py4DSTEM.save(path := tmp_path / "a.h5", {n: np.arange(3) for n in names})
    py4DSTEM.save(path, {"b": np.arange(3)}, mode="a")
    assert list(py4DSTEM.read(path)) == [*names, "b"]


def test_one_object_comes_back_as_itself(tmp_path: Path) -> None:
    py4DSTEM.save(path := tmp_path / "a.h5", cube())
    assert isinstance(py4DSTEM.read(path), DataCube)
    assert py4DSTEM.read(path).calibration == EXACT


DTYPES = ["u1", ">u2", "<i4", "i8", "u8", ">f4", "f8", "f2", "?", "i1"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_scan_comes_back(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 4))
    array = data.draw(hnp.arrays(data.draw(st.sampled_from(DTYPES)), shape))
    chunks = data.draw(st.none() | st.tuples(*[st.integers(1, 7)] * 4))
    kind = data.draw(st.sampled_from(["gzip", "bitshuffle", "zstd", "none"]))
    path = tmp_path_factory.mktemp("s") / "a.h5"
    with np.errstate(invalid="ignore"):
        py4DSTEM.save(path, DataCube(array), chunks=chunks, compression=kind)
    with h5py.File(path) as file:  # every chunk passes HDF5's own checksum and filters
        np.testing.assert_array_equal(file["datacube_root/datacube/data"][()], array)
    found = py4DSTEM.read(path)
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found.data[...], array)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_array_comes_back(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    array = data.draw(hnp.arrays(data.draw(st.sampled_from([*DTYPES, "c8", "c16"])), shape))
    name = data.draw(st.text(min_size=1, max_size=8).filter(lambda t: _encodable(t)))
    path = tmp_path_factory.mktemp("s") / "a.h5"
    py4DSTEM.save(path, {name: ArrayResult(array, name=name)})
    found = py4DSTEM.read(path, dataset=name.strip("/"))
    assert_same(ArrayResult(array, name=name), found)


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(name.strip("/")) and "/" not in name


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(counts=hnp.arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)),
                         elements=st.integers(0, 4)))  # fmt: skip
def test_any_table_comes_back(tmp_path_factory: pytest.TempPathFactory, counts: Any) -> None:
    table = PointTable(points(int(counts.sum())), np.r_[0, np.cumsum(counts)], counts.shape)
    path = tmp_path_factory.mktemp("s") / "a.h5"
    py4DSTEM.save(path, table)
    assert_same(table, py4DSTEM.read(path))


class Lazy(BlockArray):
    """A scan that is computed, and counts what it hands out."""

    shape, dtype = (9, 8, 20, 30), np.dtype(np.uint16)

    def __init__(self) -> None:
        self.largest = 0

    def read_block(self, rx: slice, ry: slice) -> np.ndarray:
        self.largest = max(self.largest, (rx.stop - rx.start) * (ry.stop - ry.start))
        x, y = np.mgrid[rx, ry]
        frames = np.zeros((x.size, 20, 30), np.uint16)
        frames[:, 3, 4] = (8 * x + y).ravel()
        return frames


def test_scans_are_streamed_in_bounded_memory(tmp_path: Path) -> None:
    lazy = Lazy()
    budget = py4DSTEM.RunOptions(memory=20 * 30 * 2 * 8 * 4, workers=2)
    py4DSTEM.save(path := tmp_path / "a.h5", DataCube(lazy), options=budget, chunks=(1, 2, 20, 30))
    assert lazy.largest <= 8
    found = py4DSTEM.read(path)
    np.testing.assert_array_equal(found.data[:, :, 3, 4], np.arange(72).reshape(9, 8))
    with pytest.raises(ParameterError, match="too large for the memory budget"):
        py4DSTEM.save(path, DataCube(lazy), options=budget, chunks=(9, 8, 20, 30))


def test_progress_and_cancel(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    options = py4DSTEM.RunOptions(progress=lambda *a: seen.append(a))
    py4DSTEM.save(path := tmp_path / "a.h5", cube(), options=options)
    assert seen[-1][0] == seen[-1][1] and "scan" in seen[-1][2]

    class Now:
        def is_set(self) -> bool:
            return True

    before = path.read_bytes()
    with pytest.raises(py4DSTEM.Cancelled):
        py4DSTEM.save(path, cube(), options=py4DSTEM.RunOptions(cancel=Now()))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


# ---- adding --------------------------------------------------------------------------------------
def test_objects_are_added(tmp_path: Path) -> None:
    first, extra = cube(), RealSlice(np.ones(R), EXACT, name="bf")
    py4DSTEM.save(path := tmp_path / "a.h5", first)
    py4DSTEM.save(path, {"bf": extra, "scan2": first.crop(R=((1, 4), (0, 5)))}, mode="a")
    found = py4DSTEM.read(path)
    assert_same(first, found["scan"])
    assert_same(extra, found["bf"])
    assert found["scan2"].shape == (3, 5, *Q)


def test_a_name_is_taken_only_once(tmp_path: Path) -> None:
    py4DSTEM.save(path := tmp_path / "a.h5", {"x": np.arange(3), "y": np.arange(2)})
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"holds 'x'.*mode=.ao"):
        py4DSTEM.save(path, {"x": np.arange(4)}, mode="a")
    assert path.read_bytes() == before
    py4DSTEM.save(path, {"x": np.arange(4)}, mode="ao")
    assert py4DSTEM.read(path)["x"].shape == (4,)
    assert py4DSTEM.read(path)["y"].shape == (2,)


def test_only_emd_files_are_added_to(tmp_path: Path) -> None:
    with h5py.File(path := tmp_path / "a.h5", "w") as file:
        file["data"] = np.arange(3)
    with pytest.raises(StoreError, match=r"only files in the EMD 1\.0 layout"):
        py4DSTEM.save(path, np.arange(3), mode="a")


def test_adding_to_nothing_makes_a_file(tmp_path: Path) -> None:
    py4DSTEM.save(path := tmp_path / "a.h5", np.arange(3), mode="a")
    assert py4DSTEM.read(path).shape == (3,)


# ---- results of other rooms ----------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Fit:
    """A result such as later operations will have."""

    vectors: np.ndarray
    image: RealSlice
    table: PointTable
    count: int
    note: str | None
    calibration: Calibration
    history: History


def test_registered_results_come_back(tmp_path: Path) -> None:
    register_result("test-fit", Fit)
    saved = objects()
    fit = Fit(RNG.normal(size=(4, 2)), saved["scan/bf"], saved["bragg"], 3, None, EXACT, STORY)
    py4DSTEM.save(path := tmp_path / "a.h5", {"fit": fit, "bf": fit.image})
    found = py4DSTEM.read(path)
    assert list(found) == ["fit", "bf"]
    new = found["fit"]
    assert (new.count, new.note, new.calibration) == (3, None, EXACT)
    np.testing.assert_array_equal(new.vectors, fit.vectors)
    assert_same(fit.image, new.image)
    assert_same(fit.table, new.table)
    assert new.history.steps == STORY.steps


def test_results_of_unknown_kinds_are_given_in_parts(tmp_path: Path, monkeypatch: Any) -> None:
    register_result("test-fit", Fit)
    saved = objects()
    fit = Fit(np.ones(3), saved["scan/bf"], saved["bragg"], 3, None, EXACT, STORY)
    py4DSTEM.save(path := tmp_path / "a.h5", {"fit": fit})
    monkeypatch.setattr("py4DSTEM.io.store.schema._RESULTS", {})
    with pytest.warns(Py4DSTEMWarning, match="'test-fit'"):
        found = py4DSTEM.read(path)
    assert list(found) == ["fit/vectors", "fit/image", "fit/table"]


def test_a_kind_has_one_type() -> None:
    register_result("test-fit", Fit)
    with pytest.raises(ParameterError, match="already"):
        register_result("test-fit", "other:Type")


@pytest.mark.parametrize("value", [object(), {"a": object()}, np.array([object()]), {}])
def test_what_cannot_be_saved_is_refused_before_anything_is_written(
    tmp_path: Path, value: Any
) -> None:
    with pytest.raises(ParameterError):
        py4DSTEM.save(tmp_path / "a.h5", value)
    assert not list(tmp_path.iterdir())


# ---- calibration ---------------------------------------------------------------------------------
def test_what_another_program_changed_counts(tmp_path: Path) -> None:
    py4DSTEM.save(path := tmp_path / "a.h5", cube())
    with h5py.File(path, "r+") as file:
        file["scan_root/metadatabundle/calibration/R_pixel_size"][()] = 9.0
    found = py4DSTEM.read(path).calibration
    assert (found.R_pixel_size, found.R_pixel_units) == (9.0, "nm")
    assert found.ellipse == EXACT.ellipse


def test_keys_of_a_calibration() -> None:
    assert same_keys(to_keys(EXACT), EXACT)
    again, notes = from_keys(to_keys(EXACT), R)
    assert not notes
    assert again.origin_px is not None and np.array_equal(again.origin_px, EXACT.origin_px)
    broken, notes = from_keys({"Q_pixel_size": -1, "Q_pixel_units": "A^-1", "a": 0, "b": 1,
                               "theta": 0, "qx0": np.nan, "qy0": 3})  # fmt: skip
    assert broken == Calibration() and len(notes) == 2


# ---- schema --------------------------------------------------------------------------------------
def test_older_schemas_are_brought_up_to_date() -> None:
    steps = {1: lambda f: {"units": f["unit"]}, 2: lambda f: {**f, "new": 0}}
    assert migrated({"unit": "V"}, 1, current=3, steps=steps) == {"units": "V", "new": 0}
    assert migrated({"a": 1}, SCHEMA) == {"a": 1}
    with pytest.warns(Py4DSTEMWarning, match="later version"):
        assert migrated({"a": 1}, SCHEMA + 1) == {"a": 1}


def test_damaged_extras_leave_the_data_readable(tmp_path: Path) -> None:
    py4DSTEM.save(path := tmp_path / "a.h5", cube())
    with h5py.File(path, "r+") as file:
        file["scan_root/scan/metadatabundle/py4DSTEM/json"][()] = b"{"
    with pytest.warns(Py4DSTEMWarning, match="damaged"):
        assert py4DSTEM.read(path).shape == (*R, *Q)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.complex_numbers(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
    | st.dictionaries(st.integers(), inner),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(PLAIN)
def test_plain_values_come_back(value: Any) -> None:
    arrays: dict[str, np.ndarray] = {}
    text = dumps(value, arrays)
    json.loads(text)
    assert loads(text, arrays) == value


def test_names_do_not_collide_with_the_layout() -> None:
    assert safe_name("data", set()) == "data_"
    assert safe_name("dim0", {"dim0_"}) == "dim0__"
    assert safe_name("..", set()) == ".._"
    assert safe_name("bf", set()) == "bf"


@pytest.mark.parametrize(
    "options", [{"name": "lz4"}, {"name": "gzip", "level": 10}, {"name": "none", "level": 1}]
)
def test_compressions_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        Compression(**options)


def test_modes_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="mode is one of"):
        py4DSTEM.save(tmp_path / "a.h5", np.arange(3), mode="x")
    with pytest.raises(ParameterError, match=r"\.h5 files"):
        py4DSTEM.save(tmp_path / "a.npy", np.arange(3), mode="a")


# ---- other formats -------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".npy", ".hspy", ".zarr"])
def test_scans_are_exported(tmp_path: Path, suffix: str) -> None:
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    path, scan = tmp_path / f"a{suffix}", cube()
    for _ in range(2):  # the second replaces the first
        py4DSTEM.save(path, scan)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = py4DSTEM.read(path)
    np.testing.assert_array_equal(found.data[...], scan.data)
    if suffix != ".npy":
        assert [a.step for a in found.calibration.Q] == [0.02, 0.021]


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i2", "f4", "f8", "i4"])
def test_images_are_exported_exactly(tmp_path: Path, dtype: str) -> None:
    from PIL import Image

    image = RealSlice((10 * RNG.normal(size=R)).astype(dtype), EXACT)
    py4DSTEM.save(path := tmp_path / "a.tif", image)
    if dtype not in ("f8",):
        with Image.open(path) as found:
            np.testing.assert_array_equal(np.asarray(found).astype(dtype), image.data)
            assert float(found.tag_v2[282]) == pytest.approx(1 / 3)  # columns, pixels per nm
            assert "unit=nm" in found.tag_v2[270]


def test_stacks_are_exported_page_by_page(tmp_path: Path) -> None:
    from PIL import Image

    stack = DiffractionSlice(RNG.normal(size=(3, *Q)).astype("f4"), EXACT)
    py4DSTEM.save(path := tmp_path / "a.tiff", stack)
    with Image.open(path) as found:
        assert found.n_frames == 3
        found.seek(2)
        np.testing.assert_array_equal(np.asarray(found), stack.data[2])


def test_pictures_have_a_scale_bar(tmp_path: Path) -> None:
    from PIL import Image

    image = RealSlice(np.arange(80.0 * 90).reshape(80, 90), EXACT)
    py4DSTEM.save(tmp_path / "a.png", image)
    py4DSTEM.save(tmp_path / "b.png", image, scale_bar=False)
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert b.size == (90, 80) and a.size[1] > 80
        assert np.asarray(b)[0, 0] == 0 and np.asarray(b)[-1, -1] == 255


def test_points_are_exported_as_a_table(tmp_path: Path) -> None:
    table = objects()["lists"]
    py4DSTEM.save(path := tmp_path / "a.csv", table)
    lines = path.read_text().splitlines()
    assert lines[0] == "rx,ry,qx,qy,intensity,label"
    assert len(lines) == 41
    assert float(lines[1].split(",")[2]) == table.points["qx"][0]


@pytest.mark.parametrize("name", ["a.png", "a.csv", "a.tif"])
def test_formats_say_what_they_cannot_hold(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParameterError, match="use"):
        py4DSTEM.save(tmp_path / name, cube())
    with pytest.raises(ParameterError, match="one object"):
        py4DSTEM.save(tmp_path / name, {"a": cube(), "b": cube()})
    assert not list(tmp_path.iterdir())
