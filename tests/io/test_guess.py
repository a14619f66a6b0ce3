"""Guesses of raw layouts against files whose layout is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from py4DSTEM import ParameterError, RawLayout, read
from py4DSTEM.errors import FileMissing
from py4DSTEM.io.guess import Fit, fit_layout, guess_layouts


def patterns(count: int, shape: tuple[int, int], seed: int = 0) -> Any:
    """Counts of a bright disk, a ring of spots and little else, away from the middle."""
    rng = np.random.default_rng(seed)
    x, y = np.indices(shape, dtype=float)
    n = min(shape)
    cx, cy = 0.47 * shape[0], 0.54 * shape[1]
    mean = 60.0 * (np.hypot(x - cx, y - cy) < 0.11 * n) + 0.3
    for angle in np.arange(5) * 1.2566:
        spot = np.hypot(x - cx - 0.3 * n * np.cos(angle), y - cy - 0.3 * n * np.sin(angle))
        mean += 9.0 * (spot < 0.07 * n)
    return rng.poisson(mean * rng.uniform(0.6, 1.4, (count, 1, 1)))


def write(path: Path, frames: Any, layout: RawLayout) -> Path:
    """Frames with a header and gaps of numbers that are not patterns."""
    rng = np.random.default_rng(9)
    with open(path, "wb") as file:
        file.write(rng.bytes(layout.offset_bytes))
        for frame in frames:
            file.write(frame.astype(layout.dtype).tobytes())
            file.write(rng.bytes(layout.gap_bytes))
    return path


CASES = [
    (RawLayout(dtype="<u2", Q_shape=(64, 64)), (9, 9), 0),
    (RawLayout(dtype="uint8", Q_shape=(256, 256)), (4, 4), 0),
    (RawLayout(dtype=">u2", Q_shape=(128, 128)), (6, 6), 0),
    (RawLayout(dtype="<f4", Q_shape=(128, 128), gap_bytes=1024), (5, 5), 0),
    (RawLayout(dtype=">u2", Q_shape=(256, 256), offset_bytes=384, gap_bytes=384), (3, 3), 0),
    (RawLayout(dtype="<u2", Q_shape=(192, 192), offset_bytes=512), (5, 5), 0),
    (RawLayout(dtype="<u4", Q_shape=(96, 96)), (6, 6), 1),
    (RawLayout(dtype="<f4", Q_shape=(64, 64), offset_bytes=1024), (8, 8), 0),
    (RawLayout(dtype="<u2", Q_shape=(514, 514)), (3, 3), 0),
]


@pytest.mark.parametrize(
    ("layout", "scan", "flyback"), CASES, ids=lambda v: str(v).replace(" ", "")
)
def test_the_first_guess_is_the_truth(
    layout: RawLayout, scan: tuple[int, int], flyback: int, tmp_path: Path
) -> None:
    count = scan[0] * (scan[1] + flyback)
    path = write(tmp_path / "a.raw", patterns(count, layout.Q_shape), layout)
    best = guess_layouts(path)[0]
    assert (best.layout, best.scan_shape, best.flyback) == (layout, scan, flyback)
    assert best.frames == count
    assert best.likelihood > 0.5


def test_what_is_guessed_reads_the_same_numbers(tmp_path: Path) -> None:
    frames = patterns(36, (48, 48)).astype(">u2")
    path = write(tmp_path / "a.bin", frames, RawLayout(dtype=">u2", Q_shape=(48, 48)))
    best = guess_layouts(path)[0]
    cube = read(path, layout=best.layout, scan_shape=best.scan_shape)
    np.testing.assert_array_equal(cube[2, 3].data, frames[15])


def test_an_oblong_scan_is_known_by_the_name(tmp_path: Path) -> None:
    layout = RawLayout(dtype="<u2", Q_shape=(64, 64))
    path = write(tmp_path / "scan_x12_y3.raw", patterns(36, (64, 64)), layout)
    best = guess_layouts(path)[0]
    assert (best.layout, best.scan_shape) == (layout, (3, 12))
    assert "name" in best.reason


def test_an_odd_detector_is_known_by_the_name(tmp_path: Path) -> None:
    layout = RawLayout(dtype="<u2", Q_shape=(70, 90))
    path = write(tmp_path / "a_70x90_uint16.raw", patterns(25, (70, 90)), layout)
    assert guess_layouts(path)[0].layout == layout


def test_guesses_are_ranked_and_few(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.raw", patterns(64, (64, 64)), RawLayout(dtype="<u2", Q_shape=(64, 64))
    )
    guesses = guess_layouts(path, limit=5)
    likelihoods = [guess.likelihood for guess in guesses]
    assert len(guesses) == 5
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert all(0 <= value <= 1 for value in likelihoods)
    for guess in guesses:
        fit = fit_layout(path.stat().st_size, guess.layout, guess.scan_shape, flyback=guess.flyback)
        assert fit.exact


def test_files_that_say_nothing(tmp_path: Path) -> None:
    odd = tmp_path / "odd.raw"
    odd.write_bytes(b"7" * 1009)
    assert guess_layouts(odd) == ()
    empty_numbers = tmp_path / "zeros.raw"
    empty_numbers.write_bytes(bytes(64 * 64 * 2 * 16))
    guesses = guess_layouts(empty_numbers)
    assert guesses and guesses[0].likelihood < 0.5
    noise = tmp_path / "noise.raw"
    noise.write_bytes(np.random.default_rng(3).bytes(64 * 64 * 2 * 16))
    assert guess_layouts(noise)[0].likelihood < 0.6
    with pytest.raises(FileMissing):
        guess_layouts(tmp_path / "none.raw")
    with pytest.raises(ParameterError, match="folder"):
        guess_layouts(tmp_path)


# ---- the size ------------------------------------------------------------------------------------
LAYOUT = RawLayout(dtype="<u2", Q_shape=(3, 5), offset_bytes=7, gap_bytes=4)


@pytest.mark.parametrize(
    ("size", "scan", "flyback", "sync", "difference", "frames"),
    [
        (7 + 8 * 34, (2, 4), 0, 0, 0, 8),
        (7 + 8 * 34 - 4, (2, 4), 0, 0, 0, 8),  # the last gap was not written
        (7 + 8 * 34 + 11, (2, 4), 0, 0, 11, 8),
        (7 + 7 * 34, (2, 4), 0, 0, -34, 7),
        (7 + 10 * 34, (2, 4), 1, 0, 0, 10),
        (7 + 9 * 34, (2, 4), 1, 0, 0, 9),  # without flyback after the last row
        (7 + 8 * 34, (2, 4), 1, 0, -34, 8),
        (7 + 11 * 34, (2, 4), 0, 3, 0, 11),
        (7 + 6 * 34, (2, 4), 0, -2, 0, 6),
        (5, (2, 4), 0, 0, 5 - 7 - 8 * 34, 0),
    ],
)
def test_what_a_layout_needs(
    size: int, scan: tuple[int, int], flyback: int, sync: int, difference: int, frames: int
) -> None:
    fit = fit_layout(size, LAYOUT, scan, flyback=flyback, sync_offset=sync)
    assert fit.difference_bytes == difference
    assert fit.frames == frames
    assert fit.exact == (difference == 0)
    assert fit.readable == (frames > 0)
    assert isinstance(fit, Fit)


@pytest.mark.parametrize(
    ("change", "scan", "options"),
    [
        ({"dtype": "nothing"}, (2, 4), {}),
        ({"dtype": "complex64"}, (2, 4), {}),
        ({"dtype": "U3"}, (2, 4), {}),
        ({"Q_shape": (0, 5)}, (2, 4), {}),
        ({}, (0, 4), {}),
        ({}, (2, -4), {}),
        ({}, (2, 4), {"flyback": -1}),
        ({}, (2, 4), {"sync_offset": -8}),
    ],
)
def test_sizes_that_make_no_sense(
    change: dict[str, Any], scan: tuple[int, int], options: dict[str, int]
) -> None:
    with pytest.raises(ParameterError):
        fit_layout(1000, LAYOUT.replace(**change) if hasattr(LAYOUT, "replace") else
                   RawLayout(**(dict(LAYOUT) | change)), scan, **options)  # fmt: skip
