"""A slim colour bar with a histogram and two limits that can be dragged."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.core.contrast import Scale
from py4DSTEM.core.pixels import fraction_of, scale_histogram, value_at
from py4DSTEM.gui.views.colors import color_table

__all__ = ["ColorBar"]

_STRIP = 12
_GRAB = 9
_END = 10
_INTERVAL_MS = 100


class ColorBar(QtWidgets.QWidget):
    """Colours of an image from low (bottom) to high (top), and how often each occurs.

    The bar reaches somewhat beyond the limits, so that they can be dragged outwards.  The histogram
    follows the image at most ten times a second.
    """

    limitsDragged = QtCore.Signal(float, float, bool)
    """(low, high, settled)"""
    resetWanted = QtCore.Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.low, self.high = 0.0, 1.0
        self.span = (0.0, 1.0)
        self.counts: NDArray[np.int64] = np.zeros(255, dtype=np.int64)
        self._path = QtGui.QPainterPath()  # of these counts, at this size
        self._path_of: tuple[Any, QtCore.QSize] | None = None
        self._scale: Scale = "linear"
        self._colors = "gray"
        self._image: NDArray[Any] | None = None
        self._held: Literal["low", "high"] | None = None
        self._start = (0.0, 1.0)
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self._count)
        self.setFixedWidth(66)
        self.setMouseTracking(True)
        self.setToolTip(
            "Colours and how often their values occur.\n"
            "Drag the two lines to set the limits; double-click: automatic limits."
        )

    # ---- what it shows ---------------------------------------------------------------------------
    def show_image(
        self, image: NDArray[Any], limits: tuple[float, float], scale: Scale, colors: str
    ) -> None:
        """Follow an image, its limits, its scale and its colour map."""
        if (*limits, scale, colors) != (self.low, self.high, self._scale, self._colors):
            self.low, self.high = limits
            self._scale, self._colors = scale, colors
            self.update()
        self._image = image
        if not self._timer.isActive():
            self._timer.start()

    def _count(self) -> None:
        if self._image is None:
            return
        if self._held is None:
            self.span = _wider(self.low, self.high, self._scale)
        self.counts = scale_histogram(self._image, *self.span, self._scale)
        self._image = None
        self.update()

    # ---- places ----------------------------------------------------------------------------------
    def level_y(self, value: float) -> float:
        """Where a value lies, in pixels from the top."""
        reach = self.height() - 2 * _END
        return _END + (1 - fraction_of(value, *self.span, self._scale)) * reach

    def _value(self, y: float) -> float:
        reach = max(self.height() - 2 * _END, 1)
        fraction = min(max(1 - (y - _END) / reach, 0.0), 1.0)
        return value_at(fraction, *self.span, self._scale)

    def _grabbed(self, y: float) -> Literal["low", "high"] | None:
        near = {"low": abs(y - self.level_y(self.low)), "high": abs(y - self.level_y(self.high))}
        name: Any = min(near, key=lambda key: near[key])
        return name if near[name] <= _GRAB else None

    # ---- the mouse -------------------------------------------------------------------------------
    def mousePressEvent(self, ev: Any) -> None:
        if ev.button() == QtCore.Qt.MouseButton.LeftButton:
            self._held = self._grabbed(ev.pos().y())
            self._start = (self.low, self.high)

    def mouseMoveEvent(self, ev: Any) -> None:
        if self._held is None:
            over = self._grabbed(ev.pos().y()) is not None
            shape = QtCore.Qt.CursorShape
            self.setCursor(shape.SizeVerCursor if over else shape.ArrowCursor)
            return
        self._drag(ev.pos().y(), settled=False)

    def mouseReleaseEvent(self, ev: Any) -> None:
        if self._held is None:
            return
        if (self.low, self.high) != self._start:
            self.limitsDragged.emit(self.low, self.high, True)
        self._held = None
        self._timer.start()

    def mouseDoubleClickEvent(self, ev: Any) -> None:
        self._held = None
        self.resetWanted.emit()

    def _drag(self, y: float, *, settled: bool) -> None:
        value = self._value(y)
        low, high = (value, self.high) if self._held == "low" else (self.low, value)
        if low < high and math.isfinite(high - low):
            self.low, self.high = low, high
            self.limitsDragged.emit(low, high, settled)
            self.update()

    # ---- painting --------------------------------------------------------------------------------
    def paintEvent(self, ev: Any) -> None:
        painter = QtGui.QPainter(self)
        top, bottom = self.level_y(self.high), self.level_y(self.low)
        self._paint_strip(painter, top, bottom)
        self._paint_histogram(painter)
        self._paint_limits(painter, top, bottom)
        painter.end()

    def _paint_strip(self, painter: QtGui.QPainter, top: float, bottom: float) -> None:
        table = color_table(self._colors)[1:]
        column = np.ascontiguousarray(table[::-1])
        strip = QtGui.QImage(column.data, 1, len(column), 4, QtGui.QImage.Format.Format_RGBA8888)
        whole = QtCore.QRectF(0, _END, _STRIP, self.height() - 2 * _END)
        painter.fillRect(whole, QtGui.QColor(*table[-1].tolist()))
        under = QtCore.QRectF(0, bottom, _STRIP, whole.bottom() - bottom)
        painter.fillRect(under, QtGui.QColor(*table[0].tolist()))
        painter.drawImage(QtCore.QRectF(0, top, _STRIP, bottom - top), strip)

    def _paint_histogram(self, painter: QtGui.QPainter) -> None:
        # The counts change ten times a second, the limits with every image of a drag.
        known = self._path_of
        if known is None or known[0] is not self.counts or known[1] != self.size():
            self._path_of = (self.counts, self.size())
            self._path = self._histogram_path()
        color = self.palette().color(QtGui.QPalette.ColorRole.WindowText)
        color.setAlpha(90)
        painter.fillPath(self._path, color)

    def _histogram_path(self) -> QtGui.QPainterPath:
        most = int(self.counts.max())
        if most == 0:
            return QtGui.QPainterPath()
        # Rare values must be seen beside common ones: the width is logarithmic.
        widths = np.log1p(self.counts) / math.log1p(most) * (self.width() - _STRIP - 4)
        height = (self.height() - 2 * _END) / len(widths)
        path = QtGui.QPainterPath(QtCore.QPointF(_STRIP + 2, self.height() - _END))
        for k, width in enumerate(widths.tolist()):
            path.lineTo(_STRIP + 2 + width, self.height() - _END - (k + 0.5) * height)
        path.lineTo(_STRIP + 2, _END)
        return path

    def _paint_limits(self, painter: QtGui.QPainter, top: float, bottom: float) -> None:
        painter.setPen(QtGui.QPen(self.palette().color(QtGui.QPalette.ColorRole.WindowText), 1))
        font = painter.font()
        font.setPointSizeF(max(font.pointSizeF() * 0.85, 6.0))
        painter.setFont(font)
        line = painter.fontMetrics().height()
        for y, value, above in ((top, self.high, True), (bottom, self.low, False)):
            painter.drawLine(QtCore.QPointF(0, y), QtCore.QPointF(self.width(), y))
            fits = y > line if above else y + line > self.height()
            painter.drawText(
                QtCore.QPointF(_STRIP + 3, y - 2 if fits else y + line - 3), _short(value)
            )


def _short(value: float) -> str:
    """
    >>> _short(123.456), _short(-0.000123456)
    ('123.5', '-1.2e-04')
    """
    text = f"{value:.4g}"
    return text if len(text) <= 7 else f"{value:.1e}"


def _wider(low: float, high: float, scale: Scale) -> tuple[float, float]:
    """A span somewhat beyond the limits; it ends at zero where values are not negative."""
    room = high - low
    least = low if scale == "log" and low > 0 else low - 0.25 * room
    return (0.0 if low >= 0 > least else least), high + 0.5 * room
