"""The exact median of every detector pixel, for scans of any size in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation, Output, Parts, Reduced
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["MedianPattern", "median_pattern"]

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

BITS = 4
"""Bits of the key that one pass settles: 16 counters per pixel."""
COUNTER_BYTES = 64 * 1024**2
"""Counters of one tile; detectors that need more are done in bands of rows, band after band."""


@dataclass(frozen=True, eq=False)
class _Bracket:
    """Where the lower middle value of each pixel of a band lies.

    It is among the keys from ``low`` on, in one of 16 buckets of ``1 << shift`` keys; ``below``
    values are smaller than ``low``.  A pixel with shift 0 that is ``settled`` has ``low`` itself.
    """

    low: U64
    shift: U64
    count: I64
    below: I64
    settled: NDArray[np.bool_]
    upper: U64
    upper_known: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Plan:
    """What the next pass counts, and what earlier ones found."""

    dtype: np.dtype[Any]
    shape: tuple[int, int]
    height: int
    first: int = 0
    stage: str = "range"
    bracket: _Bracket | None = None
    done: tuple[NDArray[np.float64], ...] = ()

    @property
    def rows(self) -> slice:
        return slice(self.first, min(self.first + self.height, self.shape[0]))


def _merge(whole: tuple[NDArray[Any], ...], part: tuple[NDArray[Any], ...]) -> Any:
    """Fold ranges (low, high, count) or counts (counts,)."""
    if len(whole) == 1:
        return (np.add(whole[0], part[0], out=whole[0]),)
    return (np.minimum(whole[0], part[0]), np.maximum(whole[1], part[1]), whole[2] + part[2])


class MedianPattern(Operation, kind="median-pattern", version=1):
    """The median of every pixel over all positions, or those that `where` selects.

    Exact, also for floats; the mean of the two middle values where their number is even; NaN and
    infinite values are left out.  Each pixel narrows the range of values that holds its median,
    16-fold per pass over the scan: two passes for small counts, up to nine for 32-bit floats.
    """

    outputs: ClassVar[Mapping[str, Output]] = {"keys": Reduced(_merge)}

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        per_row = cube.Q_shape[1] * 4 * 2**BITS
        height = min(cube.Q_shape[0], max(1, COUNTER_BYTES // per_row))
        return _Plan(cube.dtype.newbyteorder("="), cube.Q_shape, height)

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        chosen = slice(None) if tile.weights is None else tile.weights > 0
        keys = kernels.ordered_uint(tile.frames[chosen, plan.rows])
        skip = plan.dtype.kind == "f"
        bracket = plan.bracket
        if bracket is None:
            return {"keys": tuple(kernels.key_range(keys, skip_last=skip))}
        if plan.stage == "next":
            return {"keys": tuple(kernels.key_range(keys, bracket.low, skip_last=skip))}
        return {"keys": (kernels.bucket_counts(keys, bracket.low, bracket.shift, skip_last=skip),)}

    def again(self, plan: _Plan, parts: Parts) -> _Plan | None:
        plan = _learned(plan, parts["keys"])
        if plan.stage != "done":
            return plan
        return None if plan.rows.stop == plan.shape[0] else _next_band(plan)

    def finish(self, cube: Cube, plan: _Plan, parts: Parts, history: History) -> DiffractionSlice:
        last = _learned(plan, parts["keys"])
        median = np.concatenate([*last.done, _values(last)])
        return DiffractionSlice(median, cube.calibration, history, "median pattern")


def _learned(plan: _Plan, found: tuple[NDArray[Any], ...]) -> _Plan:
    """The plan after a pass: a narrower bracket, and the stage that comes next."""
    if plan.bracket is None:
        bracket = _first_bracket(*found)
    elif plan.stage == "next":
        upper = np.where(plan.bracket.upper_known, plan.bracket.upper, found[0])
        everywhere = np.ones_like(plan.bracket.upper_known)
        bracket = replace(plan.bracket, upper=upper, upper_known=everywhere)
    else:
        bracket = _narrowed(plan.bracket, found[0])
    stage = "narrow"
    if bracket.settled.all():
        stage = "done" if bracket.upper_known.all() else "next"
    return replace(plan, bracket=bracket, stage=stage)


def _first_bracket(low: U64, high: U64, count: I64) -> _Bracket:
    """Sixteen buckets that span all keys of each pixel."""
    width = np.where(count > 0, high - low, 0)
    shift = np.maximum(_bit_length(width) - BITS, 0).astype(np.uint64)
    settled = width == 0
    low = np.where(count > 0, low, 0)
    return _Bracket(low, shift, count, np.zeros_like(count), settled, low, settled)


def _bit_length(values: U64) -> I64:
    """Bits needed to write each value; 0 for 0."""
    length = np.zeros(values.shape, np.int64)
    rest = values.copy()
    for step in (32, 16, 8, 4, 2, 1):
        large = rest >> np.uint64(step) > 0
        length += step * large
        rest = np.where(large, rest >> np.uint64(step), rest)
    return length + (rest > 0)


def _narrowed(bracket: _Bracket, counts: I64) -> _Bracket:
    """Go to the bucket that holds the lower middle value."""
    open_ = ~bracket.settled
    rank = (bracket.count - 1) // 2
    total = bracket.below[..., None] + np.cumsum(counts, axis=-1, dtype=np.int64)
    bucket = np.where(open_, (total <= rank[..., None]).sum(-1), 0)
    before = np.take_along_axis(total - counts, bucket[..., None], -1)[..., 0]
    through = np.take_along_axis(total, bucket[..., None], -1)[..., 0]
    low = bracket.low + (bucket.astype(np.uint64) << bracket.shift)
    exact = open_ & (bracket.shift == 0)
    upper, known = _upper(bracket, counts, bucket, low, through)
    return _Bracket(
        low=np.where(open_, low, bracket.low),
        shift=np.maximum(bracket.shift.astype(np.int64) - BITS, 0).astype(np.uint64),
        count=bracket.count,
        below=np.where(open_, before, bracket.below),
        settled=bracket.settled | exact,
        upper=np.where(exact, upper, bracket.upper),
        upper_known=np.where(exact, known, bracket.upper_known),
    )


def _upper(
    bracket: _Bracket, counts: I64, bucket: I64, low: U64, through: I64
) -> tuple[U64, NDArray[np.bool_]]:
    """The upper middle key where it is the lower one, or lies in a later bucket of one key."""
    same = through > bracket.count // 2
    later = (counts > 0) & (np.arange(counts.shape[-1]) > bucket[..., None])
    following = bracket.low + later.argmax(-1).astype(np.uint64)
    return np.where(same, low, following), same | later.any(-1)


def _values(plan: _Plan) -> NDArray[np.float64]:
    """The medians of a finished band, (rows, Qy)."""
    from py4DSTEM.kernels.order import ordered_value

    bracket = plan.bracket
    if bracket is None:
        raise ParameterError("the median of a band was asked for before its first pass")
    low, high = (
        ordered_value(keys, plan.dtype).astype(np.float64) for keys in (bracket.low, bracket.upper)
    )
    # Half of each: their sum may be larger than the largest float.
    return np.where(bracket.count > 0, low / 2 + high / 2, np.nan)


def _next_band(plan: _Plan) -> _Plan:
    done = (*plan.done, _values(plan))
    return _Plan(plan.dtype, plan.shape, plan.height, plan.rows.stop, done=done)


def median_pattern(
    cube: Cube, *, where: ArrayLike | None = None, options: RunOptions | None = None
) -> DiffractionSlice:
    """Median of each detector pixel over the scan, ``(Qx, Qy)`` float64.

    Parameters
    ----------
    cube : DataCube
    where : (Rx, Ry) bool, optional
        Positions that count.
    options : RunOptions, optional

    Returns
    -------
    DiffractionSlice

    Notes
    -----
    Exact for any size of scan: a few passes over the data instead of a copy of it in memory.
    Values that are NaN or infinite do not count; a pixel without any other is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> cube = DataCube(np.array([1, 5, 2, 90], np.uint16).reshape(2, 2, 1, 1))
    >>> float(median_pattern(cube).data[0, 0])
    3.5
    """
    if where is not None and not np.isin(where, (0, 1)).all():
        raise ParameterError("a median takes no weights: where must be True or False")
    result: DiffractionSlice = run(MedianPattern(), cube, where=where, options=options)
    return result
