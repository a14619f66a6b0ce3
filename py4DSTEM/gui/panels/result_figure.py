"""The panel that shows any result: as an image, as its own figure, as text."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.core.calibration import Measured
from py4DSTEM.core.slices import DiffractionSlice, Slice
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.panels.parts import Note, button, pixmap_of
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.commands import AddLayer, ShowInPanel
from py4DSTEM.gui.state.project import Layer, Result
from py4DSTEM.gui.views.image_panel import ImagePanel
from py4DSTEM.gui.views.results import image_names, image_of
from py4DSTEM.plot.raster import Raster

__all__ = ["ResultPanel", "layer_name"]

Qt = QtCore.Qt
_FILTER = "Figure (*.png *.svg *.pdf);;Data (*.h5)"
_LAYERS = {
    "origin_px": "origin",
    "ellipse": "ellipse",
    "Q_pixel_size": "pixel size",
    "R_pixel_size": "scan step",
    "rotation_rad": "rotation",
    "probe_radius_px": "probe",
}


def layer_name(value: Measured) -> str:
    """Name of the calibration that a measured value is: one of a kind replaces the other."""
    changes = value.calibration_changes()
    return next((name for key, name in _LAYERS.items() if key in changes), "measured")


@dataclass(frozen=True, eq=False)
class _Wish:
    """A figure to be drawn in the thread of the lane."""

    name: str
    value: Any
    raster: Raster
    width: int
    height: int
    ratio: float


@dataclass(frozen=True, eq=False)
class _Drawn:
    pixels: Any
    text: str
    problem: str = ""


class FigureView(QtWidgets.QScrollArea):
    """A figure as pixels; asks for another size when it is resized."""

    resized = QtCore.Signal()

    def __init__(self) -> None:
        super().__init__()
        self.label = QtWidgets.QLabel()
        self.label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setWidget(self.label)
        self.setWidgetResizable(True)
        self.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self.resized.emit()

    def show_pixels(self, pixels: Any, ratio: float) -> None:
        """Show a figure."""
        pixmap = pixmap_of(pixels)
        pixmap.setDevicePixelRatio(ratio)
        self.label.setPixmap(pixmap)


class ResultPanel(QtWidgets.QWidget):
    """Shows the results of the scan: images with all their controls, figures, text."""

    drawn = QtCore.Signal(str)
    """Name of the result whose figure and text are shown now."""

    def __init__(self, session: Session, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self._raster: tuple[Any, Raster] | None = None
        self._make_widgets()
        self._lay_out()
        self._lane = lane = Lane(_drawn, "figure")
        lane.answered.connect(self._answered)
        weakref.finalize(self, lane.stop)
        session.changed.connect(self._changed)
        session.opened.connect(self._changed)
        self._changed()

    def _make_widgets(self) -> None:
        self.choice = QtWidgets.QComboBox()
        self.choice.setToolTip("Which result of the scan is shown.")
        self.choice.activated.connect(lambda *_: self._update())
        self.labels = QtWidgets.QComboBox()
        self.labels.setToolTip("Which image of a stack is shown.")
        self.labels.activated.connect(lambda *_: self._show_image())
        self.image = ImagePanel("result")
        self.figure = FigureView()
        self.figure.resized.connect(self._redraw)
        self.text = QtWidgets.QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setLineWrapMode(QtWidgets.QPlainTextEdit.LineWrapMode.NoWrap)
        font = QtGui.QFontDatabase.systemFont(QtGui.QFontDatabase.SystemFont.FixedFont)
        self.text.setFont(font)
        self.tabs = QtWidgets.QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.currentChanged.connect(lambda *_: self._redraw())
        for widget, name in ((self.image, "Image"), (self.figure, "Figure"), (self.text, "Text")):
            self.tabs.addTab(widget, name)
        self.note = Note()
        self.to_image = button(
            "Show in image", "Show this in the real-space or diffraction image.", self.send
        )
        self.use = button(
            "Use as calibration",
            "Add this measurement to the calibration of the scan; it can be switched off again.",
            self.apply,
        )
        self.save_button = button(
            "Save…", "Save the figure as PNG, SVG or PDF, or the values as HDF5.", self.ask_save
        )

    def _lay_out(self) -> None:
        top = QtWidgets.QHBoxLayout()
        top.addWidget(self.choice, 2)
        top.addWidget(self.labels, 1)
        row = QtWidgets.QHBoxLayout()
        for one in (self.to_image, self.use, self.save_button):
            row.addWidget(one)
        row.addStretch(1)
        whole = QtWidgets.QVBoxLayout(self)
        whole.setContentsMargins(6, 6, 6, 6)
        whole.addLayout(top)
        whole.addWidget(self.tabs, 1)
        whole.addWidget(self.note)
        whole.addLayout(row)

    # ---- what is shown ---------------------------------------------------------------------------
    @property
    def result(self) -> Result | None:
        """The result that is chosen."""
        scan = self.session.project.scan
        name = self.choice.currentText()
        return next((r for r in scan.results if r.name == name), None) if scan else None

    def show_result(self, name: str) -> None:
        """Show the result of that name; "name/label": one image of it."""
        result, _, label = name.partition("/")
        self._list()
        self.choice.setCurrentText(result)
        self._update()
        if label:
            self.labels.setCurrentText(label)
            self._show_image()

    def _changed(self, *_: Any) -> None:
        before = self._raster
        self._list()
        value = None if self.result is None else self.result.value
        if before is None or before[0] is not value:
            self._update()

    def _list(self) -> None:
        scan = self.session.project.scan
        names = [result.name for result in scan.results] if scan else []
        if names == [self.choice.itemText(k) for k in range(self.choice.count())]:
            return
        wanted = self.choice.currentText()
        self.choice.clear()
        self.choice.addItems(names)
        known = names.index(wanted) if wanted in names else len(names) - 1
        self.choice.setCurrentIndex(known)

    def _update(self) -> None:
        """Show what is chosen."""
        result = self.result
        value = None if result is None else result.value
        self._raster = None if result is None else (value, Raster(value))
        names = self._image_names()
        self.labels.clear()
        self.labels.addItems([n.partition("/")[2] for n in names])
        self.labels.setVisible(len(names) > 1)
        self.tabs.setTabVisible(0, bool(names))
        self.to_image.setVisible(bool(names))
        self.use.setVisible(isinstance(value, Measured))
        self.save_button.setEnabled(result is not None)
        self.note.say(_about(result))
        self.text.setPlainText("")
        self.figure.label.clear()
        if names:
            self.tabs.setCurrentIndex(0)
            self._show_image()
        elif result is not None:
            self.tabs.setCurrentIndex(1)
        self._redraw()

    def _image_names(self) -> list[str]:
        """Names of the images of the chosen result; complex ones have a figure only."""
        scan, result = self.session.project.scan, self.result
        if scan is None or result is None or _is_complex(result.value):
            return []
        return [n for n in image_names(scan, "") if n.partition("/")[0] == result.name]

    @property
    def shown(self) -> Slice | None:
        """The image that is shown."""
        scan = self.session.project.scan
        return image_of(scan, self._name()) if scan is not None and self.result else None

    def _name(self) -> str:
        label = self.labels.currentText()
        return f"{self.choice.currentText()}/{label}" if label else self.choice.currentText()

    def _show_image(self) -> None:
        image = self.shown
        if image is None or image.data.ndim != 2:
            return
        centered = isinstance(image, DiffractionSlice) and image.calibration.origin_px is not None
        zero = image.calibration.mean_origin_px if centered else None
        self.image.set_image(image.data, axes=image.axes, zero_px=zero, title=image.name)

    # ---- figures ---------------------------------------------------------------------------------
    def _redraw(self, *_: Any) -> None:
        """Ask for the figure and the text, where they are looked at."""
        if self._raster is None or self.tabs.currentIndex() == 0:
            return
        value, raster = self._raster
        room = self.figure.viewport().size()
        ratio = float(self.devicePixelRatioF())
        name = self.choice.currentText()
        self._lane.ask(_Wish(name, value, raster, room.width(), room.height(), ratio))

    def _answered(self, answer: Answer) -> None:
        wish = answer.request
        if self._raster is None or wish.raster is not self._raster[1]:
            return
        if answer.error is not None:
            self.session.troubled.emit(f"draw {wish.name}", answer.error)
            return
        found = answer.value
        if found.pixels is not None:
            self.figure.show_pixels(found.pixels, wish.ratio)
        else:
            self.figure.label.setText(found.problem)
            self.tabs.setCurrentIndex(2)
        if self.text.toPlainText() != found.text:
            self.text.setPlainText(found.text)
        self.drawn.emit(wish.name)

    # ---- acts ------------------------------------------------------------------------------------
    def send(self) -> None:
        """Show the image in the panel that it belongs to."""
        panel: Any = "diffraction" if isinstance(self.shown, DiffractionSlice) else "real"
        key = self.session.project.current
        self.session.do(ShowInPanel(key=key, panel=panel, name=self._name()))

    def apply(self) -> None:
        """Add what was measured to the calibration."""
        result = self.result
        if result is None or not isinstance(result.value, Measured):
            return
        layer = Layer(name=layer_name(result.value), value=result.value, made=result.made)
        if self.session.do(AddLayer(key=self.session.project.current, layer=layer)):
            self.session.said.emit(f"calibrated: {layer.name}")

    def ask_save(self) -> None:
        """Ask where to, and save."""
        name = f"{self.choice.currentText()}.png"
        path, _ = QtWidgets.QFileDialog.getSaveFileName(self, "Save result", name, _FILTER)
        if path:
            self.save(path)

    def save(self, path: str) -> None:
        """Save the figure, or the values where the name ends with .h5, as a job."""
        if self._raster is None:
            return
        value, raster = self._raster
        self.session.jobs.submit(
            f"save {path}",
            lambda _: _saved(path, value, raster),
            done=lambda _: self.session.said.emit(f"saved {path}"),
            failed=lambda error: self.session.troubled.emit(f"save {path}", error),
            at_once=True,
        )


def _is_complex(value: Any) -> bool:
    return isinstance(value, Slice) and value.data.dtype.kind == "c"


def _about(result: Result | None) -> str:
    if result is None:
        return "no results yet: run a step of the Analyze menu"
    made = result.made
    kind = type(result.value).__name__
    if made is None:
        return kind
    return f"{kind}, made by {made.kind.replace('-', ' ')} of {made.of or 'the scan'}"


def _drawn(wish: _Wish) -> _Drawn:
    """In the thread of the lane: pixels and words."""
    from py4DSTEM.errors import Py4DSTEMError

    words = getattr(wish.value, "text", None)
    text = str(words()) if callable(words) else repr(wish.value)
    try:
        pixels = wish.raster.draw(max(wish.width, 50), max(wish.height, 50), ratio=wish.ratio)
    except (Py4DSTEMError, TypeError) as error:
        return _Drawn(None, text, str(error))
    return _Drawn(pixels, text)


def _saved(path: str, value: Any, raster: Raster) -> None:
    from py4DSTEM.api import save

    if path.lower().endswith((".h5", ".hdf5", ".emd")):
        save(path, value)
    else:
        raster.save(path)
