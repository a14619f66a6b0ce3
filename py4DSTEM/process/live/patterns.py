"""Patterns of a selection that moves over the scan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube, check_cube
from py4DSTEM.core.lazy import chunks_of, read_block
from py4DSTEM.errors import Cancelled, ParameterError, ShapeError
from py4DSTEM.process.diffraction import max_pattern
from py4DSTEM.stream.engine import stream_tiles
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.parallel import in_threads
from py4DSTEM.stream.tile import Tile

__all__ = ["LivePattern"]

Float = NDArray[np.float64]
How = Literal["mean", "max", "sum"]
EPSILON = float(np.finfo(np.float64).eps)
TOLERANCE = 1e-13
ENGINE_BYTES = 1000**3
"""From here on a selection is a pass of the engine, which keeps to tiles and budgets."""
PIECE_BYTES = 8 * 1024**2
"""Read at a time; cancel is looked at in between."""


@dataclass(frozen=True, eq=False)
class _Sum:
    """Σ w v and Σ w over finite values for the weights of a selection."""

    weights: Float
    values: Float
    valid: Float
    error: float = 0.0


class LivePattern:
    """Mean, sum or maximum of the patterns under a selection, as it is dragged.

    Means and sums add what came in and take away what went out, which is exact for integers;
    floats are summed anew before rounding shows.  Calls must not overlap.

    Parameters
    ----------
    cube : Cube

    Examples
    --------
    >>> from py4DSTEM import DataCube
    >>> live = LivePattern(DataCube(np.arange(24, dtype=np.uint16).reshape(2, 3, 2, 2)))
    >>> live.selection([[True, False, False], [True, False, False]]).tolist()
    [[6.0, 7.0], [8.0, 9.0]]
    """

    def __init__(self, cube: Cube) -> None:
        check_cube(cube, "LivePattern")
        self.cube = cube
        self._last: _Sum | None = None

    def pattern(self, rx: int, ry: int) -> NDArray[Any]:
        """The pattern of one position, (Qx, Qy) in the dtype of the data."""
        pattern: NDArray[Any] = self.cube[int(rx), int(ry)].data
        return pattern

    def selection(
        self, mask: ArrayLike, how: How = "mean", options: RunOptions | None = None
    ) -> Float:
        """One pattern for all selected positions, (Qx, Qy) float64.

        Parameters
        ----------
        mask : (Rx, Ry) bool or float
            Positions, or their weights.
        how : "mean", "max" or "sum"
            A pixel that is NaN at some positions is left out there; NaN where it always is (0 in a
            sum).  For the maximum, positions of weight zero do not count.
        options : RunOptions, optional
            For its `cancel`, and for large selections.

        Raises
        ------
        ParameterError
            Nothing is selected.
        """
        weights = self._checked(mask)
        options = options or RunOptions()
        if how not in ("mean", "max", "sum"):
            raise ParameterError(f'how is "mean", "max" or "sum", not {how!r}')
        if how == "max":
            return self._maximum(weights, options)
        total = self._sum(weights, options)
        if how == "sum":
            return total.values.copy()
        # Weights that came and went leave rounding behind where nothing is seen any more.
        seen = total.valid > 64 * EPSILON * float(weights.sum())
        mean = np.full(seen.shape, np.nan)
        np.divide(total.values, total.valid, out=mean, where=seen)
        return mean

    def _checked(self, mask: ArrayLike) -> Float:
        try:
            weights = np.asarray(mask, dtype=np.float64)
        except (TypeError, ValueError):
            raise ParameterError("a selection holds bools or weights") from None
        if weights.shape != self.cube.R_shape:
            raise ShapeError(f"a selection of {weights.shape} on a scan of {self.cube.R_shape}")
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise ParameterError("a selection holds finite weights that are not negative")
        if not weights.any():
            raise ParameterError("the selection holds no scan position")
        return weights

    # ---- sums ------------------------------------------------------------------------------------
    def _sum(self, weights: Float, options: RunOptions) -> _Sum:
        last = self._last
        if last is not None:
            change = weights - last.weights
            if np.count_nonzero(change) < np.count_nonzero(weights):
                moved = self._moved(last, weights, change, options)
                top = float(np.abs(moved.values).max(initial=0))
                if moved.error == 0 or moved.error < TOLERANCE * top:
                    self._last = moved
                    return moved
        self._last = self._anew(weights, options)
        return self._last

    def _moved(self, last: _Sum, weights: Float, change: Float, options: RunOptions) -> _Sum:
        came, seen = self._added(np.maximum(change, 0), options)
        went, lost = self._added(np.maximum(-change, 0), options)
        with np.errstate(invalid="ignore", over="ignore"):  # then all are summed anew
            values, valid = last.values + came - went, last.valid + seen - lost
        whole = self.cube.dtype.kind != "f" and not (weights % 1).any()
        size = max(float(np.abs(v).max(initial=0)) for v in (last.values, came, went))
        return _Sum(weights, values, valid, 0.0 if whole else last.error + 4 * EPSILON * size)

    def _anew(self, weights: Float, options: RunOptions) -> _Sum:
        bytes_ = np.count_nonzero(weights) * self._pattern_bytes()
        if bytes_ < ENGINE_BYTES:
            return _Sum(weights, *self._added(weights, options))

        def work(tile: Tile) -> tuple[Float, Float]:
            return _sums(tile.frames, tile.weights)

        tiles = stream_tiles(self.cube, work, weights=weights, options=options, label="selection")
        return _Sum(weights, *self._total(part for _, part in tiles))

    def _added(self, weights: Float, options: RunOptions) -> tuple[Float, Float]:
        """Σ w v and Σ w over the finite values of each pixel."""

        def work(share: Sequence[list[_Run]]) -> tuple[Float, Float]:
            return self._total(self._sums_of(runs, weights, options) for runs in share)

        return self._total(in_threads(work, self._shares(weights)))

    def _sums_of(
        self, runs: Sequence[_Run], weights: Float, options: RunOptions
    ) -> tuple[Float, Float]:
        _check_cancel(options)
        return _sums(self._read(runs), np.concatenate([weights[r.row, r.columns] for r in runs]))

    def _total(self, parts: Iterable[tuple[Float, Float]]) -> tuple[Float, Float]:
        values, valid = np.zeros(self.cube.Q_shape), np.zeros(self.cube.Q_shape)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite where they do not fit
            for v, c in parts:
                values += v
                valid += c
        return values, valid

    def _maximum(self, weights: Float, options: RunOptions) -> Float:
        if np.count_nonzero(weights) * self._pattern_bytes() >= ENGINE_BYTES:
            whole = max_pattern(self.cube, where=weights, options=options).data
            return np.asarray(whole, dtype=np.float64)

        def work(share: Sequence[list[_Run]]) -> Float:
            top = np.full(self.cube.Q_shape, -np.inf)
            for runs in share:
                _check_cancel(options)
                np.maximum(top, _largest(self._read(runs)), out=top)
            return top

        tops = in_threads(work, self._shares(weights))
        top: Float = np.max(tops, axis=0)
        return np.where(np.isneginf(top), np.nan, top)

    # ---- reading ---------------------------------------------------------------------------------
    def _pattern_bytes(self) -> int:
        return max(1, self.cube.Q_shape[0] * self.cube.Q_shape[1] * self.cube.dtype.itemsize)

    def _read(self, runs: Sequence[_Run]) -> NDArray[Any]:
        blocks = [read_block(self.cube.data, slice(r.row, r.row + 1), r.columns) for r in runs]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def _shares(self, weights: Float) -> list[list[list[_Run]]]:
        """Runs of positions, a few MB of them together, dealt out to the threads."""
        most = max(1, PIECE_BYTES // self._pattern_bytes())
        chunks = chunks_of(self.cube.data)
        most = most if chunks is None else max(most, chunks[1])
        rows = map(int, np.flatnonzero(weights.any(axis=1)))
        runs = [run for x in rows for run in _runs(weights[x], x, most)]
        workers = max(1, RunOptions().worker_count())
        pieces = list(_pieces(runs, min(most, -(-sum(map(len, runs)) // workers))))
        edges = np.linspace(0, len(pieces), min(workers, max(1, len(pieces))) + 1).astype(int)
        return [pieces[a:b] for a, b in pairwise(edges)]


@dataclass(frozen=True)
class _Run:
    """Neighbouring positions of one scan row."""

    row: int
    columns: slice

    def __len__(self) -> int:
        return int(self.columns.stop - self.columns.start)


def _runs(weights: Float, row: int, most: int) -> list[_Run]:
    """Runs of positions that count, of at most `most`."""
    inside = np.concatenate([[False], weights != 0, [False]])
    starts, stops = np.flatnonzero(np.diff(inside.astype(np.int8))).reshape(-1, 2).T
    return [
        _Run(row, slice(a, min(a + most, int(stop))))
        for start, stop in zip(starts, stops, strict=True)
        for a in range(int(start), int(stop), most)
    ]


def _pieces(runs: Sequence[_Run], most: int) -> Iterator[list[_Run]]:
    """Neighbouring runs together while they hold at most `most` positions."""
    piece: list[_Run] = []
    held = 0
    for run in runs:
        if piece and held + len(run) > most:
            yield piece
            piece, held = [], 0
        piece.append(run)
        held += len(run)
    if piece:
        yield piece


def _sums(frames: NDArray[Any], weights: Float | None) -> tuple[Float, Float]:
    """Σ w v and Σ w over the finite values of each pixel."""
    from py4DSTEM.kernels import compiled

    m = compiled().measure(frames, sums=True, weights=weights)
    return np.asarray(m.sums), np.asarray(m.valid)


def _largest(frames: NDArray[Any]) -> NDArray[Any]:
    from py4DSTEM.kernels import compiled

    return np.asarray(compiled().measure(frames, maximum=True).maximum)


def _check_cancel(options: RunOptions) -> None:
    if options.cancel is not None and options.cancel.is_set():
        raise Cancelled("the selection was cancelled")
