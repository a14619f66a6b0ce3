"""The session and its live pictures: what is shown is what the library gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyqtgraph", reason="the desktop program needs pyqtgraph and Qt")

from py4DSTEM import Annulus, Calibration, DataCube, Disk, virtual_image
from py4DSTEM.core.selection import PointSelection, RectangleSelection
from py4DSTEM.gui import live as live_module
from py4DSTEM.gui.live import Live, Shown
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.commands import AddDetector, ChangeDetector, Select, SetExpression
from py4DSTEM.gui.state.project import DetectorEntry
from py4DSTEM.process.live.scan import LiveScan


@pytest.fixture
def cube() -> DataCube:
    rng = np.random.default_rng(5)
    disk = Disk(5, center=(15, 18)).weights((32, 36), Calibration())
    return DataCube(rng.poisson(40 * disk + 1, (9, 7, 32, 36)).astype(np.uint16), name="tiny")


class Desk:
    """A session with its live pictures, and the last of each."""

    def __init__(self) -> None:
        self.session = Session()
        self.live = Live(self.session)
        self.image: Shown | None = None
        self.pattern: Shown | None = None
        self.troubles: list[tuple[str, BaseException]] = []
        self.live.image.connect(lambda shown: setattr(self, "image", shown))
        self.live.pattern.connect(lambda shown: setattr(self, "pattern", shown))
        self.session.troubled.connect(lambda *trouble: self.troubles.append(trouble))

    @property
    def key(self) -> str:
        return self.session.project.current

    @property
    def settled(self) -> bool:
        shown = (self.image, self.pattern)
        return (
            self.live.idle
            and not self.session.jobs.active
            and None not in shown
            and self.image.number == self.live.images.number
            and self.pattern.number == self.live.patterns.number
            and self.image.exact
        )


@pytest.fixture
def desk(qtbot: Any) -> Iterator[Desk]:
    made = Desk()
    yield made
    made.live.stop()
    made.session.close()


@pytest.fixture
def opened(desk: Desk, cube: DataCube, qtbot: Any) -> Desk:
    desk.session.add_cube(cube)
    qtbot.waitUntil(lambda: desk.settled, timeout=60_000)
    return desk


def test_first_view_is_the_bright_field_of_the_beam(opened: Desk, cube: DataCube) -> None:
    scan = opened.session.project.scan
    (entry,) = scan.detectors
    assert np.hypot(*np.subtract(entry.shape.center, (15, 18))) < 0.5
    assert abs(entry.shape.radius - 5) < 0.6
    expected = virtual_image(cube, entry.shape).data
    np.testing.assert_allclose(opened.image.data, expected, rtol=1e-12)
    np.testing.assert_array_equal(opened.pattern.data, cube.data[4, 3])


def test_the_picture_follows_the_detector(opened: Desk, cube: DataCube, qtbot: Any) -> None:
    session, rng = opened.session, np.random.default_rng(0)
    for step in range(120):
        center, radius = rng.uniform(-6, 40, 2), rng.uniform(0.5, 12)
        shape = Disk(radius, center=(float(center[0]), float(center[1])))
        session.do(ChangeDetector(key=opened.key, name="A", shape=shape, settled=step % 20 == 19))
    qtbot.waitUntil(lambda: opened.settled)
    assert opened.image.scan.detector("A").shape == shape
    weights = shape.weights(cube.Q_shape, cube.calibration)
    expected = np.einsum("xyij,ij->xy", cube.data, weights) if weights.any() else np.nan
    np.testing.assert_allclose(opened.image.data, np.broadcast_to(expected, cube.R_shape))


def test_a_drag_is_undone_at_once(opened: Desk, qtbot: Any) -> None:
    before = opened.session.project.scan.detector("A").shape
    for x in range(10, 20):
        shape = Disk(4, center=(x, 11))
        opened.session.do(ChangeDetector(key=opened.key, name="A", shape=shape, settled=x == 19))
    opened.session.undo()
    assert opened.session.project.scan.detector("A").shape == before
    opened.session.redo()
    assert opened.session.project.scan.detector("A").shape == Disk(4, center=(19, 11))


def test_a_drag_without_caches_becomes_exact_when_it_ends(
    desk: Desk, cube: DataCube, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveScan, "_coarse_positions", lambda self, positions: 9)
    monkeypatch.setattr(live_module, "_prepare", lambda data, options: data.live.coarse(options))
    desk.session.add_cube(cube)
    qtbot.waitUntil(lambda: desk.settled, timeout=60_000)
    shape = Disk(4, center=(12, 20))
    for settled in (False, True):  # the mouse is let go where it was last
        change = ChangeDetector(key=desk.key, name="A", shape=shape, settled=settled)
        desk.session.do(change)
        if not settled:
            qtbot.waitUntil(lambda: desk.live.idle and not desk.image.exact)
    qtbot.waitUntil(lambda: desk.settled)
    np.testing.assert_allclose(desk.image.data, virtual_image(cube, shape).data, rtol=1e-12)


def test_expressions_of_detectors(opened: Desk, cube: DataCube, qtbot: Any) -> None:
    ring = Annulus(6, 12, center=(15, 18))
    opened.session.do(AddDetector(key=opened.key, entry=DetectorEntry(name="B", shape=ring)))
    opened.session.do(SetExpression(key=opened.key, expression="(A - B) / (A + B)"))
    qtbot.waitUntil(lambda: opened.settled)
    scan = opened.session.project.scan
    a, b = (virtual_image(cube, scan.detector(name).shape).data for name in "AB")
    np.testing.assert_allclose(opened.image.data, (a - b) / (a + b), rtol=1e-12)


@pytest.mark.parametrize("how", ["mean", "max", "sum"])
def test_patterns_of_a_region(opened: Desk, cube: DataCube, how: str, qtbot: Any) -> None:
    region = RectangleSelection(2, 5, 1, 4)
    opened.session.do(Select(key=opened.key, selection=region, how=how))
    qtbot.waitUntil(lambda: opened.settled)
    inside = cube.data[region.mask(cube.R_shape)]
    np.testing.assert_allclose(opened.pattern.data, getattr(np, how)(inside, axis=0))


def test_nonsense_is_said_and_changes_nothing(opened: Desk) -> None:
    before = opened.session.project
    for nonsense in ("A + Q", "0.5"):
        assert not opened.session.do(SetExpression(key=opened.key, expression=nonsense))
    assert opened.session.project is before and len(opened.troubles) == 2


def test_a_file_that_cannot_be_opened_leaves_what_is_open(
    opened: Desk, tmp_path: Path, qtbot: Any
) -> None:
    bad = tmp_path / "bad.dm4"
    bad.write_bytes(b"not a scan at all" * 10)
    before = opened.session.project
    for path in (bad, tmp_path / "missing.mib"):
        opened.session.open(path)
    qtbot.waitUntil(lambda: len(opened.troubles) == 2)
    assert opened.session.project is before
    assert opened.session.cube(opened.key) is not None


def test_closing_frees_the_data_and_undo_opens_again(
    desk: Desk, cube: DataCube, tmp_path: Path, qtbot: Any
) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, cube.data)
    desk.session.open(path)
    qtbot.waitUntil(lambda: desk.settled, timeout=60_000)
    key, live = desk.key, desk.session.data(desk.key).live
    desk.session.close_scan(key)
    assert desk.session.project.scans == () and live.closed
    desk.session.undo()
    qtbot.waitUntil(lambda: desk.session.data(key) is not None)
    assert not desk.session.data(key).live.closed


@pytest.mark.parametrize("shape", [(1, 1, 8, 9), (1, 5, 8, 8), (4, 1, 1, 1), (2, 2, 40, 3)])
@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf, -1.0])
def test_odd_scans_open(desk: Desk, shape: tuple[int, ...], fill: float, qtbot: Any) -> None:
    desk.session.add_cube(DataCube(np.full(shape, fill, np.float32), name="odd"))
    qtbot.waitUntil(lambda: desk.pattern is not None and desk.live.idle, timeout=60_000)
    assert desk.troubles == []
    desk.session.do(Select(key=desk.key, selection=PointSelection(99, -3)))
    qtbot.waitUntil(lambda: desk.pattern.number == desk.live.patterns.number)
    assert desk.troubles == []
