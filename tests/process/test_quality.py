"""The quality report on scans with planted defects."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import DataCube, Disk, RunOptions
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.metadata import Metadata

Q_SHAPE, R_SHAPE = (40, 44), (12, 14)
RADIUS, CENTER = 7.3, (18.6, 22.2)


def expected_counts(descan=0.0):
    """A bright disk on a faint background, which moves over the scan."""
    patterns = np.empty((*R_SHAPE, *Q_SHAPE))
    for x, y in np.ndindex(R_SHAPE):
        center = (CENTER[0] + descan * (x - 5.5), CENTER[1])
        patterns[x, y] = 2 + 60 * Disk(RADIUS, center=center).weights(Q_SHAPE, Calibration())
    return patterns


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def clean(rng):
    return rng.poisson(expected_counts()).astype(np.uint16)


def test_a_clean_scan_is_clean(clean):
    report = DataCube(clean).quality()
    assert report.verdict == "ok", report.text()
    assert not report.bad_pixels.any()
    assert not any(m.any() for m in report.positions.values())
    total = clean.sum((2, 3))
    assert report["dose per pattern"].value == pytest.approx(total.mean())
    assert report["dose per pattern"].uncertainty == pytest.approx(total.std())
    ratio = report["noise of the sum / Poisson"]
    assert abs(ratio.value - 1) < 4 * ratio.uncertainty


def test_the_disk(clean):
    report = DataCube(clean).quality()
    disk = report.disk
    assert disk.radius_px == pytest.approx(RADIUS, abs=0.1)
    assert disk.center == pytest.approx(CENTER, abs=0.05)
    assert report["disk radius"].uncertainty < 0.5
    assert disk.contrast == pytest.approx(31, rel=0.05)


def test_planted_pixels(clean):
    hot, dead = [(0, 0), (5, 30), (18, 22), (39, 20)], [(3, 3), (17, 20), (30, 30)]
    for p in hot:
        clean[:, :, *p] += 200
    for p in dead:
        clean[:, :, *p] = 0
    clean[:, :, 25, 25] = 17  # stuck is dead too
    report = DataCube(clean).quality()
    assert sorted(map(tuple, np.argwhere(report.pixels["hot"]))) == hot
    assert sorted(map(tuple, np.argwhere(report.pixels["dead"]))) == [*dead[:2], (25, 25), dead[2]]
    assert report["hot pixels"].verdict == report["dead pixels"].verdict == "warn"
    assert "repair_pixels" in report["hot pixels"].advice
    assert report.bad_pixels.sum() == 8
    again = DataCube(clean).repair_pixels(report.bad_pixels).quality()
    assert again["hot pixels"].value == again["dead pixels"].value == 0
    assert report.disk.radius_px == pytest.approx(RADIUS, abs=0.1)


def test_saturation(clean):
    limit = 70
    piled = np.minimum(clean, limit)
    assert DataCube(clean.clip(0, 65535)).quality()["saturated pixels"].value == 0
    report = DataCube(piled).quality()
    np.testing.assert_array_equal(report.pixels["saturated"], piled.max((0, 1)) == limit)
    assert report["saturated pixels"].verdict == "bad"
    eight = np.minimum(clean * 4, 255).astype(np.uint8)
    report = DataCube(eight).quality()
    np.testing.assert_array_equal(report.pixels["saturated"], eight.max((0, 1)) == 255)
    deep = DataCube(np.minimum(clean, 63), metadata=Metadata(counter_depth_bits=6)).quality()
    np.testing.assert_array_equal(deep.pixels["saturated"], clean.max((0, 1)) >= 63)


def test_frames(clean):
    clean[2, 3] = 0
    clean[4, 6] = clean[4, 5]
    clean[7, 8] = np.roll(clean[7, 8], 10, axis=1)
    clean[9, 2] = clean[9, 2] // 4
    report = DataCube(clean).quality()
    for name, place in (("empty", (2, 3)), ("repeated", (4, 6)), ("shifted", (7, 8))):
        assert np.argwhere(report.positions[name]).tolist() == [list(place)], name
    assert report.positions["intensity"][9, 2]
    assert report.verdict == "warn"


def test_a_scan_that_slips(rng):
    patterns = expected_counts()
    patterns[7:] = np.roll(patterns[7:], 4, axis=2)
    report = DataCube(rng.poisson(patterns).astype(np.uint16)).quality()
    assert report["scan row jumps"].value == 1


def test_descan(rng):
    cube = DataCube(rng.poisson(expected_counts(0.15)).astype(np.uint16))
    cube = cube.with_calibration(Q_pixel_size=0.02, Q_pixel_units="A^-1")
    report = cube.quality()
    # the background does not move with the disk
    lit = 60 * np.pi * RADIUS**2
    share = lit / (lit + 2 * np.prod(Q_SHAPE))
    assert report["descan"].value == pytest.approx(0.15 * 11 * share, rel=0.05)
    assert report["descan"].verdict == "warn" and "A^-1" in report["descan"].explanation
    assert report["scan row jumps"].value == 0


def test_values_that_are_not_finite(clean):
    data = clean.astype(np.float32)
    data[:, :, 5, 5] = np.nan
    data[3, 4, 20, 20] = np.inf
    report = DataCube(data).quality()
    assert report["pixels not finite"].value == 2
    assert (
        f"{clean.shape[0] * clean.shape[1] + 1} values" in report["pixels not finite"].explanation
    )
    assert report.bad_pixels[5, 5] and not report.bad_pixels[20, 20]
    assert np.isfinite(report.total).all()


def test_scaled_data_are_not_counts(clean):
    report = DataCube((clean * 10).astype(np.int32), metadata=Metadata(gain=10)).quality()
    assert report["noise of the sum / Poisson"].verdict == "warn"
    electrons = report["electrons per pattern"]
    assert electrons.value == pytest.approx(clean.sum((2, 3)).mean())


@pytest.mark.parametrize("dtype", ["?", "u1", "i4", "f4", "f8"])
@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 2, 3), (3, 4, 9, 10)])
def test_empty_and_constant_scans(dtype, value, shape):
    report = DataCube(np.full(shape, value, dtype)).quality()
    if value == 0:
        assert report["dose per pattern"].verdict == report["empty frames"].verdict == "bad"
    assert report.text() and report["hot pixels"].value == report["dead pixels"].value == 0


def test_a_scan_without_a_single_number():
    report = DataCube(np.full((3, 3, 9, 9), np.nan)).quality()
    assert report["dose per pattern"].verdict == "bad" and report.bad_pixels.all()


def test_views_and_workers(clean):
    cube = DataCube(clean).crop(R=((1, 11), (2, 12))).bin(Q=2)
    one, three = (cube.quality(options=RunOptions(n, memory="200 KB")) for n in (1, 3))
    assert one.to_dict()["entries"] == three.to_dict()["entries"]
    assert one.disk.radius_px == pytest.approx(RADIUS / 2, abs=0.15)
    np.testing.assert_array_equal(one.mean, three.mean)


def test_the_report_in_other_dresses(clean):
    clean[:, :, 5, 30] += 200
    report = replace(DataCube(clean, name="<b>").quality())
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["pixels"]["hot"] == [[5, 30]] and plain["verdict"] == "warn"
    assert {e["name"] for e in plain["entries"]} == {e.name for e in report}
    page = report._repr_html_()
    assert page.count("<tr>") == len(report) + 1 and "→" in page
    assert "hot pixels" in report.text() and "warn" in repr(report)
    with pytest.raises(KeyError, match="no entry"):
        report["colour"]
    assert [s.kind for s in report.history.steps] == ["quality"]


def test_the_reference_detector(shared_data):
    folder = shared_data / "twophase"
    truth = json.loads((folder / "truth.json").read_text())
    with h5py.File(folder / "data.h5") as file:
        report = DataCube(file["/data"]).quality()
    hot = sorted(tuple(p[:2]) for p in truth["hot_pixels_row_col_extra_counts"])
    assert sorted(map(tuple, np.argwhere(report.pixels["hot"]))) == hot
    dead = sorted(map(tuple, truth["dead_pixels_row_col"]))
    assert sorted(map(tuple, np.argwhere(report.pixels["dead"]))) == dead
    disk, radius = report.disk, truth["disk_radius_px"]
    assert abs(disk.radius_px - radius) < 2 * disk.sigma_radius_px
    assert disk.center == pytest.approx(truth["origin_stored_row_col"], abs=0.15)


def test_a_file_holds_all_of_it(clean, tmp_path):
    clean[:, :, 5, 30] += 200
    report = DataCube(clean).quality()
    py4DSTEM.save(tmp_path / "q.h5", report)
    again = py4DSTEM.read(tmp_path / "q.h5")
    assert again.entries == report.entries and again.disk == report.disk
    assert again.history.steps == report.history.steps
    np.testing.assert_array_equal(again.bad_pixels, report.bad_pixels)
    np.testing.assert_array_equal(again.total, report.total)
