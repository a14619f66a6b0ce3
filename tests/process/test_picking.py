"""Lattice vectors picked from the Bragg vector map."""

from __future__ import annotations

import numpy as np
import pytest
from lattices import lattice_peaks

from py4DSTEM import ParameterError, PointTable
from py4DSTEM.errors import SolveError
from py4DSTEM.process.bragg.picking import PickingMap

G = np.array([[14.0, 3.0], [-4.0, 17.0]])


@pytest.fixture(scope="module", params=[True, False], ids=["calibrated", "no origin"])
def picking(request: pytest.FixtureRequest) -> PickingMap:
    return PickingMap.of(lattice_peaks(G, (3, 4), calibrated=request.param, noise=0.05))


def test_peaks_are_the_lattice(picking: PickingMap) -> None:
    vectors = picking.vector(picking.peaks_px)
    hk = vectors @ np.linalg.inv(G)
    assert len(vectors) > 20
    np.testing.assert_allclose(hk, np.rint(hk), atol=0.02)
    assert np.rint(hk).any(axis=1).all()  # not the direct beam


def test_points_and_vectors_are_inverse(picking: PickingMap) -> None:
    np.testing.assert_allclose(picking.pixels([0.0, 0.0]), picking.origin_px)
    np.testing.assert_allclose(picking.vector(picking.pixels(G)), G)


def test_snaps_to_the_nearest_peak_only_if_it_is_near(picking: PickingMap) -> None:
    beside = picking.pixels(G[0] + [1.5, -2.0])
    np.testing.assert_allclose(picking.vector(picking.snapped(beside, 8.0)), G[0], atol=0.1)
    np.testing.assert_array_equal(picking.snapped(beside, 1.0), beside)
    with pytest.raises(ParameterError, match="row, column"):
        picking.snapped([np.nan, 1.0], 3.0)


def test_lattice_points_lie_on_the_map(picking: PickingMap) -> None:
    points, hk = picking.lattice(G)
    np.testing.assert_allclose(picking.vector(points), hk @ G, atol=1e-9)
    assert (points > -0.5).all() and (points < np.array(picking.image.shape) - 0.5).all()
    outside, _ = picking.lattice(100 * G)
    assert len(outside) == 1  # zero alone


@pytest.mark.parametrize(
    "vectors, words",
    [
        ([G[0], 2 * G[0]], "parallel"),
        (0.01 * G, "too short"),
        ([G[0], [np.nan, 1.0]], "parallel"),
    ],
)
def test_what_is_no_lattice_is_refused(picking: PickingMap, vectors: object, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        picking.lattice(vectors)


def test_no_peaks() -> None:
    table = PointTable(np.zeros(0, [("qx", "f8"), ("qy", "f8")]), np.zeros(5, int), (2, 2))
    with pytest.raises(SolveError, match="holds no peaks"):
        PickingMap.of(table)
