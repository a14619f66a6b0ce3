"""From a file to a recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from py4DSTEM.errors import FileMissing
from py4DSTEM.io.remote import is_url
from py4DSTEM.recipe.check import check_recipe, parsed
from py4DSTEM.recipe.model import CALIBRATION, READ, Recipe, all_steps
from py4DSTEM.recipe.physics import wanted_by
from py4DSTEM.recipe.problem import Problem, RecipeError

__all__ = ["LARGEST_BYTES", "read_recipe", "recipe_from_text", "text_of"]

LARGEST_BYTES = 64 << 20
"""Of a recipe: a text that people read, and packed masks at most."""


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read and check a recipe; what it would do to data is checked, and no data is read.

    Parameters
    ----------
    path : path
        TOML, or JSON where it ends in ``.json``.

    Returns
    -------
    Recipe
        Names of other files in it are relative to its folder in the text, and absolute here.

    Raises
    ------
    RecipeError
        With all ``.problems``: no TOML, unknown steps and keys, values out of range, steps that
        need what no earlier step makes.
    FileMissing
        There is no such file.

    Examples
    --------
    >>> from py4DSTEM.recipe.templates import template_path
    >>> recipe = read_recipe(template_path("minimal"))
    >>> [step.name for step in recipe.step]
    ['mean', 'image']
    """
    path = Path(path)
    return recipe_from_text(text_of(path), path.name, folder=path.resolve().parent)


def recipe_from_text(text: str, name: str = "recipe.toml", *, folder: Path | None = None) -> Recipe:
    """As `read_recipe`, of a text.

    Parameters
    ----------
    text, name : str
        A `name` in ``.json`` says that the text is JSON.
    folder : Path, optional
        Where the files named in it are; None: they are left as they are.
    """
    problems = check_recipe(text, name, folder=folder)
    if problems:
        raise RecipeError(problems, name)
    document = parsed(text, name)
    if folder is not None:
        document = absolute(document, folder)
    return Recipe.from_document(document)


def text_of(path: Path) -> str:
    """The text of a recipe file.

    Raises
    ------
    FileMissing, RecipeError
        There is none, or it is no text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise FileMissing("there is no such recipe", path=path) from None
    if len(data) > LARGEST_BYTES:
        message = f"larger than {LARGEST_BYTES >> 20} MiB: this is no recipe"
        raise RecipeError([Problem(1, "", message)], path.name)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = "not UTF-8 text: save the recipe as UTF-8"
        raise RecipeError([Problem(line, "", message)], path.name) from None


def absolute(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The document with the files it names as absolute paths."""
    found = dict(document)
    if isinstance(found.get("input"), dict) and found["input"].get("file"):
        found["input"] = found["input"] | {"file": _place(found["input"]["file"], folder)}
    if "step" in found:
        found["step"] = [_absolute_step(table, folder) for table in found["step"]]
    return found


def _absolute_step(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    if table.get("use") == CALIBRATION:
        return table
    return {name: _absolute_value(name, value, table, folder) for name, value in table.items()}


def _absolute_value(name: str, value: Any, table: dict[str, Any], folder: Path) -> Any:
    if isinstance(value, dict) and value.keys() == {"file"}:
        return {"file": _place(value["file"], folder)}
    if table["use"] == READ:
        return _place(value, folder) if name == "file" else value
    cls = all_steps()[table["use"]]
    if isinstance(value, str) and name in cls.model_fields and wanted_by(cls, name):
        return None if value == "none" else {"file": _place(value, folder)}
    return value


def _place(file: str, folder: Path) -> str:
    """A file beside the recipe; addresses stay as they are."""
    return file if is_url(file) else str(folder / file)
