"""Interference of disks against its twin, and pixels of patterns in detector order."""

import numpy as np
import pytest

from py4DSTEM.errors import ShapeError
from py4DSTEM.kernels import compiled, reference

FAST, TWIN = compiled(), reference()


def case(degree, shape=(6, 9), pixels=(3, 11), seed=0):
    """Pixels that are not square, within and at the rim; Q along turned axes."""
    rng = np.random.default_rng(seed)
    count = len(range(*pixels))
    k = np.stack(np.meshgrid(np.arange(*pixels) - 6.3, np.arange(*pixels) - 6.8), -1)
    k = k.reshape(-1, 2) * (0.02, 0.027)
    waves = rng.normal(size=(count**2, *shape, 2)) @ np.array([1, 1j])
    turn = np.array([[0.8, 0.6], [-0.6, 0.8]])
    starts = np.stack([np.fft.fftfreq(shape[0], 3.0), np.full(shape[0], 0.01)], -1) @ turn.T
    aperture = np.array([0.08, 0.02, 0.027, 0.1])
    coefficients = np.zeros((degree + 1, degree + 1))
    for a in range(degree + 1):
        for b in range(degree + 1 - a):
            coefficients[a, b] = 40 * rng.normal() * 10.0 ** (a + b)
    weights = rng.uniform(0.5, 2, count**2).astype(np.float32)
    step = turn @ (0.0, 0.031)
    return waves.astype(np.complex64), k, starts, step, aperture, coefficients, weights


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("degree", [0, 1, 2, 4, 6])
def test_overlaps(degree, both):
    arguments = case(degree)
    fast, twin = (kernels.overlap_sums(*arguments, both=both) for kernels in (FAST, TWIN))
    assert np.abs(twin.sums[0]).max() > 0.1 and (np.abs(twin.cross).max() > 0) == both
    for one, other in zip(fast, twin, strict=True):
        # χ of hundreds of cycles is known to 1e-4 of one.
        np.testing.assert_allclose(one, other, atol=3e-4 * np.abs(twin.sums).max())
    np.testing.assert_allclose(fast.norms, twin.norms, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("columns", [2, 3, 5, 7])
def test_rows_that_end_within_the_rim(columns):
    """The inner part of the aperture may lie wholly beyond the last column."""
    waves, k, starts, step, aperture, *rest = case(2, shape=(6, columns))
    for shift in (0.0, 0.03, 0.06):
        moved = starts - shift * step / np.linalg.norm(step)
        arguments = waves, k, moved, step / 3, aperture, *rest
        fast, twin = (kernels.overlap_sums(*arguments, both=True) for kernels in (FAST, TWIN))
        np.testing.assert_allclose(fast.sums, twin.sums, atol=1e-4 * np.abs(twin.sums).max())
        np.testing.assert_allclose(fast.norms, twin.norms, rtol=1e-4, atol=1e-7)


def test_a_scan_of_one_column():
    arguments = case(2, shape=(6, 1))
    fast, twin = (kernels.overlap_sums(*arguments, both=True) for kernels in (FAST, TWIN))
    np.testing.assert_allclose(fast.sums, twin.sums, atol=1e-4)


def test_wrong_shapes_are_refused():
    waves, k, *rest = case(2)
    with pytest.raises(ShapeError, match="waves"):
        FAST.overlap_sums(waves, k[1:], *rest, both=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("moved", [False, True])
def test_gathered_pixels(dtype, moved):
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 200, (131, 90)).astype(dtype)
    index, shifts = rng.permutation(80)[:70] + 5, rng.integers(-5, 5, 131 * moved)
    fast, twin = (np.full((70, 140), -1, np.float32) for _ in range(2))
    totals = [
        k.gather_pixels(frames, index, shifts, out, 4) for k, out in ((FAST, fast), (TWIN, twin))
    ]
    np.testing.assert_array_equal(fast, twin)
    np.testing.assert_allclose(*totals, rtol=1e-6)
    assert (fast[:, :4] == -1).all() and (fast[:, 4:135] >= 0).all()


def test_totals_tell_of_what_is_not_finite():
    frames = np.ones((3, 20), np.float32)
    frames[1, 3] = np.nan
    index, none = np.arange(2), np.empty(0, np.int64)
    totals = FAST.gather_pixels(frames, index, none, np.zeros((2, 3), np.float32), 0)
    assert np.isfinite(totals).tolist() == [True, False, True]


def test_pixels_outside_are_refused():
    frames, out = np.ones((3, 20), np.uint16), np.zeros((1, 3), np.float32)
    with pytest.raises(ShapeError, match="pixels"):
        FAST.gather_pixels(frames, np.array([19]), np.array([0, 1, 0]), out, 0)
