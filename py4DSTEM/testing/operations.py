"""Conformance of operations: what every one of them promises, tested by being registered.

A package that adds an operation tests it with three lines::

    from py4DSTEM.testing.operations import check_operation
    for example in MyOperation.examples():
        check_operation(example)

An operation whose parameters all have defaults needs no ``examples``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.core.lazy import BlockArray
from py4DSTEM.errors import ParameterError, Py4DSTEMError
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation, PerScan
from py4DSTEM.stream.options import RunOptions

__all__ = [
    "CHECKS",
    "DTYPES",
    "arrays_of",
    "check_operation",
    "examples",
    "tiny_cube",
]

SHAPE = (5, 4, 18, 21)
"""Asymmetric, so that no axis can be taken for another."""
DTYPES = ("?", "u1", "u2", "<i4", ">u2", "f4", "f8")
ORIGIN = (8.3, 10.6)


# ---- data ----------------------------------------------------------------------------------------
class _Chunked(BlockArray):
    """Patterns that are only to be had block by block, in chunks, read-only."""

    def __init__(self, array: NDArray[Any], chunks: tuple[int, int] = (1, 3)) -> None:
        self._array, self._chunks = array, chunks

    @property
    def shape(self) -> tuple[int, int, int, int]:
        a, b, c, d = self._array.shape
        return a, b, c, d

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        return (*self._chunks, *self.shape[2:])

    def read_block(self, rx: slice, ry: slice) -> NDArray[Any]:
        block = self._array[rx, ry].reshape(-1, *self.shape[2:])
        block.flags.writeable = False
        return block


def tiny_cube(dtype: str = "u2", seed: int = 0) -> Cube:
    """A scan of noisy, wandering disks with a complete calibration; its data cannot be written."""
    rng = np.random.default_rng(seed)
    i, j = np.indices(SHAPE[2:])
    data = np.empty(SHAPE)
    for x, y in np.ndindex(SHAPE[:2]):
        r = np.hypot(i - ORIGIN[0] - 0.2 * x, j - ORIGIN[1] + 0.1 * y)
        data[x, y] = rng.poisson(3 + (40 + 5 * x + 3 * y) * np.clip(5.5 - r, 0, 1))
    kind = np.dtype(dtype)
    array = (data > 20) if kind.kind == "b" else data.astype(kind)
    array.flags.writeable = False
    x, y = np.indices(SHAPE[:2])
    origins = np.stack([ORIGIN[0] + 0.2 * x, ORIGIN[1] - 0.1 * y], axis=-1)
    calibration = Calibration(origin_px=origins).replace(
        R_pixel_size=2.0, R_pixel_units="A", Q_pixel_size=0.02, Q_pixel_units="A^-1",
        energy_eV=200e3, semiangle_mrad=2.5, rotation_rad=0.1, flip=False, probe_radius_px=5.0,
    )  # fmt: skip
    return Cube(array, calibration, "tiny")


def examples(operation: type[Operation]) -> list[Operation]:
    """Instances to test: ``operation.examples()``, or one with default parameters, or none."""
    given: Callable[[], Any] | None = getattr(operation, "examples", None)
    if given is not None:
        return list(given())
    try:
        return [operation()]
    except ParameterError:
        return []


# ---- comparison ----------------------------------------------------------------------------------
def arrays_of(result: Any, name: str = "result") -> Iterator[tuple[str, NDArray[Any]]]:
    """All arrays and numbers in a result, with their place in it; histories left out."""
    if isinstance(result, np.ndarray | np.generic | bool | int | float | complex):
        yield name, np.asarray(result)
    elif isinstance(result, History | Calibration) or result is None:
        return
    elif is_dataclass(result):
        for f in fields(result):
            yield from arrays_of(getattr(result, f.name), f"{name}.{f.name}")
    elif isinstance(result, Mapping):
        for key in result:
            yield from arrays_of(result[key], f"{name}[{key!r}]")
    elif isinstance(result, tuple | list):
        for k, item in enumerate(result):
            yield from arrays_of(item, f"{name}[{k}]")


def _bits(result: Any) -> dict[str, tuple[Any, ...]]:
    return {n: (a.shape, a.dtype.str, a.tobytes()) for n, a in arrays_of(result)}


def _demand(condition: object, operation: Operation, message: str) -> None:
    if not condition:
        raise AssertionError(f"{operation.kind}: {message}")


def _same(operation: Operation, a: Any, b: Any, what: str) -> None:
    first, second = _bits(a), _bits(b)
    _demand(first.keys() == second.keys(), operation, f"{what}: other arrays in the result")
    different = [name for name in first if first[name] != second[name]]
    _demand(not different, operation, f"{what}: {', '.join(different)} differ")


def _many_tiles(cube: Cube, workers: int = 1) -> RunOptions:
    """Options that cut the tiny scan into many tiles, the same for any number of workers."""
    pattern = int(np.prod(cube.Q_shape)) * cube.dtype.itemsize
    return RunOptions(workers=workers, memory=pattern * 16)


# ---- the promises --------------------------------------------------------------------------------
def check_parameters(operation: Operation) -> None:
    """Parameters survive JSON, unknown ones are refused, and the values are frozen."""
    plain = json.loads(json.dumps(operation.parameters()))
    again = type(operation)(**plain)
    _demand(again.parameters() == operation.parameters(), operation, "JSON changes parameters")
    try:
        type(operation)(**plain, no_such_parameter=1)
    except ParameterError as error:
        _demand("no_such_parameter" in str(error), operation, "the error does not name the key")
    else:
        _demand(False, operation, "an unknown parameter is accepted")
    for name in type(operation).model_fields:
        try:
            setattr(operation, name, None)
        except (ValueError, TypeError):
            continue
        _demand(False, operation, f"{name} can be changed")


def check_described(operation: Operation) -> None:
    """Kind, version, outputs and a first line of help are there."""
    cls = type(operation)
    _demand(cls.kind == cls.kind.lower() and cls.kind, operation, "kind must be lower case")
    _demand(cls.version >= 1, operation, "version must be at least 1")
    _demand(cls.outputs, operation, "no outputs are declared")
    summary = (cls.__doc__ or "").strip().splitlines()
    _demand(summary and summary[0].endswith("."), operation, "no docstring that begins a sentence")


def check_dtypes(operation: Operation) -> None:
    """Works on every dtype without changing the data (which are read-only)."""
    for dtype in DTYPES:
        cube = tiny_cube(dtype)
        before = np.array(cube.data)
        run(operation, cube, options=_many_tiles(cube))
        _demand(np.array_equal(before, cube.data), operation, f"data of {dtype} were changed")


def check_lazy_is_eager(operation: Operation) -> None:
    """The same bits from an array in memory and from blocks of the same scan."""
    for dtype in ("u2", "f4"):
        cube = tiny_cube(dtype)
        lazy = cube.replace(data=_Chunked(np.asarray(cube.data), (1, SHAPE[1])))
        whole = run(operation, cube, options=RunOptions(workers=1))
        _same(operation, whole, run(operation, lazy, options=RunOptions(workers=1)), "lazily")
        close = dict(arrays_of(run(operation, lazy, options=_many_tiles(cube))))
        for name, array in arrays_of(whole):
            fine = _close(array, close[name])
            _demand(fine, operation, f"{name} depends on how the scan is cut into tiles")


def _close(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if a.dtype.names and a.dtype == b.dtype:
        return all(_close(a[name], b[name]) for name in a.dtype.names)
    if a.shape != b.shape or a.dtype.kind not in "fc":
        return a.shape == b.shape and bool(np.array_equal(a, b))
    scale = float(np.abs(a[np.isfinite(a)]).max(initial=1e-300))
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-9 * scale, equal_nan=True))


def check_workers(operation: Operation) -> None:
    """The same bits for one worker and for several."""
    for dtype in ("u2", "f4"):
        cube = tiny_cube(dtype)
        cube = cube.replace(data=_Chunked(np.asarray(cube.data)))
        one = run(operation, cube, options=_many_tiles(cube))
        for workers in (2, 3):
            several = run(operation, cube, options=_many_tiles(cube, workers))
            _same(operation, one, several, f"{workers} workers")


def check_neighbours_unharmed(operation: Operation) -> None:
    """A pixel that is NaN or infinite changes no other scan position."""
    if not all(isinstance(o, PerScan) for o in operation.outputs.values()):
        return
    cube = tiny_cube("f4")
    for bad in (np.nan, np.inf, -np.inf):
        data = np.array(cube.data)
        data[2, 1, 7, 9] = bad
        clean = dict(arrays_of(run(operation, cube)))
        for name, array in arrays_of(run(operation, cube.replace(data=data))):
            other = clean[name]
            for axis in range(array.ndim - 1):
                if array.shape[axis : axis + 2] == SHAPE[:2]:
                    away = [np.delete(np.moveaxis(a, (axis, axis + 1), (0, 1)).reshape(
                        20, -1), 2 * SHAPE[1] + 1, 0) for a in (array, other)]  # fmt: skip
                    fine = np.array_equal(*away, equal_nan=True)
                    _demand(fine, operation, f"{bad} at one position changes {name} at others")


def check_repeatable(operation: Operation) -> None:
    """Twice the same: nothing is remembered from one run to the next."""
    cube = tiny_cube()
    _same(operation, run(operation, cube), run(operation, cube), "a second run")


def check_history(operation: Operation) -> None:
    """The result knows how it was made, if it is one of the package's values."""
    result = run(operation, tiny_cube())
    history = getattr(result, "history", None)
    _demand(isinstance(history, History), operation, "the result has no history")
    last = history.steps[-1]
    _demand(last.kind == operation.kind, operation, "the last step of the history is another one")
    again = type(operation)(**json.loads(json.dumps(dict(last.parameters))))
    _demand(again.parameters() == operation.parameters(), operation, "the history is not enough")


def check_edge_cases(operation: Operation) -> None:
    """Empty, constant and tiny scans give a result or an error of the package, never a warning."""
    cube = tiny_cube("f4")
    calibration = cube.calibration.replace(origin_px=ORIGIN)
    cases = {
        "zeros": np.zeros(SHAPE, np.uint16),
        "ones": np.ones(SHAPE, np.float32),
        "one position": np.ones((1, 1, *SHAPE[2:]), np.uint8),
        "nothing but NaN": np.full(SHAPE, np.nan, np.float32),
    }
    for name, data in cases.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                run(operation, Cube(data, calibration, name), options=RunOptions(workers=1))
            except Py4DSTEMError:
                continue
            except Exception as error:
                error.add_note(f"{operation.kind} on {name}")
                raise


def check_where(operation: Operation) -> None:
    """Positions outside `where` have no influence."""
    where = np.zeros(SHAPE[:2], bool)
    where[1:4, 1:3] = True
    cube = tiny_cube("f4")
    data = np.array(cube.data)
    data[~where] = 1e6
    options = _many_tiles(cube)
    a = run(operation, cube, where=where, options=options)
    b = run(operation, cube.replace(data=data), where=where, options=options)
    _same(operation, a, b, "positions outside where=")


CHECKS: tuple[Callable[[Operation], None], ...] = (
    check_parameters,
    check_described,
    check_dtypes,
    check_lazy_is_eager,
    check_workers,
    check_neighbours_unharmed,
    check_repeatable,
    check_history,
    check_edge_cases,
    check_where,
)
"""All promises, each a function of one operation."""


def check_operation(operation: Operation) -> None:
    """Run every check on one operation.

    Raises
    ------
    AssertionError
        Names the operation and the promise that it breaks.
    """
    for check in CHECKS:
        check(operation)
