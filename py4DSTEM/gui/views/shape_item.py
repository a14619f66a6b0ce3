"""A detector or a selection on an image, to be dragged, resized and nudged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtGui

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.outline import (
    grown,
    handles,
    moved,
    outline,
    shifted,
    with_vertex,
    without_vertex,
)
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.gui.views.colors import pen_style

__all__ = ["BODY", "ShapeItem"]

Pair = tuple[float, float]
BODY = "body"
_REACH_PX = 8.0
_EDGE_PX = 4.0
_STILL_PX = 3.0
_HANDLE_PX = 4.0
_LABEL_PX = 22.0
_SMALL_PX = 12.0
"""Smaller shapes hide under their names, which are shown when the mouse is there."""

Key = QtCore.Qt.Key
_ARROWS = {
    Key.Key_Up: (-1.0, 0.0),
    Key.Key_Down: (1.0, 0.0),
    Key.Key_Left: (0.0, -1.0),
    Key.Key_Right: (0.0, 1.0),
}
_BRACKETS = {
    Key.Key_BracketLeft: (-1.0, "outer"),
    Key.Key_BracketRight: (1.0, "outer"),
    Key.Key_BraceLeft: (-1.0, "inner"),
    Key.Key_BraceRight: (1.0, "inner"),
}


@dataclass
class _Drag:
    """A press of the mouse: what is held, and how things were then."""

    held: str
    place: Pair
    shape: Any
    handle: Pair
    going: bool = False
    given_up: bool = False


class ShapeItem(pg.GraphicsObject):
    """Draws the edge of a shape and lets it be changed.

    Parameters
    ----------
    shape : Detector or Selection
    size : (int, int)
        Rows and columns of the image.
    calibration : Calibration, optional
        As for `py4DSTEM.core.outline.outline`.
    name : str
        Written beside it.
    order : int
        Chooses colour and dashes.
    color : str, optional
        Instead of that of the order.
    """

    moved = QtCore.Signal(object, bool)
    """(shape, settled): along a drag, and when it has ended."""
    activated = QtCore.Signal()
    clicked = QtCore.Signal(float, float)
    """(x, y): pressed and released without a move."""

    def __init__(
        self,
        shape: Any,
        size: tuple[int, int],
        calibration: Calibration | None = None,
        *,
        name: str = "",
        order: int = 0,
        color: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.active = False
        self.dimmed = False
        """Whether it is drawn as one that does not count."""
        self._color, self._dashes = pen_style(order)
        self._color = color or self._color
        self._drag: _Drag | None = None
        self._over: str | None = None
        self._path = QtGui.QPainterPath()
        self._handles: dict[str, Pair] = {}
        self._label_px = QtGui.QFontMetricsF(QtGui.QFont()).horizontalAdvance(name) + _LABEL_PX
        self.setZValue(10)
        self.setAcceptedMouseButtons(QtCore.Qt.MouseButton.LeftButton)
        self._shape, self._size, self._calibration = shape, size, calibration
        self._rebuild()

    # ---- what is drawn ---------------------------------------------------------------------------
    @property
    def value(self) -> Any:
        """The detector or selection."""
        return self._shape

    @property
    def handles(self) -> dict[str, Pair]:
        """Places by which it is held, by name."""
        return dict(self._handles)

    def set_value(
        self,
        shape: Any,
        size: tuple[int, int] | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        """Draw another shape; nobody is told."""
        size, calibration = size or self._size, calibration or self._calibration
        known = (self._shape, self._size, self._calibration)
        if all(a is b or a == b for a, b in zip(known, (shape, size, calibration), strict=True)):
            return
        self._shape, self._size, self._calibration = shape, size, calibration
        self._rebuild()

    def set_active(self, active: bool) -> None:
        """Whether keys act on it; it then lies on top and shows its handles."""
        if active != self.active:
            self.active = active
            self.setZValue(20 if active else 10)
            self.update()

    def set_dimmed(self, dimmed: bool) -> None:
        """Whether to draw it faintly, because it does not count."""
        if dimmed != self.dimmed:
            self.dimmed = dimmed
            self.update()

    def _rebuild(self) -> None:
        self.prepareGeometryChange()
        self._path = QtGui.QPainterPath()
        try:
            lines = outline(self._shape, self._size, self._calibration)
            self._handles = handles(self._shape, self._calibration)
        except Py4DSTEMError:  # it lies at an origin, or has units, that are not known (any more)
            lines, self._handles = [], {}
        for line in lines:
            self._path.addPath(_path(line))
        self.update()

    @property
    def drawable(self) -> bool:
        """Whether its place on the image is known."""
        return not self._path.isEmpty()

    def viewTransformChanged(self) -> None:
        self.prepareGeometryChange()
        super().viewTransformChanged()

    def _pixel(self) -> Pair:
        """Size of a pixel of the screen, along columns and rows of the image."""
        box = self.getViewBox()
        if box is None or not hasattr(box, "viewPixelSize"):
            return 1.0, 1.0
        columns, rows = box.viewPixelSize()
        return float(columns) or 1.0, float(rows) or 1.0  # zero where nothing of it is to be seen

    def boundingRect(self) -> QtCore.QRectF:
        if self._path.isEmpty():
            return QtCore.QRectF()
        rect = self._path.boundingRect()
        for x, y in self._handles.values():
            rect = rect.united(QtCore.QRectF(y, x, 1e-9, 1e-9))
        columns, rows = (max(_REACH_PX, self._label_px) * v for v in self._pixel())
        return rect.adjusted(-columns, -rows, columns, rows)

    def shape(self) -> QtGui.QPainterPath:
        path = QtGui.QPainterPath()
        path.addRect(self.boundingRect())
        return path

    def paint(self, painter: QtGui.QPainter, *_: Any) -> None:
        if self._path.isEmpty():
            return
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        color = QtGui.QColor(self._color)
        color.setAlpha(110 if self.dimmed else 255)
        halo = _pen(QtGui.QColor(0, 0, 0, 60 if self.dimmed else 130), 3.6)
        painter.setBrush(QtCore.Qt.BrushStyle.NoBrush)
        painter.strokePath(self._path, halo)
        painter.strokePath(
            self._path,
            _pen(color, 2.2 if self.active else 1.5, None if self.dimmed else self._dashes),
        )
        painter.save()
        to_screen = painter.worldTransform()
        painter.resetTransform()
        if getattr(self._shape, "kind", "") == "point":
            self._paint_cross(painter, to_screen, color)
        elif self.active or self._over is not None or self._drag is not None:
            self._paint_handles(painter, to_screen, color)
        self._paint_name(painter, to_screen, color)
        painter.restore()

    def _paint_cross(
        self, painter: QtGui.QPainter, to_screen: QtGui.QTransform, color: QtGui.QColor
    ) -> None:
        """Four short lines around a single pixel, which may be smaller than one of the screen."""
        rect = to_screen.mapRect(self._path.boundingRect())
        middle, gap = rect.center(), max(rect.width() / 2, 2.0) + 2.0
        lines = []
        for x, y in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
            direction = QtCore.QPointF(x, y)
            lines.append(QtCore.QLineF(middle + gap * direction, middle + (gap + 9) * direction))
        for line_color, width in ((QtGui.QColor(0, 0, 0, 170), 3.6), (color, 1.6)):
            painter.setPen(QtGui.QPen(line_color, width))
            painter.drawLines(lines)

    def _paint_handles(
        self, painter: QtGui.QPainter, to_screen: QtGui.QTransform, color: QtGui.QColor
    ) -> None:
        painter.setPen(QtGui.QPen(QtGui.QColor("black"), 1))
        painter.setBrush(color)
        for name, (x, y) in self._handles.items():
            at = to_screen.map(QtCore.QPointF(y, x))
            if name == "center":
                painter.drawEllipse(at, _HANDLE_PX - 0.5, _HANDLE_PX - 0.5)
            else:
                side = 2 * _HANDLE_PX
                painter.drawRect(QtCore.QRectF(at.x() - side / 2, at.y() - side / 2, side, side))

    def _paint_name(
        self, painter: QtGui.QPainter, to_screen: QtGui.QTransform, color: QtGui.QColor
    ) -> None:
        if not self.names_itself(to_screen):
            return
        text = QtGui.QPainterPath(_letters(self.name, painter.font().toString()))
        text.translate(self.name_place(to_screen, text.boundingRect()))
        painter.strokePath(text, QtGui.QPen(QtGui.QColor(0, 0, 0, 170), 3))
        painter.fillPath(text, color)

    def names_itself(self, to_screen: QtGui.QTransform) -> bool:
        """Whether the name is written: small shapes have one while the mouse or keys are there."""
        rect = to_screen.mapRect(self._path.boundingRect())
        small = max(rect.width(), rect.height()) < _SMALL_PX
        return bool(self.name) and (not small or self.active or self._over is not None)

    def name_place(self, to_screen: QtGui.QTransform, text: QtCore.QRectF) -> QtCore.QPointF:
        """Where the name begins on the screen; `text` is what it takes from there.

        Above the shape; that of a segment lies outwards, where those of the others do not.
        """
        rect = to_screen.mapRect(self._path.boundingRect())
        if getattr(self._shape, "kind", "") != "segment" or "outer" not in self._handles:
            return QtCore.QPointF(rect.center().x() - 4, rect.top() - 4)
        middle, outer = (
            to_screen.map(QtCore.QPointF(y, x))
            for x, y in (self._handles["center"], self._handles["outer"])
        )
        away = QtCore.QLineF(middle, outer)
        length = max(away.length(), 1e-9)
        x, y = away.dx() / length, away.dy() / length
        # Half of the box of the text, as far as it reaches in that direction.
        half = (abs(x) * text.width() + abs(y) * text.height()) / 2
        away.setLength(length + half + 5)
        return away.p2() - text.center()

    # ---- the mouse -------------------------------------------------------------------------------
    def held_at(self, place: Pair) -> str | None:
        """What would be taken hold of there: the name of a handle, `BODY`, or nothing."""
        if self._path.isEmpty():
            return None
        near = {
            name: self._screen_distance(place, at)
            for name, at in self._handles.items()
            # The middle of a ring that is not active belongs to what lies within it.
            if self.active or self._path.contains(QtCore.QPointF(at[1], at[0])) or name != "center"
        }
        name = min(near, key=lambda key: near[key], default=None)
        if name is not None and near[name] <= _REACH_PX:
            return BODY if name == "center" else name
        columns, rows = (_EDGE_PX * v for v in self._pixel())
        around = QtCore.QRectF(place[1] - columns, place[0] - rows, 2 * columns, 2 * rows)
        return BODY if self._path.intersects(around) else None

    def _screen_distance(self, a: Pair, b: Pair) -> float:
        columns, rows = self._pixel()
        return float(np.hypot((a[0] - b[0]) / rows, (a[1] - b[1]) / columns))

    def hover(self, place: Pair | None) -> str | None:
        """The mouse is there, or nowhere; what it would take hold of."""
        held = None if place is None else self.held_at(place)
        if held != self._over:
            self._over = held
            self.update()
        return held

    @property
    def dragging(self) -> bool:
        """Whether the mouse is moving it."""
        return self._drag is not None and self._drag.going

    def mousePressEvent(self, ev: Any) -> None:
        place = _place(ev)
        held = self.held_at(place)
        if held is None or ev.button() != QtCore.Qt.MouseButton.LeftButton:
            ev.ignore()
            return
        ev.accept()
        handle = self._handles.get(held, place)
        self._drag = _Drag(held, place, self._shape, handle)
        self.activated.emit()

    def mouseMoveEvent(self, ev: Any) -> None:
        drag = self._drag
        if drag is None or drag.given_up:
            return
        place = _place(ev)
        if not drag.going and self._screen_distance(place, drag.place) < _STILL_PX:
            return
        drag.going = True
        self._change(self._dragged(drag, place), settled=False)

    def mouseReleaseEvent(self, ev: Any) -> None:
        drag, self._drag = self._drag, None
        self.update()
        if drag is None or drag.given_up:
            return
        if not drag.going:
            self.clicked.emit(*drag.place)
        elif not _same(self._shape, drag.shape):
            self.moved.emit(self._shape, True)

    def mouseDoubleClickEvent(self, ev: Any) -> None:
        """On the edge of a polygon: a vertex more."""
        place = _place(ev)
        added = with_vertex(self._shape, place, self._calibration)
        on_the_edge = self.held_at(place) == BODY and not self._on_center(place)
        if added is self._shape or not on_the_edge:
            self.mousePressEvent(ev)
            return
        ev.accept()
        self._change(added, settled=True)

    def _on_center(self, place: Pair) -> bool:
        center = self._handles.get("center")
        return center is not None and self._screen_distance(place, center) <= _REACH_PX

    def _dragged(self, drag: _Drag, place: Pair) -> Any:
        by = (place[0] - drag.place[0], place[1] - drag.place[1])
        if drag.held == BODY:
            return shifted(drag.shape, by, self._calibration)
        to = (drag.handle[0] + by[0], drag.handle[1] + by[1])
        return moved(drag.shape, drag.held, to, self._calibration)

    def _change(self, shape: Any, *, settled: bool) -> None:
        if _same(shape, self._shape):
            return
        self._shape = shape
        self._rebuild()
        self.moved.emit(shape, settled)

    def give_up(self) -> bool:
        """End a drag and put everything back; whether there was one."""
        drag = self._drag
        if drag is None or not drag.going or drag.given_up:
            return False
        drag.given_up = True
        if not _same(self._shape, drag.shape):
            self._shape = drag.shape
            self._rebuild()
            self.moved.emit(drag.shape, True)
        return True

    # ---- keys ------------------------------------------------------------------------------------
    def wants(self, ev: Any) -> bool:
        """Whether a key would be used here."""
        if ev.key() == Key.Key_Escape:
            return self.dragging
        if ev.modifiers() & QtCore.Qt.KeyboardModifier.AltModifier:
            return False
        if ev.key() == Key.Key_Delete:
            return self._without_vertex() is not self._shape
        known = ev.key() in _ARROWS or ev.key() in _BRACKETS
        return self.active and self.drawable and known

    def press(self, ev: Any) -> bool:
        """Use a key: nudge, grow, give a drag up; whether it was used."""
        if not self.wants(ev):
            return False
        if ev.key() == Key.Key_Escape:
            return self.give_up()
        if ev.key() == Key.Key_Delete:
            self._change(self._without_vertex(), settled=True)
            self._over = None
            return True
        self.nudge(ev.key(), ev.modifiers())
        return True

    def _without_vertex(self) -> Any:
        """The polygon without the vertex under the mouse; anything else as it is."""
        return without_vertex(self._shape, self._over or "")

    def nudge(self, key: Any, modifiers: Any) -> None:
        """Move by arrows or grow by brackets: 1 px, with Shift 10, with Ctrl a tenth."""
        modifier = QtCore.Qt.KeyboardModifier
        shift, ctrl = (
            bool(modifiers & m) for m in (modifier.ShiftModifier, modifier.ControlModifier)
        )
        step = 0.1 if ctrl else 1.0
        if key in _ARROWS:
            step = 10.0 if shift else step
            by = tuple(step * v for v in _ARROWS[key])
            self._change(shifted(self._shape, (by[0], by[1]), self._calibration), settled=True)
            return
        sign, which = _BRACKETS[key]
        which = "inner" if shift else which
        larger = grown(self._shape, sign * step, which, self._calibration)
        self._change(larger, settled=True)


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and bool(a == b))


def _place(ev: Any) -> Pair:
    at = ev.pos()
    return at.y(), at.x()


def _path(line: NDArray[np.float64]) -> QtGui.QPainterPath:
    return pg.arrayToQPath(line[:, 1], line[:, 0], connect="all", finiteCheck=False)


@lru_cache(maxsize=64)
def _letters(text: str, font_key: str) -> QtGui.QPainterPath:
    """The outline of a text from (0, 0), in the font of that key; do not change it."""
    font = QtGui.QFont()
    font.fromString(font_key)
    path = QtGui.QPainterPath()
    path.addText(QtCore.QPointF(0, 0), font, text)
    return path


def _pen(color: QtGui.QColor, width: float, style: Any = None) -> QtGui.QPen:
    pen = QtGui.QPen(color, width)
    pen.setCosmetic(True)
    if style is not None:
        pen.setStyle(style)
    return pen
