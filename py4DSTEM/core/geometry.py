"""Crop, bin, pad, exchange axes: array and calibration move together, always.

Each function takes ``(data, calibration)`` and returns the new pair.  Nothing is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.lazy import (
    Binned,
    BlockArray,
    Cropped,
    LazyArray,
    Padded,
    TransposedQ,
    TransposedR,
    read_block,
)
from py4DSTEM.errors import ParameterError, ShapeError

__all__ = ["bin_scan", "crop", "pad", "reshape_scan", "swap_Q", "swap_R"]

Bounds = tuple[int | None, int | None]
Pairs = tuple[Bounds, Bounds]
Moved = tuple[LazyArray, Calibration]


def _resolve(bounds: Bounds, size: int, axis: str) -> tuple[int, int]:
    start, stop, _ = slice(*bounds).indices(size)
    if stop <= start:
        raise ParameterError(f"crop of {axis} to {bounds} leaves nothing of its {size} pixels")
    return start, stop


def _on_origin(
    calibration: Calibration, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64] | None:
    return None if calibration.origin_px is None else change(calibration.origin_px)


def crop(
    data: LazyArray,
    calibration: Calibration,
    R: Pairs = ((None, None), (None, None)),
    Q: Pairs = ((None, None), (None, None)),
) -> Moved:
    """Keep pixels ``start … stop-1`` of each axis; the offset moves by ``start * step``."""
    names = ("Rx", "Ry", "Qx", "Qy")
    bounds = tuple(map(_resolve, (*R, *Q), data.shape, names))
    (x0, x1), (y0, y1), (qx0, _), (qy0, _) = bounds

    def move(origin: NDArray[np.float64]) -> NDArray[np.float64]:
        part = origin[x0:x1, y0:y1] if origin.ndim == 3 else origin
        return part - (qx0, qy0)

    moved = replace(
        calibration,
        R=(calibration.R[0].crop(x0), calibration.R[1].crop(y0)),
        Q=(calibration.Q[0].crop(qx0), calibration.Q[1].crop(qy0)),
        origin_px=_on_origin(calibration, move),
    )
    return _cropped(data, bounds), moved


def _cropped(data: LazyArray, bounds: tuple[tuple[int, int], ...]) -> LazyArray:
    if isinstance(data, np.ndarray):  # a view costs nothing and keeps every fast path
        view: LazyArray = data[tuple(slice(*b) for b in bounds)]
        return view
    return Cropped(data, bounds)


def _factors(factor: int | tuple[int, int], sizes: tuple[int, ...], what: str) -> tuple[int, int]:
    pair = tuple(factor) if isinstance(factor, tuple | list) else (factor, factor)
    if len(pair) != 2 or any(int(k) != k or k < 1 for k in pair):
        raise ParameterError(f"{what} must be a positive whole number or a pair, not {factor!r}")
    if any(k > n for k, n in zip(pair, sizes, strict=True)):
        raise ParameterError(f"{what}={pair} is larger than the {sizes} pixels there are")
    return int(pair[0]), int(pair[1])


def bin_scan(
    data: LazyArray,
    calibration: Calibration,
    R: int | tuple[int, int] = 1,
    Q: int | tuple[int, int] = 1,
) -> Moved:
    """Sum ``R`` x ``R`` positions and ``Q`` x ``Q`` pixels; remainders at the end are dropped.

    The step grows by k and the offset moves by ``(k - 1) / 2 * step``.  Integer sums are stored in
    a type wide enough to hold them.
    """
    r = _factors(R, tuple(data.shape[:2]), "R")
    q = _factors(Q, tuple(data.shape[2:]), "Q")
    if r == q == (1, 1):
        return data, calibration
    isotropic = float(np.sqrt(q[0] * q[1]))

    def move(origin: NDArray[np.float64]) -> NDArray[np.float64]:
        local = _mean_blocks(origin, r) if origin.ndim == 3 else origin
        return (local - ((q[0] - 1) / 2, (q[1] - 1) / 2)) / q

    moved = replace(
        calibration,
        R=(calibration.R[0].bin(r[0]), calibration.R[1].bin(r[1])),
        Q=(calibration.Q[0].bin(q[0]), calibration.Q[1].bin(q[1])),
        origin_px=_on_origin(calibration, move),
        ellipse=calibration.ellipse and calibration.ellipse.scaled(1 / isotropic),
        probe_radius_px=calibration.probe_radius_px and calibration.probe_radius_px / isotropic,
    )
    if q[0] != q[1] and calibration.ellipse is not None:
        # An ellipse is described in square pixels; unequal binning would change its meaning.
        raise ParameterError("bin the detector equally along x and y: an ellipse is calibrated")
    return Binned(data, r, q), moved


def _mean_blocks(origin: NDArray[np.float64], r: tuple[int, int]) -> NDArray[np.float64]:
    nx, ny = origin.shape[0] // r[0], origin.shape[1] // r[1]
    blocks = origin[: nx * r[0], : ny * r[1]].reshape(nx, r[0], ny, r[1], 2)
    known = np.isfinite(blocks)
    count = known.sum((1, 3))
    total = np.where(known, blocks, 0.0).sum((1, 3))
    mean: NDArray[np.float64] = np.full_like(total, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def pad(
    data: LazyArray,
    calibration: Calibration,
    Q: int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] = 0,
    value: float = 0,
) -> Moved:
    """Add a border of `value` around every pattern; the origin keeps its place in space."""
    widths = np.broadcast_to(np.array(Q).reshape(-1, 1) if np.ndim(Q) == 1 else np.array(Q), (2, 2))
    if (widths < 0).any() or not np.issubdtype(widths.dtype, np.integer):
        raise ParameterError(f"padding must be whole numbers of pixels, not {Q!r}")
    (a, b), (c, d) = widths.tolist()
    moved = replace(
        calibration,
        Q=(calibration.Q[0].crop(-a), calibration.Q[1].crop(-c)),
        origin_px=_on_origin(calibration, lambda origin: origin + np.array((a, c))),
    )
    return Padded(data, ((a, b), (c, d)), value), moved


def _toggled(calibration: Calibration) -> bool | None:
    """The flip after an exchange of axes; a known rotation without a flip means no flip."""
    if calibration.flip is None and calibration.rotation_rad is None:
        return None
    return not calibration.flip


def swap_Q(data: LazyArray, calibration: Calibration) -> Moved:
    """Exchange the detector axes; calibrated vectors stay the same, so the flip is toggled."""
    x, y = calibration.Q
    moved = replace(
        calibration,
        Q=(replace(y, name=x.name), replace(x, name=y.name)),
        origin_px=_on_origin(calibration, lambda origin: origin[..., ::-1]),
        ellipse=calibration.ellipse and calibration.ellipse.swapped(),
        flip=_toggled(calibration),
    )
    if isinstance(data, np.ndarray):
        return data.swapaxes(2, 3), moved
    return TransposedQ(data), moved


def swap_R(data: LazyArray, calibration: Calibration) -> Moved:
    """Exchange the scan axes; the rotation changes sign and the flip is toggled."""
    x, y = calibration.R

    def move(origin: NDArray[np.float64]) -> NDArray[np.float64]:
        return origin.swapaxes(0, 1) if origin.ndim == 3 else origin

    moved = replace(
        calibration,
        R=(replace(y, name=x.name), replace(x, name=y.name)),
        origin_px=_on_origin(calibration, move),
        rotation_rad=None if calibration.rotation_rad is None else -calibration.rotation_rad,
        flip=_toggled(calibration),
    )
    if isinstance(data, np.ndarray):
        return data.swapaxes(0, 1), moved
    return TransposedR(data), moved


class _Reshaped(BlockArray):
    """The same positions, in the same order, arranged in rows of another length."""

    def __init__(self, source: LazyArray, scan_shape: tuple[int, int]) -> None:
        self._source, self._scan_shape = source, scan_shape

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (*self._scan_shape, int(self._source.shape[2]), int(self._source.shape[3]))

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self._source.dtype

    def read_block(self, rx: slice, ry: slice) -> NDArray[np.generic]:
        width = self._scan_shape[1]
        if (ry.start, ry.stop) == (0, width):
            return self._span(rx.start * width, rx.stop * width)
        rows = [
            self._span(x * width + ry.start, x * width + ry.stop) for x in range(rx.start, rx.stop)
        ]
        return np.concatenate(rows)

    def _span(self, start: int, stop: int) -> NDArray[np.generic]:
        """Positions ``start … stop-1`` of the flattened scan."""
        width = int(self._source.shape[1])
        first, last = start // width, (stop - 1) // width
        block = read_block(self._source, slice(first, last + 1), slice(0, width))
        return block[start - first * width : stop - first * width]


def reshape_scan(data: LazyArray, calibration: Calibration, scan_shape: tuple[int, int]) -> Moved:
    """Arrange the positions, in recording order, as another ``(Rx, Ry)`` of the same size."""
    old, new = tuple(map(int, data.shape[:2])), (int(scan_shape[0]), int(scan_shape[1]))
    if old[0] * old[1] != new[0] * new[1] or min(new) < 1:
        raise ShapeError(f"a scan of {old} has {old[0] * old[1]} positions, {new} has others")
    moved = replace(
        calibration,
        origin_px=_on_origin(calibration, lambda o: o.reshape(*new, 2) if o.ndim == 3 else o),
    )
    if isinstance(data, np.ndarray):
        return data.reshape(*new, *data.shape[2:]), moved
    return _Reshaped(data, new), moved
