"""The File menu: what is opened, saved and closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyqtgraph.Qt import QtWidgets

from py4DSTEM.errors import FileMissing

__all__ = ["Handlers"]


class Handlers:
    """What the actions of the menu do."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._session = window.session

    def open(self) -> None:
        """Ask for files."""
        paths, _ = QtWidgets.QFileDialog.getOpenFileNames(self._window, "Open")
        self._window.open(*paths)

    def open_path(self, path: str) -> None:
        """Open a file of any kind."""
        if not Path(path).exists():
            self._session.troubled.emit(
                f"open {path}", FileMissing("there is no such file", path=path)
            )
            return
        self._session.open(path)
        self._window.remember(path)

    def may_close(self) -> bool:
        return True

    def stop(self) -> None:
        pass

    def quit(self) -> None:
        self._window.close()
