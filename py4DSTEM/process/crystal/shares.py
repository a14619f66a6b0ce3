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


@dataclass(frozen=True, eq=False)
class Scales:
    """Scales of the patterns, in units of those of positions with nothing else.

    Parameters
    ----------
    scale : (P, m) float64
        NaN: no pattern.
    covariance : (P, m, m) float64
    level : (P, m) float64
        Logarithm of the intensity that has the scale 1.
    spread : float
        Standard deviation of the logarithm of the scales of positions with nothing else.
    alone : int
        How many these are.
    """

    scale: Float
    covariance: Float
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
    count, most = rounds.components.shape
    patterns = np.stack([rounds.patterns(r, len(intensity)) for r in range(most)], axis=1)
    position = np.repeat(np.arange(count), np.diff(offsets))
    settings = [found.tuned.settings for found in rounds.founds]
    scatter = float(np.median([one.scatter for one in settings]))
    floor = float(np.exp(min(one.threshold for one in settings)))
    raw, covariance = decompose(
        np.where(intensity > 0, intensity, 0.0), patterns, position, count,
        scatter=scatter, floor=floor,
    )  # fmt: skip
    there = rounds.components >= 0
    alone = (there.sum(axis=1) == 1) & (raw[:, 0] > 0)
    level = _levels(rounds, np.log(np.where(raw > 0, raw, np.nan)), alone)
    left = (np.log(np.where(alone, raw[:, 0], 1.0)) - level[:, 0])[alone]
    spread = 1.4826 * float(np.median(np.abs(left))) if alone.sum() >= _LEAST else scatter
    unit = np.exp(-np.where(np.isfinite(level), level, 0.0))
    scale = np.where(there, raw * unit, np.nan)
    covariance = covariance * unit[:, :, None] * unit[:, None, :]
    return Scales(scale, covariance, level, spread, int(alone.sum()))


def _levels(rounds: Rounds, log_scale: Float, alone: NDArray[np.bool_]) -> Float:
    """Logarithm of the scale that each pattern has where nothing else is, (P, m).

    Of the same orientation, as dynamical scattering and thickness make orientations differ; of
    the crystal where that orientation is never alone; as expected where the crystal is not.
    """
    out = np.full(rounds.components.shape, np.nan)
    for c, found in enumerate(rounds.founds):
        own = np.flatnonzero(alone & (rounds.components[:, 0] == c))
        here, r = np.nonzero(rounds.components == c)
        if not len(here):
            continue
        known = log_scale[own, 0]
        common = float(np.median(known)) if len(own) else found.tuned.settings.level
        level = np.full(len(here), common)
        if len(own) >= _LEAST:
            R = found.matches.matrices
            near = _same_grain(R[own, 0], R[here, rounds.slots[here, r]])
            values = np.append(known, np.nan)[near]
            enough = np.isfinite(values).sum(axis=1) >= _LEAST
            level[enough] = np.nanmedian(values[enough], axis=1)
        out[here, r] = level
    return out


def _same_grain(alone: Float, matrices: Float) -> Int:
    """Rows of `alone` that are of the same orientation as each matrix, (n, 64); their number: none.

    Symmetry is left out: a grain that is described in several ways is several grains here.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(alone.reshape(-1, 9))
    _, rows = tree.query(matrices.reshape(-1, 9), k=_NEIGHBOURS, distance_upper_bound=_ALIKE)
    return np.asarray(rows, np.int64)


def shares_of(
    rounds: Rounds, scales: Scales, crystals: int, *, amorphous: bool
) -> tuple[Float, Float]:
    """Shares (P, n) of the crystals, and what is left for amorphous material, with sigmas.

    Notes
    -----
    ``f_k = x_k / max(1, Σ x)`` with x the sums of the scales of each crystal, and the rest
    amorphous; without amorphous material ``f_k = x_k / Σ x``.
    """
    count, most = rounds.components.shape
    chosen = rounds.components[:, :, None] == np.arange(crystals)
    x = np.einsum("pm,pmc->pc", np.nan_to_num(scales.scale), chosen.astype(float))
    noise = (
        scales.covariance
        + np.eye(most) * (scales.spread * np.nan_to_num(scales.scale)[:, :, None]) ** 2
    )
    variance = np.einsum("pmc,pmn,pnd->pcd", chosen.astype(float), noise, chosen.astype(float))
    total = x.sum(axis=1)
    whole = np.maximum(total, 1.0) if amorphous else total
    f = np.divide(x, whole[:, None], out=np.zeros_like(x), where=whole[:, None] > 0)
    # Where the sum is held at one, shares are ratios; else they are the scales themselves.
    ratio = np.broadcast_to((whole == total)[:, None, None], variance.shape)
    jacobian = np.eye(crystals) - np.where(ratio, f[:, :, None], 0.0)
    jacobian = jacobian / np.where(whole > 0, whole, 1.0)[:, None, None]
    spread = jacobian @ variance @ np.swapaxes(jacobian, 1, 2)
    if amorphous:
        f = np.concatenate([f, 1.0 - f.sum(axis=1, keepdims=True)], axis=1)
        add = np.concatenate([np.eye(crystals), -np.ones((1, crystals))])
        spread = add @ spread @ add.T
    sigma = np.sqrt(np.maximum(np.einsum("pcc->pc", spread), 0.0))
    unknown = (rounds.components < 0).all(axis=1)
    f[unknown], sigma[unknown] = np.nan, np.nan
    return f, sigma
