"""An image and its look: what is on the screen is what was given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyqtgraph", reason="the desktop program needs pyqtgraph and Qt")
from pyqtgraph.Qt import QtCore, QtGui

from py4DSTEM.core.axis import Axis
from py4DSTEM.gui.state.project import Look
from py4DSTEM.gui.views.colors import COLOR_MAPS, color_codes, color_table, swatch
from py4DSTEM.gui.views.image_panel import ImagePanel

Q = Axis("Qx", 0.5, 0.0, "mrad"), Axis("Qy", 0.5, 0.0, "mrad")


@pytest.fixture
def panel(qtbot: Any) -> ImagePanel:
    made = ImagePanel("diffraction")
    qtbot.addWidget(made)
    made.resize(560, 460)
    with qtbot.waitExposed(made):
        made.show()
    return made


def drawn(panel: ImagePanel) -> Any:
    """The colours on the screen, as an image of the pixels."""
    return panel.canvas.pixels._image


def color_at(panel: ImagePanel, x: int, y: int) -> str:
    return QtGui.QColor(drawn(panel).pixel(y, x)).name()


def test_rows_go_down_and_columns_right(panel: ImagePanel, mouse: Any) -> None:
    image = np.zeros((3, 5))
    image[2, 1] = 7.0
    panel.set_image(image)
    seen: list[Any] = []
    panel.hovered.connect(lambda place, value: seen.append((place, value)))
    mouse.hover(panel.canvas, 2.2, 0.8)
    assert seen[-1][0] == pytest.approx((2.2, 0.8), abs=0.1) and seen[-1][1] == 7.0
    low, high = mouse.at(panel.canvas, 0, 0), mouse.at(panel.canvas, 2, 4)
    assert high.y() > low.y() and high.x() > low.x()
    mouse.hover(panel.canvas, 2.2, -0.8)
    assert seen[-1][1] is None


def test_pixel_lies_where_its_colour_is_painted(panel: ImagePanel, mouse: Any, qtbot: Any) -> None:
    image = np.zeros((4, 6))
    image[3, 1] = 1.0
    panel.set_image(image, look=Look(limits=(0.0, 1.0), colors="gray"))
    shot = panel.canvas.grab().toImage()
    at = mouse.at(panel.canvas, 3, 1)
    assert QtGui.QColor(shot.pixel(at)).name() == "#ffffff"
    beside = mouse.at(panel.canvas, 3, 2)
    assert QtGui.QColor(shot.pixel(beside)).name() == "#000000"


def test_colours_follow_limits_and_scale(panel: ImagePanel) -> None:
    table = color_table("viridis")
    name = ["#{:02x}{:02x}{:02x}".format(*row[:3]) for row in table]
    image = np.array([[0.0, 25.0, 100.0, np.nan, 500.0]])
    panel.set_image(image, look=Look(limits=(0.0, 100.0), colors="viridis"))
    assert [color_at(panel, 0, k) for k in range(5)] == [
        name[1], name[65], name[255], name[0], name[255]
    ]  # fmt: skip
    panel.set_look(Look(limits=(0.0, 100.0), colors="viridis", scale="sqrt"))
    assert color_at(panel, 0, 1) == name[128]


def test_drawn_tells_the_number_that_is_on_the_screen(panel: ImagePanel, qtbot: Any) -> None:
    panel.set_image(np.zeros((4, 6)), number=41)
    with qtbot.waitSignal(panel.drawn, check_params_cb=lambda n: n == 42):
        panel.set_image(np.ones((4, 6)), number=42)
        assert panel.drawnNumber != 42
    assert panel.drawnNumber == 42


def test_axes_read_units_from_the_origin(panel: ImagePanel) -> None:
    panel.set_image(np.zeros((41, 61)), axes=Q, zero_px=(20, 30))
    x, y = panel.canvas.axes
    assert (x.reading(20), x.reading(24), y.reading(20)) == (0.0, 2.0, -5.0)
    assert x.labelText == "qx (mrad)" and y.labelText == "qy (mrad)"
    level = y.tickValues(-0.5, 60.5, 400)[0]
    words = y.tickStrings(level[1], 1.0, level[0])
    assert "0" in words and all(y.pixel(float(w)) in level[1] for w in words)
    assert panel.row.chip.isHidden()
    panel.set_image(np.zeros((41, 61)), axes=(Axis("Rx"), Axis("Ry")))
    assert x.labelText == "x (px)" and not panel.row.chip.isHidden()


def test_scale_bar_is_round_and_as_long_as_it_says(panel: ImagePanel, mouse: Any) -> None:
    panel.set_image(np.zeros((100, 100)), axes=(Axis("Rx", 0.3, 0, "nm"), Axis("Ry", 0.3, 0, "nm")))
    bar = panel.canvas.scale_bar
    length = float(bar.text.split()[0])
    pixels = mouse.at(panel.canvas, 0, 50).x() - mouse.at(panel.canvas, 0, 0).x()
    assert bar.text.endswith(" nm") and length in (1, 2, 5, 10, 20, 50)
    assert bar._bar.width() == pytest.approx(length / 0.3 * pixels / 50, rel=0.03)


def test_oblong_pixels_are_drawn_oblong(panel: ImagePanel, mouse: Any) -> None:
    panel.set_image(np.zeros((30, 30)), axes=(Axis("Rx", 2.0, 0, "nm"), Axis("Ry", 1.0, 0, "nm")))
    origin = mouse.at(panel.canvas, 0, 0)
    down = mouse.at(panel.canvas, 10, 0).y() - origin.y()
    right = mouse.at(panel.canvas, 0, 10).x() - origin.x()
    assert down == pytest.approx(2 * right, rel=0.05)


def test_lock_and_auto(panel: ImagePanel) -> None:
    told: list[Look] = []
    panel.lookChanged.connect(told.append)
    ramp = np.arange(101.0).reshape(1, 101)
    panel.set_image(ramp)
    first = panel.limits
    panel.row.lock.click()
    panel.set_image(10 * ramp)
    assert panel.limits == first == told[-1].limits
    panel.row.auto.click()
    assert panel.limits == pytest.approx((10 * first[0], 10 * first[1]))
    assert told[-1].limits is None and not panel.row.lock.isChecked()


def test_scale_colours_and_gamma_by_their_widgets(panel: ImagePanel, qtbot: Any) -> None:
    told: list[Look] = []
    panel.lookChanged.connect(told.append)
    panel.set_image(np.arange(12.0).reshape(3, 4))
    for widget, text in ((panel.row.scale, "log"), (panel.row.colors, "cividis")):
        widget.setCurrentIndex(widget.findText(text))
        widget.activated.emit(widget.currentIndex())
    assert (told[-1].scale, told[-1].colors) == ("log", "cividis")
    assert drawn(panel).colorTable() == color_codes("cividis")
    panel.row.scale.activated.emit(3)
    assert panel.row.gamma.isVisible()
    panel.row.gamma.setValue(0.5)
    assert told[-1].scale == 0.5
    panel.cycle_scale()
    assert told[-1].scale == "linear" and not panel.row.gamma.isVisible()


def test_limits_are_dragged_on_the_colour_bar(panel: ImagePanel, qtbot: Any) -> None:
    panel.set_image(np.linspace(0, 100, 400).reshape(20, 20))
    bar = panel.bar
    qtbot.waitUntil(lambda: bar.counts.sum() == 400)
    told: list[Look] = []
    panel.lookChanged.connect(told.append)
    left = QtCore.Qt.MouseButton.LeftButton
    y = round(bar.level_y(bar.high))
    qtbot.mousePress(bar, left, pos=QtCore.QPoint(8, y))
    for step in (20, 40):
        event = QtGui.QMouseEvent(
            QtCore.QEvent.Type.MouseMove,
            QtCore.QPointF(8, y + step),
            QtCore.QPointF(bar.mapToGlobal(QtCore.QPoint(8, y + step))),
            QtCore.Qt.MouseButton.NoButton,
            left,
            QtCore.Qt.KeyboardModifier.NoModifier,
        )
        bar.mouseMoveEvent(event)
    assert not told and panel.limits[1] < 95
    qtbot.mouseRelease(bar, left, pos=QtCore.QPoint(8, y + 40))
    assert told[-1].limits == panel.limits == (bar.low, bar.high)
    assert bar.level_y(bar.high) == pytest.approx(y + 40, abs=1)
    qtbot.mouseDClick(bar, left, pos=QtCore.QPoint(8, 100))
    assert told[-1].limits is None


def test_signed_images_have_zero_in_the_middle(panel: ImagePanel) -> None:
    panel.set_image(np.linspace(-3, 5, 99).reshape(9, 11))
    assert panel.limits[0] == -panel.limits[1]
    assert drawn(panel).colorTable() == color_codes("RdBu_r")
    panel.set_image(np.linspace(-3, 5, 99).reshape(9, 11), signed=False)
    assert panel.limits[0] > -3.1 and drawn(panel).colorTable() == color_codes("inferno")


def test_coarse_images_fill_the_frame_and_are_marked(panel: ImagePanel) -> None:
    coarse = np.array([[1.0, 2.0], [3.0, 4.0]])
    panel.set_coarse(coarse, np.array([0, 4]), np.array([1, 5]), (6, 7))
    assert panel.image.shape == (6, 7) and panel.mark.isVisible() and panel.mark.text() == "coarse"
    assert panel.image[1, 2] == 1 and panel.image[5, 6] == 4 and panel.image[5, 0] == 3
    panel.set_image(np.ones((6, 7)))
    assert panel.mark.isHidden()
    panel.set_stale(True)
    assert panel.mark.isVisible() and panel.mark.text() != "coarse"


def test_vectors_are_coloured_by_direction(panel: ImagePanel) -> None:
    image = np.array([[1 + 0j, 0 + 1j, -1 + 0j, np.nan]])
    panel.set_image(image)
    colors = {color_at(panel, 0, k) for k in range(4)}
    assert len(colors) == 4 and panel.wheel.isVisible() and panel.bar.isHidden()
    panel.set_image(np.ones((1, 4)))
    assert panel.wheel.isHidden() and panel.bar.isVisible()


def test_rgb(panel: ImagePanel) -> None:
    image = np.zeros((2, 3, 3))
    image[1, 2] = (1.0, 0.5, 0.0)
    panel.set_rgb(image, number=7)
    assert color_at(panel, 1, 2) == "#ff8000" and color_at(panel, 0, 0) == "#000000"
    assert panel.canvas.pixels.number == 7


def test_large_images_are_coloured_beside_the_gui_thread(panel: ImagePanel, qtbot: Any) -> None:
    image = np.zeros((1100, 1000), dtype=np.float32)
    image[1099, 0] = 1.0
    panel.set_image(image, look=Look(limits=(0.0, 1.0), colors="gray"), number=3)
    qtbot.waitUntil(lambda: panel.canvas.pixels.number == 3)
    assert color_at(panel, 1099, 0) == "#ffffff" and color_at(panel, 0, 0) == "#000000"
    small = np.zeros((4, 5))
    panel.set_image(image)
    panel.set_image(small, number=4)
    qtbot.waitUntil(lambda: panel._lane.idle)
    assert panel.canvas.pixels.number == 4 and panel.canvas.pixels.grid_shape == (4, 5)


@pytest.mark.parametrize(
    "image",
    [
        np.full((3, 4), np.nan),
        np.zeros((1, 1)),
        np.full((1, 300), np.inf),
        np.array([[1e308, -1e308], [5e-324, 0.0]]),
        np.array([[2**64 - 1, 0]], dtype=np.uint64),
        np.array([[True, False]]),
        np.full((2, 2), np.nan + 1j),
    ],
    ids=lambda image: f"{image.dtype}-{image.shape}",
)
@pytest.mark.parametrize("scale", ["linear", "sqrt", "log", 0.3])
def test_odd_images(panel: ImagePanel, image: Any, scale: Any) -> None:
    panel.set_image(image, look=Look(scale=scale))
    assert panel.canvas.pixels.grid_shape == image.shape
    assert panel.limits[0] < panel.limits[1] and np.isfinite(panel.limits).all()


def test_wheel_zooms_and_right_drag_moves(panel: ImagePanel, mouse: Any, qtbot: Any) -> None:
    panel.set_image(np.zeros((40, 60)))
    start = panel.canvas.box.viewRect()
    panel.zoom(20.0)
    zoomed = panel.canvas.box.viewRect()
    assert zoomed.width() < start.width()
    assert panel.canvas.pixel_size() == pytest.approx(1 / 20)
    right = QtCore.Qt.MouseButton.RightButton
    middle = zoomed.center()
    mouse.press(panel.canvas, middle.y(), middle.x(), right)
    mouse.move(panel.canvas, middle.y() + 3, middle.x() + 4, right)
    mouse.release(panel.canvas, middle.y(), middle.x(), right)  # what was held is there again
    moved = panel.canvas.box.viewRect().center()
    assert (moved.y(), moved.x()) == pytest.approx((middle.y() - 3, middle.x() - 4), abs=0.2)
    qtbot.keyClick(panel.canvas, QtCore.Qt.Key.Key_F)
    assert panel.canvas.box.viewRect().contains(QtCore.QRectF(-0.4, -0.4, 59.8, 39.8))


def test_clicks_and_drags_of_nothing_are_told(panel: ImagePanel, mouse: Any, qtbot: Any) -> None:
    panel.set_image(np.zeros((40, 60)))
    with qtbot.waitSignal(panel.clicked) as click:
        mouse.click(panel.canvas, 12, 34)
    assert click.args == pytest.approx((12, 34), abs=0.2)
    told: list[Any] = []
    panel.dragged.connect(lambda *args: told.append(args))
    mouse.drag(panel.canvas, (5, 5), (20, 30))
    assert told[-1][2] and told[-1][:2] == pytest.approx((20, 30), abs=0.3)


@pytest.mark.parametrize("name", COLOR_MAPS)
def test_maps_agree_with_matplotlib(name: str, qapp: Any) -> None:
    import matplotlib as mpl

    expected = mpl.colormaps[name](np.linspace(0, 1, 255))[:, :3] * 255
    assert np.abs(color_table(name)[1:, :3] - expected).max() < 5
    assert not swatch(name).isNull()


# ---- room ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [(900, 300), (300, 900), (560, 460)])
def test_axes_end_soon_after_the_image(
    panel: ImagePanel, qtbot: Any, size: tuple[int, int]
) -> None:
    panel.set_image(np.zeros((12, 30)), axes=Q)
    panel.resize(*size)
    rows, columns = 12, 30

    def shown() -> tuple[float, float]:
        seen = panel.canvas.box.viewRect()
        return seen.height() / rows, seen.width() / columns

    qtbot.waitUntil(lambda: max(shown()) <= 1.25 and not panel.canvas._later.isActive())
    assert min(shown()) == pytest.approx(1.0, abs=0.02)  # it fills the room one way
    whole = panel.canvas.box.viewRect()
    assert whole.contains(panel.canvas.pixels.boundingRect().adjusted(0.1, 0.1, -0.1, -0.1))
    assert whole.center().x() == pytest.approx(14.5, abs=0.1)
    step = panel.canvas.box.viewPixelSize()
    assert step[0] == pytest.approx(step[1])
    box = panel.canvas.box.geometry()
    left, below = (axis.geometry() for axis in panel.canvas.axes)
    assert (left.top(), left.bottom()) == pytest.approx((box.top(), box.bottom()), abs=1.0)
    assert (below.left(), below.right()) == pytest.approx((box.left(), box.right()), abs=1.0)


def test_long_titles_end_in_dots(panel: ImagePanel) -> None:
    panel.set_image(np.zeros((4, 6)), title="the sum of a rectangle " * 9)
    title = panel.row.title
    assert title.shown.endswith("…") and title.toolTip() == title.text()
    panel.row.set_title("A")
    assert title.shown == "A"


@pytest.mark.parametrize("wish", ["dark", "light"])
def test_what_is_switched_on_looks_so(panel: ImagePanel, qapp: Any, wish: str) -> None:
    from py4DSTEM.gui import theme

    theme.apply(wish)
    panel.set_image(np.zeros((4, 6)))
    lock = panel.row.lock

    def middle() -> QtGui.QColor:
        image = lock.grab().toImage()
        return QtGui.QColor(image.pixel(3, image.height() // 2))

    off = middle()
    lock.setChecked(True)
    on = middle()
    highlight = lock.palette().color(QtGui.QPalette.ColorRole.Highlight)
    assert on == highlight
    apart = sum(abs(a - b) for a, b in zip(on.getRgb(), off.getRgb(), strict=True))
    assert apart > 60
