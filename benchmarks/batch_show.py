"""A night of strain maps: broken files, a killed runner, a killed worker, and the same bits.

    python benchmarks/batch_show.py [--files 20] [--workers 2] [--lanes calm,local,dask]

Simulates scans, three of them broken, and runs the recipe ``strain`` over them: undisturbed, on
local workers and on a Dask cluster on this machine.  Of the last two the runner is killed (-9) when
a third is done, the run resumed, a worker killed when two thirds are done (with Dask the process of
the Dask worker), and what is then missing resumed.  Prints a table and the rows that failed.

"again" are steps that were done at a kill and have been computed once more; "in flight" are stages
that may have been begun by a process that was killed, and are begun again: one for each worker.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import py4DSTEM
from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.recipe.templates import template_path
from py4DSTEM.simulate import strained_lattice
from py4DSTEM.testing.operations import arrays_of

SCAN, DETECTOR = (12, 14), (96, 96)
WORKER = "py4DSTEM.batch.worker"
BROKEN = 3
GONE_S = 60.0
LANES = {"calm": [], "local": [], "dask": ["--cluster", "local"]}


def make_files(folder: Path, count: int) -> list[Path]:
    """Scans with noise of their own; three of them are broken in different ways."""
    paths = [folder / f"scan_{k:02d}.h5" for k in range(count)]
    for k, path in enumerate(paths):
        py4DSTEM.save(path, strained_lattice(SCAN, DETECTOR, dose=40_000, seed=k).cube)
    cut, text, dark = paths[count // 5], paths[count // 2], paths[-3]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    text.write_text("the microscope was busy\n")
    dark.unlink()
    py4DSTEM.save(dark, py4DSTEM.DataCube(np.zeros((*SCAN, *DETECTOR), np.uint16)))
    return paths


# ---- processes -----------------------------------------------------------------------------------
def descendants(pid: int) -> list[int]:
    """All processes that a process has started, directly or not."""
    words: list[str] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            words += thread.read_text().split()
    return [p for word in words for p in (int(word), *descendants(int(word)))]


def words_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def left_over(pids: list[int]) -> list[int]:
    """Those of the processes that are still alive after a while."""
    until = time.monotonic() + GONE_S
    alive = pids
    while alive and time.monotonic() < until:
        alive = [pid for pid in alive if words_of(pid)]
        time.sleep(0.1)
    return alive


# ---- a run that is disturbed ---------------------------------------------------------------------
@dataclass
class Night:
    """One run directory and what is done to those who work in it."""

    lane: str
    recipe: Path
    inputs: list[Path]
    out: Path
    workers: int
    kills: list[str] = field(default_factory=list)
    in_flight: int = 0
    orphans: int = 0
    code: int = -1
    seconds: float = 0.0
    _records: dict[Path, int] = field(default_factory=dict)

    def start(self) -> subprocess.Popen[bytes]:
        resume = ["--resume"] if (self.out / "run.toml").exists() else []
        words = ["run", self.recipe, *self.inputs, "-o", self.out, "-j", str(self.workers)]
        words += ["--retries", "2", "--progress", "none", *LANES[self.lane], *resume]
        return subprocess.Popen(
            [sys.executable, "-m", "py4DSTEM.cli", *map(str, words)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, *moments: tuple[float, str]) -> None:
        """Run to the end; after shares of the files a process is killed, and the run goes on."""
        begun = time.monotonic()
        process = self.start()
        for share, victim in moments:
            while process.poll() is None and self._last_steps() < share * (
                len(self.inputs) - BROKEN
            ):
                time.sleep(0.02)
            self._kill(process, victim)
            if victim == "runner":
                process = self.start()
        self.code = process.wait()
        self.seconds = time.monotonic() - begun

    def again(self) -> int:
        """Steps that were done at a kill, and have been written anew since."""
        now = self.done()
        return sum(now.get(path) != written for path, written in self._records.items())

    def done(self) -> dict[Path, int]:
        """The records of the steps that are done, and when each was written."""
        return {path: path.stat().st_mtime_ns for path in self.out.glob("files/*/*/step.json")}

    def _last_steps(self) -> int:
        return len(list(self.out.glob("files/*/strain-*/step.json")))

    def _kill(self, process: subprocess.Popen[bytes], victim: str) -> None:
        family = descendants(process.pid)
        busy = [pid for pid in family if WORKER in words_of(pid)]
        if process.poll() is not None or not busy:
            process.terminate()
            raise SystemExit(f"{self.lane}: nothing left to kill, take more files")
        self._records |= self.done()
        dask = self.lane == "dask"
        target = process.pid if victim == "runner" else parent(busy[0]) if dask else busy[0]
        os.kill(target, signal.SIGKILL)
        self.kills.append("Dask worker" if dask and victim == "worker" else victim)
        self.in_flight += len(busy) if victim == "runner" else 1
        if victim == "runner":
            process.wait()
            self.orphans += len(left_over(family))


# ---- results -------------------------------------------------------------------------------------
def bits(out: Path) -> dict[tuple[str, str], str]:
    """File and step → hash of all arrays and numbers of the result."""
    run = RunDirectory(out)
    return {
        (row.name, step): hashed(value)
        for row in run.files()
        for step, value in run.results(row).items()
    }


def hashed(value: object) -> str:
    digest = hashlib.sha256()
    for name, array in arrays_of(value):
        digest.update(f"{name} {array.shape} {array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def table(nights: list[Night], wanted: dict[tuple[str, str], str]) -> str:
    """A row per lane."""
    head = ("lane", "done", "failed", "exit code", "killed", "again", "in flight", "orphans",
            "results", "identical", "seconds")  # fmt: skip
    rows: list[tuple[object, ...]] = [head, ("---",) * len(head)]
    for night in nights:
        found, files = bits(night.out), RunDirectory(night.out).files()
        states = [row.state for row in files]
        rows.append(
            (night.lane, states.count("done"), states.count("failed"), night.code,
             ", ".join(night.kills) or "none", night.again(), night.in_flight, night.orphans,
             len(found), "yes" if found == wanted else "NO", round(night.seconds))
        )  # fmt: skip
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def failed(night: Night) -> str:
    """The rows that failed, with the cause."""
    rows = [row for row in RunDirectory(night.out).files() if row.state == "failed"]
    return "\n".join(
        f"| {Path(row.source).name} | {row.cause} | {row.error.splitlines()[0]} |" for row in rows
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lanes", default="calm,local,dask")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = make_files(folder, options.files)
        nights = []
        for lane in options.lanes.split(","):
            recipe = template_path("strain")
            night = Night(lane, recipe, inputs, folder / lane, options.workers)
            night.run(*(() if lane == "calm" else ((1 / 3, "runner"), (2 / 3, "worker"))))
            nights.append(night)
            print(f"{lane}: exit code {night.code}, {night.seconds:.0f} s", flush=True)
        wanted = bits(nights[0].out)
        print(table(nights, wanted).replace(name, ""))
        causes = {failed(night).replace(name + "/", "") for night in nights}
        print("\n| file | cause | in words |\n| --- | --- | --- |")
        print("\n\n".join(sorted(causes)))
        same = all(bits(night.out) == wanted for night in nights) and len(causes) == 1
        return 0 if same and not any(night.again() for night in nights) else 1


if __name__ == "__main__":
    sys.exit(main())
