"""Recipes as JSON Schema, for editors that complete and check while one types."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from py4DSTEM.recipe.model import (
    CALIBRATION,
    READ,
    SCHEMA,
    WHERE,
    Bounds,
    Override,
    RecipeInput,
    RecipeLimits,
    RecipeOutput,
    Where,
    all_steps,
    calibration_fields,
    takes_where,
)

__all__ = ["json_schema"]

_RESULT = {
    "type": "object",
    "description": "What another step made, what a file holds, or a rectangle of the scan.",
    "oneOf": [
        {"properties": {"result": {"type": "string"}}, "required": ["result"]},
        {"properties": {"file": {"type": "string"}}, "required": ["file"]},
        {"properties": {"rect": {"type": "array", "items": {"type": "integer"}}},
         "required": ["rect"]},
    ],
}  # fmt: skip


class _Lenient(GenerateJsonSchema):
    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a recipe, derived from the parameters of all steps.

    Examples
    --------
    >>> sorted(json_schema()["required"])
    ['schema', 'step']
    """
    definitions: dict[str, Any] = {"standing": _RESULT}
    tables = {
        "input": _of(RecipeInput, definitions),
        "output": _of(RecipeOutput, definitions),
        "limits": _of(RecipeLimits, definitions),
        "qc": {"type": "object", "additionalProperties": _of(Bounds, definitions)},
        "override": {"type": "array", "items": _of(Override, definitions)},
    }
    steps = [_step(kind, cls, definitions) for kind, cls in all_steps().items()]
    steps += [_stating(), _reading(definitions)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "py4DSTEM recipe",
        "type": "object",
        "properties": {
            "schema": {"const": SCHEMA},
            "name": {"type": "string"},
            "about": {"type": "string"},
            "step": {"type": "array", "minItems": 1, "items": {"oneOf": steps}},
            **tables,
        },
        "required": ["schema", "step"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _of(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """Of one model; what it refers to goes to the definitions of all."""
    found: dict[str, Any] = model.model_json_schema(schema_generator=_Lenient)
    definitions |= found.pop("$defs", {})
    return found


def _words(use: str) -> dict[str, Any]:
    return {
        "use": {"const": use},
        "name": {"type": "string", "minLength": 1},
        "of": {"type": "string", "description": "The result that it is applied to."},
        "calibrates": {"type": "boolean"},
    }


def _step(use: str, cls: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    found = _of(cls, definitions)
    properties = {
        name: {"anyOf": [value, {"$ref": "#/$defs/standing"}, {"const": "none"}],
               "description": value.get("description", "")}
        for name, value in found.get("properties", {}).items()
    }  # fmt: skip
    about = " ".join(str(cls.__doc__ or "").partition("\n\n")[0].split())
    return {
        "title": use,
        "description": about,
        "type": "object",
        "properties": _words(use)
        | ({WHERE: _where(definitions)} if takes_where(cls) else {})
        | properties,
        "required": ["use", *found.get("required", ())],
        "additionalProperties": False,
    }


def _where(definitions: dict[str, Any]) -> dict[str, Any]:
    """Of the scan positions that an operation is done at."""
    selection = _of(Where, definitions)["properties"][WHERE]
    return {
        "description": "Scan positions that count; without it: all.",
        "anyOf": [selection, {"$ref": "#/$defs/standing"}, {"const": "none"}],
    }


def _stating() -> dict[str, Any]:
    properties: dict[str, Any] = {name: {} for name in calibration_fields()}
    words = {name: value for name, value in _words(CALIBRATION).items() if name != "of"}
    return {
        "title": CALIBRATION,
        "description": "State numbers of the calibration.",
        "type": "object",
        "properties": words | properties,
        "required": ["use"],
        "additionalProperties": False,
    }


def _reading(definitions: dict[str, Any]) -> dict[str, Any]:
    options = _of(RecipeInput, definitions)["properties"]
    properties = {n: v for n, v in options.items() if n not in ("units", "brings")}
    words = {name: value for name, value in _words(READ).items() if name != "of"}
    return {
        "title": READ,
        "description": "Open what another file holds.",
        "type": "object",
        "properties": words | properties,
        "required": ["use", "file"],
        "additionalProperties": False,
    }
