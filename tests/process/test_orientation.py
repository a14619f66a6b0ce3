"""Orientations of crystals on known truth: grains, multislice patterns of gold, bad input."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import BraggPeaks, CalibrationMissing, OrientationMap, ParameterError, RunOptions
from py4DSTEM.core.crystal import Crystal
from py4DSTEM.errors import Cancelled, SolveError
from py4DSTEM.kernels import orientation as kernel
from py4DSTEM.kernels import twins_orientation as twins
from py4DSTEM.process.crystal.orientation import refined_calibration
from py4DSTEM.process.crystal.plan import beam_directions, log_rocking, model_of, plan_of
from py4DSTEM.process.crystal.result import REASONS, misorientation_deg

ONE = RunOptions(workers=1)
SHARED = Path(os.environ.get("PY4DSTEM_SHARED_DATA", "../shared/data")) / "acom"
FIELDS = ("rx", "ry", "qx", "qy", "intensity")


@cache
def gold() -> Crystal:
    return Crystal.common("Au")


def on_detector(scan: Any, size: int = 128) -> BraggPeaks:
    """What a perfect search would find: spots on the detector that are not too faint."""
    table = scan.truth.peaks()
    p = table.points
    inside = (np.minimum(p["qx"], p["qy"]) > 1) & (np.maximum(p["qx"], p["qy"]) < size - 2)
    kept = table.select(inside & (p["intensity"] > 2e-4))
    rx, ry = kept.positions.T
    columns = dict(zip(FIELDS, (rx, ry, *(kept.points[n] for n in FIELDS[2:])), strict=True))
    return BraggPeaks.from_columns(
        columns, kept.shape, calibration=table.calibration, Q_shape=(size, size)
    )


@cache
def scan(crystal: str = "Au") -> Any:
    return py4DSTEM.simulate.polycrystal((5, 7), crystal=crystal, grains=20, seed=1)


@cache
def found() -> OrientationMap:
    return py4DSTEM.match_orientations(on_detector(scan()), gold(), options=ONE)


def error_deg(result: OrientationMap, truth: np.ndarray) -> np.ndarray:
    """To the better one of the match and its alternative where these cannot be told apart."""
    plain = result.misorientation_deg(truth)
    other = misorientation_deg(result.alternative[:, :, 0], truth, result.crystal)
    return np.where(result.ambiguous[:, :, 0], np.fmin(plain, other), plain)


# ---- known truth ---------------------------------------------------------------------------------
def test_grains_of_gold() -> None:
    error = error_deg(found(), scan().truth.matrices)
    # The rocking curves of the simulation have zeros, which no scan of many thicknesses has.
    assert np.nanmedian(error) < 0.6
    assert np.nanmax(error) < 2.0
    assert found().indexed.mean() > 0.9
    # The sign of nothing is left to chance: truth and result share one convention.
    assert found().report["pixel size factor"] == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("crystal", ["Si", "Fe"])
def test_other_crystals(crystal: str) -> None:
    result = py4DSTEM.match_orientations(on_detector(scan(crystal)), crystal, options=ONE)
    error = error_deg(result, scan(crystal).truth.matrices)
    assert np.nanmedian(error) < 1.0
    assert np.mean(error < 2.0) > 0.75
    assert result.indexed.mean() > 0.9


def test_uncertainties_cover_the_errors() -> None:
    known = found().indexed
    error = error_deg(found(), scan().truth.matrices)[known]
    sigma = found().sigma_deg[:, :, 0][known]
    assert (error < sigma).mean() > 0.6
    assert (error < 3 * sigma).mean() > 0.97
    assert np.median(sigma) < 2.0


def test_hexagonal_crystal_and_fibre() -> None:
    """A crystal whose rotations are not those of a cube, along a known direction."""
    titanium = Crystal.common("Ti")
    truth, peaks = kinematic(titanium, [0.0, 0.3, 1.0], 9)
    for options in ({}, {"axis": (0, 0, 1), "axis_within_deg": 40.0}):
        result = py4DSTEM.match_orientations(
            peaks, titanium, relrod_A=0.006, options=ONE, **options
        )
        assert np.nanmedian(error_deg(result, truth)) < 0.3


def kinematic(crystal: Crystal, spread: list[float], count: int) -> tuple[np.ndarray, BraggPeaks]:
    """Patterns of a row of random orientations, as the model has them, with 5 % errors."""
    rng = np.random.default_rng(3)
    directions = np.abs(rng.uniform(-1, 1, (count, 3)))
    directions[:, 2] += spread[2]
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    from py4DSTEM.process.crystal.plan import expected_log, frames_of

    wavelength = 0.0250793
    model = model_of(crystal, 1.4, width_A=0.006, precession_rad=0.0)
    columns: dict[str, list[Any]] = {name: [] for name in FIELDS}
    matrices = frames_of(directions)
    for k in range(count):
        turn = rng.uniform(0, 2 * np.pi)
        c, s = np.cos(turn), np.sin(turn)
        matrices[k] = matrices[k] @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        gs = model.g @ matrices[k]
        expected = expected_log(model, gs[:, 2] - wavelength * model.k2 / 2)
        seen = expected > -7
        columns["rx"] += [0] * seen.sum()
        columns["ry"] += [k] * seen.sum()
        columns["qx"] += (64 + gs[seen, 0] / 0.0235).tolist()
        columns["qy"] += (60 + gs[seen, 1] / 0.0235).tolist()
        noise = rng.normal(0, 0.05, seen.sum())
        columns["intensity"] += np.exp(expected[seen] + 9 + noise).tolist()
    peaks = BraggPeaks.from_columns(columns, (1, count), Q_shape=(128, 122)).with_calibration(
        origin_px=(64, 60), Q_pixel_size=0.0235, Q_pixel_units="A^-1", energy_eV=200e3
    )
    return matrices[None], peaks


def test_wrong_pixel_size_and_ellipse_are_found() -> None:
    peaks = on_detector(scan())
    wrong = peaks.with_calibration(
        Q_pixel_size=1.02 * peaks.calibration.Q_pixel_size, ellipse=(1.0, 0.985, 0.4)
    )
    result = py4DSTEM.match_orientations(wrong, gold(), options=ONE)
    assert np.nanmedian(error_deg(result, scan().truth.matrices)) < 0.6
    matrix = result.calibration.Q_matrix("A^-1") / peaks.calibration.Q_pixel_size
    assert np.allclose(matrix, np.eye(2), atol=2e-3)


def test_refined_calibration_in_turned_and_flipped_axes() -> None:
    given = py4DSTEM.Calibration().replace(
        Q_pixel_size=(0.02, 0.021), Q_pixel_units="A^-1", rotation_rad=0.5, flip=True,
        ellipse=(1.0, 0.97, 1.1),
    )  # fmt: skip
    matrix = np.array([[1.02, 0.004], [0.004, 0.99]])
    new = refined_calibration(given, matrix).Q_matrix("A^-1")
    wanted = matrix @ given.Q_matrix("A^-1")
    # The lengths of all vectors are those wanted; a turn of both together is none of the matrix.
    assert np.allclose(new.T @ new, wanted.T @ wanted, rtol=1e-9)
    assert np.allclose(new @ np.linalg.inv(wanted), np.eye(2), atol=6e-3)


def test_overlapping_grains() -> None:
    rng = np.random.default_rng(0)
    peaks = on_detector(scan())
    first, second = rng.permutation(35)[:12], rng.permutation(35)[12:24]
    columns: dict[str, list[Any]] = {name: [] for name in FIELDS}
    for k, pair in enumerate(zip(first, second, strict=True)):
        for p in pair:
            points = peaks[divmod(int(p), 7)]
            columns["rx"] += [0] * len(points)
            columns["ry"] += [k] * len(points)
            for name in FIELDS[2:]:
                columns[name] += points[name].tolist()
    calibration = peaks.calibration.replace(origin_px=peaks.calibration.mean_origin_px)
    mixed = BraggPeaks.from_columns(columns, (1, 12), calibration=calibration, Q_shape=(128, 128))
    result = py4DSTEM.match_orientations(mixed, gold(), n_matches=2, options=ONE)
    truth = scan().truth.matrices.reshape(-1, 3, 3)
    hits = 0
    for k, pair in enumerate(zip(first, second, strict=True)):
        both = np.concatenate([result.matches[0, k], result.alternative[0, k]])
        both = both[np.isfinite(both[:, 0, 0])]
        for p in pair:
            hits += bool(misorientation_deg(both, truth[p], gold()).min() < 2.5)
    assert hits >= 20  # of 24


@pytest.mark.skipif(not SHARED.is_dir(), reason="the reference data is not there")
def test_multislice_patterns_of_gold() -> None:
    """The figures of the accuracy table: 320 random orientations, beam precessed by one degree."""
    import h5py

    truth = np.load(SHARED / "truth.npz")["orientation_matrix"]
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1.0]])
    matrices = np.swapaxes(swap @ truth, -1, -2)
    with h5py.File(SHARED / "data.h5") as file:
        cube = py4DSTEM.DataCube(file["data_precession"][:]).with_calibration(
            energy_eV=200e3, Q_pixel_size=0.023852, Q_pixel_units="A^-1", semiangle_mrad=1.5
        )
        vacuum = file["vacuum_probe"][:]
    peaks = py4DSTEM.find_bragg_disks(cube, py4DSTEM.measure_probe(vacuum), options=ONE)
    cube = py4DSTEM.calibrate_origin(cube, peaks)
    result = py4DSTEM.match_orientations(
        peaks.with_calibration(origin_px=cube.calibration.origin_px), "Au",
        precession_mrad=17.45, options=ONE,
    )  # fmt: skip
    plenty = result.n_peaks >= 6
    plain, apart = result.misorientation_deg(matrices)[plenty], error_deg(result, matrices)[plenty]
    assert np.nanmedian(plain) < 0.25
    assert (apart < 2).mean() >= 0.97
    assert (plain < 2).mean() >= 0.87
    assert result.calibration.Q_pixel_size == pytest.approx(0.0235, rel=0.01)
    sigma = result.sigma_deg[:, :, 0][plenty]
    assert 0.5 < (apart < sigma).mean() < 0.9
    sure = result.reliability[:, :, 0][plenty]
    other = misorientation_deg(result.alternative[:, :, 0], matrices, gold())[plenty]
    either = np.fmin(plain, other)
    # Where both are wrong one is less sure than nearly everywhere else.
    assert (sure[either > 5] < np.quantile(sure[either < 2], 0.15)).all()


# ---- kernels -------------------------------------------------------------------------------------
def test_kernel_and_twin_agree() -> None:
    truth, peaks = kinematic(gold(), [0, 0, 0.3], 4)
    model = model_of(gold(), 1.45, width_A=0.006, precession_rad=0.01)
    vectors = (peaks.positions_px - [64, 60]) * 0.0235
    table = np.column_stack([vectors, np.log(peaks.points["intensity"])])
    settings = kernel.Settings(0.02508, 1.4, 0.03, 0.008, 0.5, 4.0, 9.0, 1.0, 3.0, 0.07, 4, 12, 1)
    close = truth[0] @ np.array([[1, -0.004, 0], [0.004, 1, 0], [0, 0, 1]])
    scores, owners = kernel.score_orientations(table, peaks.offsets, close, model, settings)
    for p in range(4):
        part = slice(*peaks.offsets[p : p + 2])
        score, owner = twins.score_orientation(table[part], close[p], model, settings)
        assert scores[p] == pytest.approx(score, rel=1e-9)
        assert (owners[part] == owner).all()


def test_votes_of_kernel_and_twin_agree() -> None:
    _, peaks = kinematic(gold(), [0, 0, 0.3], 2)
    model = model_of(gold(), 1.45, width_A=0.01, precession_rad=0.0)
    plan = plan_of(
        model, beam_directions(gold(), 9.0), wavelength_A=0.02508, k_max_A=1.4, tolerance_A=0.03
    )
    vectors = (peaks.positions_px - [64, 60]) * 0.0235
    table = np.column_stack([vectors, np.log(peaks.points["intensity"])])[: peaks.offsets[1]]
    votes, turns = kernel.votes_of(table, plan, 0.03)
    expected, at = twins.votes_of(table, plan, 0.03)
    assert np.allclose(votes, expected, rtol=1e-9)
    assert np.allclose(turns, at)


def test_refinement_climbs_to_where_derivatives_vanish() -> None:
    truth, peaks = kinematic(gold(), [0, 0, 0.3], 5)
    result = py4DSTEM.match_orientations(peaks, gold(), relrod_A=0.006, refine=False, options=ONE)
    again = py4DSTEM.match_orientations(
        peaks, gold(), relrod_A=0.006, refine=False, step_deg=1.7, options=ONE
    )
    # Another plan, another start: the same place.
    assert np.nanmax(again.misorientation_deg(result.matrices)) < 0.05
    assert np.median(error_deg(result, truth)) < 0.1


def test_threads_share_the_work() -> None:
    more = py4DSTEM.match_orientations(on_detector(scan()), gold(), options=RunOptions(workers=3))
    assert np.array_equal(more.matches, found().matches, equal_nan=True)


def test_rocking_curve_averaged_over_precession() -> None:
    s, a, w = np.array([-0.02, 0.0, 0.013, 0.05]), 0.017, 0.004
    azimuth = 2 * np.pi * (np.arange(4000) + 0.5) / 4000
    mean = (w**2 / (w**2 + (s[:, None] - a * np.cos(azimuth)) ** 2)).mean(axis=1)
    assert np.allclose(log_rocking(s, a, w), np.log(mean), atol=1e-6)


def test_directions_cover_every_direction_once() -> None:
    directions = beam_directions(gold(), 4.0)
    some = np.random.default_rng(2).normal(size=(300, 3))
    some /= np.linalg.norm(some, axis=1)[:, None]
    orbit = np.einsum("kij,nj->nki", gold().rotations, some)
    nearest = np.degrees(np.arccos(np.clip((orbit @ directions.T).max(axis=(1, 2)), -1, 1)))
    assert nearest.max() < 4.0
    assert len(directions) == pytest.approx(4 * np.pi / np.radians(4) ** 2 / 24, rel=0.2)


# ---- what a map is -------------------------------------------------------------------------------
def test_saved_and_read(tmp_path: Path) -> None:
    py4DSTEM.save(tmp_path / "map.h5", found())
    back = py4DSTEM.read(tmp_path / "map.h5")
    assert np.array_equal(back.matches, found().matches, equal_nan=True)
    assert back.crystal.plain() == gold().plain()
    assert back.history.steps == found().history.steps


def test_views() -> None:
    assert found().to_slice().data.shape == (5, 5, 7)
    assert np.allclose(found().directions(), found().matrices[..., 2], equal_nan=True)
    assert "of 35 positions" in found().text()
    with pytest.raises(py4DSTEM.ShapeError):
        found().directions((0, 0, 0))


# ---- bad input -----------------------------------------------------------------------------------
def test_uncalibrated_peaks_name_the_remedy() -> None:
    peaks = on_detector(scan())
    bare = peaks.with_calibration(py4DSTEM.Calibration())
    with pytest.raises(CalibrationMissing, match="energy_eV"):
        py4DSTEM.match_orientations(bare, "Au")
    with pytest.raises(CalibrationMissing, match="origin"):
        py4DSTEM.match_orientations(bare.with_calibration(energy_eV=2e5), "Au")
    with pytest.raises(CalibrationMissing, match="measure_pixel_size"):
        py4DSTEM.match_orientations(bare.with_calibration(energy_eV=2e5, origin_px=(64, 64)), "Au")


def test_too_few_peaks_are_counted_not_guessed() -> None:
    peaks = on_detector(scan())
    left = np.ones(len(peaks), bool)
    left[peaks.offsets[3] + 2 : peaks.offsets[4]] = False
    left[peaks.offsets[10] : peaks.offsets[11]] = False
    result = py4DSTEM.match_orientations(peaks.select(left), gold(), options=ONE)
    assert np.isnan(result.matrices.reshape(35, 3, 3)[[3, 10]]).all()
    assert np.isnan(result.score.reshape(35)[[3, 10]]).all()
    assert result.report["positions"]["too few peaks"] == 2
    assert (result.reason.reshape(35)[[3, 10]] == REASONS.index("too few peaks")).all()


def test_unknown_origins_and_broken_intensities() -> None:
    peaks = on_detector(scan())
    origin = np.array(peaks.calibration.origins((5, 7)))
    origin[1, 2] = np.nan
    points = peaks.points.copy()
    points["intensity"][peaks.offsets[20] : peaks.offsets[21]] = np.nan
    broken = BraggPeaks(
        points, peaks.offsets, peaks.shape, peaks.calibration.replace(origin_px=origin)
    )
    result = py4DSTEM.match_orientations(broken, gold(), options=ONE)
    assert not result.indexed[1, 2]
    assert REASONS[result.reason[1, 2]] == "no origin"
    assert not result.indexed.reshape(-1)[20]


def test_noise_is_not_indexed_with_confidence() -> None:
    rng = np.random.default_rng(5)
    peaks = on_detector(scan())
    points = peaks.points.copy()
    central = np.hypot(points["qx"] - 63.5, points["qy"] - 63.5) < 4
    spread = rng.uniform(4, 122, (len(points), 2))
    points["qx"][~central], points["qy"][~central] = spread[~central].T
    noise = BraggPeaks(points, peaks.offsets, peaks.shape, peaks.calibration, Q_shape=(128, 128))
    try:
        result = py4DSTEM.match_orientations(noise, gold(), options=ONE)
    except SolveError:
        return
    sure = np.where(result.indexed, result.reliability[:, :, 0], 0.0)
    assert np.quantile(sure, 0.9) < np.quantile(found().reliability, 0.02)


def test_other_crystal_or_no_peaks() -> None:
    peaks = on_detector(scan())
    with pytest.raises(SolveError, match="scattered peaks"):
        py4DSTEM.match_orientations(peaks.select(np.zeros(len(peaks), bool)), "Au")
    with pytest.raises(ParameterError, match="intensity"):
        plain = py4DSTEM.PointTable(
            peaks.points[["qx", "qy"]], peaks.offsets, peaks.shape, peaks.calibration
        )
        py4DSTEM.match_orientations(plain, "Au")
    for wrong in (
        {"step_deg": 0.0},
        {"n_matches": 0},
        {"min_peaks": 1},
        {"crystal": "Unobtainium"},
    ):
        with pytest.raises(ParameterError):
            py4DSTEM.match_orientations(peaks, **{"crystal": "Au", **wrong})


def test_wrong_energy_is_doubted() -> None:
    truth = found()
    assert truth.report["doubts"] == []
    wrong = on_detector(scan()).with_calibration(energy_eV=60e3)
    result = py4DSTEM.match_orientations(wrong, gold(), options=ONE)
    assert "energy" in result.report["doubts"][0]


def test_cancelled() -> None:
    import threading

    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        py4DSTEM.match_orientations(
            on_detector(scan()), gold(), options=RunOptions(workers=1, cancel=stop)
        )


# ---- strain --------------------------------------------------------------------------------------
def test_strain_from_matched_patterns() -> None:
    """Patterns of strained crystals, each in another orientation."""
    _, peaks = kinematic(gold(), [0, 0, 0.3], 9)
    stretch = np.array([[1.012, 0.003], [0.003, 0.995]])
    points = peaks.points.copy()
    moved = (peaks.positions_px - [64, 60]) @ stretch + [64, 60]
    points["qx"], points["qy"] = moved.T
    strained = BraggPeaks(points, peaks.offsets, peaks.shape, peaks.calibration)
    found = py4DSTEM.match_orientations(strained, gold(), relrod_A=0.006, refine=False, options=ONE)
    strain = py4DSTEM.orientation_strain(strained, found)
    known = strain.mask
    assert known.sum() >= 7
    assert np.allclose(np.median(strain.e_xx[known]), -0.012, atol=5e-4)
    assert np.allclose(np.median(strain.e_yy[known]), 0.005, atol=5e-4)
    assert np.allclose(np.median(strain.e_xy[known]), -0.003, atol=5e-4)
    with pytest.raises(py4DSTEM.ShapeError):
        py4DSTEM.orientation_strain(on_detector(scan()), found)
    # With a refined calibration nothing is left of what all positions share.
    refined = py4DSTEM.match_orientations(strained, gold(), relrod_A=0.006, options=ONE)
    nothing = py4DSTEM.orientation_strain(strained, refined)
    assert abs(np.nanmedian(nothing.e_xx)) < 5e-4
