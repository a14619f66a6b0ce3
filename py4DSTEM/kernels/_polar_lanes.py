"""Several patterns at a time through a table of shares: every entry is one vector instruction.

A row of pixels of each pattern is made float32 and turned, so that the values that as many patterns
have at one pixel lie side by side.  A pattern may lie anywhere on the table's detector, which is
how one table serves many origins.
"""

from __future__ import annotations

import numpy as np

from ._jit import njit
from ._simd import LANES, LINE, address, larger, load, masked, same, spread, store, turn

__all__ = ["LANES", "lane_moments", "lane_sums", "room", "spread_out"]

_FINITE = np.float32(np.finfo(np.float32).max)


def room(*shape: int) -> np.ndarray:
    """Zeros that begin where a line of the cache does."""
    size = int(np.prod(shape))
    flat = np.zeros(size + LANES, np.float32)
    first = -(flat.ctypes.data // 4) % LANES
    return flat[first : first + size].reshape(shape)


@njit(nogil=True, cache=True)
def _take_row(frame, i, left, pixels, row):
    """Row i of a pattern (none where it has no such row) as float32 from column `left` on.

    Returns how many of its pixels that count are no finite numbers.  They, those that do not count
    and those beyond the pattern become `blank`.
    """
    keep, whole, blank = pixels
    width = frame.shape[1]
    row[:left] = blank
    row[left + width :] = blank
    here = row[left : left + width]
    if i < 0 or i >= frame.shape[0]:
        here[:] = blank
        return 0
    there = frame[i]
    for j in range(width):
        here[j] = np.float32(there[j])
    wrong = 0 if whole else _repair(here, blank)
    if keep.size:
        mask = keep[i]
        wrong = 0
        for j in range(width):
            here[j] = here[j] if mask[j] > 0 else blank
            wrong += 1 if mask[j] > 0 and not np.isfinite(there[j]) else 0
    return wrong


@njit(nogil=True, cache=True)
def _repair(row, blank):
    """Set to `blank`, and count, what is no finite number."""
    wrong = np.int32(0)
    for j in range(row.size):
        fine = abs(row[j]) <= _FINITE
        row[j] = row[j] if fine else blank
        wrong += np.int32(0) if fine else np.int32(1)
    return wrong


@njit(nogil=True, cache=True)
def _turned_row(frames, which, places, i, pixels, rows, turned, wrong):
    """Row i of the table's detector of all patterns, turned: a vector for each pixel."""
    for lane in range(which.size):
        top, left = places[lane]
        wrong[lane] += _take_row(frames[which[lane]], i - top, left, pixels, rows[lane])
    stride, source, target = 4 * rows.shape[1], address(rows), address(turned)
    for j in range(0, rows.shape[1], LANES):
        turn(source + 4 * j, stride, target + j * LINE, LINE)


@njit(nogil=True, cache=True)
def lane_sums(frames, which, places, pixels, table, width, scratch, wrong):
    """Sums of as many patterns as there are lanes over the bins of a table.

    `pixels`: which count, whether all are finite, and 0; `scratch`: sums (bins, LANES), which must
    be zero, and two rows; `wrong` counts pixels that are no finite numbers.
    """
    starts, bins, weights = table
    sums, rows, turned = scratch
    at, values = address(sums), address(turned)
    shares = address(weights)
    for i in range((starts.size - 1) // width):
        first = i * width
        if starts[first] == starts[first + width]:
            continue
        _turned_row(frames, which, places, i, pixels, rows, turned, wrong)
        for j in range(width):
            begin, end = starts[first + j], starts[first + j + 1]
            if begin < end:
                v = load(values + j * LINE)
                for e in range(begin, end):
                    to = at + np.int64(bins[e]) * LINE
                    store(to, load(to) + v * same(shares + 4 * e))


@njit(nogil=True, cache=True)
def lane_moments(frames, which, places, pixels, table, width, scratch, wrong):
    """Sums of differences from a level, and of their squares, over the rings of a table.

    `pixels`: which count, whether all are finite, and NaN for the others; `scratch`: levels, sums
    and squares (rings, LANES), and two rows.
    """
    starts, bins, weights = table
    levels, sums, squares, rows, turned = scratch
    level, at, square, values = address(levels), address(sums), address(squares), address(turned)
    shares, zero = address(weights), spread(np.float32(0.0))
    for i in range((starts.size - 1) // width):
        first = i * width
        if starts[first] == starts[first + width]:
            continue
        _turned_row(frames, which, places, i, pixels, rows, turned, wrong)
        for j in range(width):
            begin, end = starts[first + j], starts[first + j + 1]
            if begin < end:
                v = load(values + j * LINE)
                for e in range(begin, end):
                    bin_ = np.int64(bins[e]) * LINE
                    d = v - load(level + bin_)
                    d = masked(d, d, larger(zero, d))  # NaN, which is neither, becomes zero
                    share = d * same(shares + 4 * e)
                    store(at + bin_, load(at + bin_) + share)
                    store(square + bin_, load(square + bin_) + share * d)


@njit(nogil=True, cache=True)
def spread_out(sums, flat, factors, out, which):
    """Sums (bins, LANES), times the factors (1 or lanes, bins), to rows `which` of `out`.

    `flat` is room for (LANES, bins) or more.
    """
    source, target, step = address(sums), address(flat), 4 * flat.shape[1]
    for k in range(0, out.shape[1], LANES):
        turn(source + k * LINE, LINE, target + 4 * k, step)
    for lane in range(which.size):
        values, to = flat[lane, : out.shape[1]], out[which[lane]]
        factor = factors[lane if factors.shape[0] > 1 else 0]
        for k in range(to.size):
            to[k] = values[k] * factor[k]
