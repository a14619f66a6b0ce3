"""Spots of a parallel beam at known places."""

import numpy as np
import pytest
from disk_scans import as_cube, compare
from scipy.special import erf

from py4DSTEM import DataCube, find_bragg_disks, find_spots
from py4DSTEM.errors import ParameterError


def spot(shape, center, sigma):
    def along(n, c):
        x = np.arange(n) - c
        return 0.5 * (erf((x + 0.5) / (2**0.5 * sigma)) - erf((x - 0.5) / (2**0.5 * sigma)))

    return np.outer(along(shape[0], center[0]), along(shape[1], center[1]))


def spots(sigma, electrons, background=0.5, n=12, shape=(66, 61), pitch=15.3, seed=0):
    rng = np.random.default_rng(seed)
    nodes = np.stack(np.mgrid[:4, :4], -1).reshape(-1, 2)
    centers = 9 + pitch * nodes + rng.uniform(-0.5, 0.5, (n, 16, 2))
    counts = electrons * rng.uniform(0.5, 1.5, (n, 16))
    expected = np.full((n, *shape), float(background))
    for p in range(n):
        for k in range(16):
            expected[p] += counts[p, k] * spot(shape, centers[p, k], sigma)
    return rng.poisson(expected).astype("u2"), centers, counts


def bound(sigma, electrons, background):
    """Cramér-Rao bound of the centre, averaged over where in a pixel it is."""
    shape, step, variances = (31, 31), 1e-3, []
    for x, y in np.random.default_rng(1).uniform(14.5, 15.5, (20, 2)):
        t = spot(shape, (x, y), sigma)
        tx = (spot(shape, (x + step, y), sigma) - spot(shape, (x - step, y), sigma)) / (2 * step)
        d = np.stack([electrons * tx, t, np.ones(shape)]).reshape(3, -1)
        fisher = (d / (electrons * t + background).ravel()) @ d.T
        variances.append(np.linalg.inv(fisher)[0, 0])
    return np.sqrt(np.mean(variances))


@pytest.mark.parametrize(("sigma", "electrons"), [(0.5, 300), (0.8, 2000), (1.2, 200), (2.0, 1000)])
def test_precision(sigma, electrons):
    frames, centers, counts = spots(sigma, electrons)
    peaks = find_spots(as_cube(frames))
    found = compare(peaks, centers)
    assert peaks.report["sigma_px"] == pytest.approx(sigma, rel=0.05)
    assert peaks.report["spots_measured"] > 10
    assert len(found.errors) == 12 * 16
    assert found.false == 0
    doses = electrons * np.array([0.5, 0.75, 1, 1.25, 1.5])
    least = np.sqrt(np.mean([bound(sigma, dose, 0.5) ** 2 for dose in doses]))
    assert found.rms < 1.15 * least
    assert found.pulls.std() == pytest.approx(1, abs=0.1)
    ratio = found.points["intensity"] / counts[tuple(found.which.T)]
    assert np.median(ratio) == pytest.approx(1, abs=0.05)


def test_masks_positions_and_history():
    frames, centers, _ = spots(1.0, 500)
    usable = np.ones(frames.shape[1:], bool)
    usable[:, 20:28] = False
    frames[:, ~usable] = 900
    where = np.zeros((4, 3), bool)
    where[1:, :] = True
    cube = as_cube(frames)
    peaks = find_spots(cube, sigma_px=1.0, mask=usable, where=where)
    found = compare(peaks, centers)
    assert found.false == 0
    assert (peaks.counts[0] == 0).all()
    assert (peaks.counts[1:] >= 12).all()
    known = dict(peaks.history.steps[-1].parameters)
    again = find_bragg_disks(cube, **{**known, "where": where, "mask": usable})
    np.testing.assert_array_equal(again.points, peaks.points)
    assert peaks.calibration == cube.calibration


def test_what_has_no_spots():
    noise = np.random.default_rng(0).poisson(3, (3, 3, 40, 40)).astype("u2")
    for data in (noise, np.zeros_like(noise), np.full((3, 3, 40, 40), np.nan, "f4")):
        with pytest.raises(ParameterError, match="sigma_px="):
            find_spots(DataCube(data))
    assert len(find_spots(DataCube(noise), sigma_px=1.0)) <= 2
    for wrong in (0.0, -1.0, np.nan, 80.0):
        with pytest.raises(ParameterError, match="sigma_px"):
            find_spots(DataCube(noise), sigma_px=wrong)
