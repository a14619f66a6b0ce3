"""Cepstra, and the strain they show, against simulated crystals of known strain."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from py4DSTEM import DataCube, RunOptions, cepstral_strain, cepstrum, simulate
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError

SHAPE = (8, 9)
NAMES = ("e_xx", "e_yy", "e_xy", "theta")


def field(size: float = 0.01, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return dict(zip(NAMES, size * rng.uniform(-1, 1, (4, *SHAPE)), strict=True))


def crystal(**changes):
    scan = simulate.strained_lattice(SHAPE, strain=field(), **changes)
    return scan.cube.with_calibration(scan.truth.calibration), scan.truth


def test_peaks_lie_at_lattice_vectors() -> None:
    cube, truth = crystal(dose=None)
    image = cepstrum(cube)
    direct = np.linalg.inv(np.stack([truth.g1_A, truth.g2_A])).T
    x, y = (axis.coordinates(n) for axis, n in zip(image.axes, image.shape, strict=True))
    assert image.axes[0].unit == "A"
    assert abs(x).min() == abs(y).min() == 0
    typical = np.median(image.data)
    for vector in direct:
        place = np.abs(x - vector[0]).argmin(), np.abs(y - vector[1]).argmin()
        assert image.data[place] > 10 * typical


def test_cepstrum_of_one_pattern_is_that_of_its_scan() -> None:
    cube, _ = crystal()
    pattern = DiffractionSlice(np.asarray(cube.data[2, 3]), cube.calibration)
    one = cepstrum(pattern, epsilon=2.0)
    only = np.zeros(SHAPE, bool)
    only[2, 3] = True
    np.testing.assert_allclose(one.data, cepstrum(cube, epsilon=2.0, where=only).data)


@pytest.mark.parametrize(
    "optics",
    [{}, {"rotation_rad": 0.4}, {"ellipse": (1.03, 1.0, 0.5), "rotation_rad": -0.7}],
    ids=["plain", "rotated", "ellipse"],
)
def test_known_strain_without_noise(optics) -> None:
    cube, truth = crystal(dose=None, **optics)
    measured = cepstral_strain(cube)
    assert measured.mask.all()
    for name in NAMES:
        error = getattr(measured, name) - getattr(truth, name)
        assert (error - np.median(error)).std() < 3e-4


def test_pulls_with_counting_noise() -> None:
    pulls = {name: [] for name in NAMES}
    for seed in (0, 1):
        cube, truth = crystal(dose=50_000, seed=seed)
        measured = cepstral_strain(cube)
        for name in NAMES:
            error = getattr(measured, name) - getattr(truth, name)
            pulls[name].append((error - error.mean()) / measured.sigma(name))
    for name in NAMES:
        assert 0.8 < np.std(pulls[name]) < 1.2


def test_given_vectors_are_used_and_the_reference_counts_as_unstrained() -> None:
    cube, truth = crystal(dose=None)
    direct = np.linalg.inv(np.stack([truth.g1_A, truth.g2_A])).T
    reference = np.zeros(SHAPE, bool)
    reference[2, 3] = True
    measured = cepstral_strain(cube, direct, reference=reference)
    np.testing.assert_allclose(measured.report["r1"], direct[0], rtol=0.02, atol=0.03)
    assert measured.e_xx[2, 3] == 0
    expected = truth.e_xx - truth.e_xx[2, 3]
    np.testing.assert_allclose(measured.e_xx, expected, atol=8e-4)


def test_workers_do_not_change_the_result() -> None:
    cube, _ = crystal()
    one = cepstral_strain(cube, epsilon=1.0, options=RunOptions(workers=1))
    two = cepstral_strain(cube, epsilon=1.0, options=RunOptions(workers=2))
    np.testing.assert_array_equal(one.e_xy, two.e_xy)


def test_positions_without_peaks_are_masked_and_counted() -> None:
    cube, _ = crystal()
    data = np.array(cube.data)
    data[0, 0] = 0
    data[0, 1] = np.random.default_rng(0).poisson(3, data.shape[2:])
    measured = cepstral_strain(DataCube(data))
    assert not measured.mask[0, :2].any()
    assert measured.mask[1:].all()
    assert measured.report["left_out"] == {"no peak": 2}
    assert np.isnan(measured.e_xx[0, 0])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda c: cepstral_strain(c, [(4.0, 0.0), (8.0, 0.1)]), ParameterError, "parallel"),
        (lambda c: cepstral_strain(c, [(4.0, 0.0), (0.0, 400.0)]), ParameterError, "within 0.5"),
        (lambda c: cepstral_strain(c, [1.0, 2.0]), ShapeError, "two rows"),
        (lambda c: cepstral_strain(c, reference=np.ones((3, 3))), ShapeError, "reference"),
        (lambda c: cepstral_strain(c, reference=np.zeros(SHAPE)), ParameterError, "no position"),
        (lambda c: cepstral_strain(DataCube(0 * c.data)), ParameterError, "no intensity"),
        (lambda c: cepstrum(c, epsilon=-1.0), ParameterError, "epsilon"),
    ],
)
def test_bad_input_is_refused(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call(crystal()[0])


def test_reference_crystal(shared_data) -> None:
    folder = shared_data / "strain"
    with h5py.File(folder / "data.h5") as file:
        cube = DataCube(file["data"][::3, ::3])
    truth = np.load(folder / "truth.npz")
    cube = cube.with_calibration(Q_pixel_size=0.0172, Q_pixel_units="A^-1")
    measured = cepstral_strain(cube)
    assert measured.mask.all()
    # Their x is our y, and rotations change sign.
    for name, key, sign, limit in (
        ("e_xx", "eyy", 1, 3e-3), ("e_yy", "exx", 1, 5e-3),
        ("e_xy", "exy", 1, 1.5e-3), ("theta", "rotation", -1, 1.5e-3),
    ):  # fmt: skip
        error = getattr(measured, name) - sign * truth[key][::3, ::3]
        assert np.std(error - np.median(error)) < limit
