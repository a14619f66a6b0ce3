"""Differential phase contrast where phase, field and charge are known."""

import json
import math

import h5py
import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import (
    Calibration,
    CalibrationMissing,
    DataCube,
    ParameterError,
    RealSlice,
    charge_density,
    dpc,
    electric_field,
    magnetic_induction,
    simulate,
)
from py4DSTEM.units import interaction_constant_rad_per_VA

ENERGY = 200e3
SIGMA = interaction_constant_rad_per_VA(ENERGY)
EPSILON = 8.8541878128e-12 / 1.602176634e-19 * 1e-10  # e / (V Å)
STEPS = (0.5, 0.8)
PIXELS = (0.02, 0.03)


def gaussian(shape=(36, 25), height=40.0, width=2.5):
    """A potential (V Å), its gradient (V) and −ε0 Δ of it (e/Å²)."""
    centre = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    x, y = ((n - c) * s for n, c, s in zip(np.indices(shape), centre, STEPS, strict=True))
    value = height * np.exp(-(x**2 + y**2) / (2 * width**2))
    gradient = np.stack([-x, -y]) * value / width**2
    charge = EPSILON * value * (2 - (x**2 + y**2) / width**2) / width**2
    return value, gradient, charge


def seen(gradient_V, rotation_rad=0.4, flip=True, origin=(30.0, 20.0), descan=0.0):
    """Centre of mass on a detector that is flipped, turned, off centre, with oblong pixels."""
    k = SIGMA * gradient_V / (2 * np.pi)
    c, s = math.cos(rotation_rad), math.sin(rotation_rad)
    back = np.einsum("ab,bxy->axy", np.array([[c, s], [-s, c]]), k)
    back = back[::-1] if flip else back
    x, y = np.indices(gradient_V.shape[1:])
    drift = descan * np.stack([x + 2 * y, y - 0.5 * x])
    com = np.stack([b / p + o for b, p, o in zip(back, PIXELS, origin, strict=True)]) + drift
    known = Calibration().replace(
        R_pixel_size=STEPS, R_pixel_units="A", Q_pixel_size=PIXELS, Q_pixel_units="A^-1",
        energy_eV=ENERGY,
    )  # fmt: skip
    return RealSlice(com, known, labels=("x", "y"), units="px")


# ---- closed forms --------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["least-squares", "frankot-chellappa", "iterative"])
@pytest.mark.parametrize("flip", [False, True])
def test_a_gaussian_potential(method, flip):
    value, gradient, charge = gaussian()
    com = seen(gradient, flip=flip).with_calibration(origin_px=(30.0, 20.0))
    found = dpc(com, method=method, rotation_rad=0.4, flip=flip, descan="none")
    potential = found.projected_potential
    error = potential.data - value
    assert potential.units == "V A" and found.phase.units == "rad"
    assert np.abs(error - error.mean()).max() < 0.005 * value.max()
    np.testing.assert_allclose(found.field.data, -gradient, atol=1e-9)
    assert found.field.units == "V" and found.charge_density.units == "e/A^2"
    inner = (slice(2, -2), slice(2, -2))
    off = np.abs(found.charge_density.data - charge)[inner]
    assert off.max() < 0.01 * charge.max()
    assert found.residual_share < 0.02 and found.converged


def test_the_charge_of_a_gaussian_is_that_of_its_centre():
    """∫ρ over the plane is zero; at the centre it is 2 ε0 V0 / s²."""
    _, gradient, _ = gaussian((61, 41))
    com = seen(gradient).with_calibration(origin_px=(30.0, 20.0))
    found = dpc(com, rotation_rad=0.4, flip=True, descan="none")
    charge = found.charge_density.data
    assert charge[30, 20] == pytest.approx(2 * EPSILON * 40 / 2.5**2, rel=0.005)
    assert abs(charge.sum()) < 1e-3 * np.abs(charge).sum()
    smoothed = charge_density(found.deflection, smooth_A=2.0).data
    # Gaussian of variance s² + 4: V0 s² / (s² + 4) high
    wide = 2.5**2 + 4
    assert smoothed[30, 20] == pytest.approx(2 * EPSILON * 40 * 2.5**2 / wide**2, rel=0.01)


def test_lorentz_force():
    """−e v × B, v along −z where x points down, y to the right and z out of the image."""
    B = np.array([0.3, -0.8, 0.0])
    planck, charge, thickness = 6.62607015e-34, 1.602176634e-19, 50e-9
    momentum = -charge * np.cross([0, 0, -1], B) * thickness  # force times thickness over speed
    k = momentum[:2] / planck * 1e-10
    deflection = RealSlice(k[:, None, None], labels=("x", "y"), units="A^-1")
    found = magnetic_induction(deflection)
    assert found.units == "T nm"
    np.testing.assert_allclose(found.data.ravel(), B[:2] * 50, rtol=1e-12)


def test_electrons_run_to_positive_charge():
    """Above a nucleus (smaller x) they are deflected down, against the field."""
    _, gradient, _ = gaussian()
    known = Calibration().replace(energy_eV=ENERGY)
    k = RealSlice(SIGMA * gradient / (2 * np.pi), known, labels=("x", "y"), units="A^-1")
    assert k.data[0, 10, 12] > 0 > electric_field(k).data[0, 10, 12]


# ---- descan and rotation -------------------------------------------------------------------------
def test_descan_is_removed():
    _, gradient, _ = gaussian()
    still = dpc(seen(gradient), rotation_rad=0.4, flip=True)
    moved = dpc(seen(gradient, descan=0.07), rotation_rad=0.4, flip=True)
    np.testing.assert_allclose(moved.phase.data, still.phase.data, atol=1e-10)
    kept = dpc(seen(gradient, descan=0.07), rotation_rad=0.4, flip=True, descan="constant")
    assert np.std(kept.phase.data - still.phase.data) > np.std(still.phase.data)


def test_a_ramp_is_kept_where_asked():
    gradient = np.zeros((2, 8, 9)) + np.array([2.0, -1.0])[:, None, None]
    com = seen(gradient).with_calibration(origin_px=(30.0, 20.0), rotation_rad=0.4, flip=True)
    ramp = dpc(com, descan="none")
    x, y = np.indices((8, 9))
    truth = SIGMA * (2 * STEPS[0] * x - STEPS[1] * y)
    np.testing.assert_allclose(ramp.phase.data, truth - truth.mean(), atol=1e-12)
    assert ramp.rotation_by == "calibration" and ramp.rotation_sigma_rad == 0
    assert np.abs(dpc(com).phase.data).max() < 1e-12


@pytest.mark.parametrize(("rotation_rad", "flip"), [(0.4, True), (-2.0, False)])
def test_rotation_from_the_centres_alone(rotation_rad, flip):
    rng = np.random.default_rng(3)
    gradient = sum(np.roll(gaussian()[1], shift, (1, 2)) for shift in rng.integers(-9, 9, (8, 2)))
    com = seen(gradient, rotation_rad, flip)
    found = dpc(com, near_deg=math.degrees(rotation_rad))
    assert found.rotation_by == "curl" and found.flip is flip and found.flip_confidence > 2
    assert abs(found.rotation_rad - rotation_rad) < math.radians(1)
    assert found.rotation_sigma_rad > 0
    assert found.calibration_changes() == {"rotation_rad": found.rotation_rad, "flip": flip}
    assert "the other flip leaves" in found.text()


def test_a_thin_specimen_of_any_strength():
    """The phase is that of the specimen, averaged over the probe, whatever the rotation."""
    scan = simulate.phase_object(
        (26, 30), step_A=0.35, rotation_rad=-0.7, flip=True, defocus_A=40.0, dose=None, seed=2
    )
    truth = scan.truth
    found = dpc(scan.cube)
    assert found.rotation_by == "symmetry" and found.flip is True
    assert abs(found.rotation_rad + 0.7) < math.radians(1)
    there = _averaged(truth)
    exact = dpc(scan.cube.with_calibration(truth.calibration))
    assert np.corrcoef(exact.phase.data.ravel(), there.ravel())[0, 1] > 0.97
    slope = np.polyfit(there.ravel(), exact.phase.data.ravel(), 1)[0]
    assert abs(slope - 1) < 0.1
    assert np.corrcoef(found.phase.data.ravel(), there.ravel())[0, 1] > 0.95


def _averaged(truth):
    """Phase of the specimen averaged over the (round) probe, at the positions."""
    from scipy.ndimage import map_coordinates

    size = truth.phase.shape
    weight = np.zeros(size)
    probe = np.abs(truth.probe) ** 2
    weight[: len(probe), : len(probe)] = probe
    weight = np.roll(weight, [-(len(probe) // 2)] * 2, (0, 1))
    mean = np.fft.ifft2(np.fft.fft2(truth.phase) * np.fft.fft2(weight).conj()).real
    return map_coordinates(mean, np.moveaxis(truth.positions_A, -1, 0) / truth.sampling_A)


@pytest.mark.parametrize("name", ["dpc_parallax", "ptycho_thin"])
def test_reference_data(shared_data, name):
    truth = json.loads((shared_data / name / "truth.json").read_text())
    with h5py.File(shared_data / name / "data.h5") as file:
        cube = DataCube(file["data"][:])
    cube = cube.with_calibration(
        R_pixel_size=truth["scan_step_A"], R_pixel_units="A",
        Q_pixel_size=truth["detector_pixel_1_per_A"], Q_pixel_units="A^-1",
        energy_eV=truth["energy_eV"],
    )  # fmt: skip
    found = dpc(cube)
    assert found.flip is truth["detector_transpose"] and found.flip_confidence > 1.5
    assert abs(found.rotation_deg - truth["scan_rotation_deg"]) < 0.5
    assert found.half_turn_z > 2


def test_the_noise_of_the_phase():
    """Sigma of the phase is what repeated noise shows, to a quarter; edges count most."""
    _, gradient, _ = gaussian()
    com = seen(gradient)
    rng = np.random.default_rng(8)
    runs = [
        dpc(RealSlice(com.data + rng.normal(0, 0.05, com.shape), com.calibration,
                      labels=("x", "y")), rotation_rad=0.4, flip=True)
        for _ in range(40)
    ]  # fmt: skip
    spread = np.std([r.phase.data for r in runs], axis=0)
    assert 0.75 < np.median(spread / runs[0].phase_sigma_rad) < 1.25


# ---- views, methods ------------------------------------------------------------------------------
def test_method_and_figure():
    scan = simulate.phase_object((9, 8), (48, 48), Q_pixel_size_A=0.05, seed=1)
    found = scan.cube.dpc(rotation_rad=0.3, flip=False)
    assert found.history.steps[-1].kind == "dpc" and found.phase.history == found.history
    assert found.vectors.data.dtype == np.complex128 and found.vectors.shape == (9, 8)
    figure, _ = py4DSTEM.show(found)
    assert figure.axes[0].get_title() == "phase"
    turned = scan.cube.with_calibration(found)
    assert turned.calibration.rotation_rad == pytest.approx(0.3)


# ---- bad input -----------------------------------------------------------------------------------
def test_one_row():
    gradient = np.zeros((2, 1, 9))
    gradient[1] = np.linspace(0, 4, 9)
    com = seen(gradient).with_calibration(origin_px=(30.0, 20.0))
    found = dpc(com, rotation_rad=0.4, flip=True, descan="none")
    y = np.arange(9) * STEPS[1]
    truth = SIGMA * 0.5 * (4 / y[-1]) * y**2
    np.testing.assert_allclose(found.phase.data[0], truth - truth.mean(), atol=1e-12)
    assert found.charge_density.shape == (1, 9) and np.isnan(found.phase_sigma_rad).all()
    with pytest.raises(ParameterError, match="give rotation_rad"):
        dpc(com)


def test_refusals():
    _, gradient, _ = gaussian((8, 9))
    com = seen(gradient)
    with pytest.raises(CalibrationMissing, match="scan"):
        dpc(RealSlice(com.data, com.calibration.replace(R_pixel_units="px"), labels=("x", "y")))
    with pytest.raises(CalibrationMissing):
        dpc(RealSlice(com.data, labels=("x", "y")), rotation_rad=0)
    with pytest.raises(ParameterError, match="nothing to integrate"):
        dpc(RealSlice(np.full((2, 5, 6), np.nan), com.calibration, labels=("x", "y")),
            rotation_rad=0)  # fmt: skip
    with pytest.raises(ParameterError, match="same at all positions"):
        dpc(RealSlice(np.ones((2, 5, 6)), com.calibration, labels=("x", "y")))
    with pytest.raises(ParameterError, match="DataCube"):
        dpc(com, rotation_by="symmetry")
    with pytest.raises(ParameterError, match="center_of_mass"):
        dpc(com["x"])
    with pytest.raises(ParameterError, match="A\\^-1"):
        electric_field(com)
    with pytest.raises(ParameterError, match="low_pass"):
        dpc(com, low_pass=-1)


def test_without_energy_there_is_a_phase_but_no_field():
    _, gradient, _ = gaussian()
    com = seen(gradient)
    known = Calibration().replace(
        R_pixel_size=STEPS, R_pixel_units="A", Q_pixel_size=PIXELS, Q_pixel_units="A^-1"
    )
    bare = RealSlice(com.data, known, labels=("x", "y"))
    found = dpc(bare, rotation_rad=0.4, flip=True)
    assert np.isfinite(found.phase.data).all()
    with pytest.raises(CalibrationMissing, match="energy"):
        _ = found.field
    figure, _ = py4DSTEM.show(found)
    assert "charge density" not in [a.get_title() for a in figure.axes]


def test_unknown_positions():
    value, gradient, _ = gaussian()
    com = seen(gradient)
    com.data[:, 5:8, 9] = np.nan
    found = dpc(com, rotation_rad=0.4, flip=True)
    assert np.isnan(found.phase.data).sum() == 3 and np.isfinite(found.residual_share)
    whole = dpc(seen(gradient), rotation_rad=0.4, flip=True)
    assert np.nanmax(np.abs(found.phase.data - whole.phase.data)) < 0.01 * np.ptp(value) * SIGMA
