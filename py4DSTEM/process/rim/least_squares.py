"""The parameters that a window of pixels asks for, by least squares within bounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import SolveError
from py4DSTEM.process.rim.model import CX, CY, HEIGHT, R
from py4DSTEM.process.rim.window import Window, no_disk

__all__ = ["as_is", "compressed", "softened", "solve"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Problem = Callable[[Float], tuple[Float, Float]]
"""Residuals and their derivatives by the unknowns."""
Loss = Callable[[Float, Float], tuple[Float, Float]]
"""What a loss makes of the two."""

_STEPS = 60
"""Most steps of a fit: a disk takes 5 to 30; what is no disk would take hundreds, for nothing."""


def solve(window: Window, p: Float, noise: Float, free: Bool, loss: str) -> tuple[Float, Float]:
    """Parameters and covariance (free ones, before scaling)."""
    from scipy.optimize import least_squares  # slow to import

    if not p[HEIGHT] > 0:
        raise no_disk("its brightest region is not brighter than what surrounds it")

    def whole(part: Float) -> Float:
        q = p.copy()
        q[free] = part
        return q

    def scaled(part: Float) -> tuple[Float, Float]:
        q = whole(part)
        return window.residual(q) / noise, window.slopes(q)[:, free] / noise[:, None]

    problem = _Compressed(scaled, softened if loss == "soft_l1" else as_is)
    low, high = _bounds(p, window.shape, free)
    start = np.clip(p[free], low + 1e-9 * (high - low), high - 1e-9 * (high - low))
    scale = np.array([1, 1, 1, 0.3, p[HEIGHT], p[HEIGHT], 1, 1, 0.1, 0.1])[free]
    found = least_squares(
        problem.residual, start, problem.slopes, (low, high), x_scale=scale, max_nfev=_STEPS
    )
    if not np.isfinite(found.x).all():
        raise SolveError("the fit of the disk met numbers that are not finite")
    residual, slopes = scaled(found.x)
    if loss == "soft_l1":  # curvature of the loss
        slopes = slopes * (1 + residual**2)[:, None] ** -0.75
    covariance = np.asarray(np.linalg.pinv(slopes.T @ slopes), np.float64)
    return whole(found.x), covariance


def _bounds(p: Float, shape: tuple[int, int], free: Bool) -> tuple[Float, Float]:
    radius, height = p[R], abs(p[HEIGHT])
    low = np.array(
        [p[CX] - radius, p[CY] - radius, 0.3, math.log(0.08), 1e-3 * height, -height,
         -1.5, -1.5, -0.3, -0.3]
    )  # fmt: skip
    high = np.array(
        [p[CX] + radius, p[CY] + radius, 2.0 * max(shape), math.log(radius + 1), 50 * height,
         2 * height, 1.5, 1.5, 0.3, 0.3]
    )  # fmt: skip
    return low[free], high[free]


class _Compressed:
    """A problem of least squares over many pixels as one with as many rows as unknowns, plus one.

    With ``J = QR`` the rows ``(Qᵀf, |f − QQᵀf|)`` have the same sum of squares as the residuals f,
    and with ``(R, 0)`` for derivatives the same steps, without a decomposition of all pixels.
    """

    def __init__(self, problem: Problem, loss: Loss) -> None:
        self._problem, self._loss = problem, loss
        self._last: tuple[bytes, Float, Float] = (b"", np.empty(0), np.empty((0, 0)))

    def residual(self, x: Float) -> Float:
        return self._at(x)[1]

    def slopes(self, x: Float) -> Float:
        return self._at(x)[2]

    def _at(self, x: Float) -> tuple[bytes, Float, Float]:
        if self._last[0] != x.tobytes():
            self._last = (x.tobytes(), *compressed(*self._loss(*self._problem(x))))
        return self._last


def compressed(residual: Float, slopes: Float) -> tuple[Float, Float]:
    """As few rows as there are unknowns, and one; see `_Compressed`."""
    normal, gradient = slopes.T @ slopes, slopes.T @ residual
    if not (np.isfinite(normal).all() and np.isfinite(gradient).all()):
        raise SolveError("the fit of the disk met numbers that are not finite")
    size = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    values, vectors = np.linalg.eigh(normal / size / size[:, None])
    seen = values > 1e-14 * len(size)
    root = np.sqrt(np.where(seen, values, 1.0))
    along = np.where(seen, vectors.T @ (gradient / size) / root, 0.0)
    across = math.sqrt(max(float(residual @ residual - along @ along), 0.0))
    triangle = np.where(seen, root, 0.0)[:, None] * vectors.T * size
    return np.append(along, across), np.vstack([triangle, np.zeros(len(size))])


def as_is(residual: Float, slopes: Float) -> tuple[Float, Float]:
    """The loss of plain least squares."""
    return residual, slopes


def softened(residual: Float, slopes: Float) -> tuple[Float, Float]:
    """Outliers count less: the square of ``f`` becomes ``2 (√(1 + f²) − 1)``."""
    root = np.sqrt(1 + residual**2)
    # √(1 + f²) − 1 = f² / (√(1 + f²) + 1), without loss of digits
    share = np.sqrt(2 / (root + 1))
    return residual * share, slopes * (1 / (root * share))[:, None]
