"""Crystals: where they come from, their symmetry, and how they scatter."""

import numpy as np
import pytest

from py4DSTEM.core.crystal import Crystal, Site
from py4DSTEM.core.crystal_table import COMMON
from py4DSTEM.core.scattering import scattering_factor_A
from py4DSTEM.errors import CorruptFile, ParameterError, ShapeError

QUARTZ = [4.9137, 4.9137, 5.4047, 90, 90, 120]
CIF = """
data_{name}
_cell_length_a 3.9051
_cell_length_b 3.9051
_cell_length_c 3.9051
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
{symmetry}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
_atom_site_B_iso_or_equiv
Sr1 Sr2+ 0.5 0.5 0.5 {occupancy} 0.6
La1 La3+ 0.5 0.5 0.5 {other} 0.6
Ti1 Ti4+ 0 0 0 1.0 0.4
O1 O2- 0.5 0 0 1.0 0.7
"""
GROUP = "_symmetry_space_group_name_H-M 'P m -3 m'"


def cif(tmp_path, *, name="sto", symmetry=GROUP, occupancy="0.8", other="0.2", more=""):
    path = tmp_path / "sto.cif"
    text = CIF.format(name=name, symmetry=symmetry, occupancy=occupancy, other=other)
    path.write_text(text + more)
    return path


@pytest.mark.parametrize("name", sorted(COMMON))
def test_atoms_of_common_crystals_have_their_space_group(name):
    crystal = Crystal.common(name)
    wanted = COMMON[name][0].split(" :")[0].replace(" ", "")
    assert crystal.space_group.split(" (")[0].replace("_", "") == wanted
    assert (
        len(crystal.rotations)
        == {"m-3m": 24, "-43m": 24, "6/mmm": 12, "4/mmm": 8}[crystal.point_group]
    )


def test_rotations_are_rotations_and_a_group():
    turns = Crystal.common("Ti").rotations
    np.testing.assert_allclose(turns[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    products = turns[:, None] @ turns
    apart = np.abs(products[:, :, None] - turns).max(axis=(-1, -2))
    assert (apart.min(axis=-1) < 1e-9).all()
    reflections = Crystal.common("Ti").reflections(0.9)
    strength = np.abs(reflections.F_A)
    for turn in turns:
        turned = reflections.g_A @ turn.T
        same = np.linalg.norm(turned[:, None] - reflections.g_A, axis=-1).argmin(axis=1)
        np.testing.assert_allclose(strength[same], strength, rtol=1e-9)


def test_the_reciprocal_lattice_of_an_oblique_cell():
    cell = [3.1, 4.7, 6.2, 81.0, 97.0, 112.0]
    crystal = Crystal.from_lattice(cell, [("C", (0, 0, 0)), ("O", (0.1, 0.23, 0.4))])
    a, b, c = crystal.lattice_A
    np.testing.assert_allclose(crystal.reciprocal_A @ crystal.lattice_A.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose([a[1], a[2], b[2]], 0)
    lengths = np.linalg.norm(crystal.lattice_A, axis=1)
    np.testing.assert_allclose(lengths, cell[:3])
    np.testing.assert_allclose(np.degrees(np.arccos(b @ c / (lengths[1] * lengths[2]))), 81)
    assert crystal.volume_A3 == pytest.approx(a @ np.cross(b, c))
    assert len(crystal.rotations) == 1


def test_extinctions_and_sums_of_atoms():
    salt = Crystal.common("NaCl")
    hkl = [[1, 1, 1], [2, 0, 0], [1, 0, 0], [2, 1, 0]]
    k = np.sqrt([3, 4, 1, 5]) / 5.64056
    sodium, chlorine = (scattering_factor_A(e, k) for e in ("Na", "Cl"))
    wanted = 4 * np.array([(sodium - chlorine)[0], (sodium + chlorine)[1], 0, 0])
    np.testing.assert_allclose(salt.structure_factors_A(hkl), wanted, atol=1e-12)
    listed = salt.reflections(0.62)
    assert {tuple(np.sort(np.abs(h))) for h in listed.hkl.tolist()} == {
        (1, 1, 1), (0, 0, 2), (0, 2, 2), (1, 1, 3), (2, 2, 2),
    }  # fmt: skip
    assert len(listed) == 8 + 6 + 12 + 24 + 8
    assert (np.diff(listed.k_A) >= -1e-12).all()
    assert len(salt.reflections(0.62, extinct=True)) > len(listed)
    np.testing.assert_allclose(listed.g_A, listed.hkl / 5.64056, atol=1e-12)


def test_atoms_that_vibrate_scatter_less_and_partial_ones_in_part():
    still = Crystal.from_lattice([4.0], [("Cu", (0, 0, 0))])
    moving = Crystal.from_lattice([4.0], [Site("Cu", (0, 0, 0), 0.5, 0.8)])
    hkl = [[1, 0, 0], [0, 2, 1]]
    k2 = np.array([1, 5]) / 16
    ratio = moving.structure_factors_A(hkl) / still.structure_factors_A(hkl)
    np.testing.assert_allclose(ratio, 0.5 * np.exp(-0.8 * k2 / 4))


def test_a_cif_with_partial_occupancy(tmp_path):
    crystal = Crystal.from_cif(cif(tmp_path))
    assert crystal.formula == "Sr0.8La0.2TiO3"
    assert crystal.space_group == "Pm-3m (221)"
    np.testing.assert_allclose(crystal.B_A2, [0.6, 0.6, 0.4, 0.7, 0.7, 0.7], atol=1e-9)


def test_a_cif_that_lists_operations(tmp_path):
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "\n".join(
        f"'{text}'" for text in ("x,y,z", "y,z,x", "z,x,y")
    )
    crystal = Crystal.from_cif(cif(tmp_path, symmetry=operations))
    assert crystal.formula == "Sr0.8La0.2TiO3"


def test_a_cif_without_symmetry_is_asked_about(tmp_path):
    path = cif(tmp_path, symmetry="")
    with pytest.raises(ParameterError, match="names no symmetry"):
        Crystal.from_cif(path)
    assert Crystal.from_cif(path, space_group="P 1").formula == "Sr0.8La0.2TiO"
    assert Crystal.from_cif(path, space_group=221).formula == "Sr0.8La0.2TiO3"


def test_a_cif_with_several_structures(tmp_path):
    second = CIF.format(name="two", symmetry=GROUP, occupancy="0.5", other="0.5")
    path = cif(tmp_path, more=second)
    with pytest.raises(ParameterError, match=r"several structures.*'sto', 'two'"):
        Crystal.from_cif(path)
    assert Crystal.from_cif(path, block="two").formula == "Sr0.5La0.5TiO3"
    with pytest.raises(ParameterError, match="no structure 'three'"):
        Crystal.from_cif(path, block="three")


def test_more_atoms_than_a_place_holds(tmp_path):
    with pytest.raises(ParameterError, match=r"1\.4 atoms at"):
        Crystal.from_cif(cif(tmp_path, other="0.6"))


@pytest.mark.parametrize("text", ["", "data_x\n_cell_length_a", "\x00\xff not a cif", "data_x\n"])
def test_files_that_are_no_cif(tmp_path, text):
    path = tmp_path / "broken.cif"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CorruptFile):
        Crystal.from_cif(path)
    with pytest.raises(ParameterError, match="no file"):
        Crystal.from_cif(tmp_path / "none.cif")


def test_a_crystal_survives_being_written_down(tmp_path):
    crystal = Crystal.from_cif(cif(tmp_path))
    again = Crystal.of(crystal.plain())
    assert again.plain() == crystal.plain()
    assert Crystal.of(crystal) is crystal
    assert Crystal.of(str(tmp_path / "sto.cif")).plain() == crystal.plain()
    assert Crystal.of("Au").formula == "Au4"
    for wrong in ("Unobtainium", {"cell": [1] * 6}):
        with pytest.raises(ParameterError):
            Crystal.of(wrong)


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ([0, 1, 1], "a, b, c"),
        ([4, 4, 4, 90, 90, 190], "enclose no volume"),
        ([4, 4, 4, 30, 30, 100], "enclose no volume"),
        ([4000.0], "too long"),
        ([4, 4], "not 2 numbers"),
        ([4, np.nan, 4], "a, b, c"),
    ],
)
def test_cells_that_are_none(cell, problem):
    with pytest.raises(ParameterError, match=problem):
        Crystal.from_lattice(cell, [("C", (0, 0, 0))])


def test_other_bad_input():
    with pytest.raises(ParameterError, match="no space group"):
        Crystal.from_lattice([4], [("C", (0, 0, 0))], space_group="F m 3 4")
    with pytest.raises(ParameterError, match="does not have the symmetry"):
        Crystal.from_lattice([4, 5, 6], [("C", (0, 0, 0))], space_group=225)
    with pytest.raises(ParameterError, match="no element"):
        Crystal.from_lattice([4], [("Xx", (0, 0, 0))])
    with pytest.raises(ParameterError, match="1 to"):
        Crystal.from_lattice([4], [])
    with pytest.raises(ParameterError, match="occupancies"):
        Crystal.from_lattice([4], [Site("C", (0, 0, 0), 1.5)])
    with pytest.raises(ShapeError):
        Crystal.common("Au").structure_factors_A([1, 1, 1])
    for k in (0, -1, np.inf, 60):
        with pytest.raises(ParameterError):
            Crystal.common("Au").reflections(k)


def test_quartz_has_three_atoms_of_silicon_and_six_of_oxygen():
    sites = [("Si", (0.4697, 0, 2 / 3)), ("O", (0.4133, 0.2672, 0.7855))]
    quartz = Crystal.from_lattice(QUARTZ, sites, space_group="P 32 2 1")
    assert quartz.formula == "Si3O6"
    assert quartz.space_group_number == 154
    assert len(quartz.rotations) == 6
