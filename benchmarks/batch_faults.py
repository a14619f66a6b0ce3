"""Batch runs whose processes are killed at random times, and the cost of the runner (C2, C3, C5).

    python benchmarks/batch_faults.py --runner 80 --worker 70 --scheduler 50
    python benchmarks/batch_faults.py --cost

The first kills (-9) the runner, a worker process, or the scheduler of a Dask cluster, at random
moments, and resumes until all files are done.  It prints how many stages were begun twice, and how
many rounds did not end with the bits of an undisturbed run, with every file done and no process
left over.  The second prints what a file costs beyond
its steps, how long a dry run of 10 000 files takes, and the report of 100.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "batch"))
from batchkit import RECIPE, Disturbed, assert_same, leftovers, write_scan

import py4DSTEM
from py4DSTEM.batch.dry import dry_run
from py4DSTEM.batch.inputs import find_inputs
from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.batch.runner import RunSettings, run_recipe
from py4DSTEM.recipe.read import read_recipe

LOST = 2
"""Exit code of a run whose scheduler is gone."""


class Nights:
    """Runs over ten files that are killed, resumed and compared with an undisturbed one."""

    def __init__(self, folder: Path, seed: int, longest_s: float) -> None:
        self._folder, self._longest_s = folder, longest_s
        self._rng = np.random.default_rng(seed)
        self._scans = [write_scan(folder / f"s{k}.h5", k) for k in range(10)]
        self._recipe = folder / "look.toml"
        self._recipe.write_text(RECIPE)
        run_recipe(self._recipe, self._scans, folder / "calm")
        self.wrong = 0
        self._rounds = 0

    def local(self, victim: str, count: int) -> None:
        """Kill the runner, or a worker, so many times; workers are two."""

        def until_killed(night: Disturbed, most: int) -> int:
            several = 1 if victim == "runner" else min(4, most)
            return night.run(*((victim, self._moment()) for _ in range(several)))

        self._kill(victim, count, until_killed, Disturbed.run)

    def dask(self, count: int) -> None:
        """Kill the scheduler of a Dask cluster so many times."""

        def until_killed(night: Disturbed, most: int) -> int:
            code = night.run_without_scheduler(self._moment())
            if code not in (0, LOST):
                raise SystemExit(f"exit code {code} without a scheduler: {night.said}")
            return code

        self._kill("scheduler", count, until_killed, Disturbed.run_on_cluster)

    def _moment(self) -> float:
        return float(self._rng.uniform(0, self._longest_s))

    def _kill(self, victim: str, count: int, until_killed: Any, to_the_end: Any) -> None:
        done = again = rounds = wrong = 0
        started = time.monotonic()
        while done < count:
            place = self._folder / f"round{self._rounds}"
            place.mkdir()
            night = Disturbed(
                self._recipe, self._scans, place / "out", log=place / "stages", slow_s=0.05
            )
            code = 1
            while code != 0 and done + night.kills < count:
                before = _steps(place)
                code = until_killed(night, count - done - night.kills)
                # Or a busy machine would never come to an end.
                self._longest_s *= 1.5 if _steps(place) == before else 0.7
            code = to_the_end(night) if code != 0 else code
            done += night.kills
            again += night.stages_again(stages=2 * len(self._scans))
            rounds, self._rounds = rounds + 1, self._rounds + 1
            wrong += not self._right(place / "out", night, code)
            shutil.rmtree(place)
            print(f"{victim}: {done} of {count}", file=sys.stderr, flush=True)
        self.wrong += wrong
        seconds = round(time.monotonic() - started)
        print(f"| {victim} | {done} | {rounds} | {again} | {wrong} | {seconds} |", flush=True)

    def _right(self, out: Path, night: Disturbed, code: int) -> bool:
        try:
            assert_same(self._folder / "calm", out)
        except AssertionError as error:
            print(error)
            return False
        rows = RunDirectory(out).files()
        again = night.stages_again(stages=2 * len(self._scans))
        unfinished = [path for path in leftovers(out) if (path / "step.json").exists()]
        reasons = {
            f"exit code {code}: {night.said}": code != 0,
            "a file is not done": any(row.state != "done" for row in rows),
            f"{again} stages again after {night.kills} kills": again > night.kills,
            f"left over: {unfinished}": bool(unfinished),
            f"alive: {night.orphans()}": bool(night.orphans()),
        }
        for reason in (words for words, holds in reasons.items() if holds):
            print(reason, flush=True)
        return not any(reasons.values())


def _steps(place: Path) -> int:
    return len(list(place.glob("out/files/*/*/step.json")))


def kills(counts: Mapping[str, int], folder: Path, seed: int, longest_s: float) -> int:
    """A row for each of those that are killed; how many rounds went wrong."""
    nights = Nights(folder, seed, longest_s)
    print("| killed | times | rounds | stages begun again | rounds that went wrong | seconds |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for victim, count in counts.items():
        if count:
            nights.dask(count) if victim == "scheduler" else nights.local(victim, count)
    return nights.wrong


def cost(folder: Path) -> None:
    """What the runner adds to a file, a dry run of many, and the report of a hundred."""
    scans = [write_scan(folder / f"c{k:02d}.h5", k) for k in range(40)]
    recipe = folder / "look.toml"
    recipe.write_text(RECIPE)
    times, used = {}, {}
    for count in (1, 40):
        start, before = time.perf_counter(), _processor_s()
        run_recipe(recipe, scans[:count], folder / f"out{count}")
        times[count], used[count] = time.perf_counter() - start, _processor_s() - before
    each, cpu = (times[40] - times[1]) / 39, (used[40] - used[1]) / 39
    print(f"first file {times[1]:.2f} s ({used[1]:.2f} s of processors); each further file of 3 "
          f"steps {each * 1e3:.0f} ms ({cpu * 1e3:.0f} ms of processors)")  # fmt: skip
    start = time.perf_counter()
    run_recipe(recipe, scans, folder / "out40", resume=True)
    print(f"resume of 40 files that are done: {time.perf_counter() - start:.2f} s")
    names = []
    for k in range(10_000):
        names.append(folder / f"n{k}.h5")
        names[-1].touch()
    value = read_recipe(recipe)
    for out in (folder / "none", folder / "out40"):
        start, before = time.perf_counter(), _processor_s()
        plans = dry_run(value, find_inputs([*scans, *names]), out, RunSettings(resume=True))
        print(f"dry run of {len(plans)} files: {time.perf_counter() - start:.2f} s "
              f"({_processor_s() - before:.2f} s of processors)")  # fmt: skip
    _report(folder, 100)


def _report(folder: Path, count: int) -> None:
    """Noisy images of 128 x 96 positions, which pictures are large of."""
    rng = np.random.default_rng(0)
    scans = []
    for k in range(count):
        scans.append(folder / f"r{k:03d}.h5")
        patterns = rng.poisson(3, (128, 96, 16, 16)).astype(np.uint16)
        py4DSTEM.save(scans[-1], py4DSTEM.DataCube(patterns))
    recipe = folder / "report.toml"
    recipe.write_text(RECIPE.replace("report = false", "report = true"))
    run_recipe(recipe, scans, folder / "shown", workers=2)
    start, before = time.perf_counter(), _processor_s()
    py4DSTEM.write_report(folder / "shown")
    size = (folder / "shown" / "report.html").stat().st_size
    print(f"report of {count} files: {time.perf_counter() - start:.2f} s "
          f"({_processor_s() - before:.2f} s of processors), {size / 1e6:.1f} MB")  # fmt: skip


def _processor_s() -> float:
    """Of this process and of those that it has started and that have ended."""
    return sum(os.times()[:4])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for victim, count in {"runner": 80, "worker": 70, "scheduler": 50}.items():
        parser.add_argument(f"--{victim}", type=int, default=count, help="kills")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest",
        type=float,
        default=2.0,
        help="seconds from the begin of a stage to a kill, at first",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.cost:
            cost(Path(folder))
            return 0
        counts = {name: getattr(options, name) for name in ("runner", "worker", "scheduler")}
        return kills(counts, Path(folder), options.seed, options.longest)


if __name__ == "__main__":
    sys.exit(main())
