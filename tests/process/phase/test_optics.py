"""Optics against the simulation of a phase object, which has its own code."""

import numpy as np
import pytest

from py4DSTEM import Calibration, simulate
from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.errors import CalibrationMissing, ParameterError
from py4DSTEM.process.phase.optics import Optics


@pytest.mark.parametrize("flip", [False, True])
def test_probe_and_positions_are_those_of_a_simulated_scan(flip):
    scan = simulate.phase_object((5, 4), (48, 48), rotation_rad=0.4, flip=flip, seed=2)
    optics = Optics.of(scan.truth.calibration, scan.cube.Q_shape)
    assert optics.semiangle_mrad == pytest.approx(20.0)
    assert optics.sampling_A[0] == pytest.approx(scan.truth.sampling_A)
    probe = np.fft.fftshift(optics.probe(Aberrations({"defocus": scan.truth.defocus_A})))
    overlap = abs(np.vdot(probe, scan.truth.probe))
    assert overlap > 0.995  # rims of the aperture differ
    scan_axes = scan.truth.positions_A - scan.truth.positions_A[0, 0]
    back = optics.positions_A((5, 4)) @ np.linalg.inv(optics.to_detector()).T
    np.testing.assert_allclose(back, scan_axes, atol=1e-9)
    # The calibration takes detector vectors to scan axes: the inverse of `to_detector`.
    np.testing.assert_allclose(
        scan.truth.calibration.Q_matrix("A^-1") / optics.Q_steps_A[0] @ optics.to_detector(),
        np.eye(2),
        atol=1e-12,
    )


def test_pixels_need_not_be_square():
    optics = Optics((40, 60), (0.03, 0.02), 200e3, 10.0, (1.0, 2.0))
    assert optics.window_A == pytest.approx((100 / 3, 50.0))
    area = np.pi * (10e-3 / optics.wavelength_A) ** 2 / (0.03 * 0.02)
    assert optics.aperture().sum() == pytest.approx(area, rel=0.01)
    assert np.abs(optics.probe(Aberrations())).argmax() == 0


def test_what_is_missing_is_named():
    known = Calibration(energy_eV=80e3).replace(Q_pixel_size=0.03, Q_pixel_units="A^-1")
    with pytest.raises(CalibrationMissing, match="convergence angle"):
        Optics.of(known, (8, 8))
    with pytest.raises(CalibrationMissing, match="scan step"):
        Optics.of(known.replace(probe_radius_px=3.0), (8, 8))
    with pytest.raises(ParameterError, match="positive"):
        Optics((8, 8), (0.1, -0.1), 80e3, 10.0, (1.0, 1.0))
    with pytest.raises(ParameterError, match="amplitude"):
        Optics((8, 8), (0.1, 0.1), 80e3, 10.0, (1.0, 1.0)).probe(Aberrations(), np.zeros((8, 8)))
