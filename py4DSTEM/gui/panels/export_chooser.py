"""Which of the results of a scan are to be saved, and in which format."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.gui.files import ask_save, write_job
from py4DSTEM.gui.panels.parts import Note, button
from py4DSTEM.gui.session import Session

__all__ = ["ExportChooser"]

Qt = QtCore.Qt
MANY = "HDF5, everything exactly (*.h5)"
ONE = ";;".join((
    MANY, "NumPy (*.npy)", "Table (*.csv)", "Image with pixel size, for ImageJ (*.tif)",
    "Image (*.png)", "HyperSpy (*.hspy)",
))  # fmt: skip
SCAN = "the scan itself"


class ExportChooser(QtWidgets.QDialog):
    """A list of everything that can be saved, with a mark before each."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self.setModal(False)
        self.setWindowTitle("Export data")
        self.session = session
        self.list = QtWidgets.QListWidget()
        self.list.setToolTip("What is marked is saved; several things together as HDF5.")
        self.note = Note()
        self.ok = button("Save…", "Choose the format and the place.", self.ask)
        column = QtWidgets.QVBoxLayout(self)
        column.addWidget(self.list)
        column.addWidget(self.note)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(button("All", "Mark all results.", lambda: self._mark_all(True)))
        row.addWidget(button("None", "Mark nothing.", lambda: self._mark_all(False)))
        row.addStretch(1)
        row.addWidget(button("Close", "Save nothing.", self.close))
        row.addWidget(self.ok)
        column.addLayout(row)
        self.list.itemChanged.connect(lambda *_: self._say())

    def offer(self, *names: str) -> None:
        """List what there is; only `names` are marked, or all results where none is given."""
        scan = self.session.project.scan
        self.list.clear()
        results = [] if scan is None else [r.name for r in scan.results if r.value is not None]
        shown = sorted(self.session.stage.showing)
        for name in (*results, *(f"image: {panel}" for panel in shown), SCAN):
            item = QtWidgets.QListWidgetItem(name)
            marked = name in names if names else name in results
            item.setCheckState(_state(marked))
            self.list.addItem(item)
        self._say()

    @property
    def marked(self) -> tuple[str, ...]:
        """Names of what is marked."""
        rows = (self.list.item(k) for k in range(self.list.count()))
        on = Qt.CheckState.Checked
        return tuple(r.text() for r in rows if r is not None and r.checkState() == on)

    def _mark_all(self, marked: bool) -> None:
        for k in range(self.list.count()):
            row = self.list.item(k)
            if row is not None and (not marked or row.text() != SCAN):
                row.setCheckState(_state(marked))

    def _say(self) -> None:
        count = len(self.marked)
        self.ok.setEnabled(count > 0)
        self.note.say("" if count else "Mark what is to be saved.")

    def ask(self) -> None:
        """Ask where to; one thing alone can have other formats."""
        names = self.marked
        values = self._values(names)
        if values:
            scan = self.session.project.scan
            stem = "scan" if scan is None else scan.name
            name = f"{stem}_results" if len(values) > 1 else f"{stem}_{next(iter(values))}"
            filters = MANY if len(values) > 1 else ONE
            ask_save(self, "Export data", _plain(name), filters, lambda path: self.write(path))

    def write(self, path: str) -> Any:
        """Write what is marked, as a job."""
        values = self._values(self.marked)
        single = next(iter(values.values())) if len(values) == 1 else values
        return write_job(self.session, path, lambda options: _save(path, single, options))

    def _values(self, names: tuple[str, ...]) -> dict[str, Any]:
        key = self.session.project.current
        showing = {f"image: {panel}": value for panel, value in self.session.stage.showing.items()}
        values = {}
        for name in names:
            value = showing.get(name)
            if value is None:
                value = self.session.value_of(key, "" if name == SCAN else name)
            values[_plain(name)] = value
        return values


def _state(marked: bool) -> Any:
    return Qt.CheckState.Checked if marked else Qt.CheckState.Unchecked


def _plain(name: str) -> str:
    """
    >>> _plain("image: real"), _plain("a/b")
    ('image real', 'a_b')
    """
    return name.replace(":", "").replace("/", "_")


def _save(path: str, value: Any, options: Any) -> None:
    from py4DSTEM.api import save

    save(path, value, options=options)
