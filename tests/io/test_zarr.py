"""Zarr stores of both versions, as folders and zip files, whole and damaged."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.lazy import read_block
from py4DSTEM.core.slices import ArrayResult, RealSlice
from py4DSTEM.errors import CorruptFile, FormatError, ParameterError, UnknownFormat
from py4DSTEM.io.format import ReadOptions, Source, detect
from py4DSTEM.io.read import read_file
from py4DSTEM.testing.formats import check_file, survey_damage

zarr = pytest.importorskip("zarr")


def read(path: Path, **options):
    return read_file(path, ReadOptions(**options))


@pytest.fixture
def scan() -> np.ndarray:
    return np.random.default_rng(4).integers(1, 60000, (6, 4, 5, 9)).astype(">u2")


def make(path: Path, version: int = 3, **arrays: np.ndarray) -> Path:
    """A group with arrays in chunks of (2, 2, …)."""
    root = zarr.open_group(path, mode="w", zarr_format=version)
    for name, values in arrays.items():
        chunks = tuple(min(n, 2) for n in values.shape[:-2]) + values.shape[-2:]
        made = root.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)
        made[...] = values
    return path


def zipped(path: Path) -> Path:
    """All files of a store in a zip file."""
    target = path.with_name(f"{path.name}.zip")
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(path).as_posix())
    return target


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("pack", [False, True])
def test_group(tmp_path: Path, scan: np.ndarray, version: int, pack: bool) -> None:
    path = make(tmp_path / "s.zarr", version, scan=scan, image=np.eye(3), **{"a/b": scan[0]})
    path = zipped(path) if pack else path
    cube = read(path)
    assert isinstance(cube, Cube) and cube.dtype == np.dtype("=u2") and cube.metadata.notes == ()
    assert cube.data.chunks == (2, 2, 5, 9)
    np.testing.assert_array_equal(cube.data[...], scan)
    check_file(path)
    assert isinstance(read(path, dataset="image"), RealSlice)
    np.testing.assert_array_equal(read(path, dataset="/a/b").data, scan[0])
    check_file(path, dataset="a/b", scan_shape=(2, 2))
    again = pickle.loads(pickle.dumps(cube.data))
    np.testing.assert_array_equal(again[2], scan[2])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("pack", [False, True])
def test_array_alone(tmp_path: Path, scan: np.ndarray, version: int, pack: bool) -> None:
    path = tmp_path / "one.zarr"
    array = zarr.create_array(path, shape=scan.shape, dtype="u2", chunks=(1, 4, 5, 9),
                              zarr_format=version)  # fmt: skip
    array[...] = scan
    cube = read(zipped(path) if pack else path)
    assert cube.name == "one"
    np.testing.assert_array_equal(cube.data[...], scan)


def test_shards_are_what_is_read_at_once(tmp_path: Path, scan: np.ndarray) -> None:
    array = zarr.create_array(tmp_path / "s", shape=scan.shape, dtype="u2", chunks=(1, 1, 5, 9),
                              shards=(2, 4, 5, 9))  # fmt: skip
    array[...] = scan
    cube = read(tmp_path / "s")
    assert cube.data.chunks == (2, 4, 5, 9) and cube.metadata.notes == ()
    check_file(tmp_path / "s")


def test_stack(tmp_path: Path, scan: np.ndarray) -> None:
    path = make(tmp_path / "s.zarr", frames=scan.reshape(24, 5, 9))
    assert isinstance(read(path), ArrayResult)
    np.testing.assert_array_equal(read(path, scan_shape=(6, 4)).data[...], scan)


def test_several_scans(tmp_path: Path, scan: np.ndarray) -> None:
    assert list(read(make(tmp_path / "s.zarr", b=scan, a=scan))) == ["a", "b"]


def test_what_there_is_is_listed(tmp_path: Path) -> None:
    path = make(tmp_path / "s.zarr", image=np.eye(3))
    with pytest.raises(UnknownFormat, match=r"image \(3, 3\) float64"):
        read(path)
    with pytest.raises(ParameterError, match="only 'image'"):
        read(path, dataset="imag")
    with pytest.raises(UnknownFormat, match="no array at all"):
        read(make(tmp_path / "empty.zarr"))


def test_hyperspy_comes_first(tmp_path: Path, scan: np.ndarray) -> None:
    path = make(tmp_path / "s.zspy", **{"Experiments/x/data": scan})
    assert detect(Source.of(path))[0].name == "zspy"


def test_threads_get_through(tmp_path: Path, scan: np.ndarray) -> None:
    data = read(make(tmp_path / "s.zarr", scan=scan)).data
    wrong: list[int] = []

    def work() -> None:
        for k in range(20):
            block = read_block(data, slice(k % 6, k % 6 + 1), slice(0, 4))
            if not np.array_equal(block, scan[k % 6]):
                wrong.append(k)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


# ---- not as it should be -------------------------------------------------------------------------
@pytest.mark.parametrize("pack", [False, True])
def test_missing_chunks_are_told(tmp_path: Path, scan: np.ndarray, pack: bool) -> None:
    path = make(tmp_path / "s.zarr", scan=scan)
    shutil.rmtree(path / "scan/c/1")
    cube = read(zipped(path) if pack else path)
    assert cube.metadata.notes == ("2 of 6 chunks are not stored and read as 0",)
    assert not cube.data[2:4].any() and cube.data[0].any()


def _described(path: Path, **changes: object) -> None:
    facts = json.loads((path / "scan/zarr.json").read_text())
    (path / "scan/zarr.json").write_text(json.dumps(facts | changes))


def test_absurd_shape_is_lazy(tmp_path: Path, scan: np.ndarray) -> None:
    path = make(tmp_path / "s.zarr", scan=scan)
    _described(path, shape=[10**6, 10**6, 5, 9])
    cube = read(path)
    assert cube.nbytes > 1e13
    np.testing.assert_array_equal(cube.data[1, 1], scan[1, 1])


def test_absurd_chunks_are_refused(tmp_path: Path, scan: np.ndarray) -> None:
    path = make(tmp_path / "s.zarr", scan=scan)
    grid = {"name": "regular", "configuration": {"chunk_shape": [10**6, 10**4, 5, 9]}}
    _described(path, chunk_grid=grid)
    with pytest.raises(CorruptFile, match="unbelievably large"):
        read(path)


def test_absurd_stack_is_not_loaded(tmp_path: Path, scan: np.ndarray) -> None:
    path = make(tmp_path / "s.zarr", scan=scan.reshape(24, 5, 9))
    _described(path, shape=[10**9, 5, 9])
    with pytest.raises(ParameterError, match="scan_shape"):
        read(path)


def test_damaged_chunk_names_the_store(tmp_path: Path, scan: np.ndarray) -> None:
    path = make(tmp_path / "s.zarr", scan=scan)
    (path / "scan/c/0/0/0/0").write_bytes(b"nothing of use")
    cube = read(path)
    with pytest.raises(CorruptFile, match=r"s\.zarr.*array 'scan'"):
        cube.data[0, 0]
    np.testing.assert_array_equal(cube.data[5], scan[5])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"zarr_format": 7}', b"\xff\xfe", b"null"])
def test_damaged_description(tmp_path: Path, scan: np.ndarray, content: bytes) -> None:
    path = make(tmp_path / "s.zarr", scan=scan)
    for name in ("zarr.json", "scan/zarr.json"):
        kept = (path / name).read_bytes()
        (path / name).write_bytes(content)
        with pytest.raises(FormatError, match=r"s\.zarr"):
            read(path)
        (path / name).write_bytes(kept)


def test_zip_bomb_is_refused(
    tmp_path: Path, scan: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("py4DSTEM.io.zarr_array.LARGEST_CHUNK", 1 << 16)
    path = zipped(make(tmp_path / "s.zarr", scan=scan))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scan/c/9/9/9/9", bytes(1 << 20))
    with pytest.raises(CorruptFile, match="unbelievably large"):
        read(path)


def test_damaged_zip(tmp_path: Path, scan: np.ndarray) -> None:
    path = zipped(make(tmp_path / "s.zarr", scan=scan))
    assert survey_damage(path, count=24).failures == []
