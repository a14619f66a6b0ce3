"""Detector weights taken apart into blocks that the compiled sums can run through."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LANES = 32
"""Pixels in a block: 32 neighbours in the flattened pattern."""

FEW = 8
"""Up to this many odd pixels of a block are gathered from the frame one by one."""

BAND_PIXELS = 16384
"""Pixels of a pattern that are worked on while they stay in the second cache."""

FEW_DETECTORS = 2
"""More than these read most pixels again: half a band at a time, which the first cache keeps."""

LEAST_ROWS = 16
"""Rows of a band of very wide patterns, so that starting on it costs little."""

MOST_CODES = 62
"""Detectors whose memberships fit in one integer."""

Ragged = tuple[np.ndarray, ...]
"""Lists laid end to end: int64 starts, then the places, then (mostly) a value for each place."""


class CompiledDetectors(NamedTuple):
    """K detectors of one shape, ready for `measure`; made by `compile_detectors`.

    Attributes
    ----------
    shape : (Qx, Qy)
    count : K
    band_rows : rows of a pattern worked on at a time
    pieces : parts of a band that the detectors take one after the other
    support : (K,) int64, pixels with a weight other than zero
    room : pixels of the buffer that single pixels are gathered into
    parts : the lists below, for each piece of each band

        member (K, R) float64
            weight of region r in detector k: a region is a set of pixels that belong with constant
            weights to the same detectors, so that it is summed once for all of them;
        masked
            blocks of 32 pixels and their masks, by region;
        weighted
            blocks and a weight for each of their pixels, by detector;
        places
            single pixels that are gathered into a buffer;
        gathered
            blocks of that buffer and a weight for each of their pixels, by detector.
    """

    shape: tuple[int, int]
    count: int
    band_rows: int
    pieces: int
    support: np.ndarray
    room: int
    parts: tuple[np.ndarray, Ragged, Ragged, Ragged, Ragged]


def rows_per_band(shape: tuple[int, int]) -> int:
    """Rows of a pattern in one band; never more than 256."""
    rows, columns = shape
    return max(1, min(rows, max(LEAST_ROWS, BAND_PIXELS // max(1, columns)), 256))


def compile_detectors(weights: np.ndarray) -> CompiledDetectors:
    """Take detector weights apart once, to sum many patterns quickly.

    Parameters
    ----------
    weights : (K, Qx, Qy) float64
        Weight of every pixel in every detector. Pixels of each detector's commonest weight (usually
        1) are added first and multiplied once. Where 32 pixels together weigh nothing they are not
        even read.

    Returns
    -------
    CompiledDetectors
        Good for frames of shape (n, Qx, Qy).
    """
    weights = np.ascontiguousarray(weights, dtype=np.float64)
    count, height, width = weights.shape
    flat = weights.reshape(count, height * width)
    scale = np.array([_commonest(w) for w in flat], dtype=np.float64)
    even, dense, odd = _sort_pixels(flat, scale)
    regions, codes = _regions(even)
    pieces = 1 if count <= FEW_DETECTORS else 2
    bands = _bands((height, width), pieces)
    picked = [_gathered(flat[:, band], odd[:, band], band.start) for band in bands]
    return CompiledDetectors(
        shape=(height, width),
        count=count,
        band_rows=rows_per_band((height, width)),
        pieces=pieces,
        support=np.count_nonzero(flat, axis=1),
        room=max((_padded(p[0].size) for p in picked), default=0),
        parts=(
            np.where(regions, scale[:, None], 0.0),
            _join([_masked(m, band) for band in bands for m in codes], np.int8),
            _join([_weighted(flat[k], dense[k], band) for band in bands for k in range(count)]),
            _join([(p[0], np.empty((0, LANES))) for p in picked])[:2],
            _join([blocks for p in picked for blocks in p[1]]),
        ),
    )


def _bands(shape: tuple[int, int], pieces: int) -> list[slice]:
    """Pixels of each piece of each band."""
    rows, columns = shape
    step = rows_per_band(shape)
    edges = [
        first + min(step, rows - first) * piece // pieces
        for first in range(0, rows, step)
        for piece in range(pieces)
    ]
    return [slice(a * columns, b * columns) for a, b in zip(edges, [*edges[1:], rows], strict=True)]


def _commonest(weights: np.ndarray) -> float:
    values, counts = np.unique(weights[weights != 0], return_counts=True)
    return float(values[counts.argmax()]) if values.size else 1.0


def _sort_pixels(flat: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels summed under a mask (K, P), blocks weighted whole (K, P // 32), pixels to gather."""
    end = flat.shape[1] // LANES * LANES
    even = (flat == scale[:, None]) & (flat != 0)
    even[:, end:] = False
    odd = (flat != 0) & ~even
    dense = np.count_nonzero(_in_blocks(odd), axis=2) > FEW
    taken = np.zeros_like(odd)
    taken[:, :end] = np.repeat(dense, LANES, axis=1)
    return even & ~taken, dense, odd & ~taken


def _regions(even: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detectors each region belongs to (K, R), and its pixels (R, P).

    Regions are the sets of pixels with the same memberships, or simply the detectors where these
    are so many or so tangled that the sets would take more blocks.
    """
    count = len(even)
    itself = np.eye(count, dtype=bool), even
    if count < 2 or count > MOST_CODES:
        return itself
    bits = np.int64(1) << np.arange(count)
    code = bits @ even
    found = np.unique(code[code != 0])
    if len(found) > 4 * count:
        return itself
    apart = code == found[:, None]
    if _blocks(apart) >= _blocks(even):
        return itself
    return (found & bits[:, None]) != 0, apart


def _blocks(masks: np.ndarray) -> int:
    return int(_in_blocks(masks).any(axis=2).sum())


def _in_blocks(rows: np.ndarray) -> np.ndarray:
    """(K, P) as (K, P // 32, 32), without the pixels left over."""
    blocks = rows.shape[1] // LANES
    return rows[:, : blocks * LANES].reshape(len(rows), blocks, LANES)


def _whole_blocks(band: slice) -> np.ndarray:
    """Numbers of the blocks that start in a band."""
    return np.arange(-(-band.start // LANES), -(-band.stop // LANES))


def _masked(mask: np.ndarray, band: slice) -> tuple[np.ndarray, np.ndarray]:
    blocks = mask[: mask.size // LANES * LANES].reshape(-1, LANES)
    numbers = _whole_blocks(band)
    numbers = numbers[numbers < len(blocks)]
    numbers = numbers[blocks[numbers].any(axis=1)]
    return numbers * LANES, -blocks[numbers].astype(np.int8)


def _weighted(weights: np.ndarray, dense: np.ndarray, band: slice) -> tuple[np.ndarray, np.ndarray]:
    numbers = _whole_blocks(band)
    numbers = numbers[numbers < len(dense)]
    numbers = numbers[dense[numbers]]
    blocks = weights[: dense.size * LANES].reshape(-1, LANES)
    return numbers * LANES, blocks[numbers]


def _gathered(
    weights: np.ndarray, odd: np.ndarray, start: int
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Single pixels of one band in the order of their detectors, and each detector's blocks."""
    pixels = np.flatnonzero(odd.any(axis=0))
    if not pixels.size:
        return pixels, [(pixels, np.empty((0, LANES)))] * len(weights)
    member = odd[:, pixels]
    first, last = member.argmax(axis=0), -member[::-1].argmax(axis=0)
    pixels = pixels[np.lexsort((pixels, last, first))]
    padded = np.zeros((len(weights), _padded(pixels.size)))
    padded[:, : pixels.size] = np.where(odd, weights, 0.0)[:, pixels]
    parts = []
    for row in _in_blocks(padded):
        numbers = np.flatnonzero(row.any(axis=1))
        parts.append((numbers * LANES, row[numbers]))
    return start + pixels, parts


def _padded(count: int) -> int:
    return -(-count // LANES) * LANES


def _join(parts: list[tuple[np.ndarray, np.ndarray]], dtype: type = np.float64) -> Ragged:
    """(starts, places, values) of lists laid end to end."""
    starts = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(p[0]) for p in parts], out=starts[1:])
    places = np.concatenate([np.empty(0, np.int64), *(p[0] for p in parts)]).astype(np.int64)
    values = np.concatenate([np.empty((0, LANES)), *(p[1] for p in parts)]).astype(dtype)
    return starts, places, np.ascontiguousarray(values)
