"""Before Qt is imported: no screen, a binding, and where there is no Qt, no tests of windows."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

if sys.platform != "win32" and "QT_QPA_PLATFORM" not in os.environ:
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt5")
os.environ.setdefault("PYTEST_QT_API", os.environ["PYQTGRAPH_QT_LIB"].lower())

# A shell that starts the tests in the background has them, and all they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _why_no_qt() -> str:
    """Why windows cannot be tested here, or ""."""
    try:
        import_module(f"{os.environ['PYQTGRAPH_QT_LIB']}.QtWidgets")
        import_module("pyqtgraph")
        import_module("pytestqt")
    except ImportError as error:  # a missing libGL too
        return str(error)
    return ""


WHY_NO_QT = _why_no_qt()
collect_ignore_glob = [
    "py4DSTEM/gui/*.py",
    *(f"py4DSTEM/gui/{room}/*" for room in ("jobs", "views", "panels", "handlers")),
    "tests/gui/test_*.py",
] if WHY_NO_QT else []  # fmt: skip


def pytest_report_header() -> str | None:
    """Say what is left out."""
    return f"tests of the desktop program are left out: {WHY_NO_QT}" if WHY_NO_QT else None
