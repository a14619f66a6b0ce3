"""A few numbers that sum an image up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Summary", "summary"]


@dataclass(frozen=True)
class Summary:
    """Of the finite values of an image; NaN where there are none.

    Parameters
    ----------
    low, mean, high : float
    deviation : float
        Standard deviation, of the values themselves (not of a sample).
    missing : int
        Values that are NaN or infinite.
    """

    low: float
    mean: float
    high: float
    deviation: float
    missing: int


def summary(image: ArrayLike) -> Summary:
    """Least, mean, largest value and spread of an image.

    Parameters
    ----------
    image : real or complex array
        Of complex values, the magnitudes count.

    Returns
    -------
    Summary

    Examples
    --------
    >>> summary([[1, 2], [3, np.nan]])
    Summary(low=1.0, mean=2.0, high=3.0, deviation=0.816496580927726, missing=1)
    """
    values = np.asarray(image)
    values = np.abs(values) if values.dtype.kind == "c" else values.astype(np.float64, copy=False)
    known = values[np.isfinite(values)]
    missing = int(values.size - known.size)
    if not known.size:
        return Summary(np.nan, np.nan, np.nan, np.nan, missing)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = known.min(), known.mean(), known.max(), known.std()
    low, mean, high, deviation = map(float, numbers)
    return Summary(low, mean, high, deviation, missing)
