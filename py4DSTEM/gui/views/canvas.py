"""Where an image is drawn: pixels, axes, scale bar, and what the mouse and the keys do there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.core.axis import Axis
from py4DSTEM.gui.views.axes import CalibratedAxis
from py4DSTEM.gui.views.colors import color_codes
from py4DSTEM.gui.views.scale_bar import ScaleBar

__all__ = ["Canvas", "Pixels"]

Pair = tuple[float, float]
# Moves of the mouse that come quickly are not left out: a drag must end where the mouse was let go.
pg.setConfigOptions(mouseRateLimit=0)
_LEFT = QtCore.Qt.MouseButton.LeftButton
_EDGE_PX = 4.0
"""Left free beside the image, so that the last number of the axis is whole."""
_MARGIN = 0.1
"""Shown beside the image where there is room, as a part of it."""
_MOST_HUGS = 4
"""The numbers of an axis change its width, and that the room for the image: this ends at last."""


class Pixels(pg.GraphicsObject):
    """An image of colour numbers, or of colours; pixel centres lie at whole coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self._image = QtGui.QImage()
        self._held: NDArray[np.uint8] | None = None  # the memory that the image shows
        self._rect = QtCore.QRectF(-0.5, -0.5, 1.0, 1.0)
        self.number = 0
        """Of the request whose image is held."""
        self.painted = 0
        """Of the request whose image was painted last."""

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns (`shape` is a method of every item)."""
        return self._image.height(), self._image.width()

    def show_numbers(self, numbers: NDArray[np.uint8], colors: str, number: int) -> None:
        """Draw colour numbers (0: no number; 1 … 255) with a colour map."""
        rows, columns = numbers.shape
        image = QtGui.QImage(
            numbers.data, columns, rows, columns, QtGui.QImage.Format.Format_Indexed8
        )
        image.setColorTable(color_codes(colors))
        self._replace(image, numbers, number)

    def show_colors(self, rgb: NDArray[np.uint8], number: int) -> None:
        """Draw red, green and blue."""
        rows, columns = rgb.shape[:2]
        image = QtGui.QImage(
            rgb.data, columns, rows, 3 * columns, QtGui.QImage.Format.Format_RGB888
        )
        self._replace(image, rgb, number)

    def clear(self) -> None:
        """Draw nothing."""
        self._image, self._held = QtGui.QImage(), None
        self.update()

    def _replace(self, image: QtGui.QImage, held: NDArray[np.uint8], number: int) -> None:
        rect = QtCore.QRectF(-0.5, -0.5, image.width(), image.height())
        if rect != self._rect:
            self.prepareGeometryChange()
        self._image, self._held, self._rect, self.number = image, held, rect, number
        self.update()

    def boundingRect(self) -> QtCore.QRectF:
        return self._rect

    def paint(self, painter: QtGui.QPainter, *_: Any) -> None:
        if not self._image.isNull():
            painter.drawImage(self._rect, self._image)
        self.painted = self.number


class ImageBox(pg.ViewBox):
    """Zooms with the wheel and moves with the middle or right button; the left one is not its own.

    Clicks and drags of the left button that no item has taken are told to the canvas.
    """

    def __init__(self, canvas: Canvas) -> None:
        super().__init__(invertY=True, enableMenu=False, defaultPadding=0.0)
        self.setAspectLocked(True)
        self._canvas = canvas

    def mouseDragEvent(self, ev: Any, axis: int | None = None) -> None:
        ev.accept()
        if ev.button() == _LEFT:
            place = self.mapToView(ev.pos())
            self._canvas.dragged.emit(place.y(), place.x(), ev.isFinish())
            return
        self._resetTarget()
        self.translateBy(self.mapToView(ev.lastPos()) - self.mapToView(ev.pos()))
        self.sigRangeChangedManually.emit(self.state["mouseEnabled"])

    def mouseClickEvent(self, ev: Any) -> None:
        if ev.button() == _LEFT:
            ev.accept()
            place = self.mapToView(ev.pos())
            told = self._canvas.doubleClicked if ev.double() else self._canvas.clicked
            told.emit(place.y(), place.x())


class Canvas(pg.GraphicsView):
    """An image with axes; coordinates of its signals are pixels, row first."""

    clicked = QtCore.Signal(float, float)
    doubleClicked = QtCore.Signal(float, float)
    dragged = QtCore.Signal(float, float, bool)
    """(x, y, finished): the left button, where there was nothing to take hold of."""
    hovered = QtCore.Signal(object)
    """(x, y), or None when the mouse has left."""
    keyPressed = QtCore.Signal(object)
    """A `QKeyEvent` that nothing has used so far; accept it to use it."""
    resized = QtCore.Signal()
    drawn = QtCore.Signal(int)
    """Number of the request whose image is on the screen now."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent, background=None)
        self.pixels = Pixels()
        self.box = ImageBox(self)
        self.axes = CalibratedAxis("left", "x"), CalibratedAxis("bottom", "y")
        self.scale_bar = ScaleBar(self.box, self.pixels)
        self.drawn_number = 0
        self.key_users: list[Any] = []
        """What keys are offered to, first to last: callables that say whether they used it."""
        self._fitted = True
        self._hugs = 0
        self._lay_out()
        # Never while the layout is at work: its other items would be placed by what was before.
        self._later = QtCore.QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._hug)
        self.box.sigResized.connect(lambda _: self._later.start())
        self.box.sigRangeChangedManually.connect(self._moved_by_hand)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)

    def _lay_out(self) -> None:
        self._layout = layout = pg.GraphicsLayout()
        layout.setContentsMargins(0, 0, _EDGE_PX, 0)
        layout.setSpacing(0)
        for axis, place in zip(self.axes, ((0, 0), (1, 1)), strict=True):
            axis.linkToView(self.box)
            layout.addItem(axis, *place)
        layout.addItem(self.box, 0, 1)
        self.box.addItem(self.pixels, ignoreBounds=True)
        self.setCentralItem(layout)

    # ---- geometry --------------------------------------------------------------------------------
    def set_axes(self, axes: tuple[Axis, Axis], zero_px: Pair) -> None:
        """Read in these units, zero at that pixel; pixels get their true proportions."""
        for item, axis, zero in zip(self.axes, axes, zero_px, strict=True):
            item.set_axis(axis, zero, _axis_name(axis.name))
        x, y = axes
        ratio = y.step / x.step if x.unit == y.unit else 1.0
        if ratio != self.box.state["aspectLocked"]:
            self.box.setAspectLocked(True, ratio)
        self.scale_bar.set_axis(y)

    def fit(self) -> None:
        """Show the whole image."""
        self._fitted = True
        self._hugs = 0
        self._hug()
        self.box.setRange(rect=self.pixels.boundingRect(), padding=0.0)

    def _hug(self, *_: Any) -> None:
        """Let axes end soon after the image: what is left over lies around them, half and half.

        A shape that was dragged beyond the image can be taken hold of in the margin.
        """
        rows, columns = self.pixels.grid_shape
        width = self.width() - self.axes[0].width() - _EDGE_PX
        height = self.height() - self.axes[1].height()
        if min(rows, columns, width, height) <= 0 or self._hugs >= _MOST_HUGS:
            return
        proportion = columns / rows * (self.box.state["aspectLocked"] or 1.0)
        across = max(width - (1 + 2 * _MARGIN) * height * proportion, 0.0) / 2
        down = max(height - (1 + 2 * _MARGIN) * width / proportion, 0.0) / 2
        wish = (across, down, across + _EDGE_PX, down)
        known = self._layout.layout.getContentsMargins()
        if any(abs(a - b) > 1.0 for a, b in zip(wish, known, strict=True)):
            self._hugs += 1
            self._layout.setContentsMargins(*wish)
            self._layout.layout.activate()
        if self._fitted:
            self.box.setRange(rect=self.pixels.boundingRect(), padding=0.0)
        self.resized.emit()

    def zoom(self, magnification: float) -> None:
        """Show each pixel of the image as that many pixels of the screen, around the middle."""
        self._fitted = False
        middle = self.box.viewRect().center()
        size = QtCore.QSizeF(self.box.width() / magnification, self.box.height() / magnification)
        shown = QtCore.QRectF(QtCore.QPointF(0, 0), size)
        shown.moveCenter(middle)
        self.box.setRange(rect=shown, padding=0.0)

    def _moved_by_hand(self, *_: Any) -> None:
        self._fitted = False

    def resizeEvent(self, ev: Any) -> None:
        super().resizeEvent(ev)
        if ev is None:
            return
        self._hugs = 0
        self._hug()
        if self._fitted:
            self.fit()
        self.resized.emit()

    def place(self, ev: Any) -> Pair:
        """(x, y) on the image of a mouse event."""
        at = ev.position() if hasattr(ev, "position") else ev.localPos()
        view = self.box.mapSceneToView(self.mapToScene(at.toPoint()))
        return view.y(), view.x()

    def pixel_size(self) -> float:
        """Pixels of the image per pixel of the screen, along the columns."""
        return float(self.box.viewPixelSize()[0])

    # ---- events ----------------------------------------------------------------------------------
    def mouseMoveEvent(self, ev: Any) -> None:
        super().mouseMoveEvent(ev)
        self.hovered.emit(self.place(ev))

    def leaveEvent(self, ev: Any) -> None:
        super().leaveEvent(ev)
        self.hovered.emit(None)

    def event(self, ev: Any) -> bool:
        # Keys that move what is focused here are not shortcuts of the window.
        if ev.type() == QtCore.QEvent.Type.ShortcutOverride and self._wanted(ev):
            ev.accept()
            return True
        return bool(super().event(ev))

    def _wanted(self, ev: Any) -> bool:
        return any(getattr(user, "wants", _no)(ev) for user in self.key_users)

    def keyPressEvent(self, ev: Any) -> None:
        if any(user.press(ev) for user in self.key_users):
            ev.accept()
            return
        if ev.key() == QtCore.Qt.Key.Key_F and not ev.modifiers():
            self.fit()
            return
        ev.ignore()
        self.keyPressed.emit(ev)

    def paintEvent(self, ev: Any) -> None:
        super().paintEvent(ev)
        if self.pixels.painted != self.drawn_number:
            self.drawn_number = self.pixels.painted
            self.drawn.emit(self.drawn_number)


def _no(ev: Any) -> bool:
    return False


def _axis_name(name: str) -> str:
    """
    >>> _axis_name("Qx"), _axis_name("Ry"), _axis_name("time")
    ('qx', 'y', 'time')
    """
    return {"Qx": "qx", "Qy": "qy", "Rx": "x", "Ry": "y"}.get(name, name)
