"""Two files at the same time against one after the other, and the memory that a run takes (C5).

    python benchmarks/batch_scaling.py [--files 8] [--rounds 3]
    python benchmarks/batch_scaling.py --mem "2 GB"

The first runs the recipe ``strain`` over simulated scans, in turn on one core with ``-j 1`` and on
two with ``-j 2``, and prints medians of the time and of the processor time of all processes.  On a
machine that has other work to do only the latter says something: twice its ratio is the speed-up
that two idle cores can give.  The second runs first-look operations with ``-j 2`` over scans that
are larger than the memory, and prints the largest resident memory of all processes together.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import py4DSTEM
from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.recipe.templates import template_path
from py4DSTEM.simulate import strained_lattice
from py4DSTEM.stream.options import parse_bytes

LOOK = """schema = 1
[[step]]
use = "mean-pattern"
name = "mean"
[[step]]
use = "center-of-mass"
name = "com"
[[step]]
use = "virtual-images"
name = "images"
detectors = { bf = { kind = "disk", center = [64, 64], radius = 20 } }
"""


def run(recipe: Path, files: list[Path], out: Path, *words: str) -> subprocess.Popen[bytes]:
    command = ["run", recipe, *files, "-o", out, "--progress", "none", *words]
    return subprocess.Popen(
        [sys.executable, "-m", "py4DSTEM.cli", *map(str, command)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


# ---- two against one -----------------------------------------------------------------------------
def timed(recipe: Path, files: list[Path], out: Path, cores: set[int]) -> tuple[float, float]:
    """Seconds, and seconds of processors, of the runner and its workers."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    before, started = os.times(), time.perf_counter()
    process = run(recipe, files, out, "-j", str(len(cores)))
    os.sched_setaffinity(0, usual)
    if process.wait() != 0:
        raise SystemExit(f"{out.name} failed")
    seconds, after = time.perf_counter() - started, os.times()
    used = sum(after[k] - before[k] for k in (2, 3))
    return seconds, used


def scaling(folder: Path, count: int, rounds: int) -> None:
    files = []
    for k in range(count):
        files.append(folder / f"s{k}.h5")
        made = strained_lattice((32, 32), (128, 128), dose=40_000, seed=k)
        py4DSTEM.save(files[-1], made.cube)
    recipe = template_path("strain")
    cores = sorted(os.sched_getaffinity(0))[:2]
    lanes = {"-j 1, one core": set(cores[:1]), "-j 2, two cores": set(cores)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in lanes}
    for turn in range(rounds):
        for k, (name, where) in enumerate(lanes.items()):
            found[name].append(timed(recipe, files, folder / f"out{turn}{k}", where))
    medians = {
        name: [statistics.median(values) for values in zip(*times, strict=True)]
        for name, times in found.items()
    }
    print("| | seconds | processor seconds |\n| --- | --- | --- |")
    for name, (seconds, used) in medians.items():
        print(f"| {name} | {seconds:.1f} | {used:.1f} |")
    (wall1, used1), (wall2, used2) = medians.values()
    print(f"speed-up {wall1 / wall2:.2f}; by processor time {2 * used1 / used2:.2f}")


# ---- memory --------------------------------------------------------------------------------------
def resident_bytes(pid: int) -> int:
    """Of a process and all that it has started; what they share counts once."""
    total = 0
    for one in (pid, *descendants(pid)):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon"))
    return total


def descendants(pid: int) -> list[int]:
    words: list[str] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            words += path.read_text().split()
        except OSError:
            continue
    return [p for word in words for p in (int(word), *descendants(int(word)))]


def memory(folder: Path, cap: str) -> None:
    limit = parse_bytes(cap)
    files = []
    for k in range(2):
        files.append(folder / f"m{k}.npy")
        rows = int(limit * 1.2 / 2 / (256 * 128 * 128 * 2)) + 1
        scan = np.lib.format.open_memmap(files[-1], "w+", np.uint16, (rows, 256, 128, 128))
        block = np.random.default_rng(k).poisson(5, (256, 128, 128)).astype(np.uint16)
        for row in scan:
            row[...] = block
        scan.flush()
        del scan
    recipe = folder / "look.toml"
    recipe.write_text(LOOK)
    process = run(recipe, files, folder / "mem", "-j", "2", "--mem", cap)
    peak, stop = 0, threading.Event()
    while process.poll() is None:
        peak = max(peak, resident_bytes(process.pid))
        stop.wait(0.02)
    rows_done = RunDirectory(folder / "mem").files()
    size = sum(path.stat().st_size for path in files)
    print(f"{size / 1e9:.2f} GB of scans, --mem {cap} -j 2: {[row.state for row in rows_done]}, "
          f"at most {peak / 1e9:.2f} GB of all processes")  # fmt: skip
    for row in rows_done:
        print(f"  {Path(row.source).name}: {(row.rss_bytes or 0) / 1e9:.2f} GB with mapped files")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mem", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.mem:
            memory(Path(name), given.mem)
        else:
            scaling(Path(name), given.files, given.rounds)


if __name__ == "__main__":
    main()
