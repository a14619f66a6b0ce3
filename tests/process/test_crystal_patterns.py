"""Kinematic patterns and rings of crystals, against geometry, sums and published values."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import py4DSTEM
from py4DSTEM import Crystal, ParameterError, Site
from py4DSTEM.errors import CalibrationMissing, ShapeError
from py4DSTEM.units import electron_wavelength_A

E_200 = 200e3
TRICLINIC = Crystal.from_lattice(
    [5.1, 6.2, 7.3, 81.0, 95.0, 103.0],
    [("Cu", (0.1, 0.2, 0.3)), ("O", (0.6, 0.75, 0.15)), ("Ti", (0.35, 0.4, 0.9))],
)


def turned(seed: int = 3) -> np.ndarray[Any, Any]:
    """A rotation without symmetry."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


# ---- published values ----------------------------------------------------------------------------
# Extinction distances (Å, 100 kV) as tabulated by Hirsch et al., Electron Microscopy of Thin
# Crystals (1965), and after them by Williams & Carter, Transmission Electron Microscopy (1996),
# table 13.2.  Metals there vibrate as at room temperature (B in Å², from the same decade's tables);
# their scattering factors are of 1962, and such tables differ by 1 to 5 %.
HIRSCH = {
    ("Al", 0.86): {(1, 1, 1): 563, (2, 0, 0): 685, (2, 2, 0): 1144, (4, 0, 0): 2024},
    ("Cu", 0.55): {(1, 1, 1): 286, (2, 0, 0): 326, (2, 2, 0): 473, (4, 0, 0): 764},
    ("Au", 0.62): {(1, 1, 1): 183, (2, 0, 0): 202, (2, 2, 0): 278, (4, 0, 0): 435},
    ("diamond", 0.0): {(1, 1, 1): 476, (2, 2, 0): 665, (4, 0, 0): 1215},
    ("Si", 0.0): {(1, 1, 1): 602, (2, 2, 0): 757, (4, 0, 0): 1268},
    ("MgO", 0.0): {(1, 1, 1): 2726, (2, 0, 0): 461, (2, 2, 0): 662, (4, 0, 0): 1033},
}


@pytest.mark.parametrize(("name", "B"), HIRSCH)
def test_extinction_distances_are_those_of_tables(name: str, B: float) -> None:
    crystal = Crystal.common(name)
    crystal = replace(crystal, B_A2=np.full(len(crystal.elements), B))
    known = HIRSCH[name, B]
    found = py4DSTEM.extinction_distance_A(crystal, list(known), energy_eV=100e3)
    assert_allclose(found, list(known.values()), rtol=0.05)


def test_structure_factors_of_silicon_are_those_measured() -> None:
    """X-ray factors of one atom at 293 K, from Pendellösung fringes (Cummings & Hart, Aust. J.
    Phys. 41, 423 (1988)), by the Mott-Bethe formula; 111 holds bonds, which free atoms lack."""
    measured = {(2, 2, 0): 8.3881, (3, 1, 1): 7.6814, (4, 0, 0): 6.9958, (3, 3, 1): 6.7264,
                (4, 2, 2): 6.1123, (1, 1, 1): 10.6025}  # fmt: skip
    silicon = Crystal.common("Si")
    silicon = replace(silicon, B_A2=np.full(8, 0.4632))
    F = np.abs(silicon.structure_factors_A(list(measured)))
    for (hkl, f_x), one in zip(measured.items(), F, strict=True):
        k = math.sqrt(sum(h * h for h in hkl)) / 5.431020511
        atoms = 8 if sum(hkl) % 2 == 0 else 4 * math.sqrt(2)
        f = (14 * math.exp(-0.4632 * k**2 / 4) - f_x) / (2 * math.pi**2 * 0.529177 * k**2)
        assert one == pytest.approx(atoms * f, rel=0.065 if hkl == (1, 1, 1) else 0.03), hkl


def test_extinct_reflections_have_no_extinction_distance() -> None:
    gold = Crystal.common("Au")
    assert py4DSTEM.extinction_distance_A(gold, (1, 0, 0), energy_eV=E_200) == np.inf


# ---- orientations --------------------------------------------------------------------------------
def test_zone_axes_point_where_they_should() -> None:
    zone, x = [1, 2, -1], [2, 0, 2]
    matrix = py4DSTEM.zone_orientation(TRICLINIC, zone, x_hkl=x)
    assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    z = np.array(zone) @ TRICLINIC.lattice_A
    assert_allclose(matrix[:, 2], z / np.linalg.norm(z), atol=1e-12)
    g = np.array(x) @ TRICLINIC.reciprocal_A @ matrix  # 2 + 0 − 2 = 0: in the zone
    assert_allclose(g, [np.linalg.norm(g), 0, 0], atol=1e-12)


def test_four_indices_of_hexagonal_directions() -> None:
    mg = Crystal.common("Mg")
    four = mg.zone_orientation([2, -1, -1, 0], x_hkl=[0, 0, 0, 2])
    assert_allclose(four, mg.zone_orientation([1, 0, 0], x_hkl=[0, 0, 2]), atol=1e-12)


def test_the_shortest_reflection_of_a_zone_lies_along_x() -> None:
    found = Crystal.common("Au").diffraction_pattern(zone_axis=[0, 0, 1], energy_eV=E_200)
    assert found.hkl[1].tolist() in ([2, 0, 0], [-2, 0, 0], [0, 2, 0], [0, -2, 0])
    nearest = np.hypot(*found.q_A[1:].T).min()
    assert np.isclose(found.qx, nearest, atol=1e-9).any()


# ---- patterns ------------------------------------------------------------------------------------
def test_places_excitation_errors_and_intensities_by_hand() -> None:
    matrix, t = turned(), 60.0
    found = TRICLINIC.diffraction_pattern(
        matrix, energy_eV=E_200, k_max_A=1.0, thickness_A=t, relrod="sinc"
    )
    wavelength, gamma = electron_wavelength_A(E_200), 1 + 200 / 510.99895
    assert len(found) > 30
    for hkl, q, s, intensity in zip(
        found.hkl[1:], found.q_A[1:], found.s_A[1:], found.intensity[1:], strict=True
    ):
        g = matrix.T @ (hkl @ TRICLINIC.reciprocal_A)
        assert_allclose(q, g[:2], atol=1e-12)
        # |K + g + s z| = |K| with K = −z/λ
        assert np.linalg.norm([g[0], g[1], -1 / wavelength + g[2] - s]) == pytest.approx(
            1 / wavelength, rel=1e-12
        )
        assert s == pytest.approx(g[2] - wavelength * (g @ g) / 2, abs=1e-4)
        F = abs(TRICLINIC.structure_factors_A(hkl[None])[0])
        u = wavelength * gamma * F / TRICLINIC.volume_A3
        assert intensity == pytest.approx((u * t * np.sinc(s * t)) ** 2, rel=1e-9)


@pytest.mark.parametrize("relrod", ["lorentzian", "gaussian"])
def test_relrods_have_the_width_and_height_they_say(relrod: Any) -> None:
    """Tilting the beam moves a reflection along its relrod."""
    al = Crystal.common("Al")
    k = 1 / electron_wavelength_A(E_200)
    width = 0.004
    g = 2 / 4.04958

    def intensity(s: float) -> float:
        # s of (0, 2, 0), which lies along x: −g²/2k − g·K/k
        tilt = -(s + g**2 / (2 * k)) / g * 1e3
        found = al.diffraction_pattern(
            zone_axis=[0, 0, 1], x_hkl=[0, 2, 0], energy_eV=E_200, relrod=relrod, k_max_A=0.6,
            relrod_width_A=width, tilt_mrad=(tilt, 0), weakest=0,
        )  # fmt: skip
        at = np.flatnonzero((found.hkl == [0, 2, 0]).all(axis=1))[0]
        assert found.s_A[at] == pytest.approx(s, abs=1e-6)
        return float(found.intensity[at])

    xi = float(py4DSTEM.extinction_distance_A(al, (0, 2, 0), energy_eV=E_200))
    assert intensity(0.0) == pytest.approx((np.pi * 100 / xi) ** 2, rel=1e-4)
    assert intensity(width) == pytest.approx(intensity(0) / 2, rel=1e-3)
    assert intensity(-width) == pytest.approx(intensity(0) / 2, rel=1e-3)


def test_precession_averages_over_the_cone() -> None:
    matrix, angle, many = turned(5), 12.0, 720
    kwargs: dict[str, Any] = {"energy_eV": E_200, "k_max_A": 0.8, "weakest": 0}
    found = TRICLINIC.diffraction_pattern(matrix, precession_mrad=angle, **kwargs)
    turn = 2 * np.pi * np.arange(many) / many
    total: dict[tuple[int, ...], float] = {}
    for a in turn[::4]:
        tilt = (angle * math.cos(a), angle * math.sin(a))
        one = TRICLINIC.diffraction_pattern(matrix, tilt_mrad=tilt, **kwargs)
        for hkl, intensity in zip(one.hkl.tolist(), one.intensity, strict=True):
            total[tuple(hkl)] = total.get(tuple(hkl), 0) + float(intensity) / len(turn[::4])
    for hkl, intensity in zip(found.hkl.tolist()[:40], found.intensity[:40], strict=True):
        assert intensity == pytest.approx(total[tuple(hkl)], rel=0.03)
    swept, still = (
        TRICLINIC.diffraction_pattern(matrix, relrod="gaussian", precession_mrad=one, **kwargs)
        for one in (angle, 0.0)
    )
    limit = 1e-4 * swept.intensity[1]
    assert (swept.intensity > limit).sum() > 1.3 * (still.intensity > limit).sum()


def test_double_diffraction_reaches_extinct_reflections() -> None:
    silicon = Crystal.common("Si")
    kwargs: dict[str, Any] = {"zone_axis": [1, 1, 0], "energy_eV": E_200, "thickness_A": 200}
    single = silicon.diffraction_pattern(**kwargs)
    double = silicon.diffraction_pattern(**kwargs, double_diffraction=True)
    two = [0, 0, 2]
    assert two not in single.hkl.tolist()
    at = double.hkl.tolist().index(two)
    # Forbidden by centring: no two reflections lead there.
    assert [1, -1, 0] not in double.hkl.tolist()
    # By hand: Σ over pairs of 111-like reflections, each by half of the crystal.
    k_index = {tuple(h): i for i, h in enumerate(single.hkl.tolist())}
    half = {}
    for h, i in k_index.items():
        xi = float(py4DSTEM.extinction_distance_A(silicon, h, energy_eV=E_200)) if any(h) else 1e99
        half[h] = (np.pi * 100 / xi) ** 2, single.s_A[i]
    s2 = double.s_A[at]
    width = 0.442946 / 100
    total = 0.0
    for h, (height, s) in half.items():
        rest = (-h[0], -h[1], 2 - h[2])
        if rest in half and any(h) and any(rest):
            first = height / (1 + (s / width) ** 2)
            total += first * half[rest][0] / (1 + ((s2 - s) / width) ** 2)
    assert double.intensity[at] == pytest.approx(total, rel=1e-3)


def test_the_picture_sums_to_the_intensities_and_lies_in_its_place() -> None:
    found = TRICLINIC.diffraction_pattern(turned(), energy_eV=E_200, k_max_A=0.5)
    picture = found.image((90, 120), Q_pixel_size_A=0.02, radius_px=2.5)
    assert picture.data.sum() == pytest.approx(found.intensity.sum(), rel=1e-9)
    centre = np.array([45, 60])
    assert picture.calibration.mean_origin_px == (45, 60)
    dark = found.image((90, 120), Q_pixel_size_A=0.02, radius_px=2.5, direct_beam=False)
    assert dark.data[45, 60] < 1e-6 * picture.data[45, 60]
    x, y = np.round(centre + found.q_A[1] / 0.02).astype(int)
    block = dark.data[x - 1 : x + 2, y - 1 : y + 2]
    assert block.min() > 0.5 * dark.data.max()


def test_places_on_a_detector_undo_the_calibration() -> None:
    found = TRICLINIC.diffraction_pattern(turned(), energy_eV=E_200, k_max_A=0.5)
    calibration = py4DSTEM.Calibration().replace(
        Q_pixel_size=0.021, Q_pixel_units="A^-1", origin_px=(31.5, 40.25), rotation_rad=0.4,
        flip=True, ellipse=(1.03, 0.98, 0.3),
    )  # fmt: skip
    places = found.positions_px(calibration)
    assert_allclose(places[0], (31.5, 40.25))
    back = (places - (31.5, 40.25)) @ calibration.Q_matrix("A^-1").T
    assert_allclose(back, found.q_A, atol=1e-12)
    with pytest.raises(CalibrationMissing):
        found.positions_px(py4DSTEM.Calibration())


@pytest.mark.skipif("PY4DSTEM_SHARED_DATA" not in os.environ, reason="needs the reference data")
def test_precessed_gold_of_the_reference_set() -> None:
    """Positions and excited reflections of a multislice simulation of known orientation."""
    import h5py

    folder = Path(os.environ["PY4DSTEM_SHARED_DATA"]) / "acom"
    if not (folder / "data.h5").exists():
        pytest.skip("needs the reference data")
    truth = np.load(folder / "truth.npz")
    facts = json.loads((folder / "truth.json").read_text())
    ellipse = np.array(facts["ellipse_matrix_xy"])[::-1, ::-1]  # rows first
    turn = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])
    gold = Crystal.from_lattice([4.0782], [Site("Au", (0, 0, 0))], space_group="F m -3 m")
    with h5py.File(folder / "data.h5") as file:
        counts = file["data_precession"][3, :8].astype(np.float64)
    pixel = facts["detector_pixel_1_per_A"]
    shares, wrong = [], []
    for column, pattern in enumerate(counts):
        found = gold.diffraction_pattern(
            (turn @ truth["orientation_matrix"][3, column]).T, energy_eV=E_200, k_max_A=1.2,
            precession_mrad=17.45,
        )  # fmt: skip
        origin = np.array([truth["origin_row"][3, column], truth["origin_col"][3, column]])
        for kept, q in ((shares, found.q_A[1:9]), (wrong, found.q_A[1:9, ::-1])):
            x, y = np.round(origin + q @ ellipse.T / pixel).astype(int).T
            kept.append(bright_share(pattern, x, y))
    assert np.mean(shares) > 0.8
    assert np.mean(wrong) < 0.4


def bright_share(pattern: np.ndarray[Any, Any], x: Any, y: Any) -> float:
    """Of places within the pattern, the share that stands out of the background."""
    inside = (x > 2) & (y > 2) & (x < 125) & (y < 125)
    sums = [pattern[a - 2 : a + 3, b - 2 : b + 3].sum() for a, b in zip(x[inside], y[inside],
                                                                         strict=True)]  # fmt: skip
    return float(np.mean(np.array(sums) > 100 * np.median(pattern) + 20))


def test_too_thick_for_kinematic_theory_is_said() -> None:
    kwargs: dict[str, Any] = {"zone_axis": [1, 1, 0], "energy_eV": E_200}
    thin, thick = (
        Crystal.common("Si").diffraction_pattern(thickness_A=t, **kwargs) for t in (20.0, 300.0)
    )
    assert thin.scattered < 0.1 and "too thick" not in thin.text()
    assert thick.scattered > 1 and "too thick" in thick.text()
    figure = py4DSTEM.show_spot_pattern(thin, thick, labels=3)
    assert len(figure.axes) == 2 and len(figure.axes[0].texts) == 3


# ---- rings ---------------------------------------------------------------------------------------
def test_rings_are_sums_over_orientations() -> None:
    """A ring holds what random orientations scatter on average into its reflections."""
    al = Crystal.common("Al")
    t = 40.0
    rings = al.powder_pattern(energy_eV=E_200, k_max_A=0.6, thickness_A=t)
    assert rings.multiplicity.tolist() == [8, 6]
    rng = np.random.default_rng(0)
    total = np.zeros((2, 1500))
    for trial in range(total.shape[1]):
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        q *= np.sign(np.diag(r))
        q *= np.sign(np.linalg.det(q))
        found = al.diffraction_pattern(
            q, energy_eV=E_200, k_max_A=0.6, thickness_A=t, relrod="sinc", weakest=0
        )
        k = np.linalg.norm(found.hkl @ al.reciprocal_A, axis=1)
        for ring in range(2):
            near = np.abs(k - rings.ring_k_A[ring]) < 1e-6
            total[ring, trial] = found.intensity[near].sum()
    sigma = total.std(axis=1) / math.sqrt(total.shape[1])
    # The sinc's far wings, cut at eight half widths, hold 2 %.
    assert np.all(np.abs(total.mean(axis=1) / 0.98 - rings.ring_intensity) < 4 * sigma)
    assert np.all(sigma < 0.1 * rings.ring_intensity)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_the_profile_holds_what_the_rings_do(share: float) -> None:
    rings = Crystal.common("TiO2").powder_pattern(
        energy_eV=E_200, k_max_A=0.8, width_A=0.004, lorentzian=share
    )
    held = np.trapezoid(rings.profile * 2 * np.pi * rings.k_A, rings.k_A)
    inner = rings.ring_k_A < 0.75
    assert held == pytest.approx(rings.ring_intensity.sum(), rel=0.05)
    assert inner.sum() > 10
    assert np.all(np.diff(rings.ring_k_A) > 1e-6)
    alone = py4DSTEM.powder_pattern(
        Crystal.common("Al"), energy_eV=E_200, k_max_A=0.45, width_A=0.01, lorentzian=share
    )
    top = alone.profile * alone.k_A
    half = alone.k_A[top > top.max() / 2]
    assert half[0] == pytest.approx(alone.ring_k_A[0] - 0.01, abs=0.0015)


# ---- bad input -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"zone_axis": None}, "either an orientation"),
        ({"orientation": np.eye(3)}, "either an orientation"),
        ({"zone_axis": [0, 0, 0]}, "no direction"),
        ({"zone_axis": [1, 1, 1, 1]}, "sum to zero"),
        ({"x_hkl": [0, 0, 2]}, "along the zone axis"),
        ({"energy_eV": 200}, "200 kV are 200e3 eV"),
        ({"energy_eV": -1.0}, "positive"),
        ({"energy_eV": np.nan}, "positive"),
        ({"k_max_A": 0.0}, "longest reflection"),
        ({"k_max_A": 50.0}, "Ewald"),
        ({"thickness_A": -5.0}, "thickness_A"),
        ({"relrod": "box"}, "relrod"),
        ({"relrod_width_A": 0.0}, "relrod_width_A"),
        ({"relrod": "sinc", "relrod_width_A": 0.1}, "leave it out"),
        ({"precession_mrad": -1.0}, "precession"),
        ({"tilt_mrad": (900, 0)}, "tilts"),
        ({"weakest": 2.0}, "weakest"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"zone_axis": [0, 0, 1], "energy_eV": E_200, **changes}
    with pytest.raises(ParameterError, match=words):
        Crystal.common("Au").diffraction_pattern(**given)


@pytest.mark.parametrize(
    ("orientation", "error", "words"),
    [
        (np.eye(2), ShapeError, "(3, 3)"),
        (np.full((3, 3), np.nan), ParameterError, "not indexed"),
        (-np.eye(3), ParameterError, "proper rotation"),
        (2 * np.eye(3), ParameterError, "proper rotation"),
    ],
)
def test_bad_orientations_are_named(orientation: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        Crystal.common("Au").diffraction_pattern(orientation, energy_eV=E_200)


def test_bad_pictures_and_rings_are_named() -> None:
    gold = Crystal.common("Au")
    found = gold.diffraction_pattern(zone_axis=[0, 0, 1], energy_eV=E_200)
    with pytest.raises(ParameterError, match="either Q_pixel_size_A"):
        found.image((32, 32))
    with pytest.raises(ParameterError, match="radius_px"):
        found.image((32, 32), Q_pixel_size_A=0.1, radius_px=0)
    with pytest.raises(ShapeError, match="Q_shape"):
        found.image((32, 0), Q_pixel_size_A=0.1)
    for changes, words in (({"width_A": 0}, "width_A"), ({"lorentzian": 2}, "share"),
                           ({"k_max_A": 0.1}, "no reflections"), ({"k_step_A": 1e-9}, "millions"),
                           ({"thickness_A": np.inf}, "thickness_A")):  # fmt: skip
        with pytest.raises(ParameterError, match=words):
            gold.powder_pattern(**{"energy_eV": E_200, **changes})
    with pytest.raises(ParameterError, match="at least one"):
        py4DSTEM.show_spot_pattern()
