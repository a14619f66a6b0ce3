"""The jobs that wait and run: progress, pause, cancel, and what went wrong."""

from __future__ import annotations

import time
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.gui.jobs.queue import Job, Jobs
from py4DSTEM.gui.machine import span
from py4DSTEM.gui.views.elided import ElidedLabel

__all__ = ["JobRow", "JobsView"]

KEPT = 30
"""Rows of jobs that have ended."""


class JobRow(QtWidgets.QFrame):
    """One job: a name, a bar, and what can be done about it."""

    def __init__(self, job: Job, view: JobsView) -> None:
        super().__init__()
        self.job = job
        self._view = view
        self.name = ElidedLabel(job.label)
        self.bar = QtWidgets.QProgressBar()
        self.time = QtWidgets.QLabel()
        flags = QtCore.Qt.AlignmentFlag
        self.time.setAlignment(flags.AlignRight | flags.AlignVCenter)
        self.pause = self._button("‖", "Hold this job between two blocks of the scan, or go on")
        self.cancel = self._button("✕", "Stop this job; what was there before stays")
        self.details = self._button("…", "What went wrong")
        self._lay_out()
        self.pause.setCheckable(True)
        self.pause.clicked.connect(self._pause)
        self.cancel.clicked.connect(self._cancel)
        self.details.clicked.connect(lambda: view.explain.emit(job.label, job.error))
        self.refresh()

    def _button(self, text: str, tip: str) -> QtWidgets.QToolButton:
        button = QtWidgets.QToolButton()
        button.setText(text)
        button.setToolTip(tip)
        button.setAccessibleName(tip)
        button.setAutoRaise(True)
        return button

    def _lay_out(self) -> None:
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(True)
        self.bar.setFixedHeight(14)
        self.name.setMinimumWidth(40)
        top = QtWidgets.QHBoxLayout()
        top.setSpacing(6)
        top.addWidget(self.name, 1)
        for widget in (self.time, self.details, self.pause, self.cancel):
            top.addWidget(widget)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(4, 2, 4, 2)
        column.setSpacing(2)
        column.addLayout(top)
        column.addWidget(self.bar)

    def refresh(self) -> None:
        """Draw the job as it is now."""
        job = self.job
        self.name.setToolTip(f"{job.label}: {job.state} {job.detail}".strip())
        self.name.setEnabled(job.active or job.state == "failed")
        self.bar.setValue(int(1000 * job.fraction))
        self.bar.setFormat(job.detail if job.detail == "stopping" else _words(job))
        self.bar.setVisible(job.active)
        self.pause.setVisible(job.active)
        self.pause.setChecked(job.state == "paused")
        self.cancel.setVisible(job.active)
        self.details.setVisible(job.state == "failed")
        ended = job.ended_s or time.monotonic()
        took = span(ended - job.started_s) if job.started_s else ""
        usual = job.active or job.state == "done"  # the words are for what is not
        self.time.setText(took if usual else job.state)
        self.time.setToolTip(f"{job.state}, {took}" if took else job.state)

    def _pause(self) -> None:
        self.job.pause(self.pause.isChecked())
        self.refresh()

    def _cancel(self) -> None:
        self.job.cancel()
        self.refresh()


def _words(job: Job) -> str:
    return "waiting" if job.state == "waiting" else ("paused" if job.state == "paused" else "%p %")


class JobsView(QtWidgets.QScrollArea):
    """All jobs, the latest first."""

    explain = QtCore.Signal(str, object)
    """(label, error) of a job whose failure is asked about."""

    def __init__(self, jobs: Jobs, parent: Any = None) -> None:
        super().__init__(parent)
        self.rows: dict[int, JobRow] = {}
        inner = QtWidgets.QWidget()
        self._column = QtWidgets.QVBoxLayout(inner)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)
        self._column.addStretch(1)
        self.setWidget(inner)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(120)
        self._clock = QtCore.QTimer(self)
        self._clock.setInterval(500)
        self._clock.timeout.connect(self._tick)
        jobs.changed.connect(self._changed)

    def _changed(self, job: Job) -> None:
        if job.number not in self.rows:
            row = self.rows[job.number] = JobRow(job, self)
            self._column.insertWidget(0, row)
            self._tidy()
        self.rows[job.number].refresh()
        if job.active and not self._clock.isActive():
            self._clock.start()

    def _tick(self) -> None:
        active = [row for row in self.rows.values() if row.job.active]
        for row in active:
            row.refresh()
        if not active:
            self._clock.stop()

    def _tidy(self) -> None:
        ended = [number for number, row in self.rows.items() if not row.job.active]
        for number in ended[:-KEPT]:
            row = self.rows.pop(number)
            self._column.removeWidget(row)
            row.deleteLater()
