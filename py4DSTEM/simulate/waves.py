"""What simulations of scattered waves share: potentials, probes, positions, frames, patterns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.core.calibration import Calibration, rotation_matrix
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.simulate.atoms import potential_VA3
from py4DSTEM.simulate.scan import counted, optics, positive
from py4DSTEM.units import electron_wavelength_A

__all__ = [
    "Frame",
    "Shapes",
    "atoms_as_shapes",
    "calibration_of",
    "lens",
    "pixels",
    "probe_wave",
    "projected",
    "scan_positions",
    "thin_patterns",
    "to_detector",
    "vacuum_pattern",
]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
Pair = tuple[float, float]
Shapes = list[tuple[Callable[[Float], Float], Float]]
"""Fourier transforms of potentials, V·Å³ at q in Å⁻¹, and the places (n, 2) Å of each."""

_ATOMS_AT_ONCE = 8192


# ---- potentials ----------------------------------------------------------------------------------
def atoms_as_shapes(atoms: Float, numbers: NDArray[np.int64]) -> Shapes:
    """Atoms (n, 2) Å by atomic number."""
    return [
        (partial(potential_VA3, Z=int(Z)), atoms[numbers == Z]) for Z in np.unique(numbers) if Z
    ]


def projected(
    shapes: Iterable[tuple[Callable[[Float], Float], Float]],
    shape: tuple[int, int],
    sampling: Pair,
    limit_A: float,
) -> Float:
    """Projected potential in V·Å; pixel (i, j) at ``(i, j) * sampling``, periodic.

    ``v(r) = Σ_q V(q) T(q) exp(2πi q·(r − r_j)) / area``; T holds thermal motion (0.08 Å rms) and
    a cosine that falls from one third to two thirds of the Nyquist frequency of pixels
    of `limit_A`.
    """
    qx, qy = (np.fft.fftfreq(n, step) for n, step in zip(shape, sampling, strict=True))
    q = np.hypot(qx[:, None], qy[None, :])
    edge = np.clip(q * 2 * limit_A * 3 - 1, 0, 1)
    transfer = np.exp(-2 * (np.pi * 0.08 * q) ** 2) * np.cos(np.pi / 2 * edge) ** 2
    total = np.zeros(shape, np.complex128)
    for form, places in shapes:
        factor = form(q)
        for start in range(0, len(places), _ATOMS_AT_ONCE):
            x, y = places[start : start + _ATOMS_AT_ONCE].T
            waves_x = np.exp(-2j * np.pi * np.outer(qx, x))
            waves_y = np.exp(-2j * np.pi * np.outer(y, qy))
            total += factor * (waves_x @ waves_y)
    potential: Float = np.fft.ifft2(total * transfer).real / math.prod(sampling)
    return potential


def pixels(extent_px: Float) -> tuple[int, int]:
    """Pixels that hold an extent, and make fast transforms."""
    nx, ny = (next_fast_len(math.ceil(n) + 1) for n in extent_px)
    return nx, ny


# ---- optics and positions ------------------------------------------------------------------------
def lens(aberrations: Aberrations | Mapping[str, float] | None, defocus_A: float) -> Aberrations:
    """Aberrations with a C10: their own, or that of the defocus."""
    known = aberrations if isinstance(aberrations, Aberrations) else Aberrations(aberrations or {})
    return known if "C10" in known.coefficients else known.replace(C10=-defocus_A)


def calibration_of(
    Q_shape: tuple[int, int],
    semiangle_mrad: float,
    *,
    step_A: float,
    Q_pixel_size_A: float,
    energy_eV: float,
) -> Calibration:
    """Optics with the beam in the middle; refuses detectors that the wave does not fit on."""
    positive(semiangle_mrad=semiangle_mrad, Q_pixel_size_A=Q_pixel_size_A, energy_eV=energy_eV)
    radius_px = semiangle_mrad * 1e-3 / electron_wavelength_A(energy_eV) / Q_pixel_size_A
    if radius_px > min(Q_shape) / 3:
        raise ParameterError(
            f"the bright-field disk has a radius of {radius_px:.1f} px, too large for a detector "
            f"of {min(Q_shape)} px: use a smaller semiangle_mrad or more pixels"
        )
    known = optics(
        step_A=step_A,
        Q_pixel_size_A=Q_pixel_size_A,
        energy_eV=energy_eV,
        probe_radius_px=radius_px,
    )
    return known.replace(origin_px=(Q_shape[0] // 2, Q_shape[1] // 2))


def probe_wave(Q_shape: tuple[int, int], calibration: Calibration, lens: Aberrations) -> Complex:
    """Ψ(k) in FFT order, ``Σ |Ψ|² = 1``; the aperture's edge is one pixel soft."""
    step, wavelength = calibration.Q[0].step, calibration.wavelength_A
    kx, ky = (np.fft.fftfreq(n, 1 / (n * step)) for n in Q_shape)
    radius_px = np.sqrt(kx[:, None] ** 2 + ky[None, :] ** 2) / step
    aperture = np.clip(calibration.semiangle_px() - radius_px + 0.5, 0, 1)
    chi = lens.chi(wavelength * kx[:, None], wavelength * ky[None, :])
    wave = np.sqrt(aperture) * np.exp(-2j * np.pi * chi / wavelength)
    normalised: Complex = wave / np.linalg.norm(wave)
    return normalised


def scan_positions(
    shape: tuple[int, int], step_A: float, jitter_A: float, margin_A: Pair, rng: np.random.Generator
) -> Float:
    """A grid that begins one margin inside the frame, with random errors."""
    if not (math.isfinite(jitter_A) and jitter_A >= 0):
        raise ParameterError(f"jitter_A must not be negative, not {jitter_A!r}")
    grid = np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1) * step_A + margin_A
    jittered: Float = grid + jitter_A * rng.standard_normal(grid.shape)
    return jittered


def to_detector(points: Float, rotation_rad: float, flip: bool) -> Float:
    """Scan axes to detector axes: rotate back, then exchange x and y where flipped."""
    back: Float = points @ rotation_matrix(rotation_rad)
    return back[..., ::-1] if flip else back


@dataclass(frozen=True, eq=False)
class Frame:
    """A grid in detector axes with room for the window of the wave about every position.

    Parameters
    ----------
    start_A : (2,) float64
        Where pixel (0, 0) lies.
    shape : (int, int)
    sampling_A : (float, float)
    positions_px : (n, 2) float64
    """

    start_A: Float
    shape: tuple[int, int]
    sampling_A: Pair
    positions_px: Float

    @classmethod
    def around(cls, positions: Float, Q_shape: tuple[int, int], sampling_A: Pair) -> Frame:
        """Of positions (…, 2) Å in detector axes, for windows of the detector's pixels."""
        flat, step = positions.reshape(-1, 2), np.array(sampling_A)
        half = np.array(Q_shape) / 2
        start = flat.min(axis=0) - (half + 1) * step
        shape = pixels((flat.max(axis=0) - start) / step + half + 1)
        return cls(start, shape, sampling_A, (flat - start) / step)


# ---- patterns ------------------------------------------------------------------------------------
def thin_patterns(
    transmission: Complex,
    positions_px: Float,
    wave: Complex,
    dose: float | None,
    rng: np.random.Generator,
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Patterns (Rx, Ry, N, N) behind one slice at positions (Rx, Ry, 2), a scan row at a time."""
    dtype = np.float32 if dose is None else np.uint16
    data = np.empty((*positions_px.shape[:2], *wave.shape), dtype)
    for row, positions in enumerate(positions_px):
        intensity = _intensities(positions, transmission, wave)
        data[row] = counted(intensity * (1.0 if dose is None else dose), dose, rng)
    return data


def _intensities(positions: Float, transmission: Complex, wave: Complex) -> Float:
    """Diffraction patterns (n, N, N), origin at (N/2, N/2), of sum one."""
    size = len(wave)
    whole = np.floor(positions).astype(np.int64)
    shift = positions - whole + size // 2
    k = np.fft.fftfreq(size)
    ramp_x = np.exp(-2j * np.pi * shift[:, :1] * k)[:, :, None]
    ramp_y = np.exp(-2j * np.pi * shift[:, 1:] * k)[:, None, :]
    probes = np.fft.ifft2(wave * ramp_x * ramp_y)
    window = np.arange(size) - size // 2
    x, y = whole[:, :1] + window, whole[:, 1:] + window
    exits = probes * transmission[x[:, :, None], y[:, None, :]]
    return np.fft.fftshift(np.abs(np.fft.fft2(exits)) ** 2, axes=(1, 2))


def vacuum_pattern(
    mean: Float, calibration: Calibration, dose: float | None, rng: np.random.Generator
) -> DiffractionSlice:
    """The probe without specimen, in FFT order, a hundred times the dose of one position."""
    scale = 1.0 if dose is None else min(100 * dose, 1e6)
    frame = np.fft.fftshift(mean) * scale
    history = History().then("simulate-vacuum-probe", {"dose": dose})
    units = "fraction" if dose is None else "counts"
    return DiffractionSlice(
        counted(frame, dose, rng), calibration, history, "vacuum probe", units=units
    )
