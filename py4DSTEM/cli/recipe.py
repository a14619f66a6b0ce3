"""``py4dstem recipe new|check|explain|show-schema|from-result``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from py4DSTEM.cli.inputs import check_output
from py4DSTEM.cli.output import ERROR, Exit, emit, emit_json, say
from py4DSTEM.errors import ParameterError

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Do what the action says."""
    return int(_ACTIONS[options.action](options))


def _new(options: argparse.Namespace) -> int:
    from py4DSTEM.cli.batch import setting
    from py4DSTEM.recipe.edit import with_values
    from py4DSTEM.recipe.read import recipe_from_text
    from py4DSTEM.recipe.templates import template_path

    text = template_path(options.template).read_text(encoding="utf-8")
    changes = dict(map(setting, options.set))
    if changes:
        text = with_values(text, changes)
        recipe_from_text(text, options.template)
    return _give(text, options)


def _check(options: argparse.Namespace) -> int:
    from py4DSTEM.recipe.problem import RecipeError
    from py4DSTEM.recipe.read import read_recipe

    found = {}
    for file in options.files:
        try:
            read_recipe(file)
            found[file] = ()
        except RecipeError as error:
            found[file] = error.problems
    count = sum(map(len, found.values()))
    if options.json:
        emit_json({"problems": count, "recipes": [_as_json(f, p) for f, p in found.items()]})
    else:
        for file, problems in found.items():
            for problem in problems:
                say(problem.text(file), ERROR)
            emit(f"{file}: {_counted(len(problems)) if problems else 'nothing is wrong'}")
    return Exit.USAGE if count else Exit.OK


def _as_json(file: str, problems: Any) -> dict[str, Any]:
    return {"file": file, "ok": not problems, "problems": [vars(p) for p in problems]}


def _counted(count: int) -> str:
    return f"{count} problem{'s' if count != 1 else ''}"


def _explain(options: argparse.Namespace) -> int:
    from py4DSTEM.recipe.execute import plan
    from py4DSTEM.recipe.explain import explained
    from py4DSTEM.recipe.read import read_recipe

    recipe = read_recipe(options.file)
    if options.input:
        recipe = recipe.for_file(options.input)
    if options.json:
        stages = [{"steps": stage.names, "pass": stage.is_pass} for stage in plan(recipe)]
        emit_json({"recipe": recipe.document(), "stages": stages})
    else:
        emit(explained(recipe))
    return Exit.OK


def _show_schema(options: argparse.Namespace) -> int:
    from py4DSTEM.recipe.schema import json_schema

    return _give(json.dumps(json_schema(), ensure_ascii=False, indent=1) + "\n", options)


def _from_result(options: argparse.Namespace) -> int:
    from py4DSTEM.recipe.from_result import from_result

    return _give(from_result(options.file).text(), options)


def _give(text: str, options: argparse.Namespace) -> int:
    """To a file that appears whole, or to stdout."""
    if options.out is None:
        emit(text.rstrip("\n"))
        return Exit.OK
    from py4DSTEM.io.store.atomic import replacing, write_bytes

    out = check_output(options.out, force=options.force)
    if options.action != "show-schema" and Path(out).suffix.lower() != ".toml":
        raise ParameterError(f"{out}: the name of a recipe ends in .toml")
    with replacing(out) as part:
        write_bytes(part, text.encode("utf-8"))
    emit(str(out))
    return Exit.OK


_ACTIONS = {
    "new": _new,
    "check": _check,
    "explain": _explain,
    "show-schema": _show_schema,
    "from-result": _from_result,
}
