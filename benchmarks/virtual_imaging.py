"""Bright field, dark field and centre of mass of one scan: this package against its peers.

    python virtual_imaging.py --data FOLDER --ours PYTHON [--libertem PYTHON] [--numba PYTHON]
                              [--py4dstem014 PYTHON] [--cases raw h5 ...] [--json FILE]

FOLDER is made by ``make_data.py``. Every peer is a worker process in its own interpreter
(``peers/``); in each round the lanes are called one after the other, so that a ratio compares
calls that lie seconds apart. An interpreter can also be given by the environment variables
BENCH_PYTHON_OURS, BENCH_PYTHON_LIBERTEM, BENCH_PYTHON_NUMBA and BENCH_PYTHON_PY4DSTEM014.

Cases
-----
raw      .npy in the page cache; bright field + dark field + centre of mass
h5       bitshuffle-LZ4 HDF5 in the page cache, the same job
cold     .npy whose pages were dropped before every call
coldh5   the same for HDF5
busy     .npy; each lane quiet, then with a process that spins on one core
busyh5   the same for HDF5
workers  .npy; one and two workers
many     .npy; five detectors + centre of mass + mean + maximum, against one detector
manyh5   the same for HDF5
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import common
from workers import Worker, WorkerFailed, add_interpreters, ours_python_path

HERE = Path(__file__).resolve().parent
PEERS = ("ours", "libertem", "numba", "py4dstem014")
CASES = ("raw", "h5", "cold", "coldh5", "busy", "busyh5", "workers", "many", "manyh5")
# What counts as the same answer: float32 sums are allowed, another detector edge is not.
TOLERANCE = {"images": 1e-5, "mean": 1e-5, "max": 0.0, "com_px": 1e-3}


# ---------------------------------------------------------------------------------------- workers
@dataclass(frozen=True)
class Variant:
    """One way to run one peer."""

    name: str
    peer: str
    arguments: tuple[str, ...] = ()
    slow: bool = False


def variants(peer: str, hdf5: bool) -> list[Variant]:
    """The ways in which a peer is measured with one kind of file."""
    if peer == "libertem":
        return [
            Variant(
                f"libertem {executor}, {style}", peer, ("--executor", executor, "--style", style)
            )
            for executor in ("inline", "pipelined", "dask")
            for style in ("udf", "stack")
        ]
    if peer == "numba" and hdf5:
        readers = ("direct", "h5py")
        return [Variant(f"numba, {reader}", peer, ("--reader", reader)) for reader in readers]
    if peer == "numba":
        return [Variant("numba loop", peer)]
    if peer == "py4dstem014":
        loaded = Variant("py4DSTEM 0.14, loaded", peer, ("--memory", "load"), slow=True)
        mapped = Variant("py4DSTEM 0.14, mapped", peer, ("--memory", "map"), slow=True)
        return [loaded] if hdf5 else [loaded, mapped]
    return [
        Variant("ours, masks", peer, ("--detectors", "masks")),
        Variant("ours, shapes", peer, ("--detectors", "shapes")),
        Variant("ours, masks, kept open", peer, ("--detectors", "masks", "--open", "once")),
        Variant("ours, shapes, kept open", peer, ("--detectors", "shapes", "--open", "once")),
    ]


@dataclass(frozen=True)
class Start:
    """With what a worker is started."""

    python: str
    folder: Path
    file: str
    workers: int
    errors: Path


def start_worker(variant: Variant, start: Start) -> Worker:
    """Start the process of one variant."""
    script = HERE / "peers" / f"{variant.peer}_peer.py"
    where = ["--folder", str(start.folder), "--file", start.file]
    size = ["--workers", str(start.workers)]
    command = [start.python, str(script), *where, *size, *variant.arguments]
    return Worker(command, start.errors, start.workers, ours_python_path(variant.peer))


# ------------------------------------------------------------------------------------------ lanes
@dataclass
class Lane:
    """One row of a table: a worker, a job, and what is done before and after each call."""

    name: str
    variant: Variant
    worker: Worker
    job: str
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None
    samples: common.Samples = field(default_factory=common.Samples)
    facts: dict = field(default_factory=dict)
    failed: str | None = None

    def call(self, keep: bool) -> None:
        """One call; the figures are kept when it is not a warm-up."""
        self.before()
        try:
            answer = self.worker.run(self.job)
        except WorkerFailed as error:
            self.failed = str(error)
            return
        finally:
            self.after()
        self.facts |= {"checks": answer["checks"], "parts": answer["parts"], "cpu": answer["cpu"]}
        if keep:
            self.samples.seconds.append(answer["seconds"])
            self.samples.others.append(answer["others"])

    def warm_up(self) -> None:
        """The first call: compiles, fills caches, and is where the memory is sampled."""
        with common.MemoryPeak(self.worker.pid) as peak:
            self.call(keep=False)
        self.facts |= {"anonymous_mib": peak.anonymous_mib, "shared_mib": peak.shared_mib}

    @property
    def agrees(self) -> bool:
        """True when every result equals the truth within the tolerance of its kind."""
        checks = self.facts.get("checks", {"none": 1.0})
        return all(value <= TOLERANCE.get(name, 0.0) for name, value in checks.items())


def run_lanes(lanes: list[Lane], rounds: int, slow_rounds: int, pause: float) -> None:
    """Warm up every lane, then call them in turns."""
    for lane in lanes:
        lane.warm_up()
    for turn in range(rounds):
        for lane in lanes:
            if lane.failed or (lane.variant.slow and turn >= slow_rounds):
                continue
            time.sleep(pause)
            lane.call(keep=True)


# ------------------------------------------------------------------------------------------ cases
@dataclass
class Settings:
    """What the command line says."""

    data: Path
    pythons: dict[str, str]
    workers: int
    rounds: int
    slow_rounds: int
    pause: float
    only: str | None

    def chosen(self, hdf5: bool) -> list[Variant]:
        """Variants of all peers that were given."""
        found = [v for peer in PEERS if peer in self.pythons for v in variants(peer, hdf5)]
        return [v for v in found if not self.only or any(x in v.name for x in self.only)]


def open_workers(
    stack: ExitStack, settings: Settings, hdf5: bool, counts: Iterable[int], result: common.Result
) -> list[tuple[Variant, int, Worker]]:
    """Start one worker per variant and thread count; what cannot start is noted and left out."""
    file = "scan_bslz4.h5" if hdf5 else "scan.npy"
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    found = []
    for variant in settings.chosen(hdf5):
        python = settings.pythons[variant.peer]
        for count in counts:
            errors = scratch / f"{variant.name}-{count}.txt"
            try:
                worker = start_worker(variant, Start(python, settings.data, file, count, errors))
            except WorkerFailed as error:
                result.note(f"{variant.name}: not measured ({error})")
                break
            stack.enter_context(worker)
            result.versions[variant.peer] = worker.hello["versions"]
            found.append((variant, count, worker))
    return found


def lanes_of(case: str, stack: ExitStack, settings: Settings, result: common.Result) -> list[Lane]:
    """The lanes of a case, with their workers running."""
    hdf5 = case.endswith("h5")
    kind = case.removesuffix("h5") or "raw"
    path = settings.data / ("scan_bslz4.h5" if hdf5 else "scan.npy")
    counts = (1, 2) if kind == "workers" else (settings.workers,)
    workers = open_workers(stack, settings, hdf5, counts, result)
    if kind == "workers":
        return [Lane(f"{v.name}; {n} workers", v, w, "basic") for v, n, w in workers]
    if kind == "cold":
        cached: list[float] = result.cases.setdefault(case, {}).setdefault("cached_before", [])

        def cool() -> None:
            common.drop_cache(path)
            cached.append(round(common.cached_fraction(path), 3))

        return [Lane(v.name, v, w, "basic", before=cool) for v, _, w in workers]
    if kind == "many":
        jobs = ("one", "many")
        return [Lane(f"{v.name}; {job}", v, w, job) for v, _, w in workers for job in jobs]
    if kind == "busy":
        resume, pause = stack.enter_context(common.busy_core())
        lanes = []
        for v, _, w in workers:
            lanes.append(Lane(f"{v.name}; quiet", v, w, "basic"))
            lanes.append(Lane(f"{v.name}; busy", v, w, "basic", before=resume, after=pause))
        return lanes
    return [Lane(v.name, v, w, "basic") for v, _, w in workers]


def pair_ratios(lanes: list[Lane]) -> dict[str, float]:
    """Second over first of two neighbouring lanes: busy/quiet, 2/1 workers, many/one."""
    ratios = {}
    for first, second in zip(lanes[::2], lanes[1::2], strict=False):
        if first.samples.seconds and second.samples.seconds:
            a = statistics.median(first.samples.seconds)
            ratios[first.variant.name] = statistics.median(second.samples.seconds) / a
    return ratios


def run_case(case: str, settings: Settings, result: common.Result) -> None:
    """Run one case, print its table, keep its figures."""
    path = settings.data / ("scan_bslz4.h5" if case.endswith("h5") else "scan.npy")
    common.warm_cache(path)
    with ExitStack() as stack:
        lanes = lanes_of(case, stack, settings, result)
        run_lanes(lanes, settings.rounds, settings.slow_rounds, settings.pause)
    for lane in lanes:
        if lane.failed:
            result.note(f"{lane.name}: failed in case {case} ({lane.failed})")
    lanes = [lane for lane in lanes if lane.samples.seconds]
    entry = result.cases.setdefault(case, {})
    entry["lanes"] = {
        lane.name: {**lane.samples.summary(), **lane.facts, "agrees": lane.agrees} for lane in lanes
    }
    if case.removesuffix("h5") in ("busy", "workers", "many"):
        entry["ratios"] = pair_ratios(lanes)
    print(f"\n### {case}\n\n{case_table(lanes, entry, scan_bytes(settings.data))}\n", flush=True)


def scan_bytes(folder: Path) -> int:
    """Bytes of the scan as an array in memory."""
    rx, ry, qx, qy = json.loads((folder / "scan.json").read_text())["shape"]
    return rx * ry * qx * qy * 2


def case_table(lanes: list[Lane], entry: dict, size: int) -> str:
    """The Markdown table of a case; ``x first`` is the time over that of the first lane."""
    ratios = entry.get("ratios", {})
    headings = ["lane", "min s", "median s", "max s", "n", "GB/s", "x first"]
    headings += ["pair ratio"] if ratios else []
    headings += ["anon MiB", "shared MiB", "others", "agrees"]
    rows = []
    for place, lane in enumerate(lanes):
        s = lane.samples.summary()
        base = statistics.median(lanes[0].samples.seconds)
        row = [lane.name, s["min"], s["median"], s["max"], s["n"], size / s["median"] / 1e9]
        row.append(s["median"] / base)
        if ratios:
            row.append(ratios.get(lane.variant.name) if place % 2 else None)
        row += [lane.facts.get("anonymous_mib"), lane.facts.get("shared_mib"), s["others"]]
        rows.append([*row, "yes" if lane.agrees else "no"])
    return common.table(headings, rows)


# ----------------------------------------------------------------------------------- command line
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder made by make_data.py")
    add_interpreters(parser, PEERS)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["raw", "h5", "cold", "busy"])
    parser.add_argument("--only", nargs="+", help="keep variants whose name contains one of these")
    parser.add_argument("--workers", type=int, default=2, help="threads or processes per peer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=1, help="rounds of py4DSTEM 0.14")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds of rest before a call")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    pythons = {peer: getattr(options, peer) for peer in PEERS if getattr(options, peer)}
    result = common.Result("virtual imaging")
    for peer in PEERS:
        if peer not in pythons:
            result.note(f"{peer}: skipped, no interpreter given")
    if not pythons:
        sys.exit("Nothing to measure: give at least one interpreter, for example --ours PYTHON")
    settings = Settings(
        options.data,
        pythons,
        options.workers,
        options.rounds,
        options.slow_rounds,
        options.pause,
        options.only,
    )
    for case in options.cases:
        run_case(case, settings, result)
        result.write(options.json)


if __name__ == "__main__":
    main()
