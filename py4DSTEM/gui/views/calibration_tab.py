"""What is known of the coordinates: layers that can be switched, and values typed by hand."""

from __future__ import annotations

import math
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.commands import AddLayer, RemoveLayer, SwitchLayer
from py4DSTEM.gui.state.project import Layer, Project, Scan

__all__ = ["BY_HAND", "CalibrationTab"]

BY_HAND = "by hand"
_CHECKED, _UNCHECKED = QtCore.Qt.CheckState.Checked, QtCore.Qt.CheckState.Unchecked
R_UNITS, Q_UNITS = ("A", "nm", "pm", "um"), ("mrad", "A^-1", "nm^-1")
WORDS = {"A": "Å", "um": "µm", "A^-1": "Å⁻¹", "nm^-1": "nm⁻¹"}


class CalibrationTab(QtWidgets.QWidget):
    """Layers with switches, and a form for what one knows without measuring."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self._session = session
        self._filling = False
        self._shown: Any = None
        self.layers = QtWidgets.QListWidget()
        self.known = QtWidgets.QLabel()
        self.remove = QtWidgets.QPushButton("Remove")
        self.fields = {name: _number(tip) for name, tip in FIELDS.items()}
        self.units = {"R": _units(R_UNITS), "Q": _units(Q_UNITS)}
        self.apply = QtWidgets.QPushButton("Apply")
        self.problem = QtWidgets.QLabel()
        self._lay_out()
        self.layers.itemChanged.connect(self._switched)
        self.remove.clicked.connect(lambda _: self._remove())
        self.apply.clicked.connect(lambda _: self._apply())
        session.changed.connect(lambda _, after: self.refresh(after))
        session.opened.connect(lambda _: self.refresh(session.project))
        self.refresh(session.project)

    def _lay_out(self) -> None:
        self.layers.setToolTip("Ticked: applied, from top to bottom; nothing is lost by unticking")
        self.layers.setMaximumHeight(130)
        self.remove.setToolTip("Forget the chosen calibration (undo brings it back)")
        self.known.setWordWrap(True)
        self.known.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        self.apply.setToolTip("Use these values; fields that are empty change nothing")
        self.problem.setProperty("error", True)
        self.problem.setWordWrap(True)
        self.problem.hide()
        form = QtWidgets.QFormLayout()
        for name, (label, unit) in LABELS.items():
            row = QtWidgets.QHBoxLayout()
            row.addWidget(self.fields[name], 1)
            row.addWidget(self.units[unit] if unit in self.units else QtWidgets.QLabel(unit))
            form.addRow(label, row)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        for text, widget in (("Layers", self.layers), ("", self.remove), ("Now", self.known)):
            if text:
                column.addWidget(QtWidgets.QLabel(text))
            column.addWidget(widget)
        column.addWidget(QtWidgets.QLabel("By hand"))
        column.addLayout(form)
        column.addWidget(self.problem)
        column.addWidget(self.apply)
        column.addStretch(1)

    # ---- what it shows ---------------------------------------------------------------------------
    def _scan(self) -> Scan | None:
        scan = self._session.project.scan
        return scan if scan is not None and self._session.data(scan.key) is not None else None

    def refresh(self, project: Project) -> None:
        """Draw what has changed."""
        scan = self._scan()
        now = None if scan is None else (scan.key, scan.layers)
        if now is not None and self._shown is not None and (
            now[0] == self._shown[0] and now[1] is self._shown[1]
        ):  # fmt: skip
            return
        self._shown, self._filling = now, True
        self.setEnabled(scan is not None)
        self.layers.clear()
        for layer in () if scan is None else scan.layers:
            item = QtWidgets.QListWidgetItem(layer.name)
            item.setFlags(item.flags() | QtCore.Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(_CHECKED if layer.enabled else _UNCHECKED)
            item.setToolTip(_origin_of(layer))
            self.layers.addItem(item)
        if scan is not None:
            self._show_known(self._session.calibration(scan.key))
        else:
            self.known.clear()
        self._filling = False

    def _show_known(self, calibration: Calibration) -> None:
        from py4DSTEM.core.html import calibration_state

        state = calibration_state(calibration)
        self.known.setText("\n".join(f"{k}: {v or 'not known'}" for k, v in state.items()))
        for axis, units in ((calibration.R[0], "R"), (calibration.Q[0], "Q")):
            found = self.units[units].findData(axis.unit)
            if found >= 0:
                self.units[units].setCurrentIndex(found)
        for name, value in _values(calibration).items():
            self.fields[name].setPlaceholderText("" if value is None else f"{value:.6g}")

    # ---- what is done ----------------------------------------------------------------------------
    def _switched(self, item: QtWidgets.QListWidgetItem) -> None:
        scan = self._scan()
        if not self._filling and scan is not None:
            enabled = item.checkState() == _CHECKED
            self._session.do(SwitchLayer(key=scan.key, name=item.text(), enabled=enabled))

    def _remove(self) -> None:
        scan, item = self._scan(), self.layers.currentItem()
        if scan is not None and item is not None:
            self._session.do(RemoveLayer(key=scan.key, name=item.text()))

    def typed(self) -> dict[str, Any]:
        """What was typed, as changes of a calibration; `ValueError` where it is no number."""
        values = {n: float(f.text().replace(",", ".")) for n, f in self.fields.items() if f.text()}
        changes: dict[str, Any] = dict(values)
        for name, unit in (("R_pixel_size", "R"), ("Q_pixel_size", "Q")):
            if name in values:
                changes[name.replace("size", "units")] = self.units[unit].currentData()
        if "energy_kV" in values:
            changes["energy_eV"] = 1000 * changes.pop("energy_kV")
        if "rotation_deg" in values:
            changes["rotation_rad"] = math.radians(changes.pop("rotation_deg"))
        return changes

    def _apply(self) -> None:
        scan = self._scan()
        if scan is None:
            return
        try:
            changes = self.typed()
            before = {} if not _has(scan, BY_HAND) else dict(scan.layer(BY_HAND).changes)
            layer = Layer(name=BY_HAND, changes=before | changes)
            scan.replace(layers=(layer,)).calibrated(self._session.cube(scan.key).calibration)  # type: ignore[union-attr]
        except (Py4DSTEMError, ValueError) as error:
            self.problem.setText(str(error))
            self.problem.show()
            return
        self.problem.hide()
        if changes and self._session.do(AddLayer(key=scan.key, layer=layer)):
            for field in self.fields.values():
                field.clear()


FIELDS = {
    "R_pixel_size": "Distance between two scan positions",
    "Q_pixel_size": "Size of a detector pixel in reciprocal space",
    "energy_kV": "Beam energy",
    "semiangle_mrad": "Convergence semi-angle",
    "rotation_deg": "Rotation from detector to scan axes",
}
LABELS = {
    "R_pixel_size": ("scan step", "R"),
    "Q_pixel_size": ("detector pixel", "Q"),
    "energy_kV": ("energy", "kV"),
    "semiangle_mrad": ("semi-angle", "mrad"),
    "rotation_deg": ("rotation", "°"),
}


def _values(calibration: Calibration) -> dict[str, float | None]:
    """What the fields stand for, as it is now; None where it is not known."""
    energy, rotation = calibration.energy_eV, calibration.rotation_rad
    return {
        "R_pixel_size": calibration.R[0].step if calibration.R[0].calibrated else None,
        "Q_pixel_size": calibration.Q[0].step if calibration.Q[0].calibrated else None,
        "energy_kV": None if energy is None else energy / 1000,
        "semiangle_mrad": calibration.semiangle_mrad,
        "rotation_deg": None if rotation is None else math.degrees(rotation),
    }


def _has(scan: Scan, name: str) -> bool:
    return any(layer.name == name for layer in scan.layers)


def _origin_of(layer: Layer) -> str:
    if layer.made is not None:
        return f"measured by {layer.made.kind}"
    given = ", ".join(f"{name} = {value}" for name, value in layer.changes.items())
    return given or type(layer.value).__name__


def _number(tip: str) -> QtWidgets.QLineEdit:
    field = QtWidgets.QLineEdit()
    field.setToolTip(f"{tip}; grey: the value in use")
    return field


def _units(names: tuple[str, ...]) -> QtWidgets.QComboBox:
    box = QtWidgets.QComboBox()
    for name in names:
        box.addItem(WORDS.get(name, name), name)
    box.setToolTip("Unit")
    return box
