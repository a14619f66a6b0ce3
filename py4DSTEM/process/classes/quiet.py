"""How fits of scikit-learn are run: in one thread, and without warnings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["fitted", "single_threaded"]

T = TypeVar("T")


def fitted(fit: Callable[[], T]) -> tuple[T, bool]:
    """What `fit` gives, and whether it converged, which is said by a warning otherwise."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConvergenceWarning)
        result = fit()
    return result, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Within, linear algebra and fits use one thread.

    The bits of the result then do not depend on the number of cores, and where other programs use
    the cores, nobody waits, spinning, for a thread that has none.
    """
    import sklearn.cluster
    import sklearn.decomposition  # noqa: F401  (what is not loaded yet cannot be limited)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield
