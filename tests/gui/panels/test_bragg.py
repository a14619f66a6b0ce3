"""The panel of the Bragg disks: live previews that are what the search finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM import DataCube, DiskSelection, RectangleSelection, find_bragg_disks
from py4DSTEM.core.selection import selection_table
from py4DSTEM.gui.panels.bragg import BraggPanel
from py4DSTEM.gui.panels.bragg_tiles import Mark, Tile, TileView
from py4DSTEM.gui.state.commands import Select
from py4DSTEM.process.bragg.spot import Spot
from py4DSTEM.process.probe import MeasureProbe, measure_probe, synthetic_probe
from py4DSTEM.simulate import strained_lattice

LEFT = QtCore.Qt.MouseButton.LeftButton


@pytest.fixture(scope="module")
def made() -> Any:
    return strained_lattice((4, 5), (64, 72), probe_radius_px=3.0, seed=1)


@pytest.fixture
def panel(session: Any, made: Any, qtbot: Any) -> BraggPanel:
    panel = BraggPanel(session)
    qtbot.addWidget(panel)
    assert not panel.run_button.isEnabled()
    assert "open a scan" in panel.note.text()
    panel.resize(420, 780)
    panel.show()
    with qtbot.waitSignal(session.opened):
        session.add_cube(made.cube, "strained")
    settled(qtbot, panel)
    return panel


def settled(qtbot: Any, panel: BraggPanel) -> Any:
    qtbot.waitUntil(lambda: panel.shown is not None, timeout=60_000)
    return panel.shown


def test_the_previews_are_what_the_search_finds(panel: BraggPanel, qtbot: Any) -> None:
    shown = panel.shown
    assert shown is not None
    assert shown.search.parameters() == type(shown.search)().parameters()
    session = panel.session
    peaks = find_bragg_disks(session.cube(session.project.current))
    assert len(panel.positions) == 9
    for (rx, ry), found, view in zip(
        panel.positions, shown.preview.peaks, panel.tiles, strict=True
    ):
        assert found.tobytes() == peaks[rx, ry].tobytes()
        disks = [mark for mark in view.tile.marks if not mark.reason]
        assert [(m.x, m.y) for m in disks] == [(p["qx"], p["qy"]) for p in found]
    assert "whole scan" in panel.cost.text()
    assert f"{sum(map(len, shown.preview.peaks))} disks" in panel.legend.text()
    assert sum(panel.bars.numbers) == 9


def test_a_slider_changes_the_preview(panel: BraggPanel, qtbot: Any) -> None:
    before = sum(map(len, panel.shown.preview.peaks))
    slider = panel.sliders["min_relative_intensity"].slider
    slider.setFocus()
    for _ in range(14):
        qtbot.keyClick(slider, QtCore.Qt.Key.Key_PageUp)
    shown = settled(qtbot, panel)
    assert shown.search.min_relative_intensity == panel.values()["min_relative_intensity"] > 0.2
    assert sum(map(len, shown.preview.peaks)) < before
    reasons = {mark.reason for view in panel.tiles for mark in view.tile.marks}
    assert "faint" in reasons
    assert "below min_intensity" in panel.legend.text()
    qtbot.mouseClick(panel.reset_button, LEFT)
    assert sum(map(len, settled(qtbot, panel).preview.peaks)) == before


def test_what_was_chosen_automatically_is_shown(panel: BraggPanel) -> None:
    editor = panel.sliders["min_spacing_px"]
    chosen = panel.shown.preview.chosen["min_spacing_px"][0]
    assert editor.value() is None
    assert editor.number.value() == pytest.approx(chosen, rel=0.01)


def test_clicks_on_the_scan_choose_positions(panel: BraggPanel, qtbot: Any) -> None:
    stage = panel.session.stage
    marks = stage.overlays["real", "bragg: previews"]
    np.testing.assert_array_equal(marks.points, panel.positions)
    assert marks.labels[0] == "1"
    first = panel.positions[0]
    stage.clicked.emit("real", first[0] + 0.3, first[1] - 0.3)
    assert first not in panel.positions
    assert len(panel.positions) == 8
    free = next((x, y) for x in range(4) for y in range(5) if (x, y) not in panel.positions)
    stage.clicked.emit("real", *free)
    assert panel.positions[-1] == free
    other = next((x, y) for x in range(4) for y in range(5) if (x, y) not in panel.positions)
    stage.clicked.emit("real", *other)  # nine are shown: one makes room
    assert len(panel.positions) == 9
    assert panel.positions[0] == other
    stage.clicked.emit("real", -3.0, 2.0)
    stage.clicked.emit("diffraction", 1.0, 2.0)
    assert panel.positions[0] == other
    shown = settled(qtbot, panel)
    np.testing.assert_array_equal(shown.preview.positions, panel.positions)
    panel.hide()
    assert ("real", "bragg: previews") not in stage.overlays


def test_run_all_makes_a_result(panel: BraggPanel, qtbot: Any) -> None:
    panel.sliders["min_significance"].number.box.setValue(9.0)
    qtbot.mouseClick(panel.run_button, LEFT)  # before the preview has followed
    qtbot.waitUntil(lambda: len(panel.session.project.scan.results) == 1, timeout=60_000)
    result = panel.session.project.scan.results[0]
    assert result.name == "bragg"
    assert result.made.parameters["min_significance"] == 9.0
    rx, ry = panel.positions[3]
    shown = settled(qtbot, panel)
    assert result.value[rx, ry].tobytes() == shown.preview.peaks[3].tobytes()


def test_a_synthetic_probe(panel: BraggPanel, qtbot: Any) -> None:
    panel.probe.choose_kind("synthetic")
    panel.probe.radius.setValue(3.5)
    shown = settled(qtbot, panel)
    assert shown.search.probe.radius_px == 3.5
    assert shown.images.keys() == {"probe", "template"}
    assert panel.images["probe"].tile.numbers.shape == (64, 72)


def test_spots_instead_of_disks(panel: BraggPanel, qtbot: Any) -> None:
    panel.probe.choose_kind("spots")
    panel.probe.auto.setChecked(False)
    panel.probe.sigma.setValue(1.25)
    shown = settled(qtbot, panel)
    assert shown.search.probe == Spot(1.25)
    assert shown.search.slope == 0.0
    panel.run()
    qtbot.waitUntil(lambda: len(panel.session.project.scan.results) == 1, timeout=60_000)
    assert panel.session.project.scan.results[0].name == "spots"


def test_a_probe_is_measured_in_the_selection(panel: BraggPanel, qtbot: Any) -> None:
    session = panel.session
    chosen = RectangleSelection(0, 2, 1, 3)
    session.do(Select(key=session.project.current, selection=chosen))
    panel.probe.choose("measure in the selected positions …")
    qtbot.waitUntil(lambda: panel.probe.kind == "value", timeout=60_000)
    probe = session.project.scan.result("probe").value
    assert probe.radius_px == pytest.approx(3.0, abs=0.3)
    assert settled(qtbot, panel).search.probe is probe
    made = session.project.scan.result("probe").made
    assert made.kind == "measure-probe" and made.where is None
    assert made.parameters == {"where": [[0, 2], [1, 3]]}
    again = MeasureProbe(**made.parameters).apply(session.cube(session.project.current))
    assert again.radius_px == probe.radius_px
    settled(qtbot, panel)
    panel.recipe()
    recipe = QtWidgets.QApplication.clipboard().text()
    assert 'use = "measure-probe"' in recipe and '[step.probe]\nresult = "probe"' in recipe


def test_a_probe_of_a_drawn_region_can_be_made_again(panel: BraggPanel, qtbot: Any) -> None:
    session = panel.session
    key, chosen = session.project.current, DiskSelection(1.2, (1, 2))
    session.do(Select(key=key, selection=chosen))
    panel.measure_in("")
    qtbot.waitUntil(lambda: panel.probe.kind == "value", timeout=60_000)
    result = session.project.scan.result("probe")
    assert result.made.where == chosen
    again = measure_probe(session.cube(key), chosen.mask((4, 5)))
    assert result.value.radius_px == again.radius_px
    settled(qtbot, panel)


def test_only_the_selected_positions_are_searched(panel: BraggPanel, qtbot: Any) -> None:
    session = panel.session
    chosen = RectangleSelection(1, 3, 0, 2)
    session.do(Select(key=session.project.current, selection=chosen))
    panel.selected_tick.click()
    assert panel.run_button.text() == "Run selected"
    panel.run()
    qtbot.waitUntil(lambda: len(session.project.scan.results) == 1, timeout=60_000)
    result = session.project.scan.results[0]
    counts = np.array([[len(result.value[i, j]) for j in range(5)] for i in range(4)])
    assert (counts[1:3, 0:2] > 0).all() and counts.sum() == counts[1:3, 0:2].sum()
    assert result.made.where == chosen
    counted = result.value.history.steps[-1].parameters["where"]
    assert counted == {"positions": 4, "of": 20, "selection": selection_table(chosen)}
    settled(qtbot, panel)
    panel.copy()
    text = QtWidgets.QApplication.clipboard().text()
    names = {"cube": session.cube(session.project.current)}
    exec(text, names)
    assert len(names["result"].points) == len(result.value.points)


def test_a_probe_of_another_scan(panel: BraggPanel, session: Any, qtbot: Any) -> None:
    first = session.project.current
    image = 500 * synthetic_probe((64, 72), 4.0).image()
    vacuum = np.random.default_rng(0).poisson(image, (2, 3, 64, 72)).astype(np.uint16)
    with qtbot.waitSignal(session.opened):
        session.add_cube(DataCube(vacuum), "vacuum")
    key = session.project.current
    from py4DSTEM.gui.state.commands import ShowScan

    session.do(ShowScan(key=first))
    panel.measure_in(key)
    qtbot.waitUntil(lambda: panel.probe.kind == "value", timeout=60_000)
    assert panel.probe.wish().value.radius_px == pytest.approx(4.0, abs=0.1)
    found = session.project.get(first).result("probe")
    assert found.value is panel.probe.wish().value
    assert found.made is None  # it was measured in a scan that is in no file


def test_parameters_that_make_no_sense_are_said(panel: BraggPanel, qtbot: Any) -> None:
    panel.probe.choose_kind("synthetic")
    panel.probe.radius.setValue(40.0)
    qtbot.waitUntil(lambda: "larger than patterns" in panel.note.text(), timeout=20_000)
    assert panel.shown is None
    assert not panel.copy_button.isEnabled()
    panel.probe.choose_kind("auto")
    settled(qtbot, panel)
    assert panel.note.text() == ""


def test_copies_run(panel: BraggPanel, qtbot: Any) -> None:
    panel.sliders["max_peaks"].number.box.setValue(7)
    settled(qtbot, panel)
    panel.copy()
    text = QtWidgets.QApplication.clipboard().text()
    session = panel.session
    names = {"cube": session.cube(session.project.current)}
    exec(text, names)
    rx, ry = panel.positions[0]
    assert names["result"][rx, ry].tobytes() == panel.shown.preview.peaks[0].tobytes()
    panel.recipe()
    assert "max_peaks = 7" in QtWidgets.QApplication.clipboard().text()


def test_a_closed_scan_is_forgotten(panel: BraggPanel, qtbot: Any) -> None:
    session = panel.session
    session.close_scan(session.project.current)
    assert panel.shown is None
    assert panel.positions == ()
    assert panel.tiles[0].tile is None
    qtbot.waitUntil(lambda: panel._lane.idle)
    assert not panel.run_button.isEnabled()


def test_marks_lie_on_their_pixels_and_say_what_they_are(qtbot: Any) -> None:
    view = TileView()
    qtbot.addWidget(view)
    view.resize(204, 104)
    marks = (Mark(1.0, 6.0, words="a disk"), Mark(3.0, 2.0, "weak", "left out"))
    view.show_tile(Tile(np.zeros((5, 10), np.uint8), "", "gray", marks, 1.0))
    at = view.place(1.0, 6.0)
    assert (at.x(), at.y()) == pytest.approx((2 + 6.5 * 20, 2 + 1.5 * 20))
    assert view.mark_at(at) is marks[0]
    assert view.mark_at(view.place(3.0, 2.0) + QtCore.QPointF(2, 2)) is marks[1]
    assert view.mark_at(view.place(4.0, 9.0)) is None
    view.grab()
