"""Scattering factors against published tables, and compositions."""

from __future__ import annotations

import numpy as np
import pytest

from py4DSTEM.core.scattering import Composition, scattering_factor_A
from py4DSTEM.errors import ParameterError

Q_A = np.array([0.25, 0.5, 1.0, 2.0, 3.0])
# Two published tables of other authors, independent fits to other calculations, evaluated at Q_A.
LOBATO = {  # doi:10.1107/S205327331401643X
    "C": [1.970, 1.1692, 0.4128, 0.1172, 0.0567],
    "Si": [3.9421, 1.9677, 0.7429, 0.2705, 0.1319],
    "Cu": [4.2144, 2.7946, 1.4682, 0.5215, 0.2542],
    "Pd": [6.3876, 4.4963, 2.1305, 0.7512, 0.3875],
    "Au": [8.6813, 6.0402, 3.0655, 1.2096, 0.6356],
}
KIRKLAND = {  # Advanced Computing in Electron Microscopy, doi:10.1007/978-1-4419-6533-2
    "C": [1.9674, 1.1700, 0.4127, 0.1168, 0.0569],
    "Si": [3.9393, 1.9658, 0.7423, 0.2702, 0.1320],
    "Cu": [4.2104, 2.8011, 1.4643, 0.5225, 0.2520],
    "Pd": [6.3942, 4.4860, 2.1421, 0.7441, 0.3906],
    "Au": [8.6832, 6.0346, 3.0708, 1.2082, 0.6388],
}


@pytest.mark.parametrize("element", LOBATO)
@pytest.mark.parametrize("source", ["peng", "mott-bethe"])
def test_tables_of_other_authors_agree(element, source):
    """Peng: within 0.8 % of Lobato, 0.7 % of Kirkland; Mott-Bethe 1.4 % (Au at q = 0.25)."""
    found = scattering_factor_A(element, Q_A, source)
    np.testing.assert_allclose(found, LOBATO[element], rtol=0.015)
    np.testing.assert_allclose(found, KIRKLAND[element], rtol=0.015)


def test_the_atom_of_hydrogen_is_known_exactly():
    """``f = (1 − f_x)/(2π² a₀ q²)`` with ``f_x = (1 + π² a₀² q²)^−2``."""
    a = 0.529177210903
    q = np.array([0.2, 0.5, 1.0])
    exact = (1 - (1 + (np.pi * a * q) ** 2) ** -2) / (2 * np.pi**2 * a * q**2)
    # The tables hold hydrogen as it is bound; the free atom is a few per cent away.
    np.testing.assert_allclose(scattering_factor_A("H", q), exact, rtol=0.02)


def test_far_out_the_bare_nucleus_scatters():
    """Rutherford: f → Z/(2π² a₀ q²); at q = 10 the electrons of carbon no longer shield."""
    bare = 6 / (2 * np.pi**2 * 0.529177210903 * 100)
    assert scattering_factor_A("C", 10.0, "mott-bethe") == pytest.approx(bare, rel=0.05)


def test_any_shape_and_continuous_at_zero():
    q = np.linspace(0, 1, 6).reshape(2, 3)
    assert scattering_factor_A("Pd", q).shape == (2, 3)
    near = scattering_factor_A("Pd", [0.0, 1e-7, 1e-3], "mott-bethe")
    np.testing.assert_allclose(near, near[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("element", "q", "source", "words"),
    [
        ("Xy", 1.0, "peng", "no element 'Xy'"),
        ("", 1.0, "peng", "no element"),
        ("pd", 1.0, "peng", "no element 'pd'"),
        ("Pd", -0.1, "peng", "q lies between"),
        ("Pd", 4.1, "peng", "mott-bethe"),
        ("Pd", np.nan, "peng", "q lies between"),
        ("Fm", 1.0, "peng", "the table of 'peng' ends"),
        ("Pd", 1.0, "kirkland", "a source is one of"),
    ],
)
def test_what_cannot_be_looked_up(element, q, source, words):
    with pytest.raises(ParameterError, match=words):
        scattering_factor_A(element, q, source)


@pytest.mark.parametrize(
    ("given", "elements", "fractions"),
    [
        ("Cu", ("Cu",), (1.0,)),
        ("SiO2", ("Si", "O"), (1 / 3, 2 / 3)),
        ("Pd80Si20", ("Pd", "Si"), (0.8, 0.2)),
        ("Pd 0.8, Si 0.2", ("Pd", "Si"), (0.8, 0.2)),
        ("CH3CH3", ("C", "H"), (0.25, 0.75)),
        ({"Fe": 3, "C": 1}, ("Fe", "C"), (0.75, 0.25)),
    ],
)
def test_compositions_are_read(given, elements, fractions):
    found = Composition.parse(given)
    assert found.elements == elements
    np.testing.assert_allclose(found.fractions, fractions)
    again = Composition.parse(str(found))
    np.testing.assert_allclose(again.fractions, fractions, rtol=1e-5)


@pytest.mark.parametrize(
    "given", ["", "80", "pd80", "Pd80(SiO2)", "PdX", "Pd0", {}, {"Pd": -1}, {"Pd": np.nan}]
)
def test_what_is_no_composition(given):
    with pytest.raises(ParameterError):
        Composition.parse(given)


def test_means_of_two_elements():
    glass = Composition.parse("Pd80Si20")
    pd, si = scattering_factor_A("Pd", Q_A), scattering_factor_A("Si", Q_A)
    np.testing.assert_allclose(glass.mean_f_A(Q_A), 0.8 * pd + 0.2 * si)
    np.testing.assert_allclose(glass.mean_f2_A2(Q_A), 0.8 * pd**2 + 0.2 * si**2)
    # Copper of 8.96 g/cm³ is fcc with a = 3.615 Å, four atoms in a cell.
    assert Composition.parse("Cu").density_A3(8.96) == pytest.approx(4 / 3.615**3, rel=0.005)
