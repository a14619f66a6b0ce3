"""Options from the fields of an operation or analysis, and the values that they are given."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from py4DSTEM.errors import ParameterError

__all__ = ["add_fields", "schema", "value_of"]

ABOUT = (
    "values are words, numbers or JSON; none stands for no value; @FILE takes the value from a "
    "file: an array (.npy), JSON, or a result"
)
_WORDS = {float: "NUMBER", int: "N", str: "WORD", bool: "true|false"}


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
            group.add_argument(flag, metavar=_metavar(field.annotation), **keywords)
        names[f"field:{name}"] = name
    return names


def _shown(default: Any) -> str:
    if default is None or isinstance(default, bool):
        return {None: "none", True: "yes", False: "no"}[default]
    if isinstance(default, list | tuple) and all(isinstance(v, int | float) for v in default):
        return ",".join(map(str, default)) or "none"
    return str(default)


def _is_flag(annotation: Any) -> bool:
    kinds = set(get_args(annotation)) or {annotation}
    return bool in kinds and kinds <= {bool, NoneType}


def _metavar(annotation: Any) -> str:
    """
    >>> _metavar(float | None), _metavar(Literal["px", "mrad"]), _metavar(tuple[float, float])
    ('NUMBER', 'px|mrad', 'NUMBER,NUMBER')
    """
    return "|".join(dict.fromkeys(_kinds(annotation))) or "VALUE"


def _kinds(annotation: Any) -> Iterator[str]:
    """What may be typed for a type, one word per alternative."""
    from py4DSTEM.core.detector import Detector

    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in (None, NoneType):
        return
    if origin is Annotated:
        yield from _kinds(inner[0])
    elif origin in (Union, UnionType):
        for part in inner:
            yield from _kinds(part)
    elif origin is Literal:
        yield from (str(word) for word in inner)
    elif origin is tuple and Ellipsis not in inner:
        yield ",".join(_metavar(part) for part in inner)
    elif annotation in _WORDS:
        yield _WORDS[annotation]
    elif origin is not None or (isinstance(annotation, type) and issubclass(annotation, Detector)):
        yield "JSON"
    else:
        yield "@FILE"


def schema(cls: Any) -> dict[str, Any]:
    """The JSON schema of the parameters; what JSON has no word for may be anything."""
    from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

    class Lenient(GenerateJsonSchema):
        def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
            return {"description": "given as @FILE"}

    found: dict[str, Any] = cls.model_json_schema(schema_generator=Lenient)
    return found | {"accepts": [kind.__name__ for kind in accepted(cls)]}


def accepted(cls: Any) -> tuple[type, ...]:
    """What the FILE of an operation or analysis must hold."""
    from py4DSTEM.core.cube import Cube

    kinds: tuple[type, ...] = getattr(cls, "accepts", (Cube,))
    return kinds


def value_of(given: Any) -> Any:
    """
    >>> value_of("3"), value_of("[1, 2]"), value_of("1,2.5"), value_of("mrad"), value_of("none")
    (3, [1, 2], [1, 2.5], 'mrad', None)
    """
    if not isinstance(given, str):
        return given
    if given.startswith("@"):
        return _from_file(given[1:])
    if given == "none":
        return None
    for text in (given, f"[{given}]"):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            continue
    return given


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
