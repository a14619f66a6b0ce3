"""Where the panels of the window lie: at first, in layouts of one to four, and as last left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.gui.preferences import folder

__all__ = ["IMAGES", "LAYOUTS", "Docks"]

IMAGES = {
    "diffraction": "Diffraction",
    "real": "Real space",
    "profile": "Profile",
    "result": "Result",
}
SIDES = {"project": "Project", "jobs": "Jobs", "inspector": "Inspector"}
LAYOUTS = {
    1: (),
    2: ("diffraction", "real"),
    3: ("diffraction", "real", "result"),
    4: ("diffraction", "real", "profile", "result"),
}
"""What is shown in each layout; 1: what has the focus."""
VERSION = 1
"""Of the saved arrangement: raise it when panels are renamed."""

_ANY = (1 << 24) - 1
_LEFT = QtCore.Qt.DockWidgetArea.LeftDockWidgetArea
_ACROSS, _DOWN = QtCore.Qt.Orientation.Horizontal, QtCore.Qt.Orientation.Vertical


class Docks(QtCore.QObject):
    """The dock widgets of a window.

    Parameters
    ----------
    window : QMainWindow
    """

    def __init__(self, window: QtWidgets.QMainWindow) -> None:
        super().__init__(window)
        self._window = window
        self.docks: dict[str, QtWidgets.QDockWidget] = {}
        for name, title in (*IMAGES.items(), *SIDES.items()):
            self.docks[name] = self._dock(name, title)
        window.setDockNestingEnabled(True)
        self.reset()

    def _dock(self, name: str, title: str) -> QtWidgets.QDockWidget:
        dock = QtWidgets.QDockWidget(title, self._window)
        dock.setObjectName(name)
        return dock

    def fill(self, name: str, widget: QtWidgets.QWidget) -> None:
        """Put a widget into a panel."""
        self.docks[name].setWidget(widget)
        # Qt moves a panel behind another tab out of sight and calls it visible still: what it draws
        # on the images, and what it works out for them, would go on.
        self.docks[name].visibilityChanged.connect(widget.setVisible)

    # ---- arrangement -----------------------------------------------------------------------------
    def reset(self) -> None:
        """As it was first: project, four images, inspector."""
        docks, window = self.docks, self._window
        for dock in docks.values():
            dock.setFloating(False)
            window.removeDockWidget(dock)
        window.addDockWidget(_LEFT, docks["project"])
        for before, after, where in (
            ("project", "diffraction", _ACROSS),
            ("diffraction", "real", _ACROSS),
            ("real", "inspector", _ACROSS),
            ("diffraction", "profile", _DOWN),
            ("real", "result", _DOWN),
            ("project", "jobs", _DOWN),
        ):
            window.splitDockWidget(docks[before], docks[after], where)
        for dock in docks.values():
            dock.show()
        self.proportions()

    def proportions(self) -> None:
        """Images take what the sides leave; the upper ones more than the lower."""
        docks = self.docks
        across = [docks[n] for n in ("project", "diffraction", "real", "inspector")]
        self._window.resizeDocks(across, [180, 400, 400, 290], _ACROSS)
        for upper, lower in (("diffraction", "profile"), ("real", "result"), ("project", "jobs")):
            self._window.resizeDocks([docks[upper], docks[lower]], [440, 250], _DOWN)

    def layout(self, count: int, focused: str) -> None:
        """Show one to four of the images."""
        shown = LAYOUTS[count] or (focused,)
        for name in IMAGES:
            self.docks[name].setVisible(name in shown)
        if count == max(LAYOUTS):
            self.proportions()

    def add(self, name: str, title: str, widget: QtWidgets.QWidget) -> QtWidgets.QDockWidget:
        """Show a tool as one more tab beside the inspector; the console below, where it is wide."""
        dock = self.docks[name] = self._dock(name, title)
        self.fill(name, widget)
        if name == "panel:console":
            self._window.addDockWidget(QtCore.Qt.DockWidgetArea.BottomDockWidgetArea, dock)
            self._lay_low(dock)
            return dock
        self._window.addDockWidget(QtCore.Qt.DockWidgetArea.RightDockWidgetArea, dock)
        self._window.tabifyDockWidget(self.docks["inspector"], dock)
        QtCore.QTimer.singleShot(0, self._whole_titles)
        return dock

    def _whole_titles(self) -> None:
        """Tabs are scrolled rather than cut to a letter; Qt makes their bar after the event."""
        for bar in self._window.findChildren(QtWidgets.QTabBar):
            bar.setElideMode(QtCore.Qt.TextElideMode.ElideNone)

    def _lay_low(self, dock: QtWidgets.QDockWidget) -> None:
        """Begin with a low panel that can be made higher: Qt would give it most of the window."""
        dock.setMaximumHeight(240)
        later = QtCore.QTimer(self)
        later.setSingleShot(True)
        later.timeout.connect(lambda: dock.setMaximumHeight(_ANY))
        later.start(100)

    def bring(self, name: str) -> None:
        """Show a panel in front."""
        dock = self.docks[name]
        dock.show()
        dock.raise_()

    def of(self, widget: Any) -> str:
        """Name of the panel that a widget lies in, or ""."""
        while widget is not None:
            if isinstance(widget, QtWidgets.QDockWidget):
                return next((n for n, d in self.docks.items() if d is widget), "")
            widget = widget.parentWidget()
        return ""

    def toggles(self, make: Callable[[Any], None]) -> None:
        """Hand over the actions that show and hide the panels."""
        for dock in self.docks.values():
            make(dock.toggleViewAction())

    # ---- from one start to the next --------------------------------------------------------------
    def save(self) -> None:
        """Keep size and arrangement for the next start."""
        settings = _settings()
        settings.setValue("geometry", self._window.saveGeometry())
        settings.setValue("state", self._window.saveState(VERSION))

    def restore(self) -> bool:
        """Arrange everything as it was left; False where there is nothing, or nothing usable."""
        settings = _settings()
        geometry, state = settings.value("geometry"), settings.value("state")
        if not isinstance(geometry, QtCore.QByteArray) or not isinstance(state, QtCore.QByteArray):
            return False
        self._window.restoreGeometry(geometry)
        return bool(self._window.restoreState(state, VERSION))


def _settings() -> QtCore.QSettings:
    path = str(folder() / "window.ini")
    return QtCore.QSettings(path, QtCore.QSettings.Format.IniFormat)
