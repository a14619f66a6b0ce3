"""Which crystal explains the peaks of every position best, and what explains the rest of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.kernels.orientation import Matches, empty_matches, score_orientations
from py4DSTEM.process.crystal.orientation import Found, match_table
from py4DSTEM.process.crystal.plan import expected_at
from py4DSTEM.process.crystal.tuning import PeakVectors
from py4DSTEM.stream.options import RunOptions

__all__ = ["PhaseFound", "Rounds", "play_rounds"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Int = NDArray[np.int64]

_PER_MATCH = ("matrices", "partners", "score", "other", "partner_score", "normal", "level",
              "matched", "amplitude", "distance2")  # fmt: skip


@dataclass(frozen=True, eq=False)
class PhaseFound(Found):
    """Matches of one crystal of several: those that were chosen count."""

    def kept(self, explained: Float) -> Bool:
        return np.asarray(np.isfinite(self.matches.score))

    def emptied(self) -> PhaseFound:
        """The same with no match at all, for a crystal that is nowhere."""
        none = np.full_like(self.matches.score, np.nan)
        return replace(self, matches=self.matches._replace(score=none), doubts=())


@dataclass(frozen=True, eq=False)
class Rounds:
    """What was chosen, round by round.

    Parameters
    ----------
    components : (P, m) int64
        Crystal; −1: none.
    slots : (P, m) int64
        Which of the matches of that crystal it is.
    evidence, gap : (P, m) float64
        Score, and lead over the best of the other crystals; NaN: none.
    founds : tuple of PhaseFound
        One per crystal, with as many matches as rounds.
    residual : (P,) float64
        Share of amplitude that is not explained; NaN without peaks.
    n_peaks : (P,) int64
    """

    components: Int
    slots: Int
    evidence: Float
    gap: Float
    founds: tuple[PhaseFound, ...]
    residual: Float
    n_peaks: Int

    def patterns(self, r: int, points: int) -> Float:
        """Intensity that the pattern of round r has at every peak of the table, (points,)."""
        out = np.zeros(points)
        for c, found in enumerate(self.founds):
            here = np.flatnonzero(self.components[:, r] == c)
            if not len(here):
                continue
            part = found.table.part(here)
            R = np.ascontiguousarray(found.matches.matrices[here, self.slots[here, r]])
            model, settings = found.tuned.models[1], found.tuned.settings
            _, h = score_orientations(part.peaks, part.offsets, R, model, settings)
            own = np.flatnonzero(h >= 0)
            position = np.searchsorted(part.offsets, own, side="right") - 1
            along = np.einsum("ni,ni->n", model.g[h[own]], R[position, :, 2])
            s = along - settings.wavelength_A * model.k2[h[own]] / 2
            out[part.row[own]] = np.exp(expected_at(model, h[own], s))
        return out


def play_rounds(
    firsts: list[Found], points: int, *, most: int, evidence: float, options: RunOptions
) -> Rounds:
    """The best crystal of every position, then of what is left, while there is evidence.

    Parameters
    ----------
    firsts : list of Found
        Matches of all peaks, one per crystal.
    points : int
        Peaks of the table that they come from.
    most : int
        Rounds.
    """
    count = len(firsts[0].table.offsets) - 1
    founds = [_room(found, most) for found in firsts]
    components = np.full((count, most), -1, np.int64)
    slots = np.zeros((count, most), np.int64)
    scores, gaps = np.full((count, most), np.nan), np.full((count, most), np.nan)
    used = np.zeros((count, len(firsts)), np.int64)
    free, going = np.ones(points, np.bool_), np.ones(count, np.bool_)
    everywhere = np.arange(count)
    for r in range(most):
        tries = firsts if r == 0 else [_again(one, free, going, options) for one in firsts]
        every = np.stack([_scores(one, r) for one in tries], axis=1)
        best = every.argmax(axis=1)
        top = every[everywhere, best]
        every[everywhere, best] = 0.0
        going = going & (top > 0) & (top >= evidence)
        if not going.any():
            break
        components[going, r], scores[going, r] = best[going], top[going]
        gaps[going, r] = (top - np.maximum(every.max(axis=1), 0.0))[going]
        for c, tried in enumerate(tries):
            here = np.flatnonzero(going & (best == c))
            slots[here, r] = used[here, c]
            _keep(founds[c].matches, tried.matches, here, used[here, c])
            used[here, c] += 1
            free[_explained(tried, here)] = False
    amplitude, explained = _amplitudes(firsts, free)
    left = np.full(count, np.nan)
    np.divide(amplitude - explained, amplitude, out=left, where=amplitude > 0)
    peaks = np.diff(_widest(firsts).offsets)
    return Rounds(components, slots, scores, gaps, tuple(founds), left, peaks)


def _room(found: Found, most: int) -> PhaseFound:
    """The same with room for a match per round, all empty."""
    empty = empty_matches(len(found.table.offsets) - 1, len(found.table.peaks), most)
    empty = empty._replace(reason=found.matches.reason)
    return PhaseFound(
        empty, found.table, found.tuned, found.calibration, found.origin_known, found.doubts
    )


def _again(found: Found, free: Bool, going: Bool, options: RunOptions) -> Found:
    """Matches of what is left, where the last round has found something."""
    table = found.table
    position = np.repeat(going, np.diff(table.offsets))
    keep = free[table.row] & position
    offsets = np.concatenate([[0], np.cumsum(keep)])[table.offsets].astype(np.int64)
    left = PeakVectors(np.ascontiguousarray(table.peaks[keep]), offsets, table.row[keep])
    settings = found.tuned.settings._replace(n_matches=1)
    return replace(found, table=left, matches=match_table(left, found.tuned, settings, options))


def _scores(found: Found, r: int) -> Float:
    """Score of each position, −inf where the match says nothing."""
    share = found.explained_share()
    kept = found.kept(share)[:, 0]
    return np.asarray(np.where(kept, found.matches.score[:, 0], -np.inf))


def _keep(into: Matches, found: Matches, here: Int, slot: Int) -> None:
    """Copy the only match of some positions."""
    for name in _PER_MATCH:
        getattr(into, name)[here, slot] = getattr(found, name)[here, 0]


def _explained(found: Found, here: Int) -> Int:
    """Peaks of the whole table that the match of some positions explains."""
    count = len(found.table.offsets) - 1
    chosen = np.zeros(count, np.bool_)
    chosen[here] = True
    own = np.repeat(chosen, np.diff(found.table.offsets)) & (found.matches.owner == 0)
    return np.asarray(found.table.row[own])


def _widest(founds: list[Found]) -> PeakVectors:
    """The table with most peaks: that of the longest lattice."""
    return max((one.table for one in founds), key=lambda table: len(table.row))


def _amplitudes(founds: list[Found], free: Bool) -> tuple[Float, Float]:
    """Root of intensity of the peaks of each position: of all, and of those explained."""
    table = _widest(founds)
    amplitude = np.exp(table.peaks[:, 2] / 2)
    totals = []
    for part in (amplitude, np.where(free[table.row], 0.0, amplitude)):
        sums = np.concatenate([[0.0], np.cumsum(part)])
        totals.append(np.diff(sums[table.offsets]))
    return totals[0], np.minimum(totals[1], totals[0])
