"""All detector shapes, as one type and in the usual sets."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.detectors.base import Center, Detector, Units, pixel_transform, ring
from py4DSTEM.core.detectors.lattice import DiskLattice
from py4DSTEM.core.detectors.mask import Mask, MaskArray
from py4DSTEM.core.detectors.polygon import Polygon
from py4DSTEM.core.detectors.simple import Annulus, Disk, EllipseDisk, Point, Rectangle, Segment
from py4DSTEM.errors import CalibrationMissing, ParameterError

__all__ = [
    "Annulus",
    "AnyDetector",
    "Detector",
    "Disk",
    "DiskLattice",
    "EllipseDisk",
    "Mask",
    "MaskArray",
    "Point",
    "Polygon",
    "Rectangle",
    "Segment",
    "dpc_segments",
    "pixel_transform",
    "presets",
    "segments",
]

AnyDetector = Annotated[
    Point | Disk | Annulus | Rectangle | Segment | EllipseDisk | Polygon | DiskLattice | Mask,
    Field(discriminator="kind"),
]


def segments(
    count: int,
    inner: float,
    outer: float,
    *,
    start_rad: float = 0.0,
    center: Center = None,
    units: Units = "px",
) -> dict[str, Segment]:
    """Cut an annulus into equal segments.

    Parameters
    ----------
    count : int
    inner, outer : float
        Radii in `units`.
    start_rad : float
        Direction in which the first begins, from x (down) towards y (right).
    center, units
        As for `Segment`.

    Returns
    -------
    dict of str to Segment
        Named ``"s0"``, ``"s1"``, …

    Examples
    --------
    >>> sorted(segments(4, 2, 5))
    ['s0', 's1', 's2', 's3']
    """
    if not 1 <= count <= 64:
        raise ParameterError(f"count must be between 1 and 64, not {count!r}")
    step = 2 * math.pi / count
    return {
        f"s{k}": Segment(
            inner, outer, start_rad + k * step, start_rad + (k + 1) * step, center, units
        )
        for k in range(count)
    }


# Inner and outer radius in units of the convergence semi-angle.
_PRESETS = {"bf": (0.0, 1.0), "abf": (0.5, 1.0), "laadf": (1.1, 3.0), "haadf": (3.0, math.inf)}


def presets(calibration: Calibration, Q_shape: tuple[int, int]) -> dict[str, Detector]:
    """The usual STEM detectors, from the convergence angle.

    ========  =====================================
    bf        0 … α
    abf       α/2 … α
    laadf     1.1 α … 3 α
    haadf     3 α … edge of the detector
    ========  =====================================

    Rings that lie outside the detector are left out.

    Raises
    ------
    CalibrationMissing
        Neither `probe_radius_px` nor `semiangle_mrad` with a pixel size is known, or no origin.
    """
    radius = calibration.semiangle_px()
    if calibration.origin_px is None:
        raise CalibrationMissing("origin", "find_beam(cube) finds it; or give detectors a center")
    qx, qy = calibration.mean_origin_px
    edge = max(math.hypot(a - qx, b - qy) for a in (0, Q_shape[0]) for b in (0, Q_shape[1]))
    out: dict[str, Detector] = {}
    for name, (inner, outer) in _PRESETS.items():
        r0, r1 = inner * radius, min(outer * radius, edge)
        if r0 < r1:
            out[name] = Disk(r1) if r0 == 0 else Annulus(r0, r1)
    return out


def dpc_segments(
    calibration: Calibration, *, inner: float = 0.5, outer: float = 1.25
) -> dict[str, Segment]:
    """Four quadrants for differential phase contrast, from the convergence angle.

    The rim of the unscattered disk lies within the ring, so that a shift of the disk counts on both
    sides: ``(down - up) / (down + up)`` is its shift along x, ``(right - left) / (right + left)``
    along y (detector axes).

    Parameters
    ----------
    calibration : Calibration
        With the radius of the unscattered disk.
    inner, outer : float
        Radii in units of that radius.

    Returns
    -------
    dict of str to Segment
        ``"down"`` (+x), ``"right"`` (+y), ``"up"``, ``"left"``, each a quarter of the ring around
        its direction; in pixels, around the calibrated origin.

    Raises
    ------
    CalibrationMissing
        Neither `probe_radius_px` nor `semiangle_mrad` with a pixel size is known.

    Examples
    --------
    >>> from py4DSTEM import Calibration
    >>> found = dpc_segments(Calibration(probe_radius_px=8.0))
    >>> list(found), found["down"].outer
    (['down', 'right', 'up', 'left'], 10.0)
    """
    ring(inner, outer)
    radius = calibration.semiangle_px()
    quarters = segments(4, inner * radius, outer * radius, start_rad=-math.pi / 4)
    return dict(zip(("down", "right", "up", "left"), quarters.values(), strict=True))
