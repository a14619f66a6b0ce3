"""The palette: any action by a few letters of its name."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.gui.state.actions import ACTIONS
from py4DSTEM.gui.state.fuzzy import ranked

__all__ = ["Palette"]

_ITEM = QtCore.Qt.ItemDataRole.UserRole


class Palette(QtWidgets.QDialog):
    """A line to type into, and the actions that it may mean, the best first."""

    def __init__(self, window: Any) -> None:
        super().__init__(window)
        self.setWindowTitle("Find action")
        self.setModal(False)
        self.setMinimumSize(460, 380)
        self._window = window
        self.line = QtWidgets.QLineEdit()
        self.line.setPlaceholderText("a few letters of what you want to do")
        self.list = QtWidgets.QListWidget()
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(self.line)
        column.addWidget(self.list)
        self.line.textChanged.connect(self.find)
        self.line.returnPressed.connect(self._run)
        self.list.itemActivated.connect(lambda _: self._run())
        self.line.installEventFilter(self)
        self.find("")

    def open_fresh(self) -> None:
        """Show it empty, ready to type."""
        self.line.clear()
        self.find("")
        self.show()
        self.raise_()
        self.line.setFocus()

    def find(self, text: str) -> None:
        """List what `text` may mean."""
        made = self._window.actions_.made
        known = {
            action.id: f"{action.menu.replace('/', ' › ')} › {action.text}"
            for action in ACTIONS
            if action.menu
        }
        self.list.clear()
        for id in ranked(text, known):
            keys = made[id].shortcut().toString()
            item = QtWidgets.QListWidgetItem(f"{known[id]}{f'    {keys}' if keys else ''}")
            item.setData(_ITEM, id)
            item.setToolTip(made[id].toolTip())
            if not made[id].isEnabled():
                item.setFlags(item.flags() & ~QtCore.Qt.ItemFlag.ItemIsEnabled)
            self.list.addItem(item)
        self.list.setCurrentRow(0)

    def _run(self) -> None:
        item = self.list.currentItem()
        if item is not None and item.flags() & QtCore.Qt.ItemFlag.ItemIsEnabled:
            self.close()
            self._window.actions_.trigger(item.data(_ITEM))

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Up and down move in the list while one types."""
        keys = (QtCore.Qt.Key.Key_Up, QtCore.Qt.Key.Key_Down)
        if event.type() == QtCore.QEvent.Type.KeyPress and event.key() in keys:
            copy = QtGui.QKeyEvent(event.type(), event.key(), event.modifiers())
            QtWidgets.QApplication.sendEvent(self.list, copy)
            return True
        return False
