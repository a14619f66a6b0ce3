"""Removing what a run directory no longer needs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from py4DSTEM.batch.lock import locked
from py4DSTEM.batch.rundir import FILES, RunDirectory
from py4DSTEM.io.store import atomic

__all__ = ["clean"]

_STEP = re.compile(r"^[A-Za-z0-9_.+-]+-[0-9a-f]{8}$")


def clean(
    out: str | os.PathLike[str], *, temporary_only: bool = False
) -> tuple[tuple[Path, ...], int]:
    """Remove unfinished folders, and the results of steps as they were in earlier recipes.

    Parameters
    ----------
    out : path
        A run directory, in which no run works now.
    temporary_only : bool
        Unfinished folders only.

    Returns
    -------
    removed : tuple of Path
    freed : int
        Bytes.

    Raises
    ------
    ParameterError, StoreError
        It holds no run, or a run works in it.
    """
    directory = RunDirectory(out)
    with locked(directory.path):
        old = [] if temporary_only else list(_outdated(directory))
        # Nobody works here, so whatever is unfinished has been left behind.
        found = [*directory.path.glob(".*.part-*"), *_parts(directory.path / FILES), *old]
        freed = sum(map(_size, found))
        for path in found:
            atomic.remove(path)
    return tuple(sorted(found)), freed


def _parts(files: Path) -> Iterator[Path]:
    for folder in files.glob("*"):
        yield from folder.glob(".*.part-*")


def _outdated(directory: RunDirectory) -> Iterator[Path]:
    """Folders of steps that no row names; of files without rows nothing is known, they stay."""
    for row in directory.files():
        current = {step.path.name for step in row.steps if step.key}
        if not current:
            continue
        for path in directory.folder(row).glob("*"):
            if path.is_dir() and _STEP.match(path.name) and path.name not in current:
                yield path


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
