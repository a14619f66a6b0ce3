"""From images to the screen: colour numbers, grids that are filled, legends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from py4DSTEM.core.brush import painted
from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.pixels import (
    color_numbers,
    direction_colors,
    direction_wheel,
    fraction_of,
    nearest_filled,
    rgb_bytes,
    sampled,
    scale_histogram,
    tinted,
    value_at,
)
from py4DSTEM.core.readout import q_text, spacing_A
from py4DSTEM.errors import ParameterError, ShapeError


@pytest.mark.parametrize("scale", ["linear", "sqrt", "log", 0.3])
def test_colour_numbers_rise_with_the_values(scale: str) -> None:
    values = np.linspace(0, 12, 997).reshape(1, -1)
    numbers = color_numbers(values, 1.0, 11.0, scale)[0].astype(int)
    assert numbers[0] == 1 and numbers[-1] == 255
    assert (np.diff(numbers) >= 0).all() and len(set(numbers)) > 150


def test_no_number_is_told_apart_from_infinities() -> None:
    image = np.array([[np.nan, -np.inf, np.inf]])
    assert color_numbers(image, 0.0, 1.0).tolist() == [[0, 1, 255]]


@given(st.floats(0, 1), st.sampled_from(["linear", "sqrt", "log", 0.4]))
def test_places_and_values_on_a_scale(fraction: float, scale: str) -> None:
    value = value_at(fraction, 2.0, 50.0, scale)
    assert 2.0 <= value <= 50.0
    assert fraction_of(value, 2.0, 50.0, scale) == pytest.approx(fraction, abs=1e-4)


@given(st.integers(1, 9), st.integers(1, 7), st.integers(1, 40), st.integers(1, 40))
def test_filled_grids_take_the_nearest(rows: int, columns: int, n0: int, n1: int) -> None:
    i = np.unique(np.linspace(0, n0 - 1, rows).astype(np.intp))
    j = np.unique(np.linspace(0, n1 - 1, columns).astype(np.intp))
    image = np.arange(len(i) * len(j)).reshape(len(i), len(j))
    whole = nearest_filled(image, i, j, (n0, n1))
    for x in range(n0):
        for y in range(n1):
            a, b = np.argwhere(image == whole[x, y])[0]
            assert abs(i[a] - x) == np.abs(i - x).min()
            assert abs(j[b] - y) == np.abs(j - y).min()


def test_filled_stacks_and_grids_that_do_not_fit() -> None:
    stack = np.arange(8.0).reshape(2, 2, 2)
    whole = nearest_filled(stack, np.array([0, 3]), np.array([0, 4]), (4, 5))
    assert whole.shape == (2, 4, 5) and (whole[1, 3] == [6, 6, 6, 7, 7]).all()
    with pytest.raises(ShapeError, match="3 rows"):
        nearest_filled(stack, np.arange(3), np.array([0, 4]), (4, 5))


def test_histogram_counts_what_lies_between() -> None:
    image = np.concatenate([np.full(30, 5.0), np.full(20, 7.0), [np.nan, 100.0, -3.0]])[None]
    counts = scale_histogram(image, 5.0, 7.0)
    assert (counts[0], counts[-1], counts.sum()) == (30, 20, 50)


def test_samples_are_few_and_spread() -> None:
    assert sampled(np.zeros((4000, 3000))).size < 2 * 65536
    assert sampled(np.zeros((1, 10**6))).shape[1] > 1000


def test_directions() -> None:
    wheel = direction_wheel(41)
    vectors = np.array([[1 + 0j, 0 + 1j, 0.5j, np.nan]])
    colors, high = direction_colors(vectors, high=1.0)
    assert high == 1.0
    # x points down and y to the right, on the image as on the wheel
    assert np.abs(colors[0, 0].astype(int) - wheel[39, 20, :3]).max() < 20
    assert np.abs(colors[0, 1].astype(int) - wheel[20, 39, :3]).max() < 20
    assert colors[0, 2].sum() < colors[0, 1].sum() and len(set(colors[0, 3].tolist())) == 1
    assert wheel[0, 0, 3] == 0 and wheel[20, 20, 3] == 255


def test_bytes_of_colours() -> None:
    assert rgb_bytes(np.array([[[0.0, 0.5, np.nan]]])).tolist() == [[[0, 128, 0]]]
    with pytest.raises(ShapeError, match="colours"):
        rgb_bytes(np.zeros((3, 3)))
    assert tinted(np.array([[0.0, 2.0]]))[..., 3].tolist() == [[0, 80]]


# ---- brush ---------------------------------------------------------------------------------------
@given(
    st.tuples(*[st.floats(-20, 30)] * 4),
    st.floats(0.1, 12),
)
def test_strokes(ends: tuple[float, float, float, float], radius: float) -> None:
    start, stop = ends[:2], ends[2:]
    found = painted(np.zeros((9, 13)), start, stop, radius_px=radius)
    i, j = np.indices(found.shape)
    along = np.linspace(0, 1, 400)[:, None, None]
    distance = np.hypot(
        i - start[0] - along * (stop[0] - start[0]), j - start[1] - along * (stop[1] - start[1])
    ).min(axis=0)
    assert (found[distance <= radius] == 1).all()
    assert (found[distance > radius + 0.1] == 0).all()


def test_strokes_leave_the_mask_and_refuse_nonsense() -> None:
    mask = np.ones((4, 5))
    erased = painted(mask, (1, 1), (1, 3), radius_px=0.4, value=0.0)
    assert mask.all() and erased.sum() == 17
    for bad in ({"radius_px": 0.0}, {"radius_px": float("nan")}, {"value": float("inf")}):
        with pytest.raises(ParameterError, match="stroke"):
            painted(mask, (1, 1), (1, 3), **bad)


# ---- what a place means --------------------------------------------------------------------------
def test_spacings() -> None:
    known = Calibration().replace(energy_eV=300e3)
    assert spacing_A(19.687, "mrad", known) == pytest.approx(1.0, rel=1e-4)
    assert spacing_A(5.0, "nm^-1", known) == pytest.approx(2.0)
    assert spacing_A(19.7, "mrad", Calibration()) is None
    assert spacing_A(0.0, "A^-1", known) is None


def test_text_of_a_place_uses_the_ellipse() -> None:
    known = Calibration().replace(
        origin_px=(10, 20), Q_pixel_size=0.1, Q_pixel_units="A^-1", ellipse=Ellipse(2.0, 1.0, 0.0)
    )
    assert q_text((10, 25), known).startswith("q = 0.5 Å⁻¹, 1/q = 2 Å")
    assert q_text((15, 20), known).startswith("q = 0.25 Å⁻¹")
    assert q_text((3, 4), Calibration()) == ""
    assert q_text((3, 4), Calibration().replace(origin_px=(0, 0))) == "q = 5 px"
