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
    "build_plan",
    "match_orientations",
    "score_orientations",
    "votes_of",
]

Float = NDArray[np.float64]

FOUND, TOO_FEW, NOTHING = 0, 1, 2
"""Why a pattern has an orientation or none."""
_STEPS = np.array([2, 4, 5, 10, 6])
"""Most steps of each stage of the refinement; an array, since literals are compiled one by one."""
_REFINED = 4
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
_STRONG = 6
"""Peaks whose pairs span the zones that are tried."""
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
    best_normal: Float  # (4, 4) of the best so far
    best_gradient: Float
    turns3: Float  # (3, 3, 3) no rotation, the one so far, one more
    step: Float  # (3,)
    level: Float  # (1,)


def build_plan(
    model: Model,
    frames: Float,
    wavelength_A: float,
    k_max_A: float,
    bins: tuple[int, float, int, float],
) -> Plan:
    """Templates of orientations (T, 3, 3): their reflections in bins of radius.

    `bins`: how many of radius, their width in Å⁻¹, how many of angle, and the least weight.
    Weights are roots of
    amplitudes: weak reflections count, as dynamical scattering makes them strong.
    """
    count, bin_A, angles, floor = bins
    first = np.zeros((len(frames), count + 1), np.int64)
    norm = np.zeros(len(frames))
    size = _fill_plan(
        model, frames, wavelength_A, k_max_A, (bin_A, floor), first, norm, np.empty((0, 3))
    )
    rows = np.empty((size, 3))
    _fill_plan(model, frames, wavelength_A, k_max_A, (bin_A, floor), first, norm, rows)
    radius, azimuth, weight = (np.ascontiguousarray(column) for column in rows.T)
    turn = azimuth / (2 * math.pi) * angles % angles
    return Plan(frames, first, radius, turn, weight, norm, np.ones(angles, np.bool_), float(bin_A))


@njit(nogil=True, cache=True)
def _fill_plan(model, frames, wavelength_A, k_max_A, limits, first, norm, rows):
    """Count the reflections of each bin of radius, or (with `rows`) put them there."""
    bin_A, floor = limits
    bins = first.shape[1] - 1
    steps = model.rocking.shape[1] - 1
    place = np.zeros(bins, np.int64)
    total = 0
    for t in range(len(frames)):
        if len(rows):
            for b in range(bins):
                place[b] = first[t, b]
        else:
            place[:] = 0
        power = 0.0
        for h in range(len(model.k2)):
            x, y, z = model.g[h, 0], model.g[h, 1], model.g[h, 2]
            sx = x * frames[t, 0, 0] + y * frames[t, 1, 0] + z * frames[t, 2, 0]
            sy = x * frames[t, 0, 1] + y * frames[t, 1, 1] + z * frames[t, 2, 1]
            s = x * frames[t, 0, 2] + y * frames[t, 1, 2] + z * frames[t, 2, 2]
            u = (s - 0.5 * wavelength_A * model.k2[h] + model.s_max) / (2 * model.s_max) * steps
            radius = math.hypot(sx, sy)
            b = int(radius / bin_A)
            if not 0.0 <= u < steps or radius > k_max_A or b >= bins:
                continue
            k = int(u)
            low, high = model.rocking[model.row[h], k], model.rocking[model.row[h], k + 1]
            weight = math.exp((model.log_F2[h] + low + (u - k) * (high - low)) / 4)
            if weight < floor:
                continue
            if len(rows):
                rows[place[b], 0], rows[place[b], 2] = radius, weight
                rows[place[b], 1] = math.atan2(sy, sx)
                power += weight * weight
            place[b] += 1
        if len(rows):
            norm[t] = math.sqrt(power) + 1e-12
        else:
            for b in range(bins):
                first[t, b] = total
                total += place[b]
            first[t, bins] = total
    return total


def votes_of(peaks: Float, plan: Plan, reach_A: float) -> tuple[Float, Float]:
    """Most votes and their rotation in the plane (rad) of every direction of a plan, (T,) each.

    `peaks` (n, 3) are those of one pattern.
    """
    work = _work(len(peaks), 1, len(plan.norm), len(plan.allowed))
    _vote(peaks, plan, reach_A, work)
    return work.votes, work.turns


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
                for k in range(3):
                    pk[i, k] = peaks[free[i], k]
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
        np.empty((4, 4)),
        np.empty(4),
        np.zeros((3, 3, 3)),
        np.empty(3),
        np.zeros(1),
    )


@njit(nogil=True, cache=True)
def _copied(values, out):
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            out[i, j] = values[i, j]


@njit(nogil=True, cache=True)
def _unturned(work):
    """No rotation."""
    for i in range(3):
        for j in range(3):
            work.turns3[0, i, j] = 1.0 if i == j else 0.0
    return work.turns3[0]


@njit(nogil=True, cache=True)
def _pick(values, count, most, order):
    """Where the largest of the first `count` values are, largest first; returns how many."""
    found = 0
    for _ in range(min(most, count)):
        best = -1
        for c in range(count):
            if values[c] > -np.inf and (best < 0 or values[c] > values[best]):
                taken = False
                for k in range(found):
                    taken = taken or order[k] == c
                if not taken:
                    best = c
        if best < 0:
            break
        order[found] = best
        found += 1
    return found


@njit(nogil=True, cache=True)
def _score_all(peaks, offsets, matrices, model, settings, out, owners):
    most = 1
    for p in range(len(out)):
        most = max(most, offsets[p + 1] - offsets[p])
    work = _work(most, len(model.k2), 1, 1)
    for p in range(len(out)):
        if math.isfinite(matrices[p, 0, 0]):
            pk = peaks[offsets[p] : offsets[p + 1]]
            near = _local(matrices[p], model, settings, work)
            work.level[0] = settings.level
            out[p] = _score(_unturned(work), near, pk, model, settings, work)
            for j in range(len(pk)):
                if work.kernel[j] > _NEAR:
                    owners[offsets[p] + j] = work.owner[j]


@njit(nogil=True, cache=True)
def _match_one(pk, plan, broad, model, settings, work, out, p, m):
    """The best orientation of one list of peaks, written to row (p, m)."""
    most = settings.candidates
    matrices = np.empty((most + _PARTNERS, 3, 3))
    scores, order = np.full(most + _PARTNERS, -np.inf), np.empty(most, np.int64)
    _vote(pk, plan, settings.reach_A, work)
    count = _candidates(plan, work, most, settings.reach_rad, matrices)
    for c in range(count):
        scores[c] = _refine(matrices[c], pk, broad, settings, work, _STEPS[0])
    kept = _pick(scores, count, _REFINED, order)
    for c in range(count):
        scores[c] = -np.inf
    for k in range(kept):
        scores[order[k]] = _refine(matrices[order[k]], pk, model, settings, work, _STEPS[1])
    total = count
    kept = _pick(scores, count, _PARTNERS, order)
    for k in range(kept):
        if _partner(matrices[order[k]], pk, model, settings, work, matrices[total]):
            scores[total] = _refine(matrices[total], pk, model, settings, work, _STEPS[2])
            total += 1
    if _pick(scores, total, 1, order) == 0 or not scores[order[0]] > 0.0:
        return False
    best = order[0]
    _finish(best, total, matrices, scores, pk, model, settings, work, out, p, m)
    return out.matched[p, m] >= settings.min_peaks


@njit(nogil=True, cache=True)
def _finish(best, total, matrices, scores, pk, model, settings, work, out, p, m):
    """The last refinement, the half turn about the zone axis, and the best of the others."""
    R, partner = np.empty((3, 3)), np.empty((3, 3))
    _copied(matrices[best], R)
    score, partner_score = _refine(R, pk, model, settings, work, _STEPS[3]), -np.inf
    paired = _partner(R, pk, model, settings, work, partner)
    if paired:
        partner_score = _refine(partner, pk, model, settings, work, _STEPS[4])
        if partner_score > score:
            R, partner = partner, R
            score, partner_score = partner_score, score
        _copied(partner, out.partners[p, m])
    other = -np.inf
    for c in range(total):
        if scores[c] > other:
            apart = _angle(matrices[c], R, model.symmetry)
            if paired:
                apart = min(apart, _angle(matrices[c], partner, model.symmetry))
            if apart > _DISTINCT:
                other = scores[c]
    _copied(R, out.matrices[p, m])
    out.score[p, m], out.other[p, m], out.partner_score[p, m] = score, other, partner_score
    near = _local(R, model, settings, work)
    _score(_unturned(work), near, pk, model, settings, work)
    _copied(work.normal, out.normal[p, m])
    out.level[p, m] = work.level[0]
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
def _vote(pk, plan, reach, work):
    """Most votes, and for which rotation in the plane, of every direction of the plan."""
    angles = len(plan.allowed)
    step = 2 * math.pi / angles
    bins = plan.first.shape[1] - 1
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
        for k in range(angles):
            histogram[k] = 0.0
        most, at = 0.0, 0
        for j in range(len(pk)):
            start = min(max(int((radius[j] - reach) / plan.bin_A), 0), bins)
            stop = min(int((radius[j] + reach) / plan.bin_A) + 1, bins)
            for i in range(plan.first[t, start], plan.first[t, stop]):
                off = (plan.radius[i] - radius[j]) / reach
                if abs(off) > 1.0:
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
        t = 0
        for other in range(len(plan.norm)):
            if work.votes[other] > work.votes[t]:
                t = other
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
            trace = 0.0
            for i in range(3):
                for j in range(3):
                    trace += matrices[other, i, j] * R[i, j]
            new = new and trace <= limit
        if new:
            count += 1
    return count


@njit(nogil=True, cache=True)
def _partner(R, pk, model, settings, work, partner):
    """Half a turn of R about the zone that most of its reflections belong to, if there is one."""
    near = _local(R, model, settings, work)
    work.level[0] = settings.level
    _score(_unturned(work), near, pk, model, settings, work)
    strength = work.polar[0]
    total = 0.0
    for j in range(len(pk)):
        explained = work.kernel[j] > _NEAR
        strength[j] = work.polar[2, j] if explained else -np.inf
        total += work.polar[2, j] if explained else 0.0
    strong = np.empty(_STRONG, np.int64)
    count = _pick(strength, len(pk), _STRONG, strong)
    best, nx, ny, nz = 0.0, 0.0, 0.0, 0.0
    for a in range(count):
        for b in range(a):
            x, y, z = _normal(model.g[work.owner[strong[a]]], model.g[work.owner[strong[b]]])
            amount = _in_zone(x, y, z, pk, model, work)
            if amount > best:
                best, nx, ny, nz = amount, x, y, z
    if best < _ZONE_SHARE * total or best == 0.0:
        return False
    for j in range(3):
        along = nx * R[0, j] + ny * R[1, j] + nz * R[2, j]
        partner[0, j] = 2 * nx * along - R[0, j]
        partner[1, j] = 2 * ny * along - R[1, j]
        partner[2, j] = 2 * nz * along - R[2, j]
    return _angle(R, partner, model.symmetry) > _DISTINCT


@njit(nogil=True, cache=True)
def _normal(first, second):
    """The direction normal to two reflections; zero for two of one row, which span no plane."""
    x = first[1] * second[2] - first[2] * second[1]
    y = first[2] * second[0] - first[0] * second[2]
    z = first[0] * second[1] - first[1] * second[0]
    size = math.sqrt(x * x + y * y + z * z)
    lengths = math.sqrt(first[0] ** 2 + first[1] ** 2 + first[2] ** 2) * math.sqrt(
        second[0] ** 2 + second[1] ** 2 + second[2] ** 2
    )
    if size < 0.05 * lengths:
        return 0.0, 0.0, 0.0
    return x / size, y / size, z / size


@njit(nogil=True, cache=True)
def _in_zone(x, y, z, pk, model, work):
    """Amplitude of the explained peaks whose reflections are normal to a direction."""
    amount = 0.0
    if x == 0.0 and y == 0.0 and z == 0.0:
        return amount
    for j in range(len(pk)):
        if work.kernel[j] > _NEAR:
            g = model.g[work.owner[j]]
            if abs(g[0] * x + g[1] * y + g[2] * z) < 1e-6:
                amount += work.polar[2, j]
    return amount


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
        x, y, z = model.g[h, 0], model.g[h, 1], model.g[h, 2]
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
    work.level[0] = settings.level
    turn, trial, v = work.turns3[1], work.turns3[2], work.step
    _copied(_unturned(work), turn)
    score = _score(turn, near, pk, model, settings, work)
    normal, gradient = work.best_normal, work.best_gradient
    _kept(work)
    farthest = 1 + 2 * math.cos(settings.reach_rad)
    damping = 0.03
    for _ in range(steps):
        _solve(normal, gradient, damping, v)
        size = math.sqrt(v[0] ** 2 + v[1] ** 2 + v[2] ** 2)
        if size > _LONGEST:
            for i in range(3):
                v[i] *= _LONGEST / size
        _turned(turn, v, trial)
        found = _score(trial, near, pk, model, settings, work)
        if found > score and trial[0, 0] + trial[1, 1] + trial[2, 2] > farthest:
            small = found - score < 1e-3
            score = found
            _copied(trial, turn)
            _kept(work)
            damping *= 0.3
            if small:
                break
        else:
            damping = 10.0 * damping + 0.1
            if size < 1e-4:
                break
    for i in range(3):
        x, y, z = R[i, 0], R[i, 1], R[i, 2]
        for j in range(3):
            R[i, j] = x * turn[j, 0] + y * turn[j, 1] + z * turn[j, 2]
    return score


@njit(nogil=True, cache=True)
def _kept(work):
    """The derivatives of the last score become those of the best."""
    _copied(work.normal, work.best_normal)
    for i in range(4):
        work.best_gradient[i] = work.gradient[i]


@njit(nogil=True, cache=True)
def _solve(normal, gradient, damping, v):
    """Gauss-Newton step of the three rotations, the scale following."""
    scale = normal[3, 3] + 1e-12
    n0, n1, n2 = normal[0, 3] / scale, normal[1, 3] / scale, normal[2, 3] / scale
    more = 1.0 + damping
    # The one keeps a rotation that nothing fixes from running away.
    a00 = (normal[0, 0] - n0 * normal[0, 3]) * more + 1.0
    a11 = (normal[1, 1] - n1 * normal[1, 3]) * more + 1.0
    a22 = (normal[2, 2] - n2 * normal[2, 3]) * more + 1.0
    a01 = normal[0, 1] - n0 * normal[1, 3]
    a02 = normal[0, 2] - n0 * normal[2, 3]
    a12 = normal[1, 2] - n1 * normal[2, 3]
    b0, b1, b2 = (
        gradient[0] - n0 * gradient[3],
        gradient[1] - n1 * gradient[3],
        gradient[2] - n2 * gradient[3],
    )
    c00, c01, c02 = a11 * a22 - a12 * a12, a12 * a02 - a01 * a22, a01 * a12 - a11 * a02
    c11, c12, c22 = a00 * a22 - a02 * a02, a01 * a02 - a00 * a12, a00 * a11 - a01 * a01
    det = a00 * c00 + a01 * c01 + a02 * c02
    v[0] = (c00 * b0 + c01 * b1 + c02 * b2) / det
    v[1] = (c01 * b0 + c11 * b1 + c12 * b2) / det
    v[2] = (c02 * b0 + c12 * b1 + c22 * b2) / det


@njit(nogil=True, cache=True)
def _turned(turn, v, out):
    """``out = exp([v]×) turn``, by the formula of Rodrigues."""
    angle = math.sqrt(v[0] ** 2 + v[1] ** 2 + v[2] ** 2)
    if angle < 1e-12:
        _copied(turn, out)
        return
    x, y, z = v[0] / angle, v[1] / angle, v[2] / angle
    c, s = math.cos(angle), math.sin(angle)
    for j in range(3):
        a, b, d = turn[0, j], turn[1, j], turn[2, j]
        along = (x * a + y * b + z * d) * (1 - c)
        out[0, j] = c * a + s * (y * d - z * b) + along * x
        out[1, j] = c * b + s * (z * a - x * d) + along * y
        out[2, j] = c * d + s * (x * b - y * a) + along * z


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
    for i in range(4):
        gradient[i] = 0.0
        for j in range(4):
            normal[i, j] = 0.0
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
        gx, gy, gz = work.gs[i, 0], work.gs[i, 1], work.gs[i, 2]
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
        x, y, z = work.at[j, 0], work.at[j, 1], work.at[j, 2]
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
