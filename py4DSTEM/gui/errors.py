"""Nothing fails in silence, and nothing that fails ends the program."""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.core.history import environment
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.gui.preferences import log_path
from py4DSTEM.gui.state.command import Command

__all__ = ["Trouble", "TroubleDialog", "Troubles", "described", "redacted", "report"]

MOST = 50
"""Different troubles that one dialog keeps; a flood of more is in the log."""
ACTS = 20

BUG = (
    "This is a mistake in the program, not in your data. What is open stays open; save your work "
    "to be sure. Please send the report to those who make py4DSTEM."
)


@dataclass(frozen=True)
class Trouble:
    """Something that went wrong, in words.

    Parameters
    ----------
    doing : str
        What was being done.
    what : str
        What happened and, where the error knows, what to do.
    details : str
        The traceback.
    expected : bool
        Whether it is an error that the package foresees, rather than a mistake in the program.
    count : int
        How often it happened.
    """

    doing: str
    what: str
    details: str = ""
    expected: bool = True
    count: int = 1

    @property
    def title(self) -> str:
        """What could not be done."""
        return f"Could not {self.doing}" if self.doing else "Something went wrong"


def described(doing: str, error: BaseException) -> Trouble:
    """What an error says, with the notes that were added on its way up."""
    notes = getattr(error, "__notes__", ())
    words = str(error) or type(error).__name__
    expected = isinstance(error, Py4DSTEMError | OSError | MemoryError)
    if isinstance(error, MemoryError) and not isinstance(error, Py4DSTEMError):
        words = "There is not enough memory: close scans, or lower the memory in the preferences."
    elif not expected:
        words = f"{type(error).__name__}: {words}"
    details = "".join(traceback.format_exception(error))
    return Trouble(doing, "\n".join([words, *notes]), details, expected)


def redacted(text: str) -> str:
    """Without the name of the user's home folder."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def report(troubles: Sequence[Trouble], acts: Iterable[Command] = ()) -> str:
    """Everything that helps to find a mistake, and nothing that tells on the user."""
    parts = ["py4DSTEM desktop program", *_versions(), ""]
    for trouble in troubles:
        times = f" ({trouble.count} times)" if trouble.count > 1 else ""
        parts += [f"{trouble.title}{times}", trouble.what, "", trouble.details, ""]
    last = [_act(command) for command in acts][-ACTS:]
    parts += ["last acts, oldest first:", *(last or ["none"])]
    return redacted("\n".join(parts))


def _versions() -> list[str]:
    known = dict(environment())
    known["qt"] = f"{QtCore.qVersion()} ({os.environ.get('PYQTGRAPH_QT_LIB', 'unknown binding')})"
    known["machine"] = platform.machine()
    known["screen"] = QtGui.QGuiApplication.platformName()
    return [f"{name}: {value}" for name, value in known.items()]


def _act(command: Command) -> str:
    try:
        fields = json.dumps(command.model_dump(mode="json"), default=str)
    except (TypeError, ValueError):
        fields = "…"
    return f"  {command.kind} {fields if len(fields) <= 300 else fields[:300] + '…'}"


class Troubles(QtCore.QObject):
    """Shows whatever goes wrong in one dialog that blocks nothing, and writes it to a log.

    Parameters
    ----------
    acts : callable
        Gives the commands that led here.
    """

    shown = QtCore.Signal(object)
    """A `Trouble` that is new in the dialog."""
    _arrived = QtCore.Signal()

    def __init__(self, acts: Callable[[], Sequence[Command]] = tuple, parent: Any = None) -> None:
        super().__init__(parent)
        self._acts = acts
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], Trouble] = {}
        self._restore: list[Callable[[], None]] = []
        self._log = _logger()
        self.dialog: TroubleDialog | None = None
        self._arrived.connect(self._take, QtCore.Qt.ConnectionType.QueuedConnection)

    # ---- what goes wrong -------------------------------------------------------------------------
    def show(self, doing: str, error: BaseException) -> None:
        """Tell the user of an error; from any thread, and as often as it likes."""
        self.add(described(doing, error))

    def add(self, trouble: Trouble) -> None:
        """Tell the user; the same trouble again is only counted."""
        key = (trouble.doing, trouble.what)
        with self._lock:
            known = self._waiting.get(key)
            first = not self._waiting
            if known is None and len(self._waiting) >= MOST:
                return
            self._waiting[key] = trouble if known is None else replace(known, count=known.count + 1)
        if known is None:
            self._log.error("%s: %s\n%s", trouble.title, trouble.what, trouble.details)
        if first:
            with contextlib.suppress(RuntimeError):  # the program is closing
                self._arrived.emit()

    def _take(self) -> None:
        with self._lock:
            waiting, self._waiting = list(self._waiting.values()), {}
        if not waiting:
            return
        if self.dialog is None:
            parent = self.parent()
            above = parent if isinstance(parent, QtWidgets.QWidget) else None
            self.dialog = TroubleDialog(lambda found: report(found, self._acts()), above)
        known = len(self.dialog.troubles)
        new = [trouble for trouble in waiting if self.dialog.add(trouble)]
        if new:
            self.dialog.list.setCurrentIndex(known)
        self.dialog.show()
        for trouble in new:
            self.shown.emit(trouble)

    # ---- where it comes from ---------------------------------------------------------------------
    def install(self) -> None:
        """Catch what nobody catches: in slots, in threads, and what Qt says."""
        old_hook, old_threads = sys.excepthook, threading.excepthook
        sys.excepthook = self._uncaught
        threading.excepthook = self._uncaught_in_thread
        old_handler = QtCore.qInstallMessageHandler(self._said_by_qt)
        self._restore = [
            lambda: setattr(sys, "excepthook", old_hook),
            lambda: setattr(threading, "excepthook", old_threads),
            lambda: QtCore.qInstallMessageHandler(old_handler) and None,
        ]

    def uninstall(self) -> None:
        """Leave everything as it was before `install`."""
        while self._restore:
            self._restore.pop()()

    def _uncaught(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt | SystemExit):
            app = QtWidgets.QApplication.instance()
            if app is not None:
                app.quit()
            return
        self.show("", error.with_traceback(trace))

    def _uncaught_in_thread(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            self.show("", args.exc_value)

    def _said_by_qt(self, kind: Any, context: Any, message: str) -> None:
        kinds = QtCore.QtMsgType
        serious = kind in (kinds.QtCriticalMsg, kinds.QtFatalMsg)
        self._log.log(logging.ERROR if serious else logging.INFO, "Qt: %s", message)
        if kind == kinds.QtFatalMsg:
            sys.stderr.write(f"Qt: {message}\n")
        elif serious:
            self.add(Trouble("", f"Qt says: {message}", expected=False))


def _logger() -> logging.Logger:
    """A log of its own, of at most two megabytes; without it where it cannot be written."""
    log = logging.getLogger("py4DSTEM.gui")
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        path = log_path()
        for old in log.handlers[:]:
            log.removeHandler(old)
            old.close()
        handler: logging.Handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=1_000_000, backupCount=1, encoding="utf-8", delay=True
        )
    except OSError:
        handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    return log


class TroubleDialog(QtWidgets.QDialog):
    """What went wrong, what to do, the details, and a report to copy; it blocks nothing."""

    def __init__(self, make_report: Callable[[Sequence[Trouble]], str], parent: Any = None) -> None:
        super().__init__(parent)
        self.setModal(False)
        self.setWindowTitle("py4DSTEM")
        self.setMinimumWidth(520)
        self._make_report = make_report
        self.troubles: list[Trouble] = []
        self.title, self.what, self.advice = (QtWidgets.QLabel() for _ in range(3))
        self.list = QtWidgets.QComboBox()
        self.details = QtWidgets.QPlainTextEdit()
        self.more = QtWidgets.QPushButton("Details")
        self.copy = QtWidgets.QPushButton("Copy report")
        self._lay_out()
        self.list.currentIndexChanged.connect(self._show)
        self.more.toggled.connect(self.details.setVisible)
        self.copy.clicked.connect(self._copy)

    def _lay_out(self) -> None:
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        selectable = QtCore.Qt.TextInteractionFlag.TextSelectableByMouse
        for label in (self.title, self.what, self.advice):
            label.setWordWrap(True)
            label.setTextFormat(QtCore.Qt.TextFormat.PlainText)
            label.setTextInteractionFlags(selectable)
        self.details.setReadOnly(True)
        self.details.setVisible(False)
        self.more.setCheckable(True)
        self.copy.setToolTip("Versions, system, what happened and the last acts; no names of yours")
        self.list.setToolTip("What went wrong since this window was opened")
        close = QtWidgets.QPushButton("Close")
        close.clicked.connect(self.close)
        close.setDefault(True)
        buttons = QtWidgets.QHBoxLayout()
        for widget in (self.more, self.copy):
            buttons.addWidget(widget)
        buttons.addStretch(1)
        buttons.addWidget(close)
        column = QtWidgets.QVBoxLayout(self)
        for widget in (self.list, self.title, self.what, self.advice, self.details):
            column.addWidget(widget)
        column.addLayout(buttons)

    def add(self, trouble: Trouble) -> bool:
        """Show one more; False where it, or too much else, is there already."""
        for number, known in enumerate(self.troubles):
            if (known.doing, known.what) == (trouble.doing, trouble.what):
                self.troubles[number] = replace(known, count=known.count + trouble.count)
                self.list.setItemText(number, self._line(number))
                if number == self.list.currentIndex():
                    self._show(number)
                return False
        if len(self.troubles) >= MOST:
            return False
        self.troubles.append(trouble)
        self.list.addItem(self._line(len(self.troubles) - 1))
        self.list.setVisible(len(self.troubles) > 1)
        return True

    def _line(self, number: int) -> str:
        trouble = self.troubles[number]
        times = f"  ×{trouble.count}" if trouble.count > 1 else ""
        return f"{trouble.title}: {trouble.what.splitlines()[0][:80]}{times}"

    def _show(self, number: int) -> None:
        if not 0 <= number < len(self.troubles):
            return
        trouble = self.troubles[number]
        times = f" ({trouble.count} times)" if trouble.count > 1 else ""
        self.title.setText(trouble.title + times)
        self.what.setText(redacted(trouble.what))
        self.advice.setText(BUG)
        self.advice.setVisible(not trouble.expected)
        self.details.setPlainText(trouble.details)

    def _copy(self) -> None:
        clipboard = QtGui.QGuiApplication.clipboard()
        clipboard.setText(self._make_report(self.troubles))
        self.copy.setText("Copied")

    def closeEvent(self, event: QtGui.QCloseEvent | None) -> None:
        """Closing forgets what was shown: it is in the log."""
        self.troubles.clear()
        self.list.clear()
        self.copy.setText("Copy report")
        super().closeEvent(event)

    def reject(self) -> None:
        """Escape does as the close button."""
        self.close()
