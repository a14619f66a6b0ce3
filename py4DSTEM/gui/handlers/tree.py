"""What the entries of the project tree are asked."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtGui

from py4DSTEM.core.slices import DiffractionSlice, RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.state.commands import RemoveLayer, RemoveResult, ShowInPanel, ShowScan

__all__ = ["Handlers"]


class Handlers:
    """Shows, removes, exports scans, calibrations and results."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._session = window.session

    def asked(self, what: str, key: str, name: str) -> None:
        """Do one thing with one entry; trouble is told."""
        kind, _, inner = name.partition(":")
        act = getattr(self, f"{what.replace(' ', '_')}_{kind or 'scan'}", None)
        try:
            if act is None:
                raise ParameterError(f"{what} does not apply to this entry")
            act(key, inner)
        except Exception as error:  # as for the actions of the table
            self._window.troubles.show(f"{what} {inner or 'the scan'}", error)

    def _front(self, key: str) -> None:
        if self._session.project.current != key:
            self._session.do(ShowScan(key=key))

    # ---- scans -----------------------------------------------------------------------------------
    def show_scan(self, key: str, _: str) -> None:
        self._front(key)

    def copy_name_scan(self, key: str, _: str) -> None:
        scan = self._session.project.get(key)
        QtGui.QGuiApplication.clipboard().setText(scan.source.path or scan.name)

    def export_scan(self, key: str, _: str) -> None:
        self._front(key)
        self._window.actions_.trigger("file.export_data")

    def close_scan(self, key: str, _: str) -> None:
        self._session.close_scan(key)

    # ---- views -----------------------------------------------------------------------------------
    def show_view(self, key: str, panel: str) -> None:
        self._front(key)
        self._session.do(ShowInPanel(key=key, panel=panel, name=""))  # type: ignore[arg-type]

    # ---- calibrations ----------------------------------------------------------------------------
    def show_layer(self, key: str, name: str) -> None:
        self._front(key)
        self._window.actions_.trigger("calibrate.by_hand")

    def form_layer(self, key: str, name: str) -> None:
        self._form(key, self._session.project.get(key).layer(name).made, name)

    def remove_layer(self, key: str, name: str) -> None:
        self._session.do(RemoveLayer(key=key, name=name))

    # ---- results ---------------------------------------------------------------------------------
    def show_result(self, key: str, name: str) -> None:
        """In the image that it belongs to, or else as a figure."""
        self._front(key)
        value = self._session.project.get(key).result(name).value
        panels = ((RealSlice, "real"), (DiffractionSlice, "diffraction"))
        panel = next((p for cls, p in panels if isinstance(value, cls)), "")
        if not panel:
            self.figure_result(key, name)
            return
        label = f"/{value.labels[0]}" if value.labels else ""
        self._session.do(ShowInPanel(key=key, panel=panel, name=name + label))  # type: ignore[arg-type]

    def figure_result(self, key: str, name: str) -> None:
        self._front(key)
        self._window.show_panel("result").show_result(name)

    def form_result(self, key: str, name: str) -> None:
        self._form(key, self._session.project.get(key).result(name).made, name)

    def _form(self, key: str, made: Any, name: str) -> None:
        if made is None:
            raise ParameterError("it was not made by a step here: there is no form for it")
        self._front(key)
        self._window.show_panel("step").show_made(made, name)

    def export_result(self, key: str, name: str) -> None:
        self._front(key)
        self._window.actions_.room("export").export_result(name)

    def remove_result(self, key: str, name: str) -> None:
        self._session.do(RemoveResult(key=key, name=name))
