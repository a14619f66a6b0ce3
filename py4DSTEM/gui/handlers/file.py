"""The File menu: what is opened, saved and closed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.errors import FileMissing, ParameterError
from py4DSTEM.gui.keeper import Keeper
from py4DSTEM.gui.state.project import Project

__all__ = ["Handlers", "is_worth_saving", "scans_in"]

PROJECTS = "Projects (*.p4d)"
MOST_AT_ONCE = 20
"""Files of a folder that are opened without asking."""


class Handlers:
    """What the actions of the menu do."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._session = window.session
        self._path = ""
        self._saved: Project | None = None
        self._keeper = Keeper(window)

    # ---- open ------------------------------------------------------------------------------------
    def open(self) -> None:
        """Ask for files."""
        paths, _ = QtWidgets.QFileDialog.getOpenFileNames(self._window, "Open")
        self._window.open(*paths)

    def open_path(self, path: str) -> None:
        """Open a file of any kind, or a folder; what is open stays, whatever comes of it."""
        if not Path(path).exists():
            error = FileMissing("there is no such file", path=path)
            self._session.troubled.emit(f"open {Path(path).name}", error)
        elif _alt_is_down() and Path(path).is_file():
            self._window.import_file(path)
        elif Path(path).suffix == ".p4d":
            self.read_project(path)
        elif Path(path).is_dir() and not is_store(Path(path)):
            self.open_all(path)
        else:
            self._session.open(path)
            self._window.remember(path)

    def open_folder(self) -> None:
        """Ask for a folder."""
        path = QtWidgets.QFileDialog.getExistingDirectory(self._window, "Open folder")
        if path:
            self.open_path(path)

    def open_all(self, folder: str) -> None:
        """All scans of a folder; they are looked for beside the window."""

        def show(paths: list[str]) -> None:
            many = len(paths) > MOST_AT_ONCE
            if many and self._window.ask(
                "Open folder", f"Open all {len(paths)} files of {folder}?", "Open all", "Cancel"
            ) != "Open all":  # fmt: skip
                return
            self._window.open(*paths)

        self._session.jobs.submit(
            f"look through {Path(folder).name}",
            lambda _: scans_in(folder),
            done=show,
            failed=lambda error: self._session.troubled.emit(f"open the folder {folder}", error),
            at_once=True,
        )

    def import_scan(self) -> None:
        """Show the assistant; it asks for a file where it has none."""
        panel = self._window.show_panel("import")
        if not panel.path:
            panel.choose()

    # ---- projects --------------------------------------------------------------------------------
    def open_project(self) -> None:
        """Ask for a project."""
        path, _ = QtWidgets.QFileDialog.getOpenFileName(self._window, "Open project", "", PROJECTS)
        if path:
            self.read_project(path)

    def read_project(self, path: str) -> None:
        """Show a saved project in place of what is open."""
        if not self.may_close():
            return

        def show(restored: Any) -> None:
            self.restore(restored)
            self._path, self._saved = path, self._session.project
            self._window.remember(path)

        self._session.jobs.submit(
            f"open {Path(path).name}",
            lambda _: _store().load_project(path),
            done=show,
            failed=lambda error: self._session.troubled.emit(f"open the project {path}", error),
            at_once=True,
        )

    def restore(self, restored: Any) -> None:
        """Show what was saved, and say what could not be brought back."""
        self._session.restore(restored.project, restored.cubes)
        if restored.notes:
            error = ParameterError("\n".join(restored.notes))
            self._session.troubled.emit("bring everything back", error)

    def save_project(self) -> None:
        """To where it was saved before; ask where there was none."""
        if self._path:
            self.write_project(self._path)
        else:
            self.save_project_as()

    def save_project_as(self) -> None:
        """Ask where to save it."""
        path, _ = QtWidgets.QFileDialog.getSaveFileName(
            self._window, "Save project", f"{self._window.scan.name}.p4d", PROJECTS
        )
        if path:
            self.write_project(path if Path(path).suffix else f"{path}.p4d")

    def write_project(self, path: str, then: Any = None) -> None:
        """Save what is open now; `then` is called when it is on the disk."""
        project = self._session.project
        cubes = self._session.cubes()

        def done(notes: tuple[str, ...]) -> None:
            self._path, self._saved = path, project
            self._window.status.set_saved(f"saved {time.strftime('%H:%M')}")
            self._window.remember(path)
            if notes:
                error = ParameterError("\n".join(notes))
                self._session.troubled.emit("keep everything in the project", error)
            if then is not None:
                then()

        self._session.jobs.submit(
            f"save {Path(path).name}",
            lambda options: _store().save_project(path, project, cubes, options=options),
            done=done,
            failed=lambda error: self._session.troubled.emit(f"save {path}", error),
        )

    # ---- close -----------------------------------------------------------------------------------
    def close_scan(self) -> None:
        """The scan in front; ask where it has results that are in no file."""
        scan = self._window.scan
        alone = Project(scans=(scan,))
        if self._unsaved() and is_worth_saving(alone) and self._window.ask(
            "Close scan", f"{scan.name} has results that are not saved.", "Close", "Cancel"
        ) != "Close":  # fmt: skip
            return
        self._session.close_scan(scan.key)

    def quit(self) -> None:
        self._window.close()

    def _unsaved(self) -> bool:
        return self._session.project is not self._saved

    def may_close(self) -> bool:
        """Whether what is open may go: it is saved, or worth nothing, or the user says so."""
        if not (self._unsaved() and is_worth_saving(self._session.project)):
            return True
        choice = self._window.ask(
            "Unsaved results",
            "There are results and calibrations that are not saved.",
            "Save", "Discard", "Cancel",
        )  # fmt: skip
        if choice == "Save":
            self._save_and_close()
        return bool(choice == "Discard")

    def _save_and_close(self) -> None:
        if self._path:
            self.write_project(self._path, then=self._window.close)
            return
        path, _ = QtWidgets.QFileDialog.getSaveFileName(self._window, "Save project", "", PROJECTS)
        if path:
            path = path if Path(path).suffix else f"{path}.p4d"
            self.write_project(path, then=self._window.close)

    # ---- in case the program ends badly ----------------------------------------------------------
    def offer_recovery(self) -> None:
        """Ask about a session that did not end."""
        self._keeper.offer(self.restore)

    def stop(self) -> None:
        """The program ends as it should: nothing is left to recover, unless it had to hurry."""
        worth = self._unsaved() and is_worth_saving(self._session.project)
        self._keeper.stop(keep=worth and self._window.hurried)


def _alt_is_down() -> bool:
    alt = QtCore.Qt.KeyboardModifier.AltModifier
    return bool(QtGui.QGuiApplication.queryKeyboardModifiers() & alt)


def _store() -> Any:
    from py4DSTEM.gui.state import store

    return store


def is_worth_saving(project: Project) -> bool:
    """Whether something was measured that opening the files again does not bring back."""
    return any(
        any(result.made is None or result.made.kind != "read" for result in scan.results)
        or any(layer.name != "beam" for layer in scan.layers)
        for scan in project.scans
    )


def is_store(folder: Path) -> bool:
    """Whether a folder is one data set, as Zarr has them."""
    marks = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
    return folder.suffix == ".zarr" or any((folder / mark).exists() for mark in marks)


def scans_in(folder: str) -> list[str]:
    """Files of a folder that some format knows, by name; `ParameterError` where there are none."""
    from py4DSTEM.errors import Py4DSTEMError
    from py4DSTEM.io.format import Source, detect

    found = []
    for path in sorted(Path(folder).iterdir()):
        if path.name.startswith(".") or (path.is_dir() and not is_store(path)):
            continue
        try:
            if detect(Source.of(path)):
                found.append(str(path))
        except (Py4DSTEMError, OSError):  # of no use here
            continue
    if not found:
        raise ParameterError(f"no file of {folder} is of a format that can be read")
    return found
