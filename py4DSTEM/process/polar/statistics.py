"""Mean, variance and median of the pixels of every ring, in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Detector, Disk
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.polar.bins import PolarLayout, RingBins
from py4DSTEM.process.radial import Units, as_cube, as_detector
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation, Output, Parts, PerScan
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["AzimuthalStatistics", "RingStatistics", "azimuthal_statistics"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RingStatistics:
    """What the pixels of each ring are like.

    Parameters
    ----------
    mean, variance : (..., n_r) float64
        Of the pixels of a ring, each with the area that it has of it; NaN for a ring without
        pixels.  ``(Rx, Ry, n_r)`` for a scan.
    median : (..., n_r) float64
        The value below which lies half of the area; all NaN where it was not asked for.
    area : (..., n_r) float64
        Pixels in each ring.
    axis : Axis
        Middles of the rings.
    r_px : (n_r,) float64
        The same in corrected detector pixels.
    """

    mean: Float
    variance: Float
    median: Float
    area: Float
    axis: Axis
    r_px: Float
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "azimuthal statistics"

    def __post_init__(self) -> None:
        shapes = {a.shape for a in (self.mean, self.variance, self.median, self.area)}
        if len(shapes) != 1:
            raise ShapeError(f"statistics of rings of different shapes: {sorted(shapes)}")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mean.shape

    @property
    def q(self) -> Float:
        """Radii in `units`, (n_r,)."""
        return self.axis.coordinates(self.mean.shape[-1])

    @property
    def units(self) -> str:
        """Unit of `q`."""
        return self.axis.unit

    @property
    def sigma_mean(self) -> Float:
        """Standard deviation of `mean`, from the scatter of the pixels taken as independent."""
        sigma: Float = np.full(self.shape, np.nan)
        np.divide(self.variance, self.area, out=sigma, where=self.area > 0)
        np.sqrt(sigma, out=sigma)
        return sigma

    @property
    def normalized_variance(self) -> Float:
        """``variance / mean²``, (..., n_r)."""
        ratio: Float = np.full(self.shape, np.nan)
        np.divide(self.variance, self.mean**2, out=ratio, where=self.mean != 0)
        return ratio

    def __repr__(self) -> str:
        return f"<RingStatistics {self.shape}, {self.q[0]:.4g} … {self.q[-1]:.4g} {self.units}>"


def _to_parts(found: RingStatistics) -> dict[str, Any]:
    a = found.axis
    return {
        "mean": found.mean, "variance": found.variance, "median": found.median,
        "area": found.area, "r_px": found.r_px,
        "axis": {"name": a.name, "step": a.step, "offset": a.offset, "unit": a.unit},
        "calibration": found.calibration, "history": found.history.to_dict(), "name": found.name,
    }  # fmt: skip


def _from_parts(parts: Mapping[str, Any]) -> RingStatistics:
    history = History.from_dict(parts["history"])
    return RingStatistics(**{**parts, "axis": Axis(**parts["axis"]), "history": history})


register_result("ring-statistics", RingStatistics, _to_parts, _from_parts)


class AzimuthalStatistics(RingBins, Operation, kind="azimuthal-statistics", version=1):
    """Mean, variance and, if wanted, median of the pixels of every ring of each pattern.

    Each pixel counts with the exact area that it has of a ring, so that the mean conserves
    intensity; the variance is that of pixels, not of an interpolated pattern.
    """

    median: bool = Field(False, description="Find the exact median of each ring too (slower).")

    outputs: ClassVar[Mapping[str, Output]] = {
        "mean": PerScan(np.float64),
        "variance": PerScan(np.float64),
        "median": PerScan(np.float64),
        "area": PerScan(np.float64),
    }

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        return [cls(), cls(center=(8.2, 10.1), step_px=1.5, r_max=9.0, mask=Disk(8.0), median=True)]

    def prepare(self, cube: Cube, kernels: Kernels) -> PolarLayout:
        return self.layout(cube, kernels)

    def step(self, plan: PolarLayout, tile: Tile, kernels: Kernels) -> Parts:
        origins = plan.local(tile)
        moments = kernels.ring_moments(tile.frames, plan.plan, origins)
        median = np.full(moments.mean.shape, np.nan)
        if self.median:
            median = kernels.ring_medians(tile.frames, plan.plan, origins)
        return {
            "mean": moments.mean,
            "variance": np.maximum(moments.variance, 0.0),  # never below zero by rounding
            "median": median,
            "area": moments.weight,
        }

    def finish(
        self, cube: Cube, plan: PolarLayout, parts: Parts, history: History
    ) -> RingStatistics:
        return RingStatistics(
            **parts, axis=plan.r_axis, r_px=plan.r_px, calibration=cube.calibration, history=history
        )


def azimuthal_statistics(
    data: Cube | DiffractionSlice,
    *,
    step_px: float = 1.0,
    r_min: float = 0.0,
    r_max: float | None = None,
    units: Units = "px",
    center: tuple[float, float] | None = None,
    mask: Detector | ArrayLike | None = None,
    follow_origin: bool | None = None,
    origin_parts: int = 8,
    median: bool = False,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> RingStatistics:
    """Mean, variance and median of the pixels of every ring, pattern by pattern, in one pass.

    Parameters
    ----------
    data : DataCube or DiffractionSlice
    step_px : float
        Width of the rings in detector pixels.
    r_min, r_max : float
        Inner edge of the first ring and outer edge of the last, in `units`; ``r_max=None``: the
        far corner of the detector.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Unit of `r_min` and `r_max`.
    center : (float, float), optional
        Origin (qx, qy) in pixels; None: as calibrated, for each position where it varies.
    mask : Detector or (Qx, Qy) array, optional
        Pixels that count: those with a weight of at least one half.
    follow_origin : bool, optional
        Whether to use the origin of each position; None: where the calibration holds one.
    origin_parts : int
        Origins of positions are rounded to so many parts of a pixel.
    median : bool
        Find the exact median of each ring too.
    where : (Rx, Ry) bool, optional
        Positions to compute; others are NaN.
    options : RunOptions, optional

    Returns
    -------
    RingStatistics
        ``.mean .variance .median .area`` (Rx, Ry, n_r) float64, or (n_r,) of one pattern; ``.q``.

    Raises
    ------
    CalibrationMissing
        There is no origin, and no `center` was given.
    ParameterError
        No ring fits between the radii, or the rings hold no usable pixel.

    Notes
    -----
    ``mean = Σ w v / Σ w`` and ``variance = Σ w (v − mean)² / Σ w`` over the pixels v of a ring,
    w being the exact area that each has of it.  A pixel on the edge of two rings counts in both in
    part.  Pixels that are NaN or infinite count nowhere.  Of patterns that hold counts only, with
    no structure along the ring, the variance is the mean.  `radial_profiles` shares pixels
    linearly between rings instead, which makes smoother profiles; intensity is conserved by both.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> cube = DataCube(np.random.default_rng(0).poisson(50, (2, 3, 32, 30)))
    >>> rings = azimuthal_statistics(cube, center=(16, 15), median=True)
    >>> rings.shape, round(float(np.nanmean(rings.variance[..., 5:]) / 50), 1)
    ((2, 3, 23), 1.0)
    """
    operation = AzimuthalStatistics(
        step_px=step_px,
        r_min=r_min,
        r_max=r_max,
        units=units,
        center=center,
        mask=as_detector(mask),
        follow_origin=follow_origin,
        origin_parts=origin_parts,
        median=median,
    )
    if not isinstance(data, DiffractionSlice):
        result: RingStatistics = run(operation, data, where=where, options=options)
        return result
    found: RingStatistics = run(operation, as_cube(data), options=options)
    return replace(
        found,
        **{name: getattr(found, name)[0, 0] for name in ("mean", "variance", "median", "area")},
    )
