"""What a place on an image means: distance from the beam, spacing, position in the specimen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.units import is_angle, is_reciprocal, unit_factor

__all__ = ["Place", "place_on_pattern"]


@dataclass(frozen=True)
class Place:
    """A place on a diffraction pattern.

    Parameters
    ----------
    q_px : float, optional
        Distance from the unscattered beam in pixels, corrected for the ellipse; None without an
        origin.
    q : float, optional
        The same in `unit`; None where the pixel size is not known.
    unit : str
    spacing_A : float, optional
        The lattice spacing ``1 / |q|`` that scatters there, in Å.
    """

    q_px: float | None = None
    q: float | None = None
    unit: str = "px"
    spacing_A: float | None = None


def place_on_pattern(calibration: Calibration, qx: float, qy: float) -> Place:
    """Where a detector position lies in reciprocal space.

    Parameters
    ----------
    calibration : Calibration
    qx, qy : float
        In pixels.

    Returns
    -------
    Place
        What is not calibrated is None.

    Examples
    --------
    >>> known = Calibration(origin_px=(3, 4)).replace(Q_pixel_size=0.02, Q_pixel_units="A^-1")
    >>> place = place_on_pattern(known, 3, 29)
    >>> place.q_px, place.q, place.unit, place.spacing_A
    (25.0, 0.5, 'A^-1', 2.0)
    """
    if calibration.origin_px is None:
        return Place()
    offset = np.subtract((qx, qy), calibration.mean_origin_px)
    q_px = float(np.hypot(*(calibration.Q_matrix() @ offset)))
    unit = calibration.Q_pixel_units
    if unit == "px":
        return Place(q_px)
    q = float(np.hypot(*(calibration.Q_matrix(unit) @ offset)))
    return Place(q_px, q, unit, _spacing_A(calibration, q, unit))


def _spacing_A(calibration: Calibration, q: float, unit: str) -> float | None:
    if is_reciprocal(unit):
        per_A = q * unit_factor(unit, "A^-1")
    elif is_angle(unit) and calibration.energy_eV is not None:
        per_A = q * unit_factor(unit, "rad") / calibration.wavelength_A
    else:
        return None
    return 1 / per_A if per_A > 0 and math.isfinite(per_A) else None
