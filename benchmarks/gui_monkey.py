"""A monkey at the desktop program: random acts of all kinds; what nobody catches is counted.

    python gui_monkey.py [--acts N] [--seed S] [--data FOLDER …] [--hours H]

Acts are all actions of the menus that open no dialog of the system, drags and clicks anywhere,
keys, wheel, other sizes of the window, panels, steps that are run and cancelled, scans that are
opened and closed, damaged files among them (--data, as many folders as wanted).  The same seed
gives the same acts, though not at the same moments.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from gui_desk import Desk, isolate, resident_mib

LEFT_OUT = {
    "file.quit",  # ends the test
    "help.documentation",  # starts other programs
    "help.log",
}
KEYS = "Left Right Up Down BracketLeft BracketRight BraceLeft BraceRight Tab Escape Delete Space "
KEYS += "Return Enter Plus Minus 0 1 2 3 4 5 6 A B C D F G H I J K L M N O P R S T W PageUp F1 Home"
LARGEST = 20_000_000
"""Bytes of a file that is opened."""


class Monkey:
    """Random acts on a desk.

    Parameters
    ----------
    desk : Desk
    seed : int
    files : list of paths
        That it may open, good and bad.
    """

    def __init__(self, desk: Desk, seed: int, files: list[Path]) -> None:
        self.desk, self.files = desk, files
        self.rng = np.random.default_rng(seed)
        self.done: Counter[str] = Counter()
        self.last: list[str] = []
        self.acts: dict[str, tuple[float, Callable[[], str]]] = {
            "action": (6, self.action),
            "drag": (6, self.drag),
            "click": (3, self.click),
            "key": (5, self.key),
            "wheel": (2, self.wheel),
            "resize": (0.5, self.resize),
            "panel": (0.6, self.panel),
            "widget": (4, self.widget),
            "step": (0.6, self.step),
            "cancel": (0.6, self.cancel),
            "open": (0.7, self.open),
            "close": (0.4, self.close),
            "undo": (1, self.undo),
            "dock": (0.5, self.dock),
        }

    # ---- the round -------------------------------------------------------------------------------
    def run(self, acts: int, seconds: float = float("inf")) -> None:
        """So many acts, or for so long."""
        names = list(self.acts)
        weights = np.array([self.acts[name][0] for name in names])
        end = time.monotonic() + seconds
        for _ in range(acts):
            name = names[int(self.rng.choice(len(names), p=weights / weights.sum()))]
            said = self.acts[name][1]()
            self.done[name] += 1
            self.last = [*self.last[-30:], f"{name} {said}"]
            self.desk.spin(float(self.rng.exponential(0.004)))
            self.close_dialogs()
            if time.monotonic() > end:
                return

    def close_dialogs(self) -> None:
        """Modal ones are ended by a timer, others now and then by their close button."""
        for widget in self.desk.app.topLevelWidgets():
            if widget is not self.desk.window and widget.isVisible() and self.rng.random() < 0.2:
                widget.close()

    def _one(self, choices: Any) -> Any:
        found = list(choices)
        return found[int(self.rng.integers(len(found)))]

    # ---- acts ------------------------------------------------------------------------------------
    def action(self) -> str:
        actions = self.desk.window.actions_
        name = self._one(name for name in actions.made if name not in LEFT_OUT)
        actions.trigger(name)
        return name

    def view(self) -> Any:
        return self._one(v for v in self.desk.window.views.values() if hasattr(v, "canvas"))

    def place(self, widget: Any) -> Any:
        """Somewhere on a widget, or somewhat beside it."""
        x = self.rng.uniform(-0.1, 1.1) * widget.width()
        y = self.rng.uniform(-0.1, 1.1) * widget.height()
        return self.desk.QtCore.QPointF(float(round(x)), float(round(y)))

    def near(self, view: Any) -> Any:
        """A handle of one of its shapes, so that drags take hold of something."""
        shapes = getattr(view, "shapes", None)
        items = [] if shapes is None else [shapes[name] for name in shapes]
        found = [place for item in items for place in item.handles.values()]
        if not found or self.rng.random() < 0.3:
            return self.place(view.canvas.viewport())
        return self.desk.point(view, self._one(found))

    def drag(self) -> str:
        view = self.view()
        widget = view.canvas.viewport()
        button = self._one(["LeftButton"] * 6 + ["MiddleButton", "RightButton"])
        self.desk.mouse(widget, "press", self.near(view), button)
        for _ in range(int(self.rng.integers(1, 12))):
            self.desk.mouse(widget, "move", self.place(widget), button)
            if self.rng.random() < 0.3:
                self.desk.spin(0.003)
            if self.rng.random() < 0.03:
                self.key()
            if self.rng.random() < 0.01:
                self.undo()
        if self.rng.random() < 0.97:  # the release may be lost
            self.desk.mouse(widget, "release", self.place(widget), button)
        return view.name

    def click(self) -> str:
        view = self.view()
        widget, at = view.canvas.viewport(), self.near(view)
        for what in self._one([("press", "release"), ("press", "release", "double", "release")]):
            self.desk.mouse(widget, what, at)
        self.desk.mouse(widget, "hover", self.place(widget))
        return view.name

    def key(self) -> str:
        core, gui = self.desk.QtCore, self.desk.QtGui
        name = self._one(KEYS.split())
        key = getattr(core.Qt.Key, f"Key_{name}")
        modifiers = core.Qt.KeyboardModifier
        held = self._one([modifiers.NoModifier] * 4 + [modifiers.ShiftModifier])
        target = self.desk.app.focusWidget() or self.view().canvas
        if self.rng.random() < 0.5:
            target = self.view().canvas
        for kind in (core.QEvent.Type.KeyPress, core.QEvent.Type.KeyRelease):
            text = name.lower() if len(name) == 1 else ""
            self.desk.app.sendEvent(target, gui.QKeyEvent(kind, key, held, text))
        return name

    def wheel(self) -> str:
        core, gui = self.desk.QtCore, self.desk.QtGui
        view = self.view()
        widget = view.canvas.viewport()
        at = self.place(widget)
        turn = core.QPoint(0, int(self._one([-360, -120, 120, 360])))
        event = gui.QWheelEvent(
            at,
            core.QPointF(widget.mapToGlobal(at.toPoint())),
            core.QPoint(),
            turn,
            core.Qt.MouseButton.NoButton,
            core.Qt.KeyboardModifier.NoModifier,
            core.Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        self.desk.app.sendEvent(widget, event)
        return view.name

    def resize(self) -> str:
        width, height = (int(v) for v in self.rng.integers((300, 200), (1600, 1000)))
        self.desk.window.resize(width, height)
        return f"{width} x {height}"

    def panel(self) -> str:
        from py4DSTEM.errors import ParameterError
        from py4DSTEM.gui.panels import PANELS

        name = self._one(PANELS)
        try:
            self.desk.window.show_panel(name)
        except ParameterError:  # a part that is not there
            return f"{name}: missing"
        return name

    def widget(self) -> str:
        """A button, a box or a number anywhere in the window, as the mouse or keys would."""
        widgets = self.desk.QtWidgets
        kinds = (widgets.QAbstractButton, widgets.QComboBox, widgets.QAbstractSpinBox,
                 widgets.QLineEdit)  # fmt: skip
        every = [w for kind in kinds for w in self.desk.window.findChildren(kind)]
        found = [w for w in every if w.isVisible() and w.isEnabled() and not _asks(w)]
        if not found:
            return ""
        chosen = self._one(found)
        if isinstance(chosen, widgets.QAbstractButton):
            if getattr(chosen, "menu", lambda: None)() is None:
                chosen.click()
        elif isinstance(chosen, widgets.QComboBox):
            if chosen.count():
                chosen.setCurrentIndex(int(self.rng.integers(chosen.count())))
                chosen.activated.emit(chosen.currentIndex())
        elif isinstance(chosen, widgets.QAbstractSpinBox):
            chosen.stepBy(int(self.rng.integers(-20, 20)))
        else:
            chosen.setText(self._one(["", "1", "-3", "nan", "A - B", "1e400", "x'\"(", "ä", "0.5"]))
            chosen.editingFinished.emit()
        return f"{type(chosen).__name__} {chosen.objectName()}"

    def step(self) -> str:
        """Any step of the library on the scan, as its defaults have it."""
        from pydantic import ValidationError

        from py4DSTEM.errors import Py4DSTEMError
        from py4DSTEM.process import load_analyses, load_operations

        if self.desk.scan is None or len(self.desk.session.jobs.active) > 4:
            return ""
        steps = {**load_operations(), **load_analyses()}
        kind = self._one(sorted(steps))
        try:
            self.desk.session.run_step(steps[kind]())
        except (ValidationError, Py4DSTEMError):  # it needs values that have no default
            return f"{kind}: refused"
        return kind

    def cancel(self) -> str:
        self.desk.window.actions_.trigger(self._one(["analyze.cancel", "analyze.cancel_all"]))
        return ""

    def open(self) -> str:
        if len(self.desk.session.project.scans) > 5:
            return self.close()
        path = self._one(self.files)
        self.desk.window.open(str(path))
        return path.name

    def close(self) -> str:
        scans = self.desk.session.project.scans
        if scans:
            self.desk.session.close_scan(self._one(scans).key)
        return ""

    def undo(self) -> str:
        for _ in range(int(self.rng.integers(1, 6))):
            self._one([self.desk.session.undo, self.desk.session.undo, self.desk.session.redo])()
        return ""

    def dock(self) -> str:
        dock = self._one(self.desk.window.docks.docks.values())
        dock.setVisible(not dock.isVisible())
        return dock.objectName()


def _asks(widget: Any) -> bool:
    """Buttons that open a dialog of the system."""
    text = widget.text() if hasattr(widget, "text") else ""
    return text.endswith(("…", "...")) or text in ("Quit", "Close py4DSTEM")


def no_dialogs(desk: Desk, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Dialogs that would wait for a person answer at once, as if they had been given up.

    `put` replaces what asks; a test that undoes it gives its own.
    """
    widgets = desk.QtWidgets
    for name in ("getOpenFileName", "getOpenFileNames", "getSaveFileName"):
        empty = ([], "") if name.endswith("Names") else ("", "")
        put(widgets.QFileDialog, name, staticmethod(lambda *_, _empty=empty, **__: _empty))
    put(widgets.QFileDialog, "getExistingDirectory", staticmethod(lambda *_, **__: ""))
    for name in ("getInt", "getDouble", "getText", "getItem"):
        empty = {"getInt": 5, "getDouble": 1.0}.get(name, "")
        answer = staticmethod(lambda *_, _empty=empty, **__: (_empty, bool(_empty)))
        put(widgets.QInputDialog, name, answer)
    for box in (widgets.QDialog, widgets.QMessageBox, widgets.QMenu):
        put(box, "exec", lambda *_: 0)
    put(desk.QtGui.QDesktopServices, "openUrl", staticmethod(lambda *_: True))
    put(desk.window, "ask", lambda title, question, *choices: choices[-1])
    put(desk.window.actions_.room("file"), "may_close", lambda: True)


def small_files(folder: Path) -> list[Path]:
    """Tiny scans of several shapes, and files that are none."""
    rng = np.random.default_rng(0)
    shapes = [(6, 5, 24, 20), (1, 1, 16, 16), (1, 7, 8, 9), (12, 10, 32, 36), (3, 3, 1, 1)]
    made = []
    for number, shape in enumerate(shapes):
        made.append(folder / f"good{number}.npy")
        np.save(
            made[-1], rng.poisson(4, shape).astype([np.uint8, np.uint16, np.float32][number % 3])
        )
    made.append(folder / "nan.npy")
    np.save(made[-1], np.full((4, 3, 12, 12), np.nan, np.float32))
    no_scans = {
        "empty.npy": b"",
        "short.npy": b"\x93NUMPY\x01\x00v\x00{'descr'",
        "text.h5": b"no",
        "noise.mib": bytes(range(256)) * 9,
    }
    for name, content in no_scans.items():
        made.append(folder / name)
        made[-1].write_bytes(content)
    return [*made, folder / "missing.dm4"]


def files_below(folders: list[str]) -> list[Path]:
    """What may be opened: small files of any kind."""
    found = [path for folder in folders for path in sorted(Path(folder).rglob("*"))]
    # One damaged file claims 13 TB in 10 000 x 10 000 positions: its images alone fill a machine.
    return [
        path
        for path in found
        if path.is_file() and path.stat().st_size < LARGEST and path.suffix != ".md"
        and "terabytes" not in path.name
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--acts", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", nargs="*", default=[])
    given = parser.parse_args()
    home = isolate()
    desk = Desk(workers=2)
    no_dialogs(desk)
    folder = Path(tempfile.mkdtemp(dir=home))
    os.chdir(folder)  # where exports go
    monkey = Monkey(desk, given.seed, [*small_files(folder) * 3, *files_below(given.data)])
    monkey.desk.open(folder / "good3.npy")
    start, memory, rest = time.monotonic(), [], []
    while sum(monkey.done.values()) < given.acts:
        monkey.run(min(500, given.acts - sum(monkey.done.values())))
        memory.append(resident_mib())
        total = sum(monkey.done.values())
        state = f"{total} acts, {len(desk.uncaught)} uncaught, {len(desk.qt_messages)} Qt messages"
        print(f"{state}, {memory[-1]:.0f} MiB, {len(desk.session.project.scans)} scans", flush=True)
        if total % 2500 == 0:
            rest.append(round(emptied_mib(desk)))
            print(f"{rest[-1]} MiB once all scans were closed", flush=True)
        if time.monotonic() - start > 3600 * given.hours:
            break
    return report(desk, monkey, rest)


def emptied_mib(desk: Desk) -> float:
    """Memory with nothing open, after what is free has been given back."""
    for scan in desk.session.project.scans:
        desk.session.close_scan(scan.key)
    desk.session.history.forget()
    desk.spin(2.0)
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    return resident_mib()


def report(desk: Desk, monkey: Monkey, rest: list[int]) -> int:
    """Print what nobody caught; 1 where there is something."""
    print(dict(monkey.done))
    seen: Counter[str] = Counter()
    for error in desk.uncaught:
        text = "".join(traceback.format_exception(error)[-6:])
        seen[text] += 1
    for text, count in seen.most_common():
        print(f"--- {count} times\n{text}")
    for text, count in Counter(desk.qt_messages).most_common(10):
        print(f"--- {count} times: {text}")
    shown = Counter(f"{t.title}\n" + "\n".join(t.details.splitlines()[-9:]) for t in desk.mistakes)
    for text, count in shown.most_common(20):
        print(f"--- {count} times shown as a mistake of the program\n{text}")
    print(f"MiB with all closed, every 2500 acts: {rest}")
    desk.window.end()
    sys.stdout.flush()
    os._exit(1 if desk.uncaught or desk.qt_messages or desk.mistakes else 0)


if __name__ == "__main__":
    sys.exit(main())
