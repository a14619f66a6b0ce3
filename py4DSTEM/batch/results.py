"""The folder of one step: written whole or not at all."""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from py4DSTEM import __version__
from py4DSTEM.batch.overview import PREVIEW
from py4DSTEM.batch.previews import write_preview
from py4DSTEM.batch.provenance import facts
from py4DSTEM.batch.rundir import RESULT, STEP, step_folder
from py4DSTEM.io.store import atomic
from py4DSTEM.stream.options import RunOptions

__all__ = ["Made", "complete", "load", "store"]

LOG = "log.jsonl"


@dataclass(frozen=True)
class Made:
    """What is known about a step that has just run.

    Parameters
    ----------
    name, key : str
    value : object
        Its result; None where it is not worth a file: what is given, or the input itself, which
        are there again in no time.
    record : mapping
        For ``step.json``.
    log : sequence of mapping
        Lines of ``log.jsonl``.
    preview : bool
        Whether people will look: a picture takes longer than many a step.
    options : RunOptions, optional
        Workers and memory, for a result that is a scan: it is written tile by tile.
    """

    name: str
    key: str
    value: Any
    record: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    preview: bool = True
    options: RunOptions | None = None


def complete(folder: Path, name: str, key: str) -> bool:
    """Whether a step is done: its record is written last and arrives with the whole folder."""
    return (folder / step_folder(name, key) / STEP).is_file()


def store(folder: Path, made: Made) -> Path:
    """Write the folder of a step below that of its file; what was there is replaced."""
    target = folder / step_folder(made.name, made.key)
    part = atomic.part_name(target)
    try:
        part.mkdir()
        _write(part, made)
        for entry in part.iterdir():
            atomic.sync_file(entry)
        atomic.sync_folder(part)
        _put(part, target)
    except OSError as error:
        atomic.remove(part)
        raise atomic.as_store_error(error, target) from error
    except BaseException:
        atomic.remove(part)
        raise
    return target


def _write(part: Path, made: Made) -> None:
    import py4DSTEM

    kept = made.value is not None
    if kept:
        py4DSTEM.save(part / RESULT, made.value, options=made.options)
        if made.preview:
            write_preview(made.value, part / PREVIEW)
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in made.log)
    record = {"result": RESULT if kept else None, **made.record, **environment()}
    record = facts(made.value) | record
    atomic.write_bytes(part / LOG, lines.encode())
    text = json.dumps(record, ensure_ascii=False, indent=1, default=str)
    atomic.write_bytes(part / STEP, text.encode())


def _put(part: Path, target: Path) -> None:
    if target.exists():  # folders cannot be exchanged in one step; the key says they are equal
        aside = atomic.part_name(target)
        atomic.rename(target, aside)
        atomic.rename(part, target)
        atomic.remove(aside)
    else:
        atomic.rename(part, target)
    atomic.sync_folder(target.parent)


def load(folder: Path, name: str, key: str) -> Any:
    """The result of a step that is done."""
    import py4DSTEM

    return py4DSTEM.read(folder / step_folder(name, key) / RESULT)


def environment() -> dict[str, Any]:
    """Where and with what something was computed."""
    import numpy as np

    return {
        "package": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.platform(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
