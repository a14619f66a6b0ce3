"""Twins of `py4DSTEM.kernels.overlap`: one pixel after the other, all of Q at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .api import Float, Overlaps

__all__ = ["gather_pixels", "overlap_sums"]


def gather_pixels(
    frames: NDArray[Any],
    index: NDArray[np.int64],
    shifts: NDArray[np.int64],
    out: NDArray[np.float32],
    start: int,
) -> Float:
    """Twin of `py4DSTEM.kernels.overlap.gather_pixels`."""
    for i, frame in enumerate(frames):
        out[:, start + i] = frame[index + (shifts[i] if len(shifts) else 0)]
    totals: Float = frames.sum(axis=1, dtype=np.float64)
    return totals


def aperture_wave(x: Float, y: Float, aperture: Float, coefficients: Float) -> Any:
    """Ψ at k, before it is normalised."""
    radius = np.hypot(x, y)
    width = np.hypot(x * aperture[1], y * aperture[2]) / np.maximum(radius, 1e-300)
    height = np.sqrt(np.clip((aperture[0] - radius) / np.maximum(width, 1e-300) + 0.5, 0.0, 1.0))
    cycles = np.polynomial.polynomial.polyval2d(x, y, coefficients)
    return height * np.exp(-2j * np.pi * cycles)


def overlap_sums(
    waves: NDArray[np.complex64],
    k: Float,
    starts: Float,
    step: Float,
    aperture: Float,
    coefficients: Float,
    weights: NDArray[np.float32],
    *,
    both: bool,
) -> Overlaps:
    """Twin of `py4DSTEM.kernels.overlap.overlap_sums`."""
    nx, ny = waves.shape[1:]
    q = starts[:, None, :] + np.arange(ny)[:, None] * step
    reach = aperture[0] + 0.5 * max(aperture[1], aperture[2])
    sums, norms = np.zeros((2, nx, ny), np.complex128), np.zeros((2, nx, ny))
    cross = np.zeros((nx, ny), np.complex128)
    for wave, (x, y), weight in zip(waves, k, weights, strict=True):
        here = aperture_wave(x, y, aperture, coefficients)
        places = [(x + s * q[..., 0], y + s * q[..., 1]) for s in (-1, 1)]
        below, above = (aperture_wave(*place, aperture, coefficients) for place in places)
        gammas = aperture[3] * np.conj(here) * below, aperture[3] * here * np.conj(above)
        inside = [np.hypot(*place) <= reach for place in places]
        triple = inside[0] & inside[1]
        for side, gamma in enumerate(gammas):
            kept = gamma if both else np.where(triple, 0, gamma)
            sums[side] += weight * np.conj(kept) * wave
            norms[side] += weight * np.abs(kept) ** 2
        if both:
            cross += weight * np.conj(gammas[0]) * gammas[1]
    return Overlaps(sums.astype(np.complex64), norms.astype(np.float32), cross.astype(np.complex64))
