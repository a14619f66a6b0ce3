"""Doing what a recipe says to one scan."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from py4DSTEM.api import DataCube, read
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, Py4DSTEMError
from py4DSTEM.io.remote import is_url
from py4DSTEM.recipe.model import (
    CALIBRATION,
    READ,
    Recipe,
    RecipeStep,
    RecipeUnits,
    Where,
    all_steps,
    takes_where,
)
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation
from py4DSTEM.stream.options import RunOptions

__all__ = ["RECIPE", "Execution", "Stage", "open_input", "plan"]

RECIPE = "recipe"
"""Where the history of a result keeps the text of the recipe, beside the source."""


@dataclass(frozen=True)
class Stage:
    """Steps that are done together.

    Parameters
    ----------
    steps : tuple of RecipeStep
        Several are operations that share one pass over the scan; otherwise one.
    is_pass : bool
        Whether they are operations on the scan.
    """

    steps: tuple[RecipeStep, ...]
    is_pass: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the results."""
        return tuple(step.name for step in self.steps)

    @property
    def states(self) -> bool:
        """Whether it computes nothing: numbers that are given, files that are opened."""
        return self.steps[0].use in (CALIBRATION, READ)


def plan(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages of a recipe: steps in an order in which each has what it needs.

    Parameters
    ----------
    recipe : Recipe

    Returns
    -------
    tuple of Stage
        Operations share a pass over the scan where nothing between them changes the calibration.

    Examples
    --------
    >>> steps = [RecipeStep(use=u, name=u) for u in ("mean-pattern", "measure-probe", "quality")]
    >>> [stage.names for stage in plan(Recipe(step=steps))]
    [('mean-pattern', 'quality'), ('measure-probe',)]
    """
    stages: list[Stage] = []
    made: dict[str, int] = {}
    calibrated = -1
    for step in recipe.step:
        operation = _is_operation(step) and not step.of
        after = max((calibrated, *(made.get(name, -1) for name in step.needs)))
        shared = (k for k in range(after + 1, len(stages)) if _shares(step, stages[k]))
        place = next(shared, None) if operation else None
        if place is None:
            place = len(stages)
            stages.append(Stage((step,), operation))
        else:
            stages[place] = Stage((*stages[place].steps, step), True)
        made[step.name] = place
        if step.calibrates or step.use == CALIBRATION:
            calibrated = len(stages) - 1
    return tuple(stages)


def _is_operation(step: RecipeStep) -> bool:
    return takes_where(all_steps().get(step.use))


def _shares(step: RecipeStep, stage: Stage) -> bool:
    """Whether an operation can be done in the pass of others: over the same positions."""
    return stage.is_pass and stage.steps[0].where == step.where


# ---- input ---------------------------------------------------------------------------------------
def open_input(recipe: Recipe, path: str | os.PathLike[str] | None = None) -> DataCube:
    """The scan of a file as a recipe reads it; nothing but headers is read.

    Parameters
    ----------
    recipe : Recipe
        As `Recipe.for_file` gave it.
    path : path, optional
        None: the file that the recipe names.

    Returns
    -------
    DataCube
        With the calibration of ``[input.units]`` where the file has none.

    Raises
    ------
    FormatError
        The file cannot be read.
    ParameterError
        There is no file, or it holds no scan.
    """
    path = recipe.input.file if path is None else path
    if path is None:
        raise ParameterError("the recipe names no file ([input] file): give one")
    found = read(path, **recipe.input.read_options())
    cube = _the_scan(found, path)
    return cube.with_calibration(_completed(cube.calibration, recipe.input.units))


def _the_scan(found: Any, path: str | os.PathLike[str]) -> DataCube:
    if isinstance(found, DataCube):
        return found
    scans = (
        {name: value for name, value in found.items() if isinstance(value, DataCube)}
        if isinstance(found, Mapping)
        else {}
    )
    if len(scans) == 1:
        return next(iter(scans.values()))
    if scans:
        names = ", ".join(map(repr, scans))
        raise ParameterError(f"{path} holds several scans: name one, [input] dataset = … ({names})")
    hint = ""
    if len(getattr(found, "shape", ())) == 3:
        hint = "; of a stream of patterns, say [input] scan_shape = [rows, columns]"
    raise ParameterError(f"{path} holds no 4D scan but a {type(found).__name__}{hint}")


def _completed(known: Calibration, units: RecipeUnits) -> Calibration:
    """`known`, and what it lacks from the recipe."""
    changes: dict[str, Any] = {}
    if units.real is not None and not known.R[0].calibrated:
        changes |= {"R_pixel_size": units.real[0], "R_pixel_units": units.real[1]}
    if units.recip is not None and not known.Q[0].calibrated:
        changes |= {"Q_pixel_size": units.recip[0], "Q_pixel_units": units.recip[1]}
    if units.voltage_kv is not None and known.energy_eV is None:
        changes["energy_eV"] = units.voltage_kv * 1e3
    if units.semiangle_mrad is not None and known.semiangle_mrad is None:
        changes["semiangle_mrad"] = units.semiangle_mrad
    return known.replace(**changes)


# ---- steps ---------------------------------------------------------------------------------------
@dataclass
class Execution:
    """The steps of a recipe on one scan, done stage by stage.

    Parameters
    ----------
    recipe : Recipe
        As `Recipe.for_file` gave it.
    cube : DataCube
        As `open_input` gave it; its calibration changes as steps with ``calibrates`` are done.

    Attributes
    ----------
    values : dict
        Results so far, by the names of their steps.
    besides : tuple
        Results of what the latest pass made besides its steps.

    Examples
    --------
    >>> import numpy as np, py4DSTEM
    >>> cube = py4DSTEM.DataCube(np.arange(120.0).reshape(2, 3, 4, 5))
    >>> execution = Execution(Recipe(step=(RecipeStep(use="mean-pattern", name="mean"),)), cube)
    >>> execution.run_all()["mean"].shape
    (4, 5)
    """

    recipe: Recipe
    cube: DataCube
    values: dict[str, Any] = field(default_factory=dict)
    besides: tuple[Any, ...] = ()
    _foreign: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        source = {**self.cube.history.source, RECIPE: self.recipe.text()}
        self.cube = replace(self.cube, history=replace(self.cube.history, source=source))

    def run(
        self,
        stage: Stage,
        options: RunOptions | None = None,
        besides: Sequence[Operation] = (),
    ) -> dict[str, Any]:
        """The results of a stage, by name; they are added to `values`.

        `besides` are operations that a pass over the scan does too; they end in ``.besides``.

        Raises
        ------
        Py4DSTEMError
            With a note that names the step.
        """
        if stage.is_pass:
            models = [_noted(step, self.model, step) for step in stage.steps]
            where = _noted(stage.steps[0], positions, stage.steps[0].where, self.cube.R_shape)
            whole = _noted(
                stage.steps[0], run, [*models, *besides], self.cube, where=where, options=options
            )
            found, self.besides = whole[: len(models)], whole[len(models) :]
        else:
            found = (_noted(stage.steps[0], self._single, stage.steps[0], options),)
        made = dict(zip(stage.names, found, strict=True))
        for step in stage.steps:
            _noted(step, self.restore, step, made[step.name])
        return made

    def run_all(self, options: RunOptions | None = None) -> dict[str, Any]:
        """Every stage; `values`."""
        for stage in plan(self.recipe):
            self.run(stage, options)
        return self.values

    def restore(self, step: RecipeStep, value: Any) -> None:
        """Take the result of a step as done: as it was made now, or in an earlier run."""
        if step.use == READ or step.of in self._foreign:
            self._foreign.add(step.name)
        self.values[step.name] = value
        if step.calibrates or step.use == CALIBRATION:
            self.cube = self.cube.with_calibration(_measured(value))

    def model(self, step: RecipeStep) -> Any:
        """The operation or analysis of a step, with the results and the files that it uses."""
        results = {name: self._value(of) for name, of in step.uses.items()}
        written = {n: self._written(v) for n, v in step.parameters.items() if isinstance(v, dict)}
        return step.model(**written, **results)

    def _single(self, step: RecipeStep, options: RunOptions | None) -> Any:
        if step.use == CALIBRATION:
            return self.cube.calibration.replace(**step.parameters)
        if step.use == READ:
            return _opened(step.parameters)
        model, value = self.model(step), self._applied_to(step)
        if isinstance(model, Operation):
            where = positions(step.where, value.R_shape) if isinstance(value, Cube) else None
            return run(model, value, where=where, options=options)
        return model.apply(value, options)

    def _value(self, name: str) -> Any:
        """A result by its name; "stack/label" is one image of several."""
        if name in self.values:
            return self.values[name]
        stack, _, label = name.rpartition("/")
        if stack in self.values and hasattr(self.values[stack], "__getitem__"):
            return self.values[stack][label]
        raise ParameterError(f"no step before it makes {name!r}")

    def _applied_to(self, step: RecipeStep) -> Any:
        """What the step is done to, with what has been measured until now.

        Peaks that were found in the scan are raw positions and take its calibration; a pattern of
        a standard, from another file, the distortion alone: that is one of the microscope.
        """
        if not step.of:
            return self.cube
        value = self._value(step.of)
        if step.of in self._foreign:
            if not isinstance(value, DiffractionSlice) or value.calibration.ellipse is not None:
                return value
            return value.with_calibration(ellipse=self.cube.calibration.ellipse)
        mean = isinstance(value, DiffractionSlice) and value.shape == self.cube.Q_shape
        if isinstance(value, PointTable) or (mean and step.calibrates):
            return value.with_calibration(self.cube.calibration)
        return value

    def _written(self, value: dict[str, Any]) -> Any:
        """Files, and rectangles of scan positions, that stand for arrays."""
        if value.keys() == {"file"}:
            return _opened(value)
        if value.keys() == {"rect"}:
            return rectangle(value["rect"], self.cube.R_shape)
        return value


def rectangle(rect: Any, R_shape: tuple[int, int]) -> Any:
    """``[x0, x1, y0, y1]`` of the scan as an ``(Rx, Ry)`` map of bool; the ends are left out.

    >>> rectangle([0, 1, 1, 3], (2, 3)).astype(int).tolist()
    [[0, 1, 1], [0, 0, 0]]
    """
    x0, x1, y0, y1 = rect
    if not (0 <= x0 < x1 <= R_shape[0] and 0 <= y0 < y1 <= R_shape[1]):
        raise ParameterError(
            f"rect = {list(rect)} is no part of a scan of {R_shape}: it is [first row, end row, "
            "first column, end column]"
        )
    mask = np.zeros(R_shape, dtype=bool)
    mask[x0:x1, y0:y1] = True
    return mask


def positions(where: Any, R_shape: tuple[int, int]) -> Any:
    """The scan positions of a step as an ``(Rx, Ry)`` map; None: all.

    >>> positions({"kind": "point", "rx": 0, "ry": 2}, (2, 3)).astype(int).tolist()
    [[0, 0, 1], [0, 0, 0]]
    """
    if where is None:
        return None
    if not isinstance(where, Mapping):
        raise ParameterError(f"where = {where!r} is no table: it says which positions count")
    if where.keys() == {"file"}:
        return _opened(where)
    if where.keys() == {"rect"}:
        return rectangle(where["rect"], R_shape)
    selection = Where(where=where).where
    mask = None if selection is None else selection.mask(R_shape)
    # A selection that is dragged off the image keeps its nearest position; one that is written
    # for another scan is a mistake.
    if selection is not None and not selection.inside(*np.indices(R_shape, dtype=np.float64)).any():
        raise ParameterError(f"where = {where} holds no position of a scan of {R_shape}")
    return mask


def _measured(value: Any) -> Any:
    """What `with_calibration` takes."""
    if isinstance(value, Cube | PointTable):
        return value.calibration
    return value


def _opened(parameters: Mapping[str, Any]) -> Any:
    """The one object of a file; ``.npy`` is an array."""
    options = dict(parameters)
    path = str(options.pop("file"))
    if Path(path).suffix.lower() == ".npy" and not is_url(path):
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ParameterError(f"{path} cannot be read: {error}") from error
    found = read(path, **options)
    if not isinstance(found, dict):
        return found
    if len(found) != 1:
        names = ", ".join(map(repr, found))
        raise ParameterError(f"{path} holds several objects: say dataset = … ({names})")
    return next(iter(found.values()))


def _noted(step: RecipeStep, call: Any, *args: Any, **kwargs: Any) -> Any:
    """Errors of a step say which one it was."""
    try:
        return call(*args, **kwargs)
    except Py4DSTEMError as error:
        error.add_note(f"in step {step.name!r} (use = {step.use!r})")
        raise
