"""Correlation kernels made from a disk: what is multiplied with a pattern to find its copies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.rim import rim_radius, soft_disk

__all__ = ["DiskKernel", "KernelKind", "trench_radii"]

Float = NDArray[np.float64]
KernelKind = Literal["auto", "flat", "edge", "sigmoid", "patterned"]
LEAST_TRENCH_PX = 1.0
"""Narrowest useful trench."""
_WIDEST = 1.5
"""Outer radius of a trench over that of the disk, where nothing is known of the neighbours."""


def trench_radii(
    radius_px: float, edge_px: float, spacing_px: float | None = None
) -> tuple[float, float]:
    """Inner and outer radius (px) of the trench around a disk; empty where there is no room.

    It begins two edge widths outside the rim.  It ends at 1.5 radii, or where it would come within
    two edge widths and one pixel (the kernel is also looked at one pixel beside the maximum) of a
    neighbouring disk: ``outer <= spacing - radius - 2 edge - 1``.

    >>> trench_radii(5.0, 0.5, spacing_px=13.0)
    (6.0, 6.0)
    """
    inner = radius_px + 2 * edge_px
    outer = max(_WIDEST * radius_px, inner + 1.5 * LEAST_TRENCH_PX)
    if spacing_px is not None:
        outer = min(outer, spacing_px - radius_px - 2 * edge_px - 1.0)
    return inner, max(outer, inner)


@dataclass(frozen=True, eq=False)
class DiskKernel:
    """Kernels of one disk on a grid of offsets in FFT order.

    Parameters
    ----------
    rho : (Qx, Qy) float64
        Distance of each offset from pixel (0, 0), in the metric of the rim.
    radius_px, edge_px : float
    """

    rho: Float
    radius_px: float
    edge_px: float

    @classmethod
    def on(
        cls, Q_shape: tuple[int, int], rim: Ellipse, radius_px: float, edge_px: float
    ) -> DiskKernel:
        """Kernels for patterns of `Q_shape`.

        Raises
        ------
        ParameterError
            The disk does not fit into the pattern.
        """
        if 2 * (max(rim.a, rim.b) + 2 * edge_px) > min(Q_shape):
            raise ParameterError(
                f"a disk of radius {radius_px:.3g} px does not fit into patterns of {Q_shape} "
                "pixels: use patterns that are not cropped as much, or bin them less"
            )
        x, y = fft_offsets(Q_shape)
        return cls(rim_radius(x, y, rim), radius_px, edge_px)

    def flat(self) -> Float:
        """The disk, with a sum of one."""
        disk = soft_disk(self.rho, self.radius_px, self.edge_px)
        kernel: Float = disk / disk.sum()
        return kernel

    def edge(self, inner_px: float, outer_px: float) -> Float:
        """Disk minus a ring, each with a sum of one: blind to a level background."""
        ring = soft_disk(self.rho, outer_px, self.edge_px / 2)
        ring = ring - soft_disk(self.rho, inner_px, self.edge_px / 2)
        return self.flat() - _unit_sum(ring)

    def sigmoid(self, inner_px: float, outer_px: float) -> Float:
        """Disk minus a wider one with a logistic edge between two radii, each with a sum of one.

        ``1 / (1 + exp((ρ − m) / s))``, m midway and s a quarter of the way between the radii, as
        in the published py4DSTEM (doi:10.1017/S1431927621000477), lowered so that it ends at the
        outer one.
        """
        middle, width = (inner_px + outer_px) / 2, (outer_px - inner_px) / 4
        with np.errstate(over="ignore"):
            wide = 1 / (1 + np.exp((self.rho - middle) / width))
        last = 1 / (1 + math.exp((outer_px - middle) / width))
        return self.flat() - _unit_sum(np.maximum(wide - last, 0.0))

    def patterned(self, image: Float) -> Float:
        """An image of the disk (FFT order) minus its mean inside, over its sum."""
        inside = soft_disk(self.rho, self.radius_px + 2 * self.edge_px, self.edge_px / 2)
        return _unit_sum(image * inside) - _unit_sum(inside)


def fft_offsets(Q_shape: tuple[int, int]) -> tuple[Float, Float]:
    """Offsets from pixel (0, 0), around the corner: (Qx, 1) and (1, Qy) whole numbers."""
    x, y = (np.asarray(np.fft.fftfreq(n, 1 / n).round(), np.float64) for n in Q_shape)
    return x[:, None], y[None, :]


def _unit_sum(image: Float) -> Float:
    scaled: Float = image / image.sum()
    return scaled
