"""DECTRIS masters and data files: real ones, and made ones with every irregularity."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import CorruptFile, FormatError, Py4DSTEMWarning
from py4DSTEM.io.format import ReadOptions
from py4DSTEM.io.hdf5.codecs import Pipeline
from py4DSTEM.io.read import read_file
from py4DSTEM.process.diffraction import MeanPattern
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.testing.formats import check_file, survey_damage
from tests.io.truth import assert_same_sums, readings


def read(path: Path, **options) -> Cube:
    return read_file(path, ReadOptions(**options))


def make(
    folder: Path,
    frames: np.ndarray,
    per_file: int,
    *,
    chunk: int = 1,
    detector: dict | None = None,
    special: dict | None = None,
) -> Path:
    """A master with links to data files of `per_file` frames."""
    master = folder / "scan_master.h5"
    with h5py.File(master, "w") as f:
        data = f.create_group("entry/data")
        for name, values in (("", detector), ("/detectorSpecific", special)):
            group = f.require_group(f"entry/instrument/detector{name}")
            for key, value in (values or {}).items():
                group[key] = value
        for k, start in enumerate(range(0, len(frames), per_file), start=1):
            name = f"scan_data_{k:06d}.h5"
            data[f"data_{k:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
            _data_file(folder / name, frames[start : start + per_file], start, chunk)
    return master


def _data_file(path: Path, frames: np.ndarray, start: int, chunk: int) -> None:
    with h5py.File(path, "w") as f:
        dataset = f.create_dataset(
            "entry/data/data", data=frames, chunks=(chunk, *frames.shape[1:]),
            **hdf5plugin.Bitshuffle(cname="lz4"),
        )  # fmt: skip
        dataset.attrs["image_nr_low"] = np.uint64(start + 1)
        dataset.attrs["image_nr_high"] = np.uint64(start + len(frames))


@pytest.fixture
def frames(rng: np.random.Generator) -> np.ndarray:
    """20 patterns of 5 rows and 9 columns whose counts need 32 bits."""
    return rng.integers(0, 2**32 - 2, (20, 5, 9), np.uint32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


# ---- real files ----------------------------------------------------------------------------------
def test_real_master(shared_data: Path) -> None:
    path = shared_data / "real/arina/test_00_master.h5"
    cube = read(path)
    assert cube.shape == (4, 4, 192, 192) and cube.dtype == np.uint32
    assert_same_sums(
        cube.data[...], readings(shared_data, "arina/test_00_master.h5")["rosettasciio"][0]
    )
    step = cube.calibration.R[0]
    assert (step.step, step.unit) == (pytest.approx(0.13915206), "nm")
    known = cube.metadata
    assert known.detector == "Dectris ARINA CZT A-01-0011" and known.software == "1.8.0"
    assert (known.date, known.time) == ("2025-05-03", "01:51:00")
    assert known.energy_eV == cube.calibration.energy_eV == 300e3
    assert known.camera_length_mm == 115 and known.threshold_keV == 17.5
    assert known.exposure_s == pytest.approx(9.95e-5) and known.dwell_time_s == pytest.approx(
        9.96e-5
    )
    assert known.counter_depth_bits == 8 and "microscope" in known.notes[0]
    assert known.original["entry"]["instrument"]["detector"]["saturation_value"] == 8352


def test_real_data_file_alone(shared_data: Path) -> None:
    cube = read(shared_data / "real/arina/test_00_data_000001.h5")
    assert cube.shape == (4, 4, 192, 192) and cube.dtype == np.uint32
    assert "test_00_master.h5" in cube.metadata.notes[0]


def test_description_alone_names_the_master(shared_data: Path) -> None:
    with pytest.raises(FormatError, match=r"Open test_00_master\.h5"):
        read(shared_data / "real/arina/test_00.h5")


def test_constructed_values(shared_data: Path) -> None:
    folder = shared_data / "real/constructed"
    truth = np.load(folder / "expected.npz")["data"]
    cube = read(folder / "small4d_arina_master.h5", scan_shape=(6, 7))
    values = cube.data[...]
    assert values.dtype == np.uint32
    np.testing.assert_array_equal(values[:, :, 76:116, 70:118], truth)
    assert values.sum() == truth.sum()
    check_file(folder / "small4d_arina_master.h5", scan_shape=(6, 7))


# ---- the scan ------------------------------------------------------------------------------------
def test_several_files_are_one_scan(tmp_path: Path, frames: np.ndarray) -> None:
    master = make(tmp_path, frames, 6, special={"nimages": 5, "ntrigger": 4})
    cube = read(master)
    assert cube.shape == (4, 5, 5, 9) and cube.dtype == np.uint32
    np.testing.assert_array_equal(cube.data[...].reshape(20, 5, 9), frames)
    assert "one trigger per row" in cube.metadata.notes[0]
    check_file(master)


def test_detector_that_is_not_square_keeps_its_rows(tmp_path: Path, frames: np.ndarray) -> None:
    size = {"x_pixels_in_detector": 9, "y_pixels_in_detector": 5}
    cube = read(make(tmp_path, frames[:16], 16, special={"nimages": 1, "ntrigger": 16} | size))
    assert cube.shape == (4, 4, 5, 9)
    assert not any("pixels" in note for note in cube.metadata.notes)


def test_recording_that_stopped_early(tmp_path: Path, frames: np.ndarray) -> None:
    master = make(tmp_path, frames, 8, special={"nimages": 1, "ntrigger": 25})
    with pytest.warns(Py4DSTEMWarning, match="5 of 25 positions have no frame"):
        cube = read(master)
    assert cube.R_shape == (5, 5) and not cube.data[4].any()
    assert any("stopped early" in note for note in cube.metadata.notes)


def test_user_knows_the_scan_better(tmp_path: Path, frames: np.ndarray) -> None:
    cube = read(make(tmp_path, frames[:18], 7), scan_shape=(3, 5), flyback=1, sync_offset=1)
    np.testing.assert_array_equal(cube.data[1, 0], frames[7])
    np.testing.assert_array_equal(cube.data[2, 4], frames[17])


# ---- files that are not there --------------------------------------------------------------------
def test_missing_file_is_named(tmp_path: Path, frames: np.ndarray) -> None:
    master = make(tmp_path, frames, 4)
    (tmp_path / "scan_data_000003.h5").unlink()
    with pytest.raises(CorruptFile, match=r"1 of 5.*scan_data_000003\.h5.*allow_truncated"):
        read(master, scan_shape=(4, 5))


@pytest.mark.parametrize("lost", [(1,), (3,), (2, 3), (5,), (1, 4, 5)])
def test_frames_that_are_there_keep_their_place(
    tmp_path: Path, frames: np.ndarray, lost: tuple[int, ...]
) -> None:
    master = make(tmp_path, frames, 4)
    expected = frames.copy()
    for k in lost:
        (tmp_path / f"scan_data_{k:06d}.h5").write_bytes(b"")
        expected[4 * (k - 1) : 4 * k] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Py4DSTEMWarning)
        cube = read(master, scan_shape=(4, 5), allow_truncated=True)
    np.testing.assert_array_equal(cube.data[...].reshape(frames.shape), expected)
    assert sum("left out" in note for note in cube.metadata.notes) == len(lost)


def test_link_that_leaves_the_folder_is_refused(tmp_path: Path, frames: np.ndarray) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    master = make(inside, frames, 20)
    (inside / "scan_data_000001.h5").rename(tmp_path / "elsewhere.h5")
    with h5py.File(master, "a") as f:
        del f["entry/data/data_000001"]
        f["entry/data/data_000001"] = h5py.ExternalLink("../elsewhere.h5", "/entry/data/data")
    for options in ({}, {"allow_truncated": True}):
        with pytest.raises(FormatError, match="outside its folder"):
            read(master, scan_shape=(4, 5), **options)
    cube = read(master, scan_shape=(4, 5), allow_external=True)
    np.testing.assert_array_equal(cube.data[0, 0], frames[0])


def test_files_of_different_kinds_are_refused(tmp_path: Path, frames: np.ndarray) -> None:
    master = make(tmp_path, frames, 10)
    _data_file(tmp_path / "scan_data_000002.h5", frames[10:, :, :4], 10, 1)
    with pytest.raises(CorruptFile, match="no stacks of frames of one kind"):
        read(master)


# ---- the detector --------------------------------------------------------------------------------
def test_masked_pixels_are_told(tmp_path: Path, frames: np.ndarray) -> None:
    mask = np.zeros((5, 9), np.uint32)
    mask[1, 8], mask[4, 2] = 2, 1
    frames[:, mask > 0] = 2**32 - 1
    flat = np.ones((5, 9), np.float32)
    flat[0, 0] = 1.5
    master = make(
        tmp_path, frames, 20, special={"pixel_mask": mask, "flatfield": flat},
        detector={"pixel_mask_applied": 1, "flatfield_correction_applied": 0},
    )  # fmt: skip
    with pytest.warns(Py4DSTEMWarning, match="2 of 45 pixels are masked.*4294967295"):
        cube = read(master, scan_shape=(4, 5))
    assert cube.metadata.original["masked_pixels"] == [[1, 8], [4, 2]]
    assert (cube.data[:, :, 1, 8] == 2**32 - 1).all()
    assert any("flat field" in note for note in cube.metadata.notes)


def test_xray_energy_is_not_that_of_electrons(tmp_path: Path, frames: np.ndarray) -> None:
    cube = read(make(tmp_path, frames, 20, special={"photon_energy": 12400.0}), scan_shape=(4, 5))
    assert cube.calibration.energy_eV is None
    assert cube.metadata.original["entry"]["instrument"]["detector"]["detectorSpecific"]


# ---- damage --------------------------------------------------------------------------------------
def test_damaged_master(shared_data: Path) -> None:
    path = shared_data / "real/arina/test_00_master.h5"
    assert survey_damage(path, count=24).failures == []


def test_damaged_data_file(tmp_path: Path, frames: np.ndarray) -> None:
    make(tmp_path, frames, 20)
    assert survey_damage(tmp_path / "scan_data_000001.h5", count=24).failures == []


# ---- how often chunks are decoded ----------------------------------------------------------------
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("chunk", "per_file", "scan", "flyback", "offset"),
    [
        (1, 400, (10, 40), 0, 0),
        (8, 400, (10, 40), 0, 0),
        (32, 320, (8, 50), 0, 0),
        (32, 200, (8, 50), 0, 0),
        (32, 400, (7, 50), 7, 3),
        (90, 400, (20, 20), 0, 0),
        (400, 400, (20, 20), 0, 0),
    ],
)
def test_each_chunk_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, chunk: int, per_file: int,
    scan: tuple[int, int], flyback: int, offset: int,
) -> None:  # fmt: skip
    frames = np.random.default_rng(1).integers(0, 99, (400, 24, 32), np.uint32)
    cube = read(make(tmp_path, frames, per_file, chunk=chunk), scan_shape=scan, flyback=flyback,
                sync_offset=offset)  # fmt: skip
    decoded, decode = [], Pipeline.decode

    def counting(self, *args):
        decoded.append(args[0].size)
        return decode(self, *args)

    monkeypatch.setattr(Pipeline, "decode", counting)
    monkeypatch.setattr("py4DSTEM.stream.tile.TARGET_BYTES", 60_000)
    mean = run(MeanPattern(), cube, options=RunOptions(workers=workers))
    files = [min(per_file, 400 - k) for k in range(0, 400, per_file)]
    chunks = sum(-(-n // chunk) for n in files)
    assert len(decoded) == chunks
    np.testing.assert_allclose(mean.data, cube.data[...].mean((0, 1)))
