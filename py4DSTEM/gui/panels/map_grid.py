"""A few small maps side by side: one colour scale, one zoom, one cursor, one rectangle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.pixels import color_numbers, unknown_pixels
from py4DSTEM.core.selection import RectangleSelection
from py4DSTEM.gui.views.canvas import Pixels
from py4DSTEM.gui.views.colors import color_table
from py4DSTEM.gui.views.hatch import Hatch, hatch_swatch
from py4DSTEM.gui.views.scale_bar import ScaleBar

__all__ = ["MapGrid"]

Pair = tuple[float, float]
_REGION = "#00a0c8"
_BAR_WIDTH = 76


class MapGrid(QtWidgets.QWidget):
    """Maps of one shape; places are (x, y), row first.

    Parameters
    ----------
    names : sequence of str
        One map each; above it until `set_titles` says more.
    columns : int
    locked : bool
        Whether pixels keep their proportions; False: each map fills its place.
    unknown : str
        What it means that a pixel holds no number: hatched, and said below the maps.
    """

    hovered = QtCore.Signal(object)
    """(x, y) of the pixel under the mouse, whole numbers, or None."""
    clicked = QtCore.Signal(int, int)
    regionMoved = QtCore.Signal(object, bool)
    """(`RectangleSelection`, settled): the rectangle was dragged, on whichever map."""

    def __init__(
        self,
        names: Sequence[str],
        columns: int = 2,
        *,
        locked: bool = True,
        unknown: str = "no value",
        parent: Any = None,
    ) -> None:
        super().__init__(parent)
        self.unknown = unknown
        self.names = tuple(names)
        self.images: tuple[NDArray[Any], ...] = ()
        self.limits: Pair = (0.0, 1.0)
        self.colors = "gray"
        self.region: RectangleSelection | None = None
        self.view = pg.GraphicsLayoutWidget(self)
        self.view.setBackground(None)
        self.bar = _Bar(self)
        self.maps = [_Map(name, locked) for name in self.names]
        self.scale_bar = ScaleBar(self.maps[0].box, self.maps[0].pixels) if locked else None
        self._place(columns)
        self.legend = _Legend(self)
        layout = QtWidgets.QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.view, 0, 0)
        layout.addWidget(self.bar, 0, 1)
        layout.addWidget(self.legend, 1, 0, 1, 2)
        layout.setRowStretch(0, 1)
        layout.setColumnStretch(0, 1)
        self.view.scene().sigMouseMoved.connect(self._hover)
        self.view.scene().sigMouseClicked.connect(self._click)

    def _place(self, columns: int) -> None:
        self.view.ci.layout.setContentsMargins(0, 0, 0, 0)
        self.view.ci.layout.setSpacing(2)
        for k, one in enumerate(self.maps):
            row, column = divmod(k, columns)
            self.view.addItem(one.title, 2 * row, column)
            self.view.addItem(one.box, 2 * row + 1, column)
            one.roi.sigRegionChanged.connect(self._drag)
            one.roi.sigRegionChangeFinished.connect(self._drop)
            self.view.ci.layout.setColumnStretchFactor(column, 1)
            self.view.ci.layout.setColumnPreferredWidth(column, 100)
            if k:
                one.box.setXLink(self.maps[0].box)
                one.box.setYLink(self.maps[0].box)

    # ---- what is shown ---------------------------------------------------------------------------
    def show_maps(
        self,
        images: Sequence[NDArray[Any]],
        limits: Pair,
        *,
        colors: str = "RdBu_r",
        label: str = "",
        axes: tuple[Axis, Axis] | None = None,
    ) -> None:
        """Show one image per map, all on the scale from `limits[0]` to `limits[1]`.

        Parameters
        ----------
        images : sequence of (n0, n1) arrays
            Where they are NaN, they are grey and hatched.
        limits : (float, float)
        colors : str
            Name of a colour map.
        label : str
            What is shown and its unit, beside the colour bar.
        axes : (Axis, Axis), optional
            Of rows and columns: for the scale bar and the proportions of pixels.
        """
        new = not self.images or images[0].shape != self.images[0].shape
        self.images, self.limits, self.colors = tuple(images), limits, colors
        self.bar.show_scale(limits, colors, label)
        missing = [one.show(image, limits, colors)
                   for one, image in zip(self.maps, self.images, strict=True)]  # fmt: skip
        self.legend.say(max(missing), images[0].size, self.unknown)
        if axes is not None:
            self._set_axes(axes)
        if new:
            self.fit()

    def set_limits(self, limits: Pair) -> None:
        """Show the same maps on another scale."""
        if self.images and limits != self.limits:
            self.show_maps(self.images, limits, colors=self.colors, label=self.bar.label)

    def set_titles(self, texts: Sequence[str]) -> None:
        """Write a line above every map."""
        for one, text in zip(self.maps, texts, strict=True):
            one.title.setText(text)

    def set_cursor(self, place: tuple[int, int] | None) -> None:
        """Mark a pixel on all maps, or none."""
        for one in self.maps:
            one.cursor.setData(*(([place[1]], [place[0]]) if place is not None else ([], [])))

    def set_region(self, region: RectangleSelection | None) -> None:
        """Draw a rectangle that can be dragged on every map, or none."""
        self.region = region
        for one in self.maps:
            if not (one.held and region == one.drawn_region()):
                one.show_region(region)

    def fit(self) -> None:
        """Show the whole maps."""
        if self.images:
            rows, columns = self.images[0].shape
            for one in self.maps:
                one.roi.maxBounds = QtCore.QRectF(-0.5, -0.5, columns, rows)
            self.maps[0].box.setRange(QtCore.QRectF(-0.5, -0.5, columns, rows), padding=0.02)

    def _set_axes(self, axes: tuple[Axis, Axis]) -> None:
        x, y = axes
        ratio = y.step / x.step if x.unit == y.unit else 1.0
        for one in self.maps:
            if one.locked and one.box.state["aspectLocked"] != ratio:
                one.box.setAspectLocked(True, ratio)
        if self.scale_bar is not None:
            self.scale_bar.set_axis(y)

    # ---- mouse -----------------------------------------------------------------------------------
    def _at(self, scene: Any) -> tuple[int, int] | None:
        if not self.images:
            return None
        for one in self.maps:
            if one.box.sceneBoundingRect().contains(scene):
                at = one.box.mapSceneToView(scene)
                x, y = round(at.y()), round(at.x())
                rows, columns = self.images[0].shape
                return (x, y) if 0 <= x < rows and 0 <= y < columns else None
        return None

    def _hover(self, scene: Any) -> None:
        place = self._at(scene)
        self.set_cursor(place)
        self.hovered.emit(place)

    def _click(self, ev: Any) -> None:
        place = self._at(ev.scenePos())
        if place is not None and ev.button() == QtCore.Qt.MouseButton.LeftButton:
            self.clicked.emit(*place)

    def leaveEvent(self, ev: Any) -> None:
        super().leaveEvent(ev)
        self.set_cursor(None)
        self.hovered.emit(None)

    def _drag(self, roi: Any) -> None:
        self._moved(roi, settled=False)

    def _drop(self, roi: Any) -> None:
        self._moved(roi, settled=True)

    def _moved(self, roi: Any, *, settled: bool) -> None:
        one = next(m for m in self.maps if m.roi is roi)
        if one.quiet or self.region is None:
            return
        one.held = not settled
        self.set_region(one.drawn_region())
        self.regionMoved.emit(self.region, settled)


class _Title(pg.LabelItem):
    """A line that does not make its map wider."""

    def updateMin(self) -> None:
        super().updateMin()
        self.setMinimumWidth(0)
        for hint in (QtCore.Qt.SizeHint.MinimumSize, QtCore.Qt.SizeHint.PreferredSize):
            self._sizeHint[hint] = (0, self.itemRect().height())
        self.updateGeometry()


class _Map:
    """One map: its title, its box with the pixels, the cursor and the rectangle."""

    def __init__(self, name: str, locked: bool) -> None:
        self.title = _Title(name, justify="left", size="9pt")
        self.box = pg.ViewBox(invertY=True, enableMenu=False, defaultPadding=0.0)
        self.locked = locked
        if locked:
            self.box.setAspectLocked(True)
        self.pixels, self.hatch = Pixels(), Hatch()
        self.cursor = pg.ScatterPlotItem(symbol="+", size=14, pen=pg.mkPen("k", width=1.5))
        self.roi = pg.ROI((0, 0), (1, 1), pen=pg.mkPen(_REGION, width=2), rotatable=False)
        self.quiet = False
        self.held = False
        """Whether the mouse drags the rectangle on this map, between pixels."""
        for corner, opposite in (((1, 1), (0, 0)), ((0, 0), (1, 1))):
            self.roi.addScaleHandle(corner, opposite)
        for item in (self.pixels, self.hatch, self.cursor, self.roi):
            self.box.addItem(item, ignoreBounds=True)
        self.roi.hide()

    def show(self, image: NDArray[Any], limits: Pair, colors: str) -> int:
        """Draw an image; the number of its pixels that hold no number."""
        numbers = color_numbers(image, *limits)
        mask, missing = unknown_pixels(numbers)
        self.pixels.show_numbers(numbers, colors, 0)
        self.hatch.show_mask(mask)
        return missing

    def show_region(self, region: RectangleSelection | None) -> None:
        self.quiet = True
        self.roi.setVisible(region is not None)
        if region is not None:
            size = region.y1 - region.y0, region.x1 - region.x0
            self.roi.setPos((region.y0 - 0.5, region.x0 - 0.5), finish=False)
            self.roi.setSize(size, finish=False)
        self.quiet = False

    def drawn_region(self) -> RectangleSelection:
        """The pixels nearest to what is drawn, at least one."""
        (y, x), (columns, rows) = self.roi.pos(), self.roi.size()
        x0, y0 = round(x + 0.5), round(y + 0.5)
        x1, y1 = round(x + rows + 0.5), round(y + columns + 0.5)
        return RectangleSelection(x0, max(x1, x0 + 1), y0, max(y1, y0 + 1))


class _Legend(QtWidgets.QWidget):
    """What the hatching means, where something is hatched."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        swatch = QtWidgets.QLabel()
        swatch.setPixmap(hatch_swatch())
        self.words = QtWidgets.QLabel()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(2, 0, 0, 0)
        layout.addWidget(swatch)
        layout.addWidget(self.words, 1)
        self.hide()

    def say(self, missing: int, of: int, meaning: str) -> None:
        """Say at how many of the pixels there is no number; nothing where there are all."""
        self.words.setText(f"{meaning} at {missing} of {of}")
        self.setVisible(missing > 0)


class _Bar(QtWidgets.QWidget):
    """The colours from low (bottom) to high (top), with what they mean."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.limits: Pair = (0.0, 1.0)
        self.label = ""
        self._colors = "gray"
        self.setFixedWidth(_BAR_WIDTH)

    def show_scale(self, limits: Pair, colors: str, label: str) -> None:
        self.limits, self._colors, self.label = limits, colors, label
        self.setToolTip(label)
        self.update()

    def paintEvent(self, ev: Any) -> None:
        painter = QtGui.QPainter(self)
        painter.setPen(self.palette().color(QtGui.QPalette.ColorRole.WindowText))
        line = painter.fontMetrics().height()
        strip = QtCore.QRectF(16, line, 12, max(self.height() - 2 * line, 1))
        column = np.ascontiguousarray(color_table(self._colors)[:0:-1])
        image = QtGui.QImage(column.data, 1, len(column), 4, QtGui.QImage.Format.Format_RGBA8888)
        painter.drawImage(strip, image)
        low, high = self.limits
        middle = strip.center().y() + line / 3
        for value, y in ((high, line), (0.5 * (low + high), middle), (low, strip.bottom())):
            painter.drawText(QtCore.QPointF(31, y), f"{value:.3g}")
        painter.rotate(-90)
        place = QtCore.QRectF(-self.height(), 0, self.height(), 14)
        painter.drawText(place, QtCore.Qt.AlignmentFlag.AlignCenter, self.label)
        painter.end()
