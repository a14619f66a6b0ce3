"""From numbers to shades and colours, without any drawing: limits, scales, histograms."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.errors import ParameterError

__all__ = [
    "POWERS",
    "Scale",
    "check_clip",
    "check_scale",
    "complex_colors",
    "display",
    "fast_complex_colors",
    "fast_limits",
    "histogram",
    "is_signed",
    "limits",
]

Float = NDArray[np.float64]
Scale = str | float
POWERS = {"linear": 1.0, "sqrt": 0.5}
"""Exponents of the scales that have a name."""
MOST_SAMPLES = 16384
_LARGEST = 1e300
_SPAN_FOR_SINGLE = 1e-2
_DECADES = 4.0
_SIGNED_DECADES = 3.0
_LEVELS, _HUES = 128, 256
_GRAY = 140


def check_scale(scale: Scale) -> Scale:
    """``"linear"``, ``"sqrt"``, ``"log"``, or a positive exponent."""
    if scale == "log" or scale in POWERS:
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
        half = abs(low) / 2
        return (low - half, low + half) if half > 1 / _LARGEST else (0.0, 1.0)
    return low, high


def fast_limits(
    image: ArrayLike,
    clip: tuple[float, float] = (0.5, 99.5),
    *,
    signed: bool = False,
    scale: Scale = "linear",
) -> tuple[float, float]:
    """`limits`, from at most 16384 pixels spread evenly over the image.

    Parameters
    ----------
    image : real array
        Of any shape; what is not finite does not count.
    clip : (float, float)
        Percentiles.
    signed : bool
        Whether zero is to lie in the middle.
    scale : str or float
        As for `display`.

    Returns
    -------
    (float, float)
        Finite and rising, whatever the image holds.

    Examples
    --------
    >>> fast_limits(np.arange(101.0), (1, 99))
    (1.0, 99.0)
    """
    sample = _finite(_sample(_real(image)))
    return limits(sample, check_clip(clip), signed, check_scale(scale))


def _sample(image: NDArray[Any]) -> NDArray[Any]:
    """Every n-th pixel; n shares no factor with the rows, so that all columns are met."""
    step = max(-(-image.size // MOST_SAMPLES), 1)
    while step > 1 and math.gcd(step, image.shape[-1]) > 1:
        step += 1
    return image.reshape(-1)[::step]


def display(
    image: ArrayLike, low: float, high: float, scale: Scale = "linear"
) -> NDArray[np.float32]:
    """Shades between 0 (at `low` and below) and 1 (at `high` and above).

    Parameters
    ----------
    image : real array
    low, high : float
        Values of the darkest and the brightest shade.
    scale : "linear", "sqrt", "log" or float
        A number is an exponent.  The logarithm spans at most four decades below `high`; where `low`
        is negative it is symmetric and linear within a thousandth of the larger limit.

    Returns
    -------
    float32 array
        In [0, 1]; NaN where the image is NaN.

    Notes
    -----
    Powers act on the value itself, with its sign, so that a shade is the same function of the
    value as on the figures of `show`: ``(v^p - low^p) / (high^p - low^p)``.

    Examples
    --------
    >>> display([0.0, 1.0, 4.0, 9.0, np.nan], 0, 4, "sqrt")
    array([0. , 0.5, 1. , 1. , nan], dtype=float32)
    """
    scale = check_scale(scale)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ParameterError(f"limits must be two rising numbers, not {low!r} and {high!r}")
    values = _real(image)
    top = max(abs(low), abs(high))
    lowest, highest = low / top, high / top
    shades: Any = np.divide(values, top, dtype=np.float64)
    np.clip(shades, lowest, highest, out=shades)
    if scale != "linear" and highest - lowest > _SPAN_FOR_SINGLE:
        shades = shades.astype(np.float32)
    if scale == "log":
        shades, lowest, highest = _logarithms(shades, lowest, highest)
    elif scale != "linear":
        shades, lowest, highest = _powers(
            shades, lowest, highest, POWERS[scale] if isinstance(scale, str) else scale
        )
    shades -= lowest
    shades /= max(highest - lowest, 1e-300)
    clipped: NDArray[np.float32] = np.clip(shades, 0.0, 1.0).astype(np.float32, copy=False)
    return clipped


def _real(image: ArrayLike) -> NDArray[Any]:
    values = np.asarray(image)
    if values.dtype.kind not in "biuf":
        raise ParameterError(
            f"an image of type {values.dtype} has no shades; complex ones have complex_colors"
        )
    return values


def _powers(shades: Any, lowest: float, highest: float, power: float) -> tuple[Any, float, float]:
    """Powers of values between -1 and 1 that keep their sign, and of the limits."""

    def one(v: float) -> float:
        return math.copysign(abs(v) ** power, v)

    sizes = np.abs(shades) if lowest < 0 else shades
    # Roots are quick; other powers of whole images are what takes longest here.
    sizes = np.sqrt(sizes) if power == 0.5 else sizes ** shades.dtype.type(power)
    return np.copysign(sizes, shades), one(lowest), one(highest)


def _logarithms(shades: Any, lowest: float, highest: float) -> tuple[Any, float, float]:
    """Logarithms of values between -1 and 1, linear near zero where some are negative."""
    if lowest >= 0:
        lowest = max(lowest, 10.0**-_DECADES)
        return np.log10(np.maximum(shades, lowest)), math.log10(lowest), math.log10(highest)
    threshold, linear = 10.0**-_SIGNED_DECADES, 1 / 0.9

    def one(v: float) -> float:
        size = abs(v) / threshold
        return math.copysign(linear * size if size <= 1 else linear + math.log10(size), v)

    sizes = np.abs(shades) / threshold
    logs = linear + np.log10(np.maximum(sizes, 1.0))
    return (
        np.copysign(np.where(sizes > 1, logs, linear * sizes), shades),
        one(lowest),
        one(highest),
    )


def histogram(
    image: ArrayLike, bins: int = 256, span: tuple[float, float] | None = None
) -> tuple[NDArray[np.int64], Float]:
    """How often values occur.

    Parameters
    ----------
    image : real array
        Of any shape; what is not finite does not count.
    bins : int
        1 to 65536, equally wide.
    span : (float, float), optional
        Where the first bin begins and the last ends, values beyond left out; None: the smallest
        and the largest value.

    Returns
    -------
    counts : (bins,) int64
        All zero where nothing is finite.
    edges : (bins + 1,) float64
        Rising.

    Examples
    --------
    >>> counts, edges = histogram([0.0, 1.0, 1.0, 4.0, np.inf], 4)
    >>> counts.tolist(), edges.tolist()
    ([1, 2, 0, 1], [0.0, 1.0, 2.0, 3.0, 4.0])
    """
    if not (isinstance(bins, int | np.integer) and 1 <= bins <= MOST_SAMPLES):
        raise ParameterError(f"bins must be a whole number from 1 to {MOST_SAMPLES}, not {bins!r}")
    values = _finite(_real(image))
    low, high = _whole_span(values, bins) if span is None else map(float, span)
    if not (math.isfinite(high - low) and low < high):
        raise ParameterError(f"span must be two rising numbers, not {span!r}")
    # In this order, or the numbers of bins times tiny widths would be lost.
    places = (values - low) / (high - low) * bins
    index = np.floor(places[(places >= 0) & (places <= bins)]).astype(np.intp)
    counts = np.bincount(np.minimum(index, bins - 1), minlength=bins)
    return counts.astype(np.int64, copy=False), np.linspace(low, high, bins + 1)


def _whole_span(values: Float, bins: int) -> tuple[float, float]:
    """The smallest and the largest value, or as much more as the bins need to have a width."""
    low, high = limits(values, (0.0, 100.0), False)
    least = 4 * bins * max(float(np.spacing(max(abs(low), abs(high)))), 1 / _LARGEST)
    more = max(least - (high - low), 0.0) / 2
    return low - more, high + more


def _finite(values: NDArray[Any]) -> Float:
    """Those values that are finite, within what differences can be formed of."""
    wide = values.reshape(-1).astype(np.float64)
    if values.dtype.kind == "f":
        wide = np.clip(wide[np.isfinite(wide)], -_LARGEST, _LARGEST)
    return wide


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


def fast_complex_colors(values: NDArray[Any], high: float, power: float = 1.0) -> NDArray[np.uint8]:
    """`complex_colors` as bytes, (..., 3) uint8, from a table of 128 levels and 256 hues.

    Parameters
    ----------
    values : complex array
    high : float
        Modulus of the brightest shade.
    power : float
        Exponent of the modulus.

    Returns
    -------
    (..., 3) uint8
        Undefined values are gray.

    Examples
    --------
    >>> fast_complex_colors(np.array([0, 1, -1j, np.nan]), 1.0).tolist()
    [[0, 0, 0], [238, 139, 171], [143, 169, 253], [140, 140, 140]]
    """
    if not (math.isfinite(high) and high > 0):
        raise ParameterError(f"the largest modulus must be a positive number, not {high!r}")
    z: Any = np.asarray(values).astype(np.complex64 if high < 1e30 else np.complex128)
    level = np.abs(z) * np.float32(_LEVELS / high)
    known = np.isfinite(level)
    with np.errstate(invalid="ignore"):
        i = np.minimum(level + 0.5, _LEVELS, where=known, out=np.zeros_like(level))
        j = np.where(known, np.angle(z) * np.float32(_HUES / math.tau) + (_HUES + 0.5), 0)
    table = _color_table(float(power))
    colors: NDArray[np.uint8] = table[i.astype(np.intp), j.astype(np.intp) % _HUES]
    colors[~known] = _GRAY
    return colors


@lru_cache(maxsize=16)
def _color_table(power: float) -> NDArray[np.uint8]:
    level = np.arange(_LEVELS + 1)[:, None] / _LEVELS
    phase = math.tau * np.arange(_HUES) / _HUES
    return np.round(255 * complex_colors(level * np.exp(1j * phase), 1.0, power)).astype(np.uint8)


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
