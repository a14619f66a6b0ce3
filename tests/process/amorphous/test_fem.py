"""Fluctuation microscopy on patterns whose statistics are known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import (
    CalibrationMissing,
    DataCube,
    Ellipse,
    FEMResult,
    ParameterError,
    RunOptions,
    fem,
    fem_significance,
)
from py4DSTEM.process.amorphous.fem_result import METHODS

CENTER = (23.3, 25.1)
SHARED = Path(os.environ.get("PY4DSTEM_SHARED_DATA", Path(__file__).parents[4] / "shared/data"))
IMAGE = METHODS.index("variance-image")


def radius(shape=(48, 52), center=CENTER):
    i, j = np.indices(shape)
    return np.hypot(i - center[0], j - center[1])


def poisson(level, scan=(14, 15), seed=0):
    rng = np.random.default_rng(seed)
    mean = level * np.exp(-radius() / 60)
    return DataCube(rng.poisson(mean, (*scan, 48, 52)).astype(np.uint16)), mean


def test_shot_noise_alone_has_the_poisson_value():
    """Raw variance is 1/N within 2 %, and what is left after the correction is zero."""
    cube, _ = poisson(6.0, (24, 25))
    found = fem(cube, center=CENTER, r_max=22, samples=100)
    rings = slice(4, None)
    per_pixel = 1 / found.mean[rings]
    raw = found.variances + found.noise
    # One over the number of pixels is gone from a ring's own variance, and is that of its mean.
    size = found.size[rings]
    expected = [1 / size, 1 - 1 / size, np.ones(len(size)), 1 - 1 / size, np.ones(len(size))]
    for value, noise, factor in zip(raw[:, rings], found.noise[:, rings], expected, strict=True):
        weight = size / size.sum()
        assert (noise / (per_pixel * factor)) @ weight == pytest.approx(1, abs=0.02)
        assert (value / (per_pixel * factor)) @ weight == pytest.approx(1, abs=0.02)
    pulls = found.variances[1:, rings] / found.sigmas[1:, rings]
    assert np.abs(pulls.mean(axis=1)).max() < 1.0 and 0.4 < pulls.std() < 1.6


def test_gain_and_read_noise_are_subtracted():
    rng = np.random.default_rng(1)
    electrons = rng.poisson(5.0, (16, 15, 32, 32))
    signal = 7.0 * electrons + rng.normal(0, 4.0, electrons.shape)
    found = fem(DataCube(signal), center=(15.5, 15.5), r_max=14, gain=7.0, read_variance=16.0)
    assert np.abs(found.variances[1:, 4:]).max() < 0.02
    nothing = fem(DataCube(signal), center=(15.5, 15.5), r_max=14)
    assert not nothing.noise[:, 4:].any()
    np.testing.assert_allclose(nothing.variance[4:], 1 / 5 + 16 / 35**2, rtol=0.1)


def speckles(modes, scan=(16, 17), seed=2, thickness=None):
    """Gamma-distributed intensity, so that V = 1/M; thickness multiplies whole patterns."""
    rng = np.random.default_rng(seed)
    intensity = 40 * rng.gamma(modes, 1 / modes, (*scan, 48, 52))
    if thickness is not None:
        intensity *= thickness[..., None, None]
    return DataCube(rng.poisson(intensity).astype(np.uint16))


@pytest.mark.parametrize("method", METHODS)
def test_speckles_of_known_contrast(method):
    found = fem(speckles(2.0), center=CENTER, r_max=22, method=method, samples=50)
    truth = 0.5 / found.size[5:] if method == "annular-mean" else 0.5
    ratio = found.variance[5:] / truth
    assert np.mean(ratio) == pytest.approx(1, abs=0.06 if method == "annular-mean" else 0.02)
    assert np.array_equal(found.variance, found.variances[METHODS.index(method)], equal_nan=True)


def test_thickness_is_corrected_in_either_way():
    rng = np.random.default_rng(3)
    thickness = rng.uniform(0.5, 1.5, (16, 17))
    plain = fem(speckles(2.0, thickness=thickness), center=CENTER, r_max=22)
    scaled = fem(speckles(2.0, thickness=thickness), center=CENTER, r_max=22, normalize=True)
    filtered = fem(speckles(2.0, thickness=thickness), center=CENTER, r_max=22, keep=(45.0, 55.0))
    spread = thickness.var() / thickness.mean() ** 2
    ensemble = METHODS.index("ring-ensemble")
    # ⟨t²⟩⟨v²⟩/⟨t⟩²⟨v⟩² − 1
    expected = (1 + spread) * 1.5 - 1
    for k in (ensemble, IMAGE):
        assert np.mean(plain.variances[k, 5:]) == pytest.approx(expected, abs=0.03)
        assert np.mean(scaled.variances[k, 5:]) == pytest.approx(0.5, abs=0.02)
        assert np.mean(filtered.variances[k, 5:]) == pytest.approx(0.5, abs=0.05)
    for found in (plain, scaled):
        assert np.mean(found.by("mean-of-rings").variance[5:]) == pytest.approx(0.5, abs=0.02)
        assert np.mean(found.by("ratio-of-means").variance[5:]) == pytest.approx(0.5, abs=0.02)
    kept = thickness[filtered.kept]
    assert 20 < filtered.kept.sum() < 35 and np.ptp(kept) < 0.25
    np.testing.assert_allclose(scaled.mean[5:], plain.mean[5:], rtol=0.02)


def test_sigma_is_that_of_repeated_scans():
    found = [
        fem(speckles(1.0, (8, 9), seed=k), center=CENTER, r_max=22, samples=60) for k in range(12)
    ]
    for k in range(1, 5):
        scatter = np.std([one.variances[k, 6:] for one in found], axis=0, ddof=1).mean()
        told = np.mean([one.sigmas[k, 6:] for one in found])
        assert told == pytest.approx(scatter, rel=0.25)


def test_definitions_against_plain_sums():
    """All of them written out, without noise, for rings of whole pixels."""
    rng = np.random.default_rng(4)
    data = rng.gamma(1.0, 1.0, (5, 6, 31, 33)) * rng.uniform(0.5, 2, (5, 6, 1, 1))
    found = fem(DataCube(data), center=(15, 16), r_max=12, samples=10, flatten=False)
    t = radius((31, 33), (15, 16))
    for k in (3, 7, 11):
        w = np.clip(1 - np.abs(t - k), 0, None)
        w /= w.sum()
        first, square = (data * w).sum((2, 3)).ravel(), (data**2 * w).sum((2, 3)).ravel()
        n = len(first)
        image = (data**2).mean((0, 1)) / data.mean((0, 1)) ** 2 - 1
        plain = [
            ((first**2).mean() / first.mean() ** 2 - 1) * n / (n - 1),
            (square / first**2 - 1).mean(),
            square.mean() / first.mean() ** 2 - 1,
            square.mean() / (first**2).mean() - 1,
            (w * image).sum() * n / (n - 1),
        ]
        np.testing.assert_allclose(found.variances[:, k], plain, rtol=1e-10)


def test_wandering_origins_and_an_ellipse():
    rng = np.random.default_rng(5)
    ellipse = Ellipse(1.1, 1.0, 0.4)
    origins = np.array(CENTER) + rng.uniform(-3, 3, (9, 10, 2))
    t = ellipse.correction()
    i, j = np.indices((48, 52))
    data = np.empty((9, 10, 48, 52))
    for p in np.ndindex(9, 10):
        x, y = i - origins[p][0], j - origins[p][1]
        r = np.hypot(t[0, 0] * x + t[0, 1] * y, t[1, 0] * x + t[1, 1] * y)
        data[p] = 50 + 400 * np.exp(-(((r - 12) / 2) ** 2))
    cube = DataCube(rng.poisson(data).astype(np.uint16))
    right = fem(cube.with_calibration(origin_px=origins, ellipse=ellipse), r_max=16)
    wrong = fem(cube, center=CENTER, r_max=16)
    rings = slice(7, 16)
    steep = fem(cube.with_calibration(origin_px=origins, ellipse=ellipse), r_max=16, flatten=False)
    assert np.nanmax(steep.variance[rings]) > 0.08  # the flanks of the ring within one step
    assert np.nanmax(right.variance[rings]) < 0.02 < 0.1 < np.nanmax(wrong.variance[rings])
    assert (
        np.nanmax(right.variances[IMAGE, rings]) < 0.05 < np.nanmax(wrong.variances[IMAGE, rings])
    )


def test_a_map_shows_where():
    rng = np.random.default_rng(6)
    data = np.full((6, 8, 48, 52), 20.0)
    data[2:4, 3:5] = 20 * rng.exponential(1.0, (2, 2, 48, 52))
    found = fem(DataCube(rng.poisson(data).astype(np.uint16)), center=CENTER, r_max=20)
    image = found.map((8, 18)).data
    inside = np.zeros((6, 8), bool)
    inside[2:4, 3:5] = True
    assert image[inside].min() > 0.7 and np.abs(image[~inside]).max() < 0.05
    with pytest.raises(ParameterError, match="no usable ring"):
        found.map((30, 40))
    with pytest.raises(ParameterError, match="no definition"):
        found.by("median")


def test_significance():
    rough, flat = (fem(cube, center=CENTER, r_max=20) for cube in (speckles(3.0), poisson(30.0)[0]))
    again = fem(poisson(30.0, seed=9)[0], center=CENTER, r_max=20)
    for method in METHODS[1:]:
        assert fem_significance(rough, flat, (5, 18), method=method).significance > 20
        assert abs(fem_significance(again, flat, (5, 18), method=method).significance) < 4
    found = fem_significance(rough, flat, (5, 18))
    assert found.first == pytest.approx(1 / 3, abs=0.02)
    assert found.significances.shape == found.q.shape
    step = fem(speckles(3.0), center=CENTER, r_max=20, step_px=2.0)
    with pytest.raises(ParameterError, match="rings differ"):
        fem_significance(rough, step, (5, 18))
    with pytest.raises(ParameterError, match="not with a str"):
        fem_significance(rough, "flat", (5, 18))


@pytest.mark.skipif(not (SHARED / "amorphous").is_dir(), reason="needs the reference data")
def test_crystals_in_a_glass_stand_out():
    """Variance near the Bragg rings of fcc Pd exceeds that of the glass by five deviations."""
    results = []
    for name in ("/data", "/data_nanocrystal"):
        cube = py4DSTEM.read(SHARED / "amorphous" / "data.h5", dataset=name)
        cube = cube.with_calibration(
            origin_px=(64.3, 63.2), Q_pixel_size=0.0235, Q_pixel_units="A^-1"
        )
        results.append(fem(cube, r_max=1.2, units="A^-1"))
    glass, crystals = results
    for hkl in ((1, 1, 1), (2, 2, 0), (3, 1, 1)):
        ring = np.linalg.norm(hkl) / 3.89
        for method in METHODS:
            found = fem_significance(
                crystals, glass, (ring - 0.03, ring + 0.03), method=method, samples=300
            )
            assert found.significance > 5, (hkl, method)
    # Between the rings they are alike.
    quiet = fem_significance(crystals, glass, (0.15, 0.25))
    assert abs(quiet.significance) < 3


def test_bad_input():
    cube = DataCube(np.ones((3, 4, 20, 21), np.uint16))
    with pytest.raises(CalibrationMissing, match="find_beam"):
        fem(cube)
    with pytest.raises(ParameterError, match="keep"):
        fem(cube, center=(9, 9), keep=(60, 40))
    with pytest.raises(ParameterError, match="signal"):
        fem(cube, center=(9, 9), signal=(5, 3))
    with pytest.raises(ParameterError, match="no ring lies"):
        fem(cube, center=(9, 9), r_max=8, signal=(30, 40))
    with pytest.raises(ParameterError, match="usable ring"):
        fem(DataCube(np.full((2, 2, 20, 21), np.nan)), center=(9, 9))
    with pytest.raises(ParameterError, match="usable ring"):
        fem(cube, center=(9, 9), mask=np.zeros((20, 21)))
    outside = fem(cube, center=(-40.0, 9.0))
    assert np.isnan(outside.variance[:30]).all()
    masked = fem(cube, center=(9, 9), mask=np.hypot(*(np.indices((20, 21)) - 9.0)) > 3)
    assert np.isnan(masked.variance[:2]).all() and np.isfinite(masked.variance[5])
    one = fem(DataCube(np.ones((1, 1, 20, 21))), center=(9, 9))
    assert np.isnan(one.variance).all()
    empty = fem(DataCube(np.zeros((3, 4, 20, 21), np.uint8)), center=(9, 9))
    assert np.isnan(empty.variance).all() and not np.nan_to_num(empty.mean).any()


def test_bits_do_not_depend_on_workers_and_files_hold_all(tmp_path):
    cube, _ = poisson(4.0)
    one, three = (
        fem(cube, center=CENTER, keep=(5, 95), normalize=True, options=RunOptions(n, memory="2 MB"))
        for n in (1, 3)
    )
    assert one.variances.tobytes() == three.variances.tobytes()
    py4DSTEM.save(tmp_path / "fem.h5", one)
    again = py4DSTEM.read(tmp_path / "fem.h5")
    assert isinstance(again, FEMResult) and again.history.steps == one.history.steps
    np.testing.assert_array_equal(again.variances, one.variances)
    np.testing.assert_array_equal(again.kept, one.kept)
    assert again.axis == one.axis and "positions" in repr(again)
    assert again.variance_image.shape == (48, 52)
