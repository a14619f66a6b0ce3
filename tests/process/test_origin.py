"""The origin of every scan position, against scans of known origin."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import (
    Calibration,
    CalibrationMissing,
    DataCube,
    ParameterError,
    ShapeError,
    calibrate_origin,
    fit_origin,
    measure_origin,
)
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import SolveError
from py4DSTEM.process.bragg.peaks import PEAK_DTYPE, BraggPeaks
from py4DSTEM.simulate.disks import DiskShape, add_disks, diffuse
from py4DSTEM.stream.analysis import analyses
from py4DSTEM.stream.options import RunOptions

SHAPE = (9, 12)


@pytest.fixture(scope="module")
def crystal():
    return py4DSTEM.simulate.strained_lattice(SHAPE, (96, 104), dose=40_000, seed=2)


def _errors(measured, truth):
    return measured.origin_px - truth


def _rms(errors):
    return np.sqrt(np.nanmean(errors**2, axis=(0, 1)))


def _honest(errors, sigma, low=0.8, high=1.2):
    pull = _rms(errors / sigma)
    assert (pull > low).all() and (pull < high).all(), pull


# ---- patterns ------------------------------------------------------------------------------------
def test_disk_reaches_its_own_sigma(crystal) -> None:
    measured = measure_origin(crystal.cube, method="disk")
    errors = _errors(measured, crystal.truth.origin_px)
    assert measured.mask.all() and not measured.reasons
    assert (_rms(errors) < 0.05).all()
    assert (np.abs(errors.mean((0, 1))) < 0.01).all()
    _honest(errors, measured.sigma_px)


def test_auto_takes_the_disk(crystal) -> None:
    assert measure_origin(crystal.cube).method == "disk"


def test_friedel_uses_all_disks(crystal) -> None:
    disk = measure_origin(crystal.cube, method="disk")
    measured = measure_origin(crystal.cube, method="friedel")
    errors = _errors(measured, crystal.truth.origin_px)
    assert (_rms(errors) < 0.7 * _rms(_errors(disk, crystal.truth.origin_px))).all()
    _honest(errors, measured.sigma_px, 0.6, 1.4)


def _stopped(cube: DataCube, origin: np.ndarray, covered: bool) -> tuple[DataCube, np.ndarray]:
    """A bar from one side: over the beam, or beside it."""
    i, j = np.indices(cube.Q_shape)
    width = np.abs(i - origin[0]) < 9 if covered else (i > origin[0] + 7) & (i < origin[0] + 14)
    stop = width & (j < origin[1] + (9 if covered else 12))
    data = np.array(cube.data)
    data[:, :, stop] = 0
    return cube.replace(data=data), ~stop


def test_friedel_behind_a_beam_stop(crystal) -> None:
    cube, mask = _stopped(crystal.cube, crystal.truth.origin_px.mean((0, 1)), covered=True)
    measured = measure_origin(cube, method="friedel", mask=mask)
    errors = _errors(measured, crystal.truth.origin_px)
    assert measured.mask.all()
    assert (_rms(errors) < 0.06).all()
    assert (np.abs(errors.mean((0, 1))) < 0.015).all()


@pytest.mark.parametrize("masked", [True, False])
def test_a_beam_stop_beside_the_disk_does_not_move_it(crystal, masked) -> None:
    cube, mask = _stopped(crystal.cube, crystal.truth.origin_px.mean((0, 1)), covered=False)
    measured = measure_origin(cube, method="disk", mask=mask if masked else None)
    errors = _errors(measured, crystal.truth.origin_px)
    assert (np.abs(np.nanmean(errors, axis=(0, 1))) < 0.03).all()
    assert (_rms(errors) < 0.08).all()


def _disks(fill, neighbours: float | None, dose: float = 6_000, radius: float = 5.5, seed: int = 0):
    """Disks at random places; `fill(u, v)` in disk radii; neighbours at so many radii, brighter."""
    rng = np.random.default_rng(seed)
    n = 120
    centers = np.array([31.3, 34.6]) + rng.uniform(-0.8, 0.8, (n, 2))
    shape = DiskShape(radius, 0.6)
    frames = add_disks(np.zeros((n, 64, 70)), centers[:, None], np.full((n, 1), dose), shape)
    i, j = np.indices((64, 70))
    u = (i - centers[:, 0, None, None]) / radius
    v = (j - centers[:, 1, None, None]) / radius
    frames *= fill(u, v)
    if neighbours is not None:
        away = neighbours * radius * np.array([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        others = centers[:, None] + away
        frames = add_disks(frames, others, dose * np.array([[1.5, 0.2, 0.6]]), shape)
    frames += 0.8
    data = rng.poisson(frames).astype(np.uint16).reshape(10, 12, 64, 70)
    return DataCube(data), centers.reshape(10, 12, 2)


@pytest.mark.parametrize(
    "fill",
    [
        lambda u, v: 1 + 0.5 * u - 0.3 * v,
        lambda u, v: 1 + 0.4 * (u - v) + 0.4 * (u * u + v * v) - 0.3 * u * v,
    ],
    ids=["slope", "ring"],
)
def test_uneven_filling_does_not_move_the_disk(fill) -> None:
    cube, truth = _disks(fill, None)
    measured = measure_origin(cube, method="disk")
    errors = _errors(measured, truth)
    assert (np.abs(errors.mean((0, 1))) < 0.015).all()
    _honest(errors, measured.sigma_px, 0.75, 1.3)
    com = measure_origin(cube, method="com", radius_px=8)
    assert np.abs(_errors(com, truth).mean((0, 1))).max() > 0.2  # what is avoided


def test_brighter_neighbours_do_not_move_the_disk() -> None:
    cube, truth = _disks(lambda u, v: 1 + 0.2 * u, 3.0)
    measured = measure_origin(cube, method="disk", center=(31.3, 34.6), radius_px=5.5)
    errors = _errors(measured, truth)
    assert measured.mask.all()
    assert (np.abs(errors.mean((0, 1))) < 0.02).all()
    _honest(errors, measured.sigma_px, 0.75, 1.3)


def test_hot_pixels_do_not_move_the_disk() -> None:
    cube, truth = _disks(lambda u, v: 1.0 + 0 * u, None)
    data = np.array(cube.data)
    data[:, :, 27, 38] = 20_000  # always, at the rim
    data[3, 4, 36, 35] = 60_000  # once
    data[5:, 2:, 10, 12] = 60_000  # far away
    errors = _errors(measure_origin(DataCube(data), method="disk"), truth)
    assert np.abs(errors).max() < 0.2
    assert (np.abs(errors.mean((0, 1))) < 0.02).all()


def test_floats_of_unknown_gain_have_honest_sigmas() -> None:
    cube, truth = _disks(lambda u, v: 1 + 0.2 * v, None)
    measured = measure_origin(DataCube(np.asarray(cube.data) * np.float32(0.013)), method="disk")
    _honest(_errors(measured, truth), measured.sigma_px, 0.75, 1.3)


def test_without_noise_nothing_is_left() -> None:
    scan = py4DSTEM.simulate.strained_lattice((4, 5), (80, 80), dose=None, background=0, seed=1)
    for method, most in (("disk", 5e-3), ("friedel", 5e-3)):
        errors = _errors(measure_origin(scan.cube, method=method), scan.truth.origin_px)
        assert np.abs(errors).max() < most, method


def test_rings(request) -> None:
    rng = np.random.default_rng(4)
    truth = np.array([40.3, 44.8]) + rng.uniform(-1, 1, (5, 6, 2))
    i, j = np.indices((84, 90))
    r = np.hypot(i - truth[..., 0, None, None], j - truth[..., 1, None, None])
    mean = 3 + 30 * np.exp(-((r - 20) ** 2) / 18) + 12 * np.exp(-((r - 33) ** 2) / 30)
    cube = DataCube(rng.poisson(mean).astype(np.uint16))
    for method in ("radial", "friedel"):
        measured = measure_origin(cube, method=method)
        errors = _errors(measured, truth)
        assert (_rms(errors) < 0.12).all(), method
        assert (np.abs(errors.mean((0, 1))) < 0.04).all()
        _honest(errors, measured.sigma_px, 0.6, 1.5)


def test_a_glass() -> None:
    scan = py4DSTEM.simulate.amorphous((5, 6), (64, 64), wander_px=0.6, seed=3)
    for method, most in (("auto", 0.02), ("friedel", 0.02), ("radial", 0.2)):
        errors = _errors(measure_origin(scan.cube, method=method), scan.truth.origin_px)
        assert (_rms(errors) < most).all(), (method, _rms(errors))


def test_centre_of_mass_of_whole_patterns() -> None:
    cube, _ = _disks(lambda u, v: 1.0 + 0 * u, None)
    measured = measure_origin(cube, method="com")
    com = cube.center_of_mass()
    assert np.allclose(np.moveaxis(measured.origin_px, -1, 0), com.data)


def test_one_pattern_counts_as_a_scan() -> None:
    cube, truth = _disks(lambda u, v: 1.0 + 0 * u, None)
    measured = measure_origin(cube[2, 3])
    assert measured.origin_px.shape == (1, 1, 2)
    assert np.abs(measured.origin_px[0, 0] - truth[2, 3]).max() < 0.15


def test_where_limits_what_is_looked_at(crystal) -> None:
    where = np.zeros(SHAPE, bool)
    where[2:6, 3:9] = True
    data = np.array(crystal.cube.data)
    data[~where] = 9
    measured = measure_origin(DataCube(data), where=where)
    assert np.array_equal(measured.mask, where)
    assert measured.reasons == {"not asked for": int((~where).sum())}


def test_workers_do_not_matter(crystal) -> None:
    one, two = (
        measure_origin(crystal.cube, options=RunOptions(workers=n, memory="8 MB")) for n in (1, 2)
    )
    assert one.origin_px.tobytes() == two.origin_px.tobytes()


def test_reference_scan(shared_data: Path) -> None:
    with h5py.File(shared_data / "strain" / "data.h5") as file:
        cube = DataCube(file["data"][:])
    truth = np.load(shared_data / "strain" / "truth.npz")
    truth = np.stack([truth["origin_row"], truth["origin_col"]], axis=-1)
    measured = measure_origin(cube)
    assert measured.method == "disk" and measured.mask.all()
    assert (_rms(_errors(measured, truth)) < 0.05).all()
    some = np.indices(cube.R_shape).sum(axis=0) % 3 == 0
    friedel = measure_origin(cube, method="friedel", where=some)
    assert friedel.mask[some].all()
    assert (_rms(_errors(friedel, truth)) < 0.05).all()
    blend = measured.fit("plane", blend=True)
    assert (_rms(blend.origin_px - truth) < 0.04).all()
    plane = measured.fit("auto")
    assert plane.model == "plane"
    assert np.abs(plane.coefficients[0] - truth.mean((0, 1))).max() < 0.005
    assert np.allclose(plane.jitter_px, 0.04, atol=0.012)


# ---- peaks ---------------------------------------------------------------------------------------
def _peaks(truth, sigma=0.07, missing=0.1, direct=True, seed=0) -> BraggPeaks:
    """Detected peaks of a lattice: noisy, some missing, some that are none."""
    rng = np.random.default_rng(seed)
    true = truth.peaks()
    points = true.points
    q = np.stack([points["qx"], points["qy"]], axis=-1)
    keep = ((q > 3) & (q < 93)).all(1) & (rng.random(len(q)) > missing)
    is_direct = (points["h"] == 0) & (points["k"] == 0)
    keep = keep | is_direct if direct else keep & ~is_direct
    table = np.zeros(len(q), PEAK_DTYPE)
    spread = sigma * rng.uniform(0.5, 2.0, len(q))
    table["qx"], table["qy"] = (q + spread[:, None] * rng.standard_normal(q.shape)).T
    table["sigma_qx"] = table["sigma_qy"] = spread
    table["intensity"] = points["intensity"] * 1e4
    wrong = rng.random(len(q)) < 0.03
    table["qx"][wrong & ~is_direct] += 4.0
    return BraggPeaks(table, true.offsets, true.shape).select(keep)


def test_peaks_reach_what_their_sigmas_allow(crystal) -> None:
    peaks = _peaks(crystal.truth)
    measured = measure_origin(peaks)
    errors = _errors(measured, crystal.truth.origin_px)
    assert measured.method == "peaks" and measured.mask.all()
    assert (_rms(errors) < 0.03).all()
    _honest(errors, measured.sigma_px)


def test_pairs_do_without_the_direct_peak(crystal) -> None:
    measured = measure_origin(_peaks(crystal.truth, direct=False))
    errors = _errors(measured, crystal.truth.origin_px)
    assert (_rms(errors) < 0.035).all()


def test_the_direct_peak_alone_is_enough(crystal) -> None:
    peaks = _peaks(crystal.truth, missing=0)
    near = np.hypot(*(np.stack([peaks.points["qx"], peaks.points["qy"]], -1) - (48, 52)).T) < 6
    measured = measure_origin(peaks.select(near))
    _honest(_errors(measured, crystal.truth.origin_px), measured.sigma_px)


def test_sigmas_that_are_not_known_come_from_the_scatter(crystal) -> None:
    peaks = _peaks(crystal.truth)
    peaks.points["sigma_qx"] = np.nan
    measured = measure_origin(peaks)
    _honest(_errors(measured, crystal.truth.origin_px), measured.sigma_px, 0.6, 1.4)


def test_positions_without_peaks_are_counted(crystal) -> None:
    peaks = _peaks(crystal.truth)
    first = peaks.positions @ (SHAPE[1], 1) == 0
    measured = measure_origin(peaks.select(~first))
    assert measured.reasons == {"no peaks": 1}
    assert np.isnan(measured.origin_px[0, 0]).all()
    with pytest.raises(ParameterError, match="no peaks"):
        measure_origin(peaks.select(np.zeros(len(peaks), bool)))


# ---- surfaces ------------------------------------------------------------------------------------
def _surface(shape=(20, 25), noise=0.05, bend=0.0, seed=0):
    rng = np.random.default_rng(seed)
    u, v = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    true = np.stack([30 + 0.6 * u - 0.3 * v + bend * u * u, 41 + 0.2 * u + 0.7 * v], axis=-1)
    return true, true + noise * rng.standard_normal(true.shape)


def test_a_plane_with_honest_covariance() -> None:
    pulls = []
    for seed in range(30):
        true, measured = _surface(seed=seed)
        fit = fit_origin(measured)
        pulls.append((fit.origin_px - true)[::6, ::6] / fit.sigma_px[::6, ::6])
    assert 0.8 < np.sqrt(np.mean(np.square(pulls))) < 1.2
    assert fit.terms == ((0, 0), (1, 0), (0, 1))
    assert np.allclose(fit.coefficients, [[30, 41], [0.6, 0.2], [-0.3, 0.7]], atol=0.02)
    assert np.allclose(fit.jitter_px, 0.05, rtol=0.2)


def test_many_wrong_positions_do_not_carry_the_plane_away() -> None:
    true, measured = _surface()
    wrong = np.random.default_rng(1).random(measured.shape[:2]) < 0.3
    measured[wrong] += (13.0, -4.0)
    measured[3, 4] = np.nan
    fit = fit_origin(measured)
    known = wrong.copy()
    known[3, 4] = False
    assert np.array_equal(fit.outliers, known)
    assert np.abs(fit.origin_px - true).max() < 0.03
    rough = fit_origin(measured, robust=False)
    assert np.abs(rough.origin_px - true).max() > 1


@pytest.mark.parametrize(("bend", "model"), [(0.0, "plane"), (0.4, "parabola")])
def test_the_model_is_chosen(bend, model) -> None:
    true, measured = _surface(bend=bend)
    fit = fit_origin(measured, "auto")
    assert fit.model == model
    assert np.abs(fit.origin_px - true).max() < 0.05


def test_constant_and_none() -> None:
    _, measured = _surface()
    measured[0, 0] = np.nan
    assert len(fit_origin(measured, "constant").coefficients) == 1
    kept = fit_origin(measured, "none")
    assert np.array_equal(kept.origin_px, measured, equal_nan=True)


def test_blend_keeps_what_is_real() -> None:
    rng = np.random.default_rng(5)
    true, _ = _surface(noise=0)
    true = true + 0.05 * rng.standard_normal(true.shape)
    sigma = np.full(true.shape, 0.03)
    measured = py4DSTEM.OriginMeasurement(
        true + sigma * rng.standard_normal(true.shape), sigma, {}, "disk"
    )
    plane, blend = (measured.fit("plane", blend=b).origin_px - true for b in (False, True))
    alone = measured.origin_px - true
    assert (_rms(blend) < _rms(plane)).all() and (_rms(blend) < _rms(alone)).all()
    assert np.allclose(measured.fit("plane").jitter_px, 0.05, rtol=0.2)


def test_exact_origins_are_kept_exactly() -> None:
    true, _ = _surface(noise=0)
    fit = fit_origin(true)
    assert np.abs(fit.origin_px - true).max() < 1e-9 and not fit.outliers.any()


def test_one_row_has_a_slope_along_it_only() -> None:
    true, measured = _surface((1, 40))
    assert np.abs(fit_origin(measured).origin_px - true).max() < 0.05


@pytest.mark.parametrize(
    ("values", "options", "error"),
    [
        (np.zeros((3, 4)), {}, ShapeError),
        (np.full((3, 4, 2), np.nan), {}, ParameterError),
        (np.zeros((3, 4, 2)), {"model": "sphere"}, ParameterError),
        (np.zeros((3, 4, 2)), {"mask": np.ones((4, 3))}, ShapeError),
        (np.zeros((5, 5, 2)), {"mask": np.eye(5, dtype=bool)}, ParameterError),
    ],
)
def test_bad_surfaces(values, options, error) -> None:
    with pytest.raises(error):
        fit_origin(values, **options)


# ---- calibrating ---------------------------------------------------------------------------------
def test_cube_and_peaks_return_as_they_came(crystal) -> None:
    cube = crystal.cube.calibrate_origin(model="auto")
    assert type(cube) is DataCube
    assert cube.calibration.origin_px.shape == (*SHAPE, 2)
    assert np.abs(cube.calibration.origin_px - crystal.truth.origin_px).max() < 0.6
    report = cube.report["origin"]
    assert report["method"] == "disk" and report["outliers"] == 0
    assert json.dumps(cube.report) and cube.history.steps[-1].kind == "calibrate-origin"
    peaks = _peaks(crystal.truth).calibrate_origin()
    assert isinstance(peaks, BraggPeaks) and peaks.report["origin"]["method"] == "peaks"
    by_peaks = calibrate_origin(crystal.cube, peaks)
    assert np.array_equal(by_peaks.calibration.origin_px, peaks.calibration.origin_px)


def test_calibration_takes_measurement_and_fit(crystal) -> None:
    measured = measure_origin(crystal.cube)
    assert np.array_equal(
        crystal.cube.with_calibration(origin=measured).calibration.origin_px, measured.origin_px
    )
    fit = measured.fit()
    assert np.array_equal(crystal.cube.with_calibration(fit).calibration.origin_px, fit.origin_px)
    assert "±" in repr(measured) and "±" in repr(fit)


def test_files(crystal, tmp_path) -> None:
    measured = measure_origin(crystal.cube)
    fit = measured.fit()
    path = tmp_path / "origin.h5"
    py4DSTEM.save(path, {"measured": measured, "fit": fit})
    back = py4DSTEM.read(path)
    for a, b in ((measured, back["measured"]), (fit, back["fit"])):
        assert type(a) is type(b) and repr(a) == repr(b)
        assert np.array_equal(a.origin_px, b.origin_px, equal_nan=True)
        assert a.history.steps == b.history.steps
    cube = crystal.cube.with_calibration(fit).replace(report={"origin": fit.report()})
    py4DSTEM.save(path, cube)
    assert py4DSTEM.read(path).report["origin"] == fit.report()
    assert back["fit"].terms == fit.terms and back["fit"].report() == fit.report()


def test_analyses_are_known_and_repeatable(crystal) -> None:
    assert {"measure-origin", "calibrate-origin"} <= set(analyses())
    measured = measure_origin(crystal.cube, method="friedel", search_px=4.0)
    step = next(s for s in measured.history.steps if s.kind == "measure-origin")
    again = analyses()["measure-origin"](**json.loads(json.dumps(step.parameters)))
    assert np.array_equal(again.apply(crystal.cube).origin_px, measured.origin_px)
    assert analyses()["calibrate-origin"]().apply(crystal.cube).calibration.origin_varies


# ---- bad input -----------------------------------------------------------------------------------
def test_empty_patterns_are_counted(crystal) -> None:
    data = np.array(crystal.cube.data)
    data[0, :3] = 0
    for method in ("disk", "friedel", "radial", "com"):
        measured = measure_origin(DataCube(data), method=method)
        assert measured.reasons["no intensity"] == 3, method
        assert not measured.mask[0, :3].any()


def test_scans_without_any_beam() -> None:
    nothing = DataCube(np.zeros((3, 3, 32, 32), np.uint16))
    for method in ("auto", "disk", "friedel", "radial"):
        with pytest.raises((SolveError, ParameterError)):
            measure_origin(nothing, method=method)
    with np.errstate(all="raise"):
        lost = DataCube(np.full((3, 3, 32, 32), np.nan, np.float32))
        with pytest.raises((SolveError, ParameterError)):
            measure_origin(lost)


def test_a_probe_larger_than_the_pattern() -> None:
    flat = DataCube(np.random.default_rng(0).poisson(50, (3, 3, 24, 24)).astype(np.uint16))
    with pytest.raises((SolveError, ParameterError)):
        measure_origin(flat, method="disk", radius_px=40)


def test_wrong_sources(crystal) -> None:
    with pytest.raises(ParameterError, match="Bragg peaks"):
        measure_origin(crystal.cube, method="peaks")
    with pytest.raises(ParameterError, match="needs the patterns"):
        measure_origin(_peaks(crystal.truth), method="disk")
    with pytest.raises(ShapeError):
        measure_origin(crystal.cube, where=np.ones((2, 2)))
    with pytest.raises(ShapeError):
        calibrate_origin(crystal.cube, PointTable(np.zeros(0, PEAK_DTYPE), np.zeros(2), (1, 1)))
    with pytest.raises(ParameterError, match="method"):
        measure_origin(crystal.cube, method="guess")


def test_the_remedy_names_what_measures(crystal) -> None:
    with pytest.raises(CalibrationMissing, match="measure_origin"):
        _ = Calibration().mean_origin_px


def test_diffuse_background_is_no_disk() -> None:
    frames = 4e5 * diffuse((48, 48), np.tile([[23.0, 25.0]], (9, 1)), 12.0, np.eye(2))
    data = np.random.default_rng(1).poisson(frames).astype(np.uint16).reshape(3, 3, 48, 48)
    measured = measure_origin(DataCube(data))
    assert np.abs(measured.origin_px - (23, 25)).max() < 0.5
