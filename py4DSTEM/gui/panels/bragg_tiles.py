"""Small patterns with the disks that were found in them, and bars that count the disks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.core.contrast import Scale, fast_limits
from py4DSTEM.core.pixels import color_numbers
from py4DSTEM.gui.views.colors import color_codes
from py4DSTEM.process.bragg.preview import REASONS, Preview

__all__ = ["FOUND", "REASON_COLORS", "Bars", "Mark", "Tile", "TileView", "tile", "tiles_of"]

Qt = QtCore.Qt
FOUND = "#2fc78f"
REASON_COLORS = {
    "weak": "#F0E442", "moved": "#56B4E9", "hidden": "#CC79A7", "close": "#E69F00",
    "crowded": "#D55E00", "near": "#9fb6c8", "faint": "#b39ddb",
}  # fmt: skip
_MOST_CROSSES = 80
_NEAR_PX = 8
_EDGE = 2


@dataclass(frozen=True)
class Mark:
    """A maximum in a pattern: a disk, or why it is none."""

    x: float
    y: float
    reason: str = ""
    words: str = ""


@dataclass(frozen=True, eq=False)
class Tile:
    """A pattern as colour numbers, and what was found in it."""

    numbers: NDArray[np.uint8]
    title: str = ""
    colors: str = "gray"
    marks: tuple[Mark, ...] = ()
    radius_px: float = 0.0


def tile(image: NDArray[Any], title: str, *, colors: str = "gray", scale: Scale = "linear") -> Tile:
    """An image without marks."""
    low, high = fast_limits(image, (0.5, 99.8), scale=scale)
    return Tile(color_numbers(image, low, high, scale), title, colors)


def tiles_of(preview: Preview) -> tuple[Tile, ...]:
    """The patterns of a preview; of each the highest maxima that were left out are marked."""
    made = []
    for k, pattern in enumerate(preview.patterns):
        low, high = fast_limits(pattern, (0.5, 99.8), scale="sqrt")
        rx, ry = preview.positions[k]
        made.append(
            Tile(
                color_numbers(pattern, low, high, "sqrt"),
                f"{k + 1}  ({rx}, {ry}): {len(preview.peaks[k])}",
                "gray",
                (*_disks(preview, k), *_crosses(preview, k)),
                preview.probe_radius_px,
            )
        )
    return tuple(made)


def _disks(preview: Preview, index: int) -> list[Mark]:
    names = preview.peaks[index].dtype.names or ()
    return [
        Mark(float(peak["qx"]), float(peak["qy"]), words=_peak_words(peak, names))
        for peak in preview.peaks[index]
    ]


def _peak_words(peak: Any, names: Sequence[str]) -> str:
    shown = f"disk at ({peak['qx']:.2f}, {peak['qy']:.2f}) px, intensity {peak['intensity']:.4g}"
    sure = "significance" in names and math.isfinite(peak["significance"])
    return f"{shown}, {peak['significance']:.1f} σ" if sure else shown


def _crosses(preview: Preview, index: int) -> list[Mark]:
    out = [c for c in preview.candidates[index] if c.verdict != "disk"][:_MOST_CROSSES]
    return [Mark(float(c.pixel[0]), float(c.pixel[1]), c.verdict, _left_out_words(c)) for c in out]


def _left_out_words(candidate: Any) -> str:
    return f"left out: {REASONS[candidate.verdict]}; height {candidate.height:.4g}"


class TileView(QtWidgets.QWidget):
    """Draws a tile; the tooltip says what the mark under the mouse is."""

    def __init__(self, side_px: int = 64) -> None:
        super().__init__()
        self.tile: Tile | None = None
        self.stale = False
        self._image = QtGui.QImage()
        self.setMinimumSize(side_px, side_px)

    def show_tile(self, tile: Tile | None) -> None:
        """Show a pattern, or nothing."""
        self.tile, self.stale = tile, False
        self._image = QtGui.QImage()
        if tile is not None:
            rows, columns = tile.numbers.shape
            kind = QtGui.QImage.Format.Format_Indexed8
            self._image = QtGui.QImage(tile.numbers.data, columns, rows, columns, kind)
            self._image.setColorTable(color_codes(tile.colors))
        self.update()

    def set_stale(self, stale: bool) -> None:
        """Whether what is shown belongs to parameters of before."""
        if stale != self.stale:
            self.stale = stale
            self.update()

    def _frame(self) -> QtCore.QRectF:
        """Where the image lies: as large as fits, in the middle."""
        room = QtCore.QRectF(self.rect()).adjusted(_EDGE, _EDGE, -_EDGE, -_EDGE)
        size = QtCore.QSizeF(self._image.size()).scaled(
            room.size(), Qt.AspectRatioMode.KeepAspectRatio
        )
        frame = QtCore.QRectF(QtCore.QPointF(0, 0), size)
        frame.moveCenter(room.center())
        return frame

    def place(self, x: float, y: float) -> QtCore.QPointF:
        """Where (row, column) of the pattern is drawn."""
        frame = self._frame()
        step = frame.width() / max(self._image.width(), 1)
        return QtCore.QPointF(frame.left() + (y + 0.5) * step, frame.top() + (x + 0.5) * step)

    def paintEvent(self, event: Any) -> None:
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        if self.tile is None:
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "–")
            return
        frame = self._frame()
        painter.setOpacity(0.45 if self.stale else 1.0)
        painter.drawImage(frame, self._image)
        radius = self.tile.radius_px * frame.width() / max(self._image.width(), 1)
        painter.setClipRect(frame)
        for mark in self.tile.marks:
            self._paint_mark(painter, mark, max(radius, 2.0))
        painter.setClipping(False)
        if self.tile.title:
            self._paint_title(painter, frame)

    def _paint_mark(self, painter: QtGui.QPainter, mark: Mark, radius: float) -> None:
        at = self.place(mark.x, mark.y)
        painter.setPen(QtGui.QPen(QtGui.QColor(REASON_COLORS.get(mark.reason, FOUND)), 1.2))
        if not mark.reason:
            painter.drawEllipse(at, radius, radius)
            return
        for dx, dy in ((2.5, 2.5), (2.5, -2.5)):
            arm = QtCore.QPointF(dx, dy)
            painter.drawLine(at - arm, at + arm)

    def _paint_title(self, painter: QtGui.QPainter, frame: QtCore.QRectF) -> None:
        words = self.tile.title if self.tile is not None else ""
        box = painter.boundingRect(frame, Qt.AlignmentFlag.AlignLeft, words)
        box = box.adjusted(0, 0, 4, 0)
        painter.fillRect(box, QtGui.QColor(0, 0, 0, 150))
        painter.setPen(QtGui.QColor("#ffffff"))
        painter.drawText(box.adjusted(2, 0, 0, 0), Qt.AlignmentFlag.AlignLeft, words)

    def mark_at(self, place: QtCore.QPointF) -> Mark | None:
        """The mark nearest to a place on the screen, if one is near."""
        marks = self.tile.marks if self.tile is not None else ()
        away = [((self.place(m.x, m.y) - place).manhattanLength(), k) for k, m in enumerate(marks)]
        distance, nearest = min(away, default=(math.inf, 0))
        return marks[nearest] if distance <= _NEAR_PX else None

    def event(self, event: Any) -> bool:
        if event.type() == QtCore.QEvent.Type.ToolTip:
            mark = self.mark_at(QtCore.QPointF(event.pos()))
            text = self.toolTip() if mark is None else mark.words
            QtWidgets.QToolTip.showText(event.globalPos(), text, self)
            return True
        return bool(super().event(event))


class Bars(QtWidgets.QWidget):
    """A small histogram: how many patterns hold how many disks."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: tuple[int, ...] = ()
        self.ends = ("", "")
        self.setFixedHeight(46)
        self.setMinimumWidth(90)
        self.setToolTip("How many of the previewed patterns (height) hold how many disks (across).")

    def show_histogram(self, numbers: Sequence[int], low: float, high: float) -> None:
        """Show numbers between two ends."""
        self.numbers, self.ends = tuple(numbers), (f"{low:g}", f"{high:g}")
        self.update()

    def paintEvent(self, event: Any) -> None:
        painter = QtGui.QPainter(self)
        if not self.numbers:
            return
        text = self.fontMetrics().height()
        room = QtCore.QRectF(0, 2, self.width(), self.height() - text - 2)
        step, most = room.width() / len(self.numbers), max(*self.numbers, 1)
        color = self.palette().color(QtGui.QPalette.ColorRole.Highlight)
        for k, number in enumerate(self.numbers):
            height = room.height() * number / most
            bar = QtCore.QRectF(k * step, room.bottom() - height, max(step - 1, 1), height)
            painter.fillRect(bar, color)
        below = QtCore.QRectF(0, room.bottom(), self.width(), text)
        painter.setPen(self.palette().color(QtGui.QPalette.ColorRole.WindowText))
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, self.ends[0])
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, self.ends[1])
