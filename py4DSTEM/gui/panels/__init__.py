"""Tools beside the images; each is imported when it is first opened.

A panel is a widget made with ``(session, parent)``.  It reads ``session.project``, follows
``session.changed``, acts with ``session.do(command)``, works with ``session.run_step`` or
``session.jobs.submit``, and draws on the images through ``session.stage``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["PANELS", "panel_class"]

PANELS = {
    "import": "import_assistant:ImportAssistant",
    "quality": "quality:QualityPanel",
    "bragg": "bragg:BraggPanel",
    "calibration": "calibration:CalibrationWizard",
    "strain": "strain:StrainPanel",
    "step": "step_form:StepPanel",
    "result": "result_figure:ResultPanel",
    "batch": "batch:BatchPanel",
    "console": "console:ConsolePanel",
}
"""Name of a panel → module (below this package) and class."""


def panel_class(name: str) -> Any:
    """The class of a panel, imported now."""
    module, _, cls = PANELS[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), cls)
