"""First looks at files, known and unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from py4DSTEM import FormatError, ParameterError, RawLayout, save
from py4DSTEM.io.format import ReadOptions
from py4DSTEM.io.look import look_at, preview
from py4DSTEM.io.scan import doubts

LAYOUT = RawLayout(dtype="<u2", Q_shape=(4, 6), offset_bytes=10, gap_bytes=2)


@pytest.fixture
def raw(tmp_path: Path) -> tuple[Path, np.ndarray]:
    frames = np.arange(30 * 24, dtype="<u2").reshape(30, 4, 6)
    path = tmp_path / "a.raw"
    path.write_bytes(b"headhead!!" + b"".join(f.tobytes() + b"gg" for f in frames))
    return path, frames


def test_patterns_come_first_then_the_scan(raw: tuple[Path, np.ndarray]) -> None:
    path, frames = raw
    options = ReadOptions(layout=LAYOUT, scan_shape=(5, 6))
    first, second = preview(path, options)
    assert first.coarse is None
    assert [place for place, _ in first.patterns] == [(0, 0), (2, 3), (4, 5)]
    for (x, y), pattern in first.patterns:
        np.testing.assert_array_equal(pattern, frames[6 * x + y])
    np.testing.assert_array_equal(second.coarse, frames.sum(axis=(1, 2)).reshape(5, 6))
    assert (first.shape, first.dtype, first.frames) == ((5, 6, 4, 6), "uint16", 30)
    assert first.doubtful == ()


def test_flyback_and_offset_are_followed(raw: tuple[Path, np.ndarray]) -> None:
    path, frames = raw
    options = ReadOptions(layout=LAYOUT, scan_shape=(4, 5), flyback=2, sync_offset=1)
    look = list(preview(path, options))[-1]
    np.testing.assert_array_equal(look.patterns[-1][1], frames[1 + 3 * 7 + 4])
    assert look.coarse[1, 0] == frames[8].sum()


def test_what_should_be_looked_at(raw: tuple[Path, np.ndarray]) -> None:
    path, _ = raw
    look = next(preview(path, ReadOptions(layout=LAYOUT, scan_shape=(7, 6))))
    assert len(look.doubtful) == 1 and "12 of 42" in look.doubtful[0]
    guessed = next(preview(path, ReadOptions(layout=LAYOUT)))
    assert "guess" in guessed.doubtful[0]
    assert doubts(["2 frames skipped after each row (flyback)"]) == ()


def test_layouts_that_do_not_fit_are_said(raw: tuple[Path, np.ndarray]) -> None:
    path, _ = raw
    with pytest.raises(FormatError, match="whole number of patterns"):
        next(preview(path, ReadOptions(layout=RawLayout(dtype="<u2", Q_shape=(5, 6)))))
    with pytest.raises(ParameterError):
        next(preview(path, ReadOptions(), "raw"))


def test_known_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    save(path, np.arange(3 * 4 * 5 * 6.0).reshape(3, 4, 5, 6))
    look = look_at(path)
    assert next(iter(look.formats)) == "npy"
    assert look.size_bytes == path.stat().st_size
    scan = next(preview(path, ReadOptions()))
    assert scan.shape == (3, 4, 5, 6)
    image = tmp_path / "b.npy"
    save(image, np.ones((5, 6)))
    with pytest.raises(FormatError, match="no scan"):
        next(preview(image, ReadOptions()))


def test_unknown_files_are_guessed(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    np.tile(np.hypot(*np.ogrid[-20:44, -30:34]) < 10, (16, 1, 1)).astype("<u2").tofile(path)
    look = look_at(path)
    assert look.formats == {}
    assert look.guesses[0].layout.Q_shape == (64, 64)
