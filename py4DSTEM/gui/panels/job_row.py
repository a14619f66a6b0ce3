"""The job of a panel: its progress, a button that cancels it, and what went wrong, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.gui.jobs.queue import Job
from py4DSTEM.gui.session import Session
from py4DSTEM.stream.options import RunOptions

__all__ = ["JobRow"]


class JobRow(QtWidgets.QWidget):
    """Runs one job at a time; empty while there is none and nothing to say."""

    busyChanged = QtCore.Signal(bool)

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self._session = session
        self.job: Job | None = None
        self.bar = QtWidgets.QProgressBar()
        self.bar.setMaximumHeight(14)
        self.bar.setTextVisible(False)
        self.cancel_button = QtWidgets.QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop this job; what was there before stays.")
        self.cancel_button.clicked.connect(self.cancel)
        self.words = QtWidgets.QLabel()
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QtWidgets.QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.bar, 0, 0)
        layout.addWidget(self.cancel_button, 0, 1)
        layout.addWidget(self.words, 1, 0, 1, 2)
        session.jobs.changed.connect(self._follow)
        self._show_busy(False)
        self.say("")

    @property
    def busy(self) -> bool:
        """Whether the job waits or runs."""
        return self.job is not None and self.job.active

    def start(
        self, label: str, work: Callable[[RunOptions], Any], done: Callable[[Any], None]
    ) -> Job | None:
        """Run some work unless there is some; errors are said here."""
        if self.busy:
            return None
        self.say("")
        self.job = self._session.jobs.submit(
            label, work, done=done, failed=self.say_error, at_once=True
        )
        self._show_busy(True)
        return self.job

    def cancel(self) -> None:
        """Stop the job."""
        if self.job is not None:
            self.job.cancel()

    def say(self, text: str, *, error: bool = False) -> None:
        """Write a line under the bar."""
        self.words.setText(text)
        self.words.setVisible(bool(text))
        self.words.setProperty("error", error)
        self.words.style().unpolish(self.words)
        self.words.style().polish(self.words)

    def say_error(self, error: BaseException) -> None:
        """Write what went wrong, and what to do."""
        known = str(error) or type(error).__name__
        self.say(known[:1].upper() + known[1:] + ("" if known.endswith(".") else "."), error=True)

    def _follow(self, job: Job) -> None:
        if job is not self.job:
            return
        self.bar.setRange(0, 1000 if job.fraction > 0 else 0)
        self.bar.setValue(int(1000 * job.fraction))
        if not job.active:
            self._show_busy(False)
            if job.state == "cancelled":
                self.say("Cancelled.")

    def _show_busy(self, busy: bool) -> None:
        self.bar.setVisible(busy)
        self.cancel_button.setVisible(busy)
        self.busyChanged.emit(busy)
