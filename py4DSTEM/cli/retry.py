"""``py4dstem retry OUT``: the files of a run that failed, or were not reached, once more."""

from __future__ import annotations

import argparse

from py4DSTEM.cli.batch import run_rows
from py4DSTEM.cli.output import Exit, emit

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Run them with the recipe of the run."""
    from py4DSTEM.batch.rundir import RunDirectory

    directory = RunDirectory(options.out)
    states = ("failed",) if options.failed else ("failed", "waiting", "running")
    sources = [row.source for row in directory.files() if row.state in states]
    if not sources:
        emit(f"{options.out}: nothing to do again")
        return Exit.OK
    options.resume, options.force, options.from_step = True, False, ""
    return run_rows(directory.recipe, sources, directory.path, options)
