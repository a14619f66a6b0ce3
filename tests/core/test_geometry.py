"""Array and calibration move together: what lies where in physical space never changes."""

import math

import numpy as np
import pytest

from py4DSTEM import DataCube
from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.errors import ParameterError, ShapeError

R = (Axis("Rx", 2.0, 10.0, "A"), Axis("Ry", 3.0, -5.0, "A"))
Q = (Axis("Qx", 0.02, 0.0, "A^-1"), Axis("Qy", 0.03, 0.1, "A^-1"))


def make_cube(**changes):
    origin = np.random.default_rng(2).normal(6, 0.5, (4, 6, 2))
    known = {"R": R, "Q": Q, "origin_px": origin, "ellipse": Ellipse(1.1, 1.0, 0.3),
             "rotation_rad": 0.2, "flip": False}  # fmt: skip
    calibration = Calibration(**(known | changes))
    data = np.zeros((4, 6, 12, 14), np.uint16)
    data[2, 3, 8, 4] = 1  # one electron at one place
    return DataCube(data, calibration)


def electron(cube):
    """Scan position and scattering vector of the one electron, in scan axes."""
    c = cube.calibration
    rx, ry, qx, qy = (int(k[0]) for k in np.nonzero(np.asarray(cube.data[...])))
    scan = np.array([c.R[0].offset + c.R[0].step * rx, c.R[1].offset + c.R[1].step * ry])
    detector = np.array([c.Q[0].offset + c.Q[0].step * qx, c.Q[1].offset + c.Q[1].step * qy])
    origin = c.origin_px[rx, ry] if c.origin_varies else np.array(c.mean_origin_px)
    v = np.array([qx, qy]) - origin
    v = c.ellipse.correction() @ v if c.ellipse else v
    v = v * (c.Q[0].step, c.Q[1].step)
    v = v[::-1] if c.flip else v
    cos, sin = math.cos(c.rotation_rad or 0), math.sin(c.rotation_rad or 0)
    return scan, detector, np.array([[cos, -sin], [sin, cos]]) @ v


def test_crop_leaves_the_electron_where_it_is():
    cube = make_cube()
    after = cube.crop(R=((1, 4), (2, -1)), Q=((3, None), (2, 13)))
    for a, b in zip(electron(cube), electron(after), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)
    assert after.shape == (3, 3, 9, 11)


def test_pad_leaves_the_electron_where_it_is():
    cube = make_cube()
    for width in (2, (1, 3), ((1, 0), (0, 5))):
        for a, b in zip(electron(cube), electron(cube.pad(width)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-14)


def test_crop_undoes_pad():
    cube = make_cube()
    back = cube.pad(((1, 2), (3, 4))).crop(Q=((1, -2), (3, -4)))
    np.testing.assert_array_equal(back.data[...], cube.data)
    np.testing.assert_allclose(back.calibration.origin_px, cube.calibration.origin_px, atol=1e-14)
    assert back.calibration.Q[1].offset == pytest.approx(cube.calibration.Q[1].offset)


@pytest.mark.parametrize("flip", [None, False, True])
def test_exchanging_detector_axes_keeps_vectors_in_scan_axes(flip):
    cube = make_cube(flip=flip, ellipse=None)
    scan, detector, vector = electron(cube)
    scan2, detector2, vector2 = electron(cube.swap_Q())
    np.testing.assert_allclose(scan, scan2)
    np.testing.assert_allclose(detector, detector2[::-1])
    np.testing.assert_allclose(vector, vector2, atol=1e-15)


@pytest.mark.parametrize("flip", [None, False, True])
def test_exchanging_scan_axes_exchanges_vectors(flip):
    cube = make_cube(flip=flip)
    scan, detector, vector = electron(cube)
    scan2, detector2, vector2 = electron(cube.swap_R())
    np.testing.assert_allclose(scan, scan2[::-1])
    np.testing.assert_allclose(detector, detector2)
    np.testing.assert_allclose(vector, vector2[::-1], atol=1e-15)


def test_an_exchange_with_an_ellipse_on_square_pixels():
    square = (Axis("Qx", 0.02, 0.0, "A^-1"), Axis("Qy", 0.02, 0.1, "A^-1"))
    cube = make_cube(Q=square)
    np.testing.assert_allclose(electron(cube)[2], electron(cube.swap_Q())[2], atol=1e-15)


def test_two_exchanges_are_none():
    cube = make_cube()
    for twice in (cube.swap_Q().swap_Q(), cube.swap_R().swap_R()):
        np.testing.assert_array_equal(twice.data[...], cube.data)
        after, before = twice.calibration, cube.calibration
        assert (after.flip, after.rotation_rad) == (before.flip, before.rotation_rad)
        assert after.R == before.R and after.Q == before.Q
        assert after.ellipse.theta_rad == pytest.approx(before.ellipse.theta_rad)


def test_binning_moves_centres_to_the_middle_of_their_pixels():
    cube = make_cube(ellipse=None, origin_px=(5.5, 6.5), probe_radius_px=3.0)
    after = cube.bin(R=2, Q=2)
    # pixels 2k and 2k+1 become pixel k, whose centre lies between theirs
    assert after.calibration.Q[0].offset == pytest.approx(0.01)
    assert after.calibration.R[0].offset == pytest.approx(11.0)
    assert after.calibration.R[1].step == 6.0
    assert after.calibration.mean_origin_px == (2.5, 3.0)
    assert after.calibration.probe_radius_px == 1.5
    # the origin stays put in physical space
    before = cube.calibration
    for axis, axis2, q, q2 in zip(
        before.Q, after.calibration.Q, (5.5, 6.5), (2.5, 3.0), strict=True
    ):
        assert axis.offset + axis.step * q == pytest.approx(axis2.offset + axis2.step * q2)
    assert int(np.asarray(after.data[...]).sum()) == 1


def test_binning_the_scan_averages_the_origins_that_are_known():
    origin = np.full((4, 6, 2), np.nan)
    origin[0, 0], origin[1, 1] = (4, 4), (6, 8)
    after = make_cube(origin_px=origin).bin(R=2)
    np.testing.assert_array_equal(after.calibration.origin_px[0, 0], (5, 6))
    assert np.isnan(after.calibration.origin_px[1, 1]).all()


def test_binning_twice_is_binning_once():
    cube = make_cube(ellipse=None)
    a, b = cube.bin(Q=2).bin(Q=3), cube.bin(Q=6)
    np.testing.assert_array_equal(a.data[...], b.data[...])
    np.testing.assert_allclose(a.calibration.origin_px, b.calibration.origin_px)
    assert a.calibration.Q[0].offset == pytest.approx(b.calibration.Q[0].offset)


def test_reshape_keeps_the_order_of_recording():
    cube = make_cube()
    after = cube.reshape_scan((8, 3))
    np.testing.assert_array_equal(
        np.asarray(after.data[...]).reshape(24, 12, 14), cube.data.reshape(24, 12, 14)
    )
    np.testing.assert_array_equal(
        after.calibration.origin_px.reshape(-1, 2), cube.calibration.origin_px.reshape(-1, 2)
    )


def test_nothing_changes_the_cube_it_was_given():
    cube = make_cube()
    before = cube.data.copy(), cube.calibration
    for _ in (cube.crop(R=((1, 2), (1, 2))), cube.pad(1), cube.swap_Q(), cube.bin(R=2)):
        np.testing.assert_array_equal(cube.data, before[0])
        assert cube.calibration is before[1]


def test_impossible_geometry_is_refused():
    cube = make_cube()
    for call in (
        lambda: cube.crop(R=((3, 3), (None, None))),
        lambda: cube.bin(Q=0),
        lambda: cube.bin(Q=20),
        lambda: cube.bin(Q=1.5),
        lambda: cube.bin(Q=(1, 2)),  # an ellipse is calibrated
        lambda: cube.pad(-1),
        lambda: cube.pad(1.5),
    ):
        with pytest.raises(ParameterError):
            call()
    with pytest.raises(ShapeError):
        cube.reshape_scan((5, 5))
    with pytest.raises(ShapeError, match="holds no data"):
        DataCube(np.empty((0, 2, 3, 4)))


def test_every_step_is_in_the_history():
    cube = make_cube().crop(Q=((1, 11), (1, 11))).bin(Q=2).swap_R()
    assert [s.kind for s in cube.history.steps] == ["crop", "bin", "swap_R"]
