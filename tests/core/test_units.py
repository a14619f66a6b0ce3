"""Units by all their names, and constants from published values."""

import math

import pytest

from py4DSTEM import units
from py4DSTEM.errors import ParameterError


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("1/nm", "nm^-1"), ("nm⁻¹", "nm^-1"), ("nm^-1", "nm^-1"), ("1 / nm", "nm^-1"),
        ("1/(Å)", "A^-1"), ("A^-1", "A^-1"), ("Å^-1", "A^-1"), ("Å", "A"), ("\u212b", "A"),
        ("Ångström", "A"), ("µm", "um"), ("μm", "um"), ("pixels", "px"), ("", "px"),
        (None, "px"), ("<undefined>", "px"), ("mrad", "mrad"), ("degrees", "deg"), ("°", "deg"),
        ("furlong", "furlong"), (" nm ", "nm"),
    ],
)  # fmt: skip
def test_every_spelling_has_one_name(written, name):
    assert units.canonical_unit(written) == name
    assert units.canonical_unit(name) == name


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [
        ("nm", "A", 10), ("A", "nm", 0.1), ("nm^-1", "A^-1", 0.1), ("1/nm", "1/Å", 0.1),
        ("rad", "mrad", 1000), ("deg", "rad", math.pi / 180), ("m", "A", 1e10), ("px", "px", 1),
    ],
)  # fmt: skip
def test_conversion(source, target, factor):
    assert units.unit_factor(source, target) == pytest.approx(factor, rel=1e-14)
    assert units.unit_factor(target, source) == pytest.approx(1 / factor, rel=1e-14)


@pytest.mark.parametrize("pair", [("nm", "mrad"), ("nm", "nm^-1"), ("px", "A"), ("furlong", "m")])
def test_units_of_different_things_do_not_convert(pair):
    with pytest.raises(ParameterError, match="different things"):
        units.unit_factor(*pair)


@pytest.mark.parametrize(
    ("energy_eV", "wavelength_A"), [(300e3, 0.019687), (200e3, 0.025079), (80e3, 0.041757)]
)
def test_wavelength(energy_eV, wavelength_A):
    # Kirkland, Advanced Computing in Electron Microscopy, doi:10.1007/978-1-4419-6533-2
    assert units.electron_wavelength_A(energy_eV) == pytest.approx(wavelength_A, abs=5e-7)


def test_interaction_constant():
    # σ(200 kV) = 0.00729 rad/(V·nm)·10 in the same book
    assert units.interaction_constant_rad_per_VA(200e3) == pytest.approx(0.000729, abs=1e-6)


@pytest.mark.parametrize("energy", [0, -1, math.nan, math.inf])
def test_an_energy_must_make_sense(energy):
    with pytest.raises(ParameterError, match="energy_eV"):
        units.electron_wavelength_A(energy)


def test_angles_become_reciprocal_lengths():
    q = units.to_reciprocal_A(10, "mrad", 200e3)
    assert q == pytest.approx(0.010 / units.electron_wavelength_A(200e3))
    assert units.to_reciprocal_A(1, "nm^-1", None) == pytest.approx(0.1)
    with pytest.raises(ParameterError, match="energy"):
        units.to_reciprocal_A(10, "mrad", None)
    with pytest.raises(ParameterError, match="neither"):
        units.to_reciprocal_A(10, "nm", 200e3)
