"""What panels have put on an image: points, lines, regions, pictures."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.gui.stage import Curves, Marks, Overlay, Picture, Region, Ruler, Stage
from py4DSTEM.gui.views.canvas import Canvas
from py4DSTEM.gui.views.ruler import RulerItem
from py4DSTEM.gui.views.shape_item import ShapeItem
from py4DSTEM.gui.views.shapes import Shapes

__all__ = ["Overlays"]

_MOST_LABELS = 200


class Overlays(QtCore.QObject):
    """Draws the overlays that a stage has for one panel.

    Parameters
    ----------
    canvas : Canvas
    shapes : Shapes
        Of the same canvas: regions are dragged like detectors.
    stage : Stage
    panel : "diffraction", "real" or "result"
    """

    pictured = QtCore.Signal(object)
    """The `Picture` to be shown instead of the panel's own image, or None."""

    def __init__(self, canvas: Canvas, shapes: Shapes, stage: Stage, panel: str) -> None:
        super().__init__(canvas)
        self._canvas, self._shapes, self._stage, self._panel = canvas, shapes, stage, panel
        self._items: dict[str, list[Any]] = {}
        self._pictures: dict[str, Picture] = {}
        self._rulers: dict[str, RulerItem] = {}
        stage.overlaid.connect(self._overlaid)
        for (where, name), overlay in tuple(stage.overlays.items()):
            self._overlaid(where, name, overlay)

    @property
    def picture(self) -> Picture | None:
        """The one that was put last."""
        return next(reversed(self._pictures.values()), None)

    def ruler(self, name: str) -> RulerItem:
        """The line of that name."""
        return self._rulers[name]

    def items(self, name: str) -> list[Any]:
        """What is drawn for an overlay."""
        return self._items.get(name, [])

    def _overlaid(self, panel: str, name: str, overlay: Overlay | None) -> None:
        if panel != self._panel:
            return
        if isinstance(overlay, Region) and self._region(name, overlay):
            return
        if isinstance(overlay, Ruler) and name in self._rulers:
            self._rulers[name].set_ruler(overlay)
            return
        self._take_away(name)
        if isinstance(overlay, Ruler):
            self._rulers[name] = RulerItem(overlay, self._canvas.box)
        elif isinstance(overlay, Picture):
            self._pictures[name] = overlay
            self.pictured.emit(overlay)
        elif isinstance(overlay, Marks):
            self._items[name] = self._placed(_marks(overlay))
        elif isinstance(overlay, Curves):
            self._items[name] = self._placed(_curves(overlay))

    def _take_away(self, name: str) -> None:
        for item in self._items.pop(name, []):
            self._canvas.box.removeItem(item)
        self._shapes.remove(_key(name))
        if name in self._rulers:
            self._rulers.pop(name).remove()
        if self._pictures.pop(name, None) is not None:
            self.pictured.emit(self.picture)

    def _placed(self, items: list[Any]) -> list[Any]:
        for item in items:
            item.setZValue(15)
            self._canvas.box.addItem(item, ignoreBounds=True)
        return items

    def _region(self, name: str, region: Region) -> bool:
        """Draw a region; one that is there already is changed, so that a drag of it goes on."""
        key, size = _key(name), self._canvas.pixels.grid_shape
        if key not in self._shapes:
            self._take_away(name)
            item = ShapeItem(region.shape, size, name=region.name, color=region.color)
            self._shapes.add(key, item)
            item.moved.connect(lambda shape, settled: self._moved(name, shape, settled))
            item.activated.connect(lambda: self._shapes.activate(key))
        self._shapes[key].set_value(region.shape, size)
        return True

    def _moved(self, name: str, shape: Any, settled: bool) -> None:
        region = self._stage.overlays.get((self._panel, name))
        if isinstance(region, Region):
            region.moved(shape, settled)


def _key(name: str) -> str:
    return f"overlay:{name}"


def _marks(marks: Marks) -> list[Any]:
    points = marks.points
    if not len(points):
        return []
    spots = pg.ScatterPlotItem(
        x=points[:, 1],
        y=points[:, 0],
        symbol=marks.symbol,
        size=marks.size_px,
        pen=pg.mkPen(marks.color, width=1.5),
        brush=None,
        pxMode=True,
    )
    return [spots, *_labels(marks)]


def _labels(marks: Marks) -> list[Any]:
    labels = []
    for (x, y), text in list(zip(marks.points, marks.labels, strict=False))[:_MOST_LABELS]:
        label = pg.TextItem(text, color=marks.color, anchor=(0, 1), fill=pg.mkBrush(0, 0, 0, 120))
        label.setPos(float(y), float(x))
        labels.append(label)
    return labels


def _curves(curves: Curves) -> list[Any]:
    path = QtGui.QPainterPath()
    for line in curves.paths:
        if len(line):
            path.addPath(pg.arrayToQPath(line[:, 1], line[:, 0], connect="finite"))
    item = QtWidgets.QGraphicsPathItem(path)
    item.setPen(pg.mkPen(curves.color, width=curves.width_px, cosmetic=True))
    return [item]
