"""The detectors of the scan: a table, the numbers of the active one, and how they are combined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.core.expression import Expression
from py4DSTEM.core.lengths import LENGTHS, UNITS, in_units
from py4DSTEM.core.outline import handles
from py4DSTEM.core.summary import Summary, summary
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.commands import (
    ActivateDetector,
    ChangeDetector,
    SetExpression,
    SetResponse,
    WeighDetector,
)
from py4DSTEM.gui.state.project import DetectorEntry, Project, Scan
from py4DSTEM.gui.views.calm import Calm
from py4DSTEM.gui.views.colors import pen_style

__all__ = ["DetectorsTab", "size_of"]

_CHECKED, _UNCHECKED = QtCore.Qt.CheckState.Checked, QtCore.Qt.CheckState.Unchecked
_EDIT = QtCore.Qt.ItemFlag.ItemIsEditable
COLUMNS = ("Name", "Shape", "Size", "Weight")
TIPS = (
    "Ticked: it counts",
    "Kind of shape; drag it on the pattern",
    "Lengths in the unit below",
    "Factor in the signed sum; it may be negative",
)
SINGLE = ("radius", "inner", "outer", "height", "width", "a", "b")
ANGLES = ("theta_rad", "start_rad", "stop_rad")
SHOWN = {"theta_rad": "θ", "start_rad": "from", "stop_rad": "to"}
WORDS = {"px": "px", "mrad": "mrad", "A^-1": "Å⁻¹", "nm^-1": "nm⁻¹"}
RESPONSES = {"sum": "sum of the counts", "com": "centre of mass"}


def size_of(shape: Any) -> str:
    """
    >>> from py4DSTEM import Annulus
    >>> size_of(Annulus(12.25, 30, units="mrad"))
    '12.25 – 30 mrad'
    """
    names = [name for name in LENGTHS.get(shape.kind, ()) if name in SINGLE]
    values = [f"{getattr(shape, name):.4g}" for name in names]
    between = " – " if "inner" in names else " × "
    return f"{between.join(values)} {WORDS[shape.units]}" if values else ""


class DetectorsTab(QtWidgets.QWidget):
    """Table, numbers, expression, response, and a line about the image."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self._session = session
        self._filling = False
        self._shown: Any = None
        self._units = "px"
        self.table = QtWidgets.QTableWidget(0, len(COLUMNS))
        self.add, self.preset = (QtWidgets.QToolButton() for _ in range(2))
        self.units = QtWidgets.QComboBox()
        self.numbers = QtWidgets.QFormLayout()
        self.fields: dict[str, QtWidgets.QDoubleSpinBox] = {}
        self.expression = QtWidgets.QLineEdit()
        self.problem = QtWidgets.QLabel()
        self.response = QtWidgets.QComboBox()
        self.stats = QtWidgets.QLabel()
        self._calmly = Calm(self.refresh, 100, self)
        self._lane = Lane(lambda data: summary(data), "summary", self)
        self._lane.answered.connect(self._summed)
        self._sum_up = Calm(self._lane.ask, 100, self)
        self._lay_out()
        self._connect()
        self.refresh(session.project)

    def _lay_out(self) -> None:
        self._prepare_table()
        for button, text, tip in (
            (self.add, "+ shape", "Draw another detector"),
            (self.preset, "preset", "One of the usual detectors, in place of those here"),
        ):
            button.setText(text)
            button.setToolTip(tip)
            button.setPopupMode(QtWidgets.QToolButton.ToolButtonPopupMode.InstantPopup)
        for unit in UNITS:
            self.units.addItem(WORDS[unit], unit)
        self.units.setToolTip("Unit of the lengths; physical ones need a pixel size")
        for value, text in RESPONSES.items():
            self.response.addItem(text, value)
        self.response.setToolTip("What is made of the detectors at every scan position")
        self.expression.setPlaceholderText("weighted sum; or (A - B) / (A + B)")
        self.expression.setToolTip("Images combined by name: + - * / ** ( ) abs sqrt log min max")
        narrow = QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.response.setSizeAdjustPolicy(narrow)
        self.problem.setProperty("error", True)
        self.problem.setWordWrap(True)
        self.problem.hide()
        self.stats.setToolTip("Least, mean and largest value, spread, and values that are missing")
        self.stats.setWordWrap(True)
        row = QtWidgets.QHBoxLayout()
        for widget in (self.add, self.preset):
            row.addWidget(widget)
        row.addStretch(1)
        row.addWidget(QtWidgets.QLabel("units"))
        row.addWidget(self.units)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.addWidget(self.table, 1)
        column.addLayout(row)
        column.addLayout(self.numbers)
        rest = QtWidgets.QFormLayout()
        rest.addRow("image", self.expression)
        rest.addRow(self.problem)
        rest.addRow("response", self.response)
        rest.addRow("values", self.stats)
        column.addLayout(rest)

    def _prepare_table(self) -> None:
        table, header = self.table, self.table.horizontalHeader()
        table.setHorizontalHeaderLabels(COLUMNS)
        for column, tip in enumerate(TIPS):
            table.horizontalHeaderItem(column).setToolTip(tip)
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(22)
        table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.SingleSelection)
        table.setMinimumHeight(90)
        header.setSectionResizeMode(QtWidgets.QHeaderView.ResizeMode.ResizeToContents)
        header.setStretchLastSection(True)

    def _connect(self) -> None:
        self._session.changed.connect(self._follow)
        self._session.opened.connect(lambda _: self.refresh(self._session.project))
        self.table.itemChanged.connect(self._edited)
        self.table.currentCellChanged.connect(lambda row, *_: self._activated(row))
        self.units.activated.connect(lambda _: self._set_units())
        self.expression.textEdited.connect(self._check)
        self.expression.editingFinished.connect(self._set_expression)
        self.response.activated.connect(lambda _: self._set_response())

    # ---- what it shows ---------------------------------------------------------------------------
    def set_menus(self, shapes: QtWidgets.QMenu, presets: QtWidgets.QMenu) -> None:
        """What the two buttons offer."""
        self.add.setMenu(shapes)
        self.preset.setMenu(presets)

    def _scan(self) -> Scan | None:
        scan = self._session.project.scan
        return scan if scan is not None and self._session.data(scan.key) is not None else None

    def _follow(self, before: Project, after: Project) -> None:
        """At once, but for the moves of a drag, whose numbers nobody could read."""
        if getattr(self._session.history.last, "settled", True):
            self.refresh(after)
        else:
            self._calmly(after)

    def refresh(self, project: Project) -> None:
        """Draw what has changed."""
        scan = self._scan()
        names = ("key", "detectors", "active", "expression", "response", "layers")
        now = None if scan is None else [getattr(scan, name) for name in names]
        if now is not None and self._shown is not None and all(map(_is, now, self._shown)):
            return
        self._shown, self._filling = now, True
        self.setEnabled(scan is not None)
        self._fill_table(scan)
        self._fill_numbers(scan)
        if scan is not None and not self.expression.hasFocus():
            self.expression.setText(scan.expression)
            self._complain("")
        if scan is not None:
            self.response.setCurrentIndex(self.response.findData(scan.response))
        self._filling = False

    def _fill_table(self, scan: Scan | None) -> None:
        entries, active = ((), "") if scan is None else (scan.detectors, scan.active)
        self.table.setRowCount(len(entries))
        for row, entry in enumerate(entries):
            texts = (entry.name, entry.shape.kind, size_of(entry.shape), f"{entry.weight:g}")
            for column, text in enumerate(texts):
                self._put(row, column, text)
            name = self.table.item(row, 0)
            name.setCheckState(_CHECKED if entry.shown else _UNCHECKED)
            name.setForeground(_color(row))
            if entry.name == active and self.table.currentRow() != row:
                self.table.setCurrentCell(row, 0)

    def _put(self, row: int, column: int, text: str) -> None:
        item = self.table.item(row, column)
        if item is None:
            item = QtWidgets.QTableWidgetItem()
            item.setToolTip(TIPS[column])
            if COLUMNS[column] != "Weight":
                item.setFlags(item.flags() & ~_EDIT)
            self.table.setItem(row, column, item)
        if item.text() != text:
            item.setText(text)

    def _active(self) -> DetectorEntry | None:
        scan = self._scan()
        return next((e for e in scan.detectors if e.name == scan.active), None) if scan else None

    def _fill_numbers(self, scan: Scan | None) -> None:
        entry = self._active()
        shape = None if entry is None else entry.shape
        values = {} if shape is None or scan is None else self._values(shape, scan)
        if list(values) != list(self.fields):
            while self.numbers.rowCount():
                self.numbers.removeRow(0)
            self.fields = {name: self._field(name) for name in values}
        unit = "" if shape is None else WORDS[shape.units]
        for name, value in values.items():
            field = self.fields[name]
            field.setSuffix(" px" if name in "xy" else " rad" if name in ANGLES else f" {unit}")
            if not field.hasFocus():
                field.setValue(value)
        if shape is not None:
            self.units.setCurrentIndex(self.units.findData(shape.units))

    def _values(self, shape: Any, scan: Scan) -> dict[str, float]:
        """The numbers of a shape by name: place, lengths, directions."""
        values: dict[str, float] = {}
        try:
            place = handles(shape, self._session.calibration(scan.key)).get("center")
        except Py4DSTEMError:  # its pixel size has been switched off
            place = shape.center
        if place is not None:
            values["x"], values["y"] = place
        names = [n for n in (*LENGTHS.get(shape.kind, ()), *ANGLES) if n in (*SINGLE, *ANGLES)]
        return values | {name: getattr(shape, name) for name in names if hasattr(shape, name)}

    def _field(self, name: str) -> QtWidgets.QDoubleSpinBox:
        field = QtWidgets.QDoubleSpinBox()
        field.setDecimals(3)
        field.setRange(-1e6 if name in (*"xy", *ANGLES) else 0.0, 1e6)
        field.setSingleStep(0.01 if name in ANGLES else 0.5)
        field.setKeyboardTracking(False)
        field.setMinimumWidth(70)
        field.setToolTip(f"{SHOWN.get(name, name)} of the active detector")
        field.valueChanged.connect(lambda value: self._changed(name, value))
        self.numbers.addRow(SHOWN.get(name, name), field)
        return field

    # ---- what is done ----------------------------------------------------------------------------
    def _changed(self, name: str, value: float) -> None:
        entry, scan = self._active(), self._scan()
        if self._filling or entry is None or scan is None:
            return
        if name in "xy":
            place = {k: self.fields[k].value() for k in "xy"} | {name: value}
            changes: dict[str, Any] = {"center": (place["x"], place["y"])}
        else:
            changes = {name: value}
        try:
            shape: Any = replace(entry.shape, **changes)
        except Py4DSTEMError as error:
            self._session.said.emit(str(error))
            self._again()
            return
        self._session.do(ChangeDetector(key=scan.key, name=entry.name, shape=shape))

    def _again(self) -> None:
        """Show what the project says, whatever was typed."""
        self._shown = None
        for field in self.fields.values():
            field.clearFocus()
        self.refresh(self._session.project)

    def _set_units(self) -> None:
        entry, scan = self._active(), self._scan()
        if entry is None or scan is None:
            return
        try:
            shape = in_units(
                entry.shape, self.units.currentData(), self._session.calibration(scan.key)
            )
        except Py4DSTEMError as error:
            self._session.troubled.emit(f"measure in {self.units.currentText()}", error)
            self._again()
            return
        if shape != entry.shape:
            self._session.do(ChangeDetector(key=scan.key, name=entry.name, shape=shape))

    def _edited(self, item: QtWidgets.QTableWidgetItem) -> None:
        scan = self._scan()
        if self._filling or scan is None or item.row() >= len(scan.detectors):
            return
        entry = scan.detectors[item.row()]
        weight, shown = entry.weight, entry.shown
        if COLUMNS[item.column()] == "Weight":
            try:
                weight = float(item.text().replace(",", "."))
            except ValueError:
                self._session.said.emit(f"a weight is a number, not {item.text()!r}")
                self._again()
                return
        elif item.column() == 0:
            shown = item.checkState() == _CHECKED
        command = {"key": scan.key, "name": entry.name, "weight": weight, "shown": shown}
        try:
            self._session.do(WeighDetector(**command))
        except Py4DSTEMError as error:  # infinite, or not a number
            self._session.said.emit(str(error))
            self._again()

    def _activated(self, row: int) -> None:
        scan = self._scan()
        if self._filling or scan is None or not 0 <= row < len(scan.detectors):
            return
        self._session.do(ActivateDetector(key=scan.key, name=scan.detectors[row].name))

    def _check(self, text: str) -> bool:
        """Say what is wrong with an expression while it is being typed."""
        scan = self._scan()
        try:
            names = set(Expression(text).names) if text.strip() else set()
        except Py4DSTEMError as error:
            self._complain(str(error))
            return False
        known = {entry.name for entry in scan.detectors} if scan is not None else set()
        unknown = ", ".join(sorted(names - known))
        self._complain(f"no detector {unknown}" if unknown else "")
        return not unknown

    def _complain(self, text: str) -> None:
        self.problem.setText(text)
        self.problem.setVisible(bool(text))

    def _set_expression(self) -> None:
        scan, text = self._scan(), self.expression.text().strip()
        if scan is not None and text != scan.expression and self._check(text):
            self._session.do(SetExpression(key=scan.key, expression=text))

    def _set_response(self) -> None:
        scan = self._scan()
        if scan is not None and self.response.currentData() != scan.response:
            self._session.do(SetResponse(key=scan.key, response=self.response.currentData()))

    # ---- the image -------------------------------------------------------------------------------
    def show_image(self, shown: Any) -> None:
        """Sum up the live image, beside the GUI thread."""
        if self.isVisible():
            self._sum_up(shown.data)

    def _summed(self, answer: Answer) -> None:
        found = answer.value
        if isinstance(found, Summary):
            missing = f" · {found.missing} missing" if found.missing else ""
            self.stats.setText(
                f"{found.low:.4g} … {found.mean:.4g} … {found.high:.4g} · σ {found.deviation:.3g}"
                + missing
            )

    def stop(self) -> None:
        """End the thread."""
        self._lane.stop()
        self._lane.wait()


def _is(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, str) and a == b)


def _color(order: int) -> Any:
    from pyqtgraph.Qt import QtGui

    return QtGui.QBrush(QtGui.QColor(pen_style(order)[0]))
