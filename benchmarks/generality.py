"""Calibration, disks, lattices and strain on scans of other kinds, with defaults.

    python generality.py [--data FOLDER] [--page FILE]

Simulated scans with unusual settings, and with ``--data`` the sets ``acom`` (independent grains),
``twophase`` (grains in an amorphous matrix, hot and dead pixels), ``amorphous``, ``dpc_parallax``,
``ptycho_thin`` and ``ptycho_thick`` (overlapping disks) of a folder of reference data in the layout
described in its README. Nothing is tuned, nothing is given but the material.

Rows of single values: what was measured, the truth, the error, and the one-sigma uncertainty. Rows
of many values (origins, disks, strain): their number, root mean square of errors and of the
uncertainties, and the standard deviation of error over uncertainty, which should be 1.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np

import py4DSTEM
from py4DSTEM import BraggPeaks, DataCube

HEADINGS = ("set", "quantity", "value", "truth", "error", "sigma", "error / sigma")
GOLD_A = 4.0782
COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")
Row = list[Any]

CASES: dict[str, dict[str, Any]] = {
    "ellipse of 5 %, rotated": {"ellipse": (1.05, 1.0, 0.6), "rotation_rad": 0.5},
    "256², disks of 20 px": {
        "scan_shape": (6, 6), "Q_shape": (256, 256), "probe_radius_px": 20.0,
        "g1_A": (0.6, 0.15), "g2_A": (-0.15, 0.62), "dose": 200_000,
    },
    "spacing of 2.1 radii": {"probe_radius_px": 8.0, "g1_A": (0.24, 0.05), "g2_A": (-0.05, 0.245)},
    "1000 electrons": {"dose": 1000},
    "10⁶ electrons": {"dose": 1e6},
    "96 x 160 pixels": {"Q_shape": (96, 160)},
    "20 hot pixels": {"hot_pixels": 20},
    "disks of 2 px": {"probe_radius_px": 2.0},
    "normalised float32": {},
    "masked beam stop": {},
}  # fmt: skip


def single(name: str, quantity: str, value: float, truth: float, sigma: float) -> Row:
    """One value."""
    error = value - truth
    return [name, quantity, f"{value:.5g}", f"{truth:.5g}", error, sigma, error / sigma]


def many(name: str, quantity: str, error: np.ndarray, sigma: np.ndarray) -> Row:
    """Values for which there is an error and a sigma."""
    known = np.isfinite(error) & np.isfinite(sigma)
    error, sigma = error[known], sigma[known]
    if not error.size:
        return [name, quantity, "none", "", "", "", ""]
    rms = [float(np.sqrt((part**2).mean())) for part in (error, sigma)]
    return [name, quantity, f"{error.size} values", "", *rms, float((error / sigma).std())]


def share(name: str, quantity: str, value: float) -> Row:
    """A share."""
    return [name, quantity, f"{value:.2%}", "", "", "", ""]


def origins(name: str, source: Any, truth: np.ndarray, **options: Any) -> tuple[Row, Any]:
    """Origins by one method; the row and the measurement."""
    found = py4DSTEM.measure_origin(source, **options)
    row = many(name, f"origin, {found.method} (px)", found.origin_px - truth, found.sigma_px)
    return row, found


def matched(peaks: BraggPeaks, places: Any, reach_px: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Errors and sigmas (n, 2) of the disks near predicted ones, and how many are near none."""
    errors, sigmas, beside = [], [], 0
    for at in np.ndindex(*peaks.shape):
        found, known = peaks[at], places(at)
        seen = np.stack([found["qx"], found["qy"]], -1)
        if not len(seen):
            continue
        apart = np.linalg.norm(seen[:, None] - known[None], axis=-1)
        near = apart.min(1) < reach_px
        beside += int((~near).sum())
        errors.append((seen - known[apart.argmin(1)])[near])
        sigmas.append(np.stack([found["sigma_qx"], found["sigma_qy"]], -1)[near])
    return np.concatenate(errors), np.concatenate(sigmas), beside


def strains(name: str, strain: Any, truth: Any, where: np.ndarray) -> Iterator[Row]:
    """Components after the median error was removed; `truth` None: no strain."""
    for component in COMPONENTS:
        error = getattr(strain, component) - (0 if truth is None else getattr(truth, component))
        error = np.where(where, error, np.nan)
        yield many(name, component, error - np.nanmedian(error), strain.sigma(component))


# ---- simulated -----------------------------------------------------------------------------------
def simulated(name: str, settings: dict[str, Any]) -> Iterator[Row]:
    """All steps on one simulated scan."""
    scan = py4DSTEM.simulate.strained_lattice(**{"scan_shape": (10, 12), "seed": 7, **settings})
    cube, truth, options = scan.cube, scan.truth, {}
    if name.startswith("normalised"):
        values = np.asarray(cube.data, np.float32)
        cube = DataCube(values / values.max(), calibration=cube.calibration)
    if name.endswith("beam stop"):
        usable = np.ones(cube.Q_shape, bool)
        usable[56:73, :70] = False
        cube = DataCube(np.where(usable, cube.data, 0), calibration=cube.calibration)
        options = {"mask": usable}
    radius = settings.get("probe_radius_px", 5.0)
    probe = py4DSTEM.synthetic_probe(cube.Q_shape, radius)
    if not options:
        probe = py4DSTEM.measure_probe(cube)
        a, b = settings.get("ellipse", (1.0, 1.0))[:2]
        wanted = radius * np.sqrt(a / b)  # the short semi-axis is kept
        yield single(name, "radius (px)", probe.radius_px, wanted, probe.sigma_radius_px)
    yield origins(name, cube, truth.origin_px, **options)[0]
    peaks = py4DSTEM.find_bragg_disks(cube, probe, **options)
    positions = truth.positions_px()
    errors, sigmas, beside = matched(peaks, lambda at: positions[at], 1.5)
    yield many(name, "disks (px)", errors, sigmas)
    yield share(name, "disks at no lattice point", beside / len(peaks))
    row, origin = origins(name, peaks, truth.origin_px)
    yield row
    known = {k: settings[k] for k in ("ellipse", "rotation_rad") if k in settings}
    lattice = py4DSTEM.fit_lattice(peaks.with_calibration(origin, **known))
    strain = py4DSTEM.strain_map(lattice, resolution_A=None)
    yield share(name, "positions with strain", strain.mask.mean())
    yield from strains(name, strain, truth, strain.mask)


# ---- reference data ------------------------------------------------------------------------------
@dataclass(frozen=True)
class Reference:
    """A set of the reference data, its truth turned to the package's frame (x: rows)."""

    folder: Path

    def stored(self, key: str) -> np.ndarray:
        import h5py

        with h5py.File(self.folder / "data.h5") as file:
            return file[key][...]

    def scan(self, key: str = "data") -> DataCube:
        return DataCube(self.stored(key))

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.folder / "truth.json").read_text())

    def array(self, key: str) -> np.ndarray:
        return np.load(self.folder / "truth.npz")[key]

    def origin(self, prefix: str = "") -> np.ndarray:
        return np.stack([self.array(f"{prefix}origin_{k}") for k in ("row", "col")], -1)

    def reflections(self, lattice_A: float, orientation: np.ndarray, thick_A2: float) -> np.ndarray:
        """Offsets (n, 2) in px of fcc reflections near the Ewald sphere (its distance in Å⁻¹)."""
        hkl = np.stack(np.indices((17,) * 3), -1).reshape(-1, 3) - 8
        hkl = hkl[(hkl % 2 == hkl[:, :1] % 2).all(1)]
        g = hkl / lattice_A @ orientation.T
        bent = (g**2).sum(1) * self.facts["wavelength_A"] / 2
        g = g[np.abs(np.abs(g[:, 2]) - bent) < thick_A2]
        ellipse = np.array(self.facts.get("ellipse_matrix_xy", np.eye(2)))
        return (g[:, :2] @ ellipse.T / self.facts["detector_pixel_1_per_A"])[:, ::-1]


def vacuum(name: str, data: Reference) -> Row:
    """Radius of the aperture: these probes are limited coherently."""
    probe = py4DSTEM.measure_probe(data.stored("vacuum_probe"))
    radius, sigma = (
        probe.radius_at(0.25),
        float(np.hypot(probe.sigma_radius_px, probe.sigma_edge_px)),
    )
    return single(name, "aperture radius (px)", radius, data.facts["bf_radius_px"], sigma)


def grains(data: Reference, key: str) -> Iterator[Row]:
    """Independent grains: origins, disks, ellipse and pixel size."""
    name, cube, facts = f"acom/{key}", data.scan(key), data.facts
    truth, turns = data.origin(), data.array("orientation_matrix")
    for method in ("auto", "friedel"):
        yield origins(name, cube, truth, method=method)[0]
    peaks = py4DSTEM.find_bragg_disks(cube)
    row, origin = origins(name, peaks, truth)
    yield row

    def places(at: tuple[int, ...]) -> np.ndarray:
        return truth[at] + data.reflections(GOLD_A, turns[at], 0.06)

    for label, least, most in (
        ("< 100", 0, 100),
        ("100 to 1000", 100, 1000),
        ("> 1000", 1000, 1e9),
    ):
        counts = peaks.points["intensity"]
        some = peaks.select((counts >= least) & (counts < most))
        yield many(name, f"disks of {label} electrons (px)", *matched(some, places, 1.2)[:2])
    peaks = peaks.with_calibration(origin)
    ellipse = py4DSTEM.measure_ellipse(peaks, reference="Au")
    wanted = facts["ellipse_ratio_a_over_b"]
    yield single(name, "ellipse a/b, peaks", ellipse.ratio, wanted, ellipse.sigma_ratio)
    angle = 90 - facts["ellipse_major_axis_deg"]  # from rows instead of columns
    found, sigma = np.degrees([ellipse.ellipse.theta_rad, ellipse.sigma_theta_rad])
    yield single(name, "ellipse angle (deg), peaks", found, angle, sigma)
    wanted = facts["detector_pixel_1_per_A"]
    for what, source in (("peaks", peaks), ("rings", cube)):
        size = py4DSTEM.measure_pixel_size(source, "Au")
        yield single(name, f"pixel size (1/A), {what}", size.value, wanted, size.sigma)


def two_phases(data: Reference) -> Iterator[Row]:
    """Unstrained grains in a matrix: what strain is found in each."""
    name, cube, truth = "twophase", data.scan(), data.origin()
    labels, pure = data.array("label"), data.array("pure")
    yield vacuum(name, data)
    yield origins(name, cube, truth)[0]
    peaks = py4DSTEM.find_bragg_disks(cube)
    row, origin = origins(name, peaks, truth)
    yield row
    peaks = peaks.with_calibration(origin)
    lattice = py4DSTEM.fit_lattice(peaks)
    yield share(name, "matrix positions with a lattice", lattice.mask[pure & (labels == 0)].mean())
    yield share(name, "grain positions with a lattice", lattice.mask[pure & (labels > 0)].mean())
    yield share(name, "several lattices, in grains", lattice.several[pure & (labels > 0)].mean())
    for label in range(1, 6):
        grain = pure & (labels == label)
        rx, ry = peaks.positions.T
        alone = py4DSTEM.fit_lattice(peaks.select(grain[rx, ry]))
        strain = py4DSTEM.strain_map(alone, resolution_A=None)
        yield from strains(f"{name}, grain {label}", strain, None, grain & strain.mask)


def glass(data: Reference, key: str, prefix: str, ring_px: tuple[float, float]) -> Iterator[Row]:
    """A glass without ellipse or strain."""
    name, cube, truth = f"amorphous/{key}", data.scan(key), data.origin(prefix)
    for method in ("auto", "friedel", "radial"):
        yield origins(name, cube, truth, method=method)[0]
    ellipse = py4DSTEM.measure_ellipse(cube)
    yield single(name, "ellipse a/b", ellipse.ratio, 1.0, ellipse.sigma_ratio)
    size = data.facts["detector_pixel_1_per_A"]
    cube = cube.with_calibration(origin_px=truth, Q_pixel_size=size, Q_pixel_units="A^-1")
    strain = py4DSTEM.ring_strain(cube, *ring_px)
    yield from list(strains(f"{name}, ring", strain, None, strain.mask))[:3]


def large_disks(data: Reference) -> Iterator[Row]:
    """Overlapping disks: the direct beam is all that is to be found."""
    name, cube = data.folder.name, data.scan().crop(R=((0, 16), (0, 16)))
    yield vacuum(name, data)
    fixed = np.array(data.facts["origin_stored_row_col"])
    yield origins(name, cube, fixed)[0]


def references(folder: Path) -> Iterator[Row]:
    """All sets of the folder."""
    yield vacuum("acom", Reference(folder / "acom"))
    for key in ("data", "data_precession"):
        yield from grains(Reference(folder / "acom"), key)
    yield from two_phases(Reference(folder / "twophase"))
    for key, prefix in (("data", "glass_"), ("data_nanocrystal", "nanocrystal_")):
        yield from glass(Reference(folder / "amorphous"), key, prefix, (14.0, 25.0))
    for name in ("dpc_parallax", "ptycho_thin", "ptycho_thick"):
        yield from large_disks(Reference(folder / name))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of reference data")
    parser.add_argument("--page", type=Path, help="where to write the table")
    options = parser.parse_args()
    rows = [row for name, settings in CASES.items() for row in simulated(name, settings)]
    if options.data:
        rows += references(options.data)
    page = common.table(HEADINGS, rows)
    print(page)
    if options.page:
        options.page.write_text(page + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
