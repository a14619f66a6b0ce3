"""Fourier transforms of patterns inside compiled loops, a few columns at a time in the first cache.

Numba has none of its own, and calling a library for every pattern costs the cache what it was kept
for.  Waves are kept as two float32 planes (real, imaginary) whose rows and columns are padded to
multiples of `LANES`.  `transform` leaves its result turned, ``(ky, kx)``, and on a turned input
gives it back unturned: a pair of transforms turns nothing for its own sake.

Stockham's self-sorting algorithm in radices 4, 2, 3, 5 and any other prime by its definition; the
inverse is the same with the planes exchanged.  Neither is normalised.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._jit import njit
from ._simd import LANES, apart, load, spread, store, turn

__all__ = ["Plan", "fast_size", "make_plan", "padded", "transform"]

_LARGEST_PRIME = 13
_RADICES = (4, 2, 3, 5, 7, 11, 13)


class Plan(NamedTuple):
    """How a length is taken apart.

    ``radices[k]`` of stage k, whose twiddle factors begin at ``starts[k]`` of `cosine`, `sine`
    (float32): ``exp(−2πi p j / n)`` for p < n / radix and 0 < j < radix, n shrinking by the radix
    from stage to stage.  ``roots[k]`` is where the roots of unity of a large prime begin; ``lanes``
    is `LANES`.
    """

    length: int
    radices: NDArray[np.int64]
    starts: NDArray[np.int64]
    roots: NDArray[np.int64]
    cosine: NDArray[np.float32]
    sine: NDArray[np.float32]
    lanes: int


def padded(length: int) -> int:
    """The length of a row of planes: the next multiple of `LANES`."""
    return -(-length // LANES) * LANES


def fast_size(length: int) -> int:
    """The smallest even length not below this one that has the factors 2, 3 and 5 only.

    >>> fast_size(97), fast_size(128)
    (100, 128)
    """
    size = max(2, length + length % 2)
    while _without(size, (2, 3, 5)) != 1:
        size += 2
    return size


def _without(number: int, primes: tuple[int, ...]) -> int:
    for prime in primes:
        while number % prime == 0:
            number //= prime
    return number


def make_plan(length: int) -> Plan:
    """Take a length apart.

    Parameters
    ----------
    length : int
        With no prime factor above 13.

    Raises
    ------
    ValueError
        There is one: pad the data to `fast_size`.
    """
    left, radices = length, []
    for radix in _RADICES:
        while left % radix == 0:
            radices.append(radix)
            left //= radix
    if left != 1 or length < 1:
        raise ValueError(f"{length} has a prime factor above {_LARGEST_PRIME}: {fast_size(length)}")
    waves: list[NDArray[np.complex128]] = []
    starts, roots, n, at = [], [], length, 0
    for radix in radices:
        p, j = np.arange(n // radix)[:, None], np.arange(1, radix)
        waves.append(np.exp(-2j * np.pi * p * j / n).ravel())
        waves.append(np.exp(-2j * np.pi * np.arange(radix) / radix))
        starts.append(at)
        roots.append(at + waves[-2].size)
        at += waves[-2].size + radix
        n //= radix
    table = np.concatenate(waves) if waves else np.ones(1, np.complex128)
    whole = (np.array(values, dtype=np.int64) for values in (radices, starts, roots))
    cosine, sine = table.real.astype(np.float32), table.imag.astype(np.float32)
    return Plan(length, *whole, cosine, sine, LANES)


# ---- butterflies: m groups of s rows, from rows p + k·m to rows radix·p + k ----------------------
@njit(nogil=True, cache=True, inline="always")
def _times(ar, ai, wr, wi):
    return ar * wr - ai * wi, ar * wi + ai * wr


@njit(nogil=True, cache=True)
def _radix2(m, s, plan, start, xr, xi, x, dx, yr, yi, y, dy):
    apart()
    for p in range(m):
        wr, wi = spread(plan.cosine[start + p]), spread(plan.sine[start + p])
        for q in range(s):
            i, o = x + (q + s * p) * dx, y + (q + 2 * s * p) * dy
            ar, ai = load(xr, i), load(xi, i)
            i += s * m * dx
            br, bi = load(xr, i), load(xi, i)
            store(yr, o, ar + br)
            store(yi, o, ai + bi)
            cr, ci = _times(ar - br, ai - bi, wr, wi)
            o += s * dy
            store(yr, o, cr)
            store(yi, o, ci)


@njit(nogil=True, cache=True)
def _radix3(m, s, plan, start, xr, xi, x, dx, yr, yi, y, dy):
    apart()
    half, root = spread(np.float32(0.5)), spread(np.float32(0.8660254037844386))
    for p in range(m):
        w = start + 2 * p
        ur, ui = spread(plan.cosine[w]), spread(plan.sine[w])
        vr, vi = spread(plan.cosine[w + 1]), spread(plan.sine[w + 1])
        for q in range(s):
            i, o, d = x + (q + s * p) * dx, y + (q + 3 * s * p) * dy, s * m * dx
            ar, ai = load(xr, i), load(xi, i)
            br, bi = load(xr, i + d), load(xi, i + d)
            cr, ci = load(xr, i + 2 * d), load(xi, i + 2 * d)
            sr, si = br + cr, bi + ci
            tr, ti = (br - cr) * root, (bi - ci) * root
            mr, mi = ar - sr * half, ai - si * half
            store(yr, o, ar + sr)
            store(yi, o, ai + si)
            er, ei = _times(mr + ti, mi - tr, ur, ui)
            fr, fi = _times(mr - ti, mi + tr, vr, vi)
            o += s * dy
            store(yr, o, er)
            store(yi, o, ei)
            o += s * dy
            store(yr, o, fr)
            store(yi, o, fi)


@njit(nogil=True, cache=True)
def _radix4(m, s, plan, start, xr, xi, x, dx, yr, yi, y, dy):
    apart()
    d, e = s * m * dx, s * dy
    for p in range(m):
        w = start + 3 * p
        ur, ui = spread(plan.cosine[w]), spread(plan.sine[w])
        vr, vi = spread(plan.cosine[w + 1]), spread(plan.sine[w + 1])
        wr, wi = spread(plan.cosine[w + 2]), spread(plan.sine[w + 2])
        for q in range(s):
            i, o = x + (q + s * p) * dx, y + (q + 4 * s * p) * dy
            ar, ai = load(xr, i), load(xi, i)
            br, bi = load(xr, i + d), load(xi, i + d)
            cr, ci = load(xr, i + 2 * d), load(xi, i + 2 * d)
            dr, di = load(xr, i + 3 * d), load(xi, i + 3 * d)
            er, ei, fr, fi = ar + cr, ai + ci, ar - cr, ai - ci
            gr, gi, hr, hi = br + dr, bi + di, bi - di, dr - br
            store(yr, o, er + gr)
            store(yi, o, ei + gi)
            kr, ki = fr + hr, fi + hi
            lr, li = er - gr, ei - gi
            nr, ni = fr - hr, fi - hi
            if p > 0:
                kr, ki = _times(kr, ki, ur, ui)
                lr, li = _times(lr, li, vr, vi)
                nr, ni = _times(nr, ni, wr, wi)
            store(yr, o + e, kr)
            store(yi, o + e, ki)
            store(yr, o + 2 * e, lr)
            store(yi, o + 2 * e, li)
            store(yr, o + 3 * e, nr)
            store(yi, o + 3 * e, ni)


@njit(nogil=True, cache=True)
def _radix_any(radix, m, s, plan, start, root, xr, xi, x, dx, yr, yi, y, dy):
    """By the definition of the transform."""
    apart()
    for p in range(m):
        for q in range(s):
            i, o = x + (q + s * p) * dx, y + (q + radix * s * p) * dy
            for k in range(radix):
                sr, si = load(xr, i), load(xi, i)
                for j in range(1, radix):
                    ar, ai = load(xr, i + j * s * m * dx), load(xi, i + j * s * m * dx)
                    t = root + (j * k) % radix
                    br, bi = _times(ar, ai, spread(plan.cosine[t]), spread(plan.sine[t]))
                    sr, si = sr + br, si + bi
                if k > 0:
                    t = start + (radix - 1) * p + k - 1
                    sr, si = _times(sr, si, spread(plan.cosine[t]), spread(plan.sine[t]))
                store(yr, o + k * s * dy, sr)
                store(yi, o + k * s * dy, si)


@njit(nogil=True, cache=True)
def _stage(k, m, s, plan, xr, xi, x, dx, yr, yi, y, dy):
    radix, start = plan.radices[k], plan.starts[k]
    if radix == 4:
        _radix4(m, s, plan, start, xr, xi, x, dx, yr, yi, y, dy)
    elif radix == 2:
        _radix2(m, s, plan, start, xr, xi, x, dx, yr, yi, y, dy)
    elif radix == 3:
        _radix3(m, s, plan, start, xr, xi, x, dx, yr, yi, y, dy)
    else:
        _radix_any(radix, m, s, plan, start, plan.roots[k], xr, xi, x, dx, yr, yi, y, dy)


@njit(nogil=True, cache=True)
def _columns(plan, xr, xi, x, dx, yr, yi, y, dy, br, bi):
    """Transform as many columns as there are lanes, from rows at x + i·dx to rows at y + i·dy.

    They may be the same; ``br, bi`` hold two columns of buffers each.
    """
    apart()
    # Numbers from the plan, not constants: each of those would be compiled anew.
    stages, n, row = len(plan.radices), plan.length, plan.lanes
    left, half = n, n * row
    sr, si, at, step = xr, xi, x, dx
    for k in range(stages):
        tr, ti, to, reach = br, bi, half * (k % 2), row
        if k == stages - 1 and stages > 1:
            tr, ti, to, reach = yr, yi, y, dy
        _stage(k, left // plan.radices[k], n // left, plan, sr, si, at, step, tr, ti, to, reach)
        sr, si, at, step = tr, ti, to, reach
        left //= plan.radices[k]
    if stages < 2:  # nothing may be overwritten before it is read
        for i in range(n):
            ar, ai = load(sr, at + i * step), load(si, at + i * step)
            store(yr, y + i * dy, ar)
            store(yi, y + i * dy, ai)


@njit(nogil=True, cache=True)
def transform(re, im, out_re, out_im, rows, columns, buffer_re, buffer_im):
    """Discrete Fourier transform of ``re + i·im`` (n0, n1), turned: (n1, n0); overwrites the input.

    Parameters
    ----------
    re, im : flat float32
        Planes with rows of ``padded(n1)``, ``padded(n0)`` of them; what pads is finite.
    out_re, out_im : flat float32
        Planes with rows of ``padded(n0)``, ``padded(n1)`` of them.
    rows, columns : Plan
        Of n0 and n1.
    buffer_re, buffer_im : flat float32
        ``2·LANES·(longer of n0 and n1)`` and ``LANES·n1`` more.

    Exchanging re with im, on input and output, gives the inverse, n0·n1 times.
    """
    apart()
    n0, n1, row = rows.length, columns.length, rows.lanes
    wide, tall = -(-n1 // row) * row, -(-n0 // row) * row
    for c in range(0, wide, row):
        _columns(rows, re, im, c, wide, re, im, c, wide, buffer_re, buffer_im)
    at = 2 * row * max(n0, n1)
    for r in range(0, tall, row):
        for c in range(0, wide, row):
            turn(re, r * wide + c, wide, buffer_re, at + c * row, row)
            turn(im, r * wide + c, wide, buffer_im, at + c * row, row)
        _columns(
            columns, buffer_re, buffer_im, at, row, out_re, out_im, r, tall, buffer_re, buffer_im
        )
