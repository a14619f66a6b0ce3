"""Twin of `py4DSTEM.kernels.ring_levels`: slow, plain, its definition."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .api import Float
from .ring_levels import ROUNDS, RingLevels


def ring_levels(
    frames: ArrayLike,
    origins: ArrayLike,
    n_bins: int,
    *,
    clip: float = 3.0,
    gain: float = 1.0,
    metric: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> RingLevels:
    """Twin of `py4DSTEM.kernels.ring_levels.ring_levels`."""
    frames = np.asarray(frames)
    keep = np.ones(frames.shape[1:], bool) if mask is None else np.asarray(mask, bool)
    matrix = np.eye(2) if metric is None else np.asarray(metric, np.float64)
    out = np.zeros((4, len(frames), n_bins))
    out[0] = np.nan
    places = np.moveaxis(np.indices(frames.shape[1:], np.float64), 0, -1)
    for p, (frame, origin) in enumerate(zip(frames, np.asarray(origins), strict=True)):
        radius = np.linalg.norm((places - origin) @ matrix.T, axis=-1)
        for k in range(n_bins):
            inside = keep & np.isfinite(frame) & (radius + 0.5 >= k) & (radius + 0.5 < k + 1)
            values = frame[inside].astype(np.float64)
            if values.size:
                out[:, p, k] = *_level(values, clip, gain), values.size, values.sum()
    return RingLevels(*out)


def _level(values: Float, clip: float, gain: float) -> tuple[float, int]:
    level = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - level)))
    used = 0
    for _ in range(ROUNDS):
        reach = clip * max(np.sqrt(gain * max(level, 0.0)), spread) + gain
        kept = values[np.abs(values - level) <= reach]
        if not kept.size:
            break
        moved, level = float(kept.mean()) - level, float(kept.mean())
        same = kept.size == used and abs(moved) <= 1e-9 * (abs(level) + 1e-300)
        used = kept.size
        if same:
            break
    return level, used
