"""Iterative ptychography: this package and its peers, seconds per pass over all positions.

    python ptychography.py --data FOLDER --ours PYTHON [--py4dstem014 PYTHON] [--quantem PYTHON]
        [--ptyrad PYTHON] [--cases small large slices modes] [--threads 1] [--json FILE]

FOLDER is filled where it is empty: simulated scans with known truth, no rotation, 10 000 electrons
per position, float32 in memory: 32 x 32 positions of 64 x 64 pixels (small), 64 x 64 of 128 x 128
(large), a crystal of 8 slices (slices) and a source that is not a point, sought with 3 probe modes
(modes), both 32 x 32 of 64 x 64.  Batches of 64 positions, known defocus, each package with its
own optimizer and step.

Lanes are called in turns, a few passes a call.  Columns: seconds per pass by the clock and of the
processor (all threads of the process together): where other programs use the machine only the
latter says something; how many times slower than the first lane, by processor; preparation; peak of
the memory that belongs to the process, the scan itself included; correlation of the phase with the
truth after so many passes.  The floor is the pairs of transforms that nobody can do without, one
per position and mode, and two per flight between slices.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import common
from workers import Lane, Variant, WorkerFailed, add_interpreters, interpreters, start_lane

PEERS = ("ours", "py4dstem014", "quantem", "ptyrad")
VARIANTS = (
    Variant("ours, gradient", "ours", "ptycho_ours.py"),
    Variant("ours, ePIE", "ours", "ptycho_ours.py", ("--way", "epie")),
    Variant("floor, our transforms", "ours", "ptycho_floor.py", ("--way", "ours")),
    Variant("floor, scipy", "ours", "ptycho_floor.py", ("--way", "scipy")),
    Variant("py4DSTEM 0.14, gradient descent", "py4dstem014", "ptycho_py4dstem014.py", slow=True),
    Variant("quantem, autograd", "quantem", "ptycho_quantem.py", ("--way", "autograd"), slow=True),
    Variant("quantem, analytic", "quantem", "ptycho_quantem.py", ("--way", "analytic"), slow=True),
    Variant("ptyrad", "ptyrad", "ptycho_ptyrad.py", slow=True),
)
HEADINGS = ("lane", "pass, s", "processor, s", "min", "n", "x ours", "prepare, s", "… processor",
            "MiB", "correlation (passes)", "others")  # fmt: skip
MAKE = """
import numpy as np, sys
from py4DSTEM import simulate
path, case = sys.argv[1:]
common = dict(energy_eV=300e3, semiangle_mrad=20.0, defocus_A=100.0, step_A=0.5, rotation_rad=0.0,
              dose=10_000, seed=3)
thick = dict(common, Q_pixel_size_A=1 / 16, slice_A=7.81)
if case == "small":
    scan = simulate.phase_object((32, 32), (64, 64), Q_pixel_size_A=1 / 16, **common)
elif case == "large":
    scan = simulate.phase_object((64, 64), (128, 128), Q_pixel_size_A=1 / 25.6, **common)
elif case == "slices":
    scan = simulate.thick_object((32, 32), (64, 64), thickness_A=62.48, **thick)
else:
    scan = simulate.thick_object((32, 32), (64, 64), thickness_A=7.81, source_size_A=0.35,
                                 focal_spread_A=25.0, **thick)
t = scan.truth
phase = t.phase if t.phase.ndim == 2 else t.detector_phase.sum(axis=0)
np.savez(path, data=np.asarray(scan.cube.data, np.float32), phase=phase, step_A=0.5,
         pixel_per_A=t.calibration.Q[0].step, energy_eV=300e3, semiangle_mrad=20.0,
         defocus_A=100.0, slices=8 if case == "slices" else 1, slice_A=7.81,
         modes=3 if case == "modes" else 1)
"""
TITLES = {
    "small": "32 x 32 positions of 64 x 64 pixels",
    "large": "64 x 64 positions of 128 x 128 pixels",
    "slices": "8 slices, 32 x 32 positions of 64 x 64 pixels",
    "modes": "3 probe modes, 32 x 32 positions of 64 x 64 pixels",
}


def ensure(folder: Path, case: str, python: str) -> Path:
    """The file of a case, made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"ptychography_{case}.npz"
    if not path.exists():
        subprocess.run([python, "-c", MAKE, str(path), case], check=True)
    return path


@dataclass
class Row:
    """What the calls of a lane gave."""

    lane: Lane
    memory_mib: float = 0.0
    calls: list[dict] = field(default_factory=list)

    def call(self, job: str) -> None:
        """One call; its parts and checks are kept."""
        try:
            answer = self.lane.worker.run(job)
        except WorkerFailed as error:
            self.lane.failed = str(error)
            return
        self.calls.append(
            {"job": job, "others": answer["others"], **answer["parts"], **answer["checks"]}
        )

    def figures(self) -> dict:
        """Medians, extremes, the way of the correlation; everything for the JSON file."""
        runs = [call for call in self.calls if call["job"] == "run"] or self.calls
        timed = {
            name: [call[name] for call in runs]
            for name in ("pass_s", "pass_cpu_s", "prepare_s", "prepare_cpu_s", "others")
        }
        return {
            **{name: statistics.median(values) for name, values in timed.items()},
            "min_cpu_s": min(timed["pass_cpu_s"]),
            "n": len(runs),
            "memory_MiB": self.memory_mib,
            "correlations": [(call["passes"], call["correlation"]) for call in self.calls],
            "calls": self.calls,
        }


def measure(rows: Sequence[Row], rounds: int, slow_rounds: int, pause: float) -> None:
    """Warm up every lane, then call them in turns."""
    for row in rows:
        print(f"warming up {row.lane.variant.name}", file=sys.stderr, flush=True)
        with common.MemoryPeak(row.lane.worker.pid) as peak:
            row.call("warm")
        row.memory_mib = peak.anonymous_mib
    for turn in range(rounds):
        for row in rows:
            variant = row.lane.variant
            if row.lane.failed or (variant.slow and turn >= slow_rounds):
                continue
            print(f"round {turn + 1}: {variant.name}", file=sys.stderr, flush=True)
            time.sleep(pause)
            row.call("run")


def started(
    variants: Sequence[Variant], pythons: dict[str, str], shared: Sequence[str], stack: ExitStack,
    result: common.Result,
) -> list[Row]:  # fmt: skip
    """A worker for every variant that can be had; preparation is inside the start."""
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    rows = []
    for variant in variants:
        print(f"starting {variant.name}", file=sys.stderr, flush=True)
        try:
            lane = start_lane(variant, pythons[variant.peer], shared, scratch)
        except WorkerFailed as error:
            result.note(f"{variant.name}: not measured ({error})")
            continue
        stack.enter_context(lane.worker)
        result.versions[variant.peer] = lane.worker.hello["versions"]
        rows.append(Row(lane))
    return rows


def report(case: str, threads: int, rows: Sequence[Row], result: common.Result) -> None:
    """The table of a case."""
    for row in rows:
        if row.lane.failed:
            result.note(f"{case}: {row.lane.variant.name}: failed ({row.lane.failed})")
    done = [(row.lane.variant.name, row.figures()) for row in rows if row.calls]
    ours = done[0][1]["pass_cpu_s"]
    table = [
        [name, f["pass_s"], f["pass_cpu_s"], f["min_cpu_s"], f["n"], f["pass_cpu_s"] / ours,
         f["prepare_s"], f["prepare_cpu_s"], f["memory_MiB"],
         ", ".join(f"{c:.3f} ({n})" for n, c in f["correlations"][1:] if c == c), f["others"]]
        for name, f in done
    ]  # fmt: skip
    print(
        f"\n### {TITLES[case]}, {threads} thread(s)\n\n{common.table(HEADINGS, table)}", flush=True
    )
    result.cases[f"{case}, {threads}"] = dict(done)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder; filled when empty")
    add_interpreters(parser, PEERS)
    parser.add_argument("--cases", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--only", nargs="+", help="lanes whose name holds one of these")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--passes", type=int, default=5, help="of a call")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow-rounds", type=int, default=2, help="rounds of the peers")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds of rest before a call")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    result = common.Result("iterative ptychography")
    pythons = interpreters(options, PEERS, result)
    variants = [
        Variant(v.name, v.peer, v.script, v.arguments, options.threads, v.slow)
        for v in VARIANTS
        if v.peer in pythons and (not options.only or any(w in v.name for w in options.only))
    ]
    for case in options.cases:
        path = ensure(options.data, case, pythons["ours"])
        shared = [f"--{name}={value}" for name, value in (
            ("scan", path), ("batch", options.batch), ("passes", options.passes),
            ("threads", options.threads),
        )]  # fmt: skip
        with ExitStack() as stack:
            rows = started(variants, pythons, shared, stack, result)
            measure(rows, options.rounds, options.slow_rounds, options.pause)
        report(case, options.threads, rows, result)
        result.write(options.json)


if __name__ == "__main__":
    main()
