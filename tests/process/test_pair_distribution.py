"""Pair distributions of glasses whose atoms are known."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import simulate
from py4DSTEM.core.axis import Axis
from py4DSTEM.core.scattering import Composition
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.process.amorphous.pair_transform import PairTransform, Setup, sine_transform
from py4DSTEM.process.amorphous.pdf import pair_distribution
from py4DSTEM.process.radial import RadialProfileResult

SHARED = Path(os.environ.get("PY4DSTEM_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))
SCALE = 1e6


def profile(q, intensity, counts=None):
    pixels = 2 * np.pi * np.maximum(np.arange(len(q)), 0.2) if counts is None else counts
    data = np.asarray(intensity, np.float64)
    return RadialProfileResult(
        data, np.broadcast_to(pixels, data.shape).copy(), Axis("q", q[1] - q[0], 0.0, "A^-1"), 1.0
    )


@pytest.fixture(scope="module")
def truth():
    """A glass of copper; g(r) and S(q) from its atoms."""
    return simulate.amorphous((1, 1), (120, 120), Q_pixel_size_A=0.03, seed=4).truth


@pytest.fixture(scope="module")
def kinematic(truth):
    f2 = Composition.parse("Cu").mean_f2_A2(truth.q_A)
    return truth.q_A, SCALE * f2 * np.maximum(truth.structure_factor, 0)


def neighbours(truth, low, high):
    """Counted in g(r) of the atoms."""
    inside = (truth.r_A > low) & (truth.r_A < high)
    shell = 4 * np.pi * truth.density_A3 * truth.r_A**2 * truth.g
    return shell[inside].sum() * (truth.r_A[1] - truth.r_A[0])


# ---- known truth ---------------------------------------------------------------------------------
@pytest.mark.parametrize("q_max", [1.4, 2.0, 2.5])
def test_kinematic_glass(truth, kinematic, q_max):
    """Nothing but the profile is given: neighbours within 5 %, density within 1 %."""
    found = pair_distribution(profile(*kinematic), "Cu", q_min=0.1, q_max=q_max)
    shell = found.coordination()
    assert shell.number == pytest.approx(neighbours(truth, shell.r1_A, shell.r2_A), rel=0.03)
    assert found.density_A3 == pytest.approx(truth.density_A3, rel=0.01)
    assert found.scale == pytest.approx(SCALE, rel=0.03)
    # The peak of such a glass is steep on one side: seen through the range, the true one moves too.
    step = truth.r_A[1] - truth.r_A[0]
    q = found.q
    true_F = 2 * np.pi * q * (np.interp(q, truth.q_A, truth.structure_factor) - 1)
    true_G = sine_transform(q, found.r, "lorch") @ true_F
    true_g = 1 + true_G / (4 * np.pi * truth.density_A3 * found.r)
    at = found.r[np.argmax(np.where(found.r > 2, true_g, 0))]
    assert found.first_peak().r_A == pytest.approx(at, abs=0.02)
    if q_max == 2.5:
        sharp = truth.r_A[np.argmax(truth.g)]
        assert found.first_peak().r_A == pytest.approx(sharp, abs=0.02 + step / 2)


@pytest.mark.parametrize("background", ["low-r", "polynomial", "none"])
def test_a_known_density(truth, kinematic, background):
    found = pair_distribution(
        profile(*kinematic), "Cu", q_min=0.1, q_max=2.0, background=background,
        density_A3=truth.density_A3,
    )  # fmt: skip
    shell = found.coordination(2.0, 3.3)
    assert shell.number == pytest.approx(neighbours(truth, 2.0, 3.3), rel=0.05)
    assert found.density_A3 == pytest.approx(truth.density_A3, rel=1e-9)
    assert found.sigma_density_A3 == 0


def test_a_smooth_background_changes_little(truth, kinematic):
    """Half of the intensity is no single scattering; the density tells how much of it."""
    q, intensity = kinematic
    f2 = SCALE * Composition.parse("Cu").mean_f2_A2(q)
    smooth = f2 * (0.3 + 0.8 * (1 - q / 2.0) ** 2)
    plain, with_it = (
        pair_distribution(
            profile(q, some), "Cu", q_min=0.15, q_max=2.0, density_A3=truth.density_A3
        )
        for some in (intensity, intensity + smooth)
    )
    np.testing.assert_allclose(with_it.g, plain.g, atol=0.02)
    np.testing.assert_allclose(with_it.S, plain.S, atol=0.02)
    assert with_it.coordination().number == pytest.approx(float(plain.coordination().number), 0.01)
    assert with_it.first_peak().r_A == pytest.approx(float(plain.first_peak().r_A), abs=0.002)


def test_a_power_law(truth, kinematic):
    q, intensity = kinematic
    with np.errstate(divide="ignore"):
        smooth = SCALE * 0.3 * q**-3.0
    smooth[0] = 0
    found = pair_distribution(
        profile(q, intensity + smooth), "Cu", q_min=0.3, q_max=2.0, background="power-law",
        density_A3=truth.density_A3,
    )  # fmt: skip
    assert found.first_peak().r_A == pytest.approx(2.5, abs=0.02)
    assert "exponent" in found.choices["background"]


def test_rounds_straighten_what_is_below_the_atoms(kinematic):
    def bent(rounds):
        found = pair_distribution(
            profile(*kinematic), "Cu", q_min=0.1, q_max=1.4, background="polynomial",
            order=1, rounds=rounds,
        )  # fmt: skip
        low = found.r <= found.r_min_A
        line = -4 * np.pi * found.density_A3 * found.r[low]
        return float(np.abs(found.G[low] - line).max())

    assert bent(10) < 0.5 * bent(0)


def test_transform_of_one_distance():
    """``F = A sin(2πqr₀)`` becomes a peak at r₀; without damping its area is known."""
    q = np.arange(0.01, 4.0, 0.01)
    r = np.arange(0.02, 8.0, 0.02)
    for damping in ("lorch", "gaussian", "none"):
        G = sine_transform(q, r, damping) @ np.sin(2 * np.pi * q * 3.0)
        assert r[np.argmax(G)] == pytest.approx(3.0, abs=0.011)
        assert G.sum() * 0.02 == pytest.approx(1.0, rel=0.05)


# ---- errors --------------------------------------------------------------------------------------
def test_errors_cover_the_scatter_of_counts(truth, kinematic):
    """Two hundred draws of the counts: stated and seen standard deviations agree."""
    q, intensity = kinematic
    rng = np.random.default_rng(5)
    pixels = 2 * np.pi * np.maximum(np.arange(len(q)), 0.2)
    expected = intensity / SCALE * 30
    draws = rng.poisson(expected * pixels, (200, len(q))) / pixels
    found = pair_distribution(
        profile(q, draws[:, None]), "Cu", per="position", q_min=0.1, q_max=1.6, r_min_A=1.6, order=1
    )
    assert found.shape == (200, 1)
    sigmas = {
        "g": (found.g[:, 0], found.sigma_g[:, 0]),
        "G": (found.G[:, 0], found.sigma_G[:, 0]),
        "density": (found.density_A3, found.sigma_density_A3),
        "neighbours": (found.coordination(2, 3.3).number, found.coordination(2, 3.3).sigma),
        "peak": (found.first_peak().r_A, found.first_peak().sigma_A),
    }
    for name, (values, sigma) in sigmas.items():
        ratio = values.std(axis=0, ddof=1) / sigma.mean(axis=0)
        assert 0.85 < np.median(ratio) < 1.15, name


def test_gain_scales_the_errors(kinematic):
    one = pair_distribution(profile(*kinematic), "Cu", q_min=0.1, q_max=1.4)
    nine = pair_distribution(profile(*kinematic), "Cu", q_min=0.1, q_max=1.4, gain=9.0)
    np.testing.assert_allclose(nine.sigma_g, 3 * one.sigma_g)
    np.testing.assert_array_equal(nine.g, one.g)


def test_differences_between_positions_hold_more_than_counts():
    scan = simulate.amorphous((5, 4), (96, 96), seed=2)
    cube = scan.cube.with_calibration(scan.truth.calibration)
    kinds = {
        kind: pair_distribution(cube, "Cu", noise=kind, density_A3=scan.truth.density_A3)
        for kind in ("counts", "positions")
    }
    one, other = kinds["counts"], kinds["positions"]
    np.testing.assert_allclose(one.g, other.g, atol=1e-9)
    seen = one.r > 2
    assert np.median(other.sigma_g[seen] / one.sigma_g[seen]) > 2
    # Half of the scan against the other half, in units of the stated error.
    halves = pair_distribution(
        cube, "Cu", noise="positions", labels=np.indices((5, 4))[1] // 2, r_min_A=1.6
    )
    assert halves.labels == (0, 1)
    z = (halves.g[0] - halves.g[1]) / np.hypot(*halves.sigma_g)
    assert 0.3 < z[seen].std() < 2.0


# ---- scans ---------------------------------------------------------------------------------------
def test_regions_and_positions_are_those_of_their_own_profiles():
    scan = simulate.amorphous((3, 4), (96, 96), seed=3)
    cube = scan.cube.with_calibration(scan.truth.calibration)
    profiles = py4DSTEM.radial_profiles(cube)
    given = {"q_min": 0.1, "q_max": 1.2, "r_min_A": 1.6, "order": 1}
    labels = np.array([[0, 0, 2, -1], [0, 0, 2, 2], [0, 0, 2, 2]])
    several = pair_distribution(cube, "Cu", labels=labels, **given)
    assert several.labels == (0, 2)
    for k, label in enumerate(several.labels):
        alone = pair_distribution(profiles, "Cu", where=labels == label, **given)
        np.testing.assert_allclose(several.g[k], alone.g, atol=1e-9)
        np.testing.assert_allclose(several.sigma_g[k], alone.sigma_g, rtol=1e-6)
        np.testing.assert_allclose(
            several.coordination().number[k],
            alone.coordination(several.coordination().r1_A, several.coordination().r2_A).number,
        )
    each = pair_distribution(cube, "Cu", per="position", where=labels >= 0, **given)
    assert (
        each.shape == (3, 4) and np.isnan(each.g[0, 3]).all() and np.isnan(each.sigma_g[0, 3]).all()
    )
    assert np.isnan(each.first_peak().r_A[0, 3]) and np.isfinite(each.first_peak().r_A[1:]).all()
    assert np.isnan(each.coordination().number[0, 3])
    here = py4DSTEM.DiffractionSlice(np.asarray(cube.data[2, 1]), cube.calibration)
    alone = pair_distribution(here, "Cu", **given)
    np.testing.assert_allclose(each[2, 1], alone.g, atol=1e-9)
    assert "first peak" in alone.text() and each.history.steps[-1].kind == "pair-distribution"


@pytest.mark.skipif(not (SHARED / "amorphous").exists(), reason="the reference data are not here")
def test_multislice_glass():
    """Dynamical scattering, counts: nearest neighbours within 0.05 Å, shape of I(q) q² to 0.99."""
    folder = SHARED / "amorphous"
    true, exact = np.load(folder / "truth.npz"), json.loads((folder / "truth.json").read_text())
    model = exact["models"]["glass"]
    with h5py.File(folder / "data.h5") as file:
        data = file["data"][:]
    origin = np.stack([true["glass_origin_row"], true["glass_origin_col"]], axis=-1)
    cube = py4DSTEM.DataCube(data).with_calibration(
        origin_px=origin, Q_pixel_size=exact["detector_pixel_1_per_A"], Q_pixel_units="A^-1"
    )
    density = model["number_density_per_A3"]
    found = cube.pair_distribution(model["composition"], density_A3=density, noise="positions")
    peak = found.first_peak()
    assert peak.r_A == pytest.approx(model["first_peak_r_A"], abs=0.02)
    # As measured, no background and no scale, over the range that was chosen: 0.094 to 1.41 1/Å.
    expected = np.interp(found.q, true["glass_k_1_per_A"], true["glass_I_kinematic"]) * found.q**2
    assert np.corrcoef(found.intensity * found.q**2, expected)[0, 1] > 0.99
    # With what is not single scattering taken away.
    composition = Composition.parse(model["composition"])
    single = found.intensity - found.smooth + found.scale * composition.mean_f2_A2(found.q)
    assert np.corrcoef(single * found.q**2, expected)[0, 1] > 0.997
    # Neighbours with the weights of their scattering, from the partial distributions.
    f = {e: py4DSTEM.scattering_factor_A(e, 0.8) for e in ("Pd", "Si")}
    weight = np.array([0.64 * f["Pd"] ** 2, 0.32 * f["Pd"] * f["Si"], 0.04 * f["Si"] ** 2])
    partials = np.stack([true[f"glass_g_{pair}"] for pair in ("aa", "ab", "bb")])
    r = true["glass_r_A"]
    inside = (r > 1.8) & (r < 3.7)
    shell = 4 * np.pi * density * r**2 * (weight / weight.sum() @ partials)
    counted = shell[inside].sum() * (r[1] - r[0])
    assert found.coordination(1.8, 3.7).number == pytest.approx(counted, rel=0.05)


@pytest.mark.skipif(not (SHARED / "amorphous").exists(), reason="the reference data are not here")
def test_kinematic_alloy():
    """Two elements: the intensity of the reference model without dynamical scattering."""
    folder = SHARED / "amorphous"
    true, exact = np.load(folder / "truth.npz"), json.loads((folder / "truth.json").read_text())
    model = exact["models"]["glass"]
    q = 0.0235 * np.arange(85)
    intensity = np.interp(q, true["glass_k_1_per_A"], true["glass_I_kinematic"])
    found = pair_distribution(
        profile(q, SCALE * intensity), "Pd80Si20", q_min=0.1, q_max=1.45,
        density_A3=model["number_density_per_A3"],
    )  # fmt: skip
    assert found.first_peak().r_A == pytest.approx(model["first_peak_r_A"], abs=0.02)


# ---- bad input -----------------------------------------------------------------------------------
def test_ranges_are_chosen_with_a_reason(kinematic):
    q, intensity = kinematic
    counts = 2 * np.pi * np.maximum(np.arange(len(q)), 0.2)
    counts[55:] *= 0.8
    found = pair_distribution(profile(q, intensity, counts), "Cu", order=1)
    assert found.q[-1] == pytest.approx(q[54])
    assert "wholly on the detector" in found.choices["q_max"]
    faint = pair_distribution(profile(q, intensity / SCALE / 300), "Cu", order=1)
    assert faint.q[-1] < 2 and "noise" in faint.choices["q_max"]
    cut = intensity.copy()
    cut[61] *= 0.5
    cut[62:] = 0
    found = pair_distribution(profile(q, cut), "Cu", order=1)
    assert found.q[-1] == pytest.approx(q[59]) and "cuts" in found.choices["q_max"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"q_min": 1.0, "q_max": 0.5}, "q_min must be smaller"),
        ({"q_min": 1.0, "q_max": 1.2}, "too few"),
        ({"q_min": 9.0}, "beyond the last ring"),
        ({"q_max": 99.0}, "beyond the last ring"),
        ({"r_max_A": 0.05}, "r_max_A / r_step_A"),
        ({"r_min_A": 20.0}, "not smaller than r_max_A"),
        ({"r_min_A": 0.03}, "do not tell a background"),
        ({"r_min_A": 0.01, "background": "none"}, "no distance lies below"),
        ({"density_A3": -1.0}, "density_A3"),
        ({"labels": np.zeros((2, 2), int)}, "positions of a scan"),
        ({"noise": "positions"}, "positions of a scan"),
        ({"where": np.ones((2, 2), bool)}, "positions of a scan"),
        ({"per": "position", "labels": np.zeros((2, 2), int)}, "exclude each other"),
        ({"labels": np.zeros(3, int)}, "labels are"),
        ({"where": np.ones((2, 2))}, "where are"),
    ],
)
def test_parameters_that_make_no_sense(kinematic, given, words):
    with pytest.raises((ParameterError, ShapeError), match=words):
        pair_distribution(profile(*kinematic), "Cu", **given)


def test_profiles_that_hold_nothing(kinematic):
    q, intensity = kinematic
    for empty in (np.zeros_like(q), np.full_like(q, np.nan)):
        with pytest.raises(ParameterError, match=r"profile has|too few"):
            pair_distribution(profile(q, empty), "Cu")
    with pytest.raises(ParameterError, match="no ring stands out"):
        f2 = Composition.parse("Cu").mean_f2_A2(q)
        pair_distribution(profile(q, SCALE * f2), "Cu")
    holes = intensity.copy()
    holes[20:23] = np.nan
    with pytest.raises(ParameterError, match="3 rings from q = 0"):
        pair_distribution(profile(q, holes), "Cu", q_min=0.1, q_max=2.0)
    with pytest.raises(ParameterError, match="not positive"):
        pair_distribution(profile(q, -intensity), "Cu", q_min=0.1, q_max=2.0, r_min_A=1.6)


def test_scans_that_do_not_fit():
    scan = simulate.amorphous((3, 4), (64, 64), seed=3)
    with pytest.raises(CalibrationMissing, match="origin"):
        pair_distribution(scan.cube, "Cu")
    cube = scan.cube.with_calibration(scan.truth.calibration)
    with pytest.raises(ShapeError, match="do not fit a scan"):
        pair_distribution(cube, "Cu", labels=np.zeros((2, 2), int))
    with pytest.raises(ParameterError, match="no position"):
        pair_distribution(cube, "Cu", where=np.zeros((3, 4), bool))
    with pytest.raises(ParameterError, match="8 positions or more"):
        pair_distribution(cube, "Cu", noise="positions", labels=np.indices((3, 4))[0])
    with pytest.raises(ParameterError, match="no element"):
        pair_distribution(cube, "Zz")
    pixels = py4DSTEM.DataCube(np.asarray(cube.data)).with_calibration(origin_px=(31.0, 32.0))
    with pytest.raises(CalibrationMissing, match="pixel size"):
        pair_distribution(pixels, "Cu")


def test_a_position_without_atoms_is_masked(kinematic):
    """A hole beside the glass: its g(r) is unknown, the others are what they were."""
    q, intensity = kinematic
    data = np.stack([intensity, np.zeros_like(q), intensity])[None]
    found = pair_distribution(profile(q, data), "Cu", per="position", q_min=0.1, q_max=1.4)
    assert np.isnan(found.g[0, 1]).all() and np.isnan(found.scale[0, 1])
    np.testing.assert_array_equal(found.g[0, 0], found.g[0, 2])
    assert np.isfinite(found.g[0, 0]).all()


def test_the_matrices_are_what_they_say(kinematic):
    """The line that "low-r" leaves has the slope that the density says, by construction."""
    q, intensity = kinematic[0][4:50], kinematic[1][4:50]
    r = 0.02 * np.arange(1, 400)
    setup = Setup(q, r, Composition.parse("Cu"), "low-r", 1, 0.0, "lorch", 1.6, 0, None)
    matrix = PairTransform.of(setup)
    low = r <= 1.6
    H = matrix.to_H @ intensity
    slope = (r[low] @ H[low]) / (r[low] ** 2).sum()
    assert -slope / 4 / np.pi == pytest.approx(float(matrix.to_number @ intensity), rel=1e-6)
