"""Radial profile of the pattern that is shown, or values along a line on one of the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.pixels import positive
from py4DSTEM.core.readout import spacing_text
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.stage import Ruler
from py4DSTEM.plot.decorate import unit_text
from py4DSTEM.process.line_profile import line_profile
from py4DSTEM.process.radial import mean_radial_profile
from py4DSTEM.stream.options import RunOptions

__all__ = ["Curve", "ProfilePanel"]

Pair = tuple[float, float]
Mode = Literal["radial", "line on pattern", "line on scan"]
_MODES: dict[Mode, str] = {
    "radial": "I(q) around the beam",
    "line on pattern": "Line on the pattern",
    "line on scan": "Line on the scan",
}
_PANELS = {"radial": "diffraction", "line on pattern": "diffraction", "line on scan": "real"}
RULER = "profile:line"


@dataclass(frozen=True, eq=False)
class _Wish:
    """What the lane is asked for."""

    mode: Mode
    image: Any
    ends: tuple[Pair, Pair]
    center: Pair | None


@dataclass(frozen=True, eq=False)
class Curve:
    """What is drawn: values over distances."""

    distance: NDArray[np.float64]
    values: NDArray[np.float64]
    unit: str
    calibration: Calibration
    about: str


class ProfilePanel(QtWidgets.QWidget):
    """A curve under the images; made beside the GUI thread, the latest request first."""

    drawn = QtCore.Signal(object)
    """The `Curve` that is shown now."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self.session = session
        self.curve: Curve | None = None
        self._ends: dict[str, tuple[Pair, Pair]] = {}
        self._lane = Lane(_made, "profile", self)
        self._lane.answered.connect(self._answered)
        self.destroyed.connect(self._lane.stop)
        self.mode = QtWidgets.QComboBox()
        self.log = QtWidgets.QToolButton()
        self.readout = QtWidgets.QLabel()
        self.plot = pg.PlotWidget(background=None)
        self.line = pg.PlotDataItem(pen=pg.mkPen("#56B4E9", width=1.6), connect="finite")
        self.cursor = pg.InfiniteLine(angle=90, pen=pg.mkPen("#999999", width=1))
        self._lay_out()
        self._connect()
        self._ask()

    def _lay_out(self) -> None:
        for name, text in _MODES.items():
            self.mode.addItem(text, name)
        self.mode.setToolTip("Which values are drawn")
        self.log.setText("log")
        self.log.setCheckable(True)
        self.log.setChecked(True)
        self.log.setToolTip("Logarithmic intensities")
        self.readout.setToolTip("Values under the mouse")
        row = QtWidgets.QHBoxLayout()
        row.setContentsMargins(2, 0, 2, 0)
        for widget in (self.mode, self.log):
            row.addWidget(widget)
        row.addWidget(self.readout, 1)
        whole = QtWidgets.QVBoxLayout(self)
        whole.setContentsMargins(2, 2, 2, 2)
        whole.setSpacing(2)
        whole.addLayout(row)
        whole.addWidget(self.plot, 1)
        item = self.plot.getPlotItem()
        item.addItem(self.line)
        item.addItem(self.cursor, ignoreBounds=True)
        item.setMenuEnabled(False)
        item.hideButtons()
        item.showGrid(x=True, y=True, alpha=0.15)
        item.setLogMode(y=True)
        self.cursor.hide()

    def _connect(self) -> None:
        self.mode.activated.connect(lambda _: self.set_mode(self.mode.currentData()))
        self.log.toggled.connect(self._set_log)
        self.session.stage.showed.connect(self._showed)
        self.plot.scene().sigMouseMoved.connect(self._hover)

    # ---- what is asked ---------------------------------------------------------------------------
    @property
    def panel(self) -> str:
        """Name of the image that the curve is taken from."""
        return _PANELS[self.mode.currentData()]

    def set_mode(self, mode: Mode) -> None:
        """Draw other values."""
        self.mode.setCurrentIndex(self.mode.findData(mode))
        for panel in ("diffraction", "real"):
            if mode == "radial" or panel != self.panel:
                self.session.stage.put(panel, RULER, None)
        self._ask()

    def _showed(self, panel: str, image: Any) -> None:
        if panel == self.panel and self.isVisible():
            self._ask()

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._ask()

    def hideEvent(self, event: Any) -> None:
        """The line on an image belongs to the curve."""
        super().hideEvent(event)
        self.session.stage.clear(RULER)

    def _ask(self) -> None:
        image = self.session.stage.showing.get(self.panel)
        if image is None or image.data.ndim != 2 or image.data.dtype.kind == "c":
            return
        mode: Mode = self.mode.currentData()
        ends = ((0.0, 0.0), (0.0, 0.0))
        if mode != "radial":
            ends = self._ends.setdefault(self.panel, _first_ends(image.data.shape))
            ruler = Ruler(*ends, self._dragged)
            self.session.stage.put(self.panel, RULER, ruler)
        self._lane.ask(_Wish(mode, image, ends, self._center()))

    def _dragged(self, start: Pair, stop: Pair) -> None:
        self._ends[self.panel] = (start, stop)
        self._ask()

    def _center(self) -> Pair | None:
        """Where the beam was seen first, for scans without an origin."""
        scan = self.session.project.scan
        data = None if scan is None else self.session.data(scan.key)
        beam = None if data is None else data.first.beam
        return None if beam is None else beam.center

    # ---- what is drawn ---------------------------------------------------------------------------
    def _answered(self, answer: Answer) -> None:
        if answer.error is not None:
            self.curve = None
            self.line.setData([], [])
            self.readout.setText(str(answer.error))
        elif isinstance(answer.value, Curve):
            self.curve = answer.value
            self._draw()

    def _draw(self) -> None:
        curve = self.curve
        if curve is None:
            return
        values = positive(curve.values) if self.log.isChecked() else curve.values
        self.line.setData(curve.distance, values)
        item = self.plot.getPlotItem()
        name = "q" if curve.about else "distance"
        item.setLabel("bottom", f"{name} ({unit_text(curve.unit)})")
        item.setLabel("left", "intensity")
        self.readout.setText(curve.about)
        self.drawn.emit(curve)

    def _set_log(self, log: bool) -> None:
        self.plot.getPlotItem().setLogMode(y=log)
        self._draw()

    # ---- cursor ----------------------------------------------------------------------------------
    def _hover(self, place: Any) -> None:
        box = self.plot.getPlotItem().getViewBox()
        if self.curve is None or not box.sceneBoundingRect().contains(place):
            self.cursor.hide()
            return
        at = box.mapSceneToView(place).x()
        self.cursor.setPos(at)
        self.cursor.show()
        self.readout.setText(self.text_at(at))

    def text_at(self, distance: float) -> str:
        """Distance, spacing and value of the nearest point of the curve."""
        curve = self.curve
        if curve is None or not len(curve.distance):
            return ""
        k = int(np.abs(curve.distance - distance).argmin())
        at, value = float(curve.distance[k]), float(curve.values[k])
        parts = [f"{at:.4g} {unit_text(curve.unit)}"]
        if curve.about:
            parts = [f"q = {parts[0]}", spacing_text(at, curve.unit, curve.calibration)]
        return " · ".join(part for part in (*parts, f"I = {value:.4g}") if part)


def _first_ends(shape: tuple[int, ...]) -> tuple[Pair, Pair]:
    """Across the middle row, from a quarter to three quarters."""
    row, columns = shape[0] // 2, shape[1]
    return (float(row), float(columns // 4)), (float(row), float(max(3 * columns // 4, 1)))


def _made(wish: _Wish) -> Curve:
    if wish.mode == "radial":
        return _radial(wish.image, wish.center)
    found = line_profile(wish.image, *wish.ends)
    return Curve(found.distance, found.data, found.axis.unit, wish.image.calibration, "")


def _radial(image: DiffractionSlice, center: Pair | None) -> Curve:
    known = image.calibration.origin_px is not None
    about = "about the origin" if known else "about the brightest disk: no origin is calibrated"
    if not known and center is None:
        rows, columns = image.data.shape
        center, about = ((rows - 1) / 2, (columns - 1) / 2), "about the middle: no beam was found"
    found = mean_radial_profile(
        image, center=None if known else center, options=RunOptions(workers=1)
    )
    return Curve(found.q, found.data, found.units, image.calibration, about)
