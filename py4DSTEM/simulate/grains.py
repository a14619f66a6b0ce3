"""Grains of a cubic crystal in known orientations."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.simulate.atoms import atomic_numbers, scattering_factor_A
from py4DSTEM.simulate.disks import DiskShape, add_disks
from py4DSTEM.simulate.probe import probe_slice
from py4DSTEM.simulate.scan import (
    Seed,
    SimulatedScan,
    as_cube,
    counted,
    detector_px,
    optics,
    origin_wander,
    positive,
    shape_2d,
)

__all__ = [
    "PolycrystalTruth",
    "Reflections",
    "lattice_and_basis",
    "polycrystal",
    "random_orientations",
]

Float = NDArray[np.float64]
_EDGE_PX = 0.7
_DEBYE_WALLER_A2 = 0.6
_FCC = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]
_BCC = [(0, 0, 0), (0.5, 0.5, 0.5)]
_DIAMOND = [*_FCC, *((x + 0.25, y + 0.25, z + 0.25) for x, y, z in _FCC)]
# Cubic lattice parameters at room temperature in Å, and the positions of the atoms.
_CRYSTALS = {
    "Al": (4.0495, _FCC), "Au": (4.0782, _FCC), "Cu": (3.6149, _FCC), "Ni": (3.5240, _FCC),
    "Pd": (3.8907, _FCC), "Pt": (3.9242, _FCC), "Ag": (4.0853, _FCC), "Fe": (2.8665, _BCC),
    "W": (3.1652, _BCC), "Si": (5.4310, _DIAMOND),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class PolycrystalTruth:
    """What is known about a `polycrystal` scan.

    Parameters
    ----------
    labels : (Rx, Ry) int64
        Grain of each position.
    orientations : (n, 3, 3) float64
        One per grain: columns are the sample x, y, z axes in crystal coordinates.
    crystal, lattice_A : str, float
        Element and cubic lattice parameter.
    thickness_A : float
    origin_px : (Rx, Ry, 2) float64
    calibration : Calibration
        Complete and true.
    probe : DiffractionSlice
    spots : tuple of structured array
        Per grain: ``gx, gy`` (Å⁻¹), ``s`` (excitation error, Å⁻¹), ``fraction``, ``h, k, l``;
        the direct beam first.
    """

    labels: NDArray[np.int64]
    orientations: Float
    crystal: str
    lattice_A: float
    thickness_A: float
    origin_px: Float
    calibration: Calibration
    probe: DiffractionSlice
    spots: tuple[NDArray[np.void], ...]

    @property
    def matrices(self) -> Float:
        """Orientation at every position, (Rx, Ry, 3, 3)."""
        return self.orientations[self.labels]

    def peaks(self) -> PointTable:
        """Disk centres as a table with fields ``qx, qy, intensity, h, k, l``."""
        return PointTable.from_lists(
            [
                [self._peaks(x, y) for y in range(self.labels.shape[1])]
                for x in range(len(self.labels))
            ],
            calibration=self.calibration,
            name="true disks",
        )

    def _peaks(self, rx: int, ry: int) -> NDArray[np.void]:
        spots = self.spots[self.labels[rx, ry]]
        g = np.stack([spots["gx"], spots["gy"]], axis=-1)
        position = self.origin_px[rx, ry] + detector_px(g, self.calibration)
        fields = [("qx", "f8"), ("qy", "f8"), ("intensity", "f8"), *((n, "i8") for n in "hkl")]
        out = np.empty(len(spots), dtype=fields)
        out["qx"], out["qy"] = position[:, 0], position[:, 1]
        out["intensity"] = spots["fraction"]
        for name in "hkl":
            out[name] = spots[name]
        return out


def polycrystal(
    scan_shape: tuple[int, int] = (24, 24),
    Q_shape: tuple[int, int] = (128, 128),
    *,
    crystal: str = "Au",
    grains: int = 6,
    orientations: ArrayLike | None = None,
    thickness_A: float = 60.0,
    scattered: float = 0.4,
    probe_radius_px: float = 2.5,
    Q_pixel_size_A: float = 0.0235,
    step_A: float = 20.0,
    energy_eV: float = 200e3,
    wander_px: float = 0.0,
    dose: float | None = 20_000,
    seed: Seed = 0,
) -> SimulatedScan[PolycrystalTruth]:
    """Simulate a scan over grains of a cubic crystal.

    Parameters
    ----------
    scan_shape, Q_shape : (int, int)
    crystal : str
        ``Ag Al Au Cu Ni Pd Pt`` (fcc), ``Fe W`` (bcc) or ``Si`` (diamond).
    grains : int
        Voronoi cells of random seeds; every position belongs to one grain.
    orientations : (n, 3, 3), optional
        One rotation per grain (columns: sample x, y, z axes in crystal coordinates) and then
        ``grains = n``; None: uniformly random.
    thickness_A : float
    scattered : float
        Share of the electrons in all Bragg beams together.
    probe_radius_px, Q_pixel_size_A, step_A, energy_eV, wander_px : float
        As in `strained_lattice`.
    dose : float, optional
        Electrons per pattern (Poisson counts, uint16); None: noise-free float32 of sum one.
    seed : int or Generator

    Returns
    -------
    SimulatedScan
        ``.truth`` is a `PolycrystalTruth`.

    Notes
    -----
    Kinematical: ``I_g ∝ |F_g|² exp(−B g²/2) sinc²(π s_g t)`` with B = 0.6 Å², F_g from screened
    Coulomb potentials, and, the electrons travelling along −z,
    ``s_g = g_z − λ g²/2``.  Each disk has one excitation error, all beams together hold the given
    share whatever the orientation, and grain boundaries are abrupt.

    Examples
    --------
    >>> scan = polycrystal((4, 5), (64, 64), grains=3, seed=2)
    >>> scan.truth.matrices.shape, len(scan.truth.orientations)
    ((4, 5, 3, 3), 3)
    """
    scan_shape, Q_shape = shape_2d("scan_shape", scan_shape), shape_2d("Q_shape", Q_shape)
    positive(thickness_A=thickness_A)
    if not 0 <= scattered < 1:
        raise ParameterError(f"scattered must lie in [0, 1), not {scattered!r}")
    parameters = dict(locals())
    rng = np.random.default_rng(seed)
    matrices = _orientations(orientations, grains, rng)
    origin = origin_wander(scan_shape, Q_shape, wander_px, rng)
    calibration = optics(
        step_A=step_A,
        Q_pixel_size_A=Q_pixel_size_A,
        energy_eV=energy_eV,
        probe_radius_px=probe_radius_px,
    ).replace(origin_px=origin, rotation_rad=0.0, flip=False)
    reflections = Reflections.of(crystal, 0.75 * float(np.hypot(*Q_shape)) * Q_pixel_size_A)
    truth = PolycrystalTruth(
        labels=_voronoi(scan_shape, len(matrices), rng),
        orientations=matrices,
        crystal=crystal,
        lattice_A=reflections.lattice_A,
        thickness_A=thickness_A,
        origin_px=origin,
        calibration=calibration,
        probe=probe_slice(Q_shape, calibration, edge_px=_EDGE_PX, dose=dose and 1e6, rng=rng),
        spots=tuple(
            reflections.excited(m, thickness_A, calibration.wavelength_A, scattered)
            for m in matrices
        ),
    )
    data = _patterns(truth, Q_shape, dose, rng)
    return SimulatedScan(as_cube(data, calibration, "polycrystal", parameters), truth)


def lattice_and_basis(crystal: str) -> tuple[float, Float]:
    """Cubic lattice parameter (Å), and the atoms of the cell in parts of it, (n, 3)."""
    if crystal not in _CRYSTALS:
        raise ParameterError(f"no crystal of {crystal!r}; known: {', '.join(sorted(_CRYSTALS))}")
    lattice_A, basis = _CRYSTALS[crystal]
    return lattice_A, np.array(basis, dtype=np.float64)


def random_orientations(count: int, rng: np.random.Generator) -> Float:
    """Rotation matrices (count, 3, 3), uniform on SO(3): normalised Gaussian quaternions."""
    q = rng.standard_normal((count, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _orientations(given: ArrayLike | None, count: int, rng: np.random.Generator) -> Float:
    if given is None:
        if count < 1:
            raise ParameterError(f"grains must be at least 1, not {count!r}")
        return random_orientations(count, rng)
    matrices = np.array(given, float)
    if matrices.ndim != 3 or matrices.shape[1:] != (3, 3) or len(matrices) == 0:
        raise ShapeError(f"orientations must have the shape (n, 3, 3), not {matrices.shape}")
    identity = matrices @ matrices.swapaxes(1, 2)
    if not np.allclose(identity, np.eye(3), atol=1e-6) or (np.linalg.det(matrices) < 0).any():
        raise ParameterError("orientations must be proper rotation matrices")
    return matrices


def _voronoi(shape: tuple[int, int], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    seeds = rng.uniform(0, 1, (count, 2)) * shape
    positions = np.indices(shape).reshape(2, -1).T
    _, nearest = cKDTree(seeds).query(positions)
    return np.asarray(nearest, np.int64).reshape(shape)


@dataclass(frozen=True, eq=False)
class Reflections:
    """All reflections of a crystal up to some length, in crystal coordinates."""

    lattice_A: float
    hkl: NDArray[np.int64]
    strength: Float

    @classmethod
    def of(cls, crystal: str, longest_A: float) -> Reflections:
        if crystal not in _CRYSTALS:
            raise ParameterError(f"no crystal {crystal!r}; known: {', '.join(sorted(_CRYSTALS))}")
        a, basis = _CRYSTALS[crystal]
        reach = range(-int(longest_A * a) - 1, int(longest_A * a) + 2)
        hkl = np.array(list(itertools.product(reach, repeat=3)), np.int64)
        length = np.linalg.norm(hkl, axis=1) / a
        near = (length > 0) & (length <= longest_A)
        hkl, length = hkl[near], length[near]
        structure = np.abs(np.exp(-2j * np.pi * hkl @ np.array(basis).T).sum(1)) ** 2
        atom = scattering_factor_A(length, atomic_numbers()[crystal]) ** 2
        strength = structure * atom * np.exp(-_DEBYE_WALLER_A2 * length**2 / 2)
        allowed = structure > 1e-6
        return cls(a, hkl[allowed], strength[allowed])

    def excited(
        self, orientation: Float, thickness_A: float, wavelength_A: float, scattered: float
    ) -> NDArray[np.void]:
        """The spots of one orientation; those weaker than 10⁻³ of the strongest are left out."""
        g = self.hkl @ orientation / self.lattice_A  # components along the sample axes
        s = g[:, 2] - wavelength_A * (g**2).sum(1) / 2
        power = self.strength * np.sinc(s * thickness_A) ** 2
        seen = power > 1e-3 * power.max(initial=0)
        fields = [(n, "f8") for n in ("gx", "gy", "s", "fraction")] + [(n, "i8") for n in "hkl"]
        spots = np.zeros(1 + int(seen.sum()), dtype=fields)
        spots["fraction"][0] = 1 - scattered
        spots["fraction"][1:] = scattered * power[seen] / power[seen].sum()
        spots["gx"][1:], spots["gy"][1:], spots["s"][1:] = g[seen, 0], g[seen, 1], s[seen]
        for name, index in zip("hkl", self.hkl[seen].T, strict=True):
            spots[name][1:] = index
        return spots


def _patterns(
    truth: PolycrystalTruth, Q_shape: tuple[int, int], dose: float | None, rng: np.random.Generator
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Grain by grain; each position gets its own origin and its own noise."""
    shape = DiskShape.of(truth.calibration, _EDGE_PX)
    scale = 1.0 if dose is None else dose
    data = np.empty((*truth.labels.shape, *Q_shape), np.float32 if dose is None else np.uint16)
    for grain, spots in enumerate(truth.spots):
        inside = truth.labels == grain
        offsets = detector_px(np.stack([spots["gx"], spots["gy"]], -1), truth.calibration)
        centers = truth.origin_px[inside][:, None, :] + offsets
        blank = np.zeros((len(centers), *Q_shape))
        weights = scale * spots["fraction"][None, :]
        data[inside] = counted(add_disks(blank, centers, weights, shape), dose, rng)
    return data
