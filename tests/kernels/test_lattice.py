"""The compiled lattice fit against its twin, and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from py4DSTEM.errors import ShapeError
from py4DSTEM.kernels import LatticeFits, compiled, reference

G = np.array([[11.0, 1.5], [-2.0, 9.0]])
h, k = (a.ravel() for a in np.mgrid[-3:4, -2:3])
HK = np.stack([h, k], -1).astype(float)


def scene(positions: int = 12, noise: float = 0.05, seed: int = 0) -> dict[str, np.ndarray]:
    """Tables with points missing, far off and not finite, and a distorting matrix."""
    rng = np.random.default_rng(seed)
    matrix = np.array([[0.9, 0.2], [-0.1, 1.1]])
    points, offsets = [], [0]
    origins = rng.normal(40, 1, (positions, 2))
    for p in range(positions):
        lattice = G @ (np.eye(2) + rng.normal(0, 0.01, (2, 2)))
        chosen = HK[rng.random(len(HK)) < 0.8]
        points.append(origins[p] + (chosen @ lattice) @ np.linalg.inv(matrix).T)
        points[-1] = points[-1] + rng.normal(0, noise, points[-1].shape)
        points[-1][rng.random(len(chosen)) < 0.05] += 1.0
        offsets.append(offsets[-1] + len(chosen))
    flat = np.concatenate(points)
    flat[5, 0] = np.nan
    variance = noise**2 * rng.uniform(0.5, 2, (len(flat), 2))
    mixed = 0.3 * np.sqrt(variance.prod(1))
    return {
        "points": flat,
        "covariances": np.stack([variance[:, 0], mixed, variance[:, 1]], -1),
        "strength": rng.uniform(0.1, 1, len(flat)),
        "offsets": np.array(offsets),
        "origins": origins,
        "matrix": matrix,
        "starts": np.broadcast_to(G, (positions, 2, 2)),
    }


def both(arguments: dict[str, np.ndarray], **options: float) -> tuple[LatticeFits, LatticeFits]:
    options = {"max_distance": 2.5, **options}
    return (
        compiled().fit_lattices(**arguments, **options),
        reference().fit_lattices(**arguments, **options),
    )


def agree(fast: LatticeFits, slow: LatticeFits) -> None:
    for name, value in slow._asdict().items():
        scale = np.nanmax(abs(value.astype(float)), initial=1e-3)
        np.testing.assert_allclose(
            getattr(fast, name) / scale, value / scale, atol=1e-9, err_msg=name
        )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("huber, reject", [(math.inf, math.inf), (2.0, 6.0)])
def test_compiled_agrees_with_its_twin(seed: int, huber: float, reject: float) -> None:
    agree(*both(scene(seed=seed), huber=huber, reject=reject))


def test_positions_not_asked_for_stay_empty() -> None:
    fast, slow = both({**scene(), "todo": np.arange(12) % 2 == 0})
    agree(fast, slow)
    assert (fast.reason[1::2] == 1).all() and np.isnan(fast.parameters[1::2]).all()
    assert (fast.reason[::2] == 0).all()


def test_an_exact_lattice_far_from_the_start_is_found_exactly() -> None:
    truth = G @ np.array([[1.04, 0.03], [-0.05, 0.97]])
    points = 50 + HK @ truth + [0.6, -0.4]
    covariances = np.tile([0.01, 0.0, 0.01], (len(points), 1))
    fits = compiled().fit_lattices(
        points, covariances, np.ones(len(points)), np.array([0, len(points)]),
        np.full((1, 2), 50.0), np.eye(2), G[None], max_distance=2.0,
    )  # fmt: skip
    assert fits.reason[0] == 0 and fits.count[0] == len(points)
    np.testing.assert_allclose(fits.parameters[0], [0.6, -0.4, *truth.ravel()], atol=1e-12)
    np.testing.assert_array_equal(fits.indices, HK)
    # Equal weights: the covariance has a closed form.
    design = np.column_stack([np.ones(len(HK)), HK])
    expected = 0.01 * np.kron(np.linalg.inv(design.T @ design), np.eye(2))
    np.testing.assert_allclose(fits.covariance[0], expected, atol=1e-12)


def test_an_origin_that_is_wrong_by_half_a_cell_does_not_matter() -> None:
    points = 50 + HK @ G
    for shift in ([5.0, 0.0], [4.0, 5.0], [-3.0, 6.0]):
        arguments = {
            "points": points, "covariances": np.tile([0.01, 0.0, 0.01], (len(points), 1)),
            "strength": np.ones(len(points)), "offsets": np.array([0, len(points)]),
            "origins": 50 + np.array([shift]), "matrix": np.eye(2), "starts": G[None],
        }  # fmt: skip
        fast, slow = both(arguments)
        agree(fast, slow)
        np.testing.assert_allclose(fast.parameters[0, 2:], G.ravel(), atol=1e-9)


@pytest.mark.parametrize(
    "hk, reason",
    [
        ([], 1),
        ([(0, 0)], 2),
        ([(0, 0), (1, 0), (0, 1)], 2),
        ([(-2, 0), (-1, 0), (0, 0), (1, 0), (2, 0)], 3),
        ([(0, 0), (1, 1), (2, 2), (3, 3)], 3),
        ([(0, 0), (1, 0), (0, 1), (1, 1)], 0),
    ],
)
def test_reasons(hk: list[tuple[int, int]], reason: int) -> None:
    points = 50 + np.array(hk, float).reshape(-1, 2) @ G
    arguments = {
        "points": points, "covariances": np.tile([0.01, 0.0, 0.01], (len(points), 1)),
        "strength": np.ones(len(points)), "offsets": np.array([0, len(points)]),
        "origins": np.full((1, 2), 50.0), "matrix": np.eye(2), "starts": G[None],
    }  # fmt: skip
    fast, slow = both(arguments)
    agree(fast, slow)
    assert fast.reason[0] == reason
    assert np.isfinite(fast.parameters).all() == (reason == 0)


def test_a_lattice_too_far_from_the_start_is_refused() -> None:
    points = 50 + np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]) @ (1.27 * G)
    arguments = {
        "points": points, "covariances": np.tile([0.01, 0.0, 0.01], (5, 1)),
        "strength": np.ones(5), "offsets": np.array([0, 5]),
        "origins": np.full((1, 2), 50.0), "matrix": np.eye(2), "starts": G[None],
    }  # fmt: skip
    fast, slow = both(arguments, max_distance=5.0)
    agree(fast, slow)
    assert fast.reason[0] == 4


def test_covariances_that_are_none_leave_a_point_out() -> None:
    arguments = scene(1)
    arguments["covariances"][3] = [np.nan, 0.0, 1.0]
    arguments["covariances"][4] = [1.0, 2.0, 1.0]
    fast, slow = both(arguments)
    agree(fast, slow)
    assert np.isnan(fast.distance[[3, 4]]).all()


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError, match="covariances must have the shape"):
        compiled().fit_lattices(**{**scene(), "covariances": np.zeros((3, 3))}, max_distance=1.0)
