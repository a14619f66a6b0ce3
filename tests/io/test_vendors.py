"""Vendor formats: files written here, the constructed 4D set, and damage."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from py4DSTEM.core.lazy import read_block
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import CorruptFile, FormatError, Py4DSTEMWarning
from py4DSTEM.io.format import ReadOptions
from py4DSTEM.io.read import read_file
from py4DSTEM.testing.formats import check_file, survey_damage


def read(path: Path, **options):
    return read_file(path, ReadOptions(**options))


def loaded(cube) -> np.ndarray:
    rows, columns = cube.R_shape
    return read_block(cube.data, slice(0, rows), slice(0, columns)).reshape(cube.shape)


def counts(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 200, shape).astype(dtype)


# ---- blockfile -----------------------------------------------------------------------------------
def write_blo(path: Path, data: np.ndarray, step_nm: float = 2.0) -> Path:
    rows, columns, size = data.shape[:3]
    header = struct.pack(
        "<6sHIIIHHHHHddIHId", b"IMGBLO", 0x0102, 0x1000, 0x1100, 0, size, 0, columns, rows, 0,
        step_nm, step_nm * 2, 200_000, 500, 1500, 44000.5,
    )  # fmt: skip
    frames = (b"\xaa\x55" + struct.pack("<I", i) + p.tobytes()
              for i, p in enumerate(data.reshape(-1, size, size)))  # fmt: skip
    path.write_bytes(header.ljust(0x1100, b"\0") + b"".join(frames))
    return path


def test_blockfile(tmp_path: Path) -> None:
    data = counts("uint8", (3, 4, 8, 8))
    cube = read(write_blo(tmp_path / "a.blo", data))
    np.testing.assert_array_equal(loaded(cube), data)
    assert [(a.step, a.unit) for a in cube.calibration.R] == [(4.0, "nm"), (2.0, "nm")]
    assert cube.calibration.Q[0].unit == "cm"
    assert cube.calibration.energy_eV == 200e3
    assert cube.metadata.camera_length_mm == 150.0
    assert (cube.metadata.date, cube.metadata.time) == ("2020-06-18", "12:00:00")


def test_a_cut_blockfile_is_read_on_request_only(tmp_path: Path) -> None:
    data = counts("uint8", (3, 4, 8, 8))
    path = write_blo(tmp_path / "a.blo", data)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptFile, match="shorter"):
        read(path)
    cube = read(path, allow_truncated=True)
    expected = data.reshape(12, 8, 8).copy()
    expected[10:] = 0
    np.testing.assert_array_equal(loaded(cube).reshape(12, 8, 8), expected)
    assert "2 positions are missing" in cube.metadata.notes[0]


# ---- MRC -----------------------------------------------------------------------------------------
MODES = {"uint8": 0, "int16": 1, "float32": 2, "complex64": 4, "uint16": 6, "float16": 12}


def write_mrc(path: Path, data: np.ndarray, order: str = "<", extended: int = 0) -> Path:
    nz, ny, nx = data.shape
    head = bytearray(1024)
    struct.pack_into(f"{order}4I", head, 0, nx, ny, nz, MODES[data.dtype.name])
    struct.pack_into(f"{order}3I3f", head, 28, nx, ny, nz, 2.0 * nx, 3.0 * ny, 1.0)
    struct.pack_into(f"{order}I", head, 92, extended)
    head[208:212] = b"MAP "
    stored = data.astype(data.dtype.newbyteorder(order))
    path.write_bytes(bytes(head) + bytes(extended) + stored.tobytes())
    return path


@pytest.mark.parametrize("name", ["uint8", "int16", "float32", "uint16", "float16"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_mrc_stack(tmp_path: Path, name: str, order: str) -> None:
    data = counts(name, (6, 4, 5))
    path = write_mrc(tmp_path / "a.mrc", data, order, extended=128)
    cube = read(path, scan_shape=(2, 3))
    np.testing.assert_array_equal(loaded(cube).reshape(6, 4, 5), data)
    assert cube.metadata.frames == 6


def test_mrc_image_has_its_pixel_size(tmp_path: Path) -> None:
    image = read(write_mrc(tmp_path / "a.mrc", counts("uint16", (1, 4, 5))))
    assert [(a.step, a.unit) for a in image.axes] == [(3.0, "A"), (2.0, "A")]


def test_movie_of_a_direct_electron_camera(shared_data: Path) -> None:
    cube = read(shared_data / "real" / "mrc" / "20241021_00405_movie.mrc")
    assert cube.shape == (4, 8, 4, 8)
    assert [a.step for a in cube.calibration.R] == pytest.approx([0.2, 0.1])
    assert cube.calibration.Q[0].unit == "nm^-1"
    assert cube.calibration.energy_eV == 300e3
    assert cube.metadata.date == "2024-10-21"
    assert "_info.txt" in cube.metadata.notes[0]


# ---- TVIPS ---------------------------------------------------------------------------------------
def write_tvips(path: Path, data: np.ndarray, rotation: list[int], first: bool = True) -> Path:
    _, height, width = data.shape
    head = struct.pack("<13I", 256, 2, width, height, 16, 0, 0, 1, 1, 1, 200, 0, 60).ljust(256)
    out = head if first else b""
    for i, pattern in enumerate(data):
        frame = struct.pack(
            "<4IfII5fI2f", i, 86400, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, rotation[i], 0, 0
        )
        out += frame + pattern.astype("<u2").tobytes()
    path.write_bytes(out)
    return path


def test_tvips_in_several_parts(tmp_path: Path) -> None:
    data = counts("uint16", (8, 4, 5))
    path = write_tvips(tmp_path / "a_000.tvips", data[:5], [0, 0, 1, 2, 3])
    write_tvips(tmp_path / "a_001.tvips", data[5:], [4, 5, 6], first=False)
    cube = read(path, scan_shape=(2, 3), sync_offset=2)
    np.testing.assert_array_equal(loaded(cube).reshape(6, 4, 5), data[2:])
    assert cube.metadata.date == "1970-01-02"
    assert cube.calibration.energy_eV == 200e3
    assert any("sync_offset=2" in note for note in cube.metadata.notes)


def test_half_a_tvips_frame_is_refused(tmp_path: Path) -> None:
    path = write_tvips(tmp_path / "a_000.tvips", counts("uint16", (4, 4, 5)), [1, 2, 3, 4])
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CorruptFile, match="whole number"):
        read(path)
    assert read(path, allow_truncated=True, scan_shape=(1, 3)).shape == (1, 3, 4, 5)


# ---- TIA -----------------------------------------------------------------------------------------
def write_ser(path: Path, data: np.ndarray, step_m: float, gap: int = 0) -> Path:
    """Images ``(rows, columns, y, x)``, stored from the bottom up; `gap` varies their distance."""
    rows, columns, height, width = data.shape
    count = rows * columns
    dims = b"".join(
        struct.pack("<IddII", n, 0.0, 2e-9, 0, 1) + b"P" + struct.pack("<I", 6) + b"meters"
        for n in (columns, rows)
    )
    start = struct.pack("<HHHIIII", 0x4949, 0x0197, 0x210, 0x4122, 0x4142, count, count)
    table = len(start) + 8 + len(dims)
    out = start + struct.pack("<II", table, 2) + dims
    body, offsets = b"", []
    for i, image in enumerate(data.reshape(count, height, width)):
        offsets.append(table + 8 * count + len(body))
        body += struct.pack("<ddiddiHII", 0, step_m, 0, 0, step_m, 0, 2, width, height)
        body += image[::-1].astype("<u2").tobytes() + bytes(gap * (i % 3))
    numbers = struct.pack(f"<{count}I", *offsets)
    path.write_bytes(out + numbers + numbers + body)
    return path


@pytest.mark.parametrize("gap", [0, 5])
def test_ser_scan(tmp_path: Path, gap: int) -> None:
    data = counts("uint16", (2, 3, 4, 5))
    cube = read(write_ser(tmp_path / "a.ser", data, 1e8, gap))
    np.testing.assert_array_equal(loaded(cube), data)
    assert cube.calibration.R_pixel_size == pytest.approx(2.0)
    assert cube.calibration.R_pixel_units == "nm"
    assert cube.calibration.Q_pixel_size == pytest.approx(0.1)
    assert cube.calibration.Q_pixel_units == "nm^-1"


def test_document_of_a_series(shared_data: Path) -> None:
    folder = shared_data / "real" / "tia"
    pattern = read(folder / "64x64_diffraction_acquire.emi")
    assert isinstance(pattern, DiffractionSlice)
    assert pattern.calibration.energy_eV == 200e3


def test_a_document_without_its_series(tmp_path: Path) -> None:
    (tmp_path / "a.emi").write_bytes(b"JL\xf1\x04" + bytes(100))
    with pytest.raises(CorruptFile, match=r"a_1\.ser"):
        read(tmp_path / "a.emi")


# ---- TIFF ----------------------------------------------------------------------------------------
def write_tiff(path: Path, data: np.ndarray, order: str = "<", big: bool = False) -> Path:
    """A page per image; each tag inside its entry."""
    mark = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    word, entry = ("Q", "HHQQ") if big else ("I", "HHII")
    head = mark + (struct.pack(f"{order}HH", 8, 0) if big else b"")
    at = len(head) + struct.calcsize(word)
    out = head + struct.pack(f"{order}{word}", at)
    kind = {"u": 1, "i": 2, "f": 3}[data.dtype.kind]
    size = data[0].nbytes
    for i, image in enumerate(data):
        page = struct.calcsize(f"={'Q' if big else 'H'}") + 8 * struct.calcsize(f"={entry}")
        page += struct.calcsize(word)
        tags = {256: image.shape[1], 257: image.shape[0], 258: image.itemsize * 8, 259: 1,
                273: at + page, 277: 1, 279: size, 339: kind}  # fmt: skip
        out += struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
        for tag, value in tags.items():
            out += struct.pack(f"{order}{entry}", tag, 16 if big else 4, 1, value)
        at += page + size
        out += struct.pack(f"{order}{word}", at if i < len(data) - 1 else 0)
        out += image.astype(image.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(out)
    return path


@pytest.mark.parametrize("name", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_stack(tmp_path: Path, name: str, order: str, big: bool) -> None:
    data = counts(name, (6, 4, 5))
    path = write_tiff(tmp_path / "a.tif", data, order, big)
    np.testing.assert_array_equal(np.asarray(read(path).data), data)
    cube = read(path, scan_shape=(3, 2))
    np.testing.assert_array_equal(loaded(cube).reshape(6, 4, 5), data)


def test_tiff_whose_pages_lead_in_circles(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", counts("uint8", (1, 4, 5)))
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 8 + 2 + 8 * 12, 8)
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match="circles"):
        read(path)


def test_compressed_tiff_says_what_to_do(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", counts("uint8", (1, 4, 5)))
    content = bytearray(path.read_bytes())
    struct.pack_into("<HHII", content, 8 + 2 + 3 * 12, 259, 4, 1, 5)
    path.write_bytes(content)
    with pytest.raises(FormatError, match="compression 5"):
        read(path)


def test_gzip_bombs_are_refused(tmp_path: Path, monkeypatch) -> None:
    from py4DSTEM.io.formats import tiff

    monkeypatch.setattr(tiff, "_MAX_GZIP", 1 << 16)
    (tmp_path / "a.tif.gz").write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(CorruptFile, match="too large"):
        read(tmp_path / "a.tif.gz")


# ---- the constructed scan ------------------------------------------------------------------------
CONSTRUCTED = {
    "small4d.hspy": {}, "small4d.zspy": {}, "small4d.blo": {}, "small4d_000.tvips": {},
    "small4d_stack.mrc": {}, "small4d_stack.mrcz": {}, "small4d_stack.rpl": {},
}  # fmt: skip


@pytest.mark.parametrize("name", [*CONSTRUCTED, "small4d.nxs"])
def test_constructed_scan_bit_for_bit(shared_data: Path, name: str) -> None:
    folder = shared_data / "real" / "constructed"
    expected = np.load(folder / "expected.npz")["blo" if name.endswith(".blo") else "data"]
    stream = "stack" in name or "tvips" in name
    cube = read(folder / name, **({"scan_shape": (6, 7)} if stream else {}))
    np.testing.assert_array_equal(loaded(cube), expected)
    if not stream:
        assert cube.calibration.R_pixel_size == pytest.approx(1.2)
        assert cube.calibration.R_pixel_units == "nm"
        assert cube.calibration.Q_pixel_size == pytest.approx(0.186, rel=2e-3)
    if name.endswith(("hspy", "zspy", "nxs")):
        assert cube.calibration.energy_eV == 200e3
        assert cube.calibration.Q_pixel_units == "nm^-1"


def test_scan_of_many_datasets(shared_data: Path) -> None:
    objects = read(shared_data / "real" / "topspin" / "topspin_test_A.app5")
    cube = next(o for o in objects.values() if len(o.shape) == 4)
    assert cube.shape == (2, 5, 14, 12)
    assert cube.calibration.R_pixel_size == pytest.approx(2.0)
    assert cube.calibration.Q_pixel_units == "rad"
    assert cube.calibration.Q_pixel_size == pytest.approx(2.13275792205814e-05)
    assert cube.metadata.date == "2025-05-12"


# ---- damage --------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["blo_absurd_dims.blo", "mrc_absurd_dims.mrc", "ser_trunc_30.ser"])
def test_damaged_reference_files(shared_data: Path, name: str) -> None:
    path = shared_data / "broken" / name
    with pytest.raises(CorruptFile) as caught:
        read(path)
    error = caught.value
    assert str(path) in str(error)
    assert error.format and error.offset is not None and error.expected and error.hint


SURVEYED = (
    "dm/multi_signal.dm3", "constructed/small4d_scan_fastest.dm4", "blo/test1.blo",
    "tvips/test_tvips_2233_000.tvips", "mrc/20241021_00405_movie.mrc",
    "constructed/small4d_stack.mrcz", "topspin/topspin_test_C.app5", "prz/panta_rhei_sample.prz",
    "constructed/small4d.nxs", "constructed/small4d.hspy",
    "zspy/signal1d_10x10-ZipStore.zspy", "emd/fei_example_tem_stack.emd",
    "tia/128x128x5-diffraction_preview_1.ser",
    "tiff/test_loading_image_saved_with_imageJ_stack.tif", "tiff/JEOL-SightX-SAED-dummy.tif.gz",
    "constructed/small4d_stack.rpl",
)  # fmt: skip


@pytest.mark.parametrize("name", SURVEYED)
@pytest.mark.filterwarnings("ignore")
def test_damage_is_refused_or_said(shared_data: Path, name: str) -> None:
    path = shared_data / "real" / name
    check_file(path)
    assert survey_damage(path, count=24, seed=3).failures == []


def test_a_cut_description_is_doubted(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "real" / "constructed"
    content = (folder / "small4d_stack.rpl").read_bytes()
    (tmp_path / "a.rpl").write_bytes(content[:-3])
    (tmp_path / "a.raw").symlink_to(folder / "small4d_stack.raw")
    with pytest.warns(Py4DSTEMWarning, match="cut off"):
        read(tmp_path / "a.rpl")


def test_looking_at_a_file_imports_no_vendor_library(tmp_path: Path) -> None:
    path = write_blo(tmp_path / "a.blo", counts("uint8", (2, 2, 4, 4)))
    code = (
        "import sys; from py4DSTEM.io.format import ReadOptions\n"
        "from py4DSTEM.io.read import read_file\n"
        f"read_file({str(path)!r}, ReadOptions())\n"
        "bad = [m for m in ('rsciio', 'dask', 'zarr', 'hyperspy', 'pint') if m in sys.modules]\n"
        "raise SystemExit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- heater log ----------------------------------------------------------------------------------
def test_heater_log(tmp_path: Path) -> None:
    rows = "".join(f"{k}\t{k * 0.5}\t25.0\t{25 + k}.5\t1\t2\t3\t4\t0\n" for k in range(20))
    header = "sample\ttime\tTset[C]\tTmeas[C]\tRheat[ohm]\tVheat[V]\tIheat[mA]\tPheat [mW]\tc\n"
    path = tmp_path / "heater.dens"
    path.write_text(
        "22/08/'14 14:04\tDigiheater 3.1\nR0=1.0\ta=2.0\tb=3.0\tc=4.0\ndelta_t = 0.5\n"
        + header + rows
    )  # fmt: skip
    log = read(path)
    assert np.allclose(log.data, 25.5 + np.arange(20))
    assert log.axes[0].unit == "s" and abs(log.axes[0].step - 0.5) < 1e-9
