"""The program itself: application, session, window, and its end.  Imported once Qt is there."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM import __version__
from py4DSTEM.gui import preferences as kept
from py4DSTEM.gui import theme
from py4DSTEM.gui.machine import give_memory_back
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.window import MainWindow

__all__ = ["application", "start"]


def start(options: argparse.Namespace) -> int:
    """Show the window until it is closed; the exit code."""
    app = application()
    preferences = kept.Preferences() if options.safe else kept.load()
    theme.apply(preferences.theme)
    session = Session(workers=options.workers or preferences.workers or None)
    window = MainWindow(session, preferences, safe=options.safe)
    window.troubles.install()
    window.show()
    QtCore.QTimer.singleShot(0, lambda: _begin(window, options.files))
    try:
        with ended_by_signals(window.end):
            return int(app.exec())
    finally:
        window.stop()
        window.troubles.uninstall()


def _begin(window: MainWindow, files: list[str]) -> None:
    """After the first picture of the window."""
    window.open(*files)
    window.offer_recovery()


def application() -> Any:
    """The one application; made sharp on dense screens when it is made here."""
    app = QtWidgets.QApplication.instance()
    if app is not None:
        return app
    attributes = QtCore.Qt.ApplicationAttribute
    for name in ("AA_EnableHighDpiScaling", "AA_UseHighDpiPixmaps"):  # Qt 6 does so by itself
        if hasattr(attributes, name):
            QtWidgets.QApplication.setAttribute(getattr(attributes, name))
    policy = QtCore.Qt.HighDpiScaleFactorRoundingPolicy.PassThrough
    QtGui.QGuiApplication.setHighDpiScaleFactorRoundingPolicy(policy)
    # A thread that works in Python gives way to the GUI thread ten times sooner than usual.
    sys.setswitchinterval(0.0005)
    give_memory_back()
    app = QtWidgets.QApplication(["py4dstem"])
    app.setApplicationName("py4dstem")
    app.setApplicationDisplayName("")
    app.setApplicationVersion(__version__)
    return app


@contextmanager
def ended_by_signals(end: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C in the terminal, and SIGTERM, call `end` in the GUI thread.

    Python runs its handlers between two of its own instructions, which a waiting Qt never comes
    to: the number of the signal is written to a socket that Qt watches.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        notifier = QtCore.QSocketNotifier(ours.fileno(), QtCore.QSocketNotifier.Type.Read)
        notifier.activated.connect(lambda *_: (ours.recv(64), end()))
        numbers = (signal.SIGINT, signal.SIGTERM)
        handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
        try:
            yield
        finally:
            notifier.setEnabled(False)
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
