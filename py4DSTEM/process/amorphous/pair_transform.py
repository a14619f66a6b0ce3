"""From intensities to the pair distribution: every step linear, so that errors follow exactly.

Of a profile I(q) the smooth part, the scale and the density are least squares, thus linear in I;
so is the sine transform.  Only the last division is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.scattering import Composition
from py4DSTEM.errors import ParameterError

__all__ = [
    "Background",
    "Damping",
    "PairTransform",
    "Setup",
    "assumptions",
    "damping_window",
    "resolution_A",
    "sine_transform",
]

Float = NDArray[np.float64]
Damping = Literal["lorch", "gaussian", "none"]
Background = Literal["low-r", "polynomial", "power-law", "none"]
_EDGE = 3
"""Rings at the lower end of the range that tell how F(q) goes on to zero."""
_GAUSSIAN_AT_END = 0.1


@dataclass(frozen=True, eq=False)
class Setup:
    """What a transform is made of.

    Parameters
    ----------
    q_A : (n_q,) float64
        Scattering vectors of the rings in use, Å⁻¹, evenly spaced.
    r_A : (n_r,) float64
        Distances, from one step on.
    composition : Composition
    background : str
    order : int
        Of the polynomial.
    exponent : float
        Of a power law.
    damping : str
    r_min_A : float
        Below it there are no atoms.
    rounds : int
        Of the correction of what remains below `r_min_A`.
    density_A3 : float, optional
        Known density; None: the scale is that of the fit, the density follows.
    """

    q_A: Float
    r_A: Float
    composition: Composition
    background: Background
    order: int
    exponent: float
    damping: Damping
    r_min_A: float
    rounds: int
    density_A3: float | None


@dataclass(frozen=True, eq=False)
class PairTransform:
    """The matrices of one setup; all act on intensities (n_q,).

    Parameters
    ----------
    to_F : (n_q, n_q) float64
        To ``c F(q)``.
    to_H : (n_r, n_q) float64
        To ``c G(r)``.
    to_smooth : (n_q, n_q) float64
        To the smooth part, ``c⟨f²⟩`` and background.
    to_scale, to_number : (n_q,) float64
        To the scale c and to c times the density.
    """

    to_F: Float
    to_H: Float
    to_smooth: Float
    to_scale: Float
    to_number: Float

    @classmethod
    def of(cls, setup: Setup) -> PairTransform:
        """The matrices."""
        q = setup.q_A
        f2, f_f = setup.composition.mean_f2_A2(q), setup.composition.mean_f_A(q) ** 2
        gain = 2 * math.pi * q / f_f
        sine = sine_transform(q, setup.r_A, setup.damping)
        columns = _columns(setup, f2)
        if setup.background == "low-r":
            solve = _solve_low_r(setup, sine * gain, columns)
        else:
            solve = _solve_in_q(columns, gain)
        smooth = columns @ solve[: columns.shape[1]]
        to_F = gain[:, None] * (np.eye(len(q)) - smooth)
        slope = _slope(setup.r_A, setup.r_min_A)
        for _ in range(setup.rounds):
            to_F = to_F - _remains(setup, sine @ to_F, slope)
        to_H = sine @ to_F
        number = slope @ to_H
        scale = solve[0]
        if setup.density_A3 is not None and setup.background == "low-r":
            scale = number / setup.density_A3
        elif setup.density_A3 is not None:
            number = scale * setup.density_A3
        return cls(to_F, to_H, smooth, scale, number)


def damping_window(q_A: Float, damping: Damping) -> Float:
    """Weights (n_q,) of the transform, which fall towards the end of the range.

    ``sinc(q/q_end)`` (doi:10.1088/0022-3719/2/2/305), ``exp(−2.3 (q/q_end)²)`` or one.
    """
    share = q_A / (q_A[-1] + (q_A[1] - q_A[0]) / 2)
    if damping == "lorch":
        return np.asarray(np.sinc(share), np.float64)
    if damping == "gaussian":
        return np.asarray(_GAUSSIAN_AT_END ** (share**2), np.float64)
    return np.ones_like(share)


def resolution_A(q_A: Float, damping: Damping) -> float:
    """Full width at half maximum of what a sharp distance becomes in G(r), in Å."""
    end = float(q_A[-1])
    return {"lorch": 0.866, "gaussian": 0.858, "none": 0.604}[damping] / end


def sine_transform(q_A: Float, r_A: Float, damping: Damping) -> Float:
    """Matrix of ``G(r) = 4 ∫ F(q) w(q) sin(2πqr) dq``, (n_r, n_q).

    Below the first ring F is a straight line from zero, as where S(q) is constant.
    """
    step = float(q_A[1] - q_A[0])
    weights = 4 * step * damping_window(q_A, damping)
    matrix = np.sin(2 * math.pi * np.outer(r_A, q_A)) * weights
    below = q_A[0] - step * np.arange(1, math.floor(q_A[0] / step + 0.5) + 1)
    below = below[below > 0]
    if below.size:
        line = np.sin(2 * math.pi * np.outer(r_A, below)) @ below * (4 * step)
        count = min(_EDGE, len(q_A))
        matrix[:, :count] += line[:, None] / (q_A[:count] * count)
    return np.asarray(matrix, np.float64)


def _columns(setup: Setup, f2: Float) -> Float:
    """Shapes of the smooth part, (n_q, k); the first is the atoms' own."""
    left = 1 - setup.q_A / setup.q_A[-1]
    if setup.background == "none":
        return f2[:, None]
    if setup.background == "power-law":
        return np.stack([f2, (setup.q_A / setup.q_A[0]) ** -setup.exponent], axis=1)
    return np.stack([f2 * left**k for k in range(setup.order + 1)], axis=1)


def _inverse(design: Float) -> Float:
    """Pseudo-inverse, columns brought to one length meanwhile."""
    length = np.linalg.norm(design, axis=0)
    if not (length > 0).all():
        raise ParameterError("the background cannot be fitted in this range: give it wider limits")
    return np.asarray(np.linalg.pinv(design / length) / length[:, None], np.float64)


def _solve_in_q(columns: Float, gain: Float) -> Float:
    """Coefficients (k, n_q) that leave the least F(q)."""
    return _inverse(columns * gain[:, None]) * gain


def _solve_low_r(setup: Setup, transform: Float, columns: Float) -> Float:
    """Coefficients (k + 1, n_q) for which G(r) is nearest to a straight line below `r_min_A`."""
    low = setup.r_A <= setup.r_min_A
    if int(low.sum()) < columns.shape[1] + 2:
        raise ParameterError(
            f"{int(low.sum())} distances below r_min_A = {setup.r_min_A:.3g} do not tell a "
            "background: make r_step_A smaller or r_min_A larger"
        )
    line = -4 * math.pi * setup.r_A[low]
    design = np.column_stack([transform[low] @ columns, line])
    return np.asarray(_inverse(design) @ transform[low], np.float64)


def _slope(r_A: Float, r_min_A: float) -> Float:
    """Weights (n_r,) that give the density from ``G = −4πρr`` below `r_min_A`."""
    low = np.where(r_A <= r_min_A, r_A, 0.0)
    if not low.any():
        raise ParameterError(f"no distance lies below r_min_A = {r_min_A:.3g}: make it larger")
    return np.asarray(-low / (4 * math.pi * (low**2).sum()), np.float64)


def _remains(setup: Setup, to_H: Float, slope: Float) -> Float:
    """What G(r) holds below `r_min_A` besides its line, in F(q), (n_q, n_q)."""
    low = setup.r_A <= setup.r_min_A
    r = setup.r_A[low]
    rest = to_H[low] + 4 * math.pi * r[:, None] * (slope @ to_H)
    back = np.sin(2 * math.pi * np.outer(setup.q_A, r)) * (setup.r_A[1] - setup.r_A[0])
    return np.asarray(back @ rest, np.float64)


def assumptions(setup: Setup) -> Mapping[str, str]:
    """What a result rests on, in words."""
    smooth = {
        "low-r": f"smooth part ⟨f²⟩ times a polynomial of order {setup.order} that leaves G(r) a "
        f"straight line below {setup.r_min_A:.2f} Å",
        "polynomial": f"smooth part ⟨f²⟩ times a polynomial of order {setup.order}, by least "
        "squares of F(q)",
        "power-law": f"smooth part c⟨f²⟩ and a power law of exponent {setup.exponent:.2f}",
        "none": "no background",
    }[setup.background]
    scale = (
        "that of the density given, by the slope of G(r)"
        if setup.density_A3 is not None and setup.background == "low-r"
        else "all that is smooth at the end of the range is single elastic scattering"
        if setup.background in ("low-r", "polynomial")
        else "that of ⟨f²⟩ in the fit"
    )
    return {"background": smooth, "scale": scale}
