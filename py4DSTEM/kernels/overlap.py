"""Interference of the unscattered disk with the disks at ±Q, summed over detector pixels.

The Fourier transform over the scan of what a pixel k of the detector counts is, for a thin
specimen, ``G(Q, k) = O(Q) Γ₁ + O*(−Q) Γ₂`` with ``Γ₁ = Ψ*(k) Ψ(k − Q)`` and
``Γ₂ = Ψ(k) Ψ*(k + Q)``.  A row of the transform is a straight line through the aperture: where it
enters and leaves is solved for, and along it the phase of Ψ is a polynomial of one variable.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from ._arrays import fit_array
from ._jit import njit
from .api import Float, Overlaps

__all__ = ["Overlaps", "gather_pixels", "overlap_sums"]

_F = np.float32
_TURN = (_F(math.pi), _F(2.0), _F(1.0), _F(12582912.0))  # the last one rounds to whole numbers
_SIN = tuple(_F((-1) ** n / math.factorial(2 * n + 1)) for n in range(6))
_COS = tuple(_F((-1) ** n / math.factorial(2 * n)) for n in range(7))
_BLOCK = 64
_VECTOR = 32


# ---- pixels of patterns --------------------------------------------------------------------------
@njit(nogil=True, cache=True)
def _gather(frames, index, shifts, out, start):
    """Blocks of pixels by positions, so that whole cache lines of both sides are used."""
    n, count = len(frames), len(index)
    # Rows of a whole scan are often a power of two apart, where the cache has room for few.
    turned = np.empty((_BLOCK, _BLOCK + 16), np.float32)
    for i0 in range(0, n, _BLOCK):
        i1 = min(n, i0 + _BLOCK)
        for p0 in range(0, count, _BLOCK):
            p1 = min(count, p0 + _BLOCK)
            for i in range(i0, i1):
                shift, frame = shifts[i] if len(shifts) else 0, frames[i]
                for p in range(p0, p1):
                    turned[p - p0, i - i0] = frame[index[p] + shift]
            for p in range(p0, p1):
                for i in range(i0, i1):
                    out[p, start + i] = turned[p - p0, i - i0]


@njit(nogil=True, cache=True)
def _totals(frames, out):
    for i in range(len(frames)):
        row = frames[i]
        total = 0 * row[0]
        for p in range(len(row)):
            total += row[p]
        out[i] = total


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _float_totals(frames, out):
    for i in range(len(frames)):
        row = frames[i]
        total = 0.0
        for p in range(len(row)):
            total += row[p]
        out[i] = total


def gather_pixels(
    frames: NDArray[Any],
    index: NDArray[np.int64],
    shifts: NDArray[np.int64],
    out: NDArray[np.float32],
    start: int,
) -> Float:
    """Some pixels of patterns, pixels first: ``out[:, start + i] = frames[i, index + shifts[i]]``.

    Parameters
    ----------
    frames : (n, P) real
        Flattened patterns.
    index : (m,) int64
    shifts : (n,) int64, or empty for none
    out : (m, N) float32
    start : int

    Returns
    -------
    (n,) float64
        Sum of each whole pattern; NaN or infinite where a pixel is.

    Raises
    ------
    ShapeError
        A pixel lies outside the patterns, or a position outside of `out`.
    """
    fit = fit_array(frames)
    first, last = (
        int(pick(index)) + (int(pick(shifts)) if len(shifts) else 0) for pick in (np.min, np.max)
    )
    if first < 0 or last >= fit.shape[1] or start < 0 or start + len(fit) > out.shape[1]:
        raise ShapeError(f"pixels {first} to {last} of patterns of {fit.shape[1]}")
    if len(shifts) not in (0, len(fit)) or len(out) != len(index):
        raise ShapeError(f"{len(shifts)} shifts of {len(fit)}, {len(index)} pixels of {len(out)}")
    totals = np.zeros(len(fit))
    (_float_totals if fit.dtype.kind == "f" else _totals)(fit, totals)
    _gather(fit, index, shifts, out, start)
    return totals


# ---- overlaps ------------------------------------------------------------------------------------
@njit(nogil=True, cache=True)
def _chord(bx, by, dx, dy, radius, low, high):
    """Whole j in [low, high) with ``|b + j d| ≤ radius``, as (first, end)."""
    a, h, c = dx * dx + dy * dy, bx * dx + by * dy, bx * bx + by * by - radius * radius
    inside = h * h - a * c
    if inside < 0 or radius < 0:
        return low, low
    root = math.sqrt(inside)
    first = min(max(low, math.ceil((-h - root) / a)), high)
    end = min(high, math.floor((-h + root) / a) + 1)
    return first, max(first, end)


@njit(nogil=True, cache=True)
def _cycles(x, y, coefficients):
    """χ/λ: ``Σ c_ab x^a y^b``."""
    total = 0.0
    for a in range(len(coefficients) - 1, -1, -1):
        inner = 0.0
        for b in range(len(coefficients) - 1 - a, -1, -1):
            inner = inner * y + coefficients[a, b]
        total = total * x + inner
    return total


@njit(nogil=True, cache=True)
def _height(x, y, aperture):
    """Modulus of the aperture at its rim, relative to one inside."""
    radius = math.sqrt(x * x + y * y)
    along, across = x * aperture[1], y * aperture[2]
    width = math.sqrt(along * along + across * across) / max(radius, 1e-300)
    return math.sqrt(min(max((aperture[0] - radius) / max(width, 1e-300) + 0.5, 0.0), 1.0))


@njit(nogil=True, cache=True)
def _fill_amplitude(bx, by, dx, dy, chord, core, scale, aperture, out):
    """One inside, a ramp at both ends of the chord; zero behind it."""
    value = _F(scale)
    for j in range(core[0], core[1]):
        out[j] = value
    for j in range(chord[0], core[0]):
        out[j] = scale * _height(bx + j * dx, by + j * dy, aperture)
    for j in range(core[1], chord[1]):
        out[j] = scale * _height(bx + j * dx, by + j * dy, aperture)
    out[chord[1] : chord[1] + _VECTOR] = _F(0.0)


@njit(nogil=True, cache=True)
def _row_polynomial(bx, by, dx, dy, chord, at, coefficients, inverse, values, out):
    """``χ/λ − at`` along a chord, as a polynomial of t = −1 … 1."""
    count = len(inverse)
    middle, half = 0.5 * (chord[0] + chord[1] - 1), max(0.5 * (chord[1] - chord[0] - 1), 0.5)
    for m in range(count):
        j = middle + half * (2.0 * m / (count - 1) - 1.0)
        values[m] = _cycles(bx + j * dx, by + j * dy, coefficients) - at
    for n in range(count):
        total = 0.0
        for m in range(count):
            total += inverse[n, m] * values[m]
        # Whole cycles are left out here, while there are digits to do so.
        out[n] = total - math.floor(total + 0.5) if n == 0 else total
    return _F(middle), _F(1.0 / half)


@njit(nogil=True, cache=True)
def _rounded(chord):
    """An end that leaves no rest when so many are worked on at once."""
    return chord[0] + (chord[1] - chord[0] + _VECTOR - 1) // _VECTOR * _VECTOR


@njit(nogil=True, cache=True, fastmath={"contract"})
def _fill_waves(chord, middle, per_half, polynomial, amplitude, re, im):
    """``amplitude · exp(2πi polynomial)``."""
    pi, two, one, whole = _TURN
    p0, p1, p2, p3 = polynomial[0], polynomial[1], polynomial[2], polynomial[3]
    p4, p5, p6 = polynomial[4], polynomial[5], polynomial[6]
    # Indices from zero, and the polynomial written out: else the compiler uses no vectors.
    start, end = chord[0], _rounded(chord)
    height, re, im = amplitude[start:end], re[start:end], im[start:end]
    t0 = _F(start) - middle
    for j in range(len(re)):
        t = (_F(j) + t0) * per_half
        cycles = (((((p6 * t + p5) * t + p4) * t + p3) * t + p2) * t + p1) * t + p0
        x = (cycles - ((cycles + whole) - whole)) * pi
        x2 = x * x
        s, c = _SIN[5], _COS[6]
        s = s * x2 + _SIN[4]
        s = s * x2 + _SIN[3]
        s = s * x2 + _SIN[2]
        s = s * x2 + _SIN[1]
        s = (s * x2 + _SIN[0]) * x
        c = c * x2 + _COS[5]
        c = c * x2 + _COS[4]
        c = c * x2 + _COS[3]
        c = c * x2 + _COS[2]
        c = c * x2 + _COS[1]
        c = c * x2 + _COS[0]
        re[j] = height[j] * (one - two * s * s)
        im[j] = height[j] * (two * s * c)


@njit(nogil=True, cache=True, fastmath={"contract"})
def _add(wave, first, end, sign, weight, re, im, out):
    """``Σ w (re + i sign im) G`` and ``Σ w |re + i im|²`` over part of a row."""
    out_re, out_im, norm = out[0, first:end], out[1, first:end], out[2, first:end]
    wave, re, im = wave[first:end], re[first:end], im[first:end]
    for j in range(len(out_re)):
        a, b = weight * re[j], weight * (sign * im[j])
        g, h = wave[j, 0], wave[j, 1]
        out_re[j] += a * g - b * h
        out_im[j] += a * h + b * g
        norm[j] += a * re[j] + b * (sign * im[j])


@njit(nogil=True, cache=True, fastmath={"contract"})
def _add_cross(first, end, weight, re1, im1, re2, im2, out_re, out_im):
    """``Σ w Γ₁* Γ₂``, of what ``Γ₁* = re1 + i im1`` and ``Γ₂ = re2 + i im2`` are."""
    out_re, out_im = out_re[first:end], out_im[first:end]
    re1, im1, re2, im2 = re1[first:end], im1[first:end], re2[first:end], im2[first:end]
    for j in range(len(out_re)):
        a, b = weight * re1[j], weight * im1[j]
        out_re[j] += a * re2[j] - b * im2[j]
        out_im[j] += a * im2[j] + b * re2[j]


@njit(nogil=True, cache=True)
def _overlap_sums(
    waves, k, heights, starts, step, aperture, coefficients, inverse, weights, both, sums, norms,
    cross,
):  # fmt: skip
    ny = waves.shape[2]
    half = 0.5 * max(aperture[1], aperture[2])
    outer, inner = aperture[0] + half, aperture[0] - half
    row = np.zeros((7, ny), np.float32)
    re, im = np.zeros((2, ny + _VECTOR), _F), np.zeros((2, ny + _VECTOR), _F)
    amplitude = np.zeros(ny + _VECTOR, _F)
    values, polynomial = np.zeros(len(inverse)), np.zeros(7, _F)
    ends = np.zeros((2, 2), np.int64)
    for i in range(len(starts)):
        row[:] = _F(0.0)
        for n in range(len(k)):
            own = _cycles(k[n, 0], k[n, 1], coefficients)
            for side in range(2):
                sign = 2 * side - 1
                bx, by = k[n, 0] + sign * starts[i, 0], k[n, 1] + sign * starts[i, 1]
                dx, dy = sign * step[0], sign * step[1]
                chord = _chord(bx, by, dx, dy, outer, 0, ny)
                ends[side, 0], ends[side, 1] = chord
                if chord[0] == chord[1]:
                    continue
                core = _chord(bx, by, dx, dy, inner, chord[0], chord[1])
                _fill_amplitude(
                    bx, by, dx, dy, chord, core, aperture[3] * heights[n], aperture, amplitude
                )
                middle, per_half = _row_polynomial(
                    bx, by, dx, dy, chord, own, coefficients, inverse, values, polynomial
                )
                _fill_waves(chord, middle, per_half, polynomial, amplitude, re[side], im[side])
            first, end = max(ends[0, 0], ends[1, 0]), min(ends[0, 1], ends[1, 1])
            wave, weight = waves[n, i], weights[n]
            for side in range(2):
                if ends[side, 0] == ends[side, 1]:
                    continue
                if not both and first < end:
                    re[side, first:end], im[side, first:end] = _F(0.0), _F(0.0)
                # Γ₁* is exp(2πi (χ(k − Q) − χ(k))/λ), Γ₂* is exp(−2πi (χ(k + Q) − χ(k))/λ).
                out, sign = row[3 * side : 3 * side + 3], _F(1 - 2 * side)
                last = min(_rounded((ends[side, 0], ends[side, 1])), ny)
                _add(wave, ends[side, 0], last, sign, weight, re[side], im[side], out)
            if both and first < end:
                _add_cross(first, end, weight, re[0], im[0], re[1], im[1], cross[i, 0], cross[i, 1])
        for side in range(2):
            sums[side, i, 0] += row[3 * side]
            sums[side, i, 1] += row[3 * side + 1]
            norms[side, i] += row[3 * side + 2]


def overlap_sums(
    waves: NDArray[np.complex64],
    k: Float,
    starts: Float,
    step: Float,
    aperture: Float,
    coefficients: Float,
    weights: NDArray[np.float32],
    *,
    both: bool,
) -> Overlaps:
    """Sums over detector pixels of G times the conjugates of Γ₁ and Γ₂, and of their squares.

    Parameters
    ----------
    waves : (n, nx, ny) complex64
        G, of n pixels.
    k : (n, 2) float64
        Place of the pixels, 1/Å.
    starts, step : (nx, 2), (2,) float64
        ``Q = starts[i] + j step`` (1/Å) in detector axes.
    aperture : (4,) float64
        Radius, width of a pixel along x and y (over which the rim falls off), 1/Å; and the factor
        of ``Ψ*Ψ``: one over the sum of its squares.
    coefficients : (p, p) float64
        ``χ/λ = Σ c[a, b] k_x^a k_y^b``.
    weights : (n,) float32
    both : bool
        Whether pixels count where both Γ₁ and Γ₂ are not zero.

    Returns
    -------
    Overlaps
    """
    n, nx, ny = waves.shape
    if k.shape != (n, 2) or starts.shape != (nx, 2) or weights.shape != (n,):
        raise ShapeError(f"{waves.shape} waves, {k.shape} k, {starts.shape} Q, {weights.shape}")
    flat = np.ascontiguousarray(waves).view(np.float32).reshape(n, nx, ny, 2)
    sums, norms = np.zeros((2, nx, 2, ny), np.float32), np.zeros((2, nx, ny), np.float32)
    cross = np.zeros((nx, 2, ny), np.float32)
    heights = np.array([_rim(one, aperture) for one in k])
    _overlap_sums(
        flat, k, heights, starts, step, aperture, coefficients, _vandermonde(len(coefficients)),
        weights, both, sums, norms, cross,
    )  # fmt: skip
    complete = sums[:, :, 0] + np.complex64(1j) * sums[:, :, 1]
    return Overlaps(complete, norms, cross[:, 0] + np.complex64(1j) * cross[:, 1])


def _rim(k: Float, aperture: Float) -> float:
    return float(_height(k[0], k[1], aperture))


def _vandermonde(count: int) -> Float:
    """Polynomial coefficients from values at equal steps of −1 … 1."""
    t = np.linspace(-1.0, 1.0, max(count, 2))
    inverse: Float = np.linalg.inv(np.vander(t, increasing=True))
    return inverse
