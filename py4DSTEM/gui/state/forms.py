"""Forms of steps: what an operation or analysis asks for, from its parameters; no Qt.

Whatever the library gains, the program gains: nothing here knows a step by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from py4DSTEM.core.parameters import problems
from py4DSTEM.stream.fields import Leaf, accepted, allows_none, leaves, plain_value

__all__ = [
    "FormField",
    "Kind",
    "accepted",
    "all_steps",
    "defaults",
    "fields_of",
    "problems_of",
    "title_of",
    "typed",
    "values_to_step",
]

Kind = Literal[
    "flag", "whole", "number", "choice", "text", "numbers",
    "detector", "detectors", "array", "value", "json",
]  # fmt: skip
_KINDS: dict[str, Kind] = {
    "bool": "flag", "integer": "whole", "number": "number", "text": "text", "tuple": "numbers",
    "detector": "detector", "detectors": "detectors", "array": "array", "positions": "array",
    "object": "value",
}  # fmt: skip
_UNITS = {
    "px": "px", "A": "Å", "nm": "nm", "mrad": "mrad", "rad": "rad", "deg": "°", "eV": "eV",
    "sigma": "σ", "s": "s",
}  # fmt: skip
_SAID = (
    (r"\(px\)|\bin px\b|detector pixels?\b|\bin pixels\b", "px"),
    (r"\bin scan positions\b", "scan px"),
    (r"\bin rad\b", "rad"),
    (r"\bin 1/A\b", "1/Å"),
    (r"\(A\)", "Å"),
)


@dataclass(frozen=True)
class FormField:
    """One parameter of a step, as a form shows it.

    Parameters
    ----------
    name : str
    kind : Kind
        Which widget: "flag" a tick, "whole" and "number" spin boxes, "choice" a list, "numbers"
        several in a row (`parts`), "detector" a region of patterns, "detectors" several by name,
        "array" an image or a mask, "value" a result or a file, "json" anything else, as text.
    unit : str
    help : str
    default : Any
        None where there is none.
    required : bool
        Whether a value must be given.
    automatic : tuple
        Empty, or the one value (None or "auto") that lets the library choose.
    choices : tuple
        Of a "choice"; of "json": words that may be typed.
    low, high : float, optional
    open_low, open_high : bool
        Whether that limit itself is excluded.
    parts : tuple of FormField
    per_position : bool
        Whether an "array" is a map of scan positions, as a selection gives.
    accepts : tuple of str
        Types of result that a "value" may be.
    """

    name: str
    kind: Kind
    unit: str = ""
    help: str = ""
    default: Any = None
    required: bool = False
    automatic: tuple[Any, ...] = ()
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    parts: tuple[FormField, ...] = ()
    per_position: bool = False
    accepts: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name in words, without its unit.

        >>> FormField("min_spacing_px", "number").label
        'min spacing'
        """
        words = self.name.split("_")
        return " ".join(words[:-1] if len(words) > 1 and words[-1] in _UNITS else words)


def all_steps() -> dict[str, Any]:
    """All operations and analyses by kind."""
    from py4DSTEM.process import load_steps

    return load_steps()


def title_of(cls: Any) -> str:
    """The first sentence that a step says about itself."""
    text = " ".join(str(cls.__doc__ or "").strip().partition("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".")


def fields_of(cls: Any) -> tuple[FormField, ...]:
    """What the form of a step asks for, in the order of its parameters.

    Parameters
    ----------
    cls : type of Operation or Analysis

    Examples
    --------
    >>> from py4DSTEM import FitLattice
    >>> field = fields_of(FitLattice)[2]
    >>> field.label, field.kind, field.unit, field.low, field.open_low, field.automatic
    ('max distance', 'number', 'px', 0, True, (None,))
    """
    return tuple(_field(name, info) for name, info in cls.model_fields.items())


def _field(name: str, info: Any) -> FormField:
    text = info.description or ""
    required = info.is_required()
    default = None if required else info.get_default(call_default_factory=True)
    found = _of_leaves(
        name, leaves(info.annotation, info.metadata), none=allows_none(info.annotation)
    )
    extra = info.json_schema_extra
    numeric = found.kind in ("number", "whole", "numbers", "json")
    return replace(
        found,
        unit=_unit(name, text) if numeric else "",
        help=text,
        default=default,
        required=required,
        # The type of an array does not say of what; its description does.
        per_position=found.per_position or (found.kind == "array" and text.startswith("(Rx, Ry)")),
        accepts=tuple(extra.get("accepts", ())) if isinstance(extra, dict) else (),
    )


def _of_leaves(name: str, found: tuple[Leaf, ...], *, none: bool) -> FormField:
    """The widget for the kinds of value of a field, where None and "auto" are taken off first."""
    words = tuple(word for leaf in found for word in leaf.words)
    others = [leaf for leaf in found if leaf.kind != "word"]
    special = ((None,) if none else ()) + words
    if not others:
        return FormField(name, "choice", choices=special)
    if len(others) > 1 or len(special) > 1 or set(words) > {"auto"}:
        return FormField(name, "json", choices=words)
    leaf = others[0]
    if leaf.kind == "bool" and special:
        return FormField(name, "choice", choices=(*special, True, False))
    if leaf.kind == "tuple":
        return _of_tuple(name, leaf, special)
    return FormField(
        name,
        _KINDS.get(leaf.kind, "json"),
        automatic=special,
        low=leaf.limits.get("gt", leaf.limits.get("ge")),
        high=leaf.limits.get("lt", leaf.limits.get("le")),
        open_low="gt" in leaf.limits,
        open_high="lt" in leaf.limits,
        per_position=leaf.kind == "positions",
    )


def _of_tuple(name: str, leaf: Leaf, special: tuple[Any, ...]) -> FormField:
    count = len(leaf.parts)
    names = ("x", "y") if count == 2 else tuple(str(k + 1) for k in range(count))
    parts = tuple(
        _of_leaves(part, found, none=False) for part, found in zip(names, leaf.parts, strict=True)
    )
    if any(part.kind not in ("whole", "number", "numbers") or part.automatic for part in parts):
        return FormField(name, "json", automatic=special)
    return FormField(name, "numbers", parts=parts, automatic=special)


def _unit(name: str, text: str) -> str:
    """
    >>> _unit("search_px", ""), _unit("resolution_A", ""), _unit("step", "In rings, in pixels.")
    ('px', 'Å', 'px')
    """
    suffix = name.rpartition("_")[2]
    if "_" in name and suffix in _UNITS:
        return _UNITS[suffix]
    return next((unit for pattern, unit in _SAID if re.search(pattern, text)), "")


# ---- from values to steps ------------------------------------------------------------------------
def defaults(cls: Any) -> dict[str, Any]:
    """The values that a form begins with; those that must be given are missing."""
    return {field.name: field.default for field in fields_of(cls) if not field.required}


def values_to_step(cls: Any, values: Mapping[str, Any]) -> Any:
    """The step with these values; what is left out has its default.

    Raises
    ------
    ParameterError
        With a line for every value that makes no sense.
    """
    return cls(**values)


def problems_of(cls: Any, values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with values, by the name of the parameter; "" for the step as a whole.

    Examples
    --------
    >>> from py4DSTEM import FitLattice
    >>> problems_of(FitLattice, {"min_peaks": 2, "robust": "perhaps"})
    {'min_peaks': 'Input should be greater than or equal to 3',
     'robust': 'Input should be a valid boolean, unable to interpret input'}
    """
    found: dict[str, str] = {}
    for name, text in problems(cls, dict(values)).items():
        known = name in cls.model_fields
        found.setdefault(name if known else "", text if known or not name else f"{name}: {text}")
    return found


def typed(text: str) -> Any:
    """What was typed: JSON, numbers with commas, or words; nothing is None.

    >>> typed("3, 4"), typed('{"Au": 1}'), typed(" Si "), typed("")
    ([3, 4], {'Au': 1}, 'Si', None)
    """
    return plain_value(text.strip() or "none")
