"""What there is to draw: any object as a list of panels, without knowing how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import ArrayResult, DiffractionSlice, RealSlice, Slice
from py4DSTEM.errors import ParameterError
from py4DSTEM.plot.figures import figure_maker

__all__ = ["Panel", "panels_of"]

_SAMPLES_PER_AXIS = 12
_SAMPLE_BYTES = 64_000_000


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture: an image ``(n0, n1)``, or a curve ``(n,)``, with its axes."""

    image: NDArray[Any]
    axes: tuple[Axis, ...]
    title: str = ""
    units: str = ""
    reciprocal: bool = False
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def zero_px(self) -> tuple[float, float]:
        """The pixel at which the axes read zero: the calibrated origin of a pattern."""
        if self.reciprocal and self.calibration.origin_px is not None:
            return self.calibration.mean_origin_px
        x, y = self.axes
        return -x.offset / x.step, -y.offset / y.step


def panels_of(obj: object, title: str | None = None) -> list[Panel]:
    """Everything that `show` would draw for an object, in order."""
    panels = list(_walk(obj))
    if title is not None and len(panels) == 1:
        return [replace(panels[0], title=title)]
    return panels


def _walk(obj: object) -> Iterator[Panel]:
    if isinstance(obj, Slice):
        yield from _of_slice(obj)
    elif isinstance(obj, Cube):
        yield from _of_cube(obj)
    elif isinstance(obj, PointTable):
        counts = RealSlice(obj.counts, obj.calibration, name=f"{obj.name} per position")
        yield from _of_slice(replace(counts, units="points"))
    elif isinstance(obj, ArrayResult):
        yield from _of_array(_numbers(obj), obj.axes, obj.name, obj.units)
    elif isinstance(obj, Mapping):
        for name, value in obj.items():
            yield from _named(str(name), value)
    elif _is_list_of_pictures(obj):
        for value in obj:  # type: ignore[attr-defined]
            yield from _walk(value)
    else:
        yield from _of_array(_as_array(obj))


def _named(name: str, value: object) -> Iterator[Panel]:
    """The panels of one entry of a mapping, titled by its name."""
    parts = list(_walk(value))
    for part in parts:
        title = name if len(parts) == 1 else f"{name}: {part.title}"
        yield replace(part, title=title)


def _is_list_of_pictures(obj: object) -> bool:
    """A list of objects or of images; a list of rows of numbers is an image."""
    if isinstance(obj, str) or not isinstance(obj, Sequence):
        return False
    return len(obj) == 0 or (
        not np.isscalar(obj[0])
        and (not isinstance(obj[0], Sequence | np.ndarray) or np.ndim(obj[0]) >= 2)
    )


def _as_array(obj: object) -> NDArray[Any]:
    if figure_maker(obj) is not None and not hasattr(obj, "__array__"):
        raise ParameterError(
            f"a {type(obj).__name__} takes a whole figure: show it by itself, without ax"
        )
    array = np.asarray(obj)
    if array.dtype.kind not in "buifc":
        raise ParameterError(
            f"show draws slices, cubes, points, arrays, and lists or mappings of them, not "
            f"{type(obj).__name__}"
        )
    return array


def _numbers(result: ArrayResult) -> NDArray[Any]:
    array = np.asarray(result.data)
    if array.dtype.kind not in "buifc":
        raise ParameterError(
            f"{result.name} holds {array.dtype} values, which have no picture: read its data"
        )
    return array


def _of_slice(value: Slice) -> Iterator[Panel]:
    stack = value.data if value.data.ndim == 3 else value.data[None]
    names = [f"{value.name}: {label}" for label in value.labels] or [value.name]
    for image, name in zip(stack, names, strict=True):
        yield Panel(
            image,
            value.axes,
            name,
            value.units,
            isinstance(value, DiffractionSlice),
            value.calibration,
        )


def _of_array(
    array: NDArray[Any], axes: Sequence[Axis] = (), name: str = "", units: str = ""
) -> Iterator[Panel]:
    axes = tuple(axes) or tuple(Axis(n) for n in ("k", "l", "x", "y")[-array.ndim :])
    if array.ndim in (1, 2):
        yield Panel(array, axes, name, units)
    elif array.ndim == 3:
        for k, image in enumerate(array):
            yield Panel(image, axes[1:], f"{name} {k}".strip(), units)
    elif array.ndim == 4:
        yield from _of_cube(Cube(array, name=name or "array"))
    else:
        raise ParameterError(f"show draws arrays of one to four dimensions, not {array.shape}")


def _of_cube(cube: Cube) -> Iterator[Panel]:
    """A coarse scan image and a mean pattern, both from at most 144 patterns."""
    step = _sampling(cube)
    rows, columns = (range(0, n, step) for n in cube.R_shape)
    patterns = [[cube[x, y].data for y in columns] for x in rows]
    image = np.array([[float(p.sum(dtype=np.float64)) for p in row] for row in patterns])
    count = image.size
    total = sum((p.astype(np.float64) for row in patterns for p in row), np.zeros(cube.Q_shape))
    coarse = tuple(replace(axis, step=axis.step * step) for axis in cube.calibration.R)
    every = f" at every {_ordinal(step)} position" if step > 1 else ""
    yield Panel(image, coarse, f"{cube.name}: sum{every}", "counts", calibration=cube.calibration)
    yield Panel(
        total / count,
        cube.calibration.Q,
        f"mean of {count} of {math.prod(cube.R_shape)} patterns",
        "counts",
        True,
        cube.calibration,
    )


def _sampling(cube: Cube) -> int:
    """Take every k-th row and column: few patterns, and few bytes."""
    pattern = max(1, cube.nbytes // math.prod(cube.R_shape))
    most = min(_SAMPLES_PER_AXIS, max(1, math.isqrt(_SAMPLE_BYTES // pattern)))
    return max(1, math.ceil(max(cube.R_shape) / most))


def _ordinal(k: int) -> str:
    ending = "th" if k % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(k % 10, "th")
    return f"{k}{ending}"
