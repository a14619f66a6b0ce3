"""Which positions a selection holds; never none."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from py4DSTEM import (
    DiskSelection,
    MaskSelection,
    PointSelection,
    PolygonSelection,
    RectangleSelection,
)
from py4DSTEM.core.selection import AnySelection
from py4DSTEM.errors import ParameterError, ShapeError

SIZE = (9, 14)
ALL = [
    PointSelection(3, 5),
    RectangleSelection(2, 5, 4, 11),
    DiskSelection(2.0, (4, 6)),
    PolygonSelection(((1, 1), (1, 9), (7, 1))),
    MaskSelection(np.eye(*SIZE)),
]


def test_positions():
    i, j = np.indices(SIZE)
    truth = [
        (i == 3) & (j == 5),
        (i >= 2) & (i < 5) & (j >= 4) & (j < 11),
        (i - 4) ** 2 + (j - 6) ** 2 <= 4,
        (i >= 1) & (j >= 1) & (8 * (i - 1) + 6 * (j - 1) <= 48),
        i == j,
    ]
    for selection, expected in zip(ALL, truth, strict=True):
        mask = selection.mask(SIZE)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, expected, err_msg=selection.kind)


@pytest.mark.parametrize("selection", ALL, ids=lambda s: s.kind)
def test_it_comes_back_from_json(selection):
    adapter = TypeAdapter(AnySelection)
    again = adapter.validate_json(adapter.dump_json(selection))
    assert again == selection and type(again) is type(selection)


def test_beside_the_scan_the_nearest_position_is_taken():
    for selection, at in (
        (PointSelection(-3, 50), (0, 13)),
        (RectangleSelection(20, 30, 2, 5), (8, 3)),
        (DiskSelection(1.0, (4, -7.2)), (4, 0)),
        (DiskSelection(0.1, (4.4, 6.7)), (4, 7)),  # between positions
        (PolygonSelection(((-9, -9), (-9, -8), (-8, -9))), (0, 0)),
    ):
        assert [tuple(map(int, p)) for p in np.argwhere(selection.mask(SIZE))] == [at]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-20, 20)), min_size=3, max_size=5),
)
def test_no_selection_is_empty(rows, columns, points):
    (a, b), *_ = points
    for selection in (
        PointSelection(round(a), round(b)),
        RectangleSelection(round(a), round(a) + 1, round(b), round(b) + 3),
        DiskSelection(0.01 + abs(b), (a, b)),
        PolygonSelection(points),
    ):
        assert selection.mask((rows, columns)).any()


BAD = {
    "half a position": lambda: PointSelection(1.5, 2),
    "no number": lambda: PointSelection("a", 2),
    "far too far": lambda: PointSelection(2**40, 2),
    "nothing between": lambda: RectangleSelection(3, 3, 0, 2),
    "backwards": lambda: RectangleSelection(3, 2, 0, 2),
    "radius": lambda: DiskSelection(0, (1, 1)),
    "nan": lambda: DiskSelection(1, (math.nan, 1)),
    "a line": lambda: PolygonSelection(((0, 0), (1, 1))),
    "nothing": lambda: MaskSelection(np.zeros((3, 4))),
    "a cube": lambda: MaskSelection(np.ones((3, 4, 2))),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_refused(name):
    with pytest.raises(ParameterError):
        BAD[name]()


def test_a_mask_of_another_scan_is_refused():
    with pytest.raises(ShapeError, match="does not fit"):
        MaskSelection(np.eye(4)).mask((4, 5))
