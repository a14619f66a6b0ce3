"""``py4dstem formats``: what can be read and written here."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from py4DSTEM.cli.output import Exit, emit, emit_json


def run(options: argparse.Namespace) -> int:
    """List formats, with what an extra would add."""
    import py4DSTEM

    table = py4DSTEM.formats()
    if options.json:
        emit_json({"formats": [asdict(row) for row in table]})
        return Exit.OK
    for row in table:
        state = "" if row.available else f"   (pip install {row.install})"
        marks = ("r" if row.reads else "-") + ("w" if row.writes else "-")
        emit(f"{marks}  {row.name:<16} {row.title:<44} {' '.join(row.extensions)}{state}")
    return Exit.OK
