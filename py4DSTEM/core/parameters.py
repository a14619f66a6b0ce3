"""The base of everything that is described by validated parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from py4DSTEM.errors import ParameterError

__all__ = ["Parameters", "numbers", "problems", "readable"]


class Parameters(BaseModel):
    """A frozen pydantic model that refuses unknown keys and raises `ParameterError`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ParameterError(readable(error, type(self))) from None


def numbers(name: str, value: Any, count: int) -> tuple[float, ...]:
    """`count` finite numbers, or a `ParameterError` that names the parameter.

    >>> numbers("center", [3, 4.5], 2)
    (3.0, 4.5)
    """
    values = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    try:
        found = tuple(float(one) for one in values)
    except (TypeError, ValueError):
        found = ()
    if len(found) != count or not all(map(math.isfinite, found)):
        expected = "a finite number" if count == 1 else f"{count} finite numbers"
        raise ParameterError(f"{name} must be {expected}, not {value!r}")
    return found


def problems(model: type[BaseModel], values: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the values for a model, by field; ``""``: with all of them together.

    Parameters
    ----------
    model : type of Parameters
    values : dict
        Field → value.

    Returns
    -------
    dict of str to str
        Empty where the model can be made.

    Examples
    --------
    >>> class Step(Parameters):
    ...     count: int
    >>> problems(Step, {"count": "many"})
    {'count': 'Input should be a valid integer, unable to parse string as an integer'}
    """
    try:
        # As pydantic's own __init__ does: ours would fold all into one message.
        blank = model.__new__(model)
        model.__pydantic_validator__.validate_python(values, self_instance=blank)
    except ValidationError as error:
        found: dict[str, str] = {}
        for problem in error.errors(include_url=False):
            name = str(problem["loc"][0]) if problem["loc"] else ""
            found.setdefault(name, str(problem["msg"]).removeprefix("Value error, "))
        return found
    except ParameterError as error:  # of a value within, as a detector is
        return {"": str(error)}
    return {}


def readable(error: ValidationError, model: type[BaseModel]) -> str:
    """All problems of a validation, one per line: where, what, and the nearest known name."""
    return "\n".join(_line(problem, model) for problem in error.errors(include_url=False))


def _line(problem: Any, model: type[BaseModel]) -> str:
    import difflib

    where = ".".join(str(part) for part in problem["loc"]) or model.__name__
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(problem["loc"][-1]), model.model_fields, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(model.model_fields)}"
        return f"{model.__name__}: unknown parameter {where!r}; {hint}"
    got = problem.get("input")
    shown = f" (got {got!r})" if isinstance(got, str | int | float | bool | None) else ""
    return f"{model.__name__}: {where}: {message}{shown}"
