"""The probe: the unscattered disk, measured or made, and correlation kernels from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.history import History

__all__ = ["Probe"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Probe:
    """The unscattered disk.

    Parameters
    ----------
    pattern : (Qx, Qy) float64
        What it was measured in, or a synthetic image; background removed, not below zero by more
        than noise.
    center : (float, float)
        (qx, qy) in pixels.
    radius_px : float
        Radius at half height: the geometric mean of the semi-axes of `rim`.
    edge_px : float
        Standard deviation (px) of the Gaussian that blurs the sharp edge, pixel area included:
        the disk is ``erfc((rho - radius) / (sqrt(2) edge)) / 2``.
    rim : Ellipse
        Shape of the edge; a circle has ``a == b``.
    patterned : bool
        Whether the inside is structured (a bullseye aperture): `pattern` is then the template.
    sigma_center, sigma_radius_px, sigma_edge_px : float
        One-sigma uncertainties; sigma_center along x and y.
    """

    pattern: Float
    center: tuple[float, float]
    radius_px: float
    edge_px: float
    rim: Ellipse
    patterned: bool = False
    sigma_center: tuple[float, float] = (np.nan, np.nan)
    sigma_radius_px: float = np.nan
    sigma_edge_px: float = np.nan
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "probe"

    @property
    def Q_shape(self) -> tuple[int, int]:
        return self.pattern.shape[0], self.pattern.shape[1]

    def calibration_changes(self) -> dict[str, Any]:
        """What the probe tells a calibration: its radius."""
        return {"probe_radius_px": self.radius_px}
