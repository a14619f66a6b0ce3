"""Simulate, save, open, look, map strain, compare, draw, report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from py4DSTEM.api import read, save
from py4DSTEM.demo import look, strain
from py4DSTEM.demo.checks import Check
from py4DSTEM.errors import StoreError
from py4DSTEM.report import (
    Figure,
    Page,
    Section,
    Table,
    Text,
    history_section,
    timings_section,
    versions_section,
    write_html,
)
from py4DSTEM.simulate import LatticeTruth, SimulatedScan, powder_rings, strained_lattice

__all__ = ["DemoResult", "run_demo", "simulated"]

_DOSE = 50_000.0
_SCAN, _DETECTOR = (32, 32), (128, 128)
_ELLIPSE = (1.02, 1.0, 0.5)
_HOT_PIXELS = 4


@dataclass(frozen=True)
class DemoResult:
    """What `run_demo` made.

    Parameters
    ----------
    paths : tuple of Path
        The scan, the results, the figures, and last the report.
    checks : tuple of Check
    seconds : float
        Time for everything, compilation included.
    """

    paths: tuple[Path, ...]
    checks: tuple[Check, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


@dataclass
class _Clock:
    """Seconds per step, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def run_demo(out_dir: Path, *, seed: int = 0) -> DemoResult:
    """Simulate a scan, save it, open it, look at it, map its strain, and compare with the truth.

    Parameters
    ----------
    out_dir : Path
        Made where it does not exist; files of an earlier demo are replaced.
    seed : int
        Another seed gives another scan.

    Returns
    -------
    DemoResult
        A check that fails is reported as failed; nothing is hidden or repeated.

    Raises
    ------
    StoreError
        The folder cannot be written to.
    """
    out_dir = _folder(Path(out_dir))
    clock = _Clock()
    with clock.step("simulate a scan, its noise-free truth, and rings of gold"):
        scan, exact = simulated(seed), simulated(seed, dose=None)
        gold = powder_rings(_DETECTOR, ellipse=_ELLIPSE, seed=seed)
    with clock.step("save the scan and open it again"):
        scan_path = out_dir / "scan.h5"
        save(scan_path, scan.cube)
        cube = read(scan_path)
    detectors = look.detectors_of(scan.truth)
    with clock.step("look"):
        seen = look.look_at(cube, detectors, scan.truth)
    with clock.step("map strain (the first time with compilation)"):
        vacuum, hot = scan.truth.probe.data, seen.quality.pixels["hot"]
        found = strain.map_strain(cube, vacuum, gold.pattern, hot, scan.truth)
    with clock.step("compare with the truth"):
        checks = (
            *look.checks(scan, exact, cube, seen, detectors),
            *strain.checks(found, scan.truth, gold.truth),
        )
    with clock.step("save results"):
        results_path = out_dir / "results.h5"
        save(results_path, seen.to_save() | found.to_save())
    with clock.step("draw"):
        figures = look.figures(seen, detectors) | strain.figures(found, cube, scan.truth)
        paths = [_written(out_dir / f"{name}.png", f.png) for name, f in figures.items()]
    page = _page(checks, figures, seen, found, clock, seed)
    report = write_html(out_dir / "report.html", page)
    seconds = sum(clock.seconds.values())
    return DemoResult((scan_path, results_path, *paths, report), checks, seconds)


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            "the folder for the demo cannot be made",
            path=path,
            got=error.strerror or str(error),
            hint="Choose another one",
        ) from error
    return path


def simulated(seed: int, *, dose: float | None = _DOSE) -> SimulatedScan[LatticeTruth]:
    """The scan of the demo; the same truth for every dose."""
    return strained_lattice(
        _SCAN,
        _DETECTOR,
        ellipse=_ELLIPSE,
        wander_px=1.5,
        dose=dose,
        hot_pixels=_HOT_PIXELS,
        seed=seed,
    )


def _written(path: Path, png: bytes) -> Path:
    path.write_bytes(png)
    return path


def _page(
    checks: Sequence[Check],
    figures: Mapping[str, Figure],
    seen: look.Look,
    found: strain.Strained,
    clock: _Clock,
    seed: int,
) -> Page:
    passed = sum(check.passed for check in checks)
    rows = [(c.name, c.value, c.expected, c.tolerance, c.passed) for c in checks]
    quality = [(e.name, e.shown, e.verdict, e.explanation) for e in seen.quality]
    chosen = found.peaks.report["chosen"]
    return Page(
        "py4DSTEM demo",
        (
            Section("Strain", (Text(found.strain.text(), mono=True), figures["strain"])),
            Section(
                "Compared with the truth",
                (
                    Text("Every number was measured from the saved scan; the truth is known."),
                    Table(("check", "measured", "truth", "tolerance", ""), rows),
                    figures["errors"],
                ),
            ),
            Section(
                "Step by step",
                tuple(f for name, f in figures.items() if name not in ("strain", "errors")),
            ),
            Section(
                "What the search for disks chose",
                (
                    Table(
                        ("parameter", "value", "because"),
                        [(name, c["value"], c["why"]) for name, c in chosen.items()],
                    ),
                ),
            ),
            Section("Quality", (Table(("what", "value", "verdict", "meaning"), quality),)),
            history_section(found.strain.history, "How the strain map was made"),
            timings_section(clock.seconds),
            versions_section(),
        ),
        f"{passed} of {len(checks)} checks passed; simulated with seed {seed}.",
    )
