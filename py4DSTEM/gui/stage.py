"""What panels may put on the two images, and hear from them, without knowing how they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore

__all__ = ["Curves", "Marks", "Overlay", "Picture", "Region", "Ruler", "Stage"]

Where = Literal["diffraction", "real", "result"]


@dataclass(frozen=True, eq=False)
class Marks:
    """Points on an image.

    Parameters
    ----------
    points : (n, 2) float64
        (x, y) in pixels: row first.
    labels : tuple of str
        One per point, or none.
    symbol : str
        Of pyqtgraph: "o", "+", "x", "s", "t" …
    color : str
    size_px : float
        On the screen.
    """

    points: NDArray[Any]
    labels: tuple[str, ...] = ()
    symbol: str = "o"
    color: str = "#ff4f4f"
    size_px: float = 10.0


@dataclass(frozen=True, eq=False)
class Curves:
    """Lines on an image: paths of (n, 2) pixels, row first."""

    paths: tuple[NDArray[Any], ...]
    color: str = "#ffb000"
    width_px: float = 1.5


@dataclass(frozen=True, eq=False)
class Region:
    """A selection of scan positions, or a detector, that can be dragged.

    `moved(shape, settled)` is called with the new shape along a drag, and once more, settled, when
    the mouse is let go.
    """

    shape: Any
    moved: Callable[[Any, bool], None]
    color: str = "#00d0ff"
    name: str = ""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image instead of what the panel shows by itself: a `RealSlice` or `DiffractionSlice`."""

    image: Any
    title: str = ""


@dataclass(frozen=True, eq=False)
class Ruler:
    """A line on an image; `moved(start, stop)` is called with its ends along a drag.

    The ends are (x, y) in pixels, row first.
    """

    start: tuple[float, float]
    stop: tuple[float, float]
    moved: Callable[[tuple[float, float], tuple[float, float]], None]
    color: str = "#00d0ff"


Overlay = Marks | Curves | Region | Picture | Ruler


class Stage(QtCore.QObject):
    """The two images as the panels see them."""

    overlaid = QtCore.Signal(str, str, object)
    """(panel, name, overlay or None): something to be drawn, or to be taken away."""
    clicked = QtCore.Signal(str, float, float)
    """(panel, x, y) in pixels, row first: a click that moved nothing."""
    hovered = QtCore.Signal(str, object)
    """(panel, (x, y) in pixels or None): where the mouse is."""
    showed = QtCore.Signal(str, object)
    """(panel, `RealSlice` or `DiffractionSlice`): what a panel shows now, exactly or coarsely."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.overlays: dict[tuple[str, str], Overlay] = {}
        self.showing: dict[str, Any] = {}
        """What the panels show: `RealSlice` or `DiffractionSlice` by panel."""
        self._stopped = False

    def put(self, panel: Where, name: str, overlay: Overlay | None) -> None:
        """Draw something on a panel under a name, in place of what had that name; None: nothing."""
        key = (panel, name)
        if self._stopped:
            return
        if overlay is None:
            if self.overlays.pop(key, None) is None:
                return
        else:
            self.overlays[key] = overlay
        self.overlaid.emit(panel, name, overlay)

    def show(self, panel: Where, value: Any) -> None:
        """Tell what a panel shows now, to those that make something of it."""
        self.showing[panel] = value
        self.showed.emit(panel, value)

    def clear(self, prefix: str) -> None:
        """Take away everything whose name begins with `prefix`."""
        for panel, name in [key for key in self.overlays if key[1].startswith(prefix)]:
            self.put(panel, name, None)  # type: ignore[arg-type]

    def stop(self) -> None:
        """Take everything away; what panels that are torn down still say is not heard any more."""
        self.clear("")
        self._stopped = True
