"""Common spots, classes by them, dark fields and grains, where the truth is known."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import PointTable, RealSlice, simulate
from py4DSTEM.errors import CalibrationMissing, ParameterError
from py4DSTEM.process.classes.dark_field import DarkField
from py4DSTEM.process.classes.result import classes_of
from py4DSTEM.process.classes.spots import spot_matrix
from py4DSTEM.process.classes.watershed import basins, otsu

SHARED = Path(os.environ.get("PY4DSTEM_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
FIELDS = [("qx", "f8"), ("qy", "f8"), ("intensity", "f8")]


def agreement(a: Any, b: Any) -> float:
    """Adjusted Rand index."""
    (_, a), (_, b) = (np.unique(x, return_inverse=True) for x in (a, b))
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a.ravel(), b.ravel()), 1)

    def pairs(n: Any) -> float:
        return float((n * (n - 1) / 2).sum())

    both, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    chance = rows * columns / pairs(np.array([a.size]))
    return (both - chance) / ((rows + columns) / 2 - chance)


@cache
def metal() -> Any:
    return simulate.polycrystal((22, 19), (96, 96), grains=7, seed=4)


@cache
def metal_cube() -> Any:
    return metal().cube.with_calibration(metal().truth.calibration)


@cache
def found() -> Any:
    return metal_cube().find_bragg_disks(metal().truth.probe)


def table(rows: list[list[list[tuple[float, float, float]]]], **known: Any) -> PointTable:
    lists = [[np.array(cell, FIELDS) for cell in row] for row in rows]
    values = {"calibration": py4DSTEM.Calibration().replace(origin_px=(20.0, 24.0)), **known}
    return PointTable.from_lists(lists, **values)


def two_halves(n: int = 6, m: int = 8) -> PointTable:
    """Left: spots at (±6, 1); right: at (0, ±9) and (5, 5)."""
    left = [(26.0, 25.0, 100.0), (14.0, 23.0, 64.0)]
    right = [(20.0, 33.0, 81.0), (20.0, 15.0, 49.0), (25.0, 29.0, 9.0)]
    return table([[left if y < m // 2 else right for y in range(m)] for _ in range(n)])


# ---- spots ---------------------------------------------------------------------------------------
def test_spots_are_where_the_crystals_scatter() -> None:
    truth, spots = metal().truth, found().common_spots()
    expected = []
    for grain, lines in enumerate(truth.spots):
        there = (truth.labels == grain).sum() >= 12
        g = np.stack([lines["gx"], lines["gy"]], -1)[lines["fraction"] > 0.01]
        inside = (np.abs(g) / 0.0235 < 42).all(axis=1) & (np.hypot(*g.T) > 0.1)
        expected += list(g[inside] / 0.0235) if there else []
    away = np.linalg.norm(np.array(expected)[:, None] - spots.vectors_px, axis=-1).min(axis=1)
    # Disks of different grains that overlap are found as one, between both.
    assert len(expected) > 12 and np.median(away) < 0.02 and away.max() < 2


def test_spots_are_counted_by_position_and_know_their_mates() -> None:
    peaks = two_halves()
    spots = py4DSTEM.common_spots(peaks, min_positions=2)
    order = np.lexsort(spots.vectors_px.T)
    assert spots.count[order].tolist() == [24] * 5
    by = {tuple(np.round(v).astype(int).tolist()): k for k, v in enumerate(spots.vectors_px)}
    assert spots.mate[by[6, 1]] == by[-6, -1] and spots.mate[by[0, 9]] == by[0, -9]
    assert spots.mate[by[5, 5]] == -1
    assert len(spots.friedel_sets) == 3
    assert spots.intensity[by[0, 9]] == pytest.approx(81)
    matrix = spot_matrix(peaks, spots).toarray().reshape(6, 8, 5)
    assert matrix[2, 1, by[6, 1]] == 100 and matrix[2, 6, by[6, 1]] == 0


def test_two_peaks_at_one_spot_are_one_position() -> None:
    twice = [(26.0, 24.0, 3.0), (26.4, 24.0, 4.0)]
    spots = py4DSTEM.common_spots(table([[twice] * 5]), min_positions=1)
    assert len(spots) == 1 and spots.count[0] == 5
    assert spots.vectors_px[0] == pytest.approx([6.2, 0.0])
    assert spots.spread_px[0] == pytest.approx(0.2)


# ---- classes -------------------------------------------------------------------------------------
def test_grains_are_told_apart_by_their_spots() -> None:
    classes = found().classify_bragg()
    assert classes.n == 7
    assert agreement(classes.labels, metal().truth.labels) == 1.0
    assert (np.diff(classes.sizes) <= 0).all()
    again = py4DSTEM.classify_bragg(found())
    np.testing.assert_array_equal(again.labels, classes.labels)
    assert classes.history.steps[-1].kind == "bragg-classes"


def test_the_spots_of_a_class() -> None:
    classes = py4DSTEM.classify_bragg(two_halves(), min_positions=2)
    assert classes.n == 2 and classes.feature_names[0].startswith("(")
    left = int(classes.labels[0, 0])
    spots = py4DSTEM.class_peaks(classes, left)
    assert sorted(map(tuple, np.round(np.stack([spots["qx"], spots["qy"]], -1)).tolist())) == [
        (-6.0, -1.0),
        (6.0, 1.0),
    ]
    assert spots["intensity"] == pytest.approx([1.0, 0.64]) and spots["share"].min() > 0.99
    with pytest.raises(ParameterError, match="classify_bragg"):
        py4DSTEM.class_peaks(classes_of([[0, 1]]), 0)


@pytest.mark.parametrize("strength", ["root", "intensity", "presence"])
def test_every_strength_tells_the_halves_apart(strength: Any) -> None:
    classes = py4DSTEM.classify_bragg(two_halves(), min_positions=2, strength=strength)
    assert agreement(classes.labels, np.arange(8) // 4 + np.zeros((6, 1))) == 1.0


def test_positions_without_peaks_are_not_classified() -> None:
    peaks = two_halves()
    hole = np.ones(peaks.shape, bool)
    hole[:2, :3] = False
    classes = py4DSTEM.classify_bragg(py4DSTEM.BraggPeaks.masked(peaks, R=hole), min_positions=2)
    assert (classes.labels[:2, :3] == -1).all() and (classes.labels[hole] >= 0).all()


def test_classes_are_split_merged_and_limited() -> None:
    """One start for all: too high a limit joins all spots, and the split parts them again."""
    both = found()
    joined = both.classify_bragg(merge_above=0.01, split=False)
    assert joined.n < 7
    limited = both.classify_bragg(3)
    assert limited.n == 3
    assert limited.history.steps[-1].parameters["n"] == 3


def test_a_class_whose_spots_exclude_each_other_is_split() -> None:
    """A common spot draws both halves into one class at first."""
    a = [(26.0, 24.0, 90.0), (20.0, 33.0, 5.0), (12.0, 33.0, 5.0)]
    b = [(26.0, 24.0, 90.0), (30.0, 20.0, 5.0), (12.0, 15.0, 5.0)]
    peaks = table([[a if y < 5 else b for y in range(9)] for _ in range(6)])
    whole = py4DSTEM.classify_bragg(peaks, split=False, merge_above=0.7, together=0.6)
    parts = py4DSTEM.classify_bragg(peaks, merge_above=0.97, together=0.6)
    assert whole.n == 1 and parts.n == 2
    assert agreement(parts.labels, np.arange(9) // 5 + np.zeros((6, 1))) == 1.0


def test_regions_of_one_class_become_classes() -> None:
    left, right = [(26.0, 25.0, 9.0), (14.0, 23.0, 9.0)], [(20.0, 33.0, 8.0), (20.0, 15.0, 4.0)]
    rows = [[left if y < 2 or y > 5 else right for y in range(9)] for _ in range(5)]
    assert py4DSTEM.classify_bragg(table(rows), min_positions=2).n == 2
    apart = py4DSTEM.classify_bragg(table(rows), min_positions=2, separate=True)
    assert apart.n == 3 and (apart.labels[:, :2] != apart.labels[:, 7:8]).all()
    assert (apart.weights[:, 7:, apart.labels[0, 0]] == 0).all()


# ---- bad input -----------------------------------------------------------------------------------
def test_what_holds_no_classes_says_so() -> None:
    empty = table([[[]] * 4] * 3)
    assert len(py4DSTEM.common_spots(empty)) == 0
    with pytest.raises(ParameterError, match="no place in diffraction space"):
        py4DSTEM.classify_bragg(empty)
    lonely = table([[[(26.0, 24.0, 1.0)]] * 4] * 3)
    with pytest.raises(ParameterError, match="appear together"):
        py4DSTEM.classify_bragg(lonely)
    with pytest.raises(CalibrationMissing, match="origin"):
        py4DSTEM.classify_bragg(table([[[(26.0, 24.0, 1.0)]]], calibration=py4DSTEM.Calibration()))
    with pytest.raises(ParameterError, match="no common spots"):
        py4DSTEM.dark_field_images(empty, py4DSTEM.common_spots(empty))


def test_peaks_that_are_no_numbers_are_left_out() -> None:
    peaks = two_halves()
    points = peaks.points.copy()
    points["qx"][3], points["intensity"][7] = np.nan, np.nan
    hurt = PointTable(points, peaks.offsets, peaks.shape, peaks.calibration)
    classes = py4DSTEM.classify_bragg(hurt, min_positions=2)
    assert agreement(classes.labels, np.arange(8) // 4 + np.zeros((6, 1))) == 1.0
    assert np.isfinite(classes.weights).all()


def test_more_classes_than_positions() -> None:
    few = table([[[(26.0, 25.0, 9.0), (14.0, 23.0, 4.0)]] * 3])
    assert py4DSTEM.classify_bragg(few, 50, min_positions=1).n == 1
    with pytest.raises(ParameterError, match="n"):
        py4DSTEM.classify_bragg(few, 0)


# ---- dark fields ---------------------------------------------------------------------------------
def test_dark_fields_of_patterns_and_of_peaks_agree() -> None:
    spots = found().common_spots()
    patterns = metal_cube().dark_field_images(spots, sigma=True)
    peaks = found().dark_field_images(spots)
    assert patterns.labels[: len(peaks.labels)] == peaks.labels
    gaps = np.linalg.norm(spots.vectors_px[:, None] - spots.vectors_px, axis=-1)
    lonely = np.sort(gaps, axis=1)[:, 1] > 6.0  # disks of other grains reach no aperture
    lonely &= spots.intensity > 150
    labels = [n for n, alone in zip(spots.names, lonely, strict=True) if alone]
    labels = [n for n in labels if len(spots.friedel_sets.get(n, ())) == 1]
    assert len(labels) > 1
    for label in labels:
        same = np.corrcoef(patterns[label].data.ravel(), peaks[label].data.ravel())
        assert same[0, 1] > 0.97
        dark = peaks[label].data == 0
        off = patterns[label].data[dark] / np.maximum(patterns[f"sigma {label}"].data[dark], 1)
        assert abs(off.mean()) < 1.5


def test_the_background_of_an_aperture_is_that_of_its_ring() -> None:
    x, y = np.indices((40, 44), np.float64)
    slope = 20 + 0.3 * x - 0.2 * y
    spot = 500.0 * (np.hypot(x - 27, y - 22) <= 0.1)
    frames = np.stack([slope, slope + spot, 2 * slope]).reshape(1, 3, 40, 44)
    cube = py4DSTEM.DataCube(frames).with_calibration(origin_px=(20.0, 22.0))
    image = py4DSTEM.dark_field_images(cube, {"g": (7, 0)}, radius_px=3.0)["g"].data
    assert image[0] == pytest.approx([0.0, 500.0, 0.0], abs=1e-6)
    bare = py4DSTEM.dark_field_images(cube, {"g": (7, 0)}, radius_px=3.0, background=False)
    area = np.pi * 9
    assert bare["g"].data[0, 0] == pytest.approx(area * slope[27, 22], rel=1e-6)


def test_apertures_follow_the_origin_and_the_calibration() -> None:
    frames = np.zeros((1, 2, 40, 44))
    frames[0, 0, 28, 25] = frames[0, 1, 30, 24] = 7.0
    origin = np.array([[[20.0, 22.0], [22.0, 21.0]]])
    cube = py4DSTEM.DataCube(frames).with_calibration(
        origin_px=origin,
        Q_pixel_size=0.02,
        Q_pixel_units="A^-1",
        rotation_rad=np.pi / 2,
        flip=False,
    )
    # A quarter turn takes x to y: the offset (8, 3) on the detector is (−3, 8) calibrated.
    images = py4DSTEM.dark_field_images(
        cube, {"g": [(-0.06, 0.16)]}, units="A^-1", radius_px=2.0, background=False
    )
    assert images["g"].data[0] == pytest.approx([7.0, 7.0])
    sigma = py4DSTEM.dark_field_images(
        cube, {"g": [(-3.0, 8.0)]}, radius_px=2.0, background=False, sigma=True, gain=2.0
    )["sigma g"]
    assert sigma.data[0, 0] == pytest.approx(np.sqrt(14.0))


def test_dark_fields_of_classes_show_them() -> None:
    classes = found().classify_bragg()
    images = metal_cube().dark_field_images(classes)
    assert images.labels == classes.names
    for k, name in enumerate(classes.names):
        inside = classes.labels == k
        assert images[name].data[inside].mean() > 4 * abs(images[name].data[~inside].mean())


@pytest.mark.parametrize(
    ("spots", "words"),
    [
        ({}, "spots"),
        ({"a": []}, "vectors"),
        ({"a": [(np.nan, 1)]}, "finite"),
        ({"a": [(300, 0)]}, "outside the patterns"),
        ({"a": "text"}, "vectors"),
    ],
)
def test_dark_fields_that_cannot_be(spots: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        py4DSTEM.dark_field_images(metal_cube(), spots)


def test_dark_fields_say_what_they_miss() -> None:
    cube = metal_cube()
    with pytest.raises(CalibrationMissing, match="origin"):
        py4DSTEM.dark_field_images(metal().cube, {"g": (9, 0)}, radius_px=2)
    with pytest.raises(ParameterError, match="radius_px"):
        bare = metal().cube.with_calibration(origin_px=(47.0, 48.0))
        py4DSTEM.dark_field_images(bare, {"g": (9, 0)})
    with pytest.raises(ParameterError, match="only other spots"):
        crowd = [(x, y) for x in range(-47, 48, 3) for y in range(-47, 48, 3)]
        py4DSTEM.dark_field_images(cube, {"all": crowd}, radius_px=2.4)
    with pytest.raises(ParameterError, match="units"):
        DarkField(spots=found().common_spots(), units="A^-1")
    with pytest.raises(ParameterError, match="not of peaks"):
        py4DSTEM.dark_field_images(found(), {"g": (9, 0)}, sigma=True)


def test_lattices_of_spots() -> None:
    spots = py4DSTEM.lattice_spots((8, 1), (-2, 9), order=2, q_max=12.0)
    length = np.hypot(*np.array(spots).T)
    assert len(spots) == 6 and (np.diff(length) > -1e-9).all() and length.max() <= 12
    for wrong in ({"g2": (16, 2)}, {"q_max": 1.0}, {"order": 0}, {"g1": (np.nan, 1)}):
        with pytest.raises(ParameterError):
            py4DSTEM.lattice_spots(**{"g1": (8, 1), "g2": (-2, 9), **wrong})


# ---- watershed and grains ------------------------------------------------------------------------
def test_watershed_against_a_walk_uphill() -> None:
    image = np.random.default_rng(3).random((13, 17))
    found = basins(image, np.ones(image.shape, bool), 0.0)
    for start in np.ndindex(image.shape):
        i, j = start
        while True:
            window = [
                (a, b)
                for a in range(max(i - 1, 0), min(i + 2, 13))
                for b in range(max(j - 1, 0), min(j + 2, 17))
            ]
            top = max(window, key=lambda p: image[p])
            if top == (i, j):
                break
            i, j = top
        assert found[start] == found[i, j]
    heights = [image[found == k].max() for k in range(found.max() + 1)]
    assert (np.diff(heights) < 0).all()


def test_peaks_that_do_not_stand_out_are_joined() -> None:
    image = np.array([[0.0, 10, 7, 8, 1, 6, 0], [0.0, 9, 6, 7, 1, 5, 0]])
    everywhere = image > 0
    counts = [basins(image, everywhere, p).max() + 1 for p in (0.0, 0.2, 0.9)]
    assert counts == [3, 2, 1]
    assert basins(image, everywhere, 0.2)[0].tolist() == [-1, 0, 0, 0, 0, 1, -1]
    flat = basins(np.ones((4, 5)), np.ones((4, 5), bool), 0.5)
    assert (flat == 0).all()
    assert (basins(np.full((3, 3), np.nan), np.ones((3, 3), bool), 0.5) == -1).all()


def test_otsu_parts_two_groups() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(2, 0.3, 500), rng.normal(8, 0.5, 90), [np.nan]])
    assert 3.2 < otsu(values) < 6.5
    assert np.isnan(otsu(np.array([np.nan]))) and otsu(np.full(4, 2.5)) == 2.5


def discs() -> tuple[RealSlice, Any]:
    """Two images of one disc, one of another that touches it, and one that shows both."""
    i, j = np.indices((40, 50))
    a = np.hypot(i - 18, j - 14) <= 9
    b = (np.hypot(i - 20, j - 31) <= 8) & ~a
    stack = np.stack([100.0 * a, 60.0 * a, 80.0 * b, 50.0 * b, 30.0 * (a | b)])
    calibration = py4DSTEM.Calibration().replace(R_pixel_size=2.0, R_pixel_units="A")
    return RealSlice(stack, calibration, labels=tuple("vwxyz")), np.where(a, 0, np.where(b, 1, -1))


def test_images_of_the_same_grain_are_one_grain() -> None:
    stack, truth = discs()
    grains = py4DSTEM.segment_grains(stack, smooth_px=0.0, min_images=2)
    np.testing.assert_array_equal(grains.labels, truth)
    assert grains.members[:, :4].tolist() == [
        [True, True, False, False],
        [False, False, True, True],
    ]
    row = grains.table[0]
    assert row["positions"] == (truth == 0).sum() and grains.unit == "A"
    assert row["area"] == pytest.approx(4.0 * row["positions"])
    assert abs(row["diameter"] - 2 * 18) < 4 * row["sigma_diameter"] + 1.5
    assert (row["rx"], row["ry"]) == pytest.approx((18, 14))
    assert row["border"] == 4 * 19
    assert grains.whole.all() and grains.mean_diameter[0] == grains.table["diameter"].mean()
    assert grains.neighbours(0) == [1] and grains.neighbours(1) == [0]
    beside = (np.sort(np.stack([truth[:, :-1], truth[:, 1:]]), axis=0) == [[[0]], [[1]]]).all(0)
    below = (np.sort(np.stack([truth[:-1], truth[1:]]), axis=0) == [[[0]], [[1]]]).all(0)
    assert grains.contacts.tolist() == [[0, 1, int(beside.sum() + below.sum())]]


def test_the_area_of_a_grain_is_known_as_well_as_it_says() -> None:
    """Discs at random places: the scatter of their areas is that of sigma_area."""
    rng = np.random.default_rng(0)
    i, j = np.indices((40, 40))
    off = []
    for _ in range(200):
        x, y = 20 + rng.random(2)
        disc = np.where(np.hypot(i - x, j - y) <= 11.3, 0, -1)
        row = py4DSTEM.segment_grains(classes_of(disc)).table[0]
        off.append((row["area"] - np.pi * 11.3**2) / row["sigma_area"])
    assert abs(np.mean(off)) < 0.5 and 0.4 < np.std(off) < 2.0


def test_small_grains_are_dropped_or_merged() -> None:
    labels = np.zeros((6, 9), int)
    labels[:, 5:] = 1
    labels[2, 4] = 2
    labels[0, 0] = -1
    dropped = py4DSTEM.segment_grains(classes_of(labels), min_positions=3)
    assert len(dropped) == 2 and dropped.labels[2, 4] == -1
    merged = py4DSTEM.segment_grains(classes_of(labels), min_positions=3, small="merge")
    assert len(merged) == 2 and merged.labels[2, 4] == merged.labels[1, 4]
    assert merged.contacts.tolist() == [[0, 1, 6]]
    assert merged.table["at_edge"].all() and np.isnan(merged.mean_diameter[0])


def test_grains_of_dark_fields_are_the_true_ones() -> None:
    spots = found().common_spots()
    grains = py4DSTEM.segment_grains(found().dark_field_images(spots), min_images=2, smooth_px=0)
    assert len(grains) == 7
    assert agreement(grains.labels, metal().truth.labels) > 0.97


def test_images_without_contrast_show_no_grain() -> None:
    stack = np.stack([np.zeros((6, 7)), np.full((6, 7), 3.0), np.full((6, 7), np.nan)])
    grains = py4DSTEM.segment_grains(RealSlice(stack))
    assert len(grains) == 0 and (grains.labels == -1).all() and len(grains.contacts) == 0
    assert "0 grains" in grains.text()
    with pytest.raises(ParameterError, match="no grain"):
        grains.mask(0)
    with pytest.raises(ParameterError):
        py4DSTEM.segment_grains(RealSlice(stack), prominence=2.0)


def test_images_with_unknown_positions() -> None:
    stack, truth = discs()
    data = stack.data.copy()
    data[:, 10:14, 12] = np.nan
    holes = RealSlice(data, labels=stack.labels)
    grains = py4DSTEM.segment_grains(holes, min_images=2, smooth_px=0.0)
    assert (grains.labels[10:14, 12] == -1).all()
    known = np.isfinite(data[0])
    np.testing.assert_array_equal(grains.labels[known], truth[known])


# ---- a scan of grains in amorphous carbon --------------------------------------------------------
@cache
def two_phase() -> Any:
    folder = SHARED / "twophase"
    if not folder.is_dir():
        pytest.skip("no reference data")
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "data.h5") as file:
        data, vacuum = file["data"][()], file["vacuum_probe"][()]
    truth = dict(np.load(folder / "truth.npz"))
    json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    cube = py4DSTEM.DataCube(data)
    probe = py4DSTEM.measure_probe(py4DSTEM.DiffractionSlice(vacuum))
    peaks = cube.find_bragg_disks(probe).calibrate_origin()
    return cube.with_calibration(peaks.calibration), peaks, truth["label"], truth["pure"] > 0


def test_phases_in_carbon_are_told_apart() -> None:
    """All five grains and the carbon: the aim is an adjusted Rand index of 0.95."""
    cube, peaks, label, pure = two_phase()
    classes = peaks.classify_bragg()
    assert classes.n == 5
    assert agreement(classes.labels[pure], label[pure]) > 0.99
    assert (classes.labels[pure & (label == 0)] == -1).mean() > 0.99
    grains = py4DSTEM.segment_grains(cube.dark_field_images(classes))
    assert len(grains) == 5 and agreement(grains.labels[pure], label[pure]) > 0.99


def test_carbon_is_not_crystalline() -> None:
    cube, peaks, label, pure = two_phase()
    share = cube.crystallinity(mask=~cube.detect_hot_pixels().mask)
    carbon, metal = (share.fraction[pure & k] for k in (label == 0, label > 0))
    assert np.median(carbon) < 0.06 and metal.min() > 0.5
    counts = peaks.bragg_counts()["peaks"].data
    assert counts[pure & (label == 0)].mean() < 0.2 and counts[pure & (label > 0)].min() > 4
