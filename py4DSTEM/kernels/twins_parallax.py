"""Twins of the parallax kernels: plain numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.aberrations import basis
from .api import Float
from .parallax import PARTS


def aligned_sums(
    images: NDArray[np.complex64], k: Float, q: Float, coefficients: Float, edge: float
) -> tuple[NDArray[np.complex128], Float, Float, NDArray[np.complex128], Float, Float]:
    """Twin of `py4DSTEM.kernels.parallax.aligned_sums`."""
    images = images.astype(np.complex128)
    plus, minus = k[None] + q[:, None], k[None] - q[:, None]
    inside = np.maximum((plus**2).sum(-1), (minus**2).sum(-1)) < edge**2
    chi_plus, chi_minus = (_waves(v, len(coefficients)) for v in (plus, minus))
    odd = (chi_plus - chi_minus) / 2
    odd[1] = k[None, :, 0] * q[:, None, 1] - k[None, :, 1] * q[:, None, 0]
    even = chi_plus + chi_minus - 2 * _waves(k, len(coefficients))[:, None]
    a = np.ones(inside.shape)
    if len(coefficients) > 4:
        a = np.sin(np.pi * np.tensordot(coefficients, even, 1))
        rms = np.sqrt((a**2 * inside).sum(1) / np.maximum(inside.sum(1), 1))[:, None]
        sign = np.where((a * inside).sum(1) < 0, -1.0, 1.0)[:, None]
        a = np.where(rms > 1e-6, sign * a / np.maximum(rms, 1e-6), 1.0)
    model = inside * a * np.exp(2j * np.pi * np.tensordot(coefficients, odd, 1))
    slope = 2 * np.pi * odd
    square = np.abs(model) ** 2
    return (
        (model.conj() * images).sum(1),
        inside.sum(1).astype(float),
        (inside * np.abs(images) ** 2).sum(1),
        np.einsum("pmn,mn->mp", slope, -1j * model.conj() * images),
        np.einsum("pmn,mn->mp", slope, square),
        np.einsum("pmn,rmn,mn->mpr", slope, slope, square),
    )


def _waves(v: Float, count: int) -> Float:
    """χ of each part; that of the turn is none."""
    x, y = v[..., 0], v[..., 1]
    parts = [np.zeros(x.shape) if n == "turn" else basis(n, p, x, y) for n, p in PARTS[:count]]
    return np.stack(parts)


def scatter_images(
    images: NDArray[np.float32], weights: Float, shifts: Float, upsampling: int
) -> tuple[Float, Float]:
    """Twin of `py4DSTEM.kernels.parallax.scatter_images`."""
    nx, ny = images.shape[1:]
    total, density = np.zeros((2, upsampling * nx, upsampling * ny))
    for image, w, shift in zip(images, weights, shifts, strict=True):
        at = upsampling * (np.moveaxis(np.indices((nx, ny)), 0, -1) - shift)
        low = np.floor(at).astype(int)
        for corner in np.ndindex(2, 2):
            place = low + corner
            share = w * np.prod(1 - np.abs(at - place), axis=-1)
            there = ((place >= 0) & (place < total.shape)).all(-1)
            index = tuple(place[there].T)
            np.add.at(total, index, (share * image)[there])
            np.add.at(density, index, share[there])
    return total, density


def aligned_power(
    values: NDArray[np.complex64], along: Float, across: Float, trials: Float
) -> Float:
    """Twin of `py4DSTEM.kernels.parallax.aligned_power`."""
    power = np.zeros((len(trials), len(trials)))
    for i, a in enumerate(trials):
        for j, b in enumerate(trials):
            moved = values * np.exp(-2j * np.pi * (a * along + b * across))
            power[i, j] = (np.abs(moved.sum(axis=1)) ** 2).sum()
    return power
