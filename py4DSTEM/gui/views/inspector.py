"""The inspector: detectors, calibration, metadata and history of the scan that is shown."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtWidgets

from py4DSTEM.gui.session import Session

__all__ = ["Inspector"]


class Inspector(QtWidgets.QTabWidget):
    """One tab for each thing there is to know."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
