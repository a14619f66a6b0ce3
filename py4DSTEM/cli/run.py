"""``py4dstem run KIND FILE``: one operation on one file."""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from py4DSTEM.cli import arguments
from py4DSTEM.cli.inputs import centered, check_output, open_scan, run_options
from py4DSTEM.cli.output import Exit, emit, emit_json, say
from py4DSTEM.errors import ParameterError

__all__ = ["common_parser", "parse", "run"]

USAGE = "py4dstem run KIND FILE [-o OUT] [--parameter value …]"


def parse(args: Sequence[str]) -> argparse.Namespace:
    """Options of ``run``; those of an operation are its fields."""
    if not args or args[0].startswith("-"):
        parser = argparse.ArgumentParser(prog="py4dstem run", usage=USAGE)
        parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
        arguments.add_talking(parser)
        return argparse.Namespace(kind=None, **vars(parser.parse_args(args)))
    kind, cls = args[0], _operation(args[0])
    parser = common_parser(kind, _summary(cls))
    names = _add_fields(parser, cls)
    options, unknown = parser.parse_known_args(args[1:])
    if unknown:
        raise ParameterError(_unknown(kind, unknown[0], parser))
    given = {names[k]: v for k, v in vars(options).items() if k in names and v is not None}
    return argparse.Namespace(kind=kind, operation=cls, given=given, **vars(options))


def _operation(kind: str) -> Any:
    known = _operations()
    if kind not in known:
        close = get_close_matches(kind, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ParameterError(f"no operation {kind!r}: {hint}one of {', '.join(known)}")
    return known[kind]


def _operations() -> dict[str, Any]:
    from py4DSTEM.process import load_operations

    return dict(sorted(load_operations().items()))


def common_parser(kind: str = "KIND", summary: str = "") -> argparse.ArgumentParser:
    """What all operations take."""
    parser = argparse.ArgumentParser(
        prog=f"py4dstem run {kind}", description=summary, allow_abbrev=False
    )
    parser.add_argument("file", metavar="FILE")
    arguments.add_output(parser, required=False)
    arguments.add_center(parser)
    parser.add_argument("--params", metavar="FILE.toml", help="parameters of the operation")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments.add_reading(parser)
    arguments.add_running(parser)
    arguments.add_talking(parser)
    return parser


def _add_fields(parser: argparse.ArgumentParser, cls: Any) -> dict[str, str]:
    """Add an option per field; the destinations, and the field that each is of."""
    about = "values are words or JSON" if cls.model_fields else "none"
    group = parser.add_argument_group("parameters", about)
    taken = set(parser._option_string_actions)
    names = {}
    for name, field in cls.model_fields.items():
        flag = "--" + name.replace("_", "-")
        flag = flag if flag not in taken else f"--parameter-{flag[2:]}"
        default = "required" if field.is_required() else f"default {_shown(field.default)}"
        text = f"{field.description or ''} ({default})".strip().replace("%", "%%")
        keywords: dict[str, Any] = {"dest": f"field:{name}", "help": text, "default": None}
        if _is_flag(field.annotation):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **keywords)
        else:
            group.add_argument(flag, metavar="VALUE", **keywords)
        names[f"field:{name}"] = name
    return names


def _shown(default: Any) -> str:
    return "none" if default is None else str(default)


def _is_flag(annotation: Any) -> bool:
    kinds = set(get_args(annotation)) or {annotation}
    return bool in kinds and kinds <= {bool, type(None)}


def _unknown(kind: str, word: str, parser: argparse.ArgumentParser) -> str:
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return f"py4dstem run {kind} takes one FILE; {word!r} is too many"
    close = get_close_matches(name, list(parser._option_string_actions), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"see py4dstem run {kind} --help"
    return f"py4dstem run {kind}: unknown parameter {name!r}; {hint}"


def run(options: argparse.Namespace) -> int:
    """List operations, or run one."""
    if options.kind is None:
        return _list(_operations(), options)
    words = {name: _value(v) for name, v in options.given.items()}
    operation = options.operation(**(_from_file(options.params) | words))
    return _execute(operation, options)


def _list(operations: dict[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        emit_json({"operations": {k: c.model_json_schema() for k, c in operations.items()}})
        return Exit.OK
    emit(f"{USAGE}; --help after KIND explains it.\n")
    for kind, cls in operations.items():
        emit(f"  {kind:<24} {_summary(cls)}")
    return Exit.OK


def _summary(cls: Any) -> str:
    return str(cls.__doc__ or "").strip().partition("\n\n")[0].replace("\n    ", " ")


def _from_file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"--params {path}: {error.strerror}: name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"--params {path} is not TOML (name = value): {error}") from error


def _value(given: Any) -> Any:
    """
    >>> _value("3"), _value("[1, 2]"), _value("1,2.5"), _value("mrad")
    (3, [1, 2], [1, 2.5], 'mrad')
    """
    if not isinstance(given, str):
        return given
    for text in (given, f"[{given}]"):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            continue
    return given


def _execute(operation: Any, options: argparse.Namespace) -> int:
    import py4DSTEM

    out = None
    if options.out is not None:
        out = check_output(options.out, force=options.force, source=options.file)
    cube = centered(open_scan(options.file, options), options)
    result = py4DSTEM.run(operation, cube, options=run_options(options))
    if out is not None:
        _write(out, result)
    _report(operation, result, out, options)
    return Exit.OK


def _write(out: Path, result: Any) -> None:
    """Numbers in any format of `save`; ``.txt`` takes the words of a result that has some."""
    import py4DSTEM
    from py4DSTEM.io.store.atomic import replacing

    if out.suffix.lower() == ".txt" and hasattr(result, "text"):
        with replacing(out) as part:
            part.write_text(result.text() + "\n", encoding="utf-8")
    else:
        py4DSTEM.save(out, result)


def _report(operation: Any, result: Any, out: Path | None, options: argparse.Namespace) -> None:
    words = result.text() if hasattr(result, "text") else repr(result)
    if options.json:
        emit_json(
            {"operation": operation.kind, "version": operation.version,
             "parameters": operation.parameters(), "out": out and str(out), "result": words}
        )  # fmt: skip
    elif out is None:
        emit(words)
    else:
        say(f"{operation.kind}: {words}")
        emit(str(out))
