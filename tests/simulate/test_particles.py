"""Weak particles on a film: the phase in closed form, the displacement of bright-field images."""

import numpy as np
import pytest

from py4DSTEM import ParameterError
from py4DSTEM.simulate import weak_particles
from py4DSTEM.units import interaction_constant_rad_per_VA


def test_a_sphere_has_the_phase_of_its_thickness():
    scan = weak_particles((20, 24), (32, 32), film_A=0, particles=1, dose=None, seed=2,
                          defocus_A=500, Q_pixel_size_A=0.03)  # fmt: skip
    truth = scan.truth
    x, y = np.moveaxis(np.indices(truth.phase.shape), 0, -1).T * truth.sampling_A
    distance = np.hypot(x.T - truth.centers_A[0, 0], y.T - truth.centers_A[0, 1])
    radius = truth.radii_A[0]
    chord = 2 * np.sqrt(np.maximum(radius**2 - distance**2, 0))
    expected = 28.0 * interaction_constant_rad_per_VA(300e3) * chord
    away = np.abs(distance - radius) > 2 * truth.sampling_A  # the rim is limited in frequency
    assert np.abs(truth.phase - expected)[away].max() < 0.03 * expected.max()
    assert truth.phase.sum() == pytest.approx(expected.sum(), rel=0.01)


def test_particles_do_not_touch_and_lie_in_the_scan():
    truth = weak_particles((40, 30), (32, 32), film_A=0, dose=None, seed=5,
                           defocus_A=500, Q_pixel_size_A=0.03).truth  # fmt: skip
    low, high = truth.positions_A.min(axis=(0, 1)), truth.positions_A.max(axis=(0, 1))
    assert ((truth.centers_A > low) & (truth.centers_A < high)).all()
    for i in range(3):
        for j in range(i):
            gap = np.linalg.norm(truth.centers_A[i] - truth.centers_A[j])
            assert gap > truth.radii_A[i] + truth.radii_A[j]


def test_bright_field_images_are_displaced_by_the_gradient_of_chi():
    # rotation 0, no flip: detector axes are scan axes.
    scan = weak_particles((40, 40), (36, 36), rotation_rad=0.0, flip=False, dose=None, seed=1,
                          defocus_A=2000, Q_pixel_size_A=0.028, strength=0.3,
                          aberrations={"C12": 300.0, "phi12": 0.4})  # fmt: skip
    truth = scan.truth
    wavelength = truth.calibration.wavelength_A
    images = {d: scan.cube.data[:, :, 18 + d[0], 18 + d[1]].astype(float)
              for d in ((5, 0), (-5, 0), (0, 5), (0, -5))}  # fmt: skip

    def displaced(d):
        spectra = [np.fft.fft2(images[s] - images[s].mean()) for s in (d, (-d[0], -d[1]))]
        peak = np.fft.ifft2(spectra[0] * spectra[1].conj()).real
        i, j = np.unravel_index(peak.argmax(), peak.shape)
        return (np.array([i, j]) + 20) % 40 - 20

    for d in ((5, 0), (0, 5)):
        alpha = np.array(d) * 0.028 * wavelength
        expected = 2 * truth.aberrations.gradient(*alpha) / 3.0
        # A ray lands ∇χ beside the probe, so its image lies −∇χ beside the specimen.
        assert np.abs(displaced(d) + expected).max() < 1.0


def test_weak_particles_repeat_and_say_how_they_were_made():
    kwargs = {"film_A": 10.0, "defocus_A": 300.0, "Q_pixel_size_A": 0.03, "seed": 4}
    first, again = (weak_particles((4, 5), (32, 32), **kwargs) for _ in range(2))
    np.testing.assert_array_equal(first.cube.data, again.cube.data)
    told = dict(first.cube.history.steps[-1].parameters)
    assert told["aberrations"] == {"C10": -300.0} and told["film_A"] == 10.0
    assert first.cube.data.sum(axis=(2, 3)).mean() == pytest.approx(5000, rel=0.02)
    assert np.sum(np.abs(first.truth.probe) ** 2) == pytest.approx(1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"defocus_A": 9000.0, "semiangle_mrad": 3.0}, "window of a pattern"),
        ({"Q_shape": (32, 30)}, "even and square"),
        ({"film_A": -1.0}, "film_A"),
        ({"particles": 99}, "particles"),
        ({"semiangle_mrad": 30.0}, "too large"),
    ],
)
def test_nonsense_is_refused(kwargs, message):
    with pytest.raises(ParameterError, match=message):
        weak_particles(**{"scan_shape": (2, 2), "Q_shape": (32, 32), **kwargs})
