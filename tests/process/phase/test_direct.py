"""Direct ptychography against simulations, closed forms, and its own linearity."""

from __future__ import annotations

import json
from functools import cache

import h5py
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

import py4DSTEM
from py4DSTEM import Calibration, DataCube, RunOptions, simulate
from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.errors import (
    CalibrationMissing,
    MemoryBudgetError,
    ParameterError,
    ShapeError,
    SolveError,
)
from py4DSTEM.process.phase import direct_sums
from py4DSTEM.process.phase.compare import agreement
from py4DSTEM.process.phase.direct_stack import BrightStack

STEP = 0.5
LENS = {"defocus": 100.0}


@cache
def scan(dose=None, flip=False, rotation=0.3, strength=0.2, shape=(40, 36)):
    return simulate.phase_object(
        shape, step_A=STEP, strength=strength, dose=dose, rotation_rad=rotation, flip=flip
    )


def known(simulated):
    return simulated.cube.with_calibration(simulated.truth.calibration)


def true_phase(truth):
    x, y = np.moveaxis(truth.positions_A / truth.sampling_A, -1, 0)
    return map_coordinates(truth.phase, [x, y], order=5, mode="wrap")


def judged(phase, truth, step_A=STEP, resolution_A=1.2):
    mask = np.zeros(truth.shape, bool)
    mask[4:-4, 4:-4] = True
    return agreement(phase, truth, step_A, mask=mask, resolution_A=resolution_A, max_shift_A=0)


# ---- truth ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("method", "correlation", "scale"), [("ssb", 0.999, 0.02), ("wdd", 0.995, 0.05)]
)
def test_phase_of_a_weak_object_is_right_in_rad(method, correlation, scale, flip):
    simulated = scan(flip=flip, rotation=-2.0 if flip else 0.3)
    found = known(simulated).direct_ptychography(method=method, aberrations=LENS)
    seen = judged(found.phase.data, true_phase(simulated.truth))
    assert seen.correlation > correlation
    assert seen.scale == pytest.approx(1, abs=scale)
    assert found.amplitude.data == pytest.approx(1, abs=0.02)
    assert found.phase.units == "rad" and found.flip == flip


def test_optimum_bright_field_is_best_of_few_counts():
    simulated = scan(dose=1500, strength=1.0)
    truth = true_phase(simulated.truth)
    seen = {
        method: judged(
            known(simulated).direct_ptychography(method=method, aberrations=LENS).phase.data, truth
        ).correlation
        for method in ("ssb", "obf", "wdd")
    }
    assert seen["obf"] == max(seen.values()) > seen["ssb"] + 0.02


def test_optimum_bright_field_that_is_raised_is_right_in_rad():
    simulated = scan()
    found = known(simulated).direct_ptychography(method="obf", aberrations=LENS, epsilon=0.003)
    seen = judged(found.phase.data, true_phase(simulated.truth))
    assert seen.correlation > 0.998 and seen.scale == pytest.approx(1, abs=0.03)


def test_wrong_aberrations_are_worse():
    simulated, truth = scan(), true_phase(scan().truth)
    cube = known(simulated)
    right = judged(cube.ssb(aberrations=LENS).phase.data, truth).rms_error_rad
    for wrong in ({"defocus": -100.0}, None, {**LENS, "C12": 60.0}):
        assert judged(cube.ssb(aberrations=wrong).phase.data, truth).rms_error_rad > 3 * right


def test_an_absorbing_object_has_an_amplitude_and_no_phase():
    """One cosine that takes away intensity: closed form of three beams."""
    size, optics = 48, scan().truth.calibration
    k = np.fft.fftfreq(size, 1 / (size * 0.0375))
    probe = np.clip((13.0 * 0.0375 - np.hypot(k[:, None], k)) / 0.0375 + 0.5, 0, 1) ** 0.5
    probe /= np.linalg.norm(probe)
    period = 6  # pixels of k, along x
    below, above = (np.roll(probe, n * period, axis=0) for n in (1, -1))
    x = np.arange(24) / 24
    frames = np.empty((24, 12, size, size))
    for i, turn in enumerate(np.exp(2j * np.pi * 2 * x)):
        wave = probe - 0.01 * (np.conj(turn) * below + turn * above)
        frames[i] = np.fft.fftshift(np.abs(wave) ** 2)
    step = 2 / (24 * period * 0.0375)
    calibration = optics.replace(
        R_pixel_size=step, origin_px=(24, 24), probe_radius_px=13.0, rotation_rad=0.0
    )
    found = DataCube(frames, calibration).ssb(aberrations=None, epsilon=1e-6)
    expected = 1 - 0.02 * np.cos(2 * np.pi * 2 * x)
    np.testing.assert_allclose(found.amplitude.data[:, 3], expected, atol=6e-4)
    assert np.abs(found.phase.data).max() < 1e-4


# ---- aberrations ---------------------------------------------------------------------------------
@pytest.mark.parametrize(("flip", "rotation"), [(False, 0.3), (True, -2.0)])
def test_aberrations_and_rotation_from_nothing(flip, rotation):
    simulated = scan(flip=flip, rotation=rotation)
    found = simulated.cube.ssb()
    assert found.aberrations.defocus_A == pytest.approx(100, rel=0.01)
    assert np.rad2deg(found.rotation_rad - rotation) == pytest.approx(0, abs=0.2)
    assert found.flip == flip
    assert judged(found.phase.data, true_phase(simulated.truth)).correlation > 0.998


def test_astigmatism_and_coma_are_found():
    lens = Aberrations({"C10": -60.0, "C12": 40.0, "phi12": 0.5, "C21": 900.0, "phi21": -1.0})
    simulated = simulate.phase_object(
        (40, 36), step_A=STEP, aberrations=lens, dose=None, strength=0.5
    )
    cube = known(simulated)
    found = cube.ssb(rotation_rad=0.3)
    fitted, true = found.aberrations.cartesian, lens.cartesian
    for part in (("C10", "a"), ("C12", "a"), ("C12", "b")):
        assert fitted[part] == pytest.approx(true[part], abs=2)
    for part in (("C21", "a"), ("C21", "b")):
        assert fitted[part] == pytest.approx(true[part], abs=100)
    assert "rotation" not in found.sigmas and found.sigmas["C12a"] > 0
    seen, least = (
        judged(r.phase.data, true_phase(simulated.truth)).correlation
        for r in (found, cube.ssb(aberrations={"C10": -60.0}))
    )
    assert seen > 0.995 > least


def test_uncertainties_are_of_the_size_of_the_errors():
    errors, sigmas = [], []
    for seed in range(5):
        simulated = simulate.phase_object((28, 26), step_A=STEP, dose=20_000, seed=seed)
        found = known(simulated).ssb(rotation_rad=0.3)
        errors.append(found.aberrations.defocus_A - 100)
        sigmas.append(found.sigmas["C10"])
    assert 0.2 < np.sqrt(np.mean(np.square(errors))) / np.mean(sigmas) < 3


def test_pure_noise_has_no_aberrations():
    counts = np.random.default_rng(0).poisson(3.0, (16, 18, 64, 64)).astype(np.uint16)
    with pytest.raises(SolveError, match="give aberrations="):
        DataCube(counts, scan().truth.calibration).ssb()


# ---- reference data ------------------------------------------------------------------------------
def test_mos2_with_defects(shared_data):
    folder = shared_data / "ptycho_thin"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    facts = json.loads((folder / "truth.json").read_text())
    arrays = np.load(folder / "truth.npz")
    with h5py.File(folder / "data.h5") as file:
        data = file["data"][:]
    calibration = Calibration().replace(
        R_pixel_size=0.6, R_pixel_units="A", Q_pixel_size=facts["detector_pixel_1_per_A"],
        Q_pixel_units="A^-1", energy_eV=80e3, semiangle_mrad=21.4,
    )  # fmt: skip
    found = DataCube(data, calibration).ssb()
    assert np.rad2deg(found.rotation_rad) == pytest.approx(23, abs=0.5) and not found.flip
    # Of the middle of the sheet; 120 Å are to its entrance surface.
    middle = facts["defocus_A"] - facts["thickness_A"] / 2
    assert found.aberrations.defocus_A == pytest.approx(middle, rel=0.03)
    y, x = np.moveaxis(arrays["positions_xy_A"] / facts["phase_pixel_A"], -1, 0)
    truth = map_coordinates(arrays["phase"], [x, y], order=3, mode="wrap")
    seen = judged(found.phase.data, truth, 0.6, 1.5)
    assert seen.correlation > 0.91 and 0.6 < seen.scale < 1


# ---- one linear step -----------------------------------------------------------------------------
def test_the_linear_step_and_its_adjoint():
    """⟨A x, y⟩ = ⟨x, A* y⟩ of the sums over pixels, with the transpose by single pixels."""
    cube = known(scan(shape=(8, 10)))
    stack = BrightStack.of(cube, None, None)
    rng = np.random.default_rng(0)
    few = stack.chosen(np.arange(0, len(stack.index), 40))
    x = rng.normal(size=few.images.shape).astype(np.float32)
    ones, lens = np.ones(len(few.index)), Aberrations(LENS)

    def sums(images):
        with_images = BrightStack(**{**vars(few), "images": images.astype(np.float32)})
        return direct_sums.overlaps(with_images, few.optics, lens, ones, both=True).sums[0]

    y = rng.normal(size=(8, 6)) + 1j * rng.normal(size=(8, 6))
    left = np.vdot(sums(x), y)
    gradient = np.zeros(x.shape, complex)
    for n in range(0, len(x), 3):
        for at in ((0, 0), (3, 7)):
            unit = np.zeros(x.shape)
            unit[n, at[0], at[1]] = 1
            gradient[n][at] = np.vdot(sums(unit), y)
    kept = gradient != 0
    masked = np.vdot(sums(np.where(kept, x, 0)), y)
    assert masked == pytest.approx((x * gradient)[kept].sum(), rel=1e-4)
    assert abs(left) > 0


@pytest.mark.parametrize("method", ["ssb", "obf"])
def test_blocks_and_workers_do_not_matter(method):
    cube = known(scan(dose=3000, strength=1.0, shape=(16, 18)))
    one, two, small = (
        cube.direct_ptychography(method=method, aberrations=LENS, options=options).phase.data
        for options in (
            RunOptions(workers=1), RunOptions(workers=2), RunOptions(memory="400 kB"),
        )
    )  # fmt: skip
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(small, one, atol=1e-5)


def test_wigner_deconvolution_says_what_memory_it_needs():
    cube = known(scan(dose=3000, strength=1.0, shape=(16, 18)))
    with pytest.raises(MemoryBudgetError, match="bin the detector"):
        cube.direct_ptychography(
            method="wdd", aberrations=LENS, options=RunOptions(memory="400 kB")
        )


def test_descan_in_whole_pixels_is_followed():
    simulated = scan(shape=(12, 14))
    cube = known(simulated)
    origin = np.full((12, 14, 2), 32.0)
    moved = np.asarray(cube.data).copy()
    for i in range(12):  # the mean of the shifts is whole
        moved[i] = np.roll(moved[i], (i % 3 - 1, 1), axis=(1, 2))
        origin[i] += (i % 3 - 1, 1)
    found = DataCube(moved, cube.calibration.replace(origin_px=origin)).ssb(aberrations=LENS)
    still = cube.ssb(aberrations=LENS)
    np.testing.assert_allclose(found.phase.data, still.phase.data, atol=1e-5)


def test_an_ellipse_and_pixels_that_are_not_square():
    simulated = scan()
    cube = known(simulated)
    binned = np.asarray(cube.data).reshape(40, 36, 32, 2, 64).sum(axis=3)
    calibration = cube.calibration.replace(
        Q_pixel_size=(0.075, 0.0375), origin_px=(15.75, 32.0), probe_radius_px=12.77 / 2**0.5
    )
    found = DataCube(binned, calibration).ssb(aberrations=LENS)
    assert judged(found.phase.data, true_phase(simulated.truth)).correlation > 0.99


# ---- results -------------------------------------------------------------------------------------
def test_result_is_kept_with_a_file(tmp_path):
    found = known(scan(shape=(12, 14))).ssb(aberrations={**LENS, "C12": 5.0, "phi12": 0.2})
    py4DSTEM.save(tmp_path / "ssb.h5", found)
    again = py4DSTEM.read(tmp_path / "ssb.h5")
    np.testing.assert_array_equal(again.phase.data, found.phase.data)
    assert again.aberrations == found.aberrations and again.flip == found.flip
    assert again.history.steps[-1].parameters["aberrations"]["C12"] == 5.0
    assert again.transmission.shape == (12, 14)
    assert "defocus" not in repr(again.sigmas) and "C10" in again.text()


def test_rotation_goes_into_a_calibration():
    found = known(scan(shape=(12, 14))).ssb(aberrations=LENS, rotation_rad=0.25)
    kept = Calibration().replace(**found.calibration_changes())
    assert kept.rotation_rad == 0.25 and kept.flip is False


# ---- bad input -----------------------------------------------------------------------------------
def test_bad_input_is_refused():
    cube = known(scan(shape=(12, 14)))
    data, good = np.asarray(cube.data), cube.calibration
    with pytest.raises(ShapeError, match="spatial frequencies"):
        DataCube(data[:1], good).ssb(aberrations=LENS)
    bare = Calibration().replace(
        R_pixel_size=STEP, R_pixel_units="A", Q_pixel_size=0.0375, Q_pixel_units="A^-1",
        probe_radius_px=12.8,
    )  # fmt: skip
    with pytest.raises(CalibrationMissing, match="energy"):
        DataCube(data, bare).ssb(aberrations=LENS)
    with pytest.raises(ParameterError, match="beyond the detector"):
        DataCube(data, good.replace(probe_radius_px=33.0)).ssb(aberrations=LENS)
    with pytest.raises(ParameterError, match="too few pixels"):
        DataCube(data, good.replace(probe_radius_px=1.5)).ssb(aberrations=LENS)
    with pytest.raises(ParameterError, match="too coarse"):
        DataCube(data, good.replace(R_pixel_size=50.0)).ssb(aberrations=LENS)
    with pytest.raises(ParameterError, match="no counts"):
        DataCube(np.zeros_like(data), good).ssb(aberrations=LENS)
    with pytest.raises(ParameterError, match="no aberration"):
        cube.ssb(aberrations={"C11": 3.0})
    with pytest.raises(ParameterError, match="method"):
        cube.direct_ptychography(method="best")
    with pytest.raises(ParameterError, match="epsilon"):
        cube.ssb(epsilon=0.0)


def test_patterns_that_are_not_finite_count_as_the_mean_or_are_refused():
    simulated = scan()
    cube, truth = known(simulated), true_phase(scan().truth)
    data = np.array(cube.data)
    data[5, 7], data[20, 3, 30, 30] = np.nan, np.inf
    found = DataCube(data, cube.calibration).ssb(aberrations=LENS)
    assert np.isfinite(found.phase.data).all()
    assert judged(found.phase.data, truth).correlation > 0.98
    data[:20] = np.nan
    with pytest.raises(ParameterError, match="not finite"):
        DataCube(data, cube.calibration).ssb(aberrations=LENS)
