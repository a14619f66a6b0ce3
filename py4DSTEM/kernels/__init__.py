"""Numerical primitives on bare arrays: frames in, numbers out.

`compiled` gives the fast set, `reference` the slow and obvious one that defines it. numba is
imported when the compiled set is first asked for.
"""

from __future__ import annotations

from functools import cache

from .api import Kernels, Measured

__all__ = ["Kernels", "Measured", "compiled", "reference"]


@cache
def compiled() -> Kernels:
    """The numba kernels; each compiles on first use and is kept in a cache on disk."""
    from .detectors import compile_detectors
    from .measure import measure

    return Kernels(compile_detectors=compile_detectors, measure=measure)


@cache
def reference() -> Kernels:
    """The numpy twins: slow, plain, and the definition of what the compiled kernels do."""
    from . import twins

    return Kernels(**{name: getattr(twins, name) for name in Kernels.__dataclass_fields__})
