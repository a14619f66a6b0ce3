"""``py4dstem run RECIPE INPUT… -o OUT``, and the commands that go on with such a run."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from py4DSTEM.cli import arguments
from py4DSTEM.cli.output import ERROR, Exit, emit, emit_json, human_bytes, quiet, say, stop_token
from py4DSTEM.errors import ParameterError

__all__ = ["parse", "row_of", "run", "run_rows", "setting", "summary_lines"]

USAGE = "py4dstem run RECIPE.toml INPUT… -o OUT [--resume] [-n] [-j N]"
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse(args: Sequence[str]) -> argparse.Namespace:
    """Options of a run."""
    parser = argparse.ArgumentParser(
        prog="py4dstem run", usage=USAGE, allow_abbrev=False,
        description="Run a recipe over files, each isolated in a process of its own. "
        "Exit code 0: all files done, 1: some failed, 130: interrupted.",
    )  # fmt: skip
    arguments.add_run(parser)
    arguments.add_talking(parser)
    return parser.parse_args(args)


def run(options: argparse.Namespace) -> int:
    """Run a recipe."""
    from py4DSTEM.batch.inputs import find_inputs, sample
    from py4DSTEM.batch.runner import with_settings
    from py4DSTEM.recipe.read import read_recipe

    recipe = with_settings(read_recipe(options.recipe), dict(map(setting, options.set)))
    inputs = sample(_inputs(options, recipe, find_inputs), options.limit, spread=options.sample)
    if options.dry_run:
        return _dry(recipe, inputs, options)
    return run_rows(recipe, inputs, Path(options.out), options)


def _inputs(options: argparse.Namespace, recipe: Any, find: Callable[..., Any]) -> Any:
    return find(options.inputs or ([recipe.input.file] if recipe.input.file else []))


def setting(text: str) -> tuple[str, Any]:
    """``step.key=value``, the value as in TOML; what is none is a word.

    >>> setting("bragg.min_spacing=4"), setting("look.kind=mean")
    (('bragg.min_spacing', 4), ('look.kind', 'mean'))
    """
    key, equals, value = text.partition("=")
    if not equals or "." not in key.strip("."):
        raise ParameterError(f"--set is STEP.PARAMETER=VALUE, such as bragg.edge=4, not {text!r}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def seconds(text: str | None) -> float | None:
    """Seconds of ``"90"``, ``"90s"``, ``"5m"`` or ``"2h"``.

    >>> seconds("2h")
    7200.0
    """
    if text is None:
        return None
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz")
    try:
        found = float(number) * _UNITS[text.strip()[len(number) :]]
    except (ValueError, KeyError):
        raise ParameterError(f"--timeout is a time such as 90s, 5m or 2h, not {text!r}") from None
    if not 0 < found < float("inf"):
        raise ParameterError(f"--timeout must be positive, not {text!r}")
    return found


def _settings(options: argparse.Namespace) -> Any:
    from py4DSTEM.batch.runner import RunSettings

    return RunSettings(
        workers=options.workers or 1, memory=options.mem, resume=options.resume,
        force=options.force, again_from=options.from_step or "", fail_fast=options.fail_fast,
        retries=options.retries, timeout_s=seconds(options.timeout), strict=options.strict,
    )  # fmt: skip


# ---- dry run -------------------------------------------------------------------------------------
def _dry(recipe: Any, inputs: Sequence[str], options: argparse.Namespace) -> int:
    from py4DSTEM.batch.dry import counted, dry_run

    planned = dry_run(recipe, inputs, Path(options.out), _settings(options))
    steps = sum(len(plan.steps) for plan in planned)
    if options.json:
        jobs = [{"source": p.source, "steps": list(p.steps), "reason": p.reason} for p in planned]
        emit_json({"dry_run": True, "out": options.out, "jobs": jobs, "steps": steps})
        return Exit.OK
    for plan in planned:
        emit(f"{plan.source}: {len(plan.steps)} steps ({plan.reason})")
    reasons = ", ".join(f"{n} {reason}" for reason, n in list(counted(planned).items())[:5])
    say(f"{len(planned)} files, {steps} steps to compute: {reasons}. Nothing was run.")
    return Exit.OK


# ---- run -----------------------------------------------------------------------------------------
def run_rows(recipe: Any, inputs: Sequence[str], out: Path, options: argparse.Namespace) -> int:
    """Run, say what failed, and choose the exit code."""
    from py4DSTEM.batch.runner import work_on
    from py4DSTEM.stream.options import RunOptions

    with _cluster(options) as client, _patience() as patience:
        summary = work_on(
            recipe, inputs, out, _settings(options),
            RunOptions(progress=_progress(options), cancel=patience), client,
        )  # fmt: skip
    _report(recipe, out)
    for row in summary.failed:
        say(f"failed: {row.source}: {row.cause}: {row.error}", ERROR)
    if options.json:
        rows = [row_of(row) for row in summary.files]
        emit_json({"out": str(out), "files": rows, "interrupted": summary.interrupted,
                   "computed": summary.computed, "seconds": summary.seconds})  # fmt: skip
    else:
        emit(f"{out}: {summary.text()}")
    if summary.interrupted:
        say("stopped after the steps in flight; --resume goes on", ERROR)
        return Exit.INTERRUPTED
    return Exit.SOME_FAILED if len(summary.done) < len(summary.files) else Exit.OK


def _cluster(options: argparse.Namespace) -> Any:
    """The client of ``--cluster``, for a with block."""
    if not options.cluster:
        return nullcontext()
    from py4DSTEM.batch.cluster import open_client

    return open_client(options.cluster, workers=options.workers)


def _report(recipe: Any, out: Path) -> None:
    """The page of a run; a page that cannot be made does not take the results with it."""
    if not recipe.output.report:
        return
    from py4DSTEM.batch.report import write_report

    try:
        say(f"report: {write_report(out)}")
    except Exception as error:
        say(f"note: no report was written: {type(error).__name__}: {error}")


def row_of(row: Any) -> dict[str, Any]:
    """A file of a run for JSON."""
    return {
        "name": row.name, "source": row.source, "state": row.state, "cause": row.cause,
        "error": row.error, "note": row.note, "seconds": row.seconds,
        "rss_bytes": row.rss_bytes, "attempts": row.attempts, "qc": dict(row.qc),
        "steps": [{"name": s.name, "use": s.use, "state": s.state, "seconds": s.seconds,
                   "path": str(s.path), "error": s.error} for s in row.steps],
    }  # fmt: skip


def _progress(options: argparse.Namespace) -> Any:
    kind = options.progress
    if kind == "json":
        return _as_json
    if kind == "plain" or (kind == "auto" and not sys.stderr.isatty() and options.verbose):
        return _as_line
    if kind == "auto" and sys.stderr.isatty() and not quiet():
        return True
    return None


def _as_json(done: int, total: int, label: str) -> None:
    say(json.dumps({"done": done, "total": total, "recipe": label}))


def _as_line(done: int, total: int, label: str) -> None:
    say(f"{label}: {done}/{total} files")


# ---- Ctrl-C --------------------------------------------------------------------------------------
class _Patience:
    """The first Ctrl-C asks to finish the steps in flight, the second ends them."""

    def __init__(self) -> None:
        self.asked = False
        self._stop = stop_token()

    def __call__(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and not self.asked:
            self.asked = True
            say("finishing the steps in flight; Ctrl-C once more ends them", ERROR)
        elif self._stop is not None:
            self._stop(number, frame)
        else:
            raise KeyboardInterrupt

    def is_set(self) -> bool:
        return self.asked or (self._stop is not None and self._stop.is_set())


@contextmanager
def _patience() -> Iterator[_Patience]:
    patience = _Patience()
    if threading.current_thread() is not threading.main_thread():
        yield patience
        return
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    before = None if ignored else signal.signal(signal.SIGINT, patience)
    try:
        yield patience
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def summary_lines(out: str, rows: Sequence[Any], at_work: dict[str, Any]) -> list[str]:
    """A run in a few lines."""
    states: dict[str, int] = {}
    for row in rows:
        states[row.state] = states.get(row.state, 0) + 1
    words = ", ".join(f"{n} {state}" for state, n in sorted(states.items())) or "no files"
    head = f"{out}: {words}" + (f"; process {at_work.get('pid')} is at work" if at_work else "")
    lines = [head]
    for row in rows:
        if row.state in ("running", "failed"):
            steps = [s.name for s in row.steps if s.state in ("running", "failed")]
            spent = "" if row.seconds is None else f" {row.seconds:.1f} s"
            memory = "" if row.rss_bytes is None else f", {human_bytes(row.rss_bytes)}"
            what = f"{row.cause}: {row.error}" if row.error else ", ".join(steps)
            lines.append(f"  {row.state:<8}{row.source}{spent}{memory}  {what}")
    return lines


def stamp() -> str:
    """The time of day."""
    return time.strftime("%H:%M:%S")
