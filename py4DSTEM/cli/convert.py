"""``py4dstem convert``: scans of any size from one format to another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from py4DSTEM.cli.inputs import check_output, open_scan, run_options
from py4DSTEM.cli.output import Exit, emit, report_failure, say
from py4DSTEM.errors import ParameterError


def run(options: argparse.Namespace) -> int:
    """Convert one file to a file, or several into a folder; one failure does not stop the rest."""
    if not Path(options.out).is_dir():
        _convert(_only_input(options), Path(options.out), options)
        return Exit.OK
    jobs = _jobs(options)
    failed = 0
    for source, out in jobs:
        try:
            _convert(source, out, options)
        except Exception as error:
            report_failure(error, verbose=options.verbose)
            failed += 1
    if failed:
        say(f"{failed} of {len(jobs)} files could not be converted")
    return Exit.SOME_FAILED if failed else Exit.OK


def _only_input(options: argparse.Namespace) -> str:
    if len(options.files) > 1:
        raise ParameterError(
            f"{options.out} is not an existing folder: several files are converted into a folder; "
            "create it first"
        )
    return str(options.files[0])


def _jobs(options: argparse.Namespace) -> list[tuple[str, Path]]:
    """Inputs and outputs, checked as far as possible before any work is done."""
    folder = Path(options.out)
    suffix = options.to if options.to.startswith(".") else f".{options.to}"
    outs = [folder / (Path(f).stem + suffix) for f in options.files]
    if len(set(outs)) != len(outs):
        raise ParameterError("two inputs would be written to the same output: rename one")
    return list(zip(options.files, outs, strict=True))


def _convert(source: str, out: Path, options: argparse.Namespace) -> None:
    import py4DSTEM

    check_output(str(out), force=options.force, source=source)
    cube = _shaped(open_scan(source, options), options)
    py4DSTEM.save(out, cube, options=run_options(options), **_storage(options))
    emit(str(out))


def _shaped(cube: Any, options: argparse.Namespace) -> Any:
    """The part of the scan, the binning and the type that were asked for; lazy."""
    everything = ((None, None), (None, None))
    if options.crop or options.crop_detector:
        cube = cube.crop(
            R=_pairs(options.crop) if options.crop else everything,
            Q=_pairs(options.crop_detector) if options.crop_detector else everything,
        )
    if options.bin != 1 or options.bin_scan != 1:
        cube = cube.bin(R=options.bin_scan, Q=options.bin)
    return cube.astype(_dtype(options.dtype)) if options.dtype else cube


def _dtype(name: str) -> Any:
    import numpy as np

    try:
        return np.dtype(name)
    except (TypeError, ValueError):
        raise ParameterError(
            f"--dtype {name!r} is no number type: use uint8, uint16, uint32, int32, float32 …"
        ) from None


def _pairs(bounds: list[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    x0, x1, y0, y1 = bounds
    return (x0, x1), (y0, y1)


def _storage(options: argparse.Namespace) -> dict[str, Any]:
    """Storage options that were given, for `save`."""
    given: dict[str, Any] = {}
    if options.chunks:
        given["chunks"] = tuple(options.chunks)
    if options.compress:
        name, _, level = options.compress.partition(":")
        given["compression"] = name
        if level:
            given["level"] = _level(level)
    return given


def _level(text: str) -> int:
    if not text.isdigit():
        raise ParameterError(f"a compression level is a whole number, as in zstd:3, not {text!r}")
    return int(text)


__all__ = ["run"]
