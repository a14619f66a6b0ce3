"""Scripts and lines of Python that do again what was done in the program."""

from __future__ import annotations

import ast
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from state_scans import Bench, all_kinds, analysed, assert_same, imaged, saved

import py4DSTEM
from py4DSTEM import (
    Annulus,
    Calibration,
    Disk,
    Mask,
    ParameterError,
    PointSelection,
    PolygonSelection,
    RawLayout,
)
from py4DSTEM.core.axis import Axis
from py4DSTEM.gui.state.code import line, parts, script, step_call
from py4DSTEM.gui.state.command import COMMANDS
from py4DSTEM.gui.state.commands import (
    AddDetector,
    AddLayer,
    AddResult,
    AddScan,
    ChangeDetector,
    RemoveResult,
    RenameResult,
    Select,
    SetExpression,
    SetResponse,
    SwitchLayer,
    WeighDetector,
)
from py4DSTEM.gui.state.literal import Imports, literal
from py4DSTEM.gui.state.project import DetectorEntry, Layer, Made, Project, Result, Scan
from py4DSTEM.process.bragg.detect import FindBraggDisks
from py4DSTEM.process.diffraction import MeanPattern
from py4DSTEM.process.live.patterns import LivePattern
from py4DSTEM.process.live.view import DetectorView
from py4DSTEM.process.probe import MeasureProbe


def executed(project: Project, monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(compile(script(project, "scan1"), "script", "exec"), names)
    return names


def shown(bench: Bench) -> Any:
    """What the program draws, to the last bit."""
    scan, cube = bench.scan, bench.cube
    counting = {e.name: e for e in scan.detectors if e.shown or scan.expression}
    view = DetectorView(
        {name: entry.shape for name, entry in counting.items()},
        {name: entry.weight for name, entry in counting.items() if entry.shown},
        cube.Q_shape,
        cube.calibration,
        scan.expression,
        scan.response,
    )
    found = view.exact(cube)
    return found[0] if len(found) == 1 else found


@pytest.mark.parametrize(
    ("expression", "response", "how"),
    [("(A - B) / (A + M)", "sum", "mean"), ("", "sum", "max"), ("A", "com", "sum")],
)
def test_a_script_makes_the_pictures_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expression: str, response: str, how: str
) -> None:
    bench = imaged(saved())
    bench.do(SetExpression, expression=expression)
    bench.do(SetResponse, response=response)
    bench.do(Select, selection=bench.scan.selection, how=how)
    names = executed(bench.project, monkeypatch, tmp_path)
    assert names["image"].data.tobytes() == shown(bench).tobytes()
    expected = LivePattern(bench.cube).selection(bench.scan.selection.mask((6, 7)), how)
    assert np.array_equal(getattr(names["pattern"], "data", names["pattern"]), expected)


def test_one_detector_and_one_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(saved())
    bench.do(AddDetector, entry=DetectorEntry(name="A", shape=Disk(6.0, center=(64, 63))))
    bench.do(Select, selection=PointSelection(2, 5))
    names = executed(bench.project, monkeypatch, tmp_path)
    assert names["image"].data.tobytes() == shown(bench).tobytes()
    assert np.array_equal(names["pattern"].data, bench.cube[2, 5].data)
    bench.do(SetResponse, response="com")
    names = executed(bench.project, monkeypatch, tmp_path)
    assert names["image"].data.tobytes() == shown(bench).tobytes()


def test_detectors_that_do_not_count_are_left_out() -> None:
    bench = imaged(saved())
    bench.do(SetExpression, expression="")
    bench.do(WeighDetector, name="M", shown=False)
    text = script(bench.project, "scan1")
    assert "'M'" not in text
    assert "'A - 0.3 * B'" in text


def test_a_script_makes_the_results_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = analysed(saved())
    bench.do(RenameResult, name="lattice", to="for")
    names = executed(bench.project, monkeypatch, tmp_path)
    variables = {"probe": "probe", "bragg 1": "bragg_1", "for": "for_", "strain/map": "strain_map",
                 "mean": "mean", "profiles": "profiles"}  # fmt: skip
    for result in bench.scan.results:
        assert_same(names[variables[result.name]], result.value)
    assert names["cube"].calibration == bench.cube.calibration
    kept = py4DSTEM.read(next(tmp_path.glob("*_results.h5")))
    assert_same(kept["strain/map"], bench.scan.result("strain/map").value)


def test_a_script_runs_by_itself(tmp_path: Path) -> None:
    bench = imaged(saved())
    name = tmp_path / "again.py"
    name.write_text(script(bench.project, "scan1"), encoding="utf-8")
    subprocess.run([sys.executable, str(name)], cwd=tmp_path, check=True)
    kept = py4DSTEM.read(next(tmp_path.glob("*_results.h5")))
    assert kept.data.tobytes() == shown(bench).tobytes()


def test_a_result_that_was_removed_is_made_again_for_those_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = analysed(saved())
    for name in ("bragg 1", "probe", "mean"):
        bench.do(RemoveResult, name=name)
    assert [result.name for result in bench.scan.removed] == ["bragg 1", "probe"]
    names = executed(bench.project, monkeypatch, tmp_path)
    assert_same(names["strain_map"], bench.scan.result("strain/map").value)
    bench.do(RemoveResult, name="strain/map")
    bench.do(RemoveResult, name="lattice")
    assert bench.scan.removed  # the origin was measured in them


def test_calibrations_that_are_switched_off_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = imaged(saved())
    bench.do(AddLayer, layer=Layer(name="other", changes={"origin_px": (60.0, 61.0)}))
    bench.do(SwitchLayer, name="other", enabled=False)
    assert "61.0" not in script(bench.project, "scan1")
    bench.step("mean", all_kinds()["center-of-mass"]())
    bench.do(SwitchLayer, name="other", enabled=True)
    names = executed(bench.project, monkeypatch, tmp_path)
    assert names["cube"].calibration.origin_px.tolist() == [60.0, 61.0]
    assert_same(names["mean"], bench.scan.result("mean").value)


def test_a_calibration_measured_twice_does_not_go_round_in_circles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = analysed(saved())
    bench.step("bragg 2", all_kinds()["find-bragg-disks"]())
    bench.calibrate("origin", all_kinds()["measure-origin"](), "bragg 2")
    names = executed(bench.project, monkeypatch, tmp_path)
    assert names["cube"].calibration == bench.cube.calibration


@pytest.mark.parametrize("of", ["", "bragg 1"])
@pytest.mark.parametrize("model", ["plane", "none"])
def test_the_origin_of_the_wizard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str, model: str
) -> None:
    """Its layer holds the fit alone; the step gives back all that it was applied to."""
    bench = analysed(saved())
    step = all_kinds()["calibrate-origin"](model=model)
    _, made = bench.applied(step, of)
    measured = py4DSTEM.measure_origin(bench.value(of))
    fit = measured if model == "none" else measured.fit(model)
    layer = Layer(name="origin", value=fit, changes={"flip": True}, made=made)
    bench.do(AddLayer, layer=layer)
    names = executed(bench.project, monkeypatch, tmp_path)
    assert names["cube"].calibration == bench.cube.calibration
    ast.parse(line(bench.undo.acts[-1], bench.project))


def test_measured_values_without_a_step_are_written_as_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = imaged(saved())
    measured = py4DSTEM.measure_origin(bench.cube)
    bench.do(AddLayer, layer=Layer(name="origin", value=measured))
    whole = Calibration(R=(Axis("Rx", 2.0, unit="nm"), Axis("Ry", 3.0, unit="nm")))
    assert literal(whole, Imports()).startswith("py4DSTEM.Calibration(\n    (py4DSTEM.Axis(")
    names = executed(bench.project, monkeypatch, tmp_path)
    assert names["cube"].calibration == bench.cube.calibration


def test_paths_and_names_cannot_become_code() -> None:
    evil = "'); import os; os.system('x')\n\"\"\"; boom = 1  # \\"
    scan = Scan(key="scan1", name=evil, source={"path": evil, "options": {"format": evil}})
    text = script(Project(scans=(scan,), current="scan1"), "scan1")
    tree = ast.parse(text)
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "system"]
    (call,) = [n for n in ast.walk(tree) if isinstance(n, ast.Call)
               and getattr(n.func, "attr", "") == "read"]  # fmt: skip
    assert ast.literal_eval(call.args[0]) == evil


def test_results_of_a_file_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = imaged(saved())
    path = tmp_path / "other.h5"
    py4DSTEM.save(path, {"com": bench.step("com", all_kinds()["center-of-mass"]())})
    made = Made(kind="read", parameters={"path": str(path), "dataset": "com"})
    value = py4DSTEM.read(path)
    bench.do(AddResult, result=Result(name="from file", value=value, made=made))
    assert_same(executed(bench.project, monkeypatch, tmp_path)["from_file"], value)


def test_a_scan_in_memory_has_no_script() -> None:
    project = Project(scans=(Scan(key="scan1", name="simulated"),))
    with pytest.raises(ParameterError, match="save it to a file"):
        script(project, "scan1")


def test_an_unknown_step_is_said() -> None:
    result = Result(name="odd", made=Made(kind="of-another-package"))
    scan = Scan(key="s", name="x", source={"path": "x.h5"}, results=(result,))
    with pytest.raises(ParameterError, match="of-another-package"):
        script(Project(scans=(scan,)), "s")


def test_parts_have_titles_and_say_what_to_look_at() -> None:
    found = parts(analysed(saved()).project, "scan1")
    assert {"The scan", "Detectors", "Virtual image", "strain/map", "Save"} <= {
        part.title for part in found
    }
    assert {"image", "pattern", "lattice"} <= {name for part in found for name in part.shows}


VALUES = [
    None, True, -3, 2.5, "it's \"x\"\n", b"\0", 1 + 2j, (1.0,), [1, (2, 3)], {"a": None},
    Annulus(1.5, 2.5, units="mrad"), PolygonSelection(((0, 0), (0, 3.5), (3, 0))),
    RawLayout(dtype=">u2", Q_shape=(3, 4), gap_bytes=2), Mask(np.eye(3, 4)),
    Calibration(rotation_rad=0.25, origin_px=np.arange(12.0).reshape(2, 3, 2)),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_literals_give_the_value_again(value: Any) -> None:
    imports = Imports()
    text = literal(value, imports)
    names: dict[str, Any] = {}
    exec(compile(f"{imports.text()}\nvalue = {text}", "literal", "exec"), names)
    assert names["value"] == value
    assert type(names["value"]) is type(value)


@pytest.mark.parametrize("dtype", ["f8", ">f4", "u2", "bool", "c16", "i8"])
@pytest.mark.parametrize("shape", [(3, 4), (40, 41), (0, 3)])
def test_literal_arrays_keep_every_bit(dtype: str, shape: tuple[int, int]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    if array.size and dtype.endswith("f8"):
        array[0, 0] = np.nan
    imports = Imports()
    text = literal(array, imports)
    names: dict[str, Any] = {}
    exec(compile(f"{imports.text()}\nvalue = {text}", "literal", "exec"), names)
    assert names["value"].dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(names["value"], array, equal_nan=array.dtype.kind in "fc")


def test_numbers_that_have_no_literal() -> None:
    names: dict[str, Any] = {}
    exec(f"value = {literal((math.inf, -math.inf, math.nan), Imports())}", names)
    assert names["value"][:2] == (math.inf, -math.inf)
    assert math.isnan(names["value"][2])
    with pytest.raises(ParameterError, match="cannot be written"):
        literal(object(), Imports())


def test_every_act_has_a_line() -> None:
    bench = analysed(saved())
    lines = [line(act, bench.project) for act in bench.undo.acts]
    for text in lines:
        assert "\n" not in text
        ast.parse(text)
    assert lines[0].startswith("cube = py4DSTEM.read(")
    assert "bragg_1 = py4DSTEM.find_bragg_disks(cube, min_spacing_px=8.0, probe=probe)" in lines
    assert any(text.startswith("where = py4DSTEM.RectangleSelection(") for text in lines)
    moved = ChangeDetector(key="scan1", name="A", shape=Disk(2.0))
    assert line(moved, bench.project) == "detectors['A'] = py4DSTEM.Disk(2.0)"


def test_acts_without_a_line_are_comments() -> None:
    scan = Scan(key="scan1", name="from memory")
    assert line(AddScan(scan=scan), Project()) == "# open"
    assert line(COMMANDS["close"](key="scan1"), Project()) == "# close"
    assert os.linesep not in line(COMMANDS["show"](key="scan1"), Project())


@pytest.mark.parametrize("kind", sorted(all_kinds()))
def test_every_step_has_a_call(kind: str) -> None:
    cls = all_kinds()[kind]
    for example in getattr(cls, "examples", list)():
        imports = Imports()
        made = Made(kind=kind, parameters=example.parameters())
        text = step_call(made, "value", {}, imports)
        tree = ast.parse(text, mode="eval").body
        assert isinstance(tree, ast.Call)
        keywords = {word.arg: ast.unparse(word.value) for word in tree.keywords}
        if not keywords:
            continue
        names: dict[str, Any] = {}
        exec(imports.text(), names)
        given = {name: eval(value, names) for name, value in keywords.items()}
        assert cls(**given).parameters() == example.parameters()


def test_steps_of_selected_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions that take `where`, and those that do not, and what only `run` can do."""
    bench = Bench(saved())
    polygon = PolygonSelection(((0.0, 0.0), (5.0, 1.0), (2.0, 6.0)))
    probe = bench.step("probe", MeasureProbe(where=((1, 4), (2, 5))))
    mean = bench.step("mean", MeanPattern(), where=polygon)
    found = bench.step(
        "peaks", FindBraggDisks(probe=probe, max_peaks=9), where=PointSelection(2, 3)
    )
    text = script(bench.project, "scan1")
    assert "where=((1, 4), (2, 5))" in text and "PolygonSelection" in text
    names = executed(bench.project, monkeypatch, tmp_path)
    assert names["probe"].radius_px == probe.radius_px
    np.testing.assert_array_equal(names["mean"].data, mean.data)
    assert_same(names["peaks"], found)
    assert len(found[2, 3]) > 0 and len(found[0, 0]) == 0
