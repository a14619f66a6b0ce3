"""From numbers to colours of matplotlib: norms and colour maps; the numbers are in `core`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from py4DSTEM.core.contrast import (
    POWERS,
    Scale,
    check_clip,
    check_scale,
    complex_colors,
    is_signed,
    limits,
)
from py4DSTEM.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.colors import Colormap, Normalize

__all__ = [
    "check_clip",
    "check_scale",
    "color_map",
    "complex_colors",
    "is_signed",
    "limits",
    "norm",
]

# Colours that occur nowhere in the map stand for "undefined".
_UNDEFINED = {"gray": "#3c6ebe", "other": "#8c8c8c"}


def norm(low: float, high: float, scale: Scale) -> Normalize:
    """The matplotlib norm of a scale; the colour bar then reads true values."""
    from matplotlib.colors import FuncNorm, LogNorm, Normalize, SymLogNorm

    if scale == "log":
        if low < 0:
            return SymLogNorm(1e-3 * max(high, -low), vmin=low, vmax=high)
        top = high if high > 0 else 1.0
        return LogNorm(max(low, 1e-4 * top), top, clip=True)
    power = POWERS.get(scale, 1.0) if isinstance(scale, str) else float(scale)
    if power == 1.0:
        return Normalize(low, high)

    def forward(x: Any) -> Any:
        return np.sign(x) * np.abs(x) ** power

    def inverse(x: Any) -> Any:
        return np.sign(x) * np.abs(x) ** (1 / power)

    return FuncNorm((forward, inverse), low, high)


def color_map(name: str | Colormap | None, signed: bool, reciprocal: bool) -> Colormap:
    """A map that colour-blind readers can use, with a colour for undefined pixels."""
    import matplotlib as mpl
    from matplotlib.colors import Colormap

    if isinstance(name, Colormap):
        return name
    chosen = name or ("RdBu_r" if signed else "inferno" if reciprocal else "gray")
    if chosen not in mpl.colormaps:
        raise ParameterError(f"matplotlib has no colour map {chosen!r}")
    undefined = _UNDEFINED["gray" if chosen in ("gray", "Greys", "Greys_r") else "other"]
    return mpl.colormaps[chosen].with_extremes(bad=undefined)
