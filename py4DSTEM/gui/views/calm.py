"""What follows a drag at the rate of an eye, so that the drag itself goes at its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyqtgraph.Qt import QtCore

__all__ = ["Calm"]


class Calm(QtCore.QObject):
    """Calls a function at once, but again only after a rest, and then with the latest arguments.

    Parameters
    ----------
    act : callable
    rest_ms : int
        Least time from one call to the next.
    """

    def __init__(self, act: Callable[..., None], rest_ms: int, parent: Any = None) -> None:
        super().__init__(parent)
        self._act = act
        self._missed: tuple[Any, ...] | None = None
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(rest_ms)
        self._timer.timeout.connect(self._rested)

    def __call__(self, *arguments: Any) -> None:
        if self._timer.isActive():
            self._missed = arguments
        else:
            self._timer.start()
            self._act(*arguments)

    @property
    def resting(self) -> bool:
        """Whether a call now would have to wait."""
        return bool(self._timer.isActive())

    def _rested(self) -> None:
        if self._missed is not None:
            arguments, self._missed = self._missed, None
            self(*arguments)
