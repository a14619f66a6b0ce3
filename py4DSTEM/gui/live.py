"""Live imaging: from detectors to the image of the scan, from a selection to its pattern."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import Cancelled
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.session import OpenScan, Session
from py4DSTEM.gui.state.project import Project, Scan
from py4DSTEM.process.live.patterns import LivePattern
from py4DSTEM.process.live.scan import LiveResult
from py4DSTEM.process.live.view import DetectorView
from py4DSTEM.stream.options import RunOptions

__all__ = ["Live", "Request", "Shown", "layers_differ"]

Parts = Iterator["Shown"]


@dataclass(frozen=True, eq=False)
class Request:
    """What is drawn: the scan with its detectors and selection, its calibration and its data.

    Along a drag it is not `settled`: a coarse picture is enough.
    """

    scan: Scan
    calibration: Calibration
    data: OpenScan
    settled: bool = True


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture and what it is a picture of.

    Parameters
    ----------
    scan : Scan
        As it was when the picture was asked for.
    data : (n, m) or (2, n, m) float64
        An image or pattern; two images for a centre of mass.
    exact : bool
        Whether the library gives the same for the whole scan.
    rows, columns : intp arrays, optional
        Scan positions of a coarse image.
    number : int
        Of the request.
    took_s : float
        Time that it took to make.
    outside : tuple of str
        Detectors that see no pixel.
    """

    scan: Scan
    data: NDArray[Any]
    exact: bool = True
    rows: NDArray[np.intp] | None = None
    columns: NDArray[np.intp] | None = None
    number: int = 0
    took_s: float = 0.0
    outside: tuple[str, ...] = ()


class Live(QtCore.QObject):
    """Asks for a new image when a detector moved, and for a new pattern when the selection did.

    Two lanes answer, each the latest request first; an answer for a scan that is not in front any
    more is dropped.  What is shown along a drag comes from the caches; once the mouse is let go,
    the engine gives the exact picture where the caches do not.
    """

    image = QtCore.Signal(object)
    """`Shown`: the image of the scan."""
    pattern = QtCore.Signal(object)
    """`Shown`: the pattern of the selection."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self._session = session
        self._patterns_of: tuple[OpenScan, LivePattern] | None = None
        self._coarse = False
        self.images = Lane(self._image_parts, "images", self)
        self.patterns = Lane(self._pattern_parts, "patterns", self)
        self.images.answered.connect(self._show_image)
        self.patterns.answered.connect(self._show_pattern)
        session.changed.connect(self._changed)
        session.opened.connect(self._opened)
        session.settled.connect(self._settle)
        session.rawChanged.connect(lambda _: self.ask())

    def stop(self) -> None:
        """End both lanes."""
        for lane in (self.images, self.patterns):
            lane.stop()
        for lane in (self.images, self.patterns):
            lane.wait()
        self._patterns_of = None

    @property
    def idle(self) -> bool:
        """Whether all that was asked for has been answered."""
        return self.images.idle and self.patterns.idle

    def ask(self) -> None:
        """Ask for image and pattern of what is in front now."""
        self._ask(self.images)
        self._ask(self.patterns)

    # ---- requests --------------------------------------------------------------------------------
    def _changed(self, before: Project, after: Project) -> None:
        old, new = before.scan, after.scan
        if new is None:
            self._patterns_of = None
            return
        if old is None or old.key != new.key or layers_differ(old, new):
            self.ask()
            return
        if _differ(old, new, "selection", "how"):
            self._ask(self.patterns)
        if _differ(old, new, "detectors", "expression", "response"):
            self._ask(self.images)

    def _ask(self, lane: Lane) -> None:
        scan = self._session.project.scan
        data = None if scan is None else self._session.data(scan.key)
        if scan is not None and data is not None:
            settled = getattr(self._session.history.last, "settled", True)
            lane.ask(Request(scan, self._session.calibration(scan.key), data, settled))

    def _settle(self) -> None:
        """A drag ended where it was: what is coarse may become exact now."""
        if self._coarse or not self.images.idle:
            self._ask(self.images)

    def _show_image(self, answer: Answer) -> None:
        if answer.value is not None:
            self._coarse = not answer.value.exact
        self._show(answer, self.image, "make the image")

    def _show_pattern(self, answer: Answer) -> None:
        self._show(answer, self.pattern, "make the pattern")

    def _show(self, answer: Answer, signal: Any, doing: str) -> None:
        current = self._session.project.scan
        if current is None or answer.request.scan.key != current.key:
            return
        if answer.error is not None:
            if not isinstance(answer.error, Cancelled) and not answer.request.data.live.closed:
                self._session.troubled.emit(doing, answer.error)
        elif answer.value is not None:
            signal.emit(replace(answer.value, number=answer.number))

    # ---- answers, in the threads of the lanes ----------------------------------------------------
    def _image_parts(self, request: Request) -> Parts:
        start = time.perf_counter()
        view = detector_view(request)
        if view is None:
            blank = np.full(request.data.cube.R_shape, np.nan)
            yield Shown(request.scan, blank)
            return
        found = view.live(request.data.live)
        yield _shown(request, view, found, start)
        if found.exact or not request.settled:
            return
        options = RunOptions(cancel=self.images.newer)
        exact = view.exact(request.data.cube, options)
        took = time.perf_counter() - start
        yield Shown(request.scan, _single(exact), took_s=took, outside=view.outside)

    def _pattern_parts(self, request: Request) -> Parts:
        start = time.perf_counter()
        source = self._pattern_source(request.data)
        # Along a drag there is always a newer request: what gave way to it would never be shown.
        lane = self.patterns
        options = RunOptions(cancel=lane.newer if request.settled else lane.ending)
        selection = request.scan.selection
        if selection.kind == "point":
            pattern = source.pattern(*selection.nearest(source.cube.R_shape))
        else:
            mask = selection.mask(source.cube.R_shape)
            pattern = source.selection(mask, request.scan.how, options)
        yield Shown(request.scan, pattern, took_s=time.perf_counter() - start)

    def _pattern_source(self, data: OpenScan) -> LivePattern:
        known = self._patterns_of
        if known is None or known[0] is not data:
            known = self._patterns_of = (data, LivePattern(data.cube))
        return known[1]

    # ---- the cache -------------------------------------------------------------------------------
    def _opened(self, key: str) -> None:
        data = self._session.data(key)
        if data is None:
            return
        self.ask()
        name = self._session.project.get(key).name
        self._session.jobs.submit(
            f"prepare {name} for dragging",
            lambda options: _prepare(data, options),
            done=lambda _: self._ask(self.images),
            failed=lambda error: self._session.said.emit(f"{name} is dragged coarsely: {error}"),
        )


def _prepare(data: OpenScan, options: RunOptions) -> None:
    """Caches that make dragging smooth: a coarse one at once, then the whole scan."""
    data.live.coarse(options)
    data.live.build(options)
    if data.first.beam is not None:  # rings are mostly resized about the beam
        data.live.use_shells(data.first.beam.center, options)


def detector_view(request: Request) -> DetectorView | None:
    """What the detectors of a request show together; None where there is none."""
    scan = request.scan
    counting = {e.name: e for e in scan.detectors if e.shown or scan.expression}
    if not counting:
        return None
    return DetectorView(
        {name: entry.shape for name, entry in counting.items()},
        {name: entry.weight for name, entry in counting.items() if entry.shown},
        request.data.cube.Q_shape,
        request.calibration,
        scan.expression,
        scan.response,
    )


def _shown(request: Request, view: DetectorView, found: LiveResult, start: float) -> Shown:
    return Shown(
        request.scan,
        _single(found.images),
        exact=found.exact,
        rows=found.rows,
        columns=found.columns,
        took_s=time.perf_counter() - start,
        outside=view.outside,
    )


def _single(images: NDArray[Any]) -> NDArray[Any]:
    """One image as it is; the two of a centre of mass as a stack."""
    return images[0] if len(images) == 1 else images


def layers_differ(old: Scan, new: Scan) -> bool:
    """Whether other calibrations are switched on (copies of a scan share its layers)."""
    return len(old.layers) != len(new.layers) or any(
        a is not b for a, b in zip(old.layers, new.layers, strict=True)
    )


def _differ(old: Scan, new: Scan, *names: str) -> bool:
    pairs = [(getattr(old, name), getattr(new, name)) for name in names]
    return any(a is not b and a != b for a, b in pairs)
