"""Controls of the panel of the Bragg disks: sliders beside numbers, and where the probe is from."""

from __future__ import annotations

from functools import partial
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.gui.panels.bragg_work import ProbeWish
from py4DSTEM.gui.panels.form_editors import AutoEditor, Editor, editor_of
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.forms import FormField
from py4DSTEM.process.bragg.spot import Spot
from py4DSTEM.process.probe import Probe

__all__ = ["RANGES", "ProbePicker", "SliderEditor", "sliders"]

Qt = QtCore.Qt
_TICKS = 1000


class SliderEditor(Editor):
    """A number with its tick for "automatic", and a slider for the range that matters.

    Parameters
    ----------
    field : FormField
    session : Session
    reach : (float, float)
        Ends of the slider; numbers beyond may be typed.
    power : float
        Above one: finer steps near the lower end.
    """

    def __init__(
        self, field: FormField, session: Session, reach: tuple[float, float], power: float = 1.0
    ) -> None:
        super().__init__(field, session)
        self.inner = editor_of(field, session)
        self.number: Any = self.inner.inner if isinstance(self.inner, AutoEditor) else self.inner
        self.slider = QtWidgets.QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _TICKS)
        self.slider.setSingleStep(5)
        self.slider.setPageStep(50)
        self.slider.setMinimumWidth(40)
        self._reach, self._power = reach, power
        self.add(self.slider)
        self.row.addWidget(self.inner)
        self.slider.valueChanged.connect(self._slid)
        self.inner.edited.connect(self._typed)

    def set_reach(self, low: float, high: float) -> None:
        """Move the ends of the slider."""
        self._reach = (low, high)
        self._follow()

    def _slid(self, tick: int) -> None:
        low, high = self._reach
        wanted = low + (high - low) * (tick / _TICKS) ** self._power
        value = round(wanted) if self.field.kind == "whole" else float(f"{wanted:.3g}")
        self.inner.set_value(value)
        self.edited.emit()

    def _typed(self) -> None:
        self._follow()
        self.edited.emit()

    def _follow(self) -> None:
        """Put the slider where the number is."""
        value = self.number.value()
        if value is None:
            return
        low, high = self._reach
        part = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.0
        self.slider.blockSignals(True)
        self.slider.setValue(round(_TICKS * part ** (1 / self._power)))
        self.slider.blockSignals(False)

    def value(self) -> Any:
        return self.inner.value()

    def set_value(self, value: Any) -> None:
        self.inner.set_value(value)
        self._follow()

    def show_chosen(self, value: float) -> None:
        """Show what the library has chosen, where that is left to it."""
        if isinstance(self.inner, AutoEditor) and self.inner.tick.isChecked():
            self.number.set_value(float(f"{value:.3g}"))
            self._follow()


class ProbePicker(QtWidgets.QWidget):
    """Where the probe comes from: measured, given, made from numbers; or spots instead of disks."""

    edited = QtCore.Signal()
    measureWanted = QtCore.Signal(str)
    """Measure a probe: "" in the selected positions, or in the scan of a key, or "file"."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.items: list[tuple[str, str, Any]] = []
        self.box = QtWidgets.QComboBox()
        self.box.setToolTip("Where the template of the disks comes from.")
        self.box.activated.connect(self._picked)
        self.radius = _spin(5.0, 0.3, "Radius of the disk at half of its height.")
        self.edge = _spin(0.5, 0.05, "Standard deviation of the blur of its edge.")
        self.sigma = _spin(1.0, 0.1, "Standard deviation of a spot, before the pixels.")
        self.auto = QtWidgets.QCheckBox("auto")
        self.auto.setChecked(True)
        self.auto.setToolTip("Measure the width of the spots in sampled patterns.")
        self.auto.clicked.connect(self._picked_again)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.box, 1)
        for spin in (self.radius, self.edge, self.sigma):
            spin.valueChanged.connect(lambda *_: self.edited.emit())
            row.addWidget(spin)
        row.addWidget(self.auto)
        self.refresh()

    def refresh(self, *_: Any) -> None:
        """List what there is now."""
        wanted = self.box.currentText()
        self.items = list(self._offers())
        names = [name for name, _, _ in self.items]
        if names != [self.box.itemText(k) for k in range(self.box.count())]:
            self.box.clear()
            self.box.addItems(names)
            self.box.setCurrentIndex(max(self.box.findText(wanted), 0))
        self._show()

    def _offers(self) -> Any:
        project = self.session.project
        yield "automatic: measured in this scan", "auto", None
        for scan in project.scans:
            here = scan.key == project.current
            for result in scan.results:
                if isinstance(result.value, Probe | Spot):
                    name = result.name if here else f"{result.name} of {scan.name}"
                    yield name, "value", result.value
        yield "synthetic disk", "synthetic", None
        yield "spots (nearly parallel beam)", "spots", None
        yield "measure in the selected positions …", "measure", ""
        for scan in project.scans:
            if scan.key != project.current:
                yield f"measure in the vacuum scan {scan.name} …", "measure", scan.key
        yield "from a file …", "measure", "file"

    def choose(self, name: str) -> None:
        """Choose by what the list says."""
        self.refresh()
        index = next((k for k, item in enumerate(self.items) if item[0] == name), 0)
        self.box.setCurrentIndex(index)
        self._picked()

    def choose_kind(self, kind: str) -> None:
        """Choose by what it is: "auto", "synthetic", "spots"."""
        self.choose(next(name for name, known, _ in self.items if known == kind))

    def _picked(self, *_: Any) -> None:
        _, kind, what = self.items[max(self.box.currentIndex(), 0)]
        if kind == "measure":
            self.box.setCurrentIndex(0)
            self._show()
            self.measureWanted.emit(what)
            return
        self._show()
        self.edited.emit()

    def _picked_again(self, *_: Any) -> None:
        self._show()
        self.edited.emit()

    def _show(self) -> None:
        kind = self.kind
        self.radius.setVisible(kind == "synthetic")
        self.edge.setVisible(kind == "synthetic")
        self.sigma.setVisible(kind == "spots")
        self.sigma.setEnabled(not self.auto.isChecked())
        self.auto.setVisible(kind == "spots")

    @property
    def kind(self) -> str:
        """What is chosen."""
        return str(self.items[max(self.box.currentIndex(), 0)][1])

    def wish(self) -> ProbeWish:
        """What is chosen, for the thread that makes it."""
        _, kind, value = self.items[max(self.box.currentIndex(), 0)]
        if kind == "synthetic":
            return ProbeWish("synthetic", None, self.radius.value(), self.edge.value())
        if kind == "spots":
            return ProbeWish("spots", None, None if self.auto.isChecked() else self.sigma.value())
        return ProbeWish("value", value) if kind == "value" else ProbeWish()


def _spin(value: float, low: float, tip: str) -> QtWidgets.QDoubleSpinBox:
    spin = QtWidgets.QDoubleSpinBox()
    spin.setRange(low, 4096.0)
    spin.setDecimals(2)
    spin.setSingleStep(0.1)
    spin.setValue(value)
    spin.setSuffix(" px")
    spin.setToolTip(f"{tip} [px]")
    spin.setKeyboardTracking(False)
    return spin


RANGES: dict[str, tuple[tuple[float, float], float]] = {
    "corr_power": ((0.0, 1.0), 1.0),
    "sigma_cc_px": ((0.0, 5.0), 1.0),
    "min_significance": ((0.0, 100.0), 2.0),
    "min_relative_intensity": ((0.0, 1.0), 3.0),
    "min_spacing_px": ((0.0, 64.0), 1.5),
    "edge_px": ((0.0, 32.0), 1.0),
    "max_peaks": ((1.0, 300.0), 1.5),
}
"""Parameters with sliders: the ends, and by which power the steps grow."""


def sliders(fields: Any, session: Session) -> dict[str, SliderEditor]:
    """The sliders of those parameters, by name."""
    known = {f.name: f for f in fields}
    make = partial(SliderEditor, session=session)
    return {n: make(known[n], reach=reach, power=power) for n, (reach, power) in RANGES.items()}
