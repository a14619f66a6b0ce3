"""A recipe over many files: put together, tried dry, run by a process of its own, looked at."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.batch.apart import Apart, Order, start, stop
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.files import ask_save, write_job, write_whole
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.panels.batch_files import FileList
from py4DSTEM.gui.panels.batch_recipe import RecipeEditor
from py4DSTEM.gui.panels.batch_table import RunTable
from py4DSTEM.gui.panels.parts import Note, button
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.batch import Draft, Line, Watched, planned_line, results_of, watched
from py4DSTEM.gui.state.project import Made
from py4DSTEM.gui.state.recipe import recipe
from py4DSTEM.recipe.read import text_of

__all__ = ["BatchPanel"]

Qt = QtCore.Qt
LOOK_MS = 600
"""Between two looks at a run that is at work."""
REST_MS = 3000
"""Between two looks at one that is not: somebody may go on with it elsewhere."""
RECIPES = "Recipe (*.toml *.json)"


class BatchPanel(QtWidgets.QWidget):
    """The recipe, the files, and a table of what becomes of them.

    A run works in a process of its own and goes on when the program is closed: what is shown is
    read from its folder, as with ``py4dstem status``.
    """

    def __init__(self, session: Session, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.run_: Apart | None = None
        self.seen: Watched | None = None
        """The run in the folder, as it was seen last; None: there is none, or a plan is shown."""
        self._holds_run = False
        self._asked_to_stop = False
        self._starting = False
        self._make_widgets()
        self._make_buttons()
        self._lay_out()
        self._clock = QtCore.QTimer(self)
        self._clock.timeout.connect(self._look)
        self._lane = lane = Lane(watched, "batch")
        lane.answered.connect(self._take)
        weakref.finalize(self, lane.stop)
        self.editor.checkedNow.connect(self._enable)
        self.editor.edited.connect(self._enable)
        self.force.toggled.connect(self._enable)
        self.files.changed.connect(self._enable)
        self.out.textChanged.connect(self._out_changed)
        self.table.opened.connect(self.open_line)
        self.table.customContextMenuRequested.connect(self._menu)
        if session.project.scan is not None:
            self.take_project()
        self._enable()

    # ---- widgets ---------------------------------------------------------------------------------
    def _make_widgets(self) -> None:
        self.editor, self.files, self.table = RecipeEditor(), FileList(), RunTable()
        self.out = _line("folder of the results", "Where the run is: its results, state, report.")
        self.workers = QtWidgets.QSpinBox()
        self.workers.setRange(1, 256)
        self.workers.setToolTip("Files worked on at the same time, each in a process of its own.")
        self.memory = _line("no limit", "For all processes together, such as 12 GB.")
        self.cluster = _line(
            "this machine",
            "Where the work is done: local, tcp://scheduler:8786, slurm, …; empty: processes of "
            "this machine.",
        )
        self.force = QtWidgets.QCheckBox("compute everything again")
        self.force.setToolTip(
            "Otherwise a run that is in the folder is gone on with: what is done, and would come "
            "out the same, stays."
        )
        self.bar = QtWidgets.QProgressBar()
        self.bar.setMaximumHeight(14)
        self.bar.setTextVisible(False)
        self.words, self.trouble = Note(), Note(error=True)

    def _make_buttons(self) -> None:
        self.editor.add_button(
            "project", "From project", "What was done to the scan in front, as a recipe.",
            self.take_project,
        )  # fmt: skip
        self.editor.add_button("open", "Open…", "Open the file of a recipe.", self.ask_recipe)
        self.editor.add_button("save", "Save…", "Save the recipe to a file.", self.ask_save)
        rows = (
            ("dry", "Dry run", "Say what would be done to each file, and why.", self.dry_run),
            ("run", "Run", "Work on the files, in a process that goes on when this program is "
             "closed.", self.run),
            ("stop", "Stop", "End after the steps in flight; once more: at once. It can be gone "
             "on with.", self.stop),
            ("retry", "Retry failed", "Work on the files once more that failed.", self.retry),
            ("report", "Report", "Write the page of the run, and open it in the browser.",
             self.report),
            ("attach", "Attach…", "Show a run that is somewhere, at work or not.",
             self.ask_attach),
        )  # fmt: skip
        self.buttons = {name: button(text, tip, act) for name, text, tip, act in rows}

    def _lay_out(self) -> None:
        self.tabs = QtWidgets.QTabWidget()
        self.tabs.addTab(self.editor, "Recipe")
        self.tabs.addTab(self.files, "Files")
        self.tabs.setTabToolTip(0, "What is done to every file.")
        self.tabs.setTabToolTip(1, "The files that it is done to.")
        lower = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(lower)
        column.setContentsMargins(4, 4, 4, 4)
        column.addLayout(self._settings())
        row = QtWidgets.QHBoxLayout()
        for one in self.buttons.values():
            row.addWidget(one)
        row.addStretch(1)
        column.addLayout(row)
        for widget in (self.trouble, self.words, self.bar):
            column.addWidget(widget)
        column.addWidget(self.table, 1)
        split = QtWidgets.QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.tabs)
        split.addWidget(lower)
        split.setStretchFactor(0, 2)
        split.setStretchFactor(1, 3)
        whole = QtWidgets.QVBoxLayout(self)
        whole.setContentsMargins(2, 2, 2, 2)
        whole.addWidget(split)

    def _settings(self) -> Any:
        grid = QtWidgets.QGridLayout()
        grid.addWidget(QtWidgets.QLabel("results in"), 0, 0)
        grid.addWidget(self.out, 0, 1, 1, 4)
        choose = button("Choose…", "Choose the folder of the results.", self.ask_out)
        grid.addWidget(choose, 0, 5)
        pairs: tuple[tuple[str, Any], ...] = (
            ("at a time", self.workers), ("memory", self.memory), ("cluster", self.cluster),
        )  # fmt: skip
        for k, (text, widget) in enumerate(pairs):
            label = QtWidgets.QLabel(text)
            label.setToolTip(widget.toolTip())
            grid.addWidget(label, 1, 2 * k)
            grid.addWidget(widget, 1, 2 * k + 1)
        grid.addWidget(self.force, 2, 1, 1, 5)
        return grid

    # ---- the draft -------------------------------------------------------------------------------
    def draft(self) -> Draft:
        """What would be run as it is set now."""
        recipe = self.editor.draft()
        return Draft(
            text=recipe.text, name=recipe.name, folder=recipe.folder, inputs=self.files.names,
            out=self.out.text().strip(), workers=self.workers.value(),
            memory=self.memory.text().strip(), cluster=self.cluster.text().strip(),
            force=self.force.isChecked(),
        )  # fmt: skip

    def take_project(self) -> None:
        """The recipe of the scan in front."""
        scan = self.session.project.scan
        if scan is None:
            raise ParameterError("there is no scan: open one first, or a recipe")
        self.editor.show_text(recipe(self.session.project, scan.key), f"{scan.name}.toml")
        self.tabs.setCurrentIndex(0)

    def ask_recipe(self) -> None:
        """Ask for the file of a recipe."""
        path, _ = QtWidgets.QFileDialog.getOpenFileName(self, "Open recipe", "", RECIPES)
        if path:
            self.open_recipe(path)

    def open_recipe(self, path: str) -> None:
        """Show the recipe of a file; it need not be right."""

        def show(text: str) -> None:
            self.editor.show_text(text, Path(path).name, str(Path(path).resolve().parent))
            self.tabs.setCurrentIndex(0)

        self._submit(f"open {Path(path).name}", lambda: text_of(Path(path)), show)

    def ask_save(self) -> None:
        """Ask where the recipe is to be saved."""
        text = self.editor.text.toPlainText()
        ask_save(
            self, "Save recipe", self.editor.name or "recipe.toml", "Recipe (*.toml)",
            lambda path: write_job(self.session, path, lambda _: write_whole(path, text)),
        )  # fmt: skip

    def ask_out(self) -> None:
        """Ask for the folder of the run."""
        path = QtWidgets.QFileDialog.getExistingDirectory(self, "Folder of the results")
        if path:
            self.out.setText(path)

    # ---- acts ------------------------------------------------------------------------------------
    def press(self, name: str) -> None:
        """As a click on a button; says what is missing where it can do nothing."""
        if not self.buttons[name].isEnabled():
            raise ParameterError(self._missing(name))
        self.buttons[name].click()

    def _missing(self, name: str) -> str:
        if name in ("dry", "run"):
            if self._running or (self.seen is not None and self.seen.at_work):
                return "a run is at work in this folder: wait for its end, or stop it"
            found = self.editor.found
            if found is not None and found.problems:
                return "\n".join(found.lines)
            self.draft().order()
            return "the recipe is still being looked at: try again in a moment"
        words = {
            "stop": "no run is at work in this folder",
            "retry": "no file has failed",
            "report": "there is no run: begin one, or attach to one",
        }
        return words[name]

    def dry_run(self) -> None:
        """Show what would be done to each file, and why."""
        draft = self.draft()

        def show(lines: list[Line]) -> None:
            self.seen = None
            self._clock.stop()
            self.table.show_lines(lines)
            todo = sum(line.level != "good" for line in lines)
            self.words.say(f"dry run: {todo} of {len(lines)} files to do; nothing was run")
            self.bar.hide()
            self._enable()

        self._submit("dry run", lambda: [planned_line(p) for p in draft.plan()], show)

    def run(self) -> None:
        """Begin the run, or go on with the one in the folder."""
        draft = self.draft()
        self._start(draft.order)

    def retry(self) -> None:
        """The files that failed once more."""
        if self.seen is not None:
            self._again(self.seen.failed)

    def _again(self, sources: tuple[str, ...]) -> None:
        """Some files of the run once more, by its own recipe."""
        draft = self.draft()

        def order() -> Order:
            text = text_of(Path(draft.out) / "run.toml")
            again = Draft(
                text=text, name="run.toml", inputs=sources, out=draft.out, workers=draft.workers,
                memory=draft.memory, cluster=draft.cluster,
            )  # fmt: skip
            return again.order()

        if sources:
            self._start(order)

    def _start(self, order: Callable[[], Order]) -> None:
        def begun(run: Apart) -> None:
            self.run_, self._asked_to_stop, self._starting = run, False, False
            self.words.say("beginning")
            self._clock.start(LOOK_MS)
            self._enable()

        self._starting = True
        self._enable()
        self._submit("begin the run", lambda: start(order()), begun)

    def stop(self) -> None:
        """End the run after the steps in flight; asked again: at once."""
        out, now = self.draft().out, self._asked_to_stop

        def asked(_: Any) -> None:
            self._asked_to_stop = True
            self.words.say("stopping at once" if now else "stopping after the steps in flight")
            self._enable()

        self._submit("stop the run", lambda: stop(out, now=now), asked)

    def report(self) -> None:
        """Write the page anew and open it."""
        out = self.draft().out

        def write() -> Path:
            from py4DSTEM.batch.report import write_report

            return write_report(out)

        self._submit("write the report", write, lambda page: open_outside(str(page)))

    def ask_attach(self) -> None:
        """Ask for the folder of a run."""
        path = QtWidgets.QFileDialog.getExistingDirectory(self, "Folder of a run")
        if path:
            self.attach(path)

    def attach(self, out: str) -> None:
        """Show a run that is somewhere: its recipe, its files, how far it is."""

        def read() -> tuple[str, Watched]:
            seen = watched(out)
            if seen is None:
                raise ParameterError(f"{out} holds no run: choose the folder of its results")
            return text_of(Path(out) / "run.toml"), seen

        def show(found: tuple[str, Watched]) -> None:
            text, seen = found
            self.editor.show_text(text, "run.toml")
            self.files.set_names(*(line.source for line in seen.lines))
            self.out.setText(out)
            self._show(seen)

        self._submit("attach to the run", read, show)

    def _submit(self, label: str, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        def failed(error: BaseException) -> None:
            self._starting = False
            self.trouble.say(str(error) or type(error).__name__)
            self._enable()

        self.trouble.say("")
        self.session.jobs.submit(label, lambda _: work(), done=done, failed=failed, at_once=True)

    # ---- how far it is ---------------------------------------------------------------------------
    def _out_changed(self) -> None:
        self.seen = None
        self.table.show_lines(())
        self.words.say("")
        self._holds_run = False
        self._clock.start(LOOK_MS)
        self._enable()

    def _look(self) -> None:
        if self._lane.idle and (self.isVisible() or self.run_ is not None):
            self._lane.ask(self.draft().out)

    def _take(self, answer: Answer) -> None:
        if answer.request != self.draft().out or not self._clock.isActive():
            return
        self._holds_run = answer.value is not None
        if isinstance(answer.value, Watched):
            self._show(answer.value)
        elif answer.error is not None:
            self.trouble.say(str(answer.error))
        elif not self._running:
            self._clock.stop()
            self._enable()
        self._ended()

    def _show(self, seen: Watched) -> None:
        self.seen = seen
        self._holds_run = True
        self.table.show_lines(seen.lines)
        self.bar.setVisible(seen.at_work)
        self.bar.setRange(0, len(seen.lines))
        self.bar.setValue(seen.ended)
        stopping = "; stopping" if self._asked_to_stop and seen.at_work else ""
        self.words.say(seen.words + stopping)
        # A look at thousands of files takes a while, and so may the next one wait.
        pause = LOOK_MS if seen.at_work or self._running else REST_MS
        self._clock.start(pause + len(seen.lines) // 2)
        self._enable()

    @property
    def _running(self) -> bool:
        return self.run_ is not None and self.run_.at_work

    def _ended(self) -> None:
        """Once the process that was begun here is gone."""
        if self.run_ is None or self.run_.at_work:
            return
        run, self.run_, self._asked_to_stop = self.run_, None, False
        if run.trouble():
            self.trouble.say(run.trouble())
            self.words.say("")
        elif self.seen is not None:
            self.session.said.emit(f"the run has ended: {self.words.text()}")
        self._look()
        self._enable()

    def _enable(self, *_: Any) -> None:
        found, draft = self.editor.found, self.draft()
        right = found is not None and not found.problems
        busy = self._running or self._starting or bool(self.seen and self.seen.at_work)
        ready = right and bool(draft.inputs) and bool(draft.out)
        can = {
            "dry": ready,
            "run": ready and not busy,
            "stop": busy and not self._starting,
            "retry": not busy and self.seen is not None and bool(self.seen.failed),
            "report": self.seen is not None,
            "attach": True,
        }
        for name, possible in can.items():
            self.buttons[name].setEnabled(possible)
        self.buttons["run"].setText("Go on" if self._holds_run and not draft.force else "Run")
        self.buttons["stop"].setText("End now" if self._asked_to_stop else "Stop")
        self.editor.buttons["project"].setEnabled(self.session.project.scan is not None)
        count = len(draft.inputs)
        self.tabs.setTabText(1, f"Files ({count})" if count else "Files")

    # ---- one file --------------------------------------------------------------------------------
    def open_line(self, line: Line) -> None:
        """Show a file with the results that the run has of it."""
        out = self.draft().out
        if not line.name or self.seen is None:
            self.session.open(line.source)
            return
        known = next((s for s in self.session.project.scans if s.source.path == line.source), None)
        if known is not None:
            self._add_results(known.key, out, line)
            return

        def opened(key: str) -> None:
            if self.session.project.get(key).source.path == line.source:
                self.session.opened.disconnect(opened)
                self._add_results(key, out, line)

        self.session.opened.connect(opened)
        job = self.session.open(line.source)

        def ended(changed: Any) -> None:
            if changed is job and job.state in ("failed", "cancelled"):
                self.session.jobs.changed.disconnect(ended)
                self.session.opened.disconnect(opened)

        self.session.jobs.changed.connect(ended)

    def _add_results(self, key: str, out: str, line: Line) -> None:
        def keep(found: dict[str, tuple[str, Any]]) -> None:
            for name, (path, value) in found.items():
                self.session.keep(name, value, Made(kind="read", parameters={"path": path}), key)

        self._submit(
            f"read the results of {line.cells[1]}", lambda: results_of(out, line.name), keep
        )

    def _menu(self, place: Any) -> None:
        chosen = self.table.chosen
        if not chosen:
            return
        menu = QtWidgets.QMenu(self)
        self._fill(menu, chosen)
        menu.popup(self.table.viewport().mapToGlobal(place))

    def _fill(self, menu: QtWidgets.QMenu, chosen: list[Line]) -> None:
        first = chosen[0]
        folder = Path(self.draft().out) / "files" / first.name
        sources = tuple(line.source for line in chosen)
        idle = self.buttons["run"].isEnabled() and self.seen is not None
        for text, act, possible in (
            ("Open with its results", lambda: self.open_line(first), True),
            ("Folder of its results", lambda: open_outside(str(folder)), bool(first.name)),
            ("Where the error was", lambda: open_outside(str(folder / "error.log")),
             (folder / "error.log").is_file()),
            ("Once more", lambda: self._again(sources), idle),
        ):  # fmt: skip
            action = menu.addAction(text)
            action.setEnabled(possible)
            action.triggered.connect(lambda _=False, act=act: act())

    def hideEvent(self, event: Any) -> None:
        super().hideEvent(event)
        if self.run_ is None:
            self._clock.stop()

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        if self.seen is not None:
            self._clock.start(LOOK_MS)


def _line(empty: str, tip: str) -> QtWidgets.QLineEdit:
    made = QtWidgets.QLineEdit()
    made.setPlaceholderText(empty)
    made.setToolTip(tip)
    return made


def open_outside(path: str) -> None:
    """Open a file or a folder with the program that the system has for it."""
    QtGui.QDesktopServices.openUrl(QtCore.QUrl.fromLocalFile(path))
