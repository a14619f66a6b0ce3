"""The Analyze menu: panels, every step of the library, and jobs."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtWidgets

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError

__all__ = ["Handlers", "grouped"]

GROUPS = {
    "core": "Scan", "clean": "Clean", "calibrate": "Calibrate", "bragg": "Bragg disks",
    "virtual": "Images", "com": "Centre of mass", "idpc": "Centre of mass",
    "radial": "Radial", "strain": "Strain", "ring_strain": "Strain",
}  # fmt: skip


class Handlers:
    """What the actions of the menu do."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._session = window.session

    # ---- panels ----------------------------------------------------------------------------------
    def quality(self) -> None:
        self._window.show_panel("quality")

    def bragg(self) -> None:
        self._window.show_panel("bragg")

    def strain(self) -> None:
        self._window.show_panel("strain")

    def step(self) -> None:
        self._window.show_panel("step")

    def show_step(self, kind: str) -> None:
        """The form of one step."""
        self._window.show_panel("step").show_kind(kind)

    def fill(self, menu: QtWidgets.QMenu) -> None:
        """All steps that are there now, those of other packages too."""
        from py4DSTEM.process import load_analyses, load_operations

        menu.clear()
        menu.setToolTipsVisible(True)
        for group, kinds in grouped({**load_operations(), **load_analyses()}).items():
            inner = menu.addMenu(group)
            inner.setToolTipsVisible(True)
            for kind, summary in kinds.items():
                action = inner.addAction(kind.replace("-", " "))
                action.setToolTip(summary)
                action.setEnabled(self._session.project.scan is not None)
                action.triggered.connect(lambda _=False, kind=kind: self._try_step(kind))

    def _try_step(self, kind: str) -> None:
        try:
            self.show_step(kind)
        except Exception as error:  # as for the actions of the table
            self._window.troubles.show(f"open the form of {kind}", error)

    # ---- results and jobs ------------------------------------------------------------------------
    def pin(self) -> None:
        """Keep what the real-space image shows now."""
        shown = self._window.shown_image
        scan = self._window.scan
        if shown is None or shown.scan.key != scan.key or not shown.exact:
            raise ParameterError("the image is not complete yet: try again in a moment")
        calibration: Calibration = self._window.cube.calibration
        labels = ("x", "y") if shown.data.ndim == 3 else ()
        name = scan.expression or " + ".join(e.name for e in scan.detectors if e.shown) or "image"
        value = RealSlice(shown.data, calibration, name=name, labels=labels)
        self._session.keep(name, value)

    def cancel(self) -> None:
        """The job that runs; the shapes on the images end their drags themselves."""
        running = [job for job in self._session.jobs.active if job.state != "waiting"]
        for job in running[-1:]:
            job.cancel()
            self._session.said.emit(f"stopping: {job.label}")

    def cancel_all(self) -> None:
        self._session.jobs.cancel_all()


def grouped(steps: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Kinds of steps and their summaries by the room of the library that they come from."""
    groups: dict[str, dict[str, str]] = {}
    for kind, cls in sorted(steps.items()):
        parts = cls.__module__.split(".")
        room = parts[2] if parts[0] == "py4DSTEM" and len(parts) > 2 else parts[0]
        group = GROUPS.get(room, room.replace("_", " ").capitalize())
        summary = (cls.__doc__ or "").strip().partition("\n")[0]
        groups.setdefault(group, {})[kind] = summary
    return dict(sorted(groups.items()))
