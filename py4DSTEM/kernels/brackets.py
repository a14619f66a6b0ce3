"""Order statistics of data too large to sort: every pixel narrows its own bracket of keys."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from ._jit import njit
from .api import BUCKETS, KeyRange

Keys = NDArray[np.unsignedinteger]


def key_range(
    keys: Keys, above: NDArray[np.uint64] | None = None, *, skip_last: bool = False
) -> KeyRange:
    """Smallest and largest key of each pixel, and their number.

    Parameters
    ----------
    keys : (n, Qx, Qy) unsigned
        From `ordered_uint`.
    above : (Qx, Qy) uint64, optional
        Only keys larger than this count.
    skip_last : bool
        Leave out the largest key of the dtype, which stands for "not finite" in floats.
    """
    shape = keys.shape[1:]
    low = np.full(shape, np.iinfo(np.uint64).max)
    high, count = np.zeros(shape, np.uint64), np.zeros(shape, np.int64)
    floor = np.zeros(shape, np.uint64) if above is None else above.astype(np.uint64)
    end = np.uint64(np.iinfo(keys.dtype).max)
    if keys.size:
        _key_range(keys, floor, above is not None, end, skip_last, low, high, count)
    return KeyRange(low, high, count)


def bucket_counts(
    keys: Keys,
    low: NDArray[np.uint64],
    shift: NDArray[np.uint64],
    *,
    skip_last: bool = False,
) -> NDArray[np.uint32]:
    """How many keys of each pixel fall into each of 16 equal buckets above `low`.

    Parameters
    ----------
    keys : (n, Qx, Qy) unsigned
        From `ordered_uint`.
    low, shift : (Qx, Qy) uint64
        Bucket b of a pixel holds the keys from ``low + (b << shift)`` up to the next bucket.
    skip_last : bool
        Leave out the largest key of the dtype, which stands for "not finite" in floats.

    Returns
    -------
    (Qx, Qy, 16) uint32
    """
    if not keys.shape[1:] == low.shape == shift.shape:
        raise ShapeError(f"brackets of {low.shape} do not fit keys of {keys.shape[1:]}")
    counts = np.zeros((*low.shape, BUCKETS), np.uint32)
    if keys.size:
        _bucket_counts(keys, low, shift, np.uint64(np.iinfo(keys.dtype).max), skip_last, counts)
    return counts


@njit(nogil=True, cache=True)
def _key_range(keys, floor, use_floor, end, skip_last, low, high, count):
    n, height, width = keys.shape
    for p in range(n):
        for i in range(height):
            for j in range(width):
                key = np.uint64(keys[p, i, j])
                if (skip_last and key == end) or (use_floor and key <= floor[i, j]):
                    continue
                low[i, j] = min(low[i, j], key)
                high[i, j] = max(high[i, j], key)
                count[i, j] += 1


@njit(nogil=True, cache=True)
def _bucket_counts(keys, low, shift, end, skip_last, counts):
    n, height, width = keys.shape
    for p in range(n):
        for i in range(height):
            for j in range(width):
                key = np.uint64(keys[p, i, j])
                if key < low[i, j] or (skip_last and key == end):
                    continue
                bucket = (key - low[i, j]) >> shift[i, j]
                if bucket < np.uint64(BUCKETS):
                    counts[i, j, bucket] += np.uint32(1)
