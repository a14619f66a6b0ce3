"""Images and selections from Bragg peaks, by detector shapes and parts of the scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.detector import AnyDetector, Detector, Mask, MaskArray
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["BraggVirtualImages", "MaskPeaks", "bragg_virtual_image", "masked"]

Float = NDArray[np.float64]
Table = TypeVar("Table", bound=PointTable)


class BraggVirtualImages(Analysis, kind="bragg-virtual-images", version=1):
    """Sum the intensities of the Bragg peaks inside detector shapes, position by position.

    Shapes without a center of their own lie at the measured origin of each position.
    """

    detectors: dict[str, AnyDetector] = Field(
        min_length=1,
        description='Detector shapes by name, e.g. {"bf": {"kind": "disk", "radius": 5}}.',
    )

    accepts: ClassVar[tuple[type, ...]] = (PointTable,)

    def apply(self, value: Any, options: RunOptions | None = None) -> RealSlice:
        """The stack of images of a table of peaks; `options` are not needed."""
        self.check(value)
        intensity = _column(value, "intensity")
        intensity = np.where(np.isfinite(intensity), intensity, 0.0)
        images = [self._image(value, d, intensity) for d in self.detectors.values()]
        history = self.history(value.history)
        names = tuple(self.detectors)
        return RealSlice(
            np.stack(images), value.calibration, history, "Bragg virtual images", names
        )

    def _image(self, peaks: PointTable, detector: Detector, intensity: Float) -> Float:
        weights = _weights_of(detector, peaks) * intensity
        position = np.repeat(np.arange(len(peaks.offsets) - 1), np.diff(peaks.offsets))
        sums: NDArray[Any] = np.bincount(position, weights, minlength=len(peaks.offsets) - 1)
        return sums.reshape(peaks.shape)


class MaskPeaks(Analysis, kind="mask-peaks", version=1):
    """Keep the Bragg peaks of a part of the scan, or inside a detector shape."""

    R: MaskArray | None = Field(None, description="(Rx, Ry) of true and false: positions to keep.")
    Q: AnyDetector | None = Field(
        None,
        description='Detector shape to keep, e.g. {"kind": "annulus", "inner": 9, "outer": 40}.',
    )

    accepts: ClassVar[tuple[type, ...]] = (PointTable,)

    def apply(self, value: Any, options: RunOptions | None = None) -> Any:
        """The table without the other peaks; `options` are not needed."""
        self.check(value)
        keep = np.ones(len(value), np.bool_)
        if self.R is not None:
            if self.R.shape != tuple(value.shape):
                raise ShapeError(f"a mask of {self.R.shape} does not fit a scan of {value.shape}")
            keep &= np.repeat(self.R.ravel() != 0, np.diff(value.offsets))
        if self.Q is not None:
            keep &= _weights_of(self.Q, value) > 0
        return replace(value.select(keep), history=self.history(value.history))


def bragg_virtual_image(
    peaks: PointTable, detector: Detector | Mapping[str, Detector] | Sequence[Detector]
) -> RealSlice:
    """An image of the scan from the Bragg peaks inside a detector shape.

    Parameters
    ----------
    peaks : BraggPeaks
        Any table with fields ``qx, qy`` (pixels) and ``intensity``.
    detector : Detector, or mapping or sequence of them
        A shape without a centre of its own lies at the origin of each position where the
        calibration has one; lengths may be physical.  A `Mask` gives each peak the weight of the
        pixel that it lies in.

    Returns
    -------
    RealSlice
        ``(Rx, Ry)`` float64, sum of intensities of the peaks whose centre lies inside; a stack
        for several detectors.

    Raises
    ------
    CalibrationMissing
        A shape needs an origin or a pixel size that is not known.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import Annulus, Calibration, PointTable, bragg_virtual_image
    >>> dtype = [("qx", "f8"), ("qy", "f8"), ("intensity", "f8")]
    >>> spots = np.array([(10, 10, 90.0), (10, 16, 7.0)], dtype)
    >>> calibration = Calibration().replace(origin_px=(10, 10))
    >>> peaks = PointTable.from_lists([[spots, spots[:1]]], calibration=calibration)
    >>> bragg_virtual_image(peaks, Annulus(3, 8)).data
    array([[7., 0.]])
    """
    if isinstance(detector, Detector):
        stack = BraggVirtualImages(detectors={"image": detector}).apply(peaks)
        return RealSlice(stack.data[0], stack.calibration, stack.history, "Bragg virtual image")
    if not isinstance(detector, Mapping | Sequence):
        raise ParameterError(f"a detector shape, or several, not {type(detector).__name__}")
    named = detector if isinstance(detector, Mapping) else dict(enumerate(detector))
    return BraggVirtualImages(detectors={str(k): d for k, d in named.items()}).apply(peaks)


def masked(
    peaks: Table, R: ArrayLike | None = None, Q: Detector | ArrayLike | None = None
) -> Table:
    """The peaks of a part of the scan, or of the detector.

    Parameters
    ----------
    R : (Rx, Ry) bool, optional
        Scan positions whose peaks are kept; the others become empty.
    Q : Detector or (Qx, Qy) bool, optional
        Peaks are kept whose centre lies inside (for an array: in a pixel that is not 0).

    Returns
    -------
    BraggPeaks
        Of the same shape of scan.

    Raises
    ------
    ShapeError
        `R` is not of the shape of the scan.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import Disk, PointTable
    >>> from py4DSTEM.process.bragg.images import masked
    >>> spots = np.array([(10.0, 10.0), (10.0, 16.0)], [("qx", "f8"), ("qy", "f8")])
    >>> peaks = PointTable.from_lists([[spots, spots[:1]]])
    >>> masked(peaks, R=[[True, False]], Q=Disk(2, center=(10, 16))).counts
    array([[1, 0]])
    """
    shape = Q if Q is None or isinstance(Q, Detector) else Mask(Q)
    kept: Table = MaskPeaks(R=R, Q=shape).apply(peaks)
    return kept


def _weights_of(detector: Detector, peaks: PointTable) -> Float:
    """Weight of every peak: detectors without a centre follow the origin of each position."""
    points = peaks.positions_px
    if isinstance(detector, Mask):
        fits = peaks.Q_shape is None or detector.data.shape == tuple(peaks.Q_shape)
        if not fits:
            raise ShapeError(
                f"a mask of {detector.data.shape} does not fit patterns of {peaks.Q_shape}"
            )
    calibration = peaks.calibration
    if detector.center is not None or not calibration.origin_varies:
        return detector.weights_at(points, calibration)
    rx, ry = peaks.positions.T
    return detector.weights_at(points, calibration, calibration.origins(peaks.shape)[rx, ry])


def _column(peaks: PointTable, name: str) -> Float:
    names = peaks.dtype.names or ()
    if name not in names:
        raise ParameterError(f"the peaks have no field {name!r}: they have {', '.join(names)}")
    values: Float = peaks.points[name].astype(np.float64)
    return values
