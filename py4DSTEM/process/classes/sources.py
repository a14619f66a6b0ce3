"""Features of anything that says something about every scan position."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, PositiveInt

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Detector, Mask
from py4DSTEM.core.history import History
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.classes.extract import MOST_BLOCKS, ExtractFeatures
from py4DSTEM.process.classes.features import (
    FeatureBlock,
    Features,
    Scale,
    Transform,
    combined,
    table_of,
)
from py4DSTEM.process.classes.result import Classes
from py4DSTEM.process.radial import RadialProfileResult
from py4DSTEM.process.strain import StrainMap
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.options import RunOptions

__all__ = ["MapFeatures", "features"]

Array = NDArray[Any]


class MapFeatures(Analysis, kind="map-features", version=1):
    """Features from maps over the scan: images, strain, radial profiles, Bragg peaks, classes.

    Of Bragg peaks the intensities in blocks of the detector, about the origin of each position.
    """

    also: Any = Field(
        None,
        description="Features of the same scan to put beside them.",
        json_schema_extra={"accepts": ["Features"]},
        exclude=True,
    )
    bin: PositiveInt | None = Field(
        None, description="Of Bragg peaks: pixels along each side of a block; None: 32 a side."
    )
    transform: Literal["auto"] | Transform = Field(
        "auto", description="Before they are compared; auto: sqrt for intensities, else none."
    )
    scale: Literal["auto"] | Scale = Field(
        "auto",
        description="Before they are compared; auto: one number for all of a profile or all peaks "
        "(block), each map by its standard deviation (standard).",
    )

    accepts: ClassVar[tuple[type, ...]] = (
        RealSlice, StrainMap, RadialProfileResult, PointTable, Classes, Features,
    )  # fmt: skip

    def apply(self, value: Any, options: RunOptions | None = None) -> Features:
        """The features of one result; `options` are not needed."""
        self.check(value)
        history = self.history(value.history)
        made = self._of(value, value.calibration, history)
        return made if self.also is None else combined([made, self.also])

    def _of(self, value: Any, calibration: Calibration, history: History) -> Features:
        if isinstance(value, Features):
            return value.scaled_by(
                transform=None if self.transform == "auto" else self.transform,
                scale=None if self.scale == "auto" else self.scale,
            )
        for kind, make in _MAKERS:
            if isinstance(value, kind):
                maps, block = make(self, value)
                shape = (maps.shape[0], maps.shape[1])
                return Features(table_of(maps, shape), shape, (block,), calibration, history)
        raise ParameterError(f"no features are known of a {type(value).__name__}")

    def words(self, *, intensity: bool) -> dict[str, Any]:
        """Transform and scale of a block."""
        transform, scale = self.transform, self.scale
        return {
            "transform": ("sqrt" if intensity else "none") if transform == "auto" else transform,
            "scale": ("block" if intensity else "standard") if scale == "auto" else scale,
        }


def _of_slice(step: MapFeatures, value: RealSlice) -> tuple[Array, FeatureBlock]:
    stack = np.asarray(value.data, np.float64)
    if stack.ndim == 2:
        stack = stack[None]
    labels = value.labels if len(value.labels) == len(stack) else ()
    maps = np.moveaxis(stack.reshape(-1, *stack.shape[-2:]), 0, -1)
    block = FeatureBlock(
        "map", value.name or "map", (maps.shape[-1],), labels, **step.words(intensity=False)
    )
    return maps, block


def _of_strain(step: MapFeatures, value: StrainMap) -> tuple[Array, FeatureBlock]:
    return _of_slice(step, value.to_slice())


def _of_profiles(step: MapFeatures, value: RadialProfileResult) -> tuple[Array, FeatureBlock]:
    if value.data.ndim != 3:
        raise ShapeError("features need a profile of every position: radial_profiles(cube)")
    words = {**step.words(intensity=True), "step": value.axis.step, "unit": value.axis.unit}
    return value.data, FeatureBlock("profile", "profile", (value.data.shape[-1],), **words)


def _of_classes(step: MapFeatures, value: Classes) -> tuple[Array, FeatureBlock]:
    words = step.words(intensity=False)
    return value.weights, FeatureBlock("map", value.name, (value.n,), value.names, **words)


def _of_peaks(step: MapFeatures, value: PointTable) -> tuple[Array, FeatureBlock]:
    """Intensities of the peaks in blocks of the detector, about the mean origin."""
    if value.Q_shape is None or not {"qx", "qy", "intensity"} <= set(value.dtype.names or ()):
        raise ParameterError("features of points need qx, qy, intensity and the shape of patterns")
    size = step.bin or math.ceil(max(value.Q_shape) / MOST_BLOCKS)
    shape = (-(-value.Q_shape[0] // size), -(-value.Q_shape[1] // size))
    position = np.repeat(np.arange(len(value.offsets) - 1), np.diff(value.offsets))
    moved = _from_mean_origin(value).reshape(-1, 2)[position]
    qx, qy = (value.points[name] - moved[:, k] for k, name in enumerate(("qx", "qy")))
    block = [np.floor((q + 0.5) / size) for q in (qx, qy)]
    with np.errstate(invalid="ignore"):
        inside = (block[0] >= 0) & (block[0] < shape[0]) & (block[1] >= 0) & (block[1] < shape[1])
    i, j = (b[inside].astype(np.int64) for b in block)
    places = (position[inside] * shape[0] + i) * shape[1] + j
    count = (len(value.offsets) - 1) * shape[0] * shape[1]
    sums = np.bincount(places, value.points["intensity"][inside], minlength=count)
    maps = sums.reshape(*value.shape, -1)
    words = {**step.words(intensity=True), "bin": size}
    return maps, FeatureBlock("vectors", "peaks", shape, **words)


def _from_mean_origin(value: PointTable) -> Array:
    """How far the origin of each position is from the mean, (Rx, Ry, 2)."""
    if not value.calibration.origin_varies:
        return np.zeros((*value.shape, 2))
    away: Array = value.calibration.origins(value.shape) - value.calibration.mean_origin_px
    return away


_MAKERS: tuple[tuple[type, Callable[[MapFeatures, Any], tuple[Array, FeatureBlock]]], ...] = (
    (RealSlice, _of_slice),
    (StrainMap, _of_strain),
    (RadialProfileResult, _of_profiles),
    (Classes, _of_classes),
    (PointTable, _of_peaks),
)


# ---- the public function -------------------------------------------------------------------------
def features(
    source: Cube | RealSlice | StrainMap | RadialProfileResult | PointTable | Features | ArrayLike,
    *more: Any,
    bin: int | Literal["auto"] | None = "auto",
    profile_step_px: float | None = None,
    detectors: Mapping[str, Detector] | None = None,
    mask: Detector | ArrayLike | None = None,
    follow_origin: bool | None = None,
    normalize: bool = False,
    transform: Transform | Literal["auto"] = "auto",
    scale: Scale | Literal["auto"] = "auto",
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> Features:
    """What is measured at every scan position, as one table for `classify`.

    Parameters
    ----------
    source : DataCube, or any map over the scan
        A scan, of which features are measured in one pass; or a RealSlice, StrainMap, BraggPeaks,
        RadialProfileResult, Classes, Features, or an array ``(Rx, Ry)`` or ``(Rx, Ry, n)``.
    *more
        Other sources of the same scan, whose features are put beside those of the first.
    bin : int, "auto" or None
        Of a scan: pixels along each side of the blocks into which patterns are summed; "auto": at
        most 32 blocks a side, or none where `detectors` or `profile_step_px` are given.  Of Bragg
        peaks: of the blocks in which their intensities are added.
    profile_step_px : float, optional
        Of a scan: distance of the rings of a radial profile.
    detectors : mapping of name to Detector, optional
        Of a scan: virtual images.
    mask : Detector or (Qx, Qy) array, optional
        Pixels that count in patterns and profiles.
    follow_origin : bool, optional
        Use the origin of each position; patterns are moved by whole pixels.  None: where the
        calibration has origins.
    normalize : bool
        Divide each pattern and each profile by its sum, so that thickness and dose do not count.
    transform : "auto", "none", "sqrt", "anscombe" or "log"
        Before features are compared; "auto": what makes the noise of counts the same everywhere
        (``2√(v + 3/8)``, or ``√v`` of what is no count), nothing for maps.
    scale : "auto", "none", "block", "standard" or "robust"
        After that; "auto": patterns and profiles are divided by one number (block), so that pixels
        of noise alone stay small and NMF works; maps by their standard deviation (standard).
    where : (Rx, Ry) bool, optional
        Of a scan: positions to measure; others are not classified.
    options : RunOptions, optional

    Returns
    -------
    Features
        ``.data`` (Rx·Ry, n_features) float32 as measured, ``.names``, ``.blocks``, ``.valid``.

    Raises
    ------
    ParameterError, ShapeError
        A source says nothing about the positions, or is of another scan.

    Notes
    -----
    ``features["name"]`` is an image of one feature; ``features.pattern(row)`` makes a pattern of
    a row, such as a component of `Classes`.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube, Disk
    >>> cube = DataCube(np.ones((3, 4, 16, 18), np.uint16))
    >>> table = features(cube, bin=4)
    >>> table.data.shape, table.blocks[0].shape
    ((12, 16), (4, 4))
    >>> images = cube.virtual_images({"bf": Disk(3, center=(8, 8))})
    >>> features(table, images, np.zeros((3, 4))).names[-2:]
    ('bf', 'map')
    """
    weights = mask if mask is None or isinstance(mask, Detector) else Mask(np.asarray(mask))
    extract = ExtractFeatures(
        bin=bin,
        profile_step_px=profile_step_px,
        detectors=None if detectors is None else dict(detectors),
        mask=weights,
        follow_origin=follow_origin,
        normalize=normalize,
        transform=transform,
        scale=scale,
    )
    of_maps = MapFeatures(bin=None if bin == "auto" else bin, transform=transform, scale=scale)
    parts: list[Features] = []
    for one in (source, *more):
        if isinstance(one, Cube):
            parts.append(run(extract, one, where=where, options=options))
        elif isinstance(one, of_maps.accepts):
            parts.append(of_maps.apply(one, options))
        else:
            parts.append(_of_array(one, of_maps))
    return combined(parts)


def _of_array(value: Any, step: MapFeatures) -> Features:
    try:
        maps = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ParameterError(
            f"no features are known of a {type(value).__name__}: give a scan, a result that is a "
            "map over it, or an array (Rx, Ry, n)"
        ) from None
    if maps.ndim < 2 or not maps.size:
        raise ShapeError(f"an array of features is (Rx, Ry) or (Rx, Ry, n), not {maps.shape}")
    shape = (maps.shape[0], maps.shape[1])
    block = FeatureBlock("map", "map", maps.shape[2:] or (1,), **step.words(intensity=False))
    return Features(table_of(maps, shape), shape, (block,))
