"""The calibration wizard: origin, ellipse, pixel size, rotation, and values that are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice, RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.panels import calibration_work as work
from py4DSTEM.gui.panels.calibration_views import ChartView, LayerList, TypedPage
from py4DSTEM.gui.panels.calibration_work import Found
from py4DSTEM.gui.panels.job_row import JobRow
from py4DSTEM.gui.panels.map_grid import MapGrid
from py4DSTEM.gui.panels.parts import button
from py4DSTEM.gui.panels.step_form import StepForm
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.commands import AddLayer
from py4DSTEM.gui.state.forms import typed
from py4DSTEM.gui.state.project import Layer, Made, Project
from py4DSTEM.process.calibrate.dspacings import STANDARDS
from py4DSTEM.process.calibrate.ellipse import MeasureEllipse
from py4DSTEM.process.calibrate.origin import CalibrateOrigin
from py4DSTEM.process.calibrate.pixel_size import MeasurePixelSize
from py4DSTEM.process.calibrate.rotation import MeasureRotation
from py4DSTEM.stream.options import RunOptions

__all__ = ["CalibrationWizard", "MeasurePage"]

_OVERLAYS = "calibration "
_SCAN = "the scan"
LEAST_WIDTH = 400
"""Below which buttons would be cut and the titles of maps lie over each other."""


@dataclass(frozen=True)
class Kind:
    """What a page measures, and how.

    Parameters
    ----------
    title : str
        Of the page.
    layer : str
        Name of the calibration that is accepted.
    step : type of Analysis
    work : callable
        ``work(step, value, options)`` → `Found`.
    fields : tuple of str
        Parameters that the form shows.
    sources : tuple of type
        What it can be measured in, besides the scan.
    help : str
    """

    title: str
    layer: str
    step: Any
    work: Callable[[Any, Any, RunOptions], Found]
    fields: tuple[str, ...]
    sources: tuple[type, ...]
    help: str


KINDS = (
    Kind(
        "Origin", "origin", CalibrateOrigin, work.origin,
        ("method", "model", "blend", "radius_px", "search_px"), (PointTable,),
        "Where the unscattered beam is at every position: the pattern drifts as the beam scans. "
        "Where the residual is hardly more than sigma, a plane is best; jitter is kept by blend.",
    ),
    Kind(
        "Ellipse", "ellipse", MeasureEllipse, work.ellipse, ("method", "inner_px", "outer_px"),
        (DiffractionSlice, PointTable),
        "Elliptic distortion of the detector plane, from rings or peaks of many grains.  A single "
        "crystal cannot tell an ellipse from strain: skip, or measure it in a standard.",
    ),
    Kind(
        "Pixel size", "pixel size", MeasurePixelSize, work.pixel_size,
        ("approximate", "per_axis", "inner_px", "outer_px"), (DiffractionSlice, PointTable),
        "Detector pixel size from rings or peaks of a known crystal, after the ellipse.",
    ),
    Kind(
        "Rotation", "rotation", MeasureRotation, work.rotation,
        ("method", "flip", "near_deg", "defocus"), (RealSlice,),
        "Rotation and flip between detector and scan: deflections by a potential have no curl; "
        "in a defocused scan (shadow) the image moves with the detector pixel.",
    ),
)  # fmt: skip


class CalibrationWizard(QtWidgets.QWidget):
    """One page per quantity; what is accepted becomes a layer on top of the file."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self.session = session
        self.layers = LayerList(session)
        self.tabs = QtWidgets.QTabWidget()
        self.pages = [MeasurePage(kind, session) for kind in KINDS]
        self.typed_page = TypedPage(session)
        for page in self.pages:
            self.tabs.addTab(page, page.kind.title)
            page.left.connect(self._next)
        self.tabs.addTab(self.typed_page, "Values")
        self.tabs.setUsesScrollButtons(True)
        self.tabs.currentChanged.connect(lambda _: self._draw_overlays())
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.layers)
        layout.addWidget(self.tabs, 1)
        session.changed.connect(self._changed)
        for page in self.pages:
            page.found_changed.connect(self._draw_overlays)
        self._mark()

    def _next(self) -> None:
        self.tabs.setCurrentIndex(self.tabs.currentIndex() + 1)

    def _changed(self, before: Project, after: Project) -> None:
        self._mark()

    def _mark(self) -> None:
        """A tick at every page whose quantity is known."""
        scan = self.session.project.scan
        known = set() if scan is None else {layer.name for layer in scan.layers}
        for number, page in enumerate(self.pages):
            done = " ✓" if page.kind.layer in known else ""
            self.tabs.setTabText(number, f"{page.kind.title}{done}")

    # ---- overlays --------------------------------------------------------------------------------
    def _draw_overlays(self) -> None:
        """Those of the page that is seen, and no others."""
        stage, page = self.session.stage, self.tabs.currentWidget()
        stage.clear(_OVERLAYS)
        if self.isVisible() and isinstance(page, MeasurePage) and page.found is not None:
            for name, overlay in page.found.overlays.items():
                stage.put(name.partition(" ")[0], _OVERLAYS + name, overlay)  # type: ignore[arg-type]

    def showEvent(self, ev: Any) -> None:
        super().showEvent(ev)
        self._draw_overlays()

    def hideEvent(self, ev: Any) -> None:
        super().hideEvent(ev)
        self._draw_overlays()
        self.session.raw = False


class MeasurePage(QtWidgets.QWidget):
    """Measure one quantity, look at what is left over, accept it or not."""

    left = QtCore.Signal()
    """The user is done with this page."""
    found_changed = QtCore.Signal()

    def __init__(self, kind: Kind, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self.kind, self.session = kind, session
        self.found: Found | None = None
        self._made: Made | None = None
        self._key = ""
        self._make()
        self._lay_out()
        session.changed.connect(self._changed)
        self._list_sources()
        self._enable()

    def _make(self) -> None:
        self.source_box = QtWidgets.QComboBox()
        self.source_box.setToolTip("What it is measured in.")
        self.form = StepForm(self.kind.step, self.session, only=self.kind.fields)
        self.reference_box: QtWidgets.QComboBox | None = None
        if "reference" in self.kind.step.model_fields and "reference" not in self.kind.fields:
            self.reference_box = _reference_box(self.kind.step is MeasurePixelSize)
        self.measure_button = button("Measure", "Measure it, as a job.", self.measure)
        self.accept_button = button(
            "Accept", "Add it as a calibration on top of the file, and go on.", self.accept
        )
        self.skip_button = button("Skip", "Go on without it.", self.left.emit)
        self.job_row = JobRow(self.session)
        self.job_row.busyChanged.connect(self._enable)
        self.words = QtWidgets.QLabel()
        self.words.setWordWrap(True)
        self.words.setTextFormat(QtCore.Qt.TextFormat.PlainText)
        self.words.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        polar = self.kind.layer == "ellipse"
        unknown = "beside the detector" if polar else "no value"
        self.grid = MapGrid(("", ""), 2, locked=not polar, unknown=unknown)
        self.grid.setMinimumHeight(140)
        self.grid.hide()
        self.chart_box = QtWidgets.QComboBox()
        self.chart_box.setToolTip("Which curves to see.")
        self.chart_box.currentTextChanged.connect(self._show_chart)
        self.chart_box.hide()
        self.chart = ChartView()
        self.chart.hide()
        policies = QtWidgets.QSizePolicy.Policy
        for view in (self.grid, self.chart):  # as high as there is room for, not as they wish
            view.setSizePolicy(policies.Expanding, policies.Ignored)

    def _lay_out(self) -> None:
        explained = QtWidgets.QLabel(self.kind.help)
        explained.setWordWrap(True)
        top = QtWidgets.QFormLayout()
        top.addRow("measured in", self.source_box)
        if self.reference_box is not None:
            top.addRow("crystal", self.reference_box)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.measure_button)
        row.addStretch(1)
        row.addWidget(self.skip_button)
        row.addWidget(self.accept_button)
        inside = QtWidgets.QWidget()
        layout = QtWidgets.QVBoxLayout(inside)
        layout.setContentsMargins(4, 4, 4, 4)
        for part in (explained, top, self.form, row, self.job_row, self.words):
            (layout.addLayout if isinstance(part, QtWidgets.QLayout) else layout.addWidget)(part)
        layout.addWidget(self.grid, 2)
        layout.addWidget(self.chart_box)
        layout.addWidget(self.chart, 1)
        layout.addStretch(0)
        area = QtWidgets.QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inside)
        area.setMinimumWidth(LEAST_WIDTH)
        whole = QtWidgets.QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(area)

    # ---- the project -----------------------------------------------------------------------------
    def _changed(self, before: Project, after: Project) -> None:
        if before.current != after.current:
            self._show(None, None, "")
        old, new = before.scan, after.scan
        if old is None or new is None or (old.key, old.results) != (new.key, new.results):
            self._list_sources()
        self._enable()

    def _list_sources(self) -> None:
        scan, chosen = self.session.project.scan, self.source_box.currentText()
        names = [] if scan is None else [r.name for r in scan.results if self._fits(r.value)]
        self.source_box.clear()
        self.source_box.addItems([_SCAN, *names])
        self.source_box.setCurrentText(chosen if chosen in names else _SCAN)

    def _fits(self, value: Any) -> bool:
        if not isinstance(value, self.kind.sources):
            return False
        if isinstance(value, RealSlice):
            return value.labels == ("x", "y")
        return not isinstance(value, DiffractionSlice) or value.data.ndim == 2

    def _enable(self, *_: Any) -> None:
        scan = self.session.project.scan
        ready = scan is not None and self.session.data(scan.key) is not None
        self.measure_button.setEnabled(ready and not self.job_row.busy)
        self.accept_button.setEnabled(self.found is not None and not self.job_row.busy)

    # ---- measuring -------------------------------------------------------------------------------
    def step(self) -> Any:
        """The step as the form describes it; raises `ParameterError` where it makes no sense."""
        values = self.form.values()
        if self.reference_box is not None:
            reference = typed(self.reference_box.currentText())
            if reference is None and self.kind.step is MeasurePixelSize:
                raise ParameterError(
                    "the crystal is not given: choose a standard, or type d spacings in Å"
                )
            values["reference"] = reference
        return self.kind.step(**values)

    def measure(self) -> None:
        """Measure, as a job; what was found before is dropped."""
        try:
            step = self.step()
        except ParameterError as error:
            self.job_row.say_error(error)
            return
        key, of = self.session.project.current, self.source_box.currentText()
        of = "" if of == _SCAN else of
        value = self._value(key, of)
        if value is None:
            return
        made = self.session.project.get(key).made_by(step, of)
        self._show(None, None, "")

        def done(found: Found) -> None:
            if key == self.session.project.current:
                self._show(found, made, key)

        self.job_row.start(
            f"measure {self.kind.layer}", lambda options: self.kind.work(step, value, options), done
        )

    def _value(self, key: str, of: str) -> Any:
        """The source, with the calibrations that are switched on now."""
        value, cube = self.session.value_of(key, of), self.session.cube(key)
        if not of or cube is None or not isinstance(value, DiffractionSlice):
            return value
        made = self.session.project.get(key).result(of).made
        if made is not None and made.of == "" and value.shape == cube.Q_shape:
            return value.with_calibration(cube.calibration)
        # A pattern of a standard, from another file: the distortion is that of the microscope.
        known = value.calibration.ellipse or cube.calibration.ellipse
        return value.with_calibration(ellipse=known)

    def _show(self, found: Found | None, made: Made | None, key: str) -> None:
        self.found, self._made, self._key = found, made, key
        self.words.setText("" if found is None else found.words)
        self.measure_button.setText("Measure" if found is None else "Measure again")
        maps = None if found is None else found.maps
        self.grid.setVisible(maps is not None)
        if maps is not None:
            self.grid.set_titles(maps.titles)
            self.grid.show_maps(
                maps.images, maps.limits, colors=maps.colors, label=maps.label, axes=maps.axes
            )
        names = [] if found is None else list(found.charts)
        seen = self.chart_box.currentText()
        self.chart_box.blockSignals(True)
        self.chart_box.clear()
        self.chart_box.addItems(names)
        self.chart_box.setCurrentText(seen if seen in names else "".join(names[:1]))
        self.chart_box.blockSignals(False)
        self.chart_box.setVisible(len(names) > 1)
        self._show_chart()
        self._enable()
        self.found_changed.emit()

    def _show_chart(self, *_: Any) -> None:
        name = self.chart_box.currentText()
        self.chart.show_chart(None if self.found is None else self.found.charts.get(name))

    def accept(self) -> None:
        """Add what was found as a calibration."""
        if self.found is None:
            return
        layer = Layer(name=self.kind.layer, value=self.found.value, made=self._made)
        if self.session.do(AddLayer(key=self._key, layer=layer)):
            self.left.emit()


def _reference_box(required: bool) -> QtWidgets.QComboBox:
    box = QtWidgets.QComboBox()
    box.setEditable(True)
    box.addItems(["", *sorted(STANDARDS)])
    box.setCurrentText("Au" if required else "")
    box.setToolTip(
        'A standard, or d spacings in Å with commas, or {"a_A": 4.078, "centring": "F"}.'
        + ("" if required else "  Empty: rings of any radii.")
    )
    return box
