"""Rings of a polycrystal: radii, intensities, profile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.crystal import Crystal
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.crystal.ewald import Beam
from py4DSTEM.process.crystal.spots import made_by

__all__ = ["PowderPattern", "powder_pattern"]

Float = NDArray[np.float64]
_SAME_A = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class PowderPattern:
    """Rings of crystals in all orientations.

    Parameters
    ----------
    hkl : (r, 3) int64
        One reflection of each ring.
    ring_k_A : (r,) float64
        Radii in Å⁻¹ (no 2π).
    multiplicity : (r,) int64
        Reflections that have this radius.
    ring_intensity : (r,) float64
        Of whole rings, in units of the incident beam.
    k_A : (m,) float64
    profile : (m,) float64
        Intensity per area of the pattern (Å²), which radial profiles measure.
    crystal : Crystal
    energy_eV : float
    """

    hkl: NDArray[np.int64]
    ring_k_A: Float
    multiplicity: NDArray[np.int64]
    ring_intensity: Float
    k_A: Float
    profile: Float
    crystal: Crystal
    energy_eV: float
    history: History = field(default_factory=History)
    name: str = "rings"

    def __len__(self) -> int:
        return len(self.hkl)

    def __repr__(self) -> str:
        return f"<PowderPattern {self.name!r}, {self.crystal.name}, {len(self)} rings>"

    def text(self) -> str:
        """The innermost rings, one per line."""
        lines = [f"{self.name}: {self.crystal.name}, {len(self)} rings"]
        for hkl, k, count, one in zip(
            self.hkl[:12], self.ring_k_A[:12], self.multiplicity[:12], self.ring_intensity[:12],
            strict=True,
        ):  # fmt: skip
            indices = " ".join(map(str, hkl))
            lines.append(f"{indices:>10}  k {k:.4f} 1/Å  {count:3d} reflections  I {one:.3g}")
        return "\n".join(lines)


def powder_pattern(
    crystal: Crystal,
    *,
    energy_eV: float,
    k_max_A: float = 1.5,
    thickness_A: float = 100.0,
    width_A: float = 0.005,
    lorentzian: float = 0.0,
    k_step_A: float = 0.001,
) -> PowderPattern:
    """Rings of many small crystals in all orientations, by kinematic scattering.

    Parameters
    ----------
    crystal : Crystal
    energy_eV : float
    k_max_A : float
        Å⁻¹.
    thickness_A : float
        Of crystal that the beam goes through: intensities are proportional to it.
    width_A : float
        Half width at half maximum of the rings in Å⁻¹.
    lorentzian : float
        Share of a Lorentzian in the shape of a ring, the rest is Gaussian (pseudo-Voigt).
    k_step_A : float
        Step of the profile.

    Returns
    -------
    PowderPattern

    Raises
    ------
    ParameterError
        A width, step, length or thickness that is not positive, a share that is none.

    Notes
    -----
    The excitation error of a reflection of a crystal in any orientation is distributed evenly, with
    density 1/(2k), and a reflection has ``∫ I ds = (λ γ |F|/V)² t``, so that a ring has
    ``Σ (λ γ |F|/V)² t/(2k)``, and per area 1/(2πk) of that.

    Examples
    --------
    >>> rings = powder_pattern(Crystal.common("Al"), energy_eV=200e3)
    >>> rings.ring_k_A[:2].round(4).tolist(), rings.multiplicity[:2].tolist()
    ([0.4277, 0.4939], [8, 6])
    """
    beam = Beam.of(energy_eV)
    for name, value in (("thickness_A", thickness_A), ("width_A", width_A), ("k_step_A", k_step_A)):
        if not (math.isfinite(value) and value > 0):
            raise ParameterError(f"{name} is positive, not {value!r}")
    if not 0 <= lorentzian <= 1:
        raise ParameterError(f"lorentzian is a share from 0 to 1, not {lorentzian!r}")
    found = crystal.reflections(k_max_A)
    if not len(found):
        raise ParameterError(f"{crystal.name!r} has no reflections up to {k_max_A:g} 1/A")
    if not k_max_A / k_step_A < 1e6:
        raise ParameterError(f"steps of {k_step_A:g} 1/A make a profile of millions of points")
    each = np.square(2 * np.pi * np.abs(beam.coupling_per_A(found.F_A, crystal.volume_A3)))
    each *= thickness_A / (2 * found.k_A)
    ring = np.concatenate([[0], np.cumsum(np.diff(found.k_A) > _SAME_A)])
    first = np.flatnonzero(np.diff(ring, prepend=-1))
    intensity: Float = np.bincount(ring, each).astype(np.float64)
    k = np.arange(0, k_max_A + k_step_A / 2, k_step_A)
    profile = _profile(k, found.k_A[first], intensity, width_A, lorentzian)
    history = made_by("powder-pattern", crystal, {
        "energy_eV": energy_eV, "k_max_A": k_max_A, "thickness_A": thickness_A,
        "width_A": width_A, "lorentzian": lorentzian, "k_step_A": k_step_A,
    })  # fmt: skip
    return PowderPattern(
        found.hkl[first], found.k_A[first], np.bincount(ring).astype(np.int64), intensity, k,
        profile, crystal, float(energy_eV), history, f"{crystal.name} rings",
    )  # fmt: skip


def _profile(k: Float, radii: Float, intensity: Float, width_A: float, share: float) -> Float:
    """Pseudo-Voigt rings per area."""
    total = np.zeros_like(k)
    for radius, one in zip(radii, intensity, strict=True):
        u = ((k - radius) / width_A) ** 2
        gauss = math.sqrt(math.log(2) / math.pi) * np.exp(-math.log(2) * u)
        shape = ((1 - share) * gauss + share / (math.pi * (1 + u))) / width_A
        total += one * shape / (2 * math.pi * radius)
    return total


def _to_parts(value: PowderPattern) -> dict[str, Any]:
    crystal, history = value.crystal.plain(), value.history.to_dict()
    return {**vars(value), "crystal": crystal, "history": history}


def _from_parts(parts: Mapping[str, Any]) -> PowderPattern:
    crystal, history = Crystal.of(parts["crystal"]), History.from_dict(parts["history"])
    return PowderPattern(**{**parts, "crystal": crystal, "history": history})


register_result("powder-pattern", PowderPattern, _to_parts, _from_parts)
