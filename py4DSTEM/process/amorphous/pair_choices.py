"""Ranges that a pair distribution finds by itself, and the reasons for them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.scattering import Composition
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.amorphous.pair_transform import (
    PairTransform,
    Setup,
    resolution_A,
)

__all__ = ["FEWEST_RINGS", "choose_exponent", "choose_order", "choose_r_min", "q_range"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
FEWEST_RINGS = 12
_LEAST_RISE = 1.15
_NEAR_LEAST = 0.02
_COMPLETE = 0.995
_NOISIEST = 0.5
_CUT, _SURELY = 0.4, 5.0
"""Share of the intensity that is lost from one ring to all later ones where something cuts it off,
and how many times the noise that is."""
_NEAREST_A, _FARTHEST_A = 0.8, 6.0
"""Where the first peak may lie."""
_HIGHEST_ORDER = 2
"""Above, polynomials take away what belongs to the nearest atoms."""


# ---- the range of q ------------------------------------------------------------------------------
def q_range(
    q_A: Float,
    intensity: Float,
    counts: Float,
    composition: Composition,
    gain: float,
    limits: tuple[float | None, float | None],
) -> tuple[slice, dict[str, str]]:
    """Rings to use, and why.

    Parameters
    ----------
    q_A, intensity, counts : (n_bins,) float64
        A radial profile and the pixels in its rings.
    composition : Composition
    gain : float
        Counts per electron.
    limits : (float or None, float or None)
        What is given; None: chosen.

    Returns
    -------
    (slice, dict)

    Raises
    ------
    ParameterError
        No ring is found, too few are left, or some of them have no value.
    """
    low, high = limits
    for name, given in zip(("q_min", "q_max"), limits, strict=True):
        if given is not None and given > q_A[-1] + (q_A[1] - q_A[0]) / 2:
            raise ParameterError(
                f"{name} = {given:.4g} lies beyond the last ring, {q_A[-1]:.4g} 1/A"
            )
    reach = 4.0  # 1/A, of the table
    known = np.isfinite(intensity) & (counts > 0) & (q_A > 0) & (q_A <= reach)
    if not known.any():
        raise ParameterError("the profile has no ring with a value: check origin, mask and `where`")
    f2 = np.where(known, composition.mean_f2_A2(np.clip(q_A, 0, reach)), 1.0)
    ratio = np.where(known, intensity, np.nan) / f2
    stop, why_stop = _stop(q_A, ratio, counts, f2 / gain, high)
    start, why_start = _start(q_A, ratio, stop, low)
    if stop - start < FEWEST_RINGS:
        raise ParameterError(
            f"{max(stop - start, 0)} rings between q = {q_A[start]:.3g} and "
            f"{q_A[max(stop - 1, 0)]:.3g} 1/A are too few for a pair distribution ({FEWEST_RINGS} "
            "is the least): give q_min and q_max, or rings of a smaller step"
        )
    if not known[start:stop].all():
        missing = q_A[start:stop][~known[start:stop]]
        raise ParameterError(
            f"{len(missing)} rings from q = {missing[0]:.3g} to {missing[-1]:.3g} 1/A have no "
            "pixels or no finite intensity: choose q_min and q_max around them, or a smaller mask"
        )
    return slice(start, stop), {"q_min": why_start, "q_max": why_stop}


def _start(q: Float, ratio: Float, stop: int, given: float | None) -> tuple[int, str]:
    if given is not None:
        return int(np.searchsorted(q, given - 1e-9)), "given"
    seen = np.flatnonzero(np.isfinite(ratio[:stop]) & (q[:stop] > 0))
    values = np.maximum(ratio[seen], 1e-3 * float(np.median(ratio[seen])))
    if not (len(values) > FEWEST_RINGS and values[0] > 0):
        raise ParameterError("the profile has hardly any intensity: check origin, mask and `where`")
    least = np.minimum.accumulate(values)
    ring = int(np.argmax(values / least))
    if values[ring] < _LEAST_RISE * least[ring]:
        raise ParameterError(
            "no ring stands out of the profile, so that the range cannot be chosen: give q_min"
        )
    enough = least[ring] + _NEAR_LEAST * (values[ring] - least[ring])
    first = int(np.argmax(values <= enough))
    return int(seen[first]), "where the direct beam has faded, below the first ring"


def _stop(
    q: Float, ratio: Float, counts: Float, unit: Float, given: float | None
) -> tuple[int, str]:
    """One past the last ring, and why; `unit`: electrons per ratio and pixel."""
    if given is not None:
        end = int(np.searchsorted(q, given + 1e-9))
        return end, "given"
    share = np.divide(counts, q, out=np.zeros_like(q), where=q > 0)
    typical = float(np.median(share[: max(len(q) // 2, 2)][1:]))
    whole = (share >= _COMPLETE * typical) & np.isfinite(ratio)
    last = int(np.flatnonzero(whole)[-1]) if whole.any() else 0
    noise = np.sqrt(np.maximum(ratio, 0.0) / np.maximum(unit * counts, 1e-300))
    why = "the last ring that lies wholly on the detector"
    cut = _cut(ratio[: last + 1], noise[: last + 1])
    if cut is not None:  # half of the ring before shares its pixels with it
        last, why = cut - 2, "beyond, something cuts the intensity off"
    level = float(np.nanmedian(ratio[last // 2 : last + 1])) if last > 2 else math.nan
    noisy = np.flatnonzero(noise[: last + 1] > _NOISIEST * level)
    noisy = noisy[noisy > last // 2]
    if noisy.size:
        return int(noisy[0]), "beyond, the noise of S(q) is more than a half"
    return last + 1, why


def _cut(ratio: Float, noise: Float) -> int | None:
    """First ring, of the outer half, from which on there is much less than in the one before."""
    start = len(ratio) // 2 + 1
    before = ratio[start - 1 : -1]
    later = np.maximum.accumulate(ratio[::-1])[::-1][start:]
    fall = before - later
    gone = np.flatnonzero((fall > _CUT * before) & (fall > _SURELY * noise[start - 1 : -1]))
    return int(gone[0]) + start if gone.size else None


# ---- the range of r ------------------------------------------------------------------------------
def choose_r_min(setup: Setup, intensity: Float) -> tuple[float, str]:
    """Distance below which there are no atoms, from a first transform, and why."""
    first = PairTransform.of(setup)
    G = first.to_H @ intensity
    seen = (setup.r_A >= _NEAREST_A) & (setup.r_A <= _FARTHEST_A)
    if not (seen.any() and float(G[seen].max(initial=-np.inf)) > 0):
        raise ParameterError("no first peak is found: give r_min_A, and check q_min and q_max")
    peak = float(setup.r_A[seen][int(np.argmax(G[seen]))])
    width = resolution_A(setup.q_A, setup.damping)
    nearest = max(min(0.65 * peak, peak - 0.75 * width), 0.3 * peak)
    return nearest, f"below the peak at {peak:.2f} Å, less what the range of q blurs"


def choose_order(q_A: Float, r_min_A: float) -> int:
    """As many terms as the distances below `r_min_A` can tell, less scale and density."""
    told = 2 * float(q_A[-1]) * r_min_A
    return int(np.clip(math.floor(told) - 2, 0, _HIGHEST_ORDER))


def choose_exponent(q_A: Float, intensity: Float, composition: Composition) -> float:
    """Exponent p of ``c⟨f²⟩ + b q^−p`` that leaves the least F(q)."""
    from scipy.optimize import minimize_scalar

    f2, f_f = composition.mean_f2_A2(q_A), composition.mean_f_A(q_A) ** 2
    gain = q_A / f_f

    def left(exponent: float) -> float:
        design = np.stack([f2, (q_A / q_A[0]) ** -exponent], axis=1) * gain[:, None]
        design /= np.linalg.norm(design, axis=0)
        rest = gain * intensity - design @ (np.linalg.pinv(design) @ (gain * intensity))
        return float(rest @ rest)

    found = minimize_scalar(left, bounds=(0.5, 8.0), method="bounded")
    return float(found.x)
