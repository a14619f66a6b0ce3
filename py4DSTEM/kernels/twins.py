"""The primitives in plain numpy: slow, obviously right, the definition of the compiled ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._arrays import fit_array
from .api import BUCKETS, Float, KeyRange, Measured, RadialSums, ThresholdCounts, bin_dtype, lowest
from .twins_disks import find_disks as find_disks
from .twins_lattice import fit_lattices as fit_lattices
from .twins_live import add_weighted as add_weighted
from .twins_live import row_prefix as row_prefix
from .twins_live import turn_frames as turn_frames
from .twins_overlap import gather_pixels as gather_pixels
from .twins_overlap import overlap_sums as overlap_sums
from .twins_polar import polar_means as polar_means
from .twins_polar import polar_plan as polar_plan
from .twins_polar import polar_plans as polar_plans
from .twins_polar import polar_sums as polar_sums
from .twins_polar import ring_medians as ring_medians
from .twins_polar import ring_moments as ring_moments


def _finite(frames: np.ndarray) -> tuple[Float, NDArray[np.bool_]]:
    """Frames as float64 with 0 where a pixel is not finite, and where they are finite."""
    good = np.isfinite(frames)
    return np.where(good, frames, 0).astype(np.float64), good


def compile_detectors(weights: ArrayLike) -> Float:
    """Detector weights (K, Qx, Qy) as they are."""
    return np.asarray(weights, dtype=np.float64)


def measure(
    frames: ArrayLike,
    detectors: Float | None = None,
    *,
    moments: bool = False,
    sums: bool = False,
    squares: bool = False,
    maximum: bool = False,
    weights: Float | None = None,
) -> Measured:
    """Twin of `py4DSTEM.kernels.measure.measure`."""
    frames = np.asarray(frames)
    v, good = _finite(frames)
    w = np.ones(len(v)) if weights is None else np.asarray(weights, dtype=np.float64)
    i, j = np.indices(v.shape[1:])
    images = sums or squares
    return Measured(
        detectors=None if detectors is None else _detector_sums(v, good, detectors),
        total=v.sum(axis=(1, 2)) if moments else None,
        moment_x=(v * i).sum(axis=(1, 2)) if moments else None,
        moment_y=(v * j).sum(axis=(1, 2)) if moments else None,
        sums=np.einsum("p,pij->ij", w, v) if sums else None,
        squares=np.einsum("p,pij->ij", w, v**2) if squares else None,
        valid=np.einsum("p,pij->ij", w, good.astype(np.float64)) if images else None,
        maximum=_maximum(frames, w > 0) if maximum else None,
    )


def _detector_sums(v: Float, good: NDArray[np.bool_], detectors: Float) -> Float:
    sums = np.einsum("pij,kij->pk", v, detectors)
    support = detectors != 0
    seen = np.einsum("pij,kij->pk", good.astype(int), support.astype(int))
    return np.where((seen == 0) & support.any(axis=(1, 2)), np.nan, sums)


def _maximum(frames: np.ndarray, chosen: NDArray[np.bool_]) -> np.ndarray:
    low = np.array(lowest(frames.dtype), dtype=frames.dtype.newbyteorder("="))
    values = np.where(np.isfinite(frames), frames, low)[chosen]
    return values.max(axis=0, initial=low.item()).astype(low.dtype)


def center_of_mass(frames: ArrayLike, weights: ArrayLike | None = None) -> Float:
    """Twin of `py4DSTEM.kernels.com.center_of_mass`."""
    v, _ = _finite(np.asarray(frames))
    v = v if weights is None else v * np.asarray(weights)
    i, j = np.indices(v.shape[1:])
    total = v.sum(axis=(1, 2))
    moments = np.stack([(v * i).sum(axis=(1, 2)), (v * j).sum(axis=(1, 2))], axis=1)
    usable = total > 0
    return np.where(usable[:, None], moments / np.where(usable, total, 1.0)[:, None], np.nan)


def shifted_sums(
    frames: ArrayLike, weights: ArrayLike, shifts: ArrayLike, margin: tuple[int, int] = (0, 0)
) -> Float:
    """Twin of `py4DSTEM.kernels.shifted.shifted_sums`."""
    v, good = _finite(np.asarray(frames))
    weights, shifts = np.asarray(weights, dtype=np.float64), np.asarray(shifts, dtype=np.float64)
    out = np.full((len(v), len(weights)), np.nan)
    for p in np.flatnonzero(np.isfinite(shifts).all(axis=1)):
        moved = np.array([_moved(w, *shifts[p]) for w in weights]).reshape(weights.shape)
        moved = moved[:, margin[0] :, margin[1] :][:, : v.shape[1], : v.shape[2]]
        out[p] = _detector_sums(v[p : p + 1], good[p : p + 1], moved)[0]
    return out


def _moved(weights: Float, sx: float, sy: float) -> Float:
    """``w(i - sx, j - sy)``, bilinear, zero outside."""
    i, j = np.indices(weights.shape)
    x, y = i - sx, j - sy
    a, b = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - a, y - b
    out = np.zeros_like(weights)
    for da, db, part in (
        (0, 0, (1 - fx) * (1 - fy)),
        (1, 0, fx * (1 - fy)),
        (0, 1, (1 - fx) * fy),
        (1, 1, fx * fy),
    ):
        u, w = a + da, b + db
        inside = (u >= 0) & (u < weights.shape[0]) & (w >= 0) & (w < weights.shape[1])
        out[inside] += part[inside] * weights[u[inside], w[inside]]
    return out


def radial_plan(radius: ArrayLike, n_bins: int, step: float = 1.0) -> Float:
    """Share of each pixel in each bin: (n_bins, Qx, Qy)."""
    t = np.asarray(radius, dtype=np.float64) / step
    inside = (t >= 0) & (t < n_bins)
    t = np.where(inside, t, -9.0)
    return np.array([np.clip(1 - np.abs(t - k), 0, None) for k in range(n_bins)])


def radial_sums(frames: ArrayLike, plan: Float) -> RadialSums:
    """Twin of `py4DSTEM.kernels.radial.radial_sums`."""
    v, good = _finite(np.asarray(frames))
    norms = np.einsum("pij,kij->pk", good.astype(np.float64), plan)
    if good.all():
        norms = plan.sum(axis=(1, 2))[None]
    return RadialSums(np.einsum("pij,kij->pk", v, plan), norms)


def radial_sums_centered(
    frames: ArrayLike,
    origins: ArrayLike,
    n_bins: int,
    step: float = 1.0,
    *,
    ellipse: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> RadialSums:
    """Twin of `py4DSTEM.kernels.radial.radial_sums_centered`."""
    frames = np.asarray(frames)
    matrix = np.eye(2) if ellipse is None else np.asarray(ellipse)
    grid = np.moveaxis(np.indices(frames.shape[1:]), 0, -1)
    sums, norms = np.full((len(frames), n_bins), np.nan), np.zeros((len(frames), n_bins))
    for p in np.flatnonzero(np.isfinite(origins).all(axis=1)):
        radius = np.linalg.norm((grid - np.asarray(origins)[p]) @ matrix.T, axis=-1)
        radius = radius if mask is None else np.where(mask, radius, -1.0)
        one = radial_sums(frames[p : p + 1], radial_plan(radius, n_bins, step))
        sums[p], norms[p] = one.sums[0], one.norms[0]
    return RadialSums(sums, norms)


def bin_frames(frames: ArrayLike, bx: int, by: int) -> np.ndarray:
    """Twin of `py4DSTEM.kernels.binning.bin_frames`."""
    frames = np.asarray(frames)
    n, height, width = frames.shape
    cropped = frames[:, : height // bx * bx, : width // by * by]
    wide = {"f": np.float64, "i": np.int64}.get(frames.dtype.kind, np.uint64)
    blocks = cropped.reshape(n, height // bx, bx, width // by, by).astype(wide)
    return blocks.sum(axis=(2, 4)).astype(bin_dtype(frames.dtype, bx * by))


def ordered_uint(frames: ArrayLike) -> NDArray[Any]:
    """Twin of `py4DSTEM.kernels.order.ordered_uint`: the rule of the sign, value by value."""
    frames = np.asarray(frames)
    fit = fit_array(frames)
    bits = 8 * fit.dtype.itemsize
    raw = [int(x) for x in fit.view(f"u{fit.dtype.itemsize}").ravel()]
    top, every = 1 << (bits - 1), (1 << bits) - 1
    if fit.dtype.kind == "i":
        raw = [x ^ top for x in raw]
    elif fit.dtype.kind == "f":
        good = np.isfinite(fit).ravel()
        raw = [
            every if not g else every ^ x if x & top else x | top
            for x, g in zip(raw, good, strict=True)
        ]
    return np.array(raw, dtype=f"u{fit.dtype.itemsize}").reshape(frames.shape)


def histogram_digit(
    keys: NDArray[Any],
    prefix: NDArray[np.uint64],
    shift: int,
    histogram: NDArray[np.int64],
    *,
    skip_last: bool = False,
) -> None:
    """Twin of `py4DSTEM.kernels.order.histogram_digit`."""
    last = np.iinfo(keys.dtype).max
    for pattern in keys:
        for q in np.ndindex(prefix.shape):
            key, known = int(pattern[q]), int(prefix[q])
            if key >> (shift + 8) == known >> (shift + 8) and not (skip_last and key == last):
                histogram[q][(key >> shift) & 255] += 1


def repair_pixels(frames: ArrayLike, pixels: ArrayLike, neighbours: ArrayLike) -> np.ndarray:
    """Twin of `py4DSTEM.kernels.clean.repair_pixels`."""
    frames = np.asarray(frames)
    source = frames.reshape(len(frames), frames.shape[1] * frames.shape[2])
    out = source.astype(frames.dtype.newbyteorder("="))
    for pixel, near in zip(np.asarray(pixels), np.asarray(neighbours), strict=True):
        for p in range(len(out)):
            values = source[p, near[near >= 0]].astype(np.float64)
            values = values[np.isfinite(values)]
            if values.size:
                middle = np.median(values)
                out[p, pixel] = middle if out.dtype.kind == "f" else np.floor(middle + 0.5)
    return out.reshape(frames.shape)


def apply_dark_gain(
    frames: ArrayLike, dark: ArrayLike | None = None, gain: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Twin of `py4DSTEM.kernels.clean.apply_dark_gain`."""
    offset = 0.0 if dark is None else np.asarray(dark, dtype=np.float64)
    factor = 1.0 if gain is None else np.asarray(gain, dtype=np.float64)
    return ((np.asarray(frames).astype(np.float64) - offset) * factor).astype(np.float32)


def threshold_counts(frames: ArrayLike, high: float) -> ThresholdCounts:
    """Twin of `py4DSTEM.kernels.clean.threshold_counts`."""
    frames = np.asarray(frames)
    good = np.isfinite(frames)
    over = good & (frames.astype(np.float64) >= high)
    return ThresholdCounts(
        over.sum(axis=(1, 2)), (~good).sum(axis=(1, 2)), over.sum(axis=0), (~good).sum(axis=0)
    )


def subtract_radial_background(
    frames: ArrayLike, plan: Float, quantile: float = 0.5
) -> NDArray[np.float32]:
    """Twin of `py4DSTEM.kernels.clean.subtract_radial_background`."""
    v = np.asarray(frames).astype(np.float64)
    out = v.copy()
    used = plan.any(axis=0)
    for p in range(len(v)):
        levels = []
        for share in plan:
            ring = v[p][_nearest(plan, share, len(levels))]
            ring = ring[np.isfinite(ring)]
            levels.append(np.quantile(ring, quantile) if ring.size else np.nan)
        levels = _without_gaps(levels)
        rest = 1 - plan.sum(axis=0)
        base = np.tensordot(levels, plan, axes=1) + rest * levels[-1]
        out[p][used] -= base[used]
    return out.astype(np.float32)


def _without_gaps(levels: list[float]) -> list[float]:
    """A NaN takes the last number before it, those in front the first one, 0 if there is none."""
    last = next((v for v in levels if np.isfinite(v)), 0.0)
    return [last := v if np.isfinite(v) else last for v in levels]


def _nearest(plan: Float, share: Float, k: int) -> NDArray[np.bool_]:
    """Pixels whose nearest bin is k: the larger share, the outer of equals, the last beyond it."""
    inner = plan[k - 1] if k else np.zeros_like(share)
    outer = plan[k + 1] if k + 1 < len(plan) else np.zeros_like(share)
    return (share > 0) & (share >= inner) & (share > outer)


def key_range(
    keys: np.ndarray, above: NDArray[np.uint64] | None = None, *, skip_last: bool = False
) -> KeyRange:
    """Twin of `py4DSTEM.kernels.brackets.key_range`."""
    use = np.ones(keys.shape, bool) if above is None else keys > above
    if skip_last:
        use &= keys != np.iinfo(keys.dtype).max
    wide, none = keys.astype(np.uint64), np.iinfo(np.uint64).max
    low = np.where(use, wide, none).min(axis=0, initial=none)
    return KeyRange(low, np.where(use, wide, 0).max(axis=0, initial=0), use.sum(axis=0))


def bucket_counts(
    keys: np.ndarray,
    low: NDArray[np.uint64],
    shift: NDArray[np.uint64],
    *,
    skip_last: bool = False,
) -> NDArray[np.uint32]:
    """Twin of `py4DSTEM.kernels.brackets.bucket_counts`."""
    use = keys >= low
    if skip_last:
        use &= keys != np.iinfo(keys.dtype).max
    bucket = np.where(use, (keys.astype(np.uint64) - low) >> shift, BUCKETS)
    counts = [(bucket == b).sum(axis=0) for b in range(BUCKETS)]
    return np.stack(counts, axis=-1).astype(np.uint32)
