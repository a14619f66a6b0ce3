"""The project: everything that is open, chosen and found, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from string import ascii_uppercase
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from py4DSTEM.core.calibration import Calibration, Ellipse, Measured, updated
from py4DSTEM.core.detector import AnyDetector
from py4DSTEM.core.expression import Expression
from py4DSTEM.core.parameters import Parameters
from py4DSTEM.core.selection import AnySelection, PointSelection
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.format import RawLayout

__all__ = [
    "DetectorEntry",
    "Layer",
    "Look",
    "Made",
    "Project",
    "Result",
    "Scan",
    "Source",
    "free_letter",
    "free_name",
]

How = Literal["mean", "max", "sum"]
Response = Literal["sum", "com"]


class Value(Parameters):
    """A frozen value that can be copied with some fields changed."""

    def replace(self, **changes: Any) -> Self:
        """A checked copy with some fields changed; the value itself where nothing is."""
        if all(_same(getattr(self, name, MISSING), new) for name, new in changes.items()):
            return self
        return type(self)(**(dict(self) | changes))


class Source(Value):
    """Where a scan comes from: what `py4DSTEM.read` was called with; no path: from memory."""

    path: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("options")
    @classmethod
    def _layout(cls, options: dict[str, Any]) -> dict[str, Any]:
        """A layout of raw data that comes from a file is a table of plain values."""
        layout = options.get("layout")
        return options | {"layout": RawLayout(**layout)} if isinstance(layout, dict) else options


class DetectorEntry(Value):
    """A detector on the pattern, its weight in the signed sum, and whether it counts."""

    name: str
    shape: AnyDetector
    weight: float = 1.0
    shown: bool = True

    @field_validator("name")
    @classmethod
    def _fits_an_expression(cls, name: str) -> str:
        if not _is_name(name):
            raise ParameterError(
                f"a detector is called by letters, digits and _ as in an expression, not {name!r}"
            )
        return name


class Made(Value):
    """The step that made something: an operation or analysis, and what it was applied to.

    `of` is the name of a result of the same scan; "" stands for the scan itself.  `uses` names the
    results that were given as parameters, as a probe is.  `layers` are the calibrations that were
    switched on; None: those that are.  `where` are the scan positions that counted; None: all.
    """

    kind: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    of: str = ""
    uses: dict[str, str] = Field(default_factory=dict)
    layers: tuple[str, ...] | None = None
    where: AnySelection | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the results that it was made of."""
        return tuple(name for name in (self.of, *self.uses.values()) if name)

    def renamed(self, old: str, new: str) -> Made:
        """The same step, where a result it was made of has another name."""
        uses = {field: new if name == old else name for field, name in self.uses.items()}
        return self.replace(of=new if self.of == old else self.of, uses=uses)


class Layer(Value):
    """A measured or typed calibration that can be switched on and off without loss."""

    name: str
    value: Any = Field(default=None, exclude=True)
    changes: dict[str, Any] = Field(default_factory=dict)
    made: Made | None = None
    enabled: bool = True

    @field_validator("changes")
    @classmethod
    def _plain(cls, changes: dict[str, Any]) -> dict[str, Any]:
        """Measured values as the numbers they stand for; what comes from a file is a table."""
        for name, value in list(changes.items()):
            if isinstance(value, Measured):
                changes = {k: v for k, v in changes.items() if k != name}
                changes |= value.calibration_changes()
        ellipse = changes.get("ellipse")
        return changes | {"ellipse": Ellipse(**ellipse)} if isinstance(ellipse, dict) else changes


class Result(Value):
    """A value that a step made, under a name of its own."""

    name: str
    value: Any = Field(default=None, exclude=True)
    made: Made | None = None


class Scan(Value):
    """One open scan with all that belongs to it.

    `real` and `diffraction` say what the two images show: "" is what the detectors and the
    selection give; otherwise the name of a result, with "/label" for one image of a stack.
    """

    key: str
    name: str
    source: Source = Field(default_factory=Source)
    detectors: tuple[DetectorEntry, ...] = ()
    active: str = ""
    expression: str = ""
    response: Response = "sum"
    selection: AnySelection = Field(default_factory=lambda: PointSelection(0, 0))
    how: How = "mean"
    real: str = ""
    diffraction: str = ""
    layers: tuple[Layer, ...] = ()
    results: tuple[Result, ...] = ()
    removed: tuple[Result, ...] = ()
    """How results were made that were taken away while others, made of them, are still there."""

    def detector(self, name: str) -> DetectorEntry:
        """The detector of that name."""
        return _named(self.detectors, name, "detector")

    def result(self, name: str) -> Result:
        """The result of that name."""
        return _named(self.results, name, "result")

    def layer(self, name: str) -> Layer:
        """The calibration of that name."""
        return _named(self.layers, name, "calibration")

    def origin_of(self, name: str) -> Result:
        """The result of that name, or how it was made where it was taken away."""
        gone = next((result for result in self.removed if result.name == name), None)
        return gone or self.result(name)

    def shown(self, text: str) -> tuple[Result, str]:
        """The result that `real` or `diffraction` speaks of, and the label of one image of it."""
        names = [r.name for r in self.results if text == r.name or text.startswith(f"{r.name}/")]
        if not names:
            return self.result(text), ""
        name = max(names, key=len)
        return self.result(name), text[len(name) + 1 :]

    @property
    def enabled(self) -> tuple[str, ...]:
        """Names of the calibrations that are switched on, in their order."""
        return tuple(layer.name for layer in self.layers if layer.enabled)

    def made_by(self, step: Any, of: str = "", where: AnySelection | None = None) -> Made:
        """What an operation or analysis is, done now; some of its parameters may be results."""
        given = ((field, getattr(step, field)) for field in type(step).model_fields)
        known = {
            id(result.value): result.name for result in self.results if result.value is not None
        }
        uses = {field: known[id(value)] for field, value in given if id(value) in known}
        return Made(
            kind=step.kind,
            parameters=step.parameters(),
            of=of,
            uses=uses,
            layers=self.enabled,
            where=where,
        )

    def calibrated(self, calibration: Calibration) -> Calibration:
        """`calibration` of the file with the layers that are switched on, in their order."""
        for layer in self.layers:
            if layer.enabled:
                known = () if layer.value is None else (layer.value,)
                calibration = updated(calibration, *known, **layer.changes)
        return calibration

    def free_name(self, wish: str) -> str:
        """`wish`, or `wish` with the next number, that no result has yet."""
        return free_name(wish, [result.name for result in (*self.results, *self.removed)])


class Look(Value):
    """How one panel shows its image."""

    scale: Literal["linear", "sqrt", "log"] | float = "linear"
    colors: str = ""
    clip: tuple[float, float] = (0.1, 99.9)
    limits: tuple[float, float] | None = None


class Project(Value):
    """Everything that is open, chosen and found."""

    scans: tuple[Scan, ...] = ()
    current: str = ""
    looks: dict[str, Look] = Field(default_factory=dict)

    @property
    def scan(self) -> Scan | None:
        """The scan that is shown."""
        return next((scan for scan in self.scans if scan.key == self.current), None)

    def get(self, key: str) -> Scan:
        """The scan with that key."""
        found = next((scan for scan in self.scans if scan.key == key), None)
        if found is None:
            raise ParameterError(f"no scan {key!r} is open")
        return found

    def look(self, panel: str) -> Look:
        """How a panel shows its image."""
        return self.looks.get(panel, DEFAULT_LOOKS.get(panel, Look()))

    def changed(self, key: str, change: Callable[[Scan], Scan]) -> Project:
        """A copy in which one scan is replaced by `change` of it."""
        known = self.get(key)
        new = change(known)
        if new is known:
            return self
        return self.replace(scans=tuple(new if scan is known else scan for scan in self.scans))

    def without(self, key: str) -> Project:
        """The project as if that scan had never been open."""
        scans = tuple(scan for scan in self.scans if scan.key != key)
        if len(scans) == len(self.scans):
            return self
        last = scans[-1].key if scans else ""
        return self.replace(scans=scans, current=last if self.current == key else self.current)


DEFAULT_LOOKS = {"diffraction": Look(scale="sqrt"), "result": Look(scale="linear")}


MISSING = object()


@cache
def _is_name(name: str) -> bool:
    try:
        return name.isidentifier() and Expression(name).names == (name,)
    except ParameterError:  # a word of the language
        return False


def _same(old: Any, new: Any) -> bool:
    """Whether a change changes nothing; what would take long to compare is taken as changed."""
    if old is new:
        return True
    if isinstance(old, tuple) and isinstance(new, tuple):
        return len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))
    return isinstance(new, str | bool | int | float) and type(old) is type(new) and old == new


def free_name(wish: str, taken: list[str]) -> str:
    """
    >>> free_name("strain", ["strain", "strain 2"])
    'strain 3'
    """
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish} {number}"
    return name


def free_letter(taken: list[str]) -> str:
    """A name for a detector that none has yet.

    >>> free_letter(["A", "C"]), free_letter(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    ('B', 'A1')
    """
    names = [*ascii_uppercase, *(f"A{k}" for k in range(1, len(taken) + 2))]
    return next(name for name in names if name not in taken)


def _named(entries: tuple[Any, ...], name: str, what: str) -> Any:
    found = next((entry for entry in entries if entry.name == name), None)
    if found is None:
        names = ", ".join(entry.name for entry in entries) or "none"
        raise ParameterError(f"no {what} {name!r} in this scan; there is {names}")
    return found
