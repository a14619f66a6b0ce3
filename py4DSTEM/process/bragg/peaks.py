"""Bragg peaks: where the disks of every pattern are, and how well that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from py4DSTEM.core.points import PointTable
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.bragg import basis as _basis
from py4DSTEM.process.bragg import columns as _columns
from py4DSTEM.process.bragg import images as _images
from py4DSTEM.process.bragg import lattice as _lattice
from py4DSTEM.process.bragg import vector_map as _vector_map
from py4DSTEM.process.calibrate import ellipse as _ellipse
from py4DSTEM.process.calibrate import origin as _origin
from py4DSTEM.process.calibrate import pixel_size as _pixel_size
from py4DSTEM.process.classes import bragg_classes as _classes
from py4DSTEM.process.classes import crystallinity as _crystallinity
from py4DSTEM.process.classes import dark_field as _dark_field
from py4DSTEM.process.classes import spots as _spots
from py4DSTEM.process.crystal import orientation as _orientation
from py4DSTEM.process.crystal import phases as _phases

__all__ = ["PEAK_DTYPE", "BraggPeaks"]

PEAK_DTYPE = np.dtype(
    [
        ("qx", "f8"),
        ("qy", "f8"),
        ("intensity", "f8"),
        ("sigma_qx", "f8"),
        ("sigma_qy", "f8"),
        ("cov_qxqy", "f8"),
        ("background", "f4"),
        ("significance", "f4"),
        ("chi2", "f4"),
        ("slope_x", "f4"),
        ("slope_y", "f4"),
        ("sigma_slope", "f4"),
        ("coupling", "f4"),
    ]
)
"""Fields of a table of Bragg peaks; see `BraggPeaks`."""


@dataclass(frozen=True, eq=False, repr=False)
class BraggPeaks(PointTable):
    """The Bragg disks of every scan position.

    ``peaks[rx, ry]`` is a structured array with the fields

    - ``qx, qy``: centre of the disk in detector pixels (raw: nothing calibrated);
    - ``intensity``: counts in the disk above background;
    - ``sigma_qx, sigma_qy, cov_qxqy``: one-sigma uncertainties (px) and covariance (px²) of the
      centre from the counts; NaN where they were not asked for;
    - ``background``: counts per pixel beside and under the disk;
    - ``significance``: intensity over its own uncertainty;
    - ``chi2``: reduced χ² of the fit of the disk, near 1 where the template describes it;
    - ``slope_x, slope_y``: relative change of intensity per pixel across the disk (excitation
      error), with its uncertainty ``sigma_slope``;
    - ``coupling``: ∂(centre)/∂(slope) in px², the same along x and y: a slope known to be s rather
      than the fitted one moves the centre by ``coupling * (s - slope)`` and lowers its variance.

    Parameters
    ----------
    report : mapping
        How the search went: parameters that were chosen and why, counts of what was left out.
    """

    name: str = "bragg peaks"

    masked = _images.masked
    bragg_virtual_image = _images.bragg_virtual_image
    bragg_vector_map = _vector_map.bragg_vector_map
    choose_basis = _basis.choose_basis
    fit_lattice = _lattice.fit_lattice
    to_columns = _columns.to_columns
    to_csv = _columns.to_csv
    measure_origin = _origin.measure_origin
    calibrate_origin = _origin.calibrate_origin
    measure_ellipse = _ellipse.measure_ellipse
    measure_pixel_size = _pixel_size.measure_pixel_size
    common_spots = _spots.common_spots
    classify_bragg = _classes.classify_bragg
    dark_field_images = _dark_field.dark_field_images
    bragg_counts = _crystallinity.bragg_counts
    match_orientations = _orientation.match_orientations
    match_phases = _phases.match_phases

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, ArrayLike], shape: tuple[int, int] | None = None, **values: Any
    ) -> Self:
        """Peaks from one array (n,) per column, in any order; the inverse of `to_columns`.

        Parameters
        ----------
        columns : mapping
            ``rx, ry, qx, qy`` and any other fields; fields that are not given are NaN.  A pandas
            data frame is one.
        shape : (int, int), optional
            Of the scan; None: as far as the positions go.
        **values
            Other parameters of the class: ``calibration``, ``Q_shape``, ``name`` …

        Raises
        ------
        ParameterError, ShapeError
            A column is missing or of another length, or a position is outside the scan.

        Examples
        --------
        >>> columns = {"rx": [0, 0], "ry": [1, 0], "qx": [3.0, 4.0], "qy": [5.0, 6.0]}
        >>> peaks = BraggPeaks.from_columns(columns, (1, 3))
        >>> peaks.counts.tolist(), peaks[0, 1]["qx"].tolist()
        ([[1, 1, 0]], [3.0])
        """
        points, offsets, found = _columns.ragged(columns, shape, PEAK_DTYPE)
        return cls(points, offsets, found, **values)


register_result("bragg-peaks", BraggPeaks)
