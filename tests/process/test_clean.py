"""Cleaned cubes: lazy, streamed, and right."""

import pickle

import numpy as np
import pytest

from py4DSTEM import DataCube, Disk, RunOptions, detect_hot_pixels, mean_pattern, virtual_image
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError


def make(rng, dtype="u2", shape=(4, 5, 20, 23)):
    return rng.poisson(20, shape).astype(dtype)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def planted(rng, array, count=6, extra=200):
    """Hot pixels far from each other."""
    mask = np.zeros(array.shape[2:], bool)
    while mask.sum() < count:
        i, j = rng.integers(0, array.shape[2]), rng.integers(0, array.shape[3])
        if not mask[max(0, i - 2) : i + 3, max(0, j - 2) : j + 3].any():
            mask[i, j] = True
    array[:, :, mask] += np.asarray(extra).astype(array.dtype)
    return mask


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
def test_planted_hot_pixels_are_found_and_nothing_else(rng, dtype):
    array = make(rng, dtype)
    mask = planted(rng, array)
    found = detect_hot_pixels(DataCube(array))
    np.testing.assert_array_equal(found.mask, mask)
    assert len(found) == 6 and str(found.positions[0][0]) in found.text()
    np.testing.assert_array_equal(np.asarray(found), mask)


def test_edges_corners_and_pairs(rng):
    array = make(rng)
    mask = np.zeros((20, 23), bool)
    for p in ((0, 0), (19, 22), (0, 11), (10, 0), (8, 8), (8, 9), (14, 14), (15, 15)):
        mask[p] = True
    array[:, :, mask] += 500
    np.testing.assert_array_equal(detect_hot_pixels(DataCube(array)).mask, mask)


@pytest.mark.parametrize("radius", [1.5, 3.0, 6.0])
def test_disks_are_not_hot_pixels(rng, radius):
    calibration, pattern = Calibration(), np.full((64, 64), 0.5)
    for center in ((32, 32), (10.3, 20.6), (45.5, 12.2), (50, 50)):
        pattern += 300 * Disk(radius, center=center).weights((64, 64), calibration)
    array = rng.poisson(pattern, (5, 6, 64, 64)).astype(np.uint16)
    assert len(detect_hot_pixels(DataCube(array))) == 0
    assert len(detect_hot_pixels(array[0, 0])) == 0
    array[:, :, 32, 32] += 3000
    assert detect_hot_pixels(DataCube(array)).positions == [(32, 32)]


@pytest.mark.parametrize("dose", [0.01, 0.3, 3.0])
def test_sparse_counts_are_not_hot_pixels(rng, dose):
    array = rng.poisson(dose, (6, 7, 64, 64)).astype(np.uint16)
    assert len(detect_hot_pixels(DataCube(array))) == 0
    assert len(detect_hot_pixels(array[0, 0])) == 0


@pytest.mark.parametrize("value", [0, 1])
def test_empty_and_constant_patterns(value):
    assert len(detect_hot_pixels(DataCube(np.full((2, 2, 9, 9), value, np.uint8)))) == 0
    assert len(detect_hot_pixels(np.full((2, 2), value))) == 0
    assert len(detect_hot_pixels(np.full((5, 5), np.nan))) == 0


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
def test_repair_is_the_median_of_neighbours_and_lazy(rng, dtype):
    array = make(rng, dtype)
    before = array.copy()
    mask = planted(rng, array)
    clean = DataCube(array).repair_pixels(mask)
    assert clean.dtype == array.dtype and clean.shape == array.shape
    data = clean.data[...]
    np.testing.assert_array_equal(data[:, :, ~mask], before[:, :, ~mask])
    for i, j in np.argwhere(mask):
        if 0 < i < 19 and 0 < j < 22:
            around = before[1, 2, i - 1 : i + 2, j - 1 : j + 2].ravel()
            median = np.median(np.delete(around, 4))
            assert abs(float(data[1, 2, i, j]) - median) <= 0.5
    # everything streams through the view
    one, two = (mean_pattern(clean, options=RunOptions(n, memory="60 KB")) for n in (1, 3))
    np.testing.assert_array_equal(one.data, two.data)
    np.testing.assert_allclose(one.data, data.astype(float).mean((0, 1)), rtol=1e-6)
    step = clean.history.steps[-1]
    assert step.kind == "repair-pixels" and len(step.parameters["pixels"]) == 6
    assert "DataCube" in repr(clean)


def test_dark_and_gain(rng):
    array, dark = make(rng), rng.normal(18, 3, (20, 23))
    gain = rng.uniform(0.8, 1.2, (20, 23))
    cube = DataCube(array)
    expected = (array - dark) * gain
    np.testing.assert_allclose(cube.dark_gain(dark, gain).data[...], expected, rtol=1e-5, atol=1e-5)
    clipped = cube.dark_gain(dark, gain, clip_negative=True)
    np.testing.assert_allclose(clipped.data[...], expected.clip(0), rtol=1e-5, atol=1e-5)
    both = cube.subtract_dark(dark).apply_gain(gain)
    np.testing.assert_allclose(both.data[...], expected, rtol=1e-5, atol=1e-4)
    assert clipped.dtype == np.float32
    assert [s.kind for s in both.history.steps] == ["dark-gain", "dark-gain"]
    assert len(clipped.history.steps[-1].parameters["dark"]["sha256"]) == 64


@pytest.mark.parametrize("method", ["radial", "flat"])
def test_peaks_stay_on_a_background_that_goes(rng, method):
    i, j = np.indices((41, 43))
    r = np.hypot(i - 20, j - 21)
    background = 50 * np.exp(-r / 12) if method == "radial" else np.full((41, 43), 30.0)
    peaks = np.zeros((41, 43))
    peaks[10, 10], peaks[30, 33] = 40, 70
    cube = DataCube(np.tile(background + peaks, (2, 3, 1, 1))).with_calibration(origin_px=(20, 21))
    clean = cube.subtract_background(method)
    np.testing.assert_allclose(clean.data[1, 2], peaks, atol=1.5)
    assert (cube.subtract_background(method, clip_negative=True).data[...] >= 0).all()


def test_filters_compose_with_geometry_and_survive_pickling(rng):
    array = make(rng)
    mask = planted(rng, array)
    cube = DataCube(array).repair_pixels(mask).subtract_dark(np.ones((20, 23)))
    view = cube.bin(Q=2).crop(R=((1, 4), (0, 3)))
    again = DataCube(pickle.loads(pickle.dumps(view.data)))
    a = virtual_image(view, Disk(4, center=(5, 5)))
    b = virtual_image(again, Disk(4, center=(5, 5)))
    np.testing.assert_array_equal(a.data, b.data)


def test_what_cannot_be_done_is_said(rng):
    cube = DataCube(make(rng))
    with pytest.raises(ShapeError, match="mask"):
        cube.repair_pixels(np.zeros((3, 3), bool))
    with pytest.raises(ParameterError, match="boolean"):
        cube.repair_pixels(np.zeros((20, 23)))
    with pytest.raises(ParameterError, match="every pixel"):
        cube.repair_pixels(np.ones((20, 23), bool))
    with pytest.raises(ParameterError, match="dark"):
        cube.dark_gain()
    with pytest.raises(ShapeError, match="gain"):
        cube.apply_gain(np.ones((3, 3)))
    with pytest.raises(ParameterError, match="not finite"):
        cube.subtract_dark(np.full((20, 23), np.nan))
    with pytest.raises(CalibrationMissing):
        cube.subtract_background()
    for bad in ({"percentile": 101}, {"method": "magic"}, {"step_px": 0, "center": (1, 1)}):
        with pytest.raises(ParameterError):
            cube.subtract_background(**bad)
    with pytest.raises(ParameterError):
        detect_hot_pixels(cube, 0)
