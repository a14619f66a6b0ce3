"""The files of a run: names, patterns and folders in the order given."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Sequence

from py4DSTEM.errors import ParameterError

__all__ = ["find_inputs", "sample"]


def find_inputs(given: Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Absolute names, or URLs, each once.

    A name with ``*``, ``?`` or ``[…]`` that is no file is a pattern (``**`` for all folders
    below).  A name that is neither is kept: that file will fail, not the others.

    Raises
    ------
    ParameterError
        A pattern matches nothing, or nothing was given.
    """
    found: dict[str, None] = {}
    for word in given:
        found.update(dict.fromkeys(_expand(os.fspath(word))))
    if not found:
        raise ParameterError("no input was given: name files, or a pattern such as 'data/*.h5'")
    return tuple(found)


def _expand(word: str) -> list[str]:
    if "://" in word:
        return [word]
    place = os.path.expanduser(word)
    if os.path.lexists(place) or not glob.has_magic(place):
        return [os.path.abspath(place)]
    matches = sorted(glob.glob(place, recursive=True))
    if not matches:
        raise ParameterError(f"no file matches {word!r}: look at its folder, or quote the pattern")
    return [os.path.abspath(match) for match in matches]


def sample(inputs: Sequence[str], limit: int | None, *, spread: bool = False) -> tuple[str, ...]:
    """The first `limit` inputs, or as many that have been drawn by chance, always the same.

    >>> sample(["a", "b", "c"], 2)
    ('a', 'b')
    """
    if limit is None:
        return tuple(inputs)
    if limit < 1:
        raise ParameterError(f"--limit is at least 1, not {limit}")
    if not spread:
        return tuple(inputs[:limit])
    drawn = sorted(inputs, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())[:limit]
    return tuple(name for name in inputs if name in set(drawn))
