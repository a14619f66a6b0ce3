"""Strontium titanate along [001] with short defects at known depths."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import rotation_matrix
from py4DSTEM.errors import ParameterError

__all__ = ["Atoms", "DepthDefect", "crystal_slab", "given_atoms"]

Float = NDArray[np.float64]
Pair = tuple[float, float]
EDGE_A = 3.905
_BASIS = ((38, 0, 0, 0), (8, 0.5, 0.5, 0), (22, 0.5, 0.5, 0.5), (8, 0.5, 0, 0.5), (8, 0, 0.5, 0.5))
_TURN_RAD = 0.15


@dataclass(frozen=True, eq=False)
class Atoms:
    """Places and atomic numbers.

    Parameters
    ----------
    places_A : (n, 3) float64
        x and y in scan axes, and the depth below the entrance surface.
    numbers : (n,) int64
    """

    places_A: Float
    numbers: NDArray[np.int64]

    def sheared(self, tilt_rad: Float) -> Atoms:
        """Moved along x and y by the depth times `tilt_rad` (2,)."""
        places = self.places_A.copy()
        places[:, :2] += places[:, 2:] * tilt_rad
        return Atoms(places, self.numbers)


@dataclass(frozen=True)
class DepthDefect:
    """Neighbouring atoms of one column that were replaced or taken out.

    Parameters
    ----------
    kind : str
    place_A : (float, float)
        In scan axes.
    depth_A : (float, float)
        First and last atom.
    Z_before, Z_after : int
        0: taken out.
    atoms : int
    """

    kind: str
    place_A: Pair
    depth_A: Pair
    Z_before: int
    Z_after: int
    atoms: int


_KINDS = (("Ba on Sr sites", 38, 56), ("Ti vacancies", 22, 0), ("Zr on Ti sites", 22, 40))


def crystal_slab(
    low: Float,
    high: Float,
    margin_A: float,
    thickness_A: float,
    defects: int,
    rng: np.random.Generator,
) -> tuple[Atoms, tuple[DepthDefect, ...]]:
    """SrTiO₃ over the scanned box from `low` to `high` and a margin, with defects in the box."""
    middle, reach = (low + high) / 2, float(np.linalg.norm(high - low)) / 2 + margin_A
    layers = max(1, round(thickness_A / EDGE_A))
    columns, numbers, heights = _columns(math.ceil(reach / EDGE_A) + 1)
    columns = columns @ rotation_matrix(_TURN_RAD) + middle
    inside = ((columns >= low - margin_A) & (columns <= high + margin_A)).all(axis=1)
    columns, numbers, heights = columns[inside], numbers[inside], heights[inside]
    depths = (np.arange(layers)[None, :] + heights[:, None]) * EDGE_A
    species = np.repeat(numbers[:, None], layers, axis=1)
    room = np.maximum((high - low) / 2 * 0.8, EDGE_A)
    free = np.asarray((np.abs(columns - middle) < room).all(axis=1))
    found = []
    for index in range(defects):
        kind, before, after = _KINDS[index % len(_KINDS)]
        choice = np.flatnonzero(free & (numbers == before))
        if not len(choice):
            raise ParameterError(f"no room for {defects} defects in the scanned area: scan more")
        column = int(rng.choice(choice))
        free[column] = False
        run = max(1, round(layers / 6))
        first = int(rng.integers(0, layers - run + 1))
        species[column, first : first + run] = after
        (x, y), z = columns[column], depths[column, [first, first + run - 1]]
        place, depth = (float(x), float(y)), (float(z[0]), float(z[1]))
        found.append(DepthDefect(kind, place, depth, before, after, run))
    flat = np.concatenate([np.repeat(columns, layers, axis=0), depths.reshape(-1, 1)], axis=1)
    kept = species.ravel() > 0
    return Atoms(flat[kept], species.ravel()[kept]), tuple(found)


def _columns(reach: int) -> tuple[Float, NDArray[np.int64], Float]:
    """Columns about the origin: places (n, 2), atomic numbers, height of the first in cells."""
    cells = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    places = [(cells + np.array([x, y])) * EDGE_A for _, x, y, _ in _BASIS]
    numbers = np.repeat([Z for Z, *_ in _BASIS], len(cells))
    heights = np.repeat([z for *_, z in _BASIS], len(cells)).astype(np.float64)
    return np.concatenate(places), numbers, heights


def given_atoms(
    places_A: ArrayLike | None, numbers: ArrayLike | None, middle: Float, thickness_A: float
) -> Atoms:
    """Atoms that a caller lists, moved from the middle of the scan to the frame of positions."""
    if places_A is None or numbers is None:
        raise ParameterError("atoms_A and atoms_Z belong together: give both")
    places, Z = np.asarray(places_A, np.float64), np.asarray(numbers)
    if places.ndim != 2 or places.shape[1] != 3 or not len(places) or not np.isfinite(places).all():
        raise ParameterError(f"atoms_A are finite places (n, 3), not {places.shape}")
    if Z.shape != places.shape[:1] or Z.dtype.kind not in "iu" or not ((Z > 0) & (Z < 119)).all():
        raise ParameterError(f"atoms_Z are atomic numbers of {len(places)} atoms, not {Z!r}")
    lowest, deepest = places[:, 2].min(), places[:, 2].max()
    if lowest < 0 or deepest >= thickness_A:
        raise ParameterError(
            f"atoms lie at depths 0 <= z < {thickness_A:g} Å (thickness_A), not at {lowest:g} to "
            f"{deepest:g} Å"
        )
    return Atoms(places + np.append(middle, 0.0), Z.astype(np.int64))
