"""Ptychography against known truth: simulated scans, reference data, and what judges a result."""

import dataclasses
import json
import math
from functools import cache

import h5py
import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter, map_coordinates

import py4DSTEM
from py4DSTEM import (
    DataCube,
    DependencyMissing,
    ParameterError,
    judge_ptychography,
    ptychography,
    simulate,
    tune_ptychography,
)
from py4DSTEM.process.phase.compare import agreement, on_grid
from py4DSTEM.process.phase.ptychography.judge import model_intensities, raster_height
from py4DSTEM.process.phase.ptychography.noise import expected_misfit
from py4DSTEM.process.phase.ptychography.refine import fit_aberrations


def extent_A(result):
    return (np.array(result.positions_px.shape[:2]) - 1) * np.array(result.optics.R_steps_A)


def compared(phase, extent, truth, pixel, middle, resolution, matrix=None):
    """A phase in scan axes against a truth whose axes are reached by `matrix`, and that truth."""
    step = phase.calibration.R[0].step
    turn = np.eye(2) if matrix is None else matrix
    origin = np.asarray(middle) - turn @ extent / 2
    there = on_grid(
        truth, pixel, phase.data.shape, grid_A=step, origin_A=tuple(origin), matrix=turn,
        periodic=matrix is not None,
    )  # fmt: skip
    return agreement(phase.data, there, step, resolution_A=resolution, max_shift_A=1.0)


# ---- simulated scans -----------------------------------------------------------------------------
@pytest.mark.parametrize(("rotation", "flip"), [(0.4, False), (-1.1, True), (2.3, True)])
def test_the_phase_lies_in_scan_axes(rotation, flip):
    """Of a scan that is not square, with different steps along x and y."""
    scan = simulate.phase_object(
        (18, 30), (48, 48), step_A=0.45, Q_pixel_size_A=0.06, defocus_A=60.0, dose=1e6,
        rotation_rad=rotation, flip=flip, seed=3,
    )  # fmt: skip
    cube = DataCube(scan.cube.data[:, ::2]).with_calibration(
        scan.truth.calibration.replace(R_pixel_size=(0.45, 0.9), R_pixel_units="A")
    )
    result = ptychography(cube, defocus_A=60.0, iterations=12)
    assert result.phase.shape == pytest.approx(extent_A(result) / min(result.sampling_A), abs=1.5)
    places = scan.truth.positions_A[:, ::2]
    middle = places.reshape(-1, 2).mean(axis=0)
    found = compared(
        result.phase, extent_A(result), scan.truth.phase, scan.truth.sampling_A, middle, 0.9
    )
    assert found.correlation > 0.98 and found.scale == pytest.approx(1, abs=0.06)
    assert math.hypot(*found.shift_A) < 0.15
    changes = result.calibration_changes()
    assert changes == {"rotation_rad": pytest.approx(rotation), "flip": flip}
    again = py4DSTEM.ptychography(cube.with_calibration(result), defocus_A=60.0, iterations=1)
    assert again.optics == result.optics


@cache
def counted(dose=3000.0, seed=5):
    scan = simulate.phase_object((13, 15), (48, 48), dose=dose, step_A=0.7, seed=seed)
    return scan.cube.with_calibration(scan.truth.calibration), scan.truth


@cache
def solved(dose=3000.0):
    return ptychography(counted(dose)[0], defocus_A=100.0, iterations=12)


# ---- the noise level -----------------------------------------------------------------------------
@pytest.mark.parametrize("mean", [0.0, 1e-3, 0.2, 1.1, 7.0, 63.9, 64.1, 900.0])
def test_the_expected_misfit_is_that_of_poisson_counts(mean):
    n = np.arange(3000)
    exact = (stats.poisson.pmf(n, mean) * (np.sqrt(n) - math.sqrt(mean)) ** 2).sum()
    assert expected_misfit(mean) == pytest.approx(exact, rel=2e-3, abs=1e-12)


@pytest.mark.parametrize("dose", [500.0, 3000.0, 100_000.0])
def test_the_expected_error_is_that_of_the_truth(dose):
    """The model with the true object and probe leaves just the noise."""
    cube, _ = counted(dose)
    result = solved(dose)
    ideal, _ = counted(None)
    mean = np.asarray(ideal.data, np.float64) * dose
    left = ((np.sqrt(np.asarray(cube.data, np.float64)) - np.sqrt(mean)) ** 2).sum()
    truth = left / np.asarray(cube.data, np.float64).sum()
    assert result.expected_error == pytest.approx(truth, rel=0.06)
    assert result.judge().expected_error == pytest.approx(truth, rel=0.03)


def test_the_model_patterns_are_those_of_the_scan():
    cube, _ = counted(1e6)
    result = ptychography(cube, defocus_A=100.0, iterations=20)
    numbers = np.array([0, 31, 194])
    model = np.fft.fftshift(model_intensities(result, numbers), axes=(1, 2))
    measured = np.asarray(cube.data, np.float64).reshape(-1, 48, 48)[numbers]
    assert np.abs(model - measured).sum() < 0.04 * measured.sum()


# ---- judgement -----------------------------------------------------------------------------------
def test_a_good_result_is_not_doubted():
    cube, truth = counted()
    judged = judge_ptychography(solved(), cube, vacuum=None)
    assert judged.warnings == () and 0.9 < judged.error_ratio < 1.15
    assert judged.error_ratio == judged.errors[-1] / judged.expected_error
    assert judged.edge_share < 0.01 and judged.beside_share < 0.02
    assert len(judged.outliers) == 0 and judged.moved_A < 1e-6
    assert 0.8 < judged.resolution_A < 3.0 and "halves" in judged.text()
    middle = truth.positions_A.reshape(-1, 2).mean(axis=0)
    result = solved()
    found = compared(
        result.phase, extent_A(result), truth.phase, truth.sampling_A, middle, judged.resolution_A
    )
    assert found.correlation > 0.9  # at the resolution that the halves claim


def test_more_electrons_resolve_more():
    few, many = (
        judge_ptychography(solved(dose), counted(dose)[0]).resolution_A for dose in (500.0, 1e5)
    )
    assert not few <= 1.15 * many


def test_what_is_wrong_is_said():
    cube, truth = counted(100_000.0)
    turned = ptychography(cube, defocus_A=100.0, rotation_rad=truth.rotation_rad + 0.5)
    assert any("rotation" in words for words in turned.judge().warnings)
    assert "WARNING" in turned.text()
    defocused = ptychography(cube, defocus_A=-120.0, probe_step=0.0, iterations=8)
    assert any("counting noise explains" in words for words in defocused.judge().warnings)


def test_halves_that_do_not_agree():
    """Patterns of nothing but noise: two reconstructions have nothing in common."""
    cube, truth = counted(500.0)
    mean = np.asarray(truth.vacuum.data, np.float64)
    noise = np.random.default_rng(4).poisson(500 * mean / mean.sum(), cube.shape)
    empty = DataCube(noise.astype(np.uint16)).with_calibration(cube.calibration)
    judged = judge_ptychography(ptychography(empty, defocus_A=100.0, iterations=6), empty)
    assert math.isnan(judged.resolution_A) and "halves" in judged.warnings[-1]
    assert "nan" not in judged.text()


def test_damaged_patterns_are_found():
    cube, _ = counted(100_000.0)
    data = np.array(cube.data)
    data[4, 7] = data[9, 2]  # as a scan that lost a line would have it
    spoiled = DataCube(data).with_calibration(cube.calibration)
    judged = ptychography(spoiled, defocus_A=100.0, iterations=8).judge()
    assert [4, 7] in judged.outliers.tolist()
    assert any("(4, 7)" in words for words in judged.warnings)


def test_ambiguities_are_told():
    result = solved()
    rows = result.object.shape[1]
    ramp = np.exp(0.5j * np.arange(rows))[:, None]
    tilted = dataclasses.replace(result, object=(result.object * ramp).astype(np.complex64))
    judged = tilted.judge()
    expected = result.optics.to_detector().T @ np.array([0.5 / result.sampling_A[0], 0.0])
    np.testing.assert_allclose(judged.ramp_rad_per_A, expected, atol=0.05)
    assert any("ramp" in words for words in judged.warnings)
    scaled = dataclasses.replace(
        result, object=(1.3 * result.object).astype(np.complex64), probe=result.probe / 1.3
    )
    assert scaled.judge().transmission == pytest.approx(1.3, rel=0.05)
    assert any("factor" in words for words in scaled.judge().warnings)
    moved = dataclasses.replace(result, probe=np.roll(result.probe, 6, 1))
    assert moved.judge().center_A[0] == pytest.approx(6 * result.sampling_A[0], abs=0.5)
    assert any("displaced" in words for words in moved.judge().warnings)


def test_a_raster_is_seen():
    rng = np.random.default_rng(2)
    image = rng.normal(size=(70, 64))
    x, y = np.indices(image.shape) * 0.2
    seen = image + 0.8 * np.cos(2 * np.pi * (x / 0.9 - y / 1.1))
    assert raster_height(image, 0.2, (0.9, 1.1)) < 5 < raster_height(seen, 0.2, (0.9, 1.1))
    assert math.isnan(raster_height(image, 0.5, (0.9, 0.9)))


def test_another_scan_is_refused():
    with pytest.raises(ParameterError, match="positions"):
        judge_ptychography(solved(), DataCube(np.ones((4, 5, 48, 48), np.uint16)))
    bare = dataclasses.replace(solved(), history=py4DSTEM.History())
    with pytest.raises(ParameterError, match="history"):
        judge_ptychography(bare, counted()[0])


# ---- search of parameters ------------------------------------------------------------------------
def test_defocus_is_found_by_trial():
    pytest.importorskip("optuna", reason="installed by the tune extra")
    cube, _ = counted(100_000.0)
    tuned = tune_ptychography(cube, {"defocus_A": (20.0, 200.0)}, 12, iterations=6, seed=1)
    assert tuned.best["defocus_A"] == pytest.approx(100, abs=20)
    assert tuned.scores.min() < 1.03 < tuned.scores.max()
    assert "defocus_A = " in tuned.text()


def test_searches_that_make_no_sense(monkeypatch):
    cube, _ = counted()
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(DependencyMissing, match="tune"):
        tune_ptychography(cube, {"defocus_A": (20.0, 200.0)})
    for space, fixed in (
        ({"defocus": (1.0, 2.0)}, {}),
        ({"defocus_A": (2.0, 1.0)}, {}),
        ({"modes": []}, {}),
        ({}, {}),
        ({"modes": [1]}, {"modes": 2}),
    ):
        with pytest.raises(ParameterError):
            tune_ptychography(cube, space, **fixed)


# ---- reference data ------------------------------------------------------------------------------
def reference(folder, name, *, bin_by=1, crop=None, part=np.s_[:]):
    """A scan of the reference data, and its truth in our axes: x down, y to the right."""
    truth = json.loads((folder / name / "truth.json").read_text())
    arrays = dict(np.load(folder / name / "truth.npz"))
    with h5py.File(folder / name / "data.h5") as file:
        data = file["data"][:][part, part]
    if crop is not None:
        data = np.ascontiguousarray(data[:, :, crop:-crop, crop:-crop])
    Rx, Ry, Qx, Qy = data.shape
    data = data.reshape(Rx, Ry, Qx // bin_by, bin_by, Qy // bin_by, bin_by).sum(axis=(3, 5))
    cube = DataCube(data.astype(np.uint16)).with_calibration(
        R_pixel_size=truth["scan_step_A"], R_pixel_units="A",
        Q_pixel_size=bin_by * truth["detector_pixel_1_per_A"], Q_pixel_units="A^-1",
        energy_eV=truth["energy_eV"], semiangle_mrad=truth["convergence_semiangle_mrad"],
    )  # fmt: skip
    places = arrays["positions_xy_A"].reshape(*truth["scan_shape"], 2)[part, part, ::-1]
    angle = math.radians(truth["scan_rotation_deg"])
    c, s = math.cos(angle), math.sin(angle)
    to_lab = np.array([[c, s], [-s, c]])
    return cube, truth, arrays, places.reshape(-1, 2).mean(axis=0), to_lab


def test_thin_crystal_from_nothing_but_the_optics(shared_data):
    """Rotation, defocus, phase and every defect, with drift, a finite source and 7200 electrons."""
    cube, truth, arrays, middle, _ = reference(shared_data, "ptycho_thin", bin_by=2)
    result = ptychography(
        cube, modes=3, object_type="pure phase", refine_positions="affine", iterations=30
    )
    assert result.optics.flip is False
    assert result.rotation_deg == pytest.approx(truth["scan_rotation_deg"], abs=0.5)
    lens, _ = fit_aberrations(result.probe[0], result.optics, result.aberrations, ("C10", "C12"))
    sheet = truth["defocus_A"] - truth["thickness_A"] / 2
    assert lens.defocus_A == pytest.approx(sheet, rel=0.03)
    judged = judge_ptychography(result, cube)
    assert judged.resolution_A < 0.85 and judged.error_ratio < 1.1
    # The object is found in detector axes, which are those of the truth; refined positions have
    # what the first rotation lacked.
    to_lab = result.optics.to_detector()
    found = compared(
        result.phase, extent_A(result), arrays["phase"], truth["phase_pixel_A"], middle,
        judged.resolution_A, to_lab,
    )  # fmt: skip
    assert found.correlation > 0.95
    assert found.scale > 0.8
    _check_defects(result, truth, arrays, middle, to_lab, np.array(found.shift_A))


def _check_defects(result, truth, arrays, middle, to_lab, shift):
    """Phase at each column against the others of its kind: vacancies lowest, W highest."""
    atoms, kinds = arrays["atoms_xyz_A"][:, 1::-1], arrays["atoms_symbol"]
    sulfur, sulfur2, molybdenum, tungsten = (np.array(d["xy"][::-1]) for d in truth["defects"])
    sites = {
        "Mo": np.vstack([atoms[kinds == "Mo"], molybdenum, tungsten]),
        "S": np.vstack([atoms[kinds == "S"], sulfur, sulfur2]),
    }
    heights = {}
    step = result.phase.calibration.R[0].step
    smooth = gaussian_filter(result.phase.data, 0.35 / step)
    for kind, places in sites.items():
        at = ((places - middle) @ to_lab + extent_A(result) / 2 + shift) / step
        inside = (at > 1.5 / step).all(1) & (at < np.array(smooth.shape) - 1 - 1.5 / step).all(1)
        value = map_coordinates(smooth, at[inside].T, order=1)
        typical = np.median(value)
        spread = 1.4826 * np.median(np.abs(value - typical))
        heights[kind] = places[inside], (value - typical) / spread

    def z(kind, place):
        near, value = heights[kind]
        return value[np.hypot(*(near - place).T) < 0.3].min()

    assert z("Mo", molybdenum) < -8
    assert z("S", sulfur) < -8 and z("S", sulfur2) < 1.2 * z("S", sulfur)
    places, value = heights["Mo"]
    assert np.hypot(*(places[value.argmax()] - tungsten)) < 0.3 and value.max() > 2.5
    low = sum(int((v < -5).sum()) for _, v in heights.values())
    assert low <= 4  # three vacancies; coordinates of one site may be listed twice


def test_thick_crystal_in_slices(shared_data):
    """Phase of each slab, and the depth of foreign atoms, which a single slice cannot tell."""
    cube, truth, arrays, middle, to_lab = reference(
        shared_data, "ptycho_thick", crop=20, part=np.s_[3:29]
    )
    cube = cube.with_calibration(rotation_rad=math.radians(truth["scan_rotation_deg"]), flip=False)
    slabs = arrays["phase_slabs"]
    # Of a probe at the first slice, which stands for the middle of its slab.
    defocus = truth["defocus_A"] - truth["slab_thickness_A"] / 2
    common = {"defocus_A": defocus, "modes": 3, "batch": 20, "object_type": "pure phase"}
    thick = ptychography(cube, slices=10, slice_thickness_A=15.62, iterations=15, **common)
    single = ptychography(cube, iterations=6, **common)

    def agrees(phase, known):
        return compared(
            phase, extent_A(thick), known, truth["phase_slabs_pixel_A"], middle, 0.5, to_lab
        )

    whole = agrees(thick.phase, slabs.sum(axis=0))
    assert whole.correlation > 0.98 and whole.scale == pytest.approx(1, abs=0.1)
    each = [agrees(p, s).correlation for p, s in zip(thick.slice_phases, slabs, strict=True)]
    # The probe may take up a part of what the first slab is.
    assert min(each[1:]) > 0.95 and each[0] > 0.8
    assert agrees(single.phase, slabs.sum(axis=0)).correlation < 0.5
    assert thick.errors[-1] < 0.5 * single.errors[-1]
    for defect in truth["defects"]:
        place = (np.array(defect["xy"][::-1]) - middle) @ to_lab + extent_A(thick) / 2
        found = np.array([_height(p, place) for p in thick.slice_phases])
        shape = "missing" not in defect["kind"]
        # The slabs that hold the foreign atoms; their depth is told to about a slab.
        first, last = (depth / truth["slab_thickness_A"] for depth in defect["z"])
        extreme = int(found.argmax() if shape else found.argmin())
        assert first - 1.2 < extreme < last + 0.5, (defect, found)


def _height(phase, place_A):
    step = phase.calibration.R[0].step
    smooth = gaussian_filter(phase.data - np.median(phase.data), 0.3 / step)
    return float(map_coordinates(smooth, (place_A / step)[:, None], order=1)[0])
