"""The Edit menu."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtGui

__all__ = ["Handlers"]


class Handlers:
    """What the actions of the menu do."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._session = window.session

    def undo(self) -> None:
        self._session.undo()

    def redo(self) -> None:
        self._session.redo()

    def copy_image(self) -> None:
        """As it is shown, with axes and scale bar."""
        view = self._window.view()
        QtGui.QGuiApplication.clipboard().setPixmap(view.grab())
        self._session.said.emit("the image is on the clipboard")

    def copy_python(self) -> None:
        """The program that does the same, from the file to the results."""
        from py4DSTEM.gui.state.code import script

        text = script(self._session.project, self._window.scan.key)
        QtGui.QGuiApplication.clipboard().setText(text)
        self._session.said.emit("the Python is on the clipboard")

    def preferences(self) -> None:
        from py4DSTEM.gui.preferences_dialog import PreferencesDialog

        PreferencesDialog(self._window).show()
