"""Integrated centres of mass and power spectra, where the truth is known."""

import numpy as np
import pytest

from py4DSTEM import Calibration, ParameterError, RealSlice, center_of_mass, simulate
from py4DSTEM.process.idpc import integrate_center_of_mass
from py4DSTEM.process.spectrum import power_spectrum


def com_of(gx, gy, calibration=None):
    return RealSlice(np.stack([gx, gy]), calibration or Calibration(), labels=("x", "y"))


def potential(shape=(40, 31)):
    """A potential that is not periodic, and its gradient."""
    x, y = np.indices(shape, dtype=float)
    bump = np.exp(-((x - 15) ** 2 + (y - 20) ** 2) / 30)
    wave = 0.3 * np.sin(x / 7) * np.cos(y / 5)
    gx = -2 * (x - 15) / 30 * bump + 0.3 / 7 * np.cos(x / 7) * np.cos(y / 5) + 0.02
    gy = -2 * (y - 20) / 30 * bump - 0.3 / 5 * np.sin(x / 7) * np.sin(y / 5)
    return bump + wave + 0.02 * x, gx, gy


def test_mirrored_integral_of_a_gradient():
    truth, gx, gy = potential()
    phase = integrate_center_of_mass(com_of(gx, gy), keep_ramp=True)
    error = phase.data - (truth - truth.mean())
    assert np.abs(error).max() < 0.01 * np.ptp(truth)
    assert abs(phase.data.mean()) < 1e-12 and phase.units == "px^2"


def test_mean_deflection_is_left_out():
    _, gx, gy = potential()
    phase = integrate_center_of_mass(com_of(gx, gy)).data
    shifted = integrate_center_of_mass(com_of(gx + 3, gy - 2)).data
    np.testing.assert_allclose(phase, shifted, atol=1e-12)


@pytest.mark.parametrize("shape", [(12, 15), (1, 16), (9, 1)])
def test_periodic_integral_is_exact(shape):
    x, y = np.indices(shape)
    kx, ky = (0 if n == 1 else 2 * np.pi / n for n in shape)
    truth = np.sin(kx * x + 0.3) * np.cos(ky * y + 0.2)
    gx = kx * np.cos(kx * x + 0.3) * np.cos(ky * y + 0.2)
    gy = -ky * np.sin(kx * x + 0.3) * np.sin(ky * y + 0.2)
    phase = integrate_center_of_mass(com_of(gx, gy), boundary="periodic").data
    np.testing.assert_allclose(phase, truth - truth.mean(), atol=1e-12)


def test_units_origin_flip_and_rotation():
    """φ = A sin(2πx/L): <k> = ∇φ/2π on a detector that is turned, flipped, and off centre."""
    n, step, pixel, angle = 16, 0.5, 0.02, 0.4
    x = np.arange(n)[:, None] * step + np.zeros(10)
    truth = 0.7 * np.sin(2 * np.pi * x / (n * step))
    kx = 0.7 / (n * step) * np.cos(2 * np.pi * x / (n * step))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    detector = np.einsum("ba,bxy->axy", turn, np.stack([kx, 0 * kx]))[::-1] / pixel
    calibration = Calibration().replace(
        R_pixel_size=step / 10, R_pixel_units="nm", Q_pixel_size=pixel, Q_pixel_units="A^-1",
        origin_px=(30.0, 20.0), rotation_rad=angle, flip=True,
    )  # fmt: skip
    com = com_of(detector[0] + 30, detector[1] + 20, calibration)
    phase = integrate_center_of_mass(com, boundary="periodic")
    assert phase.units == "rad"
    np.testing.assert_allclose(phase.data, truth, atol=1e-12)


def test_atoms_have_a_positive_phase():
    scan = simulate.phase_object((24, 20), seed=1)
    truth = scan.truth
    phase = integrate_center_of_mass(
        center_of_mass(scan.cube).with_calibration(truth.calibration)
    ).data
    places = np.floor(truth.positions_A / truth.sampling_A + 0.5).astype(int)
    there = truth.phase[places[..., 0], places[..., 1]]
    assert np.corrcoef(phase.ravel(), there.ravel())[0, 1] > 0.5


def test_high_pass_damps_the_long_waves():
    x = np.arange(32)[:, None] + np.zeros(8)
    waves = {m: com_of(np.cos(2 * np.pi * m * x / 32), 0 * x) for m in (1, 8)}
    for m, com in waves.items():
        plain, damped = (
            np.ptp(integrate_center_of_mass(com, boundary="periodic", high_pass=h).data)
            for h in (0.0, 1 / 32)
        )
        np.testing.assert_allclose(damped / plain, m**2 / (m**2 + 1), rtol=1e-9)


def test_unknown_positions_and_bad_input():
    _, gx, gy = potential()
    gx[3, 4] = np.nan
    assert np.isfinite(integrate_center_of_mass(com_of(gx, gy)).data).all()
    with pytest.raises(ParameterError, match="nothing"):
        integrate_center_of_mass(com_of(gx * np.nan, gy))
    with pytest.raises(ParameterError, match="boundary"):
        integrate_center_of_mass(com_of(gx, gy), boundary="zero")
    with pytest.raises(ParameterError, match="high_pass"):
        integrate_center_of_mass(com_of(gx, gy), high_pass=-1)
    with pytest.raises(ParameterError, match="center_of_mass"):
        integrate_center_of_mass(RealSlice(gx))


# ---- power spectrum ------------------------------------------------------------------------------
@pytest.mark.parametrize(("unit", "inverse"), [("nm", "nm^-1"), ("A", "A^-1"), ("px", "px")])
def test_peak_lies_at_the_spacing(unit, inverse):
    calibration = Calibration().replace(R_pixel_size=(0.5, 0.25), R_pixel_units=unit)
    j = np.arange(48)[None] + np.zeros((30, 1))
    spectrum = power_spectrum(RealSlice(np.cos(2 * np.pi * j / 6), calibration))
    row, column = np.unravel_index(spectrum.data.argmax(), spectrum.shape)
    kx, ky = spectrum.axes
    assert kx.unit == ky.unit == inverse
    assert kx.coordinates(30)[row] == 0
    assert np.isclose(abs(ky.coordinates(48)[column]), 1 / (6 * 0.25))


@pytest.mark.parametrize("window", [True, False])
def test_white_noise(window):
    noise = np.random.default_rng(0).normal(7, 3, (90, 80))
    power = power_spectrum(RealSlice(noise), window=window).data
    assert abs(power.mean() / 9 - 1) < 0.1


def test_spectrum_of_odd_images():
    image = np.random.default_rng(0).random((7, 1))
    image[2] = np.nan
    assert np.isfinite(power_spectrum(RealSlice(image)).data).all()
    assert power_spectrum(RealSlice(np.full((4, 5), 3.0))).data.max() < 1e-25
    with pytest.raises(ParameterError, match="finite"):
        power_spectrum(RealSlice(np.full((3, 3), np.nan)))
    with pytest.raises(ParameterError, match="stack"):
        power_spectrum(RealSlice(np.zeros((2, 3, 3))))
