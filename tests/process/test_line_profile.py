"""Profiles along lines, and deflections of the beam, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from py4DSTEM import Calibration
from py4DSTEM.core.slices import DiffractionSlice, RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.deflection import deflection, part
from py4DSTEM.process.line_profile import line_profile

ROWS, COLUMNS = np.indices((14, 19), dtype=np.float64)
PLANE = RealSlice(3 * ROWS - 2 * COLUMNS + 1)


@given(st.tuples(*[st.floats(0, 13), st.floats(0, 18)] * 2))
def test_profile_of_a_plane_is_the_plane(ends: tuple[float, float, float, float]) -> None:
    start, stop = ends[:2], ends[2:]
    if np.hypot(stop[0] - start[0], stop[1] - start[1]) < 1e-6:
        return
    found = line_profile(PLANE, start, stop)
    x, y = (np.linspace(a, b, len(found.data)) for a, b in zip(start, stop, strict=True))
    np.testing.assert_allclose(found.data, 3 * x - 2 * y + 1, atol=1e-9)


def test_distances_are_calibrated() -> None:
    image = RealSlice(
        PLANE.data, Calibration().replace(R_pixel_size=(2.0, 0.5), R_pixel_units="nm")
    )
    found = line_profile(image, (1, 2), (4, 10))
    assert found.axis.unit == "nm" and found.distance[0] == 0
    assert found.distance[-1] == pytest.approx(np.hypot(6, 4))
    assert "line-profile" in str(found.history.to_dict())


def test_wide_lines_average_across() -> None:
    image = DiffractionSlice(np.where(COLUMNS % 2 == 0, 0.0, 2.0))
    narrow = line_profile(image, (2, 6), (11, 6))
    wide = line_profile(image, (2, 6), (11, 6), width_px=8.0)
    assert (narrow.data == 0).all()
    np.testing.assert_allclose(wide.data, 1.0)


def test_beside_the_image_and_what_is_no_number() -> None:
    data = PLANE.data.copy()
    data[5, 5] = np.nan
    found = line_profile(RealSlice(data), (5, -3), (5, 9))
    assert np.isnan(found.data[:3]).all() and np.isnan(found.data[8])
    np.testing.assert_allclose(found.data[3:8], PLANE.data[5, :5])
    assert np.isfinite(line_profile(RealSlice(data), (5, 2), (5, 9), width_px=3).data).all()
    one = line_profile(RealSlice(np.array([[4.0]])), (-1, 0), (1, 0))
    assert one.data[1] == 4.0 and np.isnan(one.data[[0, 2]]).all()


@pytest.mark.parametrize(
    ("start", "stop", "options"),
    [
        ((1, 1), (1, 1), {}),
        ((1, 1), (np.nan, 2), {}),
        ((0, 0), (0, 1e9), {}),
        ((0, 0), (0, 5), {"width_px": 0.0}),
    ],
)
def test_lines_that_are_none(start: tuple, stop: tuple, options: dict) -> None:
    with pytest.raises(ParameterError, match="line"):
        line_profile(PLANE, start, stop, **options)
    with pytest.raises(ParameterError, match="one real image"):
        line_profile(RealSlice(np.zeros((2, 3, 4))), (0, 0), (1, 1))


# ---- deflections ---------------------------------------------------------------------------------
def test_deflection_turns_with_the_scan() -> None:
    rng = np.random.default_rng(3)
    com = rng.normal(20, 1, (2, 5, 7))
    calibration = Calibration().replace(
        origin_px=(19.5, 20.25), rotation_rad=np.pi / 2, Q_pixel_size=0.1, Q_pixel_units="A^-1"
    )
    found = deflection(RealSlice(com, calibration, labels=("x", "y")))
    # a quarter turn from x to y: what pointed along the detector's x points along y
    np.testing.assert_allclose(found.data.imag, 0.1 * (com[0] - 19.5), atol=1e-12)
    np.testing.assert_allclose(found.data.real, -0.1 * (com[1] - 20.25), atol=1e-12)
    assert found.units == "A^-1"
    other = calibration.replace(Q_pixel_units="nm")  # no inverse length: pixels
    found = deflection(RealSlice(com, other, labels=("x", "y")))
    np.testing.assert_allclose(found.data.imag, com[0] - 19.5, atol=1e-12)
    assert found.units == "px"


def test_without_an_origin_the_mean_is_none() -> None:
    com = np.random.default_rng(4).normal(8, 1, (2, 6, 5))
    com[:, 2, 2] = np.nan
    found = deflection(RealSlice(com, labels=("x", "y"))).data
    assert abs(np.nanmean(found)) < 1e-12 and np.isnan(found[2, 2])
    nothing = deflection(RealSlice(np.full((2, 3, 4), np.nan), labels=("x", "y")))
    assert np.isnan(nothing.data).all()


def test_parts() -> None:
    vectors = RealSlice(np.array([[3 + 4j, -1j]]), units="px")
    assert part(vectors, "x").data.tolist() == [[3, 0]]
    assert part(vectors, "length").data.tolist() == [[5, 1]]
    assert part(vectors, "angle").units == "rad"
    with pytest.raises(ParameterError):
        part(vectors, "phase")  # type: ignore[arg-type]
    with pytest.raises(ParameterError):
        deflection(RealSlice(np.zeros((3, 4, 5))))
