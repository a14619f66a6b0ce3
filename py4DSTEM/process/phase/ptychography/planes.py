"""Complex arrays to the planes of the compiled kernels, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.kernels._simd import LANES
from py4DSTEM.kernels.fft import padded

__all__ = ["from_object", "from_spectra", "to_object", "to_spectra", "turned"]

Complex = NDArray[np.complexfloating[Any, Any]]
F32 = NDArray[np.float32]


def turned(images: NDArray[Any]) -> F32:
    """Real images (…, n0, n1) as turned, padded planes (…, plane) float32."""
    n0, n1 = images.shape[-2:]
    planes = np.zeros((*images.shape[:-2], padded(n1), padded(n0)), np.float32)
    planes[..., :n1, :n0] = np.swapaxes(images, -1, -2)
    return planes.reshape(*images.shape[:-2], -1)


def unturned(planes: F32, shape: tuple[int, int]) -> F32:
    """The inverse of `turned`."""
    n0, n1 = shape
    images = planes.reshape(*planes.shape[:-1], padded(n1), padded(n0))[..., :n1, :n0]
    return np.ascontiguousarray(np.swapaxes(images, -1, -2))


def to_spectra(waves: Complex) -> F32:
    """Waves in real space (modes, n0, n1) as the kernels keep probes, (modes, 2, plane)."""
    spectra = np.fft.fft2(waves) / (waves.shape[-2] * waves.shape[-1])
    return np.stack([turned(spectra.real), turned(spectra.imag)], axis=1)


def from_spectra(planes: F32, shape: tuple[int, int]) -> NDArray[np.complex64]:
    """The inverse of `to_spectra`."""
    spectra = unturned(planes[:, 0], shape) + 1j * unturned(planes[:, 1], shape)
    waves = np.fft.ifft2(spectra) * (shape[0] * shape[1])
    return waves.astype(np.complex64)


def to_object(slices: Complex) -> F32:
    """An object (slices, rows, columns) as the kernels keep it: columns that windows overlap."""
    count, rows, columns = slices.shape
    planes = np.zeros((count, 2, rows, columns + LANES), np.float32)
    planes[:, 0, :, :columns], planes[:, 1, :, :columns] = slices.real, slices.imag
    return planes


def from_object(planes: F32) -> NDArray[np.complex64]:
    """The inverse of `to_object`."""
    seen = planes[..., : planes.shape[-1] - LANES]
    return (seen[:, 0] + 1j * seen[:, 1]).astype(np.complex64)
