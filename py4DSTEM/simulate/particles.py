"""Particles on an amorphous film, many probe diameters wide: for parallax and phase contrast."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.simulate.atoms import potential_VA3
from py4DSTEM.simulate.scan import Seed, SimulatedScan, as_cube, shape_2d
from py4DSTEM.simulate.waves import (
    Frame,
    Shapes,
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

__all__ = ["ParticlesTruth", "weak_particles"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
_INNER_POTENTIAL_V = 28.0
"""Gold, mean inner potential."""
_CLUSTER = 10
"""Atoms of the film that are drawn as one."""
_RADII = (0.13, 0.09, 0.065)
"""Of the particles, in fractions of the shorter edge of the scan."""


@dataclass(frozen=True, eq=False)
class ParticlesTruth:
    """What is known about a `weak_particles` scan.

    Parameters
    ----------
    phase : (nx, ny) float64
        ``σ v(r)`` in rad, in scan axes; pixel (i, j) lies at ``(i, j) * sampling_A`` in the frame
        of `positions_A`.
    sampling_A : float
    positions_A : (Rx, Ry, 2) float64
        Where the probe really was, in scan axes.
    probe : (Qx, Qy) complex128
        In real space and detector axes, centred on pixel (Qx // 2, Qy // 2); ``Σ |ψ|² = 1``.
    centers_A : (n, 2) float64
        Of the particles, in scan axes.
    radii_A : (n,) float64
    aberrations : Aberrations
        With the defocus as C10.
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
    centers_A: Float
    radii_A: Float
    aberrations: Aberrations
    defocus_A: float
    rotation_rad: float
    flip: bool
    semiangle_mrad: float
    calibration: Calibration
    vacuum: DiffractionSlice


def weak_particles(
    scan_shape: tuple[int, int] = (48, 48),
    Q_shape: tuple[int, int] = (48, 48),
    *,
    film_A: float = 50.0,
    particles: int = 3,
    semiangle_mrad: float = 6.0,
    defocus_A: float = 3000.0,
    aberrations: Aberrations | Mapping[str, float] | None = None,
    step_A: float = 3.0,
    jitter_A: float = 0.0,
    Q_pixel_size_A: float = 0.0193,
    energy_eV: float = 300e3,
    rotation_rad: float = -0.2,
    flip: bool = True,
    strength: float = 1.0,
    dose: float | None = 5_000,
    seed: Seed = 0,
) -> SimulatedScan[ParticlesTruth]:
    """Simulate an underfocused scan over gold particles on amorphous carbon.

    Parameters
    ----------
    scan_shape, Q_shape : (int, int)
        The detector is even and square.
    film_A : float
        Thickness of the carbon; 0: none.
    particles : int
        Spheres of different sizes at random places that do not touch.
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
        Factor on the potential.
    dose : float, optional
        Electrons per pattern (Poisson counts, uint16); None: noise-free float32 of sum one.
    seed : int or Generator

    Returns
    -------
    SimulatedScan
        ``.truth`` is a `ParticlesTruth`.  The unscattered beam is centred on pixel (Qx/2, Qy/2).

    Raises
    ------
    ParameterError
        The probe is wider than the window of a pattern, ``1 / Q_pixel_size_A``.

    Notes
    -----
    One slice, as in `phase_object`.  Particles are spheres of a constant potential of 28 V, whose
    projection has the transform ``V 4πR³ j₁(2πqR) / (2πqR)``; the film varies as half the atoms of
    such a film of carbon at random places would (real ones keep apart).

    Examples
    --------
    >>> scan = weak_particles((6, 7), (32, 32), particles=1, defocus_A=1000, Q_pixel_size_A=0.03)
    >>> scan.truth.radii_A.shape, scan.truth.aberrations.C("C10")
    ((1,), -1000.0)
    """
    return _Plan(**locals()).simulated()


@dataclass(frozen=True, eq=False)
class _Plan:
    """The parameters of `weak_particles`, checked."""

    scan_shape: tuple[int, int]
    Q_shape: tuple[int, int]
    film_A: float
    particles: int
    semiangle_mrad: float
    defocus_A: float
    aberrations: Aberrations | Mapping[str, float] | None
    step_A: float
    jitter_A: float
    Q_pixel_size_A: float
    energy_eV: float
    rotation_rad: float
    flip: bool
    strength: float
    dose: float | None
    seed: Seed

    def __post_init__(self) -> None:
        shape_2d("scan_shape", self.scan_shape)
        x, y = shape_2d("Q_shape", self.Q_shape, 8)
        if x != y or x % 2:
            raise ParameterError(f"Q_shape must be even and square, not {self.Q_shape}")
        if not (math.isfinite(self.film_A) and 0 <= self.film_A <= 1000):
            raise ParameterError(f"film_A is 0 to 1000, not {self.film_A!r}")
        if not 0 <= self.particles <= 20:
            raise ParameterError(f"particles are 0 to 20, not {self.particles!r}")

    def simulated(self) -> SimulatedScan[ParticlesTruth]:
        rng = np.random.default_rng(self.seed)
        calibration = self.calibration()
        bent = lens(self.aberrations, self.defocus_A)
        _check_window(calibration, bent, self.Q_pixel_size_A)
        margin = 0.75 / self.Q_pixel_size_A
        positions = scan_positions(
            self.scan_shape, self.step_A, self.jitter_A, (margin, margin), rng
        )
        low, high = positions.min(axis=(0, 1)), positions.max(axis=(0, 1))
        specimen = _Specimen.random(low, high, margin, self, rng)
        sigma = self.strength * interaction_constant_rad_per_VA(self.energy_eV)
        fine = 1 / (self.Q_shape[0] * self.Q_pixel_size_A)
        wave = probe_wave(self.Q_shape, calibration, bent)
        frame = Frame.around(self.turned(positions), self.Q_shape, (fine, fine))
        seen = specimen.moved(lambda places: self.turned(places) - frame.start_A)
        shift = np.exp(1j * sigma * seen.potential(frame.shape, fine))
        where = frame.positions_px.reshape(*self.scan_shape, 2)
        data = thin_patterns(shift, where, wave, self.dose, rng)
        truth = ParticlesTruth(
            phase=sigma * specimen.potential(pixels((high + margin) / fine), fine),
            sampling_A=fine,
            positions_A=positions,
            probe=np.fft.fftshift(np.fft.ifft2(wave, norm="ortho")),
            centers_A=specimen.centers_A,
            radii_A=specimen.radii_A,
            aberrations=bent,
            defocus_A=bent.defocus_A,
            rotation_rad=self.rotation_rad,
            flip=bool(self.flip),
            semiangle_mrad=self.semiangle_mrad,
            calibration=calibration,
            vacuum=vacuum_pattern(np.abs(wave) ** 2, calibration, self.dose, rng),
        )
        told = {**vars(self), "aberrations": dict(bent.coefficients)}
        return SimulatedScan(as_cube(data, calibration, "weak-particles", told), truth)

    def calibration(self) -> Calibration:
        known = calibration_of(
            self.Q_shape,
            self.semiangle_mrad,
            step_A=self.step_A,
            Q_pixel_size_A=self.Q_pixel_size_A,
            energy_eV=self.energy_eV,
        )
        return known.replace(rotation_rad=self.rotation_rad, flip=bool(self.flip))

    def turned(self, points: Float) -> Float:
        return to_detector(points, self.rotation_rad, bool(self.flip))


def _check_window(calibration: Calibration, bent: Aberrations, Q_pixel_size_A: float) -> None:
    """A probe wider than the window would come back in at its other side."""
    alpha = (calibration.semiangle_mrad or 0.0) * 1e-3
    angles = np.linspace(0, 2 * np.pi, 73)
    rays = bent.gradient(alpha * np.cos(angles), alpha * np.sin(angles))
    radius, window = float(np.hypot(*rays).max()), 1 / Q_pixel_size_A
    if radius > 0.5 * window:
        raise ParameterError(
            f"the probe is {2 * radius:.0f} Å wide, the window of a pattern {window:.0f} Å: use a "
            "smaller Q_pixel_size_A, semiangle_mrad or defocus_A"
        )


@dataclass(frozen=True, eq=False)
class _Specimen:
    """Carbon atoms and spheres, in some axes."""

    film_A: Float
    centers_A: Float
    radii_A: Float

    @classmethod
    def random(
        cls, low: Float, high: Float, margin: float, plan: _Plan, rng: np.random.Generator
    ) -> _Specimen:
        edges = high - low + 2 * margin
        # Amorphous carbon holds about 0.1 atoms per Å³; half of them vary at random.
        count = round(0.05 * plan.film_A * math.prod(edges) / _CLUSTER)
        film = low - margin + edges * rng.random((count, 2))
        scale = max(float((high - low).min()), 4 * plan.step_A)
        radii = scale * np.resize(_RADII, plan.particles)
        return cls(film, _apart(low, high, radii, rng), radii)

    def moved(self, move: Callable[[Float], Float]) -> _Specimen:
        return _Specimen(move(self.film_A), move(self.centers_A), self.radii_A)

    def potential(self, shape: tuple[int, int], sampling: float) -> Float:
        """Projected, V·Å; pixel (0, 0) at the origin of the places."""
        extent = np.array(shape) * sampling
        film = self.film_A[((self.film_A >= 0) & (self.film_A < extent)).all(axis=1)]
        shapes: Shapes = [(_cluster_VA3, film)]
        for center, radius in zip(self.centers_A, self.radii_A, strict=True):
            shapes.append((partial(_sphere_VA3, radius_A=float(radius)), center[None]))
        return projected(shapes, shape, (sampling, sampling), sampling)


def _cluster_VA3(q_A: Float) -> Float:
    """One atom in place of several that lie at random, with the variance of all of them."""
    transform: Float = math.sqrt(_CLUSTER) * potential_VA3(q_A, 6)
    return transform


def _sphere_VA3(q_A: Float, radius_A: float) -> Float:
    """Fourier transform of a sphere of the inner potential, V·Å³."""
    x = 2 * np.pi * q_A * radius_A
    small = x < 1e-3
    safe = np.where(small, 1.0, x)
    ratio = np.where(small, 1 / 3 - x**2 / 30, (np.sin(safe) - safe * np.cos(safe)) / safe**3)
    transform: Float = _INNER_POTENTIAL_V * 4 * np.pi * radius_A**3 * ratio
    return transform


def _apart(low: Float, high: Float, radii: Float, rng: np.random.Generator) -> Float:
    """Places in the scanned area that do not touch, as far as there is room."""
    found: list[Float] = []
    for radius in radii:
        tries = low + (high - low) * (0.15 + 0.7 * rng.random((200, 2)))
        gaps = np.full(len(tries), np.inf)
        for other, reach in zip(found, radii, strict=False):
            gaps = np.minimum(gaps, np.linalg.norm(tries - other, axis=1) - reach - radius)
        clear = np.flatnonzero(gaps > 0)
        found.append(tries[clear[0] if len(clear) else int(gaps.argmax())])
    return np.array(found).reshape(-1, 2)
