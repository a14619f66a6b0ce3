"""Kinematic diffraction patterns: where spots are, and how strong without multiple scattering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.crystal import Crystal
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.crystal.ewald import Beam, candidates, chosen_orientation, incident_beams
from py4DSTEM.process.crystal.spots import SpotPattern, made_by

__all__ = ["Relrod", "diffraction_pattern"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
Relrod = Literal["sinc", "lorentzian", "gaussian"]
_HALF_SINC2 = 0.442946
"""Half width at half maximum of ``sinc²(s t)``, times t."""
_REACH = {"sinc": 8.0, "lorentzian": 30.0, "gaussian": 4.0}
"""Half widths within which a reflection may be seen at all."""
_AZIMUTHS = (12, 360)
_MOST_DOUBLE = 1500
_CITES = ("10.1098/rsta.1960.0013",)


def diffraction_pattern(
    crystal: Crystal,
    orientation: ArrayLike | None = None,
    *,
    energy_eV: float,
    zone_axis: Sequence[float] | None = None,
    x_hkl: Sequence[float] | None = None,
    k_max_A: float = 1.5,
    thickness_A: float = 100.0,
    relrod: Relrod = "lorentzian",
    relrod_width_A: float | None = None,
    precession_mrad: float = 0.0,
    tilt_mrad: Sequence[float] = (0.0, 0.0),
    double_diffraction: bool = False,
    weakest: float = 1e-4,
) -> SpotPattern:
    """Spots of a crystal in an orientation by kinematic scattering.

    Parameters
    ----------
    crystal : Crystal
    orientation : (3, 3) float, optional
        Columns are the sample axes x, y, z in Cartesian coordinates of the crystal, as those of
        `OrientationMap`.
    energy_eV : float
        Of the electrons.
    zone_axis : (3,) float, optional
        Instead of an orientation: the direction [u, v, w] against the beam.
    x_hkl : (3,) float, optional
        With a `zone_axis`: the reflection along x; None: the shortest of the zone.
    k_max_A : float
        Longest reflection in Å⁻¹.
    thickness_A : float
        Of the crystal: sets the strength, and the width of reflections along the beam.
    relrod : "sinc", "lorentzian" or "gaussian"
        How intensity falls with the excitation error: as from a perfect slab, or without its
        zeros, as from thickness that varies.
    relrod_width_A : float, optional
        Half width at half maximum in Å⁻¹; None: that of the slab, 0.443 / thickness.
    precession_mrad : float
        Half angle of a cone on which the beam turns, descanned.
    tilt_mrad : (float, float)
        Of the incident beam: how it travels along x and y; with precession the cone's axis.
    double_diffraction : bool
        Add what the lower half of the crystal scatters from the spots of the upper half: extinct
        reflections appear where two others lead to them.
    weakest : float
        Spots below this share of the strongest are left out.

    Returns
    -------
    SpotPattern
        The direct beam, of intensity one, comes first.

    Raises
    ------
    ParameterError
        No orientation, a negative thickness, an energy that is none.

    Notes
    -----
    ``I = (π t/ξ)² p(s)`` with ``ξ = π V/(λ γ |F|)`` and ``p = sinc²(s t)`` or a curve of the same
    height, in units of the incident beam (Hirsch, Howie & Whelan, doi:10.1098/rsta.1960.0013).
    It is wrong where it is not small: above a few per cent use `bloch_waves`.  Averages over the
    azimuth with precession.  Double diffraction adds
    ``Σ_h I_h(t/2) I_{g−h}(t/2, s_g − s_h)``, without interference.

    Examples
    --------
    >>> gold = Crystal.common("Au")
    >>> found = diffraction_pattern(gold, zone_axis=[0, 0, 1], energy_eV=200e3, k_max_A=0.6)
    >>> found.hkl[:3].tolist(), len(found)
    ([[0, 0, 0], [2, 0, 0], [0, 2, 0]], 5)
    """
    beam = Beam.of(energy_eV)
    frame = chosen_orientation(crystal, orientation, zone_axis, x_hkl)
    width = _width(thickness_A, relrod, relrod_width_A)
    if not 0 <= weakest < 1:
        raise ParameterError(f"weakest is a share of the strongest spot, not {weakest!r}")
    swing = precession_mrad * 1e-3 * k_max_A / width
    azimuths = int(np.clip(8 * swing, *_AZIMUTHS)) if np.isfinite(swing) else _AZIMUTHS[0]
    incident = incident_beams(beam, tilt_mrad, precession_mrad, azimuths)
    hkl, g = candidates(crystal, frame, beam, incident, k_max_A, _REACH[relrod] * width)
    s = np.stack([beam.excitation_error_A(g, one) for one in incident])
    intensity = _single(crystal, beam, rod := _Rod(thickness_A, width, relrod), hkl, s)
    if double_diffraction:
        intensity += _double(crystal, beam, rod, hkl, s)
    found = _sorted(intensity, weakest)
    middle = beam.excitation_error_A(g, incident.mean(axis=0))
    history = made_by("diffraction-pattern", crystal, {
        "orientation": frame, "energy_eV": energy_eV, "k_max_A": k_max_A, "relrod": relrod,
        "thickness_A": thickness_A, "relrod_width_A": width, "precession_mrad": precession_mrad,
        "tilt_mrad": tilt_mrad, "double_diffraction": double_diffraction, "weakest": weakest,
    }, _CITES)  # fmt: skip
    return SpotPattern(
        hkl[found], g[found, :2], middle[found], intensity[found], frame, crystal,
        float(energy_eV), "kinematic", history, f"{crystal.name} pattern",
    )  # fmt: skip


def _width(thickness_A: float, relrod: str, width_A: float | None) -> float:
    if relrod not in _REACH:
        raise ParameterError(f"relrod is one of {', '.join(_REACH)}, not {relrod!r}")
    if not (math.isfinite(thickness_A) and thickness_A > 0):
        raise ParameterError(f"thickness_A is positive, not {thickness_A!r}")
    if width_A is None:
        return _HALF_SINC2 / thickness_A
    if relrod == "sinc":
        raise ParameterError("a sinc has the width that the thickness gives: leave it out")
    if not (math.isfinite(width_A) and width_A > 0):
        raise ParameterError(f"relrod_width_A is positive, not {width_A!r}")
    return width_A


class _Rod:
    """Intensity along a relrod."""

    def __init__(self, thickness_A: float, width_A: float, shape: str) -> None:
        self.thickness_A, self.width_A, self.shape = thickness_A, width_A, shape

    def intensity(self, coupling: Complex, s_A: Float) -> Float:
        """Of reflections at excitation errors; coupling ``1/(2ξ)``."""
        height = np.square(2 * np.pi * np.abs(coupling) * self.thickness_A)
        if self.shape == "sinc":
            return np.asarray(height * np.sinc(s_A * self.thickness_A) ** 2)
        u = (s_A / self.width_A) ** 2
        curve = 1 / (1 + u) if self.shape == "lorentzian" else np.exp(-math.log(2) * u)
        return np.asarray(height * curve)

    def half(self) -> _Rod:
        """That of half the crystal."""
        return _Rod(self.thickness_A / 2, self.width_A * 2, self.shape)


def _single(crystal: Crystal, beam: Beam, rod: _Rod, hkl: NDArray[np.int64], s_A: Float) -> Float:
    """What is scattered once, averaged over the incident directions, (n,); the direct beam is 1."""
    coupling = beam.coupling_per_A(crystal.structure_factors_A(hkl), crystal.volume_A3)
    intensity = rod.intensity(coupling, s_A).mean(axis=0)
    intensity[0] = 1.0
    return np.asarray(intensity)


def _double(crystal: Crystal, beam: Beam, rod: _Rod, hkl: NDArray[np.int64], s_A: Float) -> Float:
    """What the lower half makes of the spots of the upper half, (n,)."""
    if len(hkl) > _MOST_DOUBLE:
        raise ParameterError(
            f"double diffraction of {len(hkl)} spots: lower k_max_A, or narrow the relrod"
        )
    half = rod.half()
    total = np.zeros(len(hkl))
    first = beam.coupling_per_A(crystal.structure_factors_A(hkl), crystal.volume_A3)
    first[0] = 0
    before = half.intensity(first, s_A)
    for h in np.flatnonzero(before.max(axis=0) > 1e-9):
        step = beam.coupling_per_A(crystal.structure_factors_A(hkl - hkl[h]), crystal.volume_A3)
        step[h] = 0
        total += (before[:, h, None] * half.intensity(step, s_A - s_A[:, h, None])).mean(axis=0)
    total[0] = 0
    return total


def _sorted(intensity: Float, weakest: float) -> NDArray[np.intp]:
    """The direct beam, then what is strong enough by falling intensity."""
    rest = np.arange(1, len(intensity))
    strongest = intensity[1:].max(initial=0.0)
    rest = rest[(intensity[1:] >= weakest * strongest) & (intensity[1:] > 1e-12 * strongest)]
    order = np.argsort(-intensity[rest].round(12), kind="stable")
    return np.concatenate([[0], rest[order]]).astype(np.intp)
