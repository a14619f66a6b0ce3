"""What the command line says, and what its exit codes mean."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, TextIO

__all__ = [
    "SCHEMA",
    "Exit",
    "Terminated",
    "emit",
    "emit_json",
    "exit_code",
    "human_bytes",
    "quiet",
    "report_failure",
    "say",
    "stop_token",
    "stoppable",
    "talking",
]

SCHEMA = 1
"""Version of all ``--json`` output; the JSON Schemas are in ``py4DSTEM/cli/schemas``."""

ERROR, NOTE, DETAIL = -1, 0, 1
"""How much must be asked for (``-q`` is -1, ``-v`` is 1) for a line to be said."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM)
NOT_FULL = (
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.EISDIR,
    errno.ENOTDIR, errno.EEXIST, errno.EINVAL,
)  # fmt: skip


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


class Terminated(BaseException):
    """SIGTERM arrived: unwind as for Ctrl-C."""


class Stop:
    """A signal that ends the work, and its memory.

    Python loses an exception that a signal raises within a destructor; then whoever asks `is_set`
    between two tiles still stops.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self, number: int, frame: object) -> None:
        self.number = number
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def is_set(self) -> bool:
        return self.number is not None


_STOP: ContextVar[Stop | None] = ContextVar("stop", default=None)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """A handler of signals, known to `stop_token` for as long as the block."""
    stop = Stop()
    token = _STOP.set(stop)
    try:
        yield stop
    finally:
        _STOP.reset(token)


def stop_token() -> Stop | None:
    """What to ask whether to stop."""
    return _STOP.get()


# ---- talk, on stderr -----------------------------------------------------------------------------
@dataclass(frozen=True)
class _Voice:
    """How much is said, and where it is kept as well."""

    level: int = NOTE
    log: TextIO | None = None


_NORMAL = _Voice()
_VOICE: ContextVar[_Voice] = ContextVar("voice", default=_NORMAL)


@contextmanager
def talking(level: int, log_file: str | None = None) -> Iterator[None]:
    """Say lines up to `level`, warnings included; keep all of them in a file if one is given."""
    with _opened(log_file) as log, warnings.catch_warnings():
        token = _VOICE.set(_Voice(level, log))
        warnings.simplefilter("default")
        warnings.showwarning = _say_warning
        try:
            yield
        except BaseException as error:
            if log is not None:
                traceback.print_exception(error, file=log)
            raise
        finally:
            _VOICE.reset(token)


@contextmanager
def _opened(path: str | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    from py4DSTEM.errors import ParameterError

    try:
        log = Path(path).open("a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    except OSError as error:
        raise ParameterError(
            f"--log-file {path} cannot be written ({error.strerror}): choose a folder that exists "
            "and that you may write to"
        ) from error
    with log:
        yield log


def _say_warning(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
    """Warnings of the package are notes; those of others are details."""
    from py4DSTEM.errors import Py4DSTEMWarning

    ours = issubclass(category, Py4DSTEMWarning)
    say(f"note: {message}", NOTE if ours else DETAIL)


def say(text: str, level: int = NOTE) -> None:
    """Write a line about the work to stderr."""
    voice = _VOICE.get()
    if voice.log is not None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        voice.log.write(f"{stamp} {text}\n")
        voice.log.flush()
    if voice.level >= level:
        _write(sys.stderr, text + "\n")
        sys.stderr.flush()


def quiet() -> bool:
    """Whether only errors are said."""
    return _VOICE.get().level < NOTE


# ---- data, on stdout -----------------------------------------------------------------------------
def emit(text: str | None = "") -> None:
    """Write a line of data to stdout; None: see that everything arrives."""
    try:
        if text is None:
            sys.stdout.flush()
        else:
            _write(sys.stdout, text + "\n")
    except BrokenPipeError:
        _forget_stdout()
        raise


def _write(stream: TextIO, text: str) -> None:
    """Characters that the terminal does not know are written as escapes."""
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _forget_stdout() -> None:
    """Keep Python from failing once more when it flushes a closed pipe at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


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


# ---- failures ------------------------------------------------------------------------------------
def exit_code(error: BaseException) -> Exit:
    """The exit code that an error stands for."""
    from py4DSTEM import errors

    if isinstance(error, KeyboardInterrupt | errors.Cancelled):
        return Exit.INTERRUPTED
    if isinstance(error, Terminated):
        return Exit.TERMINATED
    if isinstance(error, MemoryError):
        return Exit.RESOURCES
    if isinstance(error, errors.CorruptFile | errors.UnknownFormat):
        return Exit.DAMAGED
    if isinstance(error, OSError) and _reason(error) in FULL:
        return Exit.RESOURCES
    if isinstance(error, errors.StoreError) and _reason(error) not in NOT_FULL:
        return Exit.RESOURCES
    if isinstance(error, errors.Py4DSTEMError | OSError):
        return Exit.USAGE
    return Exit.BUG


def _stopped() -> Exit | None:
    """After a signal, whatever goes wrong while unwinding is a consequence of it."""
    stop = _STOP.get()
    if stop is None or not stop.is_set():
        return None
    return Exit.INTERRUPTED if stop.number == signal.SIGINT else Exit.TERMINATED


def _reason(error: OSError) -> int | None:
    """The errno of an error or of what caused it."""
    cause = error.__cause__
    return error.errno or (cause.errno if isinstance(cause, OSError) else None)


def _here(error: BaseException) -> Iterator[str]:
    """How the command line does what an error advises for Python."""
    if getattr(error, "quantity", "").startswith("origin"):
        yield "on the command line: --center QX QY, or py4dstem run … --find-center"


def report_failure(error: BaseException, *, verbose: int = 0) -> Exit:
    """Say what went wrong in words and return the exit code."""
    code = _stopped() or exit_code(error)
    if verbose or code == Exit.BUG:
        say("".join(traceback.format_exception(error)).rstrip(), ERROR)
    if code == Exit.INTERRUPTED:
        say("interrupted; nothing was left half-written", ERROR)
    elif code == Exit.TERMINATED:
        say("terminated; nothing was left half-written", ERROR)
    elif code == Exit.BUG:
        say("this is a bug in py4DSTEM: please report it with the lines above", ERROR)
    else:
        notes = "".join(f"\n  {note}" for note in (*getattr(error, "__notes__", ()), *_here(error)))
        say(f"error: {str(error) or type(error).__name__}{notes}", ERROR)
    return code
