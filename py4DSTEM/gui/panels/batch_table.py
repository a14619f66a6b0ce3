"""The rows of a run, or of what it would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.gui.state.batch import Line

__all__ = ["RunTable"]

Qt = QtCore.Qt
HEAD = ("state", "file", "step", "time", "memory", "note")
TIPS = (
    "What became of the file; ▲: done, but beyond a quality limit.",
    "The input; a double click opens it with its results.",
    "The step in flight, or how many are done.",
    "Time that it took.",
    "Largest memory of its process.",
    "Error, quality limit, or why it is done: whole when the mouse rests on the row.",
)
WIDTHS = (74, 124, 84, 50, 66, 40)
COLORS = {"good": "#009E73", "fair": "#E69F00", "bad": "#D55E00"}
"""Of Okabe and Ito; the sign of the state says the same."""
TINT = 45


class _Model(QtCore.QAbstractTableModel):
    """Lines; only those that have changed are drawn again."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.lines: list[Line] = []

    def set_lines(self, lines: Sequence[Line]) -> None:
        """Show other lines; what is chosen stays where the files are the same."""
        if [line.source for line in lines] != [line.source for line in self.lines]:
            self.beginResetModel()
            self.lines = list(lines)
            self.endResetModel()
            return
        for k, line in enumerate(lines):
            if line != self.lines[k]:
                self.lines[k] = line
                self.dataChanged.emit(self.index(k, 0), self.index(k, len(HEAD) - 1))

    def rowCount(self, parent: Any = None) -> int:
        return len(self.lines)

    def columnCount(self, parent: Any = None) -> int:
        return len(HEAD)

    def headerData(self, section: int, orientation: Any, role: Any = 0) -> Any:
        if orientation == Qt.Orientation.Vertical:
            return None
        known = {Qt.ItemDataRole.DisplayRole: HEAD, Qt.ItemDataRole.ToolTipRole: TIPS}
        return known[role][section] if role in known else None

    def data(self, index: Any, role: Any = 0) -> Any:
        line = self.lines[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return line.cells[index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return line.tip
        if role == Qt.ItemDataRole.BackgroundRole and line.level:
            color = QtGui.QColor(COLORS[line.level])
            color.setAlpha(TINT)
            return QtGui.QBrush(color)
        return None


class RunTable(QtWidgets.QTableView):
    """A row per file, coloured by what became of it."""

    opened = QtCore.Signal(object)
    """`Line` that was double-clicked."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.model_ = _Model(self)
        self.setModel(self.model_)
        views = QtWidgets.QAbstractItemView
        self.setSelectionBehavior(views.SelectionBehavior.SelectRows)
        self.setSelectionMode(views.SelectionMode.ExtendedSelection)
        self.setEditTriggers(views.EditTrigger.NoEditTriggers)
        self.setWordWrap(False)
        self.setShowGrid(False)
        self.setToolTip("A row for each file; a double click opens what came of it.")
        across, down = self.horizontalHeader(), self.verticalHeader()
        if across is not None and down is not None:
            across.setStretchLastSection(True)
            across.setHighlightSections(False)
            across.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
            down.hide()
            down.setDefaultSectionSize(self.fontMetrics().height() + 6)
        for column, width in enumerate(WIDTHS):
            self.setColumnWidth(column, width)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.doubleClicked.connect(self._double)

    @property
    def lines(self) -> list[Line]:
        """What is shown."""
        return self.model_.lines

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Show these."""
        self.model_.set_lines(lines)

    @property
    def chosen(self) -> list[Line]:
        """The rows that are selected."""
        selection = self.selectionModel()
        rows = [] if selection is None else selection.selectedRows()
        return [self.lines[index.row()] for index in rows]

    def _double(self, index: Any) -> None:
        self.opened.emit(self.lines[index.row()])
