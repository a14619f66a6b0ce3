"""The state of a run: a row per file and per step in SQLite.

The truth is in the folders (a step is done when its ``step.json`` is there); this is what `status`
and the report look at.  One process writes, any number read while it does (WAL).
"""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from py4DSTEM.errors import CorruptFile, StoreError

__all__ = ["STATES", "FileRow", "State", "StepRow", "read_rows"]

STATES = ("waiting", "running", "done", "failed")
VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, source TEXT, state TEXT, cause TEXT, error TEXT, note TEXT,
    attempts INTEGER DEFAULT 0, seconds REAL, rss_bytes INTEGER, host TEXT, started REAL,
    stamp TEXT, qc TEXT);
CREATE TABLE IF NOT EXISTS steps (
    file TEXT, position INTEGER, name TEXT, use TEXT, state TEXT, key TEXT, seconds REAL,
    path TEXT, error TEXT, PRIMARY KEY (file, name));
"""


@dataclass(frozen=True)
class StepRow:
    """One step on one file.

    Parameters
    ----------
    name, use : str
        Of the step in the recipe.
    state : str
        One of `STATES`.
    key : str
        Identifies code, parameters and input (`recipe.keys`).
    seconds : float, optional
        Of the pass that made it; steps of one pass share it.
    path : Path
        Folder with ``result.h5`` and ``step.json``.
    error : str
        "" unless failed.
    """

    name: str
    use: str
    state: str
    key: str
    seconds: float | None
    path: Path
    error: str = ""


@dataclass(frozen=True)
class FileRow:
    """One input of a run.

    Parameters
    ----------
    name : str
        Folder below ``files``: the file's name and eight digits of its place.
    source : str
        Where it was read from.
    state : str
        One of `STATES`.
    error : str
        In words; "" unless failed.
    cause : str
        A word for the error, such as ``"damaged"``, ``"memory"`` or ``"timeout"``.
    note : str
        What else is worth saying, such as an input that has changed.
    steps : tuple of StepRow
    seconds : float, optional
    rss_bytes : int, optional
        Largest resident memory of the process that worked on it.
    qc : mapping
        Measured quantities of the quality limits.
    """

    name: str
    source: str
    state: str
    error: str = ""
    cause: str = ""
    note: str = ""
    steps: tuple[StepRow, ...] = ()
    seconds: float | None = None
    rss_bytes: int | None = None
    attempts: int = 0
    host: str = ""
    stamp: str = ""
    qc: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


class State:
    """The writing side; used by one thread.

    Parameters
    ----------
    path : Path
        ``state.sqlite``; made if missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _said(path):
            self._base = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.executescript(_TABLES)
            self._base.execute(f"PRAGMA user_version={VERSION}")

    def close(self) -> None:
        self._base.close()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is written in the block arrives as one."""
        with _said(self._path):
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def file(self, name: str, **values: Any) -> None:
        """Change a file's row, which is made if missing."""
        self._put("files", {"name": name}, values)

    def step(self, file: str, name: str, **values: Any) -> None:
        """Change the row of a step of a file, which is made if missing."""
        self._put("steps", {"file": file, "name": name}, values)

    def keep_steps(self, file: str, names: Sequence[str]) -> None:
        """Forget the steps of a file that the recipe no longer has."""
        marks = ",".join("?" * len(names))
        with _said(self._path):
            self._base.execute(
                f"DELETE FROM steps WHERE file = ? AND name NOT IN ({marks})", (file, *names)
            )

    def _put(self, table: str, where: dict[str, Any], values: dict[str, Any]) -> None:
        row = {**where, **{k: _stored(v) for k, v in values.items()}}
        columns, marks = ", ".join(row), ", ".join(f":{k}" for k in row)
        change = ", ".join(f"{k} = :{k}" for k in values)
        action = f"DO UPDATE SET {change}" if values else "DO NOTHING"
        with _said(self._path):
            self._base.execute(
                f"INSERT INTO {table} ({columns}) VALUES ({marks}) "
                f"ON CONFLICT ({', '.join(where)}) {action}",
                row,
            )


def _stored(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list | tuple) else value


def read_rows(path: Path, folder: Path) -> tuple[FileRow, ...]:
    """All rows in the order in which the files were given; nothing is written.

    Parameters
    ----------
    path : Path
        ``state.sqlite``.
    folder : Path
        The run directory.
    """
    with _said(path), contextlib.closing(_reader(path)) as base:
        base.row_factory = sqlite3.Row
        if not base.execute("SELECT 1 FROM sqlite_master WHERE name = 'steps'").fetchall():
            return ()  # killed while it was made
        steps: dict[str, list[StepRow]] = {}
        for row in base.execute("SELECT * FROM steps ORDER BY file, position"):
            steps.setdefault(row["file"], []).append(_step(row, folder))
        files = base.execute("SELECT * FROM files ORDER BY rowid").fetchall()
    return tuple(_file(row, tuple(steps.get(row["name"], ()))) for row in files)


def _reader(path: Path) -> sqlite3.Connection:
    """Read-only; on a disk that is read-only as a whole, without the WAL."""
    base = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
    try:
        base.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.OperationalError:
        base.close()
        base = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    return base


def _step(row: sqlite3.Row, folder: Path) -> StepRow:
    path = folder / "files" / row["file"] / (row["path"] or "")
    return StepRow(
        row["name"], row["use"] or "", row["state"] or "waiting", row["key"] or "",
        row["seconds"], path, row["error"] or "",
    )  # fmt: skip


def _file(row: sqlite3.Row, steps: tuple[StepRow, ...]) -> FileRow:
    words = {k: row[k] or "" for k in ("error", "cause", "note", "host", "stamp")}
    return FileRow(
        row["name"], row["source"] or "", row["state"] or "waiting", steps=steps,
        seconds=row["seconds"], rss_bytes=row["rss_bytes"], attempts=row["attempts"] or 0,
        qc=MappingProxyType(json.loads(row["qc"] or "{}")), **words,
    )  # fmt: skip


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """Errors of SQLite in our words."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _unwritable(path, error) from error
    except sqlite3.Error as error:
        raise CorruptFile(
            f"the state of the run: {error}", path=path,
            hint="Remove it, then --resume: the results in files/ are found again",
        ) from error  # fmt: skip


def _unwritable(path: Path, error: sqlite3.OperationalError) -> StoreError:
    """SQLite says "disk I/O error" also of a file that has become too large."""
    full = "full" in str(error) or "I/O" in str(error)
    hint = "Free some space" if full else "Look at the permissions, and whether the disk has locks"
    found = StoreError(f"the state of the run: {error}", path=path, hint=f"{hint}, then --resume")
    found.errno = errno.ENOSPC if full else None
    return found
