"""HDF5 files that no vendor claims."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.slices import ArrayResult, RealSlice
from py4DSTEM.errors import CorruptFile, FormatError, ParameterError, UnknownFormat
from py4DSTEM.io.format import ReadOptions, Source, detect
from py4DSTEM.io.hdf5.chunks import ChunkGrid
from py4DSTEM.io.hdf5.codecs import Pipeline
from py4DSTEM.io.read import read_file
from py4DSTEM.process.diffraction import MeanPattern
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.testing.formats import check_file, survey_damage

SETS = {"strain": (40, 40, 128, 128), "ptycho_thick": (32, 32, 96, 96)}


def read(path: Path, **options):
    return read_file(path, ReadOptions(**options))


@pytest.fixture
def scan() -> np.ndarray:
    """A scan of 3 x 4 patterns of 5 x 6 pixels, big-endian."""
    return np.random.default_rng(2).integers(0, 60000, (3, 4, 5, 6)).astype(">u2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.data"


# ---- real files ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SETS)
def test_simulated_sets(shared_data: Path, name: str) -> None:
    path = shared_data / name / "data.h5"
    cube = read(path)
    assert isinstance(cube, Cube) and cube.shape == SETS[name] and cube.dtype == np.uint16
    assert cube.metadata.original["dataset"]["@axes"].startswith("scan_y")
    with h5py.File(path) as f:
        np.testing.assert_array_equal(cube.data[3, 4], f["data"][3, 4])
        probe = read(path, dataset="vacuum_probe")
        np.testing.assert_array_equal(probe.data, f["vacuum_probe"][()])
    assert isinstance(probe, RealSlice)
    assert read(path, dataset="/data").shape == SETS[name]


def test_two_scans_are_a_mapping(shared_data: Path) -> None:
    found = read(shared_data / "acom/data.h5")
    assert list(found) == ["data", "data_precession"]
    assert all(isinstance(cube, Cube) for cube in found.values())


def test_sample_of_another_package(shared_data: Path) -> None:
    path = shared_data / "real/hdf5_other/hdf5_sample.h5"
    cube = read(path)
    assert cube.shape == (16, 16, 16, 16)
    assert cube.data[...].astype(float).sum() == pytest.approx(152.95181324557507, rel=1e-6)
    check_file(path)


def test_nothing_in_it(shared_data: Path) -> None:
    with pytest.raises(UnknownFormat, match="no dataset at all"):
        read(shared_data / "broken/empty_hdf5.h5")


def test_terabytes_open_and_say_that_they_are_empty(shared_data: Path) -> None:
    cube = read(shared_data / "broken/h5_terabytes_unwritten.h5")
    assert cube.shape == (20000, 20000, 128, 128)
    assert "400000000 of 400000000 chunks were never written" in cube.metadata.notes[0]
    assert not cube.data[19999, 5].any()


# ---- which dataset -------------------------------------------------------------------------------
def test_any_extension_and_byte_order(path: Path, scan: np.ndarray) -> None:
    with h5py.File(path, "w") as f:
        f.create_dataset("deep/er/data", data=scan, chunks=(1, 2, 5, 6), compression="gzip")
        f["deep/er/other"] = np.zeros((7, 5, 6))
        f["deep/words"] = "text"
    cube = read(path)
    assert isinstance(cube, Cube) and cube.name == "deep/er/data"
    assert cube.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(cube.data[...], scan)
    check_file(path)
    check_file(path, dataset="deep/er/other", scan_shape=(1, 7))


def test_specific_formats_come_first(path: Path, scan: np.ndarray) -> None:
    with h5py.File(path, "w") as f:
        f["Experiments/one/data"] = scan
    names = [fmt.name for fmt in detect(Source.of(path))]
    assert names[0] == "hspy" and names[-1] == "hdf5"


def test_stack_becomes_a_scan_or_an_array(path: Path, scan: np.ndarray) -> None:
    with h5py.File(path, "w") as f:
        f["frames"] = scan.reshape(12, 5, 6)
    stack = read(path)
    assert isinstance(stack, ArrayResult) and stack.shape == (12, 5, 6)
    cube = read(path, scan_shape=(3, 4))
    np.testing.assert_array_equal(cube.data[...], scan)
    skipped = read(path, scan_shape=(3, 3), flyback=1)
    np.testing.assert_array_equal(skipped.data[...], scan[:, :3])


def test_huge_stack_asks_for_the_scan_shape(path: Path) -> None:
    with h5py.File(path, "w") as f:
        # Rows of the stack beyond the first are not written, yet enough is to be believed.
        frames = f.create_dataset("frames", (20000, 256, 256), "u2", chunks=(1, 256, 256))
        frames[:40] = 1
    with pytest.raises(ParameterError, match=r"2\.6 GB.*scan_shape"):
        read(path)
    cube = read(path, scan_shape=(100, 200))
    assert cube.data[0, 39].sum() == 256**2 and cube.data[0, 40].sum() == 0
    assert "19960 of 20000 chunks were never written" in cube.metadata.notes[0]


def test_array_that_is_only_declared_is_not_loaded(path: Path) -> None:
    with h5py.File(path, "w") as f:
        f.create_dataset("frames", (5000, 64, 64), "u2", chunks=(1, 64, 64))
    with pytest.raises(CorruptFile, match="does not hold"):
        read(path)


def test_what_there_is_is_listed(path: Path) -> None:
    with h5py.File(path, "w") as f:
        f["a/image"] = np.eye(3)
        f["spectrum"] = np.arange(4)
    with pytest.raises(UnknownFormat, match=r"a/image \(3, 3\) float64; spectrum \(4,\) int64"):
        read(path)
    assert isinstance(read(path, dataset="a/image"), RealSlice)
    assert isinstance(read(path, dataset="spectrum"), ArrayResult)
    with pytest.raises(FormatError, match="no object 'imag'"):
        read(path, dataset="imag")
    with pytest.raises(FormatError, match="not a dataset"):
        read(path, dataset="a")


def test_values_in_other_files_are_refused(tmp_path: Path, path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"TOP-SECRET" * 100)
    with h5py.File(path, "w") as f:
        f.create_dataset("scan", (2, 2, 5, 5), "u1", external=[(str(secret), 0, 100)])
    with pytest.raises(FormatError, match="raw file"):
        read(path)


# ---- axes ----------------------------------------------------------------------------------------
def with_scales(path: Path, scan: np.ndarray, units: tuple[str, ...], bend: float = 0) -> Cube:
    with h5py.File(path, "w") as f:
        f["scan"] = scan
        for k, unit in enumerate(units):
            scale = f.create_dataset(f"axis{k}", data=2.0 + 0.5 * np.arange(scan.shape[k]))
            scale[-1] += bend
            scale.make_scale(f"axis{k}")
            scale.attrs["units"] = unit
            f["scan"].dims[k].attach_scale(scale)
    return read(path)


def test_dimension_scales_calibrate(path: Path, scan: np.ndarray) -> None:
    cube = with_scales(path, scan, ("nm", "nm", "1/nm", "1/nm"))
    assert [(a.step, a.offset, a.unit) for a in cube.calibration.R] == [(0.5, 2.0, "nm")] * 2
    assert [(a.step, a.unit) for a in cube.calibration.Q] == [(0.5, "nm^-1")] * 2


@pytest.mark.parametrize(
    ("units", "bend"),
    [
        (("s", "s", "eV", "eV"), 0),
        (("nm", "m", "1/nm", "mrad"), 0),
        (("nm",) * 4, 0.1),
        (("",) * 4, 0),
    ],
)
def test_doubtful_scales_do_not(
    path: Path, scan: np.ndarray, units: tuple[str, ...], bend: float
) -> None:
    cube = with_scales(path, scan, units, bend)
    assert not any(a.calibrated for a in (*cube.calibration.R, *cube.calibration.Q))
    assert "axis0" in cube.metadata.original["group"]


def test_attributes_are_kept(path: Path, scan: np.ndarray) -> None:
    with h5py.File(path, "w") as f:
        f["run/scan"] = scan
        f["run/scan"].attrs["pixel_size"] = 0.25
        f["run/high_tension_kV"] = 200
    original = read(path).metadata.original
    assert original["dataset"]["@pixel_size"] == 0.25
    assert original["group"]["high_tension_kV"] == 200


# ---- how often chunks are decoded ----------------------------------------------------------------
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "chunks", [(1, 1, 12, 10), (1, 8, 12, 10), (3, 5, 12, 10), (4, 24, 12, 10), (5, 5, 4, 5)]
)
def test_each_chunk_is_decoded_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, chunks: tuple[int, ...]
) -> None:
    values = np.random.default_rng(3).integers(0, 99, (16, 24, 12, 10), np.uint16)
    with h5py.File(path, "w") as f:
        f.create_dataset("scan", data=values, chunks=chunks, compression="gzip")
    decoded, decode = [], Pipeline.decode

    def counting(self: Pipeline, *args: object) -> None:
        decoded.append(1)
        decode(self, *args)

    monkeypatch.setattr(Pipeline, "decode", counting)
    monkeypatch.setattr("py4DSTEM.stream.tile.TARGET_BYTES", 16 * 240)
    mean = run(MeanPattern(), read(path), options=RunOptions(workers=workers))
    np.testing.assert_allclose(mean.data, values.mean((0, 1)))
    assert len(decoded) == ChunkGrid.of(values.shape, chunks).size


def test_damaged(shared_data: Path, path: Path, scan: np.ndarray) -> None:
    assert survey_damage(shared_data / "real/hdf5_other/hdf5_sample.h5", count=16).failures == []
    with_scales(path, scan, ("nm", "nm", "1/nm", "1/nm"))
    assert survey_damage(path, count=24).failures == []
