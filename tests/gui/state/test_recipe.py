"""Recipes of a project."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest
from state_scans import Bench, all_kinds, analysed, assert_same, imaged, saved

import py4DSTEM
from py4DSTEM import (
    DiskSelection,
    Mask,
    MaskSelection,
    ParameterError,
    PolygonSelection,
    RawLayout,
    RectangleSelection,
)
from py4DSTEM.core.selection import Selection
from py4DSTEM.gui.state.commands import (
    AddDetector,
    AddLayer,
    AddResult,
    RemoveResult,
    SetExpression,
    SetResponse,
    SwitchLayer,
)
from py4DSTEM.gui.state.project import DetectorEntry, Layer, Made, Project, Result, Scan
from py4DSTEM.gui.state.recipe import recipe, steps_of
from py4DSTEM.recipe.execute import Execution, open_input, positions
from py4DSTEM.recipe.read import recipe_from_text
from py4DSTEM.stream.analysis import Analysis


def run(text: str) -> dict[str, object]:
    """The results of a recipe, by name: as a runner does it."""
    read = tomllib.loads(text)["input"]
    assert read.pop("brings") == "any"
    cube = py4DSTEM.read(read.pop("file"), **read)
    found: dict[str, object] = {}
    for step in steps_of(text):
        if step.use == "calibration":
            cube = cube.with_calibration(cube.calibration.replace(**step.parameters))
            continue
        model = step.model(**{name: found[of] for name, of in step.uses.items()})
        value = found[step.of] if step.of else cube
        if step.of and hasattr(value, "points"):
            value = value.with_calibration(cube.calibration)
        where = positions(step.where, cube.R_shape)
        alone = isinstance(model, Analysis)
        made = model.apply(value) if alone else py4DSTEM.run(model, value, where=where)
        if step.calibrates:
            cube = cube.with_calibration(made)
        found[step.name] = made
    return found


def test_a_recipe_makes_the_results_again() -> None:
    bench = analysed(saved())
    text = recipe(bench.project, "scan1")
    found = run(text)
    for result in bench.scan.results:
        assert_same(found[result.name], result.value)
    names = ["image", "probe", "bragg 1", "lattice", "strain/map", "mean", "profiles"]
    assert tomllib.loads(text)["output"]["save"] == names
    assert tomllib.loads(text)["schema"] == 1


def test_a_runner_takes_the_recipe_as_it_is() -> None:
    bench = analysed(saved())
    known = recipe_from_text(recipe(bench.project, "scan1"))
    found = Execution(known, open_input(known)).run_all()
    for result in bench.scan.results:
        assert_same(found[result.name], result.value)


@pytest.mark.parametrize(
    "where",
    [
        RectangleSelection(1, 4, 2, 6),
        DiskSelection(2.2, (2.5, 3.0)),
        PolygonSelection(((0, 0), (5, 1), (2, 6))),
        MaskSelection(np.eye(6, 7)),
    ],
)
def test_a_recipe_counts_the_positions_that_counted(where: Selection) -> None:
    bench = Bench(saved())
    bench.step("mean", all_kinds()["mean-pattern"](), where=where)
    bench.step("all", all_kinds()["mean-pattern"]())
    text = recipe(bench.project, "scan1")
    assert "left out" not in text
    known = recipe_from_text(text)
    executed = Execution(known, open_input(known)).run_all()
    for found in (run(text), executed):
        assert_same(found["mean"], bench.scan.result("mean").value)
        assert_same(found["all"], bench.scan.result("all").value)
    assert not np.array_equal(executed["mean"].data, executed["all"].data)


@pytest.mark.parametrize("expression", ["", "(A - B) / (A + M)"])
def test_a_recipe_makes_the_image_again(expression: str) -> None:
    bench = imaged(saved())
    bench.do(SetExpression, expression=expression)
    text = expression or "A - 0.3 * B + M"
    images = py4DSTEM.virtual_images(bench.cube, {e.name: e.shape for e in bench.scan.detectors})
    found = run(recipe(bench.project, "scan1"))["image"]
    assert_same(found, py4DSTEM.combine_images(images, text))


@pytest.mark.parametrize("kind", sorted(all_kinds()))
def test_parameters_of_every_step_round_trip(kind: str) -> None:
    cls = all_kinds()[kind]
    assert not {"use", "name", "of", "calibrates"} & set(cls.model_fields)
    for example in getattr(cls, "examples", list)():
        made = Made(kind=kind, parameters=example.parameters())
        scan = Scan(key="s", name="x", results=(Result(name="r", made=made),))
        (step,) = steps_of(recipe(Project(scans=(scan,)), "s"))
        assert step.model().parameters() == example.parameters()


def test_none_is_a_word_only_where_it_means_none() -> None:
    given = {"strain-map": {"resolution_A": None}, "calibrate-origin": {"model": "none"}}
    results = tuple(Result(name=k, made=Made(kind=k, parameters=v)) for k, v in given.items())
    scan = Scan(key="s", name="x", results=results)
    first, second = steps_of(recipe(Project(scans=(scan,)), "s"))
    assert first.model().resolution_A is None
    assert second.model().model == "none"


def test_how_a_raw_file_is_read() -> None:
    layout = RawLayout(dtype=">u2", Q_shape=(3, 4))
    source = {"path": 'a "b".raw', "options": {"layout": layout, "scan_shape": (5, 6)}}
    text = recipe(Project(scans=(Scan(key="s", name="x", source=source),)), "s")
    read = tomllib.loads(text)["input"]
    assert read["file"] == 'a "b".raw'
    assert read["scan_shape"] == [5, 6]
    assert RawLayout(**read["layout"]) == layout


def test_what_a_text_cannot_hold_is_named() -> None:
    bench = imaged(saved())
    origins = np.zeros((60, 70, 2))
    bench.do(AddLayer, layer=Layer(name="map", changes={"origin_px": origins, "flip": True}))
    made = Made(kind="read", parameters={"path": "x.h5"})
    bench.do(AddResult, result=Result(name="brought\nalong", made=made))
    text = recipe(bench.project, "scan1")
    assert "# left out: origin_px of 'map'" in text
    assert "# left out: 'brought\\nalong'" in text
    (step,) = (step for step in steps_of(text) if step.name == "map")
    assert step.parameters == {"flip": True}


def test_layers_that_are_off_are_left_out() -> None:
    bench = imaged(saved())
    bench.do(SwitchLayer, name="beam", enabled=False)
    assert "calibration" not in {step.use for step in steps_of(recipe(bench.project, "scan1"))}


def test_centre_of_mass_of_one_detector_and_of_several() -> None:
    bench = Bench(saved())
    bench.do(AddDetector, entry=DetectorEntry(name="M", shape=Mask(np.ones((128, 128)))))
    bench.do(SetResponse, response="com")
    found = run(recipe(bench.project, "scan1"))["image"]
    assert_same(found, py4DSTEM.center_of_mass(bench.cube, np.ones((128, 128))))
    bench = imaged(saved())
    bench.do(SetResponse, response="com")
    assert "# left out: the centre of mass" in recipe(bench.project, "scan1")


def test_a_result_that_was_removed_is_a_step_of_those_made_of_it() -> None:
    bench = analysed(saved())
    bench.do(RemoveResult, name="bragg 1")
    text = recipe(bench.project, "scan1")
    assert_same(run(text)["strain/map"], bench.scan.result("strain/map").value)
    assert "bragg 1" not in tomllib.loads(text)["output"]["save"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("schema = ", "no TOML"),
        ("schema = 2", "schema"),
        ("", "schema"),
        ("schema = 1\nstep = 3", r"\[\[step\]\]"),
        ('schema = 1\n[[step]]\nname = "x"', "step 1"),
        ("schema = 1\n[[step]]\nuse = 3", "step 1"),
    ],
)
def test_bad_recipes_are_said(text: str, what: str) -> None:
    with pytest.raises(ParameterError, match=what):
        steps_of(text)


def test_steps_that_make_no_sense_are_said() -> None:
    first, second = steps_of(
        'schema = 1\n[[step]]\nuse = "strian"\n[[step]]\nuse = "fit-lattice"\nmin_peaks = 1'
    )
    with pytest.raises(ParameterError, match="strian"):
        first.model()
    with pytest.raises(ParameterError, match="min_peaks"):
        second.model()
