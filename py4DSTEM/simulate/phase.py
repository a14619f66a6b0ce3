"""A thin specimen that only shifts the phase of a convergent probe."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.simulate.atoms import potential_VA3
from py4DSTEM.simulate.scan import (
    Seed,
    SimulatedScan,
    as_cube,
    counted,
    optics,
    positive,
    rotation,
    shape_2d,
)
from py4DSTEM.units import electron_wavelength_A, interaction_constant_rad_per_VA

__all__ = ["PhaseTruth", "phase_object"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class PhaseTruth:
    """What is known about a `phase_object` scan.

    Parameters
    ----------
    phase : (nx, ny) float64
        ``σ v(r)`` in rad, in scan axes; pixel (i, j) lies at ``(i, j) * sampling_A`` in the frame
        of `positions_A`.
    sampling_A : float
    positions_A : (Rx, Ry, 2) float64
        Where the probe really was, in scan axes.
    probe : (Qx, Qy) complex128
        Probe in real space, detector axes, sampled by `sampling_A`, centred on pixel
        (Qx // 2, Qy // 2); ``Σ |ψ|² = 1``.
    atoms_A : (n, 2) float64
        Atom columns in scan axes.
    atoms_Z : (n,) int64
    defocus_A, rotation_rad, flip, semiangle_mrad
    calibration : Calibration
        Complete and true.
    vacuum : DiffractionSlice
        The probe without specimen.
    """

    phase: Float
    sampling_A: float
    positions_A: Float
    probe: Complex
    atoms_A: Float
    atoms_Z: NDArray[np.int64]
    defocus_A: float
    rotation_rad: float
    flip: bool
    semiangle_mrad: float
    calibration: Calibration
    vacuum: DiffractionSlice


def phase_object(
    scan_shape: tuple[int, int] = (24, 24),
    Q_shape: tuple[int, int] = (64, 64),
    *,
    semiangle_mrad: float = 20.0,
    defocus_A: float = 100.0,
    step_A: float = 0.8,
    jitter_A: float = 0.0,
    Q_pixel_size_A: float = 0.0375,
    energy_eV: float = 80e3,
    rotation_rad: float = 0.3,
    flip: bool = False,
    strength: float = 1.0,
    dose: float | None = 10_000,
    seed: Seed = 0,
) -> SimulatedScan[PhaseTruth]:
    """Simulate a scan of a convergent probe over a two-dimensional crystal with vacancies.

    Parameters
    ----------
    scan_shape : (int, int)
    Q_shape : (int, int)
        Even and equal: the wave is sampled on the detector's grid.
    semiangle_mrad, defocus_A : float
        The probe; ``defocus = −C10``.
    step_A, jitter_A : float
        Scan step, and rms error of the positions.
    Q_pixel_size_A, energy_eV : float
    rotation_rad, flip : float, bool
        From detector to scan axes: exchange x and y if flipped, then rotate x towards y.
    strength : float
        Factor on the potential: 1 is MoS₂-like, small values make a weak phase object.
    dose : float, optional
        Electrons per pattern (Poisson counts, uint16); None: noise-free float32 of sum one.
    seed : int or Generator

    Returns
    -------
    SimulatedScan
        ``.truth`` is a `PhaseTruth`.  The unscattered beam is centred on pixel (Qx/2, Qy/2).

    Notes
    -----
    ``ψ(k) ∝ [λk ≤ α] exp(−2πi χ(k)/λ)`` with ``χ = C10 (λk)²/2`` in Å and C10 = −defocus;
    ``I(k) = |Σ_r ψ(r − R) exp(iσ v(r)) exp(−2πi k·r)|²``.  A positive potential gives a positive
    phase, and electrons are deflected towards atoms.  The potential is a sum of screened Coulomb
    potentials, smoothed by thermal motion and limited to two thirds of the detector's edge.  There
    is no propagation inside the specimen, and no partial coherence.

    Examples
    --------
    >>> scan = phase_object((3, 4), (48, 48), dose=None, seed=1)
    >>> round(float(scan.cube.data[0, 0].sum()), 4)
    1.0
    """
    scan_shape, Q_shape = shape_2d("scan_shape", scan_shape), shape_2d("Q_shape", Q_shape, 8)
    parameters = dict(locals())
    positive(semiangle_mrad=semiangle_mrad)
    rng = np.random.default_rng(seed)
    radius_px = semiangle_mrad * 1e-3 / electron_wavelength_A(energy_eV) / Q_pixel_size_A
    _check_detector(Q_shape, radius_px)
    calibration = optics(
        step_A=step_A,
        Q_pixel_size_A=Q_pixel_size_A,
        energy_eV=energy_eV,
        probe_radius_px=radius_px,
    ).replace(
        origin_px=(Q_shape[0] / 2, Q_shape[1] / 2), rotation_rad=rotation_rad, flip=bool(flip)
    )
    scene = _Scene.under(scan_shape, Q_shape[0], calibration, jitter_A, rng)
    sigma = strength * interaction_constant_rad_per_VA(energy_eV)
    wave = _probe_wave(scene.size, calibration, defocus_A)
    data = _patterns(scene.seen(rotation_rad, flip), sigma, wave, scan_shape, dose, rng)
    truth = PhaseTruth(
        phase=sigma * scene.potential(),
        sampling_A=scene.sampling_A,
        positions_A=scene.positions_A,
        probe=np.fft.fftshift(np.fft.ifft2(wave)) * scene.size,
        atoms_A=scene.atoms_A,
        atoms_Z=scene.atoms_Z,
        defocus_A=defocus_A,
        rotation_rad=rotation_rad,
        flip=flip,
        semiangle_mrad=semiangle_mrad,
        calibration=calibration,
        vacuum=_vacuum(wave, calibration, dose, rng),
    )
    return SimulatedScan(as_cube(data, calibration, "phase-object", parameters), truth)


def _check_detector(Q_shape: tuple[int, int], radius_px: float) -> None:
    nx, ny = Q_shape
    if nx != ny or nx % 2:
        raise ParameterError(f"Q_shape must be even and square, not {Q_shape}")
    if radius_px > nx / 3:
        raise ParameterError(
            f"the bright-field disk has a radius of {radius_px:.1f} px, too large for a detector "
            f"of {nx} px: use a smaller semiangle_mrad or more pixels"
        )


def _positions(
    shape: tuple[int, int],
    step_A: float,
    jitter_A: float,
    margin_A: float,
    rng: np.random.Generator,
) -> Float:
    """A grid that begins one margin inside the frame, with random errors."""
    if not (math.isfinite(jitter_A) and jitter_A >= 0):
        raise ParameterError(f"jitter_A must not be negative, not {jitter_A!r}")
    grid = np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1) * step_A + margin_A
    return grid + jitter_A * rng.standard_normal(grid.shape)


def _to_detector(points: Float, rotation_rad: float, flip: bool) -> Float:
    """Scan axes to detector axes: rotate back, then exchange x and y where flipped."""
    back = points @ rotation(rotation_rad)
    return back[..., ::-1] if flip else back


def _flake(
    positions: Float, margin_A: float, rng: np.random.Generator
) -> tuple[Float, NDArray[np.int64]]:
    """MoS₂-like honeycomb under the scan: one Mo or two S per site, some S missing."""
    flat = positions.reshape(-1, 2)
    low, high = flat.min(axis=0) - margin_A, flat.max(axis=0) + margin_A
    a = 3.19
    cell = a * np.array([[1.0, 0.0], [0.5, math.sqrt(3) / 2]]) @ rotation(-0.2)
    reach = int(np.ceil(np.linalg.norm(high - low) / a)) + 2
    grid = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T @ cell
    sites = grid + (low + high) / 2
    sulphur = sites + (cell[0] + cell[1]) / 3
    kept = [sulphur[rng.random(len(sulphur)) > 0.05] for _ in range(2)]
    atoms = np.concatenate([sites, *kept])
    numbers = np.repeat([42, 16, 16], [len(sites), *map(len, kept)])
    inside = ((atoms >= low) & (atoms <= high)).all(axis=1)
    return atoms[inside], numbers[inside]


def _pixels(extent_px: Float) -> tuple[int, int]:
    nx, ny = (next_fast_len(math.ceil(n) + 1) for n in extent_px)
    return nx, ny


def _potential(
    atoms: Float, numbers: NDArray[np.int64], shape: tuple[int, int], sampling: float
) -> Float:
    """Projected potential in V·Å; pixel (i, j) at ``(i, j) * sampling``, periodic.

    ``v(r) = Σ_q V_Z(q) T(q) exp(2πi q·(r − r_j)) / area``; T holds thermal motion (0.08 Å rms)
    and a cosine that falls from one third to two thirds of the Nyquist frequency.
    """
    qx, qy = (np.fft.fftfreq(n, sampling) for n in shape)
    q = np.hypot(qx[:, None], qy[None, :])
    edge = np.clip(q * 2 * sampling * 3 - 1, 0, 1)
    transfer = np.exp(-2 * (np.pi * 0.08 * q) ** 2) * np.cos(np.pi / 2 * edge) ** 2
    total = np.zeros(shape, np.complex128)
    for Z in np.unique(numbers):
        x, y = atoms[numbers == Z].T
        waves_x = np.exp(-2j * np.pi * np.outer(qx, x))
        waves_y = np.exp(-2j * np.pi * np.outer(y, qy))
        total += potential_VA3(q, int(Z)) * (waves_x @ waves_y)
    return np.fft.ifft2(total * transfer).real / sampling**2


@dataclass(frozen=True, eq=False)
class _Specimen:
    """The potential in detector axes, and the probe positions in its pixels."""

    potential: Float
    positions_px: Float


@dataclass(frozen=True, eq=False)
class _Scene:
    """Where the probe goes and what it meets, in scan axes; a window of it has `size` pixels."""

    positions_A: Float
    atoms_A: Float
    atoms_Z: NDArray[np.int64]
    sampling_A: float
    size: int

    @classmethod
    def under(
        cls,
        scan_shape: tuple[int, int],
        size: int,
        calibration: Calibration,
        jitter_A: float,
        rng: np.random.Generator,
    ) -> _Scene:
        """A flake that reaches beyond every position of the scan."""
        sampling = 1 / (size * calibration.Q[0].step)
        margin = size * sampling / 2
        positions = _positions(scan_shape, calibration.R[0].step, jitter_A, margin, rng)
        atoms, numbers = _flake(positions, 0.25 * size * sampling, rng)
        return cls(positions, atoms, numbers, sampling, size)

    def potential(self) -> Float:
        """In V·Å; pixel (i, j) lies at ``(i, j) * sampling_A``."""
        last = self.positions_A.reshape(-1, 2).max(axis=0) + self.size * self.sampling_A / 2
        shape = _pixels(last / self.sampling_A)
        return _potential(self.atoms_A, self.atoms_Z, shape, self.sampling_A)

    def seen(self, rotation_rad: float, flip: bool) -> _Specimen:
        """In detector axes, on a grid that leaves room for the window about every position."""
        flat = _to_detector(self.positions_A, rotation_rad, flip).reshape(-1, 2)
        start = flat.min(axis=0) - (self.size / 2 + 1) * self.sampling_A
        shape = _pixels((flat.max(axis=0) - start) / self.sampling_A + self.size / 2 + 1)
        atoms = _to_detector(self.atoms_A, rotation_rad, flip) - start
        potential = _potential(atoms, self.atoms_Z, shape, self.sampling_A)
        return _Specimen(potential, (flat - start) / self.sampling_A)


def _probe_wave(size: int, calibration: Calibration, defocus_A: float) -> Complex:
    """Ψ(k) in FFT order, ``Σ |Ψ|² = 1``; the aperture's edge is one pixel soft."""
    step, wavelength = calibration.Q[0].step, calibration.wavelength_A
    k = np.fft.fftfreq(size, 1 / (size * step))
    squared = k[:, None] ** 2 + k[None, :] ** 2
    aperture = np.clip(calibration.semiangle_px() - np.sqrt(squared) / step + 0.5, 0, 1)
    chi = -defocus_A * wavelength**2 * squared / 2
    wave = np.sqrt(aperture) * np.exp(-2j * np.pi * chi / wavelength)
    normalised: Complex = wave / np.linalg.norm(wave)
    return normalised


def _patterns(
    specimen: _Specimen,
    sigma: float,
    wave: Complex,
    scan_shape: tuple[int, int],
    dose: float | None,
    rng: np.random.Generator,
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Exit waves and their intensities, one scan row at a time."""
    size = len(wave)
    transmission = np.exp(1j * sigma * specimen.potential)
    data = np.empty((*scan_shape, size, size), np.float32 if dose is None else np.uint16)
    rows = specimen.positions_px.reshape(*scan_shape, 2)
    for row, positions in enumerate(rows):
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


def _vacuum(
    wave: Complex, calibration: Calibration, dose: float | None, rng: np.random.Generator
) -> DiffractionSlice:
    """The probe without specimen, a hundred times the dose of one position."""
    scale = 1.0 if dose is None else min(100 * dose, 1e6)
    frame = np.fft.fftshift(np.abs(wave) ** 2) * scale
    history = History().then("simulate-vacuum-probe", {"dose": dose})
    units = "fraction" if dose is None else "counts"
    return DiffractionSlice(
        counted(frame, dose, rng), calibration, history, "vacuum probe", units=units
    )
