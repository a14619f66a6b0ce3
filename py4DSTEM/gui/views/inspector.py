"""The inspector: detectors, calibration, metadata and history of the scan that is shown."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.gui.session import Session
from py4DSTEM.gui.views.calibration_tab import CalibrationTab
from py4DSTEM.gui.views.detectors_tab import DetectorsTab
from py4DSTEM.gui.views.records import HistoryTab, MetadataTab

__all__ = ["Inspector"]


class Inspector(QtWidgets.QTabWidget):
    """One tab for each thing there is to know."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self.tabs: dict[str, Any] = {
            "detectors": DetectorsTab(session),
            "calibration": CalibrationTab(session),
            "metadata": MetadataTab(session),
            "history": HistoryTab(session),
        }
        for name, tab in self.tabs.items():
            scroll = tab
            if name in ("detectors", "calibration"):
                scroll = QtWidgets.QScrollArea()
                scroll.setWidgetResizable(True)
                scroll.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
                scroll.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
                scroll.setWidget(tab)
            self.addTab(scroll, name.capitalize())
        self.setDocumentMode(True)
        self.setUsesScrollButtons(True)
        self.setMinimumWidth(240)

    def bring(self, name: str) -> None:
        """Show a tab."""
        self.setCurrentIndex(list(self.tabs).index(name))

    def stop(self) -> None:
        """End the threads."""
        self.tabs["detectors"].stop()
