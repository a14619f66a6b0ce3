"""Rotation and flip against simulated and reference scans whose answer is known."""

from __future__ import annotations

import json
import math
from functools import partial

import h5py
import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import DataCube, RealSlice, measure_rotation, simulate
from py4DSTEM.core.calibration import Measured
from py4DSTEM.errors import ParameterError, ShapeError, SolveError

CASES = [(0.3, False), (-1.0, True), (2.5, True), (-2.9, False)]


def angle_between(a: float, b: float, period: float = 2 * math.pi) -> float:
    return (a - b + period / 2) % period - period / 2


def deflections(rotation: float, flip: bool, seed: int, noise: float, shape=(48, 40)) -> RealSlice:
    """Gradient of random bumps as a detector would see it: turned back, then exchanged."""
    rng = np.random.default_rng(seed)
    x, y = np.indices(shape, dtype=np.float64)
    field = np.zeros((2, *shape))
    for cx, cy in rng.uniform(0, 1, (60, 2)) * shape:
        dx, dy = x - cx, y - cy
        bump = np.exp(-(dx**2 + dy**2) / (2 * 1.8**2))
        field += np.stack([-dx * bump, -dy * bump])
    c, s = math.cos(rotation), math.sin(rotation)
    seen = np.einsum("ij,jxy->ixy", np.array([[c, s], [-s, c]]), field)
    seen = seen[::-1] if flip else seen
    descan = np.stack([30 + 0.02 * x, 31 - 0.03 * y])
    return RealSlice(
        seen + descan + noise * rng.standard_normal(seen.shape), labels=("x", "y"), units="px"
    )


@pytest.mark.parametrize(("rotation", "flip"), CASES)
def test_curl_finds_the_truth_without_noise(rotation: float, flip: bool) -> None:
    scan = simulate.phase_object(
        (24, 24), step_A=0.5, rotation_rad=rotation, flip=flip, dose=None, seed=4
    )
    measured = measure_rotation(scan.cube)
    assert abs(angle_between(measured.rotation_rad, rotation)) < math.radians(0.5)
    assert measured.flip is flip
    assert measured.confidence > 2
    assert measured.residual < 0.2


@pytest.mark.parametrize(("rotation", "flip"), CASES)
def test_shadow_finds_the_truth_with_noise(rotation: float, flip: bool) -> None:
    scan = simulate.phase_object(
        (24, 24), step_A=0.5, rotation_rad=rotation, flip=flip, defocus_A=100, seed=4
    )
    measured = measure_rotation(scan.cube, method="shadow", defocus="under")
    assert abs(angle_between(measured.rotation_rad, rotation)) < math.radians(3)
    assert measured.flip is flip
    assert measured.confidence > 5
    assert measured.half_turn_by == "defocus"
    assert 80 < measured.defocus_A < 110


def test_overfocus_turns_the_shadow_by_half_a_turn() -> None:
    scan = simulate.phase_object((24, 24), step_A=0.5, defocus_A=-100, rotation_rad=0.3, seed=4)
    measured = measure_rotation(scan.cube, method="shadow", defocus="over")
    assert abs(angle_between(measured.rotation_rad, 0.3)) < math.radians(3)
    assert measured.defocus_A < -80


@pytest.mark.parametrize("flip", [False, True])
def test_pulls_of_the_curl_are_honest(flip: bool) -> None:
    pulls = []
    for seed in range(60):
        measured = measure_rotation(deflections(0.7, flip, seed, 0.6))
        assert measured.flip is flip
        pulls.append(angle_between(measured.rotation_rad, 0.7, math.pi) / measured.sigma_rad)
    assert abs(np.mean(pulls)) < 0.4
    assert 0.75 < np.std(pulls) < 1.35


def test_a_given_rotation_chooses_the_half_turn() -> None:
    com = deflections(0.7, False, 3, 0.3)
    near = measure_rotation(com, near_deg=30.0)
    far = measure_rotation(com, near_deg=200.0)
    assert abs(angle_between(near.rotation_rad, 0.7)) < 0.1
    assert abs(angle_between(far.rotation_rad, near.rotation_rad + math.pi)) < 1e-9
    assert near.half_turn_by == "near"


def test_atoms_choose_the_half_turn_of_a_centre_of_mass() -> None:
    measured = measure_rotation(deflections(2.6, True, 5, 0.2))
    assert abs(angle_between(measured.rotation_rad, 2.6)) < 0.1
    assert measured.half_turn_by == "skewness"
    assert measured.half_turn_z > 2


def test_a_given_flip_is_kept() -> None:
    measured = measure_rotation(deflections(0.7, False, 3, 0.3), flip=True)
    assert measured.flip is True
    assert measured.confidence < 1


def test_the_curve_has_its_minimum_at_the_answer() -> None:
    measured = measure_rotation(deflections(0.7, True, 3, 0.3))
    curve = measured.curve
    row = curve["curl_rms"][1]
    assert abs(curve["angles_rad"][row.argmin()] - 0.7) < math.radians(3)
    np.testing.assert_allclose(curve["curl_rms"] ** 2 + curve["div_rms"] ** 2, 1, atol=1e-12)
    assert row.min() < curve["curl_rms"][0].min()


def test_oblong_scan_steps_are_respected() -> None:
    com = deflections(0.7, False, 3, 0.0)
    squeezed = RealSlice(com.data[:, :, ::2], labels=("x", "y"), units="px")
    calibration = squeezed.calibration.replace(R_pixel_size=(1.0, 2.0), R_pixel_units="A")
    squeezed = RealSlice(squeezed.data, calibration, labels=("x", "y"), units="px")
    measured = measure_rotation(squeezed)
    assert abs(angle_between(measured.rotation_rad, 0.7, math.pi)) < math.radians(1)


def test_it_goes_into_the_calibration_and_into_a_file(tmp_path) -> None:
    measured = measure_rotation(deflections(0.7, True, 3, 0.3))
    assert isinstance(measured, Measured)
    cube = DataCube(np.ones((2, 2, 4, 4), np.uint16)).with_calibration(measured)
    assert cube.calibration.rotation_rad == measured.rotation_rad
    assert cube.calibration.flip is True
    py4DSTEM.save(tmp_path / "r.h5", measured)
    again = py4DSTEM.read(tmp_path / "r.h5")
    assert again.text() == measured.text()
    np.testing.assert_array_equal(again.curve["curl_rms"], measured.curve["curl_rms"])
    assert again.history.steps[-1].kind == "measure-rotation"


def test_unknown_positions_are_left_out() -> None:
    com = deflections(0.7, False, 3, 0.1)
    com.data[:, ::7, ::5] = np.nan
    assert abs(angle_between(measure_rotation(com).rotation_rad, 0.7, math.pi)) < 0.1


def still(value: float) -> RealSlice:
    return RealSlice(np.full((2, 8, 8), value), labels=("x", "y"))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: measure_rotation(still(3.0)), ParameterError, "same at all positions"),
        (lambda: measure_rotation(still(np.nan)), ParameterError, "0 of 64"),
        (lambda: measure_rotation(RealSlice(np.ones((8, 8)))), ShapeError, "'x' and 'y'"),
        (
            lambda: measure_rotation(RealSlice(np.ones((2, 3, 8)), labels=("x", "y"))),
            ShapeError,
            "too small",
        ),
        (lambda: measure_rotation(still(1.0), method="shadow"), ParameterError, "DataCube"),
    ],
)
def test_bad_input_is_refused(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call()


def test_images_that_do_not_move_like_a_defocus_are_refused() -> None:
    scan = simulate.phase_object((16, 16), step_A=0.5, strength=0.0, seed=1)
    with pytest.raises(SolveError, match="displaced"):
        measure_rotation(scan.cube, method="shadow")


# ---- reference data ------------------------------------------------------------------------------
def reference(folder, name: str) -> tuple[DataCube, dict]:
    truth = json.loads((folder / name / "truth.json").read_text())
    with h5py.File(folder / name / "data.h5") as file:
        cube = DataCube(file["data"][:])
    calibrate = partial(cube.with_calibration, R_pixel_units="A", Q_pixel_units="A^-1")
    return calibrate(
        R_pixel_size=truth["scan_step_A"],
        Q_pixel_size=truth["detector_pixel_1_per_A"],
        energy_eV=truth["energy_eV"],
    ), truth


@pytest.mark.parametrize("name", ["dpc_parallax", "ptycho_thin", "ptycho_thick"])
def test_curl_on_reference_data(shared_data, name: str) -> None:
    cube, truth = reference(shared_data, name)
    expected = math.radians(truth["scan_rotation_deg"])
    measured = measure_rotation(cube, near_deg=truth["scan_rotation_deg"])
    # The optical frame exchanges x and y, which changes the sign of a rotation; from lab to scan
    # instead of from scan to lab changes it back.
    error = angle_between(measured.rotation_rad, expected)
    assert measured.flip is truth["detector_transpose"]
    assert abs(error) < 2.5 * measured.sigma_rad
    assert measured.sigma_rad < math.radians(2)
    assert measured.confidence > 1.2


def test_shadow_on_reference_data(shared_data) -> None:
    cube, truth = reference(shared_data, "dpc_parallax")
    measured = measure_rotation(cube, method="shadow")
    error = angle_between(measured.rotation_rad, math.radians(truth["scan_rotation_deg"]))
    assert measured.flip is True
    assert abs(error) < math.radians(0.3)
    assert measured.half_turn_by == "deflection"
    middle = truth["defocus_A"] - truth["total_thickness_A"] / 2
    assert abs(measured.defocus_A - middle) < 0.02 * middle
