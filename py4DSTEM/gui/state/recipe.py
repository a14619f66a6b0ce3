"""The project as a recipe: the steps in TOML, to be run on other files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any

from py4DSTEM.core.expression import signed_sum
from py4DSTEM.core.selection import selection_table
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.state.forms import all_steps
from py4DSTEM.gui.state.project import Layer, Made, Project, Result, Scan
from py4DSTEM.recipe.model import CALIBRATION, SCHEMA, RecipeStep, plain, step_from, worded

__all__ = ["CALIBRATION", "SCHEMA", "RecipeStep", "recipe", "steps_of"]

_LARGEST = 4096  # values of an array in a text that people read


# ---- writing -------------------------------------------------------------------------------------
def recipe(project: Project, key: str) -> str:
    """What was done to a scan as a recipe.

    Parameters
    ----------
    project : Project
    key : str
        Of the scan.

    Returns
    -------
    str
        TOML with ``schema = 1``, ``[input]`` (how the file is read), and a ``[[step]]`` for every
        calibration, the detectors and every result, each after those that it needs.
        What a text cannot hold, as a measured map of origins without its step, is named in a
        comment.
    """
    import tomlkit

    scan = project.get(key)
    document = tomlkit.document()
    document.add("schema", tomlkit.item(SCHEMA))
    document.add("name", tomlkit.item(scan.name))
    document.add("input", tomlkit.item(_input(scan)))
    writer = _Steps(scan)
    tables = tomlkit.aot()
    for step in writer.all():
        tables.append(tomlkit.item(step))
    if len(tables):
        document.add("step", tables)
    for left_out in writer.left_out:
        document.add(tomlkit.comment(" ".join(left_out.split())))
    document.add("output", tomlkit.item({"save": writer.kept}))
    return tomlkit.dumps(document)


def _input(scan: Scan) -> dict[str, Any]:
    options = {name: plain(v) for name, v in scan.source.options.items() if v is not None}
    # Every step was done with the calibration of this file: what the steps lack was in it.
    file = {} if scan.source.path is None else {"file": scan.source.path, "brings": "any"}
    return file | options


@dataclass
class _Steps:
    """Collects the steps of a scan, each after those that it needs."""

    scan: Scan
    left_out: list[str] = field(default_factory=list)
    _found: list[dict[str, Any]] = field(default_factory=list)
    _done: set[str] = field(default_factory=set)

    def all(self) -> list[dict[str, Any]]:
        for name in self.scan.enabled:
            self._layer(name)
        self._images()
        for result in self.scan.results:
            self._result(result)
        return self._found

    @property
    def kept(self) -> list[str]:
        """Names of the steps whose results are worth a file."""
        made = {step["name"] for step in self._found if not step.get("calibrates")}
        names = (self.scan.free_name("image"), *(result.name for result in self.scan.results))
        return [name for name in names if name in made]

    def _layer(self, name: str) -> None:
        if f"layer:{name}" in self._done:
            return
        self._done.add(f"layer:{name}")
        layer = self.scan.layer(name)
        if layer.made is not None:
            for earlier in layer.made.layers or ():
                if earlier in self.scan.enabled:
                    self._layer(earlier)
            self._made(name, layer.made, calibrates=True)
        self._numbers(layer)

    def _numbers(self, layer: Layer) -> None:
        measured = getattr(layer.value, "calibration_changes", dict)() if layer.made is None else {}
        known = {name: plain(v) for name, v in {**measured, **layer.changes}.items()
                 if v is not None}  # fmt: skip
        for name in [name for name, v in known.items() if _count(v) > _LARGEST]:
            self.left_out.append(f"left out: {name} of {layer.name!r} is a map; measure it instead")
            del known[name]
        if layer.value is not None and layer.made is None and not measured:
            self.left_out.append(f"left out: {layer.name!r} is a whole calibration")
        if known:
            self._found.append({"use": CALIBRATION, "name": layer.name, **known})

    def _images(self) -> None:
        scan = self.scan
        summed = scan.response == "com" or not scan.expression
        counting = [e for e in scan.detectors if e.shown or not summed]
        if not counting:
            return
        shapes = {entry.name: _shape(entry.shape) for entry in counting}
        stack, image = scan.free_name("images"), scan.free_name("image")
        if scan.response == "com":
            if len(counting) > 1 or counting[0].weight != 1:
                self.left_out.append("left out: the centre of mass of several detectors")
                return
            mask = next(iter(shapes.values()))
            self._found.append({"use": "center-of-mass", "name": image, "mask": mask})
            return
        self._found.append({"use": "virtual-images", "name": stack, "detectors": shapes})
        expression = scan.expression or signed_sum({e.name: e.weight for e in counting})
        step = {"use": "combine-images", "name": image, "of": stack}
        self._found.append({**step, "expression": expression})

    def _result(self, result: Result) -> None:
        if f"result:{result.name}" in self._done:
            return
        self._done.add(f"result:{result.name}")
        if result.made is None or result.made.kind == "read":
            self.left_out.append(f"left out: {result.name!r} was not made here but brought along")
        else:
            self._made(result.name, result.made)

    def _made(self, name: str, made: Made, *, calibrates: bool = False) -> None:
        for needed in made.needs:
            self._result(self.scan.origin_of(needed))
        step: dict[str, Any] = {"use": made.kind, "name": name}
        if made.of:
            step["of"] = made.of
        if calibrates:
            step["calibrates"] = True
        if made.where is not None:
            step["where"] = selection_table(made.where)
        given = {n: v for n, v in made.parameters.items() if n not in made.uses}
        step |= {n: worded(v) for n, v in given.items() if _matters(made, n, v)}
        step |= {n: {"result": of} for n, of in made.uses.items()}
        self._found.append(step)


def _shape(detector: Any) -> Any:
    from py4DSTEM.process.virtual import VirtualImages

    return plain(VirtualImages(detectors={"d": detector}).parameters()["detectors"]["d"])


def _matters(made: Made, name: str, value: Any) -> bool:
    """Whether a parameter says more than its default."""
    cls = all_steps().get(made.kind)
    info = None if cls is None else cls.model_fields.get(name)
    if info is None or info.is_required():
        return value is not None
    return bool(plain(info.get_default(call_default_factory=True)) != plain(value))


def _count(value: Any) -> int:
    return sum(map(_count, value)) if isinstance(value, list) else 1


# ---- reading -------------------------------------------------------------------------------------
def steps_of(text: str) -> tuple[RecipeStep, ...]:
    """The steps of a recipe.

    Parameters
    ----------
    text : str
        TOML, as `recipe` writes it.

    Raises
    ------
    ParameterError
        It is no TOML, of a later schema, or a step has no ``use``.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ParameterError(f"the recipe is no TOML: {error}") from None
    if document.get("schema") != SCHEMA:
        raise ParameterError(
            f"the recipe has schema = {document.get('schema')!r}; this version reads {SCHEMA}"
        )
    tables = document.get("step", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ParameterError("steps are written as [[step]]")
    return tuple(step_from(table, number) for number, table in enumerate(tables, 1))
