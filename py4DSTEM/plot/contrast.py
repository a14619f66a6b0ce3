"""From numbers to colours: limits, scales, colour maps, and the colour wheel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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

Float = NDArray[np.float64]
Scale = str | float
_POWERS = {"linear": 1.0, "sqrt": 0.5}
# Colours that occur nowhere in the map stand for "undefined".
_UNDEFINED = {"gray": "#3c6ebe", "other": "#8c8c8c"}


def check_scale(scale: Scale) -> Scale:
    """``"linear"``, ``"sqrt"``, ``"log"``, or a positive exponent."""
    if scale == "log" or scale in _POWERS:
        return scale
    if not isinstance(scale, str) and math.isfinite(scale) and scale > 0:
        return float(scale)
    raise ParameterError(
        f'scale must be "linear", "sqrt", "log" or a positive exponent, not {scale!r}'
    )


def check_clip(clip: tuple[float, float]) -> tuple[float, float]:
    """Two percentiles, the lower one first."""
    if len(clip) != 2 or not 0 <= clip[0] < clip[1] <= 100:
        raise ParameterError(f"clip must be two rising percentiles in [0, 100], not {clip!r}")
    return float(clip[0]), float(clip[1])


def is_signed(image: Float) -> bool:
    """Whether zero lies well inside the values, so that it should have a colour of its own."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return False
    low, high = np.percentile(finite, (2, 98))
    return bool(low < 0 < high) and min(-low, high) > 0.2 * max(-low, high)


def limits(
    image: Float, clip: tuple[float, float], signed: bool, scale: Scale = "linear"
) -> tuple[float, float]:
    """Lowest and highest value to tell apart; never equal, whatever the image holds."""
    if scale == "log" and not signed:
        image = image[image > 0]  # zero counts have no logarithm
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, clip))
    if not high > low:  # few pixels differ: show those
        low, high = float(finite.min()), float(finite.max())
    if signed:
        high = max(abs(low), abs(high))
        low = -high
    if not high > low:
        return (low - abs(low) / 2, low + abs(low) / 2) if low else (0.0, 1.0)
    return low, high


def norm(low: float, high: float, scale: Scale) -> Normalize:
    """The matplotlib norm of a scale; the colour bar then reads true values."""
    from matplotlib.colors import FuncNorm, LogNorm, Normalize, SymLogNorm

    if scale == "log":
        if low < 0:
            return SymLogNorm(1e-3 * max(high, -low), vmin=low, vmax=high)
        top = high if high > 0 else 1.0
        return LogNorm(max(low, 1e-4 * top), top, clip=True)
    power = _POWERS.get(scale, 1.0) if isinstance(scale, str) else float(scale)
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


def complex_colors(values: NDArray[Any], high: float, power: float = 1.0) -> Float:
    """RGB of complex numbers, (..., 3): hue is the phase, brightness the modulus.

    The hues have equal lightness and chroma in OKLab, so that none stands out
    (https://bottosson.github.io/posts/oklab).  Undefined values are gray.
    """
    level = np.clip(np.abs(values) / high, 0, 1) ** power
    phase = np.angle(values)
    lightness, chroma = 0.75 * level, 0.125 * level
    rgb = _oklab_to_srgb(lightness, chroma * np.cos(phase), chroma * np.sin(phase))
    rgb[~np.isfinite(level)] = 0.55
    return rgb


def _oklab_to_srgb(lightness: Float, a: Float, b: Float) -> Float:
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    mix = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cone**3 @ mix.T, 0, 1)
    low = linear <= 0.0031308
    rgb: Float = np.where(
        low, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )
    return rgb
