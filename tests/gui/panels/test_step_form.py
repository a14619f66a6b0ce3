"""Forms made from the parameters of steps, and the panel that runs any of them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from pydantic import Field
from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM import Annulus, DataCube, Disk, Operation, RealSlice, RectangleSelection
from py4DSTEM.core.detector import AnyDetector
from py4DSTEM.core.detectors.mask import MaskArray
from py4DSTEM.core.selection import selection_table
from py4DSTEM.gui.panels.step_form import StepForm, StepPanel
from py4DSTEM.gui.state.commands import AddDetector, ChangeDetector, Select
from py4DSTEM.gui.state.forms import all_steps
from py4DSTEM.gui.state.project import DetectorEntry
from py4DSTEM.stream.operation import PerScan

LEFT = QtCore.Qt.MouseButton.LeftButton


class Scaled(Operation, kind="tested-by-the-form"):
    """Sum of each pattern times a factor.

    Known to the tests alone.
    """

    factor: float = Field(2.0, gt=0, le=10, description="What sums are multiplied with.")
    shift_px: int = Field(0, ge=-3, le=3, description="Nothing.")
    mode: Literal["plain", "fancy"] = Field("plain", description="Nothing.")
    turn: bool = Field(False, description="Change the sign.")
    limit_px: float | None = Field(None, gt=0, description="Nothing.")
    center: tuple[float, float] | None = Field(None, description="Nothing.")
    mask: AnyDetector | None = Field(None, description="Pixels that count.")
    where: MaskArray | None = Field(None, description="(Rx, Ry) of true and false.")

    outputs: ClassVar[Any] = {"sums": PerScan(np.float64)}

    def prepare(self, cube: Any, kernels: Any) -> Any:
        if self.mask is None:
            return np.ones(cube.Q_shape)
        return self.mask.weights(cube.Q_shape, cube.calibration)

    def step(self, plan: Any, tile: Any, kernels: Any) -> Any:
        return {"sums": (tile.frames * plan).sum(axis=(1, 2), dtype=np.float64)}

    def finish(self, cube: Any, plan: Any, parts: Any, history: Any) -> RealSlice:
        sign = -self.factor if self.turn else self.factor
        where = 1.0 if self.where is None else self.where
        return RealSlice(sign * where * parts["sums"], cube.calibration, history, "sums")


@pytest.fixture
def cube() -> DataCube:
    counts = np.random.default_rng(0).poisson(5.0, (4, 5, 16, 18)).astype(np.uint16)
    return DataCube(counts, name="little")


@pytest.fixture
def opened(session: Any, cube: DataCube, qtbot: Any) -> Any:
    with qtbot.waitSignal(session.opened):
        session.add_cube(cube, "little")
    return session


def tick(qtbot: Any, box: Any) -> None:
    """Click on a check box, which must have its size first."""
    box.window().show()
    qtbot.waitUntil(box.isVisible)
    qtbot.mouseClick(box, LEFT, pos=QtCore.QPoint(8, box.height() // 2))


def settled(qtbot: Any, form: StepForm) -> StepForm:
    qtbot.waitUntil(lambda: form.step is not None or bool(form.problems))
    return form


def test_every_step_of_the_library_has_a_form(session: Any, qtbot: Any) -> None:
    for kind, cls in all_steps().items():
        form = StepForm(cls, session)
        qtbot.addWidget(form)
        assert set(form.editors) == set(cls.model_fields), kind
        settled(qtbot, form)
        required = {name for name, f in cls.model_fields.items() if f.is_required()}
        assert set(form.problems) == required, kind
        if not required:
            assert form.step == cls()
        form.deleteLater()


def test_a_new_operation_has_a_form_and_runs(opened: Any, cube: DataCube, qtbot: Any) -> None:
    panel = StepPanel(opened)
    qtbot.addWidget(panel)
    panel.show_kind("tested-by-the-form")
    assert "Sum of each pattern" in panel.about.text()
    form = panel.form
    assert form is not None
    box = form.editors["factor"].box  # type: ignore[attr-defined]
    box.setFocus()
    box.selectAll()
    qtbot.keyClicks(box, "3.5")
    qtbot.keyClick(box, QtCore.Qt.Key.Key_Return)
    tick(qtbot, form.editors["turn"].box)  # type: ignore[attr-defined]
    settled(qtbot, form)
    panel.name.setText("mine")
    qtbot.mouseClick(panel.run_button, LEFT)
    qtbot.waitUntil(lambda: len(opened.project.scan.results) == 1)
    result = opened.project.scan.results[0]
    assert result.name == "mine"
    assert result.made.parameters["factor"] == 3.5
    np.testing.assert_allclose(result.value.data, -3.5 * cube.data.sum(axis=(2, 3)))


def test_what_is_wrong_is_said_beside_its_field(opened: Any, qtbot: Any) -> None:
    panel = StepPanel(opened)
    qtbot.addWidget(panel)
    panel.show_kind("tested-by-the-form")
    form = panel.form
    assert form is not None
    form.editors["factor"].set_value(0.0)  # a limit that is excluded can be typed
    form.check()
    settled(qtbot, form)
    assert "greater than 0" in form.notes["factor"].text()
    assert form.notes["turn"].text() == ""
    panel.run()
    qtbot.waitUntil(lambda: not panel._wanted)
    assert not opened.jobs.active
    assert opened.project.scan.results == ()
    form.reset("factor")
    qtbot.waitUntil(lambda: form.step is not None)
    assert form.notes["factor"].isHidden()
    assert form.step.factor == 2.0


def test_automatic_values_have_a_tick(opened: Any, qtbot: Any) -> None:
    form = StepForm(Scaled, opened)
    qtbot.addWidget(form)
    editor = form.editors["limit_px"]
    assert form.values()["limit_px"] is None
    assert not editor.inner.isEnabled()  # type: ignore[attr-defined]
    tick(qtbot, editor.tick)  # type: ignore[attr-defined]
    assert editor.inner.isEnabled()  # type: ignore[attr-defined]
    editor.inner.box.setValue(4.5)  # type: ignore[attr-defined]
    assert form.values()["limit_px"] == 4.5
    assert editor.inner.box.suffix() == " px"  # type: ignore[attr-defined]
    form.set_values({"center": [3, 4.5], "limit_px": None})
    assert form.values()["center"] == (3.0, 4.5)
    assert form.values()["limit_px"] is None


def test_a_number_that_must_be_given_is_empty_at_first(session: Any, qtbot: Any) -> None:
    form = StepForm(all_steps()["moment-origin"], session)
    qtbot.addWidget(form)
    form.show()
    settled(qtbot, form)
    assert set(form.problems) == {"center", "search_px"}
    box = form.editors["search_px"].box  # type: ignore[attr-defined]
    assert box.lineEdit().text().strip() == "px"
    x, y = form.editors["center"].parts  # type: ignore[attr-defined]
    for editor, text in ((x, "7.5"), (y, "0")):
        editor.box.setFocus()
        qtbot.keyClicks(editor.box, text)
        qtbot.keyClick(editor.box, QtCore.Qt.Key.Key_Return)
    assert form.values()["center"] == (7.5, 0.0)
    box.setValue(3.0)
    qtbot.waitUntil(lambda: form.step is not None)
    assert (form.step.center, form.step.search_px) == ((7.5, 0.0), 3.0)


def test_detectors_and_selections_of_the_scan_can_be_chosen(opened: Any, qtbot: Any) -> None:
    form = StepForm(Scaled, opened)
    qtbot.addWidget(form)
    form.show()
    ring = Annulus(2.0, 5.0, center=(8, 9))
    key = opened.project.current
    opened.do(AddDetector(key=key, entry=DetectorEntry(name="R", shape=ring)))
    opened.do(Select(key=key, selection=RectangleSelection(1, 3, 0, 2)))
    mask, where = form.editors["mask"], form.editors["where"]
    mask.box.setCurrentText("R: annulus")  # type: ignore[attr-defined]
    where.box.setCurrentText("selected positions")  # type: ignore[attr-defined]
    values = form.values()
    assert values["mask"] == ring
    assert values["where"].shape == (4, 5)
    assert values["where"].sum() == 4
    form.check()
    settled(qtbot, form)
    assert form.step.mask == ring
    moved = Annulus(2.0, 6.0, center=(7, 9))
    opened.do(ChangeDetector(key=key, name="R", shape=moved))
    qtbot.waitUntil(lambda: form.step is not None)
    assert form.step.mask == moved
    mask.set_value({"kind": "disk", "radius": 3.0, "center": [8, 8]})
    assert form.values()["mask"] == {"kind": "disk", "radius": 3.0, "center": [8, 8]}
    form.check()
    qtbot.waitUntil(lambda: form.step is not None)
    assert form.step.mask == Disk(3.0, center=(8, 8))


def test_a_result_shows_the_form_that_made_it(opened: Any, qtbot: Any) -> None:
    step = Scaled(factor=4.0, mask=Disk(3.0, center=(8, 8)), where=np.eye(4, 5))
    opened.run_step(step, name="before")
    qtbot.waitUntil(lambda: len(opened.project.scan.results) == 1)
    panel = StepPanel(opened)
    qtbot.addWidget(panel)
    panel.show_result("before")
    assert panel.form is not None
    settled(qtbot, panel.form)
    assert panel.form.step.parameters() == step.parameters()
    panel.run()
    qtbot.waitUntil(lambda: len(opened.project.scan.results) == 2)
    one, two = opened.project.scan.results
    np.testing.assert_array_equal(one.value.data, two.value.data)


def test_the_input_may_be_a_result(opened: Any, qtbot: Any) -> None:
    panel = StepPanel(opened)
    qtbot.addWidget(panel)
    panel.show_kind("fit-lattice")
    assert panel.source.count() == 0
    assert not panel.run_button.isEnabled()
    assert "PointTable" in panel.note.text()
    panel.show_kind("measure-rotation")
    assert panel.source.count() == 1
    opened.keep("com", RealSlice(np.zeros((2, 4, 5)), labels=("x", "y")))
    assert [panel.source.itemData(k) for k in range(panel.source.count())] == ["", "com"]
    assert panel.run_button.isEnabled()


def test_the_copied_python_runs(opened: Any, cube: DataCube, qtbot: Any) -> None:
    panel = StepPanel(opened)
    qtbot.addWidget(panel)
    panel.show_kind("virtual-images")
    assert panel.form is not None
    settled(qtbot, panel.form)
    panel.copy()
    text = QtWidgets.QApplication.clipboard().text()
    assert "virtual_images(" in text
    names = {"cube": opened.cube(opened.project.current)}
    exec(text, names)
    shape = opened.project.scan.detectors[0].shape
    weights = shape.weights(cube.Q_shape, names["cube"].calibration)
    expected = np.einsum("xyij,ij->xy", cube.data, weights)
    np.testing.assert_allclose(names["result"]["A"].data, expected)


def test_a_panel_without_a_scan_says_so(session: Any, qtbot: Any) -> None:
    panel = StepPanel(session)
    qtbot.addWidget(panel)
    assert "open a scan" in panel.note.text()
    assert not panel.run_button.isEnabled()
    panel.run()
    assert not session.jobs.jobs


def test_only_selected_positions_count(opened: Any, cube: DataCube, qtbot: Any) -> None:
    panel = StepPanel(opened)
    qtbot.addWidget(panel)
    panel.show()
    chosen = RectangleSelection(1, 3, 0, 2)
    opened.do(Select(key=opened.project.current, selection=chosen))
    panel.show_kind("measure-origin")
    assert not panel.selected_tick.isEnabled()  # analyses choose their own
    panel.show_kind("mean-pattern")
    tick(qtbot, panel.selected_tick)
    assert panel.where == chosen
    panel.run()
    qtbot.waitUntil(lambda: len(opened.project.scan.results) == 1, timeout=30_000)
    result = opened.project.scan.results[0]
    np.testing.assert_allclose(result.value.data, cube.data[1:3, 0:2].mean((0, 1)))
    assert result.made.where == chosen
    counted = result.value.history.steps[-1].parameters["where"]
    assert counted == {"positions": 4, "of": 20, "selection": selection_table(chosen)}
    panel.show_kind("mean-pattern")
    panel.show_made(result.made)
    assert panel.selected_tick.isChecked()
