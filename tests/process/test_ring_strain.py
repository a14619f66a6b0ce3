"""Strain from amorphous rings of known distortion."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from py4DSTEM import DataCube, RunOptions, ring_strain
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError

SHAPE, Q_SHAPE = (9, 10), (64, 72)
ORIGIN = np.array([31.2, 36.4])


def field(seed: int = 0, size: float = 0.02) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return tuple(size * rng.uniform(-1, 1, (3, *SHAPE)))


def rings(strain, *, dose: float | None, ellipse=None, wander: float = 0.0, seed: int = 1):
    """Patterns of a glass: a ring at |(1 + e) q| = 20 px over a background, counted."""
    rng = np.random.default_rng(seed)
    e_xx, e_yy, e_xy = (e[..., None, None] for e in strain)
    origins = ORIGIN + wander * rng.standard_normal((*SHAPE, 2))
    i, j = np.indices(Q_SHAPE)
    x, y = i - origins[..., 0, None, None], j - origins[..., 1, None, None]
    if ellipse is not None:
        x, y = ellipse[0, 0] * x + ellipse[0, 1] * y, ellipse[1, 0] * x + ellipse[1, 1] * y
    r = np.hypot((1 + e_xx) * x + e_xy * y, e_xy * x + (1 + e_yy) * y)
    ideal = np.exp(-((r - 20) ** 2) / (2 * 3.0**2)) + 0.5 * np.exp(-r / 15)
    thickness = 1 + 0.1 * rng.standard_normal(SHAPE)[..., None, None]
    ideal *= thickness * (1.0 if dose is None else dose) / ideal.sum(axis=(2, 3)).mean()
    data = ideal if dose is None else rng.poisson(ideal).astype(np.uint16)
    return DataCube(data).with_calibration(origin_px=ORIGIN)


def test_known_strain_without_noise() -> None:
    strain = field()
    measured = ring_strain(rings(strain, dose=None, wander=0.5), 11, 29)
    for name, truth in zip(("e_xx", "e_yy", "e_xy"), strain, strict=True):
        error = getattr(measured, name) - truth
        assert (error - np.median(error)).std() < 2e-4
    assert np.isnan(measured.theta).all()
    assert measured.mask.all()


def test_pulls_with_counting_noise() -> None:
    strain = field(3)
    measured = ring_strain(rings(strain, dose=20_000, wander=0.3), 11, 29)
    for name, truth in zip(("e_xx", "e_yy", "e_xy"), strain, strict=True):
        error = getattr(measured, name) - truth
        pull = (error - error.mean()) / measured.sigma(name)
        assert 0.8 < pull.std() < 1.2
        assert measured.sigma(name).max() < 4e-3


def test_reference_positions_count_as_unstrained() -> None:
    strain = field()
    for e in strain:
        e[:3] = 0.01
    reference = np.zeros(SHAPE, bool)
    reference[:3] = True
    measured = ring_strain(rings(strain, dose=None), 11, 29, reference=reference)
    np.testing.assert_allclose(measured.e_xx[reference], 0, atol=2e-4)
    np.testing.assert_allclose(measured.e_xx, strain[0] - 0.01, atol=6e-4)


def test_an_ellipse_that_is_not_calibrated_is_the_references() -> None:
    strain = field(5, 0.005)
    plain = ring_strain(rings(strain, dose=None), 11, 29)
    bent = ring_strain(
        rings(strain, dose=None, ellipse=np.array([[1.01, 0.006], [0.006, 0.99]])), 11, 29
    )
    np.testing.assert_allclose(bent.e_xy, plain.e_xy, atol=4e-4)
    assert bent.report["reference_strain"][0] == pytest.approx(0.01, abs=2e-3)


def test_components_are_in_calibrated_axes() -> None:
    strain = field(7)
    cube = rings(strain, dose=None)
    turned = cube.with_calibration(cube.calibration.replace(rotation_rad=np.pi / 2, flip=False))
    swapped = cube.with_calibration(cube.calibration.replace(rotation_rad=0.0, flip=True))
    plain = ring_strain(cube, 11, 29)
    for other, sign in ((turned, -1), (swapped, 1)):
        measured = ring_strain(other, 11, 29)
        np.testing.assert_allclose(measured.e_xx, plain.e_yy, atol=1e-9)
        np.testing.assert_allclose(measured.e_xy, sign * plain.e_xy, atol=1e-9)


def test_components_turn_though_the_rotation_is_not_known() -> None:
    measured = ring_strain(rings(field(), dose=5000), 11, 29)
    turned = measured.rotated(np.pi / 2)
    np.testing.assert_allclose(turned.e_xx, measured.e_yy, atol=1e-12)
    np.testing.assert_allclose(turned.sigma_e_xx, measured.sigma_e_yy, rtol=1e-9)
    assert np.isnan(turned.sigma_theta).all()


def test_workers_do_not_change_the_result() -> None:
    cube = rings(field(), dose=5000)
    one = ring_strain(cube, 11, 29, options=RunOptions(workers=1))
    two = ring_strain(cube, 11, 29, options=RunOptions(workers=2))
    np.testing.assert_array_equal(one.e_xy, two.e_xy)


def test_empty_patterns_are_masked_and_counted() -> None:
    cube = rings(field(), dose=5000)
    data = np.array(cube.data)
    data[0, 0] = 0
    measured = ring_strain(DataCube(data).with_calibration(origin_px=ORIGIN), 11, 29)
    assert not measured.mask[0, 0]
    assert measured.mask.sum() == measured.mask.size - 1
    assert measured.report["left_out"] == {"not fitted": 1}


def test_pixels_outside_the_mask_do_not_count() -> None:
    cube = rings(field(), dose=None)
    data = np.array(cube.data)
    data[..., 28:34, 36:] = 1e6
    keep = np.ones(Q_SHAPE, bool)
    keep[28:34, 36:] = False
    measured = ring_strain(DataCube(data).with_calibration(origin_px=ORIGIN), 11, 29, mask=keep)
    np.testing.assert_allclose(measured.e_xx, ring_strain(cube, 11, 29).e_xx, atol=5e-4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda c: ring_strain(c, 20, 10), ParameterError, "smaller"),
        (lambda c: ring_strain(c, 300, 310), ParameterError, "ring"),
        (lambda c: ring_strain(DataCube(c.data), 11, 29), CalibrationMissing, "origin"),
        (lambda c: ring_strain(c, 11, 29, reference=np.ones((2, 2))), ShapeError, "reference"),
        (
            lambda c: ring_strain(c, 11, 29, reference=np.zeros(SHAPE)),
            ParameterError,
            "no position",
        ),
    ],
)
def test_bad_input_is_refused(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call(rings(field(), dose=1000))


def test_speckles_of_a_glass_are_in_the_uncertainty(shared_data) -> None:
    with h5py.File(shared_data / "amorphous" / "data.h5") as file:
        cube = DataCube(file["data"][:])
    cube = cube.with_calibration(origin_px=cube.find_beam().center)
    measured = ring_strain(cube, 12, 28)
    assert measured.mask.all()
    # An unstrained glass: what is measured is noise.
    for name in ("e_xx", "e_yy", "e_xy"):
        pull = getattr(measured, name)[measured.mask] / measured.sigma(name)[measured.mask]
        assert 0.7 < np.subtract(*np.percentile(pull, [84, 16])) / 2 < 1.4
