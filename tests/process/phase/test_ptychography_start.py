"""What ptychography begins with: defocus and half turn that the data decide; damaged patterns."""

import dataclasses
import json
import math
import warnings
from functools import cache

import h5py
import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import (
    CalibrationMissing,
    DataCube,
    MemoryBudgetError,
    ParameterError,
    Py4DSTEMWarning,
    ShapeError,
    ptychography,
    search_optics,
    simulate,
)
from py4DSTEM.core.cube import Cube
from py4DSTEM.process.phase.ptychography import patterns as reading
from py4DSTEM.process.phase.ptychography.geometry import affine_part, turned_by
from py4DSTEM.process.phase.ptychography.reconstruct import Ptychography
from py4DSTEM.process.phase.ptychography.search import SearchOptics


@cache
def scanned(dose=100_000.0, defocus_A=80.0):
    scan = simulate.phase_object(
        (13, 15), (40, 40), Q_pixel_size_A=0.06, defocus_A=defocus_A, dose=dose, seed=1
    )
    return scan.cube.with_calibration(scan.truth.calibration), scan.truth


def unknown(cube):
    """Without rotation and flip."""
    return DataCube(cube.data, dataclasses.replace(cube.calibration, rotation_rad=None, flip=None))


def differs(one, other):
    """Between two rotations, degrees."""
    return abs(math.degrees(math.remainder(one - other, 2 * math.pi)))


# ---- one slice and two solutions -----------------------------------------------------------------
def test_one_slice_has_two_solutions():
    """The opposite defocus with half a turn more explains a strong object exactly as well."""
    cube, truth = scanned()
    one, other = (
        ptychography(
            cube, defocus_A=sign * 80.0, rotation_rad=truth.rotation_rad + turn,
            vacuum=truth.vacuum, probe_step=0.0, iterations=6,
        )
        for sign, turn in ((1, 0.0), (-1, math.pi))
    )  # fmt: skip
    assert other.errors[-1] == pytest.approx(one.errors[-1], rel=5e-3)
    phases = [np.asarray(r.phase.data) - r.phase.data.mean() for r in (one, other)]
    inner = np.s_[4:-4, 4:-4]
    assert np.corrcoef(phases[0][inner].ravel(), phases[1][inner].ravel())[0, 1] < -0.9


@pytest.mark.parametrize("defocus", [80.0, -60.0, 0.0])
def test_defocus_and_rotation_of_a_thin_specimen(defocus):
    """By parallax, and in focus by trial."""
    cube, truth = scanned(defocus_A=defocus)
    found = search_optics(unknown(cube))
    assert found.defocus_A == pytest.approx(defocus, abs=8)
    assert differs(found.rotation_rad, truth.rotation_rad) < 3 and not found.flip
    assert found.thickness_A == 0 and found.error_ratio < 1.5
    assert len(found.errors) == len(found.tried) < 20
    assert found.calibration_changes()["rotation_rad"] == found.rotation_rad


def test_a_range_of_defocus_and_a_wrong_rotation():
    cube, truth = scanned()
    turned = cube.with_calibration(rotation_rad=truth.rotation_rad + 0.05)
    found = search_optics(turned, (30.0, 150.0), vacuum=truth.vacuum, turn_rad=0.1)
    assert found.defocus_A == pytest.approx(80, rel=0.04)
    assert differs(found.rotation_rad, truth.rotation_rad) < 0.6
    assert found.half_turn_by == "calibration" and "known" in found.text()
    with pytest.raises(ParameterError, match="search further"):
        search_optics(cube, (120.0, 200.0), vacuum=truth.vacuum)
    with pytest.raises(ParameterError, match="range"):
        search_optics(cube, (200.0, 120.0))


def test_the_half_turn_is_not_claimed_where_the_detector_is_small():
    """It ends at 1.9 radii of the disk, where the dark field shows holes as well as atoms."""
    scan = simulate.phase_object((24, 26), (48, 48), dose=100_000.0, step_A=0.6, seed=2)
    cube = unknown(scan.cube)
    found = search_optics(cube)
    assert found.half_turn_z < 2 and "half turn" in found.notes[-1]
    with pytest.warns(Py4DSTEMWarning, match="half turn"):
        result = ptychography(cube, iterations=2)
    assert "NOTE: the half turn" in result.text()
    again = py4DSTEM.PtychographyResult(
        **{f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    )
    assert again.notes == result.notes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ptychography(cube, iterations=1, defocus_A=100.0, rotation_rad=scan.truth.rotation_rad)


def test_searches_are_kept_in_files(tmp_path):
    cube, _ = scanned()
    found = search_optics(cube)
    py4DSTEM.save(tmp_path / "found.h5", found)
    again = py4DSTEM.read(tmp_path / "found.h5")
    assert again.text() == found.text() and again.history.steps == found.history.steps
    np.testing.assert_array_equal(again.tried, found.tried)


def test_thick_crystal_from_nothing_but_the_optics(shared_data):
    """Parallax has the defocus of its middle, but not the half turn: several slices tell."""
    folder = shared_data / "ptycho_thick"
    truth = json.loads((folder / "truth.json").read_text())
    with h5py.File(folder / "data.h5") as file:
        data = file["data"][..., 20:-20, 20:-20]
    cube = DataCube(data).with_calibration(
        R_pixel_size=truth["scan_step_A"], R_pixel_units="A",
        Q_pixel_size=truth["detector_pixel_1_per_A"], Q_pixel_units="A^-1",
        energy_eV=truth["energy_eV"], semiangle_mrad=truth["convergence_semiangle_mrad"],
    )  # fmt: skip
    rotation = math.radians(truth["scan_rotation_deg"])
    unaware = search_optics(cube)
    assert differs(unaware.rotation_rad, rotation) < 0.5
    assert unaware.thickness_A > 0 and "slices" in unaware.notes[-1]
    # As ptychography begins, for the middle of the first of ten slabs.
    calibration, aberrations, notes = Ptychography(slices=10, slice_thickness_A=15.62).calibrated(
        cube, None, None
    )
    assert notes == () and differs(calibration.rotation_rad, rotation) < 0.5
    first = truth["defocus_A"] - truth["slab_thickness_A"] / 2
    assert aberrations.defocus_A == pytest.approx(first, abs=6)


# ---- damaged patterns ----------------------------------------------------------------------------
def spoilt(kind):
    cube, truth = scanned()
    data = np.array(cube.data[...], np.float32)
    mean = float(data[0, 0].sum())
    if kind == "NaN":
        data[4, 7, 3, 5] = np.nan
        data[9, 2] = np.inf
    elif kind == "no dose":
        data[4, 7] = 0
    elif kind == "too bright":
        data[4, 7] *= 20
        data[4, 8, 2, 2] += 1e7  # a single pixel
    else:
        data[4, 7] = np.random.default_rng(3).poisson(mean / data[0, 0].size, (40, 40))
    return DataCube(data).with_calibration(cube.calibration), truth


@pytest.mark.parametrize("method", ["gradient", "epie", "raar"])
@pytest.mark.parametrize("kind", ["NaN", "no dose", "too bright", "another share"])
def test_patterns_that_cannot_be_are_left_out(kind, method):
    cube, truth = spoilt(kind)
    common = {"defocus_A": 80.0, "vacuum": truth.vacuum, "method": method, "iterations": 6}
    result = ptychography(cube, **common)
    assert result.status == "iterations"
    assert len(result.notes) == 1 and kind in result.notes[0] and "(4, 7)" in result.notes[0]
    clean = ptychography(scanned()[0], **common)
    assert result.expected_error == pytest.approx(clean.expected_error, rel=0.02)
    assert np.isnan(result.position_errors[4, 7])
    inner = np.s_[4:-4, 4:-4]
    phases = [np.asarray(r.phase.data)[inner].ravel() for r in (result, clean)]
    assert np.corrcoef(*phases)[0, 1] > 0.97


def test_holes_in_a_thick_specimen_are_no_hot_patterns():
    counts = np.full((12, 14), 100.0)
    counts[3:7, 5:9] = 900.0
    share = np.where(counts > 500, 1.0, 0.4)
    bad, notes = reading._left_out(counts, share * counts)
    assert not bad.any() and notes == ()
    counts[10, 1] = 900.0
    bad, notes = reading._left_out(counts, share * counts)
    assert np.flatnonzero(bad).tolist() == [10 * 14 + 1] and "(10, 1)" in notes[0]


def test_few_counts_are_no_missing_dose():
    counts = np.random.default_rng(1).poisson(1.5, (12, 14)).astype(float)
    assert not reading._left_out(counts, counts * 0.5)[0].any()


def test_too_many_damaged_patterns_are_refused():
    cube, _ = scanned()
    data = np.array(cube.data[...], np.float32)
    data[:5, :, 3, 3] = np.nan
    with pytest.raises(ParameterError, match="75 of 195 patterns hold NaN"):
        ptychography(DataCube(data).with_calibration(cube.calibration), defocus_A=80.0)


# ---- divergence ----------------------------------------------------------------------------------
def test_the_last_step_is_looked_at_too(monkeypatch):
    """An error is that of the state before a step: what the last one makes must not be kept."""
    from py4DSTEM.process.phase.ptychography import engines

    cube, _ = scanned()
    plain = engines.GradientSteps.update

    def broken(self, wave, iteration):
        wave, error = plain(self, wave, iteration)
        if iteration == 3:
            wave.planes.object[0, 0, 5, 5] = np.nan
        return wave, error

    monkeypatch.setattr(engines.GradientSteps, "update", broken)
    result = ptychography(cube, defocus_A=80.0, iterations=4)
    assert result.status == "diverged" and np.isfinite(result.object).all()


# ---- positions -----------------------------------------------------------------------------------
def test_the_rotation_in_a_matrix():
    rng = np.random.default_rng(2)
    at = rng.normal(size=(30, 2))
    c, s = math.cos(0.3), math.sin(0.3)
    matrix = np.array([[c, -s], [s, c]]) @ np.array([[1.1, 0.05], [0.05, 0.9]])
    np.testing.assert_allclose(affine_part(at, at @ matrix.T + 4.0), matrix, atol=1e-12)
    assert turned_by(matrix) == pytest.approx(0.3)


@pytest.mark.parametrize("flip", [False, True])
def test_refined_positions_tell_the_rotation(flip):
    scan = simulate.phase_object(
        (16, 22), (40, 40), Q_pixel_size_A=0.06, defocus_A=80.0, dose=1e6, rotation_rad=0.5,
        flip=flip, seed=4,
    )  # fmt: skip
    cube = scan.cube.with_calibration(scan.truth.calibration).with_calibration(rotation_rad=0.54)
    result = ptychography(
        cube, defocus_A=80.0, iterations=20, refine_positions="affine", positions_every=1,
        positions_from=3, max_move_A=2.0, vacuum=scan.truth.vacuum, probe_step=0.0,
    )  # fmt: skip
    # Object and probe give way as well: two thirds of the way is far in twenty iterations.
    assert 0.495 < result.optics.rotation_rad < 0.525
    assert result.calibration.rotation_rad == result.optics.rotation_rad


# ---- the scan itself -----------------------------------------------------------------------------
def test_scans_that_cannot_be_reconstructed():
    cube, _ = scanned()
    axis = dataclasses.replace(cube.calibration, energy_eV=None)
    with pytest.raises(CalibrationMissing, match="energy"):
        ptychography(Cube(cube.data, axis), defocus_A=80.0, rotation_rad=0.3)
    with pytest.raises(ShapeError, match="two directions"):
        ptychography(DataCube(cube.data[:, :1]).with_calibration(cube.calibration))
    coarse = cube.with_calibration(R_pixel_size=9.0, R_pixel_units="A")
    with pytest.raises(ParameterError, match="overlap"):
        ptychography(coarse, defocus_A=80.0)
    with pytest.raises(ParameterError, match="does not fit into the window"):
        ptychography(cube, defocus_A=2000.0)
    with pytest.raises(ParameterError, match="positions"):
        SearchOptics(positions=2)


def test_no_memory_names_what_fits(monkeypatch):
    cube, _ = scanned()
    monkeypatch.setattr(reading, "available_memory_bytes", lambda: 500_000)
    with pytest.raises(MemoryBudgetError, match=r"of \d+ x \d+ positions fits"):
        ptychography(cube, defocus_A=80.0)
