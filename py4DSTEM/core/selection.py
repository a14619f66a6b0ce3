"""Selections of scan positions, as frozen values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter

from py4DSTEM.core.detectors.mask import MaskArray, decoded
from py4DSTEM.core.detectors.polygon import edge_distance, vertex_pairs
from py4DSTEM.core.parameters import numbers
from py4DSTEM.errors import ParameterError, ShapeError

__all__ = [
    "AnySelection",
    "DiskSelection",
    "MaskSelection",
    "PointSelection",
    "PolygonSelection",
    "RectangleSelection",
    "Selection",
    "selected",
    "selection_table",
]

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
_LARGEST = 2**31


class Selection(ABC):
    """Some positions of a scan, in scan pixels ``(rx, ry)``: rows (down), columns (right)."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    kind: str

    @abstractmethod
    def inside(self, rx: Float, ry: Float) -> Bool:
        """Whether the positions belong to it."""

    @abstractmethod
    def middle(self) -> tuple[float, float]:
        """The position taken where the selection holds none of the scan."""

    def mask(self, R_shape: tuple[int, int]) -> Bool:
        """Positions selected, (Rx, Ry) bool; where none are, the nearest one of the scan."""
        found = self.inside(*np.indices(R_shape, dtype=np.float64))
        if not found.any():
            found[self.nearest(R_shape)] = True
        return found

    def nearest(self, R_shape: tuple[int, int]) -> tuple[int, int]:
        """The position of the scan that is nearest to the middle."""
        rx, ry = (
            int(np.clip(np.floor(at + 0.5), 0, size - 1))
            for at, size in zip(self.middle(), R_shape, strict=True)
        )
        return rx, ry


@dataclass(frozen=True)
class PointSelection(Selection):
    """One position.

    Parameters
    ----------
    rx, ry : int
        Row and column of the scan.

    Examples
    --------
    >>> PointSelection(1, 9).mask((3, 4)).nonzero()
    (array([1]), array([3]))
    """

    rx: int
    ry: int
    kind: Literal["point"] = "point"

    def __post_init__(self) -> None:
        _whole(self, "rx", "ry")

    def inside(self, rx: Float, ry: Float) -> Bool:
        here: Bool = (rx == self.rx) & (ry == self.ry)
        return here

    def middle(self) -> tuple[float, float]:
        return float(self.rx), float(self.ry)


@dataclass(frozen=True)
class RectangleSelection(Selection):
    """Rows ``x0 … x1-1`` and columns ``y0 … y1-1``.

    Parameters
    ----------
    x0, x1 : int
        First row, and the row after the last.
    y0, y1 : int
        First column, and the column after the last.

    Examples
    --------
    >>> int(RectangleSelection(1, 3, 0, 9).mask((4, 5)).sum())
    10
    """

    x0: int
    x1: int
    y0: int
    y1: int
    kind: Literal["rectangle"] = "rectangle"

    def __post_init__(self) -> None:
        _whole(self, "x0", "x1", "y0", "y1")
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise ParameterError(f"a rectangle needs x0 < x1 and y0 < y1, not {self!r}")

    def inside(self, rx: Float, ry: Float) -> Bool:
        return (rx >= self.x0) & (rx < self.x1) & (ry >= self.y0) & (ry < self.y1)

    def middle(self) -> tuple[float, float]:
        return (self.x0 + self.x1 - 1) / 2, (self.y0 + self.y1 - 1) / 2


@dataclass(frozen=True)
class DiskSelection(Selection):
    """Positions no further than `radius` from the centre.

    Parameters
    ----------
    radius : float
        In scan pixels.
    center : (float, float)
        ``(rx, ry)``.

    Examples
    --------
    >>> int(DiskSelection(1.0, (2, 2)).mask((5, 6)).sum())
    5
    """

    radius: float
    center: tuple[float, float]
    kind: Literal["disk"] = "disk"

    def __post_init__(self) -> None:
        object.__setattr__(self, "center", numbers("center", self.center, 2))
        if not numbers("radius", self.radius, 1)[0] > 0:
            raise ParameterError(f"radius must be a positive number, not {self.radius!r}")

    def inside(self, rx: Float, ry: Float) -> Bool:
        near: Bool = np.hypot(rx - self.center[0], ry - self.center[1]) <= self.radius
        return near

    def middle(self) -> tuple[float, float]:
        return self.center


@dataclass(frozen=True)
class PolygonSelection(Selection):
    """Positions within a closed line of straight edges, or on it.

    Parameters
    ----------
    vertices : sequence of (float, float)
        3 to 1000 corners ``(rx, ry)``; the last is joined to the first.

    Examples
    --------
    >>> int(PolygonSelection(((0, 0), (0, 3), (3, 0))).mask((5, 6)).sum())
    10
    """

    vertices: tuple[tuple[float, float], ...]
    kind: Literal["polygon"] = "polygon"

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", vertex_pairs(self.vertices))

    def inside(self, rx: Float, ry: Float) -> Bool:
        # A hair's breadth, so that positions on an edge do not hang on rounding.
        return edge_distance(np.array(self.vertices), rx, ry) <= 1e-9

    def middle(self) -> tuple[float, float]:
        x, y = np.mean(self.vertices, axis=0)
        return float(x), float(y)


@dataclass(frozen=True, eq=False)
class MaskSelection(Selection):
    """Any positions.

    Parameters
    ----------
    data : (Rx, Ry) bool or float
        Zero: not selected; at least one is.

    Examples
    --------
    >>> import numpy as np
    >>> int(MaskSelection(np.eye(3)).mask((3, 3)).sum())
    3
    """

    data: MaskArray
    kind: Literal["mask"] = "mask"

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", decoded(self.data))
        if not self.data.any():
            raise ParameterError("a selection holds at least one position; this mask has none")

    def inside(self, rx: Float, ry: Float) -> Bool:
        i, j = np.floor(rx + 0.5), np.floor(ry + 0.5)
        known = (i >= 0) & (j >= 0) & (i < self.data.shape[0]) & (j < self.data.shape[1])
        found = np.zeros(known.shape, dtype=bool)
        found[known] = self.data[i[known].astype(np.int64), j[known].astype(np.int64)] != 0
        return found

    def middle(self) -> tuple[float, float]:
        x, y = np.argwhere(self.data).mean(axis=0)
        return float(x), float(y)

    def mask(self, R_shape: tuple[int, int]) -> Bool:
        if self.data.shape != tuple(R_shape):
            raise ShapeError(f"a mask of {self.data.shape} does not fit a scan of {R_shape}")
        chosen: Bool = np.array(self.data) != 0
        return chosen

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskSelection) and np.array_equal(self.data, other.data)

    __hash__ = None  # type: ignore[assignment]


def _whole(selection: Selection, *names: str) -> None:
    for name in names:
        (value,) = numbers(name, getattr(selection, name), 1)
        if value % 1 or abs(value) > _LARGEST:
            raise ParameterError(f"{name} must be a whole number, not {value!r}")
        object.__setattr__(selection, name, int(value))


AnySelection = Annotated[
    PointSelection | RectangleSelection | DiskSelection | PolygonSelection | MaskSelection,
    Field(discriminator="kind"),
]


def selection_table(selection: Selection) -> dict[str, Any]:
    """A selection as plain values, which pydantic takes for an `AnySelection`.

    >>> selection_table(PointSelection(1, 9))
    {'rx': 1, 'ry': 9, 'kind': 'point'}
    """
    table: dict[str, Any] = _ADAPTER.dump_python(selection, mode="json")
    return table


def selected(mask: NDArray[np.bool_]) -> RectangleSelection | MaskSelection:
    """The selection of the positions of a map: a rectangle, where they fill one.

    >>> selected(np.array([[False, True, True], [False, True, True]]))
    RectangleSelection(x0=0, x1=2, y0=1, y1=3, kind='rectangle')
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if len(rows):
        x0, x1, y0, y1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        if mask[x0:x1, y0:y1].all():
            return RectangleSelection(int(x0), int(x1), int(y0), int(y1))
    return MaskSelection(mask)


_ADAPTER: TypeAdapter[Any] = TypeAdapter(AnySelection)
