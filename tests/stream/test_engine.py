"""The loop over the scan: order, determinism, bounds, errors, cancel, progress."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py4DSTEM import DataCube, Disk, RunOptions, run
from py4DSTEM.core.lazy import BlockArray
from py4DSTEM.errors import Cancelled, MemoryBudgetError, ParameterError, ShapeError
from py4DSTEM.process.com import CenterOfMass
from py4DSTEM.process.diffraction import MaxPattern, MeanPattern, StdPattern
from py4DSTEM.process.virtual import VirtualImages
from py4DSTEM.stream import engine
from py4DSTEM.stream.operation import Operation, PerScan, Ragged, Reduced
from py4DSTEM.stream.options import parse_bytes
from py4DSTEM.stream.tile import plan_tiles

SHAPE = (5, 7, 6, 9)
PATTERN = 6 * 9 * 8


class Blocks(BlockArray):
    """A scan in chunks, that counts what is read and can fail or be slow at a row."""

    def __init__(self, array, chunks=(1, 2, 6, 9), fail=None, slow=None):
        self.array, self._chunks, self.fail, self.slow = array, chunks, fail, slow
        self.reads = []

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    chunks = property(lambda self: self._chunks)

    def read_block(self, rx, ry):
        self.reads.append((rx.start, ry.start))
        if self.fail is not None and rx.start <= self.fail < rx.stop:
            raise OSError("the disk is gone")
        if self.slow is not None and rx.start == self.slow:
            time.sleep(0.2)
        return self.array[rx, ry].reshape(-1, *self.shape[2:])


def make_array(dtype="f8"):
    return (np.random.default_rng(3).random(SHAPE) * 100).astype(dtype)


def small(workers=1, **options):
    """Options that cut the scan into many tiles."""
    return RunOptions(workers=workers, memory=PATTERN * 2 * engine.COPIES * workers, **options)


class Same(Operation):
    """Pass sums on, position by position, and as a ragged list, and folded."""

    outputs = {  # noqa: RUF012
        "total": PerScan(np.float64),
        "rows": Ragged(np.dtype("i8")),
        "folded": Reduced(lambda a, b: a + b),
    }

    def step(self, plan, tile, kernels):
        first = tile.frames[:, 0, 0].astype("i8")
        counts = first % 3
        return {
            "total": tile.frames.sum((1, 2)),
            "rows": (np.repeat(first, counts), counts),
            "folded": [str(tile.block)],
        }

    def finish(self, cube, plan, parts, history):
        return parts


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("chunks", [None, (1, 2, 6, 9), (2, 3, 6, 9), (5, 1, 6, 9)])
def test_parts_land_where_they_belong(workers, chunks):
    array = make_array()
    data = Blocks(array, chunks)
    parts = run(Same(), DataCube(data), options=RunOptions(workers, memory="4 KB"))
    np.testing.assert_allclose(parts["total"], array.sum((2, 3)), rtol=1e-12)
    first = array[:, :, 0, 0].astype("i8").ravel()
    rows, offsets = parts["rows"]
    np.testing.assert_array_equal(rows, np.repeat(first, first % 3))
    np.testing.assert_array_equal(np.diff(offsets), first % 3)
    assert len(data.reads) == len(set(data.reads)) == len(parts["folded"]) > 1


def test_tiles_are_folded_in_order_whatever_their_speed():
    data = Blocks(make_array(), slow=0)
    parts = run(Same(), DataCube(data), options=RunOptions(3, memory="8 KB"))
    assert (
        parts["folded"]
        == run(Same(), DataCube(data), options=RunOptions(1, memory="8 KB"))["folded"]
    )


@pytest.mark.parametrize("operation", [MeanPattern(), StdPattern(), CenterOfMass()])
@pytest.mark.parametrize("memory", ["4 KB", "40 KB", "1 GB"])
def test_the_same_bits_for_any_number_of_workers(operation, memory):
    cube = DataCube(Blocks(make_array()))
    one, two, three, many = (
        run(operation, cube, options=RunOptions(n, memory=memory)).data.tobytes()
        for n in (1, 2, 3, 16)
    )
    assert one == two == three == many


def test_several_operations_are_each_alone():
    cube = DataCube(Blocks(make_array()))
    disk = {"d": Disk(2.5, center=(3, 4))}
    operations = [
        MeanPattern(), StdPattern(), MeanPattern(), MaxPattern(), CenterOfMass(),
        VirtualImages(detectors=disk), StdPattern(), CenterOfMass(mask=disk["d"]), MaxPattern(),
    ]  # fmt: skip
    together = run(operations, cube, options=small(2))
    for operation, result in zip(operations, together, strict=True):
        alone = run(operation, cube, options=small(2))
        # Detectors of one pass share the sums of the pixels that they have in common, so what they
        # weight by fractions may round differently; everything else has the same bits.
        shared = isinstance(operation, VirtualImages) or getattr(operation, "mask", None)
        rtol = 1e-14 if shared else 0
        np.testing.assert_allclose(result.data, alone.data, rtol=rtol, atol=0)
        assert result.history.steps[-1].kind == operation.kind


def test_an_operation_sees_only_what_it_asked_for():
    class Curious(Operation):
        outputs = {"n": PerScan(np.int64)}  # noqa: RUF012

        def step(self, plan, tile, kernels):
            assert tile.measured is None
            return {"n": np.ones(len(tile.frames))}

        def finish(self, cube, plan, parts, history):
            return parts["n"]

    n, _ = run([Curious(), MeanPattern()], DataCube(make_array()))
    assert n.sum() == 35


def test_an_operation_may_ask_for_another_pass():
    class Above(Operation):
        """Count what lies above the mean: needs the mean first."""

        outputs = {"x": Reduced(lambda a, b: a + b)}  # noqa: RUF012

        def step(self, plan, tile, kernels):
            return {"x": tile.frames.sum() if plan is None else (tile.frames > plan).sum()}

        def again(self, plan, parts):
            return parts["x"] / np.prod(SHAPE) if plan is None else None

        def finish(self, cube, plan, parts, history):
            return int(parts["x"]), len(history.steps)

    array = make_array()
    data = Blocks(array)
    (count, steps), mean = run([Above(), MeanPattern()], DataCube(data), options=small(2))
    assert count == (array > array.mean()).sum() and steps == 1
    assert len(data.reads) == 2 * len(set(data.reads))
    np.testing.assert_allclose(mean.data, array.mean((0, 1)), rtol=1e-12)


def test_where_skips_tiles_and_weights_images():
    array = make_array()
    data = Blocks(array)
    where = np.zeros((5, 7))
    where[1, 2], where[3, 5] = 1, 2.5
    mean, com = run([MeanPattern(), CenterOfMass()], DataCube(data), where=where, options=small())
    expected = (array[1, 2] + 2.5 * array[3, 5]) / 3.5
    np.testing.assert_allclose(mean.data, expected, rtol=1e-12)
    assert np.isfinite(com.data).sum() == 4 and np.isfinite(com.data[:, 1, 2]).all()
    assert len(data.reads) == 2
    assert mean.history.steps[-1].parameters["where"] == {"positions": 2, "of": 35}
    (again,) = run([MeanPattern()], DataCube(array), where=where > 1, options=small())
    chosen = again.history.steps[-1].parameters["where"]["selection"]
    assert chosen == {"x0": 3, "x1": 4, "y0": 5, "y1": 6, "kind": "rectangle"}


@pytest.mark.parametrize(
    ("where", "error"),
    [
        (np.ones((7, 5)), ShapeError),
        (np.zeros((5, 7)), ParameterError),
        (np.full((5, 7), -1.0), ParameterError),
        (np.full((5, 7), np.nan), ParameterError),
    ],
)
def test_a_where_that_makes_no_sense(where, error):
    with pytest.raises(error, match="where"):
        run(MeanPattern(), DataCube(make_array()), where=where)


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_says_where_it_happened(workers):
    cube = DataCube(Blocks(make_array(), fail=3), name="broken scan")
    with pytest.raises(OSError, match="the disk is gone") as caught:
        run(MeanPattern(), cube, options=small(workers))
    notes = "\n".join(caught.value.__notes__)
    assert "scan block rows 3:4" in notes and "broken scan" in notes
    assert not [t for t in threading.enumerate() if t.name.startswith("py4DSTEM-")]


@pytest.mark.parametrize("workers", [1, 3])
def test_cancel_stops_between_tiles(workers):
    stop = threading.Event()

    def progress(done, total, label):
        if done == 2:
            stop.set()

    data = Blocks(make_array())
    options = small(workers, cancel=stop, progress=progress)
    with pytest.raises(Cancelled, match="mean-pattern was cancelled after 3 of"):
        run(MeanPattern(), DataCube(data), options=options)
    assert len(data.reads) < 5 + workers * (engine.TILES_AHEAD + 1)
    assert not [t for t in threading.enumerate() if t.name.startswith("py4DSTEM-")]


def test_progress_counts_tiles_and_names_the_work():
    seen = []
    run([MeanPattern(), MaxPattern()], DataCube(Blocks(make_array())),
        options=small(2, progress=lambda *a: seen.append(a)))  # fmt: skip
    done, total, label = zip(*seen, strict=True)
    assert list(done) == list(range(total[0] + 1)) and len(set(total)) == 1
    assert set(label) == {"mean-pattern, max-pattern"}


def test_finished_tiles_that_wait_are_few():
    alive, most = 0, 0
    lock = threading.Lock()

    class Part:
        def __init__(self):
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self):
            nonlocal alive
            with lock:
                alive -= 1

    class Heavy(Operation):
        outputs = {"x": Reduced(lambda a, b: a)}  # noqa: RUF012

        def step(self, plan, tile, kernels):
            return {"x": Part()}

        def finish(self, cube, plan, parts, history):
            return parts["x"]

    array = np.zeros((200, 1, 2, 2))
    cube = DataCube(Blocks(array, (1, 1, 2, 2), slow=0))
    run(Heavy(), cube, options=RunOptions(2, memory=32 * 2 * engine.COPIES))
    assert most <= 2 * engine.TILES_AHEAD + 2 + 2


def test_memory_limits_workers_before_it_limits_tiles():
    data = Blocks(make_array())
    running, most = 0, 0
    lock = threading.Lock()

    def work(tile):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    one_tile = plan_tiles(data, 10**9).tile_bytes
    options = RunOptions(8, memory=2 * one_tile * engine.COPIES)
    blocks = [b for b, _ in engine.stream_tiles(DataCube(data), work, options=options)]
    assert most <= 2
    assert len(blocks) == len(plan_tiles(data, 10**9))


def test_a_pattern_that_does_not_fit_is_an_error_with_advice():
    with pytest.raises(MemoryBudgetError, match="RunOptions"):
        run(MeanPattern(), DataCube(make_array()), options=RunOptions(memory=100))


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(*[st.integers(1, 40)] * 2),
    st.tuples(*[st.integers(1, 40)] * 2),
    st.integers(1, 200),
)
def test_tiles_cover_the_scan_once(scan, chunk, limit):
    data = np.broadcast_to(np.uint8(0), (*scan, 4, 4))

    class Chunked:
        shape, dtype, chunks = data.shape, data.dtype, (*chunk, 4, 4)

    plan = plan_tiles(Chunked(), limit * 16)
    seen = np.zeros(scan, int)
    for k, block in enumerate(plan):
        assert block.index == k
        seen[block.rx, block.ry] += 1
        assert block.shape[0] * block.shape[1] <= limit
    assert (seen == 1).all() and len(plan) == k + 1


def test_sizes_as_people_write_them():
    assert [parse_bytes(t) for t in ("2 GB", "512 MiB", "1k", 7)] == [2 * 10**9, 2**29, 1000, 7]
    for bad in ("two", "", "-1 GB", 0):
        with pytest.raises(ParameterError):
            parse_bytes(bad)
    with pytest.raises(ParameterError, match="workers"):
        RunOptions(workers=0).worker_count()
    with pytest.raises(ParameterError, match="at least one operation"):
        run([], DataCube(make_array()))
