"""How the numbers of a raw file may lie: guesses from its size, its name and a few patterns."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import ParameterError
from py4DSTEM.io.format import RawLayout, Source

__all__ = ["Fit", "Guess", "fit_layout", "guess_layouts"]

Array = NDArray[Any]
Pair = tuple[int, int]

SIDES = (
    32, 48, 64, 80, 96, 100, 112, 120, 128, 144, 150, 160, 180, 192, 200, 224, 240, 250, 256, 264,
    288, 300, 320, 336, 360, 384, 400, 448, 480, 500, 512, 514, 515, 516, 576, 600, 640, 768, 800,
    960, 1000, 1024, 1028, 1152, 1200, 2000, 2048, 4096,
)  # fmt: skip
"""Sides of square detectors, and what binning and cropping make of them."""
OBLONG = ((256, 512), (512, 256), (512, 1024), (1028, 1062), (1028, 512), (512, 1028),
          (130, 128), (4092, 5760), (2046, 2880), (3710, 3838), (1024, 2048))  # fmt: skip
DTYPES = ("uint8", "<u2", "<f4", "<u4", ">u2", "<i2", "<i4", ">u4", ">f4", "<f8")
HEADERS = (0, 256, 384, 512, 768, 1024, 2048, 4096, 8192)
GAPS = (0, 8, 64, 256, 384, 512, 768, 1024)
KNOWN = (
    ("EMPAD", "<f4", (128, 128), 0, 1024),
    ("Merlin, 8 bit", "uint8", (256, 256), 384, 384),
    ("Merlin, 16 bit", ">u2", (256, 256), 384, 384),
    ("Merlin, 32 bit", ">u4", (256, 256), 384, 384),
    ("Merlin quad, 8 bit", "uint8", (512, 512), 768, 768),
    ("Merlin quad, 16 bit", ">u2", (512, 512), 768, 768),
    ("Merlin quad, 16 bit", ">u2", (514, 514), 768, 768),
    ("pnCCD", "<u2", (264, 264), 1088, 64),
)
"""Detectors whose files have gaps: name, dtype, Q_shape, offset_bytes, gap_bytes."""

FLYBACKS = (1, 2)
MOST_LOOKED_AT = 64
SAMPLES = 32
SAMPLE_BYTES = 4 * 1000**2
"""Read for one candidate, at most, but for two patterns."""
MOST_FRAMES = 1 << 26
LARGEST = 1e12
"""Nobody measures more."""

_PAIR = re.compile(r"(?<![0-9])(\d{1,5})\s*[xX×]\s*(\d{1,5})(?![0-9])", re.ASCII)
_SCAN = re.compile(r"(?<![a-zA-Z])x_?(\d{1,5})[_-]?y_?(\d{1,5})(?![0-9])", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Guess:
    """One way in which the numbers of a file may lie.

    Parameters
    ----------
    layout : RawLayout
    scan_shape : (int, int)
        Rows and columns.
    flyback : int
        Patterns after every row that belong to no position.
    frames : int
        Patterns in the file.
    likelihood : float
        0 … 1; of this guess alone, not shared among all.
    reason : str
        What speaks for it.
    """

    layout: RawLayout
    scan_shape: Pair
    flyback: int
    frames: int
    likelihood: float
    reason: str


@dataclass(frozen=True)
class Fit:
    """How a layout and a scan agree with the size of a file.

    Parameters
    ----------
    expected_bytes, actual_bytes : int
        What the layout needs for the scan, and what the file has.
    frames : int
        Whole patterns that the file holds.
    needed : int
        Patterns that the scan needs.
    """

    expected_bytes: int
    actual_bytes: int
    frames: int
    needed: int

    @property
    def difference_bytes(self) -> int:
        """Of the file over what is expected; negative where bytes are missing."""
        return self.actual_bytes - self.expected_bytes

    @property
    def exact(self) -> bool:
        """Whether not a byte is missing or too many."""
        return self.difference_bytes == 0

    @property
    def readable(self) -> bool:
        """Whether there is at least one pattern."""
        return self.frames > 0


def fit_layout(
    size_bytes: int,
    layout: RawLayout,
    scan_shape: Pair,
    *,
    flyback: int = 0,
    sync_offset: int = 0,
) -> Fit:
    """Compare the size of a file with what a layout and a scan need.

    Parameters
    ----------
    size_bytes : int
    layout : RawLayout
    scan_shape : (int, int)
    flyback : int
        Patterns after every row.  Those after the last one, and the gap after the last pattern,
        may or may not be in the file: what the file has is expected.
    sync_offset : int
        Patterns before the first position; negative where the first ones are missing.

    Raises
    ------
    ParameterError
        Something is not positive, or there is no such dtype.

    Examples
    --------
    >>> from py4DSTEM import RawLayout
    >>> fit = fit_layout(2100, RawLayout(dtype="uint16", Q_shape=(10, 10)), (2, 5))
    >>> fit.expected_bytes, fit.difference_bytes, fit.frames
    (2000, 100, 10)
    """
    rows, columns = scan_shape
    frame = _frame_bytes(layout)
    if min(rows, columns) < 1:
        raise ParameterError(f"a scan has at least one row and one column, not {scan_shape}")
    if flyback < 0:
        raise ParameterError(f"flyback counts patterns: 0 or more, not {flyback}")
    stride = frame + layout.gap_bytes
    least = sync_offset + rows * (columns + flyback) - flyback
    if least < 1:
        raise ParameterError(f"sync_offset={sync_offset} leaves nothing of the scan in the file")
    body = size_bytes - layout.offset_bytes
    found = max(0, (body + layout.gap_bytes) // stride)
    needed = min(max(found, least), least + flyback)
    expected = layout.offset_bytes + needed * stride
    if layout.gap_bytes and size_bytes == expected - layout.gap_bytes:
        expected = size_bytes
    return Fit(expected, size_bytes, found, needed)


def _frame_bytes(layout: RawLayout) -> int:
    try:
        dtype = np.dtype(layout.dtype)
    except TypeError as error:
        raise ParameterError(f"no dtype {layout.dtype!r}: '<u2', 'float32' …") from error
    if dtype.kind not in "buif":
        raise ParameterError(f"patterns are real numbers, not {dtype}")
    if min(layout.Q_shape) < 1:
        raise ParameterError(f"a pattern has at least one pixel, not {layout.Q_shape}")
    return layout.Q_shape[0] * layout.Q_shape[1] * dtype.itemsize


def guess_layouts(path: str | os.PathLike[str], limit: int = 12) -> tuple[Guess, ...]:
    """Ways in which the numbers of a raw file may lie, the likeliest first.

    Sizes of detectors, headers and gaps that are in use are tried; those that divide the file into
    whole patterns are looked at: numbers that are read rightly make smooth patterns that are alike
    all over the file.

    Parameters
    ----------
    path : path
    limit : int
        At most so many guesses.

    Returns
    -------
    tuple of Guess
        Empty where nothing fits.

    Raises
    ------
    FormatError
        The file is missing, empty or unreadable.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> frame = np.hypot(*np.ogrid[-20:44, -30:34]) < 10
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "scan.raw")
    ...     np.repeat(frame[None].astype("<u2") * 9, 30, axis=0).tofile(path)
    ...     best = guess_layouts(path)[0]
    >>> best.layout.Q_shape, best.layout.dtype, best.frames
    ((64, 64), '<u2', 30)
    """
    source = Source.of(path)
    if source.is_directory:
        raise ParameterError(f"{source.path} is a folder: choose a file")
    hints = _Hints.of(source.path)
    found = sorted(_candidates(source.size, hints), key=lambda c: -c.prior)[:MOST_LOOKED_AT]
    looked = [_guess(source, candidate, hints) for candidate in found]
    looked.sort(key=lambda guess: -guess.likelihood)
    return tuple(looked[:limit])


# ---- what the name says --------------------------------------------------------------------------
@dataclass(frozen=True)
class _Hints:
    """Pairs of numbers and types in the name of the file."""

    pairs: tuple[Pair, ...]
    scan: Pair | None
    dtype: str

    @classmethod
    def of(cls, path: Path) -> _Hints:
        name = path.stem
        scan = _SCAN.search(name)
        pairs = [(int(m[1]), int(m[2])) for m in _PAIR.finditer(name)]
        words = {"uint8": "u1", "uint16": "u2", "uint32": "u4", "int16": "i2", "int32": "i4",
                 "float32": "f4", "float64": "f8"}  # fmt: skip
        named = next((code for word, code in words.items() if word in name.lower()), "")
        columns_first = None if scan is None else (int(scan[2]), int(scan[1]))
        return cls(tuple(p for p in pairs if min(p) > 0), columns_first, named)


# ---- what fits the size --------------------------------------------------------------------------
@dataclass(frozen=True)
class _Candidate:
    layout: RawLayout
    frames: int
    scan_shape: Pair
    flyback: int
    prior: float
    reason: str


def _candidates(size: int, hints: _Hints) -> Iterator[_Candidate]:
    seen = set()
    for name, dtype, shape, offset, gap in _layouts(hints):
        layout = RawLayout(dtype=dtype, Q_shape=shape, offset_bytes=offset, gap_bytes=gap)
        frames = _whole(size, layout)
        if layout in seen or not 0 < frames <= MOST_FRAMES:
            continue
        seen.add(layout)
        yield _judged(name, layout, frames, hints)


def _layouts(hints: _Hints) -> Iterator[tuple[str, str, Pair, int, int]]:
    yield from KNOWN
    shapes = [*dict.fromkeys((*hints.pairs, *((n, n) for n in SIDES), *OBLONG))]
    for shape in shapes:
        for dtype in DTYPES:
            for offset in HEADERS:
                yield "", dtype, shape, offset, 0
            for gap in GAPS[1:]:
                yield "", dtype, shape, 0, gap
                yield "", dtype, shape, gap, gap


def _whole(size: int, layout: RawLayout) -> int:
    """Number of patterns where the file holds a whole number of them, else 0."""
    stride = _frame_bytes(layout) + layout.gap_bytes
    body = size - layout.offset_bytes
    count, rest = divmod(body, stride)
    if body > 0 and rest == 0:
        return count
    return count + 1 if body > 0 and layout.gap_bytes and rest + layout.gap_bytes == stride else 0


@cache
def _scan_of(frames: int) -> tuple[Pair, int, float, str]:
    """Scan shape, flyback, how usual that is, and why."""
    side = math.isqrt(frames)
    if side * side == frames and side > 1:
        return (side, side), 0, 1.0, f"{side} × {side} positions"
    for extra in FLYBACKS:
        for n in range(side, max(0, side - 3), -1):
            if n > 4 * extra and n * (n + extra) in (frames, frames + extra):
                return (n, n), extra, 0.6, f"{n} × {n} positions and {extra} flyback"
    best = next((n for n in range(side, 1, -1) if frames % n == 0), 1)
    if best * 4 >= side:
        return (best, frames // best), 0, 0.35, f"{best} × {frames // best} positions"
    return (1, frames), 0, 0.1, f"{frames} patterns"


def _judged(name: str, layout: RawLayout, frames: int, hints: _Hints) -> _Candidate:
    """How usual a layout is, before the numbers are looked at: 0 … 1."""
    shape, flyback, usual, why = _named_scan(frames, layout, hints) or _scan_of(frames)
    prior = 0.45 * usual
    prior += 0.25 if layout.Q_shape in hints.pairs else 0.0
    prior += 0.1 * _roundness(layout.Q_shape)
    prior += 0.1 if not layout.offset_bytes and not layout.gap_bytes else 0.0
    prior += 0.2 if name else 0.0
    prior += 0.1 if hints.dtype and layout.dtype.endswith(hints.dtype) else 0.0
    prior += 0.05 * (1 - DTYPES.index(layout.dtype) / len(DTYPES))
    reason = f"{name}: {why}" if name else why
    return _Candidate(layout, frames, shape, flyback, min(prior, 1.0), reason)


def _named_scan(
    frames: int, layout: RawLayout, hints: _Hints
) -> tuple[Pair, int, float, str] | None:
    pairs = [p for p in hints.pairs if p != layout.Q_shape or hints.pairs.count(p) > 1]
    for rows, columns in [*([hints.scan] if hints.scan else []), *pairs]:
        for flyback in (0, *FLYBACKS):
            if frames in (rows * (columns + flyback), rows * (columns + flyback) - flyback):
                return (rows, columns), flyback, 1.2, f"{rows} × {columns} as in its name"
    return None


def _roundness(shape: Pair) -> float:
    side = max(shape)
    if shape[0] != shape[1]:
        return 0.2
    return 1.0 if side & (side - 1) == 0 else 0.6 if side in (192, 264, 514, 515, 516) else 0.3


# ---- what the numbers say ------------------------------------------------------------------------
def _guess(source: Source, candidate: _Candidate, hints: _Hints) -> Guess:
    fits = _content(source, candidate)
    likelihood = candidate.prior * 0.3 if fits is None else 0.75 * fits + 0.25 * candidate.prior
    return Guess(
        candidate.layout, candidate.scan_shape, candidate.flyback, candidate.frames,
        round(min(1.0, likelihood), 3), candidate.reason,
    )  # fmt: skip


def _content(source: Source, candidate: _Candidate) -> float | None:
    """How much the numbers look like patterns, 0 … 1; None where they say nothing."""
    layout = candidate.layout
    try:
        frames = _sampled(source.path, layout, candidate.frames)
    except (ValueError, OSError):  # it is being shortened while it is looked at
        return None
    with np.errstate(all="ignore"):
        plausible = _plausible(frames)
        values = np.clip(np.nan_to_num(frames.astype(np.float64)), -LARGEST, LARGEST)
    if plausible == 0.0 or values.max() == values.min():
        return None if plausible else 0.0
    mean = _compressed(values.mean(axis=0))
    alike = _compared(values)
    scores = (_correlation(mean[1:], mean[:-1]), _correlation(mean[:, 1:], mean[:, :-1]), alike)
    return float(plausible * math.prod(max(0.0, s) for s in scores) ** (1 / 3))


def _sampled(path: Path, layout: RawLayout, count: int) -> Array:
    """A few patterns spread over the file, without mapping it."""
    frame, stride = _frame_bytes(layout), _frame_bytes(layout) + layout.gap_bytes
    number = max(2, min(SAMPLES, SAMPLE_BYTES // frame, count))
    found = []
    with open(path, "rb") as file:
        for k in np.unique(np.linspace(0, count - 1, number).round().astype(int)).tolist():
            file.seek(layout.offset_bytes + k * stride)
            found.append(np.frombuffer(file.read(frame), layout.dtype))
    return np.stack(found).reshape(-1, *layout.Q_shape)


def _plausible(frames: Array) -> float:
    """Whether the numbers may be counts or intensities at all, 0 … 1."""
    if frames.dtype.kind == "f":
        return _plausible_floats(frames)
    values = frames[frames != 0].astype(np.float64)
    if values.size == 0:
        return 1.0
    bits = 8 * frames.dtype.itemsize
    largest = float(np.percentile(np.abs(values), 90))
    if bits > 8 and not _bytes(frames)[..., _low(frames)].any():
        return 0.3  # multiples of 256: of the other byte order
    if bits == 32 and largest > 2**26:
        return 0.2  # what floats look like
    if frames.dtype.kind == "i":
        return 1.0 if (values < 0).any() else 0.97
    return 0.9 if bits == 16 and largest > 0.98 * 2**16 else 1.0


def _bytes(frames: Array) -> NDArray[np.uint8]:
    """(…, itemsize) uint8"""
    return frames.view(np.uint8).reshape(*frames.shape, -1)


def _low(frames: Array) -> int:
    """Which byte of a number counts least."""
    return -1 if frames.dtype.byteorder == ">" else 0


def _plausible_floats(frames: Array) -> float:
    finite = np.isfinite(frames)
    values = np.abs(frames[finite & (frames != 0)].astype(np.float64))
    if finite.mean() < 0.9:
        return 0.0
    if values.size == 0:
        return 1.0
    usual = (values > 1 / LARGEST) & (values < LARGEST)
    return float(usual.mean()) ** 2


def _compressed(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bright places must not be all that counts."""
    roots: NDArray[np.float64] = np.sqrt(image - image.min())
    return roots


def _compared(values: NDArray[np.float64]) -> float:
    """Whether patterns here and there in the file are alike; half, where there is only one."""
    if len(values) < 2:
        return 0.5
    halves = (_compressed(values[k::2].mean(axis=0)) for k in (0, 1))
    return _correlation(*halves)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's; 0 where one of them is flat."""
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0
