"""The Bragg vector map as something to pick lattice vectors from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, SolveError
from py4DSTEM.process.bragg.basis import lattice_origins
from py4DSTEM.process.bragg.vector_map import bragg_vector_map

__all__ = ["PickingMap"]

Float = NDArray[np.float64]
_FEWEST_BINS = 200
"""A map with fewer bins along its longer side is made with two per pixel."""
_SMOOTH, _NEAR = 1.0, 2
"""In detector pixels: blur before maxima are looked for, and half the width of what is one."""
_LEAST_SHARE = 1e-3
_MOST = 500
_MOST_LATTICE_POINTS = 4000


@dataclass(frozen=True, eq=False)
class PickingMap:
    """A Bragg vector map around the origin, and where its peaks are.

    Parameters
    ----------
    image : DiffractionSlice
        The map, (Qx, Qy); its calibration holds the origin in bins.
    peaks_px : (n, 2) float64
        Local maxima in bins, row first, the highest first; the one of the direct beam left out.
    unit : str
        Of vectors.

    Examples
    --------
    >>> import py4DSTEM
    >>> truth = py4DSTEM.simulate.strained_lattice((4, 5), strain={}, seed=1).truth
    >>> picking = PickingMap.of(truth.peaks())
    >>> near_g1 = picking.pixels([0.23, 0.06])
    >>> picking.vector(picking.snapped(near_g1, 5.0)).round(2).tolist()
    [0.24, 0.05]
    """

    image: DiffractionSlice
    peaks_px: Float
    unit: str

    @classmethod
    def of(cls, peaks: PointTable) -> PickingMap:
        """The map of a table of peaks.

        Where no origin is calibrated, the usual place of the brightest peak counts as one.

        Raises
        ------
        SolveError
            There are no peaks.
        """
        if not len(peaks):
            raise SolveError(f"{peaks.name!r} holds no peaks: nothing can be picked from it")
        if peaks.calibration.origin_px is None:
            origins, _ = lattice_origins(peaks)
            peaks = peaks.with_calibration(origin_px=np.nanmedian(origins, axis=0))
        image = bragg_vector_map(peaks, centered=True)
        sampling = 1
        if max(image.shape) < _FEWEST_BINS:
            sampling = 2
            image = bragg_vector_map(peaks, sampling, centered=True)
        origin = np.array(image.calibration.mean_origin_px)
        return cls(image, _maxima(image.data, origin, sampling), peaks.vector_unit)

    @property
    def origin_px(self) -> tuple[float, float]:
        """Where zero is, in bins."""
        return self.image.calibration.mean_origin_px

    def vector(self, point_px: ArrayLike) -> Float:
        """The vectors (..., 2) in `unit` that points (..., 2) in bins stand for."""
        steps = [axis.step for axis in self.image.calibration.Q]
        vector: Float = (np.asarray(point_px, np.float64) - self.origin_px) * steps
        return vector

    def pixels(self, vector: ArrayLike) -> Float:
        """Where vectors (..., 2) in `unit` are on the map, in bins."""
        steps = [axis.step for axis in self.image.calibration.Q]
        point: Float = np.asarray(vector, np.float64) / steps + self.origin_px
        return point

    def snapped(self, point_px: ArrayLike, within_px: float) -> Float:
        """The peak nearest to a point, if it is near enough; otherwise the point."""
        point = np.asarray(point_px, np.float64)
        if point.shape != (2,) or not np.isfinite(point).all():
            raise ParameterError(f"a point of the map is (row, column), not {point_px!r}")
        distance = np.linalg.norm(self.peaks_px - point, axis=1)
        if not len(distance) or distance.min() > within_px:
            return point
        nearest: Float = self.peaks_px[distance.argmin()]
        return nearest

    def lattice(self, vectors: ArrayLike) -> tuple[Float, NDArray[np.int64]]:
        """The lattice points of g1 and g2 on the map.

        Parameters
        ----------
        vectors : (2, 2) float
            g1 and g2 as rows, in `unit`.

        Returns
        -------
        points_px : (n, 2) float64
            In bins.
        hk : (n, 2) int64
            Their indices.

        Raises
        ------
        ParameterError
            The vectors span no lattice, or one finer than the bins.
        """
        steps = np.asarray(vectors, np.float64) / [axis.step for axis in self.image.calibration.Q]
        size = np.linalg.norm(steps, axis=1)
        area = abs(np.linalg.det(steps)) if np.isfinite(steps).all() else 0.0
        if not area > 1e-3 * math.prod(size) or size.min() < 1:
            raise ParameterError("g1 and g2 span no lattice: they are parallel, or too short")
        corners = np.array([[x, y] for x in (-0.5, self.image.shape[0] - 0.5)
                            for y in (-0.5, self.image.shape[1] - 0.5)])  # fmt: skip
        reach = np.abs((corners - self.origin_px) @ np.linalg.inv(steps)).max(axis=0)
        if np.prod(2 * reach + 1) > 16 * _MOST_LATTICE_POINTS:
            raise ParameterError("g1 and g2 span a lattice that is finer than the map")
        h, k = (np.arange(-int(r), int(r) + 1) for r in reach)
        hk = np.stack([a.ravel() for a in np.meshgrid(h, k, indexing="ij")], axis=-1)
        points = hk @ steps + self.origin_px
        inside = ((points > -0.5) & (points < np.array(self.image.shape) - 0.5)).all(axis=1)
        return points[inside], hk[inside]


def _maxima(image: Float, origin: Float, sampling: int) -> Float:
    """Local maxima of a map, sub-bin, highest first, that at the origin left out."""
    from scipy.ndimage import gaussian_filter, maximum_filter  # slow to import

    smooth = gaussian_filter(image, _SMOOTH * sampling)
    near = _NEAR * sampling
    top = (smooth == maximum_filter(smooth, 2 * near + 1)) & (smooth > _LEAST_SHARE * smooth.max())
    places = np.argwhere(top)
    places = places[np.argsort(-smooth[top], kind="stable")][:_MOST]
    places = places[np.linalg.norm(places - origin, axis=1) > 2 * near]
    offset = np.argwhere(np.ones((2 * near + 1, 2 * near + 1))) - near
    padded = np.pad(image, near)
    around = places[:, None] + offset + near
    weights = padded[around[..., 0], around[..., 1]]
    total = np.maximum(weights.sum(axis=1), np.finfo(float).tiny)
    centers: Float = places + (weights[..., None] * offset).sum(axis=1) / total[:, None]
    return centers
