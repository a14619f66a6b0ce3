"""Texture: densities of poles in the sample, and of sample directions in the crystal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, field_validator
from scipy.special import beta

from py4DSTEM.core.crystal import Crystal
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.crystal.grains import OrientationGrains
from py4DSTEM.process.crystal.interop import laue_of
from py4DSTEM.process.crystal.result import OrientationMap
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["MeasureTexture", "Texture", "measure_texture", "orientation_density"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
_PIXELS = 81
"""Across a pole figure."""
_BIN = math.radians(1.5)
"""Directions are gathered in bins of this size where there are more of them than bins."""
_FEW = 1500
"""Directions that are not gathered."""
_SHARP = 36.0
"""What exp(−κ) of more than this adds is lost in rounding."""
_CHUNK = 65_536
_PIXELS_AT_ONCE = 256
_SHORTEST = 3
"""Families of reflections that are drawn where none is asked for."""
_INSIDE_CUBIC, _INSIDE = (0.40, 0.17, 0.90), (0.585, 0.135, 0.80)
"""A direction within the standard triangle of cubic crystals, and of others."""


@dataclass(frozen=True, eq=False, repr=False)
class Texture:
    """Densities of directions, in multiples of a random distribution.

    Parameters
    ----------
    poles : (k, 3) int64
        Reflections hkl; each stands for all that symmetry makes of it, and their opposites.
    density, sigma : (k, m, m) float64
        Pole figures, stereographic, as on the screen: rows along x (down), columns along y
        (right), z in the middle; NaN outside.  One-sigma uncertainty.
    inverse, inverse_sigma : (3, m, m) float64
        The sample's x, y and z among the directions of the crystal, stereographic: columns along
        the crystal's x, rows upwards along its y, over `extent`; NaN outside the triangle that
        symmetry leaves.
    extent : (4,) float64
        First and last column, first and last row of `inverse`, in the plane of projection, where
        the equator is the unit circle.
    count : float
        Number of orientations; of grains of different area, of equal ones with the same scatter.
    smoothing_deg : float
    crystal : Crystal
    """

    poles: NDArray[np.int64]
    density: Float
    sigma: Float
    inverse: Float
    inverse_sigma: Float
    extent: Float
    count: float
    smoothing_deg: float
    crystal: Crystal
    history: History = field(default_factory=History)
    name: str = "texture"

    def __post_init__(self) -> None:
        if self.density.shape != self.sigma.shape or len(self.poles) != len(self.density):
            raise ShapeError(
                f"{len(self.poles)} poles with figures {self.density.shape}, {self.sigma.shape}"
            )

    def text(self) -> str:
        """The strongest of each pole figure, one per line."""
        lines = [f"{self.name}: {self.count:.4g} orientations of {self.crystal.name}"]
        for hkl, density, sigma in zip(self.poles, self.density, self.sigma, strict=True):
            i, j = np.unravel_index(int(np.nanargmax(density)), density.shape)
            lines.append(
                f"{{{' '.join(map(str, hkl))}}}: up to {density[i, j]:.2f} ± {sigma[i, j]:.2f} "
                "times random"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Texture {self.text()}>"


def _to_parts(value: Texture) -> dict[str, Any]:
    crystal, history = value.crystal.plain(), value.history.to_dict()
    return {**vars(value), "crystal": crystal, "history": history}


def _from_parts(parts: Mapping[str, Any]) -> Texture:
    crystal, history = Crystal.of(parts["crystal"]), History.from_dict(parts["history"])
    return Texture(**{**parts, "crystal": crystal, "history": history})


register_result("texture", Texture, _to_parts, _from_parts)


class MeasureTexture(Analysis, kind="texture", version=1):
    """Pole figures and inverse pole figures of a crystal, with their uncertainties."""

    poles: tuple[tuple[int, int, int], ...] = Field(
        (), description="Reflections hkl; none: the three shortest kinds."
    )
    smoothing_deg: float = Field(
        7.5, ge=3, le=45, description="Half width at half height of what each direction becomes."
    )

    accepts: ClassVar[tuple[type, ...]] = (OrientationMap, OrientationGrains)
    cites: ClassVar[tuple[str, ...]] = ("10.1098/rspa.1953.0064",)

    @field_validator("poles")
    @classmethod
    def _no_zero(cls, given: tuple[tuple[int, int, int], ...]) -> Any:
        if any(not any(hkl) for hkl in given):
            raise ValueError("a pole is not 0 0 0")
        return given

    def apply(self, value: Any, options: RunOptions | None = None) -> Texture:
        """The texture of an orientation map or of grains; `options` are not needed."""
        self.check(value)
        crystal, matrices, weights = _orientations(value)
        if not len(matrices):
            raise ParameterError(f"{value.name!r} holds no orientation: nothing is indexed")
        poles = np.array(self.poles or _shortest(crystal), np.int64)
        grid = _disc()
        figures = [self._figure(_poles_of(crystal, hkl), matrices, weights, grid) for hkl in poles]
        sector = _Sector.of(crystal)
        inverse = [self._inverse(axis, matrices, weights, sector) for axis in range(3)]
        density, sigma = np.stack(figures, axis=1)
        within, within_sigma = np.stack(inverse, axis=1)
        return Texture(
            poles, density, sigma, within, within_sigma, sector.extent,
            float(weights.sum() ** 2 / (weights**2).sum()), self.smoothing_deg, crystal,
            self.history(value.history), f"texture of {value.name}",
        )  # fmt: skip

    def _figure(self, poles: Float, matrices: Float, weights: Float, grid: Float) -> Float:
        """One pole figure and its sigma."""
        parts = (
            (np.einsum("nji,kj->nki", part, poles), w) for part, w in _parts(matrices, weights)
        )
        places = _gathered(parts, len(weights) * len(poles))
        # Poles of one orientation are apart: their squares add up like those of several.
        share = _Share(float(weights.sum()), float((weights**2).sum()), len(poles))
        return _density(places, share, grid, self.smoothing_deg, np.eye(3)[None])

    def _inverse(self, axis: int, matrices: Float, weights: Float, sector: _Sector) -> Float:
        """One inverse pole figure and its sigma."""
        parts = (
            (sector.folded(part[:, :, axis])[:, None], w) for part, w in _parts(matrices, weights)
        )
        places = _gathered(parts, len(weights))
        # At corners equivalents of one direction meet: the kernel itself is symmetric.
        share = _Share(float(weights.sum()), float((weights**2).sum()), 1)
        return _density(places, share, sector.grid, self.smoothing_deg, sector.rotations)


def measure_texture(
    orientations: OrientationMap | OrientationGrains,
    *,
    poles: tuple[tuple[int, int, int], ...] = (),
    smoothing_deg: float = 7.5,
) -> Texture:
    """Pole figures and inverse pole figures of a crystal, with their uncertainties.

    Parameters
    ----------
    orientations : OrientationMap or OrientationGrains
        Of a map each indexed position counts once; of grains (of one phase) each counts by area.
    poles : tuple of (h, k, l)
        None: the three shortest kinds of reflections.
    smoothing_deg : float
        Half width at half height of what each direction becomes.

    Returns
    -------
    Texture

    Raises
    ------
    ParameterError
        Nothing is indexed, or grains of several phases.

    Notes
    -----
    Each direction v becomes ``κ cosh(κ u·v)/sinh κ`` (Fisher, doi:10.1098/rspa.1953.0064, the same
    for v and −v), whose mean over the sphere is one.  The uncertainty is that of orientations that
    do not depend on each other: positions of one grain do, so judge it with grains.

    Examples
    --------
    >>> from py4DSTEM.process.crystal.interop import orientation_map
    >>> one = measure_texture(orientation_map(np.broadcast_to(np.eye(3), (2, 3, 3, 3)), "Au"))
    >>> one.poles.tolist()
    [[1, 1, 1], [2, 0, 0], [2, 2, 0]]
    """
    return MeasureTexture(poles=poles, smoothing_deg=smoothing_deg).apply(orientations)


def orientation_density(
    orientations: OrientationMap | OrientationGrains, at: ArrayLike, *, smoothing_deg: float = 7.5
) -> Float:
    """Orientation distribution function at given orientations, in multiples of a random one.

    Parameters
    ----------
    orientations : OrientationMap or OrientationGrains
        Of a map each indexed position counts once; of grains (of one phase) each counts by area.
    at : (..., 3, 3) float64
        Where it is asked for; `matrices_from_euler` makes sections.
    smoothing_deg : float
        Half width at half height of what each orientation becomes.

    Returns
    -------
    (...) float64

    Raises
    ------
    ParameterError
        Nothing is indexed, grains of several phases, a width outside 2 to 45 degrees.
    ShapeError
        Not matrices.

    Notes
    -----
    Each orientation becomes ``B(3/2, 1/2)/B(3/2, κ + 1/2) cos^2κ(ω/2)`` with ω the angle to it or
    an equivalent: the kernel of de la Vallée Poussin (Schaeben, doi:10.1155/TSM.33.365).  The time
    goes with orientations times places times symmetry.

    Examples
    --------
    >>> from py4DSTEM.process.crystal.interop import orientation_map
    >>> one = orientation_map(np.broadcast_to(np.eye(3), (2, 3, 3, 3)), "Au")
    >>> quarter = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    >>> bool(np.allclose(*orientation_density(one, [np.eye(3), quarter])))
    True
    """
    if not 2 <= smoothing_deg <= 45:
        raise ParameterError(f"smoothing_deg lies between 2 and 45, not {smoothing_deg!r}")
    wanted = np.asarray(at, np.float64)
    if wanted.ndim < 2 or wanted.shape[-2:] != (3, 3):
        raise ShapeError(f"orientations are (..., 3, 3), not {wanted.shape}")
    crystal, matrices, weights = _orientations(orientations)
    if not len(matrices):
        raise ParameterError(f"{orientations.name!r} holds no orientation: nothing is indexed")
    kappa = math.log(0.5) / (2 * math.log(math.cos(math.radians(smoothing_deg) / 2)))
    norm = beta(1.5, 0.5) / beta(1.5, kappa + 0.5) / (len(crystal.rotations) * weights.sum())
    flat = wanted.reshape(-1, 3, 3)
    total = np.zeros(len(flat))
    for begin in range(0, len(flat), _PIXELS_AT_ONCE):
        part = slice(begin, begin + _PIXELS_AT_ONCE)
        for few, w in _parts(matrices, weights, _FEW):
            for turn in crystal.rotations:
                trace = (turn @ flat[part]).reshape(-1, 9) @ few.reshape(-1, 9).T
                total[part] += np.clip((1 + trace) / 4, 0, 1) ** kappa @ w
    return np.asarray((norm * total).reshape(wanted.shape[:-2]))


# ---- orientations and their poles ----------------------------------------------------------------
def _orientations(value: OrientationMap | OrientationGrains) -> tuple[Crystal, Float, Float]:
    """Crystal, orientations (n, 3, 3) and weights (n,)."""
    if isinstance(value, OrientationMap):
        matrices = value.matrices[value.indexed]
        return value.crystal, matrices, np.ones(len(matrices))
    kinds = np.unique(value.phase)
    if len(kinds) > 1:
        raise ParameterError("these grains are of several phases: give the map of one of them")
    crystal = value.crystals[int(kinds[0])] if len(kinds) else value.crystals[0]
    return crystal, value.orientations, np.asarray(value.table["area"], np.float64)


def _parts(matrices: Float, weights: Float, size: int = _CHUNK) -> Iterator[tuple[Float, Float]]:
    for begin in range(0, len(matrices), size):
        yield matrices[begin : begin + size], weights[begin : begin + size]


def _shortest(crystal: Crystal) -> list[list[int]]:
    """One reflection of each of the shortest kinds."""
    found = crystal.reflections(4.5 / min(crystal.cell[:3]))
    # Of alike ones that with the largest first index: (1 1 1), (2 0 0).
    order = np.lexsort((*-found.hkl.T[::-1], found.k_A.round(6)))
    _, first = np.unique(found.k_A[order].round(6), return_index=True)
    return [found.hkl[order][k].tolist() for k in first[:_SHORTEST]]


def _poles_of(crystal: Crystal, hkl: NDArray[np.int64]) -> Float:
    """Unit vectors of a reflection and its equivalents, each once and without its opposite."""
    g = hkl @ crystal.reciprocal_A
    images = crystal.rotations @ (g / np.linalg.norm(g))
    kept: list[Float] = []
    for image in images:
        if not any(abs(image @ other) > 1 - 1e-9 for other in kept):
            kept.append(image)
    return np.array(kept)


# ---- densities -----------------------------------------------------------------------------------
def _disc() -> Float:
    """Directions of the pixels of a pole figure, (m, m, 3); NaN outside."""
    p = np.linspace(-1, 1, _PIXELS)
    return _lifted(*np.meshgrid(p, p, indexing="ij"))


def _lifted(px: Float, py: Float) -> Float:
    """Upper directions of places in the plane of projection."""
    r2 = px**2 + py**2
    up = np.stack([2 * px, 2 * py, 1 - r2], axis=-1) / (1 + r2)[..., None]
    return np.asarray(np.where((r2 <= 1 + 1e-9)[..., None], up, np.nan))


@dataclass(frozen=True, eq=False)
class _Sector:
    """The triangle of directions that symmetry leaves: where it lies, and its pixels."""

    rotations: Float
    inside: Float
    extent: Float
    grid: Float

    @classmethod
    def of(cls, crystal: Crystal) -> _Sector:
        cubic = laue_of(crystal).symbol in ("m-3", "m-3m")
        inside = np.array(_INSIDE_CUBIC if cubic else _INSIDE)
        coarse = _within(_disc(), crystal.rotations, inside)
        at = np.argwhere(np.isfinite(coarse[..., 0])) / (_PIXELS - 1) * 2 - 1
        low, high = at.min(axis=0) - 2 / _PIXELS, at.max(axis=0) + 2 / _PIXELS
        steps = np.linspace(0, max(high - low), _PIXELS)
        columns, rows = low[0] + steps, low[1] + steps
        px, py = np.meshgrid(columns, rows)
        extent = np.array([columns[0], columns[-1], rows[0], rows[-1]])
        grid = _within(_lifted(px, py), crystal.rotations, inside)
        return cls(crystal.rotations, inside, extent, grid)

    def folded(self, directions: Float) -> Float:
        """Directions (n, 3) as those of the triangle."""
        images = np.einsum("kij,nj->nki", self.rotations, directions)
        along = images @ self.inside
        best = np.abs(along).argmax(axis=1)
        each = np.arange(len(best))
        return np.asarray(images[each, best] * np.sign(along[each, best])[:, None])


def _within(grid: Float, rotations: Float, inside: Float) -> Float:
    """Directions that are nearer to `inside` than any of their equivalents; NaN others."""
    images = np.einsum("kij,...j->...ki", rotations, grid) @ inside
    with np.errstate(invalid="ignore"):
        best = images[..., 0] >= np.abs(images).max(axis=-1) - 1e-9
    return np.asarray(np.where(best[..., None], grid, np.nan))


class _Share(NamedTuple):
    """Sum of the weights, of their squares, and directions per orientation."""

    weight: float
    square: float
    each: int


def _density(
    places: tuple[Float, Float, Float], share: _Share, grid: Float, width_deg: float, turns: Float
) -> Float:
    """Density of directions and its sigma on a grid of directions, (2, m, m)."""
    directions, first, second = places
    kappa = math.log(2) / (1 - math.cos(math.radians(width_deg)))
    norm = kappa / -math.expm1(-2 * kappa) / len(turns)
    known = np.isfinite(grid[..., 0])
    at = grid[known]
    mean, square = np.empty((2, len(at)))
    for begin in range(0, len(at), _PIXELS_AT_ONCE):
        part = slice(begin, begin + _PIXELS_AT_ONCE)
        kernel = np.zeros((len(at[part]), len(directions)))
        for turn in turns:
            cosine = np.minimum(np.abs(at[part] @ turn @ directions.T), 1.0)
            kernel += np.exp(kappa * (cosine - 1))
            if kappa < _SHARP:
                kernel += np.exp(-kappa * (cosine + 1))
        mean[part] = norm * kernel @ first
        square[part] = norm**2 * kernel**2 @ second
    mean /= share.each * share.weight
    variance = square / share.each**2 - mean**2 * share.square
    out = np.full((2, *grid.shape[:2]), np.nan)
    out[0][known], out[1][known] = mean, np.sqrt(np.maximum(variance, 0)) / share.weight
    return out


def _gathered(parts: Iterator[tuple[Float, Float]], count: int) -> tuple[Float, Float, Float]:
    """Directions with the sums of their weights and of the squares; in bins if they are many."""
    from scipy.spatial import cKDTree

    bins = int(2 * math.pi / _BIN**2)
    if count <= _FEW:
        found = [(v.reshape(-1, 3), np.repeat(w, v.shape[1])) for v, w in parts]
        weights = np.concatenate([w for _, w in found])
        return np.concatenate([v for v, _ in found]), weights, weights**2
    i = np.arange(bins) + 0.5
    z, turn = i / bins, math.pi * (1 + math.sqrt(5)) * i
    places = np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], 1)
    tree = cKDTree(places)
    first, second = np.zeros((2, bins))
    for v, w in parts:
        flat, each = v.reshape(-1, 3), np.repeat(w, v.shape[1])
        _, at = tree.query(flat * np.where(flat[:, 2:] < 0, -1.0, 1.0))
        first += np.bincount(at, each, bins)
        second += np.bincount(at, each**2, bins)
    taken = first > 0
    return places[taken], first[taken], second[taken]
