"""How uncertain a pixel is: counting, rims that are no Gaussian, structure inside the disk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.process.rim.model import HEIGHT, LOG_EDGE, R, disk_model, soft_disk
from py4DSTEM.process.rim.window import Window

__all__ = ["STRUCTURE", "Noise", "believable", "noise_in"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

STRUCTURE = 0.12
"""Relative contrast (rms) inside the disk above which the probe counts as patterned."""


@dataclass(frozen=True)
class Noise:
    """Variance ``gain * model + (misfit * A)² * near the rim + (structure * A)² * inside``."""

    gain: float
    misfit: float
    structure: float

    def sigma(self, window: Window, p: Float) -> Float:
        """Standard deviation of each pixel, never zero."""
        least = max(2e-3 * p[HEIGHT], 0.05 * self.gain)
        model = np.maximum(disk_model(p, window.i, window.j), least)
        share = soft_disk(window.rho(p), p[R], math.exp(p[LOG_EDGE]))
        model_error = (self.misfit + self.structure * share) * p[HEIGHT]
        never_zero = 1e-4 * p[HEIGHT]
        sigma: Float = np.sqrt(self.gain * model + model_error**2 + never_zero**2)
        return sigma


def noise_in(window: Window, p: Float, gain: float | None) -> Noise:
    """Noise as the residuals show it; `gain` where it is known."""
    residual, rho, edge = window.residual(p), window.rho(p), math.exp(p[LOG_EDGE])
    inside = rho < p[R] - 2.5 * edge - 0.5
    structure, white = _structure(window, residual, inside)
    if gain is None:
        gain = white / p[HEIGHT]
    near = np.abs(rho - p[R]) < 2.5 * edge + 0.5
    expected = gain * np.maximum(disk_model(p, window.i, window.j), 0)
    beyond = np.clip(residual, -0.5 * p[HEIGHT], 0.5 * p[HEIGHT]) ** 2 - expected
    misfit = math.sqrt(max(float(beyond[near].mean()) if near.any() else 0.0, 0.0)) / float(
        p[HEIGHT]
    )
    structure = math.sqrt(structure) / float(p[HEIGHT])
    return Noise(gain, misfit, structure if structure > STRUCTURE else 0.0)


def _structure(window: Window, residual: Float, inside: Bool) -> tuple[float, float]:
    """Variance inside the disk that neighbouring pixels share, and what is left: white noise.

    A smooth surface (second order) is no structure.  The covariance of neighbours does not contain
    counting noise, whatever the gain; below five times its own uncertainty it counts as zero.
    """
    if inside.sum() < 12:
        return 0.0, 0.0
    i, j = window.i[inside], window.j[inside]
    x, y = i - i.mean(), j - j.mean()
    surface = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    rest = residual[inside] - surface @ np.linalg.lstsq(surface, residual[inside], rcond=None)[0]
    image = np.full(window.shape, np.nan)
    image[i.astype(int), j.astype(int)] = rest
    pairs = np.concatenate(
        [(image[1:] * image[:-1]).ravel(), (image[:, 1:] * image[:, :-1]).ravel()]
    )
    pairs = pairs[np.isfinite(pairs)]
    total = float((rest**2).sum() / max(len(rest) - 6, 1))
    if len(pairs) < 12:
        return 0.0, total
    shared = float(pairs.mean())
    if shared < 5 * total / math.sqrt(len(pairs)):
        return 0.0, total
    return shared, max(total - shared, 0.0)


def believable(window: Window, p: Float, noise: Noise) -> Bool:
    """Pixels that are no outliers: neither defects nor parts of another disk."""
    # One electron where none is expected is no outlier.
    ratio = window.residual(p) / np.hypot(noise.sigma(window, p), noise.gain)
    typical = max(1.0, 1.4826 * float(np.median(np.abs(ratio))))
    keep: Bool = np.abs(ratio) < 6 * typical
    return keep
