"""The four images of the window, made once and connected to the live answers."""

from __future__ import annotations

from typing import Any

from py4DSTEM.gui.session import Session
from py4DSTEM.gui.views.profile import ProfilePanel
from py4DSTEM.gui.views.result_panel import ResultPanel
from py4DSTEM.gui.views.stage_views import DiffractionView, RealView

__all__ = ["image_views"]

LEAST_WIDTH = 250


def image_views(session: Session, live: Any) -> dict[str, Any]:
    """Diffraction, real space, profile and result, by the names of their panels."""
    views: dict[str, Any] = {
        "diffraction": DiffractionView(session),
        "real": RealView(session),
        "profile": ProfilePanel(session),
        "result": ResultPanel(session),
    }
    for view in views.values():
        # Less than their rows ask for, so that the window fits on small screens.
        view.setMinimumWidth(LEAST_WIDTH)
        if hasattr(view, "follow"):
            view.follow(live)
    return views
