"""How a pass over a scan is run: workers, memory, progress, cancel."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Protocol

from py4DSTEM.errors import ParameterError
from py4DSTEM.stream.progress import ProgressHook

__all__ = ["CancelToken", "RunOptions", "available_memory_bytes", "parse_bytes"]

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4,
          "ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}  # fmt: skip


class CancelToken(Protocol):
    """Anything that can be asked whether to stop, such as `threading.Event`."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True)
class RunOptions:
    """Options of `run`.

    Parameters
    ----------
    workers : int, optional
        Threads that process tiles; None: the cores this process may use.  The result has the same
        bits for any number.
    memory : str or int, optional
        Budget for tiles in flight, such as ``"2 GB"``; None: a quarter of what is free, at most
        1 GB.
    progress : None, True or callable
        True: a bar on the terminal or in the notebook; a callable gets ``(done, total, label)``.
    cancel : CancelToken, optional
        Checked between tiles; when set, `run` raises `Cancelled`.
    client : distributed.Client, optional
        A Dask cluster whose workers process the tiles, instead of threads of this process; the
        result has the same bits.  Files must have the same path on every worker; what is in
        memory is sent tile by tile.
    """

    workers: int | None = None
    memory: str | int | None = None
    progress: bool | ProgressHook | None = None
    cancel: CancelToken | None = None
    client: Any = None

    def worker_count(self) -> int:
        """Threads to use, at least one."""
        if self.workers is None:
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
                os.cpu_count() or 1)  # fmt: skip
        if self.workers < 1:
            raise ParameterError(f"workers must be at least 1, not {self.workers!r}")
        return self.workers

    def budget_bytes(self) -> int:
        """Memory that tiles in flight may take together."""
        if self.memory is None:
            return min(available_memory_bytes() // 4, 1000**3)
        return parse_bytes(self.memory)


def parse_bytes(text: str | int) -> int:
    """Bytes from a number or from text such as ``"2 GB"`` or ``"512 MiB"``.

    >>> parse_bytes("2 GB"), parse_bytes("1 KiB")
    (2000000000, 1024)
    """
    if isinstance(text, int):
        value = float(text)
    else:
        match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]i?)?b?\s*", text.lower())
        if match is None:
            raise ParameterError(f'a size looks like "2 GB" or "512 MiB", not {text!r}')
        value = float(match[1]) * _UNITS[match[2] or ""]
    if value < 1:
        raise ParameterError(f"a size must be positive, not {text!r}")
    return int(value)


def available_memory_bytes() -> int:
    """Memory that this process can still take: free memory and address space limit."""
    limits = [_free_memory(), _address_space_left()]
    return min(limit for limit in limits if limit is not None)


def _free_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as f:
            for line in f:
                if line.startswith("MemAvailable"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 1024**3  # not Linux: assume a small laptop


def _address_space_left() -> int | None:
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY:
            return None
        with open("/proc/self/statm", encoding="ascii") as f:
            used = int(f.read().split()[0]) * resource.getpagesize()
        return max(soft - used, 1)
    except (ImportError, OSError):
        return None
