"""The status line: what is under the mouse, how fast, how much memory, what is not known yet."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.core.readout import q_text
from py4DSTEM.gui.machine import memory_total, memory_used, size
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.project import Project
from py4DSTEM.gui.views.calm import Calm

__all__ = ["Status"]

_REST_MS = 100

FRAMES = 30
"""Over which the frame rate is taken."""


class Status(QtWidgets.QStatusBar):
    """Small labels, from what changes most to what changes least."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self._session = session
        self._drawn: deque[float] = deque(maxlen=FRAMES)
        self.place = self._label("Place under the mouse, its value, and its distance from the beam")
        self.timing = self._label("Time that the last image took to make, and images a second")
        self.cache = self._label("Part of the scan that is ready for dragging at full rate")
        self.memory = self._label("Memory of this program, and of the machine")
        self.saved = self._label("When the project was saved last")
        self.chip = self._label("")
        self.chip.setProperty("chip", True)
        # A text of another length lays out the whole window: ten times a second is enough.
        self._say_place = Calm(self.place.setText, _REST_MS, self)
        self._say_timing = Calm(self.timing.setText, _REST_MS, self)
        self.addWidget(self.place, 1)
        for label in (self.chip, self.timing, self.cache, self.memory, self.saved):
            self.addPermanentWidget(label)
        self._clock = QtCore.QTimer(self)
        self._clock.setInterval(1000)
        self._clock.timeout.connect(self.refresh)
        self._clock.start()
        session.changed.connect(self._changed)
        session.opened.connect(lambda _: self.refresh())
        self.refresh()

    def _label(self, tip: str) -> QtWidgets.QLabel:
        label = QtWidgets.QLabel()
        label.setToolTip(tip)
        return label

    def stop(self) -> None:
        """No more looking at the clock."""
        self._clock.stop()

    # ---- what others tell ------------------------------------------------------------------------
    def say(self, text: str) -> None:
        """A line for a few seconds."""
        self.showMessage(text, 6000)

    def hover(self, panel: str, place: Any, view: Any) -> None:
        """Say where the mouse is, what the image is there, and how far from the beam."""
        scan = self._session.project.scan
        if place is None or view is None or scan is None:
            self._say_place("")
            return
        value, (x, y) = view.value(place), place
        parts = [f"({x:.0f}, {y:.0f})", "" if value is None else f"{value:.6g}"]
        if panel == "diffraction" and self._session.data(scan.key) is not None:
            parts.append(q_text(place, self._session.calibration(scan.key)))
        self._say_place(" · ".join(filter(None, parts)))

    def shown(self, shown: Any) -> None:
        """An image that was asked for has arrived."""
        self._drawn.append(time.monotonic())
        first, last = self._drawn[0], self._drawn[-1]
        rate = (len(self._drawn) - 1) / (last - first) if last > first else 0.0
        self._say_timing(f"{1000 * shown.took_s:.3g} ms · {rate:.0f} fps")

    def set_saved(self, text: str) -> None:
        """When, and where, the project was saved."""
        self.saved.setText(text)

    def show_timing(self, shown: bool) -> None:
        """Whether times are shown."""
        self.timing.setVisible(shown)

    # ---- what it finds itself --------------------------------------------------------------------
    def _changed(self, before: Project, after: Project) -> None:
        if before.scan is None or after.scan is None or _calibration_of(before) != (
            _calibration_of(after)
        ):  # fmt: skip
            self.refresh()

    def refresh(self) -> None:
        """Memory, cache and what is not known, as they are now."""
        used, total = memory_used(), memory_total()
        if used is not None:
            self.memory.setText(size(used) if total is None else f"{size(used)} / {size(total)}")
        scan = self._session.project.scan
        data = None if scan is None else self._session.data(scan.key)
        self.cache.setText("" if data is None else f"cache {data.live.cache_fraction:.0%}")
        text, tip = ("", "") if data is None else self._unknown(scan)
        self.chip.setText(text)
        self.chip.setToolTip(tip)
        self.chip.setVisible(bool(text))

    def _unknown(self, scan: Any) -> tuple[str, str]:
        calibration = self._session.calibration(scan.key)
        missing = [
            what
            for axis, what in ((calibration.R[0], "scan step"), (calibration.Q[0], "detector"))
            if not axis.calibrated
        ]
        if missing:
            return "units unknown", (
                f"Not calibrated: {' and '.join(missing)}. Lengths are in pixels. "
                "Calibrate, or type the values into the inspector."
            )
        unsaved = [layer.name for layer in scan.layers if layer.enabled]
        if unsaved and not self.saved.text():
            return "unsaved calibration", (
                f"{', '.join(unsaved)}: measured here, and in no file yet. Save the project."
            )
        return "", ""


def _calibration_of(project: Project) -> Any:
    scan = project.scan
    return None if scan is None else (scan.key, tuple(map(id, scan.layers)))
