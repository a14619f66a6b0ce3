"""Autosave: what is open is kept at intervals, and offered after a program that ended badly."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyqtgraph.Qt import QtCore

from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.preferences import folder
from py4DSTEM.gui.state.project import Project

__all__ = ["Keeper", "autosave_folder"]


def autosave_folder() -> Path:
    """Where all programs of this user keep what is open."""
    return folder() / "autosave"


class Keeper(QtCore.QObject):
    """Writes the project down whenever some time has passed and something has changed.

    Parameters
    ----------
    window : MainWindow
    """

    kept = QtCore.Signal(object)
    """The `Project` that has been written down."""

    def __init__(self, window: Any) -> None:
        super().__init__(window)
        self._window = window
        self._autosave: Any = None
        self._lane: Lane | None = None
        self._last: Project | None = None
        self._recovered: Any = None
        self._clock = QtCore.QTimer(self)
        self._clock.timeout.connect(self.keep)
        seconds = window.preferences.autosave_s
        if seconds and not window.safe:
            self._clock.start(seconds * 1000)

    def keep(self) -> None:
        """Write down what is open, beside the GUI thread, unless it is written down already."""
        project = self._window.session.project
        if project is self._last or not (project.scans or self._last):
            return
        if self._lane is None:
            self._lane = Lane(self._write, "autosave", self)
            self._lane.answered.connect(self._written)
        self._last = project
        self._lane.ask((project, self._window.session.cubes()))

    def _write(self, request: tuple[Project, Any]) -> Project:
        from py4DSTEM.gui.state.autosave import Autosave

        project, cubes = request
        if self._autosave is None:
            self._autosave = Autosave(autosave_folder())
        self._autosave.keep(project, cubes)
        return project

    def _written(self, answer: Answer) -> None:
        if answer.error is not None:
            self._clock.stop()  # once is enough: the next start of the program tries again
            self._window.session.troubled.emit("keep a copy of the project", answer.error)
        elif answer.value is not None:
            if self._recovered is not None:
                self._recovered.discard()
                self._recovered = None
            self.kept.emit(answer.value)

    def stop(self, *, keep: bool) -> None:
        """At the end of the program: leave a copy behind, or nothing."""
        self._clock.stop()
        if self._lane is not None:
            self._lane.stop()
            self._lane.wait()
        with contextlib.suppress(Py4DSTEMError, OSError):  # there is nobody to tell any more
            if keep and not self._window.safe:
                self._write((self._window.session.project, self._window.session.cubes()))
            elif self._autosave is not None:
                self._autosave.close()
            if self._recovered is not None:  # it has been kept again, or is not wanted any more
                self._recovered.discard()

    # ---- at the next start -----------------------------------------------------------------------
    def offer(self, restore: Callable[[Any], None]) -> None:
        """Look for what was left behind, and ask what to do with it."""
        if self._window.safe:
            return

        def look(_: Any) -> Any:
            from py4DSTEM.gui.state.autosave import recoverable

            return recoverable(autosave_folder())

        self._window.session.jobs.submit(
            "look for unsaved work",
            look,
            done=lambda found: self._ask(found, restore) if found else None,
            failed=lambda error: self._window.session.troubled.emit("look for unsaved work", error),
            at_once=True,
        )

    def _ask(self, found: Any, restore: Callable[[Any], None]) -> None:
        crashed = found[0]
        when = time.strftime("%d %B %H:%M", time.localtime(crashed.time_s))
        choice = self._window.ask(
            "Unsaved work",
            f"The program ended without saving on {when}: {', '.join(crashed.scans)}, "
            f"with {crashed.results} results.",
            "Recover", "Discard", "Later",
        )  # fmt: skip
        if choice == "Discard":
            crashed.discard()
        elif choice == "Recover":
            self._window.session.jobs.submit(
                "recover unsaved work",
                lambda _: crashed.restore(),
                done=lambda restored: self._recover(restored, crashed, restore),
                failed=lambda error: self._window.session.troubled.emit("recover", error),
                at_once=True,
            )

    def _recover(self, restored: Any, crashed: Any, restore: Callable[[Any], None]) -> None:
        restore(restored)
        self._recovered = crashed
        self.keep()
