"""Files that name other files, lie about themselves, or are no HDF5 files at all."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from py4DSTEM.errors import CorruptFile, FormatError, UnknownFormat
from py4DSTEM.io.hdf5 import (
    Hdf5Array,
    check_dataset,
    find,
    is_hdf5,
    open_dataset,
    open_h5,
    storage_ok,
    walk_datasets,
)

SECRET = np.arange(8, dtype="u2")
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file modes")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that a data file has no business to read."""
    folder = tmp_path / "private"
    folder.mkdir()
    with h5py.File(folder / "secret.h5", "w") as file:
        file["data"] = SECRET
    (folder / "secret.raw").write_bytes(SECRET.tobytes())
    return folder


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """The folder of a master file, with one data file in a folder below."""
    folder = tmp_path / "scan"
    (folder / "sub").mkdir(parents=True)
    with h5py.File(folder / "sub" / "frames.h5", "w") as file:
        file["entry/data"] = SECRET + 1
    return folder


def master(folder: Path, **links: object) -> Path:
    path = folder / "master.h5"
    with h5py.File(path, "w") as file:
        file["own"] = SECRET + 2
        for name, link in links.items():
            file[name] = link
    return path


def virtual(folder: Path, source: str, name: str = "data") -> Path:
    layout = h5py.VirtualLayout((8,), "u2")
    layout[:] = h5py.VirtualSource(source, name, (8,))
    path = folder / "virtual.h5"
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)
    return path


class TestOpen:
    def test_a_good_file(self, inside: Path) -> None:
        with open_h5(master(inside)) as file:
            assert file["own"].shape == (8,)
        with open_h5(str(inside / "master.h5"), allow_external=True):
            pass

    @pytest.mark.parametrize("size", [512, 1024, 4096])
    def test_a_userblock(self, tmp_path: Path, size: int) -> None:
        with h5py.File(tmp_path / "a.h5", "w", userblock_size=size) as file:
            file["data"] = SECRET
        assert is_hdf5(tmp_path / "a.h5")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FormatError, match=r"none\.h5: no such file"):
            open_h5(tmp_path / "none.h5")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FormatError, match="folder"):
            open_h5(tmp_path)

    @posix
    def test_a_pipe_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FormatError, match="pipe"):
            open_h5(tmp_path / "pipe")

    @posix
    @pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read all")
    def test_no_permission(self, inside: Path) -> None:
        path = master(inside)
        path.chmod(0)
        with pytest.raises(FormatError, match="permission"):
            open_h5(path)

    def test_no_permission_is_named(self, inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: object) -> None:
            raise PermissionError(13, "denied")

        monkeypatch.setattr(os, "stat", refuse)
        with pytest.raises(FormatError, match="permission"):
            is_hdf5(inside / "master.h5")

    @pytest.mark.parametrize("content", [b"", b"\x89HD", b"just text " * 900, bytes(5000)])
    def test_not_hdf5(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.h5").write_bytes(content)
        with pytest.raises(UnknownFormat, match="not an HDF5 file"):
            open_h5(tmp_path / "a.h5")

    def test_null_in_the_name(self) -> None:
        with pytest.raises(FormatError, match="cannot be read"):
            open_h5("a\0b.h5")

    def test_truncated(self, inside: Path) -> None:
        path = master(inside)
        content = path.read_bytes()
        path.write_bytes(content[:-20])
        with pytest.raises(CorruptFile, match="truncated") as caught:
            open_h5(path)
        assert f"expected {len(content)} bytes" in str(caught.value)
        assert caught.value.hint

    def test_every_truncation_and_many_byte_flips_are_clean(self, inside: Path) -> None:
        content = master(inside).read_bytes()
        rng = np.random.default_rng(5)
        path = inside / "bad.h5"
        for k in range(250):
            bad = bytearray(content)
            if k % 2:
                bad = bad[: rng.integers(0, len(bad))]
            else:
                bad[rng.integers(0, min(900, len(bad)))] = rng.integers(256)
            path.write_bytes(bad)
            try:
                array = Hdf5Array(path, "own")
                np.asarray(array[...])
            except FormatError as error:
                assert str(path) in str(error)

    @posix
    def test_locked_by_a_writer(self, inside: Path) -> None:
        fcntl = pytest.importorskip("fcntl")
        path = master(inside)
        with open(path, "rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(FormatError, match="locked by a program"):
                open_h5(path)


class TestFind:
    def test_missing_objects_name_what_there_is(self, inside: Path) -> None:
        with open_h5(master(inside)) as file:
            with pytest.raises(FormatError, match=r"no object 'entry/x'.*holds own"):
                find(file, "entry/x")
            with pytest.raises(FormatError, match="no object"):
                find(file, "own/below")

    def test_a_group_is_not_a_dataset(self, inside: Path) -> None:
        with pytest.raises(FormatError, match="not a dataset"):
            Hdf5Array(inside / "sub" / "frames.h5", "entry")

    def test_soft_links(self, inside: Path) -> None:
        links = {"a": h5py.SoftLink("/b"), "b": h5py.SoftLink("own"), "c": h5py.SoftLink("/none")}
        path = master(inside, **links, d=h5py.SoftLink("/d"), e=h5py.SoftLink("f"))
        np.testing.assert_array_equal(Hdf5Array(path, "a")[...], SECRET + 2)
        with pytest.raises(CorruptFile, match="leads nowhere"):
            Hdf5Array(path, "c")
        with pytest.raises(CorruptFile, match="circles"):
            Hdf5Array(path, "d")

    @pytest.mark.parametrize("absolute", [False, True])
    def test_external_links_inside(self, inside: Path, absolute: bool) -> None:
        target = str(inside / "sub" / "frames.h5") if absolute else "sub/frames.h5"
        path = master(inside, link=h5py.ExternalLink(target, "/entry"))
        array = Hdf5Array(path, "link/data")
        np.testing.assert_array_equal(array[...], SECRET + 1)
        assert Path(array.path) == inside / "sub" / "frames.h5"

    def test_an_absolute_link_after_the_folder_was_moved(self, inside: Path) -> None:
        (inside / "sub" / "frames.h5").rename(inside / "frames.h5")
        link = h5py.ExternalLink("/data/of/the/microscope/frames.h5", "/entry/data")
        np.testing.assert_array_equal(Hdf5Array(master(inside, l=link), "l")[...], SECRET + 1)

    @pytest.mark.parametrize("how", ["absolute", "dots", "symlink", "soft", "chain"])
    def test_external_links_outside(self, inside: Path, outside: Path, how: str) -> None:
        target = str(outside / "secret.h5") if how == "absolute" else "../private/secret.h5"
        if how == "symlink":
            (inside / "near.h5").symlink_to(outside / "secret.h5")
            target = "near.h5"
        if how == "chain":
            with h5py.File(inside / "sub" / "chain.h5", "w") as file:
                file["data"] = h5py.ExternalLink("../../private/secret.h5", "/data")
            target = "sub/chain.h5"
        links = {"link": h5py.ExternalLink(target, "/data"), "soft": h5py.SoftLink("/link")}
        path, name = master(inside, **links), "soft" if how == "soft" else "link"
        with pytest.raises(FormatError, match="outside its folder") as caught:
            Hdf5Array(path, name)
        assert "allow_external=True" in str(caught.value)
        array = Hdf5Array(path, name, allow_external=True)
        np.testing.assert_array_equal(array[...], SECRET)

    def test_a_neighbour_folder_with_a_longer_name(self, inside: Path) -> None:
        other = inside.parent / "scan2"
        other.mkdir()
        with h5py.File(other / "a.h5", "w") as file:
            file["data"] = SECRET
        path = master(inside, link=h5py.ExternalLink("../scan2/a.h5", "/data"))
        with pytest.raises(FormatError, match="outside its folder"):
            Hdf5Array(path, "link")

    def test_dangling_external_links(self, inside: Path) -> None:
        links = {
            "file": h5py.ExternalLink("gone.h5", "/data"),
            "object": h5py.ExternalLink("sub/frames.h5", "/gone"),
            "text": h5py.ExternalLink("note.txt", "/data"),
        }
        (inside / "note.txt").write_text("no")
        path = master(inside, **links)
        with pytest.raises(CorruptFile, match=r"gone\.h5, which is missing"):
            Hdf5Array(path, "file")
        with pytest.raises(CorruptFile, match="leads nowhere"):
            Hdf5Array(path, "object")
        with pytest.raises(UnknownFormat, match=r"note\.txt"):
            Hdf5Array(path, "text")

    def test_external_links_in_circles(self, inside: Path) -> None:
        path = master(inside, link=h5py.ExternalLink("master.h5", "/link"))
        with pytest.raises(CorruptFile, match="circles"):
            Hdf5Array(path, "link")


class TestCheck:
    def test_raw_external_storage(self, inside: Path, outside: Path) -> None:
        raw = str(outside / "secret.raw")
        with h5py.File(inside / "a.h5", "w") as file:
            file.create_dataset("data", (8,), "u2", external=[(raw, 0, 16)])
        with pytest.raises(FormatError, match=r"secret\.raw.*allow_external"):
            Hdf5Array(inside / "a.h5", "data")
        array = Hdf5Array(inside / "a.h5", "data", allow_external=True)
        np.testing.assert_array_equal(array[...], SECRET)

    def test_virtual_sources_inside(self, inside: Path) -> None:
        path = virtual(inside, "sub/frames.h5", "entry/data")
        np.testing.assert_array_equal(Hdf5Array(path, "data")[2:], SECRET[2:] + 1)

    @pytest.mark.parametrize("how", ["absolute", "dots", "symlink", "nested", "raw", "link"])
    def test_virtual_sources_outside(self, inside: Path, outside: Path, how: str) -> None:
        secret, name = "../private/secret.h5", "data"
        if how == "absolute":
            secret = str(outside / "secret.h5")
        elif how == "symlink":
            (inside / "near.h5").symlink_to(outside / "secret.h5")
            secret = "near.h5"
        elif how == "nested":
            virtual(inside, str(outside / "secret.h5")).rename(inside / "first.h5")
            secret = "first.h5"
        elif how == "raw":
            secret = "raw.h5"
            with h5py.File(inside / secret, "w") as file:
                external = [(str(outside / "secret.raw"), 0, 16)]
                file.create_dataset("data", (8,), "u2", external=external)
        elif how == "link":
            secret, name = "master.h5", "link"
            master(inside, link=h5py.ExternalLink("../private/secret.h5", "/data"))
        path = virtual(inside, secret, name)
        with pytest.raises(FormatError, match=r"outside|raw file"):
            Hdf5Array(path, "data")
        np.testing.assert_array_equal(Hdf5Array(path, "data", allow_external=True)[...], SECRET)

    def test_missing_virtual_sources_are_not_zeros(self, inside: Path) -> None:
        with pytest.raises(CorruptFile, match=r"gone\.h5, which is missing"):
            Hdf5Array(virtual(inside, "gone.h5"), "data")

    def test_a_virtual_dataset_of_its_own_file(self, inside: Path) -> None:
        layout = h5py.VirtualLayout((8,), "u2")
        layout[:] = h5py.VirtualSource(".", "own", (8,))
        path = master(inside)
        with h5py.File(path, "r+") as file:
            file.create_virtual_dataset("data", layout)
        np.testing.assert_array_equal(Hdf5Array(path, "data")[...], SECRET + 2)

    def test_a_numbered_series(self, inside: Path) -> None:
        (inside / "sub" / "frames.h5").rename(inside / "part_0.h5")
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        space = h5py.h5s.create_simple((8,), (h5py.h5s.UNLIMITED,))
        space.select_hyperslab((0,), (h5py.h5s.UNLIMITED,), (8,), (8,))
        source = h5py.h5s.create_simple((8,))
        plist.set_virtual(space, b"part_%b.h5", b"entry/data", source)
        with h5py.File(inside / "a.h5", "w") as file:
            whole = h5py.h5s.create_simple((8,), (h5py.h5s.UNLIMITED,))
            h5py.h5d.create(file.id, b"data", h5py.h5t.STD_U16LE, whole, plist)
        with pytest.raises(FormatError, match=r"series, part_%b\.h5"):
            Hdf5Array(inside / "a.h5", "data")
        array = Hdf5Array(inside / "a.h5", "data", allow_external=True)
        np.testing.assert_array_equal(array[...], SECRET + 1)

    def test_a_root_may_be_given(self, inside: Path, outside: Path) -> None:
        path = virtual(inside, "../private/secret.h5")
        with h5py.File(path) as file:
            check_dataset(file["data"], root=str(inside.parent))
            with pytest.raises(FormatError, match="outside"):
                check_dataset(file["data"])


class TestStorage:
    def test_report(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["good"] = SECRET
            file.create_dataset("bomb", (1 << 40, 1 << 30), "f8", chunks=(1, 1024))
            file.create_dataset("zeros", data=np.zeros(10**6), compression="gzip", chunks=True)
            file["nothing"] = h5py.Empty("f4")
            assert storage_ok(file["good"]) == (16, 16, True)
            assert storage_ok(file["bomb"]) == (1 << 73, 0, False)
            assert storage_ok(file["zeros"]).ok
            assert storage_ok(file["nothing"]).ok

    def test_virtual(self, inside: Path) -> None:
        with open_dataset(virtual(inside, "sub/frames.h5", "entry/data"), "data") as dataset:
            assert storage_ok(dataset).ok


class TestWalk:
    def test_each_dataset_once(self, inside: Path, outside: Path) -> None:
        links = {
            "soft": h5py.SoftLink("/own"),
            "loop": h5py.SoftLink("/"),
            "near": h5py.ExternalLink("sub/frames.h5", "/"),
            "far": h5py.ExternalLink("../private/secret.h5", "/"),
            "gone": h5py.ExternalLink("gone.h5", "/"),
        }
        path = master(inside, **links)
        with h5py.File(path, "r+") as file:
            group = file.create_group("group")
            group["again"] = file["own"]
            group["up"] = file["/"]  # a cycle of hard links
            group["type"] = np.dtype("f4")
            group["empty"] = h5py.Empty("f4")
            group.create_dataset("z", (4, 6), "u2", chunks=(2, 6))
        with open_h5(path) as file:
            found = dict(walk_datasets(file))
            everything = dict(walk_datasets(file, allow_external=True))
        assert len(found) == 3
        assert {"/group/z", "/near/entry/data"} < set(found)
        assert set(everything) - set(found) == {"/far/data"}
        info = found["/group/z"]
        assert (info.shape, info.chunks, info.logical, info.stored) == ((4, 6), (2, 6), 48, 0)
        assert (info.dtype, info.path, info.dataset) == (np.dtype("u2"), str(path), "/group/z")
        near = found["/near/entry/data"]
        assert (near.path, near.dataset) == (str(inside / "sub" / "frames.h5"), "/entry/data")
        assert Hdf5Array(near.path, near.dataset).shape == near.shape

    def test_bounds(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_group("/".join("abcdefgh"))
            for k in range(20):
                file[f"many/{k}"] = k
        with open_h5(tmp_path / "a.h5") as file:
            assert len(list(walk_datasets(file))) == 20
            with pytest.raises(CorruptFile, match="deep"):
                list(walk_datasets(file, max_depth=5))
            with pytest.raises(CorruptFile, match="more than 10"):
                list(walk_datasets(file, max_objects=10))

    def test_types_that_numpy_does_not_have(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            kind = h5py.h5t.TypeID.copy(h5py.h5t.NATIVE_B8)
            space = h5py.h5s.create_simple((3,))
            h5py.h5d.create(file.id, b"bits", kind, space)
            file["good"] = SECRET
        with open_h5(tmp_path / "a.h5") as file:
            assert set(dict(walk_datasets(file))) == {"/bits", "/good"}


def test_no_warnings_and_no_open_files(inside: Path) -> None:
    path = master(inside, link=h5py.ExternalLink("sub/frames.h5", "/entry/data"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array = Hdf5Array(path, "link")
        array[0]
    if sys.platform == "linux":
        array.close()
        opened = {os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")}
        assert not [name for name in opened if str(inside) in name]
