"""A scan over a specimen so thick that the probe spreads inside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.parameters import numbers
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.simulate.multislice import SliceStack, coherent_modes, fine_shape, frequencies
from py4DSTEM.simulate.multislice_crystal import Atoms, DepthDefect, crystal_slab, given_atoms
from py4DSTEM.simulate.scan import (
    Seed,
    SimulatedScan,
    as_cube,
    counted,
    positive,
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
    to_detector,
    vacuum_pattern,
)
from py4DSTEM.units import interaction_constant_rad_per_VA

__all__ = ["ThickTruth", "thick_object"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
Pair = tuple[float, float]
_MOST_SLICES = 1000


@dataclass(frozen=True, eq=False)
class ThickTruth:
    """What is known about a `thick_object` scan.

    Parameters
    ----------
    phase : (n, nx, ny) float64
        ``σ v_s(r)`` in rad of each slice, entrance first, in scan axes; pixel (i, j) lies at
        ``(i, j) * sampling_A`` in the frame of `positions_A`.
    sampling_A : float
    positions_A : (Rx, Ry, 2) float64
        Where the probe really was, in scan axes.
    detector_phase : (n, mx, my) float64
        The same in detector axes; pixel (i, j) lies at ``(i, j) * detector_sampling_A`` in the
        frame of `detector_positions_A`.
    detector_sampling_A : (float, float)
        ``1 / (N ΔQ)``: the pixel of `probes`.
    detector_positions_A : (Rx, Ry, 2) float64
    slice_A, thickness_A : float
        Slice s holds the atoms at ``s * slice_A <= z < (s + 1) * slice_A``, and acts at the upper
        one.
    probes : (m, Qx, Qy) complex128
        Orthogonal modes at the entrance surface, in real space and detector axes, centred on pixel
        (Qx // 2, Qy // 2), strongest first; ``Σ |probes|² = 1``.
    atoms_A : (k, 3) float64
        Scan axes, and the depth.
    atoms_Z : (k,) int64
    defects : tuple of DepthDefect
    aberrations : Aberrations
        At the entrance surface, with the defocus as C10.
    defocus_A, source_size_A, focal_spread_A, rotation_rad, flip, semiangle_mrad
    calibration : Calibration
        Complete and true.
    vacuum : DiffractionSlice
        The probe without specimen.
    tilt_rad : (float, float)
        Columns run along ``(tilt_x, tilt_y, 1)``, scan axes.
    """

    phase: Float
    sampling_A: float
    positions_A: Float
    detector_phase: Float
    detector_sampling_A: Pair
    detector_positions_A: Float
    slice_A: float
    thickness_A: float
    probes: Complex
    atoms_A: Float
    atoms_Z: NDArray[np.int64]
    defects: tuple[DepthDefect, ...]
    aberrations: Aberrations
    defocus_A: float
    source_size_A: float
    focal_spread_A: float
    rotation_rad: float
    flip: bool
    semiangle_mrad: float
    calibration: Calibration
    vacuum: DiffractionSlice
    tilt_rad: Pair = (0.0, 0.0)

    @property
    def probe(self) -> Complex:
        """The strongest mode, (Qx, Qy)."""
        strongest: Complex = self.probes[0]
        return strongest

    def slabs(self, count: int, *, detector_axes: bool = False) -> Float:
        """Phase of the specimen in `count` slabs of as many slices each, (count, …).

        Raises
        ------
        ParameterError
            The number of slices is no multiple of `count`.
        """
        phase = self.detector_phase if detector_axes else self.phase
        if count < 1 or len(phase) % count:
            raise ParameterError(
                f"{len(phase)} slices do not make {count} slabs of equal thickness"
            )
        joined: Float = phase.reshape(count, -1, *phase.shape[1:]).sum(axis=1)
        return joined


def thick_object(
    scan_shape: tuple[int, int] = (24, 24),
    Q_shape: tuple[int, int] = (64, 64),
    *,
    thickness_A: float = 78.1,
    slice_A: float = 3.905,
    defects: int = 3,
    atoms_A: ArrayLike | None = None,
    atoms_Z: ArrayLike | None = None,
    semiangle_mrad: float = 21.0,
    defocus_A: float = 60.0,
    aberrations: Aberrations | Mapping[str, float] | None = None,
    source_size_A: float = 0.0,
    focal_spread_A: float = 0.0,
    probe_modes: int | None = None,
    step_A: float = 0.5,
    jitter_A: float = 0.0,
    drift_A: Pair = (0.0, 0.0),
    tilt_rad: Pair = (0.0, 0.0),
    Q_pixel_size_A: float = 0.065,
    energy_eV: float = 300e3,
    rotation_rad: float = 0.3,
    flip: bool = False,
    strength: float = 1.0,
    dose: float | None = 50_000,
    seed: Seed = 0,
) -> SimulatedScan[ThickTruth]:
    """Simulate a scan over a crystal slab, or over any atoms, by multislice.

    Parameters
    ----------
    scan_shape, Q_shape : (int, int)
        The detector may be of any shape; its pixels are square.
    thickness_A, slice_A : float
        The number of slices is the nearest to their quotient; the thickness is a multiple of
        `slice_A`.
    defects : int
        Columns of the crystal with some atoms replaced or missing, at depths that the truth tells.
    atoms_A : (n, 3) float, optional
        Instead of SrTiO₃ [001]: x and y in scan axes from the middle of the scan, and the depth
        below the entrance surface.
    atoms_Z : (n,) int, optional
        Their atomic numbers.
    semiangle_mrad, defocus_A : float
        The probe; ``defocus = −C10`` at the entrance surface: positive lies inside or below.
    aberrations : Aberrations or mapping of str to float, optional
        Others, Å and rad; a C10 among them takes the place of `defocus_A`.
    source_size_A, focal_spread_A : float
        Standard deviation of the source's image along each axis, and of the defocus.
    probe_modes : int, optional
        Keep so many modes of the partially coherent probe; None: as many as hold 99.9 % of it.
    step_A, jitter_A : float
        Scan step, and rms error of the positions.
    drift_A : (float, float)
        From the first position to the last, growing with time.
    tilt_rad : (float, float)
        Columns run along ``(tilt_x, tilt_y, 1)`` in scan axes: atoms at depth z lie ``z tilt``
        beside where they are at the entrance.
    Q_pixel_size_A, energy_eV : float
    rotation_rad, flip : float, bool
        From detector to scan axes: exchange x and y if flipped, then rotate x towards y.
    strength : float
        Factor on the potential.
    dose : float, optional
        Electrons per pattern (Poisson counts, uint16); None: noise-free float32, of sum one less
        what is scattered beside the detector.
    seed : int or Generator

    Returns
    -------
    SimulatedScan
        ``.truth`` is a `ThickTruth`.  The unscattered beam is centred on pixel (Qx // 2, Qy // 2).

    Raises
    ------
    ParameterError
        A bright disk too large for the detector, atoms that are none, no slice, negative sizes.

    Notes
    -----
    ``ψ ← F⁻¹ exp(−πiλ Δz k²) F exp(iσ v_s) ψ`` slice by slice, on a grid half as fine again as the
    detector's, limited to two thirds of its Nyquist frequency: what is scattered beside the
    detector is lost, not folded back (doi:10.1107/S0365110X57002194).  Potentials are those of
    `phase_object`, with the same limit of two thirds of the detector's edge.  Single precision;
    thermal diffuse scattering is left out.

    Examples
    --------
    >>> scan = thick_object((2, 3), (32, 32), thickness_A=15.62, Q_pixel_size_A=0.12, dose=None)
    >>> scan.truth.phase.shape[0], scan.truth.slabs(2).shape[0], len(scan.truth.defects)
    (4, 2, 3)
    >>> 0.95 < float(scan.cube.data[0, 0].sum()) <= 1.0001
    True
    """
    return _Plan(**locals()).simulated()


@dataclass(frozen=True, eq=False)
class _Plan:
    """The parameters of `thick_object`, checked."""

    scan_shape: tuple[int, int]
    Q_shape: tuple[int, int]
    thickness_A: float
    slice_A: float
    defects: int
    atoms_A: ArrayLike | None
    atoms_Z: ArrayLike | None
    semiangle_mrad: float
    defocus_A: float
    aberrations: Aberrations | Mapping[str, float] | None
    source_size_A: float
    focal_spread_A: float
    probe_modes: int | None
    step_A: float
    jitter_A: float
    drift_A: Pair
    tilt_rad: Pair
    Q_pixel_size_A: float
    energy_eV: float
    rotation_rad: float
    flip: bool
    strength: float
    dose: float | None
    seed: Seed

    def __post_init__(self) -> None:
        shape_2d("scan_shape", self.scan_shape)
        shape_2d("Q_shape", self.Q_shape, 8)
        positive(thickness_A=self.thickness_A, slice_A=self.slice_A)
        for name in ("source_size_A", "focal_spread_A", "defects"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ParameterError(f"{name} must not be negative, not {value!r}")
        if self.probe_modes is not None and not 1 <= self.probe_modes <= 100:
            raise ParameterError(f"probe_modes are 1 to 100, not {self.probe_modes!r}")

    def simulated(self) -> SimulatedScan[ThickTruth]:
        rng = np.random.default_rng(self.seed)
        calibration = self.calibration()
        bent = lens(self.aberrations, self.defocus_A)
        modes = self.modes(calibration, bent)
        positions = self.positions(rng)
        atoms, listed = self.atoms(positions, rng)
        layers = _layers(self.thickness_A, self.slice_A)
        sigma = self.strength * interaction_constant_rad_per_VA(self.energy_eV)
        specimen = _Specimen(atoms, layers, self.slice_A, sigma, calibration, self.Q_shape)
        data = _counted(specimen.patterns(modes, positions), self.scan_shape, self.dose, rng)
        sampling, phase = specimen.in_scan_axes(positions.max(axis=(0, 1)) + self.margin_A)
        frame, seen = specimen.in_detector_axes(positions)
        truth = ThickTruth(
            phase=phase,
            sampling_A=sampling,
            positions_A=positions,
            detector_phase=seen,
            detector_sampling_A=frame.sampling_A,
            detector_positions_A=specimen.turned(positions) - frame.start_A,
            slice_A=self.slice_A,
            thickness_A=layers * self.slice_A,
            probes=_real_space(modes),
            atoms_A=atoms.places_A,
            atoms_Z=atoms.numbers,
            defects=listed,
            aberrations=bent,
            defocus_A=bent.defocus_A,
            source_size_A=self.source_size_A,
            focal_spread_A=self.focal_spread_A,
            rotation_rad=self.rotation_rad,
            flip=bool(self.flip),
            semiangle_mrad=self.semiangle_mrad,
            calibration=calibration,
            vacuum=vacuum_pattern((np.abs(modes) ** 2).sum(axis=0), calibration, self.dose, rng),
            tilt_rad=(float(self.tilt[0]), float(self.tilt[1])),
        )
        told = {**vars(self), "aberrations": dict(bent.coefficients)}
        return SimulatedScan(as_cube(data, calibration, "thick-object", told), truth)

    @property
    def margin_A(self) -> float:
        """From the scan to the edge of the frame: corners of a turned window reach 0.71 of it."""
        return 0.75 / self.Q_pixel_size_A

    def calibration(self) -> Calibration:
        known = calibration_of(
            self.Q_shape,
            self.semiangle_mrad,
            step_A=self.step_A,
            Q_pixel_size_A=self.Q_pixel_size_A,
            energy_eV=self.energy_eV,
        )
        return known.replace(rotation_rad=self.rotation_rad, flip=bool(self.flip))

    def modes(self, calibration: Calibration, bent: Aberrations) -> Complex:
        """Probes (m, Qx, Qy) in reciprocal space, FFT order."""
        window = 1 / self.Q_pixel_size_A
        sampling = window / self.Q_shape[0], window / self.Q_shape[1]
        return coherent_modes(
            probe_wave(self.Q_shape, calibration, bent),
            frequencies(self.Q_shape, sampling),
            calibration.wavelength_A,
            source_size_A=self.source_size_A,
            focal_spread_A=self.focal_spread_A,
            count=self.probe_modes,
        )

    def positions(self, rng: np.random.Generator) -> Float:
        margin = (self.margin_A, self.margin_A)
        grid = scan_positions(self.scan_shape, self.step_A, self.jitter_A, margin, rng)
        time = np.linspace(0, 1, math.prod(self.scan_shape)).reshape(*self.scan_shape, 1)
        moved: Float = grid + time * np.array(numbers("drift_A", self.drift_A, 2))
        return moved

    def atoms(
        self, positions: Float, rng: np.random.Generator
    ) -> tuple[Atoms, tuple[DepthDefect, ...]]:
        low, high = positions.min(axis=(0, 1)), positions.max(axis=(0, 1))
        thickness = _layers(self.thickness_A, self.slice_A) * self.slice_A
        if self.atoms_A is None and self.atoms_Z is None:
            atoms, listed = crystal_slab(
                low, high, self.margin_A, thickness, int(self.defects), rng
            )
            return atoms.sheared(self.tilt), listed
        given = given_atoms(self.atoms_A, self.atoms_Z, (low + high) / 2, thickness)
        return given.sheared(self.tilt), ()

    @property
    def tilt(self) -> Float:
        """Checked."""
        return np.array(numbers("tilt_rad", self.tilt_rad, 2))


# ---- parts ---------------------------------------------------------------------------------------
def _layers(thickness_A: float, slice_A: float) -> int:
    count = max(1, round(thickness_A / slice_A))
    if count > _MOST_SLICES:
        raise ParameterError(f"{count} slices: at most {_MOST_SLICES}, use a larger slice_A")
    return count


def _real_space(modes: Complex) -> Complex:
    """From reciprocal space in FFT order to real space, centred, unitary."""
    probes: Complex = np.fft.fftshift(np.fft.ifft2(modes, norm="ortho"), axes=(1, 2))
    return probes


def _counted(
    mean: NDArray[np.float32],
    scan_shape: tuple[int, int],
    dose: float | None,
    rng: np.random.Generator,
) -> NDArray[np.uint16] | NDArray[np.float32]:
    if dose is None:
        return mean.reshape(*scan_shape, *mean.shape[1:])
    counts = np.empty(mean.shape, np.uint16)
    for index, frame in enumerate(mean):
        counts[index] = counted(frame.astype(np.float64) * dose, dose, rng)
    return counts.reshape(*scan_shape, *mean.shape[1:])


@dataclass(frozen=True, eq=False)
class _Specimen:
    """Atoms in slices, as seen by a detector."""

    atoms: Atoms
    slices: int
    slice_A: float
    sigma: float
    calibration: Calibration
    Q_shape: tuple[int, int]

    def turned(self, points: Float) -> Float:
        return to_detector(
            points, self.calibration.rotation_rad or 0.0, bool(self.calibration.flip)
        )

    def sampling_A(self, shape: tuple[int, int]) -> Pair:
        """Pixels of a window of so many, which is ``1 / ΔQ`` wide."""
        step = self.calibration.Q[0].step
        return 1 / (shape[0] * step), 1 / (shape[1] * step)

    def phase(self, places: Float, shape: tuple[int, int], sampling: Pair) -> Float:
        """Of each slice, with the atoms at places (n, 2) in the frame."""
        inside = ((places >= 0) & (places < np.array(shape) * sampling)).all(axis=1)
        # A layer on a boundary belongs below it.
        index = np.floor(self.atoms.places_A[:, 2] / self.slice_A + 1e-6).astype(int)
        limit = max(self.sampling_A(self.Q_shape))
        phase = np.zeros((self.slices, *shape))
        for s in range(self.slices):
            here = inside & (index == s)
            shapes = atoms_as_shapes(places[here], self.atoms.numbers[here])
            phase[s] = self.sigma * projected(shapes, shape, sampling, limit)
        return phase

    def in_scan_axes(self, extent_A: Float) -> tuple[float, Float]:
        fine = min(self.sampling_A(self.Q_shape))
        shape = pixels(extent_A / fine)
        return fine, self.phase(self.atoms.places_A[:, :2], shape, (fine, fine))

    def in_detector_axes(
        self, positions: Float, window: tuple[int, int] | None = None
    ) -> tuple[Frame, Float]:
        """Frame and phase, in pixels of the detector's window or of a finer one."""
        window = window or self.Q_shape
        frame = Frame.around(self.turned(positions), window, self.sampling_A(window))
        places = self.turned(self.atoms.places_A[:, :2]) - frame.start_A
        return frame, self.phase(places, frame.shape, frame.sampling_A)

    def patterns(self, modes: Complex, positions: Float) -> NDArray[np.float32]:
        fine = fine_shape(self.Q_shape)
        frame, phase = self.in_detector_axes(positions, fine)
        wavelength = self.calibration.wavelength_A
        stack = SliceStack.of_phase(phase, frame.sampling_A, self.slice_A, wavelength)
        return stack.patterns(_padded(modes, fine), frame.positions_px, self.Q_shape)


def _padded(modes: Complex, shape: tuple[int, int]) -> Complex:
    """The same spectra with room for higher frequencies, FFT order."""
    out = np.zeros((len(modes), *shape), np.complex128)
    x, y = (n // 2 - q // 2 for n, q in zip(shape, modes.shape[1:], strict=True))
    middle = np.fft.fftshift(modes, axes=(1, 2))
    out[:, x : x + modes.shape[1], y : y + modes.shape[2]] = middle
    return np.fft.ifftshift(out, axes=(1, 2))
