"""Shares of phases from the scales of their patterns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.process.crystal.mixture import decompose
from py4DSTEM.process.crystal.rounds import Rounds

__all__ = ["Scales", "scales_of", "shares_of"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]
_NEIGHBOURS = 64
_LEAST = 8
_ALIKE = 0.09
"""Distance of rotation matrices of the same grain: 2√2 sin(θ/2) of 3.6 degrees."""
_TO_FIND = 3.0
"""A pattern is found when its strongest peaks are so many times as strong as what is just seen."""
_UNKNOWN = 0.5
"""Spread of scales that are on a guess."""


@dataclass(frozen=True, eq=False)
class Scales:
    """Intensity of each pattern, in units of that of a position with nothing else.

    Parameters
    ----------
    scale, sigma : (P, m) float64
        NaN: no pattern.
    level : (P, m) float64
        Logarithm of the intensity that has the scale 1.
    spread : float
        Typical standard deviation of the logarithm of the scales of positions with nothing else.
    alone : int
        How many these are.
    """

    scale: Float
    sigma: Float
    level: Float
    spread: float
    alone: int


def scales_of(rounds: Rounds, intensity: Float, offsets: Int) -> Scales:
    """Decompose the peaks of every position into its patterns.

    Parameters
    ----------
    intensity : (n,) float64
        Of all peaks of the table.
    offsets : (P + 1,) int64
    """
    total, doubt = _intensities(rounds, np.where(intensity > 0, intensity, 0.0), offsets)
    there = rounds.components >= 0
    alone = (there.sum(axis=1) == 1) & (total[:, 0] > 0)
    level, spread = _levels(rounds, np.log(np.where(total > 0, total, np.nan)), alone)
    scale = np.where(there, total * np.exp(-np.where(there, level, 0.0)), np.nan)
    typical = float(np.median(spread[alone, 0])) if alone.any() else _UNKNOWN
    return Scales(scale, scale * np.hypot(doubt, spread), level, typical, int(alone.sum()))


def _intensities(rounds: Rounds, intensity: Float, offsets: Int) -> tuple[Float, Float]:
    """Intensity of the peaks of each pattern, (P, m), and its relative sigma.

    Peaks of several patterns are shared out by the model, which is as sure as it describes
    intensities; others are what they are.
    """
    count, most = rounds.components.shape
    patterns = np.stack([rounds.patterns(r, len(intensity)) for r in range(most)], axis=1)
    position = np.repeat(np.arange(count), np.diff(offsets))
    settings = [found.tuned.settings for found in rounds.founds]
    raw, covariance = decompose(
        intensity, patterns, position, count,
        scatter=float(np.median([one.scatter for one in settings])),
        floor=float(np.exp(min(one.threshold for one in settings))),
    )  # fmt: skip
    parts = patterns * raw[position]
    whole = parts.sum(axis=1)
    share = np.divide(parts, whole[:, None], out=np.zeros_like(parts), where=whole[:, None] > 0)
    own = intensity[:, None] * share
    both = np.where((share > 0).sum(axis=1) > 1, 1.0, 0.0)[:, None]
    total, common = (np.zeros((count, most)) for _ in range(2))
    np.add.at(total, position, own)
    np.add.at(common, position, own * both * (1 - share))
    relative = np.zeros_like(raw)
    sigma = np.sqrt(np.einsum("pmm->pm", covariance))
    np.divide(sigma * common, raw * total, out=relative, where=(raw > 0) & (total > 0))
    return total, relative


def _levels(rounds: Rounds, log_scale: Float, alone: NDArray[np.bool_]) -> tuple[Float, Float]:
    """Logarithm of the intensity that each pattern has where nothing else is, and its spread.

    Of the same orientation, as dynamical scattering and thickness make orientations differ; of
    the crystal where that orientation is never alone; as of one bright peak where the crystal is
    not.
    """
    out, spread = (np.full(rounds.components.shape, np.nan) for _ in range(2))
    for c, found in enumerate(rounds.founds):
        own = np.flatnonzero(alone & (rounds.components[:, 0] == c))
        here, r = np.nonzero(rounds.components == c)
        known = log_scale[own, 0]
        guess = found.tuned.settings.level, _UNKNOWN
        level, width = (np.full(len(here), one) for one in (_full(known) if len(own) else guess))
        if len(own) >= _LEAST and len(here):
            m, slot = found.matches, rounds.slots[here, r]
            # Half a turn apart patterns are nearly the same, and the weaker ones take the other.
            first = m.matrices[own, 0]
            near = [_same_grain(first, R[here, slot]) for R in (m.matrices, m.partners)]
            values = np.append(known, np.nan)[np.concatenate(near, axis=1)]
            enough = np.isfinite(values).sum(axis=1) >= _LEAST
            level[enough], width[enough] = _full(values[enough])
        out[here, r], spread[here, r] = level, width
    return out, spread


def _full(values: Float) -> tuple[Float, Float]:
    """Level of positions that one pattern fills, and its spread, along the last axis.

    Scales are smaller at the edges of grains and nowhere larger: the upper half counts.
    """
    if not values.size:
        return np.empty(len(values)), np.empty(len(values))
    level, most = np.nanpercentile(values, (75, 95), axis=-1)
    # Between these percentiles a Gaussian has 0.97 standard deviations.
    return level, (most - level) / 0.97


def _same_grain(alone: Float, matrices: Float) -> Int:
    """Rows of `alone` that are of the same orientation as each matrix, (n, 64); their number: none.

    Symmetry is left out: a grain that is described in several ways is several grains here.
    """
    from scipy.spatial import cKDTree

    out = np.full((len(matrices), _NEIGHBOURS), len(alone), np.int64)
    known = np.isfinite(matrices).all(axis=(1, 2))
    tree = cKDTree(alone.reshape(-1, 9))
    flat = matrices[known].reshape(-1, 9)
    _, out[known] = tree.query(flat, k=_NEIGHBOURS, distance_upper_bound=_ALIKE)
    return out


def shares_of(
    rounds: Rounds, scales: Scales, crystals: int, *, amorphous: bool
) -> tuple[Float, Float]:
    """Shares (P, n) of the crystals, and what is left for amorphous material, with sigmas.

    Notes
    -----
    ``f_k = x_k / max(1, Σ x)`` with x the sums of the scales of each crystal, and the rest
    amorphous; without amorphous material ``f_k = x_k / Σ x``.  Sigmas hold the scatter of scales,
    what may be there unseen, and ``√f − f`` at edges to amorphous material.
    """
    x, variance = _per_crystal(rounds, scales, crystals)
    total = x.sum(axis=1)
    whole = np.maximum(total, 1.0) if amorphous else np.where(total > 0, total, 1.0)
    f = x / whole[:, None]
    # Where the sum is held at one, shares are ratios; else they are the scales themselves.
    ratio = (whole == total)[:, None, None]
    jacobian = (np.eye(crystals) - np.where(ratio, f[:, :, None], 0.0)) / whole[:, None, None]
    spread = jacobian @ variance @ np.swapaxes(jacobian, 1, 2)
    hidden = _hidden(rounds, scales)[:, None]
    if amorphous:
        # Where the edge of a crystal cuts the probe its disks are blurred, and hold as little as
        # the square of its share of the area.
        cut = np.where(f < 1, np.sqrt(f) - f, 0.0)
        hidden = np.hypot(hidden, np.column_stack([cut, np.sqrt((cut**2).sum(axis=1))]))
        f = np.concatenate([f, 1.0 - f.sum(axis=1, keepdims=True)], axis=1)
        add = np.concatenate([np.eye(crystals), -np.ones((1, crystals))])
        spread = add @ spread @ add.T
    else:
        # What a pattern lacks may be another crystal that was not found.
        hidden = np.hypot(hidden, np.maximum(1 - total, 0.0)[:, None] * np.maximum(f, 1 - f))
    sigma = np.sqrt(np.maximum(np.einsum("pcc->pc", spread), 0.0) + hidden**2)
    unknown = (rounds.components < 0).all(axis=1)
    f[unknown], sigma[unknown] = np.nan, np.nan
    return f, sigma


def _per_crystal(rounds: Rounds, scales: Scales, crystals: int) -> tuple[Float, Float]:
    """Sums of the scales of each crystal, (P, c), and their covariance."""
    chosen = (rounds.components[:, :, None] == np.arange(crystals)).astype(np.float64)
    scale = np.nan_to_num(scales.scale)
    x = np.einsum("pm,pmc->pc", scale, chosen)
    own = np.eye(scale.shape[1]) * np.nan_to_num(scales.sigma)[:, :, None] ** 2
    return x, np.swapaxes(chosen, 1, 2) @ own @ chosen


def _hidden(rounds: Rounds, scales: Scales) -> Float:
    """Share of a crystal of which too few peaks would be seen to find it, (P,)."""
    least = min(found.tuned.settings.threshold for found in rounds.founds)
    level = np.where(np.isfinite(scales.level), scales.level, -np.inf).max(axis=1)
    seen = np.where(np.isfinite(level), np.exp(least - level), 0.0)
    return np.asarray(np.minimum(_TO_FIND * seen, 0.5))
