"""What the fields of a step may hold: one account of it, for command line, recipes and forms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

__all__ = ["Leaf", "accepted", "allows_none", "leaves", "limits_of", "plain_value"]

Kind = Literal[
    "number", "integer", "bool", "text", "word", "tuple", "detector", "detectors", "array",
    "positions", "json", "object",
]  # fmt: skip
_PLAIN: dict[Any, Kind] = {float: "number", int: "integer", str: "text", bool: "bool"}


@dataclass(frozen=True)
class Leaf:
    """One kind of value that a field may hold.

    Parameters
    ----------
    kind : str
        ``"positions"``: a map of scan positions; ``"object"``: what has no text, such as a result.
    words : tuple
        Of a ``"word"``: the values that it may be.
    parts : tuple of tuple of Leaf
        Of a ``"tuple"``: what each of its members may be.
    limits : mapping
        Of a number: ``ge``, ``gt``, ``le``, ``lt``.
    """

    kind: Kind
    words: tuple[Any, ...] = ()
    parts: tuple[tuple[Leaf, ...], ...] = ()
    limits: dict[str, float] = field(default_factory=dict)


def leaves(annotation: Any, metadata: Any = ()) -> tuple[Leaf, ...]:
    """The kinds of value of a type, None left out.

    Parameters
    ----------
    annotation : type
        As a field of a model is annotated.
    metadata : iterable
        What pydantic keeps beside it: limits and validators.

    Examples
    --------
    >>> [leaf.kind for leaf in leaves(float | Literal["auto"] | None)]
    ['number', 'word']
    """
    return tuple(_leaves(annotation, tuple(metadata)))


def allows_none(annotation: Any) -> bool:
    """Whether None is a value of that type.

    >>> allows_none(float | None), allows_none(float)
    (True, False)
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return allows_none(inner[0])
    if origin in (Union, UnionType):
        return any(map(allows_none, inner))
    return annotation in (None, NoneType, Any)


def limits_of(metadata: Any) -> dict[str, float]:
    """Limits among what pydantic keeps beside a type."""
    found: dict[str, float] = {}
    for entry in metadata:
        for part in (entry, *getattr(entry, "metadata", ())):
            for name in ("ge", "gt", "le", "lt"):
                value = getattr(part, name, None)
                if isinstance(value, int | float):
                    found[name] = value
    return found


def _leaves(annotation: Any, metadata: tuple[Any, ...]) -> Iterator[Leaf]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in (None, NoneType):
        return
    if origin is Annotated:
        yield from _leaves(inner[0], (*metadata, *inner[1:]))
    elif _is_array(metadata):
        yield Leaf("array")
    elif origin in (Union, UnionType):
        if all(_is_detector(part) for part in inner if part not in (None, NoneType)):
            yield Leaf("detector")
            return
        for part in inner:
            yield from _leaves(part, metadata)
    elif origin is Literal:
        yield Leaf("word", words=inner)
    elif origin is tuple and Ellipsis not in inner:
        yield Leaf("tuple", parts=tuple(leaves(part) for part in inner))
    elif annotation in _PLAIN:
        kind = _PLAIN[annotation]
        yield Leaf(kind, limits=limits_of(metadata) if kind in ("number", "integer") else {})
    else:
        yield Leaf(_other(annotation))


def _other(annotation: Any) -> Kind:
    origin, inner = get_origin(annotation), get_args(annotation)
    if _is_detector(annotation):
        return "detector"
    if origin is dict and [leaf.kind for leaf in leaves(inner[1])] == ["detector"]:
        return "detectors"
    if annotation == tuple[tuple[bool, ...], ...]:
        return "positions"
    return "object" if origin is None else "json"


def _is_array(metadata: tuple[Any, ...]) -> bool:
    from py4DSTEM.core.detectors.mask import decoded

    return any(getattr(entry, "func", None) is decoded for entry in metadata)


def _is_detector(annotation: Any) -> bool:
    from py4DSTEM.core.detector import Detector

    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return all(map(_is_detector, get_args(annotation)))
    return isinstance(annotation, type) and issubclass(annotation, Detector)


def accepted(cls: Any) -> tuple[type, ...]:
    """The types of value that an operation or analysis is applied to."""
    from py4DSTEM.core.cube import Cube

    kinds: tuple[type, ...] = getattr(cls, "accepts", (Cube,))
    return kinds


def plain_value(text: str, annotation: Any = Any) -> Any:
    """What a typed text means: JSON, numbers with commas between them, or else the text itself.

    ``none`` is None where the field may be that and has no word of the name.

    >>> plain_value("3"), plain_value("1,2.5"), plain_value("mrad"), plain_value("none")
    (3, [1, 2.5], 'mrad', None)
    >>> plain_value("none", Literal["plane", "none"])
    'none'
    """
    if text == "none":
        words = (word for leaf in leaves(annotation) for word in leaf.words)
        return None if allows_none(annotation) and text not in words else text
    for form in (text, f"[{text}]"):
        try:
            return json.loads(form)
        except json.JSONDecodeError:
            continue
    return text
