"""The ellipse against closed form, lookups, and what cannot be asked for."""

import math
from dataclasses import replace

import numpy as np
import pytest

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError


@pytest.mark.parametrize("theta", [-2.0, -0.3, 0.0, 0.4, math.pi / 2, 2.5])
def test_the_correction_maps_the_ellipse_to_a_circle(theta):
    ellipse = Ellipse(1.2, 0.9, theta)
    t = np.linspace(0, 2 * np.pi, 25)
    along = np.array([math.cos(theta), math.sin(theta)])
    across = np.array([-math.sin(theta), math.cos(theta)])
    ring = 1.2 * np.cos(t)[:, None] * along + 0.9 * np.sin(t)[:, None] * across
    corrected = ring @ ellipse.correction().T
    np.testing.assert_allclose(np.hypot(*corrected.T), 0.9, rtol=1e-14)


@pytest.mark.parametrize("theta", [-2.0, 0.4, 2.5])
def test_the_correction_in_closed_form(theta):
    u = np.array([math.cos(theta), math.sin(theta)])
    expected = np.eye(2) - (1 - 0.9 / 1.2) * np.outer(u, u)
    np.testing.assert_allclose(Ellipse(1.2, 0.9, theta).correction(), expected, atol=1e-15)


def test_the_ellipse_follows_an_exchange_of_axes():
    ellipse = Ellipse(1.2, 0.9, 0.4)
    exchange = np.array([[0, 1], [1, 0]])
    expected = exchange @ ellipse.correction() @ exchange
    np.testing.assert_allclose(ellipse.swapped().correction(), expected, atol=1e-15)


@pytest.mark.parametrize("bad", [(0, 1, 0), (1, -1, 0), (1, math.nan, 0), (1, 1, math.inf)])
def test_an_ellipse_must_make_sense(bad):
    with pytest.raises(ParameterError, match="ellipse"):
        Ellipse(*bad)


def test_missing_quantities_name_their_remedy():
    empty = Calibration()
    for ask, remedy in (
        (lambda: empty.mean_origin_px, "measure_origin"),
        (lambda: empty.wavelength_A, "energy_eV"),
        (lambda: empty.Q_steps("mrad"), "Q_pixel_size"),
        (lambda: empty.semiangle_px(), "measure_probe"),
    ):
        with pytest.raises(CalibrationMissing, match=remedy):
            ask()


def test_the_mean_origin_leaves_unknown_positions_out():
    origin = np.full((2, 2, 2), np.nan)
    origin[0, 1], origin[1, 1] = (3, 5), (5, 7)
    origin[1, 0] = (math.nan, 100)  # half an origin is none
    assert Calibration(origin_px=origin).mean_origin_px == (4.0, 6.0)
    with pytest.raises(CalibrationMissing, match="origin"):
        _ = Calibration(origin_px=np.full((2, 2, 2), np.nan)).mean_origin_px


def test_pixel_sizes_between_angles_and_reciprocal_lengths():
    a = Calibration().replace(Q_pixel_size=0.02, Q_pixel_units="1/Å", energy_eV=200e3)
    mrad = a.Q_steps("mrad")[0]
    assert mrad == pytest.approx(0.02 * 0.0250793 * 1e3, rel=1e-5)
    b = Calibration().replace(Q_pixel_size=mrad, Q_pixel_units="mrad", energy_eV=200e3)
    assert b.Q_steps("A^-1")[0] == pytest.approx(0.02)
    assert b.Q_steps("nm^-1")[0] == pytest.approx(0.2)
    assert b.Q_steps("px") == (1.0, 1.0)
    assert replace(a, semiangle_mrad=10 * mrad).semiangle_px() == pytest.approx(10)


def test_a_new_pixel_size_leaves_pixel_zero_where_it_is():
    before = Calibration(Q=(Axis("Qx", offset=-3.0), Axis("Qy", offset=2.0)))
    after = before.replace(Q_pixel_size=(0.5, 0.25), Q_pixel_units="A^-1")
    assert [a.offset for a in after.Q] == [-1.5, 0.5]
    with pytest.raises(ParameterError, match="not square"):
        _ = after.Q_pixel_size


def test_an_origin_is_copied_frozen_and_checked():
    origin = np.ones((2, 3, 2))
    calibration = Calibration(origin_px=origin)
    origin[:] = 9
    assert calibration.mean_origin_px == (1.0, 1.0)
    with pytest.raises(ValueError, match="read-only"):
        calibration.origin_px[0, 0, 0] = 1
    for bad, error in (((1, 2, 3), ShapeError), ((math.nan, 1), ParameterError)):
        with pytest.raises(error):
            Calibration(origin_px=bad)


def test_equality_compares_arrays_by_value():
    origin = np.ones((2, 3, 2))
    origin[0, 0] = np.nan
    assert Calibration(origin_px=origin) == Calibration(origin_px=origin.copy())
    assert Calibration(origin_px=origin) != Calibration(origin_px=(1, 1))
    assert Calibration(flip=True) != Calibration()


@pytest.mark.parametrize(("step", "offset"), [(0, 0), (-1, 0), (math.nan, 0), (1, math.inf)])
def test_an_axis_must_make_sense(step, offset):
    with pytest.raises(ParameterError):
        Axis("Qx", step, offset)
