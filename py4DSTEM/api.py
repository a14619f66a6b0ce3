"""The friendly face: `read`, `save`, and the cube with every verb one dot away."""

from __future__ import annotations

import os
from typing import Any

from py4DSTEM.core.cube import Cube
from py4DSTEM.io.format import RawLayout, ReadOptions
from py4DSTEM.io.read import read_file
from py4DSTEM.process import clean, com, diffraction, median, radial, virtual

__all__ = ["DataCube", "read"]


class DataCube(Cube):
    """A 4D-STEM scan ``(Rx, Ry, Qx, Qy)`` with its calibration, and all verbs as methods.

    >>> import numpy as np
    >>> from py4DSTEM import DataCube, Disk
    >>> cube = DataCube(np.ones((4, 5, 16, 16), np.uint16))
    >>> cube.virtual_image(Disk(4, center=(7.5, 7.5))).shape
    (4, 5)
    """

    virtual_image = virtual.virtual_image
    virtual_images = virtual.virtual_images
    detector_presets = virtual.detector_presets
    mean_pattern = diffraction.mean_pattern
    max_pattern = diffraction.max_pattern
    std_pattern = diffraction.std_pattern
    median_pattern = median.median_pattern
    detect_hot_pixels = clean.detect_hot_pixels
    repair_pixels = clean.repair_pixels
    subtract_dark = clean.subtract_dark
    apply_gain = clean.apply_gain
    dark_gain = clean.dark_gain
    subtract_background = clean.subtract_background
    radial_profiles = radial.radial_profiles
    mean_radial_profile = radial.mean_radial_profile
    center_of_mass = com.center_of_mass


def read(
    path: str | os.PathLike[str],
    dataset: str | None = None,
    scan_shape: tuple[int, int] | None = None,
    sync_offset: int = 0,
    format: str | None = None,
    *,
    flyback: int = 0,
    layout: RawLayout | None = None,
    allow_truncated: bool = False,
    allow_external: bool = False,
) -> Any:
    """Open any supported file; nothing but headers is read.

    Parameters
    ----------
    path : path
        A file, or a directory that is one (Zarr).
    dataset : str, optional
        Which data set of a file that holds several.
    scan_shape : (int, int), optional
        Rows and columns of the scan, for streams of frames that do not say.
    sync_offset : int
        Frames to skip at the start of a stream; negative where the first positions have none.
    format : str, optional
        Name of the format (see `formats`) instead of recognition by content.
    flyback : int
        Frames to skip after every scan row of a stream.
    layout : RawLayout, optional
        Describes a raw binary file.
    allow_truncated : bool
        Take the complete frames of a file that ends early, and say so.
    allow_external : bool
        Follow HDF5 links to files outside the file's own folder.

    Returns
    -------
    DataCube, RealSlice, DiffractionSlice, … or dict
        One object, or name → object where the file holds several.

    Raises
    ------
    FormatError
        `UnknownFormat`, `CorruptFile` …: names file, format, offset and remedy.
    """
    options = ReadOptions(
        dataset=dataset,
        scan_shape=scan_shape,
        sync_offset=sync_offset,
        flyback=flyback,
        layout=layout,
        allow_truncated=allow_truncated,
        allow_external=allow_external,
    )
    return read_file(path, options, format=format, cube_type=DataCube)
