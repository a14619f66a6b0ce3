"""Digital dark field: images of the scan from sets of Bragg spots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Disk
from py4DSTEM.core.history import History
from py4DSTEM.core.parameters import numbers
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.classes.bragg_classes import class_peaks
from py4DSTEM.process.classes.result import Classes
from py4DSTEM.process.classes.spots import CommonSpots, default_tolerance, nearest_spot
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation, Output, Parts, PerScan
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["BraggDarkField", "DarkField", "dark_field_images", "lattice_spots"]

Float = NDArray[np.float64]
Vector = tuple[float, float]
SpotSets = dict[str, tuple[Vector, ...]]
Units = Literal["px", "mrad", "A^-1", "nm^-1"]
_INNER, _OUTER = 1.3, (2.0, 3.0, 4.5)
"""Of the ring around an aperture that tells its background, in radii; the first that has room."""
_LEAST_RING = 0.25
"""Of the area of an aperture that the ring must have."""
_OWN = 0.5
"""Least share of a class in its spot, for dark fields of classes."""


# ---- which spots ---------------------------------------------------------------------------------
def spot_sets(spots: CommonSpots | Classes | Mapping[str, ArrayLike] | ArrayLike) -> SpotSets:
    """Vectors of the spots of each image, by name."""
    if isinstance(spots, CommonSpots):
        if not len(spots):
            raise ParameterError("there are no common spots: no dark field can be made of them")
        return spots.friedel_sets
    if isinstance(spots, Classes):
        return {name: _of_class(spots, name) for name in spots.names}
    if isinstance(spots, Mapping):
        if not spots:
            raise ParameterError("give the spots of one or more images")
        return {str(name): _vectors(some) for name, some in spots.items()}
    return {f"({x:g}, {y:g})": ((x, y),) for x, y in _vectors(spots)}


def _of_class(classes: Classes, name: str) -> tuple[Vector, ...]:
    found = class_peaks(classes, name)
    own = found[found["share"] >= _OWN]
    # A class without a spot of its own is shown by those that it has.
    own = own if len(own) else found
    return tuple((float(x), float(y)) for x, y in zip(own["qx"], own["qy"], strict=True))


def _vectors(given: ArrayLike) -> tuple[Vector, ...]:
    try:
        array = np.asarray(given, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        array = np.empty((0, 2))
    if not len(array) or not np.isfinite(array).all():
        raise ParameterError(f"spots are one or more finite vectors (x, y), not {given!r}")
    return tuple((float(x), float(y)) for x, y in array)


def _plain(sets: SpotSets) -> dict[str, list[list[float]]]:
    return {name: [list(vector) for vector in spots] for name, spots in sets.items()}


def _checked_units(values: Any) -> Any:
    known = isinstance(values, Mapping) and isinstance(values.get("spots"), CommonSpots | Classes)
    if known and values.get("units", "px") != "px":
        raise ParameterError("common spots and classes hold vectors in pixels: leave units as px")
    return values


SpotsParameter = Annotated[Any, PlainValidator(spot_sets), PlainSerializer(_plain)]
_SPOTS: Any = Field(
    description='Spots of each image by its name, as calibrated vectors: {"g": [[9.5, 3.2]]}; or '
    "common spots, or classes by them.",
    json_schema_extra={"accepts": ["CommonSpots", "Classes"]},
)
_UNITS: Any = Field("px", description="Unit of vectors that are given as numbers.")


# ---- from patterns -------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Plan:
    """Signed weights of the images, then their squares, on a frame wider by `margin`."""

    weights: Float
    margin: tuple[int, int]
    shifts: Float


class DarkField(Operation, kind="dark-field", version=1):
    """Images from sets of round apertures on Bragg spots, background subtracted.

    ``I(R) = Σ_spots (Σ disk − A_disk / A_ring · Σ ring)``, the ring around each disk without the
    disks of all other spots.  Apertures follow the origin of each position where the calibration
    holds one.
    """

    spots: SpotsParameter = _SPOTS
    units: Units = _UNITS
    radius_px: float | None = Field(
        None, gt=0, description="Of each aperture; None: the radius of the unscattered disk."
    )
    background: bool = Field(True, description="Subtract the level of a ring around each aperture.")
    sigma: bool = Field(False, description="Add the standard deviation by counting of each image.")
    gain: float = Field(1.0, gt=0, description="Counts per electron, for sigma.")

    outputs: ClassVar[Mapping[str, Output]] = {"images": PerScan(np.float64)}

    @model_validator(mode="before")
    @classmethod
    def _in_pixels(cls, values: Any) -> Any:
        return _checked_units(values)

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        pair = ((5.0, 1.0), (-5.0, -1.0))
        return [
            cls(spots={"g": pair[:1], "pair": pair}, radius_px=1.5),
            cls(spots={"g": ((0.1, 0.05),)}, units="A^-1", background=False, sigma=True),
        ]

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        calibration = cube.calibration
        mean = np.array(calibration.mean_origin_px)
        shifts = np.asarray(calibration.origins(cube.R_shape)) - mean
        reach = np.nanmax(np.abs(shifts), axis=(0, 1)) if calibration.origin_varies else np.zeros(2)
        still = not reach.any()
        margin = (0, 0) if still else _margins(reach, cube.Q_shape)
        wide = (cube.Q_shape[0] + 2 * margin[0], cube.Q_shape[1] + 2 * margin[1])
        there = replace(calibration, origin_px=mean + margin)
        weights = self._weights(wide, there, cube.Q_shape)
        if self.sigma:
            weights = np.concatenate([weights, weights**2])
        return _Plan(weights, margin, shifts)

    def _weights(
        self, shape: tuple[int, int], calibration: Calibration, Q_shape: tuple[int, int]
    ) -> Float:
        """Signed weights of every image around the mean origin, (K, nx, ny)."""
        radius = self.radius_px or calibration.probe_radius_px
        if radius is None:
            raise ParameterError(
                "give radius_px, or calibrate with the radius of the disk (measure_probe)"
            )
        center = np.array(calibration.mean_origin_px)
        back = np.linalg.inv(calibration.Q_matrix(self.units))
        sets = {name: center + np.array(v) @ back.T for name, v in self.spots.items()}
        margin = (np.array(shape) - Q_shape) // 2
        _check_inside(sets, margin, Q_shape, radius)
        taken = np.zeros(shape)
        for place in np.unique(np.concatenate(list(sets.values())), axis=0):
            _add(taken, place, _INNER * radius, 1.0)
        apertures = [self._aperture(shape, places, radius, taken) for places in sets.values()]
        return np.stack(apertures)

    def _aperture(
        self, shape: tuple[int, int], places: Float, radius: float, taken: Float
    ) -> Float:
        out = np.zeros(shape)
        for place in places:
            _add(out, place, radius, 1.0)
            if not self.background:
                continue
            ring = _ring(place, radius, taken)
            own = np.zeros(shape)
            _add(own, place, radius, 1.0)
            out -= ring * (own.sum() / ring.sum())
        return out

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        shifts = tile.local(plan.shifts)
        return {"images": kernels.shifted_sums(tile.frames, plan.weights, shifts, plan.margin)}

    def finish(self, cube: Cube, plan: _Plan, parts: Parts, history: History) -> RealSlice:
        images = np.moveaxis(parts["images"], -1, 0).copy()
        names = tuple(self.spots)
        if self.sigma:
            count = len(names)
            images[count:] = np.sqrt(self.gain * np.maximum(images[count:], 0.0))
            names += tuple(f"sigma {name}" for name in names)
        return RealSlice(images, cube.calibration, history, "dark field", names)


def _ring(place: Float, radius: float, taken: Float) -> Float:
    """Weights around an aperture where no spot is; wider where spots are close."""
    for reach in _OUTER:
        ring = np.zeros(taken.shape)
        _add(ring, place, reach * radius, 1.0)
        ring[taken > 0] = 0.0
        if ring.sum() >= _LEAST_RING * math.pi * radius**2:
            return ring
    raise ParameterError(
        f"around the spot at {np.round(place, 1).tolist()} px there are only other spots, or no "
        "detector: use a smaller radius_px, leave the spot out, or give background=False"
    )


def _margins(reach: Float, Q_shape: tuple[int, int]) -> tuple[int, int]:
    """Of a frame so wide that all which moves into view is there."""
    x, y = (min(math.ceil(r) + 1, n) for r, n in zip(reach, Q_shape, strict=True))
    return x, y


def _check_inside(
    sets: Mapping[str, Float], margin: NDArray[Any], Q_shape: tuple[int, int], radius: float
) -> None:
    """An aperture beside the detector would give an image of zeros, which is never meant."""
    for name, places in sets.items():
        at = places - margin
        far = (at < -radius).any(axis=1) | (at > np.array(Q_shape) - 1 + radius).any(axis=1)
        if far.all():
            raise ParameterError(
                f"all spots of {name!r} lie outside the patterns of {Q_shape} pixels: check the "
                "vectors, their units and the origin"
            )


def _add(image: Float, place: Float, radius: float, weight: float) -> None:
    """Add a disk to an image, by the area of each pixel that it covers."""
    first = np.clip(np.floor(place - radius - 1), 0, image.shape).astype(int)
    stop = np.clip(np.ceil(place + radius) + 2, 0, image.shape).astype(int)
    window = (int(stop[0] - first[0]), int(stop[1] - first[1]))
    if min(window) > 0:
        center = (float(place[0] - first[0]), float(place[1] - first[1]))
        disk = Disk(radius, center).weights(window, Calibration())
        image[first[0] : stop[0], first[1] : stop[1]] += weight * disk


# ---- from peaks ----------------------------------------------------------------------------------
class BraggDarkField(Analysis, kind="bragg-dark-field", version=1):
    """Images from sets of Bragg spots: the intensities of the peaks within a tolerance of them.

    A peak belongs to the nearest of all spots, and counts in every image that has this spot.
    """

    spots: SpotsParameter = _SPOTS
    units: Units = _UNITS
    tolerance_px: float | None = Field(
        None, gt=0, description="Farthest that a peak may be from its spot; None: chosen."
    )

    accepts: ClassVar[tuple[type, ...]] = (PointTable,)

    @model_validator(mode="before")
    @classmethod
    def _in_pixels(cls, values: Any) -> Any:
        return _checked_units(values)

    def apply(self, value: Any, options: RunOptions | None = None) -> RealSlice:
        """The stack of images of a table of peaks; `options` are not needed."""
        from scipy.sparse import coo_array  # slow to import

        self.check(value)
        if "intensity" not in (value.dtype.names or ()):
            raise ParameterError("dark fields need peaks with a field 'intensity'")
        tolerance = self.tolerance_px or default_tolerance(value.calibration)
        vectors = value.vectors("px")
        to_px = value.calibration.Q_matrix("px") @ np.linalg.inv(
            value.calibration.Q_matrix(self.units)
        )
        places, shows = _memberships(self.spots)
        owner = nearest_spot(vectors, places @ to_px.T, tolerance)
        intensity = value.points["intensity"].astype(np.float64)
        near = np.flatnonzero((owner >= 0) & np.isfinite(intensity))
        size = len(value.offsets) - 1
        position = np.repeat(np.arange(size), np.diff(value.offsets))[near]
        strengths = coo_array((intensity[near], (position, owner[near])), shape=(size, len(places)))
        stack = np.ascontiguousarray((strengths.tocsr() @ shows).T).reshape(-1, *value.shape)
        history = self.history(value.history)
        return RealSlice(stack, value.calibration, history, "dark field", tuple(self.spots))


def _memberships(sets: SpotSets) -> tuple[Float, Float]:
    """All different spots (n, 2), and which images show them, (n, K)."""
    lengths = [len(spots) for spots in sets.values()]
    given = np.array([vector for spots in sets.values() for vector in spots])
    places, index = np.unique(given, axis=0, return_inverse=True)
    shows = np.zeros((len(places), len(sets)))
    shows[index.ravel(), np.repeat(np.arange(len(sets)), lengths)] = 1.0
    return places, shows


# ---- the public functions ------------------------------------------------------------------------
def dark_field_images(
    data: Cube | PointTable,
    spots: CommonSpots | Classes | Mapping[str, ArrayLike] | ArrayLike,
    *,
    units: Units = "px",
    radius_px: float | None = None,
    background: bool = True,
    sigma: bool = False,
    gain: float = 1.0,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> RealSlice:
    """Digital dark field: images of the scan from sets of Bragg spots.

    Parameters
    ----------
    data : DataCube or BraggPeaks
        Patterns, or the peaks found in them; with a calibrated origin.
    spots : CommonSpots, Classes, mapping of name to (n, 2), or (n, 2) array
        Spots of a scan: an image for each with its Friedel mate.  Classes of `classify_bragg`: one
        for the spots of each class that are mostly its own.  Vectors by name: an image each
        (`lattice_spots` makes those of a lattice).  An array: one image for each vector.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Of vectors that are given as numbers: calibrated, x along rows.
    radius_px : float, optional
        Radius of the apertures; of peaks: farthest that one may be from its spot.  None: the radius
        of the unscattered disk; of peaks half of it, at least 1.
    background : bool
        Subtract the level of a ring around each aperture (patterns only).
    sigma : bool
        Add an image ``"sigma NAME"`` for each: its standard deviation by counting (patterns only).
    gain : float
        Counts per electron, for `sigma`.
    where : (Rx, Ry) bool, optional
        Positions to compute; others are NaN (patterns only).
    options : RunOptions, optional

    Returns
    -------
    RealSlice
        Stack (K, Rx, Ry) float64, counts; negative where noise is below its background.

    Raises
    ------
    ParameterError
        No spots; spots beside the detector; no room for a ring.
    CalibrationMissing
        The origin is not known, or no pixel size for physical units.

    Examples
    --------
    >>> from py4DSTEM import common_spots, simulate
    >>> scan = simulate.polycrystal((6, 7), (96, 96), grains=2, seed=3)
    >>> cube = scan.cube.with_calibration(scan.truth.calibration)
    >>> peaks = cube.find_bragg_disks(scan.truth.probe)
    >>> spots = common_spots(peaks)
    >>> stack = dark_field_images(cube, spots)
    >>> stack.labels == dark_field_images(peaks, spots).labels
    True
    """
    unit: Units = "px" if isinstance(spots, CommonSpots | Classes) else units
    if isinstance(data, PointTable):
        if sigma or where is not None:
            raise ParameterError("sigma and where are for dark fields of patterns, not of peaks")
        return BraggDarkField(spots=spots, units=unit, tolerance_px=radius_px).apply(data)
    operation = DarkField(
        spots=spots, units=unit, radius_px=radius_px, background=background, sigma=sigma, gain=gain
    )
    found: RealSlice = run(operation, data, where=where, options=options)
    return found


def lattice_spots(
    g1: Sequence[float], g2: Sequence[float], *, order: int = 3, q_max: float | None = None
) -> tuple[Vector, ...]:
    """Spots ``h g1 + k g2`` of a lattice, the direct beam left out.

    Parameters
    ----------
    g1, g2 : (float, float)
        Calibrated vectors (x, y) in any unit.
    order : int
        ``|h|, |k| <= order``.
    q_max : float, optional
        Longest vector.

    Returns
    -------
    tuple of (float, float)
        The shortest first; goes into `dark_field_images` under a name.

    Raises
    ------
    ParameterError
        The vectors are parallel, or none is left.

    Examples
    --------
    >>> lattice_spots((8, 0), (0, 9), order=1, q_max=10)
    ((-8.0, 0.0), (8.0, 0.0), (0.0, -9.0), (0.0, 9.0))
    """
    a, b = np.array(numbers("g1", g1, 2)), np.array(numbers("g2", g2, 2))
    if not 1 <= order <= 50:
        raise ParameterError(f"order is from 1 to 50, not {order!r}")
    if abs(a[0] * b[1] - a[1] * b[0]) <= 1e-6 * np.hypot(*a) * np.hypot(*b):
        raise ParameterError(f"g1={g1!r} and g2={g2!r} span no lattice")
    h, k = np.indices((2 * order + 1, 2 * order + 1)).reshape(2, -1) - order
    nodes = np.stack([h, k], axis=-1)[(h != 0) | (k != 0)] @ np.stack([a, b])
    length = np.hypot(*nodes.T)
    chosen = np.argsort(np.round(length, 9), kind="stable")
    if q_max is not None:
        chosen = chosen[length[chosen] <= q_max]
    if not len(chosen):
        raise ParameterError(f"no lattice vector is shorter than q_max={q_max!r}")
    return tuple((float(x), float(y)) for x, y in nodes[chosen])
