"""Deviations of rings from circles, by direction, where they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from py4DSTEM import DiffractionSlice, PointTable, measure_ellipse
from py4DSTEM.process.calibrate.ring_angles import ring_angles

CENTER, RADII = (58.3, 55.1), (20.0, 31.0, 42.0)


def deviation(angle: np.ndarray, ellipse: float, threefold: float) -> np.ndarray:
    return ellipse * np.cos(2 * (angle - 0.5)) + threefold * np.cos(3 * (angle - 0.4))


def rings(ellipse: float, threefold: float, keep: float = 2 * math.pi) -> DiffractionSlice:
    """A pattern that is not square; `keep`: the azimuth that the rings cover."""
    x, y = np.indices((120, 110)) - np.reshape(CENTER, (2, 1, 1))
    angle = np.arctan2(y, x) % (2 * math.pi)
    r = np.hypot(x, y) / (1 + deviation(angle, ellipse, threefold))
    heights = zip(RADII, (200, 120, 90), strict=True)
    mean = sum(height * np.exp(-(((r - radius) / 1.5) ** 2)) for radius, height in heights)
    rng = np.random.default_rng(4)
    return DiffractionSlice(rng.poisson(5 + np.where(angle < keep, mean, 0)).astype(float))


@pytest.mark.parametrize(("ellipse", "threefold"), [(0.015, 0.0), (0.015, 0.008), (0.0, 0.008)])
def test_what_an_ellipse_describes_is_gone_and_nothing_else(ellipse, threefold) -> None:
    pattern = rings(ellipse, threefold)
    found = ring_angles(measure_ellipse(pattern), pattern)
    for got, expected in (
        (found.before, deviation(found.angle_rad, ellipse, threefold)),
        (found.after, deviation(found.angle_rad, 0.0, threefold)),
    ):
        assert np.sqrt(np.mean((got - expected) ** 2)) < 0.0009 + 0.1 * threefold
    assert 0.0003 < np.median(found.sigma) < 0.0012
    assert np.abs(found.curve[1]).max() == pytest.approx(ellipse, abs=0.001)


def test_uncertainties_are_those_of_the_noise() -> None:
    pattern = rings(0.0, 0.0)
    found = ring_angles(measure_ellipse(pattern), pattern)
    assert np.sqrt(np.mean((found.after / found.sigma) ** 2)) == pytest.approx(1.0, abs=0.35)


def test_directions_without_rings_have_none() -> None:
    pattern = rings(0.01, 0.0, keep=math.radians(250))
    found = ring_angles(measure_ellipse(pattern, center=CENTER), pattern)
    empty = found.angle_rad > math.radians(255)
    assert np.isnan(found.after[empty]).mean() > 0.8  # noise looks like a ring now and then
    assert np.isfinite(found.after[found.angle_rad < math.radians(245)]).all()
    np.testing.assert_array_equal(np.isnan(found.before), np.isnan(found.sigma))


def test_peaks_of_many_grains() -> None:
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, 2 * math.pi, 4000)
    radius = rng.choice(RADII, 4000) * (1 + deviation(angle, 0.015, 0.006))
    radius += rng.normal(0, 0.1, 4000)
    table = np.zeros(4000, [("qx", "f8"), ("qy", "f8"), ("intensity", "f8")])
    table["qx"] = 60 + radius * np.cos(angle)
    table["qy"] = 57 + radius * np.sin(angle)
    offsets = np.linspace(0, 4000, 21).astype(np.int64)
    peaks = PointTable(table, offsets, (4, 5)).with_calibration(origin_px=(60.0, 57.0))
    found = ring_angles(measure_ellipse(peaks), peaks)
    expected = deviation(found.angle_rad, 0.0, 0.006)
    assert np.sqrt(np.mean((found.after - expected) ** 2)) < 0.001
    expected = deviation(found.angle_rad, 0.015, 0.006)
    assert np.sqrt(np.mean((found.before - expected) ** 2)) < 0.001
