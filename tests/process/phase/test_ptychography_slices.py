"""Tilt and thickness of thick objects, the pace of steps, the phase of the probe."""

from functools import cache

import numpy as np
import pytest

from py4DSTEM import ParameterError, ptychography, simulate
from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.process.phase.compare import agreement, on_grid
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.ptychography.judge import model_intensities
from py4DSTEM.process.phase.ptychography.pace import Pace, moved
from py4DSTEM.process.phase.ptychography.refine import fit_aberrations, with_smooth_phase
from py4DSTEM.process.phase.ptychography.refine_tilt import sheared, slope_of_columns
from py4DSTEM.process.phase.ptychography.search_thickness import search_thickness

TILT = (6e-3, -4e-3)


@cache
def crystal(tilt=TILT):
    scan = simulate.thick_object(
        (13, 14), (48, 48), thickness_A=78.1, tilt_rad=tilt, rotation_rad=0.5, flip=True, dose=1e5,
        seed=2, Q_pixel_size_A=0.08, defocus_A=40.0,
    )  # fmt: skip
    return scan.cube.with_calibration(scan.truth.calibration), scan.truth


def solve(iterations, **more):
    known = {"slices": 5, "slice_thickness_A": 15.62, "defocus_A": 32.0, "batch": 13}
    cube, _ = crystal()
    return ptychography(cube, iterations=iterations, object_type="pure phase", **known, **more)


# ---- tilt ----------------------------------------------------------------------------------------
def test_the_tilt_of_columns_is_found_in_scan_axes():
    result = solve(16, refine_tilt=True)
    np.testing.assert_allclose(result.tilt_rad, TILT, atol=8e-4)
    assert all(0 < sigma < 8e-4 for sigma in result.tilt_sigma_rad)
    assert "tilted by (6" in result.text()


def test_identical_slices_tell_the_tilt_to_the_patterns_alone():
    result = solve(18, refine_tilt=True, identical_slices=True, tilt_from=5)
    np.testing.assert_allclose(result.tilt_rad, TILT, atol=8e-4)
    upright = solve(18, identical_slices=True)
    assert result.errors[-1] < 0.95 * upright.errors[-1]


def test_a_known_tilt_is_in_the_model_and_goes_on():
    result = solve(10, tilt_rad=TILT)
    assert result.tilt_rad == pytest.approx(TILT) and result.tilt_sigma_rad == (0.0, 0.0)
    model = np.fft.fftshift(model_intensities(result, np.array([80])), axes=(1, 2))
    measured = np.asarray(crystal()[0].data, np.float64).reshape(-1, 48, 48)[[80]]
    assert np.abs(model - measured).sum() < 0.15 * measured.sum()
    more = ptychography(
        crystal()[0], start=result, slices=5, iterations=1, batch=13, object_type="pure phase"
    )
    assert more.tilt_rad == pytest.approx(TILT)
    assert more.slice_thickness_A == pytest.approx(15.62)
    assert more.errors[-1] < 1.3 * result.errors[-1]


def test_one_slice_has_no_tilt():
    with pytest.raises(ParameterError, match="several slices"):
        ptychography(crystal()[0], defocus_A=32.0, refine_tilt=True)


def test_slopes_of_columns_are_measured():
    x, y = np.indices((40, 44))
    phase = 0.3 * np.sin(x / 2.1) * np.cos(y / 1.7) + 0.1 * np.sin(0.11 * x * y)
    slices = np.exp(1j * np.broadcast_to(phase, (4, 40, 44))).astype(np.complex64)
    slope, _ = slope_of_columns(sheared(slices, np.array([0.3, -0.2])), slice_mask())
    np.testing.assert_allclose(slope, (0.3, -0.2), atol=0.01)


def slice_mask():
    seen = np.zeros((40, 44), bool)
    seen[5:35, 6:38] = True
    return seen


def test_simulated_columns_are_tilted():
    upright, tilted = (
        simulate.thick_object(
            (2, 3), (32, 32), thickness_A=31.24, Q_pixel_size_A=0.12, tilt_rad=t, dose=None
        ).truth
        for t in ((0.0, 0.0), (0.01, -0.02))
    )
    away = tilted.atoms_A - upright.atoms_A
    expected = upright.atoms_A[:, 2:] * (0.01, -0.02, 0.0)
    np.testing.assert_allclose(away, expected, atol=1e-9)
    assert tilted.tilt_rad == (0.01, -0.02)
    with pytest.raises(ParameterError, match="tilt_rad"):
        simulate.thick_object((2, 2), tilt_rad=(np.nan, 0.0))


# ---- thickness -----------------------------------------------------------------------------------
def test_the_thickness_of_a_crystal_by_trial():
    cube, truth = crystal((0.0, 0.0))
    found = search_thickness(
        cube, (56.0, 104.0), slices=5, defocus_A=40.0, batch=13, iterations=14,
        object_type="pure phase",
    )  # fmt: skip
    assert found.thickness_A == pytest.approx(truth.thickness_A, rel=0.05)
    assert found.slice_thickness_A == pytest.approx(found.thickness_A / 5)
    assert 0 < found.sigma_A < 3 and "Å, of 7 trials" in repr(found)


def test_searches_of_thickness_that_cannot_be():
    cube, _ = crystal((0.0, 0.0))
    with pytest.raises(ParameterError, match="two slices"):
        search_thickness(cube, (50.0, 90.0), slices=1, defocus_A=40.0)
    with pytest.raises(ParameterError, match="range"):
        search_thickness(cube, (90.0, 50.0), slices=3, defocus_A=40.0)
    with pytest.raises(ParameterError, match="end of what was tried"):
        search_thickness(
            cube, (90.0, 130.0), slices=5, defocus_A=40.0, batch=13, iterations=8,
            object_type="pure phase",
        )  # fmt: skip


# ---- pace ----------------------------------------------------------------------------------------
def test_steps_shrink_where_noise_turns_them_back():
    scan = simulate.phase_object(
        (20, 21), (40, 40), Q_pixel_size_A=0.06, step_A=0.5, semiangle_mrad=20.0, defocus_A=80.0,
        dose=1500, seed=1,
    )  # fmt: skip
    cube = scan.cube.with_calibration(scan.truth.calibration)
    constant, shrinking = (
        ptychography(cube, defocus_A=80.0, iterations=15, batch=8, shrink=s) for s in (1.0, 0.5)
    )
    one, other = (judged(result, scan.truth) for result in (constant, shrinking))
    assert other > one + 0.02


def judged(result, truth):
    step = min(result.sampling_A)
    extent = (np.array(truth.positions_A.shape[:2]) - 1) * np.array(result.optics.R_steps_A)
    origin = tuple(truth.positions_A.reshape(-1, 2).mean(axis=0) - extent / 2)
    known = on_grid(
        truth.phase, truth.sampling_A, result.phase.data.shape, grid_A=step, origin_A=origin
    )
    return agreement(result.phase.data, known, step, max_shift_A=1.0).correlation


def test_a_pace_knows_noise_from_a_long_step():
    first, back = np.array([1.0, 0.0]), np.array([-0.5, 0.5])
    pace = Pace().after(first, 10.0, 0.5)
    assert pace.after(back, 9.9, 0.5).share == 0.5
    assert pace.after(back, 5.0, 0.5).share == 1.0  # still gaining: it only went too far
    assert pace.after(0.9 * first, 9.9, 0.5).share == 1.0
    assert Pace(share=1 / 32, move=first, error=1.0).after(back, 1.0, 0.5).share == 1 / 32


def test_factors_between_object_and_probe_are_no_moves():
    rng = np.random.default_rng(1)
    waves = rng.normal(size=(2, 2, 5, 6))
    turned = np.stack([waves[:, 0] - 0.2 * waves[:, 1], waves[:, 1] + 0.2 * waves[:, 0]], axis=1)
    np.testing.assert_allclose(moved(waves, turned), 0, atol=1e-12)
    change = rng.normal(size=waves.shape)
    assert np.abs(moved(waves, waves + change)).max() > 0.5


# ---- phase of the probe --------------------------------------------------------------------------
def test_the_phase_of_the_probe_is_one_of_aberrations():
    true = Aberrations({"C10": -95.0, "C12": 12.0, "phi12": 0.4, "C30": 4e4})
    optics = Optics((48, 52), (0.03, 0.031), 80e3, 21.0, (1.0, 1.0))
    spectrum = np.fft.fft2(optics.probe(true))
    noise = np.random.default_rng(3).normal(0, 0.2, spectrum.shape)
    probe = np.fft.fftshift(np.fft.ifft2(spectrum * np.exp(1j * noise))).astype(np.complex64)
    rough = fit_aberrations(probe, optics, true)[1]
    smooth = with_smooth_phase(probe, optics, 1.0)
    found, left = fit_aberrations(smooth, optics, true)
    assert left < 1e-4 and 0.1 < rough < 0.3
    assert found.C("C10") == pytest.approx(-95, abs=3)
    modulus = [np.abs(np.fft.fft2(wave)) for wave in (smooth, probe)]
    np.testing.assert_allclose(*modulus, atol=1e-4)
    half = fit_aberrations(with_smooth_phase(probe, optics, 0.5), optics, true)[1]
    assert half == pytest.approx(rough / 2, rel=0.05)


def test_the_probe_of_a_reconstruction_has_a_smooth_phase():
    cube, _ = crystal()
    result = ptychography(cube, defocus_A=40.0, iterations=3, smooth_probe_phase=1.0, modes=2)
    _, left = fit_aberrations(result.probe[0], result.optics, result.aberrations)
    assert left < 0.01 and len(result.probe) == 2
