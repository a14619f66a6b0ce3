"""Orientations for other programs: Euler angles, .ang, .ctf, orix."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import Calibration, Crystal, orientation_map, read_orientations
from py4DSTEM.errors import CorruptFile, FileMissing, ParameterError, ShapeError, UnknownFormat
from py4DSTEM.process.crystal.interop import layers_of
from py4DSTEM.simulate.grains import random_orientations

SHAPE = (4, 5)
STEP = Calibration().replace(R_pixel_size=(20.0, 25.0), R_pixel_units="A")


def gold(seed: int = 0) -> py4DSTEM.OrientationMap:
    rng = np.random.default_rng(seed)
    R = random_orientations(20, rng).reshape(*SHAPE, 3, 3)
    R[0, 0] = np.eye(3)  # where Euler angles are not unique
    R[1, 2] = np.nan
    return orientation_map(
        R, "Au", calibration=STEP, reliability=rng.random(SHAPE), sigma_deg=rng.random(SHAPE)
    )


def two_phases() -> SimpleNamespace:
    """What a map of several phases has, of gold and magnesium."""
    first = gold()
    second = orientation_map(gold(1).matrices, "Mg", calibration=STEP)
    labels = np.arange(20).reshape(SHAPE) % 3 % 2
    labels[3, 3] = -1
    return SimpleNamespace(labels=labels, orientations=(first, second), calibration=STEP,
                           history=first.history)  # fmt: skip


# ---- Euler angles --------------------------------------------------------------------------------
def test_euler_angles_and_matrices_are_inverse() -> None:
    R = random_orientations(200, np.random.default_rng(2))
    half = np.diag([1.0, -1.0, -1.0])  # the angle in the middle is 180 degrees
    R = np.concatenate([R, [np.eye(3), half, half @ py4DSTEM.matrices_from_euler([0.3, 0, 0])]])
    angles = py4DSTEM.euler_from_matrices(R)
    np.testing.assert_allclose(py4DSTEM.matrices_from_euler(angles), R, atol=1e-12)
    assert (angles >= 0).all()
    assert (angles[:, 1] <= np.pi).all()


def test_euler_angles_are_those_of_bunge() -> None:
    # Sample turned about z by φ1, then about the new x by Φ, until it is the crystal.
    from scipy.spatial.transform import Rotation

    angles = np.radians([33.0, 71.0, 12.0])
    turned = Rotation.from_euler("ZXZ", angles).as_matrix()  # its columns: crystal axes in sample
    np.testing.assert_allclose(py4DSTEM.matrices_from_euler(angles), turned.T, atol=1e-14)


def test_orientations_must_be_rotations() -> None:
    mirror = np.broadcast_to(np.diag([1.0, 1.0, -1.0]), (2, 3, 3, 3))
    with pytest.raises(ParameterError, match="proper rotation"):
        orientation_map(mirror, "Au")
    with pytest.raises(ShapeError, match="Rx, Ry, 3, 3"):
        orientation_map(np.eye(3), "Au")
    with pytest.raises(ShapeError, match="reliability"):
        orientation_map(np.broadcast_to(np.eye(3), (2, 3, 3, 3)), "Au", reliability=np.ones(3))
    with pytest.raises(ParameterError, match="OrientationMap or a PhaseMap"):
        py4DSTEM.save_ang("never.ang", np.eye(3))


# ---- files ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("end", ["ang", "ctf"])
def test_one_phase_comes_back(end: str, tmp_path: Path) -> None:
    known = gold()
    path = tmp_path / f"gold.{end}"
    getattr(known, f"save_{end}")(path)
    back = read_orientations(path, "Au")
    np.testing.assert_allclose(back.matrices, known.matrices, atol=2e-9)
    np.testing.assert_array_equal(back.indexed, known.indexed)
    np.testing.assert_allclose(back.sigma_deg, known.sigma_deg, atol=1e-6)
    digits = 1e-6 if end == "ang" else 0.5 / 255
    np.testing.assert_allclose(back.reliability, known.reliability, atol=digits)
    assert [axis.step for axis in back.calibration.R] == pytest.approx([20.0, 25.0])
    assert back.history.steps[-1].kind == "read-orientations"


@pytest.mark.parametrize("end", ["ang", "ctf"])
@pytest.mark.parametrize("crystal_x", ["a", "a*"])
def test_several_phases_come_back(end: str, crystal_x: str, tmp_path: Path) -> None:
    phases, path = two_phases(), tmp_path / f"two.{end}"
    axes = {"crystal_x": crystal_x} if end == "ctf" else {}
    (py4DSTEM.save_ang if end == "ang" else py4DSTEM.save_ctf)(path, phases, **axes)
    for k, name in enumerate(("Au", "Mg")):
        back = read_orientations(path, name, phase=name, **axes)
        mine = (phases.labels == k) & phases.orientations[k].indexed
        np.testing.assert_array_equal(back.indexed, mine)
        expected = phases.orientations[k].matrices[mine]
        np.testing.assert_allclose(back.matrices[mine], expected, atol=2e-9)
    with pytest.raises(ParameterError, match="choose a phase"):
        read_orientations(path, "Au")


def test_axes_in_files() -> None:
    """A crystal with a to the right and b up: no turn in .ctf, a quarter turn in .ang."""
    up_right = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # a = y, b = -x
    np.testing.assert_allclose(up_right @ [0, 1, 0], [1, 0, 0])
    from py4DSTEM.process.crystal.ebsd_files import _RIGHT_UP_OUT

    np.testing.assert_allclose(py4DSTEM.euler_from_matrices(up_right @ _RIGHT_UP_OUT), 0)
    angles = py4DSTEM.euler_from_matrices(up_right)
    np.testing.assert_allclose(np.degrees(angles), [90, 0, 0])


def test_a_hexagonal_crystal_by_its_reciprocal_axis(tmp_path: Path) -> None:
    flat = orientation_map(np.broadcast_to(np.eye(3), (2, 3, 3, 3)), "Mg")
    files = [tmp_path / "a.ctf", tmp_path / "b.ctf"]
    py4DSTEM.save_ctf(files[0], flat)
    py4DSTEM.save_ctf(files[1], flat, crystal_x="a*")
    first, second = (np.loadtxt(f, skiprows=15)[0, 5:8] for f in files)
    assert abs((first - second)[0] + (first - second)[2]) % 360 == pytest.approx(30)
    with pytest.raises(ParameterError, match="crystal_x"):
        py4DSTEM.save_ctf(files[0], flat, crystal_x="b")


def test_a_scan_without_a_step_stays_without(tmp_path: Path) -> None:
    flat = orientation_map(np.broadcast_to(np.eye(3), (2, 3, 3, 3)), "Au")
    flat.save_ang(path := tmp_path / "flat.ang")
    assert not read_orientations(path, "Au").calibration.R[0].calibrated


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no table"),
        ("# Phase 1\nwhat is this\n", "should be numbers"),
        ("1 2 3\n", "at least 8"),
        ("0 0 0 0 0 1 1 1\n0 0 0 1 0 1 1 1\n0 0 0 0 1 1 1 1\n", "no rectangle"),
        ("0 0 0 0 0 1 1 1\n0 0 0 0 0 1 1 1\n", "no rectangle"),
        ("nan 0 0 0 0 1 1 1\n", "no number"),
    ],
)
def test_damaged_files_say_what_is_wrong(text: str, problem: str, tmp_path: Path) -> None:
    (path := tmp_path / "bad.ang").write_text(text)
    with pytest.raises(CorruptFile, match=problem):
        read_orientations(path, "Au")


def test_files_that_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_orientations(tmp_path / "none.ang", "Au")
    (other := tmp_path / "map.txt").write_text("1")
    with pytest.raises(UnknownFormat, match="ang and"):
        read_orientations(other, "Au")
    (hexagonal := tmp_path / "hex.ang").write_text("# GRID: HexGrid\n0 0 0 0 0 1 1 1\n")
    with pytest.raises(UnknownFormat, match="hexagonal"):
        read_orientations(hexagonal, "Au")
    (ctf := tmp_path / "bad.ctf").write_text("Phase\tX\tY\n")
    with pytest.raises(CorruptFile, match="no Channel text file"):
        read_orientations(ctf, "Au")


# ---- orix ----------------------------------------------------------------------------------------
def same_for_orix(ours: np.ndarray, theirs: object) -> None:
    """Rotations of orix that are the matrices."""
    np.testing.assert_allclose(theirs.to_matrix(), ours, atol=1e-8)  # type: ignore[attr-defined]


@pytest.mark.parametrize("end", ["ang", "ctf"])
def test_orix_reads_what_is_written(end: str, tmp_path: Path) -> None:
    """The same orientations, phases, places and colours."""
    io = pytest.importorskip("orix.io")
    from orix.plot import IPFColorKeyTSL
    from orix.vector import Vector3d

    phases, path = two_phases(), tmp_path / f"two.{end}"
    (py4DSTEM.save_ang if end == "ang" else py4DSTEM.save_ctf)(path, phases)
    found = io.load(path)
    layers = layers_of(phases)
    assert found.shape == SHAPE
    assert (found.dy, found.dx) == pytest.approx((0.0020, 0.0025))
    labels = np.where(layers.labels < 0, -1, layers.labels + 1)
    np.testing.assert_array_equal(found.phase_id.reshape(SHAPE), labels)
    turn = np.eye(3) if end == "ang" else np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    colors = py4DSTEM.ipf_colors(phases)
    for k, (laue, crystal) in enumerate((("m-3m", "Au"), ("6/mmm", "Mg"))):
        mine = layers.labels == k
        same_for_orix(layers.matrices[mine] @ turn, found[mine.ravel()].rotations)
        assert found.phases[k + 1].point_group.laue.name == laue
        lattice = found.phases[k + 1].structure.lattice.abcABG()
        np.testing.assert_allclose(lattice, Crystal.common(crystal).cell, atol=1e-6)
        key = IPFColorKeyTSL(found.phases[k + 1].point_group.laue, Vector3d.zvector())
        theirs = key.orientation2color(found[mine.ravel()].orientations)
        np.testing.assert_allclose(colors[mine], theirs, atol=1e-5)


def test_crystal_maps_of_orix_go_and_come() -> None:
    pytest.importorskip("orix")
    known = gold()
    there = known.to_orix()
    assert there.scan_unit == "angstrom"
    same_for_orix(known.matrices[known.indexed], there["indexed"].rotations)
    back = py4DSTEM.from_orix(there)
    np.testing.assert_allclose(back.matrices, known.matrices, atol=1e-12)
    np.testing.assert_allclose(back.sigma_deg, known.sigma_deg, atol=1e-12)
    assert back.crystal.space_group_number == 225
    assert len(back.crystal.elements) == 4
    assert [axis.step for axis in back.calibration.R] == pytest.approx([20.0, 25.0])
    both = py4DSTEM.to_orix(two_phases())
    with pytest.raises(ParameterError, match="choose one phase"):
        py4DSTEM.from_orix(both)
    second = py4DSTEM.from_orix(both, phase="Mg")
    assert second.crystal.space_group_number == 194


def test_atoms_of_phases_of_orix_are_where_they_were() -> None:
    """Whatever axes their cell was given in."""
    pytest.importorskip("orix")
    from diffpy.structure import Atom, Lattice, Structure
    from orix.crystal_map import Phase

    known = Crystal.common("Mg")
    for lattice in (Lattice(*known.cell), Lattice(base=known.lattice_A)):
        structure = Structure(atoms=[Atom("Mg", xyz=[1 / 3, 2 / 3, 0.25])], lattice=lattice)
        found = Crystal.from_orix(Phase("Mg", space_group=194, structure=structure))
        hkl = known.reflections(0.8).hkl
        np.testing.assert_allclose(
            np.abs(found.structure_factors_A(hkl)), np.abs(known.structure_factors_A(hkl))
        )


def test_colours_are_those_of_the_standard_triangle() -> None:
    """[001] is red, [101] green, [111] blue, in whatever equivalent they come."""
    pytest.importorskip("orix")
    zones = np.array([[0, 1, 0], [-1, 0, 1], [1, -1, 1.0]])
    matrices = [Crystal.common("Au").zone_orientation(zone) for zone in zones]
    colors = py4DSTEM.ipf_colors(orientation_map(np.array(matrices)[None], "Au"))
    np.testing.assert_allclose(colors[0], np.eye(3), atol=0.02)


def test_without_orix_an_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "orix", None)
    for call in (py4DSTEM.to_orix, py4DSTEM.ipf_colors):
        with pytest.raises(py4DSTEM.errors.DependencyMissing, match=r"py4DSTEM\[crystal\]"):
            call(gold())
    figure, _ = py4DSTEM.show(gold())
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert any("py4DSTEM[crystal]" in text for text in texts)
    from matplotlib import pyplot as plt

    plt.close(figure)
