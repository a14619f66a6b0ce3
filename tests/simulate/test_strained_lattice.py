"""The lattice that the patterns show is the one that the truth describes."""

import numpy as np
import pytest

from py4DSTEM import Ellipse, ParameterError, ShapeError
from py4DSTEM.simulate import strained_lattice


def _centroids(pattern, guesses, radius):
    """Centre of mass inside a disk about each guess, iterated once."""
    i, j = np.indices(pattern.shape)
    out = []
    for x, y in guesses:
        inside = np.hypot(i - x, j - y) < radius
        out.append([np.average(k[inside], weights=pattern[inside]) for k in (i, j)])
    return np.array(out)


def _visible(positions, Q_shape, margin):
    edge = np.array(Q_shape) - 1 - margin
    return ((positions > margin) & (positions < edge)).all(axis=-1)


@pytest.mark.parametrize("ellipse", [None, (1.04, 1.0, 0.7)])
def test_disks_lie_where_the_truth_says(ellipse):
    scan = strained_lattice(
        (3, 4), (96, 112), dose=None, background=0, ellipse=ellipse, rotation_rad=0.2, seed=4
    )
    positions = scan.truth.positions_px()[2, 3]
    positions = positions[_visible(positions, (96, 112), 10)]
    measured = _centroids(scan.cube.data[2, 3], positions, 8)
    assert np.abs(measured - positions).max() < 2e-3


def test_strain_measured_from_positions_equals_the_truth():
    ellipse = Ellipse(1.03, 1.0, 0.4)
    scan = strained_lattice(
        (4, 5), (32, 32), ellipse=ellipse, rotation_rad=0.3, wander_px=2, seed=2
    )
    truth = scan.truth
    raw = truth.positions_px() - truth.origin_px[:, :, None, :]
    angle = truth.calibration.rotation_rad
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # Calibrate as the conventions say: ellipse, pixel size, rotation.
    calibrated = raw @ ellipse.correction().T * truth.calibration.Q_pixel_size @ turn.T
    reference = truth.hk @ np.stack([truth.g1_A, truth.g2_A])
    for position in np.ndindex(4, 5):
        beta = np.linalg.lstsq(reference, calibrated[position], rcond=None)[0]
        assert 1 - beta[0, 0] == pytest.approx(truth.e_xx[position], abs=1e-12)
        assert 1 - beta[1, 1] == pytest.approx(truth.e_yy[position], abs=1e-12)
        assert -(beta[0, 1] + beta[1, 0]) / 2 == pytest.approx(truth.e_xy[position], abs=1e-12)
        assert (beta[0, 1] - beta[1, 0]) / 2 == pytest.approx(truth.theta[position], abs=1e-12)


def test_positive_theta_turns_x_towards_y():
    truth = strained_lattice(
        (1, 1), (32, 32), strain={"theta": 0.01}, g1_A=(0.2, 0), g2_A=(0, 0.3)
    ).truth
    np.testing.assert_allclose(truth.g1_local_A[0, 0], [0.2, 0.002])
    np.testing.assert_allclose(truth.g2_local_A[0, 0], [-0.003, 0.3])


def test_dose_and_counting_statistics():
    scan = strained_lattice((6, 7), (64, 64), dose=20_000, seed=3)
    exact = strained_lattice((6, 7), (64, 64), dose=None, seed=3)
    assert exact.cube.data.sum(axis=(2, 3)).mean() == pytest.approx(1, abs=0.1)
    difference = scan.cube.data - 20_000.0 * exact.cube.data
    scaled = difference / np.sqrt(np.maximum(20_000 * exact.cube.data, 1e-3))
    assert np.mean(scaled**2) == pytest.approx(1, abs=0.05)


def test_the_same_seed_gives_the_same_scan():
    first, again, other = (strained_lattice((2, 3), (48, 40), seed=s) for s in (7, 7, 8))
    np.testing.assert_array_equal(first.cube.data, again.cube.data)
    assert (first.cube.data != other.cube.data).any()
    by_generator = strained_lattice((2, 3), (48, 40), seed=np.random.default_rng(7))
    np.testing.assert_array_equal(first.cube.data, by_generator.cube.data)


def test_cube_knows_only_what_an_experimenter_knows():
    scan = strained_lattice((2, 3), (40, 48), seed=1)
    known = scan.cube.calibration
    assert (known.Q_pixel_size, known.Q_pixel_units) == (0.0141, "A^-1")
    assert (known.R_pixel_size, known.R_pixel_units) == (10.0, "A")
    assert known.origin_px is None and known.ellipse is None and known.rotation_rad is None
    assert known.semiangle_px() == pytest.approx(5.0)
    full = scan.cube.with_calibration(scan.truth.calibration)
    np.testing.assert_array_equal(full.calibration.origin_px, scan.truth.origin_px)


def test_reference_region_and_hot_pixels():
    scan = strained_lattice((4, 8), (40, 48), hot_pixels=3, seed=1)
    assert scan.truth.reference[:, :2].all() and not scan.truth.reference[:, 4:].all()
    assert scan.truth.hot_pixels.shape == (3, 2)
    for x, y in scan.truth.hot_pixels:
        assert scan.cube.data[:, :, x, y].min() > 1000


def test_peaks_table():
    truth = strained_lattice((2, 3), (40, 48), seed=1).truth
    table = truth.peaks()
    np.testing.assert_allclose(table[1, 2]["qx"], truth.positions_px()[1, 2, :, 0])
    assert table[0, 0]["intensity"].argmax() == 0


def test_bad_parameters_are_refused():
    with pytest.raises(ParameterError, match="known: e_xx"):
        strained_lattice((1, 1), (32, 32), strain={"exx": 0.1})
    with pytest.raises(ShapeError, match=r"shape \(2, 3\)"):
        strained_lattice((2, 3), (32, 32), strain={"e_xx": np.zeros((3, 2))})
    with pytest.raises(ParameterError, match="parallel"):
        strained_lattice((1, 1), (32, 32), g1_A=(0.1, 0.1), g2_A=(0.2, 0.2))
    with pytest.raises(ParameterError, match="background"):
        strained_lattice((1, 1), (32, 32), background=1.5)
    with pytest.raises(ParameterError, match="hot_pixels"):
        strained_lattice((1, 1), (32, 32), hot_pixels=-1)
    with pytest.raises(ParameterError, match="scan_shape"):
        strained_lattice((0, 1), (32, 32))
