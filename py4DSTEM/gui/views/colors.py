"""Colour maps as tables of 256 colours, and swatches of them; matplotlib is not needed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtGui

from py4DSTEM.core.pixels import direction_wheel
from py4DSTEM.errors import ParameterError

__all__ = [
    "COLOR_MAPS",
    "PALETTE",
    "UNDEFINED",
    "color_codes",
    "color_table",
    "default_map",
    "pen_style",
    "swatch",
    "wheel",
]

COLOR_MAPS = {
    "gray": "black to white",
    "gray_r": "white to black",
    "viridis": "even steps, dark blue to yellow",
    "inferno": "even steps, black to yellow",
    "magma": "even steps, black to cream",
    "plasma": "even steps, blue to yellow",
    "cividis": "even steps, the same for colour-blind eyes",
    "turbo": "rainbow; its steps are not even",
    "RdBu_r": "blue, white at zero, red: signed values",
    "PuOr_r": "purple, white at zero, orange: signed values",
    "twilight": "cyclic: angles and phases",
}
"""Names, as matplotlib has them, and what they are for."""

UNDEFINED = {"gray": "#3c6ebe", "gray_r": "#3c6ebe"}
"""Colours of pixels that are no number, where gray would be one of the map's own."""

# Okabe and Ito's colours, which colour-blind readers can tell apart; the brightest first.
PALETTE = ("#56B4E9", "#F0E442", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#0072B2")
"""Colours of detectors by their order."""

_DASHES = (
    QtCore.Qt.PenStyle.SolidLine,
    QtCore.Qt.PenStyle.DashLine,
    QtCore.Qt.PenStyle.DotLine,
    QtCore.Qt.PenStyle.DashDotLine,
    QtCore.Qt.PenStyle.DashDotDotLine,
)
# Diverging maps are Brewer's (colorbrewer2.org), cividis is that of Nuñez, Anderton and Renslow
# (doi:10.1371/journal.pone.0199239; pyqtgraph has an earlier one); the cyclic map
# is Bechtold's twilight (CC0).
_ANCHORS = {
    "gray": "000000 ffffff",
    "gray_r": "ffffff 000000",
    "cividis": (
        "00224e 00285b 002e6a 053371 1a386f 273e6e 32436d 3b496c 434e6c 4b546c 535a6d 5a5f6e "
        "61656f 686a71 6f7073 767676 7d7c78 848279 8c8878 938e78 9b9476 a39a74 aba072 b4a76f "
        "bcae6c c4b468 cdbb63 d5c25e dec958 e7d150 f0d846 f9e03a fee838"
    ),
    "RdBu_r": "053061 2065ab 4393c3 90c4dd d1e5f0 f7f6f6 fddbc7 f3a481 d6604d b1182b 67001f",
    "PuOr_r": "2d004b 532687 8073ac b1aad1 d8daeb f7f7f6 fee0b6 fcb761 e08214 b25706 7f3b08",
    "twilight": (
        "e2d9e2 d1d5da b3c6ce 95b5c7 7ba1c2 6b8cbf 6276ba 5f5eb3 5e43a5 592a8f 4e186f 3d114d "
        "2f1436 3f123d 581647 741e4f 8e2c50 a24050 b25652 be6f5b c6896c cca389 d4bcac ddd0ce e2d9e2"
    ),
}


def default_map(panel: str, signed: bool) -> str:
    """The map of an image whose look names none.

    >>> default_map("real", False), default_map("real", True)
    ('gray', 'RdBu_r')
    """
    return "RdBu_r" if signed else "inferno" if panel == "diffraction" else "gray"


@lru_cache(maxsize=64)
def color_table(name: str) -> NDArray[np.uint8]:
    """Red, green, blue and opacity of 256 colours, (256, 4) uint8.

    The first stands for pixels that are no number; the other 255 are the map.
    """
    if name not in COLOR_MAPS:
        raise ParameterError(f"there is no colour map {name!r}; there is {', '.join(COLOR_MAPS)}")
    if name in _ANCHORS:
        anchors = [QtGui.QColor("#" + code) for code in _ANCHORS[name].split()]
        table = pg.ColorMap(None, anchors).getLookupTable(nPts=255, alpha=True)
    else:
        table = pg.colormap.get(name).getLookupTable(nPts=255, alpha=True)
    undefined = QtGui.QColor(UNDEFINED.get(name, "#8c8c8c")).getRgb()
    return np.vstack([undefined, table]).astype(np.uint8)


@lru_cache(maxsize=64)
def swatch(name: str, width: int = 48, height: int = 12) -> QtGui.QIcon:
    """A strip of the map, low values on the left."""
    row = np.linspace(1, 255, width).astype(int)
    strip = np.ascontiguousarray(np.broadcast_to(color_table(name)[row], (height, width, 4)))
    image = QtGui.QImage(
        strip.data, width, height, 4 * width, QtGui.QImage.Format.Format_RGBA8888
    ).copy()
    return QtGui.QIcon(QtGui.QPixmap.fromImage(image))


def wheel(size: int) -> QtGui.QPixmap:
    """The legend of images of vectors: the colour of each direction and length."""
    colors = direction_wheel(size)
    image = QtGui.QImage(
        colors.data, size, size, 4 * size, QtGui.QImage.Format.Format_RGBA8888
    ).copy()
    return QtGui.QPixmap.fromImage(image)


def pen_style(order: int) -> tuple[str, QtCore.Qt.PenStyle]:
    """Colour and dashes of the detector of that order: never told apart by colour alone.

    >>> pen_style(0)[0]
    '#56B4E9'
    """
    return PALETTE[order % len(PALETTE)], _DASHES[order % len(_DASHES)]


@lru_cache(maxsize=64)
def color_codes(name: str) -> list[int]:
    """`color_table` as the numbers that Qt's indexed images take."""
    return [QtGui.qRgba(*color) for color in color_table(name).tolist()]
