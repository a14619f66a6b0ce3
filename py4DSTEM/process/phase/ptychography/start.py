"""The first object and the first probe."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.errors import ParameterError
from py4DSTEM.kernels.fft import fast_size
from py4DSTEM.process.beam import disk_of
from py4DSTEM.process.phase.ptychography.geometry import Geometry
from py4DSTEM.process.phase.ptychography.patterns import Patterns

__all__ = ["centre_ramp", "continued", "first_object", "first_probe", "flight", "shifted_k"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
_POWERS = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2), (3, 0), (0, 3))


def shifted_k(patterns: Patterns) -> tuple[Float, Float]:
    """Scattering vectors (Å⁻¹) of the pixels, (n0, 1) and (1, n1): the origin may lie between."""
    kx, ky = patterns.optics.k()
    (rx, ry), (sx, sy) = patterns.rest_px, patterns.optics.Q_steps_A
    return kx - rx * sx, ky - ry * sy


def first_probe(
    patterns: Patterns,
    aberrations: Aberrations,
    *,
    modes: int = 1,
    vacuum: ArrayLike | None = None,
    power: float | None = None,
) -> Complex:
    """Probe modes in real space, (modes, n0, n1), centred on pixel (n0 // 2, n1 // 2).

    Parameters
    ----------
    patterns : Patterns
    aberrations : Aberrations
    modes : int
        The first has nearly all of the power; the others are it times low powers of k.
    vacuum : (Qx, Qy) float or DiffractionSlice, optional
        Counts without specimen, on the detector; None: the aperture.
    power : float, optional
        Counts of a pattern; None: the largest of the scan.

    Notes
    -----
    ``Σ_modes |F ψ|²`` is in counts: ``Σ |ψ|² = power / (n0 n1)``.
    """
    n0, n1 = patterns.shape
    if not 1 <= modes <= len(_POWERS):
        raise ParameterError(f"modes is a number from 1 to {len(_POWERS)}, not {modes!r}")
    kx, ky = shifted_k(patterns)
    wavelength = patterns.optics.wavelength_A
    phase = np.exp(-2j * np.pi / wavelength * aberrations.chi(wavelength * kx, wavelength * ky))
    wave = _modulus(patterns, vacuum, kx, ky) * phase * _to_middle((n0, n1))
    edge = patterns.optics.semiangle_mrad * 1e-3 / wavelength
    spectra = np.stack([wave * (kx / edge) ** a * (ky / edge) ** b for a, b in _POWERS[:modes]])
    share = np.array([1.0] + [0.02] * (modes - 1))
    spectra *= np.sqrt(share / share.sum() / (np.abs(spectra) ** 2).sum(axis=(1, 2)))[:, None, None]
    total = float(patterns.counts.max()) if power is None else power
    return np.asarray(np.fft.ifft2(spectra * math.sqrt(total)))


def _modulus(patterns: Patterns, vacuum: ArrayLike | None, kx: Float, ky: Float) -> Float:
    if vacuum is not None:
        return _root_of(vacuum, patterns)
    optics = patterns.optics
    edge = optics.semiangle_mrad * 1e-3 / optics.wavelength_A
    radius = np.hypot(kx, ky)
    inside: Float = np.clip((edge - radius) / min(optics.Q_steps_A) + 0.5, 0.0, 1.0)
    if not inside.any():
        raise ParameterError("the bright disk is smaller than a pixel: check the calibration")
    return inside


def _root_of(vacuum: ArrayLike, patterns: Patterns) -> Float:
    """Modulus of the probe from a pattern without specimen, whose disk is moved to the origin."""
    known = np.asarray(getattr(vacuum, "data", vacuum), dtype=np.float64)
    fits = known.ndim == 2 and tuple(map(fast_size, known.shape)) == patterns.shape
    if not fits or not np.isfinite(known).all() or known.max() <= 0:
        raise ParameterError(
            "a vacuum pattern is finite, not empty, and of the shape of the scan's patterns, not "
            f"{known.shape}"
        )
    beam = disk_of(known)
    # Counts far from the disk are noise of the detector, which no aperture lets through.
    known = np.where(known > 0.02 * known.max(), known, 0.0)
    whole = np.zeros(patterns.shape)
    whole[: known.shape[0], : known.shape[1]] = known
    move = np.array(patterns.rest_px) - np.array(beam.center)
    moved: Float = ndimage.shift(whole, move, order=1, mode="grid-wrap")
    return np.sqrt(moved)


def _to_middle(shape: tuple[int, int]) -> Complex:
    """Moves what is centred on pixel (0, 0) to the middle of the window."""
    x, y = (np.exp(-2j * np.pi * np.fft.fftfreq(n) * (n // 2)) for n in shape)
    middle: Complex = x[:, None] * y
    return middle


def centre_ramp(patterns: Patterns) -> Complex:
    """What takes from a probe the ramp of an origin that lies between pixels, (n0, n1)."""
    (n0, n1), (rx, ry) = patterns.shape, patterns.rest_px
    x, y = np.arange(n0) - n0 // 2, np.arange(n1) - n1 // 2
    ramp: Complex = np.exp(-2j * np.pi * (rx * x[:, None] / n0 + ry * y / n1))
    return ramp


def continued(
    object_: NDArray[np.complex64], probe: NDArray[np.complex64], slices: int, modes: int
) -> tuple[Complex, Complex]:
    """Object and probe with other numbers of slices and modes.

    More slices share the phase of one; fewer are its product, as far as one slice can be.  More
    modes begin weak, as the strongest times low powers of the distance from the middle.
    """
    whole = object_.astype(np.complex128)
    if len(whole) != slices:
        product = whole.prod(axis=0)
        middle = np.exp(1j * np.angle(product.sum()))
        one = np.exp(np.log(np.maximum(np.abs(product), 1e-6)) / slices)
        phase = (np.angle(product / middle) + np.angle(middle)) / slices
        whole = np.broadcast_to(one * np.exp(1j * phase), (slices, *product.shape))
    wave = probe[:modes].astype(np.complex128)
    if modes > len(probe):
        n0, n1 = wave.shape[1:]
        x, y = (np.arange(n0)[:, None] - n0 // 2) / n0, (np.arange(n1) - n1 // 2) / n1
        added = [wave[0] * x**a * y**b for a, b in _POWERS[len(probe) : modes]]
        total = (np.abs(wave) ** 2).sum()
        added = [m * np.sqrt(0.02 * total / (np.abs(m) ** 2).sum()) for m in added]
        wave = np.concatenate([wave, np.stack(added)])
        wave *= np.sqrt(total / (np.abs(wave) ** 2).sum())
    return whole, wave


def first_object(geometry: Geometry, slices: int) -> Complex:
    """Vacuum, (slices, rows, columns)."""
    return np.ones((slices, *geometry.object_shape), np.complex128)


def flight(
    patterns: Patterns, thickness_A: float, tilt_rad: tuple[float, float] = (0.0, 0.0)
) -> Complex:
    """Fresnel propagator over a slice, (n0, n1), zero frequency first, over n0·n1.

    ``exp(−iπ λ Δz k² + 2πi Δz k·tilt)``: each slice lies beside the one before by ``Δz tilt``
    (detector axes), and what is seen of it is moved back, so that columns stay where they are.  No
    propagation beyond two thirds of the largest frequency is not needed here, as nothing wraps
    that the detector saw.
    """
    kx, ky = shifted_k(patterns)
    aside = 2 * (kx * tilt_rad[0] + ky * tilt_rad[1])
    bent = patterns.optics.wavelength_A * (kx**2 + ky**2)
    wave = np.exp(1j * np.pi * thickness_A * (aside - bent))
    flown: Complex = wave / (patterns.shape[0] * patterns.shape[1])
    return flown
