"""Votes and scores of orientations in plain numpy: what the compiled kernels must give."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.kernels.orientation import Model, Plan, Settings

__all__ = ["score_orientation", "votes_of"]

Float = NDArray[np.float64]


def votes_of(peaks: Float, plan: Plan, reach_A: float) -> tuple[Float, Float]:
    """Most votes and their rotation in the plane (rad) of every direction of a plan, (T,) each."""
    angles = len(plan.allowed)
    radius = np.hypot(peaks[:, 0], peaks[:, 1])
    turn = np.arctan2(peaks[:, 1], peaks[:, 0]) / (2 * math.pi) * angles % angles
    amplitude = np.exp(peaks[:, 2] / 2)
    weight = np.sqrt(amplitude / amplitude.sum())
    votes, turns = np.zeros(len(plan.norm)), np.zeros(len(plan.norm))
    for t in range(len(plan.norm)):
        rows = slice(plan.first[t, 0], plan.first[t, -1])
        off = (plan.radius[rows][None] - radius[:, None]) / reach_A
        amount = np.where(
            np.abs(off) <= 1, weight[:, None] * plan.weight[rows][None] * (1 - off**2), 0.0
        )
        u = (turn[:, None] - plan.turn[rows][None]) % angles
        k = np.minimum(u.astype(int), angles - 1)
        f = u - k
        histogram = np.zeros(angles)
        np.add.at(histogram, k, 0.5 * amount)
        np.add.at(histogram, (k - 1) % angles, 0.5 * amount * (1 - f))
        np.add.at(histogram, (k + 1) % angles, 0.5 * amount * f)
        histogram[~plan.allowed] = -1.0
        best = int(histogram.argmax())
        votes[t] = histogram[best] / plan.norm[t]
        turns[t] = (best + 0.5) * 2 * math.pi / angles
    return votes, turns


def score_orientation(
    peaks: Float, matrix: Float, model: Model, settings: Settings
) -> tuple[float, NDArray[np.int64]]:
    """How well an orientation explains one list of peaks, and the reflection of each peak."""
    gs = model.g @ matrix
    expected = _expected(model, gs[:, 2] - 0.5 * settings.wavelength_A * model.k2)
    faint = settings.threshold - settings.level - 6 * settings.scatter
    seen = (expected >= faint) & (np.hypot(gs[:, 0], gs[:, 1]) <= settings.k_max_A)
    owner = np.full(len(peaks), -1, np.int64)
    kernel, best = np.zeros(len(peaks)), np.full(len(peaks), -np.inf)
    unseen = []
    for h in np.flatnonzero(seen):
        distance2 = ((peaks[:, :2] - gs[h, :2]) ** 2).sum(axis=1)
        j = int(distance2.argmin())
        if distance2[j] >= 9 * settings.width_A**2:
            unseen.append(expected[h])
        elif expected[h] > best[j]:
            owner[j], best[j] = h, expected[h]
            kernel[j] = math.exp(-0.5 * distance2[j] / settings.width_A**2)
    level, has = settings.level, kernel > 0
    difference = peaks[has, 2] - best[has]
    for _ in range(3):
        weight = kernel[has] / (1 + ((difference - level) / settings.scatter) ** 2 / 3)
        level = (settings.level_weight * settings.level + (weight * difference).sum()) / (
            settings.level_weight + weight.sum()
        )
    r = (difference - level) / settings.scatter
    score = (kernel[has] * np.maximum(settings.worth - 2 * np.log1p(r**2 / 3), 0)).sum()
    z = 1.7 / settings.scatter * (np.array(unseen) + level - settings.threshold)
    score -= np.logaddexp(0, z[z > -12]).sum()
    return float(score), np.where(kernel > 0.05, owner, -1)


def _expected(model: Model, s: Float) -> Float:
    steps = model.rocking.shape[1] - 1
    u = (s + model.s_max) * steps / (2 * model.s_max)
    inside = (u >= 0) & (u < steps)
    k = np.where(inside, u, 0).astype(int)
    low, high = model.rocking[model.row, k], model.rocking[model.row, k + 1]
    return np.asarray(np.where(inside, model.log_F2 + low + (u - k) * (high - low), -np.inf))
