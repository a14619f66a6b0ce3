"""Phases of scan positions where they are known."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import nnls

import py4DSTEM
from py4DSTEM import Crystal, MatchPhases, match_phases, misorientation_deg, simulate
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError, SolveError
from py4DSTEM.process.crystal.mixture import decompose, nonnegative

SHARED = Path(os.environ.get("PY4DSTEM_SHARED_DATA", "../shared/data"))


# ---- shares --------------------------------------------------------------------------------------
def test_nonnegative_is_that_of_an_active_set() -> None:
    rng = np.random.default_rng(1)
    A, y = rng.random((40, 9, 3)), rng.normal(0.2, 1, (40, 9))
    normal, right = np.einsum("pji,pjk->pik", A, A), np.einsum("pji,pj->pi", A, y)
    expected = [nnls(a, b)[0] for a, b in zip(A, y, strict=True)]
    found = nonnegative(normal, right)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (found == 0).any()


def test_a_mixture_is_taken_apart() -> None:
    rng = np.random.default_rng(2)
    truth = rng.uniform(5, 50, (200, 2))
    truth[:20, 1] = 0
    patterns = rng.uniform(0.2, 1, (200, 12, 2)) * (rng.random((200, 12, 2)) < 0.7)
    exact = np.einsum("pjm,pm->pj", patterns, truth)
    measured = exact * rng.lognormal(0, 0.1, exact.shape)
    position = np.repeat(np.arange(200), 12)
    scales, covariance = decompose(
        measured.ravel(), patterns.reshape(-1, 2), position, 200, scatter=0.1, floor=0.01
    )
    assert np.median(abs(scales - truth)[20:] / truth[20:]) < 0.06
    pull = (scales - truth)[20:] / np.sqrt(np.einsum("pmm->pm", covariance))[20:]
    assert 0.6 < np.percentile(abs(pull), 68) < 1.5
    assert (scales >= 0).all() and np.median(scales[:20, 1] / scales[:20, 0]) < 0.05


# ---- two crystals over each other ----------------------------------------------------------------
@cache
def wedge() -> tuple[Any, Any, Any, Any]:
    """Copper that gives way to gold from right to left; peaks, share of copper, both scans."""
    shape: Any = ((6, 20), (128, 128))
    copper = simulate.polycrystal(*shape, crystal="Cu", grains=2, dose=None, seed=1)
    gold = simulate.polycrystal(*shape, crystal="Au", grains=2, dose=None, seed=2)
    share = np.clip(np.linspace(-0.5, 1.5, 20), 0, 1) * np.ones((6, 20))
    w = share[..., None, None]
    mean = w * np.asarray(copper.cube.data) + (1 - w) * np.asarray(gold.cube.data)
    counts = np.random.default_rng(3).poisson(2e4 * mean).astype(np.uint16)
    cube = py4DSTEM.DataCube(counts).with_calibration(copper.truth.calibration)
    peaks = cube.find_bragg_disks(copper.truth.probe)
    return peaks, share, copper, gold


@cache
def wedge_phases() -> Any:
    return match_phases(wedge()[0], ["Cu", "Au"], amorphous=False)


def test_two_crystals_and_their_shares() -> None:
    _, share, copper, gold = wedge()
    found = wedge_phases()
    pure = (share == 0) | (share == 1)
    assert found.names == ("Cu", "Au")
    assert (found.labels == (share < 0.5))[pure].all()
    assert found.mixed[pure].mean() < 0.1
    assert found.mixed[(share > 0.3) & (share < 0.7)].mean() > 0.1
    known = ~pure & found.indexed
    copper_share = found.fraction("Cu")
    assert np.corrcoef(copper_share[known], share[known])[0, 1] > 0.8
    pull = abs(copper_share - share)[known] / found.sigma[..., 0][known]
    assert 0.5 < np.percentile(pull, 68) < 2.0
    np.testing.assert_allclose(found.fractions[found.indexed].sum(axis=-1), 1)
    for phase, scan, here in (("Cu", copper, share == 1), ("Au", gold, share == 0)):
        one = found.orientation(phase)
        off = one.misorientation_deg(scan.truth.matrices)[here]
        turned = misorientation_deg(one.alternative[:, :, 0], scan.truth.matrices, one.crystal)
        assert np.median(np.fmin(off, turned[here])) < 2
        assert not one.indexed[~here & pure].any()


def test_evidence_keeps_patterns_out() -> None:
    peaks, share, _, _ = wedge()
    strict = match_phases(peaks, ["Cu", "Au"], amorphous=False, evidence=1e3, step_deg=5)
    assert not strict.indexed.any() and np.isnan(strict.fractions).all()
    one = match_phases(peaks, ["Cu", "Au"], amorphous=False, max_patterns=1, step_deg=5)
    assert not one.mixed.any() and one.components.shape == (6, 20, 1)
    assert (one.labels == (share < 0.5))[(share == 0) | (share == 1)].all()


def test_a_crystal_that_is_not_there_has_no_share() -> None:
    found = match_phases(wedge()[0], ["Cu", "Si", "Au"], amorphous=False, step_deg=5)
    share = wedge()[1]
    pure = (share == 0) | (share == 1)
    assert found.fraction("Si")[pure].mean() < 0.05
    assert np.nanmean(found.fraction("Si")) < 0.15
    # Where two patterns lie over each other a third crystal may look right, but not surely.
    wrong = found.confidence[found.mask("Si")]
    assert not len(wrong) or np.median(wrong) < 0.9


def test_what_a_pattern_lacks_is_amorphous() -> None:
    """One crystal is not looked for: its part of the intensity is no share of the other."""
    peaks, share, _, _ = wedge()
    found = match_phases(peaks, ["Cu"])
    assert found.names == ("Cu", "amorphous")
    mixed = (share > 0.3) & (share < 1) & (found.labels >= 0)
    assert np.corrcoef(found.fraction("Cu")[mixed], share[mixed])[0, 1] > 0.9
    assert abs(found.fraction("Cu") - share)[mixed].mean() < 0.1


# ---- nothing but the ring of an amorphous film ---------------------------------------------------
def test_amorphous_and_empty_positions() -> None:
    from py4DSTEM.process.classes.crystallinity import CrystallinityMap

    peaks = wedge()[0]
    ry = peaks.positions[:, 1]
    bare = peaks.select(ry < 14)  # the columns of pure copper are robbed of their peaks
    crystal = np.where(np.arange(20) < 14, 0.8, 0.05) * np.ones((6, 20))
    diffuse = np.full((6, 20), 100.0)
    diffuse[:, 17:] = 1.0
    flat = np.full((6, 20), 0.01)
    known = CrystallinityMap(crystal, flat, crystal * 100, diffuse, 5.0, 40.0)
    found = match_phases(bare, ["Cu", "Au"], crystallinity=known, step_deg=5)
    assert (found.labels[:, 14:17] == 2).all() and (found.labels[:, 17:] == -1).all()
    assert (found.confidence[:, 14:17] > 0.99).all()
    assert (found.fraction("amorphous")[:, 14:17] == 1).all()
    without = match_phases(bare, ["Cu", "Au"], step_deg=5)
    assert (without.labels[:, 14:] == 2).all() and np.isnan(without.confidence[:, 14:]).all()
    step = MatchPhases(crystals=["Cu"], crystallinity=known)
    again = MatchPhases(**json.loads(json.dumps(step.parameters())))
    np.testing.assert_allclose(again.crystallinity.diffuse, diffuse, rtol=1e-6)
    with pytest.raises(ShapeError, match="crystallinity map"):
        match_phases(bare, ["Cu"], crystallinity=CrystallinityMap(*np.ones((4, 2, 3)), 5.0, 40.0))


# ---- bad input -----------------------------------------------------------------------------------
def test_crystals_that_cannot_be_told_apart() -> None:
    peaks = wedge()[0]
    with pytest.raises((ParameterError, ValueError), match="crystal"):
        match_phases(peaks, [])
    with pytest.raises(ParameterError, match="two crystals are called 'Cu'"):
        match_phases(peaks, ["Cu", "Cu"])
    copy = {**Crystal.common("Cu").plain(), "name": "copper"}
    with pytest.raises(ParameterError, match="same reflections"):
        match_phases(peaks, ["Cu", copy])
    with pytest.raises(ParameterError, match="amorphous"):
        match_phases(peaks, [{**copy, "name": "amorphous"}])
    with pytest.raises(ParameterError, match="unobtainium"):
        match_phases(peaks, ["unobtainium"])
    with pytest.raises(ParameterError, match="crystallinity"):
        match_phases(peaks, ["Cu"], crystallinity=np.ones((6, 20)))


def test_peaks_that_say_too_little() -> None:
    peaks = wedge()[0]
    with pytest.raises(CalibrationMissing):
        match_phases(peaks.with_calibration(Q_pixel_size=1.0, Q_pixel_units="px"), ["Cu", "Au"])
    few = np.zeros(len(peaks), bool)
    few[peaks.offsets[:-1][np.diff(peaks.offsets) > 0]] = True
    with pytest.raises(SolveError, match="peaks"):
        match_phases(peaks.select(few), ["Cu", "Au"])
    rng = np.random.default_rng(4)
    noise = {"rx": rng.integers(0, 3, 60), "ry": rng.integers(0, 4, 60),
             "qx": rng.uniform(0, 128, 60), "qy": rng.uniform(0, 128, 60),
             "intensity": rng.uniform(1, 2, 60)}  # fmt: skip
    wild = py4DSTEM.BraggPeaks.from_columns(
        noise, (3, 4), calibration=peaks.calibration.replace(origin_px=np.array([63.5, 63.5]))
    )
    try:
        found = match_phases(wild, ["Cu", "Au"])
    except SolveError:
        return
    assert found.indexed.mean() < 0.3


# ---- grains of two phases in carbon --------------------------------------------------------------
@cache
def two_phase() -> Any:
    folder = SHARED / "twophase"
    if not folder.is_dir():
        pytest.skip("no reference data")
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "data.h5") as file:
        data, vacuum = file["data"][()], file["vacuum_probe"][()]
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    cube = py4DSTEM.DataCube(data)
    probe = py4DSTEM.measure_probe(py4DSTEM.DiffractionSlice(vacuum))
    peaks = cube.find_bragg_disks(probe).calibrate_origin()
    peaks = peaks.with_calibration(
        Q_pixel_size=meta["detector_pixel_1_per_A_nominal"], Q_pixel_units="A^-1",
        energy_eV=meta["energy_eV"],
    )  # fmt: skip
    mask = ~cube.detect_hot_pixels().mask
    share = cube.with_calibration(peaks.calibration).crystallinity(mask=mask)
    copper = Crystal.from_lattice([3.615], [("Cu", (0, 0, 0))], space_group=225, name="Cu")
    oxide = Crystal.from_lattice(
        [4.2696], [("O", (0, 0, 0)), ("Cu", (0.25, 0.25, 0.25))], space_group="P n -3 m:1",
        name="Cu2O",
    )  # fmt: skip
    found = match_phases(peaks, [copper, oxide], crystallinity=share)
    return found, truth, dict(np.load(folder / "truth.npz"))


def test_phases_of_grains_in_carbon() -> None:
    found, truth, maps = two_phase()
    which = np.array([found.names.index(p) for p in truth["phase_of_label"]])
    pure, label = maps["pure"] > 0, maps["label"].astype(int)
    assert (found.labels == which[label])[pure].mean() > 0.99
    assert np.nanmin(found.confidence[pure & (label > 0)]) > 0.95
    assert found.mixed[pure].mean() < 0.01
    # The nominal pixel size is 1.2 % off.
    assert abs(found.calibration.Q_pixel_size / truth["detector_pixel_1_per_A"] - 1) < 3e-3
    want = np.stack([maps["region_fraction"][..., which == k].sum(-1) for k in range(3)], -1)
    known = np.isfinite(found.fractions).all(-1)
    for k in range(3):
        measured, true = found.fractions[..., k], want[..., k]
        assert np.corrcoef(measured[known], true[known])[0, 1] > 0.98
        edge = known & ~pure
        assert np.corrcoef(measured[edge], true[edge])[0, 1] > 0.9
        sure = edge & (found.sigma[..., k] > 0)
        pull = abs(measured - true)[sure] / found.sigma[..., k][sure]
        assert 0.4 < np.percentile(pull, 68) < 1.4 and (pull < 2).mean() > 0.9


def test_orientations_of_grains_in_carbon() -> None:
    found, truth, maps = two_phase()
    pure, label = maps["pure"] > 0, maps["label"].astype(int)
    frame = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])
    for entry in truth["labels"][1:]:
        here = pure & (label == entry["label"])
        one = found.orientation(entry["phase"])
        R = (frame @ np.array(entry["orientation_matrix"])).T
        off = one.misorientation_deg(R)[here]
        # Patterns of one zone look the same after half a turn about it; this is flagged.
        turned = misorientation_deg(one.alternative[:, :, 0], R, one.crystal)[here]
        assert (np.fmin(off, turned) < 2).mean() > 0.98
        assert ((off < 2) | one.ambiguous[:, :, 0][here]).mean() > 0.9
