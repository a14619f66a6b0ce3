"""Convergent beams: disks of a crystal with multiple scattering inside them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.crystal import Crystal
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.crystal.bloch import Scattering, thicknesses
from py4DSTEM.process.crystal.ewald import Beam, chosen_orientation, incident_beams
from py4DSTEM.process.crystal.spots import made_by

__all__ = ["convergent_beam_pattern"]

Float = NDArray[np.float64]
_MOST_DIRECTIONS = 20_000


def convergent_beam_pattern(
    crystal: Crystal,
    orientation: ArrayLike | None = None,
    *,
    energy_eV: float,
    semiangle_mrad: float,
    thickness_A: float | Sequence[float] | Float,
    Q_shape: tuple[int, int],
    Q_pixel_size_A: float,
    zone_axis: Sequence[float] | None = None,
    x_hkl: Sequence[float] | None = None,
    k_max_A: float = 3.0,
    s_max_A: float | None = None,
    weak_s_max_A: float | None = None,
    absorption: float = 0.0,
    tilt_mrad: Sequence[float] = (0.0, 0.0),
) -> DiffractionSlice:
    """Convergent-beam pattern of a flat crystal by Bloch waves.

    Parameters
    ----------
    crystal : Crystal
        With Debye-Waller factors, where the atoms vibrate.
    orientation : (3, 3) float, optional
        Columns are the sample axes x, y, z in the crystal; z is the normal of the surface.
    energy_eV : float
    semiangle_mrad : float
        Of the beam's cone.
    thickness_A : float or (m,) float
        Å; one pattern of each.
    Q_shape : (int, int)
        Pixels of the detector; the middle of the direct disk is at (Qx // 2, Qy // 2).
    Q_pixel_size_A : float
        Å⁻¹ per pixel; there is one incident direction per pixel of the direct disk.
    zone_axis : (3,) float, optional
        Instead of an orientation: the direction [u, v, w] against the beam.
    x_hkl : (3,) float, optional
        With a `zone_axis`: the reflection along x; None: the shortest of the zone.
    k_max_A, s_max_A, weak_s_max_A, absorption
        As for `bloch_waves`.
    tilt_mrad : (float, float)
        Of the axis of the cone: how it travels along x and y.

    Returns
    -------
    DiffractionSlice
        (Qx, Qy), or (m, Qx, Qy) of several thicknesses; of sum one, less what is absorbed or
        scattered beside the detector.

    Raises
    ------
    ParameterError
        Angles, sizes or thicknesses that are none; more directions or beams than fit.

    Notes
    -----
    Directions do not interfere: where disks overlap, the pattern is the mean over positions of the
    probe.  A beam that lands between pixels is shared among four.

    Examples
    --------
    >>> gold = Crystal.common("Au")
    >>> found = convergent_beam_pattern(
    ...     gold, zone_axis=[0, 0, 1], energy_eV=200e3, semiangle_mrad=2, thickness_A=80,
    ...     Q_shape=(64, 60), Q_pixel_size_A=0.04, k_max_A=1.2,
    ... )
    >>> found.shape, round(float(found.data.sum()), 3)
    ((64, 60), 1.0)
    """
    beam = Beam.of(energy_eV)
    frame = chosen_orientation(crystal, orientation, zone_axis, x_hkl)
    depths = thicknesses(thickness_A)
    axis = incident_beams(beam, tilt_mrad, 0.0, 0)[0]
    pixels = _cone_px(beam, semiangle_mrad, Q_shape, Q_pixel_size_A)
    incident = axis + pixels * Q_pixel_size_A
    scattering = Scattering.of(
        crystal, frame, beam, incident, k_max_A=k_max_A, s_max_A=s_max_A,
        weak_s_max_A=weak_s_max_A, absorption=absorption,
    )  # fmt: skip
    places = scattering.g_A[:, :2] / Q_pixel_size_A + _middle(Q_shape)
    images = _images(scattering, incident, places + pixels[:, None], depths, Q_shape)
    calibration = Calibration().replace(
        Q_pixel_size=Q_pixel_size_A, Q_pixel_units="A^-1", energy_eV=float(energy_eV),
        semiangle_mrad=semiangle_mrad, origin_px=_middle(Q_shape),
    )  # fmt: skip
    history = made_by("convergent-beam-pattern", crystal, {
        "orientation": frame, "energy_eV": energy_eV, "semiangle_mrad": semiangle_mrad,
        "thickness_A": depths, "Q_shape": Q_shape, "Q_pixel_size_A": Q_pixel_size_A,
        "k_max_A": k_max_A, "s_max_A": scattering.s_max_A, "weak_s_max_A": weak_s_max_A,
        "absorption": absorption, "tilt_mrad": tilt_mrad,
    })  # fmt: skip
    several = np.ndim(thickness_A) > 0
    labels = tuple(f"{one:g} Å" for one in depths) if several else ()
    data = images if several else images[0]
    return DiffractionSlice(data, calibration, history, f"{crystal.name} CBED", labels)


def _middle(Q_shape: tuple[int, int]) -> Float:
    return np.array([Q_shape[0] // 2, Q_shape[1] // 2], np.float64)


def _images(
    scattering: Scattering, incident_A: Float, places_px: Float, depths: Float,
    Q_shape: tuple[int, int],
) -> Float:  # fmt: skip
    """Mean over the incident directions, whose beams land at `places_px` (d, n, 2), (m, Qx, Qy)."""
    images = np.zeros((len(depths), *Q_shape))
    for places, one in zip(places_px, incident_A, strict=True):
        _share(images, places, np.abs(scattering.amplitudes(one, depths)) ** 2)
    return images / len(incident_A)


def _cone_px(
    beam: Beam, semiangle_mrad: float, Q_shape: tuple[int, int], Q_pixel_size_A: float
) -> Float:
    """Offsets of the pixels within the direct disk, (d, 2)."""
    if len(Q_shape) != 2 or min(Q_shape) < 1:
        raise ShapeError(f"Q_shape is two positive numbers of pixels, not {Q_shape!r}")
    if not (math.isfinite(Q_pixel_size_A) and Q_pixel_size_A > 0):
        raise ParameterError(f"Q_pixel_size_A is positive, not {Q_pixel_size_A!r}")
    if not 0 < semiangle_mrad <= 200:
        raise ParameterError(f"semiangle_mrad lies between 0 and 200, not at {semiangle_mrad!r}")
    radius = semiangle_mrad * 1e-3 / beam.wavelength_A / Q_pixel_size_A
    if math.pi * radius**2 > _MOST_DIRECTIONS:
        raise ParameterError(
            f"a direct disk of {radius:.0f} pixels has too many directions: use larger pixels"
        )
    reach = math.ceil(radius)
    grid = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    return np.asarray(grid[np.hypot(*grid.T) <= radius + 1e-9], np.float64)


def _share(images: Float, places_px: Float, weights: Float) -> None:
    """Add weights (m, n) to the four pixels about each place (n, 2)."""
    low = np.floor(places_px).astype(np.int64)
    part = places_px - low
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = low[:, 0] + dx, low[:, 1] + dy
            near = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
            kept = (x >= 0) & (x < images.shape[1]) & (y >= 0) & (y < images.shape[2])
            flat = x[kept] * images.shape[2] + y[kept]
            for image, row in zip(images, weights * near, strict=True):
                added = np.bincount(flat, row[kept], minlength=image.size)
                image += added.reshape(image.shape)
