"""A first look at the unscattered beam: where it is, and how large."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result

__all__ = ["Beam", "disk_of", "find_beam", "sampled_mean"]

SAMPLES = 64


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
    from scipy import ndimage  # slow to import

    clean = ndimage.median_filter(np.nan_to_num(pattern, nan=0.0, posinf=0.0, neginf=0.0), 3)
    smooth = ndimage.gaussian_filter(clean, 1.0)
    if smooth.max() <= 0:
        raise ParameterError("no beam in an empty pattern: give a center and a radius")
    peak = np.unravel_index(int(smooth.argmax()), smooth.shape)
    level = 0.5 * float(smooth[peak])
    for _ in range(3):
        region = _region(smooth, peak, level)
        level = 0.5 * float(np.median(clean[region]))
    region = _region(smooth, peak, level)
    i, j = np.nonzero(region)
    return Beam((float(i.mean()), float(j.mean())), float(np.sqrt(len(i) / np.pi)), pattern)


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
