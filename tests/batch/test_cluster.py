"""Files of a batch on a Dask cluster: as on one machine, and other files never suffer."""

import os
import signal
import sys
import textwrap
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM.batch import cluster as room
from py4DSTEM.batch.cluster import JobSettings, open_client
from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.batch.runner import run_recipe
from py4DSTEM.batch.worker import Job
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
import numpy as np
from py4DSTEM.batch import worker
from py4DSTEM.recipe import execute
before, opened = worker.process, execute.open_input
def process(job, say, stop):
    if job.source.endswith("a.h5"):
        if {what!r} == "crash":
            os.abort()
        if {what!r} == "hang":
            time.sleep(60)
    before(job, say, stop)
def open_input(recipe, path):
    kept = np.empty(190_000_000) if {what!r} == "eat" else None
    return opened(recipe, path)
worker.process, execute.open_input = process, open_input
worker.main()
"""


def on_every_worker(client, command, patience_s):
    """Set what a worker process is, and how long it may take to begin."""

    def change():  # a local function: workers cannot import this file
        from py4DSTEM.batch import cluster, pool

        pool.COMMAND, cluster.START_S = command, patience_s
        while cluster._IDLE:
            cluster._IDLE.pop()[0].kill()

    client.wait_for_workers(2, timeout=60)  # one may have been killed before
    client.run(change)


@pytest.fixture
def faulty(client, tmp_path):
    """Let the worker processes of the cluster do something bad with the first file."""

    def use(what, patience_s=60.0):
        path = tmp_path / "faulty.py"
        path.write_text(textwrap.dedent(FAULTY.format(what=what)))
        on_every_worker(client, (sys.executable, str(path)), patience_s)

    yield use
    on_every_worker(client, (sys.executable, "-m", "py4DSTEM.batch.worker"), room.START_S)


def test_a_file_that_crashes_is_one_red_row(client, files, faulty):
    faulty("crash")
    summary = run(files, "out", client=client)
    assert [row.state for row in summary.files] == ["failed", "failed", "done"]
    assert "died (signal 6)" in summary.files[0].error


def test_a_process_that_never_begins_is_given_up(client, files, faulty):
    faulty("hang", patience_s=12.0)
    summary = run(files, "out", client=client)
    assert [row.state for row in summary.files] == ["failed", "failed", "done"]


def test_memory_is_limited_there_too(client, files, faulty):
    """Each file takes 1.5 GB: of 2 GB for two at the same time that is too much, of 6 it is not."""
    faulty("eat")
    summary = run(files, "out", client=client, memory="2 GB")
    assert [row.cause for row in summary.files] == ["memory"] * 3
    summary = run(files, "out", client=client, memory="6 GB", resume=True)
    assert [row.state for row in summary.files] == ["done", "failed", "done"]


def there(limit, threads):
    """A Dask worker, of which only the memory counts."""
    manager = SimpleNamespace(memory_limit=limit)
    return SimpleNamespace(memory_manager=manager, state=SimpleNamespace(nthreads=threads))


@pytest.mark.parametrize(
    ("asked", "limit", "threads", "given"),
    [(None, 8_200_000_000, 4, 2_000_000_000), (3_000_000_000, 8_200_000_000, 4, 2_000_000_000),
     (1_500_000_000, 8_200_000_000, 4, 1_500_000_000), (1_500_000_000, None, 4, 1_500_000_000),
     (None, 2_000_000_000, 8, 1_000_000_000), (None, None, 1, None)],
)  # fmt: skip
def test_memory_of_a_file_is_what_is_allowed_and_there(asked, limit, threads, given):
    job = Job("", "a.h5", "out", memory_bytes=asked)
    assert room._fitted(job, there(limit, threads)).memory_bytes == given


def test_no_more_files_than_the_memory_is_enough_for(client):
    assert room.ClusterPool(client, 1).size == 2
    assert room.ClusterPool(client, 1, 1_900_000_000).size == 1


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
    settings = JobSettings(4, "8 GB", "01:00:00", queue="gpu", account="em7")
    with room._queued("slurm", 0, settings) as made:
        script, address = made.job_script(), made.scheduler_address
    asked = {line.removeprefix("#SBATCH ") for line in script.splitlines() if "#SBATCH" in line}
    assert asked >= {"-n 1", "--cpus-per-task=4", "--mem=8G", "-t 01:00:00", "-p gpu", "-A em7"}
    command = script.splitlines()[-1] or script.splitlines()[-2]
    assert command.startswith(f"{sys.executable} -m distributed.cli.dask_worker {address} ")
    count, threads = (int(word_after(command, f"--{name}")) for name in ("nworkers", "nthreads"))
    assert count * threads == 4


def word_after(text, option):
    words = text.split()
    return words[words.index(option) + 1]


@pytest.mark.parametrize(
    ("kind", "line"),
    [("pbs", "#PBS -A em7"), ("sge", "#$ -P em7"), ("lsf", '#BSUB -P "em7"')],
)
def test_an_account_has_other_names_elsewhere(kind, line):
    pytest.importorskip("dask_jobqueue")
    settings = JobSettings(2, "4 GB", "01:00:00", account="em7")
    with room._queued(kind, 0, settings) as made:
        assert line in made.job_script().splitlines()


def test_what_a_batch_system_does_not_know_is_said(monkeypatch):
    jobqueue = pytest.importorskip("dask_jobqueue")

    def refuse(**words):
        raise ValueError(f"Got unexpected keyword argument {sorted(words)[-1]!r}.\nAnd so on")

    monkeypatch.setattr(jobqueue, "HTCondorCluster", refuse)
    settings = JobSettings(2, "4 GB", walltime="01:00:00")
    with pytest.raises(ParameterError, match=r"^htcondor: .*'walltime'\.$"):
        room._queued("htcondor", 0, settings)


def test_settings_that_are_not_given_are_left_to_the_configuration():
    assert JobSettings(cores=2).given() == {"cores": 2}
    assert replace(JobSettings(), queue="gpu").given() == {"queue": "gpu"}
