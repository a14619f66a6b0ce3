"""Non-negative shares of a few patterns in many lists of peaks, all lists at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["decompose", "nonnegative"]

Float = NDArray[np.float64]
_SWEEPS = 200
_ROUNDS = 4
_NU = 3.0


def nonnegative(normal: Float, right: Float) -> Float:
    """Minimise ``x N x / 2 − b x`` over ``x ≥ 0`` for many small systems by coordinate descent.

    Parameters
    ----------
    normal : (P, m, m) float64
        Positive semidefinite.
    right : (P, m) float64

    Returns
    -------
    (P, m) float64

    Examples
    --------
    >>> nonnegative(np.array([[[2.0, 1.0], [1.0, 2.0]]]), np.array([[2.0, -1.0]])).tolist()
    [[1.0, 0.0]]
    """
    x = np.zeros_like(right)
    diagonal = np.einsum("pii->pi", normal)
    for _ in range(_SWEEPS):
        before = x.copy()
        for k in range(right.shape[1]):
            slope = right[:, k] - np.einsum("pi,pi->p", normal[:, k], x)
            step = np.divide(slope, diagonal[:, k], out=np.zeros(len(x)), where=diagonal[:, k] > 0)
            x[:, k] = np.maximum(x[:, k] + step, 0.0)
        if (np.abs(x - before) <= 1e-12 * (1e-300 + x.max(axis=1, keepdims=True))).all():
            break
    return x


def decompose(
    measured: Float,
    patterns: Float,
    position: NDArray[np.int64],
    count: int,
    *,
    scatter: float,
    floor: float,
) -> tuple[Float, Float]:
    """How much of each pattern every list of peaks holds.

    Parameters
    ----------
    measured : (n,) float64
        Intensities of peaks.
    patterns : (n, m) float64
        Intensity of each pattern at each peak; 0: none.
    position : (n,) int64
        List that each peak belongs to, 0 … count − 1.
    scatter : float
        Standard deviation of the logarithm of intensities about the model.
    floor : float
        Intensity at which peaks are just found.

    Returns
    -------
    (count, m) float64, (count, m, m) float64
        Scales, and their covariance (zero for patterns without share).

    Notes
    -----
    Errors are relative, so that squares are divided by ``(scatter model)² + floor²``: with a model
    of the round before, and less for peaks that are far off (Student's t).  Peaks of no pattern
    do not count.
    """
    used = patterns.sum(axis=1) > 0
    y, A, p = measured[used], patterns[used], position[used]
    model = y.copy()
    off = np.zeros(len(y))
    scales = np.zeros((count, A.shape[1]))
    normal = np.zeros((count, A.shape[1], A.shape[1]))
    for _ in range(_ROUNDS):
        weight = 1.0 / ((scatter * model) ** 2 + floor**2)
        weight *= (_NU + 1) / (_NU + off**2 * weight)
        normal = _sums(p, weight[:, None, None] * A[:, :, None] * A[:, None, :], count)
        right = _sums(p, (weight * y)[:, None] * A, count)
        scales = nonnegative(normal, right)
        fitted = (A * scales[p]).sum(axis=1)
        # Half of the way: where model and peak differ much, neither is a good weight.
        model, off = np.sqrt(np.maximum(fitted, floor) * np.maximum(model, floor)), y - fitted
    return scales, _covariance(normal, scales)


def _sums(position: NDArray[np.int64], values: Float, count: int) -> Float:
    """Sums over the peaks of each list."""
    out = np.zeros((count, *values.shape[1:]))
    np.add.at(out, position, values)
    return out


def _covariance(normal: Float, scales: Float) -> Float:
    """Inverse of the part of the normal matrices that is in use."""
    m = scales.shape[1]
    active = scales > 0
    both = active[:, :, None] & active[:, None, :]
    size = np.einsum("pii->pi", normal)
    unit = np.sqrt(np.where(active & (size > 0), size, 1.0))
    outer = unit[:, :, None] * unit[:, None, :]
    # Patterns that are alike have no shares of their own: the ridge keeps that finite.
    scaled = np.where(both, normal / outer, 0.0) + np.eye(m) * 1e-9
    scaled = np.where(np.eye(m, dtype=bool) & ~active[:, :, None], 1.0, scaled)
    return np.asarray(np.where(both, np.linalg.inv(scaled) / outer, 0.0))
