"""The Calibrate menu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyqtgraph.Qt import QtWidgets

from py4DSTEM.api import read
from py4DSTEM.core.calibration import Calibration, Measured
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.state.commands import AddLayer
from py4DSTEM.gui.state.project import Layer

__all__ = ["Handlers", "calibrations_in"]


class Handlers:
    """What the actions of the menu do."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._session = window.session

    def wizard(self) -> None:
        self._window.show_panel("calibration")

    def by_hand(self) -> None:
        self._window.docks.bring("inspector")
        self._window.inspector.bring("calibration")

    def from_file(self) -> None:
        """Ask for files with calibrations."""
        path, _ = QtWidgets.QFileDialog.getOpenFileName(self._window, "Calibration of a file")
        if path:
            self.read(path)

    def read(self, path: str) -> None:
        """Take what was measured from a file, as layers of this scan."""
        key = self._window.scan.key

        def keep(found: dict[str, Any]) -> None:
            for name, value in found.items():
                self._session.do(AddLayer(key=key, layer=Layer(name=name, value=value)))

        self._session.jobs.submit(
            f"read calibrations of {Path(path).name}",
            lambda _: calibrations_in(path),
            done=keep,
            failed=lambda error: self._session.troubled.emit(f"read {path}", error),
            at_once=True,
        )

    def raw(self) -> None:
        self._session.raw = self._window.actions_.made["calibrate.raw"].isChecked()

    def look_raw(self) -> None:
        """While the key is held."""
        before = self._session.raw

        def back() -> None:
            self._session.raw = before

        self._session.raw = not before
        self._window.while_held(back)


def calibrations_in(path: str) -> dict[str, Any]:
    """Measured quantities of a file by name; else the calibration of the one scan in it."""
    value = read(path)
    objects = value if isinstance(value, dict) else {Path(path).stem: value}
    found = {name: v for name, v in objects.items() if isinstance(v, Measured | Calibration)}
    carried = [v.calibration for v in objects.values() if hasattr(v, "calibration")]
    if not found and carried:
        found = {Path(path).stem: carried[0]}
    if not found:
        raise ParameterError(f"{path} holds no calibration: choose a file with measured ones")
    return found
