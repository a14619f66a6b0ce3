"""``py4dstem status OUT``: how far a run is."""

from __future__ import annotations

import argparse
import time

from py4DSTEM.cli.batch import row_of, stamp, summary_lines
from py4DSTEM.cli.output import Exit, emit, emit_json

__all__ = ["run"]

WATCH_S = 2.0


def run(options: argparse.Namespace) -> int:
    """Show the rows once, or until the run ends; 1 if files have failed."""
    from py4DSTEM.batch.lock import owner
    from py4DSTEM.batch.rundir import RunDirectory

    directory = RunDirectory(options.out)
    while True:
        at_work, rows = owner(directory.path), directory.files()
        if options.json:
            files = [row_of(row) for row in rows]
            emit_json({"out": options.out, "at_work": at_work or None, "files": files})
        else:
            lines = summary_lines(options.out, rows, at_work)
            emit("\n".join([f"{stamp()} {lines[0]}", *lines[1:]] if options.watch else lines))
        emit(None)
        if not (options.watch and at_work):
            break
        time.sleep(WATCH_S)
    return Exit.SOME_FAILED if any(row.state == "failed" for row in rows) else Exit.OK
