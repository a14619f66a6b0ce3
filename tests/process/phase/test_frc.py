"""Fourier ring correlation on images whose signal-to-noise ratio is known at every frequency."""

import numpy as np
import pytest

from py4DSTEM import ParameterError, RealSlice, ShapeError, ptychography, simulate
from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import CalibrationMissing
from py4DSTEM.process.phase.compare_rings import CompareRings
from py4DSTEM.process.phase.frc import checkerboard, fourier_ring_correlation

STEP = (0.3, 0.25)


def pair(shape, fall_A, noise=1.0, seed=0):
    """Two images of power exp(−(k·fall)²)·4 and white noise of power noise²."""
    rng = np.random.default_rng(seed)
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, s) for n, s in zip(shape, STEP, strict=True)),
                              indexing="ij"))  # fmt: skip
    signal = np.fft.ifft2(
        np.fft.fft2(rng.standard_normal(shape)) * 2 * np.exp(-((k * fall_A) ** 2) / 2)
    )
    return [signal.real + noise * rng.standard_normal(shape) for _ in range(2)]


def test_curve_follows_from_the_signal_to_noise_ratio():
    found = fourier_ring_correlation(*pair((240, 260), 1.2), STEP)
    snr = 4 * np.exp(-((found.k_A * 1.2) ** 2))
    pull = (found.correlation - snr / (1 + snr)) / found.sigma
    assert abs(pull.mean()) < 0.5 and 0.6 < pull.std() < 1.5


def test_resolution_is_where_the_ratio_says_and_its_sigma_is_its_scatter():
    # SNR/(1 + SNR) = 1/7 at SNR = 1/6.
    expected = 1.2 / np.sqrt(np.log(4 * 6))
    found = [fourier_ring_correlation(*pair((200, 190), 1.2, seed=s), STEP).resolutions["1/7"]
             for s in range(24)]  # fmt: skip
    values = np.array([r.resolution_A for r in found])
    assert values.mean() == pytest.approx(expected, rel=0.04)
    told = np.mean([r.sigma_A for r in found])
    assert 0.4 * told < values.std() < 2.5 * told


def test_noise_alone_has_no_resolution_and_the_scatter_that_is_told():
    rng = np.random.default_rng(5)
    found = fourier_ring_correlation(*rng.standard_normal((2, 180, 200)), STEP)
    assert np.isnan(found.resolutions["half-bit"].resolution_A)
    assert (found.correlation * np.sqrt(found.count)).std() == pytest.approx(1, abs=0.3)
    complex_noise = rng.standard_normal((4, 180, 200))
    pair_ = complex_noise[0] + 1j * complex_noise[1], complex_noise[2] + 1j * complex_noise[3]
    found = fourier_ring_correlation(*pair_, STEP)
    assert (found.correlation * np.sqrt(found.count)).std() == pytest.approx(1, abs=0.3)


def test_the_same_image_agrees_to_the_edge():
    image = np.random.default_rng(2).standard_normal((40, 50))
    found = fourier_ring_correlation(image, 3 * image + 7, STEP)
    np.testing.assert_allclose(found.correlation, 1)
    assert all(r.reached_edge for r in found.resolutions.values())
    assert found.resolution_A == pytest.approx(2 * max(STEP), rel=0.1)
    np.testing.assert_allclose(fourier_ring_correlation(image, -image, STEP).correlation, -1)


def test_what_is_masked_or_no_number_does_not_count():
    a, b = pair((120, 130), 1.0)
    mask = np.zeros(a.shape, bool)
    mask[20:, :100] = True
    clean = fourier_ring_correlation(a, b, STEP, mask=mask)
    a[:20], b[:, 100:] = 1e4, np.nan
    spoilt = fourier_ring_correlation(a, b, STEP, mask=mask)
    np.testing.assert_allclose(spoilt.correlation, clean.correlation)
    assert clean.count.sum() < fourier_ring_correlation(*pair((120, 130), 1.0), STEP).count.sum()


def test_half_bit_is_half_a_bit_where_rings_are_large():
    found = fourier_ring_correlation(*pair((240, 260), 1.2), STEP)
    n = found.count[-1]
    assert found.thresholds["half-bit"][-1] == pytest.approx(0.2071 / 1.2071, abs=2 / np.sqrt(n))
    assert found.thresholds["3-sigma"][-1] == pytest.approx(3 / np.sqrt(n))
    order = found.resolutions
    assert order["half-bit"].resolution_A > order["3-sigma"].resolution_A


def test_slices_know_their_pixels():
    a, b = pair((60, 64), 1.0)
    nm = Calibration(R=(Axis("Rx", 0.03, unit="nm"), Axis("Ry", 0.025, unit="nm")))
    known = fourier_ring_correlation(RealSlice(a, nm), RealSlice(b, nm))
    np.testing.assert_allclose(known.k_A, fourier_ring_correlation(a, b, STEP).k_A)
    assert known.history.steps[-1].kind == "fourier-ring-correlation"
    with pytest.raises(CalibrationMissing, match="sampling_A"):
        fourier_ring_correlation(RealSlice(a), RealSlice(b))
    with pytest.raises(CalibrationMissing, match="sampling_A"):
        fourier_ring_correlation(a, b)


def test_halves_of_a_scan():
    black, white = checkerboard((5, 4))
    assert (black ^ white).all() and abs(int(black.sum()) - int(white.sum())) <= 1
    assert not (black[1:] & black[:-1]).any() and not (white[:, 1:] & white[:, :-1]).any()


def test_nonsense_is_refused():
    image = np.random.default_rng(0).random((20, 21))
    with pytest.raises(ShapeError, match="one shape"):
        fourier_ring_correlation(image, image.T, 1.0)
    with pytest.raises(ParameterError, match="8 pixels"):
        fourier_ring_correlation(image[:5], image[:5], 1.0)
    with pytest.raises(ParameterError, match="structure"):
        fourier_ring_correlation(image, np.ones_like(image), 1.0)
    with pytest.raises(ParameterError, match="at least 64"):
        fourier_ring_correlation(image * np.nan, image, 1.0)
    with pytest.raises(ParameterError, match="taper"):
        fourier_ring_correlation(image, image, 1.0, taper=0.9)
    with pytest.raises(ParameterError, match="positive"):
        fourier_ring_correlation(image, image, 0.0)
    with pytest.raises(ShapeError, match="mask"):
        fourier_ring_correlation(image, image, 1.0, mask=np.ones((2, 2), bool))


def test_as_a_step_between_two_images_or_results():
    one, other = (
        RealSlice(image, Calibration().replace(R_pixel_size=0.3, R_pixel_units="A"))
        for image in pair((64, 64), 1.0)
    )
    found = CompareRings(other=other, taper=0.1).apply(one)
    plain = fourier_ring_correlation(one, other, taper=0.1)
    np.testing.assert_array_equal(found.correlation, plain.correlation)
    scan = simulate.phase_object((8, 8), (48, 48), seed=1)
    result = ptychography(scan.cube, defocus_A=100.0, rotation_rad=0.3, iterations=2)
    again = CompareRings(other=result.phase).apply(result)
    np.testing.assert_allclose(again.correlation[:5], 1.0)
    with pytest.raises(ParameterError, match="works on"):
        CompareRings(other=one).apply(scan.cube)
