"""The main job on a simulated scan, checked step by step against the truth it was made from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.api import DataCube, read, save
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.detector import Annulus, Detector, Disk
from py4DSTEM.core.slices import DiffractionSlice, RealSlice
from py4DSTEM.errors import StoreError
from py4DSTEM.plot import show
from py4DSTEM.process.com import CenterOfMass
from py4DSTEM.process.diffraction import MaxPattern, MeanPattern, mean_pattern
from py4DSTEM.process.quality import QualityReport, quality
from py4DSTEM.process.virtual import VirtualImages
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
from py4DSTEM.simulate import LatticeTruth, SimulatedScan, strained_lattice
from py4DSTEM.stream.engine import run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

__all__ = ["Check", "DemoResult", "run_demo"]

Float = NDArray[np.float64]
_DOSE = 50_000.0
_SCAN, _DETECTOR = (32, 32), (128, 128)
_HOT_PIXELS = 4


@dataclass(frozen=True)
class Check:
    """One number beside the one that it should be."""

    name: str
    value: float
    expected: float
    tolerance: float
    passed: bool

    @classmethod
    def of(cls, name: str, value: float, expected: float, tolerance: float) -> Check:
        """Passed where value and expected differ by at most the tolerance; NaN never passes."""
        passed = bool(abs(value - expected) <= tolerance)
        return cls(name, float(value), float(expected), float(tolerance), passed)


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


@dataclass(frozen=True, eq=False)
class _Results:
    """What one look at the scan gave."""

    images: RealSlice
    mean: DiffractionSlice
    maximum: DiffractionSlice
    center_of_mass: RealSlice
    region: DiffractionSlice
    quality: QualityReport


def run_demo(out_dir: Path, *, seed: int = 0) -> DemoResult:
    """Simulate a scan, save it, open it, analyse it, and compare everything with the truth.

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
    with clock.step("simulate a scan, and its noise-free truth"):
        scan, exact = (_simulated(dose, seed) for dose in (_DOSE, None))
    with clock.step("save the scan and open it again"):
        scan_path = out_dir / "scan.h5"
        save(scan_path, scan.cube)
        cube = read(scan_path)
    detectors = _detectors(scan.truth)
    with clock.step("analyse"):
        results = _analysed(cube, detectors, scan.truth)
    with clock.step("compare with the truth"):
        checks = _checks(scan, exact, cube, results, detectors)
    with clock.step("save results"):
        results_path = out_dir / "results.h5"
        save(results_path, _to_save(results))
    with clock.step("draw"):
        figures = _figures(results, scan.truth, detectors, cube.calibration)
        paths = [_written(out_dir / f"{name}.png", f.png) for name, f in figures.items()]
    page = _page(checks, figures, results, clock, seed)
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


def _simulated(dose: float | None, seed: int) -> SimulatedScan[LatticeTruth]:
    """The same truth for every dose."""
    return strained_lattice(
        _SCAN,
        _DETECTOR,
        ellipse=(1.02, 1.0, 0.5),
        wander_px=1.5,
        dose=dose,
        hot_pixels=_HOT_PIXELS,
        seed=seed,
    )


def _detectors(truth: LatticeTruth) -> dict[str, Detector]:
    """Bright field, annular dark field, and the disk of the first lattice vector."""
    center = truth.calibration.mean_origin_px
    first = int(np.flatnonzero((truth.hk == (1, 0)).all(axis=1))[0])
    disk = truth.positions_px()[truth.reference][:, first].mean(axis=0)
    return {
        "bf": Disk(9, center=center),
        "adf": Annulus(12, 55, center=center),
        "df_10": Disk(8, center=(float(disk[0]), float(disk[1]))),
    }


# ---- analysis ------------------------------------------------------------------------------------
def _analysed(cube: DataCube, detectors: Mapping[str, Detector], truth: LatticeTruth) -> _Results:
    """Images, patterns and centres of mass in one pass; then a region, and the quality."""
    operations = [
        VirtualImages(detectors=dict(detectors)),
        MeanPattern(),
        MaxPattern(),
        CenterOfMass(mask=detectors["bf"]),
    ]
    images, mean, maximum, center = run(operations, cube)
    region = mean_pattern(cube, where=truth.reference)
    return _Results(images, mean, maximum, center, region, quality(cube))


def _checks(
    scan: SimulatedScan[LatticeTruth],
    exact: SimulatedScan[LatticeTruth],
    cube: DataCube,
    results: _Results,
    detectors: Mapping[str, Detector],
) -> tuple[Check, ...]:
    saved, opened = np.asarray(scan.cube.data), np.asarray(cube.data[...])
    frames = np.asarray(exact.cube.data).reshape(-1, *_DETECTOR) * _DOSE
    return (
        Check.of("values changed by saving and opening", np.sum(saved != opened), 0, 0),
        Check.of(
            "detector pixel after opening, Å⁻¹",
            cube.calibration.Q_pixel_size,
            scan.truth.calibration.Q_pixel_size,
            1e-12,
        ),
        Check.of(
            "mean pattern: largest difference from plain summation",
            np.abs(results.mean.data - saved.mean(axis=(0, 1))).max(),
            0,
            1e-9 * _DOSE,
        ),
        Check.of(
            "maximum pattern: pixels that differ",
            np.sum(results.maximum.data != saved.max(axis=(0, 1))),
            0,
            0,
        ),
        *_image_checks(results.images, frames, detectors),
        _region_check(results.region, frames, scan.truth),
        *_origin_checks(results.center_of_mass, scan.truth),
        *_quality_checks(results.quality, scan.truth),
    )


def _image_checks(
    images: RealSlice, frames: NDArray[Any], detectors: Mapping[str, Detector]
) -> Iterator[Check]:
    """The mean within five sigma of counting statistics, and a scatter that they explain."""
    for name, detector in detectors.items():
        weights = detector.weights(_DETECTOR, Calibration())
        expected = np.einsum("nij,ij->n", frames, weights).reshape(_SCAN)
        variance = np.einsum("nij,ij->n", frames, weights**2).reshape(_SCAN)
        measured = images[name].data
        chi_squared = np.mean((measured - expected) ** 2 / variance)
        sigma = float(np.sqrt(variance.sum())) / variance.size
        yield Check.of(f"{name}: mean counts", measured.mean(), expected.mean(), 5 * sigma)
        # 1024 positions: the scatter of χ² per position is 0.044.
        yield Check.of(f"{name}: χ² per position", chi_squared, 1, 0.2)


def _region_check(region: DiffractionSlice, frames: NDArray[Any], truth: LatticeTruth) -> Check:
    inside = truth.reference.ravel()
    expected = frames[inside].mean(axis=0)
    chi_squared = np.mean((region.data - expected) ** 2 / (expected / inside.sum()))
    return Check.of("mean pattern of the unstrained region: χ² per pixel", chi_squared, 1, 0.06)


def _origin_checks(center: RealSlice, truth: LatticeTruth) -> Iterator[Check]:
    """The diffuse background pulls the centre of mass a little towards the middle of the mask."""
    for k, name in enumerate(("x", "y")):
        error = center[name].data - truth.origin_px[..., k]
        rms = float(np.sqrt(np.mean(error**2)))
        yield Check.of(f"origin {name} by centre of mass: rms error, px", rms, 0, 0.1)


def _quality_checks(report: QualityReport, truth: LatticeTruth) -> Iterator[Check]:
    hot = np.zeros(_DETECTOR, bool)
    hot[tuple(truth.hot_pixels.T)] = True
    found = report.pixels["hot"]
    yield Check.of("hot pixels found", float(np.sum(found & hot)), _HOT_PIXELS, 0)
    yield Check.of("good pixels called hot", float(np.sum(found & ~hot)), 0, 0)


def _to_save(results: _Results) -> dict[str, Any]:
    return {
        "virtual images": results.images,
        "mean pattern": results.mean,
        "maximum pattern": results.maximum,
        "center of mass": results.center_of_mass,
        "unstrained region": results.region,
    }


# ---- figures and report --------------------------------------------------------------------------
def _blank(columns: int) -> tuple[MatplotlibFigure, NDArray[Any]]:
    """A figure that no window system ever hears of."""
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(3.8 * columns, 4.2), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False).ravel()


def _figures(
    results: _Results,
    truth: LatticeTruth,
    detectors: Mapping[str, Detector],
    calibration: Calibration,
) -> dict[str, Figure]:
    images, axes = _blank(3)
    show(results.images, ax=axes, cbar=True)
    patterns, axes = _blank(2)
    show(results.mean, ax=axes[0], overlays=detectors)
    show(results.maximum, ax=axes[1], scale="log")
    origin, axes = _blank(4)
    names = [("x", 0, "measured"), ("x", 0, "true"), ("y", 1, "measured"), ("y", 1, "true")]
    for ax, (name, k, kind) in zip(axes, names, strict=True):
        data = results.center_of_mass[name].data if kind == "measured" else truth.origin_px[..., k]
        picture = RealSlice(data, calibration, name=f"origin {name}, {kind}", units="px")
        show(picture, ax=ax, cbar=True)
    return {
        "virtual_images": Figure.of(
            images, "Virtual images: bright field, annular dark field, 10."
        ),
        "patterns": Figure.of(patterns, "Mean pattern with the detectors; maximum of each pixel."),
        "origin": Figure.of(origin, "Position of the direct beam, measured and true."),
    }


def _written(path: Path, png: bytes) -> Path:
    path.write_bytes(png)
    return path


def _page(
    checks: Sequence[Check],
    figures: Mapping[str, Figure],
    results: _Results,
    clock: _Clock,
    seed: int,
) -> Page:
    passed = sum(check.passed for check in checks)
    rows = [(c.name, c.value, c.expected, c.tolerance, c.passed) for c in checks]
    found = [(e.name, e.shown, e.verdict, e.explanation) for e in results.quality]
    return Page(
        "py4DSTEM demo",
        (
            Section(
                "Compared with the truth",
                (
                    Text("Every number was measured from the saved scan; the truth is known."),
                    Table(("check", "measured", "truth", "tolerance", ""), rows),
                ),
            ),
            Section("Pictures", tuple(figures.values())),
            Section("Quality", (Table(("what", "value", "verdict", "meaning"), found),)),
            history_section(results.images.history, "How the virtual images were made"),
            timings_section(clock.seconds),
            versions_section(),
        ),
        f"{passed} of {len(checks)} checks passed; simulated with seed {seed}.",
    )
