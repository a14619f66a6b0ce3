"""The four images of the window, made once and connected to the live answers."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtWidgets

from py4DSTEM.gui.session import Session
from py4DSTEM.gui.views.stage_views import DiffractionView, RealView

__all__ = ["image_views"]


def image_views(session: Session, live: Any) -> dict[str, Any]:
    """Diffraction, real space, profile and result, by the names of their panels."""
    views: dict[str, Any] = {
        "diffraction": DiffractionView(session),
        "real": RealView(session),
        "profile": _made("profile", "ProfilePanel", session),
        "result": _made("result_panel", "ResultPanel", session),
    }
    for view in views.values():
        if hasattr(view, "follow"):
            view.follow(live)
    return views


def _made(module: str, cls: str, session: Session) -> QtWidgets.QWidget:
    from importlib import import_module

    try:
        return getattr(import_module(f"py4DSTEM.gui.views.{module}"), cls)(session)  # type: ignore[no-any-return]
    except ModuleNotFoundError:
        return QtWidgets.QLabel(cls)
