"""The Bragg vector map: all peaks of a scan in one picture."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import MemoryBudgetError, ParameterError, ShapeError
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["BraggVectorMap", "bragg_vector_map"]

Float = NDArray[np.float64]
COUNT = "count"
MOST_BINS = 1 << 28


class BraggVectorMap(Analysis, kind="bragg-vector-map", version=1):
    """Histogram of the Bragg peaks of all scan positions.

    Each peak is shared between the four bins around it by its distance to their centres
    (bilinear), so that the centre of mass of the map is that of the peaks.
    """

    sampling: float = Field(1.0, gt=0, le=64, description="Bins per detector pixel.")
    weights: str = Field(
        "intensity", description="Field of the peaks that is summed, or count for their number."
    )
    centered: bool | None = Field(
        None,
        description="Calibrated vectors around the origin, instead of raw detector positions; "
        "none: where an origin is known.",
    )

    accepts: ClassVar[tuple[type, ...]] = (PointTable,)

    def apply(self, value: Any, options: RunOptions | None = None) -> DiffractionSlice:
        """The map of a table of peaks; `options` are not needed."""
        self.check(value)
        weights = _weights(value, self.weights)
        known = value.calibration.origin_px is not None
        grid = _centered if (known if self.centered is None else self.centered) else _raw
        bins, shape, calibration = grid(value, self.sampling)
        if math.prod(shape) > MOST_BINS:
            raise MemoryBudgetError(f"a map of {shape} bins is too large: lower sampling")
        data = splatted(bins, weights, shape)
        units = "peaks" if self.weights == COUNT else self.weights
        history = self.history(value.history)
        return DiffractionSlice(data, calibration, history, "Bragg vector map", units=units)


def bragg_vector_map(
    peaks: PointTable,
    sampling: float = 1,
    *,
    weights: str = "intensity",
    centered: bool | None = None,
) -> DiffractionSlice:
    """All peaks of a scan as one image.

    Parameters
    ----------
    peaks : BraggPeaks
        Any table with fields ``qx, qy`` (pixels) and the one that `weights` names.
    sampling : float
        Bins per detector pixel.
    weights : str
        Field that is summed; ``"count"`` counts peaks.  Peaks where it is NaN are left out.
    centered : bool, optional
        True: vectors as `PointTable.vectors` gives them (origin of each position, ellipse, pixel
        size, flip, rotation), zero in the middle of a map with an odd number of square bins.
        False: raw positions on the detector.  None: the former where an origin is known.

    Returns
    -------
    DiffractionSlice
        Its axes and origin are those of the bins; a centred map needs no further correction, and
        its calibration says so (no ellipse, no rotation left).

    Raises
    ------
    ParameterError
        The peaks have no field of that name.
    CalibrationMissing
        ``centered=True`` and no origin is known.
    ShapeError
        A raw map of peaks that do not know the shape of their patterns.

    Notes
    -----
    A peak at bin coordinate ``u = k + f`` adds ``(1 - f) w`` to bin k and ``f w`` to bin k + 1, and
    so for the other axis.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import PointTable, bragg_vector_map
    >>> peak = np.array([(3.25, 5.0, 8.0)], [("qx", "f8"), ("qy", "f8"), ("intensity", "f8")])
    >>> peaks = PointTable.from_lists([[peak]], Q_shape=(8, 10))
    >>> bragg_vector_map(peaks).data[3:5, 5]
    array([6., 2.])
    """
    return BraggVectorMap(sampling=sampling, weights=weights, centered=centered).apply(peaks)


def splatted(bins: Float, weights: Float, shape: tuple[int, int]) -> Float:
    """Sum of `weights` (n,) shared bilinearly between bins around `bins` (n, 2); NaN left out."""
    x, y = bins.T
    # Beyond one bin outside there is nothing to share; NaN compares as outside.
    near = (x > -1) & (x < shape[0]) & (y > -1) & (y < shape[1]) & np.isfinite(weights)
    x, y, weights = x[near], y[near], weights[near]
    i, j = np.floor(x), np.floor(y)
    fx, fy = x - i, y - j
    # One more bin on every side takes the shares that fall outside.
    wide = (shape[0] + 2, shape[1] + 2)
    place = (i.astype(np.int64) + 1) * wide[1] + j.astype(np.int64) + 1
    out = np.zeros(math.prod(wide))
    for dx, along in ((0, (1 - fx) * weights), (1, fx * weights)):
        for dy, share in ((0, 1 - fy), (1, fy)):
            out += np.bincount(place + dx * wide[1] + dy, along * share, minlength=len(out))
    inner: Float = out.reshape(wide)[1:-1, 1:-1].copy()
    return inner


def _weights(peaks: PointTable, name: str) -> Float:
    names = peaks.dtype.names or ()
    wanted = {"qx", "qy"} | ({name} - {COUNT})
    if missing := wanted - set(names):
        raise ParameterError(
            f"the peaks have no field {sorted(missing)[0]!r}: they have {', '.join(names)}; "
            f'weights="{COUNT}" needs none'
        )
    if name == COUNT:
        return np.ones(len(peaks))
    values: Float = peaks.points[name].astype(np.float64)
    return values


def _raw(peaks: PointTable, sampling: float) -> tuple[Float, tuple[int, int], Calibration]:
    """Bin coordinates on the detector: pixel i covers bins around ``(i + 1/2) sampling - 1/2``."""
    if peaks.Q_shape is None:
        raise ShapeError(
            "a raw Bragg vector map needs the shape of the patterns: give the peaks Q_shape=, or "
            "an origin and centered=True"
        )
    known = peaks.calibration
    x, y = (
        replace(a, step=a.step / sampling, offset=a.offset + a.step * (0.5 / sampling - 0.5))
        for a in known.Q
    )
    origin = known.origin_px
    calibration = replace(
        _scaled(known, sampling),
        Q=(x, y),
        origin_px=None if origin is None else (origin + 0.5) * sampling - 0.5,
        ellipse=known.ellipse and known.ellipse.scaled(sampling),
    )
    shape = math.ceil(peaks.Q_shape[0] * sampling), math.ceil(peaks.Q_shape[1] * sampling)
    return (peaks.positions_px + 0.5) * sampling - 0.5, shape, calibration


def _centered(peaks: PointTable, sampling: float) -> tuple[Float, tuple[int, int], Calibration]:
    """Bin coordinates around the origin, in square bins of the mean pixel size."""
    known, unit = peaks.calibration, peaks.vector_unit
    vectors = peaks.vectors(unit)
    step = math.sqrt(math.prod(known.Q_steps(unit))) / sampling
    x, y = (_half(reach / step) for reach in _reach(peaks, vectors))
    axes = Axis("Qx", step, -x * step, unit), Axis("Qy", step, -y * step, unit)
    calibration = replace(
        _scaled(known, sampling),
        Q=axes,
        origin_px=np.array([x, y], np.float64),
        ellipse=None,
        rotation_rad=None if known.rotation_rad is None else 0.0,
        flip=None if known.flip is None else False,
    )
    return vectors / step + (x, y), (2 * x + 1, 2 * y + 1), calibration


def _half(reach: float) -> int:
    return max(1, math.ceil(reach - 1e-9))


def _reach(peaks: PointTable, vectors: Float) -> tuple[float, float]:
    """How far vectors along x and y may go: to the corners of the detector, else of the peaks."""
    if peaks.Q_shape is None:
        known = vectors[np.isfinite(vectors).all(axis=1)]
        reach = np.abs(known).max(axis=0, initial=0.0)
    else:
        (nx, ny), origin = peaks.Q_shape, peaks.calibration.mean_origin_px
        corners = np.array([(x, y) for x in (0, nx - 1) for y in (0, ny - 1)]) - origin
        matrix = peaks.calibration.Q_matrix(peaks.vector_unit)
        reach = np.abs(corners @ matrix.T).max(axis=0)
    return float(reach[0]), float(reach[1])


def _scaled(calibration: Calibration, sampling: float) -> Calibration:
    radius = calibration.probe_radius_px
    return replace(calibration, probe_radius_px=radius and radius * sampling)
