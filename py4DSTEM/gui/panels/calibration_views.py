"""The pieces of the calibration wizard: layers with ticks, charts, and values that are typed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.errors import ParameterError, Py4DSTEMError
from py4DSTEM.gui.panels.parts import Note, button
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.commands import AddLayer, RemoveLayer, SwitchLayer
from py4DSTEM.gui.state.project import Layer, Project
from py4DSTEM.plot.residuals import Chart, Curve
from py4DSTEM.units import camera_pixel_mrad

__all__ = ["ChartView", "LayerList", "TypedPage"]


class LayerList(QtWidgets.QWidget):
    """The calibrations of the scan: each can be switched off and on, or removed."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self.session = session
        self.list = QtWidgets.QListWidget()
        self.list.setMaximumHeight(84)
        self.list.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(QtCore.Qt.TextElideMode.ElideRight)
        self.list.setToolTip(
            "Calibrations on top of the file, in the order in which they were added.\n"
            "Untick to switch one off; nothing is lost and the data stay as they are."
        )
        self.list.itemChanged.connect(self._ticked)
        self.remove_button = button("Remove", "Forget the chosen calibration.", self.remove)
        self.raw_button = QtWidgets.QPushButton("Show raw")
        self.raw_button.setCheckable(True)
        self.raw_button.setToolTip(
            "Before and after: show the images without the calibrations (also: hold Space)."
        )
        self.raw_button.toggled.connect(lambda raw: setattr(session, "raw", raw))
        session.rawChanged.connect(self.raw_button.setChecked)
        side = QtWidgets.QVBoxLayout()
        side.addWidget(self.raw_button)
        side.addWidget(self.remove_button)
        side.addStretch(1)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.list, 1)
        layout.addLayout(side)
        session.changed.connect(self._changed)
        self.raw_button.setChecked(session.raw)
        self.refresh()

    def _changed(self, before: Project, after: Project) -> None:
        old, new = before.scan, after.scan
        if old is None or new is None or (old.key, old.layers) != (new.key, new.layers):
            self.refresh()

    def refresh(self) -> None:
        """Show the calibrations of the scan that is shown."""
        scan, row = self.session.project.scan, self.list.currentRow()
        blocked = self.list.blockSignals(True)
        self.list.clear()
        for layer in () if scan is None else scan.layers:
            item = QtWidgets.QListWidgetItem(f"{layer.name}: {_summary(layer)}")
            item.setData(QtCore.Qt.ItemDataRole.UserRole, layer.name)
            on = QtCore.Qt.CheckState.Checked if layer.enabled else QtCore.Qt.CheckState.Unchecked
            item.setCheckState(on)
            item.setToolTip(_summary(layer))
            self.list.addItem(item)
        self.list.setCurrentRow(min(row, self.list.count() - 1))
        self.list.blockSignals(blocked)
        self.remove_button.setEnabled(self.list.count() > 0)

    def _ticked(self, item: QtWidgets.QListWidgetItem) -> None:
        self.session.do(
            SwitchLayer(
                key=self.session.project.current,
                name=item.data(QtCore.Qt.ItemDataRole.UserRole),
                enabled=item.checkState() == QtCore.Qt.CheckState.Checked,
            )
        )

    def remove(self) -> None:
        """Forget the chosen calibration."""
        item = self.list.currentItem()
        if item is not None:
            name = item.data(QtCore.Qt.ItemDataRole.UserRole)
            self.session.do(RemoveLayer(key=self.session.project.current, name=name))


def _summary(layer: Layer) -> str:
    """A few words on what a calibration says."""
    if layer.value is not None:
        return repr(layer.value).strip("<>").partition(" ")[2]
    return ", ".join(f"{name} {_plain(value)}" for name, value in layer.changes.items())


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return (
        "(" + ", ".join(map(_plain, value)) + ")" if isinstance(value, list | tuple) else str(value)
    )


# ---- charts --------------------------------------------------------------------------------------
class ChartView(pg.PlotWidget):
    """Draws a `Chart`."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent, background=None)
        self.chart: Chart | None = None
        self.setMenuEnabled(False)
        self.setMinimumHeight(150)
        for side in ("left", "bottom"):
            self.getAxis(side).enableAutoSIPrefix(False)
        self.addLegend(offset=(-8, 8), labelTextSize="8pt")

    def show_chart(self, chart: Chart | None) -> None:
        """Draw it; None: hide."""
        self.chart = chart
        self.clear()
        self.setVisible(chart is not None)
        if chart is None:
            return
        self.setLabel("bottom", chart.x_label)
        self.setLabel("left", chart.y_label)
        for curve in chart.curves:
            self._draw(curve)
        for x, name in chart.places:
            pen = pg.mkPen("#888888", width=1, style=QtCore.Qt.PenStyle.DotLine)
            label = name or None
            options = {"position": 0.93, "color": "#888888", "rotateAxis": (1, 0)}
            self.addItem(pg.InfiniteLine(x, pen=pen, label=label, labelOpts=options))
        self.getPlotItem().autoRange(padding=0.05)
        if chart.y_range is not None:
            self.setYRange(*chart.y_range, padding=0.0)

    def _draw(self, curve: Curve) -> None:
        known = np.isfinite(curve.x) & np.isfinite(curve.y)
        x, y = curve.x[known], curve.y[known]
        if curve.sigma is None:
            styles = QtCore.Qt.PenStyle
            style = styles.DashLine if curve.dashed else styles.SolidLine
            self.plot(x, y, name=curve.name, pen=pg.mkPen(curve.color, width=1.8, style=style))
            return
        sigma = curve.sigma[known]
        resolved = np.isfinite(sigma)
        bars = pg.ErrorBarItem(
            x=x[resolved], y=y[resolved], height=2 * sigma[resolved], pen=pg.mkPen(curve.color)
        )
        # A ring that is not resolved has a bar that would hide the others.
        self.addItem(bars, ignoreBounds=True)
        self.plot(x, y, pen=None, symbol="o", symbolSize=7, symbolBrush=curve.color,
                  symbolPen=None, name=curve.name)  # fmt: skip
        self.addLine(y=0, pen=pg.mkPen("#888888", width=1))


# ---- typed values --------------------------------------------------------------------------------
_NUMBERS = {
    "R_pixel_size": ("scan step", "Distance between scan positions."),
    "Q_pixel_size": ("detector pixel", "What one detector pixel spans in diffraction space."),
    "pixel_um": ("pixel pitch (µm)", "Size of a detector pixel; with the camera length, instead of "
                 "the detector pixel in units of diffraction space."),
    "camera_length_mm": ("camera length (mm)", "Effective distance from specimen to detector."),
    "energy_keV": ("beam energy (keV)", "Acceleration voltage times the charge of the electron."),
    "semiangle_mrad": ("convergence (mrad)", "Semi-angle of the probe."),
    "rotation_deg": ("rotation (°)", "From detector to scan axes, x (down) towards y (right)."),
}  # fmt: skip
_UNITS = {"R_pixel_size": ("A", "nm", "pm", "um"), "Q_pixel_size": ("A^-1", "nm^-1", "mrad")}


class TypedPage(QtWidgets.QWidget):
    """Values that are known: what is left empty stays as it is."""

    accepted = QtCore.Signal()

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self.session = session
        self.fields: dict[str, QtWidgets.QLineEdit] = {}
        self.units: dict[str, QtWidgets.QComboBox] = {}
        form = QtWidgets.QFormLayout()
        for name, (label, tip) in _NUMBERS.items():
            form.addRow(label, self._row(name, tip))
        self.flip_box = QtWidgets.QComboBox()
        self.flip_box.addItems(["as it is", "no", "yes"])
        self.flip_box.setToolTip("Whether x and y of the detector are exchanged.")
        form.addRow("x and y exchanged", self.flip_box)
        self.note = Note(error=True)
        self.apply_button = button("Apply", "Add these values as a calibration.", self.apply)
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(QtWidgets.QLabel("What is left empty stays as it is."))
        layout.addLayout(form)
        layout.addWidget(self.note)
        layout.addWidget(self.apply_button)
        layout.addStretch(1)

    def _row(self, name: str, tip: str) -> QtWidgets.QWidget:
        field, row = QtWidgets.QLineEdit(), QtWidgets.QWidget()
        field.setValidator(_Numbers(field))
        field.setToolTip(tip)
        field.returnPressed.connect(self.apply)
        self.fields[name] = field
        layout = QtWidgets.QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(field, 1)
        if name in _UNITS:
            box = QtWidgets.QComboBox()
            box.addItems(_UNITS[name])
            box.setToolTip("Unit of the number.")
            self.units[name] = box
            layout.addWidget(box)
        return row

    def changes(self) -> dict[str, Any]:
        """What was typed, as arguments of `Calibration.replace`; raises `ParameterError`."""
        texts = {name: field.text().strip() for name, field in self.fields.items()}
        typed = {name: _number(name, text) for name, text in texts.items() if text}
        made: dict[str, Any] = {}
        for name in ("R_pixel_size", "Q_pixel_size"):
            if name in typed:
                made[name] = typed[name]
                made[name.replace("size", "units")] = self.units[name].currentText()
        if "pixel_um" in typed and "camera_length_mm" in typed:
            made["Q_pixel_size"] = camera_pixel_mrad(typed["pixel_um"], typed["camera_length_mm"])
            made["Q_pixel_units"] = "mrad"
        if "energy_keV" in typed:
            made["energy_eV"] = 1e3 * typed["energy_keV"]
        if "semiangle_mrad" in typed:
            made["semiangle_mrad"] = typed["semiangle_mrad"]
        if "rotation_deg" in typed:
            made["rotation_rad"] = math.radians(typed["rotation_deg"])
        if self.flip_box.currentIndex():
            made["flip"] = self.flip_box.currentText() == "yes"
        return made

    def apply(self) -> None:
        """Add what was typed as a calibration, in place of what was typed before."""
        scan = self.session.project.scan
        data = None if scan is None else self.session.data(scan.key)
        if scan is None or data is None:
            return
        try:
            changes = self._with_earlier(scan.layers)
            data.cube.calibration.replace(**changes)
        except Py4DSTEMError as error:
            self.note.say(str(error))
            return
        alone = {"pixel_um", "camera_length_mm"} & {n for n, f in self.fields.items() if f.text()}
        if len(alone) == 1:
            self.note.say("The pixel pitch and the camera length are only useful together.")
            return
        if not changes:
            self.note.say("Nothing is typed.")
            return
        self.note.say("")
        if self.session.do(AddLayer(key=scan.key, layer=Layer(name="typed", changes=changes))):
            self.accepted.emit()

    def _with_earlier(self, layers: tuple[Layer, ...]) -> dict[str, Any]:
        earlier = next((layer.changes for layer in layers if layer.name == "typed"), {})
        changes = self.changes()
        return {**earlier, **changes} if changes else {}


def _number(name: str, text: str) -> float:
    """A number that was typed or, unlike what is typed, pasted or set without being looked at."""
    try:
        return float(text)
    except ValueError:
        raise ParameterError(f"{name} is a number, not {text!r}") from None


class _Numbers(QtGui.QDoubleValidator):
    """Numbers with a point, whatever the country."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        self.setLocale(QtCore.QLocale.c())
