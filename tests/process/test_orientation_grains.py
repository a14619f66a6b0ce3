"""Grains of known orientations, their boundaries and textures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import py4DSTEM
from py4DSTEM import (
    Crystal,
    matrices_from_euler,
    misorientation_deg,
    orientation_map,
    segment_orientations,
)
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.classes.grains import without_small
from py4DSTEM.process.crystal.phase_result import PhaseMap
from py4DSTEM.simulate.grains import random_orientations

GOLD = Crystal.common("Au")


def turned(rotvec_deg: np.ndarray) -> np.ndarray:
    flat = np.radians(np.reshape(rotvec_deg, (-1, 3)))
    return Rotation.from_rotvec(flat).as_matrix().reshape(*np.shape(rotvec_deg)[:-1], 3, 3)


def scattered(labels: np.ndarray, means: np.ndarray, spread_deg: float, seed: int = 0):
    """Orientations about those of grains, each position as another equivalent."""
    rng = np.random.default_rng(seed)
    noise = turned(rng.normal(0, spread_deg, (*labels.shape, 3)))
    equivalent = GOLD.rotations[rng.integers(0, 24, labels.shape)]
    return orientation_map(equivalent @ noise @ means[labels], GOLD)


def test_grains_and_their_orientations_are_found() -> None:
    scan = py4DSTEM.simulate.polycrystal((21, 26), (16, 16), crystal="Au", grains=7, seed=3)
    truth = scan.truth
    found = segment_orientations(scattered(truth.labels, truth.orientations, 0.3), threshold_deg=3)
    assert len(found) == 7
    of = np.array([truth.labels[found.labels == k][0] for k in range(7)])
    np.testing.assert_array_equal(of[found.labels], truth.labels)
    error = misorientation_deg(found.orientations, truth.orientations[of], GOLD)
    # Three axes of 0.3° each: the mean of n is known to 0.3 √(3/n) degrees.
    n = found.table["positions"]
    np.testing.assert_allclose(found.sigma_deg, 0.3 * np.sqrt(3 / n), rtol=0.35)
    assert (error < 3 * found.sigma_deg).all()
    assert np.sqrt(np.mean((error / found.sigma_deg) ** 2)) < 1.6
    rms = np.sqrt(np.nanmean(found.deviation_deg**2))
    assert rms == pytest.approx(0.3 * np.sqrt(3), rel=0.06)
    neighbours = np.nanmean(found.kernel_deg) / np.nanmean(found.deviation_deg)
    assert neighbours == pytest.approx(np.sqrt(2), rel=0.06)  # a difference of two
    np.testing.assert_allclose(
        found.deviation_deg,
        misorientation_deg(found.matrices, found.orientations[found.labels], GOLD), atol=1e-6,
    )  # fmt: skip


def test_threshold_parts_grains() -> None:
    angles = np.zeros((5, 9, 3))
    angles[:, :, 0] = np.radians(2.0) * np.arange(9)  # 2° from column to column
    bent = orientation_map(matrices_from_euler(angles), "Au")
    assert len(segment_orientations(bent, threshold_deg=2.1)) == 1
    assert len(segment_orientations(bent, threshold_deg=1.9)) == 9
    one = segment_orientations(bent, threshold_deg=2.1)
    middle = matrices_from_euler(np.radians([8.0, 0, 0]))
    assert misorientation_deg(one.orientations[0], middle, GOLD) < 1e-6
    assert one.spread_deg[0] == pytest.approx(np.abs(2.0 * (np.arange(9) - 4)).mean())


def test_boundaries_have_the_angle_and_axis_that_were_made() -> None:
    base = random_orientations(1, np.random.default_rng(4))[0]
    axis = np.array([2.0, -1.0, 0.5]) / np.linalg.norm([2.0, -1.0, 0.5])
    means = np.array([base, turned(23.0 * axis) @ base])
    labels = (np.indices((6, 7))[1] > 3).astype(int)
    found = segment_orientations(scattered(labels, means, 0.0))
    edges = found.boundaries
    assert len(edges) == 6
    np.testing.assert_allclose(edges["angle_deg"], 23.0, atol=1e-6)
    along = np.stack([edges["ux"], edges["uy"], edges["uz"]], axis=-1)
    same = np.abs(np.einsum("kij,j->ki", GOLD.rotations, axis) @ along.T).max(axis=0)
    np.testing.assert_allclose(same, 1.0, atol=1e-6)
    assert set(zip(edges["rx"], edges["ry"], strict=True)) == {(r, 3.5) for r in range(6)}
    assert not edges["twin"].any()


@pytest.mark.parametrize(("off_deg", "twin"), [(0.0, True), (8.0, True), (9.5, False)])
def test_twins(off_deg: float, twin: bool) -> None:
    base = random_orientations(1, np.random.default_rng(5))[0]
    sixty = turned(60.0 * np.array([1.0, -1.0, 1.0]) / np.sqrt(3))
    means = np.array([base, turned(np.array([off_deg, 0, 0])) @ sixty @ base])
    labels = (np.indices((5, 6))[0] > 2).astype(int)
    found = segment_orientations(scattered(labels, means, 0.0))
    assert found.twin_share == float(twin)
    hexagonal = orientation_map(means[labels], "Mg")
    assert not segment_orientations(hexagonal, threshold_deg=1).boundaries["twin"].any()


def test_an_ambiguous_half_turn_joins_its_grain() -> None:
    base, half = random_orientations(1, np.random.default_rng(6))[0], np.diag([-1.0, -1.0, 1.0])
    odd = np.zeros((6, 8), bool)
    odd[2:4, 3:6] = True
    R = np.where(odd[..., None, None], base @ half, base)
    flat = orientation_map(R, GOLD)
    alternative = np.where(odd[..., None, None], base, base @ half)[:, :, None]
    unsure = type(flat)(**{**vars(flat), "alternative": alternative,
                           "ambiguous": odd[:, :, None]})  # fmt: skip
    joined = segment_orientations(unsure)
    assert len(joined) == 1
    np.testing.assert_array_equal(joined.half_turned, odd)
    assert misorientation_deg(joined.orientations[0], base, GOLD) < 1e-6
    assert len(segment_orientations(unsure, half_turn="part")) == 2


def test_what_is_not_known_belongs_to_no_grain() -> None:
    R = np.broadcast_to(np.eye(3), (6, 7, 3, 3)).copy()
    R[:, 3] = np.nan
    trust = np.ones((6, 7))
    trust[0, 0] = 0.2
    found = segment_orientations(orientation_map(R, GOLD, reliability=trust), min_reliability=0.5)
    assert len(found) == 2
    assert (found.labels[:, 3] == -1).all()
    assert found.labels[0, 0] == -1
    nothing = segment_orientations(orientation_map(np.full((4, 5, 3, 3), np.nan), GOLD))
    assert len(nothing) == 0
    assert "0 grains" in nothing.text()
    assert len(nothing.boundaries) == 0
    with pytest.raises(ParameterError, match="segment-orientations"):
        segment_orientations(np.eye(3))


def phase_map(maps: tuple[py4DSTEM.OrientationMap, ...], labels: np.ndarray) -> PhaseMap:
    """A map of phases of which nothing but labels and orientations is known."""
    nothing = np.full(labels.shape, np.nan)
    return PhaseMap(
        labels=labels, names=tuple(one.crystal.name for one in maps),
        fractions=np.full((*labels.shape, len(maps)), np.nan),
        sigma=np.full((*labels.shape, len(maps)), np.nan),
        confidence=nothing, gap=nothing, components=labels[..., None],
        evidence=nothing[..., None], scale=nothing[..., None], residual=nothing,
        n_peaks=np.zeros(labels.shape, np.int64), orientations=maps,
    )  # fmt: skip


def test_phases_are_parted_whatever_their_orientations() -> None:
    flat = np.broadcast_to(np.eye(3), (5, 6, 3, 3))
    maps = (orientation_map(flat, "Au"), orientation_map(flat, "Mg"))
    labels = (np.indices((5, 6))[1] > 1).astype(np.int64)
    found = segment_orientations(phase_map(maps, labels))
    assert found.image_names == ("Au", "Mg")
    assert found.phase.tolist() == [1, 0]  # the larger first
    assert np.isnan(found.boundaries["angle_deg"]).all()
    assert np.isnan(found.twin_share)
    with pytest.raises(ParameterError, match="several phases"):
        py4DSTEM.measure_texture(found)


def test_mean_over_symmetry() -> None:
    rng = np.random.default_rng(8)
    base = random_orientations(1, rng)[0]
    near = turned(rng.normal(0, 2, (400, 3))) @ base
    mean = py4DSTEM.mean_orientation(GOLD.rotations[rng.integers(0, 24, 400)] @ near, GOLD)
    assert misorientation_deg(mean, base, GOLD) < 4 * 2 * np.sqrt(3 / 400)
    assert np.isnan(py4DSTEM.mean_orientation(np.full((2, 3, 3), np.nan), "Au")).all()


def test_small_grains_join_the_longest_neighbour() -> None:
    labels = np.zeros((6, 8), np.int32)
    labels[:, 4:] = 1
    labels[2, 3], labels[2, 4], labels[5, 7] = 2, 3, 4  # 2 and 3 touch each other, too
    joined, kept = without_small(labels, 3, "merge")
    assert kept.tolist() == [0, 1]
    np.testing.assert_array_equal(joined, np.indices((6, 8))[1] > 3)
    dropped, _ = without_small(labels, 3, "drop")
    assert (dropped == -1).sum() == 3


# ---- texture -------------------------------------------------------------------------------------
def test_random_orientations_have_no_texture() -> None:
    R = random_orientations(600, np.random.default_rng(9)).reshape(20, 30, 3, 3)
    found = py4DSTEM.measure_texture(orientation_map(R, "Au"))
    for values, sigma in ((found.density, found.sigma), (found.inverse, found.inverse_sigma)):
        assert np.nanmean(values) == pytest.approx(1, abs=0.03)
        assert np.nanstd((values - 1) / sigma) == pytest.approx(1, abs=0.3)


def test_many_orientations_are_gathered_without_a_change() -> None:
    R = turned(np.random.default_rng(10).normal(0, 8, (40, 50, 3)))
    few = py4DSTEM.measure_texture(orientation_map(R[:8], "Mg"), poles=((0, 0, 2), (1, 0, 0)))
    many = py4DSTEM.measure_texture(
        orientation_map(np.tile(R[:8], (5, 1, 1, 1)), "Mg"), poles=((0, 0, 2), (1, 0, 0))
    )
    np.testing.assert_allclose(many.density, few.density, atol=0.05 * np.nanmax(few.density))
    assert many.count == 5 * few.count
    assert np.nanmax(many.sigma) == pytest.approx(np.nanmax(few.sigma) / np.sqrt(5), rel=0.1)


def test_poles_are_where_the_crystal_points() -> None:
    """c of magnesium 30° from z towards +x, which is downwards in the figure."""
    tilted = turned(np.array([0.0, 30.0, 0.0])).T  # columns: sample axes in the crystal
    np.testing.assert_allclose(tilted.T @ [0, 0, 1], [0.5, 0, np.sqrt(0.75)], atol=1e-12)
    flat = orientation_map(np.broadcast_to(tilted, (3, 4, 3, 3)), "Mg")
    found = py4DSTEM.measure_texture(flat, poles=((0, 0, 2),), smoothing_deg=5)
    i, j = np.unravel_index(np.nanargmax(found.density[0]), found.density[0].shape)
    middle = found.density.shape[1] // 2
    assert j == middle
    assert (i - middle) / middle == pytest.approx(np.tan(np.radians(15)), abs=0.03)
    # The sample's z is 30° from c, towards -a: within the triangle as its equivalent +a.
    k, m = np.unravel_index(np.nanargmax(found.inverse[2]), found.inverse[2].shape)
    step = (found.extent[1] - found.extent[0]) / (found.inverse.shape[2] - 1)
    at = found.extent[0] + m * step, found.extent[2] + k * step
    assert np.hypot(*at) == pytest.approx(np.tan(np.radians(15)), abs=0.03)


def test_orientation_density_has_a_mean_of_one_and_its_peak_where_the_crystal_is() -> None:
    rng = np.random.default_rng(11)
    base = random_orientations(1, rng)[0]
    one = orientation_map(np.broadcast_to(base, (2, 3, 3, 3)), "Au")
    anywhere = random_orientations(20_000, rng)
    spread = py4DSTEM.orientation_density(one, anywhere, smoothing_deg=15)
    assert spread.mean() == pytest.approx(1, abs=5 * spread.std() / np.sqrt(20_000))
    peak = py4DSTEM.orientation_density(one, GOLD.rotations @ base, smoothing_deg=15)
    np.testing.assert_allclose(peak, peak[0])
    beside = py4DSTEM.orientation_density(one, turned(np.array([15.0, 0, 0])) @ base,
                                          smoothing_deg=15)  # fmt: skip
    assert beside / peak[0] == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ParameterError, match="smoothing_deg"):
        py4DSTEM.orientation_density(one, base, smoothing_deg=90)


def test_texture_of_nothing_is_refused() -> None:
    with pytest.raises(ParameterError, match="nothing is indexed"):
        py4DSTEM.measure_texture(orientation_map(np.full((2, 3, 3, 3), np.nan), "Au"))
    with pytest.raises(ParameterError, match="0 0 0"):
        py4DSTEM.measure_texture(orientation_map(np.broadcast_to(np.eye(3), (2, 2, 3, 3)), "Au"),
                                 poles=((0, 0, 0),))  # fmt: skip
