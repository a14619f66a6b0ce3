"""Strain against closed forms, simulated truth and the reference data."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from lattices import lattice_peaks, noisy_peaks, turn

import py4DSTEM
from py4DSTEM import (
    Calibration,
    LatticeFit,
    ParameterError,
    PointTable,
    ShapeError,
    StrainMap,
    fit_lattice,
    strain_map,
)
from py4DSTEM.process.strain import COMPONENTS, MapStrain

G0 = np.array([[0.24, 0.05], [-0.06, 0.27]])


def lattice_of(vectors: np.ndarray, sigma: float = 1e-4) -> LatticeFit:
    """A fit with the given g1, g2 (Rx, Ry, 2, 2)."""
    shape = vectors.shape[:2]
    nothing = np.zeros(shape)
    return LatticeFit(
        g1=vectors[..., 0, :], g2=vectors[..., 1, :], origin=np.zeros((*shape, 2)),
        covariance=np.broadcast_to(sigma**2 * np.eye(4), (*shape, 4, 4)),
        sigma_origin=np.zeros((*shape, 2)), residual=nothing, chi2=nothing + 1,
        count=np.full(shape, 9), mask=np.isfinite(vectors).all((2, 3)),
        reason=np.zeros(shape, np.uint8), several=nothing > 0, basis=G0, unit="A^-1",
    )  # fmt: skip


# ---- signs and formulas --------------------------------------------------------------------------
@pytest.mark.parametrize(
    "real_space, expected",
    [
        ([[1.01, 0.0], [0.0, 1.0]], {"e_xx": 0.01}),
        ([[1.0, 0.0], [0.0, 0.98]], {"e_yy": -0.02}),
        ([[1.0, 0.005], [0.005, 1.0]], {"e_xy": 0.005}),
        (turn(0.02).T, {"theta": 0.02}),
    ],
    ids=COMPONENTS,
)
@pytest.mark.parametrize("method", ["infinitesimal", "polar"])
def test_signs(real_space: np.ndarray, expected: dict[str, float], method: str) -> None:
    """F maps reference lattice vectors of the crystal (columns) to local ones; g = F^-T g0."""
    vectors = G0 @ np.linalg.inv(np.array(real_space))
    strain = strain_map(lattice_of(vectors[None, None]), tuple(G0), method=method)
    tolerance = 1e-14 if method == "polar" else 5e-4
    for name in COMPONENTS:
        assert getattr(strain, name)[0, 0] == pytest.approx(expected.get(name, 0.0), abs=tolerance)


def test_polar_is_exact_for_large_strain_and_rotation() -> None:
    stretch = np.array([[1.2, 0.1], [0.1, 0.85]])
    for angle in (-2.5, -0.4, 0.0, 1.0, 3.0):
        F = turn(angle).T @ stretch
        vectors = G0 @ np.linalg.inv(F)
        strain = strain_map(lattice_of(vectors[None, None]), tuple(G0), method="polar")
        found = [getattr(strain, name)[0, 0] for name in COMPONENTS]
        np.testing.assert_allclose(found, [0.2, -0.15, 0.1, angle], atol=1e-13)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ellipse": (1.04, 1.0, 0.5)},
        {"rotation_rad": 0.7},
        {"ellipse": (1.0, 1.03, -0.2), "rotation_rad": -2.0},
    ],
)
def test_simulated_truth_is_found_exactly(options: dict[str, object]) -> None:
    truth = py4DSTEM.simulate.strained_lattice((9, 12), seed=2, dose=None, **options).truth
    lattice = fit_lattice(truth.peaks())
    for reference in (truth.reference, None):
        if reference is None:
            change = np.rint(lattice.basis @ np.linalg.inv([truth.g1_A, truth.g2_A]))
            reference = tuple(change @ [truth.g1_A, truth.g2_A])
        strain = strain_map(lattice, reference)
        for name in COMPONENTS:
            np.testing.assert_allclose(getattr(strain, name), getattr(truth, name), atol=1e-12)


def test_simulated_truth_is_found_behind_a_flip() -> None:
    truth = py4DSTEM.simulate.strained_lattice((5, 8), seed=2, dose=None).truth
    peaks = truth.peaks()
    points = peaks.points.copy()
    points["qx"], points["qy"] = peaks.points["qy"], peaks.points["qx"]
    known = truth.calibration.replace(origin_px=truth.origin_px[..., ::-1], flip=True)
    strain = strain_map(fit_lattice(PointTable(points, peaks.offsets, peaks.shape, known)),
                        truth.reference)  # fmt: skip
    for name in COMPONENTS:
        np.testing.assert_allclose(getattr(strain, name), getattr(truth, name), atol=1e-12)


# ---- the reference data --------------------------------------------------------------------------
def test_strain_of_the_reference_lattice_vectors(shared_data: Path) -> None:
    """Disks at the true positions of the multislice data give its true strain.

    Its frame is x along columns: x and y are exchanged, e_xx with e_yy, and rotations change sign.
    Its strain is that of the displacement, F = 1 + grad u.
    """
    truth = np.load(shared_data / "strain" / "truth.npz")
    scalars = json.loads((shared_data / "strain" / "truth.json").read_text())
    pixel, ratio = scalars["detector_pixel_1_per_A"], scalars["ellipse_ratio_a_over_b"]
    h, k = (a.ravel() for a in np.mgrid[-3:4, -3:4])
    local = np.stack([truth["g1_local_xy"], truth["g2_local_xy"]], -2)
    here = (h + k) % 2 == 0  # of the [110] zone axis the others are forbidden
    g = np.stack([h[here], k[here]], -1) @ local
    columns_rows = g @ np.array(scalars["ellipse_matrix_xy"]).T / pixel
    table = np.zeros(g.shape[:3], [("qx", "f8"), ("qy", "f8"), ("intensity", "f8")])
    table["qx"] = truth["origin_row"][..., None] + columns_rows[..., 1]
    table["qy"] = truth["origin_col"][..., None] + columns_rows[..., 0]
    table["intensity"] = 1 + 4.0 * ((h == 0) & (k == 0))[here]
    shape = table.shape[:2]
    known = Calibration().replace(
        origin_px=np.stack([truth["origin_row"], truth["origin_col"]], -1),
        ellipse=(ratio, 1.0, math.pi / 2 - math.radians(scalars["ellipse_major_axis_deg"])),
        # The correction shrinks the long axis to the short one; the matrix has determinant 1.
        Q_pixel_size=pixel * math.sqrt(ratio),
        Q_pixel_units="A^-1",
    )
    offsets = np.arange(shape[0] * shape[1] + 1) * here.sum()
    lattice = fit_lattice(PointTable(table.ravel(), offsets, shape, known))
    cell = np.array([scalars["reference_g1_xy_1_per_A"], scalars["reference_g2_xy_1_per_A"]])
    reference = cell[:, ::-1]
    change = np.rint(lattice.basis @ np.linalg.inv(reference))
    assert abs(np.linalg.det(change)) == pytest.approx(2)
    strain = strain_map(lattice, tuple(change @ reference), method="polar")
    F = truth["F"][..., ::-1, ::-1]
    theta = np.arctan2(F[..., 1, 0] - F[..., 0, 1], F[..., 0, 0] + F[..., 1, 1])
    stretch = turn(theta) @ F
    np.testing.assert_allclose(strain.e_xx, stretch[..., 0, 0] - 1, atol=1e-10)
    np.testing.assert_allclose(strain.e_yy, stretch[..., 1, 1] - 1, atol=1e-10)
    np.testing.assert_allclose(strain.e_xy, stretch[..., 0, 1], atol=1e-10)
    np.testing.assert_allclose(strain.theta, theta, atol=1e-10)
    for ours, theirs, sign in (
        ("e_xx", "eyy", 1), ("e_yy", "exx", 1), ("e_xy", "exy", 1), ("theta", "rotation", -1),
    ):  # fmt: skip
        np.testing.assert_allclose(getattr(strain, ours), sign * truth[theirs], atol=1e-3)


# ---- uncertainties -------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["infinitesimal", "polar"])
def test_uncertainties_are_honest(method: str) -> None:
    small = {"e_xx": 0.002, "theta": 0.001}
    peaks, truth = noisy_peaks(strain=small, rotation_rad=0.3)
    strain = strain_map(fit_lattice(peaks), (truth.g1_A, truth.g2_A), method=method)
    for name in COMPONENTS:
        pull = (getattr(strain, name) - getattr(truth, name)) / strain.sigma(name)
        assert 0.62 <= (abs(pull) < 1).mean() <= 0.74, name
        assert 0.92 <= (abs(pull) < 2).mean() <= 0.98, name
    assert (strain.sigma_reference == 0).all()


@pytest.mark.parametrize("method", ["infinitesimal", "polar"])
def test_covariance_is_that_of_the_lattice_carried_along(method: str) -> None:
    rng = np.random.default_rng(0)
    local = G0 @ np.array([[1.1, 0.2], [-0.15, 0.9]])
    draws = local + 1e-5 * rng.normal(size=(1, 20000, 2, 2))
    lattice = lattice_of(draws, 1e-5)
    strain = strain_map(lattice, tuple(G0), method=method).rotated(0.5)
    sample = np.cov([getattr(strain, name).ravel() for name in COMPONENTS])
    np.testing.assert_allclose(sample, strain.covariance[0, 0], atol=0.05 * sample.max())


def test_uncertainty_of_a_measured_reference() -> None:
    rng = np.random.default_rng(1)
    errors = []
    for _ in range(60):
        lattice = lattice_of(G0 + 1e-4 * rng.normal(size=(5, 8, 2, 2)))
        strain = strain_map(lattice, ((0, 3), (0, 8)))
        exact = strain_map(lattice, tuple(G0))
        errors.append((strain.e_xx - exact.e_xx).mean() / strain.sigma_reference[0])
    assert np.std(errors) == pytest.approx(1, abs=0.35)
    one = strain_map(lattice, ((0, 1), (0, 1)))
    assert one.e_xx[0, 0] == pytest.approx(0, abs=1e-12)
    assert one.sigma_reference[0] == pytest.approx(one.sigma_e_xx[0, 0])


# ---- axes and references -------------------------------------------------------------------------
def test_rotated_axes() -> None:
    rng = np.random.default_rng(3)
    beta = np.eye(2) + 0.02 * rng.normal(size=(3, 4, 2, 2))
    angle = 0.4
    lattice, turned = lattice_of(G0 @ beta), lattice_of(G0 @ beta @ turn(-angle))
    direct = strain_map(turned, tuple(G0 @ turn(-angle)))
    by_angle = strain_map(lattice, tuple(G0), axis=angle)
    for name in COMPONENTS:
        np.testing.assert_allclose(getattr(by_angle, name), getattr(direct, name), atol=1e-14)
        np.testing.assert_allclose(by_angle.sigma(name), direct.sigma(name), rtol=1e-12)
    assert by_angle.axis_angle_rad == angle
    back = by_angle.rotated(-angle)
    np.testing.assert_allclose(back.e_xy, strain_map(lattice, tuple(G0)).e_xy, atol=1e-14)


@pytest.mark.parametrize("axis, vector", [("g1", G0[0]), ("g2", G0[1]), ((1, -1), G0[0] - G0[1])])
def test_axes_along_the_lattice(axis: object, vector: np.ndarray) -> None:
    lattice = lattice_of(np.broadcast_to(G0, (2, 3, 2, 2)))
    strain = strain_map(lattice, tuple(G0), axis=axis)
    assert strain.axis_angle_rad == pytest.approx(math.atan2(vector[1], vector[0]))


def test_ways_to_give_the_reference() -> None:
    truth = py4DSTEM.simulate.strained_lattice((8, 8), seed=2, dose=None).truth
    lattice = fit_lattice(truth.peaks())
    region = np.zeros((8, 8), bool)
    region[2:5, :2] = True
    by_mask, by_corners = strain_map(lattice, region), strain_map(lattice, ((2, 5), (0, 2)))
    np.testing.assert_array_equal(by_mask.e_xx, by_corners.e_xx)
    by_vectors = strain_map(lattice, by_mask.reference)
    np.testing.assert_allclose(by_vectors.e_xx, by_mask.e_xx, atol=1e-14)
    median = strain_map(lattice, method="polar")
    for name in COMPONENTS:
        assert np.median(getattr(median, name)) == pytest.approx(0, abs=1e-4)
    assert median.report["reference"] == "median of all positions"


def test_mask_and_unusable_positions_are_nan() -> None:
    vectors = np.array(np.broadcast_to(G0, (3, 4, 2, 2)))
    vectors[0, 0] = np.nan
    keep = np.ones((3, 4), bool)
    keep[2, 3] = False
    for method in ("infinitesimal", "polar"):
        strain = strain_map(lattice_of(vectors), method=method, mask=keep)
        assert strain.mask.sum() == 10
        for values in (*strain.components().values(), strain.sigma_theta):
            np.testing.assert_array_equal(np.isfinite(values), strain.mask)


# ---- bad input -----------------------------------------------------------------------------------
def test_bad_references_raise() -> None:
    lattice = lattice_of(np.broadcast_to(G0, (3, 4, 2, 2)))
    with pytest.raises(ParameterError, match="reference region holds no usable lattice"):
        strain_map(lattice, np.zeros((3, 4), bool))
    with pytest.raises(ShapeError, match="reference has the shape"):
        strain_map(lattice, np.zeros((3, 5), bool))
    with pytest.raises(ParameterError, match="spans no lattice"):
        strain_map(lattice, ((0.1, 0.2), (0.2, 0.4)))
    with pytest.raises(ParameterError, match="a reference is a mask"):
        strain_map(lattice, np.zeros(3))
    with pytest.raises(ParameterError, match="no direction"):
        strain_map(lattice, axis=(0, 0))
    with pytest.raises(ParameterError, match="axis"):
        strain_map(lattice, axis=math.nan)
    with pytest.raises(ParameterError, match="method"):
        strain_map(lattice, method="other")
    with pytest.raises(ParameterError, match="exclude each other"):
        MapStrain(reference=lattice.mask, reference_vectors=G0.tolist()).apply(lattice)


def test_nothing_usable_raises() -> None:
    lattice = lattice_of(np.full((2, 2, 2, 2), np.nan))
    with pytest.raises(ParameterError, match="no position of 'lattice' has a usable lattice"):
        strain_map(lattice)
    with pytest.raises(ParameterError, match="strain-map works on LatticeFit"):
        MapStrain().apply(np.zeros(3))


# ---- as a value ----------------------------------------------------------------------------------
def test_strain_is_saved_and_read(tmp_path: Path) -> None:
    strain = fit_lattice(lattice_peaks(60 * G0)).strain_map(axis=0.2)
    py4DSTEM.save(tmp_path / "strain.h5", strain)
    back = py4DSTEM.read(tmp_path / "strain.h5")
    assert isinstance(back, StrainMap)
    for name in (*COMPONENTS, "covariance", "mask", "reference", "reference_covariance"):
        np.testing.assert_array_equal(getattr(back, name), getattr(strain, name))
    assert back.report == strain.report and back.history.steps == strain.history.steps
    assert back.axis_angle_rad == strain.axis_angle_rad and back.method == strain.method


def test_views() -> None:
    strain = fit_lattice(lattice_peaks(60 * G0)).strain_map()
    stack = strain.to_slice(sigmas=True)
    assert stack.labels[:4] == COMPONENTS and stack.labels[4] == "sigma_e_xx"
    np.testing.assert_array_equal(stack["sigma_theta"].data, strain.sigma_theta)
    assert "e_xy: median" in strain.text() and "infinitesimal" in repr(strain)
    assert strain.history.steps[-1].kind == "strain-map"
    with pytest.raises(ShapeError, match="covariance"):
        StrainMap(*[np.zeros((2, 3))] * 4, np.zeros((2, 3, 4)), np.ones((2, 3), bool), G0)


def unstrained() -> tuple[np.ndarray, LatticeFit]:
    """Known vectors (2, 2), and a fit to perfect peaks."""
    scan = py4DSTEM.simulate.strained_lattice((4, 5), strain={}, seed=1)
    return np.array([scan.truth.g1_A, scan.truth.g2_A]), fit_lattice(scan.truth.peaks())


@pytest.mark.parametrize("basis", [[[0, 1], [1, 0]], [[-1, 0], [0, 1]], [[1, 1], [0, 1]]])
def test_known_lattice_by_any_basis(basis: list[list[int]]) -> None:
    known, lattice = unstrained()
    longer = strain_map(lattice, np.array(basis) @ known * 1.01)
    np.testing.assert_allclose(longer.e_xx, 1 - 1 / 1.01, atol=1e-12)
    np.testing.assert_allclose(longer.e_xy, 0, atol=1e-12)


def test_known_lattice_far_turned() -> None:
    known, lattice = unstrained()
    strain = strain_map(lattice, known @ turn(0.4).T, method="polar")
    np.testing.assert_allclose(abs(strain.theta), 0.4, atol=1e-9)
    np.testing.assert_allclose(strain.e_xx, 0, atol=1e-9)


@pytest.mark.parametrize("wrong", [[[1, 1], [-1, 1]], [[2 * np.pi, 0], [0, 2 * np.pi]]])
def test_another_lattice_is_no_reference(wrong: list[list[float]]) -> None:
    known, lattice = unstrained()
    with pytest.raises(ParameterError, match="not the same"):
        strain_map(lattice, np.array(wrong) @ known)
