"""How long steps are: shorter as soon as noise, and no longer the error, tells where they go."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pace", "moved"]

F32 = NDArray[np.float32]
LEAST = 1 / 32
TURNS = -0.1
FALLS = 0.01
"""Share by which the error still falls from one iteration to the next while it is not noise that
turns the object back, but a step that went too far."""


@dataclass(frozen=True, eq=False)
class Pace:
    """The share of its steps that a state takes, and the way that its object went last.

    Parameters
    ----------
    share : float
    move : (slices, 2, rows, columns) float32, optional
        Of the object in the last iteration, as `moved` tells it.
    error : float
        In the last iteration.

    Notes
    -----
    Steps of a constant length end in noise: batches that differ pull the object hither and
    thither, and an iteration takes back half of what the one before did, so that moves correlate
    by −1/2.  As long as there is something to gain, it goes on in the same direction.  Where the
    correlation is below `TURNS`, and the error hardly falls any more, noise has taken over, and
    steps become shorter (as with the inner product of gradients in Chee and Toulis,
    arXiv:1710.06382).
    """

    share: float = 1.0
    move: F32 | None = None
    error: float = math.inf

    def after(self, move: F32, error: float, shrink: float) -> Pace:
        """The pace after another move of the object.

        >>> pace = Pace().after(np.array([1.0, 0.5]), 9.0, 0.5)
        >>> pace = pace.after(np.array([0.4, 0.2]), 8.9, 0.5)
        >>> pace.share, pace.after(np.array([-0.2, 0.1]), 8.89, 0.5).share
        (1.0, 0.5)
        """
        falls = error < (1 - FALLS) * self.error
        back = self.move is not None and _correlation(self.move, move) < TURNS and not falls
        return Pace(max(self.share * shrink, LEAST) if back else self.share, move, error)


def moved(before: F32, after: F32) -> F32:
    """How an object (slices, 2, rows, columns) changed, but for a factor on each slice.

    Object and probe exchange factors for many iterations, which says nothing of noise.

    >>> waves = np.array([[[[1.0, 2.0]], [[0.5, -1.0]]]])
    >>> abs(moved(waves, 1.1 * waves)).max() < 1e-12
    np.True_
    """
    change = after - before
    power = np.einsum("spxy,spxy->s", after, after)
    real = np.einsum("spxy,spxy->s", after, change) / power
    imaginary = np.einsum("sxy,sxy->s", after[:, 0], change[:, 1])
    imaginary = (imaginary - np.einsum("sxy,sxy->s", after[:, 1], change[:, 0])) / power
    a, b = real[:, None, None], imaginary[:, None, None]
    factors = np.stack(
        [a * after[:, 0] - b * after[:, 1], a * after[:, 1] + b * after[:, 0]], axis=1
    )
    rest: F32 = change - factors
    return rest


def _correlation(one: F32, other: F32) -> float:
    powers = float(np.vdot(one, one)) * float(np.vdot(other, other))
    return float(np.vdot(one, other)) / math.sqrt(powers) if powers > 0 else 0.0
