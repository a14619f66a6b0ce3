"""Patterns of aligned chains whose direction is known everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import ParameterError
from py4DSTEM.simulate.disks import diffuse
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

__all__ = ["FibersTruth", "fibers"]

Float = NDArray[np.float64]
_RING_PX = 1.2  # standard deviation of the ring across
_BEAM_PX = 1.5  # and of the direct beam


@dataclass(frozen=True, eq=False)
class FibersTruth:
    """What is known about a `fibers` scan.

    Parameters
    ----------
    angle_rad : (Rx, Ry) float64
        Direction of the chains from x towards y, from 0 to π.
    crossing_rad : (Rx, Ry) float64
        Direction of the second chains where there are any, else NaN.
    order : float
        S = ⟨cos 2χ⟩ of the chains about their direction.
    ring_A, ring_px : float
        Radius of the ring, in Å⁻¹ and detector pixels.
    origin_px : (Rx, Ry, 2) float64
    calibration : Calibration
        Complete and true.
    """

    angle_rad: Float
    crossing_rad: Float
    order: float
    ring_A: float
    ring_px: float
    origin_px: Float
    calibration: Calibration


def fibers(
    scan_shape: tuple[int, int] = (20, 24),
    Q_shape: tuple[int, int] = (48, 52),
    *,
    spacing_A: float = 4.0,
    alignment: float = 6.0,
    winding: float = 0.5,
    crossed: float = 0.0,
    scattered: float = 0.3,
    Q_pixel_size_A: float = 0.02,
    step_A: float = 100.0,
    energy_eV: float = 200e3,
    wander_px: float = 0.0,
    dose: float | None = 5000,
    seed: Seed = 0,
) -> SimulatedScan[FibersTruth]:
    """Simulate a film of chains that lie in the plane and turn around a defect.

    Parameters
    ----------
    scan_shape, Q_shape : (int, int)
    spacing_A : float
        Distance between chains: the ring has the radius 1/spacing, and its arcs lie across the
        chains.
    alignment : float
        κ of the distribution of directions, ``∝ exp(κ cos 2χ)``.
    winding : float
        Turns of the chains around the middle of the scan, a multiple of ½; 0: all parallel.
    crossed : float
        Share of the scan (its last columns) where as many chains again run at 60° to the others.
    scattered : float
        Share of the electrons in the ring; half of the others are in a smooth background.
    Q_pixel_size_A, step_A, energy_eV, wander_px : float
        As in `strained_lattice`.
    dose : float, optional
        Electrons per pattern (Poisson counts, uint16); None: noise-free float32.
    seed : int or Generator

    Returns
    -------
    SimulatedScan
        ``.truth`` is a `FibersTruth`.

    Notes
    -----
    ``θ = winding · atan2(y − y₀, x − x₀) + 0.4``; around the ring
    ``I ∝ exp(κ cos 2(φ − θ − π/2))``, so that ``S = I₁(κ)/I₀(κ)`` with Bessel functions.

    Examples
    --------
    >>> scan = fibers((4, 5), (32, 32), Q_pixel_size_A=0.03)
    >>> scan.cube.shape, round(scan.truth.order, 3)
    ((4, 5, 32, 32), 0.912)
    """
    from scipy.special import i0e, i1e

    scan_shape, Q_shape = shape_2d("scan_shape", scan_shape), shape_2d("Q_shape", Q_shape, 8)
    positive(spacing_A=spacing_A, alignment=alignment)
    _check(winding, crossed, scattered)
    parameters = dict(locals())
    rng = np.random.default_rng(seed)
    origin = origin_wander(scan_shape, Q_shape, wander_px, rng)
    calibration = optics(step_A=step_A, Q_pixel_size_A=Q_pixel_size_A, energy_eV=energy_eV).replace(
        origin_px=origin, rotation_rad=0.0, flip=False
    )
    angle, crossing = _directions(scan_shape, winding, crossed)
    ring_px = 1 / spacing_A / Q_pixel_size_A
    if ring_px + 3 * _RING_PX > min(Q_shape) / 2:
        raise ParameterError(
            f"a ring of {ring_px:.1f} px does not fit onto a detector of {Q_shape}: a larger pixel "
            "or a larger spacing"
        )
    order = float(i1e(alignment) / i0e(alignment))
    truth = FibersTruth(angle, crossing, order, 1 / spacing_A, ring_px, origin, calibration)
    mean = _patterns(truth, Q_shape, alignment, scattered)
    data = counted(mean * (1.0 if dose is None else dose), dose, rng)
    return SimulatedScan(as_cube(data, calibration, "fibers", parameters), truth)


def _check(winding: float, crossed: float, scattered: float) -> None:
    if not (math.isfinite(winding) and float(2 * winding).is_integer()):
        raise ParameterError(f"winding must be a multiple of one half, not {winding!r}")
    if not 0 <= crossed <= 1:
        raise ParameterError(f"crossed must lie in [0, 1], not {crossed!r}")
    if not 0 < scattered < 1:
        raise ParameterError(f"scattered must lie in (0, 1), not {scattered!r}")


def _directions(scan_shape: tuple[int, int], winding: float, crossed: float) -> tuple[Float, Float]:
    """Directions of the chains, and of the second ones."""
    x, y = np.indices(scan_shape, dtype=np.float64)
    # The defect lies between positions, where no pattern is.
    middle = [n / 2 - 0.26 for n in scan_shape]
    angle = (winding * np.arctan2(y - middle[1], x - middle[0]) + 0.4) % np.pi
    second = np.where(
        y >= round((1 - crossed) * scan_shape[1]), (angle + np.pi / 3) % np.pi, np.nan
    )
    return angle, second


def _patterns(
    truth: FibersTruth, Q_shape: tuple[int, int], alignment: float, scattered: float
) -> Float:
    """Shares of the electrons in every pixel, (Rx, Ry, Qx, Qy)."""
    origins = truth.origin_px.reshape(-1, 2)
    i, j = np.indices(Q_shape)
    x, y = i[None] - origins[:, 0, None, None], j[None] - origins[:, 1, None, None]
    radius, phi = np.hypot(x, y), np.arctan2(y, x)
    bell = np.exp(-(((radius - truth.ring_px) / _RING_PX) ** 2) / 2)
    arcs = np.zeros_like(bell)
    for angle in (truth.angle_rad, truth.crossing_rad):
        chi = phi - angle.reshape(-1, 1, 1) - np.pi / 2
        arcs += np.nan_to_num(np.exp(alignment * (np.cos(2 * chi) - 1)))
    ring = bell * arcs
    ring /= ring.sum(axis=(1, 2), keepdims=True)
    beam = np.exp(-((radius / _BEAM_PX) ** 2) / 2)
    beam /= beam.sum(axis=(1, 2), keepdims=True)
    smooth = diffuse(Q_shape, origins, 0.3 * min(Q_shape), np.eye(2))
    smooth = smooth / smooth.sum(axis=(1, 2), keepdims=True)
    background = 0.5 * (1 - scattered)
    mean = scattered * ring + background * smooth + (1 - scattered - background) * beam
    whole: Float = mean.reshape(*truth.angle_rad.shape, *Q_shape)
    return whole
