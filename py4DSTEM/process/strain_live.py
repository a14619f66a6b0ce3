"""Strain relative to one reference after another, as fast as a reference can be dragged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.bragg.lattice import LatticeFit
from py4DSTEM.process.strain import (
    COMPONENTS,
    AxisOf,
    MapStrain,
    Method,
    StrainMap,
    axis_angle_of,
    infinitesimal,
    polar_values,
    reference_of,
    same_lattice,
    turned_axes,
)

__all__ = ["UNITS", "GlimpsedStrain", "LiveStrain", "Spread"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
UNITS = {"e_xx": "%", "e_yy": "%", "e_xy": "%", "theta": "mrad"}
"""Units in which single values are read."""
_FACTORS = {"%": 1e2, "mrad": 1e3}


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over some positions, in `unit`, and how many these are."""

    mean: float
    deviation: float
    count: int
    unit: str


@dataclass(frozen=True, eq=False)
class GlimpsedStrain:
    """The values of a strain map, and uncertainties from the lattice alone.

    Parameters
    ----------
    values, sigmas : (4, Rx, Ry) float64
        Of e_xx, e_yy, e_xy and theta (rad); NaN where `mask` is False.
    mask : (Rx, Ry) bool
    region : (Rx, Ry) bool
        The positions that count as unstrained.
    reference : (2, 2) float64
        g1 and g2 of the unstrained lattice (rows).
    axis_angle_rad : float
        Of the x axis of the components, from the calibrated x towards y.
    """

    values: Float
    sigmas: Float
    mask: Bool
    region: Bool
    reference: Float
    axis_angle_rad: float
    calibration: Calibration

    def component(self, name: str) -> tuple[Float, Float]:
        """Value and one-sigma uncertainty of a component, (Rx, Ry) each."""
        index = COMPONENTS.index(name)
        return self.values[index], self.sigmas[index]

    def percent(self, *, sigmas: bool = False) -> Float:
        """The maps (4, Rx, Ry), or their uncertainties, in %; of theta 1 % is 10 mrad."""
        return 100 * (self.sigmas if sigmas else self.values)

    def reading(self, rx: int, ry: int) -> dict[str, tuple[float, float]]:
        """Value and sigma of every component at a position, in the units of `UNITS`."""
        factors = {name: _FACTORS[unit] for name, unit in UNITS.items()}
        return {
            name: (f * float(self.values[k, rx, ry]), f * float(self.sigmas[k, rx, ry]))
            for k, (name, f) in enumerate(factors.items())
        }

    def spread(self, name: str) -> Spread:
        """How a component scatters over the reference, in its unit of `UNITS`."""
        unit = UNITS[name]
        values = _FACTORS[unit] * self.component(name)[0][self.region & self.mask]
        if not values.size:
            return Spread(math.nan, math.nan, 0, unit)
        return Spread(float(values.mean()), float(values.std()), int(values.size), unit)

    @classmethod
    def of(cls, strain: StrainMap, region: ArrayLike) -> GlimpsedStrain:
        """The same view of a whole strain map."""
        return cls(
            np.stack(list(strain.components().values())),
            np.stack([strain.sigma(name) for name in COMPONENTS]),
            strain.mask,
            np.asarray(region, np.bool_),
            strain.reference,
            strain.axis_angle_rad,
            strain.calibration,
        )


class LiveStrain:
    """A lattice fit, ready to be referred to one reference after another.

    What does not depend on the reference is laid out once; a new reference then costs a few
    products of matrices.

    Parameters
    ----------
    lattice : LatticeFit

    Notes
    -----
    Values and mask are those of `strain_map`.  The uncertainties are those of the lattice carried
    to the components; what the measurement cannot resolve is left to `strain_map`.  For the polar
    method they are carried to first order in the strain.

    Examples
    --------
    >>> import py4DSTEM
    >>> scan = py4DSTEM.simulate.strained_lattice((8, 8), strain={"e_xx": 0.01}, seed=1)
    >>> live = LiveStrain(py4DSTEM.fit_lattice(scan.truth.peaks()))
    >>> region = np.zeros((8, 8), bool); region[:3, :3] = True
    >>> bool(abs(live.at(region).values).max() < 1e-12)
    True
    """

    def __init__(self, lattice: LatticeFit) -> None:
        self.lattice = lattice
        flat = lattice.vectors.reshape(-1, 4)
        self._vectors = np.ascontiguousarray(flat.T)
        # Symmetric: ten of the sixteen entries say all; one row of all positions per entry.
        self._rows, self._columns = np.triu_indices(4)
        flat = lattice.covariance.reshape(-1, 4, 4)[:, self._rows, self._columns]
        self._covariances = np.ascontiguousarray(flat.T)

    def at(
        self,
        reference: ArrayLike | Sequence[Any] | None = None,
        *,
        axis: AxisOf | None = None,
        method: Method = "infinitesimal",
    ) -> GlimpsedStrain:
        """Strain relative to a reference; parameters and errors as for `strain_map`."""
        region, vectors = reference_of(reference, self.lattice)
        step = MapStrain(reference=region, reference_vectors=vectors, axis=axis, method=method)
        unstrained = step.unstrained(self.lattice)[0]
        mask = self.lattice.mask & self._alike(unstrained, method)
        if not mask.any():
            raise ParameterError(
                "no lattice is that of the reference, strained and turned a little: choose "
                'another reference, or method="polar" for large turns'
            )
        angle = 0.0 if axis is None else axis_angle_of(axis, unstrained)
        values, variances = self._turned(unstrained, method, turned_axes(angle))
        off = ~mask.ravel()
        values[:, off], variances[:, off] = np.nan, np.nan
        shape = (4, *mask.shape)
        return GlimpsedStrain(
            values.reshape(shape),
            np.sqrt(variances).reshape(shape),
            mask,
            np.ones(mask.shape, np.bool_) if region is None else region,
            unstrained,
            angle,
            self.lattice.calibration,
        )

    def _turned(self, reference: Float, method: Method, turn: Float) -> tuple[Float, Float]:
        """Components (4, n) in turned axes, and their variances."""
        _, jacobian = infinitesimal(reference, reference[None])
        if method == "polar":
            values = _combined(
                turn, polar_values(reference, self._vectors.T.reshape(-1, 2, 2))[0].T
            )
        else:
            values = _combined(turn @ jacobian, self._vectors)
            values += (turn @ [1.0, 1.0, 0.0, 0.0])[:, None]
        return values, self._variances(turn @ jacobian)

    def _alike(self, reference: Float, method: Method) -> Bool:
        """Where the lattice is that of the reference, (Rx, Ry)."""
        rows = np.moveaxis(self._vectors.reshape(2, 2, *self.lattice.shape), (0, 1), (2, 3))
        return same_lattice(rows, reference, method)

    def _variances(self, jacobian: Float) -> Float:
        """Diagonal (4, n) of ``J C Jᵀ``."""
        twice = np.where(self._rows == self._columns, 1.0, 2.0)
        weights = jacobian[:, self._rows] * jacobian[:, self._columns] * twice
        return _combined(weights, self._covariances)


def _combined(weights: Float, rows: Float) -> Float:
    """``weights @ rows`` for few long rows; threads of a linear algebra library only cost here."""
    out = np.zeros((len(weights), rows.shape[1]))
    for total, own in zip(out, weights, strict=True):
        for weight, row in zip(own, rows, strict=True):
            if weight:
                total += weight * row
    return out
