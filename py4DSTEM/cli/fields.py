"""Options from the fields of an operation or analysis, and the values that they are given."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from py4DSTEM.errors import ParameterError
from py4DSTEM.stream.fields import Leaf, accepted, leaves, plain_value

__all__ = ["add_fields", "schema", "value_of"]

ABOUT = (
    "values are words, numbers or JSON; none stands for no value; @FILE takes the value from a "
    "file: an array (.npy), JSON, or a result"
)
_WORDS = {
    "number": "NUMBER", "integer": "N", "text": "WORD", "bool": "true|false", "array": "@FILE",
    "object": "@FILE",
}  # fmt: skip


def add_fields(parser: argparse.ArgumentParser, cls: Any) -> dict[str, str]:
    """Add an option per field; the destinations, and the field that each is of."""
    group = parser.add_argument_group("parameters", ABOUT if cls.model_fields else "none")
    taken = set(parser._option_string_actions)
    names = {}
    for name, field in cls.model_fields.items():
        flag = "--" + name.replace("_", "-")
        flag = flag if flag not in taken else f"--parameter-{flag[2:]}"
        default = "required" if field.is_required() else f"default {_shown(field.get_default())}"
        text = f"{field.description or ''} ({default})".strip().replace("%", "%%")
        keywords: dict[str, Any] = {"dest": f"field:{name}", "help": text, "default": None}
        if _is_flag(field.annotation):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **keywords)
        else:
            group.add_argument(flag, metavar=_metavar(field.annotation, field.metadata), **keywords)
        names[f"field:{name}"] = name
    return names


def _shown(default: Any) -> str:
    if default is None or isinstance(default, bool):
        return {None: "none", True: "yes", False: "no"}[default]
    if isinstance(default, list | tuple) and all(isinstance(v, int | float) for v in default):
        return ",".join(map(str, default)) or "none"
    return str(default)


def _is_flag(annotation: Any) -> bool:
    return [leaf.kind for leaf in leaves(annotation)] == ["bool"]


def _metavar(annotation: Any, metadata: Any = ()) -> str:
    """
    >>> from typing import Literal
    >>> _metavar(float | None), _metavar(Literal["px", "mrad"]), _metavar(tuple[float, float])
    ('NUMBER', 'px|mrad', 'NUMBER,NUMBER')
    """
    return _shape(leaves(annotation, metadata))


def _shape(found: tuple[Leaf, ...]) -> str:
    return "|".join(dict.fromkeys(map(_word, found))) or "VALUE"


def _word(leaf: Leaf) -> str:
    """What may be typed for one kind of value."""
    if leaf.kind == "word":
        return "|".join(map(str, leaf.words))
    if leaf.kind == "tuple":
        return ",".join(map(_shape, leaf.parts))
    return _WORDS.get(leaf.kind, "JSON")


def schema(cls: Any) -> dict[str, Any]:
    """The JSON schema of the parameters; what JSON has no word for may be anything."""
    from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

    class Lenient(GenerateJsonSchema):
        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
            return {"description": "given as @FILE"}

    found: dict[str, Any] = cls.model_json_schema(schema_generator=Lenient)
    return found | {"accepts": [kind.__name__ for kind in accepted(cls)]}


def value_of(given: Any, annotation: Any = Any) -> Any:
    """What was typed for a field of that type.

    >>> value_of("3"), value_of("[1, 2]"), value_of("1,2.5"), value_of("mrad"), value_of("none")
    (3, [1, 2], [1, 2.5], 'mrad', None)
    """
    if not isinstance(given, str):
        return given
    if given.startswith("@"):
        return _from_file(given[1:])
    return plain_value(given, annotation)


def _from_file(name: str) -> Any:
    """The array, the JSON value, or the one object of a file."""
    import py4DSTEM

    path = Path(name)
    try:
        if path.suffix.lower() == ".npy":
            import numpy as np

            return np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, EOFError) as error:
        raise ParameterError(f"@{name} cannot be read: {error}") from error
    value = py4DSTEM.read(path)
    if isinstance(value, dict):
        if len(value) != 1:
            raise ParameterError(f"@{name} holds several objects ({', '.join(value)}), not one")
        (value,) = value.values()
    return value
