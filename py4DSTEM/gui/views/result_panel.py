"""What is made of the images as they change: spectra, cepstra, deflections of the beam."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyqtgraph.Qt import QtCore

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.pixels import nearest_filled
from py4DSTEM.core.slices import ArrayResult, DiffractionSlice, RealSlice, Slice
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.session import OpenScan, Session
from py4DSTEM.gui.state.commands import ChangeLook
from py4DSTEM.gui.state.project import Look, Project, Scan
from py4DSTEM.gui.views.image_panel import ImagePanel
from py4DSTEM.gui.views.overlays import Overlays
from py4DSTEM.gui.views.shapes import Shapes
from py4DSTEM.process.cepstrum import cepstrum
from py4DSTEM.process.deflection import deflection, part
from py4DSTEM.process.idpc import integrate_center_of_mass
from py4DSTEM.process.live.view import DetectorView
from py4DSTEM.process.spectrum import power_spectrum
from py4DSTEM.stream.options import RunOptions

__all__ = ["KINDS", "ResultPanel"]

NAME = "result"
_REST_MS = 50


@dataclass(frozen=True, eq=False)
class _Wish:
    """What the lane is asked for."""

    kind: str
    image: Slice | None = None
    scan: Scan | None = None
    calibration: Calibration | None = None
    data: OpenScan | None = None


@dataclass(frozen=True, eq=False)
class _Made:
    """What came of it."""

    kind: str
    value: Slice | ArrayResult
    exact: bool = True


@dataclass(frozen=True)
class _Kind:
    """One thing that the panel can show: from which image, by which function."""

    text: str
    source: str
    make: Callable[[_Wish], _Made]
    scale: str = "linear"


class ResultPanel(ImagePanel):
    """Shows what is made of the image of the scan, of the pattern, or of the detectors.

    All of it is made beside the GUI thread; while an image is dragged along, the latest wish is
    answered first.
    """

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(NAME, parent)
        self.session = session
        self.kind = "fft"
        self.shapes = Shapes(self.canvas)
        self.overlays = Overlays(self.canvas, self.shapes, session.stage, NAME)
        self._rest = QtCore.QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._rested)
        self._missed = False
        self._making = Lane(_answer, "result", self)
        self._making.answered.connect(self._answered)
        self.destroyed.connect(self._making.stop)
        self.set_choices(list(KINDS), self.kind, [kind.text for kind in KINDS.values()])
        self.chosen.connect(self.set_kind)
        self.overlays.pictured.connect(lambda _: self.refresh())
        session.stage.showed.connect(self._showed)
        session.changed.connect(self._changed)
        self.hovered.connect(lambda place, _: session.stage.hovered.emit(NAME, place))
        self.clicked.connect(lambda x, y: session.stage.clicked.emit(NAME, x, y))
        self.lookChanged.connect(lambda look: session.do(ChangeLook(panel=NAME, look=look)))
        self.set_look(self._look())

    def set_kind(self, kind: str) -> None:
        """Show something else."""
        self.kind = kind
        self.set_choices(list(KINDS), kind, [known.text for known in KINDS.values()])
        # Limits that were locked for one kind of values mean nothing for another.
        self.set_look(self._look().replace(limits=None))
        self.refresh()

    def _look(self) -> Look:
        chosen = self.session.project.looks.get(NAME)
        return chosen or Look(scale=KINDS[self.kind].scale)  # type: ignore[arg-type]

    # ---- what is asked ---------------------------------------------------------------------------
    def _changed(self, before: Project, after: Project) -> None:
        if before.looks.get(NAME) != after.looks.get(NAME):
            self.set_look(self._look())
        if after.scan is None:
            self.clear()

    def _showed(self, panel: str, _: Any) -> None:
        if panel != KINDS[self.kind].source or not self.isVisible():
            return
        # What is dragged comes first: this follows it at a lower rate.
        self._missed = self._rest.isActive()
        if not self._missed:
            self._rest.start()
            self.refresh()

    def _rested(self) -> None:
        if self._missed:
            self._missed = False
            self._rest.start()
            self.refresh()

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self.refresh()

    def refresh(self) -> None:
        """Ask for what is to be shown now."""
        picture = self.overlays.picture
        if picture is not None:
            self._show(_Made("", picture.image), picture.title)
            return
        source = KINDS[self.kind].source
        scan = self.session.project.scan
        data = None if scan is None else self.session.data(scan.key)
        image = self.session.stage.showing.get(source)
        if scan is None or data is None or image is None:
            return
        calibration = self.session.calibration(scan.key)
        self._making.ask(_Wish(self.kind, image, scan, calibration, data))

    # ---- what is shown ---------------------------------------------------------------------------
    def _answered(self, answer: Answer) -> None:
        if answer.error is not None:
            if not isinstance(answer.error, Py4DSTEMError):
                self.session.troubled.emit("make the result", answer.error)
            self.clear()
            self.row.set_title(str(answer.error))
        elif self.overlays.picture is None and getattr(answer.value, "kind", "") == self.kind:
            self._show(answer.value, "", answer.number)

    def _show(self, made: _Made, title: str, number: int = 0) -> None:
        value = made.value
        data = np.asarray(value.data)
        self.set_image(
            data[0] if data.ndim == 3 else data,
            axes=(value.axes[-2], value.axes[-1]),
            title=title,
            exact=made.exact,
            number=number,
        )
        self.session.stage.show(NAME, value)


# ---- in the lane ---------------------------------------------------------------------------------
def _answer(wish: _Wish) -> _Made:
    return KINDS[wish.kind].make(wish)


def _spectrum(wish: _Wish) -> _Made:
    image = wish.image
    if isinstance(image, RealSlice) and np.iscomplexobj(image.data):
        image = part(image, "length")
    return _Made(wish.kind, power_spectrum(image))  # type: ignore[arg-type]


def _cepstrum(wish: _Wish) -> _Made:
    if not isinstance(wish.image, DiffractionSlice):
        raise Py4DSTEMError("the cepstrum is made of a pattern")
    return _Made(wish.kind, cepstrum(wish.image, options=RunOptions(workers=1)))


def _center_of_mass(wish: _Wish) -> tuple[RealSlice, bool]:
    """Of the patterns under the detectors that are drawn, from the caches."""
    scan, data, calibration = wish.scan, wish.data, wish.calibration
    if scan is None or data is None or calibration is None:
        raise Py4DSTEMError("there is no scan")
    counting = {entry.name: entry for entry in scan.detectors if entry.shown}
    if counting:
        view = DetectorView(
            {name: entry.shape for name, entry in counting.items()},
            {name: entry.weight for name, entry in counting.items()},
            data.cube.Q_shape,
            calibration,
            response="com",
        )
        found = view.live(data.live)
    else:
        found = data.live.center_of_mass()
    whole = nearest_filled(found.images, found.rows, found.columns, data.cube.R_shape)
    return RealSlice(whole, calibration, name="center of mass", labels=("x", "y")), found.exact


def _deflected(wish: _Wish) -> _Made:
    com, exact = _center_of_mass(wish)
    value = deflection(com)
    names = {"com_x": "x", "com_y": "y", "com_length": "length"}
    return _Made(wish.kind, part(value, names[wish.kind]) if wish.kind in names else value, exact)


def _integrated(wish: _Wish) -> _Made:
    com, exact = _center_of_mass(wish)
    return _Made(wish.kind, integrate_center_of_mass(com), exact)


KINDS: dict[str, _Kind] = {
    "fft": _Kind("FFT of the image", "real", _spectrum, "log"),
    "ewpc": _Kind("EWPC of the pattern", "diffraction", _cepstrum, "sqrt"),
    "dpc": _Kind("DPC: direction and length", "real", _deflected),
    "com_x": _Kind("DPC: x (down)", "real", _deflected),
    "com_y": _Kind("DPC: y (right)", "real", _deflected),
    "com_length": _Kind("DPC: length", "real", _deflected),
    "icom": _Kind("iCoM: integrated", "real", _integrated),
}
"""What the panel can show, by name."""
