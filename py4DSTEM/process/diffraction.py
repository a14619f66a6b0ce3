"""Virtual diffraction: one pattern from many positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Measures, Operation, Output, Parts, Reduced
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = [
    "MaxPattern",
    "MeanPattern",
    "StdPattern",
    "max_pattern",
    "mean_of",
    "mean_pattern",
    "merge_moments",
    "std_pattern",
    "tile_moments",
]

Images = tuple[NDArray[Any], ...]


def _add(whole: Images, part: Images) -> Images:
    for total, more in zip(whole, part, strict=True):
        total += more
    return whole


def _larger(whole: NDArray[Any], part: NDArray[Any]) -> NDArray[Any]:
    np.maximum(whole, part, out=whole)
    return whole


def mean_of(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    """Total over count, NaN where nothing was counted."""
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


class MeanPattern(Operation, kind="mean-pattern", version=1):
    """Average all patterns, or those that `where` selects (weights allowed).

    ``Ī(q) = Σ_R w(R) I(R, q) / Σ_R w(R)``; NaN and infinite pixels are left out of both sums.
    """

    outputs: ClassVar[Mapping[str, Output]] = {"sums": Reduced(_add)}

    def measures(self, plan: Any) -> Measures:
        return Measures(sums=True)

    def step(self, plan: Any, tile: Tile, kernels: Kernels) -> Parts:
        measured = tile.measured
        return {"sums": (measured.sums, measured.valid)} if measured else {}

    def finish(self, cube: Cube, plan: Any, parts: Parts, history: History) -> DiffractionSlice:
        mean = mean_of(*parts["sums"])
        return DiffractionSlice(mean, cube.calibration, history, "mean pattern")


class MaxPattern(Operation, kind="max-pattern", version=1):
    """The largest value of every pixel over all positions, or those that `where` selects."""

    outputs: ClassVar[Mapping[str, Output]] = {"maximum": Reduced(_larger)}

    def measures(self, plan: Any) -> Measures:
        return Measures(maximum=True)

    def step(self, plan: Any, tile: Tile, kernels: Kernels) -> Parts:
        return {"maximum": tile.measured.maximum} if tile.measured else {}

    def finish(self, cube: Cube, plan: Any, parts: Parts, history: History) -> DiffractionSlice:
        maximum = parts["maximum"]
        if maximum.dtype.kind == "f":
            maximum = np.where(np.isneginf(maximum), np.nan, maximum)
        return DiffractionSlice(maximum, cube.calibration, history, "maximum pattern")


def tile_moments(
    total: NDArray[np.float64], squares: NDArray[np.float64], count: NDArray[np.float64]
) -> Images:
    """Count, mean and sum of squared deviations of a tile."""
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    return count, mean, np.maximum(squares - total * mean, 0.0)


def merge_moments(whole: Images, part: Images) -> Images:
    """Chan's pairwise update, stable where ``Σv² − (Σv)²/n`` over the scan would cancel."""
    (n_a, mean_a, m2_a), (n_b, mean_b, m2_b) = whole, part
    n = n_a + n_b
    share = np.divide(n_b, n, out=np.zeros_like(n), where=n > 0)
    delta = mean_b - mean_a
    return n, mean_a + delta * share, m2_a + m2_b + delta**2 * n_a * share


class StdPattern(Operation, kind="std-pattern", version=1):
    """Standard deviation of every pixel over all positions, or those that `where` selects.

    ``σ(q)² = Σ_R w (I − Ī)² / Σ_R w`` (population), merged tile by tile
    (doi:10.1080/00031305.1983.10483115); NaN and infinite pixels are left out.
    """

    cites: ClassVar[tuple[str, ...]] = ("10.1080/00031305.1983.10483115",)
    outputs: ClassVar[Mapping[str, Output]] = {"moments": Reduced(merge_moments)}

    def measures(self, plan: Any) -> Measures:
        return Measures(sums=True, squares=True)

    def step(self, plan: Any, tile: Tile, kernels: Kernels) -> Parts:
        m = tile.measured
        return {"moments": tile_moments(*m.get("sums", "squares", "valid"))} if m else {}

    def finish(self, cube: Cube, plan: Any, parts: Parts, history: History) -> DiffractionSlice:
        count, _, m2 = parts["moments"]
        return DiffractionSlice(
            np.sqrt(mean_of(m2, count)), cube.calibration, history, "standard deviation pattern"
        )


def mean_pattern(
    cube: Cube, *, where: ArrayLike | None = None, options: RunOptions | None = None
) -> DiffractionSlice:
    """Mean diffraction pattern ``(Qx, Qy)`` float64.

    Parameters
    ----------
    cube : DataCube
    where : (Rx, Ry) bool or float, optional
        Positions to average, or their weights.
    options : RunOptions, optional

    Returns
    -------
    DiffractionSlice

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> cube = DataCube(np.arange(24, dtype=np.uint16).reshape(2, 1, 3, 4))
    >>> float(mean_pattern(cube).data[0, 0])
    6.0
    """
    result: DiffractionSlice = run(MeanPattern(), cube, where=where, options=options)
    return result


def max_pattern(
    cube: Cube, *, where: ArrayLike | None = None, options: RunOptions | None = None
) -> DiffractionSlice:
    """Largest value of each detector pixel, ``(Qx, Qy)`` in the dtype of the data.

    Parameters and errors as for `mean_pattern`; positions of weight zero do not count.
    """
    result: DiffractionSlice = run(MaxPattern(), cube, where=where, options=options)
    return result


def std_pattern(
    cube: Cube, *, where: ArrayLike | None = None, options: RunOptions | None = None
) -> DiffractionSlice:
    """Standard deviation of each detector pixel over the scan, ``(Qx, Qy)`` float64.

    Parameters and errors as for `mean_pattern`.
    """
    result: DiffractionSlice = run(StdPattern(), cube, where=where, options=options)
    return result
