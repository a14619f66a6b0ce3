"""Frames of any real dtype and layout made fit for compiled loops, copied only when needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ParameterError, ShapeError

_STAND_IN: dict[np.dtype[Any], type] = {
    np.dtype(np.longdouble): np.float64,
    np.dtype(np.float16): np.float32,
    np.dtype(np.int8): np.int16,
}
"""Rare dtypes that are converted, so that fewer variants of everything have to be compiled."""


def fit_frames(frames: ArrayLike) -> np.ndarray:
    """Frames as a C-contiguous, native, read-only array of a dtype the kernels are compiled for.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any boolean, integer or floating dtype, byte order and strides.

    Returns
    -------
    (n, Qx, Qy) uint8..uint64, int16..int64, float32 or float64
        The same memory where possible. bool becomes uint8, int8 int16, float16 float32, longer
        floats float64.
        Read-only, so that one compiled function serves memory maps and ordinary arrays.

    Raises
    ------
    ShapeError
        If there are not three axes.
    ParameterError
        If the numbers are not real.
    """
    array = np.asarray(frames)
    if array.ndim != 3:
        raise ShapeError(f"frames need the axes (n, Qx, Qy), these have the shape {array.shape}")
    return fit_array(array)


def fit_array(array: np.ndarray) -> np.ndarray:
    """`fit_frames` for any number of axes."""
    if array.dtype.kind not in "buif":
        raise ParameterError(f"frames have to be real numbers, these are {array.dtype}")
    native = array.dtype.newbyteorder("=")
    fit = np.ascontiguousarray(array, dtype=_STAND_IN.get(native, native))
    fit = fit.view(np.uint8) if fit.dtype == bool else fit.view()
    fit.flags.writeable = False
    return fit


def stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that `fit_array` gives."""
    native = dtype.newbyteorder("=")
    fit = np.dtype(_STAND_IN.get(native, native))
    return np.dtype(np.uint8) if fit.kind == "b" else fit
