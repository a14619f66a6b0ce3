"""A recipe over many files."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from py4DSTEM.batch.causes import TRANSIENT
from py4DSTEM.batch.inputs import find_inputs
from py4DSTEM.batch.lock import locked
from py4DSTEM.batch.pool import Pool, Worker
from py4DSTEM.batch.rundir import FILES, RECIPE, STATE, FileRow, RunDirectory, folder_name
from py4DSTEM.batch.state import State
from py4DSTEM.batch.worker import Job
from py4DSTEM.errors import ParameterError, StoreError
from py4DSTEM.io.store import atomic
from py4DSTEM.recipe.model import Override, Recipe, RecipeLimits
from py4DSTEM.recipe.read import read_recipe, recipe_from_text
from py4DSTEM.stream.options import CancelToken, RunOptions, available_memory_bytes, parse_bytes
from py4DSTEM.stream.progress import ProgressHook, reporter

__all__ = [
    "RunSettings",
    "RunSummary",
    "limits_of",
    "memory_cap",
    "memory_share",
    "run_recipe",
    "steps_again",
    "with_settings",
    "work_on",
]

SMALLEST_CAP = 1_000_000_000
"""Bytes a worker is allowed at least: Python, its libraries and one tile."""
START_S = 300.0
"""A worker that has not begun by then, besides the timeout of the file, is replaced."""
CANCEL_S = 0.1


@dataclass(frozen=True)
class RunSummary:
    """What came of a run.

    Parameters
    ----------
    out : Path
        The run directory; `RunDirectory` reads it.
    files : tuple of FileRow
        One per input, in their order.
    seconds : float
    interrupted : bool
        Whether it was stopped before all files had their turn.
    computed : int
        Steps that were computed, the others being done already.
    """

    out: Path
    files: tuple[FileRow, ...]
    seconds: float
    interrupted: bool = False
    computed: int = 0

    @property
    def done(self) -> tuple[FileRow, ...]:
        """Files of which all steps are done."""
        return tuple(row for row in self.files if row.state == "done")

    @property
    def failed(self) -> tuple[FileRow, ...]:
        """Files that went wrong, each with its error."""
        return tuple(row for row in self.files if row.state == "failed")

    def text(self) -> str:
        """In words."""
        waiting = len(self.files) - len(self.done) - len(self.failed)
        words = f"{len(self.done)} done, {len(self.failed)} failed"
        more = f", {waiting} still to do" if waiting else ""
        return f"{words}{more}; {self.computed} steps computed in {self.seconds:.1f} s"


@dataclass(frozen=True)
class RunSettings:
    """How a recipe is run.

    Parameters
    ----------
    workers : int
        Files worked on at the same time, each in a process of its own.
    memory : str or int, optional
        For all workers together, such as ``"12 GB"``.
    resume, force : bool
        Whether to go on with, or to begin again, what is in the folder.
    again_from : str
        Step that is computed again, and with it all that follow; "": none.
    fail_fast : bool
        Begin no more files after one has failed.
    retries : int, optional
        How often a file is tried again that crashed, hung or could not be read; None: as the
        recipe says.
    timeout_s : float, optional
        For one file; None: as the recipe says.
    strict : bool
        Inputs are compared by all of their bytes.
    """

    workers: int = 1
    memory: str | int | None = None
    resume: bool = False
    force: bool = False
    again_from: str = ""
    fail_fast: bool = False
    retries: int | None = None
    timeout_s: float | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ParameterError(f"workers must be at least 1, not {self.workers}")
        if self.retries is not None and self.retries < 0:
            raise ParameterError(f"retries cannot be negative, as is {self.retries}")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ParameterError(f"timeout_s must be positive, not {self.timeout_s}")
        if self.resume and self.force:
            raise ParameterError("resume keeps what force computes again: choose one")


def run_recipe(
    recipe: Recipe | str | os.PathLike[str],
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    workers: int = 1,
    memory: str | int | None = None,
    resume: bool = False,
    force: bool = False,
    fail_fast: bool = False,
    retries: int | None = None,
    timeout_s: float | None = None,
    progress: bool | ProgressHook | None = None,
    cancel: CancelToken | None = None,
    client: Any = None,
) -> RunSummary:
    """Run a recipe over files, each isolated in a process of its own.

    A file that is damaged, needs too much memory or does not come to an end is one failed row; the
    others go on.  The result of every step is on the disk when it is done, so that a run that was
    killed goes on with ``resume=True`` where it was.

    Parameters
    ----------
    recipe : Recipe or path
        TOML or JSON; see ``py4dstem recipe new``.
    inputs : iterable of path
        Files, patterns such as ``"data/*.h5"``, or URLs.
    out : path
        Folder of the run; made if missing.
    workers : int
        Files worked on at the same time.  Results have the same bits for any number.
    memory : str or int, optional
        Most that all workers may take together, such as ``"12 GB"``.
    resume : bool
        Go on with the run that is in `out`: only what is not done, or would come out differently
        (other input, parameters or version of a step), is computed.
    force : bool
        Compute everything again.
    fail_fast : bool
        Begin no more files after one has failed.
    retries : int, optional
        How often a file is tried again that crashed, hung or could not be read; default: as the
        recipe says.
    timeout_s : float, optional
        Most seconds for one file; default: as the recipe says.
    progress : None, True or callable
        A callable gets ``(files done, files, last file)``.
    cancel : CancelToken, optional
        When set, the steps in flight are finished and the run ends, to be resumed.
    client : dask.distributed.Client, optional
        Cluster that works on the files, in place of processes on this machine.

    Returns
    -------
    RunSummary
        Rows of all files, with the errors of those that failed.

    Raises
    ------
    ParameterError
        The recipe or the inputs make no sense, or `out` holds a run and neither `resume` nor
        `force` was asked for.
    StoreError
        The disk is full, or another run works in `out`.

    Examples
    --------
    >>> import tempfile, py4DSTEM, numpy as np
    >>> folder = tempfile.mkdtemp()
    >>> py4DSTEM.save(f"{folder}/a.h5", py4DSTEM.DataCube(np.ones((2, 3, 4, 5), np.uint16)))
    >>> text = 'schema = 1\\nname = "mean"\\n[[step]]\\nuse = "mean-pattern"\\n'
    >>> with open(f"{folder}/mean.toml", "w") as file:
    ...     _ = file.write(text)
    >>> done = py4DSTEM.run_recipe(f"{folder}/mean.toml", [f"{folder}/*.h5"], f"{folder}/out")
    >>> len(done.done), len(done.failed)
    (1, 0)
    """
    settings = RunSettings(
        workers=workers, memory=memory, resume=resume, force=force, fail_fast=fail_fast,
        retries=retries, timeout_s=timeout_s,
    )  # fmt: skip
    given = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    options = RunOptions(progress=progress, cancel=cancel)
    return work_on(given, find_inputs(inputs), Path(out), settings, options, client)


def work_on(
    recipe: Recipe,
    inputs: Sequence[str],
    out: Path,
    settings: RunSettings,
    options: RunOptions,
    client: Any = None,
) -> RunSummary:
    """`run_recipe` with its options as values."""
    started = time.monotonic()
    _check_folder(out, settings)
    with locked(out):
        known = _begin(recipe, out)
        state = State(out / STATE)
        try:
            run = _Run(recipe, inputs, out, settings, options, state, known)
            run.enter()
            with _lanes(settings, client) as pool, reporter(options.progress) as report:
                run.work(pool, report)
        finally:
            state.close()
    rows = {row.name: row for row in RunDirectory(out).files()}
    files = tuple(rows[folder_name(source)] for source in inputs)
    return RunSummary(
        out, files, time.monotonic() - started, interrupted=run.interrupted, computed=run.computed
    )


def _lanes(settings: RunSettings, client: Any) -> Any:
    if client is None:
        return Pool(settings.workers)
    from py4DSTEM.batch.cluster import ClusterPool

    given = settings.memory
    return ClusterPool(client, settings.workers, None if given is None else parse_bytes(given))


def _check_folder(out: Path, settings: RunSettings) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / FILES).mkdir(exist_ok=True) if not any(out.iterdir()) else None
    except OSError as error:
        raise atomic.as_store_error(error, out) from error
    if (out / RECIPE).exists():
        if not (settings.resume or settings.force or settings.again_from):
            raise ParameterError(
                f"{out} holds a run: --resume goes on with it, --force begins again; "
                "or give another folder (resume=True, force=True in Python)"
            )
    elif not (out / FILES).is_dir():
        raise ParameterError(f"{out} is not empty and holds no run: give a folder of its own")


def _begin(recipe: Recipe, out: Path) -> dict[str, FileRow]:
    """Write the recipe; the rows of an earlier run by name."""
    known = {row.name: row for row in RunDirectory(out).files()} if (out / RECIPE).exists() else {}
    (out / FILES).mkdir(exist_ok=True)
    with atomic.replacing(out / RECIPE) as part:
        atomic.write_bytes(part, recipe.text().encode())
    return known


@dataclass
class _Todo:
    """A file that waits, or is being worked on."""

    name: str
    source: str
    limits: RecipeLimits
    tries: int = 0
    begun: float = 0.0
    doing: str = ""


@dataclass
class _Run:
    """The loop: jobs to workers, events to the state."""

    recipe: Recipe
    inputs: Sequence[str]
    out: Path
    settings: RunSettings
    options: RunOptions
    state: State
    known: Mapping[str, FileRow]
    interrupted: bool = False
    computed: int = 0
    ended: int = 0
    stopping: bool = False
    full: str = ""
    waiting: deque[_Todo] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.text = self.recipe.text()
        self.again = steps_again(self.recipe, self.settings)
        self.limits_of = limits_of(self.recipe)
        self.share = memory_share(self.settings)
        self.threads = max(1, RunOptions().worker_count() // self.settings.workers)

    def enter(self) -> None:
        """A row for every file."""
        with self.state.together():
            for source in self.inputs:
                name = folder_name(source)
                row = {"source": source, "state": "waiting", "error": "", "cause": "", "note": ""}
                self.state.file(name, **row)
                self.state.keep_steps(name, [step.name for step in self.recipe.step])
                for position, step in enumerate(self.recipe.step):
                    self.state.step(name, step.name, position=position, use=step.use)
                limits = self.limits_of(source)
                memory_cap(self.share, limits, self.settings.workers)
                self.waiting.append(_Todo(name, source, limits))

    def work(self, pool: Any, report: Callable[[int, int, str], None]) -> None:
        """Until every file had its turn, or the run is stopped."""
        report(0, len(self.inputs), self.recipe.name)
        try:
            while self._feed(pool) or pool.busy():
                before = self.ended
                self._listen(pool)
                self._overdue(pool)
                self._cancelled(pool)
                if self.ended > before:
                    report(self.ended, len(self.inputs), self.recipe.name)
        except BaseException:
            self._put_back(pool)
            raise
        if self.full:
            raise StoreError(f"the disk is full: {self.full}", path=self.out,
                             hint="Free some space, then go on with --resume")  # fmt: skip

    # ---- jobs ------------------------------------------------------------------------------------
    def _feed(self, pool: Any) -> bool:
        """Give jobs to idle workers; whether any file still waits for one."""
        while self.waiting and not self.stopping:
            worker = pool.idle()
            if worker is None:
                break
            todo = self.waiting.popleft()
            todo.begun, todo.tries = time.monotonic(), todo.tries + 1
            latest = todo.begun + START_S + self._timeout_s(todo)
            worker.give(self._job(todo, pool), todo, latest)
        return bool(self.waiting) and not self.stopping

    def _job(self, todo: _Todo, pool: Any) -> Job:
        row = self.known.get(todo.name)
        return Job(
            self.text, todo.source, str((self.out / FILES / todo.name).resolve()),
            threads=self.threads, memory_bytes=self._cap(todo, pool), again=self.again,
            stamp=row.stamp if row else "", strict=self.settings.strict,
        )  # fmt: skip

    def _cap(self, todo: _Todo, pool: Any) -> int | None:
        """Memory for a file; on a cluster None where only the machine it comes to can say."""
        if pool.here:
            return memory_cap(self.share, todo.limits, self.settings.workers)
        memory, given = self.settings.memory, todo.limits.memory_gb
        caps = [] if memory is None else [parse_bytes(memory) // pool.size]
        caps += [] if given is None else [int(given * 1e9)]
        return max(SMALLEST_CAP, min(caps)) if caps else None

    # ---- events ----------------------------------------------------------------------------------
    def _listen(self, pool: Any) -> None:
        found = pool.next(CANCEL_S)
        if found is None:
            return
        worker, event = found
        if worker not in pool.workers or (worker.busy is None and event["event"] != "gone"):
            return
        kind = event.pop("event")
        if kind == "begin":
            self._begun(worker, event)
        elif kind == "step":
            self._step(worker.busy, event)
        elif kind == "end":
            self._end(pool, worker, event)
        elif kind == "gone":
            self._gone(pool, worker, event.get("code"))

    def _begun(self, worker: Worker, event: dict[str, Any]) -> None:
        todo: _Todo = worker.busy
        worker.deadline = time.monotonic() + self._timeout_s(todo)
        note = "the input has changed since it was computed" if event["changed"] else ""
        with self.state.together():
            self.state.file(todo.name, state="running", stamp=event["stamp"], started=time.time(),
                            host=socket.gethostname(), attempts=todo.tries, note=note)  # fmt: skip
            for name, key in event["keys"].items():
                done = "done" if name in event["known"] else "waiting"
                self.state.step(todo.name, name, key=key, state=done, error="",
                                path=event["folders"][name])  # fmt: skip

    def _step(self, todo: _Todo, event: dict[str, Any]) -> None:
        todo.doing = event["name"] if event["state"] == "running" else ""
        self.computed += event["state"] == "done"
        self.state.step(todo.name, event.pop("name"), **event)

    def _end(self, pool: Any, worker: Worker, event: dict[str, Any]) -> None:
        todo: _Todo = worker.busy
        worker.busy, worker.deadline = None, float("inf")
        if event["state"] == "failed":
            if event["cause"] in ("memory", "bug"):  # what is left in that process is not trusted
                pool.drop(worker)
            self._trace(todo, event.get("trace", ""))
            self._failed(todo, event["cause"], event["error"], event.get("rss_bytes"))
            return
        qc = {"qc": event["qc"]} if event.get("qc") is not None else {}
        rss = event.get("rss_bytes")
        self._finish(todo, state=event["state"], error="", cause="", rss_bytes=rss, **qc)

    def _gone(self, pool: Any, worker: Worker, code: int | None) -> None:
        todo, words = worker.busy, worker.last_words()
        pool.drop(worker)
        if todo is None:
            return
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        tail = f": {words}" if words else ""
        doing = f" in step {todo.doing!r}" if todo.doing else ""
        self._failed(todo, "crashed", f"its process died ({how}){doing}{tail}")

    def _overdue(self, pool: Any) -> None:
        now = time.monotonic()
        for worker in [w for w in pool.busy() if w.deadline <= now]:
            todo = worker.busy
            pool.drop(worker)
            doing = f" in step {todo.doing!r}" if todo.doing else ""
            self._failed(todo, "timeout", f"not done after {self._timeout_s(todo):.0f} s{doing}; "
                         "--timeout gives it longer")  # fmt: skip

    def _timeout_s(self, todo: _Todo) -> float:
        minutes = todo.limits.timeout_min
        return self.settings.timeout_s or (minutes * 60 if minutes else float("inf"))

    def _cancelled(self, pool: Any) -> None:
        token = self.options.cancel
        if self.stopping or token is None or not token.is_set():
            return
        self.stopping = self.interrupted = True
        for worker in pool.busy():
            worker.ask_to_stop()

    # ---- outcomes --------------------------------------------------------------------------------
    def _failed(self, todo: _Todo, cause: str, error: str, rss_bytes: int | None = None) -> None:
        if cause == "disk":
            self.full, self.stopping, self.interrupted = error, True, True
            self._finish(todo, state="waiting", error=error, cause=cause)
        elif cause in TRANSIENT and todo.tries <= self._retries(todo) and not self.stopping:
            self.waiting.append(replace(todo, doing=""))
        else:
            if self.settings.fail_fast or todo.limits.on_error == "stop":
                self.stopping = True
            self._finish(todo, state="failed", error=error, cause=cause, rss_bytes=rss_bytes)

    def _retries(self, todo: _Todo) -> int:
        given = self.settings.retries
        return todo.limits.retries if given is None else given

    def _finish(self, todo: _Todo, **values: Any) -> None:
        self.ended += values["state"] != "waiting"
        seconds = time.monotonic() - todo.begun
        with self.state.together():
            self.state.file(todo.name, seconds=seconds, attempts=todo.tries, **values)
            if values["state"] == "failed" and todo.doing:
                self.state.step(todo.name, todo.doing, state="failed", error=values["error"])

    def _trace(self, todo: _Todo, trace: str) -> None:
        """Where an error came from, for those who look for it."""
        path = self.out / FILES / todo.name / "error.log"
        if trace and path.parent.is_dir():
            atomic.write_bytes(path, trace.encode("utf-8", "backslashreplace"))

    def _put_back(self, pool: Any) -> None:
        """What was in flight when the run was broken off waits again."""
        self.interrupted = True
        with contextlib.suppress(StoreError):  # what broke it off is what matters
            for worker in pool.busy():
                self._finish(worker.busy, state="waiting")


def steps_again(recipe: Recipe, settings: RunSettings) -> tuple[str, ...]:
    """Steps that are computed whether they are done or not."""
    names = [step.name for step in recipe.step]
    if settings.again_from:
        if settings.again_from not in names:
            raise ParameterError(
                f"--from {settings.again_from!r}: the steps are {', '.join(names)}"
            )
        return tuple(names[names.index(settings.again_from) :])
    return tuple(names) if settings.force else ()


def memory_share(settings: RunSettings) -> int:
    """Bytes for each worker of this machine: of ``--mem``, or of what is free now."""
    if settings.memory is not None:
        return parse_bytes(settings.memory) // settings.workers
    return max(available_memory_bytes() // settings.workers, SMALLEST_CAP)


def memory_cap(share: int, limits: RecipeLimits, workers: int) -> int:
    """Bytes that one worker may take for a file.

    Parameters
    ----------
    share : int
        As `memory_share` says.
    limits : RecipeLimits
        Of the file.
    workers : int

    Raises
    ------
    ParameterError
        Too little for any work.
    """
    cap = share if limits.memory_gb is None else min(share, int(limits.memory_gb * 1e9))
    if cap < SMALLEST_CAP:
        raise ParameterError(
            f"{cap / 1e9:.2g} GB for each of {workers} workers is too little: give at "
            f"least {SMALLEST_CAP * workers / 1e9:g} GB with --mem, or fewer workers (-j)"
        )
    return cap


def limits_of(recipe: Recipe) -> Callable[[str], RecipeLimits]:
    """The limits of a file, with what overrides say of them."""
    start, general = "limits.", recipe.limits
    some = [o for o in recipe.override if any(key.startswith(start) for key in o.set)]

    def limits(source: str) -> RecipeLimits:
        applying = [override.set for override in some if override.applies(source)]
        values = {
            key.removeprefix(start): value
            for settings in applying for key, value in settings.items() if key.startswith(start)
        }  # fmt: skip
        return RecipeLimits(**{**general.model_dump(), **values}) if values else general

    return limits


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """`recipe` with ``step.key`` → value for all files, on top of its own overrides."""
    if not settings:
        return recipe
    more = Override(match="*", set=dict(settings))
    changed = recipe.model_copy(update={"override": (*recipe.override, more)})
    return recipe_from_text(changed.text())
