"""The median pattern against numpy, for all kinds of numbers."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py4DSTEM import DataCube, RunOptions, median_pattern
from py4DSTEM.errors import ParameterError
from py4DSTEM.process import median

KINDS = ["?", "u1", "i1", "u2", ">i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def nanmedian(array, axis=(0, 1)):
    values = array.astype(np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.nanmedian(values, axis=axis)


def make(rng, kind, shape):
    dtype = np.dtype(kind)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind == "f":
        array = (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)).astype(dtype)
        bad = rng.random(shape) < 0.2
        array[bad] = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0], bad.sum())
        return array
    info = np.iinfo(dtype)
    low, high = max(info.min, -(2**50)), min(info.max, 2**50)
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_parity_with_numpy(kind, nx, ny, seed):
    array = make(np.random.default_rng(seed), kind, (nx, ny, 3, 4))
    result = median_pattern(DataCube(array))
    np.testing.assert_allclose(result.data, nanmedian(array), rtol=1e-15)
    assert result.data.dtype == np.float64


def test_counts_with_many_ties_and_a_hot_pixel():
    rng = np.random.default_rng(0)
    array = rng.poisson(1.3, (12, 11, 8, 9)).astype(np.uint16)
    array[:, :, 2, 3] = rng.integers(0, 65536, (12, 11))
    np.testing.assert_array_equal(median_pattern(DataCube(array)).data, nanmedian(array))


@pytest.mark.parametrize("workers", [1, 3])
def test_large_detectors_go_band_by_band(monkeypatch, workers):
    monkeypatch.setattr(median, "COUNTER_BYTES", 9 * 64 * 3)
    rng = np.random.default_rng(1)
    array = rng.normal(size=(6, 7, 8, 9)).astype(np.float32)
    array[:, :, 4, 4] = np.nan
    options = RunOptions(workers=workers, memory=array.nbytes // 3)
    result = median_pattern(DataCube(array), options=options)
    np.testing.assert_allclose(result.data, nanmedian(array), rtol=1e-15)


def test_where_selects_positions():
    rng = np.random.default_rng(2)
    array = rng.integers(0, 50, (5, 6, 3, 4)).astype(np.int32)
    where = rng.random((5, 6)) < 0.4
    result = median_pattern(DataCube(array), where=where)
    np.testing.assert_array_equal(result.data, nanmedian(array[where], axis=0))
    with pytest.raises(ParameterError, match="weights"):
        median_pattern(DataCube(array), where=where * 0.5)


def test_extremes_of_the_dtypes():
    for dtype in (np.uint64, np.int64, np.float64, np.float32):
        info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
        array = np.array([info.min, info.max, info.max], dtype).reshape(3, 1, 1, 1)
        assert median_pattern(DataCube(array)).data[0, 0] == float(info.max)
    array = np.full((2, 1, 1, 1), np.finfo(np.float64).max)
    assert median_pattern(DataCube(array)).data[0, 0] == np.finfo(np.float64).max


def test_the_history_has_one_entry():
    result = median_pattern(DataCube(np.arange(24.0).reshape(2, 3, 2, 2)))
    assert [s.kind for s in result.history.steps] == ["median-pattern"]
