"""Curves, maps and words of calibrations hold the numbers of what was measured."""

from __future__ import annotations

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import simulate
from py4DSTEM.plot import residuals


@pytest.fixture(scope="module")
def gold() -> py4DSTEM.DiffractionSlice:
    return simulate.powder_rings((112, 108), ellipse=(1.04, 1.0, 0.6)).pattern


def test_origin() -> None:
    cube = simulate.strained_lattice((5, 7), (64, 60), seed=3, wander_px=0.5).cube
    measured = py4DSTEM.measure_origin(cube)
    fit = measured.fit("plane")
    maps = residuals.origin_residuals(measured, fit)
    np.testing.assert_allclose(
        maps.images[1], measured.origin_px[..., 1] - fit.origin_px[..., 1], atol=1e-12
    )
    assert maps.titles[0].startswith("qx − plane")
    assert maps.limits[0] == -maps.limits[1] < 0
    sigmas = residuals.origin_sigmas(measured)
    np.testing.assert_array_equal(sigmas.images[0], measured.sigma_px[..., 0])
    assert sigmas.limits[0] == 0
    assert f"at {int(measured.mask.sum())} of 35 positions" in measured.text()
    assert "plane" in fit.text() and "outliers" in fit.text()


def test_ellipse(gold: py4DSTEM.DiffractionSlice) -> None:
    found = py4DSTEM.measure_ellipse(gold)
    words = residuals.ellipse_words(found, (10.0, 0.0))
    assert f"{found.center[0] + 10:.3f}" in words
    assert f"{len(found.radii_px)} rings" in words
    maps = residuals.ellipse_maps(found, gold)
    before, after = (np.nanargmax(image, axis=1) for image in maps.images)
    assert np.ptp(after) < np.ptp(before)  # the strongest ring is straight
    chart = residuals.ring_profiles(found)
    assert chart.curves[0].x.min() > 0.6 * found.radii_px.min()
    assert [x for x, _ in chart.places] == found.radii_px.tolist()


def test_pixel_size(gold: py4DSTEM.DiffractionSlice) -> None:
    found = py4DSTEM.measure_pixel_size(gold, "Au")
    chart = residuals.line_deviations(found)
    (curve,) = chart.curves
    np.testing.assert_allclose(curve.y, 100 * found.lines["residual"])
    assert curve.sigma is not None and chart.y_range is not None
    best = int(curve.sigma.argmin())
    assert abs(curve.y[best]) < chart.y_range[1]
    words = residuals.pixel_size_words(found)
    assert f"{len(found.lines)} lines of Au" in words
    assert "comes with the pixel size" in words  # no ellipse was calibrated


def test_rotation() -> None:
    thin = simulate.phase_object((12, 13), step_A=0.5, rotation_rad=0.3, dose=None, seed=1).cube
    found = py4DSTEM.measure_rotation(thin, near_deg=20)
    chart = residuals.rotation_curves(found)
    chosen = next(curve for curve in chart.curves if not curve.dashed)
    assert chosen.name == ("x and y exchanged" if found.flip else "no flip")
    assert chosen.x[chosen.y.argmin()] == pytest.approx(chart.places[0][0], abs=1.5)
    assert residuals.rotation_words(found).startswith("Rotation")


def test_rings_by_direction(gold: py4DSTEM.DiffractionSlice) -> None:
    found = py4DSTEM.measure_ellipse(gold)
    before, ellipse, after = residuals.ring_deviations(found, gold).curves
    np.testing.assert_allclose(before.y, np.interp(before.x, ellipse.x, ellipse.y), atol=0.1)
    assert np.abs(after.y).max() < 0.1 < np.abs(before.y).max()
    assert before.sigma is not None and ellipse.sigma is None and after.sigma is not None
