"""Multislice: slices shift the phase of a wave, which propagates from each to the next.

Transmission ``exp(iσ v_s(r))``, propagation ``exp(−πiλ Δz k²)``; waves and transmissions are
limited to two thirds of the Nyquist frequency, so that no product folds back (Cowley & Moodie,
doi:10.1107/S0365110X57002194; Kirkland, doi:10.1007/978-3-030-33260-0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from py4DSTEM.errors import ParameterError
from py4DSTEM.stream.parallel import in_threads

__all__ = ["SliceStack", "coherent_modes", "fine_shape", "frequencies", "propagator"]

Float = NDArray[np.float64]
Complex64 = NDArray[np.complex64]
Complex = NDArray[np.complex128]
Pair = tuple[float, float]
_WINDOWS_AT_ONCE = 8


def fine_shape(Q_shape: tuple[int, int]) -> tuple[int, int]:
    """Pixels of the wave, half as many again as the detector's: two thirds of them reach its rim.

    >>> fine_shape((64, 50))
    (96, 76)
    """
    x, y = (2 * math.ceil(3 * n / 4) for n in Q_shape)
    return x, y


def frequencies(shape: tuple[int, int], sampling: Pair) -> tuple[Float, Float]:
    """k in FFT order along x, (nx, 1), and y, (1, ny)."""
    x, y = (
        np.asarray(np.fft.fftfreq(n, step), np.float64)
        for n, step in zip(shape, sampling, strict=True)
    )
    return x[:, None], y[None, :]


def _inside(shape: tuple[int, int], sampling: Pair) -> NDArray[np.bool_]:
    """Frequencies within two thirds of Nyquist."""
    kx, ky = frequencies(shape, sampling)
    inside: NDArray[np.bool_] = np.hypot(kx * 2 * sampling[0], ky * 2 * sampling[1]) <= 2 / 3
    return inside


def propagator(
    shape: tuple[int, int], sampling_A: Pair, wavelength_A: float, distance_A: float
) -> Complex64:
    """``exp(−πiλ Δz k²)`` in FFT order, zero beyond two thirds of the Nyquist frequency."""
    kx, ky = frequencies(shape, sampling_A)
    phase = -np.pi * wavelength_A * distance_A * (kx**2 + ky**2)
    wave: Complex64 = (np.exp(1j * phase) * _inside(shape, sampling_A)).astype(np.complex64)
    return wave


@dataclass(frozen=True, eq=False)
class SliceStack:
    """A specimen as slices, and the vacuum of one slice between them.

    Parameters
    ----------
    transmission : (n, nx, ny) complex64
        Of the slices, limited in frequency, entrance first.
    sampling_A : (float, float)
    distance_A : float
        From each slice to the next.
    wavelength_A : float
    """

    transmission: Complex64
    sampling_A: Pair
    distance_A: float
    wavelength_A: float

    @classmethod
    def of_phase(
        cls, phase: Float, sampling_A: Pair, distance_A: float, wavelength_A: float
    ) -> SliceStack:
        """From the phase of each slice, (n, nx, ny) rad."""
        if phase.ndim != 3 or not np.isfinite(phase).all():
            raise ParameterError(f"phases of slices are finite and (n, nx, ny), not {phase.shape}")
        limit = _inside((phase.shape[1], phase.shape[2]), sampling_A)
        limited = fft.ifft2(fft.fft2(np.exp(1j * phase)) * limit)
        return cls(limited.astype(np.complex64), sampling_A, distance_A, wavelength_A)

    def exit_waves(self, probes: Complex64, corners: NDArray[np.int64]) -> Complex64:
        """Waves in reciprocal space behind the specimen.

        Parameters
        ----------
        probes : (n, wx, wy) complex64
            In real space, at the entrance.
        corners : (n, 2) int64
            Pixel of the stack below the first of each window; windows lie inside the stack.

        Returns
        -------
        (n, wx, wy) complex64
            In FFT order, just behind the last slice.
        """
        shape = probes.shape[1], probes.shape[2]
        rows = corners[:, :1] + np.arange(shape[0])
        columns = corners[:, 1:] + np.arange(shape[1])
        step = propagator(shape, self.sampling_A, self.wavelength_A, self.distance_A)
        limit = _inside(shape, self.sampling_A).astype(np.float32)
        waves = probes
        for index, slab in enumerate(self.transmission):
            waves = waves * slab[rows[:, :, None], columns[:, None, :]]
            spectrum = fft.fft2(waves, overwrite_x=True)
            if index == len(self.transmission) - 1:
                break
            waves = fft.ifft2(spectrum * step, overwrite_x=True)
        behind: Complex64 = spectrum * limit
        return behind

    def patterns(
        self, modes: Complex, positions_px: Float, Q_shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Diffraction patterns, origin at (Qx // 2, Qy // 2).

        Parameters
        ----------
        modes : (m, wx, wy) complex128
            Probes in reciprocal space, FFT order; their intensities add up.
        positions_px : (n, 2) float64
            In pixels of the stack, windows inside it.
        Q_shape : (int, int)
            The middle of the window's spectrum.

        Returns
        -------
        (n, Qx, Qy) float32
            Of sum one if ``Σ |modes|² = 1`` and nothing is scattered beside the detector.
        """
        out = np.zeros((len(positions_px), *Q_shape), np.float32)
        window = modes.shape[1], modes.shape[2]
        starts = [w // 2 - q // 2 for w, q in zip(window, Q_shape, strict=True)]
        rows, columns = (slice(a, a + q) for a, q in zip(starts, Q_shape, strict=True))

        def work(part: slice) -> None:
            for mode in modes.astype(np.complex64):
                probes, corners = _placed(mode, positions_px[part])
                waves = self.exit_waves(probes, corners)
                shifted = np.fft.fftshift(waves, axes=(1, 2))[:, rows, columns]
                out[part] += shifted.real**2 + shifted.imag**2

        parts = range(0, len(positions_px), _WINDOWS_AT_ONCE)
        in_threads(work, [slice(a, a + _WINDOWS_AT_ONCE) for a in parts])
        # Unitary transforms: the sum over the detector is that over the probe.
        return out / np.float32(math.prod(window))


def _placed(mode: Complex64, positions_px: Float) -> tuple[Complex64, NDArray[np.int64]]:
    """Probes in the middle of windows, moved by what positions lie beside whole pixels."""
    shape = np.array(mode.shape)
    whole = np.floor(positions_px).astype(np.int64)
    shift = positions_px - whole + shape // 2
    kx, ky = (np.fft.fftfreq(n) for n in mode.shape)
    ramp_x = np.exp(-2j * np.pi * shift[:, :1] * kx).astype(np.complex64)
    ramp_y = np.exp(-2j * np.pi * shift[:, 1:] * ky).astype(np.complex64)
    probes: Complex64 = fft.ifft2(mode * ramp_x[:, :, None] * ramp_y[:, None, :], norm="forward")
    return probes / np.float32(math.sqrt(math.prod(mode.shape))), whole - shape // 2


# ---- partial coherence ---------------------------------------------------------------------------
def coherent_modes(
    wave: Complex,
    k: tuple[Float, Float],
    wavelength_A: float,
    *,
    source_size_A: float,
    focal_spread_A: float,
    count: int | None,
) -> Complex:
    """Orthogonal probes whose intensities add up to those of a source that is not a point.

    Parameters
    ----------
    wave : (wx, wy) complex128
        The coherent probe in reciprocal space, ``Σ |Ψ|² = 1``.
    k : (wx, 1) and (1, wy) float64
        Å⁻¹.
    wavelength_A : float
    source_size_A, focal_spread_A : float
        Standard deviations of the position of the source along each axis, and of the defocus.
    count : int, optional
        Keep so many; None: those that hold 99.9 % of the intensity, at most 12.

    Returns
    -------
    (m, wx, wy) complex128
        Strongest first, ``Σ |modes|² = 1``.

    Notes
    -----
    The density matrix ``Σ_j w_j |Ψ_j⟩⟨Ψ_j|`` over Gauss–Hermite nodes of position and defocus, and
    its eigenvectors (doi:10.1038/nature11806).
    """
    if source_size_A == 0 and focal_spread_A == 0:
        return wave[None]
    ensemble = _ensemble(wave, k, wavelength_A, source_size_A, focal_spread_A)
    flat = ensemble.reshape(len(ensemble), -1)
    power, mixture = np.linalg.eigh(flat.conj() @ flat.T)
    power, mixture = power[::-1], mixture[:, ::-1]
    held = np.cumsum(power) / power.sum()
    keep = count or min(int(np.searchsorted(held, 0.999)) + 1, 12)
    modes = (mixture[:, : min(keep, len(power))].T @ flat).reshape(-1, *wave.shape)
    along = np.einsum("mxy,xy->m", modes, wave.conj())
    turn = np.where(np.abs(along) > 1e-9, along.conj() / np.maximum(np.abs(along), 1e-300), 1)
    modes *= turn[:, None, None]
    normalised: Complex = modes / np.linalg.norm(modes)
    return normalised


def _ensemble(
    wave: Complex, k: tuple[Float, Float], wavelength_A: float, source_A: float, spread_A: float
) -> Complex:
    """Probes at nodes of position and defocus, each times the root of its weight."""
    (sx, wx), (df, wf) = (_nodes(sigma, n) for sigma, n in ((source_A, 7), (spread_A, 9)))
    out = []
    for x, weight_x in zip(sx, wx, strict=True):
        for y, weight_y in zip(sx, wx, strict=True):
            for focus, weight_f in zip(df, wf, strict=True):
                turn = -2 * np.pi * (k[0] * x + k[1] * y)
                turn = turn + np.pi * wavelength_A * focus * (k[0] ** 2 + k[1] ** 2)
                out.append(math.sqrt(weight_x * weight_y * weight_f) * wave * np.exp(1j * turn))
    return np.array(out)


def _nodes(sigma: float, count: int) -> tuple[Float, Float]:
    """Places and weights of a Gauss–Hermite rule; one node where there is no spread."""
    if sigma == 0:
        return np.zeros(1), np.ones(1)
    places, weights = np.polynomial.hermite_e.hermegauss(count)
    return sigma * places, weights / weights.sum()
