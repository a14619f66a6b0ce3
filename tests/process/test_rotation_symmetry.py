"""Rotation and flip by the symmetry of rings of the detector, where the truth is known."""

import json
import math

import h5py
import numpy as np
import pytest

from py4DSTEM import DataCube, ParameterError, measure_rotation, simulate
from py4DSTEM.process.calibrate.symmetry import RingHarmonics, ring_edges_px
from py4DSTEM.stream.engine import run


def apart(first: float, second: float, period: float = 2 * math.pi) -> float:
    return abs((first - second + period / 2) % period - period / 2)


@pytest.mark.parametrize(
    ("rotation_rad", "flip", "defocus_A"), [(0.3, False, 100.0), (-1.0, True, 0.0)]
)
def test_simulated_scan(rotation_rad: float, flip: bool, defocus_A: float) -> None:
    scan = simulate.phase_object(
        (20, 26), (48, 48), Q_pixel_size_A=0.05, rotation_rad=rotation_rad, flip=flip,
        defocus_A=defocus_A, seed=3,
    )  # fmt: skip
    symmetry = measure_rotation(scan.cube, method="symmetry")
    curl = measure_rotation(scan.cube)
    error = apart(symmetry.rotation_rad, rotation_rad)
    assert symmetry.flip is flip and symmetry.confidence > 1.2
    assert error < math.radians(1.5) and error < 4 * symmetry.sigma_rad
    assert symmetry.sigma_rad < curl.sigma_rad
    assert symmetry.curve["across_rms"].shape == (2, len(symmetry.curve["angles_rad"]))


@pytest.mark.parametrize(
    ("name", "period"),
    [("dpc_parallax", 2 * math.pi), ("ptycho_thin", 2 * math.pi), ("ptycho_thick", math.pi)],
)
def test_reference_data(shared_data, name: str, period: float) -> None:
    """Within half a degree; in the thick crystal the deflection reverses, so that the half turn is
    another's."""
    truth = json.loads((shared_data / name / "truth.json").read_text())
    with h5py.File(shared_data / name / "data.h5") as file:
        cube = DataCube(file["data"][:])
    measured = measure_rotation(cube, method="symmetry")
    expected = math.radians(truth["scan_rotation_deg"])
    assert measured.flip is truth["detector_transpose"]
    assert apart(measured.rotation_rad, expected, period) < math.radians(0.5)
    assert measured.sigma_rad < math.radians(0.2)
    assert measured.confidence > 1.5


def test_harmonics_of_a_known_pattern() -> None:
    """A ring of ``2 + cos(φ − 0.4)`` gives π r dr cos 0.4 and π r dr sin 0.4 for m = 1."""
    i, j = np.indices((41, 43)) - np.array([20.0, 21.0])[:, None, None]
    pattern = 2 + np.cos(np.arctan2(j, i) - 0.4)
    cube = DataCube(np.broadcast_to(pattern, (2, 3, 41, 43)).copy())
    found = run(RingHarmonics(center=(20.0, 21.0), edges_px=(5.0, 12.0, 17.0)), cube)
    assert found.labels[:2] == ("ring 0 cos 1", "ring 0 sin 1") and len(found.labels) == 12
    for ring, (low, high) in enumerate([(5, 12), (12, 17)]):
        area = math.pi * (high**2 - low**2) / 2
        first = found.data[6 * ring : 6 * ring + 2, 1, 2] / area
        np.testing.assert_allclose(first, [math.cos(0.4), math.sin(0.4)], atol=0.01)
        assert np.abs(found.data[6 * ring + 2 : 6 * ring + 6, 1, 2]).max() < 0.01 * area


def test_small_disks_have_fewer_rings() -> None:
    assert len(ring_edges_px(20.0)) == 7
    assert all(b - a >= 1.5 for a, b in zip(ring_edges_px(5), ring_edges_px(5)[1:], strict=False))
    assert len(ring_edges_px(0.7)) == 2


def test_refusals() -> None:
    still = DataCube(np.tile(np.pad(np.ones((6, 6)), 5), (6, 6, 1, 1)))
    with pytest.raises(ParameterError, match="same at all positions"):
        measure_rotation(still, method="symmetry")
    scan = simulate.phase_object((6, 6), (48, 48), Q_pixel_size_A=0.05, seed=1)
    with pytest.raises(ParameterError, match="DataCube"):
        measure_rotation(scan.cube.center_of_mass(), method="symmetry")
