"""What a run would do to each file, and why; nothing is written and no data is read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from py4DSTEM.batch.rundir import (
    FILES,
    RECIPE,
    STEP,
    FileRow,
    RunDirectory,
    folder_name,
    step_folder,
)
from py4DSTEM.batch.runner import RunSettings, steps_again
from py4DSTEM.recipe.keys import StepKeys, fingerprint
from py4DSTEM.recipe.model import Recipe

__all__ = ["Planned", "counted", "dry_run"]


@dataclass(frozen=True)
class Planned:
    """What a run would do to one file.

    Parameters
    ----------
    source : str
    steps : tuple of str
        That would be computed.
    reason : str
        Why, or why not.
    """

    source: str
    steps: tuple[str, ...]
    reason: str


def dry_run(
    recipe: Recipe, inputs: Sequence[str], out: Path, settings: RunSettings
) -> tuple[Planned, ...]:
    """The jobs of a run with the reason of each.

    Parameters
    ----------
    recipe : Recipe
    inputs : sequence of str
        As `find_inputs` gave them.
    out : Path
        The run directory, which need not exist.
    settings : RunSettings
    """
    known = {}
    if (out / RECIPE).is_file():
        known = {row.name: row for row in RunDirectory(out).files()}
    plans = _Plans(recipe, out, settings, known)
    return tuple(plans.of(source) for source in inputs)


def counted(planned: Sequence[Planned]) -> dict[str, int]:
    """How many files there are of each reason, the most frequent first."""
    return dict(Counter(plan.reason for plan in planned).most_common())


class _Plans:
    """What is the same for all files is worked out once."""

    def __init__(
        self, recipe: Recipe, out: Path, settings: RunSettings, known: Mapping[str, FileRow]
    ) -> None:
        self._recipe, self._out, self._known = recipe, out, known
        self._names = tuple(step.name for step in recipe.step)
        self._again = steps_again(recipe, settings)
        self._keys: dict[tuple[int, ...], StepKeys] = {}

    def of(self, source: str) -> Planned:
        row = self._known.get(folder_name(source))
        state = _state_of(source)
        if not state:
            return Planned(source, self._names, "there is no such file: it will fail")
        if row is None or not row.stamp:
            return Planned(source, self._names, "not begun")
        if not _same(source, state, row.stamp):
            return Planned(source, self._names, "the input has changed")
        return self._resumed(source, row)

    def _resumed(self, source: str, row: FileRow) -> Planned:
        keys = self._keys_of(source).of(row.stamp)
        folder = self._out / FILES / row.name
        missing = [n for n in self._names if not _complete(folder / step_folder(n, keys[n]))]
        todo = tuple(n for n in self._names if n in missing or n in self._again)
        if not todo:
            return Planned(source, (), "done")
        before = {step.name: step.key for step in row.steps if step.key}
        changed = [n for n in missing if n in before and before[n] != keys[n]]
        new = [n for n in missing if n not in before]
        if self._again and not missing:
            reason = "asked for again"
        elif changed:
            reason = f"changed: {', '.join(changed)}"
        elif new:
            reason = f"new steps: {', '.join(new)}"
        elif row.state == "failed":
            reason = f"failed before: {row.cause}"
        else:
            reason = f"interrupted before {missing[0]}" if missing else "asked for again"
        return Planned(source, todo, reason)

    def _keys_of(self, source: str) -> StepKeys:
        """Files with the same overrides have the same parameters."""
        which = tuple(k for k, o in enumerate(self._recipe.override) if o.applies(source))
        if which not in self._keys:
            self._keys[which] = StepKeys(self._recipe.for_file(source))
        return self._keys[which]


def _complete(folder: Path) -> bool:
    return os.path.exists(f"{folder}/{STEP}")


def _state_of(source: str) -> str:
    """Size and time as a fingerprint begins; "" if there is no such file."""
    if "://" in source:
        return "remote"
    try:
        status = os.stat(source)
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}:"


def _same(source: str, state: str, stamp: str) -> bool:
    """Whether an input is as it was; small differences in time are not looked behind."""
    if state == "remote":
        return True
    if stamp.startswith(state):
        return True
    if stamp.count(":") == 2 and stamp.split(":")[1] != "folder":
        return False
    return fingerprint(source, strict=stamp.count(":") == 1) == stamp
