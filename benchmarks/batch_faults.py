"""Batch runs whose processes are killed at random times, and the cost of the runner (C2, C3, C5).

    python benchmarks/batch_faults.py --kills 200
    python benchmarks/batch_faults.py --cost

The first prints how often the runner or a worker was killed, how many stages were computed twice,
and whether all results are those of an undisturbed run.  The second prints what a file costs beyond
its steps, and how long a dry run of 10 000 files takes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "batch"))
from batchkit import RECIPE, Disturbed, assert_same, leftovers, write_scan

from py4DSTEM.batch.dry import dry_run
from py4DSTEM.batch.inputs import find_inputs
from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.batch.runner import RunSettings, run_recipe
from py4DSTEM.recipe.read import read_recipe


def kills(count: int, folder: Path, seed: int, longest_s: float) -> int:
    """Rounds of killed runs until there were so many kills; how many rounds went wrong."""
    rng = np.random.default_rng(seed)
    scans = [write_scan(folder / f"s{k}.h5", k) for k in range(10)]
    recipe = folder / "look.toml"
    recipe.write_text(RECIPE)
    run_recipe(recipe, scans, folder / "calm")
    total = {"runner": 0, "worker": 0, "again": 0, "rounds": 0, "wrong": 0}
    while total["runner"] + total["worker"] < count:
        left = count - total["runner"] - total["worker"]
        place = folder / f"round{total['rounds']}"
        place.mkdir()
        night = Disturbed(recipe, scans, place / "out", log=place / "stages", slow_s=0.05)
        code = 1
        while code != 0 and night.kills < left:
            victims = ["worker"] * int(rng.integers(0, 4)) + ["runner"]
            code = night.run(*((victim, float(rng.uniform(0, longest_s))) for victim in victims))
        if code != 0:
            code = night.run()
        again = night.stages_again(stages=2 * len(scans))
        total["runner"] += night.killed["runner"]
        total["worker"] += night.killed["worker"]
        total["again"] += again
        total["rounds"] += 1
        right = code == 0 and _right(folder / "calm", place / "out", night, again)
        total["wrong"] += not right
        shutil.rmtree(place)
        print(total, flush=True)
    return total["wrong"]


def _right(calm: Path, out: Path, night: Disturbed, again: int) -> bool:
    try:
        assert_same(calm, out)
    except AssertionError as error:
        print(error)
        return False
    rows = RunDirectory(out).files()
    unfinished = [path for path in leftovers(out) if (path / "step.json").exists()]
    return all(r.state == "done" for r in rows) and again <= night.kills and not unfinished


def cost(folder: Path) -> None:
    """What the runner adds to a file, and a dry run of many."""
    scans = [write_scan(folder / f"c{k:02d}.h5", k) for k in range(40)]
    recipe = folder / "look.toml"
    recipe.write_text(RECIPE)
    times = {}
    for count in (1, 40):
        start = time.perf_counter()
        run_recipe(recipe, scans[:count], folder / f"out{count}")
        times[count] = time.perf_counter() - start
    each = (times[40] - times[1]) / 39
    print(f"first file {times[1]:.2f} s; each further file of 3 steps {each * 1e3:.0f} ms")
    start = time.perf_counter()
    run_recipe(recipe, scans, folder / "out40", resume=True)
    print(f"resume of 40 files that are done: {time.perf_counter() - start:.2f} s")
    names = []
    for k in range(10_000):
        names.append(folder / f"n{k}.h5")
        names[-1].touch()
    value = read_recipe(recipe)
    for out in (folder / "none", folder / "out40"):
        start = time.perf_counter()
        plans = dry_run(value, find_inputs([*scans, *names]), out, RunSettings(resume=True))
        print(f"dry run of {len(plans)} files: {time.perf_counter() - start:.2f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest", type=float, default=2.0, help="seconds from the begin of a stage to a kill"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.cost:
            cost(Path(folder))
            return 0
        return kills(options.kills, Path(folder), options.seed, options.longest)


if __name__ == "__main__":
    sys.exit(main())
