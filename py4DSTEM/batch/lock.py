"""One run at a time in a folder; the system opens the lock when its process ends, however."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from py4DSTEM.errors import StoreError

__all__ = ["locked", "owner"]

NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Have a run directory for oneself.

    Raises
    ------
    StoreError
        Another run works in it; says which.
    """
    path = folder / NAME
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _taken(handle):
            raise StoreError(
                f"another run is working in this folder{_who(path)}", path=folder,
                hint="Wait for its end (py4dstem status), or give another folder with -o",
            )  # fmt: skip
        who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(who).encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows, where SQLite's own lock keeps two writers apart
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a disk without locks
        return True
    return True


def owner(folder: Path) -> dict[str, Any]:
    """Process, host and start of the run that works in a folder now; empty if none does."""
    try:
        handle = os.open(folder / NAME, os.O_RDONLY)
    except OSError:
        return {}
    try:
        return {} if _taken(handle) else _read(folder / NAME)
    finally:
        os.close(handle)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {"pid": None}


def _who(path: Path) -> str:
    known = _read(path)
    if not known.get("pid"):
        return ""
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(known.get("since", 0)))
    return f" (process {known['pid']} on {known.get('host')}, since {since})"
