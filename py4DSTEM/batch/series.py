"""Several files as one experiment: what changes from file to file, stacks along it, and trends."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.batch.summary import FileSummary, csv_text
from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.slices import ArrayResult, Slice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.report.page import Figure, Section, Table, Text
from py4DSTEM.report.quantities import QUANTITIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

__all__ = ["Series", "Trends", "stacked"]

Float = NDArray[np.float64]
_SAME = 1e-6
_MOST_PANELS = 12


@dataclass(frozen=True, eq=False)
class Series:
    """What changes from file to file, sorted by the first parameter.

    Parameters
    ----------
    files : tuple of str
        Paths, or names of files alone.
    parameters : mapping of str to (n,) float64
        Name → value for every file.
    units : mapping of str to str
        "" where there is none.

    Examples
    --------
    >>> series = Series.from_mapping({"b.h5": 20.0, "a.h5": 10.0}, "tilt", "deg")
    >>> series.files, series.parameters["tilt"].tolist()
    (('a.h5', 'b.h5'), [10.0, 20.0])
    """

    files: tuple[str, ...]
    parameters: Mapping[str, Float]
    units: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.files or not self.parameters:
            raise ParameterError("a series needs at least one file and one parameter")
        twice = sorted({file for file in self.files if self.files.count(file) > 1})
        if twice:
            raise ParameterError(f"a series names each file once; twice there are {twice}")
        values = {name: np.asarray(v, np.float64) for name, v in self.parameters.items()}
        for name, array in values.items():
            if array.shape != (len(self.files),) or not np.isfinite(array).all():
                raise ParameterError(
                    f"the parameter {name!r} needs one finite number for each of "
                    f"{len(self.files)} files, not {array.tolist()}"
                )
        order = np.argsort(next(iter(values.values())), kind="stable")
        object.__setattr__(self, "files", tuple(self.files[k] for k in order))
        object.__setattr__(self, "parameters", {n: v[order] for n, v in values.items()})

    @classmethod
    def from_mapping(
        cls, table: Mapping[str, float | Mapping[str, float]], name: str = "value", unit: str = ""
    ) -> Series:
        """From file → value, or file → name → value.

        Parameters
        ----------
        table : mapping
        name, unit : str
            Of the parameter, where there is one.

        Raises
        ------
        ParameterError
            Files have different parameters, or values that are no numbers.
        """
        rows = {str(f): dict(v) if isinstance(v, Mapping) else {name: v} for f, v in table.items()}
        names = tuple(next(iter(rows.values()), {}))
        for file, row in rows.items():
            if set(row) != set(names):
                raise ParameterError(
                    f"{file!r} has the parameters {sorted(row)}, others {sorted(names)}"
                )
        columns = {n: np.array([_number(row[n], f, n) for f, row in rows.items()]) for n in names}
        return cls(tuple(rows), columns, dict.fromkeys(names, "") | ({name: unit} if unit else {}))

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> Series:
        """From a table with a head: ``file`` first, then parameters, as ``tilt (deg)``.

        Parameters
        ----------
        path : path
            CSV, UTF-8.

        Raises
        ------
        ParameterError
            With the line and what is wrong there.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"the series {path} cannot be read: {error}") from error
        lines = list(csv.reader(io.StringIO(text), skipinitialspace=True))
        if not lines or len(lines[0]) < 2 or lines[0][0].strip().lower() != "file":
            raise ParameterError(f"{path}:1: the head of a series is file,<parameter (unit)>,…")
        heads = [_named(head) for head in lines[0][1:]]
        rows: dict[str, dict[str, float]] = {}
        for number, line in enumerate(lines[1:], start=2):
            if any(cell.strip() for cell in line):
                _add_line(rows, f"{path}:{number}", line, [name for name, _ in heads])
        found = cls.from_mapping(rows)
        return replace(found, units=dict(heads))

    # ---- files -----------------------------------------------------------------------------------
    def places(self, sources: Sequence[str]) -> dict[str, int]:
        """Input → which file of the series it is; inputs that are none are left out.

        A file that is named with folders must be there; a bare name, with or without its ending, is
        found in any folder.

        Raises
        ------
        ParameterError
            Two inputs would be the same file of the series.
        """
        found: dict[str, int] = {}
        for source in sources:
            place = next((k for k, f in enumerate(self.files) if _is_named(source, f)), None)
            if place is None:
                continue
            if place in found.values():
                raise ParameterError(
                    f"two inputs are {self.files[place]!r} of the series: name it with its folder"
                )
            found[source] = place
        return found

    def stacked(self, run: RunDirectory, result: str) -> Any:
        """A result of all files, stacked along the first parameter.

        Parameters
        ----------
        run : RunDirectory
        result : str
            Name of the step.

        Returns
        -------
        RealSlice, DiffractionSlice, ArrayResult or dict of them
            As `stacked`; files that have no such result are left out.

        Raises
        ------
        ParameterError
            No file has it.
        ShapeError
            Shapes or pixel sizes differ.
        """
        values: dict[int, Any] = {}
        rows = {row.source: row for row in run.files()}
        for source, place in self.places(list(rows)).items():
            results = run.results(rows[source])
            if result in results:
                values[place] = results[result]
        if not values:
            raise ParameterError(f"no file of the series has a result {result!r}")
        name = next(iter(self.parameters))
        kept = sorted(values)
        return stacked(
            [values[k] for k in kept],
            self.parameters[name][kept],
            axis=(name, self.units.get(name, "")),
            files=[self.files[k] for k in kept],
        )

    def trends(self, found: Sequence[FileSummary]) -> Trends:
        """Every number of the results against the parameters.

        Parameters
        ----------
        found : sequence of FileSummary
            Inputs that are not in the series are left out.
        """
        inputs = {summary.row.source: summary for summary in found}
        at = {place: inputs[source] for source, place in self.places(list(inputs)).items()}
        names = dict.fromkeys(name for k in sorted(at) for name in at[k].numbers)
        columns = {name: np.full(len(self.files), np.nan) for name in names}
        for k, summary in at.items():
            for name, value in summary.numbers.items():
                columns[name][k] = math.nan if value is None else value
        states = tuple(at[k].row.state if k in at else "no input" for k in range(len(self.files)))
        return Trends(self, columns, states)


@dataclass(frozen=True, eq=False)
class Trends:
    """Numbers of the results of a series.

    Parameters
    ----------
    series : Series
    columns : mapping of str to (n,) float64
        ``"step.quantity"`` → value for every file; NaN where there is none.
    states : tuple of str
        Of the files.
    """

    series: Series
    columns: Mapping[str, Float]
    states: tuple[str, ...]

    @cached_property
    def parameter(self) -> tuple[str, str, Float]:
        """Name, unit and values of what the series is sorted by."""
        name, values = next(iter(self.series.parameters.items()))
        return name, self.series.units.get(name, ""), values

    def slope(self, column: str) -> tuple[float, float]:
        """Change of a number per unit of the parameter, and its one-sigma uncertainty.

        A straight line by least squares; the uncertainty is from the scatter about it.  NaN where
        there are too few different values.
        """
        x, y = self.parameter[2], self.columns[column]
        known = np.isfinite(y)
        x, y = x[known], y[known]
        if len(set(x.tolist())) < 2:
            return math.nan, math.nan
        from_mean = x - x.mean()
        square = float(from_mean @ from_mean)
        slope = float(from_mean @ y) / square
        if len(x) < 3:
            return slope, math.nan
        left = y - y.mean() - slope * from_mean
        return slope, math.sqrt(float(left @ left) / (len(x) - 2) / square)

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """Columns worth a plot: quantities of the table that change."""
        return tuple(
            name
            for name, values in self.columns.items()
            if name.rpartition(".")[2] in QUANTITIES and len(set(values[np.isfinite(values)])) > 1
        )

    def csv(self) -> str:
        """A row per file: parameters, state, all numbers."""
        head = ["file", *map(self._headed, self.series.parameters), "state", *self.columns]
        rows = (
            [file, *(float(v[k]) for v in self.series.parameters.values()), self.states[k],
             *(None if np.isnan(v[k]) else float(v[k]) for v in self.columns.values())]
            for k, file in enumerate(self.series.files)
        )  # fmt: skip
        return csv_text(head, rows)

    def _headed(self, name: str) -> str:
        unit = self.series.units.get(name, "")
        return f"{name} ({unit})" if unit else name

    def figure(self) -> MatplotlibFigure:
        """Up to twelve numbers against the parameter."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas

        names = self.shown[:_MOST_PANELS]
        across = min(3, max(1, len(names)))
        down = math.ceil(max(1, len(names)) / across)
        figure = Canvas(figsize=(3.6 * across, 2.5 * down), layout="constrained")
        FigureCanvasAgg(figure)
        places = np.ravel(figure.subplots(down, across, squeeze=False))
        name, _, x = self.parameter
        for ax, column in zip(places, names, strict=False):
            ax.plot(x, self.columns[column], "o-", markersize=4)
            ax.set_title(column, fontsize="small", parse_math=False)
            ax.set_xlabel(self._headed(name), parse_math=False)
        for spare in places[len(names) :]:
            spare.remove()
        return figure

    def section(self) -> Section:
        """Trends for the report: plots, and a table of slopes."""
        name, unit, x = self.parameter
        about = f"{len(x)} files from {x[0]:g} to {x[-1]:g} {unit}".rstrip() + f" ({name})."
        if not self.shown:
            return Section("Series", (Text(f"{about} No number of a result changes."),))
        rows = [
            (column, *self._range(column), *_pair(*self.slope(column))) for column in self.shown
        ]
        per = f"change per {unit or name}"
        table = Table(("number", "least", "most", per, "±"), rows)
        return Section("Series", (Text(about), Figure.of(self.figure(), f"Against {name}"), table))

    def _range(self, column: str) -> tuple[float, float]:
        values = self.columns[column]
        return float(np.nanmin(values)), float(np.nanmax(values))


def _pair(slope: float, sigma: float) -> tuple[float | str, float | str]:
    return slope, "" if math.isnan(sigma) else sigma


# ---- stacks --------------------------------------------------------------------------------------
def stacked(
    values: Sequence[Any],
    parameter: Sequence[float] | Float,
    *,
    axis: tuple[str, str] = ("value", ""),
    files: Sequence[str] = (),
) -> Any:
    """Results of one kind as one result, along a parameter.

    Parameters
    ----------
    values : sequence of result
        Images, stacks of images, strain maps, or arrays; all of one shape.
    parameter : (n,) float64
    axis : (str, str)
        Name and unit of the parameter.
    files : sequence of str
        Where they come from, for messages and the history.

    Returns
    -------
    RealSlice, DiffractionSlice, ArrayResult or dict of them
        Of images a stack, labelled ``"tilt = 3 deg"``; of stacks and strain maps one such stack per
        label; of arrays an array with the parameter as the first axis (numbered, if the values are
        not evenly spaced).

    Raises
    ------
    ParameterError
        Results of this kind cannot be stacked.
    ShapeError
        Shapes, labels or pixel sizes differ.

    Examples
    --------
    >>> from py4DSTEM import RealSlice
    >>> images = [RealSlice(np.full((2, 3), k)) for k in (1, 2)]
    >>> stacked(images, [10, 20], axis=("tilt", "deg")).labels
    ('tilt = 10 deg', 'tilt = 20 deg')
    """
    if not len(values) or len(values) != len(parameter):
        raise ParameterError(f"{len(values)} results for {len(parameter)} values of a parameter")
    parts = [value.to_slice() if hasattr(value, "to_slice") else value for value in values]
    names = tuple(files) or tuple(f"number {k}" for k in range(len(parts)))
    _check_alike(parts, names)
    steps = np.asarray(parameter, np.float64)
    made = {"parameter": axis[0], "unit": axis[1], "values": steps.tolist(), "files": list(names)}
    if isinstance(parts[0], ArrayResult):
        return _array_stack(parts, steps, axis, made)
    if parts[0].data.ndim == 2:
        return _image_stack(parts, steps, axis, made)
    return {label: _image_stack([part[label] for part in parts], steps, axis, made)
            for label in parts[0].labels}  # fmt: skip


def _check_alike(parts: Sequence[Any], names: Sequence[str]) -> None:
    first = parts[0]
    if not isinstance(first, Slice | ArrayResult):
        raise ParameterError(
            f"a {type(first).__name__} cannot be stacked: images, strain maps and arrays can; its "
            "numbers are in the trends"
        )
    for part, name in zip(parts, names, strict=True):
        if type(part) is not type(first):
            raise ShapeError(f"{name} has a {type(part).__name__}, {names[0]} a "
                             f"{type(first).__name__}")  # fmt: skip
        same_labels = getattr(part, "labels", ()) == getattr(first, "labels", ())
        if part.data.shape != first.data.shape or not same_labels:
            raise ShapeError(f"{name} has the shape {part.data.shape}, {names[0]} "
                             f"{first.data.shape}: crop or bin them alike, then stack")  # fmt: skip
        if not all(map(_same_axis, part.axes, first.axes)):
            raise ShapeError(f"{name} has other pixel sizes than {names[0]}: {part.axes} and "
                             f"{first.axes}")  # fmt: skip


def _same_axis(a: Axis, b: Axis) -> bool:
    return a.unit == b.unit and math.isclose(a.step, b.step, rel_tol=_SAME)


def _image_stack(
    parts: Sequence[Slice], steps: Float, axis: tuple[str, str], made: dict[str, Any]
) -> Slice:
    first = parts[0]
    known = first.calibration
    same = all(part.calibration == known for part in parts)
    return replace(
        first,
        data=np.stack([part.data for part in parts]),
        labels=_labels(steps, axis),
        calibration=known if same else Calibration(R=known.R, Q=known.Q),
        history=first.history.then("series", made),
    )


def _labels(steps: Float, axis: tuple[str, str]) -> tuple[str, ...]:
    """One per image, each different, so that each can be asked for."""
    words = [f"{axis[0]} = {step:g} {axis[1]}".rstrip() for step in steps]
    twice = {word for word in words if words.count(word) > 1}
    return tuple(f"{w} (no. {k})" if w in twice else w for k, w in enumerate(words))


def _array_stack(
    parts: Sequence[ArrayResult], steps: Float, axis: tuple[str, str], made: dict[str, Any]
) -> ArrayResult:
    first = parts[0]
    gaps = np.diff(steps)
    even = len(gaps) > 0 and gaps[0] > 0 and np.allclose(gaps, gaps[0], rtol=_SAME, atol=0)
    along = Axis(axis[0], float(gaps[0]), float(steps[0]), axis[1]) if even else Axis("number")
    return replace(
        first,
        data=np.stack([np.asarray(part.data) for part in parts]),
        axes=(along, *first.axes),
        history=first.history.then("series", made),
    )


def _is_named(source: str, file: str) -> bool:
    plain = source.replace(os.sep, "/").rstrip("/")
    wanted = file.replace(os.sep, "/").rstrip("/").removeprefix("./")
    if "/" in wanted:
        return plain == wanted or plain.endswith(f"/{wanted}")
    name = plain.rpartition("/")[2]
    return wanted in (name, os.path.splitext(name)[0])


# ---- tables --------------------------------------------------------------------------------------
def _named(head: str) -> tuple[str, str]:
    """``"tilt (deg)"`` → ``("tilt", "deg")``."""
    match = re.fullmatch(r"\s*(.+?)\s*(?:[(\[]([^)\]]*)[)\]])?\s*", head)
    return (match[1], (match[2] or "").strip()) if match else (head.strip(), "")


def _add_line(
    rows: dict[str, dict[str, float]], where: str, line: Sequence[str], names: Sequence[str]
) -> None:
    if len(line) != len(names) + 1:
        raise ParameterError(f"{where}: {len(line)} cells, the head has {len(names) + 1}")
    file = line[0].strip()
    if not file or file in rows:
        raise ParameterError(f"{where}: {'a file is named twice' if file else 'no file'}: {file!r}")
    cells = zip(names, line[1:], strict=True)
    rows[file] = {name: _number(cell.strip(), where, name) for name, cell in cells}


def _number(value: Any, where: str, name: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if isinstance(value, bool) or not math.isfinite(found):
        raise ParameterError(f"{where}: {name} must be a number, not {value!r}")
    return found
