"""The strain panel: vectors that snap, a reference that is dragged, maps that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from lattices import noisy_peaks

from py4DSTEM import DataCube, StrainMap, strain_map
from py4DSTEM.core.selection import RectangleSelection

pytest.importorskip("pyqtgraph")

SHAPE = (12, 15)


@pytest.fixture
def session(session: Any, qtbot: Any) -> Any:
    peaks, truth = noisy_peaks(SHAPE)
    data = np.zeros((*SHAPE, 12, 14), np.uint8)
    data[:, :, 5:8, 6:9] = 30
    with qtbot.waitSignal(session.opened, timeout=20000):
        session.add_cube(DataCube(data, truth.calibration.replace(origin_px=(6.0, 7.0))), "scan")
    session.keep("bragg peaks", peaks)
    return session


@pytest.fixture
def panel(session: Any, qtbot: Any) -> Iterator[Any]:
    from py4DSTEM.gui.panels.strain import StrainPanel

    made = StrainPanel(session)
    qtbot.addWidget(made)
    made.resize(460, 780)
    made.show()
    qtbot.waitUntil(lambda: made.lattice_page.basis is not None, timeout=20000)
    yield made
    made.stop()


@pytest.fixture
def mapped(panel: Any, qtbot: Any) -> Any:
    """The panel after a fit."""
    panel.lattice_page.fit_button.click()
    page = panel.map_page
    qtbot.waitUntil(lambda: page.seen is not None and page.seen.exact, timeout=20000)
    return panel


def settled(page: Any, qtbot: Any) -> None:
    qtbot.waitUntil(
        lambda: page.lane.idle and page.seen is not None and page.seen.exact, timeout=20000
    )


# ---- vectors -------------------------------------------------------------------------------------
def test_vectors_are_suggested(panel: Any) -> None:
    page = panel.lattice_page
    np.testing.assert_allclose(page.map_view.vectors, [[0.24, 0.05], [-0.06, 0.27]], atol=2e-3)
    assert "100.0% of the peaks" in page.words.text()
    assert page.step().g1 is None  # the library finds other grains too where none was dragged
    assert page.fit_button.isEnabled()


def test_a_dragged_vector_snaps_to_a_peak(
    panel: Any, qtbot: Any, drag: Callable[..., None], steps: Callable[..., Any]
) -> None:
    page, view = panel.lattice_page, panel.lattice_page.map_view
    picking, before = view.picking, view.vectors.copy()
    wish = before[0] + before[1]
    start = view.box.mapViewToScene(view.tips[0].pos())
    x, y = np.add(picking.pixels(wish), [1.5, -1.0])
    from pyqtgraph.Qt import QtCore

    end = view.box.mapViewToScene(QtCore.QPointF(y, x))
    with qtbot.waitSignal(view.vectorsMoved):
        drag(view.view, start, *steps(start, end))
    qtbot.waitUntil(lambda: page.lane.idle and page.basis is not None, timeout=20000)
    np.testing.assert_allclose(view.vectors[0], wish, atol=3e-3)
    np.testing.assert_array_equal(view.vectors[1], before[1])
    points = np.array(view.points.getData()).T[:, ::-1]
    expected, _ = picking.lattice(view.vectors)
    np.testing.assert_allclose(points, expected)
    assert page.step().g1 == pytest.approx(tuple(view.vectors[0]))
    # The same lattice by other vectors: the fit keeps those that were chosen.
    page.fit_button.click()
    qtbot.waitUntil(lambda: panel.map_page.lattice is not None, timeout=20000)
    np.testing.assert_allclose(panel.map_page.lattice.basis[0], wish, atol=3e-3)


def test_without_snapping_vectors_stay_where_they_are_put(
    panel: Any, qtbot: Any, drag: Callable[..., None], steps: Callable[..., Any]
) -> None:
    page, view = panel.lattice_page, panel.lattice_page.map_view
    page.snap_tick.click()
    start = view.box.mapViewToScene(view.tips[1].pos())
    end = start + (view.box.mapViewToScene(view.tips[0].pos()) - start) * 0.3
    drag(view.view, start, *steps(start, end))
    tip = view.tips[1].pos()
    np.testing.assert_allclose(view.vectors[1], view.picking.vector([tip.y(), tip.x()]))
    distance = np.linalg.norm(view.picking.peaks_px - [tip.y(), tip.x()], axis=1)
    assert distance.min() > 3
    page.suggest_button.click()
    qtbot.waitUntil(lambda: page.lane.idle and page.basis is not None, timeout=20000)
    np.testing.assert_allclose(view.vectors[1], [-0.06, 0.27], atol=2e-3)


# ---- maps ----------------------------------------------------------------------------------------
def test_the_fit_becomes_a_result_that_can_be_repeated(mapped: Any, session: Any) -> None:
    result = session.project.scan.result("lattice")
    assert (result.made.kind, result.made.of) == ("fit-lattice", "bragg peaks")
    assert mapped.tabs.currentWidget() is mapped.map_page
    assert mapped.map_page.lattice is result.value


def test_maps_are_those_of_the_library(mapped: Any, qtbot: Any) -> None:
    page = mapped.map_page
    settled(page, qtbot)
    region = page.region
    whole = strain_map(page.lattice, region.mask(SHAPE))
    for image, name in zip(page.grid.images, ("e_xx", "e_yy", "e_xy", "theta"), strict=True):
        np.testing.assert_allclose(image, 100 * getattr(whole, name), atol=1e-9)
    low, high = page.grid.limits
    assert low == -high == -page.limit_spin.value()
    assert page.seen.spreads["e_xx"].count == int(region.mask(SHAPE).sum())
    page.sigma_tick.click()
    np.testing.assert_allclose(page.grid.images[1], 100 * whole.sigma_e_yy, rtol=1e-9)
    assert page.grid.limits[0] == 0


def test_dragging_the_reference_recomputes_the_strain_but_not_the_lattice(
    mapped: Any, qtbot: Any, drag: Callable[..., None], steps: Callable[..., Any]
) -> None:
    from pyqtgraph.Qt import QtCore

    page = mapped.map_page
    settled(page, qtbot)
    lattice, before = page.lattice, page.region
    one = page.grid.maps[2]
    start = one.box.mapViewToScene(QtCore.QPointF(before.y0 + 1.5, before.x0 + 1.5))
    end = one.box.mapViewToScene(QtCore.QPointF(before.y0 + 4.5, before.x0 - 0.5))
    drag(page.grid.view, start, *steps(start, end), release=False)
    assert page.region != before
    moved = page.region
    qtbot.waitUntil(lambda: page.lane.idle and not page.seen.exact, timeout=20000)
    live = page.grid.images[0].copy()
    drag(page.grid.view, end)  # let go
    settled(page, qtbot)
    assert (moved.x0, moved.y0) == (before.x0 - 2, before.y0 + 3)
    assert page.region == moved
    assert (moved.x1 - moved.x0, moved.y1 - moved.y0) == (
        before.x1 - before.x0, before.y1 - before.y0,
    )  # fmt: skip
    assert page.lattice is lattice
    np.testing.assert_allclose(live, 100 * strain_map(lattice, moved.mask(SHAPE)).e_xx, atol=1e-9)
    for other in page.grid.maps:
        assert other.drawn_region() == moved


def test_the_image_of_the_scan_shows_the_reference_and_moves_it(
    mapped: Any, session: Any, qtbot: Any
) -> None:
    page, stage = mapped.map_page, session.stage
    overlay = stage.overlays["real", "strain reference"]
    assert overlay.shape == page.region
    there = RectangleSelection(0, 3, 1, 5)
    overlay.moved(RectangleSelection(0, 3, 0, 4), False)
    assert stage.overlays["real", "strain reference"] is overlay  # its item is held by the mouse
    overlay.moved(there, True)
    settled(page, qtbot)
    assert stage.overlays["real", "strain reference"].shape == there
    assert page.grid.region == there
    expected = strain_map(page.lattice, there.mask(SHAPE)).e_yy
    np.testing.assert_allclose(page.grid.images[1], 100 * expected, atol=1e-9)
    mapped.tabs.setCurrentIndex(0)
    assert ("real", "strain reference") not in stage.overlays
    mapped.tabs.setCurrentIndex(1)
    page.whole_tick.click()
    assert ("real", "strain reference") not in stage.overlays


def test_axes_of_the_components(mapped: Any, qtbot: Any) -> None:
    page = mapped.map_page
    page.axis_box.setCurrentText("g1")
    settled(page, qtbot)
    mask = page.region.mask(SHAPE)
    along = strain_map(page.lattice, mask, axis="g1")
    np.testing.assert_allclose(page.grid.images[0], 100 * along.e_xx, atol=1e-9)
    page.axis_box.setCurrentText("angle")
    page.angle_spin.setValue(30)
    settled(page, qtbot)
    turned = strain_map(page.lattice, mask, axis=np.radians(30))
    np.testing.assert_allclose(page.grid.images[2], 100 * turned.e_xy, atol=1e-9)


def test_the_cursor_reads_all_four(mapped: Any, qtbot: Any) -> None:
    page = mapped.map_page
    settled(page, qtbot)
    page.grid.hovered.emit((2, 3))
    texts = [one.title.text for one in page.grid.maps]
    value, _ = page.seen.glimpse.reading(2, 3)["e_xx"]
    assert all("±" in text for text in texts)
    assert f"{value:.3f}" in texts[0]
    assert texts[3].endswith("mrad")


def test_limits_that_were_typed_stay(mapped: Any, qtbot: Any) -> None:
    page = mapped.map_page
    settled(page, qtbot)
    page.limit_spin.setValue(0.7)
    assert page.grid.limits == (-0.7, 0.7)
    assert not page.auto_tick.isChecked()
    page.ask()
    settled(page, qtbot)
    assert page.grid.limits == (-0.7, 0.7)


def test_keeping_makes_a_result(mapped: Any, session: Any, qtbot: Any) -> None:
    page = mapped.map_page
    settled(page, qtbot)
    page.keep_button.click()
    qtbot.waitUntil(lambda: len(session.project.scan.results) == 3, timeout=20000)
    kept = session.project.scan.results[-1]
    assert isinstance(kept.value, StrainMap)
    assert (kept.name, kept.made.kind, kept.made.of) == ("strain", "strain-map", "lattice")
    np.testing.assert_allclose(100 * kept.value.e_xx, page.grid.images[0], atol=1e-9)


# ---- what cannot be ------------------------------------------------------------------------------
def test_a_reference_without_a_lattice_is_said(mapped: Any, qtbot: Any, session: Any) -> None:
    import dataclasses

    page = mapped.map_page
    settled(page, qtbot)
    lattice = page.lattice
    mask = lattice.mask.copy()
    mask[:3, :3] = False
    session.keep("holes", dataclasses.replace(lattice, mask=mask))
    page.choose("holes")
    settled(page, qtbot)
    page._dragged_on_scan(RectangleSelection(0, 2, 0, 2), True)
    qtbot.waitUntil(lambda: "no usable lattice" in page.job_row.words.text(), timeout=20000)
    page._dragged_on_scan(RectangleSelection(6, 9, 6, 9), True)
    settled(page, qtbot)
    assert page.job_row.words.text() == ""
    page.grid.hovered.emit((0, 0))
    assert "no lattice" in page.grid.maps[0].title.text
    assert page.grid.legend.isVisible()
    missing = lattice.mask.size - int(mask.sum())
    assert page.grid.legend.words.text() == f"no lattice at {missing} of {lattice.mask.size}"
    for one in page.grid.maps:
        np.testing.assert_array_equal(one.hatch.held, np.where(mask, 0, 255))
    page.choose("lattice")
    settled(page, qtbot)
    qtbot.waitUntil(lambda: not page.grid.legend.isVisible(), timeout=20000)
    assert not page.grid.maps[0].hatch.held.any()


def test_without_peaks_the_panel_says_what_to_do(session: Any, qtbot: Any) -> None:
    from py4DSTEM.gui.panels.strain import StrainPanel
    from py4DSTEM.gui.state.commands import RemoveResult

    session.do(RemoveResult(key=session.project.current, name="bragg peaks"))
    panel = StrainPanel(session)
    qtbot.addWidget(panel)
    assert "find the disks" in panel.lattice_page.words.text()
    assert not panel.lattice_page.fit_button.isEnabled()
    with qtbot.waitSignal(session.panelWanted) as wanted:
        panel.lattice_page.find_button.click()
    assert wanted.args == ["bragg"]
    panel.stop()


def test_removing_everything_leaves_an_empty_panel(mapped: Any, session: Any, qtbot: Any) -> None:
    page = mapped.map_page
    settled(page, qtbot)
    session.close_scan(session.project.current)
    assert page.lattice is None
    assert ("real", "strain reference") not in session.stage.overlays
    assert not page.keep_button.isEnabled()


def test_the_reference_is_dragged_on_the_image_of_the_scan(
    mapped: Any, session: Any, qtbot: Any, drag: Callable[..., None], steps: Callable[..., Any]
) -> None:
    from pyqtgraph.Qt import QtCore

    from py4DSTEM.gui.views.stage_views import RealView

    page = mapped.map_page
    settled(page, qtbot)
    before = page.region
    view = RealView(session)
    qtbot.addWidget(view)
    view.resize(500, 500)
    view.set_image(np.zeros(SHAPE))
    view.show()
    page.show_region(True)
    canvas = view.canvas
    # Not on the scan position, which has a handle of its own.
    start = canvas.box.mapViewToScene(QtCore.QPointF(before.y0 + 0.6, before.x0 + 0.6))
    end = canvas.box.mapViewToScene(QtCore.QPointF(before.y0 - 2.4, before.x0 + 2.6))
    drag(canvas, start, *steps(start, end))
    settled(page, qtbot)
    moved = page.region
    assert (moved.x0, moved.y0) == (before.x0 + 2, before.y0 - 3)
    assert page.grid.region == moved
    expected = 100 * strain_map(page.lattice, moved.mask(SHAPE)).e_xx
    qtbot.waitUntil(lambda: np.allclose(page.grid.images[0], expected, atol=1e-9), timeout=20000)
