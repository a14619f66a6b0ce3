"""``py4dstem run KIND FILE``: one operation or analysis on one file.

With a recipe in place of KIND, ``run`` is `py4DSTEM.cli.batch`.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from py4DSTEM.cli import arguments
from py4DSTEM.cli.fields import accepted, add_fields, schema, value_of
from py4DSTEM.cli.inputs import calibrated, centered, check_output, open_one, run_options, wanted
from py4DSTEM.cli.output import Exit, emit, emit_json, say
from py4DSTEM.errors import ParameterError

__all__ = ["common_parser", "parse", "run", "steps", "which"]

USAGE = "py4dstem run KIND FILE [-o OUT] [--parameter value …]"
RECIPE_USAGE = "py4dstem run RECIPE.toml INPUT… -o OUT [--resume] [-n] [-j N]"
RECIPES = "py4dstem run RECIPE.toml INPUT… -o OUT runs a recipe over many files."


def parse(args: Sequence[str]) -> argparse.Namespace:
    """Options of ``run``; those of an operation or analysis are its fields."""
    if not args or args[0].startswith("-"):
        parser = argparse.ArgumentParser(
            prog="py4dstem run",
            usage=f"{RECIPE_USAGE}\n       {USAGE}",
            description="A recipe over many files, or one operation on one file.",
            epilog="py4dstem run RECIPE.toml --help and py4dstem run KIND --help say more; "
            "py4dstem run alone lists the operations.",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
        arguments.add_talking(parser)
        return argparse.Namespace(kind=None, **vars(parser.parse_args(args)))
    kind, cls = args[0], _step(args[0])
    parser = common_parser(kind, f"{_summary(cls)} FILE holds a {wanted(accepted(cls))}.")
    names = add_fields(parser, cls)
    options, unknown = parser.parse_known_args(args[1:])
    if unknown:
        raise ParameterError(_unknown(kind, unknown[0], parser))
    given = {names[k]: v for k, v in vars(options).items() if k in names and v is not None}
    return argparse.Namespace(kind=kind, step=cls, given=given, **vars(options))


def which(args: Sequence[str]) -> str:
    """The module that runs: a recipe is a file, an operation a name."""
    first = next((word for word in args if not word.startswith("-")), "")
    return "batch" if first.lower().endswith((".toml", ".json")) else "run"


def _step(kind: str) -> Any:
    known = steps()
    if kind not in known:
        close = get_close_matches(kind, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ParameterError(f"no operation {kind!r}: {hint}one of {', '.join(known)}")
    return known[kind]


def steps() -> dict[str, Any]:
    """Operations and analyses by kind."""
    from py4DSTEM.process import load_steps

    return load_steps()


def common_parser(kind: str = "KIND", summary: str = "") -> argparse.ArgumentParser:
    """What all operations and analyses take."""
    parser = argparse.ArgumentParser(
        prog=f"py4dstem run {kind}", description=summary, allow_abbrev=False
    )
    parser.add_argument("file", metavar="FILE")
    arguments.add_output(parser, required=False)
    arguments.add_center(parser)
    arguments.add_calibration(parser)
    parser.add_argument("--params", metavar="FILE.toml", help="parameters of the operation")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments.add_reading(parser)
    arguments.add_running(parser)
    arguments.add_talking(parser)
    return parser


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
        return _list(steps(), options)
    fields = options.step.model_fields
    words = {name: value_of(v, fields[name].annotation) for name, v in options.given.items()}
    step = options.step(**(_from_file(options.params) | words))
    return _execute(step, options)


def _list(known: dict[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        emit_json({"operations": {kind: schema(cls) for kind, cls in known.items()}})
        return Exit.OK
    emit(f"{USAGE}; --help after KIND explains it.\n{RECIPES}")
    groups: dict[str, list[str]] = {}
    for kind, cls in known.items():
        groups.setdefault(wanted(accepted(cls)), []).append(f"  {kind:<24} {_summary(cls)}")
    for names, lines in sorted(groups.items(), key=lambda group: group[0] != "4D scan"):
        emit(f"\nFILE with a {names}:")
        emit("\n".join(lines))
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


def _execute(step: Any, options: argparse.Namespace) -> int:
    out = None
    if options.out is not None:
        out = check_output(options.out, force=options.force, source=options.file)
    value = open_one(options.file, options, accepted(step))
    result = _applied(step, centered(calibrated(value, options), options), run_options(options))
    if out is not None:
        _write(out, result)
    _report(step, result, out, options)
    return Exit.OK


def _applied(step: Any, value: Any, options: Any) -> Any:
    import py4DSTEM
    from py4DSTEM.stream.analysis import Analysis

    if isinstance(step, Analysis):
        return step.apply(value, options)
    return py4DSTEM.run(step, value, options=options)


def _write(out: Path, result: Any) -> None:
    """Numbers in any format of `save`; ``.txt`` takes the words of a result that has some."""
    import py4DSTEM
    from py4DSTEM.io.store.atomic import replacing

    if out.suffix.lower() == ".txt" and hasattr(result, "text"):
        with replacing(out) as part:
            part.write_text(result.text() + "\n", encoding="utf-8")
    else:
        py4DSTEM.save(out, result)


def _report(step: Any, result: Any, out: Path | None, options: argparse.Namespace) -> None:
    words = result.text() if hasattr(result, "text") else repr(result)
    if options.json:
        emit_json(
            {"operation": step.kind, "version": step.version,
             "parameters": step.parameters(), "out": out and str(out), "result": words}
        )  # fmt: skip
    elif out is None:
        emit(words)
    else:
        say(f"{step.kind}: {words}")
        emit(str(out))
