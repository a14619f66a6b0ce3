"""From arguments to opened files and run options."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from py4DSTEM.cli.output import quiet, say, stop_token
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.format import RawLayout
from py4DSTEM.stream.options import RunOptions

__all__ = ["centered", "check_output", "layout", "open_file", "open_scan", "run_options"]


def layout(text: str | None) -> RawLayout | None:
    """
    >>> layout("uint16:256,128:1024").Q_shape
    (256, 128)
    """
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
        untrusted=options.untrusted,
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
    what = f"{type(value).__name__} {getattr(value, 'shape', '')}"
    raise ParameterError(f"{path} holds no 4D scan but a {what}{hint}")


def centered(cube: Any, options: argparse.Namespace) -> Any:
    """The scan with the origin that was given or is to be looked for."""
    if options.center:
        return cube.with_calibration(origin_px=tuple(options.center))
    if not options.find_center:
        return cube
    from py4DSTEM.process.beam import find_beam

    beam = find_beam(cube)
    say(f"note: beam centre found at ({beam.center[0]:.1f}, {beam.center[1]:.1f}) px")
    return cube.with_calibration(origin_px=beam.center, probe_radius_px=beam.radius_px)


def run_options(options: argparse.Namespace) -> RunOptions:
    """Workers, memory and progress of a command."""
    auto = options.progress == "auto" and sys.stderr.isatty()
    progress: Any = None
    if options.progress == "plain":
        progress = _plain
    elif auto and not quiet():
        progress = True
    return RunOptions(
        workers=options.workers, memory=options.mem, progress=progress, cancel=stop_token()
    )


def _plain(done: int, total: int, label: str) -> None:
    """A line for every tenth, for logs."""
    step = max(1, total // 10)
    if done % step == 0 or done == total:
        say(f"{label}: {done}/{total} tiles")


def check_output(path: str, *, force: bool, source: str | None = None) -> Path:
    """An output path that may be written."""
    out = Path(path)
    if out.is_dir():
        raise ParameterError(f"{out} is a folder: name a file, such as {out / 'result.h5'}")
    if not out.parent.is_dir():
        raise ParameterError(f"the folder {out.parent} of {out.name} does not exist: create it")
    if source is not None and _same(source, out):
        raise ParameterError(f"{out} is the input itself: choose another name")
    if out.exists() and not force:
        raise ParameterError(f"{out} exists already: choose another name, or --force replaces it")
    return out


def _same(source: str, out: Path) -> bool:
    try:
        return os.path.samefile(source, out)
    except OSError:
        return False
