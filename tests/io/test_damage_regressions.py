"""Damage that once was read without a word, raised something foreign, or never ended."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_vendors import write_ser

import py4DSTEM
from py4DSTEM.errors import CorruptFile, FormatError, Py4DSTEMWarning
from py4DSTEM.io.format import ReadOptions
from py4DSTEM.io.formats.blo import Blockfile
from py4DSTEM.io.hdf5 import codecs, heaps
from py4DSTEM.io.hdf5.safety import check_attribute
from py4DSTEM.io.read import read_file
from py4DSTEM.io.store import ragged, values
from py4DSTEM.testing import formats
from py4DSTEM.testing.formats import survey_damage, survey_places

CORPUS = Path(__file__).with_name("corpus")


def scan(dtype: str = "uint16") -> np.ndarray:
    return np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(dtype)


# ---- HDF5 heaps: the library never came back -----------------------------------------------------
def with_texts(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "a text of variable length"
        file["data"] = scan()
    return path


@pytest.mark.timeout(60)
def test_zeros_in_a_heap_of_texts(tmp_path: Path) -> None:
    content = bytearray(with_texts(tmp_path / "a.h5").read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 64] = bytes(48)
    (tmp_path / "b.h5").write_bytes(content)
    with pytest.raises(CorruptFile, match=rf"b\.h5.*at byte {heap + 16}"):
        py4DSTEM.read(tmp_path / "b.h5")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", [8, 24])  # of the heap, of its first object
@pytest.mark.parametrize("size", [2**64 - 1, 2**64 - 24, 1 << 32])
def test_sizes_in_a_heap_that_wrap_around(tmp_path: Path, place: int, size: int) -> None:
    content = bytearray(with_texts(tmp_path / "a.h5").read_bytes())
    heap = content.index(b"GCOL")
    content[heap + place : heap + place + 8] = size.to_bytes(8, "little")
    (tmp_path / "b.h5").write_bytes(content)
    with pytest.raises(CorruptFile, match="impossible size"):
        py4DSTEM.read(tmp_path / "b.h5")


def test_attributes_that_declare_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("py4DSTEM.io.hdf5.safety._MAX_ATTRIBUTE", 1000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["large"], file.attrs["small"] = np.arange(200.0), 1
        assert values.attribute(file, "large", "nothing") == "nothing"
        assert values.attribute(file, "small") == 1
        with pytest.raises(CorruptFile, match=r"a\.h5.*'large' declares 1600 bytes"):
            check_attribute(file, "large")


def test_a_fill_value_on_which_hdf5_crashes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (2, 3, 4, 5), "<u2", chunks=(1, 1, 4, 5))
    content = bytearray((tmp_path / "a.h5").read_bytes())
    place = content.index(b"\x02\x03\x02\x01\0\0\0\0")  # the message without a value
    content[place + 7] = 0x80
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(CorruptFile, match="fill value"):
        py4DSTEM.read(tmp_path / "a.h5")


def test_the_last_object_of_a_heap_may_be_free(tmp_path: Path) -> None:
    heaps.check_heaps(str(with_texts(tmp_path / "a.h5")))
    assert py4DSTEM.read(tmp_path / "a.h5").shape == (2, 3, 4, 5)


def test_heaps_of_large_files_are_looked_for_at_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heaps, "_WHOLE", 1000)
    monkeypatch.setattr(heaps, "_ENDS", 1000)
    bad = b"GCOL\1\0\0\0" + (48).to_bytes(8, "little") + bytes(4080)
    for place, found in ((0, True), (5000, False), (9950, True)):
        content = bytearray(10000)
        content[place : place + 40] = bad[:40]
        (tmp_path / f"{place}.bin").write_bytes(content)
        if found:
            with pytest.raises(CorruptFile, match="heap"):
                heaps.check_heaps(str(tmp_path / f"{place}.bin"))
        else:
            heaps.check_heaps(str(tmp_path / f"{place}.bin"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("chunks", [None, (2, 2)])
def test_lists_in_a_large_file_lead_to_their_heaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: tuple[int, int] | None
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["before"] = np.zeros(1000)
        lists = file.create_dataset("lists", (3, 4), h5py.vlen_dtype("f8"), chunks=chunks)
        lists[1, 2] = np.arange(5.0)
        file["behind"] = np.zeros(1000)
    monkeypatch.setattr(heaps, "_WHOLE", 1000)
    monkeypatch.setattr(heaps, "_ENDS", 100)
    with h5py.File(path) as file:
        assert ragged.read_ragged(file["lists"])[0].tolist() == [0, 1, 2, 3, 4]
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 64] = bytes(48)
    path.write_bytes(content)
    heaps.check_heaps(str(path))
    with h5py.File(path) as file, pytest.raises(CorruptFile, match=f"at byte {heap + 16}"):
        ragged.read_ragged(file["lists"])


# ---- bytes lost within a file --------------------------------------------------------------------
def with_stamps(path: Path) -> Path:
    """A series whose last bytes are the time of its last element."""
    write_ser(path, scan(), 1e8)
    content = bytearray(path.read_bytes())
    table = int.from_bytes(content[22:26], "little")
    for i in range(6):
        at = table + 4 * (6 + i)
        content[at : at + 4] = (len(content) + 24 * i).to_bytes(4, "little")
    path.write_bytes(bytes(content) + bytes(6 * 24))
    return path


@pytest.mark.parametrize("where", [-200, -3])
def test_bytes_lost_within_a_series(tmp_path: Path, where: int) -> None:
    path = with_stamps(tmp_path / "a.ser")
    np.testing.assert_array_equal(np.asarray(py4DSTEM.read(path).data), scan())
    content = path.read_bytes()
    path.write_bytes(content[: where - 1] + content[where:])
    with pytest.raises(CorruptFile, match=r"a\.ser.*bytes within it are missing"):
        py4DSTEM.read(path)


def test_a_ripple_description_that_leaves_numbers_over(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(240))
    table = "width\t4\nheight\t5\ndata-length\t2\ndata-type\tunsigned\n"
    (tmp_path / "a.rpl").write_text(table + "depth\t6\n")
    assert np.asarray(py4DSTEM.read(tmp_path / "a.rpl").data).shape == (6, 5, 4)
    (tmp_path / "a.rpl").write_text(table)
    with pytest.warns(Py4DSTEMWarning, match="240 bytes, of which 40 are described"):
        py4DSTEM.read(tmp_path / "a.rpl")


def test_an_element_of_a_series_larger_than_numbers_can_count(tmp_path: Path) -> None:
    content = bytearray(write_ser(tmp_path / "a.ser", scan(), 1e8).read_bytes())
    table = int.from_bytes(content[22:26], "little")
    first = int.from_bytes(content[table : table + 4], "little")
    content[first + 42 : first + 50] = b"\xff" * 8
    (tmp_path / "a.ser").write_bytes(content)
    for truncated in (False, True):
        with pytest.raises(CorruptFile, match="larger than the file"):
            read_file(tmp_path / "a.ser", ReadOptions(allow_truncated=truncated))


def test_a_packed_file_that_is_no_gzip_inside(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(b"II*\0" + bytes(1000)))
    content[11:16] = b"\xff" * 5
    (tmp_path / "a.tif.gz").write_bytes(content)
    with pytest.raises(CorruptFile, match="cannot be unpacked"):
        py4DSTEM.read(tmp_path / "a.tif.gz")


# ---- numpy ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("header", [b"{'descr", b"(" * 3000, b"{'descr': '<u2', 'shape': (2," * 9])
def test_headers_of_numpy_that_are_no_python(tmp_path: Path, header: bytes) -> None:
    size = len(header).to_bytes(2, "little")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + size + header + bytes(100))
    with pytest.raises(CorruptFile, match="header cannot be read"):
        py4DSTEM.read(tmp_path / "a.npy")


# ---- filters of HDF5 -----------------------------------------------------------------------------
@pytest.mark.timeout(20)
@pytest.mark.parametrize(("width", "nbytes"), [(2**32 - 1, 0), (2**31, 64), (100, 1000)])
def test_shuffled_elements_of_absurd_width(width: int, nbytes: int) -> None:
    stored = np.arange(nbytes, dtype=np.uint8)
    out = np.zeros(nbytes, np.uint8)
    codecs.Pipeline([codecs.Filter(codecs.SHUFFLE, (width,))], nbytes).decode(
        stored, 0, out, codecs.Scratch()
    )
    count = nbytes // width
    expected = stored[: count * width].reshape(width, count).T.ravel()
    np.testing.assert_array_equal(out[: count * width], expected)


@pytest.mark.parametrize("number", sorted(codecs._MAKERS))
@pytest.mark.parametrize("nbytes", [0, 64])
def test_nothing_stored_but_a_checksum(number: int, nbytes: int) -> None:
    # LZF read from address 0.
    filters = [codecs.Filter(number, (2, 0, 2, 0, 2)), codecs.Filter(codecs.FLETCHER32, ())]
    pipeline = codecs.Pipeline(filters, nbytes)
    out = np.zeros(nbytes, np.uint8)
    with contextlib.suppress(codecs.DecodeError):
        pipeline.decode(np.zeros(4, np.uint8), 0, out, codecs.Scratch())
        assert nbytes == 0


# ---- formats that fail on foreign files ----------------------------------------------------------
def test_a_format_that_fails_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, source: object) -> None:
        raise TypeError("bytes")

    np.save(tmp_path / "a.npy", scan())
    monkeypatch.setattr(Blockfile, "sniff", fail)
    assert py4DSTEM.read(tmp_path / "a.npy").shape == (2, 3, 4, 5)


# ---- the survey itself ---------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore")
def test_places(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", scan())
    report = survey_places(tmp_path / "a.npy")
    assert report.failures == []
    assert report.outcomes["same"] > 10


@pytest.mark.filterwarnings("ignore")
def test_a_folder_is_damaged_file_by_file(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    py4DSTEM.save(tmp_path / "a.zarr", py4DSTEM.DataCube(scan()))
    report = survey_damage(tmp_path / "a.zarr", count=12)
    assert (report.failures, report.count) == ([], 12)


@pytest.mark.filterwarnings("ignore")
def test_cuts_at_given_places_and_kept_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", scan())
    report = survey_damage(tmp_path / "a.npy", count=0, cuts=(6, 128, 10**6))
    assert report.outcomes == {"refused": 2}
    monkeypatch.setattr(formats, "FAILURES", ("refused",))
    report = survey_damage(tmp_path / "a.npy", count=1, keep=tmp_path / "kept")
    assert len(report.failures) == 1
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_memory_is_limited() -> None:
    assert formats._in_child(lambda: "same|", -(1 << 40))[0] == "memory"


def test_a_file_that_is_refused_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(AssertionError, match="before it is damaged"):
        survey_damage(tmp_path / "a.npy", count=1)
    assert survey_damage(tmp_path / "a.npy", count=2, unreadable=True).failures == []


@pytest.mark.parametrize("change", [{"chunks": [0, 1, 4, 4]}, {"chunks": [-1, 1, 4, 4]}])
def test_zarr_chunks_of_no_size(tmp_path: Path, change: dict) -> None:
    pytest.importorskip("zarr")
    facts = {"zarr_format": 2, "shape": [2, 2, 4, 4], "chunks": [1, 2, 4, 4], "dtype": "<u2",
             "compressor": None, "fill_value": 0, "order": "C", "filters": None}  # fmt: skip
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(facts | change))
    with pytest.raises(FormatError, match=r"chunks|non-negative"):
        py4DSTEM.read(tmp_path / "a.zarr")


# ---- what fuzzing found --------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.*")), ids=lambda p: p.name)
def test_corpus(path: Path, tmp_path: Path) -> None:
    place = tmp_path / path.name
    place.write_bytes(path.read_bytes())
    with pytest.raises(FormatError, match=path.name):
        py4DSTEM.read(place)
