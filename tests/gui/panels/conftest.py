"""Mouse events as a hand makes them, and small scans with Bragg peaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def drag() -> Iterator[Callable[..., None]]:
    """``drag(view, start, *stops)``: press, move and let go, in scene coordinates of the view."""
    import pyqtgraph as pg
    from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

    # Events that follow one another faster than a hand moves would be left out.
    rate = pg.getConfigOption("mouseRateLimit")
    pg.setConfigOption("mouseRateLimit", 0)
    left, none = QtCore.Qt.MouseButton.LeftButton, QtCore.Qt.MouseButton.NoButton
    kinds = QtCore.QEvent.Type

    def send(view: Any, kind: Any, scene: Any, button: Any, buttons: Any) -> None:
        port = view.viewport()
        local = QtCore.QPointF(view.mapFromScene(scene))
        at = QtCore.QPointF(port.mapToGlobal(local.toPoint()))
        event = QtGui.QMouseEvent(
            kind, local, at, button, buttons, QtCore.Qt.KeyboardModifier.NoModifier
        )
        QtWidgets.QApplication.sendEvent(port, event)

    def act(view: Any, start: Any, *stops: Any, release: bool = True) -> None:
        send(view, kinds.MouseMove, start, none, none)
        send(view, kinds.MouseButtonPress, start, left, left)
        for stop in stops:
            send(view, kinds.MouseMove, stop, none, left)
        if release:
            end = stops[-1] if stops else start
            send(view, kinds.MouseButtonRelease, end, left, none)

    yield act
    pg.setConfigOption("mouseRateLimit", rate)


@pytest.fixture
def steps() -> Callable[..., list[Any]]:
    """Places between two, the last one included, as a mouse passes them."""
    from pyqtgraph.Qt import QtCore

    def between(start: Any, end: Any, count: int = 8) -> list[Any]:
        return [
            QtCore.QPointF(
                start.x() + f * (end.x() - start.x()), start.y() + f * (end.y() - start.y())
            )
            for f in np.linspace(0, 1, count + 1)[1:]
        ]

    return between
