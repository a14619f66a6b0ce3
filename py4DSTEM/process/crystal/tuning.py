"""What a score of orientations needs to know, learnt from some positions of the scan itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.crystal import Crystal
from py4DSTEM.errors import SolveError
from py4DSTEM.kernels.orientation import Matches, Model, Plan, Settings, match_orientations
from py4DSTEM.process.crystal.plan import expected_at, model_of, plan_of

__all__ = ["SAMPLE", "PeakVectors", "Tuned", "Tuning", "detector_fit", "energy_doubt", "tune"]

Float = NDArray[np.float64]

SAMPLE = 96
"""Positions that are looked at; as many for any scan."""
_FEWER = 32
"""And where the same is tried several times."""
_ROUNDS = 3
_WIDTHS_A = (0.002, 0.004, 0.008, 0.016)
"""Half widths of rocking curves that are tried."""
_STUDENT_MAD = 0.7649
"""Median absolute deviation of Student's t with 3 degrees of freedom."""
_WIDE = 2.0
"""Width of the kernel of positions, in standard deviations of their errors."""
_LEAST_SCATTER = 0.5
"""Few peaks are fitted better than predicted, and dynamical scattering is not kinematic."""
_LEAST_WIDTH_PX = 1 / 3
_LEAST_PAIRS = 12
_ENERGY_FACTORS = (0.8, 1.25)
_CERTAIN = 4.0
"""Standard deviations that make a doubt."""


@dataclass(frozen=True, eq=False)
class PeakVectors:
    """Scattered peaks, ready to be compared with a crystal.

    Parameters
    ----------
    peaks : (n, 3) float64
        x, y in Å⁻¹ and the logarithm of the intensity.
    offsets : (P + 1,) int64
    row : (n,) int64
        Where each one is in the table that it comes from.
    """

    peaks: Float
    offsets: NDArray[np.int64]
    row: NDArray[np.int64]

    def part(self, positions: NDArray[np.int64]) -> PeakVectors:
        """Those of some positions."""
        counts = np.diff(self.offsets)[positions]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        start = np.repeat(self.offsets[positions] - offsets[:-1], counts)
        rows = start + np.arange(offsets[-1])
        return PeakVectors(self.peaks[rows], offsets, self.row[rows])

    def fewer(self) -> PeakVectors:
        """Some of the positions, evenly spread."""
        count = len(self.offsets) - 1
        return self.part(np.linspace(0, count - 1, min(count, _FEWER)).astype(np.int64))

    def transformed(self, matrix: Float) -> PeakVectors:
        """Positions times a matrix (2, 2)."""
        peaks = self.peaks.copy()
        peaks[:, :2] = peaks[:, :2] @ matrix.T
        return replace(self, peaks=peaks)


@dataclass(frozen=True)
class Tuning:
    """What is fixed, and what is to be found.

    Parameters
    ----------
    relrod_A : float, optional
        Half width of rocking curves; None: found.
    refine : bool
        Find pixel size and ellipse too.
    pixel_A : float
        Of the detector.
    """

    crystal: Crystal
    directions: Float
    settings: Settings
    step_deg: float
    precession_rad: float
    relrod_A: float | None
    refine: bool
    pixel_A: float

    def models(self, k_max_A: float, width_A: float, B_A2: float) -> tuple[Model, Model]:
        """With broad and with true rocking curves; the broad ones reach to the next template."""
        broad = max(width_A, math.radians(self.step_deg) * k_max_A / 6)
        first, second = (
            model_of(
                self.crystal, 1.04 * k_max_A, width_A=w, precession_rad=self.precession_rad,
                B_A2=B_A2,
            )
            for w in (broad, width_A)
        )  # fmt: skip
        return first, second

    def plan(self, model: Model, settings: Settings) -> Plan:
        return plan_of(
            model,
            self.directions,
            wavelength_A=settings.wavelength_A,
            k_max_A=settings.k_max_A,
            tolerance_A=settings.reach_A,
        )


@dataclass(frozen=True, eq=False)
class Tuned:
    """All that matching needs.

    Parameters
    ----------
    detector : (2, 2) float64
        Symmetric; maps vectors as calibrated to those that fit the crystal.
    detector_sigma : float
        Standard deviation of its mean diagonal.
    """

    models: tuple[Model, Model]
    plan: Plan
    settings: Settings
    relrod_A: float
    B_A2: float
    detector: Float
    detector_sigma: float
    sample: int
    pairs: int


def tune(sample: PeakVectors, tuning: Tuning) -> Tuned:
    """Learn scale, scatter, attenuation, rocking curves and pixel size from a sample.

    Raises
    ------
    SolveError
        No orientation of the crystal explains the sample.
    """
    settings = tuning.settings
    width = tuning.relrod_A or 0.004
    B, detector, sigma, pairs = 0.0, np.eye(2), math.nan, 0
    for last in range(_ROUNDS):
        if last == _ROUNDS - 1 and tuning.relrod_A is None:
            width = _best_width(sample, tuning, settings, B)
        models = tuning.models(settings.k_max_A, width, B)
        plan = tuning.plan(models[0], settings)
        found = match_orientations(sample.peaks, sample.offsets, plan, models, settings)
        pair = Pairs.of(sample, found, models[1], settings)
        pairs = len(pair.seen)
        if pairs < _LEAST_PAIRS:
            raise SolveError(
                f"no orientation of {tuning.crystal.name!r} explains the peaks of "
                f"{len(sample.offsets) - 1} positions: check the crystal, the pixel size (to 5 %), "
                "the origin and the energy"
            )
        if tuning.refine:
            change, sigma = detector_fit(pair.seen, pair.expected)
            sample = sample.transformed(change)
            detector = _symmetric(change @ detector)
        narrow = _LEAST_WIDTH_PX * tuning.pixel_A if tuning.refine or last > 0 else None
        settings, B = pair.learnt(settings, B, narrow)
    models = tuning.models(settings.k_max_A, width, B)
    return Tuned(
        models, tuning.plan(models[0], settings), settings, width, B, detector, sigma,
        len(sample.offsets) - 1, pairs,
    )  # fmt: skip


def _best_width(sample: PeakVectors, tuning: Tuning, settings: Settings, B: float) -> float:
    """The rocking curve under which the sample is most probable."""
    totals = []
    sample = sample.fewer()
    for width in _WIDTHS_A:
        models = tuning.models(settings.k_max_A, width, B)
        plan = tuning.plan(models[0], settings)
        found = match_orientations(sample.peaks, sample.offsets, plan, models, settings)
        totals.append(float(np.nansum(found.score)))
    return _WIDTHS_A[int(np.argmax(totals))]


def energy_doubt(sample: PeakVectors, tuning: Tuning, tuned: Tuned) -> str | None:
    """Words, where another wavelength explains the intensities better beyond doubt."""
    scores = []
    sample = sample.fewer()
    for factor in (1.0, *_ENERGY_FACTORS):
        settings = tuned.settings._replace(wavelength_A=factor * tuned.settings.wavelength_A)
        plan = tuning.plan(tuned.models[0], settings)
        found = match_orientations(sample.peaks, sample.offsets, plan, tuned.models, settings)
        scores.append(np.nan_to_num(found.score[:, 0]))
    for factor, score in zip(_ENERGY_FACTORS, scores[1:], strict=True):
        gain = score - scores[0]
        if gain.mean() > _CERTAIN * gain.std() / math.sqrt(len(gain)) and gain.mean() > 0.1:
            longer = "lower" if factor > 1 else "higher"
            return (
                f"the intensities fit a {longer} beam energy better than the given one (wavelength "
                f"times {factor}): check energy_eV"
            )
    return None


@dataclass(frozen=True, eq=False)
class Pairs:
    """Peaks and the reflections that explain them.

    Parameters
    ----------
    seen, expected : (n, 2) float64
        Places, Å⁻¹.
    difference : (n,) float64
        Logarithm of intensity less that of the model, without the scale.
    level : (n,) float64
        Scale of the pattern.
    k2 : (n,) float64
    bright : (n,) bool
        Well above what is just found.
    """

    seen: Float
    expected: Float
    difference: Float
    level: Float
    k2: Float
    bright: NDArray[np.bool_]

    @classmethod
    def of(cls, table: PeakVectors, found: Matches, model: Model, settings: Settings) -> Pairs:
        rows = np.flatnonzero(found.owner >= 0)
        pattern = np.searchsorted(table.offsets, rows, side="right") - 1
        R, h = found.matrices[pattern, found.owner[rows]], found.reflection[rows]
        at = np.einsum("nij,ni->nj", R, model.g[h])
        s = at[:, 2] - settings.wavelength_A * model.k2[h] / 2
        log = expected_at(model, h, s)
        level = found.level[pattern, found.owner[rows]]
        ok = np.isfinite(log)
        return cls(
            table.peaks[rows, :2][ok],
            at[ok, :2],
            (table.peaks[rows, 2] - log)[ok],
            level[ok],
            model.k2[h][ok],
            (log + level)[ok] > settings.threshold + 1.0,
        )

    def learnt(self, settings: Settings, B: float, least_A: float | None) -> tuple[Settings, float]:
        """Settings and attenuation that fit these pairs; positions at least `least_A` wide."""
        left = self.difference - self.level
        use = self.bright if self.bright.sum() > _LEAST_PAIRS else np.ones(len(left), bool)
        slope = _robust_slope(self.k2[use], left[use])
        B = float(np.clip(B - 2 * slope, -3.0, 6.0))
        scatter = float(np.median(np.abs(left - np.median(left)))) / _STUDENT_MAD
        changes: dict[str, Any] = {
            "level": float(np.median(self.level)),
            "scatter": float(np.clip(scatter, _LEAST_SCATTER, 1.2)),
            "level_weight": 1.0,
        }
        if least_A is not None:
            apart2 = float(np.median(((self.seen - self.expected) ** 2).sum(1)))
            width = float(np.clip(_WIDE * math.sqrt(apart2 / (2 * math.log(2))), least_A, 0.03))
            changes |= {"width_A": width, "reach_A": float(np.clip(3 * width, 0.03, 0.06))}
        return settings._replace(**changes), B


def _robust_slope(x: Float, y: Float) -> float:
    """Of a line through points, a few of which are wild."""
    weight = np.ones(len(x))
    slope = 0.0
    for _ in range(5):
        mean_x, mean_y = np.average(x, weights=weight), np.average(y, weights=weight)
        spread = float(np.sum(weight * (x - mean_x) ** 2))
        slope = float(np.sum(weight * (x - mean_x) * (y - mean_y))) / max(spread, 1e-9)
        left = y - mean_y - slope * (x - mean_x)
        scale = 1.4826 * float(np.median(np.abs(left))) + 1e-9
        weight = 1 / (1 + (left / scale) ** 2 / 3)
    return slope


def detector_fit(seen: Float, expected: Float) -> tuple[Float, float]:
    """The symmetric matrix (2, 2) that maps `seen` to `expected` best, and its uncertainty.

    The uncertainty is that of half its trace: of the pixel size, relatively.
    """
    x, y = seen.T
    zero = np.zeros_like(x)
    rows = np.concatenate([np.stack([x, y, zero], 1), np.stack([zero, x, y], 1)])
    target = np.concatenate([expected[:, 0], expected[:, 1]])
    weight = np.ones(len(target))
    fit, normal, scale = np.array([1.0, 0.0, 1.0]), np.eye(3), 0.0
    for _ in range(8):
        normal = (rows * weight[:, None]).T @ rows
        fit = np.linalg.solve(normal, rows.T @ (weight * target))
        left = target - rows @ fit
        scale = 1.4826 * float(np.median(np.abs(left))) + 1e-12
        weight = 1 / (1 + (left / (2 * scale)) ** 2)
    mean = np.array([0.5, 0.0, 0.5])
    sigma = scale * math.sqrt(float(mean @ np.linalg.solve(normal, mean)))
    return np.array([[fit[0], fit[1]], [fit[1], fit[2]]]), sigma


def _symmetric(matrix: Float) -> Float:
    """The stretch of a matrix: what is left when its rotation is taken away."""
    _, values, axes = np.linalg.svd(matrix)
    return np.asarray((axes.T * values) @ axes)
