"""A label that ends in … where there is no room for all of its text."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

__all__ = ["ElidedLabel"]


class ElidedLabel(QtWidgets.QLabel):
    """As wide as there is room for; it asks for none."""

    def __init__(self, text: str = "", parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(text, parent)
        policies = QtWidgets.QSizePolicy.Policy
        self.setSizePolicy(policies.Ignored, policies.Preferred)
        self.setTextFormat(QtCore.Qt.TextFormat.PlainText)

    @property
    def shown(self) -> str:
        """The text as it is drawn now."""
        elide = QtCore.Qt.TextElideMode.ElideRight
        shown: str = self.fontMetrics().elidedText(self.text(), elide, self.contentsRect().width())
        return shown

    def paintEvent(self, event: Any) -> None:
        painter = QtGui.QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(self.contentsRect(), self.alignment(), self.shown)
