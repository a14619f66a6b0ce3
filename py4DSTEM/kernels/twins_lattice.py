"""The twin of the lattice fit: plain numpy, one position after the other."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .api import Float, LatticeFits

_FARTHEST, _ROUNDS, _SETTLED = 0.25, 20, 1e-3
_NO_POINTS, _TOO_FEW, _ONE_LINE, _FAR = 1, 2, 3, 4


def fit_lattices(
    points: Float,
    covariances: Float,
    strength: Float,
    offsets: NDArray[np.int64],
    origins: Float,
    matrix: ArrayLike,
    starts: Float,
    todo: NDArray[np.bool_] | None = None,
    *,
    max_distance: float,
    min_count: int = 4,
    huber: float = math.inf,
    reject: float = math.inf,
) -> LatticeFits:
    """Twin of `py4DSTEM.kernels.lattice.fit_lattices`."""
    count, n = len(offsets) - 1, len(points)
    out = LatticeFits(
        np.full((count, 6), np.nan), np.full((count, 6, 6), np.nan), np.full(count, np.nan),
        np.full(count, np.nan), np.zeros(count, np.int64), np.full(count, _NO_POINTS, np.uint8),
        np.zeros((count, 2)), np.zeros((n, 2), np.int32), np.full(n, np.nan),
    )  # fmt: skip
    m = np.asarray(matrix, float)
    spread = m @ covariances[:, [0, 1, 1, 2]].reshape(-1, 2, 2) @ m.T
    position = np.repeat(np.arange(count), np.diff(offsets))
    vectors = (points - np.asarray(origins)[position]) @ m.T
    usable = np.isfinite(vectors).all(1) & np.isfinite(spread).all((1, 2))
    usable &= np.linalg.det(np.where(usable[:, None, None], spread, 0.0)) > 0
    for p in range(count):
        rows = np.flatnonzero(usable[offsets[p] : offsets[p + 1]]) + offsets[p]
        if (todo is not None and not todo[p]) or not len(rows):
            continue
        fit = np.vstack([np.zeros(2), starts[p]])
        hk, w = _approach(vectors[rows], strength[rows], fit, max_distance, min_count)
        inverse = np.linalg.inv(spread[rows])
        reason, fit, covariance, far = _refine(
            vectors[rows], inverse, hk, w, min_count, huber, reject
        )
        if reason == 0 and abs(np.linalg.inv(starts[p]) @ fit[1:] - np.eye(2)).max() > _FARTHEST:
            reason = _FAR
        on = (w > 0) & (reason == 0)
        total = strength[rows].sum()
        out.reason[p], out.count[p] = reason, on.sum()
        out.beside[p] = strength[rows][~on].sum() / total if total > 0 else 0.0, (~on).sum()
        out.indices[rows], out.distance[rows] = hk, np.where(on, far, np.nan)
        if reason == 0:
            out.parameters[p], out.covariance[p] = fit.ravel(), covariance
            weight = w * np.trace(inverse, axis1=1, axis2=2)
            square = ((vectors[rows] - _design(hk) @ fit) ** 2).sum(1)
            out.residual[p] = math.sqrt((weight * square).sum() / weight.sum())
            if on.sum() > 3:
                out.chi2[p] = (w * far**2).sum() / (2 * on.sum() - 6)
    return out


def _design(hk: Float) -> Float:
    return np.column_stack([np.ones(len(hk)), hk])


def _index(v: Float, fit: Float, max_distance: float) -> tuple[Float, Float]:
    """Nearest indices of each vector, and 1 where it is near, else 0."""
    hk = np.rint((v - fit[0]) @ np.linalg.inv(fit[1:]))
    distance = np.linalg.norm(v - _design(hk) @ fit, axis=1)
    return hk, (distance <= max_distance).astype(float)


def _line(hk: Float) -> bool:
    """Whether indices lie on one line."""
    return len(hk) < 3 or np.linalg.matrix_rank(hk - hk[0]) < 2


def _approach(
    v: Float, strength: Float, fit: Float, max_distance: float, min_count: int
) -> tuple[Float, Float]:
    """Indices (n, 2), and 1 for vectors on the lattice, else 0; `fit` becomes the lattice."""
    hk, w = _index(v, fit, max_distance)
    if w @ strength < 0.5 * strength.sum() or w.sum() < min(len(v), min_count):
        fit[0] = _best_offset(v, strength, fit, max_distance)
        hk, w = _index(v, fit, max_distance)
    _fit_equal(v, hk, (w > 0) & (abs(hk) <= 1).all(1), fit, 4)
    for _ in range(3):
        before = hk, w
        hk, w = _index(v, fit, max_distance)
        if np.array_equal(hk, before[0]) and np.array_equal(w, before[1]):
            break
        _fit_equal(v, hk, w > 0, fit, min_count)
    return hk, w


def _fit_equal(v: Float, hk: Float, chosen: NDArray[np.bool_], fit: Float, fewest: int) -> None:
    if chosen.sum() >= fewest and not _line(hk[chosen]):
        fit[:] = np.linalg.lstsq(_design(hk[chosen]), v[chosen])[0]


def _best_offset(v: Float, strength: Float, fit: Float, max_distance: float) -> Float:
    explained = [_index(v, np.vstack([a, fit[1:]]), max_distance)[1] @ strength for a in v]
    anchor = v[int(np.argmax(explained))]
    nearest: Float = anchor - np.rint(anchor @ np.linalg.inv(fit[1:])) @ fit[1:]
    return nearest


def _refine(
    v: Float, inverse: Float, hk: Float, w: Float, min_count: int, huber: float, reject: float
) -> tuple[int, Float, Float, Float]:
    """Reason, lattice (3, 2), covariance (6, 6), distances; `w` becomes the final weights."""
    near = w > 0
    fit, covariance, far = np.full((3, 2), np.nan), np.full((6, 6), np.nan), np.full(len(v), np.nan)
    for _ in range(_ROUNDS):
        if reason := _too_few(hk, w, min_count):
            return reason, fit, covariance, far
        fit, covariance = _solve(v, inverse, hk, w)
        d = v - _design(hk) @ fit
        far = np.sqrt(np.einsum("ni,nij,nj->n", d, inverse, d))
        new = np.where(far <= huber, 1.0, np.where(far <= reject, huber / far, 0.0)) * near
        change = abs(new - w).max()
        w[:] = new
        if change < _SETTLED:
            break
    return _too_few(hk, w, min_count), fit, covariance, far


def _too_few(hk: Float, w: Float, min_count: int) -> int:
    if (w > 0).sum() < min_count:
        return _TOO_FEW
    return _ONE_LINE if _line(hk[w > 0]) else 0


def _solve(v: Float, inverse: Float, hk: Float, w: Float) -> tuple[Float, Float]:
    """Weighted least squares of the lattice (3, 2), and its covariance (6, 6)."""
    design = np.kron(_design(hk), np.eye(2)).reshape(len(v), 2, 6)
    weighted = w[:, None, None] * np.einsum("nij,njk->nik", inverse, design)
    covariance = np.linalg.inv(np.einsum("nia,nib->ab", design, weighted))
    fit = covariance @ np.einsum("nia,ni->a", weighted, v)
    return fit.reshape(3, 2), covariance
