"""Which polar bins: parameters that several steps share, and what follows from them for a scan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector
from py4DSTEM.core.parameters import Parameters
from py4DSTEM.errors import CalibrationMissing, ParameterError
from py4DSTEM.process.radial import Units, farthest_px, ring_axis, ring_metric
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["PolarBins", "PolarLayout", "RingBins"]

Float = NDArray[np.float64]
_MOST_BINS = 50_000_000


@dataclass(frozen=True, eq=False)
class PolarLayout:
    """Bins of a scan, ready for its patterns.

    Parameters
    ----------
    plan : PolarPlan, or PolarPlans where each position has its own origin
    origins : (Rx, Ry, 2) float64, optional
        In the latter case.
    r_axis, phi_axis : Axis
        Middles of the bins, calibrated and rad.
    r_px : (n_r,) float64
        The same in corrected detector pixels.
    area : (n_r, n_phi) float64
        Pixels in each bin, about the mean origin.
    squares : (n_r,) float64
        Sum of the squared shares of the pixels in each ring.
    """

    plan: Any
    origins: Float | None
    r_axis: Axis
    phi_axis: Axis
    r_px: Float
    area: Float
    squares: Float

    def local(self, tile: Tile) -> Float | None:
        """Origins of the positions of a tile, for the kernels."""
        return None if self.origins is None else tile.local(self.origins)


class RingBins(Parameters):
    """Parameters of rings: how wide, from where to where, around what."""

    step_px: float = Field(1.0, gt=0, description="Width of the rings in detector pixels.")
    r_min: float = Field(0.0, ge=0, description="Inner edge of the first ring, in `units`.")
    r_max: float | None = Field(
        None, gt=0, description="Outer edge of the last ring, in `units`; None: the far corner."
    )
    units: Units = Field("px", description="Unit of r_min and r_max.")
    center: tuple[float, float] | None = Field(
        None, description="Origin (qx, qy) in pixels; None: as calibrated."
    )
    mask: AnyDetector | None = Field(
        None, description="Pixels that count: where its weight is at least one half."
    )
    follow_origin: bool | None = Field(
        None, description="Use the origin of each position; None: where the calibration has them."
    )
    origin_parts: int = Field(
        8, ge=1, le=64, description="Origins of positions are rounded to so many parts of a pixel."
    )

    def layout(self, cube: Cube, kernels: Kernels) -> PolarLayout:
        """The bins of a scan."""
        return self._layout(cube, kernels, 1)

    def _layout(self, cube: Cube, kernels: Kernels, n_phi: int) -> PolarLayout:
        calibration = cube.calibration
        origins = self._origins(calibration)
        metric = ring_metric(calibration)
        scale = math.sqrt(math.prod(calibration.Q_steps(self.units)))
        r_min = self.r_min / scale
        n_r = self._count(r_min, scale, farthest_px(cube.Q_shape, metric, origins, edge=0.5), n_phi)
        keep = None
        if self.mask is not None:
            keep = self.mask.weights(cube.Q_shape, calibration) >= 0.5
        grid: dict[str, Any] = {
            "r_min": r_min, "r_step": self.step_px, "ellipse": metric, "mask": keep
        }  # fmt: skip
        if origins.ndim == 1:
            plan = middle = kernels.polar_plan(cube.Q_shape, origins, n_r, n_phi, **grid)
        else:
            plan = kernels.polar_plans(
                cube.Q_shape, origins, n_r, n_phi, parts=self.origin_parts, **grid
            )
            middle = plan.at(calibration.mean_origin_px)
        if not middle.area.any():
            raise ParameterError(
                f"the rings from {r_min:.4g} to {r_min + n_r * self.step_px:.4g} px hold no "
                f"usable pixel of a detector of {cube.Q_shape}: check the radii, the origin and "
                "the mask"
            )
        return PolarLayout(
            plan,
            origins if origins.ndim == 3 else None,
            _radial_axis(calibration, r_min, self.step_px),
            Axis("phi", 2 * math.pi / n_phi, math.pi / n_phi, "rad"),
            middle.r_px,
            middle.area,
            middle.ring_squares,
        )

    def _origins(self, calibration: Calibration) -> Float:
        """One origin (2,), or those of all positions (Rx, Ry, 2)."""
        if self.center is not None:
            if self.follow_origin:
                raise ParameterError("center and follow_origin=True exclude each other")
            return np.array(self.center, dtype=np.float64)
        if self.follow_origin and not calibration.origin_varies:
            raise CalibrationMissing(
                "origin per scan position", "calibrate_origin(cube) measures it"
            )
        mean = np.array(calibration.mean_origin_px)  # raises where nothing is known
        if calibration.origin_varies and self.follow_origin is not False:
            return np.asarray(calibration.origin_px)
        return mean

    def _count(self, r_min: float, scale: float, farthest: float, n_phi: int) -> int:
        if self.r_max is not None:
            width = self.r_max / scale - r_min
            count = math.floor(width / self.step_px + 1e-6)
        else:
            count = math.ceil((farthest - r_min) / self.step_px - 1e-9)
        if count < 1:
            end = "the far corner" if self.r_max is None else f"r_max={self.r_max:g} {self.units}"
            raise ParameterError(
                f"no ring of {self.step_px:g} px fits between r_min={self.r_min:g} {self.units} "
                f"and {end}"
            )
        if count * n_phi > _MOST_BINS:
            raise ParameterError(f"{count} x {n_phi} bins are too many: make step_px larger")
        return count


class PolarBins(RingBins):
    """Parameters of polar bins: rings, cut into sectors."""

    n_phi: int = Field(
        180, ge=1, le=100_000, description="Sectors: the first begins along x, then towards y."
    )

    def layout(self, cube: Cube, kernels: Kernels) -> PolarLayout:
        """The bins of a scan."""
        return self._layout(cube, kernels, self.n_phi)


def _radial_axis(calibration: Calibration, r_min: float, step_px: float) -> Axis:
    rings = ring_axis(calibration, step_px)
    return replace(rings, offset=(r_min / step_px + 0.5) * rings.step)
