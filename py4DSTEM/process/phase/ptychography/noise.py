"""How far counting noise alone keeps patterns from their model."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["expected_misfit"]

Float = NDArray[np.float64]
_LARGEST = 64.0
"""Up to here from a table; beyond, the series is exact to 1e-4."""
_POINTS = 512


def expected_misfit(counts: ArrayLike) -> Float:
    """``E(√n − √λ)²`` for Poisson counts n of mean λ, element by element.

    Parameters
    ----------
    counts : array
        λ ≥ 0.

    Returns
    -------
    array of float64
        About 2λ for small λ, at most 0.46 near 1.1, and 1/4 for large λ.

    Notes
    -----
    ``2λ − 2√λ E√n``; for large λ ``1/4 + 7/(64λ)``, from ``E√n = √λ (1 − 1/8λ − 7/128λ² …)``.

    Examples
    --------
    >>> expected_misfit([0.0, 0.01, 1.1, 1e6]).round(3).tolist()
    [0.0, 0.018, 0.455, 0.25]
    """
    value = np.asarray(counts, np.float64)
    roots, table = _table()
    small = 2 * value * (1 - np.interp(np.sqrt(value), roots, table))
    large = 0.25 + 7 / (64 * np.maximum(value, _LARGEST))
    return np.where(value < _LARGEST, small, large)


@cache
def _table() -> tuple[Float, Float]:
    """√λ, and ``E√n / √λ`` there, which is smooth and zero where λ is."""
    roots = np.linspace(0, np.sqrt(_LARGEST), _POINTS)
    n = np.arange(0, 200)
    mean = roots[1:, None] ** 2
    root = (stats.poisson.pmf(n, mean) * np.sqrt(n)).sum(axis=1)
    return roots, np.concatenate([[0.0], root / roots[1:]])
