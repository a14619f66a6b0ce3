"""Strain and rotation of every scan position from its lattice, with uncertainties."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ShapeError
from py4DSTEM.io.store.schema import register_result

__all__ = ["COMPONENTS", "StrainMap"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")
"""Names and order of the components of a strain map."""


@dataclass(frozen=True, eq=False)
class StrainMap:
    """Strain and rotation of every scan position.

    Parameters
    ----------
    e_xx, e_yy, e_xy : (Rx, Ry) float64
        Strain of the crystal (positive: longer than the reference) along the axes; NaN where
        `mask` is False.
    theta : (Rx, Ry) float64
        Rotation in rad, positive from x towards y.
    covariance : (Rx, Ry, 4, 4) float64
        Of (e_xx, e_yy, e_xy, theta) at each position; NaN where it is not known.
    mask : (Rx, Ry) bool
        True where there is a value.
    reference : (2, 2) float64
        g1 and g2 (rows) of the lattice that counts as unstrained, in calibrated axes.
    reference_covariance : (4, 4) float64
        Of the error that the uncertainty of the reference gives to (e_xx, e_yy, e_xy, theta) of
        all positions alike; not part of `covariance`.  Zero for a known reference.
    axis_angle_rad : float
        Angle from the calibrated x to the x axis of the components, positive towards y.
    method : str
        ``"infinitesimal"`` or ``"polar"`` from lattices; others from other measurements.
    report : mapping
        What was used as the reference, and counts.
    """

    e_xx: Float
    e_yy: Float
    e_xy: Float
    theta: Float
    covariance: Float
    mask: Bool
    reference: Float
    reference_covariance: Float = field(default_factory=lambda: np.zeros((4, 4)))
    axis_angle_rad: float = 0.0
    method: str = "infinitesimal"
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "strain"
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.mask.shape
        for name in COMPONENTS:
            if getattr(self, name).shape != shape:
                raise ShapeError(
                    f"{name} has the shape {getattr(self, name).shape}, the mask {shape}"
                )
        if self.covariance.shape != (*shape, 4, 4):
            raise ShapeError(
                f"covariance must have the shape {(*shape, 4, 4)}, not {self.covariance.shape}"
            )

    # ---- uncertainties ---------------------------------------------------------------------------
    def sigma(self, component: str) -> Float:
        """One-sigma uncertainty (Rx, Ry) of a component, without that of the reference."""
        index = COMPONENTS.index(component)
        root: Float = np.sqrt(self.covariance[..., index, index])
        return root

    @property
    def sigma_e_xx(self) -> Float:
        """One-sigma uncertainty of `e_xx`, (Rx, Ry)."""
        return self.sigma("e_xx")

    @property
    def sigma_e_yy(self) -> Float:
        """One-sigma uncertainty of `e_yy`, (Rx, Ry)."""
        return self.sigma("e_yy")

    @property
    def sigma_e_xy(self) -> Float:
        """One-sigma uncertainty of `e_xy`, (Rx, Ry)."""
        return self.sigma("e_xy")

    @property
    def sigma_theta(self) -> Float:
        """One-sigma uncertainty of `theta` in rad, (Rx, Ry)."""
        return self.sigma("theta")

    @property
    def sigma_reference(self) -> Float:
        """One-sigma error (4,) that all positions share because the reference was measured."""
        root: Float = np.sqrt(np.diagonal(self.reference_covariance))
        return root

    # ---- views -----------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, int]:
        """Scan shape."""
        return self.mask.shape[0], self.mask.shape[1]

    def components(self) -> dict[str, Float]:
        """``e_xx, e_yy, e_xy, theta`` by name."""
        return {name: getattr(self, name) for name in COMPONENTS}

    def to_slice(self, *, sigmas: bool = False) -> RealSlice:
        """The components (and their uncertainties) as one labelled stack."""
        maps = self.components()
        if sigmas:
            maps |= {f"sigma_{name}": self.sigma(name) for name in COMPONENTS}
        return RealSlice(
            np.stack(list(maps.values())),
            self.calibration,
            self.history,
            self.name,
            tuple(maps),
            "",
        )

    def rotated(self, angle_rad: float) -> Self:
        """The same strain in axes turned by `angle_rad` from x towards y; theta stays.

        ``e' = A e Aᵀ`` with ``A = [[cos, sin], [−sin, cos]]``; covariances follow.
        """
        turn = _turn(angle_rad)
        strain = np.stack([self.e_xx, self.e_yy, self.e_xy], axis=-1)
        e_xx, e_yy, e_xy = np.moveaxis(strain @ turn[:3, :3].T, -1, 0)
        return replace(
            self,
            e_xx=e_xx,
            e_yy=e_yy,
            e_xy=e_xy,
            covariance=_turned(self.covariance, turn),
            reference_covariance=turn @ self.reference_covariance @ turn.T,
            axis_angle_rad=self.axis_angle_rad + angle_rad,
        )

    def text(self) -> str:
        """Median, spread and typical uncertainty of every component, one per line."""
        lines = [
            f"{self.name}: {int(self.mask.sum())} of {self.mask.size} positions, {self.method}, "
            f"x at {math.degrees(self.axis_angle_rad):.2f}° of the calibrated x"
        ]
        lines += [self._line(k, name) for k, name in enumerate(COMPONENTS)]
        return "\n".join(lines)

    def _line(self, index: int, name: str) -> str:
        if not self.mask.any():
            return f"{name}: no values"
        values, sigma = getattr(self, name)[self.mask], self.sigma(name)[self.mask]
        low, middle, high = np.percentile(values, [16, 50, 84])
        known = sigma[np.isfinite(sigma)]
        typical = f"{np.median(known):.1e}" if known.size else "unknown"
        return (
            f"{name}: median {middle:+.3e}, 68 % within [{low:+.3e}, {high:+.3e}], sigma {typical} "
            f"(reference {self.sigma_reference[index]:.1e})"
        )

    def __repr__(self) -> str:
        return (
            f"<StrainMap {self.name!r} {self.shape}, {int(self.mask.sum())} usable, {self.method}>"
        )


def _turn(angle_rad: float) -> Float:
    """Matrix (4, 4) from (e_xx, e_yy, e_xy, theta) to those in axes turned by `angle_rad`."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    return np.array(
        [
            [c * c, s * s, 2 * s * c, 0.0],
            [s * s, c * c, -2 * s * c, 0.0],
            [-s * c, s * c, c * c - s * s, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def _turned(covariance: Float, turn: Float) -> Float:
    """Covariances (..., 4, 4) in turned axes; strain stays known where theta is not."""
    unknown = np.isnan(covariance)
    unknown[..., :3, :3] |= unknown[..., :3, :3].any(axis=(-2, -1), keepdims=True)
    return np.where(unknown, np.nan, turn @ np.nan_to_num(covariance) @ turn.T)


def _to_parts(strain: StrainMap) -> dict[str, Any]:
    return {**vars(strain), "history": strain.history.to_dict(), "report": dict(strain.report)}


def _from_parts(parts: Mapping[str, Any]) -> StrainMap:
    return StrainMap(**{**parts, "history": History.from_dict(parts["history"])})


register_result("strain-map", StrainMap, _to_parts, _from_parts)
