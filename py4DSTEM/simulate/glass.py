"""Speckle patterns of a glass whose structure is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from py4DSTEM.core import scattering
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import ParameterError
from py4DSTEM.simulate.atoms import atomic_numbers, scattering_factor_A
from py4DSTEM.simulate.grains import lattice_and_basis, random_orientations
from py4DSTEM.simulate.scan import (
    Seed,
    SimulatedScan,
    as_cube,
    counted,
    optics,
    origin_wander,
    positive,
    shape_2d,
)

__all__ = ["AmorphousTruth", "amorphous"]

Float = NDArray[np.float64]
Factors = Literal["screened", "tables"]
_BOX_A = 40.0


@dataclass(frozen=True, eq=False)
class AmorphousTruth:
    """What is known about an `amorphous` scan.

    Parameters
    ----------
    q_A : (n,) float64
        Scattering vectors in Å⁻¹ (no 2π).
    intensity : (n,) float64
        Expected electrons per pixel at `q_A`, averaged over the scan, without the direct beam.
    structure_factor : (n,) float64
        S(q), which tends to one.
    scattering_factor_A : (n,) float64
        f(q) of one atom.
    r_A, g : (m,) float64
        Distances and the pair distribution function g(r) of the atoms, which tends to one.
    density_A3 : float
        Atoms per Å³.
    atoms_A : (k, 3) float64
        One periodic box of edge `box_A`.
    origin_px : (Rx, Ry, 2) float64
    calibration : Calibration
        Complete and true.
    crystals_A : (n, 3) float64
        Centres of the crystallites in the box.
    crystal_radius_A, crystal_lattice_A : float
        Their radius, and their lattice parameter; NaN without any.
    """

    q_A: Float
    intensity: Float
    structure_factor: Float
    scattering_factor_A: Float
    r_A: Float
    g: Float
    density_A3: float
    atoms_A: Float
    box_A: float
    origin_px: Float
    calibration: Calibration
    crystals_A: Float = field(default_factory=lambda: np.zeros((0, 3)))
    crystal_radius_A: float = math.nan
    crystal_lattice_A: float = math.nan

    @property
    def crystal_fraction(self) -> float:
        """Share of the volume in crystallites."""
        if not len(self.crystals_A):
            return 0.0
        return len(self.crystals_A) * 4 / 3 * math.pi * self.crystal_radius_A**3 / self.box_A**3


def amorphous(
    scan_shape: tuple[int, int] = (12, 12),
    Q_shape: tuple[int, int] = (64, 64),
    *,
    element: str = "Cu",
    diameter_A: float = 2.5,
    packing: float = 0.55,
    probe_size_A: float = 5.0,
    scattered: float = 0.3,
    crystals: int = 0,
    crystal_radius_A: float = 8.0,
    Q_pixel_size_A: float = 0.03,
    step_A: float = 20.0,
    energy_eV: float = 200e3,
    wander_px: float = 0.0,
    dose: float | None = 20_000,
    factors: Factors = "screened",
    seed: Seed = 0,
) -> SimulatedScan[AmorphousTruth]:
    """Simulate nanodiffraction of a monatomic glass, with small crystals in it or without.

    Parameters
    ----------
    scan_shape, Q_shape : (int, int)
    element : str
        ``C Al Si Fe Ni Cu Mo Pd Ag W Pt Au``; gives the scattering factor.
    diameter_A, packing : float
        Distance that atoms keep, and the share of the volume that such spheres fill (at most 0.6).
    probe_size_A : float
        Standard deviation of the probe's intensity; amplitude ``exp(−ρ² / (4 size²))``.
    scattered : float
        Share of the electrons outside the direct beam.
    crystals, crystal_radius_A : int, float
        Spheres of the crystal of the element (see `polycrystal`) in the box of 40 Å, turned at
        random, and their radius.
    Q_pixel_size_A, step_A, energy_eV, wander_px : float
        As in `strained_lattice`.
    dose : float, optional
        Electrons per pattern, on average (Poisson counts, uint16); None: noise-free float32.
    factors : "screened" or "tables"
        How an atom scatters: a screened Coulomb potential, good to ten or twenty per cent, or
        `py4DSTEM.scattering_factor_A` (Mott-Bethe), which `pair_distribution` takes for granted.
    seed : int or Generator

    Returns
    -------
    SimulatedScan
        ``.truth`` is an `AmorphousTruth`.

    Notes
    -----
    Kinematical, with a flat Ewald sphere: ``I(q) ∝ f(q)² |Σ_j w(ρ_j) exp(−2πi q·ρ_j)|²`` over the
    atoms of a column of 24 Å, seen at every position from a random place and direction in one
    glass of soft spheres in a periodic box.  Neighbouring positions are therefore independent.
    ``⟨I⟩ ∝ f² S(q)``, with ``S(q) = 1 + 4πρ ∫ (g(r) − 1) r² sinc(2πqr) dr``, blurred by the angular
    width of the probe, 1/(4π size); the forward peak belongs to the direct beam and is left out.

    Examples
    --------
    >>> scan = amorphous((2, 3), (32, 32), seed=3)
    >>> scan.cube.shape, scan.truth.q_A.shape == scan.truth.intensity.shape
    ((2, 3, 32, 32), True)
    """
    scan_shape, Q_shape = shape_2d("scan_shape", scan_shape), shape_2d("Q_shape", Q_shape, 8)
    _check(element, packing, scattered)
    if factors not in ("screened", "tables"):
        raise ParameterError(f"factors are 'screened' or 'tables', not {factors!r}")
    positive(diameter_A=diameter_A, packing=packing, probe_size_A=probe_size_A)
    parameters = dict(locals())
    rng = np.random.default_rng(seed)
    origin = origin_wander(scan_shape, Q_shape, wander_px, rng)
    calibration = optics(step_A=step_A, Q_pixel_size_A=Q_pixel_size_A, energy_eV=energy_eV).replace(
        origin_px=origin, rotation_rad=0.0, flip=False
    )
    atoms = _glass(diameter_A, packing, rng)
    centers = np.zeros((0, 3))
    if crystals:
        atoms, centers = _with_crystals(atoms, element, crystals, crystal_radius_A, rng)
    glass = _Glass.of(atoms, _Atom(element, factors), probe_size_A, scattered)
    truth = glass.truth(Q_shape, 1.0 if dose is None else dose, calibration)
    if crystals:
        truth = replace(
            truth, crystals_A=centers, crystal_radius_A=crystal_radius_A,
            crystal_lattice_A=lattice_and_basis(element)[0],
        )  # fmt: skip
    data = _patterns(glass, truth, Q_shape, dose, rng)
    return SimulatedScan(as_cube(data, calibration, "amorphous", parameters), truth)


def _check(element: str, packing: float, scattered: float) -> None:
    if element not in atomic_numbers():
        raise ParameterError(f"no element {element!r}; known: {', '.join(atomic_numbers())}")
    if not 0 < packing <= 0.6:
        raise ParameterError(f"packing must lie in (0, 0.6], not {packing!r}: spheres must fit")
    if not 0 < scattered < 1:
        raise ParameterError(f"scattered must lie in (0, 1), not {scattered!r}")


def _glass(diameter_A: float, packing: float, rng: np.random.Generator) -> Float:
    """Random points pushed apart until spheres hardly overlap, in a periodic box."""
    count = round(packing * _BOX_A**3 / (math.pi / 6 * diameter_A**3))
    atoms = rng.uniform(0, _BOX_A, (count, 3))
    for _ in range(40):
        atoms = _pushed_apart(atoms, diameter_A)
    return atoms


def _pushed_apart(atoms: Float, diameter_A: float) -> Float:
    """One step of overdamped repulsion between spheres that overlap."""
    pairs = cKDTree(atoms, boxsize=_BOX_A).query_pairs(diameter_A, output_type="ndarray")
    vector = atoms[pairs[:, 0]] - atoms[pairs[:, 1]]
    vector -= _BOX_A * np.rint(vector / _BOX_A)
    length = np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-9)
    push = 0.4 * (diameter_A - length) * vector / length
    move = np.zeros_like(atoms)
    for axis in range(3):
        move[:, axis] += np.bincount(pairs[:, 0], push[:, axis], len(atoms))
        move[:, axis] -= np.bincount(pairs[:, 1], push[:, axis], len(atoms))
    return (atoms + move) % _BOX_A


def _with_crystals(
    atoms: Float, element: str, count: int, radius_A: float, rng: np.random.Generator
) -> tuple[Float, Float]:
    """Atoms with spheres of crystal in place of glass, and the centres of these."""
    positive(crystal_radius_A=radius_A, crystals=count)
    lattice_A, basis = lattice_and_basis(element)
    centers = _centers(count, radius_A, rng)
    reach = math.ceil(radius_A / lattice_A) + 1
    cells = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3), axis=-1).reshape(-1, 1, 3)
    sites = lattice_A * (cells + basis[None]).reshape(-1, 3)
    sites = sites[np.linalg.norm(sites, axis=1) <= radius_A]
    nearest = float(np.linalg.norm(sites[None] - sites[:1, None], axis=-1)[0, 1:].min())
    turned = [sites @ turn.T + c for turn, c in
              zip(random_orientations(count, rng), centers, strict=True)]  # fmt: skip
    crystal = np.concatenate(turned) % _BOX_A
    tree = cKDTree(crystal, boxsize=_BOX_A)
    # No atom of the glass stays within a crystal, nor much closer than its neighbours would be.
    apart = tree.query(atoms % _BOX_A, distance_upper_bound=0.85 * nearest)[0] > 0.85 * nearest
    return np.concatenate([atoms[apart], crystal]), centers


def _centers(count: int, radius_A: float, rng: np.random.Generator) -> Float:
    """Places in the periodic box for spheres that do not touch."""
    found: list[Float] = []
    for place in rng.uniform(0, _BOX_A, (2000, 3)):
        gaps = [place - other for other in found]
        apart = [np.linalg.norm(g - _BOX_A * np.rint(g / _BOX_A)) for g in gaps]
        if 2 * radius_A < _BOX_A and all(d > 2 * radius_A for d in apart):
            found.append(place)
        if len(found) == count:
            return np.array(found)
    raise ParameterError(
        f"{count} crystals of radius {radius_A:g} Å do not fit into a box of {_BOX_A:g} Å: fewer "
        "or smaller ones do"
    )


def _pair_distribution(atoms: Float, bins: int = 400) -> tuple[Float, Float]:
    """Distances up to half the box, and g(r) there, seen from a thousand of the atoms."""
    width, density = _BOX_A / 2 / bins, len(atoms) / _BOX_A**3
    counts = np.zeros(bins)
    seen = atoms[:1000]
    for part in np.array_split(seen, 10):
        vector = np.abs(part[:, None, :] - atoms[None, :, :])
        vector = np.minimum(vector, _BOX_A - vector)
        index = (np.sqrt((vector**2).sum(axis=-1)) / width).astype(np.int64)
        counts += np.bincount(index[(index > 0) & (index < bins)], minlength=bins)
    edges = width * np.arange(bins + 1)
    expected = len(seen) * density * 4 / 3 * math.pi * np.diff(edges**3)
    return (edges[1:] + edges[:-1]) / 2, counts / expected


def _structure_factor(q: Float, r: Float, g: Float, density: float) -> Float:
    step = r[1] - r[0]
    taper = np.cos(np.pi * r / (2 * (r[-1] + step / 2))) ** 2  # against the end of the histogram
    kernel = np.sinc(2 * q[:, None] * r[None, :])
    result: Float = 1 + 4 * math.pi * density * step * kernel @ ((g - 1) * r**2 * taper)
    return result


@dataclass(frozen=True)
class _Atom:
    """An element, and how its scattering is known."""

    element: str
    factors: Factors

    def factor_A(self, q: Float) -> Float:
        """f(q) in Å."""
        if self.factors == "tables":
            return scattering.scattering_factor_A(self.element, q, "mott-bethe")
        return scattering_factor_A(q, atomic_numbers()[self.element])


@dataclass(frozen=True, eq=False)
class _Glass:
    """Atoms in a box, and how the probe sees them."""

    atoms: Float
    atom: _Atom
    probe_size_A: float
    scattered: float
    r: Float
    g: Float

    @classmethod
    def of(cls, atoms: Float, atom: _Atom, probe_size_A: float, scattered: float) -> _Glass:
        return cls(atoms, atom, probe_size_A, scattered, *_pair_distribution(atoms))

    @property
    def density(self) -> float:
        return len(self.atoms) / _BOX_A**3

    @property
    def beam_width_A(self) -> float:
        """Standard deviation of the probe's intensity in diffraction space, 1/Å."""
        return 1 / (4 * math.pi * self.probe_size_A)

    def shape(self, q: Float) -> Float:
        """⟨I(q)⟩ per atom in the probe, before the dose: f² S."""
        structure = np.maximum(_structure_factor(q, self.r, self.g, self.density), 0)
        result: Float = self.atom.factor_A(q) ** 2 * structure
        return result

    def truth(
        self, Q_shape: tuple[int, int], dose: float, calibration: Calibration
    ) -> AmorphousTruth:
        step = calibration.Q[0].step
        q = step * np.arange(math.ceil(math.hypot(*Q_shape) / 2), dtype=np.float64)
        i, j = (np.arange(n) - n / 2 for n in Q_shape)
        everywhere = np.hypot(i[:, None], j[None, :]) * step
        total = np.interp(everywhere, q, self.shape(q)).sum()
        return AmorphousTruth(
            q_A=q,
            intensity=dose * self.scattered * self.shape(q) / total,
            structure_factor=_structure_factor(q, self.r, self.g, self.density),
            scattering_factor_A=self.atom.factor_A(q),
            r_A=self.r,
            g=self.g,
            density_A3=self.density,
            atoms_A=self.atoms,
            box_A=_BOX_A,
            origin_px=np.asarray(calibration.origin_px),
            calibration=calibration,
        )

    def column(self, rng: np.random.Generator) -> tuple[Float, Float]:
        """Atoms (n, 2) in the probe, and their amplitudes (n,) with ``Σ w² = 1``.

        A sphere of half the box about a random point, turned at random, holds the column whole.
        """
        moved = (self.atoms - rng.uniform(0, _BOX_A, 3) + _BOX_A / 2) % _BOX_A - _BOX_A / 2
        turned = moved @ random_orientations(1, rng)[0]
        half = 12.0
        radius = np.hypot(turned[:, 0], turned[:, 1])
        inside = (np.abs(turned[:, 2]) < half) & (radius < math.sqrt((_BOX_A / 2) ** 2 - half**2))
        weights = np.exp(-(radius[inside] ** 2) / (4 * self.probe_size_A**2))
        return turned[inside, :2], weights / np.linalg.norm(weights)


def _patterns(
    glass: _Glass,
    truth: AmorphousTruth,
    Q_shape: tuple[int, int],
    dose: float | None,
    rng: np.random.Generator,
) -> NDArray[np.uint16] | NDArray[np.float32]:
    scale = 1.0 if dose is None else dose
    step = truth.calibration.Q[0].step
    per_atom = truth.intensity.sum() / glass.shape(truth.q_A).sum()
    scan_shape = truth.origin_px.shape[:2]
    data = np.empty((*scan_shape, *Q_shape), np.float32 if dose is None else np.uint16)
    for position in np.ndindex(scan_shape):
        q = [
            (np.arange(n) - o) * step
            for n, o in zip(Q_shape, truth.origin_px[position], strict=True)
        ]
        frame = per_atom * _speckle(glass, q[0], q[1], rng)
        frame += scale * (1 - glass.scattered) * _beam(glass, q[0], q[1]) * step**2
        data[position] = counted(frame, dose, rng)
    return data


def _speckle(glass: _Glass, qx: Float, qy: Float, rng: np.random.Generator) -> Float:
    """``f² |Σ w exp(−2πi q·ρ)|²`` less the mean density's forward peak, (Qx, Qy)."""
    atoms, weights = glass.column(rng)
    waves_x, waves_y = _plane_waves(qx, atoms[:, 0]), _plane_waves(qy, atoms[:, 1])
    amplitude = (waves_x * weights.astype(np.float32)) @ waves_y.T
    q_squared = qx[:, None] ** 2 + qy[None, :] ** 2
    forward = np.exp(-q_squared / (4 * glass.beam_width_A**2))
    amplitude -= weights.sum() * forward  # what a uniform density would give: the direct beam
    f = glass.atom.factor_A(np.sqrt(q_squared))
    speckle: Float = f**2 * np.abs(amplitude).astype(np.float64) ** 2
    return speckle


def _plane_waves(q: Float, x: Float) -> NDArray[np.complex64]:
    """``exp(−2πi q x)``, (len(q), len(x)); single precision is ample beside any real noise."""
    turns = np.outer(q, x)
    angle = (-2 * np.pi * (turns - np.rint(turns))).astype(np.float32)
    waves = np.empty(angle.shape, np.complex64)
    np.cos(angle, out=waves.real)
    np.sin(angle, out=waves.imag)
    return waves


def _beam(glass: _Glass, qx: Float, qy: Float) -> Float:
    """The direct beam: the intensity of the probe in diffraction space, of integral one."""
    width = glass.beam_width_A
    q_squared = qx[:, None] ** 2 + qy[None, :] ** 2
    beam: Float = np.exp(-q_squared / (2 * width**2)) / (2 * math.pi * width**2)
    return beam
