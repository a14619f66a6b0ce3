"""The folder of a run, as it is read: by ``status``, the report, and people."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from py4DSTEM.batch.state import FileRow, StepRow, read_rows
from py4DSTEM.errors import CorruptFile, ParameterError

if TYPE_CHECKING:
    from py4DSTEM.recipe.model import Recipe

__all__ = ["FileRow", "Results", "RunDirectory", "StepRow", "folder_name", "step_folder"]

RECIPE, STATE, FILES, RESULT, STEP = "run.toml", "state.sqlite", "files", "result.h5", "step.json"


def folder_name(source: str) -> str:
    """``<name>-<hash8>`` of an input: readable, and different for files of one name.

    >>> folder_name("s3://bucket/a b.h5")
    'a_b.h5-d4097580'
    """
    place = source if "://" in source else os.path.abspath(source)
    digits = hashlib.sha256(os.fsencode(place)).hexdigest()[:8]
    name = re.sub(r"[^\w.+-]", "_", os.path.basename(place.rstrip("/"))).strip(".") or "input"
    return f"{os.fsencode(name)[:100].decode('utf-8', 'ignore')}-{digits}"


def step_folder(name: str, key: str) -> str:
    """Folder of a step below that of its file; another key is another folder."""
    return f"{re.sub(r'[^A-Za-z0-9_.+-]', '_', name)[:60]}-{key[:8]}"


class RunDirectory:
    """What a run has left in its folder, while it works or afterwards.

    Parameters
    ----------
    path : path
        As given to ``run -o``.

    Raises
    ------
    ParameterError
        The folder holds no run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not (self.path / RECIPE).is_file():
            raise ParameterError(
                f"{self.path} holds no run: name the folder that was given to run -o"
            )

    @cached_property
    def recipe_text(self) -> str:
        """``run.toml``: the recipe as it ran."""
        return (self.path / RECIPE).read_text(encoding="utf-8")

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe as it ran."""
        from py4DSTEM.recipe.read import read_recipe

        return read_recipe(self.path / RECIPE)

    def files(self) -> tuple[FileRow, ...]:
        """One row per input, in the order in which they were given; as of now."""
        if not (self.path / STATE).is_file():
            return ()
        return read_rows(self.path / STATE, self.path)

    def folder(self, file: FileRow) -> Path:
        """Where everything about one input is."""
        return self.path / FILES / file.name

    def results(self, file: FileRow) -> Results:
        """Step name → result of the steps that are done; each is read when it is asked for."""
        return Results({step.name: step.path for step in file.steps if step.state == "done"})

    def step_record(self, step: StepRow) -> dict[str, Any]:
        """``step.json``: versions, parameters, input, times, host, warnings of a step."""
        try:
            found = json.loads((step.path / STEP).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CorruptFile("the record of a step cannot be read", path=step.path / STEP,
                              hint="Run again with --resume") from error  # fmt: skip
        return dict(found)


class Results(Mapping[str, Any]):
    """Results by name, read from their files when asked for; nothing is kept."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = {n: f for n, f in folders.items() if (f / RESULT).is_file()}

    def __getitem__(self, name: str) -> Any:
        import py4DSTEM

        return py4DSTEM.read(self._folders[name] / RESULT)

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)
