"""The cache with detector axes first: content, room, cancel."""

import gc
import threading
from itertools import pairwise

import numpy as np
import pytest

from py4DSTEM import Cancelled, DataCube, MemoryBudgetError, ParameterError, RunOptions, StoreError
from py4DSTEM.core.lazy import BlockArray
from py4DSTEM.stream import detector_major as module
from py4DSTEM.stream.detector_major import coarse_grid, detector_major
from py4DSTEM.stream.parallel import in_threads, parts_of

SHAPE = (5, 7, 6, 11)


def scan(dtype=np.uint16, shape=SHAPE):
    return np.random.default_rng(0).integers(0, 2, shape).astype(dtype) * np.dtype(dtype).type(1)


class Chunked(BlockArray):
    """A scan in chunks of 2 x 3 patterns, which counts what is read of it."""

    def __init__(self, data):
        self._data, self.positions = data, 0

    shape = property(lambda self: self._data.shape)
    dtype = property(lambda self: self._data.dtype)
    chunks = property(lambda self: (2, 3, *self.shape[2:]))

    def read_block(self, rx, ry):
        block = self._data[rx, ry]
        self.positions += block.shape[0] * block.shape[1]
        return block.reshape(-1, *self.shape[2:])


def turned(data):
    return data.reshape(-1, *data.shape[2:]).transpose(1, 2, 0)


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i1", "?", "f2", "<f4", ">f8"])
def test_whole_scan(dtype):
    data = scan(dtype)
    cache = detector_major(DataCube(data))
    np.testing.assert_array_equal(cache.data, turned(data).astype(cache.data.dtype))
    assert cache.complete and cache.finite and cache.data.flags.c_contiguous
    assert cache.data.dtype.isnative and cache.R_shape == (5, 7)
    sums = np.cumsum(turned(data).astype(float), axis=1)[:, [7, 10]]
    np.testing.assert_array_equal(cache.prefix, sums)
    assert cache.nbytes == cache.data.nbytes + cache.prefix.nbytes


def test_tiles_that_are_no_whole_rows_land_in_their_places():
    data = np.random.default_rng(1).integers(0, 999, SHAPE).astype(np.uint16)
    chunked = Chunked(data)
    cube = DataCube(chunked)
    pattern = 6 * 11 * 2
    cache = detector_major(cube, options=RunOptions(memory=3 * 6 * pattern))
    np.testing.assert_array_equal(cache.data, turned(data))
    assert chunked.positions == 35  # each once


def test_sparse_grid_reads_little_else():
    data = np.random.default_rng(1).integers(0, 999, SHAPE).astype(np.uint16)
    chunked = Chunked(data)
    cache = detector_major(DataCube(chunked), rows=[1, 4], columns=[0, 2, 5])
    np.testing.assert_array_equal(cache.data, turned(data[[1, 4]][:, [0, 2, 5]]))
    assert not cache.complete and chunked.positions == 2 * (3 + 1)
    assert cache.rows.tolist() == [1, 4] and cache.columns.tolist() == [0, 2, 5]


@pytest.mark.parametrize("where", ["whole", "sparse"])
def test_what_is_no_number_is_zero(where):
    data = scan(np.float32)
    data[2, 3, 4, 5] = np.nan
    grid = {} if where == "whole" else {"rows": [2], "columns": [1, 3]}
    cache = detector_major(DataCube(data), **grid)
    assert not cache.finite and np.isfinite(cache.data).all()
    assert detector_major(DataCube(data), rows=[0], columns=[1]).finite


@pytest.mark.parametrize("rows", [[], [2, 1], [1, 1], [-1], [5]])
def test_impossible_grids(rows):
    with pytest.raises(ParameterError, match="0 … 4"):
        detector_major(DataCube(scan()), rows=rows)


@pytest.mark.parametrize(
    ("shape", "positions"),
    [((1, 1), 9), ((1, 1000), 64), ((1000, 1), 64), ((256, 256), 4096), ((3, 70), 50), ((9, 2), 1)],
)
def test_coarse_grid(shape, positions):
    rows, columns = coarse_grid(shape, positions)
    assert 1 <= len(rows) * len(columns) <= positions
    assert len(rows) * len(columns) >= min(positions, shape[0] * shape[1]) / 2
    for index, size in zip((rows, columns), shape, strict=True):
        assert index.dtype == np.intp and index[0] >= 0 and index[-1] < size
        gaps = np.diff(index)
        assert (gaps > 0).all() and gaps.max(initial=0) - gaps.min(initial=size) <= 1


def test_no_room_in_memory():
    with pytest.raises(MemoryBudgetError, match="folder"):
        detector_major(DataCube(scan()), memory_bytes=100)


def test_prefix_is_left_out_first():
    data = scan()
    cache = detector_major(DataCube(data), memory_bytes=data.nbytes + 1)
    assert cache.prefix is None


def test_file_has_the_same_content_and_vanishes(tmp_path):
    data = np.random.default_rng(1).integers(0, 999, SHAPE).astype(np.uint16)
    cache = detector_major(DataCube(data), memory_bytes=100, folder=tmp_path)
    assert isinstance(cache.data, np.memmap)
    np.testing.assert_array_equal(cache.data, turned(data))
    plain = detector_major(DataCube(data))
    np.testing.assert_array_equal(cache.prefix, plain.prefix)
    cache.close()
    cache.close()
    assert cache.closed and cache.nbytes == 0
    del cache
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_no_room_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SPARE_BYTES", 10**18)
    with pytest.raises(StoreError, match="more memory"):
        detector_major(DataCube(scan()), memory_bytes=100, folder=tmp_path)
    with pytest.raises(StoreError, match="another folder"):
        detector_major(DataCube(scan()), memory_bytes=100, folder=tmp_path / "none")


@pytest.mark.parametrize("grid", [{}, {"rows": [0, 2], "columns": [1, 5]}])
def test_cancel_leaves_nothing(tmp_path, grid):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled, match="live cache"):
        detector_major(
            DataCube(scan()), **grid, memory_bytes=1, folder=tmp_path,
            options=RunOptions(cancel=cancel),
        )  # fmt: skip
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_progress():
    seen = []
    options = RunOptions(progress=lambda *told: seen.append(told))
    detector_major(DataCube(scan()), rows=[0, 2], columns=[1, 5], options=options)
    assert seen[-1] == (4, 4, "live cache")


def test_threads_give_results_in_order_and_raise():
    assert in_threads(lambda k: k * k, range(5)) == [0, 1, 4, 9, 16]
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda k: 1 // k, [1, 2, 0])
    parts = parts_of(100_001)
    assert parts[0].start == 0 and parts[-1].stop == 100_001
    assert all(a.stop == b.start for a, b in pairwise(parts))
