"""One axis of a scan or a detector."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import ParameterError
from py4DSTEM.units import canonical_unit

__all__ = ["Axis"]


@dataclass(frozen=True)
class Axis:
    """A uniformly sampled axis: pixel ``i`` lies at ``offset + i * step`` (in `unit`).

    Parameters
    ----------
    name : str
        ``"Rx"``, ``"Ry"``, ``"Qx"`` or ``"Qy"``.
    step : float
        Size of a pixel; positive and finite.
    offset : float
        Position of the centre of pixel 0.
    unit : str
        ``"px"`` where nothing is known.
    """

    name: str
    step: float = 1.0
    offset: float = 0.0
    unit: str = "px"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.step) and self.step > 0):
            raise ParameterError(f"pixel size of {self.name} must be positive, not {self.step!r}")
        if not math.isfinite(self.offset):
            raise ParameterError(f"offset of {self.name} must be finite, not {self.offset!r}")
        object.__setattr__(self, "unit", canonical_unit(self.unit))

    @property
    def calibrated(self) -> bool:
        """Whether the axis has a unit other than pixels."""
        return self.unit != "px"

    def crop(self, start: int) -> Axis:
        """The axis of an array that begins at pixel `start` (negative for padding)."""
        return replace(self, offset=self.offset + start * self.step)

    def bin(self, factor: int) -> Axis:
        """The axis after summing `factor` neighbours; pixel centres stay where they are."""
        shift = (factor - 1) / 2 * self.step
        return replace(self, step=self.step * factor, offset=self.offset + shift)

    def coordinates(self, size: int) -> NDArray[np.float64]:
        """Positions of `size` pixels, (size,) float64."""
        return self.offset + self.step * np.arange(size, dtype=np.float64)
