"""Files of a batch on a Dask cluster: as on one machine, and other files never suffer."""

import os
import signal
import sys
import textwrap
import threading
from dataclasses import replace

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM.batch import cluster as room
from py4DSTEM.batch.cluster import JobSettings, open_client
from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.batch.runner import run_recipe
from py4DSTEM.errors import ClusterError, DependencyMissing, ParameterError
from py4DSTEM.testing.operations import arrays_of, tiny_cube

distributed = pytest.importorskip("distributed")

RECIPE = """
schema = 1
name = "images"
[[step]]
use = "mean-pattern"
name = "mean"
[[step]]
use = "center-of-mass"
name = "com"
[limits]
retries = 0
"""


@pytest.fixture(scope="module")
def client():
    with open_client("local", workers=2) as made:
        yield made


@pytest.fixture
def files(tmp_path):
    """Two scans and, between them, something that is none."""
    for seed, name in enumerate("ac"):
        cube = tiny_cube(seed=seed)
        py4DSTEM.save(tmp_path / f"{name}.h5", py4DSTEM.DataCube(np.array(cube.data)))
    (tmp_path / "b.h5").write_bytes(b"\x89HDF\r\n\x1a\nand no more")
    (tmp_path / "images.toml").write_text(RECIPE)
    return tmp_path


def run(files, out, **more):
    inputs = [files / f"{name}.h5" for name in "abc"]
    return run_recipe(files / "images.toml", inputs, files / out, **more)


def bits(folder):
    directory = RunDirectory(folder)
    return {
        (row.name, name): [(n, a.tobytes()) for n, a in arrays_of(value)]
        for row in directory.files()
        for name, value in directory.results(row).items()
    }


def test_the_results_are_those_of_one_machine(client, files):
    here = run(files, "here")
    there = run(files, "there", client=client)
    assert [row.state for row in there.files] == ["done", "failed", "done"]
    assert [row.error for row in there.files] == [row.error for row in here.files]
    assert bits(files / "there") == bits(files / "here")
    assert len(bits(files / "there")) == 4


def test_nothing_is_computed_again(client, files):
    first = run(files, "out", client=client)
    second = run(files, "out", client=client, resume=True)
    assert (first.computed, second.computed) == (4, 0)


def test_a_dask_worker_that_is_killed_costs_no_file(client, files):
    def kill(done, total, label):
        if done == 0:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    summary = run(files, "out", client=client, progress=kill)
    assert [row.state for row in summary.files] == ["done", "failed", "done"]


FAULTY = """
import os, sys, time
from py4DSTEM.batch import worker
before = worker.process
def process(job, say, stop):
    if job.source.endswith("a.h5"):
        if {crash!r}:
            os.abort()
        time.sleep(60)
    before(job, say, stop)
worker.process = process
worker.main()
"""


def on_every_worker(client, command, patience_s):
    """Set what a worker process is, and how long it may take to begin."""

    def change():  # a local function: workers cannot import this file
        from py4DSTEM.batch import cluster, pool

        pool.COMMAND, cluster.START_S = command, patience_s
        while cluster._IDLE:
            cluster._IDLE.pop()[0].kill()

    client.run(change)


@pytest.fixture
def faulty(client, tmp_path):
    """Let the worker processes of the cluster do something bad with the first file."""

    def use(crash, patience_s):
        path = tmp_path / "faulty.py"
        path.write_text(textwrap.dedent(FAULTY.format(crash=crash)))
        on_every_worker(client, (sys.executable, str(path)), patience_s)

    yield use
    on_every_worker(client, (sys.executable, "-m", "py4DSTEM.batch.worker"), room.START_S)


def test_a_file_that_crashes_is_one_red_row(client, files, faulty):
    faulty(crash=True, patience_s=60.0)
    summary = run(files, "out", client=client)
    assert [row.state for row in summary.files] == ["failed", "failed", "done"]
    assert "died (signal 6)" in summary.files[0].error


def test_a_process_that_never_begins_is_given_up(client, files, faulty):
    faulty(crash=False, patience_s=12.0)
    summary = run(files, "out", client=client)
    assert [row.state for row in summary.files] == ["failed", "failed", "done"]


def test_cancel_ends_the_run_to_be_resumed(client, files):
    cancel = threading.Event()
    cancel.set()
    summary = run(files, "out", client=client, cancel=cancel)
    assert summary.interrupted
    again = run(files, "out", client=client, resume=True)
    assert len(again.done) == 2


@pytest.mark.parametrize("where", ["", "host:8786", "kubernetes", "http://host"])
def test_no_such_cluster(where):
    with pytest.raises(ParameterError, match="slurm"), open_client(where):
        pass


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(room, "CONNECT_S", 0.3)
    answer = pytest.raises(ClusterError, match="no scheduler answers at tcp://127")
    with answer, open_client("tcp://127.0.0.1:9"):
        pass


def test_a_batch_system_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    answer = pytest.raises(DependencyMissing, match=r"dask-jobqueue.*py4DSTEM\[cluster\]")
    with answer, open_client("slurm"):
        pass


def test_a_batch_system_gets_what_was_asked_for():
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(ParameterError, match=r"slurm: .*jobqueue.yaml"), open_client("slurm"):
        pass
    settings = JobSettings(cores=4, memory="8 GB", walltime="01:00:00")
    with room._queued("slurm", 0, settings) as made:
        script = made.job_script()
    assert "--cpus-per-task=4" in script and "-t 01:00:00" in script and "--mem=8G" in script


def test_settings_that_are_not_given_are_left_to_the_configuration():
    assert JobSettings(cores=2).given() == {"cores": 2}
    assert replace(JobSettings(), queue="gpu").given() == {"queue": "gpu"}
