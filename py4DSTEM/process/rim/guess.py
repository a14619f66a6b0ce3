"""Where a fit begins: the brightest disk of a pattern, whatever its size and structure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import ParameterError

__all__ = ["filled", "first_guess", "spikes"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


def spikes(values: Float, known: Bool) -> Bool:
    """Pixels far above or below all eight neighbours: no disk that is resolved has them."""
    from scipy import ndimage  # slow to import

    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    # Beyond the border there is nothing: a pixel there must not be its own neighbour.
    top = ndimage.maximum_filter(
        np.where(known, values, -np.inf), footprint=ring, mode="constant", cval=-np.inf
    )
    low = ndimage.minimum_filter(
        np.where(known, values, np.inf), footprint=ring, mode="constant", cval=np.inf
    )
    top, low = np.where(np.isfinite(top), top, 0.0), np.where(np.isfinite(low), low, 0.0)
    noise = 5 * np.sqrt(np.maximum(np.abs(top), np.abs(low)))
    hot = (values > 2 * np.abs(top) + noise) & known
    dead = (values < low / 2 - noise) & known
    spikes: Bool = hot | dead
    return spikes


def filled(values: Float, known: Bool) -> Float:
    """Unknown pixels replaced by the median of their neighbours."""
    from scipy import ndimage  # slow to import

    return np.where(known, values, ndimage.median_filter(np.where(known, values, 0.0), 5))


def first_guess(values: Float, gain: float | None) -> tuple[float, float, float, float]:
    """Centre, radius and height of the brightest disk; a rim cut by the detector is completed."""
    from scipy import ndimage  # slow to import

    for width in (0.7, 1.4, 2.8, 5.6):
        smooth = ndimage.gaussian_filter(values, width)
        counts = smooth.max() * 4 * math.pi * width**2 / (gain or 1.0)
        if gain is None or counts > 100:  # enough for a half level that noise does not cross
            break
    if smooth.max() <= 0:
        raise ParameterError(
            "no beam in an empty pattern: give a pattern with the unscattered disk"
        )
    peak = np.unravel_index(int(smooth.argmax()), smooth.shape)
    level = 0.5 * float(smooth[peak])
    for _ in range(3):
        region = _around(smooth > level, peak)
        level = min(0.5 * float(np.median(smooth[region])), 0.99 * float(smooth[peak]))
    region = _closed(smooth > level, peak)
    cx, cy, radius = _circle(region)
    return cx, cy, radius, 2 * level


def _around(bright: Bool, peak: tuple[np.intp, ...]) -> Bool:
    from scipy import ndimage  # slow to import

    labels, _ = ndimage.label(bright)
    region: Bool = labels == labels[peak]
    return region if bright[peak] else np.zeros_like(bright)


def _closed(bright: Bool, peak: tuple[np.intp, ...]) -> Bool:
    """The region of the peak, joined over the dark rings and spokes of a structured aperture.

    A larger region is taken where it is as round as a disk; two disks together are not.
    """
    from scipy import ndimage  # slow to import

    region: Bool = ndimage.binary_fill_holes(_around(bright, peak))
    for _ in range(8):
        reach = max(1, round(0.35 * math.sqrt(region.sum() / math.pi)))
        # Closing by a circle: all within reach of the region, but what is in reach of the rest.
        within = ndimage.distance_transform_edt(~np.pad(bright | region, reach)) <= reach
        joined = (ndimage.distance_transform_edt(within) > reach)[reach:-reach, reach:-reach]
        larger = ndimage.binary_fill_holes(_around(joined, peak))
        if larger.sum() <= 1.05 * region.sum() or _roundness(larger) < 0.8:
            break
        region = larger
    return region


def _roundness(region: Bool) -> float:
    """Area over that of the circle about it; one for a disk."""
    i, j = np.nonzero(region)
    farthest = float(np.hypot(i - i.mean(), j - j.mean()).max()) + 0.5
    return len(i) / (math.pi * farthest**2)


def _circle(region: Bool) -> tuple[float, float, float]:
    """Circle through the outline of a region, where that is not the border of the detector."""
    from scipy import ndimage  # slow to import

    outline = region & ~ndimage.binary_erosion(region, border_value=1)
    i, j = (a.astype(float) for a in np.nonzero(outline))
    area_radius = math.sqrt(region.sum() / math.pi)
    middle = [float(a.mean()) for a in np.nonzero(region)]
    if len(i) < 6:
        return middle[0], middle[1], max(area_radius, 0.6)
    matrix = np.stack([i - middle[0], j - middle[1], np.ones_like(i)], axis=1)
    right = (matrix[:, :2] ** 2).sum(axis=1)
    a, b, c = np.linalg.lstsq(matrix, right, rcond=None)[0]
    radius = math.sqrt(max(c + (a * a + b * b) / 4, 0.36))
    return middle[0] + a / 2, middle[1] + b / 2, radius + 0.4  # outline pixels lie inside
