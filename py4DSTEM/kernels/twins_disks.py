"""The twin of the search for disks: plain numpy, one maximum after the other, with reasons."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._arrays import fit_frames
from .api import DISK_FIELDS, DISK_REJECTIONS, DiskPlan, Float, FoundDisks

__all__ = ["Candidate", "correlation", "examine", "find_disks"]

DISK, NEAR, FAINT = "disk", "near", "faint"
_ROUNDS, _RELAXATION, _CONVERGED, _OFF_CENTER = 6, 0.8, 0.08, 0.53
_LARGEST_RESIDUAL, _FEW_COUNTS = 6.0, 5.0
_SIDES = ((0, 1), (1, -1), (1, 0), (1, 1))
Fitter = Callable[[Float, Float, DiskPlan], Callable[[Float], str]]
"""From counts and weights (Qx, Qy) to what fits a row of `DISK_FIELDS` and tells the verdict."""


class Candidate(NamedTuple):
    """A maximum of the correlation and what became of it.

    Attributes
    ----------
    pixel : (int, int)
    height : float
        Of the correlation.
    verdict : str
        ``"disk"``; one of `DISK_REJECTIONS`; ``"near"``, closer than the least spacing to a higher
        maximum; or ``"faint"``, below the least intensity.
    row : (13,) float64
        `DISK_FIELDS`, as far as they were fitted.
    """

    pixel: tuple[int, int]
    height: float
    verdict: str
    row: Float


def find_disks(frames: Any, plan: DiskPlan) -> FoundDisks:
    """Twin of `py4DSTEM.kernels.disks.find_disks`."""
    frames = fit_frames(frames)
    rows, counts = [np.empty((0, len(DISK_FIELDS)))], np.zeros(len(frames), np.int64)
    rejected = np.zeros((len(frames), len(DISK_REJECTIONS)), np.int64)
    for p, frame in enumerate(frames):
        found = examine(frame, plan)
        verdicts = [c.verdict for c in found]
        disks = sorted((c for c in found if c.verdict == DISK), key=lambda c: -c.row[2])
        rows.extend(c.row[None] for c in disks)
        counts[p] = len(disks)
        rejected[p] = [verdicts.count(reason) for reason in DISK_REJECTIONS]
    return FoundDisks(np.concatenate(rows), counts, rejected)


def correlation(pattern: NDArray[Any], plan: DiskPlan) -> Float:
    """What maxima are looked for in, (Qx, Qy) float64."""
    whole = _correlation(_usable(pattern, plan)[0], plan, plan.smoothed)
    return whole[: pattern.shape[0], : pattern.shape[1]]


def examine(pattern: NDArray[Any], plan: DiskPlan, fitter: Fitter | None = None) -> list[Candidate]:
    """All maxima above the threshold, the highest first, and what becomes of each.

    `fitter`: what fits the disks; None: the twin.
    """
    counts, weights = _usable(pattern, plan)
    if not counts.sum() > 0:
        return []
    fit = (fitter or _fitter)(counts, weights, plan)
    found: list[Candidate] = []
    kept: list[Candidate] = []
    sharp = _correlation(counts, plan, plan.template)
    smooth = _correlation(counts, plan, plan.smoothed)
    for i, j in _maxima(smooth, plan):
        row = np.full(len(DISK_FIELDS), np.nan)
        row[:3] = i, j, smooth[i, j]
        verdict = DISK
        if len(kept) == plan.max_peaks:
            verdict = "crowded"
        elif any(math.dist((i, j), c.pixel) < plan.min_spacing_px for c in kept):
            verdict = NEAR
        else:
            row[:2] = _subpixel(smooth, sharp, i, j, plan)
            if plan.subpixel == 3:
                verdict = fit(row)
            if verdict == DISK and plan.subpixel == 3 and _beside(row, found, plan):
                verdict = "close"
        candidate = Candidate((i, j), float(smooth[i, j]), verdict, row)
        found.append(candidate)
        if verdict not in (NEAR, "crowded"):
            kept.append(candidate)
    return _without_faint(found, plan)


def _beside(row: Float, found: list[Candidate], plan: DiskPlan) -> bool:
    least = 0.7 * plan.min_spacing_px
    return any(math.dist(row[:2], c.row[:2]) < least for c in found if c.verdict == DISK)


def _without_faint(found: list[Candidate], plan: DiskPlan) -> list[Candidate]:
    levels = sorted((c.row[2] for c in found if c.verdict == DISK), reverse=True)
    if not levels:
        return found
    relative = plan.min_relative * levels[min(plan.relative_to, len(levels) - 1)]
    least = max(plan.min_intensity, relative)
    return [
        c._replace(verdict=FAINT) if c.verdict == DISK and c.row[2] < least else c for c in found
    ]


# ---- correlation and maxima ----------------------------------------------------------------------
def _usable(pattern: NDArray[Any], plan: DiskPlan) -> tuple[Float, Float]:
    """Counts and weights, both zero where a pixel cannot be used."""
    with np.errstate(over="ignore"):
        counts = pattern.astype(np.float32).astype(np.float64)
    weights = plan.mask.astype(np.float64)
    if plan.doubtful:
        weights = np.where(np.abs(counts) < np.float32(plan.saturation), weights, 0.0)
    return np.where(weights > 0, counts, 0.0), weights


def _correlation(counts: Float, plan: DiskPlan, template: NDArray[np.complex64]) -> Float:
    scene = counts
    if plan.stabilise:
        offset = 0.375 + plan.read_variance / plan.gain**2
        scene = np.sqrt(np.maximum(counts / plan.gain + offset, 0.0))
    spectrum = np.fft.rfft2(scene, s=plan.fft_shape)
    product = spectrum * template
    if plan.corr_power != 1:
        size = np.abs(spectrum * plan.template)
        product = product * np.where(size > 0, size, 1.0) ** (plan.corr_power - 1)
    return np.fft.irfft2(product, s=plan.fft_shape) * math.prod(plan.fft_shape)


def _maxima(cc: Float, plan: DiskPlan) -> list[tuple[int, int]]:
    """Pixels above the threshold and all eight neighbours, the highest first."""
    height = np.pad(cc, 1, constant_values=np.inf)
    above = cc > plan.threshold
    for dx, dy in _SIDES:
        after = height[1 + dx :, 1 + dy :][: cc.shape[0], : cc.shape[1]]
        before = height[1 - dx :, 1 - dy :][: cc.shape[0], : cc.shape[1]]
        above &= (cc >= after) & (cc > before)
    inner = np.zeros_like(above)
    edge, (q0, q1) = max(1, plan.edge_px), plan.mask.shape
    inner[edge : q0 - edge, edge : q1 - edge] = True
    above &= inner
    above[:q0, :q1] &= plan.centers > 0
    i, j = np.nonzero(above)
    order = np.argsort(-cc[i, j], kind="stable")
    return list(zip(i[order].tolist(), j[order].tolist(), strict=True))


def _subpixel(smooth: Float, sharp: Float, i: int, j: int, plan: DiskPlan) -> tuple[float, float]:
    if plan.subpixel == 0:
        return i, j
    x = i + _vertex(*smooth[i - 1 : i + 2, j])
    y = j + _vertex(*smooth[i, j - 1 : j + 2])
    return _highest(sharp, x, y) if plan.subpixel == 2 else (x, y)


def _vertex(before: float, at: float, after: float) -> float:
    curvature = before - 2 * at + after
    return 0.0 if curvature >= 0 else min(max(0.5 * (before - after) / curvature, -0.5), 0.5)


def _highest(sharp: Float, x: float, y: float) -> tuple[float, float]:
    """Maximum of the trigonometric interpolation, by a general optimiser from (x, y)."""
    from scipy.optimize import minimize  # slow to import

    waves = np.fft.fft2(sharp) / sharp.size
    fx, fy = (np.fft.fftfreq(n) for n in sharp.shape)
    waves[fx == -0.5], waves[:, fy == -0.5] = 0.0, 0.0
    kx, ky = 2j * np.pi * fx, 2j * np.pi * fy

    def depth(place: Float) -> float:
        return -float((np.exp(kx * place[0]) @ waves @ np.exp(ky * place[1])).real)

    scale = abs(depth(np.array([x, y]))) or 1.0
    found = minimize(lambda place: depth(place) / scale, [x, y], method="BFGS", tol=1e-9).x
    return (float(found[0]), float(found[1])) if math.dist(found, (x, y)) <= 2 else (x, y)


# ---- maximum likelihood --------------------------------------------------------------------------
def _fitter(counts: Float, weights: Float, plan: DiskPlan) -> Callable[[Float], str]:
    return lambda row: _fit(counts, weights, plan, row)


def _fit(counts: Float, weights: Float, plan: DiskPlan, row: Float) -> str:
    """Fisher scoring on the pixels around (row[0], row[1]); fills the row."""
    start, pixel = row[:2].copy(), np.rint(row[:2])
    v, w, *_ = _around(counts, weights, start, pixel, plan)
    if w.sum() < plan.min_visible:
        return "hidden"
    background = max(_mean(v, w * plan.ring), plan.least_background)
    height = max(_mean(v, w * plan.core) - background, 0.05 * background)
    p = np.array([*start, height, background, 0.0, 0.0])
    prior = np.diag([0.0, 0.0, 0.0, 0.0, plan.slope_information, plan.slope_information])
    for turn in range(_ROUNDS):
        if np.abs(p[:2] - pixel).max() > _OFF_CENTER:
            pixel = np.rint(p[:2])
        v, w, x, y = _around(counts, weights, p, pixel, plan)
        if w.sum() < plan.min_visible:
            return "hidden"
        design, expected = _model(p, p[:2] - pixel, x, y, plan)
        root = np.sqrt(w / (plan.gain * expected + plan.read_variance))
        residual = root * (v - expected)
        most = _LARGEST_RESIDUAL + _FEW_COUNTS * plan.gain * root
        normal = (design * root**2) @ design.T + prior
        if not np.linalg.cond(normal) < 1e14:
            return "hidden"
        right = (design * root) @ np.clip(residual, -most, most) - prior @ p
        step = np.linalg.solve(normal, right)
        p = _moved(p, step, turn, plan)
        if np.abs(p[:2] - start).max() > plan.max_shift_px:
            return "moved"
        if turn > 0 and step[:2] ** 2 @ np.diag(normal)[:2] < _CONVERGED:
            break
    _write(row, p, np.linalg.inv(normal), float((residual**2).sum()) / max(w.sum() - 6, 1.0), plan)
    return DISK if row[7] >= plan.min_significance else "weak"


def _mean(values: Float, weights: Float) -> float:
    return float((values * weights).sum() / max(weights.sum(), 1.0))


def _around(
    counts: Float, weights: Float, p: Float, pixel: Float, plan: DiskPlan
) -> tuple[Float, Float, Float, Float]:
    """Counts, weights and offsets from the centre of the pixels around one."""
    a, b = int(pixel[0]) + plan.offset_x, int(pixel[1]) + plan.offset_y
    known = (a >= 0) & (b >= 0) & (a < counts.shape[0]) & (b < counts.shape[1])
    a, b = np.where(known, a, 0), np.where(known, b, 0)
    return counts[a, b], weights[a, b] * plan.counts * known, a - p[0], b - p[1]


def _model(p: Float, offset: Float, x: Float, y: Float, plan: DiskPlan) -> tuple[Float, Float]:
    """Derivatives (6, m) by x, y, height, background and the slopes, and the expected counts."""
    phases = plan.table.shape[0]
    phase = np.clip(np.floor((offset + 0.5) * phases), 0, phases - 1).astype(int)
    rest = offset - ((phase + 0.5) / phases - 0.5)
    t, tx, ty = plan.table[phase[0], phase[1]].astype(np.float64)
    t = np.maximum(t + rest[0] * tx + rest[1] * ty, 0.0)
    height, background, sx, sy = p[2:]
    ramp = np.maximum(1 + sx * x + sy * y, 0.05)
    shape = t * ramp - plan.edge_variance * (sx * tx + sy * ty)
    expected = np.maximum(height * shape + background, plan.least_background)
    design = np.stack([
        height * (tx * ramp - t * sx), height * (ty * ramp - t * sy), shape, np.ones_like(t),
        height * (t * x - plan.edge_variance * tx), height * (t * y - plan.edge_variance * ty),
    ])  # fmt: skip
    return design, expected


def _moved(p: Float, step: Float, turn: int, plan: DiskPlan) -> Float:
    longest, largest = float(np.abs(step[:2]).max()), 0.5 if turn == 0 else 0.8
    share = largest / longest if longest > largest else _RELAXATION
    new = p + step * np.array([share, share, 1, 1, share, share])
    new[2] = max(new[2], 0.1 * p[2])
    new[3] = max(new[3], plan.least_background)
    new[4:] = np.clip(new[4:], -plan.steepest, plan.steepest)
    return new


def _write(row: Float, p: Float, covariance: Float, chi2: float, plan: DiskPlan) -> None:
    slope_variance = 0.5 * (covariance[4, 4] + covariance[5, 5])
    sigma = np.sqrt(np.diag(covariance))
    row[:] = (
        p[0], p[1], p[2] * plan.area, sigma[0], sigma[1], covariance[0, 1], p[3], p[2] / sigma[2],
        chi2, p[4], p[5], math.sqrt(slope_variance),
        0.5 * (covariance[0, 4] + covariance[1, 5]) / slope_variance,
    )  # fmt: skip
