"""What a place on a pattern or a scan means, in words."""

from __future__ import annotations

import math

import numpy as np

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.units import is_angle, is_reciprocal, unit_factor

__all__ = ["q_text", "spacing_A", "spacing_text"]


def spacing_A(q: float, unit: str, calibration: Calibration) -> float | None:
    """The spacing 1/q in Å; None where it is not known, or infinite.

    >>> spacing_A(0.25, "A^-1", Calibration())
    4.0
    """
    if not (math.isfinite(q) and q > 0):
        return None
    if is_reciprocal(unit):
        return 1 / (q * unit_factor(unit, "A^-1"))
    if is_angle(unit) and calibration.energy_eV is not None:
        return calibration.wavelength_A / (q * unit_factor(unit, "rad"))
    return None


def spacing_text(q: float, unit: str, calibration: Calibration) -> str:
    """
    >>> spacing_text(0.25, "A^-1", Calibration())
    '1/q = 4 Å'
    >>> spacing_text(3.0, "px", Calibration())
    ''
    """
    spacing = spacing_A(q, unit, calibration)
    return "" if spacing is None else f"1/q = {spacing:.3g} Å"


def q_text(place: tuple[float, float], calibration: Calibration) -> str:
    """Distance of a place on the detector from the origin, and the spacing that belongs to it.

    Parameters
    ----------
    place : (float, float)
        ``(qx, qy)`` in pixels.
    calibration : Calibration

    Returns
    -------
    str
        "" where the origin is not known; pixels where the pixel size is not.

    Examples
    --------
    >>> known = Calibration().replace(origin_px=(8, 8), Q_pixel_size=0.05, Q_pixel_units="A^-1")
    >>> q_text((8, 12), known)
    'q = 0.2 Å⁻¹, 1/q = 5 Å'
    """
    unit = calibration.Q[0].unit
    try:
        origin = np.array(calibration.mean_origin_px)
        matrix = calibration.Q_matrix(unit)
    except Py4DSTEMError:
        return ""
    q = float(np.hypot(*(matrix @ (np.array(place) - origin))))
    spacing = spacing_text(q, unit, calibration)
    shown = {"A^-1": "Å⁻¹", "nm^-1": "nm⁻¹"}.get(unit, unit)
    return f"q = {q:.4g} {shown}" + (f", {spacing}" if spacing else "")
