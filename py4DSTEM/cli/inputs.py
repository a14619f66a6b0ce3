"""From arguments to opened files and run options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from py4DSTEM.cli.output import quiet, say, stop_token
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.format import RawLayout
from py4DSTEM.stream.options import RunOptions

__all__ = [
    "calibrated",
    "centered",
    "check_output",
    "choose",
    "layout",
    "open_file",
    "open_one",
    "open_scan",
    "run_options",
    "wanted",
]


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

    return open_one(path, options, (Cube,))


def open_one(path: str, options: argparse.Namespace, kinds: tuple[type, ...]) -> Any:
    """The one object of a file that is of one of some types."""
    return choose(open_file(path, options), path, kinds)


def choose(value: Any, path: str, kinds: tuple[type, ...]) -> Any:
    """The one object of some types among what a file holds.

    Raises
    ------
    ParameterError
        There is none, or there are several and ``--dataset`` does not choose.
    """
    if isinstance(value, kinds) and not isinstance(value, dict):
        return value
    if isinstance(value, dict):
        found = {name: v for name, v in value.items() if isinstance(v, kinds)}
        if len(found) == 1:
            return next(iter(found.values()))
        if found or not value:
            names = ", ".join(map(repr, found))
            raise ParameterError(f"{path} holds several data sets: choose with --dataset ({names})")
    raise ParameterError(f"{path} holds no {wanted(kinds)} but {_described(value)}")


def wanted(kinds: tuple[type, ...]) -> str:
    """Types in words."""
    words = {"Cube": "4D scan"}
    return " or ".join(words.get(kind.__name__, kind.__name__) for kind in kinds)


def _described(value: Any) -> str:
    """What a file holds instead."""
    if isinstance(value, dict):
        return ", ".join(f"{name!r} ({type(v).__name__})" for name, v in value.items())
    hint = ""
    if len(getattr(value, "shape", ())) == 3:
        hint = "; if it is a stream of patterns, give --scan-shape ROWS COLUMNS"
    return f"a {type(value).__name__} {getattr(value, 'shape', '')}{hint}"


def calibrated(value: Any, options: argparse.Namespace) -> Any:
    """`value` with what the files of ``--calibration`` hold."""
    for path in options.calibration:
        value = _with_calibration(value, _measured(path))
    return value


def _measured(path: str) -> list[Any]:
    """The measured quantities of a file; the calibration of its objects where there are none."""
    import py4DSTEM
    from py4DSTEM.core.calibration import Calibration, Measured

    found = py4DSTEM.read(path)
    objects = list(found.values()) if isinstance(found, dict) else [found]
    measured = [v for v in objects if isinstance(v, Measured)]
    known = (getattr(v, "calibration", None) for v in objects)
    chosen = measured or [c for c in known if isinstance(c, Calibration)][:1]
    if not chosen:
        raise ParameterError(
            f"--calibration {path} holds nothing that was measured but {_described(found)}"
        )
    return chosen


def _with_calibration(value: Any, known: Sequence[Any], **changes: Any) -> Any:
    if not hasattr(value, "with_calibration"):
        raise ParameterError(f"a {type(value).__name__} takes no --calibration and no --center")
    return value.with_calibration(*known, **changes)


def centered(value: Any, options: argparse.Namespace) -> Any:
    """The scan or the peaks with the origin that was given, or is to be looked for in the scan."""
    if options.center:
        return _with_calibration(value, (), origin_px=tuple(options.center))
    if not options.find_center:
        return value
    from py4DSTEM.core.cube import Cube
    from py4DSTEM.process.beam import find_beam

    if not isinstance(value, Cube):
        raise ParameterError(f"--find-center looks in a 4D scan, not in a {type(value).__name__}")
    beam = find_beam(value)
    say(f"note: beam centre found at ({beam.center[0]:.1f}, {beam.center[1]:.1f}) px")
    return value.with_calibration(origin_px=beam.center, probe_radius_px=beam.radius_px)


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
