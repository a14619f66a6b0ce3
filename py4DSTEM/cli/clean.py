"""``py4dstem clean OUT``: remove what runs have left behind."""

from __future__ import annotations

import argparse

from py4DSTEM.cli.output import Exit, emit, emit_json, human_bytes

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Remove unfinished folders, and results that no step of the recipe has any more."""
    from py4DSTEM.batch.clean import clean

    removed, freed = clean(options.out, temporary_only=options.temp)
    if options.json:
        emit_json({"out": options.out, "removed": [str(p) for p in removed], "bytes": freed})
        return Exit.OK
    for path in removed:
        emit(str(path))
    emit(f"{options.out}: {len(removed)} removed, {human_bytes(freed)} freed")
    return Exit.OK
