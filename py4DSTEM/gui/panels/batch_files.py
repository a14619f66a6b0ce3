"""The files of a run: chosen, dropped, or named by a pattern."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.gui.panels.parts import button

__all__ = ["FileList"]

Qt = QtCore.Qt


class FileList(QtWidgets.QWidget):
    """Names of files, patterns and addresses, each once; files can be dropped onto it."""

    changed = QtCore.Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.setAcceptDrops(True)
        self.names: tuple[str, ...] = ()
        """What is on the list, in its order."""
        self.list = QtWidgets.QListWidget()
        self.list.setToolTip("Files, and patterns such as data/**/*.h5; drop files here.")
        self.list.setUniformItemSizes(True)  # there may be thousands
        modes = QtWidgets.QAbstractItemView.SelectionMode
        self.list.setSelectionMode(modes.ExtendedSelection)
        self.list.setTextElideMode(Qt.TextElideMode.ElideLeft)
        self.pattern = QtWidgets.QLineEdit()
        self.pattern.setPlaceholderText("data/**/*.h5, or an address; Enter adds it")
        self.pattern.setToolTip(
            "A pattern: * stands for any name, ** for all folders below. It is looked up when the "
            "run begins. Or an address, such as s3://bucket/scan.h5."
        )
        self.pattern.returnPressed.connect(self._add_pattern)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(button("Add files…", "Choose files of scans.", self.choose))
        row.addWidget(self.pattern, 1)
        row.addWidget(button("Remove", "Take the chosen names off the list.", self.remove))
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.addWidget(self.list, 1)
        column.addLayout(row)

    def add(self, *names: str) -> None:
        """More names; those that are there stay where they are."""
        known = set(self.names)
        new = tuple(name for name in dict.fromkeys(names) if name and name not in known)
        if new:
            self.names += new
            self.list.addItems(new)
            self.changed.emit()

    def set_names(self, *names: str) -> None:
        """Other names."""
        self.list.clear()
        self.names = ()
        self.add(*names)

    def choose(self) -> None:
        """Ask for files."""
        paths, _ = QtWidgets.QFileDialog.getOpenFileNames(self, "Files of the run")
        self.add(*paths)

    def remove(self) -> None:
        """Take what is chosen off the list."""
        gone = {item.text() for item in self.list.selectedItems()}
        self.set_names(*(name for name in self.names if name not in gone))
        self.changed.emit()

    def _add_pattern(self) -> None:
        self.add(self.pattern.text().strip())
        self.pattern.clear()

    def keyPressEvent(self, event: Any) -> None:
        if event.key() == Qt.Key.Key_Delete and self.list.hasFocus():
            self.remove()
            return
        super().keyPressEvent(event)

    def dragEnterEvent(self, event: Any) -> None:
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        urls = event.mimeData().urls()
        event.acceptProposedAction()
        self.add(*(url.toLocalFile() or url.toString() for url in urls))
