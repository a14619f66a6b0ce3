"""The compiler of the kernels, and where it keeps what it has compiled."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba

__all__ = ["njit"]


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` that also works where the cache of compiled code has no place.

    numba keeps compiled code beside the source, or else in the user's cache folder; with a
    read-only installation and no home it refuses to define a cached function at all.  Then a
    folder for temporary files takes its place, and without that nothing is kept: the kernels are
    compiled again in every process.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(**options)(function)
        except RuntimeError:  # "cannot cache function …: no locator available"
            if not options.get("cache"):
                raise
        with contextlib.suppress(RuntimeError, OSError), _temporary_cache():
            return numba.njit(**options)(function)
        return numba.njit(**{**options, "cache": False})(function)

    return decorate


@contextlib.contextmanager
def _temporary_cache() -> Iterator[None]:
    """Let numba choose a cache in the folder for temporary files, for as long as the block."""
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = os.fspath(_own_folder())
    try:
        yield
    finally:
        numba.config.CACHE_DIR = previous


def _own_folder() -> Path:
    """A folder that only this user can write to: what lies there is loaded as code.

    Raises
    ------
    OSError
        There is no folder for temporary files, or somebody else owns ours.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"py4dstem-kernels-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = os.lstat(folder)
    mine = not hasattr(os, "getuid") or status.st_uid == user
    private = os.name == "nt" or not status.st_mode & 0o022
    if not (stat.S_ISDIR(status.st_mode) and mine and private):
        raise PermissionError(f"{folder} is not a private folder of this user")
    return folder
