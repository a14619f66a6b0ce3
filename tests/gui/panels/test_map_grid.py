"""Small maps side by side: what holds no number is hatched, as wide as lines are on any map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyqtgraph")


@pytest.fixture
def grid(qtbot: Any) -> Any:
    from py4DSTEM.gui.panels.map_grid import MapGrid

    made = MapGrid(("a", "b"), 2, unknown="no fit")
    qtbot.addWidget(made)
    made.resize(520, 300)
    made.show()
    return made


def pixels(grid: Any, number: int, place: tuple[int, int]) -> np.ndarray:
    """Grey levels of the screen within a pixel of a map."""
    from pyqtgraph.Qt import QtCore

    box = grid.maps[number].box
    x, y = place
    rect = QtCore.QRectF(*(box.mapViewToScene(QtCore.QPointF(y + d, x + d)) for d in (-0.4, 0.4)))
    image = grid.view.viewport().grab().toImage()
    left, top = round(rect.left()), round(rect.top())
    return np.array([
        [image.pixelColor(left + i, top + j).lightness() for i in range(int(rect.width()))]
        for j in range(int(rect.height()))
    ])  # fmt: skip


def test_what_is_unknown_is_hatched(grid: Any) -> None:
    image = np.zeros((3, 5))
    image[1, 3] = np.nan
    grid.show_maps([image, np.zeros((3, 5))], (-1.0, 1.0))
    hatched, known, other = (pixels(grid, *where) for where in
                             ((0, (1, 3)), (0, (1, 1)), (1, (1, 3))))  # fmt: skip
    assert known.shape[0] > 15 and np.ptp(known) == np.ptp(other) == 0
    dark = hatched < 80
    assert np.ptp(hatched) > 60 and 0.05 < dark.mean() < 0.5
    # Lines fall from right to left: a row is the one above, moved.
    np.testing.assert_array_equal(dark[1:, :-1], dark[:-1, 1:])
    assert grid.legend.isVisible() and grid.legend.words.text() == "no fit at 1 of 15"


def test_lines_are_as_wide_on_fine_maps(grid: Any) -> None:
    image = np.full((60, 100), np.nan)
    image[:, :40] = 0.0
    grid.show_maps([image, image], (-1.0, 1.0))
    from pyqtgraph.Qt import QtCore

    box = grid.maps[0].box
    at = box.mapViewToScene(QtCore.QPointF(70, 30)).toPoint()
    shot = grid.view.viewport().grab().toImage()
    row = np.array([shot.pixelColor(at.x() + k, at.y()).lightness() for k in range(32)]) < 80
    assert np.diff(np.flatnonzero(row)).max() >= 4


def test_nothing_is_said_where_all_is_known(grid: Any) -> None:
    image = np.zeros((3, 5))
    grid.show_maps([image, image], (-1.0, 1.0))
    assert not grid.legend.isVisible()
    assert np.ptp(pixels(grid, 0, (1, 3))) == 0


def test_zoomed_into_the_hatching(grid: Any) -> None:
    """What is seen is a part of the map; the lines are still there."""
    image = np.full((30, 50), np.nan)
    grid.show_maps([image, image], (-1.0, 1.0))
    grid.maps[0].box.setRange(xRange=(20, 22), yRange=(10, 12), padding=0)
    found = pixels(grid, 1, (11, 21))
    assert found.size > 400 and np.ptp(found) > 60
