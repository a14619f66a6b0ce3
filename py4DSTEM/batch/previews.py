"""Small pictures of results, for people who look into a folder and for the report.

A picture is never worth a result: whatever cannot be drawn becomes a card that says so.
"""

from __future__ import annotations

import io
import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["picture", "thumbnail", "write_preview"]

WIDTH_PX, HEIGHT_PX = 560, 460
_COLORS = 96
_CARD_LINES, _CARD_WIDTH = 14, 62


def write_preview(value: Any, path: str | os.PathLike[str]) -> None:
    """Write a picture of a result as PNG.

    Parameters
    ----------
    value : object
        Anything; what `show` does not draw is described in words.
    path : path
        Overwritten; the folder must exist.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(picture(value)).convert("RGB").save(data, "png")
    Path(path).write_bytes(data.getvalue())


def picture(value: Any, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> NDArray[np.uint8]:
    """A picture of anything, (height, width, 4) uint8; never fails.

    Parameters
    ----------
    value : object
    width_px, height_px : int
        What there is room for.

    Examples
    --------
    >>> picture(np.eye(8)).shape[2], picture("words").shape[2]
    (4, 4)
    """
    import warnings

    from py4DSTEM.plot.raster import Raster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of drawing belong to no result
        try:
            return Raster(value).draw(width_px, height_px)
        except Exception as error:  # results of any type and state come here, also odd ones
            return _card(value, error).draw(width_px, height_px)


class _Card:
    """Words instead of a picture."""

    def __init__(self, title: str, words: str) -> None:
        self._title, self._words = title, words

    def draw(self, width_px: int, height_px: int) -> NDArray[np.uint8]:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width_px / 80, height_px / 80), dpi=80)
        canvas = FigureCanvasAgg(figure)
        place: dict[str, Any] = {"va": "top", "parse_math": False}
        figure.text(0.04, 0.94, self._title, fontsize=12, weight="bold", **place)
        figure.text(0.04, 0.84, self._words, fontsize=9, family="monospace", **place)
        canvas.draw()
        return np.array(canvas.buffer_rgba())


def _card(value: Any, error: Exception) -> _Card:
    title = str(getattr(value, "name", "") or type(value).__name__)
    lines = [line for text in _words(value, error).splitlines()
             for line in textwrap.wrap(text, _CARD_WIDTH) or [""]]  # fmt: skip
    return _Card(title[:_CARD_WIDTH], "\n".join(lines[:_CARD_LINES]))


def _words(value: Any, error: Exception) -> str:
    try:
        words = value.text() if hasattr(value, "text") else repr(value)
        return str(words)
    except Exception:  # nothing about a result may stop the run that made it
        return f"There is no picture of a {type(value).__name__}: {error}"


def thumbnail(png: bytes, width_px: int = 240) -> bytes:
    """A picture as a small PNG of few colours.

    Parameters
    ----------
    png : bytes
        A PNG file.
    width_px : int
        Widest it may be; smaller pictures stay as they are.

    Returns
    -------
    bytes

    Raises
    ------
    OSError
        It is no picture.
    """
    from PIL import Image

    with Image.open(io.BytesIO(png)) as whole:
        small = whole.convert("RGB")
    if small.width > width_px:
        height = max(1, round(small.height * width_px / small.width))
        small = small.resize((width_px, height), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.quantize(_COLORS, method=Image.Quantize.FASTOCTREE).save(data, "png")
    return data.getvalue()
