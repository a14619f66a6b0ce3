"""Shapes on an image: dragged, resized, nudged, given up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyqtgraph.Qt import QtCore, QtGui

from py4DSTEM import Annulus, Calibration, Disk
from py4DSTEM.core.selection import (
    MaskSelection,
    PointSelection,
    PolygonSelection,
    RectangleSelection,
)
from py4DSTEM.gui.views.image_panel import ImagePanel
from py4DSTEM.gui.views.shape_item import BODY, ShapeItem
from py4DSTEM.gui.views.shapes import Shapes

SIZE = (40, 60)
Key = QtCore.Qt.Key


@pytest.fixture
def panel(qtbot: Any) -> ImagePanel:
    made = ImagePanel("diffraction")
    qtbot.addWidget(made)
    made.resize(520, 420)
    made.set_image(np.zeros(SIZE))
    with qtbot.waitExposed(made):
        made.show()
    return made


@pytest.fixture
def shapes(panel: ImagePanel) -> Shapes:
    return Shapes(panel.canvas)


def put(shapes: Shapes, shape: Any, **options: Any) -> tuple[ShapeItem, list[tuple[Any, bool]]]:
    item = shapes.add("A", ShapeItem(shape, SIZE, **options))
    told: list[tuple[Any, bool]] = []
    item.moved.connect(lambda value, settled: told.append((value, settled)))
    return item, told


def test_drag_of_the_body_moves_the_centre(panel: ImagePanel, shapes: Shapes, mouse: Any) -> None:
    item, told = put(shapes, Disk(6.0, center=(15, 20)))
    mouse.drag(panel.canvas, (17, 22), (22, 32))
    assert [settled for _, settled in told] == [False] * 6 + [True]
    assert told[-1][0].center == pytest.approx((20, 30), abs=0.3)
    assert told[-1][0].radius == 6.0
    assert item.value == told[-1][0] == told[-2][0]


def test_drag_of_a_handle_resizes(panel: ImagePanel, shapes: Shapes, mouse: Any) -> None:
    item, told = put(shapes, Annulus(3.0, 8.0, center=(15, 20)))
    mouse.drag(panel.canvas, item.handles["outer"], (15, 32))
    assert told[-1][0].outer == pytest.approx(12, abs=0.3)
    mouse.drag(panel.canvas, item.handles["inner"], (15, 14))
    assert told[-1][0].inner == pytest.approx(6, abs=0.3)
    assert told[-1][0].center == (15, 20)


def test_hole_of_a_ring_belongs_to_what_lies_beneath(
    panel: ImagePanel, shapes: Shapes, mouse: Any
) -> None:
    disk, moved_disk = put(shapes, Disk(3.0, center=(20, 20)))
    ring = shapes.add("ring", ShapeItem(Annulus(9.0, 14.0, center=(20, 20)), SIZE))
    shapes.activate("A")
    mouse.drag(panel.canvas, (21, 21), (23, 22))
    assert moved_disk and disk.value.center == pytest.approx((22, 21), abs=0.3)
    assert ring.value.center == (20, 20)


def test_drag_beyond_the_frame(panel: ImagePanel, shapes: Shapes, mouse: Any) -> None:
    item, _ = put(shapes, Disk(4.0, center=(5, 5)))
    mouse.drag(panel.canvas, (5, 5), (-4, 2))
    assert item.value.center == pytest.approx((-4, 2), abs=0.3)
    mouse.drag(panel.canvas, (-2, 2), (7, 8))
    assert item.value.center == pytest.approx((5, 8), abs=0.5)


def test_escape_restores(panel: ImagePanel, shapes: Shapes, mouse: Any, qtbot: Any) -> None:
    start = Disk(6.0, center=(15, 20))
    item, told = put(shapes, start)
    mouse.press(panel.canvas, 15, 20)
    mouse.move(panel.canvas, 25, 30)
    assert item.value != start
    qtbot.keyClick(panel.canvas, Key.Key_Escape)
    assert item.value == start and told[-1] == (start, True)
    mouse.move(panel.canvas, 30, 30)
    mouse.release(panel.canvas, 30, 30)
    assert item.value == start and told[-1] == (start, True)


def test_click_activates_and_is_told(
    panel: ImagePanel, shapes: Shapes, mouse: Any, qtbot: Any
) -> None:
    item, told = put(shapes, Disk(6.0, center=(15, 20)))
    with qtbot.waitSignals([item.activated, panel.clicked]) as seen:
        mouse.click(panel.canvas, 16, 21)
    assert seen.all_signals_and_args[-1].args == pytest.approx((16, 21), abs=0.2)
    assert not told


def test_keys_nudge_the_active_shape(panel: ImagePanel, shapes: Shapes, qtbot: Any) -> None:
    item, told = put(shapes, Annulus(3.0, 8.0, center=(15, 20)))
    qtbot.keyClick(panel.canvas, Key.Key_Down)
    assert not told  # it is not active
    shapes.activate("A")
    modifier = QtCore.Qt.KeyboardModifier
    qtbot.keyClick(panel.canvas, Key.Key_Down)
    qtbot.keyClick(panel.canvas, Key.Key_Right, modifier.ShiftModifier)
    qtbot.keyClick(panel.canvas, Key.Key_Up, modifier.ControlModifier)
    assert item.value.center == pytest.approx((15.9, 30))
    qtbot.keyClick(panel.canvas, Key.Key_BracketRight)
    qtbot.keyClick(panel.canvas, Key.Key_BraceLeft, modifier.ShiftModifier)
    assert (item.value.inner, item.value.outer) == pytest.approx((2, 9))
    assert all(settled for _, settled in told) and len(told) == 5


def test_hit_areas_do_not_shrink_with_the_shape(panel: ImagePanel, shapes: Shapes) -> None:
    item, _ = put(shapes, PointSelection(10, 12))
    panel.zoom(2.0)
    assert item.held_at((10, 12)) == BODY
    assert item.held_at((10, 12 + 7.9 / 2)) == BODY
    assert item.held_at((10, 12 + 12.0 / 2)) is None


def test_selections_of_positions(panel: ImagePanel, shapes: Shapes, mouse: Any) -> None:
    item, _ = put(shapes, RectangleSelection(4, 10, 5, 15))
    mouse.drag(panel.canvas, (7, 9), (12, 21))
    assert item.value == RectangleSelection(9, 15, 17, 27)


def test_masks_are_held_where_they_are(panel: ImagePanel, shapes: Shapes, mouse: Any) -> None:
    mask = np.zeros(SIZE)
    mask[5:12, 10:20] = 1
    item, _ = put(shapes, MaskSelection(mask))
    assert item.held_at((8, 12)) == BODY and item.held_at((25, 40)) is None
    mouse.drag(panel.canvas, (8, 12), (11, 20))
    assert item.value == MaskSelection(np.roll(mask, (3, 8), (0, 1)))


def test_shape_without_a_place_is_not_drawn(shapes: Shapes) -> None:
    item, _ = put(shapes, Disk(8.0))
    assert not item.drawable and item.held_at((0, 0)) is None
    item.set_value(Disk(8.0), calibration=Calibration().replace(origin_px=(20, 30)))
    assert item.drawable and item.held_at((21, 31)) == BODY


def test_units_follow_the_calibration(panel: ImagePanel, shapes: Shapes, mouse: Any) -> None:
    calibration = Calibration().replace(
        origin_px=(20, 30), Q_pixel_size=0.5, Q_pixel_units="mrad", energy_eV=2e5
    )
    item, _ = put(shapes, Disk(4.0, units="mrad"), calibration=calibration)
    assert item.handles["radius"] == pytest.approx((20, 38))
    mouse.drag(panel.canvas, (20, 38), (20, 42))
    assert item.value.radius == pytest.approx(6.0, abs=0.2)
    assert item.value.center is None


# ---- names ---------------------------------------------------------------------------------------
def test_names_of_segments_lie_outwards_and_apart(panel: ImagePanel, shapes: Shapes) -> None:
    from py4DSTEM.core.detector import dpc_segments

    known = Calibration(origin_px=(20, 30), probe_radius_px=1.5)
    to_screen = panel.canvas.viewportTransform()
    boxes = {}
    for name, shape in dpc_segments(known).items():
        item = shapes.add(name, ShapeItem(shape, SIZE, known, name=name))
        text = QtCore.QRectF(1, -8, 8 * len(name), 10)
        scene = item.sceneTransform() * to_screen
        boxes[name] = text.translated(item.name_place(scene, text))
        middle = scene.map(QtCore.QPointF(30, 20))
        assert not boxes[name].contains(middle)
    pairs = [(a, b) for a in boxes for b in boxes if a < b]
    assert len(pairs) == 6 and not any(boxes[a].intersects(boxes[b]) for a, b in pairs)
    assert boxes["up"].bottom() < boxes["left"].center().y() < boxes["down"].top()
    assert boxes["left"].right() < boxes["up"].center().x() < boxes["right"].left()


def test_small_shapes_are_named_while_the_mouse_is_there(
    panel: ImagePanel, shapes: Shapes, mouse: Any
) -> None:
    large, _ = put(shapes, Disk(6.0, center=(15, 20)), name="A")
    small = shapes.add("B", ShapeItem(Disk(0.5, center=(30, 50)), SIZE, name="B"))

    def named(item: ShapeItem) -> bool:
        return item.names_itself(item.sceneTransform() * panel.canvas.viewportTransform())

    assert named(large) and not named(small)
    mouse.hover(panel.canvas, 30, 50)
    assert named(small)
    mouse.hover(panel.canvas, 5, 5)
    assert not named(small)
    shapes.activate("B")
    assert named(small)


# ---- polygons ------------------------------------------------------------------------------------
def test_vertices_come_and_go(panel: ImagePanel, shapes: Shapes, mouse: Any, qtbot: Any) -> None:
    corners = ((10.0, 10.0), (10.0, 40.0), (30.0, 40.0))
    item, told = put(shapes, PolygonSelection(corners))
    shapes.activate("A")
    place = mouse.at(panel.canvas, 10, 25)
    left = QtCore.Qt.MouseButton.LeftButton
    mouse.click(panel.canvas, 10, 25)
    qtbot.mouseDClick(panel.canvas.viewport(), left, pos=place)
    mouse.release(panel.canvas, 10, 25)
    assert len(item.value.vertices) == 4 and [settled for _, settled in told] == [True]
    assert item.value.vertices[1] == pytest.approx((10, 25), abs=0.3)
    mouse.drag(panel.canvas, item.handles["vertex1"], (6, 24))
    assert item.value.vertices[1] == pytest.approx((6, 24), abs=0.3)
    mouse.hover(panel.canvas, *item.handles["vertex0"])
    qtbot.keyClick(panel.canvas, Key.Key_Delete)
    assert item.value.vertices == (told[-2][0].vertices[1], corners[1], corners[2])
    mouse.hover(panel.canvas, *item.handles["vertex0"])
    qtbot.keyClick(panel.canvas, Key.Key_Delete)  # three are left, and three stay
    assert len(item.value.vertices) == 3
    mouse.hover(panel.canvas, 38, 3)
    event = QtGui.QKeyEvent(
        QtCore.QEvent.Type.KeyPress, Key.Key_Delete, QtCore.Qt.KeyboardModifier.NoModifier
    )
    assert not item.wants(event)  # away from the vertices the key takes the detector away
