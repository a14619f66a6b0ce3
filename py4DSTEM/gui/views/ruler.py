"""A line on an image whose ends can be dragged."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from pyqtgraph.Qt import QtCore

from py4DSTEM.gui.stage import Ruler

__all__ = ["RulerItem"]

Pair = tuple[float, float]


class RulerItem(QtCore.QObject):
    """Draws a `Ruler` on a view box and tells where its ends are dragged to."""

    def __init__(self, ruler: Ruler, box: pg.ViewBox) -> None:
        super().__init__(box)
        self._box = box
        self._quiet = False
        pen = pg.mkPen(ruler.color, width=2)
        self.line = pg.LineSegmentROI(
            [_view(ruler.start), _view(ruler.stop)], pen=pen, hoverPen=pg.mkPen("w", width=3)
        )
        self.line.setZValue(18)
        self.ruler = ruler
        box.addItem(self.line, ignoreBounds=True)
        self.line.sigRegionChanged.connect(self._moved)

    def set_ruler(self, ruler: Ruler) -> None:
        """Draw other ends; nobody is told."""
        self.ruler = ruler
        if self.ends == (ruler.start, ruler.stop):
            return
        self._quiet = True
        for handle, end in zip(self.line.getHandles(), (ruler.start, ruler.stop), strict=True):
            self.line.movePoint(handle, pg.Point(*_view(end)), coords="parent")
        self._quiet = False

    @property
    def ends(self) -> tuple[Pair, Pair]:
        """(x, y) of both, in pixels."""
        places = [
            self.line.mapToParent(position) for _, position in self.line.getLocalHandlePositions()
        ]
        (a, b) = ((float(p.y()), float(p.x())) for p in places)
        return a, b

    def remove(self) -> None:
        """Take it away."""
        self._box.removeItem(self.line)

    def _moved(self, *_: Any) -> None:
        if not self._quiet:
            self.ruler.moved(*self.ends)


def _view(end: Pair) -> tuple[float, float]:
    return end[1], end[0]
