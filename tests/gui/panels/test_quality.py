"""The quality panel: a report as a job, and its places on the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyqtgraph.Qt import QtCore

from py4DSTEM import DataCube, quality
from py4DSTEM.gui.panels.quality import QualityPanel

LEFT = QtCore.Qt.MouseButton.LeftButton
HOT = (3, 11)
EMPTY = (2, 4)


@pytest.fixture(scope="module")
def cube() -> DataCube:
    counts = np.random.default_rng(3).poisson(20.0, (6, 7, 18, 20)).astype(np.uint16)
    counts[:, :, HOT[0], HOT[1]] = 900
    counts[EMPTY] = 0
    return DataCube(counts, name="flawed")


@pytest.fixture
def panel(session: Any, cube: DataCube, qtbot: Any) -> QualityPanel:
    made = QualityPanel(session)
    qtbot.addWidget(made)
    assert not made.run_button.isEnabled()
    with qtbot.waitSignal(session.opened):
        session.add_cube(cube, "flawed")
    made.resize(700, 500)
    made.show()
    qtbot.mouseClick(made.run_button, LEFT)
    qtbot.waitUntil(lambda: made.report is not None, timeout=20_000)
    return made


def chosen(panel: QualityPanel, name: str) -> None:
    names = [panel.table.item(row, 1).text() for row in range(panel.table.rowCount())]
    panel.table.selectRow(names.index(name))


def test_the_table_is_the_report(panel: QualityPanel, cube: DataCube) -> None:
    expected = quality(cube)
    assert panel.table.rowCount() == len(expected)
    for row, entry in enumerate(expected):
        assert panel.table.item(row, 1).text() == entry.name
        assert panel.table.item(row, 2).text() == entry.shown
        assert entry.advice in panel.table.item(row, 3).text()
    assert {"ok": "good", "warn": "look at", "bad": "bad"}[expected.verdict] in panel.verdict.text()
    assert panel.session.project.scan.results[0].made.kind == "quality"


def test_an_entry_is_marked_on_its_image(panel: QualityPanel) -> None:
    overlays = panel.session.stage.overlays
    chosen(panel, "hot pixels")
    (where, name), marks = next(iter(overlays.items()))
    assert (where, name) == ("diffraction", "quality: hot pixels")
    np.testing.assert_array_equal(marks.points, [HOT])
    chosen(panel, "empty frames")
    ((where, _), marks) = next(iter(overlays.items()))
    assert where == "real"
    np.testing.assert_array_equal(marks.points, [EMPTY])
    chosen(panel, "dose per pattern")
    assert not overlays
    chosen(panel, "hot pixels")
    panel.hide()
    assert not overlays


def test_bad_pixels_are_repaired_in_a_new_scan(panel: QualityPanel, qtbot: Any) -> None:
    session = panel.session
    with qtbot.waitSignal(session.opened):
        qtbot.mouseClick(panel.repair_button, LEFT)
    assert [scan.name for scan in session.project.scans] == ["flawed", "flawed repaired"]
    repaired = session.cube(session.project.current)
    assert repaired[0, 0].data[HOT] < 60
    assert panel.report is None
    assert panel.table.rowCount() == 0


def test_the_good_pixels_become_a_mask(panel: QualityPanel, qtbot: Any) -> None:
    qtbot.mouseClick(panel.mask_button, LEFT)
    entry = panel.session.project.scan.detector("usable")
    assert not entry.shown
    assert entry.shape.data[HOT] == 0
    assert entry.shape.data.sum() == 18 * 20 - 1


@pytest.mark.parametrize("ending", ["html", "txt"])
def test_the_report_is_saved(panel: QualityPanel, qtbot: Any, tmp_path: Any, ending: str) -> None:
    path = tmp_path / f"report.{ending}"
    with qtbot.waitSignal(panel.session.said, timeout=20_000):
        panel.save(str(path))
    text = path.read_text(encoding="utf-8")
    assert "hot pixels" in text
    assert ("<html" in text) == (ending == "html")


def test_a_cancelled_check_leaves_everything_as_it_was(panel: QualityPanel, qtbot: Any) -> None:
    before = panel.session.project
    panel.run()
    panel.jobs.cancel()
    qtbot.waitUntil(lambda: not panel.jobs.busy)
    if panel.jobs.job.state == "cancelled":  # it may have been faster
        assert panel.session.project is before
    assert panel.run_button.isEnabled()
