"""The text of a recipe, and what is wrong with it, line by line."""

from __future__ import annotations

import weakref
from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.panels.parts import Note, button
from py4DSTEM.gui.state.batch import Checked, Draft, checked

__all__ = ["RecipeEditor"]

Qt = QtCore.Qt
WAIT_MS = 200
"""After the last key, before the text is checked."""
_WRONG = QtGui.QColor(213, 94, 0, 60)


class RecipeEditor(QtWidgets.QWidget):
    """A recipe that can be changed; it is checked, off the GUI thread, while it is."""

    checkedNow = QtCore.Signal(object)
    """`Checked` of the text as it is."""
    edited = QtCore.Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.name, self.folder = "", ""
        self.found: Checked | None = None
        """What was found in the text as it is; None while it is being looked at."""
        self._make_widgets()
        self._lay_out()
        self._clock = QtCore.QTimer(self)
        self._clock.setSingleShot(True)
        self._clock.setInterval(WAIT_MS)
        self._clock.timeout.connect(self._ask)
        self.text.textChanged.connect(self._typed)
        self.problems.itemClicked.connect(self._go_to)
        self.problems.itemActivated.connect(self._go_to)
        self._lane = lane = Lane(checked, "recipe")
        lane.answered.connect(self._take)
        weakref.finalize(self, lane.stop)

    def _make_widgets(self) -> None:
        self.title = QtWidgets.QLabel("no recipe")
        self.title.setTextFormat(Qt.TextFormat.PlainText)
        self.text = QtWidgets.QPlainTextEdit()
        self.text.setFont(QtGui.QFontDatabase.systemFont(QtGui.QFontDatabase.SystemFont.FixedFont))
        self.text.setLineWrapMode(QtWidgets.QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setPlaceholderText("A recipe in TOML: take that of the project, or open a file.")
        self.text.setToolTip("The steps of the run; it is checked while you type.")
        self.problems = QtWidgets.QListWidget()
        self.problems.setToolTip("What is wrong; a click goes to the line.")
        self.problems.setWordWrap(True)
        self.problems.setMaximumHeight(96)
        self.problems.hide()
        self.words = Note()
        self.buttons: dict[str, QtWidgets.QPushButton] = {}

    def add_button(self, name: str, text: str, tip: str, act: Any) -> None:
        """One more button above the text."""
        self.buttons[name] = button(text, tip, act)
        self._row.insertWidget(self._row.count() - 2, self.buttons[name])

    def _lay_out(self) -> None:
        self._row = QtWidgets.QHBoxLayout()
        self._row.addStretch(1)
        self._row.addWidget(self.title)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.addLayout(self._row)
        column.addWidget(self.text, 1)
        column.addWidget(self.problems)
        column.addWidget(self.words)

    # ---- the text --------------------------------------------------------------------------------
    def show_text(self, text: str, name: str = "", folder: str = "") -> None:
        """Another recipe."""
        self.name, self.folder = name, folder
        self.text.setPlainText(text)
        self.title.setText(name or "not saved")

    def draft(self) -> Draft:
        """The recipe, without files."""
        return Draft(text=self.text.toPlainText(), name=self.name, folder=self.folder)

    def _typed(self) -> None:
        self.found = None
        self._clock.start()
        self.edited.emit()

    def _ask(self) -> None:
        if self.text.toPlainText().strip():
            self._lane.ask(self.draft())
        else:
            self._show(None)

    def _take(self, answer: Answer) -> None:
        if answer.number != self._lane.number or self._clock.isActive():
            return
        self._show(answer.value)
        if answer.error is not None:
            self.words.say(str(answer.error))

    def _show(self, found: Checked | None) -> None:
        self.found = found
        self.problems.clear()
        problems = () if found is None else found.problems
        for line, problem in zip(() if found is None else found.lines, problems, strict=True):
            item = QtWidgets.QListWidgetItem(line)
            item.setData(Qt.ItemDataRole.UserRole, problem.line)
            item.setToolTip(line)
            self.problems.addItem(item)
        self.problems.setVisible(bool(problems))
        self.text.setExtraSelections([self._marked(problem.line) for problem in problems])
        good = found is not None and not problems
        self.words.say("✔ nothing is wrong" if good else "")
        self.words.setToolTip(found.words if found is not None else "")
        self.checkedNow.emit(found)

    def _marked(self, line: int) -> Any:
        mark = QtWidgets.QTextEdit.ExtraSelection()
        mark.format.setBackground(_WRONG)
        mark.format.setProperty(QtGui.QTextFormat.Property.FullWidthSelection, True)
        mark.cursor = self._cursor(line)
        return mark

    def _cursor(self, line: int) -> QtGui.QTextCursor:
        return QtGui.QTextCursor(self.text.document().findBlockByNumber(max(0, line - 1)))

    def _go_to(self, item: Any) -> None:
        self.text.setTextCursor(self._cursor(item.data(Qt.ItemDataRole.UserRole)))
        self.text.setFocus()
