"""What is wrong with the values of one table, in the words of who wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from py4DSTEM.core.parameters import problems
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.recipe.locate import Path
from py4DSTEM.recipe.model import Where
from py4DSTEM.stream.fields import limits_of

__all__ = ["Fault", "faults_of", "nearest", "shown", "unknown"]

Fault = tuple[Path, str]
"""Where, within the table, and what."""

_LENIENT = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
_LONGEST = 60
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument", "union_tag_not_found")


def nearest(word: str, known: Iterable[str]) -> str:
    """``– did you mean "x"?``, or all that there is.

    >>> nearest("min_spacng", ["min_spacing", "edge"])
    ' – did you mean "min_spacing"?'
    """
    known = list(known)
    folded = {name.lower().replace("-", "_"): name for name in known}
    close = get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.55)
    if close:
        return f' – did you mean "{folded[close[0]]}"?'
    return f"; there is {', '.join(known)}" if known else "; there is none"


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """``unknown key "x" – did you mean "y"?``"""
    return f'unknown {kind} "{word}"{nearest(word, known)}'


def shown(value: Any) -> str:
    """A value as it is written, cut where it is long.

    >>> shown([1, "a"]), shown(True)
    ('[1, "a"]', 'true')
    """
    import json

    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def faults_of(
    model: type[BaseModel], values: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> Iterator[Fault]:
    """What is wrong with the values for a model.

    Parameters
    ----------
    model : type of Parameters
    values : mapping
        Field → value, as the text has it.
    given : mapping, optional
        Fields whose value is known only later, as results are; they are not looked into.
    """
    fields, given = model.model_fields, given or {}
    found = False
    for name, value in values.items():
        if name not in fields:
            found = True
            yield (name,), unknown("key", name, fields)
            continue
        inner = _model_of(fields[name].annotation)
        nested = inner is not None and isinstance(value, Mapping)
        for fault in _nested(inner, name, value) if nested else _of_field(model, name, value):
            found = True
            yield fault
    for name, field in fields.items():
        if field.is_required() and name not in values and name not in given:
            found = True
            yield (), f'"{name}" is missing: {field.description or "it must be given"}'
    if not found and not given:
        yield from _of_all(model, values)


def _of_all(model: type[BaseModel], values: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with values that are each right by themselves."""
    for name, text in problems(model, dict(values)).items():
        where: Path = (name,) if name in values else ()
        start = f"{name} = {shown(values[name])}: " if name in values else ""
        yield where, start + _worded(text)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, alone or with None."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _nested(model: Any, name: str, value: Mapping[str, Any]) -> Iterator[Fault]:
    for path, message in faults_of(model, value):
        yield (name, *path), message


def _of_field(model: type[BaseModel], name: str, value: Any) -> Iterator[Fault]:
    try:
        adapter = _adapter(model, name)
        adapter.validate_python(value)
    except ValidationError as error:
        yield from _of_validation(error, model, name, value)
    except (Py4DSTEMError, OSError) as error:
        yield (name,), f"{name} = {shown(value)}: {_worded(str(error))}"
    except (TypeError, ValueError, KeyError) as error:
        yield (name,), f"{name} = {shown(value)} makes no sense here: {error}"


@cache
def _adapter(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    field = model.model_fields[name]
    kind: Any = field.annotation
    if field.metadata:
        kind = Annotated[(kind, *field.metadata)]
    try:
        return TypeAdapter(kind, config=_LENIENT)
    except PydanticUserError:  # of a model, which has its own
        return TypeAdapter(kind)


def _of_validation(
    error: ValidationError, model: type[BaseModel], name: str, value: Any
) -> Iterator[Fault]:
    """One fault per place: the alternatives of a union are said together."""
    places: dict[Path, list[Any]] = {}
    for problem in error.errors(include_url=False):
        path, left = _within(value, problem["loc"])
        places.setdefault(path, []).append((problem, left))
    for path, found in places.items():
        if any(len(other) > len(path) and other[: len(path)] == path for other in places):
            continue  # another of the alternatives, for a value that is of the first
        inner = _at(value, path)
        where = ".".join(str(part) for part in (name, *path))
        strange = [p for p, _ in found if p["type"] in _UNKNOWN]
        if strange:
            table = ".".join((name, *map(str, path[:-1])))
            siblings = _siblings(error, strange[0], model)
            yield (name, *path), f"{table}: {unknown('key', str(path[-1]), siblings)}"
            continue
        words = _alternatives(found, model, name if not path else "")
        if any(
            p["type"] in ("missing", "missing_argument", "union_tag_not_found") for p, _ in found
        ):
            yield (name, *path), f"{where}: {words}"
        else:
            yield (name, *path), f"{where} = {shown(inner)} {words}"


def _siblings(error: ValidationError, problem: Any, model: type[BaseModel]) -> list[str]:
    """Keys that the type beside an unknown one has."""
    from py4DSTEM.core import detector, selection
    from py4DSTEM.io.format import RawLayout

    tags = [str(part) for part in problem["loc"]]
    for cls in vars(selection if model is Where else detector).values():
        fields = getattr(cls, "__dataclass_fields__", {})
        if isinstance(cls, type) and fields.get("kind") and fields["kind"].default in tags:
            return list(fields)
    return list(RawLayout.model_fields) if error.title == "RawLayout" else []


def _within(value: Any, loc: tuple[Any, ...]) -> tuple[Path, str]:
    """The part of a place that is in the text, and what of it is not (names of types, too)."""
    path: list[str | int] = []
    left = ""
    for part in loc:
        if _holds(value, part):
            path.append(part)
            value = value[part]
        else:
            left = str(part)
    return tuple(path), left


def _holds(value: Any, part: Any) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def _alternatives(found: list[Any], model: type[BaseModel], name: str) -> str:
    words: list[str] = []
    for problem, left in found:
        words.append(_message(problem, left, model, name))
    first, *others = dict.fromkeys(words)
    return " or ".join((first, *(word.removeprefix("must be ") for word in others)))


_ORDER = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


def _message(problem: Any, left: str, model: type[BaseModel], name: str) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in _MISSING[:-1]:
        return (
            f"value {int(left) + 1} of it is missing" if left.isdigit() else f'"{left}" is missing'
        )
    if kind == "union_tag_not_found":
        return 'say which shape it is, as in kind = "disk"'
    if kind == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        return f"is no shape{nearest(str(context['tag']), tags)}"
    if kind in _ORDER:
        limits = _limits(model, name)
        return f"must be in {limits}" if limits else _worded(problem["msg"])
    if kind == "literal_error":
        options = [
            word.strip(" '") for word in context["expected"].replace(" or ", ", ").split(",")
        ]
        hint = nearest(str(problem["input"]), options) if isinstance(problem["input"], str) else ""
        hint = hint if "did you mean" in hint else ""
        return f"must be {context['expected']}{hint}"
    return _worded(problem["msg"])


def _limits(model: type[BaseModel], name: str) -> str:
    """The range of a number, as ``[0, 1)``.

    >>> from py4DSTEM import FindBraggDisks
    >>> _limits(FindBraggDisks, "corr_power"), _limits(FindBraggDisks, "spacing_px")
    ('[0, 1]', '(0, ∞)')
    """
    if not name:
        return ""
    field = model.model_fields[name]
    found = limits_of((*field.metadata, *_metadata(field.annotation)))
    if not found:
        return ""
    low = f"[{found['ge']:g}" if "ge" in found else f"({found['gt']:g}" if "gt" in found else "(-∞"
    high = f"{found['le']:g}]" if "le" in found else f"{found['lt']:g})" if "lt" in found else "∞)"
    return f"{low}, {high}"


def _metadata(annotation: Any) -> tuple[Any, ...]:
    inner = [part for part in get_args(annotation) if hasattr(part, "__metadata__")]
    return tuple(entry for part in inner for entry in part.__metadata__)


_PHRASES = (
    ("Value error, ", ""), ("Assertion failed, ", ""), ("Input should be", "must be"),
    ("a valid number, unable to parse string as a number", "a number"),
    ("a valid integer, unable to parse string as an integer", "a whole number"),
    ("a valid integer, got a number with a fractional part", "a whole number"),
    ("a valid boolean, unable to interpret input", "true or false"),
    ("a valid number", "a number"), ("a valid integer", "a whole number"),
    ("a valid boolean", "true or false"), ("a valid string", 'text in quotes, as "text"'),
    ("a valid dictionary or object to extract fields from", "a table, { … }"),
    ("a valid dictionary or instance of RecipeUnits", "a table, { … }"),
    ("a valid dictionary or instance of ImageOutput", "a table, { … }"),
    ("a valid dictionary", "a table, { … }"), ("a valid tuple", "a list, [ … ]"),
    ("a valid list", "a list, [ … ]"), ("a finite number", "a finite number"),
    ("Dictionary should have", "must have"), ("Tuple should have", "must have"),
    ("String should have", "must have"), ("List should have", "must have"),
    ("after validation, not", "and not"), ("at least 1 item and not 0", "at least one entry"),
)  # fmt: skip


def _worded(message: str) -> str:
    """What pydantic says, in the words of a recipe."""
    for phrase, better in _PHRASES:
        message = message.replace(phrase, better)
    return message
