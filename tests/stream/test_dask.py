"""A pass on a real scheduler with workers in other processes: the same bits, whatever dies."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import DataCube, RunOptions, run
from py4DSTEM.core.lazy import BlockArray
from py4DSTEM.errors import (
    CalibrationMissing,
    Cancelled,
    ClusterError,
    CorruptFile,
    ParameterError,
)
from py4DSTEM.process.diffraction import MeanPattern
from py4DSTEM.stream import dask as spread
from py4DSTEM.stream.operation import Operation, PerScan, registered
from py4DSTEM.testing.operations import arrays_of, examples, tiny_cube

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

py4DSTEM.save  # noqa: B018  (all rooms of operations are imported by the names below)
NAMES = ("virtual_image", "mean_pattern", "find_bragg_disks", "radial_profiles", "center_of_mass")


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two worker processes of one thread each, watched by nannies."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0,
            silence_logs=50,
        ) as made,
    ):  # fmt: skip
        yield made


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster, set_as_default=False) as made:
        made.wait_for_workers(2, timeout=60)
        yield made


@pytest.fixture
def saved(tmp_path):
    """The tiny scan in a file, opened lazily."""
    path = tmp_path / "tiny.h5"
    py4DSTEM.save(path, DataCube(np.array(tiny_cube().data)))
    return py4DSTEM.read(path)


def many_tiles(cube, **more):
    return RunOptions(memory=int(np.prod(cube.Q_shape)) * cube.dtype.itemsize * 16, **more)


def bits(result):
    return {name: (a.shape, a.dtype.str, a.tobytes()) for name, a in arrays_of(result)}


def all_operations():
    for name in NAMES:
        getattr(py4DSTEM, name)
    return [example for cls in registered().values() if cls.__module__.startswith("py4DSTEM.")
            for example in examples(cls)]  # fmt: skip


class Slow(Operation, kind="slow-on-a-cluster"):
    """Sum patterns, slowly; the process dies, or the work fails, where it is told to.

    Parameters
    ----------
    wait_s : float
    folder : str
        The process that comes upon the third row ends itself, if no file says that one has.
    always : bool
        Every process ends there.
    fail : str
        An error to raise.
    """

    wait_s: float = 0.0
    folder: str = ""
    always: bool = False
    fail: str = ""
    outputs = {"total": PerScan(np.float64)}  # noqa: RUF012

    def step(self, plan, tile, kernels):
        time.sleep(self.wait_s)
        if tile.block.rx.start == 2:
            self._die()
            self._fail()
        return {"total": tile.frames.sum((1, 2), dtype=float)}

    def _die(self):
        if not self.folder:
            return
        mark = os.path.join(self.folder, "died")
        if self.always or not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

    def _fail(self):
        if self.fail == "calibration":
            raise CalibrationMissing("origin", "measure it")
        if self.fail == "file":
            raise CorruptFile("a chunk is damaged", path="scan.h5", offset=7)

    def finish(self, cube, plan, parts, history):
        return parts["total"]


def test_every_operation_gives_the_same_bits(client):
    cube = tiny_cube()
    for operation in all_operations():
        here = run(operation, cube, options=many_tiles(cube, workers=1))
        there = run(operation, cube, options=many_tiles(cube, client=client))
        assert bits(here) == bits(there), operation.kind
        assert bits(here), operation.kind


def test_several_operations_of_a_file_in_one_pass(client, saved):
    operations = all_operations()[:4]
    cube = saved.with_calibration(tiny_cube().calibration)
    where = np.arange(20).reshape(5, 4) % 3 > 0
    here = run(operations, cube, where=where, options=many_tiles(cube))
    there = run(operations, cube, where=where, options=many_tiles(cube, client=client))
    assert bits(here) == bits(there)


def test_views_of_a_file_are_read_on_the_workers(client, saved):
    cube = saved.crop(R=((1, 5), (0, 3))).bin(Q=2)
    assert spread._travels(cube.data)
    here, there = (run(MeanPattern(), cube, options=many_tiles(cube, **more))
                   for more in ({}, {"client": client}))  # fmt: skip
    assert bits(here) == bits(there)


class Elsewhere(BlockArray):
    """An array that says where it was read."""

    shape = property(lambda self: (3, 2, 2, 2))
    dtype = property(lambda self: np.dtype("i8"))

    def read_block(self, rx, ry):
        n = (rx.stop - rx.start) * (ry.stop - ry.start)
        return np.full((n, 2, 2), os.getpid(), np.int64)


def test_what_can_be_opened_there_is_read_there(client):
    pids = run(Slow(), DataCube(Elsewhere()), options=RunOptions(client=client)) / 4
    assert set(pids.ravel()) <= {float(pid) for pid in client.run(os.getpid).values()}


def test_a_worker_killed_in_the_middle_changes_nothing(client, saved, tmp_path):
    operation = Slow(folder=str(tmp_path))
    there = run(operation, saved, options=many_tiles(saved, client=client))
    assert (tmp_path / "died").exists()
    assert bits(there) == bits(run(Slow(), saved))


def test_a_worker_killed_from_outside_changes_nothing(client):
    cube = tiny_cube()
    done = []

    def kill(count, total, label):
        done.append(count)
        if count == 3:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    options = many_tiles(cube, client=client, progress=kill)
    there = run(Slow(wait_s=0.02), cube, options=options)
    assert bits(there) == bits(run(Slow(), cube))
    assert done == list(range(done[-1] + 1))


def test_what_kills_every_worker_is_told(client, saved, tmp_path):
    operation = Slow(folder=str(tmp_path), always=True)
    with pytest.raises(ClusterError, match=r"workers died .*rows .*memory"):
        run(operation, saved, options=many_tiles(saved, client=client))


@pytest.mark.parametrize(
    ("fail", "error", "text"),
    [("calibration", CalibrationMissing, "no origin"), ("file", CorruptFile, "at byte 7")],
)
def test_errors_come_back_as_they_are(client, fail, error, text):
    cube = tiny_cube()
    with pytest.raises(error, match=text) as caught:
        run(Slow(fail=fail), cube, options=many_tiles(cube, client=client))
    assert any("rows 2:3" in note and "tiny" in note for note in caught.value.__notes__)


def test_cancel_is_heard_and_leaves_nothing_behind(client):
    cube, cancel = tiny_cube(), threading.Event()

    def stop(done, total, label):
        if done == 1:
            cancel.set()

    options = many_tiles(cube, client=client, cancel=cancel, progress=stop)
    with pytest.raises(Cancelled):
        run(Slow(wait_s=0.2), cube, options=options)
    for _ in range(100):
        left = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
        if left == 0:
            break
        time.sleep(0.1)
    assert left == 0


def test_without_workers_it_gives_up(monkeypatch):
    monkeypatch.setattr(spread, "NO_WORKER_S", 0.5)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as empty,
        distributed.Client(empty, set_as_default=False) as client,
        pytest.raises(ClusterError, match="no worker for"),
    ):
        run(Slow(), tiny_cube(), options=RunOptions(client=client))


def test_a_closed_client_is_told(cluster):
    client = distributed.Client(cluster, set_as_default=False)
    client.close()
    with pytest.raises(ClusterError, match="closed"):
        run(Slow(), tiny_cube(), options=RunOptions(client=client))


def test_something_else_is_refused():
    with pytest.raises(ParameterError, match="not str"):
        run(Slow(), tiny_cube(), options=RunOptions(client="tcp://here"))


def test_arrays_in_memory_do_not_travel_whole(tmp_path):
    large = np.zeros((64, 96, 16, 17), np.uint16)
    cube = DataCube(large)
    assert not spread._travels(cube.data)
    assert not spread._travels(cube.crop(R=((1, 60), (0, 60))).data)
    assert spread._travels(np.zeros((2, 2, 2, 2)))
