"""The command line: ``py4dstem``.

Data goes to stdout, everything said about it to stderr.  Commands live in modules of this package
that are imported only when they run, so that ``--help`` needs no numpy.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from py4DSTEM import __version__
from py4DSTEM.cli import arguments
from py4DSTEM.cli.output import Exit, emit, report_failure, stoppable, talking

__all__ = ["main"]

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code (see `Exit`)."""
    args = list(sys.argv[1:] if argv is None else argv)
    if _for_the_program(args):
        shown = args[1:] if args[:1] == ["gui"] else args
        return int(import_module("py4DSTEM.gui.launch").main(shown))
    try:
        if args[0] == "run":  # its arguments are the parameters of an operation
            name = import_module("py4DSTEM.cli.run").which(args[1:])
            return _guarded(lambda: import_module(f"py4DSTEM.cli.{name}").parse(args[1:]), name)
        return _guarded(lambda: _parser().parse_args(args))
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        return Exit.OK


def _for_the_program(args: Sequence[str]) -> bool:
    """Whether the windows are meant: no arguments, ``gui``, or files in place of a command."""
    if not args or args[0] == "gui":
        return True
    return args[0] not in arguments.COMMANDS and os.path.exists(args[0])


def _guarded(parse: Callable[[], argparse.Namespace], name: str = "") -> int:
    """Parse and run, and turn whatever ends it into an exit code."""
    with _stopping():
        try:
            options = parse()
        except SystemExit as stop:  # --help, or a mistake that argparse has explained
            return int(stop.code or 0)
        except BaseException as error:
            return report_failure(error)
        return _run(options, name or options.command)


def _run(options: argparse.Namespace, name: str) -> int:
    try:
        command: Command = import_module(f"py4DSTEM.cli.{name}").run
        with talking(options.verbose - options.quiet, options.log_file):
            code = int(command(options))
            emit(None)  # flushed here, where a closed pipe can still be told apart
            return code
    except BrokenPipeError:
        raise
    except BaseException as error:
        return report_failure(error, verbose=options.verbose)


@contextmanager
def _stopping() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the work in the same way, so that nothing half-written stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with stoppable() as stop:
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) in _OURS]
        previous = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


_OURS = (signal.SIG_DFL, signal.default_int_handler)
"""Handlers that are replaced: what ignores signals, as under ``nohup``, goes on ignoring them."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="py4dstem",
        description="4D-STEM analysis: open any scan, image it, convert it, check it.",
        epilog="py4dstem COMMAND --help explains a command; py4dstem [FILE…], or py4dstem gui "
        "[FILE…], opens the desktop program.",
    )
    parser.add_argument("--version", action="version", version=f"py4DSTEM {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, add) in arguments.COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        add(command)
        arguments.add_talking(command)
    return parser
