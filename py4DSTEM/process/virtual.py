"""Virtual images: the scan as seen by any detector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, field_validator

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Annulus, AnyDetector, Detector, Disk, Mask, presets
from py4DSTEM.core.expression import Expression, linear_factors
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Measures, Operation, Output, Parts, PerScan
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = [
    "CombineImages",
    "VirtualImages",
    "combine_images",
    "detector_presets",
    "virtual_image",
    "virtual_images",
]

Detectors = Mapping[str, Detector] | Sequence[Detector]


@dataclass(frozen=True, eq=False)
class _Moving:
    """Detectors that follow the origin: weights at its mean, wider than the frame by `margin`."""

    weights: NDArray[np.float64]
    margin: tuple[int, int]
    shifts: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which images come from detectors that stay where they are, and which from others."""

    names: tuple[str, ...]
    fixed: tuple[int, ...]
    fixed_weights: NDArray[np.float64] | None
    follows: tuple[int, ...]
    moving: _Moving | None


class VirtualImages(Operation, kind="virtual-images", version=1):
    """Sum each pattern over one or several detectors.

    ``I(R) = Σ_q w(q) I(R, q)``; pixels on the edge of a detector count by the fraction of their
    area that it covers.  Pixels that are NaN or infinite count as masked; a position where a
    detector sees no valid pixel at all is NaN.
    """

    detectors: dict[str, AnyDetector] = Field(
        min_length=1, description="Detector shapes by name; several cost little more than one."
    )
    follow_origin: bool | None = Field(
        None,
        description="Move detectors without a center of their own with the measured origin of "
        "each position; None: wherever the calibration holds one per position.",
    )

    outputs: ClassVar[Mapping[str, Output]] = {"images": PerScan(np.float64)}

    @classmethod
    def examples(cls) -> list[VirtualImages]:
        """Instances for the conformance tests."""
        ring, mask = Annulus(3.0, 7.5), Mask(np.eye(18, 21))
        fixed = cls(detectors={"bf": Disk(4.0)}, follow_origin=False)
        return [fixed, cls(detectors={"adf": ring, "m": mask, "bf": Disk(4.0)})]

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        shapes = tuple(self.detectors.values())
        follow = self._follows(cube.calibration)
        moves = [follow and d.center is None and not isinstance(d, Mask) for d in shapes]
        follows = tuple(k for k, m in enumerate(moves) if m)
        fixed = tuple(k for k, m in enumerate(moves) if not m)
        weights = [shapes[k].weights(cube.Q_shape, cube.calibration) for k in fixed]
        _check_inside([tuple(self.detectors)[k] for k in fixed], weights, cube)
        return _Plan(
            names=tuple(self.detectors),
            fixed=fixed,
            fixed_weights=np.stack(weights) if fixed else None,
            follows=follows,
            moving=_moving(cube, [shapes[k] for k in follows]) if follows else None,
        )

    def _follows(self, calibration: Calibration) -> bool:
        if self.follow_origin and not calibration.origin_varies:
            raise ParameterError(
                "follow_origin=True needs an origin per scan position: use center_of_mass(cube), "
                "or with_calibration(origin_px=array of shape (Rx, Ry, 2))"
            )
        return calibration.origin_varies and self.follow_origin is not False

    def measures(self, plan: _Plan) -> Measures | None:
        return Measures(detectors=plan.fixed_weights) if plan.fixed else None

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        images = np.empty((len(tile.frames), len(plan.names)))
        if plan.fixed and tile.measured is not None:
            images[:, plan.fixed] = tile.measured.detectors
        if plan.moving is not None:
            m = plan.moving
            sums = kernels.shifted_sums(tile.frames, m.weights, tile.local(m.shifts), m.margin)
            images[:, plan.follows] = sums
        return {"images": images}

    def finish(self, cube: Cube, plan: _Plan, parts: Parts, history: History) -> RealSlice:
        images = np.ascontiguousarray(np.moveaxis(parts["images"], -1, 0))
        return RealSlice(images, cube.calibration, history, "virtual images", plan.names)


def _moving(cube: Cube, detectors: Sequence[Detector]) -> _Moving:
    """Weights on a frame so wide that all which moves into view is there."""
    mean = np.array(cube.calibration.mean_origin_px)
    shifts = np.asarray(cube.calibration.origin_px) - mean
    reach = np.nanmax(np.abs(shifts), axis=(0, 1))
    margin = tuple(min(math.ceil(r) + 1, n) for r, n in zip(reach, cube.Q_shape, strict=True))
    wide = (cube.Q_shape[0] + 2 * margin[0], cube.Q_shape[1] + 2 * margin[1])
    there = replace(cube.calibration, origin_px=mean + margin)
    weights = np.stack([d.weights(wide, there) for d in detectors])
    return _Moving(weights, (margin[0], margin[1]), shifts)


def _check_inside(names: Sequence[str], weights: Sequence[NDArray[np.float64]], cube: Cube) -> None:
    """A detector that sees no pixel would give an image of zeros, which is never meant."""
    outside = [name for name, w in zip(names, weights, strict=True) if not w.any()]
    if outside:
        raise ParameterError(
            f"detector {', '.join(map(repr, outside))} lies outside the patterns of "
            f"{cube.Q_shape} pixels: check its center, its radii and their units"
        )


def virtual_images(
    cube: Cube,
    detectors: Detectors,
    *,
    follow_origin: bool | None = None,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> RealSlice:
    """Make several virtual images in one pass over the scan.

    Parameters
    ----------
    cube : DataCube
    detectors : mapping of name to Detector, or a sequence of detectors
        Disk, Annulus, Rectangle, Segment, EllipseDisk, Polygon, DiskLattice, Point or Mask.
    follow_origin : bool, optional
        Move detectors that have no center of their own with the measured origin of each position,
        to subpixel; None: where the calibration holds an origin per position.
    where : (Rx, Ry) bool, optional
        Positions to compute; others are NaN.
    options : RunOptions, optional

    Returns
    -------
    RealSlice
        Stack ``(K, Rx, Ry)`` float64; ``images["name"]`` is one of them.

    Notes
    -----
    ``I(R) = Σ_q w(q) I(R, q)`` in the unit of the data (counts).

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import Annulus, DataCube, Disk
    >>> cube = DataCube(np.ones((2, 3, 16, 16), np.uint16))
    >>> c = (7.5, 7.5)
    >>> images = virtual_images(cube, {"bf": Disk(3, center=c), "adf": Annulus(3, 7, center=c)})
    >>> images.shape, round(float(images["bf"].data[0, 0]), 1)
    ((2, 2, 3), 28.3)
    """
    named = _named(detectors)
    operation = VirtualImages(detectors=named, follow_origin=follow_origin)
    result: RealSlice = run(operation, cube, where=where, options=options)
    return result


def virtual_image(
    cube: Cube,
    detector: Detector,
    *,
    name: str = "virtual image",
    follow_origin: bool | None = None,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> RealSlice:
    """Make one virtual image ``(Rx, Ry)``.

    Parameters
    ----------
    cube : DataCube
    detector : Detector
    name : str
        Of the image.
    follow_origin, where, options
        As for `virtual_images`.

    Returns
    -------
    RealSlice

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube, Disk
    >>> cube = DataCube(np.ones((2, 3, 16, 16), np.uint16))
    >>> virtual_image(cube, Disk(3, center=(7.5, 7.5))).shape
    (2, 3)
    """
    stack = virtual_images(
        cube, {name: detector}, follow_origin=follow_origin, where=where, options=options
    )
    return stack[name]


def detector_presets(cube: Cube) -> dict[str, Detector]:
    """BF, ABF, LAADF and HAADF detectors for a cube with a known convergence angle and origin.

    Parameters
    ----------
    cube : DataCube

    Returns
    -------
    dict of str to Detector
    """
    return presets(cube.calibration, cube.Q_shape)


class CombineImages(Analysis, kind="combine-images", version=1):
    """Arithmetic of the images of a stack, position by position."""

    expression: str = Field(
        description='Of their labels, such as "(A - B) / (A + B)": + - * / **, parentheses, '
        "abs, sqrt, log, min, max."
    )

    accepts: ClassVar[tuple[type, ...]] = (RealSlice,)

    @field_validator("expression")
    @classmethod
    def _readable(cls, text: str) -> str:
        return Expression(text).text

    def apply(self, value: Any, options: RunOptions | None = None) -> RealSlice:
        """The combined image; `options` are not needed."""
        self.check(value)
        images = {label: value[label].data for label in value.labels} or {value.name: value.data}
        expression = Expression(self.expression)
        return RealSlice(
            np.broadcast_to(expression.evaluate(images), value.shape[-2:]).copy(),
            value.calibration,
            self.history(value.history),
            str(expression),
            units=_units(expression, value.units),
        )


def _units(expression: Expression, units: str) -> str:
    """Sums keep the unit of the images; of all else it is not told."""
    factors = linear_factors(expression)
    return units if factors and all(abs(f) == 1 for f in factors.values()) else ""


def combine_images(images: RealSlice, expression: str) -> RealSlice:
    """Arithmetic of the images of a stack, position by position.

    Parameters
    ----------
    images : RealSlice
        A stack whose labels are the names, as `virtual_images` gives; a single image goes by its
        own name.
    expression : str
        Names, numbers, ``+ - * / **``, parentheses, ``abs``, ``sqrt``, ``log`` (natural), ``min``
        and ``max``.

    Returns
    -------
    RealSlice
        One image ``(Rx, Ry)`` float64; NaN where the result is not a finite number (division by
        zero, the root of what is negative).

    Raises
    ------
    ParameterError
        The expression holds anything else, or a name that no image has.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube, dpc_segments
    >>> cube = DataCube(np.ones((2, 3, 16, 16), np.uint16))
    >>> cube = cube.with_calibration(origin_px=(7.5, 7.5), probe_radius_px=4.0)
    >>> images = cube.virtual_images(dpc_segments(cube.calibration))
    >>> shift = combine_images(images, "(down - up) / (down + up)")
    >>> shift.shape, abs(float(shift.data.max())) < 1e-9
    ((2, 3), True)
    """
    return CombineImages(expression=expression).apply(images)


def _named(detectors: Detectors) -> dict[str, Any]:
    if isinstance(detectors, Mapping):
        return dict(detectors)
    if isinstance(detectors, Detector):
        raise ParameterError("virtual_images takes several detectors; use virtual_image for one")
    return {f"{d.kind}_{k}": d for k, d in enumerate(detectors)}
