"""The whole way to strain on a scan with multislice physics and complete truth.

Disks are filled unevenly, the crystal tilts, strain changes within a scan step; descan, ellipse,
diffuse background and counting noise.  The truth is in the optical frame (x right, y down); the
package's x is its y.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import BraggPeaks, Calibration, DataCube, DiffractionSlice, LatticeFit, StrainMap

h5py = pytest.importorskip("h5py")

COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")


@dataclass(frozen=True)
class Reference:
    calibration: Calibration
    peaks: BraggPeaks
    lattice: LatticeFit
    strain: StrainMap
    restored: StrainMap
    absolute: StrainMap
    truth: dict[str, np.ndarray]
    origin: np.ndarray
    positions: np.ndarray
    intensity: np.ndarray


@pytest.fixture(scope="module")
def reference(shared_data_folder: Path) -> Reference:
    folder = shared_data_folder / "strain"
    with h5py.File(folder / "data.h5") as file:
        data, vacuum, rings = (file[k][...] for k in ("data", "vacuum_probe", "calibration"))
    facts = json.loads((folder / "truth.json").read_text())
    truth = np.load(folder / "truth.npz")
    cube = DataCube(data).with_calibration(R_pixel_size=facts["scan_step_A"], R_pixel_units="A")
    probe = py4DSTEM.measure_probe(vacuum)
    ellipse = py4DSTEM.measure_ellipse(DiffractionSlice(rings))
    pixel_size = py4DSTEM.measure_pixel_size(DiffractionSlice(rings), "Au")
    peaks = py4DSTEM.find_bragg_disks(cube, probe)
    origin = py4DSTEM.measure_origin(peaks)
    peaks = peaks.with_calibration(origin, ellipse, pixel_size)
    lattice = py4DSTEM.fit_lattice(peaks)
    strain = py4DSTEM.strain_map(lattice)
    known = np.array([facts[f"reference_g{k}_xy_1_per_A"][::-1] for k in (1, 2)])
    change = np.rint(lattice.basis @ np.linalg.inv(known))
    local = np.stack([truth[f"g{k}_local_xy"][..., ::-1] for k in (1, 2)], -2)
    true_origin = np.stack([truth["origin_row"], truth["origin_col"]], -1)
    return Reference(
        peaks.calibration,
        peaks,
        lattice,
        strain,
        py4DSTEM.restore_strain(strain),
        py4DSTEM.strain_map(lattice, reference=tuple(change @ known)),
        components(np.linalg.inv(known) @ local),
        true_origin,
        *disks(local, true_origin, facts, data),
    )


@pytest.fixture(scope="module")
def shared_data_folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue("shared_data")


def components(beta: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "e_xx": 1 - beta[..., 0, 0],
        "e_yy": 1 - beta[..., 1, 1],
        "e_xy": -(beta[..., 0, 1] + beta[..., 1, 0]) / 2,
        "theta": (beta[..., 0, 1] - beta[..., 1, 0]) / 2,
    }


def disks(local, origin, facts, data) -> tuple[np.ndarray, np.ndarray]:
    """Where all disks are, (Rx, Ry, n, 2), and the counts in each above its surroundings."""
    hk = np.stack([a.ravel() for a in np.mgrid[-7:8, -5:6]], -1)
    ellipse = np.array(facts["ellipse_matrix_xy"])[::-1, ::-1]
    scale = ellipse / facts["detector_pixel_1_per_A"]
    positions = origin[:, :, None] + (hk @ local) @ scale.T
    mean = data.mean((0, 1))
    i, j = np.indices(mean.shape)
    counts = []
    for x, y in positions.mean((0, 1)):
        r = np.hypot(i - x, j - y)
        inside, ring = r < facts["disk_radius_px"], (r > 7) & (r < 9)
        whole = min(x, y, 127 - x, 127 - y) > 9
        counts.append((mean[inside] - mean[ring].mean()).sum() if whole else np.nan)
    return positions, np.array(counts)


def errors(strain: StrainMap, truth: dict[str, np.ndarray], name: str) -> np.ndarray:
    """After removal of a common offset."""
    error = getattr(strain, name) - truth[name]
    return error - np.median(error)


def test_calibration(reference: Reference) -> None:
    ellipse = reference.calibration.ellipse
    assert ellipse.a / ellipse.b == pytest.approx(1.018, abs=0.001)
    # Of the package, whose ellipse correction keeps the short axis: that pixel is larger.
    size = reference.calibration.Q_steps("A^-1")[0] / np.sqrt(ellipse.a / ellipse.b)
    assert size == pytest.approx(0.0172, rel=0.002)


def test_origin(reference: Reference) -> None:
    error = reference.calibration.origin_px - reference.origin
    assert np.sqrt((error**2).mean()) <= 0.05


def test_disks_are_found_and_nothing_else(reference: Reference) -> None:
    expected = np.flatnonzero(reference.intensity > 100)
    missed = false = 0
    for position in np.ndindex(reference.peaks.shape):
        found = reference.peaks[position]
        found = np.stack([found["qx"], found["qy"]], -1)
        apart = np.linalg.norm(reference.positions[position][:, None] - found[None], axis=-1)
        missed += int((apart[expected].min(1) > 1.5).sum())
        false += int((apart.min(0) > 3.0).sum())
    assert missed <= 0.005 * len(expected) * reference.peaks.counts.size
    assert false <= 0.005 * len(reference.peaks)


def test_every_position_is_usable(reference: Reference) -> None:
    assert reference.strain.mask.all() and not reference.lattice.several.any()


@pytest.mark.parametrize(
    ("name", "most"), [("e_xx", 0.7e-3), ("e_yy", 1.3e-3), ("e_xy", 0.55e-3), ("theta", 0.52e-3)]
)
def test_scatter(reference: Reference, name: str, most: float) -> None:
    """What single positions reach; counting noise alone is 0.56, 0.67, 0.44, 0.44 (1e-3)."""
    assert errors(reference.strain, reference.truth, name).std() < most


HALF = [("e_xx", 0.55e-3), ("e_yy", 0.8e-3), ("e_xy", 0.3e-3), ("theta", 0.3e-3)]
"""Half of what plain template correlation leaves on a scan of this kind: what we aim at."""


@pytest.mark.xfail(strict=True, reason="counting noise and the probe's width are above it")
@pytest.mark.parametrize(("name", "most"), HALF)
def test_scatter_of_single_positions_aimed_at(reference: Reference, name: str, most: float) -> None:
    assert errors(reference.strain, reference.truth, name).std() <= most


@pytest.mark.parametrize(
    ("name", "most"),
    [
        pair
        if pair[0] != "e_yy"
        else pytest.param(
            *pair, marks=pytest.mark.xfail(strict=True, reason="interfaces within the probe")
        )
        for pair in HALF
    ],
)
def test_scatter_of_the_restored_map(reference: Reference, name: str, most: float) -> None:
    assert errors(reference.restored, reference.truth, name).std() <= most


@pytest.mark.parametrize("name", COMPONENTS)
def test_no_bias(reference: Reference, name: str) -> None:
    error = getattr(reference.absolute, name) - reference.truth[name]
    assert abs(error.mean()) <= 0.003


def coverage(reference: Reference, name: str) -> tuple[float, float]:
    """Shares of the errors inside one and two sigma."""
    pull = errors(reference.strain, reference.truth, name) / reference.strain.sigma(name)
    return float((abs(pull) < 1).mean()), float((abs(pull) < 2).mean())


@pytest.mark.parametrize(
    "name",
    [
        "e_xx",
        pytest.param(
            "e_yy", marks=pytest.mark.xfail(strict=True, reason="strain changes within the probe")
        ),
        "e_xy",
        "theta",
    ],
)
def test_sigmas_are_honest(reference: Reference, name: str) -> None:
    one, two = coverage(reference, name)
    assert 0.62 <= one <= 0.74 and 0.92 <= two <= 0.98


def test_sigmas_across_the_layers_are_a_guide(reference: Reference) -> None:
    """What is reached where the bar above is missed."""
    one, two = coverage(reference, "e_yy")
    assert one > 0.58 and two > 0.84
