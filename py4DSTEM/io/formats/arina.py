"""DECTRIS detectors (ARINA, ELA, QUADRO, EIGER): ``*_master.h5`` and its data files.

The master links to data files in its own folder, each with some of the frames. Beside it, the
microscope may leave ``<name>.h5`` with the shape and the step of the scan. A data file can be
opened alone.

Counts come back as they were written. Where the detector applied its pixel mask, masked pixels
hold the largest number of the type; their positions are in ``metadata.original["masked_pixels"]``
and a warning names the remedy.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile, FormatError, Py4DSTEMWarning, UnknownFormat
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import RawAxis, iso_date, iso_time, positive, scan_calibration
from py4DSTEM.io.formats.h5tree import SIGNATURE, group_tree, plain, value_of
from py4DSTEM.io.frames import BlankFrames, JoinedFrames
from py4DSTEM.io.hdf5 import Hdf5Array, find, open_dataset, open_h5

_DATA = "entry/data"
_DETECTOR = "entry/instrument/detector"
_PART = re.compile(r"data_(\d+)")
_COMPANION = "STEM Metadata"
_SLOWEST_ELECTRON_EV = 20e3  # below, a "photon energy" is that of X-rays
_MOST_LISTED = 10_000

Tree = Mapping[str, Any]


class Arina(Format):
    """Masters and data files of DECTRIS detectors."""

    name = "arina"
    title = "DECTRIS HDF5 (ARINA, ELA, QUADRO, EIGER)"
    extensions = (".h5", ".hdf5", ".nxs")

    def sniff(self, source: Source) -> Match:
        if not source.head.startswith(SIGNATURE):
            return Match.NO
        try:
            with open_h5(source.path) as file:
                companion = isinstance(file.get(_COMPANION, getlink=True), h5py.HardLink)
                return Match.YES if companion or _part_names(file) else Match.NO
        except Exception:  # another format says what is wrong with the file
            return Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        with open_h5(source.path) as file:
            names = _part_names(file)
            if not names:
                raise _only_describes(source)
            tree = group_tree(file, "entry")
        frames, notes = _frames(source, names, options)
        about = _About(source, tree, _companion(source), frames.shape)
        mask = _image(source, about, "pixel_mask")
        metadata = _metadata(about, mask).with_notes(
            *notes, *_count_notes(about), *_mask_notes(about, mask, frames.dtype),
            *_flatfield_notes(source, about), *about.companion_notes,
        )  # fmt: skip
        shape, reason = _scan_shape(about)
        name = source.path.stem.removesuffix("_master")
        calibration = _calibration(about, metadata)
        return {name: Signal(name, frames, calibration, metadata, True, shape, reason)}


# ---- frames --------------------------------------------------------------------------------------
def _part_names(file: h5py.File) -> list[str]:
    """Data sets with frames, in the order of recording; none for a foreign file."""
    try:
        group = find(file, _DATA)
    except FormatError:
        return []
    if not isinstance(group, h5py.Group):
        return []
    numbered = [(int(found[1]), n) for n in group if (found := _PART.fullmatch(n))]
    if numbered:
        return [f"{_DATA}/{name}" for _, name in sorted(numbered)]
    alone = group.get("data") if group.get("data", getclass=True) is h5py.Dataset else None
    known = alone is not None and alone.ndim == 3 and "image_nr_low" in alone.attrs
    return [f"{_DATA}/data"] if known else []


@dataclass(frozen=True)
class _Part:
    """One data file; `frames` is None where it is missing or damaged, `first` its first frame."""

    name: str
    frames: Hdf5Array | None
    first: int | None = None
    problem: str = ""


def _frames(
    source: Source, names: Sequence[str], options: ReadOptions
) -> tuple[JoinedFrames, tuple[str, ...]]:
    parts = [_part(source, name, options.allow_external) for name in names]
    found = [p.frames for p in parts if p.frames is not None]
    problems = [p.problem for p in parts if p.frames is None]
    if problems and not (found and options.allow_truncated):
        raise _incomplete(source, problems, len(parts))
    _check_alike(source, found)
    if not problems:
        return JoinedFrames(found), ()
    return JoinedFrames(_with_gaps(parts)), tuple(f"left out: {p}" for p in problems)


def _part(source: Source, name: str, allow_external: bool) -> _Part:
    try:
        array = Hdf5Array(source.path, name, allow_external=allow_external)
        with open_dataset(source.path, name, allow_external=allow_external) as dataset:
            low = dataset.attrs.get("image_nr_low")
    except (CorruptFile, UnknownFormat) as error:
        return _Part(name, None, problem=str(error))
    return _Part(name, array, None if low is None else int(low) - 1)


def _incomplete(source: Source, problems: Sequence[str], count: int) -> CorruptFile:
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return CorruptFile(
        f"{len(problems)} of {count} data files are missing or damaged: "
        + "; ".join(problems[:3]) + more,
        path=source.path, format=Arina.name,
        hint="Copy all *_data_*.h5 files into the folder of the master; allow_truncated=True reads "
        "the frames that are there",
    )  # fmt: skip


def _check_alike(source: Source, arrays: Sequence[Hdf5Array]) -> None:
    kinds = {(a.shape[1:], a.dtype) for a in arrays}
    if len(kinds) != 1 or any(a.ndim != 3 or a.dtype.kind not in "buif" for a in arrays):
        raise CorruptFile(
            "the data files are no stacks of frames of one kind", path=source.path,
            format=Arina.name, expected="(n, rows, columns) of one dtype",
            got=", ".join(sorted({f"{a.shape} {a.dtype}" for a in arrays})),
        )  # fmt: skip


def _with_gaps(parts: Sequence[_Part]) -> list[Any]:
    """Zeros in place of missing files, so that later frames keep their positions."""
    whole = [p.frames for p in parts if p.frames is not None]
    usual = max(int(a.shape[0]) for a in whole)
    out: list[Any] = []
    position = missing = 0
    for part in parts:
        if part.frames is None:
            missing += usual
            continue
        gap = max(part.first - position, 0) if part.first is not None and missing else missing
        if gap:
            rows, columns = whole[0].shape[1:]
            out.append(BlankFrames((gap, rows, columns), whole[0].dtype))
        out.append(part.frames)
        position, missing = position + gap + int(part.frames.shape[0]), 0
    return out


def _only_describes(source: Source) -> FormatError:
    master = source.path.with_name(f"{source.path.stem}_master.h5")
    return FormatError(
        "it describes a scan and holds no patterns", path=source.path, format=Arina.name,
        hint=f"Open {master.name}, the master file of the detector",
    )  # fmt: skip


# ---- what the files say --------------------------------------------------------------------------
class _About:
    """What detector (`tree`) and microscope (`stem`) say, and the shape of the frames."""

    def __init__(
        self, source: Source, tree: Tree, stem: tuple[Tree, tuple[str, ...]], shape: tuple[int, ...]
    ) -> None:
        self.source, self.tree, self.shape = source, tree, shape
        self.stem, self.companion_notes = stem

    def detector(self, name: str) -> Any:
        """A value of the detector, from where the versions of the firmware put it."""
        detector = self.tree.get("instrument", {}).get("detector", {})
        found = value_of(detector, name)
        return value_of(detector, "detectorSpecific", name) if found is None else found

    def scan(self, name: str) -> Any:
        """A value of the microscope."""
        value = self.stem.get(name)
        return value[0] if isinstance(value, list) and len(value) == 1 else value

    @property
    def announced(self) -> int:
        """Frames that were asked for; 0 where it is not said."""
        counts = (self.detector("nimages"), self.detector("ntrigger"))
        return int(counts[0]) * int(counts[1]) if all(map(_is_count, counts)) else 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 < value < 1 << 40


def _companion(source: Source) -> tuple[Tree, tuple[str, ...]]:
    """Attributes of the microscope's file, and a note where it cannot be read."""
    stem = re.sub(r"_(master|data_\d+)$", "", source.path.stem)
    path = source.path.with_name(f"{stem}{source.path.suffix}")
    if path == source.path or not path.is_file():
        return {}, ()
    try:
        with open_h5(path) as file:
            if file.get(_COMPANION, getlink=True) is None:
                return {}, ()
            attributes = find(file, _COMPANION).attrs
            return {name: plain(attributes[name]) for name in attributes}, ()
    except (FormatError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        return {}, (f"{path.name} beside it is not used: {error}",)


def _scan_shape(about: _About) -> tuple[tuple[int, int] | None, str]:
    columns, rows = about.scan("NumPixelsX"), about.scan("NumPixelsY")
    if _is_count(columns) and _is_count(rows):
        return (rows, columns), f"the microscope ({_COMPANION})"
    images, triggers = about.detector("nimages"), about.detector("ntrigger")
    if about.announced and min(images, triggers) > 1:
        return (triggers, images), "one trigger per row (ntrigger, nimages)"
    side = round(about.announced**0.5)
    if side > 1 and side * side == about.announced:
        return (side, side), f"{about.announced} announced frames"
    return None, ""


def _count_notes(about: _About) -> Iterator[str]:
    count = about.shape[0]
    master = _master_of(about.source)
    if master is not None:
        yield f"one data file of {master}, which may have more"
    if about.announced > count:
        yield f"recording stopped early: {count} of {about.announced} frames are there"
    width, height = about.detector("x_pixels_in_detector"), about.detector("y_pixels_in_detector")
    if _is_count(width) and _is_count(height) and (height, width) != about.shape[1:]:
        yield f"frames are {about.shape[1:]} pixels, the detector {(height, width)}"


def _master_of(source: Source) -> str | None:
    """The master beside a data file, where there is one."""
    found = re.fullmatch(r"(.*)_data_\d+", source.path.stem)
    master = source.path.with_name(f"{found[1]}_master{source.path.suffix}") if found else None
    return master.name if master is not None and master.is_file() else None


def _calibration(about: _About, metadata: Metadata) -> Calibration:
    # The microscope writes the step in nm.
    step = positive(about.scan("Pixel Size"))
    scan = [RawAxis("", step, 0.0, "nm") if step else RawAxis("")] * 2
    calibration, _ = scan_calibration(scan, [RawAxis("")] * 2, energy_eV=metadata.energy_eV)
    return calibration


def _metadata(about: _About, mask: NDArray[Any] | None) -> Metadata:
    date = about.detector("data_collection_date")
    energy = positive(about.scan("High Tension")) or positive(about.detector("photon_energy"))
    bits = about.detector("bit_depth_readout") or about.detector("bit_depth_image")
    named = (about.detector("description"), about.detector("detector_number"))
    return Metadata(
        detector=" ".join(str(n) for n in named if n) or None,
        software=_text(about.detector("software_version")),
        date=iso_date(date),
        time=iso_time(str(date).partition("T")[2]),
        energy_eV=energy if energy and energy >= _SLOWEST_ELECTRON_EV else None,
        camera_length_mm=positive(about.scan("Camera Length"), 1e3),
        magnification=positive(about.scan("Magnification")),
        dwell_time_s=positive(about.scan("ScanDwellTime"))
        or positive(about.detector("frame_time")),
        exposure_s=positive(about.detector("count_time")),
        counter_depth_bits=bits if _is_count(bits) else None,
        threshold_keV=positive(about.detector("threshold_energy"), 1e-3),
        original={
            "entry": about.tree,
            _COMPANION: about.stem,
            "masked_pixels": [] if mask is None else np.argwhere(mask)[:_MOST_LISTED].tolist(),
        },
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


# ---- images of the detector ----------------------------------------------------------------------
def _image(source: Source, about: _About, name: str) -> NDArray[Any] | None:
    """An image of the detector, such as its mask; None where there is none of that shape."""
    for place in (f"{_DETECTOR}/{name}", f"{_DETECTOR}/detectorSpecific/{name}"):
        try:
            array = Hdf5Array(source.path, place)
        except CorruptFile:
            raise
        except FormatError:
            continue
        if array.shape == about.shape[1:] and array.dtype.kind in "buif":
            return array[...]
    return None


def _mask_notes(
    about: _About, mask: NDArray[Any] | None, dtype: np.dtype[Any]
) -> Iterator[str]:  # fmt: skip
    count = 0 if mask is None else int(np.count_nonzero(mask))
    if mask is None or count == 0:
        return
    note = f"{count} of {mask.size} pixels are masked by the detector"
    if about.detector("pixel_mask_applied") and dtype.kind in "ui":
        note += (
            f" and read as {np.iinfo(dtype).max}: replace them with repair_pixels; "
            'their positions are in metadata.original["masked_pixels"]'
        )
        warnings.warn(f"{about.source.path.name}: {note}", Py4DSTEMWarning, stacklevel=2)
    yield note


def _flatfield_notes(source: Source, about: _About) -> Iterator[str]:
    if about.detector("flatfield_correction_applied") != 0:
        return
    flat = _image(source, about, "flatfield")
    if flat is not None and flat.min() != flat.max():
        yield "the flat field in the file has not been applied: see apply_gain"


FORMATS = (Arina,)
