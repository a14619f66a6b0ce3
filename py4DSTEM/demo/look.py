"""First look: images, patterns, centre of mass and quality, in as few passes as there can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.api import DataCube
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.detector import Annulus, Detector, Disk
from py4DSTEM.core.slices import DiffractionSlice, RealSlice
from py4DSTEM.demo.checks import Check
from py4DSTEM.plot import show
from py4DSTEM.process.com import CenterOfMass
from py4DSTEM.process.diffraction import MaxPattern, MeanPattern, mean_pattern
from py4DSTEM.process.quality import QualityReport, quality
from py4DSTEM.process.virtual import VirtualImages
from py4DSTEM.report import Figure
from py4DSTEM.simulate import LatticeTruth, SimulatedScan
from py4DSTEM.stream.engine import run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

__all__ = ["Look", "checks", "detectors_of", "figures", "look_at"]


@dataclass(frozen=True, eq=False)
class Look:
    """What one look at the scan gave."""

    images: RealSlice
    mean: DiffractionSlice
    maximum: DiffractionSlice
    center_of_mass: RealSlice
    region: DiffractionSlice
    quality: QualityReport

    def to_save(self) -> dict[str, Any]:
        """By the names that the file of results has."""
        return {
            "virtual images": self.images,
            "mean pattern": self.mean,
            "maximum pattern": self.maximum,
            "center of mass": self.center_of_mass,
            "unstrained region": self.region,
        }


def detectors_of(truth: LatticeTruth) -> dict[str, Detector]:
    """Bright field, annular dark field, and the disk of the first lattice vector."""
    center = truth.calibration.mean_origin_px
    first = int(np.flatnonzero((truth.hk == (1, 0)).all(axis=1))[0])
    disk = truth.positions_px()[truth.reference][:, first].mean(axis=0)
    return {
        "bf": Disk(9, center=center),
        "adf": Annulus(12, 55, center=center),
        "df_10": Disk(8, center=(float(disk[0]), float(disk[1]))),
    }


def look_at(cube: DataCube, detectors: Mapping[str, Detector], truth: LatticeTruth) -> Look:
    """Images, patterns and centres of mass in one pass; then a region, and the quality."""
    operations = [
        VirtualImages(detectors=dict(detectors)),
        MeanPattern(),
        MaxPattern(),
        CenterOfMass(mask=detectors["bf"]),
    ]
    images, mean, maximum, center = run(operations, cube)
    region = mean_pattern(cube, where=truth.reference)
    return Look(images, mean, maximum, center, region, quality(cube))


# ---- checks --------------------------------------------------------------------------------------
def checks(
    scan: SimulatedScan[LatticeTruth],
    exact: SimulatedScan[LatticeTruth],
    cube: DataCube,
    look: Look,
    detectors: Mapping[str, Detector],
) -> Iterator[Check]:
    """Everything against the noise-free scan `exact` of one electron per pattern."""
    saved, opened = np.asarray(scan.cube.data), np.asarray(cube.data[...])
    dose = float(scan.cube.history.steps[0].parameters["dose"])
    frames = np.asarray(exact.cube.data).reshape(-1, *cube.Q_shape) * dose
    yield Check.of("values changed by saving and opening", np.sum(saved != opened), 0, 0)
    yield Check.of(
        "detector pixel after opening, Å⁻¹",
        cube.calibration.Q_pixel_size,
        scan.truth.calibration.Q_pixel_size,
        1e-12,
    )
    yield Check.of(
        "mean pattern: largest difference from plain summation",
        np.abs(look.mean.data - saved.mean(axis=(0, 1))).max(),
        0,
        1e-9 * dose,
    )
    yield Check.of(
        "maximum pattern: pixels that differ",
        np.sum(look.maximum.data != saved.max(axis=(0, 1))),
        0,
        0,
    )
    yield from _image_checks(look.images, frames, detectors)
    yield _region_check(look.region, frames, scan.truth)
    yield from _origin_checks(look.center_of_mass, scan.truth)
    yield from _quality_checks(look.quality, scan.truth)


def _image_checks(
    images: RealSlice, frames: NDArray[Any], detectors: Mapping[str, Detector]
) -> Iterator[Check]:
    """The mean within five sigma of counting statistics, and a scatter that they explain."""
    for name, detector in detectors.items():
        weights = detector.weights(frames.shape[1:], Calibration())
        measured = images[name].data
        expected = np.einsum("nij,ij->n", frames, weights).reshape(measured.shape)
        variance = np.einsum("nij,ij->n", frames, weights**2).reshape(measured.shape)
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
    found = report.pixels["hot"]
    hot = np.zeros(found.shape, bool)
    hot[tuple(truth.hot_pixels.T)] = True
    yield Check.of("hot pixels found", float(np.sum(found & hot)), len(truth.hot_pixels), 0)
    yield Check.of("good pixels called hot", float(np.sum(found & ~hot)), 0, 0)


# ---- figures -------------------------------------------------------------------------------------
def _blank(columns: int) -> tuple[MatplotlibFigure, NDArray[Any]]:
    """A figure that no window system ever hears of."""
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(3.8 * columns, 4.2), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False).ravel()


def figures(look: Look, detectors: Mapping[str, Detector]) -> dict[str, Figure]:
    """Images and patterns, by the names of their files."""
    images, axes = _blank(3)
    show(look.images, ax=axes, cbar=True)
    patterns, axes = _blank(2)
    show(look.mean, ax=axes[0], overlays=detectors)
    show(look.maximum, ax=axes[1], scale="log")
    return {
        "virtual_images": Figure.of(
            images, "Virtual images: bright field, annular dark field, 10."
        ),
        "patterns": Figure.of(patterns, "Mean pattern with the detectors; maximum of each pixel."),
    }
