"""Which ring is which line of a known crystal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import CalibrationMissing, SolveError
from py4DSTEM.process.calibrate.dspacings import ReferenceLines
from py4DSTEM.process.calibrate.ringfit import Lines
from py4DSTEM.process.calibrate.rings import Distortion, FoundRings, Rings
from py4DSTEM.process.calibrate.ringsource import RingSource

__all__ = ["KnownRings", "known_rings"]

Float = NDArray[np.float64]
TOLERANCE = 0.015
"""Relative deviation of a ring from its line with which both may belong together."""
LEAST_SCORE, LEAST_SCORE_NEAR = 0.6, 0.4
"""Share of rings and lines that must agree: in general, and near a known pixel size."""
RIVAL = 0.9
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
    try:
        scale = _scale(found, reference, approximate)
    except SolveError:
        approximate = approximate or _calibrated(source)
        if approximate is None:
            raise
        scale = _scale(found, reference, approximate)
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


def _scale(found: FoundRings, reference: ReferenceLines, approximate: float | None) -> float:
    """Pixels per Å⁻¹ for which rings and lines agree best.

    Every pairing of a strong ring with a line is tried; the score is the harmonic mean of the
    share of rings that lie on lines and the share of expected lines that have rings.
    """
    if len(reference) == 1 and len(found.radii) > 1 and approximate is None:
        raise SolveError(
            f"{len(found.radii)} rings and one line: say which with inner_px=, outer_px= or "
            "approximate="
        )
    strong = np.argsort(-found.heights)[:6]
    scales = (found.radii[strong][:, None] / reference.q_A).ravel()
    if approximate is not None:
        scales = scales[np.abs(np.log(scales * approximate)) < NEAR]
    scores = np.array([_score(s, found, reference) for s in scales])
    best = int(scores.argmax()) if len(scores) else 0
    least = LEAST_SCORE if approximate is None else LEAST_SCORE_NEAR
    if not len(scores) or scores[best] < least:
        rings = ", ".join(f"{r:.4g}" for r in found.radii)
        raise SolveError(
            f"the rings at {rings} px are not those of {reference.name}: check the reference, or "
            "give inner_px= and outer_px= around its rings, or approximate="
        )
    apart = np.abs(np.log(scales / scales[best])) > 3 * TOLERANCE
    if apart.any() and scores[apart].max() > RIVAL * scores[best]:
        other = scales[apart][scores[apart].argmax()]
        raise SolveError(
            f"the rings fit {reference.name} with {1 / scales[best]:.5g} and with "
            f"{1 / other:.5g} 1/Å per pixel: give approximate="
        )
    weights = np.maximum(scores[~apart] - 0.5 * scores[best], 0)
    return float(np.average(scales[~apart], weights=weights))


def _agreement(distance: Float, reach: Float) -> Float:
    """One where a ring lies on a line (distance (rings, lines)), zero beyond its reach."""
    agreement: Float = np.maximum(1 - (distance.min(1) / reach) ** 2, 0)
    return agreement


def _score(scale: float, found: FoundRings, reference: ReferenceLines) -> float:
    lines = reference.q_A * scale
    inside = (lines > found.inner) & (lines < found.radii[-1] * (1 + 2 * TOLERANCE))
    if not inside.any():
        return 0.0
    reach = TOLERANCE * found.radii + 0.15 * found.widths
    distance = np.abs(found.radii[:, None] - lines[inside])
    loud = (found.heights / found.heights.max()) ** 0.25
    rings = float(np.average(_agreement(distance, reach), weights=loud))
    # Many lines agree with any rings: what chance gives does not count.
    anywhere = np.linspace(found.radii[0] / 2, found.radii[-1], 300)
    reach_there = np.interp(anywhere, found.radii, reach)
    chance = float(_agreement(np.abs(anywhere[:, None] - lines[inside]), reach_there).mean())
    rings = max(rings - chance, 0) / (1 - chance + 1e-12)
    # A line that a neighbour hides within its width counts as seen.
    seen = (distance < (reach + 0.6 * found.widths)[:, None]).any(0)
    weights = reference.weights[inside]
    expected = float((seen * weights).sum() / weights.sum())
    return 2 * rings * expected / max(rings + expected, 1e-12)
