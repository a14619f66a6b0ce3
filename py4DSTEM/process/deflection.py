"""How the beam is deflected, as one complex number per position: what a colour wheel shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import CalibrationMissing, ParameterError

__all__ = ["deflection", "part"]

Float = NDArray[np.float64]


def deflection(com: RealSlice) -> RealSlice:
    """Deflection of the beam along the axes of the scan, from its centre of mass.

    Parameters
    ----------
    com : RealSlice
        Stack of "x" and "y", (2, Rx, Ry), in raw detector pixels, as `center_of_mass` gives it.

    Returns
    -------
    RealSlice
        ``x + i y``, (Rx, Ry) complex128: x down, y to the right on the image of the scan; in Å⁻¹,
        or in detector pixels where their size is not known in Å⁻¹.  NaN where there is no centre.

    Raises
    ------
    ParameterError
        Not the centre of mass of a scan.

    Notes
    -----
    The calibrated origin is subtracted, or where there is none, or none of the scan's size, the
    mean over the scan; ellipse, pixel size, flip and rotation as far as they are known.

    Examples
    --------
    >>> com = RealSlice(np.array([[[1.0, 3.0]], [[2.0, 2.0]]]), labels=("x", "y"))
    >>> deflection(com).data.tolist()
    [[(-1+0j), (1+0j)]]
    """
    if not isinstance(com, RealSlice) or com.data.ndim != 3 or len(com.data) != 2:
        raise ParameterError("the stack of x and y that center_of_mass gives is needed")
    field = np.asarray(com.data, dtype=np.float64)
    field = field - _origin(com, field)
    try:
        matrix, units = com.calibration.Q_matrix("A^-1"), "A^-1"
    except (CalibrationMissing, ParameterError):  # not known, or no inverse length
        matrix, units = com.calibration.Q_matrix("px"), "px"
    with np.errstate(invalid="ignore"):
        x, y = np.einsum("ab,bxy->axy", matrix, field)
    history = com.history.then("deflection", {})
    return RealSlice(x + 1j * y, com.calibration, history, "deflection", units=units)


def _origin(com: RealSlice, field: Float) -> Float:
    known = com.calibration.origin_px
    if known is not None and (known.ndim == 1 or known.shape[:2] == field.shape[1:]):
        origins: Float = np.moveaxis(com.calibration.origins(com.data.shape[1:]), -1, 0)
        return origins
    there = np.isfinite(field).all(axis=0)
    mean = field[:, there].mean(axis=1) if there.any() else np.zeros(2)
    return np.asarray(mean[:, None, None], dtype=np.float64)


def part(vectors: RealSlice, which: Literal["x", "y", "length", "angle"]) -> RealSlice:
    """One real image of vectors ``x + i y``, as `deflection` gives them.

    Parameters
    ----------
    vectors : RealSlice
        (Rx, Ry) complex.
    which : "x", "y", "length" or "angle"
        The angle is in rad, from x (down) towards y (right).

    Returns
    -------
    RealSlice
        (Rx, Ry) float64.

    Examples
    --------
    >>> part(RealSlice(np.array([[3 + 4j]])), "length").data.tolist()
    [[5.0]]
    """
    found: dict[str, Callable[[Any], Any]] = {
        "x": np.real,
        "y": np.imag,
        "length": np.abs,
        "angle": np.angle,
    }
    if which not in found or vectors.data.dtype.kind != "c":
        raise ParameterError(f"part takes complex vectors and one of {', '.join(found)}")
    units = "rad" if which == "angle" else vectors.units
    history = vectors.history.then("part", {"which": which})
    data = np.asarray(found[which](vectors.data), dtype=np.float64)
    return RealSlice(data, vectors.calibration, history, f"deflection {which}", units=units)
