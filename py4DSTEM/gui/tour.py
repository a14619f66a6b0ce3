"""A tour: from a simulated scan to its strain map, with the program's own commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.process.bragg.lattice import LatticeFit
from py4DSTEM.process.bragg.peaks import BraggPeaks
from py4DSTEM.process.strain import StrainMap

__all__ = ["STOPS", "Stop", "Tour"]

Qt = QtCore.Qt
SAMPLE = "sample"


def _never_needed(window: Any) -> bool:
    return True


def _nothing(window: Any) -> None:
    return None


@dataclass(frozen=True)
class Stop:
    """One card of the tour.

    Parameters
    ----------
    title, text : str
    where : str
        Name of the dock that is framed; "": none.
    act : callable
        Does with the window what the text speaks of.
    ready : callable
        Whether that has been done.
    """

    title: str
    text: str
    where: str = ""
    act: Callable[[Any], None] = _nothing
    ready: Callable[[Any], bool] = _never_needed


# ---- what is done --------------------------------------------------------------------------------
def _triggers(*actions: str) -> Callable[[Any], None]:
    def act(window: Any) -> None:
        for action in actions:
            window.actions_.trigger(action)

    return act


def _is_open(window: Any) -> bool:
    scan = window.session.project.scan
    return (
        scan is not None and scan.name == SAMPLE and window.views["diffraction"].image is not None
    )


def _open(window: Any) -> None:
    """The sample, or the one that is open already."""
    from py4DSTEM.gui.state.commands import ShowScan

    known = [scan.key for scan in window.session.project.scans if scan.name == SAMPLE]
    if known:
        window.session.do(ShowScan(key=known[-1]))
    else:
        window.actions_.trigger("help.sample")


def _has(kind: type) -> Callable[[Any], bool]:
    def ready(window: Any) -> bool:
        scan = window.session.project.scan
        return scan is not None and any(isinstance(r.value, kind) for r in scan.results)

    return ready


def _find_disks(window: Any) -> None:
    window.show_panel("bragg").run()


def _origin(window: Any) -> Any:
    return window.show_panel("calibration").pages[0]


def _measure_origin(window: Any) -> None:
    page = _origin(window)
    scan = window.scan
    peaks = next((r.name for r in scan.results if isinstance(r.value, BraggPeaks)), "")
    if peaks:
        page.source_box.setCurrentText(peaks)
    page.measure()


def _is_measured(window: Any) -> bool:
    wizard = window.panels.get("calibration")
    return _is_calibrated(window) or (wizard is not None and wizard.pages[0].found is not None)


def _accept_origin(window: Any) -> None:
    _origin(window).accept()


def _is_calibrated(window: Any) -> bool:
    scan = window.session.project.scan
    return scan is not None and any(layer.name == "origin" for layer in scan.layers)


def _fit_lattice(window: Any) -> None:
    window.show_panel("strain").lattice_page.fit()


def _keep_strain(window: Any) -> None:
    panel = window.show_panel("strain")
    panel.tabs.setCurrentWidget(panel.map_page)
    panel.map_page.keep()


def _export(window: Any) -> None:
    window.actions_.trigger("file.export_data")


STOPS = (
    Stop(
        "Welcome",
        "This tour goes from a scan to its strain map with a small simulated crystal. Next does "
        "each step with the program's own commands; everything can be undone with Ctrl+Z, and your "
        "own scans are left alone.",
    ),
    Stop(
        "Open a scan",
        "The sample is simulated and opened. Your own files: Ctrl+O, or drop them on the window. "
        "The mean of some patterns, the beam and a bright-field image are there at once.",
        "project", _open, _is_open,
    ),
    Stop(
        "Drag a detector",
        "The circle on the pattern is a detector; drag it, or its edge, and the image beside it "
        "follows. W, A, S, D move it by one pixel, [ and ] change its radius.",
        "diffraction", _triggers("detector.detector_down", "detector.grow"),
    ),
    Stop(
        "Presets",
        "Bright field is B, annular dark field H and others are in Detector > Preset; they are "
        "placed by the beam that was found. This is low-angle annular dark field.",
        "real", _triggers("detector.preset_laadf"),
    ),
    Stop(
        "Choose where to look",
        "The pattern comes from the scan positions that are chosen in the real-space image: a "
        "point, a rectangle, a disk, a polygon. Alt+1 … Alt+4, or M for the mean of all.",
        "real", _triggers("detector.preset_bf", "detector.select_rectangle"),
    ),
    Stop(
        "Find Bragg disks",
        "Nine patterns show live what would be found; the sliders change it. Run all searches the "
        "whole scan beside you: its progress is under Jobs, and it can be cancelled.",
        "panel:bragg", _find_disks, _has(BraggPeaks),
    ),
    Stop(
        "Measure the origin",
        "The pattern wanders while the beam scans. The wizard measures origin, ellipse, pixel size "
        "and rotation, with residuals; here the origin of every position, from the disks.",
        "panel:calibration", _measure_origin, _is_measured,
    ),
    Stop(
        "Accept it",
        "What is accepted becomes a layer over the file, which stays as it is: layers can be "
        "switched off, and Space shows the images without them while it is held.",
        "panel:calibration", _accept_origin, _is_calibrated,
    ),
    Stop(
        "Fit the lattice",
        "Two lattice vectors are suggested on the map of all disks; drag their ends, and they snap "
        "to it. Then the lattice of every position is fitted.",
        "panel:strain", _fit_lattice, _has(LatticeFit),
    ),
    Stop(
        "Map the strain",
        "Strain is relative to the rectangle on the maps: drag it, and all four maps follow. Keep "
        "makes a result of what is shown.",
        "panel:strain", _keep_strain, _has(StrainMap),
    ),
    Stop(
        "Take it away",
        "Results go into one HDF5 file, images into PNG, TIFF or SVG. File > Export also has a "
        "notebook, a script, and a recipe that does the same to other scans.",
        "", _export,
    ),
    Stop(
        "That is it",
        "Ctrl+K finds every action by name, F1 shows all keys, and Ctrl+Shift+C copies what was "
        "done as Python. Help > Documentation goes on from here.",
    ),
)  # fmt: skip


# ---- the card ------------------------------------------------------------------------------------
class Frame(QtWidgets.QFrame):
    """A coloured frame on top of a widget; the mouse goes through it."""

    def __init__(self, window: QtWidgets.QWidget) -> None:
        super().__init__(window)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setStyleSheet("border: 2px solid #E69F00; border-radius: 3px;")
        self.hide()

    def put_around(self, widget: QtWidgets.QWidget | None) -> None:
        """Frame a widget of the window, or nothing."""
        above = self.parentWidget()
        if widget is None or above is None or not widget.isVisible():
            self.hide()
            return
        self.setGeometry(QtCore.QRect(widget.mapTo(above, QtCore.QPoint(0, 0)), widget.size()))
        self.raise_()
        self.show()


class Tour(QtWidgets.QDialog):
    """The card with the texts; it blocks nothing.

    Parameters
    ----------
    window : MainWindow
    """

    def __init__(self, window: Any) -> None:
        super().__init__(window)
        self.setModal(False)
        self.setWindowTitle("Tour")
        self.at = 0
        self._window = window
        self.frame = Frame(window)
        self.title, self.text, self.state = (QtWidgets.QLabel() for _ in range(3))
        self.back = QtWidgets.QPushButton("Back")
        self.next = QtWidgets.QPushButton("Next")
        self.next.setDefault(True)
        self._lay_out()
        self.back.clicked.connect(lambda *_: self.go(self.at - 1))
        self.next.clicked.connect(lambda *_: self.forward())
        window.session.changed.connect(self._follow)
        window.session.jobs.changed.connect(self._follow)
        window.installEventFilter(self)
        self._later = QtCore.QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._place)
        self.go(0)

    def _lay_out(self) -> None:
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setFixedWidth(360)
        self.back.setToolTip("The card before; nothing is undone")
        self.next.setToolTip("Do what the next card speaks of")
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.state, 1)
        row.addWidget(self.back)
        row.addWidget(self.next)
        column = QtWidgets.QVBoxLayout(self)
        for widget in (self.title, self.text):
            column.addWidget(widget)
        column.addLayout(row)

    @property
    def stop(self) -> Stop:
        """The card that is shown."""
        return STOPS[self.at]

    @property
    def ready(self) -> bool:
        """Whether what the card speaks of has been done."""
        return self.stop.ready(self._window)

    def forward(self) -> None:
        """Go on; where the card's own step has not come to its end, do it again."""
        if not self.ready:
            self._act()
        elif self.at + 1 < len(STOPS):
            self.go(self.at + 1, act=True)
        else:
            self.close()

    def go(self, at: int, *, act: bool = False) -> None:
        """Show a card, and do what it speaks of."""
        self.at = min(max(at, 0), len(STOPS) - 1)
        self.title.setText(self.stop.title)
        self.text.setText(self.stop.text)
        if act:
            self._act()
        self._follow()

    def _act(self) -> None:
        done_already = self.stop.ready is not _never_needed and self.ready
        try:
            if not done_already:
                self.stop.act(self._window)
        except Exception as error:  # as for every action: told, and the tour stays
            self._window.troubles.show(f"do this step of the tour: {self.stop.title}", error)
        if self.stop.where.startswith("panel:"):
            self._window.show_panel(self.stop.where.partition(":")[2])
        self._follow()

    def _follow(self, *_: Any) -> None:
        """Say how far it is."""
        ready, busy = self.ready, bool(self._window.session.jobs.active)
        last = self.at + 1 == len(STOPS)
        self.state.setText(f"{self.at + 1} of {len(STOPS)}" + ("" if ready else " · working …"))
        self.back.setEnabled(self.at > 0)
        self.next.setEnabled(ready or not busy)
        self.next.setText("Close" if last else "Next" if ready or busy else "Try again")
        self._later.start(0)

    def _place(self) -> None:
        dock = self._window.docks.docks.get(self.stop.where)
        self.frame.put_around(dock if self.isVisible() else None)

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._later.start(0)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """The frame moves with the window."""
        types = QtCore.QEvent.Type
        if event.type() in (types.Resize, types.LayoutRequest):
            self._later.start(0)
        return False

    def done(self, result: int) -> None:
        """Closing takes the frame away."""
        self.frame.hide()
        super().done(result)
