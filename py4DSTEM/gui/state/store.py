"""A project in one file: what was chosen as text, results as they are, scans by their paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

import py4DSTEM
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.slices import ArrayResult
from py4DSTEM.errors import CorruptFile, FormatError, ParameterError, Py4DSTEMError
from py4DSTEM.gui.state.project import Layer, Project, Result, Scan
from py4DSTEM.io.store.plain import dumps, loads
from py4DSTEM.io.store.schema import node_of
from py4DSTEM.stream.options import RunOptions

__all__ = [
    "SCHEMA",
    "SUFFIX",
    "Restored",
    "Written",
    "load_project",
    "read_text",
    "save_project",
    "written",
]

SCHEMA = 1
LARGEST = 2_000_000_000
"""Bytes of a scan from memory that are written into the project itself."""
SUFFIX = ".p4d"
_KIND = "py4DSTEM desktop project"
_TEXT = "project"


@dataclass(frozen=True, eq=False)
class Restored:
    """A project as it was saved.

    Parameters
    ----------
    project : Project
    cubes : mapping of str to Cube
        Scans that came from no file, by key.
    missing : mapping of str to str
        Scans whose file is not there, by key, and where it was; their results are.
    notes : tuple of str
        What could not be kept or brought back, in words.
    """

    project: Project
    cubes: Mapping[str, Cube] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Written:
    """A project taken apart: a text, and the values that it speaks of by name."""

    text: str
    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()


# ---- one file ------------------------------------------------------------------------------------
def save_project(
    path: str | PathLike[str],
    project: Project,
    cubes: Mapping[str, Cube] | None = None,
    *,
    options: RunOptions | None = None,
) -> tuple[str, ...]:
    """Write a project to one file, which appears complete or not at all.

    Parameters
    ----------
    path : path
        Usually ``….p4d``; HDF5 in the layout of `py4DSTEM.save`, so that other programs read the
        results.
    project : Project
    cubes : mapping of str to Cube, optional
        Data of the scans by key; those of scans that come from no file are saved too, up to 2 GB.
    options : RunOptions, optional
        Progress and cancel.

    Returns
    -------
    tuple of str
        What could not be kept, in words.

    Raises
    ------
    StoreError
        Nothing was written; what was there before is untouched.
    """
    folder = Path(os.path.abspath(path)).parent
    parts = written(project, cubes or {}, folder=folder)
    raw = np.frombuffer(parts.text.encode("utf-8"), np.uint8)
    py4DSTEM.save(path, {_TEXT: raw, **parts.values}, options=options)
    return parts.notes


def load_project(path: str | PathLike[str]) -> Restored:
    """Read a project; the scans themselves are opened later, by their paths.

    Parameters
    ----------
    path : path

    Returns
    -------
    Restored

    Raises
    ------
    FormatError
        It is no project, is damaged, or was written by a later version.
    """
    found = py4DSTEM.read(path)
    raw = found.get(_TEXT) if isinstance(found, dict) else found
    if not isinstance(raw, ArrayResult) or raw.data.dtype != np.uint8:
        raise FormatError("is no project of the desktop program", path=path, hint="Open it as data")
    text = raw.data.tobytes().decode("utf-8", "replace")
    values = found if isinstance(found, dict) else {}
    return read_text(text, values.__getitem__, path=Path(os.path.abspath(path)))


# ---- text and values -----------------------------------------------------------------------------
def written(project: Project, cubes: Mapping[str, Cube], *, folder: Path | None = None) -> Written:
    """Take a project apart.

    Parameters
    ----------
    project : Project
    cubes : mapping of str to Cube
        Data by key of scan.
    folder : Path, optional
        Paths of scans are also kept relative to this.
    """
    parts = _Parts()
    entries = [parts.scan(scan) for scan in project.scans]
    kept = {
        scan.key: parts.value(f"scans/{scan.key}", cubes[scan.key])
        for scan in project.scans
        if scan.source.path is None and scan.key in cubes and parts.fits(scan, cubes[scan.key])
    }
    document = {
        "kind": _KIND,
        "schema": SCHEMA,
        "version": py4DSTEM.__version__,
        "project": project.model_dump(),
        "values": dict(zip((scan.key for scan in project.scans), entries, strict=True)),
        "cubes": kept,
        "relative": {} if folder is None else _relative(project, folder),
        "notes": parts.notes,
    }
    arrays: dict[str, Any] = {}
    text = dumps(document, arrays)
    values = parts.values | {f"arrays/{name}": array for name, array in arrays.items()}
    return Written(text, values, tuple(parts.notes))


@dataclass
class _Parts:
    """Collects values under names that a file may use."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def scan(self, scan: Scan) -> dict[str, Any]:
        layers = [self._layer(f"layers/{scan.key}/{k}", x) for k, x in enumerate(scan.layers)]
        results = [
            self._kept(f"results/{scan.key}/{k}", result.value, f"the result {result.name!r}")
            for k, result in enumerate(scan.results)
        ]
        return {"layers": layers, "results": results}

    def fits(self, scan: Scan, cube: Cube) -> bool:
        """Whether a scan from memory may be written into the project; it is noted where not."""
        if cube.nbytes > LARGEST:
            self.notes.append(
                f"the scan {scan.name!r} is in no file and too large for the project "
                f"({cube.nbytes / 1e9:.1f} GB): only what was found in it is kept.  Save it as "
                "data first, and open that file"
            )
        return cube.nbytes <= LARGEST

    def _layer(self, name: str, layer: Layer) -> Any:
        value = layer.value
        if isinstance(value, Calibration):
            return {"calibration": value}
        found = self._kept(name, value, f"the measurement {layer.name!r}")
        if value is not None and found is None and hasattr(value, "calibration_changes"):
            return {"changes": dict(value.calibration_changes())}
        return found

    def _kept(self, name: str, value: Any, what: str) -> Any:
        if value is None:
            return None
        try:
            node_of(value)
        except (Py4DSTEMError, TypeError, ValueError) as error:
            self.notes.append(f"{what} could not be kept: {error}")
            return None
        return self.value(name, value)

    def value(self, name: str, value: Any) -> dict[str, Any]:
        self.values[name] = value
        return {"name": name, "bare": isinstance(value, np.ndarray)}


def _relative(project: Project, folder: Path) -> dict[str, str]:
    found = {}
    for scan in project.scans:
        if scan.source.path is not None:
            try:
                found[scan.key] = os.path.relpath(scan.source.path, folder)
            except ValueError:  # on another drive
                continue
    return found


def read_text(text: str, value: Callable[[str], Any], *, path: Path) -> Restored:
    """Put a project together again.

    Parameters
    ----------
    text : str
        As in `Written`.
    value : callable
        Gives the value of a name; a `Py4DSTEMError` or `KeyError` where there is none.
    path : Path
        Of the file with the project.
    """
    notes: list[str] = []
    document = _document(text, value, path)
    try:
        project = Project(**document["project"])
        # Text comes back before values: what is damaged takes away only itself.
        scans = tuple(
            _located(_filled(scan, document["values"].get(scan.key, {}), value, notes),
                     document["relative"].get(scan.key), path.parent)
            for scan in project.scans
        )  # fmt: skip
        cubes = _cubes(document["cubes"], value, notes)
    except (KeyError, TypeError, AttributeError, ParameterError) as error:
        raise CorruptFile(f"the project is damaged: {error}", path=path) from error
    missing = {
        scan.key: scan.source.path
        for scan in scans
        if scan.source.path is not None and not os.path.exists(scan.source.path)
    }
    notes += [
        f"{where} is missing: the scan cannot be shown until it is there again"
        for where in missing.values()
    ]
    earlier = tuple(str(note) for note in document.get("notes", ()))
    return Restored(project.replace(scans=scans), cubes, missing, (*earlier, *notes))


def _cubes(
    entries: Mapping[str, Any], value: Callable[[str], Any], notes: list[str]
) -> dict[str, Cube]:
    found = {}
    for key, entry in entries.items():
        try:
            found[key] = value(entry["name"])
        except (Py4DSTEMError, KeyError) as error:
            notes.append(f"the data of a scan from memory could not be brought back: {error}")
    return found


def _document(text: str, value: Callable[[str], Any], path: Path) -> dict[str, Any]:
    class Arrays(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            found = value(f"arrays/{name}")
            return getattr(found, "data", found)

    try:
        document = loads(text, Arrays())
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptFile(f"the text of the project is damaged: {error}", path=path) from error
    if not isinstance(document, dict) or document.get("kind") != _KIND:
        raise FormatError("is no project of the desktop program", path=path, hint="Open it as data")
    if document.get("schema") != SCHEMA:
        raise FormatError(
            "the project was written by a later version",
            path=path,
            expected=f"schema {SCHEMA}",
            got=document.get("schema"),
            hint="Update py4DSTEM",
        )
    return document


def _filled(
    scan: Scan, entries: Mapping[str, Any], value: Callable[[str], Any], notes: list[str]
) -> Scan:
    """A scan with the values of its layers and results."""

    def filled(known: Any, entry: Any) -> Any:
        if entry is None:
            return known
        if "calibration" in entry:
            return known.replace(value=entry["calibration"])
        if "changes" in entry:
            return known.replace(changes={**entry["changes"], **known.changes})
        try:
            found = value(entry["name"])
        except (Py4DSTEMError, KeyError) as error:
            notes.append(f"{known.name!r} of {scan.name!r} could not be brought back: {error}")
            return known
        return known.replace(value=found.data if entry["bare"] else found)

    def all_of(name: str) -> tuple[Layer | Result, ...]:
        known = getattr(scan, name)
        return tuple(map(filled, known, entries.get(name) or [None] * len(known)))

    return scan.replace(layers=all_of("layers"), results=all_of("results"))


def _located(scan: Scan, relative: str | None, folder: Path) -> Scan:
    """A scan with the path where its file is: beside the project first, as folders are moved."""
    if relative is None:
        return scan
    beside = os.path.abspath(folder / relative)
    if not os.path.exists(beside):
        return scan
    return scan.replace(source=scan.source.replace(path=beside))
