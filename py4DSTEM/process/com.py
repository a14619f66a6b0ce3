"""Centre of mass of every pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector, Detector, Mask
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Measures, Operation, Output, Parts, PerScan
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["CenterOfMass", "center_of_mass"]


class CenterOfMass(Operation, kind="center-of-mass", version=1):
    """Intensity-weighted mean position of each pattern, in raw detector pixels.

    ``c = Σ w i I / Σ w I`` (doi:10.1016/j.ultramic.2015.10.011).  A pattern without intensity
    gives NaN; NaN and infinite pixels count as masked.
    """

    mask: AnyDetector | None = Field(
        None, description="Weights of the pixels: a detector shape; None: all alike."
    )

    cites: ClassVar[tuple[str, ...]] = ("10.1016/j.ultramic.2015.10.011",)
    outputs: ClassVar[Mapping[str, Output]] = {"centers": PerScan(np.float64)}

    def prepare(self, cube: Cube, kernels: Kernels) -> NDArray[np.float64] | None:
        if self.mask is None:
            return None
        weights = self.mask.weights(cube.Q_shape, cube.calibration)
        i, j = np.indices(cube.Q_shape, dtype=np.float64)
        return np.stack([weights, weights * i, weights * j])

    def measures(self, plan: NDArray[np.float64] | None) -> Measures:
        return Measures(moments=True) if plan is None else Measures(detectors=plan)

    def step(self, plan: NDArray[np.float64] | None, tile: Tile, kernels: Kernels) -> Parts:
        m = tile.measured
        if m is None:
            return {}
        if plan is None:
            total, x, y = m.get("total", "moment_x", "moment_y")
        else:
            total, x, y = m.get("detectors")[0].T
        usable = np.isfinite(total) & (total > 0)
        centers = np.full((len(tile.frames), 2), np.nan)
        np.divide(x, total, out=centers[:, 0], where=usable)
        np.divide(y, total, out=centers[:, 1], where=usable)
        return {"centers": centers}

    def finish(self, cube: Cube, plan: Any, parts: Parts, history: History) -> RealSlice:
        stack = np.ascontiguousarray(np.moveaxis(parts["centers"], -1, 0))
        return RealSlice(stack, cube.calibration, history, "center of mass", ("x", "y"), units="px")


def center_of_mass(
    cube: Cube,
    mask: Detector | ArrayLike | None = None,
    *,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> RealSlice:
    """Centre of mass of every pattern.

    Parameters
    ----------
    cube : DataCube
    mask : Detector or (Qx, Qy) array, optional
        Weights multiplied into every pattern.
    where : (Rx, Ry) bool, optional
        Positions to compute; others are NaN.
    options : RunOptions, optional

    Returns
    -------
    RealSlice
        Stack ``(2, Rx, Ry)`` labelled "x", "y": raw detector pixels, array order, no origin
        subtracted.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> data = np.zeros((1, 1, 5, 6)); data[0, 0, 3, 4] = 7
    >>> com = center_of_mass(DataCube(data))
    >>> float(com["x"].data[0, 0]), float(com["y"].data[0, 0])
    (3.0, 4.0)
    """
    shape = mask if mask is None or isinstance(mask, Detector) else Mask(mask)
    operation = CenterOfMass(mask=shape)
    result: RealSlice = run(operation, cube, where=where, options=options)
    return result
