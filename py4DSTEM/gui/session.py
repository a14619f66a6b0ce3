"""The running program without its windows: the project, the open data, and the work on it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyqtgraph.Qt import QtCore

from py4DSTEM.api import DataCube, read
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import (
    FormatError,
    ParameterError,
    Py4DSTEMError,
    Py4DSTEMWarning,
    UnknownFormat,
)
from py4DSTEM.gui.jobs.queue import Job, Jobs
from py4DSTEM.gui.stage import Stage
from py4DSTEM.gui.state.command import Command
from py4DSTEM.gui.state.commands import AddResult, AddScan, CloseScan
from py4DSTEM.gui.state.project import DetectorEntry, Layer, Made, Project, Result, Scan, Source
from py4DSTEM.gui.state.undo import Undo
from py4DSTEM.io.scan import doubts
from py4DSTEM.process.live.scan import FirstLook, LiveScan
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.loading import loaded
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.step import Described

__all__ = ["OpenScan", "Session"]


@dataclass(frozen=True, eq=False)
class OpenScan:
    """The data of one scan: as the file has it, what was seen first, and what is kept of it."""

    cube: Cube
    live: LiveScan
    first: FirstLook


class Session(QtCore.QObject):
    """Owns the project, the open data and the jobs; windows and panels are its guests.

    Everything that changes the project goes through `do`.
    """

    changed = QtCore.Signal(object, object)
    """(project before, project after)"""
    opened = QtCore.Signal(str)
    """Key of a scan whose data have just been opened."""
    settled = QtCore.Signal()
    """A drag has ended where it was: nothing has changed since its last move."""
    troubled = QtCore.Signal(str, object)
    """(what was being done, the error): to be shown to the user."""
    said = QtCore.Signal(str)
    """A line for the status bar."""
    panelWanted = QtCore.Signal(str)
    """Name of a panel (of `panels.PANELS`) that another panel asks to be opened."""
    importWanted = QtCore.Signal(str, str)
    """(path, why): a file that does not open by itself, or whose scan shape is only a guess."""
    rawChanged = QtCore.Signal(bool)
    """Whether pictures are shown as the file has them, without the calibrations on top."""

    def __init__(self, *, workers: int | None = None, parent: Any = None) -> None:
        super().__init__(parent)
        self.cache_options: dict[str, Any] = {}
        """Of `LiveScan`, for scans opened from now on: ``memory_bytes``, ``folder``."""
        self._undo = Undo()
        self._open: dict[str, OpenScan] = {}
        self._calibrations: dict[str, tuple[Any, Any, Any]] = {}
        self._counter = 0
        self._raw = False
        self.jobs = Jobs(workers, self)
        self.stage = Stage(self)

    # ---- the project -----------------------------------------------------------------------------
    @property
    def project(self) -> Project:
        """The project as it is now."""
        return self._undo.project

    @property
    def history(self) -> Undo:
        """What can be undone and done again."""
        return self._undo

    def do(self, command: Command) -> bool:
        """Act; an act that makes no sense is said and changes nothing."""
        before = self.project
        done = self._step(lambda: self._undo.do(command), command.label())
        if done and self.project is before and getattr(command, "settled", False):
            self.settled.emit()
        return done

    def undo(self) -> None:
        """Take the last act back."""
        self._step(self._undo.undo, "undo")

    def redo(self) -> None:
        """Do again what was taken back."""
        self._step(self._undo.redo, "redo")

    def _step(self, step: Callable[[], Project], doing: str) -> bool:
        before = self.project
        try:
            after = step()
        except Py4DSTEMError as error:
            self.troubled.emit(doing, error)
            return False
        if after is not before:
            self._reopen_missing(after)
            self.changed.emit(before, after)
            self._release_gone(before, after)
        return True

    # ---- the data --------------------------------------------------------------------------------
    def data(self, key: str) -> OpenScan | None:
        """The data of a scan, None while they are being opened."""
        return self._open.get(key)

    def cube(self, key: str, *, raw: bool = False) -> Cube | None:
        """The scan with the calibrations that are switched on, or as the file has it."""
        data = self._open.get(key)
        if data is None or raw:
            return None if data is None else data.cube
        return data.cube.replace(calibration=self._layered(key))

    def calibration(self, key: str) -> Any:
        """The calibration to draw with: with the layers that are switched on, unless `raw`."""
        return self._opened_data(key).cube.calibration if self._raw else self._layered(key)

    def _layered(self, key: str) -> Any:
        """Calibration of the file, with the layers that are switched on."""
        scan, base = self.project.get(key), self._opened_data(key).cube.calibration
        known = self._calibrations.get(key)
        # Asked for several times with every move of the mouse, which changes neither.
        if known is None or known[0] is not base or known[1] is not scan.layers:
            known = self._calibrations[key] = (base, scan.layers, scan.calibrated(base))
        return known[2]

    def _opened_data(self, key: str) -> OpenScan:
        data = self._open.get(key)
        if data is None:
            raise ParameterError(f"{self.project.get(key).name} is still being opened")
        return data

    @property
    def raw(self) -> bool:
        """Whether pictures are shown as the file has them; work always uses the calibrations."""
        return self._raw

    @raw.setter
    def raw(self, raw: bool) -> None:
        if raw != self._raw:
            self._raw = raw
            self.rawChanged.emit(raw)

    def open(
        self,
        path: str | os.PathLike[str],
        options: dict[str, Any] | None = None,
        *,
        load: bool = False,
    ) -> Job:
        """Open a file off the GUI thread; what is open stays as it is, whatever happens.

        Parameters
        ----------
        path : path
        options : dict, optional
            Of `py4DSTEM.read`.
        load : bool
            Whether to take all patterns into memory.
        """
        name = os.fspath(path)
        source = Source(path=os.path.abspath(name), options=dict(options or {}))
        return self.jobs.submit(
            f"open {Path(name).name}",
            lambda options: _opened(source, self.cache_options, load=options if load else None),
            done=lambda found: self._show(found, source),
            failed=lambda error: self._refuse(source, name, error),
            at_once=True,
        )

    def _refuse(self, source: Source, name: str, error: BaseException) -> None:
        """What no format knows goes to the import assistant, where there is one."""
        unknown = isinstance(error, UnknownFormat) and not source.options
        if unknown and self.receivers(self.importWanted) and source.path is not None:
            self.importWanted.emit(source.path, getattr(error, "what", str(error)))
        else:
            self.troubled.emit(f"open {name}", error)

    def add_cube(self, cube: Cube, name: str = "") -> Job:
        """Show a scan that is already in memory."""
        source = Source()
        return self.jobs.submit(
            f"look at {name or cube.name}",
            lambda _: _Found({name or cube.name: _looked_at(cube, self.cache_options)}, {}),
            done=lambda found: self._show(found, source),
            failed=lambda error: self.troubled.emit(f"look at {name}", error),
            at_once=True,
        )

    def cubes(self) -> dict[str, Cube]:
        """The scans as their files have them, by key; those that are open now."""
        return {key: data.cube for key, data in self._open.items()}

    def restore(self, project: Project, cubes: Mapping[str, Cube] | None = None) -> None:
        """Show a project that was saved, in place of what is open; its files are opened again.

        Parameters
        ----------
        project : Project
        cubes : mapping of str to Cube, optional
            Scans that come from no file, by key.
        """
        before = self.project
        for key in list(self._open):
            self._release(key)
        self._undo = Undo(project)
        numbers = [int(s.key[4:]) for s in project.scans if s.key[4:].isdigit()]
        self._counter = max([self._counter, *numbers])
        self.changed.emit(before, project)
        for scan in project.scans:
            cube = (cubes or {}).get(scan.key)
            if cube is not None or scan.source.path is not None:
                self._reopen(scan, cube)

    def close_scan(self, key: str) -> None:
        """Forget a scan and free what it holds."""
        if self.do(CloseScan(key=key)):
            self._release(key)
            self._forget_closed(key)

    def _forget_closed(self, latest: str) -> None:
        """Only what was closed last can be brought back, and only where there is a file."""
        for key in self._undo.closed_scans():
            if key != latest or not self._undo.can_reopen(key):
                self._undo.forget_scan(key)

    def close(self) -> None:
        """End all work and free all data."""
        self.jobs.stop()
        self.raw = False
        self.stage.stop()
        for key in list(self._open):
            self._release(key)
        self.jobs.wait()

    def _release(self, key: str) -> None:
        data = self._open.pop(key, None)
        self._calibrations.pop(key, None)
        if data is not None:
            data.live.close()

    def _show(self, found: _Found, source: Source) -> None:
        for name, data in found.scans.items():
            key = self._new_key()
            options = source.options | ({"dataset": name} if len(found.scans) > 1 else {})
            self._open[key] = data
            scan = first_scan(key, name, source.replace(options=options), data)
            self.do(AddScan(scan=scan))
            self.opened.emit(key)
        if found.results and not self.project.current:
            self.troubled.emit(f"show what {source.path} holds", FormatError(
                "the file holds results and no scan, and results belong to a scan",
                path=source.path, hint="Open the scan first",
            ))  # fmt: skip
        for name, value in found.results.items():
            several = len(found.scans) + len(found.results) > 1
            chosen = {"dataset": name} if several else {}
            options = {"path": source.path, **source.options, **chosen}
            self.keep(name, value, Made(kind="read", parameters=options))
        self._doubt(found, source)

    def _doubt(self, found: _Found, source: Source) -> None:
        """A scan shape that is only a guess is shown, and said where it can be corrected."""
        notes = [n for data in found.scans.values() for n in doubts(data.cube.metadata.notes)]
        if notes and source.path is not None and "scan_shape" not in source.options:
            self.importWanted.emit(source.path, "; ".join(notes))

    def _new_key(self) -> str:
        self._counter += 1
        return f"scan{self._counter}"

    def _reopen_missing(self, project: Project) -> None:
        """Undo may bring back a scan whose data were freed."""
        for scan in project.scans:
            if scan.key not in self._open and scan.source.path is not None:
                self._reopen(scan)

    def _release_gone(self, before: Project, after: Project) -> None:
        """Undo may take away a scan; its data are freed where its file can be opened again."""
        open_still = {scan.key for scan in after.scans}
        for scan in before.scans:
            if scan.key not in open_still and scan.source.path is not None:
                self._release(scan.key)

    def _reopen(self, scan: Scan, cube: Cube | None = None) -> None:
        def keep(found: _Found) -> None:
            if any(known.key == scan.key for known in self.project.scans):
                self._open[scan.key] = next(iter(found.scans.values()))
                self.opened.emit(scan.key)

        self.jobs.submit(
            f"open {scan.name}",
            lambda _: _opened(scan.source, self.cache_options, cube),
            done=keep,
            failed=lambda error: self.troubled.emit(f"open {scan.name}", error),
            at_once=True,
        )

    # ---- steps -----------------------------------------------------------------------------------
    def run_step(
        self,
        step: Described,
        *,
        of: str = "",
        name: str = "",
        where: Any = None,
        done: Callable[[Any], None] | None = None,
    ) -> Job:
        """Run an operation or analysis as a job; its value becomes a result of the scan.

        Parameters
        ----------
        step : Operation or Analysis
        of : str
            Name of the result that it is applied to; "": the scan.
        name : str
            Of the new result; "": the kind of the step.
        where : Selection, optional
            Scan positions that count, for operations on the scan itself; None: all.
        done : callable, optional
            Takes the value instead of it being kept as a result.
        """
        key = self.project.current
        value = self.value_of(key, of)
        made = self.project.get(key).made_by(step, of, where)
        wish = name or step.kind.replace("-", " ")
        return self.jobs.submit(
            step.kind.replace("-", " "),
            lambda options: applied(step, value, options, where),
            done=done or (lambda found: self.keep(wish, found, made, key)),
            failed=lambda error: self.troubled.emit(step.kind.replace("-", " "), error),
        )

    def value_of(self, key: str, name: str) -> Any:
        """A result of a scan by name; "" is the calibrated scan itself.

        Points that a step found in this scan are raw: they come with the calibration of now.
        """
        if name == "":
            return self.cube(key)
        result = self.project.get(key).result(name)
        found = result.made is not None and result.made.of == ""
        if not found or not isinstance(result.value, PointTable) or key not in self._open:
            return result.value
        return result.value.with_calibration(self._layered(key))

    def keep(self, name: str, value: Any, made: Made | None = None, key: str = "") -> str:
        """Add a result to a scan, under a name that is free; the name."""
        key = key or self.project.current
        if not any(scan.key == key for scan in self.project.scans):
            return ""
        scan = self.project.get(key)
        free = scan.free_name(name)
        if made is not None and made.layers is None:
            made = made.replace(layers=scan.enabled)
        self.do(AddResult(key=key, result=Result(name=free, value=value, made=made)))
        return free


def applied(step: Described, value: Any, options: RunOptions, where: Any = None) -> Any:
    """What a step makes of a value: operations go through the engine, analyses apply themselves.

    `where` selects scan positions; analyses choose their own.
    """
    if isinstance(step, Analysis):
        if where is not None:
            raise ParameterError(f"{step.kind} takes no selected positions")
        step.check(value)
        return step.apply(value, options)
    mask = None if where is None else where.mask(value.R_shape)
    return run(step, value, where=mask, options=options)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class _Found:
    """What a file holds: scans with their first look, and everything else."""

    scans: dict[str, OpenScan]
    results: dict[str, Any]


def _opened(
    source: Source,
    cache: dict[str, Any],
    cube: Cube | None = None,
    *,
    load: RunOptions | None = None,
) -> _Found:
    value = _read(source) if cube is None else cube
    objects = value if isinstance(value, dict) else {Path(source.path or "scan").stem: value}
    cubes = {name: v for name, v in objects.items() if isinstance(v, Cube)}
    scans = {name: _looked_at(loaded(v, load) if load else v, cache) for name, v in cubes.items()}
    results = {name: v for name, v in objects.items() if not isinstance(v, Cube)}
    if not scans and not results:
        raise FormatError("the file holds nothing that can be shown", path=source.path)
    return _Found(scans, results)


def _read(source: Source) -> Any:
    with warnings.catch_warnings():
        # The notes of the scan say the same, and those are shown.
        warnings.simplefilter("ignore", Py4DSTEMWarning)
        return read(source.path or "", **source.options)


def _looked_at(cube: Cube, cache: dict[str, Any]) -> OpenScan:
    scan = cube
    if not isinstance(cube, DataCube):
        scan = DataCube(cube.data, cube.calibration, cube.name, cube.history, cube.metadata)
    live = LiveScan(scan, **cache)
    return OpenScan(scan, live, live.first_look())


def first_scan(key: str, name: str, source: Source, data: OpenScan) -> Scan:
    """A scan as it is first shown: a bright-field disk on the beam, the middle pattern chosen."""
    from py4DSTEM.core.selection import PointSelection

    disk = data.first.detector
    detectors = () if disk is None else (DetectorEntry(name="A", shape=disk),)
    rx, ry = (n // 2 for n in data.cube.R_shape)
    beam = data.first.beam
    known = beam is None or data.cube.calibration.origin_px is not None
    found = () if known else (Layer(name="beam", changes=_as_calibration(beam)),)
    return Scan(
        key=key,
        name=name,
        source=source,
        detectors=detectors,
        active="A" if detectors else "",
        selection=PointSelection(rx, ry),
        layers=found,
    )


def _as_calibration(beam: Any) -> dict[str, Any]:
    return {"origin_px": list(beam.center), "probe_radius_px": beam.radius_px}
