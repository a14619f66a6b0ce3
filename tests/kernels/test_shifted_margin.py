"""Detectors that move out of the frame, and into it."""

import numpy as np
import pytest

from py4DSTEM.errors import ShapeError
from py4DSTEM.kernels import compiled, reference

FAST, TWIN = compiled(), reference()


@pytest.mark.parametrize("margin", [(0, 0), (3, 5)])
@pytest.mark.parametrize("step", [0.0, 0.25])
def test_parity_for_all_shifts(margin, step):
    rng = np.random.default_rng(0)
    shape = (9, 11)
    wide = tuple(n + 2 * m for n, m in zip(shape, margin, strict=True))
    weights = np.zeros((3, *wide))
    weights[0, 1:4, 2:5] = rng.random((3, 3))
    weights[1] = rng.random(wide)
    weights[2, -1, -1] = 1
    shifts = np.array([(x, y) for x in range(-22, 23, 2) for y in range(-24, 25, 3)]) + step
    frames = rng.integers(0, 50, (len(shifts), *shape)).astype(np.uint16)
    fast = FAST.shifted_sums(frames, weights, shifts, margin)
    np.testing.assert_allclose(fast, TWIN.shifted_sums(frames, weights, shifts, margin), atol=1e-9)
    floats = frames.astype(np.float32)
    floats[::3, 4, 4] = np.nan
    fast = FAST.shifted_sums(floats, weights, shifts, margin)
    np.testing.assert_allclose(fast, TWIN.shifted_sums(floats, weights, shifts, margin), atol=1e-4)


def test_the_margin_must_fit():
    with pytest.raises(ShapeError):
        FAST.shifted_sums(np.ones((1, 4, 4)), np.ones((1, 4, 4)), np.zeros((1, 2)), (1, 0))
