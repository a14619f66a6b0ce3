"""Arguments of every command; argparse only, nothing heavy is imported here."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

__all__ = [
    "COMMANDS",
    "SHELLS",
    "add_calibration",
    "add_center",
    "add_output",
    "add_reading",
    "add_run",
    "add_running",
    "add_talking",
]

Adder = Callable[[argparse.ArgumentParser], None]
SHELLS = ("bash", "zsh", "fish")
TEMPLATES = "minimal, first_look, strain, phase, classes, orientation, phases"


def add_talking(parser: argparse.ArgumentParser) -> None:
    """How much is said; every command has these."""
    group = parser.add_argument_group("talking")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    group.add_argument("-q", "--quiet", action="count", default=0, help="say errors only")
    group.add_argument("--log-file", metavar="FILE", help="append everything that is said to it")


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Options of `py4DSTEM.read`."""
    group = parser.add_argument_group("reading")
    group.add_argument("--dataset", metavar="NAME", help="which data set of a file with several")
    group.add_argument(
        "--scan-shape", nargs=2, type=int, metavar=("ROWS", "COLUMNS"), help="of a frame stream"
    )
    group.add_argument("--sync-offset", type=int, default=0, metavar="N", help="frames to skip")
    group.add_argument(
        "--flyback", type=int, default=0, metavar="N", help="frames to skip after each scan row"
    )
    group.add_argument("--format", metavar="NAME", help="instead of recognition by content")
    group.add_argument(
        "--layout",
        metavar="DTYPE:QX,QY[:OFFSET[:GAP]]",
        help="of a raw binary file, e.g. uint16:256,256",
    )
    group.add_argument("--allow-truncated", action="store_true", help="take complete frames only")
    group.add_argument("--allow-external", action="store_true", help="follow links elsewhere")
    group.add_argument(
        "--untrusted", action="store_true", help="open in a process of its own, with limits, first"
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    """Options of `py4DSTEM.RunOptions`."""
    group = parser.add_argument_group("running")
    group.add_argument(
        "-j", "--workers", type=int, metavar="N", help="threads (default: all cores)"
    )
    group.add_argument("--mem", metavar="SIZE", help='memory for tiles, e.g. "2 GB"')
    group.add_argument(
        "--progress",
        choices=("auto", "plain", "none"),
        default="auto",
        help="on stderr; auto: a bar, if that is a terminal",
    )


def add_output(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The file that is written."""
    parser.add_argument(
        "-o", "--out", required=required, metavar="OUT", help="its extension chooses the format"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing output")


def add_center(parser: argparse.ArgumentParser) -> None:
    """Where the unscattered beam is, for files that do not say."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--center", nargs=2, type=float, metavar=("QX", "QY"), help="of the patterns, in pixels"
    )
    where.add_argument("--find-center", action="store_true", help="look for the brightest disk")


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """What earlier steps have measured."""
    parser.add_argument(
        "--calibration", action="append", default=[], metavar="FILE",
        help="apply what was measured (origin, ellipse, pixel size, rotation, probe) and saved in "
        "FILE, or the calibration of what it holds; may be repeated",
    )  # fmt: skip


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE")
    _json(parser)
    parser.add_argument("--tags", action="store_true", help="the file's own metadata tree too")
    parser.add_argument("--deep", action="store_true", help="read one pattern and describe it")
    add_reading(parser)


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument(
        "--checksums", action="store_true", help="read all data, which checks every checksum"
    )
    _json(parser)
    add_reading(parser)
    add_running(parser)


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="IN")
    parser.add_argument("out", metavar="OUT", help="a file, or a folder for several inputs")
    parser.add_argument("--to", metavar="SUFFIX", default=".h5", help="for a folder (.h5)")
    parser.add_argument("--bin", type=int, default=1, metavar="K", help="detector binning")
    parser.add_argument("--bin-scan", type=int, default=1, metavar="K", help="scan binning")
    parser.add_argument(
        "--crop", type=int, nargs=4, metavar=("X0", "X1", "Y0", "Y1"), help="of the scan"
    )
    parser.add_argument(
        "--crop-detector", type=int, nargs=4, metavar=("X0", "X1", "Y0", "Y1"), help="of patterns"
    )
    parser.add_argument("--dtype", metavar="DTYPE", help="e.g. uint16; refused where it would clip")
    parser.add_argument(
        "--chunks", type=int, nargs=4, metavar=("RX", "RY", "QX", "QY"), help="storage chunks"
    )
    parser.add_argument(
        "--compress", metavar="NAME[:LEVEL]", help="gzip, zstd, bitshuffle or none, e.g. zstd:3"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    add_reading(parser)
    add_running(parser)


def _view(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--bf", action="store_true", help="bright field: the direct beam (default)")
    what.add_argument("--adf", nargs=2, type=float, metavar=("INNER", "OUTER"), help="annulus")
    what.add_argument("--disk", type=float, metavar="RADIUS")
    what.add_argument("--mask", metavar="FILE.npy", help="weights of every detector pixel")
    what.add_argument("--mean", action="store_true", help="mean pattern instead of an image")
    what.add_argument("--max", action="store_true", help="maximum pattern instead of an image")
    parser.add_argument("--center", nargs=2, type=float, metavar=("QX", "QY"), help="in pixels")
    parser.add_argument(
        "--units", choices=("px", "mrad", "A^-1", "nm^-1"), default="px", help="of the radii"
    )
    add_output(parser)
    add_reading(parser)
    add_running(parser)


def _run(parser: argparse.ArgumentParser) -> None:
    """For the list of commands; ``run`` makes its own parser from the step."""


def add_run(parser: argparse.ArgumentParser) -> None:
    """Of ``run`` with a recipe."""
    parser.add_argument("recipe", metavar="RECIPE", help="a .toml, or .json, file")
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT",
        help="files, patterns such as 'data/**/*.h5', or URLs (default: [input] file)",
    )  # fmt: skip
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="folder of the run")
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what would be done")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with what is in OUT")
    again.add_argument("--force", action="store_true", help="compute everything again")
    again.add_argument(
        "--from", dest="from_step", metavar="STEP", help="compute STEP and all after it again"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="STEP.PARAMETER=VALUE",
        help="instead of what the recipe says; may be repeated",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="the first N inputs only")
    parser.add_argument("--sample", action="store_true", help="with --limit: N drawn by chance")
    _batch(parser)


def _batch(parser: argparse.ArgumentParser) -> None:
    """Of ``run`` and ``retry``."""
    group = parser.add_argument_group("running")
    group.add_argument("-j", "--workers", type=int, metavar="N", help="files at a time (1)")
    group.add_argument("--mem", metavar="SIZE", help='for all workers together, e.g. "12 GB"')
    group.add_argument("--timeout", metavar="TIME", help="for one file: 90s, 5m or 2h")
    group.add_argument("--retries", type=int, metavar="N", help="after a crash or a timeout")
    group.add_argument("--fail-fast", action="store_true", help="stop after a file has failed")
    group.add_argument("--strict", action="store_true", help="compare inputs by all their bytes")
    group.add_argument(
        "--cluster", metavar="WHERE", help="local, tcp://scheduler:8786 or slurm (Dask)"
    )
    group.add_argument(
        "--progress", choices=("auto", "plain", "json", "none"), default="auto",
        help="on stderr; auto: a bar, if that is a terminal",
    )  # fmt: skip
    _json(parser)


def _a_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", help="folder of a run")


def _status(parser: argparse.ArgumentParser) -> None:
    _a_run(parser)
    parser.add_argument("--watch", action="store_true", help="again and again until it ends")
    _json(parser)


def _retry(parser: argparse.ArgumentParser) -> None:
    _a_run(parser)
    parser.add_argument("--failed", action="store_true", help="not those that were not reached")
    _batch(parser)


def _report(parser: argparse.ArgumentParser) -> None:
    _a_run(parser)
    parser.add_argument("--series", metavar="TABLE.csv",
                        help="file,<parameter (unit)>: adds trends along a parameter")  # fmt: skip
    _json(parser)


def _clean(parser: argparse.ArgumentParser) -> None:
    _a_run(parser)
    parser.add_argument("--temp", action="store_true", help="unfinished folders only")
    _json(parser)


def _recipe(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = _action(actions, "new", "Write a recipe to begin with.")
    new.add_argument("template", nargs="?", default="minimal", metavar="TEMPLATE", help=TEMPLATES)
    new.add_argument(
        "--set", action="append", default=[], metavar="STEP.PARAMETER=VALUE", help="change a value"
    )
    _written(new)
    check = _action(actions, "check", "Say everything that is wrong with recipes.")
    check.add_argument("files", nargs="+", metavar="RECIPE")
    _json(check)
    explain = _action(actions, "explain", "Say what a recipe will do.")
    explain.add_argument("file", metavar="RECIPE")
    explain.add_argument("--for", dest="input", metavar="FILE", help="with its overrides")
    _json(explain)
    _written(_action(actions, "show-schema", "Print the JSON Schema of recipes, for editors."))
    result = _action(actions, "from-result", "Write the recipe that makes a result again.")
    result.add_argument("file", metavar="RESULT")
    _written(result)


def _action(actions: Any, name: str, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=about, description=about)
    return parser


def _written(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", metavar="FILE", help="instead of stdout")
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", default="py4dstem-demo", metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    _json(parser)


def _doctor(parser: argparse.ArgumentParser) -> None:
    _json(parser)
    parser.add_argument("--bundle", metavar="FILE.json", help="write the report to a file")
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


COMMANDS: dict[str, tuple[str, Adder]] = {
    "info": ("Say what files hold, without loading data.", _info),
    "verify": ("Check that files are whole.", _verify),
    "formats": ("List the formats that can be read and written here.", _json),
    "convert": ("Convert scans of any size to another format.", _convert),
    "view": ("Make one virtual image or mean pattern of a scan, or a figure of a result.", _view),
    "run": ("Run a recipe over many files, or one operation on one file.", _run),
    "status": ("Say how far a run is, and what failed.", _status),
    "retry": ("Run the files of a run that failed once more.", _retry),
    "report": ("Write the page and the tables of a run.", _report),
    "clean": ("Remove what runs have left behind.", _clean),
    "recipe": ("Write, check and explain recipes.", _recipe),
    "demo": ("Simulate a scan, analyse it, and check against the truth.", _demo),
    "doctor": ("Describe this installation and machine.", _doctor),
    "completion": ("Print a script that completes commands in a shell.", _completion),
}
