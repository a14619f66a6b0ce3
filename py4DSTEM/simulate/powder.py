"""The pattern of a fine-grained standard: what ellipse and pixel size are measured with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.simulate.disks import DiskShape, add_disks, diffuse
from py4DSTEM.simulate.grains import Reflections
from py4DSTEM.simulate.scan import Seed, SimulatedPattern, counted, optics, positive, shape_2d

__all__ = ["PowderTruth", "powder_rings"]

Float = NDArray[np.float64]
_EDGE_PX = 0.7


@dataclass(frozen=True, eq=False)
class PowderTruth:
    """What is known about a pattern of `powder_rings`.

    Parameters
    ----------
    crystal, lattice_A : str, float
        Element and cubic lattice parameter.
    rings_A : (k,) float64
        Lengths of the scattering vectors of the rings, Å⁻¹.
    fractions : (k,) float64
        Electrons in each ring as a share of the dose.
    calibration : Calibration
        Complete and true.
    """

    crystal: str
    lattice_A: float
    rings_A: Float
    fractions: Float
    calibration: Calibration


def powder_rings(
    Q_shape: tuple[int, int] = (128, 128),
    *,
    crystal: str = "Au",
    center: tuple[float, float] | None = None,
    ellipse: Ellipse | Sequence[float] | None = None,
    Q_pixel_size_A: float = 0.0141,
    energy_eV: float = 200e3,
    beam_radius_px: float = 2.0,
    ring_width_px: float = 0.9,
    scattered: float = 0.4,
    background: float = 0.2,
    dose: float | None = 1e7,
    seed: Seed = 0,
) -> SimulatedPattern[PowderTruth]:
    """Simulate the rings of countless small grains of a cubic crystal.

    Parameters
    ----------
    Q_shape : (int, int)
    crystal : str
        As in `polycrystal`.
    center : (float, float), optional
        ``(qx, qy)`` of the direct beam in pixels; None: near the middle of the detector.
    ellipse : Ellipse or (a, b, theta_rad), optional
        Distortion of the detector plane.
    Q_pixel_size_A, energy_eV : float
        Detector pixel (Å⁻¹), beam energy.
    beam_radius_px, ring_width_px : float
        Radius of the direct beam, and standard deviation of the rings across.
    scattered, background : float
        Shares of the electrons in the rings, and in a smooth background.
    dose : float, optional
        Electrons in the pattern (Poisson counts, uint16), to a few per cent, as some land beside
        the detector; None: noise-free float32 of sum one.
    seed : int or Generator

    Returns
    -------
    SimulatedPattern
        ``.pattern`` knows the beam energy; ``.truth`` is a `PowderTruth`.

    Notes
    -----
    Kinematical: a ring of length q holds a share ``∝ Σ |F|² exp(−B q²/2) / q`` over its
    reflections.  Across, rings are Gaussian in calibrated distances, and even along.

    Examples
    --------
    >>> rings = powder_rings((64, 64), Q_pixel_size_A=0.03, ellipse=(1.02, 1.0, 0.5))
    >>> rings.pattern.shape, round(float(1 / rings.truth.rings_A[0]), 4)
    ((64, 64), 2.3545)
    """
    Q_shape = shape_2d("Q_shape", Q_shape)
    positive(ring_width_px=ring_width_px)
    if not (scattered >= 0 and background >= 0 and scattered + background < 1):
        raise ParameterError(
            "scattered and background are shares that leave some electrons to the direct beam, "
            f"not {scattered!r} and {background!r}"
        )
    middle = (Q_shape[0] / 2 + 0.3, Q_shape[1] / 2 - 0.4) if center is None else center
    calibration = optics(
        step_A=1.0,
        Q_pixel_size_A=Q_pixel_size_A,
        energy_eV=energy_eV,
        probe_radius_px=beam_radius_px,
    ).replace(origin_px=np.array(middle, float), ellipse=ellipse)
    longest = 0.5 * float(np.hypot(*Q_shape)) * Q_pixel_size_A
    lattice_A, rings_A, shares = _rings(crystal, longest)
    truth = PowderTruth(crystal, lattice_A, rings_A, scattered * shares, calibration)
    mean = _intensity(truth, Q_shape, ring_width_px, background)
    rng = np.random.default_rng(seed)
    known = Calibration(energy_eV=energy_eV)
    parameters = {"crystal": crystal, "dose": dose, "Q_pixel_size_A": Q_pixel_size_A}
    history = History().then("simulate-powder-rings", parameters)
    units = "fraction" if dose is None else "counts"
    pattern = DiffractionSlice(
        counted(mean * (1.0 if dose is None else dose), dose, rng), known, history,
        f"rings of {crystal}", units=units,
    )  # fmt: skip
    return SimulatedPattern(pattern, truth)


def _rings(crystal: str, longest_A: float) -> tuple[float, Float, Float]:
    """Lattice parameter, lengths, and shares of all electrons in rings."""
    reflections = Reflections.of(crystal, longest_A)
    if not len(reflections.hkl):
        raise ParameterError(f"no ring of {crystal} reaches the detector: a larger pixel size?")
    square = (reflections.hkl**2).sum(axis=1)
    squares, ring = np.unique(square, return_inverse=True)
    lengths = np.sqrt(squares) / reflections.lattice_A
    power = np.bincount(ring, reflections.strength) / lengths
    return reflections.lattice_A, lengths, power / power.sum()


def _intensity(
    truth: PowderTruth, Q_shape: tuple[int, int], width_px: float, background: float
) -> Float:
    """Direct beam, background and rings, as shares of all electrons."""
    calibration = truth.calibration
    center = np.array(calibration.mean_origin_px)
    shape = DiskShape.of(calibration, _EDGE_PX)
    t = shape.correction
    mean = background * diffuse(Q_shape, center[None], 0.15 * min(Q_shape), t)
    beam = 1 - background - float(truth.fractions.sum())
    mean = add_disks(mean, center.reshape(1, 1, 2), np.array([[beam]]), shape)[0]
    i, j = np.indices(Q_shape) - center[:, None, None]
    radius = np.hypot(t[0, 0] * i + t[0, 1] * j, t[1, 0] * i + t[1, 1] * j)
    # Of unit integral over the undistorted plane; the determinant makes it so on the detector.
    height = abs(np.linalg.det(t)) / ((2 * math.pi) ** 1.5 * width_px)
    for length, share in zip(truth.rings_A, truth.fractions, strict=True):
        ring = length / calibration.Q[0].step
        mean += share * height / ring * np.exp(-(((radius - ring) / width_px) ** 2) / 2)
    whole: Float = mean
    return whole
