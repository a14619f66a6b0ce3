"""Files survive: kill, failing calls, full disks, interrupts, and being their own source."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import DataCube, StoreError
from py4DSTEM.io.store import atomic, write
from py4DSTEM.io.store.atomic import Guard, clean_parts, replacing

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and limits")
SHAPE = (6, 7, 16, 20)


def scan(seed: int = 0) -> DataCube:
    return DataCube(np.random.default_rng(seed).poisson(9, SHAPE).astype(np.uint16))


def only(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# ---- every call fails once -----------------------------------------------------------------------
CALLS: list[tuple[Any, str]] = [
    (atomic, "sync_file"),
    (atomic, "rename"),
    (atomic, "copy_file"),
    (write, "put_chunk"),
    (write, "write_ragged"),
    (write, "write_item"),
]


def failing_at(monkeypatch: Any, module: Any, name: str, k: int, code: int) -> list[int]:
    """Make the k-th call of a function fail; returns the count of calls."""
    real, calls = getattr(module, name), [0]

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == k:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, stand_in)
    return calls


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize(("module", "name"), CALLS)
def test_every_failing_call_leaves_the_old_file(
    tmp_path: Path, monkeypatch: Any, module: Any, name: str, code: int
) -> None:
    path = tmp_path / "a.h5"
    table = py4DSTEM.PointTable(np.zeros(4, [("qx", "f8")]), np.array([0, 1, 4]), (1, 2))
    py4DSTEM.save(path, {"scan": scan(1)})
    before, k = path.read_bytes(), 1
    mode = "a" if name == "copy_file" else "w"
    while True:
        with monkeypatch.context() as patch:
            calls = failing_at(patch, module, name, k, code)
            try:
                py4DSTEM.save(path, {"new": scan(2), "points": table}, mode=mode)
            except StoreError as error:
                assert str(path) in str(error)
            else:
                break
        assert calls[0] == k
        assert path.read_bytes() == before
        assert only(tmp_path) == ["a.h5"]
        k += 1
    assert k > 1
    np.testing.assert_array_equal(py4DSTEM.read(path)["new"].data[...], scan(2).data)


def test_a_folder_that_cannot_be_synchronised_is_reported(tmp_path: Path, monkeypatch: Any) -> None:
    failing_at(monkeypatch, atomic, "sync_folder", 1, errno.EIO)
    with pytest.raises(StoreError, match="complete, but its folder"):
        py4DSTEM.save(tmp_path / "a.h5", scan())
    assert py4DSTEM.read(tmp_path / "a.h5").shape == SHAPE


@pytest.mark.parametrize("stage", ["put_chunk", "write_item"])
def test_an_interrupt_leaves_the_old_file(tmp_path: Path, monkeypatch: Any, stage: str) -> None:
    path = tmp_path / "a.h5"
    py4DSTEM.save(path, scan(1))
    before = path.read_bytes()
    monkeypatch.setattr(write, stage, _interrupt)
    with pytest.raises(KeyboardInterrupt):
        py4DSTEM.save(path, scan(2))
    assert path.read_bytes() == before and only(tmp_path) == ["a.h5"]


def _interrupt(*args: Any) -> None:
    raise KeyboardInterrupt


def test_errors_of_the_source_pass_through(tmp_path: Path) -> None:
    class Broken:
        shape, dtype = SHAPE, np.dtype("u2")

        def __getitem__(self, key: Any) -> Any:
            raise py4DSTEM.CorruptFile("a chunk is damaged", path="source.h5")

    with pytest.raises(py4DSTEM.CorruptFile, match=r"source\.h5"):
        py4DSTEM.save(tmp_path / "a.h5", DataCube(Broken()))
    assert not only(tmp_path)


# ---- read back -----------------------------------------------------------------------------------
def test_a_chunk_that_changes_on_the_way_is_noticed(tmp_path: Path, monkeypatch: Any) -> None:
    real = write.put_chunk

    def flipped(dataset: Any, chunk: Any) -> None:
        data = bytearray(chunk.data)
        data[len(data) // 2] ^= 4
        real(dataset, type(chunk)(chunk.corner, bytes(data), chunk.mask))

    py4DSTEM.save(path := tmp_path / "a.h5", scan(1))
    before = path.read_bytes()
    monkeypatch.setattr(write, "put_chunk", flipped)
    with pytest.raises(StoreError, match="reading the new file back failed"):
        py4DSTEM.save(path, scan(2))
    assert path.read_bytes() == before


def test_a_flipped_bit_is_noticed_later(tmp_path: Path) -> None:
    py4DSTEM.save(path := tmp_path / "a.h5", scan())
    with h5py.File(path) as file:
        place = file["datacube_root/datacube/data"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[place.byte_offset + 20] ^= 1
    path.write_bytes(raw)
    with pytest.raises(py4DSTEM.CorruptFile):
        np.asarray(py4DSTEM.read(path).data[...])


# ---- space ---------------------------------------------------------------------------------------
def test_a_full_disk_is_refused_before_writing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(atomic, "free_bytes", lambda folder: 2000)
    with pytest.raises(StoreError, match=r"disk is full.*MB.*Free some space"):
        py4DSTEM.save(tmp_path / "a.h5", scan())
    assert not only(tmp_path)


def test_a_disk_that_fills_up_meanwhile(tmp_path: Path, monkeypatch: Any) -> None:
    py4DSTEM.save(path := tmp_path / "a.h5", scan(1))
    before, left = path.read_bytes(), [40]

    def shrinking(folder: Any) -> int:
        left[0] -= 1
        return 10**12 if left[0] > 0 else 0

    monkeypatch.setattr(atomic, "free_bytes", shrinking)
    with pytest.raises(StoreError, match="untouched"):
        py4DSTEM.save(path, scan(2), chunks=(1, 1, 16, 20))
    assert path.read_bytes() == before and only(tmp_path) == ["a.h5"]


def test_the_guard_names_needed_and_free(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(atomic, "free_bytes", lambda folder: 3_000_000)
    with pytest.raises(StoreError, match=r"expected 9\.0 MB.*got 3\.0 MB free"):
        Guard(tmp_path / "p", tmp_path / "t", reserve=0).check(9_000_000)


def run_python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@posix
@pytest.mark.parametrize("limit", [3_000_000, 4_000_000])
def test_a_file_size_limit_does_not_end_the_process(tmp_path: Path, limit: int) -> None:
    py4DSTEM.save(path := tmp_path / "a.h5", scan(1))
    done = run_python(
        """
        import resource, sys
        import numpy as np, py4DSTEM
        data = np.random.default_rng(0).integers(0, 2**16, (8, 8, 128, 256), dtype="u2")
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
        try:
            py4DSTEM.save(sys.argv[1], py4DSTEM.DataCube(data))
        except py4DSTEM.StoreError as error:
            print("clean", error)
        """,
        str(path),
        str(limit),
    )
    assert done.returncode == 0, done.stderr
    assert "clean" in done.stdout and str(path) in done.stdout
    np.testing.assert_array_equal(py4DSTEM.read(path).data[...], scan(1).data)


@posix
def test_a_small_disk_does_not_end_the_process(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        py4DSTEM.save(disk / "a.h5", scan(1))
        for filler in (0, 3_000_000, 5_500_000):
            (disk / "filler").write_bytes(b"x" * filler)
            done = run_python(_FILL, str(disk / "a.h5"))
            assert done.returncode == 0, done.stderr
            assert "clean" in done.stdout
            assert only(disk) == ["a.h5", "filler"]
            np.testing.assert_array_equal(py4DSTEM.read(disk / "a.h5").data[...], scan(1).data)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


_FILL = """
import sys
import numpy as np, py4DSTEM
from py4DSTEM.io.store import write

write._estimate = lambda *args: 0  # so that the disk fills up while writing
data = np.random.default_rng(0).integers(0, 2**16, (8, 8, 256, 256), dtype="u2")
try:
    py4DSTEM.save(sys.argv[1], py4DSTEM.DataCube(data), compression="none")
except py4DSTEM.StoreError as error:
    print("clean", error)
"""


# ---- kill ----------------------------------------------------------------------------------------
_REWRITE = """
import sys
import numpy as np, py4DSTEM
data = [np.full((6, 6, 128, 128), k, np.uint16) for k in (1, 2)]
for k in range(10**6):
    py4DSTEM.save(sys.argv[1], py4DSTEM.DataCube(data[k % 2]))
    if k == 0:  # everything is imported: from now on the process does nothing but save
        print("ready", flush=True)
"""


@posix
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_save_leaves_a_whole_file(tmp_path: Path, how: int) -> None:
    path, rng, hit = tmp_path / "a.h5", random.Random(int(how)), 0
    py4DSTEM.save(path, DataCube(np.ones((6, 6, 128, 128), np.uint16)))
    for _ in range(14 if how == signal.SIGKILL else 6):
        child = subprocess.Popen(
            [sys.executable, "-c", _REWRITE, str(path)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0, 0.25))
        child.send_signal(how)
        ended = _ended(child)
        child.stdout.close()
        values = np.unique(py4DSTEM.read(path).data[...])
        assert values.tolist() in ([1], [2])
        if how == signal.SIGINT and ended:
            assert only(tmp_path) == ["a.h5"]
        hit += len(clean_parts(tmp_path, min_age_s=0))
    assert how == signal.SIGINT or hit > 0  # some kills fell into the middle of a save
    assert only(tmp_path) == ["a.h5"]


def _ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether a process ends by itself; Python may swallow an interrupt that meets a destructor."""
    try:
        child.wait(timeout=20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return False
    return True


# ---- names and places ----------------------------------------------------------------------------
@posix
def test_a_scan_is_saved_onto_its_own_source(tmp_path: Path) -> None:
    original = scan().data
    py4DSTEM.save(path := tmp_path / "a.h5", scan())
    lazy = py4DSTEM.read(path)
    py4DSTEM.save(path, lazy.bin(Q=2))
    new = py4DSTEM.read(path)
    expected = original.reshape(6, 7, 8, 2, 10, 2).sum((3, 5))
    np.testing.assert_array_equal(new.data[...], expected)
    np.testing.assert_array_equal(lazy.data[...], original)  # what was open stays what it was


@posix
def test_a_scan_of_frames_is_saved_onto_its_own_source(tmp_path: Path) -> None:
    original = scan().data
    np.save(path := tmp_path / "a.npy", original)
    py4DSTEM.save(path, py4DSTEM.read(path).swap_Q())
    np.testing.assert_array_equal(np.load(path), original.swapaxes(2, 3))


@posix
def test_a_scan_is_added_to_its_own_source(tmp_path: Path) -> None:
    py4DSTEM.save(path := tmp_path / "a.h5", scan())
    lazy = py4DSTEM.read(path)
    py4DSTEM.save(path, {"copy": lazy}, mode="a")
    found = py4DSTEM.read(path)
    np.testing.assert_array_equal(found["copy"].data[...], found["datacube"].data[...])


@posix
def test_a_link_is_followed_and_permissions_stay(tmp_path: Path) -> None:
    py4DSTEM.save(target := tmp_path / "real.h5", scan(1))
    target.chmod(0o640)
    (link := tmp_path / "link.h5").symlink_to(target)
    py4DSTEM.save(link, scan(2))
    assert link.is_symlink() and target.stat().st_mode & 0o777 == 0o640
    np.testing.assert_array_equal(py4DSTEM.read(target).data[...], scan(2).data)


def test_long_and_strange_names(tmp_path: Path) -> None:
    for name in ("ü" * 120 + ".h5", "with space & 'quote'.h5", ".hidden.h5", "no extension"):
        py4DSTEM.save(tmp_path / name, scan())
        assert py4DSTEM.read(tmp_path / name).shape == SHAPE
    assert len(only(tmp_path)) == 4


def test_impossible_places(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"does not exist.*Create it"):
        py4DSTEM.save(tmp_path / "no" / "a.h5", scan())
    (tmp_path / "d.h5").mkdir()
    with pytest.raises(StoreError, match="is a folder"):
        py4DSTEM.save(tmp_path / "d.h5", scan())


# ---- what is left behind -------------------------------------------------------------------------
@posix
def test_only_parts_of_dead_processes_are_cleaned(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    parts = {
        f".a.h5.part-{dead.pid}-0123456789ab": True,
        f".a.h5.part-{os.getpid()}-0123456789ab": False,
        ".a.h5.part-1-0123456789ab": False,
        f"a.h5.part-{dead.pid}-0123456789ab": False,
        ".a.h5.part-notes": False,
    }
    for name in parts:
        (tmp_path / name).write_bytes(b"x")
    assert clean_parts(tmp_path) == []  # too young
    removed = clean_parts(tmp_path, min_age_s=0)
    assert [p.name for p in removed] == [n for n, gone in parts.items() if gone]
    assert only(tmp_path) == sorted(n for n, gone in parts.items() if not gone)


def test_the_part_lies_beside_the_target(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.h5") as part:
        assert part.parent == tmp_path and part.name.startswith(".a.h5.part-")
        part.write_bytes(b"new")
    assert (tmp_path / "a.h5").read_bytes() == b"new" and only(tmp_path) == ["a.h5"]


def test_a_zarr_folder_is_replaced_only_by_a_zarr_folder(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "diary.txt").write_text("mine")
    with pytest.raises(StoreError, match="is a folder"):
        py4DSTEM.save(tmp_path / "a.zarr", scan())
    assert (tmp_path / "a.zarr" / "diary.txt").read_text() == "mine"
