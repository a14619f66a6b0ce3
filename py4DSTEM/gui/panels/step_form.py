"""A form for any step of the library, made from its parameters, and the panel that runs it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.panels.form_editors import Editor, editor_of
from py4DSTEM.gui.panels.parts import JobLine, Note, button, copy_text
from py4DSTEM.gui.panels.step_code import code_of_step
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.forms import (
    FormField,
    accepted,
    all_steps,
    fields_of,
    problems_of,
    title_of,
    values_to_step,
)
from py4DSTEM.gui.state.project import Made
from py4DSTEM.stream.operation import Operation

__all__ = ["StepForm", "StepPanel"]

Qt = QtCore.Qt


class StepForm(QtWidgets.QWidget):
    """The parameters of one operation or analysis, each with its editor.

    Parameters
    ----------
    cls : type of Operation or Analysis
    session : Session
    only : tuple of str, optional
        Names of the parameters to show; None: all.
    """

    edited = QtCore.Signal()
    """The user has changed a value."""
    checked = QtCore.Signal(object, object)
    """(the step or None, what is wrong by parameter): of the values as they are now."""

    def __init__(
        self,
        cls: Any,
        session: Session,
        parent: QtWidgets.QWidget | None = None,
        *,
        only: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(parent)
        self.cls, self.session = cls, session
        self.fields = tuple(f for f in fields_of(cls) if only is None or f.name in only)
        self.editors: dict[str, Editor] = {}
        self.notes: dict[str, Note] = {}
        self.step: Any = None
        """The step with the values as they are now, once they are checked and make sense."""
        self.problems: dict[str, str] = {}
        self._stale = False
        self._lay_out()
        # A probe may be measured, a mask unpacked, before a value is known to make sense.
        self._lane = lane = Lane(partial(_checked, cls), "form")
        lane.answered.connect(self._answered)
        # Not at `destroyed`: what is called there may have been collected before the widget.
        weakref.finalize(self, lane.stop)
        session.changed.connect(self._refresh)
        self.reset()

    def _lay_out(self) -> None:
        grid = QtWidgets.QGridLayout(self)
        grid.setContentsMargins(2, 2, 2, 2)
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        for k, field in enumerate(self.fields):
            editor = editor_of(field, self.session)
            editor.edited.connect(self._edited)
            label = QtWidgets.QLabel(field.label + (" *" if field.required else ""))
            label.setToolTip(field.help)
            label.setBuddy(editor)
            back = _reset_button(partial(self.reset, field.name))
            note = Note(error=True)
            grid.addWidget(label, 2 * k, 0)
            grid.addWidget(editor, 2 * k, 1)
            grid.addWidget(back, 2 * k, 2)
            grid.addWidget(note, 2 * k + 1, 1, 1, 2)
            self.editors[field.name], self.notes[field.name] = editor, note
        self.notes[""] = Note(error=True)
        grid.addWidget(self.notes[""], 2 * len(self.fields), 0, 1, 3)
        grid.setRowStretch(2 * len(self.fields) + 1, 1)

    # ---- values ----------------------------------------------------------------------------------
    def values(self) -> dict[str, Any]:
        """What is chosen now, by parameter; what must be given and is not is missing."""
        if self._stale:
            self._refresh_now()
        found = {name: editor.value() for name, editor in self.editors.items()}
        return {f.name: found[f.name] for f in self.fields if not _missing(f, found[f.name])}

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Show some values; the others stay."""
        for name, value in values.items():
            if name in self.editors:
                self.editors[name].set_value(value)
        self.check()

    def reset(self, name: str = "") -> None:
        """Back to the default of one parameter, or of all."""
        for field in self.fields:
            if name in ("", field.name):
                self.editors[field.name].set_value(field.default)
        self.check()
        if name:
            self.edited.emit()

    def check(self) -> None:
        """Find out whether the values make sense; `checked` tells."""
        self.step = None
        self._lane.ask(self.values())

    def _edited(self) -> None:
        self.check()
        self.edited.emit()

    def _refresh(self, *_: Any) -> None:
        """The project has changed; a form that nobody sees follows when it is looked at."""
        self._stale = True
        self.step = None if any(e.follows for e in self.editors.values()) else self.step
        if self.isVisible():
            self._refresh_now()
            if self.step is None:
                self.check()

    def _refresh_now(self) -> None:
        self._stale = False
        for editor in self.editors.values():
            editor.refresh()

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        if self._stale:
            self.check()

    def _answered(self, answer: Answer) -> None:
        if answer.number != self._lane.number:
            return
        if answer.error is not None:
            self.step, self.problems = None, {"": str(answer.error)}
        else:
            self.step, self.problems = answer.value
        for name, note in self.notes.items():
            text = self.problems.get(name, "")
            note.say("must be given" if text == "Field required" else text)
        self.checked.emit(self.step, self.problems)


def _missing(field: FormField, value: Any) -> bool:
    return field.required and (value is None or value in ("", {}))


def _checked(cls: Any, values: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    """The step, or what is wrong."""
    problems = problems_of(cls, values)
    if problems:
        return None, problems
    try:
        return values_to_step(cls, values), {}
    except Py4DSTEMError as error:
        return None, {"": str(error)}


def _reset_button(act: Any) -> QtWidgets.QToolButton:
    made = QtWidgets.QToolButton()
    made.setText("↺")
    made.setAutoRaise(True)
    made.setToolTip("Back to the default")
    made.setAccessibleName("Back to the default")
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.clicked.connect(lambda *_: act())
    return made


class StepPanel(QtWidgets.QWidget):
    """Choose a step, fill in its form, run it; the value becomes a result of the scan."""

    kind = ""
    """Of the step that a new panel shows; "": the first of the list."""

    def __init__(self, session: Session, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.steps = all_steps()
        self.form: StepForm | None = None
        self._wanted = False
        self._make_widgets()
        self._lay_out()
        session.changed.connect(self._changed)
        self.show_kind(self.kind or next(iter(self.steps)))

    def _make_widgets(self) -> None:
        self.choice = QtWidgets.QComboBox()
        self.choice.setEditable(True)
        self.choice.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        self.choice.setToolTip("The step: type a part of its name to find it.")
        for kind, cls in self.steps.items():
            self.choice.addItem(kind.replace("-", " "), kind)
            tip = title_of(cls)
            self.choice.setItemData(self.choice.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        completer = self.choice.completer()
        if completer is not None:
            completer.setFilterMode(Qt.MatchFlag.MatchContains)
            completer.setCompletionMode(QtWidgets.QCompleter.CompletionMode.PopupCompletion)
        self.choice.activated.connect(lambda k: self.show_kind(str(self.choice.itemData(k))))
        self.about = Note()
        self.source = QtWidgets.QComboBox()
        self.source.setToolTip("What the step is applied to: the scan, or a result of it.")
        self.source.activated.connect(self._update)
        self.selected_tick = QtWidgets.QCheckBox("selected positions only")
        self.selected_tick.setToolTip(
            "Use only the positions that are selected on the real-space image; the others are not "
            "read."
        )
        self.name = QtWidgets.QLineEdit()
        self.name.setToolTip("Name of the new result.")
        self.note = Note()
        self.jobs = JobLine(self.session)
        self.jobs.ended.connect(self._update)
        self.run_button = button("Run", "Run the step as a job (Ctrl+Return).", self.run)
        self.run_button.setShortcut("Ctrl+Return")
        self.copy_button = button("Copy as Python", "Copy the lines that do the same.", self.copy)
        self.reset_button = button("Defaults", "Put all parameters back.", self.reset)

    def _lay_out(self) -> None:
        top = QtWidgets.QFormLayout()
        top.addRow("step", self.choice)
        top.addRow(self.about)
        top.addRow("applied to", self.source)
        top.addRow("", self.selected_tick)
        self.scroll = QtWidgets.QScrollArea()
        self.scroll.setWidgetResizable(True)
        self.scroll.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        bottom = QtWidgets.QFormLayout()
        bottom.addRow("result", self.name)
        row = QtWidgets.QHBoxLayout()
        for one in (self.run_button, self.copy_button, self.reset_button):
            row.addWidget(one)
        row.addStretch(1)
        whole = QtWidgets.QVBoxLayout(self)
        whole.setContentsMargins(6, 6, 6, 6)
        whole.addLayout(top)
        whole.addWidget(self.scroll, 1)
        whole.addLayout(bottom)
        whole.addWidget(self.note)
        whole.addWidget(self.jobs)
        whole.addLayout(row)

    # ---- what is shown ---------------------------------------------------------------------------
    def show_kind(self, kind: str) -> None:
        """Show the form of a step, with its defaults."""
        if kind not in self.steps:
            self.steps = all_steps()
        cls = self.steps.get(kind)
        if cls is None:
            self.note.say(f"there is no step {kind!r}: a package that adds it may be missing")
            return
        if self.choice.findData(kind) < 0:
            self.choice.addItem(kind.replace("-", " "), kind)
        self.choice.setCurrentIndex(self.choice.findData(kind))
        self.about.say(title_of(cls))
        self.name.setPlaceholderText(kind.replace("-", " "))
        self.note.say("")
        self.form = StepForm(cls, self.session)
        self.form.checked.connect(self._checked)
        self.scroll.setWidget(self.form)  # the one before is deleted
        self._list_sources()
        self._update()

    def show_made(self, made: Made, name: str = "") -> None:
        """Show the step that made something, with the parameters it was made with."""
        self.show_kind(made.kind)
        if self.form is None or self.form.cls.kind != made.kind:
            return
        index = self.source.findData(made.of)
        self.source.setCurrentIndex(max(index, 0))
        values = dict(made.parameters)
        scan = self.session.project.scan
        known = {} if scan is None else {result.name: result.value for result in scan.results}
        values |= {f: known[n] for f, n in made.uses.items() if n in known}
        self.form.set_values(values)
        self.selected_tick.setChecked(made.where is not None)
        self.name.setText(name)

    def show_result(self, name: str) -> None:
        """Show the step that made a result of the scan."""
        scan = self.session.project.scan
        made = None if scan is None else scan.result(name).made
        if made is not None:
            self.show_made(made)

    def _list_sources(self) -> None:
        kinds = accepted(self.form.cls) if self.form is not None else ()
        wanted = self.source.currentData()
        self.source.clear()
        scan = self.session.project.scan
        if scan is not None and any(issubclass(kind, Cube) for kind in kinds):
            self.source.addItem(f"the scan {scan.name}", "")
        for result in scan.results if scan is not None else ():
            if isinstance(result.value, kinds):
                self.source.addItem(result.name, result.name)
        self.source.setCurrentIndex(max(self.source.findData(wanted), 0))

    def _changed(self, *_: Any) -> None:
        self._list_sources()
        self._update()

    def _update(self, *_: Any) -> None:
        """Say why the step cannot be run, if it cannot."""
        problem = self._obstacle()
        of_scan = self.source.currentData() == ""
        streams = self.form is not None and issubclass(self.form.cls, Operation)
        self.selected_tick.setEnabled(of_scan and streams)
        self.run_button.setEnabled(not problem and not self.jobs.busy)
        self.copy_button.setEnabled(self.form is not None and not self.form.problems)
        if problem:
            self.note.say(problem)
        elif self.note.text() in self._obstacles:
            self.note.say("")

    _obstacles: frozenset[str] = frozenset()

    def _obstacle(self) -> str:
        if self.form is None:
            return ""
        text = ""
        if self.session.project.scan is None:
            text = "open a scan first"
        elif self.source.count() == 0:
            names = " or ".join(kind.__name__ for kind in accepted(self.form.cls))
            text = f"this works on {names}: there is none among the results yet"
        self._obstacles = self._obstacles | ({text} if text else set())
        return text

    # ---- acts ------------------------------------------------------------------------------------
    def reset(self) -> None:
        """Put all parameters back to their defaults."""
        if self.form is not None:
            self.form.reset()

    def run(self) -> None:
        """Run the step, as soon as its parameters are known to make sense."""
        if self.form is None or self._obstacle() or self.jobs.busy:
            return
        if self.form.step is None:
            self._wanted = True
            self.form.check()
            return
        self._start(self.form.step)

    def _checked(self, step: Any, problems: dict[str, str]) -> None:
        wanted, self._wanted = self._wanted, False
        if wanted and step is not None:
            self._start(step)
        self._update()

    def _start(self, step: Any) -> None:
        of, name = self.source.currentData() or "", self.name.text().strip()
        self.jobs.follow(self.session.run_step(step, of=of, name=name, where=self.where))
        self._update()

    @property
    def where(self) -> Any:
        """The selected positions, where only those are to count."""
        scan, tick = self.session.project.scan, self.selected_tick
        chosen = scan is not None and tick.isEnabled() and tick.isChecked()
        return scan.selection if scan is not None and chosen else None

    def copy(self) -> None:
        """Copy the Python that does the same."""
        if self.form is not None and self.form.step is not None:
            of = self.source.currentData() or ""
            copy_text(code_of_step(self.form.step, of, self.where))
            self.session.said.emit("copied as Python")
