"""What the file says about itself, and what was done: metadata and history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyqtgraph.Qt import QtWidgets

from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.project import Project

__all__ = ["HistoryTab", "MetadataTab", "add_values"]

MOST = 2000
"""Entries of a tree of metadata that are shown."""
LONGEST = 300


class MetadataTab(QtWidgets.QTreeWidget):
    """The metadata of the scan in front, as a tree; filled when it is looked at."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self._session = session
        self._shown: Any = None
        self.setHeaderLabels(["Name", "Value"])
        self.setUniformRowHeights(True)
        self.setAlternatingRowColors(True)
        self.setColumnWidth(0, 130)
        session.changed.connect(lambda *_: self.refresh())
        session.opened.connect(lambda _: self.refresh())

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self.refresh()

    def refresh(self) -> None:
        """Show the scan in front, unless it is shown already."""
        scan = self._session.project.scan
        data = None if scan is None else self._session.data(scan.key)
        if not self.isVisible() or data is self._shown:
            return
        self._shown = data
        self.clear()
        if data is None or scan is None:
            return
        cube = data.cube
        about = {
            "file": scan.source.path or "in memory",
            "scan": " × ".join(map(str, cube.R_shape)),
            "patterns": " × ".join(map(str, cube.Q_shape)),
            "dtype": str(cube.dtype),
        }
        metadata = getattr(cube, "metadata", None)
        known = metadata.known() if hasattr(metadata, "known") else {}
        add_values(self.invisibleRootItem(), about | known, [MOST])
        self.expandToDepth(0)


def add_values(parent: Any, values: Any, left: list[int]) -> None:
    """Add a mapping, or a sequence of mappings, below an entry; `left[0]` entries at most."""
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values)
    for name, value in pairs:
        if left[0] <= 0:
            return
        left[0] -= 1
        nested = isinstance(value, Mapping) or (
            isinstance(value, Sequence) and any(isinstance(v, Mapping) for v in value)
        )
        text = "" if nested else _text(value)
        item = QtWidgets.QTreeWidgetItem(parent, [str(name), text])
        item.setToolTip(1, text)
        if nested:
            add_values(item, value, left)


def _text(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


class HistoryTab(QtWidgets.QTreeWidget):
    """How the scan came to be, and what was done here since."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self._session = session
        self._shown: Any = None
        self.setHeaderLabels(["Step", "Parameters"])
        self.setUniformRowHeights(True)
        self.setAlternatingRowColors(True)
        self.setColumnWidth(0, 130)
        session.changed.connect(lambda _, after: self.refresh(after))

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self.refresh(self._session.project)

    def refresh(self, project: Project) -> None:
        """List the steps of the file and the acts of this session."""
        if not self.isVisible():
            return
        scan, acts = project.scan, self._session.history.acts
        data = None if scan is None else self._session.data(scan.key)
        now = (data, len(acts), acts[-1] if acts else None)
        if now == self._shown:
            return
        self._shown = now
        self.clear()
        if data is not None:
            group = QtWidgets.QTreeWidgetItem(self, ["in the file"])
            for step in data.cube.history.steps:
                text = _text(dict(step.parameters))
                QtWidgets.QTreeWidgetItem(group, [step.kind, text]).setToolTip(1, text)
        group = QtWidgets.QTreeWidgetItem(self, ["in this session"])
        for command in acts[-MOST:]:
            QtWidgets.QTreeWidgetItem(group, [command.label()])
        self.expandAll()
        self.scrollToBottom()
