"""The probe: the unscattered disk, measured or made, and correlation kernels from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.rim import RimFit, fit_rim, rim_radius, soft_disk

__all__ = ["Probe", "measure_probe", "synthetic_probe"]

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


def measure_probe(source: ArrayLike | DiffractionSlice) -> Probe:
    """Measure the unscattered disk."""
    if isinstance(source, DiffractionSlice):
        fit = fit_rim(source.data)
        history = source.history.then("measure_probe")
        return _measured(np.asarray(source.data), fit, source.calibration, history)
    pattern = np.asarray(source)
    return _measured(pattern, fit_rim(pattern), Calibration(), History().then("measure_probe"))


def _measured(
    pattern: NDArray[Any], fit: RimFit, calibration: Calibration, history: History
) -> Probe:
    image = np.where(fit.used, pattern - fit.background, 0.0)
    return Probe(
        pattern=image,
        center=fit.center,
        radius_px=fit.radius_px,
        edge_px=fit.edge_px,
        rim=fit.rim,
        patterned=fit.patterned,
        sigma_center=fit.sigma_center,
        sigma_radius_px=fit.sigma_radius_px,
        sigma_edge_px=fit.sigma_edge_px,
        calibration=calibration,
        history=history,
    )


def synthetic_probe(
    Q_shape: tuple[int, int],
    radius_px: float,
    edge_px: float = 0.5,
    *,
    center: Sequence[float] | None = None,
    rim: Ellipse | None = None,
) -> Probe:
    """A probe made from numbers.

    Parameters
    ----------
    Q_shape : (int, int)
    radius_px : float
        Radius at half height, pixels.
    edge_px : float
        Standard deviation of the blur of the edge, pixels; at least the 0.29 px of the pixels'
        own area makes sense on a real detector.
    center : (float, float), optional
        (qx, qy) in pixels; None: the middle of the detector.
    rim : Ellipse, optional
        Shape of the edge, scaled to `radius_px`; None: a circle.

    Raises
    ------
    ParameterError
        Radius or edge are not positive and finite.
    ShapeError
        `Q_shape` is not two positive integers.

    Examples
    --------
    >>> probe = synthetic_probe((32, 32), 6.0)
    >>> probe.center, round(float(probe.pattern.sum()), 1)
    ((15.5, 15.5), 113.9)
    """
    shape = tuple(int(n) for n in Q_shape)
    if len(shape) != 2 or min(shape) < 1:
        raise ShapeError(f"Q_shape is (Qx, Qy), not {Q_shape!r}")
    for name, value in (("radius_px", radius_px), ("edge_px", edge_px)):
        if not (math.isfinite(value) and value > 0):
            raise ParameterError(f"{name} must be positive and finite, not {value!r}")
    cx, cy = ((n - 1) / 2 for n in shape) if center is None else map(float, center)
    ratio = 1.0 if rim is None else math.sqrt(rim.a / rim.b)
    angle = 0.0 if rim is None else rim.theta_rad
    shape_of_rim = Ellipse(radius_px * ratio, radius_px / ratio, angle)
    i, j = np.indices(shape, dtype=np.float64)
    image = soft_disk(rim_radius(i - cx, j - cy, shape_of_rim), radius_px, edge_px)
    parameters = {"Q_shape": list(shape), "radius_px": radius_px, "edge_px": edge_px}
    history = History().then("synthetic_probe", parameters)
    return Probe(image, (cx, cy), float(radius_px), float(edge_px), shape_of_rim, history=history)
