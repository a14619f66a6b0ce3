"""The sheet of shortcuts, made from the table of actions; keys are changed here."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.state.actions import ACTIONS, by_id, keys, rebound

__all__ = ["Shortcuts"]

_ITEM = QtCore.Qt.ItemDataRole.UserRole


class Shortcuts(QtWidgets.QDialog):
    """All actions with their keys, and a field to give the chosen one others."""

    def __init__(self, window: Any) -> None:
        super().__init__(window)
        self.setWindowTitle("Shortcuts")
        self.setModal(False)
        self.resize(760, 560)
        self._window = window
        self.filter = QtWidgets.QLineEdit()
        self.table = QtWidgets.QTreeWidget()
        self.field = QtWidgets.QKeySequenceEdit()
        self.set, self.clear_, self.reset = (
            QtWidgets.QPushButton(text) for text in ("Set", "No key", "Reset all")
        )
        self.problem = QtWidgets.QLabel()
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        self.filter.setPlaceholderText("filter")
        self.table.setHeaderLabels(["Keys", "Action", "What it does"])
        self.table.setRootIsDecorated(False)
        self.table.setColumnWidth(0, 150)
        self.table.setColumnWidth(1, 200)
        self.problem.setProperty("error", True)
        self.problem.setWordWrap(True)
        self.field.setToolTip("Press the new key for the chosen action")
        row = QtWidgets.QHBoxLayout()
        row.addWidget(QtWidgets.QLabel("New key"))
        for widget in (self.field, self.set, self.clear_):
            row.addWidget(widget)
        row.addStretch(1)
        row.addWidget(self.reset)
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(self.filter)
        column.addWidget(self.table)
        column.addWidget(self.problem)
        column.addLayout(row)

    def _connect(self) -> None:
        self.filter.textChanged.connect(lambda _: self.refresh())
        self.set.clicked.connect(lambda _: self.choose(self.field.keySequence()))
        self.clear_.clicked.connect(lambda _: self.choose(QtGui.QKeySequence()))
        self.reset.clicked.connect(lambda _: self._prefer({}))

    @property
    def _changed(self) -> dict[str, tuple[str, ...]]:
        return dict(self._window.preferences.shortcuts)

    def refresh(self) -> None:
        """List the actions that the filter lets pass."""
        chosen, text = self.chosen(), self.filter.text().lower()
        self.table.clear()
        known = keys(self._changed)
        for action in ACTIONS:
            words = ("  ".join(known[action.id]), action.text, action.help)
            if text and not any(text in word.lower() for word in words):
                continue
            item = QtWidgets.QTreeWidgetItem(self.table, list(words))
            item.setData(0, _ITEM, action.id)
            item.setToolTip(2, action.help)
            if action.id == chosen:
                self.table.setCurrentItem(item)

    def chosen(self) -> str:
        """Id of the action that is chosen, or ""."""
        item = self.table.currentItem()
        return "" if item is None else str(item.data(0, _ITEM))

    def choose_action(self, id: str) -> None:
        """Choose an action in the table."""
        for number in range(self.table.topLevelItemCount()):
            item = self.table.topLevelItem(number)
            if item is not None and item.data(0, _ITEM) == id:
                self.table.setCurrentItem(item)

    def choose(self, sequence: QtGui.QKeySequence) -> None:
        """Give the chosen action a key, or none; one that is taken is refused."""
        id = self.chosen()
        if not id:
            self.problem.setText("Choose an action first.")
            return
        text = sequence.toString(QtGui.QKeySequence.SequenceFormat.PortableText)
        try:
            changed = rebound(self._changed, id, [text] if text else [])
        except ParameterError as error:
            self.problem.setText(str(error))
            return
        if changed.get(id) == by_id(id).keys:
            del changed[id]
        self._prefer(changed)

    def _prefer(self, changed: dict[str, tuple[str, ...]]) -> None:
        self.problem.clear()
        self.field.clear()
        self._window.prefer(self._window.preferences.replace(shortcuts=changed))
        self.refresh()
