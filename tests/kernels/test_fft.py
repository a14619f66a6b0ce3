"""Transforms in compiled loops against those of numpy."""

import numpy as np
import pytest

from py4DSTEM.kernels._simd import LANES
from py4DSTEM.kernels.fft import fast_size, make_plan, padded, transform

SIZES = [
    (1, 1), (1, 6), (2, 3), (5, 4), (7, 1), (11, 13), (16, 16), (16, 9), (24, 50), (30, 77),
    (36, 20), (64, 96), (91, 33), (128, 40), (100, 143),
]  # fmt: skip


def wave(n0: int, n1: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([n0, n1, seed])
    return rng.normal(size=(n0, n1)) + 1j * rng.normal(size=(n0, n1))


def planes(values: np.ndarray) -> np.ndarray:
    n0, n1 = values.shape
    out = np.zeros((2, padded(n0), padded(n1)), np.float32)
    out[0, :n0, :n1], out[1, :n0, :n1] = values.real, values.imag
    return out.reshape(2, -1)


def transformed(given: np.ndarray, n0: int, n1: int) -> np.ndarray:
    """Turned planes (2, n1 padded, n0 padded)."""
    out = np.full_like(given, np.nan)
    buffer = np.full((6, LANES * max(padded(n0), padded(n1))), np.nan, np.float32)
    transform(given, out, make_plan(n0), make_plan(n1), buffer)
    return out.reshape(2, padded(n1), padded(n0))


@pytest.mark.parametrize(("n0", "n1"), SIZES)
def test_transforms_are_those_of_numpy(n0, n1):
    values = wave(n0, n1)
    out = transformed(planes(values), n0, n1)[:, :n1, :n0]
    truth = np.fft.fft2(values).T
    np.testing.assert_allclose(out[0] + 1j * out[1], truth, atol=5e-7 * np.abs(truth).max())


@pytest.mark.parametrize(("n0", "n1"), [(13, 20), (48, 7), (32, 18)])
def test_padding_stays_zero(n0, n1):
    out = transformed(planes(wave(n0, n1)), n0, n1)
    assert not out[:, :n1, n0:].any()


@pytest.mark.parametrize(("n0", "n1"), [(1, 6), (13, 20), (48, 7), (64, 40)])
def test_exchanged_planes_give_the_inverse(n0, n1):
    values = wave(n0, n1, seed=1)
    there = planes(np.fft.fft2(values))
    back = transformed(np.ascontiguousarray(there[::-1]), n0, n1)[::-1, :n1, :n0] / (n0 * n1)
    np.testing.assert_allclose(back[0] + 1j * back[1], values.T, atol=2e-6)


def test_one_frequency_becomes_one_pixel():
    n0, n1, k0, k1 = 12, 20, 5, 3
    x, y = np.mgrid[:n0, :n1]
    values = np.exp(2j * np.pi * (k0 * x / n0 + k1 * y / n1))
    out = transformed(planes(values), n0, n1)
    assert out[0, k1, k0] == pytest.approx(n0 * n1, rel=1e-6)
    out[0, k1, k0] = 0
    # The padding of rows beyond n1 is not written.
    assert np.abs(out[:, :n1]).max() < 1e-4


@pytest.mark.parametrize("length", [17, 2 * 17, 19 * 4, 127])
def test_lengths_it_cannot_do_are_refused(length):
    with pytest.raises(ValueError, match=f"{length} has a prime factor above 13"):
        make_plan(length)


@pytest.mark.parametrize("length", [0, -4])
def test_no_length_is_refused(length):
    with pytest.raises(ValueError, match=f"at least 1, not {length}"):
        make_plan(length)


def test_fast_sizes_are_even_and_have_small_factors():
    for length in range(1, 300):
        size = fast_size(length)
        assert size >= length and size % 2 == 0
        left = size
        for prime in (2, 3, 5):
            while left % prime == 0:
                left //= prime
        assert left == 1
    assert [fast_size(n) for n in (1, 2, 7, 65, 127)] == [2, 2, 8, 72, 128]


def test_padded_lengths_are_whole_vectors():
    assert [padded(n) for n in (1, LANES, LANES + 1)] == [LANES, LANES, 2 * LANES]
