"""``py4dstem verify``: are files whole?"""

from __future__ import annotations

import argparse
from typing import Any

from py4DSTEM.cli.inputs import open_file, run_options
from py4DSTEM.cli.output import Exit, emit, emit_json, exit_code

WORDS = {
    Exit.USAGE: "cannot be checked",
    Exit.DAMAGED: "damaged",
    Exit.RESOURCES: "too large to be checked here",
    Exit.BUG: "the check failed",
}
WORST = (Exit.BUG, Exit.DAMAGED, Exit.RESOURCES, Exit.USAGE)


def run(options: argparse.Namespace) -> int:
    """Check every file; exit 3 if one is damaged."""
    results = [_check(path, options) for path in options.files]
    if options.json:
        emit_json({"files": results})
    else:
        for result in results:
            emit(f"{result['path']}: {result['verdict']}")
    codes = {result["code"] for result in results}
    return next((code for code in WORST if code in codes), Exit.OK)


def _check(path: str, options: argparse.Namespace) -> dict[str, Any]:
    try:
        value = open_file(path, options)
        read = _read_through(value, options) if options.checksums else None
    except Exception as error:
        code = exit_code(error)
        return _result(path, f"{WORDS.get(code, 'failed')}: {error}", code, None)
    if read is None:
        return _result(path, "structure is sound", Exit.OK, None)
    return _result(path, f"whole ({read} patterns read)", Exit.OK, read)


def _result(path: str, verdict: str, code: int, read: int | None) -> dict[str, Any]:
    return {
        "path": path,
        "ok": code == Exit.OK,
        "verdict": verdict,
        "code": int(code),
        "patterns_read": read,
    }


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
