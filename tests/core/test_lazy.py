"""Lazy arrays behave as the numpy arrays that they stand for."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from py4DSTEM.core import geometry
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.lazy import (
    BlockArray,
    Padded,
    ScanOfFrames,
    binned_dtype,
    chunks_of,
    read_block,
)
from py4DSTEM.errors import ParameterError

SHAPE = (3, 5, 6, 7)


class Opaque(BlockArray):
    """Any array, without numpy's short cuts."""

    def __init__(self, array):
        self.array = array

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)

    def read_block(self, rx, ry):
        return self.array[rx, ry].reshape(-1, *self.shape[2:])


def make_array(dtype="u2"):
    return np.random.default_rng(1).integers(0, 100, SHAPE).astype(dtype)


def blocks(a, factor, axis):
    n = a.shape[axis] // factor
    a = np.take(a, np.arange(n * factor), axis)
    return a.reshape(*a.shape[:axis], n, factor, *a.shape[axis + 1 :]).sum(axis + 1)


# view of a lazy array, and the same in numpy
VIEWS = {
    "plain": (lambda d, c: (d, c), lambda a: a),
    "crop": (
        lambda d, c: geometry.crop(d, c, ((1, 3), (0, -1)), ((2, None), (1, 6))),
        lambda a: a[1:3, 0:-1, 2:, 1:6],
    ),
    "bin": (
        lambda d, c: geometry.bin_scan(d, c, (1, 2), (2, 3)),
        lambda a: blocks(blocks(blocks(a, 2, 1), 2, 2), 3, 3),
    ),
    "pad": (
        lambda d, c: geometry.pad(d, c, ((1, 0), (2, 3)), 9),
        lambda a: np.pad(a, ((0, 0), (0, 0), (1, 0), (2, 3)), constant_values=9),
    ),
    "swap_Q": (geometry.swap_Q, lambda a: a.swapaxes(2, 3)),
    "swap_R": (geometry.swap_R, lambda a: a.swapaxes(0, 1)),
    "reshape": (
        lambda d, c: geometry.reshape_scan(d, c, (5, 3)),
        lambda a: a.reshape(5, 3, *a.shape[2:]),
    ),
}


@pytest.mark.parametrize("name", VIEWS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_view_indexes_like_numpy(name, data):
    lazy, plain = VIEWS[name]
    array = make_array()
    view, _ = lazy(Opaque(array), Calibration())
    expected = plain(array)
    assert tuple(view.shape) == expected.shape
    key = data.draw(hnp.basic_indices(expected.shape, allow_newaxis=False))
    np.testing.assert_array_equal(view[key], expected[key])


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_reads_blocks_and_can_be_pickled(name):
    lazy, plain = VIEWS[name]
    array = make_array()
    view, _ = lazy(Opaque(array), Calibration())
    expected = plain(array)[0:2, 0:2]
    again = pickle.loads(pickle.dumps(view))
    for v in (view, again):
        frames = read_block(v, slice(0, 2), slice(0, 2))
        np.testing.assert_array_equal(frames, expected.reshape(-1, *expected.shape[2:]))
    assert view.nbytes == math.prod(view.shape) * view.dtype.itemsize


def test_views_compose():
    array, calibration = make_array(), Calibration()
    lazy, plain = Opaque(array), array
    for name in ("crop", "pad", "swap_R", "bin", "swap_Q"):
        if name == "bin":
            lazy, calibration = geometry.bin_scan(lazy, calibration, 2, 2)
            for axis in range(4):
                plain = blocks(plain, 2, axis)
            continue
        lazy, calibration = VIEWS[name][0](lazy, calibration)
        plain = VIEWS[name][1](plain)
    np.testing.assert_array_equal(lazy[...], plain)


def test_indices_out_of_range_are_refused():
    view = Opaque(make_array())
    for key in ((3,), (0, 5), (0, 0, 6), (0, 0, 0, -8), (-4,), (0, 0, 0, 0, 0)):
        with pytest.raises(IndexError):
            view[key]
    with pytest.raises(IndexError, match="integers and slices"):
        view[[0, 1]]


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("factor", [1, 4, 257, 258, 66000])
def test_binned_sums_never_overflow(dtype, factor):
    wide = binned_dtype(dtype, factor)
    limits = np.iinfo("u1" if dtype == "?" else dtype)
    for value in (0, 1) if dtype == "?" else (limits.min, limits.max):
        assert int(wide.type(value * factor)) == value * factor


def test_binning_the_most_negative_values():
    array = np.full((1, 1, 2, 258), -128, np.int8)
    view, _ = geometry.bin_scan(Opaque(array), Calibration(), 1, (1, 258))
    assert view[...].ravel().tolist() == [-128 * 258] * 2


def test_a_border_must_fit_the_dtype():
    with pytest.raises(ParameterError, match="border"):
        Padded(Opaque(make_array()), ((1, 1), (1, 1)), -1)
    with pytest.raises(ParameterError, match="border"):
        Padded(Opaque(make_array()), ((1, 1), (1, 1)), math.nan)
    view = Padded(Opaque(make_array("f4")), ((1, 1), (1, 1)), math.nan)
    assert np.isnan(view[0, 0, 0]).all()


class Frames:
    """Frames whose every pixel holds their number."""

    def __init__(self, count):
        self.shape, self.dtype = (count, 2, 3), np.dtype("i4")

    def read_frames(self, start, stop):
        return np.broadcast_to(
            np.arange(start, stop, dtype="i4")[:, None, None], (stop - start, 2, 3)
        )


@pytest.mark.parametrize("count", [1, 9, 40])
@pytest.mark.parametrize("sync", [-50, -3, 0, 2, 60])
@pytest.mark.parametrize("flyback", [0, 2])
def test_a_stream_of_frames_arranged_as_a_scan(count, sync, flyback):
    scan = ScanOfFrames(Frames(count), (3, 4), sync, flyback, fill=-7)
    number = sync + np.arange(3)[:, None] * (4 + flyback) + np.arange(4)
    expected = np.where((number >= 0) & (number < count), number, -7)
    np.testing.assert_array_equal(scan[..., 1, 2], expected)
    part = read_block(scan, slice(1, 3), slice(1, 3))[:, 0, 0]
    np.testing.assert_array_equal(part, expected[1:3, 1:3].ravel())


def test_chunks_of_dask_and_h5py_alike():
    dask = pytest.importorskip("dask.array")
    array = dask.from_array(make_array(), chunks=(2, 3, 6, 7))
    assert chunks_of(array) == (2, 3, 6, 7)
    assert chunks_of(make_array()) is None
