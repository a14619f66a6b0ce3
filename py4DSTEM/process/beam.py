"""A first look at the unscattered beam: where it is, and how large."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result

__all__ = ["Beam", "beam_doubts", "disk_of", "find_beam", "sampled_mean"]

SAMPLES = 64
RIVAL = 0.7
"""Brightness of another spot, relative to the beam, from which on it may be the beam."""
LONG, HOLLOW = 1.3, 1.5
"""Length over width, and spread over that of a filled disk of the area, of what is no disk."""
FAR = 0.25
"""Distance from the middle of the detector, as a part of its smaller side."""


@dataclass(frozen=True, eq=False)
class Beam:
    """The brightest disk of a pattern.

    Parameters
    ----------
    center : (float, float)
        (qx, qy) in pixels.
    radius_px : float
        Radius of a disk with the area above half of its own brightness.
    pattern : (Qx, Qy) float64
        What it was found in.
    """

    center: tuple[float, float]
    radius_px: float
    pattern: NDArray[np.float64]


register_result("beam", Beam)


def sampled_mean(cube: Cube, samples: int = SAMPLES) -> NDArray[np.float64]:
    """Mean of about `samples` patterns spread evenly over the scan, (Qx, Qy) float64.

    Reads those patterns only, whatever the size of the scan.
    """
    side = max(1, int(np.sqrt(samples)))
    xs, ys = (
        np.unique(np.linspace(0, n - 1, min(side, n)).round().astype(int)) for n in cube.R_shape
    )
    total, count = np.zeros(cube.Q_shape), np.zeros(cube.Q_shape)
    for x in xs:
        for y in ys:
            pattern = np.asarray(cube[int(x), int(y)].data, dtype=np.float64)
            known = np.isfinite(pattern)
            total[known] += pattern[known]
            count += known
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def disk_of(pattern: NDArray[np.float64]) -> Beam:
    """Centre and radius of the brightest disk of a pattern.

    The disk is the connected region above half of its median brightness, found from the smoothed
    maximum; one hot pixel does not attract it.

    Raises
    ------
    ParameterError
        The pattern has no intensity.
    """
    i, j = np.nonzero(_brightest(_clean(pattern)))
    return Beam((float(i.mean()), float(j.mean())), float(np.sqrt(len(i) / np.pi)), pattern)


def _brightest(clean: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The brightest connected region, (Qx, Qy) bool."""
    from scipy import ndimage  # slow to import

    smooth = ndimage.gaussian_filter(clean, 1.0)
    if smooth.max() <= 0:
        raise ParameterError("no beam in an empty pattern: give a center and a radius")
    peak = np.unravel_index(int(smooth.argmax()), smooth.shape)
    level = 0.5 * float(smooth[peak])
    for _ in range(3):
        region = _region(smooth, peak, level)
        level = 0.5 * float(np.median(clean[region]))
    return _region(smooth, peak, level)


def _clean(pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without single hot or dead pixels, and without what is no number."""
    from scipy import ndimage  # slow to import

    known = np.nan_to_num(pattern, nan=0.0, posinf=0.0, neginf=0.0)
    clean: NDArray[np.float64] = ndimage.median_filter(known, 3)
    return clean


def _region(
    smooth: NDArray[np.float64], peak: tuple[np.intp, ...], level: float
) -> NDArray[np.bool_]:
    from scipy import ndimage  # slow to import

    labels, _ = ndimage.label(smooth > min(level, 0.999 * float(smooth[peak])))
    region: NDArray[np.bool_] = labels == labels[peak]
    return region


def find_beam(cube: Cube, samples: int = SAMPLES) -> Beam:
    """Centre and radius of the unscattered beam from a few patterns; for a first look.

    Parameters
    ----------
    cube : DataCube
    samples : int
        Patterns that are averaged, spread over the scan.

    Returns
    -------
    Beam
        ``.center`` (qx, qy) and ``.radius_px`` in pixels; `measure_probe` and `measure_origin` are
        the precise ways.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube, Disk, Calibration
    >>> disk = Disk(6.0, center=(15.0, 17.0)).weights((32, 40), Calibration())
    >>> beam = find_beam(DataCube(np.tile(1000 * disk, (4, 4, 1, 1))))
    >>> [round(v) for v in beam.center], round(beam.radius_px)
    ([15, 17], 6)
    """
    return disk_of(sampled_mean(cube, samples))


# ---- whether it is the beam ----------------------------------------------------------------------
def beam_doubts(beam: Beam) -> tuple[str, ...]:
    """Reasons why the brightest disk may not be the unscattered beam, in words.

    Parameters
    ----------
    beam : Beam
        As `find_beam` gives it.

    Returns
    -------
    tuple of str
        Empty where nothing speaks against it.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import Calibration, Disk
    >>> disks = [Disk(5.0, center=c).weights((40, 48), Calibration()) for c in ((20, 22), (20, 38))]
    >>> beam_doubts(disk_of(100 * disks[0] + 30 * disks[1]))
    ()
    >>> beam_doubts(disk_of(100 * disks[0] + 95 * disks[1]))
    ('another spot, at (20, 38) px, is 0.95 times as bright',)
    """
    clean = _clean(beam.pattern)
    region = _brightest(clean)
    if 2 * np.count_nonzero(region) > region.size:
        return ("nothing is twice as bright as the rest of the detector",)
    core = float(np.median(clean[region]))
    # Of a spot of a few pixels the median filter leaves little, and the rest is its surroundings.
    if beam.radius_px < 1 or core < 0.2 * float(clean.max()):
        small: tuple[str, ...] = (
            "only a few pixels are bright: they may be hot, and the radius is uncertain",
        )
    else:
        small = ()
    return (*small, *_misplaced(beam, clean.shape), *_shapeless(region),
            *_rivals(clean, beam, core))  # fmt: skip


def _misplaced(beam: Beam, shape: tuple[int, ...]) -> Iterator[str]:
    if any(c - beam.radius_px < -1 or c + beam.radius_px > n
           for c, n in zip(beam.center, shape, strict=True)):  # fmt: skip
        yield "the edge of the detector cuts it: its middle is elsewhere"
    offset = math.dist(beam.center, [(n - 1) / 2 for n in shape])
    if offset > FAR * min(shape):
        yield f"it is {offset:.0f} px from the middle of the detector"


def _shapeless(region: NDArray[np.bool_]) -> Iterator[str]:
    """By the second moments of the bright region, which those of a disk are known for."""
    place = np.argwhere(region).astype(np.float64)
    if len(place) < 12:
        return
    # A pixel has an extent of its own: 1/12 of its area.
    small, large = np.linalg.eigvalsh(np.cov(place.T) + np.eye(2) / 12)
    long = float(np.sqrt(large / small))
    spread = float((small + large) * 2 * np.pi / len(place))
    if long > LONG:
        yield f"it is not round: {long:.2g} times as long as wide"
    elif spread > HOLLOW:
        yield "it is no filled disk: it has a hole or arms"


def _rivals(clean: NDArray[np.float64], beam: Beam, core: float) -> Iterator[str]:
    """The brightest other spot that is as large as a good part of the beam."""
    from scipy import ndimage  # slow to import

    i, j = np.indices(clean.shape)
    far = np.hypot(i - beam.center[0], j - beam.center[1])
    radius = max(beam.radius_px, 1.0)
    outside = np.where(far > 1.2 * radius + 1, clean, 0.0)
    labels, count = ndimage.label(outside > 0.5 * RIVAL * core)
    if not count:
        return
    numbers = np.arange(1, count + 1)
    areas = ndimage.sum_labels(np.ones_like(outside), labels, numbers)
    heights = ndimage.median(outside, labels, numbers)
    heights = np.where(areas >= 0.3 * np.pi * radius**2, heights, 0.0)
    best = int(heights.argmax())
    if heights[best] > RIVAL * core:
        x, y = ndimage.center_of_mass(outside, labels, best + 1)
        ratio = float(heights[best]) / core
        yield f"another spot, at ({x:.0f}, {y:.0f}) px, is {ratio:.2f} times as bright"
