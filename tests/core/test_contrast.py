"""Shades are those of the figures, whatever the image holds."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from py4DSTEM.core.contrast import (
    complex_colors,
    display,
    fast_complex_colors,
    fast_limits,
    histogram,
    limits,
)
from py4DSTEM.errors import ParameterError
from py4DSTEM.plot.contrast import norm

RNG = np.random.default_rng(0)
IMAGE = RNG.gamma(1.0, 300.0, (31, 43))
SCALES = ["linear", "sqrt", "log", 0.3, 2.0]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("span", [(0.0, 900.0), (20.0, 700.0), (-300.0, 900.0), (-500.0, 500.0)])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i4"])
def test_shades_are_those_of_the_figures(scale, span, dtype):
    image = (IMAGE - 250).astype(dtype) if span[0] < 0 else IMAGE.astype(dtype)
    shades = display(image, *span, scale)
    expected = np.clip(norm(*span, scale)(np.clip(image.astype("f8"), *span)), 0, 1)
    assert shades.dtype == np.float32 and shades.shape == image.shape
    np.testing.assert_allclose(shades, expected, atol=2e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_shades_rise_from_zero_to_one_and_keep_nan(scale):
    values = np.array([-np.inf, -9, -2, -1e-9, 0, 0.5, 3, 7, 99, np.inf, np.nan])
    shades = display(values, -2, 7, scale)
    assert shades[2] == 0 and shades[7] == pytest.approx(1)
    assert (np.diff(shades[:-1]) >= 0).all() and np.isnan(shades[-1])
    assert set(shades[:2]) == {0} and shades[8] == shades[9] == 1


def test_narrow_limits_far_from_zero_are_told_apart():
    values = 1e6 + np.linspace(0, 1e-3, 11)
    for scale in SCALES:
        np.testing.assert_allclose(
            display(values, 1e6, 1e6 + 1e-3, scale), np.linspace(0, 1, 11), atol=1e-5
        )


extreme = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.int16, np.uint64, np.bool_]),
    st.tuples(st.integers(1, 5), st.integers(1, 6)),
)


@settings(max_examples=200, deadline=None)
@given(extreme, st.sampled_from(SCALES), st.booleans())
def test_no_image_breaks_the_display(image, scale, signed):
    low, high = fast_limits(image, signed=signed, scale=scale)
    assert math.isfinite(low) and math.isfinite(high) and low < high
    shades = display(image, low, high, scale)
    np.testing.assert_array_equal(np.isnan(shades), np.isnan(image.astype("f8")))
    known = shades[~np.isnan(shades)]
    assert ((known >= 0) & (known <= 1)).all()
    counts, edges = histogram(image, 16)
    assert counts.sum() == np.isfinite(image.astype("f8")).sum()
    assert (np.diff(edges) > 0).all() and len(edges) == 17


@pytest.mark.parametrize("values", [[5e-324], [0, 5e-324], [1, 1 + 2**-52], [-1e308, 1e308]])
def test_values_at_the_ends_of_what_numbers_can_be(values):
    low, high = fast_limits(np.array(values), (0, 100))
    assert low < high and np.isfinite(display(values, low, high)).all()
    counts, edges = histogram(np.array(values), 16)
    assert counts.sum() == len(values) and (np.diff(edges) > 0).all()


def test_fast_limits_are_near_those_of_all_pixels():
    big = RNG.normal(5, 2, (700, 512))
    low, high = fast_limits(big, (1, 99))
    assert (low, high) == pytest.approx(limits(big, (1, 99), False), abs=0.1)
    columns = np.zeros((512, 512))
    columns[:, ::8] = 1  # a step that met only some columns would see one value
    assert fast_limits(columns, (0, 100)) == (0, 1)
    assert fast_limits(columns[:4, :5], (1, 99), signed=True)[0] < 0
    assert fast_limits(np.full((3, 3), np.nan)) == (0, 1)
    assert fast_limits(np.zeros((0, 3))) == (0, 1)


def test_histograms_are_those_of_numpy():
    values = np.concatenate([RNG.normal(size=5000), [np.nan, np.inf, -np.inf]])
    counts, edges = histogram(values, 37)
    expected, expected_edges = np.histogram(values[:5000], 37)
    np.testing.assert_allclose(edges, expected_edges)
    assert np.abs(counts - expected).sum() <= 2 and counts.sum() == 5000
    counts, _ = histogram(np.arange(10), 5, (2, 7))
    np.testing.assert_array_equal(counts, np.histogram(np.arange(10), 5, (2, 7))[0])
    assert histogram(np.full((2, 3), np.nan), 4)[0].tolist() == [0, 0, 0, 0]
    counts, edges = histogram(np.full(9, 5.0), 4)
    assert counts.sum() == 9 and edges[0] < 5 < edges[-1]


def test_fast_colours_are_those_of_the_figures():
    z = RNG.normal(size=(20, 30)) + 1j * RNG.normal(size=(20, 30))
    z[3, 4] = np.nan
    z[0, 0] = 0
    for power in (1.0, 0.5):
        fast = fast_complex_colors(z, 1.5, power)
        assert fast.dtype == np.uint8
        near = np.abs(fast / 255 - complex_colors(z, 1.5, power))
        assert near.max() < (0.02 if power == 1 else 0.05)


def test_bad_questions():
    for ask in (
        lambda: display(IMAGE, 2, 1),
        lambda: display(IMAGE, 1, 1),
        lambda: display(IMAGE, 0, math.nan),
        lambda: display(IMAGE, 0, 1, "cubic"),
        lambda: display(IMAGE, 0, 1, -1.0),
        lambda: display(IMAGE * 1j, 0, 1),
        lambda: fast_limits(IMAGE, (99, 1)),
        lambda: fast_limits(IMAGE * 1j),
        lambda: histogram(IMAGE, 0),
        lambda: histogram(IMAGE, 2.5),
        lambda: histogram(IMAGE, 5, (1, 1)),
        lambda: histogram(IMAGE, 5, (0, math.inf)),
        lambda: histogram(np.array(["a"])),
        lambda: fast_complex_colors(IMAGE * 1j, 0.0),
    ):
        with pytest.raises(ParameterError):
            ask()


def test_it_needs_no_drawing():
    code = (
        "import sys, py4DSTEM.core.contrast, py4DSTEM.core.outline, py4DSTEM.core.expression\n"
        "assert not {'matplotlib', 'py4DSTEM.plot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
