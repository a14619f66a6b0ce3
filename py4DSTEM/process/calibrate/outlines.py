"""What a calibration looks like on a raw pattern: rings as closed lines of detector pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.process.calibrate.ellipse import EllipseMeasurement
from py4DSTEM.process.calibrate.pixel_size import PixelSizeMeasurement

__all__ = ["ellipse_rings", "line_rings"]

Float = NDArray[np.float64]
Pair = tuple[float, float]
_POINTS = 181


def ellipse_rings(measured: EllipseMeasurement, origin_px: Pair = (0.0, 0.0)) -> tuple[Float, ...]:
    """The rings that an ellipse was fitted to.

    Parameters
    ----------
    measured : EllipseMeasurement
    origin_px : (float, float)
        Added to the centre: that of peaks is relative to their origins.

    Returns
    -------
    tuple of (n, 2) float64
        Closed lines, detector pixels, row first.

    Examples
    --------
    >>> import numpy as np, py4DSTEM
    >>> rings = py4DSTEM.simulate.powder_rings((96, 96), ellipse=(1.05, 1.0, 0.0))
    >>> found = py4DSTEM.measure_ellipse(rings.pattern)
    >>> widths = np.ptp(ellipse_rings(found)[0], axis=0)
    >>> round(float(widths[0] / widths[1]), 2)
    1.05
    """
    center = np.add(measured.center, origin_px)
    ellipse = measured.ellipse
    matrix = np.linalg.inv(_round(ellipse))
    return tuple(center + radius * _circle() @ matrix.T for radius in measured.radii_px)


def line_rings(
    measured: PixelSizeMeasurement, origin_px: Pair = (0.0, 0.0)
) -> tuple[tuple[str, Float], ...]:
    """Where a pixel size puts the lines of its reference.

    Parameters
    ----------
    measured : PixelSizeMeasurement
    origin_px : (float, float)
        As for `ellipse_rings`.

    Returns
    -------
    tuple of (str, (n, 2) float64)
        Name of each line that was used, and a closed line in detector pixels, row first.
    """
    center = np.add(measured.center, origin_px)
    ellipse, sizes = measured.calibration.ellipse, np.array(measured.pixel_size_A)
    to_q = np.diag(sizes) if ellipse is None else np.diag(sizes) @ ellipse.correction()
    if ellipse is None and measured.ellipse is not None:
        to_q = np.diag(sizes) @ _round(measured.ellipse)
    from_q = np.linalg.inv(to_q)
    return tuple(
        (str(line["label"]), center + float(line["q_A"]) * _circle() @ from_q.T)
        for line in measured.lines
    )


def _circle() -> Float:
    angle = np.linspace(0.0, 2 * math.pi, _POINTS)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _round(ellipse: Ellipse) -> Float:
    """What makes the ellipse a circle of the same area."""
    return ellipse.correction() * math.sqrt(ellipse.a / ellipse.b)
