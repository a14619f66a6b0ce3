"""A reference that is dragged gives what the whole strain map gives."""

from __future__ import annotations

import numpy as np
import pytest
from lattices import noisy_peaks

from py4DSTEM import LatticeFit, ParameterError, StrainMap, fit_lattice, strain_map
from py4DSTEM.process.strain import COMPONENTS
from py4DSTEM.process.strain_live import GlimpsedStrain, LiveStrain

REGION = ((2, 7), (3, 5))


@pytest.fixture(scope="module")
def lattice() -> LatticeFit:
    peaks, _ = noisy_peaks((9, 11), seed=4)
    counts = np.diff(peaks.offsets)
    keep = np.ones(len(peaks), bool)
    keep[: counts[0]] = False  # nothing to fit at the first position
    return fit_lattice(peaks.select(keep))


@pytest.mark.parametrize("axis", [None, 0.4, "g2", (1, -1)])
@pytest.mark.parametrize("method", ["infinitesimal", "polar"])
@pytest.mark.parametrize("reference", [None, REGION])
def test_values_are_those_of_the_map(
    lattice: LatticeFit, axis: object, method: str, reference: object
) -> None:
    whole = strain_map(lattice, reference, axis=axis, method=method, resolution_A=None)
    quick = LiveStrain(lattice).at(reference, axis=axis, method=method)
    assert not quick.mask[0, 0]
    np.testing.assert_array_equal(quick.mask, whole.mask)
    np.testing.assert_allclose(quick.reference, whole.reference, rtol=1e-14)
    assert quick.axis_angle_rad == pytest.approx(whole.axis_angle_rad, abs=1e-15)
    # Sigmas of the polar method are carried to first order in the strain, here 2 %.
    tolerance = 1e-10 if method == "infinitesimal" else 0.1
    for name in COMPONENTS:
        value, sigma = quick.component(name)
        np.testing.assert_allclose(value, getattr(whole, name), atol=1e-13)
        np.testing.assert_allclose(sigma, whole.sigma(name), rtol=tolerance)


def test_the_spread_is_that_of_the_reference(lattice: LatticeFit) -> None:
    region = np.zeros(lattice.shape, bool)
    region[:3, :2] = True
    quick = LiveStrain(lattice).at(region)
    inside = quick.component("e_yy")[0][region & quick.mask]
    spread = quick.spread("e_yy")
    assert spread.count == 5
    assert spread.mean == pytest.approx(100 * inside.mean())
    assert (spread.deviation, spread.unit) == (pytest.approx(100 * inside.std()), "%")


def test_values_are_read_in_their_units(lattice: LatticeFit) -> None:
    quick = LiveStrain(lattice).at(REGION)
    reading = quick.reading(4, 5)
    for name, factor in (("e_xy", 1e2), ("theta", 1e3)):
        value, sigma = quick.component(name)
        assert reading[name] == pytest.approx((factor * value[4, 5], factor * sigma[4, 5]))
    np.testing.assert_allclose(quick.percent(sigmas=True)[1], 100 * quick.component("e_yy")[1])
    assert np.isnan(quick.reading(0, 0)["e_xx"]).all()


def test_a_whole_map_looks_the_same(lattice: LatticeFit) -> None:
    whole: StrainMap = strain_map(lattice, REGION)
    region = np.zeros(lattice.shape, bool)
    region[2:7, 3:5] = True
    seen = GlimpsedStrain.of(whole, region)
    np.testing.assert_array_equal(seen.component("theta")[0], whole.theta)
    np.testing.assert_array_equal(seen.component("e_xy")[1], whole.sigma_e_xy)
    assert seen.spread("e_xx").count == int((region & whole.mask).sum())


def test_nothing_of_the_reference_lattice(lattice: LatticeFit) -> None:
    live = LiveStrain(lattice)
    with pytest.raises(ParameterError, match="no usable lattice"):
        live.at(((0, 1), (0, 1)))
    outside = np.zeros(lattice.shape, bool)
    with pytest.raises(ParameterError, match="choose another region"):
        live.at(outside)
