"""Which pixels of a detector are defective, from images over a scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "counting_noise",
    "dead_pixels",
    "hot_pixels",
    "neighbour_middle",
    "neighbour_ranks",
    "sharpness_sigma",
]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
LEAST_COUNTS = 25
"""Expected counts above which a pixel that never counted is dead (chance e⁻²⁵)."""
CONTRAST = 5.0
"""How many times a hot pixel stands out more than its neighbours among themselves."""


def neighbour_ranks(image: Float, *ranks: int) -> tuple[Float, ...]:
    """The given order statistics (0 … 7) of the eight neighbours of each pixel, each (Qx, Qy).

    Beyond its edge the image goes on as its own reflection.
    """
    from scipy import ndimage  # slow to import

    wide = np.pad(image, 1, mode="symmetric")
    # A corner pixel would be three of its own neighbours: one too many to be told from them.
    wide[[0, 0, -1, -1], [0, -1, 0, -1]] = image[[1, 1, -2, -2], [1, -2, 1, -2]]
    return tuple(
        ndimage.rank_filter(wide, rank, footprint=NEIGHBOURS)[1:-1, 1:-1] for rank in ranks
    )


def neighbour_middle(image: Float) -> Float:
    """Median of the eight neighbours of each pixel, (Qx, Qy); the image itself if it is tiny."""
    if min(image.shape) < 3:
        return image
    middle: Float = np.mean(neighbour_ranks(image, 3, 4), axis=0)
    return middle


def counting_noise(image: Float, positions: int, counts: bool) -> Float:
    """Poisson noise of a mean of counts, from the neighbours of each pixel; 0 for other data."""
    if not counts:
        return np.zeros_like(image)
    level = neighbour_middle(np.maximum(image, 0.0))
    return np.sqrt((level + 1 / positions) / positions)


def _filled(image: Float) -> Float:
    """Pixels without a value take the median of all others, so that they do not stand out."""
    known = np.isfinite(image)
    return image if known.all() else np.where(known, image, np.median(image[known]))


def sharpness_sigma(image: Float, floor: Float | float = 0.0) -> tuple[Float, Float]:
    """By how many sigma each pixel exceeds the median of its eight neighbours.

    Parameters
    ----------
    image : (Qx, Qy) float64
    floor : (Qx, Qy) float64 or float
        Noise that is known to be there at least.

    Returns
    -------
    excess, sigma : (Qx, Qy) float64
        The difference, and the noise that it is to be compared with.

    Notes
    -----
    ``σ² = s² (m + ε)`` with m the median of the neighbours: noise that grows with the square root
    of the signal; s is 1.4826 times the median of ``|excess| / √(m + ε)`` over the detector.
    """
    middle = neighbour_middle(image)
    excess = image - middle
    level = np.maximum(middle, 0.0)
    scale = np.sqrt(level + max(1e-3 * float(level.mean()), np.finfo(float).tiny))
    relative = np.abs(excess) / scale
    spread = 1.4826 * float(np.median(relative))
    if spread == 0:  # most pixels equal their neighbours: use those that do not
        spread = 1.2533 * float(relative[relative <= np.quantile(relative, 0.995)].mean())
    return excess, np.maximum(np.maximum(spread * scale, floor), 1e-9 * float(level.max()))


def hot_pixels(image: Float, threshold_sigma: float = 8.0, floor: Float | float = 0.0) -> Bool:
    """Single pixels, or pairs, far brighter than all around them.

    Parameters
    ----------
    image : (Qx, Qy) float64
        Usually the mean pattern.
    threshold_sigma : float
        See `sharpness_sigma`.
    floor : (Qx, Qy) float64 or float
        Noise that is known to be there at least, in the unit of the image.

    Returns
    -------
    (Qx, Qy) bool

    Notes
    -----
    A diffraction peak is bright too, but shares its light with its neighbours: a pixel is hot only
    where its excess is also five times larger than the spread of its neighbours (third largest
    less second smallest of eight, so that one of them may be hot, another one dead).
    """
    if min(image.shape) < 3 or not np.isfinite(image).any():
        return np.zeros(image.shape, bool)
    work, found = _filled(image).copy(), np.zeros(image.shape, bool)
    for _ in range(4):  # taking the brightest away uncovers those beside it
        excess, sigma = sharpness_sigma(work, floor)
        third, second = neighbour_ranks(work, 5, 1)
        hot = (excess > threshold_sigma * sigma) & (excess > CONTRAST * (third - second))
        if not hot.any():
            break
        found |= hot
        work[hot] -= excess[hot]
    return found & np.isfinite(image)


def dead_pixels(mean: Float, std: Float, positions: int, counts: bool) -> Bool:
    """Pixels that never change while their neighbours do.

    Parameters
    ----------
    mean, std : (Qx, Qy) float64
        Over the scan.
    positions : int
        Patterns that they were made of.
    counts : bool
        Whether values are counts: then neighbours must have counted often enough for the silence
        to be no accident.

    Returns
    -------
    (Qx, Qy) bool
    """
    if min(mean.shape) < 3 or positions < 2 or not np.isfinite(mean).any():
        return np.zeros(mean.shape, bool)
    constant = std <= 1e-5 * np.abs(mean)
    lively = neighbour_middle(_filled(std)) > 0
    level = neighbour_middle(_filled(mean))
    expected = level * positions > LEAST_COUNTS if counts else lively
    return constant & lively & expected & np.isfinite(mean)
