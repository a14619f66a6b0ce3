"""The desktop program under test: without a screen, with settings of its own, moved by real events.

Call `isolate` before anything imports Qt.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def isolate(folder: str | None = None) -> Path:
    """No screen, and settings, logs and unsaved work in a folder of this process alone."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt5")
    home = Path(folder or tempfile.mkdtemp(prefix="py4dstem-desk-"))
    for name in ("CONFIG", "DATA", "STATE", "RUNTIME"):
        place = home / name.lower()
        place.mkdir(exist_ok=True, mode=0o700)
        os.environ[f"XDG_{name}_HOME" if name != "RUNTIME" else "XDG_RUNTIME_DIR"] = str(place)
    os.environ["PY4DSTEM_HOME"] = str(home / "py4dstem")
    return home


def resident_mib() -> float:
    """Memory of this process that is neither shared nor a mapped file."""
    with open("/proc/self/status") as lines:
        found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return (int(found["RssAnon"]) + int(found["RssShmem"])) / 1024


class Desk:
    """A main window with what went wrong in it."""

    def __init__(self, workers: int | None = None) -> None:
        from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

        from py4DSTEM.gui.preferences import Preferences
        from py4DSTEM.gui.program import application
        from py4DSTEM.gui.session import Session
        from py4DSTEM.gui.window import MainWindow

        self.QtCore, self.QtGui, self.QtWidgets = QtCore, QtGui, QtWidgets
        self.app = application()
        self.session = Session(workers=workers)
        self.window = MainWindow(self.session, Preferences(), safe=True)
        self.live = self.window.live
        self.uncaught: list[BaseException] = []
        self.qt_messages: list[str] = []
        self.mistakes: list[Any] = []  # of the program, as it tells the user itself
        self.troubles: list[tuple[str, BaseException]] = []
        self.session.troubled.connect(lambda *trouble: self.troubles.append(trouble))
        self._hooks = sys.excepthook, threading.excepthook
        self.window.troubles.install()
        self._listen()
        self.window.show()
        self.spin(0.05)

    def end(self) -> None:
        """Close the window and leave the process as it was."""
        self.window.end()
        self.window.troubles.uninstall()
        sys.excepthook, threading.excepthook = self._hooks
        self.window.deleteLater()
        self.spin(0.02)

    def _listen(self) -> None:
        """Hear of everything that nobody catches, before the program shows it."""
        shown = sys.excepthook

        def uncaught(kind: Any, error: Any, trace: Any) -> None:
            self.uncaught.append(error.with_traceback(trace))
            shown(kind, error, trace)

        in_threads = threading.excepthook

        def uncaught_in_thread(args: Any) -> None:
            self.uncaught.append(args.exc_value)
            in_threads(args)

        sys.excepthook, threading.excepthook = uncaught, uncaught_in_thread
        add = self.window.troubles.add

        def heard(trouble: Any) -> None:
            if trouble.what.startswith("Qt says"):
                self.qt_messages.append(trouble.what)
            elif not trouble.expected:
                self.mistakes.append(trouble)
            add(trouble)

        self.window.troubles.add = heard

    # ---- waiting ---------------------------------------------------------------------------------
    def spin(self, seconds: float) -> None:
        """Let the program go on for a while."""
        loop = self.QtCore.QEventLoop()
        self.QtCore.QTimer.singleShot(round(1000 * seconds), loop.quit)
        loop.exec()

    def wait(self, until: Callable[[], Any], timeout_s: float = 120.0, step_ms: int = 2) -> float:
        """Let the program go on until something holds; the seconds that it took."""
        start = time.perf_counter()
        loop, clock = self.QtCore.QEventLoop(), self.QtCore.QTimer()
        clock.setTimerType(self.QtCore.Qt.TimerType.PreciseTimer)
        late = start + timeout_s
        clock.timeout.connect(lambda: (until() or time.perf_counter() > late) and loop.quit())
        clock.start(step_ms)
        loop.exec()
        clock.stop()
        if not until():
            raise TimeoutError(f"waited {timeout_s:.0f} s in vain")
        return time.perf_counter() - start

    # ---- scans -----------------------------------------------------------------------------------
    @property
    def scan(self) -> Any:
        return self.session.project.scan

    def open(self, path: str | Path, *, ready: bool = True) -> str:
        """Open a file; its key, once it is there, and prepared for dragging if `ready`."""
        before = {scan.key for scan in self.session.project.scans}
        self.window.open(str(path))
        self.wait(lambda: {scan.key for scan in self.session.project.scans} - before)
        if ready:
            self.wait(lambda: self.idle, 600)
        return self.session.project.current

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self.session.jobs.active and self.live.idle and self.drawn

    @property
    def drawn(self) -> bool:
        """Whether the images of the last requests are on the screen."""
        real, pattern = self.window.views["real"], self.window.views["diffraction"]
        shown = {"real": not self.scan.real, "pattern": not self.scan.diffraction}
        return (not shown["real"] or real.drawnNumber == self.live.images.number) and (
            not shown["pattern"] or pattern.drawnNumber == self.live.patterns.number
        )

    # ---- the mouse -------------------------------------------------------------------------------
    def point(self, view: Any, place: tuple[float, float]) -> Any:
        """Where a place (row, column) of an image lies in its widget."""
        scene = view.canvas.box.mapViewToScene(self.QtCore.QPointF(place[1], place[0]))
        return self.QtCore.QPointF(view.canvas.mapFromScene(scene))

    def mouse(self, widget: Any, what: str, at: Any, button: str = "LeftButton") -> None:
        """Press, move (with the button down), hover, release or double-click."""
        Type, Qt = self.QtCore.QEvent.Type, self.QtCore.Qt
        known = {
            "press": Type.MouseButtonPress,
            "move": Type.MouseMove,
            "hover": Type.MouseMove,
            "release": Type.MouseButtonRelease,
            "double": Type.MouseButtonDblClick,
        }
        none = Qt.MouseButton.NoButton
        held = getattr(Qt.MouseButton, button)
        cause = none if what in ("move", "hover") else held
        down = none if what in ("hover", "release") else held
        on_screen = self.QtCore.QPointF(widget.mapToGlobal(at.toPoint()))
        modifiers = Qt.KeyboardModifier.NoModifier
        event = self.QtGui.QMouseEvent(known[what], at, on_screen, cause, down, modifiers)
        self.QtWidgets.QApplication.sendEvent(widget, event)

    def drag(self, view: Any, places: Iterable[tuple[float, float]], **options: Any) -> Drag:
        """Press at the first place, move over the others at a steady rate, release."""
        return Drag(self, view, list(places), **options).run()


class Drag:
    """A drag and its delays: from each move to the image of it, or a later one, on the screen.

    Parameters
    ----------
    desk : Desk
    view : ImagePanel
        Where the mouse moves.
    places : list of (row, column)
    shown : ImagePanel
        Where the answer is drawn; None: the real-space image.
    lane : Lane
        That answers; None: that of the images.
    hz : float
        Moves a second: what a mouse gives.
    """

    def __init__(
        self,
        desk: Desk,
        view: Any,
        places: list[tuple[float, float]],
        *,
        shown: Any = None,
        lane: Any = None,
        hz: float = 60.0,
    ) -> None:
        self.desk, self.view, self.places = desk, view, places
        self.shown = shown or desk.window.views["real"]
        self.lane = lane or desk.live.images
        self.interval_ms = 1000 / hz
        self.waiting: list[tuple[int, float]] = []
        self.delays: list[float] = []
        self.frames: list[float] = []
        self.moves = 0
        self.first_s = self.settled_s = float("nan")

    def run(self) -> Drag:
        desk, widget = self.desk, self.view.canvas.viewport()
        desk.mouse(widget, "hover", desk.point(self.view, self.places[0]))
        desk.mouse(widget, "press", desk.point(self.view, self.places[0]))
        self.shown.drawn.connect(self._drawn)
        todo = iter(self.places[1:])
        loop, clock = desk.QtCore.QEventLoop(), desk.QtCore.QTimer()
        clock.setTimerType(desk.QtCore.Qt.TimerType.PreciseTimer)
        clock.timeout.connect(lambda: self._move(next(todo, None), loop))
        clock.start(round(self.interval_ms))
        self.started = time.perf_counter()
        loop.exec()
        clock.stop()
        self.seconds = time.perf_counter() - self.started
        self._release(widget)
        self.shown.drawn.disconnect(self._drawn)
        return self

    def _move(self, place: tuple[float, float] | None, loop: Any) -> None:
        if place is None:
            loop.quit()
            return
        before, now = self.lane.number, time.perf_counter()
        self.desk.mouse(self.view.canvas.viewport(), "move", self.desk.point(self.view, place))
        if self.lane.number > before:
            self.moves += 1
            self.waiting.append((self.lane.number, now))

    def _drawn(self, number: int) -> None:
        now = time.perf_counter()
        self.frames.append(now)
        done = [start for asked, start in self.waiting if asked <= number]
        self.waiting = [(asked, start) for asked, start in self.waiting if asked > number]
        self.delays += [now - start for start in done]
        if self.delays and self.first_s != self.first_s:
            self.first_s = self.delays[0]

    def _release(self, widget: Any) -> None:
        start = time.perf_counter()
        self.desk.mouse(widget, "release", self.desk.point(self.view, self.places[-1]))
        wanted = self.lane.number
        self.desk.wait(lambda: self.shown.drawnNumber >= wanted and self.shown.exact, 30)
        self.settled_s = time.perf_counter() - start

    @property
    def fps(self) -> float:
        """Images drawn a second."""
        inside = [t for t in self.frames if t <= self.started + self.seconds]
        return len(inside) / self.seconds


class Heartbeat:
    """How long the event loop was kept from its timers: a tick that should come every 5 ms."""

    def __init__(self, desk: Desk) -> None:
        self.gaps: list[float] = []
        self._clock = desk.QtCore.QTimer()
        self._clock.setTimerType(desk.QtCore.Qt.TimerType.PreciseTimer)
        self._clock.timeout.connect(self._tick)
        self._last = 0.0

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def __enter__(self) -> Heartbeat:
        self._last = time.perf_counter()
        self._clock.start(5)
        return self

    def __exit__(self, *exc: object) -> None:
        self._clock.stop()
        self._tick()
