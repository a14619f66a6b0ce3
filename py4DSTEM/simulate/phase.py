"""A thin specimen that only shifts the phase of a convergent probe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.core.calibration import Calibration, rotation_matrix
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.simulate.scan import (
    Seed,
    SimulatedScan,
    as_cube,
    shape_2d,
)
from py4DSTEM.simulate.waves import (
    Frame,
    atoms_as_shapes,
    calibration_of,
    lens,
    pixels,
    probe_wave,
    projected,
    scan_positions,
    thin_patterns,
    to_detector,
    vacuum_pattern,
)
from py4DSTEM.units import interaction_constant_rad_per_VA

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
    aberrations : Aberrations
        With the defocus as C10.
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
    aberrations: Aberrations


def phase_object(
    scan_shape: tuple[int, int] = (24, 24),
    Q_shape: tuple[int, int] = (64, 64),
    *,
    semiangle_mrad: float = 20.0,
    defocus_A: float = 100.0,
    aberrations: Aberrations | Mapping[str, float] | None = None,
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
    aberrations : Aberrations or mapping of str to float, optional
        Others, Å and rad; a C10 among them takes the place of `defocus_A`.
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
    ``ψ(k) ∝ [λk ≤ α] exp(−2πi χ(k)/λ)`` with ``χ = C10 (λk)²/2 + …`` in Å and C10 = −defocus;
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
    bent = lens(aberrations, defocus_A)
    parameters["aberrations"] = dict(bent.coefficients)
    if Q_shape[0] != Q_shape[1] or Q_shape[0] % 2:
        raise ParameterError(f"Q_shape must be even and square, not {Q_shape}")
    rng = np.random.default_rng(seed)
    calibration = calibration_of(
        Q_shape,
        semiangle_mrad,
        step_A=step_A,
        Q_pixel_size_A=Q_pixel_size_A,
        energy_eV=energy_eV,
    ).replace(rotation_rad=rotation_rad, flip=bool(flip))
    size, sampling = Q_shape[0], 1 / (Q_shape[0] * Q_pixel_size_A)
    margin = size * sampling / 2
    positions = scan_positions(scan_shape, step_A, jitter_A, (margin, margin), rng)
    atoms, numbers = _flake(positions, 0.25 * size * sampling, rng)
    sigma = strength * interaction_constant_rad_per_VA(energy_eV)
    wave = probe_wave(Q_shape, calibration, bent)
    frame = Frame.around(to_detector(positions, rotation_rad, flip), Q_shape, (sampling, sampling))
    seen = atoms_as_shapes(to_detector(atoms, rotation_rad, flip) - frame.start_A, numbers)
    shift = np.exp(1j * sigma * projected(seen, frame.shape, frame.sampling_A, sampling))
    where = frame.positions_px.reshape(*scan_shape, 2)
    data = thin_patterns(shift, where, wave, dose, rng)
    shape = pixels((positions.reshape(-1, 2).max(axis=0) + margin) / sampling)
    known = projected(atoms_as_shapes(atoms, numbers), shape, frame.sampling_A, sampling)
    truth = PhaseTruth(
        phase=sigma * known,
        sampling_A=sampling,
        positions_A=positions,
        probe=np.fft.fftshift(np.fft.ifft2(wave)) * size,
        atoms_A=atoms,
        atoms_Z=numbers,
        defocus_A=bent.defocus_A,
        rotation_rad=rotation_rad,
        flip=flip,
        semiangle_mrad=semiangle_mrad,
        calibration=calibration,
        vacuum=vacuum_pattern(np.abs(wave) ** 2, calibration, dose, rng),
        aberrations=bent,
    )
    return SimulatedScan(as_cube(data, calibration, "phase-object", parameters), truth)


def _flake(
    positions: Float, margin_A: float, rng: np.random.Generator
) -> tuple[Float, NDArray[np.int64]]:
    """MoS₂-like honeycomb under the scan: one Mo or two S per site, some S missing."""
    flat = positions.reshape(-1, 2)
    low, high = flat.min(axis=0) - margin_A, flat.max(axis=0) + margin_A
    a = 3.19
    cell = a * np.array([[1.0, 0.0], [0.5, math.sqrt(3) / 2]]) @ rotation_matrix(-0.2)
    reach = int(np.ceil(np.linalg.norm(high - low) / a)) + 2
    grid = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T @ cell
    sites = grid + (low + high) / 2
    sulphur = sites + (cell[0] + cell[1]) / 3
    kept = [sulphur[rng.random(len(sulphur)) > 0.05] for _ in range(2)]
    atoms = np.concatenate([sites, *kept])
    numbers = np.repeat([42, 16, 16], [len(sites), *map(len, kept)])
    inside = ((atoms >= low) & (atoms <= high)).all(axis=1)
    return atoms[inside], numbers[inside]
