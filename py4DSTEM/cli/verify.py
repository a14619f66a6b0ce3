"""``py4dstem verify``: are files whole?"""

from __future__ import annotations

import argparse
from typing import Any

from py4DSTEM.cli.inputs import open_file, run_options
from py4DSTEM.cli.output import Exit, emit, emit_json, exit_code


def run(options: argparse.Namespace) -> int:
    """Check every file; exit 3 if one is damaged."""
    results = [_check(path, options) for path in options.files]
    if options.json:
        emit_json({"files": results})
    else:
        for result in results:
            emit(f"{result['path']}: {result['verdict']}")
    codes = {Exit(result["code"]) for result in results}
    bad = codes - {Exit.OK}
    if not bad:
        return Exit.OK
    return Exit.DAMAGED if Exit.DAMAGED in bad else bad.pop()


def _check(path: str, options: argparse.Namespace) -> dict[str, Any]:
    try:
        value = open_file(path, options)
        read = _read_through(value, options) if options.checksums else 0
    except Exception as error:
        return {"path": path, "verdict": f"damaged: {error}", "code": int(exit_code(error))}
    verdict = f"whole ({read} patterns read)" if options.checksums else "structure is sound"
    return {"path": path, "verdict": verdict, "code": int(Exit.OK)}


def _read_through(value: Any, options: argparse.Namespace) -> int:
    """Read every pattern, which makes every reader check what it can; returns how many."""
    from py4DSTEM.core.cube import Cube
    from py4DSTEM.stream.engine import stream_tiles

    objects = value.values() if isinstance(value, dict) else [value]
    count = 0
    for obj in objects:
        if isinstance(obj, Cube):
            tiles = stream_tiles(
                obj, lambda tile: len(tile.frames), options=run_options(options), label="verify"
            )
            count += sum(n for _, n in tiles)
    return count
