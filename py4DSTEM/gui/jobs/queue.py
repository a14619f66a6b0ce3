"""Jobs: long work, one after the other, with progress, pause and cancel."""

from __future__ import annotations

import itertools
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Literal

from pyqtgraph.Qt import QtCore

from py4DSTEM.errors import Cancelled
from py4DSTEM.stream.options import RunOptions

__all__ = ["Job", "Jobs"]

KEPT = 100
"""Jobs that have ended and are still listed."""
State = Literal["waiting", "running", "paused", "done", "failed", "cancelled"]
Work = Callable[[RunOptions], Any]


class _Gate:
    """Cancel and pause, asked between two tiles from the thread that works."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def is_set(self) -> bool:
        """Whether to stop; waits here while the job is paused."""
        while not self._open.wait(0.05) and not self._cancelled.is_set():
            pass
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()

    def pause(self, paused: bool) -> None:
        (self._open.clear if paused else self._open.set)()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()


@dataclass(eq=False)
class Job:
    """One piece of long work.

    Parameters
    ----------
    label : str
    work : callable
        Called with `RunOptions` in a thread of its own kind; they carry progress and cancel.
    done, failed : callable, optional
        Called in the GUI thread with the value, or the error.
    """

    label: str
    work: Work
    done: Callable[[Any], None] | None = None
    failed: Callable[[BaseException], None] | None = None
    number: int = 0
    state: State = "waiting"
    fraction: float = 0.0
    detail: str = ""
    error: BaseException | None = None
    started_s: float = 0.0
    ended_s: float = 0.0
    gate: _Gate = field(default_factory=_Gate)

    def cancel(self) -> None:
        """Ask the job to stop; what was there before stays."""
        self.gate.cancel()
        self.gate.pause(False)
        if self.state in ("waiting", "running", "paused"):
            self.detail = "stopping"

    def pause(self, paused: bool = True) -> None:
        """Hold the job between two tiles, or let it go on."""
        self.gate.pause(paused)
        if self.state in ("running", "paused"):
            self.state = "paused" if paused else "running"

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running", "paused")


class Jobs(QtCore.QObject):
    """Runs jobs in two threads: one for what takes long, one for what the user waits for.

    Parameters
    ----------
    workers : int, optional
        Threads that a job may use for its tiles; None: all cores.
    """

    changed = QtCore.Signal(object)
    """A `Job` began, went on, or ended; in the GUI thread, at most 20 times a second each."""
    _finished = QtCore.Signal(object, object)
    _moved = QtCore.Signal(object)

    def __init__(self, workers: int | None = None, parent: Any = None) -> None:
        super().__init__(parent)
        self._workers = workers
        self._numbers = itertools.count(1)
        self._queues: dict[bool, SimpleQueue[Job | None]] = {
            False: SimpleQueue(), True: SimpleQueue()
        }  # fmt: skip
        self.jobs: list[Job] = []
        self._finished.connect(self._end)
        self._moved.connect(self._move)
        self._threads = [
            threading.Thread(target=self._run, args=(queue,), name="py4dstem-job", daemon=True)
            for queue in self._queues.values()
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        label: str,
        work: Work,
        *,
        done: Callable[[Any], None] | None = None,
        failed: Callable[[BaseException], None] | None = None,
        at_once: bool = False,
    ) -> Job:
        """Queue some work; `at_once` puts it into the thread for what the user waits for."""
        job = Job(label, work, done, failed, next(self._numbers))
        self.jobs.append(job)
        self._queues[at_once].put(job)
        self.changed.emit(job)
        return job

    @property
    def active(self) -> list[Job]:
        """Jobs that wait or run."""
        return [job for job in self.jobs if job.active]

    def cancel_all(self) -> None:
        """Ask every job to stop."""
        for job in self.active:
            job.cancel()
            self.changed.emit(job)

    def stop(self) -> None:
        """Cancel everything and let the threads end."""
        for job in self.active:
            job.cancel()
        for queue in self._queues.values():
            queue.put(None)

    def wait(self, timeout_s: float = 5.0) -> None:
        """Wait for the threads to end; call `stop` first."""
        for thread in self._threads:
            thread.join(timeout_s)

    # ---- in the threads --------------------------------------------------------------------------
    def _run(self, queue: SimpleQueue[Job | None]) -> None:
        while (job := queue.get()) is not None:
            try:
                self._finished.emit(job, self._work(job))
            except RuntimeError:  # the program is closing and Qt has deleted this object
                return

    def _work(self, job: Job) -> tuple[Any, BaseException | None]:
        if job.gate.is_set():
            return None, Cancelled(f"{job.label} was cancelled before it began")
        job.state, job.started_s = "running", time.monotonic()
        self._moved.emit(job)
        try:
            return job.work(self._options(job)), None
        except BaseException as error:  # handed to the GUI thread, which shows it
            emptied(error)
            return None, error

    def _options(self, job: Job) -> RunOptions:
        latest = 0.0

        def progress(done: int, total: int, label: str) -> None:
            nonlocal latest
            job.fraction = done / total if total else 0.0
            now = time.monotonic()
            if now - latest > 0.05 or done == total:
                latest = now
                self._moved.emit(job)

        return RunOptions(workers=self._workers, progress=progress, cancel=job.gate)

    # ---- in the GUI thread -----------------------------------------------------------------------
    def _move(self, job: Job) -> None:
        self.changed.emit(job)

    def _end(self, job: Job, outcome: tuple[Any, BaseException | None]) -> None:
        value, error = outcome
        job.ended_s, job.error = time.monotonic(), error
        if error is None:
            job.state, job.fraction, job.detail = "done", 1.0, ""
        else:
            stopped = isinstance(error, Cancelled) or job.gate.cancelled
            job.state, job.detail = ("cancelled" if stopped else "failed"), str(error)
        self.changed.emit(job)
        job.work = _forgotten
        if error is None and job.done is not None:
            job.done(value)
        elif error is not None and job.failed is not None and job.state == "failed":
            job.failed(error)
        job.done = job.failed = None
        ended = [known for known in self.jobs if not known.active]
        for old in ended[:-KEPT]:
            self.jobs.remove(old)


def emptied(error: BaseException | None) -> None:
    """Let go of what the functions on an error's way held: jobs, and who shows it, keep the error.

    Its traceback stays as it was to read.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _forgotten(options: RunOptions) -> None:
    """In place of work that has ended, so that what it held can be freed."""
