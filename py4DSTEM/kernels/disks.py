"""Bragg disks of every pattern: correlate, find maxima, refine each disk.

Everything between reading the counts and the list of disks happens in one compiled loop, pattern by
pattern, in cache.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from rocket_fft import c2r, r2c

from ._arrays import fit_frames
from ._disk_fit import DISK, fit_disk, fit_workspace
from ._jit import njit
from .api import DISK_FIELDS, DISK_REJECTIONS, DiskPlan, FoundDisks

__all__ = ["find_disks"]

BLOCK = 16
"""Patterns converted to float32 at a time: about a megabyte, which stays in cache."""
CLOSE, CROWDED = 3, 4
_MOST_CANDIDATES = 1024
_STRIDE = 8
"""Pixels looked at together: most stretches of a map hold nothing above the threshold."""
_FAST = {"reassoc", "contract", "nsz", "arcp"}


def find_disks(frames: Any, plan: DiskPlan) -> FoundDisks:
    """The disks of every pattern; see `Kernels`."""
    frames = fit_frames(frames)
    n = len(frames)
    rows = np.empty((n, plan.max_peaks, len(DISK_FIELDS)))
    counts = np.zeros(n, np.int64)
    rejected = np.zeros((n, len(DISK_REJECTIONS)), np.int64)
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        with np.errstate(over="ignore"):  # more than float32 holds is infinite: not used
            block = frames[part].astype(np.float32)
        _search(block, plan, rows[part], counts[part], rejected[part])
    kept = np.arange(plan.max_peaks) < counts[:, None]
    return FoundDisks(rows[kept], counts, rejected)


@njit(nogil=True, cache=True, error_model="numpy")
def _search(block, plan, rows, counts, rejected):  # type: ignore[no-untyped-def]
    """Fill rows (n, max_peaks, fields), counts (n,), rejected (n, reasons) for a block."""
    q0, q1 = plan.mask.shape
    f0, f1 = plan.fft_shape
    weight = np.empty((q0, q1), np.float32)
    scene = np.zeros((f0, f1), np.float32)
    spectrum = np.empty((f0, f1 // 2 + 1), np.complex64)
    product = np.empty((f0, f1 // 2 + 1), np.complex64)
    correlation = np.empty((f0, f1), np.float32)
    candidates = np.empty((_MOST_CANDIDATES, 3), np.float32)
    chosen = np.empty((plan.max_peaks, 3), np.float32)
    work = fit_workspace(plan)
    axes = np.array([0, 1])
    clean = False
    for p in range(len(block)):
        image = block[p]
        clean = _set_weights(image, plan, weight, clean)
        if not _set_scene(image, plan, scene) > 0:
            continue
        r2c(scene, spectrum, axes, True, 1.0, 1)
        _multiply(spectrum, plan, product)
        c2r(product, correlation, axes, False, 1.0, 1)
        found = _maxima(correlation, plan, candidates)
        kept = _spaced(candidates[:found], plan, chosen)
        rejected[p, CROWDED] += max(0, found - kept) if kept == plan.max_peaks else 0
        counts[p] = _refine(
            image, weight, correlation, spectrum, chosen[:kept], plan, work, rows[p], rejected[p]
        )


@njit(nogil=True, cache=True, error_model="numpy")
def _set_weights(image, plan, weight, clean):  # type: ignore[no-untyped-def]
    """Weights of the pixels, unusable ones set to zero; whether the weights are the mask alone.

    `clean` says that `weight` is the mask already, from the pattern before.
    """
    bad = _unusable(image, plan.saturation) if plan.doubtful else 0
    if bad > 0 or not clean:
        weight[:] = plan.mask
    if bad > 0:
        for i in range(image.shape[0]):
            for j in range(image.shape[1]):
                if not abs(image[i, j]) < plan.saturation:
                    weight[i, j] = 0
                    image[i, j] = 0
    if plan.masked:
        image *= plan.mask
    return bad == 0


@njit(nogil=True, cache=True, fastmath=_FAST)
def _unusable(image, saturation):  # type: ignore[no-untyped-def]
    """How many pixels are saturated or not numbers."""
    limit = np.float32(saturation)
    bad = 0
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            bad += 0 if abs(image[i, j]) < limit else 1
    return bad


@njit(nogil=True, cache=True, fastmath=_FAST)
def _set_scene(image, plan, scene):  # type: ignore[no-untyped-def]
    """What is correlated: the counts, or Anscombe's √(n + 3/8 + read variance) with even noise.

    Returns the sum of the counts.
    """
    total = np.float32(0)
    per_count = np.float32(1 / plan.gain)
    offset = np.float32(0.375 + plan.read_variance / plan.gain**2)
    for i in range(image.shape[0]):
        if plan.stabilise:
            for j in range(image.shape[1]):
                v = image[i, j]
                total += v
                v = v * per_count + offset
                scene[i, j] = math.sqrt(max(v, np.float32(0)))
        else:
            for j in range(image.shape[1]):
                total += image[i, j]
                scene[i, j] = image[i, j]
    return total


@njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def _multiply(spectrum, plan, product):  # type: ignore[no-untyped-def]
    """Spectrum times template, whitened by the power; the template already holds the smoothing."""
    n0, n1 = spectrum.shape
    if plan.corr_power == 1:
        for i in range(n0):
            for j in range(n1):
                product[i, j] = spectrum[i, j] * plan.smoothed[i, j]
        return
    for i in range(n0):
        for j in range(n1):
            plain = spectrum[i, j] * plan.template[i, j]
            size = abs(plain)
            whitened = size ** (plan.corr_power - 1) if size > 0 else np.float32(0)
            product[i, j] = spectrum[i, j] * plan.smoothed[i, j] * np.float32(whitened)


@njit(nogil=True, cache=True, error_model="numpy")
def _maxima(cc, plan, out):  # type: ignore[no-untyped-def]
    """Local maxima above the threshold as rows (i, j, height), the highest first."""
    q0, q1 = plan.mask.shape
    edge = max(1, plan.edge_px)
    floor = np.float32(plan.threshold)
    n = 0
    for i in range(edge, q0 - edge):
        for start in range(edge, q1 - edge, _STRIDE):
            stop = min(start + _STRIDE, q1 - edge)
            whole = stop - start == _STRIDE
            if whole and not (_highest(cc[i], start) > floor and _may_hold(cc, i, start)):
                continue
            for j in range(start, stop):
                v = cc[i, j]
                if v > floor and _is_maximum(cc, i, j, v) and plan.centers[i, j] > 0:
                    n = _insert(out, n, np.float32(i), np.float32(j), v)
    return n


@njit(nogil=True, cache=True, fastmath=_FAST | {"nnan"})
def _highest(row, start):  # type: ignore[no-untyped-def]
    """Maximum of a whole stretch, of fixed length so that it is compiled to a few instructions."""
    highest = row[start]
    for j in range(_STRIDE):
        highest = max(highest, row[start + j])
    return highest


@njit(nogil=True, cache=True, fastmath=_FAST | {"nnan"})
def _may_hold(cc, i, start):  # type: ignore[no-untyped-def]
    """Whether a stretch holds a maximum, without branches: flanks of disks are passed quickly."""
    held = 0
    for k in range(_STRIDE):
        j = start + k
        v = cc[i, j]
        beside = (v > cc[i, j - 1]) & (v >= cc[i, j + 1])
        held += beside & (v > cc[i - 1, j]) & (v >= cc[i + 1, j])
    return held > 0


@njit(nogil=True, cache=True)
def _is_maximum(cc, i, j, v):  # type: ignore[no-untyped-def]
    """Whether v is above its eight neighbours; of equal ones the first counts."""
    return (
        v > cc[i, j - 1]
        and v >= cc[i, j + 1]
        and v > cc[i - 1, j]
        and v >= cc[i + 1, j]
        and v > cc[i - 1, j - 1]
        and v > cc[i - 1, j + 1]
        and v >= cc[i + 1, j - 1]
        and v >= cc[i + 1, j + 1]
    )


@njit(nogil=True, cache=True)
def _insert(out, n, i, j, v):  # type: ignore[no-untyped-def]
    """Insertion into a list sorted by height; the lowest falls off a full one."""
    if n == len(out):
        if v <= out[n - 1, 2]:
            return n
        n -= 1
    k = n
    while k > 0 and out[k - 1, 2] < v:
        out[k, 0], out[k, 1], out[k, 2] = out[k - 1, 0], out[k - 1, 1], out[k - 1, 2]
        k -= 1
    out[k, 0], out[k, 1], out[k, 2] = i, j, v
    return n + 1


@njit(nogil=True, cache=True)
def _spaced(candidates, plan, chosen):  # type: ignore[no-untyped-def]
    """The highest maxima that are at least the spacing from every higher one."""
    least = np.float32(plan.min_spacing_px) ** 2
    n = 0
    for k in range(len(candidates)):
        if n == len(chosen):
            break
        i, j = candidates[k, 0], candidates[k, 1]
        near = False
        for m in range(n):
            if (chosen[m, 0] - i) ** 2 + (chosen[m, 1] - j) ** 2 < least:
                near = True
                break
        if not near:
            chosen[n, 0], chosen[n, 1], chosen[n, 2] = i, j, candidates[k, 2]
            n += 1
    return n


@njit(nogil=True, cache=True, error_model="numpy")
def _refine(image, weight, cc, spectrum, chosen, plan, work, rows, rejected):  # type: ignore[no-untyped-def]
    """Subpixel positions of the chosen maxima, brightest first; how many are kept."""
    n = 0
    for k in range(len(chosen)):
        i, j = int(chosen[k, 0]), int(chosen[k, 1])
        row = rows[n]
        row[:] = np.nan
        x, y = float(i), float(j)
        if plan.subpixel >= 1:
            x += _vertex(cc[i - 1, j], cc[i, j], cc[i + 1, j])
            y += _vertex(cc[i, j - 1], cc[i, j], cc[i, j + 1])
        if plan.subpixel == 2:
            x, y = _band_limited_maximum(spectrum, plan, x, y)
        row[0], row[1], row[2] = x, y, chosen[k, 2]
        if plan.subpixel == 3:
            verdict = fit_disk(image, weight, x, y, plan, work, row)
            if verdict == DISK and _too_close(rows, n, row, plan.min_spacing_px):
                verdict = CLOSE
            if verdict != DISK:
                rejected[verdict] += 1
                continue
        n += 1
    return _bright_enough(rows, n, plan)


@njit(nogil=True, cache=True)
def _vertex(before, at, after):  # type: ignore[no-untyped-def]
    """Maximum of the parabola through three values, within half a pixel."""
    curvature = before - 2 * at + after
    if curvature >= 0:
        return 0.0
    return min(max(0.5 * (before - after) / curvature, -0.5), 0.5)


@njit(nogil=True, cache=True)
def _too_close(rows, n, row, spacing):  # type: ignore[no-untyped-def]
    """Whether a refined disk came too near one that is already kept."""
    for k in range(n):
        if (rows[k, 0] - row[0]) ** 2 + (rows[k, 1] - row[1]) ** 2 < (0.7 * spacing) ** 2:
            return True
    return False


@njit(nogil=True, cache=True)
def _bright_enough(rows, n, plan):  # type: ignore[no-untyped-def]
    """Sort by intensity and drop what is below the limits."""
    for a in range(1, n):
        b = a
        while b > 0 and rows[b - 1, 2] < rows[b, 2]:
            for f in range(rows.shape[1]):
                rows[b - 1, f], rows[b, f] = rows[b, f], rows[b - 1, f]
            b -= 1
    if n == 0:
        return 0
    least = max(plan.min_intensity, plan.min_relative * rows[min(plan.relative_to, n - 1), 2])
    while n > 0 and rows[n - 1, 2] < least:
        n -= 1
    return n


# ---- the exact maximum of the correlation --------------------------------------------------------
@njit(nogil=True, cache=True, error_model="numpy")
def _band_limited_maximum(spectrum, plan, x, y):  # type: ignore[no-untyped-def]
    """Newton's method on the trigonometric interpolation of the unsmoothed correlation.

    This is what upsampling by a local Fourier transform tends to as its factor grows.
    """
    x0, y0 = x, y
    for _ in range(8):
        gx, gy, xx, xy, yy = _derivatives(spectrum, plan, x, y)
        determinant = xx * yy - xy * xy
        if not (determinant > 0 and xx < 0):
            return x0, y0
        dx = -(yy * gx - xy * gy) / determinant
        dy = -(xx * gy - xy * gx) / determinant
        length = math.hypot(dx, dy)
        if length > 0.5:
            dx, dy = 0.5 * dx / length, 0.5 * dy / length
        x, y = x + dx, y + dy
        if math.hypot(x - x0, y - y0) > 2.0:
            return x0, y0
        if length < 1e-3:
            break
    return x, y


@njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def _derivatives(spectrum, plan, x, y):  # type: ignore[no-untyped-def]
    """Gradient and Hessian of the correlation at (x, y), summed over its spectrum."""
    n0, n1 = plan.fft_shape
    half = spectrum.shape[1]
    cos_y, sin_y = np.empty(half, np.float32), np.empty(half, np.float32)
    for b in range(half):
        angle = 2 * math.pi * b * y / n1
        # The highest frequency of an even length has no sign, hence no derivative.
        twice = 1.0 if b == 0 else 0.0 if 2 * b == n1 else 2.0
        cos_y[b], sin_y[b] = twice * math.cos(angle), twice * math.sin(angle)
    gx = gy = xx = xy = yy = 0.0
    for a in range(n0):
        if 2 * a == n0:
            continue
        kx = 2 * math.pi / n0 * (a if 2 * a < n0 else a - n0)
        r0 = i0 = r1 = i1 = r2 = i2 = np.float32(0)
        for b in range(half):
            g = spectrum[a, b] * plan.template[a, b]
            if plan.corr_power != 1:
                size = abs(g)
                if size > 0:
                    g *= np.float32(size ** (plan.corr_power - 1))
            ky = np.float32(2 * math.pi / n1) * np.float32(b)
            re = g.real * cos_y[b] - g.imag * sin_y[b]
            im = g.real * sin_y[b] + g.imag * cos_y[b]
            r0 += re
            i0 += im
            r1 += ky * re
            i1 += ky * im
            r2 += ky * ky * re
            i2 += ky * ky * im
        c, s = math.cos(kx * x), math.sin(kx * x)
        gx -= kx * (r0 * s + i0 * c)
        gy -= r1 * s + i1 * c
        xx -= kx * kx * (r0 * c - i0 * s)
        xy -= kx * (r1 * c - i1 * s)
        yy -= r2 * c - i2 * s
    return gx, gy, xx, xy, yy
