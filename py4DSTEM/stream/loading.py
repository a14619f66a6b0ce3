"""A whole scan taken into memory, with progress and cancel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.stream.engine import stream_tiles
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

__all__ = ["loaded"]


def loaded(cube: Cube, options: RunOptions | None = None) -> Cube:
    """`cube` with its patterns in memory, as `Cube.load` gives it; it may be cancelled.

    Parameters
    ----------
    cube : Cube
    options : RunOptions, optional
        Workers, progress and cancel.

    Returns
    -------
    Cube
        Its data a (Rx, Ry, Qx, Qy) array in the byte order of the machine.

    Examples
    --------
    >>> from py4DSTEM import DataCube
    >>> cube = DataCube(np.arange(36, dtype=np.uint8).reshape(2, 3, 2, 3))
    >>> loaded(cube).data is cube.data
    True
    """
    if isinstance(cube.data, np.ndarray) and not isinstance(cube.data, np.memmap):
        return cube
    whole: NDArray[Any] = np.empty(cube.data.shape, cube.dtype.newbyteorder("="))

    def work(tile: Tile) -> None:
        target = whole[tile.block.rx, tile.block.ry]
        target[...] = tile.frames.reshape(target.shape)

    for _ in stream_tiles(cube, work, options=options, label="load"):
        pass
    return cube.replace(data=whole)
