"""What the command line says, and what its exit codes mean."""

from __future__ import annotations

import errno
import json
import sys
import traceback
from enum import IntEnum
from typing import Any

__all__ = [
    "SCHEMA",
    "Exit",
    "emit",
    "emit_json",
    "exit_code",
    "human_bytes",
    "report_failure",
    "say",
]

SCHEMA = 1
"""Version of all ``--json`` output."""


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    DAMAGED = 3
    RESOURCES = 4
    NO_DISPLAY = 69
    BUG = 70
    INTERRUPTED = 130
    TERMINATED = 143


def emit(text: str = "") -> None:
    """Write a line of data to stdout."""
    sys.stdout.write(text + "\n")


def say(text: str) -> None:
    """Write a line about the work to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def emit_json(values: dict[str, Any]) -> None:
    """Write one JSON object with the schema version; what JSON lacks becomes text or null."""
    emit(json.dumps({"schema": SCHEMA, **_plain(values)}, ensure_ascii=False, indent=1))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if hasattr(value, "tolist") and getattr(value, "size", 1000) <= 1000:
        return _plain(value.tolist())
    if hasattr(value, "shape"):
        return f"array {tuple(value.shape)} {getattr(value, 'dtype', '')}"
    return str(value)


def human_bytes(count: int) -> str:
    """
    >>> human_bytes(2_147_483_648)
    '2.15 GB'
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"


def exit_code(error: BaseException) -> Exit:
    """The exit code that an error stands for."""
    from py4DSTEM import errors
    from py4DSTEM.cli import Terminated

    if isinstance(error, KeyboardInterrupt | errors.Cancelled):
        return Exit.INTERRUPTED
    if isinstance(error, Terminated):
        return Exit.TERMINATED
    if isinstance(error, errors.StoreError | MemoryError):
        return Exit.RESOURCES
    if isinstance(error, errors.FileMissing):
        return Exit.USAGE
    if isinstance(error, errors.FormatError):
        return Exit.DAMAGED
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Exit.RESOURCES
    if isinstance(error, errors.Py4DSTEMError | OSError):
        return Exit.USAGE
    return Exit.BUG


def report_failure(error: BaseException, *, verbose: int = 0) -> Exit:
    """Say what went wrong in words and return the exit code."""
    code = exit_code(error)
    if verbose or code == Exit.BUG:
        traceback.print_exception(error)
    if code == Exit.INTERRUPTED:
        say("interrupted; nothing was left half-written")
    elif code == Exit.TERMINATED:
        say("terminated; nothing was left half-written")
    elif code == Exit.BUG:
        say("this is a bug in py4DSTEM: please report it with the lines above")
    else:
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        say(f"error: {error}{notes}")
    return code
