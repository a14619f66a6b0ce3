"""Axes that read in calibrated units, while the picture itself is drawn in pixels."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg

from py4DSTEM.core.axis import Axis
from py4DSTEM.plot.decorate import unit_text

__all__ = ["CalibratedAxis"]


class CalibratedAxis(pg.AxisItem):
    """Ticks at round values of an `Axis`; pixels where nothing is known.

    Parameters
    ----------
    orientation : {"left", "bottom"}
    name : str
        Written before the unit.
    """

    def __init__(self, orientation: str, name: str = "", **kwargs: Any) -> None:
        super().__init__(orientation, **kwargs)
        self.name = name
        self.axis = Axis(name or "x")
        self.zero_px = 0.0
        self.enableAutoSIPrefix(False)
        self.setStyle(tickLength=-4, tickTextOffset=3, maxTickLevel=1)
        self._write()

    def set_axis(self, axis: Axis, zero_px: float, name: str = "") -> None:
        """Read in the units of `axis`, with zero at a pixel (which may be a fraction)."""
        if (axis, zero_px, name) == (self.axis, self.zero_px, self.name):
            return
        self.axis, self.zero_px, self.name = axis, zero_px, name
        self._write()
        self.picture = None
        self.update()

    def _write(self) -> None:
        self.setLabel(f"{self.name} ({unit_text(self.axis.unit)})")

    def reading(self, pixel: float) -> float:
        """What the axis reads at a pixel."""
        return (pixel - self.zero_px) * self.axis.step

    def pixel(self, reading: float) -> float:
        """Where the axis reads a value."""
        return reading / self.axis.step + self.zero_px

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[Any]:
        """Round values in the unit of the axis, as pixels (called by pyqtgraph)."""
        levels = super().tickValues(self.reading(minVal), self.reading(maxVal), size)
        return [
            (spacing / self.axis.step, [self.pixel(value) for value in values])
            for spacing, values in levels
        ]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        """Readings of ticks at pixels (called by pyqtgraph)."""
        least = spacing * self.axis.step
        # What rounding leaves of zero is zero.
        readings = [0.0 if abs(v) < 1e-6 * least else v for v in map(self.reading, values)]
        return [f"{v:.6g}" for v in readings]
