"""The assistant for files that do not open by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from py4DSTEM import RawLayout, read, save

LAYOUT = RawLayout(dtype=">u2", Q_shape=(48, 64), offset_bytes=512)
SCAN = (5, 7)


@pytest.fixture
def frames() -> Any:
    rng = np.random.default_rng(4)
    x, y = np.indices(LAYOUT.Q_shape)
    mean = 40.0 * (np.hypot(x - 21, y - 35) < 8) + 0.2
    return rng.poisson(mean * rng.uniform(0.5, 1.5, (35, 1, 1))).astype(">u2")


@pytest.fixture
def raw(tmp_path: Path, frames: Any) -> Path:
    path = tmp_path / "unknown_48x64.bin"
    path.write_bytes(bytes(512) + frames.tobytes())
    return path


@pytest.fixture
def panel(qtbot: Any, session: Any) -> Any:
    from py4DSTEM.gui.panels.import_assistant import ImportAssistant

    made = ImportAssistant(session)
    qtbot.addWidget(made)
    made.resize(360, 700)
    made.show()
    return made


def settle(qtbot: Any, panel: Any) -> None:
    """Wait for the pictures of what is set."""
    qtbot.waitUntil(lambda: panel._lane.idle, timeout=20_000)
    qtbot.waitUntil(lambda: panel.scan is not None or panel.problem.text() != "", timeout=20_000)


def look(qtbot: Any, panel: Any, path: Path) -> None:
    with qtbot.waitSignal(panel.looked, timeout=20_000):
        panel.look(str(path))
    settle(qtbot, panel)


def test_the_first_guess_is_filled_in_and_shown(qtbot: Any, panel: Any, raw: Path) -> None:
    look(qtbot, panel, raw)
    assert panel.is_raw
    assert panel.layout_of_raw() == LAYOUT
    assert (panel.rx.value(), panel.ry.value()) == SCAN
    assert panel.fit.text().startswith("✓")
    qtbot.waitUntil(lambda: panel.thumbs[3].numbers is not None, timeout=10_000)
    assert panel.thumbs[3].numbers.shape == SCAN
    assert [t.numbers.shape for t in panel.thumbs[:3]] == [LAYOUT.Q_shape] * 3
    assert panel.captions[1].text() == "pattern 2, 3"
    assert panel.ok.isEnabled()


def test_opening_gives_the_numbers_of_the_file(
    qtbot: Any, panel: Any, session: Any, raw: Path, frames: Any
) -> None:
    look(qtbot, panel, raw)
    panel.load.setChecked(True)
    with qtbot.waitSignal(session.opened, timeout=30_000) as opened:
        qtbot.mouseClick(panel.ok, panel_button())
    cube = session.cube(opened.args[0])
    assert isinstance(cube.data, np.ndarray)
    assert cube.R_shape == SCAN
    np.testing.assert_array_equal(cube[2, 3].data, frames[17])
    assert session.project.scan.source.options["layout"] == LAYOUT


def panel_button() -> Any:
    from pyqtgraph.Qt import QtCore

    return QtCore.Qt.MouseButton.LeftButton


def test_sizes_that_do_not_fit_are_said_in_bytes(qtbot: Any, panel: Any, raw: Path) -> None:
    look(qtbot, panel, raw)
    panel.offset.setValue(500)
    assert "12 B too many" in panel.fit.text()
    settle(qtbot, panel)
    assert "whole number of patterns" in panel.problem.text()
    assert not panel.ok.isEnabled()
    panel.truncated.setChecked(True)
    settle(qtbot, panel)
    assert panel.problem.text() == ""
    assert panel.ok.isEnabled()
    panel.truncated.setChecked(False)
    panel.offset.setValue(512)
    panel.ry.setValue(8)
    frame = 48 * 64 * 2
    assert f"{5 * frame} B missing" in panel.fit.text()


def test_nonsense_is_said_beside_it(qtbot: Any, panel: Any, session: Any, raw: Path) -> None:
    troubles: list[Any] = []
    session.troubled.connect(lambda *trouble: troubles.append(trouble))
    look(qtbot, panel, raw)
    panel.dtype.setEditText("complex64")
    assert "real numbers" in panel.problem.text()
    assert not panel.ok.isEnabled() and not panel.copy.isEnabled()
    panel.dtype.setEditText("")
    assert panel.problem.text()
    panel.dtype.setEditText(">u2")
    panel.sync.setValue(-35)
    assert "sync_offset" in panel.problem.text()
    panel.sync.setValue(0)
    settle(qtbot, panel)
    assert panel.problem.text() == "" and panel.ok.isEnabled()
    assert troubles == []


def test_another_guess_fills_everything(qtbot: Any, panel: Any, raw: Path) -> None:
    look(qtbot, panel, raw)
    assert panel.guesses.count() > 1
    panel.guesses.setCurrentIndex(1)
    panel.guesses.activated.emit(1)
    guess = panel.guesses.currentData()
    assert panel.layout_of_raw() == guess.layout != LAYOUT
    assert (panel.rx.value(), panel.ry.value()) == guess.scan_shape


def test_the_python_opens_the_same(qtbot: Any, panel: Any, raw: Path, frames: Any) -> None:
    look(qtbot, panel, raw)
    names: dict[str, Any] = {}
    exec(panel.python(), names)
    assert names["cube"].R_shape == SCAN
    np.testing.assert_array_equal(names["cube"][4, 6].data, frames[-1])


def choose(qtbot: Any, box: Any, text: str) -> None:
    """As one chooses with the keys."""
    from pyqtgraph.Qt import QtCore

    box.setFocus()
    while box.currentText() != text:
        before = box.currentIndex()
        qtbot.keyClick(box, QtCore.Qt.Key.Key_Down)
        assert box.currentIndex() == before + 1


def test_pixels_are_summed_as_they_are_read(
    qtbot: Any, panel: Any, session: Any, raw: Path, frames: Any
) -> None:
    from py4DSTEM.gui.state.code import script
    from py4DSTEM.gui.state.recipe import recipe
    from py4DSTEM.recipe.execute import open_input
    from py4DSTEM.recipe.read import recipe_from_text

    look(qtbot, panel, raw)
    assert panel.binned.text() == "48 × 64 >u2"
    whole = panel.load.text()
    choose(qtbot, panel.bin, "4 × 4")
    assert panel.binned.text() == ""  # it was that of before
    settle(qtbot, panel)
    assert panel.binned.text() == "12 × 16 uint32"
    assert panel.fit.text().startswith("✓")  # the file is what it was
    assert panel.thumbs[0].numbers.shape == (12, 16)
    assert panel.load.text() != whole
    with qtbot.waitSignal(session.opened, timeout=30_000) as opened:
        qtbot.mouseClick(panel.ok, panel_button())
    cube = session.cube(opened.args[0])
    expected = frames.reshape(35, 12, 4, 16, 4).sum((2, 4))
    assert cube.shape == (*SCAN, 12, 16) and not isinstance(cube.data, np.ndarray)
    np.testing.assert_array_equal(cube[2, 3].data, expected[17])
    for text in (panel.python(), script(session.project, opened.args[0])):
        assert "bin_Q=4" in text
    names: dict[str, Any] = {}
    exec(panel.python(), names)
    np.testing.assert_array_equal(names["cube"][4, 6].data, expected[-1])
    again = open_input(recipe_from_text(recipe(session.project, opened.args[0])))
    np.testing.assert_array_equal(again[4, 6].data, expected[-1])


def test_more_pixels_than_there_are_cannot_be_summed(
    qtbot: Any, panel: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.npy"
    save(path, np.ones((3, 4, 6, 5), np.uint16))
    look(qtbot, panel, path)
    choose(qtbot, panel.bin, "8 × 8")
    settle(qtbot, panel)
    assert "larger than" in panel.problem.text() and not panel.ok.isEnabled()
    panel.bin.setCurrentIndex(0)
    settle(qtbot, panel)
    assert panel.problem.text() == "" and panel.options() == {}


def test_known_formats_say_their_shape(qtbot: Any, panel: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    save(path, np.ones((3, 4, 8, 6), np.uint16))
    look(qtbot, panel, path)
    assert not panel.is_raw and not panel.raw.isVisible()
    assert (panel.rx.value(), panel.ry.value()) == (3, 4)
    assert panel.options() == {}
    panel.rx.setValue(2)
    settle(qtbot, panel)
    assert panel.problem.text() != "" or panel.scan is not None
    panel.ry.setValue(6)
    settle(qtbot, panel)
    assert panel.scan.shape == (2, 6, 8, 6)
    assert panel.options() == {"scan_shape": (2, 6)}
    assert read(path, **panel.options()).shape == (2, 6, 8, 6)


def test_files_that_vanish_are_said(qtbot: Any, panel: Any, raw: Path, tmp_path: Path) -> None:
    panel.look(str(tmp_path / "none.raw"))
    settle(qtbot, panel)
    assert "no such file" in panel.problem.text()
    look(qtbot, panel, raw)
    raw.unlink()
    panel.flyback.setValue(1)
    settle(qtbot, panel)
    assert "no such file" in panel.problem.text()
    assert not panel.ok.isEnabled()


# ---- from the session ----------------------------------------------------------------------------
def test_unknown_files_ask_for_the_assistant(qtbot: Any, session: Any, raw: Path) -> None:
    told: list[Any] = []
    session.troubled.connect(lambda *trouble: told.append(trouble))
    session.open(raw)
    qtbot.waitUntil(lambda: told != [], timeout=20_000)  # nobody listens: it is an error
    with qtbot.waitSignal(session.importWanted, timeout=20_000) as wanted:
        session.open(raw)
    assert wanted.args[0] == str(raw)
    assert "no format recognises it" in wanted.args[1]
    assert len(told) == 1


def test_a_guessed_scan_shape_is_opened_and_asked_about(
    qtbot: Any, session: Any, raw: Path
) -> None:
    with qtbot.waitSignal(session.importWanted, timeout=20_000) as wanted:
        session.open(raw, {"layout": LAYOUT})
    assert session.project.scan is not None
    assert "guess" in wanted.args[1]
    asked: list[Any] = []
    session.importWanted.connect(lambda *which: asked.append(which))
    with qtbot.waitSignal(session.opened, timeout=20_000):
        session.open(raw, {"layout": LAYOUT, "scan_shape": SCAN})
    assert asked == []


def test_the_window_brings_the_assistant(qtbot: Any, session: Any, raw: Path) -> None:
    from py4DSTEM.gui.preferences import Preferences
    from py4DSTEM.gui.window import MainWindow

    window = MainWindow(session, Preferences(), safe=True)
    qtbot.addWidget(window, before_close_func=lambda made: made.stop())
    window.show()
    session.open(raw)
    qtbot.waitUntil(lambda: "import" in window.panels, timeout=20_000)
    panel = window.panels["import"]
    assert panel.path == str(raw)
    assert "no format" in panel.why.text()
    window.stop()
