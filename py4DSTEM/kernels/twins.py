"""The primitives in plain numpy: slow, obviously right, the definition of the compiled ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .api import Float, Measured, lowest


def _finite(frames: np.ndarray) -> tuple[Float, NDArray[np.bool_]]:
    """Frames as float64 with 0 where a pixel is not finite, and where they are finite."""
    good = np.isfinite(frames)
    return np.where(good, frames, 0).astype(np.float64), good


def compile_detectors(weights: ArrayLike) -> Float:
    """Detector weights (K, Qx, Qy) as they are."""
    return np.asarray(weights, dtype=np.float64)


def measure(
    frames: ArrayLike,
    detectors: Float | None = None,
    *,
    moments: bool = False,
    sums: bool = False,
    squares: bool = False,
    maximum: bool = False,
    weights: Float | None = None,
) -> Measured:
    """Twin of `py4DSTEM.kernels.measure.measure`."""
    frames = np.asarray(frames)
    v, good = _finite(frames)
    w = np.ones(len(v)) if weights is None else np.asarray(weights, dtype=np.float64)
    i, j = np.indices(v.shape[1:])
    images = sums or squares
    return Measured(
        detectors=None if detectors is None else _detector_sums(v, good, detectors),
        total=v.sum(axis=(1, 2)) if moments else None,
        moment_x=(v * i).sum(axis=(1, 2)) if moments else None,
        moment_y=(v * j).sum(axis=(1, 2)) if moments else None,
        sums=np.einsum("p,pij->ij", w, v) if sums else None,
        squares=np.einsum("p,pij->ij", w, v**2) if squares else None,
        valid=np.einsum("p,pij->ij", w, good.astype(np.float64)) if images else None,
        maximum=_maximum(frames, w > 0) if maximum else None,
    )


def _detector_sums(v: Float, good: NDArray[np.bool_], detectors: Float) -> Float:
    sums = np.einsum("pij,kij->pk", v, detectors)
    support = detectors != 0
    seen = np.einsum("pij,kij->pk", good.astype(int), support.astype(int))
    return np.where((seen == 0) & support.any(axis=(1, 2)), np.nan, sums)


def _maximum(frames: np.ndarray, chosen: NDArray[np.bool_]) -> np.ndarray:
    low = np.array(lowest(frames.dtype), dtype=frames.dtype.newbyteorder("="))
    values = np.where(np.isfinite(frames), frames, low)[chosen]
    return values.max(axis=0, initial=low.item()).astype(low.dtype)
