"""Crystals at every scan position: which ones, how much of each, and in what orientation."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainSerializer, PlainValidator, field_validator
from scipy.special import ndtr

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.crystal import Crystal, CrystalModel
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import ParameterError, ShapeError, SolveError
from py4DSTEM.process.classes.crystallinity import CrystallinityMap
from py4DSTEM.process.crystal.orientation import (
    Found,
    MatchOrientations,
    match_crystal,
)
from py4DSTEM.process.crystal.phase_result import AMORPHOUS, PhaseMap
from py4DSTEM.process.crystal.result import OrientationMap
from py4DSTEM.process.crystal.rounds import Rounds, play_rounds
from py4DSTEM.process.crystal.shares import Scales, scales_of, shares_of
from py4DSTEM.process.crystal.tuning import SAMPLE
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["MatchPhases", "distinct_crystals", "match_phases"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Int = NDArray[np.int64]

_MOST_CRYSTALS = 12
_SAME_LENGTH = 2e-3
_SAME_STRENGTH = 2e-2
_COMPARED_A = 1.0
"""Up to this |g| (1/A) two crystals are compared."""
_HALF = 0.5
_FAINT = 0.1
"""Share of the typical diffuse scattering below which a position is empty, not amorphous."""
_FEW = 1
"""Most scattered peaks of an amorphous position, where no crystallinity map tells."""
_GAP_SCALE = 2.0
"""Nats: peaks are fewer proofs than their likelihoods say."""
_PACKED = ("fraction", "sigma", "bragg", "diffuse")


def _known_share(value: Any) -> Any:
    """A crystallinity map, or what the history keeps of one."""
    if value is None or isinstance(value, CrystallinityMap):
        return value
    if isinstance(value, Mapping):
        try:
            shape = tuple(int(n) for n in value["shape"])
            unpack = zlib.decompressobj()
            raw = base64.b64decode(value["zlib_f4"], validate=True)
            flat = np.frombuffer(unpack.decompress(raw, 16 * shape[0] * shape[1] + 1), "<f4")
            maps = flat.reshape(4, *shape).astype(np.float64)
            inner, outer = float(value["inner_px"]), float(value["outer_px"])
            return CrystallinityMap(maps[0], maps[1], maps[2], maps[3], inner, outer)
        except (KeyError, TypeError, ValueError, IndexError, zlib.error) as error:
            raise ParameterError(f"this is no packed crystallinity map: {error}") from None
    raise ParameterError(
        f"crystallinity= is what cube.crystallinity() gives, not {type(value).__name__}"
    )


def _share_facts(value: CrystallinityMap | None) -> Any:
    if value is None:
        return None
    raw = np.stack([getattr(value, name) for name in _PACKED]).astype("<f4").tobytes()
    packed = base64.b64encode(zlib.compress(raw)).decode("ascii")
    shape = list(value.fraction.shape)
    return {
        "shape": shape, "zlib_f4": packed, "inner_px": value.inner_px, "outer_px": value.outer_px
    }  # fmt: skip


ShareParameter = Annotated[Any, PlainValidator(_known_share), PlainSerializer(_share_facts)]


class MatchPhases(Analysis, kind="match-phases", version=1):
    """Find which of several crystals explain the Bragg peaks of every position, and their shares.

    All crystals are matched; the one that explains the peaks best takes those that it explains,
    and the others are tried on what is left, as long as the evidence for one more is strong.
    """

    crystals: tuple[CrystalModel, ...] = Field(
        description="Names of common crystals, paths of CIFs, or cells and atoms.", min_length=1
    )
    amorphous: bool = Field(True, description="Whether there may be amorphous material.")
    crystallinity: ShareParameter = Field(
        None,
        description="Crystallinity map of the scan: tells amorphous positions from empty ones.",
        json_schema_extra={"accepts": ["CrystallinityMap"]},
    )
    max_patterns: int = Field(2, ge=1, le=6, description="Most patterns of crystals per position.")
    evidence: float = Field(
        6.0, ge=0, description="Least gain (nats) of explaining a position by one more pattern."
    )
    step_deg: float = Field(2.5, ge=0.5, le=10, description="Between directions that are tried.")
    k_max_A: float | None = Field(
        None, gt=0, description="Longest scattering vector (1/Å); None: to the detector's edge."
    )
    precession_mrad: float = Field(0.0, ge=0, le=100, description="Half angle of precession.")
    relrod_A: float | None = Field(
        None, gt=0, le=0.2, description="Half width of rocking curves (1/Å); None: found."
    )
    min_peaks: int = Field(4, ge=3, description="Fewest scattered peaks of a pattern.")
    origin: Literal["direct beam", "calibration"] = Field(
        "direct beam", description="Of each position: its direct beam, or as calibrated."
    )
    refine: bool = Field(True, description="Find pixel size and ellipse from the crystals.")

    accepts: ClassVar[tuple[type, ...]] = (PointTable,)
    cites: ClassVar[tuple[str, ...]] = ("10.1017/S1431927622000101",)

    @field_validator("crystals", mode="before")
    @classmethod
    def _plain_crystals(cls, given: Any) -> Any:
        if isinstance(given, (str, Crystal)):
            given = (given,)
        try:
            return tuple(one.plain() if isinstance(one, Crystal) else one for one in given)
        except TypeError:
            return given

    def apply(self, value: Any, options: RunOptions | None = None) -> PhaseMap:
        """The phases of a table of peaks."""
        self.check(value)
        options = RunOptions() if options is None else options
        crystals = distinct_crystals(self.crystals)
        share = self.crystallinity
        if share is not None and share.fraction.shape != value.shape:
            raise ShapeError(
                f"a crystallinity map of {share.fraction.shape}, peaks of {value.shape}"
            )
        peaks, doubts = value, []
        if self.refine:
            tried, _ = self._matched(_sample(value, self.min_peaks), crystals, True, options)
            peaks = value.with_calibration(_refined(value.calibration, _leader(tried)))
        found, absent = self._matched(peaks, crystals, False, options)
        doubts += [f"{name} explains nothing in this scan" for name in absent]
        there = {k: one for k, one in enumerate(found) if one is not None}
        present = list(there)
        rounds = play_rounds(
            list(there.values()), len(peaks), most=self.max_patterns,
            evidence=self.evidence, options=options,
        )  # fmt: skip
        return self._map(peaks, crystals, present, rounds, doubts)

    def _wanted(self, crystal: Crystal, refine: bool, n_matches: int = 1) -> MatchOrientations:
        return MatchOrientations(
            crystal=crystal.plain(),
            n_matches=n_matches,
            step_deg=self.step_deg,
            k_max_A=self.k_max_A,
            precession_mrad=self.precession_mrad,
            relrod_A=self.relrod_A,
            min_peaks=self.min_peaks,
            origin=self.origin,
            refine=refine,
        )

    def _matched(
        self, peaks: PointTable, crystals: Sequence[Crystal], refine: bool, options: RunOptions
    ) -> tuple[list[Found | None], list[str]]:
        """Matches of every crystal, None for those of which there is nothing; their names."""
        found: list[Found | None] = []
        failed: list[SolveError] = []
        for crystal in crystals:
            try:
                found.append(match_crystal(peaks, crystal, self._wanted(crystal, refine), options))
            except SolveError as error:
                found.append(None)
                failed.append(error)
        if len(failed) == len(crystals):
            raise failed[0]
        return found, [c.name for c, one in zip(crystals, found, strict=True) if one is None]

    def _map(
        self, peaks: PointTable, crystals: Sequence[Crystal], present: Sequence[int],
        rounds: Rounds, doubts: list[str],
    ) -> PhaseMap:  # fmt: skip
        """All that was found, as maps over the scan."""
        shape, history = peaks.shape, self.history(peaks.history)
        scales = scales_of(rounds, np.asarray(peaks.points["intensity"], float), peaks.offsets)
        fractions, sigma = shares_of(rounds, scales, len(present), amorphous=self.amorphous)
        fractions, sigma = _placed(fractions, sigma, present, len(crystals), self.amorphous)
        labels, confidence = self._labels(rounds, fractions, shape)
        components = np.append(present, -1)[rounds.components]
        orientations = self._orientations(peaks, crystals, present, rounds)
        if scales.alone == 0:
            doubts = [*doubts, "no position has one pattern alone: shares are on a guessed scale"]

        def maps(values: NDArray[Any]) -> Any:
            return values.reshape(*shape, *values.shape[1:])

        return PhaseMap(
            labels=maps(labels),
            names=self._names(crystals),
            fractions=maps(fractions),
            sigma=maps(sigma),
            confidence=maps(confidence),
            gap=maps(rounds.gap[:, 0]),
            components=maps(components),
            evidence=maps(rounds.evidence),
            scale=maps(scales.scale),
            residual=maps(rounds.residual),
            n_peaks=maps(rounds.n_peaks),
            orientations=orientations,
            calibration=orientations[0].calibration,
            history=history,
            report=_report(labels, self._names(crystals), rounds, scales, doubts),
        )

    def _names(self, crystals: Sequence[Crystal]) -> tuple[str, ...]:
        return (*(one.name for one in crystals), *([AMORPHOUS] if self.amorphous else []))

    def _orientations(
        self, peaks: PointTable, crystals: Sequence[Crystal], present: Sequence[int], rounds: Rounds
    ) -> tuple[OrientationMap, ...]:
        """One map per crystal; those of crystals that are nowhere are empty."""
        most = rounds.components.shape[1]
        maps = []
        for k, crystal in enumerate(crystals):
            here = k in present
            found = rounds.founds[present.index(k)] if here else rounds.founds[0].emptied()
            step = self._wanted(crystal, False, most)
            maps.append(step._map(peaks, crystal, found))
        return tuple(maps)

    def _labels(
        self, rounds: Rounds, fractions: Float, shape: tuple[int, int]
    ) -> tuple[Int, Float]:
        """Phase with the largest share, −1 for none, and how sure; fills in amorphous ones."""
        labels = np.full(len(fractions), -1, np.int64)
        known = np.isfinite(fractions).all(axis=1)
        labels[known] = fractions[known].argmax(axis=1)
        confidence = np.where(known, _confidence(rounds.gap[:, 0]), np.nan)
        if not self.amorphous:
            return labels, confidence
        last = fractions.shape[1] - 1
        bare, sure = self._bare(rounds, shape)
        bare &= ~known
        labels[bare], confidence[bare] = last, sure[bare]
        fractions[bare] = np.eye(last + 1)[last]
        return labels, confidence

    def _bare(self, rounds: Rounds, shape: tuple[int, int]) -> tuple[Bool, Float]:
        """Where nothing crystalline is, but something; and how sure that is."""
        origin = rounds.founds[0].origin_known
        if self.crystallinity is None:
            return (rounds.n_peaks <= _FEW) & origin, np.full(len(origin), np.nan)
        parts = (getattr(self.crystallinity, name).reshape(-1) for name in _PACKED)
        share, sigma, _, diffuse = parts
        crystal = np.isfinite(share) & (rounds.components >= 0).any(axis=1)
        typical = float(np.median(share[crystal])) if crystal.any() else 1.0
        candidate = np.isfinite(share) & ~crystal
        level = float(np.median(diffuse[candidate])) if candidate.any() else 0.0
        # An empty position scatters next to nothing, amorphous or not.
        bare = candidate & (share < _HALF * typical) & (diffuse > _FAINT * level)
        z = (_HALF * typical - share) / np.maximum(sigma, 1e-9)
        return bare & origin, np.asarray(ndtr(np.nan_to_num(z)))


# ---- crystals ------------------------------------------------------------------------------------
def distinct_crystals(given: Sequence[CrystalModel | Crystal]) -> tuple[Crystal, ...]:
    """Crystals that diffraction can tell apart, each with a name of its own.

    Raises
    ------
    ParameterError
        None, too many, two of one name, or two that diffract alike.
    """
    if not 0 < len(given) <= _MOST_CRYSTALS:
        raise ParameterError(f"1 to {_MOST_CRYSTALS} crystals are compared, not {len(given)}")
    crystals = tuple(Crystal.of(one) for one in given)
    for k, one in enumerate(crystals):
        if one.name == AMORPHOUS:
            raise ParameterError(f"a crystal may not be called {AMORPHOUS!r}")
        for other in crystals[:k]:
            if one.name == other.name:
                raise ParameterError(f"two crystals are called {one.name!r}: give them names")
            if _alike(one, other):
                raise ParameterError(
                    f"{other.name!r} and {one.name!r} have the same reflections: nothing tells "
                    "them apart, give one of them"
                )
    return crystals


def _alike(one: Crystal, other: Crystal) -> bool:
    """Whether two crystals have reflections of the same lengths and strengths."""
    longest = max(_COMPARED_A, 3 * float(np.linalg.norm(one.reciprocal_A, axis=1).min()))
    first, second = one.reflections(longest), other.reflections(longest)
    if len(first) != len(second):
        return False
    lengths = np.allclose(first.k_A, second.k_A, rtol=_SAME_LENGTH, atol=0)
    a, b = (np.sort(np.abs(r.F_A)) / np.abs(r.F_A).max() for r in (first, second))
    return bool(lengths and np.allclose(a, b, rtol=0, atol=_SAME_STRENGTH))


# ---- the scale of scattering vectors -------------------------------------------------------------
def _sample(peaks: PointTable, least: int) -> PointTable:
    """The peaks of some positions; as many for any scan."""
    counts = np.diff(peaks.offsets)
    enough = np.flatnonzero(counts >= least)
    chosen = np.zeros(len(counts), np.bool_)
    if len(enough):
        chosen[enough[np.linspace(0, len(enough) - 1, min(SAMPLE, len(enough))).astype(int)]] = True
    return peaks.select(np.repeat(chosen, counts))


def _leader(tried: Sequence[Found | None]) -> Found:
    """The crystal that explains most where it is the best."""
    founds = [one for one in tried if one is not None]
    scores = np.stack([np.nan_to_num(one.matches.score[:, 0]) for one in founds])
    best = scores == scores.max(axis=0)
    return founds[int(np.where(best, scores, 0.0).sum(axis=1).argmax())]


def _refined(calibration: Calibration, leader: Found) -> Calibration:
    """Pixel size and ellipse that fit one crystal; the origin stays."""
    return leader.calibration.replace(origin_px=calibration.origin_px)


# ---- maps ----------------------------------------------------------------------------------------
def _confidence(gap: Float) -> Float:
    """Probability that the best crystal is right, from its lead over the best of the others."""
    return np.asarray(1 / (1 + np.exp(-np.clip(gap, 0.0, 200.0) / _GAP_SCALE)))


def _placed(
    fractions: Float, sigma: Float, present: Sequence[int], crystals: int, amorphous: bool
) -> tuple[Float, Float]:
    """Shares with those of absent crystals, which are zero."""
    columns = [*present, crystals] if amorphous else list(present)
    out = []
    for values in (fractions, sigma):
        whole = np.zeros((len(values), crystals + amorphous))
        whole[np.isnan(values).any(axis=1)] = np.nan
        whole[:, columns] = values
        out.append(whole)
    return out[0], out[1]


def _report(
    labels: Int, names: Sequence[str], rounds: Rounds, scales: Scales, doubts: Sequence[str]
) -> dict[str, Any]:
    found = [int(n) for n in np.bincount(labels[labels >= 0], minlength=len(names))]
    own = [str(doubt) for one in rounds.founds for doubt in one.doubts]
    settings = [one.tuned.settings for one in rounds.founds]
    return {
        "positions": {
            **dict(zip(names, found, strict=True)),
            "not indexed": int((labels < 0).sum()),
        },
        "patterns": [int(n) for n in (rounds.components >= 0).sum(axis=0)],
        "doubts": list(dict.fromkeys([*doubts, *own])),
        "positions with one pattern": scales.alone,
        "spread of their scale": scales.spread,
        "scatter of log intensity": [float(one.scatter) for one in settings],
        "width of positions (1/A)": [float(one.width_A) for one in settings],
    }


def match_phases(
    peaks: PointTable,
    crystals: Sequence[Crystal | str | dict[str, Any]],
    *,
    amorphous: bool = True,
    crystallinity: CrystallinityMap | None = None,
    max_patterns: int = 2,
    evidence: float = 6.0,
    step_deg: float = 2.5,
    k_max_A: float | None = None,
    precession_mrad: float = 0.0,
    relrod_A: float | None = None,
    min_peaks: int = 4,
    origin: Literal["direct beam", "calibration"] = "direct beam",
    refine: bool = True,
    options: RunOptions | None = None,
) -> PhaseMap:
    """Map crystals, and amorphous material, by the Bragg peaks of every position.

    Parameters
    ----------
    peaks : BraggPeaks
        With a calibrated origin, pixel size (to some 5 %) and energy.
    crystals : sequence of Crystal, names of common ones, or paths of CIFs
        All that may be there.
    amorphous : bool
        Whether there may be amorphous material too: positions without peaks, and what is missing
        of the intensity of a position that a crystal fills.
    crystallinity : CrystallinityMap, optional
        From ``cube.crystallinity()``: tells amorphous positions from empty ones, and how sure that
        is.
    max_patterns : int
        Most patterns of crystals per position (grains of one crystal count each).
    evidence : float
        Least gain of the score (nats) for one more pattern; larger finds fewer, surer ones.
    step_deg : float
        Between the directions that are tried.
    k_max_A : float, optional
        Longest scattering vector in Å⁻¹; None: as far as the detector reaches all around.
    precession_mrad : float
        Half angle of precession.
    relrod_A : float, optional
        Half width of rocking curves in Å⁻¹; None: found.
    min_peaks : int
        Fewest scattered peaks of a pattern.
    origin : "direct beam" or "calibration"
        Of each position: its direct beam where it has one, or as calibrated.
    refine : bool
        Find pixel size and ellipse from the crystal that explains most.
    options : RunOptions, optional

    Returns
    -------
    PhaseMap
        ``.labels`` (Rx, Ry), ``.fractions`` and ``.sigma`` (Rx, Ry, n), ``.confidence``, and
        ``.orientations``, one map per crystal.

    Raises
    ------
    CalibrationMissing
        Origin, pixel size or energy is not known.
    ParameterError
        No crystals, one of them twice, or peaks without intensities.
    SolveError
        Too few peaks anywhere, or no crystal explains them.

    Notes
    -----
    Each crystal is matched (`match_orientations`), and scored by how much better than chance it
    explains places and intensities of the peaks.  The best takes the peaks that it explains; what
    is left is matched again while one more pattern gains at least `evidence`.  Scales of the
    patterns at a position are the non-negative least squares solution of the intensities, errors
    being relative; in units of the scale of the same orientation where nothing else is, they are
    shares x.  ``f = x / max(1, Σ x)`` and the rest is amorphous: where the specimen is much
    thinner, that is not so.  Shares are of intensity, which at an edge inside the probe falls as
    fast as the square of the area: sigmas there are at least ``√f − f``.  Confidence is
    ``1 / (1 + exp(−gap / 2))``.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.polycrystal((3, 4), (96, 96), crystal="Al", grains=2, seed=4)
    >>> phases = match_phases(scan.truth.peaks(), ["Al", "Si"], amorphous=False, step_deg=4)
    >>> phases.labels.tolist()
    [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    return MatchPhases(
        crystals=tuple(crystals),
        amorphous=amorphous,
        crystallinity=crystallinity,
        max_patterns=max_patterns,
        evidence=evidence,
        step_deg=step_deg,
        k_max_A=k_max_A,
        precession_mrad=precession_mrad,
        relrod_A=relrod_A,
        min_peaks=min_peaks,
        origin=origin,
        refine=refine,
    ).apply(peaks, options)
