"""The aligned bright-field image on a finer grid, and the phase that it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.parallax_stack import BrightField
from py4DSTEM.stream.parallel import in_threads

__all__ = ["Summed", "as_probed", "phase_of", "summed", "transfer", "upsampling_for"]

Float = NDArray[np.float64]
_THIN = 0.05  # of the typical density: pixels with less are not known
_SAMPLES = 13  # points across the aperture in an average over it
_RINGS = 48
_NEAR = 4
_LEAST_FLOOR = 5e-3  # of the Wiener filter: contrast below 7 % is not raised
_MARGIN = 0.125  # of the image, mirrored beyond its edges
LARGEST_UPSAMPLING = 4


@dataclass(frozen=True, eq=False)
class Summed:
    """Aligned images (contrast, mean 0) of two halves of the pixels, and of all.

    Parameters
    ----------
    image : (nx, ny) float64
    halves : (2, nx, ny) float64
    density : (nx, ny) float64
        Counts that each pixel is the mean of.
    steps_A : (float, float)
    """

    image: Float
    halves: Float
    density: Float
    steps_A: tuple[float, float]


def upsampling_for(field: BrightField, shifts_A: Float) -> int:
    """Finer grid that holds ``2α/λ``, if the displacements fill it; at most 4."""
    steps = np.array(field.optics.R_steps_A)
    wanted = 2 * max(steps) * 2 * field.edge / field.optics.wavelength_A
    if np.ptp(shifts_A / steps, axis=0).min() < 1.0:
        return 1
    filled = math.sqrt(len(field.counts) / 8)
    return int(max(1, min(math.ceil(wanted - 1e-6), LARGEST_UPSAMPLING, int(filled))))


def summed(field: BrightField, shifts_A: Float, upsampling: int) -> Summed:
    """All images, moved back by their displacements, on a grid of `upsampling` per scan step."""
    from py4DSTEM.kernels.parallax import scatter_images

    steps = np.array(field.optics.R_steps_A)
    shifts = shifts_A / steps
    inside = (field.offset_px.sum(axis=1).round().astype(int)) % 2

    def part(half: int) -> tuple[Float, Float]:
        return scatter_images(field.images, field.counts * (inside == half), shifts, upsampling)

    (total_0, dense_0), (total_1, dense_1) = in_threads(part, (0, 1))
    density = dense_0 + dense_1
    image = _over(total_0 + total_1, density, np.zeros_like(density))
    halves = np.stack([_over(total_0, dense_0, image), _over(total_1, dense_1, image)])
    fine = steps / upsampling
    return Summed(image, halves, density, (float(fine[0]), float(fine[1])))


def _over(total: Float, density: Float, otherwise: Float) -> Float:
    known = density > _THIN * float(np.median(density[density > 0], axis=None))
    mean: Float = np.divide(total, density, out=otherwise.copy(), where=known)
    return mean


def transfer(optics: Optics, aberrations: Aberrations, q: tuple[Float, Float]) -> Float:
    """Contrast of the aligned image per phase: ``2 sin(h)`` times the overlap of apertures.

    Parameters
    ----------
    optics : Optics
    aberrations : Aberrations
    q : (nx, ny) float64, twice
        Cycles per Å along x and y, detector axes.

    Notes
    -----
    ``C(q) = i/n Σ_k {A(k−q) e^{iu(−q)} − A(k+q) e^{iu(q)}}`` over the aperture, with
    ``u(q) = ±(2π/λ) [χ(k±q) − χ(k) ∓ λ q·∇χ]``: what the shift of the images leaves.
    """
    wavelength, edge = optics.wavelength_A, optics.semiangle_mrad * 1e-3
    qx, qy = wavelength * q[0], wavelength * q[1]
    if all(name in ("C10", "C12") for name in aberrations.names):
        sine: Float = 2 * np.sin(2 * np.pi / wavelength * aberrations.chi(qx, qy))
        return sine * _overlap(np.hypot(qx, qy) / edge)
    total = np.zeros(np.broadcast(qx, qy).shape)
    points = _across(edge)
    for x, y in points:
        slope = aberrations.gradient(x, y)
        linear, own = qx * slope[0] + qy * slope[1], float(aberrations.chi(x, y))
        for sign in (-1.0, 1.0):
            inside = np.hypot(x + sign * qx, y + sign * qy) < edge
            chi = aberrations.chi(x + sign * qx, y + sign * qy) - own
            # The real part of i e^{iu}: the imaginary one cancels between k and −k for even χ.
            total += inside * np.sin(2 * np.pi / wavelength * (chi - sign * linear))
    return total / len(points)


def _across(edge: float) -> list[tuple[float, float]]:
    """Points of a square grid within the aperture."""
    grid = (np.arange(_SAMPLES) - (_SAMPLES - 1) / 2) * 2 / _SAMPLES * edge
    return [(float(x), float(y)) for x in grid for y in grid if math.hypot(x, y) < edge]


def as_probed(image: Float, optics: Optics, aberrations: Aberrations, to_detector: Float) -> Float:
    """An image correlated with the intensity of the probe, (Rx, Ry), mean 0.

    What is scattered far is an image of the specimen blurred by the probe, whose transfer has
    either sign in a defocused scan; the same for opposite aberrations.
    """
    from scipy import fft  # slow to import

    wavelength, edge = optics.wavelength_A, optics.semiangle_mrad * 1e-3
    shape, steps, d = image.shape, optics.R_steps_A, wavelength * to_detector
    qx, qy = fft.fftfreq(shape[0], steps[0])[:, None], fft.rfftfreq(shape[1], steps[1])[None]
    ax, ay = d[0, 0] * qx + d[0, 1] * qy, d[1, 0] * qx + d[1, 1] * qy
    total = np.zeros(ax.shape)
    for x, y in _across(edge):
        chi = aberrations.chi(x + ax, y + ay) - aberrations.chi(x, y)
        total += (np.hypot(x + ax, y + ay) < edge) * np.cos(2 * np.pi / wavelength * chi)
    total[0, 0] = 0.0
    blurred: Float = fft.irfft2(fft.rfft2(image) * total, shape)
    return blurred


def _overlap(distance: Float) -> Float:
    """Common area of two unit disks that far apart, over the area of one."""
    half = np.clip(distance / 2, 0.0, 1.0)
    area: Float = 2 / np.pi * (np.arccos(half) - half * np.sqrt(1 - half**2))
    return area


def phase_of(
    found: Summed,
    optics: Optics,
    aberrations: Aberrations,
    to_detector: Float,
    method: str = "wiener",
) -> Float:
    """Phase (rad) of a weak phase object with this aligned image, mean 0.

    Signal and noise of each ring of frequency are those that two halves of the pixels have, and
    have not, in common.
    """
    from scipy import fft  # slow to import

    shape = found.image.shape
    margin = [(int(_MARGIN * n),) * 2 for n in shape]
    padded = [np.pad(a, margin, mode="symmetric") for a in (*found.halves, found.image)]
    one, other, whole = fft.rfft2(np.stack(padded), workers=2)
    qx = fft.fftfreq(padded[0].shape[0], found.steps_A[0])[:, None]
    qy = fft.rfftfreq(padded[0].shape[1], found.steps_A[1])[None, :]
    d = to_detector
    seen = transfer(optics, aberrations, (d[0, 0] * qx + d[0, 1] * qy, d[1, 0] * qx + d[1, 1] * qy))
    # Sharing a value between two pixels blurs by the square of a sinc.
    blur = (np.sinc(qx * found.steps_A[0]) * np.sinc(qy * found.steps_A[1])) ** 2
    seen = seen * blur
    if method == "flip":
        corrected = whole * np.sign(seen) / blur
    else:
        ring = _rings(np.hypot(qx, qy))
        signal = _ring_mean((one.conj() * other).real, ring)
        noise = _ring_mean(np.abs(one - other) ** 2 / 4, ring)
        # The object's own spectrum is smooth, also across the zeros of the transfer.
        strength = _smooth(np.maximum(signal, 1e-2 * noise)) / np.maximum(
            _smooth(_ring_mean(seen**2, ring)), 1e-6
        )
        floor = np.divide(noise, strength, out=np.ones_like(noise), where=strength > 0)
        floor = np.maximum(floor, _LEAST_FLOOR)
        corrected = whole * seen / (seen**2 + floor[ring])
    corrected[0, 0] = 0.0
    phase = fft.irfft2(corrected, padded[0].shape)
    (x, _), (y, _) = margin
    cut: Float = phase[x : x + shape[0], y : y + shape[1]]
    centred: Float = cut - cut.mean()
    return centred


def _smooth(values: Float) -> Float:
    """Mean over a few neighbouring rings."""
    wide = np.pad(values, _NEAR, mode="edge")
    mean: Float = np.convolve(wide, np.full(2 * _NEAR + 1, 1 / (2 * _NEAR + 1)), mode="valid")
    return mean


def _rings(radius: Float) -> NDArray[np.intp]:
    number: NDArray[np.intp] = (radius / radius.max() * _RINGS).astype(np.intp)
    return np.minimum(number, _RINGS - 1)


def _ring_mean(values: Float, ring: NDArray[np.intp]) -> Float:
    total = np.bincount(ring.ravel(), values.ravel(), _RINGS)
    mean: Float = total / np.maximum(np.bincount(ring.ravel(), minlength=_RINGS), 1)
    return mean
