"""Lattice vectors of every position against known truth, with honest uncertainties."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lattices import FIELDS, lattice_peaks, noisy_peaks, turn

import py4DSTEM
from py4DSTEM import (
    BraggPeaks,
    CalibrationMissing,
    LatticeFit,
    ParameterError,
    PointTable,
    ShapeError,
    choose_basis,
    fit_lattice,
)
from py4DSTEM.errors import SolveError
from py4DSTEM.process.bragg.lattice import FitLattice
from py4DSTEM.process.bragg.lattice_table import REASONS
from py4DSTEM.simulate.lattice import LatticeTruth

SQUARE = np.array([[14.0, 3.0], [-3.0, 14.0]])
OBLIQUE = np.array([[9.0, 1.0], [4.0, 17.0]])
HEXAGONAL = 13 * np.array([[1.0, 0.0], [0.5, np.sqrt(3) / 2]])


def true_vectors(truth: LatticeTruth) -> np.ndarray:
    return np.stack([truth.g1_local_A, truth.g2_local_A], -2)


def pulls(fit: LatticeFit, truth: LatticeTruth) -> np.ndarray:
    errors = (fit.vectors - true_vectors(truth)).reshape(*fit.shape, 4)
    return errors[fit.mask] / fit.sigma[fit.mask]


def inside(values: np.ndarray) -> tuple[float, float]:
    return float((abs(values) < 1).mean()), float((abs(values) < 2).mean())


def honest(values: np.ndarray) -> None:
    one, two = inside(values)
    assert 0.62 <= one <= 0.74 and 0.92 <= two <= 0.98, (one, two)


# ---- the basis -----------------------------------------------------------------------------------
@pytest.mark.parametrize("lattice", [SQUARE, OBLIQUE, HEXAGONAL, [[6.0, 1.0], [-4.0, 25.0]]])
@pytest.mark.parametrize("stray", [0, 4])
def test_basis_is_a_basis_of_the_lattice(lattice: np.ndarray, stray: int) -> None:
    basis = choose_basis(lattice_peaks(np.array(lattice), stray=stray))
    change = basis.vectors @ np.linalg.inv(lattice)
    np.testing.assert_allclose(change, np.rint(change), atol=0.02)
    assert abs(np.linalg.det(np.rint(change))) == pytest.approx(1)
    assert np.linalg.det(basis.vectors) > 0
    assert basis.explained > 0.95 and basis.unit == "px"


def test_basis_direction_does_not_depend_on_the_peaks() -> None:
    for angle in np.deg2rad([0, 20, 44, 46, 89, 134, 200, 300]):
        basis = choose_basis(lattice_peaks(SQUARE @ turn(angle)))
        assert abs(np.arctan2(basis.g1[1], basis.g1[0])) <= np.pi / 4 + 1e-2
        assert np.linalg.det(basis.vectors) > 0


def test_forbidden_reflections_make_the_cell_larger() -> None:
    hk = np.stack([a.ravel() for a in np.mgrid[-9:10, -9:10]], -1)
    cell = np.array([[10.0, 2.0], [-2.8, 14.0]])
    basis = choose_basis(lattice_peaks(cell, hk=hk[hk.sum(1) % 2 == 0].astype(float), stray=3))
    change = np.rint(basis.vectors @ np.linalg.inv(cell))
    assert abs(np.linalg.det(change)) == pytest.approx(2)


def test_weak_superlattice_is_kept_and_stray_peaks_make_none() -> None:
    fine = choose_basis(lattice_peaks(0.6 * SQUARE, weak=0.02, stray=2))
    assert np.linalg.norm(fine.g1) == pytest.approx(0.6 * np.linalg.norm(SQUARE[0]), rel=0.01)
    coarse = choose_basis(lattice_peaks(1.2 * SQUARE, stray=6))
    assert np.linalg.norm(coarse.g1) == pytest.approx(1.2 * np.linalg.norm(SQUARE[0]), rel=0.01)


def test_clicked_vectors_are_refined_and_keep_their_order() -> None:
    peaks = lattice_peaks(SQUARE)
    basis = choose_basis(peaks, g1=(-2.0, 15.0), g2=(13.0, 2.0))
    np.testing.assert_allclose(basis.vectors, SQUARE[::-1], atol=0.02)
    basis = choose_basis(peaks, g1=(-2.0, 15.0))
    np.testing.assert_allclose(basis.g1, SQUARE[1], atol=0.02)
    assert abs(np.linalg.det(basis.vectors)) == pytest.approx(np.linalg.det(SQUARE), rel=0.01)
    # A cell with a vector at which there is no peak: the others tell where it is.
    hk = np.stack([a.ravel() for a in np.mgrid[-9:10, -9:10]], -1)
    centred = lattice_peaks(SQUARE, hk=hk[hk.sum(1) % 2 == 0].astype(float))
    basis = choose_basis(centred, g1=(14.6, 3.3), g2=(-3.4, 13.7))
    np.testing.assert_allclose(basis.vectors, SQUARE, atol=0.02)


def test_no_origin_is_needed() -> None:
    fit = fit_lattice(lattice_peaks(SQUARE, calibrated=False))
    assert fit.mask.all() and fit.report["origin"] == "the brightest peaks"
    np.testing.assert_allclose(fit.vectors.mean((0, 1)), SQUARE, atol=0.01)
    np.testing.assert_allclose(fit.calibration.mean_origin_px, (64, 65), atol=0.05)


def test_origin_unknown_at_some_positions() -> None:
    peaks = lattice_peaks(SQUARE)
    origin = np.full((5, 6, 2), [64.0, 65.0])
    origin[1, 2:4] = np.nan
    fit = fit_lattice(peaks.with_calibration(origin_px=origin))
    assert fit.mask.all()
    with pytest.raises(CalibrationMissing, match="origin"):
        fit_lattice(peaks.with_calibration(origin_px=origin * np.nan))


# ---- values and uncertainties --------------------------------------------------------------------
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ellipse": (1.04, 1.0, 0.5), "rotation_rad": 0.4},
        {"rotation_rad": -2.0, "strain": {"e_xx": 0.03, "theta": 0.05}},
    ],
)
def test_exact_peaks_give_exact_vectors(options: dict[str, object]) -> None:
    truth = py4DSTEM.simulate.strained_lattice((6, 7), seed=4, dose=None, **options).truth
    fit = fit_lattice(truth.peaks())
    change = np.rint(fit.basis @ np.linalg.inv([truth.g1_A, truth.g2_A]))
    np.testing.assert_allclose(fit.vectors, change @ true_vectors(truth), atol=1e-13)
    np.testing.assert_allclose(fit.origin, 0, atol=1e-13)
    assert fit.unit == "A^-1" and not fit.several.any()


def test_flip_exchanges_the_axes() -> None:
    truth = py4DSTEM.simulate.strained_lattice((3, 4), seed=4, dose=None).truth
    peaks = truth.peaks()
    flipped = peaks.points.copy()
    flipped["qx"], flipped["qy"] = peaks.points["qy"], peaks.points["qx"]
    swapped = replace(peaks, points=flipped).with_calibration(
        origin_px=truth.origin_px[..., ::-1], flip=True
    )
    np.testing.assert_allclose(fit_lattice(swapped).vectors, fit_lattice(peaks).vectors, atol=1e-13)


@pytest.mark.parametrize(
    "options",
    [{}, {"scatter_px": 0.1}, {"wild": 0.04}, {"ellipse": (1.05, 1.0, 0.4), "rotation_rad": 0.4}],
    ids=["counts", "unknown scatter", "outliers", "ellipse"],
)
def test_uncertainties_are_honest(options: dict[str, object]) -> None:
    peaks, truth = noisy_peaks(**options)
    fit = fit_lattice(peaks)
    assert fit.mask.all()
    honest(pulls(fit, truth))
    assert np.nanmean(fit.chi2) == pytest.approx(1, abs=0.05)
    origin = np.linalg.inv(truth.calibration.Q_matrix("A^-1"))
    assert abs(fit.origin @ origin.T).max() < 0.3
    honest((fit.origin / fit.sigma_origin).ravel())


@pytest.mark.parametrize("weights", ["sigma", "intensity", "equal"])
def test_uncertainties_without_those_of_the_peaks(weights: str) -> None:
    peaks, truth = noisy_peaks()
    points = peaks.points[["qx", "qy", "intensity"]].astype(FIELDS)
    bare = PointTable(points, peaks.offsets, peaks.shape, peaks.calibration)
    fit = fit_lattice(bare, weights=weights)
    one, two = inside(pulls(fit, truth))
    assert 0.6 <= one <= 0.74 and 0.91 <= two <= 0.98


def test_added_scatter_is_measured() -> None:
    peaks, _ = noisy_peaks(scatter_px=0.1)
    assert fit_lattice(peaks).report["added scatter (px)"] == pytest.approx(0.1, rel=0.05)
    peaks, _ = noisy_peaks()
    assert fit_lattice(peaks).report["added scatter (px)"] < 0.01


def test_robust_fit_is_hardly_worse_for_outliers() -> None:
    peaks, truth = noisy_peaks(wild=0.04)
    clean, _ = noisy_peaks()
    rms = [
        np.sqrt(((fit.vectors - true_vectors(truth)) ** 2).mean())
        for fit in (fit_lattice(clean), fit_lattice(peaks), fit_lattice(peaks, robust=False))
    ]
    assert rms[1] < 1.12 * rms[0] and rms[2] > 1.5 * rms[0]


# ---- slopes in disks -----------------------------------------------------------------------------
@pytest.mark.parametrize("prior", [None, 0.1])
def test_smooth_slopes_sharpen_the_lattice_and_stay_honest(prior: float | None) -> None:
    peaks, truth = noisy_peaks(slopes=True, prior=prior)
    bare, _ = noisy_peaks()
    smooth, free = fit_lattice(peaks), fit_lattice(peaks, disk_slopes="free")
    best = fit_lattice(bare)
    rms = [
        np.sqrt(((fit.vectors - true_vectors(truth)) ** 2).mean()) for fit in (best, smooth, free)
    ]
    assert rms[1] < 1.1 * rms[0]
    assert rms[1] < 0.85 * rms[2]
    honest(pulls(smooth, truth))
    scatter = smooth.report["disk slopes"]["scatter about the smooth field (per px)"]
    assert scatter == pytest.approx(0.0115, abs=0.003)


def test_the_prior_of_the_disks_does_not_matter_after_smoothing() -> None:
    with_prior, without = (
        fit_lattice(noisy_peaks((12, 12), slopes=True, prior=prior)[0]) for prior in (0.05, None)
    )
    np.testing.assert_allclose(with_prior.vectors, without.vectors, atol=2e-7)
    np.testing.assert_allclose(with_prior.sigma, without.sigma, rtol=1e-3)


def test_slopes_of_a_single_position_are_left_alone() -> None:
    peaks, _ = noisy_peaks((1, 1), slopes=True)
    smooth, free = fit_lattice(peaks), fit_lattice(peaks, disk_slopes="free")
    np.testing.assert_array_equal(smooth.vectors, free.vectors)


# ---- grains and bending --------------------------------------------------------------------------
def test_a_bent_crystal_is_followed_from_neighbour_to_neighbour() -> None:
    angles = np.deg2rad(np.linspace(-40, 40, 41))
    lattice = np.broadcast_to((OBLIQUE @ turn(angles))[:, None], (41, 4, 2, 2))
    fit = fit_lattice(lattice_peaks(lattice, (41, 4), stray=2))
    assert fit.mask.all() and fit.report["lattices"] == 1
    theta = fit.strain_map(method="polar").theta
    expected = np.broadcast_to((angles - angles.mean())[:, None], theta.shape)
    np.testing.assert_allclose(theta - theta.mean(), expected, atol=2e-3)


def test_overlapping_grains_are_flagged_and_both_fitted() -> None:
    one, two = lattice_peaks(SQUARE, (6, 9)), lattice_peaks(SQUARE @ turn(0.5), (6, 9), seed=5)
    cells = [
        [
            one[i, j] if j < 4 else two[i, j] if j > 4 else np.concatenate([one[i, j], two[i, j]])
            for j in range(9)
        ]
        for i in range(6)
    ]
    fit = fit_lattice(PointTable.from_lists(cells, calibration=one.calibration))
    assert fit.mask.all() and fit.report["lattices"] == 2
    assert fit.several[:, 4].all() and not fit.several[:, :4].any() and not fit.several[:, 5:].any()
    np.testing.assert_allclose(np.linalg.norm(fit.g1, axis=-1), np.hypot(14, 3), atol=0.05)


def test_noise_gives_no_lattice_that_looks_fine() -> None:
    rng = np.random.default_rng(2)
    good = lattice_peaks(SQUARE, (6, 6))
    cells = [[good[i, j] for j in range(6)] for i in range(6)]
    for i, j in ((1, 1), (4, 4)):
        cells[i][j] = cells[i][j].copy()
        cells[i][j]["qx"], cells[i][j]["qy"] = rng.uniform(0, 128, (2, len(cells[i][j])))
    fit = fit_lattice(PointTable.from_lists(cells, calibration=good.calibration))
    assert fit.mask.sum() == 34 and not fit.mask[1, 1] and not fit.mask[4, 4]
    assert np.isnan(fit.g1[1, 1]).all() and np.isnan(fit.covariance[4, 4]).all()


# ---- bad input -----------------------------------------------------------------------------------
def test_bad_positions_are_masked_with_reasons() -> None:
    good = lattice_peaks(SQUARE, (4, 4))
    cells = [[good[i, j] for j in range(4)] for i in range(4)]
    line = np.zeros(5, FIELDS)
    line["qx"], line["qy"] = ((64, 65) + np.arange(-2, 3)[:, None] * SQUARE[0]).T
    line["intensity"] = 1
    lost = good[0, 0].copy()
    lost["qx"] = np.nan
    cells[0] = [line[:0], line[2:3], line, lost]
    fit = fit_lattice(PointTable.from_lists(cells, calibration=good.calibration))
    assert [REASONS[r] for r in fit.reason[0]] == [
        "no peaks", "too few peaks on the lattice", "peaks on one line", "no peaks",
    ]  # fmt: skip
    assert not fit.mask[0].any() and fit.mask[1:].all()
    assert np.isnan(fit.g1[0]).all() and np.isnan(fit.sigma[0]).all()
    assert fit.report["positions"] == {
        "usable": 12, "no peaks": 2, "too few peaks on the lattice": 1, "peaks on one line": 1,
    }  # fmt: skip


def test_nothing_to_fit_raises() -> None:
    good = lattice_peaks(SQUARE, (2, 2))
    nothing = good.select(np.zeros(len(good), bool))
    with pytest.raises(SolveError, match="no scan position has two Bragg peaks"):
        fit_lattice(nothing)
    line = np.zeros(5, FIELDS)
    line["qx"], line["qy"], line["intensity"] = *((64, 65) + np.arange(5)[:, None] * SQUARE[0]).T, 1
    with pytest.raises(SolveError, match="no two lattice vectors"):
        fit_lattice(PointTable.from_lists([[line, line]], calibration=good.calibration))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"g1": (3.0, 1.0), "g2": (6.0, 2.0)}, "parallel"),
        ({"g1": (0.0, 0.0)}, "g1"),
        ({"g1": (np.nan, 1.0)}, "g1"),
        ({"min_peaks": 2}, "min_peaks"),
        ({"weights": "some"}, "weights"),
        ({"max_distance_px": -1.0}, "max_distance_px"),
    ],
)
def test_bad_parameters_raise(options: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        fit_lattice(lattice_peaks(SQUARE), **options)


def test_wrong_values_raise() -> None:
    table = PointTable.from_lists([[np.zeros(3, [("x", "f8")])]])
    with pytest.raises(ParameterError, match="qx"):
        fit_lattice(table)
    with pytest.raises(ParameterError, match="fit-lattice works on PointTable"):
        FitLattice().apply(np.zeros(3))
    fit = fit_lattice(lattice_peaks(SQUARE))
    with pytest.raises(ShapeError, match="g1"):
        replace(fit, g1=fit.g1[:2])


# ---- as a value ----------------------------------------------------------------------------------
def test_fit_is_saved_and_read(tmp_path: Path) -> None:
    fit = fit_lattice(lattice_peaks(SQUARE))
    py4DSTEM.save(tmp_path / "fit.h5", fit)
    back = py4DSTEM.read(tmp_path / "fit.h5")
    assert isinstance(back, LatticeFit)
    for name in ("g1", "g2", "covariance", "mask", "reason", "several", "count", "basis"):
        np.testing.assert_array_equal(getattr(back, name), getattr(fit, name))
    assert back.report == fit.report and back.history.steps == fit.history.steps
    assert back.unit == fit.unit


def test_method_history_and_peaks_are_untouched() -> None:
    peaks, _ = noisy_peaks((4, 4), slopes=True)
    before = peaks.points.copy()
    fit = peaks.fit_lattice(min_peaks=5)
    assert fit.history.steps[-1].kind == "fit-lattice"
    assert fit.history.steps[-1].parameters["min_peaks"] == 5
    assert peaks.points.tobytes() == before.tobytes()
    assert isinstance(peaks, BraggPeaks) and "LatticeFit" in repr(fit)
