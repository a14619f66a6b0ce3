"""Physical constants and the few units that diffraction needs.

Real space is Å, reciprocal space Å⁻¹ (no 2π) or mrad, energy eV.  Constants are CODATA 2018
exact values, so that ``λ(300 keV) = 0.019687 Å``.
"""

from __future__ import annotations

import math

from py4DSTEM.errors import ParameterError

__all__ = [
    "camera_pixel_mrad",
    "canonical_unit",
    "electron_wavelength_A",
    "interaction_constant_rad_per_VA",
    "is_angle",
    "is_length",
    "is_reciprocal",
    "to_reciprocal_A",
    "unit_factor",
]

PLANCK_J_S = 6.62607015e-34
ELECTRON_MASS_KG = 9.1093837015e-31
ELEMENTARY_CHARGE_C = 1.602176634e-19
SPEED_OF_LIGHT_M_S = 299792458.0

_LENGTH_A = {
    "A": 1.0, "Å": 1.0, "\u212b": 1.0, "angstrom": 1.0, "nm": 10.0, "pm": 0.01,
    "um": 1e4, "µm": 1e4, "μm": 1e4, "mm": 1e7, "cm": 1e8, "m": 1e10,
}  # fmt: skip
_ANGLE_MRAD = {"mrad": 1.0, "rad": 1e3, "deg": 1e3 * math.pi / 180, "°": 1e3 * math.pi / 180,
               "urad": 1e-3, "µrad": 1e-3}  # fmt: skip
_PIXEL = {"px": 1.0}
_PIXEL_NAMES = {"", "px", "pix", "pixel", "pixels", "[pix]", "[]", "<undefined>", "undefined", "1"}
_LONG_NAMES = {"ångström": "A", "angstroms": "A", "ang": "A", "micron": "um", "microns": "um",
               "nanometer": "nm", "nanometers": "nm", "radian": "rad", "radians": "rad",
               "degree": "deg", "degrees": "deg", "angle": "rad"}  # fmt: skip


def _reciprocal_base(unit: str) -> str | None:
    """``"1/nm"``, ``"nm^-1"``, ``"nm⁻¹"`` → ``"nm"``; None where `unit` is not an inverse."""
    if unit.startswith("1/"):
        return unit[2:].strip("()")
    for suffix in ("^-1", "**-1", "^(-1)", "⁻¹", "-1"):
        if unit.endswith(suffix):
            return unit[: -len(suffix)]
    return None


def canonical_unit(unit: str | None) -> str:
    """Name a unit as the package does: ``px A nm pm um mm mrad rad deg A^-1 nm^-1 …``.

    Unknown units come back stripped but unchanged, so that nothing a file says is lost.

    >>> canonical_unit("1 / nm"), canonical_unit("Å"), canonical_unit("pixels")
    ('nm^-1', 'A', 'px')
    """
    text = "" if unit is None else str(unit).strip()
    if text.lower() in _PIXEL_NAMES:
        return "px"
    squeezed = text.replace(" ", "")
    base = _reciprocal_base(squeezed)
    if base:
        return f"{_canonical_base(base)}^-1"
    return _canonical_base(squeezed) if _canonical_base(squeezed) != squeezed else text


def _canonical_base(unit: str) -> str:
    if unit.lower() in _LONG_NAMES:
        return _LONG_NAMES[unit.lower()]
    if unit in ("Å", "\u212b", "angstrom", "Angstrom"):
        return "A"
    return {"µm": "um", "μm": "um", "°": "deg", "µrad": "urad"}.get(unit, unit)


def is_length(unit: str) -> bool:
    """Whether `unit` measures a distance in real space."""
    return canonical_unit(unit) in _LENGTH_A


def is_reciprocal(unit: str) -> bool:
    """Whether `unit` is an inverse length."""
    base = _reciprocal_base(canonical_unit(unit))
    return base is not None and base in _LENGTH_A


def is_angle(unit: str) -> bool:
    """Whether `unit` measures an angle."""
    return canonical_unit(unit) in _ANGLE_MRAD


def unit_factor(source: str, target: str) -> float:
    """Return f such that ``value_in_target = f * value_in_source``.

    >>> unit_factor("nm^-1", "A^-1"), unit_factor("nm", "A")
    (0.1, 10.0)

    Raises
    ------
    ParameterError
        The two units measure different things.
    """
    a, b = canonical_unit(source), canonical_unit(target)
    if a == b:
        return 1.0
    for table in (_LENGTH_A, _ANGLE_MRAD, _PIXEL):
        if a in table and b in table:
            return table[a] / table[b]
    base_a, base_b = _reciprocal_base(a), _reciprocal_base(b)
    if base_a in _LENGTH_A and base_b in _LENGTH_A:
        return _LENGTH_A[base_b] / _LENGTH_A[base_a]
    raise ParameterError(f"cannot convert {source!r} to {target!r}: they measure different things")


def camera_pixel_mrad(pixel_um: float, camera_length_mm: float) -> float:
    """Angle that a detector pixel spans, in mrad: its size over the camera length.

    >>> camera_pixel_mrad(55.0, 250.0)
    0.22

    Raises
    ------
    ParameterError
        A length is not a positive number.
    """
    for name, value in (("pixel_um", pixel_um), ("camera_length_mm", camera_length_mm)):
        if not (math.isfinite(value) and value > 0):
            raise ParameterError(f"{name} must be a positive number, not {value!r}")
    return pixel_um / camera_length_mm


def electron_wavelength_A(energy_eV: float) -> float:
    """Relativistic de Broglie wavelength of an electron, in Å.

    ``λ = h c / √(E (E + 2 m c²))``

    >>> round(electron_wavelength_A(300e3), 6)
    0.019687
    """
    if not (math.isfinite(energy_eV) and energy_eV > 0):
        raise ParameterError(
            f"energy_eV must be a positive number of electronvolts, not {energy_eV!r}"
        )
    energy_J = energy_eV * ELEMENTARY_CHARGE_C
    rest_J = ELECTRON_MASS_KG * SPEED_OF_LIGHT_M_S**2
    return 1e10 * PLANCK_J_S * SPEED_OF_LIGHT_M_S / math.sqrt(energy_J * (energy_J + 2 * rest_J))


def interaction_constant_rad_per_VA(energy_eV: float) -> float:
    """Phase per projected potential, ``σ = 2π m e λ / h²``, in rad/(V·Å).

    >>> round(interaction_constant_rad_per_VA(300e3), 8)
    0.00065262
    """
    rest_eV = ELECTRON_MASS_KG * SPEED_OF_LIGHT_M_S**2 / ELEMENTARY_CHARGE_C
    gamma = 1 + energy_eV / rest_eV
    mass_kg = gamma * ELECTRON_MASS_KG
    wavelength_m = electron_wavelength_A(energy_eV) * 1e-10
    per_Vm = 2 * math.pi * mass_kg * ELEMENTARY_CHARGE_C * wavelength_m / PLANCK_J_S**2
    return per_Vm * 1e-10


def to_reciprocal_A(value: float, unit: str, energy_eV: float | None) -> float:
    """Turn a scattering vector or angle into Å⁻¹ (``q = θ/λ``, small angles; no 2π)."""
    if is_reciprocal(unit):
        return value * unit_factor(unit, "A^-1")
    if is_angle(unit):
        if energy_eV is None:
            raise ParameterError(f"{unit!r} needs the beam energy to become A^-1: give energy_eV")
        return value * unit_factor(unit, "rad") / electron_wavelength_A(energy_eV)
    raise ParameterError(f"{unit!r} is neither an angle nor an inverse length")
