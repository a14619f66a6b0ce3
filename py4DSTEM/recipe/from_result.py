"""From a result back to the recipe that makes it again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from py4DSTEM.api import read
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History, Step
from py4DSTEM.errors import ParameterError
from py4DSTEM.recipe.execute import RECIPE
from py4DSTEM.recipe.model import (
    CALIBRATION,
    WHERE,
    Recipe,
    RecipeInput,
    RecipeOutput,
    RecipeStep,
    all_steps,
    plain,
    takes_where,
)
from py4DSTEM.recipe.physics import fits, made_by, takes
from py4DSTEM.recipe.read import recipe_from_text

__all__ = ["from_result"]

_LARGEST = 1 << 16
"""Values of a map of origins that a recipe still holds."""


def from_result(path: str | os.PathLike[str]) -> Recipe:
    """The recipe that makes a result again, from its history.

    A result of a recipe carries the text of it.  Of others the steps of the history become those
    of the recipe, and the calibration that the result has is stated in numbers before them.

    Parameters
    ----------
    path : path
        A file of results.

    Returns
    -------
    Recipe
        With the input that the result was made of as ``[input] file``.

    Raises
    ------
    ParameterError
        There is no history, or it does not hold everything: a step that no recipe has (a scan that
        was cut), positions that were chosen, a calibration that is too large for a text.
    FormatError
        The file cannot be read.
    """
    found = read(path)
    values = list(found.values()) if isinstance(found, Mapping) else [found]
    known = [value for value in values if getattr(_history(value), "steps", ())]
    if not known:
        raise ParameterError(f"{path} has no history: nothing says how it was made")
    texts = {_history(value).source.get(RECIPE): value for value in known}
    written = [text for text in texts if isinstance(text, str)]
    if written:
        text = max(written, key=len)
        return _with_file(recipe_from_text(text, f"the recipe in {path}"), texts[text])
    longest = max(known, key=lambda value: len(_history(value).steps))
    return _of_history(longest, Path(path).stem)


def _history(value: Any) -> History:
    return getattr(value, "history", None) or History()


def _with_file(recipe: Recipe, value: Any) -> Recipe:
    file = _history(value).source.get("path")
    if file is None:
        return recipe
    document = recipe.document()
    document["input"] = document.get("input", {}) | {"file": str(file)}
    return Recipe.from_document(document)


def _of_history(value: Any, name: str) -> Recipe:
    binned, done = _binned(_history(value).steps)
    steps = list(_steps(done))
    numbers = dict(_numbers(getattr(value, "calibration", None)))
    if numbers:
        steps.insert(0, RecipeStep(use=CALIBRATION, name=CALIBRATION, parameters=numbers))
    recipe = Recipe(
        name=name,
        about="Made from the history of a result.",
        input=RecipeInput(brings="any", bin_Q=binned),
        step=tuple(steps),
        output=RecipeOutput(save=(steps[-1].name,)),
    )
    return recipe_from_text(_with_file(recipe, value).text(), f"the history of {name}")


def _binned(done: Sequence[Step]) -> tuple[int, Sequence[Step]]:
    """Pixels that were summed before anything else, which is how a file is read; the other steps.

    >>> _binned((Step("bin", parameters={"R": 1, "Q": 2}), Step("quality")))[0]
    2
    """
    first, *rest = done
    factor = first.parameters.get("Q") if first.kind == "bin" else None
    if isinstance(factor, int) and first.parameters.get("R") == 1 and rest:
        return factor, rest
    return 1, done


def _steps(done: Sequence[Step]) -> Iterator[RecipeStep]:
    """Each applied to the last result that it can be applied to."""
    made: dict[str, tuple[type, ...]] = {}
    for step in done:
        cls = all_steps().get(step.kind)
        if cls is None:
            raise ParameterError(
                f"the history has {step.kind!r}, which is no step of a recipe: do that first, save "
                "the scan, and make the result of it"
            )
        where = step.parameters.get(WHERE) if takes_where(cls) else None
        if where is not None and "selection" not in where:
            raise ParameterError(
                f"{step.kind} was done at chosen positions, which the history does not hold: they "
                "had weights, or were too many for it"
            )
        if step.version != cls.version:
            raise ParameterError(
                f"{step.kind} was version {step.version} of the method; here it is {cls.version}: "
                "the result cannot be made again with this version of the package"
            )
        name = _free(step.kind, made)
        yield RecipeStep(
            use=step.kind, name=name, of=_of(cls, made), parameters=_given(cls, step),
            where=None if where is None else where["selection"],
        )  # fmt: skip
        made[name] = made_by(step.kind)


def _given(cls: Any, step: Step) -> dict[str, Any]:
    """Parameters that are not as they would be without being named."""
    found = {}
    for name, value in step.parameters.items():
        if name == WHERE and takes_where(cls):
            continue
        field = cls.model_fields.get(name)
        default = None if field is None or field.is_required() else plain(field.get_default())
        if field is None or field.is_required() or plain(value) != default:
            found[name] = value
    return found


def _of(cls: Any, made: Mapping[str, tuple[type, ...]]) -> str:
    kinds = tuple(kind.__name__ for kind in takes(cls))
    return next((n for n in reversed(list(made)) if made[n] and fits(made[n], kinds)), "")


def _free(kind: str, taken: Mapping[str, Any]) -> str:
    names = (kind if k == 1 else f"{kind} {k}" for k in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _numbers(known: Calibration | None) -> Iterator[tuple[str, Any]]:
    """A calibration as the step that states it."""
    if known is None:
        return
    for letter, axes in (("R", known.R), ("Q", known.Q)):
        if axes[0].calibrated:
            x, y = axes[0].step, axes[1].step
            yield f"{letter}_pixel_size", x if x == y else [x, y]
            yield f"{letter}_pixel_units", axes[0].unit
    if known.origin_px is not None:
        if known.origin_px.size > _LARGEST:
            raise ParameterError(
                f"the origin of {known.origin_px.size // 2} positions is too large for a recipe"
            )
        if known.origin_px[known.origin_px != known.origin_px].size:
            raise ParameterError("the origin of some positions is not known: measure it by a step")
        yield "origin_px", known.origin_px.tolist()
    for name in ("ellipse", "rotation_rad", "flip", "energy_eV", "semiangle_mrad",
                 "probe_radius_px"):  # fmt: skip
        if getattr(known, name) is not None:
            yield name, plain(getattr(known, name))
