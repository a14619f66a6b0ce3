"""Pixels near a disk, and what they differ by from the model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import ParameterError
from py4DSTEM.process.rim.model import (
    CX,
    CY,
    E1,
    LOG_EDGE,
    R,
    disk_model,
    disk_slopes,
    ellipse_of,
    rim_radius,
)

__all__ = ["ENOUGH_PIXELS", "Window", "check_inside", "no_disk", "saturation_level", "window_about"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

ENOUGH_PIXELS = 2048
"""Of a window, by which a fit finds its way; the last steps use them all."""


@dataclass(frozen=True, eq=False)
class Window:
    """Pixels near the disk, those that count, and how noisy they are."""

    i: Float
    j: Float
    values: Float
    ceiling: float
    shape: tuple[int, int]
    index: tuple[NDArray[np.intp], NDArray[np.intp]]

    def residual(self, p: Float) -> Float:
        """Data minus model; a saturated pixel tells only when the model is below it."""
        difference = self.values - disk_model(p, self.i, self.j)
        return np.where((self.values >= self.ceiling) & (difference < 0), 0.0, difference)

    def slopes(self, p: Float) -> Float:
        """Derivatives of the residual, (pixels, 10)."""
        difference = self.values - disk_model(p, self.i, self.j)
        blind = (self.values >= self.ceiling) & (difference < 0)
        return np.where(blind[:, None], 0.0, -disk_slopes(p, self.i, self.j))

    def rho(self, p: Float) -> Float:
        """Distance from the centre in the metric of the rim."""
        return rim_radius(self.i - p[CX], self.j - p[CY], ellipse_of(p[R], p[E1:]))

    def select(self, keep: Bool) -> Window:
        """Only the pixels to keep."""
        index = (self.index[0][keep], self.index[1][keep])
        return replace(self, i=self.i[keep], j=self.j[keep], values=self.values[keep], index=index)

    def thinned(self) -> Window:
        """No more than `ENOUGH_PIXELS`, spread evenly (by the golden ratio)."""
        count = len(self.values)
        if count <= ENOUGH_PIXELS:
            return self
        order = np.arange(count) * (0.5 * (math.sqrt(5) - 1)) % 1
        return self.select(order < ENOUGH_PIXELS / count)


def no_disk(why: str) -> ParameterError:
    """The error to raise where nothing looks like a disk."""
    return ParameterError(
        f"no disk in the pattern: {why}; give a pattern with the unscattered disk"
    )


def window_about(values: Float, known: Bool, p: Float, ceiling: float) -> Window:
    """Pixels within the rim and a margin that holds the edge but not the neighbouring disks."""
    i, j = np.indices(values.shape, dtype=np.float64)
    rho = rim_radius(i - p[CX], j - p[CY], ellipse_of(p[R], p[E1:]))
    margin = max(3.0, 0.35 * p[R], 4 * math.exp(p[LOG_EDGE]))
    near: Bool = known & (rho < p[R] + margin)
    if not near.any():
        raise no_disk("every pixel of its brightest region is unknown")
    rows, columns = np.nonzero(near)
    shape = (values.shape[0], values.shape[1])
    where = (rows, columns)
    return Window(rows.astype(float), columns.astype(float), values[near], ceiling, shape, where)


def saturation_level(values: Float, known: Bool, height: float) -> float:
    """Level at which the detector saturates; infinite where it does not show."""
    top = float(values[known].max())
    plateau = int((values[known] == top).sum())
    disk = int((values[known] > 0.5 * height).sum())
    return top if top > 100 and plateau >= max(5, 0.25 * disk) else math.inf


def check_inside(cx: float, cy: float, radius: float, shape: tuple[int, ...]) -> None:
    """An eighth of the rim must lie on the detector, which must not be smaller than the disk."""
    angle = np.linspace(0, 2 * math.pi, 180, endpoint=False)
    x, y = cx + radius * np.cos(angle), cy + radius * np.sin(angle)
    seen = (x > 0) & (x < shape[0] - 1) & (y > 0) & (y < shape[1] - 1)
    if 2 * radius > max(shape) or seen.mean() < 0.125:
        raise ParameterError(
            f"no rim of a disk within the pattern of {shape} pixels (radius {radius:.3g} px about "
            f"({cx:.3g}, {cy:.3g})): there is no beam, it is larger than the detector, or "
            "saturated patterns hide it; use a vacuum pattern that shows the whole disk"
        )
