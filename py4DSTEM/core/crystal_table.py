"""Structures that are known by name.

Lattice parameters at room temperature from R. W. G. Wyckoff, Crystal Structures 1 and 2
(Interscience, 1963 and 1964); silicon is the CODATA 2018 value (doi:10.1103/RevModPhys.93.025010).
"""

from __future__ import annotations

__all__ = ["COMMON"]

Entry = tuple[str, tuple[float, ...], tuple[tuple[str, tuple[float, float, float]], ...]]

_ORIGIN = (0.0, 0.0, 0.0)
_MIDDLE = (0.5, 0.5, 0.5)
_THIRD = (1 / 3, 2 / 3, 0.25)


def _cubic(group: str, a: float, *sites: tuple[str, tuple[float, float, float]]) -> Entry:
    return group, (a, a, a, 90.0, 90.0, 90.0), sites


def _hexagonal(
    group: str, a: float, c: float, *sites: tuple[str, tuple[float, float, float]]
) -> Entry:
    return group, (a, a, c, 90.0, 90.0, 120.0), sites


_FCC = {"Ag": 4.0862, "Al": 4.04958, "Au": 4.0782, "Cu": 3.61496, "Ir": 3.8394, "Ni": 3.52387,
        "Pb": 4.9505, "Pd": 3.8898, "Pt": 3.9231, "Rh": 3.8031}  # fmt: skip
_BCC = {"Cr": 2.8839, "Fe": 2.8664, "Mo": 3.1473, "Nb": 3.3004, "Ta": 3.3058, "V": 3.0240,
        "W": 3.16469}  # fmt: skip
_DIAMOND = {"diamond": ("C", 3.56679), "Ge": ("Ge", 5.65735), "Si": ("Si", 5.431020511)}
_HCP = {"Co": (2.507, 4.069), "Mg": (3.20927, 5.21033), "Ru": (2.70389, 4.28168),
        "Ti": (2.950, 4.686), "Zn": (2.664, 4.945), "Zr": (3.232, 5.147)}  # fmt: skip
_SALT = {"MgO": ("Mg", "O", 4.2112), "NaCl": ("Na", "Cl", 5.64056), "NiO": ("Ni", "O", 4.1684),
         "TiN": ("Ti", "N", 4.235), "FeO": ("Fe", "O", 4.3108)}  # fmt: skip
_BLENDE = {"GaAs": ("Ga", "As", 5.6537), "InAs": ("In", "As", 6.036), "InP": ("In", "P", 5.8687),
           "GaP": ("Ga", "P", 5.4505)}  # fmt: skip

COMMON: dict[str, Entry] = {
    **{name: _cubic("F m -3 m", a, (name, _ORIGIN)) for name, a in _FCC.items()},
    **{name: _cubic("I m -3 m", a, (name, _ORIGIN)) for name, a in _BCC.items()},
    **{name: _cubic("F d -3 m :1", a, (e, _ORIGIN)) for name, (e, a) in _DIAMOND.items()},
    **{
        name: _hexagonal("P 63/m m c", a, c, (name, _THIRD)) for name, (a, c) in _HCP.items()
    },
    **{
        name: _cubic("F m -3 m", a, (one, _ORIGIN), (other, _MIDDLE))
        for name, (one, other, a) in _SALT.items()
    },
    **{
        name: _cubic("F -4 3 m", a, (one, _ORIGIN), (other, (0.25, 0.25, 0.25)))
        for name, (one, other, a) in _BLENDE.items()
    },
    "CeO2": _cubic("F m -3 m", 5.4110, ("Ce", _ORIGIN), ("O", (0.25, 0.25, 0.25))),
    "Cu2O": _cubic("P n -3 m :1", 4.2696, ("O", _ORIGIN), ("Cu", (0.25, 0.25, 0.25))),
    "SrTiO3": _cubic(
        "P m -3 m", 3.9051, ("Sr", _MIDDLE), ("Ti", _ORIGIN), ("O", (0.5, 0.0, 0.0))
    ),
    "BaTiO3": _cubic(
        "P m -3 m", 4.0118, ("Ba", _MIDDLE), ("Ti", _ORIGIN), ("O", (0.5, 0.0, 0.0))
    ),
    "graphite": _hexagonal("P 63/m m c", 2.456, 6.696, ("C", (0.0, 0.0, 0.25)), ("C", _THIRD)),
    "MoS2": _hexagonal(
        "P 63/m m c", 3.1604, 12.295, ("Mo", _THIRD), ("S", (1 / 3, 2 / 3, 0.621))
    ),
    "TiO2": (
        "P 42/m n m", (4.59373, 4.59373, 2.95812, 90.0, 90.0, 90.0),
        (("Ti", _ORIGIN), ("O", (0.3053, 0.3053, 0.0))),
    ),
}  # fmt: skip
"""Name → space group, cell (Å, degrees), asymmetric unit."""
