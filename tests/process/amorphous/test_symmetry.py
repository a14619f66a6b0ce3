"""Angular correlation, symmetry and speckles of patterns whose statistics are known."""

from __future__ import annotations

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import (
    CalibrationMissing,
    DataCube,
    Ellipse,
    ParameterError,
    angular_correlation,
    speckle_statistics,
    symmetry,
)

CENTER = (23.3, 25.1)


def around(shape=(48, 52), center=CENTER):
    i, j = np.indices(shape)
    return np.hypot(i - center[0], j - center[1]), np.arctan2(j - center[1], i - center[0])


def poisson(mean, scan=(8, 9), seed=0):
    rng = np.random.default_rng(seed)
    return DataCube(rng.poisson(np.broadcast_to(mean, (*scan, *mean.shape[-2:]))).astype(np.uint16))


def test_counting_alone_leaves_no_power_and_states_its_noise():
    r, _ = around()
    cube = poisson(3 * np.exp(-r / 20), (30, 31))
    found = symmetry(cube, (8, 22), center=CENTER)
    error = found.power.std(axis=(0, 1)) / np.sqrt(30 * 31)
    assert np.abs(found.mean / error).max() < 4
    # The sigma is that for the power that is there: without any it is the noise alone.
    noise = found.sigma[np.abs(found.power) < 0.3 * found.sigma].mean()
    assert found.power.std() == pytest.approx(noise, rel=0.2)
    curve = angular_correlation(cube, (8, 22), center=CENTER)
    pulls = curve.power / curve.power_sigma
    assert np.abs(pulls.mean()) < 0.5 and pulls.std() == pytest.approx(1, abs=0.25)
    assert np.abs(curve.correlation[:, 0]).max() < 0.03  # the noise of one bin is 0.5 to 1


@pytest.mark.parametrize("order", [2, 3, 4, 5, 6, 10])
def test_a_known_symmetry(order):
    _, phi = around()
    cube = poisson(20 * (1 + 0.4 * np.cos(order * phi - 1.1)), seed=order)
    found = symmetry(cube, (8, 22), center=CENTER)
    powers = dict(zip(found.orders, found.mean, strict=True))
    assert powers.pop(order) == pytest.approx(0.04, rel=0.06)  # (0.4 / 2)², less by the bins
    # The inner bins are not wide beside a pixel: a little goes elsewhere.
    assert max(abs(p) for p in powers.values()) < 0.0012
    assert found.significance(order).data.min() > 8
    curve = angular_correlation(cube, (8, 22), center=CENTER)
    expected = 0.08 * np.cos(order * curve.lag_rad)
    np.testing.assert_allclose(curve.correlation[5], expected, atol=0.02)


def test_maps_know_where():
    _, phi = around()
    mean = np.full((5, 7, 48, 52), 20.0)
    mean[1, 2:5] *= 1 + 0.5 * np.cos(6 * phi)
    found = symmetry(poisson(mean, (5, 7)), (8, 22), center=CENTER, orders=(4, 6))
    six = found.map(6).data
    inside = np.zeros((5, 7), bool)
    inside[1, 2:5] = True
    assert six[inside].min() > 10 * np.abs(six[~inside]).max()
    assert np.abs(found.map(4).data).max() < 0.01
    with pytest.raises(ParameterError, match="3-fold"):
        found.map(3)


def test_ellipse_and_wandering_origins():
    rng = np.random.default_rng(1)
    ellipse = Ellipse(1.15, 1.0, 0.5)
    t = ellipse.correction()
    origins = np.array(CENTER) + rng.uniform(-2, 2, (4, 5, 2))
    i, j = np.indices((48, 52))
    data = np.empty((4, 5, 48, 52))
    for p in np.ndindex(4, 5):
        x, y = i - origins[p][0], j - origins[p][1]
        u, v = t[0, 0] * x + t[0, 1] * y, t[1, 0] * x + t[1, 1] * y
        ring = np.exp(-(((np.hypot(u, v) - 14) / 2) ** 2))
        data[p] = 5 + 80 * ring * (1 + 0.4 * np.cos(6 * np.arctan2(v, u)))
    cube = poisson(data, (4, 5))
    right = symmetry(
        cube.with_calibration(origin_px=origins, ellipse=ellipse), (12, 16), orders=(2, 6)
    )
    wrong = symmetry(cube, (12, 16), center=CENTER, orders=(2, 6))
    assert right.mean[1] > 20 * right.mean[0] and wrong.mean[0] > 5 * right.mean[0]


def test_a_beam_stop_is_left_out():
    _, phi = around()
    stop = np.abs(phi) > 0.25
    cube = poisson(50 * (1 + 0.5 * np.cos(4 * phi)) * stop)
    found = symmetry(cube, (8, 22), center=CENTER, mask=stop, orders=(2, 3, 4))
    assert found.mean[2] == pytest.approx(0.0625, rel=0.15)
    assert found.mean[2] > 5 * np.abs(found.mean[:2]).max()
    most = np.abs(phi) < 0.1
    with pytest.raises(ParameterError, match="all around"):
        angular_correlation(cube, (8, 22), center=CENTER, mask=most)
    assert np.isnan(symmetry(cube, (8, 22), center=CENTER, mask=most).power).all()


def speckles(modes, level=4.0, scan=(12, 13), dtype=np.uint16):
    rng = np.random.default_rng(3)
    r, _ = around()
    light = level * np.exp(-r / 30) * rng.gamma(modes, 1 / modes, (*scan, 48, 52))
    return DataCube(rng.poisson(light).astype(dtype) if dtype != np.float64 else light)


@pytest.mark.parametrize("modes", [1.0, 2.5, 12.0])
def test_speckles_of_known_contrast_follow_their_law(modes):
    found = speckle_statistics(speckles(modes), 6, 20, center=CENTER)
    assert found.modes == pytest.approx(modes, rel=0.06)
    assert found.contrast**2 == pytest.approx(
        1 / modes, abs=8 * found.contrast * found.contrast_sigma
    )
    assert found.distance[0] < 0.004
    if modes > 1:
        assert found.best == "negative-binomial" and found.distance[1:].min() > 0.02
    assert found.observed.sum() == pytest.approx(1) and found.expected.sum() == pytest.approx(3)


def test_no_speckles():
    found = speckle_statistics(poisson(np.full((48, 52), 4.0)), 6, 20, center=CENTER)
    assert found.contrast < 0.05 and found.distance[2] < 0.005 < 0.05 < found.distance[1]


def test_speckles_of_floats():
    found = speckle_statistics(speckles(2.0, dtype=np.float64), 6, 20, center=CENTER)
    assert found.modes == pytest.approx(2, rel=0.05) and not found.counts
    assert found.best == "negative-binomial" and found.distance[0] < 0.02


def test_bad_input(tmp_path):
    cube = poisson(np.full((20, 21), 3.0), (2, 3))
    with pytest.raises(CalibrationMissing, match="find_beam"):
        symmetry(cube)
    with pytest.raises(ParameterError, match="rising"):
        symmetry(cube, (8, 4), center=(9, 9))
    with pytest.raises(ParameterError, match="usable pixel"):
        symmetry(cube, (60, 70), center=(9, 9))
    with pytest.raises(ParameterError, match="usable pixel"):
        symmetry(cube, (2, 6), center=(9, 9), mask=np.zeros((20, 21)))
    with pytest.raises(ParameterError, match="orders"):
        symmetry(cube, (2, 6), center=(9, 9), orders=(90,))
    with pytest.raises(ParameterError, match="edge"):
        symmetry(cube, center=(-9, 9))
    with pytest.raises(ParameterError, match="exclude"):
        symmetry(cube, (2, 6), center=(9, 9), follow_origin=True)
    with pytest.raises(ParameterError, match="no ring"):
        speckle_statistics(cube, 6.2, 6.4, center=(9, 9))
    with pytest.raises(ParameterError, match="usable pixel"):
        speckle_statistics(cube, 60, 70, center=(9, 9))
    dark = DataCube(np.zeros((2, 3, 20, 21), np.uint8))
    assert np.isnan(symmetry(dark, (2, 6), center=(9, 9)).power).all()
    with pytest.raises(ParameterError, match="intensity"):
        speckle_statistics(dark, 2, 6, center=(9, 9))
    data = np.array(cube.data, np.float32)
    data[0, 1, 9, 13] = np.nan
    holes = symmetry(DataCube(data), (2, 6), center=(9, 9), orders=(2, 4))
    whole = symmetry(
        DataCube(np.array(cube.data, np.float32)), (2, 6), center=(9, 9), orders=(2, 4)
    )
    assert np.isfinite(holes.power).all()
    np.testing.assert_array_equal(holes.power[1], whole.power[1])


def test_files_hold_results(tmp_path):
    cube = poisson(np.full((20, 21), 3.0), (2, 3))
    for k, one in enumerate((
        symmetry(cube, (2, 6), center=(9, 9)),
        angular_correlation(cube, (2, 6), center=(9, 9)),
        speckle_statistics(cube, 2, 6, center=(9, 9)),
    )):  # fmt: skip
        py4DSTEM.save(tmp_path / f"{k}.h5", one)
        again = py4DSTEM.read(tmp_path / f"{k}.h5")
        assert type(again) is type(one) and repr(again) == repr(one)
        assert again.history.steps == one.history.steps
