"""Vectors of float32 in compiled code."""

import numpy as np
import pytest

from py4DSTEM.kernels import _simd as v
from py4DSTEM.kernels._jit import njit

N = v.LANES


def aligned_or_not(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@njit()
def arithmetic(a, b, out):
    p, q, to = v.address(a), v.address(b), v.address(out)
    one, other, line = v.load(p), v.load(q), 4 * v.LANES
    v.store(to, one + other)
    v.store(to + line, one - other)
    v.store(to + 2 * line, one * other)
    v.store(to + 3 * line, one / other)
    v.store(to + 4 * line, v.root(one * one))
    v.store(to + 5 * line, v.masked(one, other, v.spread(np.float32(7))))
    v.store(to + 6 * line, v.larger(one, other))
    v.store(to + 7 * line, v.same(q + 8))
    return v.total(one), v.largest(other)


def test_lanes_are_worked_on_one_by_one():
    a, b, out = aligned_or_not(N), aligned_or_not(N, seed=1), np.zeros((8, N), np.float32)
    assert (a < 0).any() and (a > 0).any() and (a < b).any() and (a > b).any()
    sum_, top = arithmetic(a, b, out)
    # The root and the quotient may be rounded otherwise, the others are exact.
    np.testing.assert_array_equal(out[:3], [a + b, a - b, a * b])
    np.testing.assert_allclose(out[3:5], [a / b, np.abs(a)], rtol=3e-7)
    np.testing.assert_array_equal(out[5], np.where(a < 0, b, np.float32(7)))
    np.testing.assert_array_equal(out[6], np.maximum(a, b))
    np.testing.assert_array_equal(out[7], np.full(N, b[2]))
    assert sum_ == pytest.approx(a.astype(np.float64).sum(), rel=1e-14)
    assert top == b.max()


def test_masked_keeps_zero_and_what_is_not_a_number():
    a = np.zeros(N, np.float32)
    a[1], a[2] = -1e-30, np.nan
    out = np.zeros((8, N), np.float32)
    arithmetic(a, np.ones(N, np.float32), out)
    assert out[5, 0] == 7 and out[5, 1] == 1 and out[5, 2] == 7


@njit()
def unaligned(a, out, shift):
    v.store(v.address(out) + 4 * shift, v.load(v.address(a) + 4 * shift))


@pytest.mark.parametrize("shift", [1, 3])
def test_any_element_may_be_the_first(shift):
    a, out = aligned_or_not(2 * N), np.zeros(2 * N, np.float32)
    unaligned(a, out, shift)
    np.testing.assert_array_equal(out[shift : shift + N], a[shift : shift + N])
    assert not out[:shift].any() and not out[shift + N :].any()


@njit()
def turned(a, out):
    stride, step = 4 * a.shape[1], 4 * out.shape[1]
    v.turn(v.address(a) + 8, stride, v.address(out) + step, step)


def test_a_block_is_turned():
    a, out = aligned_or_not(N, N + 3), np.zeros((N + 2, N + 1), np.float32)
    turned(a, out)
    np.testing.assert_array_equal(out[1 : N + 1, :N], a[:, 2 : N + 2].T)
    assert not out[0].any() and not out[N + 1].any() and not out[:, N].any()


@njit()
def numbers(table):
    return v.number(v.address(table) + 8)


def test_whole_numbers_are_read():
    assert numbers(np.array([3, -(2**40), 5])) == -(2**40)
