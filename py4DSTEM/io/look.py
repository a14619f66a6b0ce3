"""A first look at a file that may or may not be known: what it could be, and what it would show."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import FormatError, Py4DSTEMWarning, UnknownFormat
from py4DSTEM.io.format import ReadOptions, Source, detect
from py4DSTEM.io.guess import Guess, guess_layouts
from py4DSTEM.io.read import read_file
from py4DSTEM.io.scan import doubts

__all__ = ["FileLook", "ScanLook", "look_at", "preview"]

COARSE_SIDE = 24
COARSE_BYTES = 128 * 1000**2
"""Read for the image of the scan, at most, but for four patterns."""


@dataclass(frozen=True, eq=False)
class FileLook:
    """What a file could be.

    Parameters
    ----------
    path : str
    size_bytes : int
        0 for a folder.
    formats : mapping
        Name → title of the formats that recognise it, the likeliest first.
    guesses : tuple of Guess
        How its numbers may lie, should it be raw.
    """

    path: str
    size_bytes: int
    formats: Mapping[str, str]
    guesses: tuple[Guess, ...]


@dataclass(frozen=True, eq=False)
class ScanLook:
    """What a file shows when it is read in one way.

    Parameters
    ----------
    name : str
        Of the data set.
    shape : (int, int, int, int)
        Rx, Ry, Qx, Qy.
    dtype : str
    nbytes : int
        In memory.
    frames : int
        Patterns in the file; where they are those of a 4D scan, Rx Ry.
    notes : tuple of str
        What was assumed.
    doubtful : tuple of str
        Those of the notes that should be looked at.
    patterns : tuple of ((int, int), (Qx, Qy) array)
        Scan position and pattern: the first, one in the middle, the last.
    coarse : (rows, columns) float64, optional
        Sums of patterns on a coarse grid of the scan; None: not there yet.
    """

    name: str
    shape: tuple[int, int, int, int]
    dtype: str
    nbytes: int
    frames: int
    notes: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    patterns: tuple[tuple[tuple[int, int], NDArray[Any]], ...] = ()
    coarse: NDArray[np.float64] | None = None


def look_at(path: str | os.PathLike[str]) -> FileLook:
    """Which formats recognise a file, and how its numbers may lie where none does.

    Parameters
    ----------
    path : path

    Returns
    -------
    FileLook

    Raises
    ------
    FormatError
        Missing, empty or unreadable.
    """
    source = Source.of(path)
    try:
        formats = {fmt.name: fmt.title for fmt in detect(source)}
    except UnknownFormat:
        formats = {}
    guesses = () if source.is_directory else guess_layouts(source.path)
    return FileLook(os.fspath(path), source.size, formats, guesses)


def preview(
    path: str | os.PathLike[str], options: ReadOptions, format: str | None = None
) -> Iterator[ScanLook]:
    """Patterns, then a coarse image of the scan, as they would be read; touches little of the file.

    Parameters
    ----------
    path : path
    options : ReadOptions
    format : str, optional

    Yields
    ------
    ScanLook
        First with the patterns, then with the image, too.

    Raises
    ------
    FormatError
        It cannot be read in this way, or holds no scan.
    ParameterError
        The options do not fit the file.
    """
    cube = _cube(path, options, format)
    notes = tuple(cube.metadata.notes)
    rows, columns = cube.R_shape
    middle, last = (rows // 2, columns // 2), (rows - 1, columns - 1)
    places = dict.fromkeys(((0, 0), middle, last))
    look = ScanLook(
        cube.name, cube.shape, str(cube.dtype), cube.nbytes,
        cube.metadata.frames or rows * columns, notes, doubts(notes),
        tuple((place, _pattern(cube, place)) for place in places),
    )  # fmt: skip
    yield look
    yield replace(look, coarse=_coarse(cube))


def _cube(path: str | os.PathLike[str], options: ReadOptions, format: str | None) -> Cube:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Py4DSTEMWarning)  # the notes say the same
        found = read_file(path, options, format=format)
    values = found.values() if isinstance(found, dict) else (found,)
    cube = next((value for value in values if isinstance(value, Cube)), None)
    if cube is None:
        kinds = ", ".join(sorted({type(value).__name__ for value in values}))
        raise FormatError(f"it holds no scan, but {kinds}", path=path)
    return cube


def _pattern(cube: Cube, place: tuple[int, int]) -> NDArray[Any]:
    return np.array(cube[place].data)


def _coarse(cube: Cube) -> NDArray[np.float64]:
    """Sums of patterns at a grid of scan positions; what is not finite counts as nothing."""
    size = max(1, cube.nbytes // max(1, cube.R_shape[0] * cube.R_shape[1]))
    side = max(2, min(COARSE_SIDE, int((COARSE_BYTES / size) ** 0.5)))
    xs, ys = (np.unique(np.linspace(0, n - 1, min(side, n)).round().astype(int)).tolist()
              for n in cube.R_shape)  # fmt: skip
    sums = [[np.nansum(_pattern(cube, (x, y)), dtype=np.float64) for y in ys] for x in xs]
    image: NDArray[np.float64] = np.nan_to_num(np.array(sums), posinf=0.0, neginf=0.0)
    return image
