"""Hatching over pixels that hold no number, of one width at any zoom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtGui

__all__ = ["Hatch", "hatch_swatch"]

_LINES = "#202020"
_BEHIND = "#8c8c8c"
"""What pixels without a number are drawn with, under the lines."""


class Hatch(pg.GraphicsObject):
    """Lines over some pixels of an image; pixel centres lie at whole coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self._image = QtGui.QImage()
        self.held: NDArray[np.uint8] | None = None
        """What is hatched: 255, and 0 elsewhere."""
        self._rect = QtCore.QRectF(-0.5, -0.5, 1.0, 1.0)

    def show_mask(self, mask: NDArray[np.uint8]) -> None:
        """Hatch the pixels that are 255, of an (n0, n1) mask of 0 and 255."""
        rows, columns = mask.shape
        rect = QtCore.QRectF(-0.5, -0.5, columns, rows)
        if rect != self._rect:
            self.prepareGeometryChange()
        alpha = QtGui.QImage.Format.Format_Alpha8
        self._image = QtGui.QImage(mask.data, columns, rows, columns, alpha)
        self.held, self._rect = mask, rect
        self.update()

    def boundingRect(self) -> QtCore.QRectF:
        return self._rect

    def paint(self, painter: QtGui.QPainter, *_: Any) -> None:
        """The mask on a layer of the size of the screen, its pixels then replaced by lines.

        A brush on the pixels themselves would be as coarse as they are.
        """
        if self.held is None or not self.held.any():
            return
        to_screen = painter.worldTransform()
        seen = QtCore.QRectF(painter.viewport())
        place = to_screen.mapRect(self._rect).intersected(seen).toAlignedRect()
        if place.isEmpty():
            return
        layer = QtGui.QImage(place.size(), QtGui.QImage.Format.Format_ARGB32_Premultiplied)
        layer.fill(0)
        inner = QtGui.QPainter(layer)
        inner.setTransform(to_screen * QtGui.QTransform.fromTranslate(-place.x(), -place.y()))
        inner.drawImage(self._rect, self._image)
        inner.resetTransform()
        inner.setCompositionMode(QtGui.QPainter.CompositionMode.CompositionMode_SourceIn)
        inner.fillRect(layer.rect(), _lines())
        inner.end()
        painter.save()
        painter.resetTransform()
        painter.drawImage(place.topLeft(), layer)
        painter.restore()


def hatch_swatch(width: int = 22, height: int = 12) -> QtGui.QPixmap:
    """A piece of what is hatched, for a legend."""
    pixmap = QtGui.QPixmap(width, height)
    pixmap.fill(QtGui.QColor(_BEHIND))
    painter = QtGui.QPainter(pixmap)
    painter.fillRect(pixmap.rect(), _lines())
    painter.end()
    return pixmap


def _lines() -> QtGui.QBrush:
    return QtGui.QBrush(QtGui.QColor(_LINES), QtCore.Qt.BrushStyle.BDiagPattern)
