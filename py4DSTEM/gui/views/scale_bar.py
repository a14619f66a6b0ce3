"""A bar of round length in the corner of an image."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.core.axis import Axis
from py4DSTEM.plot.decorate import length_text, nice_length

__all__ = ["ScaleBar"]

_MARGIN = 12.0
_HEIGHT = 4.0


class ScaleBar(pg.GraphicsObject):
    """Keeps its place on the screen, whatever part of the image is shown.

    Parameters
    ----------
    box : ViewBox
        That it lies on.
    image : GraphicsObject
        In whose lower left corner it lies, as far as that is seen.
    """

    def __init__(self, box: pg.ViewBox, image: pg.GraphicsObject) -> None:
        super().__init__()
        self._image = image
        self.setParentItem(box)
        self.setZValue(50)
        # Text with a rim takes longer to draw than the image below it, which changes all the time.
        self.setCacheMode(QtWidgets.QGraphicsItem.CacheMode.DeviceCoordinateCache)
        self._box = box
        self.axis = Axis("Ry")
        self.length = 0.0
        self.text = ""
        self._bar = QtCore.QRectF()
        box.sigRangeChanged.connect(self.refresh)
        box.sigResized.connect(self.refresh)

    def set_axis(self, axis: Axis) -> None:
        """Measure along the columns, with this axis."""
        if axis != self.axis:
            self.axis = axis
            self.refresh()

    def refresh(self, *_: Any) -> None:
        """Choose the length for what is shown now."""
        shown = self._box.viewRect().width()
        width, height = self._box.width(), self._box.height()
        self.prepareGeometryChange()
        if not (shown > 0 and width > 4 * _MARGIN):
            self.text = ""
            return
        self.length = nice_length(0.3 * shown * self.axis.step)
        self.text = length_text(self.length, self.axis.unit)
        on_screen = self.length / self.axis.step * width / shown
        left, bottom = self._corner(height)
        self._bar = QtCore.QRectF(left + _MARGIN, bottom - _MARGIN - _HEIGHT, on_screen, _HEIGHT)
        self.update()

    def _corner(self, height: float) -> tuple[float, float]:
        """Left and lower edge of what is seen of the image."""
        corner = self._box.mapFromView(self._image.boundingRect().bottomLeft())
        seen = self._box.mapFromView(self._image.boundingRect().topRight())
        if seen.x() < 0 or corner.x() > self._box.width() or corner.y() < 30 or seen.y() > height:
            return 0.0, height
        return max(corner.x(), 0.0), min(corner.y(), height)

    def boundingRect(self) -> QtCore.QRectF:
        return self._bar.adjusted(-6, -24, 60, 6)

    def paint(self, painter: QtGui.QPainter, *_: Any) -> None:
        if not self.text:
            return
        painter.setPen(QtGui.QPen(QtGui.QColor("black"), 1))
        painter.setBrush(QtGui.QColor("white"))
        painter.drawRect(self._bar)
        path = QtGui.QPainterPath()
        path.addText(self._bar.left(), self._bar.top() - 5, painter.font(), self.text)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.strokePath(path, QtGui.QPen(QtGui.QColor(0, 0, 0, 200), 3))
        painter.fillPath(path, QtGui.QColor("white"))
