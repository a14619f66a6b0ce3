"""Worker processes of the benchmarks, driven from outside: start, ask, measure, stop.

A worker is one script of ``peers/`` in the interpreter of the package that it measures; it answers
JSON lines, see ``peers/protocol.py``. Only the standard library is used here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import common

HERE = Path(__file__).resolve().parent


class WorkerFailed(Exception):
    """A worker ended instead of answering."""


def ours_python_path(peer: str) -> str | None:
    """Where our worker imports from when the checkout is not installed."""
    return os.environ.get("BENCH_OURS_PYTHONPATH") if peer == "ours" else None


class Worker:
    """A peer's process, spoken to in JSON lines.

    Parameters
    ----------
    command : sequence of str
        Interpreter, script of ``peers/`` and its arguments.
    errors : Path
        Where its error output goes; the last line is the message when it dies.
    threads : int
        Threads that its libraries may use.
    python_path : str, optional
        PYTHONPATH of this process alone.
    """

    def __init__(
        self, command: Sequence[str], errors: Path, threads: int, python_path: str | None = None
    ) -> None:
        self._errors = errors
        with open(errors, "w") as file:
            self._process = subprocess.Popen(
                [*command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=common.clean_environment(threads, python_path),
            )
        self.pid = self._process.pid
        self.hello = self._read()

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        tail = self._errors.read_text().strip().splitlines()[-1:] or ["no message"]
        raise WorkerFailed(tail[0])

    def run(self, job: str) -> dict:
        """Run one job; returns the worker's answer and the cores that others used meanwhile."""
        busy, own = common.busy_seconds(), common.tree_seconds(self.pid)
        start = time.perf_counter()
        try:
            self._process.stdin.write(json.dumps({"do": "run", "job": job}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerFailed("the worker is gone") from error
        answer = self._read()
        elapsed = time.perf_counter() - start
        own = common.tree_seconds(self.pid) - own
        answer["others"] = max(0.0, (common.busy_seconds() - busy - own) / elapsed)
        answer["cpu"] = own
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            try:
                self._process.stdin.write('{"do": "quit"}\n')
                self._process.stdin.close()
                self._process.wait(timeout=20)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        self._process.stdout.close()


@dataclass(frozen=True)
class Variant:
    """One way to run one peer: a script of ``peers/`` and its arguments."""

    name: str
    peer: str
    script: str
    arguments: tuple[str, ...] = ()
    threads: int = 1
    slow: bool = False


@dataclass
class Lane:
    """One row of a table: a variant, its worker, and what its calls took and gave."""

    variant: Variant
    worker: Worker
    samples: common.Samples = field(default_factory=common.Samples)
    checks: dict = field(default_factory=dict)
    parts: dict = field(default_factory=dict)
    failed: str | None = None

    def call(self, job: str, keep: bool) -> None:
        """One call; the seconds are kept when it is not a warm-up."""
        try:
            answer = self.worker.run(job)
        except WorkerFailed as error:
            self.failed = str(error)
            return
        self.checks, self.parts = answer["checks"], answer["parts"]
        if keep:
            self.samples.seconds.append(answer["seconds"])
            self.samples.others.append(answer["others"])

    @property
    def median(self) -> float:
        """Median seconds of a call."""
        return self.samples.summary()["median"]

    def figures(self) -> dict:
        """Everything that was found, for the JSON file."""
        return {**self.samples.summary(), "checks": self.checks, "parts": self.parts}


def add_interpreters(parser: argparse.ArgumentParser, peers: Iterable[str]) -> None:
    """One option per peer; the environment variables BENCH_PYTHON_<PEER> are the defaults."""
    for peer in peers:
        default = os.environ.get(f"BENCH_PYTHON_{peer.upper()}")
        parser.add_argument(f"--{peer}", default=default, help=f"interpreter of {peer}")


def interpreters(
    options: argparse.Namespace, peers: Iterable[str], result: common.Result
) -> dict[str, str]:
    """The interpreters that were given; the others are noted as skipped."""
    given = {peer: getattr(options, peer) for peer in peers if getattr(options, peer)}
    for peer in peers:
        if peer not in given:
            result.note(f"{peer}: skipped, no interpreter given")
    if not given:
        raise SystemExit("Nothing to measure: give at least one interpreter, as --ours PYTHON")
    return given


@dataclass(frozen=True)
class Turns:
    """How often lanes are called: warm-up first, then in turns."""

    rounds: int = 5
    slow_rounds: int = 2
    pause: float = 0.3

    def run(self, lanes: Sequence[Lane], job: str) -> None:
        """Warm up every lane, then call a, b, c, a, b, c, ...; slow lanes in fewer rounds."""
        for lane in lanes:
            print(f"warming up {lane.variant.name}", file=sys.stderr, flush=True)
            lane.call(job, keep=False)
        for turn in range(self.rounds):
            for lane in lanes:
                if lane.failed or (lane.variant.slow and turn >= self.slow_rounds):
                    continue
                print(f"round {turn + 1}: {lane.variant.name}", file=sys.stderr, flush=True)
                time.sleep(self.pause)
                lane.call(job, keep=True)


def start_lane(variant: Variant, python: str, shared: Sequence[str], scratch: Path) -> Lane:
    """Start the worker of a variant; `shared` are the arguments that every lane of a case has."""
    command = [python, str(HERE / "peers" / variant.script), *shared, *variant.arguments]
    errors = scratch / f"{variant.name}.txt".replace("/", " per ")
    path = ours_python_path(variant.peer)
    return Lane(variant, Worker(command, errors, variant.threads, path))
