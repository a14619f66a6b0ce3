"""DigitalMicrograph files, written here and damaged in every way."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from synthetic_dm import CODES, Writer, image, tree, write_dm

from py4DSTEM.core.lazy import read_block
from py4DSTEM.errors import CorruptFile, FormatError
from py4DSTEM.io.format import Match, ReadOptions, Source
from py4DSTEM.io.formats.dm import DigitalMicrograph, _unpack_square
from py4DSTEM.io.formats.dmtags import StoredArray, read_tags
from py4DSTEM.io.read import read_file

SHAPE = (2, 3, 4, 5)
NM, PER_NM = (1.5, 0.0, "nm"), (0.25, 2.0, "1/nm")


def counts(dtype: str = "uint16", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    values = np.random.default_rng(5).integers(0, 100, shape)
    return values.astype(dtype)


def read(path: Path, **options):
    return read_file(path, ReadOptions(**options))


def loaded(cube) -> np.ndarray:
    rows, columns = cube.R_shape
    return read_block(cube.data, slice(0, rows), slice(0, columns)).reshape(cube.shape)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("scan_first", [True, False])
def test_scans_of_both_layouts(
    tmp_path: Path, version: int, little: bool, scan_first: bool
) -> None:
    data = counts()
    path = tmp_path / f"scan.dm{version}"
    if scan_first:
        stored, axes = data.transpose(2, 3, 0, 1), [PER_NM, PER_NM, NM, NM]
    else:
        stored, axes = data, [NM, NM, PER_NM, PER_NM]
    info = {"Microscope Info": {"Voltage": 300e3, "STEM Camera Length": 480.0}}
    write_dm(path, tree(image(stored, axes, info)), version, little)
    assert DigitalMicrograph().sniff(Source.of(path)) is Match.YES
    cube = read(path)
    np.testing.assert_array_equal(loaded(cube), data)
    np.testing.assert_array_equal(cube.data[1, 0:2, 1:3, 4], data[1, 0:2, 1:3, 4])
    assert [(a.step, a.offset, a.unit) for a in cube.calibration.Q] == [(0.25, -0.5, "nm^-1")] * 2
    assert cube.calibration.R_pixel_size == 1.5
    assert cube.calibration.energy_eV == 300e3
    assert cube.metadata.camera_length_mm == 480.0
    assert "ImageList" in cube.metadata.original


@pytest.mark.parametrize("swapped", [True, False])
def test_without_units_the_order_tag_decides(tmp_path: Path, swapped: bool) -> None:
    data = counts()
    stored = data if swapped else data.transpose(2, 3, 0, 1)
    info = {"Meta Data": {"Data Order Swapped": swapped}}
    write_dm(tmp_path / "a.dm4", tree(image(stored, [(1.0, 0.0, "")] * 4, info)))
    cube = read(tmp_path / "a.dm4")
    np.testing.assert_array_equal(loaded(cube), data)
    assert not cube.metadata.notes


@pytest.mark.parametrize("format", ["Diffraction image", ""])
def test_an_assumed_order_is_noted(tmp_path: Path, format: str) -> None:
    data = counts()
    stored = data.transpose(2, 3, 0, 1) if format else data
    info = {"Meta Data": {"Format": format}}
    write_dm(tmp_path / "a.dm4", tree(image(stored, [(1.0, 0.0, "")] * 4, info)))
    cube = read(tmp_path / "a.dm4")
    np.testing.assert_array_equal(loaded(cube), data)
    assert "assumed" in cube.metadata.notes[0]


@pytest.mark.parametrize("name", sorted(CODES))
@pytest.mark.parametrize("little", [True, False])
def test_every_type_of_number(tmp_path: Path, name: str, little: bool) -> None:
    data = counts(name, (3, 4))
    if data.dtype.kind == "c":
        data = data + 1j * counts("float32", (3, 4)).astype(data.dtype)
    write_dm(tmp_path / "a.dm4", tree(image(data, [(1.0, 0.0, "")] * 2)), 4, little)
    made = read(tmp_path / "a.dm4")
    assert made.dtype == data.dtype
    np.testing.assert_array_equal(np.asarray(made.data), data)


def test_colours_come_in_the_order_red_green_blue(tmp_path: Path) -> None:
    stored = np.array([[0x04030201, 0x14131211]], np.uint32)  # blue is the lowest byte
    write_dm(tmp_path / "a.dm4", tree(image(stored, [(1.0, 0.0, "")] * 2, code=23)))
    made = read(tmp_path / "a.dm4").data
    assert made[0, 1].tolist() == (0x13, 0x12, 0x11, 0x14)


def test_packed_transforms_are_unfolded() -> None:
    rng = np.random.default_rng(3)
    full = np.fft.fftshift(np.fft.fft2(rng.normal(size=(8, 8)))).astype(np.complex64)
    n = 4
    half = full[:, n:].copy()
    half[1:n, 0] = full[n + 1 :, 0]
    half[0, 0] = full[n, 0].real + 1j * full[0, 0].real
    half[n, 0] = full[n, n].real + 1j * full[0, n].real
    np.testing.assert_allclose(_unpack_square(half), full, atol=1e-5)


def test_several_images_without_the_thumbnail(tmp_path: Path) -> None:
    first = image(counts("int16", (3, 4)), [NM, NM], name="a")
    second = image(counts("float32", (7,)), [(0.5, 0.0, "eV")], name="b")
    write_dm(tmp_path / "a.dm3", tree(first, second), 3)
    made = read(tmp_path / "a.dm3")
    assert list(made) == ["a", "b"]
    assert made["b"].axes[0].unit == "eV"
    alone = tree(image(counts("int16", (3, 4)), [NM, NM], name="only"), thumbnail=False)
    alone["Thumbnails"] = {"#0": {"ImageIndex": 0}}
    write_dm(tmp_path / "b.dm3", alone, 3)
    assert read(tmp_path / "b.dm3").name == "only"


@pytest.mark.parametrize("scale", [0.0, -0.5, float("nan"), float("inf")])
def test_impossible_scales_are_refused_and_noted(tmp_path: Path, scale: float) -> None:
    data = counts()
    write_dm(tmp_path / "a.dm4", tree(image(data, [NM, NM, (scale, 1.0, "1/nm"), PER_NM])))
    cube = read(tmp_path / "a.dm4")
    np.testing.assert_array_equal(loaded(cube), data)
    assert cube.calibration.Q_pixel_units == "px"
    assert any("refused" in note for note in cube.metadata.notes)


def test_opening_reads_tags_only(tmp_path: Path) -> None:
    data = counts("uint16", (16, 16, 64, 64))
    write_dm(tmp_path / "a.dm4", tree(image(data, [NM, NM, PER_NM, PER_NM])))
    tags = read_tags(tmp_path / "a.dm4").tags
    assert isinstance(tags["ImageList"]["1"]["ImageData"]["Data"], StoredArray)
    tracemalloc.start()
    read(tmp_path / "a.dm4")
    assert tracemalloc.get_traced_memory()[1] < 2_000_000 < data.nbytes
    tracemalloc.stop()


# ---- damage --------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [3, 4])
def test_truncated_at_every_boundary(tmp_path: Path, version: int) -> None:
    data = counts()
    members = tree(image(data, [NM, NM, PER_NM, PER_NM], {"a": {"b": 1.5, "c": "text"}}))
    whole = tmp_path / "whole.dm4"
    boundaries = write_dm(whole, members, version)
    content = whole.read_bytes()
    for at in sorted({b + d for b in boundaries for d in (-1, 0, 1)} | set(range(1, 40))):
        if at < len(content) - 9:
            (tmp_path / "cut.dm4").write_bytes(content[:at])
            with pytest.raises(FormatError) as caught:
                read(tmp_path / "cut.dm4")
            assert "cut.dm4" in str(caught.value)


def test_tags_cut_off_behind_the_data_can_be_ignored_on_request(tmp_path: Path) -> None:
    data = counts()
    path = tmp_path / "a.dm4"
    members = tree(image(data, [NM, NM, PER_NM, PER_NM]))
    write_dm(path, members | {"last": {"text": "x" * 50}})
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(CorruptFile, match="beyond the end"):
        read(path)
    cube = read(path, allow_truncated=True)
    np.testing.assert_array_equal(loaded(cube), data)
    assert "damage" in cube.metadata.notes[0]


def test_data_cut_off_are_never_made_up(tmp_path: Path) -> None:
    path = tmp_path / "a.dm4"
    write_dm(path, tree(image(counts(), [NM, NM, PER_NM, PER_NM])))
    stored = read_tags(path).tags["ImageList"]["1"]["ImageData"]["Data"]
    # The dimensions lie behind the data and are lost with them.
    path.write_bytes(path.read_bytes()[: stored.offset + 100])
    for allow in (False, True):
        with pytest.raises(FormatError):
            read(path, allow_truncated=allow)


def test_bit_flips_give_an_error_or_numbers_never_more(tmp_path: Path) -> None:
    data = counts()
    path = tmp_path / "a.dm4"
    write_dm(path, tree(image(data, [NM, NM, PER_NM, PER_NM])))
    content, rng = path.read_bytes(), np.random.default_rng(11)
    for _ in range(400):
        damaged = bytearray(content)
        at = int(rng.integers(len(content)))
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read(path)
        except FormatError as error:
            assert str(path) in str(error)


def test_planted_integers_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.dm4"
    write_dm(path, tree(image(counts(), [NM, NM, PER_NM, PER_NM])))
    content = path.read_bytes()
    tracemalloc.start()
    for at in range(0, len(content) - 8, 7):
        for value in (2**63 - 1, 2**40, 0):
            path.write_bytes(content[:at] + struct.pack(">Q", value) + content[at + 8 :])
            try:
                read(path)
            except FormatError as error:
                assert str(path) in str(error)
    assert tracemalloc.get_traced_memory()[1] < 32_000_000
    tracemalloc.stop()


def test_nesting_is_bounded(tmp_path: Path) -> None:
    members: dict = {}
    for _ in range(500):
        members = {"#0": members}
    writer = Writer()
    (tmp_path / "bomb.dm4").write_bytes(writer.file(members))
    with pytest.raises(CorruptFile, match="nested"):
        read(tmp_path / "bomb.dm4")


def test_absurd_counts_are_refused_at_once(tmp_path: Path) -> None:
    head = struct.pack(">IQI", 4, 100, 1) + b"\x01\x00" + struct.pack(">Q", 2**60)
    (tmp_path / "bomb.dm4").write_bytes(head + bytes(100))
    with pytest.raises(CorruptFile, match="absurd"):
        read(tmp_path / "bomb.dm4")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"DataType": 99}, "type"),
        ({"Dimensions": {}}, "dimensions"),
        ({"Dimensions": {"#0": 0, "#1": 4}}, "dimensions"),
        ({"Dimensions": {"#0": 2**31, "#1": 2**31}}, "fewer"),
        ({"Data": 3}, "no data"),
    ],
)
def test_images_that_contradict_themselves(tmp_path: Path, change: dict, message: str) -> None:
    one = image(counts("uint16", (3, 4)), [NM, NM])
    one["ImageData"] |= change
    write_dm(tmp_path / "a.dm4", tree(one))
    with pytest.raises(CorruptFile, match=message) as caught:
        read(tmp_path / "a.dm4")
    assert caught.value.format == "dm"


def test_text_named_dm3_is_not_taken_for_one(shared_data: Path) -> None:
    with pytest.raises(FormatError, match="DigitalMicrograph"):
        read(shared_data / "broken" / "notes.dm3")


def test_damaged_reference_files(shared_data: Path) -> None:
    broken = shared_data / "broken"
    with pytest.raises(CorruptFile, match="beyond the end") as caught:
        read(broken / "dm4_trunc_70.dm4")
    assert caught.value.offset is not None
    cube = read(broken / "dm4_scale_nan.dm4")
    assert cube.calibration.Q_pixel_units == "px"
    assert len(cube.metadata.notes) == 2


@pytest.mark.parametrize("name", ["small4d_detector_fastest.dm4", "small4d_scan_fastest.dm4"])
def test_reference_scans_bit_for_bit(shared_data: Path, name: str) -> None:
    folder = shared_data / "real" / "constructed"
    cube = read(folder / name)
    expected = np.load(folder / "expected.npz")["data"]
    np.testing.assert_array_equal(loaded(cube), expected)
    np.testing.assert_array_equal(
        read_block(cube.data, slice(2, 5), slice(3, 6)), expected[2:5, 3:6].reshape(-1, 40, 48)
    )
    assert cube.calibration.R_pixel_size == pytest.approx(1.2)
    assert cube.calibration.Q_pixel_size == pytest.approx(0.186)
    assert cube.metadata.date == "2024-01-01"
