"""One disk by maximum likelihood: position, intensity, background and slope, with covariance.

The counts around a disk are modelled as

    λ(p) = A T(p - c) (1 + s·(p - c)) + B

with the template T at unit height, its centre c, the relative slope of the intensity s (excitation
error) and the local background B.  What blurs the edge of the disk by σ blurs a sloping disk alike,
which adds ``A σ² s·∇T``.  Fisher scoring: Gauss-Newton steps weighted by 1 / variance,
whose inverse normal matrix is the covariance.  The slope has a Gaussian prior of mean zero.
"""

from __future__ import annotations

import math

import numpy as np

from ._jit import njit

__all__ = ["DISK", "fit_disk", "fit_workspace"]

DISK, WEAK, MOVED, HIDDEN = -1, 0, 1, 2
_ROUNDS = 6
_RELAXATION = 0.8
"""Full steps overshoot at sharp edges: the Fisher information expects less than there is."""
_CONVERGED = 0.08
"""Squared step in standard deviations after which nothing of interest changes any more."""
_OFF_CENTER = 0.53
"""The template is tabulated for centres within half a pixel of the middle of one."""
_P = 6
_PAIRS = _P * (_P + 1) // 2
_LARGEST_RESIDUAL = 6.0
"""Residuals are cut at so many standard deviations: a hot pixel must not move a disk."""
_FEW_COUNTS = 5.0
"""… and so many electrons more: one where hardly any are expected is no outlier."""
_FAST = {"reassoc", "contract", "nsz", "arcp", "nnan", "ninf"}


@njit(nogil=True, cache=True)
def fit_workspace(plan):  # type: ignore[no-untyped-def]
    """Memory for `fit_disk`: pixels around a disk, and sums over them."""
    m = len(plan.offset_x)
    return np.empty((2, m), np.float32), np.empty((_P + 1, m), np.float32)


@njit(nogil=True, cache=True, error_model="numpy")
def fit_disk(image, weight, x, y, plan, work, row):  # type: ignore[no-untyped-def]
    """Fit the disk near (x, y) and fill `row`; DISK, or why it is none."""
    pixels, design = work
    i, j = round(x), round(y)
    visible = _gather(image, weight, i, j, plan, pixels)
    if visible < plan.min_visible:
        return HIDDEN
    inside, beside = _averages(pixels, plan)
    background = max(beside, plan.least_background)
    height = max(inside - background, 0.05 * background)
    x0, y0 = x, y
    sx = sy = 0.0
    normal, right = np.empty(_PAIRS), np.empty(_P)
    matrix, step = np.empty((_P, _P)), np.empty(_P)
    chi2 = 0.0
    for turn in range(_ROUNDS):
        if abs(x - i) > _OFF_CENTER or abs(y - j) > _OFF_CENTER:
            i, j = round(x), round(y)
            visible = _gather(image, weight, i, j, plan, pixels)
            if visible < plan.min_visible:
                return HIDDEN
        chi2 = _linearise(pixels, design, x - i, y - j, height, background, sx, sy, plan)
        _sums(design, normal, right)
        right[4] -= sx * plan.slope_information
        right[5] -= sy * plan.slope_information
        if not _solve(normal, right, plan.slope_information, matrix, step):
            return HIDDEN
        x, y, height, background, sx, sy = _moved(
            x, y, height, background, sx, sy, step, plan, turn
        )
        if abs(x - x0) > plan.max_shift_px or abs(y - y0) > plan.max_shift_px:
            return MOVED
        if turn > 0 and step[0] ** 2 * normal[0] + step[1] ** 2 * normal[6] < _CONVERGED:
            break
    _inverse(matrix)
    row[0], row[1] = x, y
    row[2] = height * plan.area
    row[3], row[4], row[5] = math.sqrt(matrix[0, 0]), math.sqrt(matrix[1, 1]), matrix[0, 1]
    row[6] = background
    row[7] = height / math.sqrt(matrix[2, 2])
    row[8] = chi2 / max(visible - _P, 1.0)
    row[9], row[10] = sx, sy
    slope_variance = 0.5 * (matrix[4, 4] + matrix[5, 5])
    row[11] = math.sqrt(slope_variance)
    row[12] = 0.5 * (matrix[0, 4] + matrix[1, 5]) / slope_variance
    return DISK if row[7] >= plan.min_significance else WEAK


@njit(nogil=True, cache=True, error_model="numpy")
def _gather(image, weight, i, j, plan, pixels):  # type: ignore[no-untyped-def]
    """Counts and weights of the pixels around (i, j); how many of them can be used."""
    q0, q1 = image.shape
    reach = plan.reach
    if i < -reach or j < -reach or i >= q0 + reach or j >= q1 + reach:
        return 0.0
    visible = 0.0
    if reach <= i < q0 - reach and reach <= j < q1 - reach:
        for k in range(len(plan.offset_x)):
            a, b = i + plan.offset_x[k], j + plan.offset_y[k]
            pixels[0, k] = image[a, b]
            pixels[1, k] = weight[a, b] * plan.counts[k]
            visible += pixels[1, k]
        return visible
    for k in range(len(plan.offset_x)):
        a, b = i + plan.offset_x[k], j + plan.offset_y[k]
        known = 0 <= a < q0 and 0 <= b < q1
        pixels[0, k] = image[a, b] if known else np.float32(0)
        pixels[1, k] = weight[a, b] * plan.counts[k] if known else np.float32(0)
        visible += pixels[1, k]
    return visible


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def _averages(pixels, plan):  # type: ignore[no-untyped-def]
    """Mean counts well inside the disk and beside it."""
    inside = beside = n_inside = n_beside = np.float32(0)
    for k in range(pixels.shape[1]):
        w, v = pixels[1, k], pixels[0, k]
        inside += w * plan.core[k] * v
        n_inside += w * plan.core[k]
        beside += w * plan.ring[k] * v
        n_beside += w * plan.ring[k]
    return inside / max(n_inside, np.float32(1)), beside / max(n_beside, np.float32(1))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def _linearise(pixels, design, dx, dy, height, background, sx, sy, plan):  # type: ignore[no-untyped-def]
    """Whitened derivatives (rows 0 … 5) and residual (row 6) of every pixel; returns χ².

    The template is tabulated at the nearest of S x S subpixel phases and moved the rest of the way
    to first order.
    """
    phases = plan.table.shape[0]
    pi = min(max(math.floor((dx + 0.5) * phases), 0), phases - 1)
    pj = min(max(math.floor((dy + 0.5) * phases), 0), phases - 1)
    rest_x = np.float32(dx - ((pi + 0.5) / phases - 0.5))
    rest_y = np.float32(dy - ((pj + 0.5) / phases - 0.5))
    table = plan.table[pi, pj]
    a, b = np.float32(height), np.float32(background)
    ux, uy = np.float32(sx), np.float32(sy)
    cx, cy = np.float32(dx), np.float32(dy)
    gain, read = np.float32(plan.gain), np.float32(plan.read_variance)
    blur = np.float32(plan.edge_variance)
    least = np.float32(plan.least_background)
    cut, few = np.float32(_LARGEST_RESIDUAL), np.float32(_FEW_COUNTS * plan.gain)
    chi2 = np.float32(0)
    for k in range(pixels.shape[1]):
        tx, ty = table[1, k], table[2, k]
        t = max(table[0, k] + rest_x * tx + rest_y * ty, np.float32(0))
        px, py = plan.pixel_x[k] - cx, plan.pixel_y[k] - cy
        ramp = max(np.float32(1) + ux * px + uy * py, np.float32(0.05))
        shape = t * ramp - blur * (ux * tx + uy * ty)
        expected = max(a * shape + b, least)
        w = math.sqrt(pixels[1, k] / (gain * expected + read))
        r = w * (pixels[0, k] - expected)
        chi2 += r * r
        most = cut + few * w
        design[6, k] = min(max(r, -most), most)
        at = a * t * w
        # The slope turns about the moving centre: its term follows the position.
        design[0, k] = a * w * tx * ramp - at * ux
        design[1, k] = a * w * ty * ramp - at * uy
        design[2, k] = shape * w
        design[3, k] = w
        design[4, k] = at * px - a * w * blur * tx
        design[5, k] = at * py - a * w * blur * ty
    return float(chi2)


@njit(nogil=True, cache=True, fastmath=_FAST)
def _sums(design, normal, right):  # type: ignore[no-untyped-def]
    """Normal equations from the whitened rows, three rows at a time to stay in registers."""
    m = design.shape[1]
    s00 = s01 = s02 = s03 = s04 = s05 = s11 = s12 = s13 = s14 = s15 = np.float32(0)
    s22 = s23 = s24 = s25 = s33 = s34 = s35 = s44 = s45 = s55 = np.float32(0)
    r0 = r1 = r2 = r3 = r4 = r5 = np.float32(0)
    for k in range(m):
        d0, d1, d2, r = design[0, k], design[1, k], design[2, k], design[6, k]
        s00 += d0 * d0
        s01 += d0 * d1
        s02 += d0 * d2
        s11 += d1 * d1
        s12 += d1 * d2
        s22 += d2 * d2
        r0 += d0 * r
        r1 += d1 * r
        r2 += d2 * r
    for k in range(m):
        d3, d4, d5, r = design[3, k], design[4, k], design[5, k], design[6, k]
        s33 += d3 * d3
        s34 += d3 * d4
        s35 += d3 * d5
        s44 += d4 * d4
        s45 += d4 * d5
        s55 += d5 * d5
        r3 += d3 * r
        r4 += d4 * r
        r5 += d5 * r
    for k in range(m):
        d0, d1, d2 = design[0, k], design[1, k], design[2, k]
        d3, d4, d5 = design[3, k], design[4, k], design[5, k]
        s03 += d0 * d3
        s04 += d0 * d4
        s05 += d0 * d5
        s13 += d1 * d3
        s14 += d1 * d4
        s15 += d1 * d5
        s23 += d2 * d3
        s24 += d2 * d4
        s25 += d2 * d5
    normal[0], normal[1], normal[2], normal[3], normal[4], normal[5] = s00, s01, s02, s03, s04, s05
    normal[6], normal[7], normal[8], normal[9], normal[10] = s11, s12, s13, s14, s15
    normal[11], normal[12], normal[13], normal[14] = s22, s23, s24, s25
    normal[15], normal[16], normal[17] = s33, s34, s35
    normal[18], normal[19], normal[20] = s44, s45, s55
    right[0], right[1], right[2], right[3], right[4], right[5] = r0, r1, r2, r3, r4, r5


@njit(nogil=True, cache=True, error_model="numpy")
def _solve(normal, right, slope_information, factor, step):  # type: ignore[no-untyped-def]
    """Cholesky factor of the normal matrix in the lower triangle of `factor`, and the step."""
    k = 0
    for a in range(_P):
        for b in range(a, _P):
            factor[b, a] = normal[k]
            k += 1
    factor[4, 4] += slope_information
    factor[5, 5] += slope_information
    for a in range(_P):
        whole = factor[a, a]
        for c in range(a):
            factor[a, a] -= factor[a, c] ** 2
        if not factor[a, a] > 1e-9 * whole:
            return False
        factor[a, a] = math.sqrt(factor[a, a])
        for b in range(a + 1, _P):
            for c in range(a):
                factor[b, a] -= factor[b, c] * factor[a, c]
            factor[b, a] /= factor[a, a]
    for a in range(_P):
        step[a] = right[a]
        for c in range(a):
            step[a] -= factor[a, c] * step[c]
        step[a] /= factor[a, a]
    for a in range(_P - 1, -1, -1):
        for c in range(a + 1, _P):
            step[a] -= factor[c, a] * step[c]
        step[a] /= factor[a, a]
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def _inverse(factor):  # type: ignore[no-untyped-def]
    """The inverse of L Lᵀ, in place of its Cholesky factor L."""
    inverse = np.zeros((_P, _P))
    for a in range(_P):
        inverse[a, a] = 1 / factor[a, a]
        for b in range(a + 1, _P):
            for c in range(a, b):
                inverse[b, a] -= factor[b, c] * inverse[c, a]
            inverse[b, a] /= factor[b, b]
    for a in range(_P):
        for b in range(_P):
            factor[a, b] = 0.0
            for c in range(max(a, b), _P):
                factor[a, b] += inverse[c, a] * inverse[c, b]


@njit(nogil=True, cache=True, error_model="numpy")
def _moved(x, y, height, background, sx, sy, step, plan, turn):  # type: ignore[no-untyped-def]
    """Parameters after a step that is shortened where it leaves what is possible."""
    longest = max(abs(step[0]), abs(step[1]))
    largest = 0.5 if turn == 0 else 0.8
    share = largest / longest if longest > largest else _RELAXATION
    x, y = x + share * step[0], y + share * step[1]
    height = max(height + step[2], 0.1 * height)
    background = max(background + step[3], plan.least_background)
    steepest = plan.steepest
    sx = min(max(sx + share * step[4], -steepest), steepest)
    sy = min(max(sy + share * step[5], -steepest), steepest)
    return x, y, height, background, sx, sy
