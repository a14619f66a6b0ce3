"""The acts of the user on scans, detectors, selections, calibrations and results."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from py4DSTEM.core.detector import AnyDetector
from py4DSTEM.core.expression import Expression
from py4DSTEM.core.selection import AnySelection
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.state.command import Command
from py4DSTEM.gui.state.project import (
    DetectorEntry,
    How,
    Layer,
    Look,
    Project,
    Response,
    Result,
    Scan,
)

__all__ = [
    "ActivateDetector",
    "AddDetector",
    "AddLayer",
    "AddResult",
    "AddScan",
    "ChangeDetector",
    "ChangeLook",
    "CloseScan",
    "RemoveDetector",
    "RemoveLayer",
    "RemoveResult",
    "RenameResult",
    "Select",
    "SetDetectors",
    "SetExpression",
    "SetResponse",
    "ShowInPanel",
    "ShowScan",
    "SwitchLayer",
    "WeighDetector",
]


class AddScan(Command, kind="open"):
    """Show a scan that has been opened."""

    scan: Scan

    def apply(self, project: Project) -> Project:
        if any(scan.key == self.scan.key for scan in project.scans):
            raise ParameterError(f"the scan {self.scan.name!r} is open already")
        return project.replace(scans=(*project.scans, self.scan), current=self.scan.key)


class CloseScan(Command, kind="close"):
    """Forget a scan and what belongs to it."""

    key: str

    def apply(self, project: Project) -> Project:
        closed = project.get(self.key)
        scans = tuple(scan for scan in project.scans if scan is not closed)
        last = scans[-1].key if scans else ""
        current = last if project.current == self.key else project.current
        return project.replace(scans=scans, current=current)


class ShowScan(Command, kind="show"):
    """Bring another of the open scans to the front."""

    key: str

    def apply(self, project: Project) -> Project:
        return project.replace(current=project.get(self.key).key)


class OnScan(Command):
    """An act on one scan: subclasses say how the scan changes."""

    key: str

    def apply(self, project: Project) -> Project:
        return project.changed(self.key, self.change)

    def change(self, scan: Scan) -> Scan:
        """The scan after the act."""
        raise NotImplementedError


class AddDetector(OnScan, kind="add-detector"):
    """Draw another detector."""

    entry: DetectorEntry

    def change(self, scan: Scan) -> Scan:
        if any(entry.name == self.entry.name for entry in scan.detectors):
            raise ParameterError(f"there is a detector {self.entry.name!r} already")
        return scan.replace(detectors=(*scan.detectors, self.entry), active=self.entry.name)


class ChangeDetector(OnScan, kind="move-detector"):
    """Move or resize a detector."""

    name: str
    shape: AnyDetector
    settled: bool = True

    def change(self, scan: Scan) -> Scan:
        old = scan.detector(self.name)
        new = old.replace(shape=self.shape)
        entries = tuple(new if entry is old else entry for entry in scan.detectors)
        return scan.replace(detectors=entries, active=self.name)

    def merges_with(self, earlier: Command) -> bool:
        return (
            isinstance(earlier, ChangeDetector)
            and (earlier.key, earlier.name) == (self.key, self.name)
            and not earlier.settled
        )


class WeighDetector(OnScan, kind="weigh-detector"):
    """Set the weight of a detector in the signed sum, and whether it counts."""

    name: str
    weight: float = 1.0
    shown: bool = True

    def change(self, scan: Scan) -> Scan:
        old = scan.detector(self.name)
        new = old.replace(weight=self.weight, shown=self.shown)
        return scan.replace(detectors=tuple(new if e is old else e for e in scan.detectors))


class RemoveDetector(OnScan, kind="remove-detector"):
    """Take a detector away."""

    name: str

    def change(self, scan: Scan) -> Scan:
        gone = scan.detector(self.name)
        left = tuple(entry for entry in scan.detectors if entry is not gone)
        uses = self.name in Expression(scan.expression).names if scan.expression else False
        active = left[-1].name if left else ""
        expression = "" if uses else scan.expression
        return scan.replace(detectors=left, active=active, expression=expression)


class SetDetectors(OnScan, kind="detector-preset"):
    """Replace all detectors at once, as a preset does."""

    detectors: tuple[DetectorEntry, ...]
    expression: str = ""
    response: Response = "sum"

    def change(self, scan: Scan) -> Scan:
        active = self.detectors[0].name if self.detectors else ""
        return scan.replace(
            detectors=self.detectors,
            active=active,
            expression=self.expression,
            response=self.response,
        )


class ActivateDetector(OnScan, kind="activate-detector"):
    """Choose the detector that keys act on."""

    name: str

    def change(self, scan: Scan) -> Scan:
        return scan.replace(active=scan.detector(self.name).name)


class SetExpression(OnScan, kind="expression"):
    """Combine the images of detectors, as ``(A - B) / (A + B)``; "" is their signed sum."""

    expression: str = ""

    def change(self, scan: Scan) -> Scan:
        known = {entry.name for entry in scan.detectors}
        unknown = set(Expression(self.expression).names) - known if self.expression else set()
        if unknown:
            raise ParameterError(
                f"no detector {', '.join(sorted(unknown))} for {self.expression!r}; "
                f"there is {', '.join(sorted(known)) or 'none'}"
            )
        return scan.replace(expression=self.expression)


class SetResponse(OnScan, kind="response"):
    """What is made of a detector: its sum, or its centre of mass."""

    response: Response

    def change(self, scan: Scan) -> Scan:
        return scan.replace(response=self.response)


class Select(OnScan, kind="select"):
    """Choose the positions whose pattern is shown, and how they are combined."""

    selection: AnySelection
    how: How = "mean"
    settled: bool = True

    def change(self, scan: Scan) -> Scan:
        return scan.replace(selection=self.selection, how=self.how)

    def merges_with(self, earlier: Command) -> bool:
        return isinstance(earlier, Select) and earlier.key == self.key and not earlier.settled


class ShowInPanel(OnScan, kind="show-in-panel"):
    """Show a result in one of the two images; "" is what detectors and selection give."""

    panel: Literal["real", "diffraction"]
    name: str = ""

    def change(self, scan: Scan) -> Scan:
        if self.name:
            scan.result(self.name.partition("/")[0])
        return scan.replace(**{self.panel: self.name})


class AddLayer(OnScan, kind="calibrate"):
    """Add a calibration, in place of one of the same name."""

    layer: Layer

    def change(self, scan: Scan) -> Scan:
        others = tuple(layer for layer in scan.layers if layer.name != self.layer.name)
        return scan.replace(layers=(*others, self.layer))

    def label(self) -> str:
        return f"calibrate {self.layer.name}"


class SwitchLayer(OnScan, kind="switch-calibration"):
    """Switch a calibration on or off."""

    name: str
    enabled: bool

    def change(self, scan: Scan) -> Scan:
        layers = tuple(
            layer.replace(enabled=self.enabled) if layer.name == self.name else layer
            for layer in scan.layers
        )
        return scan.replace(layers=layers)


class RemoveLayer(OnScan, kind="remove-calibration"):
    """Forget a calibration."""

    name: str

    def change(self, scan: Scan) -> Scan:
        return scan.replace(layers=tuple(x for x in scan.layers if x.name != self.name))


class AddResult(OnScan, kind="result"):
    """Keep what a step made."""

    result: Result

    def change(self, scan: Scan) -> Scan:
        if any(known.name == self.result.name for known in scan.results):
            raise ParameterError(f"there is a result {self.result.name!r} already")
        return scan.replace(results=(*scan.results, self.result))

    def label(self) -> str:
        return f"add {self.result.name}"


class RemoveResult(OnScan, kind="remove-result"):
    """Forget a result."""

    name: str

    def change(self, scan: Scan) -> Scan:
        gone = scan.result(self.name)
        return scan.replace(results=tuple(r for r in scan.results if r is not gone))


class RenameResult(OnScan, kind="rename-result"):
    """Give a result another name; those made of it follow."""

    name: str
    to: str = Field(min_length=1, max_length=200)

    def change(self, scan: Scan) -> Scan:
        scan.result(self.name)
        if self.to != self.name and any(r.name == self.to for r in scan.results):
            raise ParameterError(f"there is a result {self.to!r} already")
        return scan.replace(results=tuple(map(self._renamed, scan.results)))

    def _renamed(self, result: Result) -> Result:
        changes: dict[str, Any] = {"name": self.to} if result.name == self.name else {}
        if result.made is not None and result.made.of == self.name:
            changes["made"] = result.made.replace(of=self.to)
        return result.replace(**changes) if changes else result


class ChangeLook(Command, kind="look"):
    """Show a panel with other colours, scale or limits."""

    panel: str
    look: Look

    def apply(self, project: Project) -> Project:
        return project.replace(looks={**project.looks, self.panel: self.look})

    def merges_with(self, earlier: Command) -> bool:
        return isinstance(earlier, ChangeLook) and earlier.panel == self.panel
