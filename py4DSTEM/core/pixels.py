"""From the pixels of an image to those of a screen: colour numbers, and places between samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.contrast import POWERS, Scale, display, fast_complex_colors, fast_limits
from py4DSTEM.errors import ShapeError

__all__ = [
    "color_numbers",
    "direction_colors",
    "direction_wheel",
    "fraction_of",
    "nearest_filled",
    "positive",
    "rgb_bytes",
    "sampled",
    "scale_histogram",
    "tinted",
    "unknown_pixels",
    "value_at",
]


def color_numbers(
    image: NDArray[Any], low: float, high: float, scale: Scale = "linear"
) -> NDArray[np.uint8]:
    """The colour, of 255, of each pixel.

    Parameters
    ----------
    image : (n0, n1) real
    low, high : float
        Values of the first and the last colour; what lies beyond has those too.
    scale : {"linear", "sqrt", "log"} or float
        As for `display`.

    Returns
    -------
    (n0, n1) uint8
        1 … 255, and 0 where a pixel is no number; C-contiguous.

    Examples
    --------
    >>> color_numbers(np.array([[0.0, 5.0, 10.0, np.nan]]), 0, 10)
    array([[  1, 128, 255,   0]], dtype=uint8)
    """
    level = display(image, low, high, scale)
    level *= 254
    level += 1.5
    if image.dtype.kind == "f":
        level[np.isnan(level)] = 0
    return np.ascontiguousarray(level.astype(np.uint8))


def unknown_pixels(numbers: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Which pixels hold no number, by their colour numbers.

    Parameters
    ----------
    numbers : (n0, n1) uint8
        As `color_numbers` gives them.

    Returns
    -------
    mask : (n0, n1) uint8
        255 where there is no number, 0 elsewhere.
    count : int

    Examples
    --------
    >>> unknown_pixels(np.array([[0, 3]], np.uint8))
    (array([[255,   0]], dtype=uint8), 1)
    """
    unknown = numbers == 0
    return np.where(unknown, np.uint8(255), np.uint8(0)), int(unknown.sum())


def fraction_of(value: float, low: float, high: float, scale: Scale = "linear") -> float:
    """Place of a value on a scale from `low` to `high`, in [0, 1].

    >>> fraction_of(25.0, 0.0, 100.0, "sqrt")
    0.5
    """
    return float(display([value], low, high, scale)[0])


def value_at(fraction: float, low: float, high: float, scale: Scale = "linear") -> float:
    """The value at a place of a scale: the inverse of `fraction_of`.

    >>> round(value_at(0.5, 0.0, 100.0, "sqrt"), 3)
    25.0
    """
    below, above = low, high
    for _ in range(60):
        middle = below + (above - below) / 2
        if fraction_of(middle, low, high, scale) < fraction:
            below = middle
        else:
            above = middle
    return above


def scale_histogram(
    image: NDArray[Any], low: float, high: float, scale: Scale = "linear"
) -> NDArray[np.int64]:
    """How many pixels lie at 255 places of a scale from `low` to `high`, (255,) int64.

    Pixels beyond the limits, and those that are no number, are left out; of large images, every
    so many rows and columns are counted.

    >>> int(scale_histogram(np.array([[0.0, 1.0, 2.0, np.nan, 9.0]]), 0, 2).sum())
    3
    """
    some = sampled(image)
    with np.errstate(invalid="ignore", over="ignore"):  # limits may not fit into single precision
        inside = (some >= low) & (some <= high)
    numbers = color_numbers(some, low, high, scale)
    return np.bincount(numbers[inside], minlength=256)[1:]


def sampled(image: NDArray[Any], most: int = 65536) -> NDArray[Any]:
    """Every so many rows and columns of an image, about `most` pixels; a view.

    >>> sampled(np.zeros((1000, 1000))).shape
    (250, 250)
    """
    step = max(1, math.ceil(math.sqrt(image.size / most)))
    return image[:: min(step, image.shape[0]), :: min(step, image.shape[1])]


def nearest_filled(
    image: NDArray[Any],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    shape: tuple[int, int],
) -> NDArray[Any]:
    """An image known on a grid of rows and columns, with the nearest known value elsewhere.

    Parameters
    ----------
    image : (..., len(rows), len(columns)) array
    rows, columns : int arrays
        Rising; where in the whole image the values lie.
    shape : (int, int)
        Of the whole image.

    Returns
    -------
    (..., *shape) array
        With the dtype of `image`.

    Examples
    --------
    >>> nearest_filled(np.array([[1, 2]]), np.array([0]), np.array([0, 3]), (2, 5))
    array([[1, 1, 2, 2, 2],
           [1, 1, 2, 2, 2]])
    """
    if image.shape[-2:] != (len(rows), len(columns)) or not image.size:
        raise ShapeError(
            f"an image of {image.shape} does not lie on {len(rows)} rows and {len(columns)} columns"
        )
    i, j = (_nearest(known, n) for known, n in zip((rows, columns), shape, strict=True))
    filled: NDArray[Any] = image[..., i[:, None], j[None, :]]
    return filled


def _nearest(known: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """For each of `size` places the number of the nearest known one."""
    between = (np.asarray(known[1:]) + np.asarray(known[:-1])) / 2
    return np.searchsorted(between, np.arange(size), side="left")


def positive(values: NDArray[Any]) -> NDArray[np.float64]:
    """Values that have a logarithm; NaN instead of the others.

    >>> positive(np.array([-1.0, 0.0, 2.0]))
    array([nan, nan,  2.])
    """
    known = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(known > 0, known, np.nan)


def rgb_bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Red, green and blue for the screen.

    Parameters
    ----------
    image : (n0, n1, 3) uint8 or float
        Floats from 0 to 1; those that are no number become 0.

    Returns
    -------
    (n0, n1, 3) uint8
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError(f"colours have the shape (n0, n1, 3), not {image.shape}")
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    scaled = np.clip(np.nan_to_num(image, nan=0.0), 0, 1) * 255 + 0.5
    return np.ascontiguousarray(scaled.astype(np.uint8))


def direction_colors(
    vectors: NDArray[Any],
    clip: tuple[float, float] = (0.1, 99.9),
    high: float | None = None,
    scale: Scale = "linear",
) -> tuple[NDArray[np.uint8], float]:
    """Colours of vectors ``x + i y``: hue is the direction, brightness the length.

    Parameters
    ----------
    vectors : (n0, n1) complex
    clip : (float, float)
        Percentiles; the upper one of the lengths is the brightest.
    high : float, optional
        Length of the brightest instead.
    scale : {"linear", "sqrt", "log"} or float
        Of the brightness; the logarithm is shown as the square root.

    Returns
    -------
    colors : (n0, n1, 3) uint8
        Vectors that are no number are gray.
    high : float
    """
    if high is None:
        high = fast_limits(np.abs(sampled(vectors)), clip)[1]
    high = high if high > 0 else 1.0
    power = POWERS.get(scale, 0.5) if isinstance(scale, str) else scale
    return fast_complex_colors(vectors, high, power), high


def tinted(mask: NDArray[Any], color: tuple[int, int, int] = (86, 180, 233)) -> NDArray[np.uint8]:
    """A veil over an image where a mask is not zero, (n0, n1, 4) uint8 with opacity."""
    veil = np.zeros((*mask.shape, 4), dtype=np.uint8)
    veil[..., :3] = color
    veil[..., 3] = np.where(mask != 0, 80, 0)
    return veil


def direction_wheel(size: int) -> NDArray[np.uint8]:
    """The legend of `fast_complex_colors` for vectors ``x + i y`` on an image.

    Parameters
    ----------
    size : int
        Pixels across.

    Returns
    -------
    (size, size, 4) uint8
        Red, green, blue, opacity: at every place of a disk the colour of the vector that points
        there from the middle, x down and y to the right.
    """
    at = np.linspace(-1, 1, size)
    z = at[:, None] + 1j * at[None, :]
    wheel = np.zeros((size, size, 4), dtype=np.uint8)
    wheel[..., :3] = fast_complex_colors(z, 1.0)
    wheel[..., 3] = np.clip((1 - np.abs(z)) * size / 2 * 255, 0, 255)
    return wheel
