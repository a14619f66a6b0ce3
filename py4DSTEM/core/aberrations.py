"""Aberrations of the probe-forming lens: polar coefficients, the phase plate, and its gradient.

Krivanek's notation: ``χ(α, φ) = Σ α^(n+1)/(n+1) · C_nm cos m(φ − φ_nm)`` in Å, with α in rad and φ
from x (rows, down) towards y (columns, right) in the axes of the detector.  The probe is
``ψ(k) ∝ A(k) exp(−2πi χ/λ)`` with ``α = λ|k|``, and ``defocus = −C10``: positive is underfocus, the
crossover lies below the entrance surface.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.parameters import numbers
from py4DSTEM.errors import ParameterError

__all__ = ["ORDERS", "Aberrations"]

Float = NDArray[np.float64]

ORDERS: dict[str, tuple[int, int]] = {
    f"C{n}{m}": (n, m) for n in range(1, 6) for m in range(n + 2) if (n + 1 - m) % 2 == 0
}
"""Coefficient → (n, m): C10, C12, C21, C23, C30, C32, C34 … C50, C52, C54, C56."""


@dataclass(frozen=True)
class Aberrations:
    """Aberration coefficients, in Å.

    Parameters
    ----------
    coefficients : mapping of str to float
        ``"C10"``, ``"C12"``, ``"phi12"`` …: Å, and rad for the angles; what is not named is 0.
        ``"defocus"`` may stand for ``-C10``.

    Examples
    --------
    >>> a = Aberrations({"defocus": 100.0, "C12": 20.0, "phi12": 0.3})
    >>> a.C("C10"), a.defocus_A, a.angle("C12")
    (-100.0, 100.0, 0.3)
    >>> round(float(a.chi(0.02, 0.0)), 6)
    -0.016699
    """

    coefficients: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = dict(self.coefficients)
        if "defocus" in given:
            if "C10" in given:
                raise ParameterError("defocus is −C10: give one of them")
            given["C10"] = -given.pop("defocus")
        for name, value in given.items():
            if name not in ORDERS and not _is_angle(name):
                known = ", ".join(ORDERS)
                raise ParameterError(f"there is no aberration {name!r}: {known}, and phi… of these")
            given[name] = numbers(name, value, 1)[0]
        object.__setattr__(self, "coefficients", given)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.coefficients.items())))

    def C(self, name: str) -> float:
        """A coefficient in Å; 0 where it is not given."""
        return self.coefficients.get(name, 0.0)

    def angle(self, name: str) -> float:
        """φ_nm (rad) of the coefficient ``C_nm``."""
        return self.coefficients.get(name.replace("C", "phi"), 0.0)

    @property
    def defocus_A(self) -> float:
        """−C10; positive is underfocus."""
        return -self.C("C10")

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficients that are given, lowest order first."""
        return tuple(name for name in ORDERS if name in self.coefficients)

    def replace(self, **coefficients: float) -> Aberrations:
        """The same with other values of some coefficients.

        >>> Aberrations({"C10": 5.0}).replace(C30=1e7).names
        ('C10', 'C30')
        """
        if "defocus" in coefficients:
            coefficients["C10"] = -coefficients.pop("defocus")
        return Aberrations({**self.coefficients, **coefficients})

    # ---- linear form -----------------------------------------------------------------------------
    @property
    def cartesian(self) -> dict[tuple[str, str], float]:
        """``{(C_nm, "a"): C cos mφ_nm, (C_nm, "b"): C sin mφ_nm}``; only "a" where m is 0."""
        found = {}
        for name in self.names:
            m = ORDERS[name][1]
            found[name, "a"] = self.C(name) * math.cos(m * self.angle(name))
            if m:
                found[name, "b"] = self.C(name) * math.sin(m * self.angle(name))
        return found

    @classmethod
    def from_cartesian(cls, parts: Mapping[tuple[str, str], float]) -> Aberrations:
        """The inverse of `cartesian`; coefficients with an angle come out positive."""
        found: dict[str, float] = {}
        for name in dict.fromkeys(name for name, _ in parts):
            a, m = float(parts.get((name, "a"), 0.0)), ORDERS[name][1]
            if m == 0:
                found[name] = a
                continue
            b = float(parts.get((name, "b"), 0.0))
            found[name] = math.hypot(a, b)
            found[name.replace("C", "phi")] = math.atan2(b, a) / m
        return cls(found)

    # ---- the phase plate -------------------------------------------------------------------------
    def chi(self, alpha_x: ArrayLike, alpha_y: ArrayLike) -> Float:
        """χ in Å at angles (rad) along x and y; the phase of the probe is ``−2π χ/λ``."""
        x, y = np.asarray(alpha_x, dtype=np.float64), np.asarray(alpha_y, dtype=np.float64)
        chi = np.zeros(np.broadcast(x, y).shape)
        for (name, part), value in self.cartesian.items():
            chi += value * basis(name, part, x, y)
        return chi

    def gradient(self, alpha_x: ArrayLike, alpha_y: ArrayLike) -> Float:
        """∂χ/∂α in Å, (2, …): how far a ray at this angle lands from the axis.

        The image of the bright-field pixel at (α_x, α_y) is displaced by the opposite, in detector
        axes.
        """
        x, y = np.asarray(alpha_x, dtype=np.float64), np.asarray(alpha_y, dtype=np.float64)
        gradient = np.zeros((2, *np.broadcast(x, y).shape))
        for (name, part), value in self.cartesian.items():
            gradient += value * basis_gradient(name, part, x, y)
        return gradient


def basis(name: str, part: str, x: Float, y: Float) -> Float:
    """``α^(n+1)/(n+1) cos mφ`` (part "a") or ``sin mφ`` ("b")."""
    n, m = ORDERS[name]
    wave: Float = (x * x + y * y) ** ((n + 1 - m) // 2) * _power(x, y, m, part) / (n + 1)
    return wave


def basis_gradient(name: str, part: str, x: Float, y: Float) -> Float:
    """Gradient of `basis` along x and y, (2, …)."""
    n, m = ORDERS[name]
    s = (n + 1 - m) // 2
    r2 = x * x + y * y
    radial = 2 * s * r2 ** max(s - 1, 0) * _power(x, y, m, part)
    other = r2**s * m
    # d (x + iy)^m = m (x + iy)^(m-1) (dx + i dy)
    lower_a, lower_b = (_power(x, y, max(m - 1, 0), p) for p in "ab")
    along = (lower_a, -lower_b) if part == "a" else (lower_b, lower_a)
    return np.stack([radial * x + other * along[0], radial * y + other * along[1]]) / (n + 1)


def all_parts(names: Iterable[str]) -> list[tuple[str, str]]:
    """The unknowns of a linear fit of these coefficients."""
    return [(n, p) for n in names for p in ("ab" if ORDERS[n][1] else "a")]


def _power(x: Float, y: Float, m: int, part: str) -> Float:
    """``α^m cos mφ`` or ``α^m sin mφ``."""
    value = (x + 1j * y) ** m
    return np.asarray(value.real if part == "a" else value.imag)


def _is_angle(name: str) -> bool:
    full = name.replace("phi", "C", 1)
    return name.startswith("phi") and full in ORDERS and ORDERS[full][1] > 0
