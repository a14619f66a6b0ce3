"""Strain of the lattice from matched patterns: places of peaks against those of the crystal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.crystal.orientation import with_direct_beam
from py4DSTEM.process.crystal.result import OrientationMap
from py4DSTEM.process.strain import COMPONENTS, StrainMap

__all__ = ["orientation_strain"]

Float = NDArray[np.float64]
_LEAST = 4
"""Matched reflections of a position: fewer leave nothing to estimate an error from."""


def orientation_strain(
    peaks: PointTable, orientations: OrientationMap, *, reach_A: float = 0.02
) -> StrainMap:
    """Strain in the plane of the detector, relative to the unstrained crystal.

    Unlike `strain_map` it needs neither a zone axis nor the same lattice everywhere: each position
    is compared with the crystal in the orientation that was found there.

    Parameters
    ----------
    peaks : BraggPeaks
        Those that were matched.
    orientations : OrientationMap
        Its calibration is used: with a pixel size refined from the crystal the mean strain of the
        scan is zero by construction; for absolute strain match with ``refine=False``.
    reach_A : float
        Farthest from its reflection that a peak may be, Å⁻¹.

    Returns
    -------
    StrainMap
        Along the calibrated x and y; ``theta`` is the rotation in the plane beyond the orientation.
        NaN where fewer than four reflections are matched or they lie in one row.

    Raises
    ------
    ShapeError
        Peaks and orientations are of different scans.
    ParameterError
        A reach that is not positive.

    Notes
    -----
    Least squares for β in ``g = g₀ β``, with the rows g of the peaks and g₀ of the nearest excited
    reflections, then ``e = 1 − β`` as in `strain_map`; covariances from the residuals.

    Examples
    --------
    >>> import py4DSTEM
    >>> scan = py4DSTEM.simulate.polycrystal((3, 4), crystal="Si", grains=4, seed=2)
    >>> found = py4DSTEM.match_orientations(scan.truth.peaks(), "Si")
    >>> strain = orientation_strain(scan.truth.peaks(), found)
    >>> bool(np.nanmedian(abs(strain.e_xx)) < 1e-3)
    True
    """
    if peaks.shape != orientations.shape:
        raise ShapeError(f"peaks of {peaks.shape}, orientations of {orientations.shape} positions")
    if not reach_A > 0:
        raise ParameterError(f"reach_A must be positive, not {reach_A!r}")
    k_max = float(orientations.report.get("k max (1/A)", 1.5))
    g = orientations.crystal.reflections(1.05 * k_max).g_A
    table = peaks.with_calibration(orientations.calibration)
    if orientations.report.get("origin") == "direct beam":
        table = with_direct_beam(table, orientations.crystal)
    vectors = table.vectors("A^-1")
    matrices = orientations.matrices.reshape(-1, 3, 3)
    wavelength = orientations.calibration.wavelength_A
    beta, covariance = np.full((len(matrices), 4), np.nan), np.full((len(matrices), 4, 4), np.nan)
    for p in np.flatnonzero(orientations.indexed):
        seen = vectors[peaks.offsets[p] : peaks.offsets[p + 1]]
        pair = _pairs(seen[np.hypot(*seen.T) <= k_max], g @ matrices[p], wavelength, reach_A)
        if len(pair[0]) >= _LEAST:
            beta[p], covariance[p] = _deformation(*pair)
    return _map(beta, covariance, orientations)


def _pairs(seen: Float, gs: Float, wavelength_A: float, reach_A: float) -> tuple[Float, Float]:
    """Places of peaks and of the reflections nearest to them, among those near the sphere."""
    s = gs[:, 2] - wavelength_A * (gs**2).sum(axis=1) / 2
    near = gs[np.abs(s) < 0.05]
    if not (len(near) and len(seen)):
        return np.empty((0, 2)), np.empty((0, 2))
    distance = np.hypot(*(seen[:, None] - near[None, :, :2]).transpose(2, 0, 1))
    nearest = distance.argmin(axis=1)
    close = (distance.min(axis=1) < reach_A) & (np.hypot(*seen.T) > 4 * reach_A)
    return seen[close], near[nearest[close], :2]


def _deformation(seen: Float, known: Float) -> tuple[Float, Float]:
    """β (4,) by rows, and its covariance (4, 4); NaN where one row of spots fixes no plane."""
    normal = known.T @ known
    if np.linalg.cond(normal) > 1e3:
        return np.full(4, np.nan), np.full((4, 4), np.nan)
    inverse = np.linalg.inv(normal)
    beta = inverse @ known.T @ seen
    left = seen - known @ beta
    variance = (left**2).sum() / max(2 * len(seen) - 4, 1)
    return beta.ravel(), np.kron(inverse, np.eye(2)) * variance


def _map(beta: Float, covariance: Float, orientations: OrientationMap) -> StrainMap:
    """Components of ``1 − β``, as in `strain_map`."""
    linear = np.array([[-1, 0, 0, 0], [0, 0, 0, -1], [0, -0.5, -0.5, 0], [0, 0.5, -0.5, 0]])
    shape = orientations.shape
    values = (beta @ linear.T + [1.0, 1.0, 0.0, 0.0]).T.reshape(4, *shape)
    carried: Any = linear @ covariance @ linear.T
    return StrainMap(
        **dict(zip(COMPONENTS, np.ascontiguousarray(values), strict=True)),
        covariance=carried.reshape(*shape, 4, 4),
        mask=np.isfinite(values[0]),
        reference=np.eye(2),
        method="infinitesimal",
        calibration=orientations.calibration,
        history=orientations.history.then("orientation-strain", {}),
        report={"reference": f"the cell of {orientations.crystal.name}"},
    )
