"""Parallax kernels against their twins."""

import numpy as np
import pytest

from py4DSTEM.kernels import parallax, twins_parallax


@pytest.mark.parametrize("parts", [4, 8, 9])
def test_sums_are_those_of_the_twin(parts):
    rng = np.random.default_rng(parts)
    k, q = rng.uniform(-0.02, 0.02, (23, 2)), rng.uniform(-0.02, 0.02, (11, 2))
    images = (rng.normal(size=(11, 23)) + 1j * rng.normal(size=(11, 23))).astype(np.complex64)
    scale = np.array([3e3] * 4 + [1e5] * 4 + [4e6])[:parts]
    coefficients = scale * rng.normal(size=parts)
    fast = parallax.aligned_sums(images, k, q, coefficients, 0.03)
    slow = twins_parallax.aligned_sums(images, k, q, coefficients, 0.03)
    assert 0 < fast[1].sum() < 23 * 11  # some pixels count, some do not
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(other).max())


@pytest.mark.parametrize("upsampling", [1, 3])
def test_scattered_images_are_those_of_the_twin(upsampling):
    rng = np.random.default_rng(upsampling)
    images = rng.normal(size=(4, 7, 5)).astype(np.float32)
    weights = np.array([1.0, 0.0, 2.0, 0.5])
    shifts = np.array([[0.3, -1.6], [0.0, 0.0], [-2.0, 9.0], [2.25, 0.75]])
    fast = parallax.scatter_images(images, weights, shifts, upsampling)
    slow = twins_parallax.scatter_images(images, weights, shifts, upsampling)
    assert fast[0].shape == (7 * upsampling, 5 * upsampling)
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_power_of_all_trials_is_that_of_the_twin():
    rng = np.random.default_rng(5)
    values = (rng.normal(size=(3, 11)) + 1j * rng.normal(size=(3, 11))).astype(np.complex64)
    along, across = rng.normal(size=(2, 3, 11))
    trials = np.linspace(-1.1, 0.9, 7)
    fast = parallax.aligned_power(values, along, across, trials)
    slow = twins_parallax.aligned_power(values, along, across, trials)
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-4 * slow.max())
