"""Bragg disks in patterns with known positions: this package against its peers.

    python bragg_disks.py --data FOLDER --ours PYTHON [--py4dstem014 PYTHON] [--libertem PYTHON]
                          [--quantem PYTHON] [--sizes 128 256] [--patterns 1000] [--json FILE]

FOLDER is filled by ``bragg_data.py`` where it is empty. Every lane is a worker process
(``peers/bragg_*.py``) with one thread, called in turns with the others; the last table compares
one and two workers of ours. Settings are the same for all: smoothing 2 px, spacing at least 0.6 of
the lattice, 4 px from the edge, a quarter of the weakest disk as threshold (ours keeps its own,
a significance; blobfinder is told the number of disks instead). Smoothing costs some peers
precision: they have a lane without.

Columns: milliseconds per pattern (median of the rounds), patterns per second, time over the floor
(``floor``: one real FFT, a product and the inverse of one pattern in cache, compiled, the same
run), recall, precision, root mean square error per coordinate of the disks that were found, that
over the Cramér–Rao bound (``bragg_data.cramer_rao_px``), largest mean error along x or y.

Interpreters can be given by BENCH_PYTHON_OURS and so on.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import bragg_data
import common
import numpy as np
from workers import (
    Lane,
    Turns,
    Variant,
    WorkerFailed,
    add_interpreters,
    interpreters,
    start_lane,
)

REPEATS = ("--repeats", "8")
"""Ours searches the patterns so often over: its fixed costs are those of a scan, not of 1000."""
PEERS = ("ours", "py4dstem014", "libertem", "quantem")
FLOOR = "floor: FFT, product, inverse"
HEADINGS = (
    "lane",
    "ms / pattern",
    "min",
    "max",
    "n",
    "patterns / s",
    "x floor",
    "recall",
    "precision",
    "rms px",
    "x bound",
    "bias px",
    "others",
)


def method(name: str, peer: str, script: str, how: str, slow: bool = False) -> Variant:
    """A variant that is one method of one package."""
    repeats = REPEATS if script == "ours" else ()
    return Variant(name, peer, f"bragg_{script}.py", ("--method", how, *repeats), slow=slow)


VARIANTS = (
    method(FLOOR, "ours", "floor", "fft"),
    method("ours, parabola", "ours", "ours", "parabola"),
    method("ours, dft", "ours", "ours", "dft"),
    method("ours, fit with sigmas", "ours", "ours", "fit"),
    method("py4DSTEM 0.14, poly", "py4dstem014", "py4dstem014", "poly", slow=True),
    method("py4DSTEM 0.14, poly, not smoothed", "py4dstem014", "py4dstem014", "poly-sharp", True),
    method("py4DSTEM 0.14, multicorr 16", "py4dstem014", "py4dstem014", "multicorr", slow=True),
    method("blobfinder, full", "libertem", "blobfinder", "full"),
    method("blobfinder, fast", "libertem", "blobfinder", "fast"),
    method("blobfinder, full, upsampled 16", "libertem", "blobfinder", "full-up", slow=True),
    method("quantem, parabolic", "quantem", "quantem", "parabolic", slow=True),
    method("quantem, upsample 16", "quantem", "quantem", "upsample", slow=True),
    method("quantem, parabolic, not smoothed", "quantem", "quantem", "parabolic-sharp", True),
    method("quantem, upsample 16, not smoothed", "quantem", "quantem", "upsample-sharp", True),
)


def worker_variants() -> list[Variant]:
    """Ours with one and with two workers, in pairs."""
    return [
        Variant(
            f"ours, {how}; {n} workers",
            "ours",
            "bragg_ours.py",
            ("--method", how, "--workers", str(n), *REPEATS),
            threads=n,
        )
        for how in ("parabola", "fit")
        for n in (1, 2)
    ]


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    data: Path
    pythons: dict[str, str]
    patterns: int
    turns: Turns
    only: Sequence[str]

    def chosen(self, variants: Sequence[Variant]) -> list[Variant]:
        """Those of the peers that were given, and the floor always."""
        known = [v for v in variants if v.peer in self.pythons]
        return [
            v
            for v in known
            if not self.only or v.name == FLOOR or any(word in v.name for word in self.only)
        ]


def measure(
    variants: Sequence[Variant], size: int, settings: Settings, result: common.Result
) -> list[Lane]:
    """Start the lanes of one case, call them in turns, and note those that fail."""
    file = ["--file", str(settings.data / f"disks{size}.npz")]
    shared = [*file, "--patterns", str(settings.patterns)]
    lanes = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for variant in settings.chosen(variants):
            try:
                lane = start_lane(variant, settings.pythons[variant.peer], shared, scratch)
            except WorkerFailed as error:
                result.note(f"{variant.name}: not measured ({error})")
                continue
            stack.enter_context(lane.worker)
            result.versions[variant.peer] = lane.worker.hello["versions"]
            lanes.append(lane)
        settings.turns.run(lanes, "disks")
    for lane in lanes:
        if lane.failed:
            result.note(f"{lane.variant.name}: failed at {size} px ({lane.failed})")
    return [lane for lane in lanes if lane.samples.seconds]


def bounds(path: Path, patterns: int) -> dict[str, float]:
    """Cramér–Rao bound and what the best possible fit reaches, px."""
    with np.load(path) as file:
        disks = {name: file[name] for name in file.files}
    for name in ("data", "positions", "amplitudes", "centers"):
        disks[name] = disks[name][:patterns]
    return {
        "cramer_rao_px": bragg_data.cramer_rao_px(disks),
        "likely_px": bragg_data.likely_px(disks),
    }


def row(lane: Lane, patterns: int, floor: float, bound: float) -> list[object]:
    """One line of the table of a case."""
    s, found = lane.samples.summary(), lane.checks
    count = found.get("patterns", patterns)
    times = [s[name] / count * 1e3 for name in ("median", "min", "max")]
    speed = [s["n"], count / s["median"], s["median"] / count / floor]
    rms = found.get("rms_px", math.nan)
    shares = [f"{found[name]:.4f}" if found else None for name in ("recall", "precision")]
    quality = [*shares, rms, rms / bound, found.get("bias_px", math.nan)]
    return [lane.variant.name, *times, *speed, *quality, s["others"]]


def run_size(size: int, settings: Settings, result: common.Result) -> None:
    """The lanes of all peers for one pattern size."""
    limits = bounds(settings.data / f"disks{size}.npz", settings.patterns)
    lanes = measure(VARIANTS, size, settings, result)
    medians = {
        lane.variant.name: lane.median / lane.checks.get("patterns", settings.patterns)
        for lane in lanes
    }
    floor = medians.get(FLOOR, math.nan)
    result.cases[f"disks{size}"] = {
        **limits,
        "patterns": settings.patterns,
        "lanes": {lane.variant.name: lane.figures() for lane in lanes},
        "times_floor": {name: median / floor for name, median in medians.items()},
    }
    rows = [row(lane, settings.patterns, floor, limits["cramer_rao_px"]) for lane in lanes]
    print(f"\n### {size} x {size} pixels, {settings.patterns} patterns of 21 disks, one thread\n")
    print(common.table(HEADINGS, rows))
    print(
        f"\nCramér–Rao bound {limits['cramer_rao_px']:.4f} px; maximum likelihood that knows all "
        f"but the position {limits['likely_px']:.4f} px.\n",
        flush=True,
    )


def run_workers(size: int, settings: Settings, result: common.Result) -> None:
    """Ours with one worker and with two."""
    lanes = measure(worker_variants(), size, settings, result)
    medians = {lane.variant.name: lane.median for lane in lanes}
    pairs = {}
    for name, median in medians.items():
        how, _, workers = name.partition("; ")
        if workers == "2 workers" and f"{how}; 1 workers" in medians:
            pairs[how] = medians[f"{how}; 1 workers"] / median
    result.cases[f"workers{size}"] = {
        "lanes": {lane.variant.name: lane.figures() for lane in lanes},
        "two_over_one": pairs,
    }
    rows = [[name, ratio] for name, ratio in pairs.items()]
    print(f"### {size} x {size} pixels, speed of two workers over one\n")
    print(common.table(["lane", "x one worker"], rows), "\n", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder; filled when empty")
    add_interpreters(parser, PEERS)
    parser.add_argument("--sizes", type=int, nargs="+", choices=(128, 256), default=[128, 256])
    parser.add_argument("--patterns", type=int, default=1000, help="per call, a multiple of 20")
    parser.add_argument("--only", nargs="+", default=[], help="keep lanes that contain a word")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slow-rounds", type=int, default=2, help="rounds of slow lanes")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds of rest before a call")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    result = common.Result("Bragg disks")
    pythons = interpreters(options, PEERS, result)
    bragg_data.ensure(options.data, 1000)
    turns = Turns(options.rounds, options.slow_rounds, options.pause)
    settings = Settings(options.data, pythons, options.patterns, turns, options.only)
    for size in options.sizes:
        run_size(size, settings, result)
        run_workers(size, settings, result)
        result.write(options.json)


if __name__ == "__main__":
    main()
