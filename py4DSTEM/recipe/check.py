"""Everything that is wrong with a recipe, at once, each with its line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from py4DSTEM.errors import ParameterError
from py4DSTEM.recipe.model import Recipe
from py4DSTEM.recipe.problem import Problem, RecipeError

__all__ = ["check_recipe", "parsed"]

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)")


def check_recipe(
    text: str, name: str = "recipe.toml", *, folder: Path | None = None
) -> tuple[Problem, ...]:
    """What is wrong with the text of a recipe: its syntax, its keys and values, its physics.

    Parameters
    ----------
    text, name : str
        A `name` in ``.json`` says that the text is JSON.
    folder : Path, optional
        Where the files that it names are looked for; None: they are not.

    Returns
    -------
    tuple of Problem
        In the order of the text; empty where the recipe can be run.

    Examples
    --------
    >>> for problem in check_recipe('schema = 1\\n[[step]]\\nuse = "mean-patern"'):
    ...     print(problem.text("R.toml"))
    R.toml:3: step 1 "mean-patern": no step is called "mean-patern" – did you mean "mean-pattern"?
    """
    try:
        document = parsed(text, name)
    except RecipeError as error:
        return error.problems
    try:
        Recipe.from_document(document)
    except ParameterError as error:
        return (Problem(1, "", str(error)),)
    return ()


# ---- syntax --------------------------------------------------------------------------------------
def parsed(text: str, name: str = "recipe.toml") -> dict[str, Any]:
    """The tables of a text.

    Raises
    ------
    RecipeError
        It is no TOML, or no JSON where `name` ends in ``.json``.
    """
    try:
        if name.lower().endswith(".json"):
            return _json(text)
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _PLACE.search(str(error))
        line = int(found[1]) if found and found[1] else max(1, len(text.splitlines()))
        column = f" at column {found[2]}" if found and found[2] else ""
        problem = Problem(line, "", f"this is no TOML{column}: {_PLACE.sub('', str(error))}")
    except json.JSONDecodeError as error:
        problem = Problem(error.lineno, "", f"this is no JSON at column {error.colno}: {error.msg}")
    except RecursionError:
        problem = Problem(1, "", "values are nested too deeply: three levels do")
    except ValueError as error:
        problem = Problem(1, "", f"this cannot be read: {error}")
    raise RecipeError([problem], name)


def _json(text: str) -> dict[str, Any]:
    document = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    if not isinstance(document, dict):
        raise ValueError("a recipe in JSON is an object, { … }")
    return document


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is there twice")
        found[key] = value
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")
