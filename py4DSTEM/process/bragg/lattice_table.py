"""The peaks of a scan as plain columns, ready for the compiled fit of lattices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.points import FARTHEST_PX, PointTable
from py4DSTEM.process.bragg.basis import Basis, lattice_origins

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import LatticeFits
    from py4DSTEM.process.bragg.lattice import FitLattice

__all__ = ["REASONS", "PeakColumns", "Weights"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Weights = Literal["sigma", "intensity", "equal"]

REASONS = (
    "usable",
    "no peaks",
    "too few peaks on the lattice",
    "peaks on one line",
    "far from the starting lattice",
    "most peaks beside the lattice",
)
"""What the codes of `LatticeFit.reason` mean."""
HUBER, REJECT = 3.0, 8.0
"""Standard deviations beyond which a peak counts less, and not at all."""
SAMPLE = 384
"""Positions, evenly spaced, from which scatter and mean lattice are taken."""


@dataclass(frozen=True, eq=False)
class PeakColumns:
    """Arguments of the kernel, for all positions or some of them."""

    points: Float
    covariances: Float
    intensity: Float
    amplitude: Float
    offsets: NDArray[np.int64]
    origins: Float
    shape: tuple[int, int]
    matrix: Float
    max_distance_px: float
    min_peaks: int
    robust: bool
    weights: str
    origin_source: str

    @classmethod
    def of(cls, peaks: PointTable, basis: Basis, options: FitLattice) -> PeakColumns:
        matrix = peaks.calibration.Q_matrix(basis.unit)
        in_px = np.linalg.inv(matrix) @ basis.vectors.T
        shortest = float(np.linalg.norm(in_px, axis=0).min())
        columns = _columns(peaks)
        intensity = _positive(columns.get("intensity"), len(peaks))
        covariances, weights = _covariances(columns, intensity, options.weights)
        origins, source = lattice_origins(peaks)
        return cls(
            points=peaks.positions_px,
            covariances=covariances,
            intensity=intensity,
            amplitude=np.sqrt(intensity),
            offsets=peaks.offsets,
            origins=origins,
            shape=peaks.shape,
            matrix=matrix,
            max_distance_px=options.max_distance_px or 0.25 * shortest,
            min_peaks=options.min_peaks,
            robust=options.robust,
            weights=weights,
            origin_source=source,
        )

    @property
    def count(self) -> int:
        """Positions."""
        return len(self.offsets) - 1

    def fit(
        self,
        starts: Float,  # (2, 2), or one for each position
        todo: Bool | None = None,
        *,
        huber: float = math.inf,
        reject: float = math.inf,
    ) -> LatticeFits:
        from py4DSTEM.kernels import compiled

        return compiled().fit_lattices(
            self.points,
            self.covariances,
            self.amplitude,
            self.offsets,
            self.origins,
            self.matrix,
            np.broadcast_to(starts, (self.count, 2, 2)),
            todo,
            max_distance=self.max_distance_px * math.sqrt(abs(np.linalg.det(self.matrix))),
            min_count=self.min_peaks,
            huber=huber,
            reject=reject,
        )

    def fit_as_asked(self, starts: Float, todo: Bool | None = None) -> LatticeFits:
        """Robust or not."""
        huber, reject = (HUBER, REJECT) if self.robust else (math.inf, math.inf)
        return self.fit(starts, todo, huber=huber, reject=reject)

    def sample(self) -> tuple[PeakColumns, NDArray[np.int64]]:
        """Some positions that have enough peaks, evenly spaced, and which they are."""
        enough = np.flatnonzero(np.diff(self.offsets) >= self.min_peaks)
        if len(enough) <= SAMPLE:
            return self, np.arange(self.count)
        chosen = enough[np.linspace(0, len(enough) - 1, SAMPLE).astype(int)]
        lengths = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        rows = np.repeat(self.offsets[chosen], lengths) + within
        part = replace(
            self,
            points=self.points[rows],
            covariances=self.covariances[rows],
            intensity=self.intensity[rows],
            amplitude=self.amplitude[rows],
            offsets=offsets,
            origins=self.origins[chosen],
        )
        return part, chosen

    def with_growth(self, growth: float) -> PeakColumns:
        """With variances v that become ``v (1 + growth v)``; correlations stay."""
        if growth == 0:
            return self
        factor = 1 + growth * self.covariances[:, [0, 2]].mean(1, keepdims=True)
        return replace(self, covariances=self.covariances * factor)

    def noisier(self, factor: float = 1.0, added: float = 0.0) -> PeakColumns:
        """With covariances multiplied, and a variance added along both axes."""
        if factor == 1 and added == 0:
            return self
        return replace(self, covariances=self.covariances * factor + [added, 0.0, added])


def _columns(peaks: PointTable) -> dict[str, Float]:
    """The fields that matter, as float64, taken from the table in one go."""
    from numpy.lib.recfunctions import structured_to_unstructured

    wanted = ("intensity", "sigma_qx", "sigma_qy", "cov_qxqy")
    names = [name for name in wanted if name in (peaks.dtype.names or ())]
    if not names:
        return {}
    rows = structured_to_unstructured(peaks.points[names], dtype=np.float64)
    return dict(zip(names, np.ascontiguousarray(rows.T), strict=True))


def _positive(intensity: Float | None, n: int) -> Float:
    """Intensities (n,), those not known or not positive as a thousandth of the mean; or ones."""
    if intensity is None:
        return np.ones(n)
    good = np.isfinite(intensity) & (intensity > 0)
    if not good.any():
        return np.ones(n)
    least = 1e-3 * float(intensity.mean() if good.all() else intensity[good].mean())
    return np.maximum(np.where(good, intensity, 0.0), least)


def _covariances(
    columns: Mapping[str, Float], intensity: Float, weights: Weights
) -> tuple[Float, str]:
    """Variance along x, covariance, variance along y (n, 3) in px², and where they are from.

    Other than for "sigma" they are relative only.
    """
    out = np.zeros((len(intensity), 3))
    if weights == "sigma" and {"sigma_qx", "sigma_qy"} <= set(columns):
        # What is no uncertainty (zero, negative, or too large to be squared) is not known.
        x, y = (
            np.where((s > 0) & (s < FARTHEST_PX), s, np.nan) ** 2
            for s in (columns["sigma_qx"], columns["sigma_qy"])
        )
        mixed = columns.get("cov_qxqy", np.zeros(len(x)))
        known = np.isfinite(x) & np.isfinite(y) & (x * y > mixed * mixed)
        if known.any():
            out[:, 0], out[:, 1], out[:, 2] = x, mixed, y
            # A peak without its own uncertainty gets that of a typical one of its intensity.
            lost = ~known
            typical = np.median((x + y)[known] / 2 * intensity[known]) if lost.any() else 0.0
            out[lost] = (typical / intensity[lost])[:, None] * np.array([1.0, 0.0, 1.0])
            return out, "sigma"
    if weights == "intensity":
        out[:, 0] = out[:, 2] = intensity.mean() / intensity
        return out, "intensity"
    out[:, 0] = out[:, 2] = 1.0
    return out, "scatter" if weights == "sigma" else "equal"
