"""Fits of scikit-learn that say in their result, not in a warning, that they did not converge."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

__all__ = ["fitted"]

T = TypeVar("T")


def fitted(fit: Callable[[], T]) -> tuple[T, bool]:
    """What `fit` gives, and whether it converged."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConvergenceWarning)
        result = fit()
    return result, not any(issubclass(w.category, ConvergenceWarning) for w in caught)
