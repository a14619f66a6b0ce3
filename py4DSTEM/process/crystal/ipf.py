"""Colours of orientations: which crystal direction lies along a direction of the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.crystal import Crystal
from py4DSTEM.errors import ShapeError
from py4DSTEM.process.crystal.interop import Layers, import_orix, laue_of, layers_of

__all__ = ["ipf_colors", "ipf_colors_of", "orix_symmetry", "sample_direction"]

Float = NDArray[np.float64]
_NAMES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def ipf_colors(orientations: Any, direction: str | ArrayLike = "z") -> Float:
    """Colours of the crystal directions along a sample direction, by the key of EDAX (TSL).

    Parameters
    ----------
    orientations : OrientationMap or PhaseMap
    direction : "x", "y", "z" or (3,) float
        Of the sample: x down, y right, z out of the screen.

    Returns
    -------
    (Rx, Ry, 3) float64
        Red, green and blue from 0 to 1; NaN where nothing is indexed.

    Raises
    ------
    DependencyMissing
        orix, whose key this is, is not installed.
    ShapeError
        Not a direction.
    """
    return ipf_colors_of(layers_of(orientations), direction)


def ipf_colors_of(layers: Layers, direction: str | ArrayLike) -> Float:
    """The colours of `ipf_colors`, of layers."""
    import_orix("colours of orientations")
    from orix.plot import DirectionColorKeyTSL
    from orix.vector import Vector3d

    along = sample_direction(direction)
    out = np.full((*layers.labels.shape, 3), np.nan)
    for k, one in enumerate(layers.maps):
        mine = layers.labels == k
        if mine.any():
            key = DirectionColorKeyTSL(orix_symmetry(one.crystal))
            out[mine] = key.direction2color(Vector3d(one.matrices[mine] @ along))
    return out


def sample_direction(direction: str | ArrayLike) -> Float:
    """A unit vector in the sample."""
    named = _NAMES.get(direction) if isinstance(direction, str) else direction
    try:
        vector = np.asarray(named, np.float64)
    except (TypeError, ValueError):
        vector = np.empty(0)
    if vector.shape != (3,) or not np.linalg.norm(vector) > 0:
        raise ShapeError(f'a sample direction is "x", "y", "z" or three numbers, not {direction!r}')
    return np.asarray(vector / np.linalg.norm(vector))


def orix_symmetry(crystal: Crystal) -> Any:
    """The Laue group of a crystal, of orix."""
    import_orix("colours of orientations")
    from orix.quaternion import symmetry

    names = {"-1": "Ci", "2/m": "C2h", "mmm": "D2h", "4/m": "C4h", "4/mmm": "D4h", "-3": "S6",
             "-3m": "D3d", "6/m": "C6h", "6/mmm": "D6h", "m-3": "Th", "m-3m": "Oh"}  # fmt: skip
    return getattr(symmetry, names[laue_of(crystal).symbol])
