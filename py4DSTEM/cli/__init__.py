"""The command line: ``py4dstem``.

Data goes to stdout, everything said about it to stderr.  Commands live in modules of this package
that are imported only when they run, so that ``--help`` needs no numpy.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from py4DSTEM import __version__
from py4DSTEM.cli import arguments
from py4DSTEM.cli.output import Exit, report_failure, say

__all__ = ["main"]

GUI_MESSAGE = """\
The desktop program is not part of this version yet.
The library is: py4dstem --help lists what the command line does, and
    py4dstem demo
simulates a scan, analyses it and checks itself against the truth."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code (see `Exit`)."""
    parser = _parser()
    args = list(sys.argv[1:] if argv is None else argv)
    if not args:
        say(GUI_MESSAGE)
        return Exit.NO_DISPLAY
    try:
        options, rest = parser.parse_known_args(args)
    except SystemExit as stop:
        return int(stop.code or 0)
    if rest and options.command != "run":
        say(f"py4dstem {options.command}: unknown argument {rest[0]!r}; see --help")
        return Exit.USAGE
    return _run(options, rest)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        command = import_module(f"py4DSTEM.cli.{options.command}")
        return int(command.run(options, rest) if options.command == "run" else command.run(options))
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException as error:
        return report_failure(error, verbose=options.verbose)
    finally:
        signal.signal(signal.SIGTERM, previous)


class Terminated(BaseException):
    """SIGTERM arrived: unwind as for Ctrl-C, so that nothing half-written stays."""


def _terminated(number: int, frame: object) -> None:
    raise Terminated


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="py4dstem",
        description="4D-STEM analysis: open any scan, image it, convert it, check it.",
        epilog="py4dstem COMMAND --help explains a command; py4dstem alone starts the program.",
    )
    parser.add_argument("--version", action="version", version=f"py4DSTEM {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, add) in arguments.COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary, add_help=name != "run"
        )
        command.add_argument("-v", "--verbose", action="count", default=0, help="say more")
        add(command)
    return parser
