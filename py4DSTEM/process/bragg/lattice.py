"""The lattice of every pattern: two reciprocal vectors with covariance, from the Bragg peaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import ParameterError, ShapeError, SolveError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.bragg.basis import Basis, choose_basis, lattice_origins
from py4DSTEM.process.bragg.slopes import has_slopes, smooth_slopes
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import LatticeFits
    from py4DSTEM.process.strain import StrainMap

__all__ = ["REASONS", "FitLattice", "LatticeFit", "fit_lattice"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Weights = Literal["sigma", "intensity", "equal"]
Slopes = Literal["smooth", "free"]

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
CHI2_POSITIONS = 2.0
"""Width of the Gaussian over which χ² is averaged before it scales a covariance."""
WEAK, BESIDE = 0.3, 0.6
"""Shares of amplitude beside the lattice above which another start is tried, and no fit kept."""
LATTICES = 6
"""Most lattices that are looked for in a scan."""


@dataclass(frozen=True, eq=False)
class LatticeFit:
    """Reciprocal lattice of every scan position, in calibrated axes.

    Parameters
    ----------
    g1, g2 : (Rx, Ry, 2) float64
        Lattice vectors (x, y) in `unit`; NaN where `mask` is False.
    origin : (Rx, Ry, 2) float64
        Where the fit puts the origin of the lattice, relative to the calibrated origin, in `unit`.
    covariance : (Rx, Ry, 4, 4) float64
        Of (g1x, g1y, g2x, g2y), in `unit`².
    sigma_origin : (Rx, Ry, 2) float64
        One-sigma uncertainty of `origin`.
    residual : (Rx, Ry) float64
        Weighted rms distance between peaks and lattice points, in `unit`.
    chi2 : (Rx, Ry) float64
        Reduced χ² of the fit with the covariances of the peaks: near 1 where these explain the
        residuals.  NaN where no peak is left over to test with.
    count : (Rx, Ry) int64
        Peaks on the lattice.
    mask : (Rx, Ry) bool
        True where the fit can be used.
    reason : (Rx, Ry) uint8
        Why not: a number of `REASONS`.
    several : (Rx, Ry) bool
        More of the intensity lies beside the lattice than noise explains: overlapping grains, or
        another lattice.
    basis : (2, 2) float64
        g1 and g2 (rows) from which the fit started, in `unit`.
    unit : str
        ``"A^-1"``, ``"mrad"`` …, or ``"px"`` where the pixel size is not calibrated.
    report : mapping
        Parameters that were chosen and why, and how many positions have which reason.
    """

    g1: Float
    g2: Float
    origin: Float
    covariance: Float
    sigma_origin: Float
    residual: Float
    chi2: Float
    count: NDArray[np.int64]
    mask: Bool
    reason: NDArray[np.uint8]
    several: Bool
    basis: Float
    unit: str = "px"
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "lattice"
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.mask.shape
        expected = {"g1": (2,), "g2": (2,), "origin": (2,), "sigma_origin": (2,),
                    "covariance": (4, 4), "residual": (), "chi2": (), "count": (),
                    "reason": (), "several": ()}  # fmt: skip
        for name, tail in expected.items():
            if getattr(self, name).shape != (*shape, *tail):
                raise ShapeError(
                    f"{name} of a lattice for {shape} positions has the shape {(*shape, *tail)}, "
                    f"not {getattr(self, name).shape}"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Scan shape."""
        return self.mask.shape[0], self.mask.shape[1]

    @property
    def vectors(self) -> Float:
        """g1 and g2 as the rows of a matrix per position, (Rx, Ry, 2, 2)."""
        return np.stack([self.g1, self.g2], axis=-2)

    @property
    def sigma(self) -> Float:
        """One-sigma uncertainties of (g1x, g1y, g2x, g2y), (Rx, Ry, 4), in `unit`."""
        root: Float = np.sqrt(np.diagonal(self.covariance, axis1=-2, axis2=-1))
        return root

    def strain_map(
        self,
        reference: ArrayLike | Sequence[Any] | None = None,
        *,
        axis: float | Literal["g1", "g2"] | tuple[int, int] | None = None,
        method: Literal["infinitesimal", "polar"] = "infinitesimal",
        mask: ArrayLike | None = None,
        resolution_A: Literal["auto"] | float | None = "auto",
    ) -> StrainMap:
        """Strain relative to a reference lattice; see `py4DSTEM.strain_map`."""
        from py4DSTEM.process.strain import strain_map

        return strain_map(
            self, reference, axis=axis, method=method, mask=mask, resolution_A=resolution_A
        )

    def __repr__(self) -> str:
        return (
            f"<LatticeFit {self.name!r} {self.shape}, {int(self.mask.sum())} usable, "
            f"|g1| {np.linalg.norm(self.basis[0]):.4g}, |g2| {np.linalg.norm(self.basis[1]):.4g} "
            f"{self.unit}>"
        )


def _to_parts(fit: LatticeFit) -> dict[str, Any]:
    return {**vars(fit), "history": fit.history.to_dict(), "report": dict(fit.report)}


def _from_parts(parts: Mapping[str, Any]) -> LatticeFit:
    return LatticeFit(**{**parts, "history": History.from_dict(parts["history"])})


register_result("lattice-fit", LatticeFit, _to_parts, _from_parts)


# ---- the fit -------------------------------------------------------------------------------------
class FitLattice(Analysis, kind="fit-lattice", version=1):
    """Index the Bragg peaks of every position and fit the two lattice vectors."""

    g1: tuple[float, float] | None = Field(
        None, description="First lattice vector (x, y), roughly; None: found."
    )
    g2: tuple[float, float] | None = Field(None, description="Second lattice vector.")
    max_distance_px: float | None = Field(
        None, gt=0, description="Farthest of a peak from its lattice point, in detector pixels."
    )
    refine_basis: bool = Field(True, description="Start from the mean lattice of a first fit.")
    min_peaks: int = Field(4, ge=3, description="Fewest peaks on the lattice.")
    weights: Weights = Field("sigma", description="What the weights of the peaks come from.")
    robust: bool = Field(True, description="Give peaks that do not fit less weight, or none.")
    disk_slopes: Slopes = Field(
        "smooth", description="Whether intensity slopes in disks are smoothed over the scan."
    )
    slope_smoothing: float = Field(2.0, gt=0, description="Width of that, in scan positions.")
    several_share: float = Field(
        0.2, gt=0, le=1, description="Share of the amplitude beside the lattice that is flagged."
    )

    accepts: ClassVar[tuple[type, ...]] = (PointTable,)
    cites: ClassVar[tuple[str, ...]] = ("10.1017/S1431927621000477", "10.1214/aoms/1177703732")

    def apply(self, value: Any, options: RunOptions | None = None) -> LatticeFit:
        """The lattice of a table of peaks; `options` are not needed."""
        self.check(value)
        _check_fields(value)
        basis = choose_basis(value, g1=self.g1, g2=self.g2)
        table = _Table.of(value, basis, self)
        sample, _ = table.sample()
        start = _mean_lattice(sample, basis.vectors) if self.refine_basis else basis.vectors
        ready, noise = _with_scatter(table, sample, start)
        same = np.broadcast_to(start, (table.count, 2, 2))
        fits, starts = _fit_everywhere(ready, same)
        others = 0
        if self.g1 is None and self.g2 is None:
            fits, starts, others = _other_lattices(value, ready, fits, starts)
        slopes: dict[str, Any] = {}
        if self.disk_slopes == "smooth" and has_slopes(value):
            table, slopes = self._with_smooth_slopes(value, table, fits)
        moved = (starts != same).any((1, 2))
        if slopes or moved.any():
            sample, chosen = table.sample()
            ready, noise = _with_scatter(table, sample, starts[chosen])
            fits, starts = _fit_everywhere(ready, starts)
        report = {
            "basis": dict(basis.report), "origin": table.origin_source, "weights": table.weights,
            "largest distance (px)": table.max_distance_px, **noise, "disk slopes": slopes,
            "lattices": 1 + others,
            "started elsewhere": int(moved.sum()),
        }  # fmt: skip
        return self._result(value, table, start, _without_poor(fits), report)

    def _with_smooth_slopes(
        self, peaks: PointTable, table: _Table, fits: LatticeFits
    ) -> tuple[_Table, dict[str, Any]]:
        prior = getattr(peaks, "report", {}).get("slope_prior")
        update = smooth_slopes(
            peaks,
            fits.indices,
            np.isfinite(fits.distance),
            sigma_positions=self.slope_smoothing,
            prior_px=prior,
        )
        covariances = table.covariances.copy()
        for axis in (0, 2):
            # A variance cannot become negative; what is left then was rounding.
            least = 0.01 * covariances[:, axis]
            covariances[:, axis] = np.maximum(covariances[:, axis] + update.variance, least)
        return (
            replace(table, points=table.points + update.shift, covariances=covariances),
            update.report,
        )

    def _result(
        self,
        peaks: PointTable,
        table: _Table,
        start: Float,
        fits: LatticeFits,
        report: dict[str, Any],
    ) -> LatticeFit:
        shape = peaks.shape
        scale = _covariance_scale(fits, shape)
        covariance = fits.covariance * scale[:, None, None]
        mask = fits.reason == 0
        several = (fits.beside[:, 0] > self.several_share) & (fits.beside[:, 1] >= 3)
        report["positions"] = _counted(fits.reason)
        report["several lattices"] = int(several.sum())
        calibration = peaks.calibration
        if calibration.origin_px is None:
            calibration = calibration.replace(origin_px=table.origins.reshape(*shape, 2))
        return LatticeFit(
            g1=fits.parameters[:, 2:4].reshape(*shape, 2),
            g2=fits.parameters[:, 4:6].reshape(*shape, 2),
            origin=fits.parameters[:, :2].reshape(*shape, 2),
            covariance=np.ascontiguousarray(covariance[:, 2:, 2:]).reshape(*shape, 4, 4),
            sigma_origin=np.sqrt(covariance[:, [0, 1], [0, 1]]).reshape(*shape, 2),
            residual=fits.residual.reshape(shape),
            chi2=fits.chi2.reshape(shape),
            count=fits.count.reshape(shape),
            mask=mask.reshape(shape),
            reason=fits.reason.reshape(shape),
            several=several.reshape(shape),
            basis=start,
            unit=peaks.vector_unit,
            calibration=calibration,
            history=self.history(peaks.history),
            report=report,
        )


def fit_lattice(
    peaks: PointTable,
    g1: Sequence[float] | None = None,
    g2: Sequence[float] | None = None,
    *,
    max_distance_px: float | None = None,
    refine_basis: bool = True,
    min_peaks: int = 4,
    weights: Weights = "sigma",
    robust: bool = True,
    disk_slopes: Slopes = "smooth",
    slope_smoothing: float = 2.0,
    several_share: float = 0.2,
) -> LatticeFit:
    """Fit the reciprocal lattice of every scan position to its Bragg peaks.

    Parameters
    ----------
    peaks : BraggPeaks
        Any table with ``qx, qy`` in detector pixels; ``intensity`` and uncertainties where there
        are any.
    g1, g2 : (float, float), optional
        Lattice vectors (x, y) in ``peaks.vector_unit``, roughly; None: found (`choose_basis`).
    max_distance_px : float, optional
        Farthest that a peak may lie from its lattice point, in detector pixels; None: a quarter of
        the shortest lattice vector.
    refine_basis : bool
        Start every position from the median lattice of a first fit of some positions.
    min_peaks : int
        Fewest peaks on the lattice; positions with less are masked.
    weights : "sigma", "intensity" or "equal"
        From the uncertainties of the peaks (where there are none: variances ``a + b / intensity``
        from the residuals); from variances that go as 1 / intensity; equal.
    robust : bool
        Peaks beyond 3 standard deviations count less (Huber), beyond 8 not at all.
    disk_slopes : "smooth" or "free"
        Whether the intensity slopes in the disks of a reflection are smooth over the scan.
    slope_smoothing : float
        Standard deviation of that average, in scan positions.
    several_share : float
        Positions where at least three peaks with more than this share of the amplitude (root of
        intensity) lie beside the lattice are flagged in ``several``.

    Returns
    -------
    LatticeFit

    Raises
    ------
    SolveError
        The peaks have no lattice in common.
    CalibrationMissing
        The calibrated origin is nowhere finite.
    ParameterError
        There are no fields ``qx, qy``, or a parameter makes no sense.

    Notes
    -----
    Model: calibrated vector of peak i ``v_i = o + h_i g1 + k_i g2``, the offset o free, so that an
    error of the origin does not become strain.  Indices are found from the inside outwards,
    starting from the mean lattice; where that fails, from the lattice of fitted neighbours, and
    then (unless g1 or g2 is given) from a lattice that the positions without one have in common:
    another grain.  Least squares with the full 2 × 2 covariance of each peak, brought to
    calibrated axes.

    If the residuals of the whole scan are larger than the covariances of the peaks allow, these
    are enlarged until the median squared distance is the expected one: those of weak peaks, v to
    ``v (1 + κ v)`` with κ from their residuals, and then, if need be, all by the same variance
    (``report``: "growth of variances", "added scatter").  The weights then follow the errors that
    there are.  The covariance of a position is the inverse of the normal matrix times the reduced
    χ² of its surroundings (Gaussian of 2 positions) where that exceeds one, or times its own where
    that stands out.

    Where the intensity inside a disk varies (excitation error), the position of the disk is
    correlated with the fitted slope.  Along a crystal the slope of one reflection changes slowly:
    its neighbours tell it better, and the position is taken conditionally on their average, as far
    as the data show it to be smooth (`py4DSTEM.process.bragg.slopes.smooth_slopes`).

    Method: doi:10.1017/S1431927621000477; robust weights: doi:10.1214/aoms/1177703732.

    Examples
    --------
    >>> import py4DSTEM
    >>> scan = py4DSTEM.simulate.strained_lattice((4, 5), strain={"e_xx": 0.01}, seed=1)
    >>> lattice = fit_lattice(scan.truth.peaks())
    >>> lattice.g1[2, 3].round(4).tolist(), lattice.unit
    ([0.2376, 0.05], 'A^-1')
    """
    return FitLattice(
        g1=g1,
        g2=g2,
        max_distance_px=max_distance_px,
        refine_basis=refine_basis,
        min_peaks=min_peaks,
        weights=weights,
        robust=robust,
        disk_slopes=disk_slopes,
        slope_smoothing=slope_smoothing,
        several_share=several_share,
    ).apply(peaks)


def _check_fields(peaks: PointTable) -> None:
    missing = {"qx", "qy"} - set(peaks.dtype.names or ())
    if missing:
        raise ParameterError(
            f"{peaks.name!r} has no field {sorted(missing)[0]!r}, only {peaks.dtype.names}: a "
            "lattice is fitted to tables of Bragg peaks with qx, qy in detector pixels"
        )


def _counted(reasons: NDArray[np.uint8]) -> dict[str, int]:
    counts = np.bincount(reasons, minlength=len(REASONS))
    return {name: int(n) for name, n in zip(REASONS, counts, strict=True) if n}


# ---- what is fitted ------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Table:
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
    def of(cls, peaks: PointTable, basis: Basis, options: FitLattice) -> _Table:
        matrix = peaks.calibration.Q_matrix(basis.unit)
        in_px = np.linalg.inv(matrix) @ basis.vectors.T
        shortest = float(np.linalg.norm(in_px, axis=0).min())
        columns = _columns(peaks)
        intensity = _positive(columns.get("intensity"), len(peaks))
        covariances, weights = _covariances(columns, intensity, options.weights)
        origins, source = lattice_origins(peaks)
        return cls(
            points=np.stack([columns["qx"], columns["qy"]], -1),
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

    def sample(self) -> tuple[_Table, NDArray[np.int64]]:
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

    def with_growth(self, growth: float) -> _Table:
        """With variances v that become ``v (1 + growth v)``; correlations stay."""
        if growth == 0:
            return self
        factor = 1 + growth * self.covariances[:, [0, 2]].mean(1, keepdims=True)
        return replace(self, covariances=self.covariances * factor)

    def noisier(self, factor: float = 1.0, added: float = 0.0) -> _Table:
        """With covariances multiplied, and a variance added along both axes."""
        if factor == 1 and added == 0:
            return self
        return replace(self, covariances=self.covariances * factor + [added, 0.0, added])


def _columns(peaks: PointTable) -> dict[str, Float]:
    """The fields that matter, as float64, taken from the table in one go."""
    from numpy.lib.recfunctions import structured_to_unstructured

    wanted = ("qx", "qy", "intensity", "sigma_qx", "sigma_qy", "cov_qxqy")
    names = [name for name in wanted if name in (peaks.dtype.names or ())]
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
        x, y = columns["sigma_qx"] ** 2, columns["sigma_qy"] ** 2
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


# ---- steps of the fit ----------------------------------------------------------------------------
def _mean_lattice(sample: _Table, start: Float) -> Float:
    """The median lattice of the sample, if it can be fitted at most positions."""
    for _ in range(2):
        fits = sample.fit(start)
        if (fits.reason == 0).sum() * 2 < sample.count:
            break
        start = np.median(fits.parameters[fits.reason == 0, 2:], axis=0).reshape(2, 2)
    return start


def _with_scatter(table: _Table, sample: _Table, start: Float) -> tuple[_Table, dict[str, Any]]:
    """The table with covariances such that residuals are as expected, and what was done to them."""
    if table.weights == "sigma":
        growth = _growth(sample, start)
        added = _added_variance(sample.with_growth(growth), start)
        noise = {"growth of variances (px^-2)": growth, "added scatter (px)": math.sqrt(added)}
        return table.with_growth(growth).noisier(added=added), noise
    if table.weights == "scatter":
        variance = _variance_by_intensity(sample, start)(table.intensity)
        covariances = table.covariances * variance[:, None]
        typical = (
            float(np.median(variance[:: max(len(variance) // 4096, 1)])) if len(variance) else 0
        )
        return replace(table, covariances=covariances), {"sigma per peak (px)": math.sqrt(typical)}
    factor = 1.0
    for huber in (math.inf, HUBER):
        found, _ = _median_chi2(sample.noisier(factor), start, huber)
        factor *= found if math.isfinite(found) and found > 0 else 1.0
    return table.noisier(factor), {"sigma per peak (px)": math.sqrt(factor)}


def _variance_by_intensity(sample: _Table, start: Float) -> Callable[[Float], Float]:
    """Variance ``a + b / intensity`` of a peak, from the residuals of fits with equal weights."""
    from scipy.optimize import nnls

    square, known = _squares(sample.fit(start), sample)
    square, inverse = square[known], 1 / sample.intensity[known]
    if len(square) < 16 or not square.any():
        return lambda intensity: np.ones(len(intensity))
    groups = np.array_split(np.argsort(inverse, kind="stable"), min(8, len(square) // 8))
    variance = np.array([np.median(square[g]) for g in groups])
    design = np.array([[1.0, inverse[g].mean()] for g in groups])
    variance = np.maximum(variance, 1e-6 * variance.max())
    scale = design.mean(0)
    (a, b), _ = nnls(design / scale / variance[:, None], np.ones(len(groups)))
    return lambda intensity: a / scale[0] + b / scale[1] / intensity


def _growth(sample: _Table, start: Float) -> float:
    """κ (1/px²) such that variances ``v (1 + κ v)`` explain how far weak peaks scatter.

    The variance of a weak disk is that of a fit taken as linear, which misses terms of second
    order; in real patterns weak disks are also the least like the template.
    """
    from scipy.optimize import nnls

    square, known = _squares(sample.fit(start), sample)
    variance = sample.covariances[:, [0, 2]].mean(1)
    rows = np.flatnonzero(known & np.isfinite(variance))
    if len(rows) < 128:
        return 0.0
    # The strongest quarter holds the fit so firmly that its residuals do not show its errors.
    rows = rows[np.argsort(variance[rows], kind="stable")][len(rows) // 4 :]
    groups = np.array_split(rows, 8)
    v = np.array([variance[g].mean() for g in groups])
    excess = np.array([np.median(square[g]) - 1 for g in groups])
    if not excess.mean() > 3 * 1.5 / math.sqrt(len(rows)):
        return 0.0
    # A scatter that all peaks share shows in the strong ones: it is told apart, not counted.
    (growth, _), _ = nnls(np.stack([v / v.mean(), v.mean() / v], axis=1), np.maximum(excess, 0.0))
    return float(growth / v.mean())


def _added_variance(sample: _Table, start: Float) -> float:
    """Variance (px²) to be added to that of all peaks so that the median χ² becomes 1."""
    from scipy.optimize import brentq

    found, peaks = _median_chi2(sample, start, HUBER)
    # The median of n squared distances is known to about 1.5 / √n of itself.
    if not found > 1 + 3 * 1.5 / math.sqrt(max(peaks, 1)):
        return 0.0

    def excess(log_variance: float) -> float:
        return _median_chi2(sample.noisier(added=math.exp(log_variance)), start, HUBER)[0] - 1

    high = math.log(4 * found * float(np.median(sample.covariances[:, [0, 2]])))
    low = high - 16.0
    while excess(high) > 0:
        high += 2.0
    return math.exp(brentq(excess, low, high, xtol=0.01)) if excess(low) > 0 else 0.0


def _median_chi2(table: _Table, start: Float, huber: float) -> tuple[float, int]:
    """Median squared distance over its expectation, and of how many peaks."""
    square, known = _squares(table.fit(start, huber=huber), table)
    return (float(np.median(square[known])) if known.any() else math.nan), int(known.sum())


def _squares(fits: LatticeFits, table: _Table) -> tuple[Float, Bool]:
    """Squared distance of every peak over its expected median, and where there is one."""
    explained = np.repeat((fits.beside[:, 0] <= WEAK) & (fits.count > 3), np.diff(table.offsets))
    known = np.isfinite(fits.distance) & explained
    # A peak that holds the fit has residuals smaller than its errors.
    free = np.maximum(1 - _leverage(fits, table), 0.1)
    return fits.distance**2 / (2 * math.log(2) * free), known


def _leverage(fits: LatticeFits, table: _Table) -> Float:
    """Share of the variance of every peak (n,) that the fit follows, mean of the two axes."""
    position = np.repeat(np.arange(table.count), np.diff(table.offsets))
    design = np.column_stack([np.ones(len(position)), fits.indices])
    blocks = fits.covariance.reshape(-1, 3, 2, 3, 2)[position]
    fitted = np.einsum("na,naibj,nb->nij", design, blocks, design)
    own = table.covariances[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
    own = table.matrix @ own @ table.matrix.T
    a, b, c = own[:, 0, 0], own[:, 0, 1], own[:, 1, 1]
    # trace(own⁻¹ fitted) / 2, written out
    share: Float = c * fitted[:, 0, 0] - 2 * b * fitted[:, 0, 1] + a * fitted[:, 1, 1]
    return share / (2 * (a * c - b * b))


def _fit_everywhere(table: _Table, starts: Float) -> tuple[LatticeFits, Float]:
    """All positions; failures again from their neighbours; and from where each one started."""
    fits, starts = _from_fitted(table, table.fit_as_asked(starts), starts)
    failed = np.isin(fits.reason, (2, 3)) & (np.diff(table.offsets) >= table.min_peaks)
    if table.robust and failed.any():
        # Where all peaks scatter far more than elsewhere none must be rejected; χ² will tell.
        plain = table.fit(starts, failed)
        fits = _replaced(fits, plain, failed & (plain.reason == 0), table.offsets)
    return fits, starts


def _from_fitted(table: _Table, fits: LatticeFits, starts: Float) -> tuple[LatticeFits, Float]:
    """Weak positions again, from their neighbours, as long as that helps."""
    for _ in range(sum(table.shape)):
        weak = _weak(table, fits)
        if not weak.any():
            break
        mean, near = _from_neighbours(fits, (fits.reason == 0) & ~weak, table.shape)
        fits, better = _tried(table, fits, mean, weak & near)
        if not better.any():
            break
        starts = np.where(better[:, None, None], mean, starts)
    return fits, starts


def _weak(table: _Table, fits: LatticeFits) -> Bool:
    """Positions with enough peaks, but no lattice that explains them."""
    weak: Bool = (fits.reason != 0) | (fits.beside[:, 0] > WEAK)
    return weak & (np.diff(table.offsets) >= table.min_peaks)


def _tried(table: _Table, fits: LatticeFits, starts: Float, todo: Bool) -> tuple[LatticeFits, Bool]:
    """Fits from other starts where they are better, and where that is."""
    again = table.fit_as_asked(starts, todo)
    better = todo & (again.reason == 0)
    better &= (fits.reason != 0) | (again.beside[:, 0] < fits.beside[:, 0] - 0.1)
    return _replaced(fits, again, better, table.offsets), better


def _other_lattices(
    peaks: PointTable, table: _Table, fits: LatticeFits, starts: Float
) -> tuple[LatticeFits, Float, int]:
    """Other lattices at positions that the first one does not explain, and how many."""
    for found in range(LATTICES):
        weak = _weak(table, fits)
        if weak.sum() < 3:
            return fits, starts, found
        try:
            basis = choose_basis(peaks.select(np.repeat(weak, np.diff(peaks.offsets))))
        except SolveError:
            return fits, starts, found
        other = np.broadcast_to(basis.vectors, starts.shape)
        fits, better = _tried(table, fits, other, weak)
        if not better.any():
            return fits, starts, found
        starts = np.where(better[:, None, None], other, starts)
        fits, starts = _from_fitted(table, fits, starts)
    return fits, starts, LATTICES


def _without_poor(fits: LatticeFits) -> LatticeFits:
    """Fits that leave most of the amplitude beside the lattice become none."""
    poor = (fits.reason == 0) & (fits.beside[:, 0] > BESIDE)
    if not poor.any():
        return fits
    nothing = {
        name: np.where(
            poor.reshape(-1, *[1] * (getattr(fits, name).ndim - 1)), np.nan, getattr(fits, name)
        )
        for name in ("parameters", "covariance", "residual", "chi2")
    }
    reason = np.where(poor, REASONS.index("most peaks beside the lattice"), fits.reason)
    return fits._replace(**nothing, reason=reason.astype(np.uint8))


def _from_neighbours(fits: LatticeFits, good: Bool, shape: tuple[int, int]) -> tuple[Float, Bool]:
    """Mean lattice (P, 2, 2) of the up to eight neighbours, and where there are any."""
    from scipy.ndimage import convolve

    ring = np.ones((3, 3))
    ring[1, 1] = 0.0
    number = convolve(good.reshape(shape).astype(float), ring, mode="constant").ravel()
    vectors = np.where(good[:, None], fits.parameters[:, 2:], 0.0)
    sums = [convolve(v.reshape(shape), ring, mode="constant").ravel() for v in vectors.T]
    mean = np.stack(sums, -1) / np.maximum(number, 1)[:, None]
    return mean.reshape(-1, 2, 2), number > 0


def _replaced(
    fits: LatticeFits, other: LatticeFits, where: Bool, offsets: NDArray[np.int64]
) -> LatticeFits:
    """`fits` with positions `where` (and their points) from `other`."""
    rows = np.repeat(where, np.diff(offsets))
    merged = {}
    for name, old in fits._asdict().items():
        chosen = rows if name in ("indices", "distance") else where
        merged[name] = np.where(
            chosen.reshape(-1, *[1] * (old.ndim - 1)), getattr(other, name), old
        )
    return fits._replace(**merged)


def _covariance_scale(fits: LatticeFits, shape: tuple[int, int]) -> Float:
    """Factor (P,) of the covariances: χ² of the surroundings, or of the position, if above 1."""
    from scipy.ndimage import gaussian_filter

    known = np.isfinite(fits.chi2)
    freedom = np.where(known, 2.0 * fits.count - 6, 0.0)
    own = np.where(known, fits.chi2, 0.0)
    sums, weights = (
        gaussian_filter(a.reshape(shape), CHI2_POSITIONS, mode="constant").ravel()
        for a in (own * freedom, freedom)
    )
    around = np.divide(sums, weights, out=np.ones(len(own)), where=weights > 1e-6)
    limit = 1 + 5 * np.sqrt(2 / np.maximum(freedom, 1.0))
    scale: Float = np.maximum(1.0, np.where(own > around * limit, own, around))
    return scale
