"""Files, scans and disks that are not as they should be: told to the user, never a crash."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyqtgraph", reason="the desktop program needs pyqtgraph and Qt")

from py4DSTEM import Annulus, DataCube, Disk
from py4DSTEM.core.selection import PointSelection, RectangleSelection
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.gui.preferences import Preferences
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.commands import ChangeDetector, Select
from py4DSTEM.gui.window import MainWindow
from py4DSTEM.io.format import RawLayout

SHARED = Path(os.environ.get("PY4DSTEM_SHARED_DATA", "nowhere"))
BROKEN = sorted(p for p in SHARED.glob("broken/*") if p.suffix not in (".md", ".json"))
NOTHING = pytest.param(None, marks=pytest.mark.skip(reason="PY4DSTEM_SHARED_DATA is not set"))


class Desk:
    """A window, and what it told of."""

    def __init__(self, qtbot: Any) -> None:
        self.qtbot = qtbot
        self.session = Session(workers=1)
        self.window = MainWindow(self.session, Preferences(), safe=True)
        self.troubles: list[tuple[str, BaseException]] = []
        self.session.troubled.connect(lambda *trouble: self.troubles.append(trouble))
        self.window.show()

    @property
    def key(self) -> str:
        return self.session.project.current

    @property
    def idle(self) -> bool:
        return not self.session.jobs.active and self.window.live.idle

    @property
    def drawn(self) -> bool:
        live, views = self.window.live, self.window.views
        return self.idle and views["real"].drawnNumber == live.images.number

    def wait(self, until: Any = None) -> None:
        self.qtbot.waitUntil(until or (lambda: self.idle), timeout=60_000)
        self.qtbot.wait(5)  # the answers of a lane that is idle by now are events on their way

    def open(self, path: Path) -> None:
        self.window.open(str(path))
        self.wait()

    def show(self, data: Any) -> None:
        self.session.add_cube(DataCube(np.asarray(data), name="odd"))
        self.wait(lambda: bool(self.key) and self.drawn)

    def told(self) -> None:
        """Something was told, and all of it is what the package foresees."""
        self.wait(lambda: bool(self.troubles))  # they come as events
        for _, error in self.troubles:
            assert isinstance(error, Py4DSTEMError | OSError), repr(error)


@pytest.fixture
def desk(qtbot: Any) -> Iterator[Desk]:
    made = Desk(qtbot)
    yield made
    made.window.end()
    made.window.deleteLater()


def scan(folder: Path, shape: tuple[int, ...] = (20, 12, 32, 36)) -> Path:
    """A file with patterns that differ."""
    path = folder / "scan.npy"
    np.save(path, np.random.default_rng(3).poisson(5, shape).astype(np.uint16))
    return path


@pytest.mark.parametrize("path", BROKEN or [NOTHING], ids=lambda p: getattr(p, "name", "none"))
def test_damaged_files_are_refused_and_what_is_open_stays(
    path: Path, desk: Desk, tmp_path: Path
) -> None:
    desk.open(scan(tmp_path))
    known = desk.session.project.scans
    desk.window.open(str(path))
    desk.wait(lambda: not any(job.label.startswith("open") for job in desk.session.jobs.active))
    desk.session.jobs.cancel_all()  # preparing 13 TB of nothing takes a while
    now = desk.session.project.scans
    assert {s.key for s in known} <= {s.key for s in now}
    if len(now) == len(known) and "import" not in desk.window.panels:
        desk.told()  # else it holds whole patterns and is shown, or the import assistant asks
    for _, error in desk.troubles:
        assert isinstance(error, Py4DSTEMError | OSError), repr(error)


@pytest.mark.parametrize("content", [b"", b"x", b"\x93NUMPY\x01\x00", bytes(5000)])
@pytest.mark.parametrize("suffix", [".npy", ".h5", ".dm4", ".mib", ".unknown"])
def test_files_that_are_no_scan(content: bytes, suffix: str, desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    desk.open(path)
    assert desk.session.project.scans == ()
    if "import" not in desk.window.panels:  # else the import assistant asks
        desk.told()


def test_missing_file_and_folder(desk: Desk, tmp_path: Path) -> None:
    desk.open(tmp_path / "missing.npy")
    desk.told()
    assert desk.session.project.scans == ()


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be deleted there")
def test_a_file_deleted_while_open_goes_on(desk: Desk, tmp_path: Path) -> None:
    path = scan(tmp_path)
    desk.open(path)
    path.unlink()
    desk.session.do(Select(key=desk.key, selection=PointSelection(1, 2), how="mean"))
    desk.wait()
    assert desk.troubles == []


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be shortened there")
@pytest.mark.parametrize("kind", [".npy", ".raw", ".h5"])
def test_a_file_shortened_while_open_is_told(kind: str, desk: Desk, tmp_path: Path) -> None:
    path = large(tmp_path, kind)
    if kind == ".raw":
        layout = RawLayout(dtype="uint16", Q_shape=(32, 32))
        desk.session.open(path, {"layout": layout, "scan_shape": (64, 64)})
        desk.wait()
    else:
        desk.open(path)
    assert desk.troubles == []
    os.truncate(path, 4096)
    for selection in (PointSelection(60, 60), RectangleSelection(20, 63, 10, 63)):
        desk.session.do(Select(key=desk.key, selection=selection, how="mean"))
        desk.wait()
    for x in (10.0, 20.0):
        change = ChangeDetector(key=desk.key, name=first(desk), shape=Disk(4, center=(x, x)))
        desk.session.do(change)
        desk.wait()
    desk.told()


def large(folder: Path, kind: str) -> Path:
    """Larger than what is read ahead of need: 8 MB."""
    data = np.random.default_rng(1).poisson(4, (64, 64, 32, 32)).astype(np.uint16)
    path = folder / f"scan{kind}"
    if kind == ".npy":
        np.save(path, data)
    elif kind == ".raw":
        data.tofile(path)
    else:
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=data)
    return path


def first(desk: Desk) -> str:
    name: str = desk.session.project.scan.detectors[0].name
    return name


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files")
def test_a_full_disk_while_saving_leaves_what_was_there(desk: Desk, tmp_path: Path) -> None:
    import resource
    import signal

    from py4DSTEM import save

    desk.open(scan(tmp_path))
    target = tmp_path / "saved.h5"
    target.write_bytes(b"what was there")
    cube = desk.session.cube(desk.key)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        job = desk.session.jobs.submit(
            "save",
            lambda options: save(target, cube, options=options, compression="none"),
            failed=lambda error: desk.session.troubled.emit("save", error),
        )
        desk.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert job.state == "failed"
    desk.told()
    assert target.read_bytes() == b"what was there"


@pytest.mark.parametrize(
    "shape",
    [Disk(3, center=(-40, -40)), Disk(3, center=(16, 1e6)), Annulus(200, 300, center=(16, 18)),
     Disk(1e5, center=(16, 18)), Disk(1e-3, center=(16.4, 18.4))],
)  # fmt: skip
def test_detectors_anywhere(shape: Any, desk: Desk, tmp_path: Path) -> None:
    desk.open(scan(tmp_path))
    desk.session.do(ChangeDetector(key=desk.key, name=first(desk), shape=shape))
    desk.wait(lambda: desk.drawn)
    assert desk.troubles == []
    image = desk.window.views["real"].image
    assert image.shape == (20, 12)
    if "-40" in repr(shape) or "1000000" in repr(shape) or "200" in repr(shape):
        assert not np.nan_to_num(image).any()  # nothing is counted where there is no pixel


@pytest.mark.parametrize("shape", [(1, 1, 24, 20), (1, 9, 24, 20), (9, 1, 24, 20), (2, 3, 1, 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -3.0, 3e38])
def test_odd_scans_are_drawn(shape: tuple[int, ...], value: float, desk: Desk) -> None:
    desk.show(np.full(shape, value, np.float32))
    assert desk.troubles == []
    assert desk.window.views["real"].image.shape == shape[:2]
    assert not desk.window.grab().isNull()


def test_patterns_of_a_large_detector(desk: Desk) -> None:
    data = np.ones((2, 1, 4096, 4096), np.uint8)
    data[1, 0, 2000:2100, 1800:1900] = 200
    desk.session.add_cube(DataCube(data, name="large"))
    desk.wait(lambda: bool(desk.key) and desk.session.data(desk.key) is not None)
    desk.session.jobs.cancel_all()
    desk.session.do(Select(key=desk.key, selection=PointSelection(1, 0), how="mean"))
    pattern = desk.window.views["diffraction"]
    desk.wait(lambda: pattern.drawnNumber == desk.window.live.patterns.number)
    assert pattern.image[2050, 1850] == 200
    assert desk.troubles == []
