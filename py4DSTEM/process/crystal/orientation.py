"""Orientation of a crystal at every scan position, from its Bragg peaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.crystal import Crystal, CrystalModel
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import Cancelled, ParameterError, SolveError
from py4DSTEM.kernels import orientation as kernel
from py4DSTEM.kernels.orientation import FOUND, Matches, Settings, empty_matches
from py4DSTEM.process.crystal.plan import beam_directions
from py4DSTEM.process.crystal.result import REASONS, OrientationMap
from py4DSTEM.process.crystal.tuning import (
    SAMPLE,
    PeakVectors,
    Tuned,
    Tuning,
    energy_doubt,
    tune,
)
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.parallel import in_threads
from py4DSTEM.stream.progress import reporter

__all__ = [
    "MatchOrientations",
    "match_crystal",
    "match_orientations",
    "match_table",
    "peak_vectors",
]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Origin = Literal["direct beam", "calibration"]

AMBIGUOUS_NATS = 3.0
"""Difference of scores below which two orientations explain a pattern alike."""
_TYPICAL_QUALITY = 0.7
_LEAST_SHARE = 0.25
"""Share of the amplitude that a match must explain."""
_CHUNK = 256
_FIRST_WIDTH_A = 0.012
_FAINT_PERCENT = 12.0


class MatchOrientations(Analysis, kind="match-orientations", version=1):
    """Find the orientation of a crystal that explains the Bragg peaks of every position."""

    crystal: CrystalModel = Field(
        description="Name of a common crystal, path of a CIF, or cell and atoms."
    )
    n_matches: int = Field(1, ge=1, le=8, description="Most orientations per position.")
    step_deg: float = Field(2.5, ge=0.5, le=10, description="Between directions that are tried.")
    k_max_A: float | None = Field(
        None, gt=0, description="Longest scattering vector (1/Å); None: to the detector's edge."
    )
    precession_mrad: float = Field(0.0, ge=0, le=100, description="Half angle of precession.")
    relrod_A: float | None = Field(
        None, gt=0, le=0.2, description="Half width of rocking curves (1/Å); None: found."
    )
    min_peaks: int = Field(4, ge=3, description="Fewest scattered peaks of a position.")
    axis: tuple[float, float, float] | None = Field(
        None, description="Direction [uvw] along the beam, of a fibre or a known zone; None: any."
    )
    axis_within_deg: float = Field(10.0, ge=0, le=180, description="How far from it.")
    origin: Origin = Field(
        "direct beam", description="Of each pattern: its central peak, or as calibrated."
    )
    refine: bool = Field(True, description="Find pixel size and ellipse from the crystal.")

    accepts: ClassVar[tuple[type, ...]] = (PointTable,)
    cites: ClassVar[tuple[str, ...]] = ("10.1017/S1431927622000101",)

    @field_validator("crystal", mode="before")
    @classmethod
    def _plain_crystal(cls, given: Any) -> Any:
        return given.plain() if isinstance(given, Crystal) else given

    def apply(self, value: Any, options: RunOptions | None = None) -> OrientationMap:
        """The orientations of a table of peaks."""
        self.check(value)
        options = RunOptions() if options is None else options
        crystal = Crystal.of(self.crystal)
        found = match_crystal(value, crystal, self, options)
        return self._map(value, crystal, found)

    def _map(self, peaks: PointTable, crystal: Crystal, found: Found) -> OrientationMap:
        m, shape = found.matches, peaks.shape
        whole = (*shape, self.n_matches)
        explained = found.explained_share()
        keep = found.kept(explained)
        gap, gap_partner = m.score - m.other, m.score - m.partner_score
        covariance = covariances(m.normal) * found.inflation
        partner = np.where(np.isfinite(m.partner_score)[..., None, None], m.partners, np.nan)

        def maps(values: NDArray[Any], blank: Any = np.nan) -> NDArray[Any]:
            where = keep.reshape(*keep.shape, *[1] * (values.ndim - 2))
            return np.where(where, values, blank).reshape(*whole, *values.shape[2:])

        reason = found.reasons(keep)
        return OrientationMap(
            matches=maps(m.matrices),
            alternative=maps(partner),
            score=maps(m.score),
            gap=maps(gap),
            gap_alternative=maps(gap_partner),
            reliability=maps(reliability_of(gap, covariance, explained)),
            ambiguous=maps(gap_partner < AMBIGUOUS_NATS, False).astype(bool),
            covariance=maps(covariance),
            n_matched=maps(m.matched, 0).astype(np.int64),
            share=maps(explained),
            distance_A=maps(np.sqrt(m.distance2)),
            n_peaks=np.diff(found.table.offsets).reshape(shape),
            reason=reason.reshape(shape),
            crystal=crystal,
            calibration=found.calibration,
            history=self.history(peaks.history),
            report={**found.report(reason), "origin": self.origin},
        )


@dataclass(frozen=True, eq=False)
class Found:
    """What matching gives, before it becomes a map."""

    matches: Matches
    table: PeakVectors
    tuned: Tuned
    calibration: Calibration
    origin_known: Bool
    doubts: tuple[str, ...]

    def explained_share(self) -> Float:
        """Of the amplitude of the peaks of each position, (P, n)."""
        amplitude = np.exp(self.table.peaks[:, 2] / 2)
        sums = np.concatenate([[0.0], np.cumsum(amplitude)])
        total = np.diff(sums[self.table.offsets])
        return np.asarray(self.matches.amplitude / np.maximum(total, 1e-300)[:, None])

    @property
    def inflation(self) -> float:
        """What covariances are multiplied by, for all that kinematics gets wrong.

        By how far the best scores of the scan fall short of a perfect match: 3 for a stationary
        beam on 70 Å of gold, 0.7 with precession (multislice).
        """
        possible = self.tuned.settings.worth * np.diff(self.table.offsets)
        score = self.matches.score[:, 0]
        some = np.isfinite(score) & (possible > 0)
        quality = float(np.median(score[some] / possible[some])) if some.any() else 0.5
        return float(np.clip((_TYPICAL_QUALITY / max(quality, 0.05)) ** 4, 0.5, 10.0))

    def kept(self, explained: Float) -> Bool:
        """Matches that say something, (P, n)."""
        enough = self.matches.matched >= self.tuned.settings.min_peaks
        good = np.isfinite(self.matches.score) & enough
        # A second grain may be faint; a first one must explain what is bright.
        good[:, 0] &= explained[:, 0] >= _LEAST_SHARE
        good[:, 1:] &= good[:, :1]
        return np.asarray(good)

    def reasons(self, keep: Bool) -> NDArray[np.uint8]:
        reason = self.matches.reason.copy()
        reason[(reason == FOUND) & ~keep[:, 0]] = REASONS.index("no orientation explains them")
        reason[~self.origin_known] = REASONS.index("no origin")
        return reason

    def report(self, reason: NDArray[np.uint8]) -> dict[str, Any]:
        tuned, counts = self.tuned, np.bincount(reason, minlength=len(REASONS))
        return {
            "positions": {n: int(c) for n, c in zip(REASONS, counts, strict=True) if c},
            "doubts": list(self.doubts),
            "sample": tuned.sample,
            "k max (1/A)": tuned.settings.k_max_A,
            "relrod (1/A)": tuned.relrod_A,
            "attenuation B (A^2)": tuned.B_A2,
            "scatter of log intensity": tuned.settings.scatter,
            "width of positions (1/A)": tuned.settings.width_A,
            "covariances times": self.inflation,
            "pixel size factor": float(np.sqrt(np.linalg.det(tuned.detector))),
            "sigma of the factor": float(tuned.detector_sigma),
        }


def match_crystal(
    peaks: PointTable, crystal: Crystal, wanted: MatchOrientations, options: RunOptions
) -> Found:
    """Orientations of one crystal at every position.

    Raises
    ------
    CalibrationMissing
        No origin, pixel size or energy.
    SolveError
        Nothing in the scan is explained.
    """
    wavelength_A = peaks.calibration.wavelength_A
    if wanted.origin == "direct beam":
        peaks = with_direct_beam(peaks, crystal)
    table, known = peak_vectors(peaks, crystal, wanted.k_max_A)
    k_max_A = wanted.k_max_A or reach_of(peaks, table)
    enough = np.flatnonzero(np.diff(table.offsets) >= wanted.min_peaks)
    if not len(enough):
        raise SolveError(
            f"no position of {peaks.name!r} has {wanted.min_peaks} scattered peaks: search with a "
            "lower threshold, or match with fewer (min_peaks=)"
        )
    settings = Settings(
        wavelength_A=wavelength_A, k_max_A=k_max_A, reach_A=0.05, width_A=_FIRST_WIDTH_A,
        scatter=0.8, worth=4.0, level=float(np.percentile(table.peaks[:, 2], 98)),
        level_weight=0.5, threshold=float(np.percentile(table.peaks[:, 2], _FAINT_PERCENT)),
        reach_rad=math.radians(1.6 * wanted.step_deg), min_peaks=wanted.min_peaks, candidates=10,
        n_matches=1,
    )  # fmt: skip
    axis = None if wanted.axis is None else np.array(wanted.axis) @ crystal.lattice_A
    directions = beam_directions(crystal, wanted.step_deg, axis, wanted.axis_within_deg)
    tuning = Tuning(
        crystal, directions, settings, wanted.step_deg, wanted.precession_mrad / 1000,
        wanted.relrod_A, wanted.refine, min(peaks.calibration.Q_steps("A^-1")),
    )  # fmt: skip
    chosen = enough[np.linspace(0, len(enough) - 1, min(SAMPLE, len(enough))).astype(np.int64)]
    tuned = tune(table.part(chosen), tuning)
    table = table.transformed(tuned.detector)
    doubt = energy_doubt(table.part(chosen), tuning, tuned)
    full = tuned.settings._replace(n_matches=wanted.n_matches)
    matches = match_table(table, tuned, full, options)
    calibration = refined_calibration(peaks.calibration, tuned.detector)
    return Found(matches, table, tuned, calibration, known, (doubt,) if doubt else ())


def peak_vectors(
    peaks: PointTable, crystal: Crystal, k_max_A: float | None
) -> tuple[PeakVectors, Bool]:
    """Scattered peaks in Å⁻¹ with logarithms of intensity, and where there is an origin, (P,)."""
    if "intensity" not in (peaks.dtype.names or ()):
        raise ParameterError(
            f"{peaks.name!r} has no field 'intensity', only {peaks.dtype.names}: intensities tell "
            "orientations apart"
        )
    vectors = peaks.vectors("A^-1")
    intensity = np.asarray(peaks.points["intensity"], np.float64)
    radius = np.hypot(*vectors.T)
    # The direct beam, and what lies between it and the shortest reflection.
    good = (radius > 0.6 * shortest_A(crystal)) & (intensity > 0) & np.isfinite(intensity)
    if k_max_A is not None:
        good &= radius <= k_max_A
    rows = np.flatnonzero(good)
    offsets = np.concatenate([[0], np.cumsum(good)])[peaks.offsets]
    if not len(rows):
        raise SolveError(f"{peaks.name!r} has no scattered peaks: nothing can be matched")
    out = np.column_stack([vectors[rows], np.log(intensity[rows])])
    known = np.isfinite(peaks.calibration.origins(peaks.shape)).all(-1).reshape(-1)
    return PeakVectors(np.ascontiguousarray(out), offsets.astype(np.int64), rows), known


def with_direct_beam(peaks: PointTable, crystal: Crystal) -> PointTable:
    """The same peaks; where one is the direct beam, it is the origin of its position.

    That is the strongest peak within 0.35 of the shortest reflection of the calibrated origin.
    """
    radius = np.hypot(*peaks.vectors("A^-1").T)
    central = np.flatnonzero(radius < 0.35 * shortest_A(crystal))
    if not len(central) or "intensity" not in (peaks.dtype.names or ()):
        return peaks
    position = np.searchsorted(peaks.offsets, central, side="right") - 1
    order = np.lexsort((peaks.points["intensity"][central], position))
    # The last of each position is its strongest.
    last = np.flatnonzero(np.append(np.diff(position[order]) > 0, True))
    rows, where = central[order][last], position[order][last]
    origin = np.array(peaks.calibration.origins(peaks.shape), np.float64).reshape(-1, 2)
    origin[where] = peaks.positions_px[rows]
    return peaks.with_calibration(origin_px=origin.reshape(*peaks.shape, 2))


def shortest_A(crystal: Crystal) -> float:
    """Length of the shortest reflection."""
    shortest = float(np.linalg.norm(crystal.reciprocal_A, axis=1).min())
    for factor in (2.1, 4.2, 8.4):
        found = crystal.reflections(factor * shortest)
        if len(found):
            return float(found.k_A[0])
    raise ParameterError(f"{crystal.name!r} has no reflections: does it scatter at all?")


def reach_of(peaks: PointTable, table: PeakVectors) -> float:
    """Up to which |g| peaks can be seen in all directions."""
    farthest = 1.01 * float(np.hypot(*table.peaks[:, :2].T).max())
    if peaks.Q_shape is None:
        return farthest
    x, y = peaks.calibration.mean_origin_px
    nx, ny = peaks.Q_shape
    edge = min(x, y, nx - 1 - x, ny - 1 - y) * min(peaks.calibration.Q_steps("A^-1"))
    return min(farthest, edge) if edge > 0 else farthest


def match_table(
    table: PeakVectors, tuned: Tuned, settings: Settings, options: RunOptions
) -> Matches:
    """All positions, a few hundred per thread at a time."""
    count = len(table.offsets) - 1
    out = empty_matches(count, len(table.peaks), settings.n_matches)
    parts = [slice(a, min(a + _CHUNK, count)) for a in range(0, count, _CHUNK)]
    workers = options.worker_count()

    def work(part: slice) -> None:
        kernel.match_orientations(
            table.peaks, table.offsets, tuned.plan, tuned.models, settings, out, part
        )

    with reporter(options.progress) as report:
        for k in range(0, len(parts), workers):
            if options.cancel is not None and options.cancel.is_set():
                raise Cancelled(f"matching was cancelled after {k * _CHUNK} positions")
            in_threads(work, parts[k : k + workers])
            report(min(k + workers, len(parts)), len(parts), "orientations")
    return out


# ---- what scores mean ----------------------------------------------------------------------------
def reliability_of(gap: Float, covariance: Float, explained: Float) -> Float:
    """Probability that the best, or its alternative, is right to 2 degrees; all (P, n).

    A logistic of the lead over the best of the others, the sigma and the explained share.  Its
    coefficients are rounded from a regression on multislice simulations of gold, with and without
    precession.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        sigma_deg = np.degrees(np.sqrt(np.trace(covariance, axis1=-2, axis2=-1)))
        evidence = 0.3 * np.minimum(gap, 20.0) - np.log(sigma_deg) + 3.0 * explained - 1.5
    return np.asarray(1 / (1 + np.exp(-evidence)))


def covariances(normal: Float) -> Float:
    """Of the three rotations, the scale being unknown; (..., 3, 3) rad²."""
    scale = normal[..., 3, 3][..., None, None]
    across = normal[..., :3, 3]
    with np.errstate(invalid="ignore", divide="ignore"):
        own = normal[..., :3, :3] - across[..., :, None] * across[..., None, :] / scale
    known = np.asarray(np.isfinite(own).all((-1, -2)))
    safe = np.where(known[..., None, None], own, np.eye(3)) + np.eye(3)
    return np.asarray(np.where(known[..., None, None], np.linalg.inv(safe), np.nan))


def refined_calibration(calibration: Calibration, matrix: Float) -> Calibration:
    """A calibration whose vectors are `matrix` (2, 2, symmetric) times those of the given one."""
    if np.allclose(matrix, np.eye(2), rtol=0, atol=1e-12):
        return calibration
    steps = np.array(calibration.Q_steps("A^-1"))
    ellipse = np.eye(2) if calibration.ellipse is None else calibration.ellipse.correction()
    before = np.diag(steps) @ ellipse
    # Vectors are turned (and flipped) after ellipse and pixel size: back to the detector's axes.
    turn = calibration.Q_matrix("A^-1") @ np.linalg.inv(before)
    change = turn.T @ matrix @ turn @ before
    values, axes = np.linalg.eigh(change.T @ change)
    small, large = np.sqrt(values)
    direction = axes[:, 0]
    return calibration.replace(
        Q_pixel_size=float(large),
        Q_pixel_units="A^-1",
        ellipse=Ellipse(1.0, float(small / large), math.atan2(direction[1], direction[0])),
    )


def match_orientations(
    peaks: PointTable,
    crystal: Crystal | CrystalModel,
    *,
    n_matches: int = 1,
    step_deg: float = 2.5,
    k_max_A: float | None = None,
    precession_mrad: float = 0.0,
    relrod_A: float | None = None,
    min_peaks: int = 4,
    axis: Sequence[float] | None = None,
    axis_within_deg: float = 10.0,
    origin: Origin = "direct beam",
    refine: bool = True,
    options: RunOptions | None = None,
) -> OrientationMap:
    """Find the orientation of a crystal at every scan position, from its Bragg peaks.

    Parameters
    ----------
    peaks : BraggPeaks
        With ``qx, qy, intensity``; origin, pixel size (to 5 %) and energy calibrated.
    crystal : Crystal, name of a common one, or path of a CIF
    n_matches : int
        Most orientations per position, where grains overlap: each explains peaks of its own.
    step_deg : float
        Between the directions of the beam that are tried; the refinement goes far below.
    k_max_A : float, optional
        Longest scattering vector (Å⁻¹) that counts; None: to the nearest edge of the detector.
    precession_mrad : float
        Half angle of a precessed beam; 0: stationary.
    relrod_A : float, optional
        Half width of the rocking curves (Å⁻¹), about 0.4 over the thickness; None: found.
    min_peaks : int
        Fewest scattered peaks of a position, and of a match.
    axis : (float, float, float), optional
        Direction [uvw] of the crystal along the beam, for fibres and known zones, in-plane
        rotation free; None: any.
    axis_within_deg : float
        How far from it the beam may be.
    origin : "direct beam" or "calibration"
        The origin of each pattern: the strongest peak near the calibrated one; or that one, as
        behind a beam stop.
    refine : bool
        Find pixel size and ellipse so that the lattice fits; they go into ``.calibration``.
    options : RunOptions, optional

    Returns
    -------
    OrientationMap

    Raises
    ------
    CalibrationMissing
        No origin, pixel size or energy.
    ParameterError
        Peaks without intensities, or a crystal without reflections.
    SolveError
        Too few peaks everywhere, or the crystal explains none of the scan.

    Notes
    -----
    Expected intensities are kinematic, ``|F|²`` times a Lorentzian rocking curve averaged over the
    azimuth of precession, electrons along −z: ``s = g_z − λ g² / 2``.  Directions of the beam, each
    once by symmetry, collect votes of the peaks for rotations in the plane (a sparse form of
    doi:10.1017/S1431927622000101).  The best are refined by damped Gauss-Newton steps on

    ``Σ_peaks K (w − 2 ln(1 + r²/3)) − Σ_unseen ln(1 + exp(1.7 z))``

    with K a Gaussian of the distance between peak and reflection, r the difference of logarithms
    of intensities over its scatter (Student's t: dynamical scattering is no Gaussian error), w = 4,
    and z how far a reflection that is not seen should lie above the faintest peaks, in the same
    units.  Scatter, scale, attenuation, rocking curves and pixel size are learnt from up to 96
    positions first.

    Half a turn about the zone axis leaves the reflections of the zone where they are: both are
    refined, and ``ambiguous`` is set where their scores differ by less than 3.  ``covariance`` is
    the inverse curvature of the score, times how far the scan is from kinematic (``report``).

    Examples
    --------
    >>> import py4DSTEM
    >>> scan = py4DSTEM.simulate.polycrystal((4, 5), crystal="Si", grains=9, seed=2)
    >>> found = match_orientations(scan.truth.peaks(), "Si")
    >>> bool(np.nanmedian(found.misorientation_deg(scan.truth.matrices)) < 0.5)
    True
    """
    return MatchOrientations(
        crystal=crystal,
        n_matches=n_matches,
        step_deg=step_deg,
        k_max_A=k_max_A,
        precession_mrad=precession_mrad,
        relrod_A=relrod_A,
        min_peaks=min_peaks,
        axis=axis,
        axis_within_deg=axis_within_deg,
        origin=origin,
        refine=refine,
    ).apply(peaks, options)
