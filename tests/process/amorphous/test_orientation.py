"""Arcs of fibre-like samples whose directions are known."""

from __future__ import annotations

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import (
    DataCube,
    OrientationResult,
    ParameterError,
    flow_lines,
    orientation_distribution,
    simulate,
)


def apart(a, b):
    return (a - b + np.pi / 2) % np.pi - np.pi / 2


@pytest.fixture(scope="module")
def film():
    scan = simulate.fibers((16, 18), crossed=0.3, wander_px=0.6, seed=2)
    cube = scan.cube.with_calibration(scan.truth.calibration)
    ring = scan.truth.ring_px
    return orientation_distribution(cube, (ring - 3.5, ring + 3.5), across=True), scan.truth


def test_directions_order_and_their_uncertainty(film):
    found, truth = film
    one = np.isnan(truth.crossing_rad)
    error = apart(found.angle_rad[..., 0], truth.angle_rad)[one]
    assert np.sqrt(np.mean(error**2)) < 0.01
    assert (error / found.sigma_rad[..., 0][one]).std() == pytest.approx(1, abs=0.2)
    assert found.order[one].mean() == pytest.approx(truth.order, abs=0.01)
    assert (found.count[one] == 1).all() and (found.strength[..., 0][one] > 0.9).all()


def test_two_directions_at_once(film):
    found, truth = film
    both = np.isfinite(truth.crossing_rad)
    assert (found.count[both] == 2).all()
    pair = found.angle_rad[both][:, :2]
    true = np.stack([truth.angle_rad[both], truth.crossing_rad[both]], axis=1)
    straight = np.abs(apart(pair, true)).max(axis=1)
    swapped = np.abs(apart(pair, true[:, ::-1])).max(axis=1)
    assert np.minimum(straight, swapped).max() < 0.08
    assert found.strength[both][:, :2].mean() == pytest.approx(0.5, abs=0.05)


def test_a_random_ring_has_no_direction():
    r = np.hypot(*(np.indices((48, 52)) - np.array([23.4, 25.2]).reshape(2, 1, 1)))
    for level in (1.0, 30.0):
        data = np.random.default_rng(1).poisson(level + 0 * r, (20, 21, 48, 52)).astype(np.uint16)
        found = orientation_distribution(DataCube(data), (10, 16), center=(23.4, 25.2))
        assert (found.count > 0).mean() < 0.01
        assert np.isnan(found.order[found.count == 0]).all()
        assert found.mean.mean() == pytest.approx(level, rel=0.02)


def test_angles_follow_rotation_and_flip():
    scan = simulate.fibers((5, 6), winding=0.5, seed=3)
    cube, ring = scan.cube.with_calibration(scan.truth.calibration), scan.truth.ring_px
    limits = (ring - 3, ring + 3)
    plain = orientation_distribution(cube, limits).angle_rad[..., 0]
    turned = orientation_distribution(
        cube.with_calibration(rotation_rad=0.3, flip=False), limits
    ).angle_rad[..., 0]
    flipped = orientation_distribution(
        cube.with_calibration(rotation_rad=0.3, flip=True), limits
    ).angle_rad[..., 0]
    np.testing.assert_allclose(apart(turned, plain + 0.3), 0, atol=1e-9)
    np.testing.assert_allclose(apart(flipped, np.pi / 2 - plain + 0.3), 0, atol=1e-9)
    assert ((turned >= 0) & (turned < np.pi)).all()


def test_histogram_is_of_all_arcs(film):
    found, _ = film
    assert found.histogram.sum() == pytest.approx(1) and len(found.histogram_rad) == 90
    narrow = simulate.fibers((5, 6), winding=0.0, seed=3)
    ring = narrow.truth.ring_px
    cube = narrow.cube.with_calibration(narrow.truth.calibration)
    one = orientation_distribution(cube, (ring - 3, ring + 3), across=True)
    assert one.histogram_rad[one.histogram.argmax()] == pytest.approx(0.4, abs=0.03)


def test_flow_lines_run_along_the_directions(film):
    found, truth = film
    lines = flow_lines(found, spacing=1.5)
    assert len(lines) > 8
    first = np.flatnonzero(np.isfinite(truth.crossing_rad[0]))[0]
    for line in lines:
        way = np.diff(line, axis=0)
        middle = np.rint((line[1:] + line[:-1]) / 2).astype(int)
        single = middle[:, 1] < first - 1
        away = np.hypot(*(middle - np.array([8, 9])).T) > 3
        steady = single & away
        error = apart(np.arctan2(way[:, 1], way[:, 0]), truth.angle_rad[tuple(middle.T)])
        assert np.abs(error[steady]).max(initial=0) < 0.25
    points = lines.points
    assert (points >= 0).all() and (points <= np.array(found.order.shape) - 1).all()
    # No point of one line lies nearer to another than half of the spacing.
    for k in range(len(lines)):
        others = np.concatenate([lines[m] for m in range(len(lines)) if m != k])
        gaps = np.linalg.norm(lines[k][:, None] - others[None], axis=-1)
        assert gaps.min() > 0.5 * 1.5 - 1e-6


def test_lines_go_straight_through_a_crossing():
    scan = simulate.fibers((9, 14), winding=0.0, crossed=0.5, seed=6)
    ring = scan.truth.ring_px
    cube = scan.cube.with_calibration(scan.truth.calibration)
    found = orientation_distribution(cube, (ring - 3, ring + 3), across=True)
    assert np.ptp(found.angle_rad[:, 7:, 0]) > 0.9  # either of the two is the strongest
    for line in flow_lines(found, spacing=1.0, least=2.0):
        way = np.diff(line, axis=0)
        angle = np.arctan2(way[:, 1], way[:, 0])
        other = [np.abs(apart(angle, a)).max() for a in (0.4, 0.4 + np.pi / 3)]
        assert min(other) < 0.12


def test_lines_stop_where_nothing_is_known():
    scan = simulate.fibers((8, 12), winding=0.0, seed=5)
    ring = scan.truth.ring_px
    cube = scan.cube.with_calibration(scan.truth.calibration)
    where = np.ones((8, 12), bool)
    where[:, 6:] = False
    found = orientation_distribution(cube, (ring - 3, ring + 3), across=True, where=where)
    lines = flow_lines(found)
    assert len(lines) and lines.points[:, 1].max() < 6
    with pytest.raises(IndexError):
        lines[len(lines)]


def test_bad_input_and_files(film, tmp_path):
    found, _ = film
    cube = DataCube(np.ones((1, 3, 20, 21), np.uint16))
    with pytest.raises(ParameterError, match="even"):
        orientation_distribution(cube, (3, 6), n_phi=181, center=(9, 9))
    with pytest.raises(ParameterError, match="usable pixel"):
        orientation_distribution(cube, (40, 60), center=(9, 9))
    with pytest.raises(ParameterError, match="2 x 2"):
        flow_lines(orientation_distribution(cube, (3, 6), center=(9, 9)))
    with pytest.raises(ParameterError, match="OrientationResult"):
        flow_lines("directions")
    nothing = DataCube(np.full((2, 3, 20, 21), np.nan))
    assert not orientation_distribution(nothing, (3, 6), center=(9, 9)).count.any()
    half = np.zeros((20, 21), bool)
    half[:4] = True
    hidden = orientation_distribution(cube, (3, 6), center=(9, 9), mask=half)
    assert np.isnan(hidden.mean).all()
    for name, one in {"map": found, "lines": flow_lines(found)}.items():
        py4DSTEM.save(tmp_path / f"{name}.h5", one)
        again = py4DSTEM.read(tmp_path / f"{name}.h5")
        assert type(again) is type(one) and repr(again) == repr(one)
    assert isinstance(py4DSTEM.read(tmp_path / "map.h5"), OrientationResult)


def test_simulated_films_refuse_nonsense():
    for bad in ({"winding": 0.3}, {"crossed": 2}, {"scattered": 0}, {"spacing_A": 0.5}):
        with pytest.raises(ParameterError):
            simulate.fibers((3, 4), **bad)
    for bad in ({"element": "C"}, {"crystal_radius_A": 30.0}):
        with pytest.raises(ParameterError):
            simulate.amorphous((1, 2), (16, 16), crystals=2, **bad)


def test_crystals_in_the_simulated_glass():
    scan = simulate.amorphous((1, 2), (16, 16), element="Pd", diameter_A=2.75, crystals=2, seed=4)
    truth = scan.truth
    assert truth.crystals_A.shape == (2, 3) and 0.05 < truth.crystal_fraction < 0.1
    gap = truth.atoms_A - truth.crystals_A[0]
    gap -= truth.box_A * np.rint(gap / truth.box_A)
    inside = gap[np.linalg.norm(gap, axis=1) < truth.crystal_radius_A - 2]
    pairs = np.linalg.norm(inside[:, None] - inside[None], axis=-1)
    nearest = np.where(pairs > 0, pairs, np.inf).min(axis=1)
    np.testing.assert_allclose(nearest, truth.crystal_lattice_A / np.sqrt(2), rtol=1e-6)
