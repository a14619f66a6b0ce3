"""A recipe over many files as it is put together, and its rows as they are shown; no Qt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from py4DSTEM.batch.apart import Observed, Order, observed
from py4DSTEM.batch.dry import Planned, dry_run
from py4DSTEM.batch.inputs import find_inputs
from py4DSTEM.batch.qc import verdicts_of
from py4DSTEM.batch.rundir import FileRow, RunDirectory
from py4DSTEM.batch.runner import RunSettings
from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.machine import size, span
from py4DSTEM.recipe.check import check_recipe
from py4DSTEM.recipe.explain import explained
from py4DSTEM.recipe.problem import Problem
from py4DSTEM.recipe.read import recipe_from_text

__all__ = [
    "Checked",
    "Draft",
    "Line",
    "Watched",
    "checked",
    "line_of",
    "planned_line",
    "results_of",
    "watched",
]

Level = Literal["", "good", "fair", "bad"]
LEVELS: dict[str, Level] = {"ok": "good", "yellow": "fair", "red": "bad"}
_LONGEST_CELL = 200


@dataclass(frozen=True)
class Draft:
    """What would be run.

    Parameters
    ----------
    text : str
        The recipe.
    name, folder : str
        Of its file; "" where it is in none.
    inputs : tuple of str
        Files, patterns, URLs.
    out : str
        Folder of the run.
    workers : int
    memory, cluster : str
        As on the command line; "": none.
    force : bool
        Compute everything again.
    """

    text: str = ""
    name: str = ""
    folder: str = ""
    inputs: tuple[str, ...] = ()
    out: str = ""
    workers: int = 1
    memory: str = ""
    cluster: str = ""
    force: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether the folder holds a run that is gone on with."""
        return bool(self.out) and (Path(self.out) / "run.toml").is_file()

    def settings(self) -> RunSettings:
        """A run that is there is gone on with: what is done and would be the same stays."""
        return RunSettings(
            workers=self.workers,
            memory=self.memory or None,
            resume=self.goes_on and not self.force,
            force=self.force,
        )

    def order(self) -> Order:
        """What a process of its own is told; `ParameterError` where something is missing."""
        if not self.text.strip():
            raise ParameterError("there is no recipe: open one, or take that of the project")
        if not self.inputs:
            raise ParameterError("there are no files: add some, or a pattern such as data/*.h5")
        if not self.out:
            raise ParameterError("there is no folder for the results: choose one")
        recipe_from_text(self.text, self.shown_name, folder=self._folder)
        find_inputs(self.inputs)
        return Order(
            self.text, self.inputs, self.out, self.settings(), self.folder, self.cluster.strip()
        )

    def plan(self) -> tuple[Planned, ...]:
        """What would be done to each file, and why."""
        order = self.order()
        recipe = recipe_from_text(self.text, self.shown_name, folder=self._folder)
        return dry_run(recipe, find_inputs(self.inputs), Path(self.out), order.settings)

    @property
    def shown_name(self) -> str:
        """Of the recipe in messages."""
        return self.name or "recipe.toml"

    @property
    def _folder(self) -> Path | None:
        return Path(self.folder) if self.folder else None


@dataclass(frozen=True)
class Checked:
    """What was found in the text of a recipe.

    Parameters
    ----------
    problems : tuple of Problem
        () where it can be run.
    name : str
        Of the recipe, for messages.
    words : str
        What it does; "" where it cannot be run.
    """

    problems: tuple[Problem, ...]
    name: str
    words: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """The problems as ``file:line: …``."""
        return tuple(problem.text(self.name) for problem in self.problems)


def checked(draft: Draft) -> Checked:
    """What is wrong with the recipe, or what it does; takes too long for the GUI thread."""
    folder = Path(draft.folder) if draft.folder else None
    problems = check_recipe(draft.text, draft.shown_name, folder=folder)
    if problems:
        return Checked(problems, draft.shown_name)
    recipe = recipe_from_text(draft.text, draft.shown_name, folder=folder)
    return Checked((), draft.shown_name, explained(recipe))


# ---- rows ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Line:
    """A row of the table.

    Parameters
    ----------
    source : str
        The input.
    cells : tuple of str
        State with its sign, file, step or steps, time, memory, note.
    level : str
        ``"good"``, ``"fair"``, ``"bad"``, or "" where there is nothing to judge yet.
    tip : str
        All that is known, for who looks closer.
    name : str
        Of its folder in the run; "" before there is one.
    """

    source: str
    cells: tuple[str, ...]
    level: Level
    tip: str
    name: str = ""


_SIGNS = {"done": "✔", "failed": "✘", "running": "▶", "waiting": "…"}


def line_of(row: FileRow) -> Line:
    """A file of a run."""
    beyond = [v for v in verdicts_of(row.qc) if v.level != "ok"]
    level = _level(row)
    sign = "▲" if row.state == "done" and beyond else _SIGNS[row.state]
    error = row.error.removeprefix(f"{row.source}: ")
    note = "; ".join(filter(None, (error, *(v.message for v in beyond), row.note)))
    cells = (
        f"{sign} {row.state}",
        os.path.basename(row.source.rstrip("/")) or row.source,
        _step_words(row),
        "" if row.seconds is None else span(row.seconds),
        "" if row.rss_bytes is None else size(row.rss_bytes),
        _one_line(f"{row.cause}: {note}" if row.cause else note),
    )
    tries = f"tried {row.attempts} times" if row.attempts > 1 else ""
    host = f"on {row.host}" if row.host else ""
    tip = "\n".join(filter(None, (row.source, row.state, row.cause, note, tries, host)))
    return Line(row.source, cells, level, tip, row.name)


def _level(row: FileRow) -> Level:
    if row.state == "failed":
        return "bad"
    return LEVELS.get(str(row.qc.get("level", "ok")), "good") if row.state == "done" else ""


def _step_words(row: FileRow) -> str:
    """The step in flight, or how many are done."""
    names = [step.name for step in row.steps if step.state == "running"]
    done = [step for step in row.steps if step.state == "done"]
    count = f"{len(done)} of {len(row.steps)}"
    return ", ".join(names) if row.state == "running" and names else count


def planned_line(plan: Planned) -> Line:
    """A file of a dry run."""
    steps = ", ".join(plan.steps) or "nothing"
    state = "… to do" if plan.steps else "✔ done"
    missing = "no such file" in plan.reason
    name = os.path.basename(plan.source.rstrip("/")) or plan.source
    cells = ("✘ missing" if missing else state, name, _one_line(steps), "", "", plan.reason)
    level: Level = "bad" if missing else ("" if plan.steps else "good")
    return Line(plan.source, cells, level, f"{plan.source}\n{plan.reason}\nto compute: {steps}")


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST_CELL else f"{words[: _LONGEST_CELL - 1]}…"


@dataclass(frozen=True, eq=False)
class Watched:
    """A run as it is shown; made off the GUI thread, as there may be thousands of files.

    Parameters
    ----------
    out : str
        Its folder.
    lines : tuple of Line
        One per file.
    words : str
        All in a sentence.
    ended : int
        Files that had their turn.
    failed : tuple of str
        Inputs that went wrong.
    at_work : bool
        Whether a process works on it.
    """

    out: str
    lines: tuple[Line, ...]
    words: str
    ended: int
    failed: tuple[str, ...]
    at_work: bool


def watched(out: str) -> Watched | None:
    """The run in a folder as it is now; None while there is none."""
    if not (Path(out) / "run.toml").is_file():
        return None
    seen = observed(out)
    lines = tuple(map(line_of, seen.rows))
    return Watched(
        out, lines, _summary(seen, lines), seen.ended, seen.sources("failed"), bool(seen.owner)
    )


def _summary(seen: Observed, lines: Sequence[Line]) -> str:
    """
    >>> _summary(Observed(Path("out"), (), {}), ())
    'no files'
    """
    words = [f"{n} {state}" for state, n in seen.counts.items() if n]
    doubtful = sum(line.level != "good" for line in lines if line.cells[0].endswith("done"))
    words += [f"{doubtful} beyond the quality limits"] if doubtful else []
    who = f"; at work on {seen.owner.get('host') or 'this machine'}" if seen.owner else ""
    return (", ".join(words) or "no files") + who


def results_of(out: str, name: str) -> dict[str, tuple[str, Any]]:
    """Step → (file, result) of one input of a run; scans are left to be opened by their files."""
    directory = RunDirectory(out)
    row = next((row for row in directory.files() if row.name == name), None)
    if row is None:
        raise ParameterError(f"the run in {out} has no file {name!r} any more")
    paths = {step.name: str(step.path / "result.h5") for step in row.steps}
    found = directory.results(row).items()
    return {step: (paths[step], value) for step, value in found if not isinstance(value, Cube)}
