"""StreamPix sequences: frames, companions, damage."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import write_mrc_reference, write_seq
from truth import assert_same_sums, readings

from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import CorruptFile, FormatError
from py4DSTEM.io.format import Match, ReadOptions, Source
from py4DSTEM.io.formats.seq import Seq
from py4DSTEM.io.read import read_file
from py4DSTEM.testing.formats import survey_damage


def signal_of(path: Path, **options: Any) -> Any:
    (signal,) = Seq().open(Source.of(path), ReadOptions(**options)).values()
    return signal


def frames_of(path: Path, **options: Any) -> Any:
    data = signal_of(path, **options).data
    return data.read_frames(0, data.shape[0])


def some_frames(dtype: str = "<u2", count: int = 6) -> Any:
    return np.random.default_rng(5).integers(0, 255, (count, 9, 14)).astype(dtype)


# ---- the real file -------------------------------------------------------------------------------
def test_real_frames_have_the_sums_of_their_bytes(shared_data: Path) -> None:
    path = shared_data / "real" / "seq" / "test.seq"
    frames = frames_of(path)
    assert frames.shape == (10, 64, 64)
    assert_same_sums(frames, readings(shared_data, "seq/test.seq")["byte_level"])


def test_real_metadata(shared_data: Path) -> None:
    m = signal_of(shared_data / "real" / "seq" / "test.seq").metadata
    assert (m.detector, m.counter_depth_bits, m.date) == ("Celeritas Camera", 12, "2022-08-11")
    assert m.dwell_time_s == pytest.approx(1 / 86956.52)
    assert m.energy_eV is None  # the file says 0
    assert m.original["xml"]["FileInfo"]["TotalFrames"]["@Value"] == "10"
    assert any("dark" in note and "gain" in note for note in m.notes)


def test_real_references(shared_data: Path) -> None:
    path = shared_data / "real" / "seq" / "test.seq"
    dark = read_file(path, ReadOptions(dataset="dark"))
    gain = read_file(path, ReadOptions(dataset="gain"))
    assert isinstance(dark, DiffractionSlice) and dark.data.shape == (64, 64)
    # what the camera shows without electrons lies close to the frames themselves
    assert abs(dark.data.mean() - frames_of(path).mean()) < 5
    assert gain.data.mean() == pytest.approx(1, abs=0.2)


# ---- written files -------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [3, 5])
@pytest.mark.parametrize("dtype", ["u1", "<u2"])
def test_frames(tmp_path: Path, dtype: str, version: int) -> None:
    path = write_seq(tmp_path / "a.seq", some_frames(dtype), version=version)
    frames = frames_of(path)
    np.testing.assert_array_equal(frames, some_frames(dtype))
    assert frames.dtype == np.dtype(dtype)
    assert signal_of(path).metadata.dwell_time_s == pytest.approx(1 / 500)


def test_room_after_the_last_frame_is_not_read(tmp_path: Path) -> None:
    path = write_seq(tmp_path / "a.seq", some_frames(), allocated=4)
    assert frames_of(path).shape[0] == 4


def test_recording_that_was_cut_off(tmp_path: Path) -> None:
    signal = signal_of(write_seq(tmp_path / "a.seq", some_frames(), allocated=0))
    assert signal.data.shape[0] == 6
    assert any("no number of frames" in note for note in signal.metadata.notes)


def test_references_and_energy(tmp_path: Path) -> None:
    path = write_seq(tmp_path / "a.seq", some_frames())
    image = np.arange(126.0).reshape(9, 14)
    write_mrc_reference(tmp_path / "a.seq.dark.mrc", image)
    write_mrc_reference(tmp_path / "a.seq.gain.mrc", image.T)
    (tmp_path / "a.seq.Config.Metadata.xml").write_text(
        '<Configuration><FileInfo><HT Value="200" /></FileInfo></Configuration>'
    )
    np.testing.assert_array_equal(read_file(path, ReadOptions(dataset="dark")).data, image)
    with pytest.raises(CorruptFile, match="does not fit"):
        read_file(path, ReadOptions(dataset="gain"))
    assert signal_of(path).calibration.energy_eV == 200e3


def test_damaged_companion_is_noted(tmp_path: Path) -> None:
    path = write_seq(tmp_path / "a.seq", some_frames())
    (tmp_path / "a.seq.Config.Metadata.xml").write_text("<Configuration><FileInfo>")
    assert any("was not used" in note for note in signal_of(path).metadata.notes)


# ---- damage --------------------------------------------------------------------------------------
def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = write_seq(tmp_path / "a.seq", some_frames())
    content = path.read_bytes()
    stride = (len(content) - 8192) // 6
    cuts = {4, 24, 500, 592, 1023, 1024, 8191, 8192, 8193}
    cuts |= {8192 + k * stride + d for k in range(1, 6) for d in (-1, 0, 1)}
    for size in sorted(cuts):
        path.write_bytes(content[:size])
        with pytest.raises(FormatError, match=r"a\.seq"):
            read_file(path, ReadOptions())
        if size >= 8192 + stride:
            frames = frames_of(path, allow_truncated=True)
            np.testing.assert_array_equal(frames, some_frames()[: (size - 8192) // stride])


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (548, 0),
        (548, 2**31),
        (552, 10**9),
        (556, 12),
        (564, 1),
        (568, 200),
        (580, 1),
        (572, 2**32 - 1),
    ],
)
def test_absurd_headers(tmp_path: Path, at: int, value: int) -> None:
    path = write_seq(tmp_path / "a.seq", some_frames())
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, at, value)
    path.write_bytes(content)
    with pytest.raises(CorruptFile) as caught:
        signal_of(path)
    assert caught.value.format == "seq" and caught.value.offset is not None


def test_other_files_are_not_sequences(tmp_path: Path) -> None:
    path = tmp_path / "a.seq"
    path.write_text(">gene\nACGT\n" * 300)
    assert Seq().sniff(Source.of(path)) is Match.NO


def test_damaged_copies(tmp_path: Path) -> None:
    path = write_seq(tmp_path / "a.seq", some_frames())
    assert survey_damage(path, count=40).failures == []
