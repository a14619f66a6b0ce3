"""Strain: lattice vectors from the Bragg vector map, a live reference, four linked maps."""

from __future__ import annotations

import math
import weakref
from typing import Any

import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.core.points import PointTable
from py4DSTEM.core.selection import RectangleSelection
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.panels.job_row import JobRow
from py4DSTEM.gui.panels.map_grid import MapGrid
from py4DSTEM.gui.panels.strain_work import (
    Picked,
    PickRequest,
    SeenStrain,
    StrainRequest,
    StrainWork,
    VectorsRequest,
    picked,
)
from py4DSTEM.gui.panels.vector_map import VectorMapView
from py4DSTEM.gui.session import Session, applied
from py4DSTEM.gui.stage import Region
from py4DSTEM.gui.state.project import Project
from py4DSTEM.plot.decorate import unit_text
from py4DSTEM.plot.figures.canvas import pm
from py4DSTEM.process.bragg.basis import Basis
from py4DSTEM.process.bragg.lattice import FitLattice, LatticeFit
from py4DSTEM.process.strain import COMPONENTS, MapStrain
from py4DSTEM.process.strain_live import UNITS
from py4DSTEM.stream.options import RunOptions

__all__ = ["StrainPanel"]

SYMBOLS = {"e_xx": "ε<sub>xx</sub>", "e_yy": "ε<sub>yy</sub>",
           "e_xy": "ε<sub>xy</sub>", "theta": "θ"}  # fmt: skip
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_REGION = "strain reference"
_LABELS = {False: "strain (%), θ (10 mrad)", True: "one sigma (%), of θ (10 mrad)"}


class StrainPanel(QtWidgets.QWidget):
    """Two pages: the lattice of the peaks, and the strain of the lattice."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self.session = session
        self.lattice_page = LatticePage(session)
        self.map_page = MapPage(session)
        self.tabs = QtWidgets.QTabWidget()
        self.tabs.addTab(self.lattice_page, "1  Lattice")
        self.tabs.addTab(self.map_page, "2  Strain")
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.tabs)
        self.lattice_page.fitted.connect(self._fitted)
        lanes = self.lattice_page.lane, self.map_page.lane
        for lane in lanes:
            weakref.finalize(self, lane.stop)

    def _fitted(self, name: str) -> None:
        self.map_page.choose(name)
        self.tabs.setCurrentWidget(self.map_page)

    def stop(self) -> None:
        """End the threads of the panel."""
        for page in (self.lattice_page, self.map_page):
            page.lane.stop()
        self.map_page.show_region(False)


def _fill(combo: QtWidgets.QComboBox, names: list[str]) -> None:
    """Offer these names and keep the choice if it is among them; the newest otherwise."""
    chosen = combo.currentText()
    blocked = combo.blockSignals(True)
    combo.clear()
    combo.addItems(names)
    combo.setCurrentText(chosen if chosen in names else names[-1] if names else "")
    combo.blockSignals(blocked)


def _results(session: Session, kind: type[Any]) -> list[str]:
    scan = session.project.scan
    return [] if scan is None else [r.name for r in scan.results if isinstance(r.value, kind)]


def _moved_on(before: Project, after: Project) -> bool:
    """Whether another scan is shown, or its results or calibrations have changed."""
    old, new = before.scan, after.scan
    if old is None or new is None:
        return old is not new
    return old.key != new.key or old.results != new.results or old.layers != new.layers


# ---- page 1 --------------------------------------------------------------------------------------
class LatticePage(QtWidgets.QWidget):
    """The vector map of some Bragg peaks, two vectors, and the fit of the lattice."""

    fitted = QtCore.Signal(str)
    """Name of the result with the lattice of every position."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.basis: Basis | None = None
        self.touched = False
        """Whether a vector was dragged, so that the fit has to start from it."""
        self._shown: tuple[str, Any] = ("", None)
        self.lane = Lane(picked, "lattice vectors", self)
        self.lane.answered.connect(self._answered)
        self._make()
        session.changed.connect(self._changed)
        self.refresh()

    def _make(self) -> None:
        self.peaks_box = QtWidgets.QComboBox()
        self.peaks_box.setToolTip("Bragg peaks of this scan: the result that the lattice is of.")
        self.peaks_box.currentTextChanged.connect(self._show_peaks)
        self.find_button = QtWidgets.QPushButton("Find disks…")
        self.find_button.setToolTip("Open the panel that finds Bragg disks.")
        self.find_button.clicked.connect(lambda: self.session.panelWanted.emit("bragg"))
        self.map_view = VectorMapView()
        self.map_view.vectorsMoved.connect(self._vectors_moved)
        self.words = QtWidgets.QLabel()
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        self.snap_tick = QtWidgets.QCheckBox("Snap to peaks")
        self.snap_tick.setChecked(True)
        self.snap_tick.setToolTip("Dragged vectors jump to the nearest peak of the map.")
        self.snap_tick.toggled.connect(lambda on: setattr(self.map_view, "snap", on))
        self.suggest_button = QtWidgets.QPushButton("Suggest")
        self.suggest_button.setToolTip("The shortest pair of vectors that explains the peaks.")
        self.suggest_button.clicked.connect(self._suggest)
        self.fit_button = QtWidgets.QPushButton("Fit lattice")
        self.fit_button.setToolTip("Index the peaks of every position and fit g1 and g2 there.")
        self.fit_button.clicked.connect(self.fit)
        self.job_row = JobRow(self.session)
        self.job_row.busyChanged.connect(self._enable)
        self._lay_out()

    def _lay_out(self) -> None:
        top, below = QtWidgets.QHBoxLayout(), QtWidgets.QHBoxLayout()
        top.addWidget(QtWidgets.QLabel("Peaks"))
        top.addWidget(self.peaks_box, 1)
        top.addWidget(self.find_button)
        below.addWidget(self.snap_tick)
        below.addStretch(1)
        below.addWidget(self.suggest_button)
        below.addWidget(self.fit_button)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addLayout(top)
        layout.addWidget(self.map_view, 1)
        layout.addWidget(self.words)
        layout.addLayout(below)
        layout.addWidget(self.job_row)

    # ---- the project -----------------------------------------------------------------------------
    def _changed(self, before: Project, after: Project) -> None:
        if _moved_on(before, after):
            self.refresh()

    def refresh(self) -> None:
        """Offer the peaks that there are, and show those that are chosen."""
        _fill(self.peaks_box, _results(self.session, PointTable))
        self._show_peaks(self.peaks_box.currentText())

    def _peaks(self) -> PointTable | None:
        name, scan = self.peaks_box.currentText(), self.session.project.scan
        if scan is None or not name:
            return None
        peaks = self.session.value_of(scan.key, name)
        return peaks if isinstance(peaks, PointTable) else None

    def _show_peaks(self, name: str) -> None:
        peaks = self._peaks()
        shown = (name, None if peaks is None else (peaks.points, peaks.calibration))
        if peaks is None:
            self.map_view.show_map(None, None)
            self.words.setText("No Bragg peaks yet: find the disks first.")
        elif self._shown[0] != name or self._shown[1] is None or _differ(self._shown[1], shown[1]):
            self._suggest()
        self._shown = shown
        self._enable()

    def _enable(self, *_: Any) -> None:
        ready = self._peaks() is not None
        self.fit_button.setEnabled(ready and not self.job_row.busy and self.basis is not None)
        self.suggest_button.setEnabled(ready)

    # ---- vectors ---------------------------------------------------------------------------------
    def _suggest(self) -> None:
        peaks = self._peaks()
        if peaks is not None:
            self.touched, self.basis = False, None
            self.words.setText("Looking at the peaks …")
            self.lane.ask(PickRequest(peaks))

    def _vectors_moved(self, vectors: Any, settled: bool) -> None:
        peaks = self._peaks()
        if peaks is not None:
            self.touched = True
            self.lane.ask(VectorsRequest(peaks, vectors))

    def _answered(self, answer: Answer) -> None:
        if answer.number != self.lane.number or answer.request.peaks is None:
            return
        if answer.error is not None:
            self.job_row.say_error(answer.error)
            self.words.setText("")
        elif answer.value is not None:
            self._show_picked(answer.value)

    def _show_picked(self, found: Picked) -> None:
        if found.picking is not None:
            self.map_view.show_map(found.picking, found.numbers)
        self.basis = found.basis
        if found.basis is not None:
            self.words.setText(_in_words(found.basis))
            if not self.touched:
                self.map_view.set_vectors(found.basis.vectors)
        elif found.trouble:
            self.words.setText(found.trouble)
        self._enable()

    # ---- the fit ---------------------------------------------------------------------------------
    def step(self) -> FitLattice:
        """The fit as it stands: from vectors that were dragged, or from those it finds itself."""
        if not self.touched or self.map_view.vectors is None:
            return FitLattice()
        g1, g2 = self.map_view.vectors.tolist()
        return FitLattice(g1=g1, g2=g2)

    def fit(self) -> None:
        """Fit the lattice of every position, as a job; it becomes a result."""
        peaks, name, key = self._peaks(), self.peaks_box.currentText(), self.session.project.current
        if peaks is None:
            return
        step = self.step()
        made = self.session.project.get(key).made_by(step, name)

        def work(options: RunOptions) -> Any:
            return applied(step, peaks, options)

        def done(found: LatticeFit) -> None:
            kept = self.session.keep("lattice", found, made, key)
            if kept and key == self.session.project.current:
                used, all_of_them = int(found.mask.sum()), found.mask.size
                self.job_row.say(f"A lattice at {used} of {all_of_them} positions: {kept}.")
                self.fitted.emit(kept)

        self.job_row.start("fit lattice", work, done)


def _differ(old: Any, new: Any) -> bool:
    return old[0] is not new[0] or old[1] != new[1]


def _in_words(basis: Basis) -> str:
    unit = unit_text(basis.unit)
    rows = [
        f"<b>g{k + 1}</b> = ({pm(x, sx)}, {pm(y, sy)}) {unit}"
        for k, ((x, y), (sx, sy)) in enumerate(
            zip(basis.vectors.tolist(), basis.sigma.tolist(), strict=True)
        )
    ]
    rows.append(
        f"{basis.explained:.1%} of the peaks lie on this lattice, within {basis.residual:.2g} "
        f"{unit} (rms)."
    )
    return "<br>".join(rows)


# ---- page 2 --------------------------------------------------------------------------------------
class MapPage(QtWidgets.QWidget):
    """The four maps of a lattice relative to a rectangle that can be dragged."""

    shown = QtCore.Signal(object)
    """`SeenStrain` that has just been drawn."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.seen: SeenStrain | None = None
        self.region: RectangleSelection | None = None
        self.lattice: LatticeFit | None = None
        self.lane = Lane(StrainWork(), "strain", self)
        self.lane.answered.connect(self._answered)
        self._make_choices()
        self._make_views()
        self._lay_out()
        session.changed.connect(self._changed)
        self.refresh()

    def _make_choices(self) -> None:
        self.lattice_box = QtWidgets.QComboBox()
        self.lattice_box.setToolTip("The lattice fit that is mapped.")
        self.lattice_box.currentTextChanged.connect(self._show_lattice)
        self.axis_box = QtWidgets.QComboBox()
        self.axis_box.addItems(["scan x", "g1", "g2", "angle"])
        self.axis_box.setToolTip(
            "Direction of the x axis of the components: down the scan, along a lattice vector of "
            "the reference, or at an angle from the scan's x (down) towards y (right)."
        )
        self.angle_spin = _spin(-180, 180, 1, " °", "Angle of the x axis from the scan's x.")
        self.angle_spin.setEnabled(False)
        self.method_box = QtWidgets.QComboBox()
        self.method_box.addItems(["infinitesimal", "polar"])
        self.method_box.setToolTip("Infinitesimal: small strain and rotation.  Polar: also large.")
        self.whole_tick = QtWidgets.QCheckBox("whole scan")
        self.whole_tick.setToolTip("All positions are the reference, instead of the rectangle.")
        self.limit_spin = _spin(1e-3, 1000, 3, " %", "Strain of the strongest colours, ±.")
        self.limit_spin.setStepType(QtWidgets.QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        self.auto_tick = QtWidgets.QCheckBox("auto")
        self.auto_tick.setChecked(True)
        self.auto_tick.setToolTip("The limit that 99.5 % of the strains stay below.")
        self.sigma_tick = QtWidgets.QCheckBox("show sigma")
        self.sigma_tick.setToolTip("One-sigma uncertainties instead of the values.")
        self.axis_box.currentTextChanged.connect(self._axis_chosen)
        for signal in (self.angle_spin.valueChanged, self.method_box.currentTextChanged):
            signal.connect(lambda *_: self.ask())
        self.whole_tick.toggled.connect(self._whole)
        self.limit_spin.valueChanged.connect(self._limit_typed)
        self.auto_tick.toggled.connect(lambda on: self._draw())
        self.sigma_tick.toggled.connect(lambda on: self._draw())

    def _make_views(self) -> None:
        self.grid = MapGrid(COMPONENTS, 2, unknown="no lattice")
        self.grid.setMinimumHeight(240)
        self.grid.setToolTip(
            "Strain of the crystal relative to the reference (rectangle: drag it).  Hatched: no "
            "lattice.  Positive: longer; θ positive from x (down) towards y (right)."
        )
        self.grid.hovered.connect(self._hovered)
        self.grid.regionMoved.connect(self._dragged_on_maps)
        self.histogram = pg.PlotWidget(background=None)
        self.histogram.setMaximumHeight(90)
        self.histogram.setMenuEnabled(False)
        self.histogram.hideAxis("left")
        self.histogram.setMouseEnabled(False, False)
        self.histogram.setToolTip("How often values occur, within the automatic limits (%).")
        self.curves = [
            self.histogram.plot([0, 1], [0], stepMode="center", pen=pg.mkPen(color, width=1.5))
            for color in _COLORS
        ]
        self.words = QtWidgets.QLabel()
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        self.keep_button = QtWidgets.QPushButton("Keep as result")
        self.keep_button.setToolTip("Add this strain map to the results of the scan.")
        self.keep_button.clicked.connect(self.keep)
        self.job_row = JobRow(self.session)

    def _lay_out(self) -> None:
        rows = [
            [QtWidgets.QLabel("Lattice"), self.lattice_box, self.method_box],
            [QtWidgets.QLabel("x along"), self.axis_box, self.angle_spin, self.whole_tick],
            [QtWidgets.QLabel("±"), self.limit_spin, self.auto_tick, self.sigma_tick],
        ]
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        for row in rows:
            line = QtWidgets.QHBoxLayout()
            for widget in row:
                line.addWidget(widget, int(isinstance(widget, QtWidgets.QComboBox)))
            layout.addLayout(line)
        layout.addWidget(self.grid, 1)
        layout.addWidget(self.words)
        layout.addWidget(self.histogram)
        layout.addWidget(self.keep_button)
        layout.addWidget(self.job_row)

    # ---- the project -----------------------------------------------------------------------------
    def _changed(self, before: Project, after: Project) -> None:
        if _moved_on(before, after):
            self.refresh()

    def refresh(self) -> None:
        """Offer the lattice fits that there are, and show the one that is chosen."""
        _fill(self.lattice_box, _results(self.session, LatticeFit))
        self._show_lattice(self.lattice_box.currentText())

    def choose(self, name: str) -> None:
        """Show the lattice fit of that name."""
        self.lattice_box.setCurrentText(name)

    def _show_lattice(self, name: str) -> None:
        scan = self.session.project.scan
        known = None if scan is None or not name else scan.result(name).value
        if known is self.lattice:
            return
        if known is None or self.lattice is None or known.shape != self.lattice.shape:
            self.region = None if known is None else _middle(known.shape)
        self.lattice = known
        self.seen = None if known is None else self.seen
        self.keep_button.setEnabled(known is not None)
        self.show_region(self.isVisible())
        self.ask()

    # ---- the reference ---------------------------------------------------------------------------
    def show_region(self, shown: bool) -> None:
        """Draw the rectangle on the maps, and on the image of the scan while this is seen."""
        region = None if self.whole_tick.isChecked() or self.lattice is None else self.region
        self.grid.set_region(region)
        overlay = None
        if shown and region is not None:
            overlay = Region(region, self._dragged_on_scan, "#00a0c8", "reference")
        self.session.stage.put("real", _REGION, overlay)

    def showEvent(self, ev: Any) -> None:
        super().showEvent(ev)
        self.show_region(True)

    def hideEvent(self, ev: Any) -> None:
        super().hideEvent(ev)
        self.show_region(False)

    def _dragged_on_maps(self, region: RectangleSelection, settled: bool) -> None:
        self.region = region
        self.show_region(self.isVisible())
        self.ask(settled=settled)

    def _dragged_on_scan(self, region: Any, settled: bool) -> None:
        """The image of the scan holds what is dragged: only the maps have to follow."""
        if not isinstance(region, RectangleSelection):
            return
        self.region = region
        self.grid.set_region(region)
        if settled:
            self.show_region(self.isVisible())
        self.ask(settled=settled)

    def _whole(self, whole: bool) -> None:
        self.show_region(self.isVisible())
        self.ask()

    # ---- asking ----------------------------------------------------------------------------------
    def axis(self) -> float | str | None:
        """Direction of x, as `strain_map` takes it."""
        chosen = self.axis_box.currentText()
        if chosen == "angle":
            return math.radians(self.angle_spin.value())
        return None if chosen == "scan x" else chosen

    def _axis_chosen(self, chosen: str) -> None:
        self.angle_spin.setEnabled(chosen == "angle")
        self.ask()

    def _request(self, *, settled: bool) -> StrainRequest | None:
        if self.lattice is None:
            return None
        region = None if self.whole_tick.isChecked() else self.region
        return StrainRequest(
            self.lattice, region, self.axis(), self.method_box.currentText(), settled
        )

    def ask(self, *, settled: bool = True) -> None:
        """Ask for the strain of what is chosen now."""
        request = self._request(settled=settled)
        if request is not None:
            self.lane.ask(request)

    def _answered(self, answer: Answer) -> None:
        if answer.request.lattice is not self.lattice:
            return
        if answer.error is not None:
            if answer.number == self.lane.number:
                self.job_row.say_error(answer.error)
        elif answer.value is not None:
            self.seen = answer.value
            self.job_row.say("")
            self._draw()
            self.shown.emit(self.seen)

    # ---- drawing ---------------------------------------------------------------------------------
    def _draw(self) -> None:
        seen = self.seen
        if seen is None:
            return
        if self.auto_tick.isChecked() and (seen.exact or not self.grid.images):
            self._put_limit(seen.limit)
        sigmas, limit = self.sigma_tick.isChecked(), self.limit_spin.value()
        self.grid.show_maps(
            list(seen.sigmas if sigmas else seen.maps),
            (0.0, seen.sigma_limit) if sigmas else (-limit, limit),
            colors="viridis" if sigmas else "RdBu_r",
            label=_LABELS[sigmas],
            axes=seen.glimpse.calibration.R,
        )
        for curve, count in zip(self.curves, seen.counts, strict=True):
            curve.setData(seen.edges, count)
        self._hovered(None)
        self._say_reference(seen)

    def _put_limit(self, limit: float) -> None:
        blocked = self.limit_spin.blockSignals(True)
        self.limit_spin.setValue(limit)
        self.limit_spin.blockSignals(blocked)

    def _limit_typed(self, limit: float) -> None:
        self.auto_tick.setChecked(False)
        if not self.sigma_tick.isChecked():
            self.grid.set_limits((-limit, limit))

    def _hovered(self, place: tuple[int, int] | None) -> None:
        reading = None if self.seen is None or place is None else self.seen.glimpse.reading(*place)
        texts = []
        for name, color in zip(COMPONENTS, _COLORS, strict=True):
            text = f"<span style='color:{color}'>●</span> {SYMBOLS[name]}"
            if reading is not None:
                value, sigma = reading[name]
                known = math.isfinite(value)
                text += f"  {pm(value, sigma)} {UNITS[name]}" if known else "  no lattice"
            texts.append(text)
        self.grid.set_titles(texts)

    def _say_reference(self, seen: SeenStrain) -> None:
        parts = [
            f"{SYMBOLS[name]} {s.mean:+.3f} ± {s.deviation:.3f} {s.unit}"
            for name, s in seen.spreads.items()
        ]
        count = next(iter(seen.spreads.values())).count
        self.words.setText(f"Reference, {count} positions (mean ± std): " + ", ".join(parts))

    # ---- keeping ---------------------------------------------------------------------------------
    def keep(self) -> None:
        """Make the strain map as it is shown a result of the scan, as a job."""
        request = self._request(settled=True)
        if request is None:
            return
        step = MapStrain(reference=request.mask(), axis=request.axis, method=request.method)
        key, lattice = self.session.project.current, request.lattice
        made = self.session.project.get(key).made_by(step, self.lattice_box.currentText())

        def done(found: Any) -> None:
            self.job_row.say(f"Kept as {self.session.keep('strain', found, made, key)}.")

        self.job_row.start("strain map", lambda options: applied(step, lattice, options), done)


def _middle(shape: tuple[int, int]) -> RectangleSelection:
    """About the middle third of the scan."""
    (x0, x1), (y0, y1) = ((n // 3, max(n // 3 + 1, n - n // 3)) for n in shape)
    return RectangleSelection(x0, x1, y0, y1)


def _spin(low: float, high: float, digits: int, unit: str, tip: str) -> QtWidgets.QDoubleSpinBox:
    spin = QtWidgets.QDoubleSpinBox()
    spin.setRange(low, high)
    spin.setDecimals(digits)
    spin.setSuffix(unit)
    spin.setToolTip(tip)
    spin.setKeyboardTracking(False)
    return spin
