"""From arguments to cubes and run options."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from py4DSTEM.cli.output import say
from py4DSTEM.errors import ParameterError, Py4DSTEMWarning, StoreError
from py4DSTEM.io.format import RawLayout
from py4DSTEM.stream.options import RunOptions

__all__ = ["check_output", "open_file", "open_scan", "run_options", "said_warnings"]


@contextmanager
def said_warnings() -> Iterator[None]:
    """Say the package's warnings as plain lines."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, Py4DSTEMWarning):
            say(f"note: {warning.message}")


def layout(text: str | None) -> RawLayout | None:
    """``uint16:256,256:1024:0`` → RawLayout."""
    if text is None:
        return None
    parts = text.split(":")
    try:
        qx, qy = (int(n) for n in parts[1].split(","))
        offset, gap = (int(parts[k]) if len(parts) > k else 0 for k in (2, 3))
    except (IndexError, ValueError):
        raise ParameterError(
            f"--layout is DTYPE:QX,QY[:OFFSET[:GAP]], e.g. uint16:256,256, not {text!r}"
        ) from None
    return RawLayout(dtype=parts[0], Q_shape=(qx, qy), offset_bytes=offset, gap_bytes=gap)


def open_file(path: str, options: argparse.Namespace) -> Any:
    """Read a file with the reading options of a command."""
    import py4DSTEM

    with said_warnings():
        return py4DSTEM.read(
            path,
            dataset=options.dataset,
            scan_shape=options.scan_shape and tuple(options.scan_shape),
            sync_offset=options.sync_offset,
            format=options.format,
            flyback=options.flyback,
            layout=layout(options.layout),
            allow_truncated=options.allow_truncated,
            allow_external=options.allow_external,
        )


def open_scan(path: str, options: argparse.Namespace) -> Any:
    """The one 4D scan of a file."""
    from py4DSTEM.core.cube import Cube

    value = open_file(path, options)
    if isinstance(value, Cube):
        return value
    if isinstance(value, dict):
        scans = {name: v for name, v in value.items() if isinstance(v, Cube)}
        if len(scans) == 1:
            return next(iter(scans.values()))
        names = ", ".join(map(repr, scans or value))
        raise ParameterError(f"{path} holds several data sets: choose with --dataset ({names})")
    hint = ""
    if len(getattr(value, "shape", ())) == 3:
        hint = "; if it is a stream of patterns, give --scan-shape ROWS COLUMNS"
    raise ParameterError(f"{path} holds no 4D scan but a {value!r}{hint}")


def run_options(options: argparse.Namespace) -> RunOptions:
    """Workers, memory and progress of a command."""
    show = options.progress == "plain" or (options.progress == "auto" and sys.stderr.isatty())
    progress: Any = None
    if show:
        progress = _plain if options.progress == "plain" else True
    return RunOptions(workers=options.workers, memory=options.mem, progress=progress)


def _plain(done: int, total: int, label: str) -> None:
    """A line for every tenth, for logs."""
    step = max(1, total // 10)
    if done % step == 0 or done == total:
        say(f"{label}: {done}/{total} tiles")


def check_output(path: str, *, force: bool) -> Path:
    """An output path that may be written."""
    out = Path(path)
    if out.exists() and not force:
        raise ParameterError(f"{out} exists already: choose another name, or --force replaces it")
    if not out.parent.is_dir():
        raise StoreError("the folder of the output does not exist", path=out)
    return out
