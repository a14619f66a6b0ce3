"""What the user wishes of the program, where it is kept, and the folders of the program; no Qt."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from py4DSTEM.core.parameters import Parameters
from py4DSTEM.errors import ParameterError, Py4DSTEMError
from py4DSTEM.io.store.atomic import as_store_error, remove, write_bytes
from py4DSTEM.stream.options import parse_bytes

__all__ = ["Preferences", "folder", "load", "log_path", "remembered", "save"]

RECENT = 20


class Preferences(Parameters):
    """What the user wishes; kept between two starts of the program.

    Parameters
    ----------
    theme : "system", "dark" or "light"
    memory : str
        What is kept in memory for dragging, such as ``"4 GB"``; "": a quarter of what is free.
    cache_folder : str
        Where what does not fit into memory is kept while a scan is open; "": the system's.
    workers : int
        Threads for one job; 0: all cores.
    autosave_s : int
        Seconds between two savings for the case that the program ends badly; 0: never.
    shortcuts : dict of str to list of str
        Keys of actions other than those of the table.
    recent : tuple of str
        Files opened last, the latest first.
    """

    theme: Literal["system", "dark", "light"] = "system"
    memory: str = ""
    cache_folder: str = ""
    workers: int = Field(default=0, ge=0, le=1024)
    autosave_s: int = Field(default=60, ge=0, le=3600)
    shortcuts: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    recent: tuple[str, ...] = ()

    def replace(self, **changes: Any) -> Preferences:
        """A checked copy with some fields changed."""
        new = Preferences(**(dict(self) | changes))
        if new.memory:
            parse_bytes(new.memory)
        if new.cache_folder and not Path(new.cache_folder).is_dir():
            raise ParameterError(f"there is no folder {new.cache_folder}: choose one that exists")
        return new


def remembered(preferences: Preferences, path: str) -> Preferences:
    """With `path` as the file opened last."""
    others = (known for known in preferences.recent if known != path)
    return preferences.replace(recent=(path, *others)[:RECENT])


def folder() -> Path:
    """The folder of settings, log and autosave; made when it is missing."""
    path = _folder()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _folder() -> Path:
    own = os.environ.get("PY4DSTEM_HOME")
    if own:
        return Path(own)
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home())) / "py4DSTEM"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "py4DSTEM"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "py4dstem"


def log_path() -> Path:
    """The file that errors are written to."""
    return folder() / "py4dstem.log"


def load() -> Preferences:
    """What was saved; what cannot be read or understood is as if it had never been set."""
    path = folder() / "preferences.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return Preferences()
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        with contextlib.suppress(OSError):  # set aside: it may have been edited by hand
            path.replace(path.with_suffix(".damaged.json"))
        return Preferences()
    kept = Preferences()
    for name, value in values.items():
        try:
            kept = kept.replace(**{name: value})
        except (Py4DSTEMError, TypeError):  # of another version, or edited by hand
            continue
    return kept


def save(preferences: Preferences) -> None:
    """Write them down in one step, so that a program that dies leaves the old ones.

    Raises
    ------
    StoreError
        The old ones are still there.
    """
    path = folder() / "preferences.json"
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        # Not synchronised, for which the window would have to wait: `load` copes with what is left.
        write_bytes(new, preferences.model_dump_json(indent=1).encode("utf-8"))
        new.replace(path)
    except OSError as error:
        remove(new)
        raise as_store_error(error, path) from error
