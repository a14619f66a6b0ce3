"""A step of selected scan positions: in the program, in a recipe, in the history of a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import (
    DataCube,
    DiskSelection,
    MaskSelection,
    ParameterError,
    PointSelection,
    PolygonSelection,
    RectangleSelection,
)
from py4DSTEM.core.selection import selected, selection_table
from py4DSTEM.recipe.execute import Execution, open_input, plan
from py4DSTEM.recipe.explain import explained
from py4DSTEM.recipe.from_result import from_result
from py4DSTEM.recipe.keys import step_keys
from py4DSTEM.recipe.model import Recipe, RecipeStep
from py4DSTEM.recipe.read import read_recipe, recipe_from_text
from py4DSTEM.recipe.schema import json_schema

SIZE = (5, 7)
SELECTIONS = (
    PointSelection(3, 5),
    RectangleSelection(1, 4, 2, 6),
    DiskSelection(1.5, (2.0, 3.5)),
    PolygonSelection(((0.0, 0.0), (0.0, 6.0), (4.0, 1.0))),
    MaskSelection(np.eye(*SIZE)),
)


def cube() -> DataCube:
    return DataCube(np.random.default_rng(1).integers(0, 50, (*SIZE, 6, 9)).astype(np.uint16))


def recipe_of(*steps: str) -> Recipe:
    return recipe_from_text("schema = 1\n" + "".join(f"[[step]]\n{step}\n" for step in steps))


def mean_of(where: str) -> Recipe:
    return recipe_of(f'use = "mean-pattern"\nname = "mean"\nwhere = {where}')


@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: s.kind)
def test_a_selection_goes_through_the_text(selection) -> None:
    step = RecipeStep(use="mean-pattern", name="mean", where=selection_table(selection))
    again = recipe_from_text(Recipe(step=(step,)).text())
    found = Execution(again, cube()).run_all()["mean"]
    expected = cube().data[selection.mask(SIZE)].mean(0, dtype=float)
    np.testing.assert_allclose(found.data, expected, rtol=1e-12)


@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: s.kind)
def test_a_result_of_chosen_positions_is_made_again(selection, tmp_path: Path) -> None:
    py4DSTEM.save(tmp_path / "scan.h5", cube())
    scan = py4DSTEM.read(tmp_path / "scan.h5")
    made = py4DSTEM.mean_pattern(scan, where=selection.mask(SIZE))
    py4DSTEM.save(tmp_path / "mean.h5", made)
    recipe = from_result(tmp_path / "mean.h5")
    found = Execution(recipe, open_input(recipe)).run_all()[recipe.step[-1].name]
    np.testing.assert_array_equal(found.data, made.data)


def test_weights_are_not_in_a_history(tmp_path: Path) -> None:
    weights = np.ones(SIZE)
    weights[2, 3] = 2.5
    py4DSTEM.save(tmp_path / "scan.h5", cube())
    made = py4DSTEM.mean_pattern(py4DSTEM.read(tmp_path / "scan.h5"), where=weights)
    py4DSTEM.save(tmp_path / "mean.h5", made)
    with pytest.raises(ParameterError, match="weights"):
        from_result(tmp_path / "mean.h5")


def test_a_rectangle_is_known_as_one() -> None:
    mask = np.zeros(SIZE, bool)
    mask[1:4, 2:6] = True
    assert selected(mask) == RectangleSelection(1, 4, 2, 6)
    mask[2, 3] = False
    assert selected(mask) == MaskSelection(mask)


def test_a_rectangle_in_short() -> None:
    found = Execution(mean_of("{ rect = [1, 4, 2, 6] }"), cube()).run_all()["mean"]
    np.testing.assert_allclose(found.data, cube().data[1:4, 2:6].mean((0, 1)), rtol=1e-12)


def test_none_is_all() -> None:
    assert mean_of('"none"').step[0].where is None


def test_weights_from_a_file_beside_the_recipe(tmp_path: Path) -> None:
    weights = np.zeros(SIZE)
    weights[1, 2], weights[3, 4] = 1, 3
    np.save(tmp_path / "w.npy", weights)
    text = mean_of('{ file = "w.npy" }').text()
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    recipe = read_recipe(tmp_path / "r.toml")
    found = Execution(recipe, cube()).run_all()["mean"]
    expected = (cube().data[1, 2] + 3.0 * cube().data[3, 4]) / 4
    np.testing.assert_allclose(found.data, expected, rtol=1e-12)
    before = step_keys(recipe, "x")
    np.save(tmp_path / "w.npy", np.ones((*SIZE, 1))[..., 0])
    assert step_keys(recipe, "x") != before
    np.save(tmp_path / "w.npy", np.ones((2, 3)))
    with pytest.raises(py4DSTEM.ShapeError, match=r"\(2, 3\)"):
        Execution(recipe, cube()).run_all()


def test_only_the_same_positions_share_a_pass() -> None:
    here, there = "where = { rect = [0, 2, 0, 2] }", "where = { rect = [2, 4, 0, 2] }"
    recipe = recipe_of(
        f'use = "mean-pattern"\nname = "a"\n{here}',
        'use = "max-pattern"\nname = "all"',
        f'use = "mean-pattern"\nname = "b"\n{there}',
        f'use = "max-pattern"\nname = "c"\n{here}',
    )
    assert [stage.names for stage in plan(recipe)] == [("a", "c"), ("all",), ("b",)]
    found, data = Execution(recipe, cube()).run_all(), cube().data
    np.testing.assert_allclose(found["a"].data, data[:2, :2].mean((0, 1)), rtol=1e-12)
    np.testing.assert_allclose(found["b"].data, data[2:4, :2].mean((0, 1)), rtol=1e-12)
    np.testing.assert_array_equal(found["c"].data, data[:2, :2].max((0, 1)))
    np.testing.assert_array_equal(found["all"].data, data.max((0, 1)))


def test_another_scan_gives_another_mask(tmp_path: Path) -> None:
    py4DSTEM.save(tmp_path / "other.h5", cube().crop(R=((0, 3), (0, 4))))
    recipe = recipe_of(
        f'use = "read"\nname = "other"\nfile = "{(tmp_path / "other.h5").as_posix()}"',
        'use = "mean-pattern"\nname = "mean"\nof = "other"\n'
        'where = { kind = "disk", radius = 1.2, center = [1, 2] }',
    )
    found = Execution(recipe, cube()).run_all()["mean"]
    expected = cube().data[DiskSelection(1.2, (1, 2)).mask(SIZE)].mean(0, dtype=float)
    np.testing.assert_allclose(found.data, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "where",
    [
        "{ rect = [0, 6, 0, 2] }",
        '{ kind = "point", rx = 5, ry = 0 }',
        '{ kind = "disk", radius = 2, center = [30, 3] }',
        '{ kind = "mask", data = [[1, 0], [0, 1]] }',
    ],
)
def test_what_is_not_in_the_scan_is_said(where: str) -> None:
    with pytest.raises((ParameterError, py4DSTEM.ShapeError), match=r"scan of \(5, 7\)") as caught:
        Execution(mean_of(where), cube()).run_all()
    assert "'mean'" in "".join(caught.value.__notes__)


def test_keys_know_the_positions() -> None:
    texts = ('"none"', "{ rect = [1, 4, 2, 6] }", "{ rect = [1, 4, 2, 5] }")
    keys = [step_keys(mean_of(text), "1:2:a")["mean"] for text in texts]
    assert len(set(keys)) == 3
    assert keys[0] == step_keys(recipe_of('use = "mean-pattern"'), "1:2:a")["mean-pattern"]


def test_an_override_chooses_other_positions() -> None:
    text = mean_of("{ rect = [0, 2, 0, 2] }").text()
    text += '\n[[override]]\nmatch = "*_b*"\nset = { "mean.where.rect" = [2, 5, 1, 3] }\n'
    here = recipe_from_text(text).for_file("x_b.h5")
    found = Execution(here, cube()).run_all()["mean"]
    np.testing.assert_allclose(found.data, cube().data[2:5, 1:3].mean((0, 1)), rtol=1e-12)


def test_the_probe_keeps_its_own() -> None:
    scan = py4DSTEM.simulate.strained_lattice((4, 5), (64, 64), dose=40_000, seed=1).cube
    recipe = recipe_of('use = "measure-probe"\nname = "probe"\nwhere = { rect = [0, 2, 1, 4] }')
    assert recipe.step[0].where is None
    found = Execution(recipe, scan).run_all()["probe"]
    assert found.center == py4DSTEM.measure_probe(scan, where=((0, 2), (1, 4))).center


def test_it_is_explained_and_in_the_schema() -> None:
    assert "where = {" in explained(mean_of("{ rect = [1, 4, 2, 6] }"))
    steps = json_schema()["properties"]["step"]["items"]["oneOf"]
    known = {step["title"]: step["properties"] for step in steps}
    assert "where" in known["mean-pattern"] and "where" not in known["measure-origin"]
    assert "PolygonSelection" in json_schema()["$defs"]
