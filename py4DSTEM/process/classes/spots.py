"""Common spots: the places in diffraction space where Bragg peaks of many positions lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import MemoryBudgetError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.bragg.vector_map import MOST_BINS, splatted
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "CommonSpots",
    "FindCommonSpots",
    "common_spots",
    "default_tolerance",
    "nearest_spot",
    "spot_matrix",
]

Float = NDArray[np.float64]
Ints = NDArray[np.int64]
_BINS_PER_TOLERANCE = 3.0
_ROUNDS = 4
_LEAST_TOLERANCE_PX = 1.0
_LEAST_SHARE = 0.004
"""Of all positions that must have a spot: less is what stray peaks give."""
_LEAST_POSITIONS = 3


@dataclass(frozen=True, eq=False)
class CommonSpots:
    """Places in diffraction space that many positions have a Bragg peak at; the commonest first.

    Parameters
    ----------
    vectors_px : (n, 2) float64
        Calibrated vectors (origin, ellipse, flip, rotation) in detector pixels.
    count : (n,) int64
        Positions with a peak there.
    intensity : (n,) float64
        Mean intensity of the peaks there.
    spread_px : (n,) float64
        Root of the mean squared distance of the peaks from the spot.
    mate : (n,) int64
        The spot at −g (Friedel's mate); −1 where there is none.
    tolerance_px : float
        Farthest that a peak may be from its spot.
    """

    vectors_px: Float
    count: Ints
    intensity: Float
    spread_px: Float
    mate: Ints
    tolerance_px: float
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "common spots"

    def __post_init__(self) -> None:
        n = len(self.vectors_px)
        if self.vectors_px.shape != (n, 2):
            raise ShapeError(f"vectors of spots are (n, 2), not {self.vectors_px.shape}")
        for part in ("count", "intensity", "spread_px", "mate"):
            if getattr(self, part).shape != (n,):
                raise ShapeError(f"{n} spots, but {part} of {getattr(self, part).shape}")

    def __len__(self) -> int:
        return len(self.vectors_px)

    @property
    def names(self) -> tuple[str, ...]:
        """Each spot by its vector in pixels: ``"(12.3, -4.5)"``; a number where two are alike."""
        names = [f"({x:.1f}, {y:.1f})" for x, y in self.vectors_px]
        return tuple(
            name if names.index(name) == k else f"{name} #{k}" for k, name in enumerate(names)
        )

    @property
    def friedel_sets(self) -> dict[str, tuple[tuple[float, float], ...]]:
        """Each spot together with its mate, where it has one: what `dark_field_images` takes."""
        sets = {}
        for k, name in enumerate(self.names):
            mate = int(self.mate[k])
            if mate < 0 or mate > k:
                members = [k] if mate < 0 else [k, mate]
                sets[name] = tuple((float(x), float(y)) for x, y in self.vectors_px[members])
        return sets

    def owners(self, peaks: PointTable) -> Ints:
        """The spot of every peak, (n_peaks,) int64; −1: none within the tolerance."""
        return nearest_spot(peaks.vectors("px"), self.vectors_px, self.tolerance_px)

    def __repr__(self) -> str:
        paired = int((self.mate >= 0).sum())
        return f"<CommonSpots {len(self)} within {self.tolerance_px:.3g} px, {paired} with a mate>"


def _to_parts(spots: CommonSpots) -> dict[str, Any]:
    return {**vars(spots), "history": spots.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> CommonSpots:
    return CommonSpots(**{**parts, "history": History.from_dict(parts["history"])})


register_result("common-spots", CommonSpots, _to_parts, _from_parts)


class FindCommonSpots(Analysis, kind="common-spots", version=1):
    """Places in diffraction space where many positions of a scan have a Bragg peak.

    Maxima of the density of all peaks, moved to the mean of the peaks around them; each peak
    belongs to the nearest spot (Voronoi cells) within the tolerance.
    """

    tolerance_px: float | None = Field(
        None,
        gt=0,
        description="Farthest that a peak may be from its spot; None: half the radius of the disk, "
        "at least 1 px.",
    )
    min_positions: int | None = Field(
        None,
        ge=1,
        description="Fewest positions with a peak at a spot; None: 0.4 % of the scan, at least 3.",
    )
    inner_px: float | None = Field(
        None,
        ge=0,
        description="Spots nearer to the origin are the beam; None: one and a half disk radii.",
    )
    max_spots: int = Field(1000, ge=1, le=100_000, description="The commonest so many are kept.")

    accepts: ClassVar[tuple[type, ...]] = (PointTable,)

    def apply(self, value: Any, options: RunOptions | None = None) -> CommonSpots:
        """The spots of a table of peaks; `options` are not needed."""
        self.check(value)
        tolerance = self.tolerance_px or default_tolerance(value.calibration)
        vectors = value.vectors("px")
        vectors = vectors[np.hypot(*vectors.T) > self._inner(value.calibration, tolerance)]
        least = self.min_positions or max(
            _LEAST_POSITIONS, math.ceil(_LEAST_SHARE * math.prod(value.shape))
        )
        places = _settled(vectors, _maxima(vectors, tolerance, least), tolerance)
        found = _described(value, places, tolerance)
        keep = np.flatnonzero(found.count >= least)
        keep = keep[np.argsort(-found.count[keep], kind="stable")][: self.max_spots]
        return CommonSpots(
            found.vectors_px[keep],
            found.count[keep],
            found.intensity[keep],
            found.spread_px[keep],
            _mates(found.vectors_px[keep], tolerance),
            tolerance,
            value.calibration,
            self.history(value.history),
        )

    def _inner(self, calibration: Calibration, tolerance: float) -> float:
        if self.inner_px is not None:
            return self.inner_px
        radius = calibration.probe_radius_px
        return 1.5 * radius if radius else 2 * tolerance


def common_spots(
    peaks: PointTable,
    *,
    tolerance_px: float | None = None,
    min_positions: int | None = None,
    inner_px: float | None = None,
    max_spots: int = 1000,
) -> CommonSpots:
    """Find the places in diffraction space where many positions of a scan have a Bragg peak.

    Parameters
    ----------
    peaks : BraggPeaks
        With a calibrated origin.
    tolerance_px : float, optional
        Farthest that a peak may be from its spot, detector pixels; None: half the radius of the
        disk, at least 1.
    min_positions : int, optional
        Fewest positions with a peak at a spot; None: 0.4 % of the scan, at least 3.
    inner_px : float, optional
        Spots nearer to the origin are the direct beam; None: one and a half disk radii.
    max_spots : int
        The commonest so many are kept.

    Returns
    -------
    CommonSpots
        None of them (length 0) where no place is common.

    Raises
    ------
    CalibrationMissing
        The origin is not known.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.polycrystal((8, 9), (96, 96), grains=2, seed=3)
    >>> spots = common_spots(scan.truth.peaks(), min_positions=4)
    >>> len(spots) > 4, float(spots.spread_px.max()) < 0.01
    (True, True)
    """
    step = FindCommonSpots(
        tolerance_px=tolerance_px,
        min_positions=min_positions,
        inner_px=inner_px,
        max_spots=max_spots,
    )
    return step.apply(peaks)


def spot_matrix(peaks: PointTable, spots: CommonSpots) -> csr_array:
    """Intensity of every spot at every position, sparse (Rx · Ry, n) float64.

    Parameters
    ----------
    peaks : BraggPeaks
        With fields ``qx, qy``; without ``intensity`` every peak counts one.
    spots : CommonSpots

    Returns
    -------
    scipy.sparse.csr_array
        Positions in C order; the sum where several peaks of a position belong to one spot.
    """
    from scipy.sparse import coo_array

    owner = spots.owners(peaks)
    strength = _intensity(peaks)
    kept = (owner >= 0) & (strength > 0)
    position = np.repeat(np.arange(len(peaks.offsets) - 1), np.diff(peaks.offsets))
    shape = (len(peaks.offsets) - 1, len(spots))
    entries = coo_array((strength[kept], (position[kept], owner[kept])), shape=shape)
    return entries.tocsr()


# ---- where the spots are -------------------------------------------------------------------------
def default_tolerance(calibration: Calibration) -> float:
    """Half the radius of the disk, at least one pixel."""
    return max(_LEAST_TOLERANCE_PX, 0.5 * (calibration.probe_radius_px or 0.0))


def _intensity(peaks: PointTable) -> Float:
    """Of every peak; 0 where it is not a number."""
    if "intensity" not in (peaks.dtype.names or ()):
        return np.ones(len(peaks))
    values = peaks.points["intensity"].astype(np.float64)
    return np.where(np.isfinite(values), values, 0.0)


def _maxima(vectors: Float, tolerance: float, least: int) -> Float:
    """Local maxima of the smoothed density of peaks that may hold `least` of them, (n, 2)."""
    from scipy import ndimage  # slow to import

    known = vectors[np.isfinite(vectors).all(axis=1)]
    if not len(known):
        return np.empty((0, 2))
    step = tolerance / _BINS_PER_TOLERANCE
    low = known.min(axis=0) - 2 * tolerance
    size = np.ceil((np.ptp(known, axis=0) + 4 * tolerance) / step).astype(int) + 1
    shape = (int(size[0]), int(size[1]))
    if math.prod(shape) > MOST_BINS:
        raise MemoryBudgetError(
            f"peaks spread over {shape} bins of {step:g} px: enlarge tolerance_px, or remove peaks "
            "that lie far outside the detector"
        )
    density = splatted((known - low) / step, np.ones(len(known)), shape)
    sigma = _BINS_PER_TOLERANCE / 2
    smooth = ndimage.gaussian_filter(density, sigma, mode="constant")
    top = smooth == ndimage.maximum_filter(smooth, 2 * math.ceil(_BINS_PER_TOLERANCE / 2) + 1)
    # Peaks at one place give N / 2πσ²; those spread over the tolerance about a third of it.
    top &= smooth > 0.2 * least / (2 * math.pi * sigma**2)
    places: Float = np.argwhere(top) * step + low
    return places


def _settled(vectors: Float, places: Float, tolerance: float) -> Float:
    """Places moved to the mean of the peaks around them; of two that became one, one."""
    known = vectors[np.isfinite(vectors).all(axis=1)]
    for _ in range(_ROUNDS):
        owner = nearest_spot(known, places, tolerance)
        mine = owner >= 0
        count = np.bincount(owner[mine], minlength=len(places))
        sums = [np.bincount(owner[mine], v, len(places)) for v in known[mine].T]
        places = np.stack(sums, axis=-1)[count > 0] / count[count > 0, None]
        places = _apart(places, count[count > 0], tolerance)
    return places


def _apart(places: Float, count: Ints, tolerance: float) -> Float:
    """Without those that have a commoner one within three quarters of the tolerance."""
    from scipy.spatial import cKDTree

    if len(places) < 2:
        return places
    rank = np.argsort(np.argsort(-count, kind="stable"))
    pairs = cKDTree(places).query_pairs(0.75 * tolerance, output_type="ndarray")
    later = np.where(rank[pairs[:, 0]] > rank[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    kept: Float = np.delete(places, np.unique(later), axis=0)
    return kept


def nearest_spot(vectors: Float, places: Float, tolerance: float) -> Ints:
    """Index of the nearest place within the tolerance, −1: none."""
    from scipy.spatial import cKDTree

    owner = np.full(len(vectors), -1, np.int64)
    known = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    if len(places) and len(known):
        distance, index = cKDTree(places).query(
            vectors[known], distance_upper_bound=tolerance * (1 + 1e-9)
        )
        owner[known] = np.where(np.isfinite(distance), index, -1)
    return owner


def _described(peaks: PointTable, places: Float, tolerance: float) -> CommonSpots:
    """Counts, intensities and spreads of spots at these places."""
    n = len(places)
    vectors = peaks.vectors("px")
    owner = nearest_spot(vectors, places, tolerance)
    mine = np.flatnonzero(owner >= 0)
    of = owner[mine]
    number = np.maximum(np.bincount(of, minlength=n), 1)
    flat = np.repeat(np.arange(len(peaks.offsets) - 1), np.diff(peaks.offsets))[mine]
    # Two peaks of one position at a spot are one position.
    seen = np.unique(of * np.int64(len(peaks.offsets)) + flat) // len(peaks.offsets)
    off = ((vectors[mine] - places[of]) ** 2).sum(axis=1)
    return CommonSpots(
        places,
        np.bincount(seen, minlength=n).astype(np.int64),
        np.bincount(of, _intensity(peaks)[mine], n) / number,
        np.sqrt(np.bincount(of, off, n) / number),
        np.full(n, -1, np.int64),
        tolerance,
    )


def _mates(vectors: Float, tolerance: float) -> Ints:
    """Index of the spot at −g: of two that choose each other; −1: none."""
    chosen = nearest_spot(-vectors, vectors, 1.5 * tolerance)
    mutual = (chosen >= 0) & (chosen[chosen] == np.arange(len(vectors)))
    return np.where(mutual & (chosen != np.arange(len(vectors))), chosen, -1)
