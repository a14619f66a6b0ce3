"""What a recipe says: input, steps, output, limits; values that cannot change."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.core.parameters import Parameters
from py4DSTEM.core.selection import AnySelection
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.format import RawLayout
from py4DSTEM.stream.fields import plain_value

__all__ = [
    "CALIBRATION",
    "READ",
    "SCHEMA",
    "STEP_WORDS",
    "WHERE",
    "Bounds",
    "Override",
    "Quantity",
    "Recipe",
    "RecipeInput",
    "RecipeLimits",
    "RecipeOutput",
    "RecipeStep",
    "RecipeUnits",
    "Where",
    "all_steps",
    "calibration_fields",
    "is_result",
    "plain",
    "step_from",
    "takes_where",
    "worded",
]

SCHEMA = 1
CALIBRATION = "calibration"
"""``use`` of a step that only states numbers."""
READ = "read"
"""``use`` of a step whose result is what another file holds."""
STEP_WORDS = ("use", "name", "of", "calibrates")
"""Keys of a ``[[step]]`` that are no parameters."""
WHERE = "where"
"""Of an operation: the scan positions that count; the one analysis with a parameter of that name
has it for itself."""
Quantity = Literal[
    "origin", "ellipse", "Q_pixel_size", "R_pixel_size", "rotation", "energy", "probe_radius"
]
"""What a calibration may hold."""


@cache
def all_steps() -> Mapping[str, Any]:
    """All operations and analyses by kind."""
    from py4DSTEM.process import load_steps

    return load_steps()


@cache
def calibration_fields() -> tuple[str, ...]:
    """Parameters of a step ``use = "calibration"``.

    >>> calibration_fields()[-1]
    'probe_radius_px'
    """
    from py4DSTEM.core.calibration import Calibration

    code = Calibration.replace.__code__
    return code.co_varnames[1 : 1 + code.co_kwonlyargcount]


# ---- tables --------------------------------------------------------------------------------------
class RecipeUnits(Parameters):
    """``[input.units]``: calibration, used only where the file has none."""

    real: tuple[float, str] | None = Field(None, description='Scan step, as [2.0, "nm"].')
    recip: tuple[float, str] | None = Field(None, description='Detector pixel, as [0.43, "mrad"].')
    voltage_kv: float | None = Field(None, gt=0, le=5000, description="Accelerating voltage (kV).")
    semiangle_mrad: float | None = Field(None, gt=0, description="Convergence (mrad).")

    @field_validator("real", "recip")
    @classmethod
    def _sensible(cls, given: tuple[float, str] | None) -> tuple[float, str] | None:
        if given is not None and not given[0] > 0:
            raise ParameterError(f"a pixel size is positive, not {given[0]!r}")
        return given


class RecipeInput(Parameters):
    """``[input]``: how files are read, as the arguments of `py4DSTEM.read`."""

    file: str | None = Field(None, description="The file, where none is named at the run.")
    dataset: str | None = Field(None, description="Which data set of a file with several.")
    scan_shape: tuple[int, int] | Literal["auto"] = Field(
        "auto", description="Rows and columns of the scan, for streams of frames."
    )
    sync_offset: int = Field(0, description="Frames to skip at the start of a stream.")
    flyback: int = Field(0, ge=0, description="Frames to skip after each row of a stream.")
    format: str | None = Field(None, description="Instead of recognition by content.")
    layout: RawLayout | None = Field(None, description="Of a raw binary file.")
    allow_truncated: bool = Field(False, description="Take complete frames of a cut file.")
    allow_external: bool = Field(False, description="Follow links to other folders.")
    bin_Q: int = Field(1, ge=1, description="Detector pixels to sum along both axes.")
    untrusted: bool = Field(False, description="Open in a process of its own first.")
    units: RecipeUnits = Field(RecipeUnits(), description="Used only where the file has none.")
    brings: tuple[Quantity, ...] | Literal["any"] = Field(
        (), description="What the calibration in the files is trusted to hold already."
    )

    @field_validator("scan_shape")
    @classmethod
    def _positive(cls, shape: Any) -> Any:
        if shape != "auto" and min(shape) < 1:
            raise ParameterError(f"a scan has at least one row and column, not {list(shape)}")
        return shape

    def read_options(self) -> dict[str, Any]:
        """Keyword arguments of `py4DSTEM.read`."""
        left_out = {"file", "units", "brings"}
        values = {n: getattr(self, n) for n in type(self).model_fields if n not in left_out}
        return values | {"scan_shape": None if self.scan_shape == "auto" else self.scan_shape}


class RecipeStep(Parameters):
    """One ``[[step]]``.

    Parameters
    ----------
    use : str
        Kind of an operation or analysis, ``"calibration"`` or ``"read"``.
    name : str
        What others call its result.
    of : str
        Result that it is applied to; "": the scan.
    uses : mapping
        Parameter → result that it is.
    parameters : mapping
        As the step's model takes them; of a calibration, as `Calibration.replace` does.
    calibrates : bool
        Whether what it measures belongs to the calibration from here on.
    where : mapping, optional
        Scan positions that count, for an operation: a `Selection` as plain values,
        ``{"rect": [x0, x1, y0, y1]}``, or ``{"file": …}``, a map of bool or weights; None: all.
    """

    use: str
    name: str
    of: str = ""
    uses: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    calibrates: bool = False
    where: Any = None

    def model(self, **results: Any) -> Any:
        """The operation or analysis; `results` are values that replace parameters.

        Raises
        ------
        ParameterError
            Nothing is called so, or its parameters make no sense.
        """
        cls = all_steps().get(self.use)
        if cls is None:
            raise ParameterError(f"step {self.name!r}: no step is called {self.use!r}")
        return cls(**{**self.parameters, **results})

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the results that it is made of."""
        return tuple(name for name in (self.of, *self.uses.values()) if name)

    def table(self) -> dict[str, Any]:
        """The ``[[step]]`` as it is written."""
        found: dict[str, Any] = {"use": self.use, "name": self.name}
        found |= {"of": self.of} if self.of else {}
        found |= {"calibrates": True} if self.calibrates else {}
        found |= {} if self.where is None else {WHERE: plain(self.where)}
        found |= {name: worded(value) for name, value in self.parameters.items()}
        return found | {name: {"result": of} for name, of in self.uses.items()}


class Where(Parameters):
    """``where`` of a step, written as a selection."""

    where: AnySelection | None = None


class ImageOutput(Parameters):
    """``[output] images``: pictures of the results."""

    format: Literal["png", "tif", "pdf", "svg"] = Field("png", description="Of the files.")
    scale_bar: bool = Field(True, description="Draw one.")
    dpi: int = Field(200, ge=20, le=2400, description="Dots per inch.")


class RecipeOutput(Parameters):
    """``[output]``: what is kept."""

    save: tuple[str, ...] | Literal["all"] = Field("all", description="Names of steps.")
    images: ImageOutput = Field(ImageOutput(), description="Pictures of the results.")
    report: bool = Field(True, description="Write report.html.")


class RecipeLimits(Parameters):
    """``[limits]``: of one file."""

    memory_gb: float | None = Field(None, gt=0, description="Memory of a worker (GB).")
    timeout_min: float | None = Field(None, gt=0, description="Time for one file (minutes).")
    retries: int = Field(1, ge=0, le=100, description="Tries after the first.")
    on_error: Literal["continue", "stop"] = Field("continue", description="With other files.")


class Bounds(Parameters):
    """``{ min = …, max = … }`` of a number that tells whether a result is good."""

    min: float | None = None
    max: float | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing, or no number, fits."""
        none = self.min is None and self.max is None
        return none or (self.min is not None and self.max is not None and self.min > self.max)

    def holds(self, value: float) -> bool:
        """Whether `value` is within; NaN is not."""
        low = self.min is None or value >= self.min
        return low and (self.max is None or value <= self.max) and value == value


class Override(Parameters):
    """``[[override]]``: other values for the files whose name matches.

    Parameters
    ----------
    match : str
        Glob on the file name, such as ``"*_018*"``.
    set : mapping
        ``"step.parameter"`` (or ``"input.…"``, ``"limits.…"``, ``"qc.…"``) → value.
    """

    match: str = Field(min_length=1)
    set: dict[str, Any] = Field(min_length=1)

    def applies(self, path: str | os.PathLike[str]) -> bool:
        """Whether the file is meant."""
        return fnmatch.fnmatchcase(Path(path).name, self.match)


class Recipe(Parameters):
    """What is done to every file: how it is read, the steps, what is kept, limits.

    Made by `read_recipe`; see docs/recipes.md for the text.

    Parameters
    ----------
    schema_version : int
        ``schema`` in the text.
    name, about : str
    input : RecipeInput
    step : tuple of RecipeStep
        In the order in which they are done.
    output : RecipeOutput
    limits : RecipeLimits
        Memory (GB) and time (minutes) for one file, retries, and what an error means for the rest.
    qc : dict of str to Bounds
        Numbers of a result → limits beyond which it is flagged.
    override : tuple of Override
        Other values for some files.

    Examples
    --------
    >>> step = RecipeStep(use="mean-pattern", name="mean")
    >>> print(Recipe(name="look", step=(step,)).text())
    schema = 1
    name = "look"
    <BLANKLINE>
    [[step]]
    use = "mean-pattern"
    name = "mean"
    <BLANKLINE>
    """

    schema_version: Literal[1] = 1
    name: str = ""
    about: str = ""
    input: RecipeInput = RecipeInput()
    step: tuple[RecipeStep, ...] = ()
    output: RecipeOutput = RecipeOutput()
    limits: RecipeLimits = RecipeLimits()
    qc: dict[str, Bounds] = Field(default_factory=dict)
    override: tuple[Override, ...] = ()

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Recipe:
        """From the tables of the text.

        Raises
        ------
        ParameterError
            What is wrong, without lines: `read_recipe` knows them.
        """
        given = dict(document)
        given["schema_version"] = given.pop("schema", None)
        tables = given.get("step", [])
        if not isinstance(tables, list | tuple) or not all(isinstance(t, dict) for t in tables):
            raise ParameterError("steps are written as [[step]]")
        given["step"] = tuple(step_from(table, k) for k, table in enumerate(tables, 1))
        return cls(**given)

    def document(self) -> dict[str, Any]:
        """The tables of the text; what has its default is left out."""
        found: dict[str, Any] = {"schema": self.schema_version}
        found |= {n: getattr(self, n) for n in ("name", "about") if getattr(self, n)}
        found |= self._table("input")
        if self.step:
            found["step"] = [step.table() for step in self.step]
        for name in ("output", "limits", "qc", "override"):
            found |= self._table(name)
        return found

    def _table(self, name: str) -> dict[str, Any]:
        dumped = self.model_dump(mode="json", include={name}, exclude_defaults=True)
        given = plain(dumped.get(name, {}))
        return {name: given} if given else {}

    def text(self) -> str:
        """The recipe as TOML, which `read_recipe` takes back."""
        import tomlkit

        document = tomlkit.document()
        for name, value in self.document().items():
            document.add(name, _item(value))
        return tomlkit.dumps(document)

    def for_file(self, path: str | os.PathLike[str]) -> Recipe:
        """The recipe for one file: its overrides applied, later ones last.

        Parameters
        ----------
        path : path
            Only the name of the file counts.

        Returns
        -------
        Recipe
            Without overrides.

        Raises
        ------
        ParameterError
            An override names a step that there is not, or a value that makes no sense.
        """
        if not self.override:
            return self
        applying = [override for override in self.override if override.applies(path)]
        if not applying:
            return self.model_copy(update={"override": ()})
        document = self.document()
        document.pop("override", None)
        for override in applying:
            for key, value in override.set.items():
                self.put(document, key, value)
        return Recipe.from_document(document)

    def place(self, key: str) -> tuple[str | int, ...]:
        """Where a dotted key, as ``"strain.reference.rect"``, is in the document.

        Raises
        ------
        ParameterError
            It begins with neither the name of a step nor a table of the recipe.
        """
        names = sorted((step.name for step in self.step), key=len, reverse=True)
        for name in names:
            if key.startswith(f"{name}."):
                number = next(k for k, step in enumerate(self.step) if step.name == name)
                return ("step", number, *key[len(name) + 1 :].split("."))
        first, _, rest = key.partition(".")
        if first == "qc" and rest:
            measure, _, bound = rest.rpartition(".")
            return (first, measure, bound)
        if first in ("input", "output", "limits") and rest:
            return (first, *rest.split("."))
        from difflib import get_close_matches

        if not rest and first in names:
            raise ParameterError(f"{key!r} is a whole step: say which parameter, {first}.…")
        close = get_close_matches(first, [*names, "input", "output", "limits", "qc"], n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ParameterError(
            f"{key!r} names no value: {hint}it is step.parameter, with a step of "
            f"{', '.join(names) or 'which there are none'}, or input., output., limits. or qc."
        )

    def put(self, document: dict[str, Any], key: str, value: Any) -> None:
        """Set a value by its dotted key in what `document` gave."""
        *path, last = self.place(key)
        table: Any = document
        for part in path:
            if isinstance(part, str) and not isinstance(table.get(part, {}), dict | list):
                table[part] = {}
            table = table[part] if isinstance(part, int) else table.setdefault(part, {})
        table[last] = value


# ---- steps ---------------------------------------------------------------------------------------
def step_from(table: Mapping[str, Any], number: int = 1) -> RecipeStep:
    """A ``[[step]]``.

    Raises
    ------
    ParameterError
        ``use``, ``name`` or ``of`` are no words.
    """
    given = dict(table)
    use, name, of = (given.pop(word, "") for word in ("use", "name", "of"))
    calibrates = given.pop("calibrates", False)
    if not use or not all(isinstance(word, str) for word in (use, name, of)):
        raise ParameterError(f'step {number}: use, name and of are words, as in use = "quality"')
    cls = all_steps().get(use)
    where = given.pop(WHERE, None) if takes_where(cls) else None
    uses = {n: v["result"] for n, v in given.items() if is_result(v)}
    fields = {} if cls is None else cls.model_fields
    parameters = {n: _value(n, v, fields) for n, v in given.items() if n not in uses}
    return RecipeStep(
        use=use, name=name or use, of=of, uses=uses, parameters=parameters, calibrates=calibrates,
        where=None if where == "none" else where,
    )  # fmt: skip


def _value(name: str, value: Any, fields: Mapping[str, Any]) -> Any:
    """A parameter as its step takes it."""
    if name not in fields:
        return value
    if value == "none":
        return plain_value(value, fields[name].annotation)
    rect = value.get("rect") if name == WHERE and isinstance(value, dict) else None
    # The one analysis with positions of its own has a rectangle in pairs.
    return [rect[:2], rect[2:]] if isinstance(rect, list) and len(value) == 1 else value


def takes_where(cls: Any) -> bool:
    """Whether scan positions can be chosen for a step: operations go through the scan."""
    from py4DSTEM.stream.operation import Operation

    return cls is not None and issubclass(cls, Operation)


def is_result(value: Any) -> bool:
    """Whether a value is written ``{ result = "name" }``."""
    return isinstance(value, Mapping) and value.keys() == {"result"}


# ---- as plain values -----------------------------------------------------------------------------
def worded(value: Any) -> Any:
    """TOML has no null: a word stands for it, as on the command line."""
    return "none" if value is None else plain(value)


def plain(value: Any) -> Any:
    """A value in the types of TOML; keys without a value are left out.

    >>> plain({"a": (1, 2), "b": None})
    {'a': [1, 2]}
    """
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Ellipse):
        return [value.a, value.b, value.theta_rad]
    if isinstance(value, Parameters):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def _item(value: Any) -> Any:
    """For tomlkit: lists of tables as ``[[…]]``."""
    import tomlkit

    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        tables = tomlkit.aot()
        for table in value:
            tables.append(tomlkit.item(dict(_inline(table))))
        return tables
    return tomlkit.item(value)


def _inline(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Tables within a step stay on its line, or the next key would belong to them."""
    import tomlkit

    for name, value in table.items():
        if isinstance(value, dict):
            inner = tomlkit.inline_table()
            inner.update(dict(value))
            yield name, inner
        else:
            yield name, value
