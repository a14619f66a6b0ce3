"""A mouse that points at pixels of an image."""

from __future__ import annotations

from typing import Any

import pytest


class Mouse:
    """Sends real mouse events to the canvas of an image; places are (x, y), row first."""

    def __init__(self) -> None:
        from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

        self._qt, self._gui, self._app = QtCore, QtGui, QtWidgets.QApplication
        self.left = QtCore.Qt.MouseButton.LeftButton
        self.none = QtCore.Qt.MouseButton.NoButton
        self.plain = QtCore.Qt.KeyboardModifier.NoModifier

    def at(self, canvas: Any, x: float, y: float) -> Any:
        """Where on the widget a place of the image lies."""
        return canvas.mapFromScene(canvas.box.mapViewToScene(self._qt.QPointF(y, x)))

    def _send(self, canvas: Any, kind: str, place: Any, buttons: Any, button: Any) -> None:
        widget = canvas.viewport()
        event = self._gui.QMouseEvent(
            getattr(self._qt.QEvent.Type, kind),
            self._qt.QPointF(place),
            self._qt.QPointF(widget.mapToGlobal(place)),
            button,
            buttons,
            self.plain,
        )
        self._app.sendEvent(widget, event)

    def press(self, canvas: Any, x: float, y: float, button: Any = None) -> None:
        button = button or self.left
        self._send(canvas, "MouseButtonPress", self.at(canvas, x, y), button, button)

    def move(self, canvas: Any, x: float, y: float, button: Any = None) -> None:
        """Along a drag."""
        place = self.at(canvas, x, y)
        self._send(canvas, "MouseMove", place, button or self.left, self.none)

    def hover(self, canvas: Any, x: float, y: float) -> None:
        self._send(canvas, "MouseMove", self.at(canvas, x, y), self.none, self.none)

    def release(self, canvas: Any, x: float, y: float, button: Any = None) -> None:
        place = self.at(canvas, x, y)
        self._send(canvas, "MouseButtonRelease", place, self.none, button or self.left)

    def click(self, canvas: Any, x: float, y: float) -> None:
        self.press(canvas, x, y)
        self.release(canvas, x, y)

    def drag(self, canvas: Any, start: Any, stop: Any, steps: int = 6) -> None:
        """Press, move in some steps, release."""
        self.press(canvas, *start)
        for k in range(1, steps + 1):
            self.move(canvas, *(a + (b - a) * k / steps for a, b in zip(start, stop, strict=True)))
        self.release(canvas, *stop)


@pytest.fixture
def mouse(qapp: Any) -> Mouse:
    """Real mouse events at places of an image."""
    return Mouse()
