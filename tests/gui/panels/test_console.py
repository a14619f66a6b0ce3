"""Python beside the windows."""

from __future__ import annotations

import builtins
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from py4DSTEM import DataCube


@pytest.fixture(params=["ipython", "plain"])
def panel(
    request: pytest.FixtureRequest, qtbot: Any, session: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    from py4DSTEM.gui.jobs import interpreter
    from py4DSTEM.gui.panels.console import ConsolePanel

    if request.param == "plain":
        monkeypatch.setattr(interpreter, "_engine", interpreter._plain_engine)
    else:
        pytest.importorskip("IPython")
    made = ConsolePanel(session)
    qtbot.addWidget(made)
    made.show()
    yield made
    made.interpreter.stop()
    made.interpreter.wait()


def do(qtbot: Any, panel: Any, source: str) -> str:
    """What is shown after a piece has run."""
    before = len(panel.output.toPlainText())
    panel.run(source)
    qtbot.waitUntil(lambda: not panel.interpreter.busy, timeout=30_000)
    qtbot.waitUntil(lambda: not panel.stop.isEnabled(), timeout=30_000)
    return panel.output.toPlainText()[before:]


@pytest.fixture
def cube(qtbot: Any, session: Any) -> DataCube:
    made = DataCube(np.random.default_rng(0).poisson(3, (3, 4, 8, 9)).astype(np.uint16))
    with qtbot.waitSignal(session.opened, timeout=30_000):
        session.add_cube(made, "a")
    return made


def test_expressions_and_prints_are_shown(qtbot: Any, panel: Any) -> None:
    assert "42" in do(qtbot, panel, "6 * 7")
    assert "hello" in do(qtbot, panel, "print('hello')")
    assert "3\n" in do(qtbot, panel, "x = 3\nprint(x)")
    assert "ZeroDivisionError" in do(qtbot, panel, "1 / 0")
    assert "SyntaxError" in do(qtbot, panel, "for in")
    assert "8" in do(qtbot, panel, "x + 5")


def test_the_scan_is_at_hand(qtbot: Any, panel: Any, session: Any, cube: DataCube) -> None:
    assert "(3, 4, 8, 9)" in do(qtbot, panel, "cube.shape")
    assert "'a'" in do(qtbot, panel, "project.scan.name")
    total = int(np.asarray(cube.data, np.int64).sum())
    assert str(total) in do(qtbot, panel, "int(np.asarray(cube.data, np.int64).sum())")


def test_values_are_kept_as_results(qtbot: Any, panel: Any, session: Any, cube: DataCube) -> None:
    do(qtbot, panel, "kept = keep('sums', py4DSTEM.RealSlice(cube.data.sum(axis=(2, 3))))")
    assert panel.interpreter.names["kept"] == "sums"
    np.testing.assert_array_equal(
        session.project.scan.result("sums").value.data, cube.data.sum(axis=(2, 3))
    )
    assert "['sums']" in do(qtbot, panel, "list(results)")
    assert "sums 2" in do(qtbot, panel, "keep('sums', results['sums'])")
    do(qtbot, panel, "session.undo()")
    assert [r.name for r in session.project.scan.results] == ["sums"]
    assert "ParameterError" in do(qtbot, panel, "keep(3, 4)")


def test_acts_happen_in_the_gui_thread(
    qtbot: Any, panel: Any, session: Any, cube: DataCube
) -> None:
    threads: list[int] = []
    session.changed.connect(lambda *_: threads.append(threading.get_ident()))
    do(qtbot, panel, "keep('one', 1)")
    assert threads == [threading.get_ident()]
    where = do(qtbot, panel, "import threading; threading.get_ident()")
    assert str(threading.get_ident()) not in where


def test_names_of_the_user_stay_theirs(
    qtbot: Any, panel: Any, session: Any, cube: DataCube
) -> None:
    do(qtbot, panel, "cube = 'mine'")
    session.keep("one", 1)
    assert "mine" in do(qtbot, panel, "cube")
    assert "['one']" in do(qtbot, panel, "list(results)")


def test_long_work_blocks_nothing_and_can_be_stopped(qtbot: Any, panel: Any) -> None:
    panel.run("import time\nwhile True: time.sleep(0.01)")
    qtbot.waitUntil(lambda: panel.stop.isEnabled())
    ticks: list[float] = []
    from pyqtgraph.Qt import QtCore

    timer = QtCore.QTimer()
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start(5)
    qtbot.waitUntil(lambda: len(ticks) > 10, timeout=10_000)
    assert panel.interpreter.busy
    qtbot.mouseClick(panel.stop, QtCore.Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel.interpreter.busy, timeout=10_000)
    qtbot.waitUntil(lambda: "KeyboardInterrupt" in panel.output.toPlainText(), timeout=10_000)
    assert "5" in do(qtbot, panel, "2 + 3")


def test_floods_are_cut(qtbot: Any, panel: Any) -> None:
    shown = do(qtbot, panel, "for k in range(100_000): print('x' * 20)")
    assert 1000 < len(shown) < 3_000_000
    assert panel.output.document().blockCount() <= 5001


def test_nothing_of_the_program_is_changed(qtbot: Any, panel: Any) -> None:
    main = sys.modules["__main__"]
    hooks = sys.excepthook, sys.displayhook, sys.stdout, sys.stderr
    do(qtbot, panel, "1 + 1")
    assert (sys.excepthook, sys.displayhook, sys.stdout, sys.stderr) == hooks
    assert sys.modules["__main__"] is main
    assert builtins.input is not panel.interpreter.names["input"]
    assert "ParameterError" in do(qtbot, panel, "input('?')")
    do(qtbot, panel, "raise SystemExit")
    do(qtbot, panel, "exit()")
    assert "4" in do(qtbot, panel, "2 + 2")


def test_figures_are_shown_as_pictures(qtbot: Any, panel: Any, cube: DataCube) -> None:
    do(qtbot, panel, "from matplotlib.figure import Figure\nfigure = Figure((2, 1))")
    before = panel.output.toPlainText().count("￼")
    do(qtbot, panel, "figure")
    qtbot.waitUntil(lambda: panel.output.toPlainText().count("￼") == before + 1, timeout=30_000)


def test_typing(qtbot: Any, panel: Any) -> None:
    from pyqtgraph.Qt import QtCore

    keys, shift = QtCore.Qt.Key, QtCore.Qt.KeyboardModifier.ShiftModifier
    entry = panel.entry
    qtbot.keyClicks(entry, "number = 5")
    qtbot.keyClick(entry, keys.Key_Return)
    qtbot.waitUntil(lambda: not panel.interpreter.busy)
    qtbot.waitUntil(lambda: not panel.stop.isEnabled())
    assert entry.toPlainText() == ""
    qtbot.keyClicks(entry, "numb")
    qtbot.keyClick(entry, keys.Key_Tab)
    assert entry.toPlainText() == "number"
    entry.clear()
    qtbot.keyClicks(entry, "for k in range(3):")
    qtbot.keyClick(entry, keys.Key_Return)
    qtbot.keyClicks(entry, "    number += k")
    qtbot.keyClick(entry, keys.Key_Return)
    assert entry.toPlainText().count("\n") == 2
    qtbot.keyClick(entry, keys.Key_Return)
    qtbot.waitUntil(lambda: panel.interpreter.names["number"] == 8, timeout=10_000)
    qtbot.keyClick(entry, keys.Key_Up)
    qtbot.keyClick(entry, keys.Key_Up)
    qtbot.keyClick(entry, keys.Key_Up)
    qtbot.keyClick(entry, keys.Key_Up)
    assert entry.toPlainText() == "number = 5"
    qtbot.keyClick(entry, keys.Key_Down)
    qtbot.keyClick(entry, keys.Key_Down)
    qtbot.keyClick(entry, keys.Key_Down)
    qtbot.keyClick(entry, keys.Key_Down)
    assert entry.toPlainText() == ""
    qtbot.keyClicks(entry, "a")
    qtbot.keyClick(entry, keys.Key_Return, shift)
    assert entry.toPlainText().startswith("a") and len(entry.toPlainText()) == 2
