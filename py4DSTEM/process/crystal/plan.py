"""What patterns of a crystal should look like: directions, rocking curves, templates."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.crystal import Crystal
from py4DSTEM.errors import ParameterError
from py4DSTEM.kernels.orientation import Model, Plan, build_plan

__all__ = [
    "beam_directions",
    "expected_at",
    "expected_log",
    "frames_of",
    "log_rocking",
    "model_of",
    "plan_of",
]

Float = NDArray[np.float64]

_ROWS = 96
"""Rocking curves, one per length of g: with precession they depend on it."""
_STEPS = 512
_ANGLES = 180
_BIN_A = 0.01
_LEAST_WEIGHT = 0.3
"""Of a reflection of a template, in parts of the largest that there may be: fainter do not vote."""
_GENERIC = (0.3103, 0.5477, 0.7767)
"""A direction that no symmetry leaves in its place."""
_MOST_DIRECTIONS = 200_000


def log_rocking(s_A: Float, amplitude_A: Float | float, width_A: float) -> Float:
    """Logarithm of a Lorentzian rocking curve, averaged over the azimuth of a precessed beam.

    Parameters
    ----------
    s_A : (...) float64
        Excitation error of the beam on the axis, Å⁻¹.
    amplitude_A : (...) float64
        How far precession moves it: ``φ k``.
    width_A : float
        Half width at half maximum.

    Returns
    -------
    (...) float64
        Zero at its largest without precession.

    Notes
    -----
    The mean of ``w² / (w² + (s − a cos φ)²)`` over φ is
    ``w Im[((s − i w)² − a²)^(−1/2)]``, with the branch that is positive.

    Examples
    --------
    >>> bool(abs(log_rocking(np.array(0.004), 0.0, 0.004) - np.log(0.5)) < 1e-12)
    True
    """
    s = np.asarray(s_A, np.float64)
    square = (s - 1j * width_A) ** 2 - np.asarray(amplitude_A) ** 2
    return np.asarray(np.log(width_A * np.abs(np.imag(1 / np.sqrt(square)))))


def beam_directions(
    crystal: Crystal, step_deg: float, axis: Float | None = None, within_deg: float = 180.0
) -> Float:
    """Directions of the crystal that may point against the beam, each once by symmetry, (T, 3).

    With an `axis`, those within an angle of it (of one of its equivalents).
    """
    if not 0.2 <= step_deg <= 20:
        raise ParameterError(f"a plan has steps of 0.2 to 20 degrees, not {step_deg!r}")
    count = int(4 * math.pi / math.radians(step_deg) ** 2) + 1
    if count > _MOST_DIRECTIONS * len(crystal.rotations):
        raise ParameterError(f"steps of {step_deg} degrees make too many directions")
    # Spirals of equal area: neighbours are a step apart everywhere.
    i = np.arange(count) + 0.5
    z = 1 - 2 * i / count
    turn = math.pi * (1 + math.sqrt(5)) * i
    whole = np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], 1)
    if axis is not None:
        unit = np.asarray(axis, np.float64) / np.linalg.norm(axis)
        near = whole @ unit >= math.cos(math.radians(min(within_deg, 180.0))) - 1e-12
        return np.concatenate([unit[None], whole[near]])
    generic = np.array(_GENERIC) / np.linalg.norm(_GENERIC)
    orbit = whole @ (crystal.rotations @ generic).T
    return np.asarray(whole[orbit[:, 0] >= orbit.max(axis=1) - 1e-9])


def frames_of(directions: Float) -> Float:
    """An orientation (T, 3, 3) with each direction along z."""
    helper = np.where(np.abs(directions[:, :1]) < 0.8, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    x = np.cross(helper, directions)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.stack([x, np.cross(directions, x), directions], axis=-1)


def model_of(
    crystal: Crystal, k_max_A: float, *, width_A: float, precession_rad: float, B_A2: float = 0.0
) -> Model:
    """Reflections of a crystal with rocking curves; `B_A2` is added to what the atoms have."""
    found = crystal.reflections(k_max_A)
    if len(found) < 2:
        raise ParameterError(f"{crystal.name!r} has no reflections up to {k_max_A:.3g} 1/A")
    F2 = np.abs(found.F_A) ** 2
    log_F2 = np.log(F2 / F2.max()) - B_A2 * found.k_A**2 / 2
    s_max = max(0.03, 12 * width_A) + precession_rad * k_max_A
    s = np.linspace(-s_max, s_max, _STEPS + 1)
    lengths = k_max_A * np.arange(1, _ROWS + 1) / _ROWS
    rocking = log_rocking(s[None], precession_rad * lengths[:, None], width_A)
    row = np.clip(np.rint(found.k_A / k_max_A * _ROWS).astype(np.int64) - 1, 0, _ROWS - 1)
    return Model(
        g=np.ascontiguousarray(found.g_A),
        k2=found.k_A**2,
        log_F2=log_F2,
        row=row,
        rocking=np.ascontiguousarray(rocking),
        s_max=float(s_max),
        symmetry=np.ascontiguousarray(crystal.rotations),
    )


def expected_log(model: Model, s_A: Float) -> Float:
    """Logarithm of the intensity of every reflection at excitation errors (..., n); −inf beyond."""
    return expected_at(model, np.arange(len(model.k2)), s_A)


def expected_at(model: Model, reflections: NDArray[np.int64], s_A: Float) -> Float:
    """As `expected_log`, of one reflection (n,) at one excitation error (n,) each."""
    steps = model.rocking.shape[1] - 1
    u = (s_A + model.s_max) / (2 * model.s_max) * steps
    k = np.clip(u.astype(np.int64), 0, steps - 1)
    row = model.row[reflections]
    low, high = model.rocking[row, k], model.rocking[row, k + 1]
    inside = (u >= 0) & (u < steps)
    value = model.log_F2[reflections] + low + (u - k) * (high - low)
    return np.asarray(np.where(inside, value, -np.inf))


def plan_of(
    model: Model, directions: Float, *, wavelength_A: float, k_max_A: float, tolerance_A: float
) -> Plan:
    """Templates of every direction of the beam, sorted by radius."""
    frames = np.ascontiguousarray(frames_of(directions))
    bins = math.ceil((k_max_A + tolerance_A) / _BIN_A) + 1
    floor = _LEAST_WEIGHT * math.exp(float((model.log_F2 + model.rocking.max()).max()) / 4)
    return build_plan(model, frames, wavelength_A, k_max_A, (bins, _BIN_A, _ANGLES, floor))
