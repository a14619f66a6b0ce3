"""Python with the open scans and results at hand; it never holds the program up."""

from __future__ import annotations

import codeop
import io
import weakref
from typing import Any

import numpy as np
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

import py4DSTEM
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.jobs.interpreter import GuiCaller, Interpreter, Remote
from py4DSTEM.gui.panels.parts import button
from py4DSTEM.gui.session import Session

__all__ = ["ConsolePanel"]

Qt = QtCore.Qt
WELCOME = (
    "cube: the scan that is shown · results: its results by name · project · session · np · "
    "py4DSTEM\nkeep(name, value) makes a value a result · Enter runs, Shift+Enter: a new line, "
    "Tab completes\n"
)
MOST_LINES = 5000
_DPI = 80


class _Entry(QtWidgets.QPlainTextEdit):
    """Where Python is typed."""

    entered = QtCore.Signal(str)
    completing = QtCore.Signal()

    def __init__(self) -> None:
        super().__init__()
        self.history: list[str] = []
        self._at = 0
        self.setPlaceholderText("Python")
        self.setTabChangesFocus(False)
        self.setFixedHeight(64)

    def keyPressEvent(self, event: Any) -> None:
        keys, shift = Qt.Key, Qt.KeyboardModifier.ShiftModifier
        key, plain = event.key(), not (event.modifiers() & shift)
        if key in (keys.Key_Return, keys.Key_Enter) and plain and self._enter():
            return
        if key == keys.Key_Tab and self._word():
            self.completing.emit()
            return
        block = self.textCursor().blockNumber()
        if key == keys.Key_Up and block == 0:
            self._recall(self._at - 1)
            return
        if key == keys.Key_Down and block == self.blockCount() - 1:
            self._recall(self._at + 1)
            return
        super().keyPressEvent(event)

    def _enter(self) -> bool:
        """Run what is typed, if it is complete; whether it was."""
        source = self.toPlainText()
        if not source.strip():
            return True
        if not is_complete(source):
            return False
        if self.history[-1:] != [source]:
            self.history.append(source)
        self._at = len(self.history)
        self.clear()
        self.entered.emit(source)
        return True

    def _recall(self, at: int) -> None:
        self._at = min(max(at, 0), len(self.history))
        self.setPlainText(self.history[self._at] if self._at < len(self.history) else "")
        self.moveCursor(QtGui.QTextCursor.MoveOperation.End)

    def _word(self) -> str:
        """The dotted name before the cursor."""
        cursor = self.textCursor()
        before = cursor.block().text()[: cursor.positionInBlock()]
        start = len(before)
        while start and (before[start - 1].isalnum() or before[start - 1] in "._"):
            start -= 1
        return before[start:]

    def complete(self, words: list[str]) -> str:
        """Type what all words begin with; what to choose from, where it is not clear."""
        typed = self._word()
        common = _common(words)
        if len(common) > len(typed):
            self.insertPlainText(common[len(typed) :])
            return ""
        return "   ".join(words) if len(words) > 1 else ""


def is_complete(source: str) -> bool:
    """Whether Enter runs it, rather than beginning another line.

    >>> is_complete("x = 1"), is_complete("for x in y:"), is_complete("for x in y:\\n  f(x)")
    (True, False, False)
    """
    lines = source.split("\n")
    if len(lines) > 1 and lines[-1][:1].isspace() and lines[-1].strip():
        return False
    try:
        return codeop.compile_command(source, "<console>", "exec") is not None
    except (SyntaxError, ValueError, OverflowError):
        return True  # running it says what is wrong


def _common(words: list[str]) -> str:
    """
    >>> _common(["cube.shape", "cube.size"]), _common([])
    ('cube.s', '')
    """
    if not words:
        return ""
    low, high = min(words), max(words)
    same = 0
    while same < min(len(low), len(high)) and low[same] == high[same]:
        same += 1
    return low[:same]


class ConsolePanel(QtWidgets.QWidget):
    """What was typed and what came of it above, and a place to type below."""

    def __init__(self, session: Session, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self._caller = GuiCaller(self)
        self._live: dict[str, Any] = {}
        names = {
            "session": Remote(self._caller, session), "keep": self._keep, "np": np,
            "py4DSTEM": py4DSTEM, "input": _no_input, "__name__": "__console__",
        }  # fmt: skip
        self.interpreter = Interpreter(names)
        self._make_widgets()
        self._connect()
        self._refresh()

    def _make_widgets(self) -> None:
        font = QtGui.QFontDatabase.systemFont(QtGui.QFontDatabase.SystemFont.FixedFont)
        self.output = QtWidgets.QTextEdit()
        self.output.setReadOnly(True)
        self.output.setFont(font)
        self.output.setToolTip("What was typed, and what came of it")
        document = self.output.document()
        if document is not None:
            document.setMaximumBlockCount(MOST_LINES)
        self.entry = _Entry()
        self.entry.setFont(font)
        self.entry.setToolTip("Enter runs, Shift+Enter begins a line, Tab completes, Up recalls")
        self.stop = button("Stop", "Interrupt what runs.", self.interpreter.interrupt)
        self.wipe = button("Clear", "Forget what was shown.", self.output.clear)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.entry, 1)
        buttons = QtWidgets.QVBoxLayout()
        buttons.addWidget(self.stop)
        buttons.addWidget(self.wipe)
        row.addLayout(buttons)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(2, 2, 2, 2)
        column.addWidget(self.output, 1)
        column.addLayout(row)
        self.setFocusProxy(self.entry)
        self._say(WELCOME)
        self._show_state()

    def _connect(self) -> None:
        worker, caller = self.interpreter, self._caller
        worker.printed.connect(self._printed)
        worker.gave.connect(self._gave)
        worker.ended.connect(self._ended)
        self.entry.entered.connect(self.run)
        self.entry.completing.connect(self._complete)
        self.session.changed.connect(self._refresh)
        self.session.opened.connect(self._refresh)
        for end in (caller.close, worker.stop):
            weakref.finalize(self, end)

    # ---- names -----------------------------------------------------------------------------------
    def _refresh(self, *_: Any) -> None:
        """The scan that is shown, under the names that the user has not given to others."""
        if self.interpreter.busy:
            return
        project = self.session.project
        scan = project.scan
        live = {
            "project": project,
            "cube": None if scan is None else self.session.cube(scan.key),
            "results": {} if scan is None else {r.name: r.value for r in scan.results},
        }
        names = self.interpreter.names
        for name, value in live.items():
            if name not in names or names[name] is self._live.get(name):
                names[name] = value
        self._live = live

    def _keep(self, name: str, value: Any) -> str:
        """Make a value a result of the scan that is shown; the name that it got."""
        if not isinstance(name, str):
            raise ParameterError(f"keep(name, value): the name is a text, not {name!r}")
        kept = self._caller(self.session.keep, name, value)
        if not kept:
            raise ParameterError("there is no scan that it could belong to: open one first")
        return str(kept)

    # ---- running ---------------------------------------------------------------------------------
    def run(self, source: str) -> None:
        """Run a piece of Python, as if it had been typed."""
        self._refresh()
        lines = source.rstrip().split("\n")
        self._say("\n".join([f">>> {lines[0]}", *(f"... {line}" for line in lines[1:])]) + "\n")
        self.interpreter.run(source)
        self._show_state()

    def _ended(self) -> None:
        self._printed()
        self._refresh()
        self._show_state()

    def _printed(self) -> None:
        self._say(self.interpreter.take())

    def _gave(self, value: Any) -> None:
        """Figures are shown as pictures."""
        figure = value[0] if isinstance(value, tuple) and value else value
        if hasattr(figure, "savefig"):
            self._printed()
            self.session.jobs.submit(
                "draw a figure",
                lambda _: _png(figure),
                done=self._show_picture,
                failed=lambda error: self.session.troubled.emit("draw a figure", error),
                at_once=True,
            )

    def _show_picture(self, png: bytes) -> None:
        image = QtGui.QImage.fromData(png)
        cursor = self._end()
        cursor.insertImage(image)
        cursor.insertText("\n")
        self._follow()

    def _complete(self) -> None:
        offered = self.entry.complete(self.interpreter.completions(self.entry._word()))
        if offered:
            self._say(f"{offered}\n")

    # ---- what is shown ---------------------------------------------------------------------------
    def _end(self) -> QtGui.QTextCursor:
        cursor = QtGui.QTextCursor(self.output.document())
        cursor.movePosition(QtGui.QTextCursor.MoveOperation.End)
        return cursor

    def _say(self, text: str) -> None:
        if text:
            self._end().insertText(text)
            self._follow()

    def _follow(self) -> None:
        bar = self.output.verticalScrollBar()
        if bar is not None:
            bar.setValue(bar.maximum())

    def _show_state(self) -> None:
        self.stop.setEnabled(self.interpreter.busy)


def _no_input(prompt: str = "") -> str:
    raise ParameterError("nothing can be typed in here while something runs: assign a value first")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
