"""The window as a whole: files, menus, keys, panels, and its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import Cancelled
from py4DSTEM.gui import preferences as kept
from py4DSTEM.gui.preferences import Preferences
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.window import MainWindow

Key = QtCore.Qt.Key
Shift = QtCore.Qt.KeyboardModifier.ShiftModifier
Control = QtCore.Qt.KeyboardModifier.ControlModifier
R_SHAPE, Q_SHAPE = (5, 7), (24, 20)


def write_scan(path: Path, at: tuple[float, float] = (11, 9)) -> Path:
    """A disk that wanders along the rows, on a dark detector."""
    i, j = np.indices(Q_SHAPE)
    near = np.hypot(i - at[0], j - at[1]) < 5
    counts = 100 + np.arange(np.prod(R_SHAPE)).reshape(R_SHAPE)
    np.save(path, (counts[..., None, None] * near).astype(np.uint16))
    return path


def hurry(window: MainWindow) -> None:
    """No questions at the end of a test."""
    window.stop()


@pytest.fixture
def window(qtbot: Any) -> Iterator[MainWindow]:
    made = MainWindow(Session(workers=2), Preferences(autosave_s=0, theme="dark"))
    qtbot.addWidget(made, before_close_func=hurry)
    made.show()
    yield made


@pytest.fixture
def opened(window: MainWindow, qtbot: Any, tmp_path: Path) -> MainWindow:
    """With one scan, and its images shown."""
    window.open(str(write_scan(tmp_path / "one.npy")))
    settle(window, qtbot)
    return window


def settle(window: MainWindow, qtbot: Any) -> None:
    """Until all that was asked for is there."""
    session = window.session
    qtbot.waitUntil(
        lambda: not session.jobs.active and window.live.idle and session.project.scan is not None,
        timeout=60_000,
    )


def told(window: MainWindow, qtbot: Any) -> str:
    """The text of the dialog that has come up."""
    qtbot.waitUntil(lambda: window.troubles.dialog is not None)
    dialog = window.troubles.dialog
    qtbot.waitUntil(lambda: dialog.isVisible())
    assert not dialog.isModal()
    return f"{dialog.title.text()}: {dialog.what.text()}"


def press(qtbot: Any, window: MainWindow, panel: str, key: Any, modifier: Any = None) -> None:
    """A key, while an image has the focus."""
    QtWidgets.QApplication.setActiveWindow(window)
    window.focus(panel)
    none = QtCore.Qt.KeyboardModifier.NoModifier
    qtbot.keyClick(window.views[panel].canvas, key, modifier or none)


# ---- files ---------------------------------------------------------------------------------------
def test_a_file_is_shown_with_a_detector_on_the_beam(opened: MainWindow) -> None:
    scan = opened.scan
    assert scan.name == "one" and opened.tree.item(scan.key) is not None
    assert opened.views["diffraction"].image.shape == Q_SHAPE
    image = opened.views["real"].image
    assert image.shape == R_SHAPE and image[4, 6] > image[0, 0]
    assert "[5×7 | 24×20 uint16" in opened.windowTitle()
    assert opened.status.chip.text() == "units unknown"
    assert opened.preferences.recent[0].endswith("one.npy")
    assert kept.load().recent == opened.preferences.recent


def test_what_cannot_be_opened_leaves_what_is_there(
    opened: MainWindow, qtbot: Any, tmp_path: Path
) -> None:
    before = opened.session.project
    (tmp_path / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"no" * 100)
    opened.open(str(tmp_path / "bad.h5"), str(tmp_path / "none.h5"))
    qtbot.waitUntil(lambda: not opened.session.jobs.active)
    qtbot.waitUntil(lambda: opened.troubles.dialog is not None)
    qtbot.waitUntil(lambda: len(opened.troubles.dialog.troubles) == 2)
    assert opened.session.project is before
    assert "bad.h5" in " ".join(t.title for t in opened.troubles.dialog.troubles)


def test_several_files_are_dropped(window: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    paths = [write_scan(tmp_path / name) for name in ("a.npy", "b.npy")]
    data = QtCore.QMimeData()
    data.setUrls([QtCore.QUrl.fromLocalFile(str(path)) for path in paths])
    arguments = (
        QtCore.Qt.DropAction.CopyAction, data, QtCore.Qt.MouseButton.LeftButton,
        QtCore.Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip
    enter = QtGui.QDragEnterEvent(QtCore.QPoint(9, 9), *arguments)
    QtWidgets.QApplication.sendEvent(window, enter)
    assert enter.isAccepted()
    drop = QtGui.QDropEvent(QtCore.QPointF(9, 9), *arguments)
    QtWidgets.QApplication.sendEvent(window, drop)
    qtbot.waitUntil(lambda: len(window.session.project.scans) == 2, timeout=30_000)
    assert [scan.name for scan in window.session.project.scans] == ["a", "b"]
    settle(window, qtbot)


def test_a_folder_opens_what_can_be_read(window: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    write_scan(tmp_path / "a.npy")
    (tmp_path / "readme.txt").write_text("no scan")
    (tmp_path / "empty").mkdir()
    window.open(str(tmp_path))
    qtbot.waitUntil(lambda: len(window.session.project.scans) == 1, timeout=30_000)
    window.open(str(tmp_path / "empty"))
    assert "no file of" in told(window, qtbot)
    settle(window, qtbot)


def test_a_project_comes_back(opened: MainWindow, qtbot: Any, tmp_path: Path) -> None:
    opened.actions_.trigger("analyze.pin")
    project = opened.session.project
    assert project.scan.results[0].name == "A"
    path = str(tmp_path / "session.p4d")
    opened.actions_.room("file").write_project(path)
    qtbot.waitUntil(lambda: opened.status.saved.text().startswith("saved"), timeout=30_000)
    assert opened.actions_.room("file").may_close()
    opened.session.close_scan(project.current)
    opened.open(path)
    qtbot.waitUntil(lambda: opened.session.project.scan is not None, timeout=30_000)
    settle(opened, qtbot)
    again = opened.session.project.scan
    assert again.detectors == project.scan.detectors
    np.testing.assert_array_equal(again.results[0].value.data, project.scan.results[0].value.data)
    assert opened.session.data(again.key) is not None


# ---- menus and keys ------------------------------------------------------------------------------
def test_without_a_scan_little_can_be_done(window: MainWindow) -> None:
    made = window.actions_.made
    assert made["file.open"].isEnabled() and made["help.palette"].isEnabled()
    assert not made["detector.preset_bf"].isEnabled() and not made["edit.undo"].isEnabled()


def test_undo_says_what_it_undoes(opened: MainWindow) -> None:
    before = opened.scan.detectors
    opened.actions_.trigger("detector.add_annulus")
    assert [e.shape.kind for e in opened.scan.detectors] == ["disk", "annulus"]
    assert opened.actions_.made["edit.undo"].text() == "Undo add detector"
    opened.actions_.trigger("edit.undo")
    assert opened.scan.detectors == before
    opened.actions_.trigger("edit.redo")
    assert len(opened.scan.detectors) == 2


@pytest.mark.parametrize("kind", ["point", "rectangle", "ellipse", "wedge", "polygon", "lattice"])
def test_every_shape_gives_an_image(opened: MainWindow, qtbot: Any, kind: str) -> None:
    opened.actions_.trigger(f"detector.add_{kind}")
    settle(opened, qtbot)
    assert len(opened.scan.detectors) == 2 and opened.troubles.dialog is None
    assert np.isfinite(opened.views["real"].image).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bf", ["BF"]), ("abf", ["ABF"]), ("laadf", ["LAADF"]), ("com", ["A"]),
     ("dpc", ["down", "right", "up", "left"])],
)  # fmt: skip
def test_presets(opened: MainWindow, qtbot: Any, name: str, expected: list[str]) -> None:
    opened.actions_.trigger(f"detector.preset_{name}")
    assert [entry.name for entry in opened.scan.detectors] == expected
    assert (opened.scan.response == "com") == (name == "com")
    settle(opened, qtbot)
    assert opened.troubles.dialog is None


def test_keys_move_what_belongs_to_the_image(opened: MainWindow, qtbot: Any) -> None:
    def place() -> Any:
        return opened.session.cube(opened.scan.key).calibration.mean_origin_px

    x, y = place()
    press(qtbot, opened, "diffraction", Key.Key_D)
    assert opened.scan.detectors[0].shape.center == pytest.approx((x, y + 1))
    press(qtbot, opened, "diffraction", Key.Key_Up, Shift)
    assert opened.scan.detectors[0].shape.center == pytest.approx((x - 10, y + 1))
    selection = opened.scan.selection
    press(qtbot, opened, "diffraction", Key.Key_L)
    press(qtbot, opened, "real", Key.Key_Down)
    moved = opened.scan.selection
    assert (moved.rx, moved.ry) == (selection.rx + 1, selection.ry + 1)
    press(qtbot, opened, "real", Key.Key_Right, Shift)
    assert opened.scan.selection.ry == R_SHAPE[1] - 1


def test_keys_size_and_choose_detectors(opened: MainWindow, qtbot: Any) -> None:
    radius = opened.scan.detectors[0].shape.radius
    press(qtbot, opened, "diffraction", Key.Key_BracketRight)
    assert opened.scan.detectors[0].shape.radius == pytest.approx(radius + 1)
    press(qtbot, opened, "diffraction", Key.Key_3)
    inner = opened.scan.detectors[1].shape.inner
    press(qtbot, opened, "diffraction", Key.Key_BracketLeft, Shift)
    assert opened.scan.detectors[1].shape.inner == pytest.approx(inner - 1)
    press(qtbot, opened, "diffraction", Key.Key_N)
    assert opened.scan.active == "A"
    press(qtbot, opened, "diffraction", Key.Key_T)
    assert not opened.scan.detectors[0].shown
    press(qtbot, opened, "diffraction", Key.Key_Delete)
    assert [entry.name for entry in opened.scan.detectors] == ["B"]
    press(qtbot, opened, "diffraction", Key.Key_B)
    assert [entry.name for entry in opened.scan.detectors] == ["BF"]


def test_keys_change_how_an_image_is_drawn(opened: MainWindow, qtbot: Any) -> None:
    press(qtbot, opened, "real", Key.Key_L, Shift)
    assert opened.session.project.look("real").scale == "sqrt"
    press(qtbot, opened, "real", Key.Key_G)
    assert opened.views["real"].look.scale == 0.5
    press(qtbot, opened, "real", Key.Key_C)
    assert opened.session.project.look("real").colors == "viridis"
    press(qtbot, opened, "real", Key.Key_Return, Shift)
    assert opened.session.project.look("real").limits is not None
    press(qtbot, opened, "real", Key.Key_Return)
    assert opened.session.project.look("real").limits is None
    assert opened.session.project.look("diffraction").colors == ""


def test_space_shows_it_raw_while_it_is_held(opened: MainWindow, qtbot: Any) -> None:
    QtWidgets.QApplication.setActiveWindow(opened)
    opened.focus("diffraction")
    canvas = opened.views["diffraction"].canvas
    qtbot.keyPress(canvas, Key.Key_Space)
    assert opened.session.raw
    qtbot.keyRelease(canvas, Key.Key_Space)
    assert not opened.session.raw
    settle(opened, qtbot)


def test_tab_goes_from_image_to_image_and_layouts_hide_them(opened: MainWindow, qtbot: Any) -> None:
    press(qtbot, opened, "diffraction", Key.Key_Tab)
    assert opened.focused == "real"
    press(qtbot, opened, "real", Key.Key_Tab, Shift)
    assert opened.focused == "diffraction"
    press(qtbot, opened, "diffraction", Key.Key_2, Control)
    shown = [name for name, dock in opened.docks.docks.items() if dock.isVisible()]
    assert shown == ["diffraction", "real", "project", "jobs", "inspector"]
    opened.actions_.trigger("view.layout_1")
    assert not opened.docks.docks["real"].isVisible()
    opened.actions_.trigger("view.reset_layout")
    assert all(dock.isVisible() for dock in opened.docks.docks.values())


def test_letters_typed_into_a_field_stay_there(opened: MainWindow, qtbot: Any) -> None:
    QtWidgets.QApplication.setActiveWindow(opened)
    tab = opened.inspector.tabs["detectors"]
    tab.expression.setFocus()
    qtbot.keyClicks(tab.expression, "2*A+B")
    assert tab.expression.text() == "2*A+B" and len(opened.scan.detectors) == 1
    assert "no detector B" in tab.problem.text()
    tab.expression.setText("")
    qtbot.keyClicks(tab.expression, "2*A")
    qtbot.keyClick(tab.expression, Key.Key_Return)
    assert opened.scan.expression == "2*A" and not tab.problem.isVisible()


def test_mean_or_point_and_shapes_of_selections(opened: MainWindow, qtbot: Any) -> None:
    press(qtbot, opened, "real", Key.Key_M)
    assert opened.scan.selection.kind == "mask" and opened.scan.how == "mean"
    press(qtbot, opened, "real", Key.Key_M)
    assert opened.scan.selection.kind == "point"
    opened.actions_.trigger("detector.select_rectangle")
    opened.actions_.trigger("detector.how_max")
    assert (opened.scan.selection.kind, opened.scan.how) == ("rectangle", "max")
    settle(opened, qtbot)


def test_the_palette_runs_what_is_chosen(opened: MainWindow, qtbot: Any) -> None:
    opened.actions_.trigger("help.palette")
    palette = opened.actions_.room("help")._palette
    QtWidgets.QApplication.setActiveWindow(palette)
    palette.line.setFocus()
    qtbot.keyClicks(palette.line, "addann")
    qtbot.keyClick(palette.line, Key.Key_Return)
    assert not palette.isVisible()
    assert opened.scan.detectors[-1].shape.kind == "annulus"


def test_other_keys_are_chosen_kept_and_clashes_refused(opened: MainWindow, qtbot: Any) -> None:
    opened.actions_.trigger("help.shortcuts")
    sheet = opened.actions_.room("help")._shortcuts
    sheet.choose_action("detector.add_annulus")
    sheet.choose(QtGui.QKeySequence("Ctrl+O"))
    assert "belongs to 'Open…'" in sheet.problem.text()
    sheet.choose(QtGui.QKeySequence("Y"))
    assert kept.load().shortcuts == {"detector.add_annulus": ("Y",)}
    press(qtbot, opened, "diffraction", Key.Key_Y)
    assert opened.scan.detectors[-1].shape.kind == "annulus"
    sheet.reset.click()
    assert kept.load().shortcuts == {}


def test_all_steps_of_the_library_are_in_the_menu(opened: MainWindow) -> None:
    from py4DSTEM.process import load_analyses, load_operations

    menu = QtWidgets.QMenu()
    opened.actions_.room("analyze").fill(menu)
    kinds = {action.text() for inner in menu.actions() for action in inner.menu().actions()}
    expected = {kind.replace("-", " ") for kind in {**load_operations(), **load_analyses()}}
    assert kinds == expected


def test_preferences_are_checked_and_kept(opened: MainWindow, tmp_path: Path) -> None:
    from py4DSTEM.gui.preferences_dialog import PreferencesDialog

    dialog = PreferencesDialog(opened)
    dialog.memory.setText("lots")
    dialog.accept()
    assert "lots" in dialog.problem.text()
    dialog.memory.setText("2 GB")
    dialog.cache.setText(str(tmp_path))
    dialog.theme.setCurrentText("light")
    dialog.accept()
    assert kept.load().memory == "2 GB" and kept.load().theme == "light"
    expected = {"memory_bytes": 2 * 10**9, "folder": str(tmp_path)}
    assert opened.session.cache_options == expected
    window = QtWidgets.QApplication.palette().color(QtGui.QPalette.ColorRole.Window)
    assert window.lightness() > 128


def test_copies(opened: MainWindow) -> None:
    clipboard = QtGui.QGuiApplication.clipboard()
    opened.actions_.trigger("edit.copy_python")
    assert "one.npy" in clipboard.text() and "py4DSTEM" in clipboard.text()
    opened.focused = "real"
    opened.actions_.trigger("edit.copy_image")
    assert not clipboard.pixmap().isNull()


# ---- sides ---------------------------------------------------------------------------------------
def test_the_tree_renames_removes_and_switches(opened: MainWindow, qtbot: Any) -> None:
    key, session = opened.scan.key, opened.session
    data = np.zeros(R_SHAPE)
    session.keep("map", RealSlice(data, opened.cube.calibration, name="map"))
    item = opened.tree.item(key, "result:map")
    item.setText(0, "my map")
    assert session.project.scan.results[0].name == "my map"
    qtbot.waitUntil(lambda: opened.tree.item(key, "result:my map") is not None)
    opened.tree._ask("show", opened.tree.item(key, "result:my map"))
    assert session.project.scan.real == "my map"
    menu = opened.tree.menu_of(opened.tree.item(key, "result:my map"))
    assert [a.text() for a in menu.actions()][:3] == ["Show", "Show as figure", "Rename"]
    layer = opened.tree.item(key, "layer:beam")
    layer.setCheckState(0, QtCore.Qt.CheckState.Unchecked)
    assert not session.project.scan.layers[0].enabled
    session.undo()
    opened.tree._ask("remove", opened.tree.item(key, "result:my map"))
    assert session.project.scan.results == ()


def test_values_are_typed_by_hand(opened: MainWindow, qtbot: Any) -> None:
    tab = opened.inspector.tabs["calibration"]
    opened.actions_.trigger("calibrate.by_hand")
    tab.fields["R_pixel_size"].setText("2,5")
    tab.units["R"].setCurrentIndex(tab.units["R"].findData("nm"))
    tab.fields["Q_pixel_size"].setText("0.4")
    tab.fields["energy_kV"].setText("300")
    qtbot.mouseClick(tab.apply, QtCore.Qt.MouseButton.LeftButton)
    calibration = opened.cube.calibration
    assert (calibration.R_pixel_size, calibration.R_pixel_units) == (2.5, "nm")
    assert (calibration.Q_pixel_size, calibration.Q_pixel_units) == (0.4, "mrad")
    assert calibration.energy_eV == 300_000
    assert opened.status.chip.text() == "unsaved calibration"
    tab.fields["energy_kV"].setText("-3")
    qtbot.mouseClick(tab.apply, QtCore.Qt.MouseButton.LeftButton)
    assert "energy_eV" in tab.problem.text() and opened.cube.calibration.energy_eV == 300_000
    settle(opened, qtbot)


def test_numbers_of_a_detector_are_typed(opened: MainWindow, qtbot: Any) -> None:
    tab = opened.inspector.tabs["detectors"]
    tab.fields["radius"].setValue(3.0)
    tab.fields["x"].setValue(8.0)
    shape = opened.scan.detectors[0].shape
    assert shape.radius == 3.0 and shape.center[0] == 8.0
    tab.table.item(0, 3).setText("-2")
    assert opened.scan.detectors[0].weight == -2.0
    tab.table.item(0, 3).setText("much")
    assert opened.scan.detectors[0].weight == -2.0 and tab.table.item(0, 3).text() == "-2"
    tab.table.item(0, 0).setCheckState(QtCore.Qt.CheckState.Unchecked)
    assert not opened.scan.detectors[0].shown
    tab.units.setCurrentIndex(tab.units.findData("mrad"))
    tab.units.activated.emit(tab.units.currentIndex())
    assert "pixel size" in told(opened, qtbot) and opened.scan.detectors[0].shape == shape
    settle(opened, qtbot)


def test_jobs_are_paused_cancelled_and_explained(window: MainWindow, qtbot: Any) -> None:
    def wait(options: Any) -> None:
        while not options.cancel.is_set():
            options.progress(1, 4, "waiting")
        raise Cancelled("stopped")

    job = window.session.jobs.submit("wait", wait)
    row = window.jobs.rows[job.number]
    qtbot.waitUntil(lambda: row.bar.value() == 250)
    row.pause.click()
    assert job.state == "paused"
    row.cancel.click()
    qtbot.waitUntil(lambda: job.state == "cancelled")
    assert not row.bar.isVisible()
    failing = window.session.jobs.submit("divide", lambda _: 1 / 0)
    qtbot.waitUntil(lambda: failing.state == "failed")
    window.jobs.rows[failing.number].details.click()
    assert "ZeroDivisionError" in told(window, qtbot)


def test_the_mouse_is_told_about(opened: MainWindow, qtbot: Any) -> None:
    place = opened.status.place
    x, y = opened.cube.calibration.mean_origin_px
    opened.session.stage.hovered.emit("diffraction", (x + 3, y + 4))
    qtbot.waitUntil(lambda: "q = 5 px" in place.text())
    opened.session.stage.hovered.emit("real", (1, 2))
    qtbot.waitUntil(lambda: place.text().startswith("(1, 2) · "))
    opened.session.stage.hovered.emit("real", None)
    qtbot.waitUntil(lambda: place.text() == "")


# ---- masks ---------------------------------------------------------------------------------------
def stroke(window: MainWindow, panel: str, *places: tuple[float, float]) -> None:
    """The left button along places of an image, row first."""
    from pyqtgraph.Qt import QtTest

    canvas = window.views[panel].canvas
    at = [canvas.mapFromScene(canvas.box.mapViewToScene(QtCore.QPointF(y, x))) for x, y in places]
    left, test = QtCore.Qt.MouseButton.LeftButton, QtTest.QTest
    none = QtCore.Qt.KeyboardModifier.NoModifier
    test.mousePress(canvas.viewport(), left, none, at[0])
    for place in at[1:]:
        test.mouseMove(canvas.viewport(), place)
    test.mouseRelease(canvas.viewport(), left, none, at[-1])


def test_masks_are_painted(opened: MainWindow, qtbot: Any) -> None:
    press(qtbot, opened, "diffraction", Key.Key_P)
    made, view = opened.actions_.made, opened.views["diffraction"]
    assert made["detector.paint"].isChecked() and view.brush.brush.radius_px == 3.0
    assert "3 px" in opened.status.currentMessage()
    press(qtbot, opened, "diffraction", Key.Key_BracketLeft)
    assert view.brush.brush.radius_px == 2.0
    stroke(opened, "diffraction", (12, 10))
    mask = opened.scan.detector(opened.scan.active).shape
    assert mask.kind == "mask" and mask.data[12, 10] == 1
    count = mask.data.sum()
    assert 10 <= count <= 14  # a disk of two pixels radius about the middle of a pixel
    opened.actions_.trigger("detector.erase")
    assert made["detector.erase"].isChecked() and not made["detector.paint"].isChecked()
    stroke(opened, "diffraction", (12, 12))
    assert opened.scan.detector(opened.scan.active).shape.data.sum() < count
    press(qtbot, opened, "diffraction", Key.Key_Escape)
    assert view.brush is None
    assert not any(made[f"detector.{name}"].isChecked() for name in ("paint", "erase"))
    opened.session.undo()
    assert opened.scan.detector(opened.scan.active).shape.data.sum() == count
    settle(opened, qtbot)


def test_positions_are_painted_where_the_focus_is(opened: MainWindow, qtbot: Any) -> None:
    opened.focus("real")
    opened.actions_.trigger("detector.paint")
    view = opened.views["real"]
    for _ in range(3):
        press(qtbot, opened, "real", Key.Key_BracketLeft)
    assert view.brush.brush.radius_px == 0.5
    stroke(opened, "real", (1, 2))
    assert opened.scan.selection.kind == "mask"
    assert np.argwhere(opened.scan.selection.mask(R_SHAPE)).tolist() == [[1, 2]]
    opened.focus("diffraction")
    opened.actions_.trigger("detector.paint")
    assert view.brush is None and opened.views["diffraction"].brush is not None
    opened.actions_.trigger("detector.paint")
    assert opened.views["diffraction"].brush is None
    settle(opened, qtbot)


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_masks_come_from_files(opened: MainWindow, qtbot: Any, tmp_path: Path, suffix: str) -> None:
    def write(name: str, image: np.ndarray) -> str:
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".npy":
            np.save(path, image)
        else:
            from PIL import Image

            Image.fromarray(image).save(path)
        return str(path)

    room = opened.actions_.room("detector")
    pixels, where = np.zeros(Q_SHAPE, np.uint8), np.zeros(R_SHAPE, np.uint8)
    pixels[3:5, 2], where[4, 1:3] = 1, 1
    room.read_mask(write("pixels", pixels))
    qtbot.waitUntil(lambda: opened.scan.detector(opened.scan.active).shape.kind == "mask")
    np.testing.assert_array_equal(opened.scan.detector(opened.scan.active).shape.data, pixels)
    room.read_selection(write("where", where))
    qtbot.waitUntil(lambda: opened.scan.selection.kind == "mask")
    np.testing.assert_array_equal(opened.scan.selection.mask(R_SHAPE), where > 0)
    before = opened.scan
    room.read_selection(write("other", np.ones((9, 9), np.uint8)))
    assert "(9, 9)" in told(opened, qtbot) and opened.scan is before
    settle(opened, qtbot)


def test_positions_within_the_limits_of_the_colours(opened: MainWindow, qtbot: Any) -> None:
    view = opened.views["real"]
    qtbot.waitUntil(lambda: view.image is not None and view.exact)
    low, high = np.quantile(view.image, [0.2, 0.6])
    look = view.look.replace(limits=(float(low), float(high)))
    from py4DSTEM.gui.state.commands import ChangeLook

    opened.session.do(ChangeLook(panel="real", look=look))
    opened.actions_.trigger("detector.select_limits")
    expected = (view.image >= low) & (view.image <= high)
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(opened.scan.selection.mask(R_SHAPE), expected)
    settle(opened, qtbot)


# ---- from start to end ---------------------------------------------------------------------------
def test_unsaved_results_are_asked_about(
    opened: MainWindow, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.actions_.trigger("analyze.pin")
    monkeypatch.setattr(opened, "ask", lambda *_: "Cancel")
    assert not opened.close() and opened.isVisible()
    monkeypatch.setattr(opened, "ask", lambda *_: "Discard")
    assert opened.close() and not opened.isVisible()


def test_the_arrangement_is_kept(qtbot: Any) -> None:
    first = MainWindow(Session(workers=1), Preferences(autosave_s=0))
    qtbot.addWidget(first, before_close_func=hurry)
    first.show()
    first.docks.docks["profile"].hide()
    first.close()
    second = MainWindow(Session(workers=1), Preferences(autosave_s=0))
    qtbot.addWidget(second, before_close_func=hurry)
    second.show()
    assert not second.docks.docks["profile"].isVisible()
    assert second.docks.docks["real"].isVisible()
    second.close()


def test_a_session_that_ended_badly_is_offered(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = MainWindow(Session(workers=2), Preferences(autosave_s=60))
    qtbot.addWidget(first, before_close_func=hurry)
    first.open(str(write_scan(tmp_path / "one.npy")))
    settle(first, qtbot)
    first.actions_.trigger("analyze.pin")
    first.end()  # as by Ctrl-C
    first.actions_.room("file")._keeper._autosave._lock.release()  # as the system does at its end
    second = MainWindow(Session(workers=2), Preferences(autosave_s=60))
    qtbot.addWidget(second, before_close_func=hurry)
    monkeypatch.setattr(second, "ask", lambda *_: "Recover")
    second.offer_recovery()
    qtbot.waitUntil(lambda: second.session.project.scan is not None, timeout=30_000)
    settle(second, qtbot)
    assert [result.name for result in second.scan.results] == ["A"]
    monkeypatch.setattr(second, "ask", lambda *_: "Discard")
    second.close()
    from py4DSTEM.gui.keeper import autosave_folder

    qtbot.waitUntil(lambda: not list(autosave_folder().glob("*/project.json")))


def test_preferences_of_another_version_do_no_harm() -> None:
    path = kept.folder() / "preferences.json"
    path.write_text('{"theme": "dark", "workers": -4, "later": 1, "memory": "x"}')
    assert kept.load() == Preferences(theme="dark")
    path.write_text("not json")
    assert kept.load() == Preferences()


def test_a_panel_that_is_not_installed_is_told(opened: MainWindow, qtbot: Any) -> None:
    from py4DSTEM.gui import panels

    panels.PANELS["nothing"] = "nothing:Nothing"
    try:
        opened.session.panelWanted.emit("nothing")
        assert "not installed" in told(opened, qtbot)
    finally:
        del panels.PANELS["nothing"]
