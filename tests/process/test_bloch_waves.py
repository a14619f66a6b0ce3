"""Bloch waves, against multislice, the two-beam formula and conservation; convergent beams."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import py4DSTEM
from py4DSTEM import Crystal, ParameterError
from py4DSTEM.core.scattering import scattering_factor_A
from py4DSTEM.errors import ShapeError
from py4DSTEM.simulate.multislice import SliceStack
from py4DSTEM.units import electron_wavelength_A

REST_EV = 510998.95
Array = np.ndarray[Any, Any]


def vibrating(name: str, B_A2: float = 0.5) -> Crystal:
    crystal = Crystal.common(name)
    count = len(crystal.elements)
    return replace(crystal, B_A2=np.full(count, B_A2), source="mott-bethe")


def sliced(
    crystal: Crystal, matrix: Array, box_A: Array, depth_A: float, slices: int, shape: Any,
    energy_eV: float,
) -> Array:  # fmt: skip
    """Phases of the slices of one period, (slices, nx, ny), from sums over atoms.

    Written apart from the package's: the phase of a slice is ``λ γ/V Σ_g F_g ∫ exp(2πi g·r) dz``.
    """
    found = crystal.reflections(6.0)
    hkl = np.concatenate([[[0, 0, 0]], found.hkl])
    g = hkl @ crystal.reciprocal_A @ matrix
    k = np.linalg.norm(g, axis=1)
    series = np.zeros(len(g), complex)
    for element, place, B in zip(crystal.elements, crystal.positions, crystal.B_A2, strict=True):
        f = scattering_factor_A(element, k, crystal.source) * np.exp(-B * k**2 / 4)
        series += f * np.exp(-2j * np.pi * hkl @ place)
    strength = electron_wavelength_A(energy_eV) * (1 + energy_eV / REST_EV) / crystal.volume_A3
    index = np.rint(g[:, :2] * box_A).astype(int)
    assert np.abs(g[:, :2] * box_A - index).max() < 1e-6
    step = depth_A / slices
    phases = []
    for middle in (np.arange(slices) + 0.5) * step:
        # The beam travels along −z: at depth t, z = −t.
        part = series * step * np.sinc(g[:, 2] * step) * np.exp(-2j * np.pi * g[:, 2] * middle)
        spectrum = np.zeros(shape, complex)
        np.add.at(spectrum, (index[:, 0] % shape[0], index[:, 1] % shape[1]), strength * part)
        phases.append(np.fft.ifft2(spectrum, norm="forward").real)
    return np.array(phases)


def multislice(
    crystal: Crystal, matrix: Array, box_A: Any, depth_A: float, *, repeats: int, shape: Any,
    energy_eV: float, slices: int, periods: tuple[int, int] = (0, 0),
) -> Array:  # fmt: skip
    """Intensities in FFT order, of a plane wave with so many periods across the box."""
    box = np.array(box_A)
    phase = sliced(crystal, matrix, box, depth_A, slices, shape, energy_eV)
    stack = SliceStack.of_phase(
        np.tile(phase, (repeats, 1, 1)), tuple(box / shape), depth_A / slices,
        electron_wavelength_A(energy_eV),
    )  # fmt: skip
    x, y = (np.arange(n) / n for n in shape)
    wave = np.exp(2j * np.pi * (periods[0] * x[:, None] + periods[1] * y)).astype(np.complex64)
    behind = stack.exit_waves(wave[None], np.zeros((1, 2), np.int64))[0] / wave.size
    return np.roll(np.abs(behind) ** 2, (-periods[0], -periods[1]), (0, 1))


A_SI, A_STO, A_AU = 5.431020511, 3.9051, 4.0782
CASES: dict[str, Any] = {
    # zone, x, box, period, repeats, pixels, slices, energy, periods of the beam across the box
    "Si": ([1, 1, 0], [0, 0, 1], (A_SI, A_SI / 2**0.5), A_SI / 2**0.5, 60, (72, 50), 8, 200e3,
           (0, 0)),
    "SrTiO3": ([0, 0, 1], [1, 0, 0], (A_STO, A_STO), A_STO, 40, (60, 60), 12, 300e3, (0, 0)),
    "Au": ([0, 0, 1], [1, 0, 0], (4 * A_AU, A_AU), A_AU, 20, (240, 60), 12, 300e3, (2, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_intensities_are_those_of_multislice(name: str) -> None:
    """Si along [110] (230 Å), SrTiO3 along [001] (156 Å), Au 2.4 mrad off [001] (82 Å)."""
    zone, x_hkl, box, period, repeats, shape, slices, energy, periods = CASES[name]
    crystal = vibrating(name)
    matrix = crystal.zone_orientation(zone, x_hkl=x_hkl)
    truth = multislice(
        crystal, matrix, box, period, repeats=repeats, shape=shape, energy_eV=energy,
        slices=slices, periods=periods,
    )  # fmt: skip
    tilt = np.array(periods) / box * electron_wavelength_A(energy) * 1e3
    waves = crystal.bloch_waves(
        matrix, energy_eV=energy, thickness_A=period * repeats, tilt_mrad=tilt
    )
    index = np.rint(waves.q_A * box).astype(int)
    spots = np.zeros(shape, complex)
    np.add.at(spots, (index[:, 0], index[:, 1]), waves.amplitudes[0, 0])
    found = np.abs(spots) ** 2
    assert truth[0, 0] < 0.8  # much is scattered: kinematic theory would be far off
    assert np.abs(found - truth).sum() < 0.02 * truth.sum()
    assert np.abs(found - truth).max() < 0.004
    assert waves.report["rim"] < 0.01


def test_layers_above_and_below_are_told_apart() -> None:
    """A crystal without centre along a threefold axis, and the same the other way up."""
    crystal = replace(Crystal.common("GaAs"), source="mott-bethe", B_A2=np.full(8, 0.4))
    matrix = crystal.zone_orientation([1, 1, 1], x_hkl=[2, -2, 0])
    box = np.array([A := 5.6537 / 2**0.5, A * 3**0.5])
    truth = multislice(
        crystal, matrix, box, 5.6537 * 3**0.5, repeats=5, shape=(54, 90), energy_eV=100e3,
        slices=24,
    )  # fmt: skip
    for sense, limit in ((1, 0.02), (-1, 0.04)):
        turned = matrix * [1, sense, sense]
        waves = crystal.bloch_waves(
            turned, energy_eV=100e3, thickness_A=5 * 5.6537 * 3**0.5, k_max_A=2.6
        )
        spots = np.zeros((54, 90), complex)
        index = np.rint(waves.q_A * [1, sense] * box).astype(int)
        np.add.at(spots, (index[:, 0], index[:, 1]), waves.amplitudes[0, 0])
        apart = np.abs(np.abs(spots) ** 2 - truth).sum()
        assert apart < limit if sense == 1 else apart > limit


def test_two_beams_beat_with_the_extinction_distance() -> None:
    """``I = sin²(π t √(s² + ξ⁻²)) / (1 + (s ξ)²)`` (Hirsch et al. 1965), with no other beam."""
    crystal = Crystal.common("Al")
    energy = 100e3
    wavelength = electron_wavelength_A(energy)
    # Far from zones, with (2, 0, 0) near its Bragg condition, and no other beam at all.
    matrix = crystal.zone_orientation([0, 3.1, 17.3], x_hkl=[2, 0, 0])
    g = 2 / 4.04958
    t = np.linspace(0, 2000, 41)
    s = 0.0008
    tilt = -(s + wavelength * g**2 / 2) / g * 1e3
    waves = crystal.bloch_waves(
        matrix, energy_eV=energy, thickness_A=t, k_max_A=0.5, s_max_A=0.004, tilt_mrad=(tilt, 0)
    )
    assert waves.hkl.tolist() == [[0, 0, 0], [2, 0, 0]]
    assert waves.s_A[1] == pytest.approx(s, abs=1e-6)
    xi = float(py4DSTEM.extinction_distance_A(crystal, (2, 0, 0), energy_eV=energy))
    w = np.sqrt(waves.s_A[1] ** 2 + 1 / xi**2)
    expected = np.sin(np.pi * t * w) ** 2 / (1 + (waves.s_A[1] * xi) ** 2)
    assert_allclose(waves.intensity_of([2, 0, 0]), expected, atol=1e-9)
    assert_allclose(waves.intensity_of([0, 0, 0]), 1 - expected, atol=1e-9)


def test_thin_crystals_scatter_kinematically() -> None:
    crystal = Crystal.common("TiO2")
    matrix = crystal.zone_orientation([1, 2, 5], x_hkl=[2, -1, 0])
    waves = crystal.bloch_waves(matrix, energy_eV=200e3, thickness_A=2.0, k_max_A=1.0, s_max_A=0.05)
    single = crystal.diffraction_pattern(
        matrix, energy_eV=200e3, thickness_A=2.0, k_max_A=1.0, relrod="sinc", weakest=1e-2
    )
    for hkl, intensity in zip(single.hkl[1:].tolist(), single.intensity[1:], strict=True):
        if abs(single.s_A[single.hkl.tolist().index(hkl)]) < 0.05:
            # Second order is down by the phase that a slab of 2 Å has.
            assert waves.intensity_of(hkl)[0] == pytest.approx(intensity, rel=0.1), hkl


def test_nothing_is_lost_without_absorption_and_some_with() -> None:
    crystal = vibrating("GaAs")
    kwargs: dict[str, Any] = {"zone_axis": [1, 1, 0], "energy_eV": 200e3, "k_max_A": 1.0}
    t = [0.0, 50.0, 400.0]
    whole = crystal.bloch_waves(thickness_A=t, **kwargs)
    assert_allclose(whole.intensities.sum(axis=1), 1, atol=1e-10)
    assert_allclose(whole.intensities[0], np.eye(len(whole))[0], atol=1e-12)
    less = crystal.bloch_waves(thickness_A=t, absorption=0.1, **kwargs)
    sums = less.intensities.sum(axis=1)
    assert sums[0] == pytest.approx(1) and 0.05 < sums[2] < sums[1] < 1
    # The mean absorption: F(0) of the cell alone, for the first few Å.
    F0 = crystal.structure_factors_A([[0, 0, 0]])[0].real
    gamma = 1 + 200e3 / REST_EV
    mu = 2 * 0.1 * electron_wavelength_A(200e3) * gamma * F0 / crystal.volume_A3
    thin = crystal.bloch_waves(thickness_A=0.01, absorption=0.1, **kwargs)
    assert 1 - thin.intensities.sum() == pytest.approx(mu * 0.01, rel=0.01)


def test_weak_beams_by_perturbation_are_nearly_as_good() -> None:
    crystal = vibrating("SrTiO3")
    kwargs: dict[str, Any] = {"zone_axis": [0, 0, 1], "energy_eV": 200e3, "thickness_A": 200,
                              "k_max_A": 2.0}  # fmt: skip
    full, few, bethe = (
        crystal.bloch_waves(s_max_A=s, weak_s_max_A=weak, **kwargs).intensity_of([0, 0, 0])[0]
        for s, weak in ((0.1, None), (0.02, None), (0.02, 0.1))
    )
    assert abs(bethe - full) < 0.3 * abs(few - full)


def test_extinct_beams_are_reached_by_way_of_others() -> None:
    waves = Crystal.common("Si").bloch_waves(
        zone_axis=[1, 1, 0], energy_eV=200e3, thickness_A=300, k_max_A=1.2
    )
    assert waves.intensity_of([0, 0, 2])[0] > 1e-3
    with pytest.raises(ParameterError, match="none of the"):
        waves.intensity_of([0, 0, 1])  # forbidden by centring: no way leads there


def test_precession_is_the_mean_over_directions() -> None:
    crystal = vibrating("Al")
    kwargs: dict[str, Any] = {"zone_axis": [0, 1, 2], "energy_eV": 200e3, "k_max_A": 0.8,
                              "thickness_A": [120.0, 350.0]}  # fmt: skip
    found = crystal.bloch_waves(precession_mrad=9.0, azimuths=4, **kwargs)
    means = np.mean(
        [
            crystal.bloch_waves(tilt_mrad=tilt, **kwargs).intensity_of([2, 0, 0])
            for tilt in ((9, 0), (0, 9), (-9, 0), (0, -9))
        ],
        axis=0,
    )
    assert found.amplitudes.shape[:2] == (4, 2)
    assert_allclose(found.intensity_of([2, 0, 0]), means, rtol=0.02, atol=1e-4)


def test_a_pattern_of_one_thickness() -> None:
    waves = vibrating("Au").bloch_waves(
        zone_axis=[0, 0, 1], energy_eV=200e3, thickness_A=[20, 60], k_max_A=1.5
    )
    spots = waves.pattern(25)
    assert spots.theory == "bloch"
    assert np.all(np.diff(spots.intensity[1:]) <= 1e-12)
    assert spots.hkl[0].tolist() == [0, 0, 0]
    at = spots.hkl.tolist().index([2, 2, 0])
    assert spots.intensity[at] == waves.intensity_of([2, 2, 0])[0]
    assert spots.image((50, 60), Q_pixel_size_A=0.05).data.shape == (50, 60)
    figure = py4DSTEM.show_bloch_waves(waves, beams=2)
    lines = figure.axes[1].lines
    assert len(lines) == 3  # the direct beam and two that differ, not four alike
    assert_allclose(lines[0].get_ydata(), waves.intensity_of([0, 0, 0]))
    assert "2 steps" in waves.text()


def disk_sums(pattern: Array, places: Array, radius: float) -> Array:
    """Counts in disks, less the background about them."""
    x, y = np.indices(pattern.shape)
    sums = []
    for a, b in places:
        r = np.hypot(x - a, y - b)
        around = np.median(pattern[(r <= radius + 4) & (r > radius + 2)])
        sums.append((pattern[r <= radius + 1] - around).sum())
    return np.array(sums)


@pytest.mark.skipif("PY4DSTEM_SHARED_DATA" not in os.environ, reason="needs the reference data")
@pytest.mark.parametrize(("key", "precession"), [("data", 0.0), ("data_precession", 17.45)])
def test_gold_of_the_reference_set(key: str, precession: float) -> None:
    """Multislice by another program, any orientation, 40 to 100 Å thick, 30 000 electrons."""
    import h5py

    folder = Path(os.environ["PY4DSTEM_SHARED_DATA"]) / "acom"
    if not (folder / "data.h5").exists():
        pytest.skip("needs the reference data")
    truth, facts = np.load(folder / "truth.npz"), json.loads((folder / "truth.json").read_text())
    with h5py.File(folder / "data.h5") as file:
        patterns = file[key][2, :10].astype(np.float64)
    frame = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])
    to_px = np.array(facts["ellipse_matrix_xy"])[::-1, ::-1] / facts["detector_pixel_1_per_A"]
    radius = facts["disk_radius_px"]
    gold = replace(Crystal.common("Au"), B_A2=np.full(4, facts["B_factors_A2"]["Au"]))
    apart, alike = [], []
    for column, pattern in enumerate(patterns):
        spots = gold.bloch_waves(
            (frame @ truth["orientation_matrix"][2, column]).T, energy_eV=200e3, k_max_A=2.2,
            thickness_A=float(truth["thickness_A"][2, column]), precession_mrad=precession,
            azimuths=8,
        ).pattern(weakest=1e-3)  # fmt: skip
        origin = np.array([truth["origin_row"][2, column], truth["origin_col"][2, column]])
        places = origin + spots.q_A @ to_px.T
        inside = ((places > radius + 2) & (places < 125 - radius)).all(axis=1) & ~spots.is_direct
        measured = disk_sums(pattern, places[inside], radius)
        expected = spots.intensity[inside]
        strong = np.argsort(-expected)[:20]
        a, b = measured[strong] / pattern.sum(), expected[strong]
        apart.append(np.abs(a - b * (a @ b) / (b @ b)).sum() / a.sum())
        alike.append((a @ b) / (b @ b))
    assert np.median(apart) < 0.12  # kinematic intensities: 0.3 to 0.4
    assert np.median(alike) == pytest.approx(1, abs=0.08)  # less the diffuse background


# ---- convergent beams ----------------------------------------------------------------------------
def test_disks_hold_what_each_direction_scatters() -> None:
    crystal = vibrating("Al")
    wavelength = electron_wavelength_A(200e3)
    pixel = 1 / 4.04958 / 12  # reflections land on whole pixels
    kwargs: dict[str, Any] = {"zone_axis": [0, 0, 1], "x_hkl": [2, 0, 0], "energy_eV": 200e3,
                              "k_max_A": 1.0}  # fmt: skip
    found = crystal.convergent_beam_pattern(
        semiangle_mrad=1.7, thickness_A=[150, 400], Q_shape=(90, 81), Q_pixel_size_A=pixel, **kwargs
    )
    assert found.labels == ("150 Å", "400 Å")
    radius = 1.7e-3 / wavelength / pixel
    grid = np.mgrid[-9:10, -9:10].reshape(2, -1).T
    directions = int((np.hypot(*grid.T) <= radius).sum())
    for dx, dy in ((0, 0), (2, -1), (-3, 0)):
        tilt = np.array([dx, dy]) * pixel * wavelength * 1e3
        one = crystal.bloch_waves(thickness_A=[150, 400], tilt_mrad=tilt, **kwargs)
        for hkl, (x, y) in (([0, 0, 0], (0, 0)), ([2, 0, 0], (24, 0)), ([0, -2, 0], (0, -24))):
            here = found.data[:, 45 + x + dx, 40 + y + dy]
            assert_allclose(here, one.intensity_of(hkl) / directions, rtol=1e-3, atol=1e-9)
    assert np.all(found.data.sum(axis=(1, 2)) > 0.99)
    assert found.data[:, 45 + 12, 40].max() < 1e-12  # (1, 0, 0) is forbidden


# ---- bad input -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"thickness_A": -1}, "thicknesses"),
        ({"thickness_A": [10, np.nan]}, "thicknesses"),
        ({"s_max_A": 0}, "s_max_A"),
        ({"weak_s_max_A": 0.01}, "weak_s_max_A"),
        ({"absorption": -0.1}, "absorption"),
        ({"k_max_A": 7}, "k_max_A"),
        ({"k_max_A": 4.0, "s_max_A": 0.9}, "beams are more than"),
        ({"energy_eV": 300}, "300 kV|200 kV"),
        ({"precession_mrad": 10, "azimuths": 1}, "azimuths"),
        ({"thickness_A": np.arange(1000.0), "precession_mrad": 5, "azimuths": 10000}, "do not fit"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"zone_axis": [0, 0, 1], "energy_eV": 200e3, "thickness_A": 50,
                             "k_max_A": 0.8, **changes}  # fmt: skip
    with pytest.raises(ParameterError, match=words):
        Crystal.common("Au").bloch_waves(**given)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"semiangle_mrad": 0}, ParameterError, "semiangle"),
        ({"Q_pixel_size_A": -1}, ParameterError, "Q_pixel_size_A"),
        ({"Q_pixel_size_A": 1e-4}, ParameterError, "larger pixels"),
        ({"Q_shape": (0, 5)}, ShapeError, "Q_shape"),
        ({"thickness_A": [[1, 2]]}, ShapeError, "thicknesses"),
    ],
)
def test_bad_convergent_beams_are_named(changes: dict[str, Any], error: type, words: str) -> None:
    given: dict[str, Any] = {
        "zone_axis": [0, 0, 1], "energy_eV": 200e3, "thickness_A": 50, "semiangle_mrad": 2,
        "Q_shape": (20, 22), "Q_pixel_size_A": 0.05, "k_max_A": 0.8, **changes,
    }  # fmt: skip
    with pytest.raises(error, match=words):
        Crystal.common("Au").convergent_beam_pattern(**given)
