"""``py4dstem run KIND FILE``: one operation on one file."""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

from py4DSTEM.cli.inputs import check_output, open_scan, run_options
from py4DSTEM.cli.output import Exit, emit, emit_json, say
from py4DSTEM.errors import ParameterError


def run(options: argparse.Namespace, rest: list[str]) -> int:
    """List operations, explain one, or run it."""
    operations = _operations()
    if options.kind is None:
        return _list(operations, options)
    if options.kind not in operations:
        raise ParameterError(f"no operation {options.kind!r}: one of {', '.join(operations)}")
    cls = operations[options.kind]
    if options.help:
        return _explain(cls)
    if options.file is None or options.out is None:
        raise ParameterError("py4dstem run KIND FILE -o OUT [--parameter value …]")
    return _execute(cls(**_parameters(options, rest)), options)


def _operations() -> dict[str, Any]:
    from py4DSTEM.process import load_operations

    return dict(sorted(load_operations().items()))


def _list(operations: dict[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        emit_json({"operations": {k: c.model_json_schema() for k, c in operations.items()}})
        return Exit.OK
    emit("py4dstem run KIND FILE -o OUT [--parameter value …]; --help after KIND explains it.\n")
    for kind, cls in operations.items():
        emit(f"  {kind:<24} {_summary(cls)}")
    return Exit.OK


def _summary(cls: Any) -> str:
    return str(cls.__doc__ or "").strip().splitlines()[0]


def _explain(cls: Any) -> int:
    emit(f"{cls.kind} (version {cls.version}): {_summary(cls)}\n")
    for name, field in cls.model_fields.items():
        default = "required" if field.is_required() else f"default {field.default!r}"
        emit(f"  --{name.replace('_', '-'):<22} {default}. {field.description or ''}")
    return Exit.OK


def _parameters(options: argparse.Namespace, rest: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if options.params:
        try:
            values = tomllib.loads(Path(options.params).read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ParameterError(f"{options.params}: {error}") from error
    return values | _given(rest)


def _given(rest: list[str]) -> dict[str, Any]:
    """``--some-name value`` pairs; values are JSON where they parse as it, else text."""
    values: dict[str, Any] = {}
    position = 0
    while position < len(rest):
        name, _, inline = rest[position].partition("=")
        if not name.startswith("--"):
            raise ParameterError(f"expected --parameter value, not {rest[position]!r}")
        if not inline:
            position += 1
            if position == len(rest):
                raise ParameterError(f"{name} needs a value")
            inline = rest[position]
        values[name[2:].replace("-", "_")] = _value(inline)
        position += 1
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _execute(operation: Any, options: argparse.Namespace) -> int:
    import py4DSTEM

    out = check_output(options.out, force=options.force)
    cube = open_scan(options.file, options)
    result = py4DSTEM.run(operation, cube, options=run_options(options))
    py4DSTEM.save(out, result)
    say(f"{operation.kind}: {result!r}")
    emit(str(out))
    return Exit.OK
