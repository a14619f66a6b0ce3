"""Rings drawn on a pattern lie where its rings are."""

from __future__ import annotations

import math

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import simulate
from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.process.calibrate.outlines import ellipse_rings, line_rings

ELLIPSE = (1.06, 1.0, 0.7)


@pytest.fixture(scope="module")
def pattern() -> py4DSTEM.DiffractionSlice:
    return simulate.powder_rings((128, 120), ellipse=ELLIPSE).pattern


def radii_of(ring: np.ndarray, center: tuple[float, float]) -> np.ndarray:
    """Of the undistorted ring (area kept)."""
    undo = Ellipse(*ELLIPSE).correction() * math.sqrt(ELLIPSE[0] / ELLIPSE[1])
    return np.linalg.norm((ring - center) @ undo.T, axis=1)


def test_rings_of_an_ellipse(pattern: py4DSTEM.DiffractionSlice) -> None:
    found = py4DSTEM.measure_ellipse(pattern)
    rings = ellipse_rings(found)
    assert len(rings) == len(found.radii_px)
    for ring, radius in zip(rings, found.radii_px, strict=True):
        np.testing.assert_allclose(radii_of(ring, found.center), radius, rtol=2e-3)
        np.testing.assert_allclose(ring[0], ring[-1])
    moved = ellipse_rings(found, (3.0, -2.0))
    np.testing.assert_allclose(moved[0] - rings[0], np.broadcast_to([3.0, -2.0], rings[0].shape))


@pytest.mark.parametrize("known", [True, False])
def test_lines_of_a_reference(pattern: py4DSTEM.DiffractionSlice, known: bool) -> None:
    """With a calibrated ellipse, and with the one that the fit finds itself."""
    if known:
        pattern = pattern.with_calibration(py4DSTEM.measure_ellipse(pattern))
    found = py4DSTEM.measure_pixel_size(pattern, "Au")
    rings = line_rings(found)
    assert [name for name, _ in rings] == found.lines["label"].tolist()
    # Radii of the fit are those of the ellipse that keeps its area, or its small semi-axis.
    for (_, ring), line in zip(rings, found.lines, strict=True):
        radius = radii_of(ring, found.center)
        scale = math.sqrt(ELLIPSE[0] / ELLIPSE[1]) if known else 1.0
        np.testing.assert_allclose(radius, scale * line["radius_px"], rtol=6e-3)
