"""Radial profiles of patterns whose profile is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import py4DSTEM
from py4DSTEM import (
    Annulus,
    DataCube,
    DiffractionSlice,
    RunOptions,
    mean_radial_profile,
    radial_profiles,
)
from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.errors import CalibrationMissing, ParameterError


def radius(shape, center, metric=None):
    d = np.stack([i - c for i, c in zip(np.indices(shape), center, strict=True)], -1)
    return np.hypot(*np.moveaxis(d if metric is None else d @ np.asarray(metric).T, -1, 0))


def oracle(pattern, r, step, bins):
    """Pixel by pixel, as the definition says."""
    sums, norms = np.zeros(bins + 1), np.zeros(bins + 1)
    for v, t in zip(pattern.ravel(), r.ravel() / step, strict=True):
        k = math.floor(t)
        if np.isfinite(v) and k < bins:
            for b, f in ((k, 1 - (t - k)), (k + 1, t - k)):
                sums[b] += f * v
                norms[b] += f
    return sums[:bins], norms[:bins]


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.floats(-3, 20), st.floats(-3, 20)),
    st.sampled_from([0.5, 1.0, 1.7]),
    st.booleans(),
)
def test_profiles_are_those_of_the_definition_and_conserve_intensity(center, step, vary):
    rng = np.random.default_rng(4)
    data = rng.random((2, 3, 13, 17))
    data[0, 1, 4, 4] = np.nan
    cube = DataCube(data)
    if vary:
        cube = cube.with_calibration(origin_px=np.broadcast_to(center, (2, 3, 2)))
        profiles = radial_profiles(cube, step_px=step)
    else:
        profiles = radial_profiles(cube, step_px=step, center=center)
    for p in np.ndindex(2, 3):
        expected = oracle(data[p], radius((13, 17), center), step, profiles.shape[-1])
        np.testing.assert_allclose(profiles.sums[p], expected[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(profiles.counts[p], expected[1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(profiles.sums.sum(-1), np.nansum(data, (2, 3)), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "i4", "f4", "f8"])
def test_a_constant_pattern_has_a_flat_profile(dtype):
    cube = DataCube(np.ones((1, 2, 20, 23), dtype))
    profiles = radial_profiles(cube, center=(9.3, 11.1))
    np.testing.assert_allclose(profiles.data[profiles.counts > 0], 1, rtol=1e-14)


def test_a_gaussian():
    r = radius((64, 64), (31.4, 32.2))
    profile = mean_radial_profile(DiffractionSlice(np.exp(-((r / 9) ** 2))), center=(31.4, 32.2))
    inside = profile.q > 2
    expected = np.exp(-((profile.q / 9) ** 2))
    np.testing.assert_allclose(profile.data[inside], expected[inside], atol=6e-3)


def test_an_elliptical_ring_on_oblong_pixels_is_sharp():
    ellipse = Ellipse(1.15, 1.0, 0.5)
    steps = np.array([0.02, 0.03])
    metric = np.diag(steps / math.sqrt(steps.prod())) @ ellipse.correction()
    r = radius((101, 81), (50, 40), metric)
    ring = np.exp(-(((r - 25) / 1.5) ** 2))
    cube = DataCube(ring[None, None]).with_calibration(
        origin_px=(50, 40), ellipse=ellipse, Q_pixel_size=steps, Q_pixel_units="A^-1"
    )
    profile = radial_profiles(cube).mean
    assert profile.q_px[np.nanargmax(profile.data)] == 25
    assert profile.units == "A^-1"
    assert profile.q[25] == pytest.approx(25 * math.sqrt(steps.prod()))
    assert np.nanmax(profile.data) > 0.9
    to = radial_profiles(cube, r_max=0.5, units="A^-1")
    assert to.q[-1] <= 0.5 < to.q[-1] + to.axis.step
    np.testing.assert_allclose(to.data[0, 0], profile.data[: to.shape[-1]])


def test_each_position_around_its_own_origin():
    rng = np.random.default_rng(5)
    origins = 20 + rng.uniform(-3, 3, (3, 4, 2))
    data = np.array(
        [[np.exp(-(((radius((41, 41), o) - 9) / 2) ** 2)) for o in row] for row in origins]
    )
    cube = DataCube(data).with_calibration(origin_px=origins)
    followed, fixed = radial_profiles(cube), radial_profiles(cube, follow_origin=False)
    assert np.ptp(followed.data[..., 9]) < 0.02 < np.ptp(fixed.data[..., 9])
    mean = mean_radial_profile(cube)
    np.testing.assert_allclose(mean.data, followed.mean.data, rtol=1e-12)
    np.testing.assert_allclose(mean.counts, followed.mean.counts, rtol=1e-12)


def test_a_position_without_an_origin_is_nan_and_spoils_nothing():
    origins = np.full((2, 2, 2), 6.0)
    origins[0, 1] = np.nan
    cube = DataCube(np.ones((2, 2, 12, 13))).with_calibration(origin_px=origins)
    profiles = radial_profiles(cube)
    assert np.isnan(profiles.data[0, 1]).all()
    np.testing.assert_allclose(profiles.mean.data, 1)
    np.testing.assert_allclose(mean_radial_profile(cube).data, 1)


def test_a_mask_leaves_pixels_out():
    data = np.ones((1, 1, 21, 21))
    data[..., 10:, :] = 7
    mask = np.ones((21, 21), bool)
    mask[10:] = False
    masked = radial_profiles(DataCube(data), center=(10, 10), mask=mask)
    assert np.nanmax(masked.data) == pytest.approx(1)
    ring = radial_profiles(DataCube(data), center=(10, 10), mask=Annulus(5, 8, center=(10, 10)))
    assert np.isnan(ring.data[0, 0, 0]) and np.isfinite(ring.data[0, 0, 6])


@pytest.mark.parametrize("vary", [False, True])
def test_where_and_workers(vary):
    rng = np.random.default_rng(6)
    cube = DataCube(rng.poisson(3, (6, 5, 12, 11)).astype(np.uint8))
    origin = rng.normal(5, 0.3, (6, 5, 2)) if vary else (5, 5)
    cube = cube.with_calibration(origin_px=origin)
    where = rng.random((6, 5)) < 0.5
    one, two = (
        radial_profiles(cube, where=where, options=RunOptions(n, memory="5 KB")) for n in (1, 3)
    )
    assert one.data.tobytes() == two.data.tobytes()
    assert np.isnan(one.data[~where]).all() and np.isfinite(one.sums[where]).all()
    weights = rng.random((6, 5))
    mean = mean_radial_profile(cube, where=weights)
    everything = radial_profiles(cube)
    expected = np.einsum("xy,xyk->k", weights, everything.sums)
    np.testing.assert_allclose(mean.data * mean.counts, expected, rtol=1e-12)


def test_what_cannot_be_done_is_said():
    cube = DataCube(np.ones((2, 2, 8, 8)))
    with pytest.raises(CalibrationMissing, match="find_beam"):
        radial_profiles(cube)
    with pytest.raises(CalibrationMissing, match="calibrate_origin"):
        radial_profiles(cube.with_calibration(origin_px=(3, 3)), follow_origin=True)
    with pytest.raises(CalibrationMissing, match="pixel size"):
        radial_profiles(cube, center=(3, 3), r_max=10, units="mrad")
    for bad in ({"step_px": 0}, {"step_px": -1}, {"r_max": 0}, {"step_px": 1e-9}):
        with pytest.raises(ParameterError):
            radial_profiles(cube, center=(3, 3), **bad)


def test_the_result_describes_itself():
    cube = DataCube(np.ones((2, 2, 8, 8))).with_calibration(origin_px=(3, 3))
    profiles = cube.radial_profiles()
    assert "2, 2" in repr(profiles) and profiles[0, 1].shape == profiles.q.shape
    assert np.asarray(profiles).shape == profiles.shape
    assert profiles.history.steps[-1].kind == "radial-profiles"


def test_a_file_holds_all_of_it(tmp_path):
    cube = DataCube(np.ones((2, 3, 8, 9))).with_calibration(
        origin_px=(3, 3), Q_pixel_size=0.1, Q_pixel_units="A^-1"
    )
    profiles = cube.radial_profiles(step_px=1.5)
    py4DSTEM.save(tmp_path / "p.h5", profiles)
    again = py4DSTEM.read(tmp_path / "p.h5")
    np.testing.assert_array_equal(again.data, profiles.data)
    assert again.axis == profiles.axis and again.calibration == profiles.calibration
    assert again.history.steps == profiles.history.steps
