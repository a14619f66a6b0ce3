"""``py4dstem report OUT``: the page and the tables of a run."""

from __future__ import annotations

import argparse

from py4DSTEM.cli.output import Exit, emit, emit_json

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Write them, and say where the page is."""
    from py4DSTEM.batch.report import write_report
    from py4DSTEM.batch.series import Series

    series = None if options.series is None else Series.from_csv(options.series)
    page = write_report(options.out, series=series)
    if options.json:
        emit_json({"out": options.out, "report": str(page)})
    else:
        emit(str(page))
    return Exit.OK
