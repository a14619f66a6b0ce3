"""Small pieces that several panels are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.gui.files import write_whole
from py4DSTEM.gui.jobs.queue import Job
from py4DSTEM.gui.session import Session

__all__ = ["JobLine", "Note", "button", "copy_text", "pixmap_of", "save_text"]

Qt = QtCore.Qt


def button(text: str, tip: str, act: Callable[[], Any]) -> QtWidgets.QPushButton:
    """A push button that says what it does."""
    made = QtWidgets.QPushButton(text)
    made.setToolTip(tip)
    made.setAutoDefault(False)
    made.clicked.connect(lambda *_: act())
    return made


class Note(QtWidgets.QLabel):
    """A line or two of text that hides when there is nothing to say."""

    def __init__(self, *, error: bool = False) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setProperty("error", error)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.say("")

    def say(self, text: str) -> None:
        """Show a text, or nothing."""
        self.setText(text)
        self.setVisible(bool(text))


class JobLine(QtWidgets.QWidget):
    """Progress of the job that a panel has started, and a button that cancels it."""

    ended = QtCore.Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.job: Job | None = None
        self.bar = QtWidgets.QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(True)
        self.stop = button("Cancel", "Stop this; what was there before stays.", self.cancel)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.bar, 1)
        layout.addWidget(self.stop)
        self._session = session
        session.jobs.changed.connect(self._changed)
        self.hide()

    @property
    def busy(self) -> bool:
        """Whether the job waits or runs."""
        return self.job is not None and self.job.active

    def follow(self, job: Job) -> None:
        """Show how a job goes on."""
        self.job = job
        self._changed(job)

    def cancel(self) -> None:
        """Ask the job to stop."""
        if self.job is not None:
            self.job.cancel()
            self._session.jobs.changed.emit(self.job)

    def _changed(self, job: Job) -> None:
        if job is not self.job:
            return
        self.bar.setValue(round(1000 * job.fraction))
        self.bar.setFormat(f"{job.label}: {job.detail or job.state} %p%")
        self.setVisible(job.active)
        if not job.active:
            self.ended.emit()


def copy_text(text: str) -> None:
    """Put a text on the clipboard."""
    clipboard = QtWidgets.QApplication.clipboard()
    if clipboard is not None:
        clipboard.setText(text)


def save_text(session: Session, parent: QtWidgets.QWidget, name: str, text: str) -> None:
    """Ask where to, and write a text there, off the GUI thread."""
    path, _ = QtWidgets.QFileDialog.getSaveFileName(parent, "Save", name)
    if path:
        session.jobs.submit(
            f"save {path}",
            lambda _: write_whole(path, text),
            done=lambda _: session.said.emit(f"saved {path}"),
            failed=lambda error: session.troubled.emit(f"save {path}", error),
            at_once=True,
        )


def pixmap_of(rgba: Any) -> QtGui.QPixmap:
    """A pixmap from (height, width, 4) uint8, red first."""
    height, width = rgba.shape[:2]
    image = QtGui.QImage(rgba.data, width, height, 4 * width, QtGui.QImage.Format.Format_RGBA8888)
    return QtGui.QPixmap.fromImage(image)
