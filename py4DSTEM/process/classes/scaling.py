"""Features made comparable: unknown ones masked or filled, counts stabilised, columns scaled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import ParameterError
from py4DSTEM.process.classes.features import Features, known_features

__all__ = ["Missing", "Scaled", "rows_at_once", "scaled"]

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Int = NDArray[np.int64]
Missing = Literal["mask", "median"]
_MOST_ROWS, _PART_VALUES = 4096, 1 << 23
"""Positions, and values in them, that are worked on at once."""
_CONSTANT = 1e-6
"""Spread over size below which float32 cannot tell a feature from a constant."""
_MAD = 1.4826
_ANSCOMBE = 0.375


@dataclass(frozen=True, eq=False)
class Scaled:
    """Scaled features, made where they are asked for.

    Parameters
    ----------
    features : Features
    positions : (n,) int64
        Rows of `features` that are used, in their order.
    columns : (m,) int64
        Columns that are used.
    offset, spread : (m,) float64
        Subtracted, then divided by.
    fill : (m,) float64
        What stands for unknown values, before offset and spread.
    rest : (n_features,) float64
        Typical raw value of every feature, for those that are not used.
    report : dict
        What was left out, and what filled in.
    """

    features: Features
    positions: Int
    columns: Int
    offset: Float
    spread: Float
    fill: Float
    rest: Float
    report: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        """Positions and features that are used."""
        return len(self.positions), len(self.columns)

    @property
    def nbytes(self) -> int:
        """Of all rows."""
        return 4 * len(self.positions) * len(self.columns)

    def rows(self, which: slice | Int) -> Float32:
        """Some of the positions that are used, (k, m) float32."""
        values = _stabilised(self.features, self.positions[which])[:, self.columns]
        values = np.where(np.isfinite(values), values, self.fill)
        return np.asarray((values - self.offset) / self.spread, dtype=np.float32)

    def chunks(self) -> Iterator[Float32]:
        """All positions that are used, in parts."""
        rows = rows_at_once(self.features.n)
        for start in range(0, len(self.positions), rows):
            yield self.rows(slice(start, start + rows))

    def matrix(self) -> Float32:
        """All positions that are used, (n, m) float32."""
        whole = np.empty(self.shape, np.float32)
        start = 0
        for part in self.chunks():
            whole[start : start + len(part)] = part
            start += len(part)
        return whole

    def original(self, vectors: Float) -> Float:
        """Scaled vectors (k, m) in the unit of the features, (k, n_features)."""
        whole = np.tile(self.rest, (len(vectors), 1))
        values = np.asarray(vectors, np.float64) * self.spread + self.offset
        for block in self.features.blocks:
            own = self.features.columns(block)
            mine = (self.columns >= own.start) & (self.columns < own.stop)
            whole[:, self.columns[mine]] = _undone(values[:, mine], block.transform)
        return whole

    def directions(self, vectors: Float) -> Float:
        """Differences of scaled vectors (k, m) in the unit of the transformed features."""
        whole = np.zeros((len(vectors), self.features.n))
        whole[:, self.columns] = np.asarray(vectors, np.float64) * self.spread
        return whole

    def place(self, values: NDArray[Any], empty: Any) -> NDArray[Any]:
        """Values of the positions that are used as a map, (Rx, Ry, ...)."""
        nx, ny = self.features.R_shape
        whole = np.full((nx * ny, *values.shape[1:]), empty, dtype=values.dtype)
        whole[self.positions] = values
        return whole.reshape(nx, ny, *values.shape[1:])


def rows_at_once(columns: int) -> int:
    """Positions whose features may be worked on together.

    >>> rows_at_once(200), rows_at_once(65536)
    (4096, 128)
    """
    return max(16, min(_MOST_ROWS, _PART_VALUES // columns))


def scaled(features: Features, missing: Missing = "mask") -> Scaled:
    """Find out which features can be used, and how they are scaled.

    Parameters
    ----------
    features : Features
    missing : "mask" or "median"
        Positions with an unknown feature are not used, or get the median of that feature; those
        where nothing is known are never used.

    Raises
    ------
    ParameterError
        Nothing is left: no position is known, or all features are constant.
    """
    counts, known = known_features(features.data)
    needed = int(known.sum()) if missing == "mask" else 1
    positions = np.flatnonzero(counts >= max(needed, 1))
    if not len(positions):
        raise ParameterError(
            "no position has all its features: give missing='median', or leave out the features "
            "that are unknown"
            if counts.any()
            else "no feature is known at any position"
        )
    mean, deviation = _moments(features, positions)
    constant = known & ~(deviation > _CONSTANT * np.maximum(np.abs(mean), 1e-300))
    columns = np.flatnonzero(known & ~constant)
    if not len(columns):
        raise ParameterError(
            f"all {features.n} features are constant over the {len(positions)} positions that have "
            "them: there is nothing to tell positions apart by"
        )
    medians, mad = _medians(features, positions, columns, missing)
    offset, spread = _scales(features, columns, (mean, deviation), (medians, mad))
    names = features.names
    report = {
        "positions used": len(positions),
        "positions not used": features.data.shape[0] - len(positions),
        "features used": len(columns),
        "features dropped (constant)": int(constant.sum()),
        "features dropped (unknown)": int((~known).sum()),
        "dropped": [names[k] for k in np.flatnonzero(constant | ~known)[:20]],
        "values filled": int((known.sum() - counts[positions]).sum()),
    }
    fill = np.where(np.isfinite(medians), medians, mean)[columns]
    rest = np.empty(features.n)
    for block in features.blocks:
        own = features.columns(block)
        rest[own] = _undone(mean[own], block.transform)
    return Scaled(features, positions, columns, offset, spread, fill, rest, report)


# ---- how the values are spread -------------------------------------------------------------------
def _moments(features: Features, positions: Int) -> tuple[Float, Float]:
    """Mean and standard deviation of the stabilised columns; NaN where nothing is known."""
    count = np.zeros(features.n)
    mean = np.zeros(features.n)
    m2 = np.zeros(features.n)
    rows = rows_at_once(features.n)
    for start in range(0, len(positions), rows):
        values = _stabilised(features, positions[start : start + rows])
        finite = np.isfinite(values)
        n = finite.sum(axis=0)
        own = np.where(finite, values, 0.0).sum(axis=0) / np.maximum(n, 1)
        rest = np.where(finite, values - own, 0.0)
        total = count + n
        step = own - mean
        share = np.divide(n, total, out=np.zeros_like(total), where=total > 0)
        m2 += (rest**2).sum(axis=0) + step**2 * count * share
        mean += step * share
        count = total
    seen = count > 0
    variance = np.divide(m2, count, out=np.full(features.n, np.nan), where=seen)
    return np.where(seen, mean, np.nan), np.sqrt(variance)


def _medians(
    features: Features, positions: Int, columns: Int, missing: Missing
) -> tuple[Float, Float]:
    """Median and median absolute deviation, where a block or a gap asks for them; else NaN."""
    medians, mad = np.full(features.n, np.nan), np.full(features.n, np.nan)
    used = np.zeros(features.n, bool)
    used[columns] = True
    for block in features.blocks:
        if missing != "median" and block.scale != "robust":
            continue
        own = features.columns(block)
        for k in np.flatnonzero(used[own]) + own.start:
            column = np.asarray(features.data[:, k], np.float64)[positions]
            column = _transformed(column[np.isfinite(column)], block.transform)
            medians[k] = np.median(column)
            mad[k] = np.median(np.abs(column - medians[k]))
    return medians, mad


def _scales(
    features: Features,
    columns: Int,
    moments: tuple[Float, Float],
    middles: tuple[Float, Float],
) -> tuple[Float, Float]:
    """What is subtracted from, and divides, each of the columns that are used."""
    (mean, deviation), (medians, mad) = moments, middles
    offset, spread = np.zeros(features.n), np.ones(features.n)
    used = np.zeros(features.n, bool)
    used[columns] = True
    for block in features.blocks:
        own = np.arange(features.n)[features.columns(block)]
        own = own[used[own]]
        if block.scale == "block":
            spread[own] = np.sqrt((deviation[own] ** 2).sum())
        elif block.scale == "standard":
            offset[own], spread[own] = mean[own], deviation[own]
        elif block.scale == "robust":
            # More than half of the values may be the same: their MAD is zero.
            width = np.where(mad[own] > 0, _MAD * mad[own], deviation[own])
            offset[own], spread[own] = medians[own], width
    return offset[columns], spread[columns]


# ---- counts --------------------------------------------------------------------------------------
def _stabilised(features: Features, positions: Int) -> Float:
    """All columns of some rows after the transform of their block, (k, n_features) float64."""
    values = np.asarray(features.data[positions], np.float64)
    for block in features.blocks:
        own = features.columns(block)
        values[:, own] = _transformed(values[:, own], block.transform)
    return values


def _transformed(values: Float, transform: str) -> Float:
    if transform == "none":
        return values
    counts = np.maximum(values, 0.0)  # noise below a background that was subtracted
    if transform == "log":
        return np.log1p(counts)
    return 2 * np.sqrt(counts + _ANSCOMBE) if transform == "anscombe" else np.sqrt(counts)


def _undone(values: Float, transform: str) -> Float:
    """The inverse of `_transformed`; at least zero."""
    if transform == "none":
        return values
    if transform == "log":
        return np.expm1(np.maximum(values, 0.0))
    root = np.maximum(values, 0.0)
    if transform == "sqrt":
        return root**2
    return np.maximum((root / 2) ** 2 - _ANSCOMBE, 0.0)
