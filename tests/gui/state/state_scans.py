"""A project about a small simulated scan in a file, with every kind of thing in it."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import py4DSTEM
from py4DSTEM import Annulus, Disk, Mask, RectangleSelection, simulate
from py4DSTEM.gui.state.commands import (
    AddDetector,
    AddLayer,
    AddResult,
    AddScan,
    Select,
    SetDetectors,
    SetExpression,
    WeighDetector,
)
from py4DSTEM.gui.state.project import DetectorEntry, Layer, Project, Result, Scan, Source
from py4DSTEM.gui.state.undo import Undo
from py4DSTEM.stream.analysis import Analysis

SHAPE = (6, 7)


@cache
def cube() -> Any:
    return simulate.strained_lattice(SHAPE, seed=3, dose=2e5).cube


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the program ends."""
    return tempfile.TemporaryDirectory()


@cache
def saved() -> Path:
    """A file with the scan, under a name that is no name for a program."""
    path = Path(_folder().name, "Si Ge 'q\" é.h5")
    py4DSTEM.save(path, {"scan": cube()})
    return path


class Bench:
    """Acts on a project as the program does, with the steps run at once."""

    def __init__(self, path: Path) -> None:
        self.undo = Undo()
        source = Source(path=str(path), options={"dataset": "scan"})
        self.undo.do(AddScan(scan=Scan(key="scan1", name=path.stem, source=source)))
        self.raw = py4DSTEM.read(path, dataset="scan")

    @property
    def project(self) -> Project:
        return self.undo.project

    @property
    def scan(self) -> Scan:
        return self.project.get("scan1")

    @property
    def cube(self) -> Any:
        return self.raw.with_calibration(self.scan.calibrated(self.raw.calibration))

    def do(self, act: type, **fields: Any) -> None:
        self.undo.do(act(key="scan1", **fields))

    def value(self, of: str) -> Any:
        value = self.scan.result(of).value if of else self.cube
        return value.with_calibration(self.cube.calibration) if hasattr(value, "points") else value

    def applied(self, step: Any, of: str, where: Any = None) -> tuple[Any, Any]:
        made = self.scan.made_by(step, of, where)
        value = self.value(of)
        if isinstance(step, Analysis):
            return step.apply(value), made
        mask = None if where is None else where.mask(value.R_shape)
        return py4DSTEM.run(step, value, where=mask), made

    def step(self, name: str, step: Any, of: str = "", where: Any = None) -> Any:
        value, made = self.applied(step, of, where)
        self.do(AddResult, result=Result(name=name, value=value, made=made))
        return value

    def calibrate(self, name: str, step: Any, of: str = "") -> None:
        value, made = self.applied(step, of)
        self.do(AddLayer, layer=Layer(name=name, value=value, made=made))


def imaged(path: Path) -> Bench:
    """With detectors, an expression, a selection and a typed calibration."""
    bench = Bench(path)
    bench.do(AddLayer, layer=Layer(name="beam", changes={"origin_px": [64.2, 63.1]}))
    mask = np.zeros(cube().Q_shape)
    mask[20:90:3, 5:70] = 0.5
    entries = (
        DetectorEntry(name="A", shape=Disk(6.5, center=(64.25, 63.0))),
        DetectorEntry(name="B", shape=Annulus(9.0, 40.0)),
    )
    bench.do(SetDetectors, detectors=entries)
    bench.do(AddDetector, entry=DetectorEntry(name="M", shape=Mask(mask)))
    bench.do(WeighDetector, name="B", weight=-0.3)
    bench.do(SetExpression, expression="(A - B) / (A + M)")
    bench.do(Select, selection=RectangleSelection(1, 4, 2, 6))
    return bench


def analysed(path: Path) -> Bench:
    """As `_analysed`, of which there is one, with a past of its own."""
    bench, known = Bench(path), _analysed(path)
    for act in known.undo.acts[1:]:
        bench.undo.do(act)
    return bench


@cache
def _analysed(path: Path) -> Bench:
    """With steps on steps, a calibration measured from one, and a result that was removed."""
    bench = imaged(path)
    known = all_kinds()
    bench.step("probe", known["measure-probe"]())
    probe = bench.scan.result("probe").value
    bench.step("bragg 1", known["find-bragg-disks"](probe=probe, min_spacing_px=8.0))
    bench.calibrate("origin", known["measure-origin"](), "bragg 1")
    bench.step("lattice", known["fit-lattice"](), "bragg 1")
    bench.step("strain/map", known["strain-map"](resolution_A=None, axis="g1"), "lattice")
    bench.step("mean", known["mean-pattern"]())
    bench.step("profiles", known["radial-profiles"](step_px=2.0, mask=Disk(60.0)))
    bench.do(AddLayer, layer=Layer(name="size", changes={"R_pixel_size": 2.0,
                                                         "R_pixel_units": "nm"}))  # fmt: skip
    return bench


def all_kinds() -> dict[str, Any]:
    from py4DSTEM.gui.state.forms import all_steps

    return all_steps()


def arrays_of(value: Any) -> dict[str, Any]:
    """The numbers of a result, to compare them bit by bit."""
    if isinstance(value, np.ndarray):
        return {"": value}
    names = ("data", "points", "e_xx", "vectors", "g1", "qx", "counts", "origin_px")
    found = {n: getattr(value, n) for n in names if isinstance(getattr(value, n, None), np.ndarray)}
    assert found, f"nothing to compare in {value!r}"
    return found


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    for name, array in arrays_of(expected).items():
        assert np.asarray(getattr(found, name) if name else found).tobytes() == array.tobytes()
