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
        return project.without(project.get(self.key).key)


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
        names = [entry.name for entry in self.detectors]
        if len(set(names)) != len(names):
            raise ParameterError(f"two detectors have the same name: {', '.join(names)}")
        _check_expression(self.expression, set(names))
        active = names[0] if names else ""
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
        _check_expression(self.expression, {entry.name for entry in scan.detectors})
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
            scan.shown(self.name)
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
        if scan.layer(self.name).enabled == self.enabled:
            return scan
        layers = tuple(
            layer.replace(enabled=self.enabled) if layer.name == self.name else layer
            for layer in scan.layers
        )
        return scan.replace(layers=layers)


class RemoveLayer(OnScan, kind="remove-calibration"):
    """Forget a calibration."""

    name: str

    def change(self, scan: Scan) -> Scan:
        gone = scan.layer(self.name)
        return scan.replace(layers=tuple(layer for layer in scan.layers if layer is not gone))


class AddResult(OnScan, kind="result"):
    """Keep what a step made."""

    result: Result

    def change(self, scan: Scan) -> Scan:
        _check_free(scan, self.result.name)
        return scan.replace(results=(*scan.results, self.result))

    def label(self) -> str:
        return f"add {self.result.name}"


class RemoveResult(OnScan, kind="remove-result"):
    """Forget a result; how it was made is kept while something is left that was made of it."""

    name: str

    def change(self, scan: Scan) -> Scan:
        gone = scan.result(self.name)
        trace = () if gone.made is None else (gone.replace(value=None),)
        left = scan.replace(
            results=tuple(result for result in scan.results if result is not gone),
            removed=(*scan.removed, *trace),
            **dict.fromkeys(_showing(scan, self.name), ""),
        )
        return left.replace(removed=_needed(left))


class RenameResult(OnScan, kind="rename-result"):
    """Give a result another name; those made of it follow."""

    name: str
    to: str = Field(min_length=1, max_length=200)

    def change(self, scan: Scan) -> Scan:
        scan.result(self.name)
        if self.to == self.name:
            return scan
        _check_free(scan, self.to)
        shown = {
            panel: self.to + getattr(scan, panel)[len(self.name) :]
            for panel in _showing(scan, self.name)
        }
        parts = {
            field: tuple(map(self._followed, getattr(scan, field)))
            for field in ("results", "removed", "layers")
        }
        results = tuple(
            result.replace(name=self.to) if result.name == self.name else result
            for result in parts["results"]
        )
        return scan.replace(**{**parts, "results": results}, **shown)

    def _followed(self, entry: Any) -> Any:
        """A result or layer, with the new name in what it was made of."""
        made = entry.made
        return entry if made is None else entry.replace(made=made.renamed(self.name, self.to))


class ChangeLook(Command, kind="look"):
    """Show a panel with other colours, scale or limits."""

    panel: str
    look: Look
    settled: bool = True

    def apply(self, project: Project) -> Project:
        if project.look(self.panel) == self.look:
            return project
        return project.replace(looks={**project.looks, self.panel: self.look})

    def merges_with(self, earlier: Command) -> bool:
        return (
            isinstance(earlier, ChangeLook) and earlier.panel == self.panel and not earlier.settled
        )


def _check_expression(expression: str, known: set[str]) -> None:
    names = set(Expression(expression).names) if expression else known
    if expression and not names:
        raise ParameterError(f"{expression!r} names no detector: the image would be one number")
    unknown = names - known
    if unknown:
        raise ParameterError(
            f"no detector {', '.join(sorted(unknown))} for {expression!r}; "
            f"there is {', '.join(sorted(known)) or 'none'}"
        )


def _check_free(scan: Scan, name: str) -> None:
    if any(result.name == name for result in (*scan.results, *scan.removed)):
        raise ParameterError(f"there is a result {name!r} already")


def _showing(scan: Scan, name: str) -> list[str]:
    """The images in which that result is shown."""
    panels = ("real", "diffraction")
    return [p for p in panels if getattr(scan, p) and scan.shown(getattr(scan, p))[0].name == name]


def _needed(scan: Scan) -> tuple[Result, ...]:
    """Of what was removed, that which something still there was made of."""
    makers = {result.name: result.made for result in scan.removed}
    waiting = [entry.made for entry in (*scan.results, *scan.layers)]
    needed: set[str] = set()
    while waiting:
        made = waiting.pop()
        for name in () if made is None else made.needs:
            if name in makers and name not in needed:
                needed.add(name)
                waiting.append(makers[name])
    return tuple(result for result in scan.removed if result.name in needed)
