"""Patterns in polar bins for what looks around rings, and the noise that counting gives them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector
from py4DSTEM.errors import CalibrationMissing, ParameterError
from py4DSTEM.process.radial import Units, ring_axis, ring_metric
from py4DSTEM.stream.operation import Operation
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["Around", "AroundPlan", "bin_covariance"]

Float = NDArray[np.float64]
MOST_BINS = 4_000_000


@dataclass(frozen=True, eq=False)
class AroundPlan:
    """Polar bins and their noise.

    Parameters
    ----------
    bins : PolarPlan or PolarPlans
    middle : PolarPlan
        About the mean origin.
    origins : (Rx, Ry, 2) float64, optional
        Where they vary.
    covariance : (n_r, n_phi) float64
        Of two bins a lag apart, for pixels of unit variance, averaged around the ring.
    gain : float
        Counts per electron.
    pixels : (n_r,) float64
        Area of the rings.
    axis : Axis
        Of the middles of the rings.
    """

    bins: Any
    middle: Any
    origins: Float | None
    covariance: Float
    gain: float
    pixels: Float
    axis: Axis

    def means(self, tile: Tile, some: slice, kernels: Kernels) -> Float:
        """Mean intensity in each bin of some patterns of a tile, (n, n_r, n_phi)."""
        origins = None if self.origins is None else tile.local(self.origins)[some]
        found: Float = kernels.polar_means(tile.frames[some], self.bins, origins).astype(np.float64)
        return found


class Around(Operation):
    """Parameters of polar bins, shared by what looks around rings."""

    r_range: tuple[float, float] | None = Field(
        None, description="Inner and outer radius, in `units`; None: from 0 to the nearest edge."
    )
    units: Units = Field("px", description="Unit of r_range.")
    r_step_px: float = Field(1.0, gt=0, description="Width of the rings in detector pixels.")
    n_phi: int = Field(180, ge=8, le=3600, description="Bins around a ring.")
    center: tuple[float, float] | None = Field(
        None, description="Origin (qx, qy) in pixels; None: as calibrated."
    )
    mask: AnyDetector | None = Field(
        None, description="Pixels that count: where its weight is at least one half."
    )
    follow_origin: bool | None = Field(
        None, description="Use the origin of each position; None: where the calibration has them."
    )
    gain: float | None = Field(
        None, ge=0, description="Counts per electron; None: 1 for integers, no noise for floats."
    )
    read_variance: float = Field(0.0, ge=0, description="Variance of a pixel without electrons.")

    def prepare(self, cube: Cube, kernels: Kernels) -> AroundPlan:
        calibration = cube.calibration
        origin = calibration.mean_origin_px if self.center is None else self.center
        metric = ring_metric(calibration)
        keep = np.ones(cube.Q_shape, bool)
        if self.mask is not None:
            keep = self.mask.weights(cube.Q_shape, calibration) >= 0.5
        low, high = self._edges(cube, origin, metric)
        n_r = max(1, round((high - low) / self.step_of(low, high)))
        step = (high - low) / n_r
        if n_r * self.n_phi > MOST_BINS:
            raise ParameterError(f"{n_r} rings of {self.n_phi} bins are too many")
        grid = {"r_min": low, "r_step": step, "ellipse": metric, "mask": keep}
        middle = kernels.polar_plan(cube.Q_shape, origin, n_r, self.n_phi, **grid)
        pixels = middle.area.sum(axis=1)
        if not (pixels > 0).any():
            raise ParameterError(
                f"no usable pixel lies between {low:.4g} and {high:.4g} px from the origin "
                f"({origin[0]:.1f}, {origin[1]:.1f}): check the radii, the origin and the mask"
            )
        bins, origins = middle, None
        if self._follows(calibration):
            origins = np.asarray(calibration.origin_px)
            bins = kernels.polar_plans(cube.Q_shape, origins, n_r, self.n_phi, **grid)
        gain = self.gain
        if gain is None:
            gain = 1.0 if cube.dtype.kind in "biu" else 0.0
        whole = ring_axis(calibration, step)
        axis = Axis(whole.name, whole.step, (low / step + 0.5) * whole.step, whole.unit)
        return AroundPlan(bins, middle, origins, bin_covariance(middle), gain, pixels, axis)

    def step_of(self, low: float, high: float) -> float:
        """Width of the rings between two radii, in detector pixels."""
        return min(self.r_step_px, high - low)

    def _edges(self, cube: Cube, origin: tuple[float, float], metric: Float) -> tuple[float, float]:
        """Inner and outer radius in corrected pixels."""
        if self.r_range is not None:
            scale = math.sqrt(math.prod(cube.calibration.Q_steps(self.units)))
            low, high = (r / scale for r in self.r_range)
            if not 0 <= low < high:
                raise ParameterError(f"r_range holds two rising radii, not {self.r_range}")
            return low, high
        x, y = origin
        to_edge = min(x, y, cube.Q_shape[0] - 1 - x, cube.Q_shape[1] - 1 - y)
        if not to_edge > 1:
            raise ParameterError(
                f"the origin ({x:.1f}, {y:.1f}) lies at the edge of the detector: give r_range"
            )
        return 0.0, to_edge * float(np.linalg.svd(metric)[1][-1])

    def _follows(self, calibration: Calibration) -> bool:
        if self.center is not None:
            if self.follow_origin:
                raise ParameterError("center and follow_origin=True exclude each other")
            return False
        if self.follow_origin and not calibration.origin_varies:
            raise CalibrationMissing(
                "origin per scan position", "calibrate_origin(cube) measures it"
            )
        return calibration.origin_varies and self.follow_origin is not False


def bin_covariance(plan: Any) -> Float:
    """Covariance of the means of two bins by their lag, for pixels of unit variance, (n_r, n_phi).

    ``K(Δ) = Σ_l Σ_p w_pl w_p,l+Δ / (A_l A_l+Δ)`` over the pairs of bins with pixels, divided by the
    number of these pairs: bins that share pixels have part of their noise in common.
    """
    from scipy.sparse import coo_array, csr_array

    n_r, n_phi = plan.area.shape
    area = plan.area.ravel()
    weights = plan.weights / area[plan.bins]
    table = csr_array((weights, plan.bins, plan.starts), shape=(len(plan.starts) - 1, n_r * n_phi))
    pairs = coo_array(table.T @ table)
    one, other = pairs.coords
    same = one // n_phi == other // n_phi
    lag = (other[same] - one[same]) % n_phi
    place = (one[same] // n_phi) * n_phi + lag
    sums = np.bincount(place, pairs.data[same], n_r * n_phi).reshape(n_r, n_phi)
    there = np.fft.rfft((plan.area > 0).astype(np.float64), axis=1)
    count = np.rint(np.fft.irfft(np.abs(there) ** 2, n_phi, axis=1))
    covariance: Float = np.divide(sums, count, out=np.zeros_like(sums), where=count > 0)
    return covariance
