"""Figures as pixels and as files, made in any thread."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store import atomic
from py4DSTEM.plot.draw import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Raster"]

_LOCK = threading.RLock()  # pyplot, with which figures are made, has one list of them for all
_LEAST_DPI, _MOST_DPI = 55.0, 220.0
_SAVED_DPI = 200


class Raster:
    """The figure of a value, drawn at any size without a screen.

    Parameters
    ----------
    value : object
        Anything that `show` draws.
    **options
        Of `show`: scale, clip, cmap, …

    Examples
    --------
    >>> pixels = Raster(np.eye(8)).draw(400, 300)
    >>> pixels.shape[2], pixels.dtype, bool(pixels.shape[0] <= 300)
    (4, dtype('uint8'), True)
    """

    def __init__(self, value: object, **options: Any) -> None:
        self._value, self._options = value, options
        self._figure: Figure | None = None

    def figure(self) -> Figure:
        """The figure, made once; it is in no list of pyplot."""
        with _LOCK:
            if self._figure is None:
                self._figure = _figure_of(self._value, self._options)
            return self._figure

    def draw(self, width_px: int, height_px: int, *, ratio: float = 1.0) -> NDArray[np.uint8]:
        """The figure as large as fits into so many pixels; (height, width, 4) uint8, red first.

        Parameters
        ----------
        width_px, height_px : int
            What there is room for; a figure that would be illegible is larger.
        ratio : float
            Pixels of the screen per unit of `width_px`.
        """
        figure = self.figure()
        with _LOCK:
            width, height = figure.get_size_inches()
            dpi = min(width_px / width, height_px / height)
            figure.set_dpi(ratio * min(max(dpi, _LEAST_DPI), _MOST_DPI))
            canvas: Any = figure.canvas
            canvas.draw()
            return np.array(canvas.buffer_rgba())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the figure as PNG, SVG, PDF or whatever else the ending of the name says.

        The file appears whole or not at all.

        Raises
        ------
        ParameterError
            No figure can be written in that format.
        StoreError
            Writing failed; what was there before is unharmed.
        """
        figure = self.figure()
        ending = Path(path).suffix[1:].lower() or "png"
        known: Any = figure.canvas
        if ending not in known.get_supported_filetypes():
            raise ParameterError(f"no figure can be written as .{ending}: use .png, .svg or .pdf")
        with _LOCK, atomic.replacing(path) as part:
            figure.savefig(part, dpi=_SAVED_DPI, format=ending)


def _figure_of(value: object, options: dict[str, Any]) -> Figure:
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = plt.get_backend()
    if known.lower() != "agg":  # another one would open windows, from a thread that must not
        plt.switch_backend("agg")
    figure, _ = show(value, **options)
    plt.close(figure)
    FigureCanvasAgg(figure)
    return figure
