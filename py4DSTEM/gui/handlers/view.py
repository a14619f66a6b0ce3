"""The View menu: panels, and how the focused image is drawn."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtCore

from py4DSTEM.gui.docks import IMAGES
from py4DSTEM.gui.state.commands import ChangeLook
from py4DSTEM.gui.state.project import Look

__all__ = ["Handlers"]

GAMMAS = (0.5, 1 / 3, 0.25)
COLORS = {
    "diffraction": ("inferno", "viridis", "gray", "magma", "cividis"),
    "real": ("gray", "viridis", "inferno", "cividis", "RdBu_r"),
    "result": ("viridis", "gray", "inferno", "RdBu_r", "twilight"),
}
PICTURES = ("diffraction", "real", "result")


class Handlers:
    """What the actions of the menu do."""

    def __init__(self, window: Any) -> None:
        self._window = window

    @property
    def _view(self) -> Any:
        return self._window.view(*PICTURES)

    # ---- panels ----------------------------------------------------------------------------------
    def layout_1(self) -> None:
        self._layout(1)

    def layout_2(self) -> None:
        self._layout(2)

    def layout_3(self) -> None:
        self._layout(3)

    def layout_4(self) -> None:
        self._layout(4)

    def _layout(self, count: int) -> None:
        self._window.docks.layout(count, self._window.focused)

    def reset_layout(self) -> None:
        self._window.docks.reset()

    def full_screen(self) -> None:
        window = self._window
        window.setWindowState(window.windowState() ^ QtCore.Qt.WindowState.WindowFullScreen)
        full = bool(window.windowState() & QtCore.Qt.WindowState.WindowFullScreen)
        window.actions_.made["view.full_screen"].setChecked(full)

    def next_panel(self) -> None:
        self._step(1)

    def previous_panel(self) -> None:
        self._step(-1)

    def _step(self, by: int) -> None:
        docks = self._window.docks.docks
        names = [name for name in IMAGES if docks[name].isVisible()] or ["diffraction"]
        at = names.index(self._window.focused) if self._window.focused in names else -1
        self._window.focus(names[(at + by) % len(names)])

    def console(self) -> None:
        self._window.show_panel("console")

    # ---- the image -------------------------------------------------------------------------------
    def _look(self, **changes: Any) -> None:
        view = self._view
        look: Look = view.look.replace(**changes)
        self._window.session.do(ChangeLook(panel=view.name, look=look))

    def cycle_scale(self) -> None:
        self._view.cycle_scale()

    def gamma(self) -> None:
        now = self._view.look.scale
        at = GAMMAS.index(now) if now in GAMMAS else -1
        self._look(scale=GAMMAS[(at + 1) % len(GAMMAS)])

    def colors(self) -> None:
        view = self._view
        names = COLORS[view.name]
        at = names.index(view.look.colors) if view.look.colors in names else 0
        self._look(colors=names[(at + 1) % len(names)])

    def auto_contrast(self) -> None:
        self._view.auto_contrast()

    def lock_contrast(self) -> None:
        view = self._view
        view.lock_contrast(view.look.limits is None)

    def fit(self) -> None:
        self._view.fit()

    def zoom_in(self) -> None:
        self._view.canvas.box.scaleBy((0.8, 0.8))

    def zoom_out(self) -> None:
        self._view.canvas.box.scaleBy((1.25, 1.25))

    def link_zoom(self) -> None:
        linked = self._window.actions_.made["view.link_zoom"].isChecked()
        real, result = (self._window.views[n].canvas.box for n in ("real", "result"))
        result.setXLink(real if linked else None)
        result.setYLink(real if linked else None)

    def hud(self) -> None:
        self._window.status.show_timing(self._window.actions_.made["view.hud"].isChecked())
