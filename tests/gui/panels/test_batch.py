"""Runs in the program: put together, tried dry, run apart, looked at, opened."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyqtgraph.Qt import QtCore, QtGui, QtTest, QtWidgets

import py4DSTEM
from py4DSTEM.batch.lock import locked
from py4DSTEM.batch.runner import run_recipe
from py4DSTEM.gui.panels import batch as module
from py4DSTEM.gui.panels.batch import BatchPanel
from py4DSTEM.gui.preferences import Preferences
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.window import MainWindow

Qt = QtCore.Qt
LEFT = Qt.MouseButton.LeftButton
RECIPE = """schema = 1
name = "look"
[[step]]
use = "mean-pattern"
name = "mean"
[[step]]
use = "virtual-images"
name = "images"
detectors = { bf = { kind = "disk", center = [4, 5], radius = 3 } }
[output]
report = false
[qc]
"mean.image_mean" = { max = 4.5 }
"""


def write_scan(path: Path, dose: float = 4) -> Path:
    patterns = np.random.default_rng(0).poisson(dose, (2, 3, 8, 10)).astype(np.uint16)
    py4DSTEM.save(path, py4DSTEM.DataCube(patterns))
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a good file, one beyond its limit, and one that is damaged; never changed."""
    folder = tmp_path_factory.mktemp("done")
    bad = folder / "bad.h5"
    bad.write_bytes(b"no scan at all")
    (folder / "look.toml").write_text(RECIPE)
    scans = [write_scan(folder / "good.h5"), write_scan(folder / "bright.h5", 40), bad]
    run_recipe(folder / "look.toml", scans, folder / "out", retries=0)
    return folder


@pytest.fixture
def panel(session: Session, qtbot: Any) -> Iterator[BatchPanel]:
    made = BatchPanel(session)
    qtbot.addWidget(made)
    made.resize(620, 800)
    made.show()
    yield made
    qtbot.waitUntil(lambda: made._lane.idle and made.editor._lane.idle and not made._running)


def click(one: QtWidgets.QPushButton) -> None:
    assert one.isEnabled(), one.text()
    QtTest.QTest.mouseClick(one, LEFT)


def write(panel: BatchPanel, qtbot: Any, text: str = RECIPE) -> None:
    """A recipe, once it has been looked at."""
    panel.editor.show_text(text, "look.toml")
    qtbot.waitUntil(lambda: panel.editor.found is not None, timeout=20_000)


def drop(widget: QtWidgets.QWidget, *paths: Path) -> None:
    """Files dropped with the mouse."""
    data = QtCore.QMimeData()
    data.setUrls([QtCore.QUrl.fromLocalFile(str(path)) for path in paths])
    actions, keys = Qt.DropAction.CopyAction, Qt.KeyboardModifier.NoModifier
    enter = QtGui.QDragEnterEvent(QtCore.QPoint(20, 20), actions, data, LEFT, keys)
    QtWidgets.QApplication.sendEvent(widget, enter)
    assert enter.isAccepted()
    place = QtCore.QPointF(20, 20)
    QtWidgets.QApplication.sendEvent(widget, QtGui.QDropEvent(place, actions, data, LEFT, keys))


# ---- the recipe ----------------------------------------------------------------------------------
def test_a_recipe_is_checked_while_it_is_typed(panel: BatchPanel, qtbot: Any) -> None:
    text = panel.editor.text
    panel.tabs.setCurrentWidget(panel.editor)
    QtTest.QTest.keyClicks(text, "schema = 1")
    QtTest.QTest.keyClick(text, Qt.Key.Key_Return)
    QtTest.QTest.keyClicks(text, "[[step]]")
    QtTest.QTest.keyClick(text, Qt.Key.Key_Return)
    QtTest.QTest.keyClicks(text, 'use = "mean-patern"')
    problems = panel.editor.problems
    qtbot.waitUntil(lambda: problems.count() == 1, timeout=20_000)
    assert problems.item(0).text().startswith("recipe.toml:3: ")
    assert 'did you mean "mean-pattern"' in problems.item(0).text()
    assert len(text.extraSelections()) == 1 and not panel.buttons["run"].isEnabled()
    text.moveCursor(QtGui.QTextCursor.MoveOperation.Start)
    place = problems.visualItemRect(problems.item(0)).center()
    QtTest.QTest.mouseClick(problems.viewport(), LEFT, pos=place)
    assert text.textCursor().blockNumber() == 2
    text.moveCursor(QtGui.QTextCursor.MoveOperation.End)
    for _ in range(len('ern"')):
        QtTest.QTest.keyClick(text, Qt.Key.Key_Backspace)
    QtTest.QTest.keyClicks(text, 'tern"')
    qtbot.waitUntil(lambda: panel.editor.found is not None, timeout=20_000)
    assert problems.count() == 0 and panel.editor.words.text() == "✔ nothing is wrong"
    assert "one pass over the scan" in panel.editor.words.toolTip()


def test_the_recipe_of_the_project_is_taken(session: Session, qtbot: Any) -> None:
    session.add_cube(py4DSTEM.DataCube(np.ones((2, 3, 8, 10), np.uint16)), "mine")
    qtbot.waitUntil(lambda: session.project.scan is not None, timeout=20_000)
    made = BatchPanel(session)
    qtbot.addWidget(made)
    assert 'name = "mine"' in made.editor.text.toPlainText()
    qtbot.waitUntil(lambda: made.editor.found is not None, timeout=20_000)


def test_a_recipe_of_a_file_finds_what_lies_beside_it(
    panel: BatchPanel, qtbot: Any, tmp_path: Path
) -> None:
    (tmp_path / "r.toml").write_text(RECIPE)
    panel.open_recipe(str(tmp_path / "r.toml"))
    qtbot.waitUntil(lambda: panel.editor.found is not None, timeout=20_000)
    assert panel.draft().folder == str(tmp_path) and panel.editor.title.text() == "r.toml"
    panel.open_recipe(str(tmp_path / "gone.toml"))
    qtbot.waitUntil(lambda: "no such recipe" in panel.trouble.text())
    assert panel.editor.title.text() == "r.toml"


# ---- the files -----------------------------------------------------------------------------------
def test_files_are_dropped_typed_and_removed(panel: BatchPanel, tmp_path: Path) -> None:
    panel.tabs.setCurrentWidget(panel.files)
    a, b = write_scan(tmp_path / "a.h5"), write_scan(tmp_path / "b.h5")
    drop(panel.files, a, b, a)
    QtTest.QTest.keyClicks(panel.files.pattern, "data/*.h5")
    QtTest.QTest.keyClick(panel.files.pattern, Qt.Key.Key_Return)
    assert panel.files.names == (str(a), str(b), "data/*.h5")
    assert panel.tabs.tabText(1) == "Files (3)"
    panel.files.list.setCurrentRow(1)
    panel.files.list.setFocus()
    QtTest.QTest.keyClick(panel.files.list, Qt.Key.Key_Delete)
    assert panel.files.names == (str(a), "data/*.h5")


# ---- runs ----------------------------------------------------------------------------------------
def test_a_dry_run_says_what_and_why(panel: BatchPanel, qtbot: Any, done: Path) -> None:
    write(panel, qtbot)
    new = done / "new.h5"
    shutil.copy(done / "good.h5", new)
    panel.files.add(str(done / "good.h5"), str(new), str(done / "gone.h5"))
    panel.out.setText(str(done / "out"))
    click(panel.buttons["dry"])
    qtbot.waitUntil(lambda: panel.words.text().startswith("dry run"), timeout=20_000)
    states = [(line.cells[0], line.cells[2], line.cells[5]) for line in panel.table.lines]
    assert states[0] == ("✔ done", "nothing", "done")
    assert states[1] == ("… to do", "mean, images", "not begun")
    assert states[2][0] == "✘ missing" and "no such file" in states[2][2]
    assert panel.words.text() == "dry run: 2 of 3 files to do; nothing was run"


def test_a_run_is_shown_file_by_file(panel: BatchPanel, qtbot: Any, done: Path) -> None:
    panel.attach(str(done / "out"))
    qtbot.waitUntil(lambda: len(panel.table.lines) == 3, timeout=20_000)
    assert [line.cells[0] for line in panel.table.lines] == ["✔ done", "▲ done", "✘ failed"]
    assert [line.level for line in panel.table.lines] == ["good", "bad", "bad"]
    assert "damaged" in panel.table.lines[2].cells[5]
    assert "above 4.5" in panel.table.lines[1].tip
    colors = [
        panel.table.model().index(k, 0).data(Qt.ItemDataRole.BackgroundRole).color().name()
        for k in range(3)
    ]
    assert colors == ["#009e73", "#d55e00", "#d55e00"]
    assert panel.words.text() == "2 done, 1 failed, 1 beyond the quality limits"
    assert panel.editor.text.toPlainText() == (done / "out" / "run.toml").read_text()
    assert panel.files.names[0] == str(done / "good.h5")
    qtbot.waitUntil(lambda: panel.editor.found is not None, timeout=20_000)
    assert panel.buttons["retry"].isEnabled() and not panel.buttons["stop"].isEnabled()


def test_a_run_that_is_at_work_can_be_stopped_and_not_begun(
    panel: BatchPanel, qtbot: Any, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(module, "stop", lambda out, now: asked.append(now))
    with locked(done / "out"):
        panel.attach(str(done / "out"))
        qtbot.waitUntil(lambda: "at work" in panel.words.text(), timeout=20_000)
        assert not panel.buttons["run"].isEnabled() and panel.bar.isVisible()
        click(panel.buttons["stop"])
        qtbot.waitUntil(lambda: asked == [False])
        qtbot.waitUntil(lambda: panel.buttons["stop"].text() == "End now")
        click(panel.buttons["stop"])
        qtbot.waitUntil(lambda: asked == [False, True])
    qtbot.waitUntil(lambda: "at work" not in panel.words.text(), timeout=20_000)


def test_a_run_from_beginning_to_end(panel: BatchPanel, qtbot: Any, tmp_path: Path) -> None:
    scan, late = write_scan(tmp_path / "a.h5"), tmp_path / "late.h5"
    write(panel, qtbot)
    panel.files.add(str(scan), str(late))
    panel.out.setText(str(tmp_path / "out"))
    said: list[str] = []
    panel.session.said.connect(said.append)
    click(panel.buttons["run"])
    qtbot.waitUntil(lambda: bool(said), timeout=60_000)
    assert [line.cells[0] for line in panel.table.lines] == ["✔ done", "✘ failed"]
    assert "missing" in panel.table.lines[1].cells[5] and said[0].endswith("1 done, 1 failed")
    assert panel.buttons["run"].text() == "Go on"
    write_scan(late)
    click(panel.buttons["retry"])
    qtbot.waitUntil(lambda: len(said) == 2, timeout=60_000)
    assert [line.cells[0] for line in panel.table.lines] == ["✔ done", "✔ done"]


def test_a_run_that_cannot_begin_says_why(panel: BatchPanel, qtbot: Any, tmp_path: Path) -> None:
    write(panel, qtbot)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    panel.files.add(str(write_scan(tmp_path / "a.h5")))
    panel.out.setText(str(tmp_path / "mine"))
    click(panel.buttons["run"])
    qtbot.waitUntil(lambda: "holds no run" in panel.trouble.text(), timeout=60_000)
    panel.out.setText(str(tmp_path / "new"))
    panel.files.set_names(str(tmp_path / "*.nothing"))
    click(panel.buttons["run"])
    qtbot.waitUntil(lambda: "no file matches" in panel.trouble.text(), timeout=60_000)
    assert panel.buttons["run"].isEnabled()


def test_a_double_click_opens_a_file_with_its_results(
    panel: BatchPanel, qtbot: Any, done: Path
) -> None:
    panel.attach(str(done / "out"))
    qtbot.waitUntil(lambda: len(panel.table.lines) == 3, timeout=20_000)
    place = panel.table.visualRect(panel.table.model().index(0, 1)).center()
    QtTest.QTest.mouseClick(panel.table.viewport(), LEFT, pos=place)
    QtTest.QTest.mouseDClick(panel.table.viewport(), LEFT, pos=place)
    session = panel.session
    qtbot.waitUntil(
        lambda: session.project.scan is not None and len(session.project.scan.results) == 2,
        timeout=20_000,
    )
    scan = session.project.scan
    assert scan.source.path == str(done / "good.h5")
    assert [result.name for result in scan.results] == ["mean", "images"]
    wanted = session.cube(scan.key).mean_pattern().data
    np.testing.assert_array_equal(scan.result("mean").value.data, wanted)
    assert scan.result("mean").made.kind == "read"


def test_the_report_is_written_and_opened(
    panel: BatchPanel, qtbot: Any, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(module, "open_outside", opened.append)
    panel.attach(str(done / "out"))
    qtbot.waitUntil(lambda: panel.buttons["report"].isEnabled(), timeout=20_000)
    click(panel.buttons["report"])
    qtbot.waitUntil(lambda: bool(opened), timeout=60_000)
    assert opened == [str(done / "out" / "report.html")] and Path(opened[0]).is_file()


def test_the_menu_of_a_row(panel: BatchPanel, qtbot: Any, done: Path) -> None:
    panel.attach(str(done / "out"))
    qtbot.waitUntil(lambda: len(panel.table.lines) == 3, timeout=20_000)
    panel.table.selectRow(2)
    menu = QtWidgets.QMenu()
    panel._fill(menu, panel.table.chosen)
    can = {action.text(): action.isEnabled() for action in menu.actions()}
    assert can["Where the error was"] and can["Open with its results"]


def test_the_actions_of_the_menu_act_on_the_panel(qtbot: Any) -> None:
    window = MainWindow(Session(workers=1), Preferences(autosave_s=0), safe=True)
    qtbot.addWidget(window, before_close_func=MainWindow.stop)
    window.show()
    window.actions_.trigger("batch.panel")
    panel = window.panels["batch"]
    assert panel.isVisible()
    shown: list[str] = []
    window.troubles.show = lambda doing, error: shown.append(str(error))
    for name in ("run", "dry_run", "stop", "retry", "report"):
        window.actions_.trigger(f"batch.{name}")
    assert len(shown) == 5 and shown[0].startswith("there is no recipe")
    assert shown[2] == "no run is at work in this folder"
    qtbot.waitUntil(lambda: panel._lane.idle)
