"""A spot: what stands for the probe where the beam is so parallel that disks are points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.probe_kernels import KernelKind, fft_offsets, trench_radii
from py4DSTEM.process.rim import soft_disk

__all__ = ["Spot"]

Float = NDArray[np.float64]
_PIXEL_VARIANCE = 1 / 12


@dataclass(frozen=True)
class Spot:
    """A round Gaussian, summed over the area of each pixel.

    Offers what the search for disks asks of a `Probe`.

    Parameters
    ----------
    sigma_px : float
        Standard deviation before the pixels.

    Examples
    --------
    >>> spot = Spot(0.8)
    >>> float(spot.height_at(np.zeros(1), np.zeros(1))[0]), round(spot.radius_px, 2)
    (1.0, 1.7)
    """

    sigma_px: float

    patterned = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma_px) and 0.1 <= self.sigma_px <= 50):
            raise ParameterError(
                f"sigma_px of a spot must lie between 0.1 and 50 px, not {self.sigma_px!r}: wider "
                "ones are disks (find_bragg_disks)"
            )

    @property
    def radius_px(self) -> float:
        """Two standard deviations, pixels included: stands for the radius of a disk."""
        return 2 * math.sqrt(self.sigma_px**2 + _PIXEL_VARIANCE)

    @property
    def edge_px(self) -> float:
        """A quarter of that, so that a spot ends three standard deviations from its centre."""
        return 0.25 * self.radius_px

    @property
    def rim(self) -> Ellipse:
        """A circle."""
        return Ellipse(self.radius_px, self.radius_px, 0.0)

    def height_at(self, x: Float, y: Float) -> Float:
        """Height at offsets (x, y) from the centre; one in a pixel that is centred there."""
        height: Float = self._along(x) * self._along(y) / self._along(np.zeros(1)) ** 2
        return height

    def _along(self, x: Float) -> Float:
        """The part of the Gaussian within half a pixel of offsets along one axis."""
        from scipy.special import erf  # slow to import

        width = math.sqrt(2) * self.sigma_px
        part: Float = 0.5 * (erf((x + 0.5) / width) - erf((x - 0.5) / width))
        return part

    def kernel(
        self, kind: KernelKind, *, Q_shape: tuple[int, int], spacing_px: float | None = None
    ) -> Float:
        """As `Probe.kernel`: ``"flat"`` the spot, ``"edge"`` less a ring around it, or ``"auto"``.

        Raises
        ------
        ParameterError
            Another kind, or no room for a ring.
        """
        x, y = fft_offsets(Q_shape)
        spot = self.height_at(x, y)
        spot /= spot.sum()
        inner, outer = trench_radii(self.radius_px, self.edge_px, spacing_px)
        roomy = outer - inner >= 1
        if kind == "flat" or (kind == "auto" and not roomy):
            return spot
        if kind not in ("auto", "edge"):
            raise ParameterError(f"no kernel {kind!r} for spots: auto, flat or edge")
        if not roomy:
            raise ParameterError(f"no room for a ring around spots {spacing_px} px apart")
        rho = np.hypot(x, y)
        ring = soft_disk(rho, outer, 0.25) - soft_disk(rho, inner, 0.25)
        kernel: Float = spot - ring / ring.sum()
        return kernel

    def calibration_changes(self) -> Mapping[str, Any]:
        """Nothing: a spot has no semi-angle."""
        return {}
