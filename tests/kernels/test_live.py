"""Detector-major tables against their twins."""

import numpy as np
import pytest

from py4DSTEM.kernels import compiled, reference
from py4DSTEM.kernels.live import POSITIONS, prefix_dtype

FAST, TWIN = compiled(), reference()


def values(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("n", [1, 7, 8, 131])
@pytest.mark.parametrize("pixels", [1, 63, 130])
@pytest.mark.parametrize("wrong", [False, True])
def test_turned_frames(n, pixels, wrong):
    frames = values(np.float32, (n, pixels))
    if wrong:
        frames[-1, 0], frames[0, -1] = np.nan, -np.inf
    fast, twin = (np.full((pixels, n + 5), -7, np.float32) for _ in range(2))
    answers = [k.turn_frames(frames, out, 3) for k, out in ((FAST, fast), (TWIN, twin))]
    assert answers == [not wrong, not wrong]
    np.testing.assert_array_equal(fast, twin)
    assert (fast[:, :3] == -7).all() and (fast[:, -2:] == -7).all()


def test_turned_integers():
    frames = values(np.uint16, (20, 70))
    fast = np.zeros((70, 20), np.uint16)
    assert FAST.turn_frames(frames, fast, 0)
    np.testing.assert_array_equal(fast, frames.T)


@pytest.mark.parametrize("rows", [0, 1, 4, 11])
@pytest.mark.parametrize("part", [None, slice(100, POSITIONS + 13)])
def test_weighted_rows(rows, part):
    table = values(np.uint16, (12, POSITIONS + 40))
    index = np.random.default_rng(1).permutation(12)[:rows]
    weights = np.random.default_rng(2).normal(size=(3, rows))
    weights[1] = 0
    fast, twin = (np.ones((3, table.shape[1])) for _ in range(2))
    for kernels, out in ((FAST, fast), (TWIN, twin)):
        kernels.add_weighted(table, index, weights, out, part)
    np.testing.assert_allclose(fast, twin, rtol=1e-12, atol=1e-6)
    assert (fast[:, :100] == 1).all() or part is None


def test_whole_weights_of_integers_are_exact():
    table = np.full((5, 3), 2**40 + 1, np.int64)
    out = np.zeros((1, 3))
    FAST.add_weighted(table, np.arange(5), np.array([[1.0, -1, 3, 1, 1]]), out)
    assert (out == 5 * (2**40 + 1)).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.float32])
@pytest.mark.parametrize("width", [1, 8, 19])
def test_prefix(dtype, width):
    data = values(dtype, (3, width, 50))
    kind = prefix_dtype(data.dtype, width)
    fast, twin = (np.zeros((3, -(-width // 8), 50), kind) for _ in range(2))
    for kernels, out in ((FAST, fast), (TWIN, twin)):
        kernels.row_prefix(data, out, slice(2, 49))
    np.testing.assert_allclose(fast, twin, rtol=1e-12, atol=1e-9)
    whole = data[:, :, 2:49].astype(np.float64).sum(axis=1)
    np.testing.assert_allclose(fast[:, -1, 2:49], whole, rtol=1e-12, atol=1e-9)
    assert not fast[..., :2].any()


def test_a_row_that_32_bits_cannot_hold_is_summed_in_floats():
    assert prefix_dtype(np.dtype(np.uint16), 32768) == np.uint32
    assert np.iinfo(np.uint32).max >= 32768 * 65535
    assert np.iinfo(np.int32).max >= 32768 * 32768 - 1
    assert prefix_dtype(np.dtype(np.uint16), 32769) == np.float64
