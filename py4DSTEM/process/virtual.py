"""Virtual images: the scan as seen by any detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Annulus, AnyDetector, Detector, Disk, Mask, presets
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Measures, Operation, Output, Parts, PerScan
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["VirtualImages", "detector_presets", "virtual_image", "virtual_images"]

Detectors = Mapping[str, Detector] | Sequence[Detector]


@dataclass(frozen=True, eq=False)
class _Plan:
    """Weights of detectors that stay where they are, and of those that follow the origin."""

    names: tuple[str, ...]
    fixed: tuple[int, ...]
    fixed_weights: NDArray[np.float64]
    moving: tuple[int, ...]
    moving_weights: NDArray[np.float64]
    shifts: NDArray[np.float64] | None


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
        return [cls(detectors={"bf": Disk(4.0)}), cls(detectors={"adf": ring, "m": mask})]

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        calibration = cube.calibration
        follow = calibration.origin_varies if self.follow_origin is None else self.follow_origin
        if follow and not calibration.origin_varies:
            raise ParameterError(
                "follow_origin=True needs an origin per scan position: use measure_origin(cube), "
                "or with_calibration(origin_px=array of shape (Rx, Ry, 2))"
            )
        weights = [d.weights(cube.Q_shape, calibration) for d in self.detectors.values()]
        stack = np.stack(weights)
        moves = [
            follow and d.center is None and not isinstance(d, Mask) for d in self.detectors.values()
        ]
        moving = tuple(k for k, m in enumerate(moves) if m)
        fixed = tuple(k for k, m in enumerate(moves) if not m)
        shifts = None
        if moving and calibration.origin_px is not None:
            shifts = calibration.origin_px - np.array(calibration.mean_origin_px)
        names = tuple(self.detectors)
        return _Plan(names, fixed, stack[list(fixed)], moving, stack[list(moving)], shifts)

    def measures(self, plan: _Plan) -> Measures:
        return Measures(detectors=plan.fixed_weights if plan.fixed else None)

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        images = np.empty((len(tile.frames), len(plan.names)))
        if plan.fixed and tile.measured is not None:
            images[:, plan.fixed] = tile.measured.detectors
        if plan.shifts is not None:
            shifts = tile.local(plan.shifts)
            images[:, plan.moving] = kernels.shifted_sums(tile.frames, plan.moving_weights, shifts)
        return {"images": images}

    def finish(self, cube: Cube, plan: _Plan, parts: Parts, history: History) -> RealSlice:
        images = np.ascontiguousarray(np.moveaxis(parts["images"], -1, 0))
        return RealSlice(images, cube.calibration, history, "virtual images", plan.names)


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
        Disk, Annulus, Rectangle, Segment, Point or Mask.
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
    """Make one virtual image ``(Rx, Ry)``; see `virtual_images`.

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
    """BF, ABF, LAADF and HAADF detectors for a cube with a known convergence angle and origin."""
    return presets(cube.calibration, cube.Q_shape)


def _named(detectors: Detectors) -> dict[str, Any]:
    if isinstance(detectors, Mapping):
        return dict(detectors)
    if isinstance(detectors, Detector):
        raise ParameterError("virtual_images takes several detectors; use virtual_image for one")
    return {f"{d.kind}_{k}": d for k, d in enumerate(detectors)}
