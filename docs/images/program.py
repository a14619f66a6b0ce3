"""Take the pictures of the desktop program: python docs/images/program.py [FOLDER]"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt5")
os.environ["PY4DSTEM_HOME"] = tempfile.mkdtemp()

from pyqtgraph.Qt import QtCore, QtTest

import py4DSTEM
from py4DSTEM.core.selection import RectangleSelection
from py4DSTEM.gui import preferences, program, theme
from py4DSTEM.gui.jobs.lane import Lane
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.commands import Select
from py4DSTEM.gui.window import MainWindow

HERE = Path(__file__).parent
SIZE = (1360, 850)


class Photographer:
    """The program with a sample open, and a camera."""

    def __init__(self, folder: Path, colors: str = "dark") -> None:
        self.app = program.application()
        theme.apply(colors)
        self.folder = folder
        self.session = Session()
        self.session.troubled.connect(_unexpected)
        self.window = MainWindow(self.session, preferences.Preferences(), safe=True)
        self.window.resize(*SIZE)
        self.window.show()

    def wait(self, until: Callable[[], bool] = lambda: True, seconds: float = 120) -> None:
        """Let the program go on until it is idle and something holds."""
        end = time.monotonic() + seconds
        quiet = 0
        while quiet < 10:
            QtTest.QTest.qWait(30)
            busy = bool(self.session.jobs.active) or not _lanes_idle(self.app) or not until()
            quiet = 0 if busy else quiet + 1
            if time.monotonic() > end:
                raise TimeoutError("the program did not come to rest")

    def act(self, name: str) -> None:
        """Choose an action from a menu."""
        self.window.actions_.trigger(name)
        self.wait()

    def shoot(self, name: str, widget: Any = None) -> None:
        """Keep a picture of the window, or of a part of it."""
        self.wait()
        from PIL import Image

        path = self.folder / f"{name}.png"
        (widget or self.window).grab().save(str(path))
        Image.open(path).convert("RGB").save(path, optimize=True)

    def panel(self, name: str, width: int = 620) -> Any:
        """Open a tool, wide enough, in place of the inspector."""
        found = self.window.show_panel(name)
        dock = self.window.docks.docks[f"panel:{name}"]
        self.window.resizeDocks([dock], [width], QtCore.Qt.Orientation.Horizontal)
        self.wait()
        return found


def _lanes_idle(app: Any) -> bool:
    """Whether no panel waits for an answer."""
    parts = [part for widget in app.allWidgets() for part in vars(widget).values()]
    return all(part.idle for part in parts if isinstance(part, Lane))


def _unexpected(doing: str, error: BaseException) -> None:
    raise RuntimeError(f"{doing}: {error}") from error


def sample() -> Any:
    """A strained film with its vacuum probe; the units are known."""
    return py4DSTEM.simulate.strained_lattice((32, 40), (128, 128), dose=40000, seed=4)


def pictures(folder: Path) -> None:
    """All of them, in the order of a day's work."""
    scan = sample()
    camera = Photographer(folder)
    session = camera.session
    session.add_cube(scan.cube, "strained film")
    camera.wait(lambda: bool(session.project.scans))
    camera.shoot("program")
    detectors(camera)
    found = bragg(camera, scan)
    calibration(camera)
    strain(camera, found)
    tools(camera, folder)
    camera.window.stop()


def detectors(camera: Photographer) -> None:
    """Several detectors, a region, and their expression."""
    session = camera.session
    camera.act("detector.preset_haadf")
    region = RectangleSelection(6, 16, 8, 22)
    session.do(Select(key=session.project.current, selection=region, how="mean"))
    camera.shoot("program_detectors")
    camera.act("detector.preset_dpc")
    camera.shoot("program_dpc")
    camera.act("detector.preset_bf")


def bragg(camera: Photographer, scan: Any) -> str:
    """Nine previews; then the whole scan."""
    panel = camera.panel("bragg")
    camera.wait()
    camera.shoot("program_bragg")
    panel.run()
    camera.wait(lambda: bool(camera.session.project.scan.results))
    return str(camera.session.project.scan.results[-1].name)


def calibration(camera: Photographer) -> None:
    """The first pages of the wizard."""
    wizard = camera.panel("calibration")
    page = wizard.pages[0]
    page.measure()
    camera.wait(lambda: page.found is not None)
    camera.shoot("program_calibration")
    page.accept()


def strain(camera: Photographer, peaks: str) -> None:
    """Vectors, reference, maps."""
    panel = camera.panel("strain", 700)
    camera.wait()
    camera.shoot("program_vectors")
    panel.lattice_page.fit()
    camera.wait(lambda: panel.map_page.isVisible())
    camera.shoot("program_strain")


def tools(camera: Photographer, folder: Path) -> None:
    """The other panels, each by itself."""
    quality = camera.panel("quality", 520)
    quality.run()
    camera.wait()
    camera.shoot("program_quality", quality)
    form = camera.panel("step", 520)
    form.show_kind("find-bragg-disks")
    camera.shoot("program_step", form)
    figure = camera.panel("result", 620)
    figure.show_result(camera.session.project.scan.results[-1].name)
    camera.shoot("program_figure", figure)
    raw = folder / "film_32x40.raw"
    sample().cube.data.astype("<u2").tofile(raw)
    camera.window.import_file(str(raw))
    camera.panel("import", 620)
    camera.shoot("program_import", camera.window.panels["import"])
    raw.unlink()
    batch(camera, folder)
    theme.apply("light")
    camera.panel("strain", 640)
    camera.shoot("program_light")


RUN = """schema = 1
name = "strained films"

[[step]]
use = "quality"
name = "quality"

[[step]]
use = "mean-pattern"
name = "mean"

[[step]]
use = "measure-probe"
name = "probe"
of = "mean"

[[step]]
use = "find-bragg-disks"
name = "bragg"
probe = { result = "probe" }
edge_px = 4

[limits]
timeout_min = 60

[qc]                             # beyond these, a row is yellow or red
bragg_peaks_median = { min = 4 }
"quality.dose_per_pattern" = { min = 2000 }
"""


def batch(camera: Photographer, folder: Path) -> None:
    """A run over files, of which one is dim and one is cut off."""
    place = Path(tempfile.mkdtemp())
    files = []
    for k in range(7):
        scan = py4DSTEM.simulate.strained_lattice(
            (12, 14), (96, 96), dose=1850 if k == 3 else 20000, seed=k
        )
        files.append(place / f"film_{17 + k:03d}.h5")
        py4DSTEM.save(files[-1], scan.cube)
    files[5].write_bytes(files[5].read_bytes()[:3000])
    panel = camera.panel("batch", 640)
    panel.editor.show_text(RUN, "films.toml")
    panel.files.set_names(*map(str, files))
    panel.out.setText(str(place / "out"))
    panel.workers.setValue(2)
    camera.wait(lambda: panel.editor.found is not None)
    panel.run()
    camera.wait(lambda: panel.seen is not None and panel.seen.ended > 3)
    camera.wait(lambda: panel.run_ is None and panel.seen.ended == len(files), 300)
    panel.out.blockSignals(True)
    panel.out.setText("results")
    camera.shoot("program_batch")


if __name__ == "__main__":
    pictures(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
