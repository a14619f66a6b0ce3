"""A soft-edged, possibly elliptical disk, and how it changes with each of its parameters."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Ellipse

__all__ = ["disk_model", "disk_slopes", "ellipse_of", "rim_radius", "soft_disk"]

Float = NDArray[np.float64]

# Order of the parameters: centre, radius, log edge, height, background, ramp, stretch.
CX, CY, R, LOG_EDGE, HEIGHT, BACK, RAMP_X, RAMP_Y, E1, E2 = range(10)


def rim_radius(x: ArrayLike, y: ArrayLike, rim: Ellipse) -> Float:
    """Distance of offsets (x, y) from the centre in the metric of the rim.

    ``ρ = √(ab) √((u/a)² + (v/b)²)``, u along the semi-axis a: on the rim ρ is the geometric mean of
    the semi-axes; areas are kept.
    """
    metric = rim.correction() * math.sqrt(rim.a / rim.b)
    x, y = np.asarray(x, float), np.asarray(y, float)
    u, v = metric[0, 0] * x + metric[0, 1] * y, metric[1, 0] * x + metric[1, 1] * y
    radius: Float = np.hypot(u, v)
    return radius


def soft_disk(rho: ArrayLike, radius_px: float, edge_px: float) -> Float:
    """``erfc((ρ − R)/(√2 σ)) / 2``: one inside, one half on the rim, zero outside."""
    from scipy.special import erfc  # slow to import

    disk: Float = 0.5 * erfc((np.asarray(rho, float) - radius_px) / (math.sqrt(2) * edge_px))
    return disk


def ellipse_of(radius_px: float, stretch: Float) -> Ellipse:
    """Semi-axes ``R e^{±ε}`` with ``(ε cos 2θ, ε sin 2θ) = stretch``."""
    strength = math.hypot(*stretch)
    theta = 0.5 * math.atan2(stretch[1], stretch[0]) % math.pi if strength else 0.0
    factor = math.exp(strength)
    return Ellipse(radius_px * factor, radius_px / factor, theta)


def disk_model(p: Float, i: Float, j: Float) -> Float:
    """Values of the disk of parameters p at the pixels (i, j)."""
    x, y = i - p[CX], j - p[CY]
    rho = rim_radius(x, y, ellipse_of(p[R], p[E1:]))
    level = p[HEIGHT] * (1 + (p[RAMP_X] * x + p[RAMP_Y] * y) / p[R])
    model: Float = p[BACK] + level * soft_disk(rho, p[R], math.exp(p[LOG_EDGE]))
    return model


def disk_slopes(p: Float, i: Float, j: Float) -> Float:
    """Derivatives of the model by its parameters, (pixels, 10).

    With ``(ε₁, ε₂)`` the stretch and ``ε`` its length,
    ``ρ² = cosh(2ε) (x² + y²) − sinh(2ε)/ε (ε₁ (x² − y²) + 2 ε₂ x y)``.
    """
    x, y = i - p[CX], j - p[CY]
    radius, edge, (e1, e2) = p[R], math.exp(p[LOG_EDGE]), p[E1:]
    even, odd, odder = _stretching(math.hypot(e1, e2))
    square, cross = x * x - y * y, 2 * x * y
    rho = np.sqrt(
        np.maximum(even * (x * x + y * y) - odd * (e1 * square + e2 * cross), 1e-12 * radius**2)
    )
    shift = 1 + (p[RAMP_X] * x + p[RAMP_Y] * y) / radius
    disk = soft_disk(rho, radius, edge)
    fall = np.exp(-0.5 * ((rho - radius) / edge) ** 2) / (math.sqrt(2 * math.pi) * edge)
    rim = p[HEIGHT] * shift * fall  # minus the derivative by ρ
    along = (2 * odd * (x * x + y * y) - odder * (e1 * square + e2 * cross)) / (2 * rho)
    slopes = np.empty((len(i), 10))
    height = p[HEIGHT] / radius * disk
    slopes[:, CX] = rim * ((even - odd * e1) * x - odd * e2 * y) / rho - p[RAMP_X] * height
    slopes[:, CY] = rim * ((even + odd * e1) * y - odd * e2 * x) / rho - p[RAMP_Y] * height
    slopes[:, R] = rim - (shift - 1) * height
    slopes[:, LOG_EDGE] = rim * (rho - radius)
    slopes[:, HEIGHT] = shift * disk
    slopes[:, BACK] = 1.0
    slopes[:, RAMP_X], slopes[:, RAMP_Y] = height * x, height * y
    slopes[:, E1] = rim * (odd * square / (2 * rho) - e1 * along)
    slopes[:, E2] = rim * (odd * cross / (2 * rho) - e2 * along)
    return slopes


def _stretching(strength: float) -> tuple[float, float, float]:
    """``cosh(2ε)``, ``sinh(2ε)/ε`` and the derivative of the latter over ε."""
    even = math.cosh(2 * strength)
    if strength < 1e-3:  # series: the quotients lose digits
        return even, 2 + 4 / 3 * strength**2, 8 / 3 + 16 / 15 * strength**2
    odd = math.sinh(2 * strength) / strength
    return even, odd, (2 * even - odd) / strength**2
