"""Tiny inputs, and what a run directory holds, for comparison."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import py4DSTEM
from py4DSTEM.batch.rundir import RunDirectory

RECIPE = """schema = 1
name = "look"
[[step]]
use = "mean-pattern"
name = "mean"
[[step]]
use = "virtual-images"
name = "images"
detectors = { bf = { kind = "disk", center = [4, 5], radius = 3 } }
[[step]]
use = "combine-images"
name = "image"
of = "images"
expression = "2 * bf"
[output]
report = false
"""


FAULTY = (
    "import sys; from py4DSTEM.batch import pool; "
    f"pool.COMMAND = (sys.executable, {str(Path(__file__).with_name('faulty_worker.py'))!r})"
)
"""Beginning of a program whose worker processes are those of `faulty_worker`."""


def write_scan(path: Path, seed: int = 0) -> Path:
    """A scan of (2, 3) patterns of (8, 10)."""
    patterns = np.random.default_rng(seed).poisson(4, (2, 3, 8, 10)).astype(np.uint16)
    py4DSTEM.save(path, py4DSTEM.DataCube(patterns))
    return path


def contents(out: Path) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """The numbers of all results: file → step → array."""
    directory = RunDirectory(out)
    return {
        row.name: {name: _numbers(value) for name, value in directory.results(row).items()}
        for row in directory.files()
    }


def _numbers(value: Any) -> np.ndarray[Any, Any]:
    return np.asarray(getattr(value, "data", value))


def assert_same(one: Path, other: Path) -> None:
    """Both hold the same bits for the same steps."""
    a, b = contents(one), contents(other)
    assert a.keys() == b.keys()
    for name, results in a.items():
        assert results.keys() == b[name].keys(), name
        for step, numbers in results.items():
            np.testing.assert_array_equal(numbers, b[name][step], err_msg=f"{name} {step}")


def leftovers(out: Path) -> list[Path]:
    """Unfinished files and folders."""
    return sorted(path for path in out.rglob("*.part-*"))


def times(out: Path) -> dict[Path, int]:
    """When every file was last changed, apart from what readers of the state share."""
    found = (path for path in out.rglob("*") if not path.name.endswith(("-shm", "-wal")))
    return {path: path.stat().st_mtime_ns for path in found}


class Disturbed:
    """A run on the command line whose processes are killed.

    Every stage that begins writes a line to `log`, so that what was done twice can be counted.
    """

    def __init__(
        self, recipe: Path, inputs: list[Path], out: Path, *, log: Path, slow_s: float
    ) -> None:
        self._words = ["run", str(recipe), *map(str, inputs), "-o", str(out), "--retries", "99"]
        self._out, self._log = out, log
        self.killed = {"runner": 0, "worker": 0, "scheduler": 0}
        self._program = f"{FAULTY}; from py4DSTEM.cli import main; sys.exit(main())"
        self._environment = {**os.environ, "STAGE_LOG": str(log), "SLOW_STEP_S": str(slow_s)}
        self._workers: set[int] = set()
        self._left: list[subprocess.Popen[bytes]] = []
        self.said = ""

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """The runner."""
        resume = ["--resume"] if (self._out / "run.toml").exists() else []
        return subprocess.Popen(
            [sys.executable, "-c", self._program, *self._words, *resume, *words],
            env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *moments: tuple[str, float]) -> int:
        """Run to the end; its exit code.

        Parameters
        ----------
        moments : (str, float)
            ``"worker"`` or ``"runner"``, and the seconds after the next stage has begun at which it
            is killed.
        """
        process = self.start()
        for victim, after_s in moments:
            self._wait_for_a_stage(process, after_s)
            self._workers.update(children(process.pid))
            targets = [process.pid] if victim == "runner" else children(process.pid)[:1]
            if process.poll() is None and targets:
                os.kill(targets[0], signal.SIGKILL)
                self.killed[victim] += 1
        return self._end(process)

    def run_without_scheduler(self, after_s: float, lanes: int = 1) -> int:
        """Run on a Dask cluster whose scheduler is killed, if the run is not over by then.

        The Dask worker is left alone; what it still does, it does beside the next run.
        """
        with Cluster(self._environment, lanes) as cluster:
            process = self.start("--cluster", cluster.address)
            self._wait_for_a_stage(process, after_s)
            self._workers.update(children(cluster.worker.pid))
            if process.poll() is None:
                cluster.scheduler.kill()
                self.killed["scheduler"] += 1
                self._left.append(cluster.worker)
            return self._end(process)

    def run_on_cluster(self, lanes: int = 1) -> int:
        """Run to the end on a Dask cluster; its exit code."""
        with Cluster(self._environment, lanes) as cluster:
            return self._end(self.start("--cluster", cluster.address))

    def _wait_for_a_stage(self, process: subprocess.Popen[bytes], after_s: float) -> None:
        begun = self.stages()
        while process.poll() is None and self.stages() == begun:
            time.sleep(0.01)
        time.sleep(after_s)

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        said = process.communicate(timeout=600)[1]
        self.said = said.decode()
        return process.returncode

    @property
    def kills(self) -> int:
        """Of both kinds."""
        return sum(self.killed.values())

    def stages(self) -> int:
        """How many have begun."""
        return len(self._log.read_text().splitlines()) if self._log.exists() else 0

    def stages_again(self, *, stages: int) -> int:
        """How many were begun more than once."""
        return self.stages() - stages

    def orphans(self, within_s: float = 5.0) -> list[int]:
        """Workers that are alive though their runner or Dask worker is not."""
        for worker in self._left:
            worker.wait(60)
        until = time.monotonic() + within_s
        while (alive := [pid for pid in self._workers if _alive(pid)]) and time.monotonic() < until:
            time.sleep(0.05)
        return alive


class Cluster:
    """A Dask scheduler and one worker, with faulty worker processes, of this machine.

    Parameters
    ----------
    environment : dict of str
        Of the worker.
    lanes : int
        Files at the same time.
    """

    def __init__(self, environment: dict[str, str], lanes: int) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        self.scheduler = _python(
            "import sys; from distributed.cli.dask_scheduler import main; main()",
            "--host", "127.0.0.1", "--port", port, "--no-dashboard", "--no-show",
        )  # fmt: skip
        self.worker = _python(
            f"{FAULTY}; from distributed.cli.dask_worker import main; main()",
            self.address, "--nthreads", str(lanes), "--no-nanny", "--no-dashboard",
            environment=environment,
        )  # fmt: skip

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *what: object) -> None:
        if self.scheduler.poll() is None:  # otherwise the worker is to end by itself
            self.worker.kill()
            self.worker.wait()
            self.scheduler.kill()
        self.scheduler.wait()


def _python(
    program: str, *words: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def free_port() -> int:
    """That nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
