"""Live imaging: from detectors to the image of the scan, from a selection to its pattern."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.jobs.queue import Job
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.project import Project, Scan
from py4DSTEM.process.live.scan import LiveScan

__all__ = ["ImageRequest", "Live", "PatternRequest", "Shown"]


@dataclass(frozen=True, eq=False)
class ImageRequest:
    """An image of the scan: what the detectors of `scan` see with that calibration."""

    scan: Scan
    calibration: Calibration
    live: LiveScan


@dataclass(frozen=True, eq=False)
class PatternRequest:
    """The pattern of what is selected in `scan`."""

    scan: Scan
    calibration: Calibration
    live: LiveScan


@dataclass(frozen=True, eq=False)
class Shown:
    """An image, or pattern, and the request that it answers."""

    scan: Scan
    data: NDArray[Any]
    exact: bool
    number: int
    rows: NDArray[np.intp] | None = None
    columns: NDArray[np.intp] | None = None


class Live(QtCore.QObject):
    """Asks for a new image when a detector moved, and for a new pattern when the selection did.

    Two lanes answer; an answer that is not for what is drawn any more is dropped unless nothing
    newer has been shown yet, so that the picture follows a drag.
    """

    image = QtCore.Signal(object)
    """`Shown`: the image of the scan."""
    pattern = QtCore.Signal(object)
    """`Shown`: the pattern of the selection."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self._session = session
        self._images = Lane(_image, "images", self)
        self._patterns = Lane(_pattern, "patterns", self)
        self._images.answered.connect(lambda answer: self._show(answer, self.image))
        self._patterns.answered.connect(lambda answer: self._show(answer, self.pattern))
        self._building: dict[str, Job] = {}
        session.changed.connect(self._changed)
        session.opened.connect(self._opened)

    def stop(self) -> None:
        """End both lanes."""
        for lane in (self._images, self._patterns):
            lane.stop()
        for lane in (self._images, self._patterns):
            lane.wait()

    @property
    def idle(self) -> bool:
        """Whether all that was asked for has been answered."""
        return self._images.idle and self._patterns.idle

    def ask(self) -> None:
        """Ask for image and pattern of what is shown now."""
        self._ask_image()
        self._ask_pattern()

    def _changed(self, before: Project, after: Project) -> None:
        old, new = before.scan, after.scan
        if new is None:
            return
        if old is None or old.key != new.key or old.layers is not new.layers:
            self.ask()
            return
        if any(getattr(old, f) is not getattr(new, f) for f in ("selection", "how")):
            self._ask_pattern()
        if any(getattr(old, f) is not getattr(new, f)
               for f in ("detectors", "expression", "response")):  # fmt: skip
            self._ask_image()

    def _request(self, kind: type[Any]) -> Any:
        scan = self._session.project.scan
        data = None if scan is None else self._session.data(scan.key)
        if scan is None or data is None:
            return None
        return kind(scan, self._session.calibration(scan.key), data.live)

    def _ask_image(self) -> None:
        request = self._request(ImageRequest)
        if request is not None:
            self._images.ask(request)

    def _ask_pattern(self) -> None:
        request = self._request(PatternRequest)
        if request is not None:
            self._patterns.ask(request)

    def _show(self, answer: Answer, signal: Any) -> None:
        current = self._session.project.scan
        if current is None or answer.request.scan.key != current.key:
            return
        if answer.error is not None:
            self._session.troubled.emit("make the picture", answer.error)
        elif answer.value is not None:
            signal.emit(answer.value)

    # ---- the cache -------------------------------------------------------------------------------
    def _opened(self, key: str) -> None:
        data = self._session.data(key)
        if data is None:
            return
        self.ask()
        live = data.live
        name = self._session.project.get(key).name
        self._building[key] = self._session.jobs.submit(
            f"prepare {name} for dragging",
            lambda options: live.build(options),
            done=lambda _: self._ask_image(),
        )


def _image(request: ImageRequest) -> Any:
    raise NotImplementedError


def _pattern(request: PatternRequest) -> Any:
    raise NotImplementedError
