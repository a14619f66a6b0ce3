"""How far rings lie from circles in every direction, before and after an ellipse is undone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.process.calibrate.ellipse import EllipseMeasurement
from py4DSTEM.process.calibrate.rings import SECTORS, Distortion, RingPixels, RingPoints
from py4DSTEM.process.calibrate.ringsource import ring_source

__all__ = ["RingAngles", "ring_angles"]

Float = NDArray[np.float64]
_FEWEST = 12
"""Pixels of a ring in one sector that tell where it is, beside its background."""


@dataclass(frozen=True, eq=False)
class RingAngles:
    """Relative deviations of rings from circles, by direction.

    Parameters
    ----------
    angle_rad : (36,) float64
        Middles of the sectors, from x (down) towards y (right), around the centre of the rings.
    before, after : (36,) float64
        Measured radius over that of the circle, less one, as measured and with the ellipse undone;
        the mean of all rings by their certainty.  NaN where no ring is clear.
    sigma : (36,) float64
        One-sigma uncertainty of both.
    curve : (2, 361) float64
        Angle (rad), and the deviation that the ellipse itself has.
    """

    angle_rad: Float
    before: Float
    after: Float
    sigma: Float
    curve: Float


def ring_angles(measured: EllipseMeasurement, source: DiffractionSlice | PointTable) -> RingAngles:
    """How far rings lie from circles in every direction, before and after the ellipse.

    Parameters
    ----------
    measured : EllipseMeasurement
    source : DiffractionSlice or PointTable
        What it was measured in.

    Returns
    -------
    RingAngles
        What is left after the ellipse is what no ellipse describes: lens distortions of other
        symmetry, rings that are none, a wrong centre.

    Raises
    ------
    ParameterError, ShapeError
        Rings cannot be measured in such a source.

    Notes
    -----
    In a sector the intensity near a ring is ``a + b r + c M(r) + d M'(r)`` with ``M`` the mean over
    all directions; the ring lies ``-d / c`` further out.  Peaks give their own radii.
    """
    center = measured.center
    data = ring_source(source, center=center, inner_px=None, outer_px=None, corrected=False).data
    distortion = _distortion(measured)
    shifts = _of_pixels if isinstance(data, RingPixels) else _of_points
    relative, weight = shifts(data, distortion, measured.radii_px, measured.widths_px)  # type: ignore[arg-type]
    total = weight.sum(0)
    known = total > 0
    after, sigma = np.full(SECTORS, np.nan), np.full(SECTORS, np.nan)
    after[known] = (weight * relative).sum(0)[known] / total[known]
    sigma[known] = 1 / np.sqrt(total[known])
    angle = (np.arange(SECTORS) + 0.5) * 2 * math.pi / SECTORS
    dense = np.linspace(0, 2 * math.pi, 361)
    before = (1 + after) * _stretch(distortion, angle) - 1
    return RingAngles(angle, before, after, sigma,
                      np.stack([dense, _stretch(distortion, dense) - 1]))  # fmt: skip


def _distortion(measured: EllipseMeasurement) -> Distortion:
    h, theta = math.log(measured.ratio) / 2, measured.ellipse.theta_rad
    return Distortion(*measured.center, h * math.cos(2 * theta), h * math.sin(2 * theta))


def _stretch(distortion: Distortion, angle: Float) -> Float:
    """Radius of the ellipse in a direction, over that of the circle of the same area."""
    directions = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    stretch: Float = 1 / np.hypot(*(directions @ distortion.matrix()).T)
    return stretch


def _sectors(xy: Float, distortion: Distortion) -> NDArray[np.int64]:
    azimuth = np.arctan2(xy[:, 1] - distortion.cy, xy[:, 0] - distortion.cx)
    sectors: NDArray[np.int64] = np.floor(azimuth / (2 * math.pi) * SECTORS).astype(np.int64)
    return sectors % SECTORS


def _of_points(
    data: RingPoints, distortion: Distortion, radii: Float, widths: Float
) -> tuple[Float, Float]:
    """Relative shift and its weight, (rings, sectors) each."""
    found, sector = distortion.radii(data.xy), _sectors(data.xy, distortion)
    ring = np.abs(found[:, None] - radii).argmin(1)
    offset = found / radii[ring] - 1
    kept = np.abs(found - radii[ring]) <= np.maximum(1.7 * widths[ring], 0.75)
    place = (ring * SECTORS + sector)[kept]
    size = len(radii) * SECTORS
    count = np.bincount(place, minlength=size)
    mean = np.bincount(place, offset[kept], size) / np.maximum(count, 1)
    spread = np.repeat(np.maximum(widths, 1e-6) / 2.355 / radii, SECTORS)
    return mean.reshape(-1, SECTORS), (count / spread**2).reshape(-1, SECTORS)


def _of_pixels(
    data: RingPixels, distortion: Distortion, radii: Float, widths: Float
) -> tuple[Float, Float]:
    """Relative shift and its weight, (rings, sectors) each."""
    shape = (len(radii), SECTORS)
    relative, weight = np.zeros(shape), np.zeros(shape)
    profile = data.profile(distortion, 0.5)
    slope = np.gradient(profile.mean, 0.5)
    middles = np.concatenate([[0.0], (radii[1:] + radii[:-1]) / 2, [math.inf]])
    for k, (radius, width) in enumerate(zip(radii, widths, strict=True)):
        low, high = max(radius - 1.5 * width, middles[k]), min(radius + 1.5 * width, middles[k + 1])
        near = data.between(distortion, low, high)
        r = distortion.radii(near.xy)
        terms = np.stack([np.ones(len(r)), r - radius, np.interp(r, profile.radius, profile.mean),
                          np.interp(r, profile.radius, slope)], axis=1)  # fmt: skip
        sector = _sectors(near.xy, distortion)
        for s in range(SECTORS):
            here = sector == s
            shift, sigma = _shift(terms[here], near.counts[here])
            if sigma < width:
                relative[k, s], weight[k, s] = shift / radius, (radius / sigma) ** 2
    return relative, weight


def _shift(terms: Float, counts: Float) -> tuple[float, float]:
    """How much further out a ring lies than its mean, and the uncertainty; inf: it is not there."""
    if len(counts) < _FEWEST:
        return 0.0, math.inf
    scale = np.maximum(np.abs(terms).max(0), 1e-300)
    inverse = np.linalg.pinv(terms / scale, rcond=1e-8)
    found = inverse @ counts
    left = counts - terms / scale @ found
    sigma = np.sqrt((inverse**2).sum(1) * (left @ left) / (len(counts) - terms.shape[1]))
    height, moved = found[2:] / scale[2:]
    noise = sigma[2:] / scale[2:]
    if not height > 3 * noise[0]:
        return 0.0, math.inf
    return float(-moved / height), float(max(noise[1] / height, 1e-6))
