"""The passes of a fit: roughly, refined, at the rim alone, as a circle."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.process.rim.guess import filled, first_guess
from py4DSTEM.process.rim.least_squares import solve
from py4DSTEM.process.rim.model import BACK, CX, CY, E1, HEIGHT, LOG_EDGE, RAMP_X, R
from py4DSTEM.process.rim.noise import Noise, believable, noise_in
from py4DSTEM.process.rim.window import (
    ENOUGH_PIXELS,
    Window,
    check_inside,
    saturation_level,
    window_about,
)

__all__ = ["Fit", "circular", "elliptical", "outermost", "refined", "rough_fit"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

SIGNIFICANT_CHI2 = 11.83
"""χ² of two parameters that chance exceeds as seldom as three sigma of one."""
_PASSES = 4


@dataclass(frozen=True, eq=False)
class Fit:
    """Where the fit stands: pixels, parameters, which are free, their covariance, the noise."""

    window: Window
    p: Float
    free: Bool
    covariance: Float
    noise: Noise

    def scale(self) -> float:
        """Reduced χ² of the disk and its rim; pixels that see next to nothing would dilute it."""
        p, window = self.p, self.window
        lit = window.rho(p) < p[R] + 2 * math.exp(p[LOG_EDGE]) + 0.5
        chi2 = float(((window.residual(p) / self.noise.sigma(window, p))[lit] ** 2).sum())
        return chi2 / max(int(lit.sum()) - int(self.free.sum()), 1)


def rough_fit(values: Float, known: Bool, gain: float | None) -> tuple[Float, float]:
    """Parameters of a level circle, and the level of saturation."""
    cx, cy, radius, height = first_guess(filled(values, known), gain)
    check_inside(cx, cy, radius, values.shape)
    p = np.array([cx, cy, radius, math.log(max(0.5, 0.1 * radius)), height, 0, 0, 0, 0, 0], float)
    ceiling = saturation_level(values, known, height)
    free = np.arange(10) < RAMP_X
    window = window_about(values, known, p, ceiling).thinned()
    p, _ = solve(window, p, np.full(len(window.i), 0.1 * height), free, "soft_l1")
    check_inside(p[CX], p[CY], p[R], values.shape)
    return p, ceiling


def refined(
    values: Float, known: Bool, p: Float, ceiling: float, whole: Bool, gain: float | None
) -> Fit:
    """Weighted fits, each with the window, the outliers and the noise of the one before."""
    for k in range(_PASSES):
        last, free = k == _PASSES - 1, whole & (np.arange(10) < (E1 if k == 0 else 10))
        window = window_about(values, known, p, ceiling)
        window = window.select(believable(window, p, noise_in(window, p, gain)))
        noise = noise_in(window, p, gain)
        solved = _solve_in_two if last else _solve_few
        p, covariance = solved(window, p, noise, free, "linear")
    return Fit(window, p, free, covariance, noise)


def outermost(fit: Fit, gain: float | None) -> Fit:
    """The fit of the outermost ring of a structured disk, whose mean is not the height of its rim.

    Spokes are outliers there, which a robust loss bears.
    """
    window, p, noise = fit.window, fit.p, fit.noise
    for solved in (_solve_few, _solve_in_two):
        ring = window.rho(p) > p[R] - 2 * math.exp(p[LOG_EDGE]) - 1.0
        part = window.select(ring)
        p = p.copy()
        bright = np.percentile(part.values, 80) if ring.any() else -math.inf
        p[HEIGHT] = bright - p[BACK]
        noise = replace(noise, structure=0.0, misfit=0.1)
        p, covariance = solved(part, p, noise, fit.free, "soft_l1")
    return Fit(part, p, fit.free, covariance, noise)


def circular(fit: Fit) -> Fit:
    """The same fit without a stretch."""
    free = fit.free & (np.arange(10) < E1)
    p = np.where(np.arange(10) < E1, fit.p, 0.0)
    p, covariance = _solve_in_two(fit.window, p, fit.noise, free, "linear")
    return Fit(fit.window, p, free, covariance, fit.noise)


def elliptical(fit: Fit) -> bool:
    """Whether the stretch is more than chance."""
    stretch, block = fit.p[E1:], fit.covariance[-2:, -2:] * fit.scale()
    return bool(stretch @ np.linalg.pinv(block) @ stretch > SIGNIFICANT_CHI2)


def _solve_few(
    window: Window, p: Float, noise: Noise, free: Bool, loss: str
) -> tuple[Float, Float]:
    """`solve` with some of the pixels, where there are many."""
    few = window.thinned()
    return solve(few, p, noise.sigma(few, p), free, loss)


def _solve_in_two(
    window: Window, p: Float, noise: Noise, free: Bool, loss: str
) -> tuple[Float, Float]:
    """`solve` with all pixels, which takes few steps from where some of them led."""
    sigma = noise.sigma(window, p)
    if len(window.values) > ENOUGH_PIXELS:
        p, _ = _solve_few(window, p, noise, free, loss)
    return solve(window, p, sigma, free, loss)
