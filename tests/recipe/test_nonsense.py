"""Whatever is in a recipe, its check ends with problems that have lines, or it can be made."""

from __future__ import annotations

import copy
import random
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import tomlkit

from py4DSTEM.recipe.check import check_recipe
from py4DSTEM.recipe.model import Recipe
from py4DSTEM.recipe.read import recipe_from_text
from py4DSTEM.recipe.templates import template_path, templates

NONSENSE: tuple[Any, ...] = (
    0, -1, 3, 1.5, float("nan"), float("inf"), True, "", "none", "auto", "mean", "strain", "\n",
    "é.h5", [], [0, 1], [[1, 2], [3, 4]], ["mean"], [{}], {}, {"result": "mean"}, {"result": 3},
    {"file": ""}, {"rect": [0, 1, 0, 1]}, {"rect": "x"}, {"kind": "disk"}, {"min": 3},
    {"a": {"b": {}}}, 10**30,
)  # fmt: skip
KEYS = ("use", "name", "of", "calibrates", "step", "input", "qc", "override", "set", "x.y", "")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all values within tables and arrays."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(inner, (*path, key))


def mangled(document: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The document with a value replaced, a key renamed or taken away, or one added."""
    document = copy.deepcopy(document)
    *path, last = rng.choice(list(places(document)))
    table: Any = document
    for part in path:
        table = table[part]
    act = rng.choice(("replace", "replace", "remove", "rename", "add"))
    if act == "replace" or isinstance(table, list):
        table[last] = rng.choice(NONSENSE)
    elif act == "rename":
        table[rng.choice(KEYS)] = table.pop(last)
    elif act == "remove":
        del table[last]
    else:
        table[rng.choice(KEYS)] = rng.choice(NONSENSE)
    return document


OVERRIDE = '\n[[override]]\nmatch = "*"\nset = { "limits.retries" = 2, "qc.image_mean.min" = 1 }\n'


@pytest.mark.parametrize("name", templates())
@pytest.mark.parametrize("seed", range(3))
def test_nonsense_is_said_and_never_raises(name: str, seed: int) -> None:
    rng = random.Random(seed)
    text = template_path(name).read_text(encoding="utf-8") + OVERRIDE
    document, said = tomllib.loads(text), 0
    for _ in range(60):
        wrong = mangled(document, rng)
        if rng.random() < 0.5:
            wrong = mangled(wrong, rng)
        written = tomlkit.dumps(wrong)
        problems = check_recipe(written)
        said += bool(problems)
        lines = written.count("\n") + 1
        assert all(1 <= p.line <= lines and p.message for p in problems), written
        if not problems:
            recipe = Recipe.from_document(wrong)
            assert recipe_from_text(recipe.text()) == recipe
            recipe.for_file("any.h5")
    assert said > 20


@pytest.mark.parametrize("name", templates())
def test_texts_that_are_cut_off_never_raise(name: str) -> None:
    text = template_path(name).read_text(encoding="utf-8")
    for end in range(0, len(text), 41):
        for problem in check_recipe(text[:end]):
            assert 1 <= problem.line <= text[:end].count("\n") + 1
