"""Merlin ``.mib``: every counter depth, raw mode, companions, several files, damage."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import write_mib
from truth import assert_same_sums, readings

from py4DSTEM.errors import CorruptFile, FormatError, Py4DSTEMWarning
from py4DSTEM.io.format import ReadOptions, Source
from py4DSTEM.io.formats.mib import Mib, _regular_pause, frame_headers, parse_header
from py4DSTEM.io.read import read_file
from py4DSTEM.testing.formats import check_file, survey_damage

REAL = [
    "001_4x2_6bit.mib",
    "003_merlin_test_roi_sig256x64_nav4x2_hot_pixel_52x_39y.mib",
    "Quad_1_Frame_CounterDepth_12_Rows_256.mib",
    "Quad_1_Frame_CounterDepth_1_Rows_256.mib",
    "Quad_1_Frame_CounterDepth_6_Rows_256.mib",
    "Quad_9_Frame_CounterDepth_1_Rows_256RAW.mib",
    "Quad_9_Frame_CounterDepth_6_Rows_256.mib",
    "test.mib",
    "test_12bit_RAW_1frame.mib",
    "test_1bit_RAW_1frame.mib",
    "test_24bit_notRAW_1frame.mib",
    "test_6bit_notRAW_1frame.mib",
]


def signal_of(path: Path, **options: Any) -> Any:
    (signal,) = Mib().open(Source.of(path), ReadOptions(**options)).values()
    return signal


def frames_of(path: Path, **options: Any) -> Any:
    data = signal_of(path, **options).data
    return data.read_frames(0, data.shape[0])


def random_frames(shape: tuple[int, ...], below: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, below, shape, dtype=np.uint32)


# ---- real files ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", REAL)
def test_real_file_has_the_sums_of_the_reference_readers(shared_data: Path, name: str) -> None:
    frames = frames_of(shared_data / "real" / "mib" / name)
    found = readings(shared_data, f"mib/{name}")
    compared = 0
    for reader in ("LiberTEM 0.16.0", "byte_level"):
        if reader in found:
            assert_same_sums(frames, found[reader])
            compared += 1
    for reading in found.get("rosettasciio", ()):
        assert_same_sums(frames, reading, rows_reversed=True)
        compared += 1
    assert compared
    assert frames.shape[0] == found["header"]["frames"]


def test_raw_quad_shows_the_chips_where_the_assembled_image_does(shared_data: Path) -> None:
    folder = shared_data / "real" / "mib"
    raw = frames_of(folder / "Quad_9_Frame_CounterDepth_1_Rows_256RAW.mib")[0]
    plain = frames_of(folder / "Quad_1_Frame_CounterDepth_1_Rows_256.mib")[0]
    # The same test image of numbers and letters, apart from noise
    assert np.count_nonzero(raw & plain) > 0.98 * plain.sum()
    assert np.count_nonzero(raw != plain) < 0.02 * plain.sum()


def test_real_scan_shape_and_metadata_from_the_hdr(shared_data: Path) -> None:
    name = "003_merlin_test_roi_sig256x64_nav4x2_hot_pixel_52x_39y"
    cube = read_file(shared_data / "real" / "mib" / f"{name}.hdr", ReadOptions())
    assert cube.shape == (2, 4, 64, 256)
    m = cube.metadata
    assert (m.date, m.time, m.exposure_s) == ("2024-07-02", "13:49:15", 0.001)
    assert (m.counter_depth_bits, m.threshold_keV, m.frames) == (12, 12.0, 8)
    assert m.original["hdr"]["Sensor Bias (V)"] == "120 V"


def test_real_frame_headers(shared_data: Path) -> None:
    table = frame_headers(shared_data / "real" / "mib" / "001_4x2_6bit.mib")
    assert table["number"].tolist() == list(range(1, 9))
    assert table["exposure_s"] == pytest.approx(0.1)
    assert table["timestamp"][1] == "2021-05-07 18:51:11.007800"


@pytest.mark.parametrize("name", ["mib_trunc_80.mib", "empty.mib"])
def test_broken_files_are_refused(shared_data: Path, name: str) -> None:
    with pytest.raises(FormatError, match=name):
        read_file(shared_data / "broken" / name, ReadOptions())


def test_conformance_of_real_files(shared_data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Py4DSTEMWarning)
        check_file(shared_data / "real" / "mib" / "001_4x2_6bit.mib")
        check_file(shared_data / "real" / "mib" / "Quad_9_Frame_CounterDepth_1_Rows_256RAW.mib")


# ---- written files -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "depth"), [("U08", 1), ("U08", 6), ("U16", 12), ("U32", 24), ("U64", 24)]
)
def test_plain_counters(tmp_path: Path, kind: str, depth: int) -> None:
    expected = random_frames((3, 5, 7), 2**depth)
    frames = frames_of(write_mib(tmp_path / "a.mib", expected, kind, depth=depth))
    np.testing.assert_array_equal(frames, expected)
    assert frames.dtype.itemsize == int(kind[1:]) // 8


@pytest.mark.parametrize("depth", [1, 6, 12, 24])
@pytest.mark.parametrize(("layout", "shape"), [("1x1", (3, 8, 256)), ("2x2", (2, 16, 512))])
def test_raw_mode(tmp_path: Path, depth: int, layout: str, shape: tuple[int, ...]) -> None:
    expected = random_frames(shape, 2**depth)
    path = write_mib(tmp_path / "a.mib", expected, "R64", depth=depth, layout=layout)
    frames = frames_of(path)
    np.testing.assert_array_equal(frames, expected)
    assert frames.dtype == {1: "u1", 6: "u1", 12: "u2", 24: "u4"}[depth]
    part = signal_of(path).data.read_frames(1, 2)
    np.testing.assert_array_equal(part, expected[1:2])


def test_plain_frames_are_views_of_the_file(tmp_path: Path) -> None:
    source = signal_of(write_mib(tmp_path / "a.mib", random_frames((4, 6, 8), 4096))).data
    frames = source.read_frames(1, 3)
    assert frames.dtype == ">u2"
    assert not frames.flags.owndata and not frames.flags.writeable


def test_raw_frames_survive_pickling(tmp_path: Path) -> None:
    expected = random_frames((2, 8, 256), 4096)
    source = signal_of(write_mib(tmp_path / "a.mib", expected, "R64", depth=12)).data
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read_frames(0, 2), expected)


def test_several_chips_in_another_layout_stay_side_by_side(tmp_path: Path) -> None:
    path = write_mib(tmp_path / "a.mib", random_frames((1, 4, 1024), 4096), "R64")
    path.write_bytes(path.read_bytes().replace(b",01,1024", b",04,1024").replace(b"1x1", b"Nx1"))
    signal = signal_of(path)
    assert signal.data.shape == (1, 4, 1024)
    assert any("side by side" in note for note in signal.metadata.notes)


# ---- scan shape ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("hdr", "expected"),
    [
        ({"ScanX": 3, "ScanY": 2}, (2, 3)),
        ({"Frames per Trigger (Number)": 3}, (2, 3)),
        ({"Frames per Trigger (Number)": 1}, None),
        ({"Frames per Trigger (Number)": 6}, None),
        ({"Frames per Trigger (Number)": 4}, None),
        ({"ScanX": 10**9, "ScanY": 10**9}, None),
        ({"ScanX": "three", "ScanY": 2}, None),
    ],
)
def test_scan_shape_from_the_hdr(tmp_path: Path, hdr: dict[str, object], expected: Any) -> None:
    path = write_mib(tmp_path / "a.mib", random_frames((6, 4, 4), 64), "U08", hdr=hdr)
    assert signal_of(path).scan_shape == expected


def test_user_scan_shape_wins(tmp_path: Path) -> None:
    hdr = {"ScanX": 3, "ScanY": 2}
    path = write_mib(tmp_path / "a.mib", random_frames((6, 4, 4), 64), "U08", hdr=hdr)
    assert read_file(path, ReadOptions(scan_shape=(3, 2))).shape == (3, 2, 4, 4)


# ---- several files -------------------------------------------------------------------------------
def three_files(folder: Path, frames: Any, hdr: bool = True) -> list[Path]:
    fields = {"Frames in Acquisition (Number)": 7, "Counter Depth (number)": 6}
    paths = []
    for i, (a, b) in enumerate([(0, 3), (3, 6), (6, 7)]):
        path = folder / f"scan_{i:06d}.mib"
        paths.append(write_mib(path, frames[a:b], "U08", depth=6, first=a + 1))
    if hdr:
        write_mib(folder / "scan.mib", frames[:1], "U08", hdr=fields).unlink()
    return paths


@pytest.mark.parametrize("opened", [0, 1, 2])
def test_files_of_one_acquisition_are_joined(tmp_path: Path, opened: int) -> None:
    expected = random_frames((7, 4, 6), 64)
    signal = signal_of(three_files(tmp_path, expected)[opened])
    assert signal.name == "scan"
    np.testing.assert_array_equal(signal.data.read_frames(0, 7), expected)
    np.testing.assert_array_equal(signal.data.read_frames(2, 7), expected[2:])
    assert "3 files joined" in signal.metadata.notes


def test_acquisition_opened_by_its_hdr(tmp_path: Path) -> None:
    expected = random_frames((7, 4, 6), 64)
    three_files(tmp_path, expected)
    np.testing.assert_array_equal(frames_of(tmp_path / "scan.hdr"), expected)


def test_missing_file_of_an_acquisition(tmp_path: Path) -> None:
    paths = three_files(tmp_path, random_frames((7, 4, 6), 64))
    paths[1].unlink()
    with pytest.raises(CorruptFile, match="frames are missing"):
        signal_of(paths[0])
    signal = signal_of(paths[0], allow_truncated=True)
    assert signal.data.shape[0] == 3
    assert any("announces 7 frames" in note for note in signal.metadata.notes)


def test_numbered_acquisitions_are_not_mixed(tmp_path: Path) -> None:
    frames = random_frames((4, 4, 6), 64)
    for i in range(3):
        write_mib(tmp_path / f"scan{i}.mib", frames, "U08")
    (tmp_path / "scan3.mib").write_bytes(b"not a Merlin file")
    assert signal_of(tmp_path / "scan1.mib").data.shape[0] == 4


def test_lost_frames_are_noted(tmp_path: Path) -> None:
    path = write_mib(tmp_path / "a.mib", random_frames((3, 4, 6), 64), "U08")
    path.write_bytes(path.read_bytes().replace(b"MQ1,000003", b"MQ1,000005"))
    assert any("lost" in note for note in signal_of(path).metadata.notes)


# ---- damage --------------------------------------------------------------------------------------
def test_every_truncation_is_refused_or_whole(tmp_path: Path) -> None:
    expected = random_frames((3, 4, 6), 4096)
    hdr = {"Frames in Acquisition (Number)": 3}
    path = write_mib(tmp_path / "a.mib", expected, hdr=hdr)
    content = path.read_bytes()
    stride = len(content) // 3
    boundaries = {
        b + d for k in range(4) for b in (k * stride, k * stride + 384) for d in (-1, 0, 1)
    }
    for size in sorted(b for b in boundaries | {4, 30, 100} if 0 < b < len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(FormatError, match=r"a\.mib"):
            read_file(path, ReadOptions())
        if size > stride:
            signal = signal_of(path, allow_truncated=True)
            np.testing.assert_array_equal(
                signal.data.read_frames(0, signal.data.shape[0]), expected[: size // stride]
            )
            assert signal.metadata.notes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0006,0004,U16", b"9999,9999,U16"),
        (b"0006,0004,U16", b"0000,0004,U16"),
        (b"0006,0004,U16", b"-006,0004,U16"),
        (b"0006,0004,U16", b"0012,0002,X16"),
        (b",00384,", b",99999,"),
        (b",00384,", b",00000,"),
        (b",12,", b",13,"),
    ],
)
def test_absurd_headers(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = write_mib(tmp_path / "a.mib", random_frames((2, 4, 6), 4096), "U16")
    if old == b",12,":
        path = write_mib(tmp_path / "a.mib", random_frames((2, 4, 256), 4096), "R64")
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(CorruptFile) as caught:
        signal_of(path)
    assert caught.value.path == str(path)
    assert caught.value.format == "mib"
    assert caught.value.offset is not None


def test_a_different_frame_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = write_mib(tmp_path / "a.mib", random_frames((2, 4, 6), 64), "U08")
    other = write_mib(tmp_path / "b.mib", random_frames((2, 6, 4), 64), "U08")
    path.write_bytes(path.read_bytes() + other.read_bytes())
    with pytest.raises(CorruptFile, match="not like the first"):
        signal_of(path)


def test_hdr_without_data_and_foreign_hdr(tmp_path: Path) -> None:
    path = write_mib(tmp_path / "a.mib", random_frames((1, 4, 6), 64), "U08", hdr={})
    path.with_suffix(".hdr").write_text("ENVI\nsamples = 3")
    assert any("not used" in note for note in signal_of(path).metadata.notes)
    lonely = write_mib(tmp_path / "b.mib", random_frames((1, 4, 6), 64), "U08", hdr={})
    lonely.unlink()
    with pytest.raises(CorruptFile, match="not beside it"):
        signal_of(tmp_path / "b.hdr")


def test_header_without_end_is_bounded() -> None:
    with pytest.raises(CorruptFile):
        parse_header(b"MQ1," + b"1" * 10**6, Path("a.mib"))


@pytest.mark.parametrize("kind", ["U16", "R64"])
def test_damaged_copies(tmp_path: Path, kind: str) -> None:
    hdr = {"Frames in Acquisition (Number)": 4}
    path = write_mib(tmp_path / "a.mib", random_frames((4, 4, 256), 4096), kind, hdr=hdr)
    assert survey_damage(path, count=40).failures == []


def test_row_length_from_pauses() -> None:
    intervals = np.full(11, 1e-3)
    intervals[[3, 7]] += 5e-4
    assert _regular_pause(intervals) == 4
    intervals[5] += 5e-4
    assert _regular_pause(intervals) is None


def test_scan_shape_from_time_stamps(shared_data: Path) -> None:
    cube = read_file(shared_data / "real/mib/001_4x2_6bit.mib", ReadOptions())
    assert cube.shape == (2, 4, 256, 256)
    assert any("pauses" in note for note in cube.metadata.notes)
