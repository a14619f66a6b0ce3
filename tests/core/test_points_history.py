"""Ragged points and the record of how values were made."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from py4DSTEM.core.history import History
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ShapeError

DTYPE = np.dtype([("qx", "f8"), ("qy", "f8"), ("intensity", "f4")])


@given(st.integers(1, 4), st.integers(1, 5), st.data())
def test_points_come_back_where_they_were_put(nx, ny, data):
    draw = st.integers(0, 6)
    rows = [[np.zeros(data.draw(draw), DTYPE) for _ in range(ny)] for _ in range(nx)]
    for k, cell in enumerate(c for row in rows for c in row):
        cell["qx"] = k
    table = PointTable.from_lists(rows)
    assert table.shape == (nx, ny) and len(table) == sum(len(c) for r in rows for c in r)
    for x in range(nx):
        for y in range(ny):
            np.testing.assert_array_equal(table[x, y], rows[x][y])
            np.testing.assert_array_equal(table[x - nx, y - ny], rows[x][y])
    np.testing.assert_array_equal(table.counts, [[len(c) for c in row] for row in rows])


def test_points_outside_the_scan_are_refused():
    table = PointTable.from_lists([[np.zeros(2, DTYPE), np.zeros(0, DTYPE)]])
    for position in ((1, 0), (0, 2), (-2, 0)):
        with pytest.raises(IndexError, match="outside"):
            table[position]


@pytest.mark.parametrize("offsets", [[0, 1], [0, 2, 1, 3], [1, 2, 3], [0, 1, 2]])
def test_offsets_that_do_not_fit_are_refused(offsets):
    with pytest.raises(ShapeError):
        PointTable(np.zeros(3, DTYPE), np.array(offsets), (1, 2))


def test_a_history_survives_json():
    history = History(source={"path": "a.h5"}).then("crop", {"R": [[0, 1], [None, None]]})
    history = history.then("mean-pattern", {}, 2, ("10.1/x",)).then("again", {}, 1, ("10.1/x",))
    back = History.from_dict(json.loads(json.dumps(history.to_dict())))
    assert back == history
    assert back.cite() == ("10.1/x",)
    assert [s.version for s in back.steps] == [1, 2, 1]
    assert "numpy" in back.environment and back.steps[0].time.endswith("+00:00")


def test_a_history_of_a_later_version_is_read():
    history = History.from_dict({"steps": [{"kind": "new", "colour": "red"}], "future": 1})
    assert history.steps[0].kind == "new"
    assert History.from_dict({}) == History()


def test_a_history_is_a_value():
    first = History()
    second = first.then("a", {})
    assert first.steps == () and len(second.steps) == 1


def test_slices_take_what_was_measured():
    pattern = DiffractionSlice(np.ones((4, 5)))
    changed = pattern.with_calibration(Q_pixel_size=0.02, Q_pixel_units="A^-1")
    assert changed.axes[0].step == 0.02 and changed.data is pattern.data
    assert pattern.axes[0].step == 1
