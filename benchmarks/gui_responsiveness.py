"""The desktop program against its goals: real mouse events, no screen, 2 GiB of patterns.

    python gui_responsiveness.py --scan F [--groups drag jobs …] [--json OUT]

F is a 256 x 256 x 128 x 128 uint16 .npy (make_data.py makes one).  Every group runs in a process of
its own.  A delay of a drag runs from the move of the mouse, 60 a second, to the moment when the
image that answers it, or a later one, has been painted.  Times below the table's headings are
median and 95th percentile; a goal is met when the figure that it names is.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import Result, busy_seconds, table, tree_seconds, warm_cache
from gui_desk import Desk, Heartbeat, isolate, resident_mib


@dataclass
class Row:
    """One figure."""

    goal: str
    what: str
    wanted: str
    median: float
    p95: float
    unit: str
    met: bool
    more: str = ""


def row(goal: str, what: str, values: Sequence[float], limit: float, unit: str = "ms") -> Row:
    """Times whose 95th percentile has a limit."""
    scale = 1000.0 if unit == "ms" else 1.0
    median, p95 = (scale * float(np.percentile(values, q)) for q in (50, 95))
    return Row(goal, what, f"≤ {limit:g} {unit}", median, p95, unit, p95 <= limit)


def frames(goal: str, what: str, drags: Sequence[Any], least: float, limit: float) -> Row:
    """Drags: at least so many images a second; where there is a limit, of the delays too (ms)."""
    delays = [1000 * delay for drag in drags for delay in drag.delays]
    median, p95 = (float(np.percentile(delays, q)) for q in (50, 95))
    fps = float(np.median([drag.fps for drag in drags]))
    others = float(np.mean([drag.others for drag in drags]))
    wanted = f"≥ {least:g} fps" + (f", ≤ {limit:g} ms" if limit < math.inf else "")
    more = f"{fps:.0f} fps, others {others:.1f} cores"
    return Row(goal, what, wanted, median, p95, "ms", fps >= least and p95 <= limit, more)


TRIES = int(os.environ.get("BENCH_TRIES", "1"))
"""How often a drag is repeated; the quieter half counts."""


def quietest(drag: Callable[[], Any], count: int) -> list[Any]:
    """`count` drags, those during which other programs took least of the machine."""
    found = []
    for _ in range(count * TRIES):
        start, own, busy = time.perf_counter(), tree_seconds(os.getpid()), busy_seconds()
        found.append(drag())
        took = time.perf_counter() - start
        used = tree_seconds(os.getpid()) - own
        found[-1].others = max(0.0, (busy_seconds() - busy - used) / took)
    return sorted(found, key=lambda one: one.others)[:count]


# ---- movements -----------------------------------------------------------------------------------
def path(center: tuple[float, float], steps: int, step_px: float, reach: float) -> list[Any]:
    """A closed wiggle about `center`, so many pixels a step, at most `reach` away."""
    turn = 2 * math.pi * np.cumsum(np.full(steps, step_px / (5.5 * reach)))
    x, y = reach * np.sin(turn), reach * np.sin(2 * turn)
    return [center, *zip((center[0] + x).tolist(), (center[1] + y).tolist(), strict=True)]


def detector(desk: Desk, shape: Any, **options: Any) -> None:
    """One detector alone, and nothing on its way."""
    from py4DSTEM.gui.state.commands import SetDetectors
    from py4DSTEM.gui.state.project import DetectorEntry

    entries = (DetectorEntry(name="A", shape=shape),)
    desk.session.do(SetDetectors(key=desk.scan.key, detectors=entries, **options))
    desk.wait(lambda: desk.idle)


def wiggles(desk: Desk, rounds: int = 2, reach: float = 12.0, steps: int = 90) -> list[Any]:
    """Drags of the active detector by 1, 2 and 4 pixels a step."""
    view = desk.window.views["diffraction"]

    shape = desk.scan.detectors[0].shape

    def drag(step: float) -> Any:
        desk.session.do(_shape(desk, shape))
        desk.wait(lambda: desk.idle)
        found = desk.drag(view, path(shape.center, steps, step, reach))
        desk.wait(lambda: desk.idle)
        if found.moves < steps // 2:
            raise RuntimeError(f"the mouse moved the detector {found.moves} of {steps} times")
        return found

    return [
        one for step in (1.0, 2.0, 4.0) for one in quietest(lambda step=step: drag(step), rounds)
    ]


# ---- groups --------------------------------------------------------------------------------------
def group_drag(scan: str) -> list[Row]:
    """R1, R3, R4, R5, R8."""
    from py4DSTEM import Annulus, Disk

    desk = Desk()
    desk.open(scan)
    center = desk.scan.detectors[0].shape.center
    rows = []
    for radius, least in ((25, 50), (60, 30)):
        detector(desk, Disk(radius, center=center))
        what = f"disk of radius {radius} dragged, cache built"
        rows.append(frames("R1", what, wiggles(desk), least, 33))
    detector(desk, Annulus(30, 60, center=center))
    what = "ring 30 … 60 dragged by its middle"
    rows.append(frames("R1", what, wiggles(desk), 30, 33))
    detector(desk, Disk(25, center=center), response="com")
    rows.append(frames("R3", "centre of mass in colours, radius 25", wiggles(desk), 15, math.inf))
    detector(desk, Disk(25, center=center))
    rows += probe_rows(desk) + look_rows(desk)
    desk.window.end()
    return rows


def probe_rows(desk: Desk) -> list[Row]:
    """R4 and R5: what is selected is dragged over the scan."""
    from py4DSTEM.core.selection import PointSelection, RectangleSelection
    from py4DSTEM.gui.state.commands import Select

    views, lane = desk.window.views, desk.live.patterns
    answers = {"shown": views["diffraction"], "lane": lane}
    rows = []
    for goal, selection, least, limit in (
        ("R4", PointSelection(90, 100), 0, 16),
        ("R5", RectangleSelection(60, 124, 80, 144), 20, math.inf),
    ):

        def drag(goal: str = goal, selection: Any = selection) -> Any:
            desk.session.do(Select(key=desk.scan.key, selection=selection, how="mean"))
            desk.wait(lambda: desk.idle)
            start = (90.0, 100.0) if goal == "R4" else (92.0 - 0.5, 112.0 - 0.5)
            found = desk.drag(views["real"], path(start, 90, 3.0, 40.0), **answers)
            desk.wait(lambda: desk.idle)
            return found

        drags = quietest(drag, 3)
        if goal == "R4":
            delays = [delay for drag in drags for delay in drag.delays]
            rows.append(row("R4", "probe dragged: pattern (file in page cache)", delays, limit))
        else:
            rows.append(frames("R5", "rectangle 64 x 64 dragged: its mean", drags, least, limit))
    return rows


class Painted:
    """Seconds from an act to the end of the next painting of a view."""

    def __init__(self, desk: Desk, view: Any) -> None:
        self.desk, self.view, self.count = desk, view, 0
        paint = view.canvas.paintEvent

        def counted(event: Any) -> None:
            paint(event)
            self.count += 1

        view.canvas.paintEvent = counted

    def after(self, act: Callable[[], None]) -> float:
        before, start = self.count, time.perf_counter()
        act()
        loop, clock = self.desk.QtCore.QEventLoop(), self.desk.QtCore.QTimer()
        clock.timeout.connect(lambda: self.count > before and loop.quit())
        clock.start(0)
        loop.exec()
        clock.stop()
        return time.perf_counter() - start


def look_rows(desk: Desk) -> list[Row]:
    """R8: by the actions of the menu, and the limits at the colour bar."""
    view = desk.window.views["real"]
    desk.window.focused = "real"
    painted = Painted(desk, view)
    times: dict[str, list[float]] = {"view.colors": [], "view.gamma": [], "view.cycle_scale": []}
    for _ in range(20):
        for action, found in times.items():
            found.append(painted.after(lambda a=action: desk.window.actions_.trigger(a)))
            desk.spin(0.03)
    rows = [row("R8", f"{name.partition('.')[2]}", found, 16) for name, found in times.items()]
    low, high = view.limits
    moves = np.linspace(0.0, 0.4, 30) * (high - low)
    dragged = []
    for move in moves:
        new = (low + float(move), high, False)
        dragged.append(painted.after(lambda new=new: view.bar.limitsDragged.emit(*new)))
        desk.spin(0.02)
    return [*rows, row("R8", "contrast dragged at the colour bar", dragged, 16)]


def group_uncached(scan: str) -> list[Row]:
    """R2: a scan that has just been opened, and one whose cache could not be built."""
    from py4DSTEM import Disk

    firsts, exacts, building = [], [], []
    desk = Desk()
    for turn in range(5):
        desk.open(scan, ready=False)
        view = desk.window.views["diffraction"]
        if turn:  # without a full cache at all
            desk.session.jobs.cancel_all()
            desk.wait(lambda: desk.idle)
        else:
            desk.wait(lambda: desk.drawn and desk.live.idle)
        center = desk.scan.detectors[0].shape.center
        drag = desk.drag(view, path(center, 40, 2.0, 12.0))
        desk.spin(0.1)
        (firsts if turn else building).append(drag.first_s)
        exacts.append(drag.settled_s)
        desk.session.jobs.cancel_all()
        desk.wait(lambda: desk.idle)
        desk.session.do(_shape(desk, Disk(25, center=center)))
        desk.session.close_scan(desk.scan.key)
        desk.spin(0.1)
    desk.window.end()
    return [
        row("R2", "first image of a drag, cache never built", firsts, 100),
        row("R2", "first image of a drag, while the cache is built", building, 100),
        row("R2", "exact image after the mouse is let go", exacts, 1500),
    ]


def _shape(desk: Desk, shape: Any) -> Any:
    from py4DSTEM.gui.state.commands import ChangeDetector

    return ChangeDetector(key=desk.scan.key, name="A", shape=shape)


def group_huge_npy(scan: str) -> list[Row]:
    """R6: 100 GB, sparse on the disk of `scan` (zeros: reading them costs no disk)."""
    return _huge(scan, "huge.npy")


def group_huge_h5(scan: str) -> list[Row]:
    """R6: the same as HDF5 that is neither chunked nor compressed."""
    return _huge(scan, "huge.h5")


def _huge(scan: str, name: str) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="huge-", dir=Path(scan).parent))
    try:
        _sparse(folder / name)
        return _huge_rows(folder / name)
    finally:
        shutil.rmtree(folder)


def _sparse(target: Path, shape: tuple[int, ...] = (1024, 1024, 216, 216)) -> None:
    """Zeros with a little in a few patterns, 98 GB, without filling the disk."""
    rng = np.random.default_rng(0)
    some = rng.poisson(3, shape[2:]).astype(np.uint16)
    if target.suffix == ".npy":
        cube = np.lib.format.open_memmap(target, "w+", np.uint16, shape)
        cube[shape[0] // 2, shape[1] // 2] = some
        return
    import h5py

    with h5py.File(target, "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        made.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT16, space, made)
        file["data"][shape[0] // 2, shape[1] // 2] = some


def _huge_rows(target: Path) -> list[Row]:
    desk = Desk()
    peak = [0.0]
    clock = desk.QtCore.QTimer()
    clock.timeout.connect(lambda: peak.append(resident_mib()))
    clock.start(50)
    start = time.perf_counter()
    desk.open(target, ready=False)
    pattern = desk.window.views["diffraction"]
    desk.wait(lambda: pattern.drawnNumber >= 1 and desk.live.patterns.idle)
    first = time.perf_counter() - start
    real = desk.window.views["real"]
    desk.wait(lambda: real.drawnNumber >= 1, 120)
    coarse = time.perf_counter() - start
    desk.spin(2.0)
    clock.stop()
    desk.window.end()
    kind = target.suffix
    return [
        row("R6", f"98 GB {kind}: window usable, first pattern", [first], 1.0, "s"),
        row("R6", f"98 GB {kind}: coarse image of the scan", [coarse], 3.0, "s"),
        row("R6", f"98 GB {kind}: memory", [max(peak)], 500.0, "MiB"),
    ]


def group_jobs(scan: str) -> list[Row]:
    """R7 and R9: the event loop while each job runs, and how it stops."""
    desk = Desk()
    rows: list[Row] = []
    with Heartbeat(desk) as beat:
        desk.open(scan, ready=False)
        desk.wait(lambda: not desk.session.jobs.active, 600)
    rows += gap_rows("open, build the cache", beat)
    folder = Path(tempfile.mkdtemp(prefix="gui-jobs-", dir=Path(scan).parent))
    try:
        for label, submit in jobs_of(desk, folder).items():
            rows += _job_rows(desk, label, submit)
    finally:
        shutil.rmtree(folder)
    rows += _building_rows(desk, scan)
    desk.window.end()
    return rows


def jobs_of(desk: Desk, folder: Path) -> dict[str, Callable[[], Any]]:
    """What is run, by what it is called."""
    from py4DSTEM import find_bragg_disks, save
    from py4DSTEM.process.bragg.detect import FindBraggDisks
    from py4DSTEM.process.bragg.lattice import FitLattice

    session = desk.session
    cube = session.cube(desk.scan.key)
    few = cube.crop(R=((0, 16), (0, 64)))
    peaks = find_bragg_disks(few)
    run = session.jobs.submit

    def fits(options: Any) -> None:
        for _ in range(200):
            FitLattice().apply(peaks, options)
            if options.cancel.is_set():
                from py4DSTEM.errors import Cancelled

                raise Cancelled("cancelled")

    return {
        "save the scan as HDF5 (gzip)": lambda: run(
            "save", lambda options: save(folder / "scan.h5", cube, options=options)
        ),
        "load compressed HDF5 into memory": lambda: run(
            "load", lambda options: _load(desk, options)
        ),
        "find Bragg disks": lambda: session.run_step(FindBraggDisks()),
        "fit lattices": lambda: run("fit", fits),
        "radial profiles": lambda: session.run_step(_step("radial-profiles")),
        "quality": lambda: session.run_step(_step("quality")),
    }


def _load(desk: Desk, options: Any) -> Any:
    from py4DSTEM import read
    from py4DSTEM.stream.loading import loaded

    path = Path(desk.scan.source.path).parent / "virtual_bslz4.h5"
    cube = read(path if path.exists() else desk.scan.source.path)
    cube = next(iter(cube.values())) if isinstance(cube, dict) else cube
    return loaded(cube, options)


def _step(kind: str) -> Any:
    from py4DSTEM.process import load_analyses, load_operations

    return {**load_operations(), **load_analyses()}[kind]()


def _job_rows(desk: Desk, label: str, submit: Callable[[], Any], seconds: float = 8.0) -> list[Row]:
    try:
        job = submit()
    except KeyError:
        return []
    with Heartbeat(desk) as beat:
        with suppress(TimeoutError):
            desk.wait(lambda: not job.active, seconds)
        rows = gap_rows(label, beat)
        if not job.active:
            if job.state == "failed":
                raise RuntimeError(f"{label}: {job.error!r}")
            return rows
        return rows + stop_rows(desk, label, job)


def stop_rows(desk: Desk, label: str, job: Any) -> list[Row]:
    """Cancel as the key Escape does."""
    start = time.perf_counter()
    desk.window.actions_.trigger("analyze.cancel")
    acknowledged = desk.wait(lambda: job.detail == "stopping" or not job.active, 30, 1)
    desk.wait(lambda: not job.active, 60, 1)
    stopped = time.perf_counter() - start
    return [
        row("R9", f"{label}: cancel acknowledged", [acknowledged], 100),
        row("R9", f"{label}: stopped ({job.state})", [stopped], 2000),
    ]


def gap_rows(label: str, beat: Heartbeat) -> list[Row]:
    """The 99th percentile and the largest gap of the event loop."""
    gaps = 1000 * np.array(beat.gaps)
    p99, most = float(np.percentile(gaps, 99)), float(gaps.max())
    wanted = "p99 ≤ 50, max ≤ 200 ms"
    median = float(np.median(gaps))
    good = p99 <= 50 and most <= 200
    return [Row("R7", label, wanted, median, p99, "ms", good, f"max {most:.0f}")]


def _building_rows(desk: Desk, scan: str) -> list[Row]:
    rows = []
    for wait_s in (0.5, 2.0, 4.0):
        desk.open(scan, ready=False)
        desk.spin(wait_s)
        active = [job for job in desk.session.jobs.active if job.label.startswith("prepare")]
        if active:
            rows += stop_rows(desk, f"build the cache, after {wait_s:g} s", active[-1])
    return rows


def group_start(scan: str) -> list[Row]:
    """R10: whole processes."""
    code = (
        "import sys, py4DSTEM.gui.launch as launch\n"
        "import os; launch.choose_binding(os.environ)\n"
        "import py4DSTEM.gui.program as program\n"
        "def begin(window, files):\n"
        "    window.repaint(); print('shown', flush=True); window.end()\n"
        "program._begin = begin\n"
        "sys.exit(launch.main([]))\n"
    )
    isolate()
    shown, told = [], []
    for turn in range(6):
        start = time.perf_counter()
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        line = child.stdout.readline()  # type: ignore[union-attr]
        seconds = time.perf_counter() - start
        child.wait()
        if line.strip() != "shown":
            raise RuntimeError("the program did not start")
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "py4DSTEM.cli", "--help"], check=True, capture_output=True
        )
        if turn:  # the first one warms the cache of files
            shown.append(seconds)
            told.append(time.perf_counter() - begun)
    return [
        _median_row("R10", "start of the process to the window", shown, 1.5),
        _median_row("R10", "py4dstem --help", told, 0.3),
    ]


def _median_row(goal: str, what: str, values: Sequence[float], limit: float) -> Row:
    found = row(goal, what, values, limit, "s")
    found.met = found.median <= limit
    return found


def group_preview(scan: str) -> list[Row]:
    """R11: nine patterns under sliders that move."""
    from py4DSTEM.process.bragg.detect import FindBraggDisks
    from py4DSTEM.process.bragg.preview import Previews
    from py4DSTEM.simulate import strained_lattice

    rows = []
    for size, radius, limit in ((128, 5.0, 200), (256, 10.0, 500)):
        made = strained_lattice((4, 4), (size, size), probe_radius_px=radius, seed=1)
        previews = Previews(made.cube)
        places = [(i, j) for i in range(3) for j in range(3)]
        previews.preview(FindBraggDisks(), places)
        times = []
        for k in range(15):
            wanted = FindBraggDisks(min_relative_intensity=0.002 * k, sigma_cc_px=0.5 + 0.05 * k)
            start = time.perf_counter()
            previews.preview(wanted, places)
            times.append(time.perf_counter() - start)
        rows.append(row("R11", f"preview of 9 patterns of {size}²", times, limit))
    return rows


def group_consistency(scan: str, moves: int = 10_000) -> list[Row]:
    """R12: what is drawn is the image of the detector that is drawn; compared at rests."""
    from py4DSTEM import Annulus, Calibration, DataCube, Disk
    from py4DSTEM.core.pixels import color_numbers

    rng = np.random.default_rng(12)
    data = rng.poisson(2.0, (40, 36, 64, 60)).astype(np.uint16)
    cube = DataCube(data, name="moves")
    desk = Desk()
    desk.session.add_cube(cube)
    desk.wait(lambda: desk.scan is not None and desk.idle, 300)
    flat = data.reshape(-1, 64 * 60).astype(np.float64)
    view, real = desk.window.views["diffraction"], desk.window.views["real"]
    done = compared = wrong = 0
    shapes = [
        lambda: Disk(float(rng.uniform(2, 20)), center=(30.0, 28.0)),
        lambda: Annulus(float(rng.uniform(2, 9)), float(rng.uniform(10, 22)), center=(33.0, 30.0)),
    ]
    while done < moves:
        if done % 200 == 0:
            detector(desk, shapes[(done // 200) % 2]())
        center = desk.scan.detectors[0].shape.center
        places = [center, *rng.uniform((4, 4), (60, 56), (20, 2)).tolist()]
        drag = desk.drag(view, places, hz=240)
        done += drag.moves
        desk.wait(lambda: desk.live.idle and desk.drawn)
        shape = desk.scan.detectors[0].shape
        weights = shape.weights(cube.Q_shape, Calibration()).ravel()
        expected = (flat @ weights).reshape(cube.R_shape)
        numbers = color_numbers(expected, *real.limits, real.look.scale)
        seen = real.canvas.pixels._held
        compared += 1
        same = np.allclose(real.image, expected, rtol=1e-9)
        # A value on the edge of two colours may fall to either side.
        near = np.abs(seen.astype(int) - numbers).max() <= 1
        wrong += not (same and near)
    desk.window.end()
    return [
        Row("R12", f"{done} random moves: images that are not those of the detector, of {compared}",
            "0", wrong, wrong, "", wrong == 0)
    ]  # fmt: skip


def group_memory(scan: str, cycles: int = 500) -> list[Row]:
    """R13: after a large scan, and after many small ones."""
    import gc

    desk = Desk()
    folder = Path(tempfile.mkdtemp(prefix="gui-memory-"))
    small = folder / "small.npy"
    np.save(small, np.random.default_rng(0).poisson(3, (12, 10, 32, 32)).astype(np.uint16))
    _cycle(desk, small)
    gc.collect()
    base = resident_mib()
    peaks = []
    for _ in range(2):
        desk.open(scan)
        peaks.append(resident_mib())
        desk.session.close_scan(desk.scan.key)
        desk.spin(0.3)
    gc.collect()
    after = resident_mib()
    for _ in range(20):
        _cycle(desk, small)
    start = resident_mib()
    for _ in range(cycles):
        _cycle(desk, small)
    gc.collect()
    grown = resident_mib() - start
    desk.window.end()
    shutil.rmtree(folder)
    size = os.path.getsize(scan) / 2**20
    return [
        Row("R13", "memory with the scan open, beyond one copy of it", "≤ 1024 MiB",
            max(peaks) - size, max(peaks) - size, "MiB", max(peaks) - size <= 1024),
        Row("R13", f"memory after closing it, beyond {base:.0f} MiB before", "± 5 %",
            after - base, after - base, "MiB", abs(after - base) <= 0.05 * base),
        Row("R13", f"growth over {cycles} times open and close", "≤ 50 MiB",
            grown, grown, "MiB", grown <= 50),
    ]  # fmt: skip


def _cycle(desk: Desk, path: Path) -> None:
    desk.open(path)
    desk.session.close_scan(desk.scan.key)
    desk.wait(lambda: not desk.session.jobs.active)


GROUPS: dict[str, Callable[[str], list[Row]]] = {
    name.removeprefix("group_"): function
    for name, function in list(globals().items())
    if name.startswith("group_")
}


# ---- the whole -----------------------------------------------------------------------------------
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", required=True)
    parser.add_argument("--groups", nargs="*", choices=sorted(GROUPS), default=list(GROUPS))
    parser.add_argument("--json")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        isolate()
        try:
            rows = GROUPS[given.groups[0]](given.scan)
        except BaseException:  # the program under test has taken over the hook for exceptions
            traceback.print_exc()
            os._exit(1)
        Path(given.inside).write_text(json.dumps([asdict(found) for found in rows]))
        os._exit(0)
    warm_cache(given.scan)
    result = Result("desktop program")
    for name in given.groups:
        for found in measured(name, given.scan):
            result.cases.setdefault(found["goal"], []).append(found)
            print(_line(found), flush=True)
    cells = [
        (r["goal"], r["what"], r["wanted"], _reached(r), "yes" if r["met"] else "**no**")
        for rows in result.cases.values()
        for r in rows
    ]
    print(table(("", "what", "goal", "reached: median, p95", "met"), cells))
    result.write(given.json)


def measured(name: str, scan: str) -> list[dict]:
    """The rows of one group, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, __file__, "--scan", scan, "--groups", name, "--inside", str(out)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=3600)
        if not out.exists():
            raise RuntimeError(f"group {name} failed ({done.returncode}):\n{done.stderr[-3000:]}")
        return json.loads(out.read_text())


def _reached(r: dict) -> str:
    values = f"{r['median']:.3g}, {r['p95']:.3g} {r['unit']}"
    return f"{values}; {r['more']}" if r["more"] else values


def _line(r: dict) -> str:
    met = "ok  " if r["met"] else "MISS"
    return f"{r['goal']:>4} {met} {r['what']}: {_reached(r)} ({r['wanted']})"


if __name__ == "__main__":
    main()
