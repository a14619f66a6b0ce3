"""The four images of the window, made once and connected to the live answers."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtWidgets

from py4DSTEM.gui.session import Session

__all__ = ["image_views"]


def image_views(session: Session, live: Any) -> dict[str, QtWidgets.QWidget]:
    """Diffraction, real space, profile and result, by the names of their panels."""
    from py4DSTEM.gui.views.image_panel import ImagePanel

    views = {name: ImagePanel(name) for name in ("diffraction", "real", "result")}

    def show(key: str) -> None:
        data = session.data(key)
        if data is not None:
            mean = data.first.mean
            views["diffraction"].set_image(mean.data, axes=mean.axes)

    session.opened.connect(show)
    views["profile"] = QtWidgets.QLabel("profile")
    return views
