"""The lengths of detectors by name, and the same detector measured in another unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.detector import Detector
from py4DSTEM.core.detectors.base import Units
from py4DSTEM.core.edges import frame_of
from py4DSTEM.errors import ParameterError

__all__ = ["LENGTHS", "UNITS", "in_units"]

UNITS: tuple[str, ...] = get_args(Units)

LENGTHS: dict[str, tuple[str, ...]] = {
    "point": (),
    "disk": ("radius",),
    "annulus": ("inner", "outer"),
    "rectangle": ("height", "width"),
    "segment": ("inner", "outer"),
    "ellipse": ("a", "b"),
    "polygon": ("vertices",),
    "lattice": ("radius", "g1", "g2"),
    "mask": (),
}
"""Fields of a shape that are lengths, by its kind."""


def in_units(detector: Detector, units: str, calibration: Calibration) -> Detector:
    """The same detector with its lengths in another unit.

    Parameters
    ----------
    detector : Detector
    units : "px", "mrad", "A^-1" or "nm^-1"
    calibration : Calibration
        With the pixel size.  Where the pattern is elliptic, a circle in physical units is an
        ellipse in pixels: its area stays.

    Returns
    -------
    Detector
        Of the same kind; points and masks have no lengths and stay as they are.

    Raises
    ------
    CalibrationMissing
        The pixel size, or the energy to get from angles to Å⁻¹, is not known.

    Examples
    --------
    >>> from py4DSTEM import Disk
    >>> known = Calibration(origin_px=(8, 8)).replace(Q_pixel_size=0.5, Q_pixel_units="mrad")
    >>> in_units(Disk(6.0), "mrad", known)
    Disk(radius=3.0, center=None, units='mrad', kind='disk')
    """
    if units not in UNITS:
        raise ParameterError(f"lengths are in {', '.join(UNITS)}, not {units!r}")
    names = LENGTHS.get(detector.kind, ())
    if units == detector.units or not names:
        return detector
    there: Any = replace(detector, units=units)  # type: ignore[type-var]
    centered = calibration if calibration.origin_px is not None else (
        calibration.replace(origin_px=(0.0, 0.0)))  # fmt: skip
    factor = frame_of(there, centered).unit_per_px / frame_of(detector, centered).unit_per_px
    changes = {name: _scaled(getattr(detector, name), factor) for name in names}
    new: Detector = replace(detector, units=units, **changes)  # type: ignore[type-var]
    return new


def _scaled(value: Any, factor: float) -> Any:
    scaled = (np.asarray(value, dtype=np.float64) * factor).tolist()
    return tuple(map(tuple, scaled)) if np.ndim(value) == 2 else (
        tuple(scaled) if np.ndim(value) == 1 else scaled)  # fmt: skip
