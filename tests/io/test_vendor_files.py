"""Every real file of these vendors, against the readings of independent readers."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from py4DSTEM.core.lazy import read_block
from py4DSTEM.io.format import ReadOptions, Source
from py4DSTEM.io.read import from_signal, open_signals, read_file
from py4DSTEM.units import canonical_unit, unit_factor

FOLDERS = ("dm", "blo", "tvips", "mrc", "topspin", "prz", "nexus", "hspy", "zspy", "tia", "tiff")
VELOX = ("fei_example_tem_stack", "fei_example_dpc_titles", "FFTComplexEven",
         "Camera Ceta Imaging Micro", "STEM HAADF Diffraction Micro")  # fmt: skip
NOT_OPENED = (".txt", ".npy")
DATA = Path(os.environ.get("PY4DSTEM_SHARED_DATA",
                           Path(__file__).resolve().parents[3] / "shared" / "data"))  # fmt: skip
REAL = DATA / "real"


def entries() -> list[dict]:
    manifest = REAL / "manifest.json"
    if not manifest.is_file():
        return []
    chosen = []
    for entry in json.loads(manifest.read_text()):
        folder, _, name = entry["file"].partition("/")
        velox = folder == "emd" and Path(name).stem in VELOX
        if (folder in FOLDERS or velox) and not name.endswith(NOT_OPENED):
            chosen.append(entry)
    return chosen


def readings(entry: dict) -> list[dict]:
    """What RosettaSciIO read, or ncempy where it gives the only reading."""
    for reader in ("rosettasciio", "ncempy"):
        found = entry["readings"].get(reader)
        found = found if isinstance(found, list) else [found] if found else []
        found = [r for r in found if (isinstance(r, dict) and "sum_total" in r) or
                 (isinstance(r, dict) and "sum_total_real_imag" in r)]  # fmt: skip
        if found:
            return found
    return []


def open_all(path: Path) -> dict[str, object]:
    # A NeXus file shows datasets outside of its NXdata groups where one is asked for.
    _, signals = open_signals(Source.of(path), ReadOptions(dataset="any"))
    return dict(signals)


def values(signal) -> np.ndarray:
    data = signal.data
    if hasattr(data, "read_block") and len(data.shape) == 4:
        rows, columns = data.shape[:2]
        whole = read_block(data, slice(0, rows), slice(0, columns))
        return whole.reshape(data.shape)
    if hasattr(data, "read_frames") and len(data.shape) == 3:
        return data.read_frames(0, data.shape[0])
    if hasattr(data, "compute"):
        return data.compute(scheduler="synchronous")
    return np.asarray(data[...])


def moments(data: np.ndarray) -> tuple[np.ndarray, float, float]:
    pattern = data.astype(np.complex128 if data.dtype.kind == "c" else np.float64)
    pattern = pattern.sum(axis=tuple(range(max(0, data.ndim - 2))))
    size = np.abs(pattern) if pattern.dtype.kind == "c" else pattern
    size = size[None] if size.ndim == 1 else size
    rows, columns = np.indices(size.shape)
    return pattern, float((size * rows).sum()), float((size * columns).sum())


def matches(data: np.ndarray, reading: dict) -> bool:
    shape = tuple(reading["shape"])
    if data.shape != shape and not (data.size == np.prod(shape) and data.shape[-2:] == shape[-2:]):
        return False
    pattern, row, column = moments(data.reshape(shape))
    if "sum_total_real_imag" in reading:
        total = [pattern.sum().real, pattern.sum().imag]
        if not np.allclose(total, reading["sum_total_real_imag"], rtol=1e-6, atol=1e-3):
            return False
    elif data.dtype.kind in "biu":
        if pattern.sum() != reading["sum_total"]:
            return False
        if "sum_pattern_sha256_float64_le" in reading:
            raw = np.ascontiguousarray(pattern, "<f8").tobytes()
            return hashlib.sha256(raw).hexdigest() == reading["sum_pattern_sha256_float64_le"]
    elif not np.isclose(pattern.sum(), reading["sum_total"], rtol=1e-6, equal_nan=True):
        return False
    wanted = [reading.get("sum_pattern_row_moment"), reading.get("sum_pattern_col_moment")]
    if data.ndim < 2 or None in wanted:
        return True
    return bool(np.allclose([row, column], wanted, rtol=1e-6, atol=1e-6, equal_nan=True))


@pytest.mark.parametrize("entry", entries(), ids=lambda e: e["file"])
def test_real_file_reads_as_others_read_it(entry: dict) -> None:
    signals = open_all(REAL / entry["file"])
    arrays = {name: values(signal) for name, signal in signals.items()}
    for reading in readings(entry):
        found = [n for n, data in arrays.items() if matches(data, reading)]
        assert found, f"{reading['shape']} not among {[(n, a.shape) for n, a in arrays.items()]}"
        if not any(axes_match(signals[n], reading, entry["file"]) for n in found):
            raise AssertionError(f"axes {reading['axes']} not those of {signals[found[0]]}")


# Where the reading in the manifest is known not to be what the file says.
AXES_NOT_COMPARED = (
    "mrc/20241021_00405_movie",  # the reading replaces all pixel sizes by 1
    "tvips/",  # the camera's pixel size is given as an inverse length
    "tia/",  # offsets and signs follow the vendor's own conventions
)


def axes_match(signal, reading: dict, file: str) -> bool:
    if "axes" not in reading or file.startswith(AXES_NOT_COMPARED) or not reading["axes"]:
        return True
    ours = signal.axes or (*signal.calibration.R, *signal.calibration.Q)
    if len(ours) != len(reading["axes"]):
        return len(ours) != len(reading["shape"])
    for mine, theirs in zip(ours, reading["axes"], strict=True):
        scale, unit = theirs.get("scale"), canonical_unit(theirs.get("units"))
        if scale is None or not np.isfinite(scale) or scale <= 0 or "scale" not in theirs:
            if (mine.step, mine.unit) != (1.0, "px"):
                return False
            continue
        factor = 1.0 if unit in ("px", mine.unit) else unit_factor(unit, mine.unit)
        if not np.isclose(mine.step, scale * factor, rtol=1e-5):
            return False
    return True


def test_objects_of_every_file_can_be_made(shared_data: Path) -> None:
    for entry in entries():
        for signal in open_all(shared_data / "real" / entry["file"]).values():
            if getattr(signal, "stream", False):
                continue
            made = from_signal(signal, ReadOptions())
            assert made.shape


def test_heater_log(tmp_path: Path) -> None:
    rows = "".join(f"{k}\t{k * 0.5}\t25.0\t{25 + k}.5\t1\t2\t3\t4\t0\n" for k in range(20))
    header = "sample\ttime\tTset[C]\tTmeas[C]\tRheat[ohm]\tVheat[V]\tIheat[mA]\tPheat [mW]\tc\n"
    path = tmp_path / "heater.dens"
    path.write_text(
        "22/08/'14 14:04\tDigiheater 3.1\nR0=1.0\ta=2.0\tb=3.0\tc=4.0\ndelta_t = 0.5\n"
        + header + rows
    )  # fmt: skip
    log = read_file(path, ReadOptions())
    assert np.allclose(log.data, 25.5 + np.arange(20))
    assert log.axes[0].unit == "s" and abs(log.axes[0].step - 0.5) < 1e-9
