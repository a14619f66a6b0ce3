"""Integration of gradients whose image is known in closed form."""

import math
import threading

import numpy as np
import pytest
from scipy import fft

from py4DSTEM import Cancelled, ParameterError, RunOptions
from py4DSTEM.process.phase.integrate import (
    Smoothing,
    by_fourier,
    by_iteration,
    by_least_squares,
    noise_gain,
)

STEPS = (0.7, 1.1)


def bump(shape=(40, 31), steps=STEPS):
    """An image that is not periodic, of mean zero, and its gradient."""
    x, y = (n * s for n, s in zip(np.indices(shape, dtype=float), steps, strict=True))
    round_ = np.exp(-((x - 12) ** 2 + (y - 15) ** 2) / 40)
    image = round_ + 0.3 * np.sin(x / 5) * np.cos(y / 6) + 0.02 * x
    gx = -2 * (x - 12) / 40 * round_ + 0.06 * np.cos(x / 5) * np.cos(y / 6) + 0.02
    gy = -2 * (y - 15) / 40 * round_ - 0.05 * np.sin(x / 5) * np.sin(y / 6)
    return image - image.mean(), np.stack([gx, gy])


def parabola(shape, steps=STEPS):
    x, y = (n * s for n, s in zip(np.indices(shape, dtype=float), steps, strict=True))
    image = 0.03 * x**2 - 0.02 * x * y + 0.05 * y**2 + 0.4 * y
    return image - image.mean(), np.stack([0.06 * x - 0.02 * y, -0.02 * x + 0.1 * y + 0.4])


def worst(found, truth):
    error = found - truth
    return np.nanmax(np.abs(error - np.nanmean(error))) / np.ptp(truth)


# ---- least squares -------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(7, 12), (12, 7), (2, 3), (1, 9), (9, 1)])
def test_parabolas_are_exact(shape):
    truth, gradient = parabola(shape)
    found = by_least_squares(gradient, STEPS)
    np.testing.assert_allclose(found.image, truth, atol=1e-12)
    assert found.converged
    along = [k for k, n in enumerate(shape) if n > 2]
    np.testing.assert_allclose(found.residual[along], 0, atol=1e-12)


def test_free_edges_are_better_than_mirrored_ones():
    truth, gradient = bump()
    free, mirrored = by_least_squares(gradient, STEPS), by_fourier(gradient, STEPS)
    assert worst(free.image, truth) < 2e-4
    assert worst(free.image, truth) < 0.05 * worst(mirrored.image, truth) < 0.05 * 0.01


def test_unknown_positions_are_left_out():
    truth, gradient = parabola((14, 11))
    gradient[:, 3:6, 4:7] = np.nan
    gradient[1, 10, 2] = np.inf
    found = by_least_squares(gradient, STEPS)
    unknown = ~np.isfinite(gradient).all(axis=0)
    assert (np.isnan(found.image) == unknown).all()
    assert worst(found.image, truth) < 1e-7
    assert found.converged and abs(np.nanmean(found.image)) < 1e-12


def test_a_lonely_position_has_no_phase():
    _, gradient = parabola((6, 6))
    gradient[:, 0, 1] = gradient[:, 1, 0] = np.nan
    assert np.isnan(by_least_squares(gradient, STEPS).image[0, 0])
    with pytest.raises(ParameterError, match="no two neighbours"):
        by_least_squares(np.full((2, 4, 5), np.nan), STEPS)


def test_weights_silence_bad_positions():
    truth, gradient = parabola((12, 10))
    weights = np.ones((12, 10))
    weights[4:7, 3:5] = 1e-6
    bad = gradient.copy()
    bad[:, 4:7, 3:5] += 3
    plain, weighted = by_least_squares(bad, STEPS), by_least_squares(bad, STEPS, weights=weights)
    far = np.ones((12, 10), bool)
    far[4:7, 3:5] = False
    error = np.where(far, weighted.image - truth, np.nan)
    assert np.nanstd(error) < 1e-4 * np.std((plain.image - truth)[far])


@pytest.mark.parametrize("weighted", [False, True])
def test_smoothing_of_every_wave(weighted):
    """λ / (λ + (2π k0)² + λ²/(2π k1)²), λ the eigenvalue of a cosine wave of the grid."""
    nx, ny = 9, 12
    x, y = ((2 - 2 * np.cos(np.pi * np.arange(n) / n)) / s**2
            for n, s in zip((nx, ny), STEPS, strict=True))  # fmt: skip
    square = x[:, None] + y
    top = square + (2 * np.pi * 0.2) ** 2 + square**2 / (2 * np.pi * 0.6) ** 2
    gradient = np.random.default_rng(2).normal(size=(2, nx, ny))
    weights = np.ones((nx, ny)) if weighted else None
    plain = by_least_squares(gradient, STEPS).image
    damped = by_least_squares(gradient, STEPS, Smoothing(0.2, 0.6), weights).image
    expected = square / top * fft.dctn(plain, norm="ortho")
    np.testing.assert_allclose(fft.dctn(damped, norm="ortho"), expected, atol=1e-8)


def test_noise_of_the_image():
    """What the waves predict is what many noisy gradients show."""
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.1, (600, 2, 9, 13))
    images = np.stack([by_least_squares(n, STEPS).image for n in noise])
    expected = 0.1 * noise_gain((9, 13), STEPS, Smoothing())
    ratio = images.std(axis=0) / expected
    assert ratio.min() > 0.7 and ratio.max() < 1.05
    assert expected[0, 0] > 1.5 * expected[4, 6]


# ---- Fourier -------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(12, 15), (1, 16), (9, 1)])
def test_periodic_waves_are_exact(shape):
    x, y = np.indices(shape)
    kx, ky = (0 if n == 1 else 2 * np.pi / n for n in shape)
    truth = np.sin(kx * x + 0.3) * np.cos(ky * y + 0.2)
    gx = kx * np.cos(kx * x + 0.3) * np.cos(ky * y + 0.2) / STEPS[0]
    gy = -ky * np.sin(kx * x + 0.3) * np.sin(ky * y + 0.2) / STEPS[1]
    found = by_fourier(np.stack([gx, gy]), STEPS, "periodic")
    np.testing.assert_allclose(found.image, truth - truth.mean(), atol=1e-12)
    np.testing.assert_allclose(found.residual, 0, atol=1e-12)


def test_zeros_beyond_the_scan_suit_a_lonely_object():
    x, y = np.indices((48, 40), dtype=float) - np.array([22.0, 19.0])[:, None, None]
    truth = np.exp(-(x**2 + y**2) / 18)
    gradient = np.stack([-x / 9 * truth, -y / 9 * truth])
    assert worst(by_fourier(gradient, (1.0, 1.0), "zero").image, truth) < 1e-3


def test_curl_is_left_over():
    """A whirl has no image: all of it is residual."""
    y = np.indices((16, 16))[1] * 2 * np.pi / 16
    whirl = np.stack([np.cos(y), np.zeros_like(y)])
    found = by_fourier(whirl, (1.0, 1.0), "periodic")
    assert np.abs(found.image).max() < 1e-12 and found.errors[-1] == pytest.approx(1)
    np.testing.assert_allclose(found.residual, whirl, atol=1e-12)


# ---- by iteration --------------------------------------------------------------------------------
def test_iterations_never_lose():
    truth, gradient = bump()
    rng = np.random.default_rng(0)
    gradient = gradient + rng.normal(0, 0.01, gradient.shape)
    gradient[:, 20:23, 8:12] = np.nan
    found = by_iteration(gradient, STEPS)
    assert (np.diff(found.errors) < 0).all() and found.errors[0] == 1
    assert found.converged and len(found.errors) < 60
    assert np.isnan(found.image).sum() == 12
    assert worst(found.image, truth) < 0.05
    # Noise of 2 N values: the image explains that of N, what lies beyond the scan some more.
    assert 0.5 < np.nanstd(found.residual) / 0.01 < 0.75


def test_a_stopped_iteration_says_so():
    _, gradient = bump()
    found = by_iteration(gradient, STEPS, max_iterations=1, tolerance=1e-9)
    assert not found.converged and len(found.errors) == 2
    asked = threading.Event()
    asked.set()
    with pytest.raises(Cancelled):
        by_iteration(gradient, STEPS, options=RunOptions(cancel=asked))


@pytest.mark.parametrize("integrate", [by_least_squares, by_fourier, by_iteration])
def test_nothing_stays_nothing(integrate):
    found = integrate(np.zeros((2, 5, 6)), STEPS)
    assert not found.image.any() and found.converged and math.isfinite(found.errors[-1])
