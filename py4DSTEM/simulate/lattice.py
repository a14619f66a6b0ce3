"""Nanobeam patterns of a crystal whose lattice is strained by a known field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.simulate.disks import DiskShape, add_disks, diffuse
from py4DSTEM.simulate.probe import probe_slice
from py4DSTEM.simulate.scan import (
    Seed,
    SimulatedScan,
    as_cube,
    counted,
    detector_px,
    optics,
    origin_wander,
    shape_2d,
)

__all__ = ["LatticeTruth", "strained_lattice"]

Float = NDArray[np.float64]
_COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")
_EDGE_PX = 0.7
_DEBYE_WALLER_A2 = 3.0


@dataclass(frozen=True, eq=False)
class LatticeTruth:
    """What is known about a `strained_lattice` scan.

    Parameters
    ----------
    e_xx, e_yy, e_xy, theta : (Rx, Ry) float64
        Strain and rotation (rad; positive from x towards y), in calibrated axes.
    reference : (Rx, Ry) bool
        Where all four are zero.
    g1_A, g2_A : (2,) float64
        Reciprocal lattice vectors of the unstrained crystal in Å⁻¹, calibrated axes.
    g1_local_A, g2_local_A : (Rx, Ry, 2) float64
        The same at each position.
    hk : (n, 2) int64
        Indices of the disks; the first is the direct beam.
    fractions : (n,) float64
        Electrons in each disk as a share of the dose.
    origin_px : (Rx, Ry, 2) float64
        Position of the direct beam in detector pixels.
    calibration : Calibration
        Complete and true.
    probe : DiffractionSlice
        The vacuum probe, with a thousand times the dose of a pattern at most 10⁶.
    hot_pixels : (m, 2) int64
        Detector pixels that always report far too much.
    """

    e_xx: Float
    e_yy: Float
    e_xy: Float
    theta: Float
    reference: NDArray[np.bool_]
    g1_A: Float
    g2_A: Float
    g1_local_A: Float
    g2_local_A: Float
    hk: NDArray[np.int64]
    fractions: Float
    origin_px: Float
    calibration: Calibration
    probe: DiffractionSlice
    hot_pixels: NDArray[np.int64]

    def positions_px(self) -> Float:
        """Disk centres on the detector, (Rx, Ry, n, 2), also of those beyond its edge."""
        local = np.stack([self.g1_local_A, self.g2_local_A], axis=-2)
        g = np.einsum("nk,xykc->xync", self.hk, local)
        return self.origin_px[:, :, None, :] + detector_px(g, self.calibration)

    def peaks(self) -> PointTable:
        """Disk centres as a table with fields ``qx, qy, intensity, h, k``."""
        positions = self.positions_px()
        fields = [("qx", "f8"), ("qy", "f8"), ("intensity", "f8"), ("h", "i8"), ("k", "i8")]
        table = np.empty(positions.shape[:3], dtype=fields)
        table["qx"], table["qy"] = positions[..., 0], positions[..., 1]
        table["intensity"] = self.fractions
        table["h"], table["k"] = self.hk[:, 0], self.hk[:, 1]
        scan_shape = (positions.shape[0], positions.shape[1])
        offsets = np.arange(scan_shape[0] * scan_shape[1] + 1) * len(self.hk)
        return PointTable(table.ravel(), offsets, scan_shape, self.calibration, name="true disks")


def strained_lattice(
    scan_shape: tuple[int, int] = (32, 32),
    Q_shape: tuple[int, int] = (128, 128),
    *,
    strain: Mapping[str, ArrayLike] | None = None,
    g1_A: Sequence[float] = (0.24, 0.05),
    g2_A: Sequence[float] = (-0.06, 0.27),
    probe_radius_px: float = 5.0,
    Q_pixel_size_A: float = 0.0141,
    step_A: float = 10.0,
    energy_eV: float = 200e3,
    rotation_rad: float = 0.0,
    ellipse: Ellipse | Sequence[float] | None = None,
    wander_px: float = 1.0,
    background: float = 0.15,
    dose: float | None = 50_000,
    hot_pixels: int = 0,
    seed: Seed = 0,
) -> SimulatedScan[LatticeTruth]:
    """Simulate a nanobeam scan of a strained crystal.

    Parameters
    ----------
    scan_shape, Q_shape : (int, int)
    strain : mapping, optional
        Any of ``e_xx, e_yy, e_xy, theta`` as numbers or (Rx, Ry) arrays, others zero; None: a
        smooth field of up to 2 % beside an unstrained region.
    g1_A, g2_A : (float, float)
        Unstrained reciprocal lattice vectors, Å⁻¹, in calibrated axes.
    probe_radius_px, Q_pixel_size_A, step_A, energy_eV : float
        Disk radius, detector pixel (Å⁻¹), scan step (Å), beam energy.
    rotation_rad : float
        From detector to scan axes.
    ellipse : Ellipse or (a, b, theta_rad), optional
        Distortion of the detector plane; it also deforms the disks.
    wander_px : float
        How far imperfect descan moves the pattern.
    background : float
        Share of the electrons in the diffuse background.
    dose : float, optional
        Electrons per pattern (Poisson counts, uint16), to a few per cent, as some land beside the
        detector; None: noise-free float32 of sum one.
    hot_pixels : int
        How many detector pixels always report far too much.
    seed : int or Generator

    Returns
    -------
    SimulatedScan
        ``.cube``, calibrated except for origin, ellipse and rotation; ``.truth`` is a
        `LatticeTruth`.

    Notes
    -----
    With ``β = [[1 − e_xx, θ − e_xy], [−θ − e_xy, 1 − e_yy]]`` the lattice vectors, as rows, are
    ``g = g₀ β``: inverted, this is the package's infinitesimal strain, so that truth and a perfect
    measurement agree without second-order terms.  Disk ``hk`` lies at ``h g₁ + k g₂`` and carries
    ``s_hk exp(−B |g|² / 2)`` with B = 3 Å² and random factors s_hk, equal for ±g.  Disks are
    uniform: no dynamical structure inside them, no change with thickness or tilt.

    Examples
    --------
    >>> scan = strained_lattice((3, 4), (64, 64), strain={"e_xx": 0.01}, seed=1)
    >>> scan.cube.dtype, float(scan.truth.e_xx[0, 0])
    (dtype('uint16'), 0.01)
    """
    scan_shape, Q_shape = shape_2d("scan_shape", scan_shape), shape_2d("Q_shape", Q_shape)
    if not 0 <= background < 1:
        raise ParameterError(f"background must lie in [0, 1), not {background!r}")
    parameters = dict(locals())
    rng = np.random.default_rng(seed)
    field = _strain_field(strain, scan_shape)
    origin = origin_wander(scan_shape, Q_shape, wander_px, rng)
    calibration = optics(
        step_A=step_A,
        Q_pixel_size_A=Q_pixel_size_A,
        energy_eV=energy_eV,
        probe_radius_px=probe_radius_px,
    ).replace(origin_px=origin, rotation_rad=rotation_rad, flip=False, ellipse=ellipse)
    reference = np.array([g1_A, g2_A], float)
    local = reference @ _beta(field)
    hk, fractions = _reflections(reference, Q_shape, calibration, rng)
    hot = _hot(hot_pixels, Q_shape, rng)  # before any count: one seed, one truth, whatever the dose
    truth = LatticeTruth(
        **field,
        reference=np.all([field[name] == 0 for name in _COMPONENTS], axis=0),
        g1_A=reference[0],
        g2_A=reference[1],
        g1_local_A=local[..., 0, :],
        g2_local_A=local[..., 1, :],
        hk=hk,
        fractions=fractions * (1 - background),
        origin_px=origin,
        calibration=calibration,
        probe=probe_slice(
            Q_shape, calibration, edge_px=_EDGE_PX, dose=dose and min(1e6, 1e3 * dose), rng=rng
        ),
        hot_pixels=hot,
    )
    data = _patterns(truth, Q_shape, background, dose, rng)
    return SimulatedScan(as_cube(data, calibration, "strained-lattice", parameters), truth)


def _strain_field(
    strain: Mapping[str, ArrayLike] | None, shape: tuple[int, int]
) -> dict[str, Float]:
    if strain is None:
        return _default_field(shape)
    unknown = set(strain) - set(_COMPONENTS)
    if unknown:
        raise ParameterError(f"strain has no {sorted(unknown)}; known: {', '.join(_COMPONENTS)}")
    try:
        return {
            name: np.array(np.broadcast_to(np.asarray(strain.get(name, 0.0), float), shape))
            for name in _COMPONENTS
        }
    except ValueError:
        raise ShapeError(f"strain components are numbers or arrays of shape {shape}") from None


def _default_field(shape: tuple[int, int]) -> dict[str, Float]:
    """Smooth, each component of another form, and exactly zero in the first quarter of columns."""
    u, v = np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij")
    t = np.clip((v - 0.25) / 0.25, 0, 1)
    ramp = t * t * (3 - 2 * t)
    bump = np.exp(-((u - 0.5) ** 2 + (v - 0.7) ** 2) / (2 * 0.15**2))
    return {
        "e_xx": 0.02 * ramp * np.sin(2 * np.pi * u),
        "e_yy": -0.015 * ramp * bump,
        "e_xy": 0.008 * ramp * np.cos(2 * np.pi * v),
        "theta": 0.017 * ramp * (2 * u - 1),
    }


def _beta(field: Mapping[str, Float]) -> Float:
    """(Rx, Ry, 2, 2) matrices that act on row vectors from the right."""
    rows = [
        [1 - field["e_xx"], field["theta"] - field["e_xy"]],
        [-field["theta"] - field["e_xy"], 1 - field["e_yy"]],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def _reflections(
    reference: Float, Q_shape: tuple[int, int], calibration: Calibration, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Float]:
    """Indices that may reach the detector, and their shares of the Bragg intensity."""
    area = abs(float(np.linalg.det(reference)))
    if area < 1e-9:
        raise ParameterError("g1_A and g2_A must not be parallel")
    edge = 0.6 * float(np.hypot(*Q_shape)) * calibration.Q[0].step
    reach = int(np.ceil(edge * np.linalg.norm(reference, axis=1).max() / area))
    h, k = (a.ravel() for a in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    length = np.linalg.norm(np.stack([h, k], 1) @ reference, axis=1)
    order = np.argsort(length, kind="stable")
    order = order[length[order] <= edge]
    hk, length = np.stack([h, k], 1)[order], length[order]
    factors = _friedel(hk, rng) * np.exp(-_DEBYE_WALLER_A2 * length**2 / 2)
    factors[0] = 4.0  # the direct beam, stronger than any reflection
    # Disks outside the largest circle on the detector carry electrons beyond the dose.
    caught = length < min(Q_shape) / 2 * calibration.Q[0].step
    return hk, factors / factors[caught].sum()


def _friedel(hk: NDArray[np.int64], rng: np.random.Generator) -> Float:
    """Random factors in [0.3, 1], the same for hk and −h−k."""
    reach = int(np.abs(hk).max(initial=0))
    table = rng.uniform(0.3, 1.0, (2 * reach + 1, 2 * reach + 1))
    table = np.sqrt(table * table[::-1, ::-1])
    return table[hk[:, 0] + reach, hk[:, 1] + reach]


def _hot(count: int, Q_shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    size = Q_shape[0] * Q_shape[1]
    if not 0 <= count <= size:
        raise ParameterError(f"hot_pixels must lie between 0 and {size}, not {count!r}")
    chosen = np.sort(rng.choice(size, count, replace=False))
    return np.stack(np.unravel_index(chosen, Q_shape), axis=-1).astype(np.int64)


def _patterns(
    truth: LatticeTruth,
    Q_shape: tuple[int, int],
    background: float,
    dose: float | None,
    rng: np.random.Generator,
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Row by row of the scan, so that only one row is ever held in double precision."""
    shape = DiskShape.of(truth.calibration, _EDGE_PX)
    width = 0.15 * min(Q_shape)
    scale = 1.0 if dose is None else dose
    positions = truth.positions_px()
    data = np.empty((*truth.e_xx.shape, *Q_shape), np.float32 if dose is None else np.uint16)
    for row, (centers, origins) in enumerate(zip(positions, truth.origin_px, strict=True)):
        frames = background * diffuse(Q_shape, origins, width, shape.correction)
        frames = scale * add_disks(frames, centers, truth.fractions[None, :], shape)
        frames[:, truth.hot_pixels[:, 0], truth.hot_pixels[:, 1]] += 0.05 * scale
        data[row] = counted(frames, dose, rng)
    return data
