"""Exact medians of data too large to sort: keys in order, counted digit by digit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arrays import fit_array
from ._jit import njit


def ordered_uint(frames: ArrayLike) -> NDArray[Any]:
    """Unsigned integers in the same order as the values.

    Parameters
    ----------
    frames : (...) real
        Any dtype.

    Returns
    -------
    (...) uint8, uint16, uint32 or uint64
        ``a < b`` exactly where the values are. Floats that are not finite become the largest key,
        which no finite float has. -0.0 comes just before 0.0.
    """
    fit = fit_array(np.asarray(frames))
    bits = fit.dtype.itemsize * 8
    top = fit.view(f"u{fit.dtype.itemsize}").dtype.type(1 << (bits - 1))
    keys = fit.view(top.dtype)
    if fit.dtype.kind == "u":
        return keys
    if fit.dtype.kind == "i":
        return keys ^ top
    return np.where(np.isfinite(fit), np.where(keys & top, ~keys, keys | top), ~top.dtype.type(0))


def ordered_value(keys: NDArray[Any], dtype: np.dtype[Any] | type) -> NDArray[Any]:
    """The values of `ordered_uint` keys of frames of ``dtype``; the way back."""
    dtype = np.dtype(dtype).newbyteorder("=")
    held = fit_array(np.empty(0, dtype)).dtype
    keys = np.asarray(keys).astype(f"u{held.itemsize}")
    top = keys.dtype.type(1 << (held.itemsize * 8 - 1))
    if held.kind == "i":
        keys = keys ^ top
    elif held.kind == "f":
        keys = np.where(keys & top, keys ^ top, ~keys)
    return keys.view(held).astype(dtype, copy=False)


def histogram_digit(
    keys: NDArray[Any],
    prefix: NDArray[np.uint64],
    shift: int,
    histogram: NDArray[np.int64],
    *,
    skip_last: bool = False,
) -> None:
    """Count one digit of 8 bits of every key that starts with the prefix of its pixel.

    Parameters
    ----------
    keys : (n, Qx, Qy) unsigned
        From `ordered_uint`.
    prefix : (Qx, Qy) uint64
        The digits known so far in their places, zeros below; 0 in the first round.
    shift : int
        Bits below the digit: ``bits - 8`` in the first round, 0 in the last.
    histogram : (Qx, Qy, 256) int64
        Counts are added to it.
    skip_last : bool
        Leave out the largest key; True for floats, where it stands for "not finite".
    """
    if keys.size:
        pixels = prefix.size
        _histogram_digit(
            np.ascontiguousarray(keys).reshape(-1, pixels),
            np.ascontiguousarray(prefix).reshape(pixels),
            np.uint64(shift),
            histogram.reshape(pixels, 256),
            np.uint64(np.iinfo(keys.dtype).max),
            skip_last,
        )


@njit(nogil=True, cache=True)
def _histogram_digit(keys, prefix, shift, histogram, last, skip_last):
    for p in range(keys.shape[0]):
        for q in range(prefix.size):
            key = np.uint64(keys[p, q])
            digit = (key ^ prefix[q]) >> shift
            if digit < np.uint64(256) and not (skip_last and key == last):
                histogram[q, digit] += 1
