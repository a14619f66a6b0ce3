"""The project as Python: a script that makes again what is shown, and a line for every act."""

from __future__ import annotations

import inspect
import keyword
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import py4DSTEM
from py4DSTEM.core.expression import signed_sum
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.state import commands
from py4DSTEM.gui.state.command import Command
from py4DSTEM.gui.state.forms import all_steps
from py4DSTEM.gui.state.literal import Imports, call, literal
from py4DSTEM.gui.state.project import Layer, Made, Project, Result, Scan
from py4DSTEM.stream.analysis import Analysis

__all__ = ["Part", "file_stem", "line", "parts", "script"]

_CALIBRATED = "calibrate-origin"
_TABLES = ("find-bragg-disks", "mask-peaks")


@dataclass(frozen=True)
class Part:
    """A few lines of code that belong together.

    Parameters
    ----------
    title, text : str
        What they do; more about it.
    code : str
    shows : tuple of str
        Variables that are worth looking at.
    """

    title: str
    code: str
    text: str = ""
    shows: tuple[str, ...] = ()


def script(project: Project, key: str) -> str:
    """A complete program that makes again what is shown of a scan, and all its results.

    Parameters
    ----------
    project : Project
    key : str
        Of the scan.

    Returns
    -------
    str
        Python; it reads the file of the scan and saves the results beside where it is run.

    Raises
    ------
    ParameterError
        The scan is only in memory: no program can open it.
    """
    head, *rest = parts(project, key)
    blocks = [f"# {part.title}\n{part.code}" for part in rest]
    return "\n\n".join([f'"""{head.title}"""\n\n{head.code}', *blocks]) + "\n"


def parts(project: Project, key: str) -> tuple[Part, ...]:
    """The same in parts; the first holds the imports."""
    return _Writer(project.get(key)).parts()


def file_stem(scan: Scan) -> str:
    """A name for files about a scan."""
    return re.sub(r"[^\w.-]+", "_", scan.name).strip("_.") or "scan"


@dataclass
class _Writer:
    """Writes one script, each thing before what is made of it."""

    scan: Scan
    imports: Imports = field(default_factory=Imports)
    _names: dict[str, str] = field(default_factory=dict)
    _cubes: dict[tuple[str, ...], str] = field(default_factory=dict)
    _layers: dict[str, list[str]] = field(default_factory=dict)
    _done: list[Part] = field(default_factory=list)
    _busy: set[str] = field(default_factory=set)
    _taken: set[str] = field(default_factory=lambda: {
        "py4DSTEM", "np", "base64", "zlib", "cube", "raw", "images", "image", "where", "pattern",
        "detectors", "weights",
    })  # fmt: skip

    def parts(self) -> tuple[Part, ...]:
        self._read()
        cube = self._cube(self.scan.enabled)
        self._images(cube)
        self._pattern(cube)
        for result in self.scan.results:
            self._result(result.name)
        self._save()
        # Names from files may hold anything, also what would end the text.
        name = self.scan.name.encode("ascii", "replace").decode().replace("\\", "/")
        name = name.replace('"', "'")
        title = f"{' '.join(name.split())}: made with py4DSTEM {py4DSTEM.__version__}."
        return (Part(title, self.imports.text()), *self._done)

    def _add(self, title: str, code: str, text: str = "", shows: tuple[str, ...] = ()) -> None:
        self._done.append(Part(title, code, text, shows))

    # ---- scan and calibrations -------------------------------------------------------------------
    def _read(self) -> None:
        name = "raw" if self.scan.enabled else "cube"
        self._cubes[()] = name
        self._add("The scan", f"{name} = {_read_call(self.scan, self.imports)}")

    def _cube(self, layers: tuple[str, ...]) -> str:
        """Name of the scan with these calibrations."""
        known = {layer.name for layer in self.scan.layers}
        wanted = tuple(name for name in layers if name in known and name not in self._busy)
        if wanted in self._cubes:
            return self._cubes[wanted]
        before = self._cube(wanted[:-1])
        layer = self.scan.layer(wanted[-1])
        calls = "".join(f".with_calibration({given})" for given in self._calibration(layer))
        name = "cube" if wanted == self.scan.enabled else self._new(f"cube {layer.name}")
        self._add(f"Calibration: {layer.name}", f"{name} = {before}{calls}")
        self._cubes[wanted] = name
        return name

    def _calibration(self, layer: Layer) -> list[str]:
        """Arguments of `with_calibration`, called once for what was measured, then for numbers."""
        if layer.name in self._layers:
            return self._layers[layer.name]
        self._busy.add(layer.name)
        if layer.made is None:
            given = [_known_line(layer, self.imports)]
        else:
            name, made = self._new(layer.name), layer.made
            if made.layers is None:
                made = made.replace(layers=self._before(layer.name))
            self._step(f"Measure: {layer.name}", name, made)
            given = [_told(made, name), _numbers(layer.changes, self.imports)]
        self._busy.discard(layer.name)
        self._layers[layer.name] = [text for text in given if text]
        return self._layers[layer.name]

    def _before(self, name: str) -> tuple[str, ...]:
        """The calibrations below that one."""
        names = [layer.name for layer in self.scan.layers]
        return tuple(n for n in names[: names.index(name)] if n in self.scan.enabled)

    # ---- what the two images show ----------------------------------------------------------------
    def _images(self, cube: str) -> None:
        scan = self.scan
        summed = scan.response == "com" or not scan.expression
        counting = [e for e in scan.detectors if e.shown or not summed]
        if not counting:
            return
        shapes = {entry.name: entry.shape for entry in counting}
        self._add("Detectors", f"detectors = {_table(shapes, self.imports)}")
        factors = {entry.name: entry.weight for entry in counting}
        if scan.response == "com":
            self._center_of_mass(cube, factors)
            return
        code = f"images = py4DSTEM.virtual_images({cube}, detectors)\n"
        expression = scan.expression or signed_sum(factors)
        if list(shapes) == [expression]:
            code += f"image = images[{expression!r}]"
        else:
            code += f"image = py4DSTEM.combine_images(images, {expression!r})"
        self._add("Virtual image", code, shows=("image",))

    def _center_of_mass(self, cube: str, factors: Mapping[str, float]) -> None:
        from py4DSTEM.core.expression import combined

        if list(factors.values()) == [1.0]:
            mask = f"detectors[{next(iter(factors))!r}]"
        else:
            each = f"d.weights({cube}.Q_shape, {cube}.calibration)"
            weights = f"{{name: {each} for name, d in detectors.items()}}"
            inner = call(self.imports.name(combined), [weights, literal(factors, self.imports)], {})
            mask = f"py4DSTEM.Mask({inner})"
        code = f"image = py4DSTEM.center_of_mass({cube}, {mask})"
        self._add("Centre of mass", code, shows=("image",))

    def _pattern(self, cube: str) -> None:
        from py4DSTEM.process.live.patterns import LivePattern

        scan = self.scan
        where = f"where = {literal(scan.selection, self.imports)}.mask({cube}.R_shape)"
        made = {
            "mean": f"py4DSTEM.mean_pattern({cube}, where=where)",
            "max": f"py4DSTEM.max_pattern({cube}, where=where)",
        }.get(scan.how)
        if made is None:
            made = f'{self.imports.name(LivePattern)}({cube}).selection(where, "sum")'
        code = f"{where}\npattern = {made}"
        self._add("Pattern of the selected positions", code, shows=("pattern",))

    # ---- results ---------------------------------------------------------------------------------
    def _result(self, name: str) -> str:
        """Name of the variable that holds a result."""
        if name in self._names:
            return self._names[name]
        result = self.scan.origin_of(name)
        variable = self._names[name] = self._new(name)
        if result.made is None:
            self._add(name, f"{variable} = None", "It was brought along; nothing here made it.")
        else:
            self._step(name, variable, result.made)
        return variable

    def _step(self, title: str, variable: str, made: Made) -> None:
        layers = self.scan.enabled if made.layers is None else made.layers
        if made.kind == "read":
            options = {n: literal(v, self.imports) for n, v in made.parameters.items()}
            self._add(title, f"{variable} = {call('py4DSTEM.read', [], options)}")
            return
        value = self._applied_to(made, layers) if made.of else self._cube(layers)
        uses = {name: self._result(of) for name, of in made.uses.items()}
        code = f"{variable} = {step_call(made, value, uses, self.imports)}"
        self._add(title, code, shows=(variable,))

    def _applied_to(self, made: Made, layers: tuple[str, ...]) -> str:
        """The result that a step is applied to; points come with the calibration of the step."""
        source = self.scan.origin_of(made.of)
        value = self._result(made.of)
        if not _is_table(source) or source.made is None or source.made.layers == layers:
            return value
        return f"{value}.with_calibration({self._cube(layers)}.calibration)"

    def _save(self) -> None:
        shown = {v for part in self._done for v in part.shows}
        kept = {name: v for name, v in self._names.items() if v in shown}
        kept |= {name: name for name in ("image",) if name in shown and name not in kept}
        if not kept:
            return
        target = f"{file_stem(self.scan)}_results.h5"
        table = ", ".join(f"{name!r}: {variable}" for name, variable in kept.items())
        self._add("Save", f"py4DSTEM.save({target!r}, {{{table}}})")

    def _new(self, wish: str) -> str:
        """A variable of its own for a name."""
        name = _identifier(wish)
        number = 1
        free = name
        while free in self._taken:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free


def step_call(made: Made, value: str, uses: Mapping[str, str], imports: Imports) -> str:
    """The call that does a step again, by the public function where there is one."""
    cls = all_steps().get(made.kind)
    if cls is None:
        raise ParameterError(
            f"the step {made.kind!r} is not known here: which package was it part of?"
        )
    given = {**_fields(cls, made, imports), **uses}
    chosen = {}
    if made.where is not None:
        chosen = {"where": f"{literal(made.where, imports)}.mask({value}.R_shape)"}
    function = getattr(py4DSTEM, made.kind.replace("-", "_"), None)
    if inspect.isfunction(function) and _takes(function, cls, {*given, *chosen}):
        return call(imports.name(function), [value], given | chosen)
    step = call(imports.name(cls), [], given)
    if issubclass(cls, Analysis):
        return f"{step}.apply({value})"
    return call("py4DSTEM.run", [step, value], chosen)


def _takes(function: Any, cls: Any, given: set[str]) -> bool:
    """Whether a function takes these parameters, and what is left out means the same to it."""
    known = dict(list(inspect.signature(function).parameters.items())[1:])
    any_more = any(p.kind is p.VAR_KEYWORD for p in known.values()) and "where" not in given
    same = all(
        info.is_required() or name not in known or known[name].default == info.get_default()
        for name, info in cls.model_fields.items()
    )
    return same and (any_more or given <= known.keys())


def _fields(cls: Any, made: Made, imports: Imports) -> dict[str, str]:
    """Parameters that are not the default, as text; without those that are other results."""
    given = {name: v for name, v in made.parameters.items() if name not in made.uses}
    step = cls(**given)
    texts = {}
    for name, info in cls.model_fields.items():
        if name not in given:
            continue
        value = getattr(step, name)
        plain = value if _writable(info) else made.parameters[name]
        if info.is_required() or given[name] != _plain_default(cls, name):
            texts[name] = literal(plain, imports)
    return texts


def _writable(info: Any) -> bool:
    """Whether the value itself has a text; of a probe only its facts have."""
    from py4DSTEM.stream.fields import leaves

    return all(leaf.kind != "object" for leaf in leaves(info.annotation, info.metadata))


def _plain_default(cls: Any, name: str) -> Any:
    """The default as `Described.parameters` gives it."""
    import json

    from pydantic_core import to_jsonable_python

    default = cls.model_fields[name].get_default(call_default_factory=True)
    return json.loads(json.dumps(to_jsonable_python(default, fallback=repr)))


def _is_table(result: Result) -> bool:
    if result.value is None:
        return result.made is not None and result.made.kind in _TABLES
    return isinstance(result.value, PointTable)


def _read_call(scan: Scan, imports: Imports) -> str:
    if scan.source.path is None:
        raise ParameterError(
            f"{scan.name!r} is only in memory, where no program finds it: save it to a file, and "
            "open that"
        )
    options = {name: literal(v, imports) for name, v in scan.source.options.items()}
    return call("py4DSTEM.read", [repr(scan.source.path)], options)


def _told(made: Made, name: str) -> str:
    """What a step tells a calibration: its result, or the calibration of what it gives back."""
    return f"origin_px={name}.calibration.origin_px" if made.kind == _CALIBRATED else name


def _known_line(layer: Layer, imports: Imports) -> str:
    """A calibration that no step made, as numbers."""
    if layer.value is None or hasattr(layer.value, "calibration_changes"):
        measured = {} if layer.value is None else layer.value.calibration_changes()
        return _numbers({**measured, **layer.changes}, imports)
    parts = (literal(layer.value, imports), _numbers(layer.changes, imports))
    return ", ".join(part for part in parts if part)


def _numbers(changes: Mapping[str, Any], imports: Imports) -> str:
    return ", ".join(f"{name}={literal(value, imports)}" for name, value in changes.items())


def _table(entries: Mapping[str, Any], imports: Imports) -> str:
    lines = "".join(f"{name!r}: {literal(v, imports)},\n" for name, v in entries.items())
    return f"{{\n{textwrap.indent(lines, '    ')}}}"


def _identifier(wish: str) -> str:
    """
    >>> _identifier("strain 2"), _identifier("2 beams"), _identifier("lambda"), _identifier("é!")
    ('strain_2', '_2_beams', 'lambda_', 'é')
    """
    name = re.sub(r"\W+", "_", wish).strip("_") or "value"
    name = f"_{name}" if name[0].isdigit() else name
    return f"{name}_" if keyword.iskeyword(name) or not name.isidentifier() else name


# ---- one line per act ----------------------------------------------------------------------------
def line(command: Command, project: Project) -> str:
    """One line of Python for an act; a comment where no line of Python does the same.

    Parameters
    ----------
    command : Command
    project : Project
        After the act.

    Examples
    --------
    >>> from py4DSTEM import Disk
    >>> from py4DSTEM.gui.state.commands import ChangeDetector
    >>> line(ChangeDetector(key="scan1", name="A", shape=Disk(4.0)), Project())
    "detectors['A'] = py4DSTEM.Disk(4.0)"
    """
    try:
        text = _line(command, Imports())
    except ParameterError:  # it has no text, as a scan from memory
        text = ""
    return " ".join(text.split("\n")) if text else f"# {command.label()}"


def _line(command: Command, imports: Imports) -> str:
    match command:
        case commands.AddScan(scan=scan):
            return f"cube = {_read_call(scan, imports)}"
        case commands.AddDetector(entry=entry):
            return f"detectors[{entry.name!r}] = {literal(entry.shape, imports)}"
        case commands.ChangeDetector(name=name, shape=shape):
            return f"detectors[{name!r}] = {literal(shape, imports)}"
        case commands.WeighDetector(name=name, weight=weight, shown=shown):
            return f"weights[{name!r}] = {weight if shown else 0.0!r}"
        case commands.RemoveDetector(name=name):
            return f"del detectors[{name!r}]"
        case commands.SetDetectors(detectors=entries):
            return f"detectors = {literal({e.name: e.shape for e in entries}, imports)}"
        case commands.SetExpression(expression=text) if text:
            return f"image = py4DSTEM.combine_images(images, {text!r})"
        case commands.Select(selection=selection):
            return f"where = {literal(selection, imports)}.mask(cube.R_shape)"
        case commands.AddLayer(layer=layer):
            return _layer_line(layer, imports)
        case commands.AddResult(result=result) if result.made is not None:
            return f"{_identifier(result.name)} = {_made_line(result.made, imports)}"
        case commands.RemoveResult(name=name):
            return f"del {_identifier(name)}"
        case commands.RenameResult(name=name, to=to):
            return f"{_identifier(to)} = {_identifier(name)}"
        case _:
            return ""


def _layer_line(layer: Layer, imports: Imports) -> str:
    if layer.made is not None:
        given = _told(layer.made, _made_line(layer.made, imports))
        return f"cube = cube.with_calibration({given})"
    return f"cube = cube.with_calibration({_known_line(layer, imports)})"


def _made_line(made: Made, imports: Imports) -> str:
    if made.kind == "read":
        return call(
            "py4DSTEM.read", [], {n: literal(v, imports) for n, v in made.parameters.items()}
        )
    uses = {name: _identifier(of) for name, of in made.uses.items()}
    return step_call(made, _identifier(made.of) if made.of else "cube", uses, imports)
