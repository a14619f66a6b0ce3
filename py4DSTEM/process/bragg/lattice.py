"""The lattice of every pattern: two reciprocal vectors with covariance, from the Bragg peaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.bragg.basis import choose_basis
from py4DSTEM.process.bragg.lattice_noise import covariance_scale, with_scatter
from py4DSTEM.process.bragg.lattice_search import (
    fit_everywhere,
    mean_lattice,
    other_lattices,
    without_poor,
)
from py4DSTEM.process.bragg.lattice_table import REASONS, PeakColumns, Weights
from py4DSTEM.process.bragg.slopes import has_slopes, smooth_slopes
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import LatticeFits
    from py4DSTEM.process.strain import StrainMap

__all__ = ["REASONS", "FitLattice", "LatticeFit", "fit_lattice"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Slopes = Literal["smooth", "free"]


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
        table = PeakColumns.of(value, basis, self)
        sample, _ = table.sample()
        start = mean_lattice(sample, basis.vectors) if self.refine_basis else basis.vectors
        ready, noise = with_scatter(table, sample, start)
        same = np.broadcast_to(start, (table.count, 2, 2))
        fits, starts = fit_everywhere(ready, same)
        others = 0
        if self.g1 is None and self.g2 is None:
            fits, starts, others = other_lattices(value, ready, fits, starts)
        slopes: dict[str, Any] = {}
        if self.disk_slopes == "smooth" and has_slopes(value):
            table, slopes = self._with_smooth_slopes(value, table, fits)
        moved = (starts != same).any((1, 2))
        if slopes.get("reflections") or moved.any():
            sample, chosen = table.sample()
            ready, noise = with_scatter(table, sample, starts[chosen])
            fits, starts = fit_everywhere(ready, starts)
        report = {
            "basis": dict(basis.report), "origin": table.origin_source, "weights": table.weights,
            "largest distance (px)": table.max_distance_px, **noise, "disk slopes": slopes,
            "lattices": 1 + others,
            "started elsewhere": int(moved.sum()),
        }  # fmt: skip
        return self._result(value, table, start, without_poor(fits), report)

    def _with_smooth_slopes(
        self, peaks: PointTable, table: PeakColumns, fits: LatticeFits
    ) -> tuple[PeakColumns, dict[str, Any]]:
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
        table: PeakColumns,
        start: Float,
        fits: LatticeFits,
        report: dict[str, Any],
    ) -> LatticeFit:
        shape = peaks.shape
        scale = covariance_scale(fits, shape)
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
