"""Panels in the window: behind other tabs, and at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from py4DSTEM.gui.preferences import Preferences
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.stage import Marks
from py4DSTEM.gui.window import MainWindow


def scan() -> Any:
    """A disk in the middle of small patterns."""
    import py4DSTEM

    i, j = np.indices((24, 20))
    near = (np.hypot(i - 11, j - 9) < 5).astype(np.uint16)
    return py4DSTEM.DataCube(np.arange(100, 135).reshape(5, 7, 1, 1).astype(np.uint16) * near)


@pytest.fixture
def window(qtbot: Any) -> Iterator[MainWindow]:
    made = MainWindow(Session(workers=1), Preferences(autosave_s=0), safe=True)
    qtbot.addWidget(made, before_close_func=MainWindow.stop)
    made.show()
    made.session.add_cube(scan(), "one")
    settle(made, qtbot)
    yield made


def settle(window: MainWindow, qtbot: Any) -> None:
    session = window.session
    qtbot.waitUntil(
        lambda: not session.jobs.active and window.live.idle and session.project.scan is not None,
        timeout=60_000,
    )


def names(window: MainWindow) -> set[str]:
    """What panels have put on the image of the scan."""
    return {name for panel, name in window.session.stage.overlays if panel == "real"}


def test_what_lies_behind_another_tab_draws_nothing(window: MainWindow, qtbot: Any) -> None:
    bragg = window.show_panel("bragg")
    qtbot.waitUntil(lambda: names(window) == {"bragg: previews"})
    window.show_panel("quality")
    qtbot.waitUntil(lambda: not bragg.isVisible())
    assert not names(window)
    window.show_panel("bragg")
    qtbot.waitUntil(lambda: names(window) == {"bragg: previews"})
    window.docks.bring("inspector")
    qtbot.waitUntil(lambda: not names(window))
    assert window.inspector.isVisible()


def test_the_line_of_a_profile_goes_with_it(window: MainWindow, qtbot: Any) -> None:
    profile = window.views["profile"]
    qtbot.waitUntil(lambda: "real" in window.session.stage.showing)
    profile.set_mode("line on scan")
    assert names(window) == {"profile:line"}
    window.actions_.trigger("view.layout_2")
    assert not names(window)
    window.actions_.trigger("view.layout_4")
    assert names(window) == {"profile:line"}
    settle(window, qtbot)


def test_a_stage_that_has_stopped_hears_nothing() -> None:
    session = Session(workers=1)
    heard: list[Any] = []
    session.stage.overlaid.connect(lambda *said: heard.append(said))
    marks = Marks(np.zeros((1, 2)))
    session.stage.put("real", "a", marks)
    session.close()
    session.stage.put("real", "b", marks)
    assert heard == [("real", "a", marks), ("real", "a", None)]
    assert not session.stage.overlays


def test_every_control_says_what_it_does_and_is_reached_by_tab(window: MainWindow) -> None:
    from pyqtgraph.Qt import QtCore, QtWidgets

    from py4DSTEM.gui.panels import PANELS

    for name in PANELS:
        window.show_panel(name)
    buttons = QtWidgets.QAbstractButton
    kinds = (buttons, QtWidgets.QComboBox, QtWidgets.QAbstractSpinBox, QtWidgets.QLineEdit)
    found = 0
    for control in window.findChildren(QtWidgets.QWidget):
        above, said = control, ""
        while above is not None and above is not window:
            said, above = said or above.toolTip(), above.parentWidget()
        own = isinstance(control, kinds) and not control.objectName().startswith("qt_")
        qt = isinstance(control.parentWidget(), QtWidgets.QTabBar | QtWidgets.QTableView)
        if not own or qt:
            continue
        found += 1
        assert said, (type(control), type(control.parentWidget()))
        tab = QtCore.Qt.FocusPolicy.TabFocus
        proxied = isinstance(control.parentWidget(), kinds)
        assert proxied or control.focusPolicy() & tab == tab, (control, control.parentWidget())
    assert found > 100


END = """
import sys, time
from importlib import import_module
from pyqtgraph.Qt import QT_LIB, QtTest
from py4DSTEM.gui import preferences, program
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.window import MainWindow
from py4DSTEM.gui.panels import PANELS
import numpy as np
import py4DSTEM
app = program.application()
def day():
    session = Session(workers=1)
    window = MainWindow(session, preferences.Preferences(autosave_s=0), safe=True)
    window.show()
    i, j = np.indices((24, 20))
    disk = 100 * (np.hypot(i - 11, j - 9) < 5)
    session.add_cube(py4DSTEM.DataCube(np.tile(disk.astype(np.uint16), (5, 7, 1, 1))), 'one')
    end = time.monotonic() + 60
    while (session.jobs.active or not session.project.scans) and time.monotonic() < end:
        QtTest.QTest.qWait(20)
    for name in PANELS:
        window.show_panel(name)
        QtTest.QTest.qWait(20)
    window.show_panel(sys.argv[1])
    session.raw = True
    QtTest.QTest.qWait(60)
    print('shown', sorted(window.panels) == sorted(PANELS), window.panels[sys.argv[1]].isVisible())
    window.stop()
    sip = import_module(f'{QT_LIB}.sip')
    sip.delete(session)
    sip.delete(window)
day()
"""


@pytest.mark.parametrize("front", ["bragg", "strain"])
def test_nothing_is_printed_at_the_end(front: str, tmp_path: Path) -> None:
    """Qt takes widgets and session down in any order: here the session first."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", END, front],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PY4DSTEM_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["shown", "True", "True"]
    known = ("propagateSizeHints", "QStandardPaths", "XDG_RUNTIME_DIR")
    said = [line for line in done.stderr.splitlines() if not any(word in line for word in known)]
    assert not said
