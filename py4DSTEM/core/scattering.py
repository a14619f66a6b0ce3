"""How atoms scatter electrons: elements, compositions, scattering factors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.errors import ParameterError

__all__ = ["BOHR_A", "Composition", "Source", "scattering_factor_A"]

Float = NDArray[np.float64]
Source = Literal["peng", "mott-bethe"]
BOHR_A = 0.529177210903
_DALTON_G = 1.66053906660e-24
_REACH_A = {"peng": 4.0, "mott-bethe": 12.0}
"""Largest q of each source: what its parameters were fitted to; above, the nucleus is bare."""
_PART = re.compile(r"([A-Z][a-z]?)\s*([0-9]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?)")


@dataclass(frozen=True)
class _Gaussians:
    """``Σ a exp(−b s²)`` with ``s = q/2``; for electrons Σ a in Å, for X-rays in electrons."""

    a: Float
    b: Float


@cache
def _element(symbol: str) -> Any:
    """The element of a symbol as the periodic table writes it."""
    import gemmi  # slow to import

    found = gemmi.Element(symbol) if isinstance(symbol, str) and symbol else None
    # Unknown symbols become X, deuterium has the table of hydrogen.
    if found is None or found.atomic_number == 0 or symbol != found.name:
        raise ParameterError(f"no element {symbol!r}: symbols are written as Pd, Si, C")
    return found


@cache
def _gaussians(symbol: str, source: Source) -> _Gaussians:
    element = _element(symbol)
    table = element.c4322 if source == "peng" else element.it92
    if table is None:
        raise ParameterError(f"the table of {source!r} ends before {element.name}")
    return _Gaussians(np.array(table.a, np.float64), np.array(table.b, np.float64))


def scattering_factor_A(element: str, q_A: ArrayLike, source: Source = "peng") -> Float:
    """Elastic scattering factor of a neutral atom for electrons (first Born approximation).

    Parameters
    ----------
    element : str
        Symbol, hydrogen to californium.
    q_A : (...) float
        Scattering vector ``q = 1/d = 2 sin θ/λ`` in Å⁻¹ (no 2π), not negative.
    source : "peng" or "mott-bethe"
        "peng": five Gaussians, International Tables for Crystallography C, table 4.3.2.2, to
        q = 4 Å⁻¹ (doi:10.1107/S0108767395014371).  "mott-bethe": from the X-ray factors of table
        6.1.1.4 (doi:10.1107/97809553602060000600) by the Mott-Bethe formula, to q = 12 Å⁻¹.  Both
        tables are those that `gemmi` holds.

    Returns
    -------
    (...) float64
        f(q) in Å, for an electron at rest: fast ones scatter γ times as strongly.

    Raises
    ------
    ParameterError
        An unknown element, or q beyond what the table was fitted to.

    Notes
    -----
    ``f = Σ a exp(−b q²/4)``, or ``f = (Z − f_x)/(2π² a₀ q²)``.

    Examples
    --------
    >>> scattering_factor_A("Au", [0.0, 1.0]).round(2).tolist()
    [10.57, 3.07]
    """
    q = np.asarray(q_A, np.float64)
    if source not in _REACH_A:
        raise ParameterError(f"a source is one of {', '.join(_REACH_A)}, not {source!r}")
    if q.size and not (q.min() >= 0 and q.max() <= _REACH_A[source]):
        hint = ' (source="mott-bethe" reaches to 12)' if source == "peng" else ""
        raise ParameterError(
            f"q lies between 0 and {_REACH_A[source]:g} 1/A in the table of {source!r}, "
            f"not at {float(q.min()):.4g} to {float(q.max()):.4g}{hint}"
        )
    terms = _gaussians(element, source)
    exponent = terms.b * np.square(q / 2)[..., None]
    if source == "peng":
        return np.asarray((terms.a * np.exp(-exponent)).sum(axis=-1), np.float64)
    # Z − f_x = Σ a (1 − exp(−b s²)), which stays exact where q, and with it both, goes to zero.
    ratio = np.divide(-np.expm1(-exponent), exponent, out=np.ones_like(exponent),
                      where=exponent > 0)  # fmt: skip
    return np.asarray((terms.a * terms.b * ratio).sum(axis=-1) / (8 * math.pi**2 * BOHR_A))


@dataclass(frozen=True)
class Composition:
    """Which elements a material consists of, in shares of its atoms.

    Parameters
    ----------
    elements : tuple of str
    fractions : tuple of float
        Of the number of atoms; they sum to one.

    Examples
    --------
    >>> glass = Composition.parse("Pd80Si20")
    >>> glass.elements, glass.fractions
    (('Pd', 'Si'), (0.8, 0.2))
    >>> round(glass.density_A3(10.25), 4)
    0.068
    """

    elements: tuple[str, ...]
    fractions: tuple[float, ...]

    @classmethod
    def parse(cls, given: Composition | str | Mapping[str, float]) -> Composition:
        """A composition of what is given.

        Parameters
        ----------
        given : Composition, str or mapping
            ``"Pd80Si20"``, ``"SiO2"``, ``"Pd 0.8 Si 0.2"`` or ``{"Pd": 0.8, "Si": 0.2}``; amounts
            of atoms on any scale.

        Returns
        -------
        Composition

        Raises
        ------
        ParameterError
            Not a formula, an unknown element, an amount that is not positive.
        """
        if isinstance(given, Composition):
            return given
        amounts = _amounts(given) if isinstance(given, str) else dict(given)
        if not amounts:
            raise ParameterError(f"a composition names elements, as Pd80Si20 does, not {given!r}")
        for element, amount in amounts.items():
            _element(element)
            known = isinstance(amount, int | float) and math.isfinite(amount) and amount > 0
            if not known:
                raise ParameterError(f"the amount of {element} must be positive, not {amount!r}")
        total = sum(amounts.values())
        return cls(tuple(amounts), tuple(amount / total for amount in amounts.values()))

    def __str__(self) -> str:
        if len(self.elements) == 1:
            return self.elements[0]
        pairs = zip(self.elements, self.fractions, strict=True)
        return "".join(f"{element}{100 * share:.6g}" for element, share in pairs)

    def _factors(self, q_A: ArrayLike, source: Source) -> tuple[Float, Float]:
        """Factors (elements, ...) and shares (elements,)."""
        factors = np.stack([scattering_factor_A(one, q_A, source) for one in self.elements])
        return factors, np.array(self.fractions)

    def mean_f_A(self, q_A: ArrayLike, source: Source = "peng") -> Float:
        """``⟨f⟩ = Σ x f`` in Å at each `q_A` (Å⁻¹); see `scattering_factor_A`."""
        factors, shares = self._factors(q_A, source)
        return np.asarray(np.tensordot(shares, factors, 1), np.float64)

    def mean_f2_A2(self, q_A: ArrayLike, source: Source = "peng") -> Float:
        """``⟨f²⟩ = Σ x f²`` in Å² at each `q_A` (Å⁻¹)."""
        factors, shares = self._factors(q_A, source)
        return np.asarray(np.tensordot(shares, factors**2, 1), np.float64)

    @property
    def mean_mass_u(self) -> float:
        """Mean mass of an atom in daltons."""
        pairs = zip(self.elements, self.fractions, strict=True)
        return float(sum(share * _element(element).weight for element, share in pairs))

    def density_A3(self, g_cm3: float) -> float:
        """Atoms per Å³ of a material of `g_cm3` grams per cubic centimetre."""
        return g_cm3 / (self.mean_mass_u * _DALTON_G) * 1e-24


def _amounts(formula: str) -> dict[str, float]:
    """Element → amount of a formula without brackets."""
    amounts: dict[str, float] = {}
    text = re.sub(r"[\s,:_-]+", " ", formula).strip()
    place = 0
    while place < len(text):
        found = _PART.match(text, place)
        if found is None:
            raise ParameterError(
                f"{formula!r} is no composition at {text[place:]!r}: write it as Pd80Si20 or SiO2"
            )
        try:
            amount = float(found[2] or 1)
        except ValueError:
            raise ParameterError(f"{formula!r}: {found[2]!r} is no amount") from None
        amounts[found[1]] = amounts.get(found[1], 0.0) + amount
        place = found.end()
        while place < len(text) and text[place] == " ":
            place += 1
    return amounts
