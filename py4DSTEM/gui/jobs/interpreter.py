"""Python typed by the user, run in a thread of its own: whatever it does, the windows go on."""

from __future__ import annotations

import code
import ctypes
import sys
import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from pyqtgraph.Qt import QtCore

from py4DSTEM.errors import Cancelled

__all__ = ["GuiCaller", "Interpreter", "Remote"]

MOST_CHARACTERS = 200_000
"""Of what is printed faster than it can be shown, the last so many are shown."""
_PAUSE_S = 0.05


class GuiCaller(QtCore.QObject):
    """Calls functions in the GUI thread from another one, and waits for what they give."""

    _asked = QtCore.Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._closed = False
        self._asked.connect(self._do, QtCore.Qt.ConnectionType.QueuedConnection)

    def __call__(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What the function gives, or the error that it raises."""
        if QtCore.QThread.currentThread() == self.thread():
            return function(*args, **options)
        done = threading.Event()
        outcome: dict[str, Any] = {}
        self._asked.emit((lambda: function(*args, **options), outcome, done))
        while not done.wait(_PAUSE_S):  # in pieces, so that it can be interrupted
            if self._closed:
                raise Cancelled("the console was closed")
        if "error" in outcome:
            raise outcome["error"]
        return outcome["value"]

    def close(self) -> None:
        """Let nobody wait any more."""
        self._closed = True

    def _do(self, asked: Any) -> None:
        function, outcome, done = asked
        try:
            outcome["value"] = function()
        except BaseException as error:  # raised again where it was asked for
            outcome["error"] = error
        done.set()


class Remote:
    """An object of the GUI thread as the console sees it: every method is called over there."""

    def __init__(self, caller: GuiCaller, target: Any) -> None:
        self._caller, self._target = caller, target

    def __getattr__(self, name: str) -> Any:
        found = self._caller(getattr, self._target, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            return self._caller(found, *args, **options)

        call.__doc__ = found.__doc__
        return call

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._target) if not name.startswith("_")]

    def __repr__(self) -> str:
        return f"<{type(self._target).__name__}>"


class _Stream:
    """In place of ``sys.stdout``: what the console's thread writes goes to the console."""

    def __init__(self, usual: Any, thread: int, write: Callable[[str], None]) -> None:
        self._usual, self._thread, self._write = usual, thread, write

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            return self._usual.write(text) if self._usual is not None else len(text)
        self._write(text)
        return len(text)

    def flush(self) -> None:
        if self._usual is not None:
            self._usual.flush()

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._usual, name)


class Interpreter(QtCore.QObject):
    """Runs pieces of Python one after the other in its thread.

    Parameters
    ----------
    names : dict
        What the pieces see, and what they leave behind.
    """

    printed = QtCore.Signal()
    """There is something for `take`."""
    gave = QtCore.Signal(object)
    """The value of the last expression, if there is one."""
    ended = QtCore.Signal()
    """A piece has come to its end, well or badly."""

    def __init__(self, names: dict[str, Any], parent: Any = None) -> None:
        super().__init__(parent)
        self.names = names
        self.busy = False
        self._text: list[str] = []
        self._lock = threading.Lock()
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._engine: Any = None
        self._thread = threading.Thread(target=self._loop, name="py4dstem-console", daemon=True)
        self._thread.start()

    def run(self, source: str) -> None:
        """Run a piece of Python after those that wait."""
        self.busy = True
        self._queue.put(source)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in what runs, at its next line of Python."""
        if self.busy and self._thread.ident is not None:
            ident, kind = ctypes.c_ulong(self._thread.ident), ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, kind)

    def stop(self) -> None:
        """End the thread, and what runs in it at its next line of Python."""
        self._queue.put(None)
        self.interrupt()

    def wait(self, timeout_s: float = 5.0) -> None:
        """Wait for the thread to end; call `stop` first."""
        self._thread.join(timeout_s)

    def take(self) -> str:
        """What was printed since the last time."""
        with self._lock:
            text, self._text = "".join(self._text), []
        return text if len(text) <= MOST_CHARACTERS else "…" + text[-MOST_CHARACTERS:]

    def completions(self, text: str) -> list[str]:
        """Ways to go on with a name; none while something runs."""
        if self.busy:
            return []
        from rlcompleter import Completer

        completer, found = Completer(self.names), []
        while len(found) < 200 and (word := completer.complete(text, len(found))) is not None:
            found.append(word)
        return found

    # ---- in the thread ---------------------------------------------------------------------------
    def _loop(self) -> None:
        try:
            while (source := self._next()) is not None:
                self._run(source)
                self.busy = not self._queue.empty()
                self.ended.emit()
        except RuntimeError:  # the program is closing and Qt has deleted this object
            return

    def _next(self) -> str | None:
        while True:
            try:
                return self._queue.get()
            except KeyboardInterrupt:  # it came after what it was meant for had ended
                continue

    def _run(self, source: str) -> None:
        usual = sys.stdout, sys.stderr
        here = threading.get_ident()
        sys.stdout, sys.stderr = (_Stream(old, here, self._write) for old in usual)
        try:
            self._engine = self._engine or _engine(self.names)
            self._hand_over(self._engine(source))
        except (KeyboardInterrupt, SystemExit) as error:
            self._write(f"{type(error).__name__}\n")
        finally:
            sys.stdout, sys.stderr = usual

    def _hand_over(self, value: Any) -> None:
        if value is not None:
            self.gave.emit(value)

    def _write(self, text: str) -> None:
        with self._lock:
            first = not self._text
            self._text.append(text)
        if first:
            self.printed.emit()


def _engine(names: dict[str, Any]) -> Callable[[str], Any]:
    """IPython where it is installed, else the interpreter of the standard library."""
    try:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config
    except ImportError:
        return _plain_engine(names)
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    shell = InteractiveShell(
        config=config, user_ns=names, user_module=ModuleType("py4dstem_console"), cache_size=0
    )
    shell.colors = "nocolor"
    return lambda source: shell.run_cell(source, store_history=False).result


def _plain_engine(names: dict[str, Any]) -> Callable[[str], Any]:
    interpreter = _Plain(names)

    def run(source: str) -> Any:
        interpreter.value = None
        one = "\n" not in source.strip()
        whole = f"{source.rstrip()}\n\n"  # the empty line ends what is indented
        if interpreter.runsource(whole, "<console>", "single" if one else "exec"):
            interpreter.write("SyntaxError: there is something missing at the end\n")
        return interpreter.value

    return run


class _Plain(code.InteractiveInterpreter):
    """Remembers the value that it shows."""

    value: Any = None

    def runcode(self, compiled: Any) -> None:
        usual = sys.displayhook
        sys.displayhook = self._show
        try:
            super().runcode(compiled)
        finally:
            sys.displayhook = usual

    # The originals hand errors to ``sys.excepthook``, and that is the dialog of the program.
    def showtraceback(self) -> None:
        error = sys.exception()
        if error is not None:
            inner = None if error.__traceback__ is None else error.__traceback__.tb_next
            self.write("".join(traceback.format_exception(error.with_traceback(inner))))

    def showsyntaxerror(self, filename: str | None = None, **_: Any) -> None:
        error = sys.exception()
        self.write("".join(traceback.format_exception_only(error)))

    def _show(self, value: Any) -> None:
        self.value = value
        if value is not None:
            self.write(f"{value!r}\n")
