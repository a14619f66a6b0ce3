"""A run in a process of its own, which goes on when the program that began it ends.

``python -m py4DSTEM.batch.apart`` reads an `Order` as JSON from stdin.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from py4DSTEM.batch.inputs import find_inputs
from py4DSTEM.batch.lock import owner
from py4DSTEM.batch.rundir import FileRow, RunDirectory
from py4DSTEM.batch.runner import RunSettings, work_on
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store import atomic
from py4DSTEM.recipe.read import recipe_from_text
from py4DSTEM.stream.options import RunOptions

__all__ = ["Apart", "Observed", "Order", "main", "observed", "start", "stop"]

STOP, APART = ".stop", ".apart"
LATER, NOW = "after the steps in flight", "now"
LOOK_S = 0.2
ENDED = (0, 1, 130)
"""Exit codes of a run that has done what it was asked."""


@dataclass(frozen=True)
class Order:
    """What is to be run.

    Parameters
    ----------
    recipe : str
        TOML.
    inputs : tuple of str
        Files, patterns or URLs.
    out : str
        Folder of the run.
    settings : RunSettings
    folder : str
        Where the files that the recipe names are; "": their names are whole.
    cluster : str
        As ``run --cluster``; "": processes of this machine.
    """

    recipe: str
    inputs: tuple[str, ...]
    out: str
    settings: RunSettings = field(default_factory=RunSettings)
    folder: str = ""
    cluster: str = ""

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Order:
        """As `text` gave it."""
        found = json.loads(text)
        settings = RunSettings(**found.pop("settings"))
        return cls(**{**found, "inputs": tuple(found["inputs"])}, settings=settings)

    def run(self, options: RunOptions) -> bool:
        """Run it here, with its report; whether every file is done."""
        from py4DSTEM.batch.cluster import open_client

        folder = Path(self.folder) if self.folder else None
        recipe = recipe_from_text(self.recipe, folder=folder)
        inputs, out = find_inputs(self.inputs), Path(self.out)
        with contextlib.ExitStack() as stack:
            client = None
            if self.cluster:
                client = stack.enter_context(
                    open_client(self.cluster, workers=self.settings.workers)
                )
            summary = work_on(recipe, inputs, out, self.settings, options, client)
        if recipe.output.report:
            from py4DSTEM.batch.report import write_report

            write_report(out)
        return len(summary.done) == len(summary.files)


class Apart:
    """A run that was begun here and goes on by itself.

    Parameters
    ----------
    out : Path
    process : Popen
    errors : file
        What it writes to stderr.
    """

    def __init__(self, out: Path, process: subprocess.Popen[bytes], errors: BinaryIO) -> None:
        self.out, self.process = out, process
        self._errors = errors
        self._trouble: str | None = None

    @property
    def at_work(self) -> bool:
        """Whether its process is there."""
        return self.process.poll() is None

    def trouble(self) -> str:
        """Why it ended before its files had their turn; "" while it works, and otherwise."""
        if self._trouble is None and not self.at_work:
            with self._errors:
                self._errors.seek(0)
                words = self._errors.read().decode("utf-8", "replace").strip()
            code = self.process.returncode
            words = words or f"its process ended with code {code}"
            self._trouble = "" if code in ENDED else words
        return self._trouble or ""


def start(order: Order) -> Apart:
    """Begin a run in a process of its own; returns at once.

    The process outlives this one: it has a session of its own, and nobody listens to it.  What
    comes of it is in its folder (`observed`).
    """
    errors = tempfile.TemporaryFile()  # noqa: SIM115
    flags: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    process = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=errors, **flags,
    )  # fmt: skip
    with contextlib.suppress(OSError):  # it is gone, which `trouble` says
        if process.stdin is not None:
            process.stdin.write(order.text().encode())
            process.stdin.close()
    return Apart(Path(order.out), process, errors)


def stop(out: str | os.PathLike[str], *, now: bool = False) -> None:
    """Ask the run in a folder to end after the steps in flight, or at once.

    Runs that were begun with `start` are asked through their folder, from any machine; those of a
    terminal by Ctrl-C, on the machine where they are.

    Raises
    ------
    ParameterError
        No run is at work there, or it cannot be reached from here.
    """
    folder = Path(out)
    who = owner(folder)
    if not who:
        raise ParameterError(f"no run is at work in {folder}")
    if who.get("pid") == _apart(folder):
        with atomic.replacing(folder / STOP) as part:
            atomic.write_bytes(part, (NOW if now else LATER).encode())
    elif who.get("host") == socket.gethostname() and os.name == "posix" and who.get("pid"):
        os.kill(int(who["pid"]), signal.SIGINT)
    else:
        raise ParameterError(
            f"the run was begun on {who.get('host') or 'another machine'}: stop it there (Ctrl-C)"
        )


def _apart(folder: Path) -> int | None:
    """The process that was begun with `start`."""
    try:
        return int((folder / APART).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


# ---- looking on ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Observed:
    """How far the run in a folder is.

    Parameters
    ----------
    out : Path
    rows : tuple of FileRow
        One per input.
    owner : mapping
        Process, host and start of who works on it; empty: nobody does.
    report : Path, optional
        The page, where there is one.
    """

    out: Path
    rows: tuple[FileRow, ...]
    owner: dict[str, Any]
    report: Path | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Files of each state."""
        found = dict.fromkeys(("done", "failed", "running", "waiting"), 0)
        for row in self.rows:
            found[row.state] += 1
        return found

    @property
    def ended(self) -> int:
        """Files that had their turn."""
        return self.counts["done"] + self.counts["failed"]

    def sources(self, *states: str) -> tuple[str, ...]:
        """Inputs in one of some states."""
        return tuple(row.source for row in self.rows if row.state in states)


def observed(out: str | os.PathLike[str]) -> Observed:
    """Look at the run in a folder; nothing is written.

    Raises
    ------
    ParameterError
        The folder holds no run.
    """
    directory = RunDirectory(out)
    page = directory.path / "report.html"
    who = owner(directory.path)  # before the rows: a run that ends in between is seen once more
    return Observed(directory.path, directory.files(), who, page if page.is_file() else None)


# ---- the process ---------------------------------------------------------------------------------
class _Asked:
    """The cancel token of a run that is asked through its folder."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._asked = threading.Event()
        self._ended = threading.Event()

    def is_set(self) -> bool:
        return self._asked.is_set()

    def look(self) -> None:
        """In a thread, until the run has ended."""
        while not self._ended.wait(LOOK_S):
            with contextlib.suppress(OSError):
                words = (self._out / STOP).read_text(encoding="ascii")
                self._asked.set()
                if words == NOW:
                    _thread.interrupt_main()
                    return

    def end(self) -> None:
        self._ended.set()


@contextlib.contextmanager
def _asked(out: Path) -> Iterator[_Asked]:
    """Listen for `stop` while the block works, if the folder is not that of another run."""
    token = _Asked(out)
    if owner(out):  # the lock will say so
        yield token
        return
    out.mkdir(parents=True, exist_ok=True)
    fresh = not any(out.iterdir())
    if fresh or (out / "files").is_dir():
        (out / "files").mkdir(exist_ok=True)  # so that the runner takes the folder for its own
        (out / STOP).unlink(missing_ok=True)
        atomic.write_bytes(out / APART, str(os.getpid()).encode())
    listener = threading.Thread(target=token.look, name="stop", daemon=True)
    listener.start()
    try:
        yield token
    finally:
        token.end()
        for name in (STOP, APART):
            (out / name).unlink(missing_ok=True)


def main() -> int:
    """Run the order on stdin; 0 all files done, 1 some not, 2 not run, 130 stopped at once."""
    order = Order.from_text(sys.stdin.read())
    try:
        with _asked(Path(order.out)) as token:
            return 0 if order.run(RunOptions(cancel=token)) else 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # told to whoever began it, in words
        sys.stderr.write(f"{error or type(error).__name__}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
