"""The main window: it puts the parts together and lets them find each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui import preferences as kept
from py4DSTEM.gui import theme
from py4DSTEM.gui.docks import IMAGES, Docks
from py4DSTEM.gui.errors import Troubles
from py4DSTEM.gui.live import Live
from py4DSTEM.gui.menus import Actions
from py4DSTEM.gui.panels import PANELS, panel_class
from py4DSTEM.gui.preferences import Preferences
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.project import Project
from py4DSTEM.gui.views.images import image_views
from py4DSTEM.gui.views.inspector import Inspector
from py4DSTEM.gui.views.jobs import JobsView
from py4DSTEM.gui.views.status import Status
from py4DSTEM.gui.views.tree import ProjectTree
from py4DSTEM.stream.options import parse_bytes

__all__ = ["MainWindow"]

TITLES = {
    "import": "Import",
    "quality": "Quality",
    "bragg": "Bragg disks",
    "calibration": "Calibration",
    "strain": "Strain",
    "step": "Step",
    "result": "Figure",
    "batch": "Runs",
    "console": "Console",
}


class MainWindow(QtWidgets.QMainWindow):
    """The window around one session.

    Parameters
    ----------
    session : Session
    preferences : Preferences, optional
        None: those that were saved.
    safe : bool
        Whether to leave saved arrangements alone.
    """

    closed = QtCore.Signal()

    def __init__(
        self, session: Session, preferences: Preferences | None = None, *, safe: bool = False
    ) -> None:
        super().__init__()
        self.session = session
        self.preferences = kept.load() if preferences is None else preferences
        session.cache_options = cache_options(self.preferences)
        self.safe = safe
        self.focused = "diffraction"
        """Name of the image that had the focus last."""
        self.troubles = Troubles(lambda: session.history.acts, self)
        self.live = Live(session, self)
        self.docks = Docks(self)
        self.panels: dict[str, QtWidgets.QWidget] = {}
        self._released: Callable[[], None] | None = None
        self._ended = False
        self.hurried = False
        """Whether the program ends without having asked."""
        self.shown_image: Any = None
        """The latest live image, as `Shown`."""
        self._make_views()
        self.actions_ = Actions(self, self.preferences.shortcuts)
        self._connect()
        self._refresh(session.project)
        self.resize(1280, 800)
        self.setAcceptDrops(True)
        if not safe:
            self.docks.restore()

    def _make_views(self) -> None:
        self.tree, self.jobs = ProjectTree(self.session), JobsView(self.session.jobs)
        self.inspector, self.status = Inspector(self.session), Status(self.session)
        self.views: dict[str, Any] = image_views(self.session, self.live)
        for name, view in self.views.items():
            self.docks.fill(name, view)
        for name in ("project", "jobs", "inspector"):
            self.docks.fill(name, {"project": self.tree}.get(name) or getattr(self, name))
        self.setStatusBar(self.status)

    def _connect(self) -> None:
        session = self.session
        session.changed.connect(self._changed)
        session.troubled.connect(self.troubles.show)
        session.said.connect(self.status.say)
        session.panelWanted.connect(self._panel_wanted)
        session.importWanted.connect(self.import_file)
        self.live.pattern.connect(self.status.shown)
        self.live.image.connect(self.status.shown)
        self.live.image.connect(self._keep_image)
        session.stage.hovered.connect(self._hover)
        detectors = self.inspector.tabs["detectors"]
        self.live.image.connect(detectors.show_image)
        menus = self.actions_.menus
        detectors.set_menus(menus["Detector/Add"], menus["Detector/Preset"])
        self.tree.asked.connect(self._asked)
        self.jobs.explain.connect(self.troubles.show)
        self.docks.toggles(self.actions_.menus["Window"].addAction)
        app: Any = QtWidgets.QApplication.instance()
        app.focusChanged.connect(self._focus_moved)
        recent = self.actions_.submenu("File", "Open recent", before="file.open_folder")
        recent.aboutToShow.connect(lambda: self._fill_recent(recent))
        steps = self.actions_.submenu("Analyze", "All steps", before="analyze.step")
        steps.aboutToShow.connect(lambda: self._fill_steps(steps))

    # ---- what others ask of it -------------------------------------------------------------------
    @property
    def scan(self) -> Any:
        """The scan that is shown; `ParameterError` without one."""
        found = self.session.project.scan
        if found is None:
            raise ParameterError("there is no scan: open one first")
        return found

    @property
    def cube(self) -> Cube:
        """The calibrated scan that is shown; `ParameterError` while it is being opened."""
        found = self.session.cube(self.scan.key)
        if found is None:
            raise ParameterError(f"{self.scan.name} is still being opened")
        return found

    def images(self) -> list[QtWidgets.QWidget]:
        """The panels with images, which some keys are for."""
        return [self.docks.docks[name] for name in IMAGES]

    def view(self, *allowed: str) -> Any:
        """The image that has the focus, or had it last, if it is one of `allowed`."""
        known = allowed or tuple(self.views)
        return self.views[self.focused if self.focused in known else known[0]]

    def open(self, *paths: str) -> None:
        """Open files, whatever they are; each that cannot be opened is told."""
        for path in paths:
            self.actions_.room("file").open_path(path)

    def remember(self, path: str) -> None:
        """Put a file first among those opened last."""
        self.prefer(kept.remembered(self.preferences, str(Path(path).absolute())))

    def prefer(self, preferences: Preferences) -> None:
        """Go by other preferences from now on."""
        before, self.preferences = self.preferences, preferences
        self.session.cache_options = cache_options(preferences)
        if before.theme != preferences.theme:
            theme.apply(preferences.theme)
        if before.shortcuts != preferences.shortcuts:
            self.actions_.rebind(preferences.shortcuts)
        if not self.safe:
            kept.save(preferences)

    def show_panel(self, name: str) -> Any:
        """Open a tool beside the images, or bring it to the front; its widget."""
        if name not in self.panels:
            try:
                made = panel_class(name)(self.session, self)
            except ModuleNotFoundError as error:
                raise ParameterError(
                    f"{TITLES.get(name, name)}: this part is not installed ({error})"
                ) from error
            self.panels[name] = made
            self.docks.add(f"panel:{name}", TITLES.get(name, PANELS[name]), made)
        self.docks.bring(f"panel:{name}")
        return self.panels[name]

    def import_file(self, path: str, why: str = "") -> None:
        """Let a file be opened by hand: its layout and the shape of its scan."""
        self.show_panel("import").look(path, why)

    def ask(self, title: str, question: str, *choices: str) -> str:
        """One of some choices, or "" when the question was closed; the last one is the safe one."""
        box = QtWidgets.QMessageBox(self)
        box.setWindowTitle(title)
        box.setText(question)
        roles = QtWidgets.QMessageBox.ButtonRole
        buttons = {
            choice: box.addButton(choice, roles.RejectRole if last else roles.ActionRole)
            for choice, last in ((c, c == choices[-1]) for c in choices)
        }
        box.setDefaultButton(buttons[choices[-1]])
        box.setEscapeButton(buttons[choices[-1]])
        box.exec()
        return next((c for c, button in buttons.items() if button is box.clickedButton()), "")

    def focus(self, name: str) -> None:
        """Give an image the focus, and with it the keys."""
        self.docks.bring(name)
        view = self.views[name]
        getattr(view, "canvas", view).setFocus(QtCore.Qt.FocusReason.ShortcutFocusReason)
        self.focused = name

    def show_detectors(self) -> None:
        """Bring the table of detectors to the front, if the inspector is there."""
        self.inspector.bring("detectors")

    def while_held(self, release: Callable[[], None]) -> None:
        """Call `release` when the key that is down now is let go, or the focus goes elsewhere."""
        if self._released is not None:
            return
        self._released = release
        held = QtWidgets.QApplication.focusWidget() or self
        held.installEventFilter(self)

    # ---- what happens ----------------------------------------------------------------------------
    def _changed(self, before: Project, after: Project) -> None:
        self._refresh(after)

    def _refresh(self, project: Project) -> None:
        history = self.session.history
        self.actions_.enable(project.scan is not None, history.undo_label, history.redo_label)
        title = "py4DSTEM"
        if project.scan is not None:
            data = self.session.data(project.scan.key)
            title = f"{project.scan.name} {'' if data is None else describe(data.cube)} — {title}"
        if title != self.windowTitle():
            self.setWindowTitle(title)

    def _keep_image(self, shown: Any) -> None:
        self.shown_image = shown

    def _panel_wanted(self, name: str) -> None:
        try:
            self.show_panel(name)
        except Exception as error:  # as for the actions of the table
            self.troubles.show(f"open the panel {name}", error)

    def _hover(self, panel: str, place: Any) -> None:
        self.status.hover(panel, place, self.views.get(panel))

    def _asked(self, what: str, key: str, name: str) -> None:
        self.actions_.room("tree").asked(what, key, name)

    def _focus_moved(self, old: Any, new: Any) -> None:
        name = self.docks.of(new)
        if name in IMAGES:
            self.focused = name

    def _fill_recent(self, menu: QtWidgets.QMenu) -> None:
        menu.clear()
        for path in self.preferences.recent:
            action = menu.addAction(path.replace("&", "&&"))
            action.triggered.connect(lambda _=False, path=path: self.open(path))
        menu.setEnabled(True)
        if not self.preferences.recent:
            menu.addAction("Nothing yet").setEnabled(False)

    def _fill_steps(self, menu: QtWidgets.QMenu) -> None:
        self.actions_.room("analyze").fill(menu)

    # ---- events ----------------------------------------------------------------------------------
    def eventFilter(self, watched: Any, event: Any) -> bool:
        """See a key being let go."""
        types = QtCore.QEvent.Type
        gone = event.type() == types.FocusOut
        up = event.type() == types.KeyRelease and not event.isAutoRepeat()
        if (gone or up) and self._released is not None:
            release, self._released = self._released, None
            watched.removeEventFilter(self)
            release()
        return False

    def dragEnterEvent(self, event: Any) -> None:
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        paths = [url.toLocalFile() for url in event.mimeData().urls()]
        event.acceptProposedAction()
        self.open(*filter(None, paths))

    def closeEvent(self, event: QtGui.QCloseEvent | None) -> None:
        """Ask about what is not saved; then end all work."""
        if not self._ended and not self.actions_.room("file").may_close():
            if event is not None:
                event.ignore()
            return
        self.stop()
        super().closeEvent(event)

    def end(self) -> None:
        """Close without asking: what is not saved has been kept for the next start."""
        self.hurried = True
        self.stop()
        self.close()

    def offer_recovery(self) -> None:
        """Ask whether to go on where a program that ended badly had stopped."""
        self.actions_.room("file").offer_recovery()

    def stop(self) -> None:
        """Keep the arrangement and let the threads end; once."""
        if self._ended:
            return
        self._ended = True
        if not self.safe:
            self.docks.save()
        app: Any = QtWidgets.QApplication.instance()
        app.focusChanged.disconnect(self._focus_moved)
        self.status.stop()
        self.inspector.stop()
        self.actions_.room("file").stop()
        self.live.stop()
        for view in self.views.values():
            if hasattr(view, "stop"):
                view.stop()
        self.session.close()
        self.closed.emit()


def cache_options(preferences: Preferences) -> dict[str, Any]:
    """
    >>> cache_options(Preferences(memory="2 GB"))
    {'memory_bytes': 2000000000}
    """
    options: dict[str, Any] = {}
    if preferences.memory:
        options["memory_bytes"] = parse_bytes(preferences.memory)
    if preferences.cache_folder:
        options["folder"] = preferences.cache_folder
    return options


def describe(cube: Cube) -> str:
    """
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> describe(DataCube(np.zeros((3, 4, 5, 6), np.uint16)))
    '[3×4 | 5×6 uint16 | 720 B]'
    """
    from py4DSTEM.gui.machine import size

    (rx, ry), (qx, qy) = cube.R_shape, cube.Q_shape
    return f"[{rx}×{ry} | {qx}×{qy} {cube.dtype} | {size(cube.nbytes)}]"
