"""Which ring is which line of a known crystal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import CalibrationMissing, SolveError
from py4DSTEM.process.calibrate.dspacings import ReferenceLines
from py4DSTEM.process.calibrate.ringfit import Lines
from py4DSTEM.process.calibrate.rings import Distortion, FoundRings, Profile, Rings
from py4DSTEM.process.calibrate.ringsource import RingSource

__all__ = ["KnownRings", "known_rings"]

Float = NDArray[np.float64]
LEAST_SCORE, LEAST_SCORE_NEAR = 0.82, 0.5
"""Share of rings and lines that must agree: in general, and near a known pixel size."""
FIRST_LINES = 4
"""The innermost ring is one of so many first lines."""
FAINT = 0.1
"""Height, relative to the strongest, above which a line counts as seen."""
STRANGERS = 0.1
"""Share of rings that may belong to something else."""
AROUND = 0.12
"""Relative difference of scales that tell what chance explains."""
APART = 0.04
"""Relative difference of two scales that are not the same solution."""
RIVAL = 0.93
"""A second scale that explains this much of what the best one does makes both doubtful."""
NEAR = math.log(1.15)
"""How well an approximate pixel size is known."""


@dataclass(frozen=True, eq=False)
class KnownRings:
    """Rings of a known crystal: what to fit, to which values, and what the lines are."""

    data: Rings
    lines: Lines
    reference: ReferenceLines


def known_rings(
    source: RingSource,
    start: Distortion,
    found: FoundRings,
    reference: ReferenceLines,
    approximate: float | None = None,
) -> KnownRings:
    """All lines of `reference` that lie where rings were found, at their expected radii.

    `approximate` is a pixel size in Å⁻¹ known to 15 %; the calibrated one is used where the rings
    alone do not decide.

    Raises
    ------
    SolveError
        The rings are not those of the reference, or several scales explain them.
    """
    profile = source.data.profile(start, 0.5)
    try:
        scale = _scale(profile, found, reference, approximate)
    except SolveError:
        approximate = approximate or _calibrated(source)
        if approximate is None:
            raise
        scale = _scale(profile, found, reference, approximate)
    radii, width = reference.q_A * scale, float(np.median(found.widths))
    low = max(source.inner, found.inner, radii[0] - 3 * width)
    high = min(source.outer, found.outer, found.radii[-1] + 3 * width)
    used = reference.select((radii > low - width) & (radii < high + width))
    radii = used.q_A * scale
    lines = Lines(
        radii,
        np.zeros(len(radii), np.int64),
        width,
        foreshortened=len(radii) >= 3 and radii[-1] > 1.5 * radii[0],
        fix=(0, 1) if source.fixed_center else (),
    )
    return KnownRings(source.data.between(start, low, high), lines, used)


def _calibrated(source: RingSource) -> float | None:
    try:
        return math.sqrt(math.prod(source.calibration.Q_steps("A^-1")))
    except CalibrationMissing:
        return None


def _scale(
    profile: Profile, found: FoundRings, reference: ReferenceLines, approximate: float | None
) -> float:
    """Pixels per Å⁻¹ for which the lines explain the radial profile best."""
    if len(reference) == 1 and len(found.radii) > 1 and approximate is None:
        raise SolveError(
            f"{len(found.radii)} rings and one line: say which with inner_px=, outer_px= or "
            "approximate="
        )
    if len(found.radii) < min(3, len(reference)) and approximate is None:
        raise SolveError(
            f"{len(found.radii)} resolved rings do not tell which lines of {reference.name} they "
            "are: give approximate="
        )
    match = _Match.of(profile, found, reference)
    scales, asked = _candidates(found, reference, match.width, approximate)
    scores = np.where(asked, match.scores(scales), 0.0)
    best = float(scales[scores.argmax()])
    score = float(scores.max())
    fine = best * np.exp(np.linspace(-0.012, 0.012, 25))
    scale = float(fine[np.argmax([match.explained(s)[0] for s in fine])])
    least = LEAST_SCORE if approximate is None else LEAST_SCORE_NEAR
    if score < least or _strangers(found, reference, scale) > STRANGERS:
        rings = ", ".join(f"{r:.4g}" for r in found.radii)
        raise SolveError(
            f"the rings at {rings} px are not those of {reference.name}: check the reference, or "
            "give inner_px= and outer_px= around its rings, or approximate="
        )
    apart = np.abs(np.log(scales / best)) > APART
    if approximate is None and apart.any() and scores[apart].max() > RIVAL * scores.max():
        other = scales[apart][scores[apart].argmax()]
        raise SolveError(
            f"the rings fit {reference.name} with {1 / scale:.5g} and with {1 / other:.5g} 1/Å "
            "per pixel: give approximate="
        )
    return scale


def _strangers(found: FoundRings, reference: ReferenceLines, scale: float) -> float:
    """Share of the rings (by the roots of their heights) that are no line of a whole crystal."""
    if not reference.complete:
        return 0.0
    distance = np.abs(found.radii[:, None] - reference.q_A * scale).min(1)
    strange = distance > 0.015 * found.radii + 0.4 * found.widths
    return float(np.average(strange, weights=np.sqrt(found.heights)))


def _candidates(
    found: FoundRings, reference: ReferenceLines, width: float, approximate: float | None
) -> tuple[Float, NDArray[np.bool_]]:
    """Scales in small steps, and those for which the innermost ring is one of the first lines."""
    step = 0.3 * width / found.radii[-1]
    if approximate is not None:
        low, high = -math.log(approximate) - NEAR, -math.log(approximate) + NEAR
    else:
        last = reference.q_A[min(FIRST_LINES, len(reference)) - 1]
        low = math.log((found.radii[0] - width / 2) / last)
        high = math.log((found.radii[0] + width) / reference.q_A[0])
    scales = np.arange(low - AROUND, high + AROUND + step, step)
    return np.exp(scales), (scales >= low) & (scales <= high)


@dataclass(frozen=True, eq=False)
class _Match:
    """A radial profile, and how well lines of one width at any scale explain it."""

    radius: Float
    mean: Float
    weight: Float
    under: Float
    width: float
    reference: ReferenceLines

    @classmethod
    def of(cls, profile: Profile, found: FoundRings, reference: ReferenceLines) -> _Match:
        width = float(np.percentile(found.widths, 30))
        last = min(found.outer, found.radii[-1] + 1.5 * found.widths[-1])
        use = (profile.radius >= found.inner) & (profile.radius <= last)
        radius, mean = profile.radius[use], np.maximum(profile.mean[use], 0)
        knots = np.linspace(radius[0], radius[-1], max(2, round(np.ptp(radius) / (8 * width))))
        under = np.stack([np.interp(radius, knots, hat) for hat in np.eye(len(knots))], axis=1)
        weight = 1 / np.sqrt(mean + 0.02 * mean.max())
        return cls(radius, mean, weight, under, width, reference)

    def scores(self, scales: Float) -> Float:
        """Harmonic means of the share of the rings explained, and of the lines that are there.

        Many lines explain any rings: what other scales of the same reference explain, the median
        over the neighbourhood, is chance and does not count.
        """
        explained, expected = np.array([self.explained(scale) for scale in scales]).T
        near = np.abs(np.log(scales[:, None] / scales)) < AROUND
        chance = np.array([np.median(explained[row]) for row in near])
        explained = np.maximum(explained - chance, 0) / np.maximum(1 - chance, 1e-6)
        scores: Float = 2 * explained * expected / np.maximum(explained + expected, 1e-12)
        return scores

    def explained(self, scale: float) -> tuple[float, float]:
        """Share of the profile that the lines explain, and share of the lines that are there."""
        from scipy.optimize import nnls  # slow to import

        lines = self.reference.q_A * scale
        inside = (lines > self.radius[0]) & (lines < self.radius[-1])
        if not inside.any():
            return 0.0, 0.0
        offset = (self.radius[:, None] - lines[inside]) / self.width
        shape = np.exp(-4 * math.log(2) * offset**2)
        target = self.mean * self.weight
        heights, left = nnls(np.hstack([shape, self.under]) * self.weight[:, None], target)
        _, flat = nnls(self.under * self.weight[:, None], target)
        # A line that a neighbour hides counts as seen: what stands at its place is their sum.
        there = np.interp(lines[inside], self.radius, shape @ heights[: shape.shape[1]])
        seen = np.minimum(there / max(float(there.max()), 1e-300) / FAINT, 1)
        expected = float(np.average(seen, weights=self.reference.weights[inside]))
        return float(1 - (left / max(flat, 1e-300)) ** 2), expected
