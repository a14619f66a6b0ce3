"""Helpers of the benchmark scripts: interleaving, page cache, memory, load, JSON, tables.

Only the standard library is used, so the helpers run in any interpreter. Linux is assumed where
``/proc`` is read; on other systems those figures are NaN and the timings still work.
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Self

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


# ---------------------------------------------------------------------------------- environment
def machine_facts() -> dict:
    """Processor, cores, memory, kernel and load: what a reader needs to judge a number."""
    facts = {
        "platform": platform.platform(),
        "processor": _first_match("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory": _first_match("/proc/meminfo", "MemTotal"),
        "load_1_5_15": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }
    return facts


def _first_match(path: str, key: str) -> str | None:
    try:
        with open(path) as lines:
            return next((x.split(":", 1)[1].strip() for x in lines if x.startswith(key)), None)
    except OSError:
        return None


def versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the installed ones among `names`, and of Python."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def clean_environment(threads: int, python_path: str | None = None) -> dict[str, str]:
    """Environment of a measured process: thread counts fixed, no PYTHONPATH of ours leaking in.

    Ours and one of its peers have the same import name, so a PYTHONPATH that points at our
    checkout must reach our worker only.
    """
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env.update({name: str(threads) for name in THREAD_VARIABLES})
    if python_path:
        env["PYTHONPATH"] = python_path
    return env


# ------------------------------------------------------------------------------------ page cache
def warm_cache(path: str | Path, block: int = 1 << 24) -> None:
    """Read a file once so that its pages are in the cache."""
    buffer = bytearray(block)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def drop_cache(path: str | Path) -> None:
    """Ask the kernel to forget the cached pages of one file.

    Pages that a process has mapped at that moment stay; `cached_fraction` tells how many.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def cached_fraction(path: str | Path) -> float:
    """Fraction of a file's pages that are in the page cache (NaN where mincore is missing)."""
    size = os.path.getsize(path)
    pages = -(-size // mmap.PAGESIZE)
    resident = (ctypes.c_ubyte * pages)()
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        with open(path, "rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as m:
            view = (ctypes.c_char * 1).from_buffer(m)
            failed = mincore(
                ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(size), resident
            )
            del view
    except (AttributeError, OSError, ValueError):
        return math.nan
    return math.nan if failed else sum(b & 1 for b in resident) / pages


# ---------------------------------------------------------------------------- processes: CPU, RAM
def descendants(pid: int) -> list[int]:
    """`pid` and all processes below it that are alive."""
    todo, found = [pid], []
    while todo:
        current = todo.pop()
        found.append(current)
        try:
            for task in os.listdir(f"/proc/{current}/task"):
                with open(f"/proc/{current}/task/{task}/children") as file:
                    todo += [int(child) for child in file.read().split()]
        except OSError:
            continue
    return found


def _ticks() -> float:
    return os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """CPU seconds used by the whole machine since it started (NaN without /proc)."""
    try:
        with open("/proc/stat") as file:
            fields = [int(x) for x in file.readline().split()[1:9]]
    except OSError:
        return math.nan
    return (sum(fields) - fields[3] - fields[4]) / _ticks()


def tree_seconds(pid: int) -> float:
    """CPU seconds used by a process and its descendants."""
    total = 0
    for one in descendants(pid):
        try:
            with open(f"/proc/{one}/stat") as file:
                total += sum(int(x) for x in file.read().rsplit(")", 1)[1].split()[11:15])
        except OSError:
            continue
    return total / _ticks()


def status_mib(pid: int, key: str) -> float:
    """One memory figure of /proc/PID/status in MiB; 0 when the process is gone."""
    line = _first_match(f"/proc/{pid}/status", key)
    return int(line.split()[0]) / 1024 if line else 0.0


class MemoryPeak(threading.Thread):
    """Samples the memory of a process tree that is not page cache.

    Attributes
    ----------
    anonymous_mib : float
        Peak of the summed RssAnon: heap, stacks, private copies.
    shared_mib : float
        Peak of the largest RssShmem: buffers that workers share.
    """

    def __init__(self, pid: int | None = None, interval: float = 0.02) -> None:
        super().__init__(daemon=True)
        self.pid, self.interval = pid or os.getpid(), interval
        self.anonymous_mib = self.shared_mib = 0.0
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(self.interval):
            tree = descendants(self.pid)
            anonymous = sum(status_mib(p, "RssAnon") for p in tree)
            shared = max(status_mib(p, "RssShmem") for p in tree)
            self.anonymous_mib = max(self.anonymous_mib, anonymous)
            self.shared_mib = max(self.shared_mib, shared)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self.join()


@contextmanager
def busy_core():
    """One process that does nothing but use a core, yielded as (resume, pause) functions."""
    spinner = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])

    def pause() -> None:
        os.kill(spinner.pid, signal.SIGSTOP)

    def resume() -> None:
        os.kill(spinner.pid, signal.SIGCONT)
        time.sleep(0.05)

    try:
        pause()
        yield resume, pause
    finally:
        spinner.kill()
        spinner.wait()


# ------------------------------------------------------------------------------------- measuring
@dataclass
class Samples:
    """Seconds of repeated calls, and the cores that other programs kept busy meanwhile."""

    seconds: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    def summary(self) -> dict:
        """Median, extremes and n; an empty sample gives n = 0 and NaN."""
        if not self.seconds:
            nan = math.nan
            return {"median": nan, "min": nan, "max": nan, "n": 0, "others": nan, "all": []}
        return {
            "median": statistics.median(self.seconds),
            "min": min(self.seconds),
            "max": max(self.seconds),
            "n": len(self.seconds),
            "others": statistics.median(self.others) if self.others else math.nan,
            "all": [round(x, 6) for x in self.seconds],
        }


def interleave(
    calls: Mapping[str, Callable[[], float | None]],
    rounds: int,
    limits: Mapping[str, int] | None = None,
    pause: float = 0.0,
) -> dict[str, Samples]:
    """Run a, b, c, a, b, c, ... so that slow drifts of the machine meet every lane.

    Parameters
    ----------
    calls : name -> function
        A function may return its own seconds (a remote clock); None means: time it here.
    rounds : int
    limits : name -> int, optional
        Fewer rounds for lanes that are very slow.
    pause : float
        Seconds of rest before each call, for thread pools that spin after their work.
    """
    samples = {name: Samples() for name in calls}
    for turn in range(rounds):
        for name, call in calls.items():
            if turn >= (limits or {}).get(name, rounds):
                continue
            time.sleep(pause)
            start = time.perf_counter()
            own = call()
            samples[name].seconds.append(time.perf_counter() - start if own is None else own)
    return samples


def seconds_of(command: Sequence[str], env: Mapping[str, str] | None = None) -> float:
    """Wall seconds of a whole process; raises with its error output when it fails."""
    start = time.perf_counter()
    done = subprocess.run(command, check=False, env=env, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return seconds


# -------------------------------------------------------------------------------------- reporting
@dataclass
class Result:
    """What a script found: a JSON file for machines and Markdown tables for people."""

    title: str
    machine: dict = field(default_factory=machine_facts)
    versions: dict = field(default_factory=dict)
    cases: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep a remark and print it at once."""
        self.notes.append(text)
        print(f"- {text}", flush=True)

    def write(self, path: str | Path | None) -> None:
        """Write the JSON file, with the load at the end, when a path is given."""
        if path is None:
            return
        if hasattr(os, "getloadavg"):
            self.machine["load_1_5_15_end"] = os.getloadavg()
        Path(path).write_text(json.dumps(asdict(self), indent=1, default=float) + "\n")


def figure(value: object, digits: int = 3) -> str:
    """A number with few significant digits; a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or abs(value) >= 10**digits:
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(figure(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
