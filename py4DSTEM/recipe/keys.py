"""What a result depends on, as one number: the same key, the same result."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from py4DSTEM.core.parameters import Parameters
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.io.remote import is_url, remote_fingerprint
from py4DSTEM.recipe.model import CALIBRATION, WHERE, Recipe, RecipeStep, all_steps, plain

__all__ = ["StepKeys", "fingerprint", "step_keys"]

_PIECE_BYTES = 1 << 20


def fingerprint(path: str | os.PathLike[str], strict: bool = False) -> str:
    """What tells an input from a changed one, without reading all of it.

    Parameters
    ----------
    path : path
        A file, or a folder (Zarr).
    strict : bool
        Read everything, and leave the time of change out: copies have the same fingerprint.

    Returns
    -------
    str
        Size in bytes, time of change in ns (not if `strict`), and SHA-256 of the first and the last
        MiB (everything, if `strict`); of a folder of names, sizes and times of its files.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if is_url(path):
        return remote_fingerprint(str(path))
    path = Path(path)
    if path.is_dir():
        return _of_folder(path, strict)
    status = path.stat()
    digest = _digest(path, status.st_size, strict)
    when = "" if strict else f":{status.st_mtime_ns}"
    return f"{status.st_size}{when}:{digest}"


def _digest(path: Path, size: int, strict: bool) -> str:
    with open(path, "rb") as file:
        if strict or size <= 2 * _PIECE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(file.read(_PIECE_BYTES))
        file.seek(size - _PIECE_BYTES)
        digest.update(file.read(_PIECE_BYTES))
        return digest.hexdigest()


def _of_folder(folder: Path, strict: bool) -> str:
    total, digest = 0, hashlib.sha256()
    for file in sorted(entry for entry in folder.rglob("*") if entry.is_file()):
        status = file.stat()
        total += status.st_size
        last = _digest(file, status.st_size, True) if strict else str(status.st_mtime_ns)
        digest.update(f"{file.relative_to(folder).as_posix()}\0{status.st_size}\0{last}\0".encode())
    return f"{total}:folder:{digest.hexdigest()}"


class StepKeys:
    """The keys of the steps of a recipe, for any input; what they share is worked out once.

    Parameters
    ----------
    recipe : Recipe
        As `Recipe.for_file` gave it.
    """

    def __init__(self, recipe: Recipe) -> None:
        given = recipe.input.model_dump(
            mode="json", exclude={"file", "brings"}, exclude_defaults=True
        )
        self._reading = _hash(plain(given))
        self._steps = [(step, _hash(_described(step))) for step in recipe.step]

    def of(self, fingerprint: str) -> dict[str, str]:
        """Name of a step → SHA-256 of all that its result depends on."""
        keys: dict[str, str] = {}
        scan = _hash({"input": fingerprint, "reading": self._reading})
        for step, described in self._steps:
            known = {role: _key_of(name, keys) for role, name in _roles(step).items()}
            keys[step.name] = _hash({"step": described, "scan": scan, "needs": known})
            if step.calibrates or step.use == CALIBRATION:
                scan = _hash({"scan": scan, "calibrated by": keys[step.name]})
        return keys


def step_keys(recipe: Recipe, fingerprint: str) -> dict[str, str]:
    """What each result depends on: version of its step, parameters, earlier steps, input.

    Parameters
    ----------
    recipe : Recipe
        As `Recipe.for_file` gave it.
    fingerprint : str
        Of the input.

    Returns
    -------
    dict of str to str
        Name of a step → SHA-256.  A parameter that has its default counts the same whether it is
        written or not; names do not count.

    Examples
    --------
    >>> steps = [RecipeStep(use="fit-lattice", name="a"),
    ...          RecipeStep(use="fit-lattice", name="b", parameters={"robust": True})]
    >>> keys = step_keys(Recipe(step=steps), "1:2:abc")
    >>> keys["a"] == keys["b"]
    True
    """
    return StepKeys(recipe).of(fingerprint)


def _roles(step: RecipeStep) -> dict[str, str]:
    """What the step is made of, by parameter; "": what it is applied to."""
    return {"": step.of, **step.uses} if step.of else dict(step.uses)


def _key_of(name: str, keys: Mapping[str, str]) -> str:
    """The key of a result; "stack/label" is one image of several."""
    if name in keys:
        return keys[name]
    stack, _, label = name.rpartition("/")
    return f"{keys.get(stack, stack)}/{label}"


def _described(step: RecipeStep) -> dict[str, Any]:
    cls = all_steps().get(step.use)
    found: dict[str, Any] = {"use": step.use, "uses": sorted(step.uses), "on": bool(step.of)}
    found["version"] = getattr(cls, "version", 0)
    found["parameters"] = _complete(cls, step)
    if step.where is not None:
        found[WHERE] = plain(step.where)
    found["files"] = {name: _file_state(value) for name, value in _files(step).items()}
    return found


def _complete(cls: Any, step: RecipeStep) -> Any:
    """The parameters with their defaults, as plain values."""
    if cls is None:
        return plain(step.parameters)
    placeholders = {n for n, v in step.parameters.items() if isinstance(v, dict)}
    if not step.uses and not placeholders & set(_files(step)):
        try:
            return step.model().parameters()
        except Py4DSTEMError:
            pass
    given = {n: i.get_default(call_default_factory=True) for n, i in cls.model_fields.items()
             if not i.is_required()}  # fmt: skip
    return {n: _jsonable(v) for n, v in {**given, **step.parameters}.items() if n not in step.uses}


def _jsonable(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Parameters) else plain(value)


def _files(step: RecipeStep) -> dict[str, str]:
    """Files that the step reads, by parameter."""
    found = {}
    for name, value in (*step.parameters.items(), (WHERE, step.where)):
        if isinstance(value, Mapping) and value.keys() == {"file"}:
            found[name] = str(value["file"])
        elif name == "file" and isinstance(value, str):
            found[name] = value
    return found


def _file_state(path: str) -> str:
    try:
        return fingerprint(path)
    except OSError:
        return "missing"


def _hash(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
