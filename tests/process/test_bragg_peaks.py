"""What is made of Bragg peaks: maps, images, selections, tables and files."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import py4DSTEM
from py4DSTEM import Annulus, BraggPeaks, Calibration, Disk, Ellipse, Mask, Rectangle
from py4DSTEM.core.history import History
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.process.bragg.peaks import PEAK_DTYPE
from py4DSTEM.process.bragg.vector_map import splatted

R_SHAPE, Q_SHAPE = (3, 4), (40, 48)


def origins() -> np.ndarray:
    """A different origin at every position."""
    x, y = np.indices(R_SHAPE)
    return np.stack([19.3 + 0.4 * x, 23.1 - 0.3 * y], axis=-1)


@pytest.fixture
def peaks() -> BraggPeaks:
    """The beam and four disks around it per position; one position is empty."""
    offsets = np.array([(0, 0), (8, 1), (-8, -1), (-2, 9), (2, -9)], float)
    columns: dict[str, list[float]] = {name: [] for name in ("rx", "ry", "qx", "qy", "intensity")}
    for rx, ry in np.ndindex(R_SHAPE):
        if (rx, ry) == (1, 2):
            continue
        for k, (dx, dy) in enumerate(offsets):
            x, y = origins()[rx, ry] + (dx, dy)
            for name, value in zip(columns, (rx, ry, x, y, 100.0 if k == 0 else k), strict=True):
                columns[name].append(value)
    calibration = Calibration().replace(
        origin_px=origins(), Q_pixel_size=0.02, Q_pixel_units="A^-1", probe_radius_px=3.0
    )
    return BraggPeaks.from_columns(
        columns, R_SHAPE, Q_shape=Q_SHAPE, calibration=calibration,
        report={"threshold": 4.5, "left out": {"edge": 3}}, history=History().then("find", {}),
    )  # fmt: skip


def assert_same_points(one: BraggPeaks, other: BraggPeaks) -> None:
    """Field by field: numpy does not take the NaN of two records for equal."""
    assert one.dtype == other.dtype
    for name in one.dtype.names or ():
        assert_array_equal(one.points[name], other.points[name])


# ---- vector maps ---------------------------------------------------------------------------------
@pytest.mark.parametrize("sampling", [1, 2, 3, 1.5])
def test_a_raw_map_keeps_the_sum_and_the_place(peaks: BraggPeaks, sampling: float) -> None:
    image = py4DSTEM.bragg_vector_map(peaks, sampling, centered=False)
    assert image.shape == tuple(int(np.ceil(n * sampling)) for n in Q_SHAPE)
    weights = peaks.points["intensity"]
    assert_allclose(image.data.sum(), weights.sum())
    for axis, name in enumerate(("qx", "qy")):
        along = image.data.sum(1 - axis)
        place = image.axes[axis].coordinates(image.shape[axis])
        expected = 0.02 * np.average(peaks.points[name], weights=weights)
        assert_allclose(along @ place / along.sum(), expected, rtol=1e-9)
        step = image.axes[axis].step
        origin = image.calibration.mean_origin_px[axis] * step + image.axes[axis].offset
        assert_allclose(origin, 0.02 * origins()[..., axis].mean(), rtol=1e-9)
    assert_allclose(image.calibration.probe_radius_px, 3 * sampling)


def test_a_centred_map_puts_the_beam_into_the_middle(peaks: BraggPeaks) -> None:
    image = peaks.bragg_vector_map(2)
    assert all(n % 2 for n in image.shape)
    middle = tuple(n // 2 for n in image.shape)
    assert image.calibration.mean_origin_px == middle
    assert_allclose(image.data[middle], 100 * 11)
    assert_allclose(image.data[middle[0] + 16, middle[1] + 2], 11)
    assert_allclose(image.data.sum(), peaks.points["intensity"].sum())
    assert image.axes[0].step == pytest.approx(0.01) and image.axes[0].unit == "A^-1"
    assert_allclose(image.axes[1].coordinates(image.shape[1])[middle[1]], 0, atol=1e-12)
    assert image.history.steps[-1].kind == "bragg-vector-map"


def test_a_centred_map_needs_no_further_calibration(peaks: BraggPeaks) -> None:
    known = peaks.with_calibration(ellipse=Ellipse(1.04, 1.0, 0.3), rotation_rad=0.4, flip=True)
    image = known.bragg_vector_map(3)
    again = image.calibration
    assert again.ellipse is None and again.rotation_rad == 0 and again.flip is False
    assert_allclose(again.Q_matrix("A^-1"), np.eye(2) * 0.02 / 3)
    brightest = np.argwhere(image.data > 2.9)
    found = (brightest - again.mean_origin_px) @ again.Q_matrix("A^-1").T
    truth = known.vectors()[known.points["intensity"] == 4]
    assert np.abs(found[:, None] - truth).sum(-1).min(0).max() < 0.02


def test_peaks_are_shared_between_the_bins_around_them() -> None:
    """Against the definition, one peak at a time, also at and beyond the edges."""
    rng = np.random.default_rng(4)
    bins = np.concatenate([rng.uniform(-2, 9, (300, 2)), [[np.nan, 1], [0, 0], [5, 6], [-1, 2]]])
    weights = rng.uniform(0, 3, len(bins))
    weights[7] = np.nan
    by_hand = np.zeros((6, 7))
    for (x, y), w in zip(bins, weights, strict=True):
        for i, j in np.ndindex(by_hand.shape):
            share = max(0.0, 1 - abs(x - i)) * max(0.0, 1 - abs(y - j))
            by_hand[i, j] += w * share if np.isfinite(w * share) else 0.0
    assert_allclose(splatted(bins, weights, (6, 7)), by_hand, rtol=1e-12, atol=1e-12)


def test_maps_of_nothing_and_of_numbers(peaks: BraggPeaks) -> None:
    empty = peaks.select(np.zeros(len(peaks), bool))
    assert not empty.bragg_vector_map().data.any()
    assert_allclose(peaks.bragg_vector_map(weights="count").data.sum(), len(peaks))
    assert py4DSTEM.bragg_vector_map(peaks, weights="count").units == "peaks"


def test_peaks_at_unknown_origins_are_left_out(peaks: BraggPeaks) -> None:
    known = origins()
    known[0, 0] = np.nan
    image = peaks.with_calibration(origin_px=known).bragg_vector_map()
    assert_allclose(image.data.sum(), peaks.points["intensity"].sum() - 110)


def test_maps_that_cannot_be_made(peaks: BraggPeaks) -> None:
    bare = replace(peaks, calibration=Calibration(), Q_shape=None)
    with pytest.raises(ShapeError, match="shape of the patterns"):
        bare.bragg_vector_map()
    with pytest.raises(CalibrationMissing, match="origin"):
        bare.bragg_vector_map(centered=True)
    with pytest.raises(ParameterError, match="no field 'weight'"):
        peaks.bragg_vector_map(weights="weight")
    with pytest.raises(ParameterError, match="sampling"):
        peaks.bragg_vector_map(0)
    with pytest.raises(ParameterError, match="works on PointTable"):
        py4DSTEM.bragg_vector_map(np.zeros((3, 3)))


# ---- images and selections -----------------------------------------------------------------------
def test_virtual_images_follow_the_origin(peaks: BraggPeaks) -> None:
    image = peaks.bragg_virtual_image({"bf": Disk(1e-3, units="A^-1"), "df": Annulus(7, 10)})
    there = peaks.counts > 0
    assert image.labels == ("bf", "df")
    assert_array_equal(image["bf"].data, 100.0 * there)
    assert_array_equal(image["df"].data, 10.0 * there)
    one = py4DSTEM.bragg_virtual_image(peaks, Disk(1))
    assert one.shape == R_SHAPE and one.history.steps[-1].kind == "bragg-virtual-images"


def test_a_mask_weighs_the_pixel_a_peak_lies_in(peaks: BraggPeaks) -> None:
    weights = np.zeros(Q_SHAPE)
    x, y = peaks[2, 1]["qx"][1], peaks[2, 1]["qy"][1]
    weights[round(x), round(y)] = 0.5
    image = peaks.bragg_virtual_image(Mask(weights))
    assert image.data[2, 1] == 0.5 * peaks[2, 1]["intensity"][1]
    with pytest.raises(ShapeError, match="does not fit"):
        peaks.bragg_virtual_image(Mask(np.ones((3, 3))))


def test_a_fixed_shape_stays_where_it_is(peaks: BraggPeaks) -> None:
    x, y = origins()[0, 0]
    image = peaks.bragg_virtual_image(Rectangle(0.2, 0.2, center=(float(x), float(y))))
    assert image.data[0, 0] == 100 and np.count_nonzero(image.data) == 1


def test_a_nan_intensity_adds_nothing(peaks: BraggPeaks) -> None:
    points = peaks.points.copy()
    points["intensity"][0] = np.nan
    image = replace(peaks, points=points).bragg_virtual_image(Disk(1))
    assert image.data[0, 0] == 0 and image.data[0, 1] == 100


def test_masked_keeps_what_is_inside(peaks: BraggPeaks) -> None:
    where = np.zeros(R_SHAPE, bool)
    where[0, 1] = where[2, 3] = True
    part = peaks.masked(R=where, Q=Annulus(7, 10))
    assert isinstance(part, BraggPeaks) and part.report == peaks.report
    assert_array_equal(part.counts, 4 * where)
    assert part.history.steps[-1].kind == "mask-peaks"
    pixels = np.zeros(Q_SHAPE, bool)
    pixels[:20] = True
    assert peaks.masked(Q=pixels).points["qx"].max() < 19.5
    assert len(peaks.masked()) == len(peaks)
    with pytest.raises(ShapeError, match="scan"):
        peaks.masked(R=np.ones((2, 2), bool))


# ---- columns -------------------------------------------------------------------------------------
def test_columns_come_back_in_any_order(peaks: BraggPeaks) -> None:
    columns = peaks.to_columns()
    assert list(columns) == ["rx", "ry", *(PEAK_DTYPE.names or ())]
    shuffled = np.random.default_rng(3).permutation(len(peaks))
    back = BraggPeaks.from_columns({k: v[shuffled] for k, v in columns.items()}, R_SHAPE)
    assert_array_equal(back.counts, peaks.counts)
    for position in np.ndindex(R_SHAPE):
        ours, theirs = (np.sort(p[position], order=["qx", "qy"]) for p in (back, peaks))
        assert_array_equal(ours["intensity"], theirs["intensity"])
    assert np.isnan(back.points["sigma_qx"]).all()


def test_further_columns_are_kept_and_shapes_found() -> None:
    columns = {"rx": [1.0], "ry": [0], "qx": [2.0], "qy": [3.0], "grain": [7]}
    peaks = BraggPeaks.from_columns(columns)
    assert peaks.shape == (2, 1) and peaks.points["grain"][0] == 7
    none = BraggPeaks.from_columns({name: [] for name in ("rx", "ry", "qx", "qy")}, (2, 2))
    assert len(none) == 0 and none.shape == (2, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"qx": None}, "qx missing"),
        ({"qx": [1.0, 2.0]}, "one length"),
        ({"rx": [0.5]}, "whole numbers"),
        ({"rx": [np.nan]}, "whole numbers"),
        ({"rx": [-1]}, "outside"),
        ({"ry": [9]}, "outside"),
    ],
)
def test_columns_that_do_not_fit(change: dict[str, object], words: str) -> None:
    columns = {"rx": [0], "ry": [0], "qx": [1.0], "qy": [1.0]} | change
    with pytest.raises((ParameterError, ShapeError), match=words):
        BraggPeaks.from_columns({k: v for k, v in columns.items() if v is not None}, (2, 2))


def test_csv_reads_back_exactly(peaks: BraggPeaks, tmp_path: Path) -> None:
    peaks.to_csv(tmp_path / "peaks.txt")
    py4DSTEM.save(tmp_path / "peaks.csv", peaks)
    text = (tmp_path / "peaks.txt").read_text()
    assert text == (tmp_path / "peaks.csv").read_text()
    head, *rows = csv.reader(text.splitlines())
    columns = {n: np.array(c, float) for n, c in zip(head, zip(*rows, strict=True), strict=True)}
    back = BraggPeaks.from_columns(columns, R_SHAPE)
    assert_same_points(back, peaks)
    with pytest.raises(py4DSTEM.StoreError):
        peaks.to_csv(tmp_path / "missing" / "peaks.csv")


# ---- files ---------------------------------------------------------------------------------------
def test_peaks_survive_a_file(peaks: BraggPeaks, tmp_path: Path) -> None:
    py4DSTEM.save(tmp_path / "peaks.h5", peaks)
    back = py4DSTEM.read(tmp_path / "peaks.h5")
    assert type(back) is BraggPeaks
    assert_same_points(back, peaks)
    assert_array_equal(back.offsets, peaks.offsets)
    assert back.dtype == PEAK_DTYPE and back.shape == R_SHAPE and back.Q_shape == Q_SHAPE
    assert back.report == peaks.report and back.name == peaks.name
    assert back.calibration == peaks.calibration
    assert back.history.steps == peaks.history.steps


def test_plain_points_stay_plain(peaks: BraggPeaks, tmp_path: Path) -> None:
    table = py4DSTEM.PointTable(
        peaks.points, peaks.offsets, peaks.shape, Q_shape=Q_SHAPE, report={"why": "a test"}
    )
    py4DSTEM.save(tmp_path / "both.h5", {"table": table, "peaks": peaks})
    back = py4DSTEM.read(tmp_path / "both.h5")
    assert back["table"].report == {"why": "a test"}
    assert type(back["table"]) is py4DSTEM.PointTable and type(back["peaks"]) is BraggPeaks


def test_a_report_that_cannot_be_kept_is_refused(peaks: BraggPeaks, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="report"):
        py4DSTEM.save(tmp_path / "peaks.h5", replace(peaks, report={"why": object()}))
    assert not list(tmp_path.iterdir())
