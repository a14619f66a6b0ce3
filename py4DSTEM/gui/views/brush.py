"""A brush that paints a mask on an image; the window shows how, by `Brush`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtGui

from py4DSTEM.core.brush import blank, painted
from py4DSTEM.core.pixels import tinted

__all__ = ["Brush", "BrushItem"]

Pair = tuple[float, float]
Key = QtCore.Qt.Key
_SIZES = {Key.Key_BracketLeft: -1.0, Key.Key_BracketRight: 1.0}
_LEAST_PX = 0.5
_COLOR = "#F0E442"


@dataclass(frozen=True)
class Brush:
    """How the mouse paints: with Ctrl held, or `erase`, it takes away."""

    radius_px: float = 3.0
    erase: bool = False


class BrushItem(pg.GraphicsObject):
    """Takes strokes of the left button all over the image; other buttons go on as ever.

    Parameters
    ----------
    size : (int, int)
        Rows and columns of the image.
    brush : Brush
    """

    painted = QtCore.Signal(object, bool)
    """(mask (n0, n1) float64, settled): along a stroke, and when it has ended."""
    changed = QtCore.Signal(object)
    """The `Brush`, of another size; None: no more painting."""

    def __init__(self, size: tuple[int, int], brush: Brush) -> None:
        super().__init__()
        self.brush = brush
        self._size = size
        self._mask = blank(None, size)
        self._before = self._mask
        self._last: Pair | None = None
        self._place: Pair | None = None
        self._tint = QtGui.QImage()
        self._held: NDArray[np.uint8] | None = None
        self.setZValue(30)
        self.setAcceptedMouseButtons(QtCore.Qt.MouseButton.LeftButton)
        self.setCursor(QtCore.Qt.CursorShape.CrossCursor)

    @property
    def mask(self) -> NDArray[np.float64]:
        """What has been painted, (n0, n1) float64."""
        return self._mask

    def set_shape(self, shape: Any) -> None:
        """Go on with a mask that is there already; None: an empty one."""
        if self._last is None:
            self._take(blank(shape, self._size))

    def boundingRect(self) -> QtCore.QRectF:
        rows, columns = self._size
        reach = self.brush.radius_px
        return QtCore.QRectF(-0.5, -0.5, columns, rows).adjusted(-reach, -reach, reach, reach)

    def paint(self, painter: QtGui.QPainter, *_: Any) -> None:
        if not self._tint.isNull():
            rows, columns = self._size
            painter.drawImage(QtCore.QRectF(-0.5, -0.5, columns, rows), self._tint)
        if self._place is not None:
            pen = pg.mkPen(_COLOR, width=1.2, cosmetic=True)
            if self.brush.erase:
                pen.setStyle(QtCore.Qt.PenStyle.DashLine)
            painter.setPen(pen)
            x, y = self._place
            painter.drawEllipse(QtCore.QPointF(y, x), *2 * (self.brush.radius_px,))

    def hover(self, place: Pair | None) -> None:
        """Show how large the brush is, where the mouse is."""
        self._place = place
        self.update()

    def set_brush(self, brush: Brush) -> None:
        """Paint with another one."""
        self.prepareGeometryChange()
        self.brush = brush
        self.update()

    # ---- strokes ---------------------------------------------------------------------------------
    def mousePressEvent(self, ev: Any) -> None:
        ev.accept()
        self._before, self._last = self._mask, (ev.pos().y(), ev.pos().x())
        self._stroke(self._last, ev.modifiers())

    def mouseMoveEvent(self, ev: Any) -> None:
        if self._last is not None:
            self._stroke((ev.pos().y(), ev.pos().x()), ev.modifiers())

    def mouseReleaseEvent(self, ev: Any) -> None:
        if self._last is not None:
            self._last = None
            self.painted.emit(self._mask, True)

    def _stroke(self, to: Pair, modifiers: Any) -> None:
        control = QtCore.Qt.KeyboardModifier.ControlModifier
        erase = self.brush.erase or bool(modifiers & control)
        start, self._last = self._last or to, to
        value = 0.0 if erase else 1.0
        self._take(painted(self._mask, start, to, radius_px=self.brush.radius_px, value=value))
        self.painted.emit(self._mask, False)

    def _take(self, mask: NDArray[np.float64]) -> None:
        self._mask = mask
        self._held = tinted(mask)
        rows, columns = self._size
        self._tint = QtGui.QImage(
            self._held.data, columns, rows, 4 * columns, QtGui.QImage.Format.Format_RGBA8888
        )
        self.update()

    # ---- keys ------------------------------------------------------------------------------------
    def wants(self, ev: Any) -> bool:
        """Whether a key would be used: Esc ends a stroke, or the painting; brackets resize."""
        return ev.key() == Key.Key_Escape or ev.key() in _SIZES

    def press(self, ev: Any) -> bool:
        """Resize the brush, give a stroke up, or end."""
        if not self.wants(ev):
            return False
        if ev.key() in _SIZES:
            radius = max(self.brush.radius_px + _SIZES[ev.key()], _LEAST_PX)
            self.set_brush(replace(self.brush, radius_px=radius))
            self.changed.emit(self.brush)
        elif self._last is None:
            self.changed.emit(None)
        else:
            self._last = None
            self._take(self._before)
            self.painted.emit(self._mask, True)
        return True
