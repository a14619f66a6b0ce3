"""The Ewald sphere: zone axes, incident beams, excitation errors, coupling of beams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.crystal import Crystal
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.units import (
    ELECTRON_MASS_KG,
    ELEMENTARY_CHARGE_C,
    SPEED_OF_LIGHT_M_S,
    electron_wavelength_A,
)

__all__ = [
    "Beam", "candidates", "chosen_orientation", "extinction_distance_A", "incident_beams",
    "zone_orientation",
]  # fmt: skip

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
_ENERGIES_EV = (1e3, 1e7)
_MOST_TILT_MRAD = 300.0
_PARALLEL = 1e-6
_SEARCH_A = 2.0


@dataclass(frozen=True)
class Beam:
    """Electrons of one energy.

    Parameters
    ----------
    energy_eV : float
    wavelength_A : float
    gamma : float
        Relativistic mass over rest mass.
    """

    energy_eV: float
    wavelength_A: float
    gamma: float

    @classmethod
    def of(cls, energy_eV: float) -> Beam:
        """Electrons of a kinetic energy in eV, 1 keV to 10 MeV."""
        wavelength = electron_wavelength_A(energy_eV)
        low, high = _ENERGIES_EV
        if not low <= energy_eV <= high:
            raise ParameterError(
                f"energy_eV={energy_eV:g} is no energy of a microscope: 200 kV are 200e3 eV"
            )
        rest_eV = ELECTRON_MASS_KG * SPEED_OF_LIGHT_M_S**2 / ELEMENTARY_CHARGE_C
        return cls(float(energy_eV), wavelength, 1 + energy_eV / rest_eV)

    def coupling_per_A(
        self, F_A: NDArray[np.complex128], volume_A3: float
    ) -> NDArray[np.complex128]:
        """``λ γ F / (2π V)`` in Å⁻¹: half the inverse of the extinction distance."""
        return self.wavelength_A * self.gamma * F_A / (2 * math.pi * volume_A3)

    def excitation_error_A(self, g_A: Float, incident_A: ArrayLike = (0.0, 0.0)) -> Float:
        """Distance along z from reciprocal lattice points to the Ewald sphere.

        Parameters
        ----------
        g_A : (..., 3) float64
            Along the sample axes.
        incident_A : (..., 2) float
            Components x and y of the wave vector of the incident beam.

        Returns
        -------
        (...) float64
            Positive inside the sphere: ``g_z − λ g²/2`` to second order for a beam along −z.
        """
        before = np.asarray(incident_A, np.float64)
        after = before + g_A[..., :2]
        k2 = self.wavelength_A**-2
        # The difference of two nearly equal roots, without cancellation.
        left = (before**2).sum(-1), (after**2).sum(-1)
        roots = np.sqrt(np.maximum(k2 - left[0], 0)) + np.sqrt(np.maximum(k2 - left[1], 0))
        return np.asarray(g_A[..., 2] - (left[1] - left[0]) / roots)


# ---- orientations --------------------------------------------------------------------------------
def zone_orientation(
    crystal: Crystal, zone_axis: Sequence[float], *, x_hkl: Sequence[float] | None = None
) -> Float:
    """Orientation that looks along a zone axis.

    Parameters
    ----------
    crystal : Crystal
    zone_axis : (3,) or (4,) float
        Direction [u, v, w] of the lattice (or [u, v, t, w] of a hexagonal one) that points out of
        the screen, against the electrons.
    x_hkl : (3,) or (4,) float, optional
        Reflection whose direction in the pattern is x (down); None: the shortest of the zone.

    Returns
    -------
    (3, 3) float64
        Columns are the sample axes x, y, z in Cartesian coordinates of the crystal.

    Raises
    ------
    ParameterError
        No direction, or an `x_hkl` along it.

    Examples
    --------
    >>> zone_orientation(Crystal.common("SrTiO3"), [0, 0, 1], x_hkl=[1, 0, 0]).round(3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    u, v, *t, w = _numbers(zone_axis, "zone_axis")
    z = np.array([u - t[0], v - t[0], w] if t else [u, v, w]) @ crystal.lattice_A
    z /= np.linalg.norm(z)
    if x_hkl is None:
        x = _shortest_across(crystal, z)
    else:
        h, k, *_, m = _numbers(x_hkl, "x_hkl")
        x = np.array([h, k, m]) @ crystal.reciprocal_A
    length = np.linalg.norm(x)
    x = x - (x @ z) * z
    if np.linalg.norm(x) < _PARALLEL * length:
        raise ParameterError(f"x_hkl={x_hkl!r} lies along the zone axis {zone_axis!r}")
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _numbers(given: Sequence[float], name: str) -> list[float]:
    values = np.asarray(given, np.float64)
    if values.shape not in ((3,), (4,)) or not np.isfinite(values).all():
        raise ShapeError(f"{name} is three numbers (four of a hexagonal lattice), not {given!r}")
    if len(values) == 4 and abs(values[:3].sum()) > 1e-9:
        raise ParameterError(f"the first three of four indices sum to zero, not {given!r}")
    if not values.any():
        raise ParameterError(f"{name} is no direction: all of {given!r} are zero")
    return [float(one) for one in values]


def _shortest_across(crystal: Crystal, z: Float) -> Float:
    found = crystal.reflections(_SEARCH_A)
    across = np.abs(found.g_A @ z) < 1e-6
    if across.any():
        return np.asarray(found.g_A[across][0])
    # No reflection of a high zone lies in the plane: any direction that is fixed by z.
    helper = np.eye(3)[np.abs(z).argmin()]
    return np.asarray(np.cross(np.cross(z, helper), z))


def chosen_orientation(
    crystal: Crystal,
    orientation: ArrayLike | None,
    zone_axis: Sequence[float] | None,
    x_hkl: Sequence[float] | None,
) -> Float:
    """The orientation that a caller gives by its matrix or by a zone axis, checked."""
    if (orientation is None) == (zone_axis is None):
        raise ParameterError("give either an orientation (3, 3) or a zone_axis [u, v, w]")
    if zone_axis is not None:
        return zone_orientation(crystal, zone_axis, x_hkl=x_hkl)
    if x_hkl is not None:
        raise ParameterError("x_hkl belongs to a zone_axis: an orientation has its own x")
    matrix = np.asarray(orientation, np.float64)
    if matrix.shape != (3, 3):
        raise ShapeError(f"an orientation is (3, 3), not {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ParameterError("this orientation holds NaN: the position is not indexed")
    if np.abs(matrix.T @ matrix - np.eye(3)).max() > 1e-4 or np.linalg.det(matrix) < 0:
        raise ParameterError("an orientation is a proper rotation matrix: columns x, y, z")
    return matrix


# ---- beams ---------------------------------------------------------------------------------------
def incident_beams(
    beam: Beam, tilt_mrad: Sequence[float], precession_mrad: float, azimuths: int
) -> Float:
    """Components x and y of the incident wave vectors, (azimuths or 1, 2), Å⁻¹."""
    tilt = np.asarray(tilt_mrad, np.float64)
    if tilt.shape != (2,) or not np.isfinite(tilt).all():
        raise ShapeError(f"tilt_mrad is (x, y), not {tilt_mrad!r}")
    if not 0 <= precession_mrad <= _MOST_TILT_MRAD or np.hypot(*tilt) > _MOST_TILT_MRAD:
        raise ParameterError(
            f"tilts and precession lie below {_MOST_TILT_MRAD:g} mrad, not at {tilt.tolist()} and "
            f"{precession_mrad!r}"
        )
    if precession_mrad == 0:
        return np.asarray(tilt[None] * 1e-3 / beam.wavelength_A)
    if not 4 <= azimuths <= 10_000:
        raise ParameterError(f"precession takes 4 to 10000 azimuths, not {azimuths!r}")
    turn = 2 * np.pi * np.arange(azimuths) / azimuths
    around = precession_mrad * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return np.asarray((tilt + around) * 1e-3 / beam.wavelength_A)


def candidates(
    crystal: Crystal, orientation: Float, beam: Beam, incident_A: Float, k_max_A: float, s_A: float
) -> tuple[NDArray[np.int64], Float]:
    """The direct beam and all reflections that come within `s_A` of the Ewald sphere.

    Returns
    -------
    (n, 3) int64, (n, 3) float64
        Indices, the direct beam first, and reciprocal vectors along the sample axes; those that
        extinction rules forbid among them.
    """
    if k_max_A >= 1 / beam.wavelength_A:
        raise ParameterError(f"k_max_A={k_max_A:g} 1/A lies beyond the Ewald sphere")
    found = crystal.reflections(k_max_A, extinct=True)
    g = found.g_A @ orientation
    nearest = np.full(len(g), np.inf)
    for one in incident_A:
        nearest = np.minimum(nearest, np.abs(beam.excitation_error_A(g, one)))
    kept = nearest <= s_A
    hkl = np.concatenate([np.zeros((1, 3), np.int64), found.hkl[kept]])
    return hkl, np.concatenate([np.zeros((1, 3)), g[kept]])


def extinction_distance_A(crystal: Crystal, hkl: ArrayLike, *, energy_eV: float) -> Float:
    """Extinction distances of reflections in two-beam conditions.

    Parameters
    ----------
    crystal : Crystal
    hkl : (n, 3) or (3,) int
    energy_eV : float

    Returns
    -------
    (n,) or () float64
        ``ξ = π V / (λ γ |F|)`` in Å; inf where a reflection is extinct.

    Notes
    -----
    Hirsch, Howie, Nicholson, Pashley and Whelan, Electron Microscopy of Thin Crystals
    (Butterworths, 1965).

    Examples
    --------
    >>> gold = Crystal.common("Au")
    >>> extinction_distance_A(gold, [[1, 1, 1], [2, 0, 0]], energy_eV=100e3).round().tolist()
    [178.0, 197.0]
    """
    indices = np.asarray(hkl, np.float64)
    beam = Beam.of(energy_eV)
    F = np.abs(crystal.structure_factors_A(np.atleast_2d(indices)))
    twice = 2 * beam.coupling_per_A(F.astype(np.complex128), crystal.volume_A3).real
    distance = np.divide(1, twice, out=np.full(len(F), np.inf), where=F > 1e-9)
    return np.asarray(distance.reshape(indices.shape[:-1]))
