"""Changing the text of a recipe without losing its comments."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from py4DSTEM.errors import ParameterError
from py4DSTEM.recipe.model import Recipe

__all__ = ["with_values"]


def with_values(text: str, changes: Mapping[str, Any]) -> str:
    """The text of a recipe with other values; comments and layout stay as they are.

    Parameters
    ----------
    text : str
        TOML.
    changes : mapping
        ``"step.parameter"`` (or ``"input.…"``, ``"limits.…"``) → value.

    Raises
    ------
    ParameterError
        The text is no TOML, or a key names no step.

    Examples
    --------
    >>> text = 'schema = 1  # first\\n[[step]]\\nuse = "quality"'
    >>> print(with_values(text, {"limits.retries": 3}))
    schema = 1  # first
    [[step]]
    use = "quality"
    <BLANKLINE>
    [limits]
    retries = 3
    <BLANKLINE>
    """
    import tomlkit

    try:
        recipe = Recipe.from_document(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ParameterError(f"the recipe is no TOML: {error}") from None
    document = tomlkit.parse(text if text.endswith("\n") else f"{text}\n")
    for key, value in changes.items():
        _put(document, recipe.place(key), value)
    return tomlkit.dumps(document)


def _put(document: Any, place: tuple[str | int, ...], value: Any) -> None:
    """Set a value; tables on the way to it that are missing are made."""
    import tomlkit

    *path, last = place
    table: Any = document
    for depth, part in enumerate(path):
        if isinstance(part, str) and part not in table:
            if depth == 0 and str(document) and not str(document).endswith("\n\n"):
                document.add(tomlkit.nl())
            table[part] = tomlkit.table() if depth == 0 else tomlkit.inline_table()
        table = table[part]
    table[last] = value
