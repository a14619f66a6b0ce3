"""The Detector menu: shapes on the pattern, and positions of the scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyqtgraph.Qt import QtWidgets

from py4DSTEM.api import read
from py4DSTEM.core.detector import Detector, Mask, dpc_segments, presets, segments
from py4DSTEM.core.outline import grown, handles, shifted
from py4DSTEM.core.selection import MaskSelection, PointSelection
from py4DSTEM.core.typical import selected_within, typical_detector, typical_selection
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.state.commands import (
    ActivateDetector,
    AddDetector,
    ChangeDetector,
    RemoveDetector,
    Select,
    SetDetectors,
    SetExpression,
    WeighDetector,
)
from py4DSTEM.gui.state.project import DetectorEntry, Scan, free_letter
from py4DSTEM.gui.views.brush import Brush

__all__ = ["Handlers"]

SIDES = {"up": (-1.0, 0.0), "down": (1.0, 0.0), "left": (0.0, -1.0), "right": (0.0, 1.0)}
STEPS = {"": 1.0, "_fast": 10.0, "_fine": 0.1}


class Handlers:
    """What the actions of the menu do."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._session = window.session
        self._painted = [window.views[name] for name in ("diffraction", "real")]
        for view in self._painted:
            view.brushChanged.connect(self._show_brush)

    def __getattr__(self, name: str) -> Any:
        """The actions that differ in a shape or a direction only."""
        what, _, rest = name.partition("_")
        if what == "add":
            return lambda: self.add(rest)
        if what in ("select", "how"):
            return lambda: (self.select if what == "select" else self.combine)(rest)
        if what == "preset":
            return lambda: self.preset(rest)
        if what in ("detector", "probe") and rest in SIDES:
            return lambda: (self.move_detector if what == "detector" else self.move_probe)(
                SIDES[rest]
            )
        side, _, step = name.partition("_")
        if side in SIDES and (f"_{step}" if step else "") in STEPS:
            by = STEPS[f"_{step}" if step else ""]
            return lambda: self.move_focused((SIDES[side][0] * by, SIDES[side][1] * by))
        raise AttributeError(name)

    # ---- detectors -------------------------------------------------------------------------------
    @property
    def _scan(self) -> Scan:
        scan: Scan = self._window.scan
        return scan

    @property
    def _calibration(self) -> Any:
        return self._session.calibration(self._scan.key)

    @property
    def _active(self) -> DetectorEntry:
        scan = self._scan
        if not scan.detectors:
            raise ParameterError("there is no detector: add one from the Detector menu")
        return scan.detector(scan.active or scan.detectors[0].name)

    def add(self, kind: str) -> None:
        """Draw a shape that can be dragged from there."""
        self._draw(typical_detector(kind, self._window.cube.Q_shape, self._calibration))

    def _draw(self, shape: Detector) -> None:
        scan = self._scan
        name = free_letter([entry.name for entry in scan.detectors])
        self._session.do(AddDetector(key=scan.key, entry=DetectorEntry(name=name, shape=shape)))
        self._window.show_detectors()

    def add_segments(self) -> None:
        """Ask for their number; they replace all detectors."""
        count, wanted = QtWidgets.QInputDialog.getInt(
            self._window, "Segments", "Number of segments of the ring", 8, 4, 16
        )
        if wanted:
            self.set_segments(count)

    def set_segments(self, count: int) -> None:
        """Equal segments of a ring from half to one and a half radii of the direct disk."""
        ring: Any = typical_detector("annulus", self._window.cube.Q_shape, self._calibration)
        self._set(segments(count, ring.inner, ring.outer, center=ring.center))

    def add_mask(self) -> None:
        """Ask for a file of an image; it is read beside the window."""
        path, _ = QtWidgets.QFileDialog.getOpenFileName(self._window, "Mask")
        if path:
            self.read_mask(path)

    def read_mask(self, path: str) -> None:
        """Weights of every pixel from a file."""
        cube = self._window.cube

        def checked(data: Any) -> Mask:
            mask = Mask(data)
            mask.weights(cube.Q_shape, cube.calibration)
            return mask

        self._read(path, checked, self._draw)

    def select_file(self) -> None:
        """Ask for a file of an image; it is read beside the window."""
        path, _ = QtWidgets.QFileDialog.getOpenFileName(self._window, "Scan positions")
        if path:
            self.read_selection(path)

    def read_selection(self, path: str) -> None:
        """Positions that are not zero in a file."""
        shape = self._window.cube.R_shape
        self._read(path, lambda data: _checked_selection(data, shape), self._choose)

    def select_limits(self) -> None:
        """Positions whose value lies between the limits of the colours."""
        view = self._window.views["real"]
        if view.image is None or view.image.shape != self._window.cube.R_shape:
            raise ParameterError("no image of the whole scan is shown")
        self._choose(selected_within(view.image, *view.limits))

    def _read(self, path: str, made: Any, done: Any) -> None:
        self._session.jobs.submit(
            "read a mask",
            lambda _: made(getattr(read(path), "data", None)),
            done=done,
            failed=lambda error: self._session.troubled.emit(f"read a mask from {path}", error),
            at_once=True,
        )

    # ---- painting --------------------------------------------------------------------------------
    def paint(self) -> None:
        """Let the left button paint on the focused image, or end that."""
        self._brush(erase=False)

    def erase(self) -> None:
        """Let it take away."""
        self._brush(erase=True)

    def _brush(self, *, erase: bool) -> None:
        focused = self._window.view("diffraction", "real")
        known = focused.brush
        wish = Brush(3.0 if known is None else known.brush.radius_px, erase)
        ends = known is not None and known.brush.erase == erase
        for view in self._painted:
            if view is not focused:
                view.set_brush(None)
        focused.set_brush(None if ends else wish)
        self._show_brush(None if focused.brush is None else focused.brush.brush)

    def _show_brush(self, brush: Brush | None) -> None:
        made = self._window.actions_.made
        made["detector.paint"].setChecked(brush is not None and not brush.erase)
        made["detector.erase"].setChecked(brush is not None and brush.erase)
        if brush is not None:
            what = "erasing" if brush.erase else "painting: Ctrl erases"
            self._session.said.emit(
                f"{what}, [ and ] change the radius ({brush.radius_px:g} px), Esc ends"
            )

    def _set(self, shapes: Mapping[str, Detector], expression: str = "", **more: Any) -> None:
        entries = tuple(DetectorEntry(name=name, shape=shape) for name, shape in shapes.items())
        command = SetDetectors(key=self._scan.key, detectors=entries, expression=expression, **more)
        self._session.do(command)

    def preset(self, name: str) -> None:
        """One of the usual detectors, in place of those that are there."""
        if name == "dpc":
            self._set(dpc_segments(self._calibration), "(down - up) / (down + up)")
            return
        if name == "com":
            shape = typical_detector("disk", self._window.cube.Q_shape, self._calibration)
            self._set({"A": grown(shape, 1.0, "outer", self._calibration)}, response="com")
            return
        known = presets(self._calibration, self._window.cube.Q_shape)
        if name not in known:
            raise ParameterError(f"{name.upper()} lies outside of this detector")
        self._set({name.upper(): known[name]})

    def difference(self) -> None:
        """The first detector less the second."""
        self._combine("{} - {}")

    def contrast(self) -> None:
        """Their difference over their sum."""
        self._combine("({0} - {1}) / ({0} + {1})")

    def _combine(self, pattern: str) -> None:
        names = [entry.name for entry in self._scan.detectors]
        if len(names) < 2:
            raise ParameterError("this takes two detectors: add another one first")
        self._session.do(SetExpression(key=self._scan.key, expression=pattern.format(*names[:2])))

    def signed_sum(self) -> None:
        self._session.do(SetExpression(key=self._scan.key, expression=""))

    def next(self) -> None:
        """The detector after the active one."""
        scan = self._scan
        names = [entry.name for entry in scan.detectors]
        at = names.index(self._active.name)
        self._session.do(ActivateDetector(key=scan.key, name=names[(at + 1) % len(names)]))

    def toggle(self) -> None:
        entry = self._active
        self._session.do(
            WeighDetector(
                key=self._scan.key, name=entry.name, weight=entry.weight, shown=not entry.shown
            )
        )

    def remove(self) -> None:
        self._session.do(RemoveDetector(key=self._scan.key, name=self._active.name))

    # ---- sizes and places ------------------------------------------------------------------------
    def _reshape(self, shape: Detector) -> None:
        entry = self._active
        if shape != entry.shape:
            self._session.do(ChangeDetector(key=self._scan.key, name=entry.name, shape=shape))

    def _grow(self, by: float, which: str = "outer") -> None:
        if self._window.focused == "real":
            self._choose(grown(self._scan.selection, by, which))
        else:
            self._reshape(grown(self._active.shape, by, which, self._calibration))

    def grow(self) -> None:
        self._grow(1.0)

    def shrink(self) -> None:
        self._grow(-1.0)

    def grow_inner(self) -> None:
        self._grow(1.0, "inner")

    def shrink_inner(self) -> None:
        self._grow(-1.0, "inner")

    def move_focused(self, by: tuple[float, float]) -> None:
        """Move what belongs to the image that has the focus."""
        (self.move_probe if self._window.focused == "real" else self.move_detector)(by)

    def move_detector(self, by: tuple[float, float]) -> None:
        """Move the active detector by (dx, dy) pixels."""
        self._reshape(shifted(self._active.shape, by, self._calibration))

    def move_probe(self, by: tuple[float, float]) -> None:
        """Move the selected positions by (dx, dy) positions."""
        self._choose(shifted(self._scan.selection, by))

    # ---- positions of the scan -------------------------------------------------------------------
    def _choose(self, selection: Any, how: str | None = None) -> None:
        scan = self._scan
        if isinstance(selection, PointSelection):
            rx, ry = (
                min(max(at, 0), size - 1)
                for at, size in zip(
                    (selection.rx, selection.ry), self._window.cube.R_shape, strict=True
                )
            )
            selection = PointSelection(rx, ry)
        self._session.do(Select(key=scan.key, selection=selection, how=how or scan.how))

    def _middle(self) -> tuple[float, float] | None:
        found = handles(self._scan.selection).get("center")
        return found

    def select(self, kind: str) -> None:
        """Another kind of selection, at the same place."""
        self._choose(typical_selection(kind, self._window.cube.R_shape, self._middle()))

    def combine(self, how: str) -> None:
        """How the patterns of the selection become one."""
        self._choose(self._scan.selection, how)

    def mean_or_point(self) -> None:
        """The whole scan, or one position."""
        point = isinstance(self._scan.selection, PointSelection)
        everything = point or not isinstance(self._scan.selection, MaskSelection)
        shape = self._window.cube.R_shape
        if everything:
            self._choose(typical_selection("mask", shape), "mean")
        else:
            self._choose(typical_selection("point", shape))


def _checked_selection(data: Any, R_shape: tuple[int, int]) -> MaskSelection:
    selection = MaskSelection(data)
    selection.mask(R_shape)
    return selection
