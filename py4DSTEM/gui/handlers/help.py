"""The Help menu."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM import __version__
from py4DSTEM.errors import FileMissing
from py4DSTEM.gui.errors import redacted, report
from py4DSTEM.gui.files import ask_save, write_job, write_whole
from py4DSTEM.gui.palette import Palette
from py4DSTEM.gui.preferences import log_path
from py4DSTEM.gui.shortcuts import Shortcuts

__all__ = ["Handlers"]

LOG_CHARACTERS = 200_000
DOCUMENTATION = "https://py4dstem.readthedocs.io"
ABOUT = (
    f"py4DSTEM {__version__}\n\n4D-STEM analysis: open any scan, image it, map it, "
    "reconstruct it.\n\nFree software under the GNU General Public License, version 3 or later."
)


class Handlers:
    """What the actions of the menu do."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._palette: Palette | None = None
        self._shortcuts: Shortcuts | None = None
        self._tour: Any = None

    def palette(self) -> None:
        self._palette = self._palette or Palette(self._window)
        self._palette.open_fresh()

    def shortcuts(self) -> None:
        self._shortcuts = self._shortcuts or Shortcuts(self._window)
        self._shortcuts.refresh()
        self._shortcuts.show()
        self._shortcuts.raise_()

    def tour(self) -> None:
        """The tour, where it was left."""
        from py4DSTEM.gui.tour import Tour

        self._tour = self._tour or Tour(self._window)
        self._tour.show()
        self._tour.raise_()

    def sample(self) -> None:
        """Simulate a scan beside the window, and show it."""
        session = self._window.session
        session.jobs.submit(
            "simulate a sample",
            lambda _: sample_scan(),
            done=lambda cube: session.add_cube(cube, "sample"),
            failed=lambda error: session.troubled.emit("simulate a sample", error),
            at_once=True,
        )

    def documentation(self) -> None:
        QtGui.QDesktopServices.openUrl(QtCore.QUrl(DOCUMENTATION))

    def diagnostics(self) -> None:
        text = report([], self._window.session.history.acts)
        QtGui.QGuiApplication.clipboard().setText(text)
        self._window.session.said.emit("versions and last acts are on the clipboard")

    def save_diagnostics(self) -> None:
        """Ask where to."""
        ask_save(
            self._window, "Save diagnostics", "py4dstem_diagnostics.txt", "Text (*.txt)",
            self.write_diagnostics,
        )  # fmt: skip

    def write_diagnostics(self, path: str) -> Any:
        """Versions, last acts, and the end of the log, without names of the user's folders."""
        text = report([], self._window.session.history.acts)
        return write_job(
            self._window.session, path, lambda _: write_whole(path, f"{text}\n\n{_end_of_log()}")
        )

    def log(self) -> None:
        path = log_path()
        if not path.exists():
            raise FileMissing("nothing has been written to the log so far", path=str(path))
        QtGui.QDesktopServices.openUrl(QtCore.QUrl.fromLocalFile(str(path)))

    def about(self) -> None:
        box = QtWidgets.QMessageBox(self._window)
        box.setWindowTitle("About py4DSTEM")
        box.setText(ABOUT)
        box.setModal(False)
        box.show()


def _end_of_log() -> str:
    """The last of what went wrong, without the name of the home folder."""
    path = log_path()
    if not path.exists():
        return "the log is empty"
    return redacted(path.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:])


def sample_scan() -> Any:
    """A strained crystal, small enough to be made in a second or two."""
    from py4DSTEM.simulate import strained_lattice

    return strained_lattice((24, 32), (96, 88)).cube
