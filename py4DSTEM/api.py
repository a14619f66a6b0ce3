"""The friendly face: `read`, `save`, and the cube with every verb one dot away."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.format import RawLayout, ReadOptions
from py4DSTEM.io.hyperspy import to_hyperspy
from py4DSTEM.io.read import read_file
from py4DSTEM.process import beam, clean, com, diffraction, median, probe, quality, radial, virtual
from py4DSTEM.process import cepstrum as cepstra
from py4DSTEM.process import ring_strain as rings
from py4DSTEM.process.amorphous import fem as fluctuation
from py4DSTEM.process.amorphous import orient as arcs
from py4DSTEM.process.amorphous import pdf, speckle
from py4DSTEM.process.amorphous import symmetry as around
from py4DSTEM.process.bragg import detect, preview, spots
from py4DSTEM.process.calibrate import ellipse, origin, pixel_size, rotation
from py4DSTEM.process.classes import crystallinity as crystals
from py4DSTEM.process.classes import dark_field
from py4DSTEM.process.classes import patterns as class_means
from py4DSTEM.process.classes import sources as class_features
from py4DSTEM.process.phase import direct as phase_direct
from py4DSTEM.process.phase import dpc as phase_dpc
from py4DSTEM.process.phase import parallax as phase_parallax
from py4DSTEM.process.phase.ptychography import reconstruct as phase_ptychography
from py4DSTEM.process.phase.ptychography import search as phase_search
from py4DSTEM.process.phase.ptychography import tune as phase_tuning
from py4DSTEM.process.polar import rings as polar_rings
from py4DSTEM.process.polar import statistics as polar_statistics
from py4DSTEM.process.polar import transform as polar
from py4DSTEM.stream.engine import stream_tiles
from py4DSTEM.stream.options import RunOptions

__all__ = ["DataCube", "from_hyperspy", "read", "save"]


class DataCube(Cube):
    """A 4D-STEM scan ``(Rx, Ry, Qx, Qy)`` with its calibration, and all verbs as methods.

    Parameters
    ----------
    data : (Rx, Ry, Qx, Qy) array, memory map or lazy array
    calibration : Calibration
    name : str
    history : History
        How it was made.
    metadata : Metadata
        What the file says about the experiment.
    report : mapping
        What was found while it was made, in plain numbers.

    Examples
    --------
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
    find_beam = beam.find_beam
    measure_origin = origin.measure_origin
    calibrate_origin = origin.calibrate_origin
    measure_probe = probe.measure_probe
    to_hyperspy = to_hyperspy
    quality = quality.quality
    radial_profiles = radial.radial_profiles
    mean_radial_profile = radial.mean_radial_profile
    center_of_mass = com.center_of_mass
    pair_distribution = pdf.pair_distribution
    find_bragg_disks = detect.find_bragg_disks
    preview_bragg_disks = preview.preview_bragg_disks
    find_spots = spots.find_spots
    measure_ellipse = ellipse.measure_ellipse
    measure_pixel_size = pixel_size.measure_pixel_size
    measure_rotation = rotation.measure_rotation
    direct_ptychography = phase_direct.direct_ptychography
    dpc = phase_dpc.dpc
    parallax = phase_parallax.parallax
    ssb = phase_direct.ssb
    depth_section = phase_parallax.depth_section
    ptychography = phase_ptychography.ptychography
    tune_ptychography = phase_tuning.tune_ptychography
    search_optics = phase_search.search_optics
    ring_strain = rings.ring_strain
    polar_transform = polar.polar_transform
    azimuthal_statistics = polar_statistics.azimuthal_statistics
    fit_rings = polar_rings.fit_rings
    features = class_features.features
    class_patterns = class_means.class_patterns
    cepstrum = cepstra.cepstrum
    fem = fluctuation.fem
    angular_correlation = around.angular_correlation
    symmetry = around.symmetry
    speckle_statistics = speckle.speckle_statistics
    orientation_distribution = arcs.orientation_distribution
    cepstral_strain = cepstra.cepstral_strain
    crystallinity = crystals.crystallinity
    dark_field_images = dark_field.dark_field_images


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
    bin_Q: int = 1,
    untrusted: bool = False,
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
    bin_Q : int
        Sum so many pixels of the detector along both axes, when they are read: the scan is as
        after ``.bin(Q=bin_Q)``, calibration and history included.  What is no scan stays as it is.
    untrusted : bool
        Open the file in a process of its own first, with limits of time and memory: a damaged
        HDF5 file can crash or hang the HDF5 library, which then happens there.  Takes a second.

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
        bin_Q=bin_Q,
    )
    if untrusted:
        from py4DSTEM.io.probe import probe

        probe(path, options, format)
    return read_file(path, options, format=format, cube_type=DataCube)


def from_hyperspy(signal: Any) -> Any:
    """A `DataCube`, `RealSlice` or `DiffractionSlice` of a HyperSpy signal; nothing is read.

    Parameters
    ----------
    signal : hyperspy.signals.BaseSignal
        Two navigation and two signal axes give a cube; lazy signals stay lazy.

    Returns
    -------
    DataCube, RealSlice or DiffractionSlice
    """
    from py4DSTEM.io import hyperspy

    return hyperspy.from_hyperspy(signal, cube_type=DataCube)


def save(
    path: str | os.PathLike[str],
    obj: Any,
    mode: str = "w",
    *,
    compression: str = "gzip",
    level: int | None = None,
    chunks: tuple[int, int, int, int] | None = None,
    scale_bar: bool | None = None,
    options: RunOptions | None = None,
) -> None:
    """Write one object, or a mapping of name → object, to a file.

    The file appears complete or not at all: it is written beside `path`, read back, and renamed.
    Files ``.h5`` (and any extension not listed here) hold everything exactly, and open in py4DSTEM
    0.14, HyperSpy and RosettaSciIO.  ``.tif .png .npy .csv .hspy .zspy .zarr`` hold one object.

    Parameters
    ----------
    path : path
    obj : cube, slice, PointTable, array, any result, or a (nested) mapping of them
    mode : str
        ``"w"``: a new file; one of the same name is replaced when the new one is complete.
        ``"a"``: added to the file, whose objects stay; ``"ao"``: also replaces objects of the
        same name.  Adding copies the file first (sharing blocks where the file system can).
    compression : str
        ``"gzip"`` is read by every program; ``"bitshuffle"`` (LZ4) is three times as fast and
        needs hdf5plugin to read; ``"zstd"``; ``"none"``.
    level : int, optional
        Of gzip (1 … 9) or zstd (1 … 22).
    chunks : (int, int, int, int), optional
        Chunk shape of scans; default: whole patterns, about 128 kB.
    scale_bar : bool, optional
        Burn a scale bar into an exported image; default: into ``.png`` only.
    options : RunOptions, optional
        Workers, memory, progress and cancel.

    Raises
    ------
    StoreError
        Writing failed: names path and remedy; what was there before is untouched.
    ParameterError
        The object is of a type that cannot be saved.

    Notes
    -----
    A cube may be saved onto the file it was read from.  Objects that were opened from the old file
    go on reading the old content while they are open; `read` the file again to see the new.
    Byte order becomes that of the machine; values do not change.
    """
    from py4DSTEM.io.export import export, export_suffix
    from py4DSTEM.io.store.encode import Compression
    from py4DSTEM.io.store.write import WriteSettings, write_store

    def stream(cube: Cube, work: Callable[[Any, Any], Any], label: str) -> Iterator[Any]:
        return stream_tiles(
            cube, lambda tile: work(tile.block, tile.frames), options=options, label=label
        )

    settings = WriteSettings(mode, Compression(compression, level), chunks)
    if export_suffix(path) is not None:
        if mode != "w":
            raise ParameterError(f"mode={mode!r} is for .h5 files, not {os.fspath(path)!r}")
        export(path, obj, stream, scale_bar=scale_bar)
        return
    objects = obj if isinstance(obj, Mapping) else {_object_name(obj): obj}
    write_store(path, objects, stream, settings)


def _object_name(obj: Any) -> str:
    name = str(getattr(obj, "name", "") or type(obj).__name__.lower()).replace("/", "_")
    return name.strip() or "data"
