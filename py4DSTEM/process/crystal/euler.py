"""Orientation matrices and Bunge's Euler angles."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.errors import ShapeError

__all__ = ["euler_from_matrices", "matrices_from_euler"]

Float = NDArray[np.float64]
_ALONG_Z = 1e-9
"""sin Φ below which only φ1 ± φ2 is known."""


def euler_from_matrices(matrices: ArrayLike) -> Float:
    """Bunge's Euler angles of orientations.

    Parameters
    ----------
    matrices : (..., 3, 3) float64
        Columns are the sample axes in Cartesian axes of the crystal.

    Returns
    -------
    (..., 3) float64
        φ1, Φ, φ2 in rad: φ1 and φ2 from 0 to 2π, Φ from 0 to π; NaN where an orientation is.

    Notes
    -----
    ``v_crystal = Z(φ2) X(Φ) Z(φ1) v_sample``, with Z and X that turn the axes.  Where Φ is 0 or π,
    φ2 is 0.  H. J. Bunge, Texture Analysis in Materials Science (Butterworths, 1982).

    Examples
    --------
    >>> angles = np.radians([[10.0, 20.0, 30.0], [300.0, 0.0, 0.0]])
    >>> bool(np.allclose(euler_from_matrices(matrices_from_euler(angles)), angles))
    True
    """
    R = np.asarray(matrices, np.float64)
    if R.ndim < 2 or R.shape[-2:] != (3, 3):
        raise ShapeError(f"orientations are (..., 3, 3), not {R.shape}")
    sine = np.hypot(R[..., 0, 2], R[..., 1, 2])
    first = np.arctan2(R[..., 2, 0], -R[..., 2, 1])
    second = np.arctan2(R[..., 0, 2], R[..., 1, 2])
    flat = sine < _ALONG_Z
    first = np.where(flat, np.arctan2(R[..., 0, 1], R[..., 0, 0]), first)
    second = np.where(flat, 0.0, second)
    # NaN of R[2, 2] alone would be lost where `flat` is decided: every element counts.
    angles = np.stack([first % (2 * np.pi), np.arctan2(sine, R[..., 2, 2]), second % (2 * np.pi)],
                      axis=-1)  # fmt: skip
    known = np.asarray(np.isfinite(R).all(axis=(-1, -2)))
    return np.asarray(np.where(known[..., None], angles, np.nan))


def matrices_from_euler(angles_rad: ArrayLike) -> Float:
    """Orientations of Bunge's Euler angles.

    Parameters
    ----------
    angles_rad : (..., 3) float64
        φ1, Φ, φ2.

    Returns
    -------
    (..., 3, 3) float64
        Columns are the sample axes in Cartesian axes of the crystal.

    Examples
    --------
    >>> R = matrices_from_euler([0.0, np.pi / 2, 0.0])  # the crystal's y along the sample's z
    >>> R[:, 2].round(6).tolist()
    [0.0, 1.0, 0.0]
    """
    angles = np.asarray(angles_rad, np.float64)
    if angles.ndim < 1 or angles.shape[-1] != 3:
        raise ShapeError(f"Euler angles are (..., 3), not {angles.shape}")
    (c1, c, c2), (s1, s, s2) = (np.moveaxis(f(angles), -1, 0) for f in (np.cos, np.sin))
    rows = [
        [c1 * c2 - s1 * s2 * c, s1 * c2 + c1 * s2 * c, s2 * s],
        [-c1 * s2 - s1 * c2 * c, -s1 * s2 + c1 * c2 * c, c2 * s],
        [s1 * s, -c1 * s, c],
    ]
    return np.asarray(np.moveaxis(np.array(rows), (0, 1), (-2, -1)))
