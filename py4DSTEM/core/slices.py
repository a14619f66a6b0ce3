"""Images in real space and in diffraction space, with their calibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration, Measured, updated
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError, ShapeError

__all__ = ["ArrayResult", "DiffractionSlice", "RealSlice", "Slice"]


@dataclass(frozen=True, eq=False)
class Slice:
    """One image ``(n0, n1)`` or a labelled stack ``(k, n0, n1)``; base of the two slice types."""

    data: NDArray[Any]
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "slice"
    labels: tuple[str, ...] = ()
    units: str = "intensity"

    def __post_init__(self) -> None:
        array = np.asarray(self.data)
        if array.ndim not in (2, 3):
            raise ShapeError(f"a {type(self).__name__} is 2D or a 3D stack, not {array.shape}")
        if array.ndim == 3 and not self.labels:
            object.__setattr__(self, "labels", tuple(map(str, range(len(array)))))
        expected = len(array) if array.ndim == 3 else 0
        if len(self.labels) != expected:
            raise ShapeError(f"{len(self.labels)} labels for a stack of {expected} images")
        object.__setattr__(self, "data", array)

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The two axes of the image."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __getitem__(self, label: str | int) -> Self:
        """One image of a stack, by label or number."""
        if self.data.ndim != 3:
            raise ParameterError(f"{self.name!r} is a single image: use .data to index its pixels")
        if isinstance(label, str):
            if label not in self.labels:
                raise KeyError(f"no image {label!r} in {self.name!r}, only {list(self.labels)}")
            label = self.labels.index(label)
        return replace(self, data=self.data[label], labels=(), name=self.labels[label])

    def with_calibration(self, *known: Calibration | Measured, **changes: Any) -> Self:
        """The same image with a new calibration, or parts of it (as for `DataCube`)."""
        return replace(self, calibration=updated(self.calibration, *known, **changes))

    def keys(self) -> tuple[str, ...]:
        """Labels of a stack."""
        return self.labels

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        x, y = self.axes
        labels = f" {list(self.labels)}" if self.labels else ""
        return (
            f"<{type(self).__name__} {self.name!r}{labels} {self.data.shape} {self.data.dtype}, "
            f"{x.step:.4g} x {y.step:.4g} {x.unit}>"
        )

    def _repr_html_(self) -> str:
        from py4DSTEM.core.html import slice_html

        return slice_html(self)


class RealSlice(Slice):
    """A map over the scan: ``(Rx, Ry)`` or a stack of them.

    Parameters
    ----------
    data : array
        One image, or a stack ``(k, …)`` of them.
    calibration : Calibration
    history : History
        How it was made.
    name : str
    labels : tuple of str
        Names of the images of a stack; () for one image.
    units : str
        Of the values.
    """

    @property
    def axes(self) -> tuple[Axis, Axis]:
        return self.calibration.R


class DiffractionSlice(Slice):
    """A pattern on the detector: ``(Qx, Qy)`` or a stack of them.

    Parameters
    ----------
    data : array
        One image, or a stack ``(k, …)`` of them.
    calibration : Calibration
    history : History
        How it was made.
    name : str
    labels : tuple of str
        Names of the images of a stack; () for one image.
    units : str
        Of the values.
    """

    @property
    def axes(self) -> tuple[Axis, Axis]:
        return self.calibration.Q


@dataclass(frozen=True, eq=False)
class ArrayResult:
    """An array that is neither a map nor a pattern.

    Parameters
    ----------
    data : array
    axes : tuple of Axis
        One per dimension; (): pixels.
    history : History
    name, units : str
        Units of the values.
    """

    data: NDArray[Any]
    axes: tuple[Axis, ...] = ()
    history: History = field(default_factory=History)
    name: str = "array"
    units: str = ""

    def __post_init__(self) -> None:
        axes = self.axes or tuple(Axis(f"dim{i}") for i in range(self.data.ndim))
        if len(axes) != self.data.ndim:
            raise ShapeError(f"{len(axes)} axes for an array of {self.data.ndim} dimensions")
        object.__setattr__(self, "axes", axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.data, dtype=dtype, copy=copy)
