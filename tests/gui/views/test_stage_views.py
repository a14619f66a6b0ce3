"""Both images of a scan: shapes make commands, pictures belong to what is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyqtgraph", reason="the desktop program needs pyqtgraph and Qt")
from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM import Annulus, Calibration, DataCube, Disk, virtual_image
from py4DSTEM.core.detector import Mask
from py4DSTEM.core.selection import MaskSelection, PointSelection, RectangleSelection
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.gui.live import Live
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.stage import Curves, Marks, Picture, Region, Ruler
from py4DSTEM.gui.state.commands import (
    AddDetector,
    ChangeLook,
    RemoveDetector,
    Select,
    SetResponse,
    ShowInPanel,
    WeighDetector,
)
from py4DSTEM.gui.state.project import DetectorEntry, Look
from py4DSTEM.gui.views.brush import Brush
from py4DSTEM.gui.views.stage_views import SELECTION, DiffractionView, RealView


@pytest.fixture(scope="module")
def cube() -> DataCube:
    rng = np.random.default_rng(7)
    disk = Disk(5, center=(15, 18)).weights((32, 36), Calibration())
    thick = np.linspace(0.5, 1.5, 9 * 11).reshape(9, 11, 1, 1)
    return DataCube(rng.poisson(40 * thick * disk + 1).astype(np.uint16), name="tiny")


class Desk(QtWidgets.QWidget):
    """Both views beside each other."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session, self.live = session, Live(session)
        self.diffraction, self.real = DiffractionView(session), RealView(session)
        row = QtWidgets.QHBoxLayout(self)
        self.troubles: list[Any] = []
        session.troubled.connect(lambda *trouble: self.troubles.append(trouble))
        for view in (self.diffraction, self.real):
            view.follow(self.live)
            row.addWidget(view)
        self.resize(1000, 460)

    @property
    def scan(self) -> Any:
        return self.session.project.scan

    @property
    def settled(self) -> bool:
        """Whether both images on the screen are those of the last requests."""
        return (
            self.scan is not None
            and self.live.idle
            and not self.session.jobs.active
            and self.real.drawnNumber == self.live.images.number
            and self.diffraction.drawnNumber == self.live.patterns.number
            and self.real.exact
        )


@pytest.fixture
def desk(qtbot: Any, cube: DataCube) -> Iterator[Desk]:
    session = Session(workers=2)
    made = Desk(session)
    qtbot.addWidget(made)
    with qtbot.waitExposed(made):
        made.show()
    session.add_cube(cube, "tiny")
    qtbot.waitUntil(lambda: made.settled, timeout=20000)
    yield made
    made.live.stop()
    session.close()
    assert not made.troubles


def test_first_view(desk: Desk, cube: DataCube) -> None:
    detector = desk.scan.detectors[0].shape
    assert desk.diffraction.shapes["A"].value == detector
    expected = virtual_image(cube, detector).data
    np.testing.assert_allclose(desk.real.image, expected, rtol=1e-9)
    np.testing.assert_array_equal(desk.diffraction.image, cube.data[4, 5])
    assert desk.real.shapes[SELECTION].value == PointSelection(4, 5)


def test_dragged_detector_and_its_image(desk: Desk, cube: DataCube, mouse: Any, qtbot: Any) -> None:
    x, y = desk.scan.detectors[0].shape.center
    history = desk.session.history
    mouse.drag(desk.diffraction.canvas, (x, y), (x + 6, y - 4))
    shape = desk.scan.detectors[0].shape
    assert shape.center == pytest.approx((x + 6, y - 4), abs=0.3)
    qtbot.waitUntil(lambda: desk.settled)
    np.testing.assert_allclose(desk.real.image, virtual_image(cube, shape).data, rtol=1e-9)
    desk.session.undo()  # the whole drag is one act
    assert desk.scan.detectors[0].shape.center == (x, y)
    assert desk.diffraction.shapes["A"].value.center == (x, y)
    assert history.project is desk.session.project


def test_escape_during_a_drag(desk: Desk, mouse: Any, qtbot: Any) -> None:
    before = desk.scan.detectors[0].shape
    mouse.press(desk.diffraction.canvas, *before.center)
    mouse.move(desk.diffraction.canvas, before.center[0] + 5, before.center[1])
    assert desk.scan.detectors[0].shape != before
    qtbot.keyClick(desk.diffraction.canvas, QtCore.Qt.Key.Key_Escape)
    assert desk.scan.detectors[0].shape == before
    mouse.release(desk.diffraction.canvas, 1, 1)
    assert desk.scan.detectors[0].shape == before


def test_detectors_come_and_go(desk: Desk, mouse: Any) -> None:
    key = desk.scan.key
    ring = DetectorEntry(name="B", shape=Annulus(8, 12, center=(15, 18)))
    desk.session.do(AddDetector(key=key, entry=ring))
    shapes = desk.diffraction.shapes
    assert set(shapes) == {"A", "B"} and shapes["B"].active and not shapes["A"].active
    desk.session.do(WeighDetector(key=key, name="B", shown=False))
    assert shapes["B"].dimmed and not shapes["A"].dimmed
    x, y = desk.scan.detectors[0].shape.center
    mouse.click(desk.diffraction.canvas, x + 2, y + 2)
    assert desk.scan.active == "A" and shapes["A"].active
    desk.session.do(RemoveDetector(key=key, name="B"))
    assert set(shapes) == {"A"}


def test_probe_is_dragged_from_anywhere(desk: Desk, cube: DataCube, mouse: Any, qtbot: Any) -> None:
    mouse.drag(desk.real.canvas, (1, 1), (7, 9))
    assert desk.scan.selection == PointSelection(7, 9)
    qtbot.waitUntil(lambda: desk.settled)
    np.testing.assert_array_equal(desk.diffraction.image, cube.data[7, 9])
    mouse.click(desk.real.canvas, 2.3, 0.8)
    assert desk.scan.selection == PointSelection(2, 1)
    mouse.drag(desk.real.canvas, (2, 1), (2, 5))
    assert desk.scan.selection == PointSelection(2, 5)
    mouse.drag(desk.real.canvas, (4, 4), (30, -20))
    assert desk.scan.selection == PointSelection(8, 0)


def test_region_is_kept_by_clicks_and_left_by_double_clicks(
    desk: Desk, cube: DataCube, mouse: Any, qtbot: Any
) -> None:
    region = RectangleSelection(1, 4, 2, 6)
    desk.session.do(Select(key=desk.scan.key, selection=region, how="mean"))
    with qtbot.waitSignal(desk.session.stage.clicked) as click:
        mouse.click(desk.real.canvas, 7, 9)
    assert click.args[0] == "real" and click.args[1:] == pytest.approx([7, 9], abs=0.2)
    assert desk.scan.selection == region
    mouse.drag(desk.real.canvas, (2, 3.5), (4, 4.5))
    assert desk.scan.selection == RectangleSelection(3, 6, 3, 7)
    qtbot.waitUntil(lambda: desk.settled)
    expected = cube.data[3:6, 3:7].mean((0, 1))
    np.testing.assert_allclose(desk.diffraction.image, expected, rtol=1e-12)
    desk.real.doubleClicked.emit(6.0, 8.0)
    assert desk.scan.selection == PointSelection(6, 8)


def test_looks_are_acts(desk: Desk, qtbot: Any) -> None:
    desk.real.cycle_scale()
    assert desk.session.project.looks["real"].scale == "sqrt"
    desk.session.undo()
    assert desk.real.look.scale == "linear"
    desk.session.do(ChangeLook(panel="diffraction", look=Look(colors="gray")))
    assert desk.diffraction.look.colors == "gray"


def test_results_instead_of_live_images(desk: Desk, qtbot: Any) -> None:
    data = np.arange(2 * 9 * 11, dtype=float).reshape(2, 9, 11)
    desk.session.keep("maps", RealSlice(data, labels=("one", "two")))
    what = desk.real.row.what
    assert [what.itemData(k) for k in range(what.count())] == ["", "maps/one", "maps/two"]
    what.setCurrentIndex(2)
    what.activated.emit(2)
    assert desk.scan.real == "maps/two"
    np.testing.assert_array_equal(desk.real.image, data[1])
    desk.session.do(ShowInPanel(key=desk.scan.key, panel="real", name=""))
    qtbot.waitUntil(lambda: desk.settled)
    assert desk.real.image.max() < data[1].max() * 1e6 and desk.scan.real == ""


def test_overlays(desk: Desk, mouse: Any, qtbot: Any) -> None:
    stage, view = desk.session.stage, desk.real
    stage.put("real", "spots", Marks(np.array([[1.0, 2.0], [3.0, 4.0]]), labels=("a", "b")))
    scatter, *labels = view.overlays.items("spots")
    assert len(labels) == 2 and (scatter.data["x"].tolist(), scatter.data["y"].tolist()) == (
        [2.0, 4.0], [1.0, 3.0]
    )  # fmt: skip
    stage.put("real", "path", Curves((np.array([[0.0, 1.0], [5.0, 7.0]]),)))
    rect = view.overlays.items("path")[0].path().boundingRect()
    assert (rect.left(), rect.top(), rect.right(), rect.bottom()) == (1, 0, 7, 5)
    told: list[Any] = []
    region = Region(RectangleSelection(0, 3, 6, 10), lambda *args: told.append(args), name="ref")
    stage.put("real", "reference", region)
    mouse.drag(view.canvas, (1, 7.5), (4, 5.5))
    assert told[-1] == (RectangleSelection(3, 6, 4, 8), True)
    picture = np.full((9, 11), 3.0)
    stage.put("real", "before", Picture(RealSlice(picture), "raw"))
    assert view.image is picture and view.row.title.text() == "raw"
    stage.clear("")
    assert view.image is not picture and not view.overlays.items("spots")
    assert set(view.shapes) == {SELECTION}


def test_ruler(desk: Desk, mouse: Any) -> None:
    told: list[Any] = []
    ruler = Ruler((2.0, 2.0), (2.0, 8.0), lambda *ends: told.append(ends))
    desk.session.stage.put("real", "line", ruler)
    item = desk.real.overlays.ruler("line")
    assert np.allclose(item.ends, ((2, 2), (2, 8)))
    mouse.drag(desk.real.canvas, (2, 8), (6, 9), steps=12)
    assert told[-1][1] == pytest.approx((6, 9), abs=0.3) and told[-1][0] == (2.0, 2.0)
    desk.session.stage.put("real", "line", Ruler((1.0, 1.0), (5.0, 6.0), ruler.moved))
    assert np.allclose(item.ends, ((1, 1), (5, 6)))
    desk.session.stage.clear("line")


def test_painted_selection(desk: Desk, cube: DataCube, mouse: Any, qtbot: Any) -> None:
    desk.real.set_brush(Brush(radius_px=0.6))
    mouse.drag(desk.real.canvas, (2, 3), (2, 7))
    selection = desk.scan.selection
    assert isinstance(selection, MaskSelection)
    assert selection.data[2, 3:8].all() and selection.data.sum() == 5
    desk.real.set_brush(Brush(radius_px=0.6, erase=True))
    mouse.click(desk.real.canvas, 2, 5)
    assert desk.scan.selection.data.sum() == 4
    qtbot.waitUntil(lambda: desk.settled)
    expected = cube.data[2, [3, 4, 6, 7]].mean(0)
    np.testing.assert_allclose(desk.diffraction.image, expected, rtol=1e-12)
    desk.real.set_brush(None)
    mouse.drag(desk.real.canvas, (2, 3), (4, 5))
    assert desk.scan.selection.data.sum() == 4


def test_painted_detector(desk: Desk, cube: DataCube, mouse: Any, qtbot: Any) -> None:
    desk.diffraction.set_brush(Brush(radius_px=2.0))
    mouse.drag(desk.diffraction.canvas, (25, 8), (25, 20))
    entry = desk.scan.detectors[-1]
    assert entry.name == "B" and isinstance(entry.shape, Mask) and desk.scan.active == "B"
    assert entry.shape.data[25, 8:21].all() and not entry.shape.data[:20].any()
    mouse.drag(desk.diffraction.canvas, (5, 25), (8, 30))
    assert len(desk.scan.detectors) == 2 and desk.scan.detectors[1].shape.data[5, 25]
    desk.session.undo()
    assert not desk.scan.detectors[1].shape.data[5, 25]


def test_centre_of_mass_in_colours(desk: Desk, qtbot: Any) -> None:
    desk.session.do(SetResponse(key=desk.scan.key, response="com"))
    qtbot.waitUntil(lambda: desk.real.image is not None and desk.real.image.dtype.kind == "c")
    assert desk.real.wheel.isVisible()
    assert desk.session.stage.showing["real"].data.dtype.kind == "c"


def test_hover_is_told(desk: Desk, mouse: Any, qtbot: Any) -> None:
    with qtbot.waitSignal(desk.session.stage.hovered) as hover:
        mouse.hover(desk.diffraction.canvas, 20, 30)
    assert hover.args[0] == "diffraction" and hover.args[1] == pytest.approx((20, 30), abs=0.2)


def test_closing_the_scan_leaves_nothing(desk: Desk) -> None:
    desk.session.close_scan(desk.scan.key)
    assert desk.real.image is None and desk.diffraction.image is None
    assert not list(desk.diffraction.shapes) and not list(desk.real.shapes)
