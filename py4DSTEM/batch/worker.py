"""The process that works on files, one after another: ``python -m py4DSTEM.batch.worker``.

Jobs come as JSON lines on stdin, events go as JSON lines to stdout.  When stdin ends, the runner is
gone, and so is the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from py4DSTEM.batch import results
from py4DSTEM.batch.causes import described
from py4DSTEM.batch.overview import PREVIEW, Overview
from py4DSTEM.batch.provenance import facts, stored_numbers
from py4DSTEM.batch.qc import qc_record
from py4DSTEM.batch.rundir import RESULT, step_folder
from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import Cancelled, CorruptFile, FileMissing, FormatError
from py4DSTEM.io.store.atomic import clean_parts
from py4DSTEM.recipe import execute, keys
from py4DSTEM.recipe.model import Recipe, all_steps
from py4DSTEM.recipe.read import recipe_from_text
from py4DSTEM.stream.options import CancelToken, RunOptions

__all__ = ["Job", "main", "process"]

TILE_BYTES = 250_000_000
"""Memory for tiles: the same for any number of workers and any limit, or sums would round
differently; a quarter of the smallest limit."""

Say = Callable[..., None]


@dataclass(frozen=True)
class Job:
    """One file to work on.

    Parameters
    ----------
    recipe : str
        TOML.
    source : str
        The input.
    folder : str
        Where the folders of its steps are.
    threads : int
        For each pass over the scan.
    memory_bytes : int, optional
        Most that the process may take.
    again : tuple of str
        Steps to be computed even though they are done.
    stamp : str
        Fingerprint of the input at the last run; "" if unknown.
    strict : bool
        Whether the fingerprint covers all of the input.
    """

    recipe: str
    source: str
    folder: str
    threads: int = 1
    memory_bytes: int | None = None
    again: tuple[str, ...] = ()
    stamp: str = ""
    strict: bool = False


def process(job: Job, say: Say, stop: CancelToken) -> None:
    """Work on one file and say what happens: ``begin``, ``step`` …, ``end``.

    Never raises for what is wrong with the file; the ``end`` says so.
    """
    _begin_peak()
    try:
        with limited(job.memory_bytes):
            file = _File(job, say, stop)
            state = file.work()
            qc = file.quality() if state == "done" else None
        say("end", state=state, rss_bytes=peak_bytes(), qc=qc)
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        say("end", state="failed", rss_bytes=peak_bytes(), trace=trace, **described(error))


@lru_cache(maxsize=4)
def _recipe(text: str) -> Recipe:
    return recipe_from_text(text)


def _version(use: str) -> int:
    return int(getattr(all_steps().get(use), "version", 1))


@dataclass
class _File:
    """The work on one file, step by step."""

    job: Job
    say: Say
    stop: CancelToken
    warned: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = Path(self.job.folder)
        self.recipe = _recipe(self.job.recipe).for_file(self.job.source)
        _check_kind(self.job.source)
        self.stamp = keys.fingerprint(self.job.source, strict=self.job.strict)
        self.keys: Mapping[str, str] = keys.step_keys(self.recipe, self.stamp)

    def work(self) -> str:
        """The state of the file afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        clean_parts(self.folder, min_age_s=0)
        known = {name for name in self.keys if self._known(name)}
        self.say("begin", stamp=self.stamp, known=sorted(known), keys=dict(self.keys),
                 changed=bool(self.job.stamp) and self.job.stamp != self.stamp,
                 folders={n: step_folder(n, k) for n, k in self.keys.items()})  # fmt: skip
        if self.job.stamp and self.job.stamp != self.stamp:
            (self.folder / PREVIEW).unlink(missing_ok=True)  # of what the input was
        if known == set(self.keys):
            return "done"
        stages = execute.plan(self.recipe)
        with self._listening():
            execution = execute.Execution(
                self.recipe, execute.open_input(self.recipe, self.job.source)
            )
            for stage in stages:
                if self.stop.is_set():
                    return "waiting"
                self._stage(execution, stage, known)
            self._draw(execution)
        self._unchanged()
        return "done"

    def quality(self) -> dict[str, Any]:
        """The numbers of the results, and what the limits of the recipe say about them."""
        folders = {name: self.folder / step_folder(name, key) for name, key in self.keys.items()}
        return qc_record(stored_numbers(folders), self.recipe.qc)

    def _known(self, name: str) -> bool:
        done = results.complete(self.folder, name, self.keys[name])
        return done and name not in self.job.again

    def _stage(self, execution: Any, stage: Any, known: set[str]) -> None:
        """Restore what is done and needed, compute the rest in one pass."""
        if stage.states and known.issuperset(stage.names):
            execution.run(stage)
            return
        todo = []
        for step in stage.steps:
            if step.name not in known or not self._restored(execution, step, known):
                todo.append(step)
        if todo:
            self._compute(execution, replace(stage, steps=tuple(todo)))

    def _restored(self, execution: Any, step: Any, known: set[str]) -> bool:
        """Whether a step need not be computed; its result is read if a later step needs it."""
        if not step.calibrates and not self._needed(step.name, known):
            return True
        folder = self.folder / step_folder(step.name, self.keys[step.name])
        if not (folder / RESULT).is_file():  # the input itself: nothing was stored
            return False
        try:
            value = results.load(self.folder, step.name, self.keys[step.name])
        except FormatError as error:
            self._warn("damaged", f"{step.name} is computed again: {error}")
            return False
        execution.restore(step, value)
        return True

    def _needed(self, name: str, known: set[str]) -> bool:
        """Whether a step that is still to be computed uses a result, or a lazy one does."""
        return any(
            name == other or other.startswith(f"{name}/")
            for step in self.recipe.step
            if step.name not in known or not self._stored(step.name)
            for other in step.needs
        )

    def _stored(self, name: str) -> bool:
        return (self.folder / step_folder(name, self.keys[name]) / RESULT).is_file()

    def _undrawn(self) -> bool:
        """Whether there is a picture of the scan still to be made."""
        return self.recipe.output.report and not (self.folder / PREVIEW).is_file()

    def _draw(self, execution: Any) -> None:
        """The picture of a scan over which no pass was due."""
        if self._undrawn():
            Overview(execution.cube).write(self.folder, self._options())

    def _run(self, execution: Any, stage: Any) -> dict[str, Any]:
        """The values of a stage; the picture of the scan is made in its first pass."""
        whole = stage.is_pass and stage.steps[0].where is None
        if not (whole and self._undrawn()):
            return dict(execution.run(stage, self._options()))
        picture = Overview(execution.cube)
        values = execution.run(stage, self._options(), picture.operations())
        for image in execution.besides:
            picture.take(image)
        picture.write(self.folder, self._options())
        return dict(values)

    def _compute(self, execution: Any, stage: Any) -> None:
        started = time.time()
        for name in stage.names:
            self.say("step", name=name, state="running")
        try:
            values = self._run(execution, stage)
        except Exception as error:
            for name in stage.names:
                self.say("step", name=name, state="failed", error=described(error)["error"])
            raise
        seconds = time.time() - started
        for step in stage.steps:
            value = values[step.name]
            keep = not stage.states and self._is_new(step.name, value, execution.cube)
            self._store(step, value, (started, seconds), keep=keep)
            if keep and isinstance(value, Cube):  # later steps read it instead of making it again
                execution.restore(step, results.load(self.folder, step.name, self.keys[step.name]))
            self.say("step", name=step.name, state="done", seconds=seconds)

    def _is_new(self, name: str, value: Any, cube: Cube) -> bool:
        """Whether a result is worth a file: a scan with the data of the input only when asked."""
        asked = self.recipe.output.save != "all" and name in self.recipe.output.save
        return asked or not (isinstance(value, Cube) and value.data is cube.data)

    def _store(self, step: Any, value: Any, when: tuple[float, float], *, keep: bool) -> None:
        record = {
            "name": step.name, "use": step.use, "key": self.keys[step.name],
            "source": self.job.source, "fingerprint": self.stamp, "started": when[0],
            "seconds": when[1], "recipe": self.recipe.name, "step": step.table(),
            "version": _version(step.use),
            "rss_bytes": peak_bytes(), "warnings": [line["warning"] for line in self.warned],
            **facts(value),
        }  # fmt: skip
        made = results.Made(
            step.name, self.keys[step.name], value if keep else None, record, tuple(self.warned),
            preview=self.recipe.output.report, options=self._options(),
        )  # fmt: skip
        results.store(self.folder, made)

    def _warn(self, kind: str, message: str) -> None:
        self.warned.append({"time": time.time(), "kind": kind, "warning": message})

    def _options(self) -> RunOptions:
        return RunOptions(workers=self.job.threads, memory=TILE_BYTES)

    def _unchanged(self) -> None:
        if keys.fingerprint(self.job.source, strict=self.job.strict) != self.stamp:
            raise CorruptFile("the input changed while it was read", path=self.job.source,
                              hint="Run again with --resume when it is complete")  # fmt: skip

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Keep warnings for the log."""
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, kind, *rest, **more: self._warn(
                kind.__name__, str(message)
            )
            yield


def _check_kind(source: str) -> None:
    """A pipe would be waited for, for ever."""
    if "://" in source or os.path.isfile(source) or os.path.isdir(source):
        return
    if os.path.lexists(source):
        raise FormatError("is no file", path=source, hint="A link to nowhere, a pipe or a device")
    raise FileMissing("there is no such file", path=source, hint="Look at its name")


# ---- limits --------------------------------------------------------------------------------------
@contextlib.contextmanager
def limited(memory_bytes: int | None) -> Iterator[None]:
    """Let this process take no more memory than that.

    On Linux the limit is on private memory (``RLIMIT_DATA``), as files that are mapped may be
    larger than the memory; elsewhere on the address space.
    """
    try:
        import resource
    except ImportError:  # Windows
        yield
        return
    which = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    before = resource.getrlimit(which)
    if memory_bytes is not None:
        hard = before[1]
        wanted = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(which, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


def _begin_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int | None:
    """Largest resident memory since this file was begun; of the process where Linux is not."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


# ---- the process ---------------------------------------------------------------------------------
class _Inbox:
    """Lines from the runner, read by a thread, so that the end of the runner is noticed at once."""

    def __init__(self, stream: TextIO) -> None:
        self.jobs: SimpleQueue[Job] = SimpleQueue()
        self.stop = threading.Event()
        self._stream = stream
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def _read(self) -> None:
        for line in self._stream:
            message = json.loads(line)
            if message["do"] == "stop":
                self.stop.set()
            else:
                job = message["job"]
                self.stop.clear()
                self.jobs.put(Job(**{**job, "again": tuple(job["again"])}))
        os._exit(0)  # nobody is left to work for; what is half-written has a name that says so


def main() -> None:
    """Work until stdin ends."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is not an event
    lock = threading.Lock()

    def say(event: str, **values: Any) -> None:
        with lock:
            channel.write(json.dumps({"event": event, **values}, default=str) + "\n")
            channel.flush()

    os.environ.setdefault("MPLBACKEND", "Agg")
    inbox = _Inbox(sys.stdin)
    say("ready", pid=os.getpid())
    while True:
        with contextlib.suppress(Cancelled):
            process(inbox.jobs.get(), say, inbox.stop)


if __name__ == "__main__":
    main()
