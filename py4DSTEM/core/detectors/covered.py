"""How much of a pixel a circle or a rectangle covers, in closed form.

A pixel is a unit square that a matrix takes to a parallelogram in the units of the shape; the area
of its overlap with a disk is the sum, along its sides, of triangles within and sectors outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["within_circle", "within_rectangle"]

Float = NDArray[np.float64]
_CORNERS = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])


def within_circle(i: Float, j: Float, transform: Float, radius: float) -> Float:
    """Fraction of pixels within a circle about (0, 0), exact to rounding.

    Parameters
    ----------
    i, j : (n,) float64
        Centres of the pixels, in pixels from the centre of the circle.
    transform : (2, 2) float64
        From pixels to the units of the radius.
    radius : float

    Returns
    -------
    (n,) float64 in [0, 1]
    """
    centers = np.stack([i, j], -1) @ transform.T
    corners = _CORNERS @ transform.T
    distance, reach = np.hypot(*centers.T), np.hypot(*corners.T).max()
    fraction: Float = (distance < radius).astype(np.float64)
    crossed = np.abs(distance - radius) < reach
    area = _overlap(centers[crossed, None] + corners, radius)
    fraction[crossed] = np.minimum(area / abs(np.linalg.det(transform)), 1.0)
    return fraction


def _overlap(corners: Float, radius: float) -> Float:
    """Area (n,) of the overlap of a circle about (0, 0) with convex polygons (n, sides, 2)."""
    x, y = np.moveaxis(corners, -1, 0)
    dx, dy = np.roll(x, -1, 1) - x, np.roll(y, -1, 1) - y
    enters, leaves = _crossings(x, y, dx, dy, radius)
    ux, uy, vx, vy = x + enters * dx, y + enters * dy, x + leaves * dx, y + leaves * dy
    # A side runs outside to where it enters, inside to where it leaves, and outside to its end.
    outside = _angle(x, y, ux, uy) + _angle(vx, vy, x + dx, y + dy)
    area: Float = 0.5 * np.abs((radius**2 * outside + ux * vy - uy * vx).sum(1))
    return area


def _crossings(x: Float, y: Float, dx: Float, dy: Float, radius: float) -> tuple[Float, Float]:
    """Where along each side, 0 … 1, the circle begins and ends; the same place where it does not.

    A side that the circle does not reach is all outside: both are 0.
    """
    length2 = dx * dx + dy * dy
    along = x * dx + y * dy
    inside2 = along * along - length2 * (x * x + y * y - radius**2)
    half = np.sqrt(np.maximum(inside2, 0.0))
    reached = inside2 > 0
    enters = np.where(reached, np.clip((-along - half) / length2, 0.0, 1.0), 0.0)
    leaves = np.where(reached, np.clip((-along + half) / length2, 0.0, 1.0), 0.0)
    return enters, leaves


def _angle(ax: Float, ay: Float, bx: Float, by: Float) -> Float:
    """Angle from a to b as seen from the centre."""
    angle: Float = np.arctan2(ax * by - ay * bx, ax * bx + ay * by)
    return angle


def within_rectangle(i: Float, j: Float, steps: tuple[float, float], half: Float) -> Float:
    """Fraction of pixels within a rectangle along the axes about (0, 0), exact to rounding.

    Parameters
    ----------
    i, j : (n,) float64
        Centres of the pixels, in pixels from the centre of the rectangle.
    steps : (float, float)
        Size of a pixel, in the units of the rectangle.
    half : (2,) float64
        Half its height and width.
    """
    fraction = np.ones(len(i))
    for centers, step, reach in zip((i, j), steps, half, strict=True):
        edge = reach / abs(step)
        fraction *= np.maximum(
            0.0, np.minimum(centers + 0.5, edge) - np.maximum(centers - 0.5, -edge)
        )
    return fraction
