"""The reciprocal lattice vectors that the peaks of a whole scan have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.parameters import numbers
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import ParameterError, SolveError
from py4DSTEM.io.store.schema import register_result

__all__ = ["Basis", "choose_basis", "lattice_origins", "peak_amplitudes"]

Float = NDArray[np.float64]
Pair = Sequence[float]

POSITIONS = 96
"""Most scan positions, evenly spaced, that are looked at; at least a quarter of it."""
MOST_PAIRS = 60_000
"""Pairs of peaks, at all positions together, of which there should not be more."""
MOST_PEAKS = 50
"""The peaks of a position that are looked at: those nearest to the origin."""
BINS = 20
"""Bins of the histogram of differences per distance between neighbouring peaks."""
REACH = 6
"""Longest lattice vector that is looked for, in distances between neighbouring peaks."""
CANDIDATES = 14
"""Shortest common differences that are tried as lattice vectors."""
MARGIN = 0.02
"""A finer lattice must explain so much more than a coarser one to be preferred."""
LEAST_PX = 1.0
"""Shortest lattice vector that pixels can tell."""
POOR, SINGLE = 0.5, 16
"""Score below which the lattices of so many single positions are tried instead."""


@dataclass(frozen=True, eq=False)
class Basis:
    """Two reciprocal lattice vectors for a whole scan.

    Parameters
    ----------
    vectors : (2, 2) float64
        g1 and g2 as rows (x, y), calibrated axes, in `unit`.
    sigma : (2, 2) float64
        One-sigma uncertainties of the mean over the scan.
    explained : float
        Share of the peaks, weighted with the root of their intensity, that lie on the lattice.
    residual : float
        Their rms distance from it, in `unit`: noise and the variation over the scan.
    unit : str
    report : mapping
        How the choice was made.
    """

    vectors: Float
    sigma: Float
    explained: float
    residual: float
    unit: str = "px"
    calibration: Calibration = field(default_factory=Calibration)
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def g1(self) -> Float:
        """First lattice vector (2,)."""
        first: Float = self.vectors[0]
        return first

    @property
    def g2(self) -> Float:
        """Second lattice vector (2,)."""
        second: Float = self.vectors[1]
        return second


register_result("basis", Basis)


def choose_basis(
    peaks: PointTable,
    *,
    g1: Pair | None = None,
    g2: Pair | None = None,
    near_px: float | None = None,
) -> Basis:
    """Choose g1 and g2 from the peaks of a whole scan.

    Parameters
    ----------
    peaks : BraggPeaks
        Any table with ``qx, qy`` in detector pixels; ``intensity`` where there is one.
    g1, g2 : (float, float), optional
        Lattice vectors (x, y) in ``peaks.vector_unit``, calibrated axes, roughly: where a user
        clicked in the Bragg vector map, relative to its origin.  One that is not given is found.
    near_px : float, optional
        A given vector moves to the centre of the peaks within this distance, where there are any;
        None: a quarter of its length.

    Returns
    -------
    Basis

    Raises
    ------
    SolveError
        The peaks have no two lattice vectors in common (too few, or all on one line).
    ParameterError
        The table has no positions, or g1 and g2 are parallel, zero or not finite.

    Notes
    -----
    The differences between the peaks of each pattern, pooled over evenly spaced positions, form
    clusters at lattice vectors.  Every pair of the shortest clusters, reduced (Gauss), spans a
    lattice; it explains the share s of the peaks, weighted with the root of their intensity, that
    lie within a fixed distance d of its points.  A lattice of cell area A would explain
    ``p = π d² / A`` by chance, so that the score is ``(s − p) / (1 − p)``; of the lattices within
    0.02 of the best the one with the largest cell is taken.  Stray peaks therefore do not make the
    lattice finer, while weak reflections that are really there do, and reflections that are missing
    throughout do not matter.  Where the best score is below 0.5 (the orientation varies over the
    scan) the best lattice of a single position is taken instead.  The vectors are then refined by
    least squares from the inside outwards.

    The result is the shortest pair; of ±its two vectors the one closest to +x is g1, and g2 is at
    most 180° from it, turning from x to y: ``det (g1, g2) > 0``.  Vectors that were given keep
    their order and sign.  Without a calibrated origin the peak nearest to where the brightest peaks
    usually are counts as origin: an error by a lattice vector changes nothing.

    Examples
    --------
    >>> import py4DSTEM
    >>> scan = py4DSTEM.simulate.strained_lattice((4, 4), strain={}, seed=1)
    >>> basis = choose_basis(scan.truth.peaks())
    >>> basis.vectors.round(4).tolist(), basis.unit
    ([[0.24, 0.05], [-0.06, 0.27]], 'A^-1')
    """
    if not isinstance(peaks, PointTable):
        raise ParameterError(
            f"a lattice is found in a table of Bragg peaks, not in {type(peaks).__name__}"
        )
    unit = peaks.vector_unit
    to_px = peaks.calibration.Q_matrix("px") @ np.linalg.inv(peaks.calibration.Q_matrix(unit))
    if near_px is not None and not numbers("near_px", near_px, 1)[0] > 0:
        raise ParameterError(f"near_px must be positive, not {near_px!r}")
    given = [_given(name, g, to_px) for name, g in (("g1", g1), ("g2", g2))]
    cloud, vectors, report = _chosen(peaks, given, near_px)
    vectors, sigma, explained, residual = _refined(cloud, vectors)
    if not np.linalg.norm(vectors, axis=1).min() >= LEAST_PX:
        raise ParameterError(
            f"g1, g2 = {vectors.round(3).tolist()} px: lattice vectors below {LEAST_PX:g} px fit "
            f"any peaks; g1 and g2 are given in {unit}, and a disk must not be found twice"
        )
    if g1 is None and g2 is None:
        turn = _canonical(vectors)
        vectors, sigma = turn @ vectors, np.sqrt(turn**2 @ sigma**2)
    from_px = np.linalg.inv(to_px)
    return Basis(
        vectors @ from_px.T,
        np.sqrt(sigma**2 @ (from_px**2).T),
        explained,
        residual * math.sqrt(abs(np.linalg.det(from_px))),
        unit,
        peaks.calibration,
        report,
    )


# ---- peaks of some positions ---------------------------------------------------------------------
def peak_amplitudes(points: NDArray[Any]) -> Float:
    """Root of the intensity of points (n,), 0 where it is not known; 1 without that field."""
    if "intensity" not in (points.dtype.names or ()):
        return np.ones(len(points))
    intensity = np.asarray(points["intensity"], np.float64)
    return np.sqrt(np.where(np.isfinite(intensity), np.maximum(intensity, 0.0), 0.0))


def lattice_origins(peaks: PointTable) -> tuple[Float, str]:
    """Raw origin of every position, (P, 2) in pixels, and where it comes from.

    Calibrated ones where there are any.  Elsewhere the peak that is nearest to the mean of these,
    or to the median of the brightest peak of each position: the direct beam or another point of
    the lattice, which serves as well.

    Raises
    ------
    CalibrationMissing
        There is a calibrated origin, but it is nowhere finite.
    """
    count = len(peaks.offsets) - 1
    known = peaks.calibration.origin_px is not None
    if known:
        origins = np.array(peaks.calibration.origins(peaks.shape)).reshape(-1, 2)
        if np.isfinite(origins).all():
            return origins, "the calibration"
    position = np.repeat(np.arange(count), np.diff(peaks.offsets))
    places = peaks.positions_px
    if known:
        center = np.array(peaks.calibration.mean_origin_px)
    else:
        origins = np.full((count, 2), np.nan)
        brightest = places[_least(position, -peak_amplitudes(peaks.points))]
        brightest = brightest[np.isfinite(brightest).all(1)]
        center = np.median(brightest, axis=0) if len(brightest) else np.zeros(2)
    lost = np.asarray(~np.isfinite(origins).all(axis=1))
    if lost.any():
        distance = np.linalg.norm(places - center, axis=1)
        nearest = _least(position, distance)
        nearest = nearest[lost[position[nearest]] & np.isfinite(distance[nearest])]
        origins[lost] = center
        origins[position[nearest]] = places[nearest]
    return origins, "the calibration" if known else "the brightest peaks"


def _least(position: NDArray[np.int64], score: Float) -> NDArray[np.int64]:
    """Row of the smallest score of every position that has rows."""
    order = np.lexsort((score, position))
    first = np.flatnonzero(np.diff(position[order], prepend=-1))
    rows: NDArray[np.int64] = order[first]
    return rows


@dataclass(frozen=True, eq=False)
class _Cloud:
    """Peaks of some positions, (S, m, 2) in undistorted pixels, padded with NaN.

    `anchored` are those relative to the peak nearest the origin, itself left out, flat (n, 2), and
    `weight` (n,) their amplitudes.  `spacing` is the usual distance to the nearest neighbour.
    """

    vectors: Float
    anchored: Float
    weight: Float
    spacing: float

    @classmethod
    def of(cls, peaks: PointTable, chosen: NDArray[np.int64]) -> _Cloud:
        """From the positions `chosen`."""
        vectors, weight = _padded(peaks, chosen)
        gap = vectors[:, :, None] - vectors[:, None]
        distance = np.hypot(gap[..., 0], gap[..., 1])
        index = np.arange(distance.shape[1])
        distance[:, index, index] = np.nan
        nearest = np.nanmin(np.where(distance > 0, distance, np.inf), axis=2)
        nearest = nearest[np.isfinite(nearest)]
        if not len(nearest):
            raise SolveError("no scan position has two Bragg peaks at different places")
        radius = np.hypot(vectors[..., 0], vectors[..., 1])
        anchor = np.argmin(np.where(np.isfinite(radius), radius, np.inf), axis=1)
        rows = np.arange(len(vectors))
        relative = vectors - vectors[rows, anchor][:, None]
        keep = np.isfinite(relative).all(-1)
        keep[rows, anchor] = False
        return cls(vectors, relative[keep], weight[keep], float(np.median(nearest)))

    def differences(self) -> Float:
        """Differences between all peaks of each position, one of ±, (n, 2)."""
        first, second = np.triu_indices(self.vectors.shape[1], 1)
        d = (self.vectors[:, first] - self.vectors[:, second]).reshape(-1, 2)
        d = d[np.isfinite(d).all(1)]
        return np.where((d[:, 0] < 0)[:, None], -d, d)

    def snapped(self, g: Float, near_px: float | None) -> Float:
        """The centre of the peaks around `g`, or `g` where there are none."""
        near = 0.25 * float(np.linalg.norm(g)) if near_px is None else near_px
        for _ in range(3):
            close = np.linalg.norm(self.anchored - g, axis=1) <= near
            if not close.any():
                break
            g, near = np.median(self.anchored[close], axis=0), 0.7 * near
        return g


def _some_positions(peaks: PointTable, most: int = POSITIONS) -> NDArray[np.int64]:
    """Positions with at least two peaks, evenly spaced; fewer of them where they have many."""
    enough = np.flatnonzero(np.diff(peaks.offsets) >= 2)
    if not len(enough):
        raise SolveError(
            "no scan position has two Bragg peaks: nothing has a lattice; lower the thresholds "
            "of the disk detection, or check that it found anything"
        )
    usual = min(float(np.diff(peaks.offsets)[enough].mean()), MOST_PEAKS)
    number = min(int(np.clip(MOST_PAIRS / usual**2, POSITIONS / 4, POSITIONS)), most, len(enough))
    some: NDArray[np.int64] = enough[np.linspace(0, len(enough) - 1, number).astype(int)]
    return some


def _padded(peaks: PointTable, chosen: NDArray[np.int64]) -> tuple[Float, Float]:
    origins, _ = lattice_origins(peaks)
    matrix = peaks.calibration.Q_matrix("px")
    vectors = np.full((len(chosen), MOST_PEAKS, 2), np.nan)
    weight = np.zeros((len(chosen), MOST_PEAKS))
    starts, ends = peaks.offsets[chosen], peaks.offsets[chosen + 1]
    rows = [peaks.points[start:end] for start, end in zip(starts, ends, strict=True)]
    part = PointTable.from_lists([rows])
    places = part.positions_px
    for row, p in enumerate(chosen):
        own = slice(part.offsets[row], part.offsets[row + 1])
        v = (places[own] - origins[p]) @ matrix.T
        order = np.argsort(np.hypot(v[:, 0], v[:, 1]), kind="stable")[:MOST_PEAKS]
        vectors[row, : len(order)] = v[order]
        weight[row, : len(order)] = peak_amplitudes(rows[row][order])
    used = np.flatnonzero(np.isfinite(vectors).all(-1).any(0))
    most = max(int(used.max(initial=0)) + 1, 2)
    return vectors[:, :most], weight[:, :most]


# ---- which lattice -------------------------------------------------------------------------------
def _given(name: str, g: Pair | None, to_px: Float) -> Float | None:
    if g is None:
        return None
    vector = np.array(numbers(name, g, 2))
    if not vector.any():
        raise ParameterError(f"{name} must be a vector (x, y), not both 0")
    moved: Float = to_px @ vector
    return moved


def _span(cloud: _Cloud, given: Sequence[Float | None]) -> tuple[Float, dict[str, Any]]:
    """The pair of vectors, given or found, and how."""
    known = [g for g in given if g is not None]
    if len(known) == 2:
        pair = np.array(known)
        if _thin(pair)[()]:
            raise ParameterError("g1 and g2 are parallel: they span no lattice; give another one")
        return pair, {"chosen": "by the user"}
    candidates = _common_differences(cloud)
    if known:
        tried = np.array([(known[0], c) for c in candidates]).reshape(-1, 2, 2)
    else:
        tried = np.array(list(combinations(candidates, 2))).reshape(-1, 2, 2)
    tried = tried[~_thin(tried)]
    pairs = _distinct(tried if known else np.array([_reduced(pair) for pair in tried]))
    if not len(pairs):
        raise SolveError(
            "the Bragg peaks have no two lattice vectors in common: too few of them, or all on one "
            "line; give g1 and g2, or detect weaker disks"
        )
    scores = [_score(cloud, pair) for pair in pairs]
    areas = abs(np.linalg.det(pairs))
    good = [k for k, s in enumerate(scores) if s >= max(scores) - MARGIN]
    best = max(good, key=lambda k: (round(float(areas[k]) / cloud.spacing**2, 2), scores[k]))
    pair = pairs[best]
    if known:
        pair = pair if given[0] is not None else pair[::-1]
        if given[0] is not None and np.linalg.det(pair) < 0:
            pair = pair * np.array([[1.0], [-1.0]])
    report = {
        "chosen": "automatically", "lattices tried": len(pairs), "score": scores[best],
        "best score": max(scores), "distance between neighbours (px)": cloud.spacing,
    }  # fmt: skip
    return pair, report


def _chosen(
    peaks: PointTable, given: Sequence[Float | None], near_px: float | None
) -> tuple[_Cloud, Float, dict[str, Any]]:
    """Peaks, the pair of vectors that suits them best, and how it was chosen."""
    cloud = _Cloud.of(peaks, _some_positions(peaks))
    given = [None if g is None else cloud.snapped(g, near_px) for g in given]
    vectors, report = _span(cloud, given)
    if report.get("score", 1.0) < POOR:
        return _of_one_position(peaks, given, (cloud, vectors, report))
    return cloud, vectors, report


def _of_one_position(
    peaks: PointTable, given: Sequence[Float | None], pooled: tuple[_Cloud, Float, dict[str, Any]]
) -> tuple[_Cloud, Float, dict[str, Any]]:
    """The best lattice of a single position, where all together have none: orientations vary."""
    best, most = pooled, 0.0
    for p in _some_positions(peaks, SINGLE):
        try:
            cloud = _Cloud.of(peaks, np.array([p]))
            pair, report = _span(cloud, given)
        except SolveError:
            continue
        # A lattice through a few peaks proves little: the number of peaks that it explains counts.
        if report["score"] >= POOR and report["score"] * len(cloud.anchored) > most:
            most = report["score"] * len(cloud.anchored)
            best = cloud, pair, {**report, "chosen": "automatically, from one position"}
    return best


def _common_differences(cloud: _Cloud) -> list[Float]:
    """Centres of the clusters of differences, shortest first."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    bin_px, half = cloud.spacing / BINS, REACH * BINS
    d = cloud.differences()
    # x is never negative; some of the other half keeps clusters at x = 0 whole.
    low = np.array([-BINS // 2, -half])
    cell = np.rint(np.concatenate([d, -d[d[:, 0] < BINS / 2 * bin_px]]) / bin_px).astype(int) - low
    shape = (half - int(low[0]), 2 * half + 1)
    cell = cell[((cell >= 0) & (cell < shape)).all(1)]
    flat = np.bincount(cell[:, 0] * shape[1] + cell[:, 1], minlength=math.prod(shape))
    counts = flat.reshape(shape).astype(float)
    smooth = gaussian_filter(counts, BINS / 12)
    top = (smooth == maximum_filter(smooth, BINS // 3)) & (smooth > 0.1 * smooth.max())
    tops = np.argwhere(top)
    d = (tops + low) * bin_px
    length = np.hypot(d[:, 0], d[:, 1])
    half_plane = (d[:, 0] > 0) | ((d[:, 0] == 0) & (d[:, 1] > 0))
    keep = half_plane & (length > 0.3 * cloud.spacing)
    tops = tops[keep][np.argsort(length[keep], kind="stable")][:CANDIDATES]
    return [(_centre(counts, t, BINS // 5) + low) * bin_px for t in tops]


def _centre(counts: Float, top: NDArray[np.int64], reach: int) -> Float:
    """Centre of mass of a histogram around one of its maxima."""
    row, column = top
    i = np.arange(max(row - reach, 0), min(row + reach + 1, counts.shape[0]))
    j = np.arange(max(column - reach, 0), min(column + reach + 1, counts.shape[1]))
    window = counts[np.ix_(i, j)]
    middle: Float = np.array([window.sum(1) @ i, window.sum(0) @ j]) / window.sum()
    return middle


def _thin(pairs: Float) -> NDArray[np.bool_]:
    """Whether pairs (..., 2, 2) are so close to parallel that they span no lattice."""
    lengths = np.linalg.norm(pairs, axis=-1).prod(-1)
    thin: NDArray[np.bool_] = abs(np.linalg.det(pairs)) < 0.1 * lengths
    return thin


def _reduced(pair: Float) -> Float:
    """The two shortest vectors of the lattice (Gauss)."""
    a, b = pair
    for _ in range(100):
        if a @ a > b @ b:
            a, b = b, a
        step = np.rint(a @ b / (a @ a))
        if step == 0:
            break
        b = b - step * a
    return np.array([a, b])


def _distinct(pairs: Float) -> Float:
    """One pair of each lattice among (n, 2, 2)."""
    pairs = pairs.reshape(-1, 2, 2)
    change = pairs[:, None] @ np.linalg.inv(pairs)[None]
    whole = np.rint(change)
    same = (abs(change - whole) < 0.15).all((2, 3)) & (abs(np.linalg.det(whole)).round() == 1)
    kept: list[int] = []
    for k in range(len(pairs)):
        if not same[k, kept].any():
            kept.append(k)
    return pairs[kept]


def _score(cloud: _Cloud, pair: Float) -> float:
    """Share of the peaks on the lattice beyond what chance puts there."""
    u = cloud.anchored
    allowed = 0.05 * cloud.spacing + 0.03 * np.hypot(*u.T)
    off = np.hypot(*(u - np.rint(u @ np.linalg.inv(pair)) @ pair).T)
    chance = np.minimum(np.pi * allowed**2 / abs(np.linalg.det(pair)), 1.0)
    possible = float(cloud.weight @ (1 - chance))
    return float(cloud.weight @ ((off <= allowed) - chance)) / possible if possible > 0 else -1.0


# ---- its vectors ---------------------------------------------------------------------------------
def _refined(cloud: _Cloud, pair: Float) -> tuple[Float, Float, float, float]:
    """Vectors by least squares, their sigma, share explained, rms residual."""
    length = np.linalg.norm(cloud.anchored, axis=1)
    limit = 0.25 * float(np.linalg.norm(_reduced(pair), axis=1).min())
    reach, farthest = 1.6 * float(np.linalg.norm(pair, axis=1).max()), float(length.max())
    sigma, residual = np.full((2, 2), np.nan), math.nan
    on = np.zeros(len(length), np.bool_)
    while True:
        hk = np.rint(cloud.anchored @ np.linalg.inv(pair))
        off = np.linalg.norm(cloud.anchored - hk @ pair, axis=1)
        on = (off <= limit) & (length <= reach) & hk.any(1)
        if np.linalg.det(hk[on].T @ hk[on]) > 0.5:  # of whole numbers: not all on one line
            pair, sigma, residual = _least_squares(hk[on], cloud.anchored[on], cloud.weight[on])
        if reach >= farthest:
            break
        reach *= 1.5
    total = float(cloud.weight.sum())
    return pair, sigma, float(cloud.weight[on].sum()) / total if total > 0 else 0.0, residual


def _least_squares(hk: Float, u: Float, weight: Float) -> tuple[Float, Float, float]:
    weight = weight if weight.any() else np.ones(len(u))
    inverse = np.linalg.inv(hk.T @ (weight[:, None] * hk))
    pair = inverse @ (hk.T @ (weight[:, None] * u))
    square = weight @ (u - hk @ pair) ** 2
    sigma = np.sqrt(np.diagonal(inverse)[:, None] * square / max(len(u) - 2, 1))
    return pair, sigma, float(np.sqrt(square.sum() / weight.sum()))


def _canonical(pair: Float) -> Float:
    """Integer matrix (2, 2) to the shortest pair with g1 closest to +x and det > 0."""
    shortest = _reduced(pair)
    four = np.concatenate([shortest, -shortest])
    first = int(np.argmin(abs(np.arctan2(four[:, 1], four[:, 0])).round(9)))
    g1, g2 = four[first], four[(first + 1) % 2]
    g2 = g2 if np.linalg.det([g1, g2]) > 0 else -g2
    whole: Float = np.rint(np.array([g1, g2]) @ np.linalg.inv(pair))
    return whole
