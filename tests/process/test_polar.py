"""Polar transform, statistics of rings and ring fits of patterns whose answer is known."""

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import DataCube, DiffractionSlice, RunOptions
from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.core.detector import Annulus
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError

ELLIPSE = Ellipse(1.08, 1.0, 0.4)
ONE = RunOptions(workers=1)


def places(shape, center, ellipse=None):
    """Corrected offsets (u, v) from the origin."""
    x, y = (i - c for i, c in zip(np.indices(shape), center, strict=True))
    if ellipse is None:
        return x, y
    t = ellipse.correction()
    return t[0, 0] * x + t[0, 1] * y, t[1, 0] * x + t[1, 1] * y


def fine(function, shape, center, ellipse=None, parts=5):
    """A function of (r, φ) integrated over pixels, as a detector does."""
    total = np.zeros(shape)
    for a in (np.arange(parts) + 0.5) / parts - 0.5:
        for b in (np.arange(parts) + 0.5) / parts - 0.5:
            u, v = places(shape, (center[0] - a, center[1] - b), ellipse)
            total += function(np.hypot(u, v), np.arctan2(v, u))
    return total / parts**2


# ---- transform -----------------------------------------------------------------------------------
@pytest.mark.parametrize("ellipse", [None, ELLIPSE])
def test_intensity_is_conserved(ellipse):
    rng = np.random.default_rng(0)
    cube = DataCube(rng.poisson(80, (3, 4, 40, 47)).astype(np.uint16))
    cube = cube.with_calibration(origin_px=(18.3, 25.1), ellipse=ellipse)
    polar = cube.polar_transform(n_phi=36)
    for p in np.ndindex(3, 4):
        one = polar.pattern(*p)
        total = np.nansum(one.data * one.area)
        assert total == pytest.approx(cube.data[p].sum(), rel=1e-6)


def test_a_constant_stays_constant_where_there_are_pixels():
    cube = DataCube(np.full((1, 2, 20, 26), 7, np.uint8))
    polar = cube.polar_transform(center=(4, 21), n_phi=40)
    data = np.asarray(polar.data[...])[0]
    known = polar.area > 0
    np.testing.assert_allclose(data[:, known], 7, rtol=1e-5)
    assert np.isnan(data[:, ~known]).all() and (~known).any()


@pytest.mark.parametrize("fold", [1, 2, 3, 6])
def test_a_wave_around_the_ring_keeps_amplitude_and_direction(fold):
    turn, center = 0.3, (30.7, 33.2)
    pattern = fine(lambda r, f: 10 + 4 * np.cos(fold * (f - turn)), (64, 66), center)
    polar = DiffractionSlice(pattern).with_calibration(origin_px=center)
    polar = py4DSTEM.polar_transform(polar, n_phi=60, r_min=10, r_max=28)
    wave = (polar.data * np.exp(1j * fold * polar.phi_rad)).mean(axis=1) * 2
    # The mean over a sector; and over a pixel twice, which makes the image and is shared out.
    damping = np.sinc(fold / 60) * np.exp(-((fold / polar.q) ** 2) / 12)
    np.testing.assert_allclose(np.abs(wave), 4 * damping, rtol=0.004)
    np.testing.assert_allclose(np.angle(wave) / fold, turn, atol=2e-3)


def test_an_elliptic_ring_becomes_straight():
    center = (31.0, 29.6)
    pattern = fine(lambda r, f: np.exp(-((r - 20) ** 2) / 8), (64, 61), center, ELLIPSE)
    cube = DataCube(pattern[None, None]).with_calibration(origin_px=center, ellipse=ELLIPSE)
    straight = cube.polar_transform(n_phi=24, r_min=14, r_max=26).pattern(0, 0)
    radius = (straight.data * straight.q[:, None]).sum(0) / straight.data.sum(0)
    assert np.ptp(radius) < 0.05
    bent = cube.with_calibration(ellipse=Ellipse(1, 1, 0)).polar_transform(n_phi=24, r_max=26)
    bent = bent.pattern(0, 0)
    radius = (bent.data * bent.q[:, None]).sum(0) / bent.data.sum(0)
    assert np.ptp(radius) > 1


def test_every_position_has_its_own_origin():
    rng = np.random.default_rng(2)
    origins = np.array((19.0, 22.0)) + rng.uniform(-3, 3, (3, 5, 2))
    data = np.stack([
        fine(lambda r, f: 500 * np.exp(-((r - 11) ** 2) / 6), (40, 45), o)
        for o in origins.reshape(-1, 2)
    ]).reshape(3, 5, 40, 45)  # fmt: skip
    cube = DataCube(data).with_calibration(origin_px=origins)
    polar = cube.polar_transform(n_phi=16, r_min=5, r_max=16)
    all_ = np.asarray(polar.data[...])
    assert np.abs(all_ - all_.mean(axis=(0, 1))).max() < 0.06 * all_.max()
    finer = np.asarray(cube.polar_transform(n_phi=16, r_min=5, r_max=16, origin_parts=64).data[...])
    assert np.abs(finer - finer.mean(axis=(0, 1))).max() < 0.02 * all_.max()
    fixed = np.asarray(cube.polar_transform(n_phi=16, r_max=16, follow_origin=False).data[...])
    assert np.abs(fixed - fixed.mean(axis=(0, 1))).max() > 0.3 * all_.max()


def test_a_position_without_an_origin_is_unknown():
    origins = np.full((2, 3, 2), 8.0)
    origins[1, 2] = np.nan
    cube = DataCube(np.ones((2, 3, 16, 17))).with_calibration(origin_px=origins)
    known = np.isfinite(np.asarray(cube.polar_transform(n_phi=8, r_max=6).data[...])).all((2, 3))
    assert known.tolist() == [[True, True, True], [True, True, False]]
    rings = cube.azimuthal_statistics(r_max=6, median=True)
    for values in (rings.mean, rings.variance, rings.median):
        assert (np.isfinite(values).all(-1) == known).all()


def test_masked_and_invalid_pixels_count_nowhere():
    rng = np.random.default_rng(4)
    data = np.full((2, 2, 30, 33), 3.0)
    data[:, :, 10:13, :] = np.nan
    data[0, 1, 20, 20] = np.inf
    dead = np.zeros((30, 33), bool)
    dead[:, 25] = True
    data[..., 25] = rng.normal(0, 1e6, (2, 2, 30))
    cube = DataCube(data)
    polar = cube.polar_transform(center=(14, 15), mask=~dead, n_phi=30)
    values = np.asarray(polar.data[...])
    np.testing.assert_allclose(values[np.isfinite(values)], 3, rtol=1e-5)
    rings = cube.azimuthal_statistics(center=(14, 15), mask=~dead)
    full = np.isfinite(rings.mean)
    np.testing.assert_allclose(rings.mean[full], 3, rtol=1e-6)
    np.testing.assert_allclose(rings.variance[full], 0, atol=1e-9)
    assert rings.area[0, 1].sum() == pytest.approx(np.isfinite(data[0, 1])[~dead].sum(), rel=1e-6)


def test_axes_are_calibrated():
    cube = DataCube(np.ones((1, 1, 32, 30))).with_calibration(
        origin_px=(16, 14), Q_pixel_size=0.05, Q_pixel_units="A^-1"
    )
    polar = cube.polar_transform(n_phi=10, r_min=0.1, r_max=0.6, units="A^-1", step_px=2.0)
    np.testing.assert_allclose(polar.q, [0.15, 0.25, 0.35, 0.45, 0.55])
    assert polar.units == "A^-1" and polar.phi_rad[0] == pytest.approx(np.pi / 10)
    rings = cube.azimuthal_statistics(r_min=0.1, r_max=0.6, units="A^-1", step_px=2.0)
    np.testing.assert_allclose(rings.q, polar.q)
    np.testing.assert_allclose(rings.r_px, polar.q / 0.05)


def test_oblong_pixels_make_round_rings():
    x, y = np.indices((60, 40)) - np.array([30, 20]).reshape(2, 1, 1)
    ring = np.exp(-((np.hypot(0.5 * x, y) - 12) ** 2) / 4)
    cube = DataCube(ring[None, None]).with_calibration(
        origin_px=(30, 20), Q_pixel_size=(0.02, 0.04), Q_pixel_units="A^-1"
    )
    polar = cube.polar_transform(n_phi=12, r_min=0.3, r_max=0.64, units="A^-1").pattern(0, 0)
    radius = (polar.data * polar.q[:, None]).sum(0) / polar.data.sum(0)
    np.testing.assert_allclose(radius, 12 * 0.04, atol=0.004)


def test_a_polar_scan_is_lazy_and_the_same_in_blocks_and_from_a_file(tmp_path):
    rng = np.random.default_rng(5)
    cube = DataCube(rng.poisson(9, (5, 6, 20, 23)).astype(np.uint16))
    cube = cube.with_calibration(origin_px=rng.normal((9, 11), 0.7, (5, 6, 2)))
    polar = cube.polar_transform(n_phi=12, r_max=7)
    whole = np.asarray(polar.data[...])
    np.testing.assert_array_equal(whole[2, 3], polar.pattern(2, 3).data)
    np.testing.assert_array_equal(whole[1:3, 2:], polar.data[1:3, 2:])
    py4DSTEM.save(tmp_path / "polar.h5", polar, options=RunOptions(workers=2, memory=200_000))
    again = py4DSTEM.read(tmp_path / "polar.h5")
    np.testing.assert_array_equal(whole, np.asarray(again.data[...]))
    assert again.axes == polar.axes and again.history.steps[-1].kind == "polar-transform"
    mean = polar.mean(options=ONE)
    np.testing.assert_allclose(mean.data, whole.mean((0, 1)), rtol=1e-5)


@pytest.mark.parametrize("function", ["polar_transform", "azimuthal_statistics"])
def test_bad_bins_are_refused(function):
    cube = DataCube(np.ones((2, 2, 16, 17)))
    with pytest.raises(CalibrationMissing):
        getattr(cube, function)()
    make = getattr(cube.with_calibration(origin_px=(8, 8)), function)
    with pytest.raises(ParameterError, match="no ring"):
        make(r_min=5, r_max=5.5)
    with pytest.raises(ParameterError, match="no ring"):
        make(r_min=400)
    with pytest.raises(ParameterError, match="usable"):
        make(r_min=40, r_max=50)
    with pytest.raises(ParameterError, match="usable"):
        make(r_max=4, mask=Annulus(6, 20))
    with pytest.raises(ParameterError, match="usable"):
        make(mask=np.zeros((16, 17)))
    with pytest.raises(ShapeError):
        make(mask=np.ones((17, 16)))
    with pytest.raises(ParameterError):
        make(step_px=0)
    with pytest.raises(ParameterError):
        make(step_px=1e-9)
    with pytest.raises(ParameterError):
        make(center=(np.nan, 3.0))
    with pytest.raises(ParameterError, match="exclude"):
        make(center=(3, 4), follow_origin=True)
    with pytest.raises(CalibrationMissing):
        make(follow_origin=True)
    with pytest.raises(CalibrationMissing):
        make(r_max=1, units="A^-1")


# ---- statistics ----------------------------------------------------------------------------------
def test_counts_have_the_variance_of_counts():
    cube = DataCube(np.random.default_rng(6).poisson(400, (12, 12, 48, 44)).astype(np.uint16))
    rings = cube.azimuthal_statistics(center=(24, 21), r_min=4, r_max=20, median=True)
    assert np.mean(rings.variance) == pytest.approx(400, rel=0.02)
    np.testing.assert_allclose(rings.mean.mean((0, 1)), 400, rtol=2e-3)
    np.testing.assert_allclose(rings.median.mean((0, 1)), 400, rtol=4e-3)
    scatter = rings.mean.std(axis=(0, 1))
    np.testing.assert_array_less(scatter, 1.2 * rings.sigma_mean.mean((0, 1)))


def test_the_median_does_not_see_spots():
    data = np.full((1, 1, 40, 42), 10.0)
    data[0, 0, 8:11, 20:23] = 1000
    rings = DataCube(data).azimuthal_statistics(center=(20, 21), r_max=18, median=True)
    np.testing.assert_allclose(rings.median, 10)
    assert rings.mean.max() > 50 and rings.normalized_variance.max() > 5


def test_statistics_of_one_pattern_are_those_of_a_scan_of_one():
    pattern = np.random.default_rng(7).random((20, 22))
    one = py4DSTEM.azimuthal_statistics(DiffractionSlice(pattern), center=(9, 11), median=True)
    scan = DataCube(pattern[None, None]).azimuthal_statistics(center=(9, 11), median=True)
    for name in ("mean", "variance", "median", "area"):
        np.testing.assert_array_equal(getattr(one, name), getattr(scan, name)[0, 0])


# ---- rings ---------------------------------------------------------------------------------------
def ring_scan(dose, *, seed=0, radius=18.0, width=2.0, scan=(14, 15)):
    r = np.hypot(*(np.indices((60, 64)) - np.array([29.4, 31.3]).reshape(2, 1, 1)))
    radii = np.broadcast_to(radius, scan)
    data = np.empty((*scan, 60, 64), np.uint16)
    rng = np.random.default_rng(seed)
    for p in np.ndindex(scan):
        profile = np.exp(-(((r - radii[p]) / width) ** 2) / 2) + 0.05 + (40 - r) * 1e-3
        data[p] = rng.poisson(dose * profile)
    return DataCube(data).with_calibration(
        origin_px=(29.4, 31.3), Q_pixel_size=0.02, Q_pixel_units="A^-1"
    )


@pytest.mark.parametrize("dose", [4, 100, 3000])
def test_rings_are_found_within_their_uncertainty(dose):
    fits = ring_scan(dose).fit_rings(10, 26)
    assert fits.fitted.all()
    count = fits.radius_px.size
    truths = {
        "radius_px": (18.0, 2e-4),
        "height": (dose, 0.025),
        "background": (0.072 * dose, 0.005),
    }
    for name, (truth, tolerance) in truths.items():  # a ring is blurred by its own bins
        found, sigma = getattr(fits, name), getattr(fits, f"sigma_{name}")
        assert found.std() == pytest.approx(sigma.mean(), rel=0.2)
        assert abs(found.mean() - truth) < 4 * sigma.mean() / np.sqrt(count) + tolerance * truth
    assert fits.width_px.mean() == pytest.approx(2.0, rel=0.03)
    assert fits.width_px.std() == pytest.approx(fits.sigma_width_px.mean(), rel=0.2)
    assert fits.chi2.mean() == pytest.approx(1.0, abs=0.35)
    assert abs(fits.radius_px.mean() - 18) < 4 * fits.sigma_radius_px.mean() / np.sqrt(count) + 2e-3


def test_strain_of_a_ring_is_that_of_its_radius():
    strain = np.linspace(-0.02, 0.03, 8)
    cube = ring_scan(3000, radius=18 / (1 + strain), scan=(6, 8))
    fits = cube.fit_rings(10, 26)
    reference = np.zeros((6, 8), bool)
    reference[:, 0] = True
    found = fits.strain(reference).data
    np.testing.assert_allclose(found.mean(0), (1 + strain) / (1 + strain[0]) - 1, atol=3e-4)
    np.testing.assert_allclose(fits.strain(18.0).data.mean(0), strain, atol=4e-4)
    assert fits.units == "A^-1"
    np.testing.assert_allclose(fits.radius.data, fits.radius_px * 0.02)


def test_a_lorentzian_ring():
    r = np.hypot(*(np.indices((80, 84)) - np.array([39.4, 41.3]).reshape(2, 1, 1)))
    data = 900 / (1 + ((r - 20) / 3) ** 2) + 50
    cube = DataCube(np.random.default_rng(1).poisson(data, (4, 5, 80, 84)))
    fits = cube.fit_rings(6, 36, shape="lorentzian", center=(39.4, 41.3))
    assert fits.radius_px.mean() == pytest.approx(20, abs=0.02)
    assert fits.width_px.mean() == pytest.approx(3, rel=0.03)


def test_no_ring_is_no_ring():
    empty = DataCube(np.zeros((2, 3, 40, 44), np.uint16)).fit_rings(5, 18, center=(20, 22))
    flat = np.random.default_rng(2).poisson(30, (9, 9, 40, 44))
    flat = DataCube(flat).fit_rings(5, 18, center=(20, 22))
    assert not empty.fitted.any() and flat.fitted.mean() < 0.1
    for values in (empty.radius_px, empty.sigma_radius_px, empty.chi2):
        assert np.isnan(values).all()
    with pytest.raises(ParameterError, match="no position"):
        empty.strain()


def test_bad_windows_are_refused():
    cube = DataCube(np.ones((2, 2, 40, 44)))
    for low, high in ((18, 5), (5, 8), (200, 220)):
        with pytest.raises(ParameterError):
            cube.fit_rings(low, high, center=(20, 22))
    fits = ring_scan(100, scan=(2, 3)).fit_rings(10, 26)
    with pytest.raises(ShapeError):
        fits.strain(np.ones((3, 2), bool))
    for wrong in (0.0, np.nan):
        with pytest.raises(ParameterError):
            fits.strain(wrong)


def test_a_gap_in_the_ring_and_hot_pixels_do_not_move_it():
    cube = ring_scan(1000, scan=(4, 5))
    data = np.asarray(cube.data).astype(np.float64)
    data[:, :, 20:23] = np.nan
    fits = cube.replace(data=data).fit_rings(10, 26)
    assert np.abs(fits.radius_px - 18).max() < 5 * fits.sigma_radius_px.max()
