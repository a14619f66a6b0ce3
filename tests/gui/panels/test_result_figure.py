"""The panel that shows any result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyqtgraph.Qt import QtCore

from py4DSTEM import (
    DataCube,
    DiffractionSlice,
    Disk,
    RealSlice,
    measure_probe,
    quality,
)
from py4DSTEM.gui.panels.result_figure import ResultPanel, layer_name
from py4DSTEM.plot.raster import Raster
from py4DSTEM.process.probe import synthetic_probe

LEFT = QtCore.Qt.MouseButton.LeftButton


@pytest.fixture
def opened(session: Any, qtbot: Any) -> Any:
    disk = Disk(4.0, center=(9, 10)).weights(
        (18, 20), DataCube(np.ones((1, 1, 18, 20))).calibration
    )
    counts = np.random.default_rng(1).poisson(40 * disk + 1, (3, 5, 18, 20)).astype(np.uint16)
    with qtbot.waitSignal(session.opened):
        session.add_cube(DataCube(counts, name="little"), "little")
    return session


@pytest.fixture
def panel(opened: Any, qtbot: Any) -> ResultPanel:
    made = ResultPanel(opened)
    qtbot.addWidget(made)
    made.resize(500, 420)
    made.show()
    return made


def test_nothing_to_show_is_said(panel: ResultPanel) -> None:
    assert "no results yet" in panel.note.text()
    assert not panel.save_button.isEnabled()


def test_a_stack_is_an_image_with_labels(opened: Any, panel: ResultPanel, qtbot: Any) -> None:
    images = np.arange(30.0).reshape(2, 3, 5)
    opened.keep("stack", RealSlice(images, labels=("bf", "df")))
    panel.show_result("stack/df")
    np.testing.assert_array_equal(panel.image.image, images[1])
    panel.labels.setCurrentIndex(0)
    panel.labels.activated.emit(0)
    np.testing.assert_array_equal(panel.image.image, images[0])
    qtbot.mouseClick(panel.to_image, LEFT)
    assert opened.project.scan.real == "stack/bf"
    assert panel.use.isHidden()


def test_patterns_go_to_the_diffraction_image(opened: Any, panel: ResultPanel) -> None:
    opened.keep("mean", DiffractionSlice(np.eye(18, 20)))
    panel.show_result("mean")
    panel.send()
    assert opened.project.scan.diffraction == "mean"


def test_complex_images_are_drawn_as_figures(opened: Any, panel: ResultPanel, qtbot: Any) -> None:
    with qtbot.waitSignal(panel.drawn, timeout=20_000):
        opened.keep("wave", RealSlice(np.exp(1j * np.arange(15.0).reshape(3, 5))))
        panel.show_result("wave")
    assert panel.tabs.currentIndex() == 1
    assert panel.figure.label.pixmap().width() > 100


def test_a_result_is_drawn_beside_the_gui(opened: Any, panel: ResultPanel, qtbot: Any) -> None:
    report = quality(opened.cube(opened.project.current))
    with qtbot.waitSignal(panel.drawn, timeout=20_000):
        opened.keep("quality", report)
        panel.show_result("quality")
    assert panel.tabs.currentIndex() == 1
    pixmap = panel.figure.label.pixmap()
    assert pixmap.width() > 100
    assert panel.text.toPlainText() == report.text()
    before = pixmap.width()
    with qtbot.waitSignal(panel.drawn, timeout=20_000):
        panel.resize(900, 700)
    assert panel.figure.label.pixmap().width() > before


def test_what_has_no_figure_is_text(opened: Any, panel: ResultPanel, qtbot: Any) -> None:
    with qtbot.waitSignal(panel.drawn, timeout=20_000):
        opened.keep("words", {"a": "b"})
        panel.show_result("words")
    assert panel.tabs.currentIndex() == 2
    assert panel.text.toPlainText() == "{'a': 'b'}"


def test_a_measurement_becomes_a_calibration(opened: Any, panel: ResultPanel, qtbot: Any) -> None:
    key = opened.project.current
    probe = measure_probe(opened.cube(key))
    opened.keep("probe", probe)
    panel.show_result("probe")
    assert not panel.use.isHidden()
    qtbot.mouseClick(panel.use, LEFT)
    assert opened.calibration(key).probe_radius_px == probe.radius_px
    assert opened.project.scan.layers[-1].name == "probe" == layer_name(probe)
    opened.undo()
    assert opened.calibration(key).probe_radius_px != probe.radius_px


def test_undo_of_a_result_takes_it_from_the_panel(opened: Any, panel: ResultPanel) -> None:
    opened.keep("one", RealSlice(np.zeros((3, 5))))
    opened.keep("two", RealSlice(np.ones((3, 5))))
    panel.show_result("two")
    opened.undo()
    assert panel.choice.currentText() == "one"
    np.testing.assert_array_equal(panel.image.image, np.zeros((3, 5)))


FILES = [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("h5", b"\x89HDF")]


@pytest.mark.parametrize(("ending", "start"), FILES)
def test_results_are_saved(
    opened: Any, panel: ResultPanel, qtbot: Any, tmp_path: Any, ending: str, start: bytes
) -> None:
    opened.keep("map", RealSlice(np.eye(3, 5)))
    panel.show_result("map")
    path = tmp_path / f"map.{ending}"
    with qtbot.waitSignal(opened.said, timeout=20_000):
        panel.save(str(path))
    assert path.read_bytes().startswith(start)


def test_a_save_that_fails_is_told(
    opened: Any, panel: ResultPanel, qtbot: Any, tmp_path: Any
) -> None:
    opened.keep("map", RealSlice(np.eye(3, 5)))
    panel.show_result("map")
    with qtbot.waitSignal(opened.troubled, timeout=20_000) as told:
        panel.save(str(tmp_path / "nowhere" / "map.png"))
    assert isinstance(told.args[1], OSError)


def test_figures_are_no_larger_than_the_room() -> None:
    raster = Raster(synthetic_probe((32, 32), 6.0))
    small, large = raster.draw(500, 400), raster.draw(1000, 800)
    assert small.dtype == np.uint8
    assert small.shape[1] < large.shape[1] <= 1000
    assert len(np.unique(large[..., :3].reshape(-1, 3), axis=0)) > 10
