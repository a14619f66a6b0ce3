"""Scattering by single atoms in closed form: the screened Coulomb potential.

``V(r) = Z e exp(−r/a) / (4π ε₀ r)`` with the Thomas–Fermi radius ``a = 0.8853 a₀ Z^(−1/3)``
(Wentzel; doi:10.1007/BF01390590).  Good to ten or twenty per cent, and it needs no table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOHR_A", "atomic_numbers", "potential_VA3", "scattering_factor_A"]

BOHR_A = 0.529177210903
_COULOMB_VA = 14.3996454784255  # e / (4π ε₀)

_SYMBOLS = {"C": 6, "Al": 13, "Si": 14, "Fe": 26, "Ni": 28, "Cu": 29, "Mo": 42, "Pd": 46, "Ag": 47,
            "W": 74, "Pt": 78, "Au": 79}  # fmt: skip


def atomic_numbers() -> dict[str, int]:
    """Symbols that the simulations know, and their atomic numbers."""
    return dict(_SYMBOLS)


def _screening(q_A: NDArray[np.float64], Z: int) -> NDArray[np.float64]:
    radius = 0.8853 * BOHR_A * Z ** (-1 / 3)
    squared: NDArray[np.float64] = 4 * np.pi**2 * np.square(q_A) + 1 / radius**2
    return squared


def potential_VA3(q_A: NDArray[np.float64], Z: int) -> NDArray[np.float64]:
    """Fourier transform of the potential, ``∫ V exp(−2πi q·r) d³r``, in V Å³ (q in Å⁻¹)."""
    return 4 * np.pi * Z * _COULOMB_VA / _screening(q_A, Z)


def scattering_factor_A(q_A: NDArray[np.float64], Z: int) -> NDArray[np.float64]:
    """Born scattering factor ``f = 2 Z / (a₀ (4π²q² + 1/a²))`` in Å, without relativity."""
    return 2 * Z / BOHR_A / _screening(q_A, Z)
