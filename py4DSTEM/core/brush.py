"""Painting masks: disks of pixels along a stroke are added or taken away."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.detector import Mask
from py4DSTEM.core.selection import MaskSelection
from py4DSTEM.errors import ParameterError

__all__ = ["blank", "painted"]

Pair = tuple[float, float]


def painted(
    data: NDArray[np.float64],
    start: Pair,
    stop: Pair,
    *,
    radius_px: float = 3.0,
    value: float = 1.0,
) -> NDArray[np.float64]:
    """A mask after a straight stroke of a round brush.

    Parameters
    ----------
    data : (n0, n1) float64
        Of a `Mask` or `MaskSelection`; it stays as it is.
    start, stop : (float, float)
        Ends of the stroke, (x, y) in pixels; they may lie beside the mask.
    radius_px : float
        Pixels whose centres are that near to the stroke are painted.
    value : float
        That they get: 0 erases.

    Returns
    -------
    (n0, n1) float64
        A copy.

    Examples
    --------
    >>> painted(np.zeros((3, 5)), (1, 1), (1, 3), radius_px=0.5).astype(int).tolist()
    [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    """
    if not (radius_px > 0 and all(map(math.isfinite, (*start, *stop, radius_px, value)))):
        raise ParameterError(
            f"a stroke has finite ends and a positive radius, not {start}, {stop}, {radius_px}"
        )
    out = np.array(data, dtype=np.float64)
    i, j = (
        np.arange(
            max(math.floor(min(a, b) - radius_px), 0),
            min(math.ceil(max(a, b) + radius_px) + 1, size),
        )
        for a, b, size in zip(start, stop, out.shape, strict=True)
    )
    near = np.ix_(i, j)
    if i.size and j.size:
        distance = _distance(i[:, None], j[None, :], start, stop)
        out[near] = np.where(distance <= radius_px, value, out[near])
    return out


def _distance(
    i: NDArray[np.intp], j: NDArray[np.intp], start: Pair, stop: Pair
) -> NDArray[np.float64]:
    """Of pixel centres from the stroke."""
    ux, uy = stop[0] - start[0], stop[1] - start[1]
    length2 = ux * ux + uy * uy
    px, py = i - start[0], j - start[1]
    along = np.clip((px * ux + py * uy) / length2, 0, 1) if length2 > 0 else 0.0
    distance: NDArray[np.float64] = np.hypot(px - along * ux, py - along * uy)
    return distance


def blank(shape: Mask | MaskSelection | None, size: tuple[int, int]) -> NDArray[np.float64]:
    """What a stroke begins with: the mask itself, or an empty one where there is none that fits."""
    if shape is None or shape.data.shape != tuple(size):
        return np.zeros(size)
    return np.array(shape.data)
