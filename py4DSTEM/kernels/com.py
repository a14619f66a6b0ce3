"""Where the intensity of each pattern lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .api import Float
from .detectors import compile_detectors
from .measure import measure


def center_of_mass(frames: ArrayLike, weights: ArrayLike | None = None) -> Float:
    """Intensity-weighted mean position of each pattern.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Counts or intensities; any numeric dtype.
    weights : (Qx, Qy) float, optional
        Multiplied into every pattern.

    Returns
    -------
    (n, 2) float64
        Pixels, array order. NaN where the weighted sum of a pattern is not above zero.

    Notes
    -----
    ``c = Σ i·w·I / Σ w·I`` over the finite pixels (doi:10.1016/j.ultramic.2015.10.011).

    Examples
    --------
    >>> frames = np.zeros((1, 4, 4))
    >>> frames[0, 1, 2] = frames[0, 1, 3] = 5
    >>> center_of_mass(frames).tolist()
    [[1.0, 2.5]]
    """
    if weights is None:
        m = measure(frames, moments=True)
        return centers(m.total, m.moment_x, m.moment_y)
    w = np.asarray(weights, dtype=np.float64)
    i, j = np.indices(w.shape)
    sums = measure(frames, compile_detectors(np.stack([w, w * i, w * j]))).detectors
    return centers(*sums.T)


def centers(total: Float, moment_x: Float, moment_y: Float) -> Float:
    """(n, 2) moments over total, NaN where the total is not above zero."""
    out = np.full((len(total), 2), np.nan)
    usable = total > 0
    np.divide(moment_x, total, out=out[:, 0], where=usable)
    np.divide(moment_y, total, out=out[:, 1], where=usable)
    return out
