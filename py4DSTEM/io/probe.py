"""Opening a file in a process of its own first, for files that nobody vouches for.

A damaged HDF5 file can crash or hang the HDF5 library itself, which no Python code can prevent or
interrupt.  `probe` lets that happen elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys

from py4DSTEM.errors import CorruptFile, Py4DSTEMError
from py4DSTEM.io.format import ReadOptions

__all__ = ["probe"]

SECONDS = 60.0
MEMORY_BYTES = 4 * 1024**3


def probe(
    path: str | os.PathLike[str],
    options: ReadOptions,
    format: str | None = None,
    *,
    seconds: float = SECONDS,
) -> None:
    """Open a file in a child process with limits of time and memory.

    Returns when the child came to an end, whether the file could be read or was refused in words;
    the caller then opens it and hears the same.

    Raises
    ------
    CorruptFile
        The child crashed, did not come to an end, or ran out of memory.
    """
    command = [
        sys.executable, "-m", "py4DSTEM.io.probe",
        os.fspath(path), options.model_dump_json(), format or "",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise CorruptFile(
            f"opening it did not come to an end within {seconds:.0f} s",
            path=path, format=format, hint="The file is damaged",
        ) from None  # fmt: skip
    if done.returncode != 0:
        raise CorruptFile(
            "opening it crashed a process or exhausted its memory",
            path=path, format=format, got=f"exit code {done.returncode}",
            hint="The file is damaged, or made to do harm",
        )  # fmt: skip


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on this system: the time limit must do
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _child(path: str, options: str, format: str) -> None:
    import warnings

    from py4DSTEM.io.read import read_file

    _limit_memory()
    warnings.simplefilter("ignore")
    try:
        read_file(path, ReadOptions.model_validate_json(options), format=format or None)
    except MemoryError:
        raise
    except (Py4DSTEMError, ValueError, OSError):
        return  # refused in words: the parent will hear them


if __name__ == "__main__":
    _child(*sys.argv[1:4])
