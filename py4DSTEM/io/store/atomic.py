"""Files that appear complete or not at all.

Everything is written to ``.<name>.part-<pid>-<id>`` in the folder of the target, synchronised, and
renamed over it.  HDF5 crashes the process when the disk fills up, so `Guard` is asked before
anything grows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from py4DSTEM.errors import Py4DSTEMError, StoreError

__all__ = ["Guard", "clean_parts", "copy_file", "free_bytes", "replacing", "write_bytes"]

_PART = re.compile(r"^\..*\.part-(\d+)-[0-9a-f]{12}$", re.DOTALL)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF)
_HINTS = {
    errno.ENOSPC: "Free some space, or save to another disk",
    errno.EDQUOT: "Your quota is used up: free some space, or save to another disk",
    errno.EFBIG: "The file would be larger than the system or a limit (ulimit -f) allows",
    errno.EACCES: "Check the permissions of the folder",
    errno.EPERM: "Check the permissions of the folder",
    errno.EROFS: "The disk is read-only: save elsewhere",
    errno.ENOENT: "Create the folder first",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.EIO: "The disk or the network failed: check them, then save again",
}


@contextlib.contextmanager
def replacing(path: str | PathLike[str], *, folder: bool = False) -> Iterator[Path]:
    """Give a temporary name to write to; when the block ends, it becomes `path`.

    A symbolic link is followed: the file it names is replaced.  When anything fails, or the block
    is interrupted, the temporary file is removed and `path` is as it was before.

    Parameters
    ----------
    path : path
    folder : bool
        The block makes a folder (Zarr), which may only replace another Zarr folder.

    Raises
    ------
    StoreError
        For every `OSError`, with the remedy.
    """
    target = Path(os.path.realpath(os.path.expanduser(path)))
    part = part_name(target)
    try:
        _check_target(target, folder)
        yield part
        _keep_mode(target, part)
        if folder:
            _sync_tree(part)
            _replace_folder(part, target)
        else:
            sync_file(part)
            rename(part, target)
    except OSError as error:
        remove(part)
        raise as_store_error(error, target) from error
    except BaseException:
        remove(part)
        raise
    _sync_folder_of(target)


def part_name(target: Path) -> Path:
    """A hidden name beside `target` that no other process uses."""
    tail = f".part-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    stem = os.fsencode(target.name)[: 250 - len(tail)].decode("utf-8", "ignore")
    return target.with_name(f".{stem}{tail}")


def _check_target(target: Path, folder: bool) -> None:
    if target.is_dir() and not (folder and _is_zarr(target)):
        raise StoreError("is a folder, not a file", path=target, hint="Give another name")
    if folder and target.is_file():
        raise StoreError("is a file, not a folder", path=target, hint="Give another name")
    if not target.parent.is_dir():
        raise StoreError(
            f"the folder {target.parent} does not exist", path=target, hint="Create it first"
        )


def _is_zarr(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("zarr.json", ".zarray", ".zgroup"))


def _sync_tree(folder: Path) -> None:
    for where, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync_file(Path(where, name))
        sync_folder(Path(where))


def _replace_folder(part: Path, target: Path) -> None:
    """Folders cannot be exchanged in one step: the old one is set aside, and back on failure."""
    if not target.exists():
        rename(part, target)
        return
    aside = part_name(target)
    rename(target, aside)
    try:
        rename(part, target)
    except BaseException:
        os.replace(aside, target)
        raise
    remove(aside)


def _keep_mode(target: Path, part: Path) -> None:
    """A file that is replaced keeps its permissions."""
    with contextlib.suppress(OSError):
        shutil.copymode(target, part)


# ---- the calls that can fail; tests make each of them fail ---------------------------------------
def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(part: Path, target: Path) -> None:
    """Put `part` in the place of `target`; Windows refuses while somebody has it open."""
    tries = 10 if os.name == "nt" else 1
    for attempt in range(tries):
        try:
            os.replace(part, target)
            return
        except PermissionError:
            if attempt == tries - 1:
                raise
            time.sleep(0.2)


def remove(path: Path) -> None:
    """Delete a temporary file, whatever state it is in."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file whole."""
    with open(path, "wb") as file:
        file.write(data)


def copy_file(source: Path, target: Path) -> None:
    """Copy content, sharing the blocks where the file system can (Btrfs, XFS, APFS)."""
    if not _cloned(source, target):
        shutil.copyfile(source, target)


def _cloned(source: Path, target: Path) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    clone = 0x40049409  # FICLONE of Linux
    with open(source, "rb") as old, open(target, "wb") as new:
        try:
            fcntl.ioctl(new.fileno(), clone, old.fileno())
        except OSError:
            return False
    return True


def _sync_folder_of(target: Path) -> None:
    try:
        sync_folder(target.parent)
    except OSError as error:
        if error.errno in _NO_FOLDER_SYNC:  # network and FUSE file systems
            return
        raise StoreError(
            f"it is complete, but its folder could not be synchronised: {error.strerror}",
            path=target,
            hint="After a power cut the previous file could be back: check the disk",
        ) from error


def as_store_error(error: OSError, path: str | PathLike[str]) -> Exception:
    """The same failure with path and remedy."""
    if isinstance(error, Py4DSTEMError):
        return error
    reason = error.strerror or str(error)
    return StoreError(f"cannot be written: {reason}", path=path, hint=_HINTS.get(error.errno or 0))


# ---- space ---------------------------------------------------------------------------------------
def free_bytes(folder: str | PathLike[str]) -> int:
    """Bytes that this user may still write into a folder."""
    if hasattr(os, "statvfs"):
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize
    return shutil.disk_usage(folder).free


def _size_limit() -> int | None:
    """Largest file this process may write (``ulimit -f``)."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft


@dataclass(frozen=True)
class Guard:
    """Refuses what does not fit, before HDF5 meets a full disk.

    Parameters
    ----------
    part : Path
        The file that grows.
    target : Path
        What the user calls it.
    reserve : int
        Bytes kept free for what HDF5 writes when it closes the file.
    """

    part: Path
    target: Path
    reserve: int = 1 << 20

    def check(self, nbytes: int) -> None:
        """Raise `StoreError` unless the file can grow by `nbytes`."""
        needed = nbytes + self.reserve
        free = free_bytes(self.part.parent)
        if free < needed:
            raise self._full("the disk is full", needed, free, errno.ENOSPC)
        limit = _size_limit()
        if limit is not None:
            left = limit - (self.part.stat().st_size if self.part.exists() else 0)
            if left < needed:
                raise self._full("the file would become too large", needed, left, errno.EFBIG)

    def _full(self, what: str, needed: int, free: int, code: int) -> StoreError:
        return StoreError(
            what,
            path=self.target,
            expected=f"{needed / 1e6:,.1f} MB for what is still to be written",
            got=f"{max(free, 0) / 1e6:,.1f} MB free",
            hint=_HINTS[code] + ". What was there before is untouched",
        )


# ---- what a killed process leaves behind ---------------------------------------------------------
def clean_parts(folder: str | PathLike[str], min_age_s: float = 600.0) -> list[Path]:
    """Remove unfinished files whose process is gone.

    Parameters
    ----------
    folder : path
        Looked into, not below.
    min_age_s : float
        Younger ones are left alone: on a shared disk they may belong to another computer.

    Returns
    -------
    list of Path
        What was removed.
    """
    removed = []
    for entry in os.scandir(folder):
        found = _PART.match(entry.name)
        if found is None or _alive(int(found[1])):
            continue
        if time.time() - entry.stat(follow_symlinks=False).st_mtime >= min_age_s:
            path = Path(entry.path)
            remove(path)
            removed.append(path)
    return sorted(removed)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    if os.name == "nt":  # signal 0 would end the process there; an open file cannot be deleted
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
