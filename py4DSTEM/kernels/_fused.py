"""The compiled pass behind `measure`: groups of patterns, bands of rows, blocks of pixels.

Patterns are taken a few at a time, so that the images folded over them are touched once per group,
and a band of rows at a time, so that all sums of a band find it in the cache; many detectors take
it in pieces. While one pattern is worked on, the lines of the next are asked for.
"""

from __future__ import annotations

import numpy as np

from ._jit import njit
from ._lanes import (
    block_maximum,
    block_squares,
    block_sums,
    block_sums_maximum,
    block_sums_squares,
    empty_words,
    gather,
    masked_sum,
    strip_moments,
    weighted_sum,
)
from .detectors import LANES

MOST_WAITING = 65536
"""Patterns whose pixels of 16 bits can be added in 32 bits, whatever they are."""


@njit(nogil=True, cache=True, inline="always")
def _detect(flat, base, ahead, piece, parts, buffer, out, seen):
    """Add one piece of one pattern to ``out`` (K,)."""
    member, masked, weighted, places, gathered = parts
    count, regions = member.shape
    for r in range(regions):
        c = piece * regions + r
        s, any_ = masked_sum(
            flat, base, ahead, masked[1], masked[2], masked[0][c], masked[0][c + 1]
        )
        for k in range(count):
            if member[k, r] != 0.0:
                out[k] += member[k, r] * s
                seen[k] += any_
    gather(flat, base, places[1], places[0][piece], places[0][piece + 1], buffer)
    for k in range(count):
        c = piece * count + k
        s, any_s = weighted_sum(
            flat, base, weighted[1], weighted[2], weighted[0][c], weighted[0][c + 1]
        )
        t, any_t = weighted_sum(
            buffer, 0, gathered[1], gathered[2], gathered[0][c], gathered[0][c + 1]
        )
        out[k] += s + t
        seen[k] += any_s + any_t


@njit(nogil=True, cache=True, inline="always")
def _narrow_moments(flat, at, columns, rows):
    """`strip_moments` of patterns too narrow for a strip."""
    total, down, along = 0.0, 0.0, 0.0
    for r in range(rows):
        for j in range(columns):
            v = flat[at + r * columns + j]
            if np.isfinite(v):
                total += np.float64(v)
                down += r * np.float64(v)
                along += j * np.float64(v)
    return total, down, along


@njit(nogil=True, cache=True, inline="always")
def _moments(flat, base, ahead, first, rows, columns, keep, out):
    """Add rows ``first : first + rows`` of one pattern to ``out`` = (Σv, Σ i·v, Σ j·v)."""
    at = base + first * columns
    if columns < LANES:
        total, down, along = _narrow_moments(flat, at, columns, rows)
        out[0] += total
        out[1] += down + first * total
        out[2] += along
        return
    for strip in range((columns + LANES - 1) // LANES):
        j, which = strip * LANES, 0
        if j + LANES > columns:
            j, which = columns - LANES, 1
        next_ = at + ahead + strip * rows * LANES
        total, down, along = strip_moments(flat, at + j, columns, rows, keep, which, next_)
        out[0] += total
        out[1] += down + first * total
        out[2] += along + j * total


@njit(nogil=True, cache=True, inline="always")
def _fold(flat, chosen, low, high, pixels, start, stop, sums, valid, words, squares, maximum):
    """Fold pixels ``start:stop`` of the patterns ``chosen[low:high]`` into the images."""
    end = start + (stop - start) // LANES * LANES
    for k in range(start, end, LANES):
        if sums.size and squares.size:
            block_sums_squares(flat, chosen, low, high, pixels, k, sums, valid, words, squares)
        elif squares.size:
            block_squares(flat, chosen, low, high, pixels, k, squares)
        elif sums.size and maximum.size:
            block_sums_maximum(flat, chosen, low, high, pixels, k, sums, valid, words, maximum)
        elif sums.size:
            block_sums(flat, chosen, low, high, pixels, k, sums, valid, words)
        if maximum.size and (squares.size or not sums.size):
            block_maximum(flat, chosen, low, high, pixels, k, maximum)
    for g in range(low, high):
        for k in range(end, stop):
            v = flat[chosen[g] * pixels + k]
            if not np.isfinite(v):
                continue
            if sums.size:
                sums[k] += np.float64(v)
                valid[k] += 1.0
            if squares.size:
                squares[k] += np.float64(v) * np.float64(v)
            if maximum.size and v > maximum[k]:
                maximum[k] = v


@njit(nogil=True, cache=True, inline="always")
def _empty(flat, pixels, step, sums, words):
    """Add what waits in ``words``, in the blocks of bands of ``step`` pixels, to ``sums``."""
    if sums.size:
        for start in range(0, pixels, step):
            for k in range(start, min(start + step, pixels) - LANES + 1, LANES):
                empty_words(flat, k, sums, words)


@njit(nogil=True, cache=True)
def fused_pass(
    flat, shape, band_rows, pieces, group, chosen, keep, parts, buffer,
    detected, seen, moments, sums, valid, squares, maximum,
):  # fmt: skip
    """Fill the tables of every pattern and the images over the patterns ``chosen``.

    Arrays of size 0 are not wanted. ``flat`` holds n patterns of ``shape``; ``chosen`` is sorted;
    ``keep`` (2, 32) are masks for all of a strip and for what is left over at the right;
    ``parts`` are those of `CompiledDetectors`; ``buffer`` has room for its gathered pixels.
    """
    rows, columns = shape
    pixels = rows * columns
    n = flat.size // pixels
    words, waiting = np.zeros(sums.size, np.uint32), 0
    high = 0
    for g0 in range(0, n, group):
        g1 = min(n, g0 + group)
        low = high
        while high < chosen.size and chosen[high] < g1:
            high += 1
        for band, first in enumerate(range(0, rows, band_rows)):
            tall = min(band_rows, rows - first)
            for p in range(g0, g1):
                ahead = pixels
                if p + 1 == g1 and first + tall < rows:
                    ahead = (g0 - p) * pixels + tall * columns
                elif p + 1 == g1:
                    ahead = pixels - first * columns
                for piece in range(band * pieces, (band + 1) * pieces if detected.size else 0):
                    _detect(flat, p * pixels, ahead, piece, parts, buffer, detected[p], seen[p])
                if moments.size:
                    _moments(flat, p * pixels, ahead, first, tall, columns, keep, moments[p])
            if high > low:
                start, stop = first * columns, (first + tall) * columns
                _fold(
                    flat, chosen, low, high, pixels, start, stop,
                    sums, valid, words, squares, maximum,
                )  # fmt: skip
        waiting += high - low
        if g1 == n or waiting > MOST_WAITING - group:
            _empty(flat, pixels, band_rows * columns, sums, words)
            waiting = 0


@njit(nogil=True, cache=True)
def weighted_images(flat, weights, sums, valid, squares):
    """Σ w·v, Σ w and Σ w·v² of each pixel where it is finite; arrays of size 0 are not wanted."""
    pixels = flat.size // weights.size
    for p in range(weights.size):
        w = weights[p]
        if w == 0.0:
            continue
        for k in range(pixels):
            raw = flat[p * pixels + k]
            good = np.isfinite(raw)
            v = np.float64(raw) if good else 0.0
            if sums.size:
                sums[k] += w * v
                valid[k] += w if good else 0.0
            if squares.size:
                squares[k] += w * v * v
