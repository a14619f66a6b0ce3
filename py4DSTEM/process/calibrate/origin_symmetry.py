"""The origin as the centre of a symmetry: inversion (Friedel pairs), or rotation (rings)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import ShapeError, SolveError
from py4DSTEM.process.calibrate.origin_disk import (
    EMPTY,
    FAINT,
    LOST,
    OriginOperation,
    expected_origins,
    kept_pixels,
)
from py4DSTEM.process.calibrate.origin_track import Samples, Track, smooth, straight_track
from py4DSTEM.stream.operation import Parts
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["FriedelOrigin", "RadialOrigin", "friedel_centers", "radial_centers", "symmetry_track"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
Bool = NDArray[np.bool_]
Pair = tuple[float, float]

_AT_ONCE = 1 << 19
"""Pixels of the patterns whose Fourier transforms are held at the same time, in each worker."""
LEAST_SIDE = 4
"""Pixels along the shorter edge below which a pattern has no symmetry to speak of."""
_BLOCKS = 10
"""Blocks along the shorter edge of the detector, for the uncertainty: about a disk each."""
_SMOOTH_PX = 0.7
"""Smoothing of the pattern by √2 times less: noise has no say where disks and rings have none."""
_LEAST_OVERLAP = 0.15
"""Share of the known pixels that must have a known counterpart."""


class Centers(NamedTuple):
    """Centres and sigma, (n, 2) float64, NaN with a reason (n,) uint8 where there is none."""

    center: Float
    sigma: Float
    reason: NDArray[np.uint8]


Finder = Callable[[NDArray[Any], Float, float, Bool], Centers]


def _in_parts(
    find: Finder, frames: NDArray[Any], expected: Float, search_px: float, keep: Bool
) -> Centers:
    """A few patterns at a time: what is made of each is many times as large."""
    if min(keep.shape) < LEAST_SIDE:
        raise ShapeError(
            f"patterns of {keep.shape} pixels are too small for a centre of symmetry: {LEAST_SIDE} "
            f'x {LEAST_SIDE} is the least; for small patterns use method="com"'
        )
    count = min(32, max(1, _AT_ONCE // keep.size))
    parts = [slice(k, k + count) for k in range(0, len(frames), count)]
    found = [find(frames[s], expected[s], search_px, keep) for s in parts]
    return Centers(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


# ---- inversion -----------------------------------------------------------------------------------
def friedel_centers(frames: NDArray[Any], expected: Float, search_px: float, keep: Bool) -> Centers:
    """Centre of inversion symmetry of each pattern, from its known pixels only.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
    expected : (n, 2) float64
    search_px : float
        Farthest from there.
    keep : (Qx, Qy) bool
        Pixels that count; a beam stop does not.

    Notes
    -----
    With ``f = √I`` (noise the same everywhere) and the known pixels m, the correlation of the
    pattern with its inversion about ``s / 2`` is the sum over pixels known on both sides,
    ``ncc(s) = (A − B²/N) / (C − B²/N)``, where ``A = F⁻¹[F²]``, ``B = F⁻¹[F M]``,
    ``C = F⁻¹[F₂ M]`` and ``N = F⁻¹[M²]`` with the transforms of f, f² and m: the masked
    normalised correlation (doi:10.1109/TIP.2011.2181402), so that the mask does not bias it.  Its
    maximum is found on the Fourier series itself, between pixels.  The covariance of the centre is
    ``H⁻¹ (Σ s sᵀ) H⁻¹``, H being the curvature ``−∂²A/∂s²`` and s what each block of the detector
    adds to the gradient, so that disks unlike their counterparts count as noise.  An asymmetry
    that all disks share, such as that of a tilted crystal, is beyond this.
    """
    return _in_parts(_friedel, frames, expected, search_px, keep)


def _friedel(frames: NDArray[Any], expected: Float, search_px: float, keep: Bool) -> Centers:
    known = np.isfinite(frames) & keep
    roots = np.sqrt(np.where(known, np.maximum(frames, 0), 0).astype(np.float64))
    spectra = _Spectra.of(roots, known, expected, search_px)
    whole = spectra.best_whole(expected, search_px)
    place, curvature = spectra.refined(whole)
    scores = _block_scores(known, spectra, place)
    inverse = _inverse_2x2(curvature)
    variance = (np.einsum("nij,nbj->nbi", inverse, scores) ** 2).sum(axis=1)
    if frames.dtype.kind in "bui":  # the variance of the root of a count is 1/4
        variance = np.maximum(variance, np.einsum("nkk->nk", inverse) / 4)
    sigma = np.sqrt(variance)
    sigma[~(sigma > 0)] = np.nan
    center = place / 2
    reason = np.zeros(len(frames), np.uint8)
    # A centre that is not known to the region searched is none.
    reason[~(sigma < search_px).all(1)] = FAINT
    reason[np.hypot(*(center - expected).T) > search_px + 0.5] = LOST
    reason[roots.max(axis=(1, 2), initial=0.0) <= 0] = EMPTY
    bad = (reason > 0)[:, None]
    return Centers(np.where(bad, np.nan, center), np.where(bad, np.nan, sigma), reason)


class _Sums(NamedTuple):
    """Over pixels p for which p and s − p are known: Σ f f', Σ f, Σ f², and their number."""

    product: Float
    sum: Float
    square: Float
    number: Float

    def correlation(self) -> Float:
        """From −1 to 1; −1 where too few pixels have a counterpart."""
        most = self.number.max(axis=(1, 2), keepdims=True)
        enough = self.number > np.maximum(_LEAST_OVERLAP * most, 8)
        mean2 = self.sum**2 / np.where(enough, self.number, 1.0)
        spread = self.square - mean2
        good = enough & (spread > 1e-12 * np.abs(self.square))
        worst = np.full_like(mean2, -1.0)
        return np.asarray(np.divide(self.product - mean2, spread, out=worst, where=good))


@dataclass(frozen=True, eq=False)
class _Spectra:
    """Fourier series of the four sums of n patterns, (4, n, Lx, Ly // 2 + 1).

    `images` (2, n, Lx, Ly // 2 + 1) are those of f and of the known pixels.
    """

    series: Complex
    images: Complex
    size: tuple[int, int]

    @classmethod
    def of(cls, roots: Float, known: Bool, expected: Float, search_px: float) -> _Spectra:
        from scipy import fft  # slow to import

        low = np.floor(2 * (expected.min(axis=0) - search_px)) - 2
        high = np.ceil(2 * (expected.max(axis=0) + search_px)) + 2
        # Large enough that within the search no pair of pixels comes in from the other side.
        size = [
            fft.next_fast_len(int(max(b + 1, 2 * n - 1 - a, n)), real=True)
            for a, b, n in zip(low, high, roots.shape[1:], strict=True)
        ]
        f, m, f2 = (
            fft.rfft2(image, s=size, axes=(-2, -1))
            for image in (roots, known.astype(np.float64), roots**2)
        )
        kx, ky = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])
        smooth = np.exp(-((np.pi * _SMOOTH_PX) ** 2) * (kx**2 + ky**2))
        series = np.stack([f * f, f * m, f2 * m, m * m]) * smooth**2
        return cls(series, np.stack([f, m]) * smooth, (size[0], size[1]))

    def best_whole(self, expected: Float, search_px: float) -> Float:
        """The whole-numbered s of the highest correlation, (n, 2)."""
        from scipy import fft  # slow to import

        maps = _Sums(*fft.irfft2(self.series, s=self.size, axes=(-2, -1)))
        ncc = maps.correlation()
        s = [np.arange(n, dtype=np.float64) for n in self.size]
        far = (
            np.hypot(
                s[0][None, :, None] / 2 - expected[:, 0, None, None],
                s[1][None, None, :] / 2 - expected[:, 1, None, None],
            )
            > search_px
        )
        flat = np.where(far, -2.0, ncc).reshape(len(expected), -1).argmax(axis=1)
        return np.stack(np.unravel_index(flat, self.size), axis=-1).astype(np.float64)

    def around(self, place: Float, step: float) -> _Sums:
        """The sums on 3 × 3 points about `place` (n, 2), each (n, 3, 3)."""
        waves = []
        for k, size in enumerate(self.size):
            frequency = (np.fft.fftfreq, np.fft.rfftfreq)[k](size)
            s = place[:, k, None] + step * np.array([-1.0, 0.0, 1.0])
            waves.append(np.exp(2j * np.pi * s[:, :, None] * frequency))
        # Every frequency of the half spectrum stands for two, but for the first (and the last).
        twice = np.full(self.series.shape[3], 2.0)
        twice[0] = 1.0
        if self.size[1] % 2 == 0:
            twice[-1] = 1.0
        columns = np.swapaxes(waves[1] * twice, 1, 2)
        values = (waves[0] @ self.series @ columns).real / math.prod(self.size)
        return _Sums(*values)

    def refined(self, start: Float) -> tuple[Float, Float]:
        """The maximum between whole numbers, and −∂²A/∂s² there (n, 2, 2)."""
        place: Any = start
        for step in _STEPS:
            near = self.around(place, step)
            gradient, hessian = _quadratic(near.correlation(), step)
            move = _newton(gradient, hessian, step)
            place = np.clip(place + move, start - 1.5, start + 1.5)
        near = self.around(place, _STEPS[-1])
        mean2 = near.sum**2 / np.maximum(near.number, 1.0)
        return place, -_quadratic(near.product - mean2, _STEPS[-1])[1]

    def directly(self, Q_shape: tuple[int, ...]) -> tuple[Float, Float]:
        """The pattern and its known pixels, smoothed, each (n, Qx, Qy)."""
        return self._images(self.images, Q_shape)

    def inverted(self, place: Float, Q_shape: tuple[int, ...]) -> tuple[Float, Float]:
        """The same, inverted about ``place / 2``."""
        kx, ky = np.fft.fftfreq(self.size[0]), np.fft.rfftfreq(self.size[1])
        phase = place[:, 0, None, None] * kx[:, None] + place[:, 1, None, None] * ky
        return self._images(np.conj(self.images) * np.exp(-2j * np.pi * phase), Q_shape)

    def _images(self, spectra: Complex, Q_shape: tuple[int, ...]) -> tuple[Float, Float]:
        from scipy import fft  # slow to import

        whole = fft.irfft2(spectra, s=self.size, axes=(-2, -1))
        cut = whole[:, :, : Q_shape[0], : Q_shape[1]]
        return cut[0], cut[1]


def _block_scores(known: Bool, spectra: _Spectra, place: Float) -> Float:
    """What each block of pixels, on one side of the centre, adds to the gradient: (n, blocks, 2).

    Pixels of one disk that differ from their counterparts do so together: blocks are independent,
    pixels are not.
    """
    nx, ny = known.shape[1:]
    roots, _ = spectra.directly((nx, ny))
    mirror, counterpart = spectra.inverted(place, (nx, ny))
    both = known & (counterpart > 0.9)
    both &= np.arange(nx)[None, :, None] > place[:, 0, None, None] / 2
    gradient = [np.where(both, g, 0.0) for g in np.gradient((roots + mirror) / 2, axis=(1, 2))]
    edge = max(4, round(min(nx, ny) / _BLOCKS))
    across = -(-ny // edge)
    block = (np.arange(nx) // edge)[:, None] * across + (np.arange(ny) // edge)
    labels, size = np.broadcast_to(block, roots.shape), int(block[-1, -1]) + 1
    scores = np.stack([_by_label(labels, (roots - mirror) * g, size) for g in gradient], axis=-1)
    weight = _by_label(labels, gradient[0] ** 2 + gradient[1] ** 2, size)
    # What a block has itself pulled the centre towards it is missing in its residual.
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    corrected: Float = scores / np.sqrt(1 - np.minimum(share, 0.9))[..., None]
    return corrected


_STEPS = (1.0, 0.5, 0.5, 0.3)


def _quadratic(values: Float, step: float) -> tuple[Float, Float]:
    """Gradient (n, 2) and second derivatives (n, 2, 2) in the middle of (n, 3, 3) values."""
    v = values
    gradient = np.stack([v[:, 2, 1] - v[:, 0, 1], v[:, 1, 2] - v[:, 1, 0]], axis=-1) / (2 * step)
    xx = v[:, 2, 1] - 2 * v[:, 1, 1] + v[:, 0, 1]
    yy = v[:, 1, 2] - 2 * v[:, 1, 1] + v[:, 1, 0]
    xy = (v[:, 2, 2] - v[:, 2, 0] - v[:, 0, 2] + v[:, 0, 0]) / 4
    return gradient, _symmetric(xx, xy, yy) / step**2


def _symmetric(xx: Float, xy: Float, yy: Float) -> Float:
    """Matrices (n, 2, 2) of their elements (n,)."""
    return np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)


def _inverse_2x2(matrix: Float) -> Float:
    """Inverse of each symmetric, positive matrix (n, 2, 2); NaN where it is not."""
    a, b, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 1]
    determinant = a * d - b**2
    good = (determinant > 1e-12 * np.abs(a * d)) & (a > 0)
    scale = np.divide(1.0, determinant, out=np.full_like(a, np.nan), where=good)
    return _symmetric(d, -b, a) * scale[:, None, None]


def _newton(gradient: Float, hessian: Float, step: float) -> Float:
    inverse = np.nan_to_num(_inverse_2x2(-hessian))
    return np.asarray(np.clip(np.einsum("nij,nj->ni", inverse, gradient), -step, step))


# ---- rotation ------------------------------------------------------------------------------------
def radial_centers(frames: NDArray[Any], expected: Float, search_px: float, keep: Bool) -> Centers:
    """Centre about which the intensity of rings varies least, for each pattern.

    Parameters as for `friedel_centers`.

    Notes
    -----
    Least squares of ``I(p) − m(|p − c|)``, m being the mean of each ring and its weight the
    inverse of the variance in it, so that speckle counts as the noise that it is.  The covariance
    is that of the scores of 24 sectors (a sandwich): speckles within a sector may be correlated.
    """
    return _in_parts(_radial, frames, expected, search_px, keep)


_RADIAL_ROUNDS = 6
_SECTORS = 24
_LEAST_RING = 20
"""Pixels of a ring; where it bends within a pixel, a slope says little."""
_QUIET = 1e-6
"""Least variance of a ring, as a share of the largest."""


def _radial(frames: NDArray[Any], expected: Float, search_px: float, keep: Bool) -> Centers:
    known = np.isfinite(frames) & keep
    values = np.where(known, frames, 0).astype(np.float64)
    center = np.array(expected)
    for _ in range(_RADIAL_ROUNDS):
        score, normal, _ = _radial_score(values, known, center)
        move = np.einsum("nij,nj->ni", np.nan_to_num(_inverse_2x2(normal)), score)
        center = np.clip(center + np.clip(move, -2.0, 2.0), expected - search_px - 1,
                         expected + search_px + 1)  # fmt: skip
    _, normal, sectors = _radial_score(values, known, center)
    inverse = _inverse_2x2(normal)
    spread = np.einsum("nsi,nsj->nij", sectors, sectors)
    variance = np.einsum("nij,njk,nki->ni", inverse, spread, inverse)
    sigma = np.sqrt(np.where(variance > 0, variance, np.nan))
    reason = np.zeros(len(frames), np.uint8)
    reason[~(sigma < search_px).all(1)] = FAINT
    reason[np.hypot(*(center - expected).T) > search_px] = LOST
    reason[values.max(axis=(1, 2), initial=0.0) <= 0] = EMPTY
    bad = (reason > 0)[:, None]
    return Centers(np.where(bad, np.nan, center), np.where(bad, np.nan, sigma), reason)


def _radial_score(values: Float, known: Bool, center: Float) -> tuple[Float, Float, Float]:
    """Gradient (n, 2), normal matrix (n, 2, 2) and gradient by sector (n, 24, 2)."""
    nx, ny = values.shape[1:]
    dx = np.arange(nx)[None, :, None] - center[:, 0, None, None]
    dy = np.arange(ny)[None, None, :] - center[:, 1, None, None]
    r = np.hypot(dx, dy)
    left, slope, weight = _ring_residuals(values, known, r)
    outward = -slope / np.maximum(r, 0.5)
    gx, gy = outward * dx, outward * dy
    angle = np.arctan2(dy, dx) * (_SECTORS / (2 * np.pi))
    sector = (angle + _SECTORS).astype(np.int64) % _SECTORS
    score = np.stack([_by_label(sector, g * weight * left, _SECTORS) for g in (gx, gy)], axis=-1)
    xx, xy, yy = ((weight * a * b).sum(axis=(1, 2)) for a, b in ((gx, gx), (gx, gy), (gy, gy)))
    return score.sum(axis=1), _symmetric(xx, xy, yy), score


def _ring_residuals(values: Float, known: Bool, r: Float) -> tuple[Float, Float, Float]:
    """``I − m(r)``, ``m'(r)`` and the inverse variance of the ring, for every pixel."""
    bins = int(r.max()) + 2
    ring = np.rint(r).astype(np.int64)
    count = _by_label(ring, known.astype(np.float64), bins)
    mean = np.divide(
        _by_label(ring, values, bins), count, out=np.zeros_like(count), where=count > 0
    )
    slope = np.gradient(mean, axis=1)
    # A slope needs both neighbouring rings.
    slope[:, 1:-1] *= (count[:, :-2] > 0) & (count[:, 2:] > 0) & (count[:, 1:-1] >= _LEAST_RING)
    slope[:, [0, -1]] = 0.0
    row = np.arange(len(r))[:, None, None]
    slopes = slope[row, ring]
    # Within a ring of one pixel's width the mean follows the slope.
    left = np.where(known, values - mean[row, ring] - slopes * (r - ring), 0.0)
    variance = _by_label(ring, left**2, bins) / np.maximum(count - 1, 1.0)
    least = _QUIET * variance.max(axis=1, keepdims=True, initial=0.0) + np.finfo(float).tiny
    weight = np.where(known, 1 / np.maximum(variance, least)[row, ring], 0.0)
    return left, slopes, weight


def _by_label(labels: NDArray[np.int64], values: Float, size: int) -> Float:
    """Sum over the pixels of each label in each pattern, (n, size)."""
    n = len(values)
    index = (labels + size * np.arange(n)[:, None, None]).ravel()
    sums: Float = np.bincount(index, values.ravel(), n * size).reshape(n, size).astype(np.float64)
    return sums


# ---- the passes ----------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Plan:
    expected: Float
    keep: Bool


class _SymmetryOrigin(OriginOperation):
    """What both have in common."""

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        return [cls(center=(8.7, 10.4), search_px=3.0)]

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        expected = expected_origins(cube.R_shape, self.center, self.descan)
        return _Plan(expected, kept_pixels(self.mask, cube.Q_shape, cube.calibration))

    def _found(self, find: Finder, plan: _Plan, tile: Tile) -> Parts:
        expected = tile.local(plan.expected)
        found = find(tile.frames, expected, self.search_px, plan.keep)
        origin = np.concatenate([found.center, found.sigma], axis=1)
        return {"origin": origin, "reason": found.reason}


class FriedelOrigin(_SymmetryOrigin, kind="friedel-origin", version=1):
    """Centre of inversion symmetry of each pattern, over the pixels known on both sides."""

    method: ClassVar[str] = "friedel"
    cites: ClassVar[tuple[str, ...]] = ("10.1109/TIP.2011.2181402",)

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        return self._found(friedel_centers, plan, tile)


class RadialOrigin(_SymmetryOrigin, kind="radial-origin", version=1):
    """Centre about which the intensity of rings varies least, in each pattern."""

    method: ClassVar[str] = "radial"

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        return self._found(radial_centers, plan, tile)


def symmetry_track(
    samples: Samples,
    R_shape: tuple[int, int],
    keep: Bool,
    method: str,
    center: Pair | None,
    search_px: float | None,
) -> Track:
    """Follow the centre of symmetry through the samples; begin with their mean.

    Raises
    ------
    SolveError
        There is no centre of symmetry.
    """
    Q_shape = samples.frames.shape[1:]
    find = friedel_centers if method == "friedel" else radial_centers
    if center is None:
        middle = np.array([[(n - 1) / 2 for n in Q_shape]])
        mean = friedel_centers(samples.mean(keep)[None], middle, 0.3 * min(Q_shape), keep)
        if mean.reason[0]:
            raise _no_symmetry(method)
        center = float(mean.center[0, 0]), float(mean.center[0, 1])
    search = search_px or max(4.0, 0.08 * min(Q_shape))
    expected = np.tile(np.array(center), (len(samples.frames), 1))
    found = find(samples.frames, expected, search, keep)
    if found.reason.all():
        raise _no_symmetry(method)
    track = straight_track(smooth(samples, found.center, R_shape), 1.5, search)
    return Track(track.center, track.descan, search_px or track.search_px)


def _no_symmetry(method: str) -> SolveError:
    return SolveError(
        f'method="{method}" finds no centre in the patterns: give center=(qx, qy), search_px= or '
        "the mask of a beam stop"
    )
