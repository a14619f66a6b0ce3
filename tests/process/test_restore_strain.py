"""Restored strain maps: less noise, honest sigmas, edges as sharp as the noise allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import Calibration, ParameterError, StrainMap, restore_strain
from py4DSTEM.process.strain import COMPONENTS

SHAPE = (48, 40)
SIGMA = 5e-4


def field(name: str) -> np.ndarray:
    u, v = np.meshgrid(*(np.arange(n) / n for n in SHAPE), indexing="ij")
    fields = {
        "e_xx": 0.01 * np.sin(2 * np.pi * u) * np.cos(np.pi * v),
        "e_yy": 0.004 * np.exp(-((u - 0.5) ** 2 + (v - 0.4) ** 2) / 0.02),
        "e_xy": np.zeros(SHAPE),
        "theta": 0.006 * np.cos(3 * np.pi * (u + v)),
    }
    return fields[name]


def noisy(truth: dict[str, np.ndarray], sigma: float = SIGMA, seed: int = 0, **values: object):
    rng = np.random.default_rng(seed)
    shape = truth["e_xx"].shape
    covariance = np.broadcast_to(sigma**2 * np.eye(4), (*shape, 4, 4)).copy()
    maps = {name: truth[name] + rng.normal(0, sigma, shape) for name in COMPONENTS}
    return StrainMap(
        **maps, covariance=covariance, mask=np.ones(shape, bool), reference=np.eye(2), **values
    )


def test_noise_falls_and_sigmas_stay_honest() -> None:
    truth = {name: field(name) for name in COMPONENTS}
    strain = noisy(truth)
    restored = restore_strain(strain)
    for name in COMPONENTS:
        error = getattr(restored, name) - truth[name]
        sigma = restored.sigma(name)
        assert error.std() < 0.5 * SIGMA
        # These few waves and bumps are no stationary field: the sigma is only a guide.
        assert 0.4 < np.sqrt((error**2).mean()) / sigma.mean() < 1.5
    assert restored.method == "infinitesimal, restored"
    assert restored.history.steps[-1].kind == "restore-strain"


def test_sigmas_are_those_of_a_stationary_field() -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(5)
    ratios = []
    for seed in range(5):
        drawn = {n: gaussian_filter(rng.normal(0, 0.01, SHAPE), 2.0) for n in COMPONENTS}
        restored = restore_strain(noisy(drawn, seed=seed))
        for name in COMPONENTS:
            pull = (getattr(restored, name) - drawn[name]) / restored.sigma(name)
            ratios.append((pull**2).mean())
    assert np.sqrt(np.mean(ratios)) == pytest.approx(1, abs=0.1)


def test_what_is_the_same_everywhere_is_averaged() -> None:
    truth = {name: np.full(SHAPE, 0.003) for name in COMPONENTS}
    restored = restore_strain(noisy(truth, seed=3))
    assert abs(restored.e_xx - 0.003).max() < 0.4 * SIGMA


def test_without_noise_nothing_changes() -> None:
    truth = {name: field(name) + 1e-6 for name in COMPONENTS}
    restored = restore_strain(noisy(truth, sigma=1e-9), resolution_A=None)
    np.testing.assert_allclose(restored.theta, truth["theta"], atol=1e-7)


def test_resolution_is_undone() -> None:
    from scipy.ndimage import gaussian_filter

    step = np.where((np.arange(SHAPE[1]) // 8) % 2 == 0, 0.0, 0.02)
    truth = {name: np.broadcast_to(step, SHAPE).copy() for name in COMPONENTS}
    blurred = {name: gaussian_filter(value, 0.7, mode="mirror") for name, value in truth.items()}
    strain = noisy(
        blurred,
        sigma=2e-4,
        calibration=Calibration().replace(R_pixel_size=10.0, R_pixel_units="A"),
    )
    left = restore_strain(strain, resolution_A=None)
    undone = restore_strain(strain, resolution_A=7.0)
    assert (undone.e_xx - truth["e_xx"]).std() < 0.7 * (left.e_xx - truth["e_xx"]).std()


def test_auto_resolution_needs_a_calibration() -> None:
    truth = {name: field(name) for name in COMPONENTS}
    report = restore_strain(noisy(truth)).report["restored"]
    assert "not undone" in report["resolution (A)"]
    with pytest.raises(ParameterError):
        restore_strain(noisy(truth), resolution_A=10.0)


def test_masked_positions_stay_masked_and_do_no_harm() -> None:
    truth = {name: field(name) for name in COMPONENTS}
    strain = noisy(truth)
    mask = np.ones(SHAPE, bool)
    mask[10:16, 20:30] = False
    holes = {name: np.where(mask, getattr(strain, name), np.nan) for name in COMPONENTS}
    restored = restore_strain(replace(strain, **holes, mask=mask))
    assert np.isnan(restored.e_xx[~mask]).all()
    error = (restored.e_xx - truth["e_xx"])[mask]
    assert error.std() < 0.5 * SIGMA


def test_refusals() -> None:
    truth = {name: field(name) for name in COMPONENTS}
    strain = noisy(truth)
    with pytest.raises(ParameterError, match="no uncertainties"):
        restore_strain(replace(strain, covariance=np.full((*SHAPE, 4, 4), np.nan)))
    with pytest.raises(ParameterError, match="less than half"):
        restore_strain(replace(strain, mask=np.zeros(SHAPE, bool)))
    small = {name: np.zeros((4, 30)) for name in COMPONENTS}
    with pytest.raises(ParameterError, match="too few"):
        restore_strain(noisy(small))


def test_files(tmp_path) -> None:
    truth = {name: field(name) for name in COMPONENTS}
    restored = restore_strain(noisy(truth))
    py4DSTEM.save(tmp_path / "strain.h5", restored)
    again = py4DSTEM.read(tmp_path / "strain.h5")
    np.testing.assert_array_equal(again.e_yy, restored.e_yy)
    assert again.method == restored.method
