"""Maxima of profiles over the half circle, where opposite directions are one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["find_arcs"]

Float = NDArray[np.float64]
_FIELDS = 5
_REACH = 1.25  # widths at half maximum, to both sides of an arc, that belong to it
_CLEAR = 3.0  # standard deviations that a valley between two arcs lies below the lower of them


def find_arcs(
    profiles: Float,
    variance: Float,
    *,
    most: int,
    min_significance: float,
    separation: float,
    smoothing: float,
) -> tuple[Float, Float]:
    """Arcs of each profile, strongest first, and what the whole profile tells.

    Parameters
    ----------
    profiles, variance : (n, m) float64
        Intensity over m bins from 0 to π, NaN where it is not known, and its variance by counting.
    most, min_significance, separation, smoothing
        As of the operation; angles in rad.

    Returns
    -------
    arcs : (n, most, 5) float64
        Angle (rad), its sigma, share of the intensity above background, significance, full width
        at half maximum (rad); NaN where there is none.
    rings : (n, 3) float64
        Order parameter S, Herman's, mean intensity.
    """
    arcs = np.full((len(profiles), most, _FIELDS), np.nan)
    rings = np.full((len(profiles), 3), np.nan)
    size = profiles.shape[1]
    phi = (np.arange(size) + 0.5) * np.pi / size
    width = smoothing * size / np.pi
    for k, (row, noise) in enumerate(zip(profiles, variance, strict=True)):
        known = np.isfinite(row) & np.isfinite(noise)
        if known.mean() < 0.5:
            continue
        filled = row if known.all() else np.interp(phi, phi[known], row[known], period=np.pi)
        rings[k, 2] = filled.mean()
        smooth, own = _smoothed(filled, width), np.where(known, noise, 0.0)
        # Noise of the smoothed profile: a Gaussian averages over 2 √π sigma bins.
        sigma = float(np.sqrt(own.mean() / max(2 * np.sqrt(np.pi) * width, 1.0)))
        peaks = _clear(smooth, _peaks(smooth, max(1, round(separation * size / np.pi))), sigma)
        if not len(peaks):
            continue
        level = _background(filled, peaks)
        found = _arcs(filled - level, smooth - level, own, phi, peaks)
        found = found[found[:, 3] >= min_significance][:most]
        if len(found):
            arcs[k, : len(found)] = found
            rings[k, :2] = _orders(filled - level, phi, float(found[0, 0]))
    return arcs, rings


def _background(profile: Float, peaks: NDArray[np.intp]) -> float:
    """Mean of the quarter of the bins that is farthest from all arcs.

    Not of the lowest bins: among these are those that noise has made low.
    """
    size = len(profile)
    apart = np.abs(np.arange(size)[:, None] - peaks[None])
    distance = np.minimum(apart, size - apart).min(axis=1)
    farthest = np.argsort(-distance, kind="stable")[: max(1, size // 4)]
    return float(profile[farthest].mean())


def _clear(smooth: Float, peaks: NDArray[np.intp], sigma: float) -> NDArray[np.intp]:
    """Peaks between which there is more of a valley than noise makes."""
    while len(peaks) > 1:
        depths = [
            min(smooth[peak], smooth[other]) - smooth[_between(peak, other, len(smooth))].min()
            for peak, other in zip(peaks, np.roll(peaks, -1), strict=True)
        ]
        k = int(np.argmin(depths))
        if depths[k] > _CLEAR * sigma:
            break
        other = (k + 1) % len(peaks)
        peaks = np.delete(peaks, k if smooth[peaks[k]] < smooth[peaks[other]] else other)
    return peaks


def _between(first: int, last: int, size: int) -> NDArray[np.intp]:
    """Bins from one to another, around the half circle."""
    return np.arange(first, first + (last - first) % size + 1) % size


def _arcs(above: Float, smooth: Float, noise: Float, phi: Float, peaks: NDArray[np.intp]) -> Float:
    """All arcs of one profile by their intensity, (a, 5)."""
    size, step = len(phi), np.pi / len(phi)
    whole = float(above.sum())
    level_variance = float(noise.mean()) / max(1, size // 4)
    edges = _valleys(smooth, peaks)
    rows = []
    for peak, (low, high) in zip(peaks, edges, strict=True):
        width = _width(smooth, int(peak), int(low), int(high))
        # Beyond that there is nothing of a bell, only the noise of the background.
        reach = max(int(np.ceil(_REACH * width)), 2)
        place = np.arange(max(low, peak - reach), min(high, peak + reach) + 1)
        index = place % size
        light, own = above[index], noise[index]
        total = float(light.sum())
        turn = np.exp(2j * (phi[index] - phi[peak]))
        sum_ = complex((light * turn).sum())
        offset = np.angle(sum_) / 2
        across = np.sin(2 * (phi[index] - phi[peak] - offset))
        spread = float(np.sqrt((own * across**2).sum()))
        sigma = spread / (2 * abs(sum_)) if abs(sum_) > 0 else np.nan
        bell = 0.5 ** ((place - peak) / max(width / 2, 1.0)) ** 2
        significant = _over_noise(light, own, bell, level_variance)
        share = min(max(total / whole, 0.0), 1.0) if whole > 0 else 0.0
        angle = float((phi[peak] + offset) % np.pi)
        rows.append((angle, sigma, share, significant, width * step, total))
    table = np.array(rows)
    return table[np.argsort(-table[:, 5], kind="stable")][:, :_FIELDS]


def _over_noise(light: Float, noise: Float, bell: Float, level_variance: float) -> float:
    """Intensity by a matched filter over its uncertainty, that of the background included."""
    total = float((light * bell).sum())
    sigma = float(np.sqrt((noise * bell**2).sum() + level_variance * bell.sum() ** 2))
    return total / sigma if sigma > 0 else (np.inf if total > 0 else 0.0)


def _smoothed(values: Float, sigma_bins: float) -> Float:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(values, sigma_bins, mode="wrap") if sigma_bins > 0 else values


def _peaks(smooth: Float, reach: int) -> NDArray[np.intp]:
    """Bins that are the largest within `reach` to both sides, around the half circle."""
    from scipy.ndimage import maximum_filter1d

    reach = min(reach, (len(smooth) - 1) // 2)
    largest = maximum_filter1d(smooth, 2 * reach + 1, mode="wrap")
    # A plateau is no maximum: a flat profile has no direction.
    lower = smooth > np.minimum(np.roll(smooth, 1), np.roll(smooth, -1))
    found = np.flatnonzero((smooth >= largest) & lower & (smooth > 0))
    apart = np.diff(found, prepend=found[-1] - len(smooth) if len(found) else 0) > reach
    return found[apart]


def _valleys(smooth: Float, peaks: NDArray[np.intp]) -> NDArray[np.intp]:
    """First and last bin of each peak, as far as the minima between it and its neighbours."""
    size = len(smooth)
    if len(peaks) == 1:
        half = size // 2
        return np.array([[peaks[0] - half, peaks[0] - half + size - 1]])
    around = np.append(peaks, peaks[0] + size)
    lows = [a + int(np.argmin(smooth[np.arange(a, b + 1) % size]))
            for a, b in pairwise(around)]  # fmt: skip
    return np.array([[lows[k - 1] + 1 - (size if k == 0 else 0), lows[k]]
                     for k in range(len(peaks))])  # fmt: skip


def _width(smooth: Float, peak: int, low: int, high: int) -> float:
    """Bins between the places where the profile falls to half of its maximum."""
    size, half = len(smooth), smooth[peak] / 2
    width = 0.0
    for step, end in ((1, high), (-1, low)):
        at = peak
        while at != end and smooth[(at + step) % size] > half:
            at += step
        inner, outer = smooth[at % size], smooth[(at + step) % size]
        share = (inner - half) / (inner - outer) if inner > outer else 0.5
        width += abs(at - peak) + min(max(float(share), 0.0), 1.0)
    return width


def _orders(above: Float, phi: Float, axis: float) -> tuple[float, float]:
    """S and Herman's order parameter of the intensity above background about an axis."""
    chi = phi - axis
    # Not clipped at zero: noise around the background must not count as disorder.
    total = float(above.sum())
    ring = above * np.abs(np.sin(chi))
    fibre = float(ring.sum())
    s = float((above * np.cos(2 * chi)).sum()) / total if total > 0 else np.nan
    square = float((ring * np.cos(chi) ** 2).sum()) / fibre if fibre > 0 else np.nan
    return min(max(s, -1.0), 1.0), min(max((3 * square - 1) / 2, -0.5), 1.0)
