"""A lane: one thread that answers the latest request; older ones that wait are dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyqtgraph.Qt import QtCore

from py4DSTEM.gui.jobs.queue import emptied

__all__ = ["Answer", "Lane"]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a lane gives back: the request, its number, and a value or an error."""

    number: int
    request: Any
    value: Any = None
    error: BaseException | None = None
    last: bool = True


@dataclass(frozen=True)
class _Newer:
    """A cancel token: whether the lane has something newer to do."""

    lane: Lane

    def is_set(self) -> bool:
        return self.lane._pending is not None or self.lane._stopped


@dataclass(frozen=True)
class _Ending:
    """A cancel token: whether the lane is to end."""

    lane: Lane

    def is_set(self) -> bool:
        return self.lane._stopped


class Lane(QtCore.QObject):
    """Answers requests off the GUI thread, the latest first.

    A request that has begun is finished: a lane that drops its work for every new request would,
    during a drag, never answer at all.  `work(request)` returns a value, or yields several, coarse
    ones first; between two of them a newer request wins.

    Parameters
    ----------
    work : callable
        Called with the request in the thread of the lane.
    name : str
    """

    answered = QtCore.Signal(object)
    """An `Answer`, in the GUI thread."""

    def __init__(self, work: Callable[[Any], Any], name: str, parent: Any = None) -> None:
        super().__init__(parent)
        self._work = work
        self._wake = threading.Condition()
        self._pending: tuple[int, Any] | None = None
        self._number = 0
        self._busy = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"py4dstem-{name}", daemon=True)
        self._thread.start()

    @property
    def number(self) -> int:
        """Number of the latest request; an answer with a lower one is stale."""
        return self._number

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being worked on."""
        with self._wake:
            return self._pending is None and not self._busy

    @property
    def newer(self) -> _Newer:
        """Set while a newer request waits: for work that may be left unfinished."""
        return _Newer(self)

    @property
    def ending(self) -> _Ending:
        """Set once the lane was stopped: for work that is finished otherwise."""
        return _Ending(self)

    def ask(self, request: Any) -> int:
        """Replace whatever waits by `request`; the number its answer will carry."""
        with self._wake:
            self._number += 1
            self._pending = (self._number, request)
            self._wake.notify()
            return self._number

    def stop(self) -> None:
        """End the thread after the work it is doing."""
        with self._wake:
            self._stopped, self._pending = True, None
            self._wake.notify()

    def wait(self, timeout_s: float = 5.0) -> None:
        """Wait for the thread to end; call `stop` first."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            number, request = taken
            try:
                self._answer(number, request)
            except BaseException as error:  # shown by whoever asked
                emptied(error)
                self._send(Answer(number, request, error=error))
            del taken, request  # what was asked may hold a scan that is closed meanwhile

    def _take(self) -> tuple[int, Any] | None:
        with self._wake:
            self._busy = False
            while self._pending is None and not self._stopped:
                self._wake.wait()
            taken, self._pending = self._pending, None
            self._busy = taken is not None
            return taken

    def _answer(self, number: int, request: Any) -> None:
        value = self._work(request)
        if not hasattr(value, "__next__"):
            self._send(Answer(number, request, value))
            return
        for part in value:
            self._send(Answer(number, request, part, last=False))
            if self.newer.is_set():
                value.close()
                return
        self._send(Answer(number, request, last=True))

    def _send(self, answer: Answer) -> None:
        if self._stopped:
            return
        try:
            self.answered.emit(answer)
        except RuntimeError:  # the program is closing and Qt has deleted this object
            self._stopped = True
