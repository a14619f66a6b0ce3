"""Defaults on scans of other kinds: grains, phases, glass, large disks, awkward detectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import BraggPeaks, DataCube, ParameterError

h5py = pytest.importorskip("h5py")


class Set:
    """A set of the reference data; its truth in rows and columns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = json.loads((folder / "truth.json").read_text())
        self.truth = np.load(folder / "truth.npz")

    def stored(self, key: str = "data") -> np.ndarray:
        with h5py.File(self.folder / "data.h5") as file:
            return file[key][...]

    def origin(self, prefix: str = "") -> np.ndarray:
        return np.stack([self.truth[f"{prefix}origin_{k}"] for k in ("row", "col")], -1)


def rms(error: np.ndarray) -> float:
    return float(np.sqrt((error**2).mean()))


# ---- independent grains: small disks, origins that jump ------------------------------------------
@pytest.fixture(scope="module")
def gold(shared_data: Path) -> Set:
    return Set(shared_data / "acom")


@pytest.fixture(scope="module")
def gold_peaks(gold: Set) -> BraggPeaks:
    peaks = py4DSTEM.find_bragg_disks(DataCube(gold.stored("data_precession")))
    return peaks.with_calibration(py4DSTEM.measure_origin(peaks))


def test_origin_of_small_disks(gold: Set) -> None:
    for key, most in (("data", 0.035), ("data_precession", 0.015)):
        found = py4DSTEM.measure_origin(DataCube(gold.stored(key)))
        error = found.origin_px - gold.origin()
        assert found.method == "disk" and rms(error) < most
        assert (error / found.sigma_px).std() < 1.8


def test_origin_from_peaks_of_grains(gold: Set, gold_peaks: BraggPeaks) -> None:
    assert rms(gold_peaks.calibration.origin_px - gold.origin()) < 0.02


def test_disks_of_grains_lie_where_crystals_put_them(gold: Set, gold_peaks: BraggPeaks) -> None:
    """Nearly all that is found is a reflection, nearly all bright ones within 0.1 px."""
    errors, pulls, beside = [], [], 0
    for at in np.ndindex(*gold_peaks.shape):
        found = gold_peaks[at]
        known = gold.origin()[at] + reflections(gold.facts, gold.truth["orientation_matrix"][at])
        seen = np.stack([found["qx"], found["qy"]], -1)
        apart = np.linalg.norm(seen[:, None] - known[None], axis=-1)
        bright, near = found["intensity"] > 300, apart.min(1) < 1.2
        beside += int((bright & ~near).sum())
        error = (seen - known[apart.argmin(1)])[bright & near]
        errors.append(error)
        sigma = np.stack([found["sigma_qx"], found["sigma_qy"]], -1)
        pulls.append(error / sigma[bright & near])
    error, pull = np.concatenate(errors), np.concatenate(pulls)
    assert beside < 0.02 * len(error)
    assert np.abs(error.mean(0)).max() < 0.005 and rms(error) < 0.06
    assert 0.9 < pull.std() < 1.4


def reflections(facts: dict, orientation: np.ndarray, nearest_A: float = 0.06) -> np.ndarray:
    """Offsets (n, 2) in px of gold's reflections near the Ewald sphere."""
    hkl = np.stack(np.indices((13,) * 3), -1).reshape(-1, 3) - 6
    g = hkl[(hkl % 2 == hkl[:, :1] % 2).all(1)] / 4.0782 @ orientation.T
    bent = (g**2).sum(1) * facts["wavelength_A"] / 2
    g = g[np.abs(np.abs(g[:, 2]) - bent) < nearest_A]
    ellipse = np.array(facts["ellipse_matrix_xy"])
    return (g[:, :2] @ ellipse.T / facts["detector_pixel_1_per_A"])[:, ::-1]


def test_ellipse_and_pixel_size_of_grains(gold: Set, gold_peaks: BraggPeaks) -> None:
    ellipse = py4DSTEM.measure_ellipse(gold_peaks, reference="Au")
    assert ellipse.ratio == pytest.approx(1.012, abs=2e-4)
    assert np.degrees(ellipse.ellipse.theta_rad) == pytest.approx(40, abs=0.7)
    size = py4DSTEM.measure_pixel_size(gold_peaks.with_calibration(ellipse), "Au")
    assert size.mean_size_A == pytest.approx(0.0235, rel=2e-4)


def test_merging_rings_say_how_little_they_tell(gold: Set) -> None:
    size = py4DSTEM.measure_pixel_size(DataCube(gold.stored("data_precession")), "Au")
    assert size.value == pytest.approx(0.0235, rel=0.01)
    assert abs(size.value - 0.0235) < 2 * size.sigma


# ---- two phases in a matrix ----------------------------------------------------------------------
@pytest.fixture(scope="module")
def phases(shared_data: Path) -> Set:
    return Set(shared_data / "twophase")


@pytest.fixture(scope="module")
def phase_peaks(phases: Set) -> BraggPeaks:
    peaks = py4DSTEM.find_bragg_disks(DataCube(phases.stored()))
    return peaks.with_calibration(py4DSTEM.measure_origin(peaks))


def test_hot_pixels_are_no_disks(phases: Set, phase_peaks: BraggPeaks) -> None:
    assert rms(phase_peaks.calibration.origin_px - phases.origin()) < 0.05
    matrix = phases.truth["pure"] & (phases.truth["label"] == 0)
    assert phase_peaks.counts[matrix].mean() < 1.1  # the direct beam


def test_lattices_are_where_the_grains_are(phases: Set, phase_peaks: BraggPeaks) -> None:
    lattice = py4DSTEM.fit_lattice(phase_peaks)
    label, pure = phases.truth["label"], phases.truth["pure"]
    assert lattice.mask[pure & (label > 0)].mean() > 0.99
    assert lattice.mask[pure & (label == 0)].mean() < 0.01
    assert lattice.several[pure].mean() < 0.02 < lattice.several[~pure].mean()
    # Strain is that of one lattice; the other grains are left out, and counted.
    strain = py4DSTEM.strain_map(lattice)
    mapped = {int(k) for k in np.unique(label[strain.mask & pure])}
    assert len(mapped) == 1
    assert strain.report["positions of another lattice"] > 400
    assert np.nanmax(np.abs(strain.e_xx)) < 0.25


@pytest.mark.parametrize("label", [1, 2, 3, 4])
def test_strain_of_unstrained_grains(phases: Set, phase_peaks: BraggPeaks, label: int) -> None:
    grain = phases.truth["pure"] & (phases.truth["label"] == label)
    rx, ry = phase_peaks.positions.T
    strain = py4DSTEM.strain_map(py4DSTEM.fit_lattice(phase_peaks.select(grain[rx, ry])))
    assert strain.mask[grain].all()
    for name in ("e_xx", "e_yy", "e_xy", "theta"):
        values, sigma = getattr(strain, name)[grain], strain.sigma(name)[grain]
        assert values.std() < 1.2e-3
        assert 0.75 < ((values - np.median(values)) / sigma).std() < 1.25


# ---- probes, glass ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["acom", "twophase", "dpc_parallax", "ptycho_thin"])
def test_radius_of_apertures(shared_data: Path, name: str) -> None:
    data = Set(shared_data / name)
    probe = py4DSTEM.measure_probe(data.stored("vacuum_probe"))
    assert probe.radius_at(0.25) == pytest.approx(data.facts["bf_radius_px"], abs=0.02)
    origin = data.facts["origin_stored_row_col"]
    assert probe.center == pytest.approx(origin, abs=0.03)


def test_a_glass_is_round_and_has_no_lattice(shared_data: Path) -> None:
    data = Set(shared_data / "amorphous")
    cube = DataCube(data.stored())
    ellipse = py4DSTEM.measure_ellipse(cube)
    assert abs(ellipse.ratio - 1) < max(0.004, 3 * ellipse.sigma_ratio)
    for method in ("auto", "friedel"):
        found = py4DSTEM.measure_origin(cube, method=method)
        assert rms(found.origin_px - data.origin("glass_")) < 0.03
    lattice = py4DSTEM.fit_lattice(py4DSTEM.find_bragg_disks(cube))
    assert lattice.mask.mean() < 0.1


# ---- awkward scans -------------------------------------------------------------------------------
SETTINGS = {
    "hot pixels": {"hot_pixels": 20},
    "few electrons": {"dose": 1000},
    "oblong detector": {"Q_shape": (96, 160)},
    "ellipse": {"ellipse": (1.05, 1.0, 0.6)},
    "close disks": {"probe_radius_px": 8.0, "g1_A": (0.24, 0.05), "g2_A": (-0.05, 0.245)},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_disks_without_a_given_probe(name: str) -> None:
    scan = py4DSTEM.simulate.strained_lattice((8, 9), seed=7, **SETTINGS[name])
    peaks = py4DSTEM.find_bragg_disks(scan.cube)
    positions = scan.truth.positions_px()
    rx, ry = peaks.positions.T
    seen = np.stack([peaks.points["qx"], peaks.points["qy"]], -1)
    away = seen[:, None] - positions[rx, ry]
    nearest = np.linalg.norm(away, axis=-1).argmin(1)
    error = away[np.arange(len(seen)), nearest]
    near = np.linalg.norm(error, axis=1) < 2
    assert near.mean() > 0.985
    pull = error / np.stack([peaks.points["sigma_qx"], peaks.points["sigma_qy"]], -1)
    assert 0.8 < pull[near].std() < 1.25
    found = py4DSTEM.measure_origin(peaks)
    assert 0.6 < ((found.origin_px - scan.truth.origin_px) / found.sigma_px).std() < 1.3


def test_beam_stop_under_a_mask_leaves_no_other_disk_as_the_origin() -> None:
    scan = py4DSTEM.simulate.strained_lattice((8, 9), seed=7)
    usable = np.ones(scan.cube.Q_shape, bool)
    usable[56:73, :70] = False
    cube = DataCube(np.where(usable, scan.cube.data, 0))
    found = py4DSTEM.measure_origin(cube, mask=usable)
    assert found.method == "friedel"
    assert rms(found.origin_px - scan.truth.origin_px) < 0.03
    peaks = py4DSTEM.find_bragg_disks(cube, scan.truth.probe, mask=usable)
    assert rms(py4DSTEM.measure_origin(peaks).origin_px - scan.truth.origin_px) < 0.03


def test_strain_against_another_lattice_is_refused() -> None:
    truth = py4DSTEM.simulate.strained_lattice((4, 5), seed=1).truth
    lattice = py4DSTEM.fit_lattice(truth.peaks())
    turned = lattice.basis @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    with pytest.raises(ParameterError, match="polar"):
        py4DSTEM.strain_map(lattice, tuple(map(tuple, turned)))
    assert py4DSTEM.strain_map(lattice, tuple(map(tuple, turned)), method="polar").mask.all()
