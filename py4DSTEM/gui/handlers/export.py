"""The File/Export menu: images, data, figures, and all that was done as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyqtgraph.Qt import QtCore

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.slices import Slice
from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.files import ask_save, write_job, write_whole
from py4DSTEM.gui.state.project import Scan

__all__ = ["Handlers"]

PICTURES = ("diffraction", "real", "result")
AS_SHOWN = ".png"
IMAGES = (
    "As shown (*.png);;Values with pixel size, for ImageJ (*.tif);;Values (*.npy);;"
    "Values as text (*.csv);;Values with all that is known (*.h5)"
)
FIGURES = "Vectors (*.svg);;Vectors (*.pdf);;Pixels (*.png)"


class Handlers:
    """What the actions of the menu do."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._session = window.session
        self._chooser: Any = None

    # ---- the focused image -----------------------------------------------------------------------
    @property
    def _panel(self) -> str:
        return str(self._window.view(*PICTURES).name)

    def shown(self, panel: str) -> Slice:
        """What a panel shows, as numbers; `ParameterError` where it shows nothing."""
        value = self._session.stage.showing.get(panel)
        if not isinstance(value, Slice) or not self._window.views[panel].exact:
            raise ParameterError("the image is not complete yet: try again in a moment")
        return value

    def _stem(self, name: str) -> str:
        scan = self._window.scan.name
        return "".join(c if c.isalnum() or c in "-_." else "_" for c in f"{scan}_{name}")

    def export_image(self) -> None:
        """Ask how and where."""
        panel = self._panel
        self.shown(panel)
        ask_save(
            self._window, "Export image", self._stem(panel), IMAGES,
            lambda path: self.write_image(path, panel),
        )  # fmt: skip

    def write_image(self, path: str, panel: str) -> Any:
        """Write the image of a panel: PNG as it is shown, other formats with its values."""
        if Path(path).suffix.lower() == AS_SHOWN:
            image = picture_of(self._window.views[panel])
            return write_job(self._session, path, lambda _: write_whole(path, png_of(image)))
        value = self.shown(panel)
        return write_job(self._session, path, lambda options: _save(path, value, options))

    def export_figure(self) -> None:
        """Ask how and where."""
        panel = self._panel
        self.shown(panel)
        ask_save(
            self._window, "Export figure", self._stem(f"{panel}_figure"), FIGURES,
            lambda path: self.write_figure(path, panel),
        )  # fmt: skip

    def write_figure(self, path: str, panel: str) -> Any:
        """Write the image of a panel with axes, scale bar and colour bar."""
        value, look = self.shown(panel), self._window.views[panel].look
        given = {"scale": look.scale, "clip": look.clip, "cmap": look.colors or None, "cbar": True}
        return write_job(self._session, path, lambda _: _draw(path, value, given))

    # ---- data ------------------------------------------------------------------------------------
    def export_data(self) -> None:
        """Choose what, then how and where."""
        self._choose()

    def export_result(self, name: str) -> None:
        """One result."""
        self._choose(name)

    def _choose(self, *names: str) -> None:
        from py4DSTEM.gui.panels.export_chooser import ExportChooser

        self._window.scan  # noqa: B018 - says where there is none
        if self._chooser is None:
            self._chooser = ExportChooser(self._session, self._window)
        self._chooser.offer(*names)
        self._chooser.show()
        self._chooser.raise_()

    # ---- what was done ---------------------------------------------------------------------------
    def export_notebook(self) -> None:
        from py4DSTEM.gui.state.notebook import notebook

        node = notebook(self._session.project, self._window.scan.key)

        def write(path: str) -> None:
            import nbformat

            write_job(self._session, path, lambda _: write_whole(path, nbformat.writes(node)))

        ask_save(
            self._window, "Export notebook", self._stem("notebook"), "Notebook (*.ipynb)", write
        )

    def save_recipe(self) -> None:
        from py4DSTEM.gui.state.recipe import recipe

        self._ask_text("Save recipe", "recipe", "Recipe (*.toml)", recipe)

    def export_script(self) -> None:
        from py4DSTEM.gui.state.code import script

        self._ask_text("Export script", "script", "Python (*.py)", script)

    def _ask_text(self, title: str, name: str, filters: str, make: Any) -> None:
        text = make(self._session.project, self._window.scan.key)
        ask_save(
            self._window, title, self._stem(name), filters,
            lambda path: write_job(self._session, path, lambda _: write_whole(path, text)),
        )  # fmt: skip

    def export_report(self) -> None:
        """Ask where to."""
        # Taken now: what is in front may be another scan by the time the name is typed.
        scan, cube = self._window.scan, self._window.cube
        ask_save(
            self._window, "Export report", self._stem("report"), "Page (*.html)",
            lambda path: self.write_report(path, scan, cube),
        )  # fmt: skip

    def write_report(self, path: str, scan: Scan, cube: Cube) -> Any:
        """Write all results of a scan as one page."""
        from py4DSTEM.gui.report import results_page
        from py4DSTEM.report import write_html

        values = {r.name: r.value for r in scan.results if r.value is not None}
        values |= {panel: self.shown(panel) for panel in PICTURES[:2] if self._is_shown(panel)}
        return write_job(
            self._session, path, lambda _: write_html(path, results_page(scan.name, cube, values))
        )

    def _is_shown(self, panel: str) -> bool:
        return (
            self._session.stage.showing.get(panel) is not None and self._window.views[panel].exact
        )


def picture_of(view: Any) -> Any:
    """An image with its axes, scale bar and colour bar, as it is shown."""
    rect = view.canvas.geometry()
    if view.bar.isVisible():
        rect = rect.united(view.bar.geometry())
    return view.grab(rect).toImage()


def png_of(image: Any) -> bytes:
    """A `QImage` as a PNG file; in any thread."""
    store = QtCore.QByteArray()
    buffer = QtCore.QBuffer(store)
    buffer.open(QtCore.QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")
    buffer.close()
    return bytes(store.data())


def _save(path: str, value: Any, options: Any) -> None:
    from py4DSTEM.api import save

    save(path, value, options=options)


def _draw(path: str, value: Any, given: dict[str, Any]) -> None:
    from py4DSTEM.plot.raster import Raster

    Raster(value, **given).save(path)
