"""An image with its title row, axes, scale bar, colour bar and everything about its look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.contrast import fast_limits, is_signed
from py4DSTEM.core.pixels import (
    color_numbers,
    direction_colors,
    nearest_filled,
    rgb_bytes,
    sampled,
)
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.state.project import Look
from py4DSTEM.gui.views.canvas import Canvas
from py4DSTEM.gui.views.color_bar import ColorBar
from py4DSTEM.gui.views.colors import COLOR_MAPS, default_map, wheel
from py4DSTEM.gui.views.look_row import LookRow

__all__ = ["ImagePanel"]

Pair = tuple[float, float]
Axes = tuple[Axis, Axis]
_MOST_AT_ONCE = 1 << 20
"""Pixels that are coloured in the GUI thread; larger images are coloured beside it."""


@dataclass(frozen=True, eq=False)
class _Colored:
    """What is asked of the lane that colours large images."""

    image: NDArray[Any]
    limits: Pair
    scale: Any
    colors: str
    number: int


class ImagePanel(QtWidgets.QWidget):
    """Shows one image; `name` is "diffraction", "real" or "result".

    Places are (x, y) in pixels, row first.  Changing contrast, colours or scale redraws the image
    that is kept, and tells with `lookChanged`.
    """

    lookChanged = QtCore.Signal(object)
    """The new `Look`."""
    chosen = QtCore.Signal(str)
    """What is to be shown, of the names given to `set_choices`."""
    hovered = QtCore.Signal(object, object)
    """((x, y) or None, value of that pixel or None)"""
    clicked = QtCore.Signal(float, float)
    doubleClicked = QtCore.Signal(float, float)
    dragged = QtCore.Signal(float, float, bool)
    """(x, y, finished): a drag of the left button that took hold of no shape."""
    keyPressed = QtCore.Signal(object)
    drawn = QtCore.Signal(int)
    """Number of the request whose image has just been painted."""

    def __init__(self, name: str, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = name
        self.look = Look()
        self.image: NDArray[Any] | None = None
        """What is shown, as numbers (or red, green, blue)."""
        self.limits: Pair = (0.0, 1.0)
        """Values of the first and the last colour."""
        self.exact = True
        self._signed: bool | None = None
        self._number = 0
        self._lane: Lane | None = None
        self._asked = 0
        self.row = LookRow(name)
        self.canvas = Canvas()
        self.bar = ColorBar()
        self.mark = QtWidgets.QLabel("coarse", self.canvas)
        self.wheel = QtWidgets.QLabel(self.canvas)
        self._stale = False
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        body = QtWidgets.QHBoxLayout()
        body.setContentsMargins(0, 0, 0, 0)
        body.setSpacing(2)
        body.addWidget(self.canvas, 1)
        body.addWidget(self.bar)
        whole = QtWidgets.QVBoxLayout(self)
        whole.setContentsMargins(2, 2, 2, 2)
        whole.setSpacing(2)
        whole.addWidget(self.row)
        whole.addLayout(body, 1)
        self.mark.setObjectName("coarse-mark")
        self.mark.setStyleSheet(
            "background: rgba(0,0,0,150); color: #F0E442; padding: 1px 5px; border-radius: 3px;"
        )
        self.mark.setToolTip("A preview from some of the positions; the exact image follows.")
        self.wheel.setPixmap(wheel(56))
        for label in (self.mark, self.wheel):
            label.hide()
        self.canvas.resized.connect(self._place_labels)

    def _place_labels(self) -> None:
        """The mark in the upper left corner of the image, the wheel in the upper right one."""
        rect = self.canvas.mapFromScene(self.canvas.box.sceneBoundingRect()).boundingRect()
        self.mark.move(rect.left() + 8, rect.top() + 6)
        self.wheel.adjustSize()
        self.wheel.move(rect.right() - self.wheel.width() - 8, rect.top() + 6)

    def _connect(self) -> None:
        self.row.lookChanged.connect(self._wish)
        self.row.chosen.connect(self.chosen)
        self.row.autoWanted.connect(self.auto_contrast)
        self.row.lockWanted.connect(self.lock_contrast)
        self.bar.limitsDragged.connect(self._drag_limits)
        self.bar.resetWanted.connect(self.auto_contrast)
        self.canvas.clicked.connect(self.clicked)
        self.canvas.doubleClicked.connect(self.doubleClicked)
        self.canvas.dragged.connect(self.dragged)
        self.canvas.keyPressed.connect(self.keyPressed)
        self.canvas.drawn.connect(self.drawn)
        self.canvas.hovered.connect(self._hover)

    @property
    def drawnNumber(self) -> int:
        """Number of the request whose image is on the screen."""
        return self.canvas.drawn_number

    # ---- what is shown ---------------------------------------------------------------------------
    def set_choices(self, names: Sequence[str], current: str, texts: Sequence[str] = ()) -> None:
        """Offer what may be shown; `chosen` tells the choice of the user."""
        self.row.set_choices(names, current, texts)

    def set_image(
        self,
        image: NDArray[Any],
        *,
        axes: Axes | None = None,
        zero_px: Pair | None = None,
        look: Look | None = None,
        title: str = "",
        exact: bool = True,
        number: int = 0,
        signed: bool | None = None,
    ) -> None:
        """Show an image.

        Parameters
        ----------
        image : (n0, n1) real or complex array
            Kept, not copied.  Complex numbers ``x + i y`` are vectors: their hue is the direction
            (x down, y to the right), their brightness the length.
        axes : (Axis, Axis), optional
            Of rows and columns; None: pixels.
        zero_px : (float, float), optional
            Pixel at which the axes read zero; None: where their own offsets put it.
        look : Look, optional
            None: as before.
        title : str
        exact : bool
            False marks the image as a preview.
        number : int
            Of the request that it answers: `drawn` tells it when the image is on the screen.
        signed : bool, optional
            Whether zero lies in the middle of the colours; None: where it lies among the values.
        """
        self.image, self._signed = image, signed
        self._frame(axes, zero_px, title, exact, number)
        if look is not None and look != self.look:
            self.look = look
        self._render(follow=True)

    def set_coarse(
        self,
        image: NDArray[Any],
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        shape: tuple[int, int],
        **options: Any,
    ) -> None:
        """Show an image that is known on a grid of rows and columns only; else as `set_image`."""
        whole = nearest_filled(image, rows, columns, shape)
        self.set_image(whole, **({"exact": False} | options))

    def set_rgb(
        self,
        image: NDArray[Any],
        *,
        axes: Axes | None = None,
        zero_px: Pair | None = None,
        title: str = "",
        exact: bool = True,
        number: int = 0,
    ) -> None:
        """Show colours, (n0, n1, 3) uint8 or float in [0, 1]; limits and scale do not apply."""
        self.image = image
        self._frame(axes, zero_px, title, exact, number)
        self._show_colors(rgb_bytes(image), vectors=False)

    def _show_colors(self, colors: NDArray[np.uint8], *, vectors: bool) -> None:
        self._asked += 1
        self.row.set_colored(True)
        self.bar.hide()
        self.wheel.setVisible(vectors)
        self._place(lambda: self.canvas.pixels.show_colors(colors, self._number))

    def clear(self) -> None:
        """Show nothing."""
        self.image = None
        self._asked += 1
        self.set_stale(False)
        self.row.set_title("")
        for label in (self.mark, self.wheel):
            label.hide()
        self.canvas.pixels.clear()

    def set_stale(self, stale: bool) -> None:
        """Whether the image belongs to something that has changed, and another is on its way."""
        self._stale = stale
        self._show_mark()

    def _show_mark(self) -> None:
        text = "updating…" if self._stale else "coarse"
        if text != self.mark.text():
            self.mark.setText(text)
            self.mark.adjustSize()
        self.mark.setVisible(self.image is not None and (self._stale or not self.exact))

    def _frame(
        self, axes: Axes | None, zero_px: Pair | None, title: str, exact: bool, number: int
    ) -> None:
        known = axes if axes is not None else (Axis("x"), Axis("y"))
        zero = zero_px if zero_px is not None else tuple(-a.offset / a.step for a in known)
        self.canvas.set_axes(known, (zero[0], zero[1]))
        self.row.set_title(title)
        self.row.set_calibrated(axes is None or all(axis.calibrated for axis in known))
        self.exact, self._number = exact, number
        self._show_mark()

    def _place(self, draw: Any) -> None:
        before = self.canvas.pixels.grid_shape
        draw()
        if self.canvas.pixels.grid_shape != before:
            self.canvas.fit()

    # ---- colours ---------------------------------------------------------------------------------
    def set_look(self, look: Look) -> None:
        """Show the image that is kept with another look; nobody is told."""
        if look != self.look:
            self.look = look
            self._render(follow=True)

    def redraw(self) -> None:
        """Draw the image that is kept again."""
        self._render(follow=True)

    def auto_contrast(self) -> None:
        """Choose the limits by the image, from now on."""
        self._wish(self.look.replace(limits=None))

    def lock_contrast(self, locked: bool = True) -> None:
        """Keep the limits as they are, whatever image follows."""
        self._wish(self.look.replace(limits=self.limits if locked else None))

    def _wish(self, look: Look) -> None:
        if look == self.look:
            self._render(follow=True)
            return
        self.look = look
        self._render(follow=True)
        self.lookChanged.emit(look)

    def _drag_limits(self, low: float, high: float, settled: bool) -> None:
        self.look = self.look.replace(limits=(low, high))
        self._render(follow=False)
        if settled:
            self.lookChanged.emit(self.look)

    def _is_signed(self) -> bool:
        if self._signed is not None or self.image is None:
            return bool(self._signed)
        some = sampled(self.image)
        return some.dtype.kind in "if" and bool((some < 0).any()) and is_signed(some)

    def _render(self, *, follow: bool) -> None:
        image = self.image
        if image is None or image.ndim != 2:
            return
        if image.dtype.kind == "c":
            self._render_vectors(image)
            return
        self.row.set_colored(False)
        self.wheel.hide()
        signed = self._is_signed()
        clip, scale = self.look.clip, self.look.scale
        self.limits = self.look.limits or fast_limits(image, clip, signed=signed, scale=scale)
        known = self.look.colors in COLOR_MAPS
        colors = self.look.colors if known else default_map(self.name, signed)
        self.row.show_look(self.look, colors)
        self.bar.setVisible(True)
        if follow:
            self.bar.show_image(image, self.limits, scale, colors)
        self._color(_Colored(image, self.limits, scale, colors, self._number))

    def _render_vectors(self, image: NDArray[Any]) -> None:
        colors, high = direction_colors(image, self.look.clip, scale=self.look.scale)
        self.limits = (0.0, high)
        self.wheel.setToolTip(f"Direction by hue, length by brightness: brightest at {high:.4g}")
        self._show_colors(colors, vectors=True)

    def _color(self, wish: _Colored) -> None:
        self._asked += 1
        if wish.image.size <= _MOST_AT_ONCE:
            self._draw(wish, _numbers(wish))
            return
        if self._lane is None:
            self._lane = Lane(_numbers, f"colours-{self.name}", self)
            self._lane.answered.connect(self._colored)
            self.destroyed.connect(self._lane.stop)
        asked = self._asked
        self._lane.ask(wish)
        self._asked = asked

    def _colored(self, answer: Answer) -> None:
        wish = answer.request
        if answer.value is not None and wish.image is self.image and answer.last:
            self._draw(wish, answer.value)

    def _draw(self, wish: _Colored, numbers: NDArray[np.uint8]) -> None:
        pixels = self.canvas.pixels
        self._place(lambda: pixels.show_numbers(numbers, wish.colors, wish.number))

    # ---- the view --------------------------------------------------------------------------------
    def fit(self) -> None:
        """Show the whole image."""
        self.canvas.fit()

    def zoom(self, magnification: float) -> None:
        """Pixels of the screen per pixel of the image."""
        self.canvas.zoom(magnification)

    def cycle_scale(self) -> None:
        """Linear, square root, logarithm, and again."""
        self.row.cycle_scale()

    def value(self, place: Pair) -> Any:
        """Of the pixel at a place; None beside the image."""
        if self.image is None:
            return None
        i, j = (round(v) for v in place)
        inside = 0 <= i < self.image.shape[0] and 0 <= j < self.image.shape[1]
        return self.image[i, j] if inside else None

    def _hover(self, place: Pair | None) -> None:
        self.hovered.emit(place, None if place is None else self.value(place))


def _numbers(wish: _Colored) -> NDArray[np.uint8]:
    return color_numbers(wish.image, *wish.limits, wish.scale)
