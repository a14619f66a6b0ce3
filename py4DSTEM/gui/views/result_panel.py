"""What is made of the images as they change: spectra, cepstra, deflections of the beam."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.detector import Mask
from py4DSTEM.core.pixels import nearest_filled
from py4DSTEM.core.slices import ArrayResult, DiffractionSlice, RealSlice, Slice
from py4DSTEM.errors import Cancelled, Py4DSTEMError
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.session import OpenScan, Session
from py4DSTEM.gui.state.commands import ChangeLook
from py4DSTEM.gui.state.project import Look, Project, Scan
from py4DSTEM.gui.views.calm import Calm
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
_MOST_PIXELS = 1 << 24


@dataclass(frozen=True, eq=False)
class _Wish:
    """What the lane is asked for."""

    kind: str
    image: Slice | None = None
    scan: Scan | None = None
    calibration: Calibration | None = None
    data: OpenScan | None = None
    settled: bool = True
    com: RealSlice | None = None
    """The exact centre of mass, once it is known."""


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
    answered first.  What the caches give only coarsely is made exactly once the mouse is let go.
    """

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(NAME, parent)
        self.session = session
        self.kind = "fft"
        self.shapes = Shapes(self.canvas)
        self.overlays = Overlays(self.canvas, self.shapes, session.stage, NAME)
        # What is dragged comes first: this follows it at a lower rate.
        self._follow = Calm(self.refresh, _REST_MS, self)
        maker = _Maker()
        self._making = Lane(maker, "result", self)
        maker.options = RunOptions(cancel=self._making.newer)
        self._making.answered.connect(self._answered)
        self.destroyed.connect(self._making.stop)
        self.set_choices(list(KINDS), self.kind, [kind.text for kind in KINDS.values()])
        self.chosen.connect(self.set_kind)
        self.overlays.pictured.connect(lambda _: self.refresh())
        session.stage.showed.connect(self._showed)
        session.changed.connect(self._changed)
        session.settled.connect(lambda: self.exact or self.refresh())
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
        if panel == KINDS[self.kind].source and self.isVisible():
            self._follow()

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
        settled = getattr(self.session.history.last, "settled", True)
        self._making.ask(_Wish(self.kind, image, scan, calibration, data, settled))

    # ---- what is shown ---------------------------------------------------------------------------
    def _answered(self, answer: Answer) -> None:
        if isinstance(answer.error, Cancelled):  # another wish has come, and is answered next
            return
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
class _Maker:
    """Makes what is wished for, exactly where the mouse rests; for one thread."""

    def __init__(self) -> None:
        self.options = RunOptions()
        self._known: tuple[_Wish, RealSlice] | None = None

    def __call__(self, wish: _Wish) -> Iterator[_Made]:
        make = KINDS[wish.kind].make
        found = make(replace(wish, com=self._com_of(wish)))
        yield found
        if not found.exact and wish.settled:
            com = _exact_center_of_mass(wish, self.options)
            self._known = (wish, com)
            yield make(replace(wish, com=com))

    def _com_of(self, wish: _Wish) -> RealSlice | None:
        """What was measured for the same detectors: one pass over the scan is enough."""
        known = None if self._known is None else self._known[0]
        same = (
            known is not None
            and known.scan is not None
            and wish.scan is not None
            and known.data is wish.data
            and known.calibration is wish.calibration
            and known.scan.detectors == wish.scan.detectors
        )
        if not same:
            self._known = None
        return None if self._known is None else self._known[1]


def _spectrum(wish: _Wish) -> _Made:
    image = wish.image
    if isinstance(image, RealSlice) and np.iscomplexobj(image.data):
        image = part(image, "length")
    if image is not None and image.data.size > _MOST_PIXELS:
        raise Py4DSTEMError("too large for a spectrum along a drag: crop or bin the scan")
    return _Made(wish.kind, power_spectrum(image))  # type: ignore[arg-type]


def _cepstrum(wish: _Wish) -> _Made:
    if not isinstance(wish.image, DiffractionSlice):
        raise Py4DSTEMError("the cepstrum is made of a pattern")
    return _Made(wish.kind, cepstrum(wish.image, options=RunOptions(workers=1)))


def _center_of_mass(wish: _Wish) -> tuple[RealSlice, bool]:
    """Of the patterns under the detectors that are drawn, from the caches."""
    data, calibration = wish.data, wish.calibration
    if wish.com is not None:
        return wish.com, True
    if data is None or calibration is None:
        raise Py4DSTEMError("there is no scan")
    found = _detectors(wish).live(data.live)
    whole = nearest_filled(found.images, found.rows, found.columns, data.cube.R_shape)
    return _as_image(whole, calibration), found.exact


def _exact_center_of_mass(wish: _Wish, options: RunOptions) -> RealSlice:
    """The same by the engine, from all positions."""
    data, calibration = wish.data, wish.calibration
    if data is None or calibration is None:
        raise Py4DSTEMError("there is no scan")
    return _as_image(_detectors(wish).exact(data.cube, options), calibration)


def _as_image(com: Any, calibration: Calibration) -> RealSlice:
    return RealSlice(com, calibration, name="center of mass", labels=("x", "y"))


def _detectors(wish: _Wish) -> DetectorView:
    """Those that count; the whole pattern where none does."""
    scan, data = wish.scan, wish.data
    if scan is None or data is None or wish.calibration is None:
        raise Py4DSTEMError("there is no scan")
    counting = {entry.name: entry for entry in scan.detectors if entry.shown}
    shapes: dict[str, Any] = {name: entry.shape for name, entry in counting.items()}
    weights = {name: entry.weight for name, entry in counting.items()}
    if not counting:
        shapes, weights = {"all": Mask(np.ones(data.cube.Q_shape))}, {"all": 1.0}
    return DetectorView(shapes, weights, data.cube.Q_shape, wish.calibration, response="com")


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
