"""What leaves the program: images, figures, data, text; and what happens when the disk is full."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import Calibration, DataCube, RealSlice
from py4DSTEM.errors import ParameterError


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    x, y = np.indices((24, 20))
    disk = 50.0 * (np.hypot(x - 11, y - 9) < 5)
    frames = rng.poisson(disk * rng.uniform(0.5, 1.5, (5, 7, 1, 1))).astype(np.uint16)
    calibration = Calibration().replace(R_pixel_size=2.0, R_pixel_units="nm")
    path = tmp_path / "scan a.h5"
    py4DSTEM.save(path, DataCube(frames, calibration))
    return path


@pytest.fixture
def window(qtbot: Any, session: Any, scan_file: Path) -> Iterator[Any]:
    from py4DSTEM.gui.preferences import Preferences
    from py4DSTEM.gui.window import MainWindow

    made = MainWindow(session, Preferences(), safe=True)
    qtbot.addWidget(made, before_close_func=lambda window: window.stop())
    made.show()
    session.open(scan_file)
    qtbot.waitUntil(
        lambda: (
            {"real", "diffraction"} <= session.stage.showing.keys()
            and made.views["real"].exact
            and made.views["diffraction"].exact
            and session.jobs.active == []
        ),
        timeout=60_000,
    )
    yield made
    made.stop()


@pytest.fixture
def export(window: Any) -> Any:
    return window.actions_.room("export")


def finish(qtbot: Any, job: Any) -> Any:
    qtbot.waitUntil(lambda: not job.active, timeout=60_000)
    return job


@pytest.mark.parametrize("suffix", ["tif", "npy", "csv", "h5"])
def test_values_of_an_image_are_those_that_are_shown(
    qtbot: Any, window: Any, export: Any, tmp_path: Path, suffix: str
) -> None:
    shown = export.shown("real")
    path = tmp_path / f"image.{suffix}"
    assert finish(qtbot, export.write_image(str(path), "real")).state == "done"
    if suffix == "csv":
        found = np.loadtxt(path, delimiter=",")
    elif suffix == "tif":
        assert b"unit=nm" in path.read_bytes()
        found = py4DSTEM.read(path).data
    elif suffix == "npy":
        found = np.load(path)
    else:
        value = py4DSTEM.read(path)
        found = value.data
        assert value.axes[0].step == 2.0
    assert found.shape == (5, 7)
    np.testing.assert_allclose(found, shown.data, rtol=1e-6)


def test_png_is_as_shown(qtbot: Any, window: Any, export: Any, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "image.png"
    assert finish(qtbot, export.write_image(str(path), "diffraction")).state == "done"
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    view = window.views["diffraction"]
    assert pixels.shape[0] == view.canvas.height()
    assert pixels.shape[1] >= view.canvas.width()
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(
    ("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")]
)
def test_figures_are_written(
    qtbot: Any, window: Any, export: Any, tmp_path: Path, suffix: str, start: bytes
) -> None:
    path = tmp_path / f"figure.{suffix}"
    assert finish(qtbot, export.write_figure(str(path), "real")).state == "done"
    assert path.read_bytes().startswith(start)


def test_an_unknown_ending_is_told(
    qtbot: Any, window: Any, export: Any, session: Any, tmp_path: Path
) -> None:
    with qtbot.waitSignal(session.troubled, timeout=30_000) as told:
        export.write_figure(str(tmp_path / "figure.xyz"), "real")
    assert ".svg" in str(told.args[1])
    assert list(tmp_path.glob("figure*")) == []


def test_results_go_together_or_alone(
    qtbot: Any, window: Any, export: Any, session: Any, tmp_path: Path
) -> None:
    from pyqtgraph.Qt import QtCore

    session.keep("one", RealSlice(np.arange(35.0).reshape(5, 7)))
    session.keep("two/b", RealSlice(np.ones((5, 7))))
    export.export_data()
    chooser = export._chooser
    assert chooser.isVisible() and not chooser.isModal()
    assert chooser.marked == ("one", "two/b")
    path = tmp_path / "all.h5"
    assert finish(qtbot, chooser.write(str(path))).state == "done"
    found = py4DSTEM.read(path)
    assert found.keys() == {"one", "two_b"}
    np.testing.assert_array_equal(found["one"].data, np.arange(35.0).reshape(5, 7))
    export.export_result("one")
    assert chooser.marked == ("one",)
    assert finish(qtbot, chooser.write(str(tmp_path / "one.npy"))).state == "done"
    assert np.load(tmp_path / "one.npy").shape == (5, 7)
    for k in range(chooser.list.count()):
        chooser.list.item(k).setCheckState(QtCore.Qt.CheckState.Unchecked)
    assert not chooser.ok.isEnabled()


def test_the_scan_itself(
    qtbot: Any, window: Any, export: Any, session: Any, tmp_path: Path
) -> None:
    export.export_result("the scan itself")
    path = tmp_path / "copy.npy"
    assert finish(qtbot, export._chooser.write(str(path))).state == "done"
    np.testing.assert_array_equal(np.load(path), session.cube(session.project.current).data[...])


def test_the_dialog_asks_and_adds_the_ending(
    qtbot: Any, window: Any, export: Any, tmp_path: Path
) -> None:
    from pyqtgraph.Qt import QtWidgets

    window.focus("real")
    window.actions_.trigger("file.export_image")
    dialogs = window.findChildren(QtWidgets.QFileDialog)
    assert len(dialogs) == 1 and dialogs[0].isVisible()
    dialogs[0].selectNameFilter("Values (*.npy)")
    dialogs[0].filterSelected.emit("Values (*.npy)")
    assert dialogs[0].defaultSuffix() == "npy"
    target = tmp_path / "asked.npy"
    dialogs[0].fileSelected.emit(str(target))
    qtbot.waitUntil(target.exists, timeout=30_000)
    dialogs[0].close()


def test_what_was_done_as_text(
    qtbot: Any, window: Any, export: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from py4DSTEM.gui.handlers import export as module

    places = {"Export script": "a.py", "Save recipe": "a.toml", "Export notebook": "a.ipynb"}

    def at_once(parent: Any, title: str, name: str, filters: str, then: Any) -> None:
        then(str(tmp_path / places[title]))

    monkeypatch.setattr(module, "ask_save", at_once)
    for action in ("file.export_script", "file.save_recipe", "file.export_notebook"):
        window.actions_.trigger(action)
    qtbot.waitUntil(lambda: len(list(tmp_path.glob("a.*"))) == 3, timeout=30_000)
    assert "py4DSTEM.read" in (tmp_path / "a.py").read_text()
    assert "schema = 1" in (tmp_path / "a.toml").read_text()
    assert '"cells"' in (tmp_path / "a.ipynb").read_text()


def test_the_report_is_one_page(
    qtbot: Any, window: Any, export: Any, session: Any, tmp_path: Path
) -> None:
    session.keep("<thickness>", RealSlice(np.arange(35.0).reshape(5, 7)))
    path = tmp_path / "report.html"
    job = finish(qtbot, export.write_report(str(path), window.scan, window.cube))
    assert job.state == "done", job.error
    page = path.read_text()
    assert page.startswith("<!doctype html>")
    assert "&lt;thickness&gt;" in page and "<thickness>" not in page
    assert page.count("data:image/png") >= 3


def test_a_full_disk_is_told_and_the_old_file_stays(
    qtbot: Any,
    window: Any,
    export: Any,
    session: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from py4DSTEM.io.store import atomic

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "write_bytes", full)
    for name, write in (
        ("a.png", lambda p: export.write_image(p, "real")),
        ("a.tif", lambda p: export.write_image(p, "real")),
    ):
        path = tmp_path / name
        path.write_bytes(b"what was there before")
        with qtbot.waitSignal(session.troubled, timeout=30_000) as told:
            write(str(path))
        assert "Free some space" in str(told.args[1])
        assert path.read_bytes() == b"what was there before"
        assert sorted(p.name for p in tmp_path.glob(".*")) == []
    qtbot.waitUntil(
        lambda: window.troubles.dialog is not None and window.troubles.dialog.isVisible()
    )
    assert "Free some space" in window.troubles.dialog.what.text()
    window.troubles.dialog.close()


def test_images_that_are_not_complete_are_not_written(window: Any, export: Any) -> None:
    window.views["real"].exact = False
    with pytest.raises(py4DSTEM.ParameterError, match="not complete"):
        export.shown("real")
    with pytest.raises(py4DSTEM.ParameterError, match="not complete"):
        export.shown("nothing")


def test_diagnostics_tell_much_and_nothing_personal(
    qtbot: Any, window: Any, session: Any, tmp_path: Path
) -> None:
    window.troubles.show("count to three", ValueError(f"lost at {Path.home()}/secret"))
    qtbot.waitUntil(lambda: window.troubles.dialog is not None)
    window.troubles.dialog.close()
    path = tmp_path / "diagnostics.txt"
    job = window.actions_.room("help").write_diagnostics(str(path))
    assert finish(qtbot, job).state == "done"
    text = path.read_text()
    assert "python" in text and "last acts" in text
    assert "lost at ~/secret" in text and str(Path.home()) not in text


def test_a_report_is_not_asked_for_while_the_scan_is_being_opened(
    window: Any, export: Any, session: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(session, "cube", lambda key: None)
    with pytest.raises(ParameterError, match="still being opened"):
        export.export_report()
