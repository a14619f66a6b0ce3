"""Comparison of strain maps."""

from __future__ import annotations

import numpy as np
import pytest

from py4DSTEM import compare_strain
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.strain import StrainMap

SHAPE = (40, 30)


def noisy(sigma: float, seed: int, offset: float = 0.0, shape=SHAPE) -> StrainMap:
    truth = np.random.default_rng(0).normal(0, 0.01, (4, *shape))
    values = truth + offset + sigma * np.random.default_rng(seed).standard_normal(truth.shape)
    covariance = np.broadcast_to(sigma**2 * np.eye(4), (*shape, 4, 4))
    return StrainMap(*values, covariance, np.ones(shape, bool), np.eye(2))


def test_offset_rms_correlation_and_pulls() -> None:
    comparison = compare_strain({"a": noisy(1e-3, 1), "b": noisy(2e-3, 2, offset=5e-3)})
    one = comparison["a", "b", "e_xy"]
    assert one.offset == pytest.approx(5e-3, abs=3e-4)
    assert one.rms == pytest.approx(np.sqrt(5) * 1e-3, rel=0.1)
    assert one.correlation > 0.95
    assert one.pull_rms == pytest.approx(1, abs=0.1)
    assert one.within(1) == pytest.approx(0.683, abs=0.05)
    assert one.count == 1200


def test_maps_in_other_axes_are_turned() -> None:
    plain = noisy(0.0, 1)
    one = compare_strain({"a": plain, "b": plain.rotated(0.4)})["a", "b", "e_xx"]
    assert one.rms < 1e-12
    assert np.isnan(one.pull_rms)


def test_components_that_are_not_known_are_left_out() -> None:
    ring = noisy(1e-3, 1)
    ring.theta[:] = np.nan
    comparison = compare_strain({"a": noisy(1e-3, 2), "b": ring, "c": noisy(1e-3, 3)})
    assert len(comparison.differences) == 3 + 4 + 3
    assert comparison.to_slice().shape == (10, *SHAPE)
    assert len(comparison.text().splitlines()) == 11
    with pytest.raises(KeyError, match="theta"):
        comparison["a", "b", "theta"]


def test_bad_input_is_refused() -> None:
    one = noisy(1e-3, 1)
    with pytest.raises(ParameterError, match="two"):
        compare_strain({"a": one})
    with pytest.raises(ShapeError, match="'b'"):
        compare_strain({"a": one, "b": noisy(1e-3, 1, shape=(3, 4))})
    empty = noisy(1e-3, 1)
    empty.mask[:] = False
    with pytest.raises(ParameterError, match="fewer than 3"):
        compare_strain({"a": one, "b": empty})
