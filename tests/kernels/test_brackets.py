"""Brackets of keys against their twins, and against sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py4DSTEM.errors import ShapeError
from py4DSTEM.kernels import compiled, reference

FAST, TWIN = compiled(), reference()


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8"])
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9), st.integers(0, 2**32 - 1), st.booleans())
def test_parity(kind, n, seed, skip_last):
    rng = np.random.default_rng(seed)
    largest = np.iinfo(kind).max
    keys = rng.integers(0, largest, (n, 3, 5), dtype=kind, endpoint=True)
    keys[rng.random(keys.shape) < 0.2] = largest
    low = rng.integers(0, largest, (3, 5), dtype=kind, endpoint=True).astype(np.uint64)
    shift = rng.integers(0, 8 * np.dtype(kind).itemsize, (3, 5)).astype(np.uint64)
    for above in (None, low):
        fast = FAST.key_range(keys, above, skip_last=skip_last)
        for a, b in zip(fast, TWIN.key_range(keys, above, skip_last=skip_last), strict=True):
            np.testing.assert_array_equal(a, b)
    fast = FAST.bucket_counts(keys, low, shift, skip_last=skip_last)
    twin = TWIN.bucket_counts(keys, low, shift, skip_last=skip_last)
    np.testing.assert_array_equal(fast, twin)


def test_brackets_must_fit_the_pattern():
    keys, low = np.zeros((2, 3, 4), np.uint8), np.zeros((3, 5), np.uint64)
    with pytest.raises(ShapeError):
        FAST.bucket_counts(keys, low, low)
