"""Polar bins against their twins, and where areas and integrals are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.kernels import compiled, reference

FAST, TWIN = compiled(), reference()
ELLIPSE = np.array([[1.06, 0.03], [0.03, 0.97]])
SHAPE = (13, 17)
ORIGINS = [(5.3, 8.9), (5.0, 8.0), (5.5, 8.5), (5.5, 8.0), (-3.2, 20.1), (6.1 + 1e-9, 7.5 - 1e-9)]


def dense(plan):
    table = np.zeros((len(plan.starts) - 1, plan.n_r * plan.n_phi))
    pixels = np.repeat(np.arange(len(table)), np.diff(plan.starts))
    np.add.at(table, (pixels, plan.bins), plan.weights.astype(float))
    return table


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("ellipse", [None, ELLIPSE, np.array([[0.0, 1.0], [1.0, 0.0]])])
@pytest.mark.parametrize("n_phi", [1, 2, 7, 36])
def test_every_pixel_is_shared_out_completely(origin, ellipse, n_phi):
    plan = FAST.polar_plan(SHAPE, origin, 60, n_phi, r_step=0.7, ellipse=ellipse)
    np.testing.assert_allclose(dense(plan).sum(1), 1.0, atol=2e-6)
    assert plan.area.sum() == pytest.approx(SHAPE[0] * SHAPE[1], rel=1e-6)
    assert plan.weights.min() > 0


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(("ellipse", "r_min"), [(None, 0.0), (ELLIPSE, 0.0), (None, 1.3)])
def test_shares_are_those_of_small_squares(origin, ellipse, r_min):
    grid = {"r_min": r_min, "r_step": 1.6, "ellipse": ellipse}
    fast, twin = (k.polar_plan(SHAPE, origin, 5, 11, **grid) for k in (FAST, TWIN))
    np.testing.assert_allclose(dense(fast), dense(twin), atol=6e-3)
    np.testing.assert_allclose(dense(fast).sum(0), dense(twin).sum(0), rtol=0.02, atol=4e-3)


def test_bins_have_the_area_of_sectors():
    plan = FAST.polar_plan((40, 44), (20.3, 21.2), 12, 36, r_min=2.5, r_step=1.25)
    edges = 2.5 + 1.25 * np.arange(13)
    expected = np.pi * np.diff(edges**2) / 36
    np.testing.assert_allclose(plan.area, expected[:, None] * np.ones(36), rtol=1e-6)
    np.testing.assert_allclose(plan.ring_area, plan.area.sum(1), rtol=1e-6)
    np.testing.assert_allclose(plan.r_px, (edges[1:] + edges[:-1]) / 2)
    assert plan.phi_rad[0] == pytest.approx(np.pi / 36)


def test_angles_go_from_rows_to_columns():
    frames = np.zeros((2, 21, 21), np.float32)
    frames[0, 16, 10] = 1  # down: along x
    frames[1, 10, 16] = 1  # to the right: along y
    plan = FAST.polar_plan((21, 21), (10, 10), 10, 8)
    sums = FAST.polar_sums(frames, plan)
    np.testing.assert_allclose(sums[0].sum(0), [0.5, 0, 0, 0, 0, 0, 0, 0.5], atol=1e-6)
    np.testing.assert_allclose(sums[1].sum(0), [0, 0.5, 0.5, 0, 0, 0, 0, 0], atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(["u2", "f4"]),
    st.sampled_from([0, 1, 5, 19]),
    st.sampled_from([1, 6]),
    st.sampled_from([0.0, 0.05, 0.9]),
)
def test_sums_moments_and_medians_are_those_of_the_twins(seed, dtype, n, n_phi, bad):
    rng = np.random.default_rng(seed)
    frames = rng.poisson(rng.uniform(1, 900), (n, *SHAPE)).astype(dtype)
    if dtype == "f4":
        frames[rng.random(frames.shape) < bad] = rng.choice([np.nan, np.inf, -np.inf])
    mask = rng.random(SHAPE) < 0.9
    grid = {"r_min": 0.8, "r_step": 1.4, "ellipse": ELLIPSE, "mask": mask}
    if seed % 2:
        plan, origins = FAST.polar_plan(SHAPE, (6.2, 7.7), 9, n_phi, **grid), None
    else:
        origins = rng.normal((6.2, 7.7), 1.5, (n, 2))
        plan = FAST.polar_plans(SHAPE, [*origins, (6.0, 8.0)], 9, n_phi, parts=2, **grid)
        origins[1:2, 1] = np.nan
    for name in ("polar_sums", "polar_means", "ring_moments", "ring_medians"):
        fast, twin = (getattr(k, name)(frames, plan, origins) for k in (FAST, TWIN))
        for a, b in zip(np.atleast_3d(fast), np.atleast_3d(twin), strict=True):
            np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-4, err_msg=name)


def test_intensity_is_conserved():
    rng = np.random.default_rng(1)
    frames = rng.poisson(3000, (5, 90, 101)).astype(np.uint16)
    plan = FAST.polar_plan((90, 101), (40.2, 52.9), 80, 36, ellipse=ELLIPSE)
    sums = FAST.polar_sums(frames, plan)
    total = frames.sum((1, 2), dtype=np.float64)
    np.testing.assert_allclose(sums.sum((1, 2), dtype=np.float64), total, rtol=1e-6)


def test_variance_of_large_counts_keeps_its_digits():
    frames = np.random.default_rng(2).poisson(60000, (3, 64, 64)).astype(np.uint16)
    plan = FAST.polar_plan((64, 64), (31.0, 33.0), 40, 1)
    found = FAST.ring_moments(frames, plan)
    twin = TWIN.ring_moments(frames, plan)
    np.testing.assert_allclose(found.variance[:, 3:], twin.variance[:, 3:], rtol=1e-4)


def test_an_origin_of_its_own_is_that_of_a_pattern_alone():
    rng = np.random.default_rng(3)
    origins = np.array([(3.25, 4.5), (7.75, 11.0), (7.8, 10.9), (-2.0, 5.25), (20.0, 3.0)])
    frames = rng.poisson(50, (5, *SHAPE)).astype(np.uint16)
    mask = rng.random(SHAPE) < 0.8
    grid = {"r_step": 1.3, "ellipse": ELLIPSE, "mask": mask}
    plans = FAST.polar_plans(SHAPE, origins, 9, 12, parts=4, **grid)
    means = FAST.polar_means(frames, plans, origins)
    rings = FAST.ring_moments(frames, plans, origins)
    for n, origin in enumerate(np.round(origins * 4) / 4):
        alone = FAST.polar_plan(SHAPE, origin, 9, 12, **grid)
        expected = FAST.polar_means(frames[n : n + 1], alone)[0]
        np.testing.assert_allclose(means[n], expected, rtol=2e-5)
        np.testing.assert_allclose(rings.weight[n], alone.ring_area, atol=1e-5)
        np.testing.assert_allclose(plans.at(origins[n]).area, alone.area)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_r": 0}, {"n_phi": 0}, {"r_min": -1.0}, {"r_step": 0.0}, {"r_step": np.nan},
        {"origin": (np.nan, 3.0)}, {"ellipse": [[1.0, 2.0], [2.0, 4.0]]},
        {"ellipse": [[np.inf, 0.0], [0.0, 1.0]]},
    ],
)  # fmt: skip
def test_impossible_bins_are_refused(wrong):
    given = {"origin": (3.0, 4.0), "n_r": 4, "n_phi": 5} | wrong
    with pytest.raises(ParameterError):
        FAST.polar_plan((8, 9), **given)


def test_shapes_that_do_not_fit_are_refused():
    plan = FAST.polar_plan((8, 9), (3, 4), 4, 5)
    for wrong in (np.zeros((2, 9, 8)), np.zeros((8, 9))):
        with pytest.raises(ShapeError):
            FAST.polar_sums(wrong, plan)
    with pytest.raises(ShapeError):
        FAST.polar_plan((8, 9), (3, 4, 5), 4, 5)
    with pytest.raises(ShapeError):
        FAST.polar_plan((8, 9), (3, 4), 4, 5, mask=np.ones((9, 8), bool))
    with pytest.raises(ShapeError):
        FAST.polar_sums(np.zeros((2, 8, 9)), FAST.polar_plans((8, 9), (1, 2), 4, 5), [(3, 2)])


def test_origins_that_do_not_fit_are_refused():
    with pytest.raises(ParameterError, match="parts"):
        FAST.polar_plans((8, 9), (3, 4), 4, 5, parts=0)
    with pytest.raises(ParameterError, match="none"):
        FAST.polar_plans((8, 9), (np.nan, 4), 4, 5)
    with pytest.raises(ParameterError, match="outliers"):
        FAST.polar_plans((8, 9), [(3, 4), (3000, 4)], 4, 5)
    with pytest.raises(ParameterError, match="other origins"):
        FAST.polar_sums(np.zeros((1, 8, 9)), FAST.polar_plans((8, 9), (3, 4), 4, 5), [(5, 4)])
