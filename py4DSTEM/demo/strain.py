"""From the raw scan to a strain map, as a user would go, and what the truth says to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.api import DataCube
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.demo.checks import Check
from py4DSTEM.plot.figures.lattice import show_lattice
from py4DSTEM.plot.figures.origin import show_origin
from py4DSTEM.plot.figures.peaks import show_peaks, show_vector_map
from py4DSTEM.plot.figures.probe import show_probe
from py4DSTEM.plot.figures.rings import show_ellipse, show_pixel_size
from py4DSTEM.plot.figures.strain import show_strain
from py4DSTEM.process.bragg.detect import find_bragg_disks
from py4DSTEM.process.bragg.lattice import LatticeFit, fit_lattice
from py4DSTEM.process.bragg.peaks import BraggPeaks
from py4DSTEM.process.bragg.vector_map import bragg_vector_map
from py4DSTEM.process.calibrate.ellipse import EllipseMeasurement, measure_ellipse
from py4DSTEM.process.calibrate.origin import measure_origin
from py4DSTEM.process.calibrate.origin_fit import OriginMeasurement
from py4DSTEM.process.calibrate.pixel_size import PixelSizeMeasurement, measure_pixel_size
from py4DSTEM.process.probe import Probe, measure_probe
from py4DSTEM.process.strain import COMPONENTS, StrainMap, strain_map
from py4DSTEM.report import Figure
from py4DSTEM.simulate import LatticeTruth, PowderTruth

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

__all__ = ["Strained", "checks", "figures", "map_strain", "matched", "pulls_of"]

Float = NDArray[np.float64]
_NEAR_PX = 1.0


@dataclass(frozen=True, eq=False)
class Strained:
    """Every step between a raw scan and its strain map."""

    rings: DiffractionSlice
    probe: Probe
    peaks: BraggPeaks
    origin: OriginMeasurement
    ellipse: EllipseMeasurement
    pixel_size: PixelSizeMeasurement
    vector_map: DiffractionSlice
    lattice: LatticeFit
    strain: StrainMap
    absolute: StrainMap

    def to_save(self) -> dict[str, Any]:
        """By the names that the file of results has."""
        return {
            "probe": self.probe,
            "bragg peaks": self.peaks,
            "origin": self.origin,
            "ellipse": self.ellipse,
            "pixel size": self.pixel_size,
            "bragg vector map": self.vector_map,
            "lattice": self.lattice,
            "strain": self.strain,
        }


def map_strain(
    cube: DataCube,
    vacuum: NDArray[Any],
    rings: DiffractionSlice,
    bad_pixels: NDArray[np.bool_],
    truth: LatticeTruth,
) -> Strained:
    """All steps; of the truth only the unstrained region and the known lattice are used."""
    probe = measure_probe(vacuum)
    peaks = find_bragg_disks(cube, probe, mask=~bad_pixels)
    origin = measure_origin(peaks)
    ellipse = measure_ellipse(rings)
    pixel_size = measure_pixel_size(rings.with_calibration(ellipse), "Au")
    peaks = peaks.with_calibration(origin, ellipse, pixel_size)
    lattice = fit_lattice(peaks, g1=tuple(truth.g1_A), g2=tuple(truth.g2_A))
    return Strained(
        rings, probe, peaks, origin, ellipse, pixel_size, bragg_vector_map(peaks, 2), lattice,
        # Simulated disks know the strain of one point: there is no average to allow for.
        strain_map(lattice, truth.reference, resolution_A=None),
        strain_map(lattice, (truth.g1_A, truth.g2_A), resolution_A=None),
    )  # fmt: skip


# ---- checks --------------------------------------------------------------------------------------
def checks(found: Strained, truth: LatticeTruth, powder: PowderTruth) -> Iterator[Check]:
    """Every step against its truth."""
    known = truth.calibration
    ellipse, size = known.ellipse, powder.calibration.Q_pixel_size
    radius = known.semiangle_px() * (1.0 if ellipse is None else np.sqrt(ellipse.a / ellipse.b))
    yield Check.of("probe radius, px", found.probe.radius_px, radius, 0.02)
    recall, strangers = matched(found.peaks, truth)
    yield Check.of("share of the disks that were found", recall, 1, 0.005)
    yield Check.of("share of finds that are no disks", strangers, 0, 0.005)
    error = found.origin.origin_px - truth.origin_px
    yield Check.of("origin by peaks: rms error, px", np.sqrt(np.mean(error**2)), 0, 0.05)
    ratio = 1.0 if ellipse is None else ellipse.a / ellipse.b
    yield Check.of("ellipse a / b", found.ellipse.ratio, ratio, 1e-3)
    yield Check.of("detector pixel by gold rings, Å⁻¹", found.pixel_size.value, size, 2e-3 * size)
    for name in COMPONENTS:
        yield from _strain_checks(name, found, truth)


def matched(peaks: BraggPeaks, truth: LatticeTruth) -> tuple[float, float]:
    """Share of the disks wholly on the detector that were found; share of finds that are none."""
    true = truth.positions_px()
    rx, ry = peaks.positions.T
    place = np.stack([peaks.points["qx"], peaks.points["qy"]], axis=-1)
    distance = np.linalg.norm(true[rx, ry] - place[:, None], axis=-1)
    nearest, near = distance.argmin(axis=1), distance.min(axis=1) < _NEAR_PX
    seen = np.zeros(true.shape[:3], bool)
    seen[rx[near], ry[near], nearest[near]] = True
    margin = truth.calibration.semiangle_px() + 1
    shape = np.array(peaks.Q_shape)
    whole = ((true > margin) & (true < shape - 1 - margin)).all(axis=-1)
    return float(seen[whole].mean()), float(1 - near.mean())


def _strain_checks(name: str, found: Strained, truth: LatticeTruth) -> Iterator[Check]:
    pulls = pulls_of(name, found.strain, truth)
    error = getattr(found.absolute, name) - getattr(truth, name)
    yield Check.of(f"{name}: mean square of error over sigma", float(np.mean(pulls**2)), 1, 0.25)
    yield Check.of(f"{name}: share inside one sigma", float(np.mean(abs(pulls) < 1)), 0.683, 0.06)
    yield Check.of(f"{name}: share inside two sigma", float(np.mean(abs(pulls) < 2)), 0.954, 0.03)
    yield Check.of(f"{name}: mean error, known lattice", error.mean(), 0, 1.5e-3)


def pulls_of(name: str, strain: StrainMap, truth: LatticeTruth) -> Float:
    """Error over sigma of every mapped position, a common offset (the reference) removed."""
    error = getattr(strain, name) - getattr(truth, name)
    pulls: Float = ((error - np.nanmedian(error)) / strain.sigma(name))[strain.mask]
    return pulls


# ---- figures -------------------------------------------------------------------------------------
def figures(found: Strained, cube: DataCube, truth: LatticeTruth) -> dict[str, Figure]:
    """A picture of every step, by the names of their files."""
    drawn = {
        "probe": (show_probe(found.probe), "The probe, its rim, and the kernel made from it."),
        "disks": (show_peaks(cube, found.peaks), "Disks found in four of the patterns."),
        "origin": (show_origin(found.origin), "Origin of every position, by the peaks."),
        "ellipse": (show_ellipse(found.ellipse, found.rings), "Ellipse, from rings of gold."),
        "pixel_size": (
            show_pixel_size(found.pixel_size, found.rings),
            "Pixel size, from the same rings.",
        ),
        "bragg_vector_map": (
            show_vector_map(found.vector_map, found.lattice),
            "All peaks of the scan, calibrated, with g1 and g2.",
        ),
        "lattice": (show_lattice(found.lattice), "The lattice of every position."),
        "strain": (show_strain(found.strain), "Strain and its uncertainties."),
        "errors": (_errors(found.strain, truth), "Errors, in units of their own sigma."),
    }
    return {name: _kept(figure, caption) for name, (figure, caption) in drawn.items()}


def _kept(figure: MatplotlibFigure, caption: str) -> Figure:
    """The picture alone: pyplot would hold the figure for ever."""
    import matplotlib.pyplot as plt

    picture = Figure.of(figure, caption)
    plt.close(figure)
    return picture


def _errors(strain: StrainMap, truth: LatticeTruth) -> MatplotlibFigure:
    """Measured over true strain, and error over sigma beside the normal distribution."""
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=(11, 5.2), layout="constrained")
    for name, (above, below) in zip(COMPONENTS, figure.subplots(2, 4).T, strict=True):
        true, measured = getattr(truth, name)[strain.mask], getattr(strain, name)[strain.mask]
        above.plot(100 * true, 100 * measured, ".", markersize=2, alpha=0.4)
        above.axline((0, 0), slope=1, color="0.4", linewidth=0.8)
        above.set_title(name)
        above.set_xlabel("true (%)")
        edges = np.linspace(-4, 4, 33)
        below.hist(pulls_of(name, strain, truth), edges, density=True, alpha=0.5)
        below.plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), color="0.2", linewidth=1)
        below.set_xlabel("error / sigma")
    figure.axes[0].set_ylabel("measured (%)")
    return figure
