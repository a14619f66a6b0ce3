"""The two images of a scan: what they show, and the shapes on them that make commands."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
from pyqtgraph.Qt import QtCore

from py4DSTEM.core.detector import Mask
from py4DSTEM.core.pixels import nearest_filled
from py4DSTEM.core.selection import MaskSelection, PointSelection
from py4DSTEM.core.slices import DiffractionSlice, RealSlice, Slice
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.gui.live import Live, Shown, layers_differ
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.commands import (
    ActivateDetector,
    AddDetector,
    ChangeDetector,
    ChangeLook,
    Select,
    ShowInPanel,
)
from py4DSTEM.gui.state.project import DetectorEntry, Project, Scan, free_letter
from py4DSTEM.gui.views.brush import Brush, BrushItem
from py4DSTEM.gui.views.image_panel import ImagePanel
from py4DSTEM.gui.views.overlays import Overlays
from py4DSTEM.gui.views.results import image_names, image_of
from py4DSTEM.gui.views.shape_item import ShapeItem
from py4DSTEM.gui.views.shapes import Shapes
from py4DSTEM.process.deflection import deflection

__all__ = ["DiffractionView", "RealView", "StageView"]

Pair = tuple[float, float]
SELECTION = "selection"
_STALE_MS = 150


class StageView(ImagePanel):
    """An image of the scan in front, with shapes and the overlays of the stage.

    It shows, in this order: a `Picture` that a panel has put there, the result that the scan names,
    what the live images give.
    """

    brushChanged = QtCore.Signal(object)
    """The `Brush` that the left button paints with from now on, or None."""

    def __init__(self, session: Session, name: str, parent: Any = None) -> None:
        super().__init__(name, parent)
        self.session = session
        self.shapes = Shapes(self.canvas)
        self.overlays = Overlays(self.canvas, self.shapes, session.stage, name)
        self._shown: Shown | None = None
        self._brush: BrushItem | None = None
        self._late = QtCore.QTimer(self)
        self._late.setSingleShot(True)
        self._late.setInterval(_STALE_MS)
        self._late.timeout.connect(lambda: self.set_stale(True))
        self.overlays.pictured.connect(lambda _: self._show())
        session.changed.connect(self._changed)
        session.opened.connect(self._opened)
        session.rawChanged.connect(self._raw_changed)
        self.hovered.connect(lambda place, _: session.stage.hovered.emit(name, place))
        self.clicked.connect(lambda x, y: session.stage.clicked.emit(name, x, y))
        self.lookChanged.connect(lambda look: session.do(ChangeLook(panel=name, look=look)))
        self.chosen.connect(self._choose)
        self.set_look(session.project.look(name))
        self._sync()

    # ---- what differs ----------------------------------------------------------------------------
    @abstractmethod
    def _result_name(self, scan: Scan) -> str:
        """Of the result that is shown; "": none."""

    @abstractmethod
    def _wrapped(self, shown: Shown) -> Slice:
        """What the live images gave, as an image with axes."""

    @abstractmethod
    def _sync_shapes(self, scan: Scan | None) -> None:
        """Draw the shapes of the scan as they are now."""

    @abstractmethod
    def _is_answered(self, scan: Scan, shown: Shown) -> bool:
        """Whether the live image belongs to what is drawn."""

    # ---- what happens ----------------------------------------------------------------------------
    @property
    def scan(self) -> Scan | None:
        """The scan in front."""
        return self.session.project.scan

    def _changed(self, before: Project, after: Project) -> None:
        self.set_look(after.look(self.name))
        self._sync()
        old, new = before.scan, after.scan
        if new is None:
            self._shown = None
            self.set_brush(None)
            self.clear()
        elif old is None or old.key != new.key:
            self._shown = None
            self.set_brush(None)
            self._show_first()
        elif self._result_name(old) != self._result_name(new) or layers_differ(old, new):
            self._show()

    def _opened(self, key: str) -> None:
        self._sync()
        if key == self.session.project.current and self._shown is None:
            self._show_first()

    def _raw_changed(self, raw: bool) -> None:
        self._sync()
        self._show()

    def _show_first(self) -> None:
        """What is known of a scan before the first live image."""
        self._show()

    def _choose(self, name: str) -> None:
        scan = self.scan
        if scan is not None:
            self.session.do(ShowInPanel(key=scan.key, panel=self.name, name=name))  # type: ignore[arg-type]

    def _sync(self) -> None:
        scan = self.scan
        ready = scan is not None and self.session.data(scan.key) is not None
        self._sync_shapes(scan if ready else None)
        if self._brush is not None and scan is not None:
            self._brush.set_shape(self._mask_of(scan))
        if scan is None:
            self.set_choices((), "")
            return
        names = ["", *image_names(scan, self.name)]
        self.set_choices(names, self._result_name(scan), [_LIVE[self.name], *names[1:]])
        late = self._shown is not None and not self._is_answered(scan, self._shown)
        if late and not self._late.isActive():
            self._late.start()

    # ---- what is shown ---------------------------------------------------------------------------
    def show_live(self, shown: Shown) -> None:
        """Take an answer of the live images."""
        scan = self.scan
        if scan is None or shown.scan.key != scan.key:
            return
        self._shown = shown
        if self._is_answered(scan, shown):
            self._late.stop()
            self.set_stale(False)
        self._show()

    def _show(self) -> None:
        picture, scan = self.overlays.picture, self.scan
        if picture is not None:
            self.show_slice(picture.image, title=picture.title)
        elif scan is not None and self._result_name(scan):
            self._show_result(scan, self._result_name(scan))
        elif self._shown is not None and scan is not None and self._is_open(scan):
            shown = self._shown
            self.show_slice(
                self._wrapped(shown),
                title=self._title(shown.scan),
                exact=shown.exact,
                number=shown.number,
            )

    def _is_open(self, scan: Scan) -> bool:
        """Whether its data are there: undo brings a scan back before they are."""
        return self.session.data(scan.key) is not None

    def _show_result(self, scan: Scan, name: str) -> None:
        found = image_of(scan, name)
        if found is not None:
            self.show_slice(found, title=name)

    def _title(self, scan: Scan) -> str:
        return ""

    def show_slice(
        self, value: Slice, *, title: str = "", exact: bool = True, number: int = 0
    ) -> None:
        """Show an image with its own axes; complex ones in colours of their direction."""
        data = np.asarray(value.data)
        if data.ndim == 3 and len(data) == 2 and isinstance(value, RealSlice):
            value = deflection(value)
            data = value.data
        elif data.ndim == 3:
            data = data[0]
        self.set_image(
            data,
            axes=value.axes,
            zero_px=_zero(value),
            title=title or value.name,
            exact=exact,
            number=number,
        )
        self.session.stage.show(self.name, value)  # type: ignore[arg-type]

    @abstractmethod
    def follow(self, live: Live) -> None:
        """Show what these live images give, from now on."""

    # ---- painting --------------------------------------------------------------------------------
    @property
    def brush(self) -> BrushItem | None:
        """The brush, while the mouse paints."""
        return self._brush

    def set_brush(self, brush: Brush | None) -> None:
        """Let the left button paint a mask, or None: do again what it does without."""
        scan = self.scan
        data = None if scan is None else self.session.data(scan.key)
        if self._brush is not None:
            self.canvas.hovered.disconnect(self._brush.hover)
            self.canvas.box.removeItem(self._brush)
            self.canvas.key_users.remove(self._brush)
            self._brush = None
            if brush is None:
                self.brushChanged.emit(None)
        if brush is None or scan is None or data is None:
            return
        self._brush = BrushItem(self._frame_of(data.cube), brush)
        self._brush.set_shape(self._mask_of(scan))
        self._brush.painted.connect(self._painted)
        self._brush.changed.connect(self._brush_changed)
        self.canvas.hovered.connect(self._brush.hover)
        self.canvas.box.addItem(self._brush, ignoreBounds=True)
        self.canvas.key_users.insert(0, self._brush)
        self.brushChanged.emit(brush)

    def _brush_changed(self, brush: Brush | None) -> None:
        if brush is None:
            self.set_brush(None)
        else:
            self.brushChanged.emit(brush)

    @abstractmethod
    def _frame_of(self, cube: Any) -> tuple[int, int]:
        """Rows and columns of the images shown here."""

    @abstractmethod
    def _mask_of(self, scan: Scan) -> Any:
        """The mask that a stroke changes, if there is one."""

    @abstractmethod
    def _painted(self, mask: Any, settled: bool) -> None:
        """Take what was painted."""


class DiffractionView(StageView):
    """The pattern of what is selected, with the detectors on it."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(session, "diffraction", parent)

    def follow(self, live: Live) -> None:
        live.pattern.connect(self.show_live)

    def _result_name(self, scan: Scan) -> str:
        return scan.diffraction

    def _is_answered(self, scan: Scan, shown: Shown) -> bool:
        old = shown.scan
        return (old.selection, old.how) == (scan.selection, scan.how)

    def _wrapped(self, shown: Shown) -> Slice:
        calibration = self.session.calibration(shown.scan.key)
        return DiffractionSlice(shown.data, calibration, name="pattern")

    def _title(self, scan: Scan) -> str:
        selection = scan.selection
        if isinstance(selection, PointSelection):
            return f"pattern at ({selection.rx}, {selection.ry})"
        return f"{_HOW[scan.how]} of {selection.kind}"

    def _show_first(self) -> None:
        scan = self.scan
        data = None if scan is None else self.session.data(scan.key)
        if scan is None or data is None or self._result_name(scan) or self.overlays.picture:
            self._show()
            return
        mean = data.first.mean
        calibrated = replace(mean, calibration=self.session.calibration(scan.key))
        self.show_slice(calibrated, title=mean.name)

    # ---- detectors -------------------------------------------------------------------------------
    def _sync_shapes(self, scan: Scan | None) -> None:
        entries = {} if scan is None else {entry.name: entry for entry in scan.detectors}
        for name in self.shapes:
            if not name.startswith("overlay:") and name not in entries:
                self.shapes.remove(name)
        if scan is None:
            return
        data = self.session.data(scan.key)
        calibration, size = self.session.calibration(scan.key), data.cube.Q_shape  # type: ignore[union-attr]
        for order, (name, entry) in enumerate(entries.items()):
            if name not in self.shapes:
                item = ShapeItem(entry.shape, size, calibration, name=name, order=order)
                self._connect_shape(name, self.shapes.add(name, item))
            item = self.shapes[name]
            item.set_value(entry.shape, size, calibration)
            item.set_dimmed(not entry.shown)
        regions = [self.shapes[name] for name in self.shapes if name.startswith("overlay:")]
        if not any(region.active for region in regions):
            self.shapes.activate(scan.active)

    def _connect_shape(self, name: str, item: ShapeItem) -> None:
        item.moved.connect(lambda shape, settled: self._moved(name, shape, settled))
        item.activated.connect(lambda: self._activate(name))

    def _moved(self, name: str, shape: Any, settled: bool) -> None:
        scan = self.scan
        if scan is None:
            return
        act = ChangeDetector(key=scan.key, name=name, shape=shape, settled=settled)
        if not self.session.do(act):
            self._sync()

    def _frame_of(self, cube: Any) -> tuple[int, int]:
        return cube.Q_shape  # type: ignore[no-any-return]

    def _mask_of(self, scan: Scan) -> Any:
        active = next((entry for entry in scan.detectors if entry.name == scan.active), None)
        return active.shape if active is not None and isinstance(active.shape, Mask) else None

    def _painted(self, mask: Any, settled: bool) -> None:
        scan = self.scan
        if scan is None or not mask.any():
            return
        if self._mask_of(scan) is not None:
            self._moved(scan.active, Mask(mask), settled)
        elif settled:
            name = free_letter([entry.name for entry in scan.detectors])
            entry = DetectorEntry(name=name, shape=Mask(mask))
            self.session.do(AddDetector(key=scan.key, entry=entry))

    def _activate(self, name: str) -> None:
        scan = self.scan
        self.shapes.activate(name)
        if scan is not None and scan.active != name:
            self.session.do(ActivateDetector(key=scan.key, name=name))


class RealView(StageView):
    """The image of the scan, with the selected positions on it."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(session, "real", parent)
        self.clicked.connect(self._click)
        self.doubleClicked.connect(lambda x, y: self._select_point(x, y, settled=True))
        self.dragged.connect(self._drag)

    def follow(self, live: Live) -> None:
        live.image.connect(self.show_live)

    def _result_name(self, scan: Scan) -> str:
        return scan.real

    def _is_answered(self, scan: Scan, shown: Shown) -> bool:
        old = shown.scan
        known = (old.detectors, old.expression, old.response)
        return known == (scan.detectors, scan.expression, scan.response)

    def _wrapped(self, shown: Shown) -> Slice:
        calibration = self.session.calibration(shown.scan.key)
        data, shape = shown.data, self.session.data(shown.scan.key).cube.R_shape  # type: ignore[union-attr]
        if shown.rows is not None and shown.columns is not None and data.shape[-2:] != shape:
            data = nearest_filled(data, shown.rows, shown.columns, shape)
        return RealSlice(data, calibration, name="image")

    def _title(self, scan: Scan) -> str:
        names = [entry.name for entry in scan.detectors if entry.shown]
        if scan.response == "com":
            return f"centre of mass in {' + '.join(names)}"
        return scan.expression or " + ".join(names) or "no detector"

    # ---- selection -------------------------------------------------------------------------------
    def _sync_shapes(self, scan: Scan | None) -> None:
        if scan is None:
            self.shapes.remove(SELECTION)
            return
        size = self.session.data(scan.key).cube.R_shape  # type: ignore[union-attr]
        if SELECTION not in self.shapes:
            item = self.shapes.add(SELECTION, ShapeItem(scan.selection, size, color="#F0E442"))
            item.moved.connect(self._moved)
            item.activated.connect(lambda: self.shapes.activate(SELECTION))
            self.shapes.activate(SELECTION)
        self.shapes[SELECTION].set_value(scan.selection, size)

    def _moved(self, selection: Any, settled: bool) -> None:
        scan = self.scan
        if scan is None:
            return
        data = self.session.data(scan.key)
        if isinstance(selection, PointSelection) and data is not None:  # keys may step beyond
            rx, ry = (
                min(max(at, 0), n - 1)
                for at, n in zip((selection.rx, selection.ry), data.cube.R_shape, strict=True)
            )
            selection = PointSelection(rx, ry)
        act = Select(key=scan.key, selection=selection, how=scan.how, settled=settled)
        if not self.session.do(act):
            self._sync()

    def _frame_of(self, cube: Any) -> tuple[int, int]:
        return cube.R_shape  # type: ignore[no-any-return]

    def _mask_of(self, scan: Scan) -> Any:
        return scan.selection if isinstance(scan.selection, MaskSelection) else None

    def _painted(self, mask: Any, settled: bool) -> None:
        if mask.any():
            self._moved(MaskSelection(mask), settled)

    def _is_point(self) -> bool:
        return self.scan is not None and isinstance(self.scan.selection, PointSelection)

    def _click(self, x: float, y: float) -> None:
        if self._is_point():
            self._select_point(x, y, settled=True)

    def _drag(self, x: float, y: float, finished: bool) -> None:
        if self._is_point():
            self._select_point(x, y, settled=finished)

    def _select_point(self, x: float, y: float, *, settled: bool) -> None:
        scan = self.scan
        data = None if scan is None else self.session.data(scan.key)
        if scan is None or data is None:
            return
        rx, ry = (
            min(max(round(v), 0), n - 1) for v, n in zip((x, y), data.cube.R_shape, strict=True)
        )
        self.shapes.activate(SELECTION)
        self._moved(PointSelection(rx, ry), settled)


_LIVE = {"diffraction": "selection", "real": "detectors"}
_HOW = {"mean": "mean", "max": "maximum", "sum": "sum"}


def _zero(value: Slice) -> Pair | None:
    """The pixel at which the axes read zero: the calibrated origin of a pattern."""
    if not isinstance(value, DiffractionSlice) or value.calibration.origin_px is None:
        return None
    try:
        return value.calibration.mean_origin_px
    except Py4DSTEMError:  # no origin could be measured anywhere
        return None
