"""Acts on the project, and the way back and forth."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import Any

import numpy as np
import pytest

from py4DSTEM import (
    Annulus,
    Disk,
    Mask,
    ParameterError,
    PointSelection,
    RectangleSelection,
    synthetic_probe,
)
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.gui.state.command import COMMANDS
from py4DSTEM.gui.state.commands import (
    ActivateDetector,
    AddDetector,
    AddLayer,
    AddResult,
    AddScan,
    ChangeDetector,
    ChangeLook,
    CloseScan,
    RemoveDetector,
    RemoveLayer,
    RemoveResult,
    RenameResult,
    Select,
    SetDetectors,
    SetExpression,
    SetResponse,
    ShowInPanel,
    ShowScan,
    SwitchLayer,
    WeighDetector,
)
from py4DSTEM.gui.state.project import DetectorEntry, Layer, Look, Made, Result, Scan, Source
from py4DSTEM.gui.state.undo import Undo
from py4DSTEM.process.bragg.detect import FindBraggDisks


def entry(name: str, radius: float = 3.0) -> DetectorEntry:
    return DetectorEntry(name=name, shape=Disk(radius, center=(4.0, 5.0)))


def result(name: str, of: str = "", kind: str = "fit-lattice") -> Result:
    return Result(name=name, value=np.zeros((2, 3)), made=Made(kind=kind, of=of))


@pytest.fixture
def undo() -> Undo:
    made = Undo()
    made.do(AddScan(scan=Scan(key="s", name="scan", detectors=(entry("A"), entry("B")))))
    return made


def scan(undo: Undo, key: str = "s") -> Scan:
    return undo.project.get(key)


ACTS: list[Any] = [
    AddScan(scan=Scan(key="t", name="other")),
    AddDetector(key="s", entry=entry("C")),
    ChangeDetector(key="s", name="A", shape=Annulus(2.0, 3.0)),
    WeighDetector(key="s", name="B", weight=-1.0, shown=False),
    RemoveDetector(key="s", name="A"),
    SetDetectors(key="s", detectors=(entry("X"), entry("Y")), expression="X / Y"),
    ActivateDetector(key="s", name="B"),
    SetExpression(key="s", expression="A - B"),
    SetResponse(key="s", response="com"),
    Select(key="s", selection=PointSelection(1, 2), how="max"),
    AddLayer(key="s", layer=Layer(name="beam", changes={"origin_px": (1.0, 2.0)})),
    AddResult(key="s", result=result("lattice")),
    ChangeLook(panel="real", look=Look(scale="log")),
    CloseScan(key="s"),
]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.kind)
def test_every_act_can_be_undone_and_done_again(undo: Undo, act: Any) -> None:
    before = undo.project
    after = undo.do(act)
    assert after != before
    assert undo.undo() is before
    assert undo.redo() is after
    assert undo.undo_label == act.label()


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.kind)
def test_acts_can_be_written_down_and_read_again(act: Any) -> None:
    plain = act.model_dump()
    assert COMMANDS[act.kind](**plain).model_dump() == plain


BAD = [
    ShowScan(key="none"),
    CloseScan(key="none"),
    AddScan(scan=Scan(key="s", name="again")),
    AddDetector(key="s", entry=entry("A")),
    ChangeDetector(key="s", name="Z", shape=Disk(1.0)),
    WeighDetector(key="s", name="Z"),
    RemoveDetector(key="s", name="Z"),
    SetDetectors(key="s", detectors=(entry("X"), entry("X"))),
    SetDetectors(key="s", detectors=(entry("X"),), expression="X + Y"),
    ActivateDetector(key="s", name="Z"),
    SetExpression(key="s", expression="A +"),
    SetExpression(key="s", expression="A + Z"),
    ShowInPanel(key="s", panel="real", name="none"),
    SwitchLayer(key="s", name="none", enabled=True),
    RemoveLayer(key="s", name="none"),
    RemoveResult(key="s", name="none"),
    RenameResult(key="s", name="none", to="x"),
]


@pytest.mark.parametrize("act", BAD, ids=lambda act: act.kind)
def test_acts_that_make_no_sense_change_nothing(undo: Undo, act: Any) -> None:
    before, label = undo.project, undo.undo_label
    with pytest.raises(ParameterError):
        undo.do(act)
    assert undo.project is before
    assert undo.undo_label == label


@pytest.mark.parametrize(
    "make",
    [
        lambda: ChangeDetector(key="s", name="A", shape={"kind": "disk", "radius": -1}),
        lambda: ChangeDetector(key="s", name="A", shape="disk"),
        lambda: WeighDetector(key="s", name="A", weight=float("nan")),
        lambda: DetectorEntry(name="A B", shape=Disk(1.0)),
        lambda: DetectorEntry(name="sqrt", shape=Disk(1.0)),
        lambda: DetectorEntry(name="lambda", shape=Disk(1.0)),
        lambda: Select(key="s", selection={"kind": "point", "rx": 0.5, "ry": 1}),
        lambda: SetResponse(key="s", response="dpc"),
        lambda: RenameResult(key="s", name="a", to=""),
    ],
)
def test_bad_values_are_refused(make: Any) -> None:
    with pytest.raises(ParameterError):
        make()


NOTHING = [
    ShowScan(key="s"),
    ActivateDetector(key="s", name="A"),
    WeighDetector(key="s", name="A"),
    SetExpression(key="s"),
    SetResponse(key="s", response="sum"),
    ChangeLook(panel="result", look=Look(scale="linear")),
]


@pytest.mark.parametrize("act", NOTHING, ids=lambda act: act.kind)
def test_acts_that_change_nothing_are_none(undo: Undo, act: Any) -> None:
    undo.do(ActivateDetector(key="s", name="A"))
    undo.do(AddDetector(key="s", entry=entry("C")))
    undo.do(ActivateDetector(key="s", name="A"))
    undo.undo()
    undo.undo()
    before = undo.project
    assert undo.do(act) is before
    assert undo.redo_label == "add detector"  # the way forth is still there


def drag(undo: Undo, radii: list[float], name: str = "A") -> None:
    for radius in radii:
        undo.do(ChangeDetector(key="s", name=name, shape=Disk(radius), settled=False))
    undo.do(ChangeDetector(key="s", name=name, shape=Disk(radii[-1])))


def test_a_drag_is_one_act(undo: Undo) -> None:
    before = undo.project
    drag(undo, [4.0, 5.0, 6.0])
    assert len(undo.acts) == 2
    assert scan(undo).detector("A").shape.radius == 6
    assert undo.undo() is before
    undo.redo()
    assert scan(undo).detector("A").shape.radius == 6


def test_two_drags_are_two_acts_also_where_the_first_ended_where_it_was(undo: Undo) -> None:
    shape = Disk(6.0)
    undo.do(ChangeDetector(key="s", name="A", shape=shape, settled=False))
    undo.do(ChangeDetector(key="s", name="A", shape=shape))
    drag(undo, [7.0, 8.0])
    undo.undo()
    assert scan(undo).detector("A").shape.radius == 6
    drag(undo, [9.0], "B")
    undo.undo()
    assert scan(undo).detector("A").shape.radius == 6


def test_an_act_in_the_middle_of_a_drag(undo: Undo) -> None:
    undo.do(ChangeDetector(key="s", name="A", shape=Disk(4.0), settled=False))
    undo.do(AddResult(key="s", result=result("lattice")))
    drag(undo, [5.0, 6.0])
    undo.undo()
    assert scan(undo).detector("A").shape.radius == 4
    assert scan(undo).result("lattice")


def test_a_drag_after_an_undo_is_an_act_of_its_own(undo: Undo) -> None:
    undo.do(ChangeDetector(key="s", name="A", shape=Disk(4.0), settled=False))
    drag(undo, [8.0], "B")
    undo.undo()
    undo.do(ChangeDetector(key="s", name="A", shape=Disk(5.0), settled=False))
    undo.undo()
    assert scan(undo).detector("A").shape.radius == 4


def test_selections_and_looks_merge_along_a_drag(undo: Undo) -> None:
    for column in range(5):
        undo.do(Select(key="s", selection=PointSelection(0, column), settled=False))
    for power in (0.2, 0.3, 0.4):
        undo.do(ChangeLook(panel="real", look=Look(scale=power), settled=False))
    undo.do(ChangeLook(panel="real", look=Look(scale=0.4, colors="gray")))
    undo.do(ChangeLook(panel="real", look=Look(scale="log")))
    assert len(undo.acts) == 4
    undo.undo()
    assert undo.project.look("real") == Look(scale=0.4, colors="gray")


def test_only_so_many_acts_are_kept() -> None:
    undo = Undo(limit=3)
    for number in range(6):
        undo.do(AddScan(scan=Scan(key=str(number), name="x")))
    for _ in range(9):
        undo.undo()
    assert len(undo.project.scans) == 3


def test_closing_and_showing(undo: Undo) -> None:
    undo.do(AddScan(scan=Scan(key="t", name="two")))
    assert undo.project.current == "t"
    undo.do(ShowScan(key="s"))
    undo.do(CloseScan(key="s"))
    assert undo.project.current == "t"
    undo.do(CloseScan(key="t"))
    assert undo.project.scan is None


def test_results_of_forgotten_scans_are_freed(undo: Undo) -> None:
    class Big:
        pass

    value = Big()
    alive = weakref.ref(value)
    undo.do(AddScan(scan=Scan(key="t", name="two", source=Source(path="two.h5"))))
    undo.do(AddResult(key="t", result=Result(name="big", value=value)))
    undo.do(ChangeLook(panel="real", look=Look(scale="log")))
    drag(undo, [4.0])
    undo.forget_scan("t")
    assert scan(undo, "t")  # it is open
    undo.do(CloseScan(key="t"))
    assert undo.closed_scans() == ("t",)
    assert undo.can_reopen("t")
    del value
    gc.collect()
    assert alive() is not None
    undo.forget_scan("t")
    gc.collect()
    assert alive() is None
    assert undo.closed_scans() == ()
    assert undo.project.current == "s"
    kinds = [act.kind for act in undo.acts]
    assert kinds == ["open", "look", "move-detector"]
    for _ in kinds:
        undo.undo()
        assert all(known.key != "t" for known in undo.project.scans)
    while undo.redo_label:
        undo.redo()
    assert scan(undo).detector("A").shape.radius == 4
    assert undo.project.look("real").scale == "log"


def test_removing_a_detector_takes_its_expression_away(undo: Undo) -> None:
    undo.do(SetExpression(key="s", expression="A / B"))
    undo.do(RemoveDetector(key="s", name="B"))
    assert scan(undo).expression == ""
    assert scan(undo).active == "A"


def test_removed_results_leave_how_they_were_made(undo: Undo) -> None:
    for each in (result("a"), result("b", "a"), result("c", "b"), result("d", "a")):
        undo.do(AddResult(key="s", result=each))
    undo.do(ShowInPanel(key="s", panel="real", name="b/e_xx"))
    undo.do(RemoveResult(key="s", name="a"))
    undo.do(RemoveResult(key="s", name="b"))
    assert [gone.name for gone in scan(undo).removed] == ["a", "b"]
    assert all(gone.value is None for gone in scan(undo).removed)
    assert scan(undo).real == ""
    assert scan(undo).free_name("a") == "a 2"
    undo.do(RemoveResult(key="s", name="d"))
    assert [gone.name for gone in scan(undo).removed] == ["a", "b"]
    undo.do(RemoveResult(key="s", name="c"))
    assert scan(undo).removed == ()


def test_those_made_of_a_renamed_result_follow(undo: Undo) -> None:
    made = Made(kind="find-bragg-disks", of="p/q", uses={"probe": "p/q"})
    undo.do(AddResult(key="s", result=result("p/q")))
    undo.do(AddResult(key="s", result=result("p")))
    undo.do(AddResult(key="s", result=Result(name="b", made=made)))
    undo.do(AddLayer(key="s", layer=Layer(name="origin", made=made)))
    undo.do(ShowInPanel(key="s", panel="diffraction", name="p/q/label"))
    undo.do(RenameResult(key="s", name="p/q", to="probe"))
    assert scan(undo).result("b").made.needs == ("probe", "probe")
    assert scan(undo).layer("origin").made.of == "probe"
    assert scan(undo).diffraction == "probe/label"
    assert scan(undo).shown("probe/label")[1] == "label"
    with pytest.raises(ParameterError, match="already"):
        undo.do(RenameResult(key="s", name="probe", to="b"))


def test_layers_replace_those_of_their_name_and_can_be_switched(undo: Undo) -> None:
    undo.do(AddLayer(key="s", layer=Layer(name="a", changes={"flip": True})))
    undo.do(AddLayer(key="s", layer=Layer(name="b", changes={"rotation_rad": 0.5})))
    undo.do(AddLayer(key="s", layer=Layer(name="a", changes={"rotation_rad": 0.25})))
    found = scan(undo).calibrated(Calibration())
    assert (found.flip, found.rotation_rad) == (None, 0.25)
    undo.do(SwitchLayer(key="s", name="a", enabled=False))
    assert scan(undo).enabled == ("b",)
    assert scan(undo).calibrated(Calibration()).rotation_rad == 0.5


def test_what_a_step_is_made_of(undo: Undo) -> None:
    probe = synthetic_probe((16, 18), 3.0)
    undo.do(AddResult(key="s", result=Result(name="probe", value=probe)))
    undo.do(AddLayer(key="s", layer=Layer(name="a", changes={"flip": True})))
    where = RectangleSelection(0, 2, 1, 3)
    step = FindBraggDisks(probe=probe, max_peaks=7)
    made = scan(undo).made_by(step, where=where)
    assert (made.kind, made.of, made.uses) == ("find-bragg-disks", "", {"probe": "probe"})
    assert made.parameters["max_peaks"] == 7
    assert made.layers == ("a",) and made.where == where
    assert Made(**made.model_dump()) == made


def test_large_masks_are_neither_copied_nor_looked_at_along_a_drag(undo: Undo) -> None:
    mask = Mask(np.ones((64, 65)))
    undo.do(AddDetector(key="s", entry=DetectorEntry(name="M", shape=mask)))
    drag(undo, [4.0, 5.0])
    assert scan(undo).detector("M").shape is mask


def test_the_model_knows_no_qt() -> None:
    text = (
        "import pkgutil, sys, importlib, py4DSTEM.gui.state as state\n"
        "for found in pkgutil.walk_packages(state.__path__, 'py4DSTEM.gui.state.'):\n"
        "    importlib.import_module(found.name)\n"
        "qt = {'pyqtgraph', 'PyQt5', 'PyQt6', 'PySide2', 'PySide6', 'qtpy'} & set(sys.modules)\n"
        "sys.exit(', '.join(qt) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
