"""Where to start: defocus and rotation by trying all, for all that is bright in the images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.stream.parallel import in_threads

__all__ = ["best_turned_defocus", "strongest"]

Float = NDArray[np.float64]
_COMPONENTS = 100
_FINENESS = 0.2  # of a period of the typical component, at the rim of the disk
_MOST = 40  # trials on either side of zero, along both axes


def strongest(values: NDArray[np.complex64], count: int = _COMPONENTS) -> NDArray[np.intp]:
    """Components with most power, all images together."""
    power = (np.abs(values) ** 2).sum(axis=1)
    chosen: NDArray[np.intp] = np.sort(np.argsort(power)[-count:])
    return chosen


def best_turned_defocus(
    values: NDArray[np.complex64], alpha: Float, q: Float, farthest: float
) -> tuple[float, float, float]:
    """The ``C10 (cos δ, sin δ)`` (Å) that aligns the images best, and how well.

    Parameters
    ----------
    values : (m, n) complex64
        Component q of image n.
    alpha : (n, 2) float64
        Angles, rad.
    q : (m, 2) float64
        Cycles per Å.
    farthest : float
        Largest displacement to try, Å.

    Notes
    -----
    The phase ``2π (a α·q + b α×q)`` is a sum of what depends on a and what depends on b: each
    component is one product of matrices for all pairs (a, b).
    """
    from py4DSTEM.kernels.parallax import aligned_power

    rim = float(np.hypot(*alpha.T).max())
    power = (np.abs(values) ** 2).sum(axis=1)
    typical = math.sqrt(float((power * (q**2).sum(1)).sum() / max(power.sum(), 1e-300)))
    step = _FINENESS / typical
    trials = np.arange(-_MOST, _MOST + 1) * step
    trials = trials[np.abs(trials) <= farthest] / rim
    along = q @ alpha.T
    across = q[:, 1:] * alpha[:, 0] - q[:, :1] * alpha[:, 1]

    def part(index: NDArray[np.intp]) -> Float:
        return aligned_power(values[index], along[index], across[index], trials)

    merit = sum(in_threads(part, np.array_split(np.arange(len(q)), 4)))
    a, b = np.unravel_index(int(np.argmax(merit)), np.shape(merit))
    return float(trials[a]), float(trials[b]), float(np.max(merit))
