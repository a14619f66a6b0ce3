"""Levels of rings against their twin, and where the truth is known."""

import numpy as np
import pytest

from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.kernels import ring_levels as fast
from py4DSTEM.kernels import twins_ring_levels as twin


def spotted(seed, n=3, shape=(23, 28), mean=2.0, dtype="u2"):
    rng = np.random.default_rng(seed)
    frames = rng.poisson(mean, (n, *shape)).astype(np.float64)
    for p in range(n):
        for _ in range(4):
            x, y = rng.integers(2, shape[0] - 2), rng.integers(2, shape[1] - 2)
            frames[p, x - 1 : x + 2, y - 1 : y + 2] += rng.poisson(20 * mean, (3, 3))
    return rng, frames.astype(dtype)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("half", [0, 1, 2])
def test_fast_is_the_twin(dtype, half):
    rng, frames = spotted(half, dtype=dtype)
    origins = rng.normal((11, 13), 2.0, (3, 2))
    origins[1] = np.nan
    if dtype == "f4":
        frames[0, 3, 4], frames[2, 7, 8] = np.nan, np.inf
    given = {
        "half": half, "clip": 2.5, "gain": 1.3, "metric": [[1.0, 0.1], [0.05, 0.9]],
        "mask": rng.random(frames.shape[1:]) < 0.9,
    }  # fmt: skip
    a, b = (k.ring_levels(frames, origins, 17, **given) for k in (fast, twin))
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype == np.float64
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9)
    assert np.isnan(a.level[1]).all() and (a.valid[1] == 0).all()


@pytest.mark.parametrize("mean", [0.3, 3.0, 40.0])
def test_the_level_is_that_beside_the_spots(mean):
    _, frames = spotted(1, n=60, shape=(41, 45), mean=mean)
    found = fast.ring_levels(frames, np.full((60, 2), 20.0), 21)
    outside = found.level[:, 5:].mean()
    assert outside == pytest.approx(mean, rel=0.02)
    np.testing.assert_allclose(found.bright + found.used * found.level, found.total)
    assert (frames[:, :41].mean() - mean) / mean > 0.1  # the spots are no small matter


def test_dead_and_hot_pixels_do_not_move_the_level():
    frames = np.full((1, 31, 31), 100.0)
    frames[0, 15, 4], frames[0, 4, 15], frames[0, 15, 26] = 0, 5000, 0
    found = fast.ring_levels(frames, [(15.0, 15.0)], 15, half=0)
    np.testing.assert_allclose(found.level, 100.0)


def test_what_makes_no_sense_is_refused():
    frames = np.zeros((2, 5, 6))
    origins = np.zeros((2, 2))
    for wrong in ({"half": -1}, {"clip": 0}, {"gain": 0}):
        with pytest.raises(ParameterError):
            fast.ring_levels(frames, origins, 3, **wrong)
    with pytest.raises(ParameterError):
        fast.ring_levels(frames, origins, 0)
    with pytest.raises(ShapeError):
        fast.ring_levels(frames, origins[:1], 3)
    with pytest.raises(ShapeError):
        fast.ring_levels(frames, origins, 3, mask=np.ones((2, 2)))
    assert fast.ring_levels(frames[:0], origins[:0], 3).level.shape == (0, 3)
