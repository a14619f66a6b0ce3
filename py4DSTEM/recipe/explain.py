"""What a recipe will do, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from py4DSTEM.recipe.execute import Stage, plan
from py4DSTEM.recipe.model import CALIBRATION, READ, Recipe, RecipeStep, all_steps
from py4DSTEM.recipe.rules import shown

__all__ = ["explained"]


def explained(recipe: Recipe) -> str:
    """Stage by stage: what is done to what, with which parameters.

    Examples
    --------
    >>> print(explained(Recipe(name="look", step=(RecipeStep(use="mean-pattern", name="mean"),))))
    look
    1. one pass over the scan
       mean: Average all patterns, or those that `where` selects (weights allowed). [mean-pattern]
    kept: all results
    """
    return "\n".join(_lines(recipe))


def _lines(recipe: Recipe) -> Iterator[str]:
    yield f"{recipe.name or 'recipe'}{f': {recipe.about}' if recipe.about else ''}"
    if recipe.input.file:
        yield f"input: {recipe.input.file}"
    for number, stage in enumerate(plan(recipe), 1):
        yield f"{number}. {_title(stage)}"
        for step in stage.steps:
            yield from (f"   {line}" for line in _step(step))
    kept = recipe.output.save
    yield f"kept: {'all results' if kept == 'all' else ', '.join(kept) or 'nothing'}"
    for name, bounds in recipe.qc.items():
        limits = [f"at least {bounds.min:g}"] if bounds.min is not None else []
        limits += [f"at most {bounds.max:g}"] if bounds.max is not None else []
        yield f"flagged unless {name} is {' and '.join(limits)}"
    for override in recipe.override:
        yield f"files {override.match!r}: {', '.join(override.set)} otherwise"


def _title(stage: Stage) -> str:
    if stage.is_pass:
        return "one pass over the scan"
    step = stage.steps[0]
    return f"on {step.of!r}" if step.of else _ALONE.get(step.use, "on the scan")


_ALONE = {CALIBRATION: "numbers that are given", READ: "another file"}


def _step(step: RecipeStep) -> Iterator[str]:
    cls = all_steps().get(step.use)
    about = "" if cls is None else " ".join(str(cls.__doc__).strip().partition("\n\n")[0].split())
    yield f"{step.name}: {about or step.use} [{step.use}]"
    for name, value in step.parameters.items():
        field = None if cls is None else cls.model_fields.get(name)
        yield f"  {name} = {_value(value)}{_described(field)}"
    if step.where is not None:
        yield f"  where = {_value(step.where)}  (scan positions that count)"
    for name, of in step.uses.items():
        yield f"  {name} = the result {of!r}"
    if step.calibrates:
        yield "  what it measures counts for all later steps"


def _value(value: Any) -> str:
    return "none" if value is None else shown(value)


def _described(field: Any) -> str:
    return f"  ({field.description})" if field is not None and field.description else ""
