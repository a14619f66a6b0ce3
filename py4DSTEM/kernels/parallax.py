"""Images of bright-field pixels: how well aberrations align them, and their sum on a finer grid."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ._jit import njit
from .api import Float

__all__ = ["PARTS", "aligned_power", "aligned_sums", "scatter_images"]

PARTS = (
    ("C10", "a"), ("turn", "a"), ("C12", "a"), ("C12", "b"), ("C21", "a"), ("C21", "b"),
    ("C23", "a"), ("C23", "b"), ("C30", "a"),
)  # fmt: skip
"""What the coefficients stand for, in this order; "turn" is the antisymmetric linear part."""


def aligned_sums(
    images: NDArray[np.complex64], k: Float, q: Float, coefficients: Float, edge: float
) -> tuple[NDArray[np.complex128], Float, Float, NDArray[np.complex128], Float, Float]:
    """Sums over bright-field pixels of Fourier components of their images.

    Parameters
    ----------
    images : (m, n) complex64
        Component q of the image of pixel k.
    k, q : (n, 2), (m, 2) float64
        Wavelength times the vectors in detector axes, rad.
    coefficients : (P,) float64
        In wavelengths, in the order of `PARTS`; the first P of them.
    edge : float
        Radius of the aperture (rad): only pixels count whose ``k + q`` and ``k − q`` lie within.

    Returns
    -------
    cross : (m,) complex128
        ``Σ T* d``; T is ``a exp(ip)`` with ``p = π [χ(k+q) − χ(k−q)]`` and
        ``a = sin(π [χ(k+q) + χ(k−q) − 2χ(k)])``, of rms one and positive mean over k; ``a = 1`` up
        to the first order.
    count, power : (m,) float64
        Pixels that count, and their ``Σ |d|²``.
    slopes : (m, P) complex128
        ``Σ (∂T/∂c)* d``, a held fixed.
    means : (m, P) float64
        ``Σ ∂p/∂c |T|²``.
    squares : (m, P, P) float64
        ``Σ ∂p/∂c ∂p/∂c' |T|²``.
    """
    m, parts = len(q), len(coefficients)
    out = (
        np.zeros(m, np.complex128), np.zeros(m), np.zeros(m),
        np.zeros((m, parts), np.complex128), np.zeros((m, parts)), np.zeros((m, parts, parts)),
    )  # fmt: skip
    _aligned_sums(images, k, q, coefficients, edge, *out)
    return out


@njit(nogil=True, cache=True)
def _chi(x: float, y: float, c: Float) -> float:
    """χ of what is of the second order or higher."""
    r2 = x * x + y * y
    total: float = c[4] * r2 * x + c[5] * r2 * y
    total += c[6] * (x * x - 3 * y * y) * x + c[7] * (3 * x * x - y * y) * y
    total /= 3
    if len(c) > 8:
        total += c[8] * r2 * r2 / 4
    return total


@njit(nogil=True, cache=True)
def _odd(kx: float, ky: float, qx: float, qy: float, out: Float) -> None:
    """``[b(k+q) − b(k−q)] / 2`` of every part."""
    out[0] = kx * qx + ky * qy
    out[1] = kx * qy - ky * qx
    out[2] = kx * qx - ky * qy
    out[3] = kx * qy + ky * qx
    if len(out) > 4:
        q2 = qx * qx + qy * qy
        k2, kq = kx * kx + ky * ky, out[0]
        out[4] = (qx * k2 + 2 * kx * kq + qx * q2) / 3
        out[5] = (qy * k2 + 2 * ky * kq + qy * q2) / 3
        out[6] = (3 * qx * (kx * kx - ky * ky) - 6 * qy * kx * ky
                  + qx * qx * qx - 3 * qx * qy * qy) / 3  # fmt: skip
        out[7] = (3 * qy * (kx * kx - ky * ky) + 6 * qx * kx * ky
                  + 3 * qx * qx * qy - qy * qy * qy) / 3  # fmt: skip
        if len(out) > 8:
            out[8] = (k2 + q2) * kq


@njit(nogil=True, cache=True)
def _amplitudes(k: Float, q: Float, c: Float, inside: NDArray[np.intp], out: Float) -> None:
    """a of the pixels that count, of rms one."""
    if len(c) <= 4:
        out[: len(inside)] = 1.0
        return
    qx, qy = q
    linear = c[0] * (qx * qx + qy * qy) + c[2] * (qx * qx - qy * qy) + 2 * c[3] * qx * qy
    total = mean = 0.0
    for j, n in enumerate(inside):
        kx, ky = k[n]
        even = _chi(kx + qx, ky + qy, c) + _chi(kx - qx, ky - qy, c) - 2 * _chi(kx, ky, c)
        out[j] = math.sin(math.pi * (linear + even))
        total += out[j] * out[j]
        mean += out[j]
    scale = math.copysign(math.sqrt(total / max(1, len(inside))), mean)
    for j in range(len(inside)):
        out[j] = out[j] / scale if abs(scale) > 1e-6 else 1.0


@njit(nogil=True, cache=True)
def _aligned_sums(
    images: NDArray[np.complex64],
    k: Float,
    q: Float,
    c: Float,
    edge: float,
    cross: NDArray[np.complex128],
    count: Float,
    power: Float,
    slopes: NDArray[np.complex128],
    means: Float,
    squares: Float,
) -> None:
    parts, edge2 = len(c), edge * edge
    odd, a, inside = np.empty(parts), np.empty(len(k)), np.empty(len(k), np.intp)
    for m in range(len(q)):
        qx, qy = q[m]
        size = 0
        for n in range(len(k)):
            kx, ky = k[n]
            plus = (kx + qx) ** 2 + (ky + qy) ** 2
            minus = (kx - qx) ** 2 + (ky - qy) ** 2
            if max(plus, minus) < edge2:
                inside[size] = n
                size += 1
        count[m] = size
        _amplitudes(k, q[m], c, inside[:size], a)
        for j in range(size):
            n = inside[j]
            _odd(k[n, 0], k[n, 1], qx, qy, odd)
            p = 0.0
            for s in range(parts):
                p += c[s] * odd[s]
            p *= 2 * math.pi
            d = np.complex128(images[m, n])
            power[m] += d.real * d.real + d.imag * d.imag
            turned = a[j] * complex(math.cos(p), -math.sin(p)) * d
            cross[m] += turned
            for s in range(parts):
                slope = 2 * math.pi * odd[s]
                slopes[m, s] += -1j * slope * turned
                weighted = slope * a[j] * a[j]
                means[m, s] += weighted
                for t in range(s + 1):
                    squares[m, s, t] += weighted * 2 * math.pi * odd[t]
        for s in range(parts):
            for t in range(s):
                squares[m, t, s] = squares[m, s, t]


def scatter_images(
    images: NDArray[np.float32],
    weights: Float,
    shifts: Float,
    upsampling: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Add images, each moved back by its displacement, onto a finer grid.

    Parameters
    ----------
    images : (n, Rx, Ry) float32
    weights : (n,) float64
    shifts : (n, 2) float64
        Displacement of each image in its pixels.
    upsampling : int
        Pixels of the grid per pixel of the images; pixel 0 of both lie at the same place.

    Returns
    -------
    total, density : (upsampling Rx, upsampling Ry) float64
        ``Σ w I`` and ``Σ w`` of what falls into each pixel, shared between the four nearest in
        proportion to their closeness.
    """
    u, (_, nx, ny) = upsampling, images.shape
    total = np.zeros((2, u, u, nx, ny))
    _scatter(images, weights, shifts, u, total[0], total[1])
    # Phases of the fine grid are kept apart while adding, so that rows are contiguous.
    fine = total.transpose(0, 3, 1, 4, 2).reshape(2, u * nx, u * ny)
    return fine[0], fine[1]


@njit(nogil=True, cache=True)
def _scatter(
    images: NDArray[np.float32], weights: Float, shifts: Float, u: int, total: Float, density: Float
) -> None:
    count, nx, ny = images.shape
    for n in range(count):
        w = weights[n]
        if w <= 0:
            continue
        x, y = -u * shifts[n, 0], -u * shifts[n, 1]
        x0, y0 = math.floor(x), math.floor(y)
        for dx in range(2):
            for dy in range(2):
                share = w * abs(1 - dx - (x - x0)) * abs(1 - dy - (y - y0))
                px, ax = (x0 + dx) // u, (x0 + dx) % u
                py, ay = (y0 + dy) // u, (y0 + dy) % u
                first, last = max(0, -py), min(ny, ny - py)
                for i in range(max(0, -px), min(nx, nx - px)):
                    into, seen = total[ax, ay, i + px], density[ax, ay, i + px]
                    row = images[n, i]
                    for j in range(first, last):
                        into[j + py] += share * row[j]
                        seen[j + py] += share


def aligned_power(
    values: NDArray[np.complex64], along: Float, across: Float, trials: Float
) -> Float:
    """Power of the sum of all images, moved back by every pair of trials.

    Parameters
    ----------
    values : (m, n) complex64
        Component q of image n.
    along, across : (m, n) float64
        Cycles per unit of the first and of the second trial.
    trials : (T,) float64
        Evenly spaced.

    Returns
    -------
    (T, T) float64
        ``Σ_m |Σ_n d exp(−2πi (a along + b across))|²`` for trials a (rows) and b (columns).
    """
    power = np.zeros((len(trials), len(trials)))
    for m in range(len(values)):
        # Trials are evenly spaced, so that waves are powers of one another.
        first = _powers(trials, along[m]) * values[m]
        second = np.ascontiguousarray(_powers(trials, across[m]).T)
        _add_power(
            first.real.astype(np.float32), first.imag.astype(np.float32),
            second.real.astype(np.float32), second.imag.astype(np.float32), power,
        )  # fmt: skip
    return power


def _powers(trials: Float, path: Float) -> NDArray[np.complex128]:
    waves = np.empty((len(trials), len(path)), np.complex128)
    waves[0] = np.exp(-2j * np.pi * trials[0] * path)
    waves[1:] = np.exp(-2j * np.pi * (trials[-1] - trials[0]) / max(1, len(trials) - 1) * path)
    return np.asarray(np.cumprod(waves, axis=0), np.complex128)


@njit(nogil=True, cache=True)
def _add_power(
    first_real: NDArray[np.float32],
    first_imag: NDArray[np.float32],
    second_real: NDArray[np.float32],
    second_imag: NDArray[np.float32],
    power: Float,
) -> None:
    """Not a product of matrices by BLAS, whose threads would meet those of this package."""
    (count, inner), width = first_real.shape, second_real.shape[1]
    real, imag = np.empty(width, np.float32), np.empty(width, np.float32)
    for a in range(count):
        real[:] = 0
        imag[:] = 0
        for n in range(inner):
            x, y = first_real[a, n], first_imag[a, n]
            u, v = second_real[n], second_imag[n]
            for b in range(width):
                real[b] += x * u[b] - y * v[b]
                imag[b] += x * v[b] + y * u[b]
        for b in range(width):
            power[a, b] += real[b] * real[b] + imag[b] * imag[b]
