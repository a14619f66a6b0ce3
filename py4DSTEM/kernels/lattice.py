"""Lattices fitted to the points of many positions, each on its own."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ShapeError
from ._jit import njit
from .api import Float, LatticeFits

NO_POINTS, TOO_FEW, ONE_LINE, FAR = 1, 2, 3, 4
"""Why there is no fit; 0 where there is one."""
FARTHEST = 0.25
"""Largest change of a lattice, relative to itself, between start and fit."""
ROUNDS = 20
"""Most rounds of reweighting."""
SETTLED = 1e-3
"""Weights that change by less are final."""


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
    """Index the points of every position and fit origin, g1 and g2 by weighted least squares.

    Parameters
    ----------
    points : (n, 2) float64
        Raw coordinates; those that are not finite are left out.
    covariances : (n, 3) float64
        Variance along x, covariance, variance along y of each point, in raw units.
    strength : (n,) float64
        How much each point counts for whether the lattice explains the position.
    offsets : (P + 1,) int64
        Position p holds the rows ``offsets[p] : offsets[p + 1]``.
    origins : (P, 2) float64
        Raw origin of each position.
    matrix : (2, 2) float64
        From raw offsets to the space of the lattice: ``v = M (point - origin)``.
    starts : (P, 2, 2) float64
        g1 and g2 (rows) to begin with, in the space of the lattice.
    todo : (P,) bool, optional
        Positions to fit; others come back as without points.
    max_distance : float
        Farthest from a lattice point that a point may lie, in the space of the lattice.
    min_count : int
        Fewest points on the lattice.
    huber, reject : float
        Distances in standard deviations from which a point counts less (``huber / distance``), and
        not at all.

    Returns
    -------
    LatticeFits

    Notes
    -----
    Model ``v = o + h g1 + k g2``.  The points of the first ring are indexed with the start and
    fitted with equal weights; then all, until the indices stay (at most three times), so that a
    lattice that differs by a few per cent from the start is still followed to high indices.  Where
    the start explains less than half of the strength, the offset that explains most is taken first.
    The last fit minimises ``Σ w dᵀ C⁻¹ d`` with ``w = 1`` below `huber`, iterated
    (doi:10.1214/aoms/1177703732); the covariance is the inverse of its normal matrix, and
    ``chi2 = Σ w dᵀ C⁻¹ d / (2 n - 6)``.
    """
    n, count = len(points), len(offsets) - 1
    shapes = {
        "points": (points.shape, (n, 2)),
        "covariances": (covariances.shape, (n, 3)),
        "strength": (strength.shape, (n,)),
        "origins": (origins.shape, (count, 2)),
        "starts": (starts.shape, (count, 2, 2)),
    }
    for name, (got, expected) in shapes.items():
        if got != expected:
            raise ShapeError(f"{name} must have the shape {expected}, not {got}")
    out = empty_fits(count, n)
    _fit_all(
        *(np.ascontiguousarray(a, np.float64) for a in (points, covariances, strength)),
        np.ascontiguousarray(offsets, np.int64),
        np.ascontiguousarray(origins, np.float64),
        np.ascontiguousarray(matrix, np.float64),
        np.ascontiguousarray(starts, np.float64).reshape(count, 4),
        np.ones(count, np.bool_) if todo is None else np.ascontiguousarray(todo, np.bool_),
        float(max_distance),
        int(min_count),
        float(huber),
        float(reject),
        *out,
    )  # fmt: skip
    return out


def empty_fits(count: int, n: int) -> LatticeFits:
    """What positions without points give."""
    return LatticeFits(
        parameters=np.full((count, 6), np.nan),
        covariance=np.full((count, 6, 6), np.nan),
        residual=np.full(count, np.nan),
        chi2=np.full(count, np.nan),
        count=np.zeros(count, np.int64),
        reason=np.full(count, NO_POINTS, np.uint8),
        beside=np.zeros((count, 2)),
        indices=np.zeros((n, 2), np.int32),
        distance=np.full(n, np.nan),
    )


@njit(nogil=True, cache=True)
def _fit_all(
    points, covariances, strength, offsets, origins, matrix, starts, todo,
    max_distance, min_count, huber, reject,
    parameters, covariance, residual, chi2, counts, reasons, beside, indices, distance,
):  # fmt: skip
    most = 1
    for p in range(len(todo)):
        most = max(most, offsets[p + 1] - offsets[p])
    row = np.empty(most, np.int64)  # rows of the table that are finite
    v = np.empty((most, 2))  # vectors
    weight = np.empty((most, 3))  # their inverse covariances
    hk = np.empty((most, 2))
    w = np.empty(most)  # 0: not on the lattice
    far = np.empty(most)  # distance in standard deviations
    normal, inverse = np.empty((6, 6)), np.empty((6, 6))
    rhs, fit = np.empty(6), np.empty(6)
    for p in range(len(todo)):
        if not todo[p]:
            continue
        m = _load(
            points, covariances, offsets[p], offsets[p + 1], origins[p], matrix, row, v, weight
        )
        if m == 0:
            reasons[p] = NO_POINTS
            continue
        fit[:2] = 0.0
        fit[2:] = starts[p]
        _approach(v, strength, row, m, fit, hk, w, max_distance, min_count)
        reason = _refine(
            v, weight, m, fit, hk, w, far, normal, inverse, rhs, min_count, huber, reject
        )
        if reason == 0 and _changed(starts[p], fit) > FARTHEST:
            reason = FAR
        reasons[p] = reason
        counts[p] = _told_apart(
            strength, row, m, hk, w, far, reason == 0, indices, distance, beside[p]
        )
        if reason != 0:
            continue
        parameters[p] = fit
        covariance[p] = inverse
        residual[p], sum_far = _scatter(v, weight, m, fit, hk, w, far)
        if counts[p] > 3:
            chi2[p] = sum_far / (2 * counts[p] - 6)


@njit(nogil=True, cache=True)
def _told_apart(strength, row, m, hk, w, far, fitted, indices, distance, beside):
    """How many points are on the lattice; `beside`: the share and the number of the others."""
    total = lost = missed = 0.0
    count = 0
    for i in range(m):
        total += strength[row[i]]
        indices[row[i], 0], indices[row[i], 1] = int(hk[i, 0]), int(hk[i, 1])
        if w[i] > 0.0 and fitted:
            count += 1
            distance[row[i]] = far[i]
        else:
            missed += 1.0
            lost += strength[row[i]]
    beside[0] = lost / total if total > 0.0 else 0.0
    beside[1] = missed
    return count


@njit(nogil=True, cache=True)
def _scatter(v, weight, m, fit, hk, w, far):
    """Rms deviation, and the sum of squares in standard deviations."""
    square, sum_w, sum_far = 0.0, 0.0, 0.0
    for i in range(m):
        if w[i] > 0.0:
            dx, dy = _deviation(v, hk, fit, i)
            # Weights of the rms: the mean inverse variance of the two axes.
            u = w[i] * (weight[i, 0] + weight[i, 2])
            square += u * (dx * dx + dy * dy)
            sum_w += u
            sum_far += w[i] * far[i] * far[i]
    return math.sqrt(square / sum_w), sum_far


@njit(nogil=True, cache=True)
def _load(points, covariances, first, last, origin, matrix, row, v, weight):
    """Finite points as vectors with inverse covariances; how many there are."""
    a, b, c, d = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
    m = 0
    for i in range(first, last):
        x, y = points[i, 0] - origin[0], points[i, 1] - origin[1]
        xx, xy, yy = covariances[i, 0], covariances[i, 1], covariances[i, 2]
        vxx = a * a * xx + 2 * a * b * xy + b * b * yy
        vxy = a * c * xx + (a * d + b * c) * xy + b * d * yy
        vyy = c * c * xx + 2 * c * d * xy + d * d * yy
        det = vxx * vyy - vxy * vxy
        if not (math.isfinite(x) and math.isfinite(y) and det > 0.0 and math.isfinite(det)):
            continue
        row[m] = i
        v[m, 0], v[m, 1] = a * x + b * y, c * x + d * y
        weight[m, 0], weight[m, 1], weight[m, 2] = vyy / det, -vxy / det, vxx / det
        m += 1
    return m


@njit(nogil=True, cache=True)
def _approach(v, strength, row, m, fit, hk, w, max_distance, min_count):
    """Index from the inside outwards, with fits of equal weights between, until nothing changes."""
    w[:m] = -1.0
    _index(v, m, fit, hk, w, max_distance)
    total = explained = hits = 0.0
    for i in range(m):
        total += strength[row[i]]
        explained += w[i] * strength[row[i]]
        hits += w[i]
    if explained < 0.5 * total or hits < min(m, min_count):
        _best_offset(v, strength, row, m, fit, max_distance)
        _index(v, m, fit, hk, w, max_distance)
    _fit_equal(v, m, hk, w, fit, 4, 1.0)
    for _ in range(3):
        if not _index(v, m, fit, hk, w, max_distance):
            break
        _fit_equal(v, m, hk, w, fit, min_count, math.inf)


@njit(nogil=True, cache=True)
def _index(v, m, fit, hk, w, max_distance):
    """Nearest lattice point of each, and w = 1 where it is near, else 0; whether any changed."""
    det = 1.0 / (fit[2] * fit[5] - fit[3] * fit[4])
    hx, hy, kx, ky = fit[5] * det, -fit[4] * det, -fit[3] * det, fit[2] * det
    limit = max_distance * max_distance
    changed = False
    for i in range(m):
        x, y = v[i, 0] - fit[0], v[i, 1] - fit[1]
        h, k = np.rint(x * hx + y * hy), np.rint(x * kx + y * ky)
        x -= h * fit[2] + k * fit[4]
        y -= h * fit[3] + k * fit[5]
        near = 1.0 if x * x + y * y <= limit else 0.0
        changed |= h != hk[i, 0] or k != hk[i, 1] or near != w[i]
        hk[i, 0], hk[i, 1], w[i] = h, k, near
    return changed


@njit(nogil=True, cache=True)
def _best_offset(v, strength, row, m, fit, max_distance):
    """Of the offsets that put one point on the lattice, the one that explains most."""
    det = fit[2] * fit[5] - fit[3] * fit[4]
    best, best_x, best_y = -1.0, 0.0, 0.0
    for anchor in range(m):
        ax, ay = v[anchor, 0], v[anchor, 1]
        explained = 0.0
        for i in range(m):
            x, y = v[i, 0] - ax, v[i, 1] - ay
            h = np.rint((x * fit[5] - y * fit[4]) / det)
            k = np.rint((fit[2] * y - fit[3] * x) / det)
            x -= h * fit[2] + k * fit[4]
            y -= h * fit[3] + k * fit[5]
            if x * x + y * y <= max_distance * max_distance:
                explained += strength[row[i]]
        if explained > best:
            h = np.rint((ax * fit[5] - ay * fit[4]) / det)
            k = np.rint((fit[2] * ay - fit[3] * ax) / det)
            best = explained
            best_x, best_y = ax - h * fit[2] - k * fit[4], ay - h * fit[3] - k * fit[5]
    fit[0], fit[1] = best_x, best_y


@njit(nogil=True, cache=True)
def _spread(m, hk, w, reach):
    """Points with weight and |h|, |k| <= reach, their mean index, scatter: n, h, k, hh, hk, kk."""
    n = sh = sk = shh = shk = skk = 0.0
    for i in range(m):
        h, k = hk[i, 0], hk[i, 1]
        if w[i] > 0.0 and abs(h) <= reach and abs(k) <= reach:
            n += 1.0
            sh += h
            sk += k
            shh += h * h
            shk += h * k
            skk += k * k
    if n == 0.0:
        return n, 0.0, 0.0, 0.0, 0.0, 0.0
    return n, sh / n, sk / n, shh - sh * sh / n, shk - sh * sk / n, skk - sk * sk / n


@njit(nogil=True, cache=True)
def _on_one_line(n, hh, hk, kk):
    # The indices are integers: points that span an area have n (hh kk - hk²) >= 1.
    return n < 3.0 or n * (hh * kk - hk * hk) < 0.5


@njit(nogil=True, cache=True)
def _fit_equal(v, m, hk, w, fit, fewest, reach):
    """Fit the points within `reach` with equal weights; too few or one line: leave `fit`."""
    n, mean_h, mean_k, hh, mixed, kk = _spread(m, hk, w, reach)
    if n < fewest or _on_one_line(n, hh, mixed, kk):
        return
    det = hh * kk - mixed * mixed
    for c in range(2):
        mean = sh = sk = 0.0
        for i in range(m):
            if w[i] > 0.0 and abs(hk[i, 0]) <= reach and abs(hk[i, 1]) <= reach:
                mean += v[i, c]
                sh += (hk[i, 0] - mean_h) * v[i, c]
                sk += (hk[i, 1] - mean_k) * v[i, c]
        fit[2 + c] = (kk * sh - mixed * sk) / det
        fit[4 + c] = (hh * sk - mixed * sh) / det
        fit[c] = mean / n - fit[2 + c] * mean_h - fit[4 + c] * mean_k


@njit(nogil=True, cache=True)
def _refine(v, weight, m, fit, hk, w, far, normal, inverse, rhs, min_count, huber, reject):
    """Weighted fit of the points with w > 0, reweighted until it settles; the reason if none."""
    near = np.empty(m, np.bool_)
    for i in range(m):
        near[i] = w[i] > 0.0
    for _ in range(ROUNDS):
        n, _h, _k, hh, mixed, kk = _spread(m, hk, w, math.inf)
        if n < min_count:
            return TOO_FEW
        if _on_one_line(n, hh, mixed, kk):
            return ONE_LINE
        _solve(v, weight, m, hk, w, normal, inverse, rhs, fit)
        change = 0.0
        for i in range(m):
            if not near[i]:
                continue
            dx, dy = _deviation(v, hk, fit, i)
            square = weight[i, 0] * dx * dx + 2 * weight[i, 1] * dx * dy + weight[i, 2] * dy * dy
            far[i] = math.sqrt(max(square, 0.0))
            new = 1.0 if far[i] <= huber else (huber / far[i] if far[i] <= reject else 0.0)
            change = max(change, abs(new - w[i]))
            w[i] = new
        if change < SETTLED:
            break
    n, _h, _k, hh, mixed, kk = _spread(m, hk, w, math.inf)
    return TOO_FEW if n < min_count else (ONE_LINE if _on_one_line(n, hh, mixed, kk) else 0)


@njit(nogil=True, cache=True)
def _deviation(v, hk, fit, i):
    h, k = hk[i, 0], hk[i, 1]
    return (
        v[i, 0] - fit[0] - h * fit[2] - k * fit[4],
        v[i, 1] - fit[1] - h * fit[3] - k * fit[5],
    )


@njit(nogil=True, cache=True)
def _solve(v, weight, m, hk, w, normal, inverse, rhs, fit):
    """Solve the normal equations of (o, g1, g2); `inverse` of the normal matrix."""
    # One accumulator for each of 1, h, k, hh, hk, kk times the three elements of the weight.
    axx = axy = ayy = hxx = hxy = hyy = kxx = kxy = kyy = 0.0
    hhxx = hhxy = hhyy = hkxx = hkxy = hkyy = kkxx = kkxy = kkyy = 0.0
    ax = ay = hx = hy = kx = ky = 0.0
    for i in range(m):
        if w[i] == 0.0:
            continue
        h, k = hk[i, 0], hk[i, 1]
        xx, xy, yy = w[i] * weight[i, 0], w[i] * weight[i, 1], w[i] * weight[i, 2]
        x, y = xx * v[i, 0] + xy * v[i, 1], xy * v[i, 0] + yy * v[i, 1]
        ax, ay, hx, hy, kx, ky = ax + x, ay + y, hx + h * x, hy + h * y, kx + k * x, ky + k * y
        axx, axy, ayy = axx + xx, axy + xy, ayy + yy
        hhxx, hhxy, hhyy = hhxx + h * h * xx, hhxy + h * h * xy, hhyy + h * h * yy
        hkxx, hkxy, hkyy = hkxx + h * k * xx, hkxy + h * k * xy, hkyy + h * k * yy
        kkxx, kkxy, kkyy = kkxx + k * k * xx, kkxy + k * k * xy, kkyy + k * k * yy
        hxx, hxy, hyy = hxx + h * xx, hxy + h * xy, hyy + h * yy
        kxx, kxy, kyy = kxx + k * xx, kxy + k * xy, kyy + k * yy
    rhs[0], rhs[1], rhs[2], rhs[3], rhs[4], rhs[5] = ax, ay, hx, hy, kx, ky
    _block(normal, 0, 0, axx, axy, ayy)
    _block(normal, 2, 0, hxx, hxy, hyy)
    _block(normal, 2, 2, hhxx, hhxy, hhyy)
    _block(normal, 4, 0, kxx, kxy, kyy)
    _block(normal, 4, 2, hkxx, hkxy, hkyy)
    _block(normal, 4, 4, kkxx, kkxy, kkyy)
    _invert(normal, inverse)
    for a in range(6):
        total = 0.0
        for b in range(6):
            total += inverse[a, b] * rhs[b]
        fit[a] = total


@njit(nogil=True, cache=True)
def _block(normal, a, b, xx, xy, yy):
    normal[a, b], normal[a, b + 1] = xx, xy
    normal[a + 1, b], normal[a + 1, b + 1] = xy, yy


@njit(nogil=True, cache=True)
def _invert(normal, inverse):
    """Inverse of a positive definite 6 x 6 matrix of which the lower half is given."""
    for a in range(6):  # Cholesky factor, in place
        for b in range(a + 1):
            total = normal[a, b]
            for c in range(b):
                total -= normal[a, c] * normal[b, c]
            normal[a, b] = math.sqrt(total) if a == b else total / normal[b, b]
    for b in range(6):  # its inverse, also in place
        normal[b, b] = 1.0 / normal[b, b]
        for a in range(b + 1, 6):
            total = 0.0
            for c in range(b, a):
                total -= normal[a, c] * normal[c, b]
            normal[a, b] = total / normal[a, a]
    for a in range(6):
        for b in range(a + 1):
            total = 0.0
            for c in range(a, 6):
                total += normal[c, a] * normal[c, b]
            inverse[a, b] = inverse[b, a] = total


@njit(nogil=True, cache=True)
def _changed(start, fit):
    """Largest element of ``start⁻¹ fit - 1``."""
    det = start[0] * start[3] - start[1] * start[2]
    a = (start[3] * fit[2] - start[1] * fit[4]) / det - 1.0
    b = (start[3] * fit[3] - start[1] * fit[5]) / det
    c = (start[0] * fit[4] - start[2] * fit[2]) / det
    d = (start[0] * fit[5] - start[2] * fit[3]) / det - 1.0
    return max(max(abs(a), abs(b)), max(abs(c), abs(d)))
