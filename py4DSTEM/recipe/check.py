"""Everything that is wrong with a recipe, at once, each with its line."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path as Folder
from typing import Any

from pydantic import BaseModel

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.remote import is_url
from py4DSTEM.recipe.locate import Path, line_of, lines_of_json, lines_of_toml
from py4DSTEM.recipe.model import (
    CALIBRATION,
    READ,
    SCHEMA,
    STEP_WORDS,
    WHERE,
    Bounds,
    Override,
    Recipe,
    RecipeInput,
    RecipeLimits,
    RecipeOutput,
    RecipeStep,
    Where,
    all_steps,
    calibration_fields,
    is_result,
    step_from,
    takes_where,
)
from py4DSTEM.recipe.physics import (
    REMEDIES,
    can_calibrate,
    fits,
    given_by,
    given_by_input,
    made_of,
    makers,
    needed_by,
    takes,
    wanted_by,
)
from py4DSTEM.recipe.problem import Problem, RecipeError
from py4DSTEM.recipe.rules import Fault, faults_of, nearest, shown, unknown
from py4DSTEM.report.quantities import QUANTITIES, known_name
from py4DSTEM.units import is_angle, is_length, is_reciprocal

__all__ = ["check_recipe", "parsed"]

_FORMS = {
    "origin_px": "[qx, qy] in pixels",
    "ellipse": "[a, b, theta_rad]",
    "flip": "true or false",
    "R_pixel_size": "a number, or [x, y]",
    "Q_pixel_size": "a number, or [x, y]",
}
_WHERE = ("rect", "file", "kind")
_NO_WHERE = (
    "where: {} does not go through the scan and takes no chosen positions: give them to the step "
    "that it is applied to"
)
RESERVED = ("input", "output", "limits", "qc")
"""Beginnings of what an override may set; no step is called so."""
_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)")


def check_recipe(
    text: str, name: str = "recipe.toml", *, folder: Folder | None = None
) -> tuple[Problem, ...]:
    """What is wrong with the text of a recipe: its syntax, its keys and values, its physics.

    Parameters
    ----------
    text, name : str
        A `name` in ``.json`` says that the text is JSON.
    folder : pathlib.Path, optional
        Where the files that it names are looked for; None: they are not.

    Returns
    -------
    tuple of Problem
        In the order of the text; empty where the recipe can be run.

    Examples
    --------
    >>> for problem in check_recipe('schema = 1\\n[[step]]\\nuse = "mean-patern"'):
    ...     print(problem.text("R.toml"))
    R.toml:3: step 1 "mean-patern": no step is called "mean-patern" – did you mean "mean-pattern"?
    """
    try:
        document = parsed(text, name)
    except RecipeError as error:
        return error.problems
    lines = lines_of_json(text) if name.lower().endswith(".json") else lines_of_toml(text)
    found = list(_Checker(document, folder).all())
    found += _override_faults(document, folder, set(found))
    problems = (
        Problem(line_of(lines, path), _step_words(document, path), message)
        for path, message in found
    )
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))


def _step_words(document: dict[str, Any], path: Path) -> str:
    """``3 "bragg"`` of a path within a step."""
    if len(path) < 2 or path[0] != "step":
        return ""
    number = int(path[1])
    table = document["step"][number]
    name = table.get("name", table.get("use")) if isinstance(table, dict) else None
    return f'{number + 1} "{name}"' if isinstance(name, str) else str(number + 1)


# ---- overrides -----------------------------------------------------------------------------------
def _override_faults(
    document: dict[str, Any], folder: Folder | None, before: set[Fault]
) -> Iterator[Fault]:
    """What would be wrong with the recipe for the files of each override."""
    tables = document.get("override", [])
    steps = document.get("step", [])
    if not (isinstance(tables, list) and isinstance(steps, list)):
        return
    recipe = _named_steps(steps)
    for number, table in enumerate(tables):
        settings = table.get("set") if isinstance(table, dict) else None
        for key, value in settings.items() if isinstance(settings, dict) else ():
            where: Path = ("override", number, "set", key)
            try:
                recipe.place(key)
                changed = _changed(recipe, document, key, value)
            except ParameterError as error:
                yield where, str(error)
                continue
            except (TypeError, AttributeError, KeyError, IndexError):
                yield where, f"{key} is no place for a value: part of it is no table"
                continue
            for fault in _Checker(changed, folder).all():
                if fault not in before:
                    yield where, f"{key}: {fault[1]}"


def _named_steps(steps: list[Any]) -> Recipe:
    """As much of the steps as gives them names."""
    named = []
    for table in steps:
        given = table if isinstance(table, dict) else {}
        use = given.get("use")
        name = given.get("name", use)
        named.append(RecipeStep(use=str(use), name=name if isinstance(name, str) else ""))
    return Recipe(step=tuple(named))


def _changed(recipe: Recipe, document: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy({n: v for n, v in document.items() if n != "override"})
    recipe.put(changed, key, value)
    return changed


# ---- keys, values, physics -----------------------------------------------------------------------
@dataclass
class _Checker:
    """Goes through the tables of a recipe once; what steps make is known to later ones."""

    document: dict[str, Any]
    folder: Folder | None
    made: dict[str, tuple[type, ...]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def all(self) -> Iterator[Fault]:
        yield from self.top()
        yield from self.input()
        tables = self.document.get("step", [])
        if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
            for number, table in enumerate(tables):
                for path, message in self.step(number, table):
                    yield ("step", number, *path), message
            yield from self.names(tables)
        elif "step" in self.document:
            yield ("step",), "steps are written as [[step]], in two brackets"
        for name, model in (("output", RecipeOutput), ("limits", RecipeLimits)):
            yield from self.table(name, model)
        yield from self.saved()
        yield from self.quality()
        yield from self.overrides()

    def top(self) -> Iterator[Fault]:
        known = ("schema", *(n for n in Recipe.model_fields if n != "schema_version"))
        for key in self.document:
            if key not in known:
                yield (key,), unknown("key", key, known)
        schema = self.document.get("schema")
        if schema is None:
            yield (), f'"schema" is missing: begin with schema = {SCHEMA}'
        elif schema is True or schema != SCHEMA:
            yield ("schema",), f"schema = {shown(schema)} is not known here: write {SCHEMA}"
        for key in ("name", "about"):
            if not isinstance(self.document.get(key, ""), str):
                yield (key,), f"{key} = {shown(self.document[key])} must be text in quotes"
        if not self.document.get("step"):
            yield ("step",), 'there is no step: add a [[step]] with use = "…"'

    def table(self, name: str, model: type[BaseModel]) -> Iterator[Fault]:
        values = self.document.get(name, {})
        if not isinstance(values, dict):
            yield (name,), f"{name} is a table: write [{name}] on a line, and its keys below"
            return
        for path, message in faults_of(model, values):
            yield (name, *path), message

    def input(self) -> Iterator[Fault]:
        faults = list(self.table("input", RecipeInput))
        yield from faults
        values = self.document.get("input", {})
        units = values.get("units", {}) if isinstance(values, dict) else {}
        if isinstance(units, dict):
            yield from _unit_faults(units)
        if not faults:
            self.known = given_by_input(RecipeInput(**values))

    # ---- steps ---------------------------------------------------------------------------------
    def step(self, number: int, table: dict[str, Any]) -> Iterator[Fault]:
        faults = list(self.words(table))
        yield from faults
        if faults:
            return
        step = step_from(table, number + 1)
        wrong = list(self.values(step))
        yield from wrong
        yield from self.source(step)
        made = (object,) if step.use == READ else made_of(step, self.made)
        made = () if made == (object,) else made
        if step.calibrates and not can_calibrate(step, made):
            kind = made[0].__name__
            yield ("calibrates",), f"a {kind} says nothing about the calibration: leave this out"
        if step.use not in (CALIBRATION, READ) and not wrong:
            yield from self.calibrated(step)
        self.made[step.name] = made
        self.known |= given_by(step, made)

    def words(self, table: dict[str, Any]) -> Iterator[Fault]:
        """use, name, of, calibrates."""
        use = table.get("use")
        if use is None:
            wrong = next((key for key in table if key.lower() in ("kind", "type", "uses")), None)
            hint = f" (you wrote {wrong})" if wrong else ""
            yield (), f'"use" is missing{hint}: it says what the step does, as use = "quality"'
        for word in ("use", "name", "of"):
            if word in table and not (isinstance(table[word], str) and table[word].strip()):
                yield (word,), f"{word} = {shown(table[word])} must be text in quotes"
        for name, value in table.items():
            if is_result(value) and not isinstance(value["result"], str):
                yield (name,), f"{name}: result = {shown(value['result'])} must be text in quotes"
        calibrates = table.get("calibrates", False)
        if not isinstance(calibrates, bool):
            yield ("calibrates",), f"calibrates = {shown(calibrates)} must be true or false"
        if isinstance(use, str) and use.strip():
            known = (*all_steps(), CALIBRATION, READ)
            if use not in known:
                yield ("use",), f'no step is called "{use}"{nearest(use, known)}'

    def values(self, step: RecipeStep) -> Iterator[Fault]:
        if step.use == CALIBRATION:
            yield from _calibration_faults(step)
        elif step.use == READ:
            yield from self.file_faults(step)
        else:
            yield from self.where(step)
            yield from self.parameters(step)

    def where(self, step: RecipeStep) -> Iterator[Fault]:
        """The scan positions that an operation is done at."""
        value = step.where
        if isinstance(value, dict) and value.keys() in ({"rect"}, {"file"}):
            yield from self.standing(WHERE, value)
        elif isinstance(value, dict) and "kind" in value:
            yield from faults_of(Where, {WHERE: value})
        elif value is not None:
            strange = [k for k in value if k != "result"] if isinstance(value, dict) else []
            hint = nearest(strange[0], _WHERE) if strange else ""
            yield (
                (WHERE,),
                f"where = {shown(value)} must be as {{ rect = [0, 10, 0, 30] }}, "
                f'{{ kind = "disk", radius = 4, center = [9, 12] }} or {{ file = "mask.npy" }}'
                f"{hint if 'did you mean' in hint else ''}",
            )

    def parameters(self, step: RecipeStep) -> Iterator[Fault]:
        cls = all_steps()[step.use]
        later = {n: v for n, v in step.parameters.items() if _stands_for(cls, n, v)}
        now = {n: v for n, v in step.parameters.items() if n not in later}
        for name, value in later.items():
            yield from self.standing(name, value)
        for path, message in faults_of(cls, now, {**later, **step.uses}):
            if path == (WHERE,) and WHERE not in cls.model_fields:
                message = _NO_WHERE.format(step.use)
            if message.startswith("unknown key"):
                words = (*STEP_WORDS, WHERE) if takes_where(cls) else STEP_WORDS
                message = unknown("key", str(path[0]), (*cls.model_fields, *words))
            yield path, message
        for name, of in step.uses.items():
            if name == WHERE and WHERE not in cls.model_fields:
                yield (name,), _NO_WHERE.format(step.use)
            elif name not in cls.model_fields:
                yield (name,), unknown("key", name, cls.model_fields)
            else:
                yield from self.used(name, of, wanted_by(cls, name))
        if isinstance(now.get("reference"), str) and step.use == "measure-pixel-size":
            yield from _standard_faults(now["reference"])

    def standing(self, name: str, value: Any) -> Iterator[Fault]:
        """``{ file = … }``, or a name alone, and ``{ rect = … }``."""
        if isinstance(value, str):
            yield from self.there(name, value)
            return
        if "file" in value:
            yield from self.there(name, value["file"])
            return
        rect = value["rect"]
        whole = isinstance(rect, list) and len(rect) == 4 and all(type(v) is int for v in rect)
        if not whole or not (0 <= rect[0] < rect[1] and 0 <= rect[2] < rect[3]):
            yield (
                (name,),
                (
                    f"{name}.rect = {shown(rect)} must be [first row, end row, first column, "
                    "end column], whole numbers, each first before its end"
                ),
            )

    def there(self, name: str, file: Any) -> Iterator[Fault]:
        if not isinstance(file, str) or not file.strip():
            yield (name,), f"{name}: file = {shown(file)} must be the name of a file in quotes"
        elif self.folder is None or is_url(file):
            return
        elif not (self.folder / file).exists():
            yield (name,), f'{name}: there is no file "{file}" in the folder of the recipe'

    def file_faults(self, step: RecipeStep) -> Iterator[Fault]:
        """Of ``use = "read"``."""
        known = [n for n in RecipeInput.model_fields if n not in ("units", "brings")]
        if "file" not in step.parameters:
            yield (), '"file" is missing: name the file, as file = "vacuum.h5"'
        for name, value in step.parameters.items():
            if name not in known:
                yield (name,), unknown("key", name, (*known, "name", "calibrates"))
            elif name == "file":
                yield from self.there("file", value)
        options = {n: v for n, v in step.parameters.items() if n in known and n != "file"}
        yield from faults_of(RecipeInput, options)

    def used(self, key: str, name: str, kinds: tuple[str, ...]) -> Iterator[Fault]:
        """A result under a name, of one of some types (nothing: of any)."""
        stack = name.rpartition("/")[0]
        if name not in self.made and stack in self.made:
            return
        if name not in self.made:
            yield (key,), self._nowhere(key, name)
        elif kinds and not fits(self.made[name], kinds):
            made = self.made[name][0].__name__
            yield (
                (key,),
                (f'{key}: "{name}" is a {made}, not a {_types(kinds)}{self._instead(kinds)}'),
            )

    def _nowhere(self, key: str, name: str) -> str:
        tables = self.document.get("step", [])
        later = [t for t in tables if isinstance(t, dict) and t.get("name", t.get("use")) == name]
        if later:
            return f'{key} = "{name}" is made by this or a later step: move that one before it'
        return f'{key} = "{name}" is made by no earlier step{nearest(name, self.made)}'

    def _instead(self, kinds: tuple[str, ...]) -> str:
        if "Cube" in kinds:
            return ': leave "of" out for the scan'
        there = [n for n, made in self.made.items() if made and fits(made, kinds)]
        if there:
            return f' – did you mean "{there[-1]}"?'
        return f" (made by use = {' or '.join(shown(use) for use in makers(kinds)[:3])})"

    def source(self, step: RecipeStep) -> Iterator[Fault]:
        """What it is applied to."""
        if step.use in (CALIBRATION, READ):
            if step.of:
                yield ("of",), f'use = "{step.use}" is applied to nothing: leave "of" out'
            return
        kinds = tuple(cls.__name__ for cls in takes(all_steps()[step.use]))
        if step.of:
            if self.made.get(step.of) == (Cube,) and "Cube" in kinds:
                return
            yield from self.used("of", step.of, kinds)
        elif "Cube" not in kinds:
            there = [n for n, made in self.made.items() if made and fits(made, kinds)]
            hint = f'of = "{there[-1]}"' if there else (
                f"add a [[step]] use = {' or '.join(map(shown, makers(kinds)[:3]))} before it, "
                'and name that: of = "…"'
            )  # fmt: skip
            yield (), f"{step.use} works on a {_types(kinds)}, not on the scan: {hint}"

    def calibrated(self, step: RecipeStep) -> Iterator[Fault]:
        """What it needs to be known of the scan."""
        for key, quantity, why in needed_by(step):
            if quantity in self.known:
                continue
            words, remedy = REMEDIES[quantity]
            given = "Q_pixel_size" if quantity == "Q_pixel_size" else ""
            more = " or [input.units] recip" if given else ""
            place: Path = (key,) if key in step.parameters else ()
            yield (
                place,
                (
                    f"needs {words} ({quantity}), as {why}, and no earlier step measures it: add a "
                    f'[[step]] use = "{remedy}" with calibrates = true{more}, or say that the '
                    f'files know it: [input] brings = ["{quantity}"]'
                ),
            )

    def names(self, tables: list[dict[str, Any]]) -> Iterator[Fault]:
        first: dict[str, int] = {}
        for number, table in enumerate(tables):
            name = table.get("name", table.get("use"))
            if not isinstance(name, str):
                continue
            if name in first:
                place = "name" if "name" in table else "use"
                yield (
                    ("step", number, place),
                    (
                        f'the name "{name}" is that of step {first[name] + 1} already: give '
                        'another name = "…"'
                    ),
                )
            elif name in RESERVED or "\n" in name:
                yield ("step", number, "name"), f"{shown(name)} cannot be the name of a step"
            first.setdefault(name, number)

    # ---- after the steps -------------------------------------------------------------------------
    def saved(self) -> Iterator[Fault]:
        output = self.document.get("output", {})
        save = output.get("save", []) if isinstance(output, dict) else []
        for number, name in enumerate(save if isinstance(save, list) else []):
            if isinstance(name, str) and name not in self.made:
                yield (
                    ("output", "save", number),
                    (f'save: no step is called "{name}"{nearest(name, self.made)}'),
                )

    def quality(self) -> Iterator[Fault]:
        table = self.document.get("qc", {})
        if not isinstance(table, dict):
            yield ("qc",), "qc is a table: write [qc] on a line, and its keys below"
            return
        for name, bounds in table.items():
            if not isinstance(bounds, dict):
                yield ("qc", name), f"{name} = {shown(bounds)} must be as {{ min = 4, max = 9 }}"
                continue
            faults = list(faults_of(Bounds, bounds))
            yield from ((("qc", name, *path), f"{name}: {text}") for path, text in faults)
            if not faults and Bounds(**bounds).empty:
                yield ("qc", name), f"{name} = {shown(bounds)} allows nothing or says nothing"
            if not known_name(name, dict.fromkeys(self.made, "")):
                known = (*QUANTITIES, *(f"{n}.{name.rpartition('.')[2]}" for n in self.made))
                yield ("qc", name), unknown("quantity", name, known)

    def overrides(self) -> Iterator[Fault]:
        tables = self.document.get("override", [])
        if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
            yield ("override",), "overrides are written as [[override]], in two brackets"
            return
        for number, table in enumerate(tables):
            for path, message in faults_of(Override, table):
                yield ("override", number, *path), message


def _types(kinds: tuple[str, ...]) -> str:
    return " or ".join("scan" if kind == "Cube" else kind for kind in kinds)


def _stands_for(cls: Any, name: str, value: Any) -> bool:
    """Whether a file or a rectangle is written instead of a value."""
    if name not in cls.model_fields:
        return False
    if isinstance(value, str):
        return bool(wanted_by(cls, name)) and value != "none"
    return isinstance(value, dict) and (value.keys() == {"file"} or value.keys() == {"rect"})


def _standard_faults(name: str) -> Iterator[Fault]:
    """Of a crystal that is given by its name."""
    from py4DSTEM.process.calibrate.dspacings import reference_lines

    try:
        reference_lines(name)
    except ParameterError as error:
        yield ("reference",), f"reference = {shown(name)}: {error}"


def _unit_faults(units: dict[str, Any]) -> Iterator[Fault]:
    """Pixel sizes in units that measure something else."""
    allowed = {"real": (is_length, "A, nm, pm, um"), "recip": (_is_recip, "mrad, A^-1, nm^-1")}
    for name, (fits_unit, words) in allowed.items():
        given = units.get(name)
        unit = given[1] if isinstance(given, list) and len(given) == 2 else None
        if isinstance(unit, str) and not fits_unit(unit):
            what = "a length" if name == "real" else "an angle or an inverse length"
            yield (
                ("input", "units", name),
                (f'{name} = {shown(given)}: "{unit}" is not {what}: one of {words}'),
            )


def _is_recip(unit: str) -> bool:
    return is_angle(unit) or is_reciprocal(unit)


def _calibration_faults(step: RecipeStep) -> Iterator[Fault]:
    """Of ``use = "calibration"``."""
    known = calibration_fields()
    good = {}
    for name, value in step.parameters.items():
        if name not in known:
            yield (name,), unknown("key", name, (*known, "name"))
            continue
        with_units = {
            n: v for n, v in step.parameters.items() if n == name.replace("size", "units")
        }
        try:
            Calibration().replace(**{**with_units, name: value})
            good[name] = value
        except (ParameterError, ShapeError) as error:
            yield (name,), f"{name} = {shown(value)}: {error}"
        except (TypeError, ValueError):
            yield (name,), f"{name} = {shown(value)} must be {_FORMS.get(name, 'a number')}"
    for name in step.uses:
        yield (name,), f"{name}: a step with calibrates = true gives it; here stand numbers"
    for name, fits_unit in (("R_pixel_units", is_length), ("Q_pixel_units", _is_recip)):
        unit = good.get(name)
        if isinstance(unit, str) and unit != "px" and not fits_unit(unit):
            yield (name,), f'{name} = "{unit}" does not measure that axis'
    if not step.parameters and not step.uses:
        yield (), f"a calibration states numbers: one of {', '.join(known)}"


# ---- syntax --------------------------------------------------------------------------------------
def parsed(text: str, name: str = "recipe.toml") -> dict[str, Any]:
    """The tables of a text.

    Raises
    ------
    RecipeError
        It is no TOML, or no JSON where `name` ends in ``.json``.
    """
    try:
        if name.lower().endswith(".json"):
            return _json(text)
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _PLACE.search(str(error))
        line = int(found[1]) if found and found[1] else max(1, len(text.splitlines()))
        column = f" at column {found[2]}" if found and found[2] else ""
        problem = Problem(line, "", f"this is no TOML{column}: {_PLACE.sub('', str(error))}")
    except json.JSONDecodeError as error:
        problem = Problem(error.lineno, "", f"this is no JSON at column {error.colno}: {error.msg}")
    except RecursionError:
        problem = Problem(1, "", "values are nested too deeply: three levels do")
    except ValueError as error:
        problem = Problem(1, "", f"this cannot be read: {error}")
    raise RecipeError([problem], name)


def _json(text: str) -> dict[str, Any]:
    document = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    if not isinstance(document, dict):
        raise ValueError("a recipe in JSON is an object, { … }")
    return document


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is there twice")
        found[key] = value
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")
