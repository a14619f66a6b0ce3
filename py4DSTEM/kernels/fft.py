"""Fourier transforms of patterns inside compiled loops, a few columns at a time in the first cache.

Numba has none of its own, and calling a library for every pattern costs the cache what it was kept
for.  Waves are kept as two float32 planes (real, imaginary) whose rows and columns are padded to
multiples of `LANES`.  `columns` transforms as many columns as there are lanes; kernels put their
own work before and after it while the columns are in the cache.  `transform` is that of a whole
pattern.

Stockham's self-sorting algorithm in radices 4, 2, 3, 5 and any other prime by its definition; the
inverse is the same with the planes exchanged.  Neither is normalised.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from ._jit import njit
from ._simd import LANES, LINE, address, apart, load, number, same, spread, store, turn

__all__ = ["INNER", "Plan", "columns", "fast_size", "make_plan", "padded", "transform"]

INNER: dict[str, Any] = {
    "nogil": True, "cache": True, "error_model": "numpy",
    "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
}  # fmt: skip
"""How functions are compiled that no Python calls."""


_LARGEST_PRIME = 13
_RADICES = (4, 2, 3, 5, 7, 11, 13)


class Plan(NamedTuple):
    """How a length is taken apart.

    Parameters
    ----------
    length : int
    table : (n,) int64
        Length, `LINE`, number of stages, bytes from a cosine to its sine; for each stage its radix,
        and in bytes from the start where its twiddle factors begin, and the roots of unity that a
        large prime needs.  Then, float32 two by two, the cosines and the sines: of stage k
        ``exp(−2πi p j / n)`` for p < n / radix and 0 < j < radix, n shrinking by the radix from
        stage to stage.
    """

    length: int
    table: NDArray[np.int64]


def padded(length: int) -> int:
    """The length of a row of planes: the next multiple of `LANES`."""
    return -(-length // LANES) * LANES


def fast_size(length: int) -> int:
    """The smallest even length not below this one that has the factors 2, 3 and 5 only.

    >>> fast_size(97), fast_size(128)
    (100, 128)
    """
    return 2 * next_fast_len(-(-max(length, 1) // 2), real=True)  # real: no factors of 7 and 11


def make_plan(length: int) -> Plan:
    """Take a length apart.

    Parameters
    ----------
    length : int
        With no prime factor above 13.

    Raises
    ------
    ValueError
        There is one: pad the data to `fast_size`; or no length at all.
    """
    if length < 1:
        raise ValueError(f"a length is at least 1, not {length}")
    left, radices = length, []
    for radix in _RADICES:
        while left % radix == 0:
            radices.append(radix)
            left //= radix
    if left != 1:
        raise ValueError(f"{length} has a prime factor above {_LARGEST_PRIME}: {fast_size(length)}")
    waves: list[NDArray[np.complex128]] = [np.ones(1, np.complex128)]
    stages, n, at = [], length, 1
    for radix in radices:
        p, j = np.arange(n // radix)[:, None], np.arange(1, radix)
        waves.append(np.exp(-2j * np.pi * p * j / n).ravel())
        waves.append(np.exp(-2j * np.pi * np.arange(radix) / radix))
        stages.append((radix, at, at + waves[-2].size))
        at += waves[-2].size + radix
        n //= radix
    return Plan(length, _table(length, stages, np.concatenate(waves)))


def _table(
    length: int, stages: list[tuple[int, int, int]], factors: NDArray[np.complex128]
) -> NDArray[np.int64]:
    head = 8 * (4 + 3 * len(stages))
    size = factors.size + factors.size % 2
    planes = np.zeros((2, size), np.float32)
    planes[:, : factors.size] = factors.real, factors.imag
    table = [length, LINE, len(stages), 4 * size]
    for radix, first, root in stages:
        table += [radix, head + 4 * first, head + 4 * root]
    return np.concatenate([np.array(table, np.int64), planes.view(np.int64).ravel()])


# ---- butterflies: m groups of s rows, from rows p + k·m to rows radix·p + k; all in bytes --------
@njit(**INNER)
def _times(ar, ai, wr, wi):
    return ar * wr - ai * wi, ar * wi + ai * wr


@njit(**INNER)
def _radix2(m, s, wr, wi, xr, xi, dx, yr, yi, dy):
    apart()
    d, e = s * m * dx, s * dy
    for p in range(m):
        ur, ui = same(wr + 4 * p), same(wi + 4 * p)
        for q in range(s):
            i, o = (q + s * p) * dx, (q + 2 * s * p) * dy
            ar, ai = load(xr + i), load(xi + i)
            br, bi = load(xr + i + d), load(xi + i + d)
            store(yr + o, ar + br)
            store(yi + o, ai + bi)
            cr, ci = _times(ar - br, ai - bi, ur, ui)
            store(yr + o + e, cr)
            store(yi + o + e, ci)


@njit(**INNER)
def _radix3(m, s, wr, wi, xr, xi, dx, yr, yi, dy):
    apart()
    half, root = spread(np.float32(0.5)), spread(np.float32(0.8660254037844386))
    d, e = s * m * dx, s * dy
    for p in range(m):
        ur, ui = same(wr + 8 * p), same(wi + 8 * p)
        vr, vi = same(wr + 8 * p + 4), same(wi + 8 * p + 4)
        for q in range(s):
            i, o = (q + s * p) * dx, (q + 3 * s * p) * dy
            ar, ai = load(xr + i), load(xi + i)
            br, bi = load(xr + i + d), load(xi + i + d)
            cr, ci = load(xr + i + 2 * d), load(xi + i + 2 * d)
            sr, si = br + cr, bi + ci
            tr, ti = (br - cr) * root, (bi - ci) * root
            mr, mi = ar - sr * half, ai - si * half
            er, ei = _times(mr + ti, mi - tr, ur, ui)
            fr, fi = _times(mr - ti, mi + tr, vr, vi)
            store(yr + o, ar + sr)
            store(yi + o, ai + si)
            store(yr + o + e, er)
            store(yi + o + e, ei)
            store(yr + o + 2 * e, fr)
            store(yi + o + 2 * e, fi)


@njit(**INNER)
def _radix4(m, s, wr, wi, xr, xi, dx, yr, yi, dy):
    apart()
    d, e = s * m * dx, s * dy
    for p in range(m):
        ur, ui = same(wr + 12 * p), same(wi + 12 * p)
        vr, vi = same(wr + 12 * p + 4), same(wi + 12 * p + 4)
        tr, ti = same(wr + 12 * p + 8), same(wi + 12 * p + 8)
        for q in range(s):
            i, o = (q + s * p) * dx, (q + 4 * s * p) * dy
            ar, ai = load(xr + i), load(xi + i)
            br, bi = load(xr + i + d), load(xi + i + d)
            cr, ci = load(xr + i + 2 * d), load(xi + i + 2 * d)
            dr, di = load(xr + i + 3 * d), load(xi + i + 3 * d)
            er, ei, fr, fi = ar + cr, ai + ci, ar - cr, ai - ci
            gr, gi, hr, hi = br + dr, bi + di, bi - di, dr - br
            store(yr + o, er + gr)
            store(yi + o, ei + gi)
            kr, ki = fr + hr, fi + hi
            lr, li = er - gr, ei - gi
            nr, ni = fr - hr, fi - hi
            if p > 0:
                kr, ki = _times(kr, ki, ur, ui)
                lr, li = _times(lr, li, vr, vi)
                nr, ni = _times(nr, ni, tr, ti)
            store(yr + o + e, kr)
            store(yi + o + e, ki)
            store(yr + o + 2 * e, lr)
            store(yi + o + 2 * e, li)
            store(yr + o + 3 * e, nr)
            store(yi + o + 3 * e, ni)


@njit(**INNER)
def _radix_any(radix, m, s, wr, wi, ur, ui, xr, xi, dx, yr, yi, dy):
    """By the definition of the transform."""
    apart()
    d, e = s * m * dx, s * dy
    for p in range(m):
        for q in range(s):
            i, o = (q + s * p) * dx, (q + radix * s * p) * dy
            for k in range(radix):
                sr, si = load(xr + i), load(xi + i)
                for j in range(1, radix):
                    t = 4 * ((j * k) % radix)
                    ar, ai = load(xr + i + j * d), load(xi + i + j * d)
                    br, bi = _times(ar, ai, same(ur + t), same(ui + t))
                    sr, si = sr + br, si + bi
                if k > 0:
                    t = 4 * ((radix - 1) * p + k - 1)
                    sr, si = _times(sr, si, same(wr + t), same(wi + t))
                store(yr + o + k * e, sr)
                store(yi + o + k * e, si)


@njit(**INNER)
def columns(plan, xr, xi, dx, yr, yi, dy, buffer):
    """Transform as many columns as there are lanes, from rows dx bytes apart to rows dy apart.

    Parameters
    ----------
    plan : address
        Of the table of a `Plan`.
    xr, xi, yr, yi : address
        Of the first row, of the real and the imaginary plane; input and output may be the same.
    dx, dy : int
        Bytes.
    buffer : address
        Of four columns.
    """
    apart()
    n, line, stages, sine = (
        number(plan), number(plan + 8), number(plan + 16), number(plan + 24)
    )  # fmt: skip
    left, half = n, n * line
    tr, ti, step = xr, xi, dx
    for k in range(stages):
        at = plan + 32 + 24 * k
        radix, wr = number(at), plan + number(at + 8)
        wi = wr + sine
        ur, ui, reach = buffer + half * (k % 2), buffer + half * (2 + k % 2), line
        if k == stages - 1 and stages > 1:
            ur, ui, reach = yr, yi, dy
        m, s = left // radix, n // left
        if radix == 4:
            _radix4(m, s, wr, wi, tr, ti, step, ur, ui, reach)
        elif radix == 2:
            _radix2(m, s, wr, wi, tr, ti, step, ur, ui, reach)
        elif radix == 3:
            _radix3(m, s, wr, wi, tr, ti, step, ur, ui, reach)
        else:
            vr = plan + number(at + 16)
            _radix_any(radix, m, s, wr, wi, vr, vr + sine, tr, ti, step, ur, ui, reach)
        tr, ti, step = ur, ui, reach
        left = m
    if stages < 2:  # nothing may be overwritten before it is read
        for i in range(n):
            ar, ai = load(tr + i * step), load(ti + i * step)
            store(yr + i * dy, ar)
            store(yi + i * dy, ai)


@njit(nogil=True, cache=True, error_model="numpy")
def transform(wave, out, rows, across, buffer):
    """Discrete Fourier transform of a wave (n0, n1), turned: (n1, n0); overwrites the input.

    Parameters
    ----------
    wave : (2, plane) float32
        Rows of ``padded(n1)``, ``padded(n0)`` of them; what pads is finite.
    out : (2, plane) float32
        Rows of ``padded(n0)``, ``padded(n1)`` of them.
    rows, across : Plan
        Of n0 and n1.
    buffer : (6, LANES · padded longer of n0 and n1) float32

    Exchanging the planes, on input and output, gives the inverse, n0·n1 times.
    """
    n0, n1, line = rows.length, across.length, 4 * LANES
    wide, tall = -(-n1 // LANES) * line, -(-n0 // LANES) * line
    re, top, spare = address(wave), address(out), address(buffer)
    im, low, room = re + 4 * wave.shape[1], top + 4 * out.shape[1], 4 * buffer.shape[1]
    for c in range(0, wide, line):
        columns(address(rows.table), re + c, im + c, wide, re + c, im + c, wide, spare)
    block = spare + 4 * room
    for r in range(0, n0, LANES):
        for c in range(0, wide, line):
            turn(re + r * wide + c, wide, block + c * LANES, line)
            turn(im + r * wide + c, wide, block + room + c * LANES, line)
        columns(
            address(across.table), block, block + room, line,
            top + 4 * r, low + 4 * r, tall, spare,
        )  # fmt: skip
