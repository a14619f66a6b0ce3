"""Every real file and every broken one, against the readings of independent readers."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from truth import axes_match, matches, values

import py4DSTEM
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import FormatError, Py4DSTEMWarning
from py4DSTEM.io.format import ReadOptions, Source
from py4DSTEM.io.read import from_signal, open_signals

DATA = Path(os.environ.get("PY4DSTEM_SHARED_DATA",
                           Path(__file__).resolve().parents[3] / "shared" / "data"))  # fmt: skip
REAL = DATA / "real"
READERS = ("LiberTEM 0.16.0", "byte_level", "rosettasciio", "ncempy", "h5py")
"""Readings are taken from the first of them that read numbers."""
FILE_ORDER = {
    "emd/example_image.emd": "ncempy", "emd/emd_type1_stringDims.h5": "h5py",
}  # fmt: skip
"""RosettaSciIO reverses the axes of these; here they are in the order of the file."""

REFUSED = {
    "arina/test_00.h5": "holds no patterns",  # settings of the detector, no images
    "empad/stack_images.xml": "series_x10.raw",  # the numbers are missing
    "seq/test.seq.Config.Metadata.xml": "no format",
    "seq/test.seq.dark.mrc": "shorter",  # a reference image: read(..., dataset="dark") of the .seq
    "seq/test.seq.gain.mrc": "shorter",
}
"""Files that hold nothing that could be read by themselves."""

SAME_AS = {"empad/scan_x4_y4.raw": "empad/map4x4.xml"}
"""Files whose reading is given with their description."""

TRANSPOSED = ("emd/Si100_2D_3D_DPC_potential_2slices.emd",)
"""RosettaSciIO exchanges x and y of these images, whose axes the file calls R_x, R_y."""

# Where the reading in the manifest is known not to be what the file says.
ROWS_REVERSED = ("rosettasciio", "mib/")  # the order of LiberTEM and of the file is kept here
AXES_NOT_COMPARED = (
    "mrc/20241021_00405_movie",  # the reading replaces all pixel sizes by 1
    "tvips/",  # the camera's pixel size is given as an inverse length
    "tia/",  # offsets and signs follow the vendor's own conventions
    "empad/",  # the field of view belongs to the whole scan, of which the XML says the part
    "mib/", "arina/",  # the file has none, the reading has 1 without a unit
    "emd/Si100_",  # PRISMATIC writes lengths in A and calls them nm
)  # fmt: skip


# ---- what to compare -----------------------------------------------------------------------------
def manifest() -> list[dict]:
    place = REAL / "manifest.json"
    return json.loads(place.read_text()) if place.is_file() else []


def entries() -> list[dict]:
    """Files that are data: notes and arrays for comparison are not."""
    return [e for e in manifest() if not e["file"].endswith((".txt", ".npy"))]


def readings(entry: dict) -> tuple[str, list[dict]]:
    """The first reader that read numbers, and what it read."""
    file = SAME_AS.get(entry["file"], entry["file"]).removesuffix(".hdr")
    found = next(
        (e["readings"] for e in manifest() if e["file"] in (file, f"{file}.mib")),
        {},
    )
    for reader in (FILE_ORDER.get(entry["file"], ""), *READERS):
        listed = found.get(reader, [])
        listed = listed if isinstance(listed, list) else [listed]
        listed = [r for r in listed if {"sum_total", "sum_total_real_imag"} & set(r) and
                  "shape" in r]  # fmt: skip
        if listed:
            return reader, list(map(transposed, listed)) if file in TRANSPOSED else listed
    return "", []


def transposed(reading: dict) -> dict:
    """The reading of images whose rows and columns are exchanged."""
    *outer, rows, columns = reading["shape"]
    row, column = (reading[f"sum_pattern_{name}_moment"] for name in ("row", "col"))
    changed = {"sum_pattern_row_moment": column, "sum_pattern_col_moment": row}
    return reading | changed | {"shape": [*outer, columns, rows]}


def read_all(path: Path) -> Any:
    """What `read` gives, without what it says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Py4DSTEMWarning)
        value = py4DSTEM.read(path)
    return value if isinstance(value, dict) else {"": value}


def open_all(path: Path) -> dict[str, Any]:
    # A NeXus file shows datasets outside of its NXdata groups where one is asked for.
    try:
        return dict(open_signals(Source.of(path), ReadOptions(dataset="any"))[1])
    except FormatError:
        return dict(open_signals(Source.of(path), ReadOptions())[1])


def candidates(path: Path) -> Iterator[tuple[Any, np.ndarray]]:
    """Everything in the file, with its numbers; also what was one stack, put together again."""
    depths = defaultdict(list)
    for objects in (read_all(path), open_all(path)):
        for name, value in objects.items():
            if hasattr(value, "data"):
                numbers = values(value)
                yield value, numbers
                depths[re.sub(r"depth\d+$", "", name)].append((value, numbers))
    for parts in depths.values():
        half = parts[: len(parts) // 2]
        if len({a.shape for _, a in half}) == 1:
            yield half[0][0], np.stack([a for _, a in half])


# ---- real files ----------------------------------------------------------------------------------
@pytest.mark.parametrize("entry", entries(), ids=lambda e: e["file"])
def test_real_file_reads_as_others_read_it(entry: dict) -> None:
    file = entry["file"]
    if file in REFUSED:
        with pytest.raises(FormatError, match=REFUSED[file]):
            read_all(REAL / file)
        return
    reader, listed = readings(entry)
    found = list(candidates(REAL / file)) if listed else []
    flipped = (reader, file[: file.index("/") + 1]) == ROWS_REVERSED
    for reading in listed:
        same = [v for v, data in found if matches(data, reading, rows_reversed=flipped)]
        assert same, f"{reading['shape']} not among {[a.shape for _, a in found]}"
        told = file.startswith(AXES_NOT_COMPARED) or any(axes_match(v, reading) for v in same)
        assert told, f"axes {reading['axes']} are not those of {same[0]}"
    assert listed or read_all(REAL / file)


def test_peaks_of_an_older_file(shared_data: Path) -> None:
    (entry,) = [e for e in manifest() if e["file"] == "py4dstem/braggdisks_cali.h5"]
    reading = entry["readings"]["py4DSTEM 0.14.18"]
    tables = [v for v in read_all(REAL / entry["file"]).values() if isinstance(v, PointTable)]
    assert any(
        table.shape == tuple(reading["scan_shape"])
        and len(table.points) == reading["points"]
        and np.allclose([table.points[f].sum() for f in ("qx", "qy", "intensity")],
                        reading["field_sums"])
        for table in tables
    )  # fmt: skip


def test_objects_of_every_file_can_be_made(shared_data: Path) -> None:
    for entry in entries():
        if entry["file"] in REFUSED:
            continue
        for signal in open_all(REAL / entry["file"]).values():
            if getattr(signal, "stream", True):
                continue
            assert from_signal(signal, ReadOptions()).shape


# ---- broken files --------------------------------------------------------------------------------
def broken() -> list[dict]:
    place = DATA / "broken" / "broken.json"
    return json.loads(place.read_text()) if place.is_file() else []


@pytest.mark.parametrize("entry", broken(), ids=lambda e: e["file"])
def test_broken_file(entry: dict) -> None:
    """Refused with its name, or opened lazily with a note; what each entry expects."""
    path = DATA / "broken" / entry["file"]
    if entry["expect"].startswith("reads data"):
        (cube,) = read_all(path).values()
        assert np.isfinite(values(cube)).all()
        assert not cube.calibration.Q[0].calibrated
        assert any("scale" in note or "not used" in note for note in cube.metadata.notes)
    elif entry["expect"].startswith("lazy"):
        (cube,) = read_all(path).values()
        assert cube.nbytes > 1 << 40
        assert not np.asarray(cube.data[0, 0]).any()
    else:
        with pytest.raises(FormatError, match=entry["file"]):
            read_all(path)
