"""The list of primitives: what every set of kernels offers, compiled or plain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


class Measured(NamedTuple):
    """Sums of one pass over n patterns; None where nobody asked.

    Attributes
    ----------
    detectors : (n, K) float64
        Weighted sum of each pattern over each detector. NaN where none of the pixels of a detector
        is finite; 0 for a detector without pixels.
    total, moment_x, moment_y : (n,) float64
        Σ v, Σ i·v and Σ j·v of each pattern, i counting rows and j columns.
    sums, squares, valid : (Qx, Qy) float64
        Σ w·v, Σ w·v² and Σ w of each pixel, over the patterns where it is finite.
    maximum : (Qx, Qy), dtype of the frames
        Largest finite value of each pixel over the patterns with w > 0; where there is none, the
        lowest value of the dtype (-inf for floats).
    """

    detectors: Float | None = None
    total: Float | None = None
    moment_x: Float | None = None
    moment_y: Float | None = None
    sums: Float | None = None
    squares: Float | None = None
    valid: Float | None = None
    maximum: NDArray[Any] | None = None


@dataclass(frozen=True)
class Kernels:
    """One set of primitives on bare arrays; no algorithm asks which set it was given.

    Frames are ``(n, Qx, Qy)`` of any real dtype, byte order and strides.

    Attributes
    ----------
    compile_detectors : (weights (K, Qx, Qy)) -> detectors
        Take detector weights apart once, for `measure` of the same set.
    measure : (frames, detectors=None, *, moments, sums, squares, maximum, weights) -> Measured
        Detector sums, moments, mean, variance and maximum in one pass.
    """

    compile_detectors: Callable[..., Any]
    measure: Callable[..., Measured]


def lowest(dtype: np.dtype[Any]) -> Any:
    """The value below all others of a real dtype: False, the smallest integer, or -inf."""
    if dtype.kind == "b":
        return False
    return np.iinfo(dtype).min if dtype.kind in "ui" else -np.inf
