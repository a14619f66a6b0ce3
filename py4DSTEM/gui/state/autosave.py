"""What is open, kept on disk for the case that the program ends badly.

Each running program has a folder of its own and holds a lock on it, which the system takes away
when the program dies, however that happens.  Values have files of their own, written once; a small
text that names them is replaced in one step, so that it is complete at any moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import py4DSTEM
from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import FormatError, ParameterError, Py4DSTEMError, StoreError
from py4DSTEM.gui.state.project import Project
from py4DSTEM.gui.state.store import Restored, read_text, written
from py4DSTEM.io.store.atomic import as_store_error, remove, replacing, write_bytes

__all__ = ["Autosave", "Crashed", "recoverable"]

_TEXT = "project.json"
_LOCK = "lock"
_NAME = re.compile(r"\d+-[0-9a-f]{8}")
LARGEST_BYTES = 512 * 1024**2
_STALE_S = 3600.0


class _Lock:
    """A lock on a file that ends with the process, also when it is killed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def take(self) -> bool:
        """Whether it could be taken; another process may hold it."""
        try:
            file = open(self._path, "a+b")  # noqa: SIM115  # kept open as long as it is held
        except OSError:
            return False
        try:
            _lock_file(file)
        except OSError:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Let others have it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def held(self) -> bool:
        return self._file is not None


def _lock_file(file: Any) -> None:
    if os.name == "nt":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


class Autosave:
    """Keeps the project of this program in a folder of its own; call `close` at the end.

    Parameters
    ----------
    folder : path
        Of all programs of this user; made where it is missing.
    largest_bytes : int
        Scans from memory, and results that are scans, are kept up to this size.

    Raises
    ------
    StoreError
        The folder cannot be written to.
    """

    def __init__(self, folder: str | PathLike[str], largest_bytes: int = LARGEST_BYTES) -> None:
        self._folder = Path(folder) / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._largest = largest_bytes
        self._files: dict[int, tuple[Any, str]] = {}
        self._count = 0
        self._text = b""
        try:
            self._folder.mkdir(parents=True)
        except OSError as error:
            raise as_store_error(error, self._folder) from error
        self._lock = _Lock(self._folder / _LOCK)
        if not self._lock.take():
            raise StoreError("cannot be locked", path=self._folder, hint="Is it on a network disk?")

    @property
    def folder(self) -> Path:
        """Where this program keeps its project."""
        return self._folder

    def keep(self, project: Project, cubes: Mapping[str, Cube] | None = None) -> tuple[str, ...]:
        """Write down what has changed; off the GUI thread, one call at a time.

        Parameters
        ----------
        project : Project
        cubes : mapping of str to Cube, optional
            Data of the scans by key.

        Returns
        -------
        tuple of str
            What could not be kept, in words.

        Raises
        ------
        StoreError
            As when the disk is full; what was kept before is untouched.
        """
        parts = written(project, cubes or {}, folder=self._folder)
        notes = list(parts.notes)
        index = {}
        for name, value in parts.values.items():
            try:
                index[name] = self._file(value)
            except ParameterError as error:
                notes.append(f"{name} is not kept: {error}")
        self._write(project, parts.text, index)
        self._forget_others(set(index.values()))
        return tuple(notes)

    def close(self) -> None:
        """The program ends well: nothing is to be recovered."""
        if self._lock.held:
            remove(self._folder / _TEXT)
            self._lock.release()
            shutil.rmtree(self._folder, ignore_errors=True)

    # ---- files -----------------------------------------------------------------------------------
    def _file(self, value: Any) -> str:
        """Name of the file of a value, which is written where it is new."""
        known = self._files.get(id(value))
        if known is not None:
            return known[1]
        if isinstance(value, Cube) and value.nbytes > self._largest:
            raise ParameterError(f"it is a scan of {value.nbytes / 1e9:.1f} GB")
        self._count += 1
        name = f"value-{self._count}.h5"
        py4DSTEM.save(self._folder / name, {"value": value}, compression="none")
        # The value is held, so that no other can have its id.
        self._files[id(value)] = (value, name)
        return name

    def _write(self, project: Project, text: str, files: Mapping[str, str]) -> None:
        content = {
            "scans": [scan.name for scan in project.scans],
            "results": sum(len(scan.results) for scan in project.scans),
            "files": files,
            "project": text,
        }
        data = json.dumps(content).encode("utf-8")
        if data != self._text:
            with replacing(self._folder / _TEXT) as part:
                write_bytes(part, data)
            self._text = data

    def _forget_others(self, kept: set[str]) -> None:
        """Files that the text no longer names."""
        for key, (_, name) in list(self._files.items()):
            if name not in kept:
                del self._files[key]
                remove(self._folder / name)


# ---- what a program left behind ------------------------------------------------------------------
@dataclass(frozen=True)
class Crashed:
    """What a program that ended badly had open.

    Parameters
    ----------
    folder : Path
    time_s : float
        When it was last written down (seconds since 1970).
    scans : tuple of str
        Names of the scans.
    results : int
        How many results they have.
    """

    folder: Path
    time_s: float
    scans: tuple[str, ...]
    results: int

    def restore(self) -> Restored:
        """The project; call `discard` once it is kept again.

        Raises
        ------
        FormatError
            Another program has taken it meanwhile, or it is damaged.
        """
        lock = _Lock(self.folder / _LOCK)
        if not lock.take():
            raise FormatError("another program has recovered it", path=self.folder)
        try:
            return _restored(self.folder)
        finally:
            lock.release()

    def discard(self) -> None:
        """Delete it, unless another program works on it."""
        lock = _Lock(self.folder / _LOCK)
        if lock.take():
            remove(self.folder / _TEXT)
            lock.release()
            shutil.rmtree(self.folder, ignore_errors=True)


def recoverable(folder: str | PathLike[str]) -> tuple[Crashed, ...]:
    """What programs that ended badly had open, the latest first.

    Parameters
    ----------
    folder : path
        As for `Autosave`.
    """
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_dir() and _NAME.fullmatch(entry.name):
                found.append(_looked_at(Path(entry.path)))
    left = [crashed for crashed in found if crashed is not None]
    return tuple(sorted(left, key=lambda crashed: -crashed.time_s))


def _looked_at(folder: Path) -> Crashed | None:
    lock = _Lock(folder / _LOCK)
    if not lock.take():
        return None
    try:
        content, time_s = _content(folder), (folder / _TEXT).stat().st_mtime
        scans = tuple(map(str, content["scans"]))
        return Crashed(folder, time_s, scans, int(content["results"])) if scans else None
    except (OSError, Py4DSTEMError, KeyError, TypeError, ValueError):
        _sweep(folder)
        return None
    finally:
        lock.release()


def _sweep(folder: Path) -> None:
    """A folder without a project: of a program that is just starting, or died before it had one."""
    with contextlib.suppress(OSError):
        if not (folder / _TEXT).exists() and time.time() - folder.stat().st_mtime > _STALE_S:
            shutil.rmtree(folder, ignore_errors=True)


def _content(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / _TEXT).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"cannot be read: {error}", path=folder / _TEXT) from error
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise FormatError("is no project of the desktop program", path=folder / _TEXT)
    return found


def _restored(folder: Path) -> Restored:
    content = _content(folder)

    def value(name: str) -> Any:
        found = py4DSTEM.read(folder / os.path.basename(content["files"][name]))
        # The folder goes away once the project is kept elsewhere.
        return found.load() if isinstance(found, Cube) else found

    return read_text(str(content.get("project")), value, path=folder / _TEXT)
