"""Twin of `py4DSTEM.kernels.ring_levels`: slow, plain, its definition."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .api import Float
from .ring_levels import LEAST_LEFT, ROUNDS, WINDOW_ROUNDS, RingLevels


def ring_levels(
    frames: ArrayLike,
    origins: ArrayLike,
    n_bins: int,
    *,
    half: int = 1,
    clip: float = 3.0,
    gain: float = 1.0,
    metric: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> RingLevels:
    """Twin of `py4DSTEM.kernels.ring_levels.ring_levels`."""
    frames = np.asarray(frames)
    keep = np.ones(frames.shape[1:], bool) if mask is None else np.asarray(mask, bool)
    matrix = np.eye(2) if metric is None else np.asarray(metric, np.float64)
    out = np.zeros((5, len(frames), n_bins))
    out[0] = np.nan
    places = np.moveaxis(np.indices(frames.shape[1:], np.float64), 0, -1)
    for p, (frame, origin) in enumerate(zip(frames, np.asarray(origins), strict=True)):
        radius = np.linalg.norm((places - origin) @ matrix.T, axis=-1) + 0.5
        use = keep & np.isfinite(frame) & (radius < n_bins)
        rings = [use & (radius >= k) & (radius < k + 1) for k in range(n_bins)]
        out[:, p] = _pattern(np.where(use, frame, 0).astype(np.float64), rings, half, clip, gain)
    return RingLevels(*out)


def _pattern(
    frame: Float, rings: list[NDArray[np.bool_]], half: int, clip: float, gain: float
) -> Float:
    first = [_level(frame[ring], clip, gain) for ring in rings]
    level, used, variance = (np.array(part, np.float64) for part in zip(*first, strict=True))
    for _ in range(WINDOW_ROUNDS):
        excess, noise = np.zeros((2, *frame.shape))
        for k, ring in enumerate(rings):
            excess[ring], noise[ring] = frame[ring] - level[k], variance[k]
        dark = _windows(excess, half) <= clip * np.sqrt(_windows(noise, half)) + gain
        dark &= excess >= -(clip * np.sqrt(noise) + gain)
        for k, ring in enumerate(rings):
            left = frame[ring & dark]
            if left.size and left.size >= LEAST_LEFT * ring.sum():
                level[k], used[k] = left.mean(), left.size
                variance[k] = max(left.var(), gain * max(left.mean(), 0.0))
    valid = np.array([ring.sum() for ring in rings], np.float64)
    total = np.array([frame[ring].sum() for ring in rings])
    bright = np.where(valid > 0, total - used * np.nan_to_num(level), 0.0)
    return np.stack([level, used, bright, valid, total])


def _windows(image: Float, half: int) -> Float:
    wide = np.pad(image, half)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (2 * half + 1, 2 * half + 1))
    sums: Float = windows.sum(axis=(2, 3))
    return sums


def _level(values: Float, clip: float, gain: float) -> tuple[float, int, float]:
    if not values.size:
        return np.nan, 0, 0.0
    level = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - level)))
    kept = values[:0]
    for _ in range(ROUNDS):
        reach = clip * max(np.sqrt(gain * max(level, 0.0)), spread) + gain
        before, kept = kept.size, values[np.abs(values - level) <= reach]
        if not kept.size:
            break
        moved, level = float(kept.mean()) - level, float(kept.mean())
        if kept.size == before and abs(moved) <= 1e-9 * (abs(level) + 1e-300):
            break
    variance = float(kept.var()) if kept.size else 0.0
    return level, kept.size, max(variance, gain * max(level, 0.0))
