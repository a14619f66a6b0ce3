"""Whatever goes wrong is told in one dialog that blocks nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.errors import CorruptFile, ParameterError
from py4DSTEM.gui.errors import MOST, Troubles, described, redacted, report
from py4DSTEM.gui.preferences import log_path
from py4DSTEM.gui.state.commands import ShowScan


@pytest.fixture
def troubles(qtbot: Any) -> Iterator[Troubles]:
    made = Troubles(lambda: (ShowScan(key="scan7"),))
    yield made
    made.uninstall()
    if made.dialog is not None:
        made.dialog.close()


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_foreseen_error_says_what_to_do_first(qtbot: Any, troubles: Troubles) -> None:
    error = CorruptFile("the file ends early", path="/data/a.h5", hint="Copy it again")
    error.add_note("while reading the header")
    with qtbot.waitSignal(troubles.shown):
        troubles.show("open a.h5", raised(error))
    dialog = troubles.dialog
    assert dialog is not None and dialog.isVisible() and not dialog.isModal()
    assert dialog.title.text() == "Could not open a.h5"
    assert "Copy it again" in dialog.what.text() and "while reading" in dialog.what.text()
    assert not dialog.advice.isVisible() and not dialog.details.isVisible()
    dialog.more.click()
    assert dialog.details.isVisible() and "CorruptFile" in dialog.details.toPlainText()


def test_a_bug_is_called_one(qtbot: Any, troubles: Troubles) -> None:
    with qtbot.waitSignal(troubles.shown):
        troubles.show("draw", raised(KeyError("lost")))
    assert troubles.dialog is not None
    assert troubles.dialog.advice.isVisible()
    assert troubles.dialog.what.text() == "KeyError: 'lost'"


def test_a_flood_is_one_dialog(qtbot: Any, troubles: Troubles) -> None:
    for _ in range(1000):
        troubles.show("move", ValueError("no"))
    for number in range(2 * MOST):
        troubles.show("fit", ValueError(str(number)))
    qtbot.waitUntil(lambda: troubles.dialog is not None and troubles.dialog.isVisible())
    dialogs = [w for w in QtWidgets.QApplication.topLevelWidgets() if w is troubles.dialog]
    found = troubles.dialog.troubles  # type: ignore[union-attr]
    assert len(dialogs) == 1
    assert found[0].count == 1000 and len(found) == MOST
    assert "(1000 times)" in troubles.dialog.title.text()  # type: ignore[union-attr]


def test_errors_of_slots_and_threads_arrive(
    qtbot: Any, troubles: Troubles, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sys.excepthook, threading.excepthook
    troubles.install()
    assert sys.excepthook is not before[0]
    with qtbot.waitSignal(troubles.shown) as told:
        sys.excepthook(ValueError, raised(ValueError("in a slot")), None)
    assert told.args[0].what == "ValueError: in a slot"

    def fail() -> None:
        raise ValueError("in a thread")

    with qtbot.waitSignal(troubles.shown) as told:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert told.args[0].what == "ValueError: in a thread"
    troubles.uninstall()
    assert (sys.excepthook, threading.excepthook) == before


def test_what_qt_says_goes_to_the_log(qtbot: Any, troubles: Troubles) -> None:
    troubles.install()
    QtCore.qWarning("a warning of Qt")
    troubles.uninstall()
    assert troubles.dialog is None
    assert "a warning of Qt" in log_path().read_text(encoding="utf-8")


def test_the_report_names_versions_acts_and_no_home(qtbot: Any, troubles: Troubles) -> None:
    with qtbot.waitSignal(troubles.shown):
        troubles.show("open", raised(ParameterError(f"{Path.home()}/secret.h5 is empty")))
    assert troubles.dialog is not None
    troubles.dialog.copy.click()
    text = QtGui.QGuiApplication.clipboard().text()
    assert "numpy: " in text and "qt: " in text and "platform: " in text
    assert "show {" in text and "scan7" in text
    assert "~/secret.h5" in text and str(Path.home()) not in text
    assert "ParameterError" in text


def test_closing_forgets(qtbot: Any, troubles: Troubles) -> None:
    with qtbot.waitSignal(troubles.shown):
        troubles.show("a", ValueError("1"))
    assert troubles.dialog is not None
    troubles.dialog.close()
    with qtbot.waitSignal(troubles.shown):
        troubles.show("b", ValueError("2"))
    assert [t.doing for t in troubles.dialog.troubles] == ["b"]


def test_words() -> None:
    assert "memory" in described("", MemoryError()).what
    assert described("", OSError(28, "No space left on device")).expected
    assert redacted(f"at {Path.home()}/x") == "at ~/x"
    assert "last acts, oldest first:\nnone" in report([])
