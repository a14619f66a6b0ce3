"""What an operation is: validated parameters, and four small methods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.stream.step import Described, steps
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["Measures", "Operation", "Output", "PerScan", "Ragged", "Reduced", "registered"]

Parts = dict[str, Any]


@dataclass(frozen=True)
class PerScan:
    """One value (or row of values) per scan position; the engine places it.

    A part is ``(n, ...)``; the result ``(Rx, Ry, ...)``.  Positions outside ``where`` are NaN (0
    for integers).
    """

    dtype: DTypeLike = np.float64


@dataclass(frozen=True)
class Reduced:
    """Folded over tiles in their order: ``merge(accumulated, part)`` (may work in place)."""

    merge: Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Ragged:
    """Any number of rows per scan position: a part is ``(rows, counts (n,))``; concatenated."""

    dtype: DTypeLike


Output = PerScan | Reduced | Ragged


@dataclass(frozen=True, eq=False)
class Measures:
    """Sums over whole patterns that the engine makes for all operations of a pass at once.

    Parameters
    ----------
    detectors : (K, Qx, Qy) float64, optional
        Weighted sums of each pattern.
    moments : bool
        Σv, Σ i·v, Σ j·v of each pattern.
    sums, squares, maximum : bool
        Images over all positions of the tile.
    """

    detectors: NDArray[np.float64] | None = None
    moments: bool = False
    sums: bool = False
    squares: bool = False
    maximum: bool = False


class Operation(Described):
    """A computation that sees each pattern once, or once in each of a few passes.

    Subclass with ``kind="..."`` and ``version=...``; the fields are its parameters (`Described`).

    ``step`` is pure, runs in several threads and sees only a tile.
    """

    outputs: ClassVar[Mapping[str, Output]] = {}

    def prepare(self, cube: Cube, kernels: Kernels) -> Any:
        """Work to be done once, before the first tile; what it returns is handed to `step`."""
        return None

    def measures(self, plan: Any) -> Measures | None:
        """Sums that the engine should make in its shared pass; they arrive in ``tile.measured``."""
        return None

    def prepare_at(self, cube: Cube, kernels: Kernels, weights: NDArray[np.float64] | None) -> Any:
        """As `prepare`; for operations that look at patterns first, at those with a weight only."""
        return self.prepare(cube, kernels)

    @abstractmethod
    def step(self, plan: Any, tile: Tile, kernels: Kernels) -> Parts:
        """The parts of one tile, by the names of `outputs`."""

    def again(self, plan: Any, parts: Parts) -> Any | None:
        """A plan for one more pass over the scan, or None when `parts` are all that is needed.

        `parts` are those of the last pass only; what must be kept travels in the plan.
        """
        return None

    @abstractmethod
    def finish(self, cube: Cube, plan: Any, parts: Parts, history: History) -> Any:
        """Turn the assembled parts into a calibrated value."""


def registered() -> Mapping[str, type[Operation]]:
    """Operations by kind, of all modules imported so far."""
    return steps(Operation)
