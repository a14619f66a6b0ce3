"""The lattice of every pattern: two reciprocal vectors with covariance, from the Bragg peaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.errors import ShapeError
from py4DSTEM.io.store.schema import register_result

__all__ = ["REASONS", "LatticeFit"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

REASONS = (
    "usable",
    "no peaks",
    "too few peaks on the lattice",
    "peaks on one line",
    "far from the starting lattice",
)
"""What the codes of `LatticeFit.reason` mean."""


@dataclass(frozen=True, eq=False)
class LatticeFit:
    """Reciprocal lattice of every scan position, in calibrated axes.

    Parameters
    ----------
    g1, g2 : (Rx, Ry, 2) float64
        Lattice vectors (x, y) in `unit`; NaN where `mask` is False.
    origin : (Rx, Ry, 2) float64
        Where the fit puts the origin of the lattice, relative to the calibrated origin, in `unit`.
    covariance : (Rx, Ry, 4, 4) float64
        Of (g1x, g1y, g2x, g2y), in `unit`².
    sigma_origin : (Rx, Ry, 2) float64
        One-sigma uncertainty of `origin`.
    residual : (Rx, Ry) float64
        Weighted rms distance between peaks and lattice points, in `unit`.
    chi2 : (Rx, Ry) float64
        Reduced χ² of the fit with the covariances of the peaks: near 1 where these explain the
        residuals.  NaN where no peak is left over to test with.
    count : (Rx, Ry) int64
        Peaks on the lattice.
    mask : (Rx, Ry) bool
        True where the fit can be used.
    reason : (Rx, Ry) uint8
        Why not: a number of `REASONS`.
    several : (Rx, Ry) bool
        More of the intensity lies beside the lattice than noise explains: overlapping grains, or
        another lattice.
    basis : (2, 2) float64
        g1 and g2 (rows) from which the fit started, in `unit`.
    unit : str
        ``"A^-1"``, ``"mrad"`` …, or ``"px"`` where the pixel size is not calibrated.
    report : mapping
        Parameters that were chosen and why, and how many positions have which reason.
    """

    g1: Float
    g2: Float
    origin: Float
    covariance: Float
    sigma_origin: Float
    residual: Float
    chi2: Float
    count: NDArray[np.int64]
    mask: Bool
    reason: NDArray[np.uint8]
    several: Bool
    basis: Float
    unit: str = "px"
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "lattice"
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.mask.shape
        expected = {"g1": (2,), "g2": (2,), "origin": (2,), "sigma_origin": (2,),
                    "covariance": (4, 4), "residual": (), "chi2": (), "count": (),
                    "reason": (), "several": ()}  # fmt: skip
        for name, tail in expected.items():
            if getattr(self, name).shape != (*shape, *tail):
                raise ShapeError(
                    f"{name} of a lattice for {shape} positions has the shape {(*shape, *tail)}, "
                    f"not {getattr(self, name).shape}"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Scan shape."""
        return self.mask.shape[0], self.mask.shape[1]

    @property
    def vectors(self) -> Float:
        """g1 and g2 as the rows of a matrix per position, (Rx, Ry, 2, 2)."""
        return np.stack([self.g1, self.g2], axis=-2)

    @property
    def sigma(self) -> Float:
        """One-sigma uncertainties of (g1x, g1y, g2x, g2y), (Rx, Ry, 4), in `unit`."""
        root: Float = np.sqrt(np.diagonal(self.covariance, axis1=-2, axis2=-1))
        return root

    def __repr__(self) -> str:
        return (
            f"<LatticeFit {self.name!r} {self.shape}, {int(self.mask.sum())} usable, "
            f"|g1| {np.linalg.norm(self.basis[0]):.4g}, |g2| {np.linalg.norm(self.basis[1]):.4g} "
            f"{self.unit}>"
        )


def _to_parts(fit: LatticeFit) -> dict[str, Any]:
    return {**vars(fit), "history": fit.history.to_dict(), "report": dict(fit.report)}


def _from_parts(parts: Mapping[str, Any]) -> LatticeFit:
    return LatticeFit(**{**parts, "history": History.from_dict(parts["history"])})


register_result("lattice-fit", LatticeFit, _to_parts, _from_parts)
