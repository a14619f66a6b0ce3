"""``py4dstem convert``: scans of any size from one format to another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from py4DSTEM.cli.inputs import check_output, open_scan, run_options
from py4DSTEM.cli.output import Exit, emit, report_failure
from py4DSTEM.errors import ParameterError


def run(options: argparse.Namespace) -> int:
    """Convert one file to a file, or several into a folder; one failure does not stop the rest."""
    jobs = _jobs(options)
    if len(jobs) == 1:
        _convert(*jobs[0], options)
        return Exit.OK
    failed = 0
    for source, out in jobs:
        try:
            _convert(source, out, options)
        except Exception as error:
            report_failure(error, verbose=options.verbose)
            failed += 1
    return Exit.SOME_FAILED if failed else Exit.OK


def _jobs(options: argparse.Namespace) -> list[tuple[str, Path]]:
    folder = Path(options.out)
    if not folder.is_dir():
        if len(options.files) > 1:
            raise ParameterError(f"{folder} must be an existing folder to take several files")
        return [(options.files[0], check_output(options.out, force=options.force))]
    suffix = options.to if options.to.startswith(".") else f".{options.to}"
    outs = [folder / (Path(f).stem + suffix) for f in options.files]
    if len(set(outs)) != len(outs):
        raise ParameterError("two inputs would be written to the same output: rename one")
    return [
        (f, check_output(str(out), force=options.force))
        for f, out in zip(options.files, outs, strict=True)
    ]


def _convert(source: str, out: Path, options: argparse.Namespace) -> None:
    import py4DSTEM

    cube = _shaped(open_scan(source, options), options)
    py4DSTEM.save(out, cube, options=run_options(options), **_storage(options))
    emit(str(out))


def _shaped(cube: Any, options: argparse.Namespace) -> Any:
    everything = ((None, None), (None, None))
    if options.crop or options.crop_detector:
        cube = cube.crop(
            R=_pairs(options.crop) if options.crop else everything,
            Q=_pairs(options.crop_detector) if options.crop_detector else everything,
        )
    if options.bin > 1 or options.bin_scan > 1:
        cube = cube.bin(R=options.bin_scan, Q=options.bin)
    if options.dtype:
        cube = cube.astype(options.dtype)
    return cube


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
        raise ParameterError(f"a compression level is a whole number, not {text!r}")
    return int(text)


__all__ = ["run"]
