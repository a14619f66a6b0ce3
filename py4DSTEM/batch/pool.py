"""Worker processes: started, given jobs, listened to, killed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from py4DSTEM.batch.worker import Job

__all__ = ["Event", "Pool", "Worker"]

COMMAND = (sys.executable, "-m", "py4DSTEM.batch.worker")
"""What a worker is; tests put one with faults in its place."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Event = tuple["Worker", dict[str, Any]]


class Worker:
    """One process and what it is working on.

    Parameters
    ----------
    events : SimpleQueue
        Where its events go, with itself; ``{"event": "gone"}`` when it is no more.
    """

    def __init__(self, events: SimpleQueue[Event]) -> None:
        self._events = events
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.busy: Any = None
        self.deadline = float("inf")
        self._process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            text=True, encoding="utf-8", env=_environment(), start_new_session=True,
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, name="worker", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        out = self._process.stdout
        with contextlib.suppress(ValueError, OSError):
            for line in out or ():
                with contextlib.suppress(ValueError):  # a line that was cut off by a kill
                    self._events.put((self, json.loads(line)))
        self._events.put((self, {"event": "gone", "code": self._process.wait()}))

    @property
    def pid(self) -> int:
        return self._process.pid

    def give(self, job: Job, what: Any, deadline: float) -> None:
        """Let it work on a file; `what` is how the caller knows it."""
        self.busy, self.deadline = what, deadline
        self._send({"do": "file", "job": asdict(job)})

    def ask_to_stop(self) -> None:
        """Let it end after the step in flight."""
        self._send({"do": "stop"})

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it is gone, which its listener says
            if self._process.stdin is not None:
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()

    def kill(self) -> None:
        """End it now; returns when it is gone."""
        self.busy = None
        self._process.kill()
        self._process.wait()
        self._listener.join(5)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        with contextlib.suppress(OSError, ValueError):
            self._errors.seek(max(0, os.fstat(self._errors.fileno()).st_size - 2000))
            lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
            return lines[-1][:300] if lines else ""
        return ""


class Pool:
    """Up to `size` workers; used by one thread.

    Parameters
    ----------
    size : int
    """

    here = True
    """Whether the workers share the memory of this machine."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.workers: list[Worker] = []
        self.events: SimpleQueue[Event] = SimpleQueue()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *what: object) -> None:
        for worker in self.workers:
            worker.kill()

    def idle(self) -> Worker | None:
        """One that may be given a job; a new one if there is room."""
        free = next((w for w in self.workers if w.busy is None), None)
        if free is None and len(self.workers) < self.size:
            free = Worker(self.events)
            self.workers.append(free)
        return free

    def busy(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.busy is not None]

    def drop(self, worker: Worker) -> None:
        """Kill one; the next job gets another."""
        if worker in self.workers:
            self.workers.remove(worker)
        worker.kill()

    def next(self, at_most_s: float) -> Event | None:
        """The next event, or None after that time or the next deadline."""
        until = min((w.deadline for w in self.busy()), default=float("inf"))
        wait = max(0.0, min(at_most_s, until - time.monotonic()))
        try:
            return self.events.get(timeout=wait)
        except Empty:
            return None


def _environment() -> dict[str, str]:
    """Workers share the cores, so that the libraries they call must not take all of them."""
    return {**dict.fromkeys(_ONE_THREAD, "1"), "MPLBACKEND": "Agg", **os.environ}
