"""The Bragg vector map with two lattice vectors that can be dragged and snap to its peaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import ArrayLike, NDArray
from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.views.canvas import Pixels
from py4DSTEM.process.bragg.picking import PickingMap

__all__ = ["VectorMapView"]

_COLORS = ("#56B4E9", "#F0E442")
_SNAP_SCREEN_PX = 14


class VectorMapView(QtWidgets.QWidget):
    """A map, two arrows from its origin, and the lattice that they span."""

    vectorsMoved = QtCore.Signal(object, bool)
    """((2, 2) g1 and g2 as rows, in the unit of the map, settled)"""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.picking: PickingMap | None = None
        self.snap = True
        self.vectors: NDArray[np.float64] | None = None
        """g1 and g2 (rows), in the unit of the map."""
        self.view = pg.GraphicsView(self, background=None)
        self.box = pg.ViewBox(invertY=True, enableMenu=False, defaultPadding=0.0)
        self.box.setAspectLocked(True)
        self.view.setCentralItem(self.box)
        self.pixels = Pixels()
        self.points = pg.ScatterPlotItem(
            symbol="o", size=9, pen=pg.mkPen("#009E73", width=1.2), brush=None
        )
        self.lines = [pg.PlotCurveItem(pen=pg.mkPen(color, width=2)) for color in _COLORS]
        self.tips = [self._tip(k) for k in (0, 1)]
        for item in (self.pixels, self.points, *self.lines, *self.tips):
            self.box.addItem(item, ignoreBounds=True)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)
        self.setMinimumHeight(180)
        self.setToolTip(
            "All Bragg peaks of the scan, around the origin.\nDrag the tips of g1 and g2: they "
            "snap to peaks.\nCircles: the lattice that they span.  Wheel: zoom."
        )
        self._show_items(False)

    def _tip(self, index: int) -> pg.TargetItem:
        tip = pg.TargetItem(
            (0, 0), size=13, symbol="o", pen=pg.mkPen(_COLORS[index], width=2),
            hoverPen=pg.mkPen("w", width=3), brush=pg.mkBrush(0, 0, 0, 60),
            label=f"g{index + 1}", labelOpts={"color": _COLORS[index], "offset": (9, -9)},
        )  # fmt: skip
        tip.sigPositionChanged.connect(lambda: self._dragged(index, settled=False))
        tip.sigPositionChangeFinished.connect(lambda: self._dragged(index, settled=True))
        return tip

    # ---- what is shown ---------------------------------------------------------------------------
    def show_map(self, picking: PickingMap | None, numbers: NDArray[np.uint8] | None) -> None:
        """Show a map as colour numbers, or nothing."""
        new = picking is not None and (
            self.picking is None or picking.image.shape != self.picking.image.shape
        )
        self.picking = picking
        if picking is None or numbers is None:
            self._show_items(False)
            return
        self.pixels.show_numbers(numbers, "inferno", 0)
        self.pixels.show()
        if new:
            self.fit()

    def fit(self) -> None:
        """Show the whole map."""
        self.box.setRange(rect=self.pixels.boundingRect(), padding=0.0)

    def set_vectors(self, vectors: ArrayLike | None) -> None:
        """Draw g1 and g2 (rows), in the unit of the map; None: no arrows."""
        self.vectors = None if vectors is None else np.array(vectors, np.float64)
        self._draw(move_tips=True)

    def _draw(self, *, move_tips: bool) -> None:
        if self.picking is None or self.vectors is None:
            self._show_items(False, map_too=False)
            return
        origin, ends = self.picking.origin_px, self.picking.pixels(self.vectors)
        for tip, line, end in zip(self.tips, self.lines, ends.tolist(), strict=True):
            line.setData([origin[1], end[1]], [origin[0], end[0]])
            if move_tips:
                _put(tip, end)
        try:
            points, _ = self.picking.lattice(self.vectors)
        except ParameterError:  # along a drag the vectors may be parallel for a moment
            points = np.empty((0, 2))
        self.points.setData(points[:, 1], points[:, 0])
        self._show_items(True)

    def _show_items(self, shown: bool, *, map_too: bool = True) -> None:
        for item in (self.points, *self.lines, *self.tips):
            item.setVisible(shown)
        if map_too:
            self.pixels.setVisible(shown or self.picking is not None)

    # ---- mouse -----------------------------------------------------------------------------------
    def _dragged(self, index: int, *, settled: bool) -> None:
        if self.picking is None or self.vectors is None:
            return
        tip = self.tips[index]
        at = np.array([tip.pos().y(), tip.pos().x()])
        if self.snap:
            within = _SNAP_SCREEN_PX * self.box.viewPixelSize()[0]
            at = self.picking.snapped(at, within)
            _put(tip, at)
        vectors = self.vectors.copy()
        vectors[index] = self.picking.vector(at)
        self.vectors = vectors
        self._draw(move_tips=False)
        self.vectorsMoved.emit(vectors, settled)


def _put(tip: pg.TargetItem, place: ArrayLike) -> None:
    """Move a tip without telling anyone."""
    x, y = np.asarray(place).tolist()
    blocked = tip.blockSignals(True)
    tip.setPos((y, x))
    tip.blockSignals(blocked)
