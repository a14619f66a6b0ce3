"""Lengths of reciprocal lattice vectors of the crystals that pixel sizes are measured with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import ParameterError

__all__ = [
    "STANDARDS",
    "Reference",
    "ReferenceLines",
    "ReferenceModel",
    "plain_reference",
    "reference_lines",
]

Float = NDArray[np.float64]
Hkl = tuple[int, int, int]
Centring = Literal["P", "I", "F", "diamond", "hcp"]
Reference = str | Mapping[str, float | str | Sequence[float]] | Sequence[float]
ReferenceModel = str | dict[str, float | str | list[float]] | list[float]
"""`Reference` as JSON holds it."""

STANDARDS: Mapping[str, tuple[Centring, float, float | None]] = {
    "Ag": ("F", 4.0862, None),
    "Al": ("F", 4.04958, None),
    "Au": ("F", 4.0782, None),
    "C": ("hcp", 2.456, 6.696),
    "Cu": ("F", 3.61496, None),
    "Fe": ("I", 2.8664, None),
    "MgO": ("F", 4.2112, None),
    "Ni": ("F", 3.52387, None),
    "Pd": ("F", 3.8898, None),
    "Pt": ("F", 3.9231, None),
    "Si": ("diamond", 5.431020511, None),
    "TlCl": ("P", 3.834, None),
    "W": ("I", 3.16469, None),
    "graphite": ("hcp", 2.456, 6.696),
}
"""Centring and lattice parameters a, c in Å at room temperature.

From R. W. G. Wyckoff, Crystal Structures 1 (Interscience, 1963), chapters II to IV; silicon is the
CODATA 2018 value (doi:10.1103/RevModPhys.93.025010).
"""


@dataclass(frozen=True, eq=False)
class ReferenceLines:
    """Lines of a crystal, inside out.

    Parameters
    ----------
    q_A : (k,) float64
        ``1 / d`` in Å⁻¹.
    weights : (k,) float64
        How much each is expected to be seen, at most one: given, or of lines of a crystal
        ``(q₁ / q)²``, as inner lines are seldom missing.
    labels : tuple of str
        ``"111"``, or nothing.
    name : str
    complete : bool
        Whether the crystal has no other lines.
    """

    q_A: Float
    weights: Float
    labels: tuple[str, ...]
    name: str
    complete: bool = True

    def __len__(self) -> int:
        return len(self.q_A)

    def select(self, keep: NDArray[np.bool_]) -> ReferenceLines:
        """The lines for which ``keep`` (k,) is True."""
        labels = tuple(itertools.compress(self.labels, keep.tolist()))
        return replace(self, q_A=self.q_A[keep], weights=self.weights[keep], labels=labels)


def plain_reference(reference: Reference) -> ReferenceModel:
    """A reference of any form as JSON holds it; what it means is checked by `reference_lines`."""
    if isinstance(reference, str):
        return reference
    if isinstance(reference, Mapping):
        return {
            name: value if isinstance(value, str | float | int) else np.asarray(value).tolist()
            for name, value in reference.items()
        }
    plain: list[float] = np.asarray(reference).tolist()
    return plain


def reference_lines(reference: Reference, longest_A: float = 4.0) -> ReferenceLines:
    """The lines that a reference stands for, up to `longest_A` in Å⁻¹.

    Parameters
    ----------
    reference : str, mapping or sequence of float
        - a name of `STANDARDS`;
        - ``{"a_A": 4.0782, "centring": "F"}`` with ``"P"``, ``"I"``, ``"F"`` or ``"diamond"``
          (cubic), or ``{"a_A": 2.456, "c_A": 6.696, "centring": "hcp"}`` (hexagonal, graphite);
        - ``{"d_A": [...]}`` or ``{"q_A": [...]}``, with ``"weights": [...]`` if they are known;
        - spacings d in Å.

    Raises
    ------
    ParameterError
        An unknown name, a missing key, or lengths that are not positive.

    Examples
    --------
    >>> lines = reference_lines("Au")
    >>> lines.labels[:5], round(float(1 / lines.q_A[0]), 4)
    (('111', '200', '220', '311', '222'), 2.3545)
    """
    if isinstance(reference, str):
        if reference not in STANDARDS:
            raise ParameterError(
                f"no reference {reference!r}; known: {', '.join(sorted(STANDARDS))}; or give "
                'dict(a_A=..., centring="F") or a list of d spacings in Å'
            )
        centring, a, c = STANDARDS[reference]
        return _crystal(a, c, centring, longest_A, reference)
    if isinstance(reference, Mapping):
        return _from_mapping(reference, longest_A)
    return _listed(1 / _lengths("d spacings", reference), None)


def _from_mapping(
    values: Mapping[str, float | str | Sequence[float]], longest_A: float
) -> ReferenceLines:
    keys = set(values)
    if "a_A" in keys and keys <= {"a_A", "c_A", "centring"}:
        a, c = values["a_A"], values.get("c_A")
        centring = values.get("centring", "F" if c is None else "hcp")
        for name, length in (("a_A", a), ("c_A", c)):
            if length is not None:
                _lengths(name, [length])
        named = f"a = {a} Å, {centring}"
        return _crystal(float(a), None if c is None else float(c), centring, longest_A, named)  # type: ignore[arg-type]
    if keys <= {"d_A", "q_A", "weights"} and len(keys & {"d_A", "q_A"}) == 1:
        q = _lengths("q_A", values["q_A"]) if "q_A" in keys else 1 / _lengths("d_A", values["d_A"])
        return _listed(q, values.get("weights"))
    raise ParameterError(
        f"a reference with the keys {sorted(keys)}: expected a_A (with c_A, centring), or d_A or "
        "q_A (with weights)"
    )


def _lengths(name: str, values: object) -> Float:
    try:
        array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError):
        raise ParameterError(f"{name} must be positive numbers, not {values!r}") from None
    if array.ndim != 1 or not len(array) or not (np.isfinite(array) & (array > 0)).all():
        raise ParameterError(f"{name} must be positive, finite numbers, not {values!r}")
    return array


def _listed(q: Float, weights: object) -> ReferenceLines:
    strength = np.ones(len(q)) if weights is None else _lengths("weights", weights)
    if len(strength) != len(q):
        raise ParameterError(f"{len(strength)} weights for {len(q)} lines")
    order = np.argsort(q)
    labels = ("",) * len(q)
    return ReferenceLines(
        q[order], strength[order] / strength.max(), labels, "given lines", complete=False
    )


def _crystal(
    a: float, c: float | None, centring: str, longest_A: float, name: str
) -> ReferenceLines:
    allowed = _ALLOWED.get(centring)
    if allowed is None or (c is not None) != (centring == "hcp"):
        raise ParameterError(
            f"centring {centring!r}: cubic ones are P, I, F, diamond; hcp needs c_A and a_A"
        )
    reach = math.ceil(longest_A * max(a, c or 0))
    found: dict[float, str] = {}
    span = range(reach + 1)
    for hkl in itertools.product(span, span, span):
        square = sum(i * i for i in hkl) / a**2 if c is None else _hexagonal(hkl, a, c)
        if 0 < square <= longest_A**2 and allowed(hkl):
            ordered = sorted(hkl, reverse=True) if c is None else hkl
            found.setdefault(round(math.sqrt(square), 9), "".join(map(str, ordered)))
    q = np.array(sorted(found))
    if not len(q):
        raise ParameterError(f"no line of {name} below {longest_A} 1/Å: is the length in Å?")
    labels = tuple(found[v] for v in q.tolist())
    return ReferenceLines(q, (q[0] / q) ** 2, labels, name)


def _hexagonal(hkl: Hkl, a: float, c: float) -> float:
    h, k, third = hkl
    return 4 / 3 * (h * h + h * k + k * k) / a**2 + (third / c) ** 2


def _face_centred(hkl: Hkl) -> bool:
    return len({index % 2 for index in hkl}) == 1


_ALLOWED: Mapping[str, Callable[[Hkl], bool]] = {
    "P": lambda hkl: True,
    "I": lambda hkl: sum(hkl) % 2 == 0,
    "F": _face_centred,
    "diamond": lambda hkl: _face_centred(hkl) and (hkl[0] % 2 == 1 or sum(hkl) % 4 == 0),
    "hcp": lambda hkl: (hkl[0] - hkl[1]) % 3 != 0 or hkl[2] % 2 == 0,
}
