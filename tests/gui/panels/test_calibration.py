"""The calibration wizard: what is measured is the library's, what is accepted can be undone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import DataCube, simulate

pytest.importorskip("pyqtgraph")

ELLIPSE = (1.04, 1.0, 0.6)


@pytest.fixture(scope="module")
def scan() -> Any:
    return simulate.strained_lattice((6, 7), (64, 60), seed=3, wander_px=0.5)


@pytest.fixture(scope="module")
def gold() -> py4DSTEM.DiffractionSlice:
    pattern = simulate.powder_rings((112, 112), ellipse=ELLIPSE).pattern
    return py4DSTEM.DiffractionSlice(pattern.data)


@pytest.fixture
def opened(session: Any, scan: Any, gold: Any, qtbot: Any) -> Any:
    with qtbot.waitSignal(session.opened, timeout=20000):
        session.add_cube(DataCube(scan.cube.data), "scan")
    session.keep("gold", gold)
    session.keep("bragg peaks", scan.truth.peaks())
    return session


@pytest.fixture
def wizard(opened: Any, qtbot: Any) -> Iterator[Any]:
    from py4DSTEM.gui.panels.calibration import CalibrationWizard

    made = CalibrationWizard(opened)
    qtbot.addWidget(made)
    made.resize(460, 780)
    made.show()
    yield made
    made.hide()


def measured(wizard: Any, number: int, qtbot: Any, source: str = "the scan") -> Any:
    """A page after its quantity was measured, or could not be."""
    wizard.tabs.setCurrentIndex(number)
    page = wizard.pages[number]
    page.source_box.setCurrentText(source)
    page.measure_button.click()
    qtbot.waitUntil(lambda: not page.job_row.busy, timeout=30000)
    qtbot.waitUntil(
        lambda: page.found is not None or bool(page.job_row.words.text()), timeout=30000
    )
    return page


def layers(session: Any) -> dict[str, Any]:
    return {layer.name: layer for layer in session.project.scan.layers}


# ---- origin --------------------------------------------------------------------------------------
def test_origin_of_the_scan(wizard: Any, opened: Any, scan: Any, qtbot: Any) -> None:
    page = measured(wizard, 0, qtbot)
    truth = scan.truth.origin_px
    found = page.found.value
    # A plane leaves the wander of the beam.
    assert np.nanmax(abs(found.origin_px - truth)) < 2.5
    assert "42 of 42 positions" in page.words.text()
    assert "px rms" in page.words.text()
    again = py4DSTEM.measure_origin(opened.cube(opened.project.current))
    np.testing.assert_allclose(page.grid.images[1], (again.origin_px - found.origin_px)[..., 1])
    mark = opened.stage.overlays["diffraction", "calibration diffraction"]
    np.testing.assert_allclose(mark.points[0], np.nanmean(found.origin_px, axis=(0, 1)))


def test_accepting_adds_a_layer_that_can_be_undone_and_switched_off(
    wizard: Any, opened: Any, qtbot: Any
) -> None:
    page = measured(wizard, 0, qtbot)
    before = opened.calibration(opened.project.current).origin_px
    found = page.found.value.origin_px
    page.accept_button.click()
    layer = layers(opened)["origin"]
    assert (layer.made.kind, layer.made.of) == ("calibrate-origin", "")
    assert layer.made.parameters["model"] == "plane"
    assert layer.made.layers == ("beam",)
    assert wizard.tabs.currentIndex() == 1
    assert wizard.tabs.tabText(0) == "Origin ✓"
    assert not opened.stage.overlays
    key = opened.project.current
    np.testing.assert_array_equal(opened.calibration(key).origin_px, found)
    from pyqtgraph.Qt import QtCore

    items = [wizard.layers.list.item(k) for k in range(wizard.layers.list.count())]
    assert [item.text().split(":")[0] for item in items] == ["beam", "origin"]
    items[1].setCheckState(QtCore.Qt.CheckState.Unchecked)
    np.testing.assert_array_equal(opened.calibration(key).origin_px, before)
    opened.undo()
    np.testing.assert_array_equal(opened.calibration(key).origin_px, found)
    opened.undo()
    assert "origin" not in layers(opened)
    assert wizard.tabs.tabText(0) == "Origin"
    assert wizard.layers.list.count() == 1


def test_origin_of_peaks_as_measured(wizard: Any, scan: Any, qtbot: Any) -> None:
    wizard.pages[0].form.set_values({"model": "none"})
    page = measured(wizard, 0, qtbot, "bragg peaks")
    np.testing.assert_allclose(page.found.value.origin_px, scan.truth.origin_px, atol=1e-6)
    assert page.grid.bar.label == "one sigma (px)"
    page.accept_button.click()


def test_removing_a_layer(wizard: Any, opened: Any) -> None:
    wizard.layers.list.setCurrentRow(0)
    wizard.layers.remove_button.click()
    assert layers(opened) == {}
    assert not wizard.layers.remove_button.isEnabled()


# ---- ellipse and pixel size ----------------------------------------------------------------------
def test_ellipse_and_pixel_size_of_a_standard(
    wizard: Any, opened: Any, gold: Any, qtbot: Any
) -> None:
    from pyqtgraph.Qt import QtCore

    page = measured(wizard, 1, qtbot, "gold")
    found = page.found.value
    assert found.ratio == pytest.approx(ELLIPSE[0], abs=2e-3)
    assert f"{found.ratio:.3f}" in page.words.text()
    assert "°" in page.words.text()
    rings = opened.stage.overlays["diffraction", "calibration diffraction"].paths
    assert len(rings) == len(found.radii_px)
    assert page.chart.isVisible() and page.chart_box.isVisible()
    names = [curve.name for curve in page.chart.chart.curves]
    assert names == ["as measured", "the ellipse", "corrected"]
    before, ellipse, after = page.chart.chart.curves
    # Half of what a / b differs from one, twice around; next to nothing is left.
    assert np.ptp(before.y) == pytest.approx(100 * (ELLIPSE[0] - 1), abs=0.3)
    assert ellipse.x[ellipse.y.argmax()] % 180 == pytest.approx(math.degrees(0.6), abs=2)
    assert np.sqrt(np.mean(after.y**2)) < 0.1
    qtbot.keyClick(page.chart_box, QtCore.Qt.Key.Key_Down)
    names = [curve.name for curve in page.chart.chart.curves]
    assert names == ["as measured", "corrected"]
    page.accept_button.click()
    assert opened.calibration(opened.project.current).ellipse == found.ellipse

    page = measured(wizard, 2, qtbot, "gold")
    expected = py4DSTEM.measure_pixel_size(gold.with_calibration(found), "Au")
    assert page.found.value.value == pytest.approx(expected.value, rel=1e-6)
    assert "Å⁻¹ per pixel" in page.words.text()
    chart = page.chart.chart
    np.testing.assert_allclose(chart.curves[0].y, 100 * expected.lines["residual"], atol=1e-9)
    assert [name for _, name in chart.places][:2] == ["111", "200"]
    names = opened.stage.overlays["diffraction", "calibration diffraction lines"].labels
    assert names[:2] == ("111", "200")
    page.accept_button.click()
    known = opened.calibration(opened.project.current)
    assert known.Q_pixel_size == pytest.approx(expected.value, rel=1e-6)
    assert known.ellipse == found.ellipse
    assert list(layers(opened))[-2:] == ["ellipse", "pixel size"]


def test_the_wrong_crystal_is_said_on_the_page(wizard: Any, opened: Any, qtbot: Any) -> None:
    wizard.pages[2].reference_box.setCurrentText("[5.0, 3.0]")
    page = measured(wizard, 2, qtbot, "gold")
    assert page.found is None
    assert page.job_row.words.property("error")
    assert page.job_row.words.text()
    assert not page.accept_button.isEnabled()
    assert page.measure_button.isEnabled()


@pytest.mark.parametrize("text, words", [("", "not given"), ("Unobtainium", "known: Ag")])
def test_a_crystal_that_is_none(wizard: Any, qtbot: Any, text: str, words: str) -> None:
    wizard.pages[2].reference_box.setCurrentText(text)
    page = measured(wizard, 2, qtbot, "gold")
    assert words in page.job_row.words.text()


def test_no_rings_are_said_on_the_page(wizard: Any, opened: Any, qtbot: Any) -> None:
    flat = py4DSTEM.DiffractionSlice(np.full((40, 44), 3.0))
    opened.keep("flat", flat)
    page = measured(wizard, 1, qtbot, "flat")
    assert page.found is None
    assert page.job_row.words.property("error")
    page.source_box.setCurrentText("gold")
    page.measure_button.click()
    qtbot.waitUntil(lambda: page.found is not None, timeout=30000)
    assert page.job_row.words.text() == ""


# ---- rotation ------------------------------------------------------------------------------------
def test_rotation_of_a_thin_specimen(session: Any, qtbot: Any) -> None:
    from py4DSTEM.gui.panels.calibration import CalibrationWizard

    thin = simulate.phase_object((14, 14), step_A=0.5, rotation_rad=0.3, dose=None, seed=1).cube
    with qtbot.waitSignal(session.opened, timeout=20000):
        session.add_cube(thin, "thin")
    wizard = CalibrationWizard(session)
    qtbot.addWidget(wizard)
    wizard.show()
    wizard.pages[3].form.set_values({"near_deg": 20.0})
    page = measured(wizard, 3, qtbot)
    assert page.found.value.rotation_rad == pytest.approx(0.3, abs=0.05)
    assert page.words.text().startswith("Rotation 1")
    best = min(page.chart.chart.curves, key=lambda curve: curve.y.min())
    assert best.x[best.y.argmin()] == pytest.approx(page.chart.chart.places[0][0], abs=1.5)
    assert not best.dashed
    page.accept_button.click()
    assert session.calibration(session.project.current).rotation_rad == pytest.approx(0.3, abs=0.05)
    assert wizard.tabs.currentWidget() is wizard.typed_page


# ---- typed values --------------------------------------------------------------------------------
def test_typed_values(wizard: Any, opened: Any, qtbot: Any) -> None:
    page = wizard.typed_page
    page.fields["R_pixel_size"].setText("1.5")
    page.units["R_pixel_size"].setCurrentText("nm")
    page.fields["energy_keV"].setText("200")
    page.fields["rotation_deg"].setText("-90")
    page.flip_box.setCurrentText("yes")
    page.apply_button.click()
    known = opened.calibration(opened.project.current)
    assert (known.R_pixel_size, known.R_pixel_units, known.energy_eV) == (1.5, "nm", 2e5)
    assert (known.rotation_rad, known.flip) == (-math.pi / 2, True)
    page.fields["R_pixel_size"].clear()
    page.fields["pixel_um"].setText("55")
    page.fields["camera_length_mm"].setText("250")
    page.apply_button.click()
    known = opened.calibration(opened.project.current)
    assert (known.Q_pixel_size, known.Q_pixel_units) == (0.22, "mrad")
    assert known.R_pixel_size == 1.5  # typed before
    assert len(layers(opened)) == 2


@pytest.mark.parametrize(
    "values, words",
    [
        ({}, "Nothing is typed"),
        ({"energy_keV": "-3"}, "positive"),
        ({"energy_keV": "x'"}, "is a number"),
        ({"pixel_um": "55"}, "only useful together"),
        ({"pixel_um": "55", "camera_length_mm": "0"}, "camera_length_mm"),
        ({"R_pixel_size": "0"}, ""),
    ],
)
def test_typed_values_that_make_no_sense(
    wizard: Any, opened: Any, values: dict[str, str], words: str
) -> None:
    before = opened.project
    for name, text in values.items():
        wizard.typed_page.fields[name].setText(text)
    wizard.typed_page.apply_button.click()
    assert wizard.typed_page.note.text()
    assert words in wizard.typed_page.note.text()
    assert opened.project is before


# ---- before and after, other scans ---------------------------------------------------------------
def test_before_and_after(wizard: Any, opened: Any, qtbot: Any) -> None:
    key = opened.project.current
    assert opened.calibration(key).origin_px is not None
    with qtbot.waitSignal(opened.rawChanged):
        wizard.layers.raw_button.click()
    assert opened.calibration(key).origin_px is None
    # What is computed meanwhile uses the calibrations.
    assert opened.cube(key).calibration.origin_px is not None
    opened.raw = False
    assert not wizard.layers.raw_button.isChecked()
    wizard.layers.raw_button.click()
    wizard.hide()
    assert not opened.raw


def test_skipping_goes_on_without_a_layer(wizard: Any, opened: Any) -> None:
    before = opened.project
    wizard.pages[0].skip_button.click()
    assert wizard.tabs.currentIndex() == 1
    assert opened.project is before


def test_another_scan_forgets_what_was_found(wizard: Any, opened: Any, qtbot: Any) -> None:
    page = measured(wizard, 0, qtbot)
    with qtbot.waitSignal(opened.opened, timeout=20000):
        opened.add_cube(DataCube(np.zeros((3, 4, 12, 13), np.uint8)), "empty")
    assert page.found is None
    assert not opened.stage.overlays
    page.measure_button.click()
    qtbot.waitUntil(lambda: bool(page.job_row.words.text()), timeout=30000)
    assert page.job_row.words.property("error")
    assert not page.accept_button.isEnabled()


def test_cancelling_leaves_everything(wizard: Any, opened: Any, qtbot: Any) -> None:
    import threading

    before, gate = opened.project, threading.Event()
    opened.jobs.submit("wait", lambda _: gate.wait(20), at_once=True)
    page = wizard.pages[0]
    page.measure_button.click()
    assert page.job_row.busy
    assert not page.measure_button.isEnabled()
    page.job_row.cancel_button.click()
    gate.set()
    qtbot.waitUntil(lambda: not page.job_row.busy, timeout=20000)
    assert page.job_row.words.text() == "Cancelled."
    assert page.found is None
    assert page.measure_button.isEnabled()
    assert opened.project is before


def test_peaks_of_the_scan_come_with_the_calibration_of_now(opened: Any, scan: Any) -> None:
    from py4DSTEM.gui.state.commands import AddLayer
    from py4DSTEM.gui.state.project import Layer, Made

    key, peaks = opened.project.current, scan.truth.peaks()
    opened.keep("found", peaks, Made(kind="find-bragg-disks"))
    opened.keep("corrected", peaks, Made(kind="calibrate-origin", of="found"))
    changes = {"origin_px": [30.0, 31.0], "rotation_rad": 0.2}
    opened.do(AddLayer(key=key, layer=Layer(name="typed", changes=changes)))
    assert opened.value_of(key, "found").calibration.mean_origin_px == (30.0, 31.0)
    # What was read from a file, or calibrated by a step of its own, keeps what it has.
    for name in ("bragg peaks", "corrected"):
        assert opened.value_of(key, name).calibration == peaks.calibration
