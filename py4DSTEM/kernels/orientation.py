"""Orientations of a crystal from lists of Bragg peaks: voting, scoring, refinement."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.kernels._jit import njit

__all__ = [
    "FOUND",
    "NOTHING",
    "TOO_FEW",
    "Matches",
    "Model",
    "Plan",
    "Settings",
    "match_orientations",
    "score_orientations",
]

Float = NDArray[np.float64]

FOUND, TOO_FEW, NOTHING = 0, 1, 2
"""Why a pattern has an orientation or none."""
_REFINED = 6
"""Candidates that are refined with sharp rocking curves."""
_PARTNERS = 3
"""Candidates whose half turn about the zone axis is tried."""
_NU = 3.0
"""Degrees of freedom of Student's t, of logarithms of intensities."""
_STEEP = 1.7
"""A logistic of 1.7 x is nearly a cumulative Gaussian of x."""
_NEAR = 0.05
"""Least kernel of a peak that counts as explained."""
_DISTINCT = math.radians(2.5)
_LONGEST = 0.03
"""Longest step of the refinement, rad."""
_ZONE_SHARE = 0.5
"""Share of the amplitude that makes a zone."""


class Plan(NamedTuple):
    """Patterns of T directions of the beam, to vote with.

    Attributes
    ----------
    frames : (T, 3, 3) float64
        Orientations without rotation in the plane.
    first : (T, bins + 1) int64
        Where the reflections of each bin of radius begin, in the arrays below.
    radius, turn, weight : (m,) float64
        Of each reflection: radius in Å⁻¹, azimuth in bins of angle, expected amplitude.
    norm : (T,) float64
        Root of the sum of the squares of the weights.
    allowed : (n_angles,) bool
        Rotations in the plane that may be.
    bin_A : float
        Width of a bin of radius.
    """

    frames: Float
    first: NDArray[np.int64]
    radius: Float
    turn: Float
    weight: Float
    norm: Float
    allowed: NDArray[np.bool_]
    bin_A: float


class Model(NamedTuple):
    """Expected intensities of a crystal.

    Attributes
    ----------
    g : (n, 3) float64
        Reflections in crystal Cartesian axes, Å⁻¹.
    k2 : (n,) float64
        Squared lengths.
    log_F2 : (n,) float64
        Logarithms of their strengths.
    row : (n,) int64
        Row of `rocking` that each one takes.
    rocking : (rows, m) float64
        Logarithm of the rocking curve at excitation errors from −s_max to s_max.
    s_max : float
        Å⁻¹; reflections farther from the Ewald sphere are not excited.
    symmetry : (S, 3, 3) float64
        Proper rotations of the crystal.
    """

    g: Float
    k2: Float
    log_F2: Float
    row: NDArray[np.int64]
    rocking: Float
    s_max: float
    symmetry: Float


class Settings(NamedTuple):
    """What the score of an orientation is made of, and how it is searched.

    Attributes
    ----------
    wavelength_A, k_max_A : float
    reach_A : float
        Tolerance of radii in the vote.
    width_A : float
        Standard deviation of the kernel of positions.
    scatter : float
        Of the logarithms of intensities about the model.
    worth : float
        What a peak adds that is explained perfectly, nats.
    level, level_weight : float
        Expected logarithm of the scale, and how many peaks it counts as.
    threshold : float
        Logarithm of the intensity at which half of the spots are found.
    reach_rad : float
        How far the refinement may go from a candidate.
    min_peaks, candidates, n_matches : int
    """

    wavelength_A: float
    k_max_A: float
    reach_A: float
    width_A: float
    scatter: float
    worth: float
    level: float
    level_weight: float
    threshold: float
    reach_rad: float
    min_peaks: int
    candidates: int
    n_matches: int


class Matches(NamedTuple):
    """Orientations of P patterns, n of each; NaN where there is none.

    Attributes
    ----------
    matrices, partners : (P, n, 3, 3) float64
        The best orientation, and the half turn of it about its zone axis.
    score, other, partner_score : (P, n) float64
        Of the best, of the best that is neither, and of the partner; −inf: none.
    normal : (P, n, 4, 4) float64
        Curvature of the score: rotations about x, y, z, and the scale.
    level : (P, n) float64
        Logarithm of the scale.
    matched : (P, n) int64
    amplitude : (P, n) float64
        Of the matched peaks, root of intensity.
    distance2 : (P, n) float64
        Mean squared distance of them.
    reason : (P,) uint8
    owner : (peaks,) int16
        Which match explains each peak; −1: none.
    reflection : (peaks,) int64
        By which reflection; −1: none.
    """

    matrices: Float
    partners: Float
    score: Float
    other: Float
    partner_score: Float
    normal: Float
    level: Float
    matched: NDArray[np.int64]
    amplitude: Float
    distance2: Float
    reason: NDArray[np.uint8]
    owner: NDArray[np.int16]
    reflection: NDArray[np.int64]


def empty_matches(patterns: int, peaks: int, n: int) -> Matches:
    """What patterns without peaks give."""
    none = np.full((patterns, n), -np.inf)
    return Matches(
        matrices=np.full((patterns, n, 3, 3), np.nan),
        partners=np.full((patterns, n, 3, 3), np.nan),
        score=np.full((patterns, n), np.nan),
        other=none.copy(),
        partner_score=none.copy(),
        normal=np.full((patterns, n, 4, 4), np.nan),
        level=np.full((patterns, n), np.nan),
        matched=np.zeros((patterns, n), np.int64),
        amplitude=np.zeros((patterns, n)),
        distance2=np.full((patterns, n), np.nan),
        reason=np.full(patterns, TOO_FEW, np.uint8),
        owner=np.full(peaks, -1, np.int16),
        reflection=np.full(peaks, -1, np.int64),
    )


def match_orientations(
    peaks: Float, offsets: NDArray[np.int64], plan: Plan, models: tuple[Model, Model],
    settings: Settings, out: Matches | None = None, part: slice | None = None,
) -> Matches:  # fmt: skip
    """Find the orientations that explain lists of peaks.

    Parameters
    ----------
    peaks : (n, 3) float64
        x, y in Å⁻¹ and the logarithm of the intensity.
    offsets : (P + 1,) int64
        Pattern p holds the rows ``offsets[p] : offsets[p + 1]``.
    models : two Model
        With rocking curves as broad as the steps of the plan, and as they are.
    out, part : Matches, slice, optional
        Write only these patterns, into arrays of all; threads share them.

    Returns
    -------
    Matches
    """
    count = len(offsets) - 1
    if out is None:
        out = empty_matches(count, len(peaks), settings.n_matches)
    begin, end = (0, count) if part is None else (part.start, part.stop)
    _match_all(peaks, offsets, begin, end, plan, *models, settings, out)
    return out


def score_orientations(
    peaks: Float, offsets: NDArray[np.int64], matrices: Float, model: Model, settings: Settings
) -> tuple[Float, NDArray[np.int64]]:
    """How well one given orientation (P, 3, 3) explains each pattern.

    Returns
    -------
    (P,) float64, (peaks,) int64
        Scores, NaN for orientations that are; the reflection at each peak, −1: none.
    """
    out, owners = np.full(len(matrices), np.nan), np.full(len(peaks), -1, np.int64)
    _score_all(peaks, offsets, matrices, model, settings, out, owners)
    return out, owners


class Work(NamedTuple):
    """Arrays that every pattern uses again."""

    gs: Float  # (n, 3) components of the reflections near the sphere
    index: NDArray[np.int64]  # (n,) which they are
    expected: Float  # (peaks,) logarithm of the model at each peak
    slope: Float  # (peaks,) of that, by the excitation error
    kernel: Float  # (peaks,) how near the reflection is, 0 to 1
    at: Float  # (peaks, 3) and where
    owner: NDArray[np.int64]  # (peaks,) which it is, −1: none
    unseen: Float  # (n, 4) reflections without a peak: logarithm, slope, x, y
    votes: Float  # (T,)
    turns: Float  # (T,) rotation in the plane, rad
    histogram: Float  # (angles,)
    polar: Float  # (4, peaks) radius, azimuth, amplitude and weight of the peaks
    normal: Float  # (4, 4)
    gradient: Float  # (4,)
    level: Float  # (1,)


# ---- the loop over patterns ----------------------------------------------------------------------
@njit(nogil=True, cache=True)
def _match_all(peaks, offsets, begin, end, plan, broad, model, settings, out):
    most = 1
    for p in range(begin, end):
        most = max(most, offsets[p + 1] - offsets[p])
    work = _work(most, len(model.k2), len(plan.norm), len(plan.allowed))
    free, pk = np.empty(most, np.int64), np.empty((most, 3))
    for p in range(begin, end):
        left = 0
        for j in range(offsets[p], offsets[p + 1]):
            near = math.hypot(peaks[j, 0], peaks[j, 1]) <= settings.k_max_A
            if near and math.isfinite(peaks[j, 2]):
                free[left] = j
                left += 1
        for m in range(settings.n_matches):
            if left < settings.min_peaks:
                break
            for i in range(left):
                pk[i] = peaks[free[i]]
            if not _match_one(pk[:left], plan, broad, model, settings, work, out, p, m):
                if m == 0:
                    out.reason[p] = NOTHING
                break
            out.reason[p] = FOUND
            left = _take_out(free, left, work, out, m)


@njit(nogil=True, cache=True)
def _take_out(free, left, work, out, m):
    """Peaks that the match does not explain go on; the others remember it."""
    kept = 0
    for i in range(left):
        if work.kernel[i] > _NEAR:
            out.owner[free[i]] = m
            out.reflection[free[i]] = work.owner[i]
        else:
            free[kept] = free[i]
            kept += 1
    return kept


@njit(nogil=True, cache=True)
def _work(most, reflections, templates, angles):
    return Work(
        np.empty((reflections, 3)),
        np.empty(reflections, np.int64),
        np.empty(most),
        np.empty(most),
        np.empty(most),
        np.empty((most, 3)),
        np.empty(most, np.int64),
        np.empty((reflections, 4)),
        np.empty(templates),
        np.empty(templates),
        np.empty(angles),
        np.empty((4, most)),
        np.empty((4, 4)),
        np.empty(4),
        np.zeros(1),
    )


@njit(nogil=True, cache=True)
def _score_all(peaks, offsets, matrices, model, settings, out, owners):
    most = 1
    for p in range(len(out)):
        most = max(most, offsets[p + 1] - offsets[p])
    work = _work(most, len(model.k2), 1, 1)
    unturned = np.eye(3)
    for p in range(len(out)):
        if math.isfinite(matrices[p, 0, 0]):
            pk = peaks[offsets[p] : offsets[p + 1]]
            near = _local(matrices[p], model, settings, work)
            work.level[0] = settings.level
            out[p] = _score(unturned, near, pk, model, settings, work)
            for j in range(len(pk)):
                if work.kernel[j] > _NEAR:
                    owners[offsets[p] + j] = work.owner[j]


@njit(nogil=True, cache=True)
def _match_one(pk, plan, broad, model, settings, work, out, p, m):
    """The best orientation of one list of peaks, written to row (p, m)."""
    most = settings.candidates
    matrices = np.empty((most + _PARTNERS, 3, 3))
    scores = np.full(most + _PARTNERS, -np.inf)
    _vote(pk, plan, settings, work)
    count = _candidates(plan, work, most, settings.reach_rad, matrices)
    for c in range(count):
        scores[c] = _refine(matrices[c], pk, broad, settings, work, 3)
    order = np.argsort(-scores[:count])
    scores[:] = -np.inf
    for c in order[:_REFINED]:
        scores[c] = _refine(matrices[c], pk, model, settings, work, 5)
    total = count
    for c in np.argsort(-scores[:count])[:_PARTNERS]:
        if _partner(matrices[c], pk, model, settings, work, matrices[total]):
            scores[total] = _refine(matrices[total], pk, model, settings, work, 6)
            total += 1
    if total == 0:
        return False
    best = np.argmax(scores[:total])
    if not scores[best] > 0.0:
        return False
    _finish(best, total, matrices, scores, pk, model, settings, work, out, p, m)
    return out.matched[p, m] >= settings.min_peaks


@njit(nogil=True, cache=True)
def _finish(best, total, matrices, scores, pk, model, settings, work, out, p, m):
    """The last refinement, the half turn about the zone axis, and the best of the others."""
    R, partner = matrices[best].copy(), np.empty((3, 3))
    score, partner_score = _refine(R, pk, model, settings, work, 12), -np.inf
    paired = _partner(R, pk, model, settings, work, partner)
    if paired:
        partner_score = _refine(partner, pk, model, settings, work, 8)
        if partner_score > score:
            R, partner = partner, R
            score, partner_score = partner_score, score
        out.partners[p, m] = partner
    other = -np.inf
    for c in range(total):
        if scores[c] > other:
            apart = _angle(matrices[c], R, model.symmetry)
            if paired:
                apart = min(apart, _angle(matrices[c], partner, model.symmetry))
            if apart > _DISTINCT:
                other = scores[c]
    out.matrices[p, m] = R
    out.score[p, m], out.other[p, m], out.partner_score[p, m] = score, other, partner_score
    near = _local(R, model, settings, work)
    _score(np.eye(3), near, pk, model, settings, work)
    out.normal[p, m], out.level[p, m] = work.normal, work.level[0]
    matched, amplitude, distance2 = 0, 0.0, 0.0
    for j in range(len(pk)):
        if work.kernel[j] > _NEAR:
            matched += 1
            amplitude += work.polar[2, j]
            distance2 += (pk[j, 0] - work.at[j, 0]) ** 2 + (pk[j, 1] - work.at[j, 1]) ** 2
    out.matched[p, m], out.amplitude[p, m] = matched, amplitude
    out.distance2[p, m] = distance2 / max(matched, 1)


# ---- candidates ----------------------------------------------------------------------------------
@njit(nogil=True, cache=True)
def _vote(pk, plan, settings, work):
    """Most votes, and for which rotation in the plane, of every direction of the plan."""
    angles = len(plan.allowed)
    step = 2 * math.pi / angles
    bins = plan.first.shape[1] - 1
    reach = settings.reach_A
    radius, turn, weights = work.polar[0], work.polar[1], work.polar[3]
    total = 0.0
    for j in range(len(pk)):
        radius[j] = math.hypot(pk[j, 0], pk[j, 1])
        turn[j] = (math.atan2(pk[j, 1], pk[j, 0]) / step) % angles
        work.polar[2, j] = math.exp(pk[j, 2] / 2)
        total += work.polar[2, j]
    for j in range(len(pk)):
        weights[j] = math.sqrt(work.polar[2, j] / total)
    histogram = work.histogram
    for t in range(len(plan.norm)):
        histogram[:] = 0.0
        most, at, end = 0.0, 0, plan.first[t, bins]
        for j in range(len(pk)):
            start = min(max(int((radius[j] - reach) / plan.bin_A), 0), bins)
            for i in range(plan.first[t, start], end):
                off = (plan.radius[i] - radius[j]) / reach
                if off > 1.0:
                    break
                if off < -1.0:
                    continue
                amount = weights[j] * plan.weight[i] * (1.0 - off * off)
                u = turn[j] - plan.turn[i]
                if u < 0.0:
                    u += angles
                k = int(u)
                f = u - k
                k = k - angles if k >= angles else k
                lower, upper = k - 1 if k > 0 else angles - 1, k + 1 if k + 1 < angles else 0
                # Bin k is centred on k + 1/2: half stays, half goes towards the nearer side.
                histogram[k] += 0.5 * amount
                histogram[lower] += 0.5 * amount * (1.0 - f)
                histogram[upper] += 0.5 * amount * f
                # Sums only grow: the largest of them is met on the way.
                if histogram[k] > most and plan.allowed[k]:
                    most, at = histogram[k], k
                if histogram[lower] > most and plan.allowed[lower]:
                    most, at = histogram[lower], lower
                if histogram[upper] > most and plan.allowed[upper]:
                    most, at = histogram[upper], upper
        work.votes[t] = most / plan.norm[t]
        work.turns[t] = (at + 0.5) * step


@njit(nogil=True, cache=True)
def _candidates(plan, work, most, apart, matrices):
    """The orientations with most votes, none near another."""
    limit = 1 + 2 * math.cos(apart)
    count = 0
    for _ in range(4 * most):
        t = np.argmax(work.votes)
        if count == most or not work.votes[t] > 0.0:
            break
        work.votes[t] = -1.0
        c, s = math.cos(work.turns[t]), math.sin(work.turns[t])
        R, frame = matrices[count], plan.frames[t]
        for i in range(3):
            R[i, 0] = frame[i, 0] * c - frame[i, 1] * s
            R[i, 1] = frame[i, 0] * s + frame[i, 1] * c
            R[i, 2] = frame[i, 2]
        new = True
        for other in range(count):
            if (matrices[other] * R).sum() > limit:
                new = False
                break
        if new:
            count += 1
    return count


@njit(nogil=True, cache=True)
def _partner(R, pk, model, settings, work, partner):
    """Half a turn of R about the zone that most of its reflections belong to, if there is one."""
    near = _local(R, model, settings, work)
    work.level[0] = settings.level
    _score(np.eye(3), near, pk, model, settings, work)
    strong = np.argsort(-np.where(work.kernel[: len(pk)] > _NEAR, pk[:, 2], -np.inf))[:6]
    total, best = 0.0, 0.0
    for j in range(len(pk)):
        if work.kernel[j] > _NEAR:
            total += work.polar[2, j]
    axis = np.zeros(3)
    for a in range(len(strong)):
        for b in range(a):
            if work.kernel[strong[a]] > _NEAR and work.kernel[strong[b]] > _NEAR:
                first, second = model.g[work.owner[strong[a]]], model.g[work.owner[strong[b]]]
                normal = np.array([
                    first[1] * second[2] - first[2] * second[1],
                    first[2] * second[0] - first[0] * second[2],
                    first[0] * second[1] - first[1] * second[0],
                ])  # fmt: skip
                size = math.sqrt((normal * normal).sum())
                # Two reflections of one row span no plane.
                if size > 0.05 * math.sqrt((first**2).sum() * (second**2).sum()):
                    normal /= size
                    amount = 0.0
                    for j in range(len(pk)):
                        owner = work.owner[j]
                        if owner >= 0 and abs((model.g[owner] * normal).sum()) < 1e-6:
                            amount += work.polar[2, j]
                    if amount > best:
                        best = amount
                        axis[:] = normal
    if best < _ZONE_SHARE * total or best == 0.0:
        return False
    for j in range(3):
        along = axis[0] * R[0, j] + axis[1] * R[1, j] + axis[2] * R[2, j]
        for i in range(3):
            partner[i, j] = 2 * axis[i] * along - R[i, j]
    return _angle(R, partner, model.symmetry) > _DISTINCT


@njit(nogil=True, cache=True)
def _angle(A, B, symmetry):
    """Smallest rotation between two orientations."""
    between = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            between[i, j] = A[j, 0] * B[i, 0] + A[j, 1] * B[i, 1] + A[j, 2] * B[i, 2]
    most = -1.0
    for k in range(len(symmetry)):
        trace = 0.0
        for i in range(3):
            for j in range(3):
                trace += symmetry[k, i, j] * between[i, j]
        most = max(most, trace)
    return math.acos(min(max((most - 1) / 2, -1.0), 1.0))


# ---- refinement ----------------------------------------------------------------------------------
@njit(nogil=True, cache=True)
def _local(R, model, settings, work):
    """Components of the reflections that may be excited within reach; returns how many."""
    count = 0
    for h in range(len(model.k2)):
        x, y, z = model.g[h]
        along = x * R[0, 2] + y * R[1, 2] + z * R[2, 2]
        s = along - 0.5 * settings.wavelength_A * model.k2[h]
        if abs(s) < model.s_max + settings.reach_rad * math.sqrt(model.k2[h]):
            work.gs[count, 0] = x * R[0, 0] + y * R[1, 0] + z * R[2, 0]
            work.gs[count, 1] = x * R[0, 1] + y * R[1, 1] + z * R[2, 1]
            work.gs[count, 2] = along
            work.index[count] = h
            count += 1
    return count


@njit(nogil=True, cache=True)
def _refine(R, pk, model, settings, work, steps):
    """Turn R uphill in place (damped Gauss-Newton); its score."""
    near = _local(R, model, settings, work)
    turn, trial = np.eye(3), np.empty((3, 3))
    work.level[0] = settings.level
    score = _score(turn, near, pk, model, settings, work)
    normal, gradient = work.normal.copy(), work.gradient.copy()
    damping = 0.03
    v = np.empty(3)
    for _ in range(steps):
        _solve(normal, gradient, damping, v)
        size = math.sqrt(v[0] ** 2 + v[1] ** 2 + v[2] ** 2)
        if size > _LONGEST:
            v *= _LONGEST / size
        _turned(turn, v, trial)
        found = _score(trial, near, pk, model, settings, work)
        if found > score and trial[0, 0] + trial[1, 1] + trial[2, 2] > 1 + 2 * math.cos(
            settings.reach_rad
        ):
            small = found - score < 1e-3
            score = found
            turn[:] = trial
            normal[:], gradient[:] = work.normal, work.gradient
            damping *= 0.3
            if small:
                break
        else:
            damping = 10.0 * damping + 0.1
            if size < 1e-4:
                break
    R[:] = R @ turn.T
    return score


@njit(nogil=True, cache=True)
def _solve(normal, gradient, damping, v):
    """Gauss-Newton step of the three rotations, the scale following."""
    a = np.empty((3, 3))
    b = np.empty(3)
    scale = normal[3, 3] + 1e-12
    for i in range(3):
        b[i] = gradient[i] - normal[i, 3] * gradient[3] / scale
        for j in range(3):
            a[i, j] = normal[i, j] - normal[i, 3] * normal[3, j] / scale
    for i in range(3):
        a[i, i] = a[i, i] * (1 + damping) + 1.0
    v[0] = a[1, 1] * a[2, 2] - a[1, 2] * a[2, 1]
    c01 = a[1, 2] * a[2, 0] - a[1, 0] * a[2, 2]
    c02 = a[1, 0] * a[2, 1] - a[1, 1] * a[2, 0]
    det = a[0, 0] * v[0] + a[0, 1] * c01 + a[0, 2] * c02
    c11 = a[0, 0] * a[2, 2] - a[0, 2] * a[2, 0]
    c12 = a[0, 1] * a[2, 0] - a[0, 0] * a[2, 1]
    c22 = a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]
    x = (v[0] * b[0] + c01 * b[1] + c02 * b[2]) / det
    y = (c01 * b[0] + c11 * b[1] + c12 * b[2]) / det
    z = (c02 * b[0] + c12 * b[1] + c22 * b[2]) / det
    v[0], v[1], v[2] = x, y, z


@njit(nogil=True, cache=True)
def _turned(turn, v, out):
    """``out = exp([v]×) turn``."""
    angle = math.sqrt(v[0] ** 2 + v[1] ** 2 + v[2] ** 2)
    if angle < 1e-12:
        out[:] = turn
        return
    x, y, z = v / angle
    c, s = math.cos(angle), math.sin(angle)
    d = 1 - c
    m = np.array([
        [c + x * x * d, x * y * d - z * s, x * z * d + y * s],
        [y * x * d + z * s, c + y * y * d, y * z * d - x * s],
        [z * x * d - y * s, z * y * d + x * s, c + z * z * d],
    ])  # fmt: skip
    out[:] = m @ turn


# ---- the score -----------------------------------------------------------------------------------
@njit(nogil=True, cache=True)
def _score(turn, near, pk, model, settings, work):
    """How much better the crystal explains the peaks than chance, with its derivatives.

    The reflections of `_local` are turned by `turn` first.
    """
    unseen = _assign(turn, near, pk, model, settings, work)
    level = _level(pk, settings, work)
    work.level[0] = level
    normal, gradient = work.normal, work.gradient
    normal[:] = 0.0
    gradient[:] = 0.0
    score = _explained(pk, level, settings, work)
    steep = _STEEP / settings.scatter
    for i in range(unseen):
        z = steep * (work.unseen[i, 0] + level - settings.threshold)
        if z < -12.0:
            continue
        share = 1.0 / (1.0 + math.exp(-z))
        score -= z + math.log1p(math.exp(-z)) if z > 0.0 else math.log1p(math.exp(z))
        slope, x, y = work.unseen[i, 1], work.unseen[i, 2], work.unseen[i, 3]
        _add(normal, gradient, slope * y, -slope * x, -share * steep,
             share * (1 - share) * steep * steep)  # fmt: skip
    weight = settings.level_weight / settings.scatter**2
    normal[3, 3] += weight
    gradient[3] += weight * (settings.level - level)
    return score


@njit(nogil=True, cache=True)
def _add(normal, gradient, a, b, first, second):
    """A term that depends on ``a v_x + b v_y + level``, by its derivatives."""
    gradient[0] += first * a
    gradient[1] += first * b
    gradient[3] += first
    normal[0, 0] += second * a * a
    normal[0, 1] += second * a * b
    normal[1, 0] += second * a * b
    normal[1, 1] += second * b * b
    normal[0, 3] += second * a
    normal[3, 0] += second * a
    normal[1, 3] += second * b
    normal[3, 1] += second * b
    normal[3, 3] += second


@njit(nogil=True, cache=True)
def _assign(turn, near, pk, model, settings, work):
    """Which reflection each peak belongs to; returns how many have no peak."""
    count, unseen = len(pk), 0
    width2 = settings.width_A**2
    farthest = 9 * width2
    per_step = (model.rocking.shape[1] - 1) / (2 * model.s_max)
    faint = settings.threshold - settings.level - 6 * settings.scatter
    for j in range(count):
        work.owner[j] = -1
        work.kernel[j] = 0.0
        work.expected[j] = -np.inf
    for i in range(near):
        gx, gy, gz = work.gs[i]
        h = work.index[i]
        z = turn[2, 0] * gx + turn[2, 1] * gy + turn[2, 2] * gz
        u = (z - 0.5 * settings.wavelength_A * model.k2[h] + model.s_max) * per_step
        if not 0.0 <= u < model.rocking.shape[1] - 1:
            continue
        k = int(u)
        low, high = model.rocking[model.row[h], k], model.rocking[model.row[h], k + 1]
        expected = model.log_F2[h] + low + (u - k) * (high - low)
        if expected < faint:
            continue
        x = turn[0, 0] * gx + turn[0, 1] * gy + turn[0, 2] * gz
        y = turn[1, 0] * gx + turn[1, 1] * gy + turn[1, 2] * gz
        if x * x + y * y > settings.k_max_A**2:
            continue
        nearest, least = -1, farthest
        for j in range(count):
            distance2 = (pk[j, 0] - x) ** 2 + (pk[j, 1] - y) ** 2
            if distance2 < least:
                nearest, least = j, distance2
        slope = (high - low) * per_step
        if nearest < 0:
            work.unseen[unseen, 0], work.unseen[unseen, 1] = expected, slope
            work.unseen[unseen, 2], work.unseen[unseen, 3] = x, y
            unseen += 1
        elif expected > work.expected[nearest]:
            # Behind a stronger one at the same place nothing could be seen.
            work.owner[nearest] = h
            work.expected[nearest], work.slope[nearest] = expected, slope
            work.kernel[nearest] = math.exp(-0.5 * least / width2)
            work.at[nearest, 0], work.at[nearest, 1], work.at[nearest, 2] = x, y, z
    return unseen


@njit(nogil=True, cache=True)
def _level(pk, settings, work):
    """Scale between model and intensities: a robust mean of the differences of logarithms."""
    level = work.level[0]
    for _ in range(3):
        above, below = settings.level_weight * settings.level, settings.level_weight
        for j in range(len(pk)):
            if work.kernel[j] > 0.0:
                difference = pk[j, 2] - work.expected[j]
                r = (difference - level) / settings.scatter
                weight = work.kernel[j] / (1 + r * r / _NU)
                above += weight * difference
                below += weight
        level = above / below
    return level


@njit(nogil=True, cache=True)
def _explained(pk, level, settings, work):
    """Sum over the peaks that have a reflection; adds to the derivatives."""
    score = 0.0
    normal, gradient = work.normal, work.gradient
    per = (_NU + 1) / _NU
    width2 = settings.width_A**2
    for j in range(len(pk)):
        kernel = work.kernel[j]
        if kernel == 0.0:
            continue
        x, y, z = work.at[j]
        r = (pk[j, 2] - work.expected[j] - level) / settings.scatter
        tail = 1 + r * r / _NU
        worth = settings.worth - 0.5 * (_NU + 1) * math.log(tail)
        if worth <= 0.0:
            continue
        score += kernel * worth
        slope, scale = work.slope[j], kernel * per / (tail * settings.scatter)
        _add(normal, gradient, slope * y, -slope * x, scale * r, scale / settings.scatter)
        weight = kernel * worth / width2
        dx, dy = pk[j, 0] - x, pk[j, 1] - y
        # Along v: dx = v_y z − v_z y, dy = v_z x − v_x z.
        gradient[0] -= weight * dy * z
        gradient[1] += weight * dx * z
        gradient[2] += weight * (dy * x - dx * y)
        normal[0, 0] += weight * z * z
        normal[1, 1] += weight * z * z
        normal[2, 2] += weight * (x * x + y * y)
        normal[0, 2] -= weight * z * x
        normal[2, 0] -= weight * z * x
        normal[1, 2] -= weight * z * y
        normal[2, 1] -= weight * z * y
    return score
