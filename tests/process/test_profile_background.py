"""Backgrounds of radial profiles against what was put in."""

from __future__ import annotations

import numpy as np
import pytest

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.scattering import Composition
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.polar.background import fit_profile_background
from py4DSTEM.process.radial import RadialProfileResult

Q = 0.02 * np.arange(70)
RING = np.exp(-(((Q - 0.6) / 0.05) ** 2) / 2)
WINDOWS = [[0.1, 0.35], [0.85, 1.3]]
SHARES = np.linspace(0.5, 2, 12).reshape(3, 4)


def profiles(data, unit="A^-1"):
    pixels = np.broadcast_to(2 * np.pi * np.maximum(np.arange(len(Q)), 0.2), data.shape)
    return RadialProfileResult(np.asarray(data), pixels.copy(), Axis("q", 0.02, 0.0, unit), 1.0)


def power(amplitude, exponent):
    safe = np.where(Q > 0, Q, 1.0)
    return np.where(Q > 0, amplitude[..., None] * safe ** -exponent[..., None], 0.0)


def test_power_laws_of_every_position():
    exponent = 3 - SHARES
    data = power(4 * SHARES, exponent)
    fit = fit_profile_background(profiles(data + 3 * RING), WINDOWS)
    np.testing.assert_allclose(fit.coefficients[..., 0], 4 * SHARES, rtol=1e-3)
    np.testing.assert_allclose(fit.coefficients[..., 1], exponent, rtol=1e-3)
    left = fit.subtracted.data - 3 * RING
    np.testing.assert_allclose(left[..., 5:], 0, atol=0.02)
    assert fit.rms.max() < 0.01 and fit.history.steps[-1].kind == "profile-background"


def test_power_laws_are_those_of_the_counts():
    """Few counts, many of them zero: no bias of amplitude or exponent."""
    pixels = 2 * np.pi * np.maximum(np.arange(len(Q)), 0.2)
    expected = power(np.full(400, 0.02), np.full(400, 1.5))
    counts = np.random.default_rng(1).poisson(expected * pixels) / pixels
    fit = fit_profile_background(profiles(counts), WINDOWS)
    error = fit.coefficients[:, 1].std() / 20
    assert fit.coefficients[:, 1].mean() == pytest.approx(1.5, abs=4 * error)
    assert error < 0.02


def test_polynomials_and_atoms():
    smooth = 3 - Q + 0.5 * Q**2
    own = Composition.parse("SiO2").mean_f2_A2(Q)
    data = SHARES[..., None] * smooth + 2 * RING
    fit = fit_profile_background(profiles(data), WINDOWS, method="polynomial")
    np.testing.assert_allclose(fit.background, SHARES[..., None] * smooth, atol=1e-3)
    data = SHARES[..., None] * own + smooth + 2 * RING
    fit = fit_profile_background(profiles(data), WINDOWS, method="atomic", composition="SiO2")
    np.testing.assert_allclose(fit.coefficients[..., 0], SHARES, atol=2e-3)


def test_profiles_of_other_positions():
    """Two shapes that vary independently below a ring that only half of the scan has."""
    rng = np.random.default_rng(2)
    amounts = rng.uniform(1, 2, (3, 4, 2))
    shapes = np.stack([np.exp(-Q / 0.2), np.exp(-Q / 0.6)])
    background = amounts @ shapes
    has_ring = np.zeros((3, 4), bool)
    has_ring[:, 2:] = True
    data = background + 2 * has_ring[..., None] * RING
    fit = fit_profile_background(profiles(data), WINDOWS, method="pca", reference=~has_ring)
    np.testing.assert_allclose(fit.background, background, atol=1e-3)
    np.testing.assert_allclose(fit.subtracted.data[0, 3], 2 * RING, atol=1e-3)


def test_what_cannot_be_fitted_is_nan():
    data = power(4 * SHARES, 3 - SHARES)
    data[0, 1] = np.nan
    data[1, 2] = 0
    fit = fit_profile_background(profiles(data), WINDOWS)
    bad = np.isnan(fit.coefficients).all(axis=-1)
    assert bad[0, 1] and bad[1, 2] and bad.sum() == 2
    assert np.isfinite(fit.background[~bad][:, 1:]).all()


@pytest.mark.parametrize(
    ("windows", "given", "error", "words"),
    [
        ([[0.1, 0.12]], {}, ParameterError, "is the least for 'power-law'"),
        ([[0.5, 0.1]], {}, ParameterError, "windows are"),
        ([], {}, ParameterError, "windows are pairs"),
        ([0.1, 0.2], {}, ParameterError, "windows are pairs"),
        (WINDOWS, {"method": "atomic"}, ParameterError, "needs a composition"),
        (WINDOWS, {"method": "pca", "components": 12}, ParameterError, "12 reference profiles"),
        (WINDOWS, {"method": "pca", "reference": np.ones((2, 2), bool)}, ShapeError, "not fit"),
        (WINDOWS, {"method": "pca", "reference": np.ones(3, bool)}, ShapeError, "a reference is"),
        (WINDOWS, {"order": 9}, ParameterError, "order"),
    ],
)
def test_bad_input(windows, given, error, words):
    data = power(4 * SHARES, 3 - SHARES)
    with pytest.raises(error, match=words):
        fit_profile_background(profiles(data), windows, **given)


def test_atoms_need_a_calibrated_profile():
    data = power(4 * SHARES, 3 - SHARES)
    with pytest.raises(ParameterError, match="need q in 1/Å"):
        fit_profile_background(
            profiles(data, "px"), WINDOWS, method="atomic", composition="C"
        )  # fmt: skip
