"""Fourier ring correlation of two results, as a step."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, PositiveFloat

from py4DSTEM.core.slices import ArrayResult, RealSlice
from py4DSTEM.process.phase.direct import DirectResult
from py4DSTEM.process.phase.dpc import DPCResult
from py4DSTEM.process.phase.frc import RingCorrelation, fourier_ring_correlation
from py4DSTEM.process.phase.parallax import ParallaxResult
from py4DSTEM.process.phase.ptychography.result import PtychographyResult
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["CompareRings"]

WITH_PHASE = (PtychographyResult, DirectResult, DPCResult, ParallaxResult)


class CompareRings(Analysis, kind="fourier-ring-correlation", version=1):
    """Up to which spatial frequency two independent images, or phases of two results, agree."""

    other: Any = Field(
        description="The other image, or result with a phase, on the same grid.",
        json_schema_extra={
            "accepts": ["RealSlice", "ArrayResult", *(one.__name__ for one in WITH_PHASE)]
        },
    )
    sampling_A: PositiveFloat | None = Field(
        None, description="Pixel of both images; none: that of the images."
    )
    taper: float = Field(
        0.125, ge=0, le=0.5, description="Soft rim of the window, in parts of the shorter edge."
    )

    accepts: ClassVar[tuple[type, ...]] = (RealSlice, ArrayResult, *WITH_PHASE)
    cites: ClassVar[tuple[str, ...]] = (
        "10.1016/j.jmb.2003.07.013",
        "10.1016/j.jsb.2005.05.009",
    )

    def apply(self, value: Any, options: RunOptions | None = None) -> RingCorrelation:
        """Compare with `other`."""
        self.check(value)
        one, other = (getattr(v, "phase", v) for v in (value, self.other))
        return fourier_ring_correlation(one, other, self.sampling_A, taper=self.taper)
