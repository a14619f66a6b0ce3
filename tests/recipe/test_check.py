"""Every wrong recipe has its line and its message; all problems are said at once."""

from __future__ import annotations

import json
import pickle
import sys
import tomllib
from pathlib import Path

import pytest

from py4DSTEM import ParameterError
from py4DSTEM.errors import FileMissing
from py4DSTEM.recipe.check import check_recipe
from py4DSTEM.recipe.locate import line_of, lines_of_json, lines_of_toml
from py4DSTEM.recipe.problem import Problem, RecipeError
from py4DSTEM.recipe.read import LARGEST_BYTES, read_recipe, recipe_from_text
from py4DSTEM.recipe.templates import template_path, templates

sys.path.insert(0, str(Path(__file__).parent))
from wrong_recipes import WRONG

MEAN = 'schema = 1\n[[step]]\nuse = "mean-pattern"\nname = "mean"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files named in recipes are."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "here.h5").touch()
    return folder


def test_there_are_enough() -> None:
    assert len({text for text, *_ in WRONG}) >= 150


@pytest.mark.parametrize(("text", "line", "message", "count"), WRONG)
def test_wrong_recipes(folder: Path, text: str, line: int, message: str, count: int) -> None:
    problems = check_recipe(text, folder=folder)
    first = problems[0]
    assert (first.line, len(problems)) == (line, count)
    assert f"{f'step {first.step}: ' if first.step else ''}{first.message}".startswith(message)
    with pytest.raises(RecipeError):
        recipe_from_text(text, folder=folder)


def test_all_problems_at_once_in_the_order_of_the_text() -> None:
    text = MEAN + 'x = 3\n[limits]\nretries = -1\n[output]\nsave = ["meen"]\n'
    with pytest.raises(RecipeError) as caught:
        recipe_from_text(text, "R.toml")
    assert [problem.line for problem in caught.value.problems] == [5, 7, 9]
    assert str(caught.value).splitlines()[0].startswith('R.toml:5: step 1 "mean": unknown key "x"')
    assert str(caught.value).endswith("3 problems; nothing was run.")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.problems, str(again)) == (caught.value.problems, str(caught.value))


def test_deep_nesting_is_no_crash() -> None:
    (problem,) = check_recipe("a = " + "[" * 3000)
    assert "nested" in problem.message


@pytest.mark.parametrize("text", ["[", "3", '{"schema": NaN}', '{"a": 1, "a": 2}', '{"a": 1,}'])
def test_wrong_json(text: str) -> None:
    (problem,) = check_recipe(text, "r.json")
    assert problem.message


def test_json_has_lines_too() -> None:
    text = '{"schema": 1,\n "step": [\n  {"use": "mean-pattern"},\n  {"use": "qality"}]}'
    (problem,) = check_recipe(text, "r.json")
    assert (problem.line, problem.step) == (4, '2 "qality"')


@pytest.mark.parametrize("name", templates())
def test_templates_are_right_in_toml_and_json(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(template_path(name))
    document = tomllib.loads(template_path(name).read_text(encoding="utf-8"))
    path = tmp_path / "same.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_recipe(path) == recipe
    assert recipe_from_text(recipe.text()) == recipe


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('[[step]]\nuse = "measure-origin"\ncalibrates = true\n', ""),
        ('[[step]]\nuse = "calibration"\norigin_px = [3, 4]\n', ""),
        ("", '[input]\nbrings = ["origin"]\n'),
        ("", '[input]\nbrings = "any"\n'),
    ],
)
def test_what_is_measured_stated_or_brought_is_known(before: str, after: str) -> None:
    step = '[[step]]\nuse = "mean-radial-profile"\n'
    assert check_recipe(f"schema = 1\n{step}")
    assert not check_recipe(f"schema = 1\n{before}{step}{after}")


def test_units_of_the_input_are_known() -> None:
    step = '[[step]]\nuse = "mean-radial-profile"\nunits = "mrad"\ncenter = [3, 4]\n'
    assert check_recipe(f"schema = 1\n{step}")
    assert not check_recipe(f'schema = 1\n{step}[input.units]\nrecip = [0.4, "mrad"]\n')


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b'schema = 1\nname = "\xff"')
    with pytest.raises(RecipeError, match=r"r\.toml:2: not UTF-8"):
        read_recipe(path)
    with pytest.raises(FileMissing):
        read_recipe(tmp_path / "none.toml")
    with open(path, "wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    with pytest.raises(RecipeError, match="no recipe"):
        read_recipe(path)


def test_windows_texts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MEAN.replace("\n", "\r\n").encode())
    assert read_recipe(path).step[0].name == "mean"


# ---- lines ---------------------------------------------------------------------------------------
TRICKY = '''# [[step]] in a comment
a = """one
two = 3 [x] """ # and a "comment"
'b c' = ['x, ] }',
  { k = "#", l = [1,
   2] }]
[t.'u v']
w.x = 1979-05-27T07:32:00Z
[[s]]
p = \'\'\'it's
fine\'\'\'
[[s.inner]]
q = "\\"]"
[[s]]
[s.sub]
r = -inf
'''


def test_lines_of_tricky_toml() -> None:
    assert tomllib.loads(TRICKY)["b c"][1]["l"] == [1, 2]
    lines = lines_of_toml(TRICKY)
    known = {
        ("a",): 2, ("b c",): 4, ("b c", 1, "l"): 5, ("b c", 1, "l", 1): 6,
        ("t", "u v", "w", "x"): 8,
        ("s", 0): 9, ("s", 0, "p"): 10, ("s", 0, "inner", 0, "q"): 13, ("s", 1): 14,
        ("s", 1, "sub", "r"): 16,
    }  # fmt: skip
    assert {path: lines[path] for path in known} == known
    assert line_of(lines, ("s", 1, "sub", "nothing")) == 15
    assert line_of(lines, ("nothing",)) == 1


def _paths(value: object, path: tuple = ()) -> set:
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        return {path}
    return {path} | {p for key, v in inner for p in _paths(v, (*path, key))}


@pytest.mark.parametrize("name", templates())
def test_every_value_of_a_template_has_a_line(name: str) -> None:
    text = template_path(name).read_text(encoding="utf-8")
    document = tomllib.loads(text)
    parts = lines_of_toml(text)
    missing = _paths(document) - set(parts) - {(), ("step",), ("input",)}
    assert not {path for path in missing if path[-1] != "set"}
    dumped = json.dumps(document, indent=1)
    assert _paths(document) - {()} == set(lines_of_json(dumped))


def test_problems_are_parameter_errors() -> None:
    assert isinstance(RecipeError([Problem(1, "", "x")]), ParameterError)
