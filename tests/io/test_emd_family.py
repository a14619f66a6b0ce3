"""Files of this family: every generation, real files, and what the published reader finds."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import synthetic_emd as made

import py4DSTEM
from py4DSTEM import ArrayResult, CorruptFile, DiffractionSlice, FormatError, PointTable, RealSlice
from py4DSTEM.core.cube import Cube
from py4DSTEM.io.store import ragged
from py4DSTEM.process.bragg.columns import to_columns
from py4DSTEM.process.bragg.peaks import BraggPeaks


def check_cube(cube: Any) -> None:
    assert isinstance(cube, py4DSTEM.DataCube)
    np.testing.assert_array_equal(cube.data[...], made.CUBE)
    assert cube.dtype == np.uint16


def check_calibration(value: Any) -> None:
    calibration = value.calibration
    assert (calibration.R_pixel_size, calibration.R_pixel_units) == (1.5, "nm")
    assert (calibration.Q_pixel_size, calibration.Q_pixel_units) == (0.02, "A^-1")
    assert (calibration.rotation_rad, calibration.flip) == (0.2, True)
    assert (calibration.ellipse.a, calibration.ellipse.b, calibration.ellipse.theta_rad) == (
        1.1,
        0.9,
        0.3,
    )
    np.testing.assert_array_equal(calibration.origin_px, np.stack(made.ORIGIN, -1))


def check_points(table: Any) -> None:
    assert isinstance(table, PointTable)
    np.testing.assert_array_equal(table.counts, made.COUNTS)
    np.testing.assert_array_equal(table.points, made.flat())


# ---- generations ---------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [str, str.encode, lambda s: np.bytes_(s.encode())])
def test_emd1(tmp_path: Path, kind: Callable[[str], Any]) -> None:
    made.emd1(path := tmp_path / "a.h5", kind)
    found = py4DSTEM.read(path)
    check_cube(found["datacube"])
    check_calibration(found["datacube"])
    assert isinstance(found["datacube/bf"], RealSlice)
    check_calibration(found["datacube/bf"])
    np.testing.assert_array_equal(found["datacube/bf"].data, made.MAP)
    (step,) = found["datacube/bf"].history.steps
    assert step.parameters == {"mode": "circle", "nothing": None, "geometry": ((3, 2), 4)}
    assert found["strain"].labels == ("e_xx", "e_yy")
    check_points(found["bragg"])
    assert found["bragg"].Q_shape == made.Q
    np.testing.assert_array_equal(found["ptycho/object"].data, made.PATTERN * (1 + 1j))
    assert found["ptycho/probe"].data.dtype.kind == "c"
    assert isinstance(found["strange"], ArrayResult)


def test_detector_dimensions_are_not_trusted(tmp_path: Path) -> None:
    made.emd1(path := tmp_path / "a.h5")
    cube = py4DSTEM.read(path, dataset="datacube")
    assert [axis.offset for axis in cube.calibration.Q] == [0, 0]
    assert cube.calibration.R_pixel_size == 1.5  # the dimensions say 9


def test_py4dstem_013(tmp_path: Path) -> None:
    made.v013(path := tmp_path / "a.h5")
    found = py4DSTEM.read(path)
    check_cube(found["datacube"])
    check_calibration(found["datacube"])
    np.testing.assert_array_equal(found["datacube/bf"].data, made.MAP)
    assert found["probe"].labels == ("probe", "kernel")
    np.testing.assert_array_equal(found["probe"]["kernel"].data, -made.PATTERN)
    check_points(found["peaks"])
    check_points(found["bragg"])
    assert found["bragg"].Q_shape == made.Q
    assert found["marks"].data.dtype.names == ("x", "y")


def test_py4dstem_012(tmp_path: Path) -> None:
    made.v012(path := tmp_path / "a.h5")
    found = py4DSTEM.read(path)
    check_cube(found["datacube_0"])
    check_calibration(found["datacube_0"])
    assert found["datacube_0"].metadata.operator == "Ada"
    assert isinstance(found["mean"], DiffractionSlice)
    np.testing.assert_array_equal(found["shifts"].data, made.STACK)
    assert found["shifts"].labels == ("dx", "dy")
    assert found["marks"].data.dtype.names == ("y", "x")
    check_points(found["peaks"])


def test_py4dstem_07(tmp_path: Path) -> None:
    made.v07(path := tmp_path / "a.h5")
    found = py4DSTEM.read(path)
    check_cube(found["datacube_0"])
    calibration = found["datacube_0"].calibration
    assert (calibration.R_pixel_size, calibration.Q_pixel_size) == (1.5, 0.02)
    assert calibration.energy_eV == 200e3
    assert found["counted"].counts.sum() == 3
    np.testing.assert_array_equal(found["counted"][0, 1]["index"], [7, 9])


def test_py4dstem_05(tmp_path: Path) -> None:
    made.v05(path := tmp_path / "a.h5")
    found = py4DSTEM.read(path)
    check_cube(found["datacube_0"])
    np.testing.assert_array_equal(found["mean"].data, made.PATTERN)
    np.testing.assert_array_equal(found["shifts"].data, made.STACK)
    assert found["marks"].data["y"].tolist() == [3.0, 4.0]
    table = found["peaks"]
    np.testing.assert_array_equal(table.counts, made.COUNTS)
    np.testing.assert_array_equal(table.points["intensity"], made.flat()["intensity"])


@pytest.mark.parametrize("detector_first", [False, True])
def test_berkeley(tmp_path: Path, detector_first: bool) -> None:
    made.berkeley(path := tmp_path / "a.emd", detector_first)
    cube = py4DSTEM.read(path)
    check_cube(cube)
    assert [a.step for a in cube.calibration.R] == pytest.approx([1.5, 1.6])
    assert cube.calibration.Q_pixel_units == "nm^-1"
    np.testing.assert_allclose(cube.calibration.origin_px, [2, 1.5])
    frames = py4DSTEM.mean_pattern(cube).data
    np.testing.assert_allclose(frames, made.CUBE.mean((0, 1)))


def test_one_cube_per_depth(tmp_path: Path) -> None:
    made.layers(path := tmp_path / "a.emd")
    found = py4DSTEM.read(path)
    assert list(found) == ["depths_depth0000", "depths_depth0001"]
    check_cube(found["depths_depth0000"])
    second = found["depths_depth0001"]
    np.testing.assert_array_equal(second.data[1:, 2], made.CUBE[1:, 2] + 1)
    assert second.metadata.notes == ("layer 1 of depth: 5 A",)


# ---- details -------------------------------------------------------------------------------------
def test_rows_are_read_in_bulk_as_h5py_reads_them(tmp_path: Path) -> None:
    made.emd1(path := tmp_path / "a.h5")
    with h5py.File(path) as file:
        dataset = file["datacube_root/bragg/_v_uncal/data"]
        fast = ragged.read_ragged(dataset)
        slow = ragged._read_slowly(dataset, made.POINTS)
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_link_out_of_the_file_is_not_followed(tmp_path: Path) -> None:
    made.emd1(tmp_path / "a.h5")
    with h5py.File(path := tmp_path / "b.h5", "w") as file:
        file.attrs["emd_group_type"] = "file"
        root = made.group_of(file, "r", {"emd_group_type": "root", "python_class": "Root"})
        root["stolen"] = h5py.ExternalLink(str(tmp_path / "a.h5"), "datacube_root/datacube")
        node = made.group_of(root, "own", {"emd_group_type": "array", "python_class": "Array"})
        node.create_dataset("data", data=np.arange(3))
    with pytest.raises(FormatError, match="'r/stolen' is a link to another file"):
        py4DSTEM.read(path)


def test_a_cube_without_data_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    made.emd1(path := tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["datacube_root/datacube/data"]
    with pytest.raises(CorruptFile, match=r"a\.h5.*no dataset 'data'"):
        py4DSTEM.read(path)


def test_declared_sizes_are_refused(tmp_path: Path) -> None:
    made.emd1(path := tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["datacube_root/strain/data"]
        file["datacube_root/strain"].create_dataset("data", (2, 1 << 16, 1 << 17), "f8")
    with pytest.raises(CorruptFile, match="declares values"):
        py4DSTEM.read(path)


def test_groups_in_circles_are_refused(tmp_path: Path) -> None:
    made.emd1(path := tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["datacube_root/datacube/again"] = file["datacube_root/datacube"]
    with pytest.raises(FormatError, match="nested too deeply"):
        py4DSTEM.read(path)


# ---- real files ----------------------------------------------------------------------------------
def test_real_files_of_014(shared_data: Path) -> None:
    cube = py4DSTEM.read(shared_data / "real/py4dstem/real_py4dstem.h5")
    assert cube.data[...].sum() == 2016
    assert (cube.calibration.R_pixel_size, cube.calibration.R_pixel_units) == (2.5, "A")
    assert cube.calibration.mean_origin_px == (31.5, 32.25)
    assert cube.calibration.ellipse.a == 1.02
    other = py4DSTEM.read(shared_data / "real/emd/py4DSTEM_size2x3x4x5.h5")
    assert other.shape == (2, 3, 4, 5)
    assert other.data[...].astype(float).sum() == pytest.approx(28255.876245498657)


def test_real_peaks_of_013(shared_data: Path) -> None:
    table = py4DSTEM.read(shared_data / "real/py4dstem/braggdisks_cali.h5")
    assert table.shape == (80, 58) and len(table) == 121390 and len(table[0, 0]) == 6
    assert (table.counts.min(), table.counts.max()) == (1, 70)
    sums = [table.points[name].sum() for name in ("qx", "qy", "intensity")]
    np.testing.assert_allclose(
        sums, [28979.453892718408, 221.11391131001037, 69536.39938606315], rtol=1e-9
    )


@pytest.mark.parametrize("name", ["small4d_py4dstem.h5", "small4d_ncem.emd"])
def test_constructed_scans(shared_data: Path, name: str) -> None:
    folder = shared_data / "real/constructed"
    cube = py4DSTEM.read(folder / name)
    expected = np.load(folder / "expected.npz")["data"]
    np.testing.assert_array_equal(cube.data[...], expected)
    np.testing.assert_array_equal(py4DSTEM.max_pattern(cube).data, expected.max((0, 1)))
    step = cube.calibration.Q_steps("A^-1")
    assert step == pytest.approx((0.0186, 0.0186))


def test_constructed_peaks(shared_data: Path) -> None:
    folder = shared_data / "real/constructed"
    table = py4DSTEM.read(folder / "small4d_py4dstem_bragg.h5")
    expected = np.load(folder / "expected_bragg.npz")["peaks_qx_qy_intensity"]
    found = np.stack([table.points[n] for n in ("qx", "qy", "intensity")], -1)
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    assert table.Q_shape == (40, 48)


def test_prismatic(shared_data: Path) -> None:
    found = py4DSTEM.read(shared_data / "real/emd/Si100_4D.emd")
    assert all(isinstance(cube, Cube) and cube.shape == (11, 11, 8, 8) for cube in found.values())
    total = sum(float(cube.data[...].astype(float).sum()) for cube in found.values())
    assert total == pytest.approx(221.2757043148673)
    cube = next(iter(found.values()))
    # The file says nm; its cell of 5.43 Å shows that it means Å.
    assert (cube.calibration.R_pixel_size, cube.calibration.R_pixel_units) == (0.5, "A")
    assert any("A and A^-1" in note for note in cube.metadata.notes)
    images = py4DSTEM.read(shared_data / "real/emd/Si100_2D_3D_DPC_potential_2slices.emd")
    assert images["DPC_CoM_depth0000"].labels == ("DPC_CoM_x", "DPC_CoM_y")


# ---- the published package as oracle -------------------------------------------------------------
@pytest.fixture(scope="session")
def peer() -> str:
    """The interpreter of py4DSTEM 0.14."""
    python = os.environ.get("PY4DSTEM_PEER_014")
    if not python:
        pytest.skip("PY4DSTEM_PEER_014 names no interpreter with py4DSTEM 0.14")
    return python


def interop(name: str) -> Path:
    return Path(__file__).resolve().parents[2] / "benchmarks" / "interop" / name


@pytest.fixture(scope="session")
def peer_files(peer: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of every class that py4DSTEM 0.14 saves, with the truth."""
    folder = tmp_path_factory.mktemp("peer")
    command = [peer, str(interop("peer_write.py")), "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=280)
    return folder


def test_files_of_the_published_package(peer_files: Path) -> None:
    truth = json.loads((peer_files / "truth.json").read_text())["files"]
    arrays = np.load(peer_files / "truth.npz")
    for file, facts in truth.items():
        found = py4DSTEM.read(peer_files / file)
        objects = found if isinstance(found, dict) else {facts["name"]: found}
        pool = [v.points if isinstance(v, PointTable) else np.asarray(v.data[...])
                for v in objects.values()]  # fmt: skip
        pool += [v.counts for v in objects.values() if isinstance(v, PointTable)]
        pool += [image for v in pool if v.ndim == 3 for image in v]
        for key in facts["arrays"]:
            wanted = arrays[f"{file}:{key}"]
            assert any(_same(wanted, have) for have in pool), (file, key)
        if "calibration" in facts:
            _check_keys(next(iter(objects.values())).calibration, facts["calibration"])


def _same(wanted: np.ndarray, have: np.ndarray) -> bool:
    if wanted.shape != have.shape or wanted.dtype.names != have.dtype.names:
        return False
    if wanted.dtype.names:
        return all(np.array_equal(wanted[n], have[n]) for n in wanted.dtype.names)
    return np.array_equal(wanted, have, equal_nan=True)


def _check_keys(calibration: Any, keys: dict[str, Any]) -> None:
    assert calibration.R_pixel_size == keys["R_pixel_size"]
    assert calibration.Q_pixel_size == keys["Q_pixel_size"]
    assert calibration.rotation_rad == keys["QR_rotation"]
    assert calibration.flip == keys["QR_flip"]
    assert calibration.semiangle_mrad == keys["convergence_semiangle_mrad"]
    assert calibration.probe_radius_px == keys["probe_semiangle"]
    np.testing.assert_array_equal(calibration.origin_px[..., 0], keys["qx0"])


@pytest.mark.parametrize("compression", ["gzip", "bitshuffle", "zstd", "none"])
def test_the_published_package_opens_our_files(peer: str, tmp_path: Path, compression: str) -> None:
    cube = py4DSTEM.DataCube(made.CUBE).with_calibration(
        R_pixel_size=2.0, R_pixel_units="nm", Q_pixel_size=0.2, Q_pixel_units="nm^-1",
        origin_px=np.stack(made.ORIGIN, -1), rotation_rad=0.1, flip=True,
    )  # fmt: skip
    table = PointTable(made.flat(), np.r_[0, np.cumsum(made.COUNTS)], made.R, Q_shape=made.Q)
    objects = {
        "cube": cube,
        "bf": RealSlice(made.MAP, cube.calibration),
        "strain": RealSlice(made.STACK, labels=("e_xx", "e_yy"), name="strain"),
        "mean": DiffractionSlice(made.PATTERN),
        "peaks": table,
        "bragg": BraggPeaks.from_columns(to_columns(table), made.R, Q_shape=made.Q),
    }
    for name, value in objects.items():
        py4DSTEM.save(tmp_path / f"{name}.h5", value, compression=compression)
    files = [str(tmp_path / f"{name}.h5") for name in objects]
    done = subprocess.run([peer, str(interop("peer_open.py")), *files], capture_output=True,
                          timeout=280, check=False)  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
    facts = {line["file"].removesuffix(".h5"): line for line in lines}
    assert not [line for line in lines if "error" in line]
    assert facts["cube"]["class"] == "DataCube"
    assert facts["cube"]["sum"] == made.CUBE.sum()
    keys = facts["cube"]["calibration"]
    assert (keys["Q_pixel_size"], keys["Q_pixel_units"]) == (pytest.approx(0.02), "A^-1")
    np.testing.assert_array_equal(keys["qx0"], made.ORIGIN[0])
    assert facts["strain"]["labels"] == ["e_xx", "e_yy"]
    for name in ("peaks", "bragg"):
        assert facts[name]["class"] == "BraggVectors"
        assert facts[name]["counts"] == made.COUNTS.tolist()
        assert facts[name]["sum"]["qx"] == made.flat()["qx"].sum()


def test_hyperspy_opens_our_files(tmp_path: Path) -> None:
    reader = pytest.importorskip("rsciio.emd")
    cube = py4DSTEM.DataCube(made.CUBE).with_calibration(R_pixel_size=2.0, R_pixel_units="nm")
    py4DSTEM.save(path := tmp_path / "a.h5", cube)
    (signal,) = reader.file_reader(str(path))
    np.testing.assert_array_equal(signal["data"], made.CUBE)
    assert signal["axes"][0]["scale"] == 2.0 and signal["axes"][0]["units"] == "nm"
