"""Files of a batch as tasks of a Dask cluster.

A task starts the same worker process that a run on one machine uses, on the machine where the Dask
worker is: a file that crashes, hangs or takes too much memory harms neither the Dask worker nor the
other files.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from py4DSTEM.batch.pool import Event, Worker
from py4DSTEM.batch.worker import Job
from py4DSTEM.errors import ClusterError, DependencyMissing, ParameterError
from py4DSTEM.stream.options import RunOptions

__all__ = ["ClusterPool", "JobSettings", "open_client"]

QUEUES = {
    "slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster",
    "htcondor": "HTCondorCluster", "oar": "OARCluster",
}  # fmt: skip
"""Batch systems and what they are called in dask-jobqueue."""
_PROJECT = dict.fromkeys(("sge", "lsf", "oar"), "project")
"""What they call an account."""
CONNECT_S = 30.0
POLL_S = 0.5
"""How often a task looks whether it should stop."""
START_S = 300.0
"""A worker process that has not begun by then is given up."""
COUNT_S = 5.0
LEAST_BYTES = 1_000_000_000
_OWN_BYTES = 200_000_000
"""Of a Dask worker itself, beside the processes that work on its files."""
_TOLD = ("begin", "step")
_ENDING = frozenset({"closing", "closed", "stopping", "stopped", "failed"})
"""States of a Dask worker whose file is another's by now: two should not work on it for long."""
_CONNECTION_LOST = "scheduler-connection-lost"
"""What Dask says of the futures of a scheduler that is gone, also after it has come back."""
_GONE = "the scheduler of the cluster is gone; start it, then go on with --resume (resume=True)"


# ---- clients -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class JobSettings:
    """What is asked of a batch system for each of its jobs; None: as its configuration says.

    Parameters
    ----------
    cores : int, optional
    memory : str, optional
        Such as ``"16 GB"``.
    walltime : str, optional
        ``"HH:MM:SS"``.
    queue : str, optional
        Also called partition.
    account : str, optional
        Also called project.
    """

    cores: int | None = None
    memory: str | None = None
    walltime: str | None = None
    queue: str | None = None
    account: str | None = None

    def given(self) -> dict[str, Any]:
        """Those that are not None."""
        return {name: value for name, value in vars(self).items() if value is not None}


@contextlib.contextmanager
def open_client(
    where: str, *, workers: int | None = None, job: JobSettings | None = None
) -> Iterator[Any]:
    """A client of a Dask cluster; what was started for it ends with the ``with`` block.

    Parameters
    ----------
    where : str
        ``"local"``: processes on this machine; ``"tcp://host:8786"`` (or ``tls://``, ``ucx://``) or
        the path of a scheduler file: a scheduler that runs already; ``"slurm"``, ``"pbs"``,
        ``"sge"``, ``"lsf"``, ``"htcondor"``, ``"oar"``: jobs of that batch system.
    workers : int, optional
        Processes, or jobs; default: a process for each core, or one job.
    job : JobSettings, optional
        For a batch system.

    Yields
    ------
    distributed.Client

    Raises
    ------
    DependencyMissing
        distributed, or dask-jobqueue for a batch system, is not installed.
    ParameterError
        `where` is none of these, or the batch system is not configured.
    ClusterError
        Nobody answers.

    Examples
    --------
    >>> with open_client("local", workers=2) as client:  # doctest: +SKIP
    ...     run_recipe("strain.toml", ["*.h5"], "out", client=client)
    """
    if workers is not None and workers < 1:
        raise ParameterError(f"a cluster needs at least one worker, not {workers}")
    distributed = _module("distributed", "a run on a cluster")
    kind = where.strip().lower()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        if kind == "local":
            target = {"address": stack.enter_context(_local(distributed, workers))}
        elif kind in QUEUES:
            made = _queued(kind, workers or 1, job or JobSettings())
            target = {"address": stack.enter_context(made)}
        elif re.fullmatch(r"(tcp|tls|ucx|ws|wss)://\S+", where):
            target = {"address": where}
        elif Path(where).is_file():
            target = {"scheduler_file": where}
        else:
            raise ParameterError(
                f'a cluster is "local", an address such as "tcp://host:8786", a scheduler file or '
                f"one of {', '.join(QUEUES)}, not {where!r}"
            )
        yield stack.enter_context(_connected(distributed, where, target))


def _module(name: str, purpose: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise DependencyMissing(name.replace("_", "-"), purpose, "cluster") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What Dask has to say of a connection that breaks is said by us, in a line."""
    loggers = [logging.getLogger(f"distributed.{name}") for name in ("batched", "client", "core")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _local(distributed: Any, workers: int | None) -> Any:
    return distributed.LocalCluster(
        n_workers=workers or RunOptions().worker_count(), threads_per_worker=1,
        dashboard_address=":0", silence_logs=50,
    )  # fmt: skip


def _queued(kind: str, jobs: int, job: JobSettings) -> Any:
    jobqueue = _module("dask_jobqueue", f"a run on {kind}")
    config = import_module("dask.config")
    asked = job.given()
    known = {name: config.get(f"jobqueue.{kind}.{name}", None) for name in ("cores", "memory")}
    missing = [name for name, value in {**known, **asked}.items() if name in known and not value]
    if missing:
        raise ParameterError(
            f"{kind}: no {' and no '.join(missing)} of a job: set jobqueue.{kind}."
            f"{missing[0]} in ~/.config/dask/jobqueue.yaml, or give a JobSettings"
        )
    words = {_PROJECT.get(kind, name) if name == "account" else name: asked[name] for name in asked}
    # Two runs of one login node must not fight for the port of the dashboard.
    options = {"dashboard_address": ":0", **(config.get(f"jobqueue.{kind}.scheduler-options", {}))}
    try:
        cluster = getattr(jobqueue, QUEUES[kind])(**words, scheduler_options=options)
    except (ValueError, TypeError) as error:
        raise ParameterError(f"{kind}: {str(error).splitlines()[0]}") from error
    cluster.scale(jobs=jobs)
    return cluster


def _connected(distributed: Any, where: str, target: dict[str, Any]) -> Any:
    try:
        return distributed.Client(**target, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(f"no scheduler answers at {where}: {error}") from error


# ---- the pool ------------------------------------------------------------------------------------
class _Lane:
    """One file at a time, somewhere in the cluster; looks like a `Worker` of this machine."""

    def __init__(self, pool: ClusterPool) -> None:
        self._pool, self._future = pool, None
        self._token, self._words = "", ""
        self.busy: Any = None
        self.deadline = math.inf
        self.pid = 0

    def give(self, job: Job, what: Any, deadline: float) -> None:
        """Have a file worked on; its time counts from when it is begun, not while it waits."""
        del deadline
        self.busy, self.deadline, self._token = what, math.inf, uuid.uuid4().hex
        self._future = self._pool.submit(self, self._token, replace(job, threads=1))

    def ask_to_stop(self) -> None:
        """Let it end after the step in flight."""
        self._pool.signal("stop", self._token)

    def kill(self) -> None:
        """End it now, where ever it is."""
        if self._future is not None and self.busy is not None:
            self._pool.signal("kill", self._token)
            if self._pool.client.status == "running":
                self._pool.client.cancel([self._future], force=True)
        self.busy, self._future = None, None

    def last_words(self) -> str:
        """Why it is gone."""
        return self._words

    def outcome(self) -> dict[str, Any]:
        """The last event of the file, when its task has ended."""
        try:
            last: dict[str, Any] = self._future.result(timeout=CONNECT_S)  # type: ignore[attr-defined]
        except Exception as error:  # the cluster lost it, or its version is another one
            if getattr(error, "reason", "") == _CONNECTION_LOST:  # which is no fault of the file
                raise ClusterError(_GONE) from error
            self._words = str(error) or type(error).__name__
            return {"event": "gone", "code": None}
        self._words = last.pop("words", "")
        return last


class ClusterPool:
    """Workers of a Dask cluster, in place of `Pool`.

    Parameters
    ----------
    client : distributed.Client
    size : int
        Files with the cluster at the same time, at least; more where it has more threads.
    memory_bytes : int, optional
        For all files together: no more files at the same time than have enough.
    """

    here = False
    """Whether the workers share the memory of this machine."""

    def __init__(self, client: Any, size: int, memory_bytes: int | None = None) -> None:
        self.client, self._least = client, size
        self._most = max(size, memory_bytes // LEAST_BYTES) if memory_bytes else math.inf
        self.workers: list[_Lane] = []
        self.events: SimpleQueue[Event] = SimpleQueue()
        self._topic = f"py4dstem-{uuid.uuid4().hex}"
        self._lanes: dict[str, _Lane] = {}
        self._size, self._counted = size, -math.inf

    def __enter__(self) -> ClusterPool:
        self.client.subscribe_topic(self._topic, self._heard)
        return self

    def __exit__(self, *what: object) -> None:
        for lane in self.workers:
            lane.kill()
        if self.client.status == "running":
            self.client.unsubscribe_topic(self._topic)

    @property
    def size(self) -> int:
        """Files at the same time: a cluster may grow and shrink."""
        now = time.monotonic()
        if now - self._counted > COUNT_S and self.client.status == "running":
            self._counted = now
            with contextlib.suppress(OSError):  # the scheduler is gone, as `next` says
                threads = sum(map(int, self.client.nthreads().values()))
                self._size = int(min(max(self._least, threads), self._most))
        return self._size

    def idle(self) -> _Lane | None:
        """One that may be given a job; a new one if there is room."""
        free = next((lane for lane in self.workers if lane.busy is None), None)
        if free is None and len(self.workers) < self.size:
            free = _Lane(self)
            self.workers.append(free)
        return free

    def busy(self) -> list[_Lane]:
        """Those that have a file."""
        return [lane for lane in self.workers if lane.busy is not None]

    def drop(self, worker: _Lane) -> None:
        """Kill one; the next job gets another."""
        if worker in self.workers:
            self.workers.remove(worker)
        worker.kill()

    def next(self, at_most_s: float) -> Any:
        """The next event, or None after that time or the next deadline.

        Raises
        ------
        ClusterError
            The scheduler is gone.
        """
        if self.client.status != "running":
            raise ClusterError(_GONE)
        until = min((lane.deadline for lane in self.busy()), default=math.inf)
        wait = max(0.0, min(at_most_s, until - time.monotonic()))
        try:
            lane, event = self.events.get(timeout=wait)
        except Empty:
            return None
        return lane, event if event["event"] != "over" else lane.outcome()  # type: ignore[attr-defined]

    def submit(self, lane: _Lane, token: str, job: Job) -> Any:
        """The future of a file."""
        self._lanes[token] = lane
        future = self.client.submit(
            _work_on_file, asdict(job), self._topic, token, key=f"{self._topic}-{token}", pure=False
        )
        future.add_done_callback(
            lambda _: self._heard((0.0, {"token": token, "said": {"event": "over"}}))
        )
        return future

    def signal(self, what: str, token: str) -> None:
        """Tell a task something that it looks for."""
        from distributed import Event as Flag

        if self.client.status == "running":
            with contextlib.suppress(OSError):  # nobody is left to tell
                Flag(f"{self._topic}-{what}-{token}", client=self.client).set()

    def _heard(self, event: tuple[float, Any]) -> None:
        token, message = event[1]["token"], dict(event[1]["said"])
        lane = self._lanes.get(token)
        if message["event"] == "over":
            self._lanes.pop(token, None)
        # What an earlier file of the same lane still says is not about the file it has now.
        if lane is not None and lane._token == token:
            self.events.put((lane, message))  # type: ignore[arg-type]


# ---- on a Dask worker ----------------------------------------------------------------------------
_IDLE: list[tuple[Worker, SimpleQueue[Event]]] = []
"""Worker processes that wait for a file; each has compiled code and open libraries."""


def _work_on_file(job: dict[str, Any], topic: str, token: str) -> dict[str, Any]:
    """Have a worker process work on a file, passing on what it says; its last event."""
    from distributed import get_worker

    here = get_worker()
    worker, events = _process()
    worker.give(_fitted(Job(**{**job, "again": tuple(job["again"])}), here), token, math.inf)
    try:
        last = _listened(here, worker, events, (topic, token))
    except BaseException:
        worker.kill()
        raise
    if last["event"] == "gone":
        last["words"] = worker.last_words()
    if last["event"] == "gone" or last.get("cause") in ("memory", "bug"):
        worker.kill()
    else:
        worker.busy = None
        _IDLE.append((worker, events))
    return last


def _process() -> tuple[Worker, SimpleQueue[Event]]:
    while _IDLE:
        worker, events = _IDLE.pop()
        if all(event["event"] != "gone" for event in _drained(events)):
            return worker, events
        worker.kill()
    events = SimpleQueue()
    return Worker(events), events


def _drained(events: SimpleQueue[Event]) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(Empty):
        while True:
            yield events.get_nowait()[1]


def _fitted(job: Job, here: Any) -> Job:
    """The job with the memory that is there where it has come to, if it may take that much."""
    limit = getattr(getattr(here, "memory_manager", None), "memory_limit", None)
    if not limit:
        return job
    share = (int(limit) - _OWN_BYTES) // max(1, int(here.state.nthreads))
    share = max(LEAST_BYTES, share)
    return replace(job, memory_bytes=min(share, job.memory_bytes or share))


def _listened(
    here: Any, worker: Worker, events: SimpleQueue[Event], name: tuple[str, str]
) -> dict[str, Any]:
    """Pass events on until the last one of a file; heed the signals of the runner."""
    topic, token = name
    latest, asked = time.monotonic() + START_S, False
    while True:
        try:
            event = events.get(timeout=POLL_S)[1]
        except Empty:
            if here.status.name in _ENDING or time.monotonic() > latest:
                return {"event": "gone", "code": None}
            if _is_set(f"{topic}-kill-{token}"):
                return {"event": "gone", "code": None}
            if not asked and _is_set(f"{topic}-stop-{token}"):
                asked = True
                worker.ask_to_stop()
            continue
        if event["event"] in _TOLD:
            latest = math.inf
            host = {"host": socket.gethostname()} if event["event"] == "begin" else {}
            # Dask adds keys of its own to what it carries.
            here.log_event(topic, {"token": token, "said": {**host, **event}})
        elif event["event"] in ("end", "gone"):
            return event


def _is_set(name: str) -> bool:
    from distributed import Event as Flag

    return bool(Flag(name).is_set())
